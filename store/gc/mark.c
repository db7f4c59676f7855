/*
 * mark.c: scanning gray nodes until there are none, and taking condemned objects out of use.
 *
 * What is gray stands in the marks; a helper's stack is a hint that keeps it close to what it has just read. Helpers divide the
 * work by finding each other's gray nodes in their passes. Two may scan the same one: that costs time and nothing else.
 *
 * A node's words are read between two looks at its orec. If that fails three times (it changes all the time, or its owner stands still
 * in the middle of a commit) they are taken as they are: each word is an old or a new one, and who changes them shades
 * both. The worst that words of different instants do is to shade something for nothing.
 */
#include "gc/cycle.h"
#include "types/trace.h"

#define TRIES_MAX 3
#define PAUSE_NS 50000

bool sho_helper_pass(sho_helper *h, void (*visit)(sho_helper *h, uint64_t slab, void *arg), void *arg)
{
    uint64_t begin = h->region->data_off >> SHM_SLAB_SHIFT;
    uint64_t end = sho_region_slab_count(h->region);
    if (h->pass_done == 0) {
        h->pass_busy = 0;
        h->pass_count = end > begin ? end - begin : 0; /* younger slabs hold nothing white */
    }
    for (; h->pass_done < h->pass_count; h->pass_done++) {
        if (!sho_helper_goes_on(h))
            return false;
        (void)sho_fault("gc.visit");
        visit(h, begin + (h->first_slab + h->pass_done) % h->pass_count, arg);
    }
    h->pass_done = 0;
    h->may_pause = false; /* what the pass has shown counts */
    return sho_helper_goes_on(h);
}

static void push(void *arg, uint64_t off)
{
    sho_helper *h = arg;
    if (h->stack_count < SHO_HELPER_STACK)
        h->stack[h->stack_count++] = off;
}

void sho_node_copy(const struct shm_node *node, uint64_t *ret_header, uint64_t *words)
{
    for (unsigned try = 0; try < TRIES_MAX; try++) {
        uint64_t orec = sho_load_acquire(&node->orec);
        uint64_t header = sho_load_acquire(&node->header);
        sho_node_words(node, header, words);
        sho_fence_acquire();
        *ret_header = header;
        if (!SHM_OREC_IS_LOCKED(orec) && sho_load_acquire(&node->orec) == orec)
            return;
    }
}

/* G5: what was scanned becomes black. The pass is counted up between the shading of what it refers to and that: so whoever has
 * not met it gray, nor black from before his pass, ends nothing; and nothing turns black when marking has ended. */
static void blacken(sho_helper *h)
{
    sho_word *word = &h->region->sb->gc;
    uint64_t gc = sho_load_acquire(word);
    uint32_t count = h->scanned_count;
    h->scanned_count = 0;
    if (count == 0)
        return;
    do {
        if (SHM_GC_CYCLE(gc) != h->shader.cycle || SHM_GC_PHASE(gc) != SHM_GC_MARK)
            return;
    } while (!atomic_compare_exchange_strong(word, &gc, SHM_GC(SHM_GC_CYCLE(gc), SHM_GC_PASS(gc) + 1, SHM_GC_MARK)));
    (void)sho_fault("gc.counted");
    while (count > 0)
        sho_mark_raise(h->region, h->shader.cycle, h->scanned[--count], SHO_BLACK);
    (void)sho_fault("gc.blackened");
}

static void scan(sho_helper *h, sho_block block, uint64_t off)
{
    const struct shm_node *node = (const struct shm_node *)(h->region->base + off);
    uint64_t words[SHM_NODE_WORDS_MAX];
    uint64_t header;
    sho_node_copy(node, &header, words);
    sho_node_trace(header, words, UINT64_MAX, sho_shade_visit, &h->shader);
    (void)sho_fault("gc.scanned");
    h->scanned[h->scanned_count++] = block;
    if (h->scanned_count == SHO_HELPER_BATCH)
        blacken(h);
}

static void drain(sho_helper *h)
{
    uint32_t count = 0;
    uint32_t look = h->assists ? 16 : 256; /* a power of 2 */
    while (h->stack_count > 0) {
        uint64_t off = h->stack[--h->stack_count];
        sho_block block;
        uint64_t header;
        if (sho_block_find(h->region, off, &block, &header) == 0 && block.is_node &&
            sho_mark_get(h->region, h->shader.cycle, block) == SHO_GRAY)
            scan(h, block, off);
        if ((++count & (look - 1)) == 0 && !sho_helper_goes_on(h))
            break; /* the rest stays for the next time */
    }
    blacken(h);
}

static bool is_node_slab(sho_helper *h, uint64_t slab, sho_slab_info *ret_info)
{
    return sho_slab_info_get(h->region, slab, ret_info) == 0 && ret_info->kind == SHM_SLAB_NODES;
}

static void mark_slab(sho_helper *h, uint64_t slab, void *arg)
{
    bool *found = arg;
    sho_slab_info info;
    if (!is_node_slab(h, slab, &info))
        return;
    const sho_word *marks = sho_region_marks(h->region, slab);
    for (unsigned first = 0; first < info.block_count; first += SHO_MARK_NODES_PER_WORD, marks++) {
        uint64_t bits = sho_load_acquire(marks);
        if (SHO_MARK_TAG(bits) != (uint16_t)h->shader.cycle)
            continue;
        for (uint64_t gray = bits & ~(bits >> 1) & SHO_MARK_GRAY_BITS; gray != 0; gray &= gray - 1) {
            unsigned index = first + (unsigned)__builtin_ctzll(gray) / 2;
            sho_block block = {.slab = slab, .index = index, .is_node = true};
            *found = h->may_pause = true;
            if (index < info.block_count && sho_mark_get(h->region, h->shader.cycle, block) == SHO_GRAY)
                scan(h, block, (slab << SHM_SLAB_SHIFT) + (uint64_t)index * info.block_bytes);
            drain(h);
            if (!sho_helper_goes_on(h))
                return;
        }
    }
}

