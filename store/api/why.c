/*
 * why.c: what keeps an object alive.
 *
 * The heap is walked in breadth from each origin in turn: the root, then what processes have pinned, what sessions hold and what
 * transactions name. So the first way that leads to a container is a shortest one from the nearest origin. The object in question
 * is never entered: each reference to it is an answer, and what only it leads to is no way to it. One answer for each
 * container, or each place in it.
 *
 *   object     entry in the queue, with the entry that led to it
 *   its parts  nodes and boxes behind its first node: walked at once, they have no entries
 *
 * Ways are kept as entries; their steps, the keys and indices, are looked up when there is an answer to be told.
 */
#include <stdio.h>
#include <string.h>

#include "gc/dry.h"
#include "types/trace.h"

#define NOBODY UINT32_MAX
#define BATCH 32u
#define BOX_DEPTH_MAX (2 * SHO_VALUE_DEPTH_MAX)

typedef struct entry {
    uint64_t off;
    uint32_t parent; /* entry, or NOBODY */
    uint32_t origin;
} entry;

typedef struct entries {
    entry *items;
    uint32_t count, room;
} entries;

typedef struct search {
    shobj_store *store;
    sho_dry dry;
    shobj_oid oid;
    uint64_t target; /* its offset */
    unsigned max;
    entries queue;
    entries answers;       /* off: of the container; 0: the origin names the object itself */
    shobj_reason *origins; /* without paths */
    uint32_t origin_count;
    uint64_t *parts; /* of the object that is being walked */
    size_t part_count, part_room;
    uint32_t at; /* the entry that is being walked */
    unsigned depth;
    bool failed; /* out of memory */
} search;

/* ------------------------------------------------------------------------------------------ walking */

static void add(search *w, entries *to, entry item)
{
    if (to->count == to->room) {
        uint32_t room = to->room * 2 + 64;
        entry *items = room > to->room ? realloc(to->items, room * sizeof(*items)) : NULL;
        if (items == NULL) {
            w->failed = true;
            return;
        }
        to->items = items;
        to->room = room;
    }
    to->items[to->count++] = item;
}

static void add_part(search *w, uint64_t off)
{
    if (w->part_count == w->part_room) {
        size_t room = w->part_room * 2 + 64;
        uint64_t *parts = realloc(w->parts, room * sizeof(*parts));
        if (parts == NULL) {
            w->failed = true;
            return;
        }
        w->parts = parts;
        w->part_room = room;
    }
    w->parts[w->part_count++] = off;
}

/* The entry that is walked refers to the object: one answer, however often it does. */
static void answer(search *w)
{
    entry item = w->queue.items[w->at];
    if (w->answers.count < w->max &&
        (w->answers.count == 0 || w->answers.items[w->answers.count - 1].parent != w->at))
        add(w, &w->answers, (entry){.off = item.off, .parent = w->at, .origin = item.origin});
}

/* sho_trace_visit: something that the entry w->at refers to. */
static void visit(void *arg, uint64_t off)
{
    search *w = arg;
    sho_block block;
    uint64_t header;
    if (off == w->target) {
        answer(w);
        return;
    }
    if (sho_block_find(&w->dry.region, off, &block, &header) ||
        !sho_mark_raise(&w->dry.region, SHO_DRY_CYCLE, block, SHO_BLACK))
        return;
    if (!block.is_node) {
        if (w->depth++ < BOX_DEPTH_MAX)
            sho_box_trace(header, (const sho_word *)(w->dry.region.base + off) + 1, visit, w);
        w->depth--;
    } else if (SHM_KIND_IS_OBJECT(SHM_HEADER_KIND(header))) {
        add(w, &w->queue, (entry){.off = off, .parent = w->at, .origin = w->queue.items[w->at].origin});
    } else {
        add_part(w, off);
    }
}

static void walk_entry(search *w)
{
    uint64_t words[SHM_NODE_WORDS_MAX];
    uint64_t header;
    add_part(w, w->queue.items[w->at].off);
    while (w->part_count > 0) {
        uint64_t off = w->parts[--w->part_count];
        sho_node_copy((const struct shm_node *)(w->dry.region.base + off), &header, words);
        sho_node_trace(header, words, UINT64_MAX, visit, w);
    }
}

static void walk(search *w)
{
    for (; w->at < w->queue.count && !w->failed && w->answers.count < w->max; w->at++)
        walk_entry(w);
}

/* ------------------------------------------------------------------------------------------ origins */

static uint32_t origin_add(search *w, shobj_reason origin)
{
    w->origins[w->origin_count] = origin;
    return w->origin_count++;
}

