/*
 * session.c: attaching threads to stores.
 *
 * A thread finds its session through thread-local storage: the last one used first, then the list of its sessions. A
 * session ends with its thread (a pthread key's destructor), by shobj_detach(), or with its store; whoever comes first does
 * it under the global mutex. A session struct is freed only by its own thread, so that a stale thread-local pointer
 * meets `store == NULL` and not freed memory.
 *
 * Fork: the handlers hold the global mutex over the fork, so that the tables are whole in the child. The child finds the
 * store's fork token wiped at its first call, forgets everything of its parent's, and joins anew. It does not touch
 * the parent's slots.
 *
 * Slots: claimed by a compare-and-swap of `process` from 0. A slot's counters and its seq outlive its sessions.
 */
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "txn/session.h"

shobj_store *sho_mappings; /* guarded by the global mutex */
static pthread_mutex_t global_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;

static __thread sho_session *last_session __attribute__((tls_model("initial-exec")));
static __thread sho_session *thread_sessions __attribute__((tls_model("initial-exec")));

void sho_global_lock(void)
{
    pthread_mutex_lock(&global_mutex);
}

void sho_global_unlock(void)
{
    pthread_mutex_unlock(&global_mutex);
}

static void thread_ended(void *unused);

static void before_fork(void);
static void after_fork_in_parent(void);
static void after_fork_in_child(void);

