/*
 * exercise.c: everything that the public header offers, done to a heap that may be damaged.
 *
 * Asked of each call: its result is 0 or an error of the table, with a message; never is memory asked for without measure
 * (ENOMEM). What it returns can be read to the last byte. The walks are bounded here as well, in
 * the number of values they visit: a damaged count may promise more than there is, in calls that each do little.
 */
#include "damage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OBJECTS_MAX 256u
#define BATCH 32u
#define PATIENCE_NS 1000000000

struct exercise {
    shobj_store *store;
    const struct effort *effort;
    struct choices choices;
    bool is_sound;
    bool has_changed;
    const char *wrong;
    shobj_oid objects[OBJECTS_MAX];
    uint8_t kinds[OBJECTS_MAX];
    unsigned object_count;
    unsigned values_left;
    uint64_t sum; /* so that all bytes are read */
};

/* ------------------------------------------------------------------------------------------ judging */

static void blame(struct exercise *e, const char *call, const char *what, int rc)
{
    static char text[400];
    if (e->wrong != NULL)
        return;
    snprintf(text, sizeof(text), "%s: %s (%d: %s)", call, what, rc, shobj_error_message());
    e->wrong = text;
}

/* Hands the result on. */
static int judge(struct exercise *e, const char *call, int rc)
{
    if (rc == 0)
        return 0;
    if (rc > 0 || strcmp(shobj_error_name(rc), "E?") == 0)
        blame(e, call, "its result is none of the table", rc);
    else if (rc == SHOBJ_ENOMEM)
        blame(e, call, "it asked for memory without measure", rc);
    else if (shobj_error_message()[0] == '\0')
        blame(e, call, "an error without a message", rc);
    else if (rc == SHOBJ_EABORTED || rc == SHOBJ_ERETRY)
        blame(e, call, "an error that is not its own", rc);
    else if (e->is_sound && (rc == SHOBJ_ECORRUPT || rc == SHOBJ_ETIMEOUT || rc == SHOBJ_EFORMAT ||
                             (rc == SHOBJ_ESTALE && !e->has_changed))) /* what was dropped may be collected */
        blame(e, call, "the heap is sound", rc);
    return rc;
}

#define CALL(e, function, ...) judge(e, #function, function(__VA_ARGS__))

static void read_value(struct exercise *e, const shobj_value *value)
{
    const uint8_t *bytes = value->data;
    if (e->values_left > 0)
        e->values_left--;
    switch (value->type) {
    case SHOBJ_STR:
    case SHOBJ_BYTES:
    case SHOBJ_BIGINT:
        for (size_t i = 0; i < value->count; i++)
            e->sum += bytes[i];
        break;
    case SHOBJ_TUPLE:
    case SHOBJ_FROZENSET:
        for (size_t i = 0; i < value->count; i++)
            read_value(e, &value->items[i]);
        break;
    case SHOBJ_OBJECT:
        for (unsigned i = 0; i < e->object_count; i++)
            if (e->objects[i] == value->oid)
                return;
        if (e->object_count < OBJECTS_MAX) {
            e->kinds[e->object_count] = value->kind;
            e->objects[e->object_count++] = value->oid;
        }
        break;
    default:
        if (value->type > SHOBJ_OBJECT)
            blame(e, "a value", "its type is none of the table", value->type);
        break;
    }
}

/* ------------------------------------------------------------------------------------------ reading */

static void walk_dict(struct exercise *e, shobj_oid dict, bool reverse)
{
    shobj_dict_iter iter;
    shobj_item items[BATCH];
    size_t count;
    uint64_t length;
    CALL(e, shobj_dict_len, e->store, dict, &length);
    shobj_dict_iter_init(&iter, dict, reverse);
    while (e->values_left > 0 && CALL(e, shobj_dict_iter_next, e->store, &iter, items, BATCH, &count) == 0 && count > 0) {
        shobj_key key;
        shobj_value value;
        bool has;
        for (size_t i = 0; i < count; i++) {
            read_value(e, &items[i].key);
            read_value(e, &items[i].value);
        }
        if (CALL(e, shobj_key_init, e->store, &items[0].key, &key) == 0) {
            char step[64];
            CALL(e, shobj_dict_has, e->store, dict, &key, &has);
            shobj_path_step(&items[0].key, step, sizeof(step));
            /* A call that returns values takes back the memory of those before, also of a key. */
            bool in_place = items[0].key.type <= SHOBJ_INT || items[0].key.type == SHOBJ_FLOAT;
            if (in_place && CALL(e, shobj_dict_get, e->store, dict, &key, &value) == 0)
                read_value(e, &value);
        }
    }
}

