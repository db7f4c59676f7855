/*
 * check.h: what the unit tests have in common: checks that end the program, seeded random numbers,
 * a store of its own.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <shobj.h>

/* The seed of this run, if the test drew one: a failure tells how to run it again. */
static uint64_t check_seed_used;
static bool check_seed_drawn;

__attribute__((noreturn, unused)) static void check_failed(const char *file, int line,
                                                           const char *what)
{
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
    fprintf(stderr, "  last library error: %s\n", shobj_error_message());
    if (check_seed_drawn)
        fprintf(stderr, "  again: SHOBJ_SEED=%" PRIu64 " and this program\n", check_seed_used);
    exit(1);
}

#define CHECK(x) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))

/* Two integers are equal; tells both. */
#define CHECK_INT(x, expected) check_int(__FILE__, __LINE__, #x, (int64_t)(x), (int64_t)(expected))

__attribute__((unused)) static void check_int(const char *file, int line, const char *what,
                                              int64_t value, int64_t expected)
{
    if (value == expected)
        return;
    char text[256];
    snprintf(text, sizeof(text), "%s is %" PRId64 ", expected %" PRId64, what, value, expected);
    check_failed(file, line, text);
}

/* From $SHOBJ_SEED, else from the clock. */
__attribute__((unused)) static uint64_t check_seed(void)
{
    const char *text = getenv("SHOBJ_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    check_seed_used =
        text != NULL ? strtoull(text, NULL, 0) : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    check_seed_drawn = true;
    printf("seed %" PRIu64 "\n", check_seed_used);
    return check_seed_used;
}

/* The next random number of a state (splitmix64). */
__attribute__((unused)) static uint64_t check_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A new store that has no name any more: it goes with its last mapping. What is in it is collected when the test asks for it: most
 * objects of the tests are known by their ids alone. */
__attribute__((unused)) static shobj_store *check_store(void)
{
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-%ld", (long)getpid());
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 1ULL << 30};
    shobj_store *store = NULL;
    CHECK_INT(shobj_open(name, &options, &store), 0);
    CHECK_INT(shobj_unlink(name, true), 0);
    shobj_gc_growth(store, UINT32_MAX);
    return store;
}

/* Keeps an object that nothing in the heap refers to until the store is closed. */
__attribute__((unused)) static shobj_oid check_keep(shobj_store *store, shobj_oid oid)
{
    static shobj_store *of;
    static shobj_pins *pins;
    uint32_t pin;
    if (of != store)
        CHECK_INT(shobj_pins_open(of = store, &pins), 0);
    CHECK_INT(shobj_pin(pins, oid, &pin), 0);
    return oid;
}

#endif
