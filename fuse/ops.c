/*
 * ops.c: the requests of the kernel.
 *
 * Any number of threads serve requests, each with its own session in the store. A request reads the store anew, and
 * the kernel is to believe nothing for longer than it was told to (-o timeout, by default not at all), for others
 * change the store at any time. What never changes it may keep: the names in the top, and the attributes of
 * directories. What is open is as it was at the opening: a file's text, a directory's extent.
 *
 * A reply fails only when the mount is gone, for the kernel waits for each request that it has handed out: there is
 * nothing to be taken back then.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "shobjfs.h"

static shobjfs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

/* Replies with an error of the library or our own. What says that something is broken is told to the log too. */
static void reply_error(fuse_req_t req, int error)
{
    int number = error_errno(error);
    if (number == EIO) {
        const char *message = shobj_error_message();
        fuse_log(FUSE_LOG_ERR, "%s: %s\n", shobj_path(fs_of(req)->store),
                 message[0] != '\0' ? message : shobj_error_text(error));
    }
    fuse_reply_err(req, number);
}

/* The node of a number; replies and returns NULL if there is none. */
static node *node_of(fuse_req_t req, fuse_ino_t ino)
{
    node *n = inode_find(fs_of(req)->inodes, ino);
    if (n == NULL)
        fuse_reply_err(req, ESTALE);
    return n;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)conn;
    shobjfs *fs = userdata;
    fs->ready();
}

/* ---- names */

#define ALWAYS 86400.0 /* seconds */

static double attr_timeout(const shobjfs *fs, const struct stat *attr)
{
    return S_ISDIR(attr->st_mode) ? ALWAYS : fs->timeout;
}

static void entry_param(const shobjfs *fs, const node *dir, const node *n, const struct stat *attr,
                        struct fuse_entry_param *ret)
{
    *ret = (struct fuse_entry_param){.ino = n->ino,
                                     .generation = n->generation,
                                     .attr = *attr,
                                     .attr_timeout = attr_timeout(fs, attr),
                                     .entry_timeout = dir->kind == NODE_TOP ? ALWAYS : fs->timeout};
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    shobjfs *fs = fs_of(req);
    node *dir = node_of(req, parent);
    if (dir == NULL)
        return;
    entry e;
    node *n;
    struct stat attr;
    struct fuse_entry_param param;
    int rc = tree_lookup(fs, dir, name, &e);
    if (rc == 0) {
        rc = tree_enter(fs, dir, &e, &n, &attr);
        entry_free(&e);
    }
    if (rc != 0) {
        reply_error(req, rc);
        return;
    }
    entry_param(fs, dir, n, &attr, &param);
    fuse_reply_entry(req, &param);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
    inode_forget(fs_of(req)->inodes, ino, lookups);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        inode_forget(fs_of(req)->inodes, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* ---- handles: what the kernel has open */

/* A file's content or a directory's listing. All of them are in a list, so that those that are open at the end are
 * freed: the kernel does not close them. */
typedef struct handle {
    struct handle *next, **link;
    content content;
    listing *listing;
} handle;

static pthread_mutex_t handles_mutex = PTHREAD_MUTEX_INITIALIZER;
static handle *handles;

static int handle_create(handle **ret_handle)
{
    handle *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return SHOBJ_ENOMEM;
    content_init(&h->content);
    pthread_mutex_lock(&handles_mutex);
    h->next = handles;
    h->link = &handles;
    if (handles != NULL)
        handles->link = &h->next;
    handles = h;
    pthread_mutex_unlock(&handles_mutex);
    *ret_handle = h;
    return 0;
}

static void handle_destroy(handle *h)
{
    pthread_mutex_lock(&handles_mutex);
    *h->link = h->next;
    if (h->next != NULL)
        h->next->link = h->link;
    pthread_mutex_unlock(&handles_mutex);
    content_free(&h->content);
    listing_close(h->listing);
    free(h);
}

static handle *handle_of(const struct fuse_file_info *fi)
{
    return (handle *)(uintptr_t)fi->fh; /* NOLINT(performance-no-int-to-ptr) */
}

/* All requests have been answered. */
static void op_destroy(void *userdata)
{
    (void)userdata;
    while (handles != NULL)
        handle_destroy(handles);
}

/* ---- attributes */

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    shobjfs *fs = fs_of(req);
    node *n = node_of(req, ino);
    if (n == NULL)
        return;
    struct stat attr;
    uint64_t bytes = 0;
    int rc = fi != NULL ? 0 : tree_attr(fs, n, &attr);
    if (fi != NULL)
        bytes = handle_of(fi)->content.bytes;
    /* What is gone but open, as a removed file, is asked for by fstat(), which comes without the open file. */
    bool is_open =
        fi != NULL || ((rc == SHOBJ_ESTALE || rc == SHOBJ_ENOTFOUND) && inode_is_open(fs->inodes, n, &bytes));
    if (is_open)
        tree_attr_of(fs, n->kind, n->st_ino, bytes, &attr);
    if (rc < 0 && !is_open)
        reply_error(req, rc);
    else
        fuse_reply_attr(req, &attr, is_open ? 0 : attr_timeout(fs, &attr));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    node *n = node_of(req, ino);
    if (n == NULL)
        return;
    char *target;
    int rc = n->kind == NODE_LINK ? tree_link(fs_of(req), n, &target) : SHOBJ_EINVAL;
    if (rc < 0) {
        reply_error(req, rc);
        return;
    }
    fuse_reply_readlink(req, target);
    free(target);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    (void)ino;
    struct statvfs reply = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_MAX};
    struct stat attr;
    /* As a full disk of the heap's size; the heap may have lost its name. */
    if (stat(shobj_path(fs_of(req)->store), &attr) == 0)
        reply.f_blocks = (fsblkcnt_t)attr.st_blocks / 8;
    fuse_reply_statfs(req, &reply);
}

