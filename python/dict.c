/*
 * dict.c: Dict, the proxy of a shared dict: what is one operation of the library, and the type.
 */
#include "state.h"

/* ---------------------------------------------------------------------------------------------- one key */

static Py_ssize_t dict_length(PyObject *self)
{
    Proxy *dict = (Proxy *)self;
    shobj_store *handle = shopy_core_enter(dict->core);
    if (handle == NULL)
        return -1;
    uint64_t count;
    int rc = shobj_dict_len(handle, dict->oid, &count);
    shopy_core_leave(dict->core);
    if (rc < 0) {
        shopy_raise(dict->core->state, rc);
        return -1;
    }
    return (Py_ssize_t)count;
}

/* The value of a key: 1 and *ret; 0 if there is no such key; -1 with an exception. */
static inline int lookup(Proxy *dict, PyObject *key, PyObject **ret)
{
    Core *core = dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (UNLIKELY(handle == NULL))
        return -1;
    struct shopy_keybuf buf;
    int result = shopy_key_prepare(core, handle, key, &buf);
    if (LIKELY(result == 0)) {
        shobj_value value;
        int rc = shobj_dict_get(handle, dict->oid, &buf.key, &value);
        if (LIKELY(rc == 0)) {
            *ret = shopy_value_to_python(core, &value);
            result = *ret != NULL ? 1 : -1;
        } else if (rc == SHOBJ_ENOTFOUND) {
            result = 0;
        } else {
            shopy_raise(core->state, rc);
            result = -1;
        }
        shopy_key_release(&buf);
    } else if (result > 0) {
        result = 0;
    }
    shopy_core_leave(core);
    return result;
}

static PyObject *dict_subscript(PyObject *self, PyObject *key)
{
    PyObject *value;
    int found = lookup((Proxy *)self, key, &value);
    if (LIKELY(found > 0))
        return value;
    return found == 0 ? shopy_raise_key(key) : NULL;
}

static int dict_contains(PyObject *self, PyObject *key)
{
    Proxy *dict = (Proxy *)self;
    Core *core = dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    struct shopy_keybuf buf;
    int result = shopy_key_prepare(core, handle, key, &buf);
    if (result == 0) {
        bool has = false;
        int rc = shobj_dict_has(handle, dict->oid, &buf.key, &has);
        if (rc < 0)
            shopy_raise(core->state, rc);
        result = rc < 0 ? -1 : has;
        shopy_key_release(&buf);
    } else if (result > 0) {
        result = 0;
    }
    shopy_core_leave(core);
    return result;
}

struct set_step {
    Proxy *dict;
    const shobj_key *key;
    shopy_plan *plan;
    shobj_value value;
};

static int set_step(shobj_store *handle, void *arg)
{
    struct set_step *step = arg;
    int rc = shopy_plan_build(step->plan, handle);
    return rc < 0 ? rc : shobj_dict_set(handle, step->dict->oid, step->key, &step->value);
}

/* Stores a value that needs converting. 0, a library error or SHOPY_RAISED. */
static int set_planned(Proxy *dict, shobj_store *handle, const shobj_key *key, PyObject *value)
{
    struct set_step step = {.dict = dict, .key = key, .plan = shopy_plan_new(dict->core)};
    if (step.plan == NULL)
        return SHOPY_RAISED;
    int rc = SHOPY_RAISED;
    if (shopy_plan_add(step.plan, value, "value", &step.value) == 0) {
        if (shopy_plan_has_nodes(step.plan))
            rc = shopy_core_run(dict->core, handle, set_step, &step);
        else
            rc = shobj_dict_set(handle, dict->oid, key, &step.value);
    }
    shopy_plan_free(step.plan);
    return rc;
}

static int dict_delete(Proxy *dict, PyObject *key)
{
    Core *core = dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    struct shopy_keybuf buf;
    int rc = shopy_key_prepare(core, handle, key, &buf);
    if (rc == 0) {
        rc = shobj_dict_del(handle, dict->oid, &buf.key, NULL);
        shopy_key_release(&buf);
        dict->change_count++;
    } else {
        rc = rc < 0 ? SHOPY_RAISED : SHOBJ_ENOTFOUND;
    }
    shopy_core_leave(core);
    if (rc == SHOBJ_ENOTFOUND)
        shopy_raise_key(key);
    else if (rc != 0)
        shopy_raise(core->state, rc);
    return rc == 0 ? 0 : -1;
}

