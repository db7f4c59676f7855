/*
 * txn.h: blocks (txn.c), what is called at their end (hooks.c), and the terms of running a body again.
 */
#ifndef SHOPY_TXN_H
#define SHOPY_TXN_H

#include "state.h"

/* What tries=, timeout= and readonly= ask for. */
struct terms {
    unsigned long tries; /* 0: until it commits */
    int64_t timeout_ns;  /* below 0: none */
    bool readonly;
    bool once; /* the body can't be run again */
};

/* How far a transaction has come with them. */
struct course {
    unsigned long lost_count; /* executions */
    int64_t deadline_ns;      /* CLOCK_MONOTONIC; 0: none */
};

struct block {
    struct block *below;
    Core *core;
    PyObject *owner;         /* the Transaction that it is part of, held while it is on the stack; NULL: it is on the C stack */
    struct hook *hooks;      /* the newest first */
    int64_t deadline_before; /* of the thread, put back at the end; below 0: this block has none */
    enum block_state { BLOCK_NEW, BLOCK_OPEN, BLOCK_BROKEN, BLOCK_GONE, BLOCK_FORKED, BLOCK_ENDED } state;
    bool readonly, once;
};

/* LOST: nothing happened, and the body may run again. AGAIN: the same, and it has waited, as the body asked by retry().
 * FAILED: an exception is set. */
enum outcome { DONE, LOST, AGAIN, FAILED };

/* Once per process, any number of times. */
void shopy_blocks_init(void);

/* 0, or -1 with an exception. `owner` is held while the block is open. Each begin that succeeds needs an end. */
int shopy_block_begin(Core *core, struct block *block, PyObject *owner, const struct terms *terms,
                      const struct course *course);
/* Ends a block whose body is over, and calls what waited for that; with body_failed an exception is set, and stays set
 * only if the outcome is FAILED. Nested blocks come to DONE or FAILED. */
enum outcome shopy_block_end(Core *core, struct block *block, bool body_failed);
/* This thread's innermost block, or NULL. */
struct block *shopy_block_top(void);
/* Undoes and ends the top block: DONE, or FAILED with an exception. LOST if it is not in order: nothing is done then, and
 * shopy_block_end() tells why. */
enum outcome shopy_block_undo(Core *core, struct block *block);
/* Undoes what the top block did; what the rest of its body does belongs to a fresh one in its place. */
int shopy_block_restart(Core *core, struct block *block);

/* From Python's tries=, timeout= and readonly= (None or NULL: as if not given). -1 with an exception. */
int shopy_terms_parse(PyObject *tries, PyObject *timeout, PyObject *readonly, struct terms *ret);
/* In front of the first execution. */
void shopy_course_begin(struct course *course, const struct terms *terms);
/* An execution lost: waits a moment before the next one. -1 with an exception if there is to be none. */
int shopy_course_next(Core *core, const struct terms *terms, struct course *course);

/* ---------------------------------------------------------------------------------------------- hooks.c */

/* Has args[0] called with the other arguments when the block has ended: after the commit, or else after it was undone.
 * -1 with an exception. */
int shopy_hook_add(struct hook **hooks, bool on_commit, const char *name, PyObject *const *args, Py_ssize_t count);
/* Adds those of a block that has ended, and leaves it none. */
void shopy_hooks_move(struct hook **to, struct hook **from);
void shopy_hooks_drop(struct hook **hooks);
/* Calls those that waited for a commit, or for the undoing, and drops all. An exception that is set is the context of
 * theirs and stays set if they raise none. -1 if they raised. */
int shopy_hooks_run(struct hook **hooks, bool committed);

#endif
