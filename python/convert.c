/*
 * convert.c: values of the library to Python objects, and Python objects to keys.
 *
 * Building runs between the library's call and the next one on this thread (R2 of state.h): the bytes and items
 * it reads are the session's. It creates int, float, complex, str, bytes, tuple, frozenset and proxies, all of
 * exact types, whose creation, hashing and comparing run no Python code; the collector is paused around the
 * ones that are containers.
 */
#include "state.h"

static PyObject *build(Core *core, const shobj_value *value);

static PyObject *build_bigint(const shobj_value *value)
{
    PyObject *magnitude = _PyLong_FromByteArray(value->data, value->count, 1, 0);
    if (magnitude == NULL || !value->negative)
        return magnitude;
    PyObject *result = PyNumber_Negative(magnitude);
    Py_DECREF(magnitude);
    return result;
}

static PyObject *build_tuple(Core *core, const shobj_value *value)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)value->count);
    if (tuple == NULL)
        return NULL;
    for (size_t i = 0; i < value->count; i++) {
        PyObject *item = build(core, &value->items[i]);
        if (item == NULL) {
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
    }
    return tuple;
}

static PyObject *build_frozenset(Core *core, const shobj_value *value)
{
    PyObject *tuple = build_tuple(core, value);
    if (tuple == NULL)
        return NULL;
    PyObject *result = PyFrozenSet_New(tuple);
    Py_DECREF(tuple);
    return result;
}

static PyObject *build_nested(Core *core, const shobj_value *value)
{
    if (Py_EnterRecursiveCall(" while reading a tuple from a store"))
        return NULL;
    PyObject *result = value->type == SHOBJ_TUPLE ? build_tuple(core, value) : build_frozenset(core, value);
    Py_LeaveRecursiveCall();
    return result;
}

static PyObject *build(Core *core, const shobj_value *value)
{
    switch (value->type) {
    case SHOBJ_NONE: Py_RETURN_NONE;
    case SHOBJ_BOOL: return PyBool_FromLong((long)value->i);
    case SHOBJ_INT: return PyLong_FromLongLong(value->i);
    case SHOBJ_BIGINT: return build_bigint(value);
    case SHOBJ_FLOAT: return PyFloat_FromDouble(value->f);
    case SHOBJ_COMPLEX: return PyComplex_FromDoubles(value->c[0], value->c[1]);
    case SHOBJ_STR: return shopy_str_build(value);
    case SHOBJ_BYTES: return PyBytes_FromStringAndSize(value->data, (Py_ssize_t)value->count);
    case SHOBJ_TUPLE:
    case SHOBJ_FROZENSET: return build_nested(core, value);
    case SHOBJ_OBJECT: return shopy_proxy_get(core, value->oid, value->kind);
    default: break;
    }
    PyErr_Format(core->state->errors[ERR_VERSION],
                 "the store '%U' holds a value of type %d, which this version of shobj does not know: "
                 "use a newer version",
                 core->path, value->type);
    return NULL;
}

PyObject *shopy_value_build(Core *core, const shobj_value *value)
{
    if (value->type != SHOBJ_TUPLE && value->type != SHOBJ_FROZENSET)
        return build(core, value);
    int paused = shopy_gc_pause();
    PyObject *result = build(core, value);
    shopy_gc_resume(paused);
    return result;
}

/* ---------------------------------------------------------------------------------------------- keys */

/* Tells what a dict would say to this key: TypeError if it is unhashable (-1), else 1. */
static int key_of_nobody(PyObject *object)
{
    return PyObject_Hash(object) == -1 ? -1 : 1;
}

/* The long way: what has no leaf value (a tuple, a big int, a str beyond ASCII ...), or is no key at all. */
int shopy_key_prepare_slow(Core *core, shobj_store *handle, PyObject *object, struct shopy_keybuf *buf)
{
    if (PyObject_Hash(object) == -1)
        return -1;
    buf->plan = shopy_plan_new(core);
    if (buf->plan == NULL)
        return -1;
    shobj_value value;
    int rc = shopy_plan_add(buf->plan, object, "key", &value);
    if (rc == 0)
        rc = shopy_plan_has_nodes(buf->plan) ? 1 : shobj_key_init(handle, &value, &buf->key);
    else if (PyErr_ExceptionMatches(core->state->errors[ERR_NOT_SHAREABLE])) {
        PyErr_Clear();
        rc = 1;
    }
    if (rc == 0)
        return 0;
    shopy_key_release(buf);
    buf->plan = NULL;
    if (rc == SHOBJ_ETYPE)
        return key_of_nobody(object);
    if (rc < -1)
        shopy_raise(core->state, rc);
    return rc < 0 ? -1 : 1;
}

#ifndef Py_GIL_DISABLED
/* Interned strings are the names in programs: the same few objects, again and again. Their hash in the store is
 * kept by address; the strong reference makes sure that the address stays theirs. The key is copied out: while
 * the library waits, another thread may put another one here. */
static inline int prepare_interned(Core *core, shobj_store *handle, PyObject *object, shobj_key *ret)
{
    uintptr_t address = (uintptr_t)object;
    size_t i = ((address >> 4) ^ (address >> (4 + KEY_CACHE_BITS))) & (((size_t)1 << KEY_CACHE_BITS) - 1);
    struct cached_key *cached = &core->keys[i];
    if (UNLIKELY(cached->str != object)) {
        shobj_value value;
        if (!shopy_leaf(core, object, &value))
            return 1;
        int rc = shobj_key_init(handle, &value, ret);
        if (rc < 0)
            return rc;
        cached->key = *ret;
        Py_XSETREF(cached->str, Py_NewRef(object));
        return 0;
    }
    *ret = cached->key;
    return 0;
}
#endif

int shopy_key_prepare(Core *core, shobj_store *handle, PyObject *object, struct shopy_keybuf *buf)
{
    buf->plan = NULL;
    int rc = 1;
#ifndef Py_GIL_DISABLED
    if (LIKELY(PyUnicode_CheckExact(object)) && PyUnicode_CHECK_INTERNED(object))
        rc = prepare_interned(core, handle, object, &buf->key);
#endif
    if (rc > 0) {
        shobj_value value;
        if (UNLIKELY(!shopy_leaf(core, object, &value)) || value.type == SHOBJ_OBJECT)
            return shopy_key_prepare_slow(core, handle, object, buf);
        rc = shobj_key_init(handle, &value, &buf->key);
    }
    if (LIKELY(rc == 0))
        return 0;
    shopy_raise(core->state, rc);
    return -1;
}

void shopy_raise_key_not_shareable(Core *core, PyObject *object)
{
    shopy_plan *plan = shopy_plan_new(core);
    if (plan == NULL)
        return;
    shobj_value value;
    if (shopy_plan_add(plan, object, "key", &value) == 0)
        PyErr_Format(core->state->errors[ERR_NOT_SHAREABLE],
                     "a key holding a '%s' can't be stored: a key is None, a bool, number, str, bytes, or a tuple or "
                     "frozenset of these",
                     Py_TYPE(object)->tp_name);
    shopy_plan_free(plan);
}
