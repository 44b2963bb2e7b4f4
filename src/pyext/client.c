/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The Client type: the Python face of client_io.c and client_results.c. Methods run with the GIL,
 * on any thread; those that wait release it. In a forked child each raises ForkedError, and
 * deallocation leaks what belongs to the parent. */
#include "pyext/client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "pyext/buffer.h"
#include "pyext/pydict.h"
#include "pyext/pyin.h"
#include "pyext/waiter.h"

struct client {
    PyObject ob_base;
    struct module_state *st;
    struct core *core;
    struct holds *holds;
    PyObject *tls, *welcome;
};

static struct client *client_of(PyObject *self)
{
    struct client *c = (struct client *)self;
    if (!c->core) {
        PyErr_SetString(PyExc_RuntimeError, "Client.__init__() has not been called");
        return NULL;
    }
    if (atomic_load(&c->core->io.guard.forked)) {
        PyErr_SetString(
            c->st->forked_error,
            "this client belongs to the process that made it; make a new Client after a fork");
        return NULL;
    }
    holds_drain(c->holds);
    return c;
}

/* ---- life ---- */

static void core_free(struct core *c)
{
    if (!c)
        return;
    io_release(&c->io);
    uplink_release(&c->up);
    core_results_release(c);
    if (c->ev_fd >= 0)
        close(c->ev_fd);
    if (c->connect_fd >= 0)
        close(c->connect_fd);
    free(c->note);
    pthread_mutex_destroy(&c->mu);
    free(c);
}

static int core_new(struct core **ret, uint64_t session, uint64_t keep_max, struct err *e)
{
    struct core *c = calloc(1, sizeof *c);
    if (!c)
        return CV_ENOMEM;
    c->out_tail = &c->out_head;
    c->ev_tail = &c->ev_head;
    c->in_tail = &c->in_head;
    list_init(&c->submits);
    list_init(&c->kept);
    c->session = session;
    c->next_seq = 1;
    c->keep_max = keep_max;
    pthread_mutex_init(&c->mu, NULL);
    c->ev_fd = event_new();
    c->connect_fd = event_new();
    int r = CV_ESYS;
    if (c->ev_fd < 0 || c->connect_fd < 0)
        r = err_sys(e, "cannot make an eventfd");
    else
        r = io_init(&c->io, client_io_end, c, e);
    if (!r) {
        fork_guard_hold(&c->io.guard, c->ev_fd);
        fork_guard_hold(&c->io.guard, c->connect_fd);
        r = client_io_init(c, e);
    }
    if (r)
        core_free(c);
    else
        *ret = c;
    return r;
}

static int parse_tls(PyObject *tls, const struct transport_factory **ret)
{
    if (!tls || tls == Py_None)
        return 0;
    *ret = PyCapsule_GetPointer(tls, "covey.transport_factory");
    return *ret ? 0 : -1;
}

static int new_session(PyObject *o, uint64_t *ret)
{
    struct err e;
    if (o && o != Py_None)
        return arg_u64(o, ret);
    do {
        if (random_bytes(ret, sizeof *ret, &e)) {
            PyErr_SetString(PyExc_OSError, e.text);
            return -1;
        }
    } while (*ret == 0);
    return 0;
}

static int client_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"endpoints", "hello", "tls", "session", "resend_bytes", NULL};
    struct client *c = (struct client *)self;
    PyObject *endpoints, *hello_dict, *tls = NULL, *session_arg = NULL;
    unsigned long long keep = 256ull << 20;
    if (c->core) {
        PyErr_SetString(PyExc_RuntimeError, "a Client is initialized once");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOK:Client", names, &endpoints, &hello_dict,
                                     &tls, &session_arg, &keep))
        return -1;
    const struct transport_factory *factory = NULL;
    uint64_t session = 0;
    struct hello hello;
    char **list;
    uint32_t n;
    if (parse_tls(tls, &factory) || new_session(session_arg, &session) ||
        pydict_hello(hello_dict, &hello))
        return -1;
    if (pydict_strings(endpoints, &list, &n)) {
        hello_release(&hello);
        return -1;
    }
    struct err e = {"out of memory"};
    struct core *core;
    int r = core_new(&core, session, keep, &e);
    if (!r) {
        r = uplink_init(&core->up, &core->io, &client_uplink_ops, core, list, n, factory, &hello);
        if (r) {
            client_io_end(core);
            core_free(core);
        }
    } else {
        hello_release(&hello);
    }
    if (!r && !(c->holds = holds_new()))
        r = CV_ENOMEM;
    if (r) {
        module_raise(c->st, r, e.text);
        return -1;
    }
    c->core = core;
    c->tls = tls && tls != Py_None ? Py_NewRef(tls) : NULL;
    return 0;
}

