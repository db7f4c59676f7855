/*
 * dict_remove.c: an entry goes.
 *
 * Removing takes no memory, so that a full store can be emptied. A chunk that lost its last entry
 * is unlinked and freed. One that has become half empty takes in a neighbour of the list if the
 * entries of both fit into one: their entries are written anew in their order, and their index
 * words with them. The chunk of the removed entry is the one that stays: who deletes what an
 * iterator has just given out leaves the iterator's place alone. With few entries in one chunk,
 * index and order node go and the chunk is all of the dict again.
 */
#include "types/dict.h"

#include "base/error.h"

#define ABSORB_MAX SHO_DICT_SLOTS_MAX /* entries of a chunk made of two */
#define DEMOTE_MAX 8u  /* entries of a dict that gives up its index */

/* ---------------------------------------------------------------------------- links of the list */

/* The neighbours of chunks that leave the list, and what refers to them. */
typedef struct links {
    sho_view prev, next;
    uint64_t prev_off, next_off; /* 0: the end of the list, which is in the order node */
} links;

static int links_gather(sho_session *s, const sho_view *prev_of, const sho_view *next_of, links *l)
{
    l->prev_off = sho_view_word(prev_of, SHO_DICT_CHUNK_PREV);
    l->next_off = sho_view_word(next_of, SHO_DICT_CHUNK_NEXT);
    if (l->prev_off == prev_of->off || l->prev_off == next_of->off || l->next_off == prev_of->off ||
        l->next_off == next_of->off)
        return sho_dict_damaged(prev_of, "a chunk linked to itself");
    int rc = 0;
    if (l->prev_off != 0) {
        rc = sho_dict_read(s, prev_of, l->prev_off, SHM_DICT_CHUNK, &l->prev);
        if (rc == 0)
            rc = sho_op_write(s, &l->prev);
    }
    if (rc == 0 && l->next_off != 0) {
        rc = sho_dict_read(s, next_of, l->next_off, SHM_DICT_CHUNK, &l->next);
        if (rc == 0)
            rc = sho_op_write(s, &l->next);
    }
    return rc;
}

/* What stood between becomes `between` (0: nothing). */
static void links_apply(sho_session *s, links *l, sho_view *order, uint64_t between)
{
    uint64_t right = between ? between : l->next_off;
    uint64_t left = between ? between : l->prev_off;
    if (l->prev_off != 0)
        sho_op_set(s, &l->prev, SHO_DICT_CHUNK_NEXT, right);
    else
        sho_op_set(s, order, SHO_DICT_ORDER_FIRST, right);
    if (l->next_off != 0)
        sho_op_set(s, &l->next, SHO_DICT_CHUNK_PREV, left);
    else
        sho_op_set(s, order, SHO_DICT_ORDER_TAIL, left);
}

/* ------------------------------------------------------------------------ taking in a neighbour */

typedef struct absorb {
    sho_view other; /* the neighbour that goes */
    links around;   /* both chunks */
    uint64_t limit;
    unsigned count;
    unsigned group_count;
    sho_dict_entry entries[ABSORB_MAX];
    uint64_t old_places[ABSORB_MAX];
    uint8_t group_of[ABSORB_MAX]; /* index in groups[] */
    sho_view groups[ABSORB_MAX];
} absorb;

/* Entries of a chunk but for slot `but`, with their places. */
static int absorb_collect(absorb *a, const sho_dict_array *array, unsigned but)
{
    for (unsigned slot = 0; slot < array->used; slot++) {
        uint64_t word = sho_dict_array_word(array, slot, 0);
        if (word == 0 || slot == but)
            continue;
        if (a->count == ABSORB_MAX)
            return sho_dict_damaged(array->view, "more entries than it says");
        a->old_places[a->count] = SHO_DICT_PLACE(array->view->off, slot);
        a->entries[a->count++] = (sho_dict_entry){.serial = sho_dict_serial(array->limit, word),
                                                  .key = sho_dict_array_word(array, slot, 1),
                                                  .value = sho_dict_array_word(array, slot, 2),
                                                  .hash = SHO_DICT_ENTRY_HASH(word)};
    }
    return 0;
}

/* Finds and announces the groups of all entries. A group that is the removed entry's too gets a
 * second view of the same node, which shares its record. */
