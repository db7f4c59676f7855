/*
 * memory.c: see memory.h.
 */
#include "memory.h"

#include <inttypes.h>
#include <stdlib.h>

/* A table's head, on a terminal; elsewhere rows begin with what they are. */
static void put_head(const char *text)
{
    if (out_is_terminal())
        printf("\n%s\n", text);
}

static void format_size(uint64_t bytes, char ret_text[32])
{
    if (out_is_terminal())
        out_format_bytes(bytes, ret_text);
    else
        snprintf(ret_text, 32, "%" PRIu64, bytes);
}

typedef struct list {
    bool json;
    bool first; /* of its rows */
} list;

static void begin_row(list *l)
{
    fputs(l->first ? "\n {" : ",\n {", stdout);
    l->first = false;
}

static void begin_list(list *l, const char *name, bool *first)
{
    if (l->json) {
        out_json_name(name, first);
        fputc('[', stdout);
    }
}

static void end_list(const list *l)
{
    if (l->json)
        fputs(l->first ? "]" : "\n]", stdout);
}

/* ---- kept */

static int print_keeper(const shobj_session_info *info, void *arg)
{
    static const int widths[] = {-7, 7, 8, 8, 8, 8};
    list *l = arg;
    if (info->self || info->kept_bytes == 0)
        return 0;
    if (l->json) {
        bool first = true;
        begin_row(l);
        out_json_number("session", info->session, &first);
        out_json_number("pid", (uint64_t)info->pid, &first);
        out_json_number("kept_bytes", info->kept_bytes, &first);
        out_json_number("pins", info->pins, &first);
        out_json_number("holds", info->holds, &first);
        fputc('}', stdout);
        return 0;
    }
    if (l->first)
        put_head("keeps    session       pid      free      pins     holds");
    l->first = false;
    char text[5][32];
    snprintf(text[0], 32, "%" PRIu32, info->session);
    snprintf(text[1], 32, "%" PRId64, info->pid);
    format_size(info->kept_bytes, text[2]);
    snprintf(text[3], 32, "%" PRIu64, info->pins);
    snprintf(text[4], 32, "%" PRIu64, info->holds);
    out_row(widths, (const char *const[]){"keeps", text[0], text[1], text[2], text[3], text[4]}, 6);
    return 0;
}

void print_kept(shobj_store *store, bool json, bool *first)
{
    list l = {.json = json, .first = true};
    begin_list(&l, "kept", first);
    shobj_sessions(store, print_keeper, &l);
    end_list(&l);
}

/* ---- classes */

static double share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

static int print_class(const shobj_class *c, void *arg)
{
    static const int widths[] = {-7, 6, 8, 12, 12, 8};
    list *l = arg;
    double used = share(c->used_bytes, c->used_bytes + c->free_bytes);
    const char *kind = c->is_node ? "node" : c->block_bytes != 0 ? "box" : "run";
    if (l->json) {
        bool first = true;
        begin_row(l);
        out_json_name("kind", &first);
        out_json_str(kind);
        out_json_number("block_bytes", c->block_bytes, &first);
        out_json_number("slabs", c->slabs, &first);
        out_json_number("used", c->used, &first);
        out_json_number("free", c->free, &first);
        out_json_number("used_bytes", c->used_bytes, &first);
        out_json_number("free_bytes", c->free_bytes, &first);
        out_json_name("occupancy", &first);
        printf("%.3f}", used);
        return 0;
    }
    if (l->first)
        put_head("kind      block     slabs          used          free  in use");
    l->first = false;
    char text[5][32];
    snprintf(text[0], 32, "%" PRIu64, c->block_bytes);
    snprintf(text[1], 32, "%" PRIu64, c->slabs);
    snprintf(text[2], 32, "%" PRIu64, c->used);
    snprintf(text[3], 32, "%" PRIu64, c->free);
    snprintf(text[4], 32, "%.1f%%", used * 100);
    out_row(widths, (const char *const[]){kind, text[0], text[1], text[2], text[3], text[4]}, 6);
    return 0;
}

