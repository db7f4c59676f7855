/*
 * test_gc.c: the collector frees what nobody can reach, all of it, and nothing else: each kind of root by itself; random graphs
 * against a model, one thread and several, with collections all the while; every block is counted afterwards (audit.h).
 */
#include <pthread.h>
#include <stdatomic.h>

#include "audit.h"
#include "base/fault.h"
#include "values.h"

static shobj_store *store;
static shobj_pins *pins;

static shobj_value object(shobj_oid oid)
{
    return (shobj_value){.type = SHOBJ_OBJECT, .oid = oid};
}

static shobj_key key_of(int64_t number)
{
    shobj_value value = integer(number);
    shobj_key key;
    CHECK_INT(shobj_key_init(store, &value, &key), 0);
    return key;
}

static shobj_oid new_list(const shobj_value *items, size_t count)
{
    shobj_oid oid;
    CHECK_INT(shobj_list_new(store, items, count, &oid), 0);
    return oid;
}

static shobj_oid new_dict(void)
{
    shobj_oid oid;
    CHECK_INT(shobj_dict_new(store, NULL, 0, &oid), 0);
    return oid;
}

static void set(shobj_oid dict, int64_t number, shobj_value value)
{
    shobj_key key = key_of(number);
    CHECK_INT(shobj_dict_set(store, dict, &key, &value), 0);
}

static shobj_value get(shobj_oid dict, int64_t number)
{
    shobj_key key = key_of(number);
    shobj_value value;
    CHECK_INT(shobj_dict_get(store, dict, &key, &value), 0);
    return value;
}

static void unset(shobj_oid dict, int64_t number)
{
    shobj_key key = key_of(number);
    CHECK_INT(shobj_dict_del(store, dict, &key, NULL), 0);
}

static bool is_alive(shobj_oid oid)
{
    enum shobj_kind kind;
    int rc = shobj_object(store, oid, &kind, NULL);
    CHECK(rc == 0 || rc == SHOBJ_ESTALE);
    return rc == 0;
}

/* With both sessions that a thread has where there are two mappings. */
static void release_all(void)
{
    shobj_release(store, 0);
    shobj_release(store, 0);
}

static void collect(void)
{
    release_all();
    CHECK_INT(shobj_collect(store, 1), 0);
}

static uint32_t pin(shobj_oid oid)
{
    uint32_t at;
    CHECK_INT(shobj_pin(pins, oid, &at), 0);
    return at;
}

static void begin(void)
{
    store = check_store();
    CHECK_INT(shobj_pins_open(store, &pins), 0);
}

/* All that the test has made is gone. */
static void finish(void)
{
    CHECK_INT(shobj_dict_clear(store, shobj_root(store)), 0);
    shobj_pins_close(pins);
    collect();
    AUDIT(store, 1);
    shobj_close(store);
}

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

static void in_thread(void *(*fn)(void *))
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, NULL) == 0);
    pthread_join(thread, NULL);
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

/* ------------------------------------------------------------------------------------------ a model */

enum { OBJECTS = 48, PLACES = 40, REFS = 3 };

enum sort { S_NUMBER, S_STR, S_REF, S_TUPLE, S_SET, S_RUN };

struct place {
    uint8_t sort;
    uint8_t ref_count;
    int16_t refs[REFS]; /* objects */
    int64_t number;     /* what a str or a run is made of, and the other items of a tuple */
    int64_t key;        /* in a dict */
};

struct thing {
    shobj_oid oid; /* 0: none */
    bool is_list, is_pinned, is_reachable;
    uint32_t pin;
    int count;
    struct place places[PLACES];
};

/* Object 0 is the dict under root[number] and stays. */
struct model {
    uint64_t random;
    unsigned number;
    shobj_pins *pins;
    struct thing things[OBJECTS];
};

static unsigned draw(struct model *m, unsigned bound)
{
    return (unsigned)(check_random(&m->random) % bound);
}

static void reach(struct model *m, int at)
{
    struct thing *t = &m->things[at];
    if (t->is_reachable)
        return;
    t->is_reachable = true;
    for (int i = 0; i < t->count; i++)
        for (int k = 0; k < t->places[i].ref_count; k++)
            reach(m, t->places[i].refs[k]);
}

static void find_reachable(struct model *m)
{
    for (int i = 0; i < OBJECTS; i++)
        m->things[i].is_reachable = false;
    reach(m, 0);
    for (int i = 1; i < OBJECTS; i++)
        if (m->things[i].oid != 0 && m->things[i].is_pinned)
            reach(m, i);
}

/* A reachable one. */
static int draw_thing(struct model *m)
{
    find_reachable(m);
    for (;;) {
        int i = (int)draw(m, OBJECTS);
        if (m->things[i].is_reachable)
            return i;
    }
}

