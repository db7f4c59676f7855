/*
 * schedule.c: see schedule.h.
 *
 * One mutex guards everything; the turn is handed over under it, and each thread waits for its own with a condition
 * variable. Everything drawn comes from one generator, in an order that the turns make the same each time.
 */
#include "base/schedule.h"

#ifdef SHOBJ_FAULTS

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

enum { THREADS_MAX = 16, STEP_NS = 100, STEPS_MAX = 20000000 };

enum state { ABSENT, READY, SLEEPING, GONE };

static struct {
    pthread_mutex_t mutex;
    unsigned count, joined, turn;
    uint64_t random;
    uint64_t seed;
    unsigned calm; /* one step in so many hands over */
    sho_schedule_result result;
    struct {
        enum state state;
        pthread_cond_t come;
        const sho_word *word;
        uint32_t seen;
        uint64_t until_ns;
    } of[THREADS_MAX];
} schedule = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static __thread unsigned me; /* number + 1; 0: takes no part */

static uint64_t draw(void)
{
    uint64_t z = (schedule.random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void note(uint64_t what)
{
    schedule.result.trace = (schedule.result.trace ^ what) * 0x100000001b3u;
}

static void note_step(const char *name)
{
    note(me);
    for (; *name != '\0'; name++)
        note((unsigned char)*name);
    schedule.result.now_ns += STEP_NS;
    if (++schedule.result.steps < STEPS_MAX)
        return;
    fprintf(stderr, "schedule: seed %llu does not come to an end\n", (unsigned long long)schedule.seed);
    abort();
}

static bool is_ready(unsigned i)
{
    if (schedule.of[i].state != SLEEPING)
        return schedule.of[i].state == READY;
    return schedule.of[i].until_ns <= schedule.result.now_ns ||
           (schedule.of[i].word != NULL && (uint32_t)sho_load_acquire(schedule.of[i].word) != schedule.of[i].seen);
}

/* With nobody ready: to the end of the next sleep. */
static void pass_time(void)
{
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < schedule.count; i++)
        if (schedule.of[i].state == SLEEPING && schedule.of[i].until_ns < next)
            next = schedule.of[i].until_ns;
    if (next != UINT64_MAX && next > schedule.result.now_ns)
        schedule.result.now_ns = next;
}

/* Draws who comes next, `count` if nobody is left. */
static unsigned draw_next(void)
{
    for (int pass = 0; pass < 2; pass++) {
        unsigned ready = 0;
        for (unsigned i = 0; i < schedule.count; i++)
            ready += is_ready(i);
        unsigned at = ready > 0 ? (unsigned)(draw() % ready) : 0;
        for (unsigned i = 0; ready > 0 && i < schedule.count; i++)
            if (is_ready(i) && at-- == 0)
                return i;
        pass_time();
    }
    return schedule.count;
}

/* With the mutex held: lets another go on, and comes back with the next turn. */
static void hand_over(bool come_back)
{
    unsigned next = draw_next();
    if (next == schedule.count || next == me - 1)
        return;
    schedule.result.switches++;
    schedule.turn = next;
    pthread_cond_signal(&schedule.of[next].come);
    while (come_back && schedule.turn != me - 1)
        pthread_cond_wait(&schedule.of[me - 1].come, &schedule.mutex);
}

void sho_schedule_begin(uint64_t seed, unsigned count)
{
    SHO_ASSERT(count > 0 && count <= THREADS_MAX);
    schedule.seed = schedule.random = seed;
    schedule.count = count;
    schedule.joined = 0;
    schedule.turn = count;
    schedule.result = (sho_schedule_result){.trace = 0xcbf29ce484222325u, .now_ns = 1000000000u};
    schedule.calm = 1 + (unsigned)(draw() % 12);
    for (unsigned i = 0; i < count; i++) {
        schedule.of[i].state = ABSENT;
        pthread_cond_init(&schedule.of[i].come, NULL);
    }
}

void sho_schedule_join(unsigned number)
{
    me = number + 1;
    pthread_mutex_lock(&schedule.mutex);
    schedule.of[number].state = READY;
    if (++schedule.joined == schedule.count) {
        schedule.turn = draw_next();
        pthread_cond_signal(&schedule.of[schedule.turn].come);
    }
    while (schedule.turn != number)
        pthread_cond_wait(&schedule.of[number].come, &schedule.mutex);
    pthread_mutex_unlock(&schedule.mutex);
}

void sho_schedule_await(unsigned joined)
{
    for (;;) {
        pthread_mutex_lock(&schedule.mutex);
        bool done = schedule.joined >= joined;
        pthread_mutex_unlock(&schedule.mutex);
        if (done)
            return;
        sched_yield();
    }
}

void sho_schedule_leave(void)
{
    pthread_mutex_lock(&schedule.mutex);
    schedule.of[me - 1].state = GONE;
    hand_over(false);
    me = 0;
    pthread_mutex_unlock(&schedule.mutex);
}

sho_schedule_result sho_schedule_end(void)
{
    for (unsigned i = 0; i < schedule.count; i++)
        pthread_cond_destroy(&schedule.of[i].come);
    return schedule.result;
}

bool sho_schedule_step(const char *name)
{
    if (me == 0)
        return false;
    pthread_mutex_lock(&schedule.mutex);
    note_step(name);
    if (draw() % schedule.calm == 0)
        hand_over(true);
    pthread_mutex_unlock(&schedule.mutex);
    return true;
}

bool sho_schedule_sleep(const sho_word *word, uint32_t seen, uint64_t ns)
{
    if (me == 0)
        return false;
    pthread_mutex_lock(&schedule.mutex);
    note_step("sleep");
    schedule.of[me - 1].word = word;
    schedule.of[me - 1].seen = seen;
    schedule.of[me - 1].until_ns = schedule.result.now_ns + ns;
    schedule.of[me - 1].state = SLEEPING;
    hand_over(true);
    schedule.of[me - 1].state = READY;
    pthread_mutex_unlock(&schedule.mutex);
    return true;
}

bool sho_schedule_now(uint64_t *ret_ns)
{
    if (me == 0)
        return false;
    pthread_mutex_lock(&schedule.mutex);
    *ret_ns = schedule.result.now_ns;
    pthread_mutex_unlock(&schedule.mutex);
    return true;
}

bool sho_schedule_random(uint64_t *ret_random)
{
    if (me == 0)
        return false;
    pthread_mutex_lock(&schedule.mutex);
    *ret_random = draw();
    pthread_mutex_unlock(&schedule.mutex);
    return true;
}

#endif
