/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An engine's I/O thread: queues what arrives, sends the outbox in order, keeps RESULTs until they
 * are acknowledged and sends them again as the first thing after a reconnect. It never waits for
 * the main thread. STARTED is a matter of a timer that runs only while something is there to run.
 * Text whose line has not ended waits for the rest, a moment long, behind a timer of its own.
 * Out of memory drops the link: the controller and we then compare again what is held. */
#include "pyext/engine.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/jsontext.h"
#include "pyext/waiter.h"
#include "wire/leftout.h"

#define STARTED_NS (5 * NS_PER_MS)
/* How long text waits for the end of its line: pieces of one print() that leave one by one would be
 * shown apart where several engines write. */
#define LINE_NS (200 * NS_PER_MS)
#define HELLO_UNSTARTED 8000 /* ranges of up to 31 bytes each, see add_held() */

/* ---- the outbox ---- */

struct header engine_says(const struct engine_core *c, uint8_t type)
{
    return (struct header){.type = type,
                           .session = c->session,
                           .seq = c->last_seq,
                           .count = 1,
                           .attempt = c->attempt,
                           .engine = c->number,
                           .incarnation = c->incarnation};
}

int engine_send(struct engine_core *c, const struct header *h, struct payload *payload_take)
{
    struct eout *o = calloc(1, sizeof *o);
    if (!o) {
        payload_unref(payload_take);
        return CV_ENOMEM;
    }
    *o = (struct eout){.h = *h, .payload = payload_take};
    bool wake = !c->out_head || c->out_waits;
    if (!c->out_head)
        c->out_head = o;
    else
        c->out_tail->next = o;
    c->out_tail = o;
    c->nout++;
    if (wake) {
        c->out_waits = false;
        c->out_since = clock_mono();
        io_wake(&c->io, false); /* while nobody turns the loop, next() sends it */
    }
    return CV_OK;
}

bool engine_takes_output(const struct engine_core *c)
{
    return c->out_text + atomic_load_explicit(&c->in_link, memory_order_relaxed) < UNSENT_TEXT_MAX;
}

void engine_line_ended(struct engine_core *c)
{
    if (!c->out_waits)
        return;
    c->out_waits = false;
    io_wake(&c->io, false);
}

/* A RESULT without the task's code having run. The mutex is held. */
static struct header refusal(const struct engine_core *c, const struct header *task,
                             enum result_status status)
{
    struct header h = *task;
    h.type = MSG_RESULT;
    h.status = (uint8_t)status;
    h.flags = 0;
    h.engine = c->number;
    h.incarnation = c->incarnation;
    h.time = h.aux = clock_wall();
    return h;
}

void engine_refuse(struct engine_core *c, const struct header *task, uint64_t lo, uint64_t hi,
                   bool abort)
{
    struct header h = refusal(c, task, abort ? RESULT_ABORTED : RESULT_CANCELLED);
    struct payload *p = NULL;
    char text[160];
    h.seq = lo;
    h.count = (uint32_t)(hi - lo);
    snprintf(text, sizeof text,
             "{\"ename\": \"%s\", \"evalue\": \"%s before it had started\", \"engine\": %u, "
             "\"cause\": null}",
             abort ? "TaskAborted" : "CancelledError", abort ? "aborted" : "cancelled", c->number);
    int r = payload_new_copy(&p, text, strlen(text));
    if (!r)
        r = engine_send(c, &h, p);
    (void)r; /* out of memory: the controller learns at the next reconnect that nobody holds it */
}

/* Its data was too much for the memory here, or at the host. The mutex is held. */
static int refuse_left_out(struct engine_core *c, const struct header *task)
{
    struct header h = refusal(c, task, RESULT_REFUSED);
    struct payload *p = NULL;
    char where[40];
    snprintf(where, sizeof where, "engine %u, or its host,", c->number);
    int r = left_out_words(&p, task, where);
    return r ? r : engine_send(c, &h, p);
}

