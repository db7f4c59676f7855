/*
 * wait.c: what to do about a lock that somebody else holds.
 *
 * An owner that runs gives its locks back within a microsecond or so: spin a little. After that it has probably lost
 * its processor, or is stopped, or dead:
 *
 *   LOCKING              it has decided nothing: move its state to ABORTED, give this lock back to its logged base. Its own
 *                        deciding swap will fail. (Not of one that has the right of way, until its lease is over.)
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
 * W3 slot.wv decides a SINGLE attempt: by its version, which the owner stores plainly, or by a mark. A reader that is to read
 *    through first swaps in DECIDED, and the owner must go on. An owner that finds that somebody has the right of way swaps
 *    in GIVEN_BACK and puts the base back; so does who recovers a dead one that has neither (recover.c). A reader leaves the
 *    mark alone while somebody has the right of way: that one has read the node, maybe. A mark carries the attempt's
 *    seq, and is swapped from exactly what was loaded before the state was seen to be of that attempt: one that comes too late
 *    either fails or is of a seq that means nothing any more.
 *
 * A lock that names an attempt which its slot has left, or which nobody can be under way with, is damage and not waited for:
 * owners leave a seq only when no orec carries it (commit.c, C4). State and orec are read in this order: orec, state, orec.
 */
#include <sched.h>
#include <time.h>

#include "base/schedule.h"
#include "txn/session.h"

#define SPINS SHO_SPINS(200)
#define NAP_NS 100000u
#define WAIT_NS_MAX 100000000u
#define STANDS_STILL_NS 2000000u

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
    if (!SHM_OREC_IS_LOCKED(base) && sho_cas(&node->orec, lock, base))
        sho_wake_node(region, node);
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

