/*
 * deaths.h: what tests that let children die have in common.
 */
#ifndef DEATHS_H
#define DEATHS_H

#include <signal.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "check.h"

/* Runs fn in a child under a plan of faults (fault.h). True if the plan has killed it; what ends by itself must end well. */
static inline bool dies(void (*fn)(void), enum sho_fault_kind kind, uint64_t passage, const char *name)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        sho_fault_plan(kind, passage, name);
        fn();
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status))
        CHECK_INT(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static inline void print_problem(const char *line, void *arg)
{
    (void)arg;
    fprintf(stderr, "%s\n", line);
}

/* What the dead have left is sound. */
static inline void check_sound(shobj_store *store)
{
    uint64_t problems;
    CHECK_INT(shobj_check(store, print_problem, NULL, &problems), 0);
}

#endif
