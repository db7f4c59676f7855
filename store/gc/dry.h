/*
 * dry.h: the collector's eyes without its hands. Marks of one's own, in private memory, under a superblock of one's own that says
 * that marking is going on: with those the files of gc/ and heap/ look through the heap as they do in a cycle, and nobody notices.
 *
 * Since others shade nothing for it, what such a look has missed is certain only if nobody has changed anything meanwhile:
 * sho_dry_is_exact() tells.
 */
#ifndef SHO_DRY_H
#define SHO_DRY_H

#include "gc/cycle.h"

#define SHO_DRY_CYCLE 1u

typedef struct sho_dry {
    sho_region region; /* the store's, but for marks and superblock */
    sho_helper h;
    struct shm_superblock *sb;
    struct shm_slot *slot; /* counts what is shaded */
    uint8_t *marks;
    uint64_t gc;     /* the store's own collector when the look began */
    uint64_t *seen;  /* what each session said then: its state and its commits */
    unsigned seen_count;
} sho_dry;

/* Begins a look: all is white. ENOMEM. */
int sho_dry_init(sho_dry *dry, shobj_store *store);
void sho_dry_fini(sho_dry *dry);

/* Scans all that is gray, and what is found by that. */
void sho_dry_mark(sho_dry *dry);

/* Has anything been shaded since the last sho_dry_mark()? */
bool sho_dry_has_gray(const sho_dry *dry);

/* Has nobody changed anything since the look began? */
bool sho_dry_is_exact(const sho_dry *dry, const shobj_store *store);

typedef struct sho_dry_count {
    uint64_t blocks, bytes, objects;
    uint64_t tables, table_bytes; /* not among those: what sessions and processes need for themselves */
} sho_dry_count;

/* What is marked, and what is in use and is not. `garbage` may be NULL. */
void sho_dry_sum(sho_dry *dry, sho_dry_count *ret_marked, sho_dry_count *ret_garbage);

#endif
