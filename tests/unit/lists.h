/*
 * lists.h: a list and a plain array that is its model, for the tests of the list.
 *
 * Each element of the model is a code, a number that stands for one value; the codes go up as
 * values are made.
 */
#ifndef LISTS_H
#define LISTS_H

#include <stdarg.h>

#include "check.h"
#include "txn/session.h"
#include "types/list.h"

#define TREE_2 (LIST_LEAF_CELLS * LIST_FANOUT) /* elements of a full tree of height 1, 2 */
#define TREE_3 (TREE_2 * LIST_FANOUT)

static shobj_store *store;

/* ------------------------------------------------------------------------------------------ values
 * */

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

__attribute__((unused)) static bool same(const shobj_value *a, const shobj_value *b)
{
    if (a->type != b->type)
        return false;
    if (a->type == SHOBJ_INT)
        return a->i == b->i;
    if (a->type == SHOBJ_TUPLE)
        return a->count == b->count && same(&a->items[0], &b->items[0]) && same(&a->items[1], &b->items[1]);
    return a->count == b->count && memcmp(a->data, b->data, a->count) == 0;
}

__attribute__((unused)) static bool is(const shobj_value *value, int64_t code)
{
    struct made m;
    return same(value, make(code, &m));
}

__attribute__((unused)) static shobj_value int_value(int64_t i)
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

__attribute__((unused)) static void found_problem(void *arg, uint64_t off, const char *format, ...)
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

__attribute__((unused)) static int found_cell(void *arg, uint64_t owner_off, uint64_t cell)
{
    (void)owner_off;
    (void)cell;
    ((struct found *)arg)->cell_count++;
    return 0;
}

__attribute__((unused)) static int found_node(void *arg, uint64_t off, unsigned kind, unsigned word_count)
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

__attribute__((unused)) static int compare_offs(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

__attribute__((unused)) static int check_body(sho_session *s, shobj_oid list, struct found *f)
{
    const sho_check_sink sink = {found_problem, found_cell, found_node, f};
    f->node_count = 0;
    f->cell_count = 0;
    f->problem_count = 0;
    return sho_list_check(s, SHM_OID_OFF(list), &sink);
}

/* Walks the list; the number of its nodes. */
__attribute__((unused)) static size_t check_structure(shobj_oid list)
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

/* ------------------------------------------------------------------------------------------ the model */

struct model {
    shobj_oid list;
    int64_t *codes;
    size_t count;
    size_t room;
    int64_t next_code;
};

/* One call on a list. `index` is the count for EXTEND. */
struct step {
    int what; /* enum below */
    int64_t index;
};
enum { APPEND, INSERT, SET, DELETE, GET, EXTEND, CLEAR };

static void model_room(struct model *m, size_t count)
{
    if (count <= m->room)
        return;
    m->room = count * 2 + 64;
    m->codes = realloc(m->codes, m->room * sizeof(*m->codes));
    CHECK(m->codes != NULL);
}

__attribute__((unused)) static void model_init(struct model *m)
{
    *m = (struct model){.next_code = 1};
    model_room(m, 1);
    CHECK_INT(shobj_list_new(store, NULL, 0, &m->list), 0);
}

static void model_insert(struct model *m, size_t at, int64_t code)
{
    model_room(m, m->count + 1);
    memmove(&m->codes[at + 1], &m->codes[at], (m->count - at) * sizeof(*m->codes));
    m->codes[at] = code;
    m->count++;
}

/* What the step does to a plain list. */
__attribute__((unused)) static int step_model(struct model *m, struct step step)
{
    int64_t count = (int64_t)m->count;
    int64_t at = step.index < 0 ? step.index + count : step.index;
    bool inside = at >= 0 && at < count;
    switch (step.what) {
    case APPEND:
        model_insert(m, m->count, m->next_code++);
        return 0;
    case INSERT:
        model_insert(m, (size_t)(at < 0 ? 0 : at > count ? count : at), m->next_code++);
        return 0;
    case SET:
        if (inside)
            m->codes[at] = m->next_code++;
        break;
    case DELETE:
        if (inside) {
            m->count--;
            memmove(&m->codes[at], &m->codes[at + 1], (m->count - (size_t)at) * sizeof(*m->codes));
        }
        break;
    case GET:
        break;
    case EXTEND:
        model_room(m, m->count + (size_t)step.index);
        for (int64_t i = 0; i < step.index; i++)
            m->codes[m->count++] = m->next_code++;
        return 0;
    case CLEAR:
        m->count = 0;
        return 0;
    }
    return inside ? 0 : SHOBJ_ENOTFOUND;
}

static int extend_with(shobj_oid list, int64_t code, size_t count)
{
    struct made *made = malloc((count + 1) * sizeof(*made));
    shobj_value *values = malloc((count + 1) * sizeof(*values));
    CHECK(made != NULL && values != NULL);
    for (size_t i = 0; i < count; i++)
        values[i] = *make(code + (int64_t)i, &made[i]);
    int rc = shobj_list_extend(store, list, values, count);
    free(values);
    free(made);
    return rc;
}

/* Does the step to the real list; the model says what the next value is. *ret_value as it comes,
 * ABSENT if none does. */
static int step_call(const struct model *m, struct step step, shobj_value *ret_value)
{
    struct made made;
    const shobj_value *value = make(m->next_code, &made);
    ret_value->type = SHOBJ_ABSENT;
    switch (step.what) {
    case APPEND:
        return shobj_list_append(store, m->list, value);
    case INSERT:
        return shobj_list_insert(store, m->list, step.index, value);
    case SET:
        return shobj_list_set(store, m->list, step.index, value);
    case DELETE:
        return shobj_list_del(store, m->list, step.index, m->next_code % 3 ? ret_value : NULL);
    case GET:
        return shobj_list_get(store, m->list, step.index, ret_value);
    case EXTEND:
        return extend_with(m->list, m->next_code, (size_t)step.index);
    default:
        return shobj_list_clear(store, m->list);
    }
}

/* Both, compared. */
__attribute__((unused)) static void step_do(struct model *m, int what, int64_t index)
{
    struct step step = {what, index};
    shobj_value value;
    int rc = step_call(m, step, &value);
    if (value.type != SHOBJ_ABSENT)
        CHECK(is(&value, m->codes[step.index < 0 ? step.index + (int64_t)m->count : step.index]));
    CHECK_INT(rc, step_model(m, step));
}

/* Reads the list in batches of at most max: is it as the model? */
__attribute__((unused)) static bool model_matches(const struct model *m, size_t max)
{
    shobj_value *values = malloc(max * sizeof(*values));
    CHECK(values != NULL);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, m->list, &length), 0);
    bool matches = length == m->count;
    size_t at = 0;
    size_t count = 1;
    while (matches && count > 0) {
        CHECK_INT(shobj_list_read(store, m->list, at, values, max, &count), 0);
        CHECK(count <= max);
        matches = at + count <= m->count;
        for (size_t i = 0; matches && i < count; i++)
            matches = is(&values[i], m->codes[at + i]);
        at += count;
    }
    free(values);
    return matches && at == m->count;
}

__attribute__((unused)) static void compare(const struct model *m, size_t max)
{
    CHECK(model_matches(m, max));
}

__attribute__((unused)) static struct model model_copy(const struct model *m)
{
    struct model copy = *m;
    copy.codes = NULL;
    copy.room = 0;
    model_room(&copy, m->count + 1);
    CHECK(copy.codes != NULL);
    memcpy(copy.codes, m->codes, m->count * sizeof(*m->codes));
    return copy;
}

#endif