static void eout_free(struct eout *o)
{
    payload_unref(o->payload);
    buf_release(&o->text);
    free(o);
}

void engine_outbox_release(struct engine_core *c)
{
    while (c->out_head) {
        struct eout *o = c->out_head;
        c->out_head = o->next;
        eout_free(o);
    }
    while (c->unacked_head) {
        struct msg *m = c->unacked_head;
        c->unacked_head = m->next;
        msg_free(m);
    }
}

/* RESULTs keep their order, also behind a large one, and so what their tasks wrote before them. A
 * relay has many engines' on one link, and there a small one may overtake: so those that HELLO
 * counted, which are the first, say so. */
static int send_result(struct engine_core *c, const struct header *result, struct payload *p)
{
    struct header h = *result;
    if (c->announced)
        h.flags |= MSG_F_AGAIN;
    int r = link_send(c->up.link, &h, NULL, 0, p, LINK_AFTER_BULK);
    if (!r && c->announced)
        c->announced--;
    return r;
}

static int send_one(struct engine_core *c, struct eout *o, struct msg **ret_result)
{
    if (o->text.len) {
        int r = payload_new_copy(&o->payload, o->text.data, o->text.len);
        if (r)
            return r;
        buf_release(&o->text);
    }
    if (o->h.type == MSG_RESULT) {
        int r = msg_new(ret_result, &o->h, NULL, 0, payload_ref(o->payload));
        return r ? r : send_result(c, &o->h, o->payload);
    }
    return link_send(c->up.link, &o->h, NULL, 0, o->payload, 0);
}

/* Puts what was not sent back in front of the outbox. The mutex is held. */
static void unsend(struct engine_core *c, struct eout *head)
{
    struct eout *tail = head;
    while (tail->next && tail->next != c->out_head) /* which waits for the end of its line */
        tail = tail->next;
    tail->next = c->out_head;
    if (!c->out_head)
        c->out_tail = tail;
    c->out_head = head;
}

/* How long the end of the outbox waits yet for the end of its line. The mutex is held. */
static uint64_t line_wait(const struct engine_core *c)
{
    const struct eout *o = c->out_tail;
    if (!o || !o->text.len || o->flushed || c->want_close || o->text.data[o->text.len - 1] == '\n')
        return 0;
    uint64_t age = clock_mono() - o->since;
    return age < LINE_NS ? LINE_NS - age : 0;
}

/* Takes the outbox, but for a line that has not ended: the list ends in front of *ret_waits, which
 * stays. */
static struct eout *take_outbox(struct engine_core *c, struct eout **ret_waits)
{
    pthread_mutex_lock(&c->mu);
    uint64_t wait = line_wait(c);
    struct eout *head = c->out_head, *waits = wait ? c->out_tail : NULL;
    c->out_head = c->out_tail = waits;
    c->nout = waits ? 1 : 0;
    c->out_text = waits ? waits->text.len : 0;
    c->out_waits = waits != NULL;
    pthread_mutex_unlock(&c->mu);
    if (waits)
        timer_start(c->line_timer, wait, 0);
    *ret_waits = waits;
    return head;
}

static void send_outbox(struct engine_core *c)
{
    struct eout *waits, *head = take_outbox(c, &waits);
    struct msg *results = NULL, **tail = &results;
    uint32_t n = 0;
    int r = 0;
    while (head != waits) {
        struct eout *o = head;
        struct msg *m = NULL;
        r = send_one(c, o, &m);
        if (m && r) {
            msg_free(m);
        } else if (m) {
            *tail = m;
            tail = &m->next;
            n++;
        }
        if (r)
            break;
        head = o->next;
        eout_free(o);
    }
    *tail = NULL;
    if (!results && head == waits)
        return;
    pthread_mutex_lock(&c->mu);
    if (results) {
        *c->unacked_tail = results;
        c->unacked_tail = tail;
        c->nunacked += n;
    }
    if (head != waits)
        unsend(c, head);
    pthread_mutex_unlock(&c->mu);
    if (r == CV_ENOMEM)
        uplink_drop(&c->up, "out of memory");
}

