/*
 * test_gc.c: the collector frees what nobody can reach, all of it, and nothing else: each kind of root by itself; random graphs
 * against a model, one thread and several, with collections all the while; every block is counted afterwards (audit.h).
 */
#include "graphs.h"

/* ------------------------------------------------------------------------------------------ roots, one by one */

static void test_cycles(void)
{
    begin();
    collect();
    AUDIT(store, 1);
    for (unsigned length = 1; length <= 1000; length = length * 3 + 1) {
        shobj_oid first = new_list(NULL, 0), last = first;
        uint32_t p = pin(first);
        for (unsigned i = 1; i < length; i++) {
            shobj_oid next = i % 3 ? new_list(NULL, 0) : new_dict();
            shobj_value to_last = object(last);
            if (i % 3)
                CHECK_INT(shobj_list_append(store, next, &to_last), 0);
            else
                set(next, 1, to_last);
            shobj_unpin(pins, p);
            p = pin(last = next);
        }
        shobj_value close_ring = object(last);
        CHECK_INT(shobj_list_append(store, first, &close_ring), 0);
        collect();
        CHECK(is_alive(first) && is_alive(last));
        AUDIT(store, 1 + length);
        shobj_unpin(pins, p);
        collect();
        CHECK(!is_alive(first) && !is_alive(last));
        AUDIT(store, 1);
    }
    finish();
}

static void test_values(void)
{
    uint64_t random = 7;
    begin();
    shobj_oid root = shobj_root(store);
    for (int round = 0; round < 30; round++) {
        shobj_oid inner = new_list(NULL, 0);
        shobj_value run = bytes_of(SHOBJ_BYTES, keep(70000u + (unsigned)round * 9000u), 70000u + (unsigned)round * 9000u);
        shobj_value in[3] = {object(inner), random_value(&random, 3), run};
        shobj_value deep = items_of(SHOBJ_TUPLE, in, 3);
        for (int i = 0; i < 20; i++) {
            shobj_value two[2] = {deep, integer(i)};
            deep = items_of(SHOBJ_TUPLE, two, 2);
        }
        set(root, round, deep);
        set(root, 1000, run);
        collect();
        AUDIT(store, 0);
        shobj_value back = get(root, round);
        CHECK(same(&back, &deep));
        CHECK(is_alive(inner));
        if (round % 2)
            unset(root, round);
        collect();
        CHECK_INT(is_alive(inner), round % 2 == 0);
        AUDIT(store, 0);
    }
    /* Objects inside one another, deeper than any stack of calls. */
    shobj_oid below = new_list(NULL, 0);
    for (int i = 0; i < 100000; i++) {
        shobj_value item = object(below);
        below = new_list(&item, 1);
    }
    set(root, -1, object(below));
    collect();
    CHECK(is_alive(below));
    AUDIT(store, 0);
    unset(root, -1);
    collect();
    CHECK(!is_alive(below));
    finish();
}

static void test_holds(void)
{
    begin();
    shobj_oid root = shobj_root(store);
    /* Returned by a get, and deleted: until the next call that returns values. */
    shobj_value item = integer(5);
    set(root, 1, object(new_list(&item, 1)));
    release_all();
    shobj_value held = get(root, 1);
    unset(root, 1);
    CHECK_INT(shobj_collect(store, 1), 0);
    CHECK_INT(shobj_collect(store, 2), 0);
    CHECK(is_alive(held.oid));
    collect();
    CHECK(!is_alive(held.oid));
    AUDIT(store, 1);
    /* Many at once, more than a slot has places for, and more than the first box has. */
    enum { MANY = 5000 };
    static shobj_value many[MANY];
    shobj_oid list = new_list(NULL, 0);
    set(root, 2, object(list));
    for (int i = 0; i < MANY; i++)
        many[i] = object(new_dict());
    CHECK_INT(shobj_list_extend(store, list, many, MANY), 0);
    release_all();
    uint64_t got = 0;
    size_t count;
    /* What one call has given. */
    CHECK_INT(shobj_list_read(store, list, got, many, MANY, &count), 0);
    CHECK(count >= 1);
    CHECK_INT(shobj_list_clear(store, list), 0);
    CHECK_INT(shobj_collect(store, 1), 0);
    for (size_t i = 0; i < count; i++)
        CHECK(is_alive(many[i].oid));
    AUDIT(store, 2 + count);
    /* A pin takes over. */
    uint32_t p = pin(many[0].oid);
    collect();
    CHECK(is_alive(many[0].oid));
    AUDIT(store, 3);
    shobj_unpin(pins, p);
    collect();
    AUDIT(store, 2);
    finish();
}

