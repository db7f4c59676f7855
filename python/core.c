/*
 * core.c: what an interpreter holds of one mapped heap file.
 *
 *   Store --+
 *           +--> Core --> shobj_store (the library's, shared by all interpreters of the process)
 *   Proxy --+     |
 *                 +-- slots: oid -> living Proxy (one per object, so `is` works)
 *
 * I1  A core is in state->cores exactly while its handle is not NULL; there is at most one for a handle.
 * I2  slots has an entry for each living proxy, and no other; linear probing without tombstones: taking one out
 *     moves the followers up.
 * I3  A core lives as long as a Store or Proxy of it. A Store that is dropped without close() leaves its
 *     opening to the core, so proxies go on working; the destructor undoes what is left.
 */
#include "state.h"

_Thread_local bool shopy_in_wait;

static _Thread_local PyThreadState *unlocked; /* by which this thread gets back the interpreter lock it gave up */

PyThreadState *shopy_unlock(void)
{
    return unlocked = PyEval_SaveThread();
}

void shopy_relock(PyThreadState *saved)
{
    PyEval_RestoreThread(saved);
    unlocked = NULL;
}

/* A thread that is ending detaches from its stores when Python has forgotten it already: it holds no lock then. */
static void *wait_enter(void)
{
    if (unlocked != NULL || PyGILState_GetThisThreadState() == NULL)
        return NULL;
    return PyEval_SaveThread();
}

static void wait_leave(void *saved)
{
    if (saved != NULL)
        PyEval_RestoreThread(saved);
}

/* A signal may have come in the middle of a wait: its handler runs now. If that raises, the operation ends with EINTR,
 * and shopy_raise() lets the exception go on. */
static bool wait_interrupted(void)
{
    PyThreadState *saved = unlocked;
    if (saved != NULL)
        shopy_relock(saved);
    else if (PyGILState_GetThisThreadState() == NULL)
        return false;
    bool raised = false;
    if (PyErr_Occurred() == NULL) { /* a handler must not run while an exception is on its way */
        int collects = PyGC_Disable(); /* what the collector ends here may be a transaction */
        shopy_in_wait = true;
        raised = PyErr_CheckSignals() < 0;
        shopy_in_wait = false;
        if (collects)
            PyGC_Enable();
    }
    if (saved != NULL)
        shopy_unlock();
    return raised;
}

shobj_options shopy_core_options(enum shobj_open_mode mode)
{
    return (shobj_options){.mode = mode,
                           .wait_enter = wait_enter,
                           .wait_leave = wait_leave,
                           .wait_interrupted = wait_interrupted};
}

/* ---------------------------------------------------------------------------------------------- opening */

#ifdef Py_GIL_DISABLED
#define LOCK(mutex)   PyMutex_Lock(mutex)
#define UNLOCK(mutex) PyMutex_Unlock(mutex)
#else
#define LOCK(mutex)   ((void)0)
#define UNLOCK(mutex) ((void)0)
#endif

static Core *core_new(module_state *state, shobj_store *handle)
{
    Core *core = (Core *)state->core_type->tp_alloc(state->core_type, 0);
    if (core == NULL)
        return NULL;
    core->state = state;
    core->slot_mask = 63;
    core->slots = PyMem_Calloc(core->slot_mask + 1, sizeof core->slots[0]);
    core->keys = PyMem_Calloc((size_t)1 << KEY_CACHE_BITS, sizeof core->keys[0]);
    core->path = PyUnicode_DecodeFSDefault(shobj_path(handle));
    core->readonly = shobj_is_readonly(handle);
    if (core->slots == NULL || core->keys == NULL || core->path == NULL) {
        if (core->path != NULL)
            PyErr_NoMemory();
        Py_DECREF(core);
        return NULL;
    }
    int rc = shobj_pins_open(handle, &core->pins);
    if (rc < 0) {
        shopy_raise(state, rc);
        Py_DECREF(core);
        return NULL;
    }
    core->handle = handle;
    return core;
}

Core *shopy_core_open(module_state *state, const char *name, const shobj_options *options)
{
    shobj_store *handle;
    PyThreadState *saved = shopy_unlock();
    int rc = shobj_open(name, options, &handle);
    shopy_relock(saved);
    if (rc < 0) {
        PyObject *path = PyUnicode_DecodeFSDefault(name);
        if (path != NULL) {
            shopy_raise_path(state, rc, path);
            Py_DECREF(path);
        }
        return NULL;
    }
    LOCK(&state->cores_mutex);
    Core *core = state->cores;
    while (core != NULL && core->handle != handle)
        core = core->next;
    if (core != NULL)
        Py_INCREF(core);
    UNLOCK(&state->cores_mutex);
    if (core == NULL) {
        core = core_new(state, handle);
        if (core == NULL) {
            shobj_close(handle);
            return NULL;
        }
        LOCK(&state->cores_mutex);
        core->next = state->cores;
        state->cores = core;
        UNLOCK(&state->cores_mutex);
    }
    core->open_count++;
    return core;
}