/* The controller has this RESULT: a large one by its ids, a small one by its place among them. */
static bool is_acked(struct engine_core *c, const struct msg *m, const struct header *ack)
{
    bool named = result_acked_by_name(m->payload);
    if (ack->count)
        return named && m->h.session == ack->session && m->h.seq == ack->seq &&
               m->h.count == ack->count && m->h.attempt == ack->attempt;
    if (named || c->acked >= ack->aux)
        return false;
    c->acked++;
    return true;
}

static void on_ack(struct engine_core *c, const struct header *ack)
{
    struct msg *done = NULL, **tail = &done;
    pthread_mutex_lock(&c->mu);
    for (struct msg **at = &c->unacked_head; *at && (ack->count ? !done : c->acked < ack->aux);) {
        struct msg *m = *at;
        if (!is_acked(c, m, ack)) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        if (!m->next)
            c->unacked_tail = at;
        *tail = m;
        tail = &m->next;
        c->nunacked--;
    }
    pthread_mutex_unlock(&c->mu);
    *tail = NULL;
    while (done) {
        struct msg *next = done->next;
        msg_free(done);
        done = next;
    }
}

/* ---- STARTED ---- */

/* Goes in front of text that still grows: behind it, it would cut a line in two. */
static int tell_started(struct engine_core *c)
{
    struct header h = engine_says(c, MSG_STARTED);
    h.time = c->begun[c->nbegun - 1].started;
    struct eout *last = c->out_tail;
    int r = engine_send(c, &h, NULL);
    if (!r && last && last->text.len) {
        struct eout text = *last;
        *last = *c->out_tail;
        *c->out_tail = text;
        last->next = c->out_tail;
        c->out_tail->next = NULL;
    }
    return r;
}

static void on_started_timer(void *arg)
{
    struct engine_core *c = arg;
    uint64_t again = 0;
    pthread_mutex_lock(&c->mu);
    if (c->running && c->started_told != c->begun_mono) {
        uint64_t ran = clock_mono() - c->begun_mono;
        if (ran >= STARTED_NS) {
            if (tell_started(c) == CV_OK)
                c->started_told = c->begun_mono;
        } else {
            again = STARTED_NS - ran;
        }
    } else if (!c->running && (!list_empty(&c->queue) || !list_empty(&c->open))) {
        again = STARTED_NS; /* something is about to begin */
    }
    pthread_mutex_unlock(&c->mu);
    c->started_armed = again > 0;
    if (again)
        timer_start(c->started_timer, again, 0);
}

static void arm_started(struct engine_core *c)
{
    if (c->started_armed)
        return;
    c->started_armed = true;
    timer_start(c->started_timer, STARTED_NS, 0);
}

/* ---- the link ---- */

static void on_msg(void *arg, struct msg *m)
{
    struct engine_core *c = arg;
    int r = CV_OK;
    if (m->h.type == MSG_ACK) {
        on_ack(c, &m->h);
        msg_free(m);
        return;
    }
    pthread_mutex_lock(&c->mu);
    switch (m->h.type) {
    case MSG_TASK:
        if (m->h.flags & MSG_F_LEFT_OUT) {
            r = refuse_left_out(c, &m->h);
            break;
        }
        r = engine_enqueue(c, m);
        m = NULL;
        arm_started(c);
        break;
    case MSG_TAKE:
        engine_take_back(c, &m->h);
        break;
    case MSG_CANCEL:
        engine_cancel(c, &m->h);
        break;
    case MSG_COMM:
        m->next = NULL;
        *c->comm_tail = m;
        c->comm_tail = &m->next;
        m = NULL;
        engine_ready_update(c);
        break;
    default:
        break; /* of a later version */
    }
    pthread_mutex_unlock(&c->mu);
    msg_free(m);
    if (r)
        uplink_drop(&c->up, "out of memory");
}

