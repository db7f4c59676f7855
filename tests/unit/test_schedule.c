/*
 * test_schedule.c: transactions, single operations, retries and blind changes of a few threads on a few nodes, under many
 * drawn schedules (schedule.h). Each seed is a store of its own; it either holds or fails, and fails again when it is run again:
 * SHOBJ_SEED=n runs that one alone, and prints its steps. An argument is how many seeds to try (400).
 *
 * Under each schedule: what belongs together is seen together, by those who lose, too; nothing is lost or doubled;
 * nobody needs the second look of sleepers (a wake-up would have been lost); everybody comes to an end.
 */
#include <pthread.h>

#include "base/schedule.h"
#include "nodes.h"

enum { THREADS = 3, NODES = 5, START = 100, TURNS = 8 };

static shobj_store *store;
static uint64_t nodes[NODES], lone, goods, skew[2];
static shobj_oid list;
static unsigned looked_back; /* the schedule lets one thread run at a time */

struct actor {
    unsigned number;
    uint64_t random;
    uint64_t lone_added;
    int64_t appended;
};

static unsigned below(struct actor *a, unsigned bound)
{
    return (unsigned)(check_random(&a->random) % bound);
}

/* ------------------------------------------------------------------------------------------ what the actors do */

static int sum_of(shobj_store *st, uint64_t *ret_sum)
{
    *ret_sum = 0;
    for (int i = 0; i < NODES; i++) {
        uint64_t value;
        int rc = node_get(st, nodes[i], &value);
        if (rc)
            return rc;
        *ret_sum += value;
    }
    return 0;
}

static int move_body(shobj_store *st, void *arg)
{
    struct actor *a = arg;
    unsigned from = below(a, NODES), to = below(a, NODES);
    int rc = node_add(st, nodes[from], (uint64_t)-1, false);
    return rc ? rc : node_add(st, nodes[to], 1, false);
}

/* Sees all, whether it commits or not (opacity), and moves something. */
static int audit_body(shobj_store *st, void *arg)
{
    uint64_t sum;
    int rc = sum_of(st, &sum);
    if (rc)
        return rc;
    CHECK_INT(sum, NODES * START);
    return below(arg, 2) ? 0 : move_body(st, arg);
}

/* The same for reading only, twice over. Of those that lose, the next look back; so does every one if the actor says so. */
static void audit_reading(struct actor *a)
{
    for (;;) {
        uint64_t sum, again;
        if (below(a, 2))
            sho_past_lost(session_of(store));
        CHECK_INT(shobj_txn_begin_read(store), 0);
        int rc = sum_of(store, &sum);
        if (rc == 0 && (rc = sum_of(store, &again)) == 0)
            CHECK_INT(again, sum);
        if (rc == 0)
            CHECK_INT(sum, NODES * START);
        looked_back += session_of(store)->looked_back;
        if (rc == 0)
            rc = shobj_txn_commit(store);
        else
            shobj_txn_abort(store);
        if (rc == 0)
            return;
        CHECK_INT(rc, SHOBJ_ECONFLICT);
    }
}

/* The same with a block that comes to nothing. */
static int nested_body(shobj_store *st, void *arg)
{
    int rc = shobj_txn_begin(st);
    if (rc == 0)
        rc = move_body(st, arg);
    if (rc == 0)
        rc = node_add(st, lone, 1000, false);
    shobj_txn_abort(st);
    return rc ? rc : audit_body(st, arg);
}

/* Takes from one of two as long as both together have something: what it reads and does not write decides. */
static int skew_body(shobj_store *st, void *arg)
{
    uint64_t a, b;
    int rc = node_get(st, skew[0], &a);
    if (rc || (rc = node_get(st, skew[1], &b)))
        return rc;
    CHECK((int64_t)(a + b) >= 0);
    return node_add(st, skew[below(arg, 2)], a + b > 0 ? (uint64_t)-1 : 1, false);
}

static int make_body(shobj_store *st, void *arg)
{
    (void)arg;
    return node_add(st, goods, 1, false);
}

static void make(struct actor *a)
{
    if (below(a, 2))
        CHECK_INT(node_add(store, goods, 1, true), 0);
    else
        CHECK_INT(shobj_run(store, make_body, a), 0);
}

static int take_body(shobj_store *st, void *arg)
{
    (void)arg;
    uint64_t value;
    int rc = node_get(st, goods, &value);
    if (rc)
        return rc;
    return value == 0 ? SHOBJ_ERETRY : node_add(st, goods, (uint64_t)-1, false);
}

