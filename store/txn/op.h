/*
 * op.h: the one interface on which container code is written. It serves single operations and transactions alike.
 *
 * An operation has two halves with one check between them:
 *
 *   gather   sho_op_read() nodes along a path that starts at an object's first node; read their words; announce with
 *            sho_op_write() the nodes that will change; take new nodes (sho_op_new) and boxes; note boxes to be freed
 *            (sho_op_release_box). Words are untrusted here: they may be torn, or belong to a block that was freed and
 *            reused. Bound every loop, never follow an index without a range check; on nonsense return SHOBJ_ECORRUPT:
 *            the check tells damage from a race.
 *   check    sho_op_check(): the orecs of all nodes of this operation are as they were read. From here on
 *            the words were true at one instant. Nothing after it may fail.
 *   apply    sho_op_set(), sho_op_free_node(): change shadows (overlays in the log) and own new nodes. Nobody sees
 *            anything before the commit.
 *
 * The body is run by SHO_OP() and may be run several times, so it must not change anything of its caller's before
 * its last return. A body that only reads needs no explicit check: SHO_OP() makes it before the result is believed,
 * whatever the result is (also an error such as ENOTFOUND).
 *
 *     static int len_body(sho_session *s, uint64_t off, uint64_t *ret)
 *     {
 *         sho_view head;
 *         int rc = sho_op_read(s, off, SHM_LIST, &head);
 *         if (rc)
 *             return rc;                       // SHO_RESTART or an error: just hand it on
 *         *ret = sho_view_word(&head, 0);
 *         return 0;
 *     }
 *     int rc;
 *     SHO_OP(s, rc, len_body(s, off, &n));
 *
 * Single operations (no transaction open): SHO_OP restarts the body on a race and commits what it wrote; a lone node
 * written by a body that called sho_op_leaf() takes the one-CAS path. In a transaction: reads and writes join
 * it; a lost race that the rest of the transaction survives restarts the body, otherwise SHOBJ_ECONFLICT.
 */
#ifndef SHO_OP_H
#define SHO_OP_H

#include "heap/layout.h"

typedef struct sho_session sho_session;

/* A body's request to be run again: the words it met were not of one instant. */
#define SHO_RESTART 1

/* A node as an operation sees it: the heap's words under this transaction's overlay. */
typedef struct sho_view {
    sho_word *words;         /* in the heap */
    struct shm_write *write; /* the overlay; NULL if this transaction has not written the node */
    uint64_t off;            /* offset of the node */
    uint64_t header;         /* its header word as read */
    uint32_t word_count;     /* payload words, 1..SHM_NODE_WORDS_MAX */
    uint32_t entry;          /* the library's: index in the session's table; SHO_ENTRY_NEW: an own new node */
} sho_view;

#define SHO_ENTRY_NEW_BIT 0x80000000u

/* Words that may be a reference to a box or an object (object/cell.h asserts it). */
#define SHO_WORD_MAY_REFER(word) (((word) >> 48 & ~1ULL) == 4)

typedef struct sho_past sho_past;

/* One node that the transaction (or the single operation) has touched. */
typedef struct sho_entry {
    struct shm_node *node;
    uint64_t version; /* the orec as read */
    union {
        struct shm_write *write; /* the redo record, NULL if it is not to change */
        sho_word *alloc;         /* of an own new node: the record that names it */
        sho_past *past;          /* if is_past */
    };
    uint32_t write_number; /* write_count before the redo record was made */
    bool is_new;           /* an own new node: changed in place */
    bool is_through;       /* locked and decided by another: `version` is the lock, `write` the other's redo record */
    bool is_past;          /* newer than the snapshot: `past` is what it was, gained from the node at `version` */
} sho_entry;

/* A path that was walked, kept to be used again: as long as no orec on it has changed, neither has what it led to, for
 * versions only grow. Private; never kept in a transaction, whose reads must all be in its table. */
#define SHO_TRAIL_STEPS 8
typedef struct sho_trail {
    shobj_oid object; /* 0: none */
    uint64_t first;   /* the elements [first, first + count) of the object stand in `words` */
    uint64_t count;
    const sho_word *words;
    uint64_t wanted; /* the element that was last looked for in vain */
    uint32_t step_count;
    struct {
        const struct shm_node *node;
        uint64_t version;
    } steps[SHO_TRAIL_STEPS];
} sho_trail;

