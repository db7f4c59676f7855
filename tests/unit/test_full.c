/*
 * test_full.c: a store without a byte left can be emptied: an entry or an element at a time, a range, all at once, in a
 * transaction and outside; then there is room. A process that dies on the way leaves all or nothing of what it deleted.
 * Updates that run beside the clearing of a dict are in what was cleared, or in what comes afterwards.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "deaths.h"

#define MAX_BYTES (4u << 20)

enum shape { DICT, DICT_OF_BOXES, LIST, LIST_OF_BOXES, SHAPES };

extern bool sho_slab_no_reserve;

static char path[80], copy[96];
static shobj_store *store;
static shobj_oid object;

static shobj_value int_of(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

static char text[64];

static shobj_value value_of(enum shape shape, int64_t i)
{
    if (shape == DICT || shape == LIST)
        return int_of(i);
    size_t count = (size_t)snprintf(text, sizeof(text), "value number %" PRId64, i);
    return (shobj_value){.type = SHOBJ_STR, .data = text, .count = count};
}

static shobj_key key_of(int64_t i)
{
    shobj_value value = int_of(i);
    shobj_key key;
    CHECK_INT(shobj_key_init(store, &value, &key), 0);
    return key;
}

static bool is_dict(enum shape shape)
{
    return shape == DICT || shape == DICT_OF_BOXES;
}

static int add(enum shape shape, int64_t i)
{
    shobj_value value = value_of(shape, i);
    shobj_key key = key_of(i);
    return is_dict(shape) ? shobj_dict_set(store, object, &key, &value) : shobj_list_append(store, object, &value);
}

/* Entries or elements from `from` on until there is no room, twice: two mappings may take turns. Their number. */
static int64_t fill(enum shape shape, int64_t from)
{
    int64_t i = from;
    for (int failures = 0; failures < 2;) {
        int rc = add(shape, i);
        CHECK(rc == 0 || rc == SHOBJ_EFULL);
        failures = rc == 0 ? 0 : failures + 1;
        i += rc == 0;
    }
    return i - from;
}

static uint64_t length(enum shape shape)
{
    uint64_t count;
    CHECK_INT(is_dict(shape) ? shobj_dict_len(store, object, &count) : shobj_list_len(store, object, &count), 0);
    return count;
}

/* The store at a name, and the object in it. */
static void open_at(const char *name)
{
    shobj_value value;
    CHECK_INT(shobj_open(name, NULL, &store), 0);
    shobj_gc_growth(store, UINT32_MAX);
    shobj_key key = key_of(0);
    CHECK_INT(shobj_dict_get(store, shobj_root(store), &key, &value), 0);
    object = value.oid;
}

/* Every byte that is left, in lists of boxes of all sizes. */
static void stuff(void)
{
    static char bytes[100000];
    static const size_t sizes[] = {100000, 20000, 5000, 1000, 500, 250, 100, 50, 30, 20, 10, 7};
    shobj_value pad = {.type = SHOBJ_OBJECT};
    shobj_oid filled = object;
    shobj_key key = key_of(1);
    if (shobj_list_new(store, NULL, 0, &pad.oid) || shobj_dict_set(store, shobj_root(store), &key, &pad))
        return;
    object = pad.oid;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        shobj_value value = {.type = SHOBJ_BYTES, .data = bytes, .count = sizes[i]};
        while (shobj_list_append(store, pad.oid, &value) == 0 || shobj_list_append(store, pad.oid, &value) == 0)
            ;
    }
    fill(LIST, 0);
    object = filled;
}

/* A full store at `path`; the number of entries. */
static int64_t make(enum shape shape)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = MAX_BYTES};
    shobj_value value = {.type = SHOBJ_OBJECT};
    CHECK_INT(shobj_open(path, &options, &store), 0);
    shobj_gc_growth(store, UINT32_MAX);
    CHECK_INT(is_dict(shape) ? shobj_dict_new(store, NULL, 0, &value.oid) : shobj_list_new(store, NULL, 0, &value.oid), 0);
    shobj_key key = key_of(0);
    CHECK_INT(shobj_dict_set(store, shobj_root(store), &key, &value), 0);
    object = value.oid;
    int64_t count = fill(shape, 0);
    stuff();
    CHECK_INT(length(shape), count);
    shobj_close(store);
    return count;
}

