/*
 * test_past.c: transactions that only read look back: they see one state, their snapshot's, whatever others commit meanwhile;
 * what was done before they began is in it; and where the past of a node is not known, or may not be believed, they lose
 * instead of seeing something else.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "nodes.h"

enum { NODES = 20, START = 100 };

static shobj_store *store;
static uint64_t nodes[NODES], seed;

/* In a thread of its own, which has a session of its own, to its end. */
static void elsewhere(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, arg) == 0);
    pthread_join(thread, NULL);
}

/* A transaction that looks back from now on. Both of the thread's sessions if there are two mappings. */
static void begin(void)
{
    for (int i = 0; i < 2; i++)
        sho_past_lost(session_of(store));
    CHECK_INT(shobj_txn_begin_read(store), 0);
}

static uint64_t get(uint64_t off)
{
    uint64_t value = 0;
    CHECK_INT(node_get(store, off, &value), 0);
    return value;
}

static int sum_all(uint64_t *ret_sum)
{
    int rc = 0;
    *ret_sum = 0;
    for (int i = 0; i < NODES && rc == 0; i++) {
        uint64_t value;
        rc = node_get(store, nodes[i], &value);
        *ret_sum += rc ? 0 : value;
    }
    return rc;
}

static int move_body(shobj_store *st, void *random)
{
    int rc = node_add(st, nodes[check_random(random) % NODES], (uint64_t)-1, false);
    return rc ? rc : node_add(st, nodes[check_random(random) % NODES], 1, false);
}

static void *move_some(void *count)
{
    uint64_t random = seed;
    for (unsigned i = 0; i < *(unsigned *)count; i++)
        CHECK_INT(shobj_run(store, move_body, &random), 0);
    return NULL;
}

static void *add_alone(void *off)
{
    CHECK_INT(node_add(store, *(uint64_t *)off, 1, true), 0);
    return NULL;
}

/* Begun by the first call that asks. */
static void ask(void)
{
    begin();
    CHECK_INT(shobj_txn_commit(store), 0);
    CHECK(sho_load(&store->region->sb->past_until) != 0);
}

/* ------------------------------------------------------------------------------------------ what is seen */

static void test_sums(void)
{
    unsigned some = 50;
    begin();
    for (int round = 0; round < 10; round++) {
        uint64_t sum, first[NODES];
        for (int i = 0; i < NODES; i++)
            first[i] = round % 2 ? get(nodes[i]) : 0; /* read before they change, or not */
        elsewhere(move_some, &some);
        CHECK_INT(sum_all(&sum), 0);
        CHECK_INT(sum, NODES * START);
        for (int i = 0; round % 2 && i < NODES; i++)
            CHECK_INT(get(nodes[i]), first[i]);
        if (round % 3 == 2) {
            CHECK(session_of(store)->looked_back);
            CHECK_INT(shobj_txn_commit(store), 0);
            begin();
        }
    }
    CHECK_INT(shobj_txn_commit(store), 0);
}

/* P3: single writes that came before, too, though they need not tick the clock. */
static void test_not_older(void)
{
    uint64_t off = node_new(store, 0), other = node_new(store, 0);
    for (uint64_t i = 0; i < 100; i++) {
        for (uint64_t k = 0; k < i % 5; k++)
            elsewhere(add_alone, &off);
        uint64_t before = get(off);
        begin();
        uint64_t value;
        if (i % 2)
            elsewhere(add_alone, &other);
        CHECK_INT(node_get(store, off, &value), 0);
        CHECK_INT(value, before);
        elsewhere(add_alone, &off);
        CHECK_INT(node_get(store, off, &value), 0);
        CHECK_INT(value, before);
        CHECK_INT(shobj_txn_commit(store), 0);
    }
    CHECK_INT(get(other), 50);
}

/* As far back as there are cells, and no further. */
static void test_too_old(void)
{
    unsigned few = SHM_PAST_CELLS / 2, many = SHM_PAST_CELLS + 100;
    uint64_t sum, off = nodes[0];
    begin();
    elsewhere(move_some, &few);
    CHECK_INT(sum_all(&sum), 0);
    CHECK_INT(sum, NODES * START);
    CHECK_INT(shobj_txn_commit(store), 0);
    begin();
    (void)get(off);
    elsewhere(move_some, &many);
    int rc = sum_all(&sum);
    CHECK_INT(rc, SHOBJ_ECONFLICT);
    shobj_txn_abort(store);
}

static int both_body(shobj_store *st, void *arg)
{
    (void)arg;
    int rc = node_add(st, nodes[0], 1, false);
    return rc ? rc : node_add(st, nodes[1], (uint64_t)-1, false);
}

