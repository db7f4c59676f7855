/*
 * plan.c: Python objects to values, in two steps.
 *
 * Adding to a plan walks the native containers once, in Python only: leaves become values at once, each list
 * and dict met becomes a *node*, and each place that refers to a node a *fixup*. Whatever can't be stored is
 * found here, before the library was called, so a failure leaves nothing behind. Building the plan then makes
 * the nodes' objects, in the library only, and may be repeated as often as the transaction around it loses.
 *
 *     {"a": [1, x], "b": x}          nodes, in the order they are made:   N0 = x's,  N1 = [1, ^N0],  N2 = {..}
 *
 * I1  A node is made after those it refers to, but for nodes that are referred to from below themselves (a
 *     cycle): these are *early*, made empty first and filled in their turn.
 * I2  One node per native container, however often it is met: sharing is kept.
 * I3  The plan holds a reference to each object whose bytes its values point to, and to each container it knows
 *     by address.
 *
 * Subclasses of int, float, complex, str, bytes and tuple are stored as the value of their base (an enum's
 * member as its number, a named tuple as a tuple), subclasses of list and dict by their contents.
 */
#include "state.h"

#include "ptrmap.h"

enum { CHUNK_BYTES = 16 * 1024 };

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

struct fixup {
    struct fixup *next;
    shobj_value *slot;
    struct node *target;
};

struct node {
    enum shobj_kind kind;
    bool early; /* I1 */
    bool done;  /* converted; until then a reference to it closes a cycle */
    size_t count;
    shobj_value *values; /* of a list */
    shobj_item *items;   /* of a dict */
    struct fixup *fixups;
    shobj_oid oid;
};

struct shopy_plan {
    Core *core;
    struct chunk *chunks;
    struct ptrmap memo; /* native container -> its node */
    struct node **nodes;
    size_t node_count, node_capacity;
    PyObject **kept;
    size_t kept_count, kept_capacity;
    struct fixup *top; /* of the slots that callers gave */
};

/* The way from the value to the object at hand, for messages: a chain on the C stack. */
struct step {
    const struct step *up;
    enum { STEP_ROOT, STEP_INDEX, STEP_KEY, STEP_KEY_ITSELF, STEP_ELEMENT } kind;
    Py_ssize_t index;
    PyObject *key;
    const char *name;
};

/* Where fixups of the slot at hand belong, and whether it may be a container at all. */
struct place {
    struct fixup **fixups;
    bool hashable; /* inside a key or a frozenset */
};

static int convert(shopy_plan *plan, PyObject *object, const struct step *step, const struct place *place,
                   shobj_value *slot);

/* ---------------------------------------------------------------------------------------------- memory */

