/*
 * list_iter.c: iterating over a List.
 *
 * An iterator walks by index, as that of list does. It reads ahead in batches; what is left of a batch is
 * dropped as soon as this interpreter changes the list, or begins or ends a transaction, so a program sees its
 * own changes at once.
 */
#include "state.h"

enum { BATCH = 32, FIRST_BATCH = 8 };

typedef struct ListIter {
    PyObject_HEAD
    Proxy *list;      /* NULL: at the end */
    Py_ssize_t index; /* of the next element; backwards, -1 is the end */
    bool reverse;
    bool began;
    uint64_t stamp;
    unsigned next, count; /* of the batch */
    PyObject *values[BATCH];
} ListIter;

static uint64_t fresh_stamp(const Proxy *list)
{
    return list->change_count + list->core->txn_count;
}

PyObject *shopy_list_iter_new(Proxy *list, bool reverse)
{
    module_state *state = list->core->state;
    Py_ssize_t index = 0;
    if (reverse) {
        index = PyObject_Size((PyObject *)list) - 1;
        if (index < -1)
            return NULL;
    }
    ListIter *iter = (ListIter *)state->list_iter_type->tp_alloc(state->list_iter_type, 0);
    if (iter == NULL)
        return NULL;
    iter->list = (Proxy *)Py_NewRef((PyObject *)list);
    iter->index = index;
    iter->reverse = reverse;
    return (PyObject *)iter;
}

static void drop_batch(ListIter *iter)
{
    for (; iter->next < iter->count; iter->next++)
        Py_CLEAR(iter->values[iter->next]); /* a macro that may look at its operand more than once */
    iter->next = iter->count = 0;
}

static int convert_batch(ListIter *iter, const shobj_value *values, size_t count)
{
    int paused = shopy_gc_pause();
    size_t i;
    for (i = 0; i < count; i++) {
        iter->values[i] = shopy_value_to_python(iter->list->core, &values[iter->reverse ? count - 1 - i : i]);
        if (iter->values[i] == NULL)
            break;
    }
    iter->next = 0;
    iter->count = (unsigned)i;
    shopy_gc_resume(paused);
    return i == count ? 0 : SHOPY_RAISED;
}

/* Reads the elements from the index on; leaves count at 0 if there is none. 0, a library error or SHOPY_RAISED. */
static int fill(ListIter *iter, shobj_store *handle)
{
    shobj_value values[BATCH];
    size_t max = iter->began ? BATCH : FIRST_BATCH, count = 0;
    Py_ssize_t first = iter->index;
    drop_batch(iter);
    iter->began = true;
    iter->stamp = fresh_stamp(iter->list);
    if (first < 0)
        return 0;
    if (!iter->reverse) {
        int rc = shobj_list_read(handle, iter->list->oid, (uint64_t)first, values, max, &count);
        return rc < 0 ? rc : convert_batch(iter, values, count);
    }
    first = first + 1 > (Py_ssize_t)max ? first + 1 - (Py_ssize_t)max : 0;
    size_t wanted = (size_t)(iter->index - first + 1);
    int rc = shobj_list_read(handle, iter->list->oid, (uint64_t)first, values, wanted, &count);
    if (rc == 0 && count < wanted) { /* a short batch: the one element that is due */
        rc = shobj_list_read(handle, iter->list->oid, (uint64_t)iter->index, values, 1, &count);
    }
    return rc < 0 ? rc : convert_batch(iter, values, count);
}

static int refill(ListIter *iter)
{
    Core *core = iter->list->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    int rc = fill(iter, handle);
    shopy_core_leave(core);
    if (rc == 0)
        return 0;
    shopy_raise(core->state, rc);
    return -1;
}

static PyObject *list_iter_step(ListIter *iter)
{
    if (iter->list == NULL)
        return NULL;
    if (iter->next == iter->count || UNLIKELY(iter->stamp != fresh_stamp(iter->list))) {
        if (refill(iter) < 0)
            return NULL;
        if (iter->count == 0) {
            Py_CLEAR(iter->list);
            return NULL;
        }
    }
    PyObject *value = iter->values[iter->next];
    iter->values[iter->next++] = NULL;
    iter->index += iter->reverse ? -1 : 1;
    return value;
}

static PyObject *list_iter_next(PyObject *self)
{
    PyObject *result;
#ifdef Py_GIL_DISABLED
    Py_BEGIN_CRITICAL_SECTION(self);
#endif
    result = list_iter_step((ListIter *)self);
#ifdef Py_GIL_DISABLED
    Py_END_CRITICAL_SECTION();
#endif
    return result;
}

static PyObject *list_iter_length_hint(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    ListIter *iter = (ListIter *)self;
    if (iter->list == NULL)
        return PyLong_FromLong(0);
    if (iter->reverse)
        return PyLong_FromSsize_t(iter->index + 1);
    Py_ssize_t length = PyObject_Size((PyObject *)iter->list);
    if (length < 0)
        return NULL;
    return PyLong_FromSsize_t(length > iter->index ? length - iter->index : 0);
}

static int list_iter_traverse(PyObject *self, visitproc visit, void *arg)
{
    ListIter *iter = (ListIter *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(iter->list);
    for (unsigned i = iter->next; i < iter->count; i++)
        Py_VISIT(iter->values[i]);
    return 0;
}

static int list_iter_clear(PyObject *self)
{
    ListIter *iter = (ListIter *)self;
    Py_CLEAR(iter->list);
    drop_batch(iter);
    return 0;
}

static void list_iter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    list_iter_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef list_iter_methods[] = {
    {"__length_hint__", list_iter_length_hint, METH_NOARGS,
     "__length_hint__($self, /)\n--\n\nHow many elements are left, about."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot list_iter_slots[] = {
    {Py_tp_traverse, list_iter_traverse},
    {Py_tp_clear, list_iter_clear},
    {Py_tp_dealloc, list_iter_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, list_iter_next},
    {Py_tp_methods, list_iter_methods},
    {0, NULL},
};

static PyType_Spec list_iter_spec = {
    .name = "shobj.ListIterator",
    .basicsize = sizeof(ListIter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = list_iter_slots,
};

int shopy_list_iter_init(PyObject *module, module_state *state)
{
    state->list_iter_type = shopy_type_new(module, &list_iter_spec, false);
    return state->list_iter_type ? 0 : -1;
}