/* ---- files */

static bool is_stopped(void *arg)
{
    fuse_req_t req = arg;
    return fuse_req_interrupted(req) || fuse_session_exited(fs_of(req)->session);
}

static int fill_tree(fuse_req_t req, const node *n, content *c)
{
    shobjfs *fs = fs_of(req);
    enum shobj_form form;
    int rc = text_form(n->name, &form);
    if (rc < 0)
        return rc;
    char *path = inode_path(fs->inodes, n->dir);
    if (path == NULL)
        return SHOBJ_ENOMEM;
    rc = content_of_tree(fs->store, path, form, is_stopped, req, c);
    free(path);
    return rc;
}

static int fill(fuse_req_t req, const node *n, content *c)
{
    shobjfs *fs = fs_of(req);
    shobj_value value;
    int rc;
    switch (n->kind) {
    case NODE_FILE: rc = tree_value(fs, n, &value); return rc < 0 ? rc : content_of_scalar(&value, c);
    case NODE_TEXT: return fill_tree(req, n, c);
    case NODE_STAT: return content_of_stat(fs->store, c);
    case NODE_SESSION: return content_of_session(fs->store, n->name, c);
    default: return SHOBJ_ESTALE;
    }
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    node *n = node_of(req, ino);
    if (n == NULL)
        return;
    if ((fi->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(req, EROFS);
        return;
    }
    handle *h;
    int rc = handle_create(&h);
    if (rc == 0) {
        rc = fill(req, n, &h->content);
        if (rc < 0)
            handle_destroy(h);
    }
    if (rc < 0) {
        reply_error(req, rc);
        return;
    }
    fi->direct_io = 1;
    inode_opened(fs_of(req)->inodes, n, h->content.bytes);
    fi->fh = (uintptr_t)h;
    fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *fi)
{
    (void)ino;
    size_t got;
    char *buf = malloc(bytes);
    int rc = buf != NULL ? content_read(&handle_of(fi)->content, (uint64_t)offset, bytes, buf, &got) : SHOBJ_ENOMEM;
    if (rc < 0)
        fuse_reply_err(req, error_errno(rc));
    else
        fuse_reply_buf(req, buf, got);
    free(buf);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    node *n = node_of(req, ino);
    if (n == NULL)
        return;
    inode_closed(fs_of(req)->inodes, n);
    handle_destroy(handle_of(fi));
    fuse_reply_err(req, 0);
}

/* ---- directories */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    node *n = node_of(req, ino);
    if (n == NULL)
        return;
    handle *h;
    int rc = handle_create(&h);
    if (rc == 0) {
        rc = listing_open(fs_of(req), n, &h->listing);
        if (rc < 0)
            handle_destroy(h);
    }
    if (rc < 0) {
        reply_error(req, rc);
        return;
    }
    fi->fh = (uintptr_t)h;
    fuse_reply_open(req, fi);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_destroy(handle_of(fi));
    fuse_reply_err(req, 0);
}

