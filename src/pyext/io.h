/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The I/O thread of a Client or Engine: a loop on a thread of its own in which all signals are
 * blocked. It never touches a PyObject and never takes the GIL. */
#ifndef COVEY_PYEXT_IO_H
#define COVEY_PYEXT_IO_H

#include <pthread.h>
#include <stdbool.h>
#include "net/loop.h"
#include "pyext/fork.h"

struct io {
    struct loop *loop;
    pthread_t thread;
    atomic_bool running;
    struct fork_guard guard;
    void (*on_end)(void *arg); /* on the thread, after the loop: frees what lives on the loop */
    void *arg;
};

int io_init(struct io *io, void (*on_end)(void *arg), void *arg, struct err *e) CV_CHECK;
int io_start(struct io *io, struct err *e) CV_CHECK;
/* Waits for the thread (somebody made it call loop_stop()), frees the loop. Twice is fine. */
void io_join(struct io *io);
void io_release(struct io *io); /* after io_join(); nothing in a forked child */

#endif
