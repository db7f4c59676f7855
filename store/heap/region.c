/*
 * region.c: the heap file and its mapping.
 *
 * max_size is mapped once (MAP_NORESERVE), so growth never remaps. The file only ever grows, by fallocate(), so that a
 * full file system is an error here and not a SIGBUS at some later store. Growth needs no lock: backing the same range
 * twice is harmless, an all-zero slab descriptor is a free slab, and slab_count moves by one compare-and-swap after the
 * memory and the descriptors are backed. A crash before that leaves memory that the next growth finds backed.
 *
 * A new file is filled while it has no name (O_TMPFILE) and gets one by linkat(): nobody ever opens a half-made heap, of
 * two creators one loses, and a creator that dies leaves nothing.
 *
 * Offsets are checked against `limit`, a private copy of the file's size that is refreshed when an offset lies behind
 * it: what the heap itself says about sizes is never trusted with an address.
 */
#include "heap/region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

#define SIZE_MIN (4ULL << 20)
#define GROW_MIN (256ULL << 10)
#define GROW_MAX (4ULL << 20)

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

uint64_t sho_region_checksum(const struct shm_superblock *sb)
{
    const uint8_t *p = (const uint8_t *)sb;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < offsetof(struct shm_superblock, checksum); i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static void read_boot_id(uint8_t id[16])
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof(text) - 1);
        (void)n;
        close(fd);
    }
    memset(id, 0, 16);
    for (size_t i = 0, nibble = 0; text[i] != '\0' && nibble < 32; i++) {
        int c = text[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0)
            continue;
        id[nibble / 2] = (uint8_t)(id[nibble / 2] << 4 | v);
        nibble++;
    }
}

static int fail_errno(const char *what, const char *path)
{
    int e = errno;
    int code = e == ENOENT                                   ? SHOBJ_ENOENT
               : e == EEXIST                                 ? SHOBJ_EEXIST
               : e == EACCES || e == EPERM || e == EROFS     ? SHOBJ_EACCES
               : e == ENOSPC || e == EDQUOT                  ? SHOBJ_EFULL
               : e == ENOMEM                                 ? SHOBJ_ENOMEM
               : e == EISDIR                                 ? SHOBJ_EFORMAT
                                                             : SHOBJ_EIO;
    return sho_error(code, "%s %s: %s", what, path, strerror(e));
}

static sho_region *region_new(const char *path)
{
    sho_region *region = calloc(1, sizeof(*region));
    if (region != NULL) {
        region->fd = -1;
        region->path = strdup(path);
        if (region->path == NULL) {
            free(region);
            region = NULL;
        }
    }
    if (region == NULL)
        sho_error(SHOBJ_ENOMEM, "opening %s: out of memory", path);
    return region;
}

static int map(sho_region *region, uint64_t max_bytes)
{
    int prot = PROT_READ | (region->writable ? PROT_WRITE : 0);
    void *base = mmap(NULL, max_bytes, prot, MAP_SHARED | MAP_NORESERVE, region->fd, 0);
    if (base == MAP_FAILED)
        return fail_errno("mapping", region->path);
    madvise(base, max_bytes, MADV_DONTDUMP);
    region->base = base;
    region->sb = base;
    region->max_bytes = max_bytes;
    return 0;
}

void sho_region_close(sho_region *region)
{
    if (region == NULL)
        return;
    if (region->base != NULL)
        munmap(region->base, region->max_bytes);
    if (region->fd >= 0)
        close(region->fd);
    free(region->path);
    free(region);
}

bool sho_region_refresh(sho_region *region, uint64_t off, uint64_t bytes)
{
    struct stat st;
    uint64_t limit = 0;
    if (fstat(region->fd, &st) == 0 && st.st_ino == region->ino && st.st_dev == region->dev)
        limit = (uint64_t)st.st_size;
    else if (stat(region->path, &st) == 0 && st.st_ino == region->ino && st.st_dev == region->dev)
        limit = (uint64_t)st.st_size; /* someone closed our descriptor */
    if (limit > region->max_bytes)
        limit = region->max_bytes;
    uint64_t known = atomic_load_explicit(&region->limit, memory_order_relaxed);
    while (limit > known && !atomic_compare_exchange_weak_explicit(&region->limit, &known, limit, memory_order_relaxed,
                                                                   memory_order_relaxed))
        ;
    if (limit < known)
        limit = known;
    return bytes <= limit && off <= limit - bytes;
}