static void *arena(shopy_plan *plan, size_t count, size_t size)
{
    if (count > (SIZE_MAX / 4) / size) {
        PyErr_NoMemory();
        return NULL;
    }
    size_t bytes = (count * size + 15) & ~(size_t)15;
    struct chunk *chunk = plan->chunks;
    if (chunk == NULL || chunk->size - chunk->used < bytes) {
        size_t room = bytes > CHUNK_BYTES / 4 ? bytes : CHUNK_BYTES;
        struct chunk *fresh = PyMem_Malloc(sizeof *fresh + room);
        if (fresh == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        fresh->size = room;
        fresh->used = 0;
        fresh->next = chunk;
        plan->chunks = fresh;
        /* A block of its own must not hide the room that the current chunk still has. */
        if (chunk != NULL && room == bytes) {
            fresh->next = chunk->next;
            chunk->next = fresh;
            plan->chunks = chunk;
        }
        chunk = fresh;
    }
    void *result = chunk->bytes + chunk->used;
    chunk->used += bytes;
    return result;
}

static int push(void ***array, size_t *count, size_t *capacity, void *pointer)
{
    if (*count == *capacity) {
        size_t grown = *capacity ? *capacity * 2 : 16;
        void **bigger = PyMem_Realloc(*array, grown * sizeof bigger[0]);
        if (bigger == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        *array = bigger;
        *capacity = grown;
    }
    (*array)[(*count)++] = pointer;
    return 0;
}

/* I3. Takes a new reference. */
static int keep(shopy_plan *plan, PyObject *object)
{
    if (push((void ***)&plan->kept, &plan->kept_count, &plan->kept_capacity, object) < 0)
        return -1;
    Py_INCREF(object);
    return 0;
}

/* Keeps a reference that the caller owns, also when it fails. */
static int keep_owned(shopy_plan *plan, PyObject *object)
{
    int rc = keep(plan, object);
    Py_DECREF(object);
    return rc;
}

shopy_plan *shopy_plan_new(Core *core)
{
    shopy_plan *plan = PyMem_Calloc(1, sizeof *plan);
    if (plan == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    plan->core = core;
    return plan;
}

void shopy_plan_free(shopy_plan *plan)
{
    if (plan == NULL)
        return;
    for (size_t i = 0; i < plan->kept_count; i++)
        Py_DECREF(plan->kept[i]);
    PyMem_Free(plan->kept);
    PyMem_Free(plan->nodes);
    ptrmap_free(&plan->memo);
    while (plan->chunks != NULL) {
        struct chunk *next = plan->chunks->next;
        PyMem_Free(plan->chunks);
        plan->chunks = next;
    }
    PyMem_Free(plan);
}

/* ---------------------------------------------------------------------------------------------- messages */

static PyObject *step_text(const struct step *step)
{
    switch (step->kind) {
    case STEP_ROOT: return PyUnicode_FromString(step->name);
    case STEP_INDEX: return PyUnicode_FromFormat("[%zd]", step->index);
    case STEP_KEY: return PyUnicode_FromFormat("[%R]", step->key);
    case STEP_KEY_ITSELF: return PyUnicode_FromString(".keys()");
    default: return PyUnicode_FromString("{...}");
    }
}

static PyObject *path_text(const struct step *step)
{
    PyObject *own = step_text(step);
    if (own == NULL || step->up == NULL)
        return own;
    PyObject *up = path_text(step->up);
    PyObject *text = up ? PyUnicode_Concat(up, own) : NULL;
    Py_XDECREF(up);
    Py_DECREF(own);
    return text;
}

static int not_shareable(shopy_plan *plan, PyObject *object, const struct step *step, bool hashable)
{
    PyObject *path = path_text(step);
    if (path == NULL)
        return -1;
    PyErr_Format(plan->core->state->errors[ERR_NOT_SHAREABLE],
                 hashable
                     ? "%U is a '%s', which can't be stored in the store '%U' here: a key or an element of a frozenset "
                       "is None, a bool, number, str, bytes, or a tuple or frozenset of these"
                     : "%U is a '%s', which can't be stored in the store '%U': make it of None, bool, int, float, "
                       "complex, str, bytes, tuple, frozenset, list, dict, shobj.List and shobj.Dict",
                 path, Py_TYPE(object)->tp_name, plan->core->path);
    Py_DECREF(path);
    return -1;
}

static int changed_meanwhile(const struct step *step)
{
    PyObject *path = path_text(step);
    if (path != NULL)
        PyErr_Format(PyExc_RuntimeError, "%U changed size while it was being stored: nothing was stored", path);
    Py_XDECREF(path);
    return -1;
}

/* ---------------------------------------------------------------------------------------------- leaves */

static int convert_str(shopy_plan *plan, PyObject *object, shobj_value *slot)
{
    *slot = (shobj_value){.type = SHOBJ_STR};
    Py_ssize_t count;
    const char *data = PyUnicode_AsUTF8AndSize(object, &count);
    if (data != NULL) {
        slot->data = data;
        slot->count = (size_t)count;
        return keep(plan, object);
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return -1;
    PyErr_Clear(); /* lone surrogates */
    PyObject *bytes = PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass");
    if (bytes == NULL)
        return -1;
    slot->data = PyBytes_AS_STRING(bytes);
    slot->count = (size_t)PyBytes_GET_SIZE(bytes);
    return keep_owned(plan, bytes);
}

static int convert_bigint(shopy_plan *plan, PyObject *object, shobj_value *slot)
{
    int overflow;
    long long small = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow == 0) { /* of a subclass */
        *slot = (shobj_value){.type = SHOBJ_INT, .i = small};
        return 0;
    }
    *slot = (shobj_value){.type = SHOBJ_BIGINT, .negative = overflow < 0};
    PyObject *magnitude = overflow < 0 ? PyLong_Type.tp_as_number->nb_negative(object) : Py_NewRef(object);
    if (magnitude == NULL)
        return -1;
    size_t count = (_PyLong_NumBits(magnitude) + 7) / 8;
    unsigned char *bytes = arena(plan, count, 1);
    int rc = -1;
    if (bytes != NULL)
#if PY_VERSION_HEX >= 0x030D0000
        rc = _PyLong_AsByteArray((PyLongObject *)magnitude, bytes, count, 1, 0, 1);
#else
        rc = _PyLong_AsByteArray((PyLongObject *)magnitude, bytes, count, 1, 0);
#endif
    Py_DECREF(magnitude);
    slot->data = bytes;
    slot->count = count;
    return rc;
}

static int convert_bytes(shopy_plan *plan, PyObject *object, shobj_value *slot)
{
    *slot = (shobj_value){.type = SHOBJ_BYTES};
    slot->data = PyBytes_AS_STRING(object);
    slot->count = (size_t)PyBytes_GET_SIZE(object);
    return keep(plan, object);
}

static int convert_complex(PyObject *object, shobj_value *slot)
{
    *slot = (shobj_value){.type = SHOBJ_COMPLEX};
    slot->c[0] = PyComplex_RealAsDouble(object);
    slot->c[1] = PyComplex_ImagAsDouble(object);
    return 0;
}

/* ---------------------------------------------------------------------------------------------- containers */

static int refer(shopy_plan *plan, struct node *node, const struct place *place, shobj_value *slot)
{
    struct fixup *fixup = arena(plan, 1, sizeof *fixup);
    if (fixup == NULL)
        return -1;
    *fixup = (struct fixup){*place->fixups, slot, node};
    *place->fixups = fixup;
    *slot = (shobj_value){.type = SHOBJ_OBJECT, .kind = (uint8_t)node->kind};
    if (!node->done)
        node->early = true;
    return 0;
}

/* A node for a container met the first time. The caller fills it, then calls node_finish(). */
static struct node *node_begin(shopy_plan *plan, PyObject *object, enum shobj_kind kind)
{
    struct node *node = arena(plan, 1, sizeof *node);
    if (node == NULL || keep(plan, object) < 0 || ptrmap_put(&plan->memo, object, node) < 0)
        return NULL;
    *node = (struct node){.kind = kind};
    return node;
}

static int node_finish(shopy_plan *plan, struct node *node)
{
    node->done = true;
    return push((void ***)&plan->nodes, &plan->node_count, &plan->node_capacity, node);
}

static int convert_elements(shopy_plan *plan, PyObject *sequence, const struct step *up, const struct place *place,
                            shobj_value **ret_values, size_t *ret_count)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
    shobj_value *values = arena(plan, (size_t)count, sizeof values[0]);
    if (values == NULL)
        return -1;
    struct step step = {.up = up, .kind = STEP_INDEX};
    for (Py_ssize_t i = 0; i < count; i++) {
        if (i >= PySequence_Fast_GET_SIZE(sequence))
            return changed_meanwhile(up);
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, i));
        step.index = i;
        int rc = convert(plan, item, &step, place, &values[i]);
        Py_DECREF(item);
        if (rc < 0)
            return -1;
    }
    if (PySequence_Fast_GET_SIZE(sequence) != count)
        return changed_meanwhile(up);
    *ret_values = values;
    *ret_count = (size_t)count;
    return 0;
}

