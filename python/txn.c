/*
 * txn.c: transactions as functions (atomic, run), as a loop (attempts) and as a block (transaction).
 *
 * All three push a *block* on the thread's stack while their body runs:
 *
 *        top -> [nested atomic] -> [with store.transaction()] -> NULL
 *
 * I1  The blocks of a thread are the library's open blocks in the same order (internal ones of compound operations stand
 *     above the top for a moment).
 * I2  A block ends on the thread that began it and when it is the top. Generators and coroutines can break this: they are
 *     suspended with a block open. A `with` block that ends while others stand above it is *broken*: it stays, so that what
 *     the others do is not taken for operations of their own, and is undone with them when they end. A function that
 *     returns while others stand above its block undoes them too: they are *gone*. Each of them raises TransactionError.
 * I3  After a fork the child's stack is empty: an open transaction is the parent's.
 *
 * A body whose transaction met a conflict is *doomed*: whatever exception it leaves with says nothing, since it came of an
 * attempt that never happened. The outermost block then tries again; inner ones let it pass.
 */
#include "state.h"

#include <pthread.h>
#include <time.h>

struct block {
    struct block *below;
    Core *core;
    PyObject *owner; /* the Transaction that it is part of, held while it is on the stack; NULL: it is on the C stack */
    enum block_state { BLOCK_NEW, BLOCK_OPEN, BLOCK_BROKEN, BLOCK_GONE, BLOCK_FORKED, BLOCK_ENDED } state;
};

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

/* ---------------------------------------------------------------------------------------------- blocks */

/* 0, or -1 with an exception. Every block_begin() that succeeds needs a block_end(). */
static int block_begin(Core *core, struct block *block, PyObject *owner)
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
#pragma GCC diagnostic ignored "-Wdangling-pointer" /* block_end() takes it off before its frame ends */
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

static void library_abort(Core *core)
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

enum outcome { DONE, LOST, FAILED };

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
        library_abort(top->core);
        pop(BLOCK_GONE);
    }
    library_abort(core);
    pop(BLOCK_ENDED);
    while (top != NULL && top->state == BLOCK_BROKEN) {
        library_abort(top->core);
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
    library_abort(core);
    return lost;
}

/* Ends a block whose body is over; with body_failed an exception is set (and stays set if the outcome is FAILED). LOST:
 * nothing happened and the body may run again; no exception is set. */
static enum outcome block_end(Core *core, struct block *block, bool body_failed)
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

/* ---------------------------------------------------------------------------------------------- trying again */

struct limits {
    unsigned long tries; /* 0: until it commits */
    int64_t timeout_ns;  /* below 0: none */
};

