/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pipe's bytes to a callback, the last of them kept in a ring (see capture.h). At most
 * READ_TURN bytes a turn, so that a child that floods its output starves nobody. */
#include "proc/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE (16u << 10)
#define READ_TURN (256u << 10)
#define DRAIN_MAX (1u << 20)

struct capture {
    uv_poll_t poll;
    int fd;
    bool ended, closing;
    bool reading; /* inside pump(): a callback may free us */
    capture_cb cb;
    void *arg;
    size_t size, pos; /* of the ring; pos counts all bytes ever */
    char ring[];
};

static void ring_add(struct capture *c, const char *data, size_t n)
{
    size_t skip = n > c->size ? n - c->size : 0;
    c->pos += skip;
    for (size_t i = skip; i < n;) {
        size_t at = c->pos % c->size, part = c->size - at;
        if (part > n - i)
            part = n - i;
        memcpy(c->ring + at, data + i, part);
        c->pos += part;
        i += part;
    }
}

static void on_poll_closed(uv_handle_t *h)
{
    struct capture *c = h->data;
    close(c->fd);
    free(c);
}

static void capture_close(struct capture *c)
{
    if (c->closing)
        return;
    c->closing = true;
    uv_close((uv_handle_t *)&c->poll, on_poll_closed);
}

/* Reads at most `limit` bytes. The memory stays until the loop's next turn even if cb frees it. */
static void pump(struct capture *c, size_t limit)
{
    char data[READ_SIZE];
    for (size_t total = 0; total < limit && !c->closing && !c->ended;) {
        ssize_t n = read(c->fd, data, sizeof data);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            c->ended = true;
            uv_poll_stop(&c->poll);
            n = 0;
        } else if (c->size) {
            ring_add(c, data, (size_t)n);
        }
        total += (size_t)n;
        if (c->cb)
            c->cb(c->arg, data, (size_t)n);
    }
}

static void on_readable(uv_poll_t *h, int status, int events)
{
    pump(h->data, READ_TURN);
}

int capture_new(struct capture **ret, uv_loop_t *loop, int fd_take, size_t tail, capture_cb cb,
                void *arg)
{
    struct capture *c = calloc(1, sizeof *c + tail);
    if (!c) {
        close(fd_take);
        return CV_ENOMEM;
    }
    c->fd = fd_take;
    c->cb = cb;
    c->arg = arg;
    c->size = tail;
    c->poll.data = c;
    fcntl(fd_take, F_SETFL, fcntl(fd_take, F_GETFL) | O_NONBLOCK);
    if (uv_poll_init(loop, &c->poll, fd_take) < 0) {
        close(fd_take);
        free(c);
        return CV_ESYS;
    }
    if (uv_poll_start(&c->poll, UV_READABLE, on_readable) < 0) {
        capture_close(c);
        return CV_ESYS;
    }
    *ret = c;
    return CV_OK;
}

void capture_free(struct capture *c)
{
    if (!c)
        return;
    c->cb = NULL;
    capture_close(c);
}

void capture_drain(struct capture *c)
{
    pump(c, DRAIN_MAX);
}

int capture_tail(const struct capture *c, struct buf *out)
{
    if (c->pos <= c->size)
        return buf_add(out, c->ring, c->pos);
    size_t at = c->pos % c->size;
    int rc = buf_add(out, c->ring + at, c->size - at);
    return rc == CV_OK ? buf_add(out, c->ring, at) : rc;
}

int capture_pipe(int ret[2], struct err *e)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_sys(e, "can't make a pipe");
    if (fcntl(p[0], F_SETFL, O_NONBLOCK) < 0) {
        int rc = err_sys(e, "can't make a pipe");
        close(p[0]);
        close(p[1]);
        return rc;
    }
    ret[0] = p[0];
    ret[1] = p[1];
    return CV_OK;
}

int capture_leftover(int fd, size_t limit, struct buf *out)
{
    char data[READ_SIZE];
    while (limit > 0) {
        ssize_t n = read(fd, data, limit < sizeof data ? limit : sizeof data);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return CV_OK;
        int rc = buf_add(out, data, (size_t)n);
        if (rc != CV_OK)
            return rc;
        limit -= (size_t)n;
    }
    return CV_OK;
}

size_t tail_lines(const char *text, size_t n, unsigned lines)
{
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
        n--;
    for (size_t i = n; i > 0; i--)
        if (text[i - 1] == '\n' && lines-- <= 1)
            return i;
    return 0;
}
