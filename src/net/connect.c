/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The connector: from a list of endpoints to one link that is ready. Runs on the loop's thread;
 * names are resolved by libuv's threads. All Unix endpoints are tried at once; when they have
 * failed the TCP ones follow, each 250 ms after the one before or as soon as that has failed. The
 * first link whose handshake is done wins and the others are closed. Every endpoint keeps its own
 * reason of failure; the callback gets them all in one text. Owns what it has not handed over. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "net/address_priv.h"
#include "net/connect.h"
#include "net/loop_priv.h"

#define STAGGER (250 * NS_PER_MS)
#define FULL_BACKLOG_RETRY (20 * NS_PER_MS)

struct lookup {
    uv_getaddrinfo_t req;
    struct attempt *a; /* NULL: no longer wanted */
};

struct attempt {
    struct connector *c;
    char *endpoint;
    bool is_unix, started, failed;
    char *why;
    int code;
    int fd;              /* while it connects, else -1 */
    struct watch *watch; /* of fd */
    struct timer *retry; /* Unix: the listener's queue was full */
    struct link *link;   /* while its handshake goes on */
    struct lookup *lookup;
    struct addrinfo *addrs, *next_addr;
};

struct connector {
    struct loop *loop;
    struct attempt *v;
    uint32_t n;
    struct transport_factory tcp;
    uint64_t timeout_ns;
    connect_cb cb;
    void *arg;
    bool way_closed; /* tcp.dial leads nowhere */
    struct loop_job start;
    struct timer *stagger, *deadline;
};

static void attempt_fail(struct attempt *a, int code, const char *why);
static void tcp_next(struct attempt *a);

static void attempt_stop(struct attempt *a)
{
    watch_free(a->watch);
    timer_free(a->retry);
    link_free(a->link);
    if (a->fd >= 0)
        close(a->fd);
    if (a->lookup) {
        a->lookup->a = NULL;
        uv_cancel((uv_req_t *)&a->lookup->req);
    }
    uv_freeaddrinfo(a->addrs);
    a->watch = NULL;
    a->retry = NULL;
    a->link = NULL;
    a->fd = -1;
    a->lookup = NULL;
    a->addrs = a->next_addr = NULL;
}

static void connector_stop(struct connector *c)
{
    loop_job_cancel(&c->start);
    timer_free(c->stagger);
    timer_free(c->deadline);
    c->stagger = c->deadline = NULL;
    for (uint32_t i = 0; i < c->n; i++)
        attempt_stop(&c->v[i]);
}

/* The callback may free the connector: nothing of it is used afterwards. */
static void finish(struct connector *c, struct link *l)
{
    struct buf why = {0};
    int code = l ? CV_OK : CV_EINVAL;
    connector_stop(c);
    for (uint32_t i = 0; !l && i < c->n; i++) {
        struct attempt *a = &c->v[i];
        if (!a->failed)
            continue; /* never begun */
        bool through = c->tcp.through && !a->is_unix;
        int r = buf_addf(&why, "%s%s%s%s: %s", why.len ? "; " : "", a->endpoint,
                         through ? " through ssh " : "", through ? c->tcp.through : "",
                         a->why ? a->why : "out of memory");
        if (code != CV_EAUTH && code != CV_EACCES) /* what won't change counts most */
            code = r < 0 ? CV_ENOMEM : a->code;
    }
    if (!l && !c->n && buf_addstr(&why, "there is no endpoint to connect to") < 0)
        code = CV_ENOMEM;
    const char *text = l ? NULL : buf_cstr(&why);
    c->cb(c->arg, l, code, l || text ? text : "out of memory");
    buf_release(&why);
}

static void on_link_ready(struct link *l, void *arg)
{
    struct attempt *a = arg;
    a->link = NULL;
    finish(a->c, l);
}

static void on_link_closed(struct link *l, int code, const char *why, void *arg)
{
    struct attempt *a = arg;
    attempt_fail(a, code, why);
}

static const struct link_callbacks handshaking = {.on_ready = on_link_ready,
                                                  .on_closed = on_link_closed};

/* The descriptor is connected: on to the handshake. */
static void attempt_connected(struct attempt *a)
{
    struct transport *t;
    struct err e = {"out of memory"};
    int fd = a->fd, r;
    watch_free(a->watch);
    a->watch = NULL;
    a->fd = -1;
    if (a->is_unix)
        r = stream_transport_new(&t, fd);
    else
        r = a->c->tcp.make(a->c->tcp.arg, fd, &t, &e);
    if (r == CV_OK)
        r = link_new(&a->link, a->c->loop, t, &handshaking, a);
    if (r < 0)
        attempt_fail(a, r, e.text);
}

