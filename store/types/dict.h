/*
 * dict.h: the insertion-ordered dict, as its own files see it.
 *
 *   INLINE     head: [meta | entry entry entry ...]
 *
 *   CHUNK      head ---> chunk (SOLE)
 *
 *   INDEXED    head ---> order: count, next serial, first chunk, tail chunk
 *                |         chunk <-> chunk <-> ... <-> chunk          entries in insertion order
 *                |           ^ ^       ^
 *                +-> trie -> group: 16 hash bits and place of each entry
 *
 * An entry is three words: {hash32 << 32 | serial32, key cell, value cell}; a slot without one is
 * three zeros. hash32 is the low half of the key's hash, never 0. A serial numbers the insertions
 * into one dict; the entry keeps its low half, the container of the entry (head or chunk) has the
 * *limit*, a serial above all of its entries and at most 2^32 above each: both together give the
 * whole serial, and an entry moves from place to place as it is.
 *
 * Invariants (sho_dict_check() verifies them):
 * I1  Entries stand in the order of their serials, in a slot array and along the list of chunks;
 *     `used` slots may hold entries, `live` of them do.
 * I2  limit > serial >= limit - 2^32 for each entry. Each serial of a chunk is at or above the
 *     limit of the chunk before, so that limits ascend strictly along the list: a walk that meets
 *     one that does not has met damage, or a race.
 * I3  INDEXED: no chunk is empty, next and prev agree, order's count is the sum of live, its serial
 *     at or above all limits.
 * I4  INDEXED: the index has exactly one word per entry, in the group (or its spill groups) that
 *     the entry's hash32 leads to, with no empty slot between the word's home and its place.
 * I5  A group of depth d holds entries that agree in the top d bits of hash32. In a trie node of
 *     level l it has 6 l < d <= 6 l + 6 and fills 2^(6 l + 6 - d) adjacent slots; as the root, d =
 *     0. Only groups of depth 32 spill.
 * I6  No two entries have equal keys.
 *
 * Facts of one node (what a writer of that node alone may rely on, sho_op_leaf()):
 * F1  INLINE: everything is a fact of the head.
 * F2  A chunk marked SOLE is all of its dict. Losing the mark, or being replaced, writes it.
 * F3  That a key has its entry in a slot of a chunk is a fact of the chunk: whatever moves an
 *     entry, deletes it, or frees the chunk, writes the chunk. So an update of an existing key
 *     writes one node and reads no order node. Only clearing
 *     may leave chunks as they are that go all together (dict_clear.c).
 * Absence of a key is, in an INDEXED dict, a fact of its group; order and tail chunk are written by
 * all who insert.
 */
#ifndef SHO_DICT_H
#define SHO_DICT_H

#include "types/container.h"

/* ---------------------------------------------------------------------------------- stored form */

/* Head. Word 0: mode:2 | used:5 | live:5 | limit:52 (the last three INLINE only), all zero in a new
 * dict. INLINE: entries from word 1. CHUNK: word 1 is the chunk's offset. INDEXED: word 1 is the
 * root reference, word 2 the order node's offset. */
enum sho_dict_mode { SHO_DICT_INLINE = 0, SHO_DICT_CHUNK = 1, SHO_DICT_INDEXED = 2 };
#define SHO_DICT_MODE(meta) ((unsigned)((meta)&3))
#define SHO_DICT_HEAD_META(used, live, limit)                                                                          \
    ((uint64_t)SHO_DICT_INLINE | (uint64_t)(used) << 2 | (uint64_t)(live) << 7 | (uint64_t)(limit) << 12)
#define SHO_DICT_HEAD_USED(meta)   ((unsigned)((meta) >> 2 & 31))
#define SHO_DICT_HEAD_LIVE(meta)   ((unsigned)((meta) >> 7 & 31))
#define SHO_DICT_HEAD_LIMIT(meta)  ((meta) >> 12)
#define SHO_DICT_HEAD_WORDS(slots) (SHO_DICT_HEAD_ENTRIES + 3u * (slots))
#define SHO_DICT_SERIAL_MAX        ((1ULL << 52) - 1)
enum {
    SHO_DICT_HEAD_ENTRIES = 1, /* first entry word */
    SHO_DICT_HEAD_REF = 1,
    SHO_DICT_HEAD_ORDER = 2,
    SHO_DICT_HEAD_SLOTS_MIN = 4,
    SHO_DICT_SLOTS_MAX = 20 /* of a head and of a chunk */
};

