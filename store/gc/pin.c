/*
 * pin.c: objects that a process keeps alive from outside the heap: one word of its table for each.
 *
 * The table is a chain of boxes in the heap, which leads from the process record. Only its process writes it; the collector reads it.
 * Which words are free is known privately, so that pinning is one store, and unpinning another.
 *
 * An object that is pinned need not be reachable from anywhere else: the caller may have had nothing but its id. So after the
 * store he looks at the collector's word, and again until it has not moved on meanwhile:
 *
 *   IDLE          nothing is judged; the next cycle finds the pin
 *   ARM, ROOTS    shade it, as anybody does who puts a reference into a root area
 *   MARK          shade it, count, and count up the pass: what ends marking has seen that it is gray
 *   KILL, SWEEP   alive if it is black, else condemned: ESTALE
 *
 * and last of all at the object's head: is it there, and the one of that id? What the session holds, is (hold.c).
 *
 * In a store that has no room for a longer table an object is not pinned: looking at what is there must not fail for want of room.
 * Its proxy then works as long as something else keeps it, and says ESTALE afterwards (G7).
 *
 * fork(): the handlers make a record for the child, with a copy of the table, before it comes into being. Its lock hangs on a page that
 * both have for a moment; the parent gives it up and the child keeps it.
 */
#include <string.h>
#include <sys/mman.h>

#include "gc/cycle.h"

#define CHUNK_IDS 509u

struct shobj_pins {
    shobj_store *store;
    struct shobj_pins *next; /* of the store's; guarded by the global mutex */
    struct shm_pins **chunks;
    uint64_t *offs;
    uint32_t chunk_count;
    uint32_t *free; /* words that are free */
    uint32_t free_count, free_room;
    uint64_t *child_offs; /* across fork(): the child's copies */
};

/* ------------------------------------------------------------------------------------------ the table */

/* A new chunk in front of a record's chain. */
static int chunk_new(sho_session *s, unsigned process, uint64_t *ret_off)
{
    uint64_t off;
    uint64_t bytes = sizeof(struct shm_pins) - 8 + CHUNK_IDS * 8;
    int rc = sho_heap_take_box(&s->heap, bytes, &off);
    if (rc)
        return rc;
    struct shm_pins *chunk = (struct shm_pins *)(s->region->base + off);
    sho_word *first = &sho_region_process(s->region, process)->pins;
    for (unsigned i = 0; i < CHUNK_IDS; i++)
        sho_store(&chunk->ids[i], 0);
    sho_store(&chunk->count, CHUNK_IDS);
    sho_store(&chunk->next, sho_load(first));
    sho_store_release(&chunk->header, SHM_BOX_HEADER(SHM_BOX_PINS, 0, bytes));
    sho_store_release(first, off);
    sho_heap_taken(&s->heap, off);
    *ret_off = off;
    return 0;
}

/* The process's tables hang on one chain, which several threads may lengthen. */
static int chunk_new_locked(sho_session *s, uint64_t *ret_off)
{
    sho_global_lock();
    int rc = chunk_new(s, s->store->peer.process, ret_off);
    sho_global_unlock();
    return rc;
}

static SHO_COLD int grow(shobj_pins *pins, sho_session *s)
{
    uint32_t n = pins->chunk_count;
    uint32_t room = (n + 1) * CHUNK_IDS;
    struct shm_pins **chunks = realloc(pins->chunks, (n + 1) * sizeof(*chunks));
    if (chunks != NULL)
        pins->chunks = chunks;
    uint64_t *offs = realloc(pins->offs, (n + 1) * sizeof(*offs));
    if (offs != NULL)
        pins->offs = offs;
    uint32_t *list = realloc(pins->free, room * sizeof(*list));
    if (list != NULL)
        pins->free = list;
    if (chunks == NULL || offs == NULL || list == NULL)
        return sho_error(SHOBJ_ENOMEM, "out of memory for a table of %u pinned objects of %s", room, s->region->path);
    int rc = chunk_new_locked(s, &offs[n]);
    if (rc)
        return rc;
    chunks[n] = (struct shm_pins *)(s->region->base + offs[n]);
    pins->chunk_count = n + 1;
    for (uint32_t i = CHUNK_IDS; i-- > 0;)
        list[pins->free_count++] = n * CHUNK_IDS + i;
    return 0;
}

