/*
 * equal.c: equality of immutable values as Python has it, and a hash that agrees with it.
 *
 * Numbers are equal across their types when they are exactly the same number: 1, 1.0, True, 1+0j. The hash of any number
 * is that of its nearest double: two equal numbers have the same one.
 */
#include "api/text.h"

#include <math.h>

/* A real number as the value that holds it, reduced: BOOL is INT, COMPLEX without an imaginary part is FLOAT. */
static shobj_value reduced(const shobj_value *value)
{
    shobj_value v = *value;
    if (v.type == SHOBJ_BOOL) {
        v.type = SHOBJ_INT;
    } else if (v.type == SHOBJ_COMPLEX && v.c[1] == 0) {
        double real = v.c[0];
        v.type = SHOBJ_FLOAT;
        v.f = real;
    }
    return v;
}

/* Bytes of a magnitude without leading zeros. */
static size_t magnitude_bytes(const shobj_value *v)
{
    const uint8_t *bytes = v->data;
    size_t count = v->count;
    while (count > 0 && bytes[count - 1] == 0)
        count--;
    return count;
}

static bool bigint_equals(const shobj_value *a, const shobj_value *b)
{
    size_t count = magnitude_bytes(a);
    return a->negative == b->negative && count == magnitude_bytes(b) && memcmp(a->data, b->data, count) == 0;
}

static bool int_equals_float(int64_t i, double f)
{
    return f >= -0x1p63 && f < 0x1p63 && (double)i == f && (int64_t)f == i;
}

/* A double whose magnitude is an integer has 53 bits of it, `shift` bits up. */
static bool bigint_equals_float(const shobj_value *big, double f)
{
    if (!isfinite(f) || (f < 0) != big->negative)
        return false;
    int exponent;
    uint64_t bits = (uint64_t)ldexp(frexp(fabs(f), &exponent), 53);
    int shift = exponent - 53;
    if (shift < 0)
        return false; /* below 2^53: no BIGINT */
    size_t count = magnitude_bytes(big);
    const uint8_t *bytes = big->data;
    size_t byte_max = ((size_t)exponent + 7) / 8;
    if (count != byte_max)
        return false;
    for (size_t i = 0; i < count; i++) {
        long low = 8 * (long)i - shift; /* bit of `bits` that is bit 0 of this byte */
        uint64_t expected = low >= 64 || low <= -8 ? 0 : low >= 0 ? bits >> low : bits << -low;
        if (bytes[i] != (uint8_t)expected)
            return false;
    }
    return true;
}

static bool number_equals(const shobj_value *x, const shobj_value *y)
{
    /* The order of the types in the enumeration: INT, BIGINT, FLOAT, COMPLEX. */
    const shobj_value *a = x->type <= y->type ? x : y;
    const shobj_value *b = x->type <= y->type ? y : x;
    switch (b->type) {
    case SHOBJ_INT: return a->i == b->i;
    case SHOBJ_BIGINT: return a->type == SHOBJ_BIGINT && bigint_equals(a, b);
    case SHOBJ_FLOAT:
        return a->type == SHOBJ_INT      ? int_equals_float(a->i, b->f)
               : a->type == SHOBJ_BIGINT ? bigint_equals_float(a, b->f)
                                         : a->f == b->f;
    default: return a->type == SHOBJ_COMPLEX && a->c[0] == b->c[0] && a->c[1] == b->c[1];
    }
}

static bool is_number(const shobj_value *v)
{
    return v->type >= SHOBJ_INT && v->type <= SHOBJ_COMPLEX;
}

static bool set_equals(const shobj_value *a, const shobj_value *b)
{
    for (size_t i = 0; i < a->count; i++) {
        size_t j = 0;
        while (j < b->count && !sho_value_equals(&a->items[i], &b->items[j]))
            j++;
        if (j == b->count)
            return false;
    }
    return true;
}

bool sho_value_equals(const shobj_value *x, const shobj_value *y)
{
    shobj_value a = reduced(x);
    shobj_value b = reduced(y);
    if (is_number(&a) && is_number(&b))
        return number_equals(&a, &b);
    if (a.type != b.type)
        return false;
    switch (a.type) {
    case SHOBJ_STR:
    case SHOBJ_BYTES: return a.count == b.count && (a.count == 0 || memcmp(a.data, b.data, a.count) == 0);
    case SHOBJ_TUPLE:
        for (size_t i = 0; a.count == b.count && i < a.count; i++) {
            if (!sho_value_equals(&a.items[i], &b.items[i]))
                return false;
        }
        return a.count == b.count;
    case SHOBJ_FROZENSET: return a.count == b.count && set_equals(&a, &b);
    case SHOBJ_OBJECT: return a.oid == b.oid;
    default: return true; /* absent, None */
    }
}

/* ---- hash */

static uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t hash_double(double f)
{
    uint64_t bits;
    f += 0.0; /* -0.0 and 0.0 are equal */
    memcpy(&bits, &f, sizeof(bits));
    return mix(bits);
}

static double bigint_to_double(const shobj_value *v)
{
    const uint8_t *bytes = v->data;
    double f = 0;
    for (size_t i = v->count; i-- > 0;)
        f = f * 256 + bytes[i];
    return v->negative ? -f : f;
}

uint64_t sho_value_hash(const shobj_value *value)
{
    shobj_value v = reduced(value);
    uint64_t h = v.type;
    switch (v.type) {
    case SHOBJ_INT: return hash_double((double)v.i);
    case SHOBJ_BIGINT: return hash_double(bigint_to_double(&v));
    case SHOBJ_FLOAT: return hash_double(v.f);
    case SHOBJ_COMPLEX: return mix(hash_double(v.c[0]) + 3 * hash_double(v.c[1]));
    case SHOBJ_STR:
    case SHOBJ_BYTES:
        for (size_t i = 0; i < v.count; i++)
            h = (h ^ ((const uint8_t *)v.data)[i]) * 0x100000001b3u;
        return mix(h);
    case SHOBJ_TUPLE:
        for (size_t i = 0; i < v.count; i++)
            h = mix(h + sho_value_hash(&v.items[i]));
        return h;
    case SHOBJ_FROZENSET:
        for (size_t i = 0; i < v.count; i++)
            h += sho_value_hash(&v.items[i]);
        return mix(h);
    case SHOBJ_OBJECT: return mix(v.oid);
    default: return mix(h);
    }
}
