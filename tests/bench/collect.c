/*
 * collect.c: a collection of a large heap: what more helpers are worth to it, and what it costs those who work meanwhile.
 *
 *   collect [BLOCKS]   live blocks; 10 million unless told otherwise
 *
 * The heap holds rings of 1000 lists and trees of lists with three children, each list with a str in a block of its own. It prints
 * two tables, and its exit code is 1 if a goal was missed.
 *
 *   marking     from the beginning of a cycle until it is known what is alive, by the clock on the wall: one thread, two
 *               threads of a process, and one thread in each of two processes, in turns. The ratio to one thread has a goal.
 *               "whole" is the same to the cycle's end, "processor" the processor time of all helpers in the median cycle: what
 *               working together costs. The wall's times are the least of the cycles during which others hardly used the
 *               machine ("quiet"): they make it longer, nothing makes it shorter. Where there are none the goal can't be judged.
 *   d[k] = v    one operation of one thread, on an existing key, without a collection and during some, in turns: the first
 *               three with another process that collects, the last one, which leaves the garbage, with cycles that begin by
 *               themselves in this one. The distributions in microseconds, the clock's own cost in them, and their difference
 *               at 99.9 % with its goal. "alone" is the longest operation in which the kernel gave the processor to nobody
 *               else, "slept" how often the thread slept: nothing here lets an operation wait.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gc/cycle.h"
#include "median.h"

enum { RING = 1000, DEPTH = 7, CHILDREN = 3, KEYS = 1000, TURNS = 10, TURNS_MAX = 40, QUIET_WANTED = 3, ROUNDS = 3, CYCLES = 4 };
#define ALONE_SECONDS 2
#define SLICE_OPERATIONS_MIN 200000u
#define SLICE_SECONDS_MAX 60
#define SLOW_NS 20000
#define QUIET 0.1 /* of a processor, for all others together */
#define GOAL_RATIO 0.6
#define GOAL_US 100

static char path[256];
static shobj_store *store;
static shobj_key keys[KEYS];

static void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "collect: %s: %s\n", what, shobj_error_message());
    exit(EXIT_FAILURE);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---------------------------------------------------------------------------------------------- the heap */

static shobj_value object_value(shobj_oid oid)
{
    return (shobj_value){.type = SHOBJ_OBJECT, .oid = oid};
}

