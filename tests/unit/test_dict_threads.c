/*
 * test_dict_threads.c: one dict, several threads. Each is a session of its own, as a process would
 * be.
 *
 *   owners    each thread changes keys of its own at will and knows what must be there
 *   walkers   some keys are never deleted: each walk meets each of them once, in the order of their
 *   insertion counters  all add to the same few values in transactions; the sum is right
 *   movers    an entry is moved from key to key in transactions; whoever looks sees exactly one
 */
#include <pthread.h>

#include "dicts.h"

#define THREADS     3u
#define OWN_KEYS    400u
#define FIXED_KEYS  120u
#define COUNTERS    4u
#define MOVERS_KEYS 9u

typedef struct shared {
    shobj_store *store;
    shobj_oid dict;
    unsigned rounds;
    uint64_t seed;
} shared;

typedef struct worker {
    shared *all;
    uint32_t number;
    pthread_t thread;
    uint64_t random;
    uint64_t bits[OWN_KEYS]; /* 0: absent */
} worker;

/* Key numbers: fixed ones, counters, the mover's, then each thread's own. */
static uint32_t counter_key(uint32_t i)
{
    return FIXED_KEYS + i;
}

static uint32_t mover_key(uint32_t i)
{
    return FIXED_KEYS + COUNTERS + i;
}

static uint32_t own_key(const worker *w, uint32_t i)
{
    return FIXED_KEYS + COUNTERS + MOVERS_KEYS + w->number + i * THREADS;
}

static void put(shared *all, uint32_t n, int64_t number)
{
    char text[48];
    shobj_key key = key_make(all->store, n, HASH_TRUE, text);
    shobj_value value = {.type = SHOBJ_INT, .i = number};
    CHECK_INT(shobj_dict_set(all->store, all->dict, &key, &value), 0);
}

/* --------------------------------------------------------------------------------------- owners */

static void own_step(worker *w)
{
    char text[48];
    char value_text[48];
    uint32_t i = (uint32_t)(check_random(&w->random) % OWN_KEYS);
    shobj_key key = key_make(w->all->store, own_key(w, i), HASH_TRUE, text);
    uint64_t bits = check_random(&w->random) | 1;
    shobj_value value = value_make(bits, value_text);
    int rc;
    switch (check_random(&w->random) % 4) {
    case 0:
        rc = shobj_dict_del(w->all->store, w->all->dict, &key, &value);
        CHECK_INT(rc, w->bits[i] ? 0 : SHOBJ_ENOTFOUND);
        if (rc == 0)
            CHECK(value_bits(&value) == w->bits[i]);
        w->bits[i] = 0;
        break;
    case 1:
        rc = shobj_dict_get(w->all->store, w->all->dict, &key, &value);
        CHECK_INT(rc, w->bits[i] ? 0 : SHOBJ_ENOTFOUND);
        if (rc == 0)
            CHECK(value_bits(&value) == w->bits[i]);
        break;
    default:
        CHECK_INT(shobj_dict_set(w->all->store, w->all->dict, &key, &value), 0);
        w->bits[i] = bits;
        break;
    }
}

static void own_compare(worker *w)
{
    for (uint32_t i = 0; i < OWN_KEYS; i++) {
        char text[48];
        shobj_key key = key_make(w->all->store, own_key(w, i), HASH_TRUE, text);
        shobj_value value;
        int rc = shobj_dict_get(w->all->store, w->all->dict, &key, &value);
        CHECK_INT(rc, w->bits[i] ? 0 : SHOBJ_ENOTFOUND);
        if (rc == 0)
            CHECK(value_bits(&value) == w->bits[i]);
    }
}

/* Everything of its own goes: the dict shrinks while others use it. */
static void own_drop(worker *w)
{
    for (uint32_t i = 0; i < OWN_KEYS; i++) {
        char text[48];
        shobj_key key = key_make(w->all->store, own_key(w, i), HASH_TRUE, text);
        CHECK_INT(shobj_dict_del(w->all->store, w->all->dict, &key, NULL), w->bits[i] ? 0 : SHOBJ_ENOTFOUND);
        w->bits[i] = 0;
    }
}

