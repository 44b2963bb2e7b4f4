/* SPDX-License-Identifier: BSD-3-Clause
 *
 * covey._tls: TLS for a client's link, apart from _core so that a process loads OpenSSL only when
 * it needs it, and after Python's own `ssl`. A capsule owns the context and the factory made from
 * it, and the way through an ssh server; whoever uses the factory holds the capsule. It has
 * explain_ssh(), too, since src/ssh is here. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>
#include "ssh/way.h"
#include "ssh/words.h"
#include "tls/tls.h"

#define CAPSULE "covey.transport_factory"

struct factory {
    struct transport_factory tcp; /* first: what the capsule points to */
    struct tls_context *context;
    struct ssh_way *way; /* NULL: by a socket */
};

static void factory_free(struct factory *f)
{
    ssh_way_free(f->way);
    tls_context_free(f->context);
    free(f);
}

static void capsule_free(PyObject *capsule)
{
    factory_free(PyCapsule_GetPointer(capsule, CAPSULE));
}

static PyObject *context(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"identity", "key", "sshserver", "sshkey", "password", NULL};
    const char *identity, *key;
    struct ssh_way_config ssh = {0};
    struct err e = {"out of memory"};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ss|$zzz:context", names, &identity, &key,
                                     &ssh.server, &ssh.key, &ssh.password))
        return NULL;
    struct factory *f = calloc(1, sizeof *f);
    if (!f)
        return PyErr_NoMemory();
    int r = tls_client_new(&f->context, identity, key, &e);
    if (r == CV_OK) {
        ssh.inner = f->tcp = tls_factory(f->context);
        r = ssh.server && *ssh.server ? ssh_way_new(&f->way, &ssh, &e) : CV_OK;
    }
    if (r) {
        factory_free(f);
        return r == CV_ENOMEM ? PyErr_NoMemory() : PyErr_Format(PyExc_ValueError, "%s", e.text);
    }
    if (f->way)
        f->tcp = ssh_way_factory(f->way);
    PyObject *capsule = PyCapsule_New(&f->tcp, CAPSULE, capsule_free);
    if (!capsule)
        factory_free(f);
    return capsule;
}

static PyObject *explain_ssh(PyObject *module, PyObject *args)
{
    const char *server, *said;
    Py_ssize_t n;
    char text[2048];
    if (!PyArg_ParseTuple(args, "ss#:explain_ssh", &server, &said, &n))
        return NULL;
    ssh_explain(server, "it", said, (size_t)n, "", text, sizeof text);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyMethodDef methods[] = {
    {"explain_ssh", explain_ssh, METH_VARARGS, "What an ssh said before it ended, and what helps."},
    {"context", (PyCFunction)(void (*)(void))context, METH_VARARGS | METH_KEYWORDS,
     "A capsule for covey._core.Client(tls=...). key: 64 hex digits of the connection file."
     " sshserver: go through it, with this key's file or password."},
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
