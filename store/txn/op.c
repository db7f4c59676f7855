/*
 * op.c: operations: reading nodes under the transaction's overlay, checking, changing shadows.
 *
 * The session keeps an entry for every node it has touched: the orec as it was read, and the redo record if the node
 * is to change. Outside a transaction the entries are those of the one operation. In a transaction they are
 * its read set, found by offset through a map; `path` lists those that the current operation touched.
 *
 * I1 (one instant)  sho_op_check() finds every orec of the operation as it was read, after all words were read: so all
 *    these words stood together at one moment between. In a transaction every version is <= rv too, so that the words of
 *    all its operations stood together when the clock was rv (opacity).
 * I2 (alive)  a path starts at an object that the caller keeps alive and leads over words of checked nodes, so no block on it
 *    was freed meanwhile: freeing a node raises its orec and changes a word of the node that referred to it.
 * I3 (restart)  before the check an operation changes only the private side, the tail of its own log and blocks nobody
 *    else knows; sho_op_rollback() undoes all three.
 *
 * Memory order: sho_op_read acquires the orec, so that the words read afterwards are at least as new; the fence in
 * sho_op_check keeps them above the second look at the orecs. Its partner is the release store of the orec by whoever
 * changed the words (commit.c).
 *
 * Extension (LSA): a version above rv means that the node changed since the snapshot. If nothing read so far has
 * changed, the snapshot may as well be now. The clock is raised to that version first: single writes
 * do not tick it, and no rv may run ahead of it.
 */
#include "txn/op.h"

#include <string.h>

#include "txn/session.h"

#define MAP_ROOM_MIN 64u
#define RESTARTS_BEFORE_BACKOFF 2u
#define RESTARTS_IN_TXN 32u
#define BOX_SHORT_BYTES 4096u

/* ------------------------------------------------------------------------------------------ entries */

static SHO_COLD int grow_array(void **array, uint32_t *room, size_t element_bytes, uint32_t least)
{
    uint32_t want = *room < 32 ? 32 : *room * 2;
    if (want < least)
        want = least;
    void *p = realloc(*array, want * element_bytes);
    if (p == NULL)
        return sho_error(SHOBJ_ENOMEM, "out of memory for a transaction of %u nodes", want);
    *array = p;
    *room = want;
    return 0;
}

static uint32_t map_slot(const sho_session *s, const struct shm_node *node)
{
    uint64_t h = ((uint64_t)(uintptr_t)node >> 4) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32) & (s->map_room - 1);
}

static void map_insert(sho_session *s, uint32_t entry)
{
    uint32_t i = map_slot(s, s->o.entries[entry].node);
    while (s->map[i] != 0)
        i = (i + 1) & (s->map_room - 1);
    s->map[i] = entry + 1;
}

/* Entries leave in the reverse order of their coming, so that clearing a place never cuts a probe sequence that is
 * still needed. */
static void map_remove_last(sho_session *s, uint32_t entry)
{
    uint32_t i = map_slot(s, s->o.entries[entry].node);
    while (s->map[i] != entry + 1)
        i = (i + 1) & (s->map_room - 1);
    s->map[i] = 0;
}

static int map_grow(sho_session *s)
{
    uint32_t room = s->map_room < MAP_ROOM_MIN ? MAP_ROOM_MIN : s->map_room;
    while (room < s->o.entry_count * 2 + 2)
        room *= 2;
    uint32_t *map = calloc(room, sizeof(*map));
    if (map == NULL)
        return sho_error(SHOBJ_ENOMEM, "out of memory for a transaction of %u nodes", s->o.entry_count);
    free(s->map);
    s->map = map;
    s->map_room = room;
    for (uint32_t i = 0; i < s->o.entry_count; i++)
        map_insert(s, i);
    return 0;
}

/* From here on entries are found by offset. */
static int map_begin(sho_session *s)
{
    if (s->map_room < MAP_ROOM_MIN || s->map_room < s->o.entry_count * 2 + 2) {
        int rc = map_grow(s);
        if (rc)
            return rc;
    } else {
        for (uint32_t i = 0; i < s->o.entry_count; i++)
            map_insert(s, i);
    }
    s->mapped = true;
    return 0;
}

int sho_entries_begin(sho_session *s)
{
    s->o.tracked = true;
    return map_begin(s);
}

