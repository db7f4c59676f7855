/*
 * txn.h: blocks (see txn.c) and the limits of trying again.
 */
#ifndef SHOPY_TXN_H
#define SHOPY_TXN_H

#include "state.h"

struct block {
    struct block *below;
    Core *core;
    PyObject *owner; /* the Transaction that it is part of, held while it is on the stack; NULL: it is on the C stack */
    enum block_state { BLOCK_NEW, BLOCK_OPEN, BLOCK_BROKEN, BLOCK_GONE, BLOCK_FORKED, BLOCK_ENDED } state;
};

/* LOST: nothing happened, and the body may run again. FAILED: an exception is set. */
enum outcome { DONE, LOST, FAILED };

/* Once per process, any number of times. */
void shopy_blocks_init(void);

/* 0, or -1 with an exception. `owner` is held while the block is open. Each begin that succeeds needs an end. */
int shopy_block_begin(Core *core, struct block *block, PyObject *owner);
/* Ends a block whose body is over; with body_failed an exception is set, and stays set only if the outcome is
 * FAILED. */
enum outcome shopy_block_end(Core *core, struct block *block, bool body_failed);
bool shopy_block_is_top(const struct block *block);
/* Undoes and ends the block; false, and nothing is done, if it is not in order (then shopy_block_end() tells why). */
bool shopy_block_undo(Core *core, struct block *block);
/* Undoes what the top block did; what the rest of its body does belongs to a fresh one in its place. */
int shopy_block_restart(Core *core, struct block *block);

struct limits {
    unsigned long tries; /* 0: until it commits */
    int64_t timeout_ns;  /* below 0: none */
};

struct attempts_made {
    unsigned long count;
    int64_t began_ns;
};

/* CLOCK_MONOTONIC. */
int64_t shopy_now_ns(void);
/* From Python's tries= and timeout= (None or NULL: no bound). -1 with an exception. */
int shopy_limits_parse(PyObject *tries, PyObject *timeout, struct limits *ret);
/* An attempt lost: waits a moment before the next one. -1 with an exception if there is to be none. */
int shopy_attempt_next(Core *core, const struct limits *limits, struct attempts_made *made);

#endif
