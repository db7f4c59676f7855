/*
 * dict_check.c: verifies I1 to I6 of dict.h for one dict.
 *
 * Every entry is looked up by its own key and must be found where it is: so it is in the index, and
 * no second entry has the same key. The index has as many words as there are entries, all different
 * places: so it has nothing else. Problems are told and the walk goes on as far as it can; only a
 * restart, a lost transaction or a callback's wish ends it.
 */
#include "types/dict.h"

#include <inttypes.h>

#include "base/error.h"

typedef struct checker {
    sho_session *s;
    const sho_check_sink *sink;
    sho_dict_path path; /* head, mode; the rest for lookups */
    uint64_t entries;
    uint64_t index_words;
    uint64_t index_nodes;
    uint64_t next_serial; /* a bound of all serials still to come */
} checker;

#define PROBLEM(c, off, ...) (c)->sink->problem((c)->sink->arg, off, __VA_ARGS__)

/* *ret_ok is false if a problem was told instead. */
static int visit(checker *c, const sho_view *from, uint64_t off, unsigned kind, unsigned words_min, sho_view *ret_view,
                 bool *ret_ok)
{
    *ret_ok = false;
    int rc = sho_op_read(c->s, off, kind, ret_view);
    if (rc == SHOBJ_ECORRUPT) {
        PROBLEM(c, from->off, "refers to a dict node of kind %u at %#" PRIx64 ", where there is none", kind, off);
        return 0;
    }
    if (rc)
        return rc;
    if (ret_view->word_count < words_min) {
        PROBLEM(c, off, "a dict node of kind %u has %u words", kind, ret_view->word_count);
        return 0;
    }
    *ret_ok = true;
    return c->sink->node(c->sink->arg, off, kind, ret_view->word_count);
}

/* -------------------------------------------------------------------------------------- entries */

/* The stored hash is the key's, and the key leads to its entry. */
static int check_key(checker *c, const sho_view *view, unsigned slot, const sho_dict_entry *entry)
{
    shobj_value value;
    shobj_key key;
    sho_values_reset(c->s);
    int rc = sho_cell_decode(c->s, entry->key, &value);
    if (rc == 0)
        rc = shobj_key_init(sho_session_store(c->s), &value, &key);
    if (rc == SHOBJ_ECORRUPT || rc == SHOBJ_ETYPE || rc == SHOBJ_EINVAL) {
        PROBLEM(c, view->off, "entry %u has no valid key", slot);
        return 0;
    }
    if (rc)
        return rc;
    if ((uint32_t)key.hash != entry->hash) {
        PROBLEM(c, view->off, "entry %u has not the hash of its key", slot);
        key.hash = entry->hash;
    }
    rc = sho_dict_find(c->s, &key, &c->path);
    if (rc == SHOBJ_ECORRUPT) {
        PROBLEM(c, view->off, "entry %u: the way to its key is damaged", slot);
        return 0;
    }
    if (rc)
        return rc;
    unsigned at;
    if (!c->path.found)
        PROBLEM(c, view->off, "entry %u is not found by its key", slot);
    else if (sho_dict_home(&c->path, &at)->off != view->off || c->path.slot != slot)
        PROBLEM(c, view->off, "entry %u: its key has another entry too", slot);
    return 0;
}

static int check_entry(checker *c, const sho_dict_array *array, unsigned slot)
{
    uint64_t off = array->view->off;
    uint64_t word = sho_dict_array_word(array, slot, 0);
    sho_dict_entry entry = {.serial = sho_dict_serial(array->limit, word),
                            .key = sho_dict_array_word(array, slot, 1),
                            .value = sho_dict_array_word(array, slot, 2),
                            .hash = SHO_DICT_ENTRY_HASH(word)};
    if (entry.serial < c->next_serial)
        PROBLEM(c, off, "entry %u is out of order", slot);
    c->next_serial = entry.serial + 1;
    if (entry.key == SHO_CELL_EMPTY || entry.value == SHO_CELL_EMPTY || entry.hash == 0) {
        PROBLEM(c, off, "entry %u is incomplete", slot);
        return 0;
    }
    int rc = c->sink->cell(c->sink->arg, off, entry.key);
    if (rc == 0)
        rc = c->sink->cell(c->sink->arg, off, entry.value);
    return rc ? rc : check_key(c, array->view, slot, &entry);
}

static int check_array(checker *c, const sho_dict_array *array)
{
    unsigned live = 0;
    for (unsigned slot = 0; slot < array->slots; slot++) {
        uint64_t word = sho_dict_array_word(array, slot, 0);
        if (word == 0 || slot >= array->used) {
            if ((word | sho_dict_array_word(array, slot, 1) | sho_dict_array_word(array, slot, 2)) != 0)
                PROBLEM(c, array->view->off, "slot %u is not in use and not empty", slot);
            continue;
        }
        live++;
        int rc = check_entry(c, array, slot);
        if (rc)
            return rc;
    }
    if (live != array->live)
        PROBLEM(c, array->view->off, "counts %u entries and has %u", array->live, live);
    if (array->limit < c->next_serial)
        PROBLEM(c, array->view->off, "its limit is below its serials");
    c->next_serial = array->limit;
    c->entries += live;
    return 0;
}