int sho_region_reopen(const sho_region *region)
{
    char proc[40];
    struct stat st;
    int flags = (region->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", region->fd);
    const char *names[] = {region->path, proc};
    for (size_t i = 0; i < SHO_COUNT_OF(names); i++) {
        int fd = open(names[i], flags);
        if (fd < 0)
            continue;
        if (fstat(fd, &st) == 0 && st.st_ino == region->ino && st.st_dev == region->dev)
            return fd;
        close(fd);
        errno = ESTALE;
    }
    return -1;
}

/* ------------------------------------------------------------------------------------------ opening */

static int check_superblock(sho_region *region, const struct shm_superblock *sb, uint64_t file_bytes)
{
    const char *path = region->path;
    if (sb->magic != SHM_MAGIC)
        return sho_error(SHOBJ_EFORMAT, "opening %s: not a shobj heap file (no magic number); give the path of a store",
                         path);
    if (sb->layout_version != SHM_LAYOUT_VERSION)
        return sho_error(SHOBJ_EVERSION,
                         "opening %s: layout version %u, but this library reads version %u; open it with a matching "
                         "release of shobj, dump and load it",
                         path, sb->layout_version, SHM_LAYOUT_VERSION);
    if (sb->header_bytes != sizeof(*sb) || sb->checksum != sho_region_checksum(sb))
        return sho_error(SHOBJ_ECORRUPT, "opening %s: the superblock is damaged (checksum); repair it (shobj check "
                         "--repair), or restore it from a copy",
                         path);
    if (sb->max_bytes % SHM_SLAB_BYTES || sb->max_bytes > SHO_MAX_BYTES_LIMIT || sb->dir_off != SHM_DIR_OFF ||
        sb->mark_off != sho_mark_off(sb->max_bytes) || sb->data_off != sho_data_off(sb->max_bytes) ||
        sb->data_off >= sb->max_bytes)
        return sho_error(SHOBJ_ECORRUPT, "opening %s: the superblock's sizes contradict each other; repair it (shobj check "
                         "--repair), or restore it",
                         path);
    uint64_t slabs = sho_load(&sb->slab_count);
    if (slabs < sb->data_off >> SHM_SLAB_SHIFT)
        return sho_error(SHOBJ_ECORRUPT, "opening %s: the superblock counts fewer slabs than its tables take; repair it "
                         "(shobj check --repair), or restore it", path);
    /* One slab at least is there behind the tables: fast range checks count on it (txn/op.h). */
    uint64_t needed = slabs << SHM_SLAB_SHIFT > sb->data_off ? slabs << SHM_SLAB_SHIFT : sb->data_off + SHM_SLAB_BYTES;
    if (slabs > sb->max_bytes >> SHM_SLAB_SHIFT || needed > file_bytes)
        return sho_error(SHOBJ_ECORRUPT,
                         "opening %s: the file has been cut: %llu bytes, but its heap needs %llu; repair it (shobj check "
                         "--repair), or restore it", path,
                         (unsigned long long)file_bytes, (unsigned long long)needed);
    return 0;
}

static void copy_superblock(sho_region *region, const struct shm_superblock *sb)
{
    region->dir_off = sb->dir_off;
    region->mark_off = sb->mark_off;
    region->marks = region->base + sb->mark_off;
    region->data_off = sb->data_off;
    region->root_oid = sb->root_oid;
    memcpy(region->hash_seed, sb->hash_seed, sizeof(region->hash_seed));
    memcpy(region->uuid, sb->uuid, sizeof(region->uuid));
    region->rare_fences = sb->fences == SHM_FENCES_RARE;
}

/* Lets other processes' barriers reach this one (membarrier, global expedited). */
static bool join_barriers(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

void sho_region_barrier(const sho_region *region)
{
    if (!region->rare_fences || syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) != 0)
        sho_fence_full();
}

/* A heap that was in use when the machine went down has lost what was in flight: it opens only if every process had left
 * it. Its process records tell; their locks can't have survived the boot. */
static int check_boot(sho_region *region)
{
    uint8_t now[16];
    uint64_t words[2];
    read_boot_id(now);
    memcpy(words, now, 16);
    struct shm_superblock *sb = region->sb;
    if (sho_load(&sb->boot_id_now[0]) == words[0] && sho_load(&sb->boot_id_now[1]) == words[1])
        return 0;
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++)
        if (sho_process_is_live(region, i))
            return sho_error(SHOBJ_ECORRUPT,
                             "opening %s: it was in use when the machine last went down, so that changes may be "
                             "missing; repair it (shobj check --repair), or restore it from a copy or a dump",
                             region->path);
    if (region->writable) {
        sho_store(&sb->boot_id_now[0], words[0]);
        sho_store(&sb->boot_id_now[1], words[1]);
    }
    return 0;
}