static void test_pins(void)
{
    enum { MANY = 2000 };
    begin();
    static shobj_oid oids[MANY];
    static uint32_t at[MANY];
    for (int i = 0; i < MANY; i++)
        at[i] = pin(oids[i] = i % 2 ? new_dict() : new_list(NULL, 0));
    collect();
    AUDIT(store, 1 + MANY);
    for (int i = 0; i < MANY; i += 3) {
        shobj_unpin(pins, at[i]);
        at[i] = SHOBJ_PIN_NONE;
    }
    collect();
    for (int i = 0; i < MANY; i++)
        CHECK_INT(is_alive(oids[i]), i % 3 != 0);
    AUDIT(store, 1 + MANY - (MANY + 2) / 3);
    uint32_t p;
    CHECK_INT(shobj_pin(pins, oids[0], &p), SHOBJ_ESTALE);
    /* The id does not come to life with another object in its place. */
    for (int i = 0; i < MANY; i++)
        if (at[i] == SHOBJ_PIN_NONE)
            at[i] = pin(i % 2 ? new_dict() : new_list(NULL, 0));
    for (int i = 0; i < MANY; i += 3)
        CHECK(!is_alive(oids[i]));
    finish();
}

/* ------------------------------------------------------------------------------------------ open transactions */

static void *collect_apart(void *arg)
{
    (void)arg;
    CHECK_INT(shobj_collect(store, 1), 0);
    shobj_detach(store);
    return NULL;
}

/* What a transaction has made and taken lives through whole collections by others, committed or not. */
static int open_body(shobj_store *st, void *arg)
{
    shobj_oid root = shobj_root(st);
    shobj_oid *made = arg;
    shobj_value item = integer(1);
    made[0] = new_list(&item, 1);
    in_thread(collect_apart);
    shobj_value value = object(made[0]);
    made[1] = new_list(&value, 1);
    in_thread(collect_apart);
    in_thread(collect_apart);
    CHECK(is_alive(made[0]) && is_alive(made[1]));
    set(root, 1, object(made[1]));
    in_thread(collect_apart);
    /* Taken out and referred to by nothing but the transaction. */
    made[2] = get(root, 2).oid;
    unset(root, 2);
    in_thread(collect_apart);
    in_thread(collect_apart);
    CHECK(is_alive(made[2]));
    CHECK_INT(shobj_txn_begin(st), 0);
    made[3] = new_dict();
    set(root, 3, object(made[3]));
    set(made[3], 1, object(made[2]));
    in_thread(collect_apart);
    shobj_txn_abort(st);
    in_thread(collect_apart);
    set(root, 4, object(made[2]));
    in_thread(collect_apart);
    return 0;
}

static int undone_body(shobj_store *st, void *arg)
{
    int rc = open_body(st, arg);
    return rc ? rc : SHOBJ_EABORTED;
}

/* Appends whose list nobody has looked at are made when the transaction ends; until then the note is all there is. */
static int late_body(shobj_store *st, void *arg)
{
    const shobj_oid *a = arg;
    shobj_value item = object(new_list(NULL, 0));
    CHECK_INT(shobj_list_append(st, a[0], &item), 0);
    item = object(new_dict());
    set(a[1], 77, item);
    in_thread(collect_apart);
    in_thread(collect_apart);
    return 0;
}

/* The list itself is known by its pin alone, which is dropped while the append is noted. */
static int late_unpinned_body(shobj_store *st, void *arg)
{
    shobj_oid *a = arg;
    shobj_value item = integer(3);
    CHECK_INT(shobj_list_append(st, a[2], &item), 0);
    if (a[3] != 0)
        shobj_unpin(pins, (uint32_t)a[3] - 1);
    a[3] = 0;
    in_thread(collect_apart);
    in_thread(collect_apart);
    set(shobj_root(st), 9, object(a[2]));
    return 0;
}

