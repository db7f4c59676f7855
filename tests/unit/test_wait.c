/*
 * test_wait.c: waiting for others: retry and its wake-ups, alternatives, deadlines, what is called at the end, reading through
 * the log of an owner that stands still, and the right of way of those who lost too often.
 */
#include <pthread.h>
#include <sched.h>

#include "base/fault.h"
#include "nodes.h"

static shobj_store *store;

/* ------------------------------------------------------------------------------------------ other threads */

/* Runs a function in a thread of its own, which has a session of its own, to its end. */
static void elsewhere(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, arg) == 0);
    pthread_join(thread, NULL);
}

static void *add_one(void *off)
{
    CHECK_INT(node_add(store, *(uint64_t *)off, 1, false), 0);
    return NULL;
}

static void *add_one_alone(void *off)
{
    CHECK_INT(node_add(store, *(uint64_t *)off, 1, true), 0);
    return NULL;
}

static uint64_t get(uint64_t off)
{
    uint64_t value = 0;
    CHECK_INT(node_get(store, off, &value), 0);
    return value;
}

static uint64_t get_elsewhere_value;
static void *get_thread(void *off)
{
    get_elsewhere_value = get(*(uint64_t *)off);
    return NULL;
}

static uint64_t get_elsewhere(uint64_t off)
{
    elsewhere(get_thread, &off);
    return get_elsewhere_value;
}

/* Waits until some session sleeps (or is about to): then it has told the wait buckets; or until `end` (may be NULL). */
static void until_somebody_sleeps_or(const _Atomic bool *end)
{
    while (end == NULL || !atomic_load(end)) {
        unsigned count = sho_region_slot_count(store->region);
        for (unsigned i = 0; i < count; i++)
            if (sho_load_acquire(&sho_region_slot(store->region, i)->waiting) != 0)
                return;
        sched_yield();
    }
}

static void until_somebody_sleeps(void)
{
    until_somebody_sleeps_or(NULL);
}

/* Has the calling thread lost its right of way because it came to nothing for so long, without its processor say? */
static bool lease_is_over(void)
{
    return sho_load(&session_of(store)->slot->leases) > 0;
}

static int64_t in_ms(int64_t ms)
{
    return (int64_t)sho_monotonic_ns() + ms * 1000000;
}

/* ------------------------------------------------------------------------------------------ retry */

struct wait {
    uint64_t nodes[2];
    unsigned executions;
    bool undone_work;
};

/* Needs one of its nodes above 0, and takes one off. */
static int take_body(shobj_store *st, void *arg)
{
    struct wait *w = arg;
    w->executions++;
    if (w->undone_work)
        node_new(st, 1);
    for (int i = 0; i < 2; i++) {
        uint64_t value;
        int rc = node_get(st, w->nodes[i], &value);
        if (rc)
            return rc;
        if (value > 0)
            return node_add(st, w->nodes[i], (uint64_t)-1, false);
    }
    return SHOBJ_ERETRY;
}

static void *take_thread(void *arg)
{
    CHECK_INT(shobj_run(store, take_body, arg), 0);
    return NULL;
}

static void test_retry(bool single, bool undone_work)
{
    for (int which = 0; which < 2; which++) {
        struct wait w = {.nodes = {node_new(store, 0), node_new(store, 0)}, .undone_work = undone_work};
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, take_thread, &w) == 0);
        until_somebody_sleeps();
        CHECK_INT(node_add(store, w.nodes[which], 1, single), 0);
        pthread_join(thread, NULL);
        CHECK(w.executions >= 2);
        CHECK_INT(get(w.nodes[which]), 0);
    }
}

/* A change between the reading and the going to sleep. */
static uint64_t early_off;
static void change_early(void)
{
    elsewhere(add_one, &early_off);
}

