/*
 * repair.c: makes a whole heap of a damaged one.
 *
 * Nothing in the damaged file is mended: what can be read of it is copied into a new file beside it (salvage.c), which then
 * takes its name. So the store is at each moment either the old file, untouched, or the new one, whole.
 *
 *   lock     all process records of the old file: nobody lives in it, and nobody can attach
 *   map      privately; transactions of the dead are finished or undone in that memory
 *   copy     into PATH.repair-PID, which gets the old one's identity, permissions and owner
 *   keep     the old file under the backup's name, if asked: a link, or a copy on another file system
 *   rename   the new file to PATH
 *
 * Whoever waited to attach finds all records of the old file locked, and fails (ELIMIT). A crash leaves PATH.repair-PID.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/repair.h"

#define SIZES_MAX 4 /* doublings of max_size, should the copy not fit */
#define MAX_SIZE_MIN (4ULL << 20)

typedef struct repair {
    char path[PATH_MAX];
    char copy[PATH_MAX];    /* the new file, while it is made */
    const char *place;      /* where it is to be in the end */
    const char *backup;     /* NULL: none */
    sho_region *old;
    int lock;
    void (*report)(const char *line, void *arg);
    void *arg;
} repair;

static int fail(const char *what, const char *path)
{
    int e = errno;
    return sho_error(e == ENOENT                                  ? SHOBJ_ENOENT
                     : e == EEXIST                                ? SHOBJ_EEXIST
                     : e == EACCES || e == EPERM || e == EROFS    ? SHOBJ_EACCES
                     : e == ENOSPC || e == EDQUOT                 ? SHOBJ_EFULL
                                                                  : SHOBJ_EIO,
                     "%s %s: %s", what, path, strerror(e));
}

/* ------------------------------------------------------------------------------------------ the new file */

/* The identity of the old one. Nobody else knows the new file. */
static void inherit(const sho_region *old, sho_region *region)
{
    struct shm_superblock *sb = region->sb;
    memcpy(sb->uuid, old->uuid, sizeof(sb->uuid));
    memcpy(region->uuid, old->uuid, sizeof(region->uuid));
    sb->created_ns = old->sb->created_ns;
    sb->checksum = sho_region_checksum(sb);
}

static int fill(repair *r, uint64_t max_bytes, uint64_t *ret_lost_count)
{
    const shobj_options options = {.mode = SHOBJ_OPEN_EXCL, .max_size = max_bytes, .own_mapping = true};
    shobj_store *store;
    int rc = shobj_open(r->copy, &options, &store);
    if (rc)
        return rc;
    inherit(r->old, store->region);
    rc = sho_salvage_copy(r->old, store, r->report, r->arg, ret_lost_count);
    shobj_close(store);
    if (rc)
        unlink(r->copy);
    return rc;
}

/* Blocks may lie less dense in the new heap than they did: a larger one, then. */
static int fill_some_size(repair *r, uint64_t *ret_lost_count)
{
    uint64_t max_bytes = r->old->max_bytes < MAX_SIZE_MIN ? MAX_SIZE_MIN : r->old->max_bytes;
    int rc = fill(r, max_bytes, ret_lost_count);
    for (int i = 0; rc == SHOBJ_EFULL && i < SIZES_MAX && max_bytes <= SHO_MAX_BYTES_LIMIT / 2; i++) {
        char line[200];
        max_bytes *= 2;
        snprintf(line, sizeof(line), "store: its blocks do not fit any more: once again, with a max_size of %llu bytes",
                 (unsigned long long)max_bytes);
        if (r->report != NULL)
            r->report(line, r->arg);
        rc = fill(r, max_bytes, ret_lost_count);
    }
    return rc;
}

static int inherit_permissions(const repair *r)
{
    struct stat st;
    if (fstat(r->lock, &st) < 0)
        return fail("looking at", r->path);
    if (chmod(r->copy, st.st_mode & 07777) < 0 ||
        ((st.st_uid != geteuid() || st.st_gid != getegid()) && chown(r->copy, st.st_uid, st.st_gid) < 0))
        return fail("giving the owner and the permissions of the old file to", r->copy);
    return 0;
}

/* ------------------------------------------------------------------------------------------ the backup */

/* Holes stay holes. */
static int copy_bytes(int from, int to, off_t size)
{
    static const uint8_t zeros[SHM_PAGE_BYTES];
    uint8_t page[SHM_PAGE_BYTES];
    for (off_t at = 0; at < size; at += (off_t)sizeof(page)) {
        ssize_t n = pread(from, page, sizeof(page), at);
        if (n <= 0)
            return n < 0 ? -1 : ftruncate(to, size);
        if (memcmp(page, zeros, (size_t)n) != 0 && pwrite(to, page, (size_t)n, at) != n)
            return -1;
    }
    return ftruncate(to, size);
}

static int back_up(const repair *r)
{
    struct stat st;
    if (r->backup == NULL || link(r->path, r->backup) == 0)
        return 0;
    if (errno != EXDEV && errno != EPERM && errno != EMLINK)
        return fail("keeping the damaged file as", r->backup);
    int to = -1, rc = 0;
    if (fstat(r->lock, &st) < 0 || (to = open(r->backup, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 0777)) < 0 ||
        copy_bytes(r->lock, to, st.st_size) < 0 || fsync(to) < 0)
        rc = fail("keeping the damaged file as", r->backup);
    if (to >= 0 && close(to) < 0 && rc == 0)
        rc = fail("keeping the damaged file as", r->backup);
    return rc;
}

/* ------------------------------------------------------------------------------------------ all of it */

static int put_in_place(const repair *r)
{
    int rc = inherit_permissions(r);
    if (rc == 0)
        rc = back_up(r);
    if (rc == 0 && r->place == r->path && rename(r->copy, r->path) < 0)
        rc = fail("putting the repaired heap in the place of", r->path);
    if (rc == 0 && r->place != r->path && link(r->copy, r->place) < 0)
        rc = fail("writing the repaired heap to", r->place);
    if (rc || r->place != r->path)
        unlink(r->copy);
    return rc;
}

static int run(repair *r, uint64_t *ret_lost_count)
{
    int rc = sho_region_lock_out(r->path, &r->lock);
    if (rc)
        return rc;
    rc = sho_region_salvage(r->path, &r->old);
    if (rc == 0) {
        sho_recover_known_dead(r->old);
        rc = fill_some_size(r, ret_lost_count);
    }
    if (rc == 0)
        rc = put_in_place(r);
    sho_region_close(r->old);
    close(r->lock);
    return rc;
}

SHOBJ_API int shobj_repair(const char *name, const shobj_repair_options *options,
                           void (*report)(const char *line, void *arg), void *arg, uint64_t *ret_lost_count)
{
    repair r = {.report = report, .arg = arg};
    uint64_t lost_count = 0;
    int rc = shobj_store_path(name, r.path, sizeof(r.path));
    if (rc)
        return rc;
    r.backup = options != NULL ? options->backup : NULL;
    r.place = options != NULL && options->output != NULL ? options->output : r.path;
    int n = snprintf(r.copy, sizeof(r.copy), "%s.repair-%ld", r.place, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof(r.copy))
        return sho_error(SHOBJ_EINVAL, "repairing %s: the path is too long", r.place);
    if (strchr(r.place, '/') == NULL || (r.place != r.path && r.backup != NULL))
        return sho_error(SHOBJ_EINVAL, "repairing %s: the output is a path with a '/', and the store stays as it is: no "
                         "backup", r.path);
    rc = run(&r, &lost_count);
    if (rc == 0 && ret_lost_count != NULL)
        *ret_lost_count = lost_count;
    return rc;
}
