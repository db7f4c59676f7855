/*
 * Lists, one thread: every call against a plain array, at sizes around all edges of nodes; blocks
 * given back; transactions; a full store; damaged words.
 */
#include "lists.h"

#include <pthread.h>

static uint64_t live_blocks(void)
{
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    return stat.blocks;
}

/* A session's log keeps its second segment for ever: it is not to be missed in the counts of
 * blocks. */
static void grow_log(void)
{
    shobj_value *values = calloc(TREE_2 * 20, sizeof(*values));
    shobj_oid list;
    CHECK(values != NULL);
    for (size_t i = 0; i < TREE_2 * 20; i++)
        values[i] = int_value((int64_t)i);
    CHECK_INT(shobj_list_new(store, values, TREE_2 * 20, &list), 0);
    CHECK_INT(shobj_list_clear(store, list), 0);
    free(values);
}

static void test_small(void)
{
    shobj_value three[3] = {int_value(1), int_value(2), int_value(3)};
    shobj_value value;
    shobj_oid list;
    uint64_t length;
    size_t count;
    CHECK_INT(shobj_list_new(store, three, 3, &list), 0);
    CHECK_INT(shobj_list_len(store, list, &length), 0);
    CHECK_INT(length, 3);
    CHECK_INT(shobj_list_get(store, list, -1, &value), 0);
    CHECK_INT(value.i, 3);
    value.i = 77;
    CHECK_INT(shobj_list_get(store, list, 3, &value), SHOBJ_ENOTFOUND);
    CHECK_INT(value.i, 77);
    CHECK(strstr(shobj_error_message(), "range") != NULL);
    CHECK_INT(shobj_list_get(store, list, -4, &value), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_list_get(store, list, INT64_MIN, &value), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_list_get(store, list, INT64_MAX, &value), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_list_set(store, list, 3, &three[0]), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_list_del(store, list, -4, NULL), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_list_read(store, list, 3, three, 3, &count), 0);
    CHECK_INT(count, 0);
    CHECK_INT(shobj_list_read(store, list, UINT64_MAX, three, 3, &count), 0);
    CHECK_INT(count, 0);
    CHECK_INT(shobj_list_read(store, list, 0, three, 0, &count), 0);
    CHECK_INT(count, 0);
    CHECK_INT(shobj_list_insert(store, list, INT64_MIN, &three[2]), 0);
    CHECK_INT(shobj_list_insert(store, list, INT64_MAX, &three[0]), 0);
    CHECK_INT(shobj_list_get(store, list, 0, &value), 0);
    CHECK_INT(value.i, 3);
    CHECK_INT(shobj_list_get(store, list, 4, &value), 0);
    CHECK_INT(value.i, 1);
    CHECK_INT(shobj_list_get(store, shobj_root(store), 0, &value), SHOBJ_ETYPE);
    CHECK_INT(shobj_list_append(store, shobj_root(store), &value), SHOBJ_ETYPE);
    CHECK_INT(shobj_list_len(store, list + (1ULL << 40), &length), SHOBJ_ESTALE);
    /* A list in a list, and in itself. */
    value = (shobj_value){.type = SHOBJ_OBJECT, .oid = list};
    CHECK_INT(shobj_list_append(store, list, &value), 0);
    CHECK_INT(shobj_list_get(store, list, -1, &value), 0);
    CHECK(value.type == SHOBJ_OBJECT && value.oid == list && value.kind == SHOBJ_KIND_LIST);
    CHECK_INT(shobj_list_clear(store, list), 0);
    CHECK_INT(check_structure(list), 1);
}

