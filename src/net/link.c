/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The life of a link: handshake, readiness, liveness, closing, death. Runs on the loop's thread
 * only. A link dies by link_fail(), which drops the connection's watch and lets on_closed follow
 * in the next turn; nothing else ever calls on_closed. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "net/connect.h"
#include "net/link_priv.h"

#define LINGER_MAX NS_PER_S
#define UNIX_BUFFER (512 << 10) /* a whole turn fits; more gains nothing */
#define TCP_UNSENT_MAX                                                                             \
    (128 << 10) /* the kernel's queue stays short, so that small messages overtake */

void link_enter(struct link *l)
{
    l->depth++;
}

void link_leave(struct link *l)
{
    if (--l->depth > 0 || l->state != LINK_FREED)
        return;
    link_send_release(l);
    link_recv_release(l);
    bulk_release(l);
    blob_release(l);
    memfd_end(l);
    free(l->tx_error);
    free(l->why);
    free(l);
}

/* Stops everything that could call us. */
static void link_disconnect(struct link *l)
{
    loop_job_cancel(&l->turn_job);
    loop_job_cancel(&l->flush_job);
    watch_free(l->watch);
    timer_free(l->liveness);
    timer_free(l->closer);
    l->watch = NULL;
    l->liveness = l->closer = NULL;
}

void link_fail(struct link *l, int code, const char *fmt, ...)
{
    if (!link_alive(l))
        return;
    char text[sizeof(struct err)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    l->state = LINK_DEAD;
    l->code = l->closing ? CV_ECLOSED : code;
    l->why = strdup(text);
    link_disconnect(l);
    link_next_turn(l);
}

void link_next_turn(struct link *l)
{
    if (l->lane)
        lane_add(l->lane, &l->turn_job);
    else
        loop_job_next_turn(l->loop, &l->turn_job);
}

void link_watch(struct link *l)
{
    if (!link_alive(l) || !l->watch)
        return;
    int events = UV_READABLE;
    if (l->state == LINK_HANDSHAKE)
        events = (l->handshake_want & WANT_READ ? UV_READABLE : 0) |
                 (l->handshake_want & WANT_WRITE ? UV_WRITABLE : 0);
    else if (l->blocked)
        events |= UV_WRITABLE;
    watch_set(l->watch, events);
}

static void link_handshake(struct link *l)
{
    struct err e = {0};
    int r = CV_OK;
    if (l->t->ops->handshake)
        r = l->t->ops->handshake(l->t, &l->handshake_want, &e);
    if (r == CV_OK) {
        l->state = LINK_READY;
        l->last_received = loop_now(l->loop);
        if (l->cb->on_ready)
            l->cb->on_ready(l, l->arg);
        if (!link_alive(l))
            return;
        link_schedule_flush(l);
        if (l->t->ops->pending(l->t))
            link_read(l);
    } else if (r != CV_EAGAIN) {
        link_fail(l, r, "%s", e.text);
        return;
    }
    link_watch(l);
}

static void handle_events(struct link *l, int events)
{
    if (l->state == LINK_HANDSHAKE) {
        link_handshake(l);
        return;
    }
    if (events & UV_READABLE)
        link_read(l);
    if ((events & UV_WRITABLE) && link_alive(l)) {
        l->blocked = false;
        link_write(l);
    }
    link_watch(l);
}

static void on_event(void *arg, int events)
{
    struct link *l = arg;
    if (l->lane) { /* poll would tell of it in each turn until then */
        l->lane_events |= events;
        watch_set(l->watch, 0);
        link_next_turn(l);
        return;
    }
    link_enter(l);
    handle_events(l, events);
    link_leave(l);
}

static void on_turn(struct loop_job *j)
{
    struct link *l = list_entry(j, struct link, turn_job);
    link_enter(l);
    if (l->state == LINK_DEAD) {
        if (!l->reported && l->cb->on_closed) {
            l->reported = true;
            l->cb->on_closed(l, l->code, l->why ? l->why : "out of memory", l->arg);
        }
    } else {
        int events = l->lane_events | (l->read_again ? UV_READABLE : 0);
        l->lane_events = 0;
        handle_events(l, events);
        if (l->write_again && l->state == LINK_READY)
            link_write(l);
        link_watch(l);
    }
    link_leave(l);
}

static void on_turn_end(struct loop_job *j)
{
    struct link *l = list_entry(j, struct link, flush_job);
    link_enter(l);
    link_write(l);
    link_watch(l);
    link_leave(l);
}

/* Small messages must not wait behind a long queue in the kernel. */
static bool tune_socket(int fd)
{
    int domain = 0, one = 1, unsent = TCP_UNSENT_MAX, unix_buffer = UNIX_BUFFER;
    socklen_t n = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0)
        return false;
    if (domain == AF_INET || domain == AF_INET6) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    }
    if (domain == AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &unix_buffer, sizeof unix_buffer);
    return domain == AF_UNIX;
}

