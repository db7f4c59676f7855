/*
 * dict_index.c: from a hash to the place of its entry.
 *
 * A group is an open hash table of one-word entries, without marks for deleted ones: taking a word
 * out moves later words of its run up. A full group splits alone, on the next bit of the hash: it
 * keeps the half of the new entry, a new group gets the other half and half of the trie's slots.
 * When a group fills just one slot of its trie, a new trie node comes between. Tags are counted
 * from the trie's own level on, so that all bits which its groups may still split on are at hand;
 * only a new trie node needs the hashes themselves, and gets them from the entries.
 *
 *     hash32   |-- 6 --|-- 6 --|-- 6 --|-- 6 --|-- 6 --|2|
 *     level    |   0   |   1   |   2   |   3   |   4   |5|
 *     tag of a group in a trie of level 1:
 *                      [------ 16 bits --------]
 *
 * A group of depth 32 can't split: its entries have equal hashes. It gets a chain of spill groups,
 * slow but whole.
 *
 * Merging goes the opposite way: a group that lost an entry takes in its neighbour of the same
 * depth if both together are half full at most, and goes on like that upwards; a trie node with one
 * group left goes. An empty group always has a neighbour with entries beneath it, so that a dict
 * that has become empty has one group left. Deleting takes no memory.
 */
#include "types/dict.h"

/* --------------------------------------------------------------------------------------- groups */

/* Into a private copy of a group's words, or of none yet. */
static void table_put(uint64_t *table, uint64_t word)
{
    unsigned i = sho_dict_group_home(SHO_DICT_INDEX_TAG(word));
    for (unsigned steps = 0; steps < SHO_DICT_GROUP_SLOTS; steps++, i = sho_dict_group_next(i))
        if (table[i] == 0) {
            table[i] = word;
            return;
        }
}

static void table_fill(uint64_t *table, uint64_t meta, const uint64_t *words, unsigned count)
{
    for (unsigned i = 1; i < SHO_DICT_GROUP_WORDS; i++)
        table[i] = 0;
    table[0] = meta;
    for (unsigned i = 0; i < count; i++)
        table_put(table, words[i]);
}

/* Apply half: what differs. */
static void table_store(sho_session *s, sho_view *group, const uint64_t *table)
{
    for (unsigned i = 0; i < SHO_DICT_GROUP_WORDS; i++)
        if (sho_view_word(group, i) != table[i])
            sho_op_set(s, group, i, table[i]);
}

int sho_dict_group_new(sho_session *s, unsigned depth, uint64_t spill_off, const uint64_t *words, unsigned count,
                       uint64_t *ret_off)
{
    uint64_t table[SHO_DICT_GROUP_WORDS];
    sho_view group;
    int rc = sho_op_new(s, SHM_DICT_GROUP, SHO_DICT_GROUP_WORDS, &group);
    if (rc)
        return rc;
    table_fill(table, SHO_DICT_GROUP_META(count, depth, spill_off), words, count);
    table_store(s, &group, table);
    *ret_off = group.off;
    return 0;
}

int sho_dict_group_words(const sho_view *group, uint64_t *ret_words, unsigned *ret_count)
{
    unsigned count = 0;
    for (unsigned i = 1; i < SHO_DICT_GROUP_WORDS; i++) {
        uint64_t word = sho_view_word(group, i);
        if (word != 0)
            ret_words[count++] = word;
    }
    if (SHO_UNLIKELY(count != SHO_DICT_GROUP_COUNT(sho_view_word(group, 0)) || count > SHO_DICT_GROUP_MAX))
        return sho_dict_damaged(group, "not as many index words as it says");
    *ret_count = count;
    return 0;
}

static void group_put(sho_session *s, sho_view *group, uint64_t word)
{
    unsigned i = sho_dict_group_home(SHO_DICT_INDEX_TAG(word));
    for (unsigned steps = 0; steps < SHO_DICT_GROUP_SLOTS; steps++, i = sho_dict_group_next(i))
        if (sho_view_word(group, i) == 0) {
            sho_op_set(s, group, i, word);
            sho_op_set(s, group, 0, sho_view_word(group, 0) + 1);
            return;
        }
}

