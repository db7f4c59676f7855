/*
 * dict.c: finding a key, and the operations on one.
 *
 * The way to a key is head -> (trie ->)* group -> chunk, one word of each, or head -> chunk, or the
 * head alone; dict.h tells the stored form and the invariants. An update of a key that is there
 * writes the node of its entry alone and says so to the engine (sho_op_leaf()), by F1 to F3.
 *
 * A missing key sets no error message: asking for what may not be there is an everyday thing, and
 * formatting takes longer than looking.
 */
#include "types/dict.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* -------------------------------------------------------------------------------------- finding */

/* The key among the `used` entries of a head or a chunk. */
SHO_INLINE int find_in_array(sho_session *s, const sho_view *view, unsigned entries_at, unsigned used,
                             const shobj_key *key, sho_dict_path *path)
{
    uint32_t hash = (uint32_t)key->hash;
    if (SHO_UNLIKELY(entries_at + 3 * used > view->word_count))
        return sho_dict_damaged(view, "more entries than there is room for");
    for (unsigned slot = 0, at = entries_at; slot < used; slot++, at += 3) {
        if (SHO_DICT_ENTRY_HASH(sho_view_word(view, at)) != hash)
            continue;
        int rc = sho_key_equals(s, sho_view_word(view, at + 1), key, &path->found);
        if (SHO_UNLIKELY(rc))
            return rc;
        if (SHO_LIKELY(path->found)) {
            path->slot = slot;
            return 0;
        }
    }
    return 0;
}

/* Whether an index word whose tag is right leads to the key. */
SHO_INLINE int match(sho_session *s, const sho_view *group, uint64_t word, const shobj_key *key, sho_dict_path *path)
{
    int rc = sho_dict_read(s, group, SHO_DICT_PLACE_OFF(word), SHM_DICT_CHUNK, &path->chunk);
    if (SHO_UNLIKELY(rc))
        return rc;
    unsigned slot = SHO_DICT_PLACE_SLOT(word);
    unsigned at = SHO_DICT_CHUNK_ENTRIES + 3 * slot;
    if (SHO_UNLIKELY(at + 2 >= path->chunk.word_count))
        return sho_dict_damaged(group, "an index word leads outside its chunk");
    if (SHO_UNLIKELY(SHO_DICT_ENTRY_HASH(sho_view_word(&path->chunk, at)) != (uint32_t)key->hash))
        return 0;
    path->slot = slot;
    return sho_key_equals(s, sho_view_word(&path->chunk, at + 1), key, &path->found);
}

SHO_INLINE int find_in_index(sho_session *s, const shobj_key *key, sho_dict_path *path)
{
    int rc = sho_dict_descend(s, path, (uint32_t)key->hash);
    if (SHO_UNLIKELY(rc))
        return rc;
    unsigned tag = sho_dict_tag((uint32_t)key->hash, sho_dict_level(path));
    sho_view *group = &path->group;
    for (;;) {
        unsigned i = sho_dict_group_home(tag);
        for (unsigned steps = 0; steps < SHO_DICT_GROUP_SLOTS; steps++, i = sho_dict_group_next(i)) {
            uint64_t word = sho_view_word(group, i);
            if (word == 0)
                break;
            if (SHO_DICT_INDEX_TAG(word) != tag)
                continue;
            rc = match(s, group, word, key, path);
            if (SHO_UNLIKELY(rc))
                return rc;
            if (SHO_LIKELY(path->found)) {
                path->index = i;
                return 0;
            }
        }
        if (SHO_LIKELY(SHO_DICT_GROUP_SPILL(sho_view_word(group, 0)) == 0))
            return 0;
        rc = sho_dict_spill_next(s, path, &group);
        if (rc || group == NULL)
            return rc;
    }
}

SHO_INLINE int find_below(sho_session *s, const shobj_key *key, sho_dict_path *path)
{
    uint64_t meta = sho_view_word(&path->head, 0);
    path->found = false;
    path->mode = SHO_DICT_MODE(meta);
    if (path->mode == SHO_DICT_INDEXED)
        return find_in_index(s, key, path);
    if (path->mode == SHO_DICT_INLINE)
        return find_in_array(s, &path->head, SHO_DICT_HEAD_ENTRIES, SHO_DICT_HEAD_USED(meta), key, path);
    if (SHO_UNLIKELY(path->mode != SHO_DICT_CHUNK))
        return sho_dict_damaged(&path->head, "a dict of no known form");
    int rc = sho_dict_read(s, &path->head, sho_view_word(&path->head, SHO_DICT_HEAD_REF), SHM_DICT_CHUNK, &path->chunk);
    if (SHO_UNLIKELY(rc))
        return rc;
    return find_in_array(s, &path->chunk, SHO_DICT_CHUNK_ENTRIES, SHO_DICT_CHUNK_USED(sho_view_word(&path->chunk, 0)),
                         key, path);
}