/* --------------------------------------------------------------------------- the list of chunks */

static int check_chunks(checker *c, const sho_view *order)
{
    sho_view from = *order;
    sho_view chunk;
    sho_dict_array array;
    uint64_t off = sho_view_word(order, SHO_DICT_ORDER_FIRST);
    uint64_t prev = 0;
    uint64_t limit = 0;
    while (off != 0) {
        bool ok;
        int rc = visit(c, &from, off, SHM_DICT_CHUNK, SHO_DICT_CHUNK_WORDS(SHO_DICT_SLOTS_MAX), &chunk, &ok);
        if (rc || !ok)
            return rc;
        if (sho_dict_chunk_array(&chunk, &array)) {
            PROBLEM(c, off, "a chunk that says it has more entries than there is room for");
            return 0;
        }
        if (sho_view_word(&chunk, SHO_DICT_CHUNK_PREV) != prev)
            PROBLEM(c, off, "a chunk that does not refer to the one before it");
        if (array.live == 0)
            PROBLEM(c, off, "an empty chunk in the list");
        if (SHO_DICT_CHUNK_SOLE(sho_view_word(&chunk, 0)))
            PROBLEM(c, off, "a chunk of an indexed dict says it is all of it");
        if (array.limit <= limit) {
            PROBLEM(c, off, "a chunk out of order");
            return 0;
        }
        limit = array.limit;
        rc = check_array(c, &array);
        if (rc)
            return rc;
        prev = off;
        off = sho_view_word(&chunk, SHO_DICT_CHUNK_NEXT);
        from = chunk;
    }
    if (sho_view_word(order, SHO_DICT_ORDER_TAIL) != prev)
        PROBLEM(c, order->off, "the list of chunks ends elsewhere than the order node says");
    return 0;
}

/* ------------------------------------------------------------------------------------ the index */

/* A group and its spill groups. */
static int check_group(checker *c, const sho_view *from, uint64_t off, unsigned *ret_depth)
{
    sho_view at = *from;
    bool first = true;
    *ret_depth = UINT32_MAX;
    while (off != 0) {
        sho_view group;
        bool ok;
        if (c->index_nodes++ > 4096 + 64 * c->entries) {
            PROBLEM(c, from->off, "an index larger than its dict");
            return 0;
        }
        int rc = visit(c, &at, off, SHM_DICT_GROUP, SHO_DICT_GROUP_WORDS, &group, &ok);
        if (rc || !ok)
            return rc;
        uint64_t meta = sho_view_word(&group, 0);
        unsigned depth = SHO_DICT_GROUP_DEPTH(meta);
        unsigned count = 0;
        for (unsigned i = 1; i < SHO_DICT_GROUP_WORDS; i++)
            count += sho_view_word(&group, i) != 0;
        if (count != SHO_DICT_GROUP_COUNT(meta) || count > SHO_DICT_GROUP_MAX)
            PROBLEM(c, off, "a group counts %u words and has %u", SHO_DICT_GROUP_COUNT(meta), count);
        if (first)
            *ret_depth = depth;
        else if (count == 0)
            PROBLEM(c, off, "an empty spill group");
        if (depth != SHO_DICT_DEPTH_MAX && (!first || SHO_DICT_GROUP_SPILL(meta) != 0))
            PROBLEM(c, off, "a group of depth %u spills", depth);
        c->index_words += count;
        first = false;
        off = SHO_DICT_GROUP_SPILL(meta);
        at = group;
    }
    return 0;
}

static int check_trie(checker *c, const sho_view *from, uint64_t ref, unsigned level)
{
    sho_view trie;
    bool ok;
    if (level == SHO_DICT_LEVELS || c->index_nodes++ > 4096 + 64 * c->entries) {
        PROBLEM(c, from->off, "a trie too deep or too large");
        return 0;
    }
    int rc = visit(c, from, SHO_DICT_REF_OFF(ref), SHM_DICT_TRIE, SHO_DICT_TRIE_WORDS, &trie, &ok);
    if (rc || !ok)
        return rc;
    for (unsigned i = 0; i < SHO_DICT_TRIE_WORDS;) {
        uint64_t child = sho_view_word(&trie, i);
        unsigned depth = 6 * level + 6;
        if (child & SHO_DICT_REF_TRIE)
            rc = check_trie(c, &trie, child, level + 1);
        else
            rc = check_group(c, &trie, child, &depth);
        if (rc)
            return rc;
        if (depth <= 6 * level || depth > 6 * level + 6) {
            PROBLEM(c, trie.off, "slot %u of a trie of level %u has a group of depth %u", i, level, depth);
            return 0;
        }
        unsigned slots = 1u << (6 * level + 6 - depth);
        if (i % slots != 0)
            PROBLEM(c, trie.off, "slot %u of a trie has a group that fills %u", i, slots);
        unsigned end = i - i % slots + slots;
        for (i++; i < end; i++)
            if (sho_view_word(&trie, i) != child)
                PROBLEM(c, trie.off, "slot %u of a trie differs from those that belong to it", i);
    }
    return 0;
}

