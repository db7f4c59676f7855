/*
 * list.c: the calls on one or a few elements of a list.
 *
 * Reading, setting, appending and taking from an end are written out straight, each node read once
 * and each word where it is needed; everything that moves cells or nodes goes through the editor
 * (list.h).
 *
 * The search in an inner node guesses: were all children full, child k would begin at k times their
 * size, which is true for what was built at the end and nearly true for what lost elements at the
 * front. A guess that fails is followed by a binary search, so that a node costs one probe or six.
 */
#include "types/list.h"

#include "base/error.h"

int sho_list_failed(shobj_store *store, shobj_oid list, int rc)
{
    if (rc == SHOBJ_ENOTFOUND)
        return sho_error_text(rc, "list index out of range");
    if (rc == SHOBJ_ECORRUPT)
        return sho_error(rc, "list %016llx in %s is damaged; \"shobj check\" tells where", (unsigned long long)list,
                         shobj_path(store));
    return rc;
}

/* ------------------------------------------------------------------------------------------ finding */

/* Elements of a full child of a node of level 1, 2, ...; and 2^64 / that, rounded up. */
#define CHILD_1 ((uint64_t)LIST_LEAF_CELLS)
#define CHILD_2 (CHILD_1 * LIST_FANOUT)
#define CHILD_3 (CHILD_2 * LIST_FANOUT)
#define CHILD_4 (CHILD_3 * LIST_FANOUT)
#define CHILD_5 (CHILD_4 * LIST_FANOUT)
#define CHILD_6 (CHILD_5 * LIST_FANOUT)
#define CHILD_7 (CHILD_6 * LIST_FANOUT)
#define CHILD_8 (CHILD_7 * LIST_FANOUT)
#define CHILD_9 (CHILD_8 * LIST_FANOUT)
#define CHILD_10 (CHILD_9 * LIST_FANOUT)
#define CHILD_11 (CHILD_10 * LIST_FANOUT)
#define CHILD_12 (CHILD_11 * LIST_FANOUT)
#define RECIPROCAL(size) (UINT64_MAX / (size) + 1)
static const uint64_t reciprocal[LIST_HEIGHT_MAX + 1] = {
    0,
    RECIPROCAL(CHILD_1), RECIPROCAL(CHILD_2), RECIPROCAL(CHILD_3), RECIPROCAL(CHILD_4),
    RECIPROCAL(CHILD_5), RECIPROCAL(CHILD_6), RECIPROCAL(CHILD_7), RECIPROCAL(CHILD_8),
    RECIPROCAL(CHILD_9), RECIPROCAL(CHILD_10), RECIPROCAL(CHILD_11), RECIPROCAL(CHILD_12),
};

static __attribute__((noinline)) unsigned search_child(const sho_view *inner, unsigned count, uint64_t base,
                                                       uint64_t index)
{
    unsigned k = 0;
    for (unsigned end = count; end - k > 1;) {
        unsigned middle = (k + end) / 2;
        if (sho_view_word(inner, LIST_INNER_START(middle)) - base <= index)
            k = middle;
        else
            end = middle;
    }
    return k;
}

/* The child of an inner node (of `count` children) that holds element *index of it; leaves the
 * index in that child. */
SHO_INLINE unsigned find_child(const sho_view *inner, unsigned level, unsigned count, uint64_t *index)
{
    uint64_t base = sho_view_word(inner, LIST_INNER_START(0));
    uint64_t guess = (uint64_t)((unsigned __int128)(*index + base) * reciprocal[level] >> 64);
    unsigned k = guess < count ? (unsigned)guess : count - 1;
    uint64_t start = sho_view_word(inner, LIST_INNER_START(k)) - base;
    if (start > *index || (k + 1 < count && sho_view_word(inner, LIST_INNER_START(k + 1)) - base <= *index)) {
        k = search_child(inner, count, base, *index);
        start = sho_view_word(inner, LIST_INNER_START(k)) - base;
    }
    *index -= start;
    return k;
}

/* Where an element is. */
struct place {
    sho_view node; /* a leaf, or an INLINE head */
    unsigned word;
    bool fact;           /* that the element with this index is there is a fact of the node */
    unsigned head_words; /* word count of the head */
};

