/*
 * address.c: addresses, and what a path names.
 *
 *   STORE [ ":" path ]      path = [ "@" OID ] { "/" step }
 *
 * A step is text with "~1" for '/' and "~0" for '~', or "~=" and a Python literal, escaped in the same way. Against a dict
 * text is a str key; against a list or tuple it is an index in decimal, or "-", the place behind the end. A '/' at the end
 * of a path is allowed; an empty step inside is an error, since the empty key is written ~=''.
 *
 * A path of several steps is several reads: outside a transaction they are put into one, so that the answer is one that
 * was true at some instant.
 */
#include "api/text.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

/* ---- ids and addresses */

void shobj_oid_format(shobj_oid oid, char ret_text[17])
{
    snprintf(ret_text, 17, "%016" PRIx64, oid);
}

/* Hex digits up to `end`; 0, which is no id, on anything else. */
static shobj_oid parse_oid(const char *text, const char *end)
{
    shobj_oid oid = 0;
    if (end == text || end - text > 16)
        return 0;
    for (; text < end; text++) {
        char c = *text;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit == 16)
            return 0;
        oid = oid << 4 | digit;
    }
    return oid;
}

int shobj_oid_parse(const char *text, shobj_oid *ret_oid)
{
    shobj_oid oid = parse_oid(text, text + strlen(text));
    if (oid == 0)
        return sho_error(SHOBJ_EINVAL, "'%s' is no object id: give its 16 hex digits", text);
    *ret_oid = oid;
    return 0;
}

int shobj_address_split(const char *address, size_t *ret_store_bytes, const char **ret_path)
{
    const char *colon = NULL;
    for (const char *c = strchr(address, ':'); c != NULL && colon == NULL; c = strchr(c + 1, ':')) {
        if (c[1] == '\0' || c[1] == '/' || c[1] == '@')
            colon = c;
        else if (strchr(c, '/') == NULL)
            return sho_error(SHOBJ_EINVAL, "address '%s': behind STORE: stands a path as in %.*s:/key, or @ and an id",
                             address, (int)(c - address), address);
    }
    size_t bytes = colon != NULL ? (size_t)(colon - address) : strlen(address);
    if (bytes == 0)
        return sho_error(SHOBJ_EINVAL, "address '%s': the name of the store is missing", address);
    *ret_store_bytes = bytes;
    *ret_path = colon != NULL ? colon + 1 : "";
    return 0;
}

/* ---- steps */

typedef struct path_step {
    const char *end; /* of the step in the path: '/' or the end */
    char *text;      /* unescaped, NUL-terminated, malloc()ed */
    size_t bytes;
    bool is_literal;
    shobj_value literal;
    void *memory; /* of the literal */
} path_step;

typedef struct walk {
    shobj_store *store;
    const char *path;
    shobj_value at; /* what the path up to `end` names */
    const char *end;
} walk;

static void step_free(path_step *s)
{
    free(s->text);
    free(s->memory);
    s->text = NULL;
    s->memory = NULL;
}

/* Up to `end`: "path '/a/b': <what>". */
static int fail(const walk *w, int code, const char *end, const char *what)
{
    sho_error(code, "path '%.*s': %s", (int)(end - w->path), w->path, what);
    return code;
}

static int parse_literal(const walk *w, path_step *s)
{
    if (strlen(s->text) != s->bytes)
        return fail(w, SHOBJ_EINVAL, s->end, "not a Python literal");
    int rc = shobj_literal_parse(s->text, &s->literal, &s->memory);
    if (rc == SHOBJ_EINVAL) {
        char why[200];
        snprintf(why, sizeof(why), "the literal behind ~=, %s", shobj_error_message());
        return fail(w, rc, s->end, why);
    }
    return rc;
}

/* Unescapes [from, s->end) to s->text. */
static int unescape(const walk *w, path_step *s, const char *from)
{
    for (const char *c = from; c < s->end; c++) {
        char plain = *c;
        if (plain == '~') {
            c++;
            if (*c != '0' && *c != '1')
                return fail(w, SHOBJ_EINVAL, s->end, "behind '~' stands 0 (for '~'), 1 (for '/') or = (a literal)");
            plain = *c == '0' ? '~' : '/';
        }
        s->text[s->bytes++] = plain;
    }
    s->text[s->bytes] = '\0';
    if (sho_utf8_check(s->text, s->bytes) < s->bytes)
        return fail(w, SHOBJ_EINVAL, s->end, "this is not UTF-8");
    return 0;
}