static int check_indexed(checker *c)
{
    const sho_view *head = &c->path.head;
    sho_view order;
    bool ok;
    int rc =
        visit(c, head, sho_view_word(head, SHO_DICT_HEAD_ORDER), SHM_DICT_ORDER, SHO_DICT_ORDER_WORDS, &order, &ok);
    if (rc || !ok || (rc = check_chunks(c, &order)))
        return rc;
    uint64_t root = sho_view_word(head, SHO_DICT_HEAD_REF);
    if (root & SHO_DICT_REF_TRIE) {
        rc = check_trie(c, head, root, 0);
    } else {
        unsigned depth = 0;
        rc = check_group(c, head, root, &depth);
        if (rc == 0 && depth != 0)
            PROBLEM(c, head->off, "the only group of the index has depth %u", depth);
    }
    if (rc)
        return rc;
    if (sho_view_word(&order, SHO_DICT_ORDER_COUNT) != c->entries || c->entries == 0)
        PROBLEM(c, order.off, "counts %" PRIu64 " entries and has %" PRIu64,
                sho_view_word(&order, SHO_DICT_ORDER_COUNT), c->entries);
    if (c->index_words != c->entries)
        PROBLEM(c, head->off, "%" PRIu64 " index words for %" PRIu64 " entries", c->index_words, c->entries);
    if (sho_view_word(&order, SHO_DICT_ORDER_SERIAL) < c->next_serial)
        PROBLEM(c, order.off, "its next serial is below those in use");
    return 0;
}

/* ------------------------------------------------------------------------------------ all forms */

static int check_chunk(checker *c)
{
    const sho_view *head = &c->path.head;
    sho_view chunk;
    sho_dict_array array;
    bool ok;
    int rc = visit(c, head, sho_view_word(head, SHO_DICT_HEAD_REF), SHM_DICT_CHUNK,
                   SHO_DICT_CHUNK_WORDS(SHO_DICT_CHUNK_SLOTS_MIN), &chunk, &ok);
    if (rc || !ok)
        return rc;
    if (!SHO_DICT_CHUNK_SOLE(sho_view_word(&chunk, 0)))
        PROBLEM(c, chunk.off, "the only chunk of a dict does not say so");
    if ((sho_view_word(&chunk, SHO_DICT_CHUNK_NEXT) | sho_view_word(&chunk, SHO_DICT_CHUNK_PREV)) != 0)
        PROBLEM(c, chunk.off, "the only chunk of a dict has neighbours");
    if (sho_dict_chunk_array(&chunk, &array)) {
        PROBLEM(c, chunk.off, "a chunk that says it has more entries than there is room for");
        return 0;
    }
    if (array.live == 0)
        PROBLEM(c, chunk.off, "the only chunk of a dict is empty");
    return check_array(c, &array);
}

int sho_dict_check(sho_session *s, uint64_t off, const sho_check_sink *sink)
{
    checker c = {.s = s, .sink = sink};
    sho_view *head = &c.path.head;
    sho_dict_array array;
    int rc = sho_op_read(s, off, SHM_DICT, head);
    if (rc == 0)
        rc = sink->node(sink->arg, off, SHM_DICT, head->word_count);
    if (rc)
        return rc;
    if (head->word_count < SHO_DICT_HEAD_WORDS(SHO_DICT_HEAD_SLOTS_MIN)) {
        PROBLEM(&c, off, "a dict whose first node has %u words", head->word_count);
        return 0;
    }
    unsigned mode = SHO_DICT_MODE(sho_view_word(head, 0));
    if (mode == SHO_DICT_INLINE) {
        if (sho_dict_head_array(head, &array)) {
            PROBLEM(&c, off, "a dict that says it has more entries than there is room for");
            return 0;
        }
        return check_array(&c, &array);
    }
    for (unsigned i = SHO_DICT_HEAD_ORDER + 1; i < head->word_count; i++)
        if (sho_view_word(head, i) != 0)
            PROBLEM(&c, off, "word %u of a dict's first node is not in use and not 0", i);
    if (mode == SHO_DICT_CHUNK)
        return check_chunk(&c);
    if (mode == SHO_DICT_INDEXED)
        return check_indexed(&c);
    PROBLEM(&c, off, "a dict of no known form");
    return 0;
}
