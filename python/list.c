/*
 * list.c: List, the proxy of a shared list: what is one operation of the library, what is done by a native
 * copy, and the type.
 */
#include "state.h"

/* ---------------------------------------------------------------------------------------------- one element */

static int list_count_of(Proxy *list, uint64_t *ret)
{
    shobj_store *handle = shopy_core_enter(list->core);
    if (handle == NULL)
        return -1;
    int rc = shobj_list_len(handle, list->oid, ret);
    shopy_core_leave(list->core);
    if (rc == 0)
        return 0;
    shopy_raise(list->core->state, rc);
    return -1;
}

static Py_ssize_t list_length(PyObject *self)
{
    uint64_t count;
    return list_count_of((Proxy *)self, &count) < 0 ? -1 : (Py_ssize_t)count;
}

static PyObject *list_get(Proxy *list, int64_t index)
{
    Core *core = list->core;
    shobj_store *handle = shopy_core_enter(core);
    if (UNLIKELY(handle == NULL))
        return NULL;
    shobj_value value;
    PyObject *result = NULL;
    int rc = shobj_list_get(handle, list->oid, index, &value);
    if (LIKELY(rc == 0))
        result = shopy_value_to_python(core, &value);
    shopy_core_leave(core);
    if (LIKELY(rc == 0))
        return result;
    if (rc == SHOBJ_ENOTFOUND)
        PyErr_SetString(PyExc_IndexError, "list index out of range");
    else
        shopy_raise(core->state, rc);
    return NULL;
}

struct value_step {
    Proxy *list;
    shopy_plan *plan;
    shobj_value single;  /* of all but extend */
    shobj_value *values; /* of extend */
    size_t count;
    int64_t index;
    int (*store)(shobj_store *handle, const struct value_step *step);
};

static int value_step(shobj_store *handle, void *arg)
{
    struct value_step *step = arg;
    int rc = shopy_plan_build(step->plan, handle);
    return rc < 0 ? rc : step->store(handle, step);
}

static int store_set(shobj_store *handle, const struct value_step *step)
{
    return shobj_list_set(handle, step->list->oid, step->index, &step->single);
}

static int store_append(shobj_store *handle, const struct value_step *step)
{
    return shobj_list_append(handle, step->list->oid, &step->single);
}

static int store_insert(shobj_store *handle, const struct value_step *step)
{
    return shobj_list_insert(handle, step->list->oid, step->index, &step->single);
}

static int store_extend(shobj_store *handle, const struct value_step *step)
{
    return shobj_list_extend(handle, step->list->oid, step->values, step->count);
}

/* Converts objects and stores them with step->store, alone or (if objects have to be made) in a transaction. */
static int store_planned(shobj_store *handle, struct value_step *step, PyObject *const *objects, Py_ssize_t count)
{
    Core *core = step->list->core;
    step->plan = shopy_plan_new(core);
    if (step->plan == NULL)
        return SHOPY_RAISED;
    step->count = (size_t)count;
    int rc = step->store == store_extend ? shopy_plan_add_all(step->plan, objects, count, "values", &step->values)
                                         : shopy_plan_add(step->plan, objects[0], "value", &step->single);
    if (rc < 0)
        rc = SHOPY_RAISED;
    else if (shopy_plan_has_nodes(step->plan))
        rc = shopy_core_run(core, handle, value_step, step);
    else
        rc = step->store(handle, step);
    shopy_plan_free(step->plan);
    return rc;
}

/* One value through step->store: a leaf directly. 0, or -1 with an exception. */
static int list_store(Proxy *list, int64_t index, PyObject *object,
                      int (*store)(shobj_store *handle, const struct value_step *step))
{
    Core *core = list->core;
    shobj_store *handle = shopy_core_enter(core);
    if (UNLIKELY(handle == NULL))
        return -1;
    struct value_step step;
    step.list = list;
    step.index = index;
    step.store = store;
    int rc;
    if (LIKELY(shopy_leaf(core, object, &step.single)))
        rc = store(handle, &step);
    else
        rc = store_planned(handle, &step, &object, 1);
    list->change_count++;
    shopy_core_leave(core);
    if (LIKELY(rc == 0))
        return 0;
    if (rc == SHOBJ_ENOTFOUND)
        PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
    else
        shopy_raise(core->state, rc);
    return -1;
}

