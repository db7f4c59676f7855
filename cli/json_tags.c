/*
 * json_tags.c: the tags of a dump: {"$bytes": ..}, {"$tuple": [..]} and their like become the values that they stand for.
 */
#include "json_build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "out.h"

bool json_takes_array(const shobj_value *key)
{
    return json_text_is(key, "$tuple") || json_text_is(key, "$set") || json_text_is(key, "$dict") ||
           json_text_is(key, "$complex");
}

/* Decodes base64 with its padding. -1 if it is none. */
static ssize_t decode_base64(const char *text, size_t bytes, unsigned char *to)
{
    size_t count = 0;
    if (bytes % 4 != 0)
        return -1;
    for (size_t at = 0; at < bytes; at += 4) {
        uint32_t bits = 0;
        size_t pad = 0;
        for (size_t i = 0; i < 4; i++) {
            char c = text[at + i];
            int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                        : c >= 'a' && c <= 'z' ? c - 'a' + 26
                        : c >= '0' && c <= '9' ? c - '0' + 52
                        : c == '+'             ? 62
                        : c == '/'             ? 63
                                               : -1;
            if (c == '=' && at + 4 == bytes && i >= 2) {
                pad++;
                digit = 0;
            } else if (digit < 0 || pad > 0) {
                return -1;
            }
            bits = bits << 6 | (uint32_t)digit;
        }
        for (size_t i = 0; i < 3 - pad; i++)
            to[count++] = (unsigned char)(bits >> (16 - 8 * i));
        if ((pad == 1 && (bits & 0xff) != 0) || (pad == 2 && (bits & 0xffff) != 0))
            return -1;
    }
    return (ssize_t)count;
}

static int tag_base64(loader *l, const char *tag, uint8_t type, shobj_value *v)
{
    char what[100];
    unsigned char *data = obstack_alloc(&l->text, v->count + 1);
    ssize_t count = v->type == SHOBJ_STR ? decode_base64(v->data, v->count, data) : -1;
    if (count < 0) {
        snprintf(what, sizeof(what), "%s takes a string in base64 (--plain loads it as a dict)", tag);
        return json_stop_at(l, what);
    }
    *v = (shobj_value){.type = type, .data = data, .count = (size_t)count};
    return 1;
}

/* Numbers stand for themselves; "nan", "inf", "-inf", or 16 hex digits of the bits. */
static bool read_float(const shobj_value *v, double *ret)
{
    if (v->type == SHOBJ_FLOAT || v->type == SHOBJ_INT) {
        *ret = v->type == SHOBJ_FLOAT ? v->f : (double)v->i;
        return true;
    }
    char text[24];
    if (v->type != SHOBJ_STR || v->count >= sizeof(text))
        return false;
    memcpy(text, v->data, v->count);
    text[v->count] = '\0';
    if (v->count == 16 && strspn(text, "0123456789abcdefABCDEF") == 16) {
        uint64_t bits = strtoull(text, NULL, 16);
        memcpy(ret, &bits, sizeof(bits));
        return true;
    }
    *ret = strcmp(text, "nan") == 0 ? NAN : strcmp(text, "-inf") == 0 ? -INFINITY : INFINITY;
    return isnan(*ret) || *ret < 0 || strcmp(text, "inf") == 0;
}

/* A large integer, as its literal: what memory that needs is copied, and freed with the other text. */
static int tag_int(loader *l, shobj_value *v)
{
    shobj_value number;
    void *memory = NULL;
    if (v->type != SHOBJ_STR || v->reserved != MARK_NONE || memchr(v->data, '\0', v->count) != NULL)
        return json_stop_at(l, "$int takes a string with an integer (--plain loads it as a dict)");
    char *text = obstack_copy0(&l->text, v->data, v->count);
    int rc = shobj_literal_parse(text, &number, &memory);
    bool is_int = rc == 0 && (number.type == SHOBJ_INT || number.type == SHOBJ_BIGINT);
    if (is_int && number.type == SHOBJ_BIGINT)
        number.data = obstack_copy(&l->text, number.data, number.count);
    free(memory);
    if (rc == SHOBJ_ENOMEM)
        return json_no_memory(l);
    if (!is_int)
        return json_stop_at(l, "$int takes a string with an integer (--plain loads it as a dict)");
    *v = number;
    return 1;
}

