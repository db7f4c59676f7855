/*
 * cycle.c: a collection from its beginning to its end. README.md tells the idea, the phases and the invariants G1 to G8.
 *
 * Every helper does all that a phase asks for and then tries to move the word on; the first one does. Nothing of what a helper does
 * is undone or waited for if it dies, stops or comes late, with two exceptions, both for moments only: a slab that it sweeps is
 * left to it as long as it lives, and a condemned object which a commit has locked is taken out of use when that has ended.
 */
#include "gc/cycle.h"

#include <time.h>

#include "base/schedule.h"

#define BUSY_PAUSE_NS 500000u     /* at first; doubled up to */
#define BUSY_PAUSE_NS_MAX 20000000u
#define BUSY_NS 1000000000u       /* so long in all: who has lost his processor will have it again */

int sho_helper_init(sho_helper *h, shobj_store *store, const _Atomic bool *stop)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc)
        return rc;
    if (s->slot == NULL)
        return sho_error(SHOBJ_EREADONLY, "collecting in %s: this process may not write the file", store->region->path);
    *h = (sho_helper){.s = s, .region = s->region, .stop = stop};
    h->stack = malloc(SHO_HELPER_STACK * sizeof(*h->stack));
    return h->stack != NULL ? 0 : sho_error(SHOBJ_ENOMEM, "collecting in %s: out of memory", store->region->path);
}

void sho_helper_fini(sho_helper *h)
{
    free(h->stack);
}

uint32_t sho_cycle_begin(sho_region *region)
{
    uint64_t gc = sho_load_acquire(&region->sb->gc);
    while (SHM_GC_PHASE(gc) == SHM_GC_IDLE) {
        uint32_t cycle = SHM_GC_CYCLE(gc) + 1;
        if (atomic_compare_exchange_strong(&region->sb->gc, &gc, SHM_GC(cycle, 0, SHM_GC_ARM))) {
            (void)sho_fault("gc.begun");
            sho_store(&region->sb->gc_began_ns, (uint64_t)sho_now_ns());
            return cycle;
        }
    }
    return SHM_GC_CYCLE(gc);
}

/* ------------------------------------------------------------------------------------------ sweep */

static void sweep_slab(sho_helper *h, uint64_t slab, void *arg)
{
    bool *late = arg;
    struct shm_superblock *sb = h->region->sb;
    sho_sweep_count count = {0};
    switch (sho_slab_sweep(&h->s->heap, slab, h->gc, &count)) {
    case SHO_SWEPT_BUSY:
        h->pass_busy++;
        break;
    case SHO_SWEPT_LATE:
        *late = true;
        break;
    default:
        break;
    }
    if (count.freed + count.kept > 0) {
        atomic_fetch_add_explicit(&sb->gc_freed, count.freed, memory_order_relaxed);
        atomic_fetch_add_explicit(&sb->gc_freed_bytes, count.freed_bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&sb->gc_freed_ever, count.freed, memory_order_relaxed);
        atomic_fetch_add_explicit(&sb->gc_freed_ever_bytes, count.freed_bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&sb->gc_marked, count.kept, memory_order_relaxed);
        atomic_fetch_add_explicit(&sb->gc_marked_bytes, count.kept_bytes, memory_order_relaxed);
    }
}

