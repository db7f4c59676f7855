/*
 * native.c: shared objects to native ones, all of them below a value, sharing and cycles kept.
 *
 * Below a proxy there are only values of its own store, so one transaction reads them all as of one instant.
 * The memory of what was met is by address of the proxy: there is one proxy for an object, and the copy holds
 * on to it.
 */
#include "state.h"

#include "ptrmap.h"

struct copy {
    module_state *state;
    shobj_store *handle; /* inside the transaction of `core`; NULL outside */
    Core *core;
    struct ptrmap memo; /* proxy or native container -> its copy, borrowed from `kept` */
    PyObject *kept;     /* list of what memo points to */
};

static PyObject *copy_any(struct copy *copy, PyObject *object);

/* Notes the copy of an object before its contents are copied, for cycles. */
static int note(struct copy *copy, PyObject *object, PyObject *result)
{
    if (PyList_Append(copy->kept, object) < 0 || PyList_Append(copy->kept, result) < 0)
        return -1;
    return ptrmap_put(&copy->memo, object, result);
}

static int copy_list_contents(struct copy *copy, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        PyObject *fresh = copy_any(copy, item);
        if (fresh == NULL || PyList_SetItem(list, i, fresh) < 0)
            return -1;
    }
    return 0;
}

/* Replacing the value of a key that is there does not disturb PyDict_Next(). */
static int copy_dict_contents(struct copy *copy, PyObject *dict)
{
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &at, &key, &value)) {
        PyObject *fresh = copy_any(copy, value);
        if (fresh == NULL)
            return -1;
        int rc = fresh == value ? 0 : PyDict_SetItem(dict, key, fresh);
        Py_DECREF(fresh);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static PyObject *copy_proxy_contents(struct copy *copy, Proxy *proxy)
{
    PyObject *result = NULL;
    bool is_dict = shopy_is_dict(copy->state, (PyObject *)proxy);
    int rc = is_dict ? shopy_dict_read(copy->handle, proxy, &result) : shopy_list_read(copy->handle, proxy, &result);
    if (rc != 0)
        return shopy_raise(copy->state, rc);
    if (note(copy, (PyObject *)proxy, result) < 0 ||
        (is_dict ? copy_dict_contents(copy, result) : copy_list_contents(copy, result)) < 0)
        Py_CLEAR(result);
    return result;
}

/* ---------------------------------------------------------------------------------------------- one transaction */

struct root {
    struct copy *copy;
    Proxy *proxy;
    PyObject *result;
};

static int root_step(shobj_store *handle, void *arg)
{
    struct root *root = arg;
    struct copy *copy = root->copy;
    struct copy attempt = {copy->state, handle, root->proxy->core, {0}, PyList_New(0)};
    Py_CLEAR(root->result);
    if (attempt.kept != NULL)
        root->result = copy_proxy_contents(&attempt, root->proxy);
    /* What was copied below this proxy is known to the whole copy as well. */
    for (Py_ssize_t i = 0; root->result != NULL && i < PyList_GET_SIZE(attempt.kept); i += 2) {
        if (note(copy, PyList_GET_ITEM(attempt.kept, i), PyList_GET_ITEM(attempt.kept, i + 1)) < 0)
            Py_CLEAR(root->result);
    }
    ptrmap_free(&attempt.memo);
    Py_XDECREF(attempt.kept);
    return root->result ? 0 : SHOPY_RAISED;
}

static PyObject *copy_proxy(struct copy *copy, Proxy *proxy)
{
    if (copy->handle != NULL && copy->core == proxy->core)
        return copy_proxy_contents(copy, proxy);
    shobj_store *handle = shopy_core_enter(proxy->core);
    if (handle == NULL)
        return NULL;
    struct root root = {copy, proxy, NULL};
    int rc = shopy_core_run(proxy->core, handle, root_step, &root);
    shopy_core_leave(proxy->core);
    if (rc == 0)
        return root.result;
    Py_CLEAR(root.result);
    return shopy_raise(copy->state, rc);
}

/* ---------------------------------------------------------------------------------------------- native containers */

static PyObject *copy_tuple(struct copy *copy, PyObject *tuple)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    PyObject *result = PyTuple_New(count);
    bool same = true;
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *item = copy_any(copy, PyTuple_GET_ITEM(tuple, i));
        if (item == NULL) {
            Py_CLEAR(result);
            break;
        }
        same = same && item == PyTuple_GET_ITEM(tuple, i);
        PyTuple_SET_ITEM(result, i, item);
    }
    if (result != NULL && same)
        Py_SETREF(result, Py_NewRef(tuple));
    return result;
}

