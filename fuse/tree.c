/*
 * tree.c: what stands where: names and look-ups, read from the store.
 *
 *   top       root, by-id, sessions, stat
 *   by-id     any object's id, by look-up only
 *   sessions  the numbers of the session slots in use
 *   dict      its keys as path steps; the keys ".json" and ".repr" by their literals, since these names are taken
 *   list, tuple  indices
 *   frozenset its members as path steps
 *
 * A name of more than 255 bytes can't be: "~#" and a hash of it stand for it.
 *
 * Names are read back strictly: only the very name that a listing shows is found, so that nothing has two names. (Equal
 * keys, 1 and True, are the exception: the store does not tell which of them it has.)
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shobjfs.h"

#define BATCH_MAX 32

/* ---- names */

void entry_free(entry *e)
{
    free(e->step);
    e->step = NULL;
}

/* FNV-1a: the same in every mount. */
static uint64_t hash_step(const char *step, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (unsigned char)step[i]) * 0x100000001b3u;
    return h;
}

int entry_name_key(entry *e, const shobj_value *key)
{
    enum shobj_form form;
    e->step = NULL;
    size_t bytes = shobj_path_step(key, e->name, sizeof(e->name));
    if (bytes < sizeof(e->name)) {
        if (text_form(e->name, &form) == 0)
            snprintf(e->name, sizeof(e->name), "~='%s'", form == SHOBJ_FORM_JSON ? ".json" : ".repr");
        return 0;
    }
    e->step = malloc(bytes + 1);
    if (e->step == NULL)
        return SHOBJ_ENOMEM;
    shobj_path_step(key, e->step, bytes + 1);
    snprintf(e->name, sizeof(e->name), "~#%016" PRIx64, hash_step(e->step, bytes));
    return 0;
}

static bool is_hash_name(const char *name)
{
    return name[0] == '~' && name[1] == '#';
}

static int parse_index(const char *name, size_t bytes, int64_t *ret_index)
{
    if (bytes == 0 || bytes > 18 || (name[0] == '0' && bytes > 1) || strspn(name, "0123456789") < bytes)
        return SHOBJ_ENOTFOUND;
    *ret_index = strtoll(name, NULL, 10);
    return 0;
}

/* A key read from its step; it points into text or memory, both to be freed. */
typedef struct parsed {
    shobj_value key;
    char *text;
    void *memory;
} parsed;

static void parsed_free(parsed *p)
{
    free(p->text);
    free(p->memory);
}

static int parse_step(const char *step, parsed *ret)
{
    bool is_literal = strncmp(step, "~=", 2) == 0;
    char *text = strdup(is_literal ? step + 2 : step);
    if (text == NULL)
        return SHOBJ_ENOMEM;
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        bool is_escape = from[0] == '~' && (from[1] == '0' || from[1] == '1');
        if (is_escape)
            from++;
        *to++ = !is_escape ? *from : *from == '0' ? '~' : '/';
    }
    *to = '\0';
    shobj_value key = {.type = SHOBJ_STR, .data = text, .count = (size_t)(to - text)};
    void *memory = NULL;
    int rc = is_literal ? shobj_literal_parse(text, &key, &memory) : 0;
    if (rc != 0) {
        free(text);
        return rc == SHOBJ_EINVAL ? SHOBJ_ENOTFOUND : rc;
    }
    *ret = (parsed){.key = key, .text = text, .memory = memory};
    return 0;
}

/* ---- values */

static node_kind kind_of(const shobj_value *value)
{
    if (value->type == SHOBJ_OBJECT)
        return NODE_OBJECT;
    return value->type == SHOBJ_TUPLE || value->type == SHOBJ_FROZENSET ? NODE_VALUE : NODE_FILE;
}

int entry_describe(entry *e, const shobj_value *value)
{
    e->kind = kind_of(value);
    e->oid = e->kind == NODE_OBJECT ? value->oid : 0;
    e->bytes = 0;
    return e->kind == NODE_FILE ? scalar_bytes(value, &e->bytes) : 0;
}

