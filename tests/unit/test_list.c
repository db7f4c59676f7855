/*
 * Lists: every call against a plain array, at sizes around all edges of nodes; blocks given back; and threads that append,
 * take, move and read at once.
 */
#include "check.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

#include "txn/session.h"
#include "types/list.h"

#define TREE_2 (LIST_LEAF_CELLS * LIST_FANOUT) /* elements of a full tree of height 1, 2 */
#define TREE_3 (TREE_2 * LIST_FANOUT)

static shobj_store *store;

/* ------------------------------------------------------------------------------------------ values */

/* A code stands for a value: ints, short and long strings, tuples, by turns. */
struct made {
    shobj_value value;
    shobj_value items[2];
    char text[40];
};

static const shobj_value *make(int64_t code, struct made *m)
{
    memset(m, 0, sizeof(*m));
    switch (code % 8) {
    case 1:
        m->value.type = SHOBJ_STR;
        m->value.data = m->text;
        m->value.count = (size_t)snprintf(m->text, sizeof(m->text), "%" PRIx64, (uint64_t)code & 0xfffff);
        return &m->value;
    case 2:
        m->value.type = SHOBJ_BYTES;
        m->value.data = m->text;
        m->value.count = (size_t)snprintf(m->text, sizeof(m->text), "element number %" PRId64, code);
        return &m->value;
    case 3:
        for (int i = 0; i < 2; i++)
            m->items[i] = (shobj_value){.type = SHOBJ_INT, .i = code + i};
        m->items[1] = (shobj_value){.type = SHOBJ_STR, .data = "the second item", .count = 15};
        m->value = (shobj_value){.type = SHOBJ_TUPLE, .items = m->items, .count = 2};
        return &m->value;
    default:
        m->value = (shobj_value){.type = SHOBJ_INT, .i = code};
        return &m->value;
    }
}

static bool same(const shobj_value *a, const shobj_value *b)
{
    if (a->type != b->type)
        return false;
    if (a->type == SHOBJ_INT)
        return a->i == b->i;
    if (a->type == SHOBJ_TUPLE)
        return a->count == b->count && same(&a->items[0], &b->items[0]) && same(&a->items[1], &b->items[1]);
    return a->count == b->count && memcmp(a->data, b->data, a->count) == 0;
}

static bool is(const shobj_value *value, int64_t code)
{
    struct made m;
    return same(value, make(code, &m));
}

static shobj_value int_value(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

/* ------------------------------------------------------------------------------------------ checking a list */

struct found {
    uint64_t *nodes;
    size_t node_count, node_room;
    size_t cell_count;
    size_t problem_count;
    char first_problem[256];
};

static void found_problem(void *arg, uint64_t off, const char *format, ...)
{
    struct found *f = arg;
    va_list args;
    va_start(args, format);
    if (f->problem_count++ == 0) {
        int n = snprintf(f->first_problem, sizeof(f->first_problem), "0x%" PRIx64 ": ", off);
        vsnprintf(f->first_problem + n, sizeof(f->first_problem) - (size_t)n, format, args);
    }
    va_end(args);
}

static int found_cell(void *arg, uint64_t owner_off, uint64_t cell)
{
    (void)owner_off;
    (void)cell;
    ((struct found *)arg)->cell_count++;
    return 0;
}

static int found_node(void *arg, uint64_t off, unsigned kind, unsigned word_count)
{
    struct found *f = arg;
    (void)kind;
    (void)word_count;
    if (f->node_count == f->node_room) {
        f->node_room = f->node_room * 2 + 64;
        f->nodes = realloc(f->nodes, f->node_room * sizeof(*f->nodes));
        CHECK(f->nodes != NULL);
    }
    f->nodes[f->node_count++] = off;
    return 0;
}

static int compare_offs(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int check_body(sho_session *s, shobj_oid list, struct found *f)
{
    const sho_check_sink sink = {found_problem, found_cell, found_node, f};
    f->node_count = 0;
    f->cell_count = 0;
    f->problem_count = 0;
    return sho_list_check(s, SHM_OID_OFF(list), &sink);
}

/* Walks the list; the number of its nodes. */
static size_t check_structure(shobj_oid list)
{
    sho_session *s;
    struct found f = {0};
    int rc;
    CHECK_INT(sho_session_get(store, &s), 0);
    SHO_OP(s, rc, check_body(s, list, &f));
    CHECK_INT(rc, 0);
    if (f.problem_count > 0)
        check_failed(__FILE__, __LINE__, f.first_problem);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, list, &length), 0);
    CHECK_INT(f.cell_count, length);
    qsort(f.nodes, f.node_count, sizeof(*f.nodes), compare_offs);
    for (size_t i = 1; i < f.node_count; i++)
        CHECK(f.nodes[i - 1] != f.nodes[i]);
    free(f.nodes);
    return f.node_count;
}