static int absorb_groups(sho_session *s, const sho_dict_path *path, absorb *a)
{
    sho_dict_path way;
    way.head = path->head;
    for (unsigned i = 0; i < a->count; i++) {
        int rc = sho_dict_find_place(s, &way, a->entries[i].hash, a->old_places[i]);
        if (rc)
            return rc;
        const sho_view *group = way.spills ? &way.spill : &way.group;
        unsigned g = 0;
        while (g < a->group_count && a->groups[g].off != group->off)
            g++;
        if (g == a->group_count) {
            a->groups[a->group_count++] = *group;
            rc = sho_op_write(s, &a->groups[g]);
            if (rc)
                return rc;
        }
        a->group_of[i] = (uint8_t)g;
    }
    return 0;
}

/* Looks at one neighbour; *ret_fits is whether it is to be taken in. */
static int absorb_try(sho_session *s, sho_dict_path *path, const sho_dict_array *array, bool next, absorb *a,
                      bool *ret_fits)
{
    sho_dict_array other;
    uint64_t off = sho_view_word(&path->chunk, next ? SHO_DICT_CHUNK_NEXT : SHO_DICT_CHUNK_PREV);
    *ret_fits = false;
    if (off == 0)
        return 0;
    int rc = sho_dict_read(s, &path->chunk, off, SHM_DICT_CHUNK, &a->other);
    if (rc || (rc = sho_dict_chunk_array(&a->other, &other)))
        return rc;
    if (other.live + array->live - 1 > array->slots)
        return 0;
    if (off == path->chunk.off)
        return sho_dict_damaged(&path->chunk, "a chunk linked to itself");
    a->count = 0;
    a->group_count = 0;
    a->limit = next ? other.limit : array->limit;
    if ((!next && (rc = absorb_collect(a, &other, SHO_DICT_SLOTS_MAX))) ||
        (rc = absorb_collect(a, array, path->slot)) || (next && (rc = absorb_collect(a, &other, SHO_DICT_SLOTS_MAX))))
        return rc;
    *ret_fits = a->count > 0 && a->limit - a->entries[0].serial <= SHO_DICT_SERIAL_SPAN;
    if (!*ret_fits)
        return 0;
    rc = links_gather(s, next ? &path->chunk : &a->other, next ? &a->other : &path->chunk, &a->around);
    if (rc || (rc = sho_op_write(s, &a->other)))
        return rc;
    return absorb_groups(s, path, a);
}

static unsigned group_find_word(const sho_view *group, uint64_t place)
{
    for (unsigned i = 1; i < SHO_DICT_GROUP_WORDS; i++)
        if ((sho_view_word(group, i) & SHO_DICT_PLACE_MASK) == place)
            return i;
    return 0;
}

/* Index words keep their tags, and so their homes: only places change. They are all read before the
 * first one is written, since an entry's new place may be another's old one. */
static void absorb_apply(sho_session *s, sho_dict_path *path, sho_dict_array *array, absorb *a, sho_view *order)
{
    unsigned at[ABSORB_MAX] = {0};
    for (unsigned i = 0; i < a->count; i++)
        at[i] = group_find_word(&a->groups[a->group_of[i]], a->old_places[i]);
    for (unsigned i = 0; i < a->count; i++) {
        sho_view *group = &a->groups[a->group_of[i]];
        unsigned tag = SHO_DICT_INDEX_TAG(sho_view_word(group, at[i]));
        if (at[i] != 0)
            sho_op_set(s, group, at[i], SHO_DICT_INDEX_WORD(tag, SHO_DICT_PLACE(path->chunk.off, i)));
    }
    array->limit = a->limit;
    sho_dict_array_fill(s, array, a->entries, a->count);
    sho_op_set(s, &path->chunk, SHO_DICT_CHUNK_PREV, a->around.prev_off);
    sho_op_set(s, &path->chunk, SHO_DICT_CHUNK_NEXT, a->around.next_off);
    links_apply(s, &a->around, order, path->chunk.off);
    sho_op_free_node(s, &a->other);
}

/* ----------------------------------------------------------------------- one of an indexed dict */

