/*
 * target.c: the store and path that an operand names. See target.h.
 */
#include "target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- patience */

int64_t patience_seconds = 60;

int patience_init(void)
{
    const char *text = getenv("SHOBJ_TIMEOUT");
    if (text == NULL)
        return EXIT_DONE;
    char *end;
    errno = 0;
    long seconds = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || seconds < 1 || seconds > 86400)
        return fail_usage(NULL, "SHOBJ_TIMEOUT=%s: give seconds from 1 to 86400", text);
    patience_seconds = seconds;
    return EXIT_DONE;
}

void patience_renew(shobj_store *store)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    shobj_deadline(store, ((int64_t)now.tv_sec + patience_seconds) * 1000000000 + now.tv_nsec);
}

bool patience_is_interrupted(void)
{
    return interrupted;
}

/* ---- opening */

static bool is_relative(const struct call *call, const char *address)
{
    return call->prompt_store != NULL && (address[0] == '\0' || address[0] == '/' || address[0] == '@');
}

/* A store that the prompt has open is mapped already: another mode would contradict. */
static enum shobj_open_mode mode_at_prompt(const struct call *call, enum shobj_open_mode mode)
{
    return call->prompt_store == NULL              ? mode
           : shobj_is_readonly(call->prompt_store) ? SHOBJ_OPEN_READ
                                                   : SHOBJ_OPEN_WRITE;
}

static bool names_prompt_store(const struct call *call, const char *name)
{
    char path[4096];
    return call->prompt_store != NULL && shobj_store_path(name, path, sizeof(path)) == 0 &&
           strcmp(path, shobj_path(call->prompt_store)) == 0;
}

int target_open(const struct call *call, const char *address, enum shobj_open_mode mode, struct target *ret_target)
{
    if (is_relative(call, address)) {
        *ret_target = (struct target){.store = call->prompt_store, .path = address};
        patience_renew(call->prompt_store);
        return EXIT_DONE;
    }
    size_t store_bytes;
    const char *path;
    int rc = shobj_address_split(address, &store_bytes, &path);
    if (rc < 0)
        return fail(call, rc);
    char *name = strndup(address, store_bytes);
    if (name == NULL)
        return fail_errno(call, "opening a store");
    if (names_prompt_store(call, name))
        mode = mode_at_prompt(call, mode);
    shobj_options options = {.mode = mode, .wait_interrupted = patience_is_interrupted};
    shobj_store *store;
    rc = shobj_open(name, &options, &store);
    free(name);
    if (rc < 0)
        return fail(call, rc);
    *ret_target = (struct target){.store = store, .path = path, .is_owned = true};
    patience_renew(store);
    return EXIT_DONE;
}

int target_store_name(const struct call *call, const char *address, char **ret_name)
{
    size_t bytes;
    const char *path;
    int rc = shobj_address_split(address, &bytes, &path);
    if (rc < 0)
        return fail(call, rc);
    if (path[0] != '\0')
        return fail_usage(call, "'%s': give a store, without a path", address);
    *ret_name = strndup(address, bytes);
    return *ret_name != NULL ? EXIT_DONE : fail_errno(call, "opening a store");
}

int target_open_store(const struct call *call, const char *address, enum shobj_open_mode mode,
                      struct target *ret_target)
{
    int code = target_open(call, address, mode, ret_target);
    if (code == EXIT_DONE && ret_target->path[0] != '\0') {
        target_close(ret_target);
        return fail_usage(call, "'%s': give a store, without a path", address);
    }
    return code;
}

void target_close(struct target *target)
{
    if (target->is_owned)
        shobj_close(target->store);
}

/* ---- transactions */

#define PATIENCE_ATTEMPTS 10

typedef struct patient_call {
    int (*body)(shobj_store *store, void *arg);
    void *arg;
    struct timespec began;
    unsigned attempts;
} patient_call;

static bool gave_up;

static int patient_body(shobj_store *store, void *arg)
{
    patient_call *p = arg;
    struct timespec now;
    if (interrupted)
        return SHOBJ_EABORTED;
    clock_gettime(CLOCK_MONOTONIC, &now);
    gave_up = p->attempts++ >= PATIENCE_ATTEMPTS && now.tv_sec - p->began.tv_sec >= patience_seconds;
    if (gave_up)
        return SHOBJ_ETIMEOUT;
    patience_renew(store);
    int rc = p->body(store, p->arg);
    patience_renew(store); /* for the commit */
    return rc;
}

