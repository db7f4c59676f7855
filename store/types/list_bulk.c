/*
 * list_bulk.c: making and extending lists.
 *
 * A builder adds cells behind the last one. It fills the tail, then makes new leaves and hangs each
 * into the rightmost inner node above it; a full one gets a new right neighbour with that one child
 * instead of being split. So what is built at the end is full, and writes of the nodes that were
 * there before only those on the right spine. The new nodes are nobody else's: each is stored as
 * soon as it is full, and its struct is used for the next one.
 */
#include "types/list.h"

#include <string.h>

#include "base/error.h"

/* ------------------------------------------------------------------------------------------ building */

struct builder {
    sho_list_edit *e;
    sho_list_node *leaf;                        /* the tail */
    bool has_spine;                             /* spine[1..e->height] are known */
    sho_list_node *spine[LIST_HEIGHT_MAX + 1];  /* the rightmost inner node, by level */
    uint64_t spine_start[LIST_HEIGHT_MAX + 1];  /* index of its first element */
};

/* Another new node in place of *node, which is full (NULL: the first one). */
static int next_node(sho_list_edit *e, unsigned level, sho_list_node **node)
{
    return *node != NULL && (*node)->fresh ? sho_list_edit_renew(e, *node) : sho_list_edit_new(e, level, node);
}

static int load_spine(struct builder *b)
{
    sho_list_path path;
    int rc = sho_list_edit_descend(b->e, UINT64_MAX, &path);
    if (rc)
        return rc;
    uint64_t start = 0;
    for (unsigned level = b->e->height; level > 0; level--) {
        sho_list_node *n = path.node[level];
        b->spine[level] = n;
        b->spine_start[level] = start;
        start += list_word(n, LIST_INNER_START(path.slot[level])) - list_word(n, LIST_INNER_START(0));
    }
    b->has_spine = true;
    return path.node[0] == b->leaf && start == b->e->tail_start ? 0 : SHOBJ_ECORRUPT;
}

static void add_child(sho_list_node *n, uint64_t start, uint64_t ref)
{
    unsigned k = n->count;
    list_put(n, LIST_INNER_START(k), start);
    list_put(n, LIST_INNER_REF(k), ref);
    n->count++;
    list_put_inner_meta(n);
}

/* Hangs the new node `ref`, whose first element has index `start`, to the right of all others of
 * its level. */
static int hang(struct builder *b, uint64_t start, uint64_t ref)
{
    sho_list_edit *e = b->e;
    for (unsigned level = 1; level <= e->height; level++) {
        sho_list_node *n = b->spine[level];
        if (n->count < LIST_FANOUT) {
            add_child(n, start - b->spine_start[level] + list_word(n, LIST_INNER_START(0)), ref);
            return 0;
        }
        int rc = next_node(e, level, &b->spine[level]);
        if (rc)
            return rc;
        add_child(b->spine[level], 0, ref);
        b->spine_start[level] = start;
        ref = b->spine[level]->view.off;
    }
    if (e->height == LIST_HEIGHT_MAX)
        return SHOBJ_ECORRUPT;
    unsigned level = e->height + 1;
    int rc = sho_list_edit_new(e, level, &b->spine[level]);
    if (rc)
        return rc;
    add_child(b->spine[level], 0, e->root);
    add_child(b->spine[level], start, ref);
    b->spine_start[level] = 0;
    e->root = b->spine[level]->view.off;
    e->height = level;
    return 0;
}

static int next_leaf(struct builder *b)
{
    sho_list_edit *e = b->e;
    int rc;
    if (!b->has_spine && (rc = load_spine(b)))
        return rc;
    uint64_t start = e->tail_start + b->leaf->count;
    b->leaf->marks = 0;
    list_put_leaf_meta(b->leaf);
    if ((rc = next_node(e, 0, &b->leaf)) || (rc = hang(b, start, b->leaf->view.off)))
        return rc;
    e->tail = b->leaf->view.off;
    e->tail_start = start;
    b->leaf->marks = LIST_TAIL;
    return 0;
}

static int push(struct builder *b, uint64_t cell)
{
    sho_list_node *leaf = b->leaf;
    if (leaf->first + leaf->count == LIST_LEAF_CELLS) {
        if (leaf->first >= LIST_LEAF_CELLS / 4) {
            /* So much was taken away at the front that the rest may move there: a short list that
             * is used as a queue keeps its one leaf. */
            uint64_t cells[LIST_LEAF_CELLS];
            sho_list_cells_get(leaf, cells);
            sho_list_cells_put(leaf, cells, leaf->count, 0);
        } else {
            int rc = next_leaf(b);
            if (rc)
                return rc;
            leaf = b->leaf;
        }
    }
    list_put(leaf, 1u + leaf->first + leaf->count, cell);
    leaf->count++;
    return 0;
}

