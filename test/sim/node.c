/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A simulated engine: a queue of items, one that runs, results kept until acknowledged. It behaves
 * as the protocol asks of engines. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* --- results --- */

static void node_result(struct sim *m, struct node *n, struct held h, uint32_t count,
                        uint8_t status, bool ran)
{
    struct msg g = {.type = M_RESULT,
                    .id = h.id,
                    .count = count,
                    .attempt = h.attempt,
                    .status = status,
                    .ran = ran};
    g.serial = ++n->serial;
    g.run_ns = ran && m->now > n->started ? m->now - n->started : 0;
    if (n->nunacked == n->capunacked) {
        n->capunacked = n->capunacked ? n->capunacked * 2 : 16;
        n->unacked = realloc(n->unacked, n->capunacked * sizeof g);
    }
    n->unacked[n->nunacked++] = g;
    if (n->connected) {
        to_controller(m, n, &g);
        if (sim_chance(m, 5))
            to_controller(m, n, &g);
    }
}

/* --- running --- */

static void drop_front(struct node *n)
{
    struct held *h = &n->queue[0];
    h->id.seq++;
    if (--h->count == 0)
        memmove(h, h + 1, --n->nqueue * sizeof *h);
}

static bool node_unmet(const struct node *n, const struct item *it)
{
    return it->unmet && n->number % 2;
}

static void step_at(struct sim *m, struct node *n, uint64_t at)
{
    struct happening *h = sim_at(m, at, H_STEP, (uint32_t)(n - m->nodes));
    h->life = n->life;
    h->m.serial = ++n->run;
}

static void node_kick(struct sim *m, struct node *n)
{
    if (!n->alive || n->running || n->nqueue == 0)
        return;
    n->now = n->queue[0];
    n->now.count = 1;
    drop_front(n);
    n->running = true;
    n->interrupted = n->crashing = false;
    n->started = m->now;
    struct item *it = sim_item(m, n->now.id);
    uint64_t ns = it->run_ns;
    if (node_unmet(n, it)) {
        ns = 5 * US;
    } else {
        it->runs++;
        sim_tell(m, n->now.id, 1, "engine %u.%u runs it, attempt %u", n->number, n->incarnation,
                 n->now.attempt);
        struct sched_engine_info info;
        bool lost = !sched_engine_info(m->s, n->number, &info) || info.state == SCHED_DEAD ||
                    info.incarnation != n->incarnation;
        if (it->ended && !it->interrupted && !lost)
            sim_fail(m, n->now.id, "a task runs after its terminal word");
        if (it->runs > it->may_run + it->free_losses)
            sim_fail(m, n->now.id, "a task runs more often than its retries allow");
        if (it->kills && sim_chance(m, 60)) {
            n->crashing = true;
            ns = sim_below(m, ns + 1);
        }
    }
    if (ns > 5 * MS && n->connected)
        to_controller(
            m, n,
            &(struct msg){
                .type = M_STARTED, .id = n->now.id, .count = 1, .attempt = n->now.attempt});
    step_at(m, n, m->now + ns);
}

void node_step(struct sim *m, struct node *n)
{
    if (!n->running || !n->alive)
        return;
    struct item *it = sim_item(m, n->now.id);
    if (n->crashing && !n->interrupted) {
        node_crash(m, n, sim_chance(m, 30), sim_chance(m, 80));
        return;
    }
    bool unmet = node_unmet(n, it);
    uint8_t status = unmet                         ? SCHED_S_UNMET
                     : n->interrupted              ? SCHED_S_ERROR
                     : sim_below(m, 8) < it->fails ? SCHED_S_ERROR
                                                   : SCHED_S_OK;
    n->running = false;
    n->finished++;
    node_result(m, n, n->now, 1, status, true);
    node_kick(m, n);
}

/* --- what the controller asks --- */