static int convert_list(shopy_plan *plan, PyObject *list, const struct step *step, struct node *node)
{
    const struct place place = {&node->fixups, false};
#ifdef Py_GIL_DISABLED
    PyObject *copy = PyList_AsTuple(list);
    if (copy == NULL)
        return -1;
    int rc = keep_owned(plan, copy);
    return rc < 0 ? rc : convert_elements(plan, copy, step, &place, &node->values, &node->count);
#else
    return convert_elements(plan, list, step, &place, &node->values, &node->count);
#endif
}

static int convert_pair(shopy_plan *plan, PyObject *key, PyObject *value, const struct step *up, struct fixup **fixups,
                        shobj_item *item)
{
    struct step step = {.up = up, .kind = STEP_KEY_ITSELF, .key = key};
    int rc = convert(plan, key, &step, &(struct place){fixups, true}, &item->key);
    step.kind = STEP_KEY;
    if (rc == 0)
        rc = convert(plan, value, &step, &(struct place){fixups, false}, &item->value);
    return rc;
}

static int convert_exact_dict(shopy_plan *plan, PyObject *dict, const struct step *step, struct fixup **fixups,
                              shobj_item **ret_items, size_t *ret_count)
{
    size_t count = (size_t)PyDict_GET_SIZE(dict), i = 0;
    shobj_item *items = arena(plan, count, sizeof items[0]);
    if (items == NULL)
        return -1;
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (i == count)
            return changed_meanwhile(step);
        Py_INCREF(key);
        Py_INCREF(value);
        int rc = convert_pair(plan, key, value, step, fixups, &items[i++]);
        Py_DECREF(key);
        Py_DECREF(value);
        if (rc < 0)
            return -1;
    }
    if (i != count || (size_t)PyDict_GET_SIZE(dict) != count)
        return changed_meanwhile(step);
    *ret_items = items;
    *ret_count = count;
    return 0;
}

