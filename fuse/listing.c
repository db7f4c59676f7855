/*
 * listing.c: the entries of open directories, one at a time.
 *
 *   dict         walked by the serial numbers of its entries, up to the one that was the last at the opening. So a
 *                listing needs no memory, ends though others insert all the while, and has each entry that is there all
 *                the time exactly once. The offset of an entry is its serial: going on from any offset is exact.
 *   list         the indices below its length at the opening
 *   all others   small, or in memory anyway: kept as they were at the opening
 *
 * A dict's iterator finds its way by a hint, and without one by a walk through the dict. When the kernel goes back a
 * few entries, since they did not fit into its caller's buffer, the hint of the latest mark before them serves.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shobjfs.h"

#define MARKS 256 /* a power of two */

/* Of a directory that is kept. */
typedef struct kept_entry {
    char *name; /* NULL: its index */
    char *step;
    node_kind kind;
    shobj_oid oid;
    uint64_t bytes;
} kept_entry;

struct listing {
    shobjfs *fs;
    enum { LISTING_DICT, LISTING_LIST, LISTING_KEPT } how;
    shobj_oid oid;
    uint64_t end; /* DICT: the last serial, plus 1; LIST: length; KEPT: number of entries */
    shobj_dict_iter iter;
    shobj_dict_iter marks[MARKS]; /* a ring, of ascending serials */
    size_t mark_count;
    kept_entry *kept;
    size_t kept_room;
};

/* ---- opening */

static int keep_entry(listing *l, const char *name, const entry *e)
{
    if (l->end == l->kept_room) {
        size_t room = l->kept_room == 0 ? 16 : 2 * l->kept_room;
        kept_entry *kept = realloc(l->kept, room * sizeof(*kept));
        if (kept == NULL)
            return SHOBJ_ENOMEM;
        l->kept = kept;
        l->kept_room = room;
    }
    kept_entry k = {.kind = e->kind, .oid = e->oid, .bytes = e->bytes};
    if (name != NULL && (k.name = strdup(name)) == NULL)
        return SHOBJ_ENOMEM;
    if (e->step != NULL && (k.step = strdup(e->step)) == NULL) {
        free(k.name);
        return SHOBJ_ENOMEM;
    }
    l->kept[l->end++] = k;
    return 0;
}

static int open_object(listing *l)
{
    enum shobj_kind kind;
    int rc = shobj_object(l->fs->store, l->oid, &kind, NULL);
    if (rc < 0)
        return rc;
    if (kind == SHOBJ_KIND_LIST) {
        l->how = LISTING_LIST;
        return shobj_list_len(l->fs->store, l->oid, &l->end);
    }
    if (kind != SHOBJ_KIND_DICT)
        return SHOBJ_ETYPE;
    l->how = LISTING_DICT;
    shobj_item item;
    size_t count;
    shobj_dict_iter_init(&l->iter, l->oid, true);
    rc = shobj_dict_iter_next(l->fs->store, &l->iter, &item, 1, &count);
    if (rc == 0 && count > 0)
        l->end = l->iter.serial + 1;
    shobj_dict_iter_init(&l->iter, l->oid, false);
    return rc;
}

static int open_value(listing *l, const node *dir)
{
    shobj_value value;
    int rc = tree_value(l->fs, dir, &value);
    for (size_t i = 0; rc == 0 && i < value.count; i++) {
        entry e = {.step = NULL};
        bool is_named = value.type == SHOBJ_FROZENSET;
        if (is_named)
            rc = entry_name_key(&e, &value.items[i]);
        if (rc == 0)
            rc = entry_describe(&e, &value.items[i]);
        if (rc == 0)
            rc = keep_entry(l, is_named ? e.name : NULL, &e);
        entry_free(&e);
    }
    return rc;
}

static int take_session(const shobj_session_info *info, void *arg)
{
    const entry e = {.kind = NODE_SESSION};
    char name[16];
    snprintf(name, sizeof(name), "%" PRIu32, info->session);
    return keep_entry(arg, name, &e);
}

static int open_top(listing *l)
{
    const entry root = {.kind = NODE_OBJECT, .oid = shobj_root(l->fs->store)};
    int rc = keep_entry(l, "root", &root);
    for (node_kind kind = NODE_BY_ID; rc == 0 && kind <= NODE_STAT; kind++)
        rc = keep_entry(l, inode_fixed(l->fs->inodes, kind)->name, &(entry){.kind = kind});
    return rc;
}

