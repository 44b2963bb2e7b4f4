/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Waiting on descriptors from Python threads; see waiter.h. Owns nothing. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pyext/waiter.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/clock.h"

#define SLICE_NS (100 * NS_PER_MS)
#define SECONDS_MAX 1e9

static int poll_slice(int fd, uint64_t deadline, bool sliced)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timespec ts, *tsp = &ts;
    if (!sliced && deadline == WAIT_FOREVER) {
        tsp = NULL;
    } else {
        uint64_t now = clock_mono(), left = now < deadline ? deadline - now : 0;
        if (sliced && left > SLICE_NS)
            left = SLICE_NS;
        ts.tv_sec = (time_t)(left / NS_PER_S);
        ts.tv_nsec = (long)(left % NS_PER_S);
    }
    return ppoll(&p, 1, tsp, NULL);
}

int wait_readable(int fd, uint64_t deadline, bool stop_on_signal)
{
    bool main_thread = gettid() == getpid();
    for (;;) {
        int n;
        Py_BEGIN_ALLOW_THREADS n = poll_slice(fd, deadline, main_thread);
        if (n < 0 && errno != EINTR)
            n = 1; /* the descriptor is gone: let the caller look */
        Py_END_ALLOW_THREADS if (n > 0) return 1;
        if (main_thread && PyErr_CheckSignals())
            return -1;
        if (n < 0 && stop_on_signal)
            return 0;
        if (deadline != WAIT_FOREVER && clock_mono() >= deadline)
            return 0;
    }
}

uint64_t span_ns(double seconds)
{
    if (!(seconds > 0))
        return 0;
    return seconds < SECONDS_MAX ? (uint64_t)(seconds * 1e9) : (uint64_t)SECONDS_MAX * NS_PER_S;
}

int wait_deadline(void *pyobject, uint64_t *ret)
{
    PyObject *o = pyobject;
    if (!o || o == Py_None) {
        *ret = WAIT_FOREVER;
        return 0;
    }
    double s = PyFloat_AsDouble(o);
    if (s == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(s)) {
        PyErr_SetString(PyExc_ValueError, "timeout is not a number");
        return -1;
    }
    *ret = s > SECONDS_MAX ? WAIT_FOREVER : clock_mono() + span_ns(s);
    return 0;
}

int event_new(void)
{
    return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

void event_set(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void)n; /* EAGAIN: it is set already */
}

void event_clear(int fd)
{
    uint64_t v;
    ssize_t n = read(fd, &v, sizeof v);
    (void)n; /* EAGAIN: it was clear */
}