/* A list of a str of its own and some lists. */
static shobj_oid make(const shobj_oid *lists, unsigned count)
{
    static uint64_t serial;
    char text[24];
    shobj_value values[1 + CHILDREN];
    shobj_oid list;
    snprintf(text, sizeof(text), "number %012" PRIu64, serial++);
    values[0] = (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
    for (unsigned i = 0; i < count; i++)
        values[1 + i] = object_value(lists[i]);
    must(shobj_list_new(store, values, 1 + count, &list), "making a list");
    return list;
}

static shobj_oid make_ring(void)
{
    shobj_oid first = make(NULL, 0), last = first;
    for (unsigned i = 1; i < RING; i++)
        last = make(&last, 1);
    shobj_value value = object_value(last);
    must(shobj_list_append(store, first, &value), "closing a ring");
    return first;
}

static shobj_oid make_tree(unsigned depth)
{
    shobj_oid children[CHILDREN];
    unsigned count = depth > 1 ? CHILDREN : 0;
    for (unsigned i = 0; i < count; i++)
        children[i] = make_tree(depth - 1);
    return make(children, count);
}

/* No cycle begins meanwhile: what is not yet stored stays. */
static void build(uint64_t blocks)
{
    shobj_oid all;
    unsigned of_tree = 0;
    for (unsigned level = 0, width = 1; level < DEPTH; level++, width *= CHILDREN)
        of_tree += width;
    must(shobj_list_new(store, NULL, 0, &all), "making a list");
    shobj_value value = object_value(all);
    must(shobj_path_set(store, "/all", &value), "storing the list of all");
    for (uint64_t made = 0, turn = 0; made < blocks; turn++) {
        value = object_value(turn & 1 ? make_tree(DEPTH) : make_ring());
        must(shobj_list_append(store, all, &value), "storing a ring or tree");
        shobj_release(store, 0); /* or all of it would be roots */
        made += 2 * (turn & 1 ? of_tree : RING);
    }
}

/* ---------------------------------------------------------------------------------------------- the other process */

enum job { JOB_HELP, JOB_COLLECT, JOB_END };

static struct shared {
    sem_t start, done;
    enum job job;
    _Atomic bool is_there; /* and will help as soon as a cycle has begun */
    _Atomic bool is_over;
    double processor_seconds; /* that it has spent on helping */
} *shared;

static void await(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0)
        ;
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The part of a second thread in one cycle. */
static void help(shobj_store *mine)
{
    sho_helper h;
    must(sho_helper_init(&h, mine, NULL), "helping");
    shared->is_there = true;
    double began = processor_seconds();
    while (!shared->is_over) {
        sho_cycle_help(&h);
        sched_yield();
    }
    shared->processor_seconds = processor_seconds() - began;
    sho_helper_fini(&h);
}

static void collect_some(shobj_store *mine)
{
    for (int i = 0; i < CYCLES; i++)
        must(shobj_collect(mine, 1), "collecting");
    shared->is_over = true;
}

static void be_other_process(void)
{
    shobj_store *mine;
    shobj_options options = {.mode = SHOBJ_OPEN_WRITE, .own_mapping = true};
    must(shobj_open(path, &options, &mine), "opening the store in another process");
    sem_post(&shared->done);
    for (;;) {
        await(&shared->start);
        if (shared->job == JOB_END)
            break;
        if (shared->job == JOB_HELP)
            help(mine);
        else
            collect_some(mine);
        sem_post(&shared->done);
    }
    shobj_close(mine);
    _exit(EXIT_SUCCESS);
}

static void start_job(enum job job)
{
    shared->job = job;
    shared->is_there = shared->is_over = false;
    sem_post(&shared->start);
}

/* ---------------------------------------------------------------------------------------------- marking */

struct cycle {
    double mark_seconds, seconds;
    double processor_seconds; /* of all helpers */
    bool is_quiet;
};

/* Processor time that everybody has used, and what a host has taken away. */
static double all_processor_seconds(void)
{
    unsigned long long t[8]; /* user, nice, system, idle, waiting, interrupts (2), stolen */
    FILE *file = fopen("/proc/stat", "r");
    if (file == NULL || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6],
                               &t[7]) != (int)SHO_COUNT_OF(t)) {
        fprintf(stderr, "collect: /proc/stat can't be read\n");
        exit(EXIT_FAILURE);
    }
    fclose(file);
    return (double)(t[0] + t[1] + t[2] + t[5] + t[6] + t[7]) / (double)sysconf(_SC_CLK_TCK);
}

static struct cycle collect(unsigned threads)
{
    shobj_gc gc;
    double began = processor_seconds();
    must(shobj_collect(store, threads), "collecting");
    double used = processor_seconds() - began;
    shobj_gc_get(store, &gc);
    return (struct cycle){.mark_seconds = (double)(gc.mark_ended_ns - gc.began_ns) * 1e-9,
                          .seconds = (double)(gc.ended_ns - gc.began_ns) * 1e-9,
                          .processor_seconds = used};
}

static struct cycle collect_with_other_process(void)
{
    start_job(JOB_HELP);
    while (!shared->is_there)
        sched_yield();
    struct cycle cycle = collect(1);
    shared->is_over = true;
    await(&shared->done);
    cycle.processor_seconds += shared->processor_seconds;
    return cycle;
}

static struct cycle collect_alone(void)
{
    return collect(1);
}

static struct cycle collect_with_other_thread(void)
{
    return collect(2);
}

static const struct way {
    const char *name;
    struct cycle (*collect)(void);
} ways[] = {
    {"marking, one thread", collect_alone},
    {"marking, two threads", collect_with_other_thread},
    {"marking, two processes", collect_with_other_process},
};

static double lesser(double a, double b)
{
    return a < b ? a : b;
}

static struct cycle collect_one_way(const struct way *way)
{
    double all = all_processor_seconds();
    int64_t began = now_ns();
    struct cycle cycle = way->collect();
    double seconds = (double)(now_ns() - began) * 1e-9;
    cycle.is_quiet = all_processor_seconds() - all - cycle.processor_seconds <= QUIET * seconds;
    return cycle;
}