/* Reads the step whose '/' is at w->end; step_free() is due after success. */
static int parse_step(const walk *w, path_step *s)
{
    const char *from = w->end + 1;
    *s = (path_step){.end = from + strcspn(from, "/")};
    if (s->end == from)
        return fail(w, SHOBJ_EINVAL, s->end, "an empty step; the empty key is written ~=''");
    s->is_literal = from[0] == '~' && from[1] == '=';
    if (s->is_literal)
        from += 2;
    s->text = malloc((size_t)(s->end - from) + 1);
    if (s->text == NULL)
        return fail(w, SHOBJ_ENOMEM, s->end, "out of memory");
    int rc = unescape(w, s, from);
    if (rc == 0 && s->is_literal)
        rc = parse_literal(w, s);
    if (rc < 0)
        step_free(s);
    return rc;
}

static shobj_value step_key(const path_step *s)
{
    if (s->is_literal)
        return s->literal;
    return (shobj_value){.type = SHOBJ_STR, .data = s->text, .count = s->bytes};
}

/* The index that a step names; ABSENT for "-". */
static int step_index(const walk *w, const path_step *s, shobj_value *ret)
{
    if (s->is_literal && s->literal.type == SHOBJ_INT) {
        *ret = s->literal;
        return 0;
    }
    if (!s->is_literal && strcmp(s->text, "-") == 0) {
        *ret = (shobj_value){.type = SHOBJ_ABSENT};
        return 0;
    }
    const char *digits = s->text + (s->text[0] == '-');
    size_t count = s->bytes - (size_t)(digits - s->text);
    if (s->is_literal || count == 0 || strspn(digits, "0123456789") != count || (digits[0] == '0' && count > 1))
        return fail(w, SHOBJ_ETYPE, s->end,
                    "an element is named by its index (-1 is the last), or by '-' behind the end");
    errno = 0;
    long long index = strtoll(s->text, NULL, 10);
    if (errno != 0)
        return fail(w, SHOBJ_ENOTFOUND, s->end, "the index is out of range");
    *ret = (shobj_value){.type = SHOBJ_INT, .i = index};
    return 0;
}

/* ---- walking */

static const char *type_name(const shobj_value *v)
{
    static const char *const names[] = {"nothing",          "None",  "a bool", "an int",  "an int",      "a float",
                                        "a complex number", "a str", "bytes",  "a tuple", "a frozenset", "an object"};
    return v->type < sizeof(names) / sizeof(names[0]) ? names[v->type] : "an unknown value";
}

static int fail_scalar(const walk *w, const path_step *s)
{
    char why[100];
    snprintf(why, sizeof(why), "there is %s before the last '/', which has no parts", type_name(&w->at));
    return fail(w, SHOBJ_ETYPE, s->end, why);
}

static int walk_dict(walk *w, const path_step *s)
{
    shobj_value key = step_key(s);
    shobj_key ready;
    int rc = shobj_key_init(w->store, &key, &ready);
    if (rc == 0)
        rc = shobj_dict_get(w->store, w->at.oid, &ready, &w->at);
    return rc == SHOBJ_ENOTFOUND ? fail(w, rc, s->end, "the dict has no such key") : rc;
}

static int walk_index(walk *w, const path_step *s)
{
    shobj_value index = {.type = SHOBJ_ABSENT};
    int rc = step_index(w, s, &index);
    if (rc < 0)
        return rc;
    if (index.type == SHOBJ_ABSENT)
        return fail(w, SHOBJ_ENOTFOUND, s->end, "there is nothing behind the end");
    if (w->at.type == SHOBJ_OBJECT) {
        rc = shobj_list_get(w->store, w->at.oid, index.i, &w->at);
        return rc == SHOBJ_ENOTFOUND ? fail(w, rc, s->end, "the list is shorter") : rc;
    }
    int64_t at = index.i < 0 ? index.i + (int64_t)w->at.count : index.i;
    if (at < 0 || (uint64_t)at >= w->at.count)
        return fail(w, SHOBJ_ENOTFOUND, s->end, "the tuple is shorter");
    shobj_value item = w->at.items[at];
    w->at = item;
    return 0;
}

static int walk_step(walk *w)
{
    path_step s;
    int rc = parse_step(w, &s);
    if (rc < 0)
        return rc;
    if (w->at.type == SHOBJ_OBJECT && w->at.kind == SHOBJ_KIND_DICT)
        rc = walk_dict(w, &s);
    else if (w->at.type == SHOBJ_TUPLE || (w->at.type == SHOBJ_OBJECT && w->at.kind == SHOBJ_KIND_LIST))
        rc = walk_index(w, &s);
    else
        rc = fail_scalar(w, &s);
    w->end = s.end;
    step_free(&s);
    return rc;
}

