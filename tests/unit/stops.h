/*
 * stops.h: a thread that stands still at a fault point while others go on, and a collection that goes on phase by phase.
 */
#ifndef STOPS_H
#define STOPS_H

#include <semaphore.h>

#include "graphs.h"

/* ------------------------------------------------------------------------------------------ one who stands still */

static struct {
    sem_t parked, go;
    pthread_t thread;
    void (*fn)(void);
    bool is_over, was_parked;
} actor;

static _Thread_local bool is_actor;
static const char *actor_point;

static void park(void)
{
    if (!is_actor) { /* another thread of the library's came first: the next time, then */
        sho_fault_plan_call(park, 1, actor_point);
        return;
    }
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    actor.was_parked = true;
    sem_post(&actor.parked);
    sem_wait(&actor.go);
}

static void *act(void *arg)
{
    (void)arg;
    is_actor = true;
    actor.fn();
    shobj_detach(store);
    shobj_detach(store);
    actor.is_over = true;
    sem_post(&actor.parked);
    return NULL;
}

/* Comes back when the thread stands at that point, or has ended without coming to it. */
__attribute__((unused)) static bool start_until(void (*fn)(void), uint64_t passage, const char *point)
{
    sem_init(&actor.parked, 0, 0);
    sem_init(&actor.go, 0, 0);
    actor.fn = fn;
    actor_point = point;
    actor.is_over = actor.was_parked = false;
    sho_fault_plan_call(park, passage, point);
    CHECK(pthread_create(&actor.thread, NULL, act, NULL) == 0);
    sem_wait(&actor.parked);
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    return !actor.is_over;
}

__attribute__((unused)) static void finish_actor(void)
{
    if (!actor.is_over) {
        sem_post(&actor.go);
        sem_wait(&actor.parked);
    }
    pthread_join(actor.thread, NULL);
    CHECK(actor.is_over);
}

/* ------------------------------------------------------------------------------------------ phase by phase */

/* Moves the collection on by one phase; from IDLE a new one begins. */
static void one_phase(sho_helper *h)
{
    sho_region *region = h->region;
    h->gc = sho_load_acquire(&region->sb->gc);
    h->shader = (sho_shader){.region = region, .slot = h->s->slot, .cycle = SHM_GC_CYCLE(h->gc)};
    h->stack_count = h->scanned_count = 0;
    h->pass_done = 0;
    unsigned phase = SHM_GC_PHASE(h->gc);
    switch (phase) {
    case SHM_GC_IDLE:
        sho_cycle_begin(region);
        return;
    case SHM_GC_ARM:
        sho_cycle_arm(h);
        break;
    case SHM_GC_ROOTS:
        sho_cycle_roots(h);
        break;
    case SHM_GC_MARK:
        CHECK(sho_cycle_mark(h));
        break;
    case SHM_GC_KILL:
        CHECK(sho_cycle_kill(h));
        break;
    default:
        sho_cycle_help(h); /* to the end */
        return;
    }
    CHECK(sho_cas(&region->sb->gc, h->gc, SHM_GC(SHM_GC_CYCLE(h->gc), 0, phase + 1)));
}

static unsigned phases_wanted;

static void *some_phases(void *arg)
{
    sho_helper h;
    (void)arg;
    CHECK_INT(sho_helper_init(&h, store, NULL), 0);
    for (unsigned i = 0; i < phases_wanted; i++)
        one_phase(&h);
    sho_helper_fini(&h);
    shobj_detach(store);
    shobj_detach(store);
    return NULL;
}

__attribute__((unused)) static void go_on(unsigned phases)
{
    pthread_t thread;
    phases_wanted = phases;
    CHECK(pthread_create(&thread, NULL, some_phases, NULL) == 0);
    pthread_join(thread, NULL);
}

__attribute__((unused)) static void finish_cycle(void)
{
    while (SHM_GC_PHASE(sho_load(&store->region->sb->gc)) != SHM_GC_IDLE)
        go_on(1);
}

#endif