static void walk_list(struct exercise *e, shobj_oid list)
{
    shobj_value values[BATCH];
    uint64_t length = 0;
    size_t count;
    CALL(e, shobj_list_len, e->store, list, &length);
    for (uint64_t at = 0; e->values_left > 0 && CALL(e, shobj_list_read, e->store, list, at, values, BATCH, &count) == 0;) {
        if (count == 0)
            break;
        for (size_t i = 0; i < count; i++)
            read_value(e, &values[i]);
        at += count;
        if (at / BATCH % 16 == 0)
            CALL(e, shobj_list_get, e->store, list, (int64_t)(at / 2), &values[0]);
    }
    if (CALL(e, shobj_list_get, e->store, list, -1, &values[0]) == 0)
        read_value(e, &values[0]);
    if (length > 0 && CALL(e, shobj_list_get, e->store, list, (int64_t)(choose(&e->choices, length)), &values[0]) == 0)
        read_value(e, &values[0]);
}

static void walk(struct exercise *e)
{
    const shobj_value root = {.type = SHOBJ_OBJECT, .kind = SHOBJ_KIND_DICT, .oid = shobj_root(e->store)};
    e->object_count = 0;
    e->values_left = e->effort->values;
    read_value(e, &root);
    for (unsigned i = 0; i < e->object_count && e->values_left > 0; i++) {
        enum shobj_kind kind;
        uint64_t version;
        CALL(e, shobj_object, e->store, e->objects[i], &kind, &version);
        if (e->kinds[i] == SHOBJ_KIND_DICT)
            walk_dict(e, e->objects[i], i % 4 == 1);
        else
            walk_list(e, e->objects[i]);
    }
}

struct sink {
    uint64_t bytes, bytes_max, hash;
};

static int swallow(const char *text, size_t bytes, void *arg)
{
    struct sink *sink = arg;
    sink->bytes += bytes;
    for (size_t i = 0; i < bytes; i++)
        sink->hash = (sink->hash ^ (uint8_t)text[i]) * 0x100000001b3u;
    return memchr(text, '\0', bytes) != NULL ? 1 : sink->bytes > sink->bytes_max ? 2 : 0;
}

static void render(struct exercise *e)
{
    static const enum shobj_form forms[] = {SHOBJ_FORM_LITERAL, SHOBJ_FORM_JSON, SHOBJ_FORM_DUMP};
    const shobj_value root = {.type = SHOBJ_OBJECT, .kind = SHOBJ_KIND_DICT, .oid = shobj_root(e->store)};
    for (unsigned i = 0; i < 3; i++) {
        struct sink sink = {.bytes_max = e->effort->text_bytes};
        unsigned depth = choose(&e->choices, 2) ? 0 : 3;
        int rc = shobj_render(e->store, &root, forms[i], i, depth, swallow, &sink);
        if (rc == 1)
            blame(e, "shobj_render", "a NUL in its text", rc);
        else if (rc != 2)
            judge(e, "shobj_render", rc);
    }
}

static int count_session(const shobj_session_info *info, void *arg)
{
    *(uint64_t *)arg += strnlen(info->state, sizeof(info->state)) + info->held_count;
    return 0;
}

static void count_problem(const char *line, void *arg)
{
    *(uint64_t *)arg += strlen(line);
}

static void look(struct exercise *e)
{
    shobj_stat stat;
    uint64_t problems;
    CALL(e, shobj_stat_get, e->store, &stat);
    CALL(e, shobj_sessions, e->store, count_session, &e->sum);
    CALL(e, shobj_check, e->store, count_problem, &e->sum, &problems);
}

/* ------------------------------------------------------------------------------------------ changing */

static shobj_value some_value(struct exercise *e)
{
    static const char bytes[70000];
    static const uint32_t sizes[] = {3, 20, 100, 1000, 9000, 70000};
    static const shobj_value items[] = {{.type = SHOBJ_INT, .i = 1}, {.type = SHOBJ_STR, .data = "a text", .count = 6}};
    switch (choose(&e->choices, 6)) {
    case 0: return (shobj_value){.type = SHOBJ_TUPLE, .items = items, .count = 2};
    case 1: return (shobj_value){.type = SHOBJ_OBJECT, .oid = e->objects[choose(&e->choices, e->object_count)]};
    case 2:
    case 3: return (shobj_value){.type = SHOBJ_BYTES, .data = bytes, .count = sizes[choose(&e->choices, 6)]};
    default: return (shobj_value){.type = SHOBJ_INT, .i = (int64_t)choose(&e->choices, 1000)};
    }
}

