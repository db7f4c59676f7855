/*
 * render.c: the text of a value and all below it, as Python literals, as plain JSON, or as exact JSON (a dump).
 *
 * The walk keeps its own stack of frames, one per container that is open, so that depth costs memory and no C stack. A
 * frame reads its container in batches. If a batch refers to objects, their reading would overwrite it: it is copied
 * first; most batches are plain values and are written from where the store put them.
 *
 *   frames   [ dict: entries 32..63, at 40 ] [ list: 0..63, at 7 ] [ tuple: at 1 ]
 *   writing      "/key40"                        "/7"                  "/1"         = the path of what comes next
 *
 * Every object met is noted by its id, with the way to it from the object around it. While its frame is open, meeting it
 * again would never end: literals show [...] or {...}, JSON a {"$ref": id}. A dump refers to every object that it has
 * written already by the path of its first place, {"$ref": "/key40/7"}, so that sharing and cycles are kept.
 *
 * The dump's tags: {"$bytes": base64}, {"$tuple": [...]}, {"$set": [...]} (a frozenset), {"$dict": [[key, value], ...]} (a
 * dict with a key that is no plain str, or begins with '$'), {"$float": "nan"|"inf"|"-inf"|16 hex digits of the bits},
 * {"$complex": [real, imaginary]}, {"$str": base64 of the UTF-8} (a str with surrogates, which JSON can't tell apart).
 */
#include "api/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

#define BATCH_MAX 32

enum shape { SHAPE_DICT, SHAPE_PAIRS, SHAPE_LIST, SHAPE_TUPLE, SHAPE_FROZENSET };

typedef struct frame {
    enum shape shape;
    bool is_written;   /* at least one item */
    bool is_open_pair; /* of $dict: a key is written, and its value on the way */
    shobj_oid oid;     /* 0: a tuple or frozenset */
    size_t place;      /* of an object: its number among those met */
    shobj_dict_iter iter;
    uint64_t index; /* of the next item: list, tuple, frozenset */
    const char *close;
    /* The batch: items of a dict or values of the others, [next, count) still to be written. */
    shobj_item *items;
    const shobj_value *values;
    size_t next, count;
    void *copied, *memory; /* what the frame owns of the batch */
} frame;

/* An object that was met, for refs: its way is that of the object around it, then text[way, way + way_bytes). */
typedef struct place {
    shobj_oid oid;
    size_t parent; /* place of the object around it; its own for the first */
    size_t way, way_bytes;
    bool is_open;
} place;

typedef struct renderer {
    shobj_store *store;
    enum shobj_form form;
    unsigned indent;
    unsigned depth_max;
    sho_sink sink;

    frame *frames;
    size_t frame_count, frame_room;

    place *places;
    size_t place_count, place_room;
    uint32_t *table; /* open addressing: place + 1 by oid */
    size_t table_room;
    char *ways;
    size_t ways_bytes, ways_room;

    shobj_item batch[BATCH_MAX];
} renderer;

static int no_memory(void)
{
    return sho_error(SHOBJ_ENOMEM, "rendering a value: out of memory");
}

/* Makes room for `need` elements of `bytes` each. */
static int grow(void **array, size_t *room, size_t need, size_t bytes)
{
    if (need <= *room)
        return 0;
    size_t larger = *room == 0 ? 16 : 2 * *room;
    while (larger < need)
        larger *= 2;
    void *moved = realloc(*array, larger * bytes);
    if (moved == NULL)
        return no_memory();
    *array = moved;
    *room = larger;
    return 0;
}

/* ---- objects met */

static size_t table_slot(const renderer *r, shobj_oid oid)
{
    uint64_t hash = oid * 0x9e3779b97f4a7c15u;
    size_t slot = (size_t)(hash >> 20) & (r->table_room - 1);
    while (r->table[slot] != 0 && r->places[r->table[slot] - 1].oid != oid)
        slot = (slot + 1) & (r->table_room - 1);
    return slot;
}

static int table_grow(renderer *r)
{
    size_t room = r->table_room == 0 ? 64 : 2 * r->table_room;
    uint32_t *table = calloc(room, sizeof(uint32_t));
    if (table == NULL || room > UINT32_MAX) {
        free(table);
        return no_memory();
    }
    free(r->table);
    r->table = table;
    r->table_room = room;
    for (size_t i = 0; i < r->place_count; i++)
        r->table[table_slot(r, r->places[i].oid)] = (uint32_t)(i + 1);
    return 0;
}

