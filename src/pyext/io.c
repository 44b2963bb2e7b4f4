/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Starting and ending of I/O threads; see io.h. */
#include "pyext/io.h"

#include <signal.h>
#include <string.h>

int io_init(struct io *io, void (*on_end)(void *arg), void *arg, struct err *e)
{
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
    uv_loop_t *uv = loop_uv(io->loop);
    fork_guard_hold(&io->guard, uv_backend_fd(uv));
    return CV_OK;
}

static void *thread_main(void *arg)
{
    struct io *io = arg;
    loop_run(io->loop);
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
    fork_guard_drop_begin(&io->guard, uv_backend_fd(loop_uv(io->loop)));
    loop_free(io->loop);
    io->loop = NULL;
    fork_guard_drop_end();
    fork_guard_del(&io->guard);
}
