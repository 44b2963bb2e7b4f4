/* SPDX-License-Identifier: BSD-3-Clause
 *
 * TLS as a transport. SSL reads from the socket and writes into memory (the BIO below), so that
 * SSL_write() never has to wait: what it produced in a call leaves in one send(), the rest stays in
 * `out` until the socket takes it, and no more is accepted meanwhile. Runs on the loop's thread;
 * OpenSSL's error queue is emptied before each call, since it belongs to the whole thread. */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls/context.h"

#define BATCH (64u << 10) /* plain bytes of one send */

static int bio_write(BIO *b, const char *data, int n)
{
    struct tls_transport *t = BIO_get_data(b);
    return buf_add(&t->c->wire, data, (size_t)n) == CV_OK ? n : -1;
}

static int bio_read(BIO *b, char *data, int n)
{
    struct tls_transport *t = BIO_get_data(b);
    ssize_t r;
    BIO_clear_retry_flags(b);
    do
        r = recv(t->t.fd, data, (size_t)n, 0);
    while (r < 0 && errno == EINTR);
    if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        t->drained = true;
        BIO_set_retry_read(b);
    } else if (r < 0) {
        t->sys_errno = errno;
    } else {
        t->eof = r == 0;
    }
    if (r > 0 && !t->begun) {
        t->begun = true;
        t->not_tls = data[0] != SSL3_RT_HANDSHAKE && data[0] != SSL3_RT_ALERT;
    }
    return t->not_tls ? -1 : (int)r;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    struct tls_transport *t = BIO_get_data(b);
    if (cmd == BIO_CTRL_EOF)
        return t->eof;
    return cmd == BIO_CTRL_FLUSH;
}

BIO_METHOD *tls_bio_new(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "covey");
    if (m && (!BIO_meth_set_write(m, bio_write) || !BIO_meth_set_read(m, bio_read) ||
              !BIO_meth_set_ctrl(m, bio_ctrl))) {
        BIO_meth_free(m);
        m = NULL;
    }
    return m;
}

/* Bytes the socket took (0: none now), or CV_ECLOSED, CV_ESYS. */
static ssize_t send_some(struct tls_transport *t, const uint8_t *data, size_t n, struct err *e)
{
    ssize_t r;
    do
        r = send(t->t.fd, data, n, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    if (r >= 0)
        return r;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return 0;
    if (errno == EPIPE || errno == ECONNRESET)
        return err_set(e, CV_ECLOSED, "the peer closed the connection");
    return err_sys(e, "writing to the peer failed");
}

static int tls_flush(struct transport *base, struct err *e)
{
    struct tls_transport *t = (struct tls_transport *)base;
    if (!t->out.len)
        return CV_OK;
    ssize_t n = send_some(t, t->out.data, t->out.len, e);
    if (n < 0)
        return (int)n;
    buf_consume(&t->out, (size_t)n);
    if (t->out.len)
        return CV_EAGAIN;
    buf_release(&t->out);
    return CV_OK;
}

/* Sends what SSL wrote in this call and keeps what the socket does not take. */
static int push(struct tls_transport *t, struct err *e)
{
    struct buf *wire = &t->c->wire;
    ssize_t n = 0;
    int r = CV_OK;
    if (wire->len && !t->out.len)
        n = send_some(t, wire->data, wire->len, e);
    if (n < 0)
        r = (int)n;
    else if ((size_t)n < wire->len && buf_add(&t->out, wire->data + n, wire->len - (size_t)n) < 0)
        r = err_set(e, CV_ENOMEM, "out of memory");
    buf_clear(wire);
    return r;
}

/* A failed call of SSL in words. `handshake`: it was not done yet. */
static int explain(struct tls_transport *t, int code, bool handshake, struct err *e)
{
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    if (t->sys_errno) {
        errno = t->sys_errno;
        return err_sys(e, "reading from the peer failed");
    }
    if (code == SSL_ERROR_ZERO_RETURN || t->eof)
        return err_set(e, CV_EOF,
                       handshake ? "the peer closed the connection during the handshake"
                                 : "the peer closed the connection");
    if (t->not_tls)
        return err_set(e, CV_EPROTO, "not a covey peer (plain text where TLS was expected)");
    if (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION)
        return err_set(e, CV_EPROTO, "not a covey peer (it does not speak TLS 1.3)");
    if (!handshake)
        return err_set(e, CV_EPROTO, "the encrypted stream is damaged");
    if (t->c->server)
        return err_set(e, CV_EAUTH, "a peer did not have the key");
    if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256)
        return err_set(e, CV_EAUTH,
                       "the controller refused this file's key: the file is older than it, or the "
                       "other one of the two (clients and engines have one each)");
    return err_set(e, CV_EAUTH, "who listens there does not have this file's key");
}

