/*
 * stat.c: what a store holds, and who is attached to it.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "gc/cycle.h"
#include "txn/session.h"

/* Live object heads among the nodes of a slab: those whose header says so. */
static uint64_t count_objects(sho_region *region, uint64_t slab, const sho_slab_info *info)
{
    uint64_t objects = 0;
    for (unsigned i = 0; i < info->block_count && i < info->fresh_from; i++) {
        uint64_t off = (slab << SHM_SLAB_SHIFT) + (uint64_t)i * info->block_bytes;
        const struct shm_node *node = (const struct shm_node *)(region->base + off);
        objects += SHM_KIND_IS_OBJECT(SHM_HEADER_KIND(sho_load(&node->header)));
    }
    return objects;
}

static void count_slab(sho_region *region, uint64_t slab, shobj_stat *stat)
{
    sho_slab_info info;
    if (sho_slab_info_get(region, slab, &info))
        return;
    stat->slabs += info.kind != SHM_SLAB_FREE;
    stat->free_slabs += info.kind == SHM_SLAB_FREE;
    stat->given_slabs += info.is_given_back;
    if (info.kind == SHM_SLAB_RUN) {
        stat->blocks++;
        stat->used_bytes += info.run_slabs << SHM_SLAB_SHIFT;
    } else if (info.kind == SHM_SLAB_NODES || info.kind == SHM_SLAB_BOXES) {
        uint64_t live = info.free_count < info.block_count ? info.block_count - info.free_count : 0;
        stat->blocks += live;
        stat->used_bytes += live * info.block_bytes;
        if (info.kind == SHM_SLAB_NODES && live > 0)
            stat->objects += count_objects(region, slab, &info);
    }
}

/* ------------------------------------------------------------------------------------------ the collector */

SHOBJ_API void shobj_gc_get(shobj_store *store, shobj_gc *ret_gc)
{
    static const char *const phases[] = {"idle", "arm", "roots", "mark", "kill", "sweep"};
    const struct shm_superblock *sb = store->region->sb;
    uint64_t gc = sho_load_acquire(&sb->gc);
    unsigned phase = SHM_GC_PHASE(gc) < SHO_COUNT_OF(phases) ? SHM_GC_PHASE(gc) : SHM_GC_IDLE;
    *ret_gc = (shobj_gc){
        .cycle = SHM_GC_CYCLE(gc),
        .growth = sho_growth_percent(store->region),
        .began_ns = (int64_t)sho_load(&sb->gc_began_ns),
        .mark_ended_ns = (int64_t)sho_load(&sb->gc_mark_ended_ns),
        .ended_ns = (int64_t)sho_load(&sb->gc_ended_ns),
        .marked = sho_load(&sb->gc_marked),
        .marked_bytes = sho_load(&sb->gc_marked_bytes),
        .freed = sho_load(&sb->gc_freed),
        .freed_bytes = sho_load(&sb->gc_freed_bytes),
        .live_bytes = sho_load(&sb->live_bytes),
        .held_slabs = sho_load(&sb->gc_held_slabs),
        .collections = sho_load(&sb->collections),
        .freed_ever = sho_load(&sb->gc_freed_ever),
        .freed_ever_bytes = sho_load(&sb->gc_freed_ever_bytes),
    };
    snprintf(ret_gc->phase, sizeof(ret_gc->phase), "%s", phases[phase]);
}

/* Objects that the pins of a process record keep. */
static uint64_t count_pins(sho_region *region, unsigned process)
{
    uint64_t pins = 0;
    uint64_t off = sho_load_acquire(&sho_region_process(region, process)->pins);
    sho_id_box box;
    for (uint64_t i = 0; off != 0 && i < sho_region_slab_count(region) * SHM_PROCESS_MAX; i++, off = box.next) {
        if (!sho_id_box_read(region, off, SHM_BOX_PINS, &box))
            break;
        for (uint64_t k = 0; k < box.count; k++)
            pins += sho_load(box.ids + k) != 0;
    }
    return pins;
}

static uint64_t count_holds(sho_region *region, struct shm_slot *slot)
{
    uint64_t end = sho_load_acquire(&slot->hold_count);
    uint64_t count = 0;
    for (uint64_t i = 0; i < end && i < SHM_HOLD_MAX; i++)
        count += sho_load(&slot->holds[i]) != 0;
    uint64_t more = sho_load_acquire(&slot->holds_more);
    sho_id_box box;
    if (more != 0 && sho_id_box_read(region, more, SHM_BOX_HOLDS, &box))
        count += box.count;
    return count;
}

/* Free bytes in the slabs of each owner (slot + 1), and the slab that it has begun to sweep. */
static void count_kept(sho_region *region, uint64_t kept[SHM_SLOT_MAX + 1])
{
    uint64_t slabs = sho_region_slab_count(region);
    memset(kept, 0, (SHM_SLOT_MAX + 1) * sizeof(kept[0]));
    for (uint64_t i = region->data_off >> SHM_SLAB_SHIFT; i < slabs; i++) {
        sho_slab_info info;
        if (sho_slab_info_get(region, i, &info) || info.owner == 0 || info.owner > SHM_SLOT_MAX)
            continue;
        kept[info.owner] += (uint64_t)info.free_count * info.block_bytes;
    }
    for (unsigned i = 0; i < sho_region_slot_count(region); i++) {
        struct shm_slot *slot = sho_region_slot(region, i);
        if (sho_load_acquire(&slot->process) != 0 && sho_load_acquire(&slot->sweeping) != 0)
            kept[i + 1] += SHM_SLAB_BYTES;
    }
}

/* ------------------------------------------------------------------------------------------ the whole store */

