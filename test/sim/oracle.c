/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the scheduler may decide about an item, judged by what the simulation knows of it: where and
 * when it may be sent, and how it may end. */
#include "sim.h"

static uint32_t *unsent_of(struct client *c, const struct submit *b)
{
    bool anywhere = b->mode == SCHED_BALANCED && !b->has_targets && !b->ndeps;
    return anywhere ? &c->unsent[b->priority + PRIORITIES / 2] : NULL;
}

void oracle_accepted(struct client *c, struct item *it)
{
    uint32_t *unsent = unsent_of(c, it->submit);
    if (unsent && !it->accepted)
        ++*unsent;
    it->accepted = true;
}

/* It is not unsent any more. */
static void oracle_left(struct client *c, struct item *it)
{
    uint32_t *unsent = unsent_of(c, it->submit);
    if (unsent && !it->sent && !it->ended)
        --*unsent;
}

static bool more_urgent_waits(const struct sim *m, const struct submit *b)
{
    for (uint32_t i = 0; i < m->nclients; i++)
        for (int p = b->priority + PRIORITIES / 2 + 1; p < PRIORITIES; p++)
            if (m->clients[i].unsent[p] && !m->clients[i].paused)
                return true;
    return false;
}

/* Does every (or any) task that b depends on have an end that counts; followed: at that engine? */
static bool deps_allow(struct sim *m, const struct submit *b, bool followed, uint32_t engine)
{
    uint8_t flags = b->dep_flags & 6 ? b->dep_flags : (uint8_t)(b->dep_flags | 2);
    uint32_t good = 0, total = 0, there = 0;
    for (uint32_t i = 0; i < b->ndeps; i++)
        for (uint64_t seq = b->deps[i].lo; seq < b->deps[i].hi; seq++) {
            const struct item *it = sim_item(m, (struct sched_id){b->deps[i].session, seq});
            bool counts = it && it->ended && flags & (it->status == SCHED_S_OK ? 2 : 4);
            total++;
            good += counts;
            there += counts && it->where == engine;
        }
    if (flags & 1)
        return good == total && (!followed || there == total);
    return total == 0 || (good > 0 && (!followed || there > 0));
}

static bool may_go(const struct submit *b, const struct item *it, uint64_t seq, uint32_t engine)
{
    if (b->mode == SCHED_DIRECT)
        return b->targets[0] == engine;
    if (b->mode == SCHED_BROADCAST)
        return b->targets[seq - b->lo] == engine;
    for (uint32_t i = 0; b->has_targets && i < b->ntargets; i++)
        if (b->targets[i] == engine)
            return !(it->unmet_at >> engine % 64 & 1);
    return !b->has_targets && !(it->unmet_at >> engine % 64 & 1);
}

void oracle_send(struct sim *m, const struct sched_action *a)
{
    for (uint32_t i = 0; i < a->count && !m->broken; i++) {
        struct sched_id id = {a->id.session, a->id.seq + i};
        struct item *it = sim_item(m, id);
        const struct submit *b = it ? it->submit : NULL;
        if (!it || it->ended || it->cancelled)
            sim_fail(m, id, "a task is sent that has ended or was cancelled");
        else if (client_of(m, id.session)->paused)
            sim_fail(m, id, "a task of a paused client is sent");
        else if (a->payload != &b->refs || a->offset + i != id.seq - b->lo)
            sim_fail(m, id, "a task is sent with another's payload");
        else if (!may_go(b, it, id.seq, a->engine) && m->next_number < 64)
            sim_fail(m, id, "a task is sent to an engine that its targets or its function exclude");
        else if (b->ndeps && (!deps_allow(m, b, false, a->engine) ||
                              (b->follow && !deps_allow(m, b, true, a->engine))))
            sim_fail(m, id, "a task is sent before or beside what it depends on");
        else if (b->mode == SCHED_BALANCED && more_urgent_waits(m, b))
            sim_fail(m, id, "a task is sent while a more urgent one waits");
        if (m->broken)
            return;
        oracle_left(client_of(m, id.session), it);
        it->sent = true;
        it->attempt = a->attempt;
    }
}

void oracle_result(struct sim *m, struct sched_id id, const struct msg *g, uint32_t engine)
{
    struct item *it = sim_item(m, id);
    if (g->status == SCHED_S_UNMET)
        it->unmet_at |= 1ull << engine % 64;
    uint32_t where = SCHED_ENGINE_NONE;
    sched_task_state(m->s, id, &where); /* lost meanwhile: the error comes too late to count */
    if (g->status == SCHED_S_ERROR && g->attempt == it->attempt && !it->ended && where == engine &&
        ++it->errors > it->may_fail)
        sim_fail(m, id, "a task that raised is run more often than its retries allow");
}

static const char *wrong_word(const struct item *it, const struct sched_action *a)
{
    if (!it || !it->accepted)
        return "a terminal word on a task that was never accepted";
    if (it->ended)
        return "a second terminal word";
    if (a->note != (it->submit->lo & 1 ? it->submit : NULL))
        return "a note that is not its submit's";
    if (a->status >= 2 && !a->why && a->status != SCHED_S_CANCELLED)
        return "a word of ours without a reason";
    if (a->status == SCHED_S_UNMET && it->submit->mode == SCHED_BALANCED)
        return "an engine's no is told, where others could be asked";
    bool unstarted = a->status == SCHED_S_TIMEOUT || a->status == SCHED_S_ABORTED;
    if (unstarted && it->runs > it->free_losses && it->may_run == 1)
        return "a task ended as never started, but it ran";
    if (a->status == SCHED_S_INVALID && !it->submit->ndeps)
        return "a task without dependencies has invalid ones";
    return NULL;
}

void oracle_deliver(struct sim *m, const struct sched_action *a)
{
    for (uint32_t i = 0; i < a->count; i++) {
        struct sched_id id = {a->id.session, a->id.seq + i};
        struct item *it = sim_item(m, id);
        const char *wrong = wrong_word(it, a);
        if (wrong) {
            sim_fail(m, id, wrong);
            return;
        }
        oracle_left(client_of(m, id.session), it);
        it->ended = true;
        it->status = a->status;
        it->where = a->engine;
    }
}
