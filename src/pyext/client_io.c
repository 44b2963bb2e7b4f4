/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A client's I/O thread: sends the outbox, files what arrives, sends again after a reconnect. What
 * a turn brings is filed under one lock at its end, then the waiters are woken. ACKs ride along
 * with the next message, after 256 results or 1 MiB, or after 5 ms. Out of memory here drops the
 * link, and connecting again recovers what was lost with it. */
#include "pyext/client.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/jsontext.h"
#include "base/ranges.h"
#include "pyext/waiter.h"
#include "wire/leftout.h"

#define ACK_DELAY_NS (5 * NS_PER_MS)
#define ACK_COUNT 256
#define ACK_BYTES (1u << 20)
#define EVENTS_MAX (256ull << 20) /* bytes that wait for poll() before output is left out */
#define HOPELESS_NS (12 * NS_PER_S)
#define HELLO_RANGES 8192 /* of up to 28 bytes each, so that they fit WIRE_HELLO_MAX */

/* A JSON event made here, for poll(). The mutex is held. */
static void add_event(struct core *c, uint8_t type, const char *text)
{
    struct header h = {
        .type = type, .session = c->session, .engine = WIRE_ENGINE_NONE, .time = clock_wall()};
    struct payload *p;
    struct msg *m;
    if (payload_new_copy(&p, text, strlen(text)))
        return;
    if (!msg_new(&m, &h, NULL, 0, p))
        core_event(c, m);
}

static void link_event(struct core *c, const char *name, const char *why, const struct msg *welcome)
{
    json_t *w = NULL;
    if (welcome && welcome->payload && welcome->payload->nbufs)
        w = json_loadb((const char *)welcome->payload->bufs[0].data, welcome->payload->bufs[0].len,
                       0, NULL);
    json_t *j = json_pack("{s:s, s:s, s:o*}", "event", name, "why", why, "welcome", w);
    char *text = j ? jsontext(j, JSON_COMPACT) : NULL;
    if (text)
        add_event(c, MSG_EVENT, text);
    free(text);
    json_decref(j);
}

static void set_state(struct core *c, int state, const char *why)
{
    c->link_state = state;
    c->since = (double)clock_wall() / 1e9;
    snprintf(c->why, sizeof c->why, "%s", why);
}

static void send_ack(struct core *c)
{
    struct header h = {.type = MSG_ACK, .engine = WIRE_ENGINE_NONE, .aux = c->nresults};
    if (c->nacked == c->nresults || c->up.state != UPLINK_UP)
        return;
    if (link_send(c->up.link, &h, NULL, 0, NULL, 0))
        return; /* out of memory: the next ACK says it too */
    c->nacked = c->nresults;
    c->unacked_bytes = 0;
    c->ack_armed = false;
    timer_stop(c->ack_timer);
}

static void on_ack_timer(void *arg)
{
    struct core *c = arg;
    c->ack_armed = false;
    send_ack(c);
}

/* ---- sending ---- */

/* What the link holds instead of Python's memory: tells when the link no longer reads it. */
struct lent {
    struct core *core;
    struct payload *base;
    uint64_t session, lo;
    uint64_t link; /* uplink.nlinks: given back by another one's end it was not sent */
};

static void on_lent_back(struct payload *p)
{
    struct lent *l = payload_owner(p);
    struct core *c = l->core;
    struct msg *m = NULL;
    if (l->link == c->up.nlinks && c->up.link) {
        pthread_mutex_lock(&c->mu);
        struct slot *sl = core_slot(c, l->session, l->lo);
        if (sl && sl->sub->foreign) {
            m = sl->sub->msg;
            sl->sub->msg = NULL;
        }
        pthread_mutex_unlock(&c->mu);
    }
    msg_free(m);
    payload_unref(l->base);
    free(l);
}

static int send_msg(struct core *c, const struct msg *m, struct payload *p)
{
    bool ordered = m->h.type == MSG_TASK && (m->h.flags & (MSG_F_DIRECT | MSG_F_BROADCAST));
    return link_send(c->up.link, &m->h, m->route, m->h.route_len, p, ordered ? LINK_AFTER_BULK : 0);
}

