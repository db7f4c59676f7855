/*
 * elder.c: the right of way, so that nobody loses for ever.
 *
 * Whoever loses draws a ticket at the first failure and keeps it until it has committed. After PATIENCE failures in a row
 * (large executions count for several) it takes the one token before its next execution, the oldest ticket first, and
 * gives it up at the end of that execution, whatever that is. While it is held nobody else commits.
 *
 * E1  The token is taken by a swap (full barrier) before the elder's first read. A committer looks at it behind its
 *     lock swaps (full barriers) and in front of deciding. So of each committer either it sees the token and gives its
 *     locks back, or the elder meets all its locks or what it has written, when it comes to those nodes: nothing that
 *     the elder has read changes afterwards.
 * E2  Where others would fail on a locked node the elder waits until the lock is gone: its owner is about to finish or
 *     to give it back, for nobody waits while holding locks; a stopped one that has not decided is aborted, a dead
 *     one recovered.
 *     But for one that has decided and stands still the token is given up (wait.c): it would only hold up the others.
 * So the execution that begins with the token and is not robbed of it commits.
 *
 * E3  A lease bounds a body that is stopped or does not end: who has waited for one token that long, by its own clock, takes
 *     it away; each time doubles the lease of that ticket, so that a long body gets through in the end. Losing it, or a
 *     race of two observers, costs nothing but the right of way: the token never protects data.
 * E4  A younger one that finds the token free while an older ticket starves waits for it DEFER_NS at most.
 * E5  The token of a dead process goes with its slot (recover.c), or when its lease is over.
 *
 * Those who wait sleep in bucket 0 of the wait buckets (sleep.c); giving the token up wakes them.
 */
#include "txn/session.h"

#define PATIENCE SHO_ELDER_PATIENCE
#define LEASE_NS 10000000ull
#define LEASE_DOUBLINGS 10u
#define DEFER_NS 10000000ull
#define SPINS SHO_SPINS(1600)
#define SPINS_BETWEEN_YIELDS 64u

static uint64_t token_slot(uint64_t token)
{
    return (token & 0xffff) - 1;
}

void sho_elder_lost(sho_session *s, uint32_t failures)
{
    struct shm_slot *slot = s->slot;
    if (slot == NULL)
        return;
    if (s->ticket == 0) {
        s->ticket = atomic_fetch_add_explicit(&s->region->sb->tickets, 1, memory_order_relaxed) + 1;
        sho_store(&slot->leases, 0);
        sho_store(&slot->ticket, s->ticket << 1);
        (void)sho_fault("elder.drawn");
    }
    if (failures >= PATIENCE)
        sho_store(&slot->ticket, s->ticket << 1 | 1);
}

void sho_elder_done(sho_session *s)
{
    s->ticket = 0;
    s->failures = 0;
    sho_store(&s->slot->ticket, 0);
}

static bool older_starves(const sho_session *s)
{
    unsigned count = sho_region_slot_count(s->region);
    for (unsigned i = 0; i < count; i++) {
        uint64_t ticket = sho_load(&sho_region_slot(s->region, i)->ticket);
        if ((ticket & 1) && ticket >> 1 < s->ticket)
            return true;
    }
    return false;
}

/* Sleeps in the elder's bucket while the token is `token` and, if it is none, an older one starves. */
static int sleep_while(sho_session *s, uint64_t token, uint64_t ns)
{
    int rc = 0;
    sho_sleep_begin(s);
    sho_sleep_watch(s, SHO_BUCKET_ELDER);
    sho_sleep_barrier(s);
    if (sho_load(&s->region->sb->elder) == token && (token != 0 || older_starves(s)))
        rc = sho_sleep(s, ns);
    sho_sleep_end(s);
    return rc;
}

static void free_token(sho_session *s, uint64_t token)
{
    if (!sho_cas(&s->region->sb->elder, token, 0))
        return;
    (void)sho_fault("elder.freed");
    sho_wake_bucket(s->region, SHO_BUCKET_ELDER);
}

static struct shm_slot *slot_of(const sho_session *s, uint64_t token)
{
    uint64_t index = token_slot(token);
    return index < sho_region_slot_count(s->region) ? sho_region_slot(s->region, (unsigned)index) : NULL;
}