static void test_retry_early(const char *point)
{
    struct wait w = {.nodes = {node_new(store, 0), node_new(store, 0)}};
    early_off = w.nodes[1];
    sho_fault_plan_call(change_early, 1, point);
    CHECK_INT(shobj_deadline(store, in_ms(20000)), 0);
    CHECK_INT(shobj_run(store, take_body, &w), 0);
    CHECK(shobj_deadline(store, 0) > 0);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(w.executions, 2);
}

static int retry_body(shobj_store *st, void *arg)
{
    (void)st;
    (void)arg;
    return SHOBJ_ERETRY;
}

static void test_retry_refused(void)
{
    CHECK_INT(shobj_txn_wait(store), SHOBJ_ETXN);
    CHECK_INT(shobj_run(store, retry_body, NULL), SHOBJ_ETXN); /* has read nothing */
    CHECK_INT(shobj_txn_depth(store), 0);
    struct wait w = {.nodes = {node_new(store, 0), node_new(store, 0)}};
    shobj_deadline(store, in_ms(5));
    CHECK_INT(shobj_run(store, take_body, &w), SHOBJ_ETIMEOUT);
    CHECK_INT(shobj_txn_depth(store), 0);
    CHECK_INT(w.executions, 1);
    shobj_deadline(store, 0);
}

/* ------------------------------------------------------------------------------------------ alternatives */

struct choice {
    uint64_t first, second, log;
};

static int take_from(shobj_store *st, uint64_t off, uint64_t log, uint64_t mark)
{
    uint64_t value;
    int rc = node_add(st, log, mark, false); /* undone if it comes to nothing */
    if (rc || (rc = node_get(st, off, &value)))
        return rc;
    return value == 0 ? SHOBJ_ERETRY : node_add(st, off, (uint64_t)-1, false);
}

static int take_first(shobj_store *st, void *arg)
{
    struct choice *c = arg;
    return take_from(st, c->first, c->log, 1);
}

static int take_second(shobj_store *st, void *arg)
{
    struct choice *c = arg;
    return take_from(st, c->second, c->log, 100);
}

static void *choose_thread(void *arg)
{
    CHECK_INT(shobj_or_else(store, take_first, take_second, arg), 0);
    return NULL;
}

static void test_or_else(void)
{
    struct choice c = {node_new(store, 1), node_new(store, 1), node_new(store, 0)};
    elsewhere(choose_thread, &c);
    CHECK_INT(get(c.first), 0);
    CHECK_INT(get(c.log), 1);
    elsewhere(choose_thread, &c);
    CHECK_INT(get(c.second), 0);
    CHECK_INT(get(c.log), 101);
    /* Both wait: a change of either is enough. */
    uint64_t *const each[] = {&c.first, &c.second};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, choose_thread, &c) == 0);
        until_somebody_sleeps();
        CHECK_INT(node_add(store, *each[i], 1, false), 0);
        pthread_join(thread, NULL);
        CHECK_INT(get(*each[i]), 0);
    }
    CHECK_INT(get(c.log), 202);
    /* Inside a transaction the outer block's work stands whatever the first alternative did. */
    CHECK_INT(node_add(store, c.second, 1, false), 0);
    CHECK_INT(shobj_txn_begin(store), 0);
    CHECK_INT(node_add(store, c.log, 1000, false), 0);
    CHECK_INT(shobj_or_else(store, take_first, take_second, &c), 0);
    CHECK_INT(shobj_or_else(store, take_first, take_second, &c), SHOBJ_ERETRY);
    CHECK_INT(shobj_txn_commit(store), 0);
    CHECK_INT(get(c.log), 1302);
}

/* ------------------------------------------------------------------------------------------ the end */

static char ends[64];
static void note_end(shobj_store *st, void *arg, bool committed)
{
    size_t n = strlen(ends);
    ends[n] = (char)((committed ? 'A' : 'a') + *(int *)arg);
    ends[n + 1] = '\0';
    (void)node_new(st, 1); /* it may use the store, in what transaction whatever */
}

