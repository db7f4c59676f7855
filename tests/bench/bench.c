/*
 * bench.c: what an operation costs through the C API, beside the plainest thing in C that does the same job in
 * one process: a hash table, an array, an uncontended compare-and-swap; and beside what processes share words with
 * today: a robust mutex in shared memory, locked and unlocked around two loads and two stores. Both sides are repeated in turns; the table
 * shows medians and their ratio, which says more than the times.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shobj.h>

#include "median.h"

enum { KEYS = 1000, KEYS_POWER_OF_2 = 1024, LARGE = 100000, ROUNDS = 200, REPETITIONS = 7, NAME_MAX_BYTES = 24 };

static shobj_store *store;
static shobj_oid dict, list, large, small[2]; /* small: lists of one number */
static char names[KEYS][NAME_MAX_BYTES];
static shobj_value name_values[KEYS];
static shobj_key keys[KEYS], large_keys[LARGE];
static shobj_value large_values[LARGE];
static int64_t array[KEYS];
static struct {
    const char *name;
    size_t bytes;
    uint64_t hash;
    int64_t value;
} table[2 * KEYS_POWER_OF_2]; /* open addressing, hashes computed once, as those of our keys */
static uint64_t hashes[KEYS];
static _Atomic int64_t word;
static struct guarded {
    pthread_mutex_t mutex;
    volatile int64_t numbers[2];
} *guarded; /* in shared memory */
static volatile int64_t sink;

static void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench: %s: %s\n", what, shobj_error_message());
    exit(EXIT_FAILURE);
}

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static shobj_value int_value(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

static uint64_t fnv1a(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

/* Where names[i] is in the table, or is to be put. */
static unsigned table_find(int i)
{
    unsigned at = (unsigned)hashes[i];
    for (;; at++) {
        at &= 2 * KEYS_POWER_OF_2 - 1;
        if (table[at].name == NULL)
            return at;
        if (table[at].hash == hashes[i] && table[at].bytes == name_values[i].count &&
            memcmp(table[at].name, names[i], table[at].bytes) == 0)
            return at;
    }
}

static void prepare(const char *path)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = UINT64_C(1) << 30};
    must(shobj_open(path, &options, &store), "creating the store");
    must(shobj_dict_new(store, NULL, 0, &dict), "making a dict");
    must(shobj_dict_new(store, NULL, 0, &large), "making a dict");
    must(shobj_list_new(store, NULL, 0, &list), "making a list");
    for (int i = 0; i < 2; i++)
        must(shobj_list_new(store, &(shobj_value){.type = SHOBJ_INT}, 1, &small[i]), "making a list");
    const shobj_oid all[] = {dict, large, list, small[0], small[1]};
    const char *const places[] = {"/dict", "/large", "/list", "/first", "/second"};
    for (int i = 0; i < 5; i++) {
        shobj_value value = {.type = SHOBJ_OBJECT, .oid = all[i]};
        must(shobj_path_set(store, places[i], &value), "storing a container");
    }
    for (int i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof(names[i]), "key number %d", i);
        name_values[i] = (shobj_value){.type = SHOBJ_STR, .data = names[i], .count = strlen(names[i])};
        must(shobj_key_init(store, &name_values[i], &keys[i]), "making a key");
        shobj_value value = int_value(i);
        must(shobj_dict_set(store, dict, &keys[i], &value), "filling the dict");
        must(shobj_list_append(store, list, &value), "filling the list");
        hashes[i] = fnv1a(names[i]);
        unsigned at = table_find(i);
        table[at].name = names[i];
        table[at].bytes = strlen(names[i]);
        table[at].hash = hashes[i];
    }
    for (int i = 0; i < LARGE; i++) {
        large_values[i] = int_value(i);
        must(shobj_key_init(store, &large_values[i], &large_keys[i]), "making a key");
        must(shobj_dict_set(store, large, &large_keys[i], &large_values[i]), "filling the large dict");
    }
}