/* The least times of those that are quiet, or if none is, of all. */
static struct cycle least_of(const struct cycle *cycles, int count, int *ret_quiet)
{
    double processor[TURNS_MAX];
    struct cycle least = {.mark_seconds = 1e9, .seconds = 1e9};
    *ret_quiet = 0;
    for (int i = 0; i < count; i++)
        *ret_quiet += cycles[i].is_quiet;
    least.is_quiet = *ret_quiet > 0;
    for (int i = 0; i < count; i++) {
        processor[i] = cycles[i].processor_seconds;
        if (least.is_quiet && !cycles[i].is_quiet)
            continue;
        least.mark_seconds = lesser(least.mark_seconds, cycles[i].mark_seconds);
        least.seconds = lesser(least.seconds, cycles[i].seconds);
    }
    least.processor_seconds = median(processor, (size_t)count);
    return least;
}

/* True if the goal was reached, or can't be judged. */
static bool print_marking(const char *name, const struct cycle *cycle, const struct cycle *one)
{
    bool is_judged = one->is_quiet && cycle->is_quiet;
    bool good = cycle == one || cycle->mark_seconds <= GOAL_RATIO * one->mark_seconds;
    printf("%-28s %9.0f ms   whole %6.0f ms   processor %6.0f ms", name, cycle->mark_seconds * 1e3, cycle->seconds * 1e3,
           cycle->processor_seconds * 1e3);
    if (cycle != one)
        printf(" %8.2f x   <= %g%s   (whole %.2f x, processor %.2f x)", cycle->mark_seconds / one->mark_seconds, GOAL_RATIO,
               good ? "" : is_judged ? "  MISSED" : "  not judged: others used the machine", cycle->seconds / one->seconds,
               cycle->processor_seconds / one->processor_seconds);
    printf("\n");
    fflush(stdout);
    return good || !is_judged;
}

enum { WAYS = SHO_COUNT_OF(ways) };

static bool measure_marking(void)
{
    static struct cycle cycles[WAYS][TURNS_MAX];
    struct cycle least[WAYS];
    int quiet[WAYS] = {0}, turns = 0;
    for (int way = 0; way < WAYS; way++)
        ways[way].collect(); /* the other process maps the heap */
    for (bool enough = false; !enough && turns < TURNS_MAX; turns++) {
        enough = turns + 1 >= TURNS;
        for (int way = 0; way < WAYS; way++) {
            cycles[way][turns] = collect_one_way(&ways[way]);
            quiet[way] += cycles[way][turns].is_quiet;
            enough = enough && quiet[way] >= QUIET_WANTED;
        }
    }
    bool all = true;
    for (int way = 0; way < WAYS; way++) {
        least[way] = least_of(cycles[way], turns, &quiet[way]);
        all = print_marking(ways[way].name, &least[way], &least[0]) && all;
    }
    printf("%-28s %9d of %d, %d and %d\n", "... quiet cycles", quiet[0], turns, quiet[1], quiet[2]);
    return all;
}

/* ---------------------------------------------------------------------------------------------- distributions */

/* Counts by length: 64 steps to each power of 2 of nanoseconds. */
enum { STEPS = 64, STEP_BITS = 6, POWERS = 40 };
struct spread {
    uint64_t counts[(POWERS - STEP_BITS + 1) * STEPS];
    uint64_t count;
    int64_t longest_ns, longest_alone_ns;
    long slept, cycles;
};

static void add(struct spread *s, int64_t ns)
{
    uint64_t at = ns > 0 ? (uint64_t)ns : 0;
    if (at >= STEPS) {
        unsigned power = 63 - (unsigned)__builtin_clzll(at);
        power = power < POWERS ? power : POWERS - 1;
        at = (power - STEP_BITS + 1) * STEPS + (at >> (power - STEP_BITS)) % STEPS;
    }
    s->counts[at]++;
    s->count++;
    s->longest_ns = ns > s->longest_ns ? ns : s->longest_ns;
}

/* In microseconds. */
static double quantile(const struct spread *s, double part)
{
    uint64_t wanted = (uint64_t)(part * (double)s->count), seen = 0;
    size_t at = 0;
    while (at + 1 < SHO_COUNT_OF(s->counts) && (seen += s->counts[at]) <= wanted)
        at++;
    if (at < STEPS)
        return (double)at * 1e-3;
    return (double)((STEPS + at % STEPS) << (at / STEPS - 1)) * 1e-3;
}

