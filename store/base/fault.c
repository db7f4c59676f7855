/*
 * fault.c: see fault.h.
 */
#include "base/fault.h"

#include "base/schedule.h"

#ifdef SHOBJ_FAULTS

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    enum sho_fault_kind kind;
    uint64_t passage;
    const char *name;
    void (*call)(void);
    _Atomic uint64_t count;
} plan;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_environment(void)
{
    const char *text = getenv("SHOBJ_FAULT");
    if (text == NULL)
        return;
    static char name[64];
    char kind[16];
    unsigned long long passage = 0;
    int fields = sscanf(text, "%15[^:]:%llu@%63s", kind, &passage, name);
    if (fields < 2)
        return;
    enum sho_fault_kind k = strcmp(kind, "kill") == 0   ? SHO_FAULT_KILL
                            : strcmp(kind, "stop") == 0 ? SHO_FAULT_STOP
                            : strcmp(kind, "fail") == 0 ? SHO_FAULT_FAIL
                                                        : SHO_FAULT_NONE;
    plan.kind = k;
    plan.passage = passage;
    plan.name = fields == 3 ? name : NULL;
}

void sho_fault_plan(enum sho_fault_kind kind, uint64_t passage, const char *name)
{
    pthread_once(&once, read_environment);
    plan.kind = kind;
    plan.passage = passage;
    plan.name = name;
    atomic_store(&plan.count, 0);
}

void sho_fault_plan_call(void (*call)(void), uint64_t passage, const char *name)
{
    sho_fault_plan(SHO_FAULT_NONE, passage, name);
    plan.call = call;
    plan.kind = SHO_FAULT_CALL;
}

uint64_t sho_fault_passages(void)
{
    return atomic_load(&plan.count);
}

bool sho_fault_hit(const char *name)
{
    if (sho_schedule_step(name))
        return false;
    pthread_once(&once, read_environment);
    if (plan.name != NULL && strcmp(plan.name, name) != 0)
        return false;
    if (atomic_fetch_add(&plan.count, 1) + 1 != plan.passage)
        return false;
    switch (plan.kind) {
    case SHO_FAULT_KILL:
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    case SHO_FAULT_STOP:
        raise(SIGSTOP);
        return false;
    case SHO_FAULT_FAIL:
        return true;
    case SHO_FAULT_CALL:
        plan.call();
        return false;
    case SHO_FAULT_NONE:
        break;
    }
    return false;
}

#endif
