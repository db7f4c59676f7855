/*
 * check.c: verifies a whole store.
 *
 *   superblock      checksum, boundaries
 *   objects         from the root on: each container's own check (dict_check.c, list_check.c), each node and box: inside
 *                   a slab of its class, live, of the right kind and size, owned once
 *   tables          slabs, free lists, locks, sessions (check_tables.c)
 *
 * Objects are walked inside one transaction, so that all of it was true at one instant. On a store so busy that this is lost
 * ATTEMPTS_MAX times, each object is checked by itself, and what can only be judged across objects (a block with two
 * owners, a reachable block on a free list) is left out. A container's check may have seen a race: what it found is
 * kept aside until its operation has been validated.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/check.h"

#define ATTEMPTS_MAX 3

/* Relaxed: the file only grows. */
#define LIMIT(c) atomic_load_explicit(&(c)->region->limit, memory_order_relaxed)

static void push(sho_checker *c, sho_offsets *list, uint64_t off)
{
    if (list->count == list->room) {
        size_t room = list->room * 2 + 64;
        uint64_t *p = realloc(list->items, room * sizeof(*p));
        if (p == NULL) {
            c->failed = true;
            return;
        }
        list->items = p;
        list->room = room;
    }
    list->items[list->count++] = off;
}

/* ------------------------------------------------------------------------------------------ the set of seen blocks */

static size_t seen_slot(const sho_checker *c, uint64_t off)
{
    size_t i = (size_t)((off >> 3) * 0x9e3779b97f4a7c15u >> 20) & (c->seen_room - 1);
    while (c->seen[i] != 0 && c->seen[i] != off)
        i = (i + 1) & (c->seen_room - 1);
    return i;
}

static bool grow_seen(sho_checker *c)
{
    size_t old_room = c->seen_room;
    uint64_t *old = c->seen;
    size_t room = old_room > 0 ? old_room * 2 : 1024;
    uint64_t *grown = calloc(room, sizeof(*grown));
    if (grown == NULL)
        return false;
    c->seen = grown;
    c->seen_room = room;
    for (size_t i = 0; i < old_room; i++)
        if (old[i] != 0)
            grown[seen_slot(c, old[i])] = old[i];
    free(old);
    return true;
}

bool sho_check_is_seen(const sho_checker *c, uint64_t off)
{
    return c->seen != NULL && c->seen[seen_slot(c, off)] == off;
}

/* False if it was there already. */
static bool add_seen(sho_checker *c, uint64_t off)
{
    if ((c->seen == NULL || c->seen_count * 2 >= c->seen_room) && !grow_seen(c)) {
        c->failed = true;
        return true;
    }
    size_t i = seen_slot(c, off);
    if (c->seen[i] == off)
        return false;
    c->seen[i] = off;
    c->seen_count++;
    return true;
}

/* ------------------------------------------------------------------------------------------ problems */

__attribute__((format(printf, 3, 0))) static void add_line(sho_checker *c, sho_lines *to, const char *format, va_list args)
{
    char line[512];
    int n = vsnprintf(line, sizeof(line), format, args);
    size_t bytes = (n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1) + 1;
    if (to->bytes + bytes > to->room) {
        size_t room = to->room * 2 + 4096;
        char *p = realloc(to->text, room);
        if (p == NULL) {
            c->failed = true;
            return;
        }
        to->text = p;
        to->room = room;
    }
    memcpy(to->text + to->bytes, line, bytes);
    to->bytes += bytes;
    to->count++;
}

void sho_check_say(sho_checker *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_line(c, &c->found, format, args);
    va_end(args);
}

/* Kept aside until the object's operation is valid. */
__attribute__((format(printf, 3, 4))) static void note(void *arg, uint64_t off, const char *format, ...)
{
    sho_checker *c = arg;
    char with_place[256];
    snprintf(with_place, sizeof(with_place), "block 0x%llx: %s", (unsigned long long)off, format);
    va_list args;
    va_start(args, format);
    add_line(c, &c->noted, with_place, args);
    va_end(args);
}

/* ------------------------------------------------------------------------------------------ blocks of one object */

