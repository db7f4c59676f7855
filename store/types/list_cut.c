/*
 * list_cut.c: many elements go at once: a range of them, or all.
 *
 *                 inner                     keeps A, what is left of B and of D, and E; C goes as a whole,
 *             / / |  \ \                    whatever hangs below it; B and D are cut in turn
 *            A B  C   D E
 *              ----------- cut
 *
 * So the nodes to be written lie on the two paths to the ends of the range; nothing is joined, and the tree stays a sound
 * one, for nothing asks that a node be half full (I5). What goes as a whole is freed with the commit: each of its nodes
 * and boxes is named in the log, the nodes with three words each, the boxes with one.
 *
 * In a full store the log has no room for so much. Then what goes as a whole is left where it is, neither read nor written: a
 * node that nothing leads to is garbage, and the next collection frees it, its boxes and what hangs below. Nothing but the
 * tail may be written by who has not validated the way to it (F1 to F3 of list.h); the tail is written, so that an append
 * to it fails and begins anew. All others, readers and writers, have the node above on their path, and that is written.
 */
#include "types/list.h"

#include <string.h>

#include "base/error.h"

/* The nodes that go as a whole; the array outlives restarts of the body. */
struct cutting {
    sho_session *s;
    bool leaves; /* them, and all boxes, to the collector */
    uint64_t tail; /* which the editor frees; 0: none */
    sho_view *views;
    size_t view_count;
    size_t view_room;
};

/* Reads the node and announces its end. At once: reading after the first change finds nodes by
 * offset. */
static int free_node(struct cutting *c, uint64_t off, unsigned kind, sho_view *ret_node)
{
    if (c->view_count == c->view_room) {
        size_t room = c->view_room == 0 ? 64 : c->view_room * 2;
        sho_view *views = realloc(c->views, room * sizeof(*views));
        if (views == NULL) {
            sho_error(SHOBJ_ENOMEM, "out of memory for deleting from a list over %zu nodes at once", c->view_count);
            return SHOBJ_ENOMEM;
        }
        c->views = views;
        c->view_room = room;
    }
    sho_view node = {0};
    int rc = sho_op_read(c->s, off, kind, &node);
    if (rc || (rc = sho_op_retire(c->s, &node)))
        return rc;
    if (off != c->tail)
        c->views[c->view_count++] = node;
    *ret_node = node;
    return 0;
}

static int release_cells(const struct cutting *c, const sho_view *view, unsigned from, unsigned count)
{
    int rc = 0;
    for (unsigned i = from; i < from + count && rc == 0 && !c->leaves; i++) {
        uint64_t cell = sho_view_word(view, i);
        if (sho_cell_is_box(cell))
            rc = sho_cell_release(c->s, cell);
    }
    return rc;
}

/* A subtree that holds `size` elements. That all sizes agree bounds the walk by the list's length,
 * whatever a damaged heap says. */
