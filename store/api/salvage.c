/*
 * salvage.c: copies what can be read of a damaged heap into a new one.
 *
 * Objects keep their identity: one that is met for the first time is made empty and queued; what refers to it later refers
 * to the same new object. So sharing and circles come out as they were, and free lists, counts and indexes are right
 * because they are new.
 *
 *   the root            becomes the new root; if it can't be read nothing does
 *   lost+found          if anything was lost: objects that live in the slabs of nodes and were not met. First those that no
 *                       other such object refers to, then what is left of rings. Maybe nobody wanted some of them any more.
 *
 * A value that can't be read is lost whole. In a list None takes its place, so that the others keep theirs; in a dict its
 * key goes with it.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/repair.h"

typedef struct twin {
    uint64_t off; /* of the old object; 0: no twin */
    shobj_oid oid;
    bool wanted; /* another object that was not met refers to it */
} twin;

typedef struct copier {
    sho_region *from;
    shobj_store reader; /* of `from`: what a session needs to read values by */
    sho_session *session;
    shobj_store *to;
    void (*report)(const char *line, void *arg);
    void *arg;
    uint64_t lost;
    twin *twins; /* open addressing */
    size_t twin_count, twin_room;
    uint64_t *queue; /* old objects whose twins are still empty */
    size_t queue_count, queue_room;
    shobj_oid target; /* the object that is being filled */
    uint64_t source;
    bool only_marks; /* references are noted as wanted, nothing is copied */
} copier;

__attribute__((format(printf, 3, 4))) static void lost(void *arg, uint64_t off, const char *format, ...)
{
    copier *c = arg;
    char what[300], line[400];
    va_list args;
    if (c->only_marks)
        return;
    c->lost++;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    snprintf(line, sizeof(line), "block 0x%" PRIx64 ": lost: %s", off, what);
    if (c->report != NULL)
        c->report(line, c->arg);
}

static int no_memory(const copier *c)
{
    return sho_error(SHOBJ_ENOMEM, "salvaging %s: out of memory", c->from->path);
}

/* ------------------------------------------------------------------------------------------ old and new */

static size_t twin_place(const copier *c, uint64_t off)
{
    size_t i = (size_t)((off >> 4) * 0x9e3779b97f4a7c15u >> 20) & (c->twin_room - 1);
    while (c->twins[i].off != 0 && c->twins[i].off != off)
        i = (i + 1) & (c->twin_room - 1);
    return i;
}

static int grow_twins(copier *c)
{
    size_t old_room = c->twin_room, room = old_room == 0 ? 1024 : old_room * 2;
    twin *old = c->twins, *grown = calloc(room, sizeof(*grown));
    if (grown == NULL)
        return no_memory(c);
    c->twins = grown;
    c->twin_room = room;
    for (size_t i = 0; i < old_room; i++)
        if (old[i].off != 0)
            grown[twin_place(c, old[i].off)] = old[i];
    free(old);
    return 0;
}

/* The entry of an old object, a new one if there is none. */
static int find_twin(copier *c, uint64_t off, twin **ret_twin)
{
    int rc = c->twin_count * 2 >= c->twin_room ? grow_twins(c) : 0;
    if (rc)
        return rc;
    *ret_twin = &c->twins[twin_place(c, off)];
    if ((*ret_twin)->off == 0) {
        (*ret_twin)->off = off;
        c->twin_count++;
    }
    return 0;
}

static int enqueue(copier *c, uint64_t off)
{
    if (c->queue_count == c->queue_room) {
        size_t room = c->queue_room * 2 + 256;
        uint64_t *p = realloc(c->queue, room * sizeof(*p));
        if (p == NULL)
            return no_memory(c);
        c->queue = p;
        c->queue_room = room;
    }
    c->queue[c->queue_count++] = off;
    return 0;
}

/* The new object for an old one, whose header names its kind. */
static int new_object(copier *c, uint64_t off, shobj_oid *ret_oid)
{
    twin *t;
    sho_view view;
    int rc = find_twin(c, off, &t);
    if (rc)
        return rc;
    if (t->oid == 0) {
        rc = sho_salvage_node(c->from, off, SHM_DICT, &view) ? shobj_dict_new(c->to, NULL, 0, &t->oid)
                                                               : shobj_list_new(c->to, NULL, 0, &t->oid);
        if (rc == 0)
            rc = enqueue(c, off);
    }
    *ret_oid = t->oid;
    return rc;
}

/* ------------------------------------------------------------------------------------------ values */