static int dict_ass_subscript(PyObject *self, PyObject *key, PyObject *object)
{
    if (UNLIKELY(object == NULL))
        return dict_delete((Proxy *)self, key);
    Proxy *dict = (Proxy *)self;
    Core *core = dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (UNLIKELY(handle == NULL))
        return -1;
    struct shopy_keybuf buf;
    int rc = shopy_key_prepare(core, handle, key, &buf);
    if (LIKELY(rc == 0)) {
        shobj_value value;
        if (LIKELY(shopy_leaf(core, object, &value)))
            rc = shobj_dict_set(handle, dict->oid, &buf.key, &value);
        else
            rc = set_planned(dict, handle, &buf.key, object);
        shopy_key_release(&buf);
        dict->change_count++;
    } else {
        if (rc > 0)
            shopy_raise_key_not_shareable(core, key);
        rc = SHOPY_RAISED;
    }
    shopy_core_leave(core);
    if (LIKELY(rc == 0))
        return 0;
    shopy_raise(core->state, rc);
    return -1;
}

static PyObject *dict_get(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (!shopy_check_count("get", count, 1, 2))
        return NULL;
    PyObject *value;
    int found = lookup((Proxy *)self, args[0], &value);
    if (found > 0)
        return value;
    if (found < 0)
        return NULL;
    return Py_NewRef(count > 1 ? args[1] : Py_None);
}

static PyObject *dict_getitem_method(PyObject *self, PyObject *key)
{
    return dict_subscript(self, key);
}

static PyObject *dict_contains_method(PyObject *self, PyObject *key)
{
    int has = dict_contains(self, key);
    return has < 0 ? NULL : PyBool_FromLong(has);
}

static PyObject *dict_pop(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (!shopy_check_count("pop", count, 1, 2))
        return NULL;
    Proxy *dict = (Proxy *)self;
    Core *core = dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    struct shopy_keybuf buf;
    PyObject *result = NULL;
    int rc = shopy_key_prepare(core, handle, args[0], &buf);
    if (rc == 0) {
        shobj_value value;
        rc = shobj_dict_del(handle, dict->oid, &buf.key, &value);
        if (rc == 0)
            result = shopy_value_to_python(core, &value);
        shopy_key_release(&buf);
        dict->change_count++;
    } else {
        rc = rc < 0 ? SHOPY_RAISED : SHOBJ_ENOTFOUND;
    }
    shopy_core_leave(core);
    if (rc == SHOBJ_ENOTFOUND)
        return count > 1 ? Py_NewRef(args[1]) : shopy_raise_key(args[0]);
    return rc == 0 ? result : shopy_raise(core->state, rc);
}

static PyObject *dict_popitem(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Proxy *dict = (Proxy *)self;
    Core *core = dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    shobj_item item;
    PyObject *key = NULL, *value = NULL;
    int rc = shobj_dict_popitem(handle, dict->oid, false, &item);
    if (rc == 0) {
        int paused = shopy_gc_pause();
        key = shopy_value_to_python(core, &item.key);
        value = key ? shopy_value_to_python(core, &item.value) : NULL;
        shopy_gc_resume(paused);
    }
    dict->change_count++;
    shopy_core_leave(core);
    if (rc == SHOBJ_ENOTFOUND)
        PyErr_SetString(PyExc_KeyError, "popitem(): dictionary is empty");
    else if (rc < 0)
        shopy_raise(core->state, rc);
    PyObject *result = value ? PyTuple_Pack(2, key, value) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return result;
}

static PyObject *dict_clear(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    Proxy *dict = (Proxy *)self;
    shobj_store *handle = shopy_core_enter(dict->core);
    if (handle == NULL)
        return NULL;
    int rc = shobj_dict_clear(handle, dict->oid);
    dict->change_count++;
    shopy_core_leave(dict->core);
    if (rc < 0)
        return shopy_raise(dict->core->state, rc);
    Py_RETURN_NONE;
}