/* Adds the step that the frame is at to the ways. */
static int add_step(renderer *r, const frame *f)
{
    char number[24];
    const shobj_value *key = f->items != NULL ? &f->items[f->next - 1].key : NULL;
    size_t bytes = key != NULL ? shobj_path_step(key, NULL, 0)
                               : (size_t)snprintf(number, sizeof(number), "%" PRIu64, f->index - 1);
    int rc = grow((void **)&r->ways, &r->ways_room, r->ways_bytes + bytes + 2, 1);
    if (rc < 0)
        return rc;
    char *at = r->ways + r->ways_bytes;
    *at++ = '/';
    if (key != NULL)
        shobj_path_step(key, at, bytes + 1);
    else
        memcpy(at, number, bytes);
    r->ways_bytes += bytes + 1;
    return 0;
}

/* The place of an object; *ret_is_new if it was met for the first time. */
static int note_object(renderer *r, shobj_oid oid, size_t *ret_place, bool *ret_is_new)
{
    if (2 * (r->place_count + 1) > r->table_room) {
        int rc = table_grow(r);
        if (rc < 0)
            return rc;
    }
    size_t slot = table_slot(r, oid);
    *ret_is_new = r->table[slot] == 0;
    if (!*ret_is_new) {
        *ret_place = r->table[slot] - 1;
        return 0;
    }
    int rc = grow((void **)&r->places, &r->place_room, r->place_count + 1, sizeof(place));
    if (rc < 0)
        return rc;
    place p = {.oid = oid, .parent = r->place_count, .way = r->ways_bytes};
    if (r->form == SHOBJ_FORM_DUMP) {
        /* From the innermost object, through the tuples inside it. */
        size_t first = r->frame_count;
        while (first > 0 && (first == r->frame_count || r->frames[first].oid == 0))
            first--;
        for (size_t i = first; i < r->frame_count; i++) {
            rc = add_step(r, &r->frames[i]);
            if (rc < 0)
                return rc;
        }
        if (r->frame_count > 0 && r->frames[first].oid != 0)
            p.parent = r->frames[first].place;
        p.way_bytes = r->ways_bytes - p.way;
    }
    *ret_place = r->place_count;
    r->places[r->place_count++] = p;
    r->table[slot] = (uint32_t)r->place_count;
    return 0;
}

/* Writes {"$ref": "/the/path"}. */
static int put_ref(renderer *r, size_t index)
{
    size_t bytes = 0;
    for (size_t i = index;; i = r->places[i].parent) {
        bytes += r->places[i].way_bytes;
        if (r->places[i].parent == i)
            break;
    }
    char *path = malloc(bytes + 1);
    if (path == NULL)
        return no_memory();
    char *at = path + bytes;
    for (size_t i = index;; i = r->places[i].parent) {
        const place *p = &r->places[i];
        at -= p->way_bytes;
        if (p->way_bytes > 0)
            memcpy(at, r->ways + p->way, p->way_bytes);
        if (p->parent == i)
            break;
    }
    sho_sink_puts(&r->sink, "{\"$ref\": ");
    sho_json_str_put(&r->sink, path, bytes);
    sho_sink_putc(&r->sink, '}');
    free(path);
    return 0;
}

/* ---- frames */

static frame *top(renderer *r)
{
    return &r->frames[r->frame_count - 1];
}

static void drop_batch(frame *f)
{
    free(f->copied);
    free(f->memory);
    f->copied = NULL;
    f->memory = NULL;
    f->next = 0;
    f->count = 0;
}

/* Whether a dict can be written as a JSON object in a dump. */
static bool is_plain_key(const shobj_value *key)
{
    const char *text = key->data;
    return key->type == SHOBJ_STR && (key->count == 0 || text[0] != '$') && !sho_utf8_has_surrogate(text, key->count);
}

static int choose_dict_shape(renderer *r, shobj_oid oid, enum shape *ret_shape)
{
    shobj_dict_iter iter;
    shobj_dict_iter_init(&iter, oid, false);
    size_t count;
    do {
        int rc = shobj_dict_iter_next(r->store, &iter, r->batch, BATCH_MAX, &count);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < count; i++) {
            if (!is_plain_key(&r->batch[i].key)) {
                *ret_shape = SHAPE_PAIRS;
                return 0;
            }
        }
    } while (count > 0);
    *ret_shape = SHAPE_DICT;
    return 0;
}

