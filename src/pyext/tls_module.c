/* SPDX-License-Identifier: BSD-3-Clause
 *
 * covey._tls: TLS for a client's link, apart from _core so that a process loads OpenSSL only when
 * it needs it, and after Python's own `ssl`. A capsule owns the context and the factory made from
 * it; whoever uses the factory holds the capsule. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include "tls/tls.h"

#define CAPSULE "covey.transport_factory"

struct factory {
    struct transport_factory tcp; /* first: what the capsule points to */
    struct tls_context *context;
};

static void capsule_free(PyObject *capsule)
{
    struct factory *f = PyCapsule_GetPointer(capsule, CAPSULE);
    tls_context_free(f->context);
    free(f);
}

static PyObject *context(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"identity", "key", NULL};
    const char *identity, *key;
    struct err e = {"out of memory"};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ss:context", names, &identity, &key))
        return NULL;
    struct factory *f = calloc(1, sizeof *f);
    if (!f)
        return PyErr_NoMemory();
    int r = tls_client_new(&f->context, identity, key, &e);
    if (r) {
        free(f);
        return r == CV_ENOMEM ? PyErr_NoMemory() : PyErr_Format(PyExc_ValueError, "%s", e.text);
    }
    f->tcp = tls_factory(f->context);
    PyObject *capsule = PyCapsule_New(&f->tcp, CAPSULE, capsule_free);
    if (!capsule) {
        tls_context_free(f->context);
        free(f);
    }
    return capsule;
}

static PyMethodDef methods[] = {
    {"context", (PyCFunction)(void (*)(void))context, METH_VARARGS | METH_KEYWORDS,
     "A capsule for covey._core.Client(tls=...). key: 64 hex digits of the connection file."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "covey._tls",
    .m_doc = "TLS for a client's link; see covey/_tls.pyi.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__tls(void);
PyMODINIT_FUNC PyInit__tls(void)
{
    return PyModuleDef_Init(&module_def);
}
