/*
 * hooks.c: what is called when a transaction is over: on_commit() and on_abort().
 *
 * Hooks stand or fall with their block (txn.c): the list of a nested one that ends well becomes part of that of the block
 * below; that of one that is undone is run then. Whatever happens, a hook is taken off its list before it is called or
 * dropped, so that each reference is released once.
 */
#include "txn.h"

struct hook {
    struct hook *next;
    PyObject *function;
    PyObject *args; /* tuple */
    bool on_commit;
};

int shopy_hook_add(struct hook **hooks, bool on_commit, const char *name, PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || !PyCallable_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "%s() needs a function, then its arguments", name);
        return -1;
    }
    PyObject *tuple = PyTuple_New(count - 1);
    struct hook *hook = tuple ? PyMem_Malloc(sizeof *hook) : NULL;
    if (hook == NULL) {
        if (tuple != NULL)
            PyErr_NoMemory();
        Py_XDECREF(tuple);
        return -1;
    }
    for (Py_ssize_t i = 1; i < count; i++)
        PyTuple_SET_ITEM(tuple, i - 1, Py_NewRef(args[i]));
    *hook = (struct hook){*hooks, Py_NewRef(args[0]), tuple, on_commit};
    *hooks = hook;
    return 0;
}

void shopy_hooks_move(struct hook **to, struct hook **from)
{
    struct hook **end = from;
    while (*end != NULL)
        end = &(*end)->next;
    *end = *to;
    *to = *from;
    *from = NULL;
}

/* Calls it, if `due`, and releases it. False with an exception. */
static bool hook_end(struct hook *hook, bool due)
{
    PyObject *function = hook->function, *args = hook->args;
    PyMem_Free(hook);
    PyObject *result = due ? PyObject_CallObject(function, args) : Py_NewRef(Py_None);
    Py_DECREF(function);
    Py_DECREF(args);
    Py_XDECREF(result);
    return result != NULL;
}

static struct hook *take(struct hook **hooks)
{
    struct hook *hook = *hooks;
    *hooks = hook->next;
    return hook;
}

void shopy_hooks_drop(struct hook **hooks)
{
    while (*hooks != NULL)
        hook_end(take(hooks), false);
}

/* Takes the exception that is set off, as an object. New reference, or NULL. */
static PyObject *take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL)
        return NULL;
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
}

static void set_exception(PyObject *exception)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), Py_NewRef(exception), PyException_GetTraceback(exception));
}

/* What the hooks raised: one as it is, several as a group. New reference, or NULL with an exception. */
static PyObject *combine(PyObject *errors)
{
    if (PyList_GET_SIZE(errors) == 1)
        return Py_NewRef(PyList_GET_ITEM(errors, 0));
    return PyObject_CallFunction(PyExc_BaseExceptionGroup, "sO",
                                 "several functions called at the end of a transaction failed", errors);
}

/* Makes `context` what was being handled when the first of the chain of errors that leads to `error` was raised. */
static void chain(PyObject *error, PyObject *context)
{
    for (int links = 0; error != context && links < 1000; links++) {
        PyObject *next = PyException_GetContext(error);
        if (next == NULL) {
            PyException_SetContext(error, Py_NewRef(context));
            return;
        }
        error = next;
        Py_DECREF(next); /* the one before holds it */
    }
}

static void run(struct hook **hooks, bool committed, PyObject *errors)
{
    while (*hooks != NULL) {
        struct hook *hook = take(hooks);
        if (hook_end(hook, hook->on_commit == committed))
            continue;
        PyObject *error = take_exception();
        if (PyList_Append(errors, error) < 0)
            PyErr_WriteUnraisable(error);
        Py_DECREF(error);
    }
}

int shopy_hooks_run(struct hook **hooks, bool committed)
{
    struct hook *first = NULL; /* in the order of calls */
    if (committed) {
        while (*hooks != NULL) {
            struct hook *hook = take(hooks);
            hook->next = first;
            first = hook;
        }
    } else {
        shopy_hooks_move(&first, hooks);
    }
    PyObject *passing = take_exception();
    PyObject *errors = PyList_New(0);
    if (errors == NULL) {
        shopy_hooks_drop(&first);
        Py_XDECREF(passing);
        return -1;
    }
    run(&first, committed, errors);
    int rc = PyList_GET_SIZE(errors) > 0 ? -1 : 0;
    PyObject *raised = rc < 0 ? combine(errors) : Py_XNewRef(passing);
    if (raised != NULL) {
        if (passing != NULL)
            chain(raised, passing);
        set_exception(raised);
    }
    Py_XDECREF(raised);
    Py_XDECREF(passing);
    Py_DECREF(errors);
    return rc;
}