static uint64_t live_blocks(void)
{
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    return stat.blocks;
}

/* A session's log keeps its second segment for ever: it is not to be missed in the counts of blocks. */
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

/* ------------------------------------------------------------------------------------------ the model */

struct model {
    shobj_oid list;
    int64_t *codes;
    size_t count;
    size_t room;
    int64_t next_code;
};

static void model_room(struct model *m, size_t count)
{
    if (count <= m->room)
        return;
    m->room = count * 2 + 64;
    m->codes = realloc(m->codes, m->room * sizeof(*m->codes));
    CHECK(m->codes != NULL);
}

static void model_insert(struct model *m, size_t at, int64_t code)
{
    model_room(m, m->count + 1);
    memmove(&m->codes[at + 1], &m->codes[at], (m->count - at) * sizeof(*m->codes));
    m->codes[at] = code;
    m->count++;
}

static void model_remove(struct model *m, size_t at)
{
    m->count--;
    memmove(&m->codes[at], &m->codes[at + 1], (m->count - at) * sizeof(*m->codes));
}

static void do_append(struct model *m)
{
    struct made made;
    CHECK_INT(shobj_list_append(store, m->list, make(m->next_code, &made)), 0);
    model_insert(m, m->count, m->next_code++);
}

static void do_insert(struct model *m, int64_t index)
{
    struct made made;
    int64_t count = (int64_t)m->count;
    CHECK_INT(shobj_list_insert(store, m->list, index, make(m->next_code, &made)), 0);
    int64_t at = index < 0 ? index + count : index;
    at = at < 0 ? 0 : at > count ? count : at;
    model_insert(m, (size_t)at, m->next_code++);
}

static void do_delete(struct model *m, int64_t index, bool wanted)
{
    shobj_value value;
    int64_t count = (int64_t)m->count;
    int64_t at = index < 0 ? index + count : index;
    int rc = shobj_list_del(store, m->list, index, wanted ? &value : NULL);
    if (at < 0 || at >= count) {
        CHECK_INT(rc, SHOBJ_ENOTFOUND);
        return;
    }
    CHECK_INT(rc, 0);
    if (wanted)
        CHECK(is(&value, m->codes[at]));
    model_remove(m, (size_t)at);
}

static void do_set(struct model *m, int64_t index)
{
    struct made made;
    int64_t at = index < 0 ? index + (int64_t)m->count : index;
    int rc = shobj_list_set(store, m->list, index, make(m->next_code, &made));
    if (at < 0 || at >= (int64_t)m->count) {
        CHECK_INT(rc, SHOBJ_ENOTFOUND);
        return;
    }
    CHECK_INT(rc, 0);
    m->codes[at] = m->next_code++;
}

static void do_get(struct model *m, int64_t index)
{
    shobj_value value;
    int64_t at = index < 0 ? index + (int64_t)m->count : index;
    int rc = shobj_list_get(store, m->list, index, &value);
    if (at < 0 || at >= (int64_t)m->count) {
        CHECK_INT(rc, SHOBJ_ENOTFOUND);
        return;
    }
    CHECK_INT(rc, 0);
    CHECK(is(&value, m->codes[at]));
}

