/*
 * list_compound.c: what takes more than one operation on a list: slices, sorting, removing by value, repeating.
 *
 * Each is a step of an internal transaction: it reads, decides and writes, and is repeated if it lost.
 * Iterables are drained and indices computed before; a key function, and __eq__ of foreign types, run inside
 * and see what the transaction sees.
 */
#include "state.h"

enum {
    READ_BATCH = 64,
    REBUILD_MIN = 64 /* fewer deletions than this are made one by one */
};

/* ---------------------------------------------------------------------------------------------- reading */

int shopy_list_read_range(shobj_store *handle, Proxy *list, uint64_t first, uint64_t count, PyObject **ret_list)
{
    PyObject *result = PyList_New(0);
    if (result == NULL)
        return SHOPY_RAISED;
    int rc = 0;
    while (rc == 0 && count > 0) {
        shobj_value values[READ_BATCH];
        size_t max = count < READ_BATCH ? (size_t)count : READ_BATCH, got;
        rc = shobj_list_read(handle, list->oid, first, values, max, &got);
        if (rc < 0 || got == 0)
            break;
        int paused = shopy_gc_pause();
        for (size_t i = 0; i < got && rc == 0; i++) {
            PyObject *value = shopy_value_to_python(list->core, &values[i]);
            if (value == NULL || PyList_Append(result, value) < 0)
                rc = SHOPY_RAISED;
            Py_XDECREF(value);
        }
        shopy_gc_resume(paused);
        first += got;
        count -= got;
    }
    if (rc != 0) {
        Py_DECREF(result);
        return rc;
    }
    *ret_list = result;
    return 0;
}

int shopy_list_read(shobj_store *handle, Proxy *list, PyObject **ret_list)
{
    return shopy_list_read_range(handle, list, 0, UINT64_MAX, ret_list);
}

/* The state of one compound operation; each step function uses what it needs. */
struct compound {
    Proxy *list;
    PyObject *result;                   /* of reading steps: a new reference */
    Py_ssize_t start, stop, slice_step; /* a slice, not yet adjusted to a length */
    PyObject *values;                   /* slice assignment: a tuple, or NULL for deletion */
    Proxy *source;                      /* slice assignment from a list of the same store, or NULL */
    PyObject *value;                    /* remove */
    PyObject *key;                      /* sort */
    int reverse;
    Py_ssize_t times; /* repeat */
};

/* 0, or -1 with an exception. */
static int run(struct compound *op, shopy_step step, bool changes)
{
    Proxy *list = op->list;
    shobj_store *handle = shopy_core_enter(list->core);
    if (handle == NULL)
        return -1;
    int rc = shopy_core_run(list->core, handle, step, op);
    list->change_count += changes;
    shopy_core_leave(list->core);
    if (rc == 0)
        return 0;
    Py_CLEAR(op->result);
    shopy_raise(list->core->state, rc);
    return -1;
}

static int snapshot_step(shobj_store *handle, void *arg)
{
    struct compound *op = arg;
    Py_CLEAR(op->result); /* of an attempt that lost at its end */
    return shopy_list_read(handle, op->list, &op->result);
}

PyObject *shopy_list_snapshot(Proxy *list)
{
    struct compound op = {.list = list};
    return run(&op, snapshot_step, false) < 0 ? NULL : op.result;
}

/* The slice's bounds for the list as it is now; *ret_start etc. as PySlice_AdjustIndices() leaves them. */
static int adjust(shobj_store *handle, const struct compound *op, Py_ssize_t *ret_start, Py_ssize_t *ret_count,
                  Py_ssize_t *ret_length)
{
    uint64_t length;
    int rc = shobj_list_len(handle, op->list->oid, &length);
    if (rc < 0)
        return rc;
    Py_ssize_t start = op->start, stop = op->stop;
    *ret_length = (Py_ssize_t)length;
    *ret_count = PySlice_AdjustIndices((Py_ssize_t)length, &start, &stop, op->slice_step);
    *ret_start = start;
    return 0;
}

/* Each step-th element of a native list, from first on. */
static PyObject *stride(PyObject *list, Py_ssize_t first, Py_ssize_t step, Py_ssize_t count)
{
    PyObject *result = PyList_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++)
        PyList_SET_ITEM(result, i, Py_NewRef(PyList_GET_ITEM(list, first + i * step)));
    return result;
}

