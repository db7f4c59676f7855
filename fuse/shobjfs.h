/*
 * shobjfs.h: what the files of the mount share.
 *
 *   main.c     the command line, the daemon, the worker threads, the table of errors
 *   ops.c      the requests of the kernel
 *   tree.c     what stands where: names and look-ups, read from the store
 *   listing.c  the entries of open directories
 *   inode.c    the numbers that the kernel has for what it knows
 *   render.c   what files contain
 *
 * Functions that can fail return 0 or a negative SHOBJ_E... number; error_errno() makes an errno of it.
 */
#ifndef SHOBJFS_H
#define SHOBJFS_H

#define FUSE_USE_VERSION 312

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <fuse_lowlevel.h>
#include <shobj.h>

/* ---- nodes: what the kernel knows by number (inode.c) */

typedef enum node_kind {
    /* These four are always there, and have the numbers 1 to 4. */
    NODE_TOP,
    NODE_BY_ID,
    NODE_SESSIONS,
    NODE_STAT,
    /* These come and go. */
    NODE_OBJECT,  /* the directory of a dict or list */
    NODE_VALUE,   /* the directory of a tuple or frozenset */
    NODE_FILE,    /* a scalar */
    NODE_LINK,    /* an object that is a directory elsewhere */
    NODE_TEXT,    /* .json or .repr of a directory */
    NODE_SESSION, /* sessions/ID */
} node_kind;

typedef struct node {
    fuse_ino_t ino;
    uint64_t generation;
    node_kind kind;
    uint64_t st_ino;
    shobj_oid oid;  /* NODE_OBJECT */
    shobj_oid view; /* the tree it is in: 0 below root/, ID below by-id/ID */

    /* Where it stands. Of a NODE_OBJECT these change, and are read under the mutex of inode.c. */
    struct node *dir;
    char *name;
    char *step; /* in the store's terms; NULL: the name itself */

    /* inode.c's own, under its mutex. */
    uint64_t lookups, children, moves, opens, open_bytes;
    struct node *next_at_place, *next_of_object;
    struct node *older, *newer;
} node;

/* A name in a directory. `step` NULL: the name is the step. */
typedef struct place {
    node *dir;
    const char *name;
    const char *step;
} place;

/* The way to an object's home, from the inside out: at each path, that object is to be found. */
typedef struct home {
    uint64_t generation, moves; /* of the node */
    size_t count;
    struct home_part {
        char *path;
        shobj_oid oid;
    } * parts;
} home;

typedef struct inodes inodes;

inodes *inodes_create(void);
void inodes_destroy(inodes *t);

/* The node of a number that the kernel has; NULL for others. It stays until the kernel forgets it. */
node *inode_find(inodes *t, fuse_ino_t ino);
node *inode_fixed(inodes *t, node_kind kind);
/* The node of this kind at a place, made if need be, with one more look-up. */
int inode_enter(inodes *t, node_kind kind, const place *at, node **ret_node);
/* The directory node of an object, if its home is this place or it has none yet: with one more look-up. Else *ret_node
 * is NULL, and *ret_home (to be freed) tells where it is; without parts if no look can change that. */
int inode_claim(inodes *t, shobj_oid oid, const place *at, node **ret_node, home *ret_home);
/* Makes this place the home of an object after `old` was found not to hold. *ret_node is NULL if others were faster. */
int inode_move(inodes *t, shobj_oid oid, const place *at, const home *old, node **ret_node);
void home_free(home *h);
void inode_forget(inodes *t, fuse_ino_t ino, uint64_t lookups);

/* A file is opened, with a text of so many bytes; is closed. */
void inode_opened(inodes *t, node *n, uint64_t bytes);
void inode_closed(inodes *t, node *n);
/* Whether it is open, and how long the text was at the last opening. */
bool inode_is_open(inodes *t, const node *n, uint64_t *ret_bytes);

/* The path (as shobj_path_get() has them) of what a node shows: "@ID/step/..." from the object around it. malloc()ed;
 * NULL: out of memory. */
