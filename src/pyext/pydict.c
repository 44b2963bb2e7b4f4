/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Python dicts made into the wire's structs; see pydict.h. On failure an exception is set that
 * names the key, and what was made is released. */
#include "pyext/pydict.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "pyext/pyin.h"
#include "wire/connfile.h"
#include "wire/header.h"

static PyObject *get(PyObject *dict, const char *key)
{
    PyObject *o = PyDict_GetItemString(dict, key);
    return o == Py_None ? NULL : o;
}

static int get_text(PyObject *o, char **ret)
{
    Py_ssize_t n;
    const char *s = PyUnicode_AsUTF8AndSize(o, &n);
    if (!s)
        return -1;
    char *copy = strdup(s);
    if (!copy) {
        PyErr_NoMemory();
        return -1;
    }
    free(*ret);
    *ret = copy;
    return 0;
}

static int get_str(PyObject *dict, const char *key, char **ret)
{
    PyObject *o = get(dict, key);
    return o ? get_text(o, ret) : 0;
}

static int get_u64(PyObject *dict, const char *key, uint64_t *ret)
{
    PyObject *o = get(dict, key);
    if (!o)
        return 0;
    if (!PyUnicode_Check(o))
        return arg_u64(o, ret);
    PyObject *number = PyNumber_Long(o);
    if (!number)
        return -1;
    int r = arg_u64(number, ret);
    Py_DECREF(number);
    return r;
}

static int get_u32(PyObject *dict, const char *key, uint32_t *ret)
{
    PyObject *o = get(dict, key);
    return o ? arg_u32(o, ret) : 0;
}

int pydict_hello(PyObject *dict, struct hello *ret)
{
    struct hello h = {
        .pid = (uint32_t)getpid(), .pid_namespace = pid_namespace(), .number = WIRE_ENGINE_NONE};
    if (!PyDict_Check(dict)) {
        PyErr_SetString(PyExc_TypeError, "hello must be a dict");
        return -1;
    }
    if (get_str(dict, "cluster_id", &h.cluster_id) || get_str(dict, "boot_id", &h.boot_id) ||
        get_str(dict, "uuid", &h.uuid) || get_str(dict, "python", &h.python) ||
        get_str(dict, "versions", &h.versions) || get_str(dict, "host", &h.host) ||
        get_u32(dict, "number", &h.number) || get_u32(dict, "incarnation", &h.incarnation) ||
        get_u32(dict, "slot", &h.slot) || get_u64(dict, "host_session", &h.host_session) ||
        get_u64(dict, "machine", &h.machine) || get_u64(dict, "engine_set", &h.engine_set)) {
        hello_release(&h);
        return -1;
    }
    if (!h.machine)
        h.machine = machine_id();
    *ret = h;
    return 0;
}

int pydict_strings(PyObject *seq, char ***ret, uint32_t *ret_n)
{
    Py_ssize_t n = PySequence_Size(seq);
    if (n < 0)
        return -1;
    char **v = calloc((size_t)n + 1, sizeof *v);
    if (!v) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t i = 0;
    for (; i < n; i++) {
        PyObject *o = PySequence_GetItem(seq, i);
        int bad = !o || get_text(o, &v[i]);
        Py_XDECREF(o);
        if (bad)
            break;
    }
    if (i < n) {
        while (i > 0)
            free(v[--i]);
        free(v);
        return -1;
    }
    *ret = v;
    *ret_n = (uint32_t)n;
    return 0;
}

static int get_targets(PyObject *o, struct route *r)
{
    Py_ssize_t n = PySequence_Size(o);
    if (n < 0)
        return -1;
    r->targets = calloc((size_t)n + 1, sizeof *r->targets);
    if (!r->targets) {
        PyErr_NoMemory();
        return -1;
    }
    r->has_targets = true;
    r->ntargets = (uint32_t)n;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(o, i);
        int bad = !item || arg_u32(item, &r->targets[i]);
        Py_XDECREF(item);
        if (bad)
            return -1;
    }
    return 0;
}