static void node_task(struct sim *m, struct node *n, const struct msg *g)
{
    for (uint32_t i = 0; i < g->count; i++) {
        struct held h = {{g->id.session, g->id.seq + i}, 1, g->attempt};
        bool forbidden = false;
        for (uint32_t j = 0; j < n->nforbidden && j < 64; j++) {
            const struct held *f = &n->forbidden[j];
            forbidden |= f->id.session == h.id.session && f->attempt == h.attempt &&
                         h.id.seq - f->id.seq < f->count;
        }
        if (forbidden)
            node_result(m, n, h, 1, SCHED_S_CANCELLED, false);
        else if (n->nqueue < sizeof n->queue / sizeof *n->queue)
            n->queue[n->nqueue++] = h;
        else
            sim_fail(m, h.id, "an engine was sent more than it can hold");
    }
    node_kick(m, n);
}

static bool held_in(const struct held *h, const struct msg *g)
{
    return h->id.session == g->id.session && h->attempt == g->attempt && h->id.seq >= g->id.seq &&
           h->id.seq < g->id.seq + g->count;
}

/* The items of g that have not started leave the queue; for each run of them, tell(). */
static uint32_t node_remove(struct sim *m, struct node *n, const struct msg *g, bool give_back)
{
    uint32_t out = 0, total = 0;
    struct held run = {.count = 0};
    for (uint32_t i = 0; i <= n->nqueue; i++) {
        bool hit = i < n->nqueue && held_in(&n->queue[i], g);
        if (run.count && (!hit || n->queue[i].id.seq != run.id.seq + run.count)) {
            if (give_back)
                to_controller(m, n,
                              &(struct msg){.type = M_GIVE_BACK,
                                            .id = run.id,
                                            .count = run.count,
                                            .attempt = run.attempt});
            else
                node_result(m, n, run, run.count, SCHED_S_CANCELLED, false);
            run.count = 0;
        }
        if (hit) {
            if (run.count == 0)
                run = (struct held){n->queue[i].id, 0, n->queue[i].attempt};
            run.count++;
            total++;
        } else if (i < n->nqueue) {
            n->queue[out++] = n->queue[i];
        }
    }
    n->nqueue = out;
    return total;
}

static void node_interrupt(struct sim *m, struct node *n, const struct msg *g)
{
    uint32_t hit = node_remove(m, n, g, false);
    if (n->running && held_in(&n->now, g)) {
        hit++;
        struct item *it = sim_item(m, n->now.id);
        if (!it->cancelled && !it->ended)
            sim_fail(m, n->now.id, "a task is interrupted that nobody cancelled");
        if (!it->deaf && !n->interrupted) {
            n->interrupted = true;
            step_at(m, n, m->now + sim_below(m, 100 * US));
        }
    }
    if (!hit)
        n->forbidden[n->nforbidden++ % 64] = (struct held){g->id, g->count, g->attempt};
}

void node_message(struct sim *m, struct node *n, struct msg *g)
{
    if (!n->alive)
        return;
    switch (g->type) {
    case M_SEND:
        node_task(m, n, g);
        break;
    case M_TAKE:
        if (!node_remove(m, n, g, true))
            to_controller(m, n,
                          &(struct msg){.type = M_GIVE_BACK, .id = g->id, .attempt = g->attempt});
        break;
    case M_INTERRUPT:
        node_interrupt(m, n, g);
        break;
    case M_ACK:
        while (n->nunacked && n->unacked[0].serial <= g->serial)
            memmove(n->unacked, n->unacked + 1, --n->nunacked * sizeof *n->unacked);
        break;
    case M_BYE:
        n->alive = n->running = false;
        break;
    default:
        break;
    }
}

/* --- life and links --- */

void node_clear(struct node *n)
{
    free(n->unacked);
    *n = (struct node){0};
}

void node_join(struct sim *m, struct node *n, uint32_t number, uint32_t incarnation)
{
    node_clear(n);
    n->used = n->alive = n->connected = n->c_connected = true;
    n->number = number;
    n->incarnation = incarnation;
    n->life = ++m->next_life;
    n->link = n->c_link = ++m->next_link;
    sim_tell(m, (struct sched_id){0}, 0, "engine %u.%u joins", number, incarnation);
    sim_event(m, &(struct sched_event){
                     .type = SCHED_ENGINE_JOIN, .engine = number, .incarnation = incarnation});
}

/* What is on its way is lost. The engine sees it at once, the controller later, or when it is back.
 */
