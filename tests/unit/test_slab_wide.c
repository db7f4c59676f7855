/*
 * test_slab_wide.c: slabs of several neighbours (slab_run.c): blocks that others free, values that are collected while others are
 * at work, stores that have no room for them; and deaths wherever one is made, used, freed or recovered, after which the whole
 * store is free again.
 */
#include "nodes.h"

#include "deaths.h"
#include "graphs.h"
#include "heap/slab_inner.h"

#define BLOCKS 4000

static uint64_t blocks[BLOCKS];
static int block_count;

static void open_store(uint64_t max_bytes)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = max_bytes};
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-wide-%ld", (long)getpid());
    CHECK_INT(shobj_open(name, &options, &store), 0);
    CHECK_INT(shobj_unlink(name, true), 0);
    shobj_gc_growth(store, UINT32_MAX);
}

/* 0: the store is full. The first and the last word of the box tell which one it is. */
static uint64_t take_box(uint64_t bytes)
{
    sho_session *s = session_of(store);
    uint64_t off;
    int rc = sho_heap_take_box(&s->heap, bytes, &off);
    if (rc != 0) {
        CHECK_INT(rc, SHOBJ_EFULL);
        return 0;
    }
    sho_word *words = (sho_word *)(s->region->base + off);
    sho_store_release(words, SHM_BOX_HEADER(SHM_BOX_BYTES, 0, bytes));
    sho_store(words + 1, off);
    sho_store(words + bytes / 8, off);
    sho_heap_taken(&s->heap, off);
    return off;
}

static void give_box(uint64_t off)
{
    sho_session *s = session_of(store);
    const sho_word *words = (const sho_word *)(s->region->base + off);
    CHECK_INT(sho_load(words + 1), off);
    CHECK_INT(sho_load(words + SHM_BOX_BYTES_OF(sho_load(words)) / 8), off);
    sho_heap_freeing(&s->heap, off);
    CHECK(sho_heap_give(&s->heap, off));
}

static uint64_t used_bytes(void)
{
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    return stat.used_bytes;
}

static sho_slab_info info_of(uint64_t off)
{
    sho_slab_info info;
    unsigned index;
    CHECK_INT(sho_slab_find(store->region, off, &info, &index), 0);
    return info;
}

/* ------------------------------------------------------------------------------------------ others free */

static void *give_all(void *arg)
{
    (void)arg;
    for (int i = 0; i < block_count; i++)
        give_box(blocks[i]);
    shobj_detach(store);
    return NULL;
}

/* Each class with more blocks than a slab holds; another session gives them back, and all of them are had again. */
static void test_freed_by_another(void)
{
    open_store(1 << 30);
    uint64_t before = used_bytes();
    for (unsigned cls = SHO_NODE_CLASS_COUNT; cls < SHO_CLASS_COUNT; cls++) {
        const sho_class *c = &sho_classes[cls];
        uint64_t first_slabs = 0;
        for (int round = 0; c->span > 1 && round < 3; round++) {
            for (block_count = 0; block_count < 3 * c->count; block_count++) {
                blocks[block_count] = take_box(c->bytes - sizeof(struct shm_box));
                CHECK_INT(info_of(blocks[block_count]).block_bytes, c->bytes);
                CHECK_INT(info_of(blocks[block_count]).run_slabs, c->span);
            }
            CHECK_INT(used_bytes(), before + (uint64_t)block_count * c->bytes);
            CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
            pthread_t thread;
            CHECK(pthread_create(&thread, NULL, give_all, NULL) == 0);
            pthread_join(thread, NULL);
            CHECK_INT(used_bytes(), before);
            CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
            shobj_stat stat;
            CHECK_INT(shobj_stat_get(store, &stat), 0);
            if (round == 0)
                first_slabs = stat.slabs;
            CHECK_INT(stat.slabs, first_slabs); /* the same ones again */
        }
    }
    shobj_close(store);
}

/* ------------------------------------------------------------------------------------------ little room */

/* A small store: whatever fits into whole slabs does, though no wide slab has a place beside it. */
static void test_small(void)
{
    static const uint64_t sizes[] = {25000, 36000, 70000, 100000, 150000, 300000};
    open_store(4 << 20);
    for (size_t i = 0; i < SHO_COUNT_OF(sizes); i++)
        CHECK(take_box(sizes[i]) != 0);
    CHECK(shobj_check(store, NULL, NULL, NULL) == 0);
    shobj_close(store);
}

