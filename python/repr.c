/*
 * repr.c: proxies as text that looks like the native literal.
 *
 * Bounded, because what is shown lives in a store and may be huge: at most ITEMS_MAX items in all and DEPTH_MAX
 * levels; what is left out is "...". An object met again inside itself is "[...]" or "{...}", as lists and
 * dicts show it. All of the text is as of one instant.
 */
#include "state.h"

enum { ITEMS_MAX = 1000, DEPTH_MAX = 24, READ_BATCH = 64 };

/* Of the outermost repr() under way on this thread. */
static _Thread_local struct {
    int depth;
    Py_ssize_t items_left;
} budget;

/* The first items of a dict, as a flat list of keys and values; one more than the budget tells that there are
 * more. */
static int read_dict(shobj_store *handle, Proxy *dict, Py_ssize_t max, PyObject **ret)
{
    PyObject *flat = PyList_New(0);
    shobj_dict_iter iter;
    shobj_dict_iter_init(&iter, dict->oid, false);
    int rc = flat ? 0 : SHOPY_RAISED;
    while (rc == 0 && PyList_GET_SIZE(flat) < max * 2) {
        shobj_item items[READ_BATCH];
        size_t count;
        rc = shobj_dict_iter_next(handle, &iter, items, READ_BATCH, &count);
        if (rc < 0 || count == 0)
            break;
        int paused = shopy_gc_pause();
        for (size_t i = 0; i < count && rc == 0; i++) {
            PyObject *key = shopy_value_to_python(dict->core, &items[i].key);
            PyObject *value = key ? shopy_value_to_python(dict->core, &items[i].value) : NULL;
            if (value == NULL || PyList_Append(flat, key) < 0 || PyList_Append(flat, value) < 0)
                rc = SHOPY_RAISED;
            Py_XDECREF(key);
            Py_XDECREF(value);
        }
        shopy_gc_resume(paused);
    }
    if (rc == 0)
        *ret = flat;
    else
        Py_XDECREF(flat);
    return rc;
}

static int append_new(PyObject *parts, PyObject *text)
{
    int rc = text ? PyList_Append(parts, text) : -1;
    Py_XDECREF(text);
    return rc;
}

/* "a: b, c: d" or "a, b" from the flat list (width 2 or 1). NULL with an exception. */
static PyObject *join_items(PyObject *flat, Py_ssize_t width)
{
    PyObject *parts = PyList_New(0);
    int rc = parts ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i + width <= PyList_GET_SIZE(flat); i += width) {
        if (budget.items_left <= 0) {
            rc = append_new(parts, PyUnicode_FromString("..."));
            break;
        }
        budget.items_left--;
        PyObject *first = PyList_GET_ITEM(flat, i);
        rc = append_new(parts, width == 1 ? PyObject_Repr(first)
                                          : PyUnicode_FromFormat("%R: %R", first, PyList_GET_ITEM(flat, i + 1)));
    }
    PyObject *comma = rc == 0 ? PyUnicode_FromString(", ") : NULL;
    PyObject *text = comma ? PyUnicode_Join(comma, parts) : NULL;
    Py_XDECREF(comma);
    Py_XDECREF(parts);
    return text;
}

struct repr_step {
    Proxy *proxy;
    bool is_dict;
    Py_ssize_t items_left; /* at the beginning, for another attempt */
    PyObject *result;
};

static int repr_step(shobj_store *handle, void *arg)
{
    struct repr_step *step = arg;
    PyObject *flat;
    Py_CLEAR(step->result);
    budget.items_left = step->items_left;
    Py_ssize_t max = budget.items_left > 0 ? budget.items_left + 1 : 1;
    int rc = step->is_dict ? read_dict(handle, step->proxy, max, &flat)
                           : shopy_list_read_range(handle, step->proxy, 0, (uint64_t)max, &flat);
    if (rc != 0)
        return rc;
    PyObject *inner = join_items(flat, step->is_dict ? 2 : 1);
    Py_DECREF(flat);
    if (inner != NULL)
        step->result = PyUnicode_FromFormat(step->is_dict ? "{%U}" : "[%U]", inner);
    Py_XDECREF(inner);
    return step->result ? 0 : SHOPY_RAISED;
}

static PyObject *without_contents(const Proxy *proxy, const char *why)
{
    char oid[17];
    shobj_oid_format(proxy->oid, oid);
    return PyUnicode_FromFormat("<%s @%s of the store '%U': %s>", Py_TYPE(proxy)->tp_name, oid, proxy->core->path, why);
}

PyObject *shopy_proxy_repr(PyObject *self)
{
    Proxy *proxy = (Proxy *)self;
    Core *core = proxy->core;
    struct repr_step step = {.proxy = proxy, .is_dict = shopy_is_dict(core->state, self)};
    if (core->handle == NULL)
        return without_contents(proxy, "closed");
    int entered = budget.depth >= DEPTH_MAX ? 1 : Py_ReprEnter(self);
    if (entered != 0)
        return entered > 0 ? PyUnicode_FromString(step.is_dict ? "{...}" : "[...]") : NULL;
    step.items_left = budget.depth == 0 ? ITEMS_MAX : budget.items_left;
    budget.depth++;
    int rc = SHOPY_RAISED;
    shobj_store *handle = shopy_core_enter(core);
    if (handle != NULL) {
        rc = shopy_core_run(core, handle, repr_step, &step);
        shopy_core_leave(core);
    }
    budget.depth--;
    Py_ReprLeave(self);
    if (rc == SHOBJ_ESTALE)
        return without_contents(proxy, "gone");
    if (rc == 0)
        return step.result;
    Py_CLEAR(step.result);
    return shopy_raise(core->state, rc);
}
