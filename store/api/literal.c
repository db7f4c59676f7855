/*
 * literal.c: reads one Python literal of an immutable value.
 *
 *   value  = atom | sum                     "1", "-1.5e3", "1+2j", "'text'", "(1, 'a')", "frozenset({1, 2})"
 *   sum    = [sign] number [sign number "j"]
 *   atom   = None | True | False | string | "(" [values] ")" | frozenset "(" [ "{" values "}" ] ")"
 *
 * While it reads, each part has memory of its own, kept in a list; at the end the finished value is copied to the one
 * block that the caller gets, and the list is freed. Nesting is bounded, so that the recursion is.
 */
#include "api/text.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"

#define DEPTH_MAX 1000 /* as deep as values are stored */

typedef struct part {
    struct part *next;
    max_align_t data[];
} part;

typedef struct reader {
    const char *text;
    const char *at;
    part *parts;
    unsigned depth;
} reader;

static int read_value(reader *r, shobj_value *ret);

/* ---- helpers */

static int fail_at(const reader *r, const char *where, const char *what)
{
    size_t column = 1;
    for (const char *c = r->text; c < where; c++)
        column += ((unsigned char)*c & 0xc0) != 0x80;
    sho_error(SHOBJ_EINVAL, "column %zu: %s", column, what);
    return SHOBJ_EINVAL;
}

static int fail(const reader *r, const char *what)
{
    fail_at(r, r->at, what);
    return SHOBJ_EINVAL;
}

static void *part_alloc(reader *r, size_t bytes)
{
    part *p = malloc(sizeof(part) + bytes);
    if (p == NULL) {
        sho_error(SHOBJ_ENOMEM, "reading a literal: out of memory");
        return NULL;
    }
    p->next = r->parts;
    r->parts = p;
    return p->data;
}

static void parts_free(part *p)
{
    while (p != NULL) {
        part *next = p->next;
        free(p);
        p = next;
    }
}