static PyObject *client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct client *c = (struct client *)alloc(type, 0);
    if (c)
        c->st = module_state_of(type);
    return (PyObject *)c;
}

/* Ends the I/O thread; the GIL is released meanwhile. */
static void shut(struct core *c, uint64_t linger_ns)
{
    struct waiter *due = NULL;
    struct msg *garbage = NULL;
    Py_BEGIN_ALLOW_THREADS;
    pthread_mutex_lock(&c->mu);
    bool first = !c->want_close;
    c->want_close = true;
    c->linger_ns = linger_ns;
    bool started = c->io.running;
    if (first && started)
        loop_wake(c->io.loop);
    if (first && !started) {
        c->link_state = LINK_CLOSED;
        core_lose_all(c, "the client was closed", &due, &garbage);
    }
    pthread_mutex_unlock(&c->mu);
    waiters_wake(due);
    garbage_free(garbage);
    if (first && started)
        io_join(&c->io);
    if (first && !started)
        client_io_end(c);
    Py_END_ALLOW_THREADS;
}

static int client_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct client *c = (struct client *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->welcome);
    Py_VISIT(c->tls);
    return 0;
}

static int client_clear(PyObject *self)
{
    Py_CLEAR(((struct client *)self)->welcome);
    return 0; /* tls is in use until the thread has ended */
}

static void client_dealloc(PyObject *self)
{
    struct client *c = (struct client *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (c->core && !atomic_load(&c->core->io.guard.forked)) {
        shut(c->core, NS_PER_S);
        core_free(c->core);
        holds_free(c->holds);
        Py_CLEAR(c->tls);
    }
    client_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *client_close(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"linger", NULL};
    double linger = 1.0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|d:close", names, &linger))
        return NULL;
    struct client *c = client_of(self);
    if (!c)
        return NULL;
    shut(c->core, linger > 0 ? (uint64_t)(linger * 1e9) : 0);
    holds_drain(c->holds);
    Py_RETURN_NONE;
}

/* ---- connecting ---- */

/* The dict of the WELCOME that on_up() has left; the mutex is free. */
static PyObject *make_welcome(struct client *c)
{
    struct core *core = c->core;
    pthread_mutex_lock(&core->mu);
    struct payload *p = core->welcome ? payload_ref(core->welcome->payload) : NULL;
    char *note = core->note ? strdup(core->note) : NULL;
    pthread_mutex_unlock(&core->mu);
    PyObject *d = NULL;
    if (p && p->nbufs)
        d = PyObject_CallFunction(c->st->json_loads, "y#", (char *)p->bufs[0].data,
                                  (Py_ssize_t)p->bufs[0].len);
    else
        d = PyDict_New();
    payload_unref(p);
    PyObject *text = d ? Py_BuildValue("z", note) : NULL;
    free(note);
    if (d && (!PyDict_Check(d) || !text || PyDict_SetItemString(d, "python", text)))
        Py_CLEAR(d);
    Py_XDECREF(text);
    if (!d && !PyErr_Occurred())
        PyErr_SetString(c->st->link_error, "the controller's WELCOME is not a JSON object");
    return d;
}

static PyObject *client_connect(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    static const char *const names[] = {"timeout"};
    PyObject *a[1];
    struct client *c = client_of(self);
    if (!c || args_bind("connect", args, nargs, kwnames, names, 1, 1, 1, a))
        return NULL;
    double timeout = PyFloat_AsDouble(a[0]);
    if (timeout == -1.0 && PyErr_Occurred())
        return NULL;
    struct core *core = c->core;
    struct err e = {""};
    uint64_t ns = timeout > 0 ? (uint64_t)(timeout * 1e9) : 0;
    pthread_mutex_lock(&core->mu);
    int r = core->want_close || core->link_state == LINK_CLOSED
                ? err_set(&e, CV_ECLOSED, "this client is closed")
                : CV_OK;
    bool again = core->link_state == LINK_OK || core->link_state == LINK_AWAY;
    if (!r && !again) {
        core->want_connect = true;
        core->connect_done = false;
        core->connect_ns = ns;
        event_clear(core->connect_fd);
        if (!core->io.running)
            r = io_start(&core->io, &e);
        loop_wake(core->io.loop);
    }
    pthread_mutex_unlock(&core->mu);
    if (r)
        return module_raise(c->st, r, e.text);
    if (!again && wait_readable(core->connect_fd, clock_mono() + ns + NS_PER_S, false) < 0)
        return NULL;
    pthread_mutex_lock(&core->mu);
    r = again ? CV_OK : core->connect_done ? core->code : CV_ETIMEOUT;
    err_set(&e, r, "%s", core->connect_done ? core->why : "no connection in time");
    pthread_mutex_unlock(&core->mu);
    if (r)
        return module_raise(c->st, r, e.text);
    PyObject *w = make_welcome(c);
    if (!w)
        return NULL;
    PyObject *old = c->welcome;
    c->welcome = Py_NewRef(w);
    Py_XDECREF(old);
    return w;
}

static PyObject *client_link_state(PyObject *self, PyObject *unused)
{
    static const char *const names[] = {"away", "up", "away", "closed"};
    struct client *c = client_of(self);
    if (!c)
        return NULL;
    pthread_mutex_lock(&c->core->mu);
    int state = c->core->link_state;
    double since = c->core->since;
    struct err e;
    err_set(&e, 0, "%s", state == LINK_NEVER ? "not connected yet" : c->core->why);
    pthread_mutex_unlock(&c->core->mu);
    return Py_BuildValue("ssd", names[state], e.text, since);
}

/* ---- sending ---- */

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
        s->queued = true;
        core_queue(core, &s->out);
    }
    pthread_mutex_unlock(&core->mu);
    if (!r)
        return 0;
    module_raise(c->st, r, e.text);
    return -1;
}