/* What find_near() says of an element that is in the tree and not in the tail. */
#define FAR 2
struct far {
    uint64_t root;
    uint64_t index;
    unsigned height;
};

SHO_INLINE int find_far(sho_session *s, const struct far *far, struct place *ret)
{
    sho_view *node = &ret->node;
    uint64_t off = far->root;
    uint64_t index = far->index;
    int rc;
    if (SHO_UNLIKELY(far->height > LIST_HEIGHT_MAX))
        return SHOBJ_ECORRUPT;
    for (unsigned level = far->height; level > 0; level--) {
        if (SHO_UNLIKELY((rc = sho_op_read(s, off, SHM_LIST_INNER, node))))
            return rc;
        uint64_t meta = sho_view_word(node, 0);
        if (SHO_UNLIKELY(!list_inner_ok(node, meta, level)))
            return SHOBJ_ECORRUPT;
        unsigned k = find_child(node, level, LIST_INNER_COUNT(meta), &index);
        off = sho_view_word(node, LIST_INNER_REF(k));
    }
    if (SHO_UNLIKELY((rc = sho_op_read(s, off, SHM_LIST_LEAF, node))))
        return rc;
    uint64_t meta = sho_view_word(node, 0);
    if (SHO_UNLIKELY(!list_leaf_ok(node, meta) || index >= LIST_LEAF_COUNT(meta)))
        return SHOBJ_ECORRUPT;
    ret->word = 1 + LIST_LEAF_FIRST(meta) + (unsigned)index;
    ret->fact = false;
    return 0;
}

/* The element with an index (negative: from the end), if it is in the head or in the tail.
 * ENOTFOUND. */
SHO_INLINE int find_near(sho_session *s, shobj_oid list, int64_t index, struct place *ret, struct far *ret_far)
{
    sho_view *node = &ret->node; /* the head, then what is below it */
    int rc = sho_op_read_object(s, list, SHM_LIST, node);
    if (SHO_UNLIKELY(rc))
        return rc;
    uint64_t meta = sho_view_word(node, 0);
    if (LIST_META_IS_INLINE(meta)) {
        uint64_t i = index < 0 ? (uint64_t)index + meta : (uint64_t)index;
        if (SHO_UNLIKELY(i >= meta))
            return SHOBJ_ENOTFOUND;
        if (SHO_UNLIKELY(meta >= node->word_count))
            return SHOBJ_ECORRUPT;
        ret->word = 1 + (unsigned)i;
        ret->fact = true; /* F1 */
        ret->head_words = node->word_count;
        return 0;
    }
    if (SHO_UNLIKELY(node->word_count < LIST_HEAD_WORDS))
        return SHOBJ_ECORRUPT;
    ret->head_words = node->word_count;
    ret_far->root = sho_view_word(node, LIST_HEAD_ROOT);
    ret_far->height = (unsigned)LIST_META_HEIGHT(meta);
    uint64_t tail_start = sho_view_word(node, LIST_HEAD_TAIL_START);
    uint64_t i = (uint64_t)index;
    if (index < 0 || i >= tail_start) {
        rc = sho_op_read(s, sho_view_word(node, LIST_HEAD_TAIL), SHM_LIST_LEAF, node);
        if (SHO_UNLIKELY(rc))
            return rc;
        uint64_t leaf_meta = sho_view_word(node, 0);
        if (SHO_UNLIKELY(!list_leaf_ok(node, leaf_meta)))
            return SHOBJ_ECORRUPT;
        uint64_t length = tail_start + LIST_LEAF_COUNT(leaf_meta);
        i = index < 0 ? (uint64_t)index + length : (uint64_t)index;
        if (SHO_UNLIKELY(i >= length))
            return SHOBJ_ENOTFOUND;
        if (i >= tail_start) {
            ret->word = 1 + LIST_LEAF_FIRST(leaf_meta) + (unsigned)(i - tail_start);
            ret->fact = index < 0 || (leaf_meta & LIST_SOLE); /* F3, F2 */
            return 0;
        }
    }
    ret_far->index = i;
    return FAR;
}

SHO_INLINE int find(sho_session *s, shobj_oid list, int64_t index, struct place *ret)
{
    struct far far = {0};
    int rc = find_near(s, list, index, ret, &far);
    return rc == FAR ? find_far(s, &far, ret) : rc;
}

/* ------------------------------------------------------------------------------------------ get, set */

