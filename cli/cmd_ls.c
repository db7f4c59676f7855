/*
 * cmd_ls.c: ls and tree, on one reader of a container's entries.
 *
 * The reader takes a batch of entries and copies what is to be shown (names, types, short texts) before it asks the store
 * for anything else, since that would overwrite the batch.
 */
#include <inttypes.h>
#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "target.h"

/* ---- entries */

#define BATCH_MAX  32
#define TEXT_BYTES 64 /* of a value's literal in a tree */

typedef struct entry {
    char *name; /* as a path step */
    char text[TEXT_BYTES + 8];
    shobj_value value; /* only its type, kind and id are good */
    bool has_size;
    uint64_t size;
    uint64_t version; /* of objects */
} entry;

typedef struct reader {
    shobj_store *store;
    shobj_value container;
    shobj_dict_iter iter;
    uint64_t index;
    entry *entries; /* the batch */
    size_t count;
} reader;

static void reader_clear(reader *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->entries[i].name);
    free(r->entries);
    r->entries = NULL;
    r->count = 0;
}

static void reader_init(reader *r, shobj_store *store, const shobj_value *container)
{
    *r = (reader){.store = store, .container = *container};
    if (container->type == SHOBJ_OBJECT)
        shobj_dict_iter_init(&r->iter, container->oid, false);
}

static bool is_container(const shobj_value *v)
{
    return v->type == SHOBJ_TUPLE || v->type == SHOBJ_OBJECT;
}

typedef struct short_text {
    char *text;
    size_t bytes;
    bool is_cut;
} short_text;

/* Stops the rendering when the text is long enough. */
static int write_short(const char *text, size_t bytes, void *arg)
{
    short_text *s = arg;
    size_t room = TEXT_BYTES - s->bytes;
    s->is_cut = bytes > room;
    memcpy(s->text + s->bytes, text, s->is_cut ? room : bytes);
    s->bytes += s->is_cut ? room : bytes;
    return s->is_cut;
}

/* The literal of a value, cut to a length. Containers inside it are not opened: nothing is read from the store. */
static void shorten(const shobj_value *value, char ret_text[TEXT_BYTES + 8])
{
    short_text s = {.text = ret_text};
    if (shobj_render(NULL, value, SHOBJ_FORM_LITERAL, 0, 1, write_short, &s) < 0)
        s.is_cut = true;
    while (s.is_cut && s.bytes > 0 && ((unsigned char)ret_text[s.bytes] & 0xc0) == 0x80)
        s.bytes--; /* not in the middle of a character: ret_text[bytes] is its first byte, or behind it */
    snprintf(ret_text + s.bytes, 4, "%s", s.is_cut ? "..." : "");
}

static char *step_of(const shobj_value *key)
{
    size_t bytes = shobj_path_step(key, NULL, 0) + 1;
    char *text = malloc(bytes);
    if (text != NULL)
        shobj_path_step(key, text, bytes);
    return text;
}

static char *step_of_index(uint64_t index)
{
    char *text = malloc(24);
    if (text != NULL)
        snprintf(text, 24, "%" PRIu64, index);
    return text;
}

/* Copies what is shown of one entry; the name is the entry's from here on. */
static int take(reader *r, char *name, const shobj_value *value)
{
    if (name == NULL)
        return SHOBJ_ENOMEM;
    entry *e = &r->entries[r->count++];
    *e = (entry){.name = name, .value = *value};
    if (value->type != SHOBJ_OBJECT)
        shorten(value, e->text);
    return value->type == SHOBJ_OBJECT ? 0 : value_size(r->store, value, &e->has_size, &e->size);
}

