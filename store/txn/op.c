/*
 * op.c: an operation: it announces what it will change, checks what it has read, changes shadows, and is run again or over.
 *
 * I1 and I2 stand in read.c.
 * I3 (restart)  before the check an operation changes only the private side, the tail of its own log and blocks nobody
 *    else knows; rollback() undoes all three.
 */
#include "txn/op.h"

#include <string.h>

#include "txn/read.h"

#define RESTARTS_BEFORE_BACKOFF 2u
#define RESTARTS_IN_TXN 32u

/* ------------------------------------------------------------------------------------------ changing */

static bool may_not_change(const sho_session *s)
{
    return SHO_UNLIKELY(s->store->readonly || s->reading);
}

static SHO_COLD int refuse_change(const sho_session *s)
{
    if (!s->store->readonly)
        return sho_error(SHOBJ_EREADONLY, "changing %s in a transaction that was begun for reading only; begin it for writing",
                         s->region->path);
    return sho_error(SHOBJ_EREADONLY, "changing %s: the store is open for reading only; open it with flag \"w\" or \"c\"",
                     s->region->path);
}

/* A nested block that was undone has left a record without words: it makes way for a longer one. */
static void drop_record(sho_entry *e)
{
    sho_store(&e->write->mask, 0);
    sho_store(&e->write->base, 0);
    sho_store(&e->write->node, SHM_RECORD_NONE); /* three words of padding */
    e->write = NULL;
}

static int announce(sho_session *s, sho_view *view, unsigned words)
{
    if (may_not_change(s))
        return refuse_change(s);
    s->announced++;
    if (view->entry & SHO_ENTRY_NEW_BIT)
        return 0;
    sho_entry *e = &s->o.entries[view->entry];
    if (!s->mapped) {
        /* Without the map a node may have two entries: the first one stands for it. */
        for (uint32_t i = 0; i < view->entry; i++)
            if (s->o.entries[i].node == e->node) {
                e = &s->o.entries[i];
                break;
            }
    }
    if (SHO_UNLIKELY(SHM_OREC_IS_LOCKED(e->version)))
        return sho_op_meet_lock(s, e->node, e->version, NULL); /* it was read through another's log */
    if (e->write != NULL && SHM_RECORD_WORDS(sho_load(&e->write->node)) >= words) {
        view->write = e->write;
        return 0;
    }
    sho_word *record;
    int rc = sho_log_reserve(s, 3 + words, &record);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (e->write != NULL)
        drop_record(e);
    struct shm_write *write = (struct shm_write *)record;
    sho_store(&write->node, view->off | SHM_RECORD_WRITE | (uint64_t)words << 56);
    sho_store(&write->base, e->version);
    sho_store(&write->mask, 0);
    sho_log_publish(s, 3 + words);
    e->write = write;
    e->write_number = s->write_count++;
    view->write = write;
    s->o.tracked = true;
    return 0;
}

int sho_op_write(sho_session *s, sho_view *view)
{
    return announce(s, view, view->word_count);
}

int sho_op_retire(sho_session *s, sho_view *view)
{
    return announce(s, view, 0);
}

/* Names a block in the log. */
static int log_block(sho_session *s, uint64_t off, enum shm_record type, sho_word **ret_record)
{
    int rc = sho_log_reserve(s, 1, ret_record);
    if (SHO_UNLIKELY(rc))
        return rc;
    sho_store(*ret_record, off | type);
    sho_log_publish(s, 1);
    return 0;
}

int sho_log_hold(sho_session *s, uint64_t off)
{
    sho_word *record;
    int rc = log_block(s, off, SHM_RECORD_HOLD, &record);
    if (rc == 0)
        sho_barrier_object(s, off);
    return rc;
}

int sho_op_hold_new(sho_session *s, shobj_oid oid)
{
    return s->depth > 0 ? 0 : sho_hold(s, oid);
}