/* The first part of every session: what the inline halves below work on. */
typedef struct sho_op_state {
    uint8_t *base;
    uint64_t data_off;
    uint64_t limit; /* a copy of the region's */
    sho_entry *entries;
    uint32_t entry_count;
    uint32_t entry_room;
    uint32_t restarts; /* of the current operation */
    bool tracked;      /* nodes must be found again: in a transaction, or since the operation announced a change */
    sho_trail trail;
    uint64_t *guesses; /* of dict.c; freed with the session */
} sho_op_state;

/* Word i of the node; the caller has checked i < view->word_count. */
SHO_INLINE uint64_t sho_view_word(const sho_view *view, unsigned i)
{
    if (SHO_UNLIKELY(view->write != NULL) && (sho_load(&view->write->mask) >> i & 1))
        return sho_load(&view->write->words[i]);
    return sho_load(&view->words[i]);
}

/* As long as it is the same, the node is; 0: it can't be told, since this transaction has changed it, or another just has. */
SHO_INLINE uint64_t sho_view_version(const sho_session *s, const sho_view *view)
{
    const sho_op_state *o = (const sho_op_state *)s;
    if (view->write != NULL || (view->entry & SHO_ENTRY_NEW_BIT))
        return 0;
    uint64_t version = o->entries[view->entry].version;
    return SHM_OREC_IS_LOCKED(version) ? 0 : version;
}

/* How many nodes a transaction has read so far; 0 outside of one. Was the one at off among the first so many? (UINT32_MAX: yes) */
SHO_INLINE uint32_t sho_entries_count(const sho_session *s)
{
    return ((const sho_op_state *)s)->entry_count;
}
bool sho_entries_have(const sho_session *s, uint64_t off, uint32_t first);

int sho_op_read_slow(sho_session *s, uint64_t off, unsigned kind, sho_view *ret_view);

/* Reads the node at `off`, which must be of `kind`. 0, SHO_RESTART, SHOBJ_ECORRUPT (bad offset or another kind:
 * damage unless the check says it was a race), SHOBJ_ECONFLICT (in a doomed transaction). */
SHO_INLINE int sho_op_read(sho_session *s, uint64_t off, unsigned kind, sho_view *ret_view)
{
    sho_op_state *o = (sho_op_state *)s;
    /* One comparison for both ends; nodes close to the file's end go the slow way. */
    if (SHO_UNLIKELY((off & 15) || off - o->data_off >= o->limit - o->data_off - SHM_NODE_BYTES(SHM_NODE_WORDS_MAX) ||
                     o->tracked || o->entry_count == o->entry_room))
        return sho_op_read_slow(s, off, kind, ret_view);
    struct shm_node *node = (struct shm_node *)(o->base + off);
    uint64_t orec = sho_load_acquire(&node->orec);
    uint64_t header = sho_load(&node->header);
    if (SHO_UNLIKELY(SHM_OREC_IS_LOCKED(orec) || SHM_HEADER_KIND(header) != kind ||
                     SHM_NODE_WORDS(header) - 1 >= SHM_NODE_WORDS_MAX))
        return sho_op_read_slow(s, off, kind, ret_view);
    uint32_t at = o->entry_count++;
    o->entries[at] = (sho_entry){.node = node, .version = orec};
    *ret_view = (sho_view){
        .words = node->words, .off = off, .header = header, .word_count = SHM_NODE_WORDS(header), .entry = at};
    return 0;
}

/* The header word of the node at off, range-checked only. ECORRUPT. */
int sho_op_node_header(const sho_session *s, uint64_t off, uint64_t *ret_header);

int sho_op_object_gone(shobj_oid oid);
/* The same where a transaction may have had it from what another has changed meanwhile: that one has lost. ECONFLICT, ESTALE. */
int sho_op_object_condemned(sho_session *s, shobj_oid oid);

/* ESTALE if the header is of another incarnation than the id. */
SHO_INLINE int sho_op_same_object(shobj_oid oid, uint64_t header)
{
    return SHO_LIKELY(SHM_OID_FITS(oid, header)) ? 0 : sho_op_object_gone(oid);
}

int sho_op_read_object_slow(sho_session *s, shobj_oid oid, unsigned kind, sho_view *ret_view);

/* The same for the first node of an object by its id: SHOBJ_ESTALE if the object has gone, SHOBJ_ETYPE if it is of another
 * kind (kind 0: any). */