static int send_lent(struct core *c, const struct submit *s)
{
    struct payload *base = s->msg->payload, *p;
    struct lent *l = malloc(sizeof *l);
    if (!l)
        return CV_ENOMEM;
    *l = (struct lent){c, base, s->session, s->lo, c->up.nlinks};
    int r = payload_new_foreign(&p, base->nbufs, base->bufs, on_lent_back, l);
    if (r) {
        free(l);
        return r;
    }
    payload_ref(base);
    r = send_msg(c, s->msg, p);
    if (r)
        l->link = 0;
    payload_unref(p);
    return r;
}

static int send_out(struct core *c, const struct out *o)
{
    if (o->sub)
        return o->sub->foreign ? send_lent(c, o->sub)
                               : send_msg(c, o->sub->msg, o->sub->msg->payload);
    return send_msg(c, o->msg, o->msg->payload);
}

/* Sends all of the outbox. What the link does not take (it is dead, or memory is short) stays
 * pending and is sent again after the reconnect, since the controller will not know it. */
static void send_outbox(struct core *c)
{
    pthread_mutex_lock(&c->mu);
    struct out *head = c->out_head;
    c->out_head = NULL;
    c->out_tail = &c->out_head;
    c->nout = 0;
    pthread_mutex_unlock(&c->mu);
    if (!head)
        return;
    int r = 0;
    for (struct out *o = head; o && !r; o = o->next)
        r = send_out(c, o);
    struct msg *garbage = NULL;
    pthread_mutex_lock(&c->mu);
    while (head) {
        struct out *o = head;
        head = o->next;
        if (o->sub) {
            core_keep(c, o->sub, &garbage);
        } else {
            o->msg->next = garbage;
            garbage = o->msg;
            free(o);
        }
    }
    pthread_mutex_unlock(&c->mu);
    garbage_free(garbage);
    send_ack(c);
    if (r == CV_ENOMEM)
        uplink_drop(&c->up, "out of memory");
}

/* ---- receiving ---- */

static void ack_by_name(struct core *c, const struct msg *m)
{
    struct header h = {.type = MSG_ACK,
                       .engine = WIRE_ENGINE_NONE,
                       .session = m->h.session,
                       .seq = m->h.seq,
                       .count = m->h.count};
    if (c->up.state == UPLINK_UP && link_send(c->up.link, &h, NULL, 0, NULL, 0))
        uplink_drop(&c->up, "out of memory");
}

/* What was too large for the memory here ends as an error, and is not sent again. */
static void end_left_out(struct core *c, struct msg *m)
{
    if (m->h.type == MSG_RESULT)
        ack_by_name(c, m);
    if (left_out_end(m, "this process"))
        uplink_drop(&c->up, "out of memory");
}

static void on_msg(void *arg, struct msg *m)
{
    struct core *c = arg;
    bool left_out = m->h.flags & MSG_F_LEFT_OUT;
    if (left_out)
        end_left_out(c, m);
    m->next = NULL;
    *c->in_tail = m;
    c->in_tail = &m->next;
    if (m->h.type != MSG_RESULT || left_out)
        return;
    if (result_acked_by_name(m->payload)) {
        ack_by_name(c, m);
    } else {
        c->nresults++;
        c->unacked_bytes += m->h.body_len;
    }
}

/* Files one RESULT or REPLY. */
static void file_result(struct core *c, struct msg *m, uint64_t now, struct waiter **due,
                        struct msg **garbage)
{
    struct result *r = calloc(1, sizeof *r);
    if (!r) {
        m->next = *garbage;
        *garbage = m;
        return;
    }
    *r = (struct result){.refs = 1, .msg = m, .received = now};
    core_finish(c, m->h.session, m->h.seq, m->h.type == MSG_REPLY || !m->h.count ? 1 : m->h.count,
                r, due, garbage);
    result_unref(c, r, garbage);
}

static unsigned count_of(const struct waiter *due)
{
    unsigned n = 0;
    for (; due; due = due->due_next)
        n++;
    return n;
}

/* Nobody polls: output is left out, and whoever polls is told once. */
static void leave_out(struct core *c)
{
    if (!c->ev_cut)
        add_event(
            c, MSG_EVENT,
            "{\"event\":\"notice\",\"text\":\"output was left out: this client did not take it\"}");
    c->ev_cut = true;
}