typedef struct removal {
    sho_view order;
    sho_dict_array array; /* of the entry's chunk */
    uint64_t count;       /* entries that stay */
    enum { CHUNK_KEEP, CHUNK_UNLINK, CHUNK_ABSORB, CHUNK_DEMOTE } chunk;
    links around;
    absorb absorb;
    sho_dict_merge merge;
} removal;

static bool may_demote(const sho_dict_path *path, const removal *r)
{
    return r->count <= DEMOTE_MAX && path->levels == 0 && SHO_DICT_GROUP_SPILL(sho_view_word(&path->group, 0)) == 0 &&
           sho_dict_array_spans(&r->array, sho_view_word(&r->order, SHO_DICT_ORDER_SERIAL)) &&
           sho_view_word(&r->order, SHO_DICT_ORDER_FIRST) == path->chunk.off &&
           sho_view_word(&r->order, SHO_DICT_ORDER_TAIL) == path->chunk.off;
}

/* The group in which the entry's index word is, and the one that refers to it if it is a spill
 * group. */
static sho_view *word_group(sho_dict_path *path)
{
    return path->spills ? &path->spill : &path->group;
}

static sho_view *spill_referrer(sho_dict_path *path)
{
    return path->spills == 1 ? &path->group : &path->before;
}

/* What removing one entry can't do without: order node, chunk, group, and the way out of the list
 * for an empty chunk. */
static int removal_gather(sho_session *s, sho_dict_path *path, removal *r)
{
    r->chunk = CHUNK_KEEP;
    r->merge.freed = 0;
    int rc = sho_op_write(s, &r->order);
    if (rc || (rc = sho_op_write(s, &path->chunk)) || (rc = sho_op_write(s, word_group(path))))
        return rc;
    if (path->spills > 0 && SHO_DICT_GROUP_COUNT(sho_view_word(&path->spill, 0)) == 1 &&
        (rc = sho_op_write(s, spill_referrer(path))))
        return rc;
    if (r->array.live > 1)
        return 0;
    if (sho_view_word(&path->chunk, SHO_DICT_CHUNK_PREV) == sho_view_word(&path->chunk, SHO_DICT_CHUNK_NEXT))
        return sho_dict_damaged(&path->chunk, "the last chunk is empty and the dict is not");
    r->chunk = CHUNK_UNLINK;
    return links_gather(s, &path->chunk, &path->chunk, &r->around);
}

/* Which of the ways to a smaller form is due, at most one of chunk and index; *r tells. */
static int shrink_gather(sho_session *s, sho_dict_path *path, removal *r, uint32_t hash)
{
    if (may_demote(path, r)) {
        int rc = sho_op_write(s, &path->head);
        if (rc == 0)
            r->chunk = CHUNK_DEMOTE;
        return rc;
    }
    uint64_t meta = sho_view_word(&path->group, 0);
    unsigned left = SHO_DICT_GROUP_COUNT(meta) - 1;
    if (left <= SHO_DICT_GROUP_MERGE / 2 && left % 4 == 0 && path->spills == 0 && SHO_DICT_GROUP_SPILL(meta) == 0 &&
        path->levels > 0) {
        int rc = sho_dict_merge_gather(s, path, hash, &r->merge);
        if (rc || r->merge.freed > 0)
            return rc;
    }
    unsigned live = r->array.live - 1;
    if (live == 0 || live > ABSORB_MAX / 2 || live % 2 == 0)
        return 0;
    bool fits;
    int rc = absorb_try(s, path, &r->array, true, &r->absorb, &fits);
    if (rc == 0 && !fits)
        rc = absorb_try(s, path, &r->array, false, &r->absorb, &fits);
    if (rc == 0 && fits)
        r->chunk = CHUNK_ABSORB;
    return rc;
}

static void removal_apply_index(sho_session *s, sho_dict_path *path, removal *r)
{
    sho_view *group = word_group(path);
    if (r->merge.freed > 0) {
        sho_dict_merge_apply(s, path, &r->merge);
        return;
    }
    uint64_t meta = sho_view_word(group, 0);
    if (path->spills > 0 && SHO_DICT_GROUP_COUNT(meta) == 1) {
        sho_view *referrer = spill_referrer(path);
        uint64_t before = sho_view_word(referrer, 0);
        sho_op_set(s, referrer, 0,
                   SHO_DICT_GROUP_META(SHO_DICT_GROUP_COUNT(before), SHO_DICT_GROUP_DEPTH(before),
                                       SHO_DICT_GROUP_SPILL(meta)));
        sho_op_free_node(s, group);
        return;
    }
    sho_dict_group_take(s, group, path->index);
}