static PyObject *copy_native_list(struct copy *copy, PyObject *list)
{
    PyObject *result = PyList_GetSlice(list, 0, PyList_GET_SIZE(list));
    if (result != NULL && (note(copy, list, result) < 0 || copy_list_contents(copy, result) < 0))
        Py_CLEAR(result);
    return result;
}

static PyObject *copy_native_dict(struct copy *copy, PyObject *dict)
{
    PyObject *result = PyDict_Copy(dict);
    if (result != NULL && (note(copy, dict, result) < 0 || copy_dict_contents(copy, result) < 0))
        Py_CLEAR(result);
    return result;
}

static PyObject *copy_branch(struct copy *copy, PyObject *object)
{
    if (shopy_is_proxy(copy->state, object))
        return copy_proxy(copy, (Proxy *)object);
    if (PyTuple_Check(object))
        return copy_tuple(copy, object);
    if (PyList_Check(object))
        return copy_native_list(copy, object);
    if (PyDict_Check(object))
        return copy_native_dict(copy, object);
    if (PyAnySet_Check(object)) /* its elements are hashable, so no proxies are among them */
        return Py_NewRef(object);
    PyErr_Format(PyExc_TypeError,
                 "to_native() takes a shobj.Dict, shobj.List or a native value that can be stored, not '%s'",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

static PyObject *copy_any(struct copy *copy, PyObject *object)
{
    if (PyUnicode_Check(object) || PyLong_Check(object) || PyFloat_Check(object) || PyBytes_Check(object) ||
        object == Py_None || PyComplex_Check(object))
        return Py_NewRef(object);
    PyObject *known = ptrmap_get(&copy->memo, object);
    if (known != NULL)
        return Py_NewRef(known);
    if (Py_EnterRecursiveCall(" while copying shared objects"))
        return NULL;
    PyObject *result = copy_branch(copy, object);
    Py_LeaveRecursiveCall();
    return result;
}

PyObject *shopy_to_native(module_state *state, PyObject *object)
{
    struct copy copy = {.state = state, .kept = PyList_New(0)};
    if (copy.kept == NULL)
        return NULL;
    PyObject *result = copy_any(&copy, object);
    ptrmap_free(&copy.memo);
    Py_DECREF(copy.kept);
    return result;
}

PyObject *shopy_proxy_deepcopy(PyObject *self, PyObject *memo)
{
    (void)memo;
    return shopy_to_native(((Proxy *)self)->core->state, self);
}

/* ---------------------------------------------------------------------------------------------- pairs */

struct pair {
    Proxy *left, *right;
    PyObject *native_left, *native_right;
};

static int pair_step(shobj_store *handle, void *arg)
{
    (void)handle;
    struct pair *pair = arg;
    module_state *state = pair->left->core->state;
    Py_CLEAR(pair->native_left);
    Py_CLEAR(pair->native_right);
    pair->native_left = shopy_to_native(state, (PyObject *)pair->left);
    if (pair->native_left != NULL)
        pair->native_right = shopy_to_native(state, (PyObject *)pair->right);
    return pair->native_right ? 0 : SHOPY_RAISED;
}

int shopy_to_native_pair(Proxy *left, PyObject *right, PyObject **ret_left, PyObject **ret_right)
{
    Core *core = left->core;
    struct pair pair = {.left = left};
    if (shopy_is_proxy(core->state, right) && ((Proxy *)right)->core == core) {
        pair.right = (Proxy *)right;
        shobj_store *handle = shopy_core_enter(core);
        if (handle == NULL)
            return -1;
        int rc = shopy_core_run(core, handle, pair_step, &pair);
        shopy_core_leave(core);
        if (rc < 0)
            shopy_raise(core->state, rc);
    } else {
        pair.native_left = shopy_to_native(core->state, (PyObject *)left);
        if (pair.native_left != NULL)
            pair.native_right =
                shopy_is_proxy(core->state, right) ? shopy_to_native(core->state, right) : Py_NewRef(right);
    }
    if (PyErr_Occurred()) {
        Py_XDECREF(pair.native_left);
        Py_XDECREF(pair.native_right);
        return -1;
    }
    *ret_left = pair.native_left;
    *ret_right = pair.native_right;
    return 0;
}