/* The index of a tuple's or frozenset's member by its step. */
static int find_member(const shobj_value *value, const char *step, size_t bytes, size_t *ret_index)
{
    int64_t index = 0;
    if (value->type == SHOBJ_TUPLE) {
        int rc = parse_index(step, bytes, &index);
        *ret_index = (size_t)index;
        return rc < 0 || (size_t)index < value->count ? rc : SHOBJ_ENOTFOUND;
    }
    for (size_t i = 0; value->type == SHOBJ_FROZENSET && i < value->count; i++) {
        entry e;
        int rc = entry_name_key(&e, &value->items[i]);
        if (rc < 0)
            return rc;
        const char *own = e.step != NULL ? e.step : e.name;
        bool is_equal = strlen(own) == bytes && memcmp(own, step, bytes) == 0;
        entry_free(&e);
        if (is_equal) {
            *ret_index = i;
            return 0;
        }
    }
    return SHOBJ_ENOTFOUND;
}

int tree_value_at(shobj_store *store, const char *path, shobj_value *ret_value)
{
    const char *first = strchr(path, '/');
    const char *rest = first != NULL ? strchr(first + 1, '/') : NULL;
    if (rest == NULL)
        return shobj_path_get(store, path, ret_value);
    char *head = strndup(path, (size_t)(rest - path));
    if (head == NULL)
        return SHOBJ_ENOMEM;
    shobj_value value;
    int rc = shobj_path_get(store, head, &value);
    free(head);
    while (rc == 0 && rest[0] == '/') {
        const char *step = rest + 1;
        size_t index;
        rest = strchrnul(step, '/');
        rc = find_member(&value, step, (size_t)(rest - step), &index);
        if (rc == 0) {
            shobj_value member = value.items[index];
            value = member;
        }
    }
    if (rc == 0)
        *ret_value = value;
    return rc;
}

int tree_value(shobjfs *fs, const node *n, shobj_value *ret_value)
{
    shobj_value value;
    char *path = inode_path(fs->inodes, n);
    if (path == NULL)
        return SHOBJ_ENOMEM;
    int rc = tree_value_at(fs->store, path, &value);
    free(path);
    if (rc != 0)
        return rc == SHOBJ_ETYPE ? SHOBJ_ESTALE : rc;
    if (kind_of(&value) != (n->kind == NODE_LINK ? NODE_OBJECT : n->kind))
        return SHOBJ_ESTALE;
    *ret_value = value;
    return 0;
}

/* ---- look-ups */

static int lookup_in_top(shobjfs *fs, const char *name, entry *e)
{
    if (strcmp(name, "root") == 0) {
        e->kind = NODE_OBJECT;
        e->oid = shobj_root(fs->store);
        return 0;
    }
    for (node_kind kind = NODE_BY_ID; kind <= NODE_STAT; kind++) {
        if (strcmp(name, inode_fixed(fs->inodes, kind)->name) == 0) {
            e->kind = kind;
            return 0;
        }
    }
    return SHOBJ_ENOTFOUND;
}

static int lookup_by_id(shobjfs *fs, const char *name, entry *e)
{
    enum shobj_kind kind;
    char same[17] = "";
    int rc = shobj_oid_parse(name, &e->oid);
    if (rc == 0)
        shobj_oid_format(e->oid, same);
    if (rc == 0 && strcmp(name, same) == 0)
        rc = shobj_object(fs->store, e->oid, &kind, NULL);
    else
        rc = SHOBJ_ENOTFOUND;
    e->kind = NODE_OBJECT;
    return rc == SHOBJ_ESTALE || rc == SHOBJ_EINVAL ? SHOBJ_ENOTFOUND : rc;
}

static int lookup_session(shobjfs *fs, const char *name, entry *e)
{
    content c;
    content_init(&c);
    int rc = content_of_session(fs->store, name, &c);
    content_free(&c);
    e->kind = NODE_SESSION;
    return rc;
}

/* The hash tells nothing: looks at all keys that may be long enough. */
static int find_by_hash(shobjfs *fs, shobj_oid dict, const char *name, entry *e)
{
    enum { ESCAPED_MAX = 10 }; /* bytes that a byte of a str may take in a step: \U0001f600 */
    shobj_dict_iter iter;
    shobj_item items[BATCH_MAX];
    size_t count;
    shobj_dict_iter_init(&iter, dict, false);
    for (;;) {
        int rc = shobj_dict_iter_next(fs->store, &iter, items, BATCH_MAX, &count);
        if (rc < 0 || count == 0)
            return rc < 0 ? rc : SHOBJ_ENOTFOUND;
        for (size_t i = 0; i < count; i++) {
            const shobj_value *key = &items[i].key;
            if (key->type == SHOBJ_STR && key->count < NAME_MAX / ESCAPED_MAX)
                continue;
            rc = entry_name_key(e, key);
            if (rc == 0 && strcmp(e->name, name) == 0)
                rc = entry_describe(e, &items[i].value);
            else if (rc == 0)
                rc = SHOBJ_ENOTFOUND;
            if (rc == 0)
                return 0;
            entry_free(e);
            if (rc != SHOBJ_ENOTFOUND)
                return rc;
        }
    }
}