static void print_spread(const char *name, const struct spread *s)
{
    static const double parts[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
    printf("%-28s %9" PRIu64 "", name, s->count);
    for (size_t i = 0; i < SHO_COUNT_OF(parts); i++)
        printf(" %8.2f", quantile(s, parts[i]));
    printf(" %8.0f %8.0f %5ld %6ld\n", (double)s->longest_ns * 1e-3, (double)s->longest_alone_ns * 1e-3, s->slept, s->cycles);
    fflush(stdout);
}

/* ---------------------------------------------------------------------------------------------- operations */

static void nothing(unsigned i)
{
    (void)i;
}

static void set(shobj_oid dict, unsigned i, const shobj_value *value)
{
    must(shobj_dict_set(store, dict, &keys[i], value), "setting a key");
}

static shobj_oid dicts[4]; /* for each kind of value */

static void set_int(unsigned i)
{
    shobj_value value = {.type = SHOBJ_INT, .i = i};
    set(dicts[0], i, &value);
}

static void set_short(unsigned i)
{
    shobj_value value = {.type = SHOBJ_BYTES, .data = i & 1 ? "abcd" : "efgh", .count = 4};
    set(dicts[1], i, &value);
}

static void set_box(unsigned i)
{
    static const char text[] = "a str that has a block of its own: its places are taken in turns";
    shobj_value value = {.type = SHOBJ_STR, .data = text, .count = 24 + i % 40};
    set(dicts[2], i, &value);
}

static void set_list(unsigned i)
{
    shobj_value value = object_value(make(NULL, 0));
    set(dicts[3], i, &value);
    shobj_release(store, 0);
}

static void prepare_operations(void)
{
    char texts[KEYS][24];
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(texts[i], sizeof(texts[i]), "key number %u", i);
        shobj_value value = {.type = SHOBJ_STR, .data = strdup(texts[i]), .count = strlen(texts[i])};
        must(shobj_key_init(store, &value, &keys[i]), "making a key");
    }
    for (unsigned kind = 0; kind < SHO_COUNT_OF(dicts); kind++) {
        char place[] = "/dict0";
        place[5] = (char)('0' + kind);
        must(shobj_dict_new(store, NULL, 0, &dicts[kind]), "making a dict");
        shobj_value value = object_value(dicts[kind]);
        must(shobj_path_set(store, place, &value), "storing a dict");
        for (unsigned i = 0; i < KEYS; i++)
            set(dicts[kind], i, &(shobj_value){.type = SHOBJ_INT});
    }
}

static struct rusage usage(void)
{
    struct rusage now;
    getrusage(RUSAGE_THREAD, &now);
    return now;
}

/* Until `is_over` says so: asked every 1000 operations. */
static void operate(void (*operation)(unsigned i), struct spread *s, bool (*is_over)(int64_t began_ns, uint64_t count))
{
    struct rusage before = usage(), last = before;
    int64_t began = now_ns(), ended = began;
    for (uint64_t count = 0; count % 1000 != 0 || !is_over(began, count); count++) {
        int64_t from = now_ns();
        if (from - ended > SLOW_NS) /* between two operations */
            last = usage();
        operation((unsigned)(count * 619u % KEYS));
        ended = now_ns();
        int64_t took = ended - from;
        add(s, took);
        if (took <= SLOW_NS)
            continue;
        struct rusage now = usage();
        if (now.ru_nivcsw == last.ru_nivcsw && took > s->longest_alone_ns)
            s->longest_alone_ns = took;
        last = now;
        ended = now_ns();
    }
    s->slept += usage().ru_nvcsw - before.ru_nvcsw;
}

static bool enough(int64_t began_ns, uint64_t count)
{
    return count >= SLICE_OPERATIONS_MIN && now_ns() - began_ns > ALONE_SECONDS * INT64_C(1000000000);
}

static bool other_has_collected(int64_t began_ns, uint64_t count)
{
    (void)began_ns;
    (void)count;
    return shared->is_over;
}

static uint64_t collections_wanted;

static uint64_t collections(void)
{
    shobj_gc gc;
    shobj_gc_get(store, &gc);
    return gc.collections;
}

