/*
 * cell.h: a value in one 8-byte word.
 *
 *   tag (top 16 bits)   payload (48 bits)
 *   0                   0: empty (no value); 2: None; 4: False; 5: True
 *   1                   int, two's complement
 *   2                   str of at most 5 bytes: UTF-8 from bit 0 up, the length in bits 40..47
 *   3                   bytes of at most 5
 *   4                   reference to an object: offset of its first node
 *   5                   reference to a box, which this cell owns
 *   7..0xffff           a double: its bits + (7 << 48)
 *
 * A double whose bits would leave that range (NaNs with the sign and a payload) goes into a box. A
 * value has one form only: what fits in place is never boxed, so that values of different cells
 * without a box behind them differ, but for numbers that are equal across types (1, 1.0, True).
 * README.md describes the boxes.
 */
#ifndef SHO_CELL_H
#define SHO_CELL_H

#include "object/number.h"
#include "txn/op.h"

#define SHO_CELL_SHIFT 48
#define SHO_CELL_PAYLOAD 0x0000ffffffffffffULL
enum {
    SHO_TAG_CONST = 0,
    SHO_TAG_INT = 1,
    SHO_TAG_STR = 2,
    SHO_TAG_BYTES = 3,
    SHO_TAG_OBJECT = 4,
    SHO_TAG_BOX = 5,
    SHO_TAG_FLOAT = 7 /* and all above */
};
_Static_assert(SHO_TAG_OBJECT == 4 && SHO_TAG_BOX == 5, "SHO_WORD_MAY_REFER()");
#define SHO_CELL(tag, payload) ((uint64_t)(tag) << SHO_CELL_SHIFT | (uint64_t)(payload))
#define SHO_CELL_TAG(cell) ((unsigned)((cell) >> SHO_CELL_SHIFT))
#define SHO_CELL_EMPTY 0ULL
#define SHO_CELL_NONE 2ULL
#define SHO_CELL_FALSE 4ULL
#define SHO_CELL_TRUE 5ULL
#define SHO_CELL_FLOAT_BIAS SHO_CELL(SHO_TAG_FLOAT, 0)
#define SHO_SHORT_BYTES_MAX 5u

/* Tuples and frozensets inside one another, at most. */
#define SHO_VALUE_DEPTH_MAX 1000u

SHO_INLINE bool sho_cell_is_object(uint64_t cell)
{
    return SHO_CELL_TAG(cell) == SHO_TAG_OBJECT;
}
SHO_INLINE bool sho_cell_is_box(uint64_t cell)
{
    return SHO_CELL_TAG(cell) == SHO_TAG_BOX;
}
SHO_INLINE uint64_t sho_cell_off(uint64_t cell)
{
    return cell & SHO_CELL_PAYLOAD;
}
SHO_INLINE int64_t sho_cell_int(uint64_t cell)
{
    return (int64_t)(cell << (64 - SHO_CELL_SHIFT)) >> (64 - SHO_CELL_SHIFT);
}
SHO_INLINE double sho_cell_double(uint64_t cell)
{
    return sho_double_of(cell - SHO_CELL_FLOAT_BIAS);
}
SHO_INLINE bool sho_double_is_in_place(double f)
{
    return sho_double_bits(f) <= UINT64_MAX - SHO_CELL_FLOAT_BIAS;
}

/* The in-place form of a value, or SHO_CELL_EMPTY if it needs a box (or is an object, or is absent,
 * or is a str that is not well-formed). */
uint64_t sho_cell_in_place_other(const shobj_value *value);
SHO_INLINE uint64_t sho_cell_in_place(const shobj_value *value)
{
    if (value->type == SHOBJ_INT && SHO_LIKELY(sho_int_is_small(value->i)))
        return SHO_CELL(SHO_TAG_INT, (uint64_t)value->i & SHO_CELL_PAYLOAD);
    if (value->type == SHOBJ_FLOAT && SHO_LIKELY(sho_double_is_in_place(value->f)))
        return sho_double_bits(value->f) + SHO_CELL_FLOAT_BIAS;
    return sho_cell_in_place_other(value);
}

/* A value that is in the heap already: .i is its cell, of a box that this transaction has taken. The library's own, for
 * changes that are made later than they were asked for; refused from outside. */
#define SHO_VALUE_CELL 0xffu

/* Gather half: the cell of a value; takes boxes as needed (nested ones for tuples). Objects: they
 * are read in this operation, so that its check covers that they are alive. 0, SHO_RESTART,
 * SHOBJ_EINVAL, SHOBJ_ETYPE (an object in a frozenset), SHOBJ_EFULL, SHOBJ_ENOMEM, SHOBJ_EREADONLY,
 * SHOBJ_ESTALE. A value that is refused has taken no box, but for a frozenset with two equal items.
 */
int sho_cell_encode_other(sho_session *s, const shobj_value *value, uint64_t *ret_cell);

