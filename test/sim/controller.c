/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The controller in miniature: hands events to the scheduler, carries out its actions, keeps the
 * records, and is where the oracle looks. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct client *client_of(struct sim *m, uint64_t session)
{
    for (uint32_t i = 0; i < m->nclients; i++)
        if (m->clients[i].session == session)
            return &m->clients[i];
    return NULL;
}

struct item *sim_item(struct sim *m, struct sched_id id)
{
    struct client *c = client_of(m, id.session);
    return c && id.seq < ITEMS && c->items[id.seq].submit ? &c->items[id.seq] : NULL;
}

bool controller_outcome(void *arg, struct sched_id id, uint8_t *status, uint32_t *engine)
{
    struct item *it = sim_item(arg, id);
    if (!it || !it->ended)
        return false;
    *status = it->status;
    *engine = it->where;
    return true;
}

/* --- links to engines --- */

static uint64_t arrival(struct sim *m, uint64_t *last, bool overtakes)
{
    uint64_t at = m->now + sim_delay(m);
    if (overtakes)
        return at + sim_below(m, 3 * MS);
    if (at <= *last)
        at = *last + 1;
    return *last = at;
}

void to_engine(struct sim *m, struct node *n, const struct msg *g)
{
    if (!n->connected || n->c_link != n->link)
        return;
    bool overtaken = g->type == M_SEND && sim_chance(m, 4);
    n->reordered |= overtaken;
    struct happening *h =
        sim_at(m, arrival(m, &n->last_down, overtaken), H_TO_ENGINE, (uint32_t)(n - m->nodes));
    h->life = n->link;
    h->m = *g;
}

void to_controller(struct sim *m, struct node *n, struct msg *g)
{
    if (!n->connected)
        return;
    struct happening *h =
        sim_at(m, arrival(m, &n->last_up, false), H_TO_CONTROLLER, (uint32_t)(n - m->nodes));
    h->life = n->link;
    h->m = *g;
}

static struct node *node_of(struct sim *m, uint32_t number, uint32_t incarnation)
{
    for (int i = 0; i < ENGINES; i++)
        if (m->nodes[i].used && m->nodes[i].number == number &&
            m->nodes[i].incarnation == incarnation)
            return &m->nodes[i];
    return NULL;
}

/* --- what the scheduler decides --- */

static void word_to_client(struct sim *m, struct sched_id id, uint32_t count)
{
    struct client *c = client_of(m, id.session);
    if (!c->connected)
        return;
    struct happening *h =
        sim_at(m, arrival(m, &c->last_down, false), H_WORD, (uint32_t)(c - m->clients));
    h->life = c->link;
    h->m.id = id;
    h->m.count = count;
}

static void act_deliver(struct sim *m, const struct sched_action *a)
{
    sim_tell(m, a->id, a->count, "DELIVER status %u%s%s", a->status, a->why ? ": " : "",
             a->why ? a->why : "");
    oracle_deliver(m, a);
    if (m->broken)
        return;
    m->last_word = m->now;
    word_to_client(m, a->id, a->count);
}

static void act_send(struct sim *m, const struct sched_action *a)
{
    struct node *n = node_of(m, a->engine, a->incarnation);
    sim_tell(m, a->id, a->count, "SEND to engine %u.%u, attempt %u", a->engine, a->incarnation,
             a->attempt);
    oracle_send(m, a);
    if (n && !m->broken)
        to_engine(
            m, n,
            &(struct msg){.type = M_SEND, .id = a->id, .count = a->count, .attempt = a->attempt});
}

static void act_again(struct sim *m, const struct sched_action *a)
{
    struct client *c = client_of(m, a->id.session);
    for (uint32_t i = 0; i < a->count; i++) {
        struct sched_id id = {a->id.session, a->id.seq + i};
        struct item *it = sim_item(m, id);
        if (it->ended) {
            word_to_client(m, id, 1);
        } else if (it->accepted) {
            sim_fail(m, id, "a live task was forgotten");
        } else if (id.seq == it->submit->lo) {
            struct happening *h =
                sim_at(m, arrival(m, &c->last_up, false), H_SUBMIT, (uint32_t)(c - m->clients));
            h->life = c->link;
            h->submit = it->submit;
        }
    }
}

static void act(struct sim *m, const struct sched_action *a)
{
    struct node *n = node_of(m, a->engine, a->incarnation);
    enum msg_type type = M_TAKE;
    switch (a->type) {
    case SCHED_SEND:
        act_send(m, a);
        break;
    case SCHED_DELIVER:
        act_deliver(m, a);
        break;
    case SCHED_AGAIN:
        act_again(m, a);
        break;
    case SCHED_INTERRUPT:
        for (uint32_t i = 0; i < a->count; i++)
            sim_item(m, (struct sched_id){a->id.session, a->id.seq + i})->interrupted = true;
        type = M_INTERRUPT;
        /* fall through */
    case SCHED_TAKE:
        sim_tell(m, a->id, a->count, "%s at engine %u.%u, attempt %u",
                 type == M_TAKE ? "TAKE" : "INTERRUPT", a->engine, a->incarnation, a->attempt);
        if (n)
            to_engine(
                m, n,
                &(struct msg){.type = type, .id = a->id, .count = a->count, .attempt = a->attempt});
        break;
    case SCHED_KILL:
        sim_tell(m, a->id, a->count, "KILL of engine %u.%u", a->engine, a->incarnation);
        if (n)
            sim_at(m, m->now + sim_delay(m), H_KILL, (uint32_t)(n - m->nodes))->life = n->life;
        break;
    case SCHED_ENGINE_GONE:
        sim_tell(m, a->id, 0, "engine %u.%u was away too long", a->engine, a->incarnation);
        break;
    case SCHED_UNKNOWN:
        sim_fail(m, a->id, "UNKNOWN was emitted");
        break;
    }
}