static PyObject *submit(struct client *c, struct header *h, const struct buf *route,
                        PyObject *buffers, bool query)
{
    struct payload *p = NULL;
    struct hold *hold = NULL;
    struct submit *s = NULL;
    if (pyin_payload(buffers, c->holds, &p, &hold))
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

static PyObject *client_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    static const char *const names[] = {"kind", "flags", "engine", "count", "route", "buffers"};
    PyObject *a[6];
    uint32_t kind = 0, flags = 0, engine = 0, count = 0;
    struct client *c = client_of(self);
    if (!c || args_bind("submit", args, nargs, kwnames, names, 6, 6, 6, a) ||
        arg_u32(a[0], &kind) || arg_u32(a[1], &flags) || arg_u32(a[2], &engine) ||
        arg_u32(a[3], &count))
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
        ret = submit(c, &h, &route, a[5], false);
    buf_release(&route);
    return ret;
}

static PyObject *client_query(PyObject *self, PyObject *body)
{
    struct client *c = client_of(self);
    PyObject *buffers = c ? PyTuple_Pack(1, body) : NULL;
    if (!buffers)
        return NULL;
    struct header h = {.type = MSG_QUERY, .engine = WIRE_ENGINE_NONE, .count = 1};
    PyObject *ret = submit(c, &h, NULL, buffers, true);
    Py_DECREF(buffers);
    return ret;
}

static PyObject *client_send(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
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
        return submit(c, &h, NULL, a[8], true);
    }
    struct payload *p;
    if (pyin_payload(a[8], NULL, &p, NULL))
        return NULL;
    h.time = clock_wall();
    struct out *o = calloc(1, sizeof *o);
    if (!o || msg_new(&o->msg, &h, NULL, 0, p)) {
        free(o);
        payload_unref(p);
        return PyErr_NoMemory();
    }
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

static PyObject *client_expect(PyObject *self, PyObject *args)
{
    unsigned long long session, seq;
    unsigned int count;
    struct client *c = client_of(self);
    if (!c || !PyArg_ParseTuple(args, "KKI:expect", &session, &seq, &count))
        return NULL;
    struct core *core = c->core;
    for (uint32_t i = 0; i < count; i++) {
        struct submit *s;
        int r = submit_new(&s, 1);
        if (r)
            return PyErr_NoMemory();
        s->session = session;
        s->lo = seq + i;
        pthread_mutex_lock(&core->mu);
        if (!core_slot(core, session, s->lo)) {
            r = core_enter(core, s);
            if (!r)
                s = NULL;
        }
        pthread_mutex_unlock(&core->mu);
        free(s);
        if (r)
            return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* ---- results ---- */

static PyObject *client_forget(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct client *c = client_of(self);
    uint64_t session, seq;
    uint32_t count = 0;
    if (!c)
        return NULL;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "forget(seq, count)");
        return NULL;
    }
    if (arg_id(args[0], c->core->session, &session, &seq) || arg_u32(args[1], &count))
        return NULL;
    struct waiter *due = NULL;
    struct msg *garbage = NULL;
    pthread_mutex_lock(&c->core->mu);
    for (uint32_t i = 0; i < count; i++) {
        struct slot *sl = core_slot(c->core, session, seq + i);
        struct result *r;
        if (!sl)
            continue;
        core_remove(c->core, sl, &r, &due, &garbage);
        result_unref(c->core, r, &garbage);
    }
    pthread_mutex_unlock(&c->core->mu);
    waiters_wake(due);
    garbage_free(garbage);
    Py_RETURN_NONE;
}