static int append_body(shobj_store *st, void *arg)
{
    struct actor *a = arg;
    shobj_value value = {.type = SHOBJ_INT, .i = a->number};
    int rc = shobj_list_append(st, list, &value);
    return rc ? rc : move_body(st, a);
}

static void act(struct actor *a)
{
    switch (below(a, 10)) {
    case 8:
    case 9: audit_reading(a); break;
    case 0: CHECK_INT(shobj_run(store, move_body, a), 0); break;
    case 1: CHECK_INT(shobj_run(store, audit_body, a), 0); break;
    case 2: CHECK_INT(shobj_run(store, nested_body, a), 0); break;
    case 3:
        CHECK_INT(node_add(store, lone, 1, true), 0);
        a->lone_added++;
        break;
    case 4: {
        /* Of one node by itself; all others see it move. */
        uint64_t value;
        CHECK_INT(node_get(store, nodes[below(a, NODES)], &value), 0);
        break;
    }
    case 5:
    case 6: CHECK_INT(shobj_run(store, skew_body, a), 0); break;
    default:
        CHECK_INT(shobj_run(store, append_body, a), 0);
        a->appended++;
        break;
    }
}

static void *play(void *arg)
{
    struct actor *a = arg;
    uint64_t value;
    for (int i = 0; i < 2; i++)
        CHECK_INT(node_get(store, lone, &value), 0); /* attaches, to both mappings if there are two */
    sho_schedule_join(a->number);
    /* One takes as much as the others make, and so waits for them now and then. */
    for (int i = 0; i < TURNS; i++) {
        if (a->number == 0 && i % 2 == 0)
            CHECK_INT(shobj_run(store, take_body, a), 0);
        else if (a->number != 0 && i % (2 * (THREADS - 1)) == 2)
            make(a);
        else
            act(a);
    }
    sho_schedule_leave();
    return NULL;
}

/* ------------------------------------------------------------------------------------------ one seed */

static sho_schedule_result run_seed(uint64_t seed)
{
    pthread_t threads[THREADS];
    struct actor actors[THREADS];
    uint64_t state = seed, sum, length;
    check_seed_used = seed;
    check_seed_drawn = true;
    store = check_store();
    for (int i = 0; i < NODES; i++)
        nodes[i] = node_new(store, START);
    lone = node_new(store, 0);
    goods = node_new(store, 0);
    skew[0] = node_new(store, 2);
    skew[1] = node_new(store, 0);
    CHECK_INT(shobj_list_new(store, NULL, 0, &list), 0);
    sho_schedule_begin(check_random(&state), THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        actors[i] = (struct actor){.number = i, .random = check_random(&state)};
        CHECK(pthread_create(&threads[i], NULL, play, &actors[i]) == 0);
        sho_schedule_await(i + 1); /* slots are claimed in this order */
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    sho_schedule_result result = sho_schedule_end();

    int64_t appended = 0;
    uint64_t added = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        appended += actors[i].appended;
        added += actors[i].lone_added;
    }
    CHECK_INT(sum_of(store, &sum), 0);
    CHECK_INT(sum, NODES * START);
    uint64_t value;
    CHECK_INT(node_get(store, lone, &value), 0);
    CHECK_INT(value, added);
    CHECK_INT(node_get(store, goods, &value), 0);
    CHECK_INT(value, 0);
    CHECK_INT(shobj_list_len(store, list, &length), 0);
    CHECK_INT(length, appended);
    /* A second of virtual time passes only if somebody slept until the second look. */
    CHECK(result.now_ns - 1000000000u < 1000000000u);
    shobj_close(store);
    return result;
}

int main(int argc, char **argv)
{
    const char *one = argc > 1 ? NULL : getenv("SHOBJ_SEED");
    if (one != NULL) {
        sho_schedule_result result = run_seed(strtoull(one, NULL, 0));
        printf("seed %s: %" PRIu64 " steps, %" PRIu64 " switches, trace %016" PRIx64 "\n", one, result.steps,
               result.switches, result.trace);
        return 0;
    }
    uint64_t first = check_seed() >> 8, count = argc > 1 ? strtoull(argv[1], NULL, 0) : 400;
    uint64_t steps = 0, switches = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        sho_schedule_result result = run_seed(seed);
        steps += result.steps;
        switches += result.switches;
        if (seed % 16 == 0) {
            sho_schedule_result again = run_seed(seed);
            CHECK(again.trace == result.trace && again.steps == result.steps);
        }
    }
    printf("%" PRIu64 " seeds: %" PRIu64 " steps, %" PRIu64 " switches, %u looked back\n", count, steps, switches,
           looked_back);
    CHECK(count < 100 || looked_back > 0);
    return 0;
}
