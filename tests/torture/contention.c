/*
 * contention.c: what becomes of those who want the same thing at once. Each part runs processes on one store, prints what
 * it saw and checks what must hold:
 *
 *   starve     one transaction over many objects against three processes that hammer those objects with small ones:
 *              it commits within 12 executions, every time
 *   deadlock   16 processes, each changing 8 of 16 objects in random order: somebody always gets on
 *   crowd      2, 4, 16 and 64 processes on one counter: the throughput does not collapse
 *   blind      two processes that append to one list and insert new keys into one dict, in transactions that have not
 *              looked at them, and in transactions that have: the first lose hardly ever
 *   wake       a consumer that waits with retry uses no processor time, and wakes soon after the commit
 *   kill       processes that want the same objects, killed one after the other: the others go on at once
 *
 * contention [PART [AMOUNT]]: AMOUNT is the number of trials (starve, wake, kill) or of seconds (deadlock,
 * crowd, blind). `contention all TIMES`: all parts, each that many times as long as they are by themselves.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shobj.h>

enum { OBJECTS_MAX = 1000, PROCESSES_MAX = 64 };

static char path[64];
static shobj_store *store;
static shobj_oid objects[OBJECTS_MAX];
static shobj_key key;

/* What the processes tell each other outside of the store. */
static struct shared {
    _Atomic bool stop;
    _Atomic int ready;
    _Atomic int64_t at_ns; /* of the last event that is waited for */
    struct {
        _Alignas(64) _Atomic uint64_t commits;
    } of[PROCESSES_MAX];
} *shared;

static pid_t children[PROCESSES_MAX];

/* ---------------------------------------------------------------------------------------------- what all parts use */

static void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "contention: process %d: %s: %s\n", (int)getpid(), what, shobj_error_message());
    _exit(3);
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t seed;
static unsigned draw(unsigned bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)((seed * UINT64_C(0x2545f4914f6cdd1d) >> 33) % bound);
}

static int64_t get(unsigned object)
{
    shobj_value value;
    must(shobj_dict_get(store, objects[object], &key, &value), "reading");
    return value.i;
}

static int add(unsigned object, int64_t delta)
{
    shobj_value value;
    int rc = shobj_dict_get(store, objects[object], &key, &value);
    if (rc)
        return rc;
    value.i += delta;
    return shobj_dict_set(store, objects[object], &key, &value);
}

/* A store with `count` dicts, each with one number. */
static void prepare(unsigned count)
{
    static shobj_value name = {.type = SHOBJ_STR, .data = "n", .count = 1};
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = UINT64_C(1) << 30};
    memset(shared, 0, sizeof(*shared));
    must(shobj_open(path, &options, &store), "creating the store");
    must(shobj_key_init(store, &name, &key), "making a key");
    shobj_oid list;
    must(shobj_list_new(store, NULL, 0, &list), "making a list");
    shobj_value value = {.type = SHOBJ_OBJECT, .oid = list};
    must(shobj_path_set(store, "/objects", &value), "storing the list");
    for (unsigned i = 0; i < count; i++) {
        shobj_value zero = {.type = SHOBJ_INT};
        must(shobj_dict_new(store, NULL, 0, &objects[i]), "making a dict");
        must(shobj_dict_set(store, objects[i], &key, &zero), "filling it");
        value = (shobj_value){.type = SHOBJ_OBJECT, .oid = objects[i]};
        must(shobj_list_append(store, list, &value), "storing it");
    }
}

static void finish(void)
{
    uint64_t problems;
    must(shobj_check(store, NULL, NULL, &problems), "checking the store");
    shobj_close(store);
    shobj_unlink(path, true);
}

/* A child that runs `body` until it is told to stop. */
static void spawn(unsigned number, void (*body)(unsigned number))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("contention: fork");
        exit(2);
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        seed = (uint64_t)now_ns() ^ (uint64_t)(number + 1) << 40;
        body(number);
        _exit(0);
    }
    children[number] = pid;
}

static void reap(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int status;
        if (children[i] > 0 && waitpid(children[i], &status, 0) == children[i] &&
            !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
            fprintf(stderr, "contention: process %u ended with %#x\n", i, status);
            exit(1);
        }
        children[i] = 0;
    }
}

static void stop_all(unsigned count)
{
    atomic_store(&shared->stop, true);
    reap(count);
}

static uint64_t all_commits(unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += atomic_load_explicit(&shared->of[i].commits, memory_order_relaxed);
    return sum;
}

static void nap_us(int64_t us)
{
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    nanosleep(&t, NULL);
}

static void until_commits(unsigned count, uint64_t least)
{
    while (all_commits(count) < least)
        nap_us(1000);
}