static bool is_done(struct core *c, uint64_t session, uint64_t seq)
{
    struct slot *sl = core_slot(c, session, seq);
    return !sl || sl->res;
}

static PyObject *client_done(PyObject *self, PyObject *arg)
{
    struct client *c = client_of(self);
    uint64_t session, seq;
    if (!c || arg_id(arg, c->core->session, &session, &seq))
        return NULL;
    pthread_mutex_lock(&c->core->mu);
    bool done = is_done(c->core, session, seq);
    pthread_mutex_unlock(&c->core->mu);
    return PyBool_FromLong(done);
}

struct id {
    uint64_t session, seq;
};

/* malloc'ed; NULL with an exception set. */
static struct id *get_ids(struct client *c, PyObject *seqs, size_t *ret_n)
{
    Py_ssize_t n = PySequence_Size(seqs);
    if (n < 0)
        return NULL;
    struct id *ids = malloc(((size_t)n + 1) * sizeof *ids);
    if (!ids) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *o = PySequence_GetItem(seqs, i);
        int bad = !o || arg_id(o, c->core->session, &ids[i].session, &ids[i].seq);
        Py_XDECREF(o);
        if (bad) {
            free(ids);
            return NULL;
        }
    }
    *ret_n = (size_t)n;
    return ids;
}

static PyObject *client_done_count(PyObject *self, PyObject *seqs)
{
    size_t n, done = 0;
    struct client *c = client_of(self);
    struct id *ids = c ? get_ids(c, seqs, &n) : NULL;
    if (!ids)
        return NULL;
    pthread_mutex_lock(&c->core->mu);
    for (size_t i = 0; i < n; i++)
        done += is_done(c->core, ids[i].session, ids[i].seq);
    pthread_mutex_unlock(&c->core->mu);
    free(ids);
    return PyLong_FromSize_t(done);
}

/* Enters w at all pending ids; false if enough are done already. */
static bool enlist(struct core *c, struct waiter *w, struct wait_link *links, const struct id *ids,
                   size_t n, size_t want)
{
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        struct slot *sl = core_slot(c, ids[i].session, ids[i].seq);
        list_init(&links[i].node);
        if (!sl || sl->res) {
            done++;
            continue;
        }
        links[i].waiter = w;
        list_add_tail(&sl->waiters, &links[i].node);
    }
    w->left = done < want ? want - done : 0;
    return w->left > 0;
}

/* 1: enough are done; 0: timeout; -1: exception. */
static int wait_for(struct core *c, const struct id *ids, size_t n, size_t want, uint64_t deadline)
{
    struct wait_link *links = malloc((n + 1) * sizeof *links);
    pthread_mutex_lock(&c->mu);
    struct waiter *w = links ? waiter_get(c) : NULL;
    if (!w) {
        pthread_mutex_unlock(&c->mu);
        free(links);
        PyErr_NoMemory();
        return -1;
    }
    bool pending = enlist(c, w, links, ids, n, want);
    int r = 1;
    while (pending && r > 0) {
        pthread_mutex_unlock(&c->mu);
        r = wait_readable(w->fd, deadline, false);
        event_clear(w->fd);
        pthread_mutex_lock(&c->mu);
        pending = w->left > 0;
    }
    for (size_t i = 0; i < n; i++)
        list_del(&links[i].node);
    if (r == 0 && !pending)
        r = 1;
    waiter_put(c, w);
    pthread_mutex_unlock(&c->mu);
    free(links);
    return r;
}