void sho_dict_group_take(sho_session *s, sho_view *group, unsigned index)
{
    unsigned hole = index;
    unsigned i = sho_dict_group_next(hole);
    for (unsigned steps = 1; steps < SHO_DICT_GROUP_SLOTS; steps++, i = sho_dict_group_next(i)) {
        uint64_t word = sho_view_word(group, i);
        if (word == 0)
            break;
        /* It may move to the hole if its home is not behind the hole, going around. */
        unsigned home = sho_dict_group_home(SHO_DICT_INDEX_TAG(word));
        bool behind = hole < i ? home > hole && home <= i : home > hole || home <= i;
        if (behind)
            continue;
        sho_op_set(s, group, hole, word);
        hole = i;
    }
    sho_op_set(s, group, hole, 0);
    sho_op_set(s, group, 0, sho_view_word(group, 0) - 1);
}

/* The place of one word in a group, 0 if it is not there. */
static unsigned group_find(const sho_view *group, uint64_t word)
{
    unsigned i = sho_dict_group_home(SHO_DICT_INDEX_TAG(word));
    for (unsigned steps = 0; steps < SHO_DICT_GROUP_SLOTS; steps++, i = sho_dict_group_next(i)) {
        uint64_t at = sho_view_word(group, i);
        if (at == word)
            return i;
        if (at == 0)
            return 0;
    }
    return 0;
}

int sho_dict_spill_next(sho_session *s, sho_dict_path *path, sho_view **ret_group)
{
    const sho_view *at = path->spills ? &path->spill : &path->group;
    uint64_t off = SHO_DICT_GROUP_SPILL(sho_view_word(at, 0));
    *ret_group = NULL;
    if (off == 0)
        return 0;
    /* In a ring the mark, set anew at each power of two, is met again. */
    if (off == path->mark)
        return sho_dict_damaged(at, "a chain of spill groups without end");
    if ((path->spills & (path->spills - 1)) == 0)
        path->mark = off;
    if (path->spills)
        path->before = path->spill;
    int rc = sho_dict_read_group(s, path->spills ? &path->before : &path->group, off, &path->spill);
    if (rc)
        return rc;
    path->spills++;
    *ret_group = &path->spill;
    return path->spills & (path->spills - 1) ? 0 : sho_op_check(s);
}

int sho_dict_find_place(sho_session *s, sho_dict_path *path, uint32_t hash, uint64_t place)
{
    int rc = sho_dict_descend(s, path, hash);
    if (rc)
        return rc;
    uint64_t word = SHO_DICT_INDEX_WORD(sho_dict_tag(hash, sho_dict_level(path)), place);
    sho_view *group = &path->group;
    while (group != NULL) {
        path->index = group_find(group, word);
        if (path->index != 0)
            return 0;
        rc = sho_dict_spill_next(s, path, &group);
        if (rc)
            return rc;
    }
    return sho_dict_damaged(&path->group, "an entry is missing from the index");
}

/* I5 for a group on a path. */
static bool depth_fits(const sho_dict_path *path, unsigned depth)
{
    if (path->levels == 0)
        return depth == 0;
    unsigned level = sho_dict_level(path);
    return depth > 6 * level && depth <= 6 * level + 6 && depth <= SHO_DICT_DEPTH_MAX;
}

/* How many slots of a trie of `level` a group of `depth` fills. */
static unsigned slots_of(unsigned level, unsigned depth)
{
    return 1u << (6 * level + 6 - depth);
}

/* --------------------------------------------------------------------------------------- adding */

static int spill_gather(sho_session *s, sho_dict_path *path, sho_dict_add *add)
{
    sho_view *group = &path->group;
    path->spills = 0;
    path->mark = 0;
    for (;;) {
        int rc = sho_dict_spill_next(s, path, &group);
        if (rc)
            return rc;
        if (group == NULL)
            break;
        if (SHO_DICT_GROUP_COUNT(sho_view_word(group, 0)) < SHO_DICT_GROUP_MAX) {
            add->how = SHO_DICT_ADD_PUT;
            add->group = group;
            return sho_op_write(s, group);
        }
    }
    uint64_t word = add->word;
    uint64_t next = SHO_DICT_GROUP_SPILL(sho_view_word(&path->group, 0));
    add->how = SHO_DICT_ADD_SPILL;
    int rc = sho_dict_group_new(s, SHO_DICT_DEPTH_MAX, next, &word, 1, &add->word);
    return rc ? rc : sho_op_write(s, &path->group);
}