int sho_op_new(sho_session *s, unsigned kind, unsigned words, sho_view *ret_view)
{
    if (may_not_change(s))
        return refuse_change(s);
    uint64_t off;
    unsigned word_count;
    int rc = sho_heap_take_node(&s->heap, words, &off, &word_count);
    if (SHO_UNLIKELY(rc))
        return rc;
    (void)sho_fault("node.taken");
    sho_word *record;
    if (SHO_UNLIKELY(rc = log_block(s, off, SHM_RECORD_ALLOC, &record))) {
        sho_heap_give(&s->heap, off);
        sho_heap_taken(&s->heap, off);
        return rc;
    }
    s->new_count++;
    s->announced++;
    struct shm_node *node = (struct shm_node *)(s->region->base + off);
    uint32_t birth = SHM_NODE_BIRTH(sho_load(&node->header)) + 1;
    if ((birth & 0xfffff) == 0)
        birth++; /* ids are never 0 */
    uint64_t header = SHM_NODE_HEADER(kind, word_count, birth);
    for (unsigned i = 0; i < word_count; i++)
        sho_store(&node->words[i], 0);
    sho_store_release(&node->header, header);
    (void)sho_fault("node.written");
    sho_heap_taken(&s->heap, off);
    (void)sho_fault("node.named");
    uint32_t at;
    if (!s->mapped && s->depth > 0 && (rc = sho_entries_map(s)))
        return rc;
    rc = sho_entry_add(s, node, sho_load(&node->orec), true, &at);
    if (SHO_UNLIKELY(rc))
        return rc;
    s->o.entries[at].alloc = record;
    s->o.tracked = true;
    *ret_view = (sho_view){
        .words = node->words, .off = off, .header = header, .word_count = word_count, .entry = at | SHO_ENTRY_NEW_BIT};
    return 0;
}

int sho_op_new_box(sho_session *s, unsigned kind, unsigned flags, uint64_t bytes, uint64_t *ret_off, sho_word **ret_words)
{
    if (may_not_change(s))
        return refuse_change(s);
    if (SHO_UNLIKELY(bytes > SHM_BOX_BYTES_MAX))
        return sho_error(SHOBJ_EFULL, "a value of %llu bytes is larger than any store", (unsigned long long)bytes);
    uint64_t off;
    int rc = sho_heap_take_box(&s->heap, bytes, &off);
    if (SHO_UNLIKELY(rc))
        return rc;
    struct shm_box *box = (struct shm_box *)(s->region->base + off);
    sho_store_release(&box->header, SHM_BOX_HEADER(kind, flags, bytes));
    (void)sho_fault("box.taken");
    sho_word *record;
    if (SHO_UNLIKELY(rc = log_block(s, off, SHM_RECORD_ALLOC, &record))) {
        sho_heap_give(&s->heap, off);
        sho_heap_taken(&s->heap, off);
        return rc;
    }
    sho_heap_taken(&s->heap, off);
    s->new_count++;
    s->o.tracked = true;
    *ret_off = off;
    *ret_words = box->words;
    return 0;
}

int sho_op_release_box(sho_session *s, uint64_t off)
{
    if (may_not_change(s))
        return refuse_change(s);
    sho_word *record;
    int rc = log_block(s, off, SHM_RECORD_FREE, &record);
    if (SHO_UNLIKELY(rc == SHOBJ_EFULL))
        return 0; /* nothing will refer to it: the next collection finds it */
    if (rc == 0) {
        s->free_count++;
        s->o.tracked = true;
    }
    return rc;
}

/* Remembers a word for the nested block's undoing. */
static SHO_COLD void undo_add(sho_session *s, sho_undo undo)
{
    if (s->undo_count == s->undo_room &&
        sho_array_grow((void **)&s->undo, &s->undo_room, sizeof(*s->undo), 0)) {
        s->undo_lost = true; /* the block can't be undone by itself any more */
        return;
    }
    s->undo[s->undo_count++] = undo;
}

void sho_op_set(sho_session *s, sho_view *view, unsigned i, uint64_t word)
{
    SHO_ASSERT(i < view->word_count);
    struct shm_write *write = view->write;
    if (write == NULL) {
        SHO_ASSERT(view->entry & SHO_ENTRY_NEW_BIT);
        if (SHO_UNLIKELY(s->depth > 1))
            undo_add(s, (sho_undo){.word = &view->words[i], .old = sho_load(&view->words[i])});
        sho_store(&view->words[i], word);
        return;
    }
    uint64_t mask = sho_load(&write->mask);
    if (SHO_UNLIKELY(s->depth > 1))
        undo_add(s, (sho_undo){.write = write,
                               .word = &write->words[i],
                               .old = sho_load(&write->words[i]),
                               .bit = i,
                               .was_set = mask >> i & 1});
    sho_store(&write->words[i], word);
    sho_store(&write->mask, mask | 1ULL << i);
}

