/*
 * key.c: the hash of a key, and whether a stored one equals it.
 *
 * The hash is that of the value, not of its form: numbers are brought to one form first (number.h).
 * It multiplies 64 by 64 bits and folds the halves of the product together: two multiplications for
 * what fits into a cell, one more per 16 bytes of text. A tuple's depends on the order of its
 * items, a frozenset's does not.
 *
 * Comparing goes along the private value and never reads more of the heap than that is long,
 * whatever the words say.
 */
#include "object/cell.h"

#include "base/error.h"
#include "object/words.h"

/* Fractions of square roots: of 2, 3, 5, 7, 11, 13. */
#define ROOT_2 0x6a09e667f3bcc908u
#define ROOT_3 0xbb67ae8584caa73bu
#define ROOT_5 0x3c6ef372fe94f82bu
#define ROOT_7 0xa54ff53a5f1d36f1u
#define ROOT_11 0x510e527fade682d1u
#define ROOT_13 0x9b05688c2b3e6c1fu

const uint64_t sho_order_seed[2] = {0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u}; /* of 17 and 19 */

/* ---- hash */

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_word(const uint64_t seed[2], uint64_t word)
{
    return fold(fold(word ^ seed[0], seed[1] ^ ROOT_2) ^ seed[1], ROOT_3);
}

/* Of `count` bytes, rounded up to 16 by those behind them. Two chains, so that one multiplication
 * need not wait for the other. */
static inline uint64_t hash_front(const uint64_t seed[2], uint64_t h, const uint8_t *p,
                                  size_t count)
{
    uint64_t g = h ^ ROOT_7;
    uint64_t x = seed[1] ^ ROOT_11;
    uint64_t y = seed[1] ^ ROOT_13;
    size_t at = 0;
    for (; at + 32 <= count; at += 32) {
        h = fold(sho_bytes_load(p + at) ^ x, sho_bytes_load(p + at + 8) ^ h);
        g = fold(sho_bytes_load(p + at + 16) ^ y, sho_bytes_load(p + at + 24) ^ g);
    }
    for (; at < count; at += 16)
        h = fold(sho_bytes_load(p + at) ^ x, sho_bytes_load(p + at + 8) ^ h);
    return h ^ g;
}

/* `domain` keeps str, bytes and ints of the same bytes apart. */
static uint64_t hash_bytes(const uint64_t seed[2], uint64_t domain, const uint8_t *p, size_t count)
{
    uint64_t a = seed[0] ^ domain;
    uint64_t b = seed[1] ^ ROOT_5;
    uint64_t before = 0; /* what the bytes before the last 16 give */
    if (count < 8) {
        a ^= sho_bytes_load_part(p, count);
    } else {
        if (count > 16)
            before = hash_front(seed, a, p, count - 16);
        a ^= sho_bytes_load(p + (count > 16 ? count - 16 : 0));
        b ^= sho_bytes_load(p + count - 8);
    }
    return fold(fold(a, b) ^ before ^ seed[1], count ^ ROOT_3);
}

static uint64_t hash_number(const uint64_t seed[2], const sho_number *number)
{
    uint64_t h;
    switch (number->form) {
    case SHO_NUMBER_SMALL:
        return hash_word(seed, SHO_CELL(SHO_TAG_INT, (uint64_t)number->small & SHO_CELL_PAYLOAD));
    case SHO_NUMBER_BIG:
        return hash_bytes(seed, SHM_BOX_INT + number->negative, number->bytes, number->count);
    case SHO_NUMBER_COMPLEX:
        h = hash_word(seed, sho_double_bits(number->parts[1]) + SHO_CELL_FLOAT_BIAS);
        return hash_word(seed, sho_double_bits(number->parts[0]) ^ h);
    case SHO_NUMBER_REAL:
        break;
    }
    return hash_word(seed, sho_double_bits(number->parts[0]) + SHO_CELL_FLOAT_BIAS);
}

static uint64_t hash_items(const uint64_t seed[2], const shobj_value *value)
{
    bool is_set = value->type == SHOBJ_FROZENSET;
    uint64_t h = 0;
    for (size_t i = 0; i < value->count; i++) {
        uint64_t item = sho_key_hash(seed, &value->items[i]);
        h = is_set ? h + fold(item, ROOT_7) : fold(h ^ item, seed[1] ^ ROOT_5) + ROOT_11;
    }
    return hash_bytes(seed, is_set ? SHM_BOX_FROZENSET : SHM_BOX_TUPLE, (const uint8_t *)&h,
                      sizeof(h)) ^
           hash_word(seed, value->count);
}