/* ---------------------------------------------------------------------------------------------- operators */

/* Either operand may be the Dict; the other one is a Dict or a native dict. */
static PyObject *dict_or(PyObject *left, PyObject *right)
{
    PyObject *operands[2] = {left, right}, *native[2] = {NULL, NULL}, *result = NULL;
    for (int i = 0; i < 2; i++) {
        if (Py_TYPE(operands[i])->tp_as_number && Py_TYPE(operands[i])->tp_as_number->nb_or == dict_or)
            native[i] = shopy_dict_snapshot((Proxy *)operands[i]);
        else if (PyDict_Check(operands[i]))
            native[i] = Py_NewRef(operands[i]);
        else
            result = Py_NotImplemented;
        if (native[i] == NULL)
            break;
    }
    if (native[1] != NULL)
        result = PyNumber_Or(native[0], native[1]);
    else
        Py_XINCREF(result);
    Py_XDECREF(native[0]);
    Py_XDECREF(native[1]);
    return result;
}

/* ---------------------------------------------------------------------------------------------- the rest */

static PyObject *dict_copy(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return shopy_dict_snapshot((Proxy *)self);
}

static PyObject *dict_richcompare(PyObject *self, PyObject *other, int op)
{
    module_state *state = ((Proxy *)self)->core->state;
    if ((op != Py_EQ && op != Py_NE) || !(PyDict_Check(other) || shopy_is_dict(state, other)))
        Py_RETURN_NOTIMPLEMENTED;
    if (self == other)
        return PyBool_FromLong(op == Py_EQ);
    Py_ssize_t own_length = dict_length(self);
    Py_ssize_t other_length = own_length < 0 ? -1 : PyObject_Size(other);
    if (own_length < 0 || other_length < 0)
        return NULL;
    if (own_length != other_length)
        return PyBool_FromLong(op == Py_NE);
    PyObject *left, *right;
    if (shopy_to_native_pair((Proxy *)self, other, &left, &right) < 0)
        return NULL;
    PyObject *result = PyObject_RichCompare(left, right, op);
    Py_DECREF(left);
    Py_DECREF(right);
    return result;
}

static PyObject *dict_iter(PyObject *self)
{
    return shopy_dict_iter_new((Proxy *)self, VIEW_KEYS, false);
}

static PyObject *dict_reversed(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return shopy_dict_iter_new((Proxy *)self, VIEW_KEYS, true);
}

static PyObject *dict_keys(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return shopy_view_new((Proxy *)self, VIEW_KEYS);
}

static PyObject *dict_values(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return shopy_view_new((Proxy *)self, VIEW_VALUES);
}

static PyObject *dict_items(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return shopy_view_new((Proxy *)self, VIEW_ITEMS);
}

