/*
 * check_tables.c: the part of the check that is not about objects: slabs, free lists, locks, sessions.
 *
 * These change without locks under our eyes while others work. So what looks wrong is looked at again, and told only if it
 * stands still being wrong; and what an owner at work changes by itself is left alone: a slab that a live session owns.
 */
#include <string.h>

#include "api/check.h"

#define LOOKS 100

static bool is_reachable(void *arg, uint64_t off)
{
    return sho_check_is_seen(arg, off);
}

/* ------------------------------------------------------------------------------------------ slabs */

/* Is the slab's owner somebody? Sessions come and go meanwhile: it counts only if the slab still names the same one. */
static bool has_owner(sho_checker *c, uint64_t slab)
{
    for (int i = 0; i < LOOKS; i++) {
        sho_slab_info before, after;
        if (sho_slab_info_get(c->region, slab, &before) || before.owner == 0)
            return true;
        bool used = before.owner <= sho_region_slot_count(c->region) &&
                    sho_load_acquire(&sho_region_slot(c->region, before.owner - 1)->process) != 0;
        if (used)
            return true;
        if (sho_slab_info_get(c->region, slab, &after) || after.owner != before.owner)
            continue;
        return false;
    }
    return true;
}

/* A header of a node or a box, and the lock of a node. What is wrong, or NULL. */
static const char *look_at_block(sho_checker *c, const sho_slab_info *info, uint64_t off)
{
    sho_word *words = (sho_word *)(c->region->base + off);
    if (info->kind == SHM_SLAB_BOXES) {
        uint64_t header = sho_load_acquire(words);
        unsigned kind = SHM_HEADER_KIND(header);
        if (kind != SHM_KIND_FREE && kind < SHM_BOX_FLOAT)
            return "a block of no known kind among those of values";
        if (kind != SHM_KIND_FREE && sizeof(struct shm_box) + SHM_BOX_BYTES_OF(header) > info->block_bytes)
            return "a value that is longer than its block";
        return NULL;
    }
    struct shm_node *node = (struct shm_node *)words;
    uint64_t header = sho_load_acquire(&node->header);
    unsigned kind = SHM_HEADER_KIND(header);
    if (kind >= SHM_BOX_FLOAT && kind != SHM_DYING) /* a collection is about to free that */
        return "a block of values among the nodes";
    if (kind != SHM_KIND_FREE && SHM_NODE_BYTES(SHM_NODE_WORDS(header)) != info->block_bytes)
        return "a node of another size than its block";
    if (sho_lock_is_nobodys(c->s, node))
        return "a node with a lock that nobody holds";
    return NULL;
}

static void check_blocks(sho_checker *c, uint64_t slab, const sho_slab_info *info)
{
    unsigned end = info->fresh_from < info->block_count ? info->fresh_from : info->block_count;
    for (unsigned i = 0; i < end; i++) {
        uint64_t off = (slab << SHM_SLAB_SHIFT) + (uint64_t)i * info->block_bytes;
        const char *what = look_at_block(c, info, off);
        for (int looks = 0; what != NULL && looks < LOOKS; looks++)
            what = look_at_block(c, info, off);
        if (what != NULL)
            sho_check_say(c, "block 0x%llx: %s", (unsigned long long)off, what);
    }
}

/* A run or a wide slab has all of its slabs. Of a run that was being given back when its session died the last may be gone:
 * the next sweep goes on. */
static void check_span(sho_checker *c, uint64_t slab, const sho_slab_info *info)
{
    uint64_t end = sho_region_slab_count(c->region);
    if (info->run_slabs == 0 || info->run_slabs > end - slab) {
        sho_check_say(c, "slab %llu: a run of %llu slabs reaches over the end", (unsigned long long)slab,
                      (unsigned long long)info->run_slabs);
        return;
    }
    uint64_t gap = 0;
    for (int looks = 0; looks < LOOKS; looks++) {
        sho_slab_info after;
        gap = sho_run_gap(c->region, slab, info->run_slabs);
        if (gap == 0 || sho_slab_info_get(c->region, slab, &after) || after.kind != info->kind || after.cls != info->cls ||
            after.run_slabs != info->run_slabs)
            return;
        if (info->kind == SHM_SLAB_RUN && gap == slab + info->run_slabs - 1 &&
            !sho_check_is_seen(c, slab << SHM_SLAB_SHIFT))
            return;
    }
    sho_check_say(c, "slab %llu: inside the run of slab %llu, and not marked so", (unsigned long long)gap,
                  (unsigned long long)slab);
    /* Whether a value fits is asked of those that are reachable (check.c): one that was being freed when its session died has
     * given slabs back already. */
}

/* Has a tail no run or wide slab that it belongs to, nor somebody who is about to make or free one? */
static bool is_tail_of_none(sho_checker *c, uint64_t slab)
{
    const struct shm_slab *d = sho_region_slab(c->region, slab);
    uint64_t state = sho_load_acquire(&d->state);
    uint64_t first = sho_load_acquire(&d->run_slabs);
    unsigned owner = SHM_SLAB_OWNER(state);
    sho_slab_info info;
    bool is_of_none;
    if (first == 0)
        is_of_none = owner == 0 || owner > sho_region_slot_count(c->region) ||
                     sho_load_acquire(&sho_region_slot(c->region, owner - 1)->process) == 0;
    else if (first >= slab || sho_slab_info_get(c->region, first, &info))
        is_of_none = true;
    else if (info.kind == SHM_SLAB_RUN)
        is_of_none = info.owner == 0 && slab - first >= info.run_slabs;
    else
        is_of_none = info.kind != SHM_SLAB_BOXES || slab - first >= info.run_slabs;
    return is_of_none && sho_load_acquire(&d->state) == state && sho_load_acquire(&d->run_slabs) == first;
}

