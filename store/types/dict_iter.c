/*
 * dict_iter.c: walking a dict in batches, while others change it.
 *
 * A position is the serial of the last entry given out: entries keep theirs wherever they move,
 * serials ascend along the list, and no serial comes twice; so "the entries above (below) it" never
 * gives one twice nor leaves one out. The chunk that had it is a hint. It holds as long as that
 * very node (offset and header, with its birth) is a chunk: chunks never change their dict or their
 * order, and a freed one has lost its kind or changed its birth. One that a clearing has left to the
 * collector has not (dict_clear.c), so the dict's head must be as it was, too: clearing writes it,
 * and little else does. Otherwise the list is walked from its nearer end.
 */
#include "types/dict.h"

#include "base/error.h"

/* One batch under way. */
typedef struct batch {
    shobj_dict_iter at; /* moves on */
    shobj_item *items;
    size_t max;
    size_t count;
    uint64_t head_version;
} batch;

SHOBJ_API void shobj_dict_iter_init(shobj_dict_iter *iter, shobj_oid dict, bool reverse)
{
    *iter = (shobj_dict_iter){.dict = dict, .reverse = reverse};
}

/* Takes what comes next out of one array, as far as there is room; `hint` becomes the place of what
 * was taken. */
static int take(sho_session *s, const sho_dict_array *array, batch *b)
{
    for (unsigned i = 0; i < array->used && b->count < b->max; i++) {
        unsigned slot = b->at.reverse ? array->used - 1 - i : i;
        uint64_t word = sho_dict_array_word(array, slot, 0);
        if (word == 0)
            continue;
        uint64_t serial = sho_dict_serial(array->limit, word);
        if (b->at.started && (b->at.reverse ? serial >= b->at.serial : serial <= b->at.serial))
            continue;
        shobj_item *item = &b->items[b->count];
        int rc = sho_cell_decode(s, sho_dict_array_word(array, slot, 1), &item->key);
        if (rc == 0)
            rc = sho_cell_decode(s, sho_dict_array_word(array, slot, 2), &item->value);
        if (rc)
            return rc;
        b->count++;
        b->at.serial = serial;
        b->at.started = true;
        b->at.hint_off = array->view->off;
        b->at.hint_header = array->view->header;
        b->at.hint_version = b->head_version;
    }
    return 0;
}

static int read_chunk(sho_session *s, const sho_view *from, uint64_t off, sho_view *ret_chunk,
                      sho_dict_array *ret_array)
{
    int rc = sho_dict_read(s, from, off, SHM_DICT_CHUNK, ret_chunk);
    return rc ? rc : sho_dict_chunk_array(ret_chunk, ret_array);
}

/* Steps to a neighbour; at the end, *ret_end. Limits are strictly monotonic along the list (I2): no
 * walk goes in a ring. */
static int step(sho_session *s, sho_view *chunk, sho_dict_array *array, bool forward, uint64_t *steps, bool *ret_end)
{
    uint64_t off = sho_view_word(chunk, forward ? SHO_DICT_CHUNK_NEXT : SHO_DICT_CHUNK_PREV);
    uint64_t limit = array->limit;
    *ret_end = off == 0;
    if (off == 0)
        return 0;
    sho_view from = *chunk;
    int rc = read_chunk(s, &from, off, chunk, array);
    if (rc)
        return rc;
    if (forward ? array->limit <= limit : array->limit >= limit)
        return sho_dict_damaged(chunk, "a chunk out of order");
    (*steps)++;
    return *steps & (*steps - 1) ? 0 : sho_op_check(s);
}