static void put_break(renderer *r, size_t depth)
{
    if (r->indent == 0)
        return;
    sho_sink_putc(&r->sink, '\n');
    for (size_t i = 0; i < depth * r->indent; i++)
        sho_sink_putc(&r->sink, ' ');
}

/* The brackets of a container: what opens it, and what closes it when it holds `count` items (lists and dicts: any). */
static void brackets(const renderer *r, enum shape shape, size_t count, const char **ret_open, const char **ret_close)
{
    static const char *const dump[][2] = {
        {"{", "}"}, {"{\"$dict\": [", "]}"}, {"[", "]"}, {"{\"$tuple\": [", "]}"}, {"{\"$set\": [", "]}"}};
    static const char *const plain[][2] = {{"{", "}"}, {"{", "}"}, {"[", "]"}, {"[", "]"}, {"[", "]"}};
    static const char *const literal[][2] = {{"{", "}"}, {"{", "}"}, {"[", "]"}, {"(", ")"}, {"frozenset({", "})"}};
    const char *const *pair = r->form == SHOBJ_FORM_DUMP   ? dump[shape]
                              : r->form == SHOBJ_FORM_JSON ? plain[shape]
                                                           : literal[shape];
    *ret_open = pair[0];
    *ret_close = pair[1];
    if (r->form == SHOBJ_FORM_LITERAL && shape == SHAPE_FROZENSET && count == 0) {
        *ret_open = "frozenset(";
        *ret_close = ")";
    }
}

static int push(renderer *r, const shobj_value *v, enum shape shape, size_t place_index)
{
    int rc = grow((void **)&r->frames, &r->frame_room, r->frame_count + 1, sizeof(frame));
    if (rc < 0)
        return rc;
    frame f = {.shape = shape, .place = place_index};
    const char *open;
    size_t count = 0;
    if (v->type == SHOBJ_OBJECT) {
        f.oid = v->oid;
        shobj_dict_iter_init(&f.iter, v->oid, false);
    } else {
        /* All of it is one batch, in the memory of the batch around it. */
        count = v->count;
        f.values = v->items;
        f.count = v->count;
    }
    brackets(r, shape, count, &open, &f.close);
    sho_sink_puts(&r->sink, open);
    r->frames[r->frame_count++] = f;
    return 0;
}

static void pop(renderer *r)
{
    frame *f = top(r);
    if (r->form == SHOBJ_FORM_LITERAL && f->shape == SHAPE_TUPLE && f->index == 1)
        sho_sink_putc(&r->sink, ',');
    if (f->is_written)
        put_break(r, r->frame_count - 1);
    sho_sink_puts(&r->sink, f->close);
    if (f->oid != 0)
        r->places[f->place].is_open = false;
    drop_batch(f);
    r->frame_count--;
}

static bool batch_has_object(const frame *f)
{
    for (size_t i = 0; i < f->count; i++) {
        if (sho_value_has_object(f->items != NULL ? &f->items[i].value : &f->values[i]))
            return true;
    }
    return false;
}

/* Makes the batch the frame's own. A dict's items are an array of twice as many values. */
static int keep_batch(frame *f)
{
    _Static_assert(sizeof(shobj_item) == 2 * sizeof(shobj_value), "an item is two values");
    size_t count = f->items != NULL ? 2 * f->count : f->count;
    const shobj_value *from = f->items != NULL ? (const shobj_value *)f->items : f->values;
    shobj_value *to = malloc(count * sizeof(shobj_value));
    if (to == NULL)
        return no_memory();
    f->copied = to;
    int rc = sho_values_copy(from, count, to, &f->memory);
    if (f->items != NULL)
        f->items = (shobj_item *)to;
    else
        f->values = to;
    return rc;
}

