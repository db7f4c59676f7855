/*
 * shade.c: see shade.h. Also the engine's side of a cycle: what a session does because one is under way (barrier.h's promises).
 *
 * A mutator shades first and counts afterwards (gc/README.md, G5), and does both before it goes on: a node that it has made gray behind
 * the back of a pass is counted before anything depends on it.
 */
#include "gc/shade.h"

#include "types/trace.h"

static void shade_box(sho_shader *shader, sho_block block, uint64_t header, uint64_t off)
{
    /* Its contents first: they would be missed if we died in between. They are read again if it is met again, no more often
     * than once for each owner. */
    bool nested = SHM_HEADER_KIND(header) == SHM_BOX_TUPLE || SHM_HEADER_KIND(header) == SHM_BOX_FROZENSET;
    if (nested && shader->depth < 2 * SHO_VALUE_DEPTH_MAX) {
        shader->depth++;
        sho_box_trace(header, (const sho_word *)(shader->region->base + off) + 1, sho_shade_visit, shader);
        shader->depth--;
    }
    if (sho_mark_raise(shader->region, shader->cycle, block, SHO_BLACK))
        shader->marked++;
}

void sho_shade(sho_shader *shader, uint64_t off)
{
    sho_block block;
    uint64_t header;
    if (sho_block_find(shader->region, off, &block, &header))
        return;
    if (!block.is_node) {
        shade_box(shader, block, header, off);
    } else if (sho_mark_raise(shader->region, shader->cycle, block, SHO_GRAY)) {
        (void)sho_fault("gc.shaded");
        if (shader->gray != NULL)
            shader->gray(shader->arg, off);
        else
            sho_store_release(&shader->slot->scans, sho_load(&shader->slot->scans) + 1);
    }
}

void sho_shade_visit(void *shader, uint64_t off)
{
    sho_shade(shader, off);
}

void sho_shade_object(sho_shader *shader, shobj_oid oid)
{
    uint64_t off = SHM_OID_OFF(oid);
    const struct shm_node *node = (struct shm_node *)sho_region_at(shader->region, off, SHM_NODE_BYTES(1));
    if (oid == 0 || node == NULL)
        return;
    uint64_t header = sho_load_acquire(&node->header);
    if (SHM_OID_LIVES(oid, header))
        sho_shade(shader, off);
}

/* ------------------------------------------------------------------------------------------ logs */

/* A node that is to change: what its changing words refer to, and will refer to. */
static void shade_write(sho_shader *shader, const struct shm_write *write)
{
    uint64_t first = sho_load(&write->node);
    uint64_t off = SHM_RECORD_OFF(first);
    uint64_t words[SHM_NODE_WORDS_MAX];
    unsigned room = SHM_RECORD_WORDS(first);
    uint64_t mask = sho_load(&write->mask);
    sho_block block;
    uint64_t header;
    if (sho_block_find(shader->region, off, &block, &header) || !block.is_node)
        return;
    unsigned count = sho_node_words((const struct shm_node *)(shader->region->base + off), header, words);
    bool frees = sho_load(&write->base) & SHM_WRITE_FREES;
    sho_node_trace(header, words, frees ? UINT64_MAX : mask, sho_shade_visit, shader);
    for (unsigned i = 0; i < count && i < room; i++)
        if (mask >> i & 1)
            words[i] = sho_load(&write->words[i]);
    sho_node_trace(header, words, mask, sho_shade_visit, shader);
    if (frees)
        sho_shade(shader, off); /* or it would be garbage twice */
}

/* A block of the log's own: others may know it soon. */
static void shade_new(sho_shader *shader, uint64_t off)
{
    sho_block block;
    uint64_t header;
    uint64_t words[SHM_NODE_WORDS_MAX];
    sho_shade(shader, off);
    if (sho_block_find(shader->region, off, &block, &header) || !block.is_node)
        return;
    /* It may have been born black, and filled since. */
    sho_node_words((const struct shm_node *)(shader->region->base + off), header, words);
    sho_node_trace(header, words, UINT64_MAX, sho_shade_visit, shader);
}

void sho_shade_log(sho_shader *shader, struct shm_slot *slot)
{
    sho_log_walk walk;
    sho_word *record;
    sho_log_walk_begin(&walk, shader->region, slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        uint64_t first = sho_load_acquire(record);
        uint64_t off = SHM_RECORD_OFF(first);
        switch (SHM_RECORD_TYPE(first)) {
        case SHM_RECORD_WRITE:
            shade_write(shader, (const struct shm_write *)record);
            break;
        case SHM_RECORD_ALLOC:
            shade_new(shader, off);
            break;
        case SHM_RECORD_FREE:
        case SHM_RECORD_DROPPED:
        case SHM_RECORD_HOLD:
            sho_shade(shader, off);
            break;
        default:
            break;
        }
    }
}

/* ------------------------------------------------------------------------------------------ the engine's side */

static sho_shader own_shader(sho_session *s, uint64_t gc)
{
    return (sho_shader){.region = s->region, .slot = s->slot, .cycle = SHM_GC_CYCLE(gc)};
}

SHO_COLD void sho_barrier_object_slow(sho_session *s, uint64_t gc, uint64_t off)
{
    sho_shader shader = own_shader(s, gc);
    sho_shade(&shader, off);
}

SHO_COLD void sho_barrier_log_slow(sho_session *s, uint64_t gc)
{
    sho_shader shader = own_shader(s, gc);
    (void)sho_fault("gc.barrier");
    sho_shade_log(&shader, s->slot);
    (void)sho_fault("gc.barrier_done");
}

/* Are all nodes that the log changes marked? In KILL and SWEEP this is so for all that can be reached. */
static bool writes_are_black(sho_session *s, uint64_t gc)
{
    sho_log_walk walk;
    sho_word *record;
    sho_log_walk_begin(&walk, s->region, s->slot, (sho_log_pos){0});
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        uint64_t first = sho_load(record);
        sho_block block;
        uint64_t header;
        if (SHM_RECORD_TYPE(first) == SHM_RECORD_WRITE &&
            (sho_block_find(s->region, SHM_RECORD_OFF(first), &block, &header) ||
             sho_mark_get(s->region, SHM_GC_CYCLE(gc), block) != SHO_BLACK))
            return false;
    }
    return true;
}

/* What was done or found counts if the phase was still the same afterwards; else it is the next one's turn. */
SHO_COLD bool sho_barrier_commit_slow(sho_session *s, uint64_t gc)
{
    for (;;) {
        bool is_marking = SHM_GC_IS_MARKING(gc);
        if (is_marking)
            sho_barrier_log_slow(s, gc);
        bool alive = is_marking || SHM_GC_PHASE(gc) == SHM_GC_IDLE || writes_are_black(s, gc);
        (void)sho_fault("gc.barrier_looked");
        uint64_t now = sho_gc_word(s);
        if (SHM_GC_CYCLE(now) == SHM_GC_CYCLE(gc) && SHM_GC_PHASE(now) == SHM_GC_PHASE(gc))
            return alive;
        gc = now;
    }
}
