/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The loop's turns pass between the I/O thread and waiting Python threads; see io.h. Owns loop and
 * thread. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pyext/io.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "pyext/waiter.h"

/* how long the loop is free, at least, before the I/O thread takes it */
#define FREE_NS NS_PER_MS
#define SIGNAL_SLICE_NS (100 * NS_PER_MS) /* a signal just before ppoll() is seen within this */

int io_init(struct io *io, uint64_t look_ns, void (*on_end)(void *arg), void *arg, struct err *e)
{
    io->look_ns = look_ns;
    io->on_end = on_end;
    io->arg = arg;
    int r = fork_guard_add(&io->guard, e);
    if (r)
        return r;
    r = loop_new(&io->loop);
    if (r) {
        fork_guard_del(&io->guard);
        return err_set(e, r, "cannot make an event loop");
    }
    io->look_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (io->look_fd < 0) {
        r = err_sys(e, "cannot make a timerfd");
        loop_free(io->loop);
        io->loop = NULL;
        fork_guard_del(&io->guard);
        return r;
    }
    pthread_mutex_init(&io->mu, NULL);
    fork_guard_hold(&io->guard, loop_fd(io->loop));
    fork_guard_hold(&io->guard, io->look_fd);
    return CV_OK;
}

/* ---- the I/O thread ---- */

/* Lets the I/O thread look when it is `due`. The mutex is held. */
static void look_at(struct io *io, uint64_t due)
{
    struct itimerspec t = {
        .it_value = {(time_t)(due / NS_PER_S), (long)(due % NS_PER_S)},
    };
    io->look_due = due;
    timerfd_settime(io->look_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static void look_now(struct io *io)
{
    look_at(io, 1);
}

/* What a look of the I/O thread finds: true if it should turn the loop now. The mutex is held. */
static bool is_ours(struct io *io)
{
    if (io->holder == IO_LED) {
        io->look_due = 0; /* who leaves says when to look again */
        return false;
    }
    if (io->urgent || io->ended)
        return true;
    uint64_t now = clock_mono();
    if (now >= io->freed + FREE_NS)
        return true;
    if (now >= io->look_due)
        look_at(io, io->freed + io->look_ns);
    return false;
}

/* Sleeps until the I/O thread should turn the loop, and takes it. The mutex is held. */
static void take_over(struct io *io)
{
    while (!is_ours(io)) {
        uint64_t times;
        pthread_mutex_unlock(&io->mu);
        ssize_t n = read(io->look_fd, &times, sizeof times);
        (void)n; /* whatever woke it: it looks */
        pthread_mutex_lock(&io->mu);
    }
    io->holder = IO_THREAD;
    io->urgent = false;
    io->look_due = 0;
}

static void *thread_main(void *arg)
{
    struct io *io = arg;
    pthread_mutex_lock(&io->mu);
    for (;;) {
        take_over(io);
        if (io->ended)
            break;
        pthread_mutex_unlock(&io->mu);
        loop_wake(io->loop); /* for what was queued while nobody turned it */
        loop_run(io->loop);
        pthread_mutex_lock(&io->mu);
        io->holder = IO_FREE;
        io->freed = clock_mono();
    }
    io->holder = IO_THREAD; /* for good */
    pthread_mutex_unlock(&io->mu);
    io->on_end(io->arg);
    return NULL;
}

int io_start(struct io *io, struct err *e)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&io->thread, NULL, thread_main, io);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r)
        return err_set(e, CV_ESYS, "cannot start the I/O thread: %s", strerror(r));
    pthread_setname_np(io->thread, "covey-io");
    io->running = true;
    return CV_OK;
}

void io_wake(struct io *io, bool now)
{
    pthread_mutex_lock(&io->mu);
    bool turning = io->holder != IO_FREE;
    if (!turning && now) {
        io->urgent = true;
        look_now(io);
    }
    pthread_mutex_unlock(&io->mu);
    if (turning)
        loop_wake(io->loop);
}