static int list_delete(Proxy *list, int64_t index)
{
    Core *core = list->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    int rc = shobj_list_del(handle, list->oid, index, NULL);
    list->change_count++;
    shopy_core_leave(core);
    if (rc == SHOBJ_ENOTFOUND)
        PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
    else if (rc != 0)
        shopy_raise(core->state, rc);
    return rc == 0 ? 0 : -1;
}

/* An index object as a number; out of range of Py_ssize_t is out of range of any list. */
static int index_of(PyObject *object, Py_ssize_t *ret)
{
    *ret = PyNumber_AsSsize_t(object, PyExc_IndexError);
    return *ret == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *list_subscript(PyObject *self, PyObject *index)
{
    Py_ssize_t i;
    if (LIKELY(PyIndex_Check(index)))
        return index_of(index, &i) < 0 ? NULL : list_get((Proxy *)self, i);
    if (PySlice_Check(index))
        return shopy_list_slice_get((Proxy *)self, index);
    return PyErr_Format(PyExc_TypeError, "list indices must be integers or slices, not %.200s",
                        Py_TYPE(index)->tp_name);
}

static int list_ass_subscript(PyObject *self, PyObject *index, PyObject *value)
{
    Proxy *list = (Proxy *)self;
    Py_ssize_t i;
    if (PySlice_Check(index))
        return shopy_list_slice_set(list, index, value);
    if (!PyIndex_Check(index)) {
        PyErr_Format(PyExc_TypeError, "list indices must be integers or slices, not %.200s", Py_TYPE(index)->tp_name);
        return -1;
    }
    if (index_of(index, &i) < 0)
        return -1;
    return value == NULL ? list_delete(list, i) : list_store(list, i, value, store_set);
}

/* PySequence_GetItem() has added the length to a negative index already; one that is still negative is out of
 * range. */
static PyObject *list_item(PyObject *self, Py_ssize_t index)
{
    if (index < 0) {
        PyErr_SetString(PyExc_IndexError, "list index out of range");
        return NULL;
    }
    return list_get((Proxy *)self, index);
}

static int list_ass_item(PyObject *self, Py_ssize_t index, PyObject *value)
{
    if (index < 0) {
        PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
        return -1;
    }
    return value == NULL ? list_delete((Proxy *)self, index) : list_store((Proxy *)self, index, value, store_set);
}

static PyObject *list_getitem_method(PyObject *self, PyObject *index)
{
    return list_subscript(self, index);
}

static PyObject *list_append(PyObject *self, PyObject *value)
{
    if (list_store((Proxy *)self, 0, value, store_append) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *list_insert(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (!shopy_check_count("insert", count, 2, 2))
        return NULL;
    Py_ssize_t index = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
    if (index == -1 && PyErr_Occurred())
        return NULL;
    if (list_store((Proxy *)self, index, args[1], store_insert) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *list_pop(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t index = -1;
    if (!shopy_check_count("pop", count, 0, 1))
        return NULL;
    if (count > 0) {
        index = PyNumber_AsSsize_t(args[0], PyExc_IndexError);
        if (index == -1 && PyErr_Occurred())
            return NULL;
    }
    Proxy *list = (Proxy *)self;
    Core *core = list->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    shobj_value value;
    PyObject *result = NULL;
    int rc = shobj_list_del(handle, list->oid, index, &value);
    if (rc == 0)
        result = shopy_value_to_python(core, &value);
    list->change_count++;
    shopy_core_leave(core);
    if (rc == SHOBJ_ENOTFOUND) {
        Py_ssize_t length = list_length(self);
        if (length >= 0)
            PyErr_SetString(PyExc_IndexError, length == 0 ? "pop from empty list" : "pop index out of range");
        return NULL;
    }
    return rc == 0 ? result : shopy_raise(core->state, rc);
}

static PyObject *list_clear(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Proxy *list = (Proxy *)self;
    shobj_store *handle = shopy_core_enter(list->core);
    if (handle == NULL)
        return NULL;
    int rc = shobj_list_clear(handle, list->oid);
    list->change_count++;
    shopy_core_leave(list->core);
    if (rc != 0)
        return shopy_raise(list->core->state, rc);
    Py_RETURN_NONE;
}

/* Appends the elements of a native list or tuple that nobody else refers to, in one operation. */
static int extend_native(Proxy *list, PyObject *sequence)
{
    Core *core = list->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    struct value_step step = {.list = list, .store = store_extend};
    int rc = 0;
    if (PySequence_Fast_GET_SIZE(sequence) > 0)
        rc = store_planned(handle, &step, PySequence_Fast_ITEMS(sequence), PySequence_Fast_GET_SIZE(sequence));
    list->change_count++;
    shopy_core_leave(core);
    if (rc == 0)
        return 0;
    shopy_raise(core->state, rc);
    return -1;
}

struct extend_step {
    Proxy *list;
    Proxy *source;
};

/* Appends what another list of the store (or the same) holds, as of the instant of the append. */
static int extend_step(shobj_store *handle, void *arg)
{
    struct extend_step *step = arg;
    PyObject *elements;
    int rc = shopy_list_read(handle, step->source, &elements);
    if (rc == 0) {
        struct value_step values = {.list = step->list, .store = store_extend};
        if (PyList_GET_SIZE(elements) > 0)
            rc = store_planned(handle, &values, PySequence_Fast_ITEMS(elements), PyList_GET_SIZE(elements));
        Py_DECREF(elements);
    }
    return rc;
}

static int extend_from_list(Proxy *list, Proxy *source)
{
    Core *core = list->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    struct extend_step step = {list, source};
    int rc = shopy_core_run(core, handle, extend_step, &step);
    list->change_count++;
    shopy_core_leave(core);
    if (rc == 0)
        return 0;
    shopy_raise(core->state, rc);
    return -1;
}

PyObject *shopy_list_extend(PyObject *self, PyObject *values)
{
    Proxy *list = (Proxy *)self;
    int rc = -1;
    if (shopy_is_list(list->core->state, values) && ((Proxy *)values)->core == list->core) {
        rc = extend_from_list(list, (Proxy *)values);
    } else {
        PyObject *copy = PySequence_Tuple(values); /* runs the iterator before anything is stored */
        if (copy != NULL)
            rc = extend_native(list, copy);
        Py_XDECREF(copy);
    }
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *list_iter(PyObject *self)
{
    return shopy_list_iter_new((Proxy *)self, false);
}

static PyObject *list_reversed(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return shopy_list_iter_new((Proxy *)self, true);
}

/* ---------------------------------------------------------------------------------------------- reading all */

static int list_contains(PyObject *self, PyObject *value)
{
    PyObject *copy = shopy_list_snapshot((Proxy *)self);
    int has = copy ? PySequence_Contains(copy, value) : -1;
    Py_XDECREF(copy);
    return has;
}

/* list's own method of a native copy, read as of one instant. */
static PyObject *by_native(PyObject *self, PyObject *method, PyObject *const *args, Py_ssize_t count)
{
    PyObject *stack[4];
    if (!shopy_check_count(PyUnicode_AsUTF8(method), count, 1, 3))
        return NULL;
    stack[0] = shopy_list_snapshot((Proxy *)self);
    if (stack[0] == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        stack[1 + i] = args[i];
    PyObject *result = PyObject_VectorcallMethod(method, stack, (size_t)count + 1, NULL);
    Py_DECREF(stack[0]);
    return result;
}

static PyObject *list_index(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return by_native(self, ((Proxy *)self)->core->state->names.index, args, count);
}

static PyObject *list_count(PyObject *self, PyObject *value)
{
    return by_native(self, ((Proxy *)self)->core->state->names.count, &value, 1);
}

static PyObject *list_copy(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return shopy_list_snapshot((Proxy *)self);
}

/* A List as a native list, a native list as itself; NULL without exception for others. New reference. */
static PyObject *native_list(PyObject *object, PyTypeObject *list_type)
{
    if (Py_IS_TYPE(object, list_type))
        return shopy_list_snapshot((Proxy *)object);
    return PyList_Check(object) ? Py_NewRef(object) : NULL;
}

/* list + list, where either is a List: a native list, as all new lists that operators make. */
static PyObject *list_add(PyObject *left, PyObject *right)
{
    bool left_is_ours = Py_TYPE(left)->tp_as_number && Py_TYPE(left)->tp_as_number->nb_add == list_add;
    PyTypeObject *type = left_is_ours ? Py_TYPE(left) : Py_TYPE(right);
    PyObject *native_left = native_list(left, type);
    PyObject *native_right = native_left ? native_list(right, type) : NULL;
    PyObject *result = NULL;
    if (native_right != NULL)
        result = PySequence_Concat(native_left, native_right);
    else if (!PyErr_Occurred())
        result = Py_NewRef(Py_NotImplemented);
    Py_XDECREF(native_left);
    Py_XDECREF(native_right);
    return result;
}

/* What + comes to when neither operand knew how. */
static PyObject *list_concat(PyObject *self, PyObject *other)
{
    PyObject *result = list_add(self, other);
    if (result != Py_NotImplemented)
        return result;
    Py_DECREF(result);
    return PyErr_Format(PyExc_TypeError, "can only concatenate list (not \"%.200s\") to list", Py_TYPE(other)->tp_name);
}

static PyObject *list_inplace_add(PyObject *self, PyObject *values)
{
    PyObject *done = shopy_list_extend(self, values);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    return Py_NewRef(self);
}

static PyObject *list_repeat(PyObject *self, Py_ssize_t times)
{
    PyObject *copy = shopy_list_snapshot((Proxy *)self);
    PyObject *result = copy ? PySequence_Repeat(copy, times) : NULL;
    Py_XDECREF(copy);
    return result;
}

static PyObject *list_richcompare(PyObject *self, PyObject *other, int op)
{
    module_state *state = ((Proxy *)self)->core->state;
    if (!PyList_Check(other) && !shopy_is_list(state, other))
        Py_RETURN_NOTIMPLEMENTED;
    if (self == other && (op == Py_EQ || op == Py_NE))
        return PyBool_FromLong(op == Py_EQ);
    if (op == Py_EQ || op == Py_NE) {
        Py_ssize_t own_length = list_length(self);
        Py_ssize_t other_length = own_length < 0 ? -1 : PyObject_Size(other);
        if (own_length < 0 || other_length < 0)
            return NULL;
        if (own_length != other_length)
            return PyBool_FromLong(op == Py_NE);
    }
    PyObject *left, *right;
    if (shopy_to_native_pair((Proxy *)self, other, &left, &right) < 0)
        return NULL;
    PyObject *result = PyObject_RichCompare(left, right, op);
    Py_DECREF(left);
    Py_DECREF(right);
    return result;
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef list_methods[] = {
    {"__getitem__", list_getitem_method, METH_O | METH_COEXIST,
     "__getitem__($self, index, /)\n--\n\nThe element at an index, or a native list of those in a slice."},
    {"append", list_append, METH_O, "append($self, object, /)\n--\n\nAdds a value at the end."},
    {"extend", shopy_list_extend, METH_O,
     "extend($self, iterable, /)\n--\n\nAdds all values of an iterable at the end, in one operation."},
    {"insert", FAST(list_insert), METH_FASTCALL,
     "insert($self, index, object, /)\n--\n\nAdds a value before an index."},
    {"pop", FAST(list_pop), METH_FASTCALL,
     "pop($self, index=-1, /)\n--\n\nRemoves the element at an index and returns it. IndexError out of range."},
    {"remove", shopy_list_remove, METH_O,
     "remove($self, value, /)\n--\n\nRemoves the first element equal to value. ValueError if there is none."},
    {"clear", list_clear, METH_NOARGS, "clear($self, /)\n--\n\nRemoves all elements. One operation."},
    {"index", FAST(list_index), METH_FASTCALL,
     "index($self, value, start=0, stop=9223372036854775807, /)\n--\n\n"
     "The index of the first element equal to value. ValueError if there is none."},
    {"count", list_count, METH_O, "count($self, value, /)\n--\n\nHow many elements are equal to value."},
    {"sort", FAST(shopy_list_sort), METH_FASTCALL | METH_KEYWORDS,
     "sort($self, /, *, key=None, reverse=False)\n--\n\n"
     "Sorts in place, stably, as one transaction. The key function runs in it, perhaps several times."},
    {"reverse", shopy_list_reverse, METH_NOARGS, "reverse($self, /)\n--\n\nReverses in place, as one transaction."},
    {"copy", list_copy, METH_NOARGS,
     "copy($self, /)\n--\n\nA native list of the elements, read as of one instant. Containers in it stay shared."},
    {"__reversed__", list_reversed, METH_NOARGS,
     "__reversed__($self, /)\n--\n\nIterates over the elements, last one first."},
    {"__copy__", list_copy, METH_NOARGS, "__copy__($self, /)\n--\n\nAs copy()."},
    {"__deepcopy__", shopy_proxy_deepcopy, METH_O,
     "__deepcopy__($self, memo, /)\n--\n\nA native copy of all below, as shobj.to_native()."},
    {"__reduce__", shopy_proxy_reduce, METH_NOARGS,
     "__reduce__($self, /)\n--\n\nPickles as path and UUID of the store and id of the object."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     "__class_getitem__($type, item, /)\n--\n\nList[T], for annotations."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(list_doc,
             "A list that lives in a store, shared by all processes that have it open.\n\n"
             "It has every method and operator of list, with the same results and exceptions. Each one is atomic.\n"
             "Storing a list or dict copies it deeply into shared objects; what is read back is a proxy of these,\n"
             "and changing it changes the store. copy(), slices, + and * give native lists. New ones come from\n"
             "Store.list(). Values are those that Dict takes; others raise NotShareableError.");

static PyType_Slot list_slots[] = {
    {Py_tp_doc, (void *)list_doc},
    {Py_tp_dealloc, shopy_proxy_dealloc},
    {Py_tp_methods, list_methods},
    {Py_tp_getset, shopy_proxy_getset},
    {Py_tp_members, shopy_proxy_members},
    {Py_tp_repr, shopy_proxy_repr},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_richcompare, list_richcompare},
    {Py_tp_iter, list_iter},
    {Py_mp_length, list_length},
    {Py_mp_subscript, list_subscript},
    {Py_mp_ass_subscript, list_ass_subscript},
    {Py_sq_length, list_length},
    {Py_sq_item, list_item},
    {Py_sq_ass_item, list_ass_item},
    {Py_sq_contains, list_contains},
    {Py_sq_concat, list_concat},
    {Py_sq_inplace_concat, list_inplace_add},
    {Py_sq_repeat, list_repeat},
    {Py_sq_inplace_repeat, shopy_list_imul},
    {Py_nb_add, list_add},
    {Py_nb_inplace_add, list_inplace_add},
    {0, NULL},
};

static PyType_Spec list_spec = {
    .name = "shobj.List",
    .basicsize = sizeof(Proxy),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_SEQUENCE,
    .slots = list_slots,
};

int shopy_list_init(PyObject *module, module_state *state)
{
    state->list_type = shopy_type_new(module, &list_spec, true);
    return state->list_type ? 0 : -1;
}