void node_cut(struct sim *m, struct node *n)
{
    if (!n->connected)
        return;
    sim_tell(m, (struct sched_id){0}, 0, "the link of engine %u.%u is cut", n->number,
             n->incarnation);
    n->connected = false;
    n->link = ++m->next_link;
    n->last_up = n->last_down = 0;
    uint32_t slot = (uint32_t)(n - m->nodes);
    sim_at(m, m->now + sim_below(m, 2 * MS), H_NOTICE, slot)->life = n->link;
    sim_at(m, m->now + sim_below(m, m->healthy ? 20 * MS : 400 * MS), H_RECONNECT, slot)->life =
        n->life;
}

void node_reconnect(struct sim *m, struct node *n)
{
    if (!n->alive || n->connected)
        return;
    n->connected = true;
    n->link = ++m->next_link;
    n->last_up = n->last_down = 0;
    struct msg g = {.type = M_HELLO, .nresends = n->nunacked};
    g.held = calloc(n->nqueue + 1, sizeof *g.held);
    if (n->running)
        g.held[0] = (struct sched_held){n->now.id, 1, n->now.attempt};
    for (uint32_t i = 0; i < n->nqueue; i++)
        g.held[1 + i] = (struct sched_held){n->queue[i].id, n->queue[i].count, n->queue[i].attempt};
    g.nheld = n->nqueue + 1;
    to_controller(m, n, &g);
    for (uint32_t i = 0; i < n->nunacked; i++)
        to_controller(m, n, &n->unacked[i]);
}

void node_crash(struct sim *m, struct node *n, bool drop_link, bool known)
{
    if (!n->alive)
        return;
    sim_tell(m, (struct sched_id){0}, 0, "engine %u.%u dies%s%s", n->number, n->incarnation,
             drop_link ? ", its link is cut" : "", known ? "" : ", its host too");
    struct item *it = n->running ? sim_item(m, n->now.id) : NULL;
    if (it)
        sim_tell(m, n->now.id, 1, "engine %u.%u dies running it", n->number, n->incarnation);
    if (drop_link) {
        n->connected = false;
        n->link = ++m->next_link;
        n->last_up = 0;
        if (sim_chance(m, 70))
            sim_at(m, m->now + sim_below(m, MS), H_NOTICE, (uint32_t)(n - m->nodes))->life =
                n->link;
    }
    n->alive = false;
    uint64_t at = n->last_up > m->now ? n->last_up : m->now;
    struct happening *h =
        sim_at(m, at + sim_below(m, 3 * MS) + 1, H_EXIT, (uint32_t)(n - m->nodes));
    h->life = n->life;
    h->m.status = known;
    h->m.ran = known && sim_chance(m, 10); /* a planned end */
    /* A planned end costs nothing where there are retries at all; and which results died with it is
     * only known where it ran its tasks in the order they were sent. */
    for (uint32_t i = 0; i < n->nunacked && (n->reordered || h->m.ran); i++)
        for (uint32_t k = 0; n->unacked[i].ran && k < n->unacked[i].count; k++) {
            struct sched_id id = {n->unacked[i].id.session, n->unacked[i].id.seq + k};
            sim_item(m, id)->free_losses += n->reordered || sim_item(m, id)->submit->retries;
        }
    if (it && h->m.ran && it->submit->retries)
        it->free_losses++;
}

void node_exit(struct sim *m, struct node *n, struct msg *g)
{
    struct sched_event ev = {
        .type = SCHED_ENGINE_DEAD, .engine = n->number, .incarnation = n->incarnation};
    ev.dead.known = g->status;
    ev.dead.free_of_charge = g->ran;
    if (n->running)
        ev.dead.running = (struct sched_held){n->now.id, 1, n->now.attempt};
    ev.dead.unreported = (uint32_t)(n->finished - n->c_finished);
    n->c_connected = false;
    n->running = false;
    sim_event(m, &ev);
    if (m->healthy || sim_chance(m, 50))
        sim_at(m, m->now + sim_below(m, 20 * MS), H_JOIN, (uint32_t)(n - m->nodes))->life = n->life;
    else
        n->used = false;
}
