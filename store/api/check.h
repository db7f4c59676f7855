/*
 * check.h: what the files of the check share: what was found, and which blocks have an owner.
 */
#ifndef SHO_API_CHECK_H
#define SHO_API_CHECK_H

#include "txn/session.h"
#include "types/container.h"

typedef struct sho_offsets {
    uint64_t *items;
    size_t count, room;
} sho_offsets;

/* NUL-ended lines back to back. */
typedef struct sho_lines {
    char *text;
    size_t bytes, room;
    uint64_t count;
} sho_lines;

typedef struct sho_checker {
    sho_session *s;
    sho_region *region;
    sho_lines found; /* problems so far */
    bool exact;      /* all under one transaction */
    bool failed;     /* out of memory */
    uint64_t *seen;  /* open addressing: offsets of blocks that have an owner */
    size_t seen_count, seen_room;
    sho_offsets queue; /* objects to visit */
    uint64_t bytes;    /* in the blocks met so far; each has one owner, so that they are never more than the file */
    /* Of the object that is being checked. */
    sho_offsets blocks, objects;
    sho_lines noted;
    uint64_t bytes_before;
} sho_checker;

/* One problem in one line. */
void sho_check_say(sho_checker *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool sho_check_is_seen(const sho_checker *c, uint64_t off);

/* ---- check_tables.c */

/* Slab descriptors, free lists, the headers and locks of all blocks; what is not of one instant on a busy store is looked at
 * again before it is told. */
void sho_check_slabs(sho_checker *c);

/* Slots, logs, process records. */
void sho_check_sessions(sho_checker *c);

#endif
