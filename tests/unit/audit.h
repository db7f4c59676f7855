/*
 * audit.h: does a heap that nobody works on hold exactly what is reachable? The roots are the root dict, pins, holds and logs, as the
 * session slots and process records say; the library's own boxes must hang on one of them. Each block of a slab is live or free, and
 * what is free is on a list, but for the lost ones of slabs that know of it.
 */
#ifndef AUDIT_H
#define AUDIT_H

#include "check.h"
#include "gc/cycle.h"
#include "heap/slab_inner.h"
#include "types/trace.h"

typedef struct audit {
    sho_region *region;
    uint8_t *seen;       /* a bit for each 8 bytes of the file */
    uint64_t *stack;
    size_t count, room;
    uint64_t reachable;  /* blocks: values and objects */
    uint64_t own;        /* of the library: logs, pins, holds */
    uint64_t dangling;   /* references to what is no block in use */
    uint64_t leaked;     /* blocks in use that nothing leads to */
    uint64_t lost;       /* free ones on no list, of slabs that know of it and have no owner */
    uint64_t lost_owned; /* the same of slabs that have: he looks for them when nothing else is left there */
    uint64_t miscounted; /* the same where nobody knows of it */
    uint64_t first_leaked, first_dangling;
    unsigned leaked_kind;
} audit;

static bool audit_mark(audit *a, uint64_t off)
{
    uint8_t bit = (uint8_t)(1u << (off >> 3 & 7));
    if (a->seen[off >> 6] & bit)
        return false;
    a->seen[off >> 6] |= bit;
    return true;
}

static void audit_visit(void *arg, uint64_t off)
{
    audit *a = arg;
    sho_block block;
    uint64_t header;
    if (sho_block_find(a->region, off, &block, &header)) {
        a->dangling++;
        a->first_dangling = off;
        return;
    }
    if (!audit_mark(a, off))
        return;
    a->reachable++;
    if (a->count == a->room) {
        a->room = a->room * 2 + 1024;
        a->stack = realloc(a->stack, a->room * sizeof(*a->stack));
        CHECK(a->stack != NULL);
    }
    a->stack[a->count++] = off;
}

static void audit_object(audit *a, shobj_oid oid)
{
    if (oid == 0)
        return;
    const struct shm_node *node = (struct shm_node *)(a->region->base + SHM_OID_OFF(oid));
    uint64_t header = sho_load(&node->header);
    if (SHM_KIND_IS_OBJECT(SHM_HEADER_KIND(header)) && (SHM_NODE_BIRTH(header) & 0xfffff) == SHM_OID_BIRTH(oid)) {
        audit_visit(a, SHM_OID_OFF(oid));
    } else {
        a->dangling++;
        a->first_dangling = SHM_OID_OFF(oid);
    }
}

static void audit_own(audit *a, uint64_t off, unsigned kind)
{
    sho_block block;
    uint64_t header;
    if (sho_block_find(a->region, off, &block, &header) || SHM_HEADER_KIND(header) != kind) {
        a->dangling++;
        a->first_dangling = off;
    } else if (audit_mark(a, off)) {
        a->own++;
    }
}

static void audit_record(audit *a, const sho_word *record)
{
    uint64_t first = sho_load(record), off = SHM_RECORD_OFF(first);
    uint64_t header, words[SHM_NODE_WORDS_MAX];
    sho_block block;
    if (SHM_RECORD_TYPE(first) != SHM_RECORD_WRITE) {
        audit_visit(a, off);
        return;
    }
    const struct shm_write *write = (const struct shm_write *)record;
    if (sho_block_find(a->region, off, &block, &header) || !block.is_node)
        return;
    for (unsigned i = 0; i < SHM_NODE_WORDS(header) && i < SHM_RECORD_WORDS(first); i++)
        words[i] = sho_load(&write->words[i]);
    if (SHM_RECORD_WORDS(first) != 0)
        sho_node_trace(header, words, sho_load(&write->mask), audit_visit, a);
}

static void audit_roots(audit *a)
{
    sho_region *region = a->region;
    audit_object(a, region->root_oid);
    for (unsigned i = 0; i < SHM_PROCESS_MAX; i++) {
        if (!sho_process_is_live(region, i))
            continue;
        for (uint64_t off = sho_load(&sho_region_process(region, i)->pins); off != 0;) {
            const struct shm_pins *pins = (struct shm_pins *)(region->base + off);
            audit_own(a, off, SHM_BOX_PINS);
            for (uint64_t k = 0; k < sho_load(&pins->count); k++)
                audit_object(a, sho_load(&pins->ids[k]));
            off = sho_load(&pins->next);
        }
    }
    for (unsigned i = 0; i < sho_region_slot_count(region); i++) {
        struct shm_slot *slot = sho_region_slot(region, i);
        sho_log_walk walk;
        sho_word *record;
        uint64_t more = sho_load(&slot->holds_more);
        if (sho_load(&slot->process) == 0)
            continue;
        for (uint64_t k = 0; k < sho_load(&slot->hold_count); k++)
            audit_object(a, sho_load(&slot->holds[k]));
        if (more != 0) {
            const sho_word *words = (const sho_word *)(region->base + more);
            audit_own(a, more, SHM_BOX_HOLDS);
            for (uint64_t k = 0; k < sho_load(words + 1); k++)
                audit_object(a, sho_load(words + 2 + k));
        }
        for (uint64_t off = sho_load(&slot->log_next); off != 0;) {
            audit_own(a, off, SHM_BOX_LOG);
            off = sho_load(&((struct shm_log_segment *)(region->base + off))->next);
        }
        sho_log_walk_begin(&walk, region, slot, (sho_log_pos){0});
        while ((record = sho_log_walk_next(&walk)) != NULL)
            audit_record(a, record);
    }
}

