/*
 * test_slab.c: the allocator: no block is given out twice, what is freed comes back, the dead's slabs are adopted.
 */
#include <pthread.h>
#include <sched.h>

#include "nodes.h"

#define LIVE_MAX 2000

static void fill(sho_region *region, uint64_t off, uint64_t bytes, uint64_t stamp)
{
    sho_word *words = (sho_word *)(region->base + off);
    sho_store(words, SHM_BOX_HEADER(SHM_BOX_BYTES, 0, bytes));
    for (uint64_t i = 1; i <= bytes / 8; i++)
        sho_store(words + i, stamp);
}

static bool holds(sho_region *region, uint64_t off, uint64_t bytes, uint64_t stamp)
{
    const sho_word *words = (const sho_word *)(region->base + off);
    for (uint64_t i = 1; i <= bytes / 8; i++)
        if (sho_load(words + i) != stamp)
            return false;
    return true;
}

static uint64_t random_bytes(uint64_t *state)
{
    uint64_t r = check_random(state);
    uint64_t limit = r % 100 < 80 ? 256 : r % 100 < 98 ? 8192 : 500000;
    return check_random(state) % limit;
}

/* Random takes and gives by one session; each block is stamped and must keep its stamp. */
static void churn(shobj_store *store, uint64_t seed, int steps)
{
    struct {
        uint64_t off, bytes, stamp;
    } live[LIVE_MAX];
    int count = 0;
    sho_session *s = session_of(store);
    for (int i = 0; i < steps; i++) {
        if (count < LIVE_MAX && (count == 0 || check_random(&seed) % 100 < 55)) {
            uint64_t bytes = random_bytes(&seed);
            CHECK_INT(sho_heap_take_box(&s->heap, bytes, &live[count].off), 0);
            live[count].bytes = bytes;
            live[count].stamp = check_random(&seed);
            fill(s->region, live[count].off, bytes, live[count].stamp);
            count++;
        } else {
            int at = (int)(check_random(&seed) % (uint64_t)count);
            CHECK(holds(s->region, live[at].off, live[at].bytes, live[at].stamp));
            CHECK(sho_heap_give(&s->heap, live[at].off));
            live[at] = live[--count];
        }
    }
    while (count-- > 0) {
        CHECK(holds(s->region, live[count].off, live[count].bytes, live[count].stamp));
        CHECK(sho_heap_give(&s->heap, live[count].off));
    }
}

struct work {
    shobj_store *store;
    uint64_t seed;
};

static void *churn_thread(void *arg)
{
    struct work *work = arg;
    churn(work->store, work->seed, 30000);
    shobj_detach(work->store);
    return NULL;
}

static uint64_t used_bytes(shobj_store *store)
{
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    return stat.used_bytes;
}