static PyObject *client_wait(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const char *const names[] = {"seqs", "timeout", "n"};
    PyObject *a[3];
    uint64_t deadline, want = UINT64_MAX;
    size_t n;
    struct client *c = client_of(self);
    if (!c || args_bind("wait", args, nargs, kwnames, names, 3, 2, 3, a) ||
        wait_deadline(a[1], &deadline) || (a[2] != Py_None && arg_u64(a[2], &want)))
        return NULL;
    struct id *ids = get_ids(c, a[0], &n);
    if (!ids)
        return NULL;
    int r = wait_for(c->core, ids, n, want < n ? (size_t)want : n, deadline);
    free(ids);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *client_take(PyObject *self, PyObject *arg)
{
    struct client *c = client_of(self);
    uint64_t session, seq;
    if (!c || arg_id(arg, c->core->session, &session, &seq))
        return NULL;
    struct core *core = c->core;
    struct result *r = NULL;
    struct waiter *due = NULL;
    struct msg *garbage = NULL;
    uint64_t submitted = 0;
    struct header h;
    struct payload *p = NULL;
    uint64_t received = 0;
    pthread_mutex_lock(&core->mu);
    struct slot *sl = core_slot(core, session, seq);
    bool found = sl && sl->res;
    if (found) {
        submitted = sl->sub->submitted;
        core_remove(core, sl, &r, &due, &garbage);
        h = r->msg->h;
        p = payload_ref(r->msg->payload);
        received = r->received;
        result_unref(core, r, &garbage);
    }
    pthread_mutex_unlock(&core->mu);
    garbage_free(garbage);
    if (!found)
        Py_RETURN_NONE;
    PyObject *buffers = buffer_tuple(c->st, p);
    payload_unref(p);
    if (!buffers)
        return NULL;
    return Py_BuildValue("(iiIIKKKKNKI)", (int)h.status, (int)h.attempt, h.engine, h.incarnation,
                         (unsigned long long)submitted, (unsigned long long)h.time,
                         (unsigned long long)h.aux, (unsigned long long)received, buffers,
                         (unsigned long long)h.seq, h.count ? h.count : 1);
}

static PyObject *client_flushed(PyObject *self, PyObject *arg)
{
    struct client *c = client_of(self);
    uint64_t session, seq;
    if (!c || arg_id(arg, c->core->session, &session, &seq))
        return NULL;
    return PyBool_FromLong(!holds_has(c->holds, session, seq));
}

/* ---- events ---- */

static int watch_one(struct core *c, const struct id *id)
{
    struct header h = {
        .type = MSG_RESULT, .session = id->session, .seq = id->seq, .engine = WIRE_ENGINE_NONE};
    struct msg *m;
    if (msg_new(&m, &h, NULL, 0, NULL))
        return -1;
    pthread_mutex_lock(&c->mu);
    struct slot *sl = core_slot(c, id->session, id->seq);
    if (sl && !sl->res) {
        if (!sl->watch) {
            sl->watch = m;
            m = NULL;
        }
    } else {
        if (sl)
            m->h.status = sl->res->msg->h.status;
        core_event(c, m);
        m = NULL;
    }
    pthread_mutex_unlock(&c->mu);
    msg_free(m);
    return 0;
}

static PyObject *client_watch(PyObject *self, PyObject *seqs)
{
    size_t n;
    struct client *c = client_of(self);
    struct id *ids = c ? get_ids(c, seqs, &n) : NULL;
    if (!ids)
        return NULL;
    int bad = 0;
    for (size_t i = 0; i < n && !bad; i++)
        bad = watch_one(c->core, &ids[i]);
    free(ids);
    if (bad)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *event_tuple(struct client *c, const struct msg *m)
{
    PyObject *buffers = buffer_tuple(c->st, m->payload);
    if (!buffers)
        return NULL;
    uint64_t time = m->h.type == MSG_RESULT ? 0 : m->h.time;
    return Py_BuildValue("(iiiKKIKN)", (int)m->h.type, (int)m->h.status, (int)m->h.flags,
                         (unsigned long long)m->h.session, (unsigned long long)m->h.seq,
                         m->h.engine, (unsigned long long)time, buffers);
}

static PyObject *client_poll(PyObject *self, PyObject *unused)
{
    struct client *c = client_of(self);
    if (!c)
        return NULL;
    struct core *core = c->core;
    pthread_mutex_lock(&core->mu);
    struct msg *head = core->ev_head;
    core->ev_head = NULL;
    core->ev_tail = &core->ev_head;
    if (head && !core->woken)
        event_clear(core->ev_fd);
    pthread_mutex_unlock(&core->mu);
    PyObject *list = PyList_New(0);
    for (struct msg *m = head; m && list; m = m->next) {
        PyObject *t = event_tuple(c, m);
        if (!t || PyList_Append(list, t))
            Py_CLEAR(list);
        Py_XDECREF(t);
    }
    garbage_free(head);
    return list;
}

static PyObject *client_wait_event(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    static const char *const names[] = {"timeout"};
    PyObject *a[1];
    struct client *c = client_of(self);
    uint64_t deadline;
    if (!c || args_bind("wait_event", args, nargs, kwnames, names, 1, 1, 1, a) ||
        wait_deadline(a[0], &deadline))
        return NULL;
    struct core *core = c->core;
    int r = wait_readable(core->ev_fd, deadline, false);
    if (r < 0)
        return NULL;
    pthread_mutex_lock(&core->mu);
    if (core->woken) {
        core->woken = false;
        if (!core->ev_head)
            event_clear(core->ev_fd);
    }
    pthread_mutex_unlock(&core->mu);
    return PyBool_FromLong(r);
}

static PyObject *client_wake(PyObject *self, PyObject *unused)
{
    struct client *c = client_of(self);
    if (!c)
        return NULL;
    pthread_mutex_lock(&c->core->mu);
    c->core->woken = true;
    event_set(c->core->ev_fd);
    pthread_mutex_unlock(&c->core->mu);
    Py_RETURN_NONE;
}

static PyObject *client_fileno(PyObject *self, PyObject *unused)
{
    struct client *c = client_of(self);
    return c ? PyLong_FromLong(c->core->ev_fd) : NULL;
}

static PyObject *get_session(PyObject *self, void *unused)
{
    struct client *c = (struct client *)self;
    return PyLong_FromUnsignedLongLong(c->core ? c->core->session : 0);
}

static PyObject *get_welcome(PyObject *self, void *unused)
{
    struct client *c = (struct client *)self;
    return Py_NewRef(c->welcome ? c->welcome : Py_None);
}

#define FAST(f) (PyCFunction)(void (*)(void))(f)

static PyMethodDef client_methods[] = {
    {"connect", FAST(client_connect), METH_FASTCALL | METH_KEYWORDS,
     "Connects within so many seconds; returns the controller's welcome."},
    {"submit", FAST(client_submit), METH_FASTCALL | METH_KEYWORDS,
     "Queues a TASK; returns the seq of its first item."},
    {"query", client_query, METH_O, "Queues a QUERY; its REPLY is taken under the returned seq."},
    {"expect", client_expect, METH_VARARGS, "Announces interest in ids of another session."},
    {"send", FAST(client_send), METH_FASTCALL | METH_KEYWORDS, "Queues any other message."},
    {"forget", FAST(client_forget), METH_FASTCALL,
     "The results of these ids are not wanted any more."},
    {"done", client_done, METH_O, "Whether the id is done or unknown."},
    {"done_count", client_done_count, METH_O, "How many of the ids are done or unknown."},
    {"wait", FAST(client_wait), METH_FASTCALL | METH_KEYWORDS,
     "Waits until n (all) of the ids are done."},
    {"take", client_take, METH_O, "Removes and returns a result, or None."},
    {"watch", client_watch, METH_O, "poll() also tells when one of these ids gets done."},
    {"poll", client_poll, METH_NOARGS, "What came beside results, oldest first."},
    {"wait_event", FAST(client_wait_event), METH_FASTCALL | METH_KEYWORDS,
     "Waits until poll() has something, or a wake()."},
    {"wake", client_wake, METH_NOARGS, "Ends a wait_event()."},
    {"fileno", client_fileno, METH_NOARGS,
     "A descriptor that is readable while poll() has something."},
    {"flushed", client_flushed, METH_O, "Whether the memory of this submit is no longer read."},
    {"link_state", client_link_state, METH_NOARGS, "(\"up\"|\"away\"|\"closed\", why, since)."},
    {"close", FAST(client_close), METH_VARARGS | METH_KEYWORDS,
     "Sends what is queued and closes the link."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef client_getset[] = {
    {"session", get_session, NULL, "This client's id space.", NULL},
    {"welcome", get_welcome, NULL, "What the controller said at connect(); None before.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot client_slots[] = {
    {Py_tp_new, client_new},
    {Py_tp_init, client_init},
    {Py_tp_dealloc, client_dealloc},
    {Py_tp_traverse, client_traverse},
    {Py_tp_clear, client_clear},
    {Py_tp_methods, client_methods},
    {Py_tp_getset, client_getset},
    {Py_tp_doc, "A client's link to the controller; see covey/_core.pyi."},
    {0, NULL},
};

PyType_Spec client_spec = {
    .name = "covey._core.Client",
    .basicsize = sizeof(struct client),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = client_slots,
};
