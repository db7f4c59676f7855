/*
 * graphs.h: what the tests of the collector have in common: short forms of the calls; a random graph of objects beside a model of
 * it in private memory, which tells what is reachable and what it holds; messages that tell whether they are whole.
 */
#ifndef GRAPHS_H
#define GRAPHS_H

#include <pthread.h>
#include <stdatomic.h>

#include "audit.h"
#include "base/fault.h"
#include "values.h"

static shobj_store *store;
static shobj_pins *pins;

__attribute__((unused)) static shobj_value object(shobj_oid oid)
{
    return (shobj_value){.type = SHOBJ_OBJECT, .oid = oid};
}

__attribute__((unused)) static shobj_key key_of(int64_t number)
{
    shobj_value value = integer(number);
    shobj_key key;
    CHECK_INT(shobj_key_init(store, &value, &key), 0);
    return key;
}

__attribute__((unused)) static shobj_oid new_list(const shobj_value *items, size_t count)
{
    shobj_oid oid;
    CHECK_INT(shobj_list_new(store, items, count, &oid), 0);
    return oid;
}

__attribute__((unused)) static shobj_oid new_dict(void)
{
    shobj_oid oid;
    CHECK_INT(shobj_dict_new(store, NULL, 0, &oid), 0);
    return oid;
}

__attribute__((unused)) static void set(shobj_oid dict, int64_t number, shobj_value value)
{
    shobj_key key = key_of(number);
    CHECK_INT(shobj_dict_set(store, dict, &key, &value), 0);
}

__attribute__((unused)) static shobj_value get(shobj_oid dict, int64_t number)
{
    shobj_key key = key_of(number);
    shobj_value value;
    CHECK_INT(shobj_dict_get(store, dict, &key, &value), 0);
    return value;
}

__attribute__((unused)) static void unset(shobj_oid dict, int64_t number)
{
    shobj_key key = key_of(number);
    CHECK_INT(shobj_dict_del(store, dict, &key, NULL), 0);
}

__attribute__((unused)) static bool is_alive(shobj_oid oid)
{
    enum shobj_kind kind;
    int rc = shobj_object(store, oid, &kind, NULL);
    CHECK(rc == 0 || rc == SHOBJ_ESTALE);
    return rc == 0;
}

/* With both sessions that a thread has where there are two mappings. */
__attribute__((unused)) static void release_all(void)
{
    shobj_release(store, 0);
    shobj_release(store, 0);
}

__attribute__((unused)) static void collect(void)
{
    release_all();
    CHECK_INT(shobj_collect(store, 1), 0);
}

__attribute__((unused)) static uint32_t pin(shobj_oid oid)
{
    uint32_t at;
    CHECK_INT(shobj_pin(pins, oid, &at), 0);
    return at;
}

__attribute__((unused)) static void begin(void)
{
    store = check_store();
    CHECK_INT(shobj_pins_open(store, &pins), 0);
}

/* All that the test has made is gone. */
__attribute__((unused)) static void finish(void)
{
    CHECK_INT(shobj_dict_clear(store, shobj_root(store)), 0);
    shobj_pins_close(pins);
    collect();
    AUDIT(store, 1);
    shobj_close(store);
}

__attribute__((unused)) static void in_thread(void *(*fn)(void *))
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fn, NULL) == 0);
    pthread_join(thread, NULL);
}

/* ------------------------------------------------------------------------------------------ a model */

enum { OBJECTS = 48, PLACES = 40, REFS = 3 };

enum sort { S_NUMBER, S_STR, S_REF, S_TUPLE, S_SET, S_RUN };

struct place {
    uint8_t sort;
    uint8_t ref_count;
    int16_t refs[REFS]; /* objects */
    shobj_oid oids[REFS];
    int64_t number;     /* what a str or a run is made of, and the other items of a tuple */
    int64_t key;        /* in a dict */
};

struct thing {
    shobj_oid oid; /* 0: none */
    bool is_list, is_pinned, is_reachable;
    uint32_t pin;
    int count;
    struct place places[PLACES];
};