static void file_turn(struct core *c)
{
    struct msg *m = c->in_head, *garbage = NULL;
    struct waiter *due = NULL;
    if (!m)
        return;
    c->in_head = NULL;
    c->in_tail = &c->in_head;
    uint64_t now = clock_wall();
    pthread_mutex_lock(&c->mu);
    while (m) {
        struct msg *next = m->next;
        if (m->h.type == MSG_RESULT || m->h.type == MSG_REPLY) {
            file_result(c, m, now, &due, &garbage);
        } else if (m->h.type == MSG_OUTPUT && c->ev_bytes > EVENTS_MAX) {
            leave_out(c);
            m->next = garbage;
            garbage = m;
        } else if (m->h.type == MSG_OUTPUT || m->h.type == MSG_COMM || m->h.type == MSG_EVENT) {
            core_event(c, m);
        } else {
            m->next = garbage;
            garbage = m;
        }
        m = next;
    }
    bool yield = due && c->nblocked <= count_of(due);
    pthread_mutex_unlock(&c->mu);
    waiters_wake(c, due);
    garbage_free(garbage);
    if (yield)
        io_yield(&c->io); /* who was woken will soon wait again */
}

/* The link may have sent by now what was to be let go. One that was lost holds nothing, and may
 * have sent nothing: the controller says first what it has. */
static void trim(struct core *c)
{
    struct msg *garbage = NULL;
    if (!c->over || c->up.state != UPLINK_UP)
        return;
    pthread_mutex_lock(&c->mu);
    core_trim(c, &garbage);
    pthread_mutex_unlock(&c->mu);
    garbage_free(garbage);
}

static void on_turn_end(void *arg)
{
    struct core *c = arg;
    file_turn(c);
    trim(c);
    uint64_t owed = c->nresults - c->nacked;
    if (owed >= ACK_COUNT || c->unacked_bytes >= ACK_BYTES)
        send_ack(c);
    else if (owed && !c->ack_armed) {
        timer_start(c->ack_timer, ACK_DELAY_NS, 0);
        c->ack_armed = true;
    }
}

/* ---- the link's life ---- */

static int id_range_add(struct id_range **v, uint32_t *n, uint32_t *cap, struct id_range r)
{
    if (*n && (*v)[*n - 1].session == r.session && (*v)[*n - 1].hi == r.lo) {
        (*v)[*n - 1].hi = r.hi;
        return CV_OK;
    }
    if (*n == *cap) {
        uint32_t more = *cap ? *cap * 2 : 16;
        struct id_range *bigger = realloc(*v, more * sizeof *bigger);
        if (!bigger)
            return CV_ENOMEM;
        *v = bigger;
        *cap = more;
    }
    (*v)[(*n)++] = r;
    return CV_OK;
}

/* Joins neighbours of one session until few enough are left; asking for some ids that have come
 * already does no harm: their results are ignored. */
static uint32_t squeeze(struct id_range *v, uint32_t n)
{
    for (uint64_t gap = 1; n > HELLO_RANGES && gap; gap *= 4) {
        uint32_t k = 0;
        for (uint32_t i = 1; i < n; i++) {
            if (v[i].session == v[k].session && v[i].lo >= v[k].hi && v[i].lo - v[k].hi <= gap)
                v[k].hi = v[i].hi;
            else
                v[++k] = v[i];
        }
        n = k + 1;
    }
    return n;
}

static int fill_hello(void *arg, struct hello *h, struct header *head)
{
    struct core *c = arg;
    struct id_range *v = NULL;
    uint32_t n = 0, cap = 0;
    int r = CV_OK;
    h->role = ROLE_CLIENT;
    h->session = c->session;
    pthread_mutex_lock(&c->mu);
    list_each(node, &c->submits)
    {
        struct submit *s = list_entry(node, struct submit, node);
        if (s->queued || s->query || !s->pending)
            continue;
        for (uint32_t i = 0; i < s->count && !r; i++) {
            if (s->slots[i].sub && !s->slots[i].res)
                r = id_range_add(&v, &n, &cap,
                                 (struct id_range){s->session, s->lo + i, s->lo + i + 1});
        }
    }
    pthread_mutex_unlock(&c->mu);
    if (r) {
        free(v);
        return r;
    }
    h->waiting = v;
    h->nwaiting = n ? squeeze(v, n) : 0;
    return CV_OK;
}