void sho_yield(const sho_session *s)
{
#ifdef SHOBJ_FAULTS
    if (sho_schedule_sleep(NULL, 0, 0))
        return;
#endif
    void *token = sho_wait_enter(s);
    sched_yield();
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

/* W3: does the single write of this lock stand? */
static bool single_is_decided(sho_session *s, struct shm_slot *slot, uint64_t state)
{
    uint64_t seq = SHM_SEQ(state);
    uint64_t wv = sho_load_acquire(&slot->wv);
    if (sho_wv_is_version(wv) || wv == SHM_MARK(seq, SHM_MARK_DECIDED))
        return true;
    if (!s->region->writable || wv == SHM_MARK(seq, SHM_MARK_GIVEN_BACK) || sho_load_acquire(&slot->state) != state ||
        sho_load_acquire(&s->region->sb->elder) != 0)
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

/* A slot of this process that none of its sessions has, or the one who asks: nobody waits while holding a lock. */
static bool is_own_and_idle(sho_session *s, unsigned slot_index)
{
    if (slot_index == s->slot_index)
        return true;
    bool found = false;
    sho_global_lock();
    for (const sho_session *other = s->store->sessions; other != NULL; other = other->next_in_store)
        found |= other->slot != NULL && other->slot_index == slot_index;
    sho_global_unlock();
    return !found;
}

/* Can nobody be under way with the attempt that this lock names? Then it is damage, never to be waited for. A slot is freed
 * before it leaves its process, and that before its record is freed: so each is looked at again after what it must precede. */
static bool is_nobodys(sho_session *s, struct shm_slot *slot, struct shm_node *node, uint64_t lock, uint64_t state)
{
    unsigned phase = SHM_PHASE(state);
    bool nobodys = SHM_SEQ(state) != SHM_OREC_SEQ(lock) || phase < SHM_LOCKING || phase > SHM_SINGLE;
    if (!nobodys) {
        uint64_t process = sho_load_acquire(&slot->process);
        nobodys = process == 0 || process > SHM_PROCESS_MAX || !sho_process_is_live(s->region, (unsigned)process - 1) ||
                  (s->slot != NULL && process - 1 == s->store->peer.process && is_own_and_idle(s, SHM_OREC_SLOT(lock)));
    }
    return nobodys && sho_load_acquire(&slot->state) == state && sho_load_acquire(&node->orec) == lock;
}

bool sho_lock_is_nobodys(sho_session *s, struct shm_node *node)
{
    uint64_t lock = sho_load_acquire(&node->orec);
    if (!SHM_OREC_IS_LOCKED(lock))
        return false;
    if (SHM_OREC_SLOT(lock) >= sho_region_slot_count(s->region))
        return true;
    struct shm_slot *slot = sho_region_slot(s->region, SHM_OREC_SLOT(lock));
    return is_nobodys(s, slot, node, lock, sho_load_acquire(&slot->state));
}

/* Without permission to write: is the owner one that died before it had decided? Whoever recovers it gives the lock back and
 * stores no word: the node is what it was. */
static bool died_undecided(sho_session *s, struct shm_slot *slot, uint64_t state)
{
    uint64_t process = sho_load_acquire(&slot->process);
    return !s->region->writable && (SHM_PHASE(state) == SHM_LOCKING || SHM_PHASE(state) == SHM_ABORTED) && process != 0 &&
           process <= SHM_PROCESS_MAX && !sho_peer_is_alive(s->region, (unsigned)process - 1) &&
           sho_load_acquire(&slot->state) == state;
}

/* The redo record that changes nothing. */
static struct shm_write nothing;

/* One look at the owner. Sets *ret_sleep to 0 if the world may have changed, else to how long to sleep before the next
 * look. */
static int attend(sho_session *s, struct shm_node *node, uint64_t lock, uint64_t waited, struct shm_write **ret_through,
                  uint64_t *ret_sleep)
{
    struct shm_slot *slot = sho_region_slot(s->region, SHM_OREC_SLOT(lock));
    uint64_t state = sho_load_acquire(&slot->state);
    bool decided = false;
    *ret_sleep = 0;
    if (is_nobodys(s, slot, node, lock, state))
        return sho_error(SHOBJ_ECORRUPT, "%s: a lock names an attempt of session %u that is not under way; run shobj check",
                         s->region->path, SHM_OREC_SLOT(lock));
    if (SHM_SEQ(state) != SHM_OREC_SEQ(lock))
        return 0;
    if (ret_through != NULL && died_undecided(s, slot, state)) {
        *ret_through = &nothing;
        return 0;
    }
    switch (SHM_PHASE(state)) {
    case SHM_LOCKING:
        /* Who has the right of way is left alone as long as it has it. */
        if (s->region->writable && !sho_elder_spares(s, SHM_OREC_SLOT(lock), waited)) {
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
        decided = ret_through != NULL && single_is_decided(s, slot, state);
        if (s->region->writable && sho_load(&slot->wv) == SHM_MARK(SHM_SEQ(state), SHM_MARK_GIVEN_BACK))
            give_back(s->region, slot, node, lock);
        break;
    default: break;
    }
    if (decided && ret_through != NULL && (*ret_through = find_through(s, slot, node, lock)) != NULL)
        return 0;
    if (s->token != 0 && waited >= STANDS_STILL_NS && SHM_PHASE(state) != SHM_LOCKING && SHM_PHASE(state) != SHM_ABORTED)
        sho_elder_leave(s); /* that one stands still: the others need not */
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
        rc = ns > 0 ? sleep_locked(s, node, lock, ns) : 0;
        uint64_t now = sho_monotonic_ns();
        if (rc == 0 && ns > 0 && s->deadline_ns != 0 && now >= s->deadline_ns && sho_load_acquire(&node->orec) == lock)
            rc = SHOBJ_ETIMEOUT;
        if (rc)
            return rc == SHOBJ_ETIMEOUT ? timed_out(s, sho_region_slot(s->region, SHM_OREC_SLOT(lock)), lock) : rc;
        waited = now - began;
    }
    return 0;
}

uint64_t sho_settled_orec(sho_session *s, struct shm_node *node)
{
    uint64_t orec = sho_load_acquire(&node->orec);
    bool waits = s->token != 0;
    while (SHO_UNLIKELY(SHM_OREC_IS_LOCKED(orec)) && waits && SHM_OREC_SLOT(orec) != s->slot_index) {
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
    if (attempt <= 3) {
        for (uint64_t i = 0; i < pauses; i++)
            sho_pause();
        return;
    }
    if (attempt <= 4) {
        sho_yield(s);
        return;
    }
    nap(s, 1000 + pauses * 30);
}