static void take_copy(void)
{
    static char bytes[1 << 20];
    int from = open(path, O_RDONLY), to = open(copy, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    ssize_t n;
    CHECK(from >= 0 && to >= 0);
    while ((n = read(from, bytes, sizeof(bytes))) > 0)
        CHECK(write(to, bytes, (size_t)n) == n);
    CHECK(n == 0);
    close(from);
    close(to);
}

/* ------------------------------------------------------------------------------------------ ways to delete */

static int64_t count; /* of the full object */

static int clear(shobj_store *st, void *arg)
{
    enum shape shape = *(const enum shape *)arg;
    return is_dict(shape) ? shobj_dict_clear(st, object) : shobj_list_clear(st, object);
}

/* A third in the middle. */
static int cut(shobj_store *st, void *arg)
{
    enum shape shape = *(const enum shape *)arg;
    int rc = 0;
    if (!is_dict(shape))
        return shobj_list_cut(st, object, (uint64_t)count / 3, (uint64_t)count / 3);
    for (int64_t i = count / 3; i < count / 3 * 2 && rc == 0; i++) {
        shobj_key key = key_of(i);
        rc = shobj_dict_del(st, object, &key, NULL);
    }
    return rc;
}

static int take_all(shobj_store *st, void *arg)
{
    enum shape shape = *(const enum shape *)arg;
    int rc = 0;
    shobj_item item;
    for (int64_t i = 0; i < count && rc == 0; i++)
        rc = is_dict(shape) ? shobj_dict_popitem(st, object, i & 1, &item) : shobj_list_del(st, object, -(i & 1), NULL);
    return rc;
}

/* As many as the reserve has room for, whatever the size of a node. */
static int some(shobj_store *st, void *arg)
{
    enum shape shape = *(const enum shape *)arg;
    int rc = 0;
    for (int64_t i = 0; i < 40 && rc == 0; i++) {
        shobj_key key = key_of(count / 41 * i);
        rc = is_dict(shape) ? shobj_dict_del(st, object, &key, NULL) : shobj_list_del(st, object, count / 41 * i, NULL);
    }
    return rc;
}

struct way {
    const char *name;
    int (*body)(shobj_store *st, void *arg);
    bool in_txn;
};
static const struct way ways[] = {
    {"clearing", clear, false},          {"clearing in a transaction", clear, true}, {"cutting", cut, false},
    {"taking one after another", take_all, false}, {"taking some in a transaction", some, true},
};

/* In a thread of its own: a session that begins in the full store. */
struct deletion {
    const struct way *way;
    enum shape shape;
    int rc;
};

static void *delete(void *arg)
{
    struct deletion *d = arg;
    d->rc = d->way->in_txn ? shobj_run(store, d->way->body, &d->shape) : d->way->body(store, &d->shape);
    return NULL;
}

static void test_ways(enum shape shape)
{
    for (unsigned w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
        pthread_t thread;
        struct deletion d = {.way = &ways[w], .shape = shape};
        take_copy();
        open_at(copy);
        CHECK(add(shape, count) == SHOBJ_EFULL || getenv("SHOBJ_TWIN") != NULL);
        CHECK(pthread_create(&thread, NULL, delete, &d) == 0);
        pthread_join(thread, NULL);
        if (d.rc != 0)
            printf("shape %d, %s\n", shape, ways[w].name);
        CHECK_INT(d.rc, 0);
        int64_t left = (int64_t)length(shape);
        CHECK(left < count);
        check_sound(store);
        if (ways[w].body != some) {
            int64_t again = fill(shape, count);
            if (again < (count - left) / 5 * 4)
                printf("shape %d, %s: %" PRId64 " of %" PRId64 " left, %" PRId64 " added\n", shape, ways[w].name, left,
                       count, again);
            CHECK(again >= (count - left) / 5 * 4);
        }
        check_sound(store);
        CHECK_INT(shobj_collect(store, 1), 0);
        check_sound(store);
        shobj_close(store);
    }
}

/* ------------------------------------------------------------------------------------------ deaths */

static const struct way *fatal;
static enum shape fatal_shape;
static uint64_t passages;

static void victim(void)
{
    open_at(copy);
    struct deletion d = {.way = fatal, .shape = fatal_shape};
    delete(&d);
    CHECK_INT(d.rc, 0);
    shobj_close(store);
}

static void measure(void)
{
    victim();
    FILE *out = fopen(copy, "w");
    fprintf(out, "%" PRIu64, sho_fault_passages());
    fclose(out);
}

static void test_deaths(enum shape shape, const struct way *way, uint64_t runs, uint64_t *seed)
{
    fatal = way;
    fatal_shape = shape;
    take_copy();
    CHECK(!dies(measure, SHO_FAULT_KILL, UINT64_MAX, NULL));
    FILE *in = fopen(copy, "r");
    CHECK(fscanf(in, "%" SCNu64, &passages) == 1 && passages > 0);
    fclose(in);
    for (uint64_t run = 0; run < runs; run++) {
        /* Half of them where it ends, and what is left is freed. */
        uint64_t last = passages < 400 ? passages : 400;
        uint64_t passage = run & 1 ? passages - check_random(seed) % last : 1 + check_random(seed) % passages;
        take_copy();
        bool has_died = dies(victim, SHO_FAULT_KILL, passage, NULL);
        open_at(copy);
        unsigned reaped;
        CHECK_INT(shobj_reap(store, &reaped), 0);
        uint64_t left = length(shape);
        uint64_t done = way->body == clear ? 0 : (uint64_t)count - (uint64_t)count / 3;
        if (left != done && (left != (uint64_t)count || !has_died))
            printf("%s: killed at %" PRIu64 " of %" PRIu64 ": %" PRIu64 " left\n", way->name, passage, passages, left);
        CHECK(left == done || (left == (uint64_t)count && has_died));
        check_sound(store);
        CHECK_INT(clear(store, &shape), 0);
        int64_t again = fill(shape, 0);
        if (again < count / 5 * 4)
            printf("%s: killed at %" PRIu64 " of %" PRIu64 ": %" PRId64 " of %" PRId64 " again\n", way->name, passage, passages,
                   again, count);
        CHECK(again >= count / 5 * 4);
        CHECK_INT(shobj_collect(store, 1), 0);
        check_sound(store);
        shobj_close(store);
    }
}

/* ------------------------------------------------------------------------------------------ stops */

/* Who stands still on the way has done all or nothing, and nobody who reads waits for it; killed there, it holds nobody up. */
static void test_stops(enum shape shape, const struct way *way, uint64_t runs, uint64_t *seed)
{
    for (uint64_t run = 0; run < runs; run++) {
        uint64_t passage = 1 + check_random(seed) % passages; /* of the deaths before */
        int status;
        take_copy();
        fatal = way;
        fatal_shape = shape;
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            sho_fault_plan(SHO_FAULT_STOP, passage, NULL);
            victim();
            _exit(0);
        }
        CHECK(waitpid(pid, &status, WUNTRACED) == pid);
        CHECK(WIFSTOPPED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        open_at(copy);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        shobj_deadline(store, (now.tv_sec + 60) * INT64_C(1000000000));
        uint64_t left = length(shape);
        CHECK(left == 0 || left == (uint64_t)count);
        if (WIFSTOPPED(status)) {
            kill(pid, SIGKILL);
            CHECK(waitpid(pid, &status, 0) == pid);
        }
        CHECK_INT(clear(store, &shape), 0);
        CHECK(fill(shape, 0) >= count / 5 * 4);
        check_sound(store);
        shobj_close(store);
    }
}

/* ------------------------------------------------------------------------------------------ updates beside it */

enum { WRITERS = 3, ROUNDS = 3 };

static _Atomic bool drained;
static int64_t taken[WRITERS]; /* what the clearing has seen */

struct writer {
    int64_t key, last; /* its key, and the last value that it has stored */
};

static void *write_on(void *arg)
{
    struct writer *w = arg;
    shobj_key key = key_of(w->key);
    for (int after = 0; after < 3; after += drained) {
        shobj_value value = int_of(w->last + 1);
        int rc = shobj_dict_set(store, object, &key, &value);
        CHECK(rc == 0 || rc == SHOBJ_EFULL);
        w->last += rc == 0;
    }
    return NULL;
}

static int drain(shobj_store *st, void *arg)
{
    const struct writer *writers = arg;
    int rc = 0;
    for (int i = 0; i < WRITERS && rc == 0; i++) {
        shobj_value value;
        shobj_key key = key_of(writers[i].key);
        if ((rc = shobj_dict_get(st, object, &key, &value)) == 0)
            taken[i] = value.i;
    }
    return rc ? rc : shobj_dict_clear(st, object);
}

/* A value that was stored is the one that was drained, or it is there. */
static void test_updates(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[WRITERS];
        struct writer writers[WRITERS];
        take_copy();
        open_at(copy);
        drained = false;
        for (int i = 0; i < WRITERS; i++) {
            writers[i] = (struct writer){.key = count / 4 * (i + 1), .last = count / 4 * (i + 1)};
            CHECK(pthread_create(&threads[i], NULL, write_on, &writers[i]) == 0);
        }
        CHECK_INT(shobj_run(store, drain, writers), 0);
        drained = true;
        for (int i = 0; i < WRITERS; i++) {
            pthread_join(threads[i], NULL);
            shobj_value value = int_of(-1);
            shobj_key key = key_of(writers[i].key);
            int rc = shobj_dict_get(store, object, &key, &value);
            CHECK(rc == 0 || rc == SHOBJ_ENOTFOUND);
            CHECK_INT(rc == 0 ? value.i : taken[i], writers[i].last);
        }
        check_sound(store);
        shobj_close(store);
    }
}

