/*
 * Lists, several at once: threads that append, take, move and read; a process that is stopped
 * inside a step while another step is done; a process that dies inside one.
 */
#include "lists.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "base/fault.h"

/* ------------------------------------------------------------------------------------------ stopped and killed */

/* A list of `size` elements that has some age: gaps at the front of leaves, starts that do not
 * begin at 0. */
static void aged(struct model *m, size_t size)
{
    model_init(m);
    step_do(m, EXTEND, (int64_t)size + 40);
    for (int i = 0; i < 36; i++)
        step_do(m, DELETE, i % 4 ? 0 : -1);
    for (int i = 0; i < 4; i++)
        step_do(m, DELETE, (int64_t)m->count / 2);
}

/* A child that does the step under a plan for its fault points. It ends with the step's error
 * number, or is stopped, or dies. */
static pid_t begin_child(const struct model *m, struct step step, enum sho_fault_kind kind, uint64_t passage,
                         const char *name)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        shobj_value value;
        uint64_t length;
        shobj_list_len(store, m->list, &length); /* attaches */
        sho_fault_plan(kind, passage, name);
        _exit(-step_call(m, step, &value));
    }
    return pid;
}

/* Stands for the index of the last element. */
#define LAST 1000000

/* One step is stopped between its check and its first lock, another one is done meanwhile. Then the
 * first goes on: the list is as if it had come second. So whatever is written alone, as a fact of
 * its node, is one. */
static void test_stopped(void)
{
    static const size_t sizes[] = {0, 3, 5, 12, LIST_LEAF_CELLS, LIST_LEAF_CELLS + 1, 80, 2000};
    static const char *const points[] = {"single.before_lock", "commit.locking"};
    static const struct step firsts[] = {
        {SET, 0},    {SET, 2},    {SET, 70},    {SET, LAST},    {SET, -1},    {SET, -3},    {APPEND, 0},
        {EXTEND, 2}, {EXTEND, 90}, {INSERT, 0}, {INSERT, 4},    {INSERT, 71}, {INSERT, LAST}, {INSERT, -1},
        {DELETE, 0}, {DELETE, 3}, {DELETE, 70}, {DELETE, LAST}, {DELETE, -1}, {DELETE, -2}, {CLEAR, 0}};
    static const struct step seconds[] = {{SET, 1},    {APPEND, 0},  {EXTEND, 40}, {INSERT, 0}, {INSERT, 4},
                                          {DELETE, 0}, {DELETE, -1}, {DELETE, 40}, {CLEAR, 0}};
    unsigned stopped = 0;
    for (unsigned i = 0; i < SHO_COUNT_OF(sizes) * SHO_COUNT_OF(points); i++) {
        for (unsigned f = 0; f < SHO_COUNT_OF(firsts); f++) {
            const struct step *second = &seconds[(f + i) % SHO_COUNT_OF(seconds)];
            for (unsigned k = 0; k < 3; k++, second = &seconds[(f + i + 4 * k) % SHO_COUNT_OF(seconds)]) {
                struct model m;
                int status;
                aged(&m, sizes[i / 2]);
                struct step first = firsts[f];
                if (first.index == LAST)
                    first.index = (int64_t)m.count - 1;
                pid_t pid = begin_child(&m, first, SHO_FAULT_STOP, 1, points[i % 2]);
                CHECK_INT(waitpid(pid, &status, WUNTRACED), pid);
                if (WIFSTOPPED(status)) {
                    stopped++;
                    struct model done = model_copy(&m);
                    done.next_code += 1000; /* the values differ from those of the child */
                    step_do(&done, second->what, second->index);
                    compare(&done, 300);
                    done.next_code = m.next_code;
                    CHECK_INT(kill(pid, SIGCONT), 0);
                    CHECK_INT(waitpid(pid, &status, 0), pid);
                    CHECK(WIFEXITED(status));
                    CHECK_INT(-WEXITSTATUS(status), step_model(&done, first));
                    compare(&done, 300);
                    free(done.codes);
                } else {
                    CHECK(WIFEXITED(status));
                    CHECK_INT(-WEXITSTATUS(status), step_model(&m, first));
                    compare(&m, 300);
                }
                check_structure(m.list);
                CHECK_INT(shobj_list_clear(store, m.list), 0);
                free(m.codes);
            }
        }
    }
    CHECK(stopped > 300);
}

