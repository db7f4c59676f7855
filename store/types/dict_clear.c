/*
 * dict_clear.c: all entries go.
 *
 * Head and order node are written, and every chunk. A chunk takes three words of the log. Boxes, groups and tries are freed as
 * far as the log has room for their names; nobody writes a group without having validated the way to it, so that what is left
 * of them is garbage like any other, for the next collection.
 *
 * In a full store there may be no room for the names of all chunks. Then these, too, are left to the collector, unwritten, but
 * for those that the transaction has read before. An update of a key that is there looks at its chunk alone (F3), and may
 * lock it when it is no part of the dict any more. Such an update was under way when the dict was cleared, so it counts
 * as made just before that: the value goes with the others, and nobody has seen the dict, or the key in it, without it.
 *
 *   - A transaction that has looked at the key and then clears, writes its chunk, and one of the two fails.
 *   - One that looks at the key and does not clear has the head among what it has read, as has any other reader; an iterator's hint
 *     counts only as long as the head is as it was (dict_iter.c).
 *   - The chunk's memory is safe: who has read it can't lock it when it has been freed, nor change it and free what it held when
 *     a collection has found it to be garbage (C7 in commit.c).
 *
 * A crash leaves nothing of its own: all is one commit.
 */
#include "base/error.h"
#include "txn/session.h"
#include "types/dict.h"

#define ALL UINT32_MAX /* chunks are named */

/* Nodes to be freed when the check has passed, in memory of the session. */
typedef struct frees {
    struct frees_block *blocks;
    uint64_t count;
    uint64_t count_max; /* damaged references may make a maze of the index */
    uint32_t named; /* chunks are named that are among the session's first entries, so many; the others are left */
} frees;

struct frees_block {
    struct frees_block *next;
    unsigned count;
    sho_view views[64];
};

/* A node was met: checks now and then that all this is not about freed and reused blocks. */
static int frees_count(sho_session *s, frees *f, const sho_view *view)
{
    if (SHO_UNLIKELY(f->count == f->count_max))
        return sho_dict_damaged(view, "an index larger than its dict");
    f->count++;
    return f->count & (f->count - 1) ? 0 : sho_op_check(s);
}

/* Announces the node and remembers it. */
static int frees_add(sho_session *s, frees *f, const sho_view *view)
{
    int rc = frees_count(s, f, view);
    if (rc)
        return rc;
    struct frees_block *block = f->blocks;
    if (block == NULL || block->count == SHO_COUNT_OF(block->views)) {
        block = sho_values_alloc(s, sizeof(*block));
        if (block == NULL)
            return sho_error(SHOBJ_ENOMEM, "out of memory while clearing a dict");
        block->next = f->blocks;
        block->count = 0;
        f->blocks = block;
    }
    sho_view *own = &block->views[block->count];
    *own = *view;
    rc = sho_op_retire(s, own);
    block->count += rc == 0;
    return rc;
}

static void frees_apply(sho_session *s, const frees *f)
{
    for (struct frees_block *block = f->blocks; block != NULL; block = block->next)
        for (unsigned i = 0; i < block->count; i++)
            sho_op_free_node(s, &block->views[i]);
}

static int release_array(sho_session *s, const sho_dict_array *array)
{
    for (unsigned slot = 0; slot < array->used; slot++) {
        int rc = sho_cell_release(s, sho_dict_array_word(array, slot, 1));
        if (rc == 0)
            rc = sho_cell_release(s, sho_dict_array_word(array, slot, 2));
        if (rc)
            return rc;
    }
    return 0;
}

/* Of the chunks that go by name. */
static int release_all(sho_session *s, const frees *f)
{
    for (struct frees_block *block = f->blocks; block != NULL; block = block->next)
        for (unsigned i = 0; i < block->count; i++) {
            sho_dict_array array;
            int rc = sho_dict_chunk_array(&block->views[i], &array);
            if (rc || (rc = release_array(s, &array)))
                return rc;
        }
    return 0;
}

static int gather_chunks(sho_session *s, const sho_view *order, frees *f)
{
    sho_view chunk = *order;
    uint64_t off = sho_view_word(order, SHO_DICT_ORDER_FIRST);
    uint64_t limit = 0;
    uint64_t live = 0;
    while (off != 0) {
        sho_view from = chunk;
        sho_dict_array array;
        bool is_left = !sho_entries_have(s, off, f->named);
        int rc = sho_dict_read(s, &from, off, SHM_DICT_CHUNK, &chunk);
        if (rc || (rc = sho_dict_chunk_array(&chunk, &array)))
            return rc;
        if (array.limit <= limit)
            return sho_dict_damaged(&chunk, "a chunk out of order");
        if ((rc = is_left ? frees_count(s, f, &chunk) : frees_add(s, f, &chunk)))
            return rc;
        limit = array.limit;
        live += array.live;
        off = sho_view_word(&chunk, SHO_DICT_CHUNK_NEXT);
    }
    if (live != sho_view_word(order, SHO_DICT_ORDER_COUNT))
        return sho_dict_damaged(order, "a count that is not the number of entries");
    return 0;
}