void sho_helper_nap(uint64_t ns)
{
#ifdef SHOBJ_FAULTS
    if (sho_schedule_sleep(NULL, 0, ns))
        return;
#endif
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

/* True when all slabs are swept, or held by a sweeper that does not get on. */
static bool sweep_all(sho_helper *h, uint64_t *ret_held)
{
    for (uint64_t pause = BUSY_PAUSE_NS;; pause = pause < BUSY_PAUSE_NS_MAX ? 2 * pause : pause) {
        bool late = false;
        h->may_pause = true;
        if (!sho_helper_pass(h, sweep_slab, &late) || late)
            return false;
        if (h->assists && h->pass_busy > 0)
            return false;
        /* Over all slices of this helper's time, or it would wait for ever. */
        if (h->pass_busy > 0 && h->busy_since_ns == 0)
            h->busy_since_ns = sho_monotonic_ns();
        if (h->pass_busy == 0 || sho_monotonic_ns() - h->busy_since_ns > BUSY_NS) {
            *ret_held = h->pass_busy;
            return true;
        }
        sho_helper_nap(pause);
    }
}

/* ------------------------------------------------------------------------------------------ the whole */

/* When the next cycle is due: as many bytes more in use, or the least that is worth one. */
static void plan_next(sho_region *region)
{
    struct shm_superblock *sb = region->sb;
    uint64_t live = sho_load(&sb->gc_marked_bytes);
    sho_store(&sb->live_bytes, live);
    sho_store(&sb->allocated_bytes, 0);
    sho_store(&sb->collect_at, sho_growth_bytes(region, live));
}

/* True if it was this helper who did. */
static bool advance(sho_helper *h, enum shm_gc_phase phase)
{
    return sho_cas(&h->region->sb->gc, h->gc, SHM_GC(SHM_GC_CYCLE(h->gc), 0, phase));
}

static void sweep_and_end(sho_helper *h)
{
    struct shm_superblock *sb = h->region->sb;
    uint64_t held;
    if (!sweep_all(h, &held))
        return;
    (void)sho_fault("gc.swept");
    if (!sho_cas(&sb->gc, h->gc, SHM_GC(SHM_GC_CYCLE(h->gc), 0, SHM_GC_IDLE)))
        return;
    sho_store(&sb->gc_held_slabs, held);
    sho_store(&sb->gc_ended_ns, (uint64_t)sho_now_ns());
    atomic_fetch_add_explicit(&sb->collections, 1, memory_order_relaxed);
    plan_next(h->region);
}

static void reset_counts(sho_region *region)
{
    sho_store(&region->sb->gc_freed, 0);
    sho_store(&region->sb->gc_freed_bytes, 0);
    sho_store(&region->sb->gc_marked, 0);
    sho_store(&region->sb->gc_marked_bytes, 0);
}

static void step(sho_helper *h)
{
    switch (SHM_GC_PHASE(h->gc)) {
    case SHM_GC_ARM:
        reset_counts(h->region);
        sho_cycle_arm(h);
        if (sho_helper_goes_on(h))
            advance(h, SHM_GC_ROOTS);
        break;
    case SHM_GC_ROOTS:
        sho_cycle_roots(h);
        if (sho_helper_goes_on(h))
            advance(h, SHM_GC_MARK);
        break;
    case SHM_GC_MARK:
        if (sho_cycle_mark(h) && advance(h, SHM_GC_KILL))
            sho_store(&h->region->sb->gc_mark_ended_ns, (uint64_t)sho_now_ns());
        break;
    case SHM_GC_KILL:
        if (sho_cycle_kill(h))
            advance(h, SHM_GC_SWEEP);
        break;
    case SHM_GC_SWEEP:
        sweep_and_end(h);
        break;
    default:
        break;
    }
    (void)sho_fault("gc.step");
}

void sho_cycle_help(sho_helper *h)
{
    sho_region *region = h->region;
    uint32_t cycle = SHM_GC_CYCLE(sho_load_acquire(&region->sb->gc));
    uint64_t slabs = sho_region_slab_count(region);
    h->shader = (sho_shader){.region = region, .slot = h->s->slot, .cycle = cycle};
    if (h->pass_done == 0)
        h->first_slab = slabs > 0 ? sho_random64() % slabs : 0;
    if (!h->assists)
        sho_recover_all(region);
    for (;;) {
        unsigned phase = SHM_GC_PHASE(h->gc);
        h->gc = sho_load_acquire(&region->sb->gc);
        if (SHM_GC_PHASE(h->gc) != phase || SHM_GC_CYCLE(h->gc) != h->pass_cycle)
            h->pass_done = h->busy_since_ns = h->stack_count = 0;
        h->pass_cycle = SHM_GC_CYCLE(h->gc);
        h->may_pause = false;
        if (SHM_GC_PHASE(h->gc) == SHM_GC_IDLE || SHM_GC_CYCLE(h->gc) != cycle ||
            (h->stop != NULL && atomic_load_explicit(h->stop, memory_order_relaxed)) ||
            (h->pause_ns != 0 && sho_monotonic_ns() >= h->pause_ns) ||
            (h->assists && SHM_GC_PHASE(h->gc) != SHM_GC_MARK && SHM_GC_PHASE(h->gc) != SHM_GC_SWEEP))
            return;
        h->scanned_count = 0;
        step(h);
        if (h->assists)
            return;
    }
}
