/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The Client type's object and its methods, which client.c lists. All with the GIL. */
#ifndef COVEY_PYEXT_CLIENT_TYPE_H
#define COVEY_PYEXT_CLIENT_TYPE_H

#include "pyext/client.h"
#include "pyext/heads.h"
#include "pyext/holds.h"
#include "pyext/module.h"

struct client {
    PyObject ob_base;
    struct module_state *st;
    struct core *core;
    struct holds *holds;
    struct heads *heads;
    PyObject *tls, *welcome;
};

/* NULL with an exception when it can't be used: not initialized, or in a forked child. */
struct client *client_of(PyObject *self);

/* client_send.c */
PyObject *client_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *client_wait_room(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *client_query(PyObject *self, PyObject *body);
PyObject *client_send(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *client_expect(PyObject *self, PyObject *args);
PyObject *client_flushed(PyObject *self, PyObject *arg);

/* client_get.c */
PyObject *client_forget(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *client_done(PyObject *self, PyObject *arg);
PyObject *client_done_count(PyObject *self, PyObject *seqs);
PyObject *client_wait(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *client_take(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *client_watch(PyObject *self, PyObject *seqs);
PyObject *client_poll(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *client_wait_event(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
PyObject *client_wake(PyObject *self, PyObject *unused);
PyObject *client_fileno(PyObject *self, PyObject *unused);

#endif
