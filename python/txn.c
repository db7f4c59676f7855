/*
 * txn.c: what functions (atomic.c), `with` blocks and loops (transaction.c) and compound operations have in common that
 * are transactions.
 *
 * Each has a *block* on the thread's stack while its body runs:
 *
 *        top -> [nested atomic] -> [with store.transaction()] -> NULL
 *
 * I1  The blocks of a thread are the library's open blocks in the same order. Compound operations, such as a sort, have
 *     one as well while they last.
 * I2  A block ends on the thread that began it and when it is the top. Generators and coroutines can break
 *     this: they are suspended with a block open. A `with` block that ends while others stand above it is
 *     *broken*: it stays, so that what the others do is not taken for operations of their own, and is undone
 *     with them when they end. A function that returns while others stand above its block undoes them too: they
 *     are *gone*. Each of them raises TransactionError.
 *     So is one that a signal handler ends while this thread waits inside the library (state.h, R5).
 * I3  After a fork the child's stack is empty: an open transaction is the parent's.
 *
 * A body whose transaction met a conflict is *doomed*: whatever exception it leaves with says nothing, since it
 * came of an attempt that never happened. The outermost block then tries again; inner ones let it pass.
 *
 * retry() raises Retry, which is no Exception. Inner blocks let it pass, or_else() turns it into its second alternative,
 * and the outermost block into a sleep on what the transaction has read.
 *
 * What waits for the end of a block (hooks.c) is called when the block is off the stack: outside the transaction if it
 * was the outermost, in the surrounding block otherwise.
 */
#include "txn.h"

#include <pthread.h>
#include <time.h>

static _Thread_local struct block *top;

/* I3. */
static void forget_in_child(void)
{
    for (; top != NULL; top = top->below)
        top->state = BLOCK_FORKED;
}

static void register_fork_handler(void)
{
    pthread_atfork(NULL, NULL, forget_in_child);
}

void shopy_blocks_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
}

/* ---------------------------------------------------------------------------------------------- blocks */

/* Lets no later deadline count than this one. Returns what was set before. */
static int64_t narrow_deadline(shobj_store *handle, int64_t deadline_ns)
{
    int64_t before = shobj_deadline(handle, deadline_ns);
    if (before != 0 && before < deadline_ns)
        shobj_deadline(handle, before);
    return before;
}

static void restore_deadline(Core *core, int64_t deadline_before)
{
    if (deadline_before < 0 || core->handle == NULL)
        return;
    INSIDE_ADD(core, 1);
    if (core->handle != NULL)
        shobj_deadline(core->handle, deadline_before);
    shopy_core_leave(core);
}

static int refuse_other_interpreter(Core *core)
{
    PyErr_SetString(
        core->state->errors[ERR_TRANSACTION],
        "a transaction of another interpreter is open in this thread: end it there before beginning one here");
    return -1;
}

int shopy_block_begin(Core *core, struct block *block, PyObject *owner, const struct terms *terms,
                      const struct course *course)
{
    if (UNLIKELY(top != NULL) && top->core->state != core->state)
        return refuse_other_interpreter(core);
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    int64_t before = -1;
    if (UNLIKELY(course->deadline_ns != 0))
        before = narrow_deadline(handle, course->deadline_ns);
    int rc = UNLIKELY(terms->readonly) ? shobj_txn_begin_read(handle) : shobj_txn_begin(handle);
    core->txn_count++;
    shopy_core_leave(core);
    if (UNLIKELY(rc < 0)) {
        shopy_raise(core->state, rc);
        restore_deadline(core, before);
        return -1;
    }
    *block = (struct block){.below = top,
                            .core = core,
                            .owner = Py_XNewRef(owner),
                            .deadline_before = before,
                            .state = BLOCK_OPEN,
                            .readonly = terms->readonly,
                            .once = terms->once};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-pointer" /* shopy_block_end() takes it off before its frame ends */
    top = block;
#pragma GCC diagnostic pop
    return 0;
}

/* Takes the top off the stack; what waits for its end is added to *due, the newest first. The block may be gone afterwards
 * unless the caller, who ends it, holds its owner. */
static void pop(enum block_state state, struct hook **due)
{
    struct block *block = top;
    top = block->below;
    block->state = state;
    if (UNLIKELY(block->hooks != NULL)) {
        shopy_hooks_move(&block->hooks, due);
        *due = block->hooks;
        block->hooks = NULL;
    }
    if (UNLIKELY(block->deadline_before >= 0))
        restore_deadline(block->core, block->deadline_before);
    Py_CLEAR(block->owner);
}

static void abort_library(Core *core)
{
    if (core->handle == NULL)
        return; /* closing undid everything */
    core->txn_count++;
    INSIDE_ADD(core, 1);
    if (core->handle != NULL)
        shobj_txn_abort(core->handle);
    shopy_core_leave(core);
}

static bool is_on_stack(const struct block *block)
{
    const struct block *at = top;
    while (at != NULL && at != block)
        at = at->below;
    return at != NULL;
}

static bool broken_below(const struct block *block)
{
    for (const struct block *at = block->below; at != NULL; at = at->below) {
        if (at->state == BLOCK_BROKEN)
            return true;
    }
    return false;
}

