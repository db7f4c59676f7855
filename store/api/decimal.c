/*
 * decimal.c: numbers to decimal text and back, exactly: integers of any size, doubles by their shortest text.
 *
 * Integers are arrays of 32-bit limbs, least significant first, multiplied and divided by 10^9 in turn: quadratic, which
 * for the numbers that people store (thousands of digits) is a matter of microseconds. Much larger ones are written in
 * hexadecimal instead (scalar.c).
 *
 * The C library's conversions of doubles are exact; they are called under the "C" locale, whatever the program
 * around us has set.
 */
#include "api/text.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

#define CHUNK        1000000000u
#define CHUNK_DIGITS 9u

static int no_memory(void)
{
    return sho_error(SHOBJ_ENOMEM, "converting a large integer: out of memory");
}

/* limbs = limbs * factor + addend; returns the new number of limbs. */
static size_t multiply_add(uint32_t *limbs, size_t count, uint32_t factor, uint32_t addend)
{
    uint64_t carry = addend;
    for (size_t i = 0; i < count; i++) {
        carry += (uint64_t)limbs[i] * factor;
        limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry > 0)
        limbs[count++] = (uint32_t)carry;
    return count;
}

int sho_decimal_parse(const char *digits, size_t count, uint8_t **ret_bytes, size_t *ret_count)
{
    /* 9 digits need less than 30 bits. */
    uint32_t *limbs = malloc((count / CHUNK_DIGITS + 2) * sizeof(uint32_t));
    if (limbs == NULL)
        return no_memory();
    size_t limb_count = 0;
    for (size_t at = 0; at < count;) {
        size_t end = at + ((count - at) % CHUNK_DIGITS == 0 ? CHUNK_DIGITS : (count - at) % CHUNK_DIGITS);
        uint32_t chunk = 0;
        uint32_t factor = 1;
        for (; at < end; at++) {
            chunk = chunk * 10 + (uint32_t)(digits[at] - '0');
            factor *= 10;
        }
        limb_count = multiply_add(limbs, limb_count, factor, chunk);
    }
    /* In place: byte i of the result is never beyond limb i / 4. */
    uint8_t *bytes = (uint8_t *)limbs;
    for (size_t i = 0; i < limb_count; i++) {
        uint32_t limb = limbs[i];
        for (size_t b = 0; b < 4; b++)
            bytes[4 * i + b] = (uint8_t)(limb >> 8 * b);
    }
    size_t byte_count = 4 * limb_count;
    while (byte_count > 0 && bytes[byte_count - 1] == 0)
        byte_count--;
    *ret_bytes = bytes;
    *ret_count = byte_count;
    return 0;
}

int sho_decimal_format(const uint8_t *bytes, size_t count, char **ret_text)
{
    size_t limb_count = (count + 3) / 4;
    /* A byte is less than 2.41 digits. */
    size_t text_bytes = count * 241 / 100 + CHUNK_DIGITS + 2;
    uint32_t *limbs = calloc(limb_count + 1, sizeof(uint32_t));
    char *text = malloc(text_bytes);
    if (limbs == NULL || text == NULL) {
        free(limbs);
        free(text);
        return no_memory();
    }
    for (size_t i = 0; i < count; i++)
        limbs[i / 4] |= (uint32_t)bytes[i] << 8 * (i % 4);

    char *at = text + text_bytes;
    *--at = '\0';
    while (limb_count > 0) {
        uint64_t rest = 0;
        for (size_t i = limb_count; i-- > 0;) {
            rest = rest << 32 | limbs[i];
            limbs[i] = (uint32_t)(rest / CHUNK);
            rest %= CHUNK;
        }
        while (limb_count > 0 && limbs[limb_count - 1] == 0)
            limb_count--;
        for (size_t d = 0; limb_count > 0 ? d < CHUNK_DIGITS : rest > 0; d++) {
            *--at = (char)('0' + rest % 10);
            rest /= 10;
        }
    }
    if (*at == '\0')
        *--at = '0';
    memmove(text, at, strlen(at) + 1);
    free(limbs);
    *ret_text = text;
    return 0;
}