void io_yield(struct io *io)
{
    pthread_mutex_lock(&io->mu);
    bool ours = io->holder == IO_THREAD;
    pthread_mutex_unlock(&io->mu);
    if (ours)
        loop_stop(io->loop);
}

void io_stop(struct io *io)
{
    pthread_mutex_lock(&io->mu);
    io->ended = true;
    look_now(io);
    pthread_mutex_unlock(&io->mu);
    loop_stop(io->loop);
}

/* ---- leading ---- */

static bool take(struct io *io)
{
    pthread_mutex_lock(&io->mu);
    bool ok = io->running && !io->ended && io->holder == IO_FREE;
    if (ok) {
        io->holder = IO_LED;
        io->urgent = false; /* the first turn sends what was queued */
    }
    pthread_mutex_unlock(&io->mu);
    return ok;
}

static void leave(struct io *io)
{
    pthread_mutex_lock(&io->mu);
    io->holder = IO_FREE;
    io->freed = clock_mono();
    if (io->ended)
        look_now(io);
    else if (!io->look_due)
        look_at(io, io->freed + io->look_ns);
    pthread_mutex_unlock(&io->mu);
}

static int sleep_ns(struct io *io, uint64_t ns)
{
    struct pollfd p = {.fd = loop_fd(io->loop), .events = POLLIN};
    struct timespec ts = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    return ppoll(&p, 1, ns == UINT64_MAX ? NULL : &ts, NULL);
}

/* Turns the loop until done (1), the deadline or a slice has passed (0), or a signal came (-1). */
static int lead(struct io *io, bool (*done)(void *arg), void *arg, uint64_t deadline, bool sliced)
{
    uint64_t slice = sliced ? clock_mono() + SIGNAL_SLICE_NS : UINT64_MAX;
    uint64_t until = deadline < slice ? deadline : slice;
    for (;;) {
        uint64_t idle = loop_turn_once(io->loop);
        if (io->ended || done(arg))
            return 1;
        if (until != UINT64_MAX) {
            uint64_t now = clock_mono();
            if (now >= until)
                return 0;
            if (idle > until - now)
                idle = until - now;
        }
        if (idle && sleep_ns(io, idle) < 0)
            return -1;
    }
}

int io_lead(struct io *io, bool (*done)(void *arg), void *arg, uint64_t deadline,
            bool stop_on_signal)
{
    if (!take(io))
        return IO_CANNOT;
    bool main_thread = gettid() == getpid();
    do {
        int n;
        Py_BEGIN_ALLOW_THREADS;
        n = lead(io, done, arg, deadline, main_thread);
        leave(io); /* a signal's handler may wait for something itself */
        Py_END_ALLOW_THREADS;
        if (n > 0)
            return 1;
        if (main_thread && PyErr_CheckSignals())
            return -1;
        if ((n < 0 && stop_on_signal) || (deadline != WAIT_FOREVER && clock_mono() >= deadline))
            return 0;
    } while (take(io));
    return IO_CANNOT;
}

void io_turn(struct io *io)
{
    if (!take(io))
        return;
    loop_turn_once(io->loop);
    leave(io);
}

/* ---- the end ---- */

void io_join(struct io *io)
{
    if (!io->running)
        return;
    pthread_join(io->thread, NULL);
    io->running = false;
}

void io_release(struct io *io)
{
    if (!io->loop || atomic_load(&io->guard.forked))
        return;
    fork_guard_drop_begin(&io->guard, loop_fd(io->loop));
    loop_free(io->loop);
    io->loop = NULL;
    fork_guard_drop_end();
    fork_guard_drop_begin(&io->guard, io->look_fd);
    close(io->look_fd);
    fork_guard_drop_end();
    fork_guard_del(&io->guard);
    pthread_mutex_destroy(&io->mu);
}