struct room {
    shobj_value items[2 * REFS + 2];
    char text[400];
    uint8_t *run;
};

static size_t run_bytes(int64_t number)
{
    return 33000u + (size_t)(number % 3) * 60000u;
}

static shobj_value value_of(struct model *m, const struct place *p, struct room *room)
{
    size_t n = 0;
    switch (p->sort) {
    case S_STR:
        n = (size_t)snprintf(room->text, sizeof(room->text), "%*" PRId64, (int)(p->number % 300), p->number);
        return (shobj_value){.type = SHOBJ_STR, .data = room->text, .count = n};
    case S_RUN:
        room->run = calloc(1, run_bytes(p->number));
        CHECK(room->run != NULL);
        memcpy(room->run + 100, &p->number, 8);
        return (shobj_value){.type = SHOBJ_BYTES, .data = room->run, .count = run_bytes(p->number)};
    case S_REF:
        return object(m->things[p->refs[0]].oid);
    case S_TUPLE:
    case S_SET:
        room->items[n++] = integer(p->number);
        room->items[n++] = real((double)p->number + 0.5);
        for (int i = 0; i < p->ref_count; i++)
            room->items[n++] = object(m->things[p->refs[i]].oid);
        return (shobj_value){.type = p->sort == S_SET ? SHOBJ_FROZENSET : SHOBJ_TUPLE, .items = room->items, .count = n};
    default:
        return integer(p->number);
    }
}

static struct place draw_place(struct model *m)
{
    struct place p = {.number = (int64_t)draw(m, 1000000) + 1};
    switch (draw(m, 12)) {
    case 0:
        p.sort = S_NUMBER;
        break;
    case 1:
    case 2:
        p.sort = S_STR;
        break;
    case 3:
        p.sort = draw(m, 8) == 0 ? S_RUN : S_NUMBER;
        break;
    case 4:
    case 5:
        p.sort = S_TUPLE;
        break;
    case 6:
        p.sort = S_SET;
        break;
    default:
        p.sort = S_REF;
    }
    p.ref_count = (uint8_t)(p.sort == S_REF ? 1 : p.sort == S_TUPLE ? draw(m, REFS + 1) : 0);
    for (int i = 0; i < p.ref_count; i++)
        p.refs[i] = (int16_t)draw_thing(m);
    return p;
}

/* A new one, stored nowhere yet: the caller stores or pins it before the next call. -1: no place in the model. */
static int new_thing(struct model *m, int *ret_rc)
{
    find_reachable(m);
    for (int i = 1; i < OBJECTS; i++) {
        struct thing *t = &m->things[i];
        if (t->is_reachable)
            continue;
        *t = (struct thing){.is_list = draw(m, 2)};
        *ret_rc = t->is_list ? shobj_list_new(store, NULL, 0, &t->oid) : shobj_dict_new(store, NULL, 0, &t->oid);
        return *ret_rc ? -1 : i;
    }
    return -1;
}

static int put(struct model *m, int at, struct place p)
{
    struct thing *t = &m->things[at];
    struct room room = {0};
    shobj_value value = value_of(m, &p, &room);
    int rc;
    if (t->is_list) {
        int i = t->count > 0 ? (int)draw(m, (unsigned)t->count) : 0;
        unsigned how = draw(m, 3);
        if ((how == 0 || t->count == PLACES) && t->count > 0) {
            rc = shobj_list_set(store, t->oid, i, &value);
            if (rc == 0)
                t->places[i] = p;
        } else if (how == 1) {
            rc = shobj_list_append(store, t->oid, &value);
            if (rc == 0)
                t->places[t->count++] = p;
        } else {
            rc = shobj_list_insert(store, t->oid, i, &value);
            if (rc == 0) {
                memmove(&t->places[i + 1], &t->places[i], (size_t)(t->count - i) * sizeof(p));
                t->places[i] = p;
                t->count++;
            }
        }
    } else {
        p.key = (int64_t)draw(m, PLACES);
        shobj_key key = key_of(p.key);
        rc = shobj_dict_set(store, t->oid, &key, &value);
        int i = 0;
        while (i < t->count && t->places[i].key != p.key)
            i++;
        if (rc == 0) {
            t->places[i] = p;
            t->count += i == t->count;
        }
    }
    free(room.run);
    return rc;
}

