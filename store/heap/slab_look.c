/*
 * slab_look.c: what a slab holds, for those who only look: from its descriptor, which its owner may be changing, and which may be
 * damaged. Nothing here believes more than it has checked.
 */
#include "base/error.h"
#include "heap/slab_inner.h"

int sho_slab_info_get(sho_region *region, uint64_t slab, sho_slab_info *ret_info)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    uint64_t state = sho_load_acquire(&d->state);
    unsigned cls = SHM_SLAB_CLASS(state);
    *ret_info = (sho_slab_info){
        .slab = slab, .kind = SHM_SLAB_KIND(state), .cls = cls, .owner = SHM_SLAB_OWNER(state), .run_slabs = 1};
    switch (ret_info->kind) {
    case SHM_SLAB_FREE:
        ret_info->is_given_back = sho_load(&d->given) & SHM_GIVEN_BACK;
        return 0;
    case SHM_SLAB_META:
    case SHM_SLAB_RUN_TAIL:
        return 0;
    case SHM_SLAB_RUN:
        ret_info->run_slabs = sho_load(&d->run_slabs);
        ret_info->block_count = 1;
        return 0;
    case SHM_SLAB_NODES:
    case SHM_SLAB_BOXES:
        if (!sho_slab_has_blocks(region, slab, state))
            return SHOBJ_ECORRUPT;
        ret_info->run_slabs = sho_classes[cls].span;
        ret_info->block_bytes = sho_classes[cls].bytes;
        ret_info->block_count = block_count_of(cls);
        ret_info->fresh_from = LIST_FRESH(sho_load(&d->private_list));
        ret_info->free_count = LIST_COUNT(sho_load(&d->private_list)) + REMOTE_COUNT(sho_load(&d->remote));
        return 0;
    default:
        return SHOBJ_ECORRUPT;
    }
}

int sho_slab_find(sho_region *region, uint64_t off, sho_slab_info *ret_info, unsigned *ret_index)
{
    uint64_t state;
    if (off < region->data_off || off >> SHM_SLAB_SHIFT >= sho_region_slab_count(region) ||
        sho_slab_info_get(region, sho_slab_of(region, off, &state), ret_info))
        return SHOBJ_ECORRUPT;
    uint64_t in_slab = off - (ret_info->slab << SHM_SLAB_SHIFT);
    if (ret_info->kind == SHM_SLAB_RUN) {
        *ret_index = 0;
        return in_slab == 0 ? 0 : SHOBJ_ECORRUPT;
    }
    if (ret_info->kind != SHM_SLAB_NODES && ret_info->kind != SHM_SLAB_BOXES)
        return SHOBJ_ECORRUPT;
    *ret_index = block_index_in(ret_info->cls, in_slab);
    return *ret_index < ret_info->block_count && *ret_index * ret_info->block_bytes == in_slab ? 0 : SHOBJ_ECORRUPT;
}

/* One list: each block on it is marked. The number of blocks, or -1 with *ret_what. */
static int walk_list(sho_region *region, uint64_t slab, unsigned head, uint8_t *on_list, const char **ret_what)
{
    unsigned cls = SHM_SLAB_CLASS(sho_load(&sho_region_slab(region, slab)->state));
    int count = 0;
    for (unsigned at = head; at != 0; count++) {
        if (at > block_count_of(cls)) {
            *ret_what = "a free list leads out of the slab";
            return -1;
        }
        if (on_list[at - 1]++) {
            *ret_what = "a block is on its free lists twice";
            return -1;
        }
        uint64_t off = block_off(slab, cls, at - 1);
        const sho_word *words = (const sho_word *)(region->base + off);
        if (SHM_HEADER_KIND(sho_load(words + class_is_node(cls))) != SHM_KIND_FREE) {
            *ret_what = "a block on a free list does not say that it is free";
            return -1;
        }
        at = link_get(region, cls, off);
    }
    return count;
}

const char *sho_slab_list_check(sho_region *region, uint64_t slab, bool (*is_used)(void *arg, uint64_t off), void *arg)
{
    uint8_t on_list[SHM_SLAB_BYTES / 16] = {0};
    struct shm_slab *d = sho_region_slab(region, slab);
    unsigned cls = SHM_SLAB_CLASS(sho_load(&d->state));
    uint64_t list = sho_load(&d->private_list);
    uint64_t remote = sho_load_acquire(&d->remote);
    unsigned total = block_count_of(cls);
    const char *what = NULL;
    int own = walk_list(region, slab, LIST_HEAD(list), on_list, &what);
    int others = own < 0 ? -1 : walk_list(region, slab, REMOTE_HEAD(remote), on_list, &what);
    if (others < 0)
        return what;
    if (LIST_FRESH(list) > total)
        return "it counts more blocks than it has";
    if ((unsigned)own + total - LIST_FRESH(list) != LIST_COUNT(list))
        return "its count of free blocks differs from its list";
    if ((unsigned)others != REMOTE_COUNT(remote))
        return "its count of blocks freed by others differs from their list";
    for (unsigned i = 0; is_used != NULL && i < total; i++)
        if ((on_list[i] || i >= LIST_FRESH(list)) && is_used(arg, block_off(slab, cls, i)))
            return "a block in use is on a free list";
    return NULL;
}
