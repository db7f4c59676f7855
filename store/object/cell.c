/*
 * cell.c: values into cells and boxes.
 *
 * A value is first checked as a whole and then stored, so that a refused one costs no memory. What
 * has an in-place form is never boxed.
 */
#include "object/cell.h"

#include "base/error.h"
#include "object/str.h"
#include "object/words.h"
#include "txn/session.h"

_Static_assert(SHO_TAG_STR + 1 == SHO_TAG_BYTES && (SHO_TAG_STR & 1) == 0, "told apart by one bit");

/* ---- in place */

static uint64_t short_cell(unsigned tag, const shobj_value *value)
{
    uint64_t word = sho_bytes_load_part(value->data, value->count);
    if (tag == SHO_TAG_STR && SHO_UNLIKELY(word & SHO_HIGH_BITS)) {
        bool ascii;
        if (sho_str_check(value->data, value->count, &ascii) != value->count)
            return SHO_CELL_EMPTY;
    }
    return SHO_CELL(tag, word | (uint64_t)value->count << 40);
}

uint64_t sho_cell_in_place_other(const shobj_value *value)
{
    switch (value->type) {
    case SHOBJ_NONE:
        return SHO_CELL_NONE;
    case SHOBJ_BOOL:
        return value->i != 0 ? SHO_CELL_TRUE : SHO_CELL_FALSE;
    case SHOBJ_STR:
        return value->count <= SHO_SHORT_BYTES_MAX ? short_cell(SHO_TAG_STR, value)
                                                   : SHO_CELL_EMPTY;
    case SHOBJ_BYTES:
        return value->count <= SHO_SHORT_BYTES_MAX ? short_cell(SHO_TAG_BYTES, value)
                                                   : SHO_CELL_EMPTY;
    case SHOBJ_BIGINT: {
        sho_number number;
        sho_number_init(&number, value);
        if (number.form != SHO_NUMBER_SMALL)
            return SHO_CELL_EMPTY;
        return SHO_CELL(SHO_TAG_INT, (uint64_t)number.small & SHO_CELL_PAYLOAD);
    }
    default:
        return SHO_CELL_EMPTY;
    }
}

/* ---- check */

static int too_long(const char *what, size_t count, const char *unit)
{
    return sho_error(SHOBJ_EINVAL,
                     "a %s of %zu %s is more than one block can hold: keep its parts in a list",
                     what, count, unit);
}

static int check_str(const shobj_value *value)
{
    bool ascii;
    size_t good = sho_str_check(value->data, value->count, &ascii);
    if (good == value->count)
        return 0;
    return sho_error(
        SHOBJ_EINVAL,
        "a str of %zu bytes is not UTF-8 at byte %zu (0x%02x): pass it as bytes, or mend it",
        value->count, good, ((const uint8_t *)value->data)[good]);
}

static int check_value(sho_session *s, const shobj_value *value, unsigned depth);

static int check_items(sho_session *s, const shobj_value *value, unsigned depth)
{
    if (depth >= SHO_VALUE_DEPTH_MAX)
        return sho_error(
            SHOBJ_EINVAL,
            "tuples are nested more than %u deep: use lists or dicts for the outer levels",
            SHO_VALUE_DEPTH_MAX);
    if (value->count > SHM_BOX_BYTES_MAX / 16)
        return too_long("tuple or frozenset", value->count, "items");
    for (size_t i = 0; i < value->count; i++) {
        int rc = check_value(s, &value->items[i], depth + 1);
        if (rc)
            return rc;
    }
    return 0;
}

static int check_object(sho_session *s, const shobj_value *value)
{
    if (s == NULL)
        return sho_error(SHOBJ_ETYPE,
                         "an object (@%016llx) can't be a key, nor be in a key or a frozenset, "
                         "because it can change: use immutable values",
                         (unsigned long long)value->oid);
    sho_view view;
    return sho_op_read_object(s, value->oid, 0, &view);
}

static int check_value(sho_session *s, const shobj_value *value, unsigned depth)
{
    switch (value->type) {
    case SHOBJ_NONE:
    case SHOBJ_BOOL:
    case SHOBJ_INT:
    case SHOBJ_FLOAT:
    case SHOBJ_COMPLEX:
        return 0;
    case SHOBJ_STR:
        return value->count <= SHM_BOX_BYTES_MAX ? check_str(value)
                                                 : too_long("str", value->count, "bytes");
    case SHOBJ_BYTES:
        return value->count <= SHM_BOX_BYTES_MAX ? 0
                                                 : too_long("bytes value", value->count, "bytes");
    case SHOBJ_BIGINT:
        return value->count <= SHM_BOX_BYTES_MAX - 7 ? 0 : too_long("int", value->count, "bytes");
    case SHOBJ_TUPLE:
        return check_items(s, value, depth);
    case SHOBJ_FROZENSET:
        return check_items(NULL, value, depth);
    case SHOBJ_OBJECT:
        return check_object(s, value);
    case SHOBJ_ABSENT:
        return sho_error(
            SHOBJ_EINVAL,
            "there is no value (its type is ABSENT) where one is to be stored or looked up");
    default:
        return sho_error(SHOBJ_EINVAL, "a value has the type %u, which is none of enum shobj_type",
                         value->type);
    }
}

int sho_value_check(sho_session *s, const shobj_value *value)
{
    return check_value(s, value, 0);
}

/* ---- encode */

/* What follows stores values that passed the check. */
static int store_value(sho_session *s, const shobj_value *value, uint64_t *ret_cell);

