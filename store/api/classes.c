/*
 * classes.c: what of the memory in use is really used, for each size of blocks.
 */
#include "heap/slab.h"
#include "txn/session.h"

typedef struct counted {
    shobj_class classes[SHO_CLASS_COUNT + 1]; /* the allocator's, and runs */
    unsigned count;
} counted;

static shobj_class *find(counted *all, bool is_node, uint64_t block_bytes)
{
    for (unsigned i = 0; i < all->count; i++)
        if (all->classes[i].is_node == is_node && all->classes[i].block_bytes == block_bytes)
            return &all->classes[i];
    if (all->count == SHO_COUNT_OF(all->classes))
        return NULL;
    shobj_class *c = &all->classes[all->count++];
    *c = (shobj_class){.is_node = is_node, .block_bytes = block_bytes};
    return c;
}

static void count(sho_region *region, uint64_t slab, counted *all)
{
    sho_slab_info info;
    if (sho_slab_info_get(region, slab, &info))
        return;
    bool is_run = info.kind == SHM_SLAB_RUN;
    if (!is_run && info.kind != SHM_SLAB_NODES && info.kind != SHM_SLAB_BOXES)
        return;
    shobj_class *c = find(all, info.kind == SHM_SLAB_NODES, is_run ? 0 : info.block_bytes);
    if (c == NULL)
        return;
    unsigned free_count = info.free_count < info.block_count ? info.free_count : info.block_count;
    unsigned used = info.block_count - free_count;
    c->slabs += info.run_slabs;
    c->used += used;
    c->free += free_count;
    c->used_bytes += is_run ? info.run_slabs << SHM_SLAB_SHIFT : (uint64_t)used * info.block_bytes;
    c->free_bytes += (uint64_t)free_count * info.block_bytes;
}

static int by_size(const void *a, const void *b)
{
    const shobj_class *x = a, *y = b;
    if (x->is_node != y->is_node)
        return x->is_node ? -1 : 1;
    uint64_t left = x->block_bytes - 1, right = y->block_bytes - 1; /* runs, of 0 bytes, are the last */
    return left < right ? -1 : left > right;
}

SHOBJ_API int shobj_classes(shobj_store *store, int (*each)(const shobj_class *info, void *arg), void *arg)
{
    sho_region *region = store->region;
    counted all;
    int rc = 0;
    uint64_t slabs = sho_region_slab_count(region);
    all.count = 0;
    for (uint64_t i = region->data_off >> SHM_SLAB_SHIFT; i < slabs; i++)
        count(region, i, &all);
    qsort(all.classes, all.count, sizeof(all.classes[0]), by_size);
    for (unsigned i = 0; i < all.count && rc == 0; i++)
        rc = each(&all.classes[i], arg);
    return rc;
}
