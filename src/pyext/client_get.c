/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a Client hands out: results, waiting for them, and events. With the GIL, on any thread; what
 * waits releases it. */
#include "pyext/client_type.h"

#include <stdlib.h>
#include "base/clock.h"
#include "pyext/buffer.h"
#include "pyext/pyin.h"
#include "pyext/waiter.h"

#define LOOK_NS (10 * NS_PER_MS) /* of who waits without a descriptor */

PyObject *client_forget(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
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
    waiters_wake(c->core, due);
    garbage_free(garbage);
    Py_RETURN_NONE;
}

static bool is_done(struct core *c, uint64_t session, uint64_t seq)
{
    struct slot *sl = core_slot(c, session, seq);
    return !sl || sl->res;
}

PyObject *client_done(PyObject *self, PyObject *arg)
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

PyObject *client_done_count(PyObject *self, PyObject *seqs)
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

struct leading {
    struct core *core;
    struct waiter *w;
};

static bool enough(void *arg)
{
    struct leading *l = arg;
    pthread_mutex_lock(&l->core->mu);
    bool yes = l->w->left == 0;
    pthread_mutex_unlock(&l->core->mu);
    return yes;
}

/* As wait_readable(), until w is woken or it is time to look. */
static int wait_due(const struct waiter *w, uint64_t deadline)
{
    uint64_t look = clock_mono() + LOOK_NS;
    if (w->fd >= 0 || deadline <= look)
        return wait_readable(w->fd, deadline, false);
    return wait_readable(w->fd, look, false) < 0 ? -1 : 1;
}

/* Turns the loop or, if another thread does, sleeps until that one has filed enough; returns as
 * io_lead(). The mutex is held on entry and return. */
static int sleep_or_lead(struct core *c, struct waiter *w, uint64_t deadline)
{
    struct leading l = {c, w};
    atomic_store(&w->leads, true);
    pthread_mutex_unlock(&c->mu);
    int r = io_lead(&c->io, enough, &l, deadline, false);
    pthread_mutex_lock(&c->mu);
    atomic_store(&w->leads, false);
    if (r != IO_CANNOT)
        return r;
    if (w->left == 0)
        return 1;
    c->nblocked++;
    pthread_mutex_unlock(&c->mu);
    r = wait_due(w, deadline);
    event_clear(w->fd);
    pthread_mutex_lock(&c->mu);
    c->nblocked--;
    return r;
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
    w->thread = pthread_self();
    while (pending && r > 0) {
        r = sleep_or_lead(c, w, deadline);
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

PyObject *client_wait(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
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

/* The result's record as a tuple; takes a reference of p, which may be NULL. */
static PyObject *record_tuple(struct client *c, const struct header *h, struct payload *p,
                              uint64_t submitted, uint64_t received)
{
    PyObject *buffers = buffer_tuple(c->st, p);
    payload_unref(p);
    if (!buffers)
        return NULL;
    return Py_BuildValue("(iiIIKKKKNKI)", (int)h->status, (int)h->attempt, h->engine,
                         h->incarnation, (unsigned long long)submitted, (unsigned long long)h->time,
                         (unsigned long long)h->aux, (unsigned long long)received, buffers,
                         (unsigned long long)h->seq, h->count ? h->count : 1);
}

/* Appends (what, record) to the list: a signal's handler that raises as soon as the caller's code
 * goes on finds the record there. */
static int keep_record(PyObject *list, PyObject *what, PyObject *record)
{
    PyObject *pair = PyTuple_Pack(2, what, record);
    int r = pair ? PyList_Append(list, pair) : -1;
    Py_XDECREF(pair);
    return r;
}

PyObject *client_take(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct client *c = client_of(self);
    uint64_t session, seq;
    if (!c)
        return NULL;
    if (nargs != 1 && nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "take(seq) or take(seq, into, what)");
        return NULL;
    }
    if (arg_id(args[0], c->core->session, &session, &seq))
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
    PyObject *record = record_tuple(c, &h, p, submitted, received);
    if (record && nargs == 3 && keep_record(args[1], args[2], record))
        Py_CLEAR(record);
    return record;
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

PyObject *client_watch(PyObject *self, PyObject *seqs)
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

/* All of the chain as tuples, in a list. */
static PyObject *event_list(struct client *c, const struct msg *head)
{
    PyObject *list = PyList_New(0);
    for (const struct msg *m = head; m && list; m = m->next) {
        PyObject *t = event_tuple(c, m);
        if (!t || PyList_Append(list, t))
            Py_CLEAR(list);
        Py_XDECREF(t);
    }
    return list;
}

PyObject *client_poll(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct client *c = client_of(self);
    if (!c)
        return NULL;
    if (nargs > 1) {
        PyErr_SetString(PyExc_TypeError, "poll(into=…)");
        return NULL;
    }
    struct core *core = c->core;
    pthread_mutex_lock(&core->mu);
    struct msg *head = core->ev_head;
    core->ev_head = NULL;
    core->ev_tail = &core->ev_head;
    core->ev_bytes = 0;
    core->ev_cut = false;
    if (head && !core->woken)
        event_clear(core->ev_fd);
    pthread_mutex_unlock(&core->mu);
    PyObject *list = event_list(c, head);
    garbage_free(head);
    if (!list || nargs == 0 || !PyList_Size(list))
        return list;
    PyObject *r = PyObject_CallMethod(args[0], "extend", "O", list);
    Py_DECREF(list);
    return r;
}

PyObject *client_wait_event(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
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

PyObject *client_wake(PyObject *self, PyObject *unused)
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

PyObject *client_fileno(PyObject *self, PyObject *unused)
{
    struct client *c = client_of(self);
    return c ? PyLong_FromLong(c->core->ev_fd) : NULL;
}
