/*
 * session.h: a thread's presence in a store. All of it is private to the process; what others may see of it is in its slot.
 */
#ifndef SHO_SESSION_H
#define SHO_SESSION_H

#include "base/error.h"
#include "heap/peer.h"
#include "heap/slab.h"
#include "txn/op.h"

struct shobj_store {
    sho_region *region;
    sho_peer peer;           /* of a writable mapping */
    bool readonly;           /* changes are refused */
    unsigned open_count;     /* shobj_open() less shobj_close(); guarded by the global mutex */
    sho_session *sessions;   /* of all threads; guarded by the global mutex */
    struct shobj_store *next; /* in the process's table of mappings; guarded by the global mutex */
    void *(*wait_enter)(void);
    void (*wait_leave)(void *);
    bool (*wait_interrupted)(void);
    struct shobj_pins *pins;          /* its tables; guarded by the global mutex */
    sho_peer child_peer;              /* across fork(): the record that was made for the child */
    struct sho_collector *collector;  /* its background thread; guarded by the global mutex */
#ifdef SHOBJ_FAULTS
    shobj_store *twin; /* with SHOBJ_TWIN set: another mapping of the file; calls take either by turns */
#endif
};

typedef struct sho_log_pos {
    uint32_t segment;
    uint32_t used; /* bytes in that segment */
} sho_log_pos;

/* What a word was before a nested block changed it. */
typedef struct sho_undo {
    struct shm_write *write; /* NULL: a word of an own new node */
    sho_word *word;
    uint64_t old;
    uint32_t bit; /* of write's mask; 64: the `frees` flag in base */
    bool was_set;
} sho_undo;

typedef struct sho_savepoint {
    sho_log_pos log;
    uint32_t undo_count;
    uint32_t deferred_count;
} sho_savepoint;

/* How far a session had come: what is undone from there. */
typedef struct sho_mark {
    sho_log_pos log;
    uint32_t entry_count, write_count, new_count, free_count, undo_count;
} sho_mark;

/* A change that is made at the transaction's end (defer.c). */
typedef struct sho_deferred {
    shobj_oid object;
    sho_deferred_body body;
    void *data;
    unsigned made_at; /* depth of the block that has made it; 0: still to be made */
} sho_deferred;

/* Something to be called when the transaction is over. */
typedef struct sho_end {
    void (*fn)(shobj_store *store, void *arg, bool committed);
    void *arg;
    unsigned depth; /* of the block that it stands or falls with */
} sho_end;

/* A node as it was at a snapshot (past.c). */
struct sho_past {
    uint64_t version; /* of the node that this was gained from */
    uint64_t header;
    uint64_t undone; /* bit i: words[i] is an older one than the node's */
    uint32_t word_count;
    sho_word words[SHM_NODE_WORDS_MAX];
};

typedef struct sho_past_block {
    struct sho_past_block *next;
    size_t used;
    max_align_t data[];
} sho_past_block;

typedef struct sho_value_block {
    struct sho_value_block *next;
    size_t bytes;
    max_align_t data[];
} sho_value_block;

struct sho_session {
    sho_op_state o; /* first: op.h looks at it through the session's address */

    shobj_store *store; /* NULL: the store was closed under this thread */
    uint64_t gc_seen;   /* the collector's cycle and phase when a transaction's log was last looked at */
    uint32_t hold_count; /* a copy of the slot's */
    uint32_t hold_next;  /* the one behind the last that was let go of */
    sho_region *region;
    struct shm_slot *slot; /* NULL on a mapping without write permission */
    unsigned slot_index;
    uint64_t seq;
    uint64_t rv;     /* the snapshot's clock value, in a transaction */
    unsigned depth;  /* open blocks; 0: single operations */
    bool doomed;     /* the transaction can't commit any more */
    bool reading;    /* the transaction may not change anything */
    bool looks_back; /* it reads what is newer than its snapshot as it was (past.c) */
    bool looked_back; /* it has done so: its snapshot stays where it is */
    uint32_t past_executions; /* so many more transactions for reading are to look back */
    sho_past_block *past_blocks;
    uint32_t failures; /* of transactions in a row */
    uint64_t ticket; /* drawn at the first of them; 0: none */
    uint64_t token;  /* the right of way, while it was taken for this execution; 0: not */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
    uint32_t wake_seen;
    bool mapped;     /* `map` holds all entries */
    struct sho_helper *helper; /* for the moments in which it helps a collection along; NULL: not yet */
    bool bare;       /* its thread knows nothing of the language runtime, or has let go of it already: no hooks */
    bool log_reserved; /* the log has segments of the reserve: back with them as soon as it is empty */
    bool made_room;  /* this operation has had a collection made already, for room */
    bool leaf;       /* sho_op_leaf() of this operation */
    bool boxes;      /* it has read a box */
    bool moved;      /* an operation of this transaction has changed several nodes: cells may have moved between them */
    uint32_t announced; /* changes of nodes that it has announced; they may have their records from before */

