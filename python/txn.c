/*
 * txn.c: what functions (atomic.c), `with` blocks and loops (transaction.c) that are transactions have in common.
 *
 * Each has a *block* on the thread's stack while its body runs:
 *
 *        top -> [nested atomic] -> [with store.transaction()] -> NULL
 *
 * I1  The blocks of a thread are the library's open blocks in the same order (internal ones of compound
 *     operations stand above the top for a moment).
 * I2  A block ends on the thread that began it and when it is the top. Generators and coroutines can break
 *     this: they are suspended with a block open. A `with` block that ends while others stand above it is
 *     *broken*: it stays, so that what the others do is not taken for operations of their own, and is undone
 *     with them when they end. A function that returns while others stand above its block undoes them too: they
 *     are *gone*. Each of them raises TransactionError.
 * I3  After a fork the child's stack is empty: an open transaction is the parent's.
 *
 * A body whose transaction met a conflict is *doomed*: whatever exception it leaves with says nothing, since it
 * came of an attempt that never happened. The outermost block then tries again; inner ones let it pass.
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

int shopy_block_begin(Core *core, struct block *block, PyObject *owner)
{
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    int rc = shobj_txn_begin(handle);
    core->txn_count++;
    shopy_core_leave(core);
    if (rc < 0) {
        shopy_raise(core->state, rc);
        return -1;
    }
    *block = (struct block){top, core, Py_XNewRef(owner), BLOCK_OPEN};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-pointer" /* shopy_block_end() takes it off before its frame ends */
    top = block;
#pragma GCC diagnostic pop
    return 0;
}

/* Takes the top off the stack. Its owner lives on at least as long as the caller, who ends the block. */
static void pop(enum block_state state)
{
    struct block *block = top;
    top = block->below;
    block->state = state;
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

/* FAILED with TransactionError; an exception of the body that is passing through goes on instead. */
static enum outcome interleaved(Core *core, const struct block *block, bool body_failed)
{
    if (!body_failed && block->state == BLOCK_FORKED)
        PyErr_SetString(core->state->errors[ERR_TRANSACTION],
                        "this transaction was open when the process forked: it is the parent's; begin a new one here");
    else if (!body_failed)
        PyErr_SetString(core->state->errors[ERR_TRANSACTION],
                        "transactions on one thread were interleaved (by generators or coroutines): they are undone; "
                        "end each transaction before another piece of code runs");
    return FAILED;
}

/* I2: this block is not the top, or one below it is broken. */
static enum outcome end_out_of_order(Core *core, struct block *block, bool body_failed)
{
    if (!is_on_stack(block))
        return interleaved(core, block, body_failed);
    if (top != block && block->owner != NULL) {
        block->state = BLOCK_BROKEN;
        return interleaved(core, block, body_failed);
    }
    while (top != block) {
        abort_library(top->core);
        pop(BLOCK_GONE);
    }
    abort_library(core);
    pop(BLOCK_ENDED);
    while (top != NULL && top->state == BLOCK_BROKEN) {
        abort_library(top->core);
        pop(BLOCK_ENDED);
    }
    return interleaved(core, block, body_failed);
}

static enum outcome commit(Core *core)
{
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return FAILED;
    int rc = shobj_txn_commit(handle);
    bool outermost = shobj_txn_depth(handle) == 0;
    core->txn_count++;
    shopy_core_leave(core);
    if (LIKELY(rc == 0))
        return DONE;
    if (rc == SHOBJ_ECONFLICT && outermost)
        return LOST;
    shopy_raise(core->state, rc);
    return FAILED;
}

/* Undoes the top block's work after its body failed; true if the attempt only seemed to fail because it had lost. */
static bool abort_failed(Core *core)
{
    shobj_store *handle = core->handle;
    bool lost = false;
    if (handle != NULL) {
        INSIDE_ADD(core, 1);
        lost = shobj_txn_depth(handle) == 1 && shobj_txn_is_doomed(handle);
        shopy_core_leave(core);
    }
    abort_library(core);
    return lost;
}

enum outcome shopy_block_end(Core *core, struct block *block, bool body_failed)
{
    if (UNLIKELY(top != block) || UNLIKELY(broken_below(block)))
        return end_out_of_order(core, block, body_failed);
    PyObject *owner = Py_XNewRef(block->owner);
    enum outcome outcome;
    if (LIKELY(!body_failed)) {
        outcome = commit(core);
    } else {
        bool lost = abort_failed(core) && PyErr_ExceptionMatches(PyExc_Exception);
        if (lost)
            PyErr_Clear();
        outcome = lost ? LOST : FAILED;
    }
    pop(BLOCK_ENDED);
    Py_XDECREF(owner);
    return outcome;
}

bool shopy_block_is_top(const struct block *block)
{
    return top == block;
}

bool shopy_block_undo(Core *core, struct block *block)
{
    if (top != block || broken_below(block))
        return false;
    abort_library(core);
    pop(BLOCK_ENDED);
    return true;
}

int shopy_block_restart(Core *core, struct block *block)
{
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    shobj_txn_abort(handle);
    int rc = shobj_txn_begin(handle);
    core->txn_count++;
    shopy_core_leave(core);
    if (rc == 0)
        return 0;
    if (top == block)
        pop(BLOCK_ENDED);
    shopy_raise(core->state, rc);
    return -1;
}

/* ---------------------------------------------------------------------------------------------- trying again */

int64_t shopy_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int shopy_limits_parse(PyObject *tries, PyObject *timeout, struct limits *ret)
{
    *ret = (struct limits){0, -1};
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
        ret->timeout_ns = seconds > 9e9 ? INT64_MAX / 2 : (int64_t)(seconds * 1e9);
    }
    return 0;
}

int shopy_attempt_next(Core *core, const struct limits *limits, struct attempts_made *made)
{
    made->count++;
    if (limits->tries != 0 && made->count >= limits->tries) {
        PyErr_Format(core->state->errors[ERR_CONFLICT],
                     "a transaction on the store '%U' lost against others in %lu attempt(s) and changed nothing: "
                     "run it again, or allow more tries",
                     core->path, made->count);
        return -1;
    }
    if (limits->timeout_ns >= 0 && shopy_now_ns() - made->began_ns >= limits->timeout_ns) {
        PyErr_Format(core->state->errors[ERR_TIMEOUT],
                     "a transaction on the store '%U' did not commit within its timeout (%lu attempts) and changed "
                     "nothing: run it again, or allow more time",
                     core->path, made->count);
        return -1;
    }
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    PyThreadState *saved = shopy_unlock();
    shobj_txn_backoff(handle, made->count < 64 ? (unsigned)made->count : 64);
    shopy_relock(saved);
    shopy_core_leave(core);
    return PyErr_CheckSignals();
}
