/*
 * inode.c: the numbers that the kernel has for what it knows.
 *
 * The kernel names a thing by a number that a look-up gave it, until it has forgotten as many look-ups as it made. A
 * node is what such a number stands for. It keeps no value, only the place where one is to be read:
 *
 *   NODE_OBJECT   tree and object id      the same wherever in its tree the object stands
 *   all others    directory and name      whatever stands there
 *
 * A tree must not show an object as a directory twice: a cycle would never end, and a kernel has one place for a
 * directory. The place where an object is met first becomes its *home*; at other places it is a link, as long as the
 * home holds: there the object is still found, and the directory of the home in its own home, up to the top. (Callers
 * find that out, without the mutex.) If it does not, the place that asks becomes the home.
 *
 * Each tree (root/, and by-id/ID for each ID) has homes of its own.
 *
 * I1  The home of a node is never inside the node itself: going up by `dir` ends at the top.
 * I2  children counts the nodes whose `dir` this is. A node with look-ups or children stays; all others are freed, but
 *     for objects: a number of them is kept, oldest out first, so that homes outlive the kernel's memory of them.
 * I3  Every node but the four fixed ones is in the table of places, and if it is a NODE_OBJECT, in that of objects.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shobjfs.h"

#define FIXED_COUNT 4
#define KEPT_MAX    (1u << 17)

struct inodes {
    pthread_mutex_t mutex; /* guards all of it; held for memory work only, never while the store is read */
    node fixed[FIXED_COUNT];
    node **numbers; /* by ino - 1 - FIXED_COUNT; NULL: free */
    size_t number_count, number_room;
    fuse_ino_t *free_numbers; /* as much room as `numbers` */
    size_t free_count;
    uint64_t generation;
    node **places, **objects; /* hash tables, chained */
    size_t bucket_count;
    size_t node_count;
    node *oldest, *newest; /* kept objects */
    size_t kept_count;
};

/* ---- hashing */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static uint64_t hash_name(uint64_t seed, const char *name)
{
    uint64_t h = mix(seed + 0x9e3779b97f4a7c15u);
    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return mix(h);
}

uint64_t inode_st_ino(const node *dir, const char *name)
{
    /* Ids of objects begin with an offset in the heap: the upper half is free. */
    return hash_name(dir->st_ino, name) | 1ull << 63;
}

static node **place_bucket(const inodes *t, const node *dir, const char *name)
{
    return &t->places[hash_name(dir->ino, name) & (t->bucket_count - 1)];
}

static node **object_bucket(const inodes *t, shobj_oid view, shobj_oid oid)
{
    return &t->objects[mix(oid ^ mix(view)) & (t->bucket_count - 1)];
}

/* ---- the tables */

inodes *inodes_create(void)
{
    static const char *const names[FIXED_COUNT] = {"", "by-id", "sessions", "stat"};
    inodes *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return NULL;
    t->bucket_count = 1024;
    t->places = calloc(t->bucket_count, sizeof(node *));
    t->objects = calloc(t->bucket_count, sizeof(node *));
    if (t->places == NULL || t->objects == NULL) {
        inodes_destroy(t);
        return NULL;
    }
    pthread_mutex_init(&t->mutex, NULL);
    for (int i = 0; i < FIXED_COUNT; i++)
        t->fixed[i] = (node){.ino = (fuse_ino_t)i + 1,
                             .kind = (node_kind)i,
                             .st_ino = (uint64_t)i + 1,
                             .dir = i == NODE_TOP ? NULL : &t->fixed[NODE_TOP],
                             .name = (char *)names[i],
                             .lookups = 1};
    return t;
}

void inodes_destroy(inodes *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->number_count; i++) {
        node *n = t->numbers[i];
        if (n != NULL) {
            free(n->name);
            free(n->step);
            free(n);
        }
    }
    free(t->numbers);
    free(t->free_numbers);
    free(t->places);
    free(t->objects);
    free(t);
}

static void link_node(inodes *t, node *n)
{
    node **bucket = place_bucket(t, n->dir, n->name);
    n->next_at_place = *bucket;
    *bucket = n;
    if (n->kind == NODE_OBJECT) {
        bucket = object_bucket(t, n->view, n->oid);
        n->next_of_object = *bucket;
        *bucket = n;
    }
}

static void unlink_node(inodes *t, node *n)
{
    node **p = place_bucket(t, n->dir, n->name);
    while (*p != n)
        p = &(*p)->next_at_place;
    *p = n->next_at_place;
    if (n->kind == NODE_OBJECT) {
        p = object_bucket(t, n->view, n->oid);
        while (*p != n)
            p = &(*p)->next_of_object;
        *p = n->next_of_object;
    }
}

