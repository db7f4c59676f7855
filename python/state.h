/*
 * state.h: what the files of the extension module share.
 *
 * Three layers, each knowing only those before it:
 *
 *   Core    one per interpreter and mapped heap file: the library's handle, the table of living proxies, prepared keys
 *   Proxy   a Dict or a List: (core, object id) and nothing else that could go stale
 *   Store   what open_store() returns: the right to use a core until close()
 *
 * Rules that every file keeps:
 *   R1  Nothing is static but tables of constants and thread-local pointers: each interpreter has its own
 *       module state.
 *   R2  A call into the library stands between shopy_core_enter() and shopy_core_leave(), and so does the
 *       conversion of what it returned: those bytes belong to the thread's session until the thread calls
 *       again. No Python code may run between the call and the end of the conversion. Creating int, float, str
 *       and bytes objects runs none. Creating containers may start the cyclic collector (and with it anybody's
 *       finalizers) in CPython 3.11, so such conversions stand between shopy_gc_pause() and shopy_gc_resume();
 *       from 3.12 on the collector runs only between byte codes.
 *   R3  A thread gives up the interpreter lock only in shopy_unlock() or in the hooks that the library calls
 *       around waits.
 *   R4  close() takes the handle away at once, but unmaps only when the last thread inside has left.
 *   R5  Signal handlers run in waits inside the library, too. The thread's session is in the middle of an operation
 *       then: they can't use the store.
 */
#ifndef SHOPY_STATE_H
#define SHOPY_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <shobj.h>

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Result of a step that left a Python exception; library errors are negative. */
#define SHOPY_RAISED 1

/* ---------------------------------------------------------------------------------------------- module */

/* The classes of errors.c, each after its base. */
enum shopy_error {
    ERR_ERROR,
    ERR_NOT_FOUND,
    ERR_EXISTS,
    ERR_CLOSED,
    ERR_READONLY,
    ERR_FULL,
    ERR_VERSION,
    ERR_CORRUPTED,
    ERR_NOT_SHAREABLE,
    ERR_STALE,
    ERR_TRANSACTION,
    ERR_CONFLICT,
    ERR_TIMEOUT,
    ERR_RETRY, /* of retry() */
    ERR_COUNT
};

typedef struct Core Core;

/* Attribute names that are looked up, interned once. X(name) */
#define SHOPY_NAMES(X)                                                                                                 \
    X(count)                                                                                                           \
    X(fromkeys)                                                                                                        \
    X(index)                                                                                                           \
    X(isdisjoint)                                                                                                      \
    X(items)                                                                                                           \
    X(keys)                                                                                                            \
    X(sort)                                                                                                            \
    X(update)                                                                                                          \
    X(values)

typedef struct module_state {
    PyTypeObject *core_type;
    PyTypeObject *store_type;
    PyTypeObject *dict_type;
    PyTypeObject *list_type;
    PyTypeObject *dict_iter_type;
    PyTypeObject *list_iter_type;
    PyTypeObject *keys_type;
    PyTypeObject *values_type;
    PyTypeObject *items_type;
    PyTypeObject *atomic_type;
    PyTypeObject *attempts_type;
    PyTypeObject *transaction_type;
    PyObject *errors[ERR_COUNT];
    struct {
#define SHOPY_NAME_FIELD(name) PyObject *name;
        SHOPY_NAMES(SHOPY_NAME_FIELD)
#undef SHOPY_NAME_FIELD
    } names;
    PyObject *module; /* borrowed: the state is part of it */
    Core *cores;      /* the open ones */
#ifdef Py_GIL_DISABLED
    PyMutex cores_mutex;
#endif
} module_state;

