/*
 * test_txn.c: transactions on bare nodes: conflicts, extension, nested blocks, one instant for all.
 */
#include <pthread.h>

#include "base/fault.h"
#include "nodes.h"

#define ACCOUNTS 8
#define START 1000

/* Two mappings of one file: what one commits the other sees, and their sessions conflict as processes do. */
static shobj_store *first, *second;

static void open_twice(void)
{
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-txn-%ld", (long)getpid());
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 64 << 20, .own_mapping = true};
    CHECK_INT(shobj_open(name, &options, &first), 0);
    options.mode = SHOBJ_OPEN_WRITE;
    CHECK_INT(shobj_open(name, &options, &second), 0);
    CHECK(first != second && first->region->base != second->region->base);
    CHECK_INT(shobj_unlink(name, true), 0);
}

static uint64_t value_of(shobj_store *store, uint64_t off)
{
    uint64_t value;
    CHECK_INT(node_get(store, off, &value), 0);
    return value;
}

/* A transaction on `first` and single operations on `second` in the same thread would be refused: what stands between
 * two steps of a transaction is done by another thread. */
struct step {
    uint64_t off, delta;
    bool leaf;
};

static void *add_thread(void *arg)
{
    struct step *step = arg;
    CHECK_INT(node_add(second, step->off, step->delta, step->leaf), 0);
    shobj_detach(second);
    return NULL;
}

static void elsewhere(uint64_t off, uint64_t delta, bool leaf)
{
    pthread_t thread;
    struct step step = {off, delta, leaf};
    CHECK(pthread_create(&thread, NULL, add_thread, &step) == 0);
    pthread_join(thread, NULL);
}

static void test_single(void)
{
    uint64_t off = node_new(first, 5);
    CHECK_INT(value_of(second, off), 5);
    CHECK_INT(node_add(second, off, 2, true), 0);
    CHECK_INT(value_of(first, off), 7);
    CHECK_INT(node_add(first, off, 2, false), 0);
    CHECK_INT(value_of(second, off), 9);
}

static void test_extension(bool leaf)
{
    uint64_t a = node_new(first, 1), b = node_new(first, 2), value;
    /* b changes after the snapshot, a does not: the snapshot moves. */
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_get(first, a, &value), 0);
    elsewhere(b, 10, leaf);
    CHECK_INT(node_get(first, b, &value), 0);
    CHECK_INT(value, 12);
    CHECK_INT(shobj_txn_commit(first), 0);
    /* a was read and has changed, then b: no snapshot holds both. */
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_get(first, a, &value), 0);
    elsewhere(a, 10, leaf);
    elsewhere(b, 10, leaf);
    CHECK_INT(node_get(first, b, &value), SHOBJ_ECONFLICT);
    CHECK(shobj_txn_is_doomed(first));
    CHECK_INT(node_get(first, a, &value), SHOBJ_ECONFLICT);
    CHECK_INT(shobj_txn_commit(first), SHOBJ_ECONFLICT);
    CHECK_INT(shobj_txn_depth(first), 0);
}

static void test_commit_conflict(bool leaf)
{
    uint64_t a = node_new(first, 1), b = node_new(first, 2), value;
    /* Write skew: b is written because of a, which changes before the commit. */
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_get(first, a, &value), 0);
    CHECK_INT(node_add(first, b, value, false), 0);
    elsewhere(a, 5, leaf);
    CHECK_INT(shobj_txn_commit(first), SHOBJ_ECONFLICT);
    CHECK_INT(value_of(second, b), 2);
    /* Lost update. */
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_add(first, b, 1, false), 0);
    elsewhere(b, 5, leaf);
    CHECK_INT(shobj_txn_commit(first), SHOBJ_ECONFLICT);
    CHECK_INT(value_of(second, b), 7);
    /* Undisturbed. */
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_add(first, b, 1, false), 0);
    CHECK_INT(node_add(first, b, 1, false), 0);
    CHECK_INT(node_get(first, b, &value), 0);
    CHECK_INT(value, 9);
    elsewhere(a, 1, leaf);
    CHECK_INT(shobj_txn_commit(first), 0);
    CHECK_INT(value_of(second, b), 9);
}