/* The factory knows its own way there. */
static void dial(struct attempt *a, const char *host, uint16_t port)
{
    struct transport *t;
    struct err e = {"out of memory"};
    int r = a->c->tcp.dial(a->c->tcp.arg, host, port, &t, &e);
    if (r == CV_OK)
        r = link_new(&a->link, a->c->loop, t, &handshaking, a);
    if (r < 0)
        attempt_fail(a, r, e.text);
}

static void unix_connect(struct attempt *a);

static void on_retry(void *arg)
{
    unix_connect(arg);
}

/* Whoever owns the other end could read what we send. */
static void unix_check_peer(struct attempt *a)
{
    struct ucred cred;
    socklen_t n = sizeof cred;
    char why[96];
    if (getsockopt(a->fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
        return attempt_fail(a, CV_EAUTH, "can't tell who listens there");
    if (cred.uid != geteuid() && cred.uid != 0) {
        snprintf(why, sizeof why, "the socket belongs to user %ld, not to you (%ld)",
                 (long)cred.uid, (long)geteuid());
        return attempt_fail(a, CV_EAUTH, why);
    }
    attempt_connected(a);
}

static void unix_connect(struct attempt *a)
{
    struct sockaddr_un sa;
    socklen_t len;
    if (address_unix(a->endpoint + strlen("unix:"), &sa, &len) < 0)
        return attempt_fail(a, CV_EINVAL, "not a name of a Unix socket");
    a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (a->fd < 0)
        return attempt_fail(a, CV_ESYS, strerror(errno));
    if (connect(a->fd, (struct sockaddr *)&sa, len) == 0)
        return unix_check_peer(a);
    int code = errno;
    close(a->fd);
    a->fd = -1;
    if (code != EAGAIN)
        return attempt_fail(
            a, CV_ESYS, code == ECONNREFUSED ? "nobody listens there (any more)" : strerror(code));
    if (!a->retry && timer_new(&a->retry, a->c->loop, on_retry, a) < 0)
        return attempt_fail(a, CV_ENOMEM, "out of memory");
    timer_start(a->retry, FULL_BACKLOG_RETRY, 0);
}

static void tcp_failed(struct attempt *a, int code)
{
    char why[128];
    snprintf(why, sizeof why, "%s", strerror(code));
    if (why[0] >= 'A' && why[0] <= 'Z')
        why[0] = (char)(why[0] - 'A' + 'a'); /* it stands behind a colon */
    watch_free(a->watch);
    a->watch = NULL;
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
    if (a->next_addr)
        tcp_next(a);
    else
        attempt_fail(a, CV_ESYS, why);
}

static void on_tcp_writable(void *arg, int events)
{
    struct attempt *a = arg;
    int code = 0;
    socklen_t n = sizeof code;
    if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &code, &n) < 0)
        code = errno;
    if (code)
        tcp_failed(a, code);
    else
        attempt_connected(a);
}

static void tcp_connect(struct attempt *a, const struct sockaddr *sa, socklen_t len)
{
    a->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (a->fd < 0)
        return tcp_failed(a, errno);
    if (connect(a->fd, sa, len) < 0 && errno != EINPROGRESS)
        return tcp_failed(a, errno);
    if (watch_new(&a->watch, a->c->loop, a->fd, UV_WRITABLE, on_tcp_writable, a) < 0)
        attempt_fail(a, CV_ENOMEM, "out of memory");
}

static void tcp_next(struct attempt *a)
{
    struct addrinfo *ai = a->next_addr;
    a->next_addr = ai->ai_next;
    tcp_connect(a, ai->ai_addr, ai->ai_addrlen);
}

static void on_lookup(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct lookup *k = req->data;
    struct attempt *a = k->a;
    free(k);
    if (!a) {
        uv_freeaddrinfo(res);
        return;
    }
    a->lookup = NULL;
    if (status < 0)
        return attempt_fail(a, CV_ENOENT, "the name of the host is not known here");
    a->addrs = a->next_addr = res;
    tcp_next(a);
}

static void tcp_lookup(struct attempt *a, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct lookup *k = calloc(1, sizeof *k);
    if (!k)
        return attempt_fail(a, CV_ENOMEM, "out of memory");
    k->a = a;
    k->req.data = k;
    if (uv_getaddrinfo(loop_uv(a->c->loop), &k->req, on_lookup, host, port, &hints) < 0) {
        free(k);
        return attempt_fail(a, CV_EINVAL, "not a name of a host");
    }
    a->lookup = k;
}

