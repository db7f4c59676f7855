/*
 * text.h: what the files of the text layer (literal.c, render.c, address.c) share. The layer stands on the public
 * functions of shobj.h alone.
 */
#ifndef SHO_TEXT_H
#define SHO_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <shobj.h>

/* ---- text going out: gathers small pieces and hands them on in larger ones */

typedef struct sho_sink {
    int (*write)(const char *text, size_t bytes, void *arg);
    void *arg;
    int status; /* the first result of write() other than 0; nothing is written after it */
    size_t used;
    char buf[2048];
} sho_sink;

void sho_sink_init(sho_sink *sink, int (*write)(const char *text, size_t bytes, void *arg), void *arg);
void sho_sink_put(sho_sink *sink, const char *text, size_t bytes);
/* Hands on what is left; returns the status. */
int sho_sink_flush(sho_sink *sink);

static inline void sho_sink_puts(sho_sink *sink, const char *text)
{
    sho_sink_put(sink, text, strlen(text));
}

static inline void sho_sink_putc(sho_sink *sink, char c)
{
    sho_sink_put(sink, &c, 1);
}

/* ---- UTF-8, with lone surrogates as three bytes each (the form that a str has in a store) */

#define SHO_RUNE_BAD UINT32_MAX

/* The code point at text[0..bytes), bytes > 0, and the number of bytes it takes; SHO_RUNE_BAD if there is none. */
uint32_t sho_utf8_decode(const char *text, size_t bytes, size_t *ret_bytes);
/* Writes a code point below 0x110000; returns the number of bytes, at most 4. */
size_t sho_utf8_encode(uint32_t rune, char buf[4]);
/* The offset of the first byte that is not UTF-8; `bytes` if all is. */
size_t sho_utf8_check(const char *text, size_t bytes);

static inline bool sho_rune_is_surrogate(uint32_t rune)
{
    return rune - 0xd800u < 0x800u;
}

/* Whether a code point may stand in text for people as it is: no control, surrogate, or invisible one. */
bool sho_rune_is_plain(uint32_t rune);

/* Whether valid UTF-8 holds surrogates. */
bool sho_utf8_has_surrogate(const char *text, size_t bytes);

/* ---- values */

/* Whether there is an object in the value: it is one, or a tuple with one somewhere inside. */
bool sho_value_has_object(const shobj_value *value);

/* Copies values with all that they point to. ret_values[i] points into *ret_memory, to be free()d (NULL if there
 * was nothing to copy). ENOMEM. ret_values may be `values`. */
int sho_values_copy(const shobj_value *values, size_t count, shobj_value *ret_values, void **ret_memory);

/* Whether two immutable values are equal as keys are: 1, 1.0 and True are one. */
bool sho_value_equals(const shobj_value *a, const shobj_value *b);
/* Equal for equal values. */
uint64_t sho_value_hash(const shobj_value *value);

/* ---- numbers */

/* Decimal digits to a magnitude in little-endian bytes without leading zeros. *ret_bytes is malloc()ed. ENOMEM. */
int sho_decimal_parse(const char *digits, size_t count, uint8_t **ret_bytes, size_t *ret_count);
/* A magnitude to decimal digits. *ret_text is malloc()ed and NUL-terminated. ENOMEM. */
int sho_decimal_format(const uint8_t *bytes, size_t count, char **ret_text);

/* The shortest decimal text that reads back as the same double, as Python's repr() writes it. */
#define SHO_FLOAT_TEXT_MAX 32
void sho_float_format(double value, char ret_text[SHO_FLOAT_TEXT_MAX]);
/* Digits, point and exponent, ended by any other byte; *ret_end (may be NULL) points to it. Never looks at the locale. */
double sho_float_parse(const char *text, const char **ret_end);

/* ---- text of values without others inside */

/* EINVAL for other types. */
int sho_scalar_put(sho_sink *sink, enum shobj_form form, const shobj_value *value);
/* A JSON string, quotes included. */
void sho_json_str_put(sho_sink *sink, const char *text, size_t bytes);

#endif
