/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The scheduler and the store when memory is short, under a mixed workload. CV_ENOMEM: nothing was
 * changed. CV_ECLOSED: the scheduler can still be freed, with all that it holds. */
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sched/sched.h"
#include "store/store.h"

#define MS 1000000ull
#define SESSION 7u

struct world {
    struct sched *s;
    struct sched_actions a;
    uint64_t now;
    int refs;
    bool over; /* CV_ECLOSED: its owner ends */
};

static void ref(void *p)
{
    if (p)
        ++*(int *)p;
}

static void unref(void *p)
{
    if (p)
        --*(int *)p;
}

static void tell(struct world *w, const struct sched_event *ev)
{
    struct err e = {""};
    size_t tasks = sched_task_count(w->s);
    int refs = w->refs;
    if (w->over)
        return;
    w->a.n = 0;
    w->now += MS;
    int rc = sched_handle(w->s, w->now, ev, &w->a, &e);
    if (rc == CV_OK || (rc == CV_EINVAL && ev->type == SCHED_ENGINE_BACK))
        return; /* (its JOIN had been refused) */
    if ((rc != CV_ENOMEM && rc != CV_ECLOSED) || !fault_hit())
        fail_msg("event %d: code %d, %s", ev->type, rc, e.text);
    if (rc == CV_ENOMEM) {
        assert_true(ev->type == SCHED_SUBMIT || ev->type == SCHED_ENGINE_JOIN);
        if (sched_task_count(w->s) != tasks)
            fail_msg("event %d, id %d without memory: %zu tasks, %zu before", ev->type,
                     (int)ev->id.seq, sched_task_count(w->s), tasks);
        assert_true(w->refs <= refs); /* what had ended before is freed by any event */
        if (sched_check(w->s))
            fail_msg("after a SUBMIT without memory: %s", sched_check(w->s));
    } else {
        w->over = true;
    }
}

static void engine(struct world *w, enum sched_event_type type, uint32_t number)
{
    struct sched_event ev = {.type = type, .engine = number, .incarnation = 1};
    tell(w, &ev);
}

static void submit(struct world *w, uint64_t seq, uint32_t count, enum sched_mode mode,
                   uint64_t after)
{
    static const uint32_t targets[] = {0, 1, 0};
    struct sched_range r = {SESSION, after, after + 1};
    struct sched_event ev = {.type = SCHED_SUBMIT, .id = {SESSION, seq}, .count = count};
    ev.submit.mode = mode;
    ev.submit.targets = mode == SCHED_BALANCED && after ? NULL : targets;
    ev.submit.ntargets = mode == SCHED_BROADCAST ? count : mode == SCHED_DIRECT ? 1 : 2;
    ev.submit.timeout = seq % 2 ? 10 : -1;
    ev.submit.retries = 1;
    ev.submit.priority = (int32_t)(seq % 3);
    ev.submit.payload = &w->refs;
    ev.submit.after = &r;
    ev.submit.nafter = after ? 1 : 0;
    ev.submit.after_flags = 3;
    tell(w, &ev);
}

static void about(struct world *w, enum sched_event_type type, uint64_t seq, uint32_t count,
                  uint32_t number)
{
    struct sched_event ev = {.type = type,
                             .id = {SESSION, seq},
                             .count = count,
                             .attempt = 1,
                             .engine = number,
                             .incarnation = 1};
    if (type == SCHED_CANCEL)
        ev.cancel.how = SCHED_CANCEL_INTERRUPT;
    tell(w, &ev);
}

static void comes_back(struct world *w, uint32_t number)
{
    const struct sched_held unstarted[] = {{{SESSION, 30}, 20, 1}, {{SESSION, 99}, 1, 1}};
    struct sched_event ev = {.type = SCHED_ENGINE_BACK, .engine = number, .incarnation = 1};
    ev.back.running = (struct sched_held){{SESSION, 5}, 1, 1};
    ev.back.unstarted = unstarted;
    ev.back.nunstarted = 2;
    tell(w, &ev);
    engine(w, SCHED_ENGINE_SYNCED, number);
}

static void client_returns(struct world *w)
{
    const struct sched_range waiting = {SESSION, 1, 300};
    struct sched_event ev = {.type = SCHED_CLIENT_GONE, .id = {SESSION, 0}};
    tell(w, &ev);
    ev.type = SCHED_CLIENT_BACK;
    ev.client.waiting = &waiting;
    ev.client.nwaiting = 1;
    tell(w, &ev);
}

static void dies(struct world *w, uint32_t number)
{
    struct sched_event ev = {.type = SCHED_ENGINE_DEAD, .engine = number, .incarnation = 1};
    ev.dead.known = true;
    ev.dead.running = (struct sched_held){{SESSION, 1}, 1, 1};
    ev.dead.unreported = 2;
    tell(w, &ev);
}

