/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See way.h. The transport here stands around the one that the inner factory made of ssh's standard
 * streams: it hands all calls on, says why ssh failed instead of "the peer closed the connection",
 * and ends the child. Failure of anything ends this link alone. */
#include "ssh/way.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "ssh/child.h"
#include "ssh/words.h"

#define WORDS_MS 500     /* from the end of its streams to ssh's own end */
#define PATIENCE_MS 1000 /* for what was sent last, when the link is closed in order */

struct ssh_way {
    char *server, *place, *port, *key, *password;
    struct transport_factory inner;
};

struct ssh_transport {
    struct transport t; /* fd: the inner one's */
    struct transport *inner;
    struct ssh_child child;
    const char *server; /* of the way */
    char *target;
    bool ready, broken;
};

/* The inner transport has failed with this code. If ssh has ended it knows better why. */
static int failed(struct ssh_transport *s, int code, struct err *e)
{
    char said[1024], how[64];
    s->broken = true;
    if (code != CV_EOF && code != CV_ECLOSED && code != CV_ESYS)
        return code;
    if (!ssh_child_ended(&s->child, WORDS_MS))
        return code;
    if (s->ready && code == CV_EOF)
        code = CV_ECLOSED; /* with a text of its own */
    size_t n = ssh_child_said(&s->child, said, sizeof said);
    ssh_child_how(&s->child, how, sizeof how);
    if (!n && !*how && s->ready) {
        err_set(e, code, "the connection through ssh to %s has ended", s->server);
    } else {
        char text[sizeof e->text];
        switch (ssh_explain(s->server, s->target, said, n, how, text, sizeof text)) {
        case SSH_REFUSED:
            code = s->ready ? code : CV_EACCES;
            break;
        case SSH_NO_SERVER:
            code = s->ready ? code : CV_ENOENT;
            break;
        default:
            break;
        }
        err_set(e, code, "%s", text);
    }
    return code;
}

static int way_handshake(struct transport *t, int *ret_want, struct err *e)
{
    struct ssh_transport *s = (struct ssh_transport *)t;
    int r = s->inner->ops->handshake ? s->inner->ops->handshake(s->inner, ret_want, e) : CV_OK;
    if (r == CV_OK)
        s->ready = true;
    return r == CV_OK || r == CV_EAGAIN ? r : failed(s, r, e);
}

static ssize_t way_read(struct transport *t, void *buf, size_t n, struct err *e)
{
    struct ssh_transport *s = (struct ssh_transport *)t;
    ssize_t r = s->inner->ops->read(s->inner, buf, n, e);
    return r > 0 || r == CV_EAGAIN ? r : failed(s, (int)r, e);
}

static ssize_t way_writev(struct transport *t, const struct iovec *iov, int n, struct err *e)
{
    struct ssh_transport *s = (struct ssh_transport *)t;
    ssize_t r = s->inner->ops->writev(s->inner, iov, n, e);
    return r > 0 || r == CV_EAGAIN ? r : failed(s, (int)r, e);
}

static int way_flush(struct transport *t, struct err *e)
{
    struct ssh_transport *s = (struct ssh_transport *)t;
    int r = s->inner->ops->flush ? s->inner->ops->flush(s->inner, e) : CV_OK;
    return r == CV_OK || r == CV_EAGAIN ? r : failed(s, r, e);
}

static bool way_pending(const struct transport *t)
{
    const struct ssh_transport *s = (const struct ssh_transport *)t;
    return s->inner->ops->pending && s->inner->ops->pending(s->inner);
}

static const char *way_identity(const struct transport *t)
{
    const struct ssh_transport *s = (const struct ssh_transport *)t;
    return s->inner->ops->identity ? s->inner->ops->identity(s->inner) : NULL;
}

/* A link that was closed in order may have a BYE on its way. */
static void way_free_transport(struct transport *t)
{
    struct ssh_transport *s = (struct ssh_transport *)t;
    s->inner->ops->free(s->inner);
    ssh_child_end(&s->child, s->ready && !s->broken ? PATIENCE_MS : 0);
    free(s->target);
    free(s);
}

static const struct transport_ops way_ops = {
    .handshake = way_handshake,
    .read = way_read,
    .writev = way_writev,
    .flush = way_flush,
    .pending = way_pending,
    .identity = way_identity,
    .free = way_free_transport,
};

/* The address as ssh -W wants it: an IPv6 one in brackets. */
static char *target_of(const char *host, uint16_t port)
{
    return str_printf(strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

static int dial(void *arg, const char *host, uint16_t port, struct transport **ret, struct err *e)
{
    struct ssh_way *w = arg;
    struct ssh_transport *s = calloc(1, sizeof *s);
    char *target = target_of(host, port), **argv = NULL;
    int fd = -1, rc = CV_ENOMEM;
    if (s && target)
        argv = ssh_argv(w->place, w->port, w->key, w->password != NULL, target);
    if (!argv) {
        rc = err_set(e, CV_ENOMEM, "out of memory");
        goto fail;
    }
    rc = ssh_child_start(&s->child, argv, w->password, &fd, e);
    if (rc)
        goto fail;
    rc = w->inner.make(w->inner.arg, fd, &s->inner, e);
    if (rc) {
        ssh_child_end(&s->child, 0);
        goto fail;
    }
    s->t = (struct transport){&way_ops, fd};
    s->server = w->server;
    s->target = target;
    ssh_argv_free(argv);
    *ret = &s->t;
    return CV_OK;
fail:
    ssh_argv_free(argv);
    free(target);
    free(s);
    return rc;
}

static bool copy(char **ret, const char *text)
{
    *ret = text && *text ? strdup(text) : NULL;
    return *ret || !text || !*text;
}

int ssh_way_new(struct ssh_way **ret, const struct ssh_way_config *c, struct err *e)
{
    struct ssh_way *w = calloc(1, sizeof *w);
    if (!w || !copy(&w->server, c->server) || !copy(&w->key, c->key) ||
        !copy(&w->password, c->password)) {
        ssh_way_free(w);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    w->inner = c->inner;
    int rc = ssh_server_split(w->server ? w->server : "", &w->place, &w->port, e);
    if (rc) {
        ssh_way_free(w);
        return rc;
    }
    *ret = w;
    return CV_OK;
}

void ssh_way_free(struct ssh_way *w)
{
    if (!w)
        return;
    if (w->password)
        explicit_bzero(w->password, strlen(w->password));
    free(w->server);
    free(w->place);
    free(w->port);
    free(w->key);
    free(w->password);
    free(w);
}

struct transport_factory ssh_way_factory(struct ssh_way *w)
{
    return (struct transport_factory){.arg = w, .dial = dial, .through = w->server};
}
