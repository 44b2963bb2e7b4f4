/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The bytes below a link: a connected, non-blocking stream. Two back ends: plain descriptors
 * (net/stream.c: Unix and TCP sockets, the standard streams of ssh -W) and TLS (tls/). All calls
 * come from the loop's thread. */
#ifndef COVEY_NET_TRANSPORT_H
#define COVEY_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "base/error.h"

struct transport;

#define TRANSPORT_FDS_MAX 32 /* descriptors that may go with one write */

enum transport_want { WANT_READ = 1, WANT_WRITE = 2 };

struct transport_ops {
    /* Goes on with the handshake: CV_OK when done; CV_EAGAIN with ret_want set; else the link dies
     * with the text in e, a sentence for people. NULL when there is none. */
    int (*handshake)(struct transport *t, int *ret_want, struct err *e);
    /* Bytes read (> 0), CV_EOF, CV_EAGAIN, or CV_ESYS / CV_EPROTO with a text. */
    ssize_t (*read)(struct transport *t, void *buf, size_t n, struct err *e);
    /* Bytes written (> 0, may be fewer), CV_EAGAIN, or CV_ESYS / CV_ECLOSED with a text. Never
     * raises SIGPIPE. */
    ssize_t (*writev)(struct transport *t, const struct iovec *iov, int n, struct err *e);
    /* As writev(), with nfds descriptors that go with the first byte written (the caller keeps its
     * own); CV_ENFILE: the kernel takes no more descriptors for now, nothing was written. NULL
     * where descriptors can't travel. */
    ssize_t (*writev_fds)(struct transport *t, const struct iovec *iov, int n, const int *fds,
                          int nfds, struct err *e);
    /* From now on read() keeps the descriptors that come with the bytes (before, they are lost);
     * it fails with CV_ENFILE when one could not be taken in, CV_EPROTO when more come than
     * messages that tell of them. */
    void (*accept_fds)(struct transport *t);
    int (*take_fd)(struct transport *t); /* the oldest one, now the caller's; -1: none */
    /* Hands on what writev() accepted and still buffers: CV_OK when nothing is left, else as
     * writev(). NULL when it never buffers. */
    int (*flush)(struct transport *t, struct err *e);
    /* Bytes are buffered inside, so poll() would not tell. */
    bool (*pending)(const struct transport *t);
    /* The authenticated role: "client" or "engine" (TLS identity), NULL where the uid check
     * decided. A server knows it as soon as the peer has shown that it holds the key, which may be
     * before the handshake is done. */
    const char *(*identity)(const struct transport *t);
    void (*free)(struct transport *t); /* closes the descriptor */
};

struct transport {
    const struct transport_ops *ops;
    int fd;
};

/* A plain descriptor as a transport; takes fd (closes it on failure too). */
int stream_transport_new(struct transport **ret, int fd_take) CV_CHECK;

#endif