static void note(int *arg)
{
    CHECK_INT(shobj_txn_on_end(store, note_end, arg), 0);
}

static void test_ends(void)
{
    int n[] = {0, 1, 2, 3};
    uint64_t off = node_new(store, 0);
    CHECK_INT(shobj_txn_on_end(store, note_end, n), SHOBJ_ETXN);
    for (int commit = 0; commit < 2; commit++) {
        ends[0] = '\0';
        CHECK_INT(shobj_txn_begin(store), 0);
        note(&n[0]);
        CHECK_INT(shobj_txn_begin(store), 0);
        note(&n[1]);
        note(&n[2]);
        shobj_txn_abort(store);
        CHECK(strcmp(ends, "cb") == 0);
        CHECK_INT(shobj_txn_begin(store), 0);
        note(&n[3]);
        CHECK_INT(shobj_txn_commit(store), 0);
        CHECK(strcmp(ends, "cb") == 0);
        if (commit)
            CHECK_INT(shobj_txn_commit(store), 0);
        else
            shobj_txn_abort(store);
        CHECK(strcmp(ends, commit ? "cbAD" : "cbda") == 0);
    }
    /* Lost: undone. */
    ends[0] = '\0';
    CHECK_INT(shobj_txn_begin(store), 0);
    note(&n[0]);
    CHECK_INT(node_add(store, off, 1, false), 0);
    elsewhere(add_one, &off);
    CHECK_INT(shobj_txn_commit(store), SHOBJ_ECONFLICT);
    CHECK(strcmp(ends, "a") == 0);
}

static void test_reading(void)
{
    uint64_t value, off = node_new(store, 5);
    CHECK_INT(shobj_txn_begin_read(store), 0);
    CHECK_INT(node_get(store, off, &value), 0);
    CHECK_INT(node_add(store, off, 1, false), SHOBJ_EREADONLY);
    CHECK_INT(shobj_txn_begin(store), 0); /* a block inside it is no way around */
    CHECK_INT(node_add(store, off, 1, false), SHOBJ_EREADONLY);
    CHECK_INT(shobj_txn_commit(store), 0);
    CHECK_INT(shobj_txn_commit(store), 0);
    CHECK_INT(node_add(store, off, 1, false), 0);
    CHECK_INT(get(off), 6);
}

/* ------------------------------------------------------------------------------------------ an owner that stands still */

static uint64_t still[2], other_node;
static uint64_t expected; /* of still[0] */
static bool still_is_single;

static void *read_both(void *arg)
{
    (void)arg;
    uint64_t a = 0, b = 0, c = 0;
    CHECK_INT(node_get(store, still[0], &a), 0);
    CHECK_INT(a, expected);
    CHECK_INT(shobj_txn_begin(store), 0);
    CHECK_INT(node_get(store, other_node, &c), 0);
    CHECK_INT(node_get(store, still[0], &a), 0);
    CHECK_INT(node_get(store, still[1], &b), 0);
    CHECK_INT(a, expected);
    CHECK_INT(b, still_is_single ? 0 : expected);
    CHECK_INT(node_get(store, still[0], &a), 0); /* again, from the table */
    CHECK_INT(a, expected);
    CHECK_INT(node_add(store, other_node, 1, false), 0);
    CHECK_INT(shobj_txn_commit(store), 0);
    return NULL;
}

static void *fail_to_write(void *arg)
{
    (void)arg;
    shobj_deadline(store, in_ms(3));
    CHECK_INT(node_add(store, still[0], 1, true), SHOBJ_ETIMEOUT);
    CHECK(strstr(shobj_error_message(), "session") != NULL);
    CHECK_INT(shobj_txn_begin(store), 0);
    CHECK_INT(node_add(store, still[0], 1, false), SHOBJ_ETIMEOUT);
    shobj_txn_abort(store);
    return NULL;
}

static void look_at_owner(void)
{
    elsewhere(read_both, NULL);
    elsewhere(fail_to_write, NULL);
}

