/*
 * test_cell_threads.c: values with boxes of all sizes are replaced by two threads while two others
 * read them. A value tells by its first item what all of it must be, so that a torn, stale or
 * doubly owned one is seen.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "values.h"

#define KEY_COUNT 3
#define ROUNDS 20000
#define TEXT_MAX 20000

static shobj_store *store;
static shobj_key keys[KEY_COUNT];
static _Atomic unsigned writers;

/* A value in parts that point to one another. */
struct parts {
    shobj_value items[5];
    shobj_value inner[3];
    shobj_value value;
    char text[TEXT_MAX];
};

/* What one thread has for itself. */
struct job {
    pthread_t thread;
    uint64_t random;
    struct parts parts;
};

/* Value n, the same at each call. */
static void make(struct parts *p, uint64_t n)
{
    uint64_t random = n;
    size_t length = check_random(&random) % (n % 16 == 0 ? TEXT_MAX : 60);
    memset(p->text, 'a' + (int)(n % 26), length);
    p->inner[0] = integer((int64_t)n);
    p->inner[1] = (shobj_value){.type = SHOBJ_BYTES, .data = p->text, .count = length / 2};
    p->inner[2] = real((double)n + 0.5);
    p->items[0] = integer((int64_t)n);
    p->items[1] = (shobj_value){.type = SHOBJ_STR, .data = p->text, .count = length};
    p->items[2] = (shobj_value){.type = SHOBJ_FROZENSET, .items = p->inner, .count = 3};
    p->items[3] = integer((int64_t)(n << 50));
    p->items[4] = (shobj_value){.type = SHOBJ_TUPLE, .items = p->inner, .count = n % 4};
    p->value = (shobj_value){.type = SHOBJ_TUPLE, .items = p->items, .count = 5};
}

static void check_value_read(struct parts *p, const shobj_value *value)
{
    CHECK_INT(value->type, SHOBJ_TUPLE);
    CHECK_INT(value->count, 5);
    CHECK_INT(value->items[0].type, SHOBJ_INT);
    make(p, (uint64_t)value->items[0].i);
    CHECK(same(&p->value, value));
}

static void *write_values(void *arg)
{
    struct job *job = arg;
    struct parts *p = &job->parts;
    for (unsigned i = 0; i < ROUNDS; i++) {
        make(p, check_random(&job->random) % 1000);
        CHECK_INT(shobj_dict_set(store, shobj_root(store),
                                 &keys[check_random(&job->random) % KEY_COUNT], &p->value),
                  0);
    }
    shobj_detach(store);
    atomic_fetch_sub(&writers, 1);
    return NULL;
}

static void *read_values(void *arg)
{
    struct job *job = arg;
    struct parts *p = &job->parts;
    while (atomic_load(&writers) > 0) {
        shobj_value value;
        CHECK_INT(shobj_dict_get(store, shobj_root(store),
                                 &keys[check_random(&job->random) % KEY_COUNT], &value),
                  0);
        check_value_read(p, &value);
    }
    shobj_detach(store);
    return NULL;
}

static void print_problem(const char *line, void *arg)
{
    (void)arg;
    fprintf(stderr, "%s\n", line);
}

int main(void)
{
    uint64_t random = check_seed();
    store = check_store();
    struct job *jobs = keep(4 * sizeof(*jobs));
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        char name[40];
        snprintf(name, sizeof(name), "a key that is in a box %u", i);
        shobj_value key = str(name);
        CHECK_INT(shobj_key_init(store, &key, &keys[i]), 0);
        make(&jobs[0].parts, i);
        CHECK_INT(shobj_dict_set(store, shobj_root(store), &keys[i], &jobs[0].parts.value), 0);
    }
    writers = 2;
    for (unsigned i = 0; i < 4; i++) {
        jobs[i].random = check_random(&random);
        void *(*run)(void *) = i < 2 ? write_values : read_values;
        CHECK_INT(pthread_create(&jobs[i].thread, NULL, run, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        CHECK_INT(pthread_join(jobs[i].thread, NULL), 0);
    uint64_t problem_count;
    CHECK_INT(shobj_check(store, print_problem, NULL, &problem_count), 0);
    shobj_close(store);
    return 0;
}