static void test_nested(void)
{
    uint64_t a = node_new(first, 1), made, value;
    shobj_stat before, after;
    CHECK_INT(shobj_stat_get(first, &before), 0);
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_add(first, a, 1, false), 0);
    uint64_t outer = node_new(first, 100);
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_add(first, a, 10, false), 0);
    CHECK_INT(node_add(first, outer, 10, false), 0);
    made = node_new(first, 3);
    CHECK_INT(node_add(first, made, 1, false), 0);
    CHECK_INT(node_get(first, made, &value), 0);
    CHECK_INT(value, 4);
    shobj_txn_abort(first);
    CHECK_INT(shobj_txn_depth(first), 1);
    CHECK_INT(node_get(first, a, &value), 0);
    CHECK_INT(value, 2);
    CHECK_INT(node_get(first, outer, &value), 0);
    CHECK_INT(value, 100);
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_add(first, a, 20, false), 0);
    CHECK_INT(shobj_txn_commit(first), 0);
    CHECK_INT(shobj_txn_commit(first), 0);
    CHECK_INT(value_of(second, a), 22);
    CHECK_INT(shobj_stat_get(first, &after), 0);
    CHECK_INT(after.blocks, before.blocks + 1); /* `outer`; what the undone block made is gone */
    /* An aborted transaction leaves nothing. */
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_add(first, a, 1, false), 0);
    node_new(first, 3);
    shobj_txn_abort(first);
    CHECK_INT(value_of(first, a), 22);
    CHECK_INT(shobj_stat_get(first, &before), 0);
    CHECK_INT(before.blocks, after.blocks);
    CHECK_INT(shobj_txn_commit(first), SHOBJ_ETXN);
}

/* A nested block that was undone has read: the outer one still depends on it. */
static void test_nested_reads(void)
{
    uint64_t a = node_new(first, 1), b = node_new(first, 1), value;
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_get(first, a, &value), 0);
    shobj_txn_abort(first);
    CHECK_INT(node_add(first, b, 1, false), 0);
    elsewhere(a, 1, true);
    CHECK_INT(shobj_txn_commit(first), SHOBJ_ECONFLICT);
}

static void test_two_stores(void)
{
    uint64_t a = node_new(first, 1), value;
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_get(first, a, &value), 0);
    CHECK_INT(shobj_txn_begin(second), SHOBJ_ETXN);
    shobj_txn_abort(first);
}

/* What an operation has read counts even if it failed, also when it had taken memory before it did. */
static int fail_body(sho_session *s, uint64_t off)
{
    sho_view view;
    uint64_t box;
    sho_word *words;
    int rc = sho_op_read(s, off, NODE_KIND, &view);
    if (rc || (rc = sho_op_new_box(s, SHM_BOX_BYTES, 0, 8, &box, &words)))
        return rc;
    return SHOBJ_ENOTFOUND;
}

static void test_failed_reads(void)
{
    uint64_t a = node_new(first, 1), b = node_new(first, 1);
    int rc;
    CHECK_INT(shobj_txn_begin(first), 0);
    RUN(first, rc, fail_body(s, a));
    CHECK_INT(rc, SHOBJ_ENOTFOUND);
    CHECK_INT(node_add(first, b, 1, false), 0);
    elsewhere(a, 1, true);
    CHECK_INT(shobj_txn_commit(first), SHOBJ_ECONFLICT);
}

/* Two words of a node, read with a change between them, are never believed. */
static uint64_t torn_off;

static int twin_set_body(sho_session *s, uint64_t off, uint64_t value)
{
    sho_view view;
    int rc = sho_op_read(s, off, NODE_KIND, &view);
    if (rc || (rc = sho_op_write(s, &view)))
        return rc;
    sho_op_leaf(s);
    if ((rc = sho_op_check(s)))
        return rc;
    sho_op_set(s, &view, 0, value);
    sho_op_set(s, &view, 1, value);
    return 0;
}

