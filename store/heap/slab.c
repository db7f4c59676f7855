/*
 * slab.c: the allocator.
 *
 * A slab is 64 KiB of blocks of one class, or several times that (a wide slab: slab_run.c). A session owns at most one slab of
 * each class and takes blocks from it without atomics; a slab it has used up it lets go, a wide one after each block.
 * Everything about a slab is in its 64-byte descriptor:
 *
 *   state         kind, class, owner. Free -> used and used -> free by compare-and-swap: that is the claim.
 *   private_list  one word: head of the owner's free blocks, first never-used block, free blocks in both. Only the
 *                 owner (or who adopts the slab from the dead) writes it, so that a crash leaves it consistent.
 *   remote        one word: head and count of blocks freed by others, and who is in charge of the slab:
 *                   OWNED      a session allocates from it
 *                   UNLISTED   used up, nobody's: the next free of a block lists it (in the same compare-and-swap)
 *                   LISTED     on its class's stack of partial slabs, or on the way to it or from it
 *
 *          claim              used up                first remote free           popped
 *   FREE --------> OWNED ------------------> UNLISTED ----------------> LISTED ----------> OWNED
 *     ^                 owner ends: LISTED                                 |
 *     +--------- reclaim_boxes: a box slab without live blocks ------------+
 *                     (trim.c, while nobody is attached: a slab of nodes too)
 *
 * I1  free blocks of a slab = private_list's count + remote's count, when its owner stands still.
 * I2  a block is on at most one list; the links are in the blocks (in a box's header, in a node's first word).
 * I3  a slab of nodes stays one of its class for ever, and its orecs only grow: a compare-and-swap that a slow committer
 *     makes on a node freed meanwhile fails. Slabs of boxes may become anything: nobody ever does an atomic
 *     read-modify-write on a box.
 *
 * Memory order: a free's compare-and-swap on `remote` releases the link it wrote; the drain acquires it. The owner's
 * own list needs none. Tags in `remote` and in the stacks' heads make a stale compare-and-swap fail.
 *
 * A crash may lose a block between its pop and its name in the log (the sweep of a collection finds it), and nothing else: a
 * slab that is on its way from one state to another is named in `slot.listing` (slab_stack.c).
 */
#include "base/error.h"
#include "heap/mark.h"
#include "heap/slab_inner.h"

/* Block sizes. Node classes: header included, steps of 16 up to 192, then 32. Box classes step by 8 up to 128 bytes, then 8
 * classes a doubling up to 8 KiB, then as many as are needed for at most 12.5% waste within a block: some that divide one
 * slab, then those of wide slabs (slab_run.c), with the fewest slabs that are filled to 98% at least. Where as few whole slabs do
 * as well as a class, there is none: 1, 2, 3... slabs are runs, and so is all above 7, where a slab is an eighth at most. */
#define SPAN(span, n) {(n), (uint32_t)(((1ULL << 32) + (n) - 1) / (n)), (span) * SHM_SLAB_BYTES / (n), (span)}
#define CLASS(n) SPAN(1, n)
#define CLASSES_4(a, b, c, d) CLASS(a), CLASS(b), CLASS(c), CLASS(d)
#define CLASSES_8(a, b, c, d, e, f, g, h) CLASSES_4(a, b, c, d), CLASSES_4(e, f, g, h)
const sho_class sho_classes[SHO_CLASS_COUNT] = {
    CLASSES_8(32, 48, 64, 80, 96, 112, 128, 144), /* nodes */
    CLASSES_8(160, 176, 192, 224, 256, 288, 320, 352),
    CLASSES_4(384, 416, 448, 480), CLASS(528),
    CLASSES_8(16, 24, 32, 40, 48, 56, 64, 72), /* boxes */
    CLASSES_4(80, 88, 96, 104), CLASS(112), CLASS(120), CLASS(128),
    CLASSES_8(144, 160, 176, 192, 208, 224, 240, 256),
    CLASSES_8(288, 320, 352, 384, 416, 448, 480, 512),
    CLASSES_8(576, 640, 704, 768, 832, 896, 960, 1024),
    CLASSES_8(1152, 1280, 1408, 1536, 1664, 1792, 1920, 2048),
    CLASSES_8(2304, 2560, 2816, 3072, 3328, 3584, 3840, 4096),
    CLASSES_8(4608, 5120, 5632, 6144, 6656, 7168, 7680, 8192),
    CLASSES_8(9360, 10696, 12224, 13104, 14976, 16384, 18720, 21392),
    SPAN(4, 23824), SPAN(2, 26208), SPAN(4, 29120), CLASS(SHO_BOX_SLAB_BYTES_MAX),
    SPAN(4, 37440), SPAN(5, 40960), SPAN(5, 46800), SPAN(4, 52416), SPAN(7, 57344),       /* to 7/8 of a slab */
    SPAN(8, 74896), SPAN(5, 81920), SPAN(7, 91744), SPAN(8, 104848), SPAN(7, 114688),     /* 1 1/7 to 1 3/4 */
    SPAN(9, 147456), SPAN(5, 163840), SPAN(8, 174752), SPAN(10, 218448), SPAN(7, 229376), /* 2 1/4 to 3 1/2 */
    SPAN(9, 294912), SPAN(11, 360448), SPAN(13, 425984)};                                 /* 4 1/2, 5 1/2, 6 1/2 */