static void beside(void *(*fn)(void *))
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, NULL) == 0);
    pthread_join(thread, NULL);
}

static struct writer late[WRITERS];

static void *drain_all(void *arg)
{
    (void)arg;
    CHECK_INT(shobj_run(store, drain, late), 0);
    drained = true;
    return NULL;
}

/* Between an update's last look at its way and its lock. */
static void drain_now(void)
{
    beside(drain_all);
}

static bool collects;

static void *clear_all(void *arg)
{
    enum shape shape = DICT;
    (void)arg;
    CHECK_INT(clear(store, &shape), 0);
    if (collects)
        CHECK_INT(shobj_collect(store, 1), 0);
    drained = true;
    return NULL;
}

static void clear_now(void)
{
    beside(clear_all);
}

static void clear_and_collect_now(void)
{
    collects = true;
    clear_now();
    collects = false;
}

/* A clearing comes in the midst of an update, between the last look at the way and the lock: one that has looked at the key before
 * (the update is in what it has seen, or it is made anew), or one that has not (the update may be in what is gone). */
static void test_late_update(void)
{
    static void (*const meanwhile[])(void) = {drain_now, clear_now, clear_and_collect_now};
    unsigned struck = 0;
    for (unsigned i = 0; i < SHO_COUNT_OF(meanwhile); i++) {
        take_copy();
        open_at(copy);
        for (int k = 0; k < WRITERS; k++)
            late[k] = (struct writer){.key = count / 4 * (k + 1)};
        drained = false;
        shobj_key key = key_of(late[0].key);
        shobj_value value = int_of(-4711);
        sho_fault_plan_call(meanwhile[i], 1, "single.before_lock");
        CHECK_INT(shobj_dict_set(store, object, &key, &value), 0);
        sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
        int rc = shobj_dict_get(store, object, &key, &value);
        CHECK(drained && (rc == 0 || rc == SHOBJ_ENOTFOUND));
        if (rc == 0 || i == 0)
            CHECK_INT(rc == 0 ? value.i : taken[0], -4711);
        struck += drained;
        check_sound(store);
        shobj_close(store);
    }
}