static int take_batch(reader *r)
{
    shobj_item items[BATCH_MAX];
    shobj_value *values = (shobj_value *)items;
    const shobj_value *from = values;
    size_t count = 0;
    int rc = 0;
    bool is_dict = r->container.type == SHOBJ_OBJECT && r->container.kind == SHOBJ_KIND_DICT;
    if (is_dict) {
        rc = shobj_dict_iter_next(r->store, &r->iter, items, BATCH_MAX, &count);
    } else if (r->container.type == SHOBJ_OBJECT) {
        rc = shobj_list_read(r->store, r->container.oid, r->index, values, BATCH_MAX, &count);
    } else if (r->index == 0) {
        from = r->container.items;
        count = r->container.count;
    }
    if (rc < 0 || count == 0)
        return rc;
    r->entries = calloc(count, sizeof(entry));
    if (r->entries == NULL)
        return SHOBJ_ENOMEM;
    for (size_t i = 0; i < count && rc == 0; i++, r->index++)
        rc = is_dict ? take(r, step_of(&items[i].key), &items[i].value) : take(r, step_of_index(r->index), &from[i]);
    return rc;
}

/* Sizes and versions of objects. One that has gone since the batch was read shows none. */
static int measure(shobj_store *store, entry *e)
{
    if (e->value.type != SHOBJ_OBJECT)
        return 0;
    enum shobj_kind kind;
    int rc = shobj_object(store, e->value.oid, &kind, &e->version);
    if (rc == 0)
        rc = value_size(store, &e->value, &e->has_size, &e->size);
    return rc == SHOBJ_ESTALE ? 0 : rc;
}

/* The next batch; r->count is 0 at the end. */
static int reader_next(reader *r)
{
    reader_clear(r);
    patience_renew(r->store);
    int rc = take_batch(r);
    for (size_t i = 0; i < r->count && rc == 0; i++)
        rc = measure(r->store, &r->entries[i]);
    return rc;
}

/* ---- ls of stores */

typedef struct stores_state {
    const struct call *call;
    bool first;
} stores_state;

static int print_store(const char *path, void *arg)
{
    static const int widths[] = {8, -19, 0};
    stores_state *state = arg;
    const char *name = strrchr(path, '/') + 1;
    struct stat file;
    if (stat(path, &file) != 0)
        return 0; /* removed since it was listed */
    uint64_t bytes = (uint64_t)file.st_blocks * 512;
    int64_t time_ns = (int64_t)file.st_mtim.tv_sec * 1000000000 + file.st_mtim.tv_nsec;
    if (state->call->json) {
        bool first = true;
        fputs(state->first ? "\n {" : ",\n {", stdout);
        out_json_name("name", &first);
        out_json_str(name);
        out_json_name("path", &first);
        out_json_str(path);
        out_json_number("bytes", bytes, &first);
        out_json_number("changed_ns", (uint64_t)time_ns, &first);
        fputc('}', stdout);
    } else if (call_option(state->call, "long") != NULL) {
        char size[16];
        char time[32];
        snprintf(size, sizeof(size), "%" PRIu64, bytes);
        if (out_is_terminal())
            out_format_bytes(bytes, size);
        out_format_time(time_ns, time);
        out_row(widths, (const char *const[]){size, time, name}, 3);
    } else {
        out_row((const int[]){0}, (const char *const[]){name}, 1);
    }
    state->first = false;
    return interrupted;
}

static int list_stores(const struct call *call)
{
    stores_state state = {.call = call, .first = true};
    if (call->json)
        fputc('[', stdout);
    int rc = shobj_list_stores(NULL, print_store, &state);
    if (call->json)
        fputs(state.first ? "]\n" : "\n]\n", stdout);
    return rc < 0 ? fail(call, rc) : EXIT_DONE;
}

/* ---- ls of a value */

