/*
 * list_edit.c: the editor of a list's nodes (list.h): reads each node once, keeps changed words
 * aside, applies them at the end.
 */
#include "types/list.h"

#include "heap/region.h"
#include "txn/session.h"

#define LEVEL_HEAD (LIST_HEIGHT_MAX + 1u)

uint64_t sho_list_length_max(sho_session *s)
{
    return sho_region_slab_count(s->region) * (SHM_SLAB_BYTES / 8);
}

static int take_struct(sho_list_edit *e, const sho_view *view, unsigned level, sho_list_node **ret_node)
{
    if (SHO_UNLIKELY(e->node_count == LIST_EDIT_NODES))
        return SHOBJ_ECORRUPT;
    sho_list_node *n = &e->nodes[e->node_count++];
    n->view = *view;
    n->dirty = 0;
    n->level = (uint8_t)level;
    n->count = 0;
    n->first = 0;
    n->marks = 0;
    n->fresh = false;
    n->gone = false;
    *ret_node = n;
    return 0;
}

int sho_list_edit_begin(sho_list_edit *e, sho_session *s, const sho_view *head)
{
    e->s = s;
    e->tidy = true;
    e->node_count = 0;
    uint64_t meta = sho_view_word(head, 0);
    e->tree = !LIST_META_IS_INLINE(meta);
    if (e->tree) {
        if (LIST_META_HEIGHT(meta) > LIST_HEIGHT_MAX || head->word_count < LIST_HEAD_WORDS)
            return SHOBJ_ECORRUPT;
        e->height = (unsigned)LIST_META_HEIGHT(meta);
        e->root = sho_view_word(head, LIST_HEAD_ROOT);
        e->tail = sho_view_word(head, LIST_HEAD_TAIL);
        e->tail_start = sho_view_word(head, LIST_HEAD_TAIL_START);
    } else if (meta >= head->word_count) {
        return SHOBJ_ECORRUPT;
    }
    int rc = take_struct(e, head, LEVEL_HEAD, &e->head);
    if (rc == 0)
        e->head->count = (uint8_t)(e->tree ? 0 : meta);
    return rc;
}

int sho_list_edit_node(sho_list_edit *e, uint64_t off, unsigned level, sho_list_node **ret_node)
{
    for (unsigned i = 0; i < e->node_count; i++) {
        if (e->nodes[i].view.off == off) {
            *ret_node = &e->nodes[i];
            return e->nodes[i].level == level && !e->nodes[i].gone ? 0 : SHOBJ_ECORRUPT;
        }
    }
    sho_view view;
    sho_list_node *n;
    int rc = sho_op_read(e->s, off, level == 0 ? SHM_LIST_LEAF : SHM_LIST_INNER, &view);
    if (rc || (rc = take_struct(e, &view, level, &n)))
        return rc;
    uint64_t meta = sho_view_word(&view, 0);
    if (!(level == 0 ? list_leaf_ok(&view, meta) : list_inner_ok(&view, meta, level)))
        return SHOBJ_ECORRUPT;
    if (level == 0) {
        n->count = (uint8_t)LIST_LEAF_COUNT(meta);
        n->first = (uint8_t)LIST_LEAF_FIRST(meta);
        n->marks = LIST_LEAF_MARKS(meta);
    } else {
        n->count = (uint8_t)LIST_INNER_COUNT(meta);
    }
    *ret_node = n;
    return 0;
}

static int new_node(sho_list_edit *e, unsigned level, sho_view *ret_view)
{
    return level == 0 ? sho_op_new(e->s, SHM_LIST_LEAF, LIST_LEAF_WORDS, ret_view)
                      : sho_op_new(e->s, SHM_LIST_INNER, LIST_INNER_WORDS, ret_view);
}

int sho_list_edit_new(sho_list_edit *e, unsigned level, sho_list_node **ret_node)
{
    sho_view view;
    int rc = new_node(e, level, &view);
    if (rc == 0 && (rc = take_struct(e, &view, level, ret_node)) == 0)
        (*ret_node)->fresh = true;
    return rc;
}