/* -------------------------------------------------------------------------------------- walkers */

static void walk_once(worker *w)
{
    shobj_dict_iter iter;
    shobj_item items[24];
    bool reverse = check_random(&w->random) % 2;
    size_t batch = 1 + check_random(&w->random) % 24;
    size_t got;
    uint32_t next = reverse ? FIXED_KEYS : 0;
    uint64_t last_serial = reverse ? UINT64_MAX : 0;
    shobj_dict_iter_init(&iter, w->all->dict, reverse);
    for (;;) {
        CHECK_INT(shobj_dict_iter_next(w->all->store, &iter, items, batch, &got), 0);
        if (got == 0)
            break;
        CHECK(reverse ? iter.serial < last_serial : iter.serial > last_serial || last_serial == 0);
        last_serial = iter.serial;
        for (size_t i = 0; i < got; i++) {
            uint32_t n = key_number(&items[i].key);
            if (n >= FIXED_KEYS)
                continue;
            CHECK_INT(n, reverse ? --next : next++);
            CHECK_INT(items[i].value.i, n);
        }
    }
    CHECK_INT(next, reverse ? 0 : FIXED_KEYS);
}

/* --------------------------------------------------------------------------------- transactions */

typedef struct txn_arg {
    worker *w;
    uint32_t a, b;
} txn_arg;

static int count_fn(shobj_store *store, void *arg)
{
    txn_arg *t = arg;
    char text[48];
    shobj_key key = key_make(store, counter_key(t->a), HASH_TRUE, text);
    shobj_value value;
    int rc = shobj_dict_get(store, t->w->all->dict, &key, &value);
    if (rc)
        return rc;
    value.i++;
    return shobj_dict_set(store, t->w->all->dict, &key, &value);
}

/* The one entry goes elsewhere. */
static int move_fn(shobj_store *store, void *arg)
{
    txn_arg *t = arg;
    shobj_oid dict = t->w->all->dict;
    uint32_t found = 0;
    for (uint32_t i = 0; i < MOVERS_KEYS; i++) {
        char text[48];
        shobj_key key = key_make(store, mover_key(i), HASH_TRUE, text);
        shobj_value value;
        int rc = shobj_dict_del(store, dict, &key, &value);
        if (rc == SHOBJ_ENOTFOUND)
            continue;
        if (rc)
            return rc;
        CHECK_INT(value.i, 77);
        found++;
    }
    CHECK_INT(found, 1);
    char text[48];
    shobj_key key = key_make(store, mover_key(t->b), HASH_TRUE, text);
    shobj_value value = {.type = SHOBJ_INT, .i = 77};
    return shobj_dict_set(store, dict, &key, &value);
}

static void txn_step(worker *w)
{
    txn_arg t = {.w = w,
                 .a = (uint32_t)(check_random(&w->random) % COUNTERS),
                 .b = (uint32_t)(check_random(&w->random) % MOVERS_KEYS)};
    CHECK_INT(shobj_run(w->all->store, count_fn, &t), 0);
    if (check_random(&w->random) % 4 == 0)
        CHECK_INT(shobj_run(w->all->store, move_fn, &t), 0);
}

/* ------------------------------------------------------------------------------------------ */

static void *work(void *arg)
{
    worker *w = arg;
    w->random = w->all->seed + w->number;
    for (unsigned round = 0; round < w->all->rounds; round++) {
        for (unsigned i = 0; i < 150; i++)
            own_step(w);
        for (unsigned i = 0; i < 10; i++)
            txn_step(w);
        walk_once(w);
        if (round % 8 == 7)
            own_drop(w);
    }
    own_compare(w);
    shobj_detach(w->all->store);
    return NULL;
}