int target_run(const struct target *target, int (*body)(shobj_store *store, void *arg), void *arg)
{
    patient_call call = {.body = body, .arg = arg};
    clock_gettime(CLOCK_MONOTONIC, &call.began);
    gave_up = false;
    return shobj_run(target->store, patient_body, &call);
}

int target_fail(const struct call *call, int error)
{
    if (interrupted)
        return fail_text(call, SHOBJ_EABORTED, "interrupted");
    if (error == SHOBJ_ETIMEOUT && gave_up)
        return fail_text(call, error,
                         "%" PRId64 " seconds long others changed the same things in between: try again when the "
                         "store is less busy, or with a smaller part of it",
                         patience_seconds);
    return fail(call, error);
}

/* ---- reading */

typedef struct render_call {
    const struct target *target;
    enum shobj_form form;
    unsigned indent;
    unsigned depth_max;
    struct spool *spool;
    int spool_error; /* of the last attempt; errno in spool_errno */
    int spool_errno;
} render_call;

static int render_write(const char *text, size_t bytes, void *arg)
{
    render_call *r = arg;
    r->spool_error = spool_write(text, bytes, r->spool);
    r->spool_errno = errno;
    patience_renew(r->target->store);
    return r->spool_error;
}

static int render_body(shobj_store *store, void *arg)
{
    render_call *r = arg;
    shobj_value value;
    spool_clear(r->spool);
    r->spool_error = 0;
    int rc = shobj_path_get(store, r->target->path, &value);
    return rc < 0 ? rc : shobj_render(store, &value, r->form, r->indent, r->depth_max, render_write, r);
}

int target_render(const struct call *call, const struct target *target, enum shobj_form form, unsigned indent,
                  unsigned depth_max, struct spool *spool)
{
    render_call r = {.target = target, .form = form, .indent = indent, .depth_max = depth_max, .spool = spool};
    int rc = target_run(target, render_body, &r);
    if (rc == 0)
        return EXIT_DONE;
    spool_free(spool);
    if (r.spool_error != 0 && !interrupted)
        return fail_text(call, rc, "keeping the text before it is written: %s", strerror(r.spool_errno));
    return target_fail(call, rc);
}

const char *value_type(const shobj_value *value)
{
    static const char *const names[] = {"absent",  "None", "bool",  "int",   "int",      "float",
                                        "complex", "str",  "bytes", "tuple", "frozenset"};
    if (value->type == SHOBJ_OBJECT)
        return value->kind == SHOBJ_KIND_DICT ? "dict" : value->kind == SHOBJ_KIND_LIST ? "list" : "object";
    return value->type < sizeof(names) / sizeof(names[0]) ? names[value->type] : "?";
}

int value_size(shobj_store *store, const shobj_value *value, bool *ret_has_size, uint64_t *ret_size)
{
    *ret_has_size = true;
    switch (value->type) {
    case SHOBJ_STR:
    case SHOBJ_BYTES:
    case SHOBJ_TUPLE:
    case SHOBJ_FROZENSET: *ret_size = value->count; return 0;
    case SHOBJ_OBJECT:
        if (value->kind == SHOBJ_KIND_DICT)
            return shobj_dict_len(store, value->oid, ret_size);
        if (value->kind == SHOBJ_KIND_LIST)
            return shobj_list_len(store, value->oid, ret_size);
        break;
    default: break;
    }
    *ret_has_size = false;
    return 0;
}

/* ---- completion */

#define COMPLETE_MAX 1000

typedef struct completion {
    const char *prefix;
    size_t prefix_bytes; /* of the text before the path's last step */
    void (*each)(const char *text, void *arg);
    void *arg;
    size_t count;
} completion;

static int complete_store(const char *path, void *arg)
{
    completion *c = arg;
    const char *name = strrchr(path, '/') + 1;
    char text[4096];
    if (strncmp(name, c->prefix, strlen(c->prefix)) == 0 &&
        (size_t)snprintf(text, sizeof(text), "%s:/", name) < sizeof(text))
        c->each(text, c->arg);
    return ++c->count >= COMPLETE_MAX;
}

/* One step, if it begins with what stands behind the last '/' of the prefix. */
static void complete_step(completion *c, const char *step, bool has_parts)
{
    const char *begun = c->prefix + c->prefix_bytes;
    if (strncmp(step, begun, strlen(begun)) != 0)
        return;
    size_t bytes = c->prefix_bytes + strlen(step) + 2;
    char *text = malloc(bytes);
    if (text == NULL)
        return;
    snprintf(text, bytes, "%.*s%s%s", (int)c->prefix_bytes, c->prefix, step, has_parts ? "/" : "");
    c->each(text, c->arg);
    free(text);
    c->count++;
}

