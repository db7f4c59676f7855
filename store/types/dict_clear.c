/*
 * dict_clear.c: all entries go.
 *
 * Head and order node are written, and every chunk: who updates a key writes its chunk alone (F3), and is to be told. A
 * chunk takes three words of the log. Boxes, groups and tries are freed as far as the log has room for their names;
 * nobody writes a group without having validated the way to it, so that what is left of them is garbage like any
 * other, for the next collection.
 *
 * In a full store there may be no room for the names of all chunks. Then they are marked SHUT first, a few at a time, in
 * commits of their own that change nothing else: from then on whoever updates a key of such a chunk validates the way to
 * it, as he does for all other changes. (Whoever has read the chunk before finds another version.) What reads all chunks and
 * finds them shut may then empty the dict by its head, and leave the chunks to the collector too:
 *
 *   - an update that has read its chunk before it was shut fails at the chunk, or has committed before; then the version
 *     that the clearing has read, and validates, is a later one;
 *   - one that has read it afterwards validates the head behind its locks, and fails there, or commits first, and the
 *     clearing fails at the chunk's version;
 *   - readers have the head on their path, or, with an iterator's hint, see the mark (dict_iter.c).
 *
 * Inside a transaction another thread marks them, in a session of its own; if the transaction has read one of them before,
 * it loses, and finds them shut when it is run again. Chunks that others have opened meanwhile, by inserting or deleting, are
 * few, and freed by name.
 *
 * A crash leaves chunks that are shut: a slower update, until something else changes in them.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "txn/session.h"
#include "types/dict.h"

/* Nodes to be freed when the check has passed, in memory of the session. */
typedef struct frees {
    struct frees_block *blocks;
    uint64_t count;
    uint64_t count_max; /* damaged references may make a maze of the index */
    bool leaves; /* chunks that are shut to the collector */
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
        int rc = sho_dict_read(s, &from, off, SHM_DICT_CHUNK, &chunk);
        if (rc || (rc = sho_dict_chunk_array(&chunk, &array)))
            return rc;
        if (array.limit <= limit)
            return sho_dict_damaged(&chunk, "a chunk out of order");
        bool is_left = f->leaves && SHO_DICT_CHUNK_SHUT(sho_view_word(&chunk, 0));
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

static int empty_indexed(sho_session *s, sho_view *head, bool leaves)
{
    frees chunks = {.count_max = UINT64_MAX, .leaves = leaves};
    sho_view order;
    int rc = sho_op_write(s, head);
    if (rc || (rc = sho_dict_read_order(s, head, &order)) || (rc = sho_op_retire(s, &order)) ||
        (rc = gather_chunks(s, &order, &chunks)))
        return rc;
    /* Far more than an index ever has: a group has an entry, or a neighbour that has. */
    frees index = {.count_max = chunks.count + 4096 + 64 * sho_view_word(&order, SHO_DICT_ORDER_COUNT)};
    rc = leaves ? 0 : gather_index(s, head, sho_view_word(head, SHO_DICT_HEAD_REF), 0, &index);
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

static int empty(sho_session *s, sho_view *head, bool leaves)
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
    case SHO_DICT_INDEXED: return empty_indexed(s, head, leaves);
    default: return sho_dict_damaged(head, "a dict of no known form");
    }
}

int sho_dict_empty_last(sho_session *s, sho_view *head)
{
    return empty(s, head, false);
}

/* ------------------------------------------------------------------------------------- shutting */

#define SHUT_MAX 32u /* chunks of one commit */

struct shutting {
    shobj_oid dict;
    uint64_t at; /* the chunk to go on with; 0: the first one */
    uint64_t next; /* the same for the commit after this one */
    unsigned count;
    sho_view views[SHUT_MAX];
};

/* The chunk at `at`, if it still is one of this dict: then the index leads to it. *ret_good tells. */
static int find_chunk(sho_session *s, const sho_view *head, uint64_t at, sho_view *chunk, bool *ret_good)
{
    sho_dict_array array;
    sho_dict_path path;
    unsigned slot = 0;
    *ret_good = false;
    int rc = sho_op_read(s, at, SHM_DICT_CHUNK, chunk);
    if (rc == 0)
        rc = sho_dict_chunk_array(chunk, &array);
    if (rc)
        return rc == SHOBJ_ECORRUPT ? 0 : rc;
    while (slot < array.used && sho_dict_array_word(&array, slot, 0) == 0)
        slot++;
    if (slot == array.used)
        return 0;
    path.head = *head;
    rc = sho_dict_find_place(s, &path, SHO_DICT_ENTRY_HASH(sho_dict_array_word(&array, slot, 0)),
                             SHO_DICT_PLACE(at, slot));
    *ret_good = rc == 0;
    return rc == SHOBJ_ECORRUPT ? 0 : rc;
}

