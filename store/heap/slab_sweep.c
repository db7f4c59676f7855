/*
 * slab_sweep.c: frees the blocks of one slab that a cycle has not marked.
 *
 * A sweeper claims the slab in its descriptor (`sweep`) after it has said so in its slot (`sweeping`); a claim whose maker does
 * not say so any more is one of the dead, and goes to the next. While it holds the claim nobody else frees garbage of this slab.
 *
 * It judges a block by looking, in this order, at
 *   1 its header: not free
 *   2 the first block that was never used, behind which headers may be anything, and then what the slab's owner is taking:
 *     another block, so that the taking of this one is over
 *   3 the block's mark: none
 *   4 the slab's claim: still its own, so that the slab has not begun another life and the header was one
 *   5 the collector's word: still sweeping the same cycle. So the taking of the block was over before that ended: its taker's
 *     second look, before the end of 2, saw this cycle and marked the block, or an earlier one, and the block was there
 * Last of all 4 and 5, or the cycle could end between them and the taker's look. Such a block is garbage and will be for ever, and
 * nobody else frees it: what sessions are about to free was marked as a root.
 *
 * A node's orec is raised first, so that a committer who has read it in its life can't lock it any more; one that is locked
 * (by a commit on an object that was taken out of use meanwhile) is left for the next cycle.
 *
 * A crash leaves blocks that say free and are on no list. `lost` tells of it, as it does when an owner has died, or somebody who
 * was freeing a block there; the next sweep that finds the slab without an owner takes it, collects the blocks that say free, less
 * those on the lists and those that somebody is about to put on them, and adds the rest. It looks at headers, then at `freeing` of
 * all sessions, then at the lists: one that is being freed is still named, or on the list already. For that, a header says FREE no
 * earlier than `freeing` names its block: a node that a commit frees is DYING until then, which may be long, or for its recoverer
 * to end. `lost` is cleared before the first look, so that what is lost meanwhile is told again, and set again where one is left out
 * that may be nobody's soon.
 *
 * A slab that has an owner is his to look through, since only he knows his list: when he sweeps it, or has used up all else in it.
 * Until then what is lost there is missed by nobody: what is free in such a slab is for its owner alone.
 */
#include "base/error.h"
#include "heap/mark.h"
#include "heap/slab_inner.h"

bool sho_orec_raise(const sho_region *region, struct shm_node *node)
{
    uint64_t orec = sho_load_acquire(&node->orec);
    while (!SHM_OREC_IS_LOCKED(orec)) {
        uint64_t now = sho_load_acquire(&region->sb->clock);
        uint64_t raised = (now > orec ? now : orec) + SHM_VERSION_ONE;
        if (atomic_compare_exchange_strong(&node->orec, &orec, raised))
            return true;
    }
    return false;
}

typedef struct sweeper {
    sho_heap *heap;
    sho_region *region;
    uint64_t slab, gc;
    uint64_t claim; /* what the descriptor says while the slab is ours */
    unsigned cls;
    unsigned head;  /* of the chain of freed blocks: index + 1 */
    uint64_t tail_off;
    unsigned count;
    bool late;
} sweeper;

static bool is_current(const sweeper *w)
{
    uint64_t gc = sho_load_acquire(&w->region->sb->gc);
    return SHM_GC_CYCLE(gc) == SHM_GC_CYCLE(w->gc) && SHM_GC_PHASE(gc) == SHM_GC_SWEEP &&
           sho_load_acquire(&sho_region_slab(w->region, w->slab)->sweep) == w->claim;
}

/* Steps 1 to 5. */
static bool is_garbage(sweeper *w, sho_block block, uint64_t off)
{
    const sho_word *words = (const sho_word *)(w->region->base + off);
    if (SHM_HEADER_KIND(sho_load_acquire(words + block.is_node)) == SHM_KIND_FREE)
        return false;
    (void)sho_fault("sweep.judge");
    bool is_run = w->cls == SHO_CLASS_COUNT;
    const struct shm_slab *d = sho_region_slab(w->region, w->slab);
    if (!is_run && block.index >= LIST_FRESH(sho_load_acquire(&d->private_list)))
        return false;
    if (sho_slab_in_transit(w->region, w->slab, off))
        return false;
    unsigned shift;
    uint64_t mark = sho_load_acquire(sho_mark_word(w->region, block, &shift));
    if (SHO_MARK_TAG(mark) != (uint16_t)SHM_GC_CYCLE(w->gc)) {
        w->late = true;
        return false;
    }
    if (block.is_node ? (mark >> shift & 3) == SHO_BLACK : mark >> shift & 1)
        return false;
    w->late = !is_current(w);
    return !w->late;
}

