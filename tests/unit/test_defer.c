/*
 * test_defer.c: changes of objects that a transaction has not looked at: they are made at its end, on what is there then,
 * and are in their place for everything that looks earlier.
 */
#include <pthread.h>

#include "base/fault.h"
#include "nodes.h"
#include "object/cell.h"

enum { THREADS = 4, EACH = 2000 };

static shobj_store *store;
static shobj_oid list, dict, other;

static shobj_value int_of(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

static void append(shobj_oid to, int64_t i)
{
    shobj_value value = int_of(i);
    CHECK_INT(shobj_list_append(store, to, &value), 0);
}

static int64_t at(shobj_oid of, int64_t index)
{
    shobj_value value;
    CHECK_INT(shobj_list_get(store, of, index, &value), 0);
    CHECK_INT(value.type, SHOBJ_INT);
    return value.i;
}

static uint64_t length(shobj_oid of)
{
    uint64_t count = 0;
    CHECK_INT(shobj_list_len(store, of, &count), 0);
    return count;
}

static shobj_key key_of(const char *text)
{
    shobj_value value = {.type = SHOBJ_STR, .data = text, .count = strlen(text)};
    shobj_key key;
    CHECK_INT(shobj_key_init(store, &value, &key), 0);
    return key;
}

static void set(const char *text, int64_t i)
{
    shobj_key key = key_of(text);
    shobj_value value = int_of(i);
    CHECK_INT(shobj_dict_set(store, dict, &key, &value), 0);
}

/* -1: no such key. */
static int64_t item(const char *text)
{
    shobj_key key = key_of(text);
    shobj_value value;
    int rc = shobj_dict_get(store, dict, &key, &value);
    CHECK(rc == 0 || rc == SHOBJ_ENOTFOUND);
    return rc ? -1 : value.i;
}

static void elsewhere(void *(*fn)(void *))
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, NULL) == 0);
    pthread_join(thread, NULL);
}

static void *append_elsewhere(void *unused)
{
    append(list, 1000);
    return unused;
}

static void *insert_elsewhere(void *unused)
{
    set("of another, with a name that needs a block", 1000);
    return unused;
}

static void *change_other(void *unused)
{
    append(other, 1);
    return unused;
}

static void new_objects(void)
{
    CHECK_INT(shobj_list_new(store, NULL, 0, &list), 0);
    CHECK_INT(shobj_list_new(store, NULL, 0, &other), 0);
    CHECK_INT(shobj_dict_new(store, NULL, 0, &dict), 0);
    check_keep(store, list);
    check_keep(store, other);
    check_keep(store, dict);
}

static void begin(void)
{
    CHECK_INT(shobj_txn_begin(store), 0);
}

static void commit(void)
{
    CHECK_INT(shobj_txn_commit(store), 0);
}

/* ------------------------------------------------------------------------------------------ the rules */

/* Others append and insert between the asking and the commit: nobody loses. */
static void test_blind(void)
{
    new_objects();
    begin();
    append(list, 1);
    set("one, with a name that needs a block", 1);
    elsewhere(append_elsewhere);
    elsewhere(insert_elsewhere);
    append(list, 2);
    commit();
    CHECK_INT(length(list), 3);
    CHECK_INT(at(list, 0), 1000);
    CHECK_INT(at(list, 1), 1);
    CHECK_INT(at(list, 2), 2);
    CHECK_INT(item("one, with a name that needs a block"), 1);
    CHECK_INT(item("of another, with a name that needs a block"), 1000);
}

/* The same behind the making: it is undone and made again. */
static unsigned remade;
static void interfere(void)
{
    remade++;
    elsewhere(append_elsewhere);
    elsewhere(insert_elsewhere);
}

static void test_remade(bool nodes_split)
{
    new_objects();
    for (int i = 0; nodes_split && i < 200; i++)
        append(list, -1);
    uint64_t before = length(list);
    begin();
    CHECK_INT(length(other), 0);
    for (int i = 0; i < 40; i++)
        append(list, i);
    set("mine", 5);
    remade = 0;
    sho_fault_plan_call(interfere, 1, "defer.made");
    commit();
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(remade, 1);
    CHECK_INT(length(list), before + 41);
    CHECK_INT(at(list, (int64_t)before), 1000);
    for (int i = 0; i < 40; i++)
        CHECK_INT(at(list, (int64_t)before + 1 + i), i);
    CHECK_INT(item("mine"), 5);
}

/* What the transaction itself has read still counts. */
static void lose_base(void)
{
    elsewhere(append_elsewhere);
    elsewhere(change_other);
}

static void test_base_changed(void)
{
    new_objects();
    begin();
    CHECK_INT(length(other), 0);
    append(list, 1);
    sho_fault_plan_call(lose_base, 1, "defer.made");
    CHECK_INT(shobj_txn_commit(store), SHOBJ_ECONFLICT);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    CHECK_INT(length(list), 1);
    CHECK_INT(at(list, 0), 1000);
}

/* Whoever looks finds what was asked for. */
static void test_own_look(void)
{
    new_objects();
    set("a", 1);
    begin();
    set("a", 2);
    set("b", 3);
    append(list, 7);
    CHECK_INT(item("a"), 2);
    CHECK_INT(length(list), 1);
    set("a", 4); /* looked at by now: made at once */
    CHECK_INT(item("a"), 4);
    uint64_t count = 0;
    CHECK_INT(shobj_dict_len(store, dict, &count), 0);
    CHECK_INT(count, 2);
    append(list, 8);
    CHECK_INT(at(list, -1), 8);
    commit();
    CHECK_INT(item("a"), 4);
    CHECK_INT(item("b"), 3);
    CHECK_INT(length(list), 2);
    begin();
    append(list, 9);
    elsewhere(append_elsewhere); /* the look comes behind it */
    CHECK_INT(length(list), 4);
    CHECK_INT(at(list, 3), 9);
    commit();
}

