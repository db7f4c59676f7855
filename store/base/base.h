/*
 * base.h: what every file of the library may use: compiler helpers, asserts, relaxed word access, fault points.
 */
#ifndef SHO_BASE_H
#define SHO_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <shobj.h>

#define SHO_LIKELY(x) __builtin_expect(!!(x), 1)
#define SHO_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SHO_COLD __attribute__((cold, noinline))
#define SHO_INLINE static inline __attribute__((always_inline))
#define SHO_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* A broken SHO_ASSERT is a bug of ours: stop where it is. Never used on words that another process may have
 * damaged; those give SHOBJ_ECORRUPT. */
#ifdef SHOBJ_DEBUG
void sho_assert_failed(const char *file, int line, const char *what) __attribute__((noreturn, cold));
#define SHO_ASSERT(x) ((x) ? (void)0 : sho_assert_failed(__FILE__, __LINE__, #x))
#else
#define SHO_ASSERT(x) ((void)0)
#endif

/* All shared words are 8-byte atomics. */
typedef _Atomic uint64_t sho_word;

/* Relaxed: ordering comes from the orec protocol around the access (txn/README.md). */
SHO_INLINE uint64_t sho_load(const sho_word *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

SHO_INLINE void sho_store(sho_word *w, uint64_t value)
{
    atomic_store_explicit(w, value, memory_order_relaxed);
}

SHO_INLINE uint64_t sho_load_acquire(const sho_word *w)
{
    return atomic_load_explicit(w, memory_order_acquire);
}

SHO_INLINE void sho_store_release(sho_word *w, uint64_t value)
{
    atomic_store_explicit(w, value, memory_order_release);
}

/* Sequentially consistent compare-and-swap: a full barrier on success, on every machine we know of. */
SHO_INLINE bool sho_cas(sho_word *w, uint64_t expected, uint64_t desired)
{
    return atomic_compare_exchange_strong(w, &expected, desired);
}

/* Starts to bring the cache line at an address, which need not be mapped, for writing. */
SHO_INLINE void sho_prefetch_write(uintptr_t address)
{
#if defined(__x86_64__)
    /* The compiler's own gives way to a prefetch for reading on the baseline; where there is none this does nothing. */
    __asm__ volatile("prefetchw (%0)" : : "r"(address));
#else
    __builtin_prefetch((const void *)address, 1);
#endif
}

#ifdef SHOBJ_FAULTS
bool sho_schedule_step(const char *name); /* schedule.h */
#endif

/* How long to spin before sleeping. Tests are there to sleep. */
#ifdef SHOBJ_FAULTS
#define SHO_SPINS(count) ((count) / 20u)
#else
#define SHO_SPINS(count) (count##u)
#endif

SHO_INLINE void sho_pause(void)
{
#ifdef SHOBJ_FAULTS
    if (sho_schedule_step("pause"))
        return;
#endif
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

/* The end of a seqlock read section: loads above stay above the re-check that follows. ThreadSanitizer does not model
 * fences; every shared word is atomic, so that it has nothing to report, and there the fence may be absent. */
SHO_INLINE void sho_fence_acquire(void)
{
#ifndef __SANITIZE_THREAD__
    atomic_thread_fence(memory_order_acquire);
#endif
}

/* Stores above it come before stores below it, for whoever looks after this process has died. */
SHO_INLINE void sho_fence_release(void)
{
#ifndef __SANITIZE_THREAD__
    atomic_thread_fence(memory_order_release);
#endif
}

SHO_INLINE void sho_fence_full(void)
{
#ifndef __SANITIZE_THREAD__
    atomic_thread_fence(memory_order_seq_cst);
#else
    static _Atomic int any;
    atomic_fetch_add(&any, 1);
#endif
}

/* Fault points: named places where a test may make this process die, stop or fail. sho_fault() is true when the
 * call is to fail (as ENOSPC would). Compiled out of release builds. */
#ifdef SHOBJ_FAULTS
bool sho_fault_hit(const char *name);
#define sho_fault(name) sho_fault_hit(name)
#else
#define sho_fault(name) false
#endif

int64_t sho_now_ns(void);      /* CLOCK_REALTIME */
uint64_t sho_monotonic_ns(void); /* CLOCK_MONOTONIC */
int64_t sho_now_coarse_ns(void); /* the same to the last tick, at a quarter of the cost */
uint64_t sho_random64(void);   /* not for secrets: seeded per thread from getrandom() */

#endif