static void print_entry(const struct call *call, const entry *e, bool *first)
{
    static const int widths[] = {-9, 10, 10, 0};
    bool is_object = e->value.type == SHOBJ_OBJECT;
    if (call->json) {
        bool first_member = true;
        fputs(*first ? "\n {" : ",\n {", stdout);
        out_json_name("name", &first_member);
        out_json_str(e->name);
        out_json_name("type", &first_member);
        out_json_str(value_type(&e->value));
        if (e->has_size)
            out_json_number("size", e->size, &first_member);
        if (is_object) {
            char oid[17];
            shobj_oid_format(e->value.oid, oid);
            out_json_number("version", e->version, &first_member);
            out_json_name("oid", &first_member);
            out_json_str(oid);
        }
        fputc('}', stdout);
    } else if (call_option(call, "long") != NULL) {
        char size[24] = "-";
        char version[24] = "-";
        if (e->has_size)
            snprintf(size, sizeof(size), "%" PRIu64, e->size);
        if (is_object)
            snprintf(version, sizeof(version), "%" PRIu64, e->version);
        out_row(widths, (const char *const[]){value_type(&e->value), size, version, e->name}, 4);
    } else {
        out_row((const int[]){0}, (const char *const[]){e->name}, 1);
    }
    *first = false;
}

/* The value itself, under the last step of its address. */
static int list_itself(const struct call *call, const struct target *target, const shobj_value *value, bool *first)
{
    const char *slash = strrchr(target->path, '/');
    const char *name = slash != NULL && slash[1] != '\0' ? slash + 1 : call->operands[0];
    entry e = {.name = (char *)name, .value = *value};
    int rc = value->type == SHOBJ_OBJECT ? 0 : value_size(target->store, value, &e.has_size, &e.size);
    if (rc == 0)
        rc = measure(target->store, &e);
    if (rc == 0)
        print_entry(call, &e, first);
    return rc;
}

static int list_contents(const struct call *call, shobj_store *store, const shobj_value *value, bool *first)
{
    reader r;
    int rc;
    reader_init(&r, store, value);
    while ((rc = reader_next(&r)) == 0 && r.count > 0 && !interrupted) {
        for (size_t i = 0; i < r.count; i++)
            print_entry(call, &r.entries[i], first);
    }
    reader_clear(&r);
    return rc;
}

int cmd_ls(const struct call *call)
{
    if (call->count == 0)
        return list_stores(call);
    struct target target;
    int code = target_open(call, call->operands[0], SHOBJ_OPEN_READ, &target);
    if (code != EXIT_DONE)
        return code;
    shobj_value value;
    bool first = true;
    int rc = shobj_path_get(target.store, target.path, &value);
    if (rc == 0) {
        if (call->json)
            fputc('[', stdout);
        bool itself = call_option(call, "directory") != NULL || !is_container(&value);
        rc = itself ? list_itself(call, &target, &value, &first) : list_contents(call, target.store, &value, &first);
        if (call->json)
            fputs(first ? "]\n" : "\n]\n", stdout);
    }
    code = rc < 0 ? fail(call, rc) : EXIT_DONE;
    target_close(&target);
    return code;
}

/* ---- tree */

#define LEVEL_MAX 500

typedef struct tree {
    shobj_store *store;
    const char *path;
    const char *name; /* of the root line */
    unsigned level_max;
    struct spool *spool;
    int status;                /* of the spool */
    shobj_oid open[LEVEL_MAX]; /* the objects that are being shown */
    unsigned level;
    char prefix[LEVEL_MAX * 8 + 1];
} tree;

static void put(tree *t, const char *text)
{
    if (t->status == 0)
        t->status = spool_write(text, strlen(text), t->spool);
}

static bool is_open(const tree *t, shobj_oid oid)
{
    for (unsigned i = 0; i < t->level; i++) {
        if (t->open[i] == oid)
            return true;
    }
    return false;
}

static int show_contents(tree *t, const shobj_value *container, uint64_t size);

/* The rest of an entry's line, and what is below it. */
static int show_entry(tree *t, const entry *e)
{
    char text[80];
    if (e->value.type != SHOBJ_OBJECT) {
        put(t, ": ");
        put(t, e->text);
        put(t, "\n");
        return t->status;
    }
    if (is_open(t, e->value.oid)) {
        char oid[17];
        shobj_oid_format(e->value.oid, oid);
        snprintf(text, sizeof(text), " -> @%s, which is above\n", oid);
        put(t, text);
        return t->status;
    }
    bool is_cut = t->level >= t->level_max && e->size > 0;
    snprintf(text, sizeof(text), "/  %s of %" PRIu64 "%s\n", value_type(&e->value), e->size,
             is_cut ? ", not shown" : "");
    put(t, text);
    return is_cut || t->status != 0 ? t->status : show_contents(t, &e->value, e->size);
}