int sho_region_open(const char *path, bool writable, sho_region **ret_region)
{
    sho_region *region = region_new(path);
    if (region == NULL)
        return SHOBJ_ENOMEM;
    int rc;
    struct stat st;
    region->writable = writable;
    /* O_NONBLOCK: a FIFO must not hang us; it is refused below. */
    region->fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
    if (region->fd < 0 || fstat(region->fd, &st) < 0) {
        rc = errno == EISDIR ? sho_error(SHOBJ_EFORMAT, "opening %s: it is a directory; give the path of a store", path)
                             : fail_errno("opening", path);
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = sho_error(SHOBJ_EFORMAT, "opening %s: not a regular file; give the path of a store", path);
        goto fail;
    }
    region->dev = st.st_dev;
    region->ino = st.st_ino;
    struct shm_superblock sb;
    ssize_t n = pread(region->fd, &sb, sizeof(sb), 0);
    if (n < 0) {
        rc = fail_errno("reading", path);
        goto fail;
    }
    /* Once more: what the superblock counts is there, but it may have come behind the first look. */
    if (fstat(region->fd, &st) < 0) {
        rc = fail_errno("opening", path);
        goto fail;
    }
    if ((size_t)n < sizeof(sb)) {
        rc = n >= 8 && sb.magic == SHM_MAGIC
                 ? sho_error(SHOBJ_ECORRUPT, "opening %s: the file has been cut after %zd bytes; restore it", path, n)
                 : sho_error(SHOBJ_EFORMAT, "opening %s: not a shobj heap file (%zd bytes); give the path of a store",
                             path, n);
        goto fail;
    }
    rc = check_superblock(region, &sb, (uint64_t)st.st_size);
    if (rc == 0)
        rc = map(region, sb.max_bytes);
    if (rc)
        goto fail;
    copy_superblock(region, &sb);
    sho_region_refresh(region, 0, 0);
    if (writable && region->rare_fences && !join_barriers()) {
        rc = sho_error(SHOBJ_EIO, "opening %s: its processes order memory by membarrier(), which this one may not use: %s; "
                       "allow that system call, or create the store where it is not allowed", path, strerror(errno));
        goto fail;
    }
    rc = check_boot(region);
    if (rc)
        goto fail;
    *ret_region = region;
    return 0;
fail:
    sho_region_close(region);
    return rc;
}

/* ------------------------------------------------------------------------------------------ creating */

/* Opens a file that has no name yet, in the directory where it will get one. */
static int open_unnamed(const char *path, unsigned file_mode)
{
    const char *slash = strrchr(path, '/');
    char dir[4096];
    size_t n = slash == NULL ? 0 : (size_t)(slash - path);
    if (n >= sizeof(dir)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(dir, path, n);
    strcpy(dir + n, slash == NULL ? "." : n == 0 ? "/" : "");
    return open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, file_mode);
}