static void prepare_mutex(void)
{
    pthread_mutexattr_t attributes;
    guarded = mmap(NULL, sizeof(*guarded), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (guarded == MAP_FAILED || pthread_mutexattr_init(&attributes) != 0 ||
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) != 0 ||
        pthread_mutex_init(&guarded->mutex, &attributes) != 0) {
        perror("bench: making a mutex");
        exit(EXIT_FAILURE);
    }
}

/* ---------------------------------------------------------------------------------------------- what is measured */

static void native_get(int i)
{
    sink = table[table_find(i)].value;
}

static void native_set(int i)
{
    table[table_find(i)].value = i;
}

static void native_index(int i)
{
    sink = array[i];
}

static void native_cas(int i)
{
    int64_t expected = atomic_load_explicit(&word, memory_order_relaxed);
    atomic_compare_exchange_strong(&word, &expected, i);
}

static void dict_get(int i)
{
    shobj_value value;
    must(shobj_dict_get(store, dict, &keys[i], &value), "reading a key");
    sink = value.i;
}

static void dict_set(int i)
{
    shobj_value value = int_value(i);
    must(shobj_dict_set(store, dict, &keys[i], &value), "setting a key");
}

static void list_get(int i)
{
    shobj_value value;
    must(shobj_list_get(store, list, i, &value), "reading an element");
    sink = value.i;
}

static void list_set(int i)
{
    shobj_value value = int_value(i);
    must(shobj_list_set(store, list, i, &value), "setting an element");
}

static int move_one(shobj_store *s, void *arg)
{
    int i = *(const int *)arg, j = (i + KEYS / 2) % KEYS;
    shobj_value from, to;
    int rc = shobj_dict_get(s, dict, &keys[i], &from);
    if (rc < 0)
        return rc;
    rc = shobj_dict_get(s, dict, &keys[j], &to);
    if (rc < 0)
        return rc;
    from.i--;
    to.i++;
    rc = shobj_dict_set(s, dict, &keys[i], &from);
    return rc < 0 ? rc : shobj_dict_set(s, dict, &keys[j], &to);
}

static void transfer(int i)
{
    must(shobj_run(store, move_one, &i), "a transfer");
}

static void mutex_alone(int i)
{
    (void)i;
    pthread_mutex_lock(&guarded->mutex);
    pthread_mutex_unlock(&guarded->mutex);
}

static void mutex_move(int i)
{
    pthread_mutex_lock(&guarded->mutex);
    int64_t from = guarded->numbers[0], to = guarded->numbers[1];
    guarded->numbers[0] = from - i;
    guarded->numbers[1] = to + i;
    pthread_mutex_unlock(&guarded->mutex);
}

static void word_get(int i)
{
    shobj_value value;
    must(shobj_list_get(store, small[i & 1], 0, &value), "reading a word");
    sink = value.i;
}

static void word_set(int i)
{
    shobj_value value = int_value(i);
    must(shobj_list_set(store, small[0], 0, &value), "setting a word");
}

static int move_words(shobj_store *s, void *arg)
{
    shobj_value value[2];
    int rc;
    for (int i = 0; i < 2; i++)
        if ((rc = shobj_list_get(s, small[i], 0, &value[i])))
            return rc;
    value[0].i -= *(const int *)arg;
    value[1].i += *(const int *)arg;
    for (int i = 0; i < 2; i++)
        if ((rc = shobj_list_set(s, small[i], 0, &value[i])))
            return rc;
    return 0;
}

static void words_move(int i)
{
    must(shobj_run(store, move_words, &i), "a transaction of two words");
}

static const struct pair {
    const char *name;
    void (*ours)(int i);
    const char *native_name;
    void (*native)(int i);
} pairs[] = {
    {"dict get, str key", dict_get, "hash table", native_get},
    {"dict set, existing key", dict_set, "hash table", native_set},
    {"list get", list_get, "array", native_index},
    {"list set", list_set, "one CAS", native_cas},
    {"transfer in a transaction", transfer, "one CAS", native_cas},
    {"2 reads and 2 writes, atomic", words_move, "mutex", mutex_move},
    {"one word written", word_set, "mutex", mutex_move},
    {"one word read", word_get, "lock alone", mutex_alone},
};

