/*
 * log.c: a session's log in the heap: what recovery needs to finish or undo it.
 *
 * Records (layout.h) are appended by the owner alone. A record counts once log_end covers it; log_end is one word, so a
 * crash leaves whole records. The log is empty when no attempt is under way: a slot that is IDLE with a log holds what an
 * uncommitted transaction took.
 *
 * Freeing what a log names is not atomic with the log, so each record is wiped before its block is freed: a crash in
 * between loses that block to the next collection, and nothing is freed twice. `slot.freeing` names it meanwhile, so that
 * a collection leaves it to us, and the recoverer can leave word of it in its slab. A node's header says FREE only then (slab_sweep.c looks for lost blocks by that).
 *
 * Others read a log only to find the base version of a lock (wait.c) and to recover (recover.c). They take nothing in it
 * for granted: the chain is bounded, records are bounded by their segment.
 */
#include "txn/session.h"

#define SEGMENT_PAYLOAD_SMALL (8192u - 8u)
#define SEGMENT_PAYLOAD_LARGE (1u << 20)
#define SEGMENT_PAYLOAD_RESERVED (SHM_SLAB_BYTES - 8u)
#define SEGMENT_HEAD_BYTES ((uint32_t)offsetof(struct shm_log_segment, records))
#define SEGMENTS_MAX (1u << 24)

static uint64_t pack(sho_log_pos pos)
{
    return (uint64_t)pos.segment << 32 | pos.used;
}

static sho_log_pos unpack(uint64_t word)
{
    return (sho_log_pos){.segment = (uint32_t)(word >> 32), .used = (uint32_t)word};
}

/* The segment at an offset from the chain, or NULL if that is nonsense. */
static struct shm_log_segment *segment_at(sho_region *region, uint64_t off, uint32_t *ret_bytes)
{
    sho_word *words = sho_region_at(region, off, sizeof(struct shm_log_segment));
    if (words == NULL)
        return NULL;
    struct shm_log_segment *segment = (struct shm_log_segment *)words;
    uint64_t bytes = sho_load(&segment->bytes);
    if (SHM_HEADER_KIND(sho_load_acquire(&segment->header)) != SHM_BOX_LOG || bytes > 2 * SEGMENT_PAYLOAD_LARGE ||
        sho_region_at(region, off, SEGMENT_HEAD_BYTES + bytes) == NULL)
        return NULL;
    *ret_bytes = (uint32_t)bytes;
    return segment;
}

/* Segment `index` of the chain; its link word too, where a further one would be appended. */
static sho_word *segment_seek(sho_region *region, struct shm_slot *slot, uint32_t index, uint32_t *ret_bytes)
{
    if (index == 0) {
        *ret_bytes = SHM_LOG_INLINE_BYTES;
        return slot->log;
    }
    uint64_t off = sho_load(&slot->log_next);
    for (uint32_t i = 1; i < SEGMENTS_MAX; i++) {
        struct shm_log_segment *segment = segment_at(region, off, ret_bytes);
        if (segment == NULL)
            return NULL;
        if (i == index)
            return segment->records;
        off = sho_load(&segment->next);
    }
    return NULL;
}

static sho_word *segment_link(sho_session *s, uint32_t index)
{
    if (index == 0)
        return &s->slot->log_next;
    sho_word *records = s->segment_index == index ? s->segment_records : NULL;
    uint32_t bytes;
    if (records == NULL)
        records = segment_seek(s->region, s->slot, index, &bytes);
    if (records == NULL)
        return NULL;
    struct shm_log_segment *segment =
        (struct shm_log_segment *)((uint8_t *)records - offsetof(struct shm_log_segment, records));
    return &segment->next;
}