/* A value that is refused leaves no trace, wherever in the call it stands. */
static void test_refusal(void)
{
    struct model m;
    model_init(&m);
    shobj_value values[100];
    for (size_t size = 0; size < 80; size += 7) {
        step_do(&m, CLEAR, 0);
        step_do(&m, EXTEND, (int64_t)size);
        uint64_t blocks = live_blocks();
        for (size_t bad = 0; bad < SHO_COUNT_OF(values); bad += 33) {
            for (size_t i = 0; i < SHO_COUNT_OF(values); i++)
                values[i] = (shobj_value){.type = SHOBJ_BYTES, .data = "a value in a block", .count = 18};
            values[bad] = (shobj_value){.type = SHOBJ_ABSENT};
            CHECK_INT(shobj_list_extend(store, m.list, values, SHO_COUNT_OF(values)), SHOBJ_EINVAL);
        }
        CHECK_INT(shobj_list_append(store, m.list, &values[99]), SHOBJ_EINVAL);
        CHECK_INT(shobj_list_insert(store, m.list, 0, &values[99]), SHOBJ_EINVAL);
        if (size > 0)
            CHECK_INT(shobj_list_set(store, m.list, 0, &values[99]), SHOBJ_EINVAL);
        CHECK_INT(live_blocks(), blocks);
        compare(&m, 50);
    }
    free(m.codes);
}

/* Around each size where a node fills up. */
static void test_edges(void)
{
    static const size_t edges[] = {5, LIST_LEAF_CELLS, 2 * LIST_LEAF_CELLS, TREE_2, TREE_2 + LIST_LEAF_CELLS, TREE_3};
    struct model m;
    uint64_t blocks = live_blocks();
    model_init(&m);
    for (size_t e = 0; e < SHO_COUNT_OF(edges); e++) {
        for (size_t size = edges[e] - 2; size <= edges[e] + 2; size++) {
            step_do(&m, EXTEND, (int64_t)size);
            check_structure(m.list);
            step_do(&m, APPEND, 0);
            step_do(&m, DELETE, -1);
            step_do(&m, DELETE, -1);
            step_do(&m, DELETE, 0);
            step_do(&m, INSERT, 0);
            step_do(&m, INSERT, 0);
            step_do(&m, INSERT, (int64_t)m.count / 2);
            step_do(&m, INSERT, -1);
            step_do(&m, DELETE, (int64_t)m.count / 2);
            step_do(&m, EXTEND, 3);
            check_structure(m.list);
            compare(&m, 1000);
            step_do(&m, CLEAR, 0);
            CHECK_INT(check_structure(m.list), 1);
            CHECK_INT(live_blocks(), blocks + 1);
        }
    }
    free(m.codes);
}

/* shobj_list_new() of any size is full, and a list that grew by appends has the same nodes. */
static void test_fullness(void)
{
    shobj_oid list;
    struct model m;
    model_init(&m);
    for (size_t size = 0; size < 3 * TREE_2; size++) {
        if (size % 97 == 0 && size > 2 * LIST_LEAF_CELLS) {
            shobj_value *values = calloc(size + 1, sizeof(*values));
            CHECK(values != NULL);
            for (size_t i = 0; i < size; i++)
                values[i] = int_value((int64_t)i);
            CHECK_INT(shobj_list_new(store, values, size, &list), 0);
            free(values);
            size_t leaves = (size + LIST_LEAF_CELLS - 1) / LIST_LEAF_CELLS;
            size_t inners = (leaves + LIST_FANOUT - 1) / LIST_FANOUT;
            CHECK_INT(check_structure(list), 1 + leaves + inners + (inners > 1));
            CHECK_INT(check_structure(m.list), 1 + leaves + inners + (inners > 1));
            CHECK_INT(shobj_list_clear(store, list), 0);
        }
        step_do(&m, APPEND, 0);
    }
    /* Growing at the front is as good, but for the ends of each level. */
    size_t before = check_structure(m.list);
    step_do(&m, CLEAR, 0);
    for (size_t size = 0; size < 3 * TREE_2; size++)
        step_do(&m, INSERT, 0);
    compare(&m, 100);
    CHECK(check_structure(m.list) <= before + 6);
    step_do(&m, CLEAR, 0);
    free(m.codes);
}

