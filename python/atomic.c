/*
 * atomic.c: functions that are transactions: Store.atomic(), Store.run() and Store.or_else(); and the functions of the
 * module that a body calls: retry(), on_commit() and on_abort().
 */
#include "txn.h"

typedef struct Atomic {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Core *core;
    PyObject *function;
    struct terms terms;
    PyObject *attributes; /* __dict__ */
    PyObject *weakrefs;
} Atomic;

struct body {
    PyObject *function;
    PyObject *const *args;
    size_t nargsf;
    PyObject *names;
    PyObject *second; /* of or_else(), or NULL */
};

static const struct terms plain_terms = {.timeout_ns = -1};

/* A nested block. */
static PyObject *call_alternative(Core *core, PyObject *function)
{
    static const struct course course = {0};
    struct block block;
    if (shopy_block_begin(core, &block, NULL, &plain_terms, &course) < 0)
        return NULL;
    PyObject *result = PyObject_CallNoArgs(function);
    if (shopy_block_end(core, &block, result == NULL) != DONE)
        Py_CLEAR(result);
    return result;
}

static PyObject *call_alternatives(Core *core, const struct body *body)
{
    PyObject *result = call_alternative(core, body->function);
    if (result != NULL || !PyErr_ExceptionMatches(core->state->errors[ERR_RETRY]))
        return result;
    PyErr_Clear();
    return call_alternative(core, body->second);
}

static PyObject *run_body(Core *core, const struct terms *terms, const struct body *body)
{
    struct course course;
    shopy_course_begin(&course, terms);
    for (;;) {
        struct block block;
        if (shopy_block_begin(core, &block, NULL, terms, &course) < 0)
            return NULL;
        PyObject *result = LIKELY(body->second == NULL)
                               ? PyObject_Vectorcall(body->function, body->args, body->nargsf, body->names)
                               : call_alternatives(core, body);
        enum outcome outcome = shopy_block_end(core, &block, result == NULL);
        if (LIKELY(outcome == DONE))
            return result;
        Py_XDECREF(result);
        if (outcome == FAILED || (outcome == LOST && shopy_course_next(core, terms, &course) < 0))
            return NULL;
    }
}

static PyObject *atomic_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Atomic *atomic = (Atomic *)self;
    return run_body(atomic->core, &atomic->terms, &(struct body){atomic->function, args, nargsf, names, NULL});
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
    static const char *const names[] = {"__module__", "__name__",        "__qualname__",
                                        "__doc__",    "__annotations__", "__type_params__"};
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

static PyObject *atomic_new(Core *core, PyObject *function, const struct terms *terms)
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
    atomic->terms = *terms;
    atomic->attributes = PyDict_New();
    if (atomic->attributes == NULL || copy_attributes(atomic) < 0) {
        Py_DECREF(atomic);
        return NULL;
    }
    return (PyObject *)atomic;
}

/* store.atomic(tries=..., timeout=..., readonly=...) gives this, bound to (core, tries, timeout, readonly). */
static PyObject *decorate(PyObject *bound, PyObject *function)
{
    struct terms terms;
    PyObject **given = &PyTuple_GET_ITEM(bound, 1);
    if (shopy_terms_parse(given[0], given[1], given[2], &terms) < 0)
        return NULL;
    return atomic_new((Core *)PyTuple_GET_ITEM(bound, 0), function, &terms);
}

static PyMethodDef decorate_def = {"atomic", decorate, METH_O,
                                   "atomic(function, /)\n--\n\nMakes the function run as a transaction."};

PyObject *shopy_atomic(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"function", "tries", "timeout", "readonly", NULL};
    PyObject *given[4];
    struct terms terms;
    if (shopy_arguments("atomic", args, count, keywords, names, 1, given) < 0 ||
        shopy_terms_parse(given[1], given[2], given[3], &terms) < 0)
        return NULL;
    if (given[0] != NULL)
        return atomic_new(core, given[0], &terms);
    for (int i = 1; i < 4; i++)
        given[i] = given[i] ? given[i] : Py_None;
    PyObject *bound = PyTuple_Pack(4, core, given[1], given[2], given[3]);
    PyObject *result = bound ? PyCFunction_New(&decorate_def, bound) : NULL;
    Py_XDECREF(bound);
    return result;
}

/* Is it a keyword of run() itself? Then `given` gets its value. */
static bool take_term(PyObject *name, PyObject *value, PyObject **given)
{
    static const char *const own[] = {"tries", "timeout", "readonly"};
    for (int i = 0; i < 3; i++) {
        if (PyUnicode_CompareWithASCIIString(name, own[i]) == 0) {
            given[i] = value;
            return true;
        }
    }
    return false;
}

/* run() with keywords: some are its own, the others the function's. */
static PyObject *run_with_keywords(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t name_count = PyTuple_GET_SIZE(names), left = 0;
    PyObject *given[3] = {NULL}, *result = NULL;
    struct terms terms;
    PyObject **kept = PyMem_Malloc((size_t)(count + name_count) * sizeof *kept);
    PyObject *kept_names = kept ? PyList_New(0) : PyErr_NoMemory();
    if (kept_names == NULL) {
        PyMem_Free(kept);
        return NULL;
    }
    memcpy(kept, args, (size_t)count * sizeof *kept);
    for (Py_ssize_t i = 0; i < name_count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (take_term(name, args[count + i], given))
            continue;
        kept[count + left++] = args[count + i];
        if (PyList_Append(kept_names, name) < 0)
            goto done;
    }
    Py_SETREF(kept_names, PyList_AsTuple(kept_names));
    if (kept_names != NULL && shopy_terms_parse(given[0], given[1], given[2], &terms) == 0)
        result = run_body(core, &terms,
                          &(struct body){kept[0], kept + 1, (size_t)count - 1, left ? kept_names : NULL, NULL});
done:
    Py_XDECREF(kept_names);
    PyMem_Free(kept);
    return result;
}