/* Adds the types or exceptions of a file to the module. 0, or -1 with an exception. */
int shopy_errors_init(PyObject *module, module_state *state);
int shopy_core_init(PyObject *module, module_state *state);
int shopy_store_init(PyObject *module, module_state *state);
int shopy_dict_init(PyObject *module, module_state *state);
int shopy_views_init(PyObject *module, module_state *state);
int shopy_list_init(PyObject *module, module_state *state);
int shopy_list_iter_init(PyObject *module, module_state *state);
int shopy_atomic_init(PyObject *module, module_state *state);
int shopy_transaction_init(PyObject *module, module_state *state);
/* Creates one heap type; adds it to the module by its name if `public`. */
PyTypeObject *shopy_type_new(PyObject *module, PyType_Spec *spec, bool public);

/* ---------------------------------------------------------------------------------------------- locks */

/* Gives up the interpreter lock around a call into the library that may take long; the hooks know of it. */
PyThreadState *shopy_unlock(void);
void shopy_relock(PyThreadState *saved);

#if PY_VERSION_HEX < 0x030C0000
static inline int shopy_gc_pause(void)
{
    return PyGC_Disable();
}
static inline void shopy_gc_resume(int was_enabled)
{
    if (was_enabled)
        PyGC_Enable();
}
#else
static inline int shopy_gc_pause(void)
{
    return 0;
}
static inline void shopy_gc_resume(int was_enabled)
{
    (void)was_enabled;
}
#endif

/* ---------------------------------------------------------------------------------------------- core */

typedef struct Proxy {
    PyObject_HEAD
    Core *core;
    shobj_oid oid;
    uint64_t change_count; /* of changes made through this proxy: iterators look whether theirs is fresh */
    uint32_t pin;          /* in the core's table: keeps the object alive */
    PyObject *weakrefs;
} Proxy;

struct cached_key {
    PyObject *str; /* strong; the key points into it */
    shobj_key key;
};

#define KEY_CACHE_BITS 10
#define PROXY_SPARES   64

/* One living proxy. With the interpreter lock `ref` is the proxy itself, borrowed: its destructor takes it out.
 * Without, another thread may be destroying it just now, so `ref` is a weak reference, owned. */
struct proxy_slot {
    shobj_oid oid;
    PyObject *ref;
};

struct Core {
    PyObject_HEAD
    module_state *state;
    shobj_store *handle;    /* NULL: closed */
    shobj_pins *pins;       /* of the living proxies; NULL: closed */
    shobj_store *lingering; /* closed, but a thread is still inside: the last one unmaps it */
    shobj_pins *lingering_pins;
    unsigned lingering_opens;
    unsigned open_count;     /* shobj_open()s to be undone */
    Py_ssize_t inside_count; /* calls under way */
    uint64_t txn_count;      /* begins and ends of transactions, for iterators */
    Core *next;
    struct proxy_slot *slots; /* open addressing by oid; a power of two */
    size_t slot_mask;
    size_t proxy_count;
    struct Proxy *spares[PROXY_SPARES]; /* memory of proxies that have gone */
    unsigned spare_count;
    struct cached_key *keys; /* direct-mapped by the address of the str */
    PyObject *path;          /* str; outlives the handle, for messages */
    bool readonly;
#ifdef Py_GIL_DISABLED
    PyMutex mutex; /* slots, pins */
#endif
};

/* Options for it: the mode, and the hooks around waits. */
shobj_options shopy_core_options(enum shobj_open_mode mode);
/* Opens a heap file and finds or makes its core (a new reference). NULL with an exception. */
Core *shopy_core_open(module_state *state, const char *name, const shobj_options *options);
/* Undoes one opening; unmaps with the last. */
void shopy_core_release(Core *core);
/* Undoes all openings of all cores, at the end of the interpreter. */
void shopy_core_close_all(module_state *state);
/* The open core of a store by its 16 bytes of UUID, or NULL without exception. New reference. */
Core *shopy_core_find(module_state *state, const uint8_t *uuid);
void shopy_raise_closed(const Core *core);
void shopy_raise_refused(const Core *core);
void shopy_core_unmap(Core *core);

