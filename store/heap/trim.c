/*
 * trim.c: memory of free slabs goes back to the system.
 *
 * Nobody is attached (salvage.h), so that nobody knows a node of what is freed or is about to claim what is punched. Who trims
 * takes the first process record and the first slot for the time, without a lock of its own, since he holds the locks of all
 * records: if he dies, whoever comes next finds a record that says LIVE and is not locked, and recovers it like any other.
 *
 * What a death leaves:
 *   before the record, or behind it   nothing
 *   between record and slot           a dead process without sessions
 *   while slabs are looked through    slabs off their stacks, named in the slot (`listing`, `kept`), or owned by it: the
 *                                     recovery puts each back, or frees it if it had come so far (slab_stack.c, sho_slab_adopt).
 *                                     The last birth of a node slab is kept before that can happen; one that stays in use
 *                                     with it counts on from its blocks' own
 *   marked, not punched, or punched   a free slab that says it has been given back and has its memory still, or some of it:
 *   in part                           whoever claims it backs all of it in any case (slab.c, is_backed)
 *   punched                           a trimmed slab
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "heap/peer.h"
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
        (void)sho_fault("trim.marked_one");
    }
    (void)sho_fault("trim.marked");
    return count;
}

static int punch_free(sho_region *region, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    uint64_t end = sho_region_slab_count(region);
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

int sho_slab_trim(sho_region *region, uint64_t *ret_bytes)
{
    if (sho_region_slot_count(region) == 0)
        return punch_free(region, ret_bytes); /* nobody was ever there */
    struct shm_slot *slot = sho_region_slot(region, 0);
    struct shm_process *record = sho_region_process(region, 0);
    sho_store(&record->pid, (uint64_t)getpid());
    sho_store(&record->pins, 0);
    sho_store_release(&record->state, SHM_PROCESS_LIVE | ((sho_load(&record->state) >> 8) + 1) << 8);
    (void)sho_fault("trim.record");
    sho_store(&slot->listing, 0);
    sho_store(&slot->kept, 0);
    sho_store_release(&slot->process, 1);
    (void)sho_fault("trim.slot");
    sho_heap heap = {.region = region, .owner = 1, .slot = slot};
    sho_slab_reclaim_all(&heap);
    (void)sho_fault("trim.reclaimed");
    int rc = punch_free(region, ret_bytes);
    sho_store_release(&slot->process, 0);
    (void)sho_fault("trim.slot_free");
    sho_process_free(region, 0);
    return rc;
}
