/*
 * peer.h: a process's presence in a heap, and the proof of its death.
 *
 * Each mapping of a heap claims a process record and holds an open-file-description lock on the record's first byte. The
 * lock belongs to a description that only one page-sized mapping keeps alive (the descriptor is closed at once, and
 * MADV_DONTFORK keeps the page out of children): the kernel drops it with the address space, at exit, kill or exec, and at
 * nothing else. It holds while the process is stopped, and works across PID namespaces.
 *
 * Whoever gets the lock of a record that says LIVE has proof that its process is dead, and is the only one to recover
 * it for as long as it keeps the lock; if it dies meanwhile the lock is free for the next.
 */
#ifndef SHO_PEER_H
#define SHO_PEER_H

#include "heap/region.h"

typedef struct sho_peer {
    unsigned process;   /* record index */
    void *lock_page;    /* keeps the lock's description alive */
    uint32_t *fork_token; /* a page that a child of fork() finds wiped to 0 */
} sho_peer;

/* Claims a record. ELIMIT if all are taken, EIO. */
int sho_peer_join(sho_region *region, sho_peer *ret_peer);

/* In front of a fork(), a record for the child: its lock is the child's as soon as the parent has given up its own hold
 * (sho_peer_leave_to_child). The child takes it over (sho_peer_take_over) and sets its own pid. */
int sho_peer_join_for_child(sho_region *region, sho_peer *ret_peer);
void sho_peer_leave_to_child(sho_peer *peer);
void sho_peer_take_over(sho_region *region, sho_peer *peer);

/* Keeps everybody from joining until *ret_gate, a descriptor, is closed (or its process ends): they get EBUSY meanwhile. Those who
 * have joined before stay. EBUSY: somebody is joining. EIO. */
int sho_peer_close_gate(sho_region *region, int *ret_gate);

/* Gives the record back: the caller's sessions have ended. */
void sho_peer_leave(sho_region *region, sho_peer *peer);

/* In a child of fork(): forgets the parent's record without touching it. */
void sho_peer_forget(sho_peer *peer);

SHO_INLINE bool sho_peer_is_forked(const sho_peer *peer)
{
    return *(volatile uint32_t *)peer->fork_token == 0;
}

/* Is the process of a record dead? 1: dead, and *ret_lock is a descriptor that holds its lock until closed. 0: alive (or
 * nobody's record). Negative: can't tell (EIO). Never call it for the own record's sake: the answer is 0. */
int sho_peer_probe(sho_region *region, unsigned process, int *ret_lock);

/* Does somebody hold the record's lock? Takes nothing. False when that can't be found out. */
bool sho_peer_is_alive(sho_region *region, unsigned process);

#endif
