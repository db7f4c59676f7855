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
#include "json_build.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "target.h"

/* ---- errors */

int json_stop(loader *l, int rc)
{
    l->rc = rc;
    return 0;
}

int json_stop_at(loader *l, const char *what)
{
    uint64_t line;
    uint64_t column;
    if (l->reader == NULL) { /* all has been read: it is about the whole */
        snprintf(l->load->error, sizeof(l->load->error), "%s", what);
        return json_stop(l, SHOBJ_EINVAL);
    }
    json_place(l->reader, &line, &column);
    snprintf(l->load->error, sizeof(l->load->error), "line %" PRIu64 ", column %" PRIu64 ": %s", line, column, what);
    return json_stop(l, SHOBJ_EINVAL);
}

int json_stop_store(loader *l, int rc)
{
    return rc == SHOBJ_EINVAL || rc == SHOBJ_ETYPE ? json_stop_at(l, shobj_error_message()) : json_stop(l, rc);
}

int json_no_memory(loader *l)
{
    snprintf(l->load->error, sizeof(l->load->error), "out of memory");
    return json_stop(l, SHOBJ_ENOMEM);
}

int json_grow(loader *l, void **array, size_t count, size_t *room, size_t bytes)
{
    if (count < *room)
        return 1;
    size_t larger = *room == 0 ? 64 : 2 * *room;
    void *moved = realloc(*array, larger * bytes);
    if (moved == NULL)
        return json_no_memory(l);
    *array = moved;
    *room = larger;
    return 1;
}

/* ---- values */

bool json_is_sequence(const shobj_value *v)
{
    return v->type == SHOBJ_TUPLE || v->type == SHOBJ_FROZENSET;
}

bool json_holds(const shobj_value *v, bool (*test)(const shobj_value *))
{
    if (test(v))
        return true;
    for (size_t i = 0; json_is_sequence(v) && i < v->count; i++) {
        if (json_holds(&v->items[i], test))
            return true;
    }
    return false;
}

bool json_is_ref(const shobj_value *v)
{
    return v->reserved == MARK_REF;
}

bool json_is_ref_or_object(const shobj_value *v)
{
    return v->reserved == MARK_REF || v->type == SHOBJ_OBJECT;
}

shobj_value json_copy_value(struct obstack *to, const shobj_value *from, bool keep_refs)
{
    shobj_value v = *from;
    if (json_is_ref(&v) && !keep_refs)
        return (shobj_value){.type = SHOBJ_NONE};
    if (json_is_sequence(&v) && v.count > 0) {
        shobj_value *items = obstack_alloc(to, v.count * sizeof(shobj_value));
        for (size_t i = 0; i < v.count; i++)
            items[i] = json_copy_value(to, &from->items[i], keep_refs);
        v.items = items;
    } else if ((v.type == SHOBJ_STR || v.type == SHOBJ_BYTES || v.type == SHOBJ_BIGINT) && v.count > 0) {
        v.data = obstack_copy(to, v.data, v.count);
    }
    return v;
}

bool json_text_is(const shobj_value *v, const char *text)
{
    return v->type == SHOBJ_STR && v->reserved == MARK_NONE && v->count == strlen(text) &&
           memcmp(v->data, text, v->count) == 0;
}

/* ---- containers */

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
int json_make_container(loader *l, bool is_dict, const shobj_value *values, size_t count, bool has_ref, bool is_root,
                        shobj_value *ret)
{
    shobj_value *plain = NULL;
    if (has_ref) {
        plain = malloc((count + 1) * sizeof(shobj_value));
        if (plain == NULL)
            return json_no_memory(l);
        for (size_t i = 0; i < count; i++)
            plain[i] = json_copy_value(&l->kept, &values[i], false);
    }
    const shobj_value *from = has_ref ? plain : values;
    shobj_oid oid = shobj_root(l->store);
    int rc = is_root   ? fill_root(l, from, count)
             : is_dict ? shobj_dict_new(l->store, (const shobj_item *)from, count / 2, &oid)
                       : shobj_list_new(l->store, from, count, &oid);
    free(plain);
    if (rc < 0)
        return json_stop_store(l, rc);
    *ret = (shobj_value){.type = SHOBJ_OBJECT, .kind = is_dict ? SHOBJ_KIND_DICT : SHOBJ_KIND_LIST, .oid = oid};
    return !has_ref || json_note_refs(l, oid, is_dict, values, count);
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
        has_ref = has_ref || json_holds(&items[i], json_is_ref);
    }
    return json_make_container(l, false, items, v->count, has_ref, false, v);
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
        return json_stop_at(l, "more text behind the value; JSON Lines take one value on each line");
    return 1;
}