/* The group that splits, on its way down. */
typedef struct splitting {
    sho_dict_add *add;
    sho_view trie;    /* the new trie node it is in */
    bool in_new_trie; /* false: in that of the path */
    unsigned level;
    unsigned depth;
    uint32_t hash; /* of the new entry */
    uint64_t new_place;
    unsigned count;
    uint64_t words[SHO_DICT_GROUP_SLOTS];
} splitting;

static void split_refer(sho_session *s, splitting *split, unsigned first, unsigned count, uint64_t ref)
{
    for (unsigned i = first; i < first + count; i++) {
        if (split->in_new_trie) {
            sho_op_set(s, &split->trie, i, ref);
        } else {
            split->add->slots[i] = ref;
            split->add->slot_mask |= 1ULL << i;
        }
    }
}

/* The hash of the entry that an index word refers to. */
static int entry_hash(sho_session *s, const splitting *split, uint64_t word, uint32_t *ret_hash)
{
    if ((word & SHO_DICT_PLACE_MASK) == split->new_place) {
        *ret_hash = split->hash;
        return 0;
    }
    sho_view chunk;
    int rc = sho_dict_read(s, split->add->group, SHO_DICT_PLACE_OFF(word), SHM_DICT_CHUNK, &chunk);
    if (rc)
        return rc;
    unsigned at = SHO_DICT_CHUNK_ENTRIES + 3 * SHO_DICT_PLACE_SLOT(word);
    if (at >= chunk.word_count)
        return sho_dict_damaged(split->add->group, "an index word leads outside its chunk");
    *ret_hash = SHO_DICT_ENTRY_HASH(sho_view_word(&chunk, at));
    return 0;
}

/* A new trie node in place of the group, which goes into it as a whole. */
static int split_deepen(sho_session *s, splitting *split)
{
    uint64_t words[SHO_DICT_GROUP_SLOTS];
    for (unsigned i = 0; i < split->count; i++) {
        uint32_t hash = 0;
        int rc = entry_hash(s, split, split->words[i], &hash);
        if (rc)
            return rc;
        words[i] = SHO_DICT_INDEX_WORD(sho_dict_tag(hash, split->level + 1), split->words[i] & SHO_DICT_PLACE_MASK);
    }
    sho_view trie;
    int rc = sho_op_new(s, SHM_DICT_TRIE, SHO_DICT_TRIE_WORDS, &trie);
    if (rc)
        return rc;
    split_refer(s, split, sho_dict_trie_slot(split->hash, split->level), 1, trie.off | SHO_DICT_REF_TRIE);
    for (unsigned i = 0; i < split->count; i++)
        split->words[i] = words[i];
    split->trie = trie;
    split->in_new_trie = true;
    split->level++;
    return 0;
}

/* Moves the entries that differ from the new one in the next bit to a new group. */
static int split_halve(sho_session *s, splitting *split)
{
    uint64_t others[SHO_DICT_GROUP_SLOTS];
    unsigned other_count = 0;
    unsigned kept = 0;
    unsigned bit = 15 - (split->depth - 6 * split->level);
    unsigned mine = sho_dict_tag(split->hash, split->level) >> bit & 1;
    for (unsigned i = 0; i < split->count; i++) {
        uint64_t word = split->words[i];
        if ((SHO_DICT_INDEX_TAG(word) >> bit & 1) == mine)
            split->words[kept++] = word;
        else
            others[other_count++] = word;
    }
    uint64_t off;
    int rc = sho_dict_group_new(s, split->depth + 1, 0, others, other_count, &off);
    if (rc)
        return rc;
    split->count = kept;
    split->depth++;
    unsigned slots = slots_of(split->level, split->depth);
    unsigned first = sho_dict_trie_slot(split->hash, split->level) & ~(slots - 1);
    split_refer(s, split, first ^ slots, slots, off);
    return 0;
}