bool sho_mark_scan(sho_helper *h)
{
    bool found = false;
    h->shader.gray = push;
    h->shader.arg = h;
    h->pass_done = 0;
    return sho_helper_pass(h, mark_slab, &found) && found;
}

static uint64_t count_scans(const sho_helper *h)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < sho_region_slot_count(h->region); i++)
        sum += sho_load_acquire(&sho_region_slot(h->region, i)->scans);
    return sum;
}

bool sho_cycle_mark(sho_helper *h)
{
    bool found = false;
    h->shader.gray = push;
    h->shader.arg = h;
    h->may_pause = true;
    drain(h);
    if (h->assists) {
        (void)sho_helper_pass(h, mark_slab, &found);
        return false;
    }
    for (;;) {
        h->pass_done = 0;
        h->may_pause = false;
        /* From here on whoever takes an object by its id alone counts the pass up, and this one ends nothing. */
        uint64_t gc = sho_load_acquire(&h->region->sb->gc);
        uint64_t before = count_scans(h);
        found = false;
        if (!sho_helper_goes_on(h) || !sho_helper_pass(h, mark_slab, &found))
            return false;
        (void)sho_fault("gc.passed");
        if (!found && count_scans(h) == before) {
            h->gc = gc;
            return true;
        }
        h->may_pause = true;
        if (!sho_helper_goes_on(h))
            return false;
        if (!found) /* others are at it, with nothing that can be seen from outside */
            sho_helper_nap(PAUSE_NS);
    }
}

/* ------------------------------------------------------------------------------------------ kill */

/* Does a lock belong to a commit that can't be undone any more? It unlocks to a version above the one that others have read, so
 * nobody need wait for it. */
static bool is_decided(sho_region *region, uint64_t lock)
{
    if (SHM_OREC_SLOT(lock) >= sho_region_slot_count(region))
        return false;
    struct shm_slot *slot = sho_region_slot(region, SHM_OREC_SLOT(lock));
    uint64_t state = sho_load_acquire(&slot->state);
    return SHM_PHASE(state) == SHM_COMMITTED && (SHM_SEQ(state) & SHM_SEQ_MASK) == SHM_OREC_SEQ(lock);
}

/* Out of use: who has read it finds its orec changed, who comes now finds no object. A lock on it is one of a commit that has found
 * it by an id that nobody had pinned: it is given back if that is undecided, or its owner is dead. */
static int kill_head(sho_helper *h, struct shm_node *node, uint64_t header)
{
    if (SHM_HEADER_KIND(header) != SHM_DYING) {
        (void)sho_fault("gc.kill");
        /* Another helper may have been first, and not have raised the orec yet: then we do, or its blocks would be swept before. */
        if (!sho_cas(&node->header, header, (header & ~0xffULL) | SHM_DYING) &&
            SHM_HEADER_KIND(sho_load_acquire(&node->header)) != SHM_DYING)
            return 0;
        (void)sho_fault("gc.killed");
    }
    while (!sho_orec_raise(h->region, node)) {
        uint64_t orec = sho_load_acquire(&node->orec);
        if (SHM_OREC_IS_LOCKED(orec) && is_decided(h->region, orec))
            return 0;
        int rc = sho_wait_lock(h->s, node, orec, NULL);
        if (rc)
            return rc;
    }
    return 0;
}

struct kill {
    int rc;
};

static void kill_slab(sho_helper *h, uint64_t slab, void *arg)
{
    struct kill *k = arg;
    sho_slab_info info;
    if (!is_node_slab(h, slab, &info))
        return;
    for (unsigned i = 0; i < info.block_count && k->rc == 0; i++) {
        sho_block block = {.slab = slab, .index = i, .is_node = true};
        if (sho_mark_get(h->region, h->shader.cycle, block) == SHO_BLACK)
            continue;
        uint64_t off = (slab << SHM_SLAB_SHIFT) + (uint64_t)i * info.block_bytes;
        struct shm_node *node = (struct shm_node *)(h->region->base + off);
        /* As in slab_sweep.c: the header, what is in transit, the mark, and last of all the phase. */
        uint64_t header = sho_load_acquire(&node->header);
        if (!SHM_KIND_IS_OBJECT(SHM_HEADER_KIND(header)) && SHM_HEADER_KIND(header) != SHM_DYING)
            continue;
        (void)sho_fault("gc.judge");
        if (sho_slab_in_transit(h->region, slab, off) ||
            sho_mark_get(h->region, h->shader.cycle, block) == SHO_BLACK)
            continue;
        if (!sho_helper_is_current(h))
            return;
        k->rc = kill_head(h, node, header);
    }
}

bool sho_cycle_kill(sho_helper *h)
{
    struct kill k = {0};
    h->may_pause = true;
    return sho_helper_pass(h, kill_slab, &k) && k.rc == 0;
}
