/*
 * store.c: Store, what open_store() returns: one opening of a heap file.
 *
 * Several Stores of one file in a process share a core, and with it the mapping and the proxies. close() ends
 * this one; the file is unmapped with the last. A Store that is dropped without close() leaves its opening to
 * the core, so that the proxies that were read from it go on working (core.c, I3).
 */
#include "state.h"

#include <time.h>

#define THREADS_MAX 64
#define GROWTH_MAX  1000000

typedef struct Store {
    PyObject_HEAD
    Core *core;
    bool closed;
    PyObject *weakrefs;
} Store;

PyObject *shopy_store_new(Core *core)
{
    module_state *state = core->state;
    Store *self = (Store *)state->store_type->tp_alloc(state->store_type, 0);
    if (self == NULL)
        return NULL;
    self->core = (Core *)Py_NewRef((PyObject *)core);
    return (PyObject *)self;
}

/* Its core if it is open, else NULL with StoreClosedError. Borrowed. */
static Core *open_core(PyObject *self)
{
    Store *store = (Store *)self;
    if (!store->closed && store->core->handle != NULL)
        return store->core;
    shopy_raise_closed(store->core);
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- closing */

static PyObject *store_close(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Store *store = (Store *)self;
    if (!store->closed) {
        store->closed = true;
        shopy_core_release(store->core);
    }
    Py_RETURN_NONE;
}

static PyObject *store_enter(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return open_core(self) ? Py_NewRef(self) : NULL;
}

static PyObject *store_exit(PyObject *self, PyObject *args)
{
    (void)args;
    return store_close(self, NULL);
}

/* ---------------------------------------------------------------------------------------------- attributes */

static PyObject *get_root(PyObject *self, void *closure)
{
    (void)closure;
    Core *core = open_core(self);
    shobj_store *handle = core ? shopy_core_enter(core) : NULL;
    if (handle == NULL)
        return NULL;
    PyObject *root = shopy_proxy_get(core, shobj_root(handle), SHOBJ_KIND_DICT);
    shopy_core_leave(core);
    return root;
}

static PyObject *get_path(PyObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef(((Store *)self)->core->path);
}

static PyObject *get_uuid(PyObject *self, void *closure)
{
    (void)closure;
    Core *core = open_core(self);
    shobj_store *handle = core ? shopy_core_enter(core) : NULL;
    if (handle == NULL)
        return NULL;
    const uint8_t *uuid = shobj_uuid(handle);
    char text[37], *at = text;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = "0123456789abcdef"[uuid[i] >> 4];
        *at++ = "0123456789abcdef"[uuid[i] & 15];
    }
    shopy_core_leave(core);
    return PyUnicode_FromStringAndSize(text, at - text);
}

static PyObject *get_readonly(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((Store *)self)->core->readonly);
}

static PyObject *get_closed(PyObject *self, void *closure)
{
    (void)closure;
    Store *store = (Store *)self;
    return PyBool_FromLong(store->closed || store->core->handle == NULL);
}

static PyObject *store_repr(PyObject *self)
{
    Store *store = (Store *)self;
    bool closed = store->closed || store->core->handle == NULL;
    return PyUnicode_FromFormat("<shobj.Store %R%s%s>", store->core->path, store->core->readonly ? " read-only" : "",
                                closed ? " closed" : "");
}

/* ---------------------------------------------------------------------------------------------- objects */

static PyObject *store_get(PyObject *self, PyObject *id)
{
    Core *core = open_core(self);
    if (core == NULL)
        return NULL;
    shobj_oid oid;
    if (PyUnicode_Check(id)) {
        const char *text = PyUnicode_AsUTF8(id);
        if (text == NULL)
            return NULL;
        int rc = shobj_oid_parse(text, &oid);
        if (rc < 0)
            return shopy_raise(core->state, rc);
    } else {
        oid = PyLong_AsUnsignedLongLong(id);
        if (oid == (shobj_oid)-1 && PyErr_Occurred())
            return NULL;
    }
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    enum shobj_kind kind;
    int rc = shobj_object(handle, oid, &kind, NULL);
    PyObject *proxy = rc == 0 ? shopy_proxy_get(core, oid, kind) : shopy_raise(core->state, rc);
    shopy_core_leave(core);
    return proxy;
}

