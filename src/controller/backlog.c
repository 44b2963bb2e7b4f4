/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See backlog.h. Without memory for an account its client is not bounded, and that is logged. */
#include "controller/backlog.h"

#include <inttypes.h>
#include <stdlib.h>
#include "controller/act.h"
#include "controller/controller.h"

#define RECORDS_DEFAULT (1ull << 30) /* bytes, as in store/memory.c */

struct debt {
    struct list due_node;
    uint64_t session, bytes;
    bool paused;
};

void backlog_init(struct backlog *b)
{
    b->by_session = (struct hash){0};
    list_init(&b->due);
}

void backlog_release(struct backlog *b)
{
    struct debt *d;
    for (size_t i = 0; (d = hash_next(&b->by_session, &i));)
        free(d);
    hash_release(&b->by_session);
}

static void due(struct controller *c, struct debt *d)
{
    if (list_empty(&d->due_node))
        list_add_tail(&c->backlog.due, &d->due_node);
}

static struct debt *debt_of(struct controller *c, uint64_t session)
{
    struct debt *d = hash_get(&c->backlog.by_session, 0, session);

    if (d)
        return d;
    d = calloc(1, sizeof(*d));
    if (d && hash_put(&c->backlog.by_session, 0, session, d, NULL) != CV_OK) {
        free(d);
        d = NULL;
    }
    if (!d) {
        log_error(c->log, "out of memory to count what client %016" PRIx64 " has to read", session);
        return NULL;
    }
    d->session = session;
    list_init(&d->due_node);
    return d;
}

void backlog_add(struct controller *c, uint64_t session, uint64_t bytes)
{
    struct debt *d = bytes ? debt_of(c, session) : hash_get(&c->backlog.by_session, 0, session);

    if (!d)
        return;
    d->bytes += bytes;
    due(c, d);
}

void backlog_taken(struct controller *c, uint64_t session, uint64_t bytes)
{
    struct debt *d = hash_get(&c->backlog.by_session, 0, session);

    if (!d)
        return;
    d->bytes -= bytes < d->bytes ? bytes : d->bytes;
    due(c, d);
}

uint64_t backlog_bytes(const struct controller *c, uint64_t session)
{
    const struct debt *d = hash_get(&c->backlog.by_session, 0, session);

    return d ? d->bytes : 0;
}

void backlog_came(struct controller *c, uint64_t session)
{
    backlog_taken(c, session, UINT64_MAX);
}

void backlog_went(struct controller *c, uint64_t session)
{
    backlog_taken(c, session, 0);
}

static void pause_or_not(struct controller *c, struct debt *d, bool pause)
{
    struct sched_event ev = {.type = pause ? SCHED_CLIENT_PAUSE : SCHED_CLIENT_RESUME,
                             .id = {d->session, 0}};

    d->paused = pause;
    if (pause)
        log_info(c->log,
                 "client %016" PRIx64 " has %" PRIu64
                 " MiB of results to take: its queued tasks wait until it does",
                 d->session, d->bytes >> 20);
    else
        log_info(c->log, "client %016" PRIx64 " reads again: its tasks go on", d->session);
    act_must(c, &ev);
}

static void settle(struct controller *c, struct debt *d)
{
    bool here = registry_client(&c->registry, d->session) != NULL;
    bool over = !here && !sched_client_live(c->sched, d->session);
    uint64_t records = c->opt->size_limit ? c->opt->size_limit : RECORDS_DEFAULT;
    uint64_t bound = here ? c->opt->client_buffer : records / 2;

    if (over)
        d->bytes = 0;
    if (!d->paused && bound && d->bytes > bound)
        pause_or_not(c, d, true);
    else if (d->paused && (!bound || d->bytes <= bound / 2))
        pause_or_not(c, d, false);
    if (!here && !d->paused && !d->bytes && list_empty(&d->due_node)) {
        hash_del(&c->backlog.by_session, 0, d->session);
        free(d);
    }
}

void backlog_settle(struct controller *c)
{
    for (struct list *l; (l = list_first(&c->backlog.due));) {
        list_del(l);
        settle(c, list_entry(l, struct debt, due_node));
    }
}