/* Counts a block of this object. ECORRUPT: there are more than the file has room for, so that some have two owners; what leads
 * in circles, or again and again to the same, ends here. */
static int add_block(sho_checker *c, uint64_t off, uint64_t bytes)
{
    c->bytes += bytes;
    if (c->bytes > LIMIT(c))
        return SHOBJ_ECORRUPT;
    push(c, &c->blocks, off);
    return 0;
}

static int check_box(sho_checker *c, uint64_t off)
{
    uint64_t header;
    const sho_word *words;
    sho_slab_info info;
    unsigned index;
    if (sho_slab_find(c->region, off, &info, &index) || info.kind == SHM_SLAB_NODES) {
        note(c, off, "referred to as a value, but no block of values");
        return 0;
    }
    if (sho_op_box(c->s, off, &header, &words)) {
        note(c, off, "referred to as a value, but free or damaged");
        return 0;
    }
    uint64_t room = info.kind == SHM_SLAB_RUN ? info.run_slabs << SHM_SLAB_SHIFT : info.block_bytes;
    uint64_t bytes = SHM_BOX_BYTES_OF(header);
    if (sizeof(struct shm_box) + bytes > room)
        note(c, off, "a value of %llu bytes in a block of %llu", (unsigned long long)bytes, (unsigned long long)room);
    return add_block(c, off, sizeof(struct shm_box) + bytes);
}

static int on_reference(sho_session *s, uint64_t cell, void *arg)
{
    sho_checker *c = arg;
    uint64_t header;
    uint64_t off = sho_cell_off(cell);
    if (sho_cell_is_box(cell))
        return check_box(c, off);
    if (sho_op_node_header(s, off, &header) || !SHM_KIND_IS_OBJECT(SHM_HEADER_KIND(header)))
        note(c, off, "referred to as an object, but there is none");
    else
        push(c, &c->objects, off);
    return 0;
}

/* Reading the value as a user would finds what is wrong inside it, with all bounds on damaged ones. Its blocks are counted
 * first. */
static int on_cell(void *arg, uint64_t owner_off, uint64_t cell)
{
    sho_checker *c = arg;
    shobj_value value;
    sho_values_reset(c->s);
    int rc = sho_cell_walk(c->s, cell, on_reference, c);
    if (rc == 0)
        rc = sho_cell_decode(c->s, cell, &value);
    if (rc != SHOBJ_ECORRUPT)
        return rc;
    note(c, owner_off, "holds a value that can't be read: cell %016llx", (unsigned long long)cell);
    return c->bytes > LIMIT(c) ? rc : 0;
}

static int on_node(void *arg, uint64_t off, unsigned kind, unsigned word_count)
{
    sho_checker *c = arg;
    sho_slab_info info;
    unsigned index;
    if (sho_slab_find(c->region, off, &info, &index) || info.kind != SHM_SLAB_NODES)
        note(c, off, "a node of kind %u outside the slabs of nodes", kind);
    else if (info.block_bytes != SHM_NODE_BYTES(word_count))
        note(c, off, "a node of %u words in a slab of %u-byte blocks", word_count, info.block_bytes);
    return add_block(c, off, SHM_NODE_BYTES(word_count));
}

static int object_body(sho_checker *c, uint64_t off)
{
    const sho_check_sink sink = {.problem = note, .cell = on_cell, .node = on_node, .arg = c};
    uint64_t header;
    c->blocks.count = 0;
    c->objects.count = 0;
    c->noted.bytes = 0;
    c->noted.count = 0;
    c->bytes = c->bytes_before;
    int rc = sho_op_node_header(c->s, off, &header);
    if (rc)
        return rc;
    switch (SHM_HEADER_KIND(header)) {
    case SHM_DICT:
        return sho_dict_check(c->s, off, &sink);
    case SHM_LIST:
        return sho_list_check(c->s, off, &sink);
    default:
        return SHOBJ_ECORRUPT;
    }
}