/* Short lists as queues and stacks keep their nodes. */
static void test_steady(void)
{
    for (size_t kept = 0; kept < 3 * LIST_LEAF_CELLS; kept += 8) {
        struct model m;
        model_init(&m);
        step_do(&m, EXTEND, (int64_t)kept);
        for (int i = 0; i < 500; i++) {
            step_do(&m, APPEND, 0);
            step_do(&m, DELETE, 0);
        }
        CHECK(check_structure(m.list) <= 3 + kept / LIST_LEAF_CELLS + 1);
        compare(&m, 64);
        for (int i = 0; i < 100; i++) {
            step_do(&m, APPEND, 0);
            step_do(&m, DELETE, -1);
        }
        compare(&m, 64);
        for (int i = 0; i < 100; i++) { /* as a stack that grows at the front */
            step_do(&m, INSERT, 0);
            step_do(&m, DELETE, 0);
        }
        compare(&m, 64);
        while (m.count > 0)
            step_do(&m, DELETE, kept % 16 ? 0 : -1);
        CHECK_INT(check_structure(m.list), 1);
        free(m.codes);
    }
}

static void test_random(uint64_t *random, size_t top, int steps)
{
    struct model m;
    model_init(&m);
    uint64_t blocks = live_blocks();
    unsigned grow = 6; /* of 10: insertions among the changes */
    for (int step = 0; step < steps; step++) {
        if (step % 500 == 0)
            grow = m.count > top ? 3 : m.count < top / 8 ? 7 : 3 + check_random(random) % 5;
        int64_t range = (int64_t)m.count + 2;
        int64_t index = (int64_t)(check_random(random) % (uint64_t)(2 * range)) - range;
        unsigned where = check_random(random) % 8; /* often at the ends, or around one place */
        if (where == 0)
            index = 0;
        else if (where == 1)
            index = -1;
        else if (where == 2)
            index = (int64_t)m.count / 3 + (int64_t)(check_random(random) % 5);
        unsigned what = check_random(random) % 16;
        if (what < 10) {
            if (check_random(random) % 10 >= grow)
                step_do(&m, DELETE, index);
            else if (what < 3)
                step_do(&m, APPEND, 0);
            else
                step_do(&m, INSERT, index);
        } else if (what < 13) {
            step_do(&m, GET, index);
        } else if (what < 15) {
            step_do(&m, SET, index);
        } else if (check_random(random) % 64 == 0) {
            step_do(&m, EXTEND, (int64_t)(check_random(random) % (top / 2 + 2)));
        } else if (check_random(random) % 512 == 0) {
            step_do(&m, CLEAR, 0);
        }
        if (step % 251 == 0) {
            check_structure(m.list);
            compare(&m, 1 + check_random(random) % 300);
        }
    }
    check_structure(m.list);
    compare(&m, 77);
    /* Down to nothing, from a random end or place. */
    unsigned way = check_random(random) % 4;
    while (m.count > 0)
        step_do(&m, DELETE, way == 0 ? 0 : way == 1 ? -1 : (int64_t)(check_random(random) % m.count));
    CHECK_INT(check_structure(m.list), 1);
    CHECK_INT(live_blocks(), blocks);
    free(m.codes);
}