static int both_body(shobj_store *st, void *arg)
{
    (void)arg;
    int rc = node_add(st, still[0], 1, false);
    return rc ? rc : node_add(st, still[1], 1, false);
}

static void test_read_through(const char *point, uint64_t passage, bool single)
{
    for (int i = 0; i < 2; i++)
        still[i] = node_new(store, 0);
    other_node = node_new(store, 0);
    still_is_single = single;
    expected = 1;
    sho_fault_plan_call(look_at_owner, passage, point);
    CHECK_INT(single ? node_add(store, still[0], 1, true) : shobj_run(store, both_body, NULL), 0);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(get(other_node), 1);
    CHECK_INT(get(still[0]), 1);
    CHECK_INT(get(still[1]), !single);
}

/* A transaction that has read through is valid until the owner gets on, and not afterwards. */
static pthread_barrier_t met;
static void *read_then_commit(void *arg)
{
    (void)arg;
    uint64_t a;
    CHECK_INT(shobj_txn_begin(store), 0);
    CHECK_INT(node_get(store, still[0], &a), 0);
    CHECK_INT(a, 1);
    CHECK_INT(node_add(store, other_node, 1, false), 0);
    pthread_barrier_wait(&met);
    pthread_barrier_wait(&met);
    CHECK_INT(shobj_txn_commit(store), SHOBJ_ECONFLICT);
    return NULL;
}

static pthread_t outliving;
static void start_outliving(void)
{
    CHECK(pthread_create(&outliving, NULL, read_then_commit, NULL) == 0);
    pthread_barrier_wait(&met);
}

static void test_read_through_ends(void)
{
    still[0] = node_new(store, 0);
    other_node = node_new(store, 0);
    pthread_barrier_init(&met, NULL, 2);
    sho_fault_plan_call(start_outliving, 1, "single.locked");
    CHECK_INT(node_add(store, still[0], 1, true), 0);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(node_add(store, still[0], 1, true), 0);
    pthread_barrier_wait(&met);
    pthread_join(outliving, NULL);
    CHECK_INT(get(still[0]), 2);
    CHECK_INT(get(other_node), 0);
}

/* ------------------------------------------------------------------------------------------ the right of way */

static uint64_t elders(void)
{
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    return stat.elders;
}

static _Atomic bool attacker_done;
static void *attack(void *off)
{
    add_one(off);
    atomic_store(&attacker_done, true);
    return NULL;
}

/* Reads a node, lets another change it in each execution, and changes it. In the one that has the right of way the other
 * can't: it is still waiting when this one commits. */
struct loser {
    uint64_t node, second;
    unsigned executions, attacks;
    unsigned lapsed; /* executions whose lease has run out */
    pthread_t attackers[64];
    bool single;
};

static int lose_body(shobj_store *st, void *arg)
{
    struct loser *l = arg;
    uint64_t value;
    l->executions++;
    int rc = node_get(st, l->node, &value);
    if (rc)
        return rc;
    bool elder = session_of(st)->token != 0;
    atomic_store(&attacker_done, false);
    CHECK(pthread_create(&l->attackers[l->attacks++], NULL, attack, &l->node) == 0);
    if (elder)
        until_somebody_sleeps_or(&attacker_done);
    else
        while (!atomic_load(&attacker_done))
            sched_yield();
    if (elder && atomic_load(&attacker_done)) {
        CHECK(lease_is_over());
        l->lapsed++;
    }
    rc = node_add(st, l->second, 1, false);
    return rc ? rc : node_add(st, l->node, 1000, false);
}

static void test_elder(void)
{
    struct loser l = {.node = node_new(store, 0), .second = node_new(store, 0)};
    uint64_t before = elders();
    CHECK_INT(shobj_run(store, lose_body, &l), 0);
    CHECK_INT(l.executions, SHO_ELDER_PATIENCE + 1 + l.lapsed);
    for (unsigned i = 0; i < l.attacks; i++)
        pthread_join(l.attackers[i], NULL);
    CHECK_INT(elders(), before + 1 + l.lapsed);
    CHECK_INT(get(l.node), 1000 + l.attacks);
    CHECK_INT(get(l.second), 1);
    CHECK_INT(sho_load(&store->region->sb->elder), 0);
    CHECK_INT(session_of(store)->ticket, 0);
}

