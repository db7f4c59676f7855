/*
 * mark.h: what the collector knows of each block: white, gray or black.
 *
 * The marks stand in a table of their own, never in the blocks. A word of it holds 48 bits under the low 16 bits of the
 * cycle that they belong to: one bit for a box, two for a node. A word of an earlier cycle counts as white all over,
 * so that a new cycle begins without clearing anything; in a word of a later cycle nothing can be changed any more, so that
 * one who comes late does no harm. Sweeping renews the words of every slab in use, so that no cycle number comes back
 * before its words have gone.
 */
#ifndef SHO_MARK_H
#define SHO_MARK_H

#include "heap/slab.h"

enum sho_colour { SHO_WHITE = 0, SHO_GRAY = 1, SHO_BLACK = 3 }; /* of a box: white or black */

#define SHO_MARK_TAG(word) ((uint16_t)((word) >> SHM_MARK_BITS))
#define SHO_MARK_NODES_PER_WORD 24u
#define SHO_MARK_BOXES_PER_WORD 48u
#define SHO_MARK_GRAY_BITS 0x0000555555555555ULL /* the low bit of each node */

/* A block as the marks know it. */
typedef struct sho_block {
    uint64_t slab;
    unsigned index;
    bool is_node;
} sho_block;

SHO_INLINE sho_word *sho_mark_word(const sho_region *region, sho_block block, unsigned *ret_shift)
{
    unsigned at = block.is_node ? block.index / SHO_MARK_NODES_PER_WORD : block.index / SHO_MARK_BOXES_PER_WORD;
    *ret_shift = block.is_node ? block.index % SHO_MARK_NODES_PER_WORD * 2 : block.index % SHO_MARK_BOXES_PER_WORD;
    return sho_region_marks(region, block.slab) + at;
}

SHO_INLINE enum sho_colour sho_mark_get(const sho_region *region, uint32_t cycle, sho_block block)
{
    unsigned shift;
    /* Acquire: pairs with the swap in sho_mark_raise. */
    uint64_t word = sho_load_acquire(sho_mark_word(region, block, &shift));
    if (SHO_MARK_TAG(word) != (uint16_t)cycle)
        return SHO_WHITE;
    if (block.is_node)
        return (enum sho_colour)(word >> shift & 3);
    return word >> shift & 1 ? SHO_BLACK : SHO_WHITE;
}

/* Makes a block at least this dark in a cycle. True if it was lighter. A full barrier if so. False and no effect if its word has
 * gone over to a later cycle. */
bool sho_mark_raise(const sho_region *region, uint32_t cycle, sho_block block, enum sho_colour colour);

/* Brings a word that has been left behind up to a cycle, all white. */
void sho_mark_renew(sho_word *word, uint32_t cycle);

/* The block at off, if it is one in a used slab and not free: its header. ECORRUPT. */
int sho_block_find(sho_region *region, uint64_t off, sho_block *ret_block, uint64_t *ret_header);

#endif