/* In transactions: all operations together, undone or not; nested blocks too. */
static void test_transactions(uint64_t *random)
{
    struct model m;
    model_init(&m);
    for (int round = 0; round < 150; round++) {
        struct model before = model_copy(&m);
        bool nested = check_random(random) % 2;
        if (nested) {
            CHECK_INT(shobj_txn_begin(store), 0);
            CHECK_INT(shobj_txn_begin(store), 0);
        } else {
            CHECK_INT(shobj_txn_begin(store), 0);
        }
        for (unsigned i = check_random(random) % 40; i > 0; i--) {
            int64_t index = (int64_t)(check_random(random) % (m.count + 1));
            switch (check_random(random) % 8) {
            case 0:
                step_do(&m, DELETE, index);
                break;
            case 1:
                step_do(&m, SET, index);
                break;
            case 2:
                step_do(&m, GET, index);
                break;
            case 3:
                step_do(&m, EXTEND, (int64_t)(check_random(random) % 90));
                break;
            case 4:
                step_do(&m, DELETE, check_random(random) % 2 ? 0 : -1);
                break;
            case 5:
                if (check_random(random) % 16 == 0)
                    step_do(&m, CLEAR, 0);
                else
                    step_do(&m, APPEND, 0);
                break;
            default:
                step_do(&m, INSERT, index);
            }
        }
        compare(&m, 100);
        if (check_random(random) % 2) {
            shobj_txn_abort(store);
            free(m.codes);
            before.next_code = m.next_code;
            m = before;
        } else {
            CHECK_INT(shobj_txn_commit(store), 0);
            free(before.codes);
        }
        if (nested) {
            compare(&m, 100);
            CHECK_INT(shobj_txn_commit(store), 0);
        }
        compare(&m, 33);
        check_structure(m.list);
    }
    step_do(&m, CLEAR, 0);
    free(m.codes);
}

static void test_million(void)
{
    size_t count = 1000000;
    shobj_value *values = malloc(count * sizeof(*values));
    CHECK(values != NULL);
    for (size_t i = 0; i < count; i++)
        values[i] = int_value((int64_t)i);
    uint64_t blocks = live_blocks();
    shobj_oid list;
    CHECK_INT(shobj_list_new(store, values, count, &list), 0);
    CHECK_INT(shobj_list_extend(store, list, values, count), 0);
    check_structure(list);
    shobj_value value;
    for (size_t i = 0; i < 2 * count; i += 977) {
        CHECK_INT(shobj_list_get(store, list, (int64_t)i, &value), 0);
        CHECK_INT(value.i, i % count);
        CHECK_INT(shobj_list_get(store, list, (int64_t)i - (int64_t)(2 * count), &value), 0);
        CHECK_INT(value.i, i % count);
    }
    CHECK_INT(shobj_list_clear(store, list), 0);
    CHECK_INT(live_blocks(), blocks + 1);
    free(values);
}

/* In a thread of its own: its session's log has no more than its slot, and there is no room for more. */
static void *delete_in_full_store(void *arg)
{
    struct model *m = arg;
    for (int i = 0; i < 700; i++)
        step_do(m, DELETE, (int64_t)m->count / 2);
    return NULL;
}

/* Fills a small store: what failed left no trace, and what was taken away makes room again. */
static void test_full(void)
{
    shobj_store *big = store;
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-full-%ld", (long)getpid());
    /* One mapping: a session that finds the store full is to find it full again. */
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 8u << 20, .own_mapping = true};
    CHECK_INT(shobj_open(name, &options, &store), 0);
    CHECK_INT(shobj_unlink(name, true), 0);
    struct model m;
    model_init(&m);
    int rc;
    struct made made;
    while ((rc = shobj_list_append(store, m.list, make(m.next_code, &made))) == 0)
        model_insert(&m, m.count, m.next_code++);
    CHECK_INT(rc, SHOBJ_EFULL);
    CHECK(m.count > 10000);
    while ((rc = shobj_list_insert(store, m.list, (int64_t)m.count / 2, make(m.next_code, &made))) == 0)
        model_insert(&m, m.count / 2, m.next_code++);
    CHECK_INT(rc, SHOBJ_EFULL);
    static shobj_value values[SHM_SLAB_BYTES / 16]; /* more blocks than one slab has that is in use already */
    for (size_t i = 0; i < SHO_COUNT_OF(values); i++)
        values[i] = (shobj_value){.type = SHOBJ_BYTES, .data = "a value in a block", .count = 18};
    CHECK_INT(shobj_list_extend(store, m.list, values, SHO_COUNT_OF(values)), SHOBJ_EFULL);
    check_structure(m.list);
    compare(&m, 200);
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, delete_in_full_store, &m), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    for (int i = 0; i < 2000; i++)
        step_do(&m, DELETE, i % 3 ? (int64_t)m.count / 2 : -1);
    for (int i = 0; i < 1500; i++)
        step_do(&m, APPEND, 0);
    compare(&m, 200);
    check_structure(m.list);
    free(m.codes);
    shobj_close(store);
    store = big;
}