/* Whoever walks through a list asks for the neighbours next: the way to their leaf is kept. Jumps keep nothing. */
static void keep_trail(sho_session *s, shobj_oid list, uint64_t index, const sho_view *leaf, unsigned word)
{
    sho_trail *trail = &((sho_op_state *)s)->trail;
    uint64_t step = index - trail->wanted + LIST_LEAF_CELLS;
    trail->wanted = index;
    if (step > 2 * LIST_LEAF_CELLS)
        return;
    uint64_t meta = sho_view_word(leaf, 0);
    unsigned first = 1 + LIST_LEAF_FIRST(meta);
    sho_trail_keep(s, list, index - (word - first), LIST_LEAF_COUNT(meta), leaf->words + first);
}

static int get_body(sho_session *s, shobj_oid list, int64_t index, shobj_value *ret_value)
{
    struct place at;
    struct far far = {0};
    int rc = find_near(s, list, index, &at, &far);
    if (rc == FAR) {
        rc = find_far(s, &far, &at);
        if (SHO_LIKELY(rc == 0 && at.node.write == NULL))
            keep_trail(s, list, far.index, &at.node, at.word);
    }
    if (SHO_UNLIKELY(rc))
        return rc;
    return sho_cell_decode(s, sho_view_word(&at.node, at.word), ret_value);
}

/* The element by the trail of an earlier read. False: it has to be looked for. */
SHO_INLINE bool get_by_trail(sho_session *s, shobj_oid list, int64_t index, shobj_value *ret_value)
{
    sho_op_state *o = (sho_op_state *)s;
    sho_trail *trail = &o->trail;
    uint64_t i = (uint64_t)index - trail->first;
    if (trail->object != list || i >= trail->count || o->tracked)
        return false;
    shobj_value value;
    int rc = sho_cell_decode(s, sho_load(trail->words + i), &value);
    if (SHO_UNLIKELY(!sho_trail_holds(trail) || rc)) {
        trail->object = 0;
        return false;
    }
    *ret_value = value;
    return true;
}

/* An int or float in the head of a short list: one node, and one word of it, outside of a transaction. False: read as usual. */
SHO_INLINE bool get_number(sho_session *s, shobj_oid list, int64_t index, shobj_value *ret_value)
{
    sho_peek head;
    if (!sho_op_peek(s, list, SHM_LIST, &head))
        return false;
    uint64_t meta = sho_load(&head.node->words[0]);
    if (!LIST_META_IS_INLINE(meta) || (uint64_t)index >= meta || meta >= head.word_count)
        return false;
    uint64_t cell = sho_load(&head.node->words[1 + index]);
    unsigned tag = SHO_CELL_TAG(cell);
    if ((tag != SHO_TAG_INT && tag < SHO_TAG_FLOAT) || SHO_UNLIKELY(!sho_op_peek_holds(&head)))
        return false;
    return sho_cell_decode(s, cell, ret_value) == 0;
}

SHOBJ_API int shobj_list_get(shobj_store *store, shobj_oid list, int64_t index, shobj_value *ret_value)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    sho_values_reset(s);
    if (get_number(s, list, index, ret_value) || get_by_trail(s, list, index, ret_value))
        return 0;
    shobj_value value;
    SHO_OP(s, rc, get_body(s, list, index, &value));
    if (SHO_LIKELY(rc == 0))
        *ret_value = value;
    return sho_list_result(store, list, rc);
}

static int set_body(sho_session *s, shobj_oid list, int64_t index, const shobj_value *value)
{
    struct place at;
    uint64_t cell;
    int rc = find(s, list, index, &at);
    if (SHO_UNLIKELY(rc) || (rc = sho_cell_encode(s, value, &cell)) || (rc = sho_op_write(s, &at.node)))
        return rc;
    uint64_t old = sho_view_word(&at.node, at.word);
    if (sho_cell_is_box(old) && (rc = sho_cell_release(s, old)))
        return rc;
    if (at.fact)
        sho_op_leaf(s);
    if (SHO_UNLIKELY((rc = sho_op_check(s))))
        return rc;
    sho_op_set(s, &at.node, at.word, cell);
    return 0;
}

SHOBJ_API int shobj_list_set(shobj_store *store, shobj_oid list, int64_t index, const shobj_value *value)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    SHO_OP(s, rc, set_body(s, list, index, value));
    return sho_list_result(store, list, rc);
}

