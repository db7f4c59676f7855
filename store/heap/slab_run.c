/*
 * slab_run.c: slabs are claimed and freed, one or several neighbours at a time: runs, and wide slabs.
 *
 * A run is one large box in whole slabs of its own. A wide slab is a slab of several neighbours, its class's span, cut into equal
 * blocks: so boxes of a third of a slab up to 7 slabs lose no more than an eighth of their block. Both look the same from outside:
 *
 *   first       RUN, or BOXES with the class      run_slabs: how many slabs it takes; 0 in a run that is not whole yet
 *   the others  RUN_TAIL                          run_slabs: the first one
 *
 * All that is known of a wide slab's blocks (lists, marks, who owns and who sweeps it) stands with the first slab, so that in every
 * other respect it is a slab like any other. It is made out of a run, and becomes one again before it is freed:
 *
 *          claim, one by one            whole                        sho_wide_obtain
 *   FREE --------------------> RUN, 0 -------> RUN, span; value FREE ---------------> BOXES
 *     ^                                                ^ |                              |
 *     +--------------- from its end, one by one -------|-+                              |
 *                                                      +--------- sho_wide_release -----+
 *
 * R1  While a run names an owner nobody but him (or who adopts it from him) touches it.
 * R2  Tails belong to their first slab as long as its length, or its class's span, covers them. Who gives a run back frees the last
 *     tail, and then shortens the run.
 * R3  A tail whose run_slabs is 0 is being claimed or freed by the one that it names: who finds that one dead frees it.
 *
 * What a crash leaves: a run that is not whole, or whole and without a value, with a dead owner: its adopter frees it. A wide slab
 * with an empty private_list (which always counts something otherwise: a used-up slab has all of its blocks behind `fresh`) is one
 * that was about to become a run again: its adopter goes on. A run that is being given back is shorter, or its last tail is
 * free already: who named it in his log or in `freeing`, or the next sweep, gives back the rest.
 *
 * Memory order: a tail's memory may be another slab's when a sweeper of the wide slab still looks at it. Its private_list is set to
 * 0 before the first tail is freed (release), so that the sweeper, who looks at a header and then at that word, finds a
 * block that was never used; and if the first slab has begun another life by then, another claim (slab_sweep.c, step 4).
 */
#include "base/error.h"
#include "heap/mark.h"
#include "heap/slab_inner.h"

/* A wide slab is no more than this part of the room that is left: or in a store that is small, or nearly full, the free blocks of a
 * few of them would be most of it. */
#define WIDE_ROOM 8

/* ------------------------------------------------------------------------------------------ claiming */

/* A slab begins a new life: what the collector knows of its earlier one is over. Before anything is written into it, so that a
 * sweeper of the earlier life sees this when it sees that. */
static void renew(sho_region *region, uint64_t slab)
{
    uint32_t cycle = SHM_GC_CYCLE(sho_load_acquire(&region->sb->gc));
    struct shm_slab *d = sho_region_slab(region, slab);
    sho_word *marks = sho_region_marks(region, slab);
    sho_store(&d->lost, 0);
    sho_store_release(&d->sweep, SWEEP(cycle, 0));
    for (unsigned i = 0; i < SHM_MARK_WORDS; i++)
        sho_mark_renew(marks + i, cycle);
}

/* A free slab's memory is there, again if need be. Doing it twice, or for a slab that another then claims, is harmless. */
static bool is_backed(sho_region *region, uint64_t slab)
{
    sho_word *given = &sho_region_slab(region, slab)->given;
    if (SHO_LIKELY((sho_load_acquire(given) & SHM_GIVEN_BACK) == 0))
        return true;
    if (sho_region_back(region, slab << SHM_SLAB_SHIFT, SHM_SLAB_BYTES))
        return false;
    (void)sho_fault("slab.backed");
    atomic_fetch_and(given, ~(uint64_t)SHM_GIVEN_BACK);
    return true;
}

#ifdef SHOBJ_FAULTS
extern bool sho_slab_no_reserve;
bool sho_slab_no_reserve; /* a test does without */
#else
#define sho_slab_no_reserve false
#endif

/* Who is not to have any of the reserve ends in front of it. */
static uint64_t slab_limit(const sho_heap *heap)
{
    uint64_t max = heap->region->max_bytes >> SHM_SLAB_SHIFT;
    return heap->may_reserve || sho_slab_no_reserve ? max : max - sho_slab_reserve(heap->region);
}