/* An operation of its own that stores a value for a change which is made later: the cell's box is the transaction's. */
int sho_cell_store(sho_session *s, const shobj_value *value, uint64_t *ret_cell);

SHO_INLINE int sho_cell_encode(sho_session *s, const shobj_value *value, uint64_t *ret_cell)
{
    uint64_t cell = sho_cell_in_place(value);
    if (SHO_UNLIKELY(cell == SHO_CELL_EMPTY))
        return sho_cell_encode_other(s, value, ret_cell);
    *ret_cell = cell;
    return 0;
}

/* Gather half: reads a cell that came from a view; strings and items are copied to the session's
 * value memory. An object's id and kind come from its first node's header (not part of what the
 * operation's check covers: an object that a cell refers to is alive as long as the cell is
 * unchanged). SHOBJ_ECORRUPT on nonsense; SHO_RESTART, SHOBJ_ECONFLICT, SHOBJ_ENOMEM.
 * SHO_CELL_EMPTY gives SHOBJ_ABSENT. */
int sho_cell_decode_other(sho_session *s, uint64_t cell, shobj_value *ret_value);
SHO_INLINE int sho_cell_decode(sho_session *s, uint64_t cell, shobj_value *ret_value)
{
    unsigned tag = SHO_CELL_TAG(cell);
    if (tag == SHO_TAG_INT)
        *ret_value = (shobj_value){.type = SHOBJ_INT, .i = sho_cell_int(cell)};
    else if (tag >= SHO_TAG_FLOAT)
        *ret_value = (shobj_value){.type = SHOBJ_FLOAT, .f = sho_cell_double(cell)};
    else if (cell == SHO_CELL_NONE)
        *ret_value = (shobj_value){.type = SHOBJ_NONE};
    else if ((cell | 1) == SHO_CELL_TRUE)
        *ret_value = (shobj_value){.type = SHOBJ_BOOL, .i = (int64_t)(cell & 1)};
    else
        return sho_cell_decode_other(s, cell, ret_value);
    return 0;
}

/* Gather half: calls visit() with the cell if it is a reference (to an object or a box), and with
 * every reference inside its box, a box before what is in it. Stops at a result other than 0 and
 * returns it. SHOBJ_ECORRUPT, SHO_RESTART, SHOBJ_ECONFLICT by itself. */
int sho_cell_walk(sho_session *s, uint64_t cell,
                  int (*visit)(sho_session *s, uint64_t cell, void *arg), void *arg);

/* Gather half: the cell is going to be replaced: notes its box and all boxes nested in it to be
 * freed at commit. Besides what sho_cell_walk() returns: SHOBJ_EFULL, SHOBJ_ENOMEM. */
int sho_cell_release_box(sho_session *s, uint64_t cell);
SHO_INLINE int sho_cell_release(sho_session *s, uint64_t cell)
{
    return sho_cell_is_box(cell) ? sho_cell_release_box(s, cell) : 0;
}

/* ---- values */

/* Is a value fit for the heap: well-formed, of a known type, not too deep or too long? With `s`
 * NULL also fit to be a key: no object anywhere (SHOBJ_ETYPE); with a session, objects are read in
 * the current operation. 0, SHOBJ_EINVAL, SHOBJ_ETYPE, and what sho_op_read_object() returns. */
int sho_value_check(sho_session *s, const shobj_value *value);

/* ---- keys */

/* `key->cell` is its in-place form or SHO_CELL_EMPTY. The hash of equal keys is equal; its low 32
 * bits are never all 0 (0 is used for empty entries). 0, SHOBJ_EINVAL, SHOBJ_ETYPE. No shared
 * access. */
int sho_key_init(const uint64_t hash_seed[2], const shobj_value *value, shobj_key *ret_key);

/* The hash of a value that passed sho_value_check(NULL, value). */
uint64_t sho_key_hash(const uint64_t seed[2], const shobj_value *value);

/* The order of the items in a frozenset's box is that of their hashes under this seed, the same in
 * every heap. */
extern const uint64_t sho_order_seed[2];

/* Gather half: sets *ret_equal to whether the stored cell holds a value that equals a private one
 * (checked as a key). 0 or SHOBJ_ECORRUPT. Reads no more of the heap than there are bytes and items
 * in the private value. */
int sho_cell_equals(sho_session *s, uint64_t cell, const shobj_value *value, bool *ret_equal);

/* Gather half: whether the stored key cell equals the key. 0 or SHOBJ_ECORRUPT. An empty cell
 * equals none. */
SHO_INLINE int sho_key_equals(sho_session *s, uint64_t cell, const shobj_key *key, bool *ret_equal)
{
    if (cell == key->cell && cell != SHO_CELL_EMPTY) {
        *ret_equal = true;
        return 0;
    }
    /* Text in place equals nothing but its own cell. */
    if ((SHO_CELL_TAG(key->cell) | 1) == SHO_TAG_BYTES) {
        *ret_equal = false;
        return 0;
    }
    return sho_cell_equals(s, cell, &key->value, ret_equal);
}

#endif