static void flush(sho_session *s, sho_list_node *n)
{
    for (uint64_t dirty = n->dirty; dirty != 0; dirty &= dirty - 1) {
        unsigned i = (unsigned)__builtin_ctzll(dirty);
        sho_op_set(s, &n->view, i, n->words[i]);
    }
}

int sho_list_edit_renew(sho_list_edit *e, sho_list_node *n)
{
    SHO_ASSERT(n->fresh);
    flush(e->s, n);
    n->dirty = 0;
    n->count = 0;
    n->first = 0;
    n->marks = 0;
    return new_node(e, n->level, &n->view);
}

int sho_list_edit_descend(sho_list_edit *e, uint64_t index, sho_list_path *ret_path)
{
    uint64_t off = e->root;
    uint64_t pos = index;
    ret_path->leaf_start = 0;
    for (unsigned level = e->height; level > 0; level--) {
        sho_list_node *n;
        int rc = sho_list_edit_node(e, off, level, &n);
        if (rc)
            return rc;
        uint64_t base = list_word(n, LIST_INNER_START(0));
        unsigned k = 0; /* the last child whose start is at or before pos */
        for (unsigned end = n->count; end - k > 1;) {
            unsigned middle = (k + end) / 2;
            if (list_word(n, LIST_INNER_START(middle)) - base <= pos)
                k = middle;
            else
                end = middle;
        }
        uint64_t start = list_word(n, LIST_INNER_START(k)) - base;
        if (index != UINT64_MAX)
            pos -= start;
        ret_path->leaf_start += start;
        ret_path->node[level] = n;
        ret_path->slot[level] = k;
        off = list_word(n, LIST_INNER_REF(k));
    }
    int rc = sho_list_edit_node(e, off, 0, &ret_path->node[0]);
    if (rc)
        return rc;
    ret_path->pos = index == UINT64_MAX ? ret_path->node[0]->count : pos;
    return ret_path->pos <= ret_path->node[0]->count ? 0 : SHOBJ_ECORRUPT;
}

void sho_list_cells_get(const sho_list_node *leaf, uint64_t *ret_cells)
{
    for (unsigned j = 0; j < leaf->count; j++)
        ret_cells[j] = list_word(leaf, 1 + leaf->first + j);
}

void sho_list_cells_put(sho_list_node *leaf, const uint64_t *cells, unsigned count, unsigned first)
{
    unsigned old_end = leaf->first + leaf->count;
    unsigned from = leaf->first < first ? leaf->first : first;
    unsigned end = old_end > first + count ? old_end : first + count;
    for (unsigned j = from; j < end; j++)
        list_put(leaf, 1 + j, j >= first && j < first + count ? cells[j - first] : SHO_CELL_EMPTY);
    leaf->count = (uint8_t)count;
    leaf->first = (uint8_t)(count == 0 ? 0 : first);
    list_put_leaf_meta(leaf);
}

int sho_list_finish(sho_list_edit *e, bool fact)
{
    sho_session *s = e->s;
    if (e->tree) {
        list_put(e->head, 0, LIST_META_TREE(e->height));
        list_put(e->head, LIST_HEAD_ROOT, e->root);
        list_put(e->head, LIST_HEAD_TAIL, e->tail);
        list_put(e->head, LIST_HEAD_TAIL_START, e->tail_start);
    }
    unsigned written = 0;
    for (unsigned i = 0; i < e->node_count; i++) {
        sho_list_node *n = &e->nodes[i];
        if (n->dirty == 0 && !n->gone)
            continue;
        written++;
        int rc = n->gone ? sho_op_retire(s, &n->view) : sho_op_write(s, &n->view);
        if (rc)
            return rc;
    }
    if (fact && written == 1)
        sho_op_leaf(s);
    int rc = sho_op_check(s);
    if (rc)
        return rc;
    for (unsigned i = 0; i < e->node_count; i++) {
        sho_list_node *n = &e->nodes[i];
        if (n->gone)
            sho_op_free_node(s, &n->view);
        else
            flush(s, n);
    }
    return 0;
}
