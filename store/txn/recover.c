/*
 * recover.c: cleaning up after a dead process, beside live ones.
 *
 * The recoverer holds the lock of the dead one's process record (peer.h): it is the only one, until it has finished or
 * died itself. Each of its steps may be repeated by the next recoverer:
 *
 *   each slot of the process, by its state
 *     LOCKING, ABORTED   state = ABORTED; each logged lock goes back to its base; blocks taken are freed
 *     COMMITTED          each logged node that still carries the lock is stored and unlocked to the logged version; blocks
 *                        replaced are freed
 *     SINGLE             decided if its node carries the lock or slot.wv is a version, unless slot.wv says that the lock
 *                        is given back (commit.c, C6; wait.c, W3); then as COMMITTED
 *                        (without a logged version: max(clock, base) + 1, as the owner would have); else as ABORTED
 *     IDLE, FREE         blocks taken are freed
 *   who sleeps on a node of a decided log is woken, before the log is emptied (sleep.c, S3)
 *   slabs that its slots own are left to all; then the slots, then the record become free
 *
 * Others may meanwhile give back locks of an ABORTED attempt (wait.c): both sides swap from the exact lock.
 * Nothing in a dead log is trusted: offsets are range-checked, and a node is touched only while its orec carries the
 * dead attempt's lock.
 */
#include <unistd.h>

#include "txn/session.h"

static bool carries_lock(sho_region *region, const struct shm_write *write, uint64_t lock)
{
    struct shm_node *node =
        (struct shm_node *)sho_region_at(region, SHM_RECORD_OFF(sho_load(&write->node)), SHM_NODE_BYTES(1));
    return node != NULL && sho_load_acquire(&node->orec) == lock;
}

/* Was the single write decided? If so and its version was not logged yet, it is now. */
static bool single_decided(sho_region *region, struct shm_slot *slot, uint64_t lock)
{
    sho_log_walk walk;
    sho_word *record;
    uint64_t wv = sho_load_acquire(&slot->wv);
    if (wv != 0 && (wv & 3) == 0)
        return true; /* a version */
    if (wv == SHM_MARK(SHM_OREC_SEQ(lock), SHM_MARK_GIVEN_BACK))
        return false;
    sho_log_walk_begin(&walk, region, slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        struct shm_write *write = (struct shm_write *)record;
        if (SHM_RECORD_TYPE(sho_load(record)) != SHM_RECORD_WRITE || !carries_lock(region, write, lock))
            continue;
        uint64_t base = sho_load(&write->base) & ~SHM_WRITE_FREES;
        uint64_t now = sho_load_acquire(&region->sb->clock);
        sho_store_release(&slot->wv, (now > base ? now : base) + SHM_VERSION_ONE);
        (void)sho_fault("recover.single_versioned");
        return true;
    }
    return false;
}

static void settle_writes(sho_region *region, struct shm_slot *slot, uint64_t lock, bool decided)
{
    sho_log_walk walk;
    sho_word *record;
    uint64_t wv = sho_load(&slot->wv);
    sho_log_walk_begin(&walk, region, slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        if (SHM_RECORD_TYPE(sho_load(record)) != SHM_RECORD_WRITE)
            continue;
        (void)sho_fault("recover.write");
        if (decided)
            sho_write_apply(region, (struct shm_write *)record, lock, wv);
        else
            sho_write_release(region, (struct shm_write *)record, lock);
    }
}

static void wake_sleepers(sho_region *region, struct shm_slot *slot)
{
    sho_log_walk walk;
    sho_word *record;
    sho_wake_barrier(region);
    sho_log_walk_begin(&walk, region, slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        uint64_t first = sho_load(record);
        if (SHM_RECORD_TYPE(first) != SHM_RECORD_WRITE)
            continue;
        (void)sho_fault("recover.wake");
        sho_wake_bucket(region, sho_bucket_of(region, (struct shm_node *)(region->base + SHM_RECORD_OFF(first))));
    }
}

static void recover_slot(sho_region *region, unsigned index)
{
    struct shm_slot *slot = sho_region_slot(region, index);
    uint64_t state = sho_load_acquire(&slot->state);
    uint64_t seq = SHM_SEQ(state);
    uint64_t lock = SHM_OREC_LOCK(index, seq);
    sho_heap heap = {.region = region};
    bool decided = SHM_PHASE(state) == SHM_COMMITTED;
    (void)sho_fault("recover.slot");
    if (SHM_PHASE(state) == SHM_SINGLE) {
        decided = single_decided(region, slot, lock);
    } else if (SHM_PHASE(state) == SHM_LOCKING) {
        /* Another one may have aborted it this moment; nobody else can have decided it. */
        sho_cas(&slot->state, state, SHM_STATE(seq, SHM_ABORTED));
    }
    if (SHM_PHASE(state) != SHM_IDLE && SHM_PHASE(state) != SHM_FREE)
        settle_writes(region, slot, lock, decided);
    if (decided)
        wake_sleepers(region, slot);
    sho_elder_forget(region, index);
    sho_store(&slot->waiting, 0);
    (void)sho_fault("recover.settled");
    sho_log_free_blocks(&heap, region, slot, (sho_log_pos){0}, decided);
    sho_store_release(&slot->log_end, 0);
    (void)sho_fault("recover.log_empty");
    sho_store_release(&slot->state, SHM_STATE(seq, SHM_IDLE));
}

void sho_slot_release(struct shm_slot *slot)
{
    sho_store(&slot->began_ns, 0);
    sho_store_release(&slot->state, SHM_STATE(SHM_SEQ(sho_load(&slot->state)), SHM_FREE));
    (void)sho_fault("slot.freed");
    sho_store_release(&slot->process, 0);
}

/* With the lock of the record held. */
static void recover_locked(sho_region *region, unsigned process)
{
    bool is_dead[SHM_SLOT_MAX + 1] = {false};
    bool any = false;
    unsigned count = sho_region_slot_count(region);
    for (unsigned i = 0; i < count; i++)
        if (sho_load_acquire(&sho_region_slot(region, i)->process) == process + 1) {
            recover_slot(region, i);
            is_dead[i + 1] = any = true;
        }
    if (any)
        sho_slab_adopt(region, is_dead);
    (void)sho_fault("recover.adopted");
    for (unsigned i = 0; i < count; i++)
        if (is_dead[i + 1])
            sho_slot_release(sho_region_slot(region, i));
    atomic_fetch_add_explicit(&region->sb->recoveries, 1, memory_order_relaxed);
    (void)sho_fault("recover.record");
    sho_process_free(region, process);
}

int sho_recover_process(sho_region *region, unsigned process)
{
    int lock;
    int rc = sho_peer_probe(region, process, &lock);
    if (rc != 1)
        return rc;
    recover_locked(region, process);
    close(lock); /* the proof goes last: nobody claims the record before it is free */
    return 1;
}

unsigned sho_recover_all(sho_region *region)
{
    unsigned count = 0;
    if (!region->writable)
        return 0;
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++)
        if (sho_process_is_live(region, i) && sho_recover_process(region, i) == 1)
            count++;
    return count;
}