static uint32_t count_results(const struct engine_core *c)
{
    uint32_t n = c->nunacked;
    for (struct eout *o = c->out_head; o; o = o->next)
        n += o->h.type == MSG_RESULT;
    return n;
}

/* Adds the items of t that have not begun and are not gone; neighbours are joined. False: no room.
 */
static bool add_unstarted(const struct etask *t, struct hello *h)
{
    for (uint64_t seq = t->begun, hi = t->h.seq + t->h.count; seq < hi; seq++) {
        struct held_task *last = h->nunstarted ? &h->unstarted[h->nunstarted - 1] : NULL;
        if (ranges_has(&t->gone, seq))
            continue;
        if (last && last->session == t->h.session && last->attempt == t->h.attempt &&
            last->seq + last->count == seq)
            last->count++;
        else if (h->nunstarted < HELLO_UNSTARTED)
            h->unstarted[h->nunstarted++] = (struct held_task){t->h.session, seq, 1, t->h.attempt};
        else
            return false;
    }
    return true;
}

/* HELLO must fit WIRE_HELLO_MAX. What it has no room for is dropped
 * here: the controller sends again what a returning engine does not name. */
static void add_held(struct engine_core *c, struct hello *h)
{
    bool room = true;
    list_each(n, &c->open)
    {
        bool all = add_unstarted(list_entry(n, struct etask, node), h);
        (void)all; /* the main thread has it, a few items at most: it runs them, and late ones count
                    */
    }
    list_each_safe(n, tmp, &c->queue)
    {
        struct etask *t = list_entry(n, struct etask, node);
        uint32_t before = h->nunstarted;
        uint32_t last_count = before ? h->unstarted[before - 1].count : 0;
        room = room && add_unstarted(t, h);
        if (room)
            continue;
        h->nunstarted = before; /* all of a task or nothing of it */
        if (before)
            h->unstarted[before - 1].count = last_count;
        list_del(n);
        etask_free(t);
    }
    engine_ready_update(c);
}

static int fill_hello(void *arg, struct hello *h, struct header *head)
{
    struct engine_core *c = arg;
    h->role = ROLE_ENGINE;
    h->unstarted = calloc(HELLO_UNSTARTED, sizeof *h->unstarted);
    h->nunstarted = 0;
    if (!h->unstarted)
        return CV_ENOMEM;
    pthread_mutex_lock(&c->mu);
    if (c->number != WIRE_ENGINE_NONE) {
        h->number = c->number;
        h->incarnation = c->incarnation;
    }
    if (c->nbegun) {
        uint64_t lo = c->begun[0].seq;
        h->running =
            (struct held_task){c->session, lo, (uint32_t)(c->last_seq - lo + 1), c->attempt};
    }
    add_held(c, h);
    head->seq = c->announced = count_results(c);
    pthread_mutex_unlock(&c->mu);
    return CV_OK;
}

static int resend_results(struct engine_core *c)
{
    int r = CV_OK;
    for (struct msg *m = c->unacked_head; m && !r; m = m->next)
        r = send_result(c, &m->h, m->payload);
    return r;
}

static void on_up(void *arg, const struct welcome *w, const struct msg *m)
{
    struct engine_core *c = arg;
    c->acked = 0;
    pthread_mutex_lock(&c->mu);
    c->number = w->number;
    c->incarnation = w->incarnation;
    atomic_store(&c->page->number, c->number);
    atomic_store(&c->page->incarnation, c->incarnation);
    if (!c->connect_done) {
        atomic_store(&c->page->state, 1);
        c->connect_done = true;
        c->code = CV_OK;
        event_set(c->connect_fd);
    }
    pthread_mutex_unlock(&c->mu);
    if (resend_results(c) == CV_ENOMEM) /* only this thread changes the FIFO */
        uplink_drop(&c->up, "out of memory");
    else
        send_outbox(c);
}

