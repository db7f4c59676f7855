/*
 * sleep.c: sleeping until a node changes, and waking those who do.
 *
 * A sleeper (retry, or the wait for a lock) tells which nodes it waits for by its bit in their wait buckets; several nodes
 * share a bucket, several slots a bit, so that a wake-up means "look again". A committer looks at the buckets of
 * the nodes it has changed, which nobody writes to as long as nobody sleeps.
 *
 *   sleeper                                       committer
 *     seen = slot.wake; slot.waiting = 1            the words, then orec = wv (release)
 *     bucket |= bit, for each node                  [barrier, or none: see below]
 *     barrier for all                               if the bucket is not 0: swap 0 in
 *     is each node as it was? if not: leave           for each of its slots that waits: wake++, futex wake
 *     futex wait on slot.wake while it is `seen`    empty the log, leave the attempt
 *
 * S1 (no lost wake-up)  The sleeper's barrier stands between its bit and its look at the nodes, the committer's between its
 *    orec and its look at the bucket: one of the two sees the other. The committer's barrier costs nothing where the
 *    sleeper can make one for all threads at once (membarrier, enum shm_fences).
 * S2 What the committer swaps out it wakes, and `waiting` was set before the bit: whoever is seen waiting had its `seen`
 *    before, so that the futex either sleeps and is woken or does not sleep.
 * S3 The committer wakes before it leaves the attempt. One that dies before it has, maybe with others' bits, is
 *    recovered, and then all are woken. Sleepers look again once a second all the same: as long as nobody recovers the
 *    dead one nobody else would tell them.
 *
 * A bit that is left over in a bucket costs a later committer a look at a slot that does not wait.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/schedule.h"
#include "txn/session.h"

#define LOOK_AGAIN_NS 1000000000u

/* The futex is the low half of the word. */
static uint32_t *futex_of(struct shm_slot *slot)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (uint32_t *)&slot->wake;
#else
    return (uint32_t *)&slot->wake + 1;
#endif
}

void sho_sleep_begin(sho_session *s)
{
    s->wake_seen = (uint32_t)sho_load(&s->slot->wake);
    sho_store(&s->slot->waiting, 1); /* the swap of the first bit releases it; S2 */
}

void sho_sleep_watch(sho_session *s, unsigned bucket)
{
    atomic_fetch_or(sho_region_bucket(s->region, bucket), 1ULL << (s->slot_index & 63));
    (void)sho_fault("sleep.registered");
}

void sho_sleep_barrier(sho_session *s)
{
    sho_region_barrier(s->region);
}

void sho_sleep_end(sho_session *s)
{
    sho_store(&s->slot->waiting, 0);
}

static void futex_wait(sho_session *s, uint64_t ns)
{
#ifdef SHOBJ_FAULTS
    if (sho_schedule_sleep(&s->slot->wake, s->wake_seen, ns))
        return;
#endif
    struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    void *token = sho_wait_enter(s);
    syscall(SYS_futex, futex_of(s->slot), FUTEX_WAIT, s->wake_seen, &ts, NULL, 0);
    sho_wait_leave(s, token);
}

int sho_sleep_interrupted(const sho_session *s)
{
    if (s->store->wait_interrupted != NULL && !s->bare && s->store->wait_interrupted())
        return sho_error(SHOBJ_EINTR, "%s: interrupted by a signal while waiting", s->region->path);
    return 0;
}

/* The question is asked before the sleep as well, for a signal that came since the operation began, and after each sleep,
 * for one that came between the question and the system call: that costs it LOOK_AGAIN_NS at most. */
int sho_sleep(sho_session *s, uint64_t ns)
{
    int rc = sho_sleep_interrupted(s);
    if (rc)
        return rc;
    if (ns > LOOK_AGAIN_NS)
        ns = LOOK_AGAIN_NS;
    if (s->deadline_ns != 0) {
        uint64_t now = sho_monotonic_ns();
        if (now >= s->deadline_ns)
            return SHOBJ_ETIMEOUT;
        if (ns > s->deadline_ns - now)
            ns = s->deadline_ns - now;
    }
    (void)sho_fault("sleep.sleeping");
    futex_wait(s, ns);
    return sho_sleep_interrupted(s);
}

/* ------------------------------------------------------------------------------------------ waking */

static void wake_slot(struct shm_slot *slot)
{
    if (sho_load_acquire(&slot->waiting) == 0)
        return;
    (void)sho_fault("wake.found");
    atomic_fetch_add(&slot->wake, 1);
    syscall(SYS_futex, futex_of(slot), FUTEX_WAKE, 1, NULL, NULL, 0);
}

void sho_wake_all(sho_region *region)
{
    unsigned count = sho_region_slot_count(region);
    for (unsigned slot = 0; slot < count; slot++)
        wake_slot(sho_region_slot(region, slot));
}

SHO_COLD void sho_wake_bucket_slow(sho_region *region, sho_word *bucket)
{
    uint64_t mask = atomic_exchange(bucket, 0);
    (void)sho_fault("wake.swapped");
    unsigned count = sho_region_slot_count(region);
    for (; mask != 0; mask &= mask - 1)
        for (unsigned slot = (unsigned)__builtin_ctzll(mask); slot < count; slot += 64)
            wake_slot(sho_region_slot(region, slot));
}
