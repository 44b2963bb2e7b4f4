/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The Client type: its life and connecting. Methods run with the GIL, on any thread; those that
 * wait release it. In a forked child each raises ForkedError, and deallocation leaks what belongs
 * to the parent. */
#include "pyext/client_type.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "pyext/pydict.h"
#include "pyext/pyin.h"
#include "pyext/waiter.h"

#define LOOK_NS (2 * NS_PER_MS) /* what is submitted and not waited for leaves as late */

struct client *client_of(PyObject *self)
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
    if (c->room.fd >= 0)
        close(c->room.fd);
    free(c->note);
    free(c->file);
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
    c->peer_fd = -1;
    c->keep_max = keep_max;
    pthread_mutex_init(&c->mu, NULL);
    c->ev_fd = event_new();
    c->connect_fd = event_new();
    c->room.fd = event_new();
    int r = CV_ESYS;
    if (c->ev_fd < 0 || c->connect_fd < 0 || c->room.fd < 0)
        r = err_sys(e, "cannot make an eventfd");
    else
        r = io_init(&c->io, LOOK_NS, client_io_end, c, e);
    if (!r) {
        fork_guard_hold(&c->io.guard, c->ev_fd);
        fork_guard_hold(&c->io.guard, c->connect_fd);
        fork_guard_hold(&c->io.guard, c->room.fd);
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
    static char *names[] = {"endpoints",    "hello",       "tls", "session",
                            "resend_bytes", "memfd_bytes", NULL};
    struct client *c = (struct client *)self;
    PyObject *endpoints, *hello_dict, *tls = NULL, *session_arg = NULL;
    unsigned long long keep = 256ull << 20, memfds = UINT64_MAX;
    if (c->core) {
        PyErr_SetString(PyExc_RuntimeError, "a Client is initialized once");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOKK:Client", names, &endpoints,
                                     &hello_dict, &tls, &session_arg, &keep, &memfds))
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
    struct core *core = NULL;
    struct holds *holds = holds_new();
    struct heads *heads = NULL;
    int r = holds ? heads_new(&heads) : CV_ENOMEM;
    if (!r)
        r = core_new(&core, session, keep, &e);
    if (r)
        goto fail;
    r = uplink_init(&core->up, &core->io, &client_uplink_ops, core, list, n, factory, &hello,
                    memfds);
    if (r) {
        client_io_end(core);
        core_free(core); /* with list and hello */
        list = NULL;
        goto fail;
    }
    c->core = core;
    c->holds = holds;
    c->heads = heads;
    c->tls = tls && tls != Py_None ? Py_NewRef(tls) : NULL;
    return 0;
fail:
    for (uint32_t i = 0; list && i < n; i++)
        free(list[i]);
    free(list);
    hello_release(&hello);
    holds_free(holds);
    heads_free(heads);
    module_raise(c->st, r, e.text);
    return -1;
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
        io_wake(&c->io, true);
    if (first && !started) {
        c->link_state = LINK_CLOSED;
        core_lose_all(c, "the client was closed", &due, &garbage);
    }
    pthread_mutex_unlock(&c->mu);
    waiters_wake(c, due);
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
        heads_free(c->heads);
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
    shut(c->core, span_ns(linger));
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
    uint64_t ns = span_ns(timeout);
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
        io_wake(&core->io, true);
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

static PyObject *client_ends_with(PyObject *self, PyObject *arg)
{
    struct client *c = client_of(self);
    PyObject *path = NULL;
    if (!c || !PyUnicode_FSConverter(arg, &path))
        return NULL;
    char *file = strdup(PyBytes_AsString(path));
    Py_DECREF(path);
    if (!file)
        return PyErr_NoMemory();
    pthread_mutex_lock(&c->core->mu);
    free(c->core->file);
    c->core->file = file;
    pthread_mutex_unlock(&c->core->mu);
    Py_RETURN_NONE;
}

static PyObject *client_gives_up(PyObject *self, PyObject *arg)
{
    struct client *c = client_of(self);
    double seconds = PyFloat_AsDouble(arg);
    if (!c || (seconds == -1 && PyErr_Occurred()))
        return NULL;
    if (!(seconds > 0 && seconds < 1e9)) {
        PyErr_SetString(PyExc_ValueError, "not a number of seconds above 0");
        return NULL;
    }
    pthread_mutex_lock(&c->core->mu);
    c->core->grace_ns = (uint64_t)(seconds * (double)NS_PER_S);
    pthread_mutex_unlock(&c->core->mu);
    Py_RETURN_NONE;
}

static PyObject *client_peer(PyObject *self, PyObject *arg)
{
    struct client *c = client_of(self);
    int given = PyObject_AsFileDescriptor(arg);
    if (!c || given < 0)
        return NULL;
    int fd = fcntl(given, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    fork_guard_hold(&c->core->io.guard, fd);
    c->core->peer_fd = fd;
    Py_RETURN_NONE;
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
    {"wait_room", FAST(client_wait_room), METH_FASTCALL,
     "Waits while so many tasks or bytes of arguments have no result."},
    {"query", client_query, METH_O, "Queues a QUERY; its REPLY is taken under the returned seq."},
    {"expect", client_expect, METH_VARARGS, "Announces interest in ids of another session."},
    {"send", FAST(client_send), METH_FASTCALL | METH_KEYWORDS, "Queues any other message."},
    {"forget", FAST(client_forget), METH_FASTCALL,
     "The results of these ids are not wanted any more."},
    {"ends_with", client_ends_with, METH_O, "A lost link is given up when this file is gone, too."},
    {"gives_up", client_gives_up, METH_O, "A link that is lost for so many seconds is given up."},
    {"peer", client_peer, METH_O,
     "The controller's pidfd, if it is on this machine; once, before connect()."},
    {"done", client_done, METH_O, "Whether the id is done or unknown."},
    {"done_count", client_done_count, METH_O, "How many of the ids are done or unknown."},
    {"wait", FAST(client_wait), METH_FASTCALL | METH_KEYWORDS,
     "Waits until n (all) of the ids are done."},
    {"take", FAST(client_take), METH_FASTCALL, "Removes and returns a result, or None."},
    {"watch", client_watch, METH_O, "poll() also tells when one of these ids gets done."},
    {"poll", FAST(client_poll), METH_FASTCALL, "What came beside results, oldest first."},
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