#ifdef Py_GIL_DISABLED
#define INSIDE_ADD(core, n) __atomic_add_fetch(&(core)->inside_count, (n), __ATOMIC_SEQ_CST)
#else
#define INSIDE_ADD(core, n) ((core)->inside_count += (n))
#endif

static inline void shopy_core_leave(Core *core)
{
    if (INSIDE_ADD(core, -1) == 0 && UNLIKELY(core->lingering != NULL))
        shopy_core_unmap(core);
}

/* A signal handler runs while this thread waits inside the library. */
extern _Thread_local bool shopy_in_wait;

/* The handle for one or more calls, or NULL with StoreClosedError; or with TransactionError, inside a wait (R5). */
static inline shobj_store *shopy_core_enter(Core *core)
{
    INSIDE_ADD(core, 1);
    shobj_store *handle = core->handle;
    if (UNLIKELY(handle == NULL) || UNLIKELY(shopy_in_wait)) {
        shopy_core_leave(core);
        shopy_raise_refused(core);
        return NULL;
    }
    return handle;
}

/* The proxy of an object: the living one, or a new one. New reference. */
PyObject *shopy_proxy_get(Core *core, shobj_oid oid, unsigned kind);
/* The slots that Dict and List share. */
void shopy_proxy_dealloc(PyObject *self);
PyObject *shopy_proxy_reduce(PyObject *self, PyObject *ignored);
extern PyGetSetDef shopy_proxy_getset[]; /* of every proxy type */
extern PyMemberDef shopy_proxy_members[];

/* ---------------------------------------------------------------------------------------------- errors */

/* Sets the exception for a library error from its message; does nothing for SHOPY_RAISED, nor for an interruption, whose
 * exception is set. Returns NULL. */
PyObject *shopy_raise(module_state *state, int error);
/* The same for an error about a file: errno and file name are set where the class has them. */
PyObject *shopy_raise_path(module_state *state, int error, PyObject *path);
/* KeyError(key). Returns NULL. */
PyObject *shopy_raise_key(PyObject *key);

/* ---------------------------------------------------------------------------------------------- convert */

/* Builds the Python object of a value. New reference. */
PyObject *shopy_value_build(Core *core, const shobj_value *value);

static inline PyObject *shopy_str_build(const shobj_value *value)
{
    const char *data = value->data;
    Py_ssize_t count = (Py_ssize_t)value->count;
    if (value->ascii && count > 1) {
        PyObject *str = PyUnicode_New(count, 127);
        if (LIKELY(str != NULL))
            memcpy(PyUnicode_DATA(str), data, (size_t)count);
        return str;
    }
    return PyUnicode_DecodeUTF8(data, count, "surrogatepass");
}

static inline PyObject *shopy_value_to_python(Core *core, const shobj_value *value)
{
    if (LIKELY(value->type == SHOBJ_INT))
        return PyLong_FromLongLong(value->i);
    if (value->type == SHOBJ_STR)
        return shopy_str_build(value);
    if (value->type == SHOBJ_OBJECT)
        return shopy_proxy_get(core, value->oid, value->kind);
    return shopy_value_build(core, value);
}

/* The value of an object that needs no memory of its own and creates nothing: 1 and *ret, or 0 (no exception) if this
 * object takes the long way. The value points into the object. */