static int free_tree(struct cutting *c, uint64_t off, unsigned level, uint64_t size)
{
    sho_view node;
    int rc = free_node(c, off, level == 0 ? SHM_LIST_LEAF : SHM_LIST_INNER, &node);
    if (rc)
        return rc;
    uint64_t meta = sho_view_word(&node, 0);
    if (level == 0) {
        unsigned count = LIST_LEAF_COUNT(meta);
        if (!list_leaf_ok(&node, meta) || count != size)
            return SHOBJ_ECORRUPT;
        return release_cells(c, &node, 1 + LIST_LEAF_FIRST(meta), count);
    }
    if (!list_inner_ok(&node, meta, level))
        return SHOBJ_ECORRUPT;
    unsigned count = LIST_INNER_COUNT(meta);
    uint64_t base = sho_view_word(&node, LIST_INNER_START(0));
    uint64_t start = 0;
    for (unsigned k = 0; k < count; k++) {
        uint64_t end = k + 1 < count ? sho_view_word(&node, LIST_INNER_START(k + 1)) - base : size;
        if (end > size || (end <= start && k + 1 < count))
            return SHOBJ_ECORRUPT;
        if ((rc = free_tree(c, sho_view_word(&node, LIST_INNER_REF(k)), level - 1, end - start)))
            return rc;
        start = end;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------ all */

static int clear_body(struct cutting *c, shobj_oid list)
{
    sho_session *s = c->s;
    sho_view head;
    sho_view tail;
    c->view_count = 0;
    c->tail = 0;
    int rc = sho_op_read_object(s, list, SHM_LIST, &head);
    if (rc)
        return rc;
    uint64_t meta = sho_view_word(&head, 0);
    if (meta == 0)
        return 0;
    uint64_t used = LIST_META_IS_INLINE(meta) ? meta : LIST_HEAD_TAIL_START; /* words behind word 0 */
    if (used >= head.word_count)
        return SHOBJ_ECORRUPT;
    if ((rc = sho_op_write(s, &head)))
        return rc;
    if (LIST_META_IS_INLINE(meta)) {
        if ((rc = release_cells(c, &head, 1, (unsigned)meta)))
            return rc;
        sho_op_leaf(s); /* F1 */
    } else if (c->leaves) {
        if ((rc = free_node(c, sho_view_word(&head, LIST_HEAD_TAIL), SHM_LIST_LEAF, &tail)))
            return rc;
    } else {
        if ((rc = sho_op_read(s, sho_view_word(&head, LIST_HEAD_TAIL), SHM_LIST_LEAF, &tail)))
            return rc;
        uint64_t size = sho_view_word(&head, LIST_HEAD_TAIL_START) + LIST_LEAF_COUNT(sho_view_word(&tail, 0));
        if (LIST_META_HEIGHT(meta) > LIST_HEIGHT_MAX || size > sho_list_length_max(s))
            return SHOBJ_ECORRUPT;
        rc = free_tree(c, sho_view_word(&head, LIST_HEAD_ROOT), (unsigned)LIST_META_HEIGHT(meta), size);
        if (rc)
            return rc;
    }
    if ((rc = sho_op_check(s)))
        return rc;
    for (unsigned i = 0; i <= used; i++)
        sho_op_set(s, &head, i, 0);
    for (size_t i = 0; i < c->view_count; i++)
        sho_op_free_node(s, &c->views[i]);
    return 0;
}

SHOBJ_API int shobj_list_clear(shobj_store *store, shobj_oid list)
{
    struct cutting c = {0};
    int rc = sho_session_get(store, &c.s);
    if (rc)
        return rc;
    SHO_OP(c.s, rc, clear_body(&c, list));
    if (rc == SHOBJ_EFULL) { /* of the log */
        c.leaves = true;
        SHO_OP(c.s, rc, clear_body(&c, list));
    }
    free(c.views);
    return sho_list_result(store, list, rc);
}

/* ------------------------------------------------------------------------------------------ a range */

/* Elements [from, to) of a node, counted from its first one. */
struct range {
    uint64_t from, to;
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How many of the first `count` elements are in the range. */
static uint64_t gone_of(struct range range, uint64_t count)
{
    return least(range.to, count) - least(range.from, count);
}

/* Some of a leaf's cells, or all of the tail's. */
static int cut_leaf(struct cutting *c, sho_list_node *leaf, struct range range)
{
    uint64_t cells[LIST_LEAF_CELLS];
    unsigned from = (unsigned)range.from, to = (unsigned)range.to;
    int rc = 0;
    if (range.to > leaf->count)
        return SHOBJ_ECORRUPT;
    sho_list_cells_get(leaf, cells);
    for (unsigned i = from; i < to && rc == 0 && !c->leaves; i++)
        if (sho_cell_is_box(cells[i]))
            rc = sho_cell_release(c->s, cells[i]);
    if (rc)
        return rc;
    memmove(&cells[from], &cells[to], (leaf->count - to) * sizeof(cells[0]));
    sho_list_cells_put(leaf, cells, leaf->count - (to - from), from == 0 ? leaf->first + to : leaf->first);
    return 0;
}

/* Some elements of a node that holds `size`; it keeps at least one, or the empty tail. */
static int cut_node(struct cutting *c, sho_list_edit *e, uint64_t off, unsigned level, uint64_t size, struct range range)
{
    sho_list_node *n;
    int rc = sho_list_edit_node(e, off, level, &n);
    if (rc || level == 0)
        return rc ? rc : n->count != size ? SHOBJ_ECORRUPT : cut_leaf(c, n, range);
    unsigned count = n->count, kept = 0;
    uint64_t base = list_word(n, LIST_INNER_START(0));
    uint64_t start[LIST_FANOUT + 1], ref[LIST_FANOUT];
    for (unsigned k = 0; k < count; k++) {
        start[k] = list_word(n, LIST_INNER_START(k)) - base;
        ref[k] = list_word(n, LIST_INNER_REF(k));
    }
    start[count] = size;
    for (unsigned k = 0; k < count; k++) {
        uint64_t lost = gone_of(range, start[k]);
        uint64_t child_size = start[k + 1] - start[k];
        if (start[k + 1] > size || (start[k + 1] <= start[k] && k + 1 < count))
            return SHOBJ_ECORRUPT;
        uint64_t lost_here = gone_of(range, start[k + 1]) - lost;
        if (lost_here > 0 && lost_here == child_size) {
            rc = c->leaves ? 0 : free_tree(c, ref[k], level - 1, child_size);
        } else {
            uint64_t from = range.from > start[k] ? range.from - start[k] : 0;
            if (lost_here > 0)
                rc = cut_node(c, e, ref[k], level - 1, child_size, (struct range){from, from + lost_here});
            list_put(n, LIST_INNER_START(kept), start[k] - lost);
            list_put(n, LIST_INNER_REF(kept++), ref[k]);
        }
        if (rc)
            return rc;
    }
    for (unsigned k = kept; k < count; k++) {
        list_put(n, LIST_INNER_START(k), 0);
        list_put(n, LIST_INNER_REF(k), 0);
    }
    n->count = (uint8_t)kept;
    list_put_inner_meta(n);
    return kept > 0 ? 0 : SHOBJ_ECORRUPT;
}

/* The tail has gone with the others: what is the last leaf now is the tail. */
static int find_tail(sho_list_edit *e)
{
    sho_list_path path;
    int rc = sho_list_edit_descend(e, UINT64_MAX, &path);
    if (rc)
        return rc;
    path.node[0]->marks |= LIST_TAIL;
    list_put_leaf_meta(path.node[0]);
    e->tail = path.node[0]->view.off;
    e->tail_start = path.leaf_start;
    return 0;
}

static int cut_tree(struct cutting *c, sho_list_edit *e, uint64_t size, struct range range)
{
    sho_list_node *tail;
    int rc = sho_list_edit_node(e, e->tail, 0, &tail);
    if (rc)
        return rc;
    bool tail_goes = tail->count > 0 && range.to == size && range.from <= e->tail_start;
    c->tail = tail_goes ? e->tail : 0;
    if ((rc = cut_node(c, e, e->root, e->height, size, range)))
        return rc;
    e->tail_start -= gone_of(range, e->tail_start);
    if (tail_goes) {
        tail->gone = true;
        if ((rc = find_tail(e)))
            return rc;
    }
    return sho_list_tree_settle(e);
}

static int cut_inline(struct cutting *c, sho_list_node *head, struct range range)
{
    uint64_t count = head->count, removed = range.to - range.from;
    int rc = release_cells(c, &head->view, 1 + (unsigned)range.from, (unsigned)removed);
    for (uint64_t i = range.from; i < count; i++)
        list_put(head, 1 + (unsigned)i, i + removed < count ? list_word(head, 1 + (unsigned)(i + removed)) : SHO_CELL_EMPTY);
    list_put(head, 0, count - removed);
    return rc;
}

static int cut_body(struct cutting *c, shobj_oid list, uint64_t first, uint64_t count)
{
    sho_session *s = c->s;
    sho_view head;
    sho_list_edit e;
    sho_list_node *tail;
    c->view_count = 0;
    c->tail = 0;
    int rc = sho_op_read_object(s, list, SHM_LIST, &head);
    if (rc || (rc = sho_list_edit_begin(&e, s, &head)))
        return rc;
    uint64_t size = e.head->count;
    if (e.tree) {
        if ((rc = sho_list_edit_node(&e, e.tail, 0, &tail)))
            return rc;
        size = e.tail_start + tail->count;
        if (size > sho_list_length_max(s))
            return SHOBJ_ECORRUPT;
    }
    if (first >= size || count == 0)
        return 0;
    struct range range = {.from = first, .to = first + least(count, size - first)};
    if (e.tree && range.to - range.from == size)
        return clear_body(c, list);
    rc = e.tree ? cut_tree(c, &e, size, range) : cut_inline(c, e.head, range);
    if (rc || (rc = sho_list_finish(&e, false)))
        return rc;
    for (size_t i = 0; i < c->view_count; i++)
        sho_op_free_node(s, &c->views[i]);
    return 0;
}

SHOBJ_API int shobj_list_cut(shobj_store *store, shobj_oid list, uint64_t first, uint64_t count)
{
    struct cutting c = {0};
    int rc = sho_session_get(store, &c.s);
    if (rc)
        return rc;
    SHO_OP(c.s, rc, cut_body(&c, list, first, count));
    if (rc == SHOBJ_EFULL) { /* of the log */
        c.leaves = true;
        SHO_OP(c.s, rc, cut_body(&c, list, first, count));
    }
    free(c.views);
    return sho_list_result(store, list, rc);
}