static void init_once(void)
{
    pthread_key_create(&thread_key, thread_ended);
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ------------------------------------------------------------------------------------------ slots */

static struct shm_slot *claim_slot(sho_region *region, unsigned process, unsigned *ret_index)
{
    unsigned count = sho_region_slot_count(region);
    for (unsigned i = 0; i < count; i++) {
        struct shm_slot *slot = sho_region_slot(region, i);
        if (sho_load_acquire(&slot->process) == 0 && sho_cas(&slot->process, 0, process + 1)) {
            *ret_index = i;
            return slot;
        }
    }
    return NULL;
}

/* Backs one more slot with memory. */
static int add_slot(sho_region *region)
{
    uint64_t high = sho_load_acquire(&region->sb->slot_high);
    if (high >= SHM_SLOT_MAX)
        return sho_error(SHOBJ_ELIMIT, "attaching to %s: all %u session slots are taken; end some threads or processes",
                         region->path, SHM_SLOT_MAX);
    int rc = sho_region_back(region, SHM_SLOT_OFF + high * SHM_SLOT_BYTES, SHM_SLOT_BYTES);
    if (rc == 0)
        sho_cas(&region->sb->slot_high, high, high + 1); /* if another one did it: as good */
    return rc;
}

static int obtain_slot(shobj_store *store, struct shm_slot **ret_slot, unsigned *ret_index)
{
    sho_region *region = store->region;
    for (bool reaped = false;;) {
        struct shm_slot *slot = claim_slot(region, store->peer.process, ret_index);
        if (slot != NULL) {
            (void)sho_fault("slot.claimed");
            *ret_slot = slot;
            return 0;
        }
        /* The dead may hold some: ask before taking more memory, but not more than once. */
        if (!reaped && sho_recover_all(region) > 0) {
            reaped = true;
            continue;
        }
        reaped = true;
        int rc = add_slot(region);
        if (rc)
            return rc;
    }
}

/* ------------------------------------------------------------------------------------------ sessions */

void sho_values_free(sho_session *s)
{
    while (s->values != NULL) {
        sho_value_block *next = s->values->next;
        free(s->values);
        s->values = next;
    }
}

static void session_free(sho_session *s)
{
    sho_values_free(s);
    sho_past_end(s, true);
    free(s->o.entries);
    free(s->o.guesses);
    free(s->path);
    free(s->map);
    free(s->savepoints);
    free(s->undo);
    free(s->order);
    free(s->ends);
    sho_deferred_truncate(s, 0);
    free(s->deferred);
    sho_helper_free(s->helper);
    free(s);
}

/* With the mutex held: what the session holds in the heap goes back; the struct stays for its thread. */
static void session_end(sho_session *s, bool touch_heap)
{
    if (s->store == NULL)
        return;
    for (sho_session **p = &s->store->sessions; *p != NULL; p = &(*p)->next_in_store)
        if (*p == s) {
            *p = s->next_in_store;
            break;
        }
    if (touch_heap && s->slot != NULL) {
        sho_txn_abort_all(s);
        sho_hold_drop(s);
        sho_log_close(s);
        sho_heap_close(&s->heap);
        sho_slot_release(s->slot);
    }
    s->store = NULL;
}

void sho_sessions_close(shobj_store *store)
{
    while (store->sessions != NULL)
        session_end(store->sessions, true);
}

/* With the mutex held: frees this thread's sessions whose stores are gone. */
static void purge_ended(void)
{
    sho_session **p = &thread_sessions;
    while (*p != NULL) {
        sho_session *s = *p;
        if (s->store != NULL) {
            p = &s->next_in_thread;
            continue;
        }
        *p = s->next_in_thread;
        if (last_session == s)
            last_session = NULL;
        session_free(s);
    }
}

static void thread_ended(void *unused)
{
    (void)unused;
    sho_global_lock();
    for (sho_session *s = thread_sessions; s != NULL; s = s->next_in_thread)
        session_end(s, s->store != NULL && s->slot != NULL && !sho_peer_is_forked(&s->store->peer));
    purge_ended();
    sho_global_unlock();
}

/* With the mutex held, in a child of fork(): joins with a record of its own. */
static int rejoin(shobj_store *store)
{
    while (store->sessions != NULL)
        session_end(store->sessions, false);
    store->collector = NULL; /* the parent's thread */
    sho_peer peer = store->child_peer;
    if (peer.lock_page == NULL) {
        int rc = sho_peer_join(store->region, &peer);
        if (rc)
            return rc;
    }
    memset(&store->child_peer, 0, sizeof(store->child_peer));
    sho_peer_forget(&store->peer);
    store->peer = peer;
    return 0;
}

static int session_begin(shobj_store *store, sho_session **ret_session)
{
    sho_session *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return sho_error(SHOBJ_ENOMEM, "attaching to %s: out of memory", store->region->path);
    s->region = store->region;
    s->o.base = store->region->base;
    s->o.data_off = store->region->data_off;
    s->o.limit = store->region->data_off + SHM_SLAB_BYTES; /* the first slow read sees the rest */
    if (store->region->writable) {
        int rc = obtain_slot(store, &s->slot, &s->slot_index);
        if (rc) {
            free(s);
            return rc;
        }
        struct shm_slot *slot = s->slot;
        s->seq = SHM_SEQ(sho_load(&slot->state)) & SHM_SEQ_MASK;
        s->heap = (sho_heap){.region = store->region, .owner = s->slot_index + 1, .slot = slot};
        sho_store(&slot->taking, 0);
        sho_store(&slot->freeing, 0);
        sho_store(&slot->sweeping, 0);
        sho_store(&slot->hold_count, 0);
        sho_store(&slot->holds_more, 0);
        sho_store(&slot->log_end, 0);
        sho_store(&slot->tid, (uint64_t)syscall(SYS_gettid));
        sho_store(&slot->attached_ns, (uint64_t)sho_now_ns());
        sho_store(&slot->began_ns, 0);
        sho_store(&slot->ticket, 0);
        sho_store(&slot->waiting, 0);
        sho_store_release(&slot->state, SHM_STATE(s->seq, SHM_IDLE));
    }
    s->late_from = UINT32_MAX;
    s->store = store;
    s->next_in_store = store->sessions;
    store->sessions = s;
    s->next_in_thread = thread_sessions;
    thread_sessions = s;
    pthread_setspecific(thread_key, s); /* any value but NULL: the destructor runs */
    *ret_session = s;
    return 0;
}

/* ------------------------------------------------------------------------------------------ fork */

/* This thread's session on a store, with the mutex held; NULL if it can't have one. */
static sho_session *session_for_fork(shobj_store *store)
{
    sho_session *s = thread_sessions;
    while (s != NULL && s->store != store)
        s = s->next_in_thread;
    return s == NULL && session_begin(store, &s) ? NULL : s;
}

static void before_fork(void)
{
    sho_global_lock();
    for (shobj_store *store = sho_mappings; store != NULL; store = store->next) {
        if (store->pins == NULL || !store->region->writable || sho_peer_is_forked(&store->peer))
            continue;
        sho_session *s = session_for_fork(store);
        if (s != NULL)
            sho_pins_before_fork(store, s);
    }
}

static void after_fork_in_parent(void)
{
    for (shobj_store *store = sho_mappings; store != NULL; store = store->next)
        if (store->child_peer.lock_page != NULL)
            sho_pins_after_fork(store, false);
    sho_global_unlock();
}

static void after_fork_in_child(void)
{
    for (shobj_store *store = sho_mappings; store != NULL; store = store->next)
        if (store->child_peer.lock_page != NULL)
            sho_pins_after_fork(store, true);
    sho_global_unlock();
}

static SHO_COLD int session_find(shobj_store *store, sho_session **ret_session)
{
    int rc = 0;
    sho_session *s;
    pthread_once(&once, init_once);
    sho_global_lock();
    if (store->region->writable && sho_peer_is_forked(&store->peer))
        rc = rejoin(store);
    purge_ended();
    for (s = thread_sessions; s != NULL && s->store != store; s = s->next_in_thread)
        ;
    if (rc == 0 && s == NULL)
        rc = session_begin(store, &s);
    sho_global_unlock();
    if (rc)
        return rc;
    last_session = s;
    *ret_session = s;
    return 0;
}

/* ETXN: this thread is in a transaction of another store. Asked by what begins or changes something. */
static SHO_COLD int refuse_other(const sho_session *open)
{
    return sho_error(SHOBJ_ETXN,
                     "another store is used inside a transaction of %s: end that first, a transaction covers one store",
                     open->region->path);
}

#ifdef SHOBJ_FAULTS
/* Tests of position independence: each call outside a transaction goes through the other mapping. */
static shobj_store *take_turns(shobj_store *store)
{
    static __thread unsigned turn;
    for (sho_session *s = thread_sessions; s != NULL; s = s->next_in_thread)
        if (s->depth > 0 && s->store != NULL && (s->store == store || s->store == store->twin))
            return s->store;
    return turn++ & 1 ? store->twin : store;
}
#endif

int sho_session_get(shobj_store *store, sho_session **ret_session)
{
#ifdef SHOBJ_FAULTS
    if (store->twin != NULL)
        store = take_turns(store);
#endif
    sho_session *s = last_session;
    if (SHO_LIKELY(s != NULL && s->store == store &&
                   (s->slot == NULL || !sho_peer_is_forked(&store->peer)))) {
        *ret_session = s;
        return 0;
    }
    int rc = session_find(store, &s);
    if (rc)
        return rc;
    for (sho_session *other = thread_sessions; other != NULL; other = other->next_in_thread)
        if (other->depth > 0 && other->store != NULL && other != s) {
            last_session = NULL; /* so that the next call looks again */
            return refuse_other(other);
        }
    *ret_session = s;
    return 0;
}

shobj_store *sho_session_store(const sho_session *s)
{
    return s->store;
}

SHOBJ_API void shobj_detach(shobj_store *store)
{
#ifdef SHOBJ_FAULTS
    if (store->twin != NULL)
        shobj_detach(store->twin);
#endif
    pthread_once(&once, init_once);
    sho_global_lock();
    for (sho_session *s = thread_sessions; s != NULL; s = s->next_in_thread)
        if (s->store == store)
            session_end(s, s->slot != NULL && !sho_peer_is_forked(&store->peer));
    purge_ended();
    sho_global_unlock();
}

/* ------------------------------------------------------------------------------------------ returned values */

#define VALUE_BLOCK_BYTES 4096u
#define VALUE_KEEP_BYTES (1u << 20)

static SHO_COLD void *values_grow(sho_session *s, size_t bytes)
{
    size_t size = s->values != NULL ? s->values->bytes * 2 : VALUE_BLOCK_BYTES;
    if (size > VALUE_KEEP_BYTES)
        size = VALUE_KEEP_BYTES;
    if (size < bytes)
        size = bytes;
    sho_value_block *block = malloc(sizeof(*block) + size);
    if (block == NULL) {
        sho_error(SHOBJ_ENOMEM, "out of memory for a value of %zu bytes", bytes);
        return NULL;
    }
    block->next = s->values;
    block->bytes = size;
    s->values = block;
    s->values_used = bytes;
    return block->data;
}

void *sho_values_alloc(sho_session *s, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    sho_value_block *block = s->values;
    if (SHO_UNLIKELY(block == NULL || block->bytes - s->values_used < bytes))
        return values_grow(s, bytes);
    void *p = (uint8_t *)block->data + s->values_used;
    s->values_used += bytes;
    return p;
}

void sho_values_reset(sho_session *s)
{
    s->values_used = 0;
    if (s->hold_count != 0)
        sho_hold_drop(s);
    sho_value_block *block = s->values;
    if (SHO_LIKELY(block == NULL || (block->next == NULL && block->bytes <= VALUE_KEEP_BYTES)))
        return;
    /* Keep the largest block that is not too large. */
    sho_value_block *keep = NULL;
    while (block != NULL) {
        sho_value_block *next = block->next;
        if (block->bytes <= VALUE_KEEP_BYTES && (keep == NULL || block->bytes > keep->bytes)) {
            free(keep);
            keep = block;
        } else {
            free(block);
        }
        block = next;
    }
    if (keep != NULL)
        keep->next = NULL;
    s->values = keep;
}