/* Twice the buckets. Without memory for them, chains just grow longer. */
static void grow_tables(inodes *t)
{
    size_t count = 2 * t->bucket_count;
    node **places = calloc(count, sizeof(node *));
    node **objects = calloc(count, sizeof(node *));
    if (places == NULL || objects == NULL) {
        free(places);
        free(objects);
        return;
    }
    free(t->places);
    free(t->objects);
    t->places = places;
    t->objects = objects;
    t->bucket_count = count;
    for (size_t i = 0; i < t->number_count; i++) {
        if (t->numbers[i] != NULL)
            link_node(t, t->numbers[i]);
    }
}

static int take_number(inodes *t, fuse_ino_t *ret_ino)
{
    if (t->free_count > 0) {
        *ret_ino = t->free_numbers[--t->free_count];
        return 0;
    }
    if (t->number_count == t->number_room) {
        size_t room = t->number_room == 0 ? 1024 : 2 * t->number_room;
        node **numbers = realloc(t->numbers, room * sizeof(node *));
        if (numbers == NULL)
            return SHOBJ_ENOMEM;
        t->numbers = numbers;
        fuse_ino_t *free_numbers = realloc(t->free_numbers, room * sizeof(*free_numbers));
        if (free_numbers == NULL)
            return SHOBJ_ENOMEM;
        t->free_numbers = free_numbers;
        t->number_room = room;
    }
    *ret_ino = FIXED_COUNT + ++t->number_count;
    return 0;
}

static int new_node(inodes *t, node_kind kind, shobj_oid oid, shobj_oid view, const place *at, node **ret_node)
{
    node *n = calloc(1, sizeof(*n));
    char *name = strdup(at->name);
    char *step = at->step != NULL ? strdup(at->step) : NULL;
    fuse_ino_t ino;
    if (n == NULL || name == NULL || (at->step != NULL && step == NULL) || take_number(t, &ino) < 0) {
        free(n);
        free(name);
        free(step);
        return SHOBJ_ENOMEM;
    }
    *n = (node){.ino = ino,
                .generation = ++t->generation,
                .kind = kind,
                .st_ino = kind == NODE_OBJECT ? oid : inode_st_ino(at->dir, name),
                .oid = oid,
                .view = view,
                .dir = at->dir,
                .name = name,
                .step = step,
                .lookups = 1};
    t->numbers[ino - 1 - FIXED_COUNT] = n;
    at->dir->children++;
    link_node(t, n);
    if (++t->node_count > t->bucket_count)
        grow_tables(t);
    *ret_node = n;
    return 0;
}

/* ---- life and death */

static void keep(inodes *t, node *n)
{
    n->older = t->newest;
    n->newer = NULL;
    *(t->newest != NULL ? &t->newest->newer : &t->oldest) = n;
    t->newest = n;
    t->kept_count++;
}

static bool is_kept(const inodes *t, const node *n)
{
    return n->newer != NULL || t->newest == n;
}

static void unkeep(inodes *t, node *n)
{
    *(n->older != NULL ? &n->older->newer : &t->oldest) = n->newer;
    *(n->newer != NULL ? &n->newer->older : &t->newest) = n->older;
    n->older = NULL;
    n->newer = NULL;
    t->kept_count--;
}

static node *pop_oldest(inodes *t)
{
    node *n = t->oldest;
    t->oldest = n->newer;
    *(n->newer != NULL ? &n->newer->older : &t->newest) = NULL;
    n->newer = NULL;
    t->kept_count--;
    return n;
}

/* Frees a node nobody needs; returns its directory, which has lost a child. */
static node *free_node(inodes *t, node *n)
{
    node *dir = n->dir;
    unlink_node(t, n);
    t->numbers[n->ino - 1 - FIXED_COUNT] = NULL;
    t->free_numbers[t->free_count++] = n->ino;
    t->node_count--;
    free(n->name);
    free(n->step);
    free(n);
    dir->children--;
    return dir;
}

/* To be called when a node has lost a look-up or a child. (The fixed ones have a look-up for ever.) */
static void release(inodes *t, node *n)
{
    while (n != NULL && n->lookups == 0 && n->children == 0) {
        if (n->kind != NODE_OBJECT) {
            n = free_node(t, n);
            continue;
        }
        keep(t, n);
        n = t->kept_count > KEPT_MAX ? free_node(t, pop_oldest(t)) : NULL;
    }
}

