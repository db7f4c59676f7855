/*
 * wait.c: what to do about a lock that somebody else holds.
 *
 * An owner that runs gives its locks back within a microsecond or so: spin a little. After that it has probably lost
 * its processor, or is stopped, or dead:
 *
 *   LOCKING              it has decided nothing: move its state to ABORTED, give this lock back to its logged base. Its own
 *                        deciding swap will fail. (One that has the right of way gets more time.)
 *   ABORTED              give this lock back.
 *   COMMITTED, SINGLE    it has decided and will store within a few instructions of running. If it is dead, recover it. A
 *                        reader reads through its log; who wants to write sleeps until it gets on (sleep.c).
 *
 * Giving back (for an attempt `seq` of another slot, seen ABORTED): find the node's record in that slot's log and swap the
 * orec from exactly (slot, seq) to the base it names. The owner changes its log only in a later attempt, and leaves
 * this one only when no orec carries it: if the swap succeeds, the log was that attempt's when it was read.
 *
 * W2 Reading through: while the orec carries the lock of an attempt that is COMMITTED, its log does not change, for the
 *    owner unlocks before it empties it; nor does what the node's words are under the redo record: the
 *    owner stores just those. So an entry whose version is the lock is valid as long as the orec is.
 * W3 A SINGLE attempt stands once its lock is taken, unless its owner finds that somebody has the right of way before it
 *    has logged its version: then it marks slot.wv GIVEN_BACK, by a swap from 0, and puts the base back. A reader that is to read
 *    through marks slot.wv DECIDED first, so that this swap fails. A mark carries the attempt's seq: one that comes
 *    too late hits the next attempt's wv and means nothing there; the owner's version, stored plainly, replaces it.
 *
 * A lock that names an attempt which its slot has left is damage: owners leave a seq only when no orec carries it
 * (commit.c, C4). State and orec are read in this order: orec, state, orec.
 */
#include <sched.h>
#include <time.h>

#include "base/schedule.h"
#include "txn/session.h"

#define SPINS SHO_SPINS(200)
#define NAP_NS 100000u
#define WAIT_NS_MAX 100000000u
#define ELDER_NS 2000000u

/* The node's redo record in a slot's log. */
static struct shm_write *find_write(sho_region *region, struct shm_slot *slot, const struct shm_node *node)
{
    uint64_t off = (uint64_t)((const uint8_t *)node - region->base);
    sho_log_walk walk;
    sho_word *record;
    sho_log_walk_begin(&walk, region, slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        uint64_t first = sho_load(record);
        if (SHM_RECORD_TYPE(first) == SHM_RECORD_WRITE && SHM_RECORD_OFF(first) == off)
            return (struct shm_write *)record;
    }
    return NULL;
}

/* Gives the node of an attempt that is ABORTED, or gives its lock back itself, back to its logged base. */
static void give_back(sho_region *region, struct shm_slot *slot, struct shm_node *node, uint64_t lock)
{
    struct shm_write *write = find_write(region, slot, node);
    if (write == NULL)
        return;
    uint64_t base = sho_load(&write->base) & ~SHM_WRITE_FREES;
    (void)sho_fault("wait.give_back");
    if (!SHM_OREC_IS_LOCKED(base))
        sho_cas(&node->orec, lock, base);
}

static bool holds_token(const sho_session *s, unsigned slot_index)
{
    uint64_t token = sho_load(&s->region->sb->elder);
    return token != 0 && (token & 0xffff) == slot_index + 1;
}

static void nap(const sho_session *s, uint64_t ns)
{
#ifdef SHOBJ_FAULTS
    if (sho_schedule_sleep(NULL, 0, ns))
        return;
#endif
    void *token = sho_wait_enter(s);
    struct timespec ts = {.tv_nsec = (long)ns};
    nanosleep(&ts, NULL);
    sho_wait_leave(s, token);
}

