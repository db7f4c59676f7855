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
 *     SINGLE             decided if slot.wv is a version, or marked so (wait.c, W3); then as COMMITTED (without a logged
 *                        version: max(clock, base) + 1, as the owner would have); else marked given back, and as ABORTED
 *     IDLE, FREE         blocks taken are freed
 *   all who sleep are woken, before the log is emptied (sleep.c, S3)
 *   slabs that a slot had in transit are brought where they belong; blocks are freed after that
 *   slabs that its slots own are left to all; then the slots, then the record become free
 *
 * Others may meanwhile give back locks of an ABORTED attempt (wait.c): both sides swap from the exact lock.
 * Nothing in a dead log is trusted: offsets are range-checked, and a node is touched only while its orec carries the
 * dead attempt's lock.
 */
#include <unistd.h>

#include "heap/mark.h"
#include "txn/session.h"

/* Was the single write decided (wait.c, W3)? If so and its version is not known yet, it is now. */
static bool single_decided(sho_region *region, struct shm_slot *slot, uint64_t lock)
{
    uint64_t seq = SHM_OREC_SEQ(lock);
    for (;;) {
        uint64_t wv = sho_load_acquire(&slot->wv);
        if (sho_wv_is_version(wv))
            return true;
        if (wv == SHM_MARK(seq, SHM_MARK_DECIDED))
            break;
        /* A reader may be about to mark it this moment. */
        if (wv == SHM_MARK(seq, SHM_MARK_GIVEN_BACK) || sho_cas(&slot->wv, wv, SHM_MARK(seq, SHM_MARK_GIVEN_BACK)))
            return false;
    }
    sho_log_walk walk;
    sho_word *record;
    uint64_t wv = sho_load_acquire(&region->sb->clock);
    sho_log_walk_begin(&walk, region, slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        const struct shm_write *write = (const struct shm_write *)record;
        if (SHM_RECORD_TYPE(sho_load(record)) == SHM_RECORD_WRITE && (sho_load(&write->base) & ~SHM_WRITE_FREES) > wv)
            wv = sho_load(&write->base) & ~SHM_WRITE_FREES;
    }
    (void)sho_fault("recover.single");
    sho_store_release(&slot->wv, wv + SHM_VERSION_ONE);
    (void)sho_fault("recover.single_versioned");
    return true;
}

static void settle_writes(sho_region *region, struct shm_slot *slot, uint64_t lock, bool decided)
{
    sho_log_walk walk;
    sho_word *record;
    uint64_t wv = sho_load(&slot->wv);
    if (decided)
        sho_past_forget(region, wv);
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

/* What it was taking and has not marked any more: a sweeper that has seen its header must not take it for garbage when
 * it is no longer named (gc/README.md, G6), least of all when it has been freed already. */
static void mark_taking(sho_region *region, struct shm_slot *slot)
{
    uint64_t off = sho_load(&slot->taking);
    uint64_t gc = sho_load_acquire(&region->sb->gc);
    sho_block block = {0};
    sho_slab_info info;
    if (off == 0 || SHM_GC_PHASE(gc) == SHM_GC_IDLE || sho_slab_find(region, off, &info, &block.index))
        return;
    block.slab = info.slab;
    block.is_node = info.kind == SHM_SLAB_NODES;
    sho_mark_raise(region, SHM_GC_CYCLE(gc), block, SHO_BLACK);
    (void)sho_fault("recover.taking");
}

/* What it was freeing may say that it is free and be on no list: the sweep looks for it (slab_sweep.c). */
static void tell_freeing(sho_region *region, struct shm_slot *slot)
{
    uint64_t off = sho_load_acquire(&slot->freeing);
    sho_slab_info info;
    unsigned index;
    if (off != 0 && sho_slab_find(region, off, &info, &index) == 0 && info.kind != SHM_SLAB_RUN)
        atomic_fetch_or(&sho_region_slab(region, info.slab)->lost, SHM_LOST_BLOCKS);
}

static void recover_slot(sho_region *region, unsigned index)
{
    struct shm_slot *slot = sho_region_slot(region, index);
    uint64_t state = sho_load_acquire(&slot->state);
    uint64_t seq = SHM_SEQ(state);
    uint64_t lock = SHM_OREC_LOCK(index, seq);
    sho_heap heap = {.region = region, .owner = index + 1, .slot = slot}; /* what is being freed, it says in that slot */
    bool decided = SHM_PHASE(state) == SHM_COMMITTED;
    (void)sho_fault("recover.slot");
    mark_taking(region, slot);
    tell_freeing(region, slot);
    if (SHM_PHASE(state) == SHM_SINGLE) {
        decided = single_decided(region, slot, lock);
    } else if (SHM_PHASE(state) == SHM_LOCKING) {
        /* Another one may have aborted it this moment; nobody else can have decided it. */
        sho_cas(&slot->state, state, SHM_STATE(seq, SHM_ABORTED));
    }
    if (SHM_PHASE(state) != SHM_IDLE && SHM_PHASE(state) != SHM_FREE)
        settle_writes(region, slot, lock, decided);
    if (SHM_PHASE(state) != SHM_FREE) {
        sho_region_light_barrier(region);
        sho_wake_all(region); /* it may have taken others' bits out of the buckets; sleep.c, S3 */
    }
    sho_elder_forget(region, index);
    sho_store(&slot->waiting, 0);
    (void)sho_fault("recover.settled");
    sho_slab_settle(region, slot);
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

/* What it was taking, freeing, holding, sweeping: the collector finds these blocks by itself. */
static void forget_blocks(struct shm_slot *slot)
{
    sho_store(&slot->hold_count, 0);
    sho_store(&slot->holds_more, 0);
    sho_store(&slot->log_next, 0);
    sho_store(&slot->taking, 0);
    sho_store(&slot->freeing, 0);
    sho_store_release(&slot->sweeping, 0);
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
        if (is_dead[i + 1]) {
            forget_blocks(sho_region_slot(region, i));
            sho_slot_release(sho_region_slot(region, i));
        }
    /* What its proxies kept alive, and the table that said so, are for the collector. */
    sho_store_release(&sho_region_process(region, process)->pins, 0);
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

void sho_recover_known_dead(sho_region *region)
{
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++)
        if (sho_process_is_live(region, i))
            recover_locked(region, i);
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
