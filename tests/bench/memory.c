/*
 * memory.c: what a block costs: taken and given back through the allocator's own calls, beside malloc() and free() of the C library.
 *
 * Blocks of 16 to 512 bytes, the same sizes in the same order on both sides, measured in turns; the table shows medians of
 * processor time and their ratios, with the goals. The exit code is 1 if one was missed. Three jobs:
 *
 *   at once     a block is taken, its first word written, and given back
 *   of many     one of 500 live blocks, drawn at random, is given back, and another one taken in its place
 *   by another  blocks are taken by one process and given back by another, which has read them; the processor times of both
 *               count. Beside it the C library does it all in one thread, and with a second thread that frees.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "txn/session.h"
#include "median.h"

enum { PAIRS = 1 << 20, SIZES = 4096, LIVE = 500, BATCH = 256, BATCHES = 1000, REPETITIONS = 9 };

static shobj_store *store;
static sho_session *session;
static uint32_t sizes[SIZES], places[SIZES]; /* bytes of a block in all, and which of the live ones it replaces */

static void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "memory: %s: %s\n", what, shobj_error_message());
    exit(EXIT_FAILURE);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---------------------------------------------------------------------------------------------- the two sides */

static uint64_t our_take(uint32_t bytes)
{
    uint64_t off;
    if (sho_heap_take_box(&session->heap, bytes - sizeof(struct shm_box), &off))
        must(SHOBJ_EFULL, "taking a block");
    sho_store_release((sho_word *)(session->region->base + off), SHM_BOX_HEADER(SHM_BOX_BYTES, 0, bytes - sizeof(struct shm_box)));
    sho_heap_taken(&session->heap, off);
    return off;
}

static void our_give(uint64_t off)
{
    sho_heap_freeing(&session->heap, off);
    if (!sho_heap_give(&session->heap, off)) {
        fprintf(stderr, "memory: a block was not taken back\n");
        exit(EXIT_FAILURE);
    }
}

static uint64_t our_read(uint64_t off)
{
    return sho_load((sho_word *)(session->region->base + off));
}

static uint64_t their_take(uint32_t bytes)
{
    volatile uint64_t *block = malloc(bytes);
    if (block == NULL)
        must(SHOBJ_ENOMEM, "malloc");
    *block = bytes;
    return (uint64_t)(uintptr_t)block;
}

static void their_give(uint64_t block)
{
    free((void *)(uintptr_t)block);
}

static uint64_t their_read(uint64_t block)
{
    return *(volatile uint64_t *)(uintptr_t)block;
}

/* ---------------------------------------------------------------------------------------------- on one thread */

#define AT_ONCE(name, take, give)                                                                  \
    static double name(void)                                                                       \
    {                                                                                              \
        double began = now();                                                                      \
        for (unsigned i = 0; i < PAIRS; i++)                                                       \
            give(take(sizes[i % SIZES]));                                                          \
        return (now() - began) / PAIRS;                                                            \
    }
AT_ONCE(our_pairs, our_take, our_give)
AT_ONCE(their_pairs, their_take, their_give)

#define OF_MANY(name, take, give)                                                                  \
    static double name(void)                                                                       \
    {                                                                                              \
        static uint64_t live[LIVE];                                                                \
        for (unsigned i = 0; i < LIVE; i++)                                                        \
            live[i] = take(sizes[i % SIZES]);                                                      \
        double began = now();                                                                      \
        for (unsigned i = 0; i < PAIRS; i++) {                                                     \
            uint64_t *place = &live[places[i % SIZES]];                                            \
            give(*place);                                                                          \
            *place = take(sizes[(i * 7 + i / SIZES) % SIZES]);                                     \
        }                                                                                          \
        double seconds = (now() - began) / PAIRS;                                                  \
        for (unsigned i = 0; i < LIVE; i++)                                                        \
            give(live[i]);                                                                         \
        return seconds;                                                                            \
    }
OF_MANY(our_replacements, our_take, our_give)
OF_MANY(their_replacements, their_take, their_give)

static double their_batches(void)
{
    static uint64_t blocks[BATCH];
    double began = now();
    for (unsigned round = 0; round < BATCHES; round++) {
        for (unsigned i = 0; i < BATCH; i++)
            blocks[i] = their_take(sizes[(round * BATCH + i) % SIZES]);
        for (unsigned i = 0; i < BATCH; i++)
            if (their_read(blocks[i]) == 0)
                exit(EXIT_FAILURE);
            else
                their_give(blocks[i]);
    }
    return (now() - began) / ((double)BATCHES * BATCH);
}

/* ---------------------------------------------------------------------------------------------- by another one */

/* A batch at a time goes over and comes back. */
static struct shared {
    sem_t sent, done;
    double seconds; /* of the one who frees */
    uint64_t blocks[BATCH];
} *shared;