/* ---- doubles */

/* glibc gives out one constant object for "C": there is nothing to free, and nothing that can fail. */
static locale_t c_locale(void)
{
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

double sho_float_parse(const char *text, const char **ret_end)
{
    char *end;
    double value = strtod_l(text, &end, c_locale());
    if (ret_end != NULL)
        *ret_end = end;
    return value;
}

/* A finite positive double as digits and a decimal exponent: 0.d1d2d3... * 10^point. */
typedef struct decimal {
    char digits[20];
    int count;
    int point;
} decimal;

/* Rounds to `count` digits. */
static void round_to(double value, int count, decimal *ret)
{
    char text[40];
    snprintf(text, sizeof(text), "%.*e", count - 1, value);
    ret->digits[0] = text[0];
    if (count > 1)
        memcpy(ret->digits + 1, text + 2, (size_t)count - 1);
    ret->count = count;
    ret->point = atoi(strchr(text, 'e') + 1) + 1;
}

static bool reads_back(const decimal *d, double value)
{
    char text[40];
    snprintf(text, sizeof(text), "0.%.*se%d", d->count, d->digits, d->point);
    return sho_float_parse(text, NULL) == value;
}

/* The next larger number of as many digits; false if it needs one more. */
static bool step_up(decimal *d)
{
    int i = d->count - 1;
    while (i >= 0 && d->digits[i] == '9')
        d->digits[i--] = '0';
    if (i < 0)
        return false;
    d->digits[i]++;
    return true;
}

/* Up to 15 digits survive the way to a double and back, so that a number that has a text of at most 15 digits shows
 * it, padded with zeros, when it is rounded to 15. Subnormal numbers carry fewer. With 16 digits, just above a power
 * of two, the nearest text may fail where its upper neighbour does. */
static void shortest(double value, decimal *d)
{
    int count = value < 2.3e-308 ? 1 : 15;
    for (;; count++) {
        round_to(value, count, d);
        if (count >= 17 || reads_back(d, value) || (count == 16 && step_up(d) && reads_back(d, value)))
            break;
    }
    while (d->count > 1 && d->digits[d->count - 1] == '0')
        d->count--;
}

static char *put(char *at, const char *text, int count)
{
    memcpy(at, text, (size_t)count);
    return at + count;
}

static char *put_zeros(char *at, int count)
{
    for (; count > 0; count--)
        *at++ = '0';
    return at;
}

void sho_float_format(double value, char ret_text[SHO_FLOAT_TEXT_MAX])
{
    if (isnan(value)) {
        memcpy(ret_text, "nan", 4);
        return;
    }
    char *at = ret_text;
    if (signbit(value))
        *at++ = '-';
    value = fabs(value);
    if (isinf(value)) {
        memcpy(at, "inf", 4);
        return;
    }
    if (value == 0) {
        memcpy(at, "0.0", 4);
        return;
    }
    decimal d;
    locale_t before = uselocale(c_locale());
    shortest(value, &d);
    uselocale(before);
    if (d.point > 16 || d.point < -3) {
        at = put(at, d.digits, 1);
        if (d.count > 1) {
            *at++ = '.';
            at = put(at, d.digits + 1, d.count - 1);
        }
        snprintf(at, (size_t)(ret_text + SHO_FLOAT_TEXT_MAX - at), "e%+03d", d.point - 1);
        return;
    }
    if (d.point <= 0) {
        at = put(at, "0.", 2);
        at = put_zeros(at, -d.point);
        at = put(at, d.digits, d.count);
    } else if (d.count <= d.point) {
        at = put(at, d.digits, d.count);
        at = put_zeros(at, d.point - d.count);
        at = put(at, ".0", 2);
    } else {
        at = put(at, d.digits, d.point);
        *at++ = '.';
        at = put(at, d.digits + d.point, d.count - d.point);
    }
    *at = '\0';
}
