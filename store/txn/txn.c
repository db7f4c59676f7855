/*
 * txn.c: blocks: the outermost is the transaction, the inner ones are savepoints.
 *
 * A nested block remembers where the log and the list of undo notes stood. Undoing it restores, last first, each word
 * of an overlay or of an own new node that it changed, and turns its records around: what it took is to be freed in any
 * case (DROPPED), what it wanted freed is not. Its redo records stay in the log with an empty mask, and what it has read
 * stays in the read set: the rest of the transaction may depend on it.
 *
 * retry is a sleep on the read set (shobj_txn_wait): the transaction is undone, but its entries are kept until something of
 * what they say has changed. or_else is a nested block for the first alternative; as its reads stay, a sleep after
 * the second one waits for both.
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
    s->savepoints[s->depth - 1] =
        (sho_savepoint){.log = s->log, .undo_count = s->undo_count, .deferred_count = s->deferred_count};
    return 0;
}

static int txn_begin(shobj_store *store, bool reading)
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
    if (SHO_UNLIKELY(s->failures >= SHO_ELDER_PATIENCE) && (rc = sho_elder_enter(s)))
        return rc;
    rc = sho_entries_begin(s);
    if (rc) {
        if (s->token != 0)
            sho_elder_leave(s);
        return rc;
    }
    s->depth = 1;
    s->doomed = false;
    s->moved = false;
    s->reading = reading;
    s->looks_back = s->looked_back = false;
    if (SHO_UNLIKELY(reading && s->past_executions > 0))
        sho_past_begin(s);
    s->undo_count = 0;
    s->undo_lost = false;
    if (s->slot != NULL)
        sho_store(&s->slot->began_ns, (uint64_t)sho_now_coarse_ns());
    /* Acquire: whatever was committed when the clock said so is seen. */
    s->rv = sho_load_acquire(&s->region->sb->clock);
    return 0;
}

SHOBJ_API int shobj_txn_begin(shobj_store *store)
{
    return txn_begin(store, false);
}

SHOBJ_API int shobj_txn_begin_read(shobj_store *store)
{
    return txn_begin(store, true);
}

/* The outermost block is over, one way or the other. */
static void txn_end(sho_session *s)
{
    s->depth = 0;
    s->doomed = false;
    s->reading = false;
    s->looks_back = false;
    if (SHO_UNLIKELY(s->looked_back))
        sho_past_end(s, false);
    s->looked_back = false;
    s->undo_count = 0;
    if (SHO_UNLIKELY(s->deferred_count > 0))
        sho_deferred_truncate(s, 0);
    s->late_from = UINT32_MAX;
    sho_entries_reset(s);
    if (SHO_UNLIKELY(s->token != 0))
        sho_elder_leave(s);
    if (s->slot != NULL)
        sho_store(&s->slot->began_ns, 0);
}

/* An execution lost against others. One that had read much counts for several: it is large, and will lose again. */
static void lose(sho_session *s)
{
    uint32_t weight = 1 + s->o.entry_count / 64;
    if (s->reading)
        sho_past_lost(s);
    if (s->slot != NULL)
        sho_slot_count(&s->slot->conflicts);
    s->failures += weight < 4 ? weight : 4;
    sho_elder_lost(s, s->failures);
}

/* The row of failures ends with a commit, or with its being given up. */
static void end_row(sho_session *s)
{
    s->failures = 0;
    if (SHO_UNLIKELY(s->ticket != 0))
        sho_elder_done(s);
}

/* ------------------------------------------------------------------------------------------ what is called at the end */

SHOBJ_API int shobj_txn_on_end(shobj_store *store, void (*fn)(shobj_store *store, void *arg, bool committed), void *arg)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    if (s->depth == 0)
        return sho_error(SHOBJ_ETXN, "waiting for a transaction's end on %s: none is open in this thread",
                         s->region->path);
    if (s->end_count == s->end_room) {
        uint32_t room = s->end_room * 2 + 8;
        sho_end *p = realloc(s->ends, room * sizeof(*p));
        if (p == NULL)
            return sho_error(SHOBJ_ENOMEM, "out of memory for %u calls at a transaction's end", room);
        s->ends = p;
        s->end_room = room;
    }
    s->ends[s->end_count++] = (sho_end){.fn = fn, .arg = arg, .depth = s->depth};
    return 0;
}