static void test_transactions(void)
{
    shobj_oid made[4];
    for (int undone = 0; undone < 2; undone++) {
        begin();
        shobj_value item = integer(2);
        set(shobj_root(store), 2, object(new_list(&item, 1)));
        collect();
        AUDIT(store, 2);
        CHECK_INT(shobj_run(store, undone ? undone_body : open_body, made), undone ? SHOBJ_EABORTED : 0);
        collect();
        CHECK(!is_alive(made[3]) && is_alive(made[2]));
        CHECK_INT(is_alive(made[0]), !undone);
        CHECK_INT(is_alive(made[1]), !undone);
        AUDIT(store, undone ? 2 : 4);
        finish();
    }
    begin();
    shobj_oid a[4] = {new_list(NULL, 0)};
    set(shobj_root(store), 1, object(a[0]));
    a[1] = new_dict();
    set(shobj_root(store), 2, object(a[1]));
    a[2] = new_list(NULL, 0);
    a[3] = (shobj_oid)pin(a[2]) + 1;
    collect();
    AUDIT(store, 4);
    CHECK_INT(shobj_run(store, late_body, a), 0);
    collect();
    AUDIT(store, 6);
    CHECK_INT(shobj_run(store, late_unpinned_body, a), 0);
    collect();
    uint64_t length;
    CHECK_INT(shobj_list_len(store, a[2], &length), 0);
    CHECK_INT(length, 1);
    AUDIT(store, 6);
    finish();
}

/* ------------------------------------------------------------------------------------------ cycle numbers come again */

/* Marks carry 16 bits of the cycle: those of 65536 cycles ago must not be taken for this one's. */
static void test_tags(void)
{
    begin();
    shobj_oid kept = new_list(NULL, 0);
    set(shobj_root(store), 1, object(kept));
    static const uint32_t starts[] = {0x7ffc, 0xfffc, 0x17ffc, 0xfffffffc};
    for (unsigned k = 0; k < 4; k++) {
        sho_word *gc = &store->region->sb->gc;
        /* As if so many cycles had gone by: each renews all words, so no distance is larger than half of what the tag can tell. */
        for (uint32_t cycle = SHM_GC_CYCLE(sho_load(gc)); cycle != starts[k];) {
            uint32_t step = starts[k] - cycle < 0x7000 ? starts[k] - cycle : k == 3 && starts[k] - cycle > 0x70000 ? 0x60000 : 0x7000;
            sho_store(gc, SHM_GC(cycle += step, 0, SHM_GC_IDLE));
            collect();
            if (cycle != starts[k])
                cycle = SHM_GC_CYCLE(sho_load(gc));
        }
        for (int i = 0; i < 8; i++) {
            shobj_oid garbage = new_list(NULL, 0);
            collect();
            CHECK(!is_alive(garbage) && is_alive(kept));
            AUDIT(store, 2);
        }
    }
    finish();
}

/* The whole way round, one cycle after the other. */
static void test_all_tags(void)
{
    begin();
    shobj_oid kept = new_list(NULL, 0);
    set(shobj_root(store), 1, object(kept));
    for (int i = 0; i < 66000; i++) {
        shobj_oid garbage = i % 1000 == 0 ? new_list(NULL, 0) : 0;
        collect();
        CHECK(is_alive(kept));
        if (garbage != 0) {
            CHECK(!is_alive(garbage));
            AUDIT(store, 2);
        }
    }
    CHECK(SHM_GC_CYCLE(sho_load(&store->region->sb->gc)) > 65536);
    finish();
}

/* ------------------------------------------------------------------------------------------ slices */

static void move_on(sho_helper *h, enum shm_gc_phase phase)
{
    sho_word *gc = &h->region->sb->gc;
    CHECK(sho_cas(gc, h->gc, SHM_GC(SHM_GC_CYCLE(h->gc), 0, phase)));
    h->gc = sho_load(gc);
}

/* Heads of objects that nobody can reach and that are in use all the same. */
static unsigned count_condemned(sho_region *region, uint32_t cycle)
{
    unsigned count = 0;
    for (uint64_t slab = region->data_off >> SHM_SLAB_SHIFT; slab < sho_region_slab_count(region); slab++) {
        sho_slab_info info;
        if (sho_slab_info_get(region, slab, &info) || info.kind != SHM_SLAB_NODES)
            continue;
        for (unsigned i = 0; i < info.block_count; i++) {
            uint64_t off = (slab << SHM_SLAB_SHIFT) + (uint64_t)i * info.block_bytes;
            const struct shm_node *node = (const struct shm_node *)(region->base + off);
            count += SHM_KIND_IS_OBJECT(SHM_HEADER_KIND(sho_load(&node->header))) &&
                     sho_mark_get(region, cycle, (sho_block){.slab = slab, .index = i, .is_node = true}) != SHO_BLACK;
        }
    }
    return count;
}