/* The newest origin names the node at off. */
static void name(void *arg, uint64_t off)
{
    search *w = arg;
    sho_block block;
    uint64_t header;
    uint32_t origin = w->origin_count - 1;
    if (sho_block_find(&w->dry.region, off, &block, &header) || !block.is_node)
        return;
    if (off != w->target) {
        sho_mark_raise(&w->dry.region, SHO_DRY_CYCLE, block, SHO_BLACK);
        add(w, &w->queue, (entry){.off = off, .parent = NOBODY, .origin = origin});
        return;
    }
    /* As if it had not been met: the next origin may name it too. */
    unsigned shift;
    sho_word *mark = sho_mark_word(&w->dry.region, block, &shift);
    sho_store(mark, sho_load(mark) & ~(3ULL << shift));
    for (uint32_t i = 0; i < w->answers.count; i++)
        if (w->answers.items[i].off == 0 && w->answers.items[i].origin == origin)
            return;
    if (w->answers.count < w->max)
        add(w, &w->answers, (entry){.parent = NOBODY, .origin = origin});
}

static void from_process(search *w, unsigned process)
{
    sho_region *region = &w->dry.region;
    if (!sho_process_is_live(region, process))
        return;
    origin_add(w, (shobj_reason){.keeper = SHOBJ_KEEPER_PIN,
                                 .process = process,
                                 .pid = (int64_t)sho_load(&sho_region_process(region, process)->pid)});
    sho_roots_scan_process(&w->dry.h, sho_region_process(region, process));
    walk(w);
}

static void from_session(search *w, unsigned session)
{
    sho_region *region = &w->dry.region;
    struct shm_slot *slot = sho_region_slot(region, session);
    uint64_t process = sho_load_acquire(&slot->process);
    if (process == 0 || process > SHM_PROCESS_MAX)
        return;
    shobj_reason origin = {.keeper = SHOBJ_KEEPER_TRANSACTION,
                           .process = (uint32_t)process - 1,
                           .session = session,
                           .pid = (int64_t)sho_load(&sho_region_process(region, (unsigned)process - 1)->pid)};
    origin_add(w, origin);
    sho_shade_log(&w->dry.h.shader, slot);
    walk(w);
    origin.keeper = SHOBJ_KEEPER_HOLD;
    origin_add(w, origin);
    sho_roots_scan_holds(&w->dry.h, slot);
    walk(w);
}

static int look(search *w)
{
    sho_region *region = &w->dry.region;
    w->dry.h.shader.gray = name;
    w->dry.h.shader.arg = w;
    origin_add(w, (shobj_reason){.keeper = SHOBJ_KEEPER_ROOT});
    sho_shade_object(&w->dry.h.shader, region->root_oid);
    walk(w);
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++)
        from_process(w, i);
    for (unsigned i = 0; i < sho_region_slot_count(region); i++)
        from_session(w, i);
    return w->failed ? sho_error(SHOBJ_ENOMEM, "asking what keeps an object of %s: out of memory", region->path) : 0;
}

/* ------------------------------------------------------------------------------------------ steps */

/* Where a search for one object in a container stands. */
typedef struct finder {
    search *w;
    shobj_oid oid;
    FILE *out; /* gets the path's new steps, those to the first place */
    bool found;
} finder;

/* Writes what follows a step inside its value, if the object is there. */
static bool find_in_value(finder *f, const shobj_value *value, const char *step)
{
    if (value->type == SHOBJ_OBJECT && value->oid == f->oid) {
        fputs(step, f->out);
        return true;
    }
    if (value->type != SHOBJ_TUPLE)
        return false;
    for (size_t i = 0; i < value->count; i++) {
        char *longer;
        size_t bytes = strlen(step) + 24;
        if ((longer = malloc(bytes)) == NULL)
            return false;
        snprintf(longer, bytes, "%s/%zu", step, i);
        bool found = find_in_value(f, &value->items[i], longer);
        free(longer);
        if (found)
            return true;
    }
    return false;
}

static int find_in_dict(finder *f, shobj_oid dict)
{
    shobj_dict_iter iter;
    shobj_item items[BATCH];
    size_t count;
    shobj_dict_iter_init(&iter, dict, false);
    for (;;) {
        int rc = shobj_dict_iter_next(f->w->store, &iter, items, BATCH, &count);
        if (rc || count == 0)
            return rc;
        for (size_t i = 0; i < count; i++) {
            if (items[i].value.type != SHOBJ_OBJECT && items[i].value.type != SHOBJ_TUPLE)
                continue;
            size_t bytes = shobj_path_step(&items[i].key, NULL, 0) + 2;
            char *step = malloc(bytes);
            if (step == NULL)
                return SHOBJ_ENOMEM;
            step[0] = '/';
            shobj_path_step(&items[i].key, step + 1, bytes - 1);
            f->found = find_in_value(f, &items[i].value, step);
            free(step);
            if (f->found)
                return 0;
        }
    }
}