static void mixed(void *arg)
{
    static const struct sched_payload_ops ops = {ref, unref};
    const struct sched_options o = {
        .policy = arg, .hwm = 4, .away_grace_ns = 50 * MS, .client_grace_ns = 50 * MS, .seed = 1};
    struct world w = {.now = 1000 * MS};
    struct err e = {""};
    int rc = sched_new(&w.s, &o, &ops, &e);
    if (rc != CV_OK) {
        assert_true(rc == CV_ENOMEM && fault_hit());
        return;
    }
    submit(&w, 1, 4, SCHED_BALANCED, 0);
    engine(&w, SCHED_ENGINE_JOIN, 0);
    engine(&w, SCHED_ENGINE_JOIN, 1);
    for (uint64_t i = 5; i < 20; i++)
        submit(&w, i, 1, i % 4 ? SCHED_BALANCED : SCHED_DIRECT, i % 5 ? 0 : i - 1);
    submit(&w, 20, 3, SCHED_BROADCAST, 0);
    submit(&w, 30, 200, SCHED_BALANCED, 0); /* its bitmap has memory of its own */
    about(&w, SCHED_STARTED, 1, 1, 0);
    about(&w, SCHED_RESULT, 1, 2, 0);
    about(&w, SCHED_RESULT, 5, 1, 1);
    about(&w, SCHED_GIVE_BACK, 3, 1, 0);
    about(&w, SCHED_CANCEL, 10, 3, 0);
    about(&w, SCHED_CANCEL, 40, 30, 0);
    engine(&w, SCHED_ENGINE_AWAY, 0);
    comes_back(&w, 0);
    client_returns(&w);
    engine(&w, SCHED_ENGINE_JOIN, 2);
    engine(&w, SCHED_ENGINE_DRAIN, 2);
    dies(&w, 1);
    w.now += 20000 * MS;
    engine(&w, SCHED_TICK, 0);
    submit(&w, 300, 1, SCHED_BALANCED, 0);
    sched_free(w.s);
    sched_actions_release(&w.a);
    assert_int_equal(w.refs, 0);
}

static void memory_is_short_in_the_scheduler(void **state)
{
    char *policies[] = {"leastload", "lru", "weighted"};
    for (size_t i = 0; i < 3; i++)
        assert_true(fault_each(FAULT_MEMORY, mixed, policies[i]) > 50);
}

static bool see(struct store_walk *w, const struct store_record *r, uint64_t lo, uint64_t hi)
{
    return true;
}

static void seen(struct store_walk *w, bool failed)
{
    assert_false(failed);
}

static void purged(struct store_purge *p, bool failed)
{
    assert_false(failed);
}

static void records(void *arg)
{
    const struct store_config config = {
        .backend = arg, .limits = {.bytes = 10000, .records = 10}, .payload = {ref, unref}};
    struct store_walk walk = {.visit = see, .done = seen};
    struct store_purge purge = {.all = true, .done = purged};
    struct store *s;
    struct err e = {""};
    int refs = 0, lost = 0;
    int rc = store_new(&s, &config, &e);
    if (rc != CV_OK) {
        assert_true(rc == CV_ENOMEM && fault_hit());
        return;
    }
    for (uint64_t i = 0; i < 20; i++) {
        struct store_task t = {.session = i % 3,
                               .seq = 10 * i,
                               .count = 5,
                               .label = "label",
                               .payload = &refs,
                               .bytes = 20};
        struct store_result r = {.payload = &refs, .bytes = 30, .seq = 10 * i, .count = 5};
        if ((rc = s->ops->submit(s, &t)) != CV_OK) {
            assert_true(rc == CV_ENOMEM && fault_hit());
            lost++;
            continue;
        }
        s->ops->output(s, t.session, t.seq, STORE_STDOUT, "some text", 9);
        rc = s->ops->end(s, t.session, t.seq + 1, 2, &r);
        assert_true(rc == CV_OK || fault_hit());
        rc = s->ops->end(s, t.session, t.seq, 5, &r);
        assert_true(rc == CV_OK || fault_hit());
        if (i % 2)
            s->ops->delivered(s, t.session, t.seq, 5);
    }
    s->ops->walk(s, &walk);
    while (s->ops->turn(s, 0) == 0)
        continue;
    s->ops->purge(s, &purge);
    while (s->ops->turn(s, 0) == 0)
        continue;
    store_free(s);
    assert_int_equal(refs, 0);
}

static void memory_is_short_in_the_store(void **state)
{
    assert_true(fault_each(FAULT_MEMORY, records, "memory") > 20);
    assert_true(fault_each(FAULT_MEMORY, records, "none") > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_short_in_the_scheduler),
        cmocka_unit_test(memory_is_short_in_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