/* Chunk. Word 0: used:8 | live:8 | sole:1. A dict's SOLE chunk has limit = next serial and no
 * neighbours. */
#define SHO_DICT_CHUNK_META(used, live, sole) ((uint64_t)(used) | (uint64_t)(live) << 8 | (uint64_t)(sole) << 16)
#define SHO_DICT_CHUNK_USED(meta)             ((unsigned)((meta)&0xff))
#define SHO_DICT_CHUNK_LIVE(meta)             ((unsigned)((meta) >> 8 & 0xff))
#define SHO_DICT_CHUNK_SOLE(meta)             ((unsigned)((meta) >> 16 & 1))
enum {
    SHO_DICT_CHUNK_NEXT = 1,
    SHO_DICT_CHUNK_PREV = 2,
    SHO_DICT_CHUNK_LIMIT = 3,
    SHO_DICT_CHUNK_ENTRIES = 4,
    SHO_DICT_CHUNK_SLOTS_MIN = 10
};
#define SHO_DICT_CHUNK_WORDS(slots) (SHO_DICT_CHUNK_ENTRIES + 3u * (slots))

#define SHO_DICT_SERIAL_SPAN         (1ULL << 32)
#define SHO_DICT_ENTRY(hash, serial) ((uint64_t)(hash) << 32 | (uint32_t)(serial))
#define SHO_DICT_ENTRY_HASH(word)    ((uint32_t)((word) >> 32))

/* Order node. */
enum {
    SHO_DICT_ORDER_COUNT = 0,
    SHO_DICT_ORDER_SERIAL = 1, /* of the next insertion */
    SHO_DICT_ORDER_FIRST = 2,
    SHO_DICT_ORDER_TAIL = 3,
    SHO_DICT_ORDER_WORDS = 4
};

/* Trie: 64 references, selected by 6 bits of hash32 from the top; level 5 has the last two bits and
 * uses every 16th slot. A reference is an offset (a multiple of 16), bit 0 set if it is a trie's. */
#define SHO_DICT_TRIE_WORDS   64u
#define SHO_DICT_LEVELS       6u
#define SHO_DICT_REF_TRIE     1ULL
#define SHO_DICT_REF_OFF(ref) ((ref) & ~15ULL)

/* Group. Word 0: count:8 | depth:8 | offset / 16 of the next spill group:48. Words 1..63 are an
 * open hash table of index words, tag:16 | slot:5 | offset / 16 of the chunk:43. In a trie of level
 * l (as the root: 0) the tag is hash32 from bit 6 l of the top on: its first 6 bits choose the slot
 * in the trie and split the group, its last 10 choose the home. */
#define SHO_DICT_GROUP_META(count, depth, spill)                                                                       \
    ((uint64_t)(count) | (uint64_t)(depth) << 8 | (uint64_t)(spill) >> 4 << 16)
#define SHO_DICT_GROUP_COUNT(meta) ((unsigned)((meta)&0xff))
#define SHO_DICT_GROUP_DEPTH(meta) ((unsigned)((meta) >> 8 & 0xff))
#define SHO_DICT_GROUP_SPILL(meta) ((meta) >> 16 << 4)
#define SHO_DICT_GROUP_WORDS       64u
#define SHO_DICT_GROUP_SLOTS       63u
#define SHO_DICT_GROUP_MAX         52u /* entries: probing stays short */
#define SHO_DICT_GROUP_BUILD       46u /* entries of a group built in bulk */
#define SHO_DICT_GROUP_MERGE       26u /* entries of a group merged from two */
#define SHO_DICT_DEPTH_MAX         32u

#define SHO_DICT_PLACE(chunk_off, slot) ((uint64_t)(slot) * (1ULL << 43) | (uint64_t)(chunk_off) >> 4)
#define SHO_DICT_PLACE_MASK             0x0000ffffffffffffULL
#define SHO_DICT_PLACE_SLOT(word)       ((unsigned)((word) >> 43 & 31))
#define SHO_DICT_PLACE_OFF(word)        (((word)&0x7ffffffffffULL) << 4)
#define SHO_DICT_INDEX_WORD(tag, place) ((uint64_t)(tag) << 48 | (place))
#define SHO_DICT_INDEX_TAG(word)        ((unsigned)((word) >> 48))