static int drop(struct model *m, int at)
{
    struct thing *t = &m->things[at];
    if (t->count == 0)
        return 0;
    int i = (int)draw(m, (unsigned)t->count), rc;
    if (draw(m, 12) == 0) {
        rc = t->is_list ? shobj_list_clear(store, t->oid) : shobj_dict_clear(store, t->oid);
        if (rc == 0)
            t->count = 0;
        return rc;
    }
    if (t->is_list) {
        rc = shobj_list_del(store, t->oid, i, NULL);
    } else {
        shobj_key key = key_of(t->places[i].key);
        rc = shobj_dict_del(store, t->oid, &key, NULL);
    }
    if (rc == 0) {
        memmove(&t->places[i], &t->places[i + 1], (size_t)(t->count - i - 1) * sizeof(t->places[0]));
        t->count--;
    }
    return rc;
}

static int compare(struct model *m, int at)
{
    struct thing *t = &m->things[at];
    uint64_t length;
    int rc = t->is_list ? shobj_list_len(store, t->oid, &length) : shobj_dict_len(store, t->oid, &length);
    if (rc)
        return rc;
    CHECK_INT(length, t->count);
    for (int i = 0; i < t->count; i++) {
        struct room room = {0};
        shobj_value is, expected = value_of(m, &t->places[i], &room);
        shobj_key key = key_of(t->places[i].key);
        rc = t->is_list ? shobj_list_get(store, t->oid, i, &is) : shobj_dict_get(store, t->oid, &key, &is);
        if (rc) {
            free(room.run);
            return rc;
        }
        CHECK(same(&is, &expected));
        free(room.run);
    }
    return 0;
}

/* One random change. 0 or ECONFLICT. */
static int change(struct model *m)
{
    int at = draw_thing(m), other, rc = 0;
    switch (draw(m, 10)) {
    case 0:
    case 1:
    case 2:
        if ((other = new_thing(m, &rc)) > 0) {
            struct place p = {.sort = draw(m, 2) ? S_REF : S_TUPLE, .ref_count = 1, .refs = {(int16_t)other}, .number = 3};
            rc = put(m, at, p);
            if (rc == 0 && m->things[other].oid != 0)
                rc = put(m, other, draw_place(m));
        }
        return rc;
    case 3:
    case 4:
        return drop(m, at);
    case 5:
        return compare(m, at);
    default:
        return put(m, at, draw_place(m));
    }
}

/* Pins and drops pins, of what is reachable: outside transactions. */
static void change_pins(struct model *m)
{
    int at = draw_thing(m);
    struct thing *t = &m->things[at];
    if (at == 0)
        return;
    if (t->is_pinned) {
        shobj_unpin(m->pins, t->pin);
        t->is_pinned = false;
    } else if (draw(m, 3) == 0) {
        CHECK_INT(shobj_pin(m->pins, t->oid, &t->pin), 0);
        t->is_pinned = true;
    }
}

struct attempt {
    struct model *m, before;
    uint64_t seed;
    bool is_undone;
};

static int transaction_body(shobj_store *st, void *arg)
{
    struct attempt *a = arg;
    struct model *m = a->m;
    *m = a->before;
    m->random = a->seed;
    int rc = 0;
    for (unsigned i = 1 + draw(m, 6); i > 0 && rc == 0; i--) {
        if (draw(m, 4) != 0) {
            rc = change(m);
            continue;
        }
        struct model *inner = malloc(sizeof(*inner));
        CHECK(inner != NULL);
        *inner = *m;
        rc = shobj_txn_begin(st);
        for (unsigned k = draw(m, 3); k > 0 && rc == 0; k--)
            rc = change(m);
        if (draw(m, 2) || rc) {
            shobj_txn_abort(st);
            inner->random = m->random;
            *m = *inner;
        } else {
            rc = shobj_txn_commit(st);
        }
        free(inner);
    }
    return rc ? rc : a->is_undone ? SHOBJ_EABORTED : 0;
}

static void step(struct model *m)
{
    if (draw(m, 3) != 0) {
        CHECK_INT(change(m), 0);
    } else {
        struct attempt *a = malloc(sizeof(*a));
        CHECK(a != NULL);
        *a = (struct attempt){.m = m, .before = *m, .is_undone = draw(m, 4) == 0, .seed = check_random(&m->random)};
        CHECK_INT(shobj_run(store, transaction_body, a), a->is_undone ? SHOBJ_EABORTED : 0);
        if (a->is_undone) {
            a->before.random = m->random;
            *m = a->before;
        }
        free(a);
    }
    change_pins(m);
}

static void model_begin(struct model *m, unsigned number, uint64_t seed)
{
    *m = (struct model){.random = seed, .number = number};
    m->things[0].oid = new_dict();
    set(shobj_root(store), number, object(m->things[0].oid));
    CHECK_INT(shobj_pins_open(store, &m->pins), 0);
}