/* Whoever dies at any instruction leaves the list as it was, or as it was to be. */
static void test_killed(void)
{
    static const struct {
        size_t size;
        struct step step;
    } cases[] = {{5, {APPEND, 0}},   {LIST_LEAF_CELLS, {INSERT, 7}}, {90, {EXTEND, 70}}, {80, {DELETE, 3}},
                 {2000, {SET, 900}}, {2000, {INSERT, 700}},          {90, {CLEAR, 0}},   {6, {DELETE, 1}},
                 {2000, {SET, -1}},  {2000, {DELETE, 0}}};
    unsigned finished = 0;
    unsigned undone = 0;
    for (unsigned c = 0; c < SHO_COUNT_OF(cases); c++) {
        int status = 0;
        for (uint64_t passage = 1; !WIFEXITED(status) || passage == 1; passage += 1 + passage / 8) {
            struct model m;
            aged(&m, cases[c].size);
            struct model done = model_copy(&m);
            CHECK_INT(step_model(&done, cases[c].step), 0);
            pid_t pid = begin_child(&m, cases[c].step, SHO_FAULT_KILL, passage, NULL);
            CHECK_INT(waitpid(pid, &status, 0), pid);
            if (model_matches(&done, 300)) {
                finished++;
            } else {
                undone++;
                CHECK(!WIFEXITED(status));
                compare(&m, 300);
                step_do(&m, cases[c].step.what, cases[c].step.index);
                compare(&m, 300);
            }
            check_structure(m.list);
            CHECK_INT(shobj_list_clear(store, m.list), 0);
            free(m.codes);
            free(done.codes);
        }
    }
    CHECK(finished > SHO_COUNT_OF(cases) && undone > SHO_COUNT_OF(cases));
}

/* ------------------------------------------------------------------------------------------ threads */
#define THREADS 4

struct crew {
    shobj_oid list;
    shobj_oid other;
    int per_thread;
    uint64_t seed;
    _Atomic int running; /* producers still at work */
    _Atomic int64_t taken_sum;
    _Atomic int64_t taken_count;
    _Atomic bool stop;
};
struct worker {
    struct crew *crew;
    int64_t number;
    uint64_t random;
    pthread_t thread;
};

static void run_crew(struct crew *crew, void *(*const bodies[])(void *), int count)
{
    struct worker workers[3 * THREADS];
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){.crew = crew, .number = i, .random = crew->seed + (uint64_t)i};
        CHECK_INT(pthread_create(&workers[i].thread, NULL, bodies[i], &workers[i]), 0);
    }
    for (int i = 0; i < count; i++)
        CHECK_INT(pthread_join(workers[i].thread, NULL), 0);
}

/* Elements are worker << 32 | serial. */
static void *appender(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < w->crew->per_thread; i++) {
        shobj_value value = int_value(w->number << 32 | i);
        CHECK_INT(shobj_list_append(store, w->crew->list, &value), 0);
    }
    atomic_fetch_sub(&w->crew->running, 1);
    return NULL;
}

/* Reads batches while others append: what is there never changes, and each worker's elements are in
 * order. */
static void *append_reader(void *arg)
{
    struct worker *w = arg;
    shobj_value values[64];
    while (atomic_load(&w->crew->running) > 0) {
        int64_t last[THREADS];
        memset(last, -1, sizeof(last));
        uint64_t at = 0;
        size_t count;
        do {
            CHECK_INT(shobj_list_read(store, w->crew->list, at, values, SHO_COUNT_OF(values), &count), 0);
            for (size_t i = 0; i < count; i++) {
                int64_t number = values[i].i >> 32;
                CHECK(values[i].type == SHOBJ_INT && number >= 0 && number < THREADS);
                CHECK_INT(values[i].i & 0xffffffff, last[number] + 1);
                last[number]++;
            }
            at += count;
        } while (count > 0);
    }
    return NULL;
}

static void test_append_threads(void)
{
    struct crew crew = {.per_thread = 20000, .running = THREADS};
    CHECK_INT(shobj_list_new(store, NULL, 0, &crew.list), 0);
    void *(*const bodies[])(void *) = {appender, appender, appender, appender, append_reader};
    run_crew(&crew, bodies, THREADS + 1);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, crew.list, &length), 0);
    CHECK_INT(length, THREADS * crew.per_thread);
    crew.running = 0;
    check_structure(crew.list);
    shobj_value value;
    int64_t last[THREADS];
    memset(last, -1, sizeof(last));
    for (uint64_t i = 0; i < length; i++) {
        CHECK_INT(shobj_list_get(store, crew.list, (int64_t)i, &value), 0);
        CHECK_INT(value.i & 0xffffffff, ++last[value.i >> 32]);
    }
    CHECK_INT(shobj_list_clear(store, crew.list), 0);
}