static int slice_get_step(shobj_store *handle, void *arg)
{
    struct compound *op = arg;
    Py_ssize_t start, count, length;
    Py_CLEAR(op->result);
    int rc = adjust(handle, op, &start, &count, &length);
    if (rc < 0)
        return rc;
    if (op->slice_step == 1 || count == 0)
        return shopy_list_read_range(handle, op->list, (uint64_t)start, (uint64_t)count, &op->result);
    Py_ssize_t last = start + (count - 1) * op->slice_step;
    Py_ssize_t low = start < last ? start : last, high = start < last ? last : start;
    PyObject *all;
    rc = shopy_list_read_range(handle, op->list, (uint64_t)low, (uint64_t)(high - low + 1), &all);
    if (rc != 0)
        return rc;
    op->result = stride(all, start - low, op->slice_step, count);
    Py_DECREF(all);
    return op->result ? 0 : SHOPY_RAISED;
}

PyObject *shopy_list_slice_get(Proxy *list, PyObject *slice)
{
    struct compound op = {.list = list};
    if (PySlice_Unpack(slice, &op.start, &op.stop, &op.slice_step) < 0)
        return NULL;
    return run(&op, slice_get_step, false) < 0 ? NULL : op.result;
}

/* ---------------------------------------------------------------------------------------------- writing */

/* Replaces the whole contents by the elements of a native list or tuple. */
static int rewrite(shobj_store *handle, Proxy *list, PyObject *elements)
{
    shopy_plan *plan = shopy_plan_new(list->core);
    shobj_value *values;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(elements);
    int rc = SHOPY_RAISED;
    if (plan != NULL && shopy_plan_add_all(plan, PySequence_Fast_ITEMS(elements), count, "values", &values) == 0) {
        rc = shopy_plan_build(plan, handle);
        if (rc == 0)
            rc = shobj_list_clear(handle, list->oid);
        if (rc == 0 && count > 0)
            rc = shobj_list_extend(handle, list->oid, values, (size_t)count);
    }
    shopy_plan_free(plan);
    return rc;
}

/* Deletes count elements, each step-th (above 0) from start on. Many that are apart: by writing the remaining ones anew. */
static int delete_each(shobj_store *handle, Proxy *list, Py_ssize_t start, Py_ssize_t step, Py_ssize_t count,
                       Py_ssize_t length)
{
    if (step == 1 || count == 1)
        return shobj_list_cut(handle, list->oid, (uint64_t)start, (uint64_t)count);
    int rc = 0;
    if (count < REBUILD_MIN || count < length / 2) {
        for (Py_ssize_t i = count - 1; i >= 0 && rc == 0; i--)
            rc = shobj_list_del(handle, list->oid, start + i * step, NULL);
        return rc;
    }
    PyObject *all;
    rc = shopy_list_read(handle, list, &all);
    if (rc != 0)
        return rc;
    PyObject *bounds[3] = {PyLong_FromSsize_t(start), PyLong_FromSsize_t(start + (count - 1) * step + 1),
                           PyLong_FromSsize_t(step)};
    PyObject *slice = bounds[0] && bounds[1] && bounds[2] ? PySlice_New(bounds[0], bounds[1], bounds[2]) : NULL;
    rc = slice && PyObject_DelItem(all, slice) == 0 ? rewrite(handle, list, all) : SHOPY_RAISED;
    for (int i = 0; i < 3; i++)
        Py_XDECREF(bounds[i]);
    Py_XDECREF(slice);
    Py_DECREF(all);
    return rc;
}

/* Puts new_count values in the place of old_count elements from start on. */
static int replace(shobj_store *handle, Proxy *list, Py_ssize_t start, Py_ssize_t old_count, const shobj_value *values,
                   Py_ssize_t new_count, Py_ssize_t length)
{
    Py_ssize_t common = old_count < new_count ? old_count : new_count;
    int rc = 0;
    if (old_count == length && length > 0) {
        rc = shobj_list_clear(handle, list->oid);
        common = old_count = length = 0;
    }
    for (Py_ssize_t i = 0; i < common && rc == 0; i++)
        rc = shobj_list_set(handle, list->oid, start + i, &values[i]);
    if (rc == 0 && old_count > common)
        return delete_each(handle, list, start + common, 1, old_count - common, length);
    if (rc == 0 && new_count > common && start + old_count == length)
        return shobj_list_extend(handle, list->oid, values + common, (size_t)(new_count - common));
    for (Py_ssize_t i = common; i < new_count && rc == 0; i++)
        rc = shobj_list_insert(handle, list->oid, start + i, &values[i]);
    return rc;
}

