/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a Client sends: tasks, queries and the rest. With the GIL, on any thread; nothing here
 * waits. */
#include "pyext/client_type.h"

#include <stdlib.h>
#include "base/clock.h"
#include "pyext/pydict.h"
#include "pyext/pyin.h"
#include "pyext/waiter.h"

/* Queues s, which becomes the table's. *ret_seq: its first id. */
static int queue_submit(struct client *c, struct submit *s, uint64_t *ret_seq)
{
    struct core *core = c->core;
    int r = CV_OK;
    struct err e = {"out of memory"};
    pthread_mutex_lock(&core->mu);
    if (core->link_state == LINK_CLOSED || core->want_close) {
        r = err_set(&e, CV_ECLOSED, "%s", core->want_close ? "this client is closed" : core->why);
    } else {
        s->session = core->session;
        s->lo = core->next_seq;
        r = core_enter(core, s);
    }
    if (!r) {
        core->next_seq += s->count;
        *ret_seq = s->msg->h.seq = s->lo;
        s->msg->h.session = s->session;
        if (!s->query)
            core_room_take(core, s);
        s->queued = true;
        core_queue(core, &s->out);
    }
    pthread_mutex_unlock(&core->mu);
    if (!r)
        return 0;
    module_raise(c->st, r, e.text);
    return -1;
}

static struct pool *pool_of(struct client *c)
{
    return uplink_pool(&c->core->up);
}

/* A function's stream, one with every earlier one of the same bytes. *ret NULL: it is not of a size
 * to be shared. */
static int head_payload(struct client *c, PyObject *buffer, struct payload **ret)
{
    Py_buffer view;
    int r = CV_OK;
    *ret = NULL;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE))
        return -1;
    if (view.len >= (Py_ssize_t)LINK_BLOB_MIN && view.len <= (Py_ssize_t)HEAD_MAX)
        r = heads_get(c->heads, view.buf, (uint64_t)view.len, ret);
    PyBuffer_Release(&view);
    if (r)
        PyErr_NoMemory();
    return r ? -1 : 0;
}

/* The payload of a call whose first buffer other calls may have as well. */
static int shared_payload(struct client *c, PyObject *buffers, struct payload **ret,
                          struct hold **ret_hold)
{
    struct payload *head = NULL;
    PyObject *first = PySequence_GetItem(buffers, 0), *rest = NULL;
    int r = first ? head_payload(c, first, &head) : -1;
    Py_XDECREF(first);
    if (r)
        return r;
    if (!head)
        return pyin_payload(buffers, c->holds, pool_of(c), ret, ret_hold);
    struct payload *own = NULL;
    rest = PySequence_GetSlice(buffers, 1, PY_SSIZE_T_MAX);
    r = rest ? pyin_payload(rest, c->holds, pool_of(c), &own, ret_hold) : -1;
    if (!r && payload_new_joined(ret, head, own)) {
        payload_unref(own);
        PyErr_NoMemory();
        r = -1;
    }
    Py_XDECREF(rest);
    payload_unref(head);
    return r;
}

static PyObject *submit(struct client *c, struct header *h, const struct buf *route,
                        PyObject *buffers, bool shared, bool query)
{
    struct payload *p = NULL;
    struct hold *hold = NULL;
    struct submit *s = NULL;
    if (shared ? shared_payload(c, buffers, &p, &hold)
               : pyin_payload(buffers, c->holds, query ? NULL : pool_of(c), &p, &hold))
        return NULL;
    h->time = clock_wall();
    int r = submit_new(&s, h->count);
    if (!r)
        r = msg_new(&s->msg, h, route ? route->data : NULL, route ? (uint32_t)route->len : 0,
                    payload_ref(p));
    if (r) {
        free(s);
        payload_unref(p);
        return PyErr_NoMemory();
    }
    s->submitted = h->time;
    s->foreign = hold != NULL;
    s->query = query;
    uint64_t seq;
    uint32_t count = h->count;
    r = queue_submit(c, s, &seq);
    if (r) {
        msg_free(s->msg);
        free(s);
    } else if (hold) {
        hold_name(hold, c->core->session, seq, count);
    }
    payload_unref(p);
    return r ? NULL : PyLong_FromUnsignedLongLong(seq);
}

PyObject *client_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"kind",  "flags",   "engine", "count",
                                        "route", "buffers", "shared"};
    PyObject *a[7];
    uint32_t kind = 0, flags = 0, engine = 0, count = 0, shared = 0;
    struct client *c = client_of(self);
    if (!c || args_bind("submit", args, nargs, kwnames, names, 7, 6, 7, a) ||
        arg_u32(a[0], &kind) || arg_u32(a[1], &flags) || arg_u32(a[2], &engine) ||
        arg_u32(a[3], &count) || arg_u32(a[6], &shared))
        return NULL;
    if (count == 0 || kind > UINT8_MAX || flags > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "submit() of no items, or kind or flags out of range");
        return NULL;
    }
    struct header h = {.type = MSG_TASK,
                       .status = (uint8_t)kind,
                       .flags = (uint16_t)flags,
                       .engine = engine,
                       .count = count};
    struct buf route = {0};
    PyObject *ret = NULL;
    if (!pydict_route(a[4], &route))
        ret = submit(c, &h, &route, a[5], shared > 0, false);
    buf_release(&route);
    return ret;
}