static int push(loader *l, const shobj_value *v)
{
    if (!begin_top(l) || !json_grow(l, (void **)&l->values, l->count, &l->room, sizeof(shobj_value)))
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
    if (!begin_top(l) || !json_grow(l, (void **)&l->frames, l->depth, &l->frame_room, sizeof(frame)) ||
        !json_grow(l, (void **)&l->values, l->count, &l->room, sizeof(shobj_value)))
        return 0;
    frame f = {.from = l->count, .memory = obstack_alloc(&l->text, 1), .is_dict = is_dict};
    if (l->depth > 0 && !is_dict && !l->load->is_plain) {
        const frame *outer = top(l);
        bool is_first = outer->is_dict && l->count - outer->from == 1;
        f.is_raw = outer->has_raw || (is_first && json_takes_array(&l->values[outer->from]));
        f.has_raw = is_first && json_text_is(&l->values[outer->from], "$dict");
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
        return json_stop_store(l, rc);
    v = json_copy_value(&l->text, &v, true);
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
        return json_stop_at(l, "this number is too large for a float");
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
    if (!json_grow(l, (void **)&l->values, l->count, &l->room, sizeof(shobj_value)))
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
        top(l)->has_ref = top(l)->has_ref || json_holds(v, json_is_ref);
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
        if (!json_apply_tag(l, &values[0], &v, &is_tag))
            return 0;
        if (is_tag)
            return end_frame(l, &v);
    }
    shobj_value dict;
    if (!json_make_container(l, true, values, count, f->has_ref, l->into_root && l->depth == 1, &dict))
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
    } else if (!json_make_container(l, false, values, count, f->has_ref, false, &v)) {
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
            has_ref = has_ref || json_holds(&l->values[i], json_is_ref);
        if (!l->into_root && !json_make_container(l, false, l->values, l->count, has_ref, false, ret))
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
    shobj_value value;
    char error[256];
    int rc;
    rc = json_read(l->load->input, &callbacks, l, &l->reader, error);
    if (rc < 0) {
        snprintf(l->load->error, sizeof(l->load->error), "%s", error);
        return SHOBJ_EINVAL;
    }
    if (rc > 0)
        return l->rc;
    patience_renew(l->store);
    rc = take_value(l, &value);
    shobj_value loaded = value;
    if (rc == 0)
        rc = json_mend_all(l, &loaded);
    if (rc == 0)
        rc = json_resolve_refs(l, &loaded, &value);
    if (rc == 0 && !l->into_root)
        rc = shobj_path_set(l->store, l->load->path, &value);
    return rc;
}

bool json_is_root(shobj_store *store, const char *path)
{
    shobj_oid oid;
    if (path[0] == '@')
        return shobj_oid_parse(path + 1, &oid) == 0 && oid == shobj_root(store);
    return path[0] == '\0' || strcmp(path, "/") == 0;
}

int json_load_body(shobj_store *store, void *arg)
{
    loader l = {.load = arg, .store = store};
    l.load->error[0] = '\0';
    l.load->value_count = 0;
    l.into_root = json_is_root(store, l.load->path);
    obstack_exit_failure = 6; /* out of memory in an obstack ends the program: the exit code for "full" */
    obstack_init(&l.text);
    obstack_init(&l.kept);
    int rc = load_all(&l);
    obstack_free(&l.text, NULL);
    obstack_free(&l.kept, NULL);
    free(l.values);
    free(l.frames);
    free(l.mends);
    return rc;
}
