/*
 * render.c: what the files of the mount contain.
 *
 * A file's text is made when it is opened, and stays the same until it is closed. A scalar has a size before that:
 * scalar_bytes() and content_of_scalar() agree. Text that is too long for memory goes to a temporary file without a
 * name.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shobjfs.h"

#define MEMORY_MAX (32u << 20)

/* ---- content */

void content_init(content *c)
{
    *c = (content){.file = -1};
}

void content_free(content *c)
{
    free(c->text);
    if (c->file >= 0)
        close(c->file);
    content_init(c);
}

static int write_file(content *c, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(c->file, text, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == ENOSPC || errno == EDQUOT ? SHOBJ_EFULL : SHOBJ_EIO;
        text += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int move_to_file(content *c)
{
    const char *folder = getenv("TMPDIR");
    char name[PATH_MAX];
    int n = snprintf(name, sizeof(name), "%s/shobjfs-XXXXXX", folder != NULL && folder[0] == '/' ? folder : "/var/tmp");
    if (n >= (int)sizeof(name))
        return SHOBJ_EIO;
    c->file = mkostemp(name, O_CLOEXEC);
    if (c->file < 0)
        return SHOBJ_EIO;
    unlink(name);
    int rc = write_file(c, c->text, c->text_bytes);
    free(c->text);
    c->text = NULL;
    c->text_bytes = 0;
    c->text_room = 0;
    return rc;
}

static int content_add(content *c, const char *text, size_t bytes)
{
    c->bytes += bytes;
    if (c->file < 0 && c->text_bytes + bytes > MEMORY_MAX && c->text_bytes > 0) {
        int rc = move_to_file(c);
        if (rc < 0)
            return rc;
    }
    if (c->file >= 0)
        return write_file(c, text, bytes);
    if (c->text_bytes + bytes > c->text_room) {
        size_t room = c->text_bytes + bytes + c->text_room;
        char *larger = realloc(c->text, room);
        if (larger == NULL)
            return SHOBJ_ENOMEM;
        c->text = larger;
        c->text_room = room;
    }
    if (bytes > 0)
        memcpy(c->text + c->text_bytes, text, bytes);
    c->text_bytes += bytes;
    return 0;
}

int content_read(const content *c, uint64_t offset, size_t bytes, char *buf, size_t *ret_bytes)
{
    *ret_bytes = 0;
    if (offset >= c->bytes)
        return 0;
    if (bytes > c->bytes - offset)
        bytes = c->bytes - offset;
    if (c->file < 0) {
        memcpy(buf, c->text + offset, bytes);
        *ret_bytes = bytes;
        return 0;
    }
    while (*ret_bytes < bytes) {
        ssize_t n = pread(c->file, buf + *ret_bytes, bytes - *ret_bytes, (off_t)(offset + *ret_bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return SHOBJ_EIO;
        *ret_bytes += (size_t)n;
    }
    return 0;
}

/* ---- scalars */

const char *type_name(const shobj_value *value)
{
    switch (value->type) {
    case SHOBJ_NONE: return "None";
    case SHOBJ_BOOL: return "bool";
    case SHOBJ_INT:
    case SHOBJ_BIGINT: return "int";
    case SHOBJ_FLOAT: return "float";
    case SHOBJ_COMPLEX: return "complex";
    case SHOBJ_STR: return "str";
    case SHOBJ_BYTES: return "bytes";
    case SHOBJ_TUPLE: return "tuple";
    case SHOBJ_FROZENSET: return "frozenset";
    case SHOBJ_OBJECT:
        return value->kind == SHOBJ_KIND_DICT ? "dict" : value->kind == SHOBJ_KIND_LIST ? "list" : "object";
    default: return "unknown";
    }
}

/* JSON has the words for None and bools, Python's literals those for all numbers. */
static enum shobj_form form_of_scalar(const shobj_value *value)
{
    return value->type == SHOBJ_NONE || value->type == SHOBJ_BOOL ? SHOBJ_FORM_JSON : SHOBJ_FORM_LITERAL;
}

static int count_bytes(const char *text, size_t bytes, void *arg)
{
    (void)text;
    *(uint64_t *)arg += bytes;
    return 0;
}

int scalar_bytes(const shobj_value *value, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    int rc = 0;
    if (value->type == SHOBJ_STR || value->type == SHOBJ_BYTES)
        bytes = value->count;
    else
        rc = shobj_render(NULL, value, form_of_scalar(value), 0, 0, count_bytes, &bytes);
    if (rc == 0)
        *ret_bytes = bytes + (value->type != SHOBJ_BYTES);
    return rc;
}

static int add_bytes(const char *text, size_t bytes, void *arg)
{
    return content_add(arg, text, bytes);
}

int content_of_scalar(const shobj_value *value, content *c)
{
    int rc;
    if (value->type == SHOBJ_STR || value->type == SHOBJ_BYTES)
        rc = content_add(c, value->data, value->count);
    else
        rc = shobj_render(NULL, value, form_of_scalar(value), 0, 0, add_bytes, c);
    return rc == 0 && value->type != SHOBJ_BYTES ? content_add(c, "\n", 1) : rc;
}

/* ---- .json and .repr */

int text_form(const char *name, enum shobj_form *ret_form)
{
    bool is_json = strcmp(name, ".json") == 0;
    if (!is_json && strcmp(name, ".repr") != 0)
        return SHOBJ_ENOTFOUND;
    *ret_form = is_json ? SHOBJ_FORM_JSON : SHOBJ_FORM_LITERAL;
    return 0;
}

typedef struct tree_text {
    const char *path;
    enum shobj_form form;
    bool (*is_stopped)(void *arg);
    void *arg;
    content *content;
} tree_text;

static int add_text(const char *text, size_t bytes, void *arg)
{
    tree_text *t = arg;
    return t->is_stopped(t->arg) ? SHOBJ_EABORTED : content_add(t->content, text, bytes);
}

static int render_tree(shobj_store *store, void *arg)
{
    tree_text *t = arg;
    shobj_value value;
    content_free(t->content); /* of an attempt that lost */
    if (t->is_stopped(t->arg))
        return SHOBJ_EABORTED;
    int rc = tree_value_at(store, t->path, &value);
    if (rc == 0)
        rc = shobj_render(store, &value, t->form, t->form == SHOBJ_FORM_JSON ? 2 : 0, 0, add_text, t);
    return rc == 0 ? content_add(t->content, "\n", 1) : rc;
}

int content_of_tree(shobj_store *store, const char *path, enum shobj_form form, bool (*is_stopped)(void *arg),
                    void *arg, content *c)
{
    tree_text t = {.path = path, .form = form, .is_stopped = is_stopped, .arg = arg, .content = c};
    return shobj_run(store, render_tree, &t);
}

/* ---- counters */

static int add_line(content *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int add_line(content *c, const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    int bytes = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    return content_add(c, line, (size_t)bytes);
}

int content_of_stat(shobj_store *store, content *c)
{
    shobj_stat stat = {0};
    int rc = shobj_stat_get(store, &stat);
    const struct {
        const char *name;
        uint64_t number;
    } lines[] = {{"file_bytes", stat.file_bytes},
                 {"size_bytes", stat.size_bytes},
                 {"max_bytes", stat.max_bytes},
                 {"used_bytes", stat.used_bytes},
                 {"free_bytes", stat.free_bytes},
                 {"objects", stat.objects},
                 {"blocks", stat.blocks},
                 {"commits", stat.commits},
                 {"conflicts", stat.conflicts},
                 {"retries", stat.retries},
                 {"elders", stat.elders},
                 {"recoveries", stat.recoveries},
                 {"collections", stat.gc.collections},
                 {"sessions", stat.sessions},
                 {"processes", stat.processes},
                 {"pins", stat.pins},
                 {"live_bytes", stat.gc.live_bytes},
                 {"clock", stat.clock},
                 {"layout_version", stat.layout_version},
                 {"created_ns", (uint64_t)stat.created_ns}};
    for (size_t i = 0; rc == 0 && i < sizeof(lines) / sizeof(lines[0]); i++)
        rc = add_line(c, "%s %" PRIu64 "\n", lines[i].name, lines[i].number);
    return rc;
}

typedef struct session_search {
    const char *name;
    content *content;
} session_search;

#define SESSION_FOUND 1

static int take_session(const shobj_session_info *info, void *arg)
{
    session_search *search = arg;
    content *c = search->content;
    char name[16];
    snprintf(name, sizeof(name), "%" PRIu32, info->session);
    if (strcmp(name, search->name) != 0)
        return 0;
    int rc = add_line(c, "session %" PRIu32 "\nprocess %" PRIu32 "\npid %" PRId64 "\ntid %" PRId64 "\n", info->session,
                      info->process, info->pid, info->tid);
    if (rc == 0)
        rc = add_line(c, "alive %s\nstate %s\nseq %" PRIu64 "\n", info->alive ? "true" : "false", info->state,
                      info->seq);
    if (rc == 0)
        rc = add_line(c, "commits %" PRIu64 "\nconflicts %" PRIu64 "\nheld_count %" PRIu32 "\n", info->commits,
                      info->conflicts, info->held_count);
    if (rc == 0)
        rc = add_line(c, "attached_ns %" PRId64 "\nbegan_ns %" PRId64 "\n", info->attached_ns, info->began_ns);
    return rc < 0 ? rc : SESSION_FOUND;
}

int content_of_session(shobj_store *store, const char *name, content *c)
{
    session_search search = {.name = name, .content = c};
    int rc = shobj_sessions(store, take_session, &search);
    return rc == SESSION_FOUND ? 0 : rc == 0 ? SHOBJ_ENOTFOUND : rc;
}
