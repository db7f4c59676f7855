/*
 * json_load.c: builds objects from JSON as it is read. See json_load.h.
 *
 * Containers are made from the inside out: the values of all open containers lie on one stack, and a container that ends
 * takes its own from the top and leaves one value there, the new object. Text lies on a second stack (an obstack), which is
 * cut back when an object has taken what it needs. So memory follows the depth of the input, not its length.
 *
 *   values   [ "a" {oid 1} "b" | 1 2 3          {"a": {...}, "b": [1, 2, 3
 *   frames     dict, from 0      list, from 3
 *
 * The array behind a tag, {"$tuple": [..]}, becomes no list: it stays a *raw* value, which the tag takes up when its dict
 * ends. If another key follows, the dict was no tag after all, and the raw value is made the list that it looked like.
 *
 * {"$ref": path} may refer to an object that is still being read. It is stored as None for the time being, and its place
 * is noted; when all is read, the paths are resolved and the places mended. A ref inside a tuple mends the
 * place that holds the tuple.
 */
#include "json_load.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <obstack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free

/* In shobj_value.reserved, while a value is on its way: */
enum { MARK_NONE, MARK_RAW, MARK_REF };

typedef struct frame {
    size_t from;   /* its first value on the stack */
    void *memory;  /* where its text begins */
    bool is_dict;
    bool is_raw;   /* the array of a tag */
    bool has_raw;  /* whose elements are raw too: that of $dict */
    bool has_ref;  /* there are refs in its values */
} frame;

/* A place that holds a ref. */
typedef struct mend {
    shobj_oid container;
    bool is_dict;
    shobj_value key;
    int64_t index;
    shobj_value value;
} mend;

typedef struct loader {
    json_load *load;
    shobj_store *store;
    json_reader *reader;
    int rc;
    bool into_root;

    shobj_value *values;
    size_t count, room;
    frame *frames;
    size_t depth, frame_room;
    struct obstack text;

    mend *mends;
    size_t mend_count, mend_room;
    struct obstack kept; /* what mends point to */

    uint64_t end_line; /* of the last value at the top */
} loader;

/* ---- errors */

/* Each returns 0, which stops the reading. */
static int stop(loader *l, int rc)
{
    l->rc = rc;
    return 0;
}

static int stop_at(loader *l, const char *what)
{
    uint64_t line;
    uint64_t column;
    json_place(l->reader, &line, &column);
    snprintf(l->load->error, sizeof(l->load->error), "line %" PRIu64 ", column %" PRIu64 ": %s", line, column, what);
    return stop(l, SHOBJ_EINVAL);
}

/* A value that the store does not take is the input's fault. */
static int stop_store(loader *l, int rc)
{
    return rc == SHOBJ_EINVAL || rc == SHOBJ_ETYPE ? stop_at(l, shobj_error_message()) : stop(l, rc);
}

static int no_memory(loader *l)
{
    snprintf(l->load->error, sizeof(l->load->error), "out of memory");
    return stop(l, SHOBJ_ENOMEM);
}

/* Makes room for one more; 0 without memory. */
static int grow(loader *l, void **array, size_t count, size_t *room, size_t bytes)
{
    if (count < *room)
        return 1;
    size_t larger = *room == 0 ? 64 : 2 * *room;
    void *moved = realloc(*array, larger * bytes);
    if (moved == NULL)
        return no_memory(l);
    *array = moved;
    *room = larger;
    return 1;
}

/* ---- values */

static bool is_sequence(const shobj_value *v)
{
    return v->type == SHOBJ_TUPLE || v->type == SHOBJ_FROZENSET;
}

static bool holds(const shobj_value *v, bool (*test)(const shobj_value *))
{
    if (test(v))
        return true;
    for (size_t i = 0; is_sequence(v) && i < v->count; i++) {
        if (holds(&v->items[i], test))
            return true;
    }
    return false;
}

static bool is_ref(const shobj_value *v)
{
    return v->reserved == MARK_REF;
}

static bool is_ref_or_object(const shobj_value *v)
{
    return v->reserved == MARK_REF || v->type == SHOBJ_OBJECT;
}

