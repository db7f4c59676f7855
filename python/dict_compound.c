/*
 * dict_compound.c: what takes more than one operation on a dict: reading all of it, setdefault with a container,
 * update_with, update.
 *
 * Each is a step of an internal transaction: it reads, decides and writes, and is repeated if it lost. Python
 * code of others (iterators, keys()) runs before it. Only the function given to update_with() runs inside,
 * since it has to see the value that it changes.
 */
#include "state.h"

enum { READ_BATCH = 64 };

/* ---------------------------------------------------------------------------------------------- compound */

struct value_step {
    Proxy *dict;
    const shobj_key *key;
    PyObject *object; /* setdefault: what to store; update_with: what the function gets if the key is absent, or NULL */
    PyObject *function; /* update_with */
    PyObject *result;   /* a new reference */
};

/* Stores object under the key and leaves in step->result what is read back. */
static int store_and_read(shobj_store *handle, struct value_step *step, PyObject *object)
{
    Core *core = step->dict->core;
    shopy_plan *plan = shopy_plan_new(core);
    shobj_value value;
    int rc = SHOPY_RAISED;
    if (plan != NULL && shopy_plan_add(plan, object, "value", &value) == 0) {
        rc = shopy_plan_build(plan, handle);
        if (rc == 0)
            rc = shobj_dict_set(handle, step->dict->oid, step->key, &value);
        if (rc == 0) {
            step->result = shopy_value_to_python(core, &value);
            rc = step->result ? 0 : SHOPY_RAISED;
        }
    }
    shopy_plan_free(plan);
    return rc;
}

static int read_value(shobj_store *handle, struct value_step *step, PyObject **ret)
{
    shobj_value value;
    int rc = shobj_dict_get(handle, step->dict->oid, step->key, &value);
    if (rc < 0)
        return rc;
    *ret = shopy_value_to_python(step->dict->core, &value);
    return *ret == NULL ? SHOPY_RAISED : 0;
}

static int setdefault_step(shobj_store *handle, void *arg)
{
    struct value_step *step = arg;
    Py_CLEAR(step->result);
    int rc = read_value(handle, step, &step->result);
    return rc == SHOBJ_ENOTFOUND ? store_and_read(handle, step, step->object) : rc;
}

static int update_with_step(shobj_store *handle, void *arg)
{
    struct value_step *step = arg;
    Py_CLEAR(step->result);
    PyObject *old;
    int rc = read_value(handle, step, &old);
    if (rc == SHOBJ_ENOTFOUND && step->object != NULL) {
        old = Py_NewRef(step->object);
        rc = 0;
    }
    if (rc != 0)
        return rc;
    PyObject *new = PyObject_CallOneArg(step->function, old);
    Py_DECREF(old);
    if (new == NULL)
        return SHOPY_RAISED;
    rc = store_and_read(handle, step, new);
    Py_DECREF(new);
    return rc;
}

static PyObject *run_value_step(Proxy *dict, PyObject *key, struct value_step *step, shopy_step function)
{
    Core *core = dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return NULL;
    struct shopy_keybuf buf;
    int rc = shopy_key_prepare(core, handle, key, &buf);
    if (rc == 0) {
        step->dict = dict;
        step->key = &buf.key;
        rc = shopy_core_run(core, handle, function, step);
        shopy_key_release(&buf);
        dict->change_count++;
    } else {
        if (rc > 0)
            shopy_raise_key_not_shareable(core, key);
        rc = SHOPY_RAISED;
    }
    shopy_core_leave(core);
    if (rc == 0)
        return step->result;
    Py_CLEAR(step->result);
    return rc == SHOBJ_ENOTFOUND ? shopy_raise_key(key) : shopy_raise(core->state, rc);
}

/* A default that is a leaf takes the library's one operation. 1 and *ret, 0 for the long way, -1 with an
 * exception. */