/* ----------------------------------------------------------------------------------- arithmetic */

SHO_INLINE uint64_t sho_dict_serial(uint64_t limit, uint64_t entry_word)
{
    uint64_t last = limit - 1;
    return last - (uint32_t)((uint32_t)last - (uint32_t)entry_word);
}

/* Slot of a hash in a trie node of `level`. */
SHO_INLINE unsigned sho_dict_trie_slot(uint32_t hash, unsigned level)
{
    return (uint32_t)(hash << 6 * level) >> 26;
}

SHO_INLINE unsigned sho_dict_tag(uint32_t hash, unsigned level)
{
    return (uint32_t)(hash << 6 * level) >> 16;
}

/* Where probing for a tag starts, and where it goes on: words 1..63 of a group. */
SHO_INLINE unsigned sho_dict_group_home(unsigned tag)
{
    return 1 + ((tag & 1023) * SHO_DICT_GROUP_SLOTS >> 10);
}

SHO_INLINE unsigned sho_dict_group_next(unsigned i)
{
    return i == SHO_DICT_GROUP_SLOTS ? 1 : i + 1;
}

/* --------------------------------------------------------------------------- private structures */

typedef struct sho_dict_entry {
    uint64_t serial;
    uint64_t key;
    uint64_t value;
    uint32_t hash;
} sho_dict_entry;

/* A slot array, that of an INLINE head or of a chunk, as an operation sees it. live <= used <=
 * slots is checked. */
typedef struct sho_dict_array {
    sho_view *view;
    unsigned entries_at;
    unsigned slots;
    unsigned used;
    unsigned live;
    uint64_t limit;
} sho_dict_array;

/* The way to a key or to an entry. */
typedef struct sho_dict_path {
    sho_view head;
    sho_view chunk; /* CHUNK: the chunk. INDEXED: the one of the entry, if found */
    unsigned mode;
    bool found;
    unsigned slot;   /* if found */
    unsigned levels; /* INDEXED: trie nodes passed */
    unsigned index;  /* INDEXED, found: the entry's word in its group */
    unsigned spills; /* INDEXED: 0, the word is in `group`; else how many spill groups further */
    uint64_t mark;   /* a spill group met before: finds chains that bite their tails */
    sho_view group;  /* INDEXED: what the trie leads to */
    sho_view spill;
    sho_view before; /* spills > 1: the spill group that refers to `spill` */
    sho_view trie[SHO_DICT_LEVELS];
} sho_dict_path;

/* The level that a path's group has its tags from. */
SHO_INLINE unsigned sho_dict_level(const sho_dict_path *path)
{
    return path->levels ? path->levels - 1 : 0;
}

/* The view that holds the found entry, and its first word there. */
SHO_INLINE sho_view *sho_dict_home(sho_dict_path *path, unsigned *ret_word)
{
    if (path->mode == SHO_DICT_INLINE) {
        *ret_word = SHO_DICT_HEAD_ENTRIES + 3 * path->slot;
        return &path->head;
    }
    *ret_word = SHO_DICT_CHUNK_ENTRIES + 3 * path->slot;
    return &path->chunk;
}

/* ---------------------------------------------------------------------------------- dict_node.c */

/* "dict node at OFF: WHAT". Returns SHOBJ_ECORRUPT. */
int sho_dict_damaged(const sho_view *view, const char *what) SHO_COLD;

/* The slot arrays of an INLINE head and of a chunk. 0 or SHOBJ_ECORRUPT. */
int sho_dict_head_array(sho_view *head, sho_dict_array *ret_array);
int sho_dict_chunk_array(sho_view *chunk, sho_dict_array *ret_array);

/* The entries of an array, in order; ret_entries has room for SHO_DICT_SLOTS_MAX. ECORRUPT if they
 * are not `live`. */
int sho_dict_array_entries(const sho_dict_array *array, sho_dict_entry *ret_entries);

/* Whether an entry with this serial (at or above the limit) keeps I2, compared with the eldest
 * entry. */
bool sho_dict_array_spans(const sho_dict_array *array, uint64_t serial);

/* Apply half: writes one entry; empties one slot and takes the slots at the end that are not in use
 * any more out of `used`. The array's used, live and limit are the caller's to change before, and
 * to write with _store(). */
