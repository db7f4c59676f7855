/*
 * util.c: clocks, random numbers, failed asserts.
 */
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "base/schedule.h"

#ifdef SHOBJ_DEBUG
void sho_assert_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, what);
    abort();
}
#endif

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int64_t sho_now_ns(void)
{
    return (int64_t)clock_ns(CLOCK_REALTIME);
}

uint64_t sho_monotonic_ns(void)
{
#ifdef SHOBJ_FAULTS
    uint64_t ns;
    if (sho_schedule_now(&ns))
        return ns;
#endif
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t sho_now_coarse_ns(void)
{
    return (int64_t)clock_ns(CLOCK_REALTIME_COARSE);
}

/* SplitMix64 over a per-thread state. */
uint64_t sho_random64(void)
{
#ifdef SHOBJ_FAULTS
    uint64_t drawn;
    if (sho_schedule_random(&drawn))
        return drawn;
#endif
    static _Thread_local uint64_t state;
    if (state == 0 && getrandom(&state, sizeof(state), GRND_NONBLOCK) != (ssize_t)sizeof(state))
        state = clock_ns(CLOCK_MONOTONIC) ^ (uint64_t)(uintptr_t)&state;
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
