/*
 * slab.h: blocks of memory: nodes and boxes of size classes out of slabs of 64 KiB or several of them, large boxes as runs of
 * slabs.
 */
#ifndef SHO_SLAB_H
#define SHO_SLAB_H

#include "heap/region.h"

#define SHO_NODE_CLASS_COUNT 21u
#define SHO_BOX_CLASS_COUNT 93u
#define SHO_CLASS_COUNT (SHO_NODE_CLASS_COUNT + SHO_BOX_CLASS_COUNT) /* node classes first */
#define SHO_BOX_SLAB_BYTES_MAX 32768u /* the largest class out of one slab; above: wide slabs and runs (slab_run.c) */

/* A session's place in the allocator: the one slab of each class that it owns now (slab + 1, 0: none). */
typedef struct sho_heap {
    sho_region *region;
    unsigned owner;        /* slot + 1 */
    struct shm_slot *slot; /* says what is being taken and freed */
    bool may_reserve;      /* the slabs that are being taken may be the last ones */
    uint64_t gc_seen;      /* the collector's word when the block that is being taken was marked */
    uint64_t wide;         /* the wide slab + 1 that it is taken from; 0: none */
    uint32_t current[SHO_CLASS_COUNT];
} sho_heap;

/* A free node of at least `words` payload words: its header says SHM_KIND_FREE, its orec is the version it was freed at. EFULL. */
int sho_heap_take_node(sho_heap *heap, unsigned words, uint64_t *ret_off, unsigned *ret_words);

/* A free box of at least `bytes` payload bytes; its header still says SHM_KIND_FREE. EFULL. */
int sho_heap_take_box(sho_heap *heap, uint64_t bytes, uint64_t *ret_off);

/* The last slabs of a store are kept for those who make room (README.md): how many. */
SHO_INLINE uint64_t sho_slab_reserve(const sho_region *region)
{
    uint64_t slabs = (region->max_bytes - region->data_off) >> SHM_SLAB_SHIFT;
    return slabs < 16 ? 0 : slabs < 32 ? 1 : slabs < 64 * 32 ? slabs / 32 : 64;
}

/* The same for a box that fills one slab, which may be one of those. To be given back soon. */
int sho_heap_take_reserved(sho_heap *heap, uint64_t *ret_off);

/* The block just taken has its header and is named where the collector looks: it is no longer in transit. */
void sho_heap_taken(sho_heap *heap, uint64_t off);

/* The caller is going to wipe the last name of a block and then to give it back: from here on the collector leaves it alone,
 * until the end of the sho_heap_give(). */
SHO_INLINE void sho_heap_freeing(sho_heap *heap, uint64_t off)
{
    /* Before the name is wiped (release there); pairs with the collector's reading logs first. */
    sho_store(&heap->slot->freeing, off);
}

/* Gives a block back. The header of a node is set FREE by the caller (with its orec); a box's here. False if off is no
 * block that could be in use (damage): nothing was done. */
bool sho_heap_give(sho_heap *heap, uint64_t off);

/* Releases the owned slabs to all. */
void sho_heap_close(sho_heap *heap);

/* Finds a place for the slabs that a dead session had in transit. First of all that touches its part of the allocator. */
void sho_slab_settle(sho_region *region, struct shm_slot *slot);

/* Releases the slabs of dead owners: is_dead[owner] for owner in 1..SHM_SLOT_MAX. */
void sho_slab_adopt(sho_region *region, const bool *is_dead);

/* Frees every slab that holds no live block, those of nodes too: only while nobody is attached. */
void sho_slab_reclaim_all(sho_heap *heap);

/* Gives the memory of free slabs back to the system (trim.c): only while nobody is attached. *ret_bytes: how much. EIO. */
int sho_slab_trim(sho_region *region, uint64_t *ret_bytes);

/* What a slab holds, from its descriptor (counts are exact when its owner stands still). */
typedef struct sho_slab_info {
    uint64_t slab;
    unsigned kind; /* enum shm_slab_kind */
    unsigned cls;
    unsigned block_bytes;
    unsigned block_count;
    unsigned free_count;
    unsigned owner;
    unsigned fresh_from; /* blocks from here on were never used */
    uint64_t run_slabs; /* how many neighbouring slabs it takes */
    bool is_given_back; /* a free one, without memory */
} sho_slab_info;

/* ECORRUPT if the descriptor is nonsense. */
int sho_slab_info_get(sho_region *region, uint64_t slab, sho_slab_info *ret_info);

/* The slab that holds off as a block start (of a wide slab the first one); the block's index. ECORRUPT if off is no block start
 * in a used slab. */
int sho_slab_find(sho_region *region, uint64_t off, sho_slab_info *ret_info, unsigned *ret_index);

/* Of the `count` slabs from `slab` on, a run or a wide slab, the first that is not marked as a tail of it; 0: all are. */
uint64_t sho_run_gap(const sho_region *region, uint64_t slab, uint64_t count);

/* Sweeps one slab (slab_sweep.c): frees its blocks that the cycle of `gc`, the collector's word, has not marked. */
enum sho_swept { SHO_SWEPT, SHO_SWEPT_BUSY, SHO_SWEPT_LATE }; /* BUSY: another one is at it; LATE: that cycle is over */
typedef struct sho_sweep_count {
    uint64_t freed, freed_bytes, kept, kept_bytes;
} sho_sweep_count;
enum sho_swept sho_slab_sweep(sho_heap *heap, uint64_t slab, uint64_t gc, sho_sweep_count *count);

/* Could the session that owns the block's slab be about to finish taking it? */
bool sho_slab_in_transit(const sho_region *region, uint64_t slab, uint64_t off);

/* Raises the orec of a free or dying node above all who have read it. False if it is locked. */
bool sho_orec_raise(const sho_region *region, struct shm_node *node);

/* Verifies a slab's free lists while nobody works on it: links, counts, headers; is_used (may be NULL) tells of blocks that
 * must not be on them. What is wrong, or NULL. */
const char *sho_slab_list_check(sho_region *region, uint64_t slab, bool (*is_used)(void *arg, uint64_t off), void *arg);

/* Verifies the stack of partial slabs of a class while nobody works on it: what is wrong, and at which slab, or NULL. */
const char *sho_slab_stack_check(sho_region *region, unsigned cls, uint64_t *ret_slab);

/* The head of that stack, which changes with whatever happens to it. */
uint64_t sho_slab_stack_head(const sho_region *region, unsigned cls);

#endif
