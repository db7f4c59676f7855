/*
 * test_gc_schedule.c: mutators, helpers of collections and pins by id alone, under many drawn schedules (schedule.h). Each seed is a
 * store of its own; it either holds or fails, and fails again when it is run again: SHOBJ_SEED=n runs that one alone. An argument is
 * how many seeds to try (150).
 *
 * Under each schedule: every mutator finds its graph as its model has it; a message is whole; at the end, after one more collection,
 * all that is unreachable has gone, and every block is counted.
 */
#include <semaphore.h>

#include "base/schedule.h"
#include "graphs.h"

enum { MUTATORS = 2, HELPERS = 2, ACTORS = MUTATORS + HELPERS, TURNS = 10, CYCLES = 3 };

static struct model models[MUTATORS];
static _Atomic unsigned at_work;
static sem_t left, may_end[ACTORS]; /* sessions end one after the other, when the schedule is over: that takes a mutex */

static void mutate(struct model *m)
{
    for (int i = 0; i < TURNS; i++) {
        step(m);
        pin_weakly(m);
        switch (draw(m, 5)) {
        case 0:
        case 1:
            CHECK_INT(shobj_run(store, send_body, m), 0);
            break;
        case 2:
            CHECK_INT(shobj_run(store, take_body, m), 0);
            break;
        case 3:
            take_slowly(m);
            break;
        default:
            break;
        }
    }
    judge(m, false);
}

static void help(void)
{
    sho_helper h;
    CHECK_INT(sho_helper_init(&h, store, NULL), 0);
    for (int i = 0; i < CYCLES || at_work > 0; i++) {
        sho_cycle_begin(h.region);
        sho_cycle_help(&h);
        (void)sho_schedule_sleep(NULL, 0, 1000);
    }
    sho_helper_fini(&h);
}

static void *play(void *arg)
{
    unsigned number = (unsigned)(uintptr_t)arg;
    uint64_t length;
    for (int i = 0; i < 2; i++)
        CHECK_INT(shobj_list_len(store, mailbox, &length), 0); /* attaches, to both mappings if there are two */
    sho_schedule_join(number);
    if (number < MUTATORS) {
        mutate(&models[number]);
        at_work--;
    } else {
        help();
    }
    sho_schedule_leave();
    sem_post(&left);
    sem_wait(&may_end[number]);
    shobj_detach(store);
    shobj_detach(store);
    return NULL;
}

/* All that differs from one new store to the next: where keys go in dicts; and no thread of the library's own takes part. */
static void make_same(void)
{
    memset(store->region->hash_seed, 7, sizeof(store->region->hash_seed));
    if (store->twin != NULL)
        memset(store->twin->region->hash_seed, 7, sizeof(store->region->hash_seed));
    sho_store(&store->region->sb->collect_at, UINT64_MAX / 2);
}

static sho_schedule_result run_seed(uint64_t seed)
{
    pthread_t threads[ACTORS];
    uint64_t state = seed;
    check_seed_used = seed;
    check_seed_drawn = true;
    begin();
    make_same();
    mailbox = new_list(NULL, 0);
    set(shobj_root(store), -1, object(mailbox));
    for (unsigned i = 0; i < MUTATORS; i++) {
        uint32_t first;
        model_begin(&models[i], i, check_random(&state));
        CHECK_INT(shobj_pin(models[i].pins, shobj_root(store), &first), 0); /* the table has room from now on */
        for (int k = 0; k < 40; k++)
            step(&models[i]);
    }
    release_all();
    at_work = MUTATORS;
    sem_init(&left, 0, 0);
    for (unsigned i = 0; i < ACTORS; i++)
        sem_init(&may_end[i], 0, 0);
    sho_schedule_begin(check_random(&state), ACTORS);
    for (unsigned i = 0; i < ACTORS; i++) {
        CHECK(pthread_create(&threads[i], NULL, play, (void *)(uintptr_t)i) == 0);
        sho_schedule_await(i + 1);
    }
    for (unsigned i = 0; i < ACTORS; i++)
        sem_wait(&left);
    for (unsigned i = 0; i < ACTORS; i++) {
        sem_post(&may_end[i]);
        pthread_join(threads[i], NULL);
    }
    sho_schedule_result result = sho_schedule_end();
    close_models(models, MUTATORS);
    return result;
}

int main(int argc, char **argv)
{
    const char *one = argc > 1 ? NULL : getenv("SHOBJ_SEED");
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (one != NULL) {
        sho_schedule_result result = run_seed(strtoull(one, NULL, 0));
        printf("seed %s: %" PRIu64 " steps, %" PRIu64 " switches, trace %016" PRIx64 "\n", one, result.steps, result.switches,
               result.trace);
        return 0;
    }
    uint64_t first = check_seed() >> 8, count = argc > 1 ? strtoull(argv[1], NULL, 0) : 150, steps = 0, switches = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        sho_schedule_result result = run_seed(seed);
        steps += result.steps;
        switches += result.switches;
        if (seed % 16 == 0) {
            sho_schedule_result again = run_seed(seed);
            CHECK(again.trace == result.trace && again.steps == result.steps);
        }
    }
    printf("%" PRIu64 " seeds: %" PRIu64 " steps, %" PRIu64 " switches\n", count, steps, switches);
    return 0;
}