SHOBJ_API int shobj_stat_get(shobj_store *store, shobj_stat *ret_stat)
{
    sho_region *region = store->region;
    struct shm_superblock *sb = region->sb;
    struct stat st;
    memset(ret_stat, 0, sizeof(*ret_stat));
    if (fstat(region->fd, &st) < 0 || st.st_ino != region->ino) {
        if (stat(region->path, &st) < 0 || st.st_ino != region->ino)
            return sho_error(SHOBJ_EIO, "asking for the size of %s: its file can't be reached any more", region->path);
    }
    uint64_t slabs = sho_region_slab_count(region);
    for (uint64_t i = region->data_off >> SHM_SLAB_SHIFT; i < slabs; i++)
        count_slab(region, i, ret_stat);
    for (unsigned i = 0; i < sho_region_slot_count(region); i++) {
        struct shm_slot *slot = sho_region_slot(region, i);
        ret_stat->commits += sho_load(&slot->commits);
        ret_stat->conflicts += sho_load(&slot->conflicts);
        ret_stat->retries += sho_load(&slot->retries);
        ret_stat->sessions += sho_load(&slot->process) != 0;
    }
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++)
        if (sho_process_is_live(region, i)) {
            ret_stat->processes++;
            ret_stat->pins += count_pins(region, i);
        }
    uint64_t kept[SHM_SLOT_MAX + 1];
    count_kept(region, kept);
    for (unsigned i = 1; i <= SHM_SLOT_MAX; i++)
        ret_stat->kept_bytes += kept[i];
    shobj_gc_get(store, &ret_stat->gc);
    ret_stat->file_bytes = (uint64_t)st.st_blocks * 512;
    ret_stat->size_bytes = slabs << SHM_SLAB_SHIFT;
    ret_stat->max_bytes = region->max_bytes;
    uint64_t data_bytes = ret_stat->size_bytes - region->data_off - (ret_stat->given_slabs << SHM_SLAB_SHIFT);
    ret_stat->free_bytes = data_bytes > ret_stat->used_bytes ? data_bytes - ret_stat->used_bytes : 0;
    ret_stat->elders = sho_load(&sb->elders);
    ret_stat->recoveries = sho_load(&sb->recoveries);
    ret_stat->clock = sho_load(&sb->clock) / SHM_VERSION_ONE;
    ret_stat->layout_version = sb->layout_version;
    ret_stat->created_ns = sb->created_ns;
    return 0;
}

/* ------------------------------------------------------------------------------------------ sessions */

static uint32_t count_held(sho_region *region, unsigned index, struct shm_slot *slot)
{
    uint32_t held = 0;
    sho_log_walk walk;
    sho_word *record;
    uint64_t lock = SHM_OREC_LOCK(index, SHM_SEQ(sho_load_acquire(&slot->state)));
    sho_log_walk_begin(&walk, region, slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        uint64_t first = sho_load(record);
        if (SHM_RECORD_TYPE(first) != SHM_RECORD_WRITE)
            continue;
        sho_word *node = sho_region_at(region, SHM_RECORD_OFF(first), SHM_NODE_BYTES(1));
        held += node != NULL && sho_load(node) == lock;
    }
    return held;
}

static const char *phase_name(uint64_t state, bool in_transaction)
{
    switch (SHM_PHASE(state)) {
    case SHM_LOCKING:
        return "locking";
    case SHM_ABORTED:
        return "aborted";
    case SHM_COMMITTED:
    case SHM_SINGLE:
        return "committing";
    default:
        return in_transaction ? "active" : "idle";
    }
}

static bool is_alive(shobj_store *store, unsigned process)
{
    sho_region *region = store->region;
    return !region->writable || process == store->peer.process || sho_peer_is_alive(region, process);
}

SHOBJ_API int shobj_sessions(shobj_store *store, int (*each)(const shobj_session_info *info, void *arg), void *arg)
{
    sho_region *region = store->region;
    sho_session *own;
    uint64_t kept[SHM_SLOT_MAX + 1];
    int rc = region->writable ? sho_session_get(store, &own) : 0; /* the caller is one of them */
    count_kept(region, kept);
    for (unsigned i = 0; rc == 0 && i < sho_region_slot_count(region); i++) {
        struct shm_slot *slot = sho_region_slot(region, i);
        uint64_t process = sho_load_acquire(&slot->process);
        if (process == 0 || process > SHM_PROCESS_MAX)
            continue;
        uint64_t state = sho_load_acquire(&slot->state);
        shobj_session_info info = {
            .session = i,
            .process = (uint32_t)process - 1,
            .pid = (int64_t)sho_load(&sho_region_process(region, (unsigned)process - 1)->pid),
            .tid = (int64_t)sho_load(&slot->tid),
            .alive = is_alive(store, (unsigned)process - 1),
            .self = region->writable && process - 1 == store->peer.process,
            .seq = SHM_SEQ(state),
            .commits = sho_load(&slot->commits),
            .conflicts = sho_load(&slot->conflicts),
            .attached_ns = (int64_t)sho_load(&slot->attached_ns),
            .began_ns = (int64_t)sho_load(&slot->began_ns),
            .held_count = count_held(region, i, slot),
            .kept_bytes = kept[i + 1],
            .holds = count_holds(region, slot),
            .pins = count_pins(region, (unsigned)process - 1),
        };
        snprintf(info.state, sizeof(info.state), "%s", phase_name(state, info.began_ns != 0));
        rc = each(&info, arg);
    }
    return rc;
}

SHOBJ_API int shobj_reap(shobj_store *store, unsigned *ret_count)
{
    if (!store->region->writable)
        return sho_error(SHOBJ_EREADONLY, "recovering the dead of %s: this process may not write the file",
                         store->region->path);
    *ret_count = sho_recover_all(store->region);
    return 0;
}