static int setdefault_leaf(Proxy *dict, PyObject *key, PyObject *object, PyObject **ret)
{
    Core *core = dict->core;
    shobj_value value;
    if (!shopy_leaf(core, object, &value))
        return 0;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    struct shopy_keybuf buf;
    int result = shopy_key_prepare(core, handle, key, &buf);
    if (result == 0) {
        shobj_value found;
        int rc = shobj_dict_setdefault(handle, dict->oid, &buf.key, &value, &found);
        *ret = rc < 0 ? shopy_raise(core->state, rc) : shopy_value_to_python(core, &found);
        result = *ret == NULL ? -1 : 1;
        shopy_key_release(&buf);
        dict->change_count++;
    } else if (result > 0) {
        shopy_raise_key_not_shareable(core, key);
        result = -1;
    }
    shopy_core_leave(core);
    return result;
}

PyObject *shopy_dict_setdefault(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (!shopy_check_count("setdefault", count, 1, 2))
        return NULL;
    PyObject *object = count > 1 ? args[1] : Py_None;
    PyObject *result;
    int rc = setdefault_leaf((Proxy *)self, args[0], object, &result);
    if (rc != 0)
        return rc > 0 ? result : NULL;
    struct value_step step = {.object = object};
    return run_value_step((Proxy *)self, args[0], &step, setdefault_step);
}

PyObject *shopy_dict_update_with(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"key", "function", "default", NULL};
    PyObject *given[3];
    if (shopy_arguments("update_with", args, count, keywords, names, 3, given) < 0)
        return NULL;
    if (given[0] == NULL || given[1] == NULL) {
        PyErr_SetString(PyExc_TypeError, "update_with() needs a key and a function");
        return NULL;
    }
    if (!PyCallable_Check(given[1])) {
        PyErr_Format(PyExc_TypeError, "update_with(): the function must be callable, not '%s'",
                     Py_TYPE(given[1])->tp_name);
        return NULL;
    }
    struct value_step step = {.object = given[2], .function = given[1]};
    return run_value_step((Proxy *)self, given[0], &step, update_with_step);
}

/* ---------------------------------------------------------------------------------------------- reading all */

static int add_items(Core *core, const shobj_item *items, size_t count, PyObject *result)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *key = shopy_value_to_python(core, &items[i].key);
        PyObject *value = key ? shopy_value_to_python(core, &items[i].value) : NULL;
        int rc = value ? PyDict_SetItem(result, key, value) : -1;
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (rc < 0)
            return -1;
    }
    return 0;
}

int shopy_dict_read(shobj_store *handle, Proxy *dict, PyObject **ret_dict)
{
    PyObject *result = PyDict_New();
    if (result == NULL)
        return SHOPY_RAISED;
    shobj_dict_iter iter;
    shobj_dict_iter_init(&iter, dict->oid, false);
    for (;;) {
        shobj_item items[READ_BATCH];
        size_t count;
        int rc = shobj_dict_iter_next(handle, &iter, items, READ_BATCH, &count);
        if (rc == 0 && count == 0)
            break;
        if (rc == 0) {
            int paused = shopy_gc_pause();
            rc = add_items(dict->core, items, count, result) < 0 ? SHOPY_RAISED : 0;
            shopy_gc_resume(paused);
        }
        if (rc != 0) {
            Py_DECREF(result);
            return rc;
        }
    }
    *ret_dict = result;
    return 0;
}

struct snapshot_step {
    Proxy *dict;
    PyObject *result;
};

static int snapshot_step(shobj_store *handle, void *arg)
{
    struct snapshot_step *step = arg;
    Py_CLEAR(step->result); /* of an attempt that lost at its end */
    return shopy_dict_read(handle, step->dict, &step->result);
}

PyObject *shopy_dict_snapshot(Proxy *dict)
{
    shobj_store *handle = shopy_core_enter(dict->core);
    if (handle == NULL)
        return NULL;
    struct snapshot_step step = {.dict = dict};
    int rc = shopy_core_run(dict->core, handle, snapshot_step, &step);
    shopy_core_leave(dict->core);
    if (rc == 0)
        return step.result;
    Py_CLEAR(step.result);
    return shopy_raise(dict->core->state, rc);
}

/* ---------------------------------------------------------------------------------------------- update */