static int compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_distribution(const char *what, int64_t *ns, unsigned count)
{
    qsort(ns, count, sizeof(*ns), compare_i64);
    printf("%s, us: median %.1f, 90 %% %.1f, 99 %% %.1f, 99.9 %% %.1f, most %.1f (%u times)\n", what,
           (double)ns[count / 2] / 1e3, (double)ns[count * 90 / 100] / 1e3, (double)ns[count * 99 / 100] / 1e3,
           (double)ns[(uint64_t)count * 999 / 1000] / 1e3, (double)ns[count - 1] / 1e3, count);
}

static void wrong(const char *what)
{
    fprintf(stderr, "contention: %s\n", what);
    for (unsigned i = 0; i < PROCESSES_MAX; i++)
        if (children[i] > 0)
            kill(children[i], SIGKILL);
    exit(1);
}

/* ---------------------------------------------------------------------------------------------- starve */

enum { STARVE_OBJECTS = 1000, HAMMERS = 3, EXECUTIONS_MOST = 12 };

static int small_body(shobj_store *st, void *arg)
{
    (void)st;
    const unsigned *pair = arg;
    int rc = add(pair[0], 1);
    return rc ? rc : add(pair[1], -1);
}

static void hammer(unsigned number)
{
    while (!atomic_load(&shared->stop)) {
        unsigned pair[2] = {draw(STARVE_OBJECTS), draw(STARVE_OBJECTS)};
        must(shobj_run(store, small_body, pair), "a small transaction");
        atomic_fetch_add_explicit(&shared->of[number].commits, 1, memory_order_relaxed);
    }
}

static int large_body(shobj_store *st, void *arg)
{
    (void)st;
    unsigned *executions = arg;
    int64_t sum = 0;
    ++*executions;
    for (unsigned i = 0; i < STARVE_OBJECTS; i++) {
        shobj_value value;
        int rc = shobj_dict_get(store, objects[i], &key, &value);
        if (rc)
            return rc;
        sum += value.i;
        value.i += i & 1 ? 1 : -1;
        if ((rc = shobj_dict_set(store, objects[i], &key, &value)))
            return rc;
    }
    return sum == 0 ? 0 : SHOBJ_EABORTED;
}

static void part_starve(unsigned trials)
{
    unsigned histogram[EXECUTIONS_MOST + 1] = {0};
    prepare(STARVE_OBJECTS);
    for (unsigned i = 0; i < HAMMERS; i++)
        spawn(i, hammer);
    until_commits(HAMMERS, 1000);
    uint64_t before = all_commits(HAMMERS);
    int64_t began = now_ns();
    for (unsigned i = 0; i < trials; i++) {
        unsigned executions = 0;
        must(shobj_run(store, large_body, &executions), "the large transaction");
        if (executions > EXECUTIONS_MOST)
            wrong("starve: a transaction needed more than 12 executions");
        histogram[executions]++;
    }
    double seconds = (double)(now_ns() - began) / 1e9;
    uint64_t small = all_commits(HAMMERS) - before;
    stop_all(HAMMERS);
    printf("starve: %u transactions over %d objects in %.1f s, beside %" PRIu64 " small ones; executions:", trials,
           STARVE_OBJECTS, seconds, small);
    for (unsigned i = 1; i <= EXECUTIONS_MOST; i++)
        if (histogram[i] > 0)
            printf(" %u: %u", i, histogram[i]);
    printf("\n");
    finish();
}

/* ---------------------------------------------------------------------------------------------- deadlock */

enum { DEADLOCK_PROCESSES = 16, DEADLOCK_OBJECTS = 16, DEADLOCK_EACH = 8 };

static int eight_body(shobj_store *st, void *arg)
{
    (void)st;
    const unsigned *order = arg;
    for (unsigned i = 0; i < DEADLOCK_EACH; i++) {
        int rc = add(order[i], 1);
        if (rc)
            return rc;
    }
    return 0;
}

static void tangle(unsigned number)
{
    while (!atomic_load(&shared->stop)) {
        unsigned order[DEADLOCK_OBJECTS];
        for (unsigned i = 0; i < DEADLOCK_OBJECTS; i++)
            order[i] = i;
        for (unsigned i = 0; i < DEADLOCK_EACH; i++) {
            unsigned at = i + draw(DEADLOCK_OBJECTS - i), swap = order[i];
            order[i] = order[at];
            order[at] = swap;
        }
        must(shobj_run(store, eight_body, order), "a transaction over 8 objects");
        atomic_fetch_add_explicit(&shared->of[number].commits, 1, memory_order_relaxed);
    }
}