static int check_object(sho_checker *c, uint64_t off)
{
    int rc;
    c->bytes_before = c->exact ? c->bytes : 0; /* blocks may move between the looks at two objects */
    SHO_OP(c->s, rc, object_body(c, off));
    if (rc == SHOBJ_ECORRUPT) {
        if (c->bytes > LIMIT(c)) {
            sho_check_say(c, "object 0x%llx: with it there are more blocks than the file has room for: some have two "
                             "owners; what is left was not looked at", (unsigned long long)off);
            c->queue.count = 0;
        } else {
            sho_check_say(c, "object 0x%llx: can't be walked: it is damaged", (unsigned long long)off);
        }
        rc = 0;
    }
    if (rc)
        return rc;
    size_t at = 0;
    for (uint64_t i = 0; i < c->noted.count; i++) {
        sho_check_say(c, "%s", c->noted.text + at);
        at += strlen(c->noted.text + at) + 1;
    }
    for (size_t i = 0; i < c->blocks.count; i++)
        if (!add_seen(c, c->blocks.items[i]) && c->exact)
            sho_check_say(c, "block 0x%llx: has two owners, one of them object 0x%llx", (unsigned long long)c->blocks.items[i],
                 (unsigned long long)off);
    bool goes_on = c->bytes <= LIMIT(c);
    for (size_t i = 0; goes_on && i < c->objects.count; i++)
        push(c, &c->queue, c->objects.items[i]);
    return c->failed ? sho_error(SHOBJ_ENOMEM, "checking %s: out of memory", c->region->path) : 0;
}

static int check_objects(sho_checker *c)
{
    uint64_t root = SHM_OID_OFF(c->region->root_oid);
    int rc = 0;
    c->queue.count = 0;
    push(c, &c->queue, root);
    while (rc == 0 && c->queue.count > 0) {
        uint64_t off = c->queue.items[--c->queue.count];
        if (!sho_check_is_seen(c, off))
            rc = check_object(c, off);
    }
    return rc;
}

/* ------------------------------------------------------------------------------------------ all of it */

static int check_all(sho_checker *c)
{
    for (int attempt = 0; attempt <= ATTEMPTS_MAX; attempt++) {
        c->exact = attempt < ATTEMPTS_MAX;
        c->found.bytes = 0;
        c->found.count = 0;
        c->seen_count = 0;
        c->bytes = 0;
        if (c->seen != NULL)
            memset(c->seen, 0, c->seen_room * sizeof(*c->seen));
        int rc = c->exact ? shobj_txn_begin(c->s->store) : 0;
        if (rc)
            return rc;
        rc = check_objects(c);
        /* Reading alone can't lose at commit; but a slab is judged only if the objects are those of the snapshot. */
        if (rc == 0)
            sho_check_slabs(c);
        bool valid = !c->exact || (rc == 0 && sho_entries_valid(c->s));
        if (c->exact)
            shobj_txn_abort(c->s->store);
        if (rc == 0 && valid)
            return 0;
        if (rc != 0 && rc != SHOBJ_ECONFLICT)
            return rc;
    }
    return 0;
}

SHOBJ_API int shobj_check(shobj_store *store, void (*report)(const char *line, void *arg), void *arg,
                          uint64_t *ret_problem_count)
{
    sho_checker c = {.region = store->region};
    int rc = sho_session_get(store, &c.s);
    if (rc)
        return rc;
    if (c.s->depth > 0)
        return sho_error(SHOBJ_ETXN, "checking %s: not inside a transaction; end it first", store->region->path);
    rc = check_all(&c);
    if (rc == 0)
        sho_check_sessions(&c);
    size_t at = 0;
    for (uint64_t i = 0; rc == 0 && i < c.found.count; i++) {
        if (report != NULL)
            report(c.found.text + at, arg);
        at += strlen(c.found.text + at) + 1;
    }
    if (rc == 0 && ret_problem_count != NULL)
        *ret_problem_count = c.found.count;
    if (rc == 0 && c.found.count > 0)
        rc = sho_error(SHOBJ_ECORRUPT, "%s is damaged: %llu problem%s found", store->region->path,
                       (unsigned long long)c.found.count, c.found.count == 1 ? "" : "s");
    free(c.seen);
    free(c.queue.items);
    free(c.blocks.items);
    free(c.objects.items);
    free(c.noted.text);
    free(c.found.text);
    return rc;
}