static void do_extend(struct model *m, size_t count)
{
    struct made *made = malloc((count + 1) * sizeof(*made));
    shobj_value *values = malloc((count + 1) * sizeof(*values));
    CHECK(made != NULL && values != NULL);
    model_room(m, m->count + count);
    for (size_t i = 0; i < count; i++) {
        values[i] = *make(m->next_code, &made[i]);
        m->codes[m->count++] = m->next_code++;
    }
    CHECK_INT(shobj_list_extend(store, m->list, values, count), 0);
    free(values);
    free(made);
}

static void do_clear(struct model *m)
{
    CHECK_INT(shobj_list_clear(store, m->list), 0);
    m->count = 0;
}

/* Reads it all in batches of at most max. */
static void compare(struct model *m, size_t max)
{
    shobj_value *values = malloc(max * sizeof(*values));
    CHECK(values != NULL);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, m->list, &length), 0);
    CHECK_INT(length, m->count);
    size_t at = 0;
    size_t count;
    do {
        CHECK_INT(shobj_list_read(store, m->list, at, values, max, &count), 0);
        CHECK(count <= max && at + count <= m->count);
        for (size_t i = 0; i < count; i++)
            CHECK(is(&values[i], m->codes[at + i]));
        at += count;
    } while (count > 0);
    CHECK_INT(at, m->count);
    free(values);
}

static void model_init(struct model *m)
{
    *m = (struct model){.next_code = 1};
    CHECK_INT(shobj_list_new(store, NULL, 0, &m->list), 0);
}

/* ------------------------------------------------------------------------------------------ one thread */

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
        do_clear(&m);
        do_extend(&m, size);
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
            do_extend(&m, size);
            check_structure(m.list);
            do_append(&m);
            do_delete(&m, -1, true);
            do_delete(&m, -1, true);
            do_delete(&m, 0, true);
            do_insert(&m, 0);
            do_insert(&m, 0);
            do_insert(&m, (int64_t)m.count / 2);
            do_insert(&m, -1);
            do_delete(&m, (int64_t)m.count / 2, true);
            do_extend(&m, 3);
            check_structure(m.list);
            compare(&m, 1000);
            do_clear(&m);
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
        do_append(&m);
    }
    /* Growing at the front is as good, but for the ends of each level. */
    size_t before = check_structure(m.list);
    do_clear(&m);
    for (size_t size = 0; size < 3 * TREE_2; size++)
        do_insert(&m, 0);
    compare(&m, 100);
    CHECK(check_structure(m.list) <= before + 6);
    do_clear(&m);
    free(m.codes);
}