void inode_forget(inodes *t, fuse_ino_t ino, uint64_t lookups)
{
    pthread_mutex_lock(&t->mutex);
    if (ino > FIXED_COUNT && ino - FIXED_COUNT <= t->number_count) {
        node *n = t->numbers[ino - 1 - FIXED_COUNT];
        if (n != NULL && n->lookups > 0) {
            n->lookups -= lookups < n->lookups ? lookups : n->lookups;
            release(t, n);
        }
    }
    pthread_mutex_unlock(&t->mutex);
}

node *inode_fixed(inodes *t, node_kind kind)
{
    return &t->fixed[kind];
}

node *inode_find(inodes *t, fuse_ino_t ino)
{
    if (ino >= 1 && ino <= FIXED_COUNT)
        return &t->fixed[ino - 1];
    node *n = NULL;
    pthread_mutex_lock(&t->mutex);
    if (ino > FIXED_COUNT && ino - FIXED_COUNT <= t->number_count)
        n = t->numbers[ino - 1 - FIXED_COUNT];
    pthread_mutex_unlock(&t->mutex);
    return n;
}

/* ---- look-ups */

static node *find_at_place(const inodes *t, const node *dir, const char *name, node *from)
{
    node *n = from != NULL ? from->next_at_place : *place_bucket(t, dir, name);
    while (n != NULL && (n->dir != dir || strcmp(n->name, name) != 0))
        n = n->next_at_place;
    return n;
}

static node *find_object(const inodes *t, shobj_oid view, shobj_oid oid)
{
    node *n = *object_bucket(t, view, oid);
    while (n != NULL && (n->oid != oid || n->view != view))
        n = n->next_of_object;
    return n;
}

int inode_enter(inodes *t, node_kind kind, const place *at, node **ret_node)
{
    int rc = 0;
    pthread_mutex_lock(&t->mutex);
    node *n = find_at_place(t, at->dir, at->name, NULL);
    while (n != NULL && n->kind != kind)
        n = find_at_place(t, at->dir, at->name, n);
    if (n != NULL)
        n->lookups++;
    else
        rc = new_node(t, kind, 0, at->dir->view, at, &n);
    pthread_mutex_unlock(&t->mutex);
    if (rc == 0)
        *ret_node = n;
    return rc;
}

/* Whether the node is `inner` or one of the directories around it. */
static bool is_around(const node *n, const node *inner)
{
    while (inner != NULL && inner != n)
        inner = inner->dir;
    return inner != NULL;
}

static bool is_top_of_view(const node *n)
{
    return n->dir->kind == NODE_TOP || n->dir->kind == NODE_BY_ID;
}

static const char *step_of(const node *n)
{
    return n->step != NULL ? n->step : n->name;
}

/* With the mutex: the path from the object at or around the node. */
static char *path_of(const node *n)
{
    size_t bytes = 18; /* "@", id, NUL */
    const node *object = n;
    for (; object->kind != NODE_OBJECT; object = object->dir)
        bytes += strlen(step_of(object)) + 1;
    char *path = malloc(bytes);
    if (path == NULL)
        return NULL;
    char id[17];
    shobj_oid_format(object->oid, id);
    char *at = path + bytes - 1;
    *at = '\0';
    for (; n != object; n = n->dir) {
        size_t step_bytes = strlen(step_of(n));
        at -= step_bytes;
        memcpy(at, step_of(n), step_bytes);
        *--at = '/';
    }
    path[0] = '@';
    memcpy(path + 1, id, 16);
    return path;
}

/* With the mutex: the path of what stands at an object's home. */
static char *path_of_home(const node *n)
{
    char *dir = path_of(n->dir);
    if (dir == NULL)
        return NULL;
    size_t dir_bytes = strlen(dir);
    size_t step_bytes = strlen(step_of(n));
    char *path = realloc(dir, dir_bytes + step_bytes + 2);
    if (path == NULL) {
        free(dir);
        return NULL;
    }
    path[dir_bytes] = '/';
    memcpy(path + dir_bytes + 1, step_of(n), step_bytes + 1);
    return path;
}

void home_free(home *h)
{
    for (size_t i = 0; i < h->count; i++)
        free(h->parts[i].path);
    free(h->parts);
    *h = (home){0};
}