/* Calls what was registered in blocks of `depth` and deeper, which are over. What is called may begin transactions of its
 * own, so the list is taken off first; `s` may be gone afterwards. */
static void call_ends(sho_session *s, shobj_store *store, unsigned depth, bool committed)
{
    uint32_t first = s->end_count;
    while (first > 0 && s->ends[first - 1].depth >= depth)
        first--;
    uint32_t count = s->end_count - first;
    if (SHO_LIKELY(count == 0))
        return;
    s->end_count = first;
    sho_end *due = malloc(count * sizeof(*due));
    if (due == NULL) { /* nothing may be lost: call them where they stand, as long as nobody registers more */
        for (uint32_t i = 0; i < count; i++)
            s->ends[committed ? first + i : first + count - 1 - i].fn(store, s->ends[first + i].arg, committed);
        return;
    }
    memcpy(due, s->ends + first, count * sizeof(*due));
    for (uint32_t i = 0; i < count; i++) {
        const sho_end *end = &due[committed ? i : count - 1 - i];
        end->fn(store, end->arg, committed);
    }
    free(due);
}

/* ------------------------------------------------------------------------------------------ the end */

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
    undo_all(s);
    if (s->doomed)
        lose(s);
    else
        end_row(s);
    txn_end(s);
    s->end_count = 0;
}

