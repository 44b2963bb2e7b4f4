/* SPDX-License-Identifier: BSD-3-Clause
 *
 * sim --seeds A..B [--steps N]   runs a schedule for each seed; prints the story of the task that
 * broke a rule sim --seed S --story           prints everything that happens in one
 *
 * The rules: every accepted item gets exactly one terminal word; nothing runs more often than its
 * retries allow, and with retries=0 never twice; nothing starts after its terminal word but where
 * an INTERRUPT is on its way; the scheduler's invariants hold after every event; once all is
 * healthy everything ends and every client knows; equal work without faults is spread evenly. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "sim.h"

/* --- chance and time --- */

uint64_t sim_random(struct sim *m)
{
    uint64_t z = (m->rng += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

uint64_t sim_below(struct sim *m, uint64_t n)
{
    return n ? sim_random(m) % n : 0;
}

bool sim_chance(struct sim *m, uint32_t percent)
{
    return sim_below(m, 100) < percent;
}

uint64_t sim_delay(struct sim *m)
{
    if (m->calm)
        return 10 * US + sim_below(m, 40 * US);
    return sim_chance(m, 90) ? 1 + sim_below(m, 200 * US) : sim_below(m, 10 * MS);
}

struct happening *sim_at(struct sim *m, uint64_t at, enum happening_type type, uint32_t who)
{
    struct happening *h = calloc(1, sizeof *h);
    if (!h || heap_push(&m->heap, &h->node, at) < 0)
        abort();
    h->type = type;
    h->who = who;
    return h;
}

/* --- oracle --- */

void sim_fail(struct sim *m, struct sched_id id, const char *what)
{
    if (m->broken)
        return;
    m->broken = what;
    m->broken_id = id;
    sim_tell(m, id, 1, "BROKEN: %s", what);
}

void sim_tell(struct sim *m, struct sched_id id, uint32_t count, const char *fmt, ...)
{
    bool ours = m->about.session == 0 || id.session == 0 ||
                (id.session == m->about.session && m->about.seq - id.seq < count);
    if (!m->story || !ours)
        return;
    va_list ap;
    va_start(ap, fmt);
    printf("%12.6f ms  ", (double)m->now / 1e6);
    if (id.session)
        printf("%" PRIu64 "_%" PRIu64 "+%u  ", id.session, id.seq, count);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

static void all_ended(struct sim *m)
{
    sim_event(m, &(struct sched_event){.type = SCHED_TICK}); /* frees the last ones */
    for (uint32_t i = 0; i < m->nclients; i++)
        for (uint64_t seq = 1; seq < m->clients[i].next; seq++) {
            const struct item *it = &m->clients[i].items[seq];
            if (!it->ended || !it->known)
                sim_fail(m, (struct sched_id){m->clients[i].session, seq},
                         it->ended ? "its client never heard how it ended" : "it never ended");
            else if (it->submit->refs)
                sim_fail(m, (struct sched_id){m->clients[i].session, seq},
                         "its payload is not released");
        }
    if (sched_task_count(m->s) || sched_unassigned(m->s))
        sim_fail(m, (struct sched_id){0}, "records are left");
}

/* Equal tasks end together, also on engines that came when the first one held many of them: half as
 * long again as the ideal, and what messages cost, is too long. */
static void spread_evenly(struct sim *m)
{
    uint64_t work = m->even_ns * (m->clients[0].next - 1) / m->next_number;
    if (m->last_word > m->even_from + work * 3 / 2 + 2 * m->even_ns + 15 * MS)
        sim_fail(m, (struct sched_id){0}, "equal work was not spread evenly");
}

/* --- faults --- */

static struct node *pick_node(struct sim *m)
{
    struct node *n = &m->nodes[sim_below(m, ENGINES)];
    return n->used && n->alive ? n : NULL;
}

static void join_new(struct sim *m)
{
    for (int i = 0; i < ENGINES; i++)
        if (!m->nodes[i].used) {
            node_join(m, &m->nodes[i], m->next_number++, 1);
            return;
        }
}

static void chaos(struct sim *m)
{
    struct node *n = pick_node(m);
    uint64_t kind = sim_below(m, 100);
    if (m->healthy)
        return;
    if (kind < 25)
        join_new(m);
    else if (kind < 33 && m->nclients)
        client_cut(m, &m->clients[sim_below(m, m->nclients)]);
    else if (kind < 40 && m->nclients) {
        struct client *c = &m->clients[sim_below(m, m->nclients)];
        sim_pause(m, c, !c->paused);
    } else if (n && kind < 65)
        node_cut(m, n);
    else if (n && kind < 85)
        node_crash(m, n, sim_chance(m, 40), sim_chance(m, 70));
    else if (n && kind < 90 && n->c_connected)
        sim_event(m, &(struct sched_event){.type = SCHED_ENGINE_DRAIN,
                                           .engine = n->number,
                                           .incarnation = n->incarnation});
    if (m->now < m->calm_at)
        sim_at(m, m->now + sim_below(m, 15 * MS), H_CHAOS, 0);
}

/* No faults from here on: the drained and the unreachable leave, new engines come. */
static void heal(struct sim *m)
{
    m->healthy = true;
    sim_tell(m, (struct sched_id){0}, 0, "no more faults");
    for (int i = 0; i < ENGINES; i++) {
        struct node *n = &m->nodes[i];
        struct sched_engine_info info;
        if (n->used && n->alive && sched_engine_info(m->s, n->number, &info) &&
            info.state == SCHED_DRAINING)
            node_crash(m, n, false, true);
    }
    for (int i = 0; i < 3; i++)
        join_new(m);
    for (uint32_t i = 0; i < m->nclients; i++)
        if (m->clients[i].paused)
            sim_pause(m, &m->clients[i], false);
}

/* --- one schedule --- */

static void rejoin(struct sim *m, struct node *n)
{
    uint32_t number = n->number, incarnation = n->incarnation;
    struct sched_engine_info info;
    if (sched_engine_info(m->s, number, &info) && info.incarnation != incarnation)
        return;
    node_join(m, n, number, incarnation + 1);
}

static void happen_to_node(struct sim *m, struct happening *h)
{
    struct node *n = &m->nodes[h->who];
    bool link = h->type == H_TO_ENGINE || h->type == H_TO_CONTROLLER;
    if (h->life != (link ? n->link : h->type == H_NOTICE ? h->life : n->life))
        return;
    switch (h->type) {
    case H_TO_ENGINE:
        node_message(m, n, &h->m);
        break;
    case H_TO_CONTROLLER:
        controller_message(m, n, &h->m);
        break;
    case H_STEP:
        if (h->m.serial == n->run)
            node_step(m, n);
        break;
    case H_NOTICE:
        if (n->used && n->c_link != n->link)
            sim_event(m, &(struct sched_event){.type = SCHED_ENGINE_AWAY,
                                               .engine = n->number,
                                               .incarnation = n->incarnation});
        break;
    case H_RECONNECT:
        node_reconnect(m, n);
        break;
    case H_EXIT:
        node_exit(m, n, &h->m);
        break;
    case H_KILL:
        node_crash(m, n, false, true);
        break;
    default:
        rejoin(m, n);
        break;
    }
}

static void happen_to_client(struct sim *m, struct happening *h)
{
    struct client *c = &m->clients[h->who];
    bool link = h->type == H_SUBMIT || h->type == H_CANCEL || h->type == H_WORD;
    if (link && h->life != c->link)
        return;
    if (h->type == H_CLIENT)
        client_act(m, c);
    else if (h->type == H_SUBMIT)
        controller_submit(m, c, h->submit);
    else if (h->type == H_WORD)
        client_word(m, c, &h->m);
    else if (h->type == H_CLIENT_BACK)
        client_reconnect(m, c);
    else {
        struct sched_event ev = {.type = SCHED_CANCEL, .id = h->m.id, .count = h->m.count};
        ev.cancel.how = h->how;
        ev.cancel.kill_after_ns = h->kill_after;
        sim_event(m, &ev);
        for (uint64_t seq = h->m.id.seq; seq < h->m.id.seq + h->m.count && seq < c->next; seq++)
            c->items[seq].cancelled |= h->how != SCHED_CANCEL_ABORT && c->items[seq].accepted;
    }
}

static void happen(struct sim *m, struct happening *h)
{
    m->now = h->node.key;
    switch (h->type) {
    case H_CHAOS:
        chaos(m);
        break;
    case H_TICK:
        if (m->tick_at <= m->now) {
            m->tick_at = UINT64_MAX;
            sim_event(m, &(struct sched_event){.type = SCHED_TICK});
        }
        break;
    case H_COME:
        join_new(m);
        break;
    case H_CLIENT:
    case H_SUBMIT:
    case H_CANCEL:
    case H_WORD:
    case H_CLIENT_BACK:
        happen_to_client(m, h);
        break;
    default:
        happen_to_node(m, h);
        break;
    }
    free(h->m.held);
}

static void payload_ref(void *p)
{
    ++*(int *)p;
}

static void payload_unref(void *p)
{
    if (--*(int *)p < 0)
        abort();
}

static void sim_init(struct sim *m, uint64_t seed, uint64_t steps)
{
    static const char *const policies[] = {"leastload", "leastload", "leastload",   "lru",
                                           "weighted",  "twobin",    "plainrandom", "pure"};
    static const struct sched_payload_ops ops = {payload_ref, payload_unref};
    m->seed = seed;
    m->rng = seed * 0xD1342543DE82EF95u + 1;
    m->max_steps = steps;
    m->tick_at = UINT64_MAX;
    m->now = 1 * MS;
    m->calm = seed % 10 == 0;
    struct sched_options o = {.policy = policies[sim_below(m, 8)],
                              .seed = seed,
                              .outcome = controller_outcome,
                              .outcome_arg = m};
    o.hwm = sim_chance(m, 60) ? 0 : sim_chance(m, 20) ? 1u << 30 : 1 + (uint32_t)sim_below(m, 20);
    o.slice = sim_chance(m, 60) ? 0 : 1 + (uint32_t)sim_below(m, 20);
    o.away_grace_ns = 1 + sim_below(m, 300 * MS);
    o.client_grace_ns = sim_chance(m, 50) ? 0 : 1 + sim_below(m, 100 * MS);
    if (m->calm)
        o.policy = "leastload";
    m->even = seed % 50 == 0;
    if (m->even) {
        o.hwm = 0;
        m->even_ns = 1 + sim_below(m, 10 * (sim_chance(m, 50) ? 20 * US : MS));
        m->even_from = m->now + 5 * MS;
    }
    if (sched_new(&m->s, &o, &ops, NULL) < 0)
        abort();
    m->calm_at = m->now + (5 + sim_below(m, 40)) * MS;
    m->nclients = m->even ? 1 : 1 + (uint32_t)sim_below(m, CLIENTS);
    for (uint32_t i = 0; i < m->nclients; i++) {
        struct client *c = &m->clients[i];
        c->session = i + 1;
        c->next = 1;
        c->connected = true;
        c->link = ++m->next_link;
        sim_at(m, m->now + sim_below(m, 5 * MS), H_CLIENT, i);
    }
    uint64_t n = sim_below(m, 5) + m->calm;
    for (uint64_t i = 0; i < n; i++) {
        if (i && m->even)
            sim_at(m, m->even_from + sim_below(m, 3 * MS), H_COME, 0);
        else
            join_new(m);
    }
    if (!m->calm)
        sim_at(m, m->now + sim_below(m, 10 * MS), H_CHAOS, 0);
}

static void sim_release(struct sim *m)
{
    while (m->heap.n) {
        struct happening *h = container_of(heap_top(&m->heap), struct happening, node);
        heap_del(&m->heap, &h->node);
        free(h->m.held);
        free(h);
    }
    heap_release(&m->heap);
    for (int i = 0; i < ENGINES; i++)
        node_clear(&m->nodes[i]);
    sched_free(m->s);
    sched_actions_release(&m->actions);
}

static bool sim_run(struct sim *m)
{
    struct heap_node *top;
    while (!m->broken && (top = heap_top(&m->heap))) {
        struct happening *h = container_of(top, struct happening, node);
        heap_del(&m->heap, top);
        if (!m->healthy && !m->even && top->key >= m->calm_at)
            heal(m);
        happen(m, h);
        free(h);
        if (++m->steps > m->max_steps)
            sim_fail(m, (struct sched_id){0}, "it does not come to an end");
        if (!m->healthy && !m->even && !m->heap.n)
            heal(m);
    }
    if (!m->broken)
        all_ended(m);
    if (!m->broken && m->even)
        spread_evenly(m);
    return !m->broken;
}

static bool run_seed(uint64_t seed, uint64_t steps, bool story, struct sched_id about,
                     struct sched_id *ret_broken)
{
    struct sim *m = calloc(1, sizeof *m);
    if (!m)
        abort();
    m->story = story;
    m->about = about;
    sim_init(m, seed, steps);
    bool fine = sim_run(m);
    if (!fine && !story)
        printf("seed %" PRIu64 ": %s (task %" PRIu64 "_%" PRIu64 ", step %" PRIu64 ")\n", seed,
               m->broken, m->broken_id.session, m->broken_id.seq, m->steps);
    *ret_broken = m->broken_id;
    sim_release(m);
    free(m);
    return fine;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t from = 1, to = 1000, steps = 200000;
    bool story = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--story"))
            story = true;
        else if (i + 1 < argc && !strcmp(argv[i], "--steps"))
            steps = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--seed"))
            from = to = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--seeds") &&
                 sscanf(argv[++i], "%" SCNu64 "..%" SCNu64, &from, &to) == 2)
            continue;
        else {
            fprintf(stderr, "usage: sim [--seeds A..B | --seed S [--story]] [--steps N]\n");
            return 2;
        }
    }
    struct sched_id broken, all = {0};
    for (uint64_t seed = from; seed <= to; seed++) {
        if (run_seed(seed, steps, story, all, &broken))
            continue;
        if (!story)
            run_seed(seed, steps, true, broken, &broken);
        return 1;
    }
    printf("%" PRIu64 " schedules, no rule broken\n", to - from + 1);
    return 0;
}
