/*
 * dict_views.c: iterating over a Dict, and its views.
 *
 * An iterator is a bounded live walk. It remembers the serial of the last entry at its beginning and goes no
 * further, so that it ends although others insert, and gives no key twice although others remove and insert it
 * again. Entries come from the library in batches; a batch is given out as it was read, unless this interpreter
 * changed the dict, or began or ended a transaction, since then: what is left of it is looked up again, so a
 * program sees its own changes at once.
 *
 * A view is the Dict and which part of it. Set algebra and comparisons are those of the native view of a native copy.
 */
#include "state.h"

enum { BATCH = 32, FIRST_BATCH = 8 };

typedef struct DictIter {
    PyObject_HEAD
    Proxy *dict; /* NULL: at the end */
    enum shopy_view what;
    shobj_dict_iter at;
    uint64_t end_serial; /* of the last entry when it began; of no meaning backwards */
    uint64_t stamp;      /* fresh_stamp() when the batch was read */
    bool began;
    bool empty;  /* there was no entry when it began */
    bool singly; /* near the end: one by one, to stop at the end exactly */
    unsigned next, count;
    Py_ssize_t left_count; /* a hint */
    PyObject *pair;        /* given out last: used again if nobody kept it, as dict does. NULL at first */
    PyObject *keys[BATCH], *values[BATCH];
} DictIter;

static uint64_t fresh_stamp(const Proxy *dict)
{
    return dict->change_count + dict->core->txn_count;
}

PyObject *shopy_dict_iter_new(Proxy *dict, enum shopy_view what, bool reverse)
{
    module_state *state = dict->core->state;
    DictIter *iter = (DictIter *)state->dict_iter_type->tp_alloc(state->dict_iter_type, 0);
    if (iter == NULL)
        return NULL;
    iter->dict = (Proxy *)Py_NewRef((PyObject *)dict);
    iter->what = what;
    shobj_dict_iter_init(&iter->at, dict->oid, reverse);
    return (PyObject *)iter;
}

/* Finds where the walk ends. 0, or a library error. */
static int begin(DictIter *iter, shobj_store *handle)
{
    uint64_t count;
    int rc = shobj_dict_len(handle, iter->dict->oid, &count);
    if (rc < 0)
        return rc;
    iter->left_count = (Py_ssize_t)count;
    if (!iter->at.reverse) {
        shobj_dict_iter last;
        shobj_item item;
        size_t found;
        shobj_dict_iter_init(&last, iter->dict->oid, true);
        rc = shobj_dict_iter_next(handle, &last, &item, 1, &found);
        if (rc < 0)
            return rc;
        iter->empty = found == 0;
        iter->end_serial = last.serial;
    }
    iter->began = true;
    return 0;
}

static int convert_batch(DictIter *iter, const shobj_item *items, size_t count)
{
    Core *core = iter->dict->core;
    int paused = shopy_gc_pause();
    unsigned i;
    for (i = 0; i < count; i++) {
        PyObject *key = shopy_value_to_python(core, &items[i].key);
        PyObject *value = NULL;
        if (key != NULL && iter->what != VIEW_KEYS)
            value = shopy_value_to_python(core, &items[i].value);
        if (key == NULL || (value == NULL && iter->what != VIEW_KEYS)) {
            Py_XDECREF(key);
            break;
        }
        iter->keys[i] = key;
        iter->values[i] = value;
    }
    iter->next = 0;
    iter->count = i;
    shopy_gc_resume(paused);
    return i == count ? 0 : SHOPY_RAISED;
}

/* Reads the next batch; leaves count at 0 at the end of the walk. 0, a library error or SHOPY_RAISED. */
static int fill(DictIter *iter, shobj_store *handle)
{
    shobj_item items[BATCH];
    size_t count = 0;
    unsigned max = iter->singly ? 1 : iter->began ? BATCH : FIRST_BATCH;
    int rc = iter->began ? 0 : begin(iter, handle);
    iter->next = iter->count = 0;
    if (rc < 0 || iter->empty)
        return rc;
    iter->stamp = fresh_stamp(iter->dict);
    shobj_dict_iter before = iter->at;
    rc = shobj_dict_iter_next(handle, &iter->at, items, max, &count);
    if (rc == 0 && count > 0 && !iter->at.reverse && iter->at.serial > iter->end_serial) {
        if (iter->singly)
            return 0;
        iter->singly = true;
        iter->at = before;
        rc = shobj_dict_iter_next(handle, &iter->at, items, 1, &count);
        if (rc == 0 && count > 0 && iter->at.serial > iter->end_serial)
            return 0;
    }
    return rc < 0 ? rc : convert_batch(iter, items, count);
}