/* Object 0 is the dict under root[number] and stays. */
struct model {
    uint64_t random;
    unsigned number;
    shobj_pins *pins;
    struct thing things[OBJECTS];
};

__attribute__((unused)) static unsigned draw(struct model *m, unsigned bound)
{
    return (unsigned)(check_random(&m->random) % bound);
}

__attribute__((unused)) static void reach(struct model *m, int at)
{
    struct thing *t = &m->things[at];
    if (t->is_reachable)
        return;
    t->is_reachable = true;
    for (int i = 0; i < t->count; i++)
        for (int k = 0; k < t->places[i].ref_count; k++)
            reach(m, t->places[i].refs[k]);
}

__attribute__((unused)) static void find_reachable(struct model *m)
{
    for (int i = 0; i < OBJECTS; i++)
        m->things[i].is_reachable = false;
    reach(m, 0);
    for (int i = 1; i < OBJECTS; i++)
        if (m->things[i].oid != 0 && m->things[i].is_pinned)
            reach(m, i);
}

/* A reachable one. */
__attribute__((unused)) static int draw_thing(struct model *m)
{
    find_reachable(m);
    for (;;) {
        int i = (int)draw(m, OBJECTS);
        if (m->things[i].is_reachable)
            return i;
    }
}

struct room {
    shobj_value items[2 * REFS + 2];
    char text[400];
    uint8_t *run;
};

__attribute__((unused)) static size_t run_bytes(int64_t number)
{
    return 33000u + (size_t)(number % 3) * 60000u;
}

__attribute__((unused)) static shobj_value value_of(struct model *m, const struct place *p, struct room *room)
{
    size_t n = 0;
    switch (p->sort) {
    case S_STR:
        n = (size_t)snprintf(room->text, sizeof(room->text), "%*" PRId64, (int)(p->number % 300), p->number);
        return (shobj_value){.type = SHOBJ_STR, .data = room->text, .count = n};
    case S_RUN:
        room->run = calloc(1, run_bytes(p->number));
        CHECK(room->run != NULL);
        memcpy(room->run + 100, &p->number, 8);
        return (shobj_value){.type = SHOBJ_BYTES, .data = room->run, .count = run_bytes(p->number)};
    case S_REF:
        return object(m->things[p->refs[0]].oid);
    case S_TUPLE:
    case S_SET:
        room->items[n++] = integer(p->number);
        room->items[n++] = real((double)p->number + 0.5);
        for (int i = 0; i < p->ref_count; i++)
            room->items[n++] = object(m->things[p->refs[i]].oid);
        return (shobj_value){.type = p->sort == S_SET ? SHOBJ_FROZENSET : SHOBJ_TUPLE, .items = room->items, .count = n};
    default:
        return integer(p->number);
    }
}

__attribute__((unused)) static struct place draw_place(struct model *m)
{
    struct place p = {.number = (int64_t)draw(m, 1000000) + 1};
    switch (draw(m, 12)) {
    case 0:
        p.sort = S_NUMBER;
        break;
    case 1:
    case 2:
        p.sort = S_STR;
        break;
    case 3:
        p.sort = draw(m, 8) == 0 ? S_RUN : S_NUMBER;
        break;
    case 4:
    case 5:
        p.sort = S_TUPLE;
        break;
    case 6:
        p.sort = S_SET;
        break;
    default:
        p.sort = S_REF;
    }
    p.ref_count = (uint8_t)(p.sort == S_REF ? 1 : p.sort == S_TUPLE ? draw(m, REFS + 1) : 0);
    for (int i = 0; i < p.ref_count; i++) {
        p.refs[i] = (int16_t)draw_thing(m);
        p.oids[i] = m->things[p.refs[i]].oid;
    }
    return p;
}

/* A new one, stored nowhere yet: the caller stores or pins it before the next call. -1: no place in the model. */
__attribute__((unused)) static int new_thing(struct model *m, int *ret_rc)
{
    find_reachable(m);
    for (int i = 1; i < OBJECTS; i++) {
        struct thing *t = &m->things[i];
        if (t->is_reachable)
            continue;
        *t = (struct thing){.is_list = draw(m, 2)};
        *ret_rc = t->is_list ? shobj_list_new(store, NULL, 0, &t->oid) : shobj_dict_new(store, NULL, 0, &t->oid);
        return *ret_rc ? -1 : i;
    }
    return -1;
}