#define SLAB_BYTES 65536.0

void print_classes(shobj_store *store, const shobj_stat *stat, bool json, bool *first)
{
    list l = {.json = json, .first = true};
    double in_slabs = (double)stat->slabs * SLAB_BYTES;
    double fragmentation = in_slabs > (double)stat->used_bytes ? 1 - (double)stat->used_bytes / in_slabs : 0;
    begin_list(&l, "classes", first);
    shobj_classes(store, print_class, &l);
    end_list(&l);
    if (json) {
        out_json_name("fragmentation", first);
        printf("%.3f", fragmentation);
    } else {
        char text[32];
        snprintf(text, sizeof(text), "%.1f%%", fragmentation * 100);
        out_named_text("fragmentation", text, false, NULL);
    }
}

/* ---- garbage */

static void print_holder(const shobj_holder *h, list *l)
{
    static const int widths[] = {-7, 7, 7, 8, 10, 10, 10};
    const char *what = h->is_session ? "session" : "pins";
    if (l->json) {
        bool first = true;
        begin_row(l);
        out_json_name("what", &first);
        out_json_str(what);
        out_json_number("process", h->process, &first);
        if (h->is_session)
            out_json_number("session", h->session, &first);
        out_json_number("pid", (uint64_t)h->pid, &first);
        out_json_number("blocks", h->blocks, &first);
        out_json_number("bytes", h->bytes, &first);
        out_json_number("objects", h->objects, &first);
        fputc('}', stdout);
        return;
    }
    if (l->first)
        put_head("holds    process  session       pid      blocks     objects       bytes");
    l->first = false;
    char text[6][32];
    snprintf(text[0], 32, "%" PRIu32, h->process);
    snprintf(text[1], 32, h->is_session ? "%" PRIu32 : "-", h->session);
    snprintf(text[2], 32, "%" PRId64, h->pid);
    snprintf(text[3], 32, "%" PRIu64, h->blocks);
    snprintf(text[4], 32, "%" PRIu64, h->objects);
    format_size(h->bytes, text[5]);
    out_row(widths, (const char *const[]){what, text[0], text[1], text[2], text[3], text[4], text[5]}, 7);
}

typedef struct holders {
    shobj_holder *items;
    size_t count, room;
} holders;

static int gather(const shobj_holder *holder, void *arg)
{
    holders *all = arg;
    if (all->count == all->room) {
        size_t room = all->room * 2 + 16;
        shobj_holder *items = realloc(all->items, room * sizeof(*items));
        if (items == NULL)
            return SHOBJ_ENOMEM;
        all->items = items;
        all->room = room;
    }
    all->items[all->count++] = *holder;
    return 0;
}

int print_garbage(shobj_store *store, bool json, bool *first)
{
    list l = {.json = json, .first = true};
    holders all = {0};
    shobj_garbage g;
    int rc = shobj_garbage_get(store, &g, gather, &all);
    if (rc < 0) {
        free(all.items);
        return rc;
    }
    const struct figure figures[] = {
        {"reachable", g.live, FIGURE_PLAIN},   {"reachable_bytes", g.live_bytes, FIGURE_BYTES},
        {"held", g.held, FIGURE_PLAIN},        {"held_bytes", g.held_bytes, FIGURE_BYTES},
        {"would_free", g.free, FIGURE_PLAIN},  {"would_free_bytes", g.free_bytes, FIGURE_BYTES},
        {"would_free_objects", g.free_objects, FIGURE_PLAIN},
    };
    out_figures(figures, sizeof(figures) / sizeof(figures[0]), json, first);
    if (json) {
        out_json_name("exact", first);
        fputs(g.is_exact ? "true" : "false", stdout);
    } else {
        out_named_text("exact", g.is_exact ? "yes" : "no, others are at work", false, NULL);
    }
    begin_list(&l, "holders", first);
    for (size_t i = 0; i < all.count; i++)
        print_holder(&all.items[i], &l);
    end_list(&l);
    free(all.items);
    return 0;
}