static int fill_superblock(sho_region *region, uint64_t max_bytes, uint64_t mark_off, uint64_t data_off)
{
    struct shm_superblock *sb = region->sb;
    struct {
        uint8_t uuid[16];
        uint64_t seed[2];
    } random;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return fail_errno("drawing random numbers for", region->path);
    sb->magic = SHM_MAGIC;
    sb->layout_version = SHM_LAYOUT_VERSION;
    sb->header_bytes = sizeof(*sb);
    random.uuid[6] = (uint8_t)((random.uuid[6] & 0x0f) | 0x40);
    random.uuid[8] = (uint8_t)((random.uuid[8] & 0x3f) | 0x80);
    memcpy(sb->uuid, random.uuid, 16);
    memcpy(sb->hash_seed, random.seed, 16);
    sb->max_bytes = max_bytes;
    sb->dir_off = SHM_DIR_OFF;
    sb->mark_off = mark_off;
    sb->data_off = data_off;
    sb->created_ns = sho_now_ns();
    sb->fences = join_barriers() ? SHM_FENCES_RARE : SHM_FENCES_ALL;
    read_boot_id(sb->boot_id);
    uint64_t boot[2];
    memcpy(boot, sb->boot_id, 16);
    sho_store(&sb->boot_id_now[0], boot[0]);
    sho_store(&sb->boot_id_now[1], boot[1]);
    sho_store(&sb->clock, SHM_VERSION_ONE);
    copy_superblock(region, sb);
    return 0;
}

/* Descriptors of the slabs that the tables in front of data_off take. */
static void mark_tables(sho_region *region)
{
    uint64_t slabs = region->data_off >> SHM_SLAB_SHIFT;
    for (uint64_t i = 0; i < slabs; i++)
        sho_store(&sho_region_slab(region, i)->state, SHM_SLAB_STATE(SHM_SLAB_META, 0, 0, 0));
    sho_store(&region->sb->slab_count, slabs);
    sho_store(&region->sb->free_scan_hint, slabs);
}

int sho_region_create(const char *path, uint64_t size, uint64_t max_bytes, unsigned file_mode, sho_region **ret_region)
{
    if (max_bytes < SIZE_MIN || max_bytes > SHO_MAX_BYTES_LIMIT)
        return sho_error(SHOBJ_EINVAL, "creating %s: max_size %llu is not between %llu (4 MiB) and %llu (64 TiB)", path,
                         (unsigned long long)max_bytes, (unsigned long long)SIZE_MIN,
                         (unsigned long long)SHO_MAX_BYTES_LIMIT);
    if (size > max_bytes)
        return sho_error(SHOBJ_EINVAL, "creating %s: size %llu is above max_size %llu", path, (unsigned long long)size,
                         (unsigned long long)max_bytes);
    sho_region *region = region_new(path);
    if (region == NULL)
        return SHOBJ_ENOMEM;
    int rc;
    struct stat st;
    max_bytes = max_bytes / SHM_SLAB_BYTES * SHM_SLAB_BYTES;
    uint64_t mark_off = sho_mark_off(max_bytes);
    uint64_t data_off = sho_data_off(max_bytes);
    region->writable = true;
    region->fd = open_unnamed(path, file_mode);
    if (region->fd < 0 || fstat(region->fd, &st) < 0) {
        rc = errno == ENOENT || errno == ENOTDIR
                 ? sho_error(SHOBJ_ENOENT, "creating %s: %s; make its folder first", path, strerror(errno))
                 : fail_errno("creating", path);
        goto fail;
    }
    region->dev = st.st_dev;
    region->ino = st.st_ino;
    /* The tables are there from now on, and without memory but for the parts that are backed. */
    if (ftruncate(region->fd, (off_t)data_off) < 0) {
        rc = fail_errno("creating", path);
        goto fail;
    }
    rc = map(region, max_bytes);
    if (rc)
        goto fail;
    rc = sho_region_back(region, 0, SHM_SLOT_OFF);
    if (rc == 0)
        rc = sho_region_back(region, SHM_DIR_OFF, (data_off >> SHM_SLAB_SHIFT) * sizeof(struct shm_slab));
    if (rc == 0)
        rc = fill_superblock(region, max_bytes, mark_off, data_off);
    /* The tables are sparse: growth begins behind them. */
    if (rc == 0 && ftruncate(region->fd, (off_t)data_off) < 0)
        rc = fail_errno("creating", path);
    if (rc)
        goto fail;
    sho_region_refresh(region, 0, data_off);
    mark_tables(region);
    uint64_t want = round_up(size, SHM_SLAB_BYTES) >> SHM_SLAB_SHIFT;
    uint64_t least = (data_off >> SHM_SLAB_SHIFT) + 4;
    rc = sho_region_grow(region, want > least ? want : least);
    if (rc)
        goto fail;
    *ret_region = region;
    return 0;
fail:
    sho_region_close(region);
    return rc;
}