static shobj_key some_key(struct exercise *e, char room[24])
{
    unsigned number = (unsigned)choose(&e->choices, 800);
    shobj_value value = {.type = SHOBJ_INT, .i = number};
    shobj_key key = {0};
    shape_key(number, room);
    if (choose(&e->choices, 2))
        value = (shobj_value){.type = SHOBJ_STR, .data = room, .count = strlen(room)};
    CALL(e, shobj_key_init, e->store, &value, &key);
    return key;
}

static void change_dict(struct exercise *e, shobj_oid dict)
{
    char room[24];
    shobj_value value = some_value(e), got;
    shobj_item item;
    shobj_key key = some_key(e, room);
    switch (choose(&e->choices, 12)) {
    case 0:
    case 1: CALL(e, shobj_dict_del, e->store, dict, &key, &got); break;
    case 2: CALL(e, shobj_dict_del, e->store, dict, &key, NULL); break;
    case 3: CALL(e, shobj_dict_setdefault, e->store, dict, &key, &value, &got); break;
    case 4: CALL(e, shobj_dict_popitem, e->store, dict, choose(&e->choices, 2), &item); break;
    case 5:
        if (choose(&e->choices, 4) == 0)
            CALL(e, shobj_dict_clear, e->store, dict);
        break;
    default: CALL(e, shobj_dict_set, e->store, dict, &key, &value); break;
    }
}

static void change_list(struct exercise *e, shobj_oid list)
{
    shobj_value value = some_value(e), got;
    const shobj_value several[] = {value, {.type = SHOBJ_INT, .i = 5}, value};
    int64_t index = (int64_t)choose(&e->choices, 200) - 100;
    switch (choose(&e->choices, 12)) {
    case 0:
    case 1: CALL(e, shobj_list_del, e->store, list, index, &got); break;
    case 2: CALL(e, shobj_list_del, e->store, list, -1, NULL); break;
    case 3:
    case 4: CALL(e, shobj_list_insert, e->store, list, index, &value); break;
    case 5: CALL(e, shobj_list_extend, e->store, list, several, 3); break;
    case 6:
        if (choose(&e->choices, 4) == 0)
            CALL(e, shobj_list_clear, e->store, list);
        break;
    case 7:
    case 8: CALL(e, shobj_list_append, e->store, list, &value); break;
    default: CALL(e, shobj_list_set, e->store, list, index, &value); break;
    }
}

static void change_paths(struct exercise *e)
{
    static const char *const paths[] = {"/dict/k3", "/list/0", "/list/-", "/~=700/~=35", "/~=1500/7", "/shared/3/0/down/0"};
    const char *path = paths[choose(&e->choices, sizeof(paths) / sizeof(paths[0]))];
    shobj_value value = some_value(e), got;
    CALL(e, shobj_path_set, e->store, path, choose(&e->choices, 4) ? &value : NULL);
    if (CALL(e, shobj_path_get, e->store, path, &got) == 0)
        read_value(e, &got);
}

static void change_one(struct exercise *e)
{
    unsigned at = (unsigned)choose(&e->choices, e->object_count);
    shobj_oid made;
    if (choose(&e->choices, 16) == 0)
        change_paths(e);
    if (choose(&e->choices, 16) == 0)
        CALL(e, shobj_list_new, e->store, NULL, 0, &made);
    if (e->kinds[at] == SHOBJ_KIND_DICT)
        change_dict(e, e->objects[at]);
    else
        change_list(e, e->objects[at]);
}

static int body(shobj_store *store, void *arg)
{
    struct exercise *e = arg;
    for (unsigned i = 0; i < 5; i++)
        change_one(e);
    return shobj_txn_is_doomed(store) ? SHOBJ_ECONFLICT : choose(&e->choices, 4) == 0 ? SHOBJ_EABORTED : 0;
}

static int other_body(shobj_store *store, void *arg)
{
    struct exercise *e = arg;
    if (choose(&e->choices, 2))
        return SHOBJ_ERETRY;
    return body(store, e);
}

/* The bodies here ask for these two themselves. */
static void judge_run(struct exercise *e, const char *call, int rc)
{
    if (rc != SHOBJ_EABORTED && rc != SHOBJ_ERETRY)
        judge(e, call, rc);
}