    uint32_t *path; /* in a transaction: entries that the current operation touched */
    uint32_t path_count;
    uint32_t path_room;
    uint32_t *map; /* open addressing: entry + 1 by offset */
    uint32_t map_room;

    uint32_t write_count; /* entries with a redo record */
    uint32_t new_count;   /* blocks taken since the log was empty */
    uint32_t free_count;  /* FREE records */
    sho_log_pos log;
    uint32_t segment_index; /* the segment that `segment_*` describes */
    sho_word *segment_records;
    uint32_t segment_bytes;

    sho_mark op; /* where the current operation began */

    sho_deferred *deferred;
    uint32_t deferred_count, deferred_room;
    uint32_t deferred_pending; /* those still to be made */
    uint64_t deferred_wanted;  /* the current operation has to wait for what is noted for the object there; 0: not */
    bool deferring;            /* one is being made */
    uint32_t late_from;        /* entries from here on are those of the changes made at the end */

    sho_savepoint *savepoints;
    uint32_t savepoint_room;
    sho_undo *undo;
    uint32_t undo_count, undo_room;
    bool undo_lost;

    sho_end *ends;
    uint32_t end_count, end_room;

    uint32_t *order; /* entries to lock, by offset; scratch of commit */
    uint32_t order_room;

    sho_heap heap;

    sho_value_block *values; /* newest block first */
    size_t values_used;

    sho_session *next_in_store;
    sho_session *next_in_thread;
};

/* ------------------------------------------------------------------------------------------ session.c */

/* Guards the tables of mappings and sessions of this process; held across fork(). Never held while waiting for anybody. */
extern shobj_store *sho_mappings;
void sho_global_lock(void);
void sho_global_unlock(void);

/* With the global mutex held: ends all sessions of a store, of whatever thread. */
void sho_sessions_close(shobj_store *store);

/* Gives the memory of returned values back. */
void sho_values_free(sho_session *s);

/* Ends every session's private hold and leaves the slot free; the log has been undone. */
void sho_slot_release(struct shm_slot *slot);

/* Around waits: lets the language runtime run. */
SHO_INLINE void *sho_wait_enter(const sho_session *s)
{
    return s->store->wait_enter != NULL && !s->bare ? s->store->wait_enter() : NULL;
}
SHO_INLINE void sho_wait_leave(const sho_session *s, void *token)
{
    if (s->store->wait_leave != NULL && !s->bare)
        s->store->wait_leave(token);
}

/* ------------------------------------------------------------------------------------------ what a collection asks for
 *
 * From arming to the end of marking, references that go to a place which the collector may have read already are shaded: made
 * known to it. The engine says where and when; how is told in gc/shade.c, above. */

void sho_barrier_object_slow(sho_session *s, uint64_t gc, uint64_t off);
void sho_barrier_log_slow(sho_session *s, uint64_t gc);
bool sho_barrier_commit_slow(sho_session *s, uint64_t gc);

SHO_INLINE uint64_t sho_gc_word(const sho_session *s)
{
    return sho_load_acquire(&s->region->sb->gc);
}

/* A reference to the object at off has just been stored into the log or into what is held. */
SHO_INLINE void sho_barrier_object(sho_session *s, uint64_t off)
{
    sho_region_light_barrier(s->region); /* pairs with sho_region_barrier() of who arms */
    uint64_t gc = sho_gc_word(s);
    if (SHO_UNLIKELY(SHM_GC_IS_MARKING(gc)) && s->slot != NULL)
        sho_barrier_object_slow(s, gc, off);
}

/* Nothing decided, and the state tells of a commit, with a barrier behind it: arming looks at the state, we at the collector's word.
 * All that the own log says. False: a node that is to change is garbage, condemned already; nothing may be done to it. */
SHO_INLINE bool sho_barrier_commit(sho_session *s)
{
    uint64_t gc = sho_gc_word(s);
    return SHO_LIKELY(SHM_GC_PHASE(gc) == SHM_GC_IDLE) || sho_barrier_commit_slow(s, gc);
}

