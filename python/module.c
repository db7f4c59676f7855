/*
 * module.c: the extension module shobj._shobj: its functions, its state, how it is made and taken down.
 *
 * Multi-phase initialization, heap types, all state in the module: each interpreter of a process has its own,
 * with its own lock or none. What a process has once is the library's table of mappings, and per thread the
 * library's session and the stack of open blocks.
 */
#include "state.h"

/* ---------------------------------------------------------------------------------------------- arguments */

bool shopy_check_count(const char *function, Py_ssize_t count, Py_ssize_t min, Py_ssize_t max)
{
    if (count >= min && count <= max)
        return true;
    Py_ssize_t bound = count < min ? min : max;
    PyErr_Format(PyExc_TypeError, "%s expected %s%zd argument%s, got %zd", function,
                 min == max    ? ""
                 : count < min ? "at least "
                               : "at most ",
                 bound, bound == 1 ? "" : "s", count);
    return false;
}

static int argument_index(const char *const *names, PyObject *keyword)
{
    for (int i = 0; names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(keyword, names[i]) == 0)
            return i;
    }
    return -1;
}

int shopy_arguments(const char *function, PyObject *const *args, Py_ssize_t count, PyObject *keywords,
                    const char *const *names, Py_ssize_t positional, PyObject **out)
{
    if (count > positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd positional argument%s (%zd given)", function, positional,
                     positional == 1 ? "" : "s", count);
        return -1;
    }
    for (Py_ssize_t i = 0; names[i] != NULL; i++)
        out[i] = i < count ? args[i] : NULL;
    Py_ssize_t keyword_count = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    for (Py_ssize_t i = 0; i < keyword_count; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(keywords, i);
        int index = argument_index(names, keyword);
        if (index < 0 || out[index] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         index < 0 ? "%s() got an unexpected keyword argument '%U'"
                                   : "%s() got multiple values for argument '%U'",
                         function, keyword);
            return -1;
        }
        out[index] = args[count + i];
    }
    return 0;
}

/* A size in bytes: None or NULL is 0, the default. */
static int size_argument(PyObject *object, const char *name, uint64_t *ret)
{
    *ret = 0;
    if (object == NULL || object == Py_None)
        return 0;
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int (bytes) or None, not '%s'", name, Py_TYPE(object)->tp_name);
        return -1;
    }
    *ret = PyLong_AsUnsignedLongLong(object);
    if (*ret == 0 || PyErr_Occurred()) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s must be from 1 to 2**64 - 1 bytes, not %R", name, object);
        return -1;
    }
    return 0;
}

static int mode_argument(PyObject *object, unsigned *ret)
{
    *ret = 0600;
    if (object == NULL)
        return 0;
    long mode = PyLong_AsLong(object);
    if (mode == -1 && PyErr_Occurred())
        return -1;
    if (mode < 1 || mode > 0777) {
        PyErr_Format(PyExc_ValueError, "mode must be permission bits from 0o001 to 0o777, not %ld", mode);
        return -1;
    }
    *ret = (unsigned)mode;
    return 0;
}

static int flag_argument(PyObject *object, enum shobj_open_mode *ret)
{
    static const char letters[] = "rwcnx";
    static const enum shobj_open_mode modes[] = {SHOBJ_OPEN_READ, SHOBJ_OPEN_WRITE, SHOBJ_OPEN_CREATE, SHOBJ_OPEN_NEW,
                                                 SHOBJ_OPEN_EXCL};
    *ret = SHOBJ_OPEN_CREATE;
    if (object == NULL)
        return 0;
    if (PyUnicode_Check(object) && PyUnicode_GET_LENGTH(object) == 1) {
        Py_UCS4 letter = PyUnicode_READ_CHAR(object, 0);
        const char *at = letter < 128 ? memchr(letters, (int)letter, sizeof letters - 1) : NULL;
        if (at != NULL) {
            *ret = modes[at - letters];
            return 0;
        }
    }
    PyErr_Format(
        PyExc_ValueError,
        "flag must be 'r' (read only), 'w' (existing), 'c' (create if missing), 'n' (new and empty) or 'x' (must "
        "not exist), not %R",
        object);
    return -1;
}