/* Reads the next entries of an object. f->count is 0 at the end. */
static int read_batch(renderer *r, frame *f)
{
    int rc;
    drop_batch(f);
    if (f->oid == 0)
        return 0;
    if (f->shape == SHAPE_LIST) {
        shobj_value *values = (shobj_value *)r->batch;
        f->values = values;
        rc = shobj_list_read(r->store, f->oid, f->index, values, 2 * BATCH_MAX, &f->count);
    } else {
        f->items = r->batch;
        rc = shobj_dict_iter_next(r->store, &f->iter, r->batch, BATCH_MAX, &f->count);
    }
    if (rc < 0) {
        f->count = 0;
        return rc;
    }
    return batch_has_object(f) ? keep_batch(f) : 0;
}

/* ---- the walk */

static int fail_without_store(shobj_oid oid)
{
    return sho_error(SHOBJ_EINVAL, "rendering object @%016" PRIx64 ": this takes its store", oid);
}

/* What the store gave out tells its kind; what came from the caller is looked up. Without a store nothing is read: objects
 * then can be told by the kind they carry, and not be opened. */
static int object_kind(const renderer *r, const shobj_value *v, enum shobj_kind *ret_kind)
{
    *ret_kind = (enum shobj_kind)v->kind;
    if (*ret_kind != SHOBJ_KIND_NONE)
        return 0;
    if (r->store == NULL)
        return fail_without_store(v->oid);
    return shobj_object(r->store, v->oid, ret_kind, NULL);
}

/* The caller's values are a copy here. */
static void forget_kinds(shobj_value *v)
{
    if (v->type == SHOBJ_OBJECT)
        v->kind = SHOBJ_KIND_NONE;
    for (size_t i = 0; (v->type == SHOBJ_TUPLE || v->type == SHOBJ_FROZENSET) && i < v->count; i++)
        forget_kinds((shobj_value *)&v->items[i]);
}

static int put_object(renderer *r, const shobj_value *v)
{
    enum shobj_kind kind;
    int rc = object_kind(r, v, &kind);
    if (rc < 0)
        return rc;
    bool is_dict = kind == SHOBJ_KIND_DICT;
    if (!is_dict && kind != SHOBJ_KIND_LIST)
        return sho_error(SHOBJ_ETYPE, "rendering object @%016" PRIx64 ": it is neither dict nor list", v->oid);
    if (r->depth_max > 0 && r->frame_count >= r->depth_max) {
        sho_sink_puts(&r->sink, r->form != SHOBJ_FORM_LITERAL ? "\"...\"" : is_dict ? "{...}" : "[...]");
        return 0;
    }
    if (r->store == NULL)
        return fail_without_store(v->oid);
    size_t index;
    bool is_new;
    rc = note_object(r, v->oid, &index, &is_new);
    if (rc < 0)
        return rc;
    if (!is_new && r->form == SHOBJ_FORM_DUMP)
        return put_ref(r, index);
    if (r->places[index].is_open) {
        if (r->form == SHOBJ_FORM_LITERAL) {
            sho_sink_puts(&r->sink, is_dict ? "{...}" : "[...]");
        } else {
            char text[64];
            snprintf(text, sizeof(text), "{\"$ref\": \"@%016" PRIx64 "\"}", v->oid);
            sho_sink_puts(&r->sink, text);
        }
        return 0;
    }
    enum shape shape = is_dict ? SHAPE_DICT : SHAPE_LIST;
    if (is_dict && r->form == SHOBJ_FORM_DUMP) {
        /* Reads into the batch, which the value may point into. */
        shobj_value object = {.type = SHOBJ_OBJECT, .oid = v->oid};
        rc = choose_dict_shape(r, object.oid, &shape);
        if (rc < 0)
            return rc;
        r->places[index].is_open = true;
        return push(r, &object, shape, index);
    }
    r->places[index].is_open = true;
    return push(r, v, shape, index);
}

static int put_value(renderer *r, const shobj_value *v)
{
    if (v->type == SHOBJ_OBJECT)
        return put_object(r, v);
    if (v->type != SHOBJ_TUPLE && v->type != SHOBJ_FROZENSET)
        return sho_scalar_put(&r->sink, r->form, v);
    bool is_tuple = v->type == SHOBJ_TUPLE;
    if (r->depth_max > 0 && r->frame_count >= r->depth_max) {
        sho_sink_puts(&r->sink, r->form != SHOBJ_FORM_LITERAL ? "\"...\"" : is_tuple ? "(...)" : "frozenset(...)");
        return 0;
    }
    return push(r, v, is_tuple ? SHAPE_TUPLE : SHAPE_FROZENSET, 0);
}

