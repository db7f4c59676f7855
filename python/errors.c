/*
 * errors.c: one table of the exception classes, one from the library's error numbers to them.
 *
 * Each class but Retry is an Error, so that `except shobj.Error` catches all of the product's own, and also the class
 * that Python users catch for the like (FileNotFoundError, LookupError ...). Numbers whose meaning is that of a
 * native exception (a missing key, a wrong type) raise the native class itself.
 */
#include "state.h"

#include <errno.h>

struct class_row {
    const char *name;
    const char *doc;
    enum shopy_error parent; /* itself: no parent among ours */
    PyObject **native;       /* second base, or the only one; or NULL */
};

/* The rows stand in the order of enum shopy_error. */
static const struct class_row *class_rows(int *ret_count)
{
    static const struct class_row rows[] = {
        [ERR_ERROR] = {"shobj.Error", "What every error class of shobj has for a base.", ERR_ERROR,
                       &PyExc_Exception},
        [ERR_NOT_FOUND] = {"shobj.StoreNotFoundError", "There is no store of that name.", ERR_ERROR,
                           &PyExc_FileNotFoundError},
        [ERR_EXISTS] = {"shobj.StoreExistsError", "A store of that name exists already.", ERR_ERROR,
                        &PyExc_FileExistsError},
        [ERR_CLOSED] = {"shobj.StoreClosedError", "The store was closed in this process.", ERR_ERROR,
                        &PyExc_ValueError},
        [ERR_READONLY] = {"shobj.ReadOnlyError", "The store is open for reading only.", ERR_ERROR,
                          &PyExc_PermissionError},
        [ERR_FULL] = {"shobj.StoreFullError", "No room for this in the store; nothing was changed.", ERR_ERROR,
                      &PyExc_MemoryError},
        [ERR_VERSION] = {"shobj.VersionMismatchError", "The heap file has another layout version.", ERR_ERROR, NULL},
        [ERR_CORRUPTED] = {"shobj.CorruptedError", "The file is not a heap, or it is damaged.", ERR_ERROR, NULL},
        [ERR_NOT_SHAREABLE] = {"shobj.NotShareableError",
                               "A value of this type can't be stored; the message has the path to it.", ERR_ERROR,
                               &PyExc_TypeError},
        [ERR_STALE] = {"shobj.StaleObjectError", "The object is gone from the store.", ERR_ERROR, &PyExc_LookupError},
        [ERR_TRANSACTION] = {"shobj.TransactionError", "Not possible in this state of the transaction.", ERR_ERROR,
                             NULL},
        [ERR_CONFLICT] = {"shobj.ConflictError",
                          "The transaction lost against another one and did nothing; run it again.", ERR_TRANSACTION,
                          NULL},
        [ERR_TIMEOUT] = {"shobj.TransactionTimeout", "The transaction did not commit in the time given.",
                         ERR_TRANSACTION, &PyExc_TimeoutError},
        [ERR_RETRY] = {"shobj.Retry", "How retry() leaves the body of a transaction; no error, to be let pass.", ERR_RETRY,
                       &PyExc_BaseException},
    };
    *ret_count = (int)(sizeof rows / sizeof rows[0]);
    return rows;
}

int shopy_errors_init(PyObject *module, module_state *state)
{
    int count;
    const struct class_row *rows = class_rows(&count);
    for (int i = 0; i < count; i++) {
        const struct class_row *row = &rows[i];
        PyObject *bases;
        if ((int)row->parent == i)
            bases = PyTuple_Pack(1, *row->native);
        else if (row->native != NULL)
            bases = PyTuple_Pack(2, state->errors[row->parent], *row->native);
        else
            bases = PyTuple_Pack(1, state->errors[row->parent]);
        if (bases == NULL)
            return -1;
        PyObject *class = PyErr_NewExceptionWithDoc(row->name, row->doc, bases, NULL);
        Py_DECREF(bases);
        if (class == NULL)
            return -1;
        state->errors[i] = class;
        if (PyModule_AddObjectRef(module, strchr(row->name, '.') + 1, class) < 0)
            return -1;
    }
    return 0;
}

/* The class for an error number, borrowed. ENOTFOUND is a LookupError where the caller knows no better (a dict raises
 * KeyError and a list IndexError themselves). */