static int fill_store(uint64_t bytes)
{
    int before = block_count;
    while ((blocks[block_count] = take_box(bytes)) != 0)
        CHECK(++block_count < BLOCKS);
    return block_count - before;
}

/* A full store holds as many as whole slabs and halves of them would, at least; given back, they make room for any other size. */
static void test_full(void)
{
    static const uint64_t sizes[] = {23000, 29000, 33000, 45000, 70000, 100000, 160000, 350000, 420000};
    open_store(24 << 20);
    uint64_t slabs = ((store->region->max_bytes - store->region->data_off) >> SHM_SLAB_SHIFT) - sho_slab_reserve(store->region);
    for (size_t i = 0; i < SHO_COUNT_OF(sizes); i++) {
        uint64_t each = (sizes[i] + SHM_SLAB_BYTES - 1) >> SHM_SLAB_SHIFT;
        uint64_t least = sizes[i] <= SHO_BOX_SLAB_BYTES_MAX ? (slabs - 2) * 2 : (slabs - 2) / each;
        block_count = 0;
        CHECK((uint64_t)fill_store(sizes[i]) >= least);
        CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
        while (block_count > 0)
            give_box(blocks[--block_count]);
        CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
        for (int k = 0; k < 2; k++) /* both of a twin */
            sho_heap_close(&session_of(store)->heap);
        uint64_t large = take_box((slabs - 2) << SHM_SLAB_SHIFT);
        CHECK(large != 0);
        give_box(large);
    }
    shobj_close(store);
}

/* ------------------------------------------------------------------------------------------ collected */

static uint64_t below(uint64_t *state, uint64_t limit)
{
    return check_random(state) % limit;
}

static _Atomic bool over;

/* Replaces large values in a dict of its own, and leaves rings with large values to the collector. */
static void *replace(void *arg)
{
    static uint8_t bytes[450000];
    uint64_t state = *(uint64_t *)arg;
    shobj_oid dict = new_dict();
    set(shobj_root(store), (int64_t)(state >> 1), object(dict));
    for (int i = 0; i < 600; i++) {
        const shobj_value value = {.type = SHOBJ_BYTES, .data = bytes, .count = 20000 + below(&state, 430000)};
        set(dict, (int64_t)below(&state, 20), value);
        if (i % 8 == 0) {
            shobj_oid ring = new_list(&value, 1);
            set(dict, 100, object(ring));
            const shobj_value itself = object(ring);
            CHECK_INT(shobj_list_append(store, ring, &itself), 0);
        }
    }
    shobj_detach(store);
    return NULL;
}

static void *collect_on(void *arg)
{
    (void)arg;
    while (!over)
        CHECK_INT(shobj_collect(store, 1), 0);
    shobj_detach(store);
    return NULL;
}