/* An operation has changed the log of a transaction that stays open: what came into it before the cycle began, or while it did. */
SHO_INLINE void sho_barrier_operation(sho_session *s)
{
    sho_region_light_barrier(s->region);
    uint64_t gc = sho_gc_word(s);
    uint64_t now = SHM_GC(SHM_GC_CYCLE(gc), 0, SHM_GC_PHASE(gc));
    if (SHO_LIKELY(now == s->gc_seen))
        return;
    s->gc_seen = now;
    if (SHM_GC_IS_MARKING(gc))
        sho_barrier_log_slow(s, gc);
}

/* It is time to look whether a collection is due, in the background; or if one is under way that does not keep up, to help it for a
 * moment (gc/background.c). Between operations, outside of transactions. */
void sho_collection_wanted(sho_session *s);
void sho_helper_free(struct sho_helper *helper);
SHO_INLINE void sho_collection_ask(sho_session *s)
{
    if (SHO_UNLIKELY(atomic_load_explicit(&s->region->wants_collection, memory_order_relaxed)))
        sho_collection_wanted(s);
}

/* The store is full: helps a whole collection, here and now, outside of any operation's gather half. True if it has freed something. */
bool sho_collect_for_room(sho_session *s);

/* Around fork(), with the global mutex held: a record for the child, with what its proxies will keep alive (gc/pin.c). */
void sho_pins_before_fork(shobj_store *store, sho_session *s);
void sho_pins_after_fork(shobj_store *store, bool in_child);
/* The process is about to leave, with the global mutex held: its table goes. */
void sho_pins_drop(shobj_store *store);

/* ------------------------------------------------------------------------------------------ hold.c */

int sho_hold_more(sho_session *s, shobj_oid oid);
void sho_hold_drop(sho_session *s);
/* Lets go of one of those that the slot has. False: it has no such. */
bool sho_hold_release(sho_session *s, shobj_oid oid);

/* Gather half: what is about to be returned stays alive until the next call that returns values. Before the operation's check, so
 * that it was reachable when it was held. EFULL. */
SHO_INLINE int sho_hold(sho_session *s, shobj_oid oid)
{
    if (SHO_UNLIKELY(s->slot == NULL))
        return 0;
    uint32_t count = s->hold_count;
    if (SHO_UNLIKELY(count >= SHM_HOLD_MAX))
        return sho_hold_more(s, oid);
    sho_store(&s->slot->holds[count], oid);
    sho_store_release(&s->slot->hold_count, s->hold_count = count + 1);
    sho_barrier_object(s, SHM_OID_OFF(oid));
    return 0;
}

/* ------------------------------------------------------------------------------------------ log.c */

/* Room for a record of `words` words; it counts once sho_log_publish() has been called. EFULL, ENOMEM. */
int sho_log_reserve(sho_session *s, unsigned words, sho_word **ret_record);
void sho_log_publish(sho_session *s, unsigned words);

/* The transaction is going to need the object at off: names it in the log. EFULL, ENOMEM. */
int sho_log_hold(sho_session *s, uint64_t off);

/* Back to an earlier end: the records behind it never were. */
void sho_log_truncate(sho_session *s, sho_log_pos end);

/* Empties the log: nothing in it matters any more. */
void sho_log_reset(sho_session *s);

/* The session ends: what its log has taken besides goes back. */
void sho_log_close(sho_session *s);

/* A walk over the complete records of a slot's log between two positions; safe on damaged and on changing logs. */
typedef struct sho_log_walk {
    sho_region *region;
    struct shm_slot *slot;
    sho_log_pos at, end;
    sho_word *records; /* of segment at.segment; NULL: none */
    uint32_t bytes;    /* of complete records in it */
} sho_log_walk;

void sho_log_walk_begin(sho_log_walk *walk, sho_region *region, struct shm_slot *slot, sho_log_pos from);
/* The next record, or NULL. */
sho_word *sho_log_walk_next(sho_log_walk *walk);

/* Frees the blocks of a log: those taken (committed false) or those to be freed (committed true), one by one, so that
 * a crash in between loses one at most. */
void sho_log_free_blocks(sho_heap *heap, sho_region *region, struct shm_slot *slot, sho_log_pos from, bool committed);

