/*
 * list_tree.c: elements that come and go in the middle of a list's tree.
 *
 * Both directions climb from the leaf to the root with what the level below asks of its parent:
 *
 *   insert   a full leaf is split; its new right half wants a place in the parent, which may split
 *            in turn; the rest of the path only learns that the child has one element more.
 *   remove   a child that became empty is taken out; one that became small (a third) is joined with
 *            a neighbour if both fit two thirds of a node, so that a node that was just joined is
 *            far from a split, and one just split far from a join. A root with one child gives way
 *            to it. A sole leaf that half the head could hold goes back into the head.
 *
 * The ends are special, for lists used as stacks and queues:
 *   - A full first leaf that gets an element before all others leaves that one alone on the left:
 *     lists that grow at the front are as full as those that grow at the end. Cells move to the end
 *     of their leaf then, and the gap before them takes the next ones.
 *   - Taking away the first element never looks at neighbours: the leaf is about to be empty.
 *   - A tail that becomes empty stays until the element before it is removed (I5), so that a stack
 *     which goes up and down across a leaf's boundary makes no node each time.
 */
#include "types/list.h"

#include <string.h>

#define LEAF_SMALL (LIST_LEAF_CELLS / 3)
#define LEAF_JOIN (LIST_LEAF_CELLS * 2 / 3)
#define INNER_SMALL (LIST_FANOUT / 3)
#define INNER_JOIN (LIST_FANOUT * 2 / 3)

/* ------------------------------------------------------------------------------------------ children */

/* The children of an inner node, with room for one too many. */
struct children {
    unsigned count;
    uint64_t start[LIST_FANOUT + 1];
    uint64_t ref[LIST_FANOUT + 1];
};

static void children_get(const sho_list_node *n, struct children *ret)
{
    ret->count = n->count;
    for (unsigned k = 0; k < ret->count; k++) {
        ret->start[k] = list_word(n, LIST_INNER_START(k));
        ret->ref[k] = list_word(n, LIST_INNER_REF(k));
    }
}

/* Puts children [from, end) as all that n has. */
static void children_put(sho_list_node *n, const struct children *c, unsigned from, unsigned end)
{
    unsigned old_count = n->count;
    n->count = (uint8_t)(end - from);
    for (unsigned k = 0; k < n->count; k++) {
        list_put(n, LIST_INNER_START(k), c->start[from + k]);
        list_put(n, LIST_INNER_REF(k), c->ref[from + k]);
    }
    for (unsigned k = n->count; k < old_count; k++) {
        list_put(n, LIST_INNER_START(k), 0);
        list_put(n, LIST_INNER_REF(k), 0);
    }
    list_put_inner_meta(n);
}

static void children_insert(struct children *c, unsigned at, uint64_t start, uint64_t ref)
{
    memmove(&c->start[at + 1], &c->start[at], (c->count - at) * sizeof(c->start[0]));
    memmove(&c->ref[at + 1], &c->ref[at], (c->count - at) * sizeof(c->ref[0]));
    c->start[at] = start;
    c->ref[at] = ref;
    c->count++;
}

/* Takes out child `at`, which holds nothing any more (or was joined with the one before it). */
static void children_remove(struct children *c, unsigned at)
{
    c->count--;
    memmove(&c->start[at], &c->start[at + 1], (c->count - at) * sizeof(c->start[0]));
    memmove(&c->ref[at], &c->ref[at + 1], (c->count - at) * sizeof(c->ref[0]));
    if (at == 0) /* all of them move: starts near 0 again, where the search looks first */
        for (unsigned k = c->count; k-- > 0;)
            c->start[k] -= c->start[0];
}

/* Child `slot` has `delta` elements more (modulo 2^64). */
static void adjust(sho_list_node *n, unsigned slot, uint64_t delta)
{
    if (slot + 1 < n->count - 1u - slot) {
        for (unsigned k = 0; k <= slot; k++)
            list_put(n, LIST_INNER_START(k), list_word(n, LIST_INNER_START(k)) - delta);
    } else {
        for (unsigned k = slot + 1; k < n->count; k++)
            list_put(n, LIST_INNER_START(k), list_word(n, LIST_INNER_START(k)) + delta);
    }
}

/* ------------------------------------------------------------------------------------------ insert
 * */

/* A new root over the old one and its new right neighbour, which begins at `start`. */
static int grow_root(sho_list_edit *e, uint64_t start, uint64_t ref)
{
    if (e->height == LIST_HEIGHT_MAX)
        return SHOBJ_ECORRUPT;
    sho_list_node *root;
    int rc = sho_list_edit_new(e, e->height + 1, &root);
    if (rc)
        return rc;
    struct children c = {.count = 2, .start = {0, start}, .ref = {e->root, ref}};
    children_put(root, &c, 0, 2);
    e->root = root->view.off;
    e->height++;
    return 0;
}