static int shut_body(sho_session *s, struct shutting *sh)
{
    sho_view head, order, chunk;
    bool good = false;
    uint64_t steps = 0;
    int rc = sho_dict_read_head(s, sh->dict, &head);
    sh->count = 0;
    sh->next = 0;
    if (rc || SHO_DICT_MODE(sho_view_word(&head, 0)) != SHO_DICT_INDEXED)
        return rc;
    if (sh->at != 0 && (rc = find_chunk(s, &head, sh->at, &chunk, &good)))
        return rc;
    if (!good && ((rc = sho_dict_read_order(s, &head, &order)) ||
                  (rc = sho_dict_read(s, &order, sho_view_word(&order, SHO_DICT_ORDER_FIRST), SHM_DICT_CHUNK, &chunk))))
        return rc;
    for (;;) {
        if (!SHO_DICT_CHUNK_SHUT(sho_view_word(&chunk, 0))) {
            sh->views[sh->count] = chunk;
            rc = sho_op_write(s, &sh->views[sh->count]);
            if (rc == SHOBJ_EFULL && sh->count > 0)
                break;
            if (rc)
                return rc;
            sh->count++;
        }
        sh->next = sho_view_word(&chunk, SHO_DICT_CHUNK_NEXT);
        if (sh->next == 0 || sh->count == SHUT_MAX)
            break;
        sho_view from = chunk;
        uint64_t limit = sho_view_word(&chunk, SHO_DICT_CHUNK_LIMIT);
        if ((rc = sho_dict_read(s, &from, sh->next, SHM_DICT_CHUNK, &chunk)))
            return rc;
        if (sho_view_word(&chunk, SHO_DICT_CHUNK_LIMIT) <= limit)
            return sho_dict_damaged(&chunk, "a chunk out of order");
        steps++;
        if ((steps & (steps - 1)) == 0 && (rc = sho_op_check(s)))
            return rc;
    }
    if ((rc = sho_op_check(s)))
        return rc;
    for (unsigned i = 0; i < sh->count; i++)
        sho_op_set(s, &sh->views[i], 0, sho_view_word(&sh->views[i], 0) | SHO_DICT_SHUT_BIT);
    return 0;
}

/* All chunks, from the first one to the last. */
static int shut(sho_session *s, shobj_oid dict)
{
    struct shutting sh = {.dict = dict};
    int rc;
    do {
        sh.at = sh.next;
        SHO_OP(s, rc, shut_body(s, &sh));
        (void)sho_fault("dict.shut");
    } while (rc == 0 && sh.next != 0);
    return rc;
}

struct helper {
    shobj_store *store;
    shobj_oid dict;
    uint64_t deadline_ns;
    int rc;
};

static void *help(void *arg)
{
    struct helper *helper = arg;
    sho_session *s;
    helper->rc = sho_session_get(helper->store, &s);
    if (helper->rc == 0) {
        s->bare = true;
        s->deadline_ns = helper->deadline_ns;
        helper->rc = shut(s, helper->dict);
    }
    return NULL;
}

/* The thread's session is in the middle of a transaction. Who has the right of way lets go of it: the other would wait for that. */
static int shut_beside(sho_session *s, shobj_oid dict)
{
    struct helper helper = {.store = sho_session_store(s), .dict = dict, .deadline_ns = s->deadline_ns};
    pthread_t thread;
    sigset_t all, before;
    if (s->token != 0)
        sho_elder_leave(s);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's threads */
    int rc = pthread_create(&thread, NULL, help, &helper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return sho_error(SHOBJ_ENOMEM, "clearing a dict of %s: no thread could be made: %s", s->region->path, strerror(rc));
    void *token = sho_wait_enter(s);
    pthread_join(thread, NULL);
    sho_wait_leave(s, token);
    return helper.rc;
}

/* ------------------------------------------------------------------------------------- clearing */

static int clear_body(sho_session *s, shobj_oid dict, bool leaves)
{
    sho_view head;
    int rc = sho_dict_read_head(s, dict, &head);
    return rc ? rc : empty(s, &head, leaves);
}

SHOBJ_API int shobj_dict_clear(shobj_store *store, shobj_oid dict)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    sho_values_reset(s);
    SHO_OP(s, rc, clear_body(s, dict, false));
    if (rc != SHOBJ_EFULL) /* of the log */
        return rc;
    rc = sho_op_in_txn(s) ? shut_beside(s, dict) : shut(s, dict);
    if (rc == 0)
        SHO_OP(s, rc, clear_body(s, dict, true));
    return rc;
}
