/*
 * atomic.c: functions that are transactions: Store.atomic() and Store.run().
 */
#include "txn.h"

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
        made.began_ns = shopy_now_ns();
    for (;;) {
        struct block block;
        if (shopy_block_begin(core, &block, NULL) < 0)
            return NULL;
        PyObject *result = PyObject_Vectorcall(function, args, nargsf, names);
        enum outcome outcome = shopy_block_end(core, &block, result == NULL);
        if (LIKELY(outcome == DONE))
            return result;
        Py_XDECREF(result);
        if (outcome == FAILED || shopy_attempt_next(core, limits, &made) < 0)
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
    if (shopy_limits_parse(PyTuple_GET_ITEM(bound, 1), PyTuple_GET_ITEM(bound, 2), &limits) < 0)
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
        shopy_limits_parse(given[1], given[2], &limits) < 0)
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
    return state->atomic_type ? 0 : -1;
}