SHOBJ_API int shobj_pins_open(shobj_store *store, shobj_pins **ret_pins)
{
    shobj_pins *pins = calloc(1, sizeof(*pins));
    if (pins == NULL)
        return sho_error(SHOBJ_ENOMEM, "out of memory for the pinned objects of %s", store->region->path);
    pins->store = store;
    sho_global_lock();
    pins->next = store->pins;
    store->pins = pins;
    sho_global_unlock();
    *ret_pins = pins;
    return 0;
}

static void pins_free(shobj_pins *pins)
{
    free(pins->chunks);
    free(pins->offs);
    free(pins->free);
    free(pins->child_offs);
    free(pins);
}

SHOBJ_API void shobj_pins_close(shobj_pins *pins)
{
    if (pins == NULL)
        return;
    sho_global_lock();
    for (shobj_pins **p = &pins->store->pins; *p != NULL; p = &(*p)->next)
        if (*p == pins) {
            *p = pins->next;
            break;
        }
    /* The chunks stay on the chain, empty, until the process leaves. */
    for (uint32_t i = 0; i < pins->chunk_count; i++)
        for (unsigned k = 0; k < CHUNK_IDS; k++)
            sho_store(&pins->chunks[i]->ids[k], 0);
    sho_global_unlock();
    pins_free(pins);
}

/* With the global mutex held. */
void sho_pins_drop(shobj_store *store)
{
    while (store->pins != NULL) {
        shobj_pins *pins = store->pins;
        store->pins = pins->next;
        pins_free(pins);
    }
    if (!store->region->writable || sho_peer_is_forked(&store->peer))
        return;
    sho_word *first = &sho_region_process(store->region, store->peer.process)->pins;
    sho_session *s = store->sessions;
    uint64_t off;
    for (; s != NULL && s->slot != NULL && (off = sho_load(first)) != 0;) {
        const struct shm_pins *chunk = (struct shm_pins *)sho_region_at(s->region, off, sizeof(*chunk));
        if (chunk == NULL)
            break;
        sho_heap_freeing(&s->heap, off);
        sho_store_release(first, sho_load(&chunk->next));
        sho_heap_give(&s->heap, off);
    }
    sho_store_release(first, 0); /* without a session, the collector finds them */
}

/* ------------------------------------------------------------------------------------------ pinning */

/* Has nobody condemned it? */
static SHO_COLD bool is_safe(sho_session *s, uint64_t off)
{
    sho_word *word = &s->region->sb->gc;
    uint64_t gc = sho_load_acquire(word);
    for (;;) {
        uint64_t seen = gc;
        bool is_condemned = false;
        sho_block block;
        uint64_t header;
        switch (SHM_GC_PHASE(gc)) {
        case SHM_GC_IDLE:
            break;
        case SHM_GC_ARM:
        case SHM_GC_ROOTS:
            sho_barrier_object_slow(s, gc, off);
            break;
        case SHM_GC_MARK:
            sho_barrier_object_slow(s, gc, off);
            (void)sho_fault("pin.shaded");
            if (sho_cas(word, gc, SHM_GC(SHM_GC_CYCLE(gc), SHM_GC_PASS(gc) + 1, SHM_GC_MARK)))
                return true;
            break;
        default:
            (void)sho_fault("pin.looked");
            is_condemned = sho_block_find(s->region, off, &block, &header) || !block.is_node ||
                           sho_mark_get(s->region, SHM_GC_CYCLE(gc), block) != SHO_BLACK;
        }
        gc = sho_load_acquire(word);
        if (gc == seen && is_condemned)
            return false; /* else its mark may be one of the next cycle, which says nothing of the one before */
        if (gc == seen)
            return true;
    }
}

SHOBJ_API int shobj_pin(shobj_pins *pins, shobj_oid oid, uint32_t *ret_pin)
{
    sho_session *s;
    int rc = sho_session_get(pins->store, &s);
    if (rc)
        return rc;
    uint32_t at = SHOBJ_PIN_NONE;
    uint64_t off = SHM_OID_OFF(oid);
    bool safe = true;
    if (SHO_LIKELY(s->slot != NULL)) {
        if (SHO_UNLIKELY(pins->free_count == 0) && (rc = grow(pins, s)) != 0 && rc != SHOBJ_EFULL)
            return rc;
    }
    if (SHO_LIKELY(pins->free_count > 0)) {
        at = pins->free[--pins->free_count];
        sho_store(&pins->chunks[at / CHUNK_IDS]->ids[at % CHUNK_IDS], oid);
        (void)sho_fault("pin.stored");
        sho_region_light_barrier(s->region);
        if (SHO_UNLIKELY(SHM_GC_PHASE(sho_gc_word(s)) != SHM_GC_IDLE))
            safe = is_safe(s, off);
    }
    uint64_t header;
    /* What is held is there; the hold has done its work then. */
    bool held = s->hold_count > 0 && sho_hold_release(s, oid);
    if (SHO_UNLIKELY(!safe || (!held && (sho_op_node_header(s, off, &header) || !SHM_OID_LIVES(oid, header))))) {
        if (at != SHOBJ_PIN_NONE)
            shobj_unpin(pins, at);
        return sho_op_object_gone(oid);
    }
    *ret_pin = at;
    return 0;
}

