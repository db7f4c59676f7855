/*
 * slab_stack.c: the stacks of partial slabs, one a class, and slabs that are on their way to one or from it.
 *
 * Each head is one word: slab + 1 and a tag that every change counts up; `next` in the descriptors leads on. A slab that is to be
 * taken from has the flag LISTED and no owner, and is on the stack of its class: or between the two words, in the hands of
 * one session. What it holds so it says in its slot, so that the death of its process loses no slab:
 *
 *   slot.listing   one slab, named before it leaves where it was, until it is where it belongs
 *   slot.kept      a chain of slabs by `next`, popped while empty ones were looked for; first named in `listing`, put
 *                  on the chain, then not named any more; and the other way round
 *
 * Who finds such a name in the slot of a dead one (sho_slab_settle) must find out whether the slab is on its stack, beside others
 * who push and pop. sho_slab_relist looks, in this order, at
 *   1 `remote`: LISTED, or OWNED though there is no owner
 *   2 the slots of all: nobody else holds it. Who made it what 1 says had named it before; so if he is done, he was before 3
 *   3 the stack, from its head on, and the head again: the same, tag and all, so that what lies between was the stack at one
 *     instant. The slab was not on it
 *   4 the slots of all once more: who popped it before 3 has named it, or has changed `remote` since
 *   5 `remote`: swapped from exactly what 1 found to OWNED. Nobody has had it in between, and from here on nobody else has it
 * and then lists it as its last owner would have. Where somebody else holds it, that one takes care of it; if he is dead, too, and
 * being recovered this moment, both leave it to the other. So a slab for which 2 to 5 fail is marked as astray
 * (SHM_LOST_PLACE), and the next sweep looks again.
 */
#include "heap/slab_inner.h"

#define RELIST_TRIES 64

static sho_word *stack_of(const sho_region *region, unsigned cls)
{
    return (sho_word *)(region->base + SHM_PARTIAL_OFF) + cls;
}

uint64_t sho_slab_stack_head(const sho_region *region, unsigned cls)
{
    return sho_load_acquire(stack_of(region, cls));
}

void sho_slab_push(sho_region *region, unsigned cls, uint64_t slab)
{
    sho_word *stack = stack_of(region, cls);
    struct shm_slab *d = sho_region_slab(region, slab);
    uint64_t head = sho_load(stack);
    do {
        sho_store(&d->next, STACK_SLAB(head));
        /* Release: `next` before the head that leads to it; pairs with the acquire in sho_slab_pop. */
    } while (!atomic_compare_exchange_weak_explicit(stack, &head, STACK(slab + 1, STACK_TAG(head) + 1),
                                                    memory_order_release, memory_order_relaxed));
}

uint32_t sho_slab_pop(sho_region *region, struct shm_slot *slot, unsigned cls)
{
    sho_word *stack = stack_of(region, cls);
    uint64_t head = sho_load_acquire(stack);
    for (;;) {
        uint32_t slab = STACK_SLAB(head);
        sho_store(&slot->listing, slab);
        if (slab == 0)
            return 0;
        if (slab > sho_region_slab_count(region)) {
            sho_cas(stack, head, STACK(0, STACK_TAG(head) + 1)); /* damaged: drop the stack */
            sho_store(&slot->listing, 0);
            return 0;
        }
        uint32_t next = (uint32_t)sho_load(&sho_region_slab(region, slab - 1)->next);
        /* Release: the name before the slab is off; pairs with the acquire of the head in sho_slab_relist (3, 4). */
        if (atomic_compare_exchange_weak_explicit(stack, &head, STACK(next, STACK_TAG(head) + 1), memory_order_acq_rel,
                                                  memory_order_acquire))
            return slab;
    }
}

void sho_slab_drop_stack(sho_region *region, unsigned cls)
{
    sho_word *stack = stack_of(region, cls);
    sho_store(stack, STACK(0, STACK_TAG(sho_load(stack)) + 1));
}

/* ------------------------------------------------------------------------------------------ chains */

void sho_slab_keep(sho_region *region, struct shm_slot *slot, uint64_t slab)
{
    sho_store(&sho_region_slab(region, slab)->next, sho_load(&slot->kept));
    sho_store_release(&slot->kept, slab + 1);
    (void)sho_fault("slab.kept");
    sho_store_release(&slot->listing, 0);
}

/* The first of the chain, which `listing` names, leaves it for its stack. */
static void put_first_back(sho_region *region, struct shm_slot *slot, uint64_t slab)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    sho_store_release(&slot->kept, (uint32_t)sho_load(&d->next));
    (void)sho_fault("slab.unkept");
    sho_slab_push(region, SHM_SLAB_CLASS(sho_load(&d->state)), slab);
    (void)sho_fault("slab.put_back");
    sho_store_release(&slot->listing, 0);
}