static int lookup_in_dict(shobjfs *fs, const node *dir, const char *name, entry *e)
{
    char *known = is_hash_name(name) ? inode_known_step(fs->inodes, dir, name) : NULL;
    if (is_hash_name(name) && known == NULL)
        return find_by_hash(fs, dir->oid, name, e);
    parsed p;
    int rc = parse_step(known != NULL ? known : name, &p);
    free(known);
    if (rc != 0)
        return rc;
    shobj_key key;
    shobj_value value;
    rc = entry_name_key(e, &p.key);
    if (rc == 0 && strcmp(e->name, name) != 0)
        rc = SHOBJ_ENOTFOUND;
    if (rc == 0)
        rc = shobj_key_init(fs->store, &p.key, &key);
    if (rc == 0)
        rc = shobj_dict_get(fs->store, dir->oid, &key, &value);
    if (rc == 0)
        rc = entry_describe(e, &value);
    parsed_free(&p);
    return rc;
}

static int lookup_in_object(shobjfs *fs, const node *dir, const char *name, entry *e)
{
    enum shobj_kind kind;
    int64_t index;
    shobj_value value;
    int rc = shobj_object(fs->store, dir->oid, &kind, NULL);
    if (rc < 0)
        return rc;
    if (kind == SHOBJ_KIND_DICT)
        return lookup_in_dict(fs, dir, name, e);
    if (kind != SHOBJ_KIND_LIST)
        return SHOBJ_ETYPE;
    rc = parse_index(name, strlen(name), &index);
    if (rc == 0)
        rc = shobj_list_get(fs->store, dir->oid, index, &value);
    return rc == 0 ? entry_describe(e, &value) : rc;
}

static int lookup_in_value(shobjfs *fs, const node *dir, const char *name, entry *e)
{
    shobj_value value;
    size_t index = 0;
    int rc = tree_value(fs, dir, &value);
    if (rc == 0 && value.type == SHOBJ_TUPLE) {
        rc = find_member(&value, name, strlen(name), &index);
    } else if (rc == 0) {
        for (rc = SHOBJ_ENOTFOUND; index < value.count; index++) {
            rc = entry_name_key(e, &value.items[index]);
            if (rc < 0 || strcmp(e->name, name) == 0)
                break;
            entry_free(e);
            rc = SHOBJ_ENOTFOUND;
        }
    }
    return rc == 0 ? entry_describe(e, &value.items[index]) : rc;
}

int tree_lookup(shobjfs *fs, node *dir, const char *name, entry *ret_entry)
{
    entry e = {.step = NULL};
    enum shobj_form form;
    int rc;
    if (strlen(name) > NAME_MAX)
        return SHOBJ_ENOTFOUND;
    snprintf(e.name, sizeof(e.name), "%s", name);
    switch (dir->kind) {
    case NODE_TOP: rc = lookup_in_top(fs, name, &e); break;
    case NODE_BY_ID: rc = lookup_by_id(fs, name, &e); break;
    case NODE_SESSIONS: rc = lookup_session(fs, name, &e); break;
    case NODE_OBJECT:
    case NODE_VALUE:
        e.kind = NODE_TEXT;
        rc = text_form(name, &form);
        if (rc < 0)
            rc = dir->kind == NODE_OBJECT ? lookup_in_object(fs, dir, name, &e) : lookup_in_value(fs, dir, name, &e);
        break;
    default: return SHOBJ_ESTALE;
    }
    if (rc < 0)
        entry_free(&e);
    else
        *ret_entry = e;
    return rc;
}

/* ---- attributes */

void tree_attr_of(const shobjfs *fs, node_kind kind, uint64_t st_ino, uint64_t bytes, struct stat *ret_attr)
{
    bool is_dir =
        kind == NODE_TOP || kind == NODE_BY_ID || kind == NODE_SESSIONS || kind == NODE_OBJECT || kind == NODE_VALUE;
    *ret_attr = (struct stat){.st_ino = st_ino,
                              .st_mode = is_dir              ? S_IFDIR | fs->dir_mode
                                         : kind == NODE_LINK ? S_IFLNK | 0777
                                                             : S_IFREG | fs->file_mode,
                              .st_nlink = 1, /* of a directory: how many are inside is not counted */
                              .st_uid = fs->uid,
                              .st_gid = fs->gid,
                              .st_size = (off_t)bytes,
                              .st_blksize = 4096,
                              .st_blocks = (blkcnt_t)((bytes + 511) / 512),
                              .st_atim = fs->time,
                              .st_mtim = fs->time,
                              .st_ctim = fs->time};
}