static void on_lost(void *arg, const char *why)
{
    /* The main thread works on; results wait. */
}

static struct msg *make_bye(const char *why)
{
    struct header h = {.type = MSG_BYE, .engine = WIRE_ENGINE_NONE};
    struct payload *p = NULL;
    struct msg *m = NULL;
    json_t *j = json_pack("{s:s}", "reason", why);
    char *text = j ? jsontext(j, JSON_COMPACT) : NULL;
    if (text && payload_new_copy(&p, text, strlen(text)) == CV_OK && msg_new(&m, &h, NULL, 0, p))
        m = NULL;
    free(text);
    json_decref(j);
    return m;
}

static void on_gone(void *arg, int code, const char *why)
{
    struct engine_core *c = arg;
    struct msg *bye = c->up.state == UPLINK_GONE ? make_bye(why) : NULL;
    pthread_mutex_lock(&c->mu);
    if (c->up.state == UPLINK_GONE && !c->gone) {
        c->gone = true;
        c->bye = bye;
        bye = NULL;
        engine_ready_update(c);
    }
    if (!c->connect_done) {
        c->connect_done = true;
        c->code = code;
        snprintf(c->why, sizeof c->why, "%s", why);
        event_set(c->connect_fd);
    }
    bool stop = c->want_close;
    pthread_mutex_unlock(&c->mu);
    msg_free(bye);
    if (stop)
        io_stop(&c->io);
}

static const char *hopeless(void *arg, bool was_unix, uint64_t away_ns)
{
    struct engine_core *c = arg;
    return getppid() != c->parent ? "the host of this engine has ended" : NULL;
}

const struct uplink_ops engine_uplink_ops = {.fill_hello = fill_hello,
                                             .on_up = on_up,
                                             .on_msg = on_msg,
                                             .on_lost = on_lost,
                                             .on_gone = on_gone,
                                             .hopeless = hopeless};

static void on_line_timer(void *arg)
{
    struct engine_core *c = arg;
    if (c->up.state == UPLINK_UP && !c->closing)
        send_outbox(c);
}

static void on_turn_end(void *arg)
{
    struct engine_core *c = arg;
    const struct link *l = c->up.state == UPLINK_UP ? c->up.link : NULL;
    atomic_store_explicit(&c->in_link, l ? link_queued_small(l) : 0, memory_order_relaxed);
}

static void on_wake(void *arg)
{
    struct engine_core *c = arg;
    pthread_mutex_lock(&c->mu);
    bool connect = c->want_connect, close = c->want_close && !c->closing;
    bool busy = c->nbegun || !list_empty(&c->queue) || !list_empty(&c->open);
    uint64_t connect_ns = c->connect_ns, linger_ns = c->linger_ns;
    c->want_connect = false;
    pthread_mutex_unlock(&c->mu);
    if (connect)
        uplink_start(&c->up, connect_ns);
    if (c->up.state == UPLINK_UP && !c->closing)
        send_outbox(c);
    if (busy)
        arm_started(c);
    if (close) {
        c->closing = true;
        uplink_close(&c->up, linger_ns);
    }
}

int engine_io_init(struct engine_core *c, struct err *e)
{
    loop_on_wake(c->io.loop, on_wake, c);
    int r = timer_new(&c->started_timer, c->io.loop, on_started_timer, c);
    if (!r)
        r = timer_new(&c->line_timer, c->io.loop, on_line_timer, c);
    if (!r)
        r = loop_on_turn_end(c->io.loop, on_turn_end, c);
    if (!r)
        r = capture_watch(c);
    return r ? err_set(e, r, "out of memory") : CV_OK;
}

void engine_io_end(void *arg)
{
    struct engine_core *c = arg;
    uplink_stop(&c->up);
    capture_unwatch(c);
    timer_free(c->started_timer);
    timer_free(c->line_timer);
    c->started_timer = c->line_timer = NULL;
}