/* A helper that comes back for a pause at each occasion leaves no head out. */
static void test_slices(void)
{
    sho_helper h;
    begin();
    for (int i = 0; i < 5000; i++)
        new_list(NULL, 0);
    release_all();
    CHECK_INT(sho_helper_init(&h, store, NULL), 0);
    h.shader = (sho_shader){.region = h.region, .slot = h.s->slot, .cycle = sho_cycle_begin(h.region)};
    h.gc = sho_load(&h.region->sb->gc);
    sho_cycle_arm(&h);
    move_on(&h, SHM_GC_ROOTS);
    sho_cycle_roots(&h);
    move_on(&h, SHM_GC_MARK);
    CHECK(sho_cycle_mark(&h));
    move_on(&h, SHM_GC_KILL);
    CHECK(count_condemned(h.region, h.shader.cycle) >= 4900);
    h.pause_ns = 1; /* long ago */
    unsigned slices = 1;
    while (!sho_cycle_kill(&h))
        slices++;
    h.pause_ns = 0;
    CHECK_INT(count_condemned(h.region, h.shader.cycle), 0);
    printf("killed in %u slices\n", slices);
    move_on(&h, SHM_GC_SWEEP);
    sho_cycle_help(&h);
    sho_helper_fini(&h);
    AUDIT(store, 0);
    finish();
}

/* ------------------------------------------------------------------------------------------ against a model */

static void test_model(uint64_t *random, int rounds)
{
    static struct model m;
    begin();
    model_begin(&m, 1, check_random(random));
    for (int round = 0; round < rounds; round++) {
        for (unsigned i = draw(&m, 60); i > 0; i--) {
            step(&m);
            pin_weakly(&m);
        }
        release_all();
        CHECK_INT(shobj_collect(store, 1 + draw(&m, 3)), 0);
        judge(&m, true);
        AUDIT(store, 0);
    }
    shobj_pins_close(m.pins);
    finish();
}

/* ------------------------------------------------------------------------------------------ several threads */

enum { THREADS = 3 };

static _Atomic bool over;

static void *mutate(void *arg)
{
    struct model *m = arg;
    while (!over) {
        step(m);
        pin_weakly(m);
        switch (draw(m, 6)) {
        case 0:
        case 1:
            CHECK_INT(shobj_run(store, send_body, m), 0);
            break;
        case 2:
            CHECK_INT(shobj_run(store, take_body, m), 0);
            break;
        case 3:
        case 4:
            take_slowly(m);
            break;
        default:
            break;
        }
        if (draw(m, 200) == 0)
            shobj_detach(store);
    }
    judge(m, false);
    shobj_detach(store);
    return NULL;
}

static void test_threads(uint64_t *random, unsigned milliseconds, unsigned helpers)
{
    static struct model models[THREADS];
    pthread_t threads[THREADS];
    begin();
    mailbox = new_list(NULL, 0);
    set(shobj_root(store), -1, object(mailbox));
    for (unsigned i = 0; i < THREADS; i++)
        model_begin(&models[i], i, check_random(random));
    over = false;
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, mutate, &models[i]) == 0);
    release_all();
    unsigned cycles = 0;
    for (uint64_t end = sho_monotonic_ns() + milliseconds * 1000000ULL; sho_monotonic_ns() < end; cycles++)
        CHECK_INT(shobj_collect(store, helpers), 0);
    over = true;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(cycles > 0);
    close_models(models, THREADS);
    printf("%u collections beside %u threads\n", cycles, THREADS);
}

int main(int argc, char **argv)
{
    uint64_t random = check_seed();
    unsigned ms = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;
    test_cycles();
    test_values();
    test_holds();
    test_pins();
    test_transactions();
    test_tags();
    test_all_tags();
    test_slices();
    for (int i = 0; i < 20; i++)
        test_model(&random, 20);
    test_threads(&random, ms, 1);
    test_threads(&random, ms, 2);
    return 0;
}
