/*
 * words.h: bytes of this process and words of the heap.
 *
 * Shared memory is read and written one relaxed 8-byte word at a time, never by memcpy(): another
 * process may be storing to the same words, and the compiler must neither tear, repeat nor invent
 * an access. Byte i of a payload is bits 8 * (i % 8) and up of word i / 8; bytes behind the end in
 * the last word are stored as 0 and ignored when read.
 */
#ifndef SHO_WORDS_H
#define SHO_WORDS_H

#include <string.h>

#include "base/base.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "words and bytes are copied without swapping");

#define SHO_HIGH_BITS 0x8080808080808080ULL

SHO_INLINE uint64_t sho_bytes_load(const void *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    return word;
}

/* The word of `count` bytes (0..7), the rest 0. Reads these bytes only. */
SHO_INLINE uint64_t sho_bytes_load_part(const void *bytes, size_t count)
{
    const uint8_t *p = bytes;
    if (count >= 4) {
        uint32_t low, high;
        memcpy(&low, p, sizeof(low));
        memcpy(&high, p + count - 4, sizeof(high));
        return low | (uint64_t)high << (8 * (count - 4));
    }
    if (count == 0)
        return 0;
    return p[0] | (uint64_t)p[count / 2] << (8 * (count / 2)) |
           (uint64_t)p[count - 1] << (8 * (count - 1));
}

/* The bytes of a last word with `count` (1..7) bytes in use. */
SHO_INLINE uint64_t sho_word_mask(size_t count)
{
    return (1ULL << (8 * count)) - 1;
}

SHO_INLINE void sho_words_put(sho_word *words, const void *bytes, size_t count)
{
    const uint8_t *from = bytes;
    size_t whole = count / 8;
    size_t i = 0;
    for (; i + 4 <= whole; i += 4) {
        uint64_t a = sho_bytes_load(from + 8 * i);
        uint64_t b = sho_bytes_load(from + 8 * i + 8);
        uint64_t c = sho_bytes_load(from + 8 * i + 16);
        uint64_t d = sho_bytes_load(from + 8 * i + 24);
        sho_store(&words[i], a);
        sho_store(&words[i + 1], b);
        sho_store(&words[i + 2], c);
        sho_store(&words[i + 3], d);
    }
    for (; i < whole; i++)
        sho_store(&words[i], sho_bytes_load(from + 8 * i));
    if (count % 8)
        sho_store(&words[i], sho_bytes_load_part(from + 8 * i, count % 8));
}

/* `to` is aligned to 8 and has room for whole words. Returns the OR of all words copied: no bit of
 * SHO_HIGH_BITS in it means that every byte was below 128. */
SHO_INLINE uint64_t sho_words_get(void *to, const sho_word *words, size_t count)
{
    uint64_t *out = to;
    uint64_t any = 0;
    size_t whole = count / 8;
    size_t i = 0;
    for (; i + 4 <= whole; i += 4) {
        uint64_t a = sho_load(&words[i]);
        uint64_t b = sho_load(&words[i + 1]);
        uint64_t c = sho_load(&words[i + 2]);
        uint64_t d = sho_load(&words[i + 3]);
        out[i] = a;
        out[i + 1] = b;
        out[i + 2] = c;
        out[i + 3] = d;
        any |= (a | b) | (c | d);
    }
    for (; i < whole; i++) {
        out[i] = sho_load(&words[i]);
        any |= out[i];
    }
    if (count % 8) {
        out[i] = sho_load(&words[i]) & sho_word_mask(count % 8);
        any |= out[i];
    }
    return any;
}

SHO_INLINE bool sho_words_equal(const sho_word *words, const void *bytes, size_t count)
{
    const uint8_t *p = bytes;
    size_t whole = count / 8;
    for (size_t i = 0; i < whole; i++) {
        if (sho_load(&words[i]) != sho_bytes_load(p + 8 * i))
            return false;
    }
    size_t rest = count % 8;
    return rest == 0 || (sho_load(&words[whole]) & sho_word_mask(rest)) ==
                            sho_bytes_load_part(p + 8 * whole, rest);
}

#endif