/* One of the slot's counters, whose only writer is its owner. */
SHO_INLINE void sho_slot_count(sho_word *counter)
{
    sho_store(counter, sho_load(counter) + 1);
}

/* ECONFLICT, with its message. */
SHO_INLINE int sho_conflict(void)
{
    return sho_error_text(SHOBJ_ECONFLICT, "the transaction lost against another one that changed what it had read: undo "
                                           "it and run it again");
}

/* ------------------------------------------------------------------------------------------ txn.c */

/* Aborts the whole open transaction, if there is one; what was to be called at its end is forgotten. */
void sho_txn_abort_all(sho_session *s);

/* Sets back what the undo notes behind the first `count` tell. */
void sho_undo_words(sho_session *s, uint32_t count);

/* ------------------------------------------------------------------------------------------ commit.c */

/* Decides what the session has gathered. 0, SHO_RESTART (single operations: run the body again), SHOBJ_ECONFLICT. The log is
 * empty afterwards unless SHO_RESTART is returned. */
int sho_commit(sho_session *s);

/* What slot.wv says, but for marks. */
SHO_INLINE bool sho_wv_is_version(uint64_t wv)
{
    return wv != 0 && (wv & 3) == 0;
}

/* Unlocks or stores the node of a redo record on behalf of slot, if its orec still carries (slot_index, seq). */
void sho_write_apply(sho_region *region, struct shm_write *write, uint64_t lock, uint64_t wv);
void sho_write_release(sho_region *region, struct shm_write *write, uint64_t lock);

/* ------------------------------------------------------------------------------------------ wait.c */

/* The node's orec was seen as `lock`: comes back when it has changed, when its owner was aborted or recovered, or after
 * a bounded wait. A reader (ret_through not NULL) gets the redo record of an owner that has decided and does not get on: as
 * long as the orec is `lock`, the node is what its words are under that record. 0, ETIMEOUT (the thread's deadline),
 * EINTR, or ECORRUPT (the lock names an attempt that its slot has left). */
int sho_wait_lock(sho_session *s, struct shm_node *node, uint64_t lock, struct shm_write **ret_through);

/* Does the node carry a lock that nobody can be under way with? */
bool sho_lock_is_nobodys(sho_session *s, struct shm_node *node);

/* How long to sleep before looking again whether the one that is waited for has died, after so long a wait. Its getting on
 * wakes at once; only death is not told. */
SHO_INLINE uint64_t sho_probe_ns(uint64_t waited)
{
    uint64_t ns = waited / 16;
    return ns < 500000 ? 500000 : ns < 50000000 ? ns : 50000000;
}

/* The process that a slot belongs to, if it is another one and dead, is recovered. */
void sho_recover_owner(sho_session *s, struct shm_slot *slot);

/* The node's orec; while this session has the right of way, not before others' locks are gone (elder.c, E2). */
uint64_t sho_settled_orec(sho_session *s, struct shm_node *node);

/* Lets others have the processor. */
void sho_yield(const sho_session *s);

/* A random pause that grows with attempt. */
void sho_backoff(sho_session *s, unsigned attempt);

/* ------------------------------------------------------------------------------------------ sleep.c */

#define SHO_BUCKET_ELDER 0u

/* The bucket of those who wait for a node. */
SHO_INLINE unsigned sho_bucket_of(const sho_region *region, const struct shm_node *node)
{
    uint64_t off = (uint64_t)((const uint8_t *)node - region->base);
    return 1 + (unsigned)(((off >> 4) * 0x9e3779b97f4a7c15u >> 40) % (SHM_BUCKET_COUNT - 1));
}

/* A sleep: begin, watch each bucket, barrier, look whether what is waited for is still to come, sleep if so, end. */
void sho_sleep_begin(sho_session *s);
void sho_sleep_watch(sho_session *s, unsigned bucket);
void sho_sleep_barrier(sho_session *s);
/* Until woken or ns later (a second at most). 0, ETIMEOUT (the thread's deadline; sets no message), EINTR. */
int sho_sleep(sho_session *s, uint64_t ns);
/* EINTR if a signal that has come is to end the operation. */
int sho_sleep_interrupted(const sho_session *s);
void sho_sleep_end(sho_session *s);

void sho_wake_bucket_slow(sho_region *region, sho_word *bucket);
SHO_INLINE void sho_wake_bucket(sho_region *region, unsigned bucket)
{
    sho_word *word = sho_region_bucket(region, bucket);
    if (SHO_UNLIKELY(sho_load(word) != 0))
        sho_wake_bucket_slow(region, word);
}

