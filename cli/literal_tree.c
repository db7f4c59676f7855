/*
 * literal_tree.c: Python literals with lists and dicts in them. See literal_tree.h.
 *
 * Only brackets, commas and colons are read here: [..], {..: ..}, (..). What stands between them is cut out and given to
 * shobj_literal_parse().
 */
#include "literal_tree.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 1000

typedef struct builder {
    shobj_store *store;
    const char *text;
    const char *at;
    literal_memory *memory;
    unsigned depth;
    char *error;
} builder;

typedef struct values {
    shobj_value *items;
    size_t count, room;
} values;

static int build(builder *b, shobj_value *ret);

static int fail_at(builder *b, const char *where, const char *what)
{
    size_t column = 1;
    for (const char *c = b->text; c < where; c++)
        column += ((unsigned char)*c & 0xc0) != 0x80;
    snprintf(b->error, 256, "column %zu: %s", column, what);
    return SHOBJ_EINVAL;
}

static int no_memory(builder *b)
{
    snprintf(b->error, 256, "out of memory");
    return SHOBJ_ENOMEM;
}

/* The block is freed with the memory, or now if it can't be kept. */
static int keep(builder *b, void *block)
{
    literal_memory *m = b->memory;
    if (block == NULL)
        return 0;
    if (m->count == m->room) {
        size_t room = 2 * m->room + 16;
        void **larger = realloc(m->blocks, room * sizeof(void *));
        if (larger == NULL) {
            free(block);
            return no_memory(b);
        }
        m->blocks = larger;
        m->room = room;
    }
    m->blocks[m->count++] = block;
    return 0;
}

void literal_memory_free(literal_memory *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->blocks[i]);
    free(m->blocks);
    *m = (literal_memory){0};
}

static void skip_space(builder *b)
{
    while (*b->at == ' ' || (*b->at >= '\t' && *b->at <= '\r'))
        b->at++;
}

/* The end of a value without containers that stands here: the first ',', ':' or closing bracket outside of strings and
 * of brackets of its own, as in frozenset({1, 2}). */
static const char *plain_end(const char *at)
{
    unsigned depth = 0;
    for (; *at != '\0'; at++) {
        if (*at == '\'' || *at == '"') {
            char quote = *at++;
            for (; *at != '\0' && *at != quote; at++) {
                if (*at == '\\' && at[1] != '\0')
                    at++;
            }
            if (*at == '\0')
                break;
        } else if (strchr("([{", *at) != NULL) {
            depth++;
        } else if (depth > 0 && strchr(")]}", *at) != NULL) {
            depth--;
        } else if (depth == 0 && strchr(",:)]}", *at) != NULL) {
            break;
        }
    }
    return at;
}

static int build_plain(builder *b, shobj_value *ret)
{
    const char *end = plain_end(b->at);
    char *text = strndup(b->at, (size_t)(end - b->at));
    if (text == NULL)
        return no_memory(b);
    void *block = NULL;
    int rc = shobj_literal_parse(text, ret, &block);
    free(text);
    if (rc == 0) {
        b->at = end;
        return keep(b, block);
    }
    /* For the right column: once more, with spaces for all characters before. */
    size_t spaces = 0;
    for (const char *c = b->text; c < b->at; c++)
        spaces += ((unsigned char)*c & 0xc0) != 0x80;
    char *padded = malloc(spaces + (size_t)(end - b->at) + 1);
    if (padded == NULL)
        return no_memory(b);
    memset(padded, ' ', spaces);
    memcpy(padded + spaces, b->at, (size_t)(end - b->at));
    padded[spaces + (size_t)(end - b->at)] = '\0';
    rc = shobj_literal_parse(padded, ret, &block);
    snprintf(b->error, 256, "%s", shobj_error_message());
    free(padded);
    return rc;
}

static int add(builder *b, values *list, const shobj_value *v)
{
    if (list->count == list->room) {
        size_t room = 2 * list->room + 8;
        shobj_value *larger = realloc(list->items, room * sizeof(shobj_value));
        if (larger == NULL)
            return no_memory(b);
        list->items = larger;
        list->room = room;
    }
    list->items[list->count++] = *v;
    return 0;
}