static void test_nested(void)
{
    new_objects();
    begin();
    append(list, 1);
    begin();
    append(list, 2);
    set("nested", 1);
    shobj_txn_abort(store);
    begin();
    append(list, 3);
    CHECK_INT(length(list), 2); /* makes both, in the nested block */
    shobj_txn_abort(store);
    append(other, 4);
    begin();
    append(other, 5);
    CHECK_INT(length(other), 2);
    commit();
    commit();
    CHECK_INT(length(list), 1);
    CHECK_INT(at(list, 0), 1);
    CHECK_INT(length(other), 2);
    CHECK_INT(item("nested"), -1);
    begin();
    append(list, 2);
    shobj_txn_abort(store);
    CHECK_INT(length(list), 1);
}

/* Values of all kinds, replaced and new; a new object of the transaction's own. */
static void test_values(void)
{
    new_objects();
    char text[300];
    memset(text, 'x', sizeof(text));
    for (int round = 0; round < 3; round++) {
        begin();
        shobj_oid inner;
        CHECK_INT(shobj_dict_new(store, NULL, 0, &inner), 0);
        shobj_value items[2] = {int_of(round), {.type = SHOBJ_STR, .data = text, .count = sizeof(text)}};
        shobj_value values[] = {{.type = SHOBJ_OBJECT, .oid = inner},
                                {.type = SHOBJ_TUPLE, .items = items, .count = 2},
                                {.type = SHOBJ_BYTES, .data = text, .count = 200}};
        for (int i = 0; i < 3; i++) {
            char name[40];
            snprintf(name, sizeof(name), "a key that needs a block %d", i);
            shobj_key key = key_of(name);
            CHECK_INT(shobj_dict_set(store, dict, &key, &values[i]), 0);
            memset(name, '?', sizeof(name)); /* nobody looks at the caller's bytes afterwards */
            CHECK_INT(shobj_list_append(store, list, &values[i]), 0);
        }
        shobj_value bad = {.type = SHO_VALUE_CELL, .i = 8};
        CHECK_INT(shobj_list_append(store, other, &bad), SHOBJ_EINVAL);
        if (round == 1)
            shobj_txn_abort(store);
        else
            commit();
    }
    CHECK_INT(length(list), 6);
    CHECK_INT(length(other), 0);
    shobj_value value;
    shobj_key key = key_of("a key that needs a block 1");
    CHECK_INT(shobj_dict_get(store, dict, &key, &value), 0);
    CHECK_INT(value.type, SHOBJ_TUPLE);
    CHECK_INT(value.items[0].i, 2);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
}

/* A store that has no room: at the end, or before, it does not happen by halves. */
static void test_full(void)
{
    unsigned failures = 0;
    for (uint64_t passage = 1;; passage++) {
        /* A new store: it has to claim all of its slabs, and a collection finds nothing that would make a second try. */
        store = check_store();
        new_objects();
        begin();
        sho_fault_plan(SHO_FAULT_FAIL, passage, "slab.claim");
        int rc = 0;
        for (int i = 0; i < 3000 && rc == 0; i++) {
            char name[40];
            shobj_value value = int_of(i);
            snprintf(name, sizeof(name), "key %d of a full store", i);
            shobj_key key = key_of(name);
            rc = shobj_dict_set(store, dict, &key, &value);
        }
        if (rc == 0)
            rc = shobj_txn_commit(store);
        else
            shobj_txn_abort(store);
        bool struck = sho_fault_passages() >= passage;
        sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
        CHECK(rc == 0 || rc == SHOBJ_EFULL);
        failures += rc != 0;
        uint64_t count = 0;
        CHECK_INT(shobj_dict_len(store, dict, &count), 0);
        CHECK_INT(count, rc == 0 ? 3000 : 0);
        if (!struck) {
            CHECK(rc == 0 && failures > 0);
            break;
        }
    }
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
}

/* ------------------------------------------------------------------------------------------ many at once */

struct worker {
    int number;
    unsigned executions;
};

static int work_body(shobj_store *st, void *arg)
{
    struct worker *w = arg;
    (void)st;
    w->executions++;
    append(list, w->number);
    CHECK_INT(length(other), 0); /* a read of its own */
    return 0;
}

static int insert_body(shobj_store *st, void *arg)
{
    struct worker *w = arg;
    (void)st;
    char name[40];
    snprintf(name, sizeof(name), "key %u of thread %d", w->executions / 2, w->number);
    w->executions++;
    set(name, w->number);
    append(list, w->number);
    return 0;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < EACH; i++) {
        unsigned before = w->executions;
        CHECK_INT(shobj_run(store, i & 1 ? work_body : insert_body, w), 0);
        CHECK_INT(w->executions, before + 1); /* none lost: `other` stays as it is */
    }
    return NULL;
}

static void test_many(void)
{
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    int64_t seen[THREADS] = {0};
    new_objects();
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.number = i};
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(length(list), THREADS * EACH);
    for (int64_t i = 0; i < THREADS * EACH; i++)
        seen[at(list, i)]++;
    uint64_t count = 0;
    CHECK_INT(shobj_dict_len(store, dict, &count), 0);
    CHECK_INT(count, THREADS * EACH / 2);
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(seen[i], EACH);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
}

int main(void)
{
    store = check_store();
    test_blind();
    test_remade(false);
    test_remade(true);
    test_base_changed();
    test_own_look();
    test_nested();
    test_values();
    test_full();
    test_many();
    shobj_close(store);
    return 0;
}
