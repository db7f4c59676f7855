/*
 * test_slab_stack.c: a process dies wherever a slab is on its way from one state to another, and its recoverer there, too: every
 * partial slab is on its stack afterwards, once, and after a collection the whole store is free again.
 */
#include "deaths.h"
#include "heap/slab_inner.h"
#include "nodes.h"

#define SIZES 4
#define BLOCKS 6000

static const uint64_t sizes[SIZES] = {1000, 3000, 200, 9000};
static shobj_store *store;
static uint64_t blocks[BLOCKS];
static int block_count;

static uint64_t take_box(uint64_t bytes)
{
    sho_session *s = session_of(store);
    uint64_t off;
    int rc = sho_heap_take_box(&s->heap, bytes, &off);
    if (rc != 0) {
        CHECK_INT(rc, SHOBJ_EFULL);
        return 0;
    }
    sho_store_release((sho_word *)(s->region->base + off), SHM_BOX_HEADER(SHM_BOX_BYTES, 0, bytes));
    sho_heap_taken(&s->heap, off);
    return off;
}

static void give_box(uint64_t off)
{
    sho_session *s = session_of(store);
    sho_heap_freeing(&s->heap, off);
    CHECK(sho_heap_give(&s->heap, off));
}

/* Several slabs of each class, all used up but one each. */
static void prepare(void)
{
    block_count = 0;
    for (int size = 0; size < SIZES; size++)
        for (uint64_t bytes = 0; bytes < 7 * SHM_SLAB_BYTES; bytes += sizes[size])
            CHECK((blocks[block_count++] = take_box(sizes[size])) != 0);
}

static void victim(void)
{
    for (int i = 0; i < block_count; i += 2) /* lists what is used up */
        give_box(blocks[i]);
    for (int size = 0; size < SIZES; size++) /* pops, uses up, lets go */
        for (uint64_t bytes = 0; bytes < (sizes[size] < 9000 ? 3 : 1) * SHM_SLAB_BYTES; bytes += sizes[size])
            CHECK(take_box(sizes[size]) != 0);
    for (int i = 1; i < block_count; i += 2) /* leaves some of each class partial, most empty */
        if (i % 64 != 1)
            give_box(blocks[i]);
    CHECK(take_box(500) != 0); /* of a class that has no slab yet */
    take_box(70 * SHM_SLAB_BYTES); /* has no place: what is empty is looked for */
    for (int i = 0; i < 20; i++)
        take_box(70000);
    shobj_close(store);
}

static void recoverer(void)
{
    sho_recover_all(store->region);
}

static bool is_on_stack(uint64_t slab)
{
    sho_region *region = store->region;
    unsigned cls = SHM_SLAB_CLASS(sho_load(&sho_region_slab(region, slab)->state));
    bool found = false;
    for (uint32_t at = STACK_SLAB(sho_slab_stack_head(region, cls)); at != 0;
         at = (uint32_t)sho_load(&sho_region_slab(region, at - 1)->next))
        if (at == slab + 1) {
            CHECK(!found);
            found = true;
        }
    return found;
}

/* Every slab has its place: an owner who lives, or the stack of its class, or it is used up. */
static void check_places(bool settled)
{
    sho_region *region = store->region;
    for (unsigned cls = 0; cls < SHO_CLASS_COUNT; cls++) {
        uint64_t slab;
        CHECK(sho_slab_stack_check(region, cls, &slab) == NULL);
    }
    for (uint64_t i = region->data_off >> SHM_SLAB_SHIFT; i < sho_region_slab_count(region); i++) {
        struct shm_slab *d = sho_region_slab(region, i);
        uint64_t state = sho_load(&d->state);
        unsigned kind = SHM_SLAB_KIND(state);
        if (kind != SHM_SLAB_NODES && kind != SHM_SLAB_BOXES)
            continue;
        if (SHM_SLAB_OWNER(state) != 0) {
            CHECK(sho_load(&sho_region_slot(region, SHM_SLAB_OWNER(state) - 1)->process) != 0);
            continue;
        }
        unsigned flag = REMOTE_FLAG(sho_load(&d->remote));
        bool astray = sho_load(&d->lost) & SHM_LOST_PLACE; /* the next sweep looks again */
        CHECK(!astray || !settled);
        CHECK(astray || flag != SHM_REMOTE_OWNED);
        CHECK(astray || is_on_stack(i) == (flag == SHM_REMOTE_LISTED));
        if (flag == SHM_REMOTE_UNLISTED)
            CHECK(sho_load(&d->lost) != 0 || LIST_COUNT(sho_load(&d->private_list)) + REMOTE_COUNT(sho_load(&d->remote)) == 0);
    }
    for (unsigned i = 0; i < sho_region_slot_count(region); i++) {
        CHECK_INT(sho_load(&sho_region_slot(region, i)->listing), 0);
        CHECK_INT(sho_load(&sho_region_slot(region, i)->kept), 0);
    }
}

/* How many neighbouring slabs there are when all that nobody can reach is gone. */
static uint64_t free_run(void)
{
    CHECK_INT(shobj_collect(store, 1), 0);
    CHECK_INT(shobj_collect(store, 1), 0); /* slabs whose lost blocks have been found only now are swept again */
    check_places(true);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
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

static void open_store(void)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 8 << 20};
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-stack-%ld", (long)getpid());
    CHECK_INT(shobj_open(name, &options, &store), 0);
    CHECK_INT(shobj_unlink(name, true), 0);
    shobj_gc_growth(store, UINT32_MAX);
}

int main(void)
{
    static const char *const points[] = {"slab.popped", "slab.owned",  "slab.claimed",  "slab.list",  "slab.listed",
                                         "slab.let_go", "slab.abandon", "slab.emptied", "slab.kept", "slab.unkept",
                                         "slab.put_back"};
    unsigned kills = 0, twice = 0;
    open_store();
    prepare();
    CHECK(!dies(victim, SHO_FAULT_KILL, 1, "nowhere"));
    uint64_t whole = free_run();
    CHECK(whole > 60);
    for (size_t p = 0; p < SHO_COUNT_OF(points); p++) {
        bool struck = true;
        for (uint64_t k = 1; struck; k += 1 + k / 2) {
            prepare();
            struck = dies(victim, SHO_FAULT_KILL, k, points[p]);
            if (!struck && k == 1)
                fprintf(stderr, "%s is not passed\n", points[p]);
            CHECK(struck || k > 1);
            kills += struck;
            /* Those who recover die as well, each a little later. */
            for (uint64_t j = 1; k <= 2 && struck && dies(recoverer, SHO_FAULT_KILL, j, NULL); j += 1 + j / 3)
                twice++;
            unsigned reaped;
            CHECK_INT(shobj_reap(store, &reaped), 0);
            check_places(false);
            CHECK_INT(free_run(), whole);
        }
    }
    printf("%u deaths, %u of those who recovered\n", kills, twice);
    CHECK(kills > 30 && twice > 30);
    shobj_close(store);
    return 0;
}
