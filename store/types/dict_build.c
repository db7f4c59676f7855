/*
 * dict_build.c: a dict's parts built at one go, for shobj_dict_new() and for a small dict that
 * outgrows its form.
 *
 * Chunks are filled one after the other. The index is built from the entries sorted by hash: a
 * range of them that fits is a group, any other range is cut at the next bit, with a trie node in
 * between every six bits. Nobody else knows the new nodes, so that all this belongs to the gather
 * half.
 */
#include "types/dict.h"

#include <string.h>

int sho_dict_build_chunk(sho_session *s, const sho_dict_entry *entries, unsigned count, unsigned slots, bool sole,
                         uint64_t limit, sho_view *ret_chunk)
{
    int rc = sho_op_new(s, SHM_DICT_CHUNK, SHO_DICT_CHUNK_WORDS(slots), ret_chunk);
    if (rc)
        return rc;
    sho_dict_array array = {.view = ret_chunk, .entries_at = SHO_DICT_CHUNK_ENTRIES, .slots = slots, .limit = limit};
    sho_dict_array_fill(s, &array, entries, count);
    sho_dict_array_store(s, &array, sole);
    return 0;
}

/* All chunks, linked; places[i] is that of entry i. */
static int build_chunks(sho_session *s, const sho_dict_entry *entries, size_t count, uint64_t *places,
                        uint64_t *ret_first, uint64_t *ret_tail)
{
    sho_view last = {.off = 0};
    for (size_t at = 0; at < count;) {
        unsigned n = 1;
        while (n < SHO_DICT_SLOTS_MAX && at + n < count &&
               entries[at + n].serial - entries[at].serial < SHO_DICT_SERIAL_SPAN)
            n++;
        sho_view chunk;
        int rc =
            sho_dict_build_chunk(s, entries + at, n, SHO_DICT_SLOTS_MAX, false, entries[at + n - 1].serial + 1, &chunk);
        if (rc)
            return rc;
        for (unsigned slot = 0; slot < n; slot++)
            places[at + slot] = SHO_DICT_PLACE(chunk.off, slot);
        if (at == 0) {
            *ret_first = chunk.off;
        } else {
            sho_op_set(s, &last, SHO_DICT_CHUNK_NEXT, chunk.off);
            sho_op_set(s, &chunk, SHO_DICT_CHUNK_PREV, last.off);
        }
        last = chunk;
        at += n;
    }
    *ret_tail = last.off;
    return 0;
}

/* ---------------------------------------------------------------------------------------- index */

/* An entry among those to be indexed: its hash, and its number. */
#define ORDERED(hash, i)    ((uint64_t)(hash) << 32 | (uint64_t)(i))
#define ORDERED_HASH(word)  ((uint32_t)((word) >> 32))
#define ORDERED_ENTRY(word) ((uint32_t)(word))