static void test_churn(shobj_store *store, uint64_t seed)
{
    uint64_t before = used_bytes(store);
    churn(store, seed, 100000);
    CHECK_INT(used_bytes(store), before);
    pthread_t threads[4];
    struct work work[4];
    for (int i = 0; i < 4; i++) {
        work[i] = (struct work){.store = store, .seed = seed + (uint64_t)i + 1};
        CHECK(pthread_create(&threads[i], NULL, churn_thread, &work[i]) == 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(used_bytes(store), before);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
}

/* Blocks go through a ring from a taking thread to a giving one. */
struct ring {
    shobj_store *store;
    _Atomic uint64_t slots[64];
    int count;
};

static void *give_thread(void *arg)
{
    struct ring *ring = arg;
    sho_session *s = session_of(ring->store);
    for (int i = 0; i < ring->count; i++) {
        uint64_t off;
        while ((off = atomic_exchange(&ring->slots[i % 64], 0)) == 0)
            sched_yield();
        CHECK(holds(s->region, off, 64, off));
        CHECK(sho_heap_give(&s->heap, off));
    }
    shobj_detach(ring->store);
    return NULL;
}

static void test_remote_free(shobj_store *store)
{
    struct ring ring = {.store = store, .count = 300000};
    pthread_t giver;
    sho_session *s = session_of(store);
    shobj_stat before, after;
    CHECK_INT(shobj_stat_get(store, &before), 0);
    CHECK(pthread_create(&giver, NULL, give_thread, &ring) == 0);
    for (int i = 0; i < ring.count; i++) {
        uint64_t off;
        CHECK_INT(sho_heap_take_box(&s->heap, 64, &off), 0);
        fill(s->region, off, 64, off);
        uint64_t empty = 0;
        while (!atomic_compare_exchange_weak(&ring.slots[i % 64], &empty, off))
            empty = 0, sched_yield();
    }
    pthread_join(giver, NULL);
    CHECK_INT(shobj_stat_get(store, &after), 0);
    CHECK_INT(after.used_bytes, before.used_bytes);
    /* 300,000 messages of 80 bytes went through: they must have reused the same few slabs. */
    CHECK(after.size_bytes - before.size_bytes < 2 << 20);
}

/* A full store: taking fails, giving some back makes as much room again, of another class too. */
static void test_full(void)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 8 << 20};
    shobj_store *store;
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-full-%ld", (long)getpid());
    CHECK_INT(shobj_open(name, &options, &store), 0);
    CHECK_INT(shobj_unlink(name, true), 0);
    sho_session *s = session_of(store);
    static uint64_t offs[100000];
    int count = 0;
    int rc;
    while ((rc = sho_heap_take_box(&s->heap, 1000, &offs[count])) == 0) {
        fill(s->region, offs[count], 1000, offs[count]);
        count++;
    }
    CHECK_INT(rc, SHOBJ_EFULL);
    CHECK(count > 4000);
    int full = count;
    while (count > 0) {
        count--;
        CHECK(holds(s->region, offs[count], 1000, offs[count]));
        CHECK(sho_heap_give(&s->heap, offs[count]));
    }
    while ((rc = sho_heap_take_box(&s->heap, 200, &offs[count])) == 0)
        fill(s->region, offs[count++], 200, 1);
    CHECK_INT(rc, SHOBJ_EFULL);
    CHECK(count > full * 4);
    while (count > 0)
        CHECK(sho_heap_give(&s->heap, offs[--count]));
    uint64_t run;
    CHECK_INT(sho_heap_take_box(&s->heap, 4 << 20, &run), 0);
    fill(s->region, run, 4 << 20, 7);
    CHECK(sho_heap_give(&s->heap, run));
    CHECK(!sho_heap_give(&s->heap, run)); /* not twice */
    shobj_close(store);
}

/* Classes: no request is given less than it asked for, and none above 64 bytes wastes over 12.5% of its block. */
static void test_classes(shobj_store *store)
{
    sho_session *s = session_of(store);
    for (uint64_t bytes = 0; bytes <= 1 << 20; bytes++) {
        uint64_t off;
        sho_slab_info info;
        unsigned index;
        uint64_t total = bytes + sizeof(struct shm_box);
        CHECK_INT(sho_heap_take_box(&s->heap, bytes, &off), 0);
        CHECK(off % 8 == 0);
        CHECK_INT(sho_slab_find(s->region, off, &info, &index), 0);
        CHECK_INT(off, (info.slab << SHM_SLAB_SHIFT) + (uint64_t)index * info.block_bytes);
        uint64_t room = info.kind == SHM_SLAB_RUN ? info.run_slabs << SHM_SLAB_SHIFT : info.block_bytes;
        CHECK(room >= total);
        CHECK(total <= 64 || (room - total) * 8 <= room);
        if (total <= 64)
            CHECK(room - total < 8 || room == 16);
        fill(s->region, off, bytes <= 24000 || bytes % 4099 == 0 ? bytes : 64, 1);
        sho_heap_taken(&s->heap, off);
        CHECK(sho_heap_give(&s->heap, off));
        CHECK(!sho_heap_give(&s->heap, off)); /* not twice */
        CHECK(!sho_heap_give(&s->heap, off + 8));
        if (info.run_slabs > 1)
            CHECK(!sho_heap_give(&s->heap, (info.slab + 1) << SHM_SLAB_SHIFT)); /* a tail, or what lies in it is free */
    }
    for (unsigned words = 1; words <= SHM_NODE_WORDS_MAX; words++) {
        uint64_t off;
        unsigned got;
        CHECK_INT(sho_heap_take_node(&s->heap, words, &off, &got), 0);
        CHECK(off % 16 == 0 && got >= words && got <= SHM_NODE_WORDS_MAX);
        CHECK(sho_heap_give(&s->heap, off));
    }
}

int main(void)
{
    uint64_t seed = check_seed();
    shobj_store *store = check_store();
    test_classes(store);
    test_churn(store, seed);
    test_remote_free(store);
    test_full();
    shobj_close(store);
    return 0;
}
