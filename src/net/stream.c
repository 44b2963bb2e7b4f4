/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Plain descriptors as transports: Unix and TCP sockets, and what is not a socket (a pty, a pipe).
 * Sockets are written with MSG_NOSIGNAL; for others the program ignores SIGPIPE. Owns the
 * descriptor, and those that were received and not taken yet. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/transport.h"

#define FDS_QUEUE_MAX (2u * TRANSPORT_FDS_MAX) /* a header may come in two parts */

/* Received descriptors, oldest first. */
struct fd_queue {
    int fds[FDS_QUEUE_MAX];
    unsigned head, n;
};

struct stream {
    struct transport t;
    bool socket, takes_fds;
    struct fd_queue *fds; /* NULL: none has come yet */
};

/* Moves what came with a message to the queue; what does not fit there is closed. */
static int keep_fds(struct stream *s, struct msghdr *m)
{
    int r = CV_OK;
    if (m->msg_controllen && !s->fds)
        s->fds = calloc(1, sizeof *s->fds);
    struct fd_queue *q = s->fds;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (q && q->n < FDS_QUEUE_MAX) {
                q->fds[(q->head + q->n++) % FDS_QUEUE_MAX] = fd;
            } else {
                close(fd);
                r = q ? CV_EPROTO : CV_ENOMEM;
            }
        }
    }
    return r;
}

static ssize_t read_fds(struct stream *s, void *buf, size_t n, struct err *e)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(TRANSPORT_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {buf, n};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    ssize_t r = recvmsg(s->t.fd, &m, MSG_CMSG_CLOEXEC);
    if (r < 0)
        return r;
    int kept = keep_fds(s, &m);
    if (kept)
        return err_set(e, kept,
                       kept == CV_ENOMEM
                           ? "out of memory"
                           : "the peer broke the protocol: descriptors of no message");
    if (m.msg_flags & MSG_CTRUNC)
        return err_set(e, CV_ENFILE,
                       "a descriptor that the peer sent could not be taken in: this process has "
                       "too many files open (ulimit -n)");
    return r;
}

static ssize_t stream_read(struct transport *t, void *buf, size_t n, struct err *e)
{
    struct stream *s = (struct stream *)t;
    ssize_t r;
    do
        r = s->takes_fds ? read_fds(s, buf, n, e) : read(t->fd, buf, n);
    while (r == -1 && errno == EINTR);
    if (r > 0 || r < -1)
        return r;
    if (r == 0)
        return CV_EOF;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return CV_EAGAIN;
    return err_sys(e, "reading from the peer failed");
}

static ssize_t write_failed(struct err *e)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return CV_EAGAIN;
    if (errno == EPIPE || errno == ECONNRESET)
        return err_set(e, CV_ECLOSED, "the peer closed the connection");
    return err_sys(e, "writing to the peer failed");
}

static ssize_t stream_writev(struct transport *t, const struct iovec *iov, int n, struct err *e)
{
    struct stream *s = (struct stream *)t;
    struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
    ssize_t r;
    do
        r = s->socket ? sendmsg(t->fd, &m, MSG_NOSIGNAL) : writev(t->fd, iov, n);
    while (r < 0 && errno == EINTR);
    return r >= 0 ? r : write_failed(e);
}

static ssize_t stream_writev_fds(struct transport *t, const struct iovec *iov, int n,
                                 const int *fds, int nfds, struct err *e)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(TRANSPORT_FDS_MAX * sizeof(int))];
    } control = {.space = {0}};
    struct msghdr m = {.msg_iov = (struct iovec *)iov,
                       .msg_iovlen = (size_t)n,
                       .msg_control = &control,
                       .msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    ssize_t r;
    assert(nfds > 0 && nfds <= TRANSPORT_FDS_MAX);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
    memcpy(CMSG_DATA(c), fds, (size_t)nfds * sizeof(int));
    do
        r = sendmsg(t->fd, &m, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    if (r >= 0)
        return r;
    return errno == ETOOMANYREFS ? CV_ENFILE : write_failed(e);
}

static void stream_accept_fds(struct transport *t)
{
    ((struct stream *)t)->takes_fds = true;
}

static int stream_take_fd(struct transport *t)
{
    struct fd_queue *q = ((struct stream *)t)->fds;
    if (!q || !q->n)
        return -1;
    int fd = q->fds[q->head];
    q->head = (q->head + 1) % FDS_QUEUE_MAX;
    q->n--;
    return fd;
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
    for (int fd; (fd = stream_take_fd(t)) >= 0;)
        close(fd);
    free(((struct stream *)t)->fds);
    close(t->fd);
    free(t);
}

static const struct transport_ops stream_ops = {
    .read = stream_read,
    .writev = stream_writev,
    .writev_fds = stream_writev_fds,
    .accept_fds = stream_accept_fds,
    .take_fd = stream_take_fd,
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
