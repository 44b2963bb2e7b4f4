/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A simulated client: submits tasks of every kind, stops some, loses its link and comes back. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static uint64_t pick_duration(struct sim *m)
{
    static const uint64_t kinds[] = {2 * US, 10 * US, 100 * US, 800 * US,
                                     6 * MS, 40 * MS, 500 * MS};
    return 1 + sim_below(m, 2 * kinds[sim_below(m, m->calm ? 5 : 7)]);
}

static void pick_targets(struct sim *m, struct submit *b)
{
    b->has_targets = true;
    for (uint32_t i = 0; i < b->ntargets; i++)
        b->targets[i] = (uint32_t)sim_below(m, m->next_number + (sim_chance(m, 10) ? 2 : 0));
}

static void pick_dependencies(struct sim *m, struct client *c, struct submit *b)
{
    b->ndeps = 1 + (uint32_t)sim_below(m, 2);
    b->after = sim_chance(m, 60);
    b->follow = !b->after || sim_chance(m, 20);
    b->dep_flags = (uint8_t)(sim_chance(m, 70) | 2 * sim_chance(m, 80) | 4 * sim_chance(m, 40));
    for (uint32_t i = 0; i < b->ndeps; i++) {
        const struct client *o = sim_chance(m, 80) ? c : &m->clients[sim_below(m, m->nclients)];
        uint64_t lo = sim_below(m, o->next + (sim_chance(m, 5) ? 2 : 0));
        uint64_t hi = lo + 1 + sim_below(m, sim_chance(m, 20) ? 100 : 3);
        b->deps[i] = (struct sched_range){o->session, lo ? lo : 1, hi > lo ? hi : lo + 1};
        if (b->deps[i].hi > o->next && o->next > b->deps[i].lo)
            b->deps[i].hi = o->next;
    }
}

static uint64_t up(struct sim *m, struct client *c)
{
    uint64_t at = m->now + sim_delay(m);
    if (at <= c->last_up)
        at = c->last_up + 1;
    return c->last_up = at;
}

static void make_items(struct sim *m, struct client *c, struct submit *b, uint64_t ns)
{
    bool kills = !m->calm && sim_chance(m, 4),
         unmet = b->mode == SCHED_BALANCED && sim_chance(m, 8), deaf = sim_chance(m, 15);
    uint8_t fails = sim_chance(m, 25) ? (uint8_t)sim_below(m, 9) : 0;
    for (uint32_t i = 0; i < b->count; i++)
        c->items[b->lo + i] = (struct item){.submit = b,
                                            .run_ns = ns,
                                            .fails = fails,
                                            .kills = kills,
                                            .unmet = unmet,
                                            .deaf = deaf,
                                            .may_run = 2 * b->retries + 1,
                                            .may_fail = b->retries + 1};
}

static void client_submit(struct sim *m, struct client *c)
{
    struct submit *b = &c->submits[c->nsubmits];
    *b = (struct submit){.lo = c->next, .count = 1, .timeout = -1};
    uint64_t kind = sim_below(m, 100);
    if (kind < 20) {
        b->mode = SCHED_DIRECT;
        b->ntargets = 1;
        b->count = sim_chance(m, 10) ? 1 + (uint32_t)sim_below(m, 80) : 1;
        pick_targets(m, b);
    } else if (kind < 28) {
        b->mode = SCHED_BROADCAST;
        b->count = b->ntargets = 1 + (uint32_t)sim_below(m, 6);
        pick_targets(m, b);
    } else if (kind < 45) {
        b->count = 1 + (uint32_t)sim_below(m, sim_chance(m, 20) ? 90 : 12);
    }
    if (c->next + b->count >= ITEMS)
        return;
    b->retries = sim_chance(m, 50) ? 0 : (uint32_t)sim_below(m, 5);
    if (sim_chance(m, 15) && c->next > 1)
        pick_dependencies(m, c, b);
    if (b->mode == SCHED_BALANCED) {
        b->priority = sim_chance(m, 80) ? 0 : (int32_t)sim_below(m, PRIORITIES) - PRIORITIES / 2;
        if (sim_chance(m, 15)) {
            b->ntargets = 1 + (uint32_t)sim_below(m, 3);
            pick_targets(m, b);
        }
    }
    if (sim_chance(m, 8))
        b->timeout = (double)sim_below(m, 50 * MS) / 1e9;
    c->nsubmits++;
    c->next += b->count;
    make_items(m, c, b, pick_duration(m));
    for (int resend = sim_chance(m, 10); resend >= 0; resend--) {
        struct happening *h = sim_at(m, up(m, c), H_SUBMIT, (uint32_t)(c - m->clients));
        h->submit = b;
        h->life = c->link;
    }
}

