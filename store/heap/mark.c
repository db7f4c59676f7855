/*
 * mark.c: see mark.h for the idea.
 *
 * M1 Bits of one cycle are only added. M2 A word's tag only goes forward, counted modulo 2^16 from one end of a window of
 * 2^15 cycles. Both by compare-and-swap from the word that was judged: whoever is late finds another one.
 */
#include "heap/mark.h"

#include "base/error.h"

#define TAGGED(cycle) ((uint64_t)(uint16_t)(cycle) << SHM_MARK_BITS)

static bool is_later(uint64_t word, uint32_t cycle)
{
    return (int16_t)(SHO_MARK_TAG(word) - (uint16_t)cycle) > 0;
}

bool sho_mark_raise(const sho_region *region, uint32_t cycle, sho_block block, enum sho_colour colour)
{
    unsigned shift;
    sho_word *at = sho_mark_word(region, block, &shift);
    uint64_t bits = (uint64_t)(block.is_node ? (unsigned)colour : 1u) << shift;
    uint64_t word = sho_load_acquire(at);
    for (;;) {
        uint64_t base = word;
        if (SHO_UNLIKELY(SHO_MARK_TAG(word) != (uint16_t)cycle)) {
            if (is_later(word, cycle))
                return false;
            base = TAGGED(cycle);
        }
        if ((base & bits) == bits)
            return false;
        if (atomic_compare_exchange_weak(at, &word, base | bits))
            return true;
    }
}

void sho_mark_renew(sho_word *at, uint32_t cycle)
{
    uint64_t word = sho_load_acquire(at);
    while (SHO_MARK_TAG(word) != (uint16_t)cycle && !is_later(word, cycle) &&
           !atomic_compare_exchange_weak(at, &word, TAGGED(cycle)))
        ;
}

int sho_block_find(sho_region *region, uint64_t off, sho_block *ret_block, uint64_t *ret_header)
{
    sho_slab_info info;
    unsigned index;
    if (sho_slab_find(region, off, &info, &index))
        return SHOBJ_ECORRUPT;
    bool is_node = info.kind == SHM_SLAB_NODES;
    if (is_node && (off & 15) != 0)
        return SHOBJ_ECORRUPT;
    const sho_word *words = (const sho_word *)(region->base + off);
    uint64_t header = sho_load_acquire(words + is_node);
    unsigned kind = SHM_HEADER_KIND(header);
    if (kind == SHM_KIND_FREE || (is_node ? SHM_NODE_BYTES(SHM_NODE_WORDS(header)) > info.block_bytes
                                          : kind < SHM_BOX_FLOAT))
        return SHOBJ_ECORRUPT;
    if (!is_node) {
        uint64_t room = info.kind == SHM_SLAB_RUN ? info.run_slabs << SHM_SLAB_SHIFT : info.block_bytes;
        if (SHM_BOX_BYTES_OF(header) > room - sizeof(struct shm_box) ||
            sho_region_at(region, off, sizeof(struct shm_box) + SHM_BOX_BYTES_OF(header)) == NULL)
            return SHOBJ_ECORRUPT;
    }
    *ret_block = (sho_block){.slab = info.slab, .index = index, .is_node = is_node};
    *ret_header = header;
    return 0;
}
