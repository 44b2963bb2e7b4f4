/* SPDX-License-Identifier: BSD-3-Clause
 *
 * covey._core: the module. Multi-phase init, heap types, all state in the module. */
#include "pyext/module.h"

#include <stdbool.h>
#include "wire/header.h"

static int module_traverse(PyObject *m, visitproc visit, void *arg)
{
    struct module_state *st = PyModule_GetState(m);
    Py_VISIT(st->buffer_type);
    Py_VISIT(st->client_type);
    Py_VISIT(st->engine_type);
    Py_VISIT(st->link_error);
    Py_VISIT(st->forked_error);
    Py_VISIT(st->json_loads);
    return 0;
}

static int module_clear(PyObject *m)
{
    struct module_state *st = PyModule_GetState(m);
    Py_CLEAR(st->buffer_type);
    Py_CLEAR(st->client_type);
    Py_CLEAR(st->engine_type);
    Py_CLEAR(st->link_error);
    Py_CLEAR(st->forked_error);
    Py_CLEAR(st->json_loads);
    return 0;
}

static void module_free(void *m)
{
    module_clear(m);
}

struct module_state *module_state_of(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

PyObject *module_raise(struct module_state *st, int code, const char *text)
{
    if (code == CV_ENOMEM)
        return PyErr_NoMemory();
    bool lasting = code == CV_EAUTH || code == CV_EVERSION || code == CV_EPROTO ||
                   code == CV_EINVAL || code == CV_EACCES;
    PyObject *e = PyObject_CallFunction(st->link_error, "s", text);
    if (e && PyObject_SetAttrString(e, "lasting", lasting ? Py_True : Py_False) == 0)
        PyErr_SetObject(st->link_error, e);
    Py_XDECREF(e);
    return NULL;
}

static int add_type(PyObject *m, PyType_Spec *spec, PyTypeObject **ret)
{
    *ret = (PyTypeObject *)PyType_FromModuleAndSpec(m, spec, NULL);
    return *ret ? PyModule_AddType(m, *ret) : -1;
}

static int add_error(PyObject *m, const char *name, const char *doc, PyObject *base, PyObject **ret)
{
    char full[64];
    PyOS_snprintf(full, sizeof full, "covey._core.%s", name);
    *ret = PyErr_NewExceptionWithDoc(full, doc, base, NULL);
    return *ret ? PyModule_AddObjectRef(m, name, *ret) : -1;
}

static int module_exec(PyObject *m)
{
    struct module_state *st = PyModule_GetState(m);
    if (add_type(m, &buffer_spec, &st->buffer_type) ||
        add_type(m, &client_spec, &st->client_type) ||
        add_type(m, &engine_spec, &st->engine_type) ||
        add_error(m, "LinkError", "The connection could not be made or was refused.", PyExc_OSError,
                  &st->link_error) ||
        add_error(m, "ForkedError", "The object belongs to the process that made it.",
                  PyExc_RuntimeError, &st->forked_error) ||
        PyModule_AddIntConstant(m, "WIRE_VERSION", WIRE_VERSION))
        return -1;
    PyObject *none = PyLong_FromUnsignedLong(WIRE_ENGINE_NONE);
    int r = none ? PyModule_AddObjectRef(m, "ENGINE_NONE", none) : -1;
    Py_XDECREF(none);
    PyObject *json = r ? NULL : PyImport_ImportModule("json");
    if (!json)
        return -1;
    st->json_loads = PyObject_GetAttrString(json, "loads");
    Py_DECREF(json);
    return st->json_loads ? 0 : -1;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "covey._core",
    .m_doc = "The C half of covey: links of clients and engines; see covey/_core.pyi.",
    .m_size = sizeof(struct module_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&module_def);
}