PyObject *client_query(PyObject *self, PyObject *body)
{
    struct client *c = client_of(self);
    PyObject *buffers = c ? PyTuple_Pack(1, body) : NULL;
    if (!buffers)
        return NULL;
    struct header h = {.type = MSG_QUERY, .engine = WIRE_ENGINE_NONE, .count = 1};
    PyObject *ret = submit(c, &h, NULL, buffers, false, true);
    Py_DECREF(buffers);
    return ret;
}

PyObject *client_send(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"type",  "session", "seq", "count",  "engine",
                                        "flags", "status",  "aux", "buffers"};
    PyObject *a[9];
    struct client *c = client_of(self);
    struct header h = {.engine = WIRE_ENGINE_NONE};
    uint32_t type = 0, flags = 0, status = 0;
    if (!c || args_bind("send", args, nargs, kwnames, names, 9, 1, 1, a) || arg_u32(a[0], &type) ||
        arg_u64(a[1], &h.session) || arg_u64(a[2], &h.seq) || arg_u32(a[3], &h.count) ||
        arg_u32(a[4], &h.engine) || arg_u32(a[5], &flags) || arg_u32(a[6], &status) ||
        arg_u64(a[7], &h.aux))
        return NULL;
    h.type = (uint8_t)type;
    h.flags = (uint16_t)flags;
    h.status = (uint8_t)status;
    if (!h.session)
        h.session = c->core->session;
    if (type == MSG_SIGNAL && !h.seq) {
        h.count = 1;
        return submit(c, &h, NULL, a[8], false, true);
    }
    struct payload *p;
    if (pyin_payload(a[8], NULL, NULL, &p, NULL))
        return NULL;
    h.time = clock_wall();
    struct out *o = calloc(1, sizeof *o);
    struct msg *m;
    if (msg_new(&m, &h, NULL, 0, p)) {
        free(o);
        return PyErr_NoMemory();
    }
    if (!o) {
        msg_free(m);
        return PyErr_NoMemory();
    }
    o->msg = m;
    pthread_mutex_lock(&c->core->mu);
    bool closed = c->core->link_state == LINK_CLOSED || c->core->want_close;
    if (!closed)
        core_queue(c->core, o);
    pthread_mutex_unlock(&c->core->mu);
    if (closed) {
        msg_free(o->msg);
        free(o);
        return module_raise(c->st, CV_ECLOSED, "this client's connection is closed");
    }
    return PyLong_FromUnsignedLongLong(h.seq);
}

/* Waits while so many tasks, or bytes of their arguments, have no result: beyond that they would
 * only fill the controller. */
PyObject *client_wait_room(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct client *c = client_of(self);
    uint64_t tasks, bytes;
    if (!c || nargs != 2 || arg_u64(args[0], &tasks) || arg_u64(args[1], &bytes)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "wait_room(tasks, bytes)");
        return NULL;
    }
    struct room *r = &c->core->room;
    while (r->tasks >= tasks || r->bytes >= bytes) {
        pthread_mutex_lock(&c->core->mu);
        bool wait = (r->tasks >= tasks || r->bytes >= bytes) && r->tasks > 0;
        if (wait) {
            r->max_tasks = tasks;
            r->max_bytes = bytes;
            r->wanted = true;
            event_clear(r->fd);
        }
        pthread_mutex_unlock(&c->core->mu);
        if (!wait)
            break;
        if (wait_readable(r->fd, WAIT_FOREVER, false) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* One pending id that was submitted elsewhere. */
static int expect_one(struct core *c, uint64_t session, uint64_t seq)
{
    struct submit *s;
    int r = submit_new(&s, 1);
    if (r)
        return r;
    s->session = session;
    s->lo = seq;
    pthread_mutex_lock(&c->mu);
    bool known = core_slot(c, session, seq);
    if (!known)
        r = core_enter(c, s);
    if (!known && !r && session == c->session && seq >= c->next_seq)
        c->next_seq = seq + 1;
    pthread_mutex_unlock(&c->mu);
    if (known || r)
        free(s);
    return r;
}

PyObject *client_expect(PyObject *self, PyObject *args)
{
    unsigned long long session, seq;
    unsigned int count;
    struct client *c = client_of(self);
    if (!c || !PyArg_ParseTuple(args, "KKI:expect", &session, &seq, &count))
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (expect_one(c->core, session, seq + i))
            return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

PyObject *client_flushed(PyObject *self, PyObject *arg)
{
    struct client *c = client_of(self);
    uint64_t session, seq;
    if (!c || arg_id(arg, c->core->session, &session, &seq))
        return NULL;
    return PyBool_FromLong(!holds_has(c->holds, session, seq));
}