int tree_attr(shobjfs *fs, const node *n, struct stat *ret_attr)
{
    uint64_t bytes = 0;
    enum shobj_kind kind;
    shobj_value value;
    char *target;
    int rc = 0;
    switch (n->kind) {
    case NODE_OBJECT: rc = shobj_object(fs->store, n->oid, &kind, NULL); break;
    case NODE_VALUE: rc = tree_value(fs, n, &value); break;
    case NODE_FILE:
        rc = tree_value(fs, n, &value);
        if (rc == 0)
            rc = scalar_bytes(&value, &bytes);
        break;
    case NODE_LINK:
        rc = tree_link(fs, n, &target);
        if (rc == 0) {
            bytes = strlen(target);
            free(target);
        }
        break;
    default: break;
    }
    if (rc == 0)
        tree_attr_of(fs, n->kind, n->st_ino, bytes, ret_attr);
    return rc;
}

int tree_link(shobjfs *fs, const node *n, char **ret_target)
{
    static const char up[] = "../";
    static const char folder[] = "by-id/";
    shobj_value value;
    int rc = tree_value(fs, n, &value);
    if (rc != 0)
        return rc;
    size_t ups = inode_depth(fs->inodes, n) - 1;
    char *target = malloc(ups * strlen(up) + strlen(folder) + 17);
    if (target == NULL)
        return SHOBJ_ENOMEM;
    char *at = target;
    for (; ups > 0; ups--)
        at = stpcpy(at, up);
    shobj_oid_format(value.oid, stpcpy(at, folder));
    *ret_target = target;
    return 0;
}

/* ---- entries become nodes */

/* Whether an object is where its home is said to be, and the directories around it are. */
static int home_holds(shobjfs *fs, const home *h, bool *ret_holds)
{
    *ret_holds = true;
    for (size_t i = 0; i < h->count && *ret_holds; i++) {
        shobj_value value;
        int rc = tree_value_at(fs->store, h->parts[i].path, &value);
        if (rc == SHOBJ_ENOTFOUND || rc == SHOBJ_ETYPE || rc == SHOBJ_ESTALE)
            *ret_holds = false;
        else if (rc != 0)
            return rc;
        else
            *ret_holds = value.type == SHOBJ_OBJECT && value.oid == h->parts[i].oid;
    }
    return 0;
}

/* *ret_node is NULL if the object is a directory elsewhere. */
static int claim(shobjfs *fs, shobj_oid oid, const place *at, node **ret_node)
{
    /* Others may move it while we look; whoever loses that often shows a link, which is as true. */
    for (int tries = 0; tries < 8; tries++) {
        home h;
        bool holds;
        int rc = inode_claim(fs->inodes, oid, at, ret_node, &h);
        if (rc < 0 || *ret_node != NULL)
            return rc;
        rc = home_holds(fs, &h, &holds);
        if (rc == 0 && !holds)
            rc = inode_move(fs->inodes, oid, at, &h, ret_node);
        home_free(&h);
        if (rc < 0 || holds || *ret_node != NULL)
            return rc;
    }
    return 0;
}

int tree_enter(shobjfs *fs, node *dir, const entry *e, node **ret_node, struct stat *ret_attr)
{
    place at = {.dir = dir, .name = e->name, .step = e->step};
    node *n = NULL;
    int rc = 0;
    if (e->kind <= NODE_STAT)
        n = inode_fixed(fs->inodes, e->kind);
    else if (e->kind == NODE_OBJECT)
        rc = claim(fs, e->oid, &at, &n);
    if (rc == 0 && n == NULL)
        rc = inode_enter(fs->inodes, e->kind == NODE_OBJECT ? NODE_LINK : e->kind, &at, &n);
    if (rc < 0)
        return rc;
    if (n->kind == NODE_LINK) {
        rc = tree_attr(fs, n, ret_attr);
        if (rc < 0) {
            inode_forget(fs->inodes, n->ino, 1);
            return rc;
        }
    } else {
        tree_attr_of(fs, n->kind, n->st_ino, e->bytes, ret_attr);
    }
    *ret_node = n;
    return 0;
}