/* Of our session, which is the only one that the controller speaks of. */
static int unknown_of(const struct core *c, const struct welcome *w, struct ranges *ret)
{
    int r = CV_OK;
    for (uint32_t i = 0; i < w->nunknown && !r; i++) {
        if (w->unknown[i].session == c->session)
            r = ranges_add(ret, w->unknown[i].lo, w->unknown[i].hi);
    }
    return r;
}

static bool is_unknown(const struct core *c, const struct ranges *unknown, const struct submit *s)
{
    const struct range *r = s->session == c->session ? ranges_from(unknown, s->lo) : NULL;
    return r && r->lo < s->lo + s->count;
}

/* Puts back into the outbox what the controller does not know, before what is there; what can't be
 * sent again is lost. A QUERY leaves no trace at the controller, so it is asked again. */
static void resend(struct core *c, const struct ranges *unknown)
{
    struct waiter *due = NULL;
    struct msg *garbage = NULL;
    struct out *head = NULL, **tail = &head;
    pthread_mutex_lock(&c->mu);
    list_each_safe(node, tmp, &c->submits)
    {
        struct submit *s = list_entry(node, struct submit, node);
        if (s->queued || !s->pending || !(s->query || is_unknown(c, unknown, s)))
            continue;
        if (!s->msg) {
            core_lose(c, s,
                      "the controller does not know this task (was it restarted?) and its "
                      "arguments are not kept here any more",
                      &due, &garbage);
            continue;
        }
        core_unkeep(c, s);
        s->queued = true;
        *tail = &s->out;
        tail = &s->out.next;
    }
    if (head) { /* else tail is a local's address */
        *tail = c->out_head;
        if (!c->out_head)
            c->out_tail = tail;
        c->out_head = head;
    }
    pthread_mutex_unlock(&c->mu);
    waiters_wake(c, due);
    garbage_free(garbage);
}

static void forget_peer(struct core *c)
{
    if (c->peer_fd < 0)
        return;
    fork_guard_drop_begin(&c->io.guard, c->peer_fd);
    close(c->peer_fd);
    fork_guard_drop_end();
    c->peer_fd = -1;
}

static bool peer_ended(const struct core *c)
{
    struct pollfd p = {.fd = c->peer_fd, .events = POLLIN};
    return c->peer_fd >= 0 && poll(&p, 1, 0) == 1;
}

/* The controller's process, if it is on this machine. -1 also where kernels have no pidfds. By TCP
 * it is the one that the connection file names, unless that has ended: then this is another. */
static void remember_peer(struct core *c)
{
    struct ucred u;
    socklen_t n = sizeof u;
    if (!link_is_unix(c->up.link)) {
        if (peer_ended(c))
            forget_peer(c);
        return;
    }
    forget_peer(c);
    if (getsockopt(link_fd(c->up.link), SOL_SOCKET, SO_PEERCRED, &u, &n) < 0 || u.pid <= 0)
        return;
    c->peer_fd = (int)syscall(SYS_pidfd_open, u.pid, 0);
    if (c->peer_fd >= 0)
        fork_guard_hold(&c->io.guard, c->peer_fd);
}

static void on_up(void *arg, const struct welcome *w, const struct msg *m)
{
    struct core *c = arg;
    struct ranges unknown = {0};
    c->nresults = c->nacked = c->unacked_bytes = 0;
    remember_peer(c);
    int r = unknown_of(c, w, &unknown);
    if (!r)
        resend(c, &unknown);
    ranges_release(&unknown);
    pthread_mutex_lock(&c->mu);
    bool back = c->link_state == LINK_AWAY;
    set_state(c, LINK_OK, "");
    if (back) {
        link_event(c, "link_back", "connected again", m);
    } else {
        msg_free(c->welcome);
        c->welcome = NULL;
        c->code = msg_new(&c->welcome, &m->h, NULL, 0, payload_ref(m->payload));
        if (w->python)
            c->note = strdup(w->python);
        c->connect_done = true;
        event_set(c->connect_fd);
    }
    pthread_mutex_unlock(&c->mu);
    if (r)
        uplink_drop(&c->up, "out of memory");
    else
        send_outbox(c);
}

static void on_lost(void *arg, const char *why)
{
    struct core *c = arg;
    timer_stop(c->ack_timer);
    c->ack_armed = false;
    pthread_mutex_lock(&c->mu);
    set_state(c, LINK_AWAY, why);
    link_event(c, "link_lost", why, NULL);
    pthread_mutex_unlock(&c->mu);
}