static int walk_start(walk *w, shobj_store *store, const char *path)
{
    *w = (walk){.store = store, .path = path, .end = path};
    w->at = (shobj_value){.type = SHOBJ_OBJECT, .kind = SHOBJ_KIND_DICT, .oid = shobj_root(store)};
    if (path[0] == '@') {
        w->end = path + strcspn(path, "/");
        w->at.oid = parse_oid(path + 1, w->end);
        if (w->at.oid == 0)
            return fail(w, SHOBJ_EINVAL, w->end, "behind '@' stand the hex digits of an object's id");
        enum shobj_kind kind = SHOBJ_KIND_NONE;
        int rc = shobj_object(store, w->at.oid, &kind, NULL);
        if (rc < 0)
            return rc;
        w->at.kind = (uint8_t)kind;
    } else if (path[0] != '/' && path[0] != '\0') {
        return fail(w, SHOBJ_EINVAL, path + strlen(path), "a path is empty, or begins with '/' or '@'");
    }
    return 0;
}

/* Where the path ends: a '/' at its end does not count. */
static const char *path_end(const char *path)
{
    const char *end = path + strlen(path);
    return end > path && end[-1] == '/' ? end - 1 : end;
}

/* Walks up to `end`. */
static int walk_to(walk *w, shobj_store *store, const char *path, const char *end)
{
    int rc = walk_start(w, store, path);
    while (rc == 0 && w->end < end)
        rc = walk_step(w);
    return rc;
}

/* ---- reading */

typedef struct get_call {
    const char *path;
    shobj_value value;
} get_call;

static int get_body(shobj_store *store, void *arg)
{
    get_call *call = arg;
    walk w;
    int rc = walk_to(&w, store, call->path, path_end(call->path));
    if (rc == 0)
        call->value = w.at;
    return rc;
}

int shobj_path_get(shobj_store *store, const char *path, shobj_value *ret_value)
{
    get_call call = {.path = path};
    const char *slash = strchr(path, '/');
    bool one_read = slash == NULL || (slash == path && strchr(path + 1, '/') == NULL);
    int rc = one_read || shobj_txn_depth(store) > 0 ? get_body(store, &call) : shobj_run(store, get_body, &call);
    if (rc == 0)
        *ret_value = call.value;
    return rc;
}

/* ---- the container and the last step */

typedef struct parent_call {
    const char *path;
    walk container;
    path_step step; /* owned: step_free() */
    shobj_value key;
} parent_call;

static int parent_body(shobj_store *store, void *arg)
{
    parent_call *call = arg;
    const char *end = path_end(call->path);
    const char *last = end;
    while (last > call->path && *--last != '/')
        ;
    walk *w = &call->container;
    step_free(&call->step); /* of an attempt that lost */
    if (last == end || *last != '/')
        return sho_error(SHOBJ_EINVAL, "path '%s': it names a whole object, not a place inside one; add /KEY to it",
                         call->path);
    int rc = walk_to(w, store, call->path, last);
    if (rc == 0)
        rc = parse_step(w, &call->step);
    if (rc < 0)
        return rc;
    if (w->at.type == SHOBJ_TUPLE || w->at.type == SHOBJ_FROZENSET)
        return fail(w, SHOBJ_ETYPE, w->end, "a tuple or frozenset never changes: set the whole of it anew");
    if (w->at.type != SHOBJ_OBJECT)
        return fail_scalar(w, &call->step);
    if (w->at.kind != SHOBJ_KIND_DICT)
        return step_index(w, &call->step, &call->key);
    call->key = step_key(&call->step);
    return 0;
}

/* What shobj_path_parent() gave out last in this thread: its memory ends with the next call, or with the thread. */
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;
static pthread_key_t kept_key;
static int kept_status;

static void kept_init(void)
{
    kept_status = pthread_key_create(&kept_key, free);
}

static int keep(const shobj_value *key, shobj_value *ret_key)
{
    pthread_once(&kept_once, kept_init);
    void *memory;
    shobj_value copy;
    int rc = sho_values_copy(key, 1, &copy, &memory);
    if (rc < 0)
        return rc;
    void *old = kept_status == 0 ? pthread_getspecific(kept_key) : NULL;
    if (kept_status != 0 || pthread_setspecific(kept_key, memory) != 0) {
        free(memory);
        return sho_error(SHOBJ_ENOMEM, "reading a path: out of memory for a thread's data");
    }
    free(old);
    *ret_key = copy;
    return 0;
}

int shobj_path_parent(shobj_store *store, const char *path, shobj_oid *ret_container, enum shobj_kind *ret_kind,
                      shobj_value *ret_step)
{
    parent_call call = {.path = path};
    int rc = shobj_txn_depth(store) > 0 ? parent_body(store, &call) : shobj_run(store, parent_body, &call);
    if (rc == 0)
        rc = keep(&call.key, ret_step);
    if (rc == 0) {
        *ret_container = call.container.at.oid;
        *ret_kind = (enum shobj_kind)call.container.at.kind;
    }
    step_free(&call.step);
    return rc;
}