static void *twin_set_thread(void *arg)
{
    int rc;
    RUN(second, rc, twin_set_body(s, torn_off, *(uint64_t *)arg));
    CHECK_INT(rc, 0);
    shobj_detach(second);
    return NULL;
}

static void twin_set_elsewhere(uint64_t value)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, twin_set_thread, &value) == 0);
    pthread_join(thread, NULL);
}

static int twin_get_body(sho_session *s, int *tries, uint64_t *a, uint64_t *b)
{
    sho_view view;
    int rc = sho_op_read(s, torn_off, NODE_KIND, &view);
    if (rc)
        return rc;
    *a = sho_view_word(&view, 0);
    if (++*tries == 1)
        twin_set_elsewhere(7);
    *b = sho_view_word(&view, 1);
    return 0;
}

static void test_torn(bool in_transaction)
{
    int rc, tries = 0;
    uint64_t a, b;
    torn_off = node_new(first, 0);
    if (in_transaction)
        CHECK_INT(shobj_txn_begin(first), 0);
    RUN(first, rc, twin_get_body(s, &tries, &a, &b));
    CHECK_INT(rc, 0);
    CHECK_INT(tries, 2);
    CHECK_INT(a, 7);
    CHECK_INT(b, 7);
    if (in_transaction)
        CHECK_INT(shobj_txn_commit(first), 0);
}

/* Versions of a node only grow, whichever way it is written; and each attempt has a seq of its own. */
static uint64_t version_of(uint64_t off)
{
    return sho_load(&((struct shm_node *)(first->region->base + off))->orec);
}

static void test_versions(void)
{
    uint64_t a = node_new(first, 0), last = version_of(a);
    uint64_t seq = session_of(first)->seq;
    for (int i = 0; i < 50; i++) {
        /* Single writes run ahead of the clock; a full commit must come out above them. */
        CHECK_INT(node_add(first, a, 1, i % 5 != 0), 0);
        CHECK(!SHM_OREC_IS_LOCKED(version_of(a)) && version_of(a) > last);
        last = version_of(a);
        CHECK(session_of(first)->seq > seq);
        seq = session_of(first)->seq;
        CHECK(SHM_SEQ(sho_load(&session_of(first)->slot->state)) == seq);
    }
}

/* While a single write holds its lock others move the clock: its version comes out above what they saw. */
static uint64_t other_off, seen_clock;

static void move_clock(void)
{
    for (int i = 0; i < 10; i++)
        elsewhere(other_off, 1, false);
    seen_clock = sho_load(&first->region->sb->clock);
}

static void test_single_version(void)
{
    uint64_t a = node_new(first, 0);
    other_off = node_new(first, 0);
    sho_fault_plan_call(move_clock, 1, "single.locked");
    CHECK_INT(node_add(first, a, 1, true), 0);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK(seen_clock > 0 && version_of(a) > seen_clock);
}

/* Another one aborts a slow committer and changes its node: what the slow one does afterwards must not undo that. */
static uint64_t slow_off;

static uint64_t overtaken_version;

static void overtake(void)
{
    elsewhere(slow_off, 100, true);
    overtaken_version = version_of(slow_off);
}

static void test_overtaken(const char *point)
{
    uint64_t b = node_new(first, 0);
    slow_off = node_new(first, 0);
    sho_fault_plan_call(overtake, 1, point);
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_add(first, slow_off, 1, false), 0);
    CHECK_INT(node_add(first, b, 1, false), 0);
    CHECK_INT(shobj_txn_commit(first), SHOBJ_ECONFLICT);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(value_of(first, slow_off), 100);
    CHECK_INT(value_of(first, b), 0);
    CHECK(!SHM_OREC_IS_LOCKED(version_of(b)));
}

/* The same when the slow one is about to give its locks back by itself. */
static uint64_t blocker_off;

static void overtake_release(void)
{
    sho_fault_plan_call(overtake, 1, "commit.before_release");
    elsewhere(blocker_off, 1, true); /* its read of this node is stale: it will release */
}