/* Claims `count` neighbouring free slabs below the current end, and below the reserve unless that is meant; the first one, or 0. */
static uint64_t claim_free(sho_heap *heap, uint64_t count, uint64_t first_state)
{
    sho_region *region = heap->region;
    uint64_t end = sho_region_slab_count(region), limit = slab_limit(heap);
    end = end < limit ? end : limit;
    uint64_t begin = region->data_off >> SHM_SLAB_SHIFT;
    if (end <= begin)
        return 0; /* damaged: the tables alone are more */
    uint64_t hint = sho_load(&region->sb->free_scan_hint);
    if (count > 1 || hint < begin || hint >= end)
        hint = begin;
    uint64_t length = 0;
    for (uint64_t step = 0, i = hint; step < end - begin; step++, i++) {
        if (i >= end) {
            i = begin;
            length = 0; /* a run does not wrap */
        }
        if (sho_load(&sho_region_slab(region, i)->state) != 0 || !is_backed(region, i)) {
            length = 0;
            continue;
        }
        if (++length < count)
            continue;
        uint64_t first = i + 1 - count;
        uint64_t tail = SHM_SLAB_STATE(SHM_SLAB_RUN_TAIL, 0, SHM_SLAB_OWNER(first_state), 0);
        uint64_t got = 0;
        while (got < count &&
               sho_cas(&sho_region_slab(region, first + got)->state, 0, got == 0 ? first_state : tail)) {
            renew(region, first + got);
            got++;
        }
        if (got == count) {
            atomic_fetch_sub_explicit(&region->sb->free_slab_hint, count, memory_order_relaxed);
            if (count == 1)
                sho_store(&region->sb->free_scan_hint, first + 1);
            return first;
        }
        while (got-- > 0)
            sho_store_release(&sho_region_slab(region, first + got)->state, 0);
        length = 0;
    }
    return 0;
}

/* From here on anybody may claim it. */
static void set_free(sho_region *region, uint64_t slab)
{
    sho_store_release(&sho_region_slab(region, slab)->state, 0);
    atomic_fetch_add_explicit(&region->sb->free_slab_hint, 1, memory_order_relaxed);
    if (sho_load(&region->sb->free_scan_hint) > slab)
        sho_store(&region->sb->free_scan_hint, slab);
}

void sho_slab_free(sho_region *region, uint64_t slab)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    /* First: from here on its adopter knows that nothing is in it. */
    sho_store(&d->private_list, 0);
    (void)sho_fault("slab.emptied");
    sho_store_release(&d->remote, REMOTE(0, 0, SHM_REMOTE_UNLISTED, REMOTE_TAG(sho_load(&d->remote)) + 1));
    sho_store(&d->run_slabs, 0);
    set_free(region, slab);
}

int sho_slab_obtain(sho_heap *heap, uint64_t count, uint64_t first_state, uint64_t *ret_first)
{
    sho_region *region = heap->region;
    if (sho_fault("slab.claim"))
        return sho_error(SHOBJ_EFULL, "%s is full (injected)", region->path);
    for (;;) {
        uint64_t first = 0;
        int64_t free_hint = (int64_t)sho_load(&region->sb->free_slab_hint);
        if (free_hint >= (int64_t)count)
            first = claim_free(heap, count, first_state);
        if (first == 0 && sho_load(&region->sb->empty_slab_hint) > 0 && sho_slab_reclaim_boxes(heap))
            first = claim_free(heap, count, first_state);
        if (first == 0) {
            uint64_t end = sho_region_slab_count(region);
            bool fits = end + count <= slab_limit(heap);
            int rc = sho_region_grow(region, fits ? end + count : UINT64_MAX);
            if (rc == 0 && sho_region_slab_count(region) > end)
                continue;
            /* No growth. The hints may be wrong: look everywhere once before giving up. */
            sho_slab_reclaim_boxes(heap);
            first = claim_free(heap, count, first_state);
            if (first == 0)
                return rc ? rc : SHOBJ_EFULL;
        }
        *ret_first = first;
        return 0;
    }
}

/* ------------------------------------------------------------------------------------------ runs */

int sho_run_obtain(sho_heap *heap, uint64_t count, uint64_t *ret_first)
{
    uint64_t first;
    int rc = sho_slab_obtain(heap, count, SHM_SLAB_STATE(SHM_SLAB_RUN, 0, heap->owner, 0), &first);
    if (rc)
        return rc;
    sho_store((sho_word *)(heap->region->base + (first << SHM_SLAB_SHIFT)), SHM_KIND_FREE);
    for (uint64_t i = 1; i < count; i++)
        sho_store(&sho_region_slab(heap->region, first + i)->run_slabs, first);
    (void)sho_fault("run.claimed");
    sho_store_release(&sho_region_slab(heap->region, first)->run_slabs, count); /* it is whole */
    *ret_first = first;
    return 0;
}

/* R2, R3. A slab that is no tail of this run any more is somebody else's. */
static void free_tail(sho_region *region, uint64_t first, uint64_t slab, unsigned owner)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    if (SHM_SLAB_KIND(sho_load_acquire(&d->state)) != SHM_SLAB_RUN_TAIL || sho_load(&d->run_slabs) != first)
        return;
    sho_store_release(&d->state, SHM_SLAB_STATE(SHM_SLAB_RUN_TAIL, 0, owner, 0));
    (void)sho_fault("run.tail_named");
    sho_store_release(&d->run_slabs, 0);
    (void)sho_fault("run.tail_left");
    set_free(region, slab);
}

void sho_slab_release_run(sho_region *region, uint64_t slab, unsigned owner)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    uint64_t count = sho_load(&d->run_slabs);
    uint64_t end = sho_region_slab_count(region);
    if (count > end - slab)
        count = end - slab;
    for (uint64_t i = slab + count; i-- > slab + 1;) {
        free_tail(region, slab, i, owner);
        sho_store_release(&d->run_slabs, i - slab);
        (void)sho_fault("run.shrunk");
    }
    sho_slab_free(region, slab);
}