/* By hash, eleven bits a pass. `other` is scratch; the result is in `order`. */
static void sort_by_hash(uint64_t *order, uint64_t *other, size_t count)
{
    enum { BITS = 11, BUCKETS = 1 << BITS };
    uint64_t *from = order;
    uint64_t *to = other;
    for (unsigned shift = 32; shift < 64; shift += BITS) {
        size_t starts[BUCKETS] = {0};
        for (size_t i = 0; i < count; i++)
            starts[from[i] >> shift & (BUCKETS - 1)]++;
        size_t start = 0;
        for (unsigned b = 0; b < BUCKETS; b++) {
            size_t n = starts[b];
            starts[b] = start;
            start += n;
        }
        for (size_t i = 0; i < count; i++)
            to[starts[from[i] >> shift & (BUCKETS - 1)]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != order)
        memcpy(order, from, count * sizeof(*order));
}

typedef struct builder {
    sho_session *s;
    const uint64_t *order;
    const uint64_t *places;
} builder;

/* Entries first..end-1 of the order as one group with tags of `level`; with spill groups if they
 * are too many. */
static int build_group(const builder *b, size_t first, size_t end, unsigned level, unsigned depth, uint64_t *ret_off)
{
    uint64_t words[SHO_DICT_GROUP_SLOTS];
    uint64_t off = 0;
    do {
        unsigned n = 0;
        for (; first < end && n < SHO_DICT_GROUP_MAX; first++, n++)
            words[n] = SHO_DICT_INDEX_WORD(sho_dict_tag(ORDERED_HASH(b->order[first]), level),
                                           b->places[ORDERED_ENTRY(b->order[first])]);
        int rc = sho_dict_group_new(b->s, depth, off, words, n, &off);
        if (rc)
            return rc;
    } while (first < end);
    *ret_off = off;
    return 0;
}

/* Entries first..end-1, which agree in the top `depth` bits, into the slots of `trie` (of `level`)
 * that stand for these bits. */
static int build_slots(const builder *b, size_t first, size_t end, unsigned level, unsigned depth, sho_view *trie,
                       unsigned slot)
{
    uint64_t ref;
    int rc;
    if (end - first <= SHO_DICT_GROUP_BUILD || depth == SHO_DICT_DEPTH_MAX) {
        rc = build_group(b, first, end, level, depth, &ref);
        unsigned slots = 1u << (6 * level + 6 - depth);
        for (unsigned i = 0; rc == 0 && i < slots; i++)
            sho_op_set(b->s, trie, slot + i, ref);
        return rc;
    }
    if (depth == 6 * level + 6) {
        sho_view child;
        rc = sho_op_new(b->s, SHM_DICT_TRIE, SHO_DICT_TRIE_WORDS, &child);
        if (rc)
            return rc;
        sho_op_set(b->s, trie, slot, child.off | SHO_DICT_REF_TRIE);
        return build_slots(b, first, end, level + 1, depth, &child, 0);
    }
    size_t low = first;
    size_t high = end;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (ORDERED_HASH(b->order[mid]) >> (31 - depth) & 1)
            high = mid;
        else
            low = mid + 1;
    }
    rc = build_slots(b, first, low, level, depth + 1, trie, slot);
    if (rc)
        return rc;
    return build_slots(b, low, end, level, depth + 1, trie, slot + (1u << (6 * level + 5 - depth)));
}

static int build_root(const builder *b, size_t count, uint64_t *ret_root)
{
    if (count <= SHO_DICT_GROUP_BUILD)
        return build_group(b, 0, count, 0, 0, ret_root);
    sho_view trie;
    int rc = sho_op_new(b->s, SHM_DICT_TRIE, SHO_DICT_TRIE_WORDS, &trie);
    if (rc)
        return rc;
    *ret_root = trie.off | SHO_DICT_REF_TRIE;
    return build_slots(b, 0, count, 0, 0, &trie, 0);
}

int sho_dict_build_indexed(sho_session *s, const sho_dict_entry *entries, size_t count, uint64_t next_serial,
                           uint64_t *scratch, uint64_t *ret_root, uint64_t *ret_order_off)
{
    uint64_t *places = scratch;
    uint64_t *order = scratch + count;
    builder b = {.s = s, .order = order, .places = places};
    sho_view node;
    uint64_t first = 0;
    uint64_t tail = 0;
    int rc = build_chunks(s, entries, count, places, &first, &tail);
    if (rc)
        return rc;
    for (size_t i = 0; i < count; i++)
        order[i] = ORDERED(entries[i].hash, i);
    if (count > SHO_DICT_GROUP_BUILD)
        sort_by_hash(order, scratch + 2 * count, count);
    rc = build_root(&b, count, ret_root);
    if (rc)
        return rc;
    rc = sho_op_new(s, SHM_DICT_ORDER, SHO_DICT_ORDER_WORDS, &node);
    if (rc)
        return rc;
    sho_op_set(s, &node, SHO_DICT_ORDER_COUNT, count);
    sho_op_set(s, &node, SHO_DICT_ORDER_SERIAL, next_serial);
    sho_op_set(s, &node, SHO_DICT_ORDER_FIRST, first);
    sho_op_set(s, &node, SHO_DICT_ORDER_TAIL, tail);
    *ret_order_off = node.off;
    return 0;
}