static void test_overtaken_release(void)
{
    uint64_t value;
    blocker_off = node_new(first, 0);
    slow_off = node_new(first, 0);
    sho_fault_plan_call(overtake_release, 1, "commit.locked_all");
    CHECK_INT(shobj_txn_begin(first), 0);
    CHECK_INT(node_get(first, blocker_off, &value), 0);
    CHECK_INT(node_add(first, slow_off, 1, false), 0);
    CHECK_INT(shobj_txn_commit(first), SHOBJ_ECONFLICT);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    uint64_t after = version_of(slow_off);
    CHECK_INT(value_of(first, slow_off), 100);
    CHECK_INT(node_add(first, slow_off, 1, true), 0);
    CHECK(version_of(slow_off) > after);
    CHECK_INT(after, overtaken_version);
}

/* An object is freed and its memory taken for another one of its kind, after a look at its header and before the look at
 * its orec: the old id must not pass for the new object. */
static uint64_t object_off;

static int object_new_body(sho_session *s, sho_view *ret_view)
{
    return sho_op_new(s, SHM_LIST, 6, ret_view);
}

static int object_free_body(sho_session *s)
{
    sho_view view;
    int rc = sho_op_read(s, object_off, SHM_LIST, &view);
    if (rc || (rc = sho_op_retire(s, &view)) || (rc = sho_op_check(s)))
        return rc;
    sho_op_free_node(s, &view);
    return 0;
}

static void *replace_thread(void *unused)
{
    (void)unused;
    int rc;
    struct shm_node *node = (struct shm_node *)(second->region->base + object_off);
    uint32_t birth = SHM_NODE_BIRTH(sho_load(&node->header));
    RUN(second, rc, object_free_body(s));
    CHECK_INT(rc, 0);
    CHECK_INT(SHM_HEADER_KIND(sho_load(&node->header)), SHM_KIND_FREE);
    sho_store(&node->header, SHM_NODE_HEADER(SHM_LIST, 6, birth + 1)); /* as its next taker would */
    shobj_detach(second);
    return NULL;
}

static void replace_object(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, replace_thread, NULL) == 0);
    pthread_join(thread, NULL);
}

static void test_replaced_object(void)
{
    int rc;
    sho_view view = {0};
    enum shobj_kind kind;
    RUN(first, rc, object_new_body(s, &view));
    CHECK_INT(rc, 0);
    object_off = view.off;
    shobj_oid oid = SHM_OID(view.off, SHM_NODE_BIRTH(view.header));
    CHECK_INT(shobj_object(first, oid, &kind, NULL), 0);
    sho_fault_plan_call(replace_object, 1, "object.judged");
    CHECK_INT(shobj_object(first, oid, &kind, NULL), SHOBJ_ESTALE);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    /* What only pretended to be taken goes back to what it is: free. */
    sho_word *header = &((struct shm_node *)(first->region->base + object_off))->header;
    sho_store(header, sho_load(header) & ~0xffULL);
}

/* A transaction far larger than the log in the slot. */
static void test_large(void)
{
    enum { COUNT = 20000 };
    static uint64_t offs[COUNT];
    shobj_stat before, after;
    for (int i = 0; i < COUNT; i++)
        offs[i] = node_new(first, (uint64_t)i);
    CHECK_INT(node_add(first, offs[0], 0, true), 0);
    CHECK_INT(shobj_stat_get(first, &before), 0);
    for (int round = 0; round < 2; round++) {
        CHECK_INT(shobj_txn_begin(first), 0);
        for (int i = 0; i < COUNT; i++)
            CHECK_INT(node_add(first, offs[i], 1, false), 0);
        if (round == 0)
            shobj_txn_abort(first);
        else
            CHECK_INT(shobj_txn_commit(first), 0);
        for (int i = 0; i < COUNT; i += 77)
            CHECK_INT(value_of(second, offs[i]), i + round);
    }
    CHECK_INT(shobj_stat_get(first, &after), 0);
    CHECK(after.blocks <= before.blocks + 1); /* the log keeps one segment */
}

/* Everybody moves money; whoever reads all accounts, in a transaction that commits or not, sees the same sum. */
static uint64_t accounts[ACCOUNTS];
static _Atomic uint64_t audits;

