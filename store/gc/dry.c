/*
 * dry.c: see dry.h.
 */
#include "gc/dry.h"

#include <string.h>

static unsigned say_states(const sho_region *region, uint64_t *ret_said)
{
    unsigned slots = sho_region_slot_count(region);
    for (unsigned i = 0; i < slots; i++) {
        const struct shm_slot *slot = sho_region_slot(region, i);
        ret_said[2 * i] = sho_load_acquire(&slot->state);
        ret_said[2 * i + 1] = sho_load_acquire(&slot->commits);
    }
    return slots;
}

int sho_dry_init(sho_dry *dry, shobj_store *store)
{
    sho_region *region = store->region;
    uint64_t slabs = sho_region_slab_count(region);
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    memset(dry, 0, sizeof(*dry));
    dry->sb = aligned_alloc(_Alignof(struct shm_superblock), sizeof(struct shm_superblock));
    dry->slot = aligned_alloc(_Alignof(struct shm_slot), sizeof(struct shm_slot));
    dry->marks = calloc(slabs, SHM_MARK_BYTES);
    dry->seen = calloc(2 * SHM_SLOT_MAX, sizeof(*dry->seen));
    uint64_t *stack = malloc(SHO_HELPER_STACK * sizeof(*stack));
    if (dry->sb == NULL || dry->slot == NULL || dry->marks == NULL || dry->seen == NULL || stack == NULL) {
        free(stack);
        sho_dry_fini(dry);
        return sho_error(SHOBJ_ENOMEM, "looking through %s: out of memory for marks of %llu slabs", region->path,
                         (unsigned long long)slabs);
    }
    dry->gc = sho_load_acquire(&region->sb->gc);
    dry->seen_count = say_states(region, dry->seen);
    memset(dry->sb, 0, sizeof(*dry->sb));
    memset(dry->slot, 0, sizeof(*dry->slot));
    sho_store(&dry->sb->slab_count, slabs);
    sho_store(&dry->sb->slot_high, sho_load_acquire(&region->sb->slot_high));
    sho_store(&dry->sb->gc, SHM_GC(SHO_DRY_CYCLE, 0, SHM_GC_MARK));
    dry->region = *region;
    dry->region.sb = dry->sb;
    dry->region.marks = dry->marks;
    dry->h = (sho_helper){.s = s, .region = &dry->region, .stack = stack, .gc = sho_load(&dry->sb->gc)};
    dry->h.shader = (sho_shader){.region = &dry->region, .slot = dry->slot, .cycle = SHO_DRY_CYCLE};
    return 0;
}

void sho_dry_fini(sho_dry *dry)
{
    free(dry->h.stack);
    free(dry->seen);
    free(dry->marks);
    free(dry->slot);
    free(dry->sb);
}

bool sho_dry_has_gray(const sho_dry *dry)
{
    return sho_load(&dry->slot->scans) != 0 || dry->h.shader.marked != 0;
}

void sho_dry_mark(sho_dry *dry)
{
    while (sho_mark_scan(&dry->h))
        ;
    dry->h.shader.gray = NULL; /* what is shaded from here on is counted again */
    dry->h.shader.marked = 0;
    sho_store(&dry->slot->scans, 0);
}

bool sho_dry_is_exact(const sho_dry *dry, const shobj_store *store)
{
    uint64_t now[2 * SHM_SLOT_MAX];
    unsigned count = say_states(store->region, now);
    uint64_t gc = sho_load_acquire(&store->region->sb->gc);
    return SHM_GC_CYCLE(gc) == SHM_GC_CYCLE(dry->gc) && SHM_GC_PHASE(gc) == SHM_GC_PHASE(dry->gc) &&
           count == dry->seen_count && memcmp(now, dry->seen, 2 * count * sizeof(now[0])) == 0;
}

/* ------------------------------------------------------------------------------------------ sums */

static void add(sho_dry_count *count, uint64_t bytes, uint64_t header, bool is_node)
{
    unsigned kind = SHM_HEADER_KIND(header);
    if (!is_node && (kind == SHM_BOX_LOG || kind == SHM_BOX_PINS || kind == SHM_BOX_HOLDS)) {
        count->tables++;
        count->table_bytes += bytes;
        return;
    }
    count->blocks++;
    count->bytes += bytes;
    count->objects += is_node && SHM_KIND_IS_OBJECT(kind);
}

static void sum_block(sho_dry *dry, sho_block block, uint64_t off, uint64_t bytes, sho_dry_count *marked,
                      sho_dry_count *garbage)
{
    const sho_word *words = (const sho_word *)(dry->region.base + off);
    uint64_t header = sho_load_acquire(words + block.is_node);
    if (SHM_HEADER_KIND(header) == SHM_KIND_FREE)
        return;
    if (sho_mark_get(&dry->region, SHO_DRY_CYCLE, block) != SHO_WHITE)
        add(marked, bytes, header, block.is_node);
    else if (garbage != NULL && !sho_slab_in_transit(&dry->region, block.slab, off))
        add(garbage, bytes, header, block.is_node);
}

void sho_dry_sum(sho_dry *dry, sho_dry_count *ret_marked, sho_dry_count *ret_garbage)
{
    uint64_t slabs = sho_region_slab_count(&dry->region);
    *ret_marked = (sho_dry_count){0};
    if (ret_garbage != NULL)
        *ret_garbage = (sho_dry_count){0};
    for (uint64_t i = dry->region.data_off >> SHM_SLAB_SHIFT; i < slabs; i++) {
        sho_slab_info info;
        uint64_t first = i << SHM_SLAB_SHIFT;
        if (sho_slab_info_get(&dry->region, i, &info))
            continue;
        if (info.kind == SHM_SLAB_RUN && info.owner == 0)
            sum_block(dry, (sho_block){.slab = i}, first, info.run_slabs << SHM_SLAB_SHIFT, ret_marked, ret_garbage);
        if (info.kind != SHM_SLAB_NODES && info.kind != SHM_SLAB_BOXES)
            continue;
        for (unsigned k = 0; k < info.block_count && k < info.fresh_from; k++)
            sum_block(dry, (sho_block){.slab = i, .index = k, .is_node = info.kind == SHM_SLAB_NODES},
                      first + (uint64_t)k * info.block_bytes, info.block_bytes, ret_marked, ret_garbage);
    }
}