/* Takes from the front (each taker sees each producer's elements in order) until all is taken. */
static void *front_taker(void *arg)
{
    struct worker *w = arg;
    int64_t last[THREADS];
    memset(last, -1, sizeof(last));
    shobj_value value;
    for (;;) {
        bool done = atomic_load(&w->crew->running) == 0;
        int rc = shobj_list_del(store, w->crew->list, 0, &value);
        if (rc == SHOBJ_ENOTFOUND && done)
            return NULL;
        if (rc == SHOBJ_ENOTFOUND)
            continue;
        CHECK_INT(rc, 0);
        int64_t serial = value.i & 0xffffffff;
        CHECK(serial > last[value.i >> 32]);
        last[value.i >> 32] = serial;
        atomic_fetch_add(&w->crew->taken_sum, value.i);
        atomic_fetch_add(&w->crew->taken_count, 1);
    }
}

static void *back_taker(void *arg)
{
    struct worker *w = arg;
    shobj_value value;
    for (;;) {
        bool done = atomic_load(&w->crew->running) == 0;
        int rc = shobj_list_del(store, w->crew->list, -1, &value);
        if (rc == SHOBJ_ENOTFOUND && done)
            return NULL;
        if (rc == SHOBJ_ENOTFOUND)
            continue;
        CHECK_INT(rc, 0);
        atomic_fetch_add(&w->crew->taken_sum, value.i);
        atomic_fetch_add(&w->crew->taken_count, 1);
    }
}

static void test_takers(void *(*first)(void *), void *(*second)(void *))
{
    struct crew crew = {.per_thread = 20000, .running = 2};
    CHECK_INT(shobj_list_new(store, NULL, 0, &crew.list), 0);
    void *(*const bodies[])(void *) = {appender, appender, first, second};
    run_crew(&crew, bodies, 4);
    int64_t n = crew.per_thread;
    CHECK_INT(crew.taken_count, 2 * n);
    CHECK_INT(crew.taken_sum, n * (n - 1) + (n << 32));
    CHECK_INT(check_structure(crew.list), 1);
}

/* Moves elements between two lists and within them, in transactions: their sum stands. */
static int move_some(shobj_store *st, void *arg)
{
    struct worker *w = arg;
    struct crew *c = w->crew;
    bool way = check_random(&w->random) % 2;
    shobj_oid from = way ? c->list : c->other;
    shobj_oid to = way ? c->other : c->list;
    shobj_value value;
    uint64_t length;
    int rc = shobj_list_len(st, from, &length);
    if (rc || length < 20)
        return rc;
    int64_t index = (int64_t)(check_random(&w->random) % length);
    if ((rc = shobj_list_del(st, from, check_random(&w->random) % 2 ? index : index - (int64_t)length, &value)))
        return rc;
    if ((rc = shobj_list_len(st, to, &length)))
        return rc;
    switch (check_random(&w->random) % 3) {
    case 0:
        return shobj_list_append(st, to, &value);
    case 1:
        return shobj_list_insert(st, to, (int64_t)(check_random(&w->random) % (length + 1)), &value);
    default: {
        /* In place of another one, which goes to the end. */
        shobj_value old;
        index = (int64_t)(check_random(&w->random) % length);
        if ((rc = shobj_list_get(st, to, index, &old)) || (rc = shobj_list_set(st, to, index, &value)))
            return rc;
        return shobj_list_append(st, to, &old);
    }
    }
}

static void *mover(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < w->crew->per_thread; i++)
        CHECK_INT(shobj_run(store, move_some, w), 0);
    atomic_fetch_sub(&w->crew->running, 1);
    return NULL;
}

struct sum {
    struct crew *crew;
    int64_t sum;
    uint64_t count;
};

static int sum_both(shobj_store *st, void *arg)
{
    struct sum *total = arg;
    shobj_value values[200];
    total->sum = 0;
    total->count = 0;
    for (int which = 0; which < 2; which++) {
        uint64_t at = 0;
        size_t count;
        do {
            int rc = shobj_list_read(st, which ? total->crew->other : total->crew->list, at, values,
                                     SHO_COUNT_OF(values), &count);
            if (rc)
                return rc;
            for (size_t i = 0; i < count; i++)
                total->sum += values[i].i;
            at += count;
        } while (count > 0);
        total->count += at;
    }
    return 0;
}

static void *auditor(void *arg)
{
    struct worker *w = arg;
    do {
        struct sum total = {.crew = w->crew};
        CHECK_INT(shobj_run(store, sum_both, &total), 0);
        CHECK_INT(total.count, 600);
        CHECK_INT(total.sum, 600 * 599 / 2);
    } while (atomic_load(&w->crew->running) > 0);
    return NULL;
}