static void entries_truncate(sho_session *s, uint32_t count)
{
    if (s->mapped) {
        if (count == 0 && s->o.entry_count > s->map_room / 8) {
            memset(s->map, 0, s->map_room * sizeof(*s->map));
        } else {
            for (uint32_t i = s->o.entry_count; i-- > count;)
                map_remove_last(s, i);
        }
    }
    s->o.entry_count = count;
}

void sho_entries_reset(sho_session *s)
{
    entries_truncate(s, 0);
    s->mapped = false;
    s->path_count = 0;
    s->leaf = false;
    s->announced = 0;
    s->o.tracked = false;
    memset(&s->op, 0, sizeof(s->op));
}

bool sho_op_in_txn(const sho_session *s)
{
    return s->depth > 0;
}

bool sho_op_is_deferred(const sho_session *s)
{
    return s->deferring;
}

/* UINT32_MAX: none; *ret_place is where the map has room for it. */
SHO_INLINE uint32_t entry_find_place(const sho_session *s, const struct shm_node *node, uint32_t *ret_place)
{
    uint32_t i = map_slot(s, node);
    for (; s->map[i] != 0; i = (i + 1) & (s->map_room - 1))
        if (s->o.entries[s->map[i] - 1].node == node)
            return s->map[i] - 1;
    *ret_place = i;
    return UINT32_MAX;
}

static uint32_t entry_find(const sho_session *s, const struct shm_node *node)
{
    uint32_t place;
    return entry_find_place(s, node, &place);
}

bool sho_entries_have(const sho_session *s, uint64_t off, uint32_t first)
{
    return first == UINT32_MAX || (s->mapped && entry_find(s, (const struct shm_node *)((uintptr_t)s->region->base + off)) < first);
}

static int entry_add(sho_session *s, struct shm_node *node, uint64_t version, bool is_new, uint32_t *ret_entry)
{
    if (SHO_UNLIKELY(s->o.entry_count == s->o.entry_room)) {
        int rc = grow_array((void **)&s->o.entries, &s->o.entry_room, sizeof(*s->o.entries), 0);
        if (rc)
            return rc;
    }
    uint32_t at = s->o.entry_count++;
    s->o.entries[at] = (sho_entry){.node = node, .version = version, .is_new = is_new};
    if (s->mapped) {
        if (SHO_UNLIKELY(s->o.entry_count * 2 > s->map_room)) {
            int rc = map_grow(s);
            if (rc) {
                s->o.entry_count--;
                return rc;
            }
        } else {
            map_insert(s, at);
        }
    }
    *ret_entry = at;
    return 0;
}

static int path_add(sho_session *s, uint32_t entry)
{
    if (SHO_UNLIKELY(s->path_count == s->path_room)) {
        int rc = grow_array((void **)&s->path, &s->path_room, sizeof(*s->path), 0);
        if (rc)
            return rc;
    }
    s->path[s->path_count++] = entry;
    return 0;
}

static bool entry_valid(const sho_entry *e)
{
    return e->is_new || (!e->is_past && sho_load_acquire(&e->node->orec) == e->version);
}