static void tcp_start(struct attempt *a)
{
    char host[ADDRESS_HOST_MAX], service[8];
    uint16_t port;
    struct sockaddr_in a4;
    struct sockaddr_in6 a6;
    if (!a->c->tcp.make && !a->c->tcp.dial)
        return attempt_fail(a, CV_EINVAL, "there is no key for it");
    if (strncmp(a->endpoint, "tcp://", 6) || !address_split(a->endpoint + 6, host, &port))
        return attempt_fail(a, CV_EINVAL,
                            "not an endpoint (unix:@name, unix:/path, tcp://host:port)");
    if (a->c->tcp.dial)
        return dial(a, host, port);
    if (uv_ip4_addr(host, port, &a4) == 0)
        return tcp_connect(a, (struct sockaddr *)&a4, sizeof a4);
    if (uv_ip6_addr(host, port, &a6) == 0)
        return tcp_connect(a, (struct sockaddr *)&a6, sizeof a6);
    snprintf(service, sizeof service, "%d", port);
    tcp_lookup(a, host, service);
}

/* Starts the next TCP endpoint once the Unix ones have failed; ends when nothing is left. The
 * connector may be gone afterwards. */
static void go_on(struct connector *c)
{
    bool unix_open = false, tcp_open = false;
    struct attempt *next = NULL;
    for (uint32_t i = 0; i < c->n; i++) {
        struct attempt *a = &c->v[i];
        if (!a->failed && a->is_unix)
            unix_open = true;
        else if (!a->failed && a->started)
            tcp_open = true;
        else if (!a->failed && !next)
            next = a;
    }
    if (unix_open || (tcp_open && c->tcp.dial))
        return;
    if (next && !c->way_closed) {
        next->started = true;
        timer_start(c->stagger, STAGGER, 0);
        tcp_start(next); /* may come back here, or finish: nothing follows */
    } else if (!tcp_open) {
        finish(c, NULL);
    }
}

static void attempt_fail(struct attempt *a, int code, const char *why)
{
    attempt_stop(a);
    a->failed = true;
    a->code = code;
    a->why = strdup(why);
    a->c->way_closed |= a->c->tcp.dial && !a->is_unix && (code == CV_EACCES || code == CV_ENOENT);
    go_on(a->c);
}

static void on_stagger(void *arg)
{
    go_on(arg);
}

static void on_deadline(void *arg)
{
    struct connector *c = arg;
    for (uint32_t i = 0; i < c->n; i++) {
        struct attempt *a = &c->v[i];
        char why[64];
        if (a->failed)
            continue;
        snprintf(why, sizeof why, "no answer within %.3g s", (double)c->timeout_ns / NS_PER_S);
        a->failed = true;
        a->code = CV_ETIMEOUT;
        a->why = strdup(why);
    }
    finish(c, NULL);
}

/* A failing attempt goes on with the next and, at last, finishes, in which the connector may be
 * freed; so the Unix ones are all marked before the first is begun, and the last call is the last.
 */
static void on_start(struct loop_job *j)
{
    struct connector *c = list_entry(j, struct connector, start);
    uint32_t nunix = 0, begun = 0;
    for (uint32_t i = 0; i < c->n; i++)
        nunix += c->v[i].is_unix;
    if (!nunix)
        return go_on(c);
    for (uint32_t i = 0; begun < nunix; i++) {
        if (c->v[i].is_unix) {
            c->v[i].started = true;
            begun++;
            unix_connect(&c->v[i]);
        }
    }
}

int connector_new(struct connector **ret, struct loop *l, const char *const *endpoints, uint32_t n,
                  const struct transport_factory *tcp, uint64_t timeout_ns, connect_cb cb,
                  void *arg, struct err *e)
{
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        goto fail;
    *c = (struct connector){.loop = l, .timeout_ns = timeout_ns, .cb = cb, .arg = arg};
    if (tcp)
        c->tcp = *tcp;
    loop_job_init(&c->start, on_start);
    c->v = calloc(n ? n : 1, sizeof *c->v);
    if (!c->v || timer_new(&c->stagger, l, on_stagger, c) < 0 ||
        timer_new(&c->deadline, l, on_deadline, c) < 0)
        goto fail;
    for (uint32_t i = 0; i < n; i++) {
        struct attempt *a = &c->v[c->n++];
        *a = (struct attempt){.c = c, .fd = -1, .endpoint = strdup(endpoints[i])};
        if (!a->endpoint)
            goto fail;
        a->is_unix = strncmp(a->endpoint, "unix:", 5) == 0;
    }
    timer_start(c->deadline, timeout_ns, 0);
    loop_job_next_turn(l, &c->start);
    *ret = c;
    return CV_OK;
fail:
    connector_free(c);
    return err_set(e, CV_ENOMEM, "out of memory");
}

void connector_free(struct connector *c)
{
    if (!c)
        return;
    connector_stop(c);
    for (uint32_t i = 0; i < c->n; i++) {
        free(c->v[i].endpoint);
        free(c->v[i].why);
    }
    free(c->v);
    free(c);
}