int sho_region_publish(sho_region *region, uint64_t root_oid)
{
    char proc[40];
    region->sb->root_oid = root_oid;
    region->root_oid = root_oid;
    region->sb->checksum = sho_region_checksum(region->sb);
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", region->fd);
    if (linkat(AT_FDCWD, proc, AT_FDCWD, region->path, AT_SYMLINK_FOLLOW) < 0)
        return fail_errno("creating", region->path);
    return 0;
}

/* ------------------------------------------------------------------------------------------ growing */

int sho_region_back(sho_region *region, uint64_t off, uint64_t bytes)
{
    if (sho_fault("region.back"))
        return sho_error(SHOBJ_EFULL, "growing %s: no space left (injected)", region->path);
    /* Somebody may have closed our descriptor, and its number may be another file's by now. */
    struct stat st;
    int fd = region->fd;
    if (fstat(fd, &st) < 0 || st.st_ino != region->ino || st.st_dev != region->dev)
        fd = sho_region_reopen(region);
    if (fd < 0)
        return sho_error(SHOBJ_EIO, "growing %s: its descriptor was closed, and it can't be opened again: %s", region->path,
                         strerror(errno));
    int rc;
    do
        rc = fallocate(fd, 0, (off_t)off, (off_t)bytes);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        rc = fail_errno("growing", region->path);
    if (fd != region->fd)
        close(fd);
    if (rc == 0)
        sho_region_refresh(region, off, bytes);
    return rc;
}

static int grow_to(sho_region *region, uint64_t from, uint64_t to)
{
    uint64_t first = region->dir_off + from * sizeof(struct shm_slab);
    uint64_t bytes = (to - from) * sizeof(struct shm_slab);
    int rc = sho_region_back(region, first, bytes);
    if (rc == 0)
        rc = sho_region_back(region, region->mark_off + from * SHM_MARK_BYTES, (to - from) * SHM_MARK_BYTES);
    if (rc == 0)
        rc = sho_region_back(region, from << SHM_SLAB_SHIFT, (to - from) << SHM_SLAB_SHIFT);
    if (rc)
        return rc;
    (void)sho_fault("region.publish");
    /* Release (in the CAS): whoever sees the new count finds the memory backed. */
    if (sho_cas(&region->sb->slab_count, from, to))
        atomic_fetch_add_explicit(&region->sb->free_slab_hint, to - from, memory_order_relaxed);
    return 0; /* if another one grew it meanwhile, that is as good */
}

int sho_region_grow(sho_region *region, uint64_t slab_count)
{
    uint64_t max = region->max_bytes >> SHM_SLAB_SHIFT;
    uint64_t from = sho_region_slab_count(region);
    if (slab_count <= from)
        return 0;
    if (slab_count > max)
        return sho_error(SHOBJ_EFULL,
                         "%s is full: it has reached its max_size of %llu bytes; delete something, or copy it into a "
                         "larger store",
                         region->path, (unsigned long long)region->max_bytes);
    uint64_t tables = region->data_off >> SHM_SLAB_SHIFT;
    uint64_t chunk = (from > tables ? (from - tables) << SHM_SLAB_SHIFT : 0) / 16;
    chunk = chunk < GROW_MIN ? GROW_MIN : chunk > GROW_MAX ? GROW_MAX : chunk;
    uint64_t to = from + (chunk >> SHM_SLAB_SHIFT);
    if (to < slab_count)
        to = slab_count;
    if (to > max)
        to = max;
    int rc = grow_to(region, from, to);
    if (rc == SHOBJ_EFULL && to > slab_count)
        rc = grow_to(region, from, slab_count);
    return rc;
}