/* A copy with all its text in an obstack; refs become None, unless they are to be kept. */
static shobj_value copy_value(struct obstack *to, const shobj_value *from, bool keep_refs)
{
    shobj_value v = *from;
    if (is_ref(&v) && !keep_refs)
        return (shobj_value){.type = SHOBJ_NONE};
    if (is_sequence(&v) && v.count > 0) {
        shobj_value *items = obstack_alloc(to, v.count * sizeof(shobj_value));
        for (size_t i = 0; i < v.count; i++)
            items[i] = copy_value(to, &from->items[i], keep_refs);
        v.items = items;
    } else if ((v.type == SHOBJ_STR || v.type == SHOBJ_BYTES || v.type == SHOBJ_BIGINT) && v.count > 0) {
        v.data = obstack_copy(to, v.data, v.count);
    }
    return v;
}

/* ---- containers */

/* Notes which places of a new container hold refs, and puts None there. */
static int note_refs(loader *l, shobj_oid container, bool is_dict, const shobj_value *values, size_t count)
{
    for (size_t i = is_dict ? 1 : 0; i < count; i += is_dict ? 2 : 1) {
        if (!holds(&values[i], is_ref))
            continue;
        if (!grow(l, (void **)&l->mends, l->mend_count, &l->mend_room, sizeof(mend)))
            return 0;
        mend *m = &l->mends[l->mend_count++];
        *m = (mend){.container = container, .is_dict = is_dict, .index = (int64_t)i};
        m->value = copy_value(&l->kept, &values[i], true);
        if (is_dict)
            m->key = copy_value(&l->kept, &values[i - 1], true);
    }
    return 1;
}

static int fill_root(loader *l, const shobj_value *values, size_t count)
{
    shobj_oid root = shobj_root(l->store);
    int rc = shobj_dict_clear(l->store, root);
    for (size_t i = 0; i < count && rc == 0; i += 2) {
        shobj_key key;
        rc = shobj_key_init(l->store, &values[i], &key);
        if (rc == 0)
            rc = shobj_dict_set(l->store, root, &key, &values[i + 1]);
    }
    return rc;
}

/* Makes an object of values; those that hold refs are copied first, with None for them. */
static int make_container(loader *l, bool is_dict, const shobj_value *values, size_t count, bool has_ref, bool is_root,
                          shobj_value *ret)
{
    shobj_value *plain = NULL;
    if (has_ref) {
        plain = malloc((count + 1) * sizeof(shobj_value));
        if (plain == NULL)
            return no_memory(l);
        for (size_t i = 0; i < count; i++)
            plain[i] = copy_value(&l->kept, &values[i], false);
    }
    const shobj_value *from = has_ref ? plain : values;
    shobj_oid oid = shobj_root(l->store);
    int rc = is_root   ? fill_root(l, from, count)
             : is_dict ? shobj_dict_new(l->store, (const shobj_item *)from, count / 2, &oid)
                       : shobj_list_new(l->store, from, count, &oid);
    free(plain);
    if (rc < 0)
        return stop_store(l, rc);
    *ret = (shobj_value){.type = SHOBJ_OBJECT, .kind = is_dict ? SHOBJ_KIND_DICT : SHOBJ_KIND_LIST, .oid = oid};
    return !has_ref || note_refs(l, oid, is_dict, values, count);
}

/* A raw array becomes a list after all, and so do raw ones inside. */
static int make_raw_list(loader *l, shobj_value *v)
{
    if (v->reserved != MARK_RAW)
        return 1;
    shobj_value *items = obstack_alloc(&l->text, (v->count + 1) * sizeof(shobj_value));
    bool has_ref = false;
    for (size_t i = 0; i < v->count; i++) {
        items[i] = v->items[i];
        if (!make_raw_list(l, &items[i]))
            return 0;
        has_ref = has_ref || holds(&items[i], is_ref);
    }
    return make_container(l, false, items, v->count, has_ref, false, v);
}

/* ---- tags */

static bool text_is(const shobj_value *v, const char *text)
{
    return v->type == SHOBJ_STR && v->reserved == MARK_NONE && v->count == strlen(text) &&
           memcmp(v->data, text, v->count) == 0;
}