/* Looks a key of a batch up again. 1: it is still there, and *value (if it is wanted) is fresh; 0: it is gone. */
static int refresh(DictIter *iter, PyObject *key, PyObject **value)
{
    if (iter->what == VIEW_KEYS)
        return PySequence_Contains((PyObject *)iter->dict, key);
    PyObject *now = PyObject_GetItem((PyObject *)iter->dict, key);
    if (now == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_KeyError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    Py_SETREF(*value, now);
    return 1;
}

/* Steals key and value. */
static PyObject *pair_of(DictIter *iter, PyObject *key, PyObject *value)
{
    PyObject *pair = iter->pair;
#ifndef Py_GIL_DISABLED
    if (pair != NULL && Py_REFCNT(pair) == 1) {
        PyObject *old_key = PyTuple_GET_ITEM(pair, 0), *old_value = PyTuple_GET_ITEM(pair, 1);
        Py_INCREF(pair);
        PyTuple_SET_ITEM(pair, 0, key);
        PyTuple_SET_ITEM(pair, 1, value);
        if (!PyObject_GC_IsTracked(pair)) /* the collector leaves alone what held nothing to trace */
            PyObject_GC_Track(pair);
        Py_DECREF(old_key);
        Py_DECREF(old_value);
        return pair;
    }
#endif
    pair = PyTuple_New(2);
    if (pair == NULL) {
        Py_DECREF(key);
        Py_DECREF(value);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, key);
    PyTuple_SET_ITEM(pair, 1, value);
#ifndef Py_GIL_DISABLED
    Py_XSETREF(iter->pair, Py_NewRef(pair));
#endif
    return pair;
}

/* What the iterator gives out for an entry. Steals key and value (NULL for keys). */
static PyObject *result_of(DictIter *iter, PyObject *key, PyObject *value)
{
    if (iter->what == VIEW_KEYS)
        return key;
    if (iter->what == VIEW_ITEMS)
        return pair_of(iter, key, value);
    Py_DECREF(key);
    return value;
}

/* 1: there is a batch; 0: the end, the iterator lets go of the dict; -1 with an exception. */
static int refill(DictIter *iter)
{
    Core *core = iter->dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    int rc = fill(iter, handle);
    shopy_core_leave(core);
    if (rc != 0) {
        shopy_raise(core->state, rc);
        return -1;
    }
    if (iter->count > 0)
        return 1;
    Py_CLEAR(iter->dict);
    Py_CLEAR(iter->pair);
    iter->left_count = 0;
    return 0;
}

static PyObject *dict_iter_step(DictIter *iter)
{
    while (iter->dict != NULL) {
        if (iter->next == iter->count && refill(iter) <= 0)
            return NULL;
        PyObject *key = iter->keys[iter->next], *value = iter->values[iter->next];
        iter->keys[iter->next] = iter->values[iter->next] = NULL;
        iter->next++;
        iter->left_count -= iter->left_count > 0;
        if (LIKELY(iter->stamp == fresh_stamp(iter->dict)))
            return result_of(iter, key, value);
        int still = refresh(iter, key, &value);
        if (still > 0)
            return result_of(iter, key, value);
        Py_DECREF(key);
        Py_XDECREF(value);
        if (still < 0)
            return NULL;
    }
    return NULL;
}

static PyObject *dict_iter_next(PyObject *self)
{
    PyObject *result;
#ifdef Py_GIL_DISABLED
    Py_BEGIN_CRITICAL_SECTION(self);
#endif
    result = dict_iter_step((DictIter *)self);
#ifdef Py_GIL_DISABLED
    Py_END_CRITICAL_SECTION();
#endif
    return result;
}

static PyObject *dict_iter_length_hint(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    DictIter *iter = (DictIter *)self;
    if (iter->dict == NULL)
        return PyLong_FromLong(0);
    if (iter->began)
        return PyLong_FromSsize_t(iter->left_count);
    Py_ssize_t length = PyObject_Size((PyObject *)iter->dict);
    return length < 0 ? NULL : PyLong_FromSsize_t(length);
}

static int dict_iter_traverse(PyObject *self, visitproc visit, void *arg)
{
    DictIter *iter = (DictIter *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(iter->dict);
    Py_VISIT(iter->pair);
    for (unsigned i = iter->next; i < iter->count; i++) {
        Py_VISIT(iter->keys[i]);
        Py_VISIT(iter->values[i]);
    }
    return 0;
}

static int dict_iter_clear(PyObject *self)
{
    DictIter *iter = (DictIter *)self;
    Py_CLEAR(iter->dict);
    Py_CLEAR(iter->pair);
    for (unsigned i = 0; i < BATCH; i++) {
        Py_CLEAR(iter->keys[i]);
        Py_CLEAR(iter->values[i]);
    }
    return 0;
}

static void dict_iter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    dict_iter_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef dict_iter_methods[] = {
    {"__length_hint__", dict_iter_length_hint, METH_NOARGS,
     "__length_hint__($self, /)\n--\n\nHow many items are left, about."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot dict_iter_slots[] = {
    {Py_tp_traverse, dict_iter_traverse},
    {Py_tp_clear, dict_iter_clear},
    {Py_tp_dealloc, dict_iter_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, dict_iter_next},
    {Py_tp_methods, dict_iter_methods},
    {0, NULL},
};

#define HIDDEN_FLAGS                                                                                                   \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)

static PyType_Spec dict_iter_spec = {
    .name = "shobj.DictIterator",
    .basicsize = sizeof(DictIter),
    .flags = HIDDEN_FLAGS,
    .slots = dict_iter_slots,
};

/* ---------------------------------------------------------------------------------------------- views */

typedef struct View {
    PyObject_HEAD
    Proxy *dict;
    enum shopy_view what;
} View;

PyObject *shopy_view_new(Proxy *dict, enum shopy_view what)
{
    module_state *state = dict->core->state;
    PyTypeObject *type = what == VIEW_KEYS     ? state->keys_type
                         : what == VIEW_VALUES ? state->values_type
                                               : state->items_type;
    View *view = (View *)type->tp_alloc(type, 0);
    if (view == NULL)
        return NULL;
    view->dict = (Proxy *)Py_NewRef((PyObject *)dict);
    view->what = what;
    return (PyObject *)view;
}

static Py_ssize_t view_length(PyObject *self)
{
    return PyObject_Size((PyObject *)((View *)self)->dict);
}

static PyObject *view_iter(PyObject *self)
{
    View *view = (View *)self;
    return shopy_dict_iter_new(view->dict, view->what, false);
}

static PyObject *view_reversed(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    View *view = (View *)self;
    return shopy_dict_iter_new(view->dict, view->what, true);
}

static int keys_contains(PyObject *self, PyObject *key)
{
    return PySequence_Contains((PyObject *)((View *)self)->dict, key);
}

static int items_contains(PyObject *self, PyObject *pair)
{
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
        return 0;
    PyObject *value = PyObject_GetItem((PyObject *)((View *)self)->dict, PyTuple_GET_ITEM(pair, 0));
    if (value == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_KeyError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    int equal = PyObject_RichCompareBool(value, PyTuple_GET_ITEM(pair, 1), Py_EQ);
    Py_DECREF(value);
    return equal;
}

/* The native view of a native copy, for one of our views; any other object itself. New reference. */
static PyObject *native_view(PyObject *object)
{
    if (Py_TYPE(object)->tp_iter != view_iter)
        return Py_NewRef(object);
    View *view = (View *)object;
    module_state *state = view->dict->core->state;
    PyObject *copy = shopy_dict_snapshot(view->dict);
    PyObject *name = view->what == VIEW_KEYS     ? state->names.keys
                     : view->what == VIEW_VALUES ? state->names.values
                                                 : state->names.items;
    PyObject *result = copy ? PyObject_CallMethodNoArgs(copy, name) : NULL;
    Py_XDECREF(copy);
    return result;
}

static PyObject *with_native(PyObject *left, PyObject *right, binaryfunc operation)
{
    PyObject *native_left = native_view(left);
    PyObject *native_right = native_left ? native_view(right) : NULL;
    PyObject *result = native_right ? operation(native_left, native_right) : NULL;
    Py_XDECREF(native_left);
    Py_XDECREF(native_right);
    return result;
}

static PyObject *view_and(PyObject *left, PyObject *right)
{
    return with_native(left, right, PyNumber_And);
}

static PyObject *view_or(PyObject *left, PyObject *right)
{
    return with_native(left, right, PyNumber_Or);
}

static PyObject *view_subtract(PyObject *left, PyObject *right)
{
    return with_native(left, right, PyNumber_Subtract);
}

static PyObject *view_xor(PyObject *left, PyObject *right)
{
    return with_native(left, right, PyNumber_Xor);
}

static PyObject *view_richcompare(PyObject *self, PyObject *other, int op)
{
    if (!PyAnySet_Check(other) && !PyDictViewSet_Check(other) &&
        !(Py_TYPE(other)->tp_iter == view_iter && ((View *)other)->what != VIEW_VALUES))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *left = native_view(self);
    PyObject *right = left ? native_view(other) : NULL;
    PyObject *result = right ? PyObject_RichCompare(left, right, op) : NULL;
    Py_XDECREF(left);
    Py_XDECREF(right);
    return result;
}

static PyObject *view_isdisjoint(PyObject *self, PyObject *other)
{
    module_state *state = ((View *)self)->dict->core->state;
    PyObject *left = native_view(self);
    PyObject *right = left ? native_view(other) : NULL;
    PyObject *result = right ? PyObject_CallMethodOneArg(left, state->names.isdisjoint, right) : NULL;
    Py_XDECREF(left);
    Py_XDECREF(right);
    return result;
}

static PyObject *view_repr(PyObject *self)
{
    static const char *const names[] = {"dict_keys", "dict_values", "dict_items"};
    int entered = Py_ReprEnter(self);
    if (entered != 0)
        return entered > 0 ? PyUnicode_FromString("...") : NULL;
    PyObject *elements = PySequence_List(self);
    PyObject *result = elements ? PyUnicode_FromFormat("%s(%R)", names[((View *)self)->what], elements) : NULL;
    Py_XDECREF(elements);
    Py_ReprLeave(self);
    return result;
}

static PyObject *view_mapping(PyObject *self, void *closure)
{
    (void)closure;
    return PyDictProxy_New((PyObject *)((View *)self)->dict);
}

static int view_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((View *)self)->dict);
    return 0;
}

/* A view is nothing without what it refers to, and that leads to no cycle: there is nothing to clear. */
static void view_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((View *)self)->dict);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef view_methods[] = {
    {"__reversed__", view_reversed, METH_NOARGS,
     "__reversed__($self, /)\n--\n\nIterates from the last item to the first."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef set_view_methods[] = {
    {"__reversed__", view_reversed, METH_NOARGS,
     "__reversed__($self, /)\n--\n\nIterates from the last item to the first."},
    {"isdisjoint", view_isdisjoint, METH_O,
     "isdisjoint($self, other, /)\n--\n\nTrue if no element of the iterable is in the view."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef view_getset[] = {
    {"mapping", view_mapping, NULL, "A read-only view of the dict that this belongs to.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define COMMON_VIEW_SLOTS                                                                                              \
    {Py_tp_traverse, view_traverse}, {Py_tp_dealloc, view_dealloc}, {Py_tp_repr, view_repr}, {Py_tp_iter, view_iter},  \
        {Py_sq_length, view_length},                                                                                   \
    {                                                                                                                  \
        Py_tp_getset, view_getset                                                                                      \
    }

#define SET_VIEW_SLOTS                                                                                                 \
    {Py_tp_methods, set_view_methods}, {Py_tp_richcompare, view_richcompare},                                          \
        {Py_tp_hash, PyObject_HashNotImplemented}, {Py_nb_and, view_and}, {Py_nb_or, view_or},                         \
        {Py_nb_subtract, view_subtract},                                                                               \
    {                                                                                                                  \
        Py_nb_xor, view_xor                                                                                            \
    }

static PyType_Slot keys_slots[] = {COMMON_VIEW_SLOTS, SET_VIEW_SLOTS, {Py_sq_contains, keys_contains}, {0, NULL}};
static PyType_Slot items_slots[] = {COMMON_VIEW_SLOTS, SET_VIEW_SLOTS, {Py_sq_contains, items_contains}, {0, NULL}};
static PyType_Slot values_slots[] = {COMMON_VIEW_SLOTS, {Py_tp_methods, view_methods}, {0, NULL}};

static PyType_Spec keys_spec = {
    .name = "shobj.DictKeys", .basicsize = sizeof(View), .flags = HIDDEN_FLAGS, .slots = keys_slots};
static PyType_Spec items_spec = {
    .name = "shobj.DictItems", .basicsize = sizeof(View), .flags = HIDDEN_FLAGS, .slots = items_slots};
static PyType_Spec values_spec = {
    .name = "shobj.DictValues", .basicsize = sizeof(View), .flags = HIDDEN_FLAGS, .slots = values_slots};

int shopy_views_init(PyObject *module, module_state *state)
{
    state->dict_iter_type = shopy_type_new(module, &dict_iter_spec, false);
    state->keys_type = shopy_type_new(module, &keys_spec, true);
    state->values_type = shopy_type_new(module, &values_spec, true);
    state->items_type = shopy_type_new(module, &items_spec, true);
    return state->dict_iter_type && state->keys_type && state->values_type && state->items_type ? 0 : -1;
}