/* Processor time of all processes of this part, ours excepted. */
static int64_t cpu_of_children(unsigned count)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        clockid_t clock;
        if (clock_getcpuclockid(children[i], &clock) == 0)
            sum += clock_ns(clock);
    }
    return sum;
}

static void print_aborts(const char *part)
{
    shobj_stat stat;
    must(shobj_stat_get(store, &stat), "counting");
    printf("%s: commits %" PRIu64 ", lost executions %" PRIu64 " (%.2f each), operations run again %" PRIu64
           ", right of way given %" PRIu64 "\n",
           part, stat.commits, stat.conflicts, (double)stat.conflicts / (double)(stat.commits + 1), stat.retries,
           stat.elders);
}

static void part_deadlock(unsigned seconds)
{
    int64_t silence_most = 0;
    prepare(DEADLOCK_OBJECTS);
    for (unsigned i = 0; i < DEADLOCK_PROCESSES; i++)
        spawn(i, tangle);
    until_commits(DEADLOCK_PROCESSES, 1);
    int64_t began = now_ns();
    uint64_t last = all_commits(DEADLOCK_PROCESSES);
    int64_t cpu_then = cpu_of_children(DEADLOCK_PROCESSES);
    while (now_ns() - began < seconds * INT64_C(1000000000)) {
        nap_us(2000);
        uint64_t commits = all_commits(DEADLOCK_PROCESSES);
        int64_t cpu = cpu_of_children(DEADLOCK_PROCESSES);
        if (commits == last && cpu - cpu_then > silence_most)
            silence_most = cpu - cpu_then;
        if (commits != last) {
            last = commits;
            cpu_then = cpu;
        }
    }
    stop_all(DEADLOCK_PROCESSES);
    printf("deadlock: %d processes for %u s: longest time without a commit %.1f ms of processor time\n",
           DEADLOCK_PROCESSES, seconds, (double)silence_most / 1e6);
    print_aborts("deadlock");
    int64_t sum = 0;
    for (unsigned i = 0; i < DEADLOCK_OBJECTS; i++)
        sum += get(i);
    if ((uint64_t)sum != DEADLOCK_EACH * all_commits(DEADLOCK_PROCESSES))
        wrong("deadlock: an update was lost or doubled");
    if (silence_most > 100000000)
        wrong("deadlock: nobody got on for 100 ms of processor time");
    finish();
}

/* ---------------------------------------------------------------------------------------------- crowd */

static int one_body(shobj_store *st, void *arg)
{
    (void)st;
    (void)arg;
    return add(0, 1);
}

static void count(unsigned number)
{
    while (!atomic_load(&shared->stop)) {
        must(shobj_run(store, one_body, NULL), "counting");
        atomic_fetch_add_explicit(&shared->of[number].commits, 1, memory_order_relaxed);
    }
}

static double crowd_of(unsigned processes, unsigned seconds)
{
    prepare(1);
    for (unsigned i = 0; i < processes; i++)
        spawn(i, count);
    until_commits(processes, 1000);
    uint64_t before = all_commits(processes);
    int64_t began = now_ns();
    nap_us(seconds * INT64_C(1000000));
    double rate = (double)(all_commits(processes) - before) / ((double)(now_ns() - began) / 1e9);
    stop_all(processes);
    if ((uint64_t)get(0) != all_commits(processes))
        wrong("crowd: a count was lost or doubled");
    printf("crowd: %2u processes on one counter: %.0f a second\n", processes, rate);
    print_aborts("crowd");
    finish();
    return rate;
}

static void part_crowd(unsigned seconds)
{
    static const unsigned sizes[] = {1, 2, 4, 16, 64};
    double rates[5];
    for (int i = 0; i < 5; i++)
        rates[i] = crowd_of(sizes[i], seconds);
    printf("crowd: 64 processes reach %.2f times the throughput of 2\n", rates[4] / rates[1]);
}

/* ---------------------------------------------------------------------------------------------- blind */

enum { BLIND_PROCESSES = 8, BLIND_OWN = 100 };

static shobj_oid log_list, log_dict;
static bool looks; /* the plain form: each transaction has looked at what it adds to */
static int64_t pause_us; /* in each body: what waits for a disk or a socket elsewhere */

struct entry {
    unsigned number;
    int64_t serial;
};