/* Short lists as queues and stacks keep their nodes. */
static void test_steady(void)
{
    for (size_t kept = 0; kept < 3 * LIST_LEAF_CELLS; kept += 8) {
        struct model m;
        model_init(&m);
        do_extend(&m, kept);
        for (int i = 0; i < 500; i++) {
            do_append(&m);
            do_delete(&m, 0, true);
        }
        CHECK(check_structure(m.list) <= 3 + kept / LIST_LEAF_CELLS + 1);
        compare(&m, 64);
        for (int i = 0; i < 100; i++) {
            do_append(&m);
            do_delete(&m, -1, true);
        }
        compare(&m, 64);
        for (int i = 0; i < 100; i++) { /* as a stack that grows at the front */
            do_insert(&m, 0);
            do_delete(&m, 0, true);
        }
        compare(&m, 64);
        while (m.count > 0)
            do_delete(&m, kept % 16 ? 0 : -1, true);
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
                do_delete(&m, index, what & 1);
            else if (what < 3)
                do_append(&m);
            else
                do_insert(&m, index);
        } else if (what < 13) {
            do_get(&m, index);
        } else if (what < 15) {
            do_set(&m, index);
        } else if (check_random(random) % 64 == 0) {
            do_extend(&m, check_random(random) % (top / 2 + 2));
        } else if (check_random(random) % 512 == 0) {
            do_clear(&m);
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
        do_delete(&m, way == 0 ? 0 : way == 1 ? -1 : (int64_t)(check_random(random) % m.count), true);
    CHECK_INT(check_structure(m.list), 1);
    CHECK_INT(live_blocks(), blocks);
    free(m.codes);
}

/* In transactions: all operations together, undone or not; nested blocks too. */
static void test_transactions(uint64_t *random)
{
    struct model m;
    model_init(&m);
    model_room(&m, 1);
    for (int round = 0; round < 150; round++) {
        struct model before = m;
        before.codes = malloc((m.count + 1) * sizeof(*m.codes));
        CHECK(before.codes != NULL);
        memcpy(before.codes, m.codes, m.count * sizeof(*m.codes));
        before.room = m.count + 1;
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
                do_delete(&m, index, true);
                break;
            case 1:
                do_set(&m, index);
                break;
            case 2:
                do_get(&m, index);
                break;
            case 3:
                do_extend(&m, check_random(random) % 90);
                break;
            case 4:
                do_delete(&m, check_random(random) % 2 ? 0 : -1, true);
                break;
            case 5:
                if (check_random(random) % 16 == 0)
                    do_clear(&m);
                else
                    do_append(&m);
                break;
            default:
                do_insert(&m, index);
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
    do_clear(&m);
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

/* Fills a small store: what failed left no trace, and what was taken away makes room again. */
static void test_full(void)
{
    shobj_store *big = store;
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-full-%ld", (long)getpid());
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 8u << 20};
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
    shobj_value values[2 * LIST_LEAF_CELLS];
    for (size_t i = 0; i < SHO_COUNT_OF(values); i++)
        values[i] = (shobj_value){.type = SHOBJ_BYTES, .data = "a value in a block", .count = 18};
    CHECK_INT(shobj_list_extend(store, m.list, values, SHO_COUNT_OF(values)), SHOBJ_EFULL);
    check_structure(m.list);
    compare(&m, 200);
    for (int i = 0; i < 2000; i++)
        do_delete(&m, i % 3 ? (int64_t)m.count / 2 : -1, true);
    for (int i = 0; i < 1500; i++)
        do_append(&m);
    compare(&m, 200);
    check_structure(m.list);
    free(m.codes);
    shobj_close(store);
    store = big;
}

/* ------------------------------------------------------------------------------------------ threads */

#define THREADS 4

struct crew {
    shobj_oid list;
    shobj_oid other;
    int per_thread;
    uint64_t seed;
    _Atomic int running; /* producers still at work */
    _Atomic int64_t taken_sum;
    _Atomic int64_t taken_count;
    _Atomic bool stop;
};
struct worker {
    struct crew *crew;
    int64_t number;
    uint64_t random;
    pthread_t thread;
};

static void run_crew(struct crew *crew, void *(*const bodies[])(void *), int count)
{
    struct worker workers[3 * THREADS];
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){.crew = crew, .number = i, .random = crew->seed + (uint64_t)i};
        CHECK_INT(pthread_create(&workers[i].thread, NULL, bodies[i], &workers[i]), 0);
    }
    for (int i = 0; i < count; i++)
        CHECK_INT(pthread_join(workers[i].thread, NULL), 0);
}

/* Elements are worker << 32 | serial. */
static void *appender(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < w->crew->per_thread; i++) {
        shobj_value value = int_value(w->number << 32 | i);
        CHECK_INT(shobj_list_append(store, w->crew->list, &value), 0);
    }
    atomic_fetch_sub(&w->crew->running, 1);
    return NULL;
}

/* Reads batches while others append: what is there never changes, and each worker's elements are in order. */
static void *append_reader(void *arg)
{
    struct worker *w = arg;
    shobj_value values[64];
    while (atomic_load(&w->crew->running) > 0) {
        int64_t last[THREADS];
        memset(last, -1, sizeof(last));
        uint64_t at = 0;
        size_t count;
        do {
            CHECK_INT(shobj_list_read(store, w->crew->list, at, values, SHO_COUNT_OF(values), &count), 0);
            for (size_t i = 0; i < count; i++) {
                int64_t number = values[i].i >> 32;
                CHECK(values[i].type == SHOBJ_INT && number >= 0 && number < THREADS);
                CHECK_INT(values[i].i & 0xffffffff, last[number] + 1);
                last[number]++;
            }
            at += count;
        } while (count > 0);
    }
    return NULL;
}