/* A reply to readdir under way. Offsets 1 and 2 are those of "." and "..", an entry's is 2 more than its own. */
#define DOTS 2

typedef struct filling {
    fuse_req_t req;
    node *dir;
    listing *listing;
    bool with_attributes;
    char *buf;
    size_t bytes, room;
} filling;

/* False if there is no room for it. `param` only needs attr.st_ino and attr.st_mode for plain listings. */
static bool add(filling *f, const char *name, const struct fuse_entry_param *param, uint64_t offset)
{
    size_t left = f->room - f->bytes;
    size_t need = f->with_attributes
                      ? fuse_add_direntry_plus(f->req, f->buf + f->bytes, left, name, param, (off_t)offset)
                      : fuse_add_direntry(f->req, f->buf + f->bytes, left, name, &param->attr, (off_t)offset);
    if (need > left)
        return false;
    f->bytes += need;
    return true;
}

static bool has_room(const filling *f, const char *name)
{
    size_t need = f->with_attributes ? fuse_add_direntry_plus(f->req, NULL, 0, name, NULL, 0)
                                     : fuse_add_direntry(f->req, NULL, 0, name, NULL, 0);
    return need <= f->room - f->bytes;
}

static bool add_dots(filling *f, uint64_t *offset)
{
    shobjfs *fs = fs_of(f->req);
    for (; *offset < DOTS; ++*offset) {
        struct fuse_entry_param param = {0};
        uint64_t st_ino = *offset == 0 ? f->dir->st_ino : inode_parent_st_ino(fs->inodes, f->dir);
        tree_attr_of(fs, NODE_TOP, st_ino, 0, &param.attr);
        if (!add(f, *offset == 0 ? "." : "..", &param, *offset + 1))
            return false;
    }
    return true;
}

/* What a listing says of an entry without a look-up: not whether an object is a directory here or a link. */
static void describe_plainly(shobjfs *fs, const node *dir, const entry *e, struct fuse_entry_param *ret)
{
    uint64_t st_ino = e->kind == NODE_OBJECT ? e->oid
                      : e->kind <= NODE_STAT ? inode_fixed(fs->inodes, e->kind)->st_ino
                                             : inode_st_ino(dir, e->name);
    *ret = (struct fuse_entry_param){0};
    tree_attr_of(fs, e->kind, st_ino, e->bytes, &ret->attr);
    if (e->kind == NODE_OBJECT)
        ret->attr.st_mode = 0;
}

static int add_entry(filling *f, const entry *e, uint64_t offset)
{
    shobjfs *fs = fs_of(f->req);
    struct fuse_entry_param param;
    if (f->with_attributes) {
        node *n;
        struct stat attr;
        int rc = tree_enter(fs, f->dir, e, &n, &attr);
        if (rc == 0)
            entry_param(fs, f->dir, n, &attr, &param);
        else if (rc == SHOBJ_ENOTFOUND || rc == SHOBJ_ESTALE)
            describe_plainly(fs, f->dir, e, &param); /* changed since it was read: a look-up will tell */
        else
            return rc;
    } else {
        describe_plainly(fs, f->dir, e, &param);
    }
    add(f, e->name, &param, offset);
    return 0;
}

