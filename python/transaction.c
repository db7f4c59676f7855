/*
 * transaction.c: `with` blocks that are transactions: Store.transaction(), and Store.attempts(), the loop of them.
 */
#include "txn.h"

#define HIDDEN_FLAGS                                                                                                   \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)

/* ---------------------------------------------------------------------------------------------- one block */

typedef struct Attempts {
    PyObject_HEAD
    Core *core;
    struct terms terms;
    struct course course;
    PyObject *last; /* the Transaction given out last, or NULL */
    bool over;
} Attempts;

typedef struct Transaction {
    PyObject_HEAD
    Core *core;
    struct block block;
    unsigned long thread;
    Attempts *attempts; /* the loop that it is an attempt of, until it ends; or NULL */
    struct terms terms;
    bool undo;            /* abort() was called */
    enum outcome outcome; /* of an attempt; until it has ended, DONE */
} Transaction;

static Transaction *transaction_new(Core *core, Attempts *attempts, const struct terms *terms)
{
    module_state *state = core->state;
    Transaction *self = (Transaction *)state->transaction_type->tp_alloc(state->transaction_type, 0);
    if (self == NULL)
        return NULL;
    self->core = (Core *)Py_NewRef((PyObject *)core);
    self->attempts = (Attempts *)Py_XNewRef((PyObject *)attempts);
    self->terms = *terms;
    self->block.state = BLOCK_NEW;
    return self;
}

PyObject *shopy_transaction(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"timeout", "readonly", NULL};
    PyObject *given[2];
    struct terms terms;
    if (shopy_arguments("transaction", args, count, keywords, names, 0, given) < 0 ||
        shopy_terms_parse(NULL, given[0], given[1], &terms) < 0)
        return NULL;
    terms.once = true;
    return (PyObject *)transaction_new(core, NULL, &terms);
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
    struct course own;
    struct course *course = &own;
    if (transaction->attempts != NULL)
        course = &transaction->attempts->course;
    else
        shopy_course_begin(&own, &transaction->terms);
    if (shopy_block_begin(transaction->core, &transaction->block, self, &transaction->terms, course) < 0)
        return NULL;
    return Py_NewRef(self);
}

/* The body of `with` is over: with an exception, which is not set now, or with None. FAILED leaves the exception set that
 * is to be raised, or none if that of the body is to go on. */
static enum outcome transaction_end(Transaction *self, PyObject *exception)
{
    Core *core = self->core;
    bool failed = exception != Py_None;
    if (self->undo && !failed) {
        enum outcome outcome = shopy_block_undo(core, &self->block);
        if (outcome != LOST)
            return outcome;
    }
    if (failed)
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    enum outcome outcome = shopy_block_end(core, &self->block, failed);
    if (!failed || outcome != FAILED)
        return outcome;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    bool same = value == exception;
    if (same) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    } else {
        PyErr_Restore(type, value, traceback);
    }
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
    enum outcome outcome = transaction_end(transaction, args[1]);
    bool in_loop = transaction->attempts != NULL;
    bool again = outcome == LOST || outcome == AGAIN;
    if (in_loop)
        transaction->attempts->over = !again;
    Py_CLEAR(transaction->attempts); /* the loop refers to this: no cycle is left */
    if (!again)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    transaction->outcome = outcome;
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

/* False with TransactionError unless it is open, and on this thread. */
static bool check_open(Transaction *self, const char *method)
{
    if (self->block.state == BLOCK_OPEN && self->thread == PyThread_get_thread_ident())
        return true;
    PyErr_Format(self->core->state->errors[ERR_TRANSACTION],
                 "this transaction is not open on this thread: call %s() inside its `with` block", method);
    return false;
}

static PyObject *transaction_abort(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Transaction *transaction = (Transaction *)self;
    struct block *block = &transaction->block;
    if (!check_open(transaction, "abort"))
        return NULL;
    if (shopy_block_top() != block) {
        wrong_state(transaction, "another block is open inside this transaction: end it before abort()");
        return NULL;
    }
    if (shopy_block_restart(transaction->core, block) < 0)
        return NULL;
    transaction->undo = true;
    Py_RETURN_NONE;
}

static PyObject *add_hook(PyObject *self, bool on_commit, PyObject *const *args, Py_ssize_t count)
{
    Transaction *transaction = (Transaction *)self;
    const char *name = on_commit ? "on_commit" : "on_abort";
    if (!check_open(transaction, name) || shopy_hook_add(&transaction->block.hooks, on_commit, name, args, count) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *transaction_on_commit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return add_hook(self, true, args, count);
}

static PyObject *transaction_on_abort(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return add_hook(self, false, args, count);
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

/* Never while its block is on the stack, which holds it: it has no hooks. */
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
    {"on_commit", FAST(transaction_on_commit), METH_FASTCALL,
     "on_commit($self, function, /, *args)\n--\n\n"
     "Has function(*args) called once this block, and those around it, have committed; see shobj.on_commit()."},
    {"on_abort", FAST(transaction_on_abort), METH_FASTCALL,
     "on_abort($self, function, /, *args)\n--\n\n"
     "Has function(*args) called when this block, or one around it, was undone; see shobj.on_abort()."},
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
    static const char *const names[] = {"tries", "timeout", "readonly", NULL};
    PyObject *given[3];
    struct terms terms;
    if (shopy_arguments("attempts", args, count, keywords, names, 0, given) < 0 ||
        shopy_terms_parse(given[0], given[1], given[2], &terms) < 0)
        return NULL;
    module_state *state = core->state;
    Attempts *self = (Attempts *)state->attempts_type->tp_alloc(state->attempts_type, 0);
    if (self == NULL)
        return NULL;
    self->core = (Core *)Py_NewRef((PyObject *)core);
    self->terms = terms;
    return (PyObject *)self;
}

static PyObject *attempts_next(PyObject *self)
{
    Attempts *attempts = (Attempts *)self;
    if (attempts->over)
        return NULL;
    Transaction *last = (Transaction *)attempts->last;
    if (last == NULL) {
        shopy_course_begin(&attempts->course, &attempts->terms);
    } else if (last->outcome == DONE) {
        attempts->over = true;
        wrong_state(last, "the attempt was not used: the body of the loop is `with attempt:` and what belongs to it");
        return NULL;
    } else {
        bool lost = last->outcome == LOST;
        Py_CLEAR(attempts->last);
        if (lost && shopy_course_next(attempts->core, &attempts->terms, &attempts->course) < 0) {
            attempts->over = true;
            return NULL;
        }
    }
    Transaction *fresh = transaction_new(attempts->core, attempts, &attempts->terms);
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

/* The loop was left by break or return from an attempt that then lost: its work is not done, and nobody would
 * know. */
static void attempts_finalize(PyObject *self)
{
    Attempts *attempts = (Attempts *)self;
    Transaction *last = (Transaction *)attempts->last;
    if (attempts->over || last == NULL || last->outcome != LOST)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnFormat(
            PyExc_RuntimeWarning, 1,
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

int shopy_transaction_init(PyObject *module, module_state *state)
{
    state->transaction_type = shopy_type_new(module, &transaction_spec, true);
    state->attempts_type = shopy_type_new(module, &attempts_spec, true);
    return state->transaction_type && state->attempts_type ? 0 : -1;
}