static bool has_collected(int64_t began_ns, uint64_t count)
{
    (void)count;
    return collections() >= collections_wanted || now_ns() - began_ns > SLICE_SECONDS_MAX * INT64_C(1000000000);
}

/* ---------------------------------------------------------------------------------------------- and their table */

static const struct job_kind {
    const char *name;
    void (*operation)(unsigned i);
    bool by_other;
} kinds[] = {
    {"d[k] = int", set_int, true},
    {"d[k] = 4 bytes", set_short, true},
    {"d[k] = new str", set_box, true},
    {"d[k] = new list", set_list, false},
};

static void operate_during(const struct job_kind *kind, struct spread *s)
{
    uint64_t before = collections();
    if (kind->by_other) {
        start_job(JOB_COLLECT);
        operate(kind->operation, s, other_has_collected);
        await(&shared->done);
    } else {
        collections_wanted = before + CYCLES;
        must(shobj_gc_growth(store, 0), "letting cycles begin by themselves");
        operate(kind->operation, s, has_collected);
        must(shobj_gc_growth(store, UINT32_MAX), "letting none begin by itself");
    }
    s->cycles += (long)(collections() - before);
    must(shobj_collect(store, 2), "collecting"); /* ends what is under way */
}

/* True if the goal was reached. */
static bool measure_operations(const struct job_kind *kind)
{
    static struct spread without, during;
    char name[64];
    memset(&without, 0, sizeof(without));
    memset(&during, 0, sizeof(during));
    for (int round = 0; round < ROUNDS; round++) {
        operate(kind->operation, &without, enough);
        operate_during(kind, &during);
    }
    print_spread(kind->name, &without);
    snprintf(name, sizeof(name), "  %s", kind->by_other ? "other process collects" : "collector of its own");
    print_spread(name, &during);
    double more = quantile(&during, 0.999) - quantile(&without, 0.999);
    bool good = more <= GOAL_US && during.cycles > 0;
    printf("%-28s %9s %35.2f us more at 99.9 %%   <= %d%s\n", "", "", more, GOAL_US, good ? "" : "  MISSED");
    return good;
}

static bool measure_all_operations(void)
{
    static struct spread clock;
    printf("\n%-28s %9s %8s %8s %8s %8s %8s %8s %8s %5s %6s\n", "us", "count", "50 %", "90 %", "99 %", "99.9 %", "99.99 %",
           "longest", "alone", "slept", "cycles");
    prepare_operations();
    operate(nothing, &clock, enough);
    print_spread("the clock", &clock);
    bool all = true;
    for (size_t i = 0; i < SHO_COUNT_OF(kinds); i++)
        all = measure_operations(&kinds[i]) && all;
    return all;
}

int main(int argc, char **argv)
{
    const char *directory = getenv("SHOBJ_DIR");
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = UINT64_C(16) << 30};
    uint64_t blocks = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || sem_init(&shared->start, 1, 0) < 0 || sem_init(&shared->done, 1, 0) < 0)
        must(SHOBJ_ENOMEM, "mapping memory");
    snprintf(path, sizeof(path), "%s/shobj-bench-collect-%d", directory ? directory : "/dev/shm", (int)getpid());
    must(shobj_open(path, &options, &store), "creating the store");
    must(shobj_gc_growth(store, UINT32_MAX), "letting no cycle begin by itself");
    pid_t pid = fork();
    if (pid == 0)
        be_other_process();
    if (pid < 0)
        must(SHOBJ_EIO, "fork");
    await(&shared->done);
    must(shobj_unlink(path, true), "removing the store's name");

    int64_t began = now_ns();
    build(blocks);
    printf("%-28s %9.1f s\n", "building", (double)(now_ns() - began) * 1e-9);
    fflush(stdout);
    bool all = measure_marking();
    shobj_gc gc;
    shobj_gc_get(store, &gc);
    printf("%-28s %9" PRIu64 " live blocks, %" PRIu64 " MB\n", "... of", gc.marked, gc.marked_bytes / 1000000);
    all = measure_all_operations() && all;

    start_job(JOB_END);
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "collect: the other process ended with status %d\n", status);
        return EXIT_FAILURE;
    }
    shobj_close(store);
    return all ? EXIT_SUCCESS : 1;
}
