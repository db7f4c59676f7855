/*
 * garbage.c: what a collection would free, and what is alive for whose sake.
 *
 * One holder is looked at after the other, the root first: what its looking marks is alive for its sake.
 */
#include "gc/dry.h"

#define ATTEMPTS_MAX 3

typedef struct survey {
    shobj_store *store;
    sho_dry dry;
    sho_dry_count before; /* marked so far */
    shobj_holder *holders;
    unsigned count;
} survey;

/* What is gray is alive for this one's sake. */
static void credit(survey *v, shobj_holder holder)
{
    sho_dry_count now;
    if (!sho_dry_has_gray(&v->dry))
        return;
    sho_dry_mark(&v->dry);
    sho_dry_sum(&v->dry, &now, NULL);
    holder.blocks = now.blocks - v->before.blocks;
    holder.bytes = now.bytes - v->before.bytes;
    holder.objects = now.objects - v->before.objects;
    v->before = now;
    if (holder.blocks > 0)
        v->holders[v->count++] = holder;
}

static void look(survey *v)
{
    sho_region *region = &v->dry.region;
    v->count = 0;
    sho_shade_object(&v->dry.h.shader, region->root_oid);
    sho_dry_mark(&v->dry);
    sho_dry_sum(&v->dry, &v->before, NULL);
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++) {
        struct shm_process *process = sho_region_process(region, i);
        if (!sho_process_is_live(region, i))
            continue;
        sho_roots_scan_process(&v->dry.h, process);
        credit(v, (shobj_holder){.process = i, .pid = (int64_t)sho_load(&process->pid)});
    }
    for (unsigned i = 0; i < sho_region_slot_count(region); i++) {
        struct shm_slot *slot = sho_region_slot(region, i);
        uint64_t process = sho_load_acquire(&slot->process);
        if (process == 0 || process > SHM_PROCESS_MAX)
            continue;
        sho_roots_scan_slot(&v->dry.h, slot);
        credit(v, (shobj_holder){.is_session = true,
                                 .session = i,
                                 .process = (uint32_t)process - 1,
                                 .pid = (int64_t)sho_load(&sho_region_process(region, (unsigned)process - 1)->pid)});
    }
}

static int survey_once(survey *v, shobj_garbage *ret)
{
    sho_dry_count all, garbage, root;
    int rc = sho_dry_init(&v->dry, v->store);
    if (rc)
        return rc;
    look(v);
    root = v->before;
    for (unsigned i = 0; i < v->count; i++) {
        root.blocks -= v->holders[i].blocks;
        root.bytes -= v->holders[i].bytes;
        root.objects -= v->holders[i].objects;
    }
    sho_dry_sum(&v->dry, &all, &garbage);
    *ret = (shobj_garbage){.live = all.blocks + all.tables,
                           .live_bytes = all.bytes + all.table_bytes,
                           .live_objects = all.objects,
                           .held = all.blocks - root.blocks,
                           .held_bytes = all.bytes - root.bytes,
                           .held_objects = all.objects - root.objects,
                           .free = garbage.blocks + garbage.tables,
                           .free_bytes = garbage.bytes + garbage.table_bytes,
                           .free_objects = garbage.objects,
                           .is_exact = sho_dry_is_exact(&v->dry, v->store)};
    sho_dry_fini(&v->dry);
    return 0;
}

SHOBJ_API int shobj_garbage_get(shobj_store *store, shobj_garbage *ret_garbage,
                                int (*each)(const shobj_holder *holder, void *arg), void *arg)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    if (s->depth > 0)
        return sho_error(SHOBJ_ETXN, "looking for garbage in %s: not inside a transaction; end it first",
                         store->region->path);
    survey v = {.store = store, .holders = calloc(SHM_PROCESS_MAX + SHM_SLOT_MAX, sizeof(*v.holders))};
    if (v.holders == NULL)
        return sho_error(SHOBJ_ENOMEM, "looking for garbage in %s: out of memory", store->region->path);
    shobj_garbage garbage = {0};
    for (int i = 0; i < ATTEMPTS_MAX && rc == 0 && !garbage.is_exact; i++)
        rc = survey_once(&v, &garbage);
    if (rc == 0)
        *ret_garbage = garbage;
    for (unsigned i = 0; i < v.count && rc == 0 && each != NULL; i++)
        rc = each(&v.holders[i], arg);
    free(v.holders);
    return rc;
}