static int split_gather(sho_session *s, sho_dict_path *path, uint32_t hash, unsigned depth, sho_dict_add *add)
{
    splitting split = {.add = add,
                       .level = sho_dict_level(path),
                       .depth = depth,
                       .hash = hash,
                       .new_place = add->word & SHO_DICT_PLACE_MASK};
    int rc = sho_dict_group_words(&path->group, split.words, &split.count);
    if (rc)
        return rc;
    split.words[split.count++] = add->word;
    add->how = SHO_DICT_ADD_SPLIT;
    add->root = 0;
    add->slot_mask = 0;
    if (path->levels == 0) {
        rc = sho_op_new(s, SHM_DICT_TRIE, SHO_DICT_TRIE_WORDS, &split.trie);
        if (rc)
            return rc;
        split.in_new_trie = true;
        add->root = split.trie.off | SHO_DICT_REF_TRIE;
    }
    uint64_t spill = 0;
    while (split.count > SHO_DICT_GROUP_MAX) {
        if (split.depth == SHO_DICT_DEPTH_MAX) {
            split.count--;
            rc = sho_dict_group_new(s, split.depth, 0, &split.words[split.count], 1, &spill);
        } else {
            if (split.depth == 6 * split.level + 6)
                rc = split_deepen(s, &split);
            if (rc == 0)
                rc = split_halve(s, &split);
        }
        if (rc)
            return rc;
    }
    unsigned slots = slots_of(split.level, split.depth);
    split_refer(s, &split, sho_dict_trie_slot(hash, split.level) & ~(slots - 1), slots, path->group.off);
    table_fill(add->words, SHO_DICT_GROUP_META(split.count, split.depth, spill), split.words, split.count);
    rc = sho_op_write(s, &path->group);
    if (rc)
        return rc;
    return sho_op_write(s, path->levels ? &path->trie[path->levels - 1] : &path->head);
}

int sho_dict_add_gather(sho_session *s, sho_dict_path *path, uint32_t hash, uint64_t place, sho_dict_add *add)
{
    uint64_t meta = sho_view_word(&path->group, 0);
    unsigned depth = SHO_DICT_GROUP_DEPTH(meta);
    if (SHO_UNLIKELY(!depth_fits(path, depth)))
        return sho_dict_damaged(&path->group, "a group of a depth that does not fit its place");
    add->group = &path->group;
    add->word = SHO_DICT_INDEX_WORD(sho_dict_tag(hash, sho_dict_level(path)), place);
    if (SHO_LIKELY(SHO_DICT_GROUP_COUNT(meta) < SHO_DICT_GROUP_MAX)) {
        add->how = SHO_DICT_ADD_PUT;
        return sho_op_write(s, &path->group);
    }
    if (depth == SHO_DICT_DEPTH_MAX)
        return spill_gather(s, path, add);
    return split_gather(s, path, hash, depth, add);
}

void sho_dict_add_apply(sho_session *s, sho_dict_path *path, sho_dict_add *add)
{
    if (SHO_LIKELY(add->how == SHO_DICT_ADD_PUT)) {
        group_put(s, add->group, add->word);
        return;
    }
    if (add->how == SHO_DICT_ADD_SPILL) {
        uint64_t meta = sho_view_word(add->group, 0);
        sho_op_set(s, add->group, 0,
                   SHO_DICT_GROUP_META(SHO_DICT_GROUP_COUNT(meta), SHO_DICT_GROUP_DEPTH(meta), add->word));
        return;
    }
    table_store(s, add->group, add->words);
    if (add->root != 0) {
        sho_op_set(s, &path->head, SHO_DICT_HEAD_REF, add->root);
        return;
    }
    sho_view *trie = &path->trie[path->levels - 1];
    for (uint64_t mask = add->slot_mask; mask != 0; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctzll(mask);
        sho_op_set(s, trie, i, add->slots[i]);
    }
}

/* -------------------------------------------------------------------------------------- merging */

/* The group that grows, on its way up. */
typedef struct merging {
    unsigned level;
    unsigned depth;
    unsigned count;
    uint64_t words[SHO_DICT_GROUP_SLOTS];
} merging;