static bool holds_object(const shobj_value *v)
{
    if (v->type == SHOBJ_OBJECT)
        return true;
    for (size_t i = 0; v->type == SHOBJ_TUPLE && i < v->count; i++) {
        if (holds_object(&v->items[i]))
            return true;
    }
    return false;
}

static int add_value(builder *b, values *list)
{
    shobj_value v;
    int rc = build(b, &v);
    return rc < 0 ? rc : add(b, list, &v);
}

/* Key, colon and value. */
static int add_pair(builder *b, values *list)
{
    const char *start = b->at;
    int rc = add_value(b, list);
    if (rc < 0)
        return rc;
    if (holds_object(&list->items[list->count - 1]))
        return fail_at(b, start, "a list or dict can't be a key");
    skip_space(b);
    if (*b->at != ':')
        return fail_at(b, b->at, "a ':' is missing here, between a dict's key and its value");
    b->at++;
    return add_value(b, list);
}

/* What is between brackets, to `close`. *ret_comma: the last thing before it was a comma. */
static int read_items(builder *b, char close, values *ret, bool *ret_comma)
{
    bool comma = true;
    b->at++;
    for (;;) {
        skip_space(b);
        if (*b->at == close)
            break;
        if (*b->at == '\0')
            return fail_at(b, b->at, "the text ends before its closing bracket");
        if (!comma)
            return fail_at(b, b->at, "a ',' is missing here");
        int rc = close == '}' ? add_pair(b, ret) : add_value(b, ret);
        if (rc < 0)
            return rc;
        skip_space(b);
        comma = *b->at == ',';
        if (comma)
            b->at++;
    }
    b->at++;
    *ret_comma = comma;
    return 0;
}

static int build_bracketed(builder *b, shobj_value *ret)
{
    char open = *b->at;
    values list = {0};
    bool comma;
    shobj_oid oid = 0;
    int rc = read_items(b, open == '(' ? ')' : open == '[' ? ']' : '}', &list, &comma);
    if (rc == 0 && open == '(' && list.count == 1 && !comma) {
        *ret = list.items[0];
        free(list.items);
        return 0;
    }
    if (rc == 0 && open == '(') {
        *ret = (shobj_value){.type = SHOBJ_TUPLE, .items = list.items, .count = list.count};
        return keep(b, list.items);
    }
    if (rc == 0)
        rc = open == '[' ? shobj_list_new(b->store, list.items, list.count, &oid)
                         : shobj_dict_new(b->store, (const shobj_item *)list.items, list.count / 2, &oid);
    free(list.items);
    *ret = (shobj_value){.type = SHOBJ_OBJECT, .kind = open == '[' ? SHOBJ_KIND_LIST : SHOBJ_KIND_DICT, .oid = oid};
    return rc;
}

/* Whether a '(' opens a tuple of more than plain values: the others, and sums such as (1+2j), are read as a whole. */
static bool opens_tree(const char *at)
{
    const char *end = plain_end(at);
    for (const char *c = at; c < end; c++) {
        if (*c == '\'' || *c == '"') {
            char quote = *c++;
            for (; c < end && *c != quote; c++)
                c += *c == '\\';
        } else if (*c == '[' || *c == '{') {
            return true;
        }
    }
    return false;
}

static int build(builder *b, shobj_value *ret)
{
    skip_space(b);
    bool is_tree = *b->at == '[' || *b->at == '{' || (*b->at == '(' && opens_tree(b->at));
    if (!is_tree)
        return build_plain(b, ret);
    if (b->depth == DEPTH_MAX)
        return fail_at(b, b->at, "nested too deeply; use load, which takes JSON of any depth");
    b->depth++;
    int rc = build_bracketed(b, ret);
    b->depth--;
    return rc;
}

int literal_tree_build(shobj_store *store, const char *text, shobj_value *ret_value, literal_memory *memory,
                       char error[256])
{
    builder b = {.store = store, .text = text, .at = text, .memory = memory, .error = error};
    error[0] = '\0';
    int rc = build(&b, ret_value);
    skip_space(&b);
    if (rc == 0 && *b.at != '\0')
        rc = fail_at(&b, b.at, "the value ends before this");
    return rc;
}