struct block *shopy_block_top(void)
{
    return top;
}

/* Is the exception that is set the one of retry()? */
static bool is_retry(const Core *core)
{
    return PyErr_ExceptionMatches(core->state->errors[ERR_RETRY]);
}

/* FAILED with TransactionError; an exception of the body that is passing through goes on instead. */
static enum outcome interleaved(Core *core, const struct block *block, bool body_failed)
{
    if (body_failed && !is_retry(core))
        return FAILED;
    if (block->state == BLOCK_FORKED)
        PyErr_SetString(core->state->errors[ERR_TRANSACTION],
                        "this transaction was open when the process forked: it is the parent's; begin a new one here");
    else
        PyErr_SetString(core->state->errors[ERR_TRANSACTION],
                        "transactions on one thread were interleaved (by generators or coroutines): they are undone; "
                        "end each transaction before another piece of code runs");
    return FAILED;
}

/* The block was taken off the stack before its body was over: with one below it, or by a fork. */
static enum outcome end_off_stack(Core *core, struct block *block, bool body_failed)
{
    enum outcome outcome = interleaved(core, block, body_failed);
    shopy_hooks_drop(&block->hooks); /* after a fork they are the parent's to call */
    Py_CLEAR(block->owner);
    block->state = BLOCK_ENDED;
    return outcome;
}

/* I2: this block is not the top, or one below it is broken. */
static enum outcome end_out_of_order(Core *core, struct block *block, bool body_failed)
{
    if (!is_on_stack(block))
        return end_off_stack(core, block, body_failed);
    if ((top != block || shopy_in_wait) && block->owner != NULL) {
        block->state = BLOCK_BROKEN;
        return interleaved(core, block, body_failed);
    }
    enum outcome outcome = interleaved(core, block, body_failed);
    PyObject *owner = Py_XNewRef(block->owner);
    struct hook *due = NULL;
    while (top != block) {
        abort_library(top->core);
        pop(BLOCK_GONE, &due);
    }
    abort_library(core);
    pop(BLOCK_ENDED, &due);
    while (top != NULL && top->state == BLOCK_BROKEN) {
        abort_library(top->core);
        pop(BLOCK_ENDED, &due);
    }
    if (due != NULL)
        shopy_hooks_run(&due, false);
    Py_XDECREF(owner);
    return outcome;
}

/* *ret_final, where it matters to LOST and to hooks: it was the outermost. */
static enum outcome commit(Core *core, const struct block *block, bool *ret_final)
{
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return FAILED;
    int rc = shobj_txn_commit(handle);
    *ret_final = LIKELY(rc == 0) && LIKELY(block->hooks == NULL) ? true : shobj_txn_depth(handle) == 0;
    core->txn_count++;
    shopy_core_leave(core);
    if (LIKELY(rc == 0))
        return DONE;
    if (rc == SHOBJ_ECONFLICT && *ret_final)
        return LOST;
    shopy_raise(core->state, rc);
    return FAILED;
}

/* The outermost body said retry(): undoes it and sleeps until it is worth while to run it again. */
static enum outcome wait_for_change(Core *core, const struct block *block, shobj_store *handle)
{
    if (block->once) {
        shobj_txn_abort(handle);
        PyErr_SetString(core->state->errors[ERR_TRANSACTION],
                        "retry() in a `with store.transaction()` block, whose body can't run again: it is undone; use "
                        "@store.atomic, Store.run() or a loop over Store.attempts()");
        return FAILED;
    }
    PyErr_Clear();
    int rc = shobj_txn_wait(handle);
    if (rc == 0)
        return AGAIN;
    shopy_raise(core->state, rc);
    return FAILED;
}

/* Undoes the top block's work after its body failed. An outermost one may only seem to have failed because it had lost. */
static enum outcome give_up(Core *core, const struct block *block)
{
    shobj_store *handle = core->handle;
    if (handle == NULL) { /* closing undid everything */
        if (is_retry(core))
            shopy_raise_closed(core);
        return FAILED;
    }
    INSIDE_ADD(core, 1);
    core->txn_count++;
    bool outermost = shobj_txn_depth(handle) == 1;
    bool retry = is_retry(core);
    enum outcome outcome = FAILED;
    if (outermost && shobj_txn_is_doomed(handle) && (retry || PyErr_ExceptionMatches(PyExc_Exception))) {
        PyErr_Clear();
        outcome = LOST;
    }
    if (outermost && retry && outcome != LOST)
        outcome = wait_for_change(core, block, handle);
    else
        shobj_txn_abort(handle);
    shopy_core_leave(core);
    return outcome;
}

enum outcome shopy_block_end(Core *core, struct block *block, bool body_failed)
{
    if (UNLIKELY(top != block) || UNLIKELY(broken_below(block)) || UNLIKELY(shopy_in_wait))
        return end_out_of_order(core, block, body_failed);
    bool final = true;
    enum outcome outcome = LIKELY(!body_failed) ? commit(core, block, &final) : give_up(core, block);
    PyObject *owner = Py_XNewRef(block->owner);
    struct hook *due = NULL;
    if (outcome == DONE && !final && block->below != NULL)
        shopy_hooks_move(&block->below->hooks, &block->hooks);
    pop(BLOCK_ENDED, &due);
    if (UNLIKELY(due != NULL) && shopy_hooks_run(&due, outcome == DONE) < 0)
        outcome = FAILED;
    Py_XDECREF(owner);
    return outcome;
}

