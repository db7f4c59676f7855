/*
 * background.c: collections that begin by themselves, and those that somebody asks for.
 *
 * The allocator counts what it hands out in bulk (free blocks of a slab at a time) and from time to time says that it is time to look.
 * A thread of the process that noticed it then adds up what is in use; if that is by so much more than what the last cycle left
 * (half of gc_growth percent, which is 20 unless told otherwise; the other half is for what is taken during the cycle), it begins a cycle and helps it to its end; else it plans the next look. Counting
 * in between would be wrong: what was freed at once and taken again, as messages are, is no growth.
 *
 * The thread is made at the first need, waits on a condition of its own, and knows nothing of the language that the process is
 * written in. A child of fork() has none and makes its own.
 */
#include <pthread.h>
#include <signal.h>

#include "gc/cycle.h"

#define GROWTH_DEFAULT 20u
#define SLICE_NS 20000000u
#define ASSIST_NS 25000u       /* one operation helps so long; the rest of what is owed is left to the next ones */
#define OWED_LEAST_NS 20000u   /* for each slab that is taken */
#define OWED_NS 400000u        /* when it has grown by twice as much as planned */
#define OWED_NS_MAX 1600000u
#define OWED_NS_ALL (4u * OWED_NS_MAX)
#define GROWTH_LEAST_BYTES (2ULL << 20)

struct sho_collector {
    shobj_store *store;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool wanted;        /* guarded by the mutex */
    _Atomic bool stop;
};

uint32_t sho_growth_percent(sho_region *region)
{
    uint64_t percent = sho_load(&region->sb->gc_growth);
    return percent == 0 ? GROWTH_DEFAULT : percent < UINT32_MAX ? (uint32_t)percent : UINT32_MAX;
}

uint64_t sho_growth_bytes(sho_region *region, uint64_t live)
{
    uint64_t percent = sho_growth_percent(region);
    if (percent >= UINT32_MAX)
        return UINT64_MAX / 2; /* never */
    uint64_t bytes = live / 200 * percent;
    return bytes > GROWTH_LEAST_BYTES ? bytes : GROWTH_LEAST_BYTES;
}

uint64_t sho_used_bytes(sho_region *region)
{
    uint64_t bytes = 0;
    uint64_t end = sho_region_slab_count(region);
    for (uint64_t i = region->data_off >> SHM_SLAB_SHIFT; i < end; i++) {
        sho_slab_info info;
        if (sho_slab_info_get(region, i, &info))
            continue;
        if (info.kind == SHM_SLAB_RUN)
            bytes += info.run_slabs << SHM_SLAB_SHIFT;
        else if (info.block_count > info.free_count)
            bytes += (uint64_t)(info.block_count - info.free_count) * info.block_bytes;
    }
    return bytes;
}

/* Is it so much more? If not, the next look is planned. */
static bool is_due(sho_region *region)
{
    struct shm_superblock *sb = region->sb;
    uint64_t live = sho_load(&sb->live_bytes);
    uint64_t limit = live + sho_growth_bytes(region, live);
    uint64_t used = sho_used_bytes(region);
    if (SHM_GC_PHASE(sho_load_acquire(&sb->gc)) != SHM_GC_IDLE || used >= limit)
        return true;
    sho_store(&sb->allocated_bytes, 0);
    sho_store(&sb->collect_at, limit - used);
    return false;
}

static void collect(struct sho_collector *c)
{
    sho_helper h;
    atomic_fetch_and(&c->store->region->wants_collection, (uint8_t)~SHO_WANTS_LOOK);
    if (!is_due(c->store->region) || sho_helper_init(&h, c->store, &c->stop))
        return;
    h.s->bare = true;
    sho_cycle_begin(h.region);
    sho_cycle_help(&h); /* if it is stopped, the next look goes on */
    sho_helper_fini(&h);
}

