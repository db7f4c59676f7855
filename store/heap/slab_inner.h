/*
 * slab_inner.h: the packed words of a slab's descriptor and of its free blocks, as the allocator's own files see them.
 */
#ifndef SHO_SLAB_INNER_H
#define SHO_SLAB_INNER_H

#include "heap/slab.h"

/* A class: the bytes of its blocks, what makes of an offset in a slab an index, how many blocks a slab holds, and how many
 * neighbouring 64 KiB slabs make one. */
typedef struct sho_class {
    uint32_t bytes;
    uint32_t reciprocal; /* 2^32 / bytes, rounded up: exact for offsets below 2^16, since the error stays below offset / 2^16 */
    uint16_t count;
    uint16_t span;
} sho_class;
extern const sho_class sho_classes[SHO_CLASS_COUNT];

SHO_INLINE uint32_t block_index_of(unsigned cls, uint32_t off_in_slab)
{
    return (uint32_t)((uint64_t)off_in_slab * sho_classes[cls].reciprocal >> 32);
}

SHO_INLINE unsigned block_count_of(unsigned cls)
{
    return sho_classes[cls].count;
}

/* The same for any offset in a slab, wide or not. */
SHO_INLINE unsigned block_index_in(unsigned cls, uint64_t off_in_slab)
{
    if (SHO_LIKELY(sho_classes[cls].span == 1))
        return block_index_of(cls, (uint32_t)off_in_slab);
    return (unsigned)off_in_slab / sho_classes[cls].bytes;
}

SHO_INLINE bool class_is_node(unsigned cls)
{
    return cls < SHO_NODE_CLASS_COUNT;
}

/* What a slab of a class says of itself. */
SHO_INLINE uint64_t slab_state(unsigned cls, unsigned owner)
{
    return SHM_SLAB_STATE(class_is_node(cls) ? SHM_SLAB_NODES : SHM_SLAB_BOXES, cls, owner, 0);
}

/* Does this state tell of a slab of blocks, with all of its span in the file? */
SHO_INLINE bool sho_slab_has_blocks(sho_region *region, uint64_t slab, uint64_t state)
{
    unsigned cls = SHM_SLAB_CLASS(state);
    if (cls >= SHO_CLASS_COUNT || SHM_SLAB_KIND(state) != (class_is_node(cls) ? SHM_SLAB_NODES : SHM_SLAB_BOXES))
        return false;
    return SHO_LIKELY(sho_classes[cls].span == 1) || sho_classes[cls].span <= sho_region_slab_count(region) - slab;
}

/* ------------------------------------------------------------------------------------------ packed words */

#define LIST(head, fresh, count)                                                                   \
    ((uint64_t)(head) | (uint64_t)(fresh) << 16 | (uint64_t)(count) << 32)
#define LIST_HEAD(w) ((unsigned)((w)&0xffff))
#define LIST_FRESH(w) ((unsigned)((w) >> 16 & 0xffff))
#define LIST_COUNT(w) ((unsigned)((w) >> 32 & 0xffff))

#define REMOTE(head, count, flag, tag)                                                             \
    ((uint64_t)(head) | (uint64_t)(count) << 16 | (uint64_t)(flag) << 32 | (uint64_t)(tag) << 40)
#define REMOTE_HEAD(w) ((unsigned)((w)&0xffff))
#define REMOTE_COUNT(w) ((unsigned)((w) >> 16 & 0xffff))
#define REMOTE_FLAG(w) ((unsigned)((w) >> 32 & 0xff))
#define REMOTE_TAG(w) ((unsigned)((w) >> 40 & 0xffffff))

#define STACK(slab, tag) ((uint64_t)(slab) | (uint64_t)(tag) << 32)
#define STACK_SLAB(w) ((uint32_t)(w))
#define STACK_TAG(w) ((uint32_t)((w) >> 32))

SHO_INLINE uint64_t block_off(uint64_t slab, unsigned cls, unsigned index)
{
    return (slab << SHM_SLAB_SHIFT) + (uint64_t)index * sho_classes[cls].bytes;
}

/* The link of a free block: index + 1 of the next one. */
SHO_INLINE unsigned link_get(const sho_region *region, unsigned cls, uint64_t off)
{
    const sho_word *w = (const sho_word *)(region->base + off);
    return class_is_node(cls) ? (unsigned)sho_load(w + 2) & 0xffff : (unsigned)(sho_load(w) >> 16 & 0xffff);
}

