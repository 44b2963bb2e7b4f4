/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the engine's process and its children write to descriptors 1 and 2. The host made the pipes
 * and keeps duplicates of the read ends. They are read by the I/O thread when readable and by
 * Python threads at each print and task end, always under capture.mu, which also covers appending
 * to the outbox: so whatever was written before a task's end precedes its RESULT. stderr is also
 * copied into the status page's ring, for the case that we die. What is written outside of tasks
 * (startup code, threads, children) goes to the host's log too, as far as that takes it at once.
 * Failing reads end the capture of that stream. */
#include "pyext/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"

#define DRAIN_MAX                                                                                  \
    (1u << 20) /* a pipe holds no more; a child that floods must not keep a task from ending */
#define LOG_MAX (1u << 20) /* of each engine */

/* Bytes at the end of data that are the start of an UTF-8 sequence whose rest is missing. */
static uint32_t utf8_incomplete(const uint8_t *data, uint32_t n)
{
    for (uint32_t back = 1; back <= 3 && back <= n; back++) {
        uint8_t b = data[n - back];
        if ((b & 0xc0) == 0x80)
            continue;
        uint32_t len = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : b >= 0xc0 ? 2 : 1;
        return len > back ? back : 0;
    }
    return 0;
}

/* Appends to the last OUTPUT of the outbox if it is of this stream and task, else begins a new one.
 */
static int add_text(struct engine_core *c, int kind, const uint8_t *data, uint32_t n)
{
    struct eout *o = c->out_tail;
    struct header h = engine_says(c, MSG_OUTPUT);
    h.status = (uint8_t)kind;
    h.flags = c->nbegun ? 0 : MSG_F_LATE;
    if (!o || o->h.type != MSG_OUTPUT || o->h.status != kind || o->h.session != h.session ||
        o->h.seq != h.seq || o->h.flags != h.flags || !o->text.len ||
        o->text.len + n > OUTPUT_TEXT_MAX) {
        int r = engine_send(c, &h, NULL);
        if (r)
            return r;
        o = c->out_tail;
        o->since = clock_mono();
    }
    c->out_text += n;
    int r = buf_add(&o->text, data, n);
    if (data[n - 1] == '\n')
        engine_line_ended(c);
    return r;
}

/* Never waits: the description is shared with the host, so it can't be made non-blocking. */
static void log_text(struct capture *cap, const uint8_t *data, uint64_t n)
{
    static const char more[] = "\n[covey: this engine printed more outside of tasks]\n";
    while (n && cap->log_fd >= 0 && cap->logged < LOG_MAX) {
        struct pollfd p = {.fd = cap->log_fd, .events = POLLOUT};
        if (poll(&p, 1, 0) != 1 || p.revents != POLLOUT) /* full, or nobody reads it any more */
            return;
        ssize_t done = write(cap->log_fd, data, n < PIPE_BUF ? n : PIPE_BUF);
        if (done <= 0)
            return;
        cap->logged += (uint64_t)done;
        data += done;
        n -= (uint64_t)done;
        if (cap->logged >= LOG_MAX && write(cap->log_fd, more, sizeof more - 1) < 0)
            return;
    }
}

/* Any text, in pieces that end at UTF-8 boundaries. capture.mu is held. */
static void send_text(struct engine_core *c, int kind, const uint8_t *data, uint64_t n)
{
    if (kind == OUTPUT_STDERR)
        statuspage_ring_add(c->page, data, n);
    pthread_mutex_lock(&c->mu);
    bool outside = !c->has_last || !c->nbegun;
    pthread_mutex_unlock(&c->mu);
    if (outside)
        log_text(&c->capture, data, n);
    pthread_mutex_lock(&c->mu);
    int r = 0;
    while (n && !r && c->has_last && engine_takes_output(c)) {
        uint32_t k = n < OUTPUT_TEXT_MAX ? (uint32_t)n : OUTPUT_TEXT_MAX;
        if (k < n)
            k -= utf8_incomplete(data, k);
        r = add_text(c, kind, data, k);
        data += k;
        n -= k;
    }
    pthread_mutex_unlock(&c->mu);
}

static void drop_fd(struct engine_core *c, int *fd)
{
    fork_guard_drop_begin(&c->io.guard, *fd);
    close(*fd);
    fork_guard_drop_end();
    *fd = -1;
}