static void audit_trace(audit *a)
{
    while (a->count > 0) {
        uint64_t off = a->stack[--a->count];
        sho_block block;
        uint64_t header, words[SHM_NODE_WORDS_MAX];
        const sho_word *at = (const sho_word *)(a->region->base + off);
        if (sho_block_find(a->region, off, &block, &header))
            continue;
        if (!block.is_node) {
            sho_box_trace(header, at + 1, audit_visit, a);
            continue;
        }
        for (unsigned i = 0; i < SHM_NODE_WORDS(header) && i < SHM_NODE_WORDS_MAX; i++)
            words[i] = sho_load(at + 2 + i);
        sho_node_trace(header, words, UINT64_MAX, audit_visit, a);
    }
}

static void audit_slab(audit *a, uint64_t slab)
{
    sho_slab_info info;
    const struct shm_slab *d = sho_region_slab(a->region, slab);
    unsigned used = 0;
    CHECK_INT(sho_slab_info_get(a->region, slab, &info), 0);
    if (info.kind != SHM_SLAB_NODES && info.kind != SHM_SLAB_BOXES && info.kind != SHM_SLAB_RUN)
        return;
    for (unsigned i = 0; i < info.block_count; i++) {
        uint64_t off = (slab << SHM_SLAB_SHIFT) + (uint64_t)i * info.block_bytes;
        uint64_t header = sho_load((const sho_word *)(a->region->base + off) + (info.kind == SHM_SLAB_NODES));
        if ((info.kind != SHM_SLAB_RUN && i >= info.fresh_from) || SHM_HEADER_KIND(header) == SHM_KIND_FREE)
            continue;
        used++;
        if (!(a->seen[off >> 6] >> (off >> 3 & 7) & 1)) {
            a->leaked++;
            a->first_leaked = off;
            a->leaked_kind = SHM_HEADER_KIND(header);
        }
    }
    if (info.kind == SHM_SLAB_RUN) {
        a->miscounted += used == 0; /* a run is live, or it is none */
        return;
    }
    CHECK(used + info.free_count <= info.block_count);
    *(sho_load(&d->lost) == 0 ? &a->miscounted : info.owner == 0 ? &a->lost : &a->lost_owned) +=
        info.block_count - used - info.free_count;
}

__attribute__((unused)) static audit audit_heap(shobj_store *store)
{
    audit a = {.region = store->region};
    uint64_t slabs = sho_region_slab_count(a.region);
    a.seen = calloc(slabs, SHM_SLAB_BYTES / 64);
    CHECK(a.seen != NULL);
    audit_roots(&a);
    audit_trace(&a);
    for (uint64_t i = a.region->data_off >> SHM_SLAB_SHIFT; i < slabs; i++)
        audit_slab(&a, i);
    free(a.seen);
    free(a.stack);
    return a;
}

__attribute__((unused)) static void audit_report(const char *line, void *arg)
{
    (void)arg;
    fprintf(stderr, "  check: %s\n", line);
}

/* Nothing reachable is free, nothing unreachable is in use, no block is lost. `reachable` blocks, if not 0. */
#define AUDIT(store, expected) audit_check(__FILE__, __LINE__, store, expected)
__attribute__((unused)) static audit audit_check(const char *file, int line, shobj_store *store, uint64_t expected)
{
    audit a = audit_heap(store);
    uint64_t problems = 0;
    int rc = shobj_check(store, audit_report, NULL, &problems);
    if (a.dangling + a.leaked + a.miscounted == 0 && rc == 0 && (expected == 0 || a.reachable == expected))
        return a;
    char text[400];
    snprintf(text, sizeof(text),
             "%" PRIu64 " blocks are reachable (expected %" PRIu64 "), %" PRIu64 " references dangle (to %" PRIx64 "), %" PRIu64
             " blocks leak (%" PRIx64 ", kind %u), %" PRIu64 " are on no list, the check finds %" PRIu64,
             a.reachable, expected, a.dangling, a.first_dangling, a.leaked, a.first_leaked, a.leaked_kind, a.miscounted, problems);
    check_failed(file, line, text);
}

#endif