int sho_dict_find(sho_session *s, const shobj_key *key, sho_dict_path *path)
{
    return find_below(s, key, path);
}

SHO_INLINE int locate(sho_session *s, shobj_oid dict, const shobj_key *key, sho_dict_path *path)
{
    int rc = sho_dict_read_head(s, dict, &path->head);
    return SHO_UNLIKELY(rc) ? rc : find_below(s, key, path);
}

static uint64_t found_value(sho_dict_path *path)
{
    unsigned at;
    const sho_view *home = sho_dict_home(path, &at);
    return sho_view_word(home, at + 2);
}

/* ------------------------------------------------------------------------------------- guessing */

/* Where each key's entry stood when this thread last found it in an index: index words, by hash, in memory of the
 * session's own. Only a guess, of any dict: it starts bringing the entry's cache lines while the index is walked, for
 * they are what another core has most likely changed, and nothing depends on it. */
#define GUESSES 65536u

SHO_INLINE uint64_t *guess_of(sho_session *s, const shobj_key *key)
{
    sho_op_state *o = (sho_op_state *)s;
    if (SHO_UNLIKELY(o->guesses == NULL) && (o->guesses = calloc(GUESSES, sizeof(*o->guesses))) == NULL)
        return NULL;
    return &o->guesses[key->hash & (GUESSES - 1)];
}

/* Asks for the lines to be written: the node's orec and the entry's value. */
SHO_INLINE void guess_fetch(const sho_session *s, const uint64_t *guess)
{
    if (guess == NULL || *guess == 0)
        return;
    uintptr_t node = (uintptr_t)((const sho_op_state *)s)->base + SHO_DICT_PLACE_OFF(*guess);
    unsigned value = SHO_DICT_CHUNK_ENTRIES + 3 * SHO_DICT_PLACE_SLOT(*guess) + 2;
    sho_prefetch_write(node);
    sho_prefetch_write(node + SHM_NODE_BYTES(value));
}

SHO_INLINE void guess_keep(uint64_t *guess, const sho_dict_path *path)
{
    if (guess == NULL || !path->found || path->mode != SHO_DICT_INDEXED)
        return;
    uint64_t word = sho_view_word(path->spills ? &path->spill : &path->group, path->index);
    if (*guess != word)
        *guess = word;
}

/* -------------------------------------------------------------------------------------- reading */

static int no_key(void)
{
    return sho_error_text(SHOBJ_ENOTFOUND, "the dict has no such key");
}

static int get_body(sho_session *s, shobj_oid dict, const shobj_key *key, shobj_value *value)
{
    sho_dict_path path;
    int rc = locate(s, dict, key, &path);
    if (SHO_UNLIKELY(rc))
        return rc;
    return path.found ? sho_cell_decode(s, found_value(&path), value) : no_key();
}

SHOBJ_API int shobj_dict_get(shobj_store *store, shobj_oid dict, const shobj_key *key, shobj_value *ret_value)
{
    sho_session *s;
    shobj_value value;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    sho_values_reset(s);
    SHO_OP(s, rc, get_body(s, dict, key, &value));
    if (SHO_LIKELY(rc == 0))
        *ret_value = value;
    return rc;
}

static int has_body(sho_session *s, shobj_oid dict, const shobj_key *key, bool *has)
{
    sho_dict_path path;
    int rc = locate(s, dict, key, &path);
    if (SHO_LIKELY(rc == 0))
        *has = path.found;
    return rc;
}

SHOBJ_API int shobj_dict_has(shobj_store *store, shobj_oid dict, const shobj_key *key, bool *ret_has)
{
    sho_session *s;
    bool has = false;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    SHO_OP(s, rc, has_body(s, dict, key, &has));
    if (SHO_LIKELY(rc == 0))
        *ret_has = has;
    return rc;
}

static int len_body(sho_session *s, shobj_oid dict, uint64_t *count)
{
    sho_view head, part;
    int rc = sho_dict_read_head(s, dict, &head);
    if (rc)
        return rc;
    uint64_t meta = sho_view_word(&head, 0);
    switch (SHO_DICT_MODE(meta)) {
    case SHO_DICT_INLINE: *count = SHO_DICT_HEAD_LIVE(meta); return 0;
    case SHO_DICT_CHUNK:
        rc = sho_dict_read(s, &head, sho_view_word(&head, SHO_DICT_HEAD_REF), SHM_DICT_CHUNK, &part);
        if (rc == 0)
            *count = SHO_DICT_CHUNK_LIVE(sho_view_word(&part, 0));
        return rc;
    case SHO_DICT_INDEXED:
        rc = sho_dict_read_order(s, &head, &part);
        if (rc == 0)
            *count = sho_view_word(&part, SHO_DICT_ORDER_COUNT);
        return rc;
    default: return sho_dict_damaged(&head, "a dict of no known form");
    }
}

