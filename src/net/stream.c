/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Plain descriptors as transports: Unix and TCP sockets, and what is not a socket (a pty, a pipe).
 * Sockets are written with MSG_NOSIGNAL; for others the program ignores SIGPIPE. Owns the
 * descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/transport.h"

struct stream {
    struct transport t;
    bool socket;
};

static ssize_t stream_read(struct transport *t, void *buf, size_t n, struct err *e)
{
    ssize_t r;
    do
        r = read(t->fd, buf, n);
    while (r < 0 && errno == EINTR);
    if (r > 0)
        return r;
    if (r == 0)
        return CV_EOF;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return CV_EAGAIN;
    return err_sys(e, "reading from the peer failed");
}

static ssize_t stream_writev(struct transport *t, const struct iovec *iov, int n, struct err *e)
{
    struct stream *s = (struct stream *)t;
    struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
    ssize_t r;
    do
        r = s->socket ? sendmsg(t->fd, &m, MSG_NOSIGNAL) : writev(t->fd, iov, n);
    while (r < 0 && errno == EINTR);
    if (r >= 0)
        return r;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return CV_EAGAIN;
    if (errno == EPIPE || errno == ECONNRESET)
        return err_set(e, CV_ECLOSED, "the peer closed the connection");
    return err_sys(e, "writing to the peer failed");
}

static bool stream_pending(const struct transport *t)
{
    return false;
}

static const char *stream_identity(const struct transport *t)
{
    return NULL;
}

static void stream_free(struct transport *t)
{
    close(t->fd);
    free(t);
}

static const struct transport_ops stream_ops = {
    .read = stream_read,
    .writev = stream_writev,
    .pending = stream_pending,
    .identity = stream_identity,
    .free = stream_free,
};

int stream_transport_new(struct transport **ret, int fd_take)
{
    int flags = fcntl(fd_take, F_GETFL);
    if (flags < 0 || fcntl(fd_take, F_SETFL, flags | O_NONBLOCK) < 0) {
        if (fd_take >= 0)
            close(fd_take);
        return CV_ESYS;
    }
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        close(fd_take);
        return CV_ENOMEM;
    }
    int type;
    socklen_t n = sizeof type;
    s->t.ops = &stream_ops;
    s->t.fd = fd_take;
    s->socket = getsockopt(fd_take, SOL_SOCKET, SO_TYPE, &type, &n) == 0;
    *ret = &s->t;
    return CV_OK;
}