/* An entry in the log and in its index, and some work on objects of the process's own. */
static int log_body(shobj_store *st, void *arg)
{
    const struct entry *e = arg;
    char name[32];
    shobj_key name_key;
    bool has;
    uint64_t length;
    int rc = 0;
    snprintf(name, sizeof(name), "%u/%" PRId64, e->number, e->serial);
    shobj_value value = {.type = SHOBJ_STR, .data = name, .count = strlen(name)};
    must(shobj_key_init(st, &value, &name_key), "making a key");
    if (looks && ((rc = shobj_list_len(st, log_list, &length)) || (rc = shobj_dict_has(st, log_dict, &name_key, &has))))
        return rc;
    value = (shobj_value){.type = SHOBJ_INT, .i = e->serial};
    if ((rc = shobj_list_append(st, log_list, &value)) || (rc = shobj_dict_set(st, log_dict, &name_key, &value)))
        return rc;
    if (pause_us > 0)
        nap_us(pause_us);
    for (unsigned i = 0; i < BLIND_OWN && rc == 0; i++)
        rc = add(e->number * BLIND_OWN + i, 1);
    return rc;
}

static void keep_log(unsigned number)
{
    struct entry e = {.number = number};
    for (; !atomic_load(&shared->stop); e.serial++) {
        must(shobj_run(store, log_body, &e), "an entry in the log");
        atomic_fetch_add_explicit(&shared->of[number].commits, 1, memory_order_relaxed);
    }
}

static double blind_of(bool look, unsigned processes, int64_t pause, unsigned seconds)
{
    prepare(BLIND_PROCESSES * BLIND_OWN);
    looks = look;
    pause_us = pause;
    must(shobj_list_new(store, NULL, 0, &log_list), "making a list");
    must(shobj_dict_new(store, NULL, 0, &log_dict), "making a dict");
    shobj_value list = {.type = SHOBJ_OBJECT, .oid = log_list}, dict = {.type = SHOBJ_OBJECT, .oid = log_dict};
    must(shobj_path_set(store, "/log", &list), "storing the list");
    must(shobj_path_set(store, "/index", &dict), "storing the dict");
    for (unsigned i = 0; i < processes; i++)
        spawn(i, keep_log);
    until_commits(processes, 100);
    uint64_t before = all_commits(processes);
    int64_t began = now_ns();
    nap_us(seconds * INT64_C(1000000));
    double rate = (double)(all_commits(processes) - before) / ((double)(now_ns() - began) / 1e9);
    stop_all(processes);
    shobj_stat stat;
    must(shobj_stat_get(store, &stat), "counting");
    uint64_t length, keys;
    must(shobj_list_len(store, log_list, &length), "counting the log");
    must(shobj_dict_len(store, log_dict, &keys), "counting the index");
    printf("blind: %u processes, %s: %.0f a second, %.2f %% of the executions lost\n", processes,
           look ? "each looks first" : "none looks", rate,
           100.0 * (double)stat.conflicts / (double)(stat.conflicts + all_commits(processes)));
    if (length != all_commits(processes) || keys != length)
        wrong("blind: an entry was lost or doubled");
    if (!look && stat.conflicts * 50 > all_commits(processes))
        wrong("blind: more than 1 in 50 executions lost");
    finish();
    return rate;
}

static void part_blind(unsigned seconds)
{
    double one = blind_of(false, 1, 0, seconds), plain = blind_of(true, 2, 0, seconds);
    double blind = blind_of(false, 2, 0, seconds);
    printf("blind: 2 processes reach %.2f times the throughput of the plain form, %.2f times that of one process\n",
           blind / plain, blind / one);
    plain = blind_of(true, BLIND_PROCESSES, 200, seconds);
    blind = blind_of(false, BLIND_PROCESSES, 200, seconds);
    printf("blind: %d processes whose bodies wait a little reach %.2f times the throughput of the plain form\n",
           BLIND_PROCESSES, blind / plain);
}

/* ---------------------------------------------------------------------------------------------- wake */

static int64_t *samples; /* shared */

static int consume_body(shobj_store *st, void *arg)
{
    (void)st;
    (void)arg;
    shobj_value value;
    int rc = shobj_dict_get(store, objects[0], &key, &value);
    if (rc)
        return rc;
    if (value.i == 0)
        return SHOBJ_ERETRY;
    value.i = 0;
    return shobj_dict_set(store, objects[0], &key, &value);
}

static void consume(unsigned number)
{
    for (int64_t n = 0; !atomic_load(&shared->stop); n++) {
        must(shobj_run(store, consume_body, NULL), "consuming");
        samples[n] = now_ns() - atomic_load(&shared->at_ns);
        atomic_fetch_add(&shared->of[number].commits, 1);
    }
}

static bool consumer_sleeps(void)
{
    char name[64], text[512] = "";
    snprintf(name, sizeof(name), "/proc/%d/stat", (int)children[0]);
    FILE *f = fopen(name, "r");
    if (f == NULL)
        wrong("wake: the consumer has gone");
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' && end[2] == 'S';
}