static void change_in_transaction(struct exercise *e)
{
    switch (choose(&e->choices, 4)) {
    case 0: judge_run(e, "shobj_run", shobj_run(e->store, body, e)); break;
    case 1: judge_run(e, "shobj_or_else", shobj_or_else(e->store, other_body, body, e)); break;
    case 2:
        if (CALL(e, shobj_txn_begin, e->store) != 0)
            break;
        body(e->store, e);
        if (CALL(e, shobj_txn_begin, e->store) == 0) {
            body(e->store, e);
            if (choose(&e->choices, 2))
                shobj_txn_abort(e->store);
            else
                CALL(e, shobj_txn_commit, e->store);
        }
        if (choose(&e->choices, 4) == 0)
            shobj_txn_abort(e->store);
        else
            CALL(e, shobj_txn_commit, e->store);
        break;
    default:
        if (CALL(e, shobj_txn_begin_read, e->store) == 0) {
            walk(e);
            CALL(e, shobj_txn_commit, e->store);
        }
        break;
    }
    if (shobj_txn_depth(e->store) != 0)
        blame(e, "a transaction", "a block is left open", 0);
}

/* ------------------------------------------------------------------------------------------ all of it */

static void set_deadline(struct exercise *e)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    shobj_deadline(e->store, now.tv_sec * INT64_C(1000000000) + now.tv_nsec + PATIENCE_NS);
}

static bool open_store(struct exercise *e, const char *path, enum exercise_mode mode)
{
    const shobj_options options = {.mode = mode == EXERCISE_READ ? SHOBJ_OPEN_READ : SHOBJ_OPEN_WRITE};
    if (CALL(e, shobj_open, path, &options, &e->store) != 0)
        return false;
    set_deadline(e);
    return true;
}

/* What the whole store's text hashes to; 0 if it can't be had. */
static uint64_t fingerprint(struct exercise *e, const char *path)
{
    struct sink sink = {.hash = 1, .bytes_max = e->effort->text_bytes};
    if (!open_store(e, path, EXERCISE_READ))
        return 0;
    const shobj_value root = {.type = SHOBJ_OBJECT, .kind = SHOBJ_KIND_DICT, .oid = shobj_root(e->store)};
    int rc = shobj_render(e->store, &root, SHOBJ_FORM_DUMP, 0, 0, swallow, &sink);
    shobj_close(e->store);
    return rc == 0 || rc == 2 ? sink.hash : 0;
}

/* Repairs the heap. False: it is beyond that, which only damage to what tells its layout and sizes is. */
static bool repair(struct exercise *e, const char *path)
{
    static const shobj_repair_options options;
    uint64_t lost = 0, before = e->is_sound ? fingerprint(e, path) : 0;
    int rc = shobj_repair(path, &options, count_problem, &e->sum, &lost);
    if (!e->is_sound && (rc == SHOBJ_EFORMAT || rc == SHOBJ_EVERSION || rc == SHOBJ_ECORRUPT))
        return false;
    if (rc != 0)
        blame(e, "shobj_repair", "it failed", rc);
    if (e->is_sound && (lost != 0 || fingerprint(e, path) != before))
        blame(e, "shobj_repair", "a sound heap has other contents than before", (int)lost);
    e->is_sound = true;
    return e->wrong == NULL;
}

const char *exercise(const char *path, enum exercise_mode mode, uint64_t seed, const struct effort *effort, bool is_sound)
{
    struct exercise e = {.effort = effort, .choices = {.state = seed}, .is_sound = is_sound};
    if (mode == EXERCISE_REPAIR && !repair(&e, path))
        return e.wrong;
    if (!open_store(&e, path, mode))
        return e.wrong;
    if (mode == EXERCISE_REPAIR || choose(&e.choices, 2))
        look(&e);
    walk(&e);
    render(&e);
    if (mode != EXERCISE_READ) {
        e.has_changed = true;
        for (unsigned i = 0; i < effort->changes; i++)
            change_one(&e);
        for (unsigned i = 0; i < effort->changes / 10; i++)
            change_in_transaction(&e);
        unsigned reaped;
        CALL(&e, shobj_reap, e.store, &reaped);
        walk(&e);
        look(&e);
    }
    shobj_detach(e.store);
    shobj_close(e.store);
    /* What was written by then is as safe to read. */
    if (e.wrong == NULL && open_store(&e, path, mode)) {
        look(&e);
        shobj_close(e.store);
    }
    return e.wrong;
}