/* P7: a committer that stands still in the middle of its stores is not waited for. */
static void test_standing_still(const char *point, uint64_t passage, bool single)
{
    uint64_t values[2], value, first = get(nodes[0]), second = get(nodes[1]);
    begin();
    (void)get(nodes[2]);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        sho_fault_plan(SHO_FAULT_STOP, passage, point);
        CHECK_INT(single ? node_add(store, nodes[0], 1, true) : shobj_run(store, both_body, NULL), 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    shobj_deadline(store, (int64_t)sho_monotonic_ns() + 2000000000);
    for (int again = 0; again < 2; again++)
        for (int i = 0; i < 2; i++) {
            CHECK_INT(node_get(store, nodes[i], &values[i]), 0);
            CHECK_INT(values[i], i ? second : first);
        }
    CHECK(session_of(store)->looked_back);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(node_get(store, nodes[0], &value), 0); /* it has gone on: the same */
    CHECK_INT(value, first);
    CHECK_INT(shobj_txn_commit(store), 0);
    shobj_deadline(store, 0);
    CHECK_INT(get(nodes[0]), first + 1);
    CHECK_INT(get(nodes[1]), single ? second : second - 1);
    if (single)
        CHECK_INT(node_add(store, nodes[0], (uint64_t)-1, true), 0);
}

/* ------------------------------------------------------------------------------------------ freed nodes */

/* The parent's child is replaced by a new node that says one more; the old one is freed. */
static int swap_body(sho_session *s, uint64_t parent_off)
{
    sho_view parent, child, fresh;
    uint64_t number = 0;
    int rc = sho_op_read(s, parent_off, NODE_KIND, &parent);
    if (rc)
        return rc;
    uint64_t child_off = sho_view_word(&parent, 2);
    if (child_off != 0 && ((rc = sho_op_read(s, child_off, NODE_KIND, &child)) || (rc = sho_op_write(s, &child))))
        return rc;
    if (child_off != 0)
        number = sho_view_word(&child, 0);
    if ((rc = sho_op_write(s, &parent)) || (rc = sho_op_new(s, NODE_KIND, 6, &fresh)) || (rc = sho_op_check(s)))
        return rc;
    sho_op_set(s, &fresh, 0, number + 1);
    if (child_off != 0)
        sho_op_free_node(s, &child);
    sho_op_set(s, &parent, 2, fresh.off);
    return 0;
}

static void *swap(void *parent)
{
    int rc;
    RUN(store, rc, swap_body(s, *(uint64_t *)parent));
    CHECK_INT(rc, 0);
    return NULL;
}

static int child_body(sho_session *s, uint64_t parent_off, uint64_t *ret_number)
{
    sho_view parent, child;
    int rc = sho_op_read(s, parent_off, NODE_KIND, &parent);
    if (rc == 0)
        rc = sho_op_read(s, sho_view_word(&parent, 2), NODE_KIND, &child);
    if (rc == 0)
        *ret_number = sho_view_word(&child, 0);
    return rc;
}

/* P5: what was freed, and used again for the same thing, is read as what it was. */
static void test_freed_node(void)
{
    uint64_t parent = node_new(store, 0), number = 0;
    swap(&parent);
    for (uint64_t i = 1; i < 60; i += 3) {
        int rc;
        begin();
        if (i % 2)
            (void)get(parent);
        for (int k = 0; k < 3; k++) {
            elsewhere(swap, &parent);
            RUN(store, rc, child_body(s, parent, &number));
            CHECK_INT(rc, 0);
            CHECK_INT(number, i);
        }
        CHECK_INT(shobj_txn_commit(store), 0);
    }
    CHECK_INT(get(parent), 0);
}

/* ------------------------------------------------------------------------------------------ containers */

static shobj_oid dict;

static shobj_key key_of(int64_t number)
{
    shobj_key key;
    shobj_value value = {.type = SHOBJ_INT, .i = number};
    CHECK_INT(shobj_key_init(store, &value, &key), 0);
    return key;
}

static void set(int64_t number, shobj_value value)
{
    shobj_key key = key_of(number);
    CHECK_INT(shobj_dict_set(store, dict, &key, &value), 0);
}

static void *change_number(void *ignored)
{
    (void)ignored;
    set(1, (shobj_value){.type = SHOBJ_INT, .i = 2});
    return NULL;
}

static const char long_before[] = "a text that needs a box of its own";
static const char long_after[] = "another one of about the same length";

static void *change_text(void *ignored)
{
    (void)ignored;
    set(2, (shobj_value){.type = SHOBJ_STR, .data = (const uint8_t *)long_after, .count = strlen(long_after)});
    return NULL;
}

static void *clear(void *ignored)
{
    (void)ignored;
    CHECK_INT(shobj_dict_clear(store, dict), 0);
    for (int64_t i = 1000; i < 1500; i++) /* takes the memory again */
        set(i, (shobj_value){.type = SHOBJ_INT, .i = -1});
    return NULL;
}

static void fill(void)
{
    CHECK_INT(shobj_dict_clear(store, dict), 0);
    for (int64_t i = 100; i < 200; i++)
        set(i, (shobj_value){.type = SHOBJ_INT, .i = i});
    set(1, (shobj_value){.type = SHOBJ_INT, .i = 1});
    set(2, (shobj_value){.type = SHOBJ_STR, .data = (const uint8_t *)long_before, .count = strlen(long_before)});
}

/* Words that refer to something are not believed once they were replaced; those beside them are. */
static void test_references(void)
{
    shobj_key one = key_of(1), two = key_of(2);
    shobj_value value;
    fill();
    begin();
    elsewhere(change_number, NULL);
    CHECK_INT(shobj_dict_get(store, dict, &one, &value), 0);
    CHECK_INT(value.i, 1);
    CHECK_INT(shobj_dict_get(store, dict, &two, &value), 0);
    CHECK(value.count == strlen(long_before) && memcmp(value.data, long_before, value.count) == 0);
    elsewhere(change_text, NULL);
    CHECK_INT(shobj_dict_get(store, dict, &two, &value), SHOBJ_ECONFLICT);
    shobj_txn_abort(store);
}

/* All nodes of the dict are freed and used again: what they were is known, or the reader loses. */
static void test_freed(void)
{
    unsigned seen = 0, lost = 0;
    for (int round = 0; round < 50; round++) {
        fill();
        begin();
        shobj_value value;
        uint64_t count = 0;
        int rc = shobj_dict_len(store, dict, &count);
        if (round % 2)
            elsewhere(change_number, NULL);
        elsewhere(clear, NULL);
        for (int64_t i = 100; rc == 0 && i < 200; i++) {
            shobj_key key = key_of(i);
            rc = shobj_dict_get(store, dict, &key, &value);
            if (rc == 0)
                CHECK_INT(value.i, i);
            seen += rc == 0;
        }
        if (rc == 0)
            CHECK_INT(shobj_txn_commit(store), 0);
        else
            shobj_txn_abort(store);
        CHECK(rc == 0 || rc == SHOBJ_ECONFLICT);
        lost += rc != 0;
        for (int i = 0; i < 2; i++) { /* by each session one that commits: no row of losses gives the right of way */
            begin();
            CHECK_INT(shobj_txn_commit(store), 0);
        }
    }
    printf("of a dict that is gone %u values seen, %u times lost\n", seen, lost);
}

/* ------------------------------------------------------------------------------------------ at the same time */

static sho_word is_over;

static void *move_on(void *random)
{
    while (!sho_load(&is_over))
        CHECK_INT(shobj_run(store, move_body, random), 0);
    return NULL;
}

static void test_beside_writers(void)
{
    pthread_t writers[2];
    unsigned committed = 0, looked_back = 0;
    uint64_t random[2] = {seed, seed + 1};
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&writers[i], NULL, move_on, &random[i]) == 0);
    const sho_word *clock = &store->region->sb->clock;
    uint64_t began = sho_load(clock);
    while (committed < 20000 || sho_load(clock) < began + 20000 * SHM_VERSION_ONE) {
        uint64_t sum;
        begin();
        int rc = sum_all(&sum);
        if (rc == 0)
            CHECK_INT(sum, NODES * START);
        looked_back += session_of(store)->looked_back;
        if (rc == 0)
            CHECK_INT(shobj_txn_commit(store), 0);
        else
            shobj_txn_abort(store);
        committed += rc == 0;
    }
    sho_store(&is_over, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    printf("%u of %u looked back\n", looked_back, committed);
}

int main(void)
{
    seed = check_seed();
    store = check_store();
    for (int i = 0; i < NODES; i++)
        nodes[i] = node_new(store, START);
    CHECK_INT(shobj_dict_new(store, NULL, 0, &dict), 0);
    ask();
    test_sums();
    test_not_older();
    test_too_old();
    test_standing_still("commit.stored_word", 1, false);
    test_standing_still("commit.before_unlock", 1, false);
    test_standing_still("commit.before_unlock", 2, false);
    test_standing_still("commit.before_unlock", 1, true);
    test_freed_node();
    test_references();
    test_freed();
    test_beside_writers();
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
    shobj_close(store);
    return 0;
}