static void part_wake(unsigned trials)
{
    samples = mmap(NULL, (trials + 1) * sizeof(*samples), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (samples == MAP_FAILED)
        wrong("wake: no memory");
    prepare(1);
    spawn(0, consume);
    while (!consumer_sleeps())
        nap_us(100);
    int64_t cpu = cpu_of_children(1);
    int64_t idle_s = trials >= 1000 ? 10 : 2;
    nap_us(idle_s * 1000000);
    cpu = cpu_of_children(1) - cpu;
    printf("wake: a consumer that waits used %.3f ms of processor time in %d s\n", (double)cpu / 1e6, (int)idle_s);
    shobj_value one = {.type = SHOBJ_INT, .i = 1};
    for (unsigned i = 0; i < trials; i++) {
        while (!consumer_sleeps())
            nap_us(20);
        atomic_store(&shared->at_ns, now_ns());
        if (i + 1 == trials)
            atomic_store(&shared->stop, true);
        must(shobj_dict_set(store, objects[0], &key, &one), "producing");
        while (all_commits(1) <= i)
            nap_us(20);
    }
    reap(1);
    print_distribution("wake: from before the commit to the consumer's own", samples, trials);
    if (cpu > idle_s * 100000)
        wrong("wake: the consumer used processor time while it waited");
    finish();
}

/* ---------------------------------------------------------------------------------------------- kill */

enum { KILL_PROCESSES = 3, KILL_OBJECTS = 2 };

static int both_body(shobj_store *st, void *arg)
{
    (void)st;
    const int64_t *delta = arg;
    int rc = add(0, *delta);
    return rc ? rc : add(1, -*delta);
}

/* Each of them wants the same two objects. */
static void want(unsigned number)
{
    while (!atomic_load(&shared->stop)) {
        int64_t delta = 1 + (int64_t)draw(9);
        must(shobj_run(store, both_body, &delta), "changing both objects");
        atomic_store_explicit(&shared->of[number].commits, (uint64_t)now_ns(), memory_order_relaxed);
    }
}

static void part_kill(unsigned kills)
{
    int64_t *silences = malloc(kills * sizeof(*silences));
    prepare(KILL_OBJECTS);
    for (unsigned i = 0; i < KILL_PROCESSES; i++)
        spawn(i, want);
    for (unsigned i = 0; i < kills; i++) {
        unsigned victim = draw(KILL_PROCESSES);
        nap_us(200 + draw(2000));
        kill(children[victim], SIGKILL);
        int64_t killed = now_ns();
        waitpid(children[victim], NULL, 0);
        /* The next commit of another one that began after the death. */
        for (bool went_on = false; !went_on;) {
            for (unsigned k = 0; k < KILL_PROCESSES && !went_on; k++) {
                int64_t at = (int64_t)atomic_load_explicit(&shared->of[k].commits, memory_order_relaxed);
                if (k != victim && at > killed) {
                    silences[i] = at - killed;
                    went_on = true;
                }
            }
            if (!went_on && now_ns() - killed > INT64_C(10000000000))
                wrong("kill: nobody has gone on for 10 s");
        }
        spawn(victim, want);
    }
    stop_all(KILL_PROCESSES);
    print_distribution("kill: from the kill to the next commit of another process", silences, kills);
    print_aborts("kill");
    if (get(0) + get(1) != 0)
        wrong("kill: the sum of both objects has changed");
    free(silences);
    finish();
}

/* ---------------------------------------------------------------------------------------------- parts */

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(unsigned amount);
        unsigned amount;
    } parts[] = {
        {"starve", part_starve, 100}, {"deadlock", part_deadlock, 3}, {"crowd", part_crowd, 1},
        {"blind", part_blind, 1},    {"wake", part_wake, 500},     {"kill", part_kill, 300},
    };
    bool any = false;
    snprintf(path, sizeof(path), "/dev/shm/shobj-contention-%d", (int)getpid());
    seed = (uint64_t)now_ns();
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("contention");
        return 2;
    }
    unsigned amount = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    bool all = argc > 1 && strcmp(argv[1], "all") == 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (argc > 1 && !all && strcmp(argv[1], parts[i].name) != 0)
            continue;
        any = true;
        parts[i].run(all && amount > 0 ? amount * parts[i].amount : amount > 0 ? amount : parts[i].amount);
    }
    if (!any) {
        fprintf(stderr, "usage: contention [all|starve|deadlock|crowd|blind|wake|kill [AMOUNT]]\n");
        return 2;
    }
    return 0;
}