/* Puts new objects in the place of the old ones, also inside tuples. The memory is the reading session's. */
static int translate(copier *c, shobj_value *value)
{
    int rc = 0;
    twin *t;
    if (value->type == SHOBJ_OBJECT && c->only_marks) {
        rc = find_twin(c, SHM_OID_OFF(value->oid), &t);
        if (rc == 0 && SHM_OID_OFF(value->oid) != c->source)
            t->wanted = true;
    } else if (value->type == SHOBJ_OBJECT) {
        rc = new_object(c, SHM_OID_OFF(value->oid), &value->oid);
    } else if (value->type == SHOBJ_TUPLE) {
        for (size_t i = 0; rc == 0 && i < value->count; i++)
            rc = translate(c, (shobj_value *)&value->items[i]);
    }
    return rc;
}

/* *ret_good is false if the value can't be read. */
static int read_value(copier *c, uint64_t cell, shobj_value *ret_value, bool *ret_good)
{
    *ret_good = false;
    int rc = sho_cell_decode(c->session, cell, ret_value);
    if (rc == SHOBJ_ECORRUPT || (rc == 0 && ret_value->type == SHOBJ_ABSENT))
        return 0;
    if (rc == 0)
        rc = translate(c, ret_value);
    *ret_good = rc == 0;
    return rc;
}

static int set_entry(copier *c, const shobj_value *key, const shobj_value *value)
{
    shobj_key ready;
    bool has = false;
    int rc = shobj_key_init(c->to, key, &ready);
    if (rc == 0)
        rc = shobj_dict_has(c->to, c->target, &ready, &has);
    if (rc == 0 && has)
        lost(c, c->source, "the second of two entries of a dict with equal keys");
    else if (rc == 0)
        rc = shobj_dict_set(c->to, c->target, &ready, value);
    if (rc != SHOBJ_ETYPE && rc != SHOBJ_EINVAL)
        return rc;
    lost(c, c->source, "an entry of a dict: %s", shobj_error_message());
    return 0;
}

static int on_entry(void *arg, uint64_t key_cell, uint64_t value_cell)
{
    copier *c = arg;
    shobj_value key, value;
    bool has_key, has_value = false;
    sho_values_reset(c->session);
    int rc = read_value(c, key_cell, &key, &has_key);
    if (rc == 0 && has_key)
        rc = read_value(c, value_cell, &value, &has_value);
    if (rc)
        return rc;
    if (!has_key || !has_value) {
        char step[80] = "";
        if (has_key)
            shobj_path_step(&key, step, sizeof(step));
        lost(c, c->source, has_key ? "an entry of a dict: the value of key %s can't be read"
                                   : "an entry of a dict: its key can't be read%s", step);
        return 0;
    }
    return c->only_marks ? 0 : set_entry(c, &key, &value);
}

static int on_element(void *arg, uint64_t cell)
{
    copier *c = arg;
    shobj_value value;
    bool good;
    sho_values_reset(c->session);
    int rc = read_value(c, cell, &value, &good);
    if (rc || c->only_marks)
        return rc;
    if (!good) {
        if (cell != SHO_CELL_EMPTY) /* else the walk has told */
            lost(c, c->source, "an element of a list can't be read: None is in its place");
        value = (shobj_value){.type = SHOBJ_NONE};
    }
    rc = shobj_list_append(c->to, c->target, &value);
    if (rc != SHOBJ_ETYPE && rc != SHOBJ_EINVAL)
        return rc;
    lost(c, c->source, "an element of a list: %s", shobj_error_message());
    value = (shobj_value){.type = SHOBJ_NONE};
    return shobj_list_append(c->to, c->target, &value);
}

/* ------------------------------------------------------------------------------------------ objects */

static int salvage_object(copier *c, uint64_t off)
{
    const sho_salvage_sink sink = {.lost = lost, .entry = on_entry, .element = on_element, .arg = c};
    sho_view view;
    c->source = off;
    return sho_salvage_node(c->from, off, SHM_DICT, &view) ? sho_dict_salvage(c->from, off, &sink)
                                                             : sho_list_salvage(c->from, off, &sink);
}

static int drain(copier *c)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < c->queue_count; at++) {
        uint64_t off = c->queue[at];
        c->target = c->twins[twin_place(c, off)].oid;
        rc = salvage_object(c, off);
    }
    c->queue_count = 0;
    return rc;
}

static int copy_root(copier *c)
{
    uint64_t off = SHM_OID_OFF(c->from->root_oid);
    sho_view view;
    twin *t;
    if (!sho_salvage_node(c->from, off, SHM_DICT, &view)) {
        lost(c, off, "the root dict");
        return 0;
    }
    int rc = find_twin(c, off, &t);
    if (rc == 0) {
        t->oid = shobj_root(c->to);
        rc = enqueue(c, off);
    }
    return rc ? rc : drain(c);
}

/* ------------------------------------------------------------------------------------------ lost and found */