static uint64_t hash_in_place(const uint64_t seed[2], uint64_t cell, const shobj_value *value)
{
    unsigned tag = SHO_CELL_TAG(cell);
    if (tag >= SHO_TAG_FLOAT || (cell | 1) == SHO_CELL_TRUE) {
        sho_number number;
        sho_number_init(&number, value);
        return hash_number(seed, &number);
    }
    return hash_word(seed, cell);
}

/* Of a value that has no in-place form. */
static uint64_t hash_boxed(const uint64_t seed[2], const shobj_value *value)
{
    sho_number number;
    switch (value->type) {
    case SHOBJ_STR:
        return hash_bytes(seed, SHM_BOX_STR, value->data, value->count);
    case SHOBJ_BYTES:
        return hash_bytes(seed, SHM_BOX_BYTES, value->data, value->count);
    case SHOBJ_TUPLE:
    case SHOBJ_FROZENSET:
        return hash_items(seed, value);
    default:
        SHO_ASSERT(sho_is_number(value));
        sho_number_init(&number, value);
        return hash_number(seed, &number);
    }
}

static inline uint64_t finish(uint64_t h)
{
    return (uint32_t)h == 0 ? h | 1 : h;
}

uint64_t sho_key_hash(const uint64_t seed[2], const shobj_value *value)
{
    uint64_t cell = sho_cell_in_place(value);
    return finish(cell != SHO_CELL_EMPTY ? hash_in_place(seed, cell, value)
                                         : hash_boxed(seed, value));
}

int sho_key_init(const uint64_t hash_seed[2], const shobj_value *value, shobj_key *ret_key)
{
    uint64_t cell = sho_cell_in_place(value);
    uint64_t hash;
    if (SHO_LIKELY(cell != SHO_CELL_EMPTY)) {
        hash = hash_in_place(hash_seed, cell, value);
    } else {
        int rc = sho_value_check(NULL, value);
        if (rc)
            return rc;
        hash = hash_boxed(hash_seed, value);
    }
    *ret_key = (shobj_key){.value = *value, .hash = finish(hash), .cell = cell};
    return 0;
}

/* ---- equality */

static SHO_COLD int corrupt_number(uint64_t cell)
{
    return sho_error(SHOBJ_ECORRUPT, "value at 0x%llx: a number of a wrong size; run shobj check",
                     (unsigned long long)sho_cell_off(cell));
}

static int boxed_int_equals(const sho_number *number, uint64_t header, const sho_word *words,
                            bool *ret_equal)
{
    *ret_equal = number->form == SHO_NUMBER_BIG &&
                 number->negative == ((SHM_BOX_FLAGS(header) & SHM_BOX_NEGATIVE) != 0) &&
                 SHM_BOX_BYTES_OF(header) == (number->count + 7) / 8 * 8 &&
                 sho_words_equal(words, number->bytes, number->count);
    /* The rest of the top word counts. */
    size_t used = number->count % 8;
    if (*ret_equal && used != 0 && sho_load(&words[number->count / 8]) > sho_word_mask(used))
        *ret_equal = false;
    return 0;
}

/* Sets *ret_stored to the number in a box of kind FLOAT or COMPLEX. */
static int boxed_number(uint64_t cell, uint64_t header, const sho_word *words,
                        shobj_value *ret_stored)
{
    bool is_complex = SHM_HEADER_KIND(header) == SHM_BOX_COMPLEX;
    if (SHM_BOX_BYTES_OF(header) != (is_complex ? 16 : 8))
        return corrupt_number(cell);
    double real = sho_double_of(sho_load(&words[0]));
    if (is_complex)
        *ret_stored =
            (shobj_value){.type = SHOBJ_COMPLEX, .c = {real, sho_double_of(sho_load(&words[1]))}};
    else
        *ret_stored = (shobj_value){.type = SHOBJ_FLOAT, .f = real};
    return 0;
}