/* A slab that a word of a slot names: partial by its descriptor, and nobody's. */
static bool is_partial(sho_region *region, uint64_t named)
{
    if (named == 0 || named > sho_region_slab_count(region) || named <= region->data_off >> SHM_SLAB_SHIFT)
        return false;
    uint64_t state = sho_load_acquire(&sho_region_slab(region, named - 1)->state);
    return SHM_SLAB_OWNER(state) == 0 && sho_slab_has_blocks(region, named - 1, state);
}

void sho_slab_put_back(sho_region *region, struct shm_slot *slot)
{
    uint64_t left = sho_region_slab_count(region);
    for (uint64_t named; (named = sho_load(&slot->kept)) != 0 && left > 0; left--) {
        if (!is_partial(region, named))
            break; /* damaged */
        sho_store_release(&slot->listing, named);
        put_first_back(region, slot, named - 1);
    }
    sho_store(&slot->kept, 0);
}

/* ------------------------------------------------------------------------------------------ astray */

static bool others_hold(const sho_region *region, const struct shm_slot *slot, uint64_t slab)
{
    unsigned count = sho_region_slot_count(region);
    for (unsigned i = 0; i < count; i++) {
        const struct shm_slot *other = sho_region_slot(region, i);
        /* On whose chain it is, if there is one, can't be told from outside. */
        if (other != slot && (sho_load_acquire(&other->listing) == slab + 1 || sho_load_acquire(&other->kept) != 0))
            return true;
    }
    return false;
}

/* 1: on the stack, 0: not, -1: it has changed meanwhile. */
static int is_on_stack(sho_region *region, unsigned cls, uint64_t slab)
{
    uint64_t head = sho_slab_stack_head(region, cls);
    uint64_t end = sho_region_slab_count(region);
    uint64_t left = end;
    for (uint32_t at = STACK_SLAB(head); at != 0 && at <= end && left > 0; left--) {
        if (at == slab + 1)
            return sho_slab_stack_head(region, cls) == head ? 1 : -1;
        at = (uint32_t)sho_load_acquire(&sho_region_slab(region, at - 1)->next);
    }
    sho_fence_acquire();
    return sho_slab_stack_head(region, cls) == head ? 0 : -1;
}

bool sho_slab_relist(sho_region *region, struct shm_slot *slot, uint64_t slab)
{
    struct shm_slab *d = sho_region_slab(region, slab);
    for (unsigned try = 0; try < RELIST_TRIES; try++) {
        uint64_t remote = sho_load_acquire(&d->remote);
        if (!is_partial(region, slab + 1) || REMOTE_FLAG(remote) == SHM_REMOTE_UNLISTED)
            return true;
        if (others_hold(region, slot, slab))
            return false;
        int on_stack = is_on_stack(region, SHM_SLAB_CLASS(sho_load(&d->state)), slab);
        if (on_stack > 0)
            return true;
        if (others_hold(region, slot, slab))
            return false;
        if (on_stack < 0 || !is_partial(region, slab + 1))
            continue;
        if (sho_cas(&d->remote, remote,
                    REMOTE(REMOTE_HEAD(remote), REMOTE_COUNT(remote), SHM_REMOTE_OWNED, REMOTE_TAG(remote) + 1))) {
            (void)sho_fault("slab.relist");
            sho_slab_abandon(region, slot, slab);
            return true;
        }
    }
    return false;
}

void sho_slab_settle(sho_region *region, struct shm_slot *slot)
{
    uint64_t named = sho_load_acquire(&slot->listing);
    if (is_partial(region, named)) {
        if (named == sho_load_acquire(&slot->kept))
            put_first_back(region, slot, named - 1);
        else if (!sho_slab_relist(region, slot, named - 1))
            atomic_fetch_or(&sho_region_slab(region, named - 1)->lost, SHM_LOST_PLACE);
    }
    sho_store_release(&slot->listing, 0);
    sho_slab_put_back(region, slot);
}

/* ------------------------------------------------------------------------------------------ looking */

const char *sho_slab_stack_check(sho_region *region, unsigned cls, uint64_t *ret_slab)
{
    uint64_t end = sho_region_slab_count(region);
    uint64_t left = end;
    for (uint32_t at = STACK_SLAB(sho_slab_stack_head(region, cls)); at != 0; left--) {
        *ret_slab = at - 1;
        if (at > end || at <= region->data_off >> SHM_SLAB_SHIFT)
            return "on the stack of a class, and none of the slabs";
        if (left == 0)
            return "the stack of its class goes in a ring";
        struct shm_slab *d = sho_region_slab(region, at - 1);
        uint64_t state = sho_load_acquire(&d->state);
        if (!sho_slab_has_blocks(region, at - 1, state) || SHM_SLAB_CLASS(state) != cls)
            return "on the stack of a class that it is not of";
        if (SHM_SLAB_OWNER(state) != 0 || REMOTE_FLAG(sho_load_acquire(&d->remote)) != SHM_REMOTE_LISTED)
            return "on the stack of its class, and says that it is not";
        at = (uint32_t)sho_load(&d->next);
    }
    return NULL;
}