Core *shopy_core_find(module_state *state, const uint8_t *uuid)
{
    LOCK(&state->cores_mutex);
    Core *core = state->cores;
    while (core != NULL && memcmp(shobj_uuid(core->handle), uuid, 16) != 0)
        core = core->next;
    Py_XINCREF(core);
    UNLOCK(&state->cores_mutex);
    return core;
}

static void core_unlink(Core *core)
{
    module_state *state = core->state;
    LOCK(&state->cores_mutex);
    Core **at = &state->cores;
    while (*at != NULL && *at != core)
        at = &(*at)->next;
    if (*at != NULL)
        *at = core->next;
    UNLOCK(&state->cores_mutex);
}

/* Unmapping may wait for others inside the library and takes system calls: the interpreter lock is given up. */
static void close_handle(shobj_store *handle, unsigned open_count)
{
    PyThreadState *saved = shopy_unlock();
    for (unsigned i = 0; i < open_count; i++)
        shobj_close(handle);
    shopy_relock(saved);
}

void shopy_core_unmap(Core *core)
{
    shobj_store *handle = core->lingering;
    unsigned open_count = core->lingering_opens;
    core->lingering = NULL;
    core->lingering_opens = 0;
    shobj_pins_close(core->lingering_pins);
    core->lingering_pins = NULL;
    if (handle != NULL)
        close_handle(handle, open_count);
}

static void keys_forget(Core *core)
{
    if (core->keys == NULL)
        return;
    for (size_t i = 0; i < (size_t)1 << KEY_CACHE_BITS; i++)
        Py_CLEAR(core->keys[i].str);
}

/* Takes the handle away (I1); unmaps now, or (R4) when the last thread leaves. */
static void core_close(Core *core)
{
    core_unlink(core);
    core->lingering = core->handle;
    core->lingering_opens = core->open_count;
    LOCK(&core->mutex);
    core->lingering_pins = core->pins;
    core->pins = NULL;
    UNLOCK(&core->mutex);
    core->handle = NULL;
    core->open_count = 0;
    keys_forget(core);
    INSIDE_ADD(core, 1);
    shopy_core_leave(core);
}

void shopy_core_release(Core *core)
{
    if (core->handle == NULL)
        return;
    if (core->open_count > 1) {
        core->open_count--;
        close_handle(core->handle, 1);
        return;
    }
    core_close(core);
}

void shopy_core_close_all(module_state *state)
{
    while (state->cores != NULL)
        core_close(state->cores);
}

static int core_traverse(PyObject *self, visitproc visit, void *arg)
{
    (void)arg;
    Py_VISIT(Py_TYPE(self));
    return 0;
}

/* A core refers to nothing that could refer back but its type: there is no cycle to break here. */
static int core_clear(PyObject *self)
{
    (void)self;
    return 0;
}