static unsigned node_class(unsigned words)
{
    unsigned bytes = SHM_NODE_BYTES(words);
    if (bytes <= 192)
        return (bytes + 15) / 16 - 2;
    return bytes <= 480 ? (bytes + 31) / 32 + 4 : SHO_NODE_CLASS_COUNT - 1;
}

#define BOX_STEPS_BYTES 8192u /* up to here classes go by a rule, without a branch that depends on the size */

SHO_INLINE unsigned box_class(uint64_t bytes)
{
    uint64_t last = (bytes > 9 ? bytes : 9) - 1;
    unsigned log = 63u - (unsigned)__builtin_clzll(last | 64); /* 6..12: 8 classes each */
    return SHO_NODE_CLASS_COUNT + (log - 6) * 8 + (unsigned)(last >> (log - 3)) - 1;
}

/* ------------------------------------------------------------------------------------------ slabs */

/* Takes the next slab off a class's stack: slab + 1, or 0. One that can't stand there is damage, and left out. After *left of them,
 * as many as there are slabs, the stack goes in a ring: it is dropped, and its slabs are lost until a repair. */
static uint32_t pop_sound(sho_heap *heap, unsigned cls, uint64_t *left)
{
    sho_region *region = heap->region;
    uint32_t popped;
    for (; *left > 0 && (popped = sho_slab_pop(region, heap->slot, cls)) != 0; (*left)--) {
        uint64_t state = sho_load(&sho_region_slab(region, popped - 1)->state);
        if (SHO_LIKELY(state == slab_state(cls, 0) && sho_slab_has_blocks(region, popped - 1, state) &&
                       sho_run_gap(region, popped - 1, sho_classes[cls].span) == 0)) {
            (*left)--;
            return popped;
        }
    }
    if (SHO_UNLIKELY(*left == 0))
        sho_slab_drop_stack(region, cls);
    return 0;
}

/* The last birth of a slab of nodes outlives it: ids of what was in it never come back. */
static void keep_births(sho_region *region, uint64_t slab, unsigned cls)
{
    uint32_t last = 0;
    for (unsigned i = 0; i < block_count_of(cls); i++) {
        const struct shm_node *node = (const struct shm_node *)(region->base + block_off(slab, cls, i));
        uint32_t birth = SHM_NODE_BIRTH(sho_load(&node->header));
        last = birth > last ? birth : last;
    }
    sho_store(&sho_region_slab(region, slab)->given, (uint64_t)last << 32);
}

/* A slab that is the owner's, without a block in use. */
static void free_empty(sho_region *region, uint64_t slab, unsigned cls, unsigned owner)
{
    if (sho_classes[cls].span > 1)
        sho_wide_release(region, slab, cls, owner);
    else
        sho_slab_free(region, slab);
}

