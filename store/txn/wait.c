/*
 * wait.c: what to do about a lock that somebody else holds.
 *
 * An owner that runs gives its locks back within a microsecond or so: spin a little. After that it has probably lost
 * its processor, or is stopped, or dead:
 *
 *   LOCKING              it has decided nothing: move its state to ABORTED, give this lock back to its logged base. Its own
 *                        deciding swap will fail.
 *   ABORTED              give this lock back.
 *   COMMITTED, SINGLE    it has decided and will store within a few instructions of running: sleep for growing
 *                        moments; if it is dead, recover it.
 *
 * Giving back (for an attempt `seq` of another slot, seen ABORTED): find the node's record in that slot's log and swap the
 * orec from exactly (slot, seq) to the base it names. The owner changes its log only in a later attempt, and leaves
 * this one only when no orec carries it: if the swap succeeds, the log was that attempt's when it was read.
 *
 * A lock that names an attempt which its slot has left is damage: owners leave a seq only when no orec carries it
 * (commit.c, C4). State and orec are read in this order: orec, state, orec.
 */
#include <sched.h>
#include <time.h>

#include "txn/session.h"

#define SPINS_BEFORE_ABORT 200u
#define SLEEP_NS_MIN 20000u
#define SLEEP_NS_MAX 1000000u
#define WAIT_NS_MAX 20000000u
#define PROBE_AFTER_SLEEPS 2u

/* Gives the node of an ABORTED attempt back to its logged base. */
static void give_back(sho_region *region, struct shm_slot *slot, struct shm_node *node, uint64_t lock)
{
    uint64_t off = (uint64_t)((uint8_t *)node - region->base);
    sho_log_walk walk;
    sho_word *record;
    sho_log_walk_begin(&walk, region, slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        uint64_t first = sho_load(record);
        if (SHM_RECORD_TYPE(first) != SHM_RECORD_WRITE || SHM_RECORD_OFF(first) != off)
            continue;
        uint64_t base = sho_load(&((struct shm_write *)record)->base) & ~SHM_WRITE_FREES;
        (void)sho_fault("wait.give_back");
        if (!SHM_OREC_IS_LOCKED(base))
            sho_cas(&node->orec, lock, base);
        return;
    }
}

static void sleep_ns(const sho_session *s, uint64_t ns)
{
    void *token = sho_wait_enter(s);
    struct timespec ts = {.tv_nsec = (long)ns};
    nanosleep(&ts, NULL);
    sho_wait_leave(s, token);
}

static bool spin_until_changed(struct shm_node *node, uint64_t lock)
{
    for (unsigned i = 0; i < SPINS_BEFORE_ABORT; i++) {
        if (sho_load(&node->orec) != lock)
            return true;
        sho_pause();
    }
    return false;
}

/* The owner's process, if it is dead, is recovered. */
static void recover_owner(sho_session *s, struct shm_slot *slot)
{
    uint64_t process = sho_load_acquire(&slot->process);
    if (process == 0 || process > SHM_PROCESS_MAX)
        return;
    if (s->region->writable && process - 1 != s->store->peer.process)
        sho_recover_process(s->region, (unsigned)process - 1);
}

int sho_wait_lock(sho_session *s, struct shm_node *node, uint64_t lock)
{
    if (spin_until_changed(node, lock))
        return 0;
    if (SHM_OREC_SLOT(lock) >= sho_region_slot_count(s->region))
        return sho_error(SHOBJ_ECORRUPT, "%s: a lock names session slot %u, which does not exist; run shobj check",
                         s->region->path, SHM_OREC_SLOT(lock));
    struct shm_slot *slot = sho_region_slot(s->region, SHM_OREC_SLOT(lock));
    uint64_t nap = SLEEP_NS_MIN;
    uint64_t waited = 0;
    for (unsigned sleeps = 0; sho_load_acquire(&node->orec) == lock; sleeps++) {
        uint64_t state = sho_load_acquire(&slot->state);
        if (SHM_SEQ(state) != SHM_OREC_SEQ(lock)) {
            if (sho_load_acquire(&node->orec) != lock)
                return 0;
            return sho_error(SHOBJ_ECORRUPT, "%s: a lock names an attempt that session %u has left; run shobj check",
                             s->region->path, SHM_OREC_SLOT(lock));
        }
        switch (SHM_PHASE(state)) {
        case SHM_LOCKING:
            if (s->region->writable) {
                (void)sho_fault("wait.abort");
                sho_cas(&slot->state, state, SHM_STATE(SHM_SEQ(state), SHM_ABORTED));
                continue;
            }
            break;
        case SHM_ABORTED:
            if (s->region->writable) {
                give_back(s->region, slot, node, lock);
                if (sleeps < 1000)
                    continue;
            }
            break;
        default:
            if (sleeps >= PROBE_AFTER_SLEEPS)
                recover_owner(s, slot);
            break;
        }
        if (waited >= WAIT_NS_MAX)
            return 0; /* the caller looks at the world again, and comes back */
        sleep_ns(s, nap);
        waited += nap;
        nap = nap * 2 < SLEEP_NS_MAX ? nap * 2 : SLEEP_NS_MAX;
    }
    return 0;
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
        void *token = sho_wait_enter(s);
        sched_yield();
        sho_wait_leave(s, token);
        return;
    }
    sleep_ns(s, 1000 + pauses * 30);
}