static int assign(shobj_store *handle, const struct compound *op, const shobj_value *values, Py_ssize_t value_count)
{
    Py_ssize_t start, count, length;
    int rc = adjust(handle, op, &start, &count, &length);
    if (rc < 0)
        return rc;
    if (op->slice_step == 1)
        return replace(handle, op->list, start, count, values, value_count, length);
    if (count != value_count) {
        PyErr_Format(PyExc_ValueError, "attempt to assign sequence of size %zd to extended slice of size %zd",
                     value_count, count);
        return SHOPY_RAISED;
    }
    for (Py_ssize_t i = 0; i < count && rc == 0; i++)
        rc = shobj_list_set(handle, op->list->oid, start + i * op->slice_step, &values[i]);
    return rc;
}

static int slice_set_step(shobj_store *handle, void *arg)
{
    struct compound *op = arg;
    PyObject *elements;
    int rc = 0;
    if (op->source != NULL)
        rc = shopy_list_read(handle, op->source, &elements);
    else
        elements = Py_NewRef(op->values);
    if (rc != 0)
        return rc;
    shopy_plan *plan = shopy_plan_new(op->list->core);
    shobj_value *values;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(elements);
    rc = SHOPY_RAISED;
    if (plan != NULL && shopy_plan_add_all(plan, PySequence_Fast_ITEMS(elements), count, "values", &values) == 0) {
        rc = shopy_plan_build(plan, handle);
        if (rc == 0)
            rc = assign(handle, op, values, count);
    }
    shopy_plan_free(plan);
    Py_DECREF(elements);
    return rc;
}

static int slice_delete_step(shobj_store *handle, void *arg)
{
    struct compound *op = arg;
    Py_ssize_t start, count, length, step = op->slice_step;
    int rc = adjust(handle, op, &start, &count, &length);
    if (rc < 0 || count == 0)
        return rc;
    if (step < 0) {
        start += (count - 1) * step;
        step = -step;
    }
    return delete_each(handle, op->list, start, step, count, length);
}

int shopy_list_slice_set(Proxy *list, PyObject *slice, PyObject *values)
{
    struct compound op = {.list = list};
    if (PySlice_Unpack(slice, &op.start, &op.stop, &op.slice_step) < 0)
        return -1;
    if (values == NULL)
        return run(&op, slice_delete_step, true);
    if (shopy_is_list(list->core->state, values) && ((Proxy *)values)->core == list->core) {
        op.source = (Proxy *)values;
    } else {
        if (!PyList_Check(values) && !PyTuple_Check(values) && Py_TYPE(values)->tp_iter == NULL &&
            !PySequence_Check(values)) {
            PyErr_SetString(PyExc_TypeError, op.slice_step == 1 ? "can only assign an iterable"
                                                                : "must assign iterable to extended slice");
            return -1;
        }
        op.values = PySequence_Tuple(values);
        if (op.values == NULL)
            return -1;
    }
    int rc = run(&op, slice_set_step, true);
    Py_XDECREF(op.values);
    return rc;
}

/* ---------------------------------------------------------------------------------------------- sorting */

/* Did the key function change the list? Another thread may have counted up as well: look. */
static int check_unchanged(shobj_store *handle, Proxy *list, PyObject *before, uint64_t change_count)
{
    if (list->change_count == change_count)
        return 0;
    PyObject *now;
    int rc = shopy_list_read(handle, list, &now);
    if (rc != 0)
        return rc;
    int same = PyObject_RichCompareBool(now, before, Py_EQ);
    Py_DECREF(now);
    if (same == 0)
        PyErr_SetString(PyExc_ValueError, "list modified during sort");
    return same > 0 ? 0 : SHOPY_RAISED;
}

/* Sorts a native list with list.sort(). */
static int sort_native(module_state *state, PyObject *list, PyObject *key, int reverse)
{
    PyObject *method = PyObject_GetAttr(list, state->names.sort);
    PyObject *none = PyTuple_New(0);
    PyObject *names = Py_BuildValue("{s:O,s:i}", "key", key ? key : Py_None, "reverse", reverse);
    PyObject *done = method && none && names ? PyObject_Call(method, none, names) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(none);
    Py_XDECREF(names);
    Py_XDECREF(done);
    return done ? 0 : SHOPY_RAISED;
}