void sho_dict_array_put(sho_session *s, const sho_dict_array *array, unsigned slot, const sho_dict_entry *entry);
void sho_dict_array_take(sho_session *s, sho_dict_array *array, unsigned slot);
void sho_dict_array_store(sho_session *s, const sho_dict_array *array, bool sole);

/* Apply half: exactly these entries, from slot 0 on. */
void sho_dict_array_fill(sho_session *s, sho_dict_array *array, const sho_dict_entry *entries, unsigned count);

/* Apply half: turns the head to another form. */
void sho_dict_head_refer(sho_session *s, sho_view *head, enum sho_dict_mode mode, uint64_t ref, uint64_t order_off);
void sho_dict_head_clear(sho_session *s, sho_view *head, uint64_t next_serial);

SHO_INLINE uint64_t sho_dict_array_word(const sho_dict_array *array, unsigned slot, unsigned part)
{
    return sho_view_word(array->view, array->entries_at + 3 * slot + part);
}

/* Reads the node that a word of `from` refers to. */
SHO_INLINE int sho_dict_read(sho_session *s, const sho_view *from, uint64_t off, unsigned kind, sho_view *ret_view)
{
    int rc = sho_op_read(s, off, kind, ret_view);
    if (SHO_UNLIKELY(rc == SHOBJ_ECORRUPT))
        return sho_dict_damaged(from, "a reference leads to no node of its kind");
    return rc;
}

SHO_INLINE int sho_dict_read_group(sho_session *s, const sho_view *from, uint64_t off, sho_view *ret_group)
{
    int rc = sho_dict_read(s, from, off, SHM_DICT_GROUP, ret_group);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (SHO_UNLIKELY(ret_group->word_count != SHO_DICT_GROUP_WORDS))
        return sho_dict_damaged(ret_group, "a group of another size");
    return 0;
}

SHO_INLINE int sho_dict_read_order(sho_session *s, const sho_view *head, sho_view *ret_order)
{
    int rc = sho_dict_read(s, head, sho_view_word(head, SHO_DICT_HEAD_ORDER), SHM_DICT_ORDER, ret_order);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (SHO_UNLIKELY(ret_order->word_count < SHO_DICT_ORDER_WORDS))
        return sho_dict_damaged(ret_order, "an order node too small");
    return 0;
}

/* The head of a dict. */
SHO_INLINE int sho_dict_read_head(sho_session *s, shobj_oid dict, sho_view *ret_head)
{
    int rc = sho_op_read_object(s, dict, SHM_DICT, ret_head);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (SHO_UNLIKELY(ret_head->word_count < SHO_DICT_HEAD_WORDS(SHO_DICT_HEAD_SLOTS_MIN)))
        return sho_dict_damaged(ret_head, "a head too small");
    return 0;
}

/* From path->head down to the group that a hash leads to: sets levels, trie, group; spills to 0. */
SHO_INLINE int sho_dict_descend(sho_session *s, sho_dict_path *path, uint32_t hash)
{
    const sho_view *from = &path->head;
    uint64_t ref = sho_view_word(from, SHO_DICT_HEAD_REF);
    unsigned level = 0;
    for (; ref & SHO_DICT_REF_TRIE; level++) {
        if (SHO_UNLIKELY(level == SHO_DICT_LEVELS))
            return sho_dict_damaged(from, "a trie too deep");
        sho_view *trie = &path->trie[level];
        int rc = sho_dict_read(s, from, SHO_DICT_REF_OFF(ref), SHM_DICT_TRIE, trie);
        if (SHO_UNLIKELY(rc))
            return rc;
        if (SHO_UNLIKELY(trie->word_count != SHO_DICT_TRIE_WORDS))
            return sho_dict_damaged(trie, "a trie node of another size");
        ref = sho_view_word(trie, sho_dict_trie_slot(hash, level));
        from = trie;
    }
    path->levels = level;
    path->spills = 0;
    path->mark = 0;
    return sho_dict_read_group(s, from, SHO_DICT_REF_OFF(ref), &path->group);
}

/* --------------------------------------------------------------------------------------- dict.c */

/* Finds a key below path->head; sets path->found. */
int sho_dict_find(sho_session *s, const shobj_key *key, sho_dict_path *path);

/* --------------------------------------------------------------------------------- dict_index.c */

/* Steps on to the next spill group: *ret_group is it, or NULL at the end of the chain. */
int sho_dict_spill_next(sho_session *s, sho_dict_path *path, sho_view **ret_group);