static int gather_group(sho_session *s, const sho_view *from, uint64_t off, frees *f)
{
    sho_view at = *from;
    for (; off != 0; off = SHO_DICT_GROUP_SPILL(sho_view_word(&at, 0))) {
        sho_view before = at;
        int rc = sho_dict_read_group(s, &before, off, &at);
        if (rc)
            return rc;
        rc = frees_add(s, f, &at);
        if (rc)
            return rc;
    }
    return 0;
}

static int gather_index(sho_session *s, const sho_view *from, uint64_t ref, unsigned level, frees *f)
{
    if (!(ref & SHO_DICT_REF_TRIE))
        return gather_group(s, from, ref, f);
    if (level == SHO_DICT_LEVELS)
        return sho_dict_damaged(from, "a trie too deep");
    sho_view trie;
    int rc = sho_dict_read(s, from, SHO_DICT_REF_OFF(ref), SHM_DICT_TRIE, &trie);
    if (rc || (rc = frees_add(s, f, &trie)))
        return rc;
    uint64_t last = 0;
    for (unsigned i = 0; i < trie.word_count; i++) {
        uint64_t child = sho_view_word(&trie, i);
        if (child == last)
            continue;
        rc = gather_index(s, &trie, child, level + 1, f);
        if (rc)
            return rc;
        last = child;
    }
    return 0;
}

static int empty_indexed(sho_session *s, sho_view *head, uint32_t named)
{
    frees chunks = {.count_max = UINT64_MAX, .named = named};
    sho_view order;
    int rc = sho_op_write(s, head);
    if (rc || (rc = sho_dict_read_order(s, head, &order)) || (rc = sho_op_retire(s, &order)))
        return rc;
    if (named > 0 && (rc = gather_chunks(s, &order, &chunks)))
        return rc;
    /* Far more than an index ever has: a group has an entry, or a neighbour that has. */
    frees index = {.count_max = chunks.count + 4096 + 64 * sho_view_word(&order, SHO_DICT_ORDER_COUNT)};
    rc = named != ALL ? 0 : gather_index(s, head, sho_view_word(head, SHO_DICT_HEAD_REF), 0, &index);
    if (rc == SHOBJ_EFULL)
        rc = 0; /* what has no name in the log is left to the collector */
    if (rc || (rc = release_all(s, &chunks)) || (rc = sho_op_check(s)))
        return rc;
    sho_dict_head_clear(s, head, sho_view_word(&order, SHO_DICT_ORDER_SERIAL));
    sho_op_free_node(s, &order);
    frees_apply(s, &chunks);
    frees_apply(s, &index);
    return 0;
}

/* The array of a head or of a sole chunk, and the chunk with it. */
static int empty_array(sho_session *s, sho_view *head, sho_view *chunk, const sho_dict_array *array)
{
    int rc = sho_op_write(s, head);
    if (rc == 0 && chunk != NULL)
        rc = sho_op_write(s, chunk);
    if (rc || (rc = release_array(s, array)))
        return rc;
    if (chunk == NULL)
        sho_op_leaf(s); /* F1 */
    rc = sho_op_check(s);
    if (rc)
        return rc;
    sho_dict_head_clear(s, head, array->limit);
    if (chunk != NULL)
        sho_op_free_node(s, chunk);
    return 0;
}

static int empty(sho_session *s, sho_view *head, uint32_t named)
{
    sho_dict_array array;
    sho_view chunk;
    int rc;
    switch (SHO_DICT_MODE(sho_view_word(head, 0))) {
    case SHO_DICT_INLINE:
        rc = sho_dict_head_array(head, &array);
        return rc || array.used == 0 ? rc : empty_array(s, head, NULL, &array);
    case SHO_DICT_CHUNK:
        rc = sho_dict_read(s, head, sho_view_word(head, SHO_DICT_HEAD_REF), SHM_DICT_CHUNK, &chunk);
        if (rc == 0)
            rc = sho_dict_chunk_array(&chunk, &array);
        return rc ? rc : empty_array(s, head, &chunk, &array);
    case SHO_DICT_INDEXED: return empty_indexed(s, head, named);
    default: return sho_dict_damaged(head, "a dict of no known form");
    }
}

int sho_dict_empty_last(sho_session *s, sho_view *head)
{
    return empty(s, head, ALL);
}

/* ------------------------------------------------------------------------------------- clearing */

static int clear_body(sho_session *s, shobj_oid dict, uint32_t named)
{
    sho_view head;
    int rc = sho_dict_read_head(s, dict, &head);
    return rc ? rc : empty(s, &head, named);
}

SHOBJ_API int shobj_dict_clear(shobj_store *store, shobj_oid dict)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    uint32_t read_before = sho_entries_count(s);
    sho_values_reset(s);
    SHO_OP(s, rc, clear_body(s, dict, ALL));
    if (rc == SHOBJ_EFULL) /* of the log */
        SHO_OP(s, rc, clear_body(s, dict, read_before));
    return rc;
}
