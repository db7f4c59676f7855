/*
 * trim.c: memory of free slabs goes back to the system.
 *
 * A slab is first marked as given back, then its pages are punched out of the file. A crash in between leaves a slab that says
 * so and has its memory still, or some of it: whoever claims it backs all of it in any case (slab.c, is_backed).
 *
 * Nobody is attached (peer.h, the gate), so that nobody knows a node of what is freed or is about to claim what is punched.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "heap/slab.h"

static int punch(sho_region *region, uint64_t first, uint64_t count)
{
    int rc;
    do
        rc = fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(first << SHM_SLAB_SHIFT),
                       (off_t)(count << SHM_SLAB_SHIFT));
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return sho_error(SHOBJ_EIO, "trimming %s: its file system can't take memory out of a file: %s; copy the store instead",
                         region->path, strerror(errno));
    (void)sho_fault("trim.punched");
    return 0;
}

/* Marks the free slabs from i on, up to one that is in use or was given back before. Their number. */
static uint64_t mark(sho_region *region, uint64_t i, uint64_t end)
{
    uint64_t count = 0;
    for (; i < end; i++, count++) {
        struct shm_slab *d = sho_region_slab(region, i);
        uint64_t given = sho_load(&d->given);
        if (sho_load(&d->state) != 0 || (given & SHM_GIVEN_BACK))
            break;
        sho_store_release(&d->given, given | SHM_GIVEN_BACK);
    }
    (void)sho_fault("trim.marked");
    return count;
}

int sho_slab_trim(sho_region *region, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    uint64_t end = sho_region_slab_count(region);
    /* Nobody looks on, so that what is in transit is told a slot of our own. */
    static _Alignas(128) struct shm_slot nobody;
    sho_heap heap = {.region = region, .owner = SHM_SLOT_MAX, .slot = &nobody};
    sho_slab_reclaim_all(&heap);
    for (uint64_t i = region->data_off >> SHM_SLAB_SHIFT; i < end;) {
        uint64_t count = mark(region, i, end);
        if (count > 0) {
            int rc = punch(region, i, count);
            if (rc)
                return rc;
        }
        bytes += count << SHM_SLAB_SHIFT;
        i += count > 0 ? count : 1;
    }
    *ret_bytes = bytes;
    return 0;
}