static int get_range(PyObject *o, struct id_range *ret)
{
    uint64_t *fields[] = {&ret->session, &ret->lo, &ret->hi};
    for (int i = 0; i < 3; i++) {
        PyObject *item = o ? PySequence_GetItem(o, i) : NULL;
        int bad = !item || arg_u64(item, fields[i]);
        Py_XDECREF(item);
        if (bad)
            return -1;
    }
    return 0;
}

static int get_ranges(PyObject *o, struct id_range **ret, uint32_t *ret_n)
{
    Py_ssize_t n = PySequence_Size(o);
    if (n < 0)
        return -1;
    *ret = calloc((size_t)n + 1, sizeof **ret);
    if (!*ret) {
        PyErr_NoMemory();
        return -1;
    }
    *ret_n = (uint32_t)n;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(o, i);
        int bad = get_range(item, &(*ret)[i]);
        Py_XDECREF(item);
        if (bad)
            return -1;
    }
    return 0;
}

static int get_dep(PyObject *dict, struct route *r)
{
    struct {
        const char *key;
        bool *flag;
    } rows[] = {
        {"after_all", &r->after_flags.all},           {"after_success", &r->after_flags.success},
        {"after_failure", &r->after_flags.failure},   {"follow_all", &r->follow_flags.all},
        {"follow_success", &r->follow_flags.success}, {"follow_failure", &r->follow_flags.failure},
    };
    if (!PyDict_Check(dict)) {
        PyErr_SetString(PyExc_TypeError, "route['dep'] must be a dict");
        return -1;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PyObject *o = PyDict_GetItemString(dict, rows[i].key);
        int truth = o ? PyObject_IsTrue(o) : *rows[i].flag;
        if (truth < 0)
            return -1;
        *rows[i].flag = truth;
    }
    return 0;
}

static int get_number(const char *key, PyObject *o, struct route *r)
{
    if (strcmp(key, "timeout") == 0) {
        r->timeout = PyFloat_AsDouble(o);
    } else if (strcmp(key, "retries") == 0) {
        return arg_u32(o, &r->retries);
    } else {
        long v = PyLong_AsLong(o);
        if (v < INT32_MIN || v > INT32_MAX)
            PyErr_SetString(PyExc_OverflowError, "priority does not fit in 32 bits");
        r->priority = (int32_t)v;
    }
    return PyErr_Occurred() ? -1 : 0;
}

static int get_route_key(const char *key, PyObject *o, struct route *r)
{
    if (strcmp(key, "targets") == 0)
        return get_targets(o, r);
    if (strcmp(key, "label") == 0)
        return get_text(o, &r->label);
    if (strcmp(key, "python") == 0)
        return get_text(o, &r->python);
    if (strcmp(key, "after") == 0)
        return get_ranges(o, &r->after, &r->nafter);
    if (strcmp(key, "follow") == 0)
        return get_ranges(o, &r->follow, &r->nfollow);
    if (strcmp(key, "dep") == 0)
        return get_dep(o, r);
    if (strcmp(key, "timeout") == 0 || strcmp(key, "retries") == 0 || strcmp(key, "priority") == 0)
        return get_number(key, o, r);
    PyErr_Format(PyExc_ValueError, "a route has no key '%s'", key);
    return -1;
}

int pydict_route(PyObject *dict, struct buf *out)
{
    if (!dict || dict == Py_None)
        return 0;
    if (!PyDict_Check(dict)) {
        PyErr_SetString(PyExc_TypeError, "route must be a dict or None");
        return -1;
    }
    if (PyDict_Size(dict) == 0)
        return 0;
    struct route r;
    route_init(&r);
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    int bad = 0;
    while (!bad && PyDict_Next(dict, &pos, &key, &value)) {
        const char *name = PyUnicode_AsUTF8AndSize(key, NULL);
        bad = !name || (value != Py_None && get_route_key(name, value, &r));
    }
    if (!bad && route_encode(&r, out)) {
        PyErr_NoMemory();
        bad = 1;
    }
    if (!bad && out->len > WIRE_ROUTE_MAX) {
        PyErr_SetString(PyExc_ValueError,
                        "the route (targets, dependencies, label) is above 1 MiB");
        bad = 1;
    }
    route_release(&r);
    return bad ? -1 : 0;
}
