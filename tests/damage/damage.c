/*
 * damage.c: damages heaps at random, and uses each in a child of its own.
 *
 *   damage N [SEED]            N heaps; case i has seed SEED + i, so that "damage 1 SEED" runs one of them again
 *   damage --describe SEED     the same one, with what is done to the heap in words
 *   damage --write DIR N SEED  writes the damaged heaps to files DIR/SEED.heap, for other programs
 *
 * A child must end by itself within ten seconds, with exit code 0. Everything about a case follows from its seed: the
 * shape, the damage, the mode, the calls. A quarter only reads; a tenth of those may not write the file at all (if this
 * runs as root). A quarter is repaired, and then has to be as sound as any. Undamaged heaps of each shape come first: with them
 * every call must succeed, the check find nothing, and the repair change nothing.
 */
#include "damage.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX 10
#define ADDRESSES_MAX (3ULL << 30)
#define NOBODY 65534

#ifdef __has_feature
#define HAS_SANITIZER __has_feature(address_sanitizer)
#endif
#ifdef __SANITIZE_ADDRESS__
#undef HAS_SANITIZER
#define HAS_SANITIZER 1
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER 0
#endif

static struct image images[SHAPE_COUNT];
static char folder[64];
static char path[128];
static bool describes;
static const struct effort effort = {.changes = 120, .values = 20000, .text_bytes = 2u << 20};

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "damage: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void remove_files(void)
{
    unlink(path);
    rmdir(folder);
}

static void make_folder(void)
{
    const char *dir = getenv("SHOBJ_DIR");
    snprintf(folder, sizeof(folder), "%.30s/damage-XXXXXX", dir != NULL ? dir : "/dev/shm");
    if (mkdtemp(folder) == NULL)
        die(folder);
    chmod(folder, 0755);
    snprintf(path, sizeof(path), "%s/heap", folder);
}

static void make_images(void)
{
    for (unsigned shape = 0; shape < SHAPE_COUNT; shape++) {
        shape_make(shape, path, &images[shape]);
        if (describes)
            printf("shape %s: %zu bytes, %zu pages\n", shape_name(shape), images[shape].size, images[shape].page_count);
    }
}

/* ------------------------------------------------------------------------------------------ one case */

struct plan {
    struct choices choices; /* of the recipe */
    unsigned shape;
    enum exercise_mode mode;
    bool as_nobody;
};

static struct plan plan_of(uint64_t seed)
{
    struct plan plan = {.choices = {.state = seed * 0x9e3779b97f4a7c15u}};
    plan.shape = (unsigned)choose(&plan.choices, SHAPE_COUNT);
    plan.mode = (enum exercise_mode)choose(&plan.choices, 4);
    if (plan.mode > EXERCISE_REPAIR)
        plan.mode = EXERCISE_WRITE;
    plan.as_nobody = plan.mode == EXERCISE_READ && choose(&plan.choices, 10) == 0 && geteuid() == 0;
    return plan;
}

static void say_stroke(const char *words)
{
    printf("  %s\n", words);
}

static void write_damaged(uint64_t seed, struct plan *plan, const char *to)
{
    struct image damaged;
    image_copy(&images[plan->shape], &damaged);
    if (seed != 0)
        recipe_apply(&plan->choices, &damaged, describes ? say_stroke : NULL);
    if (!image_write(&damaged, to))
        die(to);
    free(damaged.bytes);
}

__attribute__((noreturn)) static void child(const struct plan *plan, uint64_t seed)
{
    const struct rlimit limit = {ADDRESSES_MAX, ADDRESSES_MAX};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!HAS_SANITIZER)
        setrlimit(RLIMIT_AS, &limit);
    if (plan->as_nobody && setresuid(NOBODY, NOBODY, NOBODY) < 0)
        die("setresuid");
    alarm(SECONDS_MAX);
    const char *wrong = exercise(path, plan->mode, seed, &effort, seed == 0);
    if (wrong != NULL)
        printf("damage: %s\n", wrong);
    fflush(stdout);
    _exit(wrong != NULL);
}

/* Did the child end as it should? */
static bool run(uint64_t seed, struct plan *plan)
{
    int status;
    write_damaged(seed, plan, path);
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        child(plan, seed);
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        printf("damage: it did not end within %d seconds\n", SECONDS_MAX);
    else if (WIFSIGNALED(status))
        printf("damage: it died by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        printf("damage: exit code %d\n", WEXITSTATUS(status));
    static const char *const modes[] = {"for reading", "for writing", "to be repaired"};
    printf("  shape %s, %s%s; again: damage --describe %" PRIu64 "\n", shape_name(plan->shape), modes[plan->mode],
           plan->as_nobody ? " without permission" : "", seed);
    fflush(stdout);
    return false;
}

static unsigned run_sound(void)
{
    unsigned failed = 0;
    for (unsigned shape = 0; shape < SHAPE_COUNT; shape++)
        for (int mode = EXERCISE_READ; mode <= EXERCISE_REPAIR; mode++) {
            struct plan plan = {.shape = shape, .mode = (enum exercise_mode)mode};
            failed += !run(0, &plan);
        }
    return failed;
}

/* ------------------------------------------------------------------------------------------ the command line */

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0) {
        fprintf(stderr, "damage: '%s' is no number\nusage: damage N [SEED] | --describe SEED | --write DIR N SEED\n", text);
        exit(2);
    }
    return n;
}

static int run_many(uint64_t count, uint64_t seed)
{
    unsigned failed = describes ? 0 : run_sound();
    time_t began = time(NULL), told = began;
    for (uint64_t i = 0; i < count; i++) {
        struct plan plan = plan_of(seed + i);
        failed += !run(seed + i, &plan);
        if (time(NULL) - told >= 60) {
            told = time(NULL);
            printf("damage: %" PRIu64 " of %" PRIu64 " heaps, %u failures, %lld s\n", i + 1, count, failed,
                   (long long)(told - began));
            fflush(stdout);
        }
    }
    printf("damage: %" PRIu64 " damaged heaps from seed %" PRIu64 ": %u failures, %lld s\n", count, seed, failed,
           (long long)(time(NULL) - began));
    return failed != 0;
}

static int write_many(const char *dir, uint64_t count, uint64_t seed)
{
    for (uint64_t i = 0; i < count; i++) {
        char to[400];
        struct plan plan = plan_of(seed + i);
        snprintf(to, sizeof(to), "%.300s/%" PRIu64 ".heap", dir, seed + i);
        write_damaged(seed + i, &plan, to);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int result;
    bool writes = argc == 5 && strcmp(argv[1], "--write") == 0;
    describes = argc == 3 && strcmp(argv[1], "--describe") == 0;
    uint64_t count = describes ? 1 : number(argc > 1 ? argv[writes ? 3 : 1] : "1000");
    uint64_t seed = argc > 2 ? number(argv[writes ? 4 : 2]) : (uint64_t)time(NULL);
    make_folder();
    atexit(remove_files);
    make_images();
    if (writes)
        result = write_many(argv[2], count, seed);
    else
        result = run_many(count, seed);
    return result;
}
