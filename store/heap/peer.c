/*
 * peer.c: see peer.h for the idea.
 *
 * Order of claiming: lock, then state LIVE. Order of leaving: state FREE, then the lock goes with the mapping. So a
 * record that is LIVE and not locked belongs to the dead, always.
 *
 * Two threads of one process that probe the same record use two descriptions, so that their locks exclude each other as
 * those of two processes do.
 */
#include "heap/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"

static off_t lock_byte(unsigned process)
{
    return (off_t)(SHM_PROCESS_OFF + (uint64_t)process * sizeof(struct shm_process));
}

static struct flock record_lock(unsigned process, short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = lock_byte(process), .l_len = 1};
}

/* 1: got it, 0: somebody holds it, -1: errno. */
static int try_lock(int fd, unsigned process)
{
    struct flock lock = record_lock(process, F_WRLCK);
    while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == EACCES ? 0 : -1;
    }
    return 1;
}

static int fail(const sho_region *region, const char *what)
{
    return sho_error(SHOBJ_EIO, "attaching to %s: %s: %s", region->path, what, strerror(errno));
}

/* The gate: a byte of the superblock's that who joins locks with others, and who wants to be alone by himself. */
#define GATE_BYTE 8

static int try_gate(int fd, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = GATE_BYTE, .l_len = 1};
    while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == EACCES ? 0 : -1;
    }
    return 1;
}

int sho_peer_close_gate(sho_region *region, int *ret_gate)
{
    int fd = sho_region_reopen(region);
    if (fd < 0)
        return fail(region, "opening it anew");
    int got = try_gate(fd, F_WRLCK);
    if (got == 1) {
        *ret_gate = fd;
        return 0;
    }
    int rc = got < 0 ? fail(region, "locking a byte")
                     : sho_error(SHOBJ_EBUSY, "%s: another process is opening it; try again", region->path);
    close(fd);
    return rc;
}

static int claim_record(sho_region *region, int fd, unsigned *ret_process)
{
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++) {
        struct shm_process *record = sho_region_process(region, i);
        if (sho_process_is_live(region, i))
            continue;
        int got = try_lock(fd, i);
        if (got < 0)
            return fail(region, "locking a process record");
        if (got == 0)
            continue; /* being claimed this moment */
        (void)sho_fault("peer.locked");
        if (sho_process_is_live(region, i)) {
            /* Claimed and left dead between our look and our lock; not ours to recover here. */
            struct flock unlock = record_lock(i, F_UNLCK);
            fcntl(fd, F_OFD_SETLK, &unlock);
            continue;
        }
        sho_store(&record->pid, (uint64_t)getpid());
        sho_store(&record->attached_ns, (uint64_t)sho_now_ns());
        sho_store(&record->pins, 0);
        sho_store_release(&record->state, SHM_PROCESS_LIVE | ((sho_load(&record->state) >> 8) + 1) << 8);
        (void)sho_fault("peer.claimed");
        *ret_process = i;
        return 0;
    }
    return sho_error(SHOBJ_ELIMIT, "attaching to %s: all %u process records are taken; close the store in some process",
                     region->path, SHM_PROCESS_MAX);
}

static int join(sho_region *region, bool for_child, sho_peer *ret_peer)
{
    int rc;
    unsigned process = 0;
    void *page = MAP_FAILED;
    void *token = mmap(NULL, SHM_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (token == MAP_FAILED)
        return fail(region, "mapping a page");
    int fd = sho_region_reopen(region);
    if (fd < 0) {
        rc = fail(region, "opening it anew");
        goto unmap_token;
    }
    /* Mapped first: from the claim on, only the end of this address space can drop the lock. */
    page = mmap(NULL, SHM_PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED || (!for_child && (madvise(page, SHM_PAGE_BYTES, MADV_DONTFORK) < 0 ||
                                              madvise(token, SHM_PAGE_BYTES, MADV_WIPEONFORK) < 0))) {
        rc = fail(region, "mapping a page");
        goto unmap_page;
    }
    int gate = try_gate(fd, F_RDLCK);
    if (gate != 1) {
        rc = gate < 0 ? fail(region, "locking a byte")
                      : sho_error(SHOBJ_EBUSY, "opening %s: it is being trimmed; try again", region->path);
        goto unmap_page;
    }
    rc = claim_record(region, fd, &process);
    if (rc)
        goto unmap_page;
    (void)try_gate(fd, F_UNLCK); /* the page keeps its description open */
    close(fd);
    *(volatile uint32_t *)token = 1;
    *ret_peer = (sho_peer){.process = process, .lock_page = page, .fork_token = token};
    return 0;
unmap_page:
    if (page != MAP_FAILED)
        munmap(page, SHM_PAGE_BYTES);
    close(fd);
unmap_token:
    munmap(token, SHM_PAGE_BYTES);
    return rc;
}

int sho_peer_join(sho_region *region, sho_peer *ret_peer)
{
    return join(region, false, ret_peer);
}

int sho_peer_join_for_child(sho_region *region, sho_peer *ret_peer)
{
    return join(region, true, ret_peer);
}

void sho_peer_leave_to_child(sho_peer *peer)
{
    munmap(peer->lock_page, SHM_PAGE_BYTES);
    munmap(peer->fork_token, SHM_PAGE_BYTES);
}

void sho_peer_take_over(sho_region *region, sho_peer *peer)
{
    sho_store(&sho_region_process(region, peer->process)->pid, (uint64_t)getpid());
    /* What may fail here is told nobody; a grandchild then holds this record's lock a little longer than it should. */
    (void)madvise(peer->lock_page, SHM_PAGE_BYTES, MADV_DONTFORK);
    (void)madvise(peer->fork_token, SHM_PAGE_BYTES, MADV_WIPEONFORK);
}

void sho_peer_leave(sho_region *region, sho_peer *peer)
{
    sho_store(&sho_region_process(region, peer->process)->pins, 0);
    sho_process_free(region, peer->process);
    munmap(peer->lock_page, SHM_PAGE_BYTES);
    munmap(peer->fork_token, SHM_PAGE_BYTES);
}

void sho_peer_forget(sho_peer *peer)
{
    munmap(peer->fork_token, SHM_PAGE_BYTES); /* the lock page is not in this address space */
}

int sho_peer_probe(sho_region *region, unsigned process, int *ret_lock)
{
    if (!region->writable || process >= SHM_PROCESS_MAX)
        return 0;
    if (!sho_process_is_live(region, process))
        return 0;
    int fd = sho_region_reopen(region);
    if (fd < 0)
        return fail(region, "opening it anew");
    int got = try_lock(fd, process);
    if (got == 1 && sho_process_is_live(region, process)) {
        *ret_lock = fd;
        return 1;
    }
    close(fd);
    return got < 0 ? fail(region, "probing a process") : 0;
}

bool sho_peer_is_alive(sho_region *region, unsigned process)
{
    int fd = sho_region_reopen(region);
    if (fd < 0)
        return false;
    struct flock lock = record_lock(process, F_WRLCK);
    bool alive = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return alive;
}
