/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See output.h. On the loop's thread; out of memory loses what is shown, or ends the connection
 * that has no room for it, never a task. */
#include "controller/output.h"

#include "controller/act.h"
#include "controller/backlog.h"

/* What waits for the client beside results, which may be large: backlog.h bounds those. */
static uint64_t queued_output(const struct controller *c, const struct client *x)
{
    uint64_t queued = link_queued_bytes(x->conn->link), results = backlog_bytes(c, x->session);

    return queued > results ? queued - results : 0;
}

/* May the client be given more to read? Says once that output is left out. */
static bool may_send_output(struct controller *c, struct client *x)
{
    uint64_t queued = queued_output(c, x);

    if (queued > c->opt->client_buffer && !x->muted) {
        struct header h = {.type = MSG_EVENT, .engine = WIRE_ENGINE_NONE};
        x->muted = true;
        log_warn(c->log, "client %016llx does not read: its tasks' output is left out",
                 (unsigned long long)x->session);
        struct payload *p = NULL;
        static const char text[] =
            "{\"event\":\"notice\",\"text\":\"output was left out: this client reads too slowly\"}";
        if (payload_new_copy(&p, text, sizeof(text) - 1) == CV_OK)
            act_to_client(x, &h, NULL, 0, p, 0);
        payload_unref(p);
    } else if (queued < c->opt->client_buffer / 4) {
        x->muted = false;
    }
    return !x->muted;
}

static void forward_side(struct controller *c, const struct msg *m)
{
    struct client *x = registry_client(&c->registry, m->h.session);
    struct header h = m->h;

    if (!x || !x->conn || x->conn->closing || !may_send_output(c, x))
        return;
    h.flags &= (uint16_t)~MSG_F_CHUNKED;
    if (h.body_len > WIRE_INLINE_MAX && ranges_add(&x->bulky, h.seq, h.seq + 1) != CV_OK)
        log_debug(c->log, "out of memory for the order of large messages");
    act_to_client(x, &h, m->route, h.route_len, m->payload, 0);
}

void output_printed(struct controller *c, const struct origin *o, struct msg *m)
{
    const struct payload *p = m->payload;

    m->h.engine = o->engine->number;
    m->h.incarnation = o->engine->incarnation;
    if (p && p->nbufs && (m->h.status == OUTPUT_STDOUT || m->h.status == OUTPUT_STDERR))
        c->store->ops->output(c->store, m->h.session, m->h.seq,
                              m->h.status == OUTPUT_STDOUT ? STORE_STDOUT : STORE_STDERR,
                              p->bufs[0].data, p->bufs[0].len);
    forward_side(c, m);
}

void output_comm(struct controller *c, const struct origin *o, struct msg *m)
{
    struct header h = m->h;

    if (o->engine) {
        m->h.engine = o->engine->number;
        forward_side(c, m);
        return;
    }
    struct engine *e = registry_engine(&c->registry, h.engine);
    if (!e || !e->conn || e->conn->closing)
        return;
    h.flags &= (uint16_t)~MSG_F_CHUNKED;
    h.incarnation = e->incarnation;
    if (link_send(e->conn->link, &h, m->route, h.route_len, m->payload, LINK_AFTER_BULK) != CV_OK)
        conn_bye(e->conn, "the controller is out of memory");
}
