/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ACKs to engines. A large RESULT is acknowledged at once by its ids, small ones by how many came.
 * Only a few bytes, but an ACK that leaves alone wakes an engine that has nothing else to do: so it
 * goes with the engine's next TASK, or after 64 results, 1 MiB or 5 ms. Until then the engine keeps
 * what it may have to send again. On the loop's thread. */
#include "controller/ack.h"

#include "base/clock.h"
#include "controller/conn.h"

#define ACK_DELAY_NS (5 * NS_PER_MS)
#define ACK_COUNT 64
#define ACK_BYTES (1u << 20)

/* A large one: others may have overtaken it, so a count would not say which came. */
static void ack_by_name(struct engine *e, const struct msg *m)
{
    struct header h = {.type = MSG_ACK,
                       .engine = e->number,
                       .incarnation = e->incarnation,
                       .attempt = m->h.attempt,
                       .session = m->h.session,
                       .seq = m->h.seq,
                       .count = m->h.count};

    if (link_send(e->conn->link, &h, NULL, 0, NULL, 0) != CV_OK)
        conn_bye(e->conn, "the controller is out of memory");
}

void ack_note(struct controller *c, struct engine *e, const struct msg *m)
{
    if (m->h.flags & MSG_F_LEFT_OUT || result_acked_by_name(m->payload)) {
        ack_by_name(e, m);
        return;
    }
    e->results++;
    e->unacked_bytes += m->payload ? m->payload->total : 0;
    if (list_empty(&e->ack_node))
        list_add_tail(&c->ack_due, &e->ack_node);
}

static void send_ack(struct engine *e)
{
    struct header h = {
        .type = MSG_ACK, .engine = e->number, .incarnation = e->incarnation, .aux = e->results};

    list_del(&e->ack_node);
    e->acked = e->results;
    e->unacked_bytes = 0;
    if (e->conn && !e->conn->closing && link_send(e->conn->link, &h, NULL, 0, NULL, 0) != CV_OK)
        conn_bye(e->conn, "the controller is out of memory");
}

static bool goes_now(const struct engine *e)
{
    return !e->conn || e->results - e->acked >= ACK_COUNT || e->unacked_bytes >= ACK_BYTES ||
           link_queued_bytes(e->conn->link) > 0;
}

void ack_turn(struct controller *c)
{
    list_each_safe(n, tmp, &c->ack_due)
    {
        struct engine *e = list_entry(n, struct engine, ack_node);
        if (goes_now(e))
            send_ack(e);
    }
    if (!list_empty(&c->ack_due) && !c->ack_armed) {
        timer_start(c->ack_timer, ACK_DELAY_NS, 0);
        c->ack_armed = true;
    }
}

void ack_timer(void *controller)
{
    struct controller *c = controller;

    c->ack_armed = false;
    for (struct list *n; (n = list_first(&c->ack_due));)
        send_ack(list_entry(n, struct engine, ack_node));
}