/* The first chunk whose limit is above the serial, else the tail; from the nearer end of the list. */
static int search(sho_session *s, const sho_view *order, uint64_t serial, sho_view *chunk, sho_dict_array *array)
{
    sho_view tail;
    sho_dict_array tail_array;
    bool end = false;
    uint64_t steps = 0;
    int rc = read_chunk(s, order, sho_view_word(order, SHO_DICT_ORDER_FIRST), chunk, array);
    if (rc || (rc = read_chunk(s, order, sho_view_word(order, SHO_DICT_ORDER_TAIL), &tail, &tail_array)))
        return rc;
    if (serial < array->limit / 2 + tail_array.limit / 2) {
        while (rc == 0 && !end && array->limit <= serial)
            rc = step(s, chunk, array, true, &steps, &end);
        return rc;
    }
    /* Backwards to the last chunk at or below the serial, and the one behind it. */
    sho_view behind = tail;
    sho_dict_array behind_array = tail_array;
    *chunk = tail;
    *array = tail_array;
    array->view = chunk;
    while (!end && array->limit > serial) {
        behind = *chunk;
        behind_array = *array;
        rc = step(s, chunk, array, false, &steps, &end);
        if (rc)
            return rc;
    }
    *chunk = behind;
    *array = behind_array;
    array->view = chunk;
    return 0;
}

/* The chunk of the hint. *ret_good: it still is one of the dict. */
static int read_hint(sho_session *s, const batch *b, sho_view *chunk, sho_dict_array *array, bool *ret_good)
{
    const shobj_dict_iter *at = &b->at;
    *ret_good = false;
    if (!at->started || at->hint_off == 0 || at->hint_version != b->head_version || b->head_version == 0)
        return 0;
    int rc = sho_op_read(s, at->hint_off, SHM_DICT_CHUNK, chunk);
    if (rc == SHOBJ_ECORRUPT)
        return 0; /* freed, and something else by now */
    if (rc || ((chunk->header ^ at->hint_header) & SHM_NODE_IDENTITY_MASK) != 0)
        return rc;
    *ret_good = true;
    return sho_dict_chunk_array(chunk, array);
}

static int iter_indexed(sho_session *s, const sho_view *head, batch *b)
{
    sho_view order, chunk;
    sho_dict_array array;
    bool good;
    bool end = false;
    uint64_t steps = 0;
    int rc = read_hint(s, b, &chunk, &array, &good);
    if (rc == 0 && !good) {
        rc = sho_dict_read_order(s, head, &order);
        if (rc)
            return rc;
        if (b->at.started)
            rc = search(s, &order, b->at.serial, &chunk, &array);
        else
            rc =
                read_chunk(s, &order, sho_view_word(&order, b->at.reverse ? SHO_DICT_ORDER_TAIL : SHO_DICT_ORDER_FIRST),
                           &chunk, &array);
    }
    while (rc == 0 && !end) {
        rc = take(s, &array, b);
        if (rc || b->count == b->max)
            return rc;
        rc = step(s, &chunk, &array, !b->at.reverse, &steps, &end);
    }
    return rc;
}

static int iter_body(sho_session *s, batch *b)
{
    sho_view head, chunk;
    sho_dict_array array;
    int rc = sho_dict_read_head(s, b->at.dict, &head);
    if (rc)
        return rc;
    b->head_version = sho_view_version(s, &head);
    switch (SHO_DICT_MODE(sho_view_word(&head, 0))) {
    case SHO_DICT_INLINE: rc = sho_dict_head_array(&head, &array); break;
    case SHO_DICT_CHUNK: rc = read_chunk(s, &head, sho_view_word(&head, SHO_DICT_HEAD_REF), &chunk, &array); break;
    case SHO_DICT_INDEXED: return iter_indexed(s, &head, b);
    default: return sho_dict_damaged(&head, "a dict of no known form");
    }
    return rc ? rc : take(s, &array, b);
}

/* Each run starts over. */
static int iter_again(sho_session *s, const shobj_dict_iter *iter, batch *b)
{
    sho_values_reset(s);
    b->at = *iter;
    b->count = 0;
    return iter_body(s, b);
}

SHOBJ_API int shobj_dict_iter_next(shobj_store *store, shobj_dict_iter *iter, shobj_item *ret_items, size_t max,
                                   size_t *ret_count)
{
    sho_session *s;
    batch b = {.items = ret_items, .max = max};
    if (max == 0)
        return sho_error(SHOBJ_EINVAL, "dict iteration: room for no item was given; give at least 1");
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    SHO_OP(s, rc, iter_again(s, iter, &b));
    if (rc)
        return rc;
    *iter = b.at;
    *ret_count = b.count;
    return 0;
}