static bool has_parts(const shobj_value *v)
{
    return v->type == SHOBJ_OBJECT || v->type == SHOBJ_TUPLE;
}

static void complete_dict(shobj_store *store, shobj_oid dict, completion *c)
{
    shobj_dict_iter iter;
    shobj_item items[32];
    size_t count;
    shobj_dict_iter_init(&iter, dict, false);
    while (c->count < COMPLETE_MAX && shobj_dict_iter_next(store, &iter, items, 32, &count) == 0 && count > 0) {
        for (size_t i = 0; i < count; i++) {
            char step[4096];
            if (shobj_path_step(&items[i].key, step, sizeof(step)) < sizeof(step))
                complete_step(c, step, has_parts(&items[i].value));
        }
    }
}

static void complete_list(shobj_store *store, shobj_oid list, completion *c)
{
    shobj_value values[32];
    size_t count;
    for (uint64_t first = 0; first < COMPLETE_MAX; first += count) {
        if (shobj_list_read(store, list, first, values, 32, &count) < 0 || count == 0)
            return;
        for (size_t i = 0; i < count; i++) {
            char step[24];
            snprintf(step, sizeof(step), "%" PRIu64, first + i);
            complete_step(c, step, has_parts(&values[i]));
        }
    }
}

static void complete_path(shobj_store *store, const char *path, completion *c)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return;
    c->prefix_bytes = (size_t)(slash + 1 - c->prefix);
    char *container = strndup(path, (size_t)(slash - path));
    shobj_value value;
    if (container != NULL && shobj_path_get(store, container, &value) == 0) {
        if (value.type == SHOBJ_OBJECT && value.kind == SHOBJ_KIND_DICT)
            complete_dict(store, value.oid, c);
        else if (value.type == SHOBJ_OBJECT && value.kind == SHOBJ_KIND_LIST)
            complete_list(store, value.oid, c);
        for (size_t i = 0; value.type == SHOBJ_TUPLE && i < value.count; i++) {
            char step[24];
            snprintf(step, sizeof(step), "%zu", i);
            complete_step(c, step, has_parts(&value.items[i]));
        }
    }
    free(container);
}

void complete_address(shobj_store *store, const char *prefix, void (*each)(const char *text, void *arg), void *arg)
{
    completion c = {.prefix = prefix, .each = each, .arg = arg};
    if (store != NULL && (prefix[0] == '\0' || prefix[0] == '/' || prefix[0] == '@')) {
        complete_path(store, prefix, &c);
        return;
    }
    size_t store_bytes;
    const char *path;
    if (strchr(prefix, ':') == NULL) {
        if (strchr(prefix, '/') == NULL)
            shobj_list_stores(NULL, complete_store, &c);
        return;
    }
    if (shobj_address_split(prefix, &store_bytes, &path) < 0)
        return;
    struct call silent = {.prompt_store = store};
    char *name = strndup(prefix, store_bytes);
    shobj_options options = {.mode = SHOBJ_OPEN_READ};
    if (name != NULL && names_prompt_store(&silent, name))
        options.mode = mode_at_prompt(&silent, options.mode);
    shobj_store *other;
    if (name != NULL && shobj_open(name, &options, &other) == 0) {
        patience_renew(other);
        complete_path(other, path, &c);
        shobj_close(other);
    }
    free(name);
}

/* ---- numbers */

int parse_number(const struct call *call, const char *option, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    const char *text = call_option(call, option);
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < min || number > max)
        return fail_usage(call, "--%s %s: give a whole number from %" PRIu64 " to %" PRIu64, option, text, min, max);
    *ret_number = number;
    return EXIT_DONE;
}

int parse_bytes(const struct call *call, const char *option, uint64_t *ret_bytes)
{
    static const char units[] = "KMGT";
    const char *text = call_option(call, option);
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    bool is_good = text[0] >= '0' && text[0] <= '9' && errno == 0;
    const char *unit = *end == '\0' ? NULL : strchr(units, *end & ~0x20);
    unsigned shift = 0;
    if (unit != NULL) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'B')
        end++;
    if (!is_good || *end != '\0' || number > UINT64_MAX >> shift)
        return fail_usage(call, "--%s %s: give a number of bytes, such as 4096, 64K, 16M or 2G", option, text);
    *ret_bytes = (uint64_t)number << shift;
    return EXIT_DONE;
}