/* All that is reachable is what it should be, and all the rest gone: after a collection. */
static void judge(struct model *m, bool is_collected)
{
    find_reachable(m);
    for (int i = 0; i < OBJECTS; i++)
        if (m->things[i].is_reachable)
            CHECK_INT(compare(m, i), 0);
        else if (is_collected && m->things[i].oid != 0)
            CHECK(!is_alive(m->things[i].oid));
}

static void test_model(uint64_t *random, int rounds)
{
    static struct model m;
    begin();
    model_begin(&m, 1, check_random(random));
    for (int round = 0; round < rounds; round++) {
        for (unsigned i = draw(&m, 60); i > 0; i--)
            step(&m);
        release_all();
        CHECK_INT(shobj_collect(store, 1 + draw(&m, 3)), 0);
        judge(&m, true);
        AUDIT(store, 0);
    }
    shobj_pins_close(m.pins);
    finish();
}

/* ------------------------------------------------------------------------------------------ several threads */

enum { THREADS = 3, MESSAGE_LENGTH = 40 };

static _Atomic bool over;
static shobj_oid mailbox;

/* A message is a list of lists, dicts and strings, all of which tell its number: who takes it out sees whether it is whole. */
static int send_body(shobj_store *st, void *arg)
{
    struct model *m = arg;
    int64_t number = (int64_t)draw(m, 1 << 30);
    shobj_value items[MESSAGE_LENGTH];
    char text[100];
    int rc;
    for (int i = 0; i < MESSAGE_LENGTH; i++) {
        shobj_value item = integer(number + i);
        shobj_item entry = {.key = integer(1), .value = item};
        shobj_oid oid;
        if (i % 3 == 2) {
            items[i] = item;
            continue;
        }
        rc = i % 3 == 0 ? shobj_list_new(st, &item, 1, &oid) : shobj_dict_new(st, &entry, 1, &oid);
        if (rc)
            return rc;
        items[i] = object(oid);
    }
    snprintf(text, sizeof(text), "%90" PRId64, number);
    items[2] = (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
    shobj_oid message;
    rc = shobj_list_new(st, items, MESSAGE_LENGTH, &message);
    shobj_value value = object(message);
    return rc ? rc : shobj_list_append(st, mailbox, &value);
}

static int open_message(shobj_store *st, shobj_oid message)
{
    int64_t number = 0;
    shobj_key key = key_of(1);
    for (int i = 0; i < MESSAGE_LENGTH; i++) {
        shobj_value value, inner;
        int rc = shobj_list_get(st, message, i, &value);
        if (rc)
            return rc;
        if (i == 2) {
            char text[100];
            snprintf(text, sizeof(text), "%90" PRId64, number);
            CHECK(value.type == SHOBJ_STR && value.count == strlen(text) && memcmp(value.data, text, value.count) == 0);
            continue;
        }
        if (value.type == SHOBJ_OBJECT) {
            rc = i % 3 == 0 ? shobj_list_get(st, value.oid, 0, &inner) : shobj_dict_get(st, value.oid, &key, &inner);
            if (rc)
                return rc;
            value = inner;
        }
        if (i == 0)
            number = value.i;
        CHECK_INT(value.i, number + i);
    }
    return 0;
}

static int take_body(shobj_store *st, void *arg)
{
    shobj_value message;
    (void)arg;
    int rc = shobj_list_del(st, mailbox, 0, &message);
    return rc == SHOBJ_ENOTFOUND ? 0 : rc ? rc : open_message(st, message.oid);
}

/* The same step by step: what a call has returned is pinned, then nothing else leads to it. */
static void take_slowly(struct model *m)
{
    shobj_value message;
    uint32_t at;
    int rc = shobj_list_del(store, mailbox, -1, &message);
    CHECK(rc == 0 || rc == SHOBJ_ENOTFOUND);
    if (rc)
        return;
    CHECK_INT(shobj_pin(m->pins, message.oid, &at), 0);
    CHECK_INT(open_message(store, message.oid), 0);
    shobj_unpin(m->pins, at);
}

static void *mutate(void *arg)
{
    struct model *m = arg;
    while (!over) {
        step(m);
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
    collect();
    for (unsigned i = 0; i < THREADS; i++)
        judge(&models[i], true);
    release_all();
    AUDIT(store, 0);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, mailbox, &length), 0);
    while (length-- > 0)
        take_slowly(&models[0]);
    for (unsigned i = 0; i < THREADS; i++)
        shobj_pins_close(models[i].pins);
    finish();
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
    for (int i = 0; i < 20; i++)
        test_model(&random, 20);
    test_threads(&random, ms, 1);
    test_threads(&random, ms, 2);
    return 0;
}