/* Which heap files may hand this process code to run. Checked here, so that a misspelt restriction is never
 * ignored. */
static int code_argument(PyObject *object)
{
    if (object == NULL)
        return 0;
    static const char *const choices[] = {"owner", "never", "any"};
    for (int i = 0; PyUnicode_Check(object) && i < 3; i++) {
        if (PyUnicode_CompareWithASCIIString(object, choices[i]) == 0)
            return 0;
    }
    PyErr_Format(PyExc_ValueError, "code must be 'owner', 'never' or 'any', not %R", object);
    return -1;
}

/* The name of a store as bytes (a new reference), from str, bytes or a path object. */
static PyObject *name_argument(PyObject *object)
{
    PyObject *name = NULL;
    if (!PyUnicode_FSConverter(object, &name))
        return NULL;
    if (PyBytes_GET_SIZE(name) == 0) {
        Py_DECREF(name);
        PyErr_SetString(PyExc_ValueError, "the name of a store must not be empty");
        return NULL;
    }
    return name;
}

/* ---------------------------------------------------------------------------------------------- functions */

static PyObject *open_store(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"path", "flag", "size", "max_size", "mode", "code", NULL};
    PyObject *given[6];
    if (shopy_arguments("open_store", args, count, keywords, names, 2, given) < 0)
        return NULL;
    if (given[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "open_store() needs a path");
        return NULL;
    }
    shobj_options options = shopy_core_options(SHOBJ_OPEN_CREATE);
    if (flag_argument(given[1], &options.mode) < 0 || size_argument(given[2], "size", &options.size) < 0 ||
        size_argument(given[3], "max_size", &options.max_size) < 0 || mode_argument(given[4], &options.file_mode) < 0 ||
        code_argument(given[5]) < 0)
        return NULL;
    PyObject *name = name_argument(given[0]);
    if (name == NULL)
        return NULL;
    Core *core = shopy_core_open(PyModule_GetState(module), PyBytes_AS_STRING(name), &options);
    Py_DECREF(name);
    if (core == NULL)
        return NULL;
    PyObject *store = shopy_store_new(core);
    Py_DECREF(core);
    return store;
}

static PyObject *unlink_store(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"path", "force", NULL};
    PyObject *given[2];
    if (shopy_arguments("unlink", args, count, keywords, names, 1, given) < 0)
        return NULL;
    if (given[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "unlink() needs a path");
        return NULL;
    }
    int force = given[1] ? PyObject_IsTrue(given[1]) : 1;
    PyObject *name = force < 0 ? NULL : name_argument(given[0]);
    if (name == NULL)
        return NULL;
    PyThreadState *saved = shopy_unlock();
    int rc = shobj_unlink(PyBytes_AS_STRING(name), force != 0);
    shopy_relock(saved);
    if (rc < 0) {
        PyObject *path = PyUnicode_DecodeFSDefault(PyBytes_AS_STRING(name));
        if (path != NULL)
            shopy_raise_path(PyModule_GetState(module), rc, path);
        Py_XDECREF(path);
    }
    Py_DECREF(name);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int add_path(const char *path, void *arg)
{
    PyObject *text = PyUnicode_DecodeFSDefault(path);
    int rc = text ? PyList_Append(arg, text) : -1;
    Py_XDECREF(text);
    return rc < 0 ? SHOPY_RAISED : 0;
}