static int tls_handshake(struct transport *base, int *ret_want, struct err *e)
{
    struct tls_transport *t = (struct tls_transport *)base;
    ERR_clear_error();
    t->drained = false;
    int r = SSL_do_handshake(t->ssl);
    int code = r == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, r);
    if (r == 1) {
        t->identity = tls_role_name(t->c->server ? t->found : t->c->role);
        return push(t, e);
    }
    if (code != SSL_ERROR_WANT_READ) {
        struct err ignored;
        (void)!push(t, &ignored); /* the alert */
        return explain(t, code, true, e);
    }
    r = push(t, e);
    if (r == CV_OK && t->out.len) {
        r = tls_flush(base, e);
        if (r == CV_EAGAIN)
            r = CV_OK;
    }
    if (r < 0)
        return r;
    if (t->c->server && SSL_session_reused(t->ssl)) /* its first flight was made with the key */
        t->identity = tls_role_name(t->found);
    *ret_want = WANT_READ | (t->out.len ? WANT_WRITE : 0);
    return CV_EAGAIN;
}

static ssize_t tls_read(struct transport *base, void *buf, size_t n, struct err *e)
{
    struct tls_transport *t = (struct tls_transport *)base;
    size_t got;
    ERR_clear_error();
    t->drained = false;
    int r = SSL_read_ex(t->ssl, buf, n, &got);
    int code = r == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, r);
    if (t->c->wire.len) { /* it answers a change of keys */
        int pushed = push(t, e);
        if (pushed < 0 && r == 1)
            return pushed;
    }
    if (r == 1)
        return (ssize_t)got;
    if (code == SSL_ERROR_WANT_READ)
        return CV_EAGAIN;
    return explain(t, code, false, e);
}

/* One record of n bytes into the wire buffer. */
static int encrypt(struct tls_transport *t, const void *data, size_t n, struct err *e)
{
    size_t done;
    if (t->records++ == t->c->key_records) {
        t->records = 1;
        if (!SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED)) /* leaves with the next write */
            return err_set(e, CV_ESYS, "changing the key failed");
    }
    if (SSL_write_ex(t->ssl, data, n, &done) != 1 || done != n)
        return err_set(e, CV_ESYS, "encrypting failed");
    return CV_OK;
}

static ssize_t tls_writev(struct transport *base, const struct iovec *iov, int n, struct err *e)
{
    struct tls_transport *t = (struct tls_transport *)base;
    size_t total = 0, off = 0, have = 0;
    int r = tls_flush(base, e);
    if (r < 0)
        return r;
    ERR_clear_error();
    for (int i = 0; r == CV_OK && i < n && total < BATCH;) {
        const uint8_t *data = (const uint8_t *)iov[i].iov_base + off;
        size_t left = iov[i].iov_len - off;
        size_t len = left < TLS_RECORD - have ? left : TLS_RECORD - have;
        if (!have && len == TLS_RECORD) {
            r = encrypt(t, data, len, e);
        } else {
            memcpy(t->c->plain + have, data, len);
            have += len;
            if (have == TLS_RECORD) {
                r = encrypt(t, t->c->plain, have, e);
                have = 0;
            }
        }
        total += len;
        off += len;
        if (off == iov[i].iov_len) {
            i++;
            off = 0;
        }
    }
    if (r == CV_OK && have)
        r = encrypt(t, t->c->plain, have, e);
    if (r == CV_OK)
        r = push(t, e);
    buf_clear(&t->c->wire);
    return r < 0 ? r : (ssize_t)total;
}

static bool tls_pending(const struct transport *base)
{
    const struct tls_transport *t = (const struct tls_transport *)base;
    return !t->drained && SSL_has_pending(t->ssl);
}

static const char *tls_identity(const struct transport *base)
{
    return ((const struct tls_transport *)base)->identity;
}

static void tls_free(struct transport *base)
{
    struct tls_transport *t = (struct tls_transport *)base;
    SSL_free(t->ssl);
    close(t->t.fd);
    buf_release(&t->out);
    free(t);
}

static const struct transport_ops tls_ops = {
    .handshake = tls_handshake,
    .read = tls_read,
    .writev = tls_writev,
    .flush = tls_flush,
    .pending = tls_pending,
    .identity = tls_identity,
    .free = tls_free,
};

int tls_transport_new(struct tls_context *c, int fd_take, struct transport **ret, struct err *e)
{
    struct tls_transport *t = calloc(1, sizeof *t);
    SSL *ssl = SSL_new(c->ctx);
    BIO *b = BIO_new(c->bio);
    if (!t || !ssl || !b) {
        BIO_free(b);
        SSL_free(ssl);
        free(t);
        close(fd_take);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    *t = (struct tls_transport){.t = {&tls_ops, fd_take}, .c = c, .ssl = ssl};
    BIO_set_data(b, t);
    BIO_set_init(b, 1);
    SSL_set_bio(ssl, b, b);
    SSL_set_app_data(ssl, t);
    if (c->server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    *ret = &t->t;
    return CV_OK;
}