static const char *const event_names[] = {
    "?",           "SUBMIT",       "STARTED",       "RESULT",      "GIVE_BACK",    "ENGINE_JOIN",
    "ENGINE_AWAY", "ENGINE_BACK",  "ENGINE_SYNCED", "ENGINE_DEAD", "ENGINE_DRAIN", "CLIENT_GONE",
    "CLIENT_BACK", "CLIENT_PAUSE", "CLIENT_RESUME", "CANCEL",      "TICK"};

/* Until what is left over is gone on with: a controller may have much else to do. */
static uint64_t turn(struct sim *m)
{
    return m->calm || sim_chance(m, 50) ? 1 : 1 + sim_below(m, 10 * MS);
}

void sim_event(struct sim *m, const struct sched_event *ev)
{
    struct err e = {0};
    if (m->broken)
        return;
    if (ev->type != SCHED_TICK)
        sim_tell(m, ev->id, ev->count ? ev->count : 1, "%s engine %u.%u attempt %u",
                 event_names[ev->type], ev->engine, ev->incarnation, ev->attempt);
    m->actions.n = 0;
    int r = sched_handle(m->s, m->now, ev, &m->actions, &e);
    if (r < 0)
        sim_fail(m, ev->id, e.text);
    for (size_t i = 0; i < m->actions.n && !m->broken; i++)
        act(m, &m->actions.v[i]);
    const char *broken = sched_check(m->s);
    if (broken)
        sim_fail(m, ev->id, broken);
    uint64_t due = sched_deadline(m->s);
    if (due < m->tick_at) {
        m->tick_at = due > m->now ? due : m->now + turn(m);
        sim_at(m, m->tick_at, H_TICK, 0);
    }
}

/* --- what arrives --- */

static void hello(struct sim *m, struct node *n, struct msg *g)
{
    struct sched_engine_info info;
    bool known = sched_engine_info(m->s, n->number, &info) && info.incarnation == n->incarnation &&
                 info.state != SCHED_DEAD;
    n->c_link = n->link;
    n->c_resends = g->nresends;
    if (!known) {
        n->c_connected = false;
        to_engine(m, n, &(struct msg){.type = M_BYE});
        return;
    }
    n->c_connected = true;
    struct sched_event ev = {
        .type = SCHED_ENGINE_BACK, .engine = n->number, .incarnation = n->incarnation};
    ev.back.running = g->held[0];
    ev.back.unstarted = g->held + 1;
    ev.back.nunstarted = g->nheld - 1;
    sim_event(m, &ev);
    if (n->c_resends == 0)
        sim_event(m, &(struct sched_event){.type = SCHED_ENGINE_SYNCED,
                                           .engine = n->number,
                                           .incarnation = n->incarnation});
}

static void result(struct sim *m, struct node *n, const struct msg *g)
{
    for (uint32_t i = 0; i < g->count && g->serial > n->c_serial; i++)
        oracle_result(m, (struct sched_id){g->id.session, g->id.seq + i}, g, n->number);
    if (g->serial > n->c_serial) {
        n->c_serial = g->serial;
        n->c_finished += g->ran;
    }
    struct sched_event ev = {.type = SCHED_RESULT,
                             .id = g->id,
                             .count = g->count,
                             .attempt = g->attempt,
                             .engine = n->number,
                             .incarnation = n->incarnation};
    ev.result.status = g->status;
    ev.result.run_ns = g->run_ns;
    sim_event(m, &ev);
    if (sim_chance(m, 80))
        to_engine(m, n, &(struct msg){.type = M_ACK, .serial = g->serial});
    if (n->c_resends && --n->c_resends == 0 && n->c_connected)
        sim_event(m, &(struct sched_event){.type = SCHED_ENGINE_SYNCED,
                                           .engine = n->number,
                                           .incarnation = n->incarnation});
}

void controller_message(struct sim *m, struct node *n, struct msg *g)
{
    struct sched_event ev = {.id = g->id,
                             .count = g->count,
                             .attempt = g->attempt,
                             .engine = n->number,
                             .incarnation = n->incarnation};
    switch (g->type) {
    case M_HELLO:
        hello(m, n, g);
        break;
    case M_RESULT:
        result(m, n, g);
        break;
    case M_STARTED:
        ev.type = SCHED_STARTED;
        sim_event(m, &ev);
        break;
    case M_GIVE_BACK:
        ev.type = SCHED_GIVE_BACK;
        sim_event(m, &ev);
        break;
    default:
        break;
    }
}

void controller_submit(struct sim *m, struct client *c, struct submit *b)
{
    if (c->items[b->lo].ended)
        return; /* the records have it */
    struct sched_event ev = {.type = SCHED_SUBMIT, .id = {c->session, b->lo}, .count = b->count};
    ev.submit.mode = b->mode;
    ev.submit.targets = b->has_targets ? b->targets : NULL;
    ev.submit.ntargets = b->ntargets;
    ev.submit.timeout = b->timeout;
    ev.submit.retries = b->retries;
    ev.submit.priority = b->priority;
    ev.submit.payload = &b->refs;
    ev.submit.note = b->lo & 1 ? b : NULL;
    ev.submit.follow = b->deps;
    ev.submit.nfollow = b->follow ? b->ndeps : 0;
    ev.submit.after = b->deps;
    ev.submit.nafter = b->after ? b->ndeps : 0;
    ev.submit.after_flags = ev.submit.follow_flags = b->dep_flags;
    for (uint32_t i = 0; i < b->count; i++)
        oracle_accepted(c, &c->items[b->lo + i]); /* the words may be in the same breath */
    sim_event(m, &ev);
}