struct update_step {
    Proxy *dict;
    Proxy *source;    /* of the same store: read inside the transaction; or NULL */
    PyObject *native; /* what comes after the source, or NULL */
    shopy_plan *plan; /* of native, if there is no source */
    shobj_item *items;
    size_t count;
};

static int set_items(shobj_store *handle, const struct update_step *step)
{
    for (size_t i = 0; i < step->count; i++) {
        shobj_key key;
        int rc = shobj_key_init(handle, &step->items[i].key, &key);
        if (rc == 0)
            rc = shobj_dict_set(handle, step->dict->oid, &key, &step->items[i].value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int update_planned_step(shobj_store *handle, void *arg)
{
    struct update_step *step = arg;
    int rc = shopy_plan_build(step->plan, handle);
    return rc < 0 ? rc : set_items(handle, step);
}

static int update_plan(struct update_step *step, PyObject *native)
{
    step->plan = shopy_plan_new(step->dict->core);
    if (step->plan == NULL)
        return SHOPY_RAISED;
    return shopy_plan_add_dict(step->plan, native, "update", &step->items, &step->count) < 0 ? SHOPY_RAISED : 0;
}

static int update_from_source_step(shobj_store *handle, void *arg)
{
    struct update_step *step = arg;
    PyObject *all;
    int rc = shopy_dict_read(handle, step->source, &all);
    if (rc != 0)
        return rc;
    if (step->native != NULL && PyDict_Update(all, step->native) < 0)
        rc = SHOPY_RAISED;
    if (rc == 0)
        rc = update_plan(step, all);
    if (rc == 0)
        rc = update_planned_step(handle, step);
    shopy_plan_free(step->plan);
    step->plan = NULL;
    Py_DECREF(all);
    return rc;
}

/* Stores what a native dict (may be NULL) holds, after what source (may be NULL) holds. */
static int update_run(Proxy *dict, Proxy *source, PyObject *native)
{
    Core *core = dict->core;
    shobj_store *handle = shopy_core_enter(core);
    if (handle == NULL)
        return -1;
    struct update_step step = {.dict = dict, .source = source, .native = native};
    int rc;
    if (source != NULL) {
        rc = shopy_core_run(core, handle, update_from_source_step, &step);
    } else {
        rc = update_plan(&step, native);
        if (rc == 0 && step.count > 0)
            rc = shopy_core_run(core, handle, update_planned_step, &step);
        shopy_plan_free(step.plan);
    }
    dict->change_count++;
    shopy_core_leave(core);
    if (rc == 0)
        return 0;
    shopy_raise(core->state, rc);
    return -1;
}

static int update_from(Proxy *dict, PyObject *other, PyObject *keywords)
{
    module_state *state = dict->core->state;
    if (other != NULL && shopy_is_dict(state, other) && ((Proxy *)other)->core == dict->core)
        return update_run(dict, (Proxy *)other, keywords);
    PyObject *native = PyDict_New();
    if (native == NULL)
        return -1;
    PyObject *given = NULL, *done = NULL;
    if (other != NULL)
        given = shopy_is_dict(state, other) ? shopy_dict_snapshot((Proxy *)other) : Py_NewRef(other);
    if (given != NULL)
        done = PyObject_CallMethodOneArg(native, state->names.update, given);
    int rc = other != NULL && done == NULL ? -1 : 0;
    if (rc == 0 && keywords != NULL)
        rc = PyDict_Update(native, keywords);
    if (rc == 0)
        rc = update_run(dict, NULL, native);
    Py_XDECREF(given);
    Py_XDECREF(done);
    Py_DECREF(native);
    return rc;
}

PyObject *shopy_dict_update(PyObject *self, PyObject *args, PyObject *keywords)
{
    PyObject *other = NULL;
    if (!PyArg_UnpackTuple(args, "update", 0, 1, &other))
        return NULL;
    if (update_from((Proxy *)self, other, keywords) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *shopy_dict_inplace_or(PyObject *self, PyObject *other)
{
    if (update_from((Proxy *)self, other, NULL) < 0)
        return NULL;
    return Py_NewRef(self);
}