void sho_op_free_node(sho_session *s, sho_view *view)
{
    if (view->write != NULL) {
        uint64_t base = sho_load(&view->write->base);
        if (SHO_UNLIKELY(s->depth > 1))
            undo_add(s, (sho_undo){.write = view->write, .bit = 64, .was_set = base & SHM_WRITE_FREES});
        sho_store(&view->write->base, base | SHM_WRITE_FREES);
        return;
    }
    /* An own new node: nobody else knows it. The record that names it says so from now on. */
    SHO_ASSERT(view->entry & SHO_ENTRY_NEW_BIT);
    sho_word *record = s->o.entries[view->entry & ~SHO_ENTRY_NEW_BIT].alloc;
    if (SHO_UNLIKELY(s->depth > 1))
        undo_add(s, (sho_undo){.word = record, .old = sho_load(record)});
    sho_store(record, view->off | SHM_RECORD_DROPPED);
    s->free_count++;
}

void sho_op_leaf(sho_session *s)
{
    s->leaf = true;
}

/* ------------------------------------------------------------------------------------------ the operation */

bool sho_op_in_txn(const sho_session *s)
{
    return s->depth > 0;
}

bool sho_op_is_deferred(const sho_session *s)
{
    return s->deferring;
}

void sho_op_begin_slow(sho_session *s)
{
    s->leaf = false;
    s->boxes = false;
    s->announced = 0;
    s->path_count = 0;
    s->op = sho_op_mark(s);
}

sho_mark sho_op_mark(const sho_session *s)
{
    return (sho_mark){.log = s->log,
                      .entry_count = s->o.entry_count,
                      .write_count = s->write_count,
                      .new_count = s->new_count,
                      .free_count = s->free_count,
                      .undo_count = s->undo_count};
}

/* Cuts the log, with the blocks it names, back to a mark. The entries' redo records are the caller's. */
static void cut_log(sho_session *s, const sho_mark *mark)
{
    if (s->new_count > mark->new_count)
        sho_log_free_blocks(&s->heap, s->region, s->slot, mark->log, false);
    sho_log_truncate(s, mark->log);
    s->write_count = mark->write_count;
    s->new_count = mark->new_count;
    s->free_count = mark->free_count;
    s->undo_count = mark->undo_count;
}

static void forget_write(sho_entry *e, const sho_mark *mark)
{
    if (!e->is_new && !e->is_through && !e->is_past && e->write != NULL && e->write_number >= mark->write_count)
        e->write = NULL;
}

void sho_op_undo_to(sho_session *s, sho_mark mark)
{
    sho_undo_words(s, mark.undo_count);
    sho_entries_truncate(s, mark.entry_count);
    for (uint32_t i = 0; i < s->o.entry_count; i++)
        forget_write(&s->o.entries[i], &mark);
    cut_log(s, &mark);
    s->path_count = 0;
    s->doomed = false;
}

/* Undoes what the operation has put into the log and the heap; its entries are left to the caller. */
static void undo_changes(sho_session *s)
{
    if (s->write_count + s->new_count + s->free_count == s->op.write_count + s->op.new_count + s->op.free_count)
        return;
    for (uint32_t i = 0; i < s->path_count; i++)
        forget_write(&s->o.entries[s->path[i]], &s->op);
    cut_log(s, &s->op); /* with the undo notes: what they would set back is gone, too */
}

static void rollback(sho_session *s)
{
    undo_changes(s);
    sho_entries_truncate(s, s->op.entry_count);
    if (s->depth == 0)
        s->mapped = s->o.tracked = false;
    s->path_count = 0;
    s->leaf = false;
    s->announced = 0;
}

/* A failed operation of a transaction leaves no change, but what it has read (that a key is absent, say) counts. */
static void keep_reads(sho_session *s)
{
    uint32_t end = s->o.entry_count;
    uint32_t at;
    undo_changes(s);
    sho_entries_truncate(s, s->op.entry_count);
    for (uint32_t i = s->op.entry_count; i < end; i++) {
        sho_entry e = s->o.entries[i];
        if (e.is_new)
            continue;
        if (sho_entry_add(s, e.node, e.version, false, &at)) {
            s->doomed = true; /* out of memory: it must not commit without them */
            return;
        }
        if (e.is_through)
            sho_entry_through(s, at, e.write);
    }
}

/* A single operation is over. */
static void end_single(sho_session *s)
{
    sho_entries_reset(s);
    if (SHO_UNLIKELY(s->log_reserved))
        sho_log_reset(s);
    if (SHO_LIKELY(s->o.restarts == 0) || s->slot == NULL)
        return;
    if (s->token != 0)
        sho_elder_leave(s);
    if (s->failures == 0 && s->ticket != 0)
        sho_elder_done(s);
}