static void client_stop(struct sim *m, struct client *c)
{
    if (c->next == 1)
        return;
    struct happening *h = sim_at(m, up(m, c), H_CANCEL, (uint32_t)(c - m->clients));
    h->m.id = (struct sched_id){c->session, 1 + sim_below(m, c->next - 1)};
    h->m.count = 1 + (uint32_t)sim_below(m, sim_chance(m, 30) ? 30 : 3);
    h->how = (enum sched_cancel)sim_below(m, m->calm ? 2 : 3);
    h->kill_after = sim_below(m, 20 * MS);
    h->life = c->link;
}

/* Quick ones first, so that the one engine that is there is sent many ahead; then equal ones. */
static void client_submit_even(struct sim *m, struct client *c)
{
    while (c->next < ITEMS - 1) {
        struct submit *b = &c->submits[c->nsubmits++];
        *b = (struct submit){.lo = c->next, .count = 1, .timeout = -1};
        uint64_t ns = c->next < 100 ? 2 * US : m->even_ns;
        c->items[c->next++] = (struct item){.submit = b, .run_ns = ns, .may_run = 1, .may_fail = 1};
        struct happening *h = sim_at(m, up(m, c), H_SUBMIT, (uint32_t)(c - m->clients));
        h->submit = b;
        h->life = c->link;
    }
}

void client_act(struct sim *m, struct client *c)
{
    if (m->even) {
        client_submit_even(m, c);
        return;
    }
    if (c->connected) {
        uint32_t burst = sim_chance(m, 20) ? 20 : 1;
        for (uint32_t i = 0; i < burst; i++)
            client_submit(m, c);
        if (sim_chance(m, 20))
            client_stop(m, c);
    }
    if (m->now < m->calm_at)
        sim_at(m, m->now + sim_below(m, 6 * MS), H_CLIENT, (uint32_t)(c - m->clients));
}

void client_word(struct sim *m, struct client *c, const struct msg *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        c->items[g->id.seq + i].known = true;
}

void client_cut(struct sim *m, struct client *c)
{
    if (!c->connected)
        return;
    sim_tell(m, (struct sched_id){0}, 0, "client %llu is gone", (unsigned long long)c->session);
    c->connected = false;
    c->link = ++m->next_link;
    sim_event(m, &(struct sched_event){.type = SCHED_CLIENT_GONE, .id = {c->session, 0}});
    sim_at(m, m->now + sim_below(m, 200 * MS), H_CLIENT_BACK, (uint32_t)(c - m->clients));
}

void sim_pause(struct sim *m, struct client *c, bool pause)
{
    c->paused = pause;
    sim_event(m, &(struct sched_event){.type = pause ? SCHED_CLIENT_PAUSE : SCHED_CLIENT_RESUME,
                                       .id = {c->session, 0}});
}

void client_reconnect(struct sim *m, struct client *c)
{
    struct sched_range v[ITEMS];
    uint32_t n = 0;
    c->connected = true;
    c->link = ++m->next_link;
    c->last_up = c->last_down = 0;
    for (uint64_t seq = 1; seq < c->next; seq++) {
        if (c->items[seq].known)
            continue;
        if (n && v[n - 1].hi == seq)
            v[n - 1].hi++;
        else
            v[n++] = (struct sched_range){c->session, seq, seq + 1};
    }
    struct sched_event ev = {.type = SCHED_CLIENT_BACK, .id = {c->session, 0}};
    ev.client.waiting = v;
    ev.client.nwaiting = n;
    sim_event(m, &ev);
}