void sho_undo_words(sho_session *s, uint32_t count)
{
    while (s->undo_count > count) {
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
}

static void undo_block(sho_session *s, sho_savepoint to)
{
    sho_undo_words(s, to.undo_count);
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

/* Undoes the outermost block and calls what waits for that. */
static void abort_outermost(sho_session *s, shobj_store *store)
{
    uint32_t count = s->end_count;
    sho_txn_abort_all(s);
    s->end_count = count;
    call_ends(s, store, 0, false);
}

SHOBJ_API void shobj_txn_abort(shobj_store *store)
{
    sho_session *s;
    if (sho_session_get(store, &s) || s->depth == 0)
        return;
    if (s->depth == 1) {
        abort_outermost(s, store);
        return;
    }
    s->depth--;
    if (s->slot != NULL)
        undo_block(s, s->savepoints[s->depth - 1]);
    if (SHO_UNLIKELY(s->deferred_count > 0)) {
        sho_deferred_truncate(s, s->savepoints[s->depth - 1].deferred_count);
        sho_deferred_leave(s, s->depth, true);
    }
    if (s->undo_lost)
        s->doomed = true;
    call_ends(s, store, s->depth + 1, false);
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
        for (uint32_t i = s->end_count; i-- > 0 && s->ends[i].depth > s->depth;)
            s->ends[i].depth = s->depth;
        sho_deferred_leave(s, s->depth, false);
        return 0;
    }
    rc = s->doomed ? sho_conflict() : s->deferred_pending > 0 ? sho_deferred_commit(s) : sho_commit(s);
    if (rc)
        undo_all(s);
    if (rc == SHOBJ_ECONFLICT)
        lose(s);
    else
        end_row(s);
    txn_end(s);
    sho_collection_ask(s);
    if (SHO_UNLIKELY(s->end_count > 0))
        call_ends(s, store, 0, rc == 0);
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

SHOBJ_API int64_t shobj_deadline(shobj_store *store, int64_t deadline_ns)
{
    sho_session *s;
    if (sho_session_get(store, &s))
        return 0;
    int64_t before = (int64_t)s->deadline_ns;
    s->deadline_ns = deadline_ns > 0 ? (uint64_t)deadline_ns : 0;
#ifdef SHOBJ_FAULTS
    if (store->twin != NULL && sho_session_get(store, &s) == 0) /* the thread's other session: calls take turns */
        s->deadline_ns = deadline_ns > 0 ? (uint64_t)deadline_ns : 0;
#endif
    return before;
}

/* ------------------------------------------------------------------------------------------ retry */

#define RETRY_SPINS SHO_SPINS(1000)

static bool spin_while_valid(sho_session *s)
{
    uint32_t pauses = 0;
    while (pauses < RETRY_SPINS) {
        if (!sho_entries_valid(s))
            return false;
        for (unsigned i = 0; i < 16; i++)
            sho_pause();
        pauses += 16 + s->o.entry_count;
    }
    return true;
}

/* Sleeps until an entry is not as it was read. */
static int sleep_while_valid(sho_session *s)
{
    int rc = 0;
    if (!spin_while_valid(s))
        return 0;
    while (rc == 0) {
        sho_sleep_begin(s);
        for (uint32_t i = 0; i < s->o.entry_count; i++)
            if (!s->o.entries[i].is_new)
                sho_sleep_watch(s, sho_bucket_of(s->region, s->o.entries[i].node));
        sho_sleep_barrier(s);
        if (!sho_entries_valid(s))
            break;
        rc = sho_sleep(s, UINT64_MAX);
    }
    sho_sleep_end(s);
    return rc;
}

static int refuse_wait(const sho_session *s)
{
    if (s->depth == 0)
        return sho_error(SHOBJ_ETXN, "waiting for a change on %s: no transaction is open in this thread", s->region->path);
    if (s->slot == NULL)
        return sho_error(SHOBJ_EREADONLY,
                         "waiting for a change on %s: this process may not write the file, so that nobody can wake it",
                         s->region->path);
    for (uint32_t i = 0; i < s->o.entry_count; i++)
        if (!s->o.entries[i].is_new)
            return 0;
    return sho_error(SHOBJ_ETXN,
                     "waiting for a change on %s: the transaction has read nothing, so that it would wait for ever; read "
                     "what it depends on first",
                     s->region->path);
}

SHOBJ_API int shobj_txn_wait(shobj_store *store)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    rc = refuse_wait(s);
    if (rc == 0 && !s->doomed) {
        undo_all(s);
        if (s->token != 0)
            sho_elder_leave(s);
        rc = sleep_while_valid(s);
        if (rc == SHOBJ_ETIMEOUT)
            rc = sho_error(SHOBJ_ETIMEOUT, "%s: timed out: nothing that the transaction had read has changed",
                           s->region->path);
    }
    if (s->depth > 0)
        abort_outermost(s, store);
    return rc;
}

/* ------------------------------------------------------------------------------------------ bodies */

/* One execution of a body as the innermost block. */
static int run_once(shobj_store *store, int (*fn)(shobj_store *store, void *arg), void *arg)
{
    int rc = shobj_txn_begin(store);
    if (rc)
        return rc;
    int result = fn(store, arg);
    if (result >= 0) {
        rc = shobj_txn_commit(store);
        return rc ? rc : result;
    }
    if (shobj_txn_is_doomed(store))
        result = sho_conflict();
    if (result == SHOBJ_ERETRY && shobj_txn_depth(store) == 1) {
        rc = shobj_txn_wait(store);
        return rc ? rc : SHOBJ_ERETRY;
    }
    shobj_txn_abort(store);
    return result;
}

/* After a lost execution: may there be another one? */
static int pause_between(shobj_store *store, unsigned attempt)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    if (s->deadline_ns != 0 && sho_monotonic_ns() >= s->deadline_ns)
        return sho_error(SHOBJ_ETIMEOUT, "%s: timed out after %u executions, each lost to others' commits",
                         s->region->path, attempt);
    sho_backoff(s, attempt);
    return 0;
}

SHOBJ_API int shobj_run(shobj_store *store, int (*fn)(shobj_store *store, void *arg), void *arg)
{
    bool nested = shobj_txn_depth(store) > 0;
    for (unsigned attempt = 1;; attempt++) {
        int rc = run_once(store, fn, arg);
        if (nested || (rc != SHOBJ_ECONFLICT && rc != SHOBJ_ERETRY))
            return rc;
        if (rc == SHOBJ_ERETRY)
            attempt = 0;
        else if ((rc = pause_between(store, attempt)))
            return rc;
    }
}

struct alternatives {
    int (*first)(shobj_store *store, void *arg);
    int (*second)(shobj_store *store, void *arg);
    void *arg;
};

static int run_alternatives(shobj_store *store, void *arg)
{
    const struct alternatives *a = arg;
    int rc = run_once(store, a->first, a->arg);
    return rc == SHOBJ_ERETRY ? run_once(store, a->second, a->arg) : rc;
}

SHOBJ_API int shobj_or_else(shobj_store *store, int (*first)(shobj_store *store, void *arg),
                            int (*second)(shobj_store *store, void *arg), void *arg)
{
    struct alternatives a = {.first = first, .second = second, .arg = arg};
    return shobj_run(store, run_alternatives, &a);
}