/* Collects text in memory. */
typedef struct text_buffer {
    char *text;
    size_t bytes, room;
} text_buffer;

static int buffer_write(const char *text, size_t bytes, void *arg)
{
    text_buffer *b = arg;
    int rc = grow((void **)&b->text, &b->room, b->bytes + bytes, 1);
    if (rc < 0)
        return rc;
    memcpy(b->text + b->bytes, text, bytes);
    b->bytes += bytes;
    return 0;
}

static int sink_write(const char *text, size_t bytes, void *arg)
{
    sho_sink_put(arg, text, bytes);
    return 0;
}

/* A key as a JSON object has it: a str. */
static int put_name(renderer *r, const shobj_value *key)
{
    if (key->type == SHOBJ_STR) {
        sho_json_str_put(&r->sink, key->data, key->count);
        return 0;
    }
    text_buffer literal = {0};
    int rc = shobj_render(NULL, key, SHOBJ_FORM_LITERAL, 0, 0, buffer_write, &literal);
    if (rc == 0)
        sho_json_str_put(&r->sink, literal.text, literal.bytes);
    free(literal.text);
    return rc;
}

/* Keys hold no objects: a renderer of their own needs no store. */
static int put_key(renderer *r, frame *f, const shobj_value *key)
{
    int rc;
    if (f->shape == SHAPE_PAIRS) {
        sho_sink_putc(&r->sink, '[');
        f->is_open_pair = true;
        rc = shobj_render(NULL, key, r->form, 0, 0, sink_write, &r->sink);
        sho_sink_puts(&r->sink, ", ");
        return rc;
    }
    if (r->form == SHOBJ_FORM_LITERAL)
        rc = shobj_render(NULL, key, r->form, 0, 0, sink_write, &r->sink);
    else if (r->form == SHOBJ_FORM_DUMP && !is_plain_key(key))
        rc =
            sho_error(SHOBJ_ECONFLICT,
                      "dumping dict @%016" PRIx64 ": it changed meanwhile; open a transaction around the dump", f->oid);
    else
        rc = put_name(r, key);
    sho_sink_puts(&r->sink, ": ");
    return rc;
}

/* Writes the next item of the innermost container, or closes it. */
static int step(renderer *r)
{
    frame *f = top(r);
    if (f->is_open_pair)
        sho_sink_putc(&r->sink, ']');
    f->is_open_pair = false;
    if (f->next == f->count) {
        int rc = read_batch(r, f);
        if (rc < 0)
            return rc;
        if (f->count == 0) {
            pop(r);
            return 0;
        }
    }
    if (f->is_written)
        sho_sink_puts(&r->sink, r->indent > 0 ? "," : ", ");
    f->is_written = true;
    put_break(r, r->frame_count);
    size_t i = f->next++;
    f->index++;
    if (f->items == NULL)
        return put_value(r, &f->values[i]);
    int rc = put_key(r, f, &f->items[i].key);
    return rc < 0 ? rc : put_value(r, &f->items[i].value);
}

int shobj_render(shobj_store *store, const shobj_value *value, enum shobj_form form, unsigned indent,
                 unsigned depth_max, int (*write)(const char *text, size_t bytes, void *arg), void *arg)
{
    renderer *r = malloc(sizeof(*r));
    if (r == NULL)
        return no_memory();
    memset(r, 0, offsetof(renderer, batch));
    r->store = store;
    r->form = form;
    r->indent = indent;
    r->depth_max = depth_max;
    sho_sink_init(&r->sink, write, arg);

    /* Reading what the value refers to would overwrite a value that the store gave out. */
    shobj_value copy = *value;
    void *memory = NULL;
    int rc = 0;
    if (sho_value_has_object(value)) {
        rc = sho_values_copy(value, 1, &copy, &memory);
        if (rc == 0 && store != NULL)
            forget_kinds(&copy);
    }
    if (rc == 0)
        rc = put_value(r, &copy);
    while (rc == 0 && r->frame_count > 0 && r->sink.status == 0)
        rc = step(r);
    if (rc == 0)
        rc = sho_sink_flush(&r->sink);

    while (r->frame_count > 0)
        drop_batch(&r->frames[--r->frame_count]);
    free(r->frames);
    free(r->places);
    free(r->table);
    free(r->ways);
    free(memory);
    free(r);
    return rc;
}
