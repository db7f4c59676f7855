/*
 * values.h: makes values for the unit tests, and compares them to the bit.
 */
#ifndef VALUES_H
#define VALUES_H

#include "check.h"

/* Memory that lasts as long as the program, in a list so that no leak is seen in it. */
__attribute__((unused)) static void *keep(size_t bytes)
{
    static struct kept {
        struct kept *next;
        max_align_t memory[];
    } *first;
    struct kept *kept = malloc(sizeof(*kept) + bytes);
    CHECK(kept != NULL);
    kept->next = first;
    first = kept;
    return kept->memory;
}

__attribute__((unused)) static double double_of(uint64_t bits)
{
    double f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

__attribute__((unused)) static uint64_t bits_of(double f)
{
    uint64_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

__attribute__((unused)) static shobj_value none(void)
{
    return (shobj_value){.type = SHOBJ_NONE};
}

__attribute__((unused)) static shobj_value boolean(bool b)
{
    return (shobj_value){.type = SHOBJ_BOOL, .i = b};
}

__attribute__((unused)) static shobj_value integer(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

__attribute__((unused)) static shobj_value real(double f)
{
    return (shobj_value){.type = SHOBJ_FLOAT, .f = f};
}

__attribute__((unused)) static shobj_value complex_of(double re, double im)
{
    return (shobj_value){.type = SHOBJ_COMPLEX, .c = {re, im}};
}

__attribute__((unused)) static shobj_value bytes_of(enum shobj_type type, const void *data,
                                                    size_t count)
{
    void *copy = keep(count);
    if (count > 0)
        memcpy(copy, data, count);
    return (shobj_value){.type = (uint8_t)type, .data = copy, .count = count};
}

__attribute__((unused)) static shobj_value str(const char *text)
{
    return bytes_of(SHOBJ_STR, text, strlen(text));
}

__attribute__((unused)) static shobj_value items_of(enum shobj_type type, const shobj_value *items,
                                                    size_t count)
{
    shobj_value *copy = keep(count * sizeof(*items));
    if (count > 0)
        memcpy(copy, items, count * sizeof(*items));
    return (shobj_value){.type = (uint8_t)type, .items = copy, .count = count};
}

/* mantissa * 2^shift with a sign, as a BIGINT with `zeros` needless zero bytes on top. */
__attribute__((unused)) static shobj_value bigint(uint64_t mantissa, unsigned shift, bool negative,
                                                  unsigned zeros)
{
    size_t count = shift / 8 + 9 + zeros;
    uint8_t *bytes = keep(count);
    memset(bytes, 0, count);
    for (unsigned bit = 0; bit < 64; bit++) {
        if (mantissa >> bit & 1)
            bytes[(shift + bit) / 8] |= (uint8_t)(1u << (shift + bit) % 8);
    }
    count -= zeros;
    while (count > 0 && bytes[count - 1] == 0)
        count--;
    count += zeros;
    return (shobj_value){.type = SHOBJ_BIGINT, .negative = negative, .data = bytes, .count = count};
}

static bool same(const shobj_value *a, const shobj_value *b);

/* Every item of one is in the other, which has as many: the order of a frozenset's items is the
 * store's own. */
static bool same_members(const shobj_value *a, const shobj_value *b)
{
    for (size_t i = 0; i < a->count; i++) {
        size_t j = 0;
        while (j < b->count && !same(&a->items[i], &b->items[j]))
            j++;
        if (j == b->count)
            return false;
    }
    return true;
}

/* Two values in the form in which they are read back: same type, same bits. */
__attribute__((unused)) static bool same(const shobj_value *a, const shobj_value *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case SHOBJ_BOOL:
    case SHOBJ_INT:
        return a->i == b->i;
    case SHOBJ_FLOAT:
        return bits_of(a->f) == bits_of(b->f);
    case SHOBJ_COMPLEX:
        return bits_of(a->c[0]) == bits_of(b->c[0]) && bits_of(a->c[1]) == bits_of(b->c[1]);
    case SHOBJ_BIGINT:
    case SHOBJ_STR:
    case SHOBJ_BYTES:
        return a->negative == b->negative && a->count == b->count &&
               (a->count == 0 || memcmp(a->data, b->data, a->count) == 0);
    case SHOBJ_TUPLE:
        for (size_t i = 0; i < a->count && a->count == b->count; i++) {
            if (!same(&a->items[i], &b->items[i]))
                return false;
        }
        return a->count == b->count;
    case SHOBJ_FROZENSET:
        return a->count == b->count && same_members(a, b);
    case SHOBJ_OBJECT:
        return a->oid == b->oid;
    default:
        return true;
    }
}

/* A code point that a str may hold: ASCII twice as often as anything else, surrogates too. */
__attribute__((unused)) static size_t put_rune(uint64_t *random, uint8_t *to)
{
    static const uint32_t bounds[] = {0x80, 0x80, 0x800, 0x10000, 0x110000};
    uint32_t rune = (uint32_t)(check_random(random) % bounds[check_random(random) % 5]);
    if (rune < 0x80) {
        to[0] = (uint8_t)rune;
        return 1;
    }
    size_t count = rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    static const uint8_t first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    to[0] = (uint8_t)(first[count] | rune >> 6 * (count - 1));
    for (size_t i = 1; i < count; i++)
        to[i] = (uint8_t)(0x80 | (rune >> 6 * (count - 1 - i) & 0x3f));
    return count;
}

__attribute__((unused)) static shobj_value random_str(uint64_t *random)
{
    uint8_t text[400];
    size_t rune_count = check_random(random) % (check_random(random) % 4 == 0 ? 90 : 8);
    bool ascii = check_random(random) % 2;
    size_t count = 0;
    for (size_t i = 0; i < rune_count; i++) {
        if (ascii)
            text[count++] = (uint8_t)(check_random(random) % 128);
        else
            count += put_rune(random, text + count);
    }
    return bytes_of(SHOBJ_STR, text, count);
}

__attribute__((unused)) static shobj_value random_value(uint64_t *random, unsigned depth);

/* The items differ in a way that no equality overlooks: each is in a tuple with its index. */
__attribute__((unused)) static shobj_value random_set(uint64_t *random, unsigned depth)
{
    shobj_value items[12];
    size_t count = check_random(random) % 12;
    for (size_t i = 0; i < count; i++) {
        shobj_value pair[2] = {integer((int64_t)i), random_value(random, depth - 1)};
        items[i] = items_of(SHOBJ_TUPLE, pair, 2);
    }
    return items_of(SHOBJ_FROZENSET, items, count);
}

static shobj_value random_value(uint64_t *random, unsigned depth)
{
    uint64_t r = check_random(random);
    switch (check_random(random) % (depth > 0 ? 10 : 8)) {
    case 0:
        return r % 3 == 0 ? none() : boolean(r & 1);
    case 1:
        return integer((int64_t)(r >> check_random(random) % 64));
    case 2:
        return integer(-(int64_t)(r >> 1 >> check_random(random) % 63));
    case 3:
        return real(r % 2 ? double_of(check_random(random)) : (double)(int64_t)(r >> r % 64));
    case 4:
        return complex_of(double_of(check_random(random)), (double)(int64_t)r);
    case 5:
        return bigint(r | 1ULL << 63, (unsigned)(check_random(random) % 300), r & 1, 0);
    case 6:
        return random_str(random);
    case 7:
        return bytes_of(SHOBJ_BYTES, "\0\xff\x80 any bytes, zeros at the end\0\0",
                        check_random(random) % 33);
    case 8: {
        shobj_value items[8];
        size_t count = r % 8;
        for (size_t i = 0; i < count; i++)
            items[i] = random_value(random, depth - 1);
        return items_of(SHOBJ_TUPLE, items, count);
    }
    default:
        return random_set(random, depth);
    }
}

#endif