__attribute__((unused)) static int put(struct model *m, int at, struct place p)
{
    struct thing *t = &m->things[at];
    struct room room = {0};
    shobj_value value = value_of(m, &p, &room);
    int rc;
    if (t->is_list) {
        int i = t->count > 0 ? (int)draw(m, (unsigned)t->count) : 0;
        unsigned how = draw(m, 3);
        if ((how == 0 || t->count == PLACES) && t->count > 0) {
            rc = shobj_list_set(store, t->oid, i, &value);
            if (rc == 0)
                t->places[i] = p;
        } else if (how == 1) {
            rc = shobj_list_append(store, t->oid, &value);
            if (rc == 0)
                t->places[t->count++] = p;
        } else {
            rc = shobj_list_insert(store, t->oid, i, &value);
            if (rc == 0) {
                memmove(&t->places[i + 1], &t->places[i], (size_t)(t->count - i) * sizeof(p));
                t->places[i] = p;
                t->count++;
            }
        }
    } else {
        p.key = (int64_t)draw(m, PLACES);
        shobj_key key = key_of(p.key);
        rc = shobj_dict_set(store, t->oid, &key, &value);
        int i = 0;
        while (i < t->count && t->places[i].key != p.key)
            i++;
        if (rc == 0) {
            t->places[i] = p;
            t->count += i == t->count;
        }
    }
    free(room.run);
    return rc;
}

__attribute__((unused)) static int drop(struct model *m, int at)
{
    struct thing *t = &m->things[at];
    if (t->count == 0)
        return 0;
    int i = (int)draw(m, (unsigned)t->count), rc;
    if (draw(m, 12) == 0) {
        rc = t->is_list ? shobj_list_clear(store, t->oid) : shobj_dict_clear(store, t->oid);
        if (rc == 0)
            t->count = 0;
        return rc;
    }
    if (t->is_list) {
        rc = shobj_list_del(store, t->oid, i, NULL);
    } else {
        shobj_key key = key_of(t->places[i].key);
        rc = shobj_dict_del(store, t->oid, &key, NULL);
    }
    if (rc == 0) {
        memmove(&t->places[i], &t->places[i + 1], (size_t)(t->count - i - 1) * sizeof(t->places[0]));
        t->count--;
    }
    return rc;
}

__attribute__((unused)) static int compare(struct model *m, int at)
{
    struct thing *t = &m->things[at];
    uint64_t length;
    int rc = t->is_list ? shobj_list_len(store, t->oid, &length) : shobj_dict_len(store, t->oid, &length);
    if (rc)
        return rc;
    CHECK_INT(length, t->count);
    for (int i = 0; i < t->count; i++) {
        struct room room = {0};
        shobj_value is, expected = value_of(m, &t->places[i], &room);
        shobj_key key = key_of(t->places[i].key);
        rc = t->is_list ? shobj_list_get(store, t->oid, i, &is) : shobj_dict_get(store, t->oid, &key, &is);
        if (rc) {
            free(room.run);
            return rc;
        }
        CHECK(same(&is, &expected));
        free(room.run);
    }
    return 0;
}

/* One random change. 0 or ECONFLICT. */
__attribute__((unused)) static int change(struct model *m)
{
    int at = draw_thing(m), other, rc = 0;
    switch (draw(m, 10)) {
    case 0:
    case 1:
    case 2:
        if ((other = new_thing(m, &rc)) > 0) {
            struct place p = {.sort = draw(m, 2) ? S_REF : S_TUPLE, .ref_count = 1, .refs = {(int16_t)other}, .oids = {m->things[other].oid}, .number = 3};
            rc = put(m, at, p);
            if (rc == 0 && m->things[other].oid != 0)
                rc = put(m, other, draw_place(m));
        }
        return rc;
    case 3:
    case 4:
        return drop(m, at);
    case 5:
        return compare(m, at);
    default:
        return put(m, at, draw_place(m));
    }
}