static void run(shobj_store *store, uint64_t seed, unsigned rounds)
{
    static worker workers[THREADS];
    shared all = {.store = store, .rounds = rounds, .seed = seed};
    memset(workers, 0, sizeof(workers));
    CHECK_INT(shobj_dict_new(store, NULL, 0, &all.dict), 0);
    for (uint32_t n = 0; n < FIXED_KEYS; n++)
        put(&all, n, n);
    for (uint32_t i = 0; i < COUNTERS; i++)
        put(&all, counter_key(i), 0);
    put(&all, mover_key(0), 77);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i].all = &all;
        workers[i].number = i;
        CHECK_INT(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(workers[i].thread, NULL), 0);
    dict_check(store, all.dict, HASH_TRUE);
    uint64_t expected = FIXED_KEYS + COUNTERS + 1;
    for (uint32_t i = 0; i < THREADS; i++) {
        own_compare(&workers[i]);
        for (uint32_t k = 0; k < OWN_KEYS; k++)
            expected += workers[i].bits[k] != 0;
    }
    CHECK_INT(dict_len(store, all.dict), expected);
    int64_t sum = 0;
    for (uint32_t i = 0; i < COUNTERS; i++) {
        char text[48];
        shobj_key key = key_make(store, counter_key(i), HASH_TRUE, text);
        shobj_value value;
        CHECK_INT(shobj_dict_get(store, all.dict, &key, &value), 0);
        sum += value.i;
    }
    CHECK_INT(sum, THREADS * rounds * 10);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
}

/* ---------------------------------------------------------------------------------- small dicts */

#define SMALL_KEYS 26u

/* Threads share a dict that goes through all its forms: every value tells its key. */
static void *work_small(void *arg)
{
    worker *w = arg;
    shared *all = w->all;
    w->random = all->seed + w->number;
    for (unsigned i = 0; i < all->rounds * 100; i++) {
        char text[48];
        uint32_t n = (uint32_t)(check_random(&w->random) % SMALL_KEYS);
        shobj_key key = key_make(all->store, n, HASH_TRUE, text);
        shobj_value value = {.type = SHOBJ_INT, .i = n};
        shobj_item item;
        int rc;
        /* It swells and shrinks. */
        unsigned what = (unsigned)(check_random(&w->random) % (i / 200 % 2 ? 7 : 11));
        switch (what) {
        case 0:
            rc = shobj_dict_popitem(all->store, all->dict, i % 2, &item);
            CHECK(rc == SHOBJ_ENOTFOUND || (rc == 0 && key_number(&item.key) == (uint32_t)item.value.i));
            break;
        case 1:
        case 2:
        case 3:
            rc = shobj_dict_del(all->store, all->dict, &key, &value);
            CHECK(rc == SHOBJ_ENOTFOUND || (rc == 0 && value.i == n));
            break;
        case 4:
            rc = shobj_dict_get(all->store, all->dict, &key, &value);
            CHECK(rc == SHOBJ_ENOTFOUND || (rc == 0 && value.i == n));
            if (i % 64 == 0)
                CHECK_INT(shobj_dict_clear(all->store, all->dict), 0);
            break;
        case 5:
            CHECK_INT(shobj_dict_setdefault(all->store, all->dict, &key, &value, &value), 0);
            CHECK_INT(value.i, n);
            break;
        default: CHECK_INT(shobj_dict_set(all->store, all->dict, &key, &value), 0); break;
        }
    }
    shobj_detach(all->store);
    return NULL;
}

static void run_small(shobj_store *store, uint64_t seed, unsigned rounds)
{
    static worker workers[THREADS];
    shared all = {.store = store, .rounds = rounds, .seed = seed};
    shobj_item item;
    CHECK_INT(shobj_dict_new(store, NULL, 0, &all.dict), 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i].all = &all;
        workers[i].number = i;
        CHECK_INT(pthread_create(&workers[i].thread, NULL, work_small, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(workers[i].thread, NULL), 0);
    dict_check(store, all.dict, HASH_TRUE);
    while (shobj_dict_popitem(store, all.dict, true, &item) == 0)
        CHECK_INT(key_number(&item.key), item.value.i);
    CHECK_INT(dict_len(store, all.dict), 0);
    dict_check(store, all.dict, HASH_TRUE);
}

int main(void)
{
    shobj_store *store = check_store();
    uint64_t seed = check_seed();
    run(store, seed, 160);
    run_small(store, seed, 500);
    shobj_close(store);
    return 0;
}
