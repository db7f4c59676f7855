/*
 * salvage.c: a damaged heap file in private memory, to take out what can be read.
 *
 * The mapping is private: what is mended in it never reaches the file. That it is a heap of this layout must be told by the
 * magic number, by the layout's version and size beside it, or by the marks of the tables' slabs in the directory; the
 * sizes are taken from wherever two places agree:
 *
 *   the superblock     max_bytes, and data_off that follows from it
 *   the directory      the slabs of the tables come first and are marked, so that their number gives data_off
 *
 * All slabs of the file count, whatever slab_count says.
 */
#include "heap/salvage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

static bool is_max(uint64_t max_bytes, uint64_t file_bytes)
{
    return max_bytes % SHM_SLAB_BYTES == 0 && max_bytes >= file_bytes / SHM_SLAB_BYTES * SHM_SLAB_BYTES &&
           max_bytes > SHM_DIR_OFF && max_bytes <= SHO_MAX_BYTES_LIMIT && sho_data_off(max_bytes) < max_bytes;
}

/* Where the data begins, as the directory says: behind the slabs that are marked as tables. 0: it does not say. */
static uint64_t marked_data_off(int fd, uint64_t file_bytes)
{
    uint64_t slabs = 0;
    struct shm_slab d;
    while (slabs < file_bytes >> SHM_SLAB_SHIFT &&
           pread(fd, &d, sizeof(d), (off_t)(SHM_DIR_OFF + slabs * sizeof(d))) == (ssize_t)sizeof(d) &&
           sho_load(&d.state) == SHM_SLAB_STATE(SHM_SLAB_META, 0, 0, 0))
        slabs++;
    return slabs << SHM_SLAB_SHIFT > SHM_DIR_OFF ? slabs << SHM_SLAB_SHIFT : 0;
}

/* Sets both sizes. False: no two places agree. */
static bool infer_sizes(sho_region *region, const struct shm_superblock *sb, uint64_t file_bytes)
{
    uint64_t marked = marked_data_off(region->fd, file_bytes);
    if (is_max(sb->max_bytes, file_bytes) &&
        (sb->data_off == sho_data_off(sb->max_bytes) || marked == sho_data_off(sb->max_bytes))) {
        region->max_bytes = sb->max_bytes;
    } else if (marked != 0 && marked < file_bytes) {
        /* As many slabs as this directory has room for. */
        region->max_bytes = (marked - SHM_DIR_OFF) / (sizeof(struct shm_slab) + SHM_MARK_BYTES) << SHM_SLAB_SHIFT;
        while (sho_data_off(region->max_bytes) > marked)
            region->max_bytes -= SHM_SLAB_BYTES;
        if (region->max_bytes < file_bytes)
            return false;
    } else {
        return false;
    }
    region->mark_off = sho_mark_off(region->max_bytes);
    region->data_off = sho_data_off(region->max_bytes);
    return true;
}

static int refuse(const char *path, int code, const char *what)
{
    return sho_error(code, "salvaging %s: %s", path, what);
}

/* Another version is believed unless the checksum says that it was this one. */
static bool is_other_layout(const struct shm_superblock *sb)
{
    struct shm_superblock ours = *sb;
    ours.layout_version = SHM_LAYOUT_VERSION;
    return sb->layout_version != SHM_LAYOUT_VERSION && sb->checksum != sho_region_checksum(&ours);
}

static int map_private(sho_region *region, const struct shm_superblock *sb, uint64_t file_bytes)
{
    void *base = mmap(NULL, region->max_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, region->fd, 0);
    if (base == MAP_FAILED) {
        region->base = NULL;
        return sho_error(SHOBJ_EIO, "salvaging %s: mapping it: %s", region->path, strerror(errno));
    }
    region->base = base;
    region->sb = base;
    region->dir_off = SHM_DIR_OFF;
    region->root_oid = sb->root_oid;
    memcpy(region->hash_seed, sb->hash_seed, sizeof(region->hash_seed));
    memcpy(region->uuid, sb->uuid, sizeof(region->uuid));
    region->writable = true; /* this memory */
    atomic_store_explicit(&region->limit, file_bytes / SHM_PAGE_BYTES * SHM_PAGE_BYTES, memory_order_relaxed);
    sho_store(&region->sb->slab_count, file_bytes >> SHM_SLAB_SHIFT);
    if (sho_load(&region->sb->slot_high) > SHM_SLOT_MAX)
        sho_store(&region->sb->slot_high, SHM_SLOT_MAX);
    return 0;
}

int sho_region_salvage(const char *path, sho_region **ret_region)
{
    struct shm_superblock sb = {0};
    struct stat st;
    int rc;
    sho_region *region = calloc(1, sizeof(*region));
    if (region == NULL || (region->path = strdup(path)) == NULL) {
        free(region);
        return refuse(path, SHOBJ_ENOMEM, "out of memory");
    }
    region->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (region->fd < 0 || fstat(region->fd, &st) < 0) {
        rc = sho_error(errno == ENOENT ? SHOBJ_ENOENT : errno == EACCES ? SHOBJ_EACCES : SHOBJ_EIO, "salvaging %s: %s",
                       path, strerror(errno));
        goto fail;
    }
    region->dev = st.st_dev;
    region->ino = st.st_ino;
    ssize_t n = S_ISREG(st.st_mode) ? pread(region->fd, &sb, sizeof(sb), 0) : 0;
    bool names_layout = sb.layout_version == SHM_LAYOUT_VERSION && sb.header_bytes == sizeof(sb);
    if (n < (ssize_t)sizeof(sb) ||
        (sb.magic != SHM_MAGIC && !names_layout && marked_data_off(region->fd, (uint64_t)st.st_size) == 0))
        rc = refuse(path, SHOBJ_EFORMAT, "not a shobj heap file; give the path of a store");
    else if (sb.magic == SHM_MAGIC && is_other_layout(&sb))
        rc = refuse(path, SHOBJ_EVERSION, "a heap of another layout version; use a matching release of shobj");
    else if (!infer_sizes(region, &sb, (uint64_t)st.st_size))
        rc = refuse(path, SHOBJ_ECORRUPT, "neither its superblock nor its slab directory tells how large its parts are; "
                                          "restore it from a copy or a dump");
    else if ((uint64_t)st.st_size <= region->data_off)
        rc = refuse(path, SHOBJ_ECORRUPT, "it was cut within its tables, and all objects with it; restore it from a copy "
                                          "or a dump");
    else
        rc = map_private(region, &sb, (uint64_t)st.st_size);
    if (rc == 0) {
        *ret_region = region;
        return 0;
    }
fail:
    sho_region_close(region);
    return rc;
}

int sho_region_lock_out(const char *path, int *ret_lock)
{
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = SHM_PROCESS_OFF,
                         .l_len = (off_t)SHM_PROCESS_MAX * (off_t)sizeof(struct shm_process)};
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return sho_error(errno == ENOENT ? SHOBJ_ENOENT : errno == EACCES || errno == EROFS ? SHOBJ_EACCES : SHOBJ_EIO,
                         "locking %s: %s", path, strerror(errno));
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        *ret_lock = fd;
        return 0;
    }
    int e = errno;
    close(fd);
    if (e == EAGAIN || e == EACCES)
        return sho_error(SHOBJ_EBUSY, "%s is in use; close it in every process first (shobj ps lists them)", path);
    return sho_error(SHOBJ_EIO, "locking %s: %s", path, strerror(e));
}