static void test_movers(uint64_t seed)
{
    struct crew crew = {.per_thread = 4000, .running = 3, .seed = seed};
    shobj_value values[600];
    for (int i = 0; i < 600; i++)
        values[i] = int_value(i);
    CHECK_INT(shobj_list_new(store, values, 300, &crew.list), 0);
    CHECK_INT(shobj_list_new(store, values + 300, 300, &crew.other), 0);
    void *(*const bodies[])(void *) = {mover, mover, mover, auditor};
    run_crew(&crew, bodies, 4);
    check_structure(crew.list);
    check_structure(crew.other);
}

/* Single operations in the middle of one list, at once: every element that went in is in it or was
 * taken out. */
static void *churner(void *arg)
{
    struct worker *w = arg;
    shobj_value value;
    for (int i = 0; i < w->crew->per_thread; i++) {
        int64_t index = (int64_t)(check_random(&w->random) % 400) - 200;
        if (check_random(&w->random) % 2) {
            value = int_value(w->number << 32 | i);
            CHECK_INT(shobj_list_insert(store, w->crew->list, index, &value), 0);
            atomic_fetch_add(&w->crew->taken_sum, -value.i);
            atomic_fetch_add(&w->crew->taken_count, -1);
        } else {
            int rc = shobj_list_del(store, w->crew->list, index, &value);
            CHECK(rc == 0 || rc == SHOBJ_ENOTFOUND);
            if (rc == 0) {
                atomic_fetch_add(&w->crew->taken_sum, value.i);
                atomic_fetch_add(&w->crew->taken_count, 1);
            }
        }
    }
    return NULL;
}

static void test_churn(uint64_t seed)
{
    struct crew crew = {.per_thread = 15000, .seed = seed};
    CHECK_INT(shobj_list_new(store, NULL, 0, &crew.list), 0);
    void *(*const bodies[])(void *) = {churner, churner, churner, churner};
    run_crew(&crew, bodies, THREADS);
    check_structure(crew.list);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, crew.list, &length), 0);
    CHECK_INT(length, -crew.taken_count);
    for (int64_t i = 0; i < (int64_t)length; i++) {
        shobj_value value;
        CHECK_INT(shobj_list_get(store, crew.list, i, &value), 0);
        crew.taken_sum += value.i;
    }
    CHECK_INT(crew.taken_sum, 0);
}

/* A set hits the element that has the index when the set happens. While an element stands before
 * all others, the one at index `place` + 1 is not the one that sets at `place` may hit. */
#define PLACE 2 * (int64_t)LIST_LEAF_CELLS

static void *setter(void *arg)
{
    struct worker *w = arg;
    for (int64_t i = 0; !atomic_load(&w->crew->stop); i++) {
        shobj_value value = int_value(i);
        CHECK_INT(shobj_list_set(store, w->crew->list, PLACE, &value), 0);
    }
    return NULL;
}

static void *shifter(void *arg)
{
    struct worker *w = arg;
    shobj_value value = int_value(-1);
    shobj_value first;
    shobj_value second;
    for (int i = 0; i < w->crew->per_thread; i++) {
        CHECK_INT(shobj_list_insert(store, w->crew->list, 0, &value), 0);
        CHECK_INT(shobj_list_get(store, w->crew->list, PLACE + 1, &first), 0);
        CHECK_INT(shobj_list_get(store, w->crew->list, PLACE + 1, &second), 0);
        CHECK_INT(second.i, first.i);
        CHECK_INT(shobj_list_del(store, w->crew->list, 0, &first), 0);
        CHECK_INT(first.i, -1);
    }
    atomic_store(&w->crew->stop, true);
    return NULL;
}

static void test_positions(void)
{
    struct crew crew = {.per_thread = 20000};
    shobj_value values[4 * LIST_LEAF_CELLS] = {0};
    for (size_t i = 0; i < SHO_COUNT_OF(values); i++)
        values[i] = int_value(0);
    CHECK_INT(shobj_list_new(store, values, SHO_COUNT_OF(values), &crew.list), 0);
    void *(*const bodies[])(void *) = {setter, shifter};
    run_crew(&crew, bodies, 2);
    check_structure(crew.list);
}

int main(void)
{
    uint64_t random = check_seed();
    store = check_store();
    test_stopped();
    test_killed();
    test_append_threads();
    test_takers(front_taker, front_taker);
    test_takers(back_taker, back_taker);
    test_takers(front_taker, back_taker);
    test_movers(random);
    test_churn(random);
    test_positions();
    shobj_close(store);
    return 0;
}