/* Level by level: the child on the path has one element more; if `ref`, it was split after
 * left_size elements, and ref is its right part. */
static int climb_insert(sho_list_edit *e, const sho_list_path *path, bool at_front, uint64_t left_size, uint64_t ref)
{
    unsigned height = e->height;
    for (unsigned level = 1; level <= height; level++) {
        sho_list_node *n = path->node[level];
        unsigned slot = path->slot[level];
        if (ref == 0) {
            adjust(n, slot, 1);
            continue;
        }
        struct children c;
        children_get(n, &c);
        for (unsigned k = slot + 1; k < c.count; k++)
            c.start[k]++;
        children_insert(&c, slot + 1, c.start[slot] + left_size, ref);
        if (c.count <= LIST_FANOUT) {
            children_put(n, &c, 0, c.count);
            ref = 0;
            continue;
        }
        sho_list_node *right;
        int rc = sho_list_edit_new(e, level, &right);
        if (rc)
            return rc;
        unsigned left_count = at_front ? 1 : c.count / 2;
        left_size = c.start[left_count] - c.start[0];
        children_put(n, &c, 0, left_count);
        for (unsigned k = c.count; k-- > left_count;)
            c.start[k] -= c.start[left_count];
        children_put(right, &c, left_count, c.count);
        ref = right->view.off;
    }
    return ref == 0 ? 0 : grow_root(e, left_size, ref);
}

/* Into a leaf that has room: moves the cells on the shorter side, or makes room at the front for
 * many. */
static void leaf_insert(sho_list_node *leaf, unsigned pos, uint64_t cell)
{
    unsigned count = leaf->count;
    unsigned first = leaf->first;
    if (pos == 0 && first > 0) {
        leaf->first--;
        leaf->count++;
        list_put(leaf, leaf->first + 1u, cell);
        list_put_leaf_meta(leaf);
        return;
    }
    uint64_t cells[LIST_LEAF_CELLS];
    sho_list_cells_get(leaf, cells);
    memmove(&cells[pos + 1], &cells[pos], (count - pos) * sizeof(cells[0]));
    cells[pos] = cell;
    bool can_up = first + count < LIST_LEAF_CELLS;
    if (pos == 0)
        first = LIST_LEAF_CELLS - count - 1;
    else if (first > 0 && (!can_up || pos < count - pos))
        first--;
    sho_list_cells_put(leaf, cells, count + 1, first);
}

/* The leaf is full: splits it, with the new cell in one of the halves. */
static int leaf_split(sho_list_edit *e, sho_list_node *leaf, unsigned pos, uint64_t cell, bool at_front,
                      sho_list_node **ret_right)
{
    int rc = sho_list_edit_new(e, 0, ret_right);
    if (rc)
        return rc;
    uint64_t cells[LIST_LEAF_CELLS + 1];
    sho_list_cells_get(leaf, cells);
    unsigned count = leaf->count;
    memmove(&cells[pos + 1], &cells[pos], (count - pos) * sizeof(cells[0]));
    cells[pos] = cell;
    count++;
    unsigned left_count = at_front ? 1 : count / 2;
    (*ret_right)->marks = leaf->marks & LIST_TAIL;
    if (leaf->marks & LIST_TAIL) {
        e->tail = (*ret_right)->view.off;
        e->tail_start += left_count;
        leaf->marks = 0;
    }
    sho_list_cells_put(leaf, cells, left_count, at_front ? LIST_LEAF_CELLS - 1 : 0);
    sho_list_cells_put(*ret_right, &cells[left_count], count - left_count, 0);
    return 0;
}

int sho_list_tree_insert(sho_list_edit *e, uint64_t index, uint64_t cell)
{
    sho_list_path path;
    int rc;
    if (index >= e->tail_start) {
        sho_list_node *tail;
        if ((rc = sho_list_edit_node(e, e->tail, 0, &tail)))
            return rc;
        uint64_t pos = index - e->tail_start;
        if (pos > tail->count)
            return SHOBJ_ECORRUPT;
        if (tail->count < LIST_LEAF_CELLS) {
            leaf_insert(tail, (unsigned)pos, cell);
            return 0;
        }
    }
    if ((rc = sho_list_edit_descend(e, index, &path)))
        return rc;
    sho_list_node *leaf = path.node[0];
    bool in_tail = leaf->marks & LIST_TAIL;
    if (leaf->count < LIST_LEAF_CELLS) {
        if (in_tail) /* its start said otherwise */
            return SHOBJ_ECORRUPT;
        leaf_insert(leaf, (unsigned)path.pos, cell);
        e->tail_start++;
        return climb_insert(e, &path, false, 0, 0);
    }
    sho_list_node *right;
    bool at_front = index == 0;
    if ((rc = leaf_split(e, leaf, (unsigned)path.pos, cell, at_front, &right)))
        return rc;
    if (!in_tail)
        e->tail_start++;
    return climb_insert(e, &path, at_front, leaf->count, right->view.off);
}

