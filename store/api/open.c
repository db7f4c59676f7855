/*
 * open.c: stores: names, the process's table of mappings, opening, closing, unlinking, listing.
 *
 * One file is mapped once in a process, however often it is opened: the table, guarded by the global mutex, finds the
 * mapping by device and inode. (own_mapping asks for another one, with a process record of its own.)
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gc/cycle.h"
#include "txn/session.h"
#include "types/container.h"

#define SIZE_DEFAULT (1ULL << 20)
#define MAX_SIZE_DEFAULT (16ULL << 30)

/* ------------------------------------------------------------------------------------------ names */

static const char *store_directory(void)
{
    const char *dir = getenv("SHOBJ_DIR");
    return dir != NULL && dir[0] != '\0' ? dir : "/dev/shm";
}

SHOBJ_API int shobj_store_path(const char *name, char *buf, size_t buf_bytes)
{
    char cwd[PATH_MAX];
    int n;
    if (name[0] == '\0')
        return sho_error(SHOBJ_EINVAL, "a store's name is empty; give a name or a path");
    if (name[0] == '/')
        n = snprintf(buf, buf_bytes, "%s", name);
    else if (strchr(name, '/') == NULL)
        n = snprintf(buf, buf_bytes, "%s/%s", store_directory(), name);
    else if (getcwd(cwd, sizeof(cwd)) != NULL)
        n = snprintf(buf, buf_bytes, "%s/%s", cwd, name);
    else
        return sho_error(SHOBJ_EIO, "finding the current directory for %s: %s", name, strerror(errno));
    if (n < 0 || (size_t)n >= buf_bytes)
        return sho_error(SHOBJ_EINVAL, "the path of store %.40s... is longer than %zu bytes", name, buf_bytes);
    return 0;
}

/* ------------------------------------------------------------------------------------------ the store's life */

/* With the global mutex held. Ends what is left of a store, however far its opening came. */
static void store_destroy(shobj_store *store)
{
    if (store == NULL)
        return;
    if (store->region != NULL && store->peer.lock_page != NULL) {
        if (sho_peer_is_forked(&store->peer)) {
            /* Inherited and never used: sessions and record are the parent's. */
            while (store->sessions != NULL) {
                store->sessions->store = NULL;
                store->sessions = store->sessions->next_in_store;
            }
            sho_pins_drop(store);
            sho_peer_forget(&store->peer);
            if (store->child_peer.lock_page != NULL)
                sho_peer_leave(store->region, &store->child_peer);
        } else {
            sho_pins_drop(store);
            sho_sessions_close(store);
            sho_peer_leave(store->region, &store->peer);
        }
    } else if (store->region != NULL) {
        sho_sessions_close(store);
    }
    sho_region_close(store->region);
    free(store);
}

static int store_new(sho_region *region, const shobj_options *options, shobj_store **ret_store)
{
    shobj_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        sho_region_close(region);
        return sho_error(SHOBJ_ENOMEM, "opening a store: out of memory");
    }
    store->region = region;
    store->readonly = options->mode == SHOBJ_OPEN_READ || !region->writable;
    store->open_count = 1;
    store->wait_enter = options->wait_enter;
    store->wait_leave = options->wait_leave;
    store->wait_interrupted = options->wait_interrupted;
    if (region->writable) {
        int rc = sho_peer_join(region, &store->peer);
        if (rc == SHOBJ_ELIMIT && sho_recover_all(region) > 0)
            rc = sho_peer_join(region, &store->peer);
        if (rc) {
            store->peer.lock_page = NULL;
            store_destroy(store);
            return rc;
        }
        sho_recover_all(region);
    }
    *ret_store = store;
    return 0;
}

static int create_root(shobj_store *store, shobj_oid *ret_root)
{
    sho_session *s;
    sho_view head = {0};
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    SHO_OP(s, rc, sho_dict_create(s, 0, &head));
    if (rc == 0)
        *ret_root = SHM_OID(head.off, SHM_NODE_BIRTH(head.header));
    return rc;
}

/* With the global mutex held on entry and exit; it is given up while the root is made (by an ordinary operation, on a
 * file that has no name yet). */