static PyObject *dict_fromkeys(PyObject *type, PyObject *args)
{
    module_state *state = PyType_GetModuleState((PyTypeObject *)type);
    PyObject *function = PyObject_GetAttr((PyObject *)&PyDict_Type, state->names.fromkeys);
    PyObject *result = function ? PyObject_CallObject(function, args) : NULL;
    Py_XDECREF(function);
    return result;
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef dict_methods[] = {
    {"__getitem__", dict_getitem_method, METH_O | METH_COEXIST,
     "__getitem__($self, key, /)\n--\n\nThe value of the key. KeyError if there is none."},
    {"__contains__", dict_contains_method, METH_O | METH_COEXIST,
     "__contains__($self, key, /)\n--\n\nTrue if the dict has the key."},
    {"get", FAST(dict_get), METH_FASTCALL,
     "get($self, key, default=None, /)\n--\n\nThe value of the key, or default if there is none."},
    {"setdefault", FAST(shopy_dict_setdefault), METH_FASTCALL,
     "setdefault($self, key, default=None, /)\n--\n\n"
     "The value of the key, after storing default under it if it was absent. One operation."},
    {"pop", FAST(dict_pop), METH_FASTCALL,
     "pop($self, key, /, *default)\n--\n\nRemoves the key and returns its value, or default; KeyError without one."},
    {"popitem", dict_popitem, METH_NOARGS,
     "popitem($self, /)\n--\n\nRemoves the last inserted key and returns (key, value). KeyError if empty."},
    {"update", FAST(shopy_dict_update), METH_VARARGS | METH_KEYWORDS,
     "update($self, other=(), /, **items)\n--\n\n"
     "Stores all items of a mapping, or of an iterable of pairs, and those given by name, in one transaction:\n"
     "a failure changes nothing."},
    {"update_with", FAST(shopy_dict_update_with), METH_FASTCALL | METH_KEYWORDS,
     "update_with($self, key, function, default=...)\n--\n\n"
     "Stores function(value of the key) under the key and returns it, as one atomic operation.\n\n"
     "An absent key has the value default; KeyError without one. The function may run several times: it must not\n"
     "change anything but shared objects, whose changes are part of the operation."},
    {"clear", dict_clear, METH_NOARGS, "clear($self, /)\n--\n\nRemoves all items. One operation."},
    {"keys", dict_keys, METH_NOARGS, "keys($self, /)\n--\n\nA set-like view of the keys."},
    {"values", dict_values, METH_NOARGS, "values($self, /)\n--\n\nA view of the values."},
    {"items", dict_items, METH_NOARGS, "items($self, /)\n--\n\nA set-like view of the (key, value) pairs."},
    {"copy", dict_copy, METH_NOARGS,
     "copy($self, /)\n--\n\nA native dict of the items, read as of one instant. Containers in it stay shared."},
    {"fromkeys", dict_fromkeys, METH_VARARGS | METH_CLASS,
     "fromkeys($type, iterable, value=None, /)\n--\n\nA new native dict with these keys, as dict.fromkeys()."},
    {"__reversed__", dict_reversed, METH_NOARGS,
     "__reversed__($self, /)\n--\n\nIterates over the keys, last one first."},
    {"__copy__", dict_copy, METH_NOARGS, "__copy__($self, /)\n--\n\nAs copy()."},
    {"__deepcopy__", shopy_proxy_deepcopy, METH_O,
     "__deepcopy__($self, memo, /)\n--\n\nA native copy of all below, as shobj.to_native()."},
    {"__reduce__", shopy_proxy_reduce, METH_NOARGS,
     "__reduce__($self, /)\n--\n\nPickles as path and UUID of the store and id of the object."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     "__class_getitem__($type, item, /)\n--\n\nDict[K, V], for annotations."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(dict_doc,
             "A dict that lives in a store, shared by all processes that have it open.\n\n"
             "It has every method and operator of dict, with the same results and exceptions. Each one is atomic.\n"
             "Storing a list or dict copies it deeply into shared objects; what is read back is a proxy of these,\n"
             "and changing it changes the store. copy() and | give native dicts. New ones come from Store.dict().\n\n"
             "Values: None, bool, int, float, complex, str, bytes, tuple, frozenset, list, dict, List, Dict;\n"
             "others raise NotShareableError. Iterating does not mind changes by others: it gives each key that is\n"
             "there all the while once, and none that is inserted after it began.");

static PyType_Slot dict_slots[] = {
    {Py_tp_doc, (void *)dict_doc},
    {Py_tp_dealloc, shopy_proxy_dealloc},
    {Py_tp_methods, dict_methods},
    {Py_tp_getset, shopy_proxy_getset},
    {Py_tp_members, shopy_proxy_members},
    {Py_tp_repr, shopy_proxy_repr},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_richcompare, dict_richcompare},
    {Py_tp_iter, dict_iter},
    {Py_mp_length, dict_length},
    {Py_mp_subscript, dict_subscript},
    {Py_mp_ass_subscript, dict_ass_subscript},
    {Py_sq_contains, dict_contains},
    {Py_nb_or, dict_or},
    {Py_nb_inplace_or, shopy_dict_inplace_or},
    {0, NULL},
};

static PyType_Spec dict_spec = {
    .name = "shobj.Dict",
    .basicsize = sizeof(Proxy),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_MAPPING,
    .slots = dict_slots,
};

int shopy_dict_init(PyObject *module, module_state *state)
{
    state->dict_type = shopy_type_new(module, &dict_spec, true);
    return state->dict_type ? 0 : -1;
}
