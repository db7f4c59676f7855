/*
 * roots.c: what keeps objects alive: arming, and the scan of the root areas.
 *
 * Arming shades the logs of commits that may have begun before anybody told them of the cycle. Whether such a commit is decided, or
 * is given up, or whether its log changes under our eyes, does not matter: what is shaded for nothing is freed one cycle later.
 *
 * A root area is read while its owner goes on. That is enough because whoever stores a reference into one shades the object himself
 * (gc/README.md, G2): what has come since is known, what has gone since without being stored elsewhere is nobody's. Holds are
 * read before pins, and those before logs: the way that references take from one to the other. Logs are read before `freeing`:
 * a record is wiped only when its block stands there.
 */
#include "gc/cycle.h"

#define CHAIN_MAX (1u << 24)

void sho_cycle_arm(sho_helper *h)
{
    sho_region_barrier(h->region); /* G3; pairs with sho_region_light_barrier() of the barriers */
    for (unsigned i = 0; i < sho_region_slot_count(h->region) && sho_helper_goes_on(h); i++) {
        struct shm_slot *slot = sho_region_slot(h->region, i);
        unsigned phase = SHM_PHASE(sho_load_acquire(&slot->state));
        if (phase != SHM_FREE && phase != SHM_IDLE)
            sho_shade_log(&h->shader, slot);
        (void)sho_fault("gc.armed_slot");
    }
}

/* A block of the library's own, which refers to no values. */
static void keep(sho_helper *h, uint64_t off)
{
    sho_block block;
    uint64_t header;
    if (sho_block_find(h->region, off, &block, &header) == 0)
        sho_mark_raise(h->region, h->shader.cycle, block, SHO_BLACK);
}

static void scan_log_chain(sho_helper *h, struct shm_slot *slot)
{
    uint64_t off = sho_load_acquire(&slot->log_next);
    for (unsigned i = 0; off != 0 && i < CHAIN_MAX; i++) {
        struct shm_log_segment *segment =
            (struct shm_log_segment *)sho_region_at(h->region, off, sizeof(struct shm_log_segment));
        if (segment == NULL || SHM_HEADER_KIND(sho_load_acquire(&segment->header)) != SHM_BOX_LOG)
            return;
        keep(h, off);
        off = sho_load_acquire(&segment->next);
    }
}

static void scan_ids(sho_helper *h, const sho_word *ids, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        sho_shade_object(&h->shader, sho_load_acquire(ids + i));
        if ((i & 1023) == 1023 && !sho_helper_goes_on(h))
            return;
    }
}

bool sho_id_box_read(sho_region *region, uint64_t off, unsigned kind, sho_id_box *ret_box)
{
    uint64_t header;
    if (sho_block_find(region, off, &ret_box->block, &header) || SHM_HEADER_KIND(header) != kind)
        return false;
    const sho_word *words = (const sho_word *)(region->base + off) + 1;
    unsigned count_at = kind == SHM_BOX_PINS; /* behind the next one's place */
    uint64_t room = SHM_BOX_BYTES_OF(header) / 8;
    if (room <= count_at)
        return false;
    ret_box->next = count_at > 0 ? sho_load_acquire(words) : 0;
    uint64_t count = sho_load_acquire(words + count_at);
    room -= count_at + 1;
    ret_box->ids = words + count_at + 1;
    ret_box->count = count < room ? count : room;
    return true;
}

static void scan_id_boxes(sho_helper *h, uint64_t off, unsigned kind)
{
    sho_id_box box;
    for (unsigned i = 0; off != 0 && i < CHAIN_MAX && sho_helper_goes_on(h); i++, off = box.next) {
        if (!sho_id_box_read(h->region, off, kind, &box))
            return;
        sho_mark_raise(h->region, h->shader.cycle, box.block, SHO_BLACK);
        scan_ids(h, box.ids, box.count);
    }
}

void sho_roots_scan_holds(sho_helper *h, struct shm_slot *slot)
{
    uint64_t count = sho_load_acquire(&slot->hold_count);
    scan_ids(h, slot->holds, count < SHM_HOLD_MAX ? count : SHM_HOLD_MAX);
    scan_id_boxes(h, sho_load_acquire(&slot->holds_more), SHM_BOX_HOLDS);
    (void)sho_fault("gc.scanned_holds");
}

static void scan_log(sho_helper *h, struct shm_slot *slot)
{
    scan_log_chain(h, slot);
    sho_shade_log(&h->shader, slot);
    keep(h, sho_load_acquire(&slot->taking));
    keep(h, sho_load_acquire(&slot->freeing));
    (void)sho_fault("gc.scanned_slot");
}

void sho_roots_scan_slot(sho_helper *h, struct shm_slot *slot)
{
    sho_roots_scan_holds(h, slot);
    scan_log(h, slot);
}

void sho_roots_scan_process(sho_helper *h, struct shm_process *process)
{
    scan_id_boxes(h, sho_load_acquire(&process->pins), SHM_BOX_PINS);
    (void)sho_fault("gc.scanned_pins");
}

void sho_cycle_roots(sho_helper *h)
{
    sho_shade_object(&h->shader, h->region->root_oid);
    sho_region_barrier(h->region); /* each helper for itself, before it reads the first: G3 */
    for (unsigned i = 0; i < sho_region_slot_count(h->region) && sho_helper_goes_on(h); i++)
        if (sho_load_acquire(&sho_region_slot(h->region, i)->process) != 0)
            sho_roots_scan_holds(h, sho_region_slot(h->region, i));
    for (unsigned i = 0; i < SHM_PROCESS_MAX && sho_helper_goes_on(h); i++)
        if (sho_process_is_live(h->region, i))
            sho_roots_scan_process(h, sho_region_process(h->region, i));
    for (unsigned i = 0; i < sho_region_slot_count(h->region) && sho_helper_goes_on(h); i++)
        if (sho_load_acquire(&sho_region_slot(h->region, i)->process) != 0)
            scan_log(h, sho_region_slot(h->region, i));
}