static int segment_append(sho_session *s, sho_word *link)
{
    uint64_t off;
    uint32_t payload = s->log.segment >= 2 ? SEGMENT_PAYLOAD_LARGE : SEGMENT_PAYLOAD_SMALL;
    /* A block that is to be named in the segment may be in transit itself; its header is not written yet. */
    uint64_t taking = sho_load(&s->slot->taking);
    uint64_t gc_seen = s->heap.gc_seen;
    int rc = sho_heap_take_box(&s->heap, payload, &off);
    if (rc == SHOBJ_EFULL && payload != SEGMENT_PAYLOAD_SMALL) {
        payload = SEGMENT_PAYLOAD_SMALL;
        rc = sho_heap_take_box(&s->heap, payload, &off);
    }
    if (rc == SHOBJ_EFULL) {
        payload = SEGMENT_PAYLOAD_RESERVED;
        rc = sho_heap_take_reserved(&s->heap, &off);
        s->log_reserved |= rc == 0;
    }
    if (rc)
        return rc;
    (void)sho_fault("log.segment");
    struct shm_log_segment *segment = (struct shm_log_segment *)(s->region->base + off);
    sho_store(&segment->next, 0);
    sho_store(&segment->bytes, (payload - (SEGMENT_HEAD_BYTES - 8)) & ~7u);
    sho_store_release(&segment->header, SHM_BOX_HEADER(SHM_BOX_LOG, 0, payload));
    sho_store_release(link, off);
    sho_heap_taken(&s->heap, off);
    s->heap.gc_seen = gc_seen;
    sho_store_release(&s->slot->taking, taking);
    return 0;
}

/* Goes on in the next segment; the rest of this one becomes padding. */
static SHO_COLD int segment_advance(sho_session *s)
{
    sho_word *link = segment_link(s, s->log.segment);
    if (link == NULL)
        return SHOBJ_ECORRUPT;
    if (sho_load(link) == 0) {
        int rc = segment_append(s, link);
        if (rc)
            return rc;
    }
    uint32_t bytes;
    struct shm_log_segment *segment = segment_at(s->region, sho_load(link), &bytes);
    if (segment == NULL)
        return SHOBJ_ECORRUPT;
    for (uint32_t i = s->log.used / 8; i < s->segment_bytes / 8; i++)
        sho_store(s->segment_records + i, 0);
    s->log = (sho_log_pos){.segment = s->log.segment + 1, .used = 0};
    s->segment_index = s->log.segment;
    s->segment_records = segment->records;
    s->segment_bytes = bytes;
    return 0;
}

int sho_log_reserve(sho_session *s, unsigned words, sho_word **ret_record)
{
    if (SHO_UNLIKELY(s->segment_index != s->log.segment || s->segment_records == NULL)) {
        s->segment_index = s->log.segment;
        s->segment_records = segment_seek(s->region, s->slot, s->log.segment, &s->segment_bytes);
        if (s->segment_records == NULL)
            return SHOBJ_ECORRUPT;
    }
    while (SHO_UNLIKELY(s->log.used + words * 8 > s->segment_bytes)) {
        int rc = segment_advance(s);
        if (rc)
            return rc;
    }
    *ret_record = s->segment_records + s->log.used / 8;
    return 0;
}

void sho_log_publish(sho_session *s, unsigned words)
{
    s->log.used += words * 8;
    /* Release: a record is whole before log_end covers it; pairs with the acquire in sho_log_walk_begin. */
    sho_store_release(&s->slot->log_end, pack(s->log));
    (void)sho_fault("log.append");
}

void sho_log_truncate(sho_session *s, sho_log_pos end)
{
    s->log = end;
    sho_store_release(&s->slot->log_end, pack(end));
}

/* Gives the segments back that a link leads to. */
static SHO_COLD void segments_give(sho_session *s, sho_word *link)
{
    uint64_t off;
    uint32_t bytes;
    struct shm_log_segment *segment;
    while ((off = sho_load(link)) != 0 && (segment = segment_at(s->region, off, &bytes)) != NULL) {
        sho_heap_freeing(&s->heap, off);
        sho_store_release(link, sho_load(&segment->next));
        sho_heap_give(&s->heap, off);
    }
    sho_store(link, 0);
}