static void await(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0)
        ;
}

#define RECEIVE(name, read, give)                                                                  \
    static void name(void)                                                                         \
    {                                                                                              \
        shared->seconds = 0;                                                                       \
        for (unsigned round = 0; round < BATCHES; round++) {                                       \
            await(&shared->sent);                                                                  \
            double began = now();                                                                  \
            for (unsigned i = 0; i < BATCH; i++)                                                   \
                if (read(shared->blocks[i]) == 0)                                                  \
                    exit(EXIT_FAILURE);                                                            \
                else                                                                               \
                    give(shared->blocks[i]);                                                       \
            shared->seconds += now() - began;                                                      \
            sem_post(&shared->done);                                                               \
        }                                                                                          \
    }
RECEIVE(our_receive, our_read, our_give)
RECEIVE(their_receive, their_read, their_give)

#define SEND(name, take)                                                                           \
    static double name(void)                                                                       \
    {                                                                                              \
        double seconds = 0;                                                                        \
        for (unsigned round = 0; round < BATCHES; round++) {                                       \
            double began = now();                                                                  \
            for (unsigned i = 0; i < BATCH; i++)                                                   \
                shared->blocks[i] = take(sizes[(round * BATCH + i) % SIZES]);                      \
            seconds += now() - began;                                                              \
            sem_post(&shared->sent);                                                               \
            await(&shared->done);                                                                  \
        }                                                                                          \
        return (seconds + shared->seconds) / ((double)BATCHES * BATCH);                            \
    }
SEND(our_send, our_take)
SEND(their_send, their_take)

static double our_processes(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        must(sho_session_get(store, &session), "a session of the child");
        our_receive();
        shobj_close(store);
        _exit(EXIT_SUCCESS);
    }
    double seconds = pid < 0 ? (must(SHOBJ_EIO, "fork"), 0) : our_send();
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "memory: the other process ended with status %d\n", status);
        exit(EXIT_FAILURE);
    }
    return seconds;
}

static void *receiver(void *arg)
{
    their_receive();
    return arg;
}

static double their_threads(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, receiver, NULL) != 0)
        must(SHOBJ_ENOMEM, "making a thread");
    double seconds = their_send();
    pthread_join(thread, NULL);
    return seconds;
}

/* ---------------------------------------------------------------------------------------------- the table */

static const struct pair {
    const char *name;
    double (*ours)(void);
    const char *theirs_name;
    double (*theirs)(void);
    double goal;
} pairs[] = {
    {"block, taken and given back", our_pairs, "malloc, free", their_pairs, 2},
    {"block, one of 500 replaced", our_replacements, "malloc, free", their_replacements, 2},
    {"block, given back by another", our_processes, "free by thread", their_threads, 3},
    {"the same", our_processes, "on one thread", their_batches, 3},
};

/* True if the goal was reached. */
static bool measure(const struct pair *pair)
{
    double ours[REPETITIONS], theirs[REPETITIONS];
    pair->ours();
    pair->theirs();
    for (int i = 0; i < REPETITIONS; i++) {
        ours[i] = pair->ours();
        theirs[i] = pair->theirs();
    }
    double a = median(ours, REPETITIONS), b = median(theirs, REPETITIONS);
    printf("%-28s %9.1f ns   %-14s %6.1f ns %8.2f x   <= %g%s\n", pair->name, a * 1e9, pair->theirs_name, b * 1e9, a / b,
           pair->goal, a <= pair->goal * b ? "" : "  MISSED");
    fflush(stdout);
    return a <= pair->goal * b;
}

int main(void)
{
    char path[256];
    const char *directory = getenv("SHOBJ_DIR");
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = UINT64_C(1) << 30};
    snprintf(path, sizeof(path), "%s/shobj-bench-memory-%d", directory ? directory : "/dev/shm", (int)getpid());
    must(shobj_open(path, &options, &store), "creating the store");
    must(shobj_unlink(path, true), "removing the store's name");
    must(sho_session_get(store, &session), "a session");
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || sem_init(&shared->sent, 1, 0) < 0 || sem_init(&shared->done, 1, 0) < 0)
        must(SHOBJ_ENOMEM, "mapping memory");
    uint32_t random = 12345;
    for (unsigned i = 0; i < SIZES; i++) {
        random = random * 1664525u + 1013904223u;
        sizes[i] = 16 + (random >> 8) % 497;
        places[i] = (random >> 17) % LIVE;
    }
    bool all = true;
    for (size_t i = 0; i < SHO_COUNT_OF(pairs); i++)
        all = measure(&pairs[i]) && all;
    shobj_close(store);
    return all ? EXIT_SUCCESS : 1;
}