static inline int shopy_leaf(Core *core, PyObject *object, shobj_value *ret)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyLong_Type) {
#if PY_VERSION_HEX >= 0x030C0000
        if (LIKELY(PyUnstable_Long_IsCompact((PyLongObject *)object))) {
            *ret = (shobj_value){.type = SHOBJ_INT, .i = PyUnstable_Long_CompactValue((PyLongObject *)object)};
            return 1;
        }
#endif
        int overflow;
        long long i = PyLong_AsLongLongAndOverflow(object, &overflow);
        *ret = (shobj_value){.type = SHOBJ_INT, .i = i};
        return overflow == 0;
    }
    if (type == &PyUnicode_Type) {
        if (!PyUnicode_IS_COMPACT_ASCII(object))
            return 0;
        *ret = (shobj_value){.type = SHOBJ_STR, .ascii = 1};
        ret->data = PyUnicode_DATA(object);
        ret->count = (size_t)PyUnicode_GET_LENGTH(object);
        return 1;
    }
    if (type == &PyFloat_Type) {
        *ret = (shobj_value){.type = SHOBJ_FLOAT, .f = PyFloat_AS_DOUBLE(object)};
        return 1;
    }
    if (type == core->state->dict_type || type == core->state->list_type) {
        if (((Proxy *)object)->core != core)
            return 0;
        *ret = (shobj_value){.type = SHOBJ_OBJECT, .oid = ((Proxy *)object)->oid};
        ret->kind = type == core->state->dict_type ? SHOBJ_KIND_DICT : SHOBJ_KIND_LIST;
        return 1;
    }
    if (object == Py_None) {
        *ret = (shobj_value){.type = SHOBJ_NONE};
        return 1;
    }
    if (type == &PyBool_Type) {
        *ret = (shobj_value){.type = SHOBJ_BOOL, .i = object == Py_True};
        return 1;
    }
    if (type == &PyBytes_Type) {
        *ret = (shobj_value){.type = SHOBJ_BYTES};
        ret->data = PyBytes_AS_STRING(object);
        ret->count = (size_t)PyBytes_GET_SIZE(object);
        return 1;
    }
    return 0;
}

/* A plan: Python values converted, and the shared objects that have to be made for them, ready to be carried out any
 * number of times. Making it runs in Python only, carrying it out in the library only. */
typedef struct shopy_plan shopy_plan;

shopy_plan *shopy_plan_new(Core *core);
void shopy_plan_free(shopy_plan *plan);
/* Adds a value; *slot is filled now, or (with objects to make) by shopy_plan_build(). `slot` must live as long
 * as the plan. `name` begins the path in error messages. 0, or -1 with an exception. */
int shopy_plan_add(shopy_plan *plan, PyObject *object, const char *name, shobj_value *slot);
/* The same for each element of a list or tuple that nobody else changes; *ret_values belongs to the plan. */
int shopy_plan_add_all(shopy_plan *plan, PyObject *const *objects, Py_ssize_t count, const char *name,
                       shobj_value **ret_values);
/* The same for the keys and values of a native dict. */
int shopy_plan_add_dict(shopy_plan *plan, PyObject *dict, const char *name, shobj_item **ret_items, size_t *ret_count);
/* True if there are objects to make. */
bool shopy_plan_has_nodes(const shopy_plan *plan);
/* Makes the objects, inside a transaction. A library error or 0. */
int shopy_plan_build(shopy_plan *plan, shobj_store *handle);

/* A key made ready. It points into the object it was made from, which the caller holds meanwhile. */
struct shopy_keybuf {
    shobj_key key;
    shopy_plan *plan; /* memory of a key that needs some, or NULL */
};

/* Makes a key ready. 0; 1 if the object is hashable but can't be stored (no dict of a store has it); -1 with an
 * exception. May run Python code (the object's __hash__). */
int shopy_key_prepare(Core *core, shobj_store *handle, PyObject *object, struct shopy_keybuf *buf);
int shopy_key_prepare_slow(Core *core, shobj_store *handle, PyObject *object, struct shopy_keybuf *buf);
/* NotShareableError for a key that shopy_key_prepare() returned 1 for. */
void shopy_raise_key_not_shareable(Core *core, PyObject *object);

static inline void shopy_key_release(struct shopy_keybuf *buf)
{
    if (UNLIKELY(buf->plan != NULL))
        shopy_plan_free(buf->plan);
}

/* ---------------------------------------------------------------------------------------------- dict, list */

enum shopy_view { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };

PyObject *shopy_dict_iter_new(Proxy *dict, enum shopy_view what, bool reverse);
PyObject *shopy_view_new(Proxy *dict, enum shopy_view what);