struct attempts_made {
    unsigned long count;
    int64_t began_ns;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int parse_limits(PyObject *tries, PyObject *timeout, struct limits *ret)
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

/* An attempt lost: waits a moment before the next one. -1 with an exception if there is to be none. */
static int prepare_next(Core *core, const struct limits *limits, struct attempts_made *made)
{
    made->count++;
    if (limits->tries != 0 && made->count >= limits->tries) {
        PyErr_Format(core->state->errors[ERR_CONFLICT],
                     "a transaction on the store '%U' lost against others in %lu attempt(s) and changed nothing: "
                     "run it again, or allow more tries",
                     core->path, made->count);
        return -1;
    }
    if (limits->timeout_ns >= 0 && now_ns() - made->began_ns >= limits->timeout_ns) {
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

/* ---------------------------------------------------------------------------------------------- functions */

typedef struct Atomic {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Core *core;
    PyObject *function;
    struct limits limits;
    PyObject *attributes; /* __dict__ */
    PyObject *weakrefs;
} Atomic;

static PyObject *call_atomic(Core *core, const struct limits *limits, PyObject *function, PyObject *const *args,
                             size_t nargsf, PyObject *names)
{
    struct attempts_made made = {0};
    if (limits->timeout_ns >= 0)
        made.began_ns = now_ns();
    for (;;) {
        struct block block;
        if (block_begin(core, &block, NULL) < 0)
            return NULL;
        PyObject *result = PyObject_Vectorcall(function, args, nargsf, names);
        enum outcome outcome = block_end(core, &block, result == NULL);
        if (LIKELY(outcome == DONE))
            return result;
        Py_XDECREF(result);
        if (outcome == FAILED || prepare_next(core, limits, &made) < 0)
            return NULL;
    }
}

static PyObject *atomic_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Atomic *atomic = (Atomic *)self;
    return call_atomic(atomic->core, &atomic->limits, atomic->function, args, nargsf, names);
}

/* A generator or coroutine function returns before its body runs: its body would be outside of the transaction. */
static int check_function(PyObject *function)
{
    if (!PyCallable_Check(function)) {
        PyErr_Format(PyExc_TypeError, "an atomic function must be callable, not '%s'", Py_TYPE(function)->tp_name);
        return -1;
    }
    PyObject *plain = PyMethod_Check(function) ? PyMethod_GET_FUNCTION(function) : function;
    if (!PyFunction_Check(plain))
        return 0;
    int flags = ((PyCodeObject *)PyFunction_GET_CODE(plain))->co_flags;
    if (flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR)) {
        PyErr_Format(PyExc_TypeError,
                     "%R is a generator or coroutine function: its body would run after the transaction; "
                     "make it a plain function",
                     function);
        return -1;
    }
    return 0;
}

static int copy_attributes(Atomic *atomic)
{
    static const char *const names[] = {"__module__", "__name__", "__qualname__", "__doc__", "__annotations__",
                                        "__type_params__"};
    PyObject *function = atomic->function;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        PyObject *value = PyObject_GetAttrString(function, names[i]);
        if (value == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        int rc = value ? PyDict_SetItemString(atomic->attributes, names[i], value) : 0;
        Py_XDECREF(value);
        if (rc < 0)
            return -1;
    }
    PyObject *dict = PyObject_GetAttrString(function, "__dict__");
    if (dict == NULL)
        PyErr_Clear();
    int rc = dict && PyDict_Check(dict) ? PyDict_Update(atomic->attributes, dict) : 0;
    Py_XDECREF(dict);
    return rc < 0 ? -1 : PyDict_SetItemString(atomic->attributes, "__wrapped__", function);
}

static PyObject *atomic_new(Core *core, PyObject *function, const struct limits *limits)
{
    if (check_function(function) < 0)
        return NULL;
    module_state *state = core->state;
    Atomic *atomic = (Atomic *)state->atomic_type->tp_alloc(state->atomic_type, 0);
    if (atomic == NULL)
        return NULL;
    atomic->vectorcall = atomic_vectorcall;
    atomic->core = (Core *)Py_NewRef((PyObject *)core);
    atomic->function = Py_NewRef(function);
    atomic->limits = *limits;
    atomic->attributes = PyDict_New();
    if (atomic->attributes == NULL || copy_attributes(atomic) < 0) {
        Py_DECREF(atomic);
        return NULL;
    }
    return (PyObject *)atomic;
}

/* store.atomic(tries=..., timeout=...) gives this, bound to (core, tries, timeout). */
static PyObject *decorate(PyObject *bound, PyObject *function)
{
    struct limits limits;
    if (parse_limits(PyTuple_GET_ITEM(bound, 1), PyTuple_GET_ITEM(bound, 2), &limits) < 0)
        return NULL;
    return atomic_new((Core *)PyTuple_GET_ITEM(bound, 0), function, &limits);
}

static PyMethodDef decorate_def = {"atomic", decorate, METH_O,
                                   "atomic(function, /)\n--\n\nMakes the function run as a transaction."};

PyObject *shopy_atomic(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"function", "tries", "timeout", NULL};
    PyObject *given[3];
    struct limits limits;
    if (shopy_arguments("atomic", args, count, keywords, names, 1, given) < 0 ||
        parse_limits(given[1], given[2], &limits) < 0)
        return NULL;
    if (given[0] != NULL)
        return atomic_new(core, given[0], &limits);
    PyObject *bound = PyTuple_Pack(3, core, given[1] ? given[1] : Py_None, given[2] ? given[2] : Py_None);
    PyObject *result = bound ? PyCFunction_New(&decorate_def, bound) : NULL;
    Py_XDECREF(bound);
    return result;
}

