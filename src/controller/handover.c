/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See handover.h. Owned by the controller's list, one for each client at most. A client that does
 * not read keeps its own waiting: when it has read, a turn of the loop goes on. */
#include "controller/handover.h"

#include <stdlib.h>
#include "controller/act.h"
#include "net/link.h"

#define SLICE 500u /* records */

struct handover {
    struct list node;
    uint64_t session;
    struct sched_range *again;
    size_t n, at;
    uint64_t seq;     /* of again[at]: ids below are done; 0: none yet */
    uint64_t sent_hi; /* below are results that were handed over */
};

static void handover_free(struct handover *h)
{
    list_del(&h->node);
    free(h->again);
    free(h);
}

/* One record of what is at its turn. */
static void hand_over(struct controller *c, struct handover *h, struct client *x)
{
    const struct sched_range *r = &h->again[h->at];
    uint64_t seq = h->seq > r->lo ? h->seq : r->lo, end = 0;
    const struct store_record *rec;
    enum store_find f = c->store->ops->find(c->store, r->session, seq, &rec, &end);

    if (end > r->hi)
        end = r->hi;
    if (f == STORE_FOUND && rec->state != STORE_PENDING && seq >= h->sent_hi) {
        h->sent_hi = rec->result.seq + rec->result.count;
        act_hand_over(c, x, rec);
    } else if (f == STORE_EXPIRED) {
        act_end(c, (struct sched_id){r->session, seq}, (uint32_t)(end - seq), RESULT_LOST,
                WIRE_ENGINE_NONE, "ResultExpired", NULL,
                "the result was kept for a while and is gone by now");
    }
    h->seq = end;
    if (end < r->hi)
        return;
    h->at++;
    h->seq = 0;
}

/* True: a turn later there may be more to do. Nothing could be done means that the socket is full:
 * it tells when the client has read. */
static bool go_on(struct controller *c, struct handover *h)
{
    uint32_t left = SLICE;

    for (; left && h->at < h->n; left--) {
        struct client *x = registry_client(&c->registry, h->session);
        if (!x || !x->conn || x->conn->closing)
            h->at = h->n;
        else if (link_queued_bytes(x->conn->link) > c->opt->client_buffer)
            break;
        else
            hand_over(c, h, x);
    }
    return h->at < h->n && left < SLICE;
}

void handover_begin(struct controller *c, uint64_t session, struct sched_range *again_take,
                    size_t n)
{
    struct handover now = {.session = session, .again = again_take, .n = n};
    struct handover *h = NULL;

    list_init(&now.node);
    (void)go_on(c, &now);
    if (now.at < n)
        h = malloc(sizeof(*h));
    if (h) {
        *h = now;
        list_add_tail(&c->handovers, &h->node);
        loop_wake(c->loop);
        return;
    }
    while (now.at < n && registry_client(&c->registry, session))
        hand_over(c, &now, registry_client(&c->registry, session));
    free(again_take);
}

void handover_drop(struct controller *c, uint64_t session)
{
    list_each(l, &c->handovers)
    {
        struct handover *h = list_entry(l, struct handover, node);
        if (h->session == session)
            h->at = h->n; /* it may be at work: the next turn frees it */
    }
}

/* One whole slice a turn, and everybody's turn comes. */
bool handover_turn(struct controller *c)
{
    list_each_safe(l, tmp, &c->handovers)
    {
        struct handover *h = list_entry(l, struct handover, node);
        bool more = go_on(c, h);
        if (h->at == h->n) {
            handover_free(h);
        } else if (more) {
            list_del(&h->node);
            list_add_tail(&c->handovers, &h->node);
            return true;
        }
    }
    return false;
}

void handover_release(struct controller *c)
{
    for (struct list *l; (l = list_first(&c->handovers));)
        handover_free(list_entry(l, struct handover, node));
}
