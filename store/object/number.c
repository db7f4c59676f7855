/*
 * number.c: the one form of a number, whatever type it has.
 *
 * A double from 2^47 up is taken apart into its 53 bits and their exponent: those of them that are
 * integers become bytes of a magnitude, as a big int has it, and are compared as such.
 */
#include "object/number.h"

#include <string.h>

#include "object/words.h"

#define FRACTION_BITS 52
#define EXPONENT_MASK 0x7ffu

bool sho_magnitude_to_int(uint64_t magnitude, bool negative, int64_t *ret_int)
{
    if (magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *ret_int = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

static void init_magnitude(sho_number *number, const uint8_t *bytes, size_t count, bool negative)
{
    while (count > 0 && bytes[count - 1] == 0)
        count--;
    int64_t small;
    if (count < 8 && sho_magnitude_to_int(sho_bytes_load_part(bytes, count), negative, &small) &&
        sho_int_is_small(small)) {
        number->form = SHO_NUMBER_SMALL;
        number->small = small;
        return;
    }
    number->form = SHO_NUMBER_BIG;
    number->negative = negative;
    number->bytes = bytes;
    number->count = count;
}

static void init_int(sho_number *number, int64_t i)
{
    if (SHO_LIKELY(sho_int_is_small(i))) {
        number->form = SHO_NUMBER_SMALL;
        number->small = i;
        return;
    }
    uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    memcpy(number->room, &magnitude, sizeof(magnitude));
    init_magnitude(number, number->room, sizeof(magnitude), i < 0);
}

static void init_real(sho_number *number, double f)
{
    number->form = SHO_NUMBER_REAL;
    number->parts[0] = f;
    if (f >= (double)SHO_SMALL_MIN && f < (double)SHO_SMALL_MAX + 1) {
        int64_t i = (int64_t)f;
        if ((double)i == f) {
            number->form = SHO_NUMBER_SMALL;
            number->small = i;
        }
        return;
    }
    uint64_t bits = sho_double_bits(f);
    unsigned exponent = (unsigned)(bits >> FRACTION_BITS) & EXPONENT_MASK;
    if (exponent == EXPONENT_MASK)
        return; /* infinite, or no number */
    /* At least 2^47: a normal number, |f| = fraction * 2^shift with shift >= -5. */
    uint64_t fraction = (bits & ((1ULL << FRACTION_BITS) - 1)) | 1ULL << FRACTION_BITS;
    int shift = (int)exponent - 1023 - FRACTION_BITS;
    if (shift < 0) {
        if (fraction & ((1ULL << -shift) - 1))
            return;
        fraction >>= -shift;
        shift = 0;
    }
    size_t first = (size_t)shift / 8;
    fraction <<= shift % 8;
    memset(number->room, 0, first);
    memcpy(number->room + first, &fraction, sizeof(fraction));
    init_magnitude(number, number->room, first + sizeof(fraction), f < 0);
}

void sho_number_init(sho_number *number, const shobj_value *value)
{
    switch (value->type) {
    case SHOBJ_BOOL:
        number->form = SHO_NUMBER_SMALL;
        number->small = value->i != 0;
        break;
    case SHOBJ_INT:
        init_int(number, value->i);
        break;
    case SHOBJ_BIGINT:
        init_magnitude(number, value->data, value->count, value->negative);
        break;
    case SHOBJ_COMPLEX:
        if (value->c[1] != 0) { /* a NaN too */
            number->form = SHO_NUMBER_COMPLEX;
            number->parts[0] = value->c[0] == 0 ? 0 : value->c[0];
            number->parts[1] = value->c[1];
            break;
        }
        init_real(number, value->c[0]);
        break;
    default:
        SHO_ASSERT(value->type == SHOBJ_FLOAT);
        init_real(number, value->f);
        break;
    }
}

bool sho_number_equals(const sho_number *a, const sho_number *b)
{
    if (a->form != b->form)
        return false;
    switch (a->form) {
    case SHO_NUMBER_SMALL:
        return a->small == b->small;
    case SHO_NUMBER_BIG:
        return a->negative == b->negative && a->count == b->count &&
               memcmp(a->bytes, b->bytes, a->count) == 0;
    case SHO_NUMBER_COMPLEX:
        if (sho_double_bits(a->parts[1]) != sho_double_bits(b->parts[1]))
            return false;
        break;
    case SHO_NUMBER_REAL:
        break;
    }
    return sho_double_bits(a->parts[0]) == sho_double_bits(b->parts[0]);
}