/* Calls back for each live object in the slabs of nodes that has no twin. */
static int each_orphan(copier *c, int (*visit)(copier *c, uint64_t off))
{
    sho_region *region = c->from;
    int rc = 0;
    for (uint64_t slab = region->data_off >> SHM_SLAB_SHIFT; slab < sho_region_slab_count(region); slab++) {
        sho_slab_info info;
        if (sho_slab_info_get(region, slab, &info) || info.kind != SHM_SLAB_NODES)
            continue;
        for (unsigned i = 0; rc == 0 && i < info.block_count; i++) {
            uint64_t off = (slab << SHM_SLAB_SHIFT) + (uint64_t)i * info.block_bytes;
            sho_view view;
            if (!sho_salvage_node(region, off, SHM_DICT, &view) && !sho_salvage_node(region, off, SHM_LIST, &view))
                continue;
            if (SHM_NODE_BYTES(view.word_count) != info.block_bytes)
                continue;
            if (c->twin_room == 0 || c->twins[twin_place(c, off)].oid == 0)
                rc = visit(c, off);
        }
    }
    return rc;
}

static int adopt(copier *c, uint64_t off)
{
    static const char name[] = "lost+found";
    const shobj_value place = {.type = SHOBJ_STR, .data = name, .count = sizeof(name) - 1};
    char text[17];
    shobj_key key;
    shobj_value found;
    shobj_oid oid, folder = 0;
    sho_view view = {0};
    int rc = shobj_key_init(c->to, &place, &key);
    if (rc == 0 && (rc = shobj_dict_get(c->to, shobj_root(c->to), &key, &found)) == 0 && found.type == SHOBJ_OBJECT &&
        found.kind == SHOBJ_KIND_DICT)
        folder = found.oid;
    if (rc == SHOBJ_ENOTFOUND && (rc = shobj_dict_new(c->to, NULL, 0, &folder)) == 0) {
        found = (shobj_value){.type = SHOBJ_OBJECT, .oid = folder};
        rc = shobj_dict_set(c->to, shobj_root(c->to), &key, &found);
    }
    if (rc == 0 && folder == 0)
        lost(c, off, "an object that nothing leads to: the root has something else of the name lost+found");
    if (rc || folder == 0)
        return rc;
    if (!sho_salvage_node(c->from, off, SHM_DICT, &view))
        sho_salvage_node(c->from, off, SHM_LIST, &view);
    shobj_oid_format(SHM_OID(off, SHM_NODE_BIRTH(view.header)), text);
    rc = new_object(c, off, &oid);
    if (rc == 0) {
        const shobj_value id = {.type = SHOBJ_STR, .data = text, .count = 16}, value = {.type = SHOBJ_OBJECT, .oid = oid};
        if ((rc = shobj_key_init(c->to, &id, &key)) == 0)
            rc = shobj_dict_set(c->to, folder, &key, &value);
    }
    return rc ? rc : drain(c);
}

static int mark_wanted(copier *c, uint64_t off)
{
    c->only_marks = true;
    int rc = salvage_object(c, off);
    c->only_marks = false;
    return rc;
}

static int adopt_unwanted(copier *c, uint64_t off)
{
    return c->twin_room > 0 && c->twins[twin_place(c, off)].wanted ? 0 : adopt(c, off);
}

static int copy_all(copier *c)
{
    int rc = copy_root(c);
    if (rc == 0 && c->lost > 0)
        rc = each_orphan(c, mark_wanted);
    if (rc == 0 && c->lost > 0)
        rc = each_orphan(c, adopt_unwanted);
    if (rc == 0 && c->lost > 0)
        rc = each_orphan(c, adopt);
    return rc;
}

int sho_salvage_copy(sho_region *from, shobj_store *to, void (*report)(const char *line, void *arg), void *arg,
                     uint64_t *ret_lost_count)
{
    copier *c = calloc(1, sizeof(*c));
    sho_session *s = calloc(1, sizeof(*s));
    if (c == NULL || s == NULL) {
        free(c);
        free(s);
        return sho_error(SHOBJ_ENOMEM, "salvaging %s: out of memory", from->path);
    }
    *c = (copier){.from = from, .session = s, .to = to, .report = report, .arg = arg};
    c->reader = (shobj_store){.region = from, .readonly = true, .open_count = 1};
    s->store = &c->reader;
    s->region = from;
    s->o.base = from->base;
    s->o.data_off = from->data_off;
    s->o.limit = from->data_off + SHM_SLAB_BYTES;
    int rc = copy_all(c);
    if (rc == 0)
        *ret_lost_count = c->lost;
    sho_values_free(s);
    free(s);
    free(c->twins);
    free(c->queue);
    free(c);
    return rc;
}