PyObject *shopy_run(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    const struct limits none = {0, -1};
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "run() needs a function, then its arguments");
        return NULL;
    }
    if (check_function(args[0]) < 0)
        return NULL;
    return call_atomic(core, &none, args[0], args + 1, (size_t)count - 1, names);
}

static PyObject *atomic_get(PyObject *self, PyObject *instance, PyObject *type)
{
    (void)type;
    if (instance == NULL || instance == Py_None)
        return Py_NewRef(self);
    return PyMethod_New(self, instance);
}

static PyObject *atomic_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<atomic %R>", ((Atomic *)self)->function);
}

/* Pickles by name, as functions do. */
static PyObject *atomic_reduce(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return PyObject_GetAttrString(self, "__qualname__");
}

static int atomic_traverse(PyObject *self, visitproc visit, void *arg)
{
    Atomic *atomic = (Atomic *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(atomic->core);
    Py_VISIT(atomic->function);
    Py_VISIT(atomic->attributes);
    return 0;
}

static int atomic_clear(PyObject *self)
{
    Atomic *atomic = (Atomic *)self;
    Py_CLEAR(atomic->attributes);
    /* What is cleared may still be called, by a finalizer: it keeps a function and a core to call. */
    Py_SETREF(atomic->function, Py_NewRef(Py_None));
    return 0;
}

static void atomic_dealloc(PyObject *self)
{
    Atomic *atomic = (Atomic *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (atomic->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    Py_CLEAR(atomic->attributes);
    Py_CLEAR(atomic->function);
    Py_CLEAR(atomic->core);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef atomic_methods[] = {
    {"__reduce__", atomic_reduce, METH_NOARGS, "__reduce__($self, /)\n--\n\nPickles by name, as functions do."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef atomic_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Atomic, vectorcall), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(Atomic, attributes), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Atomic, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef atomic_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot atomic_slots[] = {
    {Py_tp_traverse, atomic_traverse},
    {Py_tp_clear, atomic_clear},
    {Py_tp_dealloc, atomic_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, atomic_get},
    {Py_tp_repr, atomic_repr},
    {Py_tp_methods, atomic_methods},
    {Py_tp_members, atomic_members},
    {Py_tp_getset, atomic_getset},
    {0, NULL},
};

#define HIDDEN_FLAGS                                                                               \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)

static PyType_Spec atomic_spec = {
    .name = "shobj.Atomic",
    .basicsize = sizeof(Atomic),
    .flags = HIDDEN_FLAGS | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .slots = atomic_slots,
};

/* ---------------------------------------------------------------------------------------------- blocks of code */

typedef struct Attempts {
    PyObject_HEAD
    Core *core;
    struct limits limits;
    struct attempts_made made;
    PyObject *last; /* the Transaction given out last, or NULL */
    bool over;
} Attempts;

typedef struct Transaction {
    PyObject_HEAD
    Core *core;
    struct block block;
    unsigned long thread;
    Attempts *attempts; /* the loop that it is an attempt of, until it ends; or NULL */
    bool undo;          /* abort() was called */
    bool lost;
} Transaction;

static Transaction *transaction_new(Core *core, Attempts *attempts)
{
    module_state *state = core->state;
    Transaction *self = (Transaction *)state->transaction_type->tp_alloc(state->transaction_type, 0);
    if (self == NULL)
        return NULL;
    self->core = (Core *)Py_NewRef((PyObject *)core);
    self->attempts = (Attempts *)Py_XNewRef((PyObject *)attempts);
    self->block.state = BLOCK_NEW;
    return self;
}

PyObject *shopy_transaction(Core *core)
{
    return (PyObject *)transaction_new(core, NULL);
}

static int wrong_state(Transaction *self, const char *message)
{
    PyErr_SetString(self->core->state->errors[ERR_TRANSACTION], message);
    return -1;
}

static PyObject *transaction_enter(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Transaction *transaction = (Transaction *)self;
    if (transaction->block.state != BLOCK_NEW) {
        wrong_state(transaction, "a transaction is entered once: ask for a new one with Store.transaction()");
        return NULL;
    }
    transaction->thread = PyThread_get_thread_ident();
    if (block_begin(transaction->core, &transaction->block, self) < 0)
        return NULL;
    return Py_NewRef(self);
}

/* The body of `with` is over: with an exception type, by that exception, which is not set now. */
static enum outcome transaction_end(Transaction *self, PyObject *exception)
{
    Core *core = self->core;
    bool failed = exception != Py_None;
    if (self->undo && !failed && top == &self->block && !broken_below(&self->block)) {
        library_abort(core);
        pop(BLOCK_ENDED);
        return DONE;
    }
    if (failed)
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    enum outcome outcome = block_end(core, &self->block, failed);
    if (failed && outcome == FAILED)
        PyErr_Clear(); /* it goes on by itself */
    return outcome;
}

static PyObject *transaction_exit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Transaction *transaction = (Transaction *)self;
    if (!shopy_check_count("__exit__", count, 3, 3))
        return NULL;
    enum block_state state = transaction->block.state;
    if (state == BLOCK_NEW || state == BLOCK_BROKEN || state == BLOCK_ENDED) {
        wrong_state(transaction, "this transaction is not open: use it in a `with` statement");
        return NULL;
    }
    if (transaction->thread != PyThread_get_thread_ident()) {
        wrong_state(transaction, "a transaction belongs to the thread that began it: end it there");
        return NULL;
    }
    bool failed = args[1] != Py_None;
    enum outcome outcome = transaction_end(transaction, args[1]);
    bool in_loop = transaction->attempts != NULL;
    if (in_loop)
        transaction->attempts->over = outcome != LOST;
    Py_CLEAR(transaction->attempts); /* the loop refers to this: no cycle is left */
    if (outcome != LOST)
        return outcome == DONE || failed ? Py_NewRef(Py_False) : NULL;
    transaction->lost = true;
    if (in_loop)
        return Py_NewRef(Py_True);
    if (PyErr_GivenExceptionMatches(args[1], transaction->core->state->errors[ERR_CONFLICT]))
        return Py_NewRef(Py_False);
    PyErr_Format(transaction->core->state->errors[ERR_CONFLICT],
                 "the transaction on the store '%U' lost against another one and changed nothing: run it again, or use "
                 "Store.run(), Store.atomic() or Store.attempts(), which do so by themselves",
                 transaction->core->path);
    return NULL;
}

static PyObject *transaction_abort(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Transaction *transaction = (Transaction *)self;
    struct block *block = &transaction->block;
    if (block->state != BLOCK_OPEN || transaction->thread != PyThread_get_thread_ident()) {
        wrong_state(transaction, "this transaction is not open on this thread: call abort() inside its `with` block");
        return NULL;
    }
    if (top != block) {
        wrong_state(transaction, "another block is open inside this transaction: end it before abort()");
        return NULL;
    }
    Core *core = transaction->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    /* What the rest of the body does belongs to a fresh block, to be undone at the end. */
    shobj_txn_abort(handle);
    int rc = shobj_txn_begin(handle);
    core->txn_count++;
    shopy_core_leave(core);
    transaction->undo = true;
    if (rc == 0)
        Py_RETURN_NONE;
    pop(BLOCK_ENDED);
    return shopy_raise(core->state, rc);
}

static int transaction_traverse(PyObject *self, visitproc visit, void *arg)
{
    Transaction *transaction = (Transaction *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(transaction->core);
    Py_VISIT(transaction->attempts);
    return 0;
}

static int transaction_clear(PyObject *self)
{
    Py_CLEAR(((Transaction *)self)->attempts);
    return 0;
}

/* Never while its block is on the stack, which holds it. */
static void transaction_dealloc(PyObject *self)
{
    Transaction *transaction = (Transaction *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(transaction->attempts);
    Py_CLEAR(transaction->core);
    type->tp_free(self);
    Py_DECREF(type);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef transaction_methods[] = {
    {"__enter__", transaction_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nBegins the transaction."},
    {"__exit__", FAST(transaction_exit), METH_FASTCALL,
     "__exit__($self, type, value, traceback, /)\n--\n\nCommits, or undoes everything if an exception passes."},
    {"abort", transaction_abort, METH_NOARGS,
     "abort($self, /)\n--\n\n"
     "Undoes what the block did so far; what it does until its end will be undone as well. No exception is raised."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot transaction_slots[] = {
    {Py_tp_doc, "One transaction, for a `with` statement. See Store.transaction() and Store.attempts()."},
    {Py_tp_traverse, transaction_traverse},
    {Py_tp_clear, transaction_clear},
    {Py_tp_dealloc, transaction_dealloc},
    {Py_tp_methods, transaction_methods},
    {0, NULL},
};

static PyType_Spec transaction_spec = {
    .name = "shobj.Transaction",
    .basicsize = sizeof(Transaction),
    .flags = HIDDEN_FLAGS,
    .slots = transaction_slots,
};

/* ---------------------------------------------------------------------------------------------- the loop */

PyObject *shopy_attempts(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"tries", "timeout", NULL};
    PyObject *given[2];
    struct limits limits;
    if (shopy_arguments("attempts", args, count, keywords, names, 0, given) < 0 ||
        parse_limits(given[0], given[1], &limits) < 0)
        return NULL;
    module_state *state = core->state;
    Attempts *self = (Attempts *)state->attempts_type->tp_alloc(state->attempts_type, 0);
    if (self == NULL)
        return NULL;
    self->core = (Core *)Py_NewRef((PyObject *)core);
    self->limits = limits;
    return (PyObject *)self;
}

static PyObject *attempts_next(PyObject *self)
{
    Attempts *attempts = (Attempts *)self;
    if (attempts->over)
        return NULL;
    Transaction *last = (Transaction *)attempts->last;
    if (last == NULL) {
        attempts->made.began_ns = now_ns();
    } else if (!last->lost) {
        attempts->over = true;
        wrong_state(last, "the attempt was not used: the body of the loop is `with attempt:` and what belongs to it");
        return NULL;
    } else {
        Py_CLEAR(attempts->last);
        if (prepare_next(attempts->core, &attempts->limits, &attempts->made) < 0) {
            attempts->over = true;
            return NULL;
        }
    }
    Transaction *fresh = transaction_new(attempts->core, attempts);
    attempts->last = Py_XNewRef((PyObject *)fresh);
    return (PyObject *)fresh;
}

static int attempts_traverse(PyObject *self, visitproc visit, void *arg)
{
    Attempts *attempts = (Attempts *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(attempts->core);
    Py_VISIT(attempts->last);
    return 0;
}

static int attempts_clear(PyObject *self)
{
    Py_CLEAR(((Attempts *)self)->last);
    return 0;
}

/* The loop was left by break or return from an attempt that then lost: its work is not done, and nobody would know. */
static void attempts_finalize(PyObject *self)
{
    Attempts *attempts = (Attempts *)self;
    Transaction *last = (Transaction *)attempts->last;
    if (attempts->over || last == NULL || !last->lost)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "a loop over attempts() was left by break or return, but its last attempt on the store '%U' had "
                         "lost: nothing was changed; leave the loop only by its end",
                         attempts->core->path) < 0)
        PyErr_WriteUnraisable(self);
    PyErr_Restore(type, value, traceback);
}

static void attempts_dealloc(PyObject *self)
{
    Attempts *attempts = (Attempts *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(attempts->last);
    Py_CLEAR(attempts->core);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot attempts_slots[] = {
    {Py_tp_doc, "A loop over the attempts of one transaction. See Store.attempts()."},
    {Py_tp_traverse, attempts_traverse},
    {Py_tp_clear, attempts_clear},
    {Py_tp_finalize, attempts_finalize},
    {Py_tp_dealloc, attempts_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, attempts_next},
    {0, NULL},
};

static PyType_Spec attempts_spec = {
    .name = "shobj.Attempts",
    .basicsize = sizeof(Attempts),
    .flags = HIDDEN_FLAGS,
    .slots = attempts_slots,
};

int shopy_txn_init(PyObject *module, module_state *state)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
    state->atomic_type = shopy_type_new(module, &atomic_spec, false);
    state->transaction_type = shopy_type_new(module, &transaction_spec, true);
    state->attempts_type = shopy_type_new(module, &attempts_spec, true);
    return state->atomic_type && state->transaction_type && state->attempts_type ? 0 : -1;
}