static void free_block(sweeper *w, sho_block block, uint64_t off)
{
    if (block.is_node) {
        struct shm_node *node = (struct shm_node *)(w->region->base + off);
        if (!sho_orec_raise(w->region, node))
            return;
        sho_store_release(&node->header, sho_load(&node->header) & ~0xffULL);
    }
    link_set(w->region, w->cls, off, w->head);
    if (w->head == 0)
        w->tail_off = off;
    w->head = block.index + 1;
    w->count++;
    (void)sho_fault("sweep.freed");
}

static void sweep_blocks(sweeper *w, sho_sweep_count *count)
{
    uint32_t cycle = SHM_GC_CYCLE(w->gc);
    bool is_node = class_is_node(w->cls);
    unsigned per_word = is_node ? SHO_MARK_NODES_PER_WORD : SHO_MARK_BOXES_PER_WORD;
    unsigned total = block_count_of(w->cls);
    sho_word *marks = sho_region_marks(w->region, w->slab);
    for (unsigned first = 0; first < total && !w->late; first += per_word, marks++) {
        unsigned in_word = total - first < per_word ? total - first : per_word;
        sho_mark_renew(marks, cycle);
        uint64_t bits = sho_load_acquire(marks);
        unsigned marked = (unsigned)__builtin_popcountll(
            is_node ? bits >> 1 & SHO_MARK_GRAY_BITS : bits & ((1ULL << SHM_MARK_BITS) - 1));
        count->kept += marked;
        count->kept_bytes += (uint64_t)marked * sho_classes[w->cls].bytes;
        if (marked == in_word)
            continue;
        for (unsigned i = first; i < first + in_word && !w->late; i++) {
            sho_block block = {.slab = w->slab, .index = i, .is_node = is_node};
            bool is_marked = is_node ? (bits >> (i - first) * 2 & 3) == SHO_BLACK : bits >> (i - first) & 1;
            uint64_t off = block_off(w->slab, w->cls, i);
            if (!is_marked && is_garbage(w, block, off))
                free_block(w, block, off);
        }
    }
    if (w->count > 0)
        sho_slab_give_chain(w->region, w->heap->slot, w->slab, w->head, w->tail_off, w->count);
    count->freed += w->count;
    count->freed_bytes += (uint64_t)w->count * sho_classes[w->cls].bytes;
}

static void sweep_run(sweeper *w, sho_sweep_count *count)
{
    struct shm_slab *d = sho_region_slab(w->region, w->slab);
    uint64_t off = w->slab << SHM_SLAB_SHIFT;
    uint64_t bytes = sho_load(&d->run_slabs) << SHM_SLAB_SHIFT;
    sho_mark_renew(sho_region_marks(w->region, w->slab), SHM_GC_CYCLE(w->gc));
    if (sho_load_acquire(&d->state) == SHM_SLAB_STATE(SHM_SLAB_RUN, 0, 0, 0) &&
        is_garbage(w, (sho_block){.slab = w->slab}, off)) {
        sho_slab_release_run(w->region, w->slab, w->heap->owner);
        count->freed++;
        count->freed_bytes += bytes;
    } else {
        count->kept++;
        count->kept_bytes += bytes;
    }
}

/* ------------------------------------------------------------------------------------------ lost blocks */

/* Those that are about to be put on a list. True if there are any: if he who frees one dies, it is lost. */
static bool leave_out_freeing(sweeper *w, uint8_t *is_free)
{
    unsigned slots = sho_region_slot_count(w->region);
    bool any = false;
    for (unsigned i = 0; i < slots; i++) {
        uint64_t off = sho_load_acquire(&sho_region_slot(w->region, i)->freeing);
        if ((off >> SHM_SLAB_SHIFT) - w->slab < sho_classes[w->cls].span) {
            unsigned index = block_index_in(w->cls, off - (w->slab << SHM_SLAB_SHIFT));
            if (index < block_count_of(w->cls) && is_free[index]) {
                is_free[index] = 0;
                any = true;
            }
        }
    }
    return any;
}