/* ---------------------------------------------------------------------------------------------- measuring */

/* In processor time: what others use of the machine meanwhile does not count. */
static double seconds_each(void (*operation)(int i))
{
    double began = now(CLOCK_THREAD_CPUTIME_ID);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < KEYS; i++)
            operation((int)((unsigned)i * 619u % KEYS));
    return (now(CLOCK_THREAD_CPUTIME_ID) - began) / (ROUNDS * KEYS);
}

static void measure(const struct pair *pair)
{
    double ours[REPETITIONS], native[REPETITIONS];
    seconds_each(pair->ours);
    seconds_each(pair->native);
    for (int i = 0; i < REPETITIONS; i++) {
        ours[i] = seconds_each(pair->ours);
        native[i] = seconds_each(pair->native);
    }
    double a = median(ours, REPETITIONS), b = median(native, REPETITIONS);
    printf("%-28s %9.0f ns   %-10s %6.1f ns %8.1f x\n", pair->name, a * 1e9, pair->native_name, b * 1e9, a / b);
}

/* Updates a second of `processes` processes, each on keys of its own in one large dict, for a fifth of a second. */
static double updates(int processes)
{
    struct shared {
        _Atomic int ready, go, stop;
        _Atomic int64_t done[2];
    } *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("bench: mmap");
        exit(EXIT_FAILURE);
    }
    pid_t pids[2];
    for (int number = 0; number < processes; number++) {
        pids[number] = fork();
        if (pids[number] < 0) {
            perror("bench: fork");
            exit(EXIT_FAILURE);
        }
        if (pids[number] > 0)
            continue;
        must(shobj_dict_set(store, large, &large_keys[number], &large_values[number]), "the first update");
        shared->ready++;
        while (!shared->go)
            ;
        int64_t done = 0;
        for (unsigned i = (unsigned)number; !shared->stop; i = (i + 2 * 7919u) % LARGE, done++)
            must(shobj_dict_set(store, large, &large_keys[i], &large_values[i]), "an update");
        shared->done[number] = done;
        shobj_close(store);
        _exit(EXIT_SUCCESS);
    }
    while (shared->ready < processes)
        usleep(100);
    double began = now(CLOCK_MONOTONIC);
    shared->go = 1;
    usleep(200000);
    shared->stop = 1;
    double seconds = now(CLOCK_MONOTONIC) - began;
    int64_t done = 0;
    for (int number = 0; number < processes; number++) {
        int status;
        waitpid(pids[number], &status, 0);
        if (status != 0) {
            fprintf(stderr, "bench: a process ended with status %d\n", status);
            exit(EXIT_FAILURE);
        }
        done += shared->done[number];
    }
    munmap(shared, sizeof(*shared));
    return (double)done / seconds;
}

int main(void)
{
    const char *directory = getenv("SHOBJ_DIR");
    char path[256];
    snprintf(path, sizeof(path), "%s/shobj-bench-%d", directory ? directory : "/dev/shm", (int)getpid());
    prepare(path);
    prepare_mutex();
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        measure(&pairs[i]);

    double one[REPETITIONS], two[REPETITIONS];
    shobj_stat before, after;
    must(shobj_stat_get(store, &before), "reading the counters");
    for (int i = 0; i < REPETITIONS; i++) {
        one[i] = updates(1);
        two[i] = updates(2);
    }
    must(shobj_stat_get(store, &after), "reading the counters");
    double a = median(two, REPETITIONS), b = median(one, REPETITIONS);
    printf("%-28s %9.2f M/s  %-10s %6.2f M/s %7.2f x\n", "2 processes, different keys", a / 1e6, "1 process", b / 1e6, a / b);
    printf("%-28s %9" PRIu64 " of %" PRIu64 " commits\n", "... conflicts and restarts",
           after.conflicts - before.conflicts + after.retries - before.retries, after.commits - before.commits);
    shobj_close(store);
    must(shobj_unlink(path, true), "removing the store");
    return EXIT_SUCCESS;
}
