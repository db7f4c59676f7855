/*
 * hold.c: objects that a call has just returned.
 *
 * Between the reading of a reference and the caller's taking it over (a pin, or a place in the heap) nothing else need refer to
 * the object any more. So an operation that is going to return an object first writes its id into the session's slot, where the
 * collector looks, and only then checks that what it has read still stands. Nobody else writes or waits for these words.
 *
 * What has no place in the slot goes to a box, twice as large each time; the slot's word leads to it, and is set when the new box has all
 * that the old one had. A crash leaves the box to the collector.
 */
#include "txn/session.h"

#define MORE_MIN 1024u

struct holds {
    sho_word header;
    sho_word count;
    sho_word ids[];
};

static struct holds *holds_more(const sho_session *s)
{
    uint64_t off = sho_load(&s->slot->holds_more);
    return off != 0 ? (struct holds *)sho_region_at(s->region, off, sizeof(struct holds)) : NULL;
}

static uint64_t room_of(const struct holds *holds)
{
    return SHM_BOX_BYTES_OF(sho_load(&holds->header)) / 8 - 1;
}

static int grow(sho_session *s, struct holds *old, struct holds **ret_holds)
{
    uint64_t count = old != NULL ? sho_load(&old->count) : 0;
    uint64_t room = count * 2 > MORE_MIN ? count * 2 : MORE_MIN;
    uint64_t off;
    int rc = sho_heap_take_box(&s->heap, (room + 1) * 8, &off);
    if (rc)
        return rc;
    struct holds *holds = (struct holds *)(s->region->base + off);
    for (uint64_t i = 0; i < count; i++)
        sho_store(&holds->ids[i], sho_load(&old->ids[i]));
    sho_store(&holds->count, count);
    sho_store_release(&holds->header, SHM_BOX_HEADER(SHM_BOX_HOLDS, 0, (room + 1) * 8));
    uint64_t before = sho_load(&s->slot->holds_more);
    if (before != 0)
        sho_heap_freeing(&s->heap, before);
    sho_store_release(&s->slot->holds_more, off);
    sho_heap_taken(&s->heap, off);
    if (before != 0)
        sho_heap_give(&s->heap, before);
    *ret_holds = holds;
    return 0;
}

SHO_COLD int sho_hold_more(sho_session *s, shobj_oid oid)
{
    struct holds *holds = holds_more(s);
    if (holds == NULL || sho_load(&holds->count) >= room_of(holds)) {
        int rc = grow(s, holds, &holds);
        if (rc) /* without room it is not held: who reads must not fail for that; if the object goes, its id tells */
            return rc == SHOBJ_EFULL ? 0 : rc;
    }
    uint64_t count = sho_load(&holds->count);
    sho_store(&holds->ids[count], oid);
    sho_store_release(&holds->count, count + 1);
    sho_barrier_object(s, SHM_OID_OFF(oid));
    return 0;
}

void sho_hold_drop(sho_session *s)
{
    if (s->slot == NULL)
        return;
    sho_store(&s->slot->hold_count, 0);
    s->hold_count = s->hold_next = 0;
    uint64_t more = sho_load(&s->slot->holds_more);
    if (SHO_UNLIKELY(more != 0)) {
        sho_heap_freeing(&s->heap, more);
        sho_store_release(&s->slot->holds_more, 0);
        sho_heap_give(&s->heap, more);
    }
}

/* Places stay as they are, so a collector that reads them meanwhile misses none. They are let go of in the order in which they
 * were taken, as a rule: the search begins behind the last one, and ends at once. */
bool sho_hold_release(sho_session *s, shobj_oid oid)
{
    uint32_t count = s->hold_count;
    uint32_t at = s->hold_next;
    if (SHO_UNLIKELY(at >= count || sho_load(&s->slot->holds[at]) != oid)) {
        for (at = 0; at < count && sho_load(&s->slot->holds[at]) != oid; at++)
            ;
        if (at == count)
            return false;
    }
    if (SHO_UNLIKELY(sho_load(&s->slot->holds_more) != 0))
        return true; /* all go together, and whether there are any is told by those in the slot */
    sho_store_release(&s->slot->holds[at], 0);
    s->hold_next = at + 1;
    while (count > 0 && sho_load(&s->slot->holds[count - 1]) == 0)
        count--;
    if (count != s->hold_count)
        sho_store_release(&s->slot->hold_count, s->hold_count = count);
    if (count == 0)
        s->hold_next = 0;
    return true;
}