static int store_create(const char *path, const shobj_options *options, shobj_store **ret_store)
{
    sho_region *region = NULL;
    uint64_t max = options->max_size != 0 ? options->max_size : MAX_SIZE_DEFAULT;
    uint64_t size = options->size != 0 ? options->size : SIZE_DEFAULT;
    unsigned mode = options->file_mode != 0 ? options->file_mode : 0600;
    int rc = sho_region_create(path, size < max ? size : (options->size != 0 ? size : max), max, mode, &region);
    if (rc)
        return rc;
    shobj_store *store;
    rc = store_new(region, options, &store);
    if (rc)
        return rc;
    shobj_oid root;
    sho_global_unlock();
    rc = create_root(store, &root);
    sho_global_lock();
    if (rc == 0)
        rc = sho_region_publish(region, root);
    if (rc) {
        store_destroy(store);
        return rc;
    }
    *ret_store = store;
    return 0;
}

static shobj_store *find_mapping(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return NULL;
    for (shobj_store *store = sho_mappings; store != NULL; store = store->next)
        if (store->region->dev == st.st_dev && store->region->ino == st.st_ino)
            return store;
    return NULL;
}

static int open_existing(const char *path, const shobj_options *options, shobj_store **ret_store)
{
    sho_region *region;
    int rc = sho_region_open(path, true, &region);
    if (rc == SHOBJ_EACCES && options->mode == SHOBJ_OPEN_READ)
        rc = sho_region_open(path, false, &region);
    return rc ? rc : store_new(region, options, ret_store);
}

/* A second opening shares the mapping: what it asks for must be what there is. */
static int share(shobj_store *store, const shobj_options *options)
{
    if (store->readonly != (options->mode == SHOBJ_OPEN_READ))
        return sho_error(SHOBJ_EINVAL,
                         "opening %s: this process has it open for %s already; close it first, or open it the same way",
                         store->region->path, store->readonly ? "reading only" : "writing");
    store->open_count++;
    return 0;
}

static int open_locked(const char *path, const shobj_options *options, shobj_store **ret_store)
{
    enum shobj_open_mode mode = options->mode;
    int rc = 0;
    if (mode == SHOBJ_OPEN_NEW && unlink(path) < 0 && errno != ENOENT)
        return sho_error(errno == EACCES || errno == EPERM || errno == EROFS ? SHOBJ_EACCES : SHOBJ_EIO,
                         "replacing %s: %s", path, strerror(errno));
    if (mode == SHOBJ_OPEN_NEW || mode == SHOBJ_OPEN_EXCL) {
        rc = store_create(path, options, ret_store);
    } else {
        shobj_store *shared = options->own_mapping ? NULL : find_mapping(path);
        if (shared != NULL) {
            rc = share(shared, options);
            *ret_store = shared;
            return rc;
        }
        /* CREATE against a concurrent creator or remover: whoever comes second goes on with the other's doing. */
        for (int i = 0; i < 100; i++) {
            rc = open_existing(path, options, ret_store);
            if (rc != SHOBJ_ENOENT || mode != SHOBJ_OPEN_CREATE)
                break;
            rc = store_create(path, options, ret_store);
            if (rc != SHOBJ_EEXIST)
                break;
        }
    }
    if (rc == 0 && !options->own_mapping) {
        (*ret_store)->next = sho_mappings;
        sho_mappings = *ret_store;
    }
    return rc;
}

SHOBJ_API int shobj_open(const char *name, const shobj_options *options, shobj_store **ret_store)
{
    const shobj_options defaults = {.mode = SHOBJ_OPEN_WRITE};
    char path[PATH_MAX];
    int rc = shobj_store_path(name, path, sizeof(path));
    if (rc)
        return rc;
    if (options == NULL)
        options = &defaults;
    if ((unsigned)options->mode > SHOBJ_OPEN_EXCL || (options->wait_enter == NULL) != (options->wait_leave == NULL))
        return sho_error(SHOBJ_EINVAL, "opening %s: the options contradict each other", path);
    sho_global_lock();
    rc = open_locked(path, options, ret_store);
#ifdef SHOBJ_FAULTS
    if (rc == 0 && (*ret_store)->open_count == 1 && !options->own_mapping && getenv("SHOBJ_TWIN") != NULL) {
        shobj_options twin = *options;
        twin.own_mapping = true;
        twin.mode = options->mode == SHOBJ_OPEN_READ ? SHOBJ_OPEN_READ : SHOBJ_OPEN_WRITE;
        rc = open_locked(path, &twin, &(*ret_store)->twin);
    }
#endif
    sho_global_unlock();
    return rc;
}

