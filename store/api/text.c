/*
 * text.c: the parts that reading and writing text have in common: the sink, UTF-8, and copies of values.
 */
#include "api/text.h"

#include <stdlib.h>

#include "base/error.h"

/* ---- the sink */

void sho_sink_init(sho_sink *sink, int (*write)(const char *text, size_t bytes, void *arg), void *arg)
{
    sink->write = write;
    sink->arg = arg;
    sink->status = 0;
    sink->used = 0;
}

int sho_sink_flush(sho_sink *sink)
{
    if (sink->used > 0 && sink->status == 0)
        sink->status = sink->write(sink->buf, sink->used, sink->arg);
    sink->used = 0;
    return sink->status;
}

void sho_sink_put(sho_sink *sink, const char *text, size_t bytes)
{
    if (bytes > sizeof(sink->buf) - sink->used) {
        sho_sink_flush(sink);
        if (bytes >= sizeof(sink->buf)) {
            if (sink->status == 0)
                sink->status = sink->write(text, bytes, sink->arg);
            return;
        }
    }
    memcpy(sink->buf + sink->used, text, bytes);
    sink->used += bytes;
}

/* ---- UTF-8 */

uint32_t sho_utf8_decode(const char *text, size_t bytes, size_t *ret_bytes)
{
    static const uint32_t rune_min[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *b = (const unsigned char *)text;
    size_t need = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;
    if (need == 0 || need > bytes)
        return SHO_RUNE_BAD;
    *ret_bytes = need;
    if (need == 1)
        return b[0];
    uint32_t rune = b[0] & (0x7fu >> need);
    for (size_t i = 1; i < need; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return SHO_RUNE_BAD;
        rune = rune << 6 | (b[i] & 0x3f);
    }
    return rune < rune_min[need] || rune > 0x10ffff ? SHO_RUNE_BAD : rune;
}

size_t sho_utf8_encode(uint32_t rune, char buf[4])
{
    if (rune < 0x80) {
        buf[0] = (char)rune;
        return 1;
    }
    size_t bytes = rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    for (size_t i = bytes; --i > 0; rune >>= 6)
        buf[i] = (char)(0x80 | (rune & 0x3f));
    buf[0] = (char)(0xf00 >> bytes | rune);
    return bytes;
}

size_t sho_utf8_check(const char *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        size_t step = 1;
        if ((unsigned char)text[at] >= 0x80 && sho_utf8_decode(text + at, bytes - at, &step) == SHO_RUNE_BAD)
            break;
        at += step;
    }
    return at;
}

bool sho_utf8_has_surrogate(const char *text, size_t bytes)
{
    for (const char *at = text; bytes > 0 && (at = memchr(at, 0xed, bytes - (size_t)(at - text))) != NULL; at++) {
        if (at + 1 < text + bytes && (unsigned char)at[1] >= 0xa0)
            return true;
    }
    return false;
}

bool sho_rune_is_plain(uint32_t rune)
{
    static const uint32_t hidden[][2] = {{0x00, 0x1f},     {0x7f, 0xa0},       {0xad, 0xad},         {0x61c, 0x61c},
                                         {0x180e, 0x180e}, {0x2000, 0x200f},   {0x2028, 0x202f},     {0x205f, 0x206f},
                                         {0x3000, 0x3000}, {0xd800, 0xf8ff},   {0xfeff, 0xfeff},     {0xfff0, 0xfffb},
                                         {0xfffe, 0xffff}, {0xe0000, 0xe0fff}, {0xf0000, UINT32_MAX}};
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
        if (rune >= hidden[i][0] && rune <= hidden[i][1])
            return false;
    }
    return true;
}

/* ---- values */

static bool is_sequence(const shobj_value *value)
{
    return value->type == SHOBJ_TUPLE || value->type == SHOBJ_FROZENSET;
}

static bool is_text(const shobj_value *value)
{
    return value->type == SHOBJ_STR || value->type == SHOBJ_BYTES || value->type == SHOBJ_BIGINT;
}

bool sho_value_has_object(const shobj_value *value)
{
    if (value->type == SHOBJ_OBJECT)
        return true;
    for (size_t i = 0; is_sequence(value) && i < value->count; i++) {
        if (sho_value_has_object(&value->items[i]))
            return true;
    }
    return false;
}

/* What values point to lies in one block: all arrays of items first, which are aligned alike, then all bytes. */
static void measure(const shobj_value *values, size_t count, size_t *items, size_t *bytes)
{
    for (size_t i = 0; i < count; i++) {
        if (is_text(&values[i])) {
            *bytes += values[i].count;
        } else if (is_sequence(&values[i])) {
            *items += values[i].count;
            measure(values[i].items, values[i].count, items, bytes);
        }
    }
}

static void copy_into(const shobj_value *values, size_t count, shobj_value *to, shobj_value **items, char **bytes)
{
    for (size_t i = 0; i < count; i++) {
        shobj_value v = values[i];
        if (is_text(&v) && v.count > 0) {
            memcpy(*bytes, v.data, v.count);
            v.data = *bytes;
            *bytes += v.count;
        } else if (is_sequence(&v) && v.count > 0) {
            shobj_value *inner = *items;
            *items += v.count;
            copy_into(v.items, v.count, inner, items, bytes);
            v.items = inner;
        }
        to[i] = v;
    }
}

int sho_values_copy(const shobj_value *values, size_t count, shobj_value *ret_values, void **ret_memory)
{
    size_t item_count = 0;
    size_t text_bytes = 0;
    measure(values, count, &item_count, &text_bytes);
    size_t bytes = item_count * sizeof(shobj_value) + text_bytes;
    if (bytes == 0) {
        memmove(ret_values, values, count * sizeof(shobj_value));
        *ret_memory = NULL;
        return 0;
    }
    shobj_value *items = malloc(bytes);
    if (items == NULL)
        return sho_error(SHOBJ_ENOMEM, "copying a value of %zu bytes: out of memory", bytes);
    *ret_memory = items;
    char *text = (char *)(items + item_count);
    copy_into(values, count, ret_values, &items, &text);
    return 0;
}