static PyObject *list_stores(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"directory", NULL};
    PyObject *given[1], *name = NULL;
    if (shopy_arguments("list_stores", args, count, keywords, names, 1, given) < 0)
        return NULL;
    if (given[0] != NULL && given[0] != Py_None) {
        name = name_argument(given[0]);
        if (name == NULL)
            return NULL;
    }
    PyObject *result = PyList_New(0);
    if (result != NULL) {
        int rc = shobj_list_stores(name ? PyBytes_AS_STRING(name) : NULL, add_path, result);
        if (rc != 0) {
            Py_CLEAR(result);
            shopy_raise_path(PyModule_GetState(module), rc, name ? given[0] : NULL);
        }
    }
    Py_XDECREF(name);
    return result;
}

static PyObject *to_native(PyObject *module, PyObject *object)
{
    return shopy_to_native(PyModule_GetState(module), object);
}

/* The core of a pickled object's store: open already, or opened now and left to the core. New reference. */
static Core *core_for(module_state *state, const char *path, const uint8_t *uuid)
{
    Core *core = shopy_core_find(state, uuid);
    if (core != NULL)
        return core;
    shobj_options options = shopy_core_options(SHOBJ_OPEN_WRITE);
    core = shopy_core_open(state, path, &options);
    if (core == NULL && PyErr_ExceptionMatches(PyExc_PermissionError)) {
        PyErr_Clear();
        options.mode = SHOBJ_OPEN_READ;
        core = shopy_core_open(state, path, &options);
    }
    if (core == NULL)
        return NULL;
    if (memcmp(shobj_uuid(core->handle), uuid, 16) == 0)
        return core;
    PyErr_Format(
        state->errors[ERR_STALE],
        "the pickled object was in a store that stood at '%U', but another one stands there now: pickle it anew",
        core->path);
    shopy_core_release(core);
    Py_DECREF(core);
    return NULL;
}