static bool spin_until_changed(struct shm_node *node, uint64_t lock, unsigned spins)
{
    for (unsigned i = 0; i < spins; i++) {
        if (sho_load(&node->orec) != lock)
            return true;
        sho_pause();
    }
    return false;
}

/* Sleeps while the node carries the lock. */
static int sleep_locked(sho_session *s, struct shm_node *node, uint64_t lock, uint64_t ns)
{
    if (s->slot == NULL) {
        nap(s, ns < NAP_NS ? ns : NAP_NS); /* nobody can wake who may not write the file */
        if (s->deadline_ns != 0 && sho_monotonic_ns() >= s->deadline_ns)
            return SHOBJ_ETIMEOUT;
        return sho_sleep_interrupted(s);
    }
    int rc = 0;
    sho_sleep_begin(s);
    sho_sleep_watch(s, sho_bucket_of(s->region, node));
    sho_sleep_barrier(s);
    if (sho_load_acquire(&node->orec) == lock)
        rc = sho_sleep(s, ns);
    sho_sleep_end(s);
    return rc;
}

void sho_recover_owner(sho_session *s, struct shm_slot *slot)
{
    uint64_t process = sho_load_acquire(&slot->process);
    if (process == 0 || process > SHM_PROCESS_MAX)
        return;
    if (s->region->writable && process - 1 != s->store->peer.process)
        sho_recover_process(s->region, (unsigned)process - 1);
}

/* The node's redo record in the log of a decided attempt, if all of its words can be read through it. */
static struct shm_write *find_through(sho_session *s, struct shm_slot *slot, struct shm_node *node, uint64_t lock)
{
    struct shm_write *write = find_write(s->region, slot, node);
    unsigned words = SHM_NODE_WORDS(sho_load(&node->header));
    if (write == NULL || SHM_RECORD_WORDS(sho_load(&write->node)) < words ||
        (sho_load(&write->base) & SHM_WRITE_FREES) || sho_load_acquire(&node->orec) != lock)
        return NULL;
    return write;
}

/* W3: from here on the single write of this lock stands. */
static bool single_is_decided(sho_session *s, struct shm_slot *slot, uint64_t seq)
{
    uint64_t wv = sho_load_acquire(&slot->wv);
    if (wv != 0 && (wv & 3) == 0)
        return true; /* a version */
    if (wv == SHM_MARK(seq, SHM_MARK_DECIDED))
        return true;
    if (!s->region->writable || wv == SHM_MARK(seq, SHM_MARK_GIVEN_BACK))
        return false;
    (void)sho_fault("wait.mark");
    return sho_cas(&slot->wv, wv, SHM_MARK(seq, SHM_MARK_DECIDED));
}

static int timed_out(const sho_session *s, struct shm_slot *slot, uint64_t lock)
{
    uint64_t process = sho_load(&slot->process);
    uint64_t pid = process != 0 && process <= SHM_PROCESS_MAX
                       ? sho_load(&sho_region_process(s->region, (unsigned)process - 1)->pid)
                       : 0;
    return sho_error(SHOBJ_ETIMEOUT,
                     "%s: timed out waiting for session %u (process %llu), which stands still in the middle of a commit; let "
                     "it go on, or kill it, and run this again",
                     s->region->path, SHM_OREC_SLOT(lock), (unsigned long long)pid);
}

/* One look at the owner. Sets *ret_sleep to 0 if the world may have changed, else to how long to sleep before the next
 * look. */
