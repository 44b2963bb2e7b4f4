/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See route.h. A peer that sends what it may not is told and closed; an engine behind a relay is
 * told alone, since its link is shared. */
#include "controller/route.h"

#include <stdio.h>
#include "base/clock.h"
#include "controller/death.h"
#include "controller/output.h"
#include "controller/query.h"
#include "controller/say.h"
#include "controller/task.h"

enum { FROM_CLIENT = 1 << ROLE_CLIENT, FROM_ENGINE = 1 << ROLE_ENGINE, FROM_HOST = 1 << ROLE_HOST };

/* A host that leaves has told the end of its engines before; what is still queued for it has no
 * reader. */
static void host_leaves(struct conn *k, const struct msg *m)
{
    json_t *j = say_parse(m);
    const char *reason = json_string_value(json_object_get(j, "reason"));
    char why[300];

    snprintf(why, sizeof(why), "it has left: %s", reason ? reason : "no reason given");
    json_decref(j);
    peer_lost(k, why);
    conn_free(k);
}

static void on_bye(struct controller *c, const struct origin *o, struct msg *m)
{
    if (o->host) {
        host_leaves(o->conn, m);
        return;
    }
    if (o->engine) {
        o->engine->leaving = true;
        if (o->engine->relayed)
            return; /* its host tells its end */
    }
    o->conn->closing = true;
    link_close_after_flush(o->conn->link, NS_PER_S);
}

static void on_exit_told(struct controller *c, const struct origin *o, struct msg *m)
{
    death_exit(c, o->host, m);
}

static const struct row {
    uint8_t type, from;
    void (*handle)(struct controller *c, const struct origin *o, struct msg *m);
} rows[] = {
    {MSG_TASK, FROM_CLIENT, task_submit},
    {MSG_RESULT, FROM_ENGINE, task_result},
    {MSG_ACK, FROM_CLIENT, task_client_ack},
    {MSG_STARTED, FROM_ENGINE, task_started},
    {MSG_OUTPUT, FROM_ENGINE, output_printed},
    {MSG_COMM, FROM_ENGINE | FROM_CLIENT, output_comm},
    {MSG_CANCEL, FROM_CLIENT, task_cancel},
    {MSG_GIVE_BACK, FROM_ENGINE, task_give_back},
    {MSG_SIGNAL, FROM_CLIENT, query_signal},
    {MSG_QUERY, FROM_CLIENT, query_handle},
    {MSG_EXIT, FROM_HOST, on_exit_told},
    {MSG_BYE, FROM_CLIENT | FROM_ENGINE | FROM_HOST, on_bye},
};

static const struct row *row_of(uint8_t type)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].type == type)
            return &rows[i];
    return NULL;
}

/* False: from an engine that this link does not carry (any more), or of an earlier incarnation. */
static bool find_origin(struct conn *k, const struct header *h, const struct row *row,
                        struct origin *o)
{
    *o = (struct origin){
        .conn = k, .role = k->role, .client = k->client, .engine = k->engine, .host = k->host};
    if (k->role == ROLE_ENGINE)
        return k->engine != NULL;
    if (k->role != ROLE_HOST || h->engine == WIRE_ENGINE_NONE || !row || !(row->from & FROM_ENGINE))
        return k->client || k->host;
    struct engine *e = registry_engine(&k->c->registry, h->engine);
    if (!e || e->conn != k || (h->incarnation && h->incarnation != e->incarnation))
        return false;
    o->role = ROLE_ENGINE;
    o->engine = e;
    o->host = NULL;
    return true;
}

static void forbid(const struct origin *o, const struct header *h, const char *what)
{
    static const char *const names[] = {"?", "a client", "an engine", "a host"};
    char text[128];

    snprintf(text, sizeof(text), "%s may not send %s%s", names[o->role], msg_type_name(h->type),
             what);
    log_info(o->conn->c->log, "%s is sent away: %s", o->conn->from, text);
    if (o->engine && o->engine->relayed)
        conn_bye_engine(o->engine, text);
    else
        conn_bye(o->conn, "%s", text);
}

void route_handle(struct conn *k, struct msg *m)
{
    const struct row *row = row_of(m->h.type);
    struct origin o;

    if (k->role == ROLE_HOST && m->h.type == MSG_HELLO) {
        hello_handle(k, m);
        return;
    }
    if (find_origin(k, &m->h, row, &o)) {
        if (!row || !(row->from & 1 << o.role))
            forbid(&o, &m->h, "");
        else if (m->h.seq + m->h.count < m->h.seq)
            forbid(&o, &m->h, " about ids beyond the last");
        else
            row->handle(k->c, &o, m);
    }
    msg_free(m);
}