static PyObject *restore(PyObject *module, PyObject *args)
{
    module_state *state = PyModule_GetState(module);
    PyObject *path;
    const char *uuid;
    Py_ssize_t uuid_bytes;
    unsigned long long oid;
    if (!PyArg_ParseTuple(args, "O&y#K", PyUnicode_FSConverter, &path, &uuid, &uuid_bytes, &oid))
        return NULL;
    Core *core = NULL;
    if (uuid_bytes == 16)
        core = core_for(state, PyBytes_AS_STRING(path), (const uint8_t *)uuid);
    else
        PyErr_SetString(PyExc_ValueError, "the UUID of a store has 16 bytes");
    Py_DECREF(path);
    shobj_store *handle = core ? shopy_core_enter(core) : NULL;
    PyObject *proxy = NULL;
    if (handle != NULL) {
        enum shobj_kind kind;
        int rc = shobj_object(handle, oid, &kind, NULL);
        proxy = rc == 0 ? shopy_proxy_get(core, oid, kind) : shopy_raise(state, rc);
        shopy_core_leave(core);
    }
    Py_XDECREF((PyObject *)core);
    return proxy;
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef module_methods[] = {
    {"open_store", FAST(open_store), METH_FASTCALL | METH_KEYWORDS,
     "open_store($module, path, flag='c', *, size=None, max_size=None, mode=0o600, code='owner')\n--\n\n"
     "Opens a store; a name without '/' stands in $SHOBJ_DIR, else in /dev/shm.\n\n"
     "flag: 'r' read only, 'w' existing, 'c' create if missing, 'n' new and empty, 'x' must not exist.\n"
     "size, max_size: bytes reserved at creation, and that the file may grow to (None: 1 MiB, 16 GiB).\n"
     "mode: permission bits of a new file. code: from which heap files code of shared classes may run:\n"
     "'owner' (files owned by the caller or root, not writable by others), 'never' or 'any'.\n"
     "Raises StoreNotFoundError, StoreExistsError, PermissionError, VersionMismatchError, CorruptedError,\n"
     "StoreFullError, ValueError, OSError."},
    {"unlink", FAST(unlink_store), METH_FASTCALL | METH_KEYWORDS,
     "unlink($module, path, *, force=True)\n--\n\n"
     "Removes the file of a store; those who have it open go on with it. force=False: Error while anybody has.\n"
     "StoreNotFoundError if there is none."},
    {"list_stores", FAST(list_stores), METH_FASTCALL | METH_KEYWORDS,
     "list_stores($module, directory=None)\n--\n\n"
     "The paths of the stores in a directory ($SHOBJ_DIR, else /dev/shm), sorted."},
    {"to_native", to_native, METH_O,
     "to_native($module, object, /)\n--\n\n"
     "A copy of a Dict or List, and of all below it, as native dicts and lists, with sharing and cycles kept, read\n"
     "as of one instant. Native values are copied likewise. TypeError for what no store can hold."},
    {"_restore", restore, METH_VARARGS,
     "_restore($module, path, uuid, oid, /)\n--\n\nThe proxy that a pickled one comes back as."},
    {NULL, NULL, 0, NULL},
};

/* ---------------------------------------------------------------------------------------------- the module */

PyTypeObject *shopy_type_new(PyObject *module, PyType_Spec *spec, bool public)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && public && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

static int names_init(module_state *state)
{
#define INTERN_NAME(name)                                                                                              \
    if ((state->names.name = PyUnicode_InternFromString(#name)) == NULL)                                               \
        return -1;
    SHOPY_NAMES(INTERN_NAME)
#undef INTERN_NAME
    return 0;
}

static int module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    state->module = module;
    if (names_init(state) < 0 || shopy_errors_init(module, state) < 0 || shopy_core_init(module, state) < 0 ||
        shopy_store_init(module, state) < 0 || shopy_dict_init(module, state) < 0 ||
        shopy_views_init(module, state) < 0 || shopy_list_init(module, state) < 0 ||
        shopy_list_iter_init(module, state) < 0 || shopy_atomic_init(module, state) < 0 ||
        shopy_transaction_init(module, state) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "__version__", shobj_version());
}

/* Calls visit for each object that the state refers to. */
static int each_reference(module_state *state, int (*visit)(PyObject **slot, void *arg), void *arg)
{
    PyTypeObject **types[] = {&state->core_type,   &state->store_type,     &state->dict_type,
                              &state->list_type,   &state->dict_iter_type, &state->list_iter_type,
                              &state->keys_type,   &state->values_type,    &state->items_type,
                              &state->atomic_type, &state->attempts_type,  &state->transaction_type};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        int rc = visit((PyObject **)types[i], arg);
        if (rc != 0)
            return rc;
    }
    for (int i = 0; i < ERR_COUNT; i++) {
        int rc = visit(&state->errors[i], arg);
        if (rc != 0)
            return rc;
    }
    PyObject **names[] = {
#define NAME_ADDRESS(name) &state->names.name,
        SHOPY_NAMES(NAME_ADDRESS)
#undef NAME_ADDRESS
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int rc = visit(names[i], arg);
        if (rc != 0)
            return rc;
    }
    return 0;
}

struct visitor {
    visitproc visit;
    void *arg;
};

static int visit_slot(PyObject **slot, void *arg)
{
    struct visitor *visitor = arg;
    return *slot ? visitor->visit(*slot, visitor->arg) : 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    return state ? each_reference(state, visit_slot, &(struct visitor){visit, arg}) : 0;
}

static int clear_slot(PyObject **slot, void *arg)
{
    (void)arg;
    Py_CLEAR(*slot);
    return 0;
}

static int module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    if (state == NULL)
        return 0;
    shopy_core_close_all(state);
    return each_reference(state, clear_slot, NULL);
}

static void module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

PyDoc_STRVAR(module_doc, "Mutable Python objects in a heap file, shared by processes and changed by transactions.");

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "shobj._shobj",
    .m_doc = module_doc,
    .m_size = sizeof(module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__shobj(void);

PyMODINIT_FUNC PyInit__shobj(void)
{
    return PyModuleDef_Init(&module_def);
}