struct mover {
    shobj_store *store;
    uint64_t seed;
    int count;
};

static int move_body(shobj_store *store, void *arg)
{
    uint64_t *seed = arg;
    uint64_t r = check_random(seed);
    uint64_t sum = 0, value;
    int rc = 0;
    if (r % 4 == 0) {
        for (int i = 0; i < ACCOUNTS && rc == 0; i++) {
            rc = node_get(store, accounts[i], &value);
            sum += rc == 0 ? value : 0;
        }
        if (rc == 0) {
            CHECK_INT(sum, ACCOUNTS * START);
            audits++;
        }
        return rc;
    }
    unsigned from = r >> 8 & (ACCOUNTS - 1), to = r >> 16 & (ACCOUNTS - 1);
    rc = node_get(store, accounts[from], &sum);
    if (rc == 0)
        rc = node_get(store, accounts[to], &value);
    if (rc == 0 && from != to && (int64_t)(sum + value) < 0)
        CHECK(!"two accounts of one snapshot together below nothing");
    if (rc == 0 && sum > 0) {
        rc = node_add(store, accounts[from], (uint64_t)-1, false);
        if (rc == 0)
            rc = node_add(store, accounts[to], 1, false);
    }
    return rc;
}

static void *move_thread(void *arg)
{
    struct mover *mover = arg;
    for (int i = 0; i < mover->count; i++)
        CHECK_INT(shobj_run(mover->store, move_body, &mover->seed), 0);
    shobj_detach(mover->store);
    return NULL;
}

/* Single writes beside transactions: they add to two nodes by turns, first to one, then to the other. */
static uint64_t pair[2];
static _Atomic bool stop;

static void *single_thread(void *arg)
{
    shobj_store *store = arg;
    while (!atomic_load(&stop)) {
        CHECK_INT(node_add(store, pair[0], 1, true), 0);
        CHECK_INT(node_add(store, pair[1], 1, true), 0);
    }
    shobj_detach(store);
    return NULL;
}

static int pair_body(shobj_store *store, void *arg)
{
    uint64_t a, b;
    uint64_t *seen = arg;
    /* Read in the order of writing: between two looks at one state, the first may be one ahead, never behind. */
    int rc = node_get(store, pair[1], &b);
    if (rc == 0)
        rc = node_get(store, pair[0], &a);
    if (rc == 0) {
        CHECK(a == b || a == b + 1);
        CHECK(a >= *seen); /* strictly serializable: never back in time */
        *seen = a;
    }
    return rc;
}

static void test_hammer(uint64_t seed)
{
    pthread_t threads[4], single;
    struct mover movers[4];
    for (int i = 0; i < ACCOUNTS; i++)
        accounts[i] = node_new(first, START);
    pair[0] = node_new(first, 0);
    pair[1] = node_new(first, 0);
    for (int i = 0; i < 4; i++) {
        movers[i] = (struct mover){i & 1 ? first : second, seed + (uint64_t)i, 40000};
        CHECK(pthread_create(&threads[i], NULL, move_thread, &movers[i]) == 0);
    }
    CHECK(pthread_create(&single, NULL, single_thread, second) == 0);
    uint64_t seen = 0;
    for (int i = 0; i < 40000; i++)
        CHECK_INT(shobj_run(first, pair_body, &seen), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&stop, true);
    pthread_join(single, NULL);
    CHECK(audits > 1000);
    CHECK_INT(shobj_check(first, NULL, NULL, NULL), 0);
}

int main(void)
{
    uint64_t seed = check_seed();
    open_twice();
    test_single();
    test_extension(false);
    test_extension(true);
    test_commit_conflict(false);
    test_commit_conflict(true);
    test_nested();
    test_nested_reads();
    test_two_stores();
    test_failed_reads();
    test_torn(false);
    test_torn(true);
    test_versions();
    test_replaced_object();
    test_single_version();
    test_overtaken("commit.locked_all");
    test_overtaken("commit.before_decide");
    test_overtaken_release();
    test_large();
    test_hammer(seed);
    shobj_close(second);
    shobj_close(first);
    return 0;
}