struct make_step {
    shopy_plan *plan;
    shobj_value value;
};

static int make_step(shobj_store *handle, void *arg)
{
    struct make_step *step = arg;
    int rc = shopy_plan_build(step->plan, handle);
    /* Nothing refers to it yet: over the commit, until its proxy pins it. */
    return rc == 0 ? shobj_hold(handle, step->value.oid) : rc;
}

/* A new shared object with the contents of a native dict or list. */
static PyObject *make(Core *core, PyObject *native, const char *name)
{
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    PyObject *proxy = NULL;
    struct make_step step = {.plan = shopy_plan_new(core)};
    if (step.plan != NULL && shopy_plan_add(step.plan, native, name, &step.value) == 0) {
        int rc = shopy_core_run(core, handle, make_step, &step);
        proxy = rc == 0 ? shopy_proxy_get(core, step.value.oid, step.value.kind) : shopy_raise(core->state, rc);
    }
    shopy_plan_free(step.plan);
    shopy_core_leave(core);
    return proxy;
}

static PyObject *store_dict(PyObject *self, PyObject *args, PyObject *keywords)
{
    Core *core = open_core(self);
    if (core == NULL)
        return NULL;
    PyObject *native = NULL, *result = NULL;
    if (PyTuple_GET_SIZE(args) == 1 && shopy_is_dict(core->state, PyTuple_GET_ITEM(args, 0))) {
        native = shopy_dict_snapshot((Proxy *)PyTuple_GET_ITEM(args, 0));
        if (native != NULL && keywords != NULL && PyDict_Update(native, keywords) < 0)
            Py_CLEAR(native);
    } else {
        native = PyObject_Call((PyObject *)&PyDict_Type, args, keywords);
    }
    if (native != NULL)
        result = make(core, native, "dict");
    Py_XDECREF(native);
    return result;
}

static PyObject *store_list(PyObject *self, PyObject *args)
{
    PyObject *iterable = NULL;
    Core *core = open_core(self);
    if (core == NULL || !PyArg_UnpackTuple(args, "list", 0, 1, &iterable))
        return NULL;
    PyObject *native;
    if (iterable == NULL)
        native = PyList_New(0);
    else if (shopy_is_list(core->state, iterable))
        native = shopy_list_snapshot((Proxy *)iterable);
    else
        native = PySequence_List(iterable);
    PyObject *result = native ? make(core, native, "list") : NULL;
    Py_XDECREF(native);
    return result;
}

/* ---------------------------------------------------------------------------------------------- looking inside */