/* Methods of Dict that are transactions of their own. */
PyObject *shopy_dict_setdefault(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *shopy_dict_update_with(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *shopy_dict_update(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *shopy_dict_inplace_or(PyObject *self, PyObject *other);

PyObject *shopy_list_iter_new(Proxy *list, bool reverse);

/* A native dict or list of the contents, one level deep, as one consistent read. New reference. */
PyObject *shopy_dict_snapshot(Proxy *dict);
PyObject *shopy_list_snapshot(Proxy *list);
/* The same as a step of a transaction: 0 and *ret, a library error, or SHOPY_RAISED. */
int shopy_dict_read(shobj_store *handle, Proxy *dict, PyObject **ret_dict);
int shopy_list_read(shobj_store *handle, Proxy *list, PyObject **ret_list);
/* Elements first, first + 1 ..., at most `count`, as a native list. */
int shopy_list_read_range(shobj_store *handle, Proxy *list, uint64_t first, uint64_t count, PyObject **ret_list);
/* Slices: assignment, deletion, sorting and what else takes more than one operation on a list. */
PyObject *shopy_list_slice_get(Proxy *list, PyObject *slice);
int shopy_list_slice_set(Proxy *list, PyObject *slice, PyObject *values);
PyObject *shopy_list_sort(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *shopy_list_reverse(PyObject *self, PyObject *ignored);
PyObject *shopy_list_remove(PyObject *self, PyObject *value);
PyObject *shopy_list_imul(PyObject *self, Py_ssize_t times);
PyObject *shopy_list_extend(PyObject *self, PyObject *values);

static inline bool shopy_is_dict(const module_state *state, PyObject *object)
{
    return Py_IS_TYPE(object, state->dict_type);
}

static inline bool shopy_is_list(const module_state *state, PyObject *object)
{
    return Py_IS_TYPE(object, state->list_type);
}

static inline bool shopy_is_proxy(const module_state *state, PyObject *object)
{
    return shopy_is_dict(state, object) || shopy_is_list(state, object);
}

/* A native copy of all below, sharing and cycles kept; of a proxy, one consistent read. */
PyObject *shopy_to_native(module_state *state, PyObject *object);
PyObject *shopy_proxy_deepcopy(PyObject *self, PyObject *memo);
/* Both operands as native objects, for a comparison: of one store, as of one instant. */
int shopy_to_native_pair(Proxy *left, PyObject *right, PyObject **ret_left, PyObject **ret_right);
PyObject *shopy_proxy_repr(PyObject *self);

/* ---------------------------------------------------------------------------------------------- txn */

/* Runs step as a transaction (inside another, as a nested block) until it commits. step returns 0, a library error or
 * SHOPY_RAISED; so does this. Between shopy_core_enter() and shopy_core_leave(). */
typedef int (*shopy_step)(shobj_store *handle, void *arg);
int shopy_core_run(Core *core, shobj_store *handle, shopy_step step, void *arg);

/* Called as methods of Store, whose core they get. */
PyObject *shopy_atomic(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *shopy_run(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *shopy_attempts(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *shopy_or_else(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *shopy_transaction(Core *core, PyObject *const *args, Py_ssize_t count, PyObject *names);

/* ---------------------------------------------------------------------------------------------- store */

/* A Store on a core that the caller opened once more for it (the opening is taken over). */
PyObject *shopy_store_new(Core *core);

/* Splits vectorcall arguments into the parameters named in `names` (NULL-terminated; the first `positional`
 * ones may come by position): fills `out`, NULL for those not given. -1 with TypeError. */
/* True if a function got at least min and at most max arguments by position, else false with TypeError. */
bool shopy_check_count(const char *function, Py_ssize_t count, Py_ssize_t min, Py_ssize_t max);
int shopy_arguments(const char *function, PyObject *const *args, Py_ssize_t count, PyObject *keywords,
                    const char *const *names, Py_ssize_t positional, PyObject **out);

#endif