static int store_bytes(sho_session *s, unsigned kind, unsigned flags, const void *bytes,
                       size_t count, size_t payload, uint64_t *ret_cell)
{
    uint64_t off;
    sho_word *words;
    int rc = sho_op_new_box(s, kind, flags, payload, &off, &words);
    if (rc)
        return rc;
    sho_words_put(words, bytes, count);
    *ret_cell = SHO_CELL(SHO_TAG_BOX, off);
    return 0;
}

static int store_int(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    sho_number number;
    sho_number_init(&number, value);
    SHO_ASSERT(number.form == SHO_NUMBER_BIG);
    size_t payload = (number.count + 7) / 8 * 8;
    return store_bytes(s, SHM_BOX_INT, number.negative ? SHM_BOX_NEGATIVE : 0, number.bytes,
                       number.count, payload, ret_cell);
}

static int store_str(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    bool ascii;
    sho_str_check(value->data, value->count, &ascii);
    return store_bytes(s, SHM_BOX_STR, ascii ? SHM_BOX_ASCII : 0, value->data, value->count,
                       value->count, ret_cell);
}

static int store_tuple(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    uint64_t off;
    sho_word *words;
    int rc = sho_op_new_box(s, SHM_BOX_TUPLE, 0, 8 * (uint64_t)value->count, &off, &words);
    if (rc)
        return rc;
    for (size_t i = 0; i < value->count; i++) {
        uint64_t cell;
        rc = store_value(s, &value->items[i], &cell);
        if (rc)
            return rc;
        sho_store(&words[i], cell);
    }
    *ret_cell = SHO_CELL(SHO_TAG_BOX, off);
    return 0;
}

struct member {
    uint64_t hash;
    uint64_t cell;
    const shobj_value *item;
};

static int compare_members(const void *a, const void *b)
{
    uint64_t x = ((const struct member *)a)->hash;
    uint64_t y = ((const struct member *)b)->hash;
    return (x > y) - (x < y);
}

/* Sorted members that have the same hash are compared each with each. */
static int check_distinct(sho_session *s, const struct member *members, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t j = i; j > 0 && members[j - 1].hash == members[i].hash; j--) {
            bool equal;
            int rc = sho_cell_equals(s, members[j - 1].cell, members[i].item, &equal);
            if (rc)
                return rc;
            if (equal)
                return sho_error(SHOBJ_EINVAL,
                                 "a frozenset of %zu items has two that are equal: pass each once",
                                 count);
        }
    }
    return 0;
}

static int store_frozenset(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    size_t count = value->count;
    uint64_t off;
    sho_word *words;
    int rc = sho_op_new_box(s, SHM_BOX_FROZENSET, 0, 16 * (uint64_t)count, &off, &words);
    if (rc)
        return rc;
    struct member *members = malloc((count + 1) * sizeof(*members));
    if (members == NULL)
        return sho_error(SHOBJ_ENOMEM, "no memory to sort a frozenset of %zu items", count);
    for (size_t i = 0; i < count; i++) {
        const shobj_value *item = &value->items[i];
        members[i] = (struct member){.hash = sho_key_hash(sho_order_seed, item), .item = item};
        rc = store_value(s, item, &members[i].cell);
        if (rc)
            goto out;
    }
    qsort(members, count, sizeof(*members), compare_members);
    rc = check_distinct(s, members, count);
    if (rc)
        goto out;
    for (size_t i = 0; i < count; i++) {
        sho_store(&words[2 * i], members[i].hash);
        sho_store(&words[2 * i + 1], members[i].cell);
    }
    *ret_cell = SHO_CELL(SHO_TAG_BOX, off);
out:
    free(members);
    return rc;
}

static int store_value(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    *ret_cell = sho_cell_in_place(value);
    if (*ret_cell != SHO_CELL_EMPTY)
        return 0;
    switch (value->type) {
    case SHOBJ_INT:
    case SHOBJ_BIGINT:
        return store_int(s, value, ret_cell);
    case SHOBJ_FLOAT:
        return store_bytes(s, SHM_BOX_FLOAT, 0, &value->f, sizeof(value->f), sizeof(value->f),
                           ret_cell);
    case SHOBJ_COMPLEX:
        return store_bytes(s, SHM_BOX_COMPLEX, 0, value->c, sizeof(value->c), sizeof(value->c),
                           ret_cell);
    case SHOBJ_STR:
        return store_str(s, value, ret_cell);
    case SHOBJ_BYTES:
        return store_bytes(s, SHM_BOX_BYTES, 0, value->data, value->count, value->count, ret_cell);
    case SHOBJ_TUPLE:
        return store_tuple(s, value, ret_cell);
    case SHOBJ_FROZENSET:
        return store_frozenset(s, value, ret_cell);
    default:
        SHO_ASSERT(value->type == SHOBJ_OBJECT);
        *ret_cell = SHO_CELL(SHO_TAG_OBJECT, SHM_OID_OFF(value->oid));
        sho_barrier_object(s, SHM_OID_OFF(value->oid));
        return 0;
    }
}

int sho_cell_encode_other(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    uint64_t cell = SHO_CELL_EMPTY;
    if (value->type == SHO_VALUE_CELL && sho_op_is_deferred(s)) {
        *ret_cell = (uint64_t)value->i;
        return 0;
    }
    int rc = sho_value_check(s, value);
    if (rc == 0)
        rc = store_value(s, value, &cell);
    if (rc == 0)
        *ret_cell = cell;
    return rc;
}

static int store_body(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    return sho_cell_encode(s, value, ret_cell);
}

int sho_cell_store(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    int rc;
    uint64_t cell = SHO_CELL_EMPTY;
    SHO_OP(s, rc, store_body(s, value, &cell));
    if (rc == 0 && sho_cell_is_object(cell))
        rc = sho_log_hold(s, sho_cell_off(cell)); /* until the change is made nothing else refers to it */
    if (rc == 0)
        *ret_cell = cell;
    return rc;
}