/* The lease of this token is over. */
static void end_lease(sho_session *s, uint64_t token)
{
    struct shm_slot *slot = slot_of(s, token);
    if (slot != NULL && sho_load(&s->region->sb->elder) == token && sho_load(&slot->leases) < LEASE_DOUBLINGS)
        atomic_fetch_add_explicit(&slot->leases, 1, memory_order_relaxed);
    (void)sho_fault("elder.lease_over");
    free_token(s, token);
}

static uint64_t lease_of(const sho_session *s, uint64_t token)
{
    const struct shm_slot *slot = slot_of(s, token);
    uint64_t doublings = slot != NULL ? sho_load(&slot->leases) : 0;
    return LEASE_NS << (doublings < LEASE_DOUBLINGS ? doublings : LEASE_DOUBLINGS);
}

bool sho_elder_spares(sho_session *s, unsigned slot_index, uint64_t waited)
{
    uint64_t token = sho_load(&s->region->sb->elder);
    if (token == 0 || token_slot(token) != slot_index)
        return false;
    if (waited < lease_of(s, token))
        return true;
    end_lease(s, token);
    return false;
}

static int timed_out(const sho_session *s, uint64_t token)
{
    return sho_error(SHOBJ_ETIMEOUT,
                     "%s: timed out while session %llu had the right of way (it had lost too often); run it again, or "
                     "give it more time",
                     s->region->path, (unsigned long long)token_slot(token));
}

int sho_elder_yield(sho_session *s)
{
    const sho_word *elder = &s->region->sb->elder;
    /* A body takes microseconds, and a sleep more; but it may be for want of a processor that it does not come to its end. */
    for (unsigned i = 0; i < SPINS; i++) {
        uint64_t token = sho_load(elder);
        if (token == 0 || token == s->token)
            return 0;
        if (i % SPINS_BETWEEN_YIELDS == SPINS_BETWEEN_YIELDS - 1)
            sho_yield(s);
        else
            sho_pause();
    }
    uint64_t seen = 0;
    uint64_t since = 0;
    for (;;) {
        uint64_t token = sho_load(elder);
        if (token == 0 || token == s->token)
            return 0;
        uint64_t now = sho_monotonic_ns();
        if (token != seen) {
            seen = token;
            since = now;
        }
        uint64_t waited = now - since;
        uint64_t lease = lease_of(s, token);
        if (waited >= lease) {
            end_lease(s, token);
            continue;
        }
        if (waited > 0 && slot_of(s, token) != NULL)
            sho_recover_owner(s, slot_of(s, token)); /* takes a dead one's token, too */
        uint64_t probe = sho_probe_ns(waited);
        int rc = sleep_while(s, token, lease - waited < probe ? lease - waited : probe);
        if (rc)
            return rc == SHOBJ_ETIMEOUT ? timed_out(s, token) : rc;
    }
}

int sho_elder_enter(sho_session *s)
{
    sho_word *elder = &s->region->sb->elder;
    uint64_t token = s->ticket << 16 | (s->slot_index + 1);
    uint64_t until = 0;
    if (s->ticket == 0)
        return 0;
    for (;;) {
        int rc = sho_elder_yield(s);
        if (rc)
            return rc;
        if (older_starves(s)) { /* E4 */
            uint64_t now = sho_monotonic_ns();
            if (until == 0)
                until = now + DEFER_NS;
            if (now < until) {
                rc = sleep_while(s, 0, until - now);
                if (rc)
                    return rc == SHOBJ_ETIMEOUT ? timed_out(s, token) : rc;
                continue;
            }
        }
        (void)sho_fault("elder.taking");
        if (sho_cas(elder, 0, token)) {
            s->token = token; /* E1: from here on everybody gives way */
            atomic_fetch_add_explicit(&s->region->sb->elders, 1, memory_order_relaxed);
            (void)sho_fault("elder.taken");
            return 0;
        }
    }
}

void sho_elder_leave(sho_session *s)
{
    uint64_t token = s->token;
    s->token = 0;
    (void)sho_fault("elder.leaving");
    free_token(s, token);
}

void sho_elder_forget(sho_region *region, unsigned slot_index)
{
    uint64_t token = sho_load(&region->sb->elder);
    sho_store(&sho_region_slot(region, slot_index)->ticket, 0);
    if (token != 0 && token_slot(token) == slot_index && sho_cas(&region->sb->elder, token, 0))
        sho_wake_bucket(region, SHO_BUCKET_ELDER);
}
