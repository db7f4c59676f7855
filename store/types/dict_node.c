/*
 * dict_node.c: the slot array of entries that an INLINE head and a chunk have in common (I1, I2 of
 * dict.h).
 */
#include "types/dict.h"

#include "base/error.h"

int sho_dict_damaged(const sho_view *view, const char *what)
{
    return sho_error(SHOBJ_ECORRUPT, "dict node at offset %#llx: %s; run `shobj check` on the store",
                     (unsigned long long)view->off, what);
}

static int array_make(sho_view *view, unsigned entries_at, unsigned used, unsigned live, uint64_t limit,
                      sho_dict_array *ret_array)
{
    unsigned slots = view->word_count < entries_at ? 0 : (view->word_count - entries_at) / 3;
    if (slots > SHO_DICT_SLOTS_MAX)
        slots = SHO_DICT_SLOTS_MAX;
    if (SHO_UNLIKELY(used > slots || live > used))
        return sho_dict_damaged(view, "more entries than there is room for");
    *ret_array = (sho_dict_array){
        .view = view, .entries_at = entries_at, .slots = slots, .used = used, .live = live, .limit = limit};
    return 0;
}

int sho_dict_head_array(sho_view *head, sho_dict_array *ret_array)
{
    uint64_t meta = sho_view_word(head, 0);
    return array_make(head, SHO_DICT_HEAD_ENTRIES, SHO_DICT_HEAD_USED(meta), SHO_DICT_HEAD_LIVE(meta),
                      SHO_DICT_HEAD_LIMIT(meta), ret_array);
}

int sho_dict_chunk_array(sho_view *chunk, sho_dict_array *ret_array)
{
    if (SHO_UNLIKELY(chunk->word_count < SHO_DICT_CHUNK_WORDS(SHO_DICT_CHUNK_SLOTS_MIN)))
        return sho_dict_damaged(chunk, "a chunk too small");
    uint64_t meta = sho_view_word(chunk, 0);
    return array_make(chunk, SHO_DICT_CHUNK_ENTRIES, SHO_DICT_CHUNK_USED(meta), SHO_DICT_CHUNK_LIVE(meta),
                      sho_view_word(chunk, SHO_DICT_CHUNK_LIMIT), ret_array);
}

int sho_dict_array_entries(const sho_dict_array *array, sho_dict_entry *ret_entries)
{
    unsigned count = 0;
    for (unsigned slot = 0; slot < array->used; slot++) {
        uint64_t word = sho_dict_array_word(array, slot, 0);
        if (word == 0)
            continue;
        ret_entries[count++] = (sho_dict_entry){.serial = sho_dict_serial(array->limit, word),
                                                .key = sho_dict_array_word(array, slot, 1),
                                                .value = sho_dict_array_word(array, slot, 2),
                                                .hash = SHO_DICT_ENTRY_HASH(word)};
    }
    if (SHO_UNLIKELY(count != array->live))
        return sho_dict_damaged(array->view, "not as many entries as it says");
    return 0;
}

bool sho_dict_array_spans(const sho_dict_array *array, uint64_t serial)
{
    for (unsigned slot = 0; slot < array->used; slot++) {
        uint64_t word = sho_dict_array_word(array, slot, 0);
        if (word != 0)
            return serial - sho_dict_serial(array->limit, word) < SHO_DICT_SERIAL_SPAN;
    }
    return true;
}

static void put_words(sho_session *s, const sho_dict_array *array, unsigned slot, uint64_t word, uint64_t key,
                      uint64_t value)
{
    unsigned at = array->entries_at + 3 * slot;
    sho_op_set(s, array->view, at, word);
    sho_op_set(s, array->view, at + 1, key);
    sho_op_set(s, array->view, at + 2, value);
}

void sho_dict_array_put(sho_session *s, const sho_dict_array *array, unsigned slot, const sho_dict_entry *entry)
{
    put_words(s, array, slot, SHO_DICT_ENTRY(entry->hash, entry->serial), entry->key, entry->value);
}

void sho_dict_array_take(sho_session *s, sho_dict_array *array, unsigned slot)
{
    put_words(s, array, slot, 0, SHO_CELL_EMPTY, SHO_CELL_EMPTY);
    array->live--;
    if (slot + 1 == array->used) {
        while (slot > 0 && sho_dict_array_word(array, slot - 1, 0) == 0)
            slot--;
        array->used = slot;
    }
}

void sho_dict_array_store(sho_session *s, const sho_dict_array *array, bool sole)
{
    if (array->entries_at == SHO_DICT_HEAD_ENTRIES) {
        sho_op_set(s, array->view, 0, SHO_DICT_HEAD_META(array->used, array->live, array->limit));
        return;
    }
    sho_op_set(s, array->view, 0, SHO_DICT_CHUNK_META(array->used, array->live, sole));
    sho_op_set(s, array->view, SHO_DICT_CHUNK_LIMIT, array->limit);
}

void sho_dict_array_fill(sho_session *s, sho_dict_array *array, const sho_dict_entry *entries, unsigned count)
{
    for (unsigned slot = 0; slot < count; slot++)
        sho_dict_array_put(s, array, slot, &entries[slot]);
    for (unsigned slot = count; slot < array->used; slot++)
        put_words(s, array, slot, 0, SHO_CELL_EMPTY, SHO_CELL_EMPTY);
    array->used = count;
    array->live = count;
}

/* Beyond its first three words a head that is not INLINE is all zero. */
static void head_wipe(sho_session *s, sho_view *head)
{
    for (unsigned i = 1; i < head->word_count; i++)
        if (sho_view_word(head, i) != 0)
            sho_op_set(s, head, i, 0);
}

void sho_dict_head_refer(sho_session *s, sho_view *head, enum sho_dict_mode mode, uint64_t ref, uint64_t order_off)
{
    if (SHO_DICT_MODE(sho_view_word(head, 0)) == SHO_DICT_INLINE)
        head_wipe(s, head);
    sho_op_set(s, head, 0, mode);
    sho_op_set(s, head, SHO_DICT_HEAD_REF, ref);
    sho_op_set(s, head, SHO_DICT_HEAD_ORDER, order_off);
}

void sho_dict_head_clear(sho_session *s, sho_view *head, uint64_t next_serial)
{
    head_wipe(s, head);
    sho_op_set(s, head, 0, SHO_DICT_HEAD_META(0, 0, next_serial));
}