static void drop_outbox(struct core *c, struct msg **garbage)
{
    while (c->out_head) {
        struct out *o = c->out_head;
        c->out_head = o->next;
        if (o->sub) {
            core_keep(c, o->sub, garbage);
        } else {
            o->msg->next = *garbage;
            *garbage = o->msg;
            free(o);
        }
    }
    c->out_tail = &c->out_head;
}

static void on_gone(void *arg, int code, const char *why)
{
    struct core *c = arg;
    struct waiter *due = NULL;
    struct msg *garbage = NULL;
    file_turn(c);
    pthread_mutex_lock(&c->mu);
    if (c->up.state == UPLINK_GONE && c->link_state != LINK_CLOSED) {
        set_state(c, LINK_CLOSED, c->want_close ? "closed" : why);
        core_lose_all(c, c->want_close ? "the client was closed" : why, &due, &garbage);
        drop_outbox(c, &garbage);
        json_t *j = json_pack("{s:s}", "reason", c->why);
        char *text = j ? jsontext(j, JSON_COMPACT) : NULL;
        add_event(c, MSG_BYE, text ? text : "{}");
        free(text);
        json_decref(j);
    }
    if (!c->connect_done) {
        c->connect_done = true;
        c->code = code;
        snprintf(c->why, sizeof c->why, "%s", why);
        event_set(c->connect_fd);
    }
    bool stop = c->want_close;
    pthread_mutex_unlock(&c->mu);
    waiters_wake(c, due);
    garbage_free(garbage);
    if (stop)
        io_stop(&c->io);
}

/* Who ended the cluster has removed its file. Also how long a loss may last. */
static bool file_gone(struct core *c, uint64_t *ret_grace_ns)
{
    pthread_mutex_lock(&c->mu);
    bool gone = c->file && access(c->file, F_OK) < 0 && errno == ENOENT;
    *ret_grace_ns = c->grace_ns;
    pthread_mutex_unlock(&c->mu);
    return gone;
}

/* On this machine the controller's process tells whether trying on makes sense; also if nobody has
 * waited for its end, or its pid is another one's by now. */
static const char *hopeless(void *arg, bool was_unix, uint64_t away_ns)
{
    struct core *c = arg;
    uint64_t grace_ns;
    bool gone = file_gone(c, &grace_ns);
    if (grace_ns && away_ns >= grace_ns)
        return "the controller could not be reached for longer than this client's controller_grace";
    if (away_ns < HOPELESS_NS)
        return NULL;
    if (gone)
        return "the controller does not answer, and the cluster has ended (its connection file is "
               "gone); start it again";
    if (!peer_ended(c))
        return NULL;
    return "the controller has ended without a word (its process is gone); start the cluster again";
}

const struct uplink_ops client_uplink_ops = {.fill_hello = fill_hello,
                                             .on_up = on_up,
                                             .on_msg = on_msg,
                                             .on_lost = on_lost,
                                             .on_gone = on_gone,
                                             .hopeless = hopeless};

static void on_wake(void *arg)
{
    struct core *c = arg;
    pthread_mutex_lock(&c->mu);
    bool connect = c->want_connect, close = c->want_close && !c->closing;
    uint64_t connect_ns = c->connect_ns, linger_ns = c->linger_ns;
    c->want_connect = false;
    pthread_mutex_unlock(&c->mu);
    if (connect)
        uplink_start(&c->up, connect_ns);
    if (c->up.state == UPLINK_UP && !c->closing)
        send_outbox(c);
    if (close) {
        c->closing = true;
        send_ack(c); /* what has come need not be kept for us */
        uplink_close(&c->up, linger_ns);
    }
}

int client_io_init(struct core *c, struct err *e)
{
    c->in_tail = &c->in_head;
    loop_on_wake(c->io.loop, on_wake, c);
    int r = timer_new(&c->ack_timer, c->io.loop, on_ack_timer, c);
    if (!r)
        r = loop_on_turn_end(c->io.loop, on_turn_end, c);
    return r ? err_set(e, r, "out of memory") : CV_OK;
}

void client_io_end(void *arg)
{
    struct core *c = arg;
    uplink_stop(&c->up);
    forget_peer(c);
    timer_free(c->ack_timer);
    c->ack_timer = NULL;
    garbage_free(c->in_head);
    c->in_head = NULL;
    c->in_tail = &c->in_head;
}
