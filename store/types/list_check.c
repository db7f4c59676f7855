/*
 * list_check.c: verifies one list: invariants I1 to I6 of list.h.
 *
 * The walk goes down with the number of elements that the node above says are there. Every child
 * but the last one of the list must hold one at least, so that a walk is never longer than the
 * list, which is never longer than the heap has words: also not if damaged references make a node
 * its own descendant.
 */
#include "types/list.h"

struct checking {
    sho_session *s;
    const sho_check_sink *sink;
    uint64_t head_off;
    unsigned height;
    uint64_t tail;
};

#define PROBLEM(c, off, ...) ((c)->sink->problem((c)->sink->arg, (off), __VA_ARGS__))
#define U(x) ((unsigned long long)(x))

static int check_cells(struct checking *c, const sho_view *view, unsigned first, unsigned count)
{
    const sho_check_sink *sink = c->sink;
    for (unsigned i = 1; i < view->word_count; i++) {
        uint64_t cell = sho_view_word(view, i);
        if (i < first || i >= first + count) {
            if (cell != SHO_CELL_EMPTY)
                PROBLEM(c, view->off, "word %u is outside of the list's elements and not empty", i);
            continue;
        }
        if (cell == SHO_CELL_EMPTY)
            PROBLEM(c, view->off, "element in word %u has no value", i);
        int rc = sink->cell(sink->arg, c->head_off, cell);
        if (rc)
            return rc;
    }
    return 0;
}

static int check_leaf(struct checking *c, const sho_view *leaf, uint64_t size, bool is_last)
{
    uint64_t off = leaf->off;
    uint64_t meta = sho_view_word(leaf, 0);
    if (!list_leaf_ok(leaf, meta)) {
        PROBLEM(c, off, "list leaf of %u words says that %u elements begin after %u", leaf->word_count,
                LIST_LEAF_COUNT(meta), LIST_LEAF_FIRST(meta));
        return 0;
    }
    unsigned count = LIST_LEAF_COUNT(meta);
    unsigned marks = (is_last ? LIST_TAIL : 0) | (c->height == 0 ? LIST_SOLE : 0);
    if (meta != LIST_LEAF_META(count, LIST_LEAF_FIRST(meta), marks))
        PROBLEM(c, off, "list leaf has meta %#llx: its place in the list asks for the marks %#x", U(meta), marks);
    if (is_last && off != c->tail)
        PROBLEM(c, off, "last leaf of a list whose head says that it is 0x%llx", U(c->tail));
    if (count != size)
        PROBLEM(c, off, "list leaf holds %u elements, its parent says %llu", count, U(size));
    if (count == 0 && (LIST_LEAF_FIRST(meta) != 0 || c->height == 0))
        PROBLEM(c, off, "empty list leaf %s", c->height == 0 ? "is the only one" : "has a gap before its elements");
    return check_cells(c, leaf, 1 + LIST_LEAF_FIRST(meta), count);
}

static int check_tree(struct checking *c, uint64_t parent, uint64_t off, unsigned level, uint64_t size, bool is_last);

static int check_inner(struct checking *c, const sho_view *inner, unsigned level, uint64_t size, bool is_last)
{
    uint64_t off = inner->off;
    uint64_t meta = sho_view_word(inner, 0);
    unsigned count = LIST_INNER_COUNT(meta);
    if (!list_inner_ok(inner, meta, level)) {
        PROBLEM(c, off, "inner list node of %u words has %u children and level %llu, at level %u", inner->word_count,
                count, U(LIST_INNER_LEVEL(meta)), level);
        return 0;
    }
    if (level == c->height && count == 1)
        PROBLEM(c, off, "root of a list's tree has one child");
    for (unsigned i = LIST_INNER_START(count); i < inner->word_count; i++)
        if (sho_view_word(inner, i) != 0)
            PROBLEM(c, off, "word %u is behind the children of an inner list node and not empty", i);
    uint64_t base = sho_view_word(inner, LIST_INNER_START(0));
    uint64_t start = 0;
    for (unsigned k = 0; k < count; k++) {
        bool child_is_last = is_last && k + 1 == count;
        uint64_t end = k + 1 < count ? sho_view_word(inner, LIST_INNER_START(k + 1)) - base : size;
        if (end > size || end < start || (end == start && !child_is_last)) {
            PROBLEM(c, off, "child %u of an inner list node is to hold elements %llu to %llu of %llu", k, U(start),
                    U(end), U(size));
            return 0;
        }
        int rc = check_tree(c, off, sho_view_word(inner, LIST_INNER_REF(k)), level - 1, end - start, child_is_last);
        if (rc)
            return rc;
        start = end;
    }
    return 0;
}

/* A node that is to hold `size` elements; is_last: the last ones of the list. */
static int check_tree(struct checking *c, uint64_t parent, uint64_t off, unsigned level, uint64_t size, bool is_last)
{
    unsigned kind = level == 0 ? SHM_LIST_LEAF : SHM_LIST_INNER;
    sho_view view;
    int rc = sho_op_read(c->s, off, kind, &view);
    if (rc == SHOBJ_ECORRUPT) {
        PROBLEM(c, parent, "refers to a list node at 0x%llx, where there is none of level %u", U(off), level);
        return 0;
    }
    if (rc || (rc = c->sink->node(c->sink->arg, off, kind, view.word_count)))
        return rc;
    return level == 0 ? check_leaf(c, &view, size, is_last) : check_inner(c, &view, level, size, is_last);
}

int sho_list_check(sho_session *s, uint64_t off, const sho_check_sink *sink)
{
    struct checking c = {.s = s, .sink = sink, .head_off = off};
    sho_view head;
    sho_view tail;
    int rc = sho_op_read(s, off, SHM_LIST, &head);
    if (rc || (rc = sink->node(sink->arg, off, SHM_LIST, head.word_count)))
        return rc;
    uint64_t meta = sho_view_word(&head, 0);
    if (head.word_count < LIST_HEAD_WORDS || (LIST_META_IS_INLINE(meta) && meta >= head.word_count) ||
        (!LIST_META_IS_INLINE(meta) && (LIST_META_HEIGHT(meta) > LIST_HEIGHT_MAX || (meta & 0xff) != 0))) {
        PROBLEM(&c, off, "head of a list has %u words and meta %#llx", head.word_count, U(meta));
        return 0;
    }
    if (LIST_META_IS_INLINE(meta))
        return check_cells(&c, &head, 1, (unsigned)meta);
    for (unsigned i = LIST_HEAD_TAIL_START + 1; i < head.word_count; i++)
        if (sho_view_word(&head, i) != 0)
            PROBLEM(&c, off, "word %u of a list's head is not in use and not empty", i);
    c.height = (unsigned)LIST_META_HEIGHT(meta);
    c.tail = sho_view_word(&head, LIST_HEAD_TAIL);
    rc = sho_op_read(s, c.tail, SHM_LIST_LEAF, &tail);
    if (rc == SHOBJ_ECORRUPT) {
        PROBLEM(&c, off, "refers to a list's last leaf at 0x%llx, where there is no leaf", U(c.tail));
        return 0;
    }
    if (rc)
        return rc;
    uint64_t tail_start = sho_view_word(&head, LIST_HEAD_TAIL_START);
    uint64_t length = tail_start + LIST_LEAF_COUNT(sho_view_word(&tail, 0));
    if (tail_start > sho_list_length_max(s)) {
        PROBLEM(&c, off, "a list of %llu elements, more than the heap has words", U(length));
        return 0;
    }
    return check_tree(&c, off, sho_view_word(&head, LIST_HEAD_ROOT), c.height, length, true);
}