/* Takes every slab of these classes off the stacks that holds no live block, and frees it; the others go back. */
static bool reclaim(sho_heap *heap, unsigned first_class)
{
    sho_region *region = heap->region;
    bool any = false;
    sho_store(&region->sb->empty_slab_hint, 0);
    for (unsigned cls = first_class; cls < SHO_CLASS_COUNT; cls++) {
        uint32_t slab;
        uint64_t left = sho_region_slab_count(region);
        while ((slab = pop_sound(heap, cls, &left)) != 0) {
            struct shm_slab *d = sho_region_slab(region, slab - 1);
            unsigned free_count = LIST_COUNT(sho_load(&d->private_list)) + REMOTE_COUNT(sho_load_acquire(&d->remote));
            if (free_count == block_count_of(cls)) {
                (void)sho_fault("reclaim.empty");
                if (class_is_node(cls))
                    keep_births(region, slab - 1, cls);
                sho_store_release(&d->state, slab_state(cls, heap->owner));
                (void)sho_fault("reclaim.owned");
                sho_store_release(&heap->slot->listing, 0);
                free_empty(region, slab - 1, cls, heap->owner);
                (void)sho_fault("reclaim.freed");
                any = true;
            } else {
                sho_slab_keep(region, heap->slot, slab - 1);
            }
        }
        sho_slab_put_back(region, heap->slot);
    }
    return any;
}

void sho_slab_mend_listed(sho_heap *heap, unsigned cls)
{
    sho_region *region = heap->region;
    uint32_t slab;
    uint64_t left = sho_region_slab_count(region);
    while ((slab = pop_sound(heap, cls, &left)) != 0) {
        struct shm_slab *d = sho_region_slab(region, slab - 1);
        uint64_t state = sho_load(&d->state);
        if (SHM_SLAB_CLASS(state) == cls && SHM_SLAB_OWNER(state) == 0 && (sho_load(&d->lost) & SHM_LOST_BLOCKS) != 0)
            sho_slab_mend(heap, slab - 1);
        sho_slab_keep(region, heap->slot, slab - 1);
    }
    sho_slab_put_back(region, heap->slot);
}

bool sho_slab_reclaim_boxes(sho_heap *heap)
{
    return reclaim(heap, SHO_NODE_CLASS_COUNT); /* I3 */
}

void sho_slab_reclaim_all(sho_heap *heap)
{
    reclaim(heap, 0);
}

#define COLLECT_LEAST (2ULL << 20)

/* Free blocks of a slab are this session's now. */
static void count_allocated(sho_region *region, uint64_t bytes)
{
    uint64_t all = atomic_fetch_add_explicit(&region->sb->allocated_bytes, bytes, memory_order_relaxed) + bytes;
    uint64_t at = sho_load(&region->sb->collect_at);
    if (all >= (at > COLLECT_LEAST ? at : COLLECT_LEAST))
        atomic_store_explicit(&region->wants_collection, true, memory_order_relaxed);
}

/* A slab of class cls that is ours: a partial one, else a free one. */
static int obtain_slab(sho_heap *heap, unsigned cls, uint64_t *ret_slab)
{
    sho_region *region = heap->region;
    uint64_t state = slab_state(cls, heap->owner);
    uint32_t popped;
    uint64_t left = sho_region_slab_count(region);
    while ((popped = pop_sound(heap, cls, &left)) != 0) {
        struct shm_slab *d = sho_region_slab(region, popped - 1);
        (void)sho_fault("slab.popped");
        sho_store_release(&d->state, state);
        (void)sho_fault("slab.owned");
        uint64_t remote = sho_load(&d->remote);
        while (!atomic_compare_exchange_weak_explicit(
            &d->remote, &remote,
            REMOTE(REMOTE_HEAD(remote), REMOTE_COUNT(remote), SHM_REMOTE_OWNED, REMOTE_TAG(remote) + 1),
            memory_order_acq_rel, memory_order_relaxed))
            ;
        sho_store_release(&heap->slot->listing, 0);
        *ret_slab = popped - 1;
        if (sho_classes[cls].span == 1)
            count_allocated(region, (uint64_t)(REMOTE_COUNT(remote) + LIST_COUNT(sho_load(&d->private_list))) *
                                        sho_classes[cls].bytes);
        if (SHO_UNLIKELY(sho_load(&d->lost) & SHM_LOST_BLOCKS))
            sho_slab_mend(heap, *ret_slab);
        return 0;
    }
    if (sho_classes[cls].span > 1)
        return sho_wide_obtain(heap, cls, ret_slab);
    int rc = sho_slab_obtain(heap, 1, state, ret_slab);
    if (rc)
        return rc;
    count_allocated(region, SHM_SLAB_BYTES);
    struct shm_slab *d = sho_region_slab(region, *ret_slab);
    (void)sho_fault("slab.claimed");
    if (class_is_node(cls)) {
        /* It may have held boxes: orecs start from 0, and so do headers, but for the births. */
        sho_word *words = (sho_word *)(region->base + (*ret_slab << SHM_SLAB_SHIFT));
        uint32_t birth = SHM_GIVEN_BIRTH(sho_load(&d->given));
        for (unsigned i = 0; i < SHM_SLAB_BYTES / 8; i++)
            sho_store(words + i, 0);
        for (unsigned i = 0; birth != 0 && i < block_count_of(cls); i++)
            sho_store(&((struct shm_node *)(region->base + block_off(*ret_slab, cls, i)))->header,
                      SHM_NODE_HEADER(SHM_KIND_FREE, 0, birth));
    }
    /* Release: it is as new before it has blocks; until then its adopter frees it. */
    sho_store_release(&d->private_list, LIST(0, 0, block_count_of(cls)));
    sho_store_release(&d->remote, REMOTE(0, 0, SHM_REMOTE_OWNED, REMOTE_TAG(sho_load(&d->remote)) + 1));
    return 0;
}