/* Of a subclass the items as it gives them out itself: an OrderedDict may be in another order than its base knows. */
static int convert_dict(shopy_plan *plan, PyObject *dict, const struct step *step, struct node *node)
{
#ifndef Py_GIL_DISABLED
    if (PyDict_CheckExact(dict))
        return convert_exact_dict(plan, dict, step, &node->fixups, &node->items, &node->count);
#endif
    PyObject *copy = PyDict_New();
    if (copy == NULL)
        return -1;
    PyObject *items = PyDict_CheckExact(dict) ? NULL : PyMapping_Items(dict);
    int rc = -1;
    if (items != NULL)
        rc = PyDict_MergeFromSeq2(copy, items, 1);
    else if (!PyErr_Occurred())
        rc = PyDict_Update(copy, dict);
    Py_XDECREF(items);
    if (rc < 0) {
        Py_DECREF(copy);
        return -1;
    }
    rc = keep_owned(plan, copy);
    return rc < 0 ? rc : convert_exact_dict(plan, copy, step, &node->fixups, &node->items, &node->count);
}

static int convert_container(shopy_plan *plan, PyObject *object, enum shobj_kind kind, const struct step *step,
                             const struct place *place, shobj_value *slot)
{
    if (place->hashable)
        return not_shareable(plan, object, step, true);
    struct node *node = ptrmap_get(&plan->memo, object);
    if (node != NULL)
        return refer(plan, node, place, slot);
    node = node_begin(plan, object, kind);
    if (node == NULL)
        return -1;
    int rc = kind == SHOBJ_KIND_LIST ? convert_list(plan, object, step, node) : convert_dict(plan, object, step, node);
    if (rc == 0)
        rc = node_finish(plan, node);
    return rc < 0 ? rc : refer(plan, node, place, slot);
}

static int convert_tuple(shopy_plan *plan, PyObject *tuple, const struct step *step, const struct place *place,
                         shobj_value *slot)
{
    shobj_value *values;
    size_t count;
    if (convert_elements(plan, tuple, step, place, &values, &count) < 0)
        return -1;
    *slot = (shobj_value){.type = SHOBJ_TUPLE};
    slot->items = values;
    slot->count = count;
    return 0;
}

static int convert_frozenset(shopy_plan *plan, PyObject *set, const struct step *up, shobj_value *slot)
{
    PyObject *elements = PySequence_Tuple(set);
    if (elements == NULL || keep_owned(plan, elements) < 0)
        return -1;
    size_t count = (size_t)PyTuple_GET_SIZE(elements);
    shobj_value *values = arena(plan, count, sizeof values[0]);
    if (values == NULL)
        return -1;
    struct fixup *none = NULL;
    const struct step step = {.up = up, .kind = STEP_ELEMENT};
    const struct place place = {&none, true};
    for (size_t i = 0; i < count; i++) {
        if (convert(plan, PyTuple_GET_ITEM(elements, i), &step, &place, &values[i]) < 0)
            return -1;
    }
    *slot = (shobj_value){.type = SHOBJ_FROZENSET};
    slot->items = values;
    slot->count = count;
    return 0;
}

/* A proxy of another store: its contents are copied, read there as of one instant. */
static int convert_foreign(shopy_plan *plan, PyObject *proxy, const struct step *step, const struct place *place,
                           shobj_value *slot)
{
    PyObject *native = ptrmap_get(&plan->memo, proxy);
    struct node *node = (struct node *)native;
    if (node != NULL)
        return refer(plan, node, place, slot);
    native = shopy_to_native(plan->core->state, proxy);
    if (native == NULL || keep_owned(plan, native) < 0)
        return -1;
    if (convert(plan, native, step, place, slot) < 0)
        return -1;
    return keep(plan, proxy) < 0 ? -1 : ptrmap_put(&plan->memo, proxy, ptrmap_get(&plan->memo, native));
}

static int convert_branch(shopy_plan *plan, PyObject *object, const struct step *step, const struct place *place,
                          shobj_value *slot)
{
    if (PyDict_Check(object))
        return convert_container(plan, object, SHOBJ_KIND_DICT, step, place, slot);
    if (PyList_Check(object))
        return convert_container(plan, object, SHOBJ_KIND_LIST, step, place, slot);
    if (PyTuple_Check(object))
        return convert_tuple(plan, object, step, place, slot);
    if (PyFrozenSet_Check(object))
        return convert_frozenset(plan, object, step, slot);
    if (shopy_is_proxy(plan->core->state, object) && !place->hashable)
        return convert_foreign(plan, object, step, place, slot);
    return not_shareable(plan, object, step, place->hashable);
}

