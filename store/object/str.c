/*
 * str.c: checks text.
 *
 * ASCII is skipped a word or four at a time, since it is most of all text; everything else goes by
 * its first byte.
 */
#include "object/str.h"

#include "object/words.h"

/* Offset of the first word (or byte, near the end) with a byte from 128 up. */
static size_t skip_ascii(const uint8_t *p, size_t at, size_t count)
{
    for (; count - at >= 32; at += 32) {
        uint64_t any = (sho_bytes_load(p + at) | sho_bytes_load(p + at + 8)) |
                       (sho_bytes_load(p + at + 16) | sho_bytes_load(p + at + 24));
        if (any & SHO_HIGH_BITS)
            break;
    }
    for (; count - at >= 8; at += 8) {
        if (sho_bytes_load(p + at) & SHO_HIGH_BITS)
            break;
    }
    while (at < count && p[at] < 0x80)
        at++;
    return at;
}

static bool continues(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Bytes of the code point from 128 up that starts at p, of which `count` are there; 0 if it is
 * malformed. */
static size_t sequence_bytes(const uint8_t *p, size_t count)
{
    uint8_t first = p[0];
    if (first < 0xe0)
        return first >= 0xc2 && count >= 2 && continues(p[1]) ? 2 : 0;
    if (first < 0xf0) {
        bool good =
            count >= 3 && continues(p[1]) && continues(p[2]) && (first != 0xe0 || p[1] >= 0xa0);
        return good ? 3 : 0;
    }
    bool good = first <= 0xf4 && count >= 4 && continues(p[1]) && continues(p[2]) &&
                continues(p[3]) && (first != 0xf0 || p[1] >= 0x90) &&
                (first != 0xf4 || p[1] < 0x90);
    return good ? 4 : 0;
}

size_t sho_str_check(const void *text, size_t count, bool *ret_ascii)
{
    const uint8_t *p = text;
    size_t at = skip_ascii(p, 0, count);
    *ret_ascii = at == count;
    while (at < count) {
        if (p[at] < 0x80) {
            at = skip_ascii(p, at, count);
            continue;
        }
        size_t step = sequence_bytes(p + at, count - at);
        if (step == 0)
            return at;
        at += step;
    }
    return count;
}