char *inode_path(inodes *t, const node *n);
/* The step of a known name in a directory, malloc()ed; NULL if the name is not known. */
char *inode_known_step(inodes *t, const node *dir, const char *name);
/* How many directories are above the node: 1 for what stands in the top. */
unsigned inode_depth(inodes *t, const node *n);
uint64_t inode_parent_st_ino(inodes *t, const node *n);
/* st_ino of what is not an object. */
uint64_t inode_st_ino(const node *dir, const char *name);

/* ---- content of open files (render.c) */

typedef struct content {
    char *text;
    size_t text_bytes, text_room;
    int file; /* -1: all of it is in `text`; else nothing is */
    uint64_t bytes;
} content;

void content_init(content *c);
void content_free(content *c);
int content_read(const content *c, uint64_t offset, size_t bytes, char *buf, size_t *ret_bytes);

/* The size of a scalar's file: text and numbers with a newline, bytes as they are. */
int scalar_bytes(const shobj_value *value, uint64_t *ret_bytes);
int content_of_scalar(const shobj_value *value, content *c);
int content_of_stat(shobj_store *store, content *c);
/* ENOTFOUND if there is no such session. */
int content_of_session(shobj_store *store, const char *name, content *c);
/* The text of what is at `path` and all below it, as it was at one instant. EABORTED when is_stopped(arg) says so. */
int content_of_tree(shobj_store *store, const char *path, enum shobj_form form, bool (*is_stopped)(void *arg),
                    void *arg, content *c);
/* ENOTFOUND for names that are not of these two. */
int text_form(const char *name, enum shobj_form *ret_form);
/* "dict", "int": what user.shobj.type says. */
const char *type_name(const shobj_value *value);

/* ---- the tree (tree.c) */

/* One name of a directory, and what there is. */
typedef struct entry {
    char name[NAME_MAX + 1];
    char *step;     /* malloc()ed, if the name only stands for it; else NULL */
    node_kind kind; /* NODE_OBJECT also for what may turn out to be a NODE_LINK */
    shobj_oid oid;
    uint64_t bytes; /* of NODE_FILE */
} entry;

typedef struct shobjfs {
    shobj_store *store;
    inodes *inodes;
    struct fuse_session *session;
    void (*ready)(void); /* called when the kernel has answered */
    double timeout;      /* seconds for which the kernel may keep what it was told */
    /* What all files have. */
    uid_t uid;
    gid_t gid;
    mode_t file_mode, dir_mode;
    struct timespec time;
} shobjfs;

void entry_free(entry *e);
/* Names an entry after a key or a frozenset's member; its step has been freed. */
int entry_name_key(entry *e, const shobj_value *key);
/* What of an entry comes from its value. */
int entry_describe(entry *e, const shobj_value *value);
/* What is at a path "@ID/step/...", where steps may name members of frozensets. Values live as returned ones do. */
int tree_value_at(shobj_store *store, const char *path, shobj_value *ret_value);
/* What a node shows. ESTALE if that is of another kind by now. */
int tree_value(shobjfs *fs, const node *n, shobj_value *ret_value);
int tree_lookup(shobjfs *fs, node *dir, const char *name, entry *ret_entry);
/* The node of an entry, with one more look-up; ret_attr is filled in. */
int tree_enter(shobjfs *fs, node *dir, const entry *e, node **ret_node, struct stat *ret_attr);
int tree_attr(shobjfs *fs, const node *n, struct stat *ret_attr);
void tree_attr_of(const shobjfs *fs, node_kind kind, uint64_t st_ino, uint64_t bytes, struct stat *ret_attr);
/* Where a link points, malloc()ed. */
int tree_link(shobjfs *fs, const node *n, char **ret_target);

/* ---- open directories (listing.c) */

typedef struct listing listing;
int listing_open(shobjfs *fs, node *dir, listing **ret_listing);
void listing_close(listing *l);
/* The entry behind an offset (0: the first), and its own offset. *ret_found is false at the end. */
int listing_next(listing *l, uint64_t offset, entry *ret_entry, uint64_t *ret_offset, bool *ret_found);

/* ---- requests (ops.c), errors (main.c) */

extern const struct fuse_lowlevel_ops shobjfs_ops;

int error_errno(int error);

#endif