SHOBJ_API int shobj_dict_len(shobj_store *store, shobj_oid dict, uint64_t *ret_count)
{
    sho_session *s;
    uint64_t count = 0;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    SHO_OP(s, rc, len_body(s, dict, &count));
    if (rc == 0)
        *ret_count = count;
    return rc;
}

/* ------------------------------------------------------------------------------------- changing */

/* The value of a found key: one node. */
static int replace(sho_session *s, sho_dict_path *path, const shobj_value *value)
{
    unsigned at;
    sho_view *home = sho_dict_home(path, &at);
    uint64_t old = sho_view_word(home, at + 2);
    uint64_t cell;
    int rc = sho_op_write(s, home);
    if (SHO_UNLIKELY(rc) || SHO_UNLIKELY(rc = sho_cell_encode(s, value, &cell)))
        return rc;
    if (sho_cell_is_box(old) && SHO_UNLIKELY(rc = sho_cell_release(s, old)))
        return rc;
    sho_op_leaf(s); /* F1, F2, F3 */
    rc = sho_op_check(s);
    if (SHO_UNLIKELY(rc))
        return rc;
    sho_op_set(s, home, at + 2, cell);
    return 0;
}

static int set_body(sho_session *s, shobj_oid dict, const shobj_key *key, const shobj_value *value)
{
    sho_dict_path path;
    uint64_t *guess = guess_of(s, key);
    guess_fetch(s, guess);
    int rc = locate(s, dict, key, &path);
    if (SHO_UNLIKELY(rc))
        return rc;
    guess_keep(guess, &path);
    return path.found ? replace(s, &path, value) : sho_dict_insert(s, &path, key, value, NULL);
}

/* A set that is made later: the key with what it points to, and the value's cell. */
struct set_later {
    shobj_key key;
    uint64_t cell;
    uint8_t bytes[]; /* of the key */
};
#define KEY_BYTES_MAX 256u

static bool points_to_bytes(const shobj_key *key)
{
    return key->value.type == SHOBJ_STR || key->value.type == SHOBJ_BYTES || key->value.type == SHOBJ_BIGINT;
}

static int set_later_body(sho_session *s, shobj_oid dict, const void *data)
{
    const struct set_later *later = data;
    shobj_key key = later->key;
    shobj_value value = {.type = SHO_VALUE_CELL, .i = (int64_t)later->cell};
    if (points_to_bytes(&key))
        key.value.data = later->bytes;
    return set_body(s, dict, &key, &value);
}

/* Keys of one piece, and not a long one. */
static bool key_is_plain(const shobj_key *key)
{
    if (points_to_bytes(key))
        return key->value.count <= KEY_BYTES_MAX;
    return key->value.type != SHOBJ_TUPLE && key->value.type != SHOBJ_FROZENSET;
}

static int set_later(sho_session *s, shobj_oid dict, const shobj_key *key, const shobj_value *value)
{
    union {
        struct set_later later;
        uint8_t room[sizeof(struct set_later) + KEY_BYTES_MAX];
    } copy;
    size_t bytes = 0;
    copy.later.key = *key;
    if (points_to_bytes(key)) {
        bytes = key->value.count;
        memcpy(copy.later.bytes, key->value.data, bytes);
    }
    int rc = sho_cell_store(s, value, &copy.later.cell);
    return rc ? rc : sho_defer(s, dict, set_later_body, &copy, sizeof(struct set_later) + bytes);
}

SHOBJ_API int shobj_dict_set(shobj_store *store, shobj_oid dict, const shobj_key *key, const shobj_value *value)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (sho_op_in_txn(s) && key_is_plain(key) && sho_may_defer(s, dict, SHM_DICT))
        return set_later(s, dict, key, value);
    SHO_OP(s, rc, set_body(s, dict, key, value));
    return rc;
}

static int setdefault_body(sho_session *s, shobj_oid dict, const shobj_key *key, const shobj_value *value,
                           shobj_value *now)
{
    sho_dict_path path;
    int rc = locate(s, dict, key, &path);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (!path.found)
        return sho_dict_insert(s, &path, key, value, now);
    return now ? sho_cell_decode(s, found_value(&path), now) : 0;
}