static bool takes_array(const shobj_value *key)
{
    return text_is(key, "$tuple") || text_is(key, "$set") || text_is(key, "$dict") || text_is(key, "$complex");
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
        return stop_at(l, what);
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

static int tag_complex(loader *l, shobj_value *v)
{
    double c[2];
    if (v->reserved != MARK_RAW || v->count != 2 || !read_float(&v->items[0], &c[0]) ||
        !read_float(&v->items[1], &c[1]))
        return stop_at(l, "$complex takes an array of two numbers (--plain loads it as a dict)");
    *v = (shobj_value){.type = SHOBJ_COMPLEX, .c = {c[0], c[1]}};
    return 1;
}

typedef struct set_text {
    char *text;
    size_t bytes, room;
} set_text;

static int write_set(const char *text, size_t bytes, void *arg)
{
    set_text *s = arg;
    if (s->bytes + bytes + 1 > s->room) {
        size_t room = 2 * s->room + bytes + 256;
        char *larger = realloc(s->text, room);
        if (larger == NULL)
            return SHOBJ_ENOMEM;
        s->text = larger;
        s->room = room;
    }
    memcpy(s->text + s->bytes, text, bytes);
    s->bytes += bytes;
    s->text[s->bytes] = '\0';
    return 0;
}

/* A frozenset holds no equal elements; the reader of literals knows which are equal: 1, 1.0 and true. */
static int tag_set(loader *l, shobj_value *v)
{
    if (v->reserved != MARK_RAW)
        return stop_at(l, "$set takes an array (--plain loads it as a dict)");
    if (holds(v, is_ref_or_object))
        return stop_at(l, "a frozenset can't hold a dict or list");
    *v = (shobj_value){.type = SHOBJ_FROZENSET, .items = v->items, .count = v->count};
    set_text literal = {0};
    shobj_value distinct = {0};
    void *memory = NULL;
    int rc = shobj_render(NULL, v, SHOBJ_FORM_LITERAL, 0, 0, write_set, &literal);
    if (rc == 0)
        rc = shobj_literal_parse(literal.text, &distinct, &memory);
    size_t count = distinct.count;
    free(literal.text);
    free(memory);
    if (rc < 0)
        return stop_store(l, rc);
    return count == v->count ? 1 : stop_at(l, "two elements of this $set are equal");
}

static int tag_dict(loader *l, shobj_value *v)
{
    bool is_good = v->reserved == MARK_RAW;
    for (size_t i = 0; is_good && i < v->count; i++)
        is_good = v->items[i].reserved == MARK_RAW && v->items[i].count == 2;
    if (!is_good)
        return stop_at(l, "$dict takes an array of [key, value] arrays (--plain loads it as a dict)");
    shobj_value *pairs = malloc((2 * v->count + 1) * sizeof(shobj_value));
    if (pairs == NULL)
        return no_memory(l);
    bool has_ref = false;
    size_t count = 2 * v->count;
    int ok = 1;
    for (size_t i = 0; i < v->count && ok; i++) {
        pairs[2 * i] = v->items[i].items[0];
        pairs[2 * i + 1] = v->items[i].items[1];
        has_ref = has_ref || holds(&pairs[2 * i + 1], is_ref);
        if (holds(&pairs[2 * i], is_ref_or_object))
            ok = stop_at(l, "a dict or list can't be a key");
    }
    if (ok)
        ok = make_container(l, true, pairs, count, has_ref, l->into_root && l->depth == 1, v);
    free(pairs);
    return ok;
}

/* A dict with one key: *ret_is_tag tells whether it was a tag, *v is then its value. */
static int apply_tag(loader *l, const shobj_value *key, shobj_value *v, bool *ret_is_tag)
{
    *ret_is_tag = true;
    if (text_is(key, "$bytes"))
        return tag_base64(l, "$bytes", SHOBJ_BYTES, v);
    if (text_is(key, "$str"))
        return tag_base64(l, "$str", SHOBJ_STR, v);
    if (text_is(key, "$complex"))
        return tag_complex(l, v);
    if (text_is(key, "$set"))
        return tag_set(l, v);
    if (text_is(key, "$dict"))
        return tag_dict(l, v);
    if (text_is(key, "$tuple")) {
        if (v->reserved != MARK_RAW)
            return stop_at(l, "$tuple takes an array (--plain loads it as a dict)");
        v->reserved = MARK_NONE;
        return 1;
    }
    if (text_is(key, "$float")) {
        double f;
        if (!read_float(v, &f))
            return stop_at(l, "$float takes \"nan\", \"inf\", \"-inf\" or 16 hex digits (--plain loads it as a dict)");
        *v = (shobj_value){.type = SHOBJ_FLOAT, .f = f};
        return 1;
    }
    if (text_is(key, "$ref")) {
        if (v->type != SHOBJ_STR || v->reserved != MARK_NONE || (v->count > 0 && *(const char *)v->data != '/'))
            return stop_at(l, "$ref takes the path of an object in this dump (--plain loads it as a dict)");
        v->reserved = MARK_REF;
        return 1;
    }
    *ret_is_tag = false;
    return 1;
}

/* ---- events */

static frame *top(loader *l)
{
    return &l->frames[l->depth - 1];
}

/* JSON Lines: each value on lines of its own. To be called where a value at the top begins. */
static int begin_top(loader *l)
{
    uint64_t line;
    uint64_t column;
    if (l->depth > 0 || l->count == 0)
        return 1;
    json_place(l->reader, &line, &column);
    if (line == l->end_line)
        return stop_at(l, "more text behind the value; JSON Lines take one value on each line");
    return 1;
}

static int push(loader *l, const shobj_value *v)
{
    if (!begin_top(l) || !grow(l, (void **)&l->values, l->count, &l->room, sizeof(shobj_value)))
        return 0;
    l->values[l->count++] = *v;
    l->load->value_count++;
    if (l->depth == 0) {
        uint64_t column;
        json_place(l->reader, &l->end_line, &column);
    }
    return 1;
}

static int push_frame(loader *l, bool is_dict)
{
    /* And for the value that the container will be. */
    if (!begin_top(l) || !grow(l, (void **)&l->frames, l->depth, &l->frame_room, sizeof(frame)) ||
        !grow(l, (void **)&l->values, l->count, &l->room, sizeof(shobj_value)))
        return 0;
    frame f = {.from = l->count, .memory = obstack_alloc(&l->text, 1), .is_dict = is_dict};
    if (l->depth > 0 && !is_dict && !l->load->is_plain) {
        const frame *outer = top(l);
        bool is_first = outer->is_dict && l->count - outer->from == 1;
        f.is_raw = outer->has_raw || (is_first && takes_array(&l->values[outer->from]));
        f.has_raw = is_first && text_is(&l->values[outer->from], "$dict");
    }
    l->frames[l->depth++] = f;
    return 1;
}

static int on_null(void *arg)
{
    return push(arg, &(shobj_value){.type = SHOBJ_NONE});
}

static int on_boolean(void *arg, int is_true)
{
    return push(arg, &(shobj_value){.type = SHOBJ_BOOL, .i = is_true != 0});
}

static int on_string(void *arg, const unsigned char *text, size_t bytes)
{
    loader *l = arg;
    shobj_value v = {.type = SHOBJ_STR, .count = bytes};
    v.data = obstack_copy(&l->text, text, bytes);
    return push(l, &v);
}

/* An integer of any size. */
static int push_integer(loader *l, const char *text, size_t bytes)
{
    shobj_value v = {.type = SHOBJ_INT};
    bool negative = text[0] == '-';
    if (bytes <= 18) {
        for (size_t i = negative; i < bytes; i++)
            v.i = 10 * v.i + (text[i] - '0');
        v.i = negative ? -v.i : v.i;
        return push(l, &v);
    }
    void *memory = NULL;
    int rc = shobj_literal_parse(obstack_copy0(&l->text, text, bytes), &v, &memory);
    if (rc < 0)
        return stop_store(l, rc);
    v = copy_value(&l->text, &v, true);
    free(memory);
    return push(l, &v);
}

static int on_number(void *arg, const char *text, size_t bytes)
{
    loader *l = arg;
    bool is_float = false;
    for (size_t i = 0; i < bytes; i++)
        is_float = is_float || text[i] == '.' || text[i] == 'e' || text[i] == 'E';
    if (!is_float)
        return push_integer(l, text, bytes);
    shobj_value v = {.type = SHOBJ_FLOAT, .f = strtod(obstack_copy0(&l->text, text, bytes), NULL)};
    if (isinf(v.f))
        return stop_at(l, "this number is too large for a float");
    return push(l, &v);
}

static int on_start_map(void *arg)
{
    return push_frame(arg, true);
}

static int on_start_array(void *arg)
{
    return push_frame(arg, false);
}

static int on_map_key(void *arg, const unsigned char *text, size_t bytes)
{
    loader *l = arg;
    const frame *f = top(l);
    /* A second key: what came first was no tag. */
    if (l->count - f->from == 2 && !make_raw_list(l, &l->values[f->from + 1]))
        return 0;
    if (!grow(l, (void **)&l->values, l->count, &l->room, sizeof(shobj_value)))
        return 0;
    shobj_value key = {.type = SHOBJ_STR, .count = bytes};
    key.data = obstack_copy(&l->text, text, bytes);
    l->values[l->count++] = key;
    return 1;
}

/* Ends the innermost frame with its one value. The text below an object is done with. */
static int end_frame(loader *l, const shobj_value *v)
{
    frame f = *top(l);
    l->depth--;
    l->count = f.from;
    if (v->type == SHOBJ_OBJECT)
        obstack_free(&l->text, f.memory);
    else if (l->depth > 0)
        top(l)->has_ref = top(l)->has_ref || holds(v, is_ref);
    l->values[l->count++] = *v;
    l->load->value_count++;
    if (l->depth == 0) {
        uint64_t column;
        json_place(l->reader, &l->end_line, &column);
    }
    return 1;
}

static int on_end_map(void *arg)
{
    loader *l = arg;
    const frame *f = top(l);
    shobj_value *values = l->values + f->from;
    size_t count = l->count - f->from;
    if (count == 2 && !l->load->is_plain) {
        shobj_value v = values[1];
        bool is_tag;
        if (!apply_tag(l, &values[0], &v, &is_tag))
            return 0;
        if (is_tag)
            return end_frame(l, &v);
    }
    shobj_value dict;
    if (!make_container(l, true, values, count, f->has_ref, l->into_root && l->depth == 1, &dict))
        return 0;
    return end_frame(l, &dict);
}

static int on_end_array(void *arg)
{
    loader *l = arg;
    const frame *f = top(l);
    const shobj_value *values = l->values + f->from;
    size_t count = l->count - f->from;
    shobj_value v;
    if (f->is_raw) {
        v = (shobj_value){.type = SHOBJ_TUPLE, .reserved = MARK_RAW, .count = count};
        v.items = obstack_copy(&l->text, values, count * sizeof(shobj_value));
    } else if (!make_container(l, false, values, count, f->has_ref, false, &v)) {
        return 0;
    }
    return end_frame(l, &v);
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_start_map,
    .yajl_map_key = on_map_key,
    .yajl_end_map = on_end_map,
    .yajl_start_array = on_start_array,
    .yajl_end_array = on_end_array,
};

/* ---- the end: refs */

static int fail_ref(loader *l, const shobj_value *ref, const char *what)
{
    snprintf(l->load->error, sizeof(l->load->error), "{\"$ref\": \"%.*s\"}: %s (--plain loads it as a dict)",
             (int)(ref->count < 200 ? ref->count : 200), (const char *)ref->data, what);
    return SHOBJ_EINVAL;
}

/* The object at a path below the value that was loaded. */
static int resolve(loader *l, const shobj_value *loaded, const shobj_value *ref, shobj_value *ret)
{
    char *path = malloc(ref->count + 32);
    if (path == NULL)
        return SHOBJ_ENOMEM;
    memcpy(path, ref->data, ref->count);
    path[ref->count] = '\0';
    shobj_value at = *loaded;
    char *rest = path;
    while (at.type == SHOBJ_TUPLE && *rest == '/') {
        char *end;
        unsigned long long index = strtoull(rest + 1, &end, 10);
        if (end == rest + 1 || (*end != '/' && *end != '\0') || index >= at.count)
            break;
        shobj_value item = at.items[index];
        at = item;
        rest = end;
    }
    int rc = 0;
    if (at.type == SHOBJ_OBJECT) {
        char *address = malloc(ref->count + 32);
        if (address != NULL) {
            sprintf(address, "@%016" PRIx64 "%s", at.oid, rest);
            rc = shobj_path_get(l->store, address, &at);
        } else {
            rc = SHOBJ_ENOMEM;
        }
        free(address);
    }
    free(path);
    if (rc == SHOBJ_ENOTFOUND || rc == SHOBJ_ETYPE || rc == SHOBJ_EINVAL)
        return fail_ref(l, ref, "there is nothing at this path of the input");
    if (rc == 0 && (at.type != SHOBJ_OBJECT || is_ref(&at)))
        return fail_ref(l, ref, "what is at this path is no dict or list, which alone can be shared");
    *ret = at;
    return rc;
}

/* Puts the objects where the refs are; the copy lies in l->kept. */
static int substitute(loader *l, const shobj_value *loaded, shobj_value *v)
{
    if (is_ref(v))
        return resolve(l, loaded, v, v);
    int rc = 0;
    if (is_sequence(v) && holds(v, is_ref)) {
        shobj_value *items = obstack_copy(&l->kept, v->items, v->count * sizeof(shobj_value));
        for (size_t i = 0; i < v->count && rc == 0; i++)
            rc = substitute(l, loaded, &items[i]);
        v->items = items;
    }
    return rc;
}

static int mend_place(loader *l, const shobj_value *loaded, mend *m)
{
    int rc = substitute(l, loaded, &m->value);
    if (rc < 0 || !m->is_dict)
        return rc < 0 ? rc : shobj_list_set(l->store, m->container, m->index, &m->value);
    shobj_key key;
    rc = shobj_key_init(l->store, &m->key, &key);
    return rc < 0 ? rc : shobj_dict_set(l->store, m->container, &key, &m->value);
}

/* ---- the whole */

/* The one value that goes into the store. */
static int take_value(loader *l, shobj_value *ret)
{
    json_load *load = l->load;
    if (!load->is_lines && l->count == 0) {
        snprintf(load->error, sizeof(load->error), "there is no JSON in the input");
        return SHOBJ_EINVAL;
    }
    if (!load->is_lines && l->count == 1) {
        *ret = l->values[0];
    } else {
        bool has_ref = false;
        for (size_t i = 0; i < l->count; i++)
            has_ref = has_ref || holds(&l->values[i], is_ref);
        if (!l->into_root && !make_container(l, false, l->values, l->count, has_ref, false, ret))
            return l->rc;
        if (l->into_root)
            *ret = (shobj_value){.type = SHOBJ_NONE};
    }
    if (l->into_root && (ret->type != SHOBJ_OBJECT || ret->oid != shobj_root(l->store))) {
        snprintf(load->error, sizeof(load->error), "the root is a dict: load one dict there, or load into STORE:/KEY");
        return SHOBJ_EINVAL;
    }
    return 0;
}

static int load_all(loader *l)
{
    shobj_oid container;
    enum shobj_kind kind;
    shobj_value step;
    shobj_value value;
    char error[256];
    /* A path that can't be set should not wait for the whole input. */
    int rc = l->into_root ? 0 : shobj_path_parent(l->store, l->load->path, &container, &kind, &step);
    if (rc < 0)
        return rc;
    rc = json_read(l->load->input, &callbacks, l, &l->reader, error);
    if (rc < 0) {
        snprintf(l->load->error, sizeof(l->load->error), "%s", error);
        return SHOBJ_EINVAL;
    }
    if (rc > 0)
        return l->rc;
    rc = take_value(l, &value);
    shobj_value loaded = value;
    for (size_t i = 0; i < l->mend_count && rc == 0; i++)
        rc = mend_place(l, &loaded, &l->mends[i]);
    if (rc == 0)
        rc = substitute(l, &loaded, &value);
    if (rc == 0 && !l->into_root)
        rc = shobj_path_set(l->store, l->load->path, &value);
    return rc;
}

int json_load_body(shobj_store *store, void *arg)
{
    loader l = {.load = arg, .store = store};
    shobj_value root;
    l.load->error[0] = '\0';
    l.load->value_count = 0;
    int rc = shobj_path_get(store, l.load->path, &root);
    l.into_root = rc == 0 && root.type == SHOBJ_OBJECT && root.oid == shobj_root(store);
    obstack_init(&l.text);
    obstack_init(&l.kept);
    rc = load_all(&l);
    obstack_free(&l.text, NULL);
    obstack_free(&l.kept, NULL);
    free(l.values);
    free(l.frames);
    free(l.mends);
    return rc;
}