static void removal_apply_chunk(sho_session *s, sho_dict_path *path, removal *r)
{
    switch (r->chunk) {
    case CHUNK_KEEP: sho_dict_array_take(s, &r->array, path->slot); break;
    case CHUNK_UNLINK:
        links_apply(s, &r->around, &r->order, 0);
        sho_op_free_node(s, &path->chunk);
        return;
    case CHUNK_ABSORB: absorb_apply(s, path, &r->array, &r->absorb, &r->order); break;
    case CHUNK_DEMOTE:
        sho_dict_array_take(s, &r->array, path->slot);
        r->array.limit = sho_view_word(&r->order, SHO_DICT_ORDER_SERIAL);
        break;
    }
    sho_dict_array_store(s, &r->array, r->chunk == CHUNK_DEMOTE);
}

static int remove_indexed(sho_session *s, sho_dict_path *path)
{
    removal r;
    int rc = sho_dict_read_order(s, &path->head, &r.order);
    if (rc || (rc = sho_dict_chunk_array(&path->chunk, &r.array)))
        return rc;
    uint64_t count = sho_view_word(&r.order, SHO_DICT_ORDER_COUNT);
    if (count <= 1)
        return sho_dict_empty_last(s, &path->head);
    if (SHO_UNLIKELY(r.array.live == 0 || SHO_DICT_GROUP_COUNT(sho_view_word(word_group(path), 0)) == 0))
        return sho_dict_damaged(&path->chunk, "an entry where none is counted");
    r.count = count - 1;
    uint32_t hash = SHO_DICT_ENTRY_HASH(sho_dict_array_word(&r.array, path->slot, 0));
    rc = removal_gather(s, path, &r);
    if (rc || (rc = sho_cell_release(s, sho_dict_array_word(&r.array, path->slot, 1))) ||
        (rc = sho_cell_release(s, sho_dict_array_word(&r.array, path->slot, 2))))
        return rc;
    /* In a full store there may be no room in the log for more: then the entry goes without. */
    rc = shrink_gather(s, path, &r, hash);
    if (rc == SHOBJ_EFULL)
        r.merge.freed = 0;
    else if (rc)
        return rc;
    rc = sho_op_check(s);
    if (rc)
        return rc;
    removal_apply_chunk(s, path, &r);
    if (r.chunk == CHUNK_DEMOTE) {
        sho_dict_head_refer(s, &path->head, SHO_DICT_CHUNK, path->chunk.off, 0);
        sho_op_free_node(s, &path->group);
        sho_op_free_node(s, &r.order);
        return 0;
    }
    removal_apply_index(s, path, &r);
    sho_op_set(s, &r.order, SHO_DICT_ORDER_COUNT, r.count);
    return 0;
}

/* ------------------------------------------------------------------------------------------ one */

int sho_dict_remove(sho_session *s, sho_dict_path *path)
{
    if (path->mode == SHO_DICT_INDEXED)
        return remove_indexed(s, path);
    sho_dict_array array;
    int rc = path->mode == SHO_DICT_INLINE ? sho_dict_head_array(&path->head, &array)
                                           : sho_dict_chunk_array(&path->chunk, &array);
    if (rc)
        return rc;
    if (path->mode == SHO_DICT_CHUNK && array.live <= 1)
        return sho_dict_empty_last(s, &path->head);
    if (SHO_UNLIKELY(array.live == 0))
        return sho_dict_damaged(array.view, "an entry where none is counted");
    if ((rc = sho_op_write(s, array.view)) || (rc = sho_cell_release(s, sho_dict_array_word(&array, path->slot, 1))) ||
        (rc = sho_cell_release(s, sho_dict_array_word(&array, path->slot, 2))))
        return rc;
    sho_op_leaf(s); /* F1, F2 */
    rc = sho_op_check(s);
    if (rc)
        return rc;
    sho_dict_array_take(s, &array, path->slot);
    sho_dict_array_store(s, &array, true);
    return 0;
}
