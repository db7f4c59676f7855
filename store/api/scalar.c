/*
 * scalar.c: the text of values that hold no others, in each form: Python literals as repr() writes them, plain JSON, exact
 * JSON.
 */
#include "api/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

static void put_escaped(sho_sink *sink, char letter, unsigned digits, uint32_t number)
{
    char text[16];
    int bytes = snprintf(text, sizeof(text), "\\%c%0*" PRIx32, letter, (int)digits, number);
    sho_sink_put(sink, text, (size_t)bytes);
}

/* A str as Python's repr() has it: in ' unless it holds some and no ". Damaged UTF-8 is shown as escaped bytes. */
static void put_str_literal(sho_sink *sink, const char *text, size_t bytes)
{
    char quote = bytes > 0 && memchr(text, '\'', bytes) != NULL && memchr(text, '"', bytes) == NULL ? '"' : '\'';
    sho_sink_putc(sink, quote);
    for (size_t at = 0; at < bytes;) {
        size_t step = 1;
        uint32_t rune = sho_utf8_decode(text + at, bytes - at, &step);
        if (rune == SHO_RUNE_BAD)
            put_escaped(sink, 'x', 2, (unsigned char)text[at]);
        else if (rune == (unsigned char)quote || rune == '\\')
            sho_sink_put(sink, (char[2]){'\\', (char)rune}, 2);
        else if (rune == '\n' || rune == '\r' || rune == '\t')
            sho_sink_puts(sink, rune == '\n' ? "\\n" : rune == '\r' ? "\\r" : "\\t");
        else if (sho_rune_is_plain(rune) || rune == ' ')
            sho_sink_put(sink, text + at, step);
        else if (rune < 0x100)
            put_escaped(sink, 'x', 2, rune);
        else
            put_escaped(sink, rune < 0x10000 ? 'u' : 'U', rune < 0x10000 ? 4 : 8, rune);
        at += step;
    }
    sho_sink_putc(sink, quote);
}

static void put_bytes_literal(sho_sink *sink, const unsigned char *data, size_t bytes)
{
    char quote = bytes > 0 && memchr(data, '\'', bytes) != NULL && memchr(data, '"', bytes) == NULL ? '"' : '\'';
    sho_sink_putc(sink, 'b');
    sho_sink_putc(sink, quote);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = data[i];
        if (c == (unsigned char)quote || c == '\\')
            sho_sink_put(sink, (char[2]){'\\', (char)c}, 2);
        else if (c == '\n' || c == '\r' || c == '\t')
            sho_sink_puts(sink, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (c < 0x20 || c >= 0x7f)
            put_escaped(sink, 'x', 2, c);
        else
            sho_sink_putc(sink, (char)c);
    }
    sho_sink_putc(sink, quote);
}

void sho_json_str_put(sho_sink *sink, const char *text, size_t bytes)
{
    sho_sink_putc(sink, '"');
    size_t from = 0; /* [from, at) is to be written as it is */
    for (size_t at = 0; at < bytes;) {
        unsigned char c = (unsigned char)text[at];
        if (c >= 0x20 && c != '"' && c != '\\' && c < 0x7f) {
            at++;
            continue;
        }
        size_t step = 1;
        uint32_t rune = sho_utf8_decode(text + at, bytes - at, &step);
        if (rune >= 0xa0 && rune != SHO_RUNE_BAD && !sho_rune_is_surrogate(rune)) {
            at += step;
            continue;
        }
        sho_sink_put(sink, text + from, at - from);
        if (rune == '"' || rune == '\\')
            sho_sink_put(sink, (char[2]){'\\', (char)rune}, 2);
        else if (rune == '\n' || rune == '\r' || rune == '\t')
            sho_sink_puts(sink, rune == '\n' ? "\\n" : rune == '\r' ? "\\r" : "\\t");
        else
            put_escaped(sink, 'u', 4, rune == SHO_RUNE_BAD ? 0xfffd : rune);
        at += step;
        from = at;
    }
    sho_sink_put(sink, text + from, bytes - from);
    sho_sink_putc(sink, '"');
}

static void put_base64(sho_sink *sink, const unsigned char *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    sho_sink_putc(sink, '"');
    for (size_t i = 0; i < bytes; i += 3) {
        size_t have = bytes - i < 3 ? bytes - i : 3;
        uint32_t bits = (uint32_t)data[i] << 16;
        if (have > 1)
            bits |= (uint32_t)data[i + 1] << 8;
        if (have > 2)
            bits |= data[i + 2];
        char text[4] = {digits[bits >> 18], digits[bits >> 12 & 63], '=', '='};
        if (have > 1)
            text[2] = digits[bits >> 6 & 63];
        if (have > 2)
            text[3] = digits[bits & 63];
        sho_sink_put(sink, text, 4);
    }
    sho_sink_putc(sink, '"');
}

/* A magnitude of more bytes is written in hexadecimal, which takes time in proportion to its length; decimal, to its
 * square: seconds from some 100 KiB on. */
#define DECIMAL_BYTES_MAX 16384u

static void put_hex_int(sho_sink *sink, enum shobj_form form, const shobj_value *v)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = v->data;
    size_t i = v->count;
    while (i > 0 && bytes[i - 1] == 0)
        i--;
    sho_sink_puts(sink, form == SHOBJ_FORM_DUMP ? "{\"$int\": \"" : form == SHOBJ_FORM_JSON ? "\"" : "");
    sho_sink_puts(sink, v->negative ? "-0x" : "0x");
    if (i == 0)
        sho_sink_putc(sink, '0');
    for (bool is_first = true; i-- > 0; is_first = false) {
        if (!is_first || bytes[i] > 15)
            sho_sink_putc(sink, digits[bytes[i] >> 4]);
        sho_sink_putc(sink, digits[bytes[i] & 15]);
    }
    sho_sink_puts(sink, form == SHOBJ_FORM_DUMP ? "\"}" : form == SHOBJ_FORM_JSON ? "\"" : "");
}

