/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The Engine type: the Python face of engine_io.c, engine_queue.c and capture.c. The main thread of
 * an engine process makes it and runs the tasks; output() and comm() may come from any thread. In a
 * forked child (multiprocessing in a task) every method raises ForkedError. */
#include "pyext/engine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "pyext/buffer.h"
#include "pyext/pydict.h"
#include "pyext/pyin.h"
#include "pyext/waiter.h"

#define LOOK_NS (5 * NS_PER_MS)    /* a cancel, or output, may come as late in a task */
#define RESULTS_MAX 16             /* that wait in the outbox while there is more to run, */
#define RESULTS_NS (200 * 1000ull) /* and how long */

struct engine {
    PyObject ob_base;
    struct module_state *st;
    struct engine_core *core;
};

static struct engine_core *core_of(PyObject *self)
{
    struct engine *e = (struct engine *)self;
    if (!e->core) {
        PyErr_SetString(PyExc_RuntimeError, "Engine.__init__() has not been called");
        return NULL;
    }
    if (atomic_load(&e->core->io.guard.forked)) {
        PyErr_SetString(
            e->st->forked_error,
            "this engine belongs to the process that made it, not to its forked children");
        return NULL;
    }
    return e->core;
}

static struct module_state *state_of(PyObject *self)
{
    return ((struct engine *)self)->st;
}

/* ---- life ---- */

static void core_free(struct engine_core *c)
{
    if (!c)
        return;
    if (c->io.loop) {
        capture_release(c);
        io_release(&c->io);
    }
    uplink_release(&c->up);
    engine_queue_release(c);
    engine_outbox_release(c);
    if (c->ready_fd >= 0)
        close(c->ready_fd);
    if (c->connect_fd >= 0)
        close(c->connect_fd);
    if (c->page_mapped)
        munmap(c->page, sizeof *c->page);
    else
        free(c->page);
    pthread_mutex_destroy(&c->mu);
    free(c);
}

static int map_page(struct engine_core *c, int fd, struct err *e)
{
    if (fd < 0) {
        c->page = calloc(1, sizeof *c->page);
        if (!c->page)
            return err_set(e, CV_ENOMEM, "out of memory");
    } else {
        void *p = mmap(NULL, sizeof *c->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            return err_sys(e, "cannot map the status page");
        c->page = p;
        c->page_mapped = true;
    }
    c->page->magic = STATUSPAGE_MAGIC;
    atomic_store(&c->page->number, WIRE_ENGINE_NONE);
    return CV_OK;
}

static int core_new(struct engine_core **ret, int status_fd, const int fds[3], struct err *e)
{
    struct engine_core *c = calloc(1, sizeof *c);
    if (!c)
        return CV_ENOMEM;
    list_init(&c->queue);
    list_init(&c->open);
    c->comm_tail = &c->comm_head;
    c->unacked_tail = &c->unacked_head;
    c->number = WIRE_ENGINE_NONE;
    c->main_thread = pthread_self();
    c->parent = getppid();
    pthread_mutex_init(&c->mu, NULL);
    c->ready_fd = event_new();
    c->connect_fd = event_new();
    int r = c->ready_fd < 0 || c->connect_fd < 0 ? err_sys(e, "cannot make an eventfd")
                                                 : map_page(c, status_fd, e);
    if (!r)
        r = io_init(&c->io, LOOK_NS, engine_io_end, c, e);
    if (!r) {
        fork_guard_hold(&c->io.guard, c->ready_fd);
        fork_guard_hold(&c->io.guard, c->connect_fd);
        r = capture_init(c, fds, e);
        if (!r)
            r = engine_io_init(c, e);
        if (r)
            engine_io_end(c);
    }
    if (r)
        core_free(c);
    else
        *ret = c;
    return r;
}

static int engine_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"endpoint",  "hello",     "uid",    "status_fd",
                            "stdout_fd", "stderr_fd", "log_fd", NULL};
    struct engine *en = (struct engine *)self;
    const char *endpoint;
    PyObject *hello_dict;
    long uid = (long)geteuid();
    int status_fd = -1, fds[3] = {-1, -1, -1};
    if (en->core) {
        PyErr_SetString(PyExc_RuntimeError, "an Engine is initialized once");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO|$liiii:Engine", names, &endpoint,
                                     &hello_dict, &uid, &status_fd, &fds[0], &fds[1], &fds[2]))
        return -1;
    if (uid != (long)geteuid()) {
        PyErr_Format(en->st->link_error,
                     "this engine was started for user %ld and runs as user %ld", uid,
                     (long)geteuid());
        return -1;
    }
    struct hello hello;
    if (pydict_hello(hello_dict, &hello))
        return -1;
    struct err e = {"out of memory"};
    struct engine_core *core = NULL;
    char **list = calloc(1, sizeof *list);
    int r = list && (list[0] = strdup(endpoint))
                ? random_bytes(&hello.session, sizeof hello.session, &e)
                : CV_ENOMEM;
    if (!r)
        r = core_new(&core, status_fd, fds, &e);
    if (r) {
        if (list)
            free(list[0]);
        free(list);
        hello_release(&hello);
    } else {
        r = uplink_init(&core->up, &core->io, &engine_uplink_ops, core, list, 1, NULL, &hello,
                        UINT64_MAX);
        core->up.patient = true;
        if (r) {
            engine_io_end(core);
            core_free(core);
        }
    }
    if (r) {
        module_raise(en->st, r, e.text);
        return -1;
    }
    en->core = core;
    return 0;
}

static PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct engine *e = (struct engine *)alloc(type, 0);
    if (e)
        e->st = module_state_of(type);
    return (PyObject *)e;
}

static void shut(struct engine_core *c, uint64_t linger_ns)
{
    Py_BEGIN_ALLOW_THREADS;
    pthread_mutex_lock(&c->mu);
    bool first = !c->want_close, started = c->io.running;
    c->want_close = true;
    c->linger_ns = linger_ns;
    if (first && started)
        io_wake(&c->io, true);
    pthread_mutex_unlock(&c->mu);
    if (first && started) {
        atomic_store(&c->page->state, 3);
        io_join(&c->io);
    } else if (first) {
        engine_io_end(c);
    }
    Py_END_ALLOW_THREADS;
}

static void engine_dealloc(PyObject *self)
{
    struct engine *e = (struct engine *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (e->core && !atomic_load(&e->core->io.guard.forked)) {
        shut(e->core, NS_PER_S);
        core_free(e->core);
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *engine_close(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    static const char *const names[] = {"linger"};
    PyObject *a[1];
    struct engine_core *c = core_of(self);
    if (!c || args_bind("close", args, nargs, kwnames, names, 1, 0, 1, a))
        return NULL;
    double linger = a[0] ? PyFloat_AsDouble(a[0]) : 1.0;
    if (linger == -1.0 && PyErr_Occurred())
        return NULL;
    shut(c, span_ns(linger));
    Py_RETURN_NONE;
}

static PyObject *engine_connect(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    static const char *const names[] = {"timeout"};
    PyObject *a[1];
    struct engine_core *c = core_of(self);
    if (!c || args_bind("connect", args, nargs, kwnames, names, 1, 1, 1, a))
        return NULL;
    double timeout = PyFloat_AsDouble(a[0]);
    if (timeout == -1.0 && PyErr_Occurred())
        return NULL;
    uint64_t ns = span_ns(timeout);
    struct err e = {""};
    setvbuf(stdout, NULL, _IOLBF, 0);
    pthread_mutex_lock(&c->mu);
    int r = c->want_close || c->gone ? err_set(&e, CV_ECLOSED, "this engine is closed") : CV_OK;
    if (!r) {
        c->want_connect = true;
        c->connect_done = false;
        c->connect_ns = ns;
        event_clear(c->connect_fd);
        if (!c->io.running)
            r = io_start(&c->io, &e);
        io_wake(&c->io, true);
    }
    pthread_mutex_unlock(&c->mu);
    if (r)
        return module_raise(state_of(self), r, e.text);
    if (wait_readable(c->connect_fd, clock_mono() + ns + NS_PER_S, false) < 0)
        return NULL;
    pthread_mutex_lock(&c->mu);
    r = c->connect_done ? c->code : CV_ETIMEOUT;
    err_set(&e, r, "%s", c->connect_done ? c->why : "no connection in time");
    uint32_t number = c->number, incarnation = c->incarnation;
    pthread_mutex_unlock(&c->mu);
    if (r)
        return module_raise(state_of(self), r, e.text);
    return Py_BuildValue("{sIsI}", "number", number, "incarnation", incarnation);
}

/* ---- tasks ---- */

static PyObject *job_tuple(struct module_state *st, const struct msg *m)
{
    PyObject *buffers = buffer_tuple(st, m->payload);
    if (!buffers)
        return NULL;
    return Py_BuildValue("(iiiKKIiKN)", (int)m->h.type, (int)m->h.status, (int)m->h.flags,
                         (unsigned long long)m->h.session, (unsigned long long)m->h.seq, m->h.count,
                         (int)m->h.attempt, (unsigned long long)m->h.aux, buffers);
}

/* The next message for the main thread; the caller frees it. COMM goes first: widgets should not
 * wait for all that is queued. The BYE stays, so that whoever asks again hears it again. */
static struct msg *pop(struct engine_core *c)
{
    struct msg *m = NULL;
    pthread_mutex_lock(&c->mu);
    if (c->bye) {
        if (msg_new(&m, &c->bye->h, NULL, 0, payload_ref(c->bye->payload)))
            m = NULL;
    } else if (c->comm_head) {
        m = c->comm_head;
        c->comm_head = m->next;
        if (!c->comm_head)
            c->comm_tail = &c->comm_head;
        engine_ready_update(c);
    } else {
        m = engine_dequeue(c);
    }
    pthread_mutex_unlock(&c->mu);
    return m;
}

static bool has_work(void *arg)
{
    struct engine_core *c = arg;
    pthread_mutex_lock(&c->mu);
    bool ready = c->ready;
    pthread_mutex_unlock(&c->mu);
    return ready;
}

/* Turns the loop, or sleeps while the I/O thread does, until there is work; as wait_readable(). */
static int sleep_or_lead(struct engine_core *c, uint64_t deadline)
{
    int r = io_lead(&c->io, has_work, c, deadline, true);
    pthread_mutex_lock(&c->mu);
    engine_ask_fd(c, r == IO_CANNOT);
    if (r != IO_CANNOT) {
        pthread_mutex_unlock(&c->mu);
        return r;
    }
    c->waiting = !c->ready;
    pthread_mutex_unlock(&c->mu);
    r = wait_readable(c->ready_fd, deadline, true);
    pthread_mutex_lock(&c->mu);
    c->waiting = false;
    pthread_mutex_unlock(&c->mu);
    return r;
}

/* While tasks are queued here and nobody turns the loop, results leave in small batches, so that
 * the next tasks come before the queue is empty. */
static bool results_are_due(struct engine_core *c)
{
    pthread_mutex_lock(&c->mu);
    bool due = c->nout >= RESULTS_MAX || (c->nout && clock_mono() - c->out_since >= RESULTS_NS);
    pthread_mutex_unlock(&c->mu);
    return due;
}

static PyObject *engine_next(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const char *const names[] = {"timeout", "into"};
    PyObject *a[2];
    uint64_t deadline;
    struct engine_core *c = core_of(self);
    if (!c || args_bind("next", args, nargs, kwnames, names, 2, 1, 2, a) ||
        wait_deadline(a[0], &deadline))
        return NULL;
    struct msg *m;
    while (!(m = pop(c))) {
        int r = sleep_or_lead(c, deadline);
        if (r < 0)
            return NULL;
        if (r == 0)
            Py_RETURN_NONE;
    }
    if (results_are_due(c))
        io_turn(&c->io);
    PyObject *t = job_tuple(state_of(self), m);
    msg_free(m);
    if (!t || !a[1])
        return t;
    PyObject *r = PyObject_CallMethod(a[1], "append", "(O)", t);
    Py_DECREF(t);
    return r;
}

static PyObject *engine_begin(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    static const char *const names[] = {"session", "seq", "attempt"};
    PyObject *a[3];
    uint64_t session = 0, seq = 0;
    uint32_t attempt = 0;
    struct engine_core *c = core_of(self);
    if (!c || args_bind("begin", args, nargs, kwnames, names, 3, 3, 3, a) ||
        arg_u64(a[0], &session) || arg_u64(a[1], &seq) || arg_u32(a[2], &attempt))
        return NULL;
    if (PyErr_CheckSignals()) /* what was sent for an earlier item finds the window closed */
        return NULL;
    pthread_mutex_lock(&c->mu);
    bool may = engine_may_begin(c, session, seq, (uint16_t)attempt);
    int r = may ? engine_begun(c, session, seq, (uint16_t)attempt) : CV_OK;
    pthread_mutex_unlock(&c->mu);
    return r ? PyErr_NoMemory() : PyBool_FromLong(may);
}

static PyObject *engine_end(PyObject *self, PyObject *unused)
{
    struct engine_core *c = core_of(self);
    if (!c)
        return NULL;
    pthread_mutex_lock(&c->mu);
    c->running = false;
    c->ended = clock_mono() + c->wall_ahead; /* somebody may have set the clock meanwhile */
    pthread_mutex_unlock(&c->mu);
    /* Never long, as the I/O thread empties the pipes without the GIL: releasing it here would cost
     * 5 ms where another Python thread is busy. */
    fflush(stdout);
    capture_drain(c, true);
    Py_RETURN_NONE;
}

/* Queues the RESULT of the `count` items before the last `skip` begun ones. The mutex is held. */
static int queue_result(struct engine_core *c, uint8_t status, uint32_t count, uint32_t skip,
                        struct payload *p_take)
{
    uint32_t first = c->nbegun - skip - count;
    struct header h = {.type = MSG_RESULT,
                       .status = status,
                       .session = c->session,
                       .seq = c->begun[first].seq,
                       .attempt = c->attempt,
                       .engine = c->number,
                       .incarnation = c->incarnation,
                       .time = c->begun[first].started,
                       .aux = c->ended};
    h.count = (uint32_t)(c->begun[first + count - 1].seq - h.seq + 1);
    int r = engine_send(c, &h, p_take);
    if (r)
        return r;
    memmove(c->begun + first, c->begun + first + count, skip * sizeof *c->begun);
    c->nbegun = first + skip;
    uint32_t counted = c->ncounted > first ? c->ncounted - first : 0;
    counted = counted < count ? counted : count;
    c->ncounted -= counted;
    if (status != RESULT_ABORTED) /* it did not run */
        atomic_fetch_add_explicit(&c->page->tasks_done, count - counted, memory_order_relaxed);
    if (c->nbegun == 0) {
        c->running = false;
        atomic_store_explicit(&c->page->state, 1, memory_order_release);
    }
    return CV_OK;
}

static PyObject *engine_result(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    static const char *const names[] = {"status", "buffers", "count", "skip"};
    PyObject *a[4];
    uint32_t status = 0, count = 1, skip = 0;
    struct payload *p;
    struct engine_core *c = core_of(self);
    if (!c || args_bind("result", args, nargs, kwnames, names, 4, 2, 4, a) ||
        arg_u32(a[0], &status) || arg_u32(a[2], &count) || arg_u32(a[3], &skip))
        return NULL;
    if (status >= RESULT_STATUS_END || count == 0) {
        PyErr_SetString(PyExc_ValueError, "result() of no items, or with an unknown status");
        return NULL;
    }
    if (pyin_payload(a[1], NULL, uplink_pool(&c->up), &p, NULL))
        return NULL;
    pthread_mutex_lock(&c->mu);
    bool fits = (uint64_t)count + skip <= c->nbegun;
    int r = fits ? queue_result(c, (uint8_t)status, count, skip, p) : CV_OK;
    pthread_mutex_unlock(&c->mu);
    if (!fits) {
        payload_unref(p);
        PyErr_SetString(PyExc_ValueError, "result() of more items than have begun");
        return NULL;
    }
    if (r)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *engine_begun_count(PyObject *self, PyObject *unused)
{
    struct engine_core *c = core_of(self);
    if (!c)
        return NULL;
    pthread_mutex_lock(&c->mu);
    uint32_t n = c->nbegun;
    pthread_mutex_unlock(&c->mu);
    return PyLong_FromUnsignedLong(n);
}

static PyObject *engine_interrupted(PyObject *self, PyObject *unused)
{
    struct engine_core *c = core_of(self);
    if (!c)
        return NULL;
    pthread_mutex_lock(&c->mu);
    bool ours = !c->wanted || (c->wanted_session == c->session && c->wanted_seq == c->last_seq);
    bool raise = c->running && ours;
    c->wanted = false;
    pthread_mutex_unlock(&c->mu);
    return PyBool_FromLong(raise);
}

/* ---- output ---- */

/* The message kinds that carry buffers of their own. Drained pipes come before. */
static int send_object(struct engine_core *c, struct header *h, PyObject *buffers)
{
    struct payload *p;
    if (pyin_payload(buffers, NULL, NULL, &p, NULL))
        return -1;
    capture_drain(c, true);
    int r = CV_OK;
    pthread_mutex_lock(&c->mu);
    if (h->type == MSG_OUTPUT) {
        h->session = c->session;
        h->seq = c->last_seq;
        h->flags = c->nbegun ? 0 : MSG_F_LATE;
    }
    h->engine = c->number;
    h->incarnation = c->incarnation;
    h->attempt = c->attempt;
    h->time = clock_wall();
    h->count = 1;
    if (h->type == MSG_COMM || (c->has_last && engine_takes_output(c))) {
        c->out_text += h->type == MSG_OUTPUT && p ? p->total : 0;
        r = engine_send(c, h, p);
        p = NULL;
    }
    pthread_mutex_unlock(&c->mu);
    payload_unref(p);
    if (r)
        PyErr_NoMemory();
    return r ? -1 : 0;
}

/* Text of a stream; without buffers, a flush. */
static int send_stream(struct engine_core *c, int kind, PyObject *buffers)
{
    struct payload *p;
    if (pyin_payload(buffers, NULL, NULL, &p, NULL))
        return -1;
    if (!p || !p->nbufs)
        capture_flush(c);
    for (uint32_t i = 0; p && i < p->nbufs; i++)
        capture_text(c, kind, p->bufs[i].data, p->bufs[i].len);
    payload_unref(p);
    return 0;
}

static PyObject *engine_output(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    static const char *const names[] = {"kind", "buffers"};
    PyObject *a[2];
    uint32_t kind = 0;
    struct engine_core *c = core_of(self);
    if (!c || args_bind("output", args, nargs, kwnames, names, 2, 2, 2, a) || arg_u32(a[0], &kind))
        return NULL;
    struct header h = {.type = MSG_OUTPUT, .status = (uint8_t)kind};
    int r;
    if (kind == OUTPUT_STDOUT || kind == OUTPUT_STDERR)
        r = send_stream(c, (int)kind, a[1]);
    else
        r = send_object(c, &h, a[1]);
    if (r)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *engine_comm(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const char *const names[] = {"session", "seq", "buffers"};
    PyObject *a[3];
    struct header h = {.type = MSG_COMM};
    struct engine_core *c = core_of(self);
    if (!c || args_bind("comm", args, nargs, kwnames, names, 3, 3, 3, a) ||
        arg_u64(a[0], &h.session) || arg_u64(a[1], &h.seq) || send_object(c, &h, a[2]))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *engine_fileno(PyObject *self, PyObject *unused)
{
    struct engine_core *c = core_of(self);
    if (!c)
        return NULL;
    pthread_mutex_lock(&c->mu);
    engine_ask_fd(c, true);
    pthread_mutex_unlock(&c->mu);
    return PyLong_FromLong(c->ready_fd);
}

static PyObject *get_number(PyObject *self, void *unused)
{
    struct engine *e = (struct engine *)self;
    return PyLong_FromUnsignedLong(e->core ? e->core->number : WIRE_ENGINE_NONE);
}

static PyObject *get_incarnation(PyObject *self, void *unused)
{
    struct engine *e = (struct engine *)self;
    return PyLong_FromUnsignedLong(e->core ? e->core->incarnation : 0);
}

#define FAST(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef engine_methods[] = {
    {"connect", FAST(engine_connect),
     "Connects and registers; returns {\"number\", \"incarnation\"}."},
    {"next", FAST(engine_next),
     "The next thing to do, appended to `into` if given, or None on timeout or after a signal."},
    {"begin", FAST(engine_begin), "User code of this item starts now; False: skip it."},
    {"begun", engine_begun_count, METH_NOARGS, "How many items have begun and have no RESULT."},
    {"end", engine_end, METH_NOARGS, "User code has ended; what it wrote is sent."},
    {"result", FAST(engine_result), "Sends the RESULT of the last items begun."},
    {"output", FAST(engine_output), "OUTPUT of the current or last task."},
    {"comm", FAST(engine_comm), "A COMM message to the client that caused it."},
    {"interrupted", engine_interrupted, METH_NOARGS, "For the SIGINT handler: raise?"},
    {"fileno", engine_fileno, METH_NOARGS, "Readable while next() has something."},
    {"close", FAST(engine_close), "Sends what is queued, for at most linger seconds, and closes."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef engine_getset[] = {
    {"number", get_number, NULL, "The engine's number; ENGINE_NONE before connect().", NULL},
    {"incarnation", get_incarnation, NULL, "How often this number has been given, from 1.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_new, engine_new},
    {Py_tp_init, engine_init},
    {Py_tp_dealloc, engine_dealloc},
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, engine_getset},
    {Py_tp_doc, "An engine's link; see covey/_core.pyi."},
    {0, NULL},
};

PyType_Spec engine_spec = {
    .name = "covey._core.Engine",
    .basicsize = sizeof(struct engine),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = engine_slots,
};
