/*
 * region.h: one mapping of one heap file, private to this process. Nothing in here enters the heap.
 */
#ifndef SHO_REGION_H
#define SHO_REGION_H

#include "heap/layout.h"

#define SHO_MAX_BYTES_LIMIT (1ULL << 46)

/* What the next operation of this process is to see to (gc/background.c). */
enum sho_wants {
    SHO_WANTS_LOOK = 1, /* the allocator has taken over so much that it is time to look; it says `true` */
    SHO_WANTS_HELP = 2  /* the collection is owed some */
};

typedef struct sho_region {
    uint8_t *base;
    struct shm_superblock *sb;
    _Atomic uint64_t limit; /* end of the file as last seen by fstat(): offsets below are backed */
    uint64_t max_bytes;     /* private copies of the checked superblock */
    uint64_t dir_off;
    uint64_t mark_off;
    uint8_t *marks; /* at mark_off */
    uint64_t data_off;
    uint64_t root_oid;
    uint64_t hash_seed[2];
    uint8_t uuid[16];
    bool writable;
    bool rare_fences; /* a copy of sb->fences == SHM_FENCES_RARE */
    _Atomic uint8_t wants_collection; /* enum sho_wants, or 0 */
    _Atomic uint64_t owed_ns; /* how long operations of this process are to help the collection, a moment each */
    int fd;
    dev_t dev;
    ino_t ino;
    char *path;
} sho_region;

/* Maps an existing heap file. `writable` false: also works without write permission. */
int sho_region_open(const char *path, bool writable, sho_region **ret_region);

/* A new heap file, complete but for the root dict: `publish` links it to its path (EEXIST if that is taken). */
int sho_region_create(const char *path, uint64_t size, uint64_t max_bytes, unsigned file_mode, sho_region **ret_region);
int sho_region_publish(sho_region *region, uint64_t root_oid);

void sho_region_close(sho_region *region); /* unmaps; an unpublished file disappears. Takes NULL */

/* Where the marks and the slabs begin in a heap of so many bytes at most. */
SHO_INLINE uint64_t sho_mark_off(uint64_t max_bytes)
{
    uint64_t end = SHM_DIR_OFF + (max_bytes >> SHM_SLAB_SHIFT) * sizeof(struct shm_slab);
    return (end + SHM_PAGE_BYTES - 1) / SHM_PAGE_BYTES * SHM_PAGE_BYTES;
}
SHO_INLINE uint64_t sho_data_off(uint64_t max_bytes)
{
    uint64_t end = sho_mark_off(max_bytes) + (max_bytes >> SHM_SLAB_SHIFT) * SHM_MARK_BYTES;
    return (end + SHM_SLAB_BYTES - 1) / SHM_SLAB_BYTES * SHM_SLAB_BYTES;
}

/* What the superblock's checksum is to be. */
uint64_t sho_region_checksum(const struct shm_superblock *sb);

/* Opens the region's file anew: a description of its own, for locks. -1 with errno. */
int sho_region_reopen(const sho_region *region);

/* Refreshes the limit; true if [off, off + bytes) is inside now. */
bool sho_region_refresh(sho_region *region, uint64_t off, uint64_t bytes);

/* A full barrier of this thread, and of whatever thread of any process that has the heap mapped for writing and orders its
 * accesses by a compiler barrier alone (enum shm_fences). Takes a microsecond or more. */
void sho_region_barrier(const sho_region *region);

/* Grows the part in use to at least slab_count slabs, more if that is cheap. EFULL. */
int sho_region_grow(sho_region *region, uint64_t slab_count);

/* Backs bytes of the tables before data_off with memory. EFULL, EIO. */
int sho_region_back(sho_region *region, uint64_t off, uint64_t bytes);

/* The words at off if [off, off + bytes) lies in the slabs and off is 8-aligned, else NULL. */
SHO_INLINE sho_word *sho_region_at(sho_region *region, uint64_t off, uint64_t bytes)
{
    uint64_t limit = atomic_load_explicit(&region->limit, memory_order_relaxed);
    if (SHO_UNLIKELY((off & 7) || off < region->data_off || bytes > limit || off > limit - bytes) &&
        ((off & 7) || off < region->data_off || !sho_region_refresh(region, off, bytes)))
        return NULL;
    return (sho_word *)(region->base + off);
}

SHO_INLINE sho_word *sho_region_bucket(const sho_region *region, unsigned bucket)
{
    return (sho_word *)(region->base + SHM_BUCKET_OFF) + bucket;
}

SHO_INLINE struct shm_slot *sho_region_slot(const sho_region *region, unsigned slot)
{
    return (struct shm_slot *)(region->base + SHM_SLOT_OFF + (uint64_t)slot * SHM_SLOT_BYTES);
}

SHO_INLINE struct shm_process *sho_region_process(const sho_region *region, unsigned process)
{
    return (struct shm_process *)(region->base + SHM_PROCESS_OFF) + process;
}

SHO_INLINE struct shm_slab *sho_region_slab(const sho_region *region, uint64_t slab)
{
    return (struct shm_slab *)(region->base + region->dir_off) + slab;
}

/* The marks of a slab's blocks. */
SHO_INLINE sho_word *sho_region_marks(const sho_region *region, uint64_t slab)
{
    return (sho_word *)(region->marks + slab * SHM_MARK_BYTES);
}

/* Mine is stored, now I look at yours: the common side of the rare one's sho_region_barrier(). */
SHO_INLINE void sho_region_light_barrier(const sho_region *region)
{
    if (SHO_LIKELY(region->rare_fences))
        atomic_signal_fence(memory_order_seq_cst);
    else
        sho_fence_full();
}

SHO_INLINE bool sho_process_is_live(const sho_region *region, unsigned process)
{
    return (sho_load_acquire(&sho_region_process(region, process)->state) & 0xff) != SHM_PROCESS_FREE;
}

/* Frees a record; what is above the state (how often it was claimed) stays. */
SHO_INLINE void sho_process_free(const sho_region *region, unsigned process)
{
    struct shm_process *record = sho_region_process(region, process);
    sho_store_release(&record->state, (sho_load(&record->state) & ~0xffULL) | SHM_PROCESS_FREE);
}

/* slab_count from the heap, bounded by what is mapped and backed. */
SHO_INLINE uint64_t sho_region_slab_count(sho_region *region)
{
    uint64_t count = sho_load_acquire(&region->sb->slab_count);
    uint64_t limit = atomic_load_explicit(&region->limit, memory_order_relaxed) >> SHM_SLAB_SHIFT;
    if (SHO_UNLIKELY(count > limit)) {
        sho_region_refresh(region, 0, count << SHM_SLAB_SHIFT);
        limit = atomic_load_explicit(&region->limit, memory_order_relaxed) >> SHM_SLAB_SHIFT;
    }
    return count < limit ? count : limit;
}

/* Slots that were ever claimed, bounded. */
SHO_INLINE unsigned sho_region_slot_count(const sho_region *region)
{
    uint64_t high = sho_load_acquire(&region->sb->slot_high);
    return (unsigned)(high < SHM_SLOT_MAX ? high : SHM_SLOT_MAX);
}

#endif