/* ------------------------------------------------------------------------------------------ remove
 * */

/* What became of the child on the path. */
enum outcome {
    CHILD_STAYS,
    CHILD_SMALL, /* it may be joined with a neighbour */
    CHILD_EMPTY  /* it is to be taken out */
};

/* Roots with one child give way to it. */
static int collapse(sho_list_edit *e)
{
    int rc;
    while (e->height > 0) {
        sho_list_node *root;
        if ((rc = sho_list_edit_node(e, e->root, e->height, &root)))
            return rc;
        if (root->count > 1)
            return 0;
        e->root = list_word(root, LIST_INNER_REF(0));
        e->height--;
        root->gone = true;
    }
    sho_list_node *leaf;
    if ((rc = sho_list_edit_node(e, e->root, 0, &leaf)))
        return rc;
    if (e->root != e->tail)
        return SHOBJ_ECORRUPT;
    leaf->marks |= LIST_SOLE;
    list_put_leaf_meta(leaf);
    return 0;
}

/* Joins the leaves a and b, a before b. */
static void leaves_join(sho_list_edit *e, sho_list_node *a, sho_list_node *b)
{
    uint64_t cells[2 * LIST_LEAF_CELLS];
    unsigned a_count = a->count;
    sho_list_cells_get(a, cells);
    sho_list_cells_get(b, cells + a_count);
    if (b->marks & LIST_TAIL) {
        a->marks |= LIST_TAIL;
        e->tail = a->view.off;
        e->tail_start -= a_count;
    }
    sho_list_cells_put(a, cells, a_count + b->count, 0);
}

/* The same for inner nodes; a has a_size elements. */
static void inners_join(sho_list_node *a, sho_list_node *b, uint64_t a_size)
{
    struct children c;
    struct children right;
    children_get(a, &c);
    children_get(b, &right);
    uint64_t shift = c.start[0] + a_size - right.start[0];
    for (unsigned k = 0; k < right.count; k++)
        children_insert(&c, c.count, right.start[k] + shift, right.ref[k]);
    children_put(a, &c, 0, c.count);
}

/* Joins child `slot` of c with a neighbour if both together are small enough. *ret_joined: a child
 * was taken out. */
static int join(sho_list_edit *e, struct children *c, unsigned level, unsigned slot, bool *ret_joined)
{
    *ret_joined = false;
    for (unsigned back = 0; back < 2 && back <= slot; back++) {
        unsigned left = slot - back;
        if (left + 1 >= c->count)
            continue;
        sho_list_node *a;
        sho_list_node *b;
        int rc;
        if ((rc = sho_list_edit_node(e, c->ref[left], level, &a)) ||
            (rc = sho_list_edit_node(e, c->ref[left + 1], level, &b)))
            return rc;
        if (a == b)
            return SHOBJ_ECORRUPT;
        if (a->count + b->count > (level == 0 ? LEAF_JOIN : INNER_JOIN))
            continue;
        if (level == 0)
            leaves_join(e, a, b);
        else
            inners_join(a, b, c->start[left + 1] - c->start[left]);
        b->gone = true;
        children_remove(c, left + 1);
        *ret_joined = true;
        return 0;
    }
    return 0;
}

/* Level by level: the child on the path has `lost` elements less, and `outcome` is what is to be
 * done with it. */
static int climb_remove(sho_list_edit *e, const sho_list_path *path, enum outcome outcome, unsigned lost, bool at_front)
{
    for (unsigned level = 1; level <= e->height; level++) {
        sho_list_node *n = path->node[level];
        unsigned slot = path->slot[level];
        if (outcome == CHILD_STAYS) {
            adjust(n, slot, -(uint64_t)lost);
            continue;
        }
        struct children c = {0};
        children_get(n, &c);
        for (unsigned k = slot + 1; k < c.count; k++)
            c.start[k] -= lost;
        bool changed = true;
        if (outcome == CHILD_EMPTY) {
            path->node[level - 1]->gone = true;
            children_remove(&c, slot);
        } else {
            int rc = join(e, &c, level - 1, slot, &changed);
            if (rc)
                return rc;
        }
        if (c.count == 0) {
            n->count = 0;
            continue; /* CHILD_EMPTY */
        }
        children_put(n, &c, 0, c.count);
        outcome = changed && c.count <= INNER_SMALL && !at_front && e->tidy ? CHILD_SMALL : CHILD_STAYS;
    }
    return outcome == CHILD_EMPTY ? SHOBJ_ECORRUPT : 0; /* the tail at least is left */
}