static int attend(sho_session *s, struct shm_node *node, uint64_t lock, uint64_t waited, struct shm_write **ret_through,
                  uint64_t *ret_sleep)
{
    struct shm_slot *slot = sho_region_slot(s->region, SHM_OREC_SLOT(lock));
    uint64_t state = sho_load_acquire(&slot->state);
    bool decided = false;
    *ret_sleep = 0;
    if (SHM_SEQ(state) != SHM_OREC_SEQ(lock)) {
        if (sho_load_acquire(&node->orec) != lock)
            return 0;
        return sho_error(SHOBJ_ECORRUPT, "%s: a lock names an attempt that session %u has left; run shobj check",
                         s->region->path, SHM_OREC_SLOT(lock));
    }
    switch (SHM_PHASE(state)) {
    case SHM_LOCKING:
        /* Who has the right of way may need longer; but not for ever. */
        if (s->region->writable && (waited >= ELDER_NS || !holds_token(s, SHM_OREC_SLOT(lock)))) {
            (void)sho_fault("wait.abort");
            sho_cas(&slot->state, state, SHM_STATE(SHM_SEQ(state), SHM_ABORTED));
            return 0;
        }
        break;
    case SHM_ABORTED:
        if (s->region->writable) {
            give_back(s->region, slot, node, lock);
            if (sho_load_acquire(&node->orec) != lock)
                return 0;
        }
        break;
    case SHM_COMMITTED:
        decided = true;
        break;
    case SHM_SINGLE:
        decided = ret_through != NULL && single_is_decided(s, slot, SHM_SEQ(state));
        if (s->region->writable && sho_load(&slot->wv) == SHM_MARK(SHM_SEQ(state), SHM_MARK_GIVEN_BACK))
            give_back(s->region, slot, node, lock);
        break;
    default: break;
    }
    if (decided && ret_through != NULL && (*ret_through = find_through(s, slot, node, lock)) != NULL)
        return 0;
    sho_recover_owner(s, slot);
    *ret_sleep = sho_probe_ns(waited);
    return 0;
}

int sho_wait_lock(sho_session *s, struct shm_node *node, uint64_t lock, struct shm_write **ret_through)
{
    if (ret_through != NULL)
        *ret_through = NULL;
    if (SHM_OREC_SLOT(lock) >= sho_region_slot_count(s->region))
        return sho_error(SHOBJ_ECORRUPT, "%s: a lock names session slot %u, which does not exist; run shobj check",
                         s->region->path, SHM_OREC_SLOT(lock));
    if (spin_until_changed(node, lock, SPINS))
        return 0;
    uint64_t began = sho_monotonic_ns();
    uint64_t waited = 0;
    while (sho_load_acquire(&node->orec) == lock) {
        uint64_t ns;
        int rc = attend(s, node, lock, waited, ret_through, &ns);
        if (rc || (ret_through != NULL && *ret_through != NULL))
            return rc;
        if (waited >= WAIT_NS_MAX)
            return 0; /* the caller looks at the world again, and comes back */
        if (ns > 0) {
            rc = sleep_locked(s, node, lock, ns);
            if (rc)
                return rc == SHOBJ_ETIMEOUT ? timed_out(s, sho_region_slot(s->region, SHM_OREC_SLOT(lock)), lock) : rc;
        }
        waited = sho_monotonic_ns() - began;
    }
    return 0;
}

uint64_t sho_settled_orec(sho_session *s, struct shm_node *node)
{
    uint64_t orec = sho_load_acquire(&node->orec);
    while (SHO_UNLIKELY(SHM_OREC_IS_LOCKED(orec)) && s->token != 0 && SHM_OREC_SLOT(orec) != s->slot_index) {
        if (sho_wait_lock(s, node, orec, NULL))
            break;
        orec = sho_load_acquire(&node->orec);
    }
    return orec;
}

void sho_backoff(sho_session *s, unsigned attempt)
{
    unsigned shift = attempt < 10 ? attempt : 10;
    uint64_t pauses = sho_random64() & ((16ULL << shift) - 1);
    if (attempt <= 4) {
        for (uint64_t i = 0; i < pauses; i++)
            sho_pause();
        return;
    }
    if (attempt <= 6) {
#ifdef SHOBJ_FAULTS
        if (sho_schedule_sleep(NULL, 0, 0))
            return;
#endif
        void *token = sho_wait_enter(s);
        sched_yield();
        sho_wait_leave(s, token);
        return;
    }
    nap(s, 1000 + pauses * 30);
}