/* Pins and drops pins, of what is reachable: outside transactions. */
__attribute__((unused)) static void change_pins(struct model *m)
{
    int at = draw_thing(m);
    struct thing *t = &m->things[at];
    if (at == 0)
        return;
    if (t->is_pinned) {
        shobj_unpin(m->pins, t->pin);
        t->is_pinned = false;
    } else if (draw(m, 3) == 0) {
        CHECK_INT(shobj_pin(m->pins, t->oid, &t->pin), 0);
        t->is_pinned = true;
    }
}

/* Is all that an unreachable one leads to still in the model? */
__attribute__((unused)) static bool is_whole(struct model *m, int at)
{
    struct thing *t = &m->things[at];
    if (t->is_reachable)
        return true;
    t->is_reachable = true; /* looked at; the caller draws the line anew */
    for (int i = 0; i < t->count; i++)
        for (int k = 0; k < t->places[i].ref_count; k++)
            if (m->things[t->places[i].refs[k]].oid != t->places[i].oids[k] || !is_whole(m, t->places[i].refs[k]))
                return false;
    return true;
}

/* Pins what nobody refers to any more, by its id alone: it has gone, or it is as it was, with all that it leads to. */
__attribute__((unused)) static void pin_weakly(struct model *m)
{
    int at = (int)draw(m, OBJECTS);
    struct thing *t = &m->things[at];
    find_reachable(m);
    if (at == 0 || t->oid == 0 || t->is_reachable || !is_whole(m, at))
        return;
    int rc = shobj_pin(m->pins, t->oid, &t->pin);
    CHECK(rc == 0 || rc == SHOBJ_ESTALE);
    t->is_pinned = rc == 0;
    find_reachable(m);
    for (int i = 0; i < OBJECTS; i++)
        if (m->things[i].is_reachable)
            CHECK_INT(compare(m, i), 0);
}

struct attempt {
    struct model *m, before;
    uint64_t seed;
    bool is_undone;
};

__attribute__((unused)) static int transaction_body(shobj_store *st, void *arg)
{
    struct attempt *a = arg;
    struct model *m = a->m;
    *m = a->before;
    m->random = a->seed;
    int rc = 0;
    for (unsigned i = 1 + draw(m, 6); i > 0 && rc == 0; i--) {
        if (draw(m, 4) != 0) {
            rc = change(m);
            continue;
        }
        struct model *inner = malloc(sizeof(*inner));
        CHECK(inner != NULL);
        *inner = *m;
        rc = shobj_txn_begin(st);
        for (unsigned k = draw(m, 3); k > 0 && rc == 0; k--)
            rc = change(m);
        if (draw(m, 2) || rc) {
            shobj_txn_abort(st);
            inner->random = m->random;
            *m = *inner;
        } else {
            rc = shobj_txn_commit(st);
        }
        free(inner);
    }
    return rc ? rc : a->is_undone ? SHOBJ_EABORTED : 0;
}

__attribute__((unused)) static void step(struct model *m)
{
    if (draw(m, 3) != 0) {
        CHECK_INT(change(m), 0);
    } else {
        struct attempt *a = malloc(sizeof(*a));
        CHECK(a != NULL);
        *a = (struct attempt){.m = m, .before = *m, .is_undone = draw(m, 4) == 0, .seed = check_random(&m->random)};
        CHECK_INT(shobj_run(store, transaction_body, a), a->is_undone ? SHOBJ_EABORTED : 0);
        if (a->is_undone) {
            a->before.random = m->random;
            *m = a->before;
        }
        free(a);
    }
    change_pins(m);
}

__attribute__((unused)) static void model_begin(struct model *m, unsigned number, uint64_t seed)
{
    *m = (struct model){.random = seed, .number = number};
    m->things[0].oid = new_dict();
    set(shobj_root(store), number, object(m->things[0].oid));
    CHECK_INT(shobj_pins_open(store, &m->pins), 0);
}