/* With the mutex. */
static int describe_home(const node *n, home *ret_home)
{
    home h = {.generation = n->generation, .moves = n->moves};
    size_t room = 0;
    while (!is_top_of_view(n)) {
        if (h.count == room) {
            room = 2 * room + 8;
            struct home_part *parts = realloc(h.parts, room * sizeof(*parts));
            if (parts == NULL) {
                home_free(&h);
                return SHOBJ_ENOMEM;
            }
            h.parts = parts;
        }
        h.parts[h.count] = (struct home_part){.path = path_of_home(n), .oid = n->oid};
        if (h.parts[h.count++].path == NULL) {
            home_free(&h);
            return SHOBJ_ENOMEM;
        }
        for (n = n->dir; n->kind != NODE_OBJECT; n = n->dir)
            ;
    }
    *ret_home = h;
    return 0;
}

int inode_claim(inodes *t, shobj_oid oid, const place *at, node **ret_node, home *ret_home)
{
    shobj_oid view = at->dir->kind == NODE_BY_ID ? oid : at->dir->view;
    int rc = 0;
    *ret_node = NULL;
    *ret_home = (home){0};
    pthread_mutex_lock(&t->mutex);
    node *n = find_object(t, view, oid);
    if (n == NULL) {
        rc = new_node(t, NODE_OBJECT, oid, view, at, ret_node);
    } else if (n->dir == at->dir && strcmp(n->name, at->name) == 0) {
        if (is_kept(t, n))
            unkeep(t, n);
        n->lookups++;
        *ret_node = n;
    } else if (!is_around(n, at->dir)) {
        rc = describe_home(n, ret_home);
    }
    pthread_mutex_unlock(&t->mutex);
    return rc;
}

int inode_move(inodes *t, shobj_oid oid, const place *at, const home *old, node **ret_node)
{
    char *name = strdup(at->name);
    char *step = at->step != NULL ? strdup(at->step) : NULL;
    *ret_node = NULL;
    if (name == NULL || (at->step != NULL && step == NULL)) {
        free(name);
        free(step);
        return SHOBJ_ENOMEM;
    }
    pthread_mutex_lock(&t->mutex);
    node *n = find_object(t, at->dir->view, oid);
    /* I1: what lies around the place may have moved into the node meanwhile. */
    if (n != NULL && n->generation == old->generation && n->moves == old->moves && !is_around(n, at->dir)) {
        node *left = n->dir;
        if (is_kept(t, n))
            unkeep(t, n);
        unlink_node(t, n);
        char *old_name = n->name;
        char *old_step = n->step;
        n->dir = at->dir;
        n->name = name;
        n->step = step;
        name = old_name;
        step = old_step;
        n->dir->children++;
        n->moves++;
        n->lookups++;
        link_node(t, n);
        left->children--;
        release(t, left);
        *ret_node = n;
    }
    pthread_mutex_unlock(&t->mutex);
    free(name);
    free(step);
    return 0;
}

/* ---- open files */

void inode_opened(inodes *t, node *n, uint64_t bytes)
{
    pthread_mutex_lock(&t->mutex);
    n->opens++;
    n->open_bytes = bytes;
    pthread_mutex_unlock(&t->mutex);
}

void inode_closed(inodes *t, node *n)
{
    pthread_mutex_lock(&t->mutex);
    n->opens--;
    pthread_mutex_unlock(&t->mutex);
}

bool inode_is_open(inodes *t, const node *n, uint64_t *ret_bytes)
{
    pthread_mutex_lock(&t->mutex);
    bool is_open = n->opens > 0;
    *ret_bytes = n->open_bytes;
    pthread_mutex_unlock(&t->mutex);
    return is_open;
}

/* ---- questions */

char *inode_path(inodes *t, const node *n)
{
    pthread_mutex_lock(&t->mutex);
    char *path = path_of(n);
    pthread_mutex_unlock(&t->mutex);
    return path;
}

char *inode_known_step(inodes *t, const node *dir, const char *name)
{
    pthread_mutex_lock(&t->mutex);
    const node *n = find_at_place(t, dir, name, NULL);
    char *step = n != NULL ? strdup(step_of(n)) : NULL;
    pthread_mutex_unlock(&t->mutex);
    return step;
}

unsigned inode_depth(inodes *t, const node *n)
{
    unsigned depth = 0;
    pthread_mutex_lock(&t->mutex);
    for (; n->dir != NULL; n = n->dir)
        depth++;
    pthread_mutex_unlock(&t->mutex);
    return depth;
}

uint64_t inode_parent_st_ino(inodes *t, const node *n)
{
    pthread_mutex_lock(&t->mutex);
    uint64_t st_ino = n->dir != NULL ? n->dir->st_ino : n->st_ino;
    pthread_mutex_unlock(&t->mutex);
    return st_ino;
}