/* Moves what others freed to the private list, which is empty. False if there was nothing. */
static bool drain_remote(struct shm_slab *d)
{
    uint64_t remote = sho_load_acquire(&d->remote);
    uint64_t list = sho_load(&d->private_list);
    while (REMOTE_COUNT(remote) != 0) {
        if (atomic_compare_exchange_weak_explicit(&d->remote, &remote,
                                                  REMOTE(0, 0, SHM_REMOTE_OWNED, REMOTE_TAG(remote) + 1),
                                                  memory_order_acq_rel, memory_order_acquire)) {
            sho_store(&d->private_list,
                      LIST(REMOTE_HEAD(remote), LIST_FRESH(list), LIST_COUNT(list) + REMOTE_COUNT(remote)));
            return true;
        }
    }
    return false;
}

/* Lets go of a used-up slab. False if somebody freed a block in it this moment. */
static bool let_go(sho_heap *heap, uint64_t slab)
{
    struct shm_slab *d = sho_region_slab(heap->region, slab);
    uint64_t state = sho_load(&d->state);
    uint64_t remote = sho_load(&d->remote);
    if (REMOTE_COUNT(remote) != 0)
        return false;
    sho_store_release(&heap->slot->listing, slab + 1);
    sho_store_release(&d->state, SHM_SLAB_STATE(SHM_SLAB_KIND(state), SHM_SLAB_CLASS(state), 0, 0));
    (void)sho_fault("slab.let_go");
    bool gone = sho_cas(&d->remote, remote, REMOTE(0, 0, SHM_REMOTE_UNLISTED, REMOTE_TAG(remote) + 1));
    if (!gone)
        sho_store_release(&d->state, state);
    sho_store_release(&heap->slot->listing, 0);
    return gone;
}

/* ------------------------------------------------------------------------------------------ blocks */

/* G6 (gc/README.md): a block in transit. It is named before anybody can see that it is not free. */
SHO_INLINE void in_transit(sho_heap *heap, uint64_t off)
{
    sho_store_release(&heap->slot->taking, off);
}

static SHO_COLD void mark_new(sho_heap *heap, uint64_t gc, sho_block block)
{
    sho_mark_raise(heap->region, SHM_GC_CYCLE(gc), block, SHO_BLACK);
}

SHO_INLINE void mark_taken(sho_heap *heap, unsigned cls, uint64_t slab, unsigned index)
{
    heap->gc_seen = sho_load_acquire(&heap->region->sb->gc);
    if (SHO_UNLIKELY(SHM_GC_PHASE(heap->gc_seen) != SHM_GC_IDLE))
        mark_new(heap, heap->gc_seen, (sho_block){.slab = slab, .index = index, .is_node = class_is_node(cls)});
}

/* The wide slab that a block has just been taken from is everybody's again. (If another block was taken in between, for the log, it
 * remains this session's until the next one is taken from it.) */
static void let_all_have(sho_heap *heap, uint64_t off)
{
    uint64_t slab = heap->wide - 1;
    unsigned cls = SHM_SLAB_CLASS(sho_load(&sho_region_slab(heap->region, slab)->state));
    if (cls >= SHO_CLASS_COUNT || (off >> SHM_SLAB_SHIFT) - slab >= sho_classes[cls].span)
        return;
    heap->wide = 0;
    if (heap->current[cls] == slab + 1) {
        heap->current[cls] = 0;
        sho_slab_abandon(heap->region, heap->slot, slab);
    }
}