SHOBJ_API int shobj_dict_setdefault(shobj_store *store, shobj_oid dict, const shobj_key *key, const shobj_value *value,
                                    shobj_value *ret_value)
{
    sho_session *s;
    shobj_value now;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (ret_value != NULL)
        sho_values_reset(s);
    SHO_OP(s, rc, setdefault_body(s, dict, key, value, ret_value ? &now : NULL));
    if (rc == 0 && ret_value != NULL)
        *ret_value = now;
    return rc;
}

static int del_body(sho_session *s, shobj_oid dict, const shobj_key *key, shobj_value *value)
{
    sho_dict_path path;
    int rc = locate(s, dict, key, &path);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (!path.found)
        return no_key();
    if (value != NULL && (rc = sho_cell_decode(s, found_value(&path), value)))
        return rc;
    return sho_dict_remove(s, &path);
}

SHOBJ_API int shobj_dict_del(shobj_store *store, shobj_oid dict, const shobj_key *key, shobj_value *ret_value)
{
    sho_session *s;
    shobj_value value;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    if (ret_value != NULL)
        sho_values_reset(s);
    SHO_OP(s, rc, del_body(s, dict, key, ret_value ? &value : NULL));
    if (rc == 0 && ret_value != NULL)
        *ret_value = value;
    return rc;
}

/* --------------------------------------------------------------------- the first, the last, all */

static int locate_in_array(const sho_dict_array *array, bool first, sho_dict_path *path)
{
    for (unsigned i = 0; i < array->used; i++) {
        path->slot = first ? i : array->used - 1 - i;
        if (sho_dict_array_word(array, path->slot, 0) != 0) {
            path->found = true;
            return 0;
        }
    }
    return array->live == 0 ? 0 : sho_dict_damaged(array->view, "fewer entries than it says");
}

/* The entry at one end of the order; not found: the dict is empty. */
static int locate_end(sho_session *s, shobj_oid dict, bool first, sho_dict_path *path)
{
    sho_dict_array array;
    int rc = sho_dict_read_head(s, dict, &path->head);
    if (rc)
        return rc;
    path->mode = SHO_DICT_MODE(sho_view_word(&path->head, 0));
    path->found = false;
    path->slot = 0;
    if (path->mode == SHO_DICT_INLINE) {
        rc = sho_dict_head_array(&path->head, &array);
        return rc ? rc : locate_in_array(&array, first, path);
    }
    sho_view order;
    uint64_t off = sho_view_word(&path->head, SHO_DICT_HEAD_REF);
    if (path->mode == SHO_DICT_INDEXED) {
        rc = sho_dict_read_order(s, &path->head, &order);
        if (rc)
            return rc;
        off = sho_view_word(&order, first ? SHO_DICT_ORDER_FIRST : SHO_DICT_ORDER_TAIL);
    } else if (path->mode != SHO_DICT_CHUNK) {
        return sho_dict_damaged(&path->head, "a dict of no known form");
    }
    if ((rc = sho_dict_read(s, &path->head, off, SHM_DICT_CHUNK, &path->chunk)) ||
        (rc = sho_dict_chunk_array(&path->chunk, &array)) || (rc = locate_in_array(&array, first, path)))
        return rc;
    if (!path->found)
        return sho_dict_damaged(&path->chunk, "an empty chunk");
    if (path->mode == SHO_DICT_CHUNK)
        return 0;
    return sho_dict_find_place(s, path, SHO_DICT_ENTRY_HASH(sho_dict_array_word(&array, path->slot, 0)),
                               SHO_DICT_PLACE(path->chunk.off, path->slot));
}

static int popitem_body(sho_session *s, shobj_oid dict, bool first, shobj_item *item)
{
    sho_dict_path path;
    unsigned at;
    int rc = locate_end(s, dict, first, &path);
    if (rc)
        return rc;
    if (!path.found)
        return sho_error(SHOBJ_ENOTFOUND, "popitem: the dict is empty");
    const sho_view *home = sho_dict_home(&path, &at);
    if ((rc = sho_cell_decode(s, sho_view_word(home, at + 1), &item->key)) ||
        (rc = sho_cell_decode(s, sho_view_word(home, at + 2), &item->value)))
        return rc;
    return sho_dict_remove(s, &path);
}

SHOBJ_API int shobj_dict_popitem(shobj_store *store, shobj_oid dict, bool first, shobj_item *ret_item)
{
    sho_session *s;
    shobj_item item;
    int rc = sho_session_get(store, &s);
    if (SHO_UNLIKELY(rc))
        return rc;
    sho_values_reset(s);
    SHO_OP(s, rc, popitem_body(s, dict, first, &item));
    if (rc == 0)
        *ret_item = item;
    return rc;
}