static void test_collected(uint64_t seed)
{
    pthread_t threads[4];
    uint64_t seeds[3];
    open_store(256 << 20);
    for (int i = 0; i < 3; i++) {
        seeds[i] = seed + (uint64_t)i * 1000;
        CHECK(pthread_create(&threads[i], NULL, replace, &seeds[i]) == 0);
    }
    CHECK(pthread_create(&threads[3], NULL, collect_on, NULL) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    over = true;
    pthread_join(threads[3], NULL);
    CHECK_INT(shobj_collect(store, 1), 0);
    CHECK_INT(shobj_collect(store, 1), 0);
    AUDIT(store, 0);
    CHECK_INT(shobj_dict_clear(store, shobj_root(store)), 0);
    CHECK_INT(shobj_collect(store, 1), 0);
    AUDIT(store, 0);
    CHECK(used_bytes() < 1 << 20);
    shobj_close(store);
}

/* ------------------------------------------------------------------------------------------ deaths */

static const uint64_t death_sizes[] = {26000, 36000, 160000, 70000};

static void prepare(void)
{
    block_count = 0;
    for (size_t size = 0; size < SHO_COUNT_OF(death_sizes); size++)
        for (uint64_t bytes = 0; bytes < 12 * SHM_SLAB_BYTES; bytes += death_sizes[size])
            CHECK((blocks[block_count++] = take_box(death_sizes[size])) != 0);
}

static void victim(void)
{
    int before = block_count;
    for (int i = 0; i < before; i += 2) /* lists what is used up */
        give_box(blocks[i]);
    for (size_t size = 0; size < SHO_COUNT_OF(death_sizes); size++) /* pops, uses up, lets go, makes new ones */
        for (uint64_t bytes = 0; bytes < 14 * SHM_SLAB_BYTES; bytes += death_sizes[size])
            CHECK((blocks[block_count++] = take_box(death_sizes[size])) != 0);
    for (int i = 1; i < block_count; i += i < before ? 2 : 1) /* leaves some partial, most empty */
        if (i % 32 != 1)
            give_box(blocks[i]);
    uint64_t run = take_box(3 * SHM_SLAB_BYTES - 8);
    if (run != 0)
        give_box(run);
    take_box(store->region->max_bytes / 2); /* has no place: what is empty is looked for */
    for (int i = 0; i < 20; i++)
        take_box(130000);
    shobj_close(store);
}

static void recoverer(void)
{
    sho_recover_all(store->region);
}

static void collector(void)
{
    sho_recover_all(store->region);
    CHECK_INT(shobj_collect(store, 1), 0);
}

/* How many neighbouring slabs there are when all that nobody can reach is gone. */
static uint64_t free_run(void)
{
    CHECK_INT(shobj_collect(store, 1), 0);
    CHECK_INT(shobj_collect(store, 1), 0); /* slabs whose lost blocks have been found only now are swept again */
    AUDIT(store, 0);
    for (int i = 0; i < 2; i++) /* both of a twin */
        sho_heap_close(&session_of(store)->heap);
    uint64_t slabs = (store->region->max_bytes - store->region->data_off) >> SHM_SLAB_SHIFT;
    for (; slabs > 0; slabs--) {
        uint64_t off = take_box((slabs << SHM_SLAB_SHIFT) - sizeof(struct shm_box));
        if (off == 0)
            continue;
        give_box(off);
        return slabs;
    }
    return 0;
}

static void test_deaths(void)
{
    static const char *const points[] = {
        "run.claimed",  "run.shrunk",  "run.tail_named", "run.tail_left", "wide.claimed", "wide.filled",  "wide.made",
        "wide.emptied", "wide.unmade", "block.taken",    "slab.popped",   "slab.owned",   "slab.list",    "slab.listed",
        "slab.abandon", "slab.emptied", "slab.kept",      "slab.unkept",   "slab.put_back"};
    unsigned kills = 0, twice = 0;
    open_store(16 << 20);
    CHECK(!dies(victim, SHO_FAULT_KILL, 1, "nowhere"));
    uint64_t whole = free_run();
    CHECK(whole > 180);
    for (size_t p = 0; p < SHO_COUNT_OF(points); p++) {
        bool struck = true;
        for (uint64_t k = 1; struck; k += 1 + k / 2) {
            prepare();
            struck = dies(victim, SHO_FAULT_KILL, k, points[p]);
            if (!struck && k == 1)
                fprintf(stderr, "%s is not passed\n", points[p]);
            CHECK(struck || k > 1);
            kills += struck;
            /* Those who recover die as well, each a little later; so does who sweeps what is left. */
            for (uint64_t j = 1; k <= 2 && struck && dies(recoverer, SHO_FAULT_KILL, j, NULL); j += 1 + j / 3)
                twice++;
            if (k == 1)
                for (uint64_t j = 1; j < 5; j++)
                    twice += dies(collector, SHO_FAULT_KILL, j, j % 2 ? "run.tail_left" : "sweep.freed");
            unsigned reaped;
            CHECK_INT(shobj_reap(store, &reaped), 0);
            CHECK_INT(shobj_check(store, audit_report, NULL, NULL), 0);
            CHECK_INT(free_run(), whole);
        }
    }
    printf("%u deaths, %u of those who recovered or collected\n", kills, twice);
    CHECK(kills > 60 && twice > 60);
    shobj_close(store);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t seed = check_seed();
    test_freed_by_another();
    test_small();
    test_full();
    test_collected(seed);
    test_deaths();
    return 0;
}