/* Any word of a list may be anything: calls end, with an error or without, and touch nothing
 * outside of the heap. */
static void test_damage(uint64_t *random)
{
    shobj_store *sound = store;
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-damaged-%ld", (long)getpid());
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 4u << 20};
    for (int round = 0; round < 150; round++) {
        CHECK_INT(shobj_open(name, &options, &store), 0);
        CHECK_INT(shobj_unlink(name, true), 0);
        struct model m;
        model_init(&m);
        step_do(&m, EXTEND, check_random(random) % 3 == 0 ? 20 : 2500);
        sho_session *s;
        struct found f = {0};
        int rc;
        CHECK_INT(sho_session_get(store, &s), 0);
        SHO_OP(s, rc, check_body(s, m.list, &f));
        CHECK_INT(rc, 0);
        for (unsigned i = 1 + check_random(random) % 3; i > 0; i--) {
            size_t which = check_random(random) % 4 == 0 ? 0 : check_random(random) % f.node_count;
            struct shm_node *node = (struct shm_node *)(s->region->base + f.nodes[which]);
            unsigned word = check_random(random) % SHM_NODE_WORDS(node->header);
            const uint64_t nonsense[] = {0,
                                         UINT64_MAX,
                                         check_random(random),
                                         node->words[word] ^ 1ULL << check_random(random) % 64,
                                         node->words[word] + check_random(random) % 5 - 2,
                                         f.nodes[check_random(random) % f.node_count],
                                         SHO_CELL(SHO_TAG_BOX, f.nodes[0])};
            node->words[check_random(random) % 2 ? word : word % 4] =
                nonsense[check_random(random) % SHO_COUNT_OF(nonsense)];
        }
        check_body(s, m.list, &f);
        for (int i = 0; i < 100; i++) {
            struct made made;
            shobj_value values[300];
            size_t count;
            uint64_t length;
            int64_t index = (int64_t)(check_random(random) % 6000) - 3000;
            switch (check_random(random) % 10) {
            case 0:
                shobj_list_len(store, m.list, &length);
                break;
            case 1:
                shobj_list_append(store, m.list, make(i, &made));
                break;
            case 2:
                shobj_list_insert(store, m.list, index, make(i, &made));
                break;
            case 3:
                shobj_list_set(store, m.list, index, make(i, &made));
                break;
            case 4:
                shobj_list_read(store, m.list, (uint64_t)index & 4095, values, SHO_COUNT_OF(values), &count);
                break;
            case 5:
                for (size_t k = 0; k < SHO_COUNT_OF(values); k++)
                    values[k] = int_value((int64_t)k);
                shobj_list_extend(store, m.list, values, SHO_COUNT_OF(values));
                break;
            case 6:
                shobj_list_del(store, m.list, index, &values[0]);
                break;
            case 7:
                shobj_list_del(store, m.list, index < 0 ? 0 : -1, NULL);
                break;
            case 8:
                if (i > 90)
                    shobj_list_clear(store, m.list);
                break;
            default:
                rc = shobj_list_get(store, m.list, index, &values[0]);
                CHECK(rc <= 0);
            }
        }
        free(f.nodes);
        free(m.codes);
        shobj_close(store);
    }
    store = sound;
}

int main(void)
{
    uint64_t random = check_seed();
    store = check_store();
    grow_log();
    test_small();
    test_refusal();
    test_edges();
    test_fullness();
    test_steady();
    test_random(&random, 8, 20000);
    test_random(&random, 100, 20000);
    test_random(&random, 2 * TREE_2, 40000);
    test_transactions(&random);
    test_million();
    test_full();
    test_damage(&random);
    shobj_close(store);
    return 0;
}