/* ------------------------------------------------------------------------------------------ wide slabs */

static bool has_room(const sho_heap *heap, uint64_t span)
{
    sho_region *region = heap->region;
    uint64_t count = sho_region_slab_count(region);
    uint64_t max = slab_limit(heap);
    int64_t free_count = (int64_t)sho_load(&region->sb->free_slab_hint); /* inexact, and may be anything after damage */
    uint64_t room = max > count ? max - count : 0;
    if (free_count > 0)
        room += (uint64_t)free_count < count ? (uint64_t)free_count : count;
    return span <= room / WIDE_ROOM;
}

int sho_wide_obtain(sho_heap *heap, unsigned cls, uint64_t *ret_slab)
{
    if (!has_room(heap, sho_classes[cls].span))
        return SHOBJ_EFULL;
    int rc = sho_run_obtain(heap, sho_classes[cls].span, ret_slab);
    if (rc)
        return rc;
    struct shm_slab *d = sho_region_slab(heap->region, *ret_slab);
    (void)sho_fault("wide.claimed");
    sho_store(&d->private_list, LIST(0, 0, block_count_of(cls)));
    sho_store(&d->remote, REMOTE(0, 0, SHM_REMOTE_OWNED, REMOTE_TAG(sho_load(&d->remote)) + 1));
    (void)sho_fault("wide.filled");
    /* Release: it has its blocks when it is a slab of them. */
    sho_store_release(&d->state, SHM_SLAB_STATE(SHM_SLAB_BOXES, cls, heap->owner, 0));
    (void)sho_fault("wide.made");
    return 0;
}

void sho_wide_release(sho_region *region, uint64_t slab, unsigned cls, unsigned owner)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    sho_store_release(&d->private_list, 0); /* see the head of this file */
    (void)sho_fault("wide.emptied");
    sho_store((sho_word *)(region->base + (slab << SHM_SLAB_SHIFT)), SHM_KIND_FREE); /* it may never have been used */
    sho_store(&d->run_slabs, sho_classes[cls].span);
    sho_store_release(&d->state, SHM_SLAB_STATE(SHM_SLAB_RUN, 0, owner, 0));
    (void)sho_fault("wide.unmade");
    sho_slab_release_run(region, slab, owner);
}

/* ------------------------------------------------------------------------------------------ the dead */

/* Parts of a run that was not whole yet go back, a whole one without a value too. */
void sho_run_adopt(sho_region *region, uint64_t slab, uint64_t state, uint64_t run_end)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    if (SHM_SLAB_KIND(state) == SHM_SLAB_RUN_TAIL) {
        if (slab >= run_end) {
            sho_slab_free(region, slab);
        } else if (sho_load_acquire(&d->run_slabs) == 0 && sho_cas(&d->state, state, 0)) {
            /* R3. A living one who frees it this moment has named himself before he set it to 0: then the swap fails. */
            atomic_fetch_add_explicit(&region->sb->free_slab_hint, 1, memory_order_relaxed);
        }
    } else if (sho_load(&d->run_slabs) == 0) {
        sho_slab_free(region, slab);
    } else if (SHM_HEADER_KIND(sho_load((sho_word *)(region->base + (slab << SHM_SLAB_SHIFT)))) == SHM_KIND_FREE) {
        sho_slab_release_run(region, slab, SHM_SLAB_OWNER(state));
    } else {
        sho_store_release(&d->state, SHM_SLAB_STATE(SHM_SLAB_RUN, 0, 0, 0)); /* the sweep decides */
    }
}

/* ------------------------------------------------------------------------------------------ looking */

uint64_t sho_slab_of(sho_region *region, uint64_t off, uint64_t *ret_state)
{
    uint64_t slab = off >> SHM_SLAB_SHIFT;
    uint64_t state = sho_load_acquire(&sho_region_slab(region, slab)->state);
    *ret_state = state;
    if (SHO_LIKELY(SHM_SLAB_KIND(state) != SHM_SLAB_RUN_TAIL))
        return slab;
    uint64_t first = sho_load_acquire(&sho_region_slab(region, slab)->run_slabs);
    if (first >= slab || first < region->data_off >> SHM_SLAB_SHIFT)
        return slab;
    state = sho_load_acquire(&sho_region_slab(region, first)->state);
    if (!sho_slab_has_blocks(region, first, state) || slab - first >= sho_classes[SHM_SLAB_CLASS(state)].span)
        return slab;
    *ret_state = state;
    return first;
}

uint64_t sho_run_gap(const sho_region *region, uint64_t slab, uint64_t count)
{
    for (uint64_t i = slab + 1; i < slab + count; i++) {
        const struct shm_slab *d = sho_region_slab(region, i);
        if (SHM_SLAB_KIND(sho_load_acquire(&d->state)) != SHM_SLAB_RUN_TAIL || sho_load_acquire(&d->run_slabs) != slab)
            return i;
    }
    return 0;
}