static void check_tail(sho_checker *c, uint64_t slab)
{
    for (int looks = 0; looks < LOOKS; looks++)
        if (!is_tail_of_none(c, slab))
            return;
    sho_check_say(c, "slab %llu: part of a run, and there is none that it belongs to", (unsigned long long)slab);
}

/* A slab that no live session works on, as long as it stays so. */
static void check_list(sho_checker *c, uint64_t slab)
{
    const char *what = NULL;
    for (int looks = 0; looks < 3; looks++)
        if ((what = sho_slab_list_check(c->region, slab, c->exact ? is_reachable : NULL, c)) == NULL)
            return;
    if (what != NULL)
        sho_check_say(c, "slab %llu: %s", (unsigned long long)slab, what);
}

static void check_slab(sho_checker *c, uint64_t slab)
{
    sho_slab_info info;
    if (sho_slab_info_get(c->region, slab, &info)) {
        sho_check_say(c, "slab %llu: its descriptor is nonsense", (unsigned long long)slab);
        return;
    }
    if (info.kind == SHM_SLAB_META)
        sho_check_say(c, "slab %llu: marked as one of the tables, behind their end", (unsigned long long)slab);
    if (info.kind == SHM_SLAB_RUN_TAIL)
        check_tail(c, slab);
    if ((info.kind == SHM_SLAB_RUN && info.owner == 0) || (info.kind == SHM_SLAB_BOXES && info.run_slabs > 1))
        check_span(c, slab, &info);
    if (info.kind != SHM_SLAB_NODES && info.kind != SHM_SLAB_BOXES)
        return;
    check_blocks(c, slab, &info);
    /* An owner at work changes its list under our eyes: what stands still is judged. */
    if (info.owner == 0 || info.owner == c->s->slot_index + 1)
        check_list(c, slab);
    else if (!has_owner(c, slab))
        sho_check_say(c, "slab %llu: belongs to session %u, which is free", (unsigned long long)slab, info.owner - 1);
}

static void check_stack(sho_checker *c, unsigned cls)
{
    uint64_t slab = 0;
    for (int looks = 0; looks < LOOKS; looks++) {
        uint64_t head = sho_slab_stack_head(c->region, cls);
        const char *what = sho_slab_stack_check(c->region, cls, &slab);
        if (what == NULL)
            return;
        if (sho_slab_stack_head(c->region, cls) == head) {
            sho_check_say(c, "slab %llu: %s", (unsigned long long)slab, what);
            return;
        }
    }
}

void sho_check_slabs(sho_checker *c)
{
    uint64_t first = c->region->data_off >> SHM_SLAB_SHIFT;
    for (uint64_t i = 0; i < first; i++)
        if (SHM_SLAB_KIND(sho_load(&sho_region_slab(c->region, i)->state)) != SHM_SLAB_META)
            sho_check_say(c, "slab %llu: one of the tables, and not marked so", (unsigned long long)i);
    for (uint64_t i = first; i < sho_region_slab_count(c->region); i++)
        check_slab(c, i);
    for (unsigned cls = 0; cls < SHO_CLASS_COUNT; cls++)
        check_stack(c, cls);
}

/* ------------------------------------------------------------------------------------------ sessions */

/* What is wrong with a slot, or NULL. */
static const char *look_at_slot(sho_region *region, struct shm_slot *slot)
{
    uint64_t state = sho_load_acquire(&slot->state);
    uint64_t process = sho_load_acquire(&slot->process);
    if (SHM_PHASE(state) > SHM_SINGLE)
        return "is in no known state";
    if (process > SHM_PROCESS_MAX)
        return "belongs to a process record that does not exist";
    if (process != 0 && !sho_process_is_live(region, (unsigned)process - 1))
        return "belongs to a process record that is free";
    if (process == 0 && SHM_PHASE(state) != SHM_FREE)
        return "is nobody's, and not free";
    if (process == 0 && sho_load_acquire(&slot->log_end) != 0)
        return "is nobody's, and its log is not empty";
    return NULL;
}

void sho_check_sessions(sho_checker *c)
{
    sho_region *region = c->region;
    uint64_t high = sho_load_acquire(&region->sb->slot_high);
    if (high > SHM_SLOT_MAX)
        sho_check_say(c, "superblock: counts %llu session slots, of %u", (unsigned long long)high, SHM_SLOT_MAX);
    for (unsigned i = 0; i < sho_region_slot_count(region); i++) {
        struct shm_slot *slot = sho_region_slot(region, i);
        const char *what = look_at_slot(region, slot);
        for (int looks = 0; what != NULL && looks < LOOKS; looks++)
            what = look_at_slot(region, slot);
        if (what != NULL)
            sho_check_say(c, "session %u: %s", i, what);
    }
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++)
        if ((sho_load_acquire(&sho_region_process(region, i)->state) & 0xff) > SHM_PROCESS_LIVE)
            sho_check_say(c, "process record %u: is in no known state", i);
}
