/* SPDX-License-Identifier: BSD-3-Clause
 *
 * covey._core's module state: its types, exceptions and the one Python function that C calls. */
#ifndef COVEY_PYEXT_MODULE_H
#define COVEY_PYEXT_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include "base/error.h"

struct module_state {
    PyTypeObject *buffer_type, *client_type, *engine_type;
    PyObject *link_error, *forked_error;
    PyObject *json_loads;
};

struct module_state *module_state_of(PyTypeObject *type);
/* Raises the Python exception for a code: MemoryError, else LinkError(text). Returns NULL. */
PyObject *module_raise(struct module_state *st, int code, const char *text);

extern PyType_Spec buffer_spec, client_spec, engine_spec;

#endif
