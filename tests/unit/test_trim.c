/*
 * test_trim.c: who gives memory back dies at each fault point in turn; whoever comes next finds a store that is whole, every slab at
 * its place, the ids of what was freed gone for ever, and can fill it as before.
 */
#include "deaths.h"
#include "gc/cycle.h"

#define OBJECTS 1000
#define LARGE 200000

static char name[64];
static shobj_store *store;
static shobj_oid gone; /* an object that was deleted */

static shobj_key key_of(int64_t i)
{
    shobj_value value = {.type = SHOBJ_INT, .i = i};
    shobj_key key;
    CHECK_INT(shobj_key_init(store, &value, &key), 0);
    return key;
}

static void set(int64_t at, const shobj_value *value)
{
    shobj_key key = key_of(at);
    CHECK_INT(shobj_dict_set(store, shobj_root(store), &key, value), 0);
}

static void open_store(void)
{
    shobj_options options = {.mode = SHOBJ_OPEN_WRITE};
    CHECK_INT(shobj_open(name, &options, &store), 0);
    shobj_gc_growth(store, UINT32_MAX);
}

/* Slabs of many classes: nodes, boxes, runs. All goes but every 50th object. */
static void fill_and_delete(void)
{
    static char bytes[LARGE];
    for (int i = 0; i < OBJECTS; i++) {
        shobj_value item = {.type = SHOBJ_BYTES, .data = bytes, .count = (size_t)(i % 100 == 0 ? LARGE : i % 900)};
        shobj_value list = {.type = SHOBJ_OBJECT};
        CHECK_INT(shobj_list_new(store, &item, 1, &list.oid), 0);
        set(i, &list);
        if (i == 7)
            gone = list.oid;
    }
    for (int i = 0; i < OBJECTS; i++) {
        shobj_key key = key_of(i);
        if (i % 50 != 0)
            CHECK_INT(shobj_dict_del(store, shobj_root(store), &key, NULL), 0);
    }
    shobj_release(store, 0);
    CHECK_INT(shobj_collect(store, 1), 0);
}

static void trim(void)
{
    uint64_t bytes;
    CHECK_INT(shobj_trim(name, &bytes), 0);
}

static uint64_t slab_count(void)
{
    return sho_region_slab_count(store->region);
}

int main(void)
{
    snprintf(name, sizeof(name), "/dev/shm/shobj-trim-%ld", (long)getpid());
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 64 << 20};
    CHECK_INT(shobj_open(name, &options, &store), 0);
    shobj_gc_growth(store, UINT32_MAX);
    fill_and_delete();
    fill_and_delete();
    uint64_t slabs = slab_count();
    shobj_oid first_gone = gone;
    shobj_close(store);
    uint64_t deaths = 0;
    bool has_died = true;
    for (uint64_t passage = 1; has_died; passage++) {
        has_died = dies(trim, SHO_FAULT_KILL, passage, NULL);
        deaths += has_died;
        open_store();
        check_sound(store);
        shobj_stat stat;
        CHECK_INT(shobj_stat_get(store, &stat), 0);
        CHECK_INT(stat.processes, getenv("SHOBJ_TWIN") == NULL ? 1 : 2); /* none but ours */
        enum shobj_kind kind;
        CHECK_INT(shobj_object(store, first_gone, &kind, NULL), SHOBJ_ESTALE);
        fill_and_delete();
        check_sound(store);
        if (slab_count() > slabs + slabs / 4)
            printf("killed at %" PRIu64 ": %" PRIu64 " slabs, %" PRIu64 " before\n", passage, slab_count(), slabs);
        CHECK(slab_count() <= slabs + slabs / 4); /* none was lost */
        shobj_close(store);
    }
    printf("%" PRIu64 " deaths\n", deaths);
    CHECK(deaths > 100);
    CHECK_INT(shobj_unlink(name, false), 0);
    return 0;
}
