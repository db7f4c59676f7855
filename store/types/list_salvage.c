/*
 * list_salvage.c: the elements of a damaged list.
 *
 * No element is an empty cell, and all other words of a leaf are empty: so where a leaf's meta is nonsense its elements
 * are the cells that are not. A child that is no node is told, with the number of elements that it should have held, as far as
 * its parent knows it. The last leaf, which the head names, comes last if the tree did not lead to it.
 */
#include "types/list.h"

#include "base/error.h"

#define U(x) ((unsigned long long)(x))

struct salvaging {
    sho_region *region;
    const sho_salvage_sink *sink;
    uint64_t head_off;
    uint64_t tail;
    bool tail_met;
    uint64_t nodes_left; /* no list has more than the file has room for */
};

/* `count` cells from word `first` on; an empty one was an element. */
static int give_cells(struct salvaging *c, const sho_view *view, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        uint64_t cell = sho_view_word(view, i);
        if (cell == SHO_CELL_EMPTY)
            c->sink->lost(c->sink->arg, view->off, "an element of the list at 0x%llx", U(c->head_off));
        int rc = c->sink->element(c->sink->arg, cell);
        if (rc)
            return rc;
    }
    return 0;
}

/* All cells that are not empty. */
static int give_all(struct salvaging *c, const sho_view *view, unsigned first)
{
    int rc = 0;
    for (unsigned i = first; rc == 0 && i < view->word_count; i++)
        if (sho_view_word(view, i) != SHO_CELL_EMPTY)
            rc = c->sink->element(c->sink->arg, sho_view_word(view, i));
    return rc;
}

static int give_leaf(struct salvaging *c, const sho_view *leaf)
{
    uint64_t meta = sho_view_word(leaf, 0);
    c->tail_met |= leaf->off == c->tail;
    if (list_leaf_ok(leaf, meta) && LIST_LEAF_COUNT(meta) > 0)
        return give_cells(c, leaf, 1 + LIST_LEAF_FIRST(meta), LIST_LEAF_COUNT(meta));
    return give_all(c, leaf, 1);
}

static int give_tree(struct salvaging *c, uint64_t off, unsigned depth, uint64_t size);

static int give_inner(struct salvaging *c, const sho_view *inner, unsigned depth)
{
    uint64_t meta = sho_view_word(inner, 0);
    unsigned room = (inner->word_count - 1) / 2;
    unsigned count = LIST_INNER_COUNT(meta);
    int rc = 0;
    if (count == 0 || count > room)
        count = room;
    for (unsigned k = 0; rc == 0 && k < count; k++) {
        uint64_t ref = sho_view_word(inner, LIST_INNER_REF(k));
        uint64_t size = 0; /* unknown */
        if (k + 1 < count)
            size = sho_view_word(inner, LIST_INNER_START(k + 1)) - sho_view_word(inner, LIST_INNER_START(k));
        if (ref != 0 || count != room)
            rc = give_tree(c, ref, depth + 1, size);
    }
    return rc;
}

static int give_tree(struct salvaging *c, uint64_t off, unsigned depth, uint64_t size)
{
    sho_view node;
    if (c->nodes_left == 0 || depth > LIST_HEIGHT_MAX + 1)
        return 0;
    c->nodes_left--;
    if (sho_salvage_node(c->region, off, SHM_LIST_LEAF, &node))
        return give_leaf(c, &node);
    if (sho_salvage_node(c->region, off, SHM_LIST_INNER, &node))
        return give_inner(c, &node, depth);
    if (size > 0 && size < 1u << 30)
        c->sink->lost(c->sink->arg, c->head_off, "%llu elements of a list: there is no part of it at 0x%llx", U(size), U(off));
    else
        c->sink->lost(c->sink->arg, c->head_off, "elements of a list: there is no part of it at 0x%llx", U(off));
    return 0;
}

int sho_list_salvage(sho_region *region, uint64_t off, const sho_salvage_sink *sink)
{
    struct salvaging c = {.region = region, .sink = sink, .head_off = off};
    sho_view head, tail;
    if (!sho_salvage_node(region, off, SHM_LIST, &head)) {
        sink->lost(sink->arg, off, "a list whose first node is gone");
        return 0;
    }
    c.nodes_left = atomic_load_explicit(&region->limit, memory_order_relaxed) / SHM_NODE_BYTES(LIST_LEAF_WORDS);
    uint64_t meta = sho_view_word(&head, 0);
    if (LIST_META_IS_INLINE(meta) && meta < head.word_count)
        return give_cells(&c, &head, 1, (unsigned)meta);
    sho_view node;
    uint64_t root = head.word_count > LIST_HEAD_TAIL_START ? sho_view_word(&head, LIST_HEAD_ROOT) : 0;
    c.tail = head.word_count > LIST_HEAD_TAIL_START ? sho_view_word(&head, LIST_HEAD_TAIL) : 0;
    bool has_tail = sho_salvage_node(region, c.tail, SHM_LIST_LEAF, &tail);
    bool has_tree = sho_salvage_node(region, root, SHM_LIST_LEAF, &node) || sho_salvage_node(region, root, SHM_LIST_INNER, &node);
    if (!has_tail && !has_tree)
        return give_all(&c, &head, 1);
    int rc = give_tree(&c, root, 0, 0);
    if (rc == 0 && has_tail && !c.tail_met)
        rc = give_leaf(&c, &tail);
    if (rc == 0 && c.nodes_left == 0)
        sink->lost(sink->arg, off, "a list that leads in circles: it may have elements twice, or too few");
    return rc;
}