bool sho_entries_valid(sho_session *s)
{
    for (uint32_t i = 0; i < s->o.entry_count; i++) {
        const sho_entry *e = &s->o.entries[i];
        if (!entry_valid(e) && (s->token == 0 || sho_settled_orec(s, e->node) != e->version))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------ reading */

static int doom(sho_session *s)
{
    s->doomed = true;
    return sho_conflict();
}

/* Moves the snapshot to now; the node that asks has `version`. */
static int extend(sho_session *s, uint64_t version)
{
    sho_word *clock = &s->region->sb->clock;
    uint64_t now = sho_load_acquire(clock);
    if (s->looked_back) /* P6 */
        return doom(s);
    while (s->region->writable && now < version &&
           !atomic_compare_exchange_weak(clock, &now, version))
        ;
    /* Acquire: the orecs below are looked at after the clock. */
    now = sho_load_acquire(clock);
    if (!sho_entries_valid(s))
        return doom(s);
    s->rv = now;
    return 0;
}

/* The node is locked: waits, or reads it through the log of an owner that has decided and stands still. What is read
 * through stood, and stands on, when the snapshot is taken anew: no version need be known. */
int sho_op_renew(sho_session *s)
{
    return extend(s, 0);
}

static SHO_COLD int meet_lock(sho_session *s, struct shm_node *node, uint64_t orec, struct shm_write **ret_through)
{
    int rc = sho_wait_lock(s, node, orec, s->token == 0 ? ret_through : NULL);
    if (rc)
        return rc;
    if (ret_through == NULL || *ret_through == NULL)
        return SHO_RESTART;
    return s->depth > 0 ? extend(s, 0) : 0;
}

static void mark_through(sho_session *s, uint32_t entry, struct shm_write *write)
{
    s->o.entries[entry].write = write;
    s->o.entries[entry].is_through = true;
}

static int view_past(sho_past *past, uint64_t off, unsigned kind, uint32_t entry, sho_view *ret_view)
{
    if (SHO_UNLIKELY(SHM_HEADER_KIND(past->header) != kind))
        return SHOBJ_ECORRUPT;
    *ret_view = (sho_view){
        .words = past->words, .off = off, .header = past->header, .word_count = past->word_count, .entry = entry};
    return 0;
}

/* The node is newer than the snapshot: reads it as it was. *ret_done false: its past is not known. */
static int read_past(sho_session *s, struct shm_node *node, uint64_t off, unsigned kind, uint32_t entry, sho_view *ret_view,
                     bool *ret_done)
{
    sho_past *past;
    int rc = sho_past_read(s, node, &past);
    *ret_done = rc != 0 || past != NULL;
    if (*ret_done && rc == 0 && entry == UINT32_MAX) {
        rc = entry_add(s, node, past->version, false, &entry);
        if (rc == 0)
            rc = path_add(s, entry);
    }
    if (!*ret_done || rc)
        return rc;
    sho_entry *e = &s->o.entries[entry];
    e->is_past = true;
    e->is_through = false;
    e->version = past->version;
    e->past = past;
    return view_past(past, off, kind, entry, ret_view);
}

static int fill_view(sho_session *s, struct shm_node *node, uint64_t off, unsigned kind, uint32_t entry,
                     struct shm_write *write, sho_view *ret_view)
{
    uint64_t header = sho_load(&node->header);
    unsigned words = SHM_NODE_WORDS(header);
    if (SHO_UNLIKELY(SHM_HEADER_KIND(header) != kind || words == 0 || words > SHM_NODE_WORDS_MAX ||
                     sho_region_at(s->region, off, SHM_NODE_BYTES(words)) == NULL))
        return SHOBJ_ECORRUPT;
    *ret_view = (sho_view){
        .words = node->words, .write = write, .off = off, .header = header, .word_count = words, .entry = entry};
    return 0;
}

/* Reading when entries must be found again: in a transaction, or behind the first change of an operation. */
static int read_tracked(sho_session *s, struct shm_node *node, uint64_t off, unsigned kind, sho_view *ret_view)
{
    if (s->doomed)
        return sho_conflict();
    int rc;
    if (SHO_UNLIKELY(s->deferred_pending > 0) && !s->deferring && SHM_KIND_IS_OBJECT(kind) && sho_deferred_for(s, off)) {
        s->deferred_wanted = off; /* D1: first that, then this operation again */
        return SHO_RESTART;
    }
    if (!s->mapped && (rc = map_begin(s)))
        return rc;
    uint32_t at = entry_find(s, node);
    if (at != UINT32_MAX) {
        sho_entry *e = &s->o.entries[at];
        if (s->depth > 0 && (rc = path_add(s, at)))
            return rc;
        if (e->is_new)
            return fill_view(s, node, off, kind, at | SHO_ENTRY_NEW_BIT, NULL, ret_view);
        uint64_t orec = sho_load_acquire(&node->orec);
        if (SHO_UNLIKELY(e->is_past) && orec == e->version)
            return view_past(e->past, off, kind, at, ret_view);
        if (SHO_UNLIKELY(orec != e->version)) {
            bool done;
            if (s->looks_back && ((rc = read_past(s, node, off, kind, at, ret_view, &done)) || done))
                return rc;
            if (SHM_OREC_IS_LOCKED(orec))
                return meet_lock(s, node, orec, NULL); /* it may give the node back as it was */
            return s->depth > 0 ? doom(s) : SHO_RESTART;
        }
        return fill_view(s, node, off, kind, at, e->write, ret_view);
    }
    uint64_t orec = sho_load_acquire(&node->orec);
    struct shm_write *through = NULL;
    bool done;
    if (SHO_UNLIKELY(s->looks_back) && (SHM_OREC_IS_LOCKED(orec) || orec > s->rv) &&
        ((rc = read_past(s, node, off, kind, UINT32_MAX, ret_view, &done)) || done))
        return rc;
    if (SHO_UNLIKELY(SHM_OREC_IS_LOCKED(orec))) {
        if ((rc = meet_lock(s, node, orec, &through)))
            return rc;
    } else if (s->depth > 0 && orec > s->rv && (rc = extend(s, orec))) {
        return rc;
    }
    if ((rc = entry_add(s, node, orec, false, &at)) || (s->depth > 0 && (rc = path_add(s, at))))
        return rc;
    if (SHO_UNLIKELY(through != NULL))
        mark_through(s, at, through);
    return fill_view(s, node, off, kind, at, through, ret_view);
}

/* The two usual cases of a transaction: a node that it has read before, unchanged since (what its entry was made from has been
 * judged already), and one that is new to it and no newer than its snapshot. False: neither; nothing has been done. */
SHO_INLINE bool read_plain(sho_session *s, uint64_t off, unsigned kind, sho_view *ret_view)
{
    sho_op_state *o = &s->o;
    if (SHO_UNLIKELY(s->depth == 0 || !s->mapped || s->doomed || s->deferred_pending > 0 || s->path_count == s->path_room))
        return false;
    /* Not looked at before it is found, or off has been judged. */
    struct shm_node *node = (struct shm_node *)((uintptr_t)o->base + off);
    uint32_t place = 0;
    uint32_t at = entry_find_place(s, node, &place);
    bool known = at != UINT32_MAX;
    if (SHO_UNLIKELY(known ? o->entries[at].is_new || o->entries[at].is_past
                           : (off & 15) || off - o->data_off >= o->limit - o->data_off - SHM_NODE_BYTES(SHM_NODE_WORDS_MAX) ||
                                 o->entry_count == o->entry_room || (o->entry_count + 1) * 2 > s->map_room))
        return false;
    uint64_t orec = sho_load_acquire(&node->orec);
    uint64_t header = sho_load(&node->header);
    if (SHO_UNLIKELY((known ? orec != o->entries[at].version : SHM_OREC_IS_LOCKED(orec) || orec > s->rv) ||
                     SHM_HEADER_KIND(header) != kind || SHM_NODE_WORDS(header) - 1 >= SHM_NODE_WORDS_MAX))
        return false;
    if (!known) {
        at = o->entry_count++;
        o->entries[at] = (sho_entry){.node = node, .version = orec};
        s->map[place] = at + 1;
    }
    s->path[s->path_count++] = at;
    *ret_view = (sho_view){.words = node->words,
                           .write = o->entries[at].write,
                           .off = off,
                           .header = header,
                           .word_count = SHM_NODE_WORDS(header),
                           .entry = at};
    return true;
}

int sho_op_read_slow(sho_session *s, uint64_t off, unsigned kind, sho_view *ret_view)
{
    if (read_plain(s, off, kind, ret_view))
        return 0;
    struct shm_node *node = (struct shm_node *)sho_region_at(s->region, off, SHM_NODE_BYTES(1));
    s->o.limit = atomic_load_explicit(&s->region->limit, memory_order_relaxed);
    if (SHO_UNLIKELY(node == NULL || (off & 15)))
        return SHOBJ_ECORRUPT;
    if (s->o.tracked)
        return read_tracked(s, node, off, kind, ret_view);
    uint64_t orec = sho_load_acquire(&node->orec);
    struct shm_write *through = NULL;
    uint32_t at;
    int rc;
    if (SHO_UNLIKELY(SHM_OREC_IS_LOCKED(orec)) && (rc = meet_lock(s, node, orec, &through)))
        return rc;
    rc = entry_add(s, node, orec, false, &at);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (SHO_UNLIKELY(through != NULL))
        mark_through(s, at, through);
    return fill_view(s, node, off, kind, at, through, ret_view);
}

SHO_COLD int sho_op_object_gone(shobj_oid oid)
{
    return sho_error(SHOBJ_ESTALE, "object %016llx is gone: it was deleted and its memory freed; look it up again",
                     (unsigned long long)oid);
}

SHO_COLD int sho_op_object_condemned(sho_session *s, shobj_oid oid)
{
    return s->depth > 0 && !s->doomed && !sho_entries_valid(s) ? doom(s) : sho_op_object_gone(oid);
}

int sho_op_read_object_slow(sho_session *s, shobj_oid oid, unsigned kind, sho_view *ret_view)
{
    uint64_t off = SHM_OID_OFF(oid);
    uint64_t header;
    if (sho_op_node_header(s, off, &header) || !SHM_OID_LIVES(oid, header))
        return sho_op_object_condemned(s, oid);
    int rc;
    unsigned is = SHM_HEADER_KIND(header);
    if (SHO_UNLIKELY(kind != 0 && is != kind))
        return sho_error(SHOBJ_ETYPE, "object %016llx is a %s, not a %s", (unsigned long long)oid,
                         is == SHM_DICT ? "dict" : "list", kind == SHM_DICT ? "dict" : "list");
    (void)sho_fault("object.judged");
    rc = sho_op_read(s, off, is, ret_view);
    return rc ? rc : sho_op_same_object(oid, ret_view->header);
}

int sho_op_node_header(const sho_session *s, uint64_t off, uint64_t *ret_header)
{
    struct shm_node *node = (struct shm_node *)sho_region_at(s->region, off, SHM_NODE_BYTES(1));
    if (SHO_UNLIKELY(node == NULL || (off & 15)))
        return SHOBJ_ECORRUPT;
    *ret_header = sho_load(&node->header);
    return 0;
}

int sho_op_box(sho_session *s, uint64_t off, uint64_t *ret_header, const sho_word **ret_words)
{
    /* One comparison for both ends of a short box; others are looked at again when their length is known. */
    bool inside = off - s->o.data_off < s->o.limit - s->o.data_off - BOX_SHORT_BYTES && (off & 7) == 0;
    s->boxes = true;
    if (SHO_UNLIKELY(!inside) && sho_region_at(s->region, off, sizeof(struct shm_box)) == NULL)
        return SHOBJ_ECORRUPT;
    struct shm_box *box = (struct shm_box *)(s->o.base + off);
    uint64_t header = sho_load(&box->header);
    uint64_t bytes = ((SHM_BOX_BYTES_OF(header) + 7) & ~7ULL) + sizeof(struct shm_box);
    if (SHO_UNLIKELY(SHM_HEADER_KIND(header) < SHM_BOX_FLOAT) ||
        ((!inside || bytes > BOX_SHORT_BYTES) && SHO_UNLIKELY(sho_region_at(s->region, off, bytes) == NULL)))
        return SHOBJ_ECORRUPT;
    *ret_header = header;
    *ret_words = box->words;
    return 0;
}

int sho_op_check_slow(sho_session *s)
{
    sho_fence_acquire();
    if (s->depth == 0 && s->o.entry_count == 1 && SHO_LIKELY(entry_valid(&s->o.entries[0])))
        return 0;
    if (s->depth == 0)
        return sho_entries_valid(s) ? 0 : SHO_RESTART;
    if (s->doomed)
        return sho_conflict();
    if (!s->region->writable)
        return sho_entries_valid(s) ? 0 : doom(s); /* such a reader can't raise the clock: it looks at everything */
    for (uint32_t i = 0; i < s->path_count; i++) {
        const sho_entry *e = &s->o.entries[s->path[i]];
        /* A node's past, too, was made of its words at that version (P5). */
        if (SHO_UNLIKELY(!e->is_new && sho_load_acquire(&e->node->orec) != e->version))
            return SHO_RESTART;
    }
    /* A box that an own change has moved from one node to another lives as long as the first one is unchanged, which need not
     * be on this path. */
    for (uint32_t i = 0; s->boxes && s->moved && i < s->path_count; i++)
        if (s->o.entries[s->path[i]].write != NULL)
            return sho_entries_valid(s) ? 0 : doom(s);
    return 0;
}

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
        return meet_lock(s, e->node, e->version, NULL); /* it was read through another's log */
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
    if (!s->mapped && s->depth > 0 && (rc = map_begin(s)))
        return rc;
    rc = entry_add(s, node, sho_load(&node->orec), true, &at);
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
        grow_array((void **)&s->undo, &s->undo_room, sizeof(*s->undo), 0)) {
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
    entries_truncate(s, mark.entry_count);
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
    entries_truncate(s, s->op.entry_count);
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
    entries_truncate(s, s->op.entry_count);
    for (uint32_t i = s->op.entry_count; i < end; i++) {
        sho_entry e = s->o.entries[i];
        if (e.is_new)
            continue;
        if (entry_add(s, e.node, e.version, false, &at)) {
            s->doomed = true; /* out of memory: it must not commit without them */
            return;
        }
        if (e.is_through)
            mark_through(s, at, e.write);
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
        *rc = doom(s); /* so that the whole gets the right of way */
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
        *rc = doom(s); /* it was alive at the snapshot, maybe */
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