SHO_INLINE int sho_op_read_object(sho_session *s, shobj_oid oid, unsigned kind, sho_view *ret_view)
{
    if (kind == 0)
        return sho_op_read_object_slow(s, oid, kind, ret_view);
    int rc = sho_op_read(s, SHM_OID_OFF(oid), kind, ret_view);
    if (SHO_UNLIKELY(rc == SHOBJ_ECORRUPT))
        return sho_op_read_object_slow(s, oid, kind, ret_view); /* it tells why */
    /* The birth is that of the header behind the orec which the check will look at again: a node that was freed and
     * taken for another object in between does not pass for the old one. */
    return rc ? rc : sho_op_same_object(oid, ret_view->header);
}

/* Announces a change of a node that was read in this operation (or is new: no effect). Makes room in the log. Read words of
 * the node through the same view afterwards. 0, SHOBJ_EFULL, SHOBJ_ENOMEM, SHOBJ_EREADONLY. */
int sho_op_write(sho_session *s, sho_view *view);

/* Announces that commit is to free the node, and nothing else: takes three words of the log. sho_op_free_node() in the
 * apply half. As sho_op_write(). */
int sho_op_retire(sho_session *s, sho_view *view);

/* A new node with at least `words` payload words (rounded up to its class; view->word_count tells), all 0. Its
 * words may be set at once (sho_op_set), before the check too. 0, SHOBJ_EFULL, SHOBJ_ENOMEM, SHOBJ_EREADONLY. */
int sho_op_new(sho_session *s, unsigned kind, unsigned words, sho_view *ret_view);

/* A new box with `bytes` of payload, uninitialised; fill it through the returned words. */
int sho_op_new_box(sho_session *s, unsigned kind, unsigned flags, uint64_t bytes, uint64_t *ret_off, sho_word **ret_words);

/* Gather half: a new object that is going to be returned stays alive until the thread's next call that returns values; in a
 * transaction, as long as that is open. EFULL. */
int sho_op_hold_new(sho_session *s, shobj_oid oid);

/* Notes (gather half) that commit is to free the box at off (not what its words own). Without room for the note the box is left to
 * the collector. So notes come last: what the operation can't do without has the log first. 0, SHOBJ_ENOMEM. */
int sho_op_release_box(sho_session *s, uint64_t off);

/* A box for reading: header and payload are inside the mapping and the kind is a box's. SHOBJ_ECORRUPT otherwise. */
int sho_op_box(sho_session *s, uint64_t off, uint64_t *ret_header, const sho_word **ret_words);

/* Keeps the path of the current operation, all of it, as the way to some elements of an object. */
SHO_INLINE void sho_trail_keep(sho_session *s, shobj_oid object, uint64_t first, uint64_t count, const sho_word *words)
{
    sho_op_state *o = (sho_op_state *)s;
    if (o->tracked || o->entry_count > SHO_TRAIL_STEPS)
        return;
    sho_trail *trail = &o->trail;
    for (uint32_t i = 0; i < o->entry_count; i++) {
        if (SHO_UNLIKELY(o->entries[i].is_through)) {
            trail->object = 0; /* its words are not all in the node */
            return;
        }
        trail->steps[i].node = o->entries[i].node;
        trail->steps[i].version = o->entries[i].version;
    }
    trail->step_count = o->entry_count;
    trail->object = object;
    trail->first = first;
    trail->count = count;
    trail->words = words;
}

/* After reading words through a trail: were they still what it led to? */
SHO_INLINE bool sho_trail_holds(const sho_trail *trail)
{
    sho_fence_acquire();
    for (uint32_t i = 0; i < trail->step_count; i++)
        if (SHO_UNLIKELY(sho_load_acquire(&trail->steps[i].node->orec) != trail->steps[i].version))
            return false;
    return true;
}

/* A lone look at an object's first node, outside of transactions: words that are read between the two calls stood together if both are
 * true. Of I1 and I2 (read.c) nothing else is left. */
typedef struct sho_peek {
    const struct shm_node *node;
    uint64_t orec;
    unsigned word_count;
} sho_peek;