int link_new(struct link **ret, struct loop *loop, struct transport *t_take,
             const struct link_callbacks *cb, void *arg)
{
    struct link *l = calloc(1, sizeof *l);
    int r = CV_ENOMEM;
    if (!l)
        goto fail;
    l->loop = loop;
    l->t = t_take;
    l->arg = arg;
    l->cb = cb;
    r = watch_new(&l->watch, loop, t_take->fd, 0, on_event, l);
    if (r < 0)
        goto fail;
    l->is_unix = tune_socket(t_take->fd) && !t_take->ops->handshake;
    l->chunk_max = l->is_unix ? WIRE_CHUNK_MAX : LINK_CHUNK_TCP;
    l->limits = (struct wire_limits){.body_max = WIRE_PREAUTH_MAX, .route_max = WIRE_PREAUTH_MAX};
    l->window_out = l->window_in = LINK_CREDIT_DEFAULT;
    l->credit_out = LINK_CREDIT_DEFAULT;
    l->last_received = loop_now(loop);
    list_init(&l->waiting);
    list_init(&l->active);
    list_init(&l->ending);
    list_init(&l->late);
    loop_job_init(&l->turn_job, on_turn);
    loop_job_init(&l->flush_job, on_turn_end);
    loop_job_next_turn(loop, &l->turn_job);
    *ret = l;
    return CV_OK;
fail:
    free(l);
    t_take->ops->free(t_take);
    return r;
}

void link_free(struct link *l)
{
    if (!l || l->state == LINK_FREED)
        return;
    link_enter(l);
    link_disconnect(l);
    l->state = LINK_FREED;
    l->t->ops->free(l->t);
    l->t = NULL;
    link_leave(l);
}

void link_set_callbacks(struct link *l, const struct link_callbacks *cb, void *arg)
{
    l->cb = cb;
    l->arg = arg;
}

static void on_close_timeout(void *arg)
{
    struct link *l = arg;
    link_fail(l, CV_ECLOSED,
              l->state == LINK_LINGER ? "closed" : "closed before everything was sent");
}

void link_close_after_flush(struct link *l, uint64_t timeout_ns)
{
    if (!link_alive(l) || l->closing)
        return;
    l->closing = true;
    l->close_at = loop_now(l->loop) + timeout_ns;
    if (timer_new(&l->closer, l->loop, on_close_timeout, l) < 0) {
        link_fail(l, CV_ECLOSED, "closed: out of memory");
        return;
    }
    timer_start(l->closer, timeout_ns, 0);
    link_schedule_flush(l);
}

/* Closing with bytes unread would make the kernel take back what the peer has not read yet: say
 * that no more will come and wait for the peer to close. */
void link_sent_all(struct link *l)
{
    if (l->state != LINK_READY)
        return;
    if (shutdown(l->t->fd, SHUT_WR) < 0) {
        link_fail(l, CV_ECLOSED, "closed");
        return;
    }
    l->state = LINK_LINGER;
    uint64_t now = loop_now(l->loop);
    if (l->close_at > now + LINGER_MAX)
        timer_start(l->closer, LINGER_MAX, 0);
}

/* Silence is judged only after a look at the socket: this process may have been stopped. */
static void on_liveness(void *arg)
{
    struct link *l = arg;
    link_enter(l);
    uint64_t now = loop_now(l->loop);
    if (now - l->last_received >= l->idle_ns && l->state != LINK_HANDSHAKE)
        link_read(l);
    if (link_alive(l)) {
        uint64_t silent = now > l->last_received ? now - l->last_received : 0;
        if (silent >= l->dead_ns) {
            link_fail(l, CV_ETIMEOUT, "nothing was heard for %.3g s", (double)silent / NS_PER_S);
        } else {
            if (silent >= l->idle_ns && l->state == LINK_READY) {
                if (link_queue_own(l, MSG_PING, clock_wall(), 0) < 0)
                    link_fail(l, CV_ENOMEM, "out of memory");
                else
                    link_schedule_flush(l);
            }
            uint64_t next = silent < l->idle_ns ? l->idle_ns - silent : l->idle_ns;
            if (next > l->dead_ns - silent)
                next = l->dead_ns - silent;
            if (link_alive(l))
                timer_start(l->liveness, next, 0);
        }
        link_watch(l);
    }
    link_leave(l);
}

void link_set_liveness(struct link *l, uint64_t idle_ns, uint64_t dead_ns)
{
    if (!link_alive(l))
        return;
    l->idle_ns = idle_ns;
    l->dead_ns = dead_ns;
    if (!idle_ns || !dead_ns) {
        timer_free(l->liveness);
        l->liveness = NULL;
    } else if (l->liveness || timer_new(&l->liveness, l->loop, on_liveness, l) == CV_OK) {
        timer_start(l->liveness, idle_ns < dead_ns ? idle_ns : dead_ns, 0);
    } else {
        link_fail(l, CV_ENOMEM, "out of memory");
    }
}

void link_set_limits(struct link *l, const struct wire_limits *limits)
{
    l->limits = *limits;
}

void link_set_lane(struct link *l, struct lane *lane)
{
    bool queued = !list_empty(&l->turn_job.node) || l->lane_events;
    loop_job_cancel(&l->turn_job);
    l->lane = lane;
    if (queued)
        link_next_turn(l);
}

const char *link_identity(const struct link *l)
{
    return l->t ? l->t->ops->identity(l->t) : NULL;
}

bool link_is_unix(const struct link *l)
{
    return l->is_unix;
}

uint64_t link_queued_bytes(const struct link *l)
{
    return l->queued;
}

uint64_t link_queued_small(const struct link *l)
{
    return l->queued - l->queued_large;
}

void link_traffic(const struct link *l, uint64_t *ret_sent, uint64_t *ret_received)
{
    *ret_sent = l->sent_bytes;
    *ret_received = l->received_bytes;
}

int link_fd(const struct link *l)
{
    return l->t ? l->t->fd : -1;
}