void sho_log_reset(sho_session *s)
{
    uint32_t segment = s->log.segment;
    s->log = (sho_log_pos){0};
    s->write_count = 0;
    s->new_count = 0;
    s->free_count = 0;
    sho_store_release(&s->slot->log_end, 0);
    if (SHO_UNLIKELY(segment != 0 || s->log_reserved)) {
        s->segment_records = NULL;
        sho_word *link = s->log_reserved ? &s->slot->log_next : segment >= 2 ? segment_link(s, 1) : NULL;
        if (link != NULL)
            segments_give(s, link); /* one is kept, for the next transaction like this one */
        s->log_reserved = false;
    }
}

void sho_log_close(sho_session *s)
{
    if (sho_load(&s->slot->log_next) != 0)
        segments_give(s, &s->slot->log_next);
}

/* ------------------------------------------------------------------------------------------ walking */

void sho_log_walk_begin(sho_log_walk *walk, sho_region *region, struct shm_slot *slot, sho_log_pos from)
{
    *walk = (sho_log_walk){
        .region = region,
        .slot = slot,
        .at = from,
        .end = unpack(sho_load_acquire(&slot->log_end)),
    };
}

static unsigned record_words(uint64_t first)
{
    if (SHM_RECORD_TYPE(first) != SHM_RECORD_WRITE)
        return 1;
    return 3 + SHM_RECORD_WORDS(first);
}

sho_word *sho_log_walk_next(sho_log_walk *walk)
{
    for (;;) {
        if (walk->at.segment > walk->end.segment)
            return NULL;
        if (walk->records == NULL) {
            walk->records = segment_seek(walk->region, walk->slot, walk->at.segment, &walk->bytes);
            if (walk->records == NULL)
                return NULL;
            if (walk->at.segment == walk->end.segment && walk->end.used < walk->bytes)
                walk->bytes = walk->end.used;
        }
        if (walk->at.used + 8 > walk->bytes) {
            walk->at = (sho_log_pos){.segment = walk->at.segment + 1, .used = 0};
            walk->records = NULL;
            continue;
        }
        sho_word *record = walk->records + walk->at.used / 8;
        uint64_t first = sho_load(record);
        unsigned words = record_words(first);
        if (walk->at.used + words * 8 > walk->bytes)
            return NULL;
        walk->at.used += words * 8;
        if (SHM_RECORD_TYPE(first) != SHM_RECORD_NONE)
            return record;
    }
}

static void free_block(sho_heap *heap, sho_region *region, uint64_t off)
{
    sho_slab_info info;
    unsigned index;
    if (sho_slab_find(region, off, &info, &index)) {
        sho_store_release(&heap->slot->freeing, 0);
        return;
    }
    if (info.kind == SHM_SLAB_NODES) {
        struct shm_node *node = (struct shm_node *)(region->base + off);
        uint64_t header = sho_load(&node->header);
        sho_store(&node->header, header & ~0xffULL); /* kind FREE; birth and size stay */
    }
    (void)sho_fault("block.free");
    sho_heap_give(heap, off);
    sho_store_release(&heap->slot->freeing, 0); /* also where it was none */
    (void)sho_fault("block.freed");
}

void sho_log_free_blocks(sho_heap *heap, sho_region *region, struct shm_slot *slot, sho_log_pos from, bool committed)
{
    sho_log_walk walk;
    sho_word *record;
    sho_log_walk_begin(&walk, region, slot, from);
    while ((record = sho_log_walk_next(&walk)) != NULL) {
        uint64_t first = sho_load(record);
        unsigned type = SHM_RECORD_TYPE(first);
        if (type == SHM_RECORD_WRITE) {
            struct shm_write *write = (struct shm_write *)record;
            uint64_t base = sho_load(&write->base);
            if (!committed || !(base & SHM_WRITE_FREES))
                continue;
            sho_heap_freeing(heap, SHM_RECORD_OFF(first));
            sho_store_release(&write->base, base & ~SHM_WRITE_FREES);
        } else {
            bool due = type == SHM_RECORD_DROPPED || type == (committed ? SHM_RECORD_FREE : SHM_RECORD_ALLOC);
            if (!due)
                continue;
            sho_heap_freeing(heap, SHM_RECORD_OFF(first));
            sho_store_release(record, SHM_RECORD_NONE);
        }
        free_block(heap, region, SHM_RECORD_OFF(first));
    }
}