static bool same_order(PyObject *left, PyObject *right)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(left); i++) {
        if (PyList_GET_ITEM(left, i) != PyList_GET_ITEM(right, i))
            return false;
    }
    return true;
}

static int sort_step(shobj_store *handle, void *arg)
{
    struct compound *op = arg;
    uint64_t change_count = op->list->change_count;
    PyObject *before;
    int rc = shopy_list_read(handle, op->list, &before);
    if (rc != 0)
        return rc;
    PyObject *sorted = PyList_GetSlice(before, 0, PyList_GET_SIZE(before));
    rc = sorted ? sort_native(op->list->core->state, sorted, op->key, op->reverse) : SHOPY_RAISED;
    if (rc == 0)
        rc = check_unchanged(handle, op->list, before, change_count);
    if (rc == 0 && !same_order(before, sorted))
        rc = rewrite(handle, op->list, sorted);
    Py_XDECREF(sorted);
    Py_DECREF(before);
    return rc;
}

PyObject *shopy_list_sort(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"key", "reverse", NULL};
    PyObject *given[2];
    if (shopy_arguments("sort", args, count, keywords, names, 0, given) < 0)
        return NULL;
    struct compound op = {.list = (Proxy *)self};
    if (given[0] != Py_None)
        op.key = given[0];
    if (given[1] != NULL) {
        op.reverse = PyObject_IsTrue(given[1]);
        if (op.reverse < 0)
            return NULL;
    }
    if (run(&op, sort_step, true) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int reverse_step(shobj_store *handle, void *arg)
{
    struct compound *op = arg;
    PyObject *elements;
    int rc = shopy_list_read(handle, op->list, &elements);
    if (rc != 0)
        return rc;
    if (PyList_GET_SIZE(elements) > 1)
        rc = PyList_Reverse(elements) < 0 ? SHOPY_RAISED : rewrite(handle, op->list, elements);
    Py_DECREF(elements);
    return rc;
}

PyObject *shopy_list_reverse(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    struct compound op = {.list = (Proxy *)self};
    if (run(&op, reverse_step, true) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---------------------------------------------------------------------------------------------- values */

static int remove_step(shobj_store *handle, void *arg)
{
    struct compound *op = arg;
    PyObject *elements;
    int rc = shopy_list_read(handle, op->list, &elements);
    if (rc != 0)
        return rc;
    Py_ssize_t i, count = PyList_GET_SIZE(elements);
    int equal = 0;
    for (i = 0; i < count; i++) {
        equal = PyObject_RichCompareBool(PyList_GET_ITEM(elements, i), op->value, Py_EQ);
        if (equal != 0)
            break;
    }
    Py_DECREF(elements);
    if (equal == 0)
        PyErr_SetString(PyExc_ValueError, "list.remove(x): x not in list");
    return equal > 0 ? shobj_list_del(handle, op->list->oid, i, NULL) : SHOPY_RAISED;
}

PyObject *shopy_list_remove(PyObject *self, PyObject *value)
{
    struct compound op = {.list = (Proxy *)self, .value = value};
    if (run(&op, remove_step, true) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int repeat_step(shobj_store *handle, void *arg)
{
    struct compound *op = arg;
    if (op->times <= 0)
        return shobj_list_clear(handle, op->list->oid);
    PyObject *elements;
    int rc = shopy_list_read(handle, op->list, &elements);
    if (rc != 0)
        return rc;
    shopy_plan *plan = shopy_plan_new(op->list->core);
    shobj_value *values;
    Py_ssize_t count = PyList_GET_SIZE(elements);
    if (plan == NULL || shopy_plan_add_all(plan, PySequence_Fast_ITEMS(elements), count, "values", &values) < 0)
        rc = SHOPY_RAISED;
    for (Py_ssize_t i = 1; i < op->times && count > 0 && rc == 0; i++)
        rc = shobj_list_extend(handle, op->list->oid, values, (size_t)count);
    shopy_plan_free(plan);
    Py_DECREF(elements);
    return rc;
}

PyObject *shopy_list_imul(PyObject *self, Py_ssize_t times)
{
    struct compound op = {.list = (Proxy *)self, .times = times};
    if (run(&op, repeat_step, true) < 0)
        return NULL;
    return Py_NewRef(self);
}