/* An iterator stands in the midst of a dict that is cleared, and filled again: it meets nothing of what was cleared. */
static void test_iterator(void)
{
    enum shape shape = DICT;
    shobj_dict_iter iter;
    shobj_item items[32];
    size_t got;
    static char bytes[100000];
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = MAX_BYTES};
    CHECK_INT(shobj_open(path, &options, &store), 0);
    shobj_gc_growth(store, UINT32_MAX);
    object = shobj_root(store);
    for (int64_t i = 0; i < 5; i++) { /* they are to make room without a collection */
        shobj_key key = key_of(i);
        const shobj_value value = {.type = SHOBJ_BYTES, .data = bytes, .count = sizeof(bytes)};
        CHECK_INT(shobj_dict_set(store, object, &key, &value), 0);
    }
    shobj_value dict = {.type = SHOBJ_OBJECT};
    CHECK_INT(shobj_dict_new(store, NULL, 0, &dict.oid), 0);
    shobj_key key = key_of(5);
    CHECK_INT(shobj_dict_set(store, object, &key, &dict), 0);
    object = dict.oid;
    count = fill(DICT, 0);
    shobj_dict_iter_init(&iter, object, false);
    CHECK_INT(shobj_dict_iter_next(store, &iter, items, 32, &got), 0);
    CHECK_INT(clear(store, &shape), 0);
    for (int64_t i = 0; i < 5; i++) {
        key = key_of(i);
        CHECK_INT(shobj_dict_del(store, shobj_root(store), &key, NULL), 0);
    }
    for (int64_t i = 0; i < 1000; i++)
        CHECK_INT(add(DICT, count + i), 0);
    int64_t met = 0;
    do {
        CHECK_INT(shobj_dict_iter_next(store, &iter, items, 32, &got), 0);
        for (size_t i = 0; i < got; i++)
            CHECK_INT(items[i].key.i, count + met++);
    } while (got > 0);
    CHECK_INT(met, 1000);
    check_sound(store);
    shobj_close(store);
}