/* ------------------------------------------------------------------------------------------ length, append */

static int len_body(sho_session *s, shobj_oid list, uint64_t *ret_count)
{
    sho_view node;
    int rc = sho_op_read_object(s, list, SHM_LIST, &node);
    if (SHO_UNLIKELY(rc))
        return rc;
    uint64_t meta = sho_view_word(&node, 0);
    if (LIST_META_IS_INLINE(meta)) {
        *ret_count = meta;
        return 0;
    }
    if (SHO_UNLIKELY(node.word_count < LIST_HEAD_WORDS))
        return SHOBJ_ECORRUPT;
    uint64_t tail_start = sho_view_word(&node, LIST_HEAD_TAIL_START);
    if (SHO_UNLIKELY((rc = sho_op_read(s, sho_view_word(&node, LIST_HEAD_TAIL), SHM_LIST_LEAF, &node))))
        return rc;
    *ret_count = tail_start + LIST_LEAF_COUNT(sho_view_word(&node, 0));
    return 0;
}

SHOBJ_API int shobj_list_len(shobj_store *store, shobj_oid list, uint64_t *ret_count)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    uint64_t count = 0;
    SHO_OP(s, rc, len_body(s, list, &count));
    if (SHO_LIKELY(rc == 0))
        *ret_count = count;
    return sho_list_result(store, list, rc);
}

static SHO_COLD int append_slowly(sho_session *s, const sho_view *head, const shobj_value *value)
{
    sho_list_edit e;
    int rc;
    if ((rc = sho_list_edit_begin(&e, s, head)) || (rc = sho_list_append_values(&e, value, 1)))
        return rc;
    return sho_list_finish(&e, true); /* F3, if the tail's cells only moved in it */
}

static int append_body(sho_session *s, shobj_oid list, const shobj_value *value)
{
    sho_view head;
    sho_view tail;
    sho_view *node = &head; /* that gets the cell */
    int rc = sho_op_read_object(s, list, SHM_LIST, &head);
    if (SHO_UNLIKELY(rc))
        return rc;
    uint64_t meta = sho_view_word(&head, 0);
    unsigned word;
    if (LIST_META_IS_INLINE(meta)) {
        word = 1 + (unsigned)meta;
        if (SHO_UNLIKELY(word >= head.word_count))
            return append_slowly(s, &head, value);
    } else {
        if (SHO_UNLIKELY(head.word_count < LIST_HEAD_WORDS))
            return SHOBJ_ECORRUPT;
        node = &tail;
        rc = sho_op_read(s, sho_view_word(&head, LIST_HEAD_TAIL), SHM_LIST_LEAF, node);
        if (SHO_UNLIKELY(rc))
            return rc;
        meta = sho_view_word(node, 0);
        if (SHO_UNLIKELY(!list_leaf_ok(node, meta) || !(meta & LIST_TAIL)))
            return SHOBJ_ECORRUPT;
        word = 1 + LIST_LEAF_FIRST(meta) + LIST_LEAF_COUNT(meta);
        if (SHO_UNLIKELY(word == LIST_LEAF_WORDS))
            return append_slowly(s, &head, value);
    }
    uint64_t cell;
    if (SHO_UNLIKELY((rc = sho_cell_encode(s, value, &cell)) || (rc = sho_op_write(s, node))))
        return rc;
    sho_op_leaf(s); /* F1, F3 */
    if (SHO_UNLIKELY((rc = sho_op_check(s))))
        return rc;
    sho_op_set(s, node, word, cell);
    sho_op_set(s, node, 0, meta + 1);
    return 0;
}

static int append_later_body(sho_session *s, shobj_oid list, const void *data)
{
    shobj_value value = {.type = SHO_VALUE_CELL, .i = (int64_t) * (const uint64_t *)data};
    return append_body(s, list, &value);
}

static int append_later(sho_session *s, shobj_oid list, const shobj_value *value)
{
    uint64_t cell;
    int rc = sho_cell_store(s, value, &cell);
    return rc ? rc : sho_defer(s, list, append_later_body, &cell, sizeof(cell));
}