SHO_INLINE void sho_wake_node(sho_region *region, const struct shm_node *node)
{
    sho_region_light_barrier(region);
    sho_wake_bucket(region, sho_bucket_of(region, node));
}
/* All who sleep, whatever for. */
void sho_wake_all(sho_region *region);

/* ------------------------------------------------------------------------------------------ elder.c */

#define SHO_ELDER_PATIENCE 8u

/* An execution was lost, the failures-th in a row. */
void sho_elder_lost(sho_session *s, uint32_t failures);
/* The row of failures is over. */
void sho_elder_done(sho_session *s);
/* Takes the right of way, waiting for those who have it or come first. 0, ETIMEOUT, EINTR. */
int sho_elder_enter(sho_session *s);
void sho_elder_leave(sho_session *s);
/* Waits while somebody else has it. 0, ETIMEOUT, EINTR. */
int sho_elder_yield(sho_session *s);
/* Is the owner of a lock, which was waited for so long, to be left alone because it has the right of way? Takes that away when its
 * lease is over. */
bool sho_elder_spares(sho_session *s, unsigned slot_index, uint64_t waited);
/* Whatever a slot had of tickets and tokens is gone. */
void sho_elder_forget(sho_region *region, unsigned slot_index);

/* Has somebody else the right of way? */
SHO_INLINE bool sho_elder_other(const sho_session *s)
{
    uint64_t token = sho_load(&s->region->sb->elder);
    return SHO_UNLIKELY(token != 0) && token != s->token;
}

/* ------------------------------------------------------------------------------------------ recover.c */

/* Recovers a process if it is dead. 1: done, 0: it is alive, negative: error. */
int sho_recover_process(sho_region *region, unsigned process);

/* Recovers all processes, which the caller knows to be dead (it has all their locks). */
void sho_recover_known_dead(sho_region *region);

/* Recovers all dead processes; their number. */
unsigned sho_recover_all(sho_region *region);

/* ------------------------------------------------------------------------------------------ past.c */

/* With the nodes in s->order locked, the commit decided, and nothing stored yet. */
void sho_past_keep(const sho_session *s, int count, uint64_t wv);
/* Its committer is dead. */
void sho_past_forget(const sho_region *region, uint64_t wv);
/* A transaction for reading has lost: the next ones look back. */
void sho_past_lost(sho_session *s);
/* Such a one begins. */
void sho_past_begin(sho_session *s);
/* A transaction is over; `all`: the session is. */
void sho_past_end(sho_session *s, bool all);
/* The node, which is locked or whose version is above rv, as it was. *ret_past NULL: that is not known. 0, SHO_RESTART, ENOMEM. */
int sho_past_read(sho_session *s, struct shm_node *node, sho_past **ret_past);

/* Does somebody want what commit wv overwrites? */
SHO_INLINE bool sho_past_is_wanted(const sho_session *s, uint64_t wv)
{
    return SHO_UNLIKELY(sho_load(&s->region->sb->past_until) >= wv);
}

/* ------------------------------------------------------------------------------------------ defer.c */

/* Is anything noted for the object whose first node is at off? */
bool sho_deferred_for(const sho_session *s, uint64_t off);
/* Makes what is noted for it. */
int sho_deferred_make(sho_session *s, uint64_t off);
/* Forgets all notes but the first `count`. */
void sho_deferred_truncate(sho_session *s, uint32_t count);
/* A block that was deeper than `depth` has ended: what it had made counts for the block around it, or is to be made again. */
void sho_deferred_leave(sho_session *s, unsigned depth, bool undone);
/* Makes what is still to be made, and commits. As sho_commit(). */
int sho_deferred_commit(sho_session *s);

/* ------------------------------------------------------------------------------------------ read.c, op.c */

sho_mark sho_op_mark(const sho_session *s);
/* Undoes all that was changed since a mark, and forgets what was read since. */
void sho_op_undo_to(sho_session *s, sho_mark mark);
/* Moves the snapshot to now. ECONFLICT: something that was read has changed. */
int sho_op_renew(sho_session *s);

/* Forgets everything gathered since the log was empty (private side only). */
void sho_entries_reset(sho_session *s);

/* Makes the empty table ready for a transaction. ENOMEM. */
int sho_entries_begin(sho_session *s);

/* Are all entries of the transaction as they were read? */
bool sho_entries_valid(sho_session *s);

#endif
