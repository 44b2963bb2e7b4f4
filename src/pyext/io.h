/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who turns the loop of a Client or Engine. One thread at a time:
 *
 *   - a Python thread that waits turns it itself ("leads"), so what it waits for reaches it without
 *     a hand-over from another thread;
 *   - while no thread waits, the I/O thread does, so that cancels, beats and output go on. All
 *     signals are blocked in it.
 *
 * Neither touches a PyObject or takes the GIL while it turns. A thread that stops leading wakes
 * nobody: it sets a timer, for which the I/O thread sleeps, if it is not set. (Stopping it costs as
 * much as that wake-up.) Then the I/O thread takes over if no leader came for a millisecond, and
 * yields again when it has woken somebody who will lead next time (io_yield). Messages that were
 * queued meanwhile wait for either, or for io_wake(…, true). */
#ifndef COVEY_PYEXT_IO_H
#define COVEY_PYEXT_IO_H

#include <pthread.h>
#include <stdbool.h>
#include "net/loop.h"
#include "pyext/fork.h"

enum io_holder { IO_FREE, IO_THREAD, IO_LED };

struct io {
    struct loop *loop;
    pthread_t thread;
    atomic_bool running;
    struct fork_guard guard;
    void (*on_end)(void *arg); /* on the thread, after the loop: frees what lives on the loop */
    void *arg;

    pthread_mutex_t mu; /* the innermost lock: nothing is locked or called under it */
    enum io_holder holder;
    uint64_t freed;    /* when it became free */
    int look_fd;       /* timerfd: when the I/O thread looks at these */
    uint64_t look_due; /* it is set for then; 0: it is not */
    uint64_t look_ns;  /* how long after a leader left */
    bool urgent;       /* something has to be sent now */
    bool ended;
};

/* look_ns: how long the loop may be free before the I/O thread takes it, at most. */
int io_init(struct io *io, uint64_t look_ns, void (*on_end)(void *arg), void *arg,
            struct err *e) CV_CHECK;
int io_start(struct io *io, struct err *e) CV_CHECK;
/* Something was queued for the loop. While nobody turns it and `now` is false, it waits for the
 * next leader, look_ns at most. Any thread. */
void io_wake(struct io *io, bool now);
/* The I/O thread, in a turn: leave the loop to the thread that was just woken. */
void io_yield(struct io *io);
/* A callback of the loop: this turn is the last one. */
void io_stop(struct io *io);

/* Leads, if nobody else turns the loop, until done(arg) is true: 1; the deadline (clock_mono) has
 * passed: 0; a signal's handler raised, or, with stop_on_signal, 0 after one that did not: -1 with
 * the exception set. IO_CANNOT: somebody else turns it, or the loop has ended: wait otherwise.
 * With the GIL, which is released meanwhile. done() is called without it. */
#define IO_CANNOT 2
int io_lead(struct io *io, bool (*done)(void *arg), void *arg, uint64_t deadline,
            bool stop_on_signal);
/* One turn that does not wait, by a thread that has the GIL and keeps it; nothing if another turns
 * the loop. */
void io_turn(struct io *io);

/* Waits for the thread (somebody made it call io_stop()), frees the loop. Twice is fine. */
void io_join(struct io *io);
void io_release(struct io *io); /* after io_join(); nothing in a forked child */

#endif