SHOBJ_API void shobj_unpin(shobj_pins *pins, uint32_t pin)
{
    if (pin == SHOBJ_PIN_NONE)
        return;
    sho_store_release(&pins->chunks[pin / CHUNK_IDS]->ids[pin % CHUNK_IDS], 0);
    (void)sho_fault("pin.cleared");
    pins->free[pins->free_count++] = pin;
}

SHOBJ_API int shobj_hold(shobj_store *store, shobj_oid oid)
{
    sho_session *s;
    uint64_t header;
    uint64_t off = SHM_OID_OFF(oid);
    int rc = sho_session_get(store, &s);
    if (rc || s->slot == NULL || (rc = sho_hold(s, oid)))
        return rc;
    sho_region_light_barrier(s->region);
    if ((SHM_GC_PHASE(sho_gc_word(s)) == SHM_GC_IDLE || is_safe(s, off)) && sho_op_node_header(s, off, &header) == 0 &&
        SHM_OID_LIVES(oid, header))
        return 0;
    shobj_release(store, oid);
    return sho_op_object_gone(oid);
}

SHOBJ_API void shobj_release(shobj_store *store, shobj_oid oid)
{
    sho_session *s;
    if (store == NULL || sho_session_get(store, &s) || s->hold_count == 0)
        return;
    if (oid == 0)
        sho_hold_drop(s);
    else
        sho_hold_release(s, oid);
}

/* ------------------------------------------------------------------------------------------ fork */

static void forget_copies(shobj_store *store)
{
    for (shobj_pins *pins = store->pins; pins != NULL; pins = pins->next) {
        free(pins->child_offs);
        pins->child_offs = NULL;
    }
}

static int copy_pins(sho_session *s, shobj_pins *pins, unsigned process)
{
    if (pins->chunk_count == 0)
        return 0;
    pins->child_offs = calloc(pins->chunk_count, sizeof(*pins->child_offs));
    if (pins->child_offs == NULL)
        return SHOBJ_ENOMEM;
    for (uint32_t i = 0; i < pins->chunk_count; i++) {
        int rc = chunk_new(s, process, &pins->child_offs[i]);
        if (rc)
            return rc;
        struct shm_pins *copy = (struct shm_pins *)(s->region->base + pins->child_offs[i]);
        for (unsigned k = 0; k < CHUNK_IDS; k++) {
            shobj_oid oid = sho_load(&pins->chunks[i]->ids[k]);
            sho_store(&copy->ids[k], oid);
            if (oid != 0)
                sho_barrier_object(s, SHM_OID_OFF(oid));
        }
    }
    return 0;
}

/* Without room for a copy the child joins by itself, later, and its proxies may find that their objects have gone. */
void sho_pins_before_fork(shobj_store *store, sho_session *s)
{
    sho_peer peer;
    if (sho_peer_join_for_child(store->region, &peer))
        return;
    store->child_peer = peer;
    for (shobj_pins *pins = store->pins; pins != NULL; pins = pins->next)
        if (copy_pins(s, pins, peer.process)) {
            forget_copies(store);
            sho_peer_leave(store->region, &store->child_peer);
            memset(&store->child_peer, 0, sizeof(store->child_peer));
            return;
        }
}

void sho_pins_after_fork(shobj_store *store, bool in_child)
{
    if (!in_child) {
        sho_peer_leave_to_child(&store->child_peer);
        memset(&store->child_peer, 0, sizeof(store->child_peer));
        forget_copies(store);
        return;
    }
    sho_peer_take_over(store->region, &store->child_peer);
    for (shobj_pins *pins = store->pins; pins != NULL; pins = pins->next)
        for (uint32_t i = 0; pins->child_offs != NULL && i < pins->chunk_count; i++) {
            pins->offs[i] = pins->child_offs[i];
            pins->chunks[i] = (struct shm_pins *)(store->region->base + pins->offs[i]);
        }
    forget_copies(store);
}
