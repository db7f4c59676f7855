/*
 * dict_insert.c: a key that is not there comes in.
 *
 *   INLINE   into the head; when it is full, into a chunk that is all of the dict
 *   CHUNK    into the chunk; when it is full, into a larger one, then into an index with chunks
 *   INDEXED  into the tail chunk and the index
 *
 * A slot array with holes is closed up before a larger form is taken. So that no serial lies
 * further than 2^32 behind the limit (I2), an array whose eldest entry is that old is left for the
 * next form, a tail chunk for the next one. Everything is read before the first block is taken:
 * that is the engine's short way.
 */
#include "types/dict.h"

#include "base/error.h"

static int encode(sho_session *s, const shobj_key *key, const shobj_value *value, sho_dict_entry *entry)
{
    int rc = sho_cell_encode(s, value, &entry->value);
    if (rc)
        return rc;
    entry->key = key->cell;
    entry->hash = (uint32_t)key->hash;
    return entry->key != SHO_CELL_EMPTY ? 0 : sho_cell_encode(s, &key->value, &entry->key);
}

static SHO_COLD int serials_used_up(void)
{
    return sho_error(SHOBJ_EFULL, "the dict has used up its %llu insertions: copy it to a new one",
                     (unsigned long long)SHO_DICT_SERIAL_MAX);
}

/* --------------------------------------------------------------------------------------- arrays */

/* To a larger form: `array` is the head's or the sole chunk's; entry is the new one. */
static int outgrow(sho_session *s, sho_dict_path *path, const sho_dict_array *array, const sho_dict_entry *entry)
{
    sho_dict_entry entries[SHO_DICT_SLOTS_MAX + 1];
    uint64_t scratch[SHO_DICT_BUILD_SCRATCH(SHO_DICT_SLOTS_MAX + 1)];
    enum sho_dict_mode mode = SHO_DICT_CHUNK;
    uint64_t ref;
    uint64_t order_off = 0;
    int rc = sho_dict_array_entries(array, entries);
    if (rc)
        return rc;
    unsigned count = array->live;
    entries[count++] = *entry;
    if (count <= SHO_DICT_SLOTS_MAX && entry->serial - entries[0].serial < SHO_DICT_SERIAL_SPAN) {
        unsigned slots = count <= SHO_DICT_CHUNK_SLOTS_MIN ? SHO_DICT_CHUNK_SLOTS_MIN : SHO_DICT_SLOTS_MAX;
        sho_view chunk;
        rc = sho_dict_build_chunk(s, entries, count, slots, true, entry->serial + 1, &chunk);
        ref = chunk.off;
    } else {
        mode = SHO_DICT_INDEXED;
        rc = sho_dict_build_indexed(s, entries, count, entry->serial + 1, scratch, &ref, &order_off);
    }
    if (rc || (rc = sho_op_write(s, &path->head)))
        return rc;
    if (path->mode == SHO_DICT_CHUNK && (rc = sho_op_write(s, &path->chunk)))
        return rc;
    rc = sho_op_check(s);
    if (rc)
        return rc;
    sho_dict_head_refer(s, &path->head, mode, ref, order_off);
    if (path->mode == SHO_DICT_CHUNK)
        sho_op_free_node(s, &path->chunk);
    return 0;
}

static int insert_array(sho_session *s, sho_dict_path *path, sho_dict_array *array, const sho_dict_entry *entry)
{
    sho_dict_entry entries[SHO_DICT_SLOTS_MAX];
    if (array->live == array->slots || !sho_dict_array_spans(array, entry->serial))
        return outgrow(s, path, array, entry);
    bool close_up = array->used == array->slots;
    int rc = close_up ? sho_dict_array_entries(array, entries) : 0;
    if (rc || (rc = sho_op_write(s, array->view)))
        return rc;
    sho_op_leaf(s); /* F1, F2 */
    rc = sho_op_check(s);
    if (rc)
        return rc;
    if (close_up)
        sho_dict_array_fill(s, array, entries, array->live);
    sho_dict_array_put(s, array, array->used, entry);
    array->used++;
    array->live++;
    array->limit = entry->serial + 1;
    sho_dict_array_store(s, array, true);
    return 0;
}

/* -------------------------------------------------------------------------------------- indexed */

