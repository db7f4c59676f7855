/*
 * schedule.h: threads that take turns as a seed says, so that a run can be had again exactly.
 *
 * In a test, threads join a schedule. From then on one of them runs at a time; at each fault point, pause and sleep it may
 * have to hand over to another, drawn from the seed. Sleeps end when they are woken or when time has passed; time
 * is virtual: it goes on a little at each step, and jumps when all sleep. What a thread does between two steps depends on
 * nothing else, so a seed that fails fails again.
 */
#ifndef SHO_SCHEDULE_H
#define SHO_SCHEDULE_H

#include "base/base.h"

#ifdef SHOBJ_FAULTS

/* A schedule for threads 0 .. count - 1, which begins when all have joined. */
void sho_schedule_begin(uint64_t seed, unsigned count);
/* The calling thread takes part as `number`; comes back with its first turn. Threads join in the order of their numbers. */
void sho_schedule_join(unsigned number);
/* Until so many have joined. */
void sho_schedule_await(unsigned joined);
void sho_schedule_leave(void);

typedef struct sho_schedule_result {
    uint64_t trace;    /* a hash of all steps: who, and where */
    uint64_t steps;
    uint64_t switches;
    uint64_t now_ns;   /* virtual */
} sho_schedule_result;
/* When all have left. */
sho_schedule_result sho_schedule_end(void);

/* The library's side; each does nothing, and says so, in a thread that takes no part. */
bool sho_schedule_step(const char *name);
/* Sleeps ns of virtual time, or (word not NULL) until the low half of *word is not `seen`. */
bool sho_schedule_sleep(const sho_word *word, uint32_t seen, uint64_t ns);
bool sho_schedule_now(uint64_t *ret_ns);
bool sho_schedule_random(uint64_t *ret_random);

#endif
#endif