SHO_INLINE bool sho_op_peek(sho_session *s, shobj_oid oid, unsigned kind, sho_peek *ret_peek)
{
    const sho_op_state *o = (const sho_op_state *)s;
    uint64_t off = SHM_OID_OFF(oid);
    if (SHO_UNLIKELY(off - o->data_off >= o->limit - o->data_off - SHM_NODE_BYTES(SHM_NODE_WORDS_MAX) || o->tracked))
        return false;
    const struct shm_node *node = (const struct shm_node *)(o->base + off);
    ret_peek->node = node;
    ret_peek->orec = sho_load_acquire(&node->orec);
    uint64_t header = sho_load(&node->header);
    ret_peek->word_count = SHM_NODE_WORDS(header);
    return SHO_LIKELY(!SHM_OREC_IS_LOCKED(ret_peek->orec) && SHM_HEADER_KIND(header) == kind && SHM_OID_FITS(oid, header) &&
                      SHM_NODE_WORDS(header) - 1 < SHM_NODE_WORDS_MAX);
}

SHO_INLINE bool sho_op_peek_holds(const sho_peek *peek)
{
    sho_fence_acquire();
    return sho_load_acquire(&peek->node->orec) == peek->orec;
}

int sho_op_check_slow(sho_session *s);

/* Are all orecs of this operation as they were read? 0, SHO_RESTART, SHOBJ_ECONFLICT. May be called more than once, for
 * example before a long copy. */
SHO_INLINE int sho_op_check(sho_session *s)
{
    const sho_op_state *o = (const sho_op_state *)s;
    if (SHO_UNLIKELY(o->tracked))
        return sho_op_check_slow(s);
    sho_fence_acquire();
    for (uint32_t i = 0; i < o->entry_count; i++)
        if (SHO_UNLIKELY(sho_load_acquire(&o->entries[i].node->orec) != o->entries[i].version))
            return SHO_RESTART;
    return 0;
}

/* After the check (new nodes: any time): word i becomes `word` when the transaction commits. */
void sho_op_set(sho_session *s, sho_view *view, unsigned i, uint64_t word);

/* After the check: commit frees the node, which was announced (sho_op_write, sho_op_retire) or is new. Boxes in its
 * cells are not freed with it. */
void sho_op_free_node(sho_session *s, sho_view *view);

/* The body promises: what it does to the one node it writes is right whatever happens to every other node, as long
 * as that one is unchanged ("a fact of the node"). */
void sho_op_leaf(sho_session *s);

/* Changes of an object that a transaction has not looked at (defer.c): if so, its body may be handed over, with a copy of
 * its data, to be run when the transaction commits, or looks at the object. 0, ENOMEM. Asked inside a transaction only. */
typedef int (*sho_deferred_body)(sho_session *s, shobj_oid object, const void *data);
bool sho_may_defer(const sho_session *s, shobj_oid object, unsigned kind);
int sho_defer(sho_session *s, shobj_oid object, sho_deferred_body body, const void *data, size_t bytes);
bool sho_op_in_txn(const sho_session *s);
bool sho_op_is_deferred(const sho_session *s); /* is such a body running? */

/* SHO_OP's halves. */
void sho_op_begin_slow(sho_session *s);
bool sho_op_again_slow(sho_session *s, int *rc);

/* Outside a transaction nothing is left over from the operation before. */
SHO_INLINE void sho_op_begin(sho_session *s)
{
    sho_op_state *o = (sho_op_state *)s;
    o->restarts = 0;
    if (SHO_UNLIKELY(o->tracked))
        sho_op_begin_slow(s);
}

/* True: the body must run again. A lone read that was of one instant is over here. */
SHO_INLINE bool sho_op_again(sho_session *s, int *rc)
{
    sho_op_state *o = (sho_op_state *)s;
    bool again = *rc != 0 && (*rc == SHO_RESTART || *rc == SHOBJ_EFULL);
    if (SHO_UNLIKELY(o->tracked || o->restarts != 0 || again || sho_op_check(s)))
        return sho_op_again_slow(s, rc);
    o->entry_count = 0;
    return false;
}

#define SHO_OP(s, rc, body)                                                                        \
    do {                                                                                           \
        sho_op_begin(s);                                                                           \
        do {                                                                                       \
            (rc) = (body);                                                                         \
        } while (sho_op_again((s), &(rc)));                                                        \
    } while (0)

/* Memory of the session for returned values, valid until the next sho_values_reset() (made by every exported function
 * that returns values, once, before its SHO_OP; a restarted body may call sho_values_reset() itself to start over).
 * Aligned to 8. NULL: out of memory. Earlier pieces do not move. */
void *sho_values_alloc(sho_session *s, size_t bytes);
void sho_values_reset(sho_session *s);

/* The calling thread's session on the store, attached if need be: 0 or an error. */
int sho_session_get(shobj_store *store, sho_session **ret_session);
shobj_store *sho_session_store(const sho_session *s);

#endif