/* ---- changing */

typedef struct set_call {
    parent_call parent;
    const shobj_value *value; /* NULL: delete */
} set_call;

static int set_in_dict(shobj_store *store, const set_call *call, shobj_oid dict)
{
    shobj_key key;
    int rc = shobj_key_init(store, &call->parent.key, &key);
    if (rc < 0)
        return rc;
    if (call->value != NULL)
        return shobj_dict_set(store, dict, &key, call->value);
    rc = shobj_dict_del(store, dict, &key, NULL);
    return rc == SHOBJ_ENOTFOUND ? fail(&call->parent.container, rc, call->parent.step.end, "the dict has no such key")
                                 : rc;
}

static int set_in_list(shobj_store *store, const set_call *call, shobj_oid list)
{
    const parent_call *parent = &call->parent;
    int rc = SHOBJ_ENOTFOUND;
    if (parent->key.type == SHOBJ_ABSENT && call->value != NULL)
        return shobj_list_append(store, list, call->value);
    if (parent->key.type == SHOBJ_INT && call->value != NULL)
        rc = shobj_list_set(store, list, parent->key.i, call->value);
    else if (parent->key.type == SHOBJ_INT)
        rc = shobj_list_del(store, list, parent->key.i, NULL);
    return rc == SHOBJ_ENOTFOUND ? fail(&parent->container, rc, parent->step.end, "the list is shorter") : rc;
}

static int set_body(shobj_store *store, void *arg)
{
    set_call *call = arg;
    int rc = parent_body(store, &call->parent);
    if (rc < 0)
        return rc;
    const shobj_value *container = &call->parent.container.at;
    if (container->kind == SHOBJ_KIND_DICT)
        return set_in_dict(store, call, container->oid);
    if (container->kind == SHOBJ_KIND_LIST)
        return set_in_list(store, call, container->oid);
    return fail(&call->parent.container, SHOBJ_ETYPE, call->parent.step.end, "this kind of object has no such parts");
}

int shobj_path_set(shobj_store *store, const char *path, const shobj_value *value)
{
    set_call call = {.parent = {.path = path}};
    /* The value may be one that the store gave out: the reads on the way would overwrite it. */
    shobj_value copy;
    void *memory = NULL;
    int rc = 0;
    if (value != NULL) {
        rc = sho_values_copy(value, 1, &copy, &memory);
        call.value = &copy;
    }
    if (rc == 0)
        rc = shobj_run(store, set_body, &call);
    step_free(&call.parent.step);
    free(memory);
    return rc;
}

/* ---- a step's text */

typedef struct step_text {
    char *buf;
    size_t room; /* without the NUL */
    size_t bytes;
} step_text;

static void step_put(step_text *t, char c)
{
    if (t->bytes < t->room)
        t->buf[t->bytes] = c;
    t->bytes++;
}

static int step_put_escaped(const char *text, size_t bytes, void *arg)
{
    step_text *t = arg;
    for (size_t i = 0; i < bytes; i++) {
        bool is_special = text[i] == '~' || text[i] == '/';
        step_put(t, is_special ? '~' : text[i]);
        if (is_special)
            step_put(t, text[i] == '~' ? '0' : '1');
    }
    return 0;
}

/* Text that can stand in a path, a line and a file name as it is, but for '/' and '~'. */
static bool is_plain_name(const shobj_value *key)
{
    const char *text = key->data;
    if (key->type != SHOBJ_STR || key->count == 0 || (key->count <= 2 && strncmp(text, "..", key->count) == 0))
        return false;
    for (size_t at = 0, step = 1; at < key->count; at += step) {
        uint32_t rune = sho_utf8_decode(text + at, key->count - at, &step);
        if (rune < 0x20 || rune - 0x7fu < 0x21u || rune - 0x2028u < 2u || sho_rune_is_surrogate(rune) ||
            rune == SHO_RUNE_BAD)
            return false;
    }
    return true;
}

size_t shobj_path_step(const shobj_value *key, char *buf, size_t buf_bytes)
{
    step_text t = {.buf = buf, .room = buf_bytes > 0 ? buf_bytes - 1 : 0};
    if (is_plain_name(key)) {
        step_put_escaped(key->data, key->count, &t);
    } else {
        step_put(&t, '~');
        step_put(&t, '=');
        /* A key has no objects: nothing is read, and only lack of memory can fail, which leaves the text short. */
        (void)shobj_render(NULL, key, SHOBJ_FORM_LITERAL, 0, 0, step_put_escaped, &t);
    }
    if (buf_bytes > 0)
        buf[t.bytes < t.room ? t.bytes : t.room] = '\0';
    return t.bytes;
}