/* Takes out the empty tail; the leaf before it is the tail from now on. */
static int retract_tail(sho_list_edit *e)
{
    sho_list_path path;
    int rc = sho_list_edit_descend(e, UINT64_MAX, &path);
    if (rc)
        return rc;
    if (path.node[0]->view.off != e->tail || path.node[0]->count != 0)
        return SHOBJ_ECORRUPT;
    if ((rc = climb_remove(e, &path, CHILD_EMPTY, 0, false)) || (rc = sho_list_edit_descend(e, UINT64_MAX, &path)))
        return rc;
    sho_list_node *tail = path.node[0];
    tail->marks |= LIST_TAIL;
    list_put_leaf_meta(tail);
    e->tail = tail->view.off;
    e->tail_start = path.leaf_start;
    return collapse(e);
}

/* Moves the cells on the shorter side. */
static void leaf_remove(sho_list_node *leaf, unsigned pos, uint64_t *ret_cell)
{
    unsigned last = leaf->count - 1u;
    *ret_cell = list_word(leaf, 1u + leaf->first + pos);
    if (pos == 0 || pos == last) {
        list_put(leaf, 1u + leaf->first + pos, SHO_CELL_EMPTY);
        leaf->first = (uint8_t)(last == 0 ? 0 : leaf->first + (pos == 0));
        leaf->count--;
        list_put_leaf_meta(leaf);
        return;
    }
    uint64_t cells[LIST_LEAF_CELLS];
    sho_list_cells_get(leaf, cells);
    memmove(&cells[pos], &cells[pos + 1], (last - pos) * sizeof(cells[0]));
    sho_list_cells_put(leaf, cells, last, leaf->first + (pos < last - pos ? 1 : 0));
}

/* A sole leaf that is small gives its cells to the head. */
static int into_head_if_small(sho_list_edit *e)
{
    if (e->height > 0)
        return 0;
    sho_list_node *head = e->head;
    sho_list_node *leaf;
    int rc = sho_list_edit_node(e, e->tail, 0, &leaf);
    if (rc || !list_fits_head(leaf->count, head->view.word_count))
        return rc;
    uint64_t cells[LIST_LEAF_CELLS];
    sho_list_cells_get(leaf, cells);
    for (unsigned i = 1; i < head->view.word_count; i++)
        list_put(head, i, i <= leaf->count ? cells[i - 1] : SHO_CELL_EMPTY);
    list_put(head, 0, leaf->count);
    head->count = leaf->count;
    leaf->gone = true;
    e->tree = false;
    return 0;
}

int sho_list_tree_settle(sho_list_edit *e)
{
    int rc = collapse(e);
    return rc ? rc : into_head_if_small(e);
}

int sho_list_tree_remove(sho_list_edit *e, uint64_t index, uint64_t *ret_cell)
{
    int rc;
    sho_list_node *leaf;
    if (index + 1 == e->tail_start) {
        if ((rc = sho_list_edit_node(e, e->tail, 0, &leaf)) || (leaf->count == 0 && (rc = retract_tail(e))))
            return rc;
    }
    if (index >= e->tail_start) {
        if ((rc = sho_list_edit_node(e, e->tail, 0, &leaf)))
            return rc;
        uint64_t pos = index - e->tail_start;
        if (pos >= leaf->count)
            return SHOBJ_ECORRUPT;
        leaf_remove(leaf, (unsigned)pos, ret_cell);
        return into_head_if_small(e);
    }
    sho_list_path path;
    if ((rc = sho_list_edit_descend(e, index, &path)))
        return rc;
    leaf = path.node[0];
    if (path.pos >= leaf->count || (leaf->marks & LIST_TAIL))
        return SHOBJ_ECORRUPT;
    leaf_remove(leaf, (unsigned)path.pos, ret_cell);
    e->tail_start--;
    bool at_front = index == 0;
    enum outcome outcome = CHILD_STAYS;
    if (leaf->count == 0)
        outcome = CHILD_EMPTY;
    else if (leaf->count <= LEAF_SMALL && !at_front && e->tidy)
        outcome = CHILD_SMALL;
    if ((rc = climb_remove(e, &path, outcome, 1, at_front)) || outcome == CHILD_STAYS)
        return rc;
    return sho_list_tree_settle(e);
}