enum outcome shopy_block_undo(Core *core, struct block *block)
{
    if (top != block || broken_below(block) || shopy_in_wait)
        return LOST;
    struct hook *due = NULL;
    PyObject *owner = Py_XNewRef(block->owner);
    abort_library(core);
    pop(BLOCK_ENDED, &due);
    int rc = due != NULL ? shopy_hooks_run(&due, false) : 0;
    Py_XDECREF(owner);
    return rc < 0 ? FAILED : DONE;
}

int shopy_block_restart(Core *core, struct block *block)
{
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    shobj_txn_abort(handle);
    int rc = block->readonly ? shobj_txn_begin_read(handle) : shobj_txn_begin(handle);
    core->txn_count++;
    shopy_core_leave(core);
    if (rc == 0)
        return 0;
    shopy_raise(core->state, rc);
    struct hook *due = NULL;
    pop(BLOCK_ENDED, &due);
    if (due != NULL)
        shopy_hooks_run(&due, false);
    return -1;
}

/* ---------------------------------------------------------------------------------------------- compound operations */

int shopy_core_run(Core *core, shobj_store *handle, shopy_step step, void *arg)
{
    static const struct terms terms = {.timeout_ns = -1};
    struct course course = {0};
    for (;;) {
        struct block block;
        if (shopy_block_begin(core, &block, NULL, &terms, &course) < 0)
            return SHOPY_RAISED;
        int rc = step(handle, arg);
        enum outcome outcome;
        if (LIKELY(rc == 0) || rc == SHOPY_RAISED) {
            outcome = shopy_block_end(core, &block, rc == SHOPY_RAISED);
        } else {
            bool outermost = block.below == NULL;
            outcome = shopy_block_undo(core, &block);
            if (outcome == LOST)
                outcome = shopy_block_end(core, &block, false);
            else if (outcome == DONE && (rc != SHOBJ_ECONFLICT || !outermost))
                return rc;
            else if (outcome == DONE)
                outcome = LOST;
        }
        if (LIKELY(outcome == DONE))
            return 0;
        if (outcome == FAILED || (outcome == LOST && shopy_course_next(core, &terms, &course) < 0))
            return SHOPY_RAISED;
    }
}

/* ---------------------------------------------------------------------------------------------- trying again */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int shopy_terms_parse(PyObject *tries, PyObject *timeout, PyObject *readonly, struct terms *ret)
{
    *ret = (struct terms){.timeout_ns = -1};
    if (tries != NULL && tries != Py_None) {
        long count = PyLong_AsLong(tries);
        if (count == -1 && PyErr_Occurred())
            return -1;
        if (count < 1) {
            PyErr_Format(PyExc_ValueError, "tries must be 1 or more, or None for no bound, not %ld", count);
            return -1;
        }
        ret->tries = (unsigned long)count;
    }
    if (timeout != NULL && timeout != Py_None) {
        double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1.0 && PyErr_Occurred())
            return -1;
        if (!(seconds >= 0)) {
            PyErr_SetString(PyExc_ValueError, "timeout must be 0 or more seconds, or None for none");
            return -1;
        }
        ret->timeout_ns = seconds > 4e9 ? INT64_C(4000000000) * 1000000000 : (int64_t)(seconds * 1e9);
    }
    int truth = readonly != NULL && readonly != Py_None ? PyObject_IsTrue(readonly) : 0;
    ret->readonly = truth > 0;
    return truth < 0 ? -1 : 0;
}

void shopy_course_begin(struct course *course, const struct terms *terms)
{
    *course = (struct course){0};
    if (UNLIKELY(terms->timeout_ns >= 0))
        course->deadline_ns = now_ns() + terms->timeout_ns;
}

int shopy_course_next(Core *core, const struct terms *terms, struct course *course)
{
    unsigned long count = ++course->lost_count;
    if (terms->tries != 0 && count >= terms->tries) {
        PyErr_Format(core->state->errors[ERR_CONFLICT],
                     "a transaction on the store '%U' lost against others in %lu attempt(s) and changed nothing: "
                     "run it again, or allow more tries",
                     core->path, count);
        return -1;
    }
    if (course->deadline_ns != 0 && now_ns() >= course->deadline_ns) {
        PyErr_Format(core->state->errors[ERR_TIMEOUT],
                     "a transaction on the store '%U' did not commit within its timeout (%lu attempts) and changed "
                     "nothing: run it again, or allow more time",
                     core->path, count);
        return -1;
    }
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    PyThreadState *saved = shopy_unlock();
    shobj_txn_backoff(handle, count < 64 ? (unsigned)count : 64);
    shopy_relock(saved);
    shopy_core_leave(core);
    return PyErr_CheckSignals();
}