/* As if the thread had lost often enough. */
static void begin_as_elder(void)
{
    sho_session *s = session_of(store);
    s->failures = SHO_ELDER_PATIENCE;
    sho_elder_lost(s, s->failures);
    CHECK_INT(shobj_txn_begin(store), 0);
    CHECK(s->token != 0);
}

/* A body that does not end: its lease does. */
static void test_lease(bool single)
{
    uint64_t value, node = node_new(store, 0);
    begin_as_elder();
    CHECK_INT(node_get(store, node, &value), 0);
    elsewhere(single ? add_one_alone : add_one, &node); /* comes back */
    CHECK_INT(sho_load(&session_of(store)->slot->leases), 1);
    CHECK_INT(node_add(store, node, 1, false), SHOBJ_ECONFLICT);
    shobj_txn_abort(store);
    CHECK_INT(shobj_txn_begin(store), 0); /* again, with the same ticket */
    CHECK_INT(node_add(store, node, 1, false), 0);
    CHECK_INT(shobj_txn_commit(store), 0);
    CHECK_INT(get(node), 2);
    CHECK_INT(sho_load(&store->region->sb->elder), 0);
}

/* Somebody takes the right of way between a committer's locks and its decision. */
static uint64_t contested;
/* The elder waits for the lock, so that it can't be joined before the committer goes on: it only takes the token here. */
static void *elder_takes(void *arg)
{
    (void)arg;
    uint64_t value;
    begin_as_elder();
    pthread_barrier_wait(&met);
    CHECK_INT(node_get(store, contested, &value), 0); /* waits until the lock is given back */
    CHECK(value == 0 || lease_is_over());
    CHECK_INT(node_add(store, contested, 10, false), 0);
    CHECK_INT(shobj_txn_commit(store), 0);
    return NULL;
}

static void start_elder(void)
{
    CHECK(pthread_create(&outliving, NULL, elder_takes, NULL) == 0);
    pthread_barrier_wait(&met);
}

static void test_give_way(const char *point, bool single)
{
    contested = node_new(store, 0);
    sho_fault_plan_call(start_elder, 1, point);
    CHECK_INT(node_add(store, contested, 1, single), 0);
    pthread_join(outliving, NULL);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(get(contested), 11);
}

/* One that has been read through already can't give way any more: the elder waits for it. */
static void *elder_meets_decided(void *arg)
{
    (void)arg;
    begin_as_elder();
    pthread_barrier_wait(&met);
    uint64_t value;
    CHECK_INT(node_get(store, contested, &value), 0);
    CHECK_INT(value, 1);
    CHECK_INT(node_add(store, contested, 10, false), 0);
    CHECK_INT(shobj_txn_commit(store), 0);
    return NULL;
}

static void read_through_and_start_elder(void)
{
    CHECK_INT(get_elsewhere(contested), 1);
    CHECK(pthread_create(&outliving, NULL, elder_meets_decided, NULL) == 0);
    pthread_barrier_wait(&met);
}

static void test_give_way_decided(void)
{
    contested = node_new(store, 0);
    sho_fault_plan_call(read_through_and_start_elder, 1, "single.locked");
    CHECK_INT(node_add(store, contested, 1, true), 0);
    pthread_join(outliving, NULL);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(get(contested), 11);
}

/* It meets the lock of an owner that has decided and stands still: it waits, but nobody waits for it. */
static void *elder_meets_standing(void *arg)
{
    (void)arg;
    begin_as_elder();
    CHECK_INT(node_add(store, contested, 10, false), 0); /* comes back when the owner gets on */
    CHECK_INT(shobj_txn_commit(store), 0);
    return NULL;
}

