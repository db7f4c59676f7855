/*
 * cycle.h: one helper's part in a collection, as the files of gc/ see it.
 */
#ifndef SHO_CYCLE_H
#define SHO_CYCLE_H

#include "gc/shade.h"

#define SHO_HELPER_STACK 32768u
#define SHO_HELPER_BATCH 64u

typedef struct sho_helper {
    sho_session *s;
    sho_region *region;
    sho_shader shader;
    uint64_t gc;         /* the collector's word as this helper last acted on it: its cycle and phase */
    uint64_t first_slab; /* where its passes begin, so that helpers do not run side by side */
    uint64_t *stack;     /* offsets of gray nodes; only a hint: what has no place is found by a pass */
    uint32_t stack_count;
    sho_block scanned[SHO_HELPER_BATCH]; /* gray nodes that are to be blackened */
    uint32_t scanned_count;
    const _Atomic bool *stop; /* NULL, or true when it is to go home */
    uint64_t pause_ns;        /* CLOCK_MONOTONIC: when it is to come back for a moment; 0: never */
    bool assists;             /* it is in the middle of an operation: one look at a time, and ending phases is for others */
    bool may_pause;           /* coming back now would not lose a pass */
    uint32_t looks;
    uint32_t pass_cycle;
    uint64_t pass_count;      /* of slabs */
    uint64_t pass_busy;       /* slabs that others were sweeping */
    uint64_t busy_since_ns;   /* CLOCK_MONOTONIC: since when some pass of this phase found such slabs; 0: none did */
    uint64_t pass_done;       /* slabs that the pass of this phase has visited */
} sho_helper;

/* Is the cycle still in the phase that the helper works on? Once it is not, it never is again. */
SHO_INLINE bool sho_helper_is_current(const sho_helper *h)
{
    uint64_t gc = sho_load_acquire(&h->region->sb->gc);
    return SHM_GC_CYCLE(gc) == SHM_GC_CYCLE(h->gc) && SHM_GC_PHASE(gc) == SHM_GC_PHASE(h->gc);
}

/* The same, and is the helper to go on with it? To be asked where nothing is left half done: between slabs, not in one that
 * counts as visited afterwards. */
SHO_INLINE bool sho_helper_goes_on(sho_helper *h)
{
    return sho_helper_is_current(h) &&
           (h->stop == NULL || !atomic_load_explicit(h->stop, memory_order_relaxed)) &&
           (h->pause_ns == 0 || !(h->may_pause || h->assists) || (!h->assists && (++h->looks & 63) != 0) ||
            sho_monotonic_ns() < h->pause_ns);
}

/* Calls visit for each slab, once around from the helper's first one, or goes on where it came back for a pause. False if the
 * phase was over, or the helper is to come back, before the end. */
bool sho_helper_pass(sho_helper *h, void (*visit)(sho_helper *h, uint64_t slab, void *arg), void *arg);

/* Lets others get on. */
void sho_helper_nap(uint64_t ns);

/* ARM and ROOTS (roots.c): the whole of it. */
void sho_cycle_arm(sho_helper *h);
void sho_cycle_roots(sho_helper *h);

/* What one session holds and names in its log; what the pins of one process keep. */
void sho_roots_scan_slot(sho_helper *h, struct shm_slot *slot);
void sho_roots_scan_holds(sho_helper *h, struct shm_slot *slot); /* without the log */
void sho_roots_scan_process(sho_helper *h, struct shm_process *process);

/* A box of ids (SHM_BOX_PINS, SHM_BOX_HOLDS), bounded by what it is. False if there is none at off. */
typedef struct sho_id_box {
    sho_block block;
    const sho_word *ids;
    uint64_t count;
    uint64_t next; /* of a chain of pins */
} sho_id_box;
bool sho_id_box_read(sho_region *region, uint64_t off, unsigned kind, sho_id_box *ret_box);

/* MARK (mark.c): true when there is nothing left to be marked, as of h->gc. */
bool sho_cycle_mark(sho_helper *h);

/* One pass of it: scans what is gray. True if there was any. */
bool sho_mark_scan(sho_helper *h);

/* Copies a node's words (at most SHM_NODE_WORDS_MAX), of one instant if it stands still; how well else, see mark.c. */
void sho_node_copy(const struct shm_node *node, uint64_t *ret_header, uint64_t *words);

/* KILL (mark.c): true when all condemned heads are out of use. */
bool sho_cycle_kill(sho_helper *h);

/* Helps the cycle that is under way to its end, or until the helper is told to stop or to come back. */
void sho_cycle_help(sho_helper *h);

/* Begins one if none is under way. The number of the one that is. */
uint32_t sho_cycle_begin(sho_region *region);

int sho_helper_init(sho_helper *h, shobj_store *store, const _Atomic bool *stop);
void sho_helper_fini(sho_helper *h);

/* The growth, in percent, that starts a cycle; UINT32_MAX: none. */
uint32_t sho_growth_percent(sho_region *region);

/* By how many bytes the heap may grow after a cycle that has left `live` before the next one is due. */
uint64_t sho_growth_bytes(sho_region *region, uint64_t live);

/* Bytes in blocks that are not free, as the descriptors say. */
uint64_t sho_used_bytes(sho_region *region);

/* Stops and joins the store's background thread, without the global mutex. Takes NULL. */
void sho_collector_stop(struct sho_collector *collector);

#endif