static void skip_space(reader *r)
{
    while (*r->at == ' ' || (*r->at >= '\t' && *r->at <= '\r'))
        r->at++;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

/* Skips `word` if it stands here as a whole. */
static bool accept_word(reader *r, const char *word)
{
    size_t bytes = strlen(word);
    if (strncmp(r->at, word, bytes) != 0 || is_name(r->at[bytes]))
        return false;
    r->at += bytes;
    return true;
}

static int hex_value(char c)
{
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* ---- numbers */

/* A magnitude becomes an INT if it fits. */
static void set_integer(const uint8_t *bytes, size_t count, shobj_value *ret)
{
    while (count > 0 && bytes[count - 1] == 0)
        count--;
    if (count > 8 || (count == 8 && bytes[7] > 0x7f)) {
        *ret = (shobj_value){.type = SHOBJ_BIGINT, .data = bytes, .count = count};
        return;
    }
    uint64_t magnitude = 0;
    for (size_t i = 0; i < count; i++)
        magnitude |= (uint64_t)bytes[i] << 8 * i;
    *ret = (shobj_value){.type = SHOBJ_INT, .i = (int64_t)magnitude};
}

/* Copies digits, without underscores between them, to memory of the reader; *ret_end is behind the last. */
static char *take_digits(reader *r, int base, size_t *ret_count, const char **ret_end)
{
    const char *end = r->at;
    while ((hex_value(*end) >= 0 && hex_value(*end) < base) ||
           (*end == '_' && end > r->at && hex_value(end[1]) >= 0 && hex_value(end[1]) < base))
        end++;
    char *digits = part_alloc(r, (size_t)(end - r->at) + 1);
    if (digits == NULL)
        return NULL;
    size_t count = 0;
    for (const char *c = r->at; c < end; c++) {
        if (*c != '_')
            digits[count++] = *c;
    }
    digits[count] = '\0';
    *ret_count = count;
    *ret_end = end;
    return digits;
}

static int read_based(reader *r, int bits, shobj_value *ret)
{
    const char *start = r->at;
    r->at += r->at[2] == '_' ? 3 : 2;
    size_t count;
    const char *end;
    char *digits = take_digits(r, 1 << bits, &count, &end);
    if (digits == NULL)
        return SHOBJ_ENOMEM;
    if (count == 0 || is_name(*end))
        return fail_at(r, count == 0 ? start : end, "not a number");
    size_t bytes_count = count * (size_t)bits / 8 + 2;
    uint8_t *bytes = part_alloc(r, bytes_count);
    if (bytes == NULL)
        return SHOBJ_ENOMEM;
    memset(bytes, 0, bytes_count);
    for (size_t i = 0; i < count; i++) {
        size_t bit = (count - 1 - i) * (size_t)bits;
        unsigned digit = (unsigned)hex_value(digits[i]) << bit % 8;
        bytes[bit / 8] |= (uint8_t)digit;
        bytes[bit / 8 + 1] |= (uint8_t)(digit >> 8);
    }
    r->at = end;
    set_integer(bytes, bytes_count, ret);
    return 0;
}

static int read_decimal_integer(reader *r, shobj_value *ret)
{
    const char *start = r->at;
    size_t count;
    const char *end;
    char *digits = take_digits(r, 10, &count, &end);
    if (digits == NULL)
        return SHOBJ_ENOMEM;
    if (digits[0] == '0' && strspn(digits, "0") < count)
        return fail_at(r, start, "a decimal number does not begin with 0");
    uint8_t *bytes;
    size_t byte_count;
    int rc = sho_decimal_parse(digits, count, &bytes, &byte_count);
    if (rc < 0)
        return rc;
    uint8_t *kept = part_alloc(r, byte_count + 1);
    if (kept != NULL)
        memcpy(kept, bytes, byte_count);
    free(bytes);
    if (kept == NULL)
        return SHOBJ_ENOMEM;
    r->at = end;
    set_integer(kept, byte_count, ret);
    return 0;
}

/* The end of a number with a point or an exponent, or NULL if the text here is an integer. */
static const char *float_end(const char *at)
{
    const char *c = at;
    while (is_digit(*c) || *c == '_')
        c++;
    bool is_float = *c == '.';
    if (is_float) {
        c++;
        while (is_digit(*c) || *c == '_')
            c++;
    }
    if (*c == 'e' || *c == 'E') {
        const char *e = c + 1;
        if (*e == '+' || *e == '-')
            e++;
        if (is_digit(*e)) {
            is_float = true;
            for (c = e; is_digit(*c) || *c == '_';)
                c++;
        }
    }
    return is_float ? c : NULL;
}

static int read_float(reader *r, const char *end, shobj_value *ret)
{
    char *text = part_alloc(r, (size_t)(end - r->at) + 1);
    if (text == NULL)
        return SHOBJ_ENOMEM;
    size_t count = 0;
    for (const char *c = r->at; c < end; c++) {
        if (*c == '_' && !(c > r->at && is_digit(c[-1]) && is_digit(c[1])))
            return fail_at(r, c, "'_' stands between two digits only");
        if (*c != '_')
            text[count++] = *c;
    }
    text[count] = '\0';
    r->at = end;
    *ret = (shobj_value){.type = SHOBJ_FLOAT, .f = sho_float_parse(text, NULL)};
    return 0;
}

/* "nan" or "inf", which repr() writes though Python has no such literals. */
static bool starts_special(const char *at)
{
    return (strncmp(at, "nan", 3) == 0 || strncmp(at, "inf", 3) == 0) &&
           (!is_name(at[3]) || (at[3] == 'j' && !is_name(at[4])));
}

static bool starts_number(const char *at)
{
    return is_digit(*at) || (*at == '.' && is_digit(at[1])) || starts_special(at);
}

/* An unsigned number; a "j" behind it is the caller's. */
static int read_unsigned(reader *r, shobj_value *ret)
{
    if (starts_special(r->at)) {
        *ret = (shobj_value){.type = SHOBJ_FLOAT, .f = *r->at == 'n' ? NAN : INFINITY};
        r->at += 3;
        return 0;
    }
    if (*r->at == '0') {
        char base = (char)(r->at[1] | 0x20);
        int bits = base == 'x' ? 4 : base == 'o' ? 3 : base == 'b' ? 1 : 0;
        if (bits > 0)
            return read_based(r, bits, ret);
    }
    const char *end = float_end(r->at);
    if (end == NULL) {
        /* "007j" is a number, if an odd one; "007" is none. */
        end = r->at + strspn(r->at, "0123456789_");
        if (*end != 'j' && *end != 'J')
            return read_decimal_integer(r, ret);
    }
    return read_float(r, end, ret);
}

static bool accept_j(reader *r)
{
    if ((*r->at != 'j' && *r->at != 'J') || is_name(r->at[1]))
        return false;
    r->at++;
    return true;
}

/* -1 for '-', 1 for '+' or nothing. */
static int accept_sign(reader *r)
{
    int sign = *r->at == '-' ? -1 : 1;
    if (*r->at == '-' || *r->at == '+') {
        r->at++;
        skip_space(r);
    }
    return sign;
}

static void negate(shobj_value *v)
{
    static const uint8_t two_to_63[8] = {0, 0, 0, 0, 0, 0, 0, 0x80};
    if (v->type == SHOBJ_FLOAT)
        v->f = -v->f;
    else if (v->type == SHOBJ_INT)
        v->i = -v->i; /* it came from text without a sign: 0 and up */
    else if (v->count == sizeof(two_to_63) && memcmp(v->data, two_to_63, sizeof(two_to_63)) == 0)
        *v = (shobj_value){.type = SHOBJ_INT, .i = INT64_MIN};
    else
        v->negative = 1;
}

static int read_signed(reader *r, shobj_value *ret)
{
    int sign = accept_sign(r);
    if (!starts_number(r->at))
        return fail(r, "a number is missing here");
    int rc = read_unsigned(r, ret);
    if (rc == 0 && sign < 0)
        negate(ret);
    return rc;
}

static int to_double(const reader *r, const char *where, bool was_negative, const shobj_value *v, double *ret)
{
    if (v->type == SHOBJ_FLOAT) {
        *ret = v->f;
        return 0;
    }
    if (v->type == SHOBJ_INT) {
        *ret = v->i == 0 && was_negative ? -0.0 : (double)v->i;
        return 0;
    }
    return fail_at(r, where, "the integer is too large for a part of a complex number");
}

static int read_number(reader *r, shobj_value *ret)
{
    const char *start = r->at;
    double real = 0;
    double imaginary = 0;
    int rc = read_signed(r, ret);
    if (rc < 0)
        return rc;
    if (accept_j(r)) {
        rc = to_double(r, start, *start == '-', ret, &imaginary);
        if (rc == 0)
            *ret = (shobj_value){.type = SHOBJ_COMPLEX, .c = {0.0, imaginary}};
        return rc;
    }
    if (is_name(*r->at))
        return fail(r, "not a number");
    const char *behind = r->at;
    skip_space(r);
    if (*r->at != '+' && *r->at != '-') {
        r->at = behind;
        return 0;
    }
    const char *second = r->at;
    shobj_value other;
    rc = to_double(r, start, *start == '-', ret, &real);
    if (rc == 0)
        rc = read_signed(r, &other);
    if (rc == 0 && !accept_j(r))
        return fail(r, "a 'j' is missing here: sums are read as complex numbers only");
    if (rc == 0)
        rc = to_double(r, second, *second == '-', &other, &imaginary);
    if (rc == 0)
        *ret = (shobj_value){.type = SHOBJ_COMPLEX, .c = {real, imaginary}};
    return rc;
}

/* ---- strings */

/* The number behind \x, \u, \U, or an octal one; SHO_RUNE_BAD if digits are missing. */
static uint32_t escape_number(const char **at, unsigned base, unsigned digits_min, unsigned digits_max)
{
    uint32_t number = 0;
    unsigned count = 0;
    for (; count < digits_max; count++, (*at)++) {
        int digit = hex_value(**at);
        if (digit < 0 || (unsigned)digit >= base)
            break;
        number = number * base + (unsigned)digit;
    }
    return count < digits_min ? SHO_RUNE_BAD : number;
}

/* One escape, *at behind the backslash, to `to`; returns the bytes written (at most 4) or a negative error. */
static int read_escape(reader *r, const char **at, bool bytes, char *to)
{
    static const char simple[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    char c = *(*at)++;
    for (const char *s = simple; *s != '\0'; s += 2) {
        if (*s == c) {
            *to = s[1];
            return 1;
        }
    }
    if (c == '\n')
        return 0;
    uint32_t rune;
    if (c >= '0' && c <= '7') {
        --*at;
        rune = escape_number(at, 8, 1, 3);
        if (bytes)
            rune &= 0xff;
    } else if (c == 'x') {
        rune = escape_number(at, 16, 2, 2);
    } else if (!bytes && (c == 'u' || c == 'U')) {
        unsigned digits = c == 'u' ? 4 : 8;
        rune = escape_number(at, 16, digits, digits);
    } else if (!bytes && c == 'N') {
        return fail_at(r, *at - 2, "\\N{name} is not read: write the character itself, or \\u and its number");
    } else {
        /* As in Python, an unknown escape stands for itself. */
        --*at;
        *to = '\\';
        return 1;
    }
    if (rune == SHO_RUNE_BAD)
        return fail_at(r, *at, "a digit of an escape is missing here");
    if (rune > 0x10ffff)
        return fail_at(r, *at, "there is no character of that number");
    if (bytes) {
        *to = (char)rune;
        return 1;
    }
    return (int)sho_utf8_encode(rune, to);
}

/* The quote that ends the string: behind an even number of backslashes. NULL without one. */
static const char *string_end(const char *at, char quote)
{
    for (; *at != '\0' && *at != quote; at++) {
        if (*at == '\\' && at[1] != '\0')
            at++;
    }
    return *at == quote ? at : NULL;
}

/* r->at is at the quote. An escape is never shorter than what it stands for. */
static int read_string(reader *r, bool bytes, bool raw, shobj_value *ret)
{
    const char *start = r->at++;
    const char *end = string_end(r->at, *start);
    if (end == NULL)
        return fail_at(r, start, "this string has no closing quote");
    char *text = part_alloc(r, (size_t)(end - r->at) + 4);
    if (text == NULL)
        return SHOBJ_ENOMEM;
    size_t count = 0;
    const char *at = r->at;
    while (at < end) {
        if (*at == '\\' && !raw) {
            at++;
            int rc = read_escape(r, &at, bytes, text + count);
            if (rc < 0)
                return rc;
            count += (size_t)rc;
            continue;
        }
        size_t step = 1;
        uint32_t rune = sho_utf8_decode(at, (size_t)(end - at), &step);
        if (bytes && rune >= 0x80)
            return fail_at(r, at, "bytes take ASCII characters only: write others as \\x and two digits");
        if (rune == SHO_RUNE_BAD)
            return fail_at(r, at, "this is not UTF-8");
        memcpy(text + count, at, step);
        count += step;
        at += step;
    }
    r->at = end + 1;
    if (*r->at == *start && end == start + 1)
        return fail_at(r, start, "strings in three quotes are not read: use one quote, and \\n for a new line");
    *ret = (shobj_value){.type = bytes ? SHOBJ_BYTES : SHOBJ_STR, .data = text, .count = count};
    return 0;
}

/* Reads a string with its prefix; 1 if there is none here. */
static int try_string(reader *r, shobj_value *ret)
{
    bool bytes = false;
    bool raw = false;
    bool unicode = false;
    const char *at = r->at;
    for (; *at != '\'' && *at != '"'; at++) {
        char c = (char)(*at | 0x20);
        bool *flag = c == 'b' ? &bytes : c == 'r' ? &raw : c == 'u' ? &unicode : NULL;
        if (flag == NULL || *flag)
            return 1;
        *flag = true;
    }
    if (unicode && (bytes || raw))
        return 1;
    r->at = at;
    return read_string(r, bytes, raw, ret);
}

/* ---- tuples and sets */

/* Reads values up to `close`, which is skipped. *ret_comma: whether a comma was the last thing before it. */
static int read_values(reader *r, char close, shobj_value *ret, bool *ret_comma)
{
    shobj_value *items = NULL;
    size_t count = 0;
    size_t room = 0;
    bool comma = true;
    for (;;) {
        skip_space(r);
        if (*r->at == close)
            break;
        if (!comma)
            return fail(r, *r->at == '\0' ? "the text ends before its closing bracket" : "a ',' is missing here");
        if (count == room) {
            room = room == 0 ? 8 : 2 * room;
            shobj_value *larger = part_alloc(r, room * sizeof(shobj_value));
            if (larger == NULL)
                return SHOBJ_ENOMEM;
            if (count > 0)
                memcpy(larger, items, count * sizeof(shobj_value));
            items = larger;
        }
        int rc = read_value(r, &items[count]);
        if (rc < 0)
            return rc;
        count++;
        skip_space(r);
        comma = *r->at == ',';
        if (comma)
            r->at++;
    }
    r->at++;
    *ret = (shobj_value){.type = SHOBJ_TUPLE, .items = items, .count = count};
    *ret_comma = comma;
    return 0;
}

static int read_tuple(reader *r, shobj_value *ret)
{
    bool comma;
    r->at++;
    int rc = read_values(r, ')', ret, &comma);
    if (rc == 0 && ret->count == 1 && !comma) {
        shobj_value only = ret->items[0];
        *ret = only;
    }
    return rc;
}

/* Drops items that are equal to an earlier one. */
static int make_set(reader *r, shobj_value *v)
{
    size_t room = 8;
    while (room < 2 * v->count)
        room *= 2;
    size_t *table = part_alloc(r, room * sizeof(size_t)); /* index + 1 of an item that is kept, or 0 */
    shobj_value *items = part_alloc(r, v->count * sizeof(shobj_value));
    if (table == NULL || items == NULL)
        return SHOBJ_ENOMEM;
    memset(table, 0, room * sizeof(size_t));
    size_t kept = 0;
    for (size_t i = 0; i < v->count; i++) {
        size_t slot = sho_value_hash(&v->items[i]) & (room - 1);
        while (table[slot] != 0 && !sho_value_equals(&items[table[slot] - 1], &v->items[i]))
            slot = (slot + 1) & (room - 1);
        if (table[slot] == 0) {
            items[kept++] = v->items[i];
            table[slot] = kept;
        }
    }
    *v = (shobj_value){.type = SHOBJ_FROZENSET, .items = items, .count = kept};
    return 0;
}

static int read_frozenset(reader *r, shobj_value *ret)
{
    static const char pairs[] = "{}[]()";
    skip_space(r);
    if (*r->at != '(')
        return fail(r, "a '(' is missing here: frozenset({1, 2})");
    r->at++;
    skip_space(r);
    bool comma;
    const char *pair = *r->at == '\0' || *r->at == ')' ? NULL : strchr(pairs, *r->at);
    *ret = (shobj_value){.type = SHOBJ_TUPLE};
    if (pair != NULL) {
        r->at++;
        int rc = read_values(r, pair[1], ret, &comma);
        if (rc < 0)
            return rc;
        skip_space(r);
    }
    if (*r->at != ')')
        return fail(r, "a ')' is missing here: frozenset({1, 2})");
    r->at++;
    return make_set(r, ret);
}

/* ---- the whole */

static int read_nested(reader *r, int (*read)(reader *, shobj_value *), shobj_value *ret)
{
    if (r->depth == DEPTH_MAX)
        return fail(r, "nested too deeply");
    r->depth++;
    int rc = read(r, ret);
    r->depth--;
    return rc;
}

static int read_value(reader *r, shobj_value *ret)
{
    skip_space(r);
    if (accept_word(r, "None"))
        *ret = (shobj_value){.type = SHOBJ_NONE};
    else if (accept_word(r, "True"))
        *ret = (shobj_value){.type = SHOBJ_BOOL, .i = 1};
    else if (accept_word(r, "False"))
        *ret = (shobj_value){.type = SHOBJ_BOOL, .i = 0};
    else if (accept_word(r, "frozenset"))
        return read_nested(r, read_frozenset, ret);
    else if (*r->at == '(')
        return read_nested(r, read_tuple, ret);
    else if (*r->at == '-' || *r->at == '+' || starts_number(r->at))
        return read_number(r, ret);
    else if (*r->at == '[' || *r->at == '{')
        return fail(r, "lists, dicts and sets are no immutable values");
    else if (*r->at == '\0')
        return fail(r, "a value is missing here");
    else {
        int rc = try_string(r, ret);
        return rc != 1 ? rc : fail(r, "not a Python literal (a str needs quotes)");
    }
    return 0;
}

int shobj_literal_parse(const char *text, shobj_value *ret_value, void **ret_memory)
{
    reader r = {.text = text, .at = text};
    shobj_value value;
    int rc = read_value(&r, &value);
    if (rc == 0) {
        skip_space(&r);
        if (*r.at != '\0')
            rc = fail(&r, "the value ends before this");
    }
    if (rc == 0)
        rc = sho_values_copy(&value, 1, ret_value, ret_memory);
    parts_free(r.parts);
    return rc;
}