/* From INLINE to a TREE of one leaf. *ret_cells: what was in the head. */
static int begin_tree(struct builder *b, uint64_t *ret_cells)
{
    sho_list_edit *e = b->e;
    sho_list_node *head = e->head;
    for (unsigned i = 0; i < head->count; i++)
        ret_cells[i] = list_word(head, 1 + i);
    int rc = sho_list_edit_new(e, 0, &b->leaf);
    if (rc)
        return rc;
    for (unsigned i = 1; i <= head->count; i++)
        list_put(head, i, SHO_CELL_EMPTY);
    b->leaf->marks = LIST_TAIL | LIST_SOLE;
    b->has_spine = true;
    e->tree = true;
    e->height = 0;
    e->root = e->tail = b->leaf->view.off;
    e->tail_start = 0;
    return 0;
}

static int push_all(struct builder *b, const uint64_t *cells, unsigned count)
{
    int rc = 0;
    for (unsigned i = 0; i < count && rc == 0; i++)
        rc = push(b, cells[i]);
    return rc;
}

int sho_list_append_values(sho_list_edit *e, const shobj_value *values, size_t count)
{
    int rc;
    uint64_t cell;
    sho_list_node *head = e->head;
    if (!e->tree && count < head->view.word_count - head->count) {
        for (size_t i = 0; i < count; i++) {
            if ((rc = sho_cell_encode(e->s, &values[i], &cell)))
                return rc;
            list_put(head, ++head->count, cell);
        }
        list_put(head, 0, head->count);
        return 0;
    }
    struct builder b = {.e = e};
    if (e->tree) {
        if ((rc = sho_list_edit_node(e, e->tail, 0, &b.leaf)))
            return rc;
        if (!(b.leaf->marks & LIST_TAIL))
            return SHOBJ_ECORRUPT;
    } else {
        uint64_t cells[SHM_NODE_WORDS_MAX];
        if ((rc = begin_tree(&b, cells)) || (rc = push_all(&b, cells, head->count)))
            return rc;
    }
    for (size_t i = 0; i < count; i++)
        if ((rc = sho_cell_encode(e->s, &values[i], &cell)) || (rc = push(&b, cell)))
            return rc;
    list_put_leaf_meta(b.leaf);
    return 0;
}

int sho_list_spill(sho_list_edit *e, unsigned pos, uint64_t cell)
{
    struct builder b = {.e = e};
    uint64_t cells[SHM_NODE_WORDS_MAX + 1];
    int rc = begin_tree(&b, cells);
    if (rc)
        return rc;
    memmove(&cells[pos + 1], &cells[pos], (e->head->count - pos) * sizeof(cells[0]));
    cells[pos] = cell;
    if ((rc = push_all(&b, cells, e->head->count + 1u)))
        return rc;
    list_put_leaf_meta(b.leaf);
    return 0;
}

int sho_list_create(sho_session *s, size_t expected, sho_view *ret_head)
{
    unsigned words = expected <= LIST_LEAF_CELLS ? (unsigned)expected + 1 : 0;
    return sho_op_new(s, SHM_LIST, words > LIST_HEAD_WORDS ? words : LIST_HEAD_WORDS, ret_head);
}

static int new_body(sho_session *s, const shobj_value *values, size_t count, shobj_oid *ret_list)
{
    sho_view head;
    sho_list_edit e;
    int rc;
    if ((rc = sho_list_create(s, count, &head)) || (rc = sho_list_edit_begin(&e, s, &head)) ||
        (rc = sho_list_append_values(&e, values, count)))
        return rc;
    *ret_list = SHM_OID(head.off, SHM_NODE_BIRTH(head.header));
    rc = sho_op_hold_new(s, *ret_list);
    return rc ? rc : sho_list_finish(&e, false);
}

SHOBJ_API int shobj_list_new(shobj_store *store, const shobj_value *values, size_t count, shobj_oid *ret_list)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    shobj_oid list = 0;
    SHO_OP(s, rc, new_body(s, values, count, &list));
    if (rc == 0)
        *ret_list = list;
    return rc;
}

static int extend_body(sho_session *s, shobj_oid list, const shobj_value *values, size_t count)
{
    sho_view head;
    sho_list_edit e;
    int rc;
    if ((rc = sho_op_read_object(s, list, SHM_LIST, &head)) || (rc = sho_list_edit_begin(&e, s, &head)) ||
        (rc = sho_list_append_values(&e, values, count)))
        return rc;
    return sho_list_finish(&e, true); /* F1 or F3, if the head or the tail had room */
}

SHOBJ_API int shobj_list_extend(shobj_store *store, shobj_oid list, const shobj_value *values, size_t count)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    SHO_OP(s, rc, extend_body(s, list, values, count));
    return sho_list_result(store, list, rc);
}
