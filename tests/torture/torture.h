/*
 * torture.h: what the programs that write down histories have in common: clocks, random numbers, values, lines.
 */
#ifndef TORTURE_H
#define TORTURE_H

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <shobj.h>

/* The program's name in messages; each program defines it. */
extern const char torture_name[];

static inline int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

/* A number below `bound`. */
static inline unsigned draw(uint64_t *state, unsigned bound)
{
    return bound == 0 ? 0 : (unsigned)(next_random(state) % bound);
}

static inline shobj_value int_value(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

/* Ends the process if a call failed that can't. */
static inline void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "%s: process %d: %s: %s: %s\n", torture_name, (int)getpid(), what, shobj_error_name(rc),
            shobj_error_message());
    _exit(3);
}

__attribute__((noreturn)) static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", torture_name, what, strerror(errno));
    exit(2);
}

/* fork(), for a child that dies with its parent, whatever becomes of that. */
static inline pid_t fork_child(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

static inline shobj_key int_key(shobj_store *store, int64_t number)
{
    shobj_value value = int_value(number);
    shobj_key key;
    must(shobj_key_init(store, &value, &key), "making a key");
    return key;
}

/* ---------------------------------------------------------------------------------------------- lines */

/* Text on its way to a file. What was written survives the writer's death by SIGKILL. */
struct line {
    char *text;
    size_t bytes, room;
};

static inline void line_need(struct line *line, size_t more)
{
    if (line->bytes + more <= line->room)
        return;
    line->room = (line->bytes + more) * 2;
    line->text = realloc(line->text, line->room);
    if (line->text == NULL)
        die("growing a line");
}

__attribute__((format(printf, 2, 3))) static inline void line_add(struct line *line, const char *format, ...)
{
    va_list args;
    line_need(line, 200);
    va_start(args, format);
    line->bytes += (size_t)vsnprintf(line->text + line->bytes, 200, format, args);
    va_end(args);
}

static inline void line_write(struct line *line, int file)
{
    for (size_t done = 0; done < line->bytes;) {
        ssize_t n = write(file, line->text + done, line->bytes - done);
        if (n < 0 && errno != EINTR)
            die("writing down the history");
        done += n > 0 ? (size_t)n : 0;
    }
    line->bytes = 0;
}

/* ---------------------------------------------------------------------------------------------- arguments */

/* Argument `index` as a number; ends the program with `usage` if it is none from least to most. */
static inline double number_argument(int argc, char **argv, int index, double otherwise, double least, double most,
                                     const char *usage)
{
    if (argc <= index)
        return otherwise;
    char *end_of_number;
    double number = strtod(argv[index], &end_of_number);
    if (argv[index][0] != '\0' && *end_of_number == '\0' && number >= least && number <= most)
        return number;
    fprintf(stderr, "%s: argument %d must be a number from %g to %g, not '%s'\nusage: %s\n", torture_name, index, least,
            most, argv[index], usage);
    exit(2);
}

#endif