/* Adds a value under a name; takes it over. */
static int put(PyObject *dict, const char *name, PyObject *value)
{
    int rc = value != NULL ? PyDict_SetItemString(dict, name, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static PyObject *stat_dict(const shobj_stat *s)
{
    const shobj_gc *gc = &s->gc;
    const struct {
        const char *name;
        uint64_t number;
    } counters[] = {
        {"file_bytes", s->file_bytes},     {"size_bytes", s->size_bytes},   {"max_bytes", s->max_bytes},
        {"used_bytes", s->used_bytes},     {"free_bytes", s->free_bytes},   {"kept_bytes", s->kept_bytes},
        {"live_bytes", gc->live_bytes},    {"slabs", s->slabs},             {"free_slabs", s->free_slabs},
        {"given_slabs", s->given_slabs},
        {"objects", s->objects},           {"blocks", s->blocks},           {"commits", s->commits},
        {"conflicts", s->conflicts},       {"retries", s->retries},         {"elders", s->elders},
        {"recoveries", s->recoveries},     {"sessions", s->sessions},       {"processes", s->processes},
        {"pins", s->pins},                 {"clock", s->clock},             {"layout_version", s->layout_version},
        {"collections", gc->collections},  {"gc_cycle", gc->cycle},         {"gc_marked", gc->marked},
        {"gc_freed", gc->freed},           {"gc_held_slabs", gc->held_slabs},
        {"gc_marked_bytes", gc->marked_bytes}, {"gc_freed_bytes", gc->freed_bytes},
        {"gc_freed_ever", gc->freed_ever}, {"gc_freed_ever_bytes", gc->freed_ever_bytes},
    };
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        if (put(dict, counters[i].name, PyLong_FromUnsignedLongLong(counters[i].number)) < 0)
            goto fail;
    if (put(dict, "created_ns", PyLong_FromLongLong(s->created_ns)) == 0 &&
        put(dict, "gc_began_ns", PyLong_FromLongLong(gc->began_ns)) == 0 &&
        put(dict, "gc_mark_ended_ns", PyLong_FromLongLong(gc->mark_ended_ns)) == 0 &&
        put(dict, "gc_ended_ns", PyLong_FromLongLong(gc->ended_ns)) == 0 &&
        put(dict, "gc_phase", PyUnicode_FromString(gc->phase)) == 0)
        return dict;
fail:
    Py_DECREF(dict);
    return NULL;
}

static PyObject *store_stat(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Core *core = open_core(self);
    shobj_store *handle = core ? shopy_core_enter(core) : NULL;
    if (handle == NULL)
        return NULL;
    shobj_stat stat;
    PyThreadState *saved = shopy_unlock();
    int rc = shobj_stat_get(handle, &stat);
    shopy_relock(saved);
    PyObject *result = rc < 0 ? shopy_raise(core->state, rc) : NULL;
    shopy_core_leave(core);
    if (rc < 0)
        return result;
    return stat_dict(&stat);
}

/* Lines or records gathered without the interpreter lock. */
struct gathered {
    void *items;
    size_t count, capacity;
    bool out_of_memory;
};

static void *gather(struct gathered *all, size_t size)
{
    if (all->count == all->capacity) {
        size_t capacity = all->capacity ? all->capacity * 2 : 16;
        void *items = PyMem_RawRealloc(all->items, capacity * size);
        if (items == NULL) {
            all->out_of_memory = true;
            return NULL;
        }
        all->items = items;
        all->capacity = capacity;
    }
    return (char *)all->items + size * all->count++;
}

static void gather_line(const char *line, void *arg)
{
    size_t bytes = strlen(line) + 1;
    char *copy = PyMem_RawMalloc(bytes);
    char **slot = copy ? gather(arg, sizeof *slot) : NULL;
    if (slot == NULL) {
        PyMem_RawFree(copy);
        ((struct gathered *)arg)->out_of_memory = true;
        return;
    }
    memcpy(copy, line, bytes);
    *slot = copy;
}

static PyObject *store_check(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Core *core = open_core(self);
    shobj_store *handle = core ? shopy_core_enter(core) : NULL;
    if (handle == NULL)
        return NULL;
    struct gathered lines = {0};
    uint64_t problem_count;
    PyThreadState *saved = shopy_unlock();
    int rc = shobj_check(handle, gather_line, &lines, &problem_count);
    shopy_relock(saved);
    PyObject *result = NULL;
    if (lines.out_of_memory)
        PyErr_NoMemory();
    else if (rc < 0 && (rc != SHOBJ_ECORRUPT || lines.count == 0))
        shopy_raise(core->state, rc);
    else
        result = PyList_New((Py_ssize_t)lines.count);
    shopy_core_leave(core);
    for (size_t i = 0; i < lines.count; i++) {
        char *line = ((char **)lines.items)[i];
        PyObject *text = result ? PyUnicode_DecodeUTF8(line, (Py_ssize_t)strlen(line), "backslashreplace") : NULL;
        if (text != NULL)
            PyList_SET_ITEM(result, (Py_ssize_t)i, text);
        else
            Py_CLEAR(result);
        PyMem_RawFree(line);
    }
    PyMem_RawFree(lines.items);
    return result;
}

static int gather_session(const shobj_session_info *info, void *arg)
{
    shobj_session_info *copy = gather(arg, sizeof *copy);
    if (copy == NULL)
        return SHOBJ_ENOMEM;
    *copy = *info;
    return 0;
}

static PyObject *session_dict(const shobj_session_info *info)
{
    return Py_BuildValue("{sIsIsLsLsOsOsssKsKsKsLsLsIsKsKsK}", "session", info->session, "process", info->process, "pid",
                         (long long)info->pid, "tid", (long long)info->tid, "alive", info->alive ? Py_True : Py_False,
                         "self", info->self ? Py_True : Py_False, "state", info->state, "seq", info->seq, "commits",
                         info->commits, "conflicts", info->conflicts, "attached_ns", (long long)info->attached_ns,
                         "began_ns", (long long)info->began_ns, "held_count", info->held_count, "kept_bytes",
                         info->kept_bytes, "holds", info->holds, "pins", info->pins);
}

static PyObject *store_sessions(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Core *core = open_core(self);
    shobj_store *handle = core ? shopy_core_enter(core) : NULL;
    if (handle == NULL)
        return NULL;
    struct gathered sessions = {0};
    PyThreadState *saved = shopy_unlock();
    int rc = shobj_sessions(handle, gather_session, &sessions);
    shopy_relock(saved);
    PyObject *result = rc < 0 ? shopy_raise(core->state, rc) : PyList_New((Py_ssize_t)sessions.count);
    shopy_core_leave(core);
    for (size_t i = 0; result != NULL && i < sessions.count; i++) {
        PyObject *dict = session_dict((shobj_session_info *)sessions.items + i);
        if (dict != NULL)
            PyList_SET_ITEM(result, (Py_ssize_t)i, dict);
        else
            Py_CLEAR(result);
    }
    PyMem_RawFree(sessions.items);
    return result;
}

/* ---------------------------------------------------------------------------------------------- collecting */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static PyObject *store_gc(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"threads", NULL};
    PyObject *given = NULL;
    Core *core = open_core(self);
    if (core == NULL || shopy_arguments("gc", args, count, names, parameters, 1, &given) < 0)
        return NULL;
    long threads = given != NULL ? PyLong_AsLong(given) : 1;
    if (threads == -1 && PyErr_Occurred())
        return NULL;
    if (threads < 1 || threads > THREADS_MAX)
        return PyErr_Format(PyExc_ValueError, "gc(): threads is %ld; give 1 to %d", threads, THREADS_MAX);
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    shobj_gc before, after;
    PyThreadState *saved = shopy_unlock();
    double began = seconds_now();
    shobj_gc_get(handle, &before);
    int rc = shobj_collect(handle, (unsigned)threads);
    shobj_gc_get(handle, &after);
    double seconds = seconds_now() - began;
    shopy_relock(saved);
    if (rc < 0)
        shopy_raise(core->state, rc);
    shopy_core_leave(core);
    if (rc < 0)
        return NULL;
    return Py_BuildValue("{sKsKsKsd}", "freed", (unsigned long long)(after.freed_ever - before.freed_ever), "freed_bytes",
                         (unsigned long long)(after.freed_ever_bytes - before.freed_ever_bytes), "live_bytes",
                         (unsigned long long)after.live_bytes, "seconds", seconds);
}

static PyObject *get_gc_growth(PyObject *self, void *closure)
{
    (void)closure;
    Core *core = open_core(self);
    shobj_store *handle = core ? shopy_core_enter(core) : NULL;
    if (handle == NULL)
        return NULL;
    shobj_gc gc;
    shobj_gc_get(handle, &gc);
    shopy_core_leave(core);
    if (gc.growth == UINT32_MAX)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(gc.growth);
}

static int set_gc_growth(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "gc_growth can't be deleted; None: no collection begins by itself");
        return -1;
    }
    long long percent = value == Py_None ? UINT32_MAX : PyLong_AsLongLong(value);
    if (percent == -1 && PyErr_Occurred())
        return -1;
    if (value != Py_None && (percent < 1 || percent > GROWTH_MAX)) {
        PyErr_Format(PyExc_ValueError, "gc_growth is %lld; give a percentage from 1 to %d, or None", percent, GROWTH_MAX);
        return -1;
    }
    Core *core = open_core(self);
    shobj_store *handle = core ? shopy_core_enter(core) : NULL;
    if (handle == NULL)
        return -1;
    int rc = shobj_gc_growth(handle, (uint32_t)percent);
    if (rc < 0)
        shopy_raise(core->state, rc);
    shopy_core_leave(core);
    return rc < 0 ? -1 : 0;
}