/* Takes in the neighbour of the same depth if there is one and both fit. */
static int merge_neighbour(sho_session *s, sho_dict_path *path, uint32_t hash, merging *m, sho_dict_merge *merge,
                           bool *ret_merged)
{
    *ret_merged = false;
    sho_view *trie = &path->trie[m->level];
    unsigned slots = slots_of(m->level, m->depth);
    uint64_t ref = sho_view_word(trie, (sho_dict_trie_slot(hash, m->level) & ~(slots - 1)) ^ slots);
    if (ref & SHO_DICT_REF_TRIE)
        return 0;
    sho_view *other = &merge->nodes[merge->freed];
    int rc = sho_dict_read_group(s, trie, SHO_DICT_REF_OFF(ref), other);
    if (rc)
        return rc;
    uint64_t meta = sho_view_word(other, 0);
    if (SHO_DICT_GROUP_DEPTH(meta) != m->depth || SHO_DICT_GROUP_SPILL(meta) != 0 ||
        m->count + SHO_DICT_GROUP_COUNT(meta) > SHO_DICT_GROUP_MERGE)
        return 0;
    uint64_t words[SHO_DICT_GROUP_SLOTS];
    unsigned count;
    rc = sho_dict_group_words(other, words, &count);
    if (rc)
        return rc;
    if (other->off == path->group.off)
        return sho_dict_damaged(trie, "one group in the places of two");
    for (unsigned i = 0; i < count; i++)
        m->words[m->count++] = words[i];
    merge->freed++;
    *ret_merged = true;
    return sho_op_write(s, other);
}

/* The trie node above has nothing but the group: it goes, and the tags get the bits that led to it. */
static int merge_raise(sho_session *s, sho_dict_path *path, uint32_t hash, merging *m, sho_dict_merge *merge)
{
    sho_view *trie = &merge->nodes[merge->freed++];
    *trie = path->trie[m->level];
    merge->levels--;
    if (m->level > 0) {
        m->level--;
        for (unsigned i = 0; i < m->count; i++) {
            unsigned tag = sho_dict_trie_slot(hash, m->level) << 10 | SHO_DICT_INDEX_TAG(m->words[i]) >> 6;
            m->words[i] = SHO_DICT_INDEX_WORD(tag, m->words[i] & SHO_DICT_PLACE_MASK);
        }
    }
    return sho_op_write(s, trie);
}

int sho_dict_merge_gather(sho_session *s, sho_dict_path *path, uint32_t hash, sho_dict_merge *merge)
{
    merging m = {.level = sho_dict_level(path), .depth = SHO_DICT_GROUP_DEPTH(sho_view_word(&path->group, 0))};
    merge->freed = 0;
    merge->levels = path->levels;
    if (!depth_fits(path, m.depth))
        return sho_dict_damaged(&path->group, "a group of a depth that does not fit its place");
    int rc = sho_dict_group_words(&path->group, m.words, &m.count);
    if (rc)
        return rc;
    uint64_t gone = sho_view_word(&path->group, path->index);
    unsigned kept = 0;
    for (unsigned i = 0; i < m.count; i++)
        if (m.words[i] != gone)
            m.words[kept++] = m.words[i];
    m.count = kept;
    while (merge->levels > 0) {
        bool merged;
        rc = merge_neighbour(s, path, hash, &m, merge, &merged);
        if (rc)
            return rc;
        if (!merged)
            break;
        m.depth--;
        if (m.depth == 6 * m.level && (rc = merge_raise(s, path, hash, &m, merge)))
            return rc;
    }
    if (merge->freed == 0)
        return 0;
    table_fill(merge->words, SHO_DICT_GROUP_META(m.count, m.depth, 0), m.words, m.count);
    rc = sho_op_write(s, &path->group);
    if (rc)
        return rc;
    if (merge->levels == 0)
        return sho_op_write(s, &path->head);
    merge->slot_count = slots_of(m.level, m.depth);
    merge->slot = sho_dict_trie_slot(hash, m.level) & ~(merge->slot_count - 1);
    return sho_op_write(s, &path->trie[merge->levels - 1]);
}

void sho_dict_merge_apply(sho_session *s, sho_dict_path *path, sho_dict_merge *merge)
{
    table_store(s, &path->group, merge->words);
    if (merge->levels == 0) {
        sho_op_set(s, &path->head, SHO_DICT_HEAD_REF, path->group.off);
    } else {
        for (unsigned i = 0; i < merge->slot_count; i++)
            sho_op_set(s, &path->trie[merge->levels - 1], merge->slot + i, path->group.off);
    }
    for (unsigned i = 0; i < merge->freed; i++)
        sho_op_free_node(s, &merge->nodes[i]);
}