/* The collector's word has changed since the block was marked, or the block may be a run or of a wide slab, which names its taker
 * until now. */
static SHO_COLD void taken_with_care(sho_heap *heap, uint64_t off, uint64_t gc)
{
    sho_region *region = heap->region;
    sho_slab_info info;
    unsigned index;
    if (gc != heap->gc_seen && SHM_GC_PHASE(gc) != SHM_GC_IDLE && sho_slab_find(region, off, &info, &index) == 0)
        mark_new(heap, gc, (sho_block){.slab = info.slab, .index = index, .is_node = info.kind == SHM_SLAB_NODES});
    struct shm_slab *d = sho_region_slab(region, off >> SHM_SLAB_SHIFT);
    if (SHM_SLAB_KIND(sho_load(&d->state)) == SHM_SLAB_RUN)
        sho_store_release(&d->state, SHM_SLAB_STATE(SHM_SLAB_RUN, 0, 0, 0));
    if (heap->wide != 0)
        let_all_have(heap, off);
}

void sho_heap_taken(sho_heap *heap, uint64_t off)
{
    sho_region_light_barrier(heap->region); /* its name and its header, then the look */
    uint64_t gc = sho_load_acquire(&heap->region->sb->gc);
    if (SHO_UNLIKELY(gc != heap->gc_seen || (off & (SHM_SLAB_BYTES - 1)) == 0))
        taken_with_care(heap, off, gc);
    (void)sho_fault("block.taken");
    sho_store_release(&heap->slot->taking, 0);
}

bool sho_slab_in_transit(const sho_region *region, uint64_t slab, uint64_t off)
{
    unsigned owner = SHM_SLAB_OWNER(sho_load_acquire(&sho_region_slab(region, slab)->state));
    return owner != 0 && owner <= SHM_SLOT_MAX && sho_load_acquire(&sho_region_slot(region, owner - 1)->taking) == off;
}

/* Are there any blocks on the private list, which was empty, that somebody's death had left on none? */
static bool has_found_lost(sho_heap *heap, uint64_t slab)
{
    const struct shm_slab *d = sho_region_slab(heap->region, slab);
    if (SHO_LIKELY((sho_load(&d->lost) & SHM_LOST_BLOCKS) == 0))
        return false;
    sho_slab_mend(heap, slab);
    return LIST_HEAD(sho_load(&d->private_list)) != 0;
}

#define NEVER_SEEN UINT64_MAX /* no word of the collector */

/* The slab of a class that is ours has no block on the private list: brings some there, from wherever there are any. */
static SHO_COLD int refill(sho_heap *heap, unsigned cls)
{
    sho_region *region = heap->region;
    for (;;) {
        uint64_t slab = heap->current[cls];
        if (slab-- == 0) {
            int rc = obtain_slab(heap, cls, &slab);
            if (rc)
                return rc;
            heap->current[cls] = (uint32_t)slab + 1;
        }
        struct shm_slab *d = sho_region_slab(region, slab);
        uint64_t list = sho_load(&d->private_list);
        if (LIST_HEAD(list) > block_count_of(cls)) /* damaged list: drop it */
            sho_store(&d->private_list, LIST(0, LIST_FRESH(list), 0));
        else if (LIST_HEAD(list) != 0 || LIST_FRESH(list) < block_count_of(cls))
            return 0;
        else if (!drain_remote(d) && !has_found_lost(heap, slab) && let_go(heap, slab))
            heap->current[cls] = 0;
    }
}

SHO_INLINE int take(sho_heap *heap, unsigned cls, uint64_t *ret_off)
{
    sho_region *region = heap->region;
    for (;;) {
        uint64_t slab = heap->current[cls];
        if (SHO_LIKELY(slab-- != 0)) {
            struct shm_slab *d = sho_region_slab(region, slab);
            uint64_t list = sho_load(&d->private_list);
            unsigned head = LIST_HEAD(list);
            unsigned fresh = LIST_FRESH(list);
            if (SHO_LIKELY(head - 1 < block_count_of(cls))) {
                *ret_off = block_off(slab, cls, head - 1);
                in_transit(heap, *ret_off);
                sho_store_release(&d->private_list, LIST(link_get(region, cls, *ret_off), fresh, LIST_COUNT(list) - 1));
                mark_taken(heap, cls, slab, head - 1);
                return 0;
            }
            if (head == 0 && fresh < block_count_of(cls)) {
                *ret_off = block_off(slab, cls, fresh);
                in_transit(heap, *ret_off);
                sho_store_release(&d->private_list, LIST(0, fresh + 1, LIST_COUNT(list) - 1));
                mark_taken(heap, cls, slab, fresh);
                return 0;
            }
        }
        int rc = refill(heap, cls);
        if (rc)
            return rc;
    }
}

