/*
 * read.c: what an operation and its transaction have read, and whether it still stands.
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
 *
 * Memory order: sho_op_read acquires the orec, so that the words read afterwards are at least as new; the fence in
 * sho_op_check keeps them above the second look at the orecs. Its partner is the release store of the orec by whoever
 * changed the words (commit.c).
 *
 * Extension (LSA): a version above rv means that the node changed since the snapshot. If nothing read so far has
 * changed, the snapshot may as well be now. The clock is raised to that version first: single writes
 * do not tick it, and no rv may run ahead of it.
 */
#include "txn/read.h"

#include <string.h>

#define MAP_ROOM_MIN 64u
#define BOX_SHORT_BYTES 4096u

/* ------------------------------------------------------------------------------------------ entries */

SHO_COLD int sho_array_grow(void **array, uint32_t *room, size_t element_bytes, uint32_t least)
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
int sho_entries_map(sho_session *s)
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
    return sho_entries_map(s);
}

void sho_entries_truncate(sho_session *s, uint32_t count)
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
    sho_entries_truncate(s, 0);
    s->mapped = false;
    s->path_count = 0;
    s->leaf = false;
    s->announced = 0;
    s->o.tracked = false;
    memset(&s->op, 0, sizeof(s->op));
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

int sho_entry_add(sho_session *s, struct shm_node *node, uint64_t version, bool is_new, uint32_t *ret_entry)
{
    if (SHO_UNLIKELY(s->o.entry_count == s->o.entry_room)) {
        int rc = sho_array_grow((void **)&s->o.entries, &s->o.entry_room, sizeof(*s->o.entries), 0);
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
        int rc = sho_array_grow((void **)&s->path, &s->path_room, sizeof(*s->path), 0);
        if (rc)
            return rc;
    }
    s->path[s->path_count++] = entry;
    return 0;
}

bool sho_entries_valid(sho_session *s)
{
    for (uint32_t i = 0; i < s->o.entry_count; i++) {
        const sho_entry *e = &s->o.entries[i];
        if (!sho_entry_valid(e) && (s->token == 0 || sho_settled_orec(s, e->node) != e->version))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------ reading */

int sho_op_doom(sho_session *s)
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
        return sho_op_doom(s);
    while (s->region->writable && now < version &&
           !atomic_compare_exchange_weak(clock, &now, version))
        ;
    /* Acquire: the orecs below are looked at after the clock. */
    now = sho_load_acquire(clock);
    if (!sho_entries_valid(s))
        return sho_op_doom(s);
    s->rv = now;
    return 0;
}

int sho_op_renew(sho_session *s)
{
    return extend(s, 0);
}

SHO_COLD int sho_op_meet_lock(sho_session *s, struct shm_node *node, uint64_t orec, struct shm_write **ret_through)
{
    int rc = sho_wait_lock(s, node, orec, s->token == 0 ? ret_through : NULL);
    if (rc)
        return rc;
    if (ret_through == NULL || *ret_through == NULL)
        return SHO_RESTART;
    return s->depth > 0 ? extend(s, 0) : 0;
}

void sho_entry_through(sho_session *s, uint32_t entry, struct shm_write *write)
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
        rc = sho_entry_add(s, node, past->version, false, &entry);
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
    if (!s->mapped && (rc = sho_entries_map(s)))
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
                return sho_op_meet_lock(s, node, orec, NULL); /* it may give the node back as it was */
            return s->depth > 0 ? sho_op_doom(s) : SHO_RESTART;
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
        if ((rc = sho_op_meet_lock(s, node, orec, &through)))
            return rc;
    } else if (s->depth > 0 && orec > s->rv && (rc = extend(s, orec))) {
        return rc;
    }
    if ((rc = sho_entry_add(s, node, orec, false, &at)) || (s->depth > 0 && (rc = path_add(s, at))))
        return rc;
    if (SHO_UNLIKELY(through != NULL))
        sho_entry_through(s, at, through);
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
    if (SHO_UNLIKELY(SHM_OREC_IS_LOCKED(orec)) && (rc = sho_op_meet_lock(s, node, orec, &through)))
        return rc;
    rc = sho_entry_add(s, node, orec, false, &at);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (SHO_UNLIKELY(through != NULL))
        sho_entry_through(s, at, through);
    return fill_view(s, node, off, kind, at, through, ret_view);
}

SHO_COLD int sho_op_object_gone(shobj_oid oid)
{
    return sho_error(SHOBJ_ESTALE, "object %016llx is gone: it was deleted and its memory freed; look it up again",
                     (unsigned long long)oid);
}

SHO_COLD int sho_op_object_condemned(sho_session *s, shobj_oid oid)
{
    return s->depth > 0 && !s->doomed && !sho_entries_valid(s) ? sho_op_doom(s) : sho_op_object_gone(oid);
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
    if (s->depth == 0 && s->o.entry_count == 1 && SHO_LIKELY(sho_entry_valid(&s->o.entries[0])))
        return 0;
    if (s->depth == 0)
        return sho_entries_valid(s) ? 0 : SHO_RESTART;
    if (s->doomed)
        return sho_conflict();
    if (!s->region->writable)
        return sho_entries_valid(s) ? 0 : sho_op_doom(s); /* such a reader can't raise the clock: it looks at everything */
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
            return sho_entries_valid(s) ? 0 : sho_op_doom(s);
    return 0;
}
