/*
 * dict_salvage.c: the entries of a damaged dict.
 *
 * Entries stand in slot arrays, and a slot without one is all zero: so every slot with a key and a value is an entry, whatever
 * the counts say. The chunks of an indexed dict are found on three ways: the list from its first chunk on, the list from its
 * tail back, and the index, whose words name the chunk of each entry. If the list leads through, its order is that of the
 * entries; else the chunks' limits tell it.
 */
#include "types/dict.h"

#include "base/error.h"

typedef struct chunks {
    sho_region *region;
    const sho_salvage_sink *sink;
    uint64_t *offs;
    size_t count, room;
    uint64_t *places; /* open addressing: index + 1 by offset */
    size_t place_room;
    uint64_t index_nodes_left; /* no index has more than the file has room for */
    bool failed;               /* out of memory */
} chunks;

/* ------------------------------------------------------------------------------------ the set of chunks */

static size_t place_of(const chunks *c, uint64_t off)
{
    size_t i = (size_t)((off >> 4) * 0x9e3779b97f4a7c15u >> 24) & (c->place_room - 1);
    while (c->places[i] != 0 && c->offs[c->places[i] - 1] != off)
        i = (i + 1) & (c->place_room - 1);
    return i;
}

static bool grow(chunks *c)
{
    size_t room = c->room == 0 ? 64 : c->room * 2;
    uint64_t *offs = realloc(c->offs, room * sizeof(*offs));
    if (offs != NULL)
        c->offs = offs;
    uint64_t *places = calloc(room * 2, sizeof(*places));
    if (offs == NULL || places == NULL) {
        free(places);
        return false;
    }
    free(c->places);
    c->places = places;
    c->room = room;
    c->place_room = room * 2;
    for (size_t i = 0; i < c->count; i++)
        c->places[place_of(c, c->offs[i])] = i + 1;
    return true;
}

/* False: it was there already, or there is no memory. */
static bool add(chunks *c, uint64_t off)
{
    if (c->count == c->room && !grow(c)) {
        c->failed = true;
        return false;
    }
    size_t i = place_of(c, off);
    if (c->places[i] != 0)
        return false;
    c->offs[c->count++] = off;
    c->places[i] = c->count;
    return true;
}

/* ------------------------------------------------------------------------------------ finding them */

/* Along the list; *ret_end: it came to its end. */
static void follow(chunks *c, uint64_t off, unsigned link, uint64_t last, bool *ret_end)
{
    sho_view chunk;
    uint64_t at = 0;
    while (off != 0 && sho_salvage_node(c->region, off, SHM_DICT_CHUNK, &chunk) && chunk.word_count > SHO_DICT_CHUNK_LIMIT &&
           add(c, off)) {
        at = off;
        off = sho_view_word(&chunk, link);
    }
    *ret_end = off == 0 && at == last;
}

static void follow_group(chunks *c, uint64_t off)
{
    sho_view group, chunk;
    for (; c->index_nodes_left > 0 && sho_salvage_node(c->region, off, SHM_DICT_GROUP, &group); c->index_nodes_left--) {
        for (unsigned i = 1; i < group.word_count; i++) {
            uint64_t at = SHO_DICT_PLACE_OFF(sho_view_word(&group, i));
            if (at != 0 && sho_salvage_node(c->region, at, SHM_DICT_CHUNK, &chunk) &&
                chunk.word_count > SHO_DICT_CHUNK_LIMIT)
                add(c, at);
        }
        off = SHO_DICT_GROUP_SPILL(sho_view_word(&group, 0));
    }
}

static void follow_index(chunks *c, uint64_t ref, unsigned level)
{
    sho_view trie;
    if (!(ref & SHO_DICT_REF_TRIE)) {
        follow_group(c, SHO_DICT_REF_OFF(ref));
        return;
    }
    if (level == SHO_DICT_LEVELS || c->index_nodes_left == 0 ||
        !sho_salvage_node(c->region, SHO_DICT_REF_OFF(ref), SHM_DICT_TRIE, &trie))
        return;
    c->index_nodes_left--;
    uint64_t before = 0;
    for (unsigned i = 0; i < trie.word_count; i++) {
        uint64_t child = sho_view_word(&trie, i);
        if (child != before)
            follow_index(c, child, level + 1);
        before = child;
    }
}

static int compare_limits(const void *a, const void *b, void *arg)
{
    sho_region *region = arg;
    sho_view x, y;
    uint64_t p = *(const uint64_t *)a, q = *(const uint64_t *)b;
    if (!sho_salvage_node(region, p, SHM_DICT_CHUNK, &x) || !sho_salvage_node(region, q, SHM_DICT_CHUNK, &y))
        return 0; /* they were there when they were added, and nobody changes them */
    uint64_t u = sho_view_word(&x, SHO_DICT_CHUNK_LIMIT), v = sho_view_word(&y, SHO_DICT_CHUNK_LIMIT);
    return u != v ? (u > v) - (u < v) : (p > q) - (p < q);
}

/* ------------------------------------------------------------------------------------ entries */

static int give_entries(const sho_salvage_sink *sink, const sho_view *view, unsigned entries_at, uint64_t *found)
{
    for (unsigned at = entries_at; at + 3 <= view->word_count; at += 3) {
        uint64_t key = sho_view_word(view, at + 1), value = sho_view_word(view, at + 2);
        if ((key | value | sho_view_word(view, at)) == 0)
            continue;
        if (key == SHO_CELL_EMPTY || value == SHO_CELL_EMPTY) {
            sink->lost(sink->arg, view->off, "a dict's entry without a key or a value");
            continue;
        }
        ++*found;
        int rc = sink->entry(sink->arg, key, value);
        if (rc)
            return rc;
    }
    return 0;
}