/* Descends and finds the index word of one entry, by its place: sets index and spills. ECORRUPT if
 * there is none. */
int sho_dict_find_place(sho_session *s, sho_dict_path *path, uint32_t hash, uint64_t place);

/* A new group with these index words. */
int sho_dict_group_new(sho_session *s, unsigned depth, uint64_t spill_off, const uint64_t *words, unsigned count,
                       uint64_t *ret_off);

/* The words of a group; ret_words has room for SHO_DICT_GROUP_SLOTS. ECORRUPT if they are not as
 * many as it says. */
int sho_dict_group_words(const sho_view *group, uint64_t *ret_words, unsigned *ret_count);

/* Apply half: takes one word out; later words of the run move up, so that no mark stays behind.
 * Lowers the count. */
void sho_dict_group_take(sho_session *s, sho_view *group, unsigned index);

/* How an entry's word comes into the index, after a search that did not find its key. */
typedef struct sho_dict_add {
    enum { SHO_DICT_ADD_PUT, SHO_DICT_ADD_SPILL, SHO_DICT_ADD_SPLIT } how;
    sho_view *group;                      /* PUT: where; SPILL: the first group; SPLIT: the one that splits */
    uint64_t word;                        /* PUT: the index word; SPILL: the new group's offset */
    uint64_t root;                        /* SPLIT: the new root; 0: the root stays */
    uint64_t slot_mask;                   /* SPLIT: slots of the group's trie that change */
    uint64_t slots[SHO_DICT_TRIE_WORDS];  /* SPLIT: to what */
    uint64_t words[SHO_DICT_GROUP_WORDS]; /* SPLIT: what the group keeps */
} sho_dict_add;
int sho_dict_add_gather(sho_session *s, sho_dict_path *path, uint32_t hash, uint64_t place, sho_dict_add *add);
void sho_dict_add_apply(sho_session *s, sho_dict_path *path, sho_dict_add *add);

/* Merging of a sparse group, which loses the word at path->index, with its neighbours in the trie. */
#define SHO_DICT_MERGE_NODES (SHO_DICT_DEPTH_MAX + SHO_DICT_LEVELS)
typedef struct sho_dict_merge {
    unsigned freed;                       /* 0: nothing to merge */
    unsigned levels;                      /* trie nodes that stay above the group */
    unsigned slot, slot_count;            /* of the last of them, to refer to the group */
    sho_view nodes[SHO_DICT_MERGE_NODES]; /* groups and trie nodes that go */
    uint64_t words[SHO_DICT_GROUP_WORDS]; /* the group's */
} sho_dict_merge;
int sho_dict_merge_gather(sho_session *s, sho_dict_path *path, uint32_t hash, sho_dict_merge *merge);
void sho_dict_merge_apply(sho_session *s, sho_dict_path *path, sho_dict_merge *merge);

/* --------------------------------------------------------------------------------- dict_build.c */

/* A new chunk with the entries. */
int sho_dict_build_chunk(sho_session *s, const sho_dict_entry *entries, unsigned count, unsigned slots, bool sole,
                         uint64_t limit, sho_view *ret_chunk);

/* New chunks, order node and index for the entries, whose serials ascend and are below next_serial.
 * `scratch`: SHO_DICT_BUILD_SCRATCH(count) words. */
#define SHO_DICT_BUILD_SCRATCH(count) (3 * (size_t)(count))
int sho_dict_build_indexed(sho_session *s, const sho_dict_entry *entries, size_t count, uint64_t next_serial,
                           uint64_t *scratch, uint64_t *ret_root, uint64_t *ret_order_off);

/* ----------------------------------------------------------------- dict_insert.c, dict_remove.c */

/* Whole operations (gather, check, apply) behind a search that found no entry, or one. ret_value
 * (may be NULL) is the new entry's value. Removing releases the entry's boxes. */
int sho_dict_insert(sho_session *s, sho_dict_path *path, const shobj_key *key, const shobj_value *value,
                    shobj_value *ret_value);
int sho_dict_remove(sho_session *s, sho_dict_path *path);

/* ------------------------------------------------------------------------------- dict_clear.c */

/* Makes a dict empty that has at most one entry left, whatever its form. */
int sho_dict_empty_last(sho_session *s, sho_view *head);

#endif