/* All that is reachable is what it should be, and all the rest gone: after a collection. */
__attribute__((unused)) static void judge(struct model *m, bool is_collected)
{
    find_reachable(m);
    for (int i = 0; i < OBJECTS; i++)
        if (m->things[i].is_reachable)
            CHECK_INT(compare(m, i), 0);
        else if (is_collected && m->things[i].oid != 0)
            CHECK(!is_alive(m->things[i].oid));
}

/* ------------------------------------------------------------------------------------------ messages */

enum { MESSAGE_LENGTH = 40 };

static shobj_oid mailbox;

/* A message is a list of lists, dicts and strings, all of which tell its number: who takes it out sees whether it is whole. */
__attribute__((unused)) static int send_body(shobj_store *st, void *arg)
{
    struct model *m = arg;
    int64_t number = (int64_t)draw(m, 1 << 30);
    shobj_value items[MESSAGE_LENGTH];
    char text[100];
    int rc;
    for (int i = 0; i < MESSAGE_LENGTH; i++) {
        shobj_value item = integer(number + i);
        shobj_item entry = {.key = integer(1), .value = item};
        shobj_oid oid;
        if (i % 3 == 2) {
            items[i] = item;
            continue;
        }
        rc = i % 3 == 0 ? shobj_list_new(st, &item, 1, &oid) : shobj_dict_new(st, &entry, 1, &oid);
        if (rc)
            return rc;
        items[i] = object(oid);
    }
    snprintf(text, sizeof(text), "%90" PRId64, number);
    items[2] = (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
    shobj_oid message;
    rc = shobj_list_new(st, items, MESSAGE_LENGTH, &message);
    shobj_value value = object(message);
    return rc ? rc : shobj_list_append(st, mailbox, &value);
}

__attribute__((unused)) static int open_message(shobj_store *st, shobj_oid message)
{
    int64_t number = 0;
    shobj_key key = key_of(1);
    for (int i = 0; i < MESSAGE_LENGTH; i++) {
        shobj_value value, inner;
        int rc = shobj_list_get(st, message, i, &value);
        if (rc)
            return rc;
        if (i == 2) {
            char text[100];
            snprintf(text, sizeof(text), "%90" PRId64, number);
            CHECK(value.type == SHOBJ_STR && value.count == strlen(text) && memcmp(value.data, text, value.count) == 0);
            continue;
        }
        if (value.type == SHOBJ_OBJECT) {
            rc = i % 3 == 0 ? shobj_list_get(st, value.oid, 0, &inner) : shobj_dict_get(st, value.oid, &key, &inner);
            if (rc)
                return rc;
            value = inner;
        }
        if (i == 0)
            number = value.i;
        CHECK_INT(value.i, number + i);
    }
    return 0;
}

__attribute__((unused)) static int take_body(shobj_store *st, void *arg)
{
    shobj_value message;
    (void)arg;
    int rc = shobj_list_del(st, mailbox, 0, &message);
    return rc == SHOBJ_ENOTFOUND ? 0 : rc ? rc : open_message(st, message.oid);
}

/* The same step by step: what a call has returned is pinned, then nothing else leads to it. */
__attribute__((unused)) static void take_slowly(struct model *m)
{
    shobj_value message;
    uint32_t at;
    int rc = shobj_list_del(store, mailbox, -1, &message);
    CHECK(rc == 0 || rc == SHOBJ_ENOTFOUND);
    if (rc)
        return;
    CHECK_INT(shobj_pin(m->pins, message.oid, &at), 0);
    CHECK_INT(open_message(store, message.oid), 0);
    shobj_unpin(m->pins, at);
}

/* When all mutators are gone: the models hold, everything that is alive is known; then the last messages are read, and all is let go. */
__attribute__((unused)) static void close_models(struct model *models, unsigned count)
{
    collect();
    for (unsigned i = 0; i < count; i++)
        judge(&models[i], true);
    release_all();
    AUDIT(store, 0);
    uint64_t length;
    CHECK_INT(shobj_list_len(store, mailbox, &length), 0);
    while (length-- > 0)
        take_slowly(&models[0]);
    for (unsigned i = 0; i < count; i++)
        shobj_pins_close(models[i].pins);
    finish();
}

#endif