static int tag_complex(loader *l, shobj_value *v)
{
    double c[2];
    if (v->reserved != MARK_RAW || v->count != 2 || !read_float(&v->items[0], &c[0]) ||
        !read_float(&v->items[1], &c[1]))
        return json_stop_at(l, "$complex takes an array of two numbers (--plain loads it as a dict)");
    *v = (shobj_value){.type = SHOBJ_COMPLEX, .c = {c[0], c[1]}};
    return 1;
}

/* A frozenset holds no equal elements; the reader of literals knows which are equal: 1, 1.0 and true. */
static int tag_set(loader *l, shobj_value *v)
{
    if (v->reserved != MARK_RAW)
        return json_stop_at(l, "$set takes an array (--plain loads it as a dict)");
    if (json_holds(v, json_is_ref_or_object))
        return json_stop_at(l, "a frozenset can't hold a dict or list");
    *v = (shobj_value){.type = SHOBJ_FROZENSET, .items = v->items, .count = v->count};
    struct buffer literal = {0};
    shobj_value distinct = {0};
    void *memory = NULL;
    int rc = shobj_render(NULL, v, SHOBJ_FORM_LITERAL, 0, 0, buffer_add, &literal);
    if (rc == 0)
        rc = shobj_literal_parse(literal.text, &distinct, &memory);
    size_t count = distinct.count;
    free(literal.text);
    free(memory);
    if (rc < 0)
        return json_stop_store(l, rc);
    return count == v->count ? 1 : json_stop_at(l, "two elements of this $set are equal");
}

static int tag_dict(loader *l, shobj_value *v)
{
    bool is_good = v->reserved == MARK_RAW;
    for (size_t i = 0; is_good && i < v->count; i++)
        is_good = v->items[i].reserved == MARK_RAW && v->items[i].count == 2;
    if (!is_good)
        return json_stop_at(l, "$dict takes an array of [key, value] arrays (--plain loads it as a dict)");
    shobj_value *pairs = malloc((2 * v->count + 1) * sizeof(shobj_value));
    if (pairs == NULL)
        return json_no_memory(l);
    bool has_ref = false;
    size_t count = 2 * v->count;
    int ok = 1;
    for (size_t i = 0; i < v->count && ok; i++) {
        pairs[2 * i] = v->items[i].items[0];
        pairs[2 * i + 1] = v->items[i].items[1];
        has_ref = has_ref || json_holds(&pairs[2 * i + 1], json_is_ref);
        if (json_holds(&pairs[2 * i], json_is_ref_or_object))
            ok = json_stop_at(l, "a dict or list can't be a key");
    }
    if (ok)
        ok = json_make_container(l, true, pairs, count, has_ref, l->into_root && l->depth == 1, v);
    free(pairs);
    return ok;
}

int json_apply_tag(loader *l, const shobj_value *key, shobj_value *v, bool *ret_is_tag)
{
    *ret_is_tag = true;
    if (json_text_is(key, "$bytes"))
        return tag_base64(l, "$bytes", SHOBJ_BYTES, v);
    if (json_text_is(key, "$str"))
        return tag_base64(l, "$str", SHOBJ_STR, v);
    if (json_text_is(key, "$int"))
        return tag_int(l, v);
    if (json_text_is(key, "$complex"))
        return tag_complex(l, v);
    if (json_text_is(key, "$set"))
        return tag_set(l, v);
    if (json_text_is(key, "$dict"))
        return tag_dict(l, v);
    if (json_text_is(key, "$tuple")) {
        if (v->reserved != MARK_RAW)
            return json_stop_at(l, "$tuple takes an array (--plain loads it as a dict)");
        v->reserved = MARK_NONE;
        return 1;
    }
    if (json_text_is(key, "$float")) {
        double f;
        if (!read_float(v, &f))
            return json_stop_at(
                l, "$float takes \"nan\", \"inf\", \"-inf\" or 16 hex digits (--plain loads it as a dict)");
        *v = (shobj_value){.type = SHOBJ_FLOAT, .f = f};
        return 1;
    }
    if (json_text_is(key, "$ref")) {
        if (v->type != SHOBJ_STR || v->reserved != MARK_NONE || (v->count > 0 && *(const char *)v->data != '/'))
            return json_stop_at(l, "$ref takes the path of an object in this dump (--plain loads it as a dict)");
        v->reserved = MARK_REF;
        return 1;
    }
    *ret_is_tag = false;
    return 1;
}