/* ------------------------------------------------------------------------------------------ ranges of lists */

/* shobj_list_cut() against a plain array. */
static void test_ranges(uint64_t *seed)
{
    store = check_store();
    for (int run = 0; run < 300; run++) {
        static int64_t model[4000];
        uint64_t n = check_random(seed) % (run % 3 == 0 ? 4000 : run % 3 == 1 ? 200 : 40);
        CHECK_INT(shobj_list_new(store, NULL, 0, &object), 0);
        check_keep(store, object);
        for (uint64_t i = 0; i < n; i++) {
            CHECK_INT(add(i % 5 ? LIST : LIST_OF_BOXES, (int64_t)i), 0);
            model[i] = (int64_t)i;
        }
        while (n > 0) {
            uint64_t first = check_random(seed) % (n + 1), cut_count = check_random(seed) % (n + 3);
            if (check_random(seed) % 4 == 0)
                first = n - n / 8;
            CHECK_INT(shobj_list_cut(store, object, first, cut_count), 0);
            uint64_t end = first + cut_count < n ? first + cut_count : n;
            if (first < end) {
                memmove(model + first, model + end, (n - end) * sizeof(model[0]));
                n -= end - first;
            }
            CHECK_INT(length(LIST), n);
            for (uint64_t i = 0; i < n; i++) {
                shobj_value found, expected = value_of(model[i] % 5 ? LIST : LIST_OF_BOXES, model[i]);
                CHECK_INT(shobj_list_get(store, object, (int64_t)i, &found), 0);
                CHECK(found.type == expected.type && (found.type == SHOBJ_INT ? found.i == expected.i :
                      found.count == expected.count && memcmp(found.data, expected.data, found.count) == 0));
            }
            if (check_random(seed) % 4 == 0 && n < 3990) { /* it can grow again */
                model[n] = (int64_t)n + 4000;
                CHECK_INT(add(model[n] % 5 ? LIST : LIST_OF_BOXES, model[n]), 0);
                n++;
            }
            if (cut_count == 0 && n < 5)
                break;
        }
    }
    check_sound(store);
    shobj_close(store);
}

int main(void)
{
    uint64_t seed = check_seed();
    snprintf(path, sizeof(path), "/dev/shm/shobj-full-%ld", (long)getpid());
    snprintf(copy, sizeof(copy), "%s-copy", path);
    test_ranges(&seed);
    for (enum shape shape = DICT; shape < SHAPES; shape++) {
        count = make(shape);
        test_ways(shape);
        test_deaths(shape, &ways[0], 10, &seed);
        if (!is_dict(shape))
            test_deaths(shape, &ways[2], 20, &seed);
    }
    /* Without the reserve, or in a store too large for it, nothing but the slot has room for a log. */
    sho_slab_no_reserve = true;
    for (enum shape shape = DICT; shape < SHAPES; shape++) {
        count = make(shape);
        test_deaths(shape, &ways[0], 8, &seed);
        test_stops(shape, &ways[0], 4, &seed);
        test_deaths(shape, &ways[1], 4, &seed);
        if (shape == DICT) {
            test_updates();
            test_late_update();
            test_iterator();
        }
    }
    unlink(path);
    unlink(copy);
    return 0;
}