static int fill_listing(filling *f, uint64_t offset)
{
    if (!add_dots(f, &offset))
        return 0;
    for (;;) {
        entry e;
        bool found;
        int rc = listing_next(f->listing, offset - DOTS, &e, &offset, &found);
        if (rc < 0 || !found)
            return rc;
        offset += DOTS;
        bool is_full = !has_room(f, e.name);
        if (!is_full)
            rc = add_entry(f, &e, offset);
        entry_free(&e);
        if (rc < 0 || is_full)
            return rc;
    }
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *fi,
                 bool with_attributes)
{
    node *n = node_of(req, ino);
    if (n == NULL)
        return;
    filling f = {.req = req,
                 .dir = n,
                 .listing = handle_of(fi)->listing,
                 .with_attributes = with_attributes,
                 .buf = malloc(bytes),
                 .room = bytes};
    int rc = f.buf != NULL ? fill_listing(&f, (uint64_t)offset) : SHOBJ_ENOMEM;
    /* An error after some entries is met again behind them. */
    if (rc < 0 && f.bytes == 0)
        reply_error(req, rc);
    else
        fuse_reply_buf(req, f.buf, f.bytes);
    free(f.buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *fi)
{
    list(req, ino, bytes, offset, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *fi)
{
    list(req, ino, bytes, offset, fi, true);
}

/* ---- extended attributes */

static const char *const attribute_names[] = {"user.shobj.type", "user.shobj.oid", "user.shobj.version"};
enum { ATTRIBUTE_TYPE, ATTRIBUTE_OID, ATTRIBUTE_VERSION, ATTRIBUTE_COUNT };
#define ATTRIBUTE_BYTES 24

/* All that a node has; those it does not have are "". */
static int read_attributes(shobjfs *fs, const node *n, char ret_values[ATTRIBUTE_COUNT][ATTRIBUTE_BYTES])
{
    shobj_value value = {.type = SHOBJ_OBJECT};
    memset(ret_values, 0, ATTRIBUTE_COUNT * ATTRIBUTE_BYTES);
    if (n->kind == NODE_OBJECT) {
        enum shobj_kind kind;
        uint64_t version;
        int rc = shobj_object(fs->store, n->oid, &kind, &version);
        if (rc < 0)
            return rc;
        value.kind = (uint8_t)kind;
        shobj_oid_format(n->oid, ret_values[ATTRIBUTE_OID]);
        snprintf(ret_values[ATTRIBUTE_VERSION], ATTRIBUTE_BYTES, "%" PRIu64, version);
    } else if (n->kind == NODE_VALUE || n->kind == NODE_FILE) {
        int rc = tree_value(fs, n, &value);
        if (rc < 0)
            return rc;
    } else {
        return 0;
    }
    snprintf(ret_values[ATTRIBUTE_TYPE], ATTRIBUTE_BYTES, "%s", type_name(&value));
    return 0;
}

static void reply_bytes(fuse_req_t req, const char *text, size_t bytes, size_t room)
{
    if (room == 0)
        fuse_reply_xattr(req, bytes);
    else if (room < bytes)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, text, bytes);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t room)
{
    char values[ATTRIBUTE_COUNT][ATTRIBUTE_BYTES];
    int i = 0;
    while (i < ATTRIBUTE_COUNT && strcmp(name, attribute_names[i]) != 0)
        i++;
    node *n = node_of(req, ino);
    if (n == NULL)
        return;
    int rc = i < ATTRIBUTE_COUNT ? read_attributes(fs_of(req), n, values) : 0;
    if (rc < 0)
        reply_error(req, rc);
    else if (i == ATTRIBUTE_COUNT || values[i][0] == '\0')
        fuse_reply_err(req, ENODATA);
    else
        reply_bytes(req, values[i], strlen(values[i]), room);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t room)
{
    char values[ATTRIBUTE_COUNT][ATTRIBUTE_BYTES];
    char names[ATTRIBUTE_COUNT * 32];
    size_t bytes = 0;
    node *n = node_of(req, ino);
    if (n == NULL)
        return;
    int rc = read_attributes(fs_of(req), n, values);
    for (int i = 0; rc == 0 && i < ATTRIBUTE_COUNT; i++) {
        if (values[i][0] != '\0')
            bytes += (size_t)snprintf(names + bytes, sizeof(names) - bytes, "%s", attribute_names[i]) + 1;
    }
    if (rc < 0)
        reply_error(req, rc);
    else
        reply_bytes(req, names, bytes, room);
}

const struct fuse_lowlevel_ops shobjfs_ops = {
    .init = op_init,
    .destroy = op_destroy,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .readlink = op_readlink,
    .statfs = op_statfs,
    .open = op_open,
    .read = op_read,
    .release = op_release,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
};