SHO_INLINE void link_set(const sho_region *region, unsigned cls, uint64_t off, unsigned link)
{
    sho_word *w = (sho_word *)(region->base + off);
    if (class_is_node(cls))
        sho_store(w + 2, link);
    else
        sho_store(w, (uint64_t)link << 16 | SHM_KIND_FREE);
}

/* sweep: cycle << 16 | slot + 1 of who sweeps it; 0 there: swept in that cycle, or new since. */
#define SWEEP(cycle, sweeper) ((uint64_t)(cycle) << 16 | (uint64_t)(sweeper))
#define SWEEP_CYCLE(w) ((uint32_t)((w) >> 16))
#define SWEEP_BY(w) ((unsigned)((w)&0xffff))

/* Makes a slab that its owner leaves (or died with) everybody's. The slot, here and below, is that of who does it, or of the
 * dead for whom he does it: it names the slab as long as that is in transit (slab_stack.c). */
void sho_slab_abandon(sho_region *region, struct shm_slot *slot, uint64_t slab);

/* Takes a partial slab from the stack of a class: slab + 1, or 0. It is the caller's, who still names it. */
uint32_t sho_slab_pop(sho_region *region, struct shm_slot *slot, unsigned cls);
/* A damaged stack: its slabs are lost until a repair. */
void sho_slab_drop_stack(sho_region *region, unsigned cls);

/* Puts a slab that the caller names on its stack. */
void sho_slab_push(sho_region *region, unsigned cls, uint64_t slab);

/* Puts a slab that has been popped aside, and all of those back on their stacks. */
void sho_slab_keep(sho_region *region, struct shm_slot *slot, uint64_t slab);
void sho_slab_put_back(sho_region *region, struct shm_slot *slot);

/* Lists a slab that the caller names, if it is nobody's and on no stack. False if that could not be told. */
bool sho_slab_relist(sho_region *region, struct shm_slot *slot, uint64_t slab);

/* Finds the blocks of an own slab that are on no list, though nobody has them. */
void sho_slab_mend(sho_heap *heap, uint64_t slab);

/* The same for all partial slabs of a class: takes each off its stack, and puts it back. */
void sho_slab_mend_listed(sho_heap *heap, unsigned cls);

/* Frees the slabs of all empty slabs of boxes. Were there any? */
bool sho_slab_reclaim_boxes(sho_heap *heap);

/* A chain of free blocks of one slab, linked already, goes to who owns the slab or to all. */
void sho_slab_give_chain(sho_region *region, struct shm_slot *slot, uint64_t slab, unsigned head, uint64_t tail_off,
                         unsigned count);

/* ------------------------------------------------------------------------------------------ slab_run.c */

/* Claims `count` neighbouring slabs: the first one with this state, the others as its tails. EFULL. */
int sho_slab_obtain(sho_heap *heap, uint64_t count, uint64_t first_state, uint64_t *ret_first);

/* Frees a slab that is the caller's. */
void sho_slab_free(sho_region *region, uint64_t slab);

/* An own run of so many slabs, without a value. EFULL. */
int sho_run_obtain(sho_heap *heap, uint64_t count, uint64_t *ret_first);

/* Frees the slabs of a run; `owner` (slot + 1) does it, or died doing it. */
void sho_slab_release_run(sho_region *region, uint64_t slab, unsigned owner);

/* An own wide slab, all of it free. EFULL, also where it would take too much of what is left. */
int sho_wide_obtain(sho_heap *heap, unsigned cls, uint64_t *ret_slab);

/* Frees the slabs of a wide slab without blocks in use that `owner` owns. */
void sho_wide_release(sho_region *region, uint64_t slab, unsigned cls, unsigned owner);

/* A RUN or RUN_TAIL whose state names a dead owner; run_end: where the last whole run or wide slab before it ends. */
void sho_run_adopt(sho_region *region, uint64_t slab, uint64_t state, uint64_t run_end);

/* The slab that has the block at off (below the end), and its state: for a tail of a wide slab the first one. */
uint64_t sho_slab_of(sho_region *region, uint64_t off, uint64_t *ret_state);

#endif