static bool leave_out_list(sweeper *w, uint8_t *is_free, unsigned head)
{
    unsigned total = block_count_of(w->cls);
    unsigned steps = 0;
    for (unsigned at = head; at != 0; at = link_get(w->region, w->cls, block_off(w->slab, w->cls, at - 1))) {
        if (at > total || steps++ > total)
            return false;
        is_free[at - 1] = 0;
    }
    return true;
}

/* Puts the lost blocks of a slab on its owner's list: the caller is the owner, and holds the claim to sweep it. */
static void add_lost(sweeper *w)
{
    uint8_t is_free[SHM_SLAB_BYTES / 16] = {0};
    struct shm_slab *d = sho_region_slab(w->region, w->slab);
    bool is_node = class_is_node(w->cls);
    uint64_t list = sho_load(&d->private_list);
    unsigned total = block_count_of(w->cls);
    atomic_fetch_and(&d->lost, ~(uint64_t)SHM_LOST_BLOCKS);
    (void)sho_fault("sweep.looks");
    for (unsigned i = 0; i < total && i < LIST_FRESH(list); i++) {
        const sho_word *words = (const sho_word *)(w->region->base + block_off(w->slab, w->cls, i));
        is_free[i] = SHM_HEADER_KIND(sho_load_acquire(words + is_node)) == SHM_KIND_FREE;
    }
    bool any_left = leave_out_freeing(w, is_free);
    if (!leave_out_list(w, is_free, LIST_HEAD(list)) ||
        !leave_out_list(w, is_free, REMOTE_HEAD(sho_load_acquire(&d->remote)))) {
        atomic_fetch_or(&d->lost, SHM_LOST_BLOCKS); /* damaged: check tells */
        return;
    }
    for (unsigned i = 0; i < total; i++) {
        uint64_t off = block_off(w->slab, w->cls, i);
        if (!is_free[i])
            continue;
        if (is_node && !sho_orec_raise(w->region, (struct shm_node *)(w->region->base + off))) {
            any_left = true;
            continue;
        }
        list = sho_load(&d->private_list);
        link_set(w->region, w->cls, off, LIST_HEAD(list));
        sho_store_release(&d->private_list, LIST(i + 1, LIST_FRESH(list), LIST_COUNT(list) + 1));
        (void)sho_fault("sweep.found");
    }
    if (any_left)
        atomic_fetch_or(&d->lost, SHM_LOST_BLOCKS);
}

void sho_slab_mend(sho_heap *heap, uint64_t slab)
{
    struct shm_slab *d = sho_region_slab(heap->region, slab);
    uint64_t sweep = sho_load_acquire(&d->sweep);
    sweeper w = {.heap = heap, .region = heap->region, .slab = slab, .cls = SHM_SLAB_CLASS(sho_load(&d->state))};
    if (SWEEP_BY(sweep) != 0)
        return; /* its sweeper, or who follows it, comes by */
    w.claim = SWEEP(SWEEP_CYCLE(sweep), heap->owner);
    sho_store(&heap->slot->sweeping, slab + 1);
    if (sho_cas(&d->sweep, sweep, w.claim)) {
        add_lost(&w);
        sho_cas(&d->sweep, w.claim, sweep);
    }
    sho_store_release(&heap->slot->sweeping, 0);
}

/* A slab with lost blocks that nobody would take from, since it has no others: takes it, adds them, and lets it go. */
static void mend_unlisted(sweeper *w)
{
    struct shm_slab *d = sho_region_slab(w->region, w->slab);
    uint64_t remote = sho_load_acquire(&d->remote);
    uint64_t state = sho_load(&d->state);
    if (SHM_SLAB_OWNER(state) == w->heap->owner) {
        add_lost(w); /* our own already */
        return;
    }
    if (REMOTE_FLAG(remote) != SHM_REMOTE_UNLISTED || state != slab_state(w->cls, 0))
        return; /* or it has been freed meanwhile */
    sho_store(&w->heap->slot->listing, w->slab + 1); /* released by the swap */
    if (sho_cas(&d->remote, remote,
                REMOTE(REMOTE_HEAD(remote), REMOTE_COUNT(remote), SHM_REMOTE_OWNED, REMOTE_TAG(remote) + 1))) {
        sho_store_release(&d->state, SHM_SLAB_STATE(SHM_SLAB_KIND(state), w->cls, w->heap->owner, 0));
        add_lost(w);
        sho_slab_abandon(w->region, w->heap->slot, w->slab);
    }
    sho_store_release(&w->heap->slot->listing, 0);
}