int sho_heap_take_node(sho_heap *heap, unsigned words, uint64_t *ret_off, unsigned *ret_words)
{
    unsigned cls = node_class(words);
    int rc = take(heap, cls, ret_off);
    if (rc == 0)
        *ret_words = (sho_classes[cls].bytes - 16u) / 8u;
    return rc;
}

static SHO_COLD int take_run(sho_heap *heap, uint64_t count, uint64_t *ret_off)
{
    uint64_t first;
    /* As long as it names an owner, the collector leaves it alone. */
    int rc = sho_run_obtain(heap, count, &first);
    if (rc)
        return rc;
    *ret_off = first << SHM_SLAB_SHIFT;
    count_allocated(heap->region, count << SHM_SLAB_SHIFT);
    in_transit(heap, *ret_off);
    heap->gc_seen = sho_load_acquire(&heap->region->sb->gc);
    if (SHM_GC_PHASE(heap->gc_seen) != SHM_GC_IDLE)
        mark_new(heap, heap->gc_seen, (sho_block){.slab = first});
    return 0;
}

int sho_heap_take_reserved(sho_heap *heap, uint64_t *ret_off)
{
    heap->may_reserve = true;
    int rc = take_run(heap, 1, ret_off);
    heap->may_reserve = false;
    return rc;
}

/* From a wide slab, which is this session's until sho_heap_taken() only: that is made to see it by the collector's word. */
static int take_wide(sho_heap *heap, unsigned cls, uint64_t *ret_off)
{
    int rc = take(heap, cls, ret_off);
    if (rc)
        return rc;
    count_allocated(heap->region, sho_classes[cls].bytes);
    heap->wide = heap->current[cls];
    heap->gc_seen = NEVER_SEEN;
    return 0;
}

/* Of a class, or whole slabs if those are no more. Where there is no room for a wide slab any more: of one slab, or whole ones. */
static SHO_COLD int take_large(sho_heap *heap, uint64_t total, uint64_t *ret_off)
{
    uint64_t run_slabs = (total + SHM_SLAB_BYTES - 1) >> SHM_SLAB_SHIFT;
    unsigned cls = box_class(BOX_STEPS_BYTES);
    while (cls < SHO_CLASS_COUNT && sho_classes[cls].bytes < total)
        cls++;
    if (cls == SHO_CLASS_COUNT || sho_classes[cls].bytes >= run_slabs << SHM_SLAB_SHIFT)
        return take_run(heap, run_slabs, ret_off);
    if (sho_classes[cls].span == 1)
        return take(heap, cls, ret_off);
    int rc = take_wide(heap, cls, ret_off);
    if (SHO_LIKELY(rc != SHOBJ_EFULL))
        return rc;
    if (total > SHO_BOX_SLAB_BYTES_MAX)
        return take_run(heap, run_slabs, ret_off);
    while (sho_classes[cls].bytes < SHO_BOX_SLAB_BYTES_MAX)
        cls++;
    return take(heap, cls, ret_off);
}

int sho_heap_take_box(sho_heap *heap, uint64_t bytes, uint64_t *ret_off)
{
    uint64_t total = bytes + sizeof(struct shm_box);
    if (SHO_UNLIKELY(total > BOX_STEPS_BYTES))
        return take_large(heap, total, ret_off);
    return take(heap, box_class(total), ret_off);
}