static int show_contents(tree *t, const shobj_value *container, uint64_t size)
{
    static const char *const lines[2][4] = {{"|-- ", "`-- ", "|   ", "    "},
                                            {"\u251c\u2500\u2500 ", "\u2514\u2500\u2500 ", "\u2502   ", "    "}};
    const char *const *line = lines[strcmp(nl_langinfo(CODESET), "UTF-8") == 0];
    size_t prefix_bytes = strlen(t->prefix);
    uint64_t shown = 0;
    reader r;
    int rc;
    t->open[t->level++] = container->oid;
    reader_init(&r, t->store, container);
    while ((rc = reader_next(&r)) == 0 && r.count > 0) {
        for (size_t i = 0; i < r.count && rc == 0; i++) {
            bool is_last = ++shown == size;
            put(t, t->prefix);
            put(t, line[is_last]);
            put(t, r.entries[i].name);
            snprintf(t->prefix + prefix_bytes, sizeof(t->prefix) - prefix_bytes, "%s", line[2 + is_last]);
            rc = show_entry(t, &r.entries[i]);
            t->prefix[prefix_bytes] = '\0';
        }
        if (rc != 0)
            break;
    }
    reader_clear(&r);
    t->level--;
    return rc;
}

static int tree_body(shobj_store *store, void *arg)
{
    tree *t = arg;
    shobj_value value;
    spool_clear(t->spool);
    t->status = 0;
    t->level = 0;
    t->prefix[0] = '\0';
    int rc = shobj_path_get(store, t->path, &value);
    if (rc < 0)
        return rc;
    entry e = {.value = value};
    if (value.type != SHOBJ_OBJECT)
        shorten(&value, e.text);
    rc = measure(store, &e);
    if (rc < 0)
        return rc;
    put(t, t->name);
    return show_entry(t, &e);
}

/* A '/' at the end is written again behind every container. */
static char *without_slash(const char *name)
{
    size_t bytes = strlen(name);
    return strndup(name, bytes > 0 && name[bytes - 1] == '/' ? bytes - 1 : bytes);
}

int cmd_tree(const struct call *call)
{
    uint64_t level_max = LEVEL_MAX;
    int code = EXIT_DONE;
    if (call_option(call, "level") != NULL)
        code = parse_number(call, "level", 1, LEVEL_MAX, &level_max);
    struct target target;
    if (code == EXIT_DONE)
        code = target_open(call, call->operands[0], SHOBJ_OPEN_READ, &target);
    if (code != EXIT_DONE)
        return code;
    struct spool spool = {0};
    tree *t = calloc(1, sizeof(*t));
    char *name = without_slash(call->operands[0]);
    if (t == NULL || name == NULL) {
        code = fail_errno(call, "showing a tree");
    } else if (call->json) {
        code = target_render(call, &target, SHOBJ_FORM_JSON, 2, (unsigned)level_max, &spool);
        if (code == EXIT_DONE)
            code = spool_write("\n", 1, &spool) == 0 ? EXIT_DONE : fail_errno(call, "showing a tree");
    } else {
        *t = (tree){.store = target.store,
                    .path = target.path,
                    .name = name,
                    .level_max = (unsigned)level_max,
                    .spool = &spool};
        int rc = target_run(&target, tree_body, t);
        if (t->status != 0)
            code = interrupted ? EXIT_CONFLICT : fail_errno(call, "keeping the text before it is written");
        else if (rc < 0)
            code = target_fail(call, rc);
    }
    if (code == EXIT_DONE)
        spool_print(&spool);
    spool_free(&spool);
    free(t);
    free(name);
    target_close(&target);
    return code;
}
