/*
 * number.h: numbers brought to one form, so that equal ones of different types are seen to be
 * equal.
 *
 * SMALL is an int that a cell holds in place, BIG any other int, REAL a double that is no int,
 * COMPLEX what has an imaginary part. True is 1; 2.0**70 is a BIG; -0.0 is 0; complex(x, 0.0) is x.
 * Conversions are exact, never by rounding. A NaN equals a NaN of the same bits, so that a key made
 * of it can be found again.
 */
#ifndef SHO_NUMBER_H
#define SHO_NUMBER_H

#include "base/base.h"

enum sho_number_form { SHO_NUMBER_SMALL, SHO_NUMBER_BIG, SHO_NUMBER_REAL, SHO_NUMBER_COMPLEX };

/* Of the largest double, and a word written at its end. */
#define SHO_NUMBER_ROOM_BYTES 136

/* May point into itself (bytes to room): never copied. */
typedef struct sho_number {
    enum sho_number_form form;
    bool negative; /* of a BIG */
    int64_t small;
    double parts[2];      /* of a REAL the first; zeros are positive */
    const uint8_t *bytes; /* magnitude of a BIG, little-endian, the last byte not 0: in `room` or in
                             the value */
    size_t count;
    uint8_t room[SHO_NUMBER_ROOM_BYTES];
} sho_number;

#define SHO_SMALL_MAX ((int64_t)0x00007fffffffffff)
#define SHO_SMALL_MIN (-SHO_SMALL_MAX - 1)

SHO_INLINE bool sho_int_is_small(int64_t i)
{
    return (uint64_t)i - (uint64_t)SHO_SMALL_MIN <=
           (uint64_t)SHO_SMALL_MAX - (uint64_t)SHO_SMALL_MIN;
}

SHO_INLINE bool sho_is_number(const shobj_value *value)
{
    return value->type >= SHOBJ_BOOL && value->type <= SHOBJ_COMPLEX;
}

/* `value` is a number; its magnitude's bytes are referred to. */
void sho_number_init(sho_number *number, const shobj_value *value);
bool sho_number_equals(const sho_number *a, const sho_number *b);

/* Whether a magnitude of one word with a sign is in the range of int64_t, and its value. */
bool sho_magnitude_to_int(uint64_t magnitude, bool negative, int64_t *ret_int);

SHO_INLINE uint64_t sho_double_bits(double f)
{
    union {
        double f;
        uint64_t bits;
    } u = {.f = f};
    return u.bits;
}

SHO_INLINE double sho_double_of(uint64_t bits)
{
    union {
        uint64_t bits;
        double f;
    } u = {.bits = bits};
    return u.f;
}

#endif