/* Where the new entry goes: the tail chunk, or a new one behind it. */
typedef struct tail_plan {
    sho_view order;
    sho_view tail;
    sho_dict_array array; /* of the tail */
    bool extends;         /* a new chunk is needed */
    sho_view fresh;
    uint64_t place;
} tail_plan;

static int tail_read(sho_session *s, sho_dict_path *path, tail_plan *plan, uint64_t *ret_serial)
{
    int rc = sho_dict_read_order(s, &path->head, &plan->order);
    if (rc)
        return rc;
    rc = sho_dict_read(s, &plan->order, sho_view_word(&plan->order, SHO_DICT_ORDER_TAIL), SHM_DICT_CHUNK, &plan->tail);
    if (rc)
        return rc;
    rc = sho_dict_chunk_array(&plan->tail, &plan->array);
    if (rc)
        return rc;
    *ret_serial = sho_view_word(&plan->order, SHO_DICT_ORDER_SERIAL);
    plan->extends = plan->array.used == plan->array.slots || !sho_dict_array_spans(&plan->array, *ret_serial);
    return 0;
}

static int tail_gather(sho_session *s, tail_plan *plan, const sho_dict_entry *entry)
{
    if (plan->extends) {
        int rc = sho_dict_build_chunk(s, entry, 1, SHO_DICT_SLOTS_MAX, false, entry->serial + 1, &plan->fresh);
        if (rc)
            return rc;
        sho_op_set(s, &plan->fresh, SHO_DICT_CHUNK_PREV, plan->tail.off);
        plan->place = SHO_DICT_PLACE(plan->fresh.off, 0);
    } else {
        plan->place = SHO_DICT_PLACE(plan->tail.off, plan->array.used);
    }
    int rc = sho_op_write(s, &plan->tail);
    return rc ? rc : sho_op_write(s, &plan->order);
}

static void tail_apply(sho_session *s, tail_plan *plan, const sho_dict_entry *entry)
{
    sho_dict_array *array = &plan->array;
    if (plan->extends) {
        sho_op_set(s, &plan->tail, SHO_DICT_CHUNK_NEXT, plan->fresh.off);
        sho_op_set(s, &plan->order, SHO_DICT_ORDER_TAIL, plan->fresh.off);
    } else {
        sho_dict_array_put(s, array, array->used, entry);
        array->used++;
        array->live++;
        array->limit = entry->serial + 1;
        sho_dict_array_store(s, array, false);
    }
    sho_op_set(s, &plan->order, SHO_DICT_ORDER_COUNT, sho_view_word(&plan->order, SHO_DICT_ORDER_COUNT) + 1);
    sho_op_set(s, &plan->order, SHO_DICT_ORDER_SERIAL, entry->serial + 1);
}

static int insert_indexed(sho_session *s, sho_dict_path *path, tail_plan *plan, const sho_dict_entry *entry)
{
    sho_dict_add add;
    int rc = tail_gather(s, plan, entry);
    if (rc)
        return rc;
    rc = sho_dict_add_gather(s, path, entry->hash, plan->place, &add);
    if (rc)
        return rc;
    rc = sho_op_check(s);
    if (rc)
        return rc;
    tail_apply(s, plan, entry);
    sho_dict_add_apply(s, path, &add);
    return 0;
}

/* ------------------------------------------------------------------------------------ all forms */

int sho_dict_insert(sho_session *s, sho_dict_path *path, const shobj_key *key, const shobj_value *value,
                    shobj_value *ret_value)
{
    sho_dict_array array;
    tail_plan plan;
    sho_dict_entry entry;
    bool indexed = path->mode == SHO_DICT_INDEXED;
    int rc;
    if (indexed) {
        rc = tail_read(s, path, &plan, &entry.serial);
    } else {
        rc = path->mode == SHO_DICT_INLINE ? sho_dict_head_array(&path->head, &array)
                                           : sho_dict_chunk_array(&path->chunk, &array);
        if (rc == 0)
            entry.serial = array.limit;
    }
    if (rc)
        return rc;
    if (SHO_UNLIKELY(entry.serial >= SHO_DICT_SERIAL_MAX))
        return serials_used_up();
    rc = encode(s, key, value, &entry);
    if (rc)
        return rc;
    if (ret_value != NULL && (rc = sho_cell_decode(s, entry.value, ret_value)))
        return rc;
    if (indexed)
        return insert_indexed(s, path, &plan, &entry);
    return insert_array(s, path, &array, &entry);
}