/* What a body that is to run again does first: waits a moment, or for the right of way. False: it is not to. */
static bool ready_again(sho_session *s, int *rc)
{
    uint32_t restarts = ++s->o.restarts;
    if (s->slot != NULL && s->depth == 0 && s->token == 0) {
        sho_elder_lost(s, restarts);
        if (restarts >= SHO_ELDER_PATIENCE) {
            *rc = sho_elder_enter(s);
            return *rc == 0;
        }
    } else if (s->depth > 0 && restarts > RESTARTS_IN_TXN && s->token == 0) {
        *rc = sho_op_doom(s); /* so that the whole gets the right of way */
        return false;
    }
    if (restarts > RESTARTS_BEFORE_BACKOFF && s->token == 0)
        sho_backoff(s, restarts - RESTARTS_BEFORE_BACKOFF);
    if (s->deadline_ns != 0 && sho_monotonic_ns() >= s->deadline_ns) {
        *rc = sho_error(SHOBJ_ETIMEOUT, "%s: timed out: others changed again and again what an operation was to read",
                        s->region->path);
        return false;
    }
    return true;
}

static SHO_COLD bool restart(sho_session *s, int *rc)
{
    rollback(s);
    if (s->doomed) {
        *rc = sho_conflict();
        return false;
    }
    if (s->slot != NULL)
        sho_slot_count(&s->slot->retries);
    if (ready_again(s, rc))
        return true;
    if (s->depth == 0)
        end_single(s);
    return false;
}

/* D1 (defer.c): what is noted for the object that the body came to. */
static SHO_COLD bool make_deferred(sho_session *s, int *rc)
{
    uint64_t off = s->deferred_wanted;
    s->deferred_wanted = 0;
    rollback(s);
    *rc = sho_deferred_make(s, off);
    if (*rc)
        return false;
    sho_op_begin_slow(s);
    return true;
}

/* The body has found no room: once, after a collection that has made some, it is run again. */
static SHO_COLD bool full(sho_session *s, int *rc)
{
    if (s->made_room)
        return false;
    rollback(s);
    s->made_room = true;
    if (!sho_collect_for_room(s)) {
        sho_error(*rc, "%s is full, and a collection has freed nothing; delete something, or copy it into a larger store",
                  s->region->path);
        return false;
    }
    if (s->depth > 0)
        sho_op_begin_slow(s);
    return true;
}

/* The usual case in a transaction: an operation that has only read, and what it has read is unchanged. */
SHO_INLINE bool has_plainly_read(const sho_session *s)
{
    if (s->depth == 0 || s->doomed || s->moved || s->announced > 0 || s->deferred_wanted != 0 || !s->region->writable ||
        s->write_count + s->new_count + s->free_count != s->op.write_count + s->op.new_count + s->op.free_count)
        return false;
    sho_fence_acquire();
    for (uint32_t i = 0; i < s->path_count; i++) {
        const sho_entry *e = &s->o.entries[s->path[i]];
        if (SHO_UNLIKELY(e->is_new || sho_load_acquire(&e->node->orec) != e->version))
            return false;
    }
    return true;
}

bool sho_op_again_slow(sho_session *s, int *rc)
{
    (void)sho_fault("op.body_done");
    if (SHO_LIKELY(*rc == 0 && has_plainly_read(s))) {
        s->made_room = false;
        return false;
    }
    if (SHO_UNLIKELY(*rc == SHOBJ_EFULL) && full(s, rc))
        return true;
    s->made_room = false;
    if (SHO_UNLIKELY(s->deferred_wanted != 0))
        return make_deferred(s, rc);
    if (SHO_UNLIKELY(*rc == SHO_RESTART))
        return restart(s, rc);
    if (SHO_UNLIKELY(*rc == SHOBJ_ESTALE && s->looked_back))
        *rc = sho_op_doom(s); /* it was alive at the snapshot, maybe */
    /* What has changed shadows, also those of an earlier operation, must not run again: it has made its check itself. */
    bool changes = s->announced > 0 || s->write_count + s->new_count + s->free_count >
                                       s->op.write_count + s->op.new_count + s->op.free_count;
    if (*rc == 0 && changes) {
        s->moved |= s->announced > 1;
        if (s->depth > 0) {
            sho_barrier_operation(s);
            return false;
        }
        *rc = sho_commit(s);
        if (SHO_UNLIKELY(*rc == SHO_RESTART))
            return restart(s, rc);
        if (SHO_UNLIKELY(*rc != 0))
            rollback(s);
        end_single(s);
        sho_collection_ask(s);
        return false;
    }
    int check = sho_op_check(s);
    if (SHO_UNLIKELY(check == SHO_RESTART))
        return restart(s, rc);
    if (check)
        *rc = check;
    if (s->depth == 0) {
        rollback(s);
        end_single(s);
    } else if (changes) {
        keep_reads(s);
    }
    return false;
}