int listing_open(shobjfs *fs, node *dir, listing **ret_listing)
{
    listing *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return SHOBJ_ENOMEM;
    l->fs = fs;
    l->how = LISTING_KEPT;
    l->oid = dir->oid;
    int rc = dir->kind == NODE_OBJECT     ? open_object(l)
             : dir->kind == NODE_VALUE    ? open_value(l, dir)
             : dir->kind == NODE_SESSIONS ? shobj_sessions(fs->store, take_session, l)
             : dir->kind == NODE_TOP      ? open_top(l)
                                          : 0;
    if (rc < 0)
        listing_close(l);
    else
        *ret_listing = l;
    return rc;
}

void listing_close(listing *l)
{
    if (l == NULL)
        return;
    for (size_t i = 0; l->kept != NULL && i < l->end; i++) {
        free(l->kept[i].name);
        free(l->kept[i].step);
    }
    free(l->kept);
    free(l);
}

/* ---- entries */

static shobj_dict_iter *mark_at(listing *l, size_t number)
{
    return &l->marks[number & (MARKS - 1)];
}

/* Puts the iterator behind a serial. */
static void seek(listing *l, uint64_t serial)
{
    size_t number = l->mark_count;
    size_t oldest = l->mark_count > MARKS ? l->mark_count - MARKS : 0;
    while (number > oldest && mark_at(l, number - 1)->serial > serial)
        number--;
    if (number > oldest)
        l->iter = *mark_at(l, number - 1);
    else
        shobj_dict_iter_init(&l->iter, l->oid, false);
    l->iter.serial = serial;
    l->iter.started = true;
    l->mark_count = number;
}

static int next_in_dict(listing *l, uint64_t offset, entry *e, uint64_t *ret_offset, bool *ret_found)
{
    shobj_item item;
    size_t count;
    if (offset == 0) {
        shobj_dict_iter_init(&l->iter, l->oid, false);
        l->mark_count = 0;
    } else if (!l->iter.started || l->iter.serial != offset - 1) {
        seek(l, offset - 1);
    }
    int rc = shobj_dict_iter_next(l->fs->store, &l->iter, &item, 1, &count);
    *ret_found = rc == 0 && count > 0 && l->iter.serial < l->end;
    if (!*ret_found)
        return rc;
    if (l->mark_count == 0 || mark_at(l, l->mark_count - 1)->hint_off != l->iter.hint_off)
        *mark_at(l, l->mark_count++) = l->iter;
    *ret_offset = l->iter.serial + 1;
    rc = entry_name_key(e, &item.key);
    return rc == 0 ? entry_describe(e, &item.value) : rc;
}

static int next_in_list(listing *l, uint64_t index, entry *e, bool *ret_found)
{
    shobj_value value;
    int rc = index < l->end ? shobj_list_get(l->fs->store, l->oid, (int64_t)index, &value) : SHOBJ_ENOTFOUND;
    *ret_found = rc == 0;
    if (rc == 0)
        rc = entry_describe(e, &value);
    return rc == SHOBJ_ENOTFOUND ? 0 : rc;
}

static int next_kept(listing *l, uint64_t index, entry *e, bool *ret_found)
{
    *ret_found = index < l->end;
    if (!*ret_found)
        return 0;
    const kept_entry *k = &l->kept[index];
    e->kind = k->kind;
    e->oid = k->oid;
    e->bytes = k->bytes;
    if (k->name != NULL)
        snprintf(e->name, sizeof(e->name), "%s", k->name);
    if (k->step != NULL && (e->step = strdup(k->step)) == NULL)
        return SHOBJ_ENOMEM;
    return 0;
}

int listing_next(listing *l, uint64_t offset, entry *ret_entry, uint64_t *ret_offset, bool *ret_found)
{
    entry e = {.step = NULL};
    uint64_t next = offset + 1;
    int rc;
    if (l->how == LISTING_DICT)
        rc = next_in_dict(l, offset, &e, &next, ret_found);
    else if (l->how == LISTING_LIST)
        rc = next_in_list(l, offset, &e, ret_found);
    else
        rc = next_kept(l, offset, &e, ret_found);
    if (rc < 0 || !*ret_found) {
        entry_free(&e);
        return rc;
    }
    if (e.name[0] == '\0')
        snprintf(e.name, sizeof(e.name), "%" PRIu64, offset);
    *ret_entry = e;
    *ret_offset = next;
    return 0;
}