static int find_in_list(finder *f, shobj_oid list)
{
    shobj_value values[BATCH];
    char step[24];
    size_t count;
    for (uint64_t first = 0;; first += count) {
        int rc = shobj_list_read(f->w->store, list, first, values, BATCH, &count);
        if (rc || count == 0)
            return rc;
        for (size_t i = 0; i < count; i++) {
            snprintf(step, sizeof(step), "/%llu", (unsigned long long)(first + i));
            if ((f->found = find_in_value(f, &values[i], step)))
                return 0;
        }
    }
}

static shobj_oid oid_at(search *w, uint64_t off, enum shobj_kind *ret_kind)
{
    const struct shm_node *node = (const struct shm_node *)(w->dry.region.base + off);
    uint64_t header = sho_load_acquire(&node->header);
    *ret_kind = SHM_KIND_IS_OBJECT(SHM_HEADER_KIND(header)) ? (enum shobj_kind)SHM_HEADER_KIND(header) : SHOBJ_KIND_NONE;
    return SHM_OID(off, SHM_NODE_BIRTH(header));
}

/* The steps from one entry to the next one. False if they are not there any more. */
static bool write_steps(search *w, uint64_t from, shobj_oid to, FILE *out)
{
    enum shobj_kind kind;
    finder f = {.w = w, .oid = to, .out = out};
    shobj_oid container = oid_at(w, from, &kind);
    int rc = kind == SHOBJ_KIND_DICT ? find_in_dict(&f, container) : kind == SHOBJ_KIND_LIST ? find_in_list(&f, container) : 0;
    return rc == 0 && f.found;
}

/* The way of an answer, from its origin to the object. */
static bool write_path(search *w, entry found, FILE *out)
{
    uint32_t length = 0;
    enum shobj_kind kind;
    for (uint32_t i = found.parent; i != NOBODY; i = w->queue.items[i].parent)
        length++;
    uint64_t *way = malloc((length + 1) * sizeof(*way));
    if (way == NULL)
        return false;
    uint32_t at = length;
    way[at] = w->target;
    for (uint32_t i = found.parent; i != NOBODY; i = w->queue.items[i].parent)
        way[--at] = w->queue.items[i].off;
    if (oid_at(w, way[0], &kind) && kind == SHOBJ_KIND_NONE && length > 0)
        at++; /* a part that only a transaction knows: the way begins behind it */
    bool whole = true;
    if (w->origins[found.origin].keeper != SHOBJ_KEEPER_ROOT)
        fprintf(out, "@%016llx", (unsigned long long)oid_at(w, way[at], &kind));
    for (; at < length && whole; at++)
        whole = write_steps(w, way[at], oid_at(w, way[at + 1], &kind), out);
    free(way);
    return whole;
}

static int tell(search *w, int (*each)(const shobj_reason *reason, void *arg), void *arg)
{
    int rc = 0;
    for (uint32_t i = 0; i < w->answers.count && rc == 0; i++) {
        char *text = NULL;
        size_t bytes;
        FILE *out = open_memstream(&text, &bytes);
        if (out == NULL)
            return sho_error(SHOBJ_ENOMEM, "telling what keeps an object: out of memory");
        bool whole = write_path(w, w->answers.items[i], out);
        if (fclose(out) != 0)
            whole = false;
        shobj_reason reason = w->origins[w->answers.items[i].origin];
        reason.path = text;
        if (whole) /* else it has been changed meanwhile, and is no answer any more */
            rc = each(&reason, arg);
        free(text);
    }
    return rc;
}

SHOBJ_API int shobj_why(shobj_store *store, shobj_oid oid, unsigned max,
                        int (*each)(const shobj_reason *reason, void *arg), void *arg)
{
    search w = {.store = store, .oid = oid, .target = SHM_OID_OFF(oid), .max = max};
    enum shobj_kind kind;
    sho_session *s;
    int rc = shobj_object(store, oid, &kind, NULL);
    if (rc == 0)
        rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    if (s->depth > 0)
        return sho_error(SHOBJ_ETXN, "asking what keeps an object of %s: not inside a transaction; end it first",
                         store->region->path);
    if (s->hold_count > 0)
        sho_hold_drop(s); /* what the caller has just asked for is no reason */
    w.origins = calloc(1 + SHM_PROCESS_MAX + 2 * SHM_SLOT_MAX, sizeof(*w.origins));
    if (w.origins == NULL)
        return sho_error(SHOBJ_ENOMEM, "asking what keeps an object of %s: out of memory", store->region->path);
    rc = sho_dry_init(&w.dry, store);
    if (rc == 0) {
        rc = look(&w);
        if (rc == 0)
            rc = tell(&w, each, arg);
        sho_dry_fini(&w.dry);
    }
    free(w.origins);
    free(w.queue.items);
    free(w.answers.items);
    free(w.parts);
    return rc;
}