/* A slab that may be on no stack, though it should. */
static void find_place(sweeper *w)
{
    struct shm_slab *d = sho_region_slab(w->region, w->slab);
    atomic_fetch_and(&d->lost, ~(uint64_t)SHM_LOST_PLACE);
    sho_store_release(&w->heap->slot->listing, w->slab + 1);
    if (!sho_slab_relist(w->region, w->heap->slot, w->slab))
        atomic_fetch_or(&d->lost, SHM_LOST_PLACE);
    sho_store_release(&w->heap->slot->listing, 0);
}

static void mend(sweeper *w)
{
    uint64_t lost = sho_load(&sho_region_slab(w->region, w->slab)->lost);
    if (lost & SHM_LOST_BLOCKS)
        mend_unlisted(w);
    if (lost & SHM_LOST_PLACE)
        find_place(w);
}

/* ------------------------------------------------------------------------------------------ the slab */

/* Another one's claim that is still being worked on. */
static bool is_held(sweeper *w, uint64_t sweep)
{
    unsigned by = SWEEP_BY(sweep);
    if (by == 0 || by > sho_region_slot_count(w->region))
        return false;
    const struct shm_slot *slot = sho_region_slot(w->region, by - 1);
    return sho_load_acquire(&slot->process) != 0 && sho_load_acquire(&slot->sweeping) == w->slab + 1;
}

enum sho_swept sho_slab_sweep(sho_heap *heap, uint64_t slab, uint64_t gc, sho_sweep_count *count)
{
    sho_region *region = heap->region;
    struct shm_slab *d = sho_region_slab(region, slab);
    uint32_t cycle = SHM_GC_CYCLE(gc);
    sweeper w = {.heap = heap, .region = region, .slab = slab, .gc = gc, .claim = SWEEP(cycle, heap->owner)};
    uint64_t sweep = sho_load_acquire(&d->sweep);
    if (SWEEP_CYCLE(sweep) == cycle && SWEEP_BY(sweep) == 0)
        return SHO_SWEPT;
    if ((int32_t)(SWEEP_CYCLE(sweep) - cycle) > 0)
        return SHO_SWEPT_LATE;
    if (is_held(&w, sweep))
        return SHO_SWEPT_BUSY;
    bool of_dead = SWEEP_BY(sweep) != 0;
    sho_store(&heap->slot->sweeping, slab + 1);
    (void)sho_fault("sweep.claim");
    if (!sho_cas(&d->sweep, sweep, w.claim)) {
        sho_store_release(&heap->slot->sweeping, 0);
        return SHO_SWEPT_BUSY;
    }
    if (of_dead)
        atomic_fetch_or(&d->lost, SHM_LOST_BLOCKS);
    (void)sho_fault("sweep.claimed");
    uint64_t state = sho_load_acquire(&d->state);
    w.cls = SHM_SLAB_CLASS(state);
    if (sho_slab_has_blocks(region, slab, state)) {
        sweep_blocks(&w, count);
        mend(&w);
    } else if (SHM_SLAB_KIND(state) == SHM_SLAB_RUN) {
        w.cls = SHO_CLASS_COUNT;
        sweep_run(&w, count);
    }
    (void)sho_fault("sweep.done");
    /* Fails where the slab has begun another life meanwhile. */
    sho_cas(&d->sweep, w.claim, SWEEP(cycle, 0));
    sho_store_release(&heap->slot->sweeping, 0);
    if (SHO_UNLIKELY((sho_load(&d->lost) & SHM_LOST_BLOCKS) != 0) && w.cls < SHO_CLASS_COUNT &&
        REMOTE_FLAG(sho_load_acquire(&d->remote)) == SHM_REMOTE_LISTED)
        sho_slab_mend_listed(heap, w.cls);
    return w.late ? SHO_SWEPT_LATE : SHO_SWEPT;
}
