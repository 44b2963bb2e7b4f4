/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How peers and their connections come together and apart. */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "controller/act.h"
#include "controller/death.h"
#include "controller/events.h"
#include "controller/handover.h"

void peer_engine_detach(struct engine *e)
{
    if (!e->conn)
        return;
    if (e->relayed)
        list_del(&e->via);
    else
        e->conn->engine = NULL;
    e->conn = NULL;
    list_del(&e->ack_node);
}

void peer_engine_attach(struct engine *e, struct conn *k)
{
    e->conn = k;
    e->relayed = k->role == ROLE_HOST;
    if (e->relayed)
        list_add_tail(&k->relayed, &e->via);
    else
        k->engine = e;
}

void peer_client_detach(struct controller *c, struct client *x)
{
    struct sched_event ev = {.type = SCHED_CLIENT_GONE, .id = {x->session, 0}};

    if (x->conn)
        x->conn->client = NULL;
    registry_client_del(&c->registry, x);
    backlog_went(c, ev.id.session);
    handover_drop(c, ev.id.session);
    act_must(c, &ev);
}

static void engine_away(struct controller *c, struct engine *e, const char *why)
{
    struct sched_event ev = {
        .type = SCHED_ENGINE_AWAY, .engine = e->number, .incarnation = e->incarnation};

    peer_engine_detach(e);
    e->state = ENGINE_AWAY;
    e->away_since = clock_mono();
    free(e->away_why);
    e->away_why = strdup(why);
    registry_engine_forget_held(e);
    act_must(c, &ev);
    if (!e->leaving && !e->asked && !c->stopping) {
        log_debug(c->log, "engine %u is away: %s", e->number, why);
        event_engine_away(c, e, why);
    }
    if (!c->stopping)
        death_link_lost(c, e);
}

static void host_lost(struct controller *c, struct conn *k, const char *why)
{
    uint64_t session = k->host->session;

    log_debug(c->log, "the host on %s is not connected any more: %s", k->host->name, why);
    registry_host_del(&c->registry, k->host);
    k->host = NULL;
    for (struct list *l; (l = list_first(&k->relayed));)
        engine_away(c, list_entry(l, struct engine, via), why);
    death_host_lost(c, session);
}

void peer_lost(struct conn *k, const char *why)
{
    struct controller *c = k->c;

    if (k->client) {
        log_info(c->log, "client %016llx is gone: %s", (unsigned long long)k->client->session, why);
        peer_client_detach(c, k->client);
    }
    if (k->engine)
        engine_away(c, k->engine, why);
    if (k->host)
        host_lost(c, k, why);
}