static void test_append_threads(void)
{
    struct crew crew = {.per_thread = 20000, .running = THREADS};
    CHECK_INT(shobj_list_new(store, NULL, 0, &crew.list), 0);
    void *(*const bodies[])(void *) = {appender, appender, appender, appender, append_reader};
    run_crew(&crew, bodies, THREADS + 1);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, crew.list, &length), 0);
    CHECK_INT(length, THREADS * crew.per_thread);
    crew.running = 0;
    check_structure(crew.list);
    shobj_value value;
    int64_t last[THREADS];
    memset(last, -1, sizeof(last));
    for (uint64_t i = 0; i < length; i++) {
        CHECK_INT(shobj_list_get(store, crew.list, (int64_t)i, &value), 0);
        CHECK_INT(value.i & 0xffffffff, ++last[value.i >> 32]);
    }
    CHECK_INT(shobj_list_clear(store, crew.list), 0);
}

/* Takes from the front (each taker sees each producer's elements in order) until all is taken. */
static void *front_taker(void *arg)
{
    struct worker *w = arg;
    int64_t last[THREADS];
    memset(last, -1, sizeof(last));
    shobj_value value;
    for (;;) {
        bool done = atomic_load(&w->crew->running) == 0;
        int rc = shobj_list_del(store, w->crew->list, 0, &value);
        if (rc == SHOBJ_ENOTFOUND && done)
            return NULL;
        if (rc == SHOBJ_ENOTFOUND)
            continue;
        CHECK_INT(rc, 0);
        int64_t serial = value.i & 0xffffffff;
        CHECK(serial > last[value.i >> 32]);
        last[value.i >> 32] = serial;
        atomic_fetch_add(&w->crew->taken_sum, value.i);
        atomic_fetch_add(&w->crew->taken_count, 1);
    }
}

static void *back_taker(void *arg)
{
    struct worker *w = arg;
    shobj_value value;
    for (;;) {
        bool done = atomic_load(&w->crew->running) == 0;
        int rc = shobj_list_del(store, w->crew->list, -1, &value);
        if (rc == SHOBJ_ENOTFOUND && done)
            return NULL;
        if (rc == SHOBJ_ENOTFOUND)
            continue;
        CHECK_INT(rc, 0);
        atomic_fetch_add(&w->crew->taken_sum, value.i);
        atomic_fetch_add(&w->crew->taken_count, 1);
    }
}

static void test_takers(void *(*first)(void *), void *(*second)(void *))
{
    struct crew crew = {.per_thread = 20000, .running = 2};
    CHECK_INT(shobj_list_new(store, NULL, 0, &crew.list), 0);
    void *(*const bodies[])(void *) = {appender, appender, first, second};
    run_crew(&crew, bodies, 4);
    int64_t n = crew.per_thread;
    CHECK_INT(crew.taken_count, 2 * n);
    CHECK_INT(crew.taken_sum, n * (n - 1) + (n << 32));
    CHECK_INT(check_structure(crew.list), 1);
}

/* Moves elements between two lists and within them, in transactions: their sum stands. */
static int move_some(shobj_store *st, void *arg)
{
    struct worker *w = arg;
    struct crew *c = w->crew;
    bool way = check_random(&w->random) % 2;
    shobj_oid from = way ? c->list : c->other;
    shobj_oid to = way ? c->other : c->list;
    shobj_value value;
    uint64_t length;
    int rc = shobj_list_len(st, from, &length);
    if (rc || length < 20)
        return rc;
    int64_t index = (int64_t)(check_random(&w->random) % length);
    if ((rc = shobj_list_del(st, from, check_random(&w->random) % 2 ? index : index - (int64_t)length, &value)))
        return rc;
    if ((rc = shobj_list_len(st, to, &length)))
        return rc;
    switch (check_random(&w->random) % 3) {
    case 0:
        return shobj_list_append(st, to, &value);
    case 1:
        return shobj_list_insert(st, to, (int64_t)(check_random(&w->random) % (length + 1)), &value);
    default: {
        /* In place of another one, which goes to the end. */
        shobj_value old;
        index = (int64_t)(check_random(&w->random) % length);
        if ((rc = shobj_list_get(st, to, index, &old)) || (rc = shobj_list_set(st, to, index, &value)))
            return rc;
        return shobj_list_append(st, to, &old);
    }
    }
}