SHOBJ_API int shobj_list_append(shobj_store *store, shobj_oid list, const shobj_value *value)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (sho_op_in_txn(s) && sho_may_defer(s, list, SHM_LIST))
        rc = append_later(s, list, value);
    else
        SHO_OP(s, rc, append_body(s, list, value));
    return sho_list_result(store, list, rc);
}

/* ------------------------------------------------------------------------------------------ insert, delete */

/* The length of the list under edit; no more than tail_start if the index is below that, so that
 * what is done further in front does not meet with those who append. */
static int edit_length(sho_list_edit *e, int64_t index, uint64_t *ret_length)
{
    *ret_length = e->tree ? e->tail_start : e->head->count;
    if (!e->tree || (index >= 0 && (uint64_t)index < e->tail_start))
        return 0;
    sho_list_node *tail;
    int rc = sho_list_edit_node(e, e->tail, 0, &tail);
    if (rc)
        return rc;
    if (!(tail->marks & LIST_TAIL) || e->tail_start > sho_list_length_max(e->s))
        return SHOBJ_ECORRUPT;
    *ret_length += tail->count;
    return 0;
}

/* Is what happens at element i, given as `index`, a fact of the head (F1), of a sole leaf (F2), of
 * the tail (F3)? */
static bool edit_is_fact(const sho_list_edit *e, int64_t index, uint64_t i)
{
    return !e->tree || e->height == 0 || (index < 0 && i >= e->tail_start);
}

static int insert_body(sho_session *s, shobj_oid list, int64_t index, const shobj_value *value)
{
    sho_view head;
    sho_list_edit e;
    uint64_t length;
    uint64_t cell;
    int rc;
    if ((rc = sho_op_read_object(s, list, SHM_LIST, &head)) || (rc = sho_list_edit_begin(&e, s, &head)) ||
        (rc = edit_length(&e, index, &length)))
        return rc;
    uint64_t i = index >= 0 ? (uint64_t)index : -(uint64_t)index > length ? 0 : length + (uint64_t)index;
    bool fact = edit_is_fact(&e, index, i);
    if (i >= length) {
        rc = sho_list_append_values(&e, value, 1);
        return rc ? rc : sho_list_finish(&e, fact);
    }
    if ((rc = sho_cell_encode(s, value, &cell)))
        return rc;
    if (e.tree) {
        rc = sho_list_tree_insert(&e, i, cell);
    } else if (length + 1 < head.word_count) {
        for (uint64_t j = length; j > i; j--)
            list_put(e.head, 1 + (unsigned)j, list_word(e.head, (unsigned)j));
        list_put(e.head, 1 + (unsigned)i, cell);
        list_put(e.head, 0, length + 1);
    } else {
        rc = sho_list_spill(&e, (unsigned)i, cell);
    }
    return rc ? rc : sho_list_finish(&e, fact);
}

SHOBJ_API int shobj_list_insert(shobj_store *store, shobj_oid list, int64_t index, const shobj_value *value)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    SHO_OP(s, rc, insert_body(s, list, index, value));
    return sho_list_result(store, list, rc);
}

/* Takes away the last cell of an INLINE head, or the first or last one of the tail, if that is all
 * there is to do. */
static int delete_at_end(sho_session *s, struct place *at, shobj_value *ret_value, bool *ret_done)
{
    uint64_t meta = sho_view_word(&at->node, 0);
    int rc;
    *ret_done = false;
    if (SHM_HEADER_KIND(at->node.header) == SHM_LIST) {
        if (at->word != meta)
            return 0;
        meta--;
    } else {
        unsigned count = LIST_LEAF_COUNT(meta) - 1;
        unsigned first = LIST_LEAF_FIRST(meta);
        if (at->word == 1 + first)
            first++;
        else if (at->word != 1 + first + count)
            return 0;
        if ((meta & LIST_SOLE) && list_fits_head(count, at->head_words))
            return 0;
        meta = LIST_LEAF_META(count, count == 0 ? 0 : first, LIST_LEAF_MARKS(meta));
    }
    uint64_t cell = sho_view_word(&at->node, at->word);
    if (ret_value != NULL && (rc = sho_cell_decode(s, cell, ret_value)))
        return rc;
    if ((rc = sho_op_write(s, &at->node)) || (sho_cell_is_box(cell) && (rc = sho_cell_release(s, cell))))
        return rc;
    if (at->fact)
        sho_op_leaf(s);
    if (SHO_UNLIKELY((rc = sho_op_check(s))))
        return rc;
    sho_op_set(s, &at->node, at->word, SHO_CELL_EMPTY);
    sho_op_set(s, &at->node, 0, meta);
    *ret_done = true;
    return 0;
}