PyObject *shopy_run(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "run() needs a function, then its arguments");
        return NULL;
    }
    if (check_function(args[0]) < 0)
        return NULL;
    if (names != NULL && PyTuple_GET_SIZE(names) > 0)
        return run_with_keywords(core, args, count, names);
    return run_body(core, &plain_terms, &(struct body){args[0], args + 1, (size_t)count - 1, NULL, NULL});
}

PyObject *shopy_or_else(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"first", "second", "tries", "timeout", "readonly", NULL};
    PyObject *given[5];
    struct terms terms;
    if (shopy_arguments("or_else", args, count, keywords, names, 2, given) < 0)
        return NULL;
    if (given[0] == NULL || given[1] == NULL) {
        PyErr_SetString(PyExc_TypeError, "or_else() needs two functions");
        return NULL;
    }
    if (check_function(given[0]) < 0 || check_function(given[1]) < 0 ||
        shopy_terms_parse(given[2], given[3], given[4], &terms) < 0)
        return NULL;
    return run_body(core, &terms, &(struct body){.function = given[0], .second = given[1]});
}

/* ---------------------------------------------------------------------------------------------- in a body */

/* The innermost block of this thread, or NULL with TransactionError. */
static struct block *need_block(PyObject *module, const char *name)
{
    struct block *block = shopy_block_top();
    if (block == NULL)
        PyErr_Format(((module_state *)PyModule_GetState(module))->errors[ERR_TRANSACTION],
                     "%s() outside a transaction: call it in the body of one, such as a function that @store.atomic "
                     "decorates",
                     name);
    return block;
}

static PyObject *retry(PyObject *module, PyObject *ignored)
{
    (void)ignored;
    if (need_block(module, "retry") != NULL)
        PyErr_SetString(((module_state *)PyModule_GetState(module))->errors[ERR_RETRY],
                        "retry() asks the transaction to run again later: let this exception pass");
    return NULL;
}

static PyObject *add_hook(PyObject *module, bool on_commit, PyObject *const *args, Py_ssize_t count)
{
    const char *name = on_commit ? "on_commit" : "on_abort";
    struct block *block = need_block(module, name);
    if (block == NULL || shopy_hook_add(&block->hooks, on_commit, name, args, count) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *on_commit(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    return add_hook(module, true, args, count);
}

static PyObject *on_abort(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    return add_hook(module, false, args, count);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef functions[] = {
    {"retry", retry, METH_NOARGS,
     "retry($module, /)\n--\n\n"
     "In a transaction: undoes this execution, waits until something that it has read changes, and runs the body\n"
     "again. It leaves the body by the exception Retry, which `except Exception` does not catch, up to the outermost\n"
     "@store.atomic, Store.run() or attempt of Store.attempts(), or to the next Store.or_else().\n"
     "TransactionError outside a transaction, in one that has read nothing, and in a `with store.transaction()`\n"
     "block, whose body can't run again; TransactionTimeout when the transaction's timeout has passed."},
    {"on_commit", FAST(on_commit), METH_FASTCALL,
     "on_commit($module, function, /, *args)\n--\n\n"
     "In a transaction: has function(*args) called once it has committed, outside of it; never if it is undone.\n"
     "Several are called in the order of these calls. If one raises, the others are called all the same, and the\n"
     "exception (of several, an ExceptionGroup) comes out of the transaction, which stays committed.\n"
     "In a nested block: called when the outermost has committed, unless that block is undone."},
    {"on_abort", FAST(on_abort), METH_FASTCALL,
     "on_abort($module, function, /, *args)\n--\n\n"
     "In a transaction: has function(*args) called when the innermost block that is open now, or one around it, was\n"
     "undone: by an exception, by abort(), by retry() after its wait, or by a conflict, before the body runs again.\n"
     "Several are called the last one first. If one raises, the others are called all the same, and the exception (of\n"
     "several, an ExceptionGroup) goes on instead of what undid the block."},
    {NULL, NULL, 0, NULL},
};

/* ---------------------------------------------------------------------------------------------- the type */

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
    {Py_tp_traverse, atomic_traverse}, {Py_tp_clear, atomic_clear},
    {Py_tp_dealloc, atomic_dealloc},   {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, atomic_get},     {Py_tp_repr, atomic_repr},
    {Py_tp_methods, atomic_methods},   {Py_tp_members, atomic_members},
    {Py_tp_getset, atomic_getset},     {0, NULL},
};

#define HIDDEN_FLAGS                                                                                                   \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)

static PyType_Spec atomic_spec = {
    .name = "shobj.Atomic",
    .basicsize = sizeof(Atomic),
    .flags = HIDDEN_FLAGS | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .slots = atomic_slots,
};

int shopy_atomic_init(PyObject *module, module_state *state)
{
    shopy_blocks_init();
    state->atomic_type = shopy_type_new(module, &atomic_spec, false);
    return state->atomic_type && PyModule_AddFunctions(module, functions) == 0 ? 0 : -1;
}