static void others_get_on(void)
{
    uint64_t before = sho_load(&store->region->sb->elders);
    CHECK(pthread_create(&outliving, NULL, elder_meets_standing, NULL) == 0);
    while (sho_load(&store->region->sb->elders) == before) /* it may have given it up already */
        sched_yield();
    elsewhere(add_one, &other_node); /* waits until the token is given up */
    CHECK_INT(sho_load(&store->region->sb->elder), 0);
    unsigned count = sho_region_slot_count(store->region);
    for (unsigned i = 0; i < count; i++) {
        const struct shm_slot *slot = sho_region_slot(store->region, i);
        CHECK(sho_load(&slot->ticket) == 0 || sho_load(&slot->leases) == 0); /* given up, not taken away */
    }
}

static void test_standing(void)
{
    contested = node_new(store, 0);
    other_node = node_new(store, 0);
    sho_fault_plan_call(others_get_on, 1, "commit.decided");
    CHECK_INT(node_add(store, contested, 1, false), 0);
    pthread_join(outliving, NULL);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(get(contested), 11);
}

/* The oldest first. */
static _Atomic unsigned turn;
struct aged {
    unsigned place, came;
    pthread_barrier_t *start;
};
static void *age(void *arg)
{
    struct aged *a = arg;
    sho_session *s = session_of(store);
    while (atomic_load(&turn) != a->place) /* tickets are drawn in this order */
        sched_yield();
    s->failures = SHO_ELDER_PATIENCE;
    sho_elder_lost(s, s->failures);
    atomic_fetch_add(&turn, 1);
    pthread_barrier_wait(a->start);
    CHECK_INT(shobj_txn_begin(store), 0);
    CHECK(s->token != 0);
    CHECK_INT(node_add(store, contested, 1, false), 0);
    a->came = (unsigned)get(contested) - 1;
    CHECK_INT(shobj_txn_commit(store), 0);
    return NULL;
}

static void test_oldest_first(void)
{
    enum { COUNT = 6 };
    pthread_t threads[COUNT];
    struct aged aged[COUNT];
    pthread_barrier_t start;
    contested = node_new(store, 0);
    atomic_store(&turn, 0);
    pthread_barrier_init(&start, NULL, COUNT + 1);
    begin_as_elder(); /* so that all of them come to wait */
    for (unsigned i = 0; i < COUNT; i++) {
        aged[i] = (struct aged){.place = i, .start = &start};
        CHECK(pthread_create(&threads[i], NULL, age, &aged[i]) == 0);
    }
    pthread_barrier_wait(&start);
    until_somebody_sleeps();
    CHECK_INT(shobj_txn_commit(store), 0);
    for (unsigned i = 0; i < COUNT; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_INT(aged[i].came, i);
}

int main(void)
{
    store = check_store();
    pthread_barrier_init(&met, NULL, 2);
    test_retry(false, false);
    test_retry(true, false);
    test_retry(false, true);
    test_retry_early("sleep.registered");
    test_retry_early("sleep.sleeping");
    test_retry_refused();
    test_or_else();
    test_ends();
    test_reading();
    test_read_through("commit.decided", 1, false);
    test_read_through("commit.stored_word", 1, false);
    test_read_through("commit.before_unlock", 1, false);
    test_read_through("single.locked", 1, true);
    test_read_through("single.versioned", 1, true);
    test_read_through("commit.stored_word", 1, true);
    test_read_through_ends();
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
    if (store->twin != NULL) {
        shobj_close(store);
        return 0; /* the rest counts what one session does, and here each thread has two */
    }
    test_elder();
    test_lease(false);
    test_lease(true);
    test_give_way("commit.locked_all", false);
    test_give_way("single.locked", true);
    test_give_way_decided();
    test_standing();
    test_oldest_first();
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
    shobj_close(store);
    return 0;
}