/* Gives blocks back that are linked already: to who owns the slab, or to all. The slot is that of who does it. */
void sho_slab_give_chain(sho_region *region, struct shm_slot *slot, uint64_t slab, unsigned head, uint64_t tail_off,
                         unsigned count)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    unsigned cls = SHM_SLAB_CLASS(sho_load(&d->state));
    uint64_t remote = sho_load(&d->remote);
    bool list_it;
    uint64_t next;
    do {
        list_it = REMOTE_FLAG(remote) == SHM_REMOTE_UNLISTED;
        if (list_it)
            sho_store(&slot->listing, slab + 1); /* released by the swap */
        link_set(region, cls, tail_off, REMOTE_HEAD(remote));
        next = REMOTE(head, REMOTE_COUNT(remote) + count, list_it ? SHM_REMOTE_LISTED : REMOTE_FLAG(remote),
                      REMOTE_TAG(remote) + 1);
        /* Release: the links before the head that leads to them; pairs with the acquire in drain_remote. */
    } while (!atomic_compare_exchange_weak_explicit(&d->remote, &remote, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (!class_is_node(cls) &&
        REMOTE_COUNT(next) + LIST_COUNT(sho_load(&d->private_list)) == block_count_of(cls) && REMOTE_FLAG(next) != SHM_REMOTE_OWNED)
        atomic_fetch_add_explicit(&region->sb->empty_slab_hint, 1, memory_order_relaxed);
    if (list_it) {
        (void)sho_fault("slab.list");
        sho_slab_push(region, cls, slab);
    }
    if (sho_load(&slot->listing) != 0)
        sho_store_release(&slot->listing, 0);
}

/* Is the block of that index the one that begins at off, so far into a slab of cls, and not a box that is free already? */
SHO_INLINE bool is_in_use(const sho_region *region, unsigned cls, unsigned index, uint64_t in_slab, uint64_t off)
{
    return index < block_count_of(cls) && index * sho_classes[cls].bytes == in_slab &&
           (class_is_node(cls) || SHM_HEADER_KIND(sho_load((sho_word *)(region->base + off))) != SHM_KIND_FREE);
}

/* A block of a slab that is not this session's, or behind the first slab of a wide one, or a run, or nonsense. */
static __attribute__((noinline)) bool give_elsewhere(sho_heap *heap, uint64_t off)
{
    sho_region *region = heap->region;
    if (off < region->data_off || off >> SHM_SLAB_SHIFT >= sho_region_slab_count(region))
        return false;
    uint64_t state;
    uint64_t slab = sho_slab_of(region, off, &state);
    unsigned cls = SHM_SLAB_CLASS(state);
    if (SHM_SLAB_KIND(state) == SHM_SLAB_RUN) {
        if ((off & (SHM_SLAB_BYTES - 1)) != 0 ||
            SHM_HEADER_KIND(sho_load((sho_word *)(region->base + off))) == SHM_KIND_FREE)
            return false;
        sho_slab_release_run(region, slab, heap->owner);
        sho_store_release(&heap->slot->freeing, 0);
        return true;
    }
    if (!sho_slab_has_blocks(region, slab, state))
        return false;
    uint64_t in_slab = off - (slab << SHM_SLAB_SHIFT);
    unsigned index = block_index_in(cls, in_slab);
    if (!is_in_use(region, cls, index, in_slab, off))
        return false;
    sho_slab_give_chain(region, heap->slot, slab, index + 1, off, 1);
    sho_store_release(&heap->slot->freeing, 0);
    return true;
}

bool sho_heap_give(sho_heap *heap, uint64_t off)
{
    sho_region *region = heap->region;
    uint64_t slab = off >> SHM_SLAB_SHIFT;
    if (SHO_UNLIKELY(off >= atomic_load_explicit(&region->limit, memory_order_relaxed)))
        return give_elsewhere(heap, off);
    struct shm_slab *d = sho_region_slab(region, slab);
    unsigned cls = SHM_SLAB_CLASS(sho_load(&d->state));
    if (SHO_UNLIKELY(cls >= SHO_CLASS_COUNT || heap->current[cls] != slab + 1))
        return give_elsewhere(heap, off);
    uint32_t in_slab = (uint32_t)(off & (SHM_SLAB_BYTES - 1));
    unsigned index = block_index_of(cls, in_slab);
    if (SHO_UNLIKELY(!is_in_use(region, cls, index, in_slab, off)))
        return false;
    uint64_t list = sho_load(&d->private_list);
    link_set(region, cls, off, LIST_HEAD(list));
    /* Release: a crash after this store must not leave a list that leads to an unwritten link. */
    sho_store_release(&d->private_list, LIST(index + 1, LIST_FRESH(list), LIST_COUNT(list) + 1));
    sho_store_release(&heap->slot->freeing, 0);
    return true;
}

void sho_slab_abandon(sho_region *region, struct shm_slot *slot, uint64_t slab)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    uint64_t state = sho_load(&d->state);
    unsigned cls = SHM_SLAB_CLASS(state);
    uint64_t list = sho_load(&d->private_list);
    uint64_t remote = sho_load(&d->remote);
    unsigned flag;
    sho_store_release(&slot->listing, slab + 1);
    sho_store_release(&d->state, SHM_SLAB_STATE(SHM_SLAB_KIND(state), cls, 0, 0));
    (void)sho_fault("slab.abandon");
    do {
        flag = LIST_COUNT(list) + REMOTE_COUNT(remote) > 0 ? SHM_REMOTE_LISTED : SHM_REMOTE_UNLISTED;
    } while (!atomic_compare_exchange_weak_explicit(
        &d->remote, &remote, REMOTE(REMOTE_HEAD(remote), REMOTE_COUNT(remote), flag, REMOTE_TAG(remote) + 1),
        memory_order_acq_rel, memory_order_relaxed));
    if (flag == SHM_REMOTE_LISTED) {
        if (!class_is_node(cls) && LIST_COUNT(list) + REMOTE_COUNT(remote) == block_count_of(cls))
            atomic_fetch_add_explicit(&region->sb->empty_slab_hint, 1, memory_order_relaxed);
        (void)sho_fault("slab.list");
        sho_slab_push(region, cls, slab);
        (void)sho_fault("slab.listed");
    }
    sho_store_release(&slot->listing, 0);
}

