/*
 * fault.h: makes a test's process die, stop or fail at a chosen fault point.
 *
 * Each call of sho_fault("name") is one passage. A plan names a kind of fault and the number of the passage (counted
 * from 1, over all names or over one) at which it strikes. Plans come from sho_fault_plan() or from the environment:
 * SHOBJ_FAULT=kill:120 | stop:7@commit.locked | fail:1@slab.grow.
 */
#ifndef SHO_FAULT_H
#define SHO_FAULT_H

#include "base/base.h"

#ifdef SHOBJ_FAULTS

enum sho_fault_kind { SHO_FAULT_NONE, SHO_FAULT_KILL, SHO_FAULT_STOP, SHO_FAULT_FAIL, SHO_FAULT_CALL };

/* `name` NULL: every point counts. The string must stay. Resets the count of passages. */
void sho_fault_plan(enum sho_fault_kind kind, uint64_t passage, const char *name);

/* Strikes by calling `call` in the thread that passes: a test lets others run in between. The calls which that makes
 * pass fault points, too. */
void sho_fault_plan_call(void (*call)(void), uint64_t passage, const char *name);

/* Passages since the last plan. */
uint64_t sho_fault_passages(void);

#endif
#endif