static int give_chunk(chunks *c, uint64_t off, uint64_t *found)
{
    sho_view chunk;
    if (!sho_salvage_node(c->region, off, SHM_DICT_CHUNK, &chunk))
        return 0;
    return give_entries(c->sink, &chunk, SHO_DICT_CHUNK_ENTRIES, found);
}

static int salvage_indexed(sho_region *region, const sho_view *head, const sho_salvage_sink *sink)
{
    chunks c = {.region = region, .sink = sink};
    sho_view order = {0};
    bool whole = false, unused;
    uint64_t expected = UINT64_MAX, found = 0;
    c.index_nodes_left = 64 + atomic_load_explicit(&region->limit, memory_order_relaxed) / (8 * SHO_DICT_GROUP_WORDS);
    if (sho_salvage_node(region, sho_view_word(head, SHO_DICT_HEAD_ORDER), SHM_DICT_ORDER, &order) &&
        order.word_count >= SHO_DICT_ORDER_WORDS) {
        uint64_t tail = sho_view_word(&order, SHO_DICT_ORDER_TAIL);
        expected = sho_view_word(&order, SHO_DICT_ORDER_COUNT);
        follow(&c, sho_view_word(&order, SHO_DICT_ORDER_FIRST), SHO_DICT_CHUNK_NEXT, tail, &whole);
        follow(&c, tail, SHO_DICT_CHUNK_PREV, 0, &unused);
    }
    size_t listed = c.count;
    follow_index(&c, sho_view_word(head, SHO_DICT_HEAD_REF), 0);
    if (c.count > 1 && (!whole || c.count != listed))
        qsort_r(c.offs, c.count, sizeof(*c.offs), compare_limits, region);
    int rc = c.failed ? SHOBJ_ENOMEM : 0;
    for (size_t i = 0; rc == 0 && i < c.count; i++)
        rc = give_chunk(&c, c.offs[i], &found);
    if (rc == 0 && expected == UINT64_MAX)
        sink->lost(sink->arg, head->off, "a dict's order is gone: it may have had more than the %llu entries found",
                   (unsigned long long)found);
    else if (rc == 0 && found < expected)
        sink->lost(sink->arg, head->off, "a dict counts %llu entries, and %llu were found", (unsigned long long)expected,
                   (unsigned long long)found);
    free(c.offs);
    free(c.places);
    return rc;
}

/* What the head refers to tells its form better than its mark does. */
static enum sho_dict_mode form_of(sho_region *region, const sho_view *head)
{
    sho_view node;
    unsigned mode = SHO_DICT_MODE(sho_view_word(head, 0));
    if (head->word_count <= SHO_DICT_HEAD_ORDER)
        return SHO_DICT_INLINE;
    uint64_t ref = sho_view_word(head, SHO_DICT_HEAD_REF);
    if (mode != SHO_DICT_INLINE && sho_salvage_node(region, ref, SHM_DICT_CHUNK, &node))
        return SHO_DICT_CHUNK;
    if (sho_salvage_node(region, sho_view_word(head, SHO_DICT_HEAD_ORDER), SHM_DICT_ORDER, &node) ||
        (mode != SHO_DICT_INLINE && sho_salvage_node(region, SHO_DICT_REF_OFF(ref),
                                                     ref & SHO_DICT_REF_TRIE ? SHM_DICT_TRIE : SHM_DICT_GROUP, &node)))
        return SHO_DICT_INDEXED;
    return mode == SHO_DICT_CHUNK || mode == SHO_DICT_INDEXED ? (enum sho_dict_mode)mode : SHO_DICT_INLINE;
}

int sho_dict_salvage(sho_region *region, uint64_t off, const sho_salvage_sink *sink)
{
    sho_view head, chunk;
    uint64_t found = 0;
    if (!sho_salvage_node(region, off, SHM_DICT, &head)) {
        sink->lost(sink->arg, off, "a dict whose first node is gone");
        return 0;
    }
    uint64_t meta = sho_view_word(&head, 0);
    enum sho_dict_mode form = form_of(region, &head);
    int rc = 0;
    if (form == SHO_DICT_INDEXED)
        return salvage_indexed(region, &head, sink);
    if (form == SHO_DICT_CHUNK) {
        if (!sho_salvage_node(region, sho_view_word(&head, SHO_DICT_HEAD_REF), SHM_DICT_CHUNK, &chunk)) {
            sink->lost(sink->arg, off, "a dict whose entries are gone");
            return 0;
        }
        rc = give_entries(sink, &chunk, SHO_DICT_CHUNK_ENTRIES, &found);
        uint64_t expected = SHO_DICT_CHUNK_LIVE(sho_view_word(&chunk, 0));
        if (rc == 0 && found < expected)
            sink->lost(sink->arg, off, "a dict counts %llu entries, and %llu were found", (unsigned long long)expected,
                       (unsigned long long)found);
        return rc;
    }
    rc = give_entries(sink, &head, SHO_DICT_HEAD_ENTRIES, &found);
    if (rc == 0 && found < SHO_DICT_HEAD_LIVE(meta))
        sink->lost(sink->arg, off, "a dict counts %u entries, and %llu were found", SHO_DICT_HEAD_LIVE(meta),
                   (unsigned long long)found);
    return rc;
}
