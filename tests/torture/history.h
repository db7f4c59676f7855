/*
 * history.h: what the workers of history.c and their parent have in common.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "numbers.h"

enum {
    LISTS_MAX = 8,
    REGISTERS_MAX = 48,
    INCARNATIONS_MAX = 4095 /* numbers have 12 bits for who drew them */
};

/* What a run is like; drawn from its seed. */
struct mix {
    unsigned lists, registers, hot_registers;
    unsigned clear_at; /* elements from which on a list is cleared */
    unsigned pause;    /* one operation in so many is followed by a pause */
};

extern struct mix mix;
extern _Atomic uint64_t *written; /* bytes of history, by all; outside the store */
extern char path[300];            /* of the store */

/* A worker; the parent writes down what it does itself with one, too. */
struct worker {
    shobj_store *store;
    uint64_t random;
    uint32_t incarnation, drawn;
    shobj_oid lists, registers;
    shobj_oid list[LISTS_MAX]; /* their objects are never replaced */
    int file;
    struct line line;
    int64_t invoked_ns;  /* of the attempt under way, before its snapshot was taken */
    bool is_undecided;   /* the last line is an attempt that was to be committed */
    bool only_reads;
    unsigned op_count;
    unsigned depth;
};

/* ---------------------------------------------------------------------------------------------- lines */

uint32_t new_number(struct worker *w);
void begin_line(struct worker *w, char kind);
void add_op(struct worker *w, char op, unsigned key, uint32_t number);
void end_line(struct worker *w, int64_t ended_ns, bool is_done);
void write_line(struct worker *w);

/* ---------------------------------------------------------------------------------------------- operations */

/* All of a list into the line. */
int read_in_pieces(struct worker *w, shobj_oid list, unsigned *ret_count);
int read_register(struct worker *w, unsigned k);

/* ---------------------------------------------------------------------------------------------- working */

/* Opens the store and finds what is in it. */
void look_up(struct worker *w);

/* Transactions and single operations until bytes_max are written, then nothing, until the process is killed. */
__attribute__((noreturn)) void work(int file, uint32_t incarnation, uint64_t seed, uint64_t bytes_max);

#endif