static void *run(void *arg)
{
    struct sho_collector *c = arg;
    pthread_mutex_lock(&c->mutex);
    while (!c->stop) {
        if (!c->wanted) {
            pthread_cond_wait(&c->wake, &c->mutex);
            continue;
        }
        c->wanted = false;
        pthread_mutex_unlock(&c->mutex);
        collect(c);
        pthread_mutex_lock(&c->mutex);
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

static struct sho_collector *collector_start(shobj_store *store)
{
    struct sho_collector *c = calloc(1, sizeof(*c));
    sigset_t all, before;
    if (c == NULL)
        return NULL;
    c->store = store;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->wake, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's threads */
    int rc = pthread_create(&c->thread, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        free(c);
        return NULL;
    }
    return c;
}

static bool assist_begin(sho_session *s)
{
    if (s->helper != NULL)
        return true;
    s->helper = calloc(1, sizeof(*s->helper));
    if (s->helper == NULL || sho_helper_init(s->helper, s->store, NULL)) {
        sho_helper_free(s->helper);
        s->helper = NULL;
        return false;
    }
    s->helper->assists = true;
    return true;
}

/* A cycle is under way, and the heap has grown by more than was planned for. Whoever makes it grow then owes the collection
 * a moment for each slab that he takes, the longer, the more the growth is above the plan. It is worked off by this operation and
 * the next ones of the process, each no longer than ASSIST_NS (README.md, A1). Nobody waits: what is not ready is left to others. */
static void assist(sho_session *s, uint64_t gc, unsigned wants)
{
    struct shm_superblock *sb = s->region->sb;
    uint64_t planned = sho_load(&sb->collect_at);
    uint64_t grown = sho_load(&sb->allocated_bytes);
    /* Relaxed: a debt that two threads take or raise at once may be a moment too long or short. */
    uint64_t owed = atomic_exchange_explicit(&s->region->owed_ns, 0, memory_order_relaxed);
    if ((SHM_GC_PHASE(gc) != SHM_GC_MARK && SHM_GC_PHASE(gc) != SHM_GC_SWEEP) || grown <= planned || s->depth > 0 ||
        !assist_begin(s))
        return;
    if (wants & SHO_WANTS_LOOK) {
        uint64_t over = planned > 0 ? (grown - planned) * OWED_NS / planned : 0;
        owed += OWED_LEAST_NS + (over < OWED_NS_MAX ? over : OWED_NS_MAX);
        owed = owed < OWED_NS_ALL ? owed : OWED_NS_ALL;
    }
    uint64_t began = sho_monotonic_ns();
    s->helper->pause_ns = began + (owed < ASSIST_NS ? owed : ASSIST_NS);
    s->bare = true;
    sho_cycle_help(s->helper);
    s->bare = false;
    uint64_t paid = sho_monotonic_ns() - began;
    if (owed > paid) {
        atomic_fetch_add_explicit(&s->region->owed_ns, owed - paid, memory_order_relaxed);
        atomic_fetch_or_explicit(&s->region->wants_collection, SHO_WANTS_HELP, memory_order_relaxed);
    }
}

void sho_helper_free(sho_helper *helper)
{
    if (helper != NULL)
        sho_helper_fini(helper);
    free(helper);
}

SHO_COLD void sho_collection_wanted(sho_session *s)
{
    shobj_store *store = s->store;
    if (s->slot == NULL)
        return;
    unsigned wants = atomic_exchange_explicit(&s->region->wants_collection, 0, memory_order_relaxed);
    uint64_t gc = sho_gc_word(s);
    if (SHM_GC_PHASE(gc) != SHM_GC_IDLE)
        assist(s, gc, wants);
    if (!(wants & SHO_WANTS_LOOK))
        return;
    sho_global_lock();
    if (store->collector == NULL)
        store->collector = collector_start(store);
    struct sho_collector *c = store->collector;
    sho_global_unlock();
    if (c == NULL)
        return; /* no thread can be made: the next one who asks may have more luck */
    pthread_mutex_lock(&c->mutex);
    c->wanted = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->mutex);
}

void sho_collector_stop(struct sho_collector *c)
{
    if (c == NULL)
        return;
    pthread_mutex_lock(&c->mutex);
    c->stop = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->mutex);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

/* ------------------------------------------------------------------------------------------ on demand */

/* Helps for a slice of time, and lets the language runtime run meanwhile. EINTR, ETIMEOUT. */
static int help_a_while(sho_helper *h)
{
    sho_session *s = h->s;
    h->pause_ns = sho_monotonic_ns() + SLICE_NS;
    void *token = sho_wait_enter(s);
    s->bare = true;
    sho_cycle_help(h);
    s->bare = false;
    sho_wait_leave(s, token);
    int rc = sho_sleep_interrupted(s);
    if (rc)
        return rc;
    if (s->deadline_ns != 0 && sho_monotonic_ns() >= s->deadline_ns)
        return sho_error(SHOBJ_ETIMEOUT, "collecting in %s: timed out; whoever collects next goes on", s->region->path);
    return 0;
}

/* Helps until a cycle that began after the call has ended. */
static int collect_whole(sho_helper *h)
{
    sho_word *word = &h->region->sb->gc;
    uint64_t gc = sho_load_acquire(word);
    /* What is under way may have read the roots already. */
    uint32_t last = SHM_GC_CYCLE(gc) + (SHM_GC_PHASE(gc) != SHM_GC_IDLE);
    for (;;) {
        gc = sho_load_acquire(word);
        if (SHM_GC_PHASE(gc) == SHM_GC_IDLE && (int32_t)(SHM_GC_CYCLE(gc) - last) > 0)
            return 0;
        if (SHM_GC_PHASE(gc) == SHM_GC_IDLE)
            sho_cycle_begin(h->region);
        int rc = help_a_while(h);
        if (rc)
            return rc;
    }
}

bool sho_collect_for_room(sho_session *s)
{
    sho_helper h;
    if (s->slot == NULL || sho_helper_init(&h, s->store, NULL))
        return false;
    uint64_t before = sho_used_bytes(s->region);
    int rc = collect_whole(&h);
    sho_helper_fini(&h);
    return rc == 0 && sho_used_bytes(s->region) < before;
}

struct job {
    shobj_store *store;
    pthread_t thread;
    _Atomic bool *stop;
    bool started;
};

static void *help(void *arg)
{
    struct job *job = arg;
    sho_helper h;
    if (sho_helper_init(&h, job->store, job->stop))
        return NULL;
    h.s->bare = true;
    while (!atomic_load(job->stop)) {
        sho_cycle_help(&h);
        sched_yield();
    }
    sho_helper_fini(&h);
    return NULL;
}

SHOBJ_API int shobj_collect(shobj_store *store, unsigned threads)
{
    sho_helper h;
    _Atomic bool stop = false;
    struct job jobs[64];
    if (threads > SHO_COUNT_OF(jobs) + 1)
        return sho_error(SHOBJ_EINVAL, "collecting in %s with %u threads: at most %zu", store->region->path, threads,
                         SHO_COUNT_OF(jobs) + 1);
    if (store->readonly)
        return sho_error(SHOBJ_EREADONLY, "collecting in %s: it is open for reading only; open it for writing",
                         store->region->path);
    int rc = sho_helper_init(&h, store, NULL);
    if (rc)
        return rc;
    if (h.s->depth > 0) {
        sho_helper_fini(&h);
        return sho_error(SHOBJ_ETXN, "collecting in %s: not inside a transaction; end it first", store->region->path);
    }
    store = h.s->store;
    for (unsigned i = 0; i + 1 < threads; i++) {
        jobs[i] = (struct job){.store = store, .stop = &stop};
        jobs[i].started = pthread_create(&jobs[i].thread, NULL, help, &jobs[i]) == 0;
    }
    rc = collect_whole(&h);
    atomic_store(&stop, true);
    void *token = sho_wait_enter(h.s);
    for (unsigned i = 0; i + 1 < threads; i++)
        if (jobs[i].started)
            pthread_join(jobs[i].thread, NULL);
    sho_wait_leave(h.s, token);
    sho_helper_fini(&h);
    return rc;
}

SHOBJ_API int shobj_gc_growth(shobj_store *store, uint32_t percent)
{
    sho_region *region = store->region;
    if (store->readonly)
        return sho_error(SHOBJ_EREADONLY, "setting the growth that starts a collection of %s: it is open for reading only",
                         region->path);
    sho_store(&region->sb->gc_growth, percent);
    sho_store(&region->sb->collect_at, sho_growth_bytes(region, sho_load(&region->sb->live_bytes)));
    return 0;
}