static int convert(shopy_plan *plan, PyObject *object, const struct step *step, const struct place *place,
                   shobj_value *slot)
{
    if (shopy_leaf(plan->core, object, slot)) {
        if (slot->type == SHOBJ_OBJECT && place->hashable)
            return not_shareable(plan, object, step, true);
        bool points = slot->type == SHOBJ_STR || slot->type == SHOBJ_BYTES || slot->type == SHOBJ_OBJECT;
        return points ? keep(plan, object) : 0;
    }
    if (PyUnicode_Check(object))
        return convert_str(plan, object, slot);
    if (PyLong_Check(object))
        return convert_bigint(plan, object, slot);
    if (PyFloat_Check(object)) {
        *slot = (shobj_value){.type = SHOBJ_FLOAT, .f = PyFloat_AS_DOUBLE(object)};
        return 0;
    }
    if (PyBytes_Check(object))
        return convert_bytes(plan, object, slot);
    if (PyComplex_Check(object))
        return convert_complex(object, slot);
    if (Py_EnterRecursiveCall(" while storing a nested value"))
        return -1;
    int rc = convert_branch(plan, object, step, place, slot);
    Py_LeaveRecursiveCall();
    return rc;
}

/* ---------------------------------------------------------------------------------------------- the interface */

int shopy_plan_add(shopy_plan *plan, PyObject *object, const char *name, shobj_value *slot)
{
    const struct step step = {.kind = STEP_ROOT, .name = name};
    return convert(plan, object, &step, &(struct place){&plan->top, false}, slot);
}

int shopy_plan_add_all(shopy_plan *plan, PyObject *const *objects, Py_ssize_t count, const char *name,
                       shobj_value **ret_values)
{
    shobj_value *values = arena(plan, (size_t)count, sizeof values[0]);
    if (values == NULL)
        return -1;
    const struct step root = {.kind = STEP_ROOT, .name = name};
    struct step step = {.up = &root, .kind = STEP_INDEX};
    for (Py_ssize_t i = 0; i < count; i++) {
        step.index = i;
        if (convert(plan, objects[i], &step, &(struct place){&plan->top, false}, &values[i]) < 0)
            return -1;
    }
    *ret_values = values;
    return 0;
}

int shopy_plan_add_dict(shopy_plan *plan, PyObject *dict, const char *name, shobj_item **ret_items, size_t *ret_count)
{
    const struct step step = {.kind = STEP_ROOT, .name = name};
    return convert_exact_dict(plan, dict, &step, &plan->top, ret_items, ret_count);
}

bool shopy_plan_has_nodes(const shopy_plan *plan)
{
    return plan->node_count > 0;
}

static void fix(const struct fixup *fixup)
{
    for (; fixup != NULL; fixup = fixup->next)
        fixup->slot->oid = fixup->target->oid;
}

static int node_make(shobj_store *handle, struct node *node, bool filled)
{
    size_t count = filled ? node->count : 0;
    if (node->kind == SHOBJ_KIND_LIST)
        return shobj_list_new(handle, node->values, count, &node->oid);
    return shobj_dict_new(handle, node->items, count, &node->oid);
}

static int node_fill(shobj_store *handle, struct node *node)
{
    if (node->kind == SHOBJ_KIND_LIST)
        return shobj_list_extend(handle, node->oid, node->values, node->count);
    for (size_t i = 0; i < node->count; i++) {
        shobj_key key;
        int rc = shobj_key_init(handle, &node->items[i].key, &key);
        if (rc == 0)
            rc = shobj_dict_set(handle, node->oid, &key, &node->items[i].value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int shopy_plan_build(shopy_plan *plan, shobj_store *handle)
{
    int rc = 0;
    for (size_t i = 0; i < plan->node_count && rc == 0; i++) {
        if (plan->nodes[i]->early)
            rc = node_make(handle, plan->nodes[i], false);
    }
    for (size_t i = 0; i < plan->node_count && rc == 0; i++) {
        struct node *node = plan->nodes[i];
        fix(node->fixups);
        rc = node->early ? node_fill(handle, node) : node_make(handle, node, true);
    }
    if (rc == 0)
        fix(plan->top);
    return rc;
}