static __attribute__((noinline)) int delete_inside(sho_session *s, shobj_oid list, int64_t index, bool tidy,
                                                   shobj_value *ret_value)
{
    sho_view head;
    sho_list_edit e;
    uint64_t length;
    uint64_t cell;
    int rc;
    if ((rc = sho_op_read_object(s, list, SHM_LIST, &head)) || (rc = sho_list_edit_begin(&e, s, &head)) ||
        (rc = edit_length(&e, index, &length)))
        return rc;
    uint64_t i = index < 0 ? (uint64_t)index + length : (uint64_t)index;
    if (i >= length)
        return SHOBJ_ENOTFOUND;
    bool fact = edit_is_fact(&e, index, i);
    e.tidy = tidy;
    if (e.tree) {
        if ((rc = sho_list_tree_remove(&e, i, &cell)))
            return rc;
    } else {
        cell = list_word(e.head, 1 + (unsigned)i);
        for (uint64_t j = i + 1; j < length; j++)
            list_put(e.head, (unsigned)j, list_word(e.head, 1 + (unsigned)j));
        list_put(e.head, (unsigned)length, SHO_CELL_EMPTY);
        list_put(e.head, 0, length - 1);
    }
    if (ret_value != NULL && (rc = sho_cell_decode(s, cell, ret_value)))
        return rc;
    if (sho_cell_is_box(cell) && (rc = sho_cell_release(s, cell)))
        return rc;
    return sho_list_finish(&e, fact);
}

static int delete_body(sho_session *s, shobj_oid list, int64_t index, bool tidy, shobj_value *ret_value)
{
    struct place at;
    struct far far = {0};
    bool done = false;
    int rc = find_near(s, list, index, &at, &far);
    if (rc == 0)
        rc = delete_at_end(s, &at, ret_value, &done);
    else if (rc == FAR)
        rc = 0;
    return rc != 0 || done ? rc : delete_inside(s, list, index, tidy, ret_value);
}

SHOBJ_API int shobj_list_del(shobj_store *store, shobj_oid list, int64_t index, shobj_value *ret_value)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    shobj_value value;
    if (ret_value != NULL)
        sho_values_reset(s);
    SHO_OP(s, rc, delete_body(s, list, index, true, ret_value != NULL ? &value : NULL));
    if (rc == SHOBJ_EFULL) /* of the log: there must be room for making room */
        SHO_OP(s, rc, delete_body(s, list, index, false, ret_value != NULL ? &value : NULL));
    if (rc == 0 && ret_value != NULL)
        *ret_value = value;
    return sho_list_result(store, list, rc);
}

/* ------------------------------------------------------------------------------------------ reading in bulk */

/* So few that a batch is one short operation. */
#define READ_LEAVES 8u

/* A walk from leaf to leaf. */
struct walk {
    sho_session *s;
    unsigned height; /* of where it began: 0 in the tail */
    sho_view inner[LIST_HEIGHT_MAX + 1]; /* by level; 0: the leaf */
    unsigned count[LIST_HEIGHT_MAX + 1];
    unsigned slot[LIST_HEIGHT_MAX + 1];
};

/* Reads the node at `off` of level `top` and those below it down to the leaf with element `index`
 * of it. */
static int walk_down(struct walk *w, uint64_t off, unsigned top, uint64_t index, unsigned *ret_pos)
{
    int rc;
    for (unsigned level = top; level > 0; level--) {
        sho_view *node = &w->inner[level];
        if ((rc = sho_op_read(w->s, off, SHM_LIST_INNER, node)))
            return rc;
        uint64_t meta = sho_view_word(node, 0);
        if (!list_inner_ok(node, meta, level))
            return SHOBJ_ECORRUPT;
        w->count[level] = LIST_INNER_COUNT(meta);
        w->slot[level] = find_child(node, level, w->count[level], &index);
        off = sho_view_word(node, LIST_INNER_REF(w->slot[level]));
    }
    *ret_pos = index < LIST_LEAF_CELLS ? (unsigned)index : LIST_LEAF_CELLS;
    return sho_op_read(w->s, off, SHM_LIST_LEAF, &w->inner[0]);
}