void sho_heap_close(sho_heap *heap)
{
    for (unsigned cls = 0; cls < SHO_CLASS_COUNT; cls++)
        if (heap->current[cls] != 0) {
            sho_slab_abandon(heap->region, heap->slot, heap->current[cls] - 1);
            heap->current[cls] = 0;
        }
}

/* A dead owner may have died between two words: what its descriptor says is brought in line with the list it leads to. */
static void repair_private_list(sho_region *region, uint64_t slab)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    unsigned cls = SHM_SLAB_CLASS(sho_load(&d->state));
    uint64_t list = sho_load(&d->private_list);
    unsigned total = block_count_of(cls);
    unsigned fresh = LIST_FRESH(list) < total ? LIST_FRESH(list) : total;
    unsigned count = 0;
    unsigned head = LIST_HEAD(list);
    for (unsigned at = head; at != 0; at = link_get(region, cls, block_off(slab, cls, at - 1)))
        if (at > total || ++count > total) {
            head = count = 0; /* nonsense: drop the list */
            break;
        }
    sho_store(&d->private_list, LIST(head, fresh, count + total - fresh));
}

void sho_slab_adopt(sho_region *region, const bool *is_dead)
{
    uint64_t end = sho_region_slab_count(region);
    uint64_t run_end = 0; /* of the last run that was whole, or slab of blocks */
    for (uint64_t i = region->data_off >> SHM_SLAB_SHIFT; i < end; i++) {
        struct shm_slab *d = sho_region_slab(region, i);
        uint64_t state = sho_load_acquire(&d->state);
        unsigned owner = SHM_SLAB_OWNER(state);
        unsigned cls = SHM_SLAB_CLASS(state);
        bool has_blocks = sho_slab_has_blocks(region, i, state);
        if (SHM_SLAB_KIND(state) == SHM_SLAB_RUN && sho_load_acquire(&d->run_slabs) != 0)
            run_end = i + sho_load(&d->run_slabs);
        else if (has_blocks)
            run_end = i + sho_classes[cls].span;
        if (owner == 0 || owner > SHM_SLOT_MAX || !is_dead[owner])
            continue;
        (void)sho_fault("slab.adopt");
        if (SHM_SLAB_KIND(state) == SHM_SLAB_RUN || SHM_SLAB_KIND(state) == SHM_SLAB_RUN_TAIL) {
            sho_run_adopt(region, i, state, run_end);
            continue;
        }
        if (!has_blocks)
            continue;
        if (sho_load(&d->private_list) == 0) {
            free_empty(region, i, cls, owner); /* it was only just claimed, or about to be freed */
            continue;
        }
        repair_private_list(region, i);
        atomic_fetch_or(&d->lost, SHM_LOST_BLOCKS);
        sho_slab_abandon(region, sho_region_slot(region, owner - 1), i);
    }
}