/* ---------------------------------------------------------------------------------------------- transactions */

static PyObject *store_atomic(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Core *core = open_core(self);
    return core ? shopy_atomic(core, args, count, names) : NULL;
}

static PyObject *store_run(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Core *core = open_core(self);
    return core ? shopy_run(core, args, count, names) : NULL;
}

static PyObject *store_attempts(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Core *core = open_core(self);
    return core ? shopy_attempts(core, args, count, names) : NULL;
}

static PyObject *store_or_else(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Core *core = open_core(self);
    return core ? shopy_or_else(core, args, count, names) : NULL;
}

static PyObject *store_transaction(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Core *core = open_core(self);
    return core ? shopy_transaction(core, args, count, names) : NULL;
}

/* ---------------------------------------------------------------------------------------------- the type */

static PyObject *store_reduce(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Core *core = open_core(self);
    PyObject *open_store = core ? PyObject_GetAttrString(core->state->module, "open_store") : NULL;
    return open_store ? Py_BuildValue("N(Os)", open_store, core->path, core->readonly ? "r" : "w") : NULL;
}

static int store_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Store *)self)->core);
    return 0;
}

static void store_dealloc(PyObject *self)
{
    Store *store = (Store *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (store->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    Py_XDECREF(store->core);
    type->tp_free(self);
    Py_DECREF(type);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef store_methods[] = {
    {"close", store_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Ends this opening of the store; with the last one in the process the file is unmapped, open transactions are\n"
     "undone, and its proxies raise StoreClosedError. Closing again has no effect."},
    {"__enter__", store_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nThe store itself."},
    {"__exit__", store_exit, METH_VARARGS, "__exit__($self, /, *exception)\n--\n\nCloses the store."},
    {"get", store_get, METH_O,
     "get($self, oid, /)\n--\n\n"
     "The proxy of an object by its id: an int as Dict.oid and List.oid give it, or its 16 hex digits.\n"
     "StaleObjectError if it is gone."},
    {"dict", FAST(store_dict), METH_VARARGS | METH_KEYWORDS,
     "dict($self, /, *args, **items)\n--\n\nA new shared Dict, constructed as dict is."},
    {"list", store_list, METH_VARARGS,
     "list($self, iterable=(), /)\n--\n\nA new shared List of the values of an iterable."},
    {"check", store_check, METH_NOARGS,
     "check($self, /)\n--\n\n"
     "Verifies the whole store while others go on working: a list of lines, one per problem; empty if it is whole."},
    {"stat", store_stat, METH_NOARGS,
     "stat($self, /)\n--\n\n"
     "A dict of numbers. Bytes: file_bytes, size_bytes, max_bytes, used_bytes, free_bytes, kept_bytes (free for one\n"
     "session alone, see sessions()), live_bytes (what the last collection left). Counts: objects, blocks, slabs,\n"
     "free_slabs, given_slabs (free, and without memory), commits, conflicts, retries, elders, recoveries, collections,\n"
     "sessions, processes, pins. clock, layout_version; created_ns (nanoseconds since 1970). The collection that is under way, or the last one:\n"
     "gc_phase (str: idle, arm, roots, mark, kill, sweep), gc_cycle, gc_began_ns, gc_mark_ended_ns, gc_ended_ns (of the last whole\n"
     "one), gc_marked, gc_marked_bytes, gc_freed, gc_freed_bytes, gc_held_slabs (left to a session that stands\n"
     "still); of all: gc_freed_ever, gc_freed_ever_bytes. The time it takes grows with the store."},
    {"gc", FAST(store_gc), METH_FASTCALL | METH_KEYWORDS,
     "gc($self, /, threads=1)\n--\n\n"
     "Frees the objects that nothing reachable from the root refers to and no process has a proxy of.\n\n"
     "A whole collection, which begins after the call, with so many threads (1 to 64), while all processes go on.\n"
     "Returns a dict: freed (blocks) and freed_bytes meanwhile, live_bytes (what is left), seconds. Other threads run, and\n"
     "a signal ends it early: others go on with it. Collections also begin by themselves, see gc_growth.\n"
     "ReadOnlyError if the store is open for reading only; TransactionError inside a transaction."},
    {"sessions", store_sessions, METH_NOARGS,
     "sessions($self, /)\n--\n\n"
     "A list with a dict for each attached thread: session, process, pid, tid, alive, self, state, seq, commits,\n"
     "conflicts, attached_ns, began_ns, held_count, kept_bytes (free memory that nobody else can use as long as it\n"
     "lives), holds (objects that are alive since its last operation returned them), pins (objects that its process has\n"
     "proxies of)."},
    {"atomic", FAST(store_atomic), METH_FASTCALL | METH_KEYWORDS,
     "atomic($self, function=None, /, *, tries=None, timeout=None, readonly=False)\n--\n\n"
     "Decorator: each call of the function is a transaction, run again until it commits.\n\n"
     "Use it as @store.atomic or @store.atomic(timeout=...). An exception undoes the transaction and goes through,\n"
     "unless the attempt had met a conflict: then it is dropped with it. Inside another transaction the call is a\n"
     "nested block. The function must change shared objects only: see retry(), on_commit() and on_abort() of the module.\n"
     "tries: after so many executions that lost, ConflictError.\n"
     "timeout: seconds, for waiting in retry() and for others and for executions that lose; after it TransactionTimeout.\n"
     "Of nested blocks the earliest counts. What need not wait succeeds even then.\n"
     "readonly: changing anything raises ReadOnlyError. Inside another transaction that one's counts."},
    {"run", FAST(store_run), METH_FASTCALL | METH_KEYWORDS,
     "run($self, function, /, *args, tries=None, timeout=None, readonly=False, **keywords)\n--\n\n"
     "Calls the function with the other arguments as a transaction until it commits; see atomic()."},
    {"or_else", FAST(store_or_else), METH_FASTCALL | METH_KEYWORDS,
     "or_else($self, first, second, /, *, tries=None, timeout=None, readonly=False)\n--\n\n"
     "A transaction, or inside one a nested block, that calls first(), or, if that says retry(), undoes what it did and\n"
     "calls second(). If both say so it waits for a change of anything that either has read. Returns the result of\n"
     "the one that did not. tries, timeout, readonly: see atomic()."},
    {"attempts", FAST(store_attempts), METH_FASTCALL | METH_KEYWORDS,
     "attempts($self, /, *, tries=None, timeout=None, readonly=False)\n--\n\n"
     "The loop form of atomic(), for code that is not a function:\n\n"
     "    for attempt in store.attempts():\n"
     "        with attempt:\n"
     "            ...\n\n"
     "Do not leave the body by break or return: an attempt that lost could not be repeated."},
    {"transaction", FAST(store_transaction), METH_FASTCALL | METH_KEYWORDS,
     "transaction($self, /, *, timeout=None, readonly=False)\n--\n\n"
     "One attempt at a transaction, for a `with` statement: ConflictError at its end if it lost against another one.\n"
     "Inside another transaction a nested block: an exception that leaves it undoes it alone.\n"
     "timeout, readonly: see atomic()."},
    {"__reduce__", store_reduce, METH_NOARGS, "__reduce__($self, /)\n--\n\nPickles as the path, to be opened again."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef store_getset[] = {
    {"root", get_root, NULL, "Dict: the dict that everything in the store is reached from.", NULL},
    {"path", get_path, NULL, "str: the absolute path of the heap file.", NULL},
    {"uuid", get_uuid, NULL, "str: the UUID that the store got when it was created.", NULL},
    {"readonly", get_readonly, NULL, "bool: True if the store was opened for reading only.", NULL},
    {"closed", get_closed, NULL, "bool: True after close().", NULL},
    {"gc_growth", get_gc_growth, set_gc_growth,
     "int | None: by how many percent the heap may grow over what the last collection left before the next one begins\n"
     "by itself; None: none does. It is the store's, for all processes. Setting it on a store that is open for reading\n"
     "only raises ReadOnlyError.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef store_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Store, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(store_doc, "An open store. open_store() makes one; `with` closes it at the end of the block.");

static PyType_Slot store_slots[] = {
    {Py_tp_doc, (void *)store_doc}, {Py_tp_traverse, store_traverse},
    {Py_tp_dealloc, store_dealloc}, {Py_tp_repr, store_repr},
    {Py_tp_methods, store_methods}, {Py_tp_getset, store_getset},
    {Py_tp_members, store_members}, {0, NULL},
};

static PyType_Spec store_spec = {
    .name = "shobj.Store",
    .basicsize = sizeof(Store),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = store_slots,
};

int shopy_store_init(PyObject *module, module_state *state)
{
    state->store_type = shopy_type_new(module, &store_spec, true);
    return state->store_type ? 0 : -1;
}