static int put_bigint(sho_sink *sink, enum shobj_form form, const shobj_value *v)
{
    char *text;
    if (v->count > DECIMAL_BYTES_MAX) {
        put_hex_int(sink, form, v);
        return 0;
    }
    int rc = sho_decimal_format(v->data, v->count, &text);
    if (rc < 0)
        return rc;
    if (v->negative)
        sho_sink_putc(sink, '-');
    sho_sink_puts(sink, text);
    free(text);
    return 0;
}

static void put_float(sho_sink *sink, enum shobj_form form, double f)
{
    char text[SHO_FLOAT_TEXT_MAX];
    sho_float_format(f, text);
    if (form == SHOBJ_FORM_LITERAL || isfinite(f)) {
        sho_sink_puts(sink, text);
        return;
    }
    if (form == SHOBJ_FORM_JSON) {
        sho_sink_puts(sink, "null");
        return;
    }
    uint64_t bits;
    memcpy(&bits, &f, sizeof(bits));
    if (isnan(f) && bits != 0x7ff8000000000000u)
        snprintf(text, sizeof(text), "%016" PRIx64, bits);
    sho_sink_puts(sink, "{\"$float\": \"");
    sho_sink_puts(sink, text);
    sho_sink_puts(sink, "\"}");
}

/* As repr() does: "2j", "(1+2j)"; the real part is left out if it is exactly 0.0. */
static void put_complex_literal(sho_sink *sink, const double c[2])
{
    char real[SHO_FLOAT_TEXT_MAX];
    char imaginary[SHO_FLOAT_TEXT_MAX];
    sho_float_format(c[0], real);
    sho_float_format(c[1], imaginary);
    for (size_t i = 0; i < 2; i++) {
        char *text = i == 0 ? real : imaginary;
        size_t bytes = strlen(text);
        if (bytes > 2 && strcmp(text + bytes - 2, ".0") == 0)
            text[bytes - 2] = '\0';
    }
    bool is_plain = c[0] == 0 && !signbit(c[0]);
    if (!is_plain) {
        sho_sink_putc(sink, '(');
        sho_sink_puts(sink, real);
        if (imaginary[0] != '-')
            sho_sink_putc(sink, '+');
    }
    sho_sink_puts(sink, imaginary);
    sho_sink_puts(sink, is_plain ? "j" : "j)");
}

static void put_complex(sho_sink *sink, enum shobj_form form, const double c[2])
{
    if (form == SHOBJ_FORM_DUMP) {
        sho_sink_puts(sink, "{\"$complex\": [");
        put_float(sink, form, c[0]);
        sho_sink_puts(sink, ", ");
        put_float(sink, form, c[1]);
        sho_sink_puts(sink, "]}");
        return;
    }
    const char *quote = form == SHOBJ_FORM_JSON ? "\"" : "";
    sho_sink_puts(sink, quote);
    put_complex_literal(sink, c);
    sho_sink_puts(sink, quote);
}

static void put_str(sho_sink *sink, enum shobj_form form, const char *text, size_t bytes)
{
    if (form == SHOBJ_FORM_LITERAL) {
        put_str_literal(sink, text, bytes);
    } else if (form == SHOBJ_FORM_DUMP && sho_utf8_has_surrogate(text, bytes)) {
        sho_sink_puts(sink, "{\"$str\": ");
        put_base64(sink, (const unsigned char *)text, bytes);
        sho_sink_putc(sink, '}');
    } else {
        sho_json_str_put(sink, text, bytes);
    }
}

static void put_bytes(sho_sink *sink, enum shobj_form form, const unsigned char *data, size_t bytes)
{
    if (form == SHOBJ_FORM_LITERAL) {
        put_bytes_literal(sink, data, bytes);
        return;
    }
    if (form == SHOBJ_FORM_DUMP)
        sho_sink_puts(sink, "{\"$bytes\": ");
    put_base64(sink, data, bytes);
    if (form == SHOBJ_FORM_DUMP)
        sho_sink_putc(sink, '}');
}

int sho_scalar_put(sho_sink *sink, enum shobj_form form, const shobj_value *v)
{
    static const char *const words[2][3] = {{"None", "False", "True"}, {"null", "false", "true"}};
    const char *const *word = words[form != SHOBJ_FORM_LITERAL];
    char text[24];
    switch (v->type) {
    case SHOBJ_NONE: sho_sink_puts(sink, word[0]); return 0;
    case SHOBJ_BOOL: sho_sink_puts(sink, word[v->i != 0 ? 2 : 1]); return 0;
    case SHOBJ_INT:
        snprintf(text, sizeof(text), "%" PRId64, v->i);
        sho_sink_puts(sink, text);
        return 0;
    case SHOBJ_BIGINT: return put_bigint(sink, form, v);
    case SHOBJ_FLOAT: put_float(sink, form, v->f); return 0;
    case SHOBJ_COMPLEX: put_complex(sink, form, v->c); return 0;
    case SHOBJ_STR: put_str(sink, form, v->data, v->count); return 0;
    case SHOBJ_BYTES: put_bytes(sink, form, v->data, v->count); return 0;
    default: return sho_error(SHOBJ_EINVAL, "rendering a value: there is no value of type %u", v->type);
    }
}