/* To the next leaf. */
static int walk_on(struct walk *w)
{
    unsigned level = 1;
    while (level <= w->height && w->slot[level] + 1 == w->count[level])
        level++;
    if (level > w->height)
        return SHOBJ_ECORRUPT; /* the leaf was the last one but had no TAIL mark */
    uint64_t off = sho_view_word(&w->inner[level], LIST_INNER_REF(++w->slot[level]));
    unsigned pos;
    return walk_down(w, off, level - 1, 0, &pos);
}

/* Copies cells of the walk's leaves from `pos` in the first one on. */
static int walk_copy(struct walk *w, unsigned pos, uint64_t *cells, size_t max, size_t *ret_count)
{
    size_t copied = 0;
    for (unsigned leaves = 1;; leaves++) {
        const sho_view *leaf = &w->inner[0];
        uint64_t meta = sho_view_word(leaf, 0);
        if (!list_leaf_ok(leaf, meta))
            return SHOBJ_ECORRUPT;
        unsigned end = 1 + LIST_LEAF_FIRST(meta) + LIST_LEAF_COUNT(meta);
        for (unsigned i = 1 + LIST_LEAF_FIRST(meta) + pos; i < end && copied < max; i++)
            cells[copied++] = sho_view_word(leaf, i);
        if (copied == max || leaves == READ_LEAVES || (meta & LIST_TAIL))
            break;
        int rc = walk_on(w);
        if (rc)
            return rc;
        pos = 0;
    }
    *ret_count = copied;
    return 0;
}

static int read_cells(sho_session *s, shobj_oid list, uint64_t first, uint64_t *cells, size_t max, size_t *ret_count)
{
    sho_view head;
    int rc = sho_op_read_object(s, list, SHM_LIST, &head);
    if (rc)
        return rc;
    uint64_t meta = sho_view_word(&head, 0);
    if (LIST_META_IS_INLINE(meta)) {
        if (meta >= head.word_count)
            return SHOBJ_ECORRUPT;
        size_t count = first < meta ? (size_t)(meta - first) : 0;
        count = count < max ? count : max;
        for (size_t i = 0; i < count; i++)
            cells[i] = sho_view_word(&head, (unsigned)(1 + first + i));
        *ret_count = count;
        return 0;
    }
    if (head.word_count < LIST_HEAD_WORDS || LIST_META_HEIGHT(meta) > LIST_HEIGHT_MAX)
        return SHOBJ_ECORRUPT;
    struct walk w;
    unsigned pos;
    uint64_t tail_start = sho_view_word(&head, LIST_HEAD_TAIL_START);
    bool in_tail = first >= tail_start;
    w.s = s;
    w.height = in_tail ? 0 : (unsigned)LIST_META_HEIGHT(meta);
    rc = walk_down(&w, sho_view_word(&head, in_tail ? LIST_HEAD_TAIL : LIST_HEAD_ROOT), w.height,
                   in_tail ? first - tail_start : first, &pos);
    if (rc == 0)
        rc = walk_copy(&w, pos, cells, max, ret_count);
    if (rc == 0 && !in_tail && max > 0 && *ret_count == 0)
        return SHOBJ_ECORRUPT;
    return rc;
}

static int read_body(sho_session *s, shobj_oid list, uint64_t first, shobj_value *values, size_t max, size_t *ret_count)
{
    uint64_t cells[READ_LEAVES * LIST_LEAF_CELLS];
    int rc = read_cells(s, list, first, cells, max < SHO_COUNT_OF(cells) ? max : SHO_COUNT_OF(cells), ret_count);
    for (size_t i = 0; rc == 0 && i < *ret_count; i++)
        rc = sho_cell_decode(s, cells[i], &values[i]);
    return rc;
}

SHOBJ_API int shobj_list_read(shobj_store *store, shobj_oid list, uint64_t first, shobj_value *ret_values, size_t max,
                              size_t *ret_count)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    sho_values_reset(s);
    size_t count = 0;
    SHO_OP(s, rc, read_body(s, list, first, ret_values, max, &count));
    if (rc == 0)
        *ret_count = count;
    return sho_list_result(store, list, rc);
}
