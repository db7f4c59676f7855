/*
 * txn.c: blocks: the outermost is the transaction, the inner ones are savepoints.
 *
 * A nested block remembers where the log and the list of undo notes stood. Undoing it restores, last first, each word
 * of an overlay or of an own new node that it changed, and turns its records around: what it took is to be freed in any
 * case (DROPPED), what it wanted freed is not. Its redo records stay in the log with an empty mask, and what it has read
 * stays in the read set: the rest of the transaction may depend on it.
 */
#include <string.h>

#include "txn/session.h"

static int savepoint_push(sho_session *s)
{
    if (s->depth - 1 >= s->savepoint_room) {
        uint32_t room = s->savepoint_room * 2 + 8;
        sho_savepoint *p = realloc(s->savepoints, room * sizeof(*p));
        if (p == NULL)
            return sho_error(SHOBJ_ENOMEM, "out of memory for %u nested blocks", room);
        s->savepoints = p;
        s->savepoint_room = room;
    }
    s->savepoints[s->depth - 1] = (sho_savepoint){.log = s->log, .undo_count = s->undo_count};
    return 0;
}

SHOBJ_API int shobj_txn_begin(shobj_store *store)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    if (s->depth > 0) {
        rc = savepoint_push(s);
        if (rc == 0)
            s->depth++;
        return rc;
    }
    rc = sho_entries_begin(s);
    if (rc)
        return rc;
    s->depth = 1;
    s->doomed = false;
    s->undo_count = 0;
    s->undo_lost = false;
    if (s->slot != NULL)
        sho_store(&s->slot->began_ns, (uint64_t)sho_now_coarse_ns());
    /* Acquire: whatever was committed when the clock said so is seen. */
    s->rv = sho_load_acquire(&s->region->sb->clock);
    return 0;
}

/* The outermost block is over, one way or the other. */
static void txn_end(sho_session *s)
{
    s->depth = 0;
    s->doomed = false;
    s->undo_count = 0;
    sho_entries_reset(s);
    if (s->slot != NULL)
        sho_store(&s->slot->began_ns, 0);
}

static void count_conflict(const sho_session *s)
{
    if (s->slot != NULL)
        sho_slot_count(&s->slot->conflicts);
}

static void undo_all(sho_session *s)
{
    if (s->slot == NULL)
        return;
    if (s->new_count > 0)
        sho_log_free_blocks(&s->heap, s->region, s->slot, (sho_log_pos){0}, false);
    if (s->log.segment + s->log.used > 0)
        sho_log_reset(s);
}

void sho_txn_abort_all(sho_session *s)
{
    if (s->depth == 0)
        return;
    if (s->doomed)
        count_conflict(s);
    undo_all(s);
    txn_end(s);
}

static void undo_block(sho_session *s, sho_savepoint to)
{
    while (s->undo_count > to.undo_count) {
        sho_undo *u = &s->undo[--s->undo_count];
        if (u->word != NULL)
            sho_store(u->word, u->old);
        if (u->write == NULL)
            continue;
        if (u->bit == 64) {
            uint64_t base = sho_load(&u->write->base) & ~SHM_WRITE_FREES;
            sho_store(&u->write->base, base | (u->was_set ? SHM_WRITE_FREES : 0));
        } else if (!u->was_set) {
            sho_store(&u->write->mask, sho_load(&u->write->mask) & ~(1ULL << u->bit));
        }
    }
    sho_log_walk walk;
    sho_word *record;
    sho_log_walk_begin(&walk, s->region, s->slot, to.log);
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        uint64_t first = sho_load(record);
        if (SHM_RECORD_TYPE(first) == SHM_RECORD_ALLOC) {
            sho_store(record, SHM_RECORD_OFF(first) | SHM_RECORD_DROPPED);
            s->free_count++;
        } else if (SHM_RECORD_TYPE(first) == SHM_RECORD_FREE) {
            sho_store(record, SHM_RECORD_NONE);
        }
    }
}

SHOBJ_API void shobj_txn_abort(shobj_store *store)
{
    sho_session *s;
    if (sho_session_get(store, &s) || s->depth == 0)
        return;
    if (s->depth == 1) {
        sho_txn_abort_all(s);
        return;
    }
    s->depth--;
    if (s->slot != NULL)
        undo_block(s, s->savepoints[s->depth - 1]);
    if (s->undo_lost)
        s->doomed = true;
}

SHOBJ_API int shobj_txn_commit(shobj_store *store)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    if (s->depth == 0)
        return sho_error(SHOBJ_ETXN, "committing on %s: no transaction is open in this thread", s->region->path);
    if (s->depth > 1) {
        s->depth--;
        return 0;
    }
    if (s->doomed) {
        rc = sho_conflict();
        count_conflict(s);
    } else {
        rc = sho_commit(s);
    }
    if (rc)
        undo_all(s);
    txn_end(s);
    return rc;
}

SHOBJ_API unsigned shobj_txn_depth(shobj_store *store)
{
    sho_session *s;
    return sho_session_get(store, &s) ? 0 : s->depth;
}

SHOBJ_API bool shobj_txn_is_doomed(shobj_store *store)
{
    sho_session *s;
    return sho_session_get(store, &s) == 0 && s->depth > 0 && s->doomed;
}

SHOBJ_API void shobj_txn_backoff(shobj_store *store, unsigned attempt)
{
    sho_session *s;
    if (attempt > 0 && sho_session_get(store, &s) == 0)
        sho_backoff(s, attempt);
}

SHOBJ_API int shobj_run(shobj_store *store, int (*fn)(shobj_store *store, void *arg), void *arg)
{
    bool nested = shobj_txn_depth(store) > 0;
    for (unsigned attempt = 1;; attempt++) {
        int rc = shobj_txn_begin(store);
        if (rc)
            return rc;
        int result = fn(store, arg);
        bool doomed = shobj_txn_is_doomed(store);
        if (result < 0) {
            shobj_txn_abort(store);
            rc = doomed ? sho_conflict() : result;
        } else {
            rc = shobj_txn_commit(store);
            if (rc == 0)
                return result;
        }
        if (rc != SHOBJ_ECONFLICT || nested)
            return rc;
        shobj_txn_backoff(store, attempt);
    }
}