SHOBJ_API void shobj_close(shobj_store *store)
{
    if (store == NULL)
        return;
#ifdef SHOBJ_FAULTS
    if (store->open_count == 1)
        shobj_close(store->twin);
#endif
    sho_global_lock();
    if (store->open_count == 1 && store->collector != NULL &&
        (store->peer.lock_page == NULL || !sho_peer_is_forked(&store->peer))) {
        /* It needs the mutex to end its session. Nobody else is inside a call. */
        struct sho_collector *collector = store->collector;
        store->collector = NULL;
        sho_global_unlock();
        sho_collector_stop(collector);
        sho_global_lock();
    }
    if (--store->open_count == 0) {
        for (shobj_store **p = &sho_mappings; *p != NULL; p = &(*p)->next)
            if (*p == store) {
                *p = store->next;
                break;
            }
        store_destroy(store);
    }
    sho_global_unlock();
}

SHOBJ_API const char *shobj_path(const shobj_store *store)
{
    return store->region->path;
}

SHOBJ_API const uint8_t *shobj_uuid(const shobj_store *store)
{
    return store->region->uuid;
}

SHOBJ_API bool shobj_is_readonly(const shobj_store *store)
{
    return store->readonly;
}

SHOBJ_API shobj_oid shobj_root(const shobj_store *store)
{
    return store->region->root_oid; /* an id, kept in the superblock */
}

/* ------------------------------------------------------------------------------------------ files */

/* How many processes are attached and alive? */
static unsigned count_live(sho_region *region)
{
    unsigned live = 0;
    sho_recover_all(region);
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++)
        live += sho_process_is_live(region, i);
    return live;
}

static int refuse_in_use(const char *path)
{
    sho_region *region;
    int rc = sho_region_open(path, true, &region);
    if (rc)
        return rc;
    unsigned live = count_live(region);
    sho_region_close(region);
    if (live > 0)
        return sho_error(SHOBJ_EBUSY,
                         "removing %s: %u process%s it open; close them (shobj ps lists them), or remove it by force", path,
                         live, live == 1 ? " has" : "es have");
    return 0;
}

SHOBJ_API int shobj_trim(const char *name, uint64_t *ret_bytes)
{
    char path[PATH_MAX];
    sho_region *region;
    int gate;
    int rc = shobj_store_path(name, path, sizeof(path));
    if (rc == 0)
        rc = sho_region_open(path, true, &region);
    if (rc)
        return rc;
    rc = sho_peer_close_gate(region, &gate);
    if (rc)
        goto close_region;
    unsigned live = count_live(region);
    if (live > 0)
        rc = sho_error(SHOBJ_EBUSY, "trimming %s: %u process%s it open; close them (shobj ps lists them)", path, live,
                       live == 1 ? " has" : "es have");
    else
        rc = sho_slab_trim(region, ret_bytes);
    close(gate);
close_region:
    sho_region_close(region);
    return rc;
}

SHOBJ_API int shobj_unlink(const char *name, bool force)
{
    char path[PATH_MAX];
    int rc = shobj_store_path(name, path, sizeof(path));
    if (rc == 0 && !force)
        rc = refuse_in_use(path);
    if (rc == 0 && force) {
        /* Force is for stores in use, and for damaged ones; not for files that are none of ours. */
        sho_region *region;
        rc = sho_region_open(path, false, &region);
        if (rc == 0)
            sho_region_close(region);
        else if (rc == SHOBJ_ECORRUPT || rc == SHOBJ_EVERSION || rc == SHOBJ_EACCES)
            rc = 0;
    }
    if (rc)
        return rc;
    if (unlink(path) == 0)
        return 0;
    return sho_error(errno == ENOENT                                         ? SHOBJ_ENOENT
                     : errno == EACCES || errno == EPERM || errno == EROFS ? SHOBJ_EACCES
                                                                             : SHOBJ_EIO,
                     "removing %s: %s", path, strerror(errno));
}

static bool is_heap_file(const char *path)
{
    struct shm_superblock sb;
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t n = pread(fd, &sb, sizeof(sb.magic), 0);
    close(fd);
    return n == (ssize_t)sizeof(sb.magic) && sb.magic == SHM_MAGIC;
}

SHOBJ_API int shobj_list_stores(const char *directory, int (*each)(const char *path, void *arg), void *arg)
{
    const char *dir = directory != NULL ? directory : store_directory();
    struct dirent **names;
    int count = scandir(dir, &names, NULL, alphasort);
    if (count < 0)
        return sho_error(errno == ENOENT || errno == ENOTDIR ? SHOBJ_ENOENT : errno == EACCES ? SHOBJ_EACCES : SHOBJ_EIO,
                         "listing the stores in %s: %s", dir, strerror(errno));
    int rc = 0;
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
        if (rc == 0 && n > 0 && (size_t)n < sizeof(path) && is_heap_file(path))
            rc = each(path, arg);
        free(names[i]);
    }
    free(names);
    return rc;
}