static void core_dealloc(PyObject *self)
{
    Core *core = (Core *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (core->handle != NULL)
        core_close(core);
    keys_forget(core);
    while (core->spare_count > 0)
        PyObject_Free(core->spares[--core->spare_count]);
    PyMem_Free(core->keys);
    PyMem_Free(core->slots);
    Py_XDECREF(core->path);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---------------------------------------------------------------------------------------------- proxies */

static inline size_t slot_of(const Core *core, shobj_oid oid)
{
    return (size_t)((oid * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & core->slot_mask;
}

static size_t slot_find(const Core *core, shobj_oid oid)
{
    size_t i = slot_of(core, oid);
    while (core->slots[i].ref != NULL && core->slots[i].oid != oid)
        i = (i + 1) & core->slot_mask;
    return i;
}

/* I2: closes the gap at i. */
static void slot_remove(Core *core, size_t i)
{
    size_t hole = i;
    for (size_t j = (i + 1) & core->slot_mask; core->slots[j].ref != NULL; j = (j + 1) & core->slot_mask) {
        size_t home = slot_of(core, core->slots[j].oid);
        if (((j - home) & core->slot_mask) >= ((j - hole) & core->slot_mask)) {
            core->slots[hole] = core->slots[j];
            hole = j;
        }
    }
    core->slots[hole].ref = NULL;
    core->proxy_count--;
}

static int slots_grow(Core *core)
{
    size_t old_mask = core->slot_mask;
    struct proxy_slot *old = core->slots;
    struct proxy_slot *slots = PyMem_Calloc((old_mask + 1) * 2, sizeof slots[0]);
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    core->slots = slots;
    core->slot_mask = old_mask * 2 + 1;
    for (size_t i = 0; i <= old_mask; i++) {
        if (old[i].ref != NULL)
            slots[slot_find(core, old[i].oid)] = old[i];
    }
    PyMem_Free(old);
    return 0;
}

static PyTypeObject *type_of_kind(Core *core, shobj_oid oid, unsigned kind)
{
    if (kind == SHOBJ_KIND_DICT)
        return core->state->dict_type;
    if (kind == SHOBJ_KIND_LIST)
        return core->state->list_type;
    PyErr_Format(core->state->errors[ERR_VERSION],
                 "object %016llx of the store '%U' is of kind %u, which this version of shobj does not know: "
                 "use a newer version",
                 (unsigned long long)oid, core->path, kind);
    return NULL;
}

/* Proxies come and go with each walk through a container: a few of those that have gone keep their memory for the next. */
static Proxy *proxy_alloc(Core *core, PyTypeObject *type)
{
#ifndef Py_GIL_DISABLED
    if (LIKELY(core->spare_count > 0))
        return (Proxy *)PyObject_Init((PyObject *)core->spares[--core->spare_count], type);
#endif
    (void)core;
    return PyObject_New(Proxy, type);
}

static void proxy_free(Core *core, Proxy *proxy)
{
#ifndef Py_GIL_DISABLED
    if (LIKELY(core->spare_count < PROXY_SPARES)) {
        core->spares[core->spare_count++] = proxy;
        return;
    }
#endif
    (void)core;
    PyObject_Free(proxy);
}

static Proxy *proxy_new(Core *core, shobj_oid oid, unsigned kind)
{
    PyTypeObject *type = type_of_kind(core, oid, kind);
    if (type == NULL)
        return NULL;
    Proxy *proxy = proxy_alloc(core, type);
    if (proxy == NULL)
        return NULL;
    LOCK(&core->mutex);
    int rc = 0;
    proxy->pin = SHOBJ_PIN_NONE;
    if (LIKELY(core->pins != NULL))
        rc = shobj_pin(core->pins, oid, &proxy->pin);
    UNLOCK(&core->mutex);
    if (UNLIKELY(rc < 0)) {
        proxy_free(core, proxy);
        Py_DECREF(type);
        return (Proxy *)shopy_raise(core->state, rc);
    }
    proxy->core = (Core *)Py_NewRef((PyObject *)core);
    proxy->oid = oid;
    proxy->change_count = 0;
    proxy->weakrefs = NULL;
    return proxy;
}

#ifndef Py_GIL_DISABLED

PyObject *shopy_proxy_get(Core *core, shobj_oid oid, unsigned kind)
{
    size_t i = slot_find(core, oid);
    if (core->slots[i].ref != NULL) {
        shobj_release(core->handle, oid);
        return Py_NewRef(core->slots[i].ref);
    }
    if (UNLIKELY(core->proxy_count * 4 >= core->slot_mask * 3) && slots_grow(core) < 0)
        return NULL;
    Proxy *proxy = proxy_new(core, oid, kind);
    if (proxy == NULL)
        return NULL;
    i = slot_find(core, oid); /* pinning may have waited, without the interpreter lock */
    if (UNLIKELY(core->slots[i].ref != NULL)) {
        PyObject *other = Py_NewRef(core->slots[i].ref);
        proxy->oid = 0;
        Py_DECREF(proxy);
        return other;
    }
    core->slots[i] = (struct proxy_slot){oid, (PyObject *)proxy};
    core->proxy_count++;
    return (PyObject *)proxy;
}

/* First of all in the destructor: whatever runs later can't find the proxy any more. */
static void proxy_forget(Proxy *proxy)
{
    Core *core = proxy->core;
    size_t i = slot_find(core, proxy->oid);
    if (core->slots[i].ref == (PyObject *)proxy)
        slot_remove(core, i);
}

#else

PyObject *shopy_proxy_get(Core *core, shobj_oid oid, unsigned kind)
{
    PyObject *fresh = NULL, *fresh_ref = NULL, *old_ref = NULL, *found = NULL;
    for (int pass = 0; pass < 2 && found == NULL; pass++) {
        if (pass == 1) { /* not there: make one without the mutex, then look again */
            fresh = (PyObject *)proxy_new(core, oid, kind);
            if (fresh == NULL)
                return NULL;
            fresh_ref = PyWeakref_NewRef(fresh, NULL);
            if (fresh_ref == NULL)
                break;
        }
        PyMutex_Lock(&core->mutex);
        if (core->proxy_count * 4 >= core->slot_mask * 3 && slots_grow(core) < 0) {
            PyMutex_Unlock(&core->mutex);
            break;
        }
        size_t i = slot_find(core, oid);
        if (core->slots[i].ref != NULL)
            (void)PyWeakref_GetRef(core->slots[i].ref, &found);
        if (found == NULL && pass == 1) {
            old_ref = core->slots[i].ref; /* of one that is just being destroyed */
            core->proxy_count += old_ref == NULL;
            core->slots[i] = (struct proxy_slot){oid, fresh_ref};
            fresh_ref = NULL;
            found = Py_NewRef(fresh);
        }
        PyMutex_Unlock(&core->mutex);
    }
    Py_XDECREF(fresh_ref);
    Py_XDECREF(old_ref);
    Py_XDECREF(fresh);
    return found;
}

/* After the weak references were cleared: takes the entry out unless a new proxy has it already. */
static void proxy_forget(Proxy *proxy)
{
    Core *core = proxy->core;
    PyObject *living = NULL, *dead_ref = NULL;
    PyMutex_Lock(&core->mutex);
    size_t i = slot_find(core, proxy->oid);
    if (core->slots[i].ref != NULL && PyWeakref_GetRef(core->slots[i].ref, &living) == 0) {
        dead_ref = core->slots[i].ref;
        slot_remove(core, i);
    }
    PyMutex_Unlock(&core->mutex);
    Py_XDECREF(living);
    Py_XDECREF(dead_ref);
}

#endif

/* Python's collector need not know of proxies: what one refers to, its core and its type, leads to no other object but the
 * module, whose namespace the interpreter clears. So they cost it no time, and never make it run. */
void shopy_proxy_dealloc(PyObject *self)
{
    Proxy *proxy = (Proxy *)self;
    PyTypeObject *type = Py_TYPE(self);
#ifndef Py_GIL_DISABLED
    proxy_forget(proxy);
    if (proxy->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
#else
    PyObject_ClearWeakRefs(self);
    proxy_forget(proxy);
#endif
    Core *core = proxy->core;
    LOCK(&core->mutex);
    if (LIKELY(core->pins != NULL))
        shobj_unpin(core->pins, proxy->pin);
    UNLOCK(&core->mutex);
    proxy_free(core, proxy);
    Py_DECREF(core);
    Py_DECREF(type);
}

static PyObject *proxy_oid(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(((Proxy *)self)->oid);
}

static PyObject *proxy_store(PyObject *self, void *closure)
{
    (void)closure;
    Core *core = ((Proxy *)self)->core;
    const shobj_options options = shopy_core_options(core->readonly ? SHOBJ_OPEN_READ : SHOBJ_OPEN_WRITE);
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    Core *opened = shopy_core_open(core->state, shobj_path(handle), &options);
    shopy_core_leave(core);
    if (opened == NULL)
        return NULL;
    PyObject *store = shopy_store_new(opened);
    Py_DECREF(opened);
    return store;
}

PyGetSetDef shopy_proxy_getset[] = {
    {"oid", proxy_oid, NULL, "int: the id of the object in its store, never used again for another.", NULL},
    {"store", proxy_store, NULL, "Store: the store that the object is in.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyMemberDef shopy_proxy_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Proxy, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyObject *shopy_proxy_reduce(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Proxy *proxy = (Proxy *)self;
    Core *core = proxy->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    PyObject *result = NULL;
    PyObject *restore = PyObject_GetAttrString(core->state->module, "_restore");
    if (restore != NULL)
        result = Py_BuildValue("N(Oy#K)", restore, core->path, (const char *)shobj_uuid(handle), (Py_ssize_t)16,
                               (unsigned long long)proxy->oid);
    shopy_core_leave(core);
    return result;
}

static PyType_Slot core_slots[] = {
    {Py_tp_traverse, core_traverse},
    {Py_tp_clear, core_clear},
    {Py_tp_dealloc, core_dealloc},
    {0, NULL},
};

static PyType_Spec core_spec = {
    .name = "shobj._Core",
    .basicsize = sizeof(Core),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = core_slots,
};

int shopy_core_init(PyObject *module, module_state *state)
{
    state->core_type = shopy_type_new(module, &core_spec, false);
    return state->core_type ? 0 : -1;
}
