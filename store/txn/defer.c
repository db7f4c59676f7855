/*
 * defer.c: changes that a transaction asks for without having looked at the object, and that are made at its end.
 *
 * Two transactions that append to one list, or insert different keys into one dict, do the same things to the same nodes,
 * and yet neither depends on what the other did. So such a *blind* change is only noted, with its value stored in the
 * heap already, and made when the transaction commits, just in front of the locking. If that loses against another
 * commit, only the changes noted are undone and made again on what is there then; the transaction itself, whose own
 * reads still hold, does not notice. A conflict thus needs two commits at the same moment, and costs the change alone.
 *
 * D1  A noted change stands behind all that the transaction did before and in front of all it does afterwards to that
 *     object: the first operation that looks at the object makes what is noted for it (read.c asks), and from then on
 *     the object is in the read set, so that nothing is noted for it any more.
 * D2  What is made is made by the ordinary bodies, as a nested block whose reads are forgotten when it is undone: nobody has
 *     seen them. The read set of the transaction proper is validated as ever: by a snapshot taken anew before
 *     the changes are made again, and by the commit.
 * D3  A change that fails when it is made (a full store) stays noted: the transaction can't commit without it.
 * D4  Undoing a nested block forgets what was noted in it, and notes again what it had made of what was noted outside.
 */
#include <string.h>

#include "txn/session.h"

#define ROUNDS_MAX 64u

bool sho_may_defer(const sho_session *s, shobj_oid object, unsigned kind)
{
    uint64_t header;
    uint64_t off = SHM_OID_OFF(object);
    if (s->doomed || s->reading || s->deferring || s->store->readonly || sho_op_node_header(s, off, &header))
        return false;
    return SHM_HEADER_KIND(header) == kind && SHM_OID_FITS(object, header) &&
           !sho_entries_have(s, off, s->o.entry_count);
}

int sho_defer(sho_session *s, shobj_oid object, sho_deferred_body body, const void *data, size_t bytes)
{
    if (s->deferred_count == s->deferred_room) {
        uint32_t room = s->deferred_room * 2 + 8;
        sho_deferred *p = realloc(s->deferred, room * sizeof(*p));
        if (p == NULL)
            return sho_error(SHOBJ_ENOMEM, "out of memory for a transaction of %u changes", room);
        s->deferred = p;
        s->deferred_room = room;
    }
    int rc = sho_log_hold(s, SHM_OID_OFF(object));
    if (rc)
        return rc;
    void *copy = malloc(bytes);
    if (copy == NULL)
        return sho_error(SHOBJ_ENOMEM, "out of memory for a change of %zu bytes", bytes);
    memcpy(copy, data, bytes);
    s->deferred[s->deferred_count++] = (sho_deferred){.object = object, .body = body, .data = copy};
    s->deferred_pending++;
    return 0;
}

bool sho_deferred_for(const sho_session *s, uint64_t off)
{
    for (uint32_t i = s->deferred_count; i-- > 0;)
        if (s->deferred[i].made_at == 0 && SHM_OID_OFF(s->deferred[i].object) == off)
            return true;
    return false;
}

static int make(sho_session *s, sho_deferred *d)
{
    int rc;
    s->deferring = true;
    SHO_OP(s, rc, d->body(s, d->object, d->data));
    s->deferring = false;
    if (rc == 0) {
        d->made_at = s->depth;
        s->deferred_pending--;
    }
    return rc;
}

int sho_deferred_make(sho_session *s, uint64_t off)
{
    for (uint32_t i = 0; i < s->deferred_count; i++) {
        sho_deferred *d = &s->deferred[i];
        if (d->made_at != 0 || SHM_OID_OFF(d->object) != off)
            continue;
        int rc = make(s, d);
        if (rc)
            return rc;
    }
    return 0;
}

void sho_deferred_truncate(sho_session *s, uint32_t count)
{
    while (s->deferred_count > count) {
        sho_deferred *d = &s->deferred[--s->deferred_count];
        s->deferred_pending -= d->made_at == 0;
        free(d->data);
    }
}

void sho_deferred_leave(sho_session *s, unsigned depth, bool undone)
{
    for (uint32_t i = 0; i < s->deferred_count; i++) {
        sho_deferred *d = &s->deferred[i];
        if (d->made_at <= depth)
            continue;
        s->deferred_pending += undone;
        d->made_at = undone ? 0 : depth; /* D4 */
    }
}

/* ------------------------------------------------------------------------------------------ the commit */

/* Makes all that is still noted. */
static int make_all(sho_session *s)
{
    for (uint32_t i = 0; i < s->deferred_count; i++) {
        int rc = s->deferred[i].made_at == 0 ? make(s, &s->deferred[i]) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

int sho_deferred_commit(sho_session *s)
{
    sho_mark mark = sho_op_mark(s);
    s->late_from = mark.entry_count;
    for (unsigned round = 1;; round++) {
        s->depth++; /* a nested block: changes of what the transaction has changed itself leave notes */
        int rc = make_all(s);
        s->depth--;
        (void)sho_fault("defer.made");
        if (rc == 0)
            rc = sho_commit(s);
        if (rc != SHOBJ_ECONFLICT || round == ROUNDS_MAX || s->undo_lost)
            return rc;
        sho_slot_count(&s->slot->retries);
        sho_op_undo_to(s, mark);
        sho_deferred_leave(s, s->depth, true);
        rc = sho_op_renew(s); /* D2 */
        if (rc)
            return rc;
        if (round > 2 && s->token == 0)
            sho_backoff(s, round - 2);
    }
}