static PyObject *class_of(module_state *state, int error)
{
    switch (error) {
    case SHOBJ_ENOTFOUND: return PyExc_LookupError;
    case SHOBJ_EINVAL: return PyExc_ValueError;
    case SHOBJ_ETYPE: return PyExc_TypeError;
    case SHOBJ_ENOENT: return state->errors[ERR_NOT_FOUND];
    case SHOBJ_EEXIST: return state->errors[ERR_EXISTS];
    case SHOBJ_EACCES: return PyExc_PermissionError;
    case SHOBJ_EREADONLY: return state->errors[ERR_READONLY];
    case SHOBJ_EFULL: return state->errors[ERR_FULL];
    case SHOBJ_ENOMEM: return PyExc_MemoryError;
    case SHOBJ_EVERSION: return state->errors[ERR_VERSION];
    case SHOBJ_EFORMAT: return state->errors[ERR_CORRUPTED];
    case SHOBJ_ECORRUPT: return state->errors[ERR_CORRUPTED];
    case SHOBJ_ECONFLICT: return state->errors[ERR_CONFLICT];
    case SHOBJ_ETIMEOUT: return state->errors[ERR_TIMEOUT];
    case SHOBJ_ESTALE: return state->errors[ERR_STALE];
    case SHOBJ_EBUSY: return state->errors[ERR_ERROR];
    case SHOBJ_ETXN: return state->errors[ERR_TRANSACTION];
    case SHOBJ_ELIMIT: return state->errors[ERR_ERROR];
    case SHOBJ_EIO: return PyExc_OSError;
    case SHOBJ_EABORTED: return state->errors[ERR_TRANSACTION];
    case SHOBJ_EINTR: return PyExc_InterruptedError;
    default: return state->errors[ERR_ERROR];
    }
}

static int errno_of(int error)
{
    switch (error) {
    case SHOBJ_ENOENT: return ENOENT;
    case SHOBJ_EEXIST: return EEXIST;
    case SHOBJ_EACCES: return EACCES;
    case SHOBJ_EREADONLY: return EROFS;
    case SHOBJ_EIO: return EIO;
    default: return 0;
    }
}

/* The library's message may quote bytes of a path or a key that are no UTF-8. A conflict is no failure to it,
 * and has none. */
static PyObject *message_of(int error)
{
    const char *text = shobj_error_message();
    if (error == SHOBJ_ECONFLICT)
        text = "the transaction lost against another one and changes nothing: leave its block and run it again "
               "(Store.run(), Store.atomic() and Store.attempts() do so by themselves)";
    if (text[0] == '\0')
        text = shobj_error_text(error);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "backslashreplace");
}

PyObject *shopy_raise(module_state *state, int error)
{
    return shopy_raise_path(state, error, NULL);
}

PyObject *shopy_raise_path(module_state *state, int error, PyObject *path)
{
    if (error == SHOPY_RAISED || (error == SHOBJ_EINTR && PyErr_Occurred()))
        return NULL;
    PyObject *message = message_of(error);
    if (message == NULL)
        return NULL;
    int number = path ? errno_of(error) : 0;
    PyObject *class = class_of(state, error);
    PyObject *exception =
        number != 0 ? PyObject_CallFunction(class, "iOO", number, message, path) : PyObject_CallOneArg(class, message);
    Py_DECREF(message);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *shopy_raise_key(PyObject *key)
{
    /* A tuple handed to PyErr_SetObject() would become the arguments of the exception instead of its one argument. */
    PyObject *exception = PyObject_CallOneArg(PyExc_KeyError, key);
    if (exception != NULL) {
        PyErr_SetObject(PyExc_KeyError, exception);
        Py_DECREF(exception);
    }
    return NULL;
}

void shopy_raise_closed(const Core *core)
{
    PyErr_Format(core->state->errors[ERR_CLOSED],
                 "the store '%U' was closed in this process: open it again and read its objects from the new Store",
                 core->path);
}

void shopy_raise_refused(const Core *core)
{
    if (core->handle == NULL)
        shopy_raise_closed(core);
    else
        PyErr_Format(core->state->errors[ERR_TRANSACTION],
                     "a signal handler can't use the store '%U' while its thread waits inside an operation on it: let the "
                     "handler set a flag or raise, and use the store afterwards",
                     core->path);
}