static void drain_one(struct engine_core *c, int i, bool flush)
{
    struct capture *cap = &c->capture;
    int kind = i == 0 ? OUTPUT_STDOUT : OUTPUT_STDERR;
    uint8_t data[OUTPUT_TEXT_MAX];
    uint64_t total = 0;
    while (cap->fd[i] >= 0 && total < DRAIN_MAX) {
        uint32_t had = cap->ncarry[i];
        memcpy(data, cap->carry[i], had);
        ssize_t got = read(cap->fd[i], data + had, sizeof data - had);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            cap->eof[i] = got == 0 || errno != EAGAIN;
            break;
        }
        uint32_t n = had + (uint32_t)got;
        cap->ncarry[i] = utf8_incomplete(data, n);
        n -= cap->ncarry[i];
        memcpy(cap->carry[i], data + n, cap->ncarry[i]);
        send_text(c, kind, data, n);
        total += (uint64_t)got;
    }
    if (flush && cap->ncarry[i]) {
        uint32_t n = cap->ncarry[i];
        cap->ncarry[i] = 0;
        send_text(c, kind, cap->carry[i], n);
    }
}

void capture_drain(struct engine_core *c, bool flush)
{
    pthread_mutex_lock(&c->capture.mu);
    drain_one(c, 0, flush);
    drain_one(c, 1, flush);
    pthread_mutex_unlock(&c->capture.mu);
}

void capture_text(struct engine_core *c, int kind, const void *data, uint64_t n)
{
    pthread_mutex_lock(&c->capture.mu);
    drain_one(c, 0, true);
    drain_one(c, 1, true);
    send_text(c, kind, data, n);
    pthread_mutex_unlock(&c->capture.mu);
}

void capture_flush(struct engine_core *c)
{
    capture_drain(c, true);
    pthread_mutex_lock(&c->mu);
    if (c->out_tail && c->out_tail->text.len) {
        c->out_tail->flushed = true;
        engine_line_ended(c);
    }
    pthread_mutex_unlock(&c->mu);
}

int capture_init(struct engine_core *c, const int fds[3], struct err *e)
{
    pthread_mutex_init(&c->capture.mu, NULL);
    c->capture.fd[0] = c->capture.fd[1] = -1;
    c->capture.log_fd = fds[2] < 0 ? -1 : fcntl(fds[2], F_DUPFD_CLOEXEC, 3);
    if (c->capture.log_fd >= 0)
        fork_guard_hold(&c->io.guard, c->capture.log_fd);
    for (int i = 0; i < 2; i++) {
        if (fds[i] < 0)
            continue;
        c->capture.fd[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (c->capture.fd[i] < 0)
            return err_sys(e, "cannot capture output");
        int flags = fcntl(c->capture.fd[i], F_GETFL);
        fcntl(c->capture.fd[i], F_SETFL, flags | O_NONBLOCK);
        fork_guard_hold(&c->io.guard, c->capture.fd[i]);
    }
    return CV_OK;
}

static void on_readable(void *arg, int events)
{
    struct engine_core *c = arg;
    pthread_mutex_lock(&c->capture.mu);
    for (int i = 0; i < 2; i++) {
        drain_one(c, i, false);
        if (c->capture.eof[i]) { /* no writer is left: a level-triggered watch would spin */
            watch_free(c->capture.watch[i]);
            c->capture.watch[i] = NULL;
        }
    }
    pthread_mutex_unlock(&c->capture.mu);
}

int capture_watch(struct engine_core *c)
{
    int r = CV_OK;
    for (int i = 0; i < 2 && !r; i++) {
        if (c->capture.fd[i] >= 0)
            r = watch_new(&c->capture.watch[i], c->io.loop, c->capture.fd[i], UV_READABLE,
                          on_readable, c);
    }
    return r;
}

void capture_unwatch(struct engine_core *c)
{
    for (int i = 0; i < 2; i++) {
        watch_free(c->capture.watch[i]);
        c->capture.watch[i] = NULL;
    }
}

void capture_release(struct engine_core *c)
{
    for (int i = 0; i < 2; i++) {
        if (c->capture.fd[i] >= 0)
            drop_fd(c, &c->capture.fd[i]);
    }
    if (c->capture.log_fd >= 0)
        drop_fd(c, &c->capture.log_fd);
    pthread_mutex_destroy(&c->capture.mu);
}