static int number_equals(sho_session *s, uint64_t cell, const shobj_value *value, bool *ret_equal)
{
    unsigned tag = SHO_CELL_TAG(cell);
    shobj_value stored = {.type = SHOBJ_ABSENT};
    sho_number mine;
    sho_number_init(&mine, value);
    if (tag == SHO_TAG_INT) {
        stored = (shobj_value){.type = SHOBJ_INT, .i = sho_cell_int(cell)};
    } else if (tag >= SHO_TAG_FLOAT) {
        stored = (shobj_value){.type = SHOBJ_FLOAT, .f = sho_cell_double(cell)};
    } else if ((cell | 1) == SHO_CELL_TRUE) {
        stored = (shobj_value){.type = SHOBJ_BOOL, .i = (int64_t)(cell & 1)};
    } else if (tag == SHO_TAG_BOX) {
        uint64_t header;
        const sho_word *words;
        int rc = sho_op_box(s, sho_cell_off(cell), &header, &words);
        if (rc)
            return rc;
        unsigned kind = SHM_HEADER_KIND(header);
        if (kind == SHM_BOX_INT)
            return boxed_int_equals(&mine, header, words, ret_equal);
        if (kind == SHM_BOX_FLOAT || kind == SHM_BOX_COMPLEX)
            rc = boxed_number(cell, header, words, &stored);
        if (rc)
            return rc;
    }
    *ret_equal = false;
    if (stored.type != SHOBJ_ABSENT) {
        sho_number theirs;
        sho_number_init(&theirs, &stored);
        *ret_equal = sho_number_equals(&mine, &theirs);
    }
    return 0;
}

static int tuple_equals(sho_session *s, const sho_word *words, const shobj_value *value,
                        bool *ret_equal)
{
    for (size_t i = 0; i < value->count; i++) {
        int rc = sho_cell_equals(s, sho_load(&words[i]), &value->items[i], ret_equal);
        if (rc || !*ret_equal)
            return rc;
    }
    *ret_equal = true;
    return 0;
}

/* Is the item one of the `count` stored ones? */
static int frozenset_has(sho_session *s, const sho_word *words, size_t count,
                         const shobj_value *item, bool *ret_has)
{
    uint64_t hash = sho_key_hash(sho_order_seed, item);
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sho_load(&words[2 * middle]) < hash)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_has = false;
    for (; low < count && !*ret_has && sho_load(&words[2 * low]) == hash; low++) {
        int rc = sho_cell_equals(s, sho_load(&words[2 * low + 1]), item, ret_has);
        if (rc)
            return rc;
    }
    return 0;
}

static int frozenset_equals(sho_session *s, const sho_word *words, const shobj_value *value,
                            bool *ret_equal)
{
    *ret_equal = true;
    for (size_t i = 0; i < value->count && *ret_equal; i++) {
        int rc = frozenset_has(s, words, value->count, &value->items[i], ret_equal);
        if (rc)
            return rc;
    }
    return 0;
}

/* The box that a value of this type has, and the payload bytes of `count` bytes or items. 0: none.
 */
static inline unsigned box_kind(const shobj_value *value, uint64_t *ret_bytes)
{
    *ret_bytes = value->count;
    switch (value->type) {
    case SHOBJ_STR:
        return SHM_BOX_STR;
    case SHOBJ_BYTES:
        return SHM_BOX_BYTES;
    case SHOBJ_TUPLE:
        *ret_bytes = 8 * (uint64_t)value->count;
        return SHM_BOX_TUPLE;
    case SHOBJ_FROZENSET:
        *ret_bytes = 16 * (uint64_t)value->count;
        return SHM_BOX_FROZENSET;
    default:
        return 0;
    }
}

int sho_cell_equals(sho_session *s, uint64_t cell, const shobj_value *value, bool *ret_equal)
{
    uint64_t bytes;
    unsigned kind = box_kind(value, &bytes);
    if (kind == 0 && sho_is_number(value))
        return number_equals(s, cell, value, ret_equal);
    if (kind == 0 || !sho_cell_is_box(cell)) {
        *ret_equal = cell != SHO_CELL_EMPTY && cell == sho_cell_in_place(value);
        return 0;
    }
    uint64_t header;
    const sho_word *words;
    int rc = sho_op_box(s, sho_cell_off(cell), &header, &words);
    if (rc)
        return rc;
    if (SHM_HEADER_KIND(header) != kind || SHM_BOX_BYTES_OF(header) != bytes) {
        *ret_equal = false;
        return 0;
    }
    if (kind == SHM_BOX_TUPLE)
        return tuple_equals(s, words, value, ret_equal);
    if (kind == SHM_BOX_FROZENSET)
        return frozenset_equals(s, words, value, ret_equal);
    *ret_equal = sho_words_equal(words, value->data, value->count);
    return 0;
}