static void *mover(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < w->crew->per_thread; i++)
        CHECK_INT(shobj_run(store, move_some, w), 0);
    atomic_fetch_sub(&w->crew->running, 1);
    return NULL;
}

struct sum {
    struct crew *crew;
    int64_t sum;
    uint64_t count;
};

static int sum_both(shobj_store *st, void *arg)
{
    struct sum *total = arg;
    shobj_value values[200];
    total->sum = 0;
    total->count = 0;
    for (int which = 0; which < 2; which++) {
        uint64_t at = 0;
        size_t count;
        do {
            int rc = shobj_list_read(st, which ? total->crew->other : total->crew->list, at, values,
                                     SHO_COUNT_OF(values), &count);
            if (rc)
                return rc;
            for (size_t i = 0; i < count; i++)
                total->sum += values[i].i;
            at += count;
        } while (count > 0);
        total->count += at;
    }
    return 0;
}

static void *auditor(void *arg)
{
    struct worker *w = arg;
    do {
        struct sum total = {.crew = w->crew};
        CHECK_INT(shobj_run(store, sum_both, &total), 0);
        CHECK_INT(total.count, 600);
        CHECK_INT(total.sum, 600 * 599 / 2);
    } while (atomic_load(&w->crew->running) > 0);
    return NULL;
}

static void test_movers(uint64_t seed)
{
    struct crew crew = {.per_thread = 4000, .running = 3, .seed = seed};
    shobj_value values[600];
    for (int i = 0; i < 600; i++)
        values[i] = int_value(i);
    CHECK_INT(shobj_list_new(store, values, 300, &crew.list), 0);
    CHECK_INT(shobj_list_new(store, values + 300, 300, &crew.other), 0);
    void *(*const bodies[])(void *) = {mover, mover, mover, auditor};
    run_crew(&crew, bodies, 4);
    check_structure(crew.list);
    check_structure(crew.other);
}

/* Single operations in the middle of one list, at once: every element that went in is in it or was taken out. */
static void *churner(void *arg)
{
    struct worker *w = arg;
    shobj_value value;
    for (int i = 0; i < w->crew->per_thread; i++) {
        int64_t index = (int64_t)(check_random(&w->random) % 400) - 200;
        if (check_random(&w->random) % 2) {
            value = int_value(w->number << 32 | i);
            CHECK_INT(shobj_list_insert(store, w->crew->list, index, &value), 0);
            atomic_fetch_add(&w->crew->taken_sum, -value.i);
            atomic_fetch_add(&w->crew->taken_count, -1);
        } else {
            int rc = shobj_list_del(store, w->crew->list, index, &value);
            CHECK(rc == 0 || rc == SHOBJ_ENOTFOUND);
            if (rc == 0) {
                atomic_fetch_add(&w->crew->taken_sum, value.i);
                atomic_fetch_add(&w->crew->taken_count, 1);
            }
        }
    }
    return NULL;
}

static void test_churn(uint64_t seed)
{
    struct crew crew = {.per_thread = 15000, .seed = seed};
    CHECK_INT(shobj_list_new(store, NULL, 0, &crew.list), 0);
    void *(*const bodies[])(void *) = {churner, churner, churner, churner};
    run_crew(&crew, bodies, THREADS);
    check_structure(crew.list);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, crew.list, &length), 0);
    CHECK_INT(length, -crew.taken_count);
    for (int64_t i = 0; i < (int64_t)length; i++) {
        shobj_value value;
        CHECK_INT(shobj_list_get(store, crew.list, i, &value), 0);
        crew.taken_sum += value.i;
    }
    CHECK_INT(crew.taken_sum, 0);
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
    test_append_threads();
    test_takers(front_taker, front_taker);
    test_takers(back_taker, back_taker);
    test_takers(front_taker, back_taker);
    test_movers(random);
    test_churn(random);
    shobj_close(store);
    return 0;
}
