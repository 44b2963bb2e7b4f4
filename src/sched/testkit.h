/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the scheduler's unit tests share: a scheduler under test whose clock is a number, one call
 * per event, and questions about the actions of the last one. sched_check() follows every event. */
#ifndef COVEY_SCHED_TESTKIT_H
#define COVEY_SCHED_TESTKIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sched/sched.h"

#define SESSION 0xABCDu
#define MS 1000000ull

struct kit {
    struct sched *s;
    struct sched_actions a;
    uint64_t now;
    int payload_refs;
    struct {
        bool known;
        uint8_t status;
        uint32_t engine;
    } past[64]; /* what outcome() says about seq */
};

static inline void kit_ref(void *payload)
{
    ++*(int *)payload;
}

static inline void kit_unref(void *payload)
{
    assert_true(--*(int *)payload >= 0);
}

static inline bool kit_outcome(void *arg, struct sched_id id, uint8_t *status, uint32_t *engine)
{
    struct kit *k = arg;
    if (id.seq >= 64 || !k->past[id.seq].known)
        return false;
    *status = k->past[id.seq].status;
    *engine = k->past[id.seq].engine;
    return true;
}

static inline void kit_init(struct kit *k, struct sched_options o)
{
    static const struct sched_payload_ops ops = {kit_ref, kit_unref};
    *k = (struct kit){.now = 1000 * MS};
    o.outcome = kit_outcome;
    o.outcome_arg = k;
    assert_int_equal(sched_new(&k->s, &o, &ops, NULL), CV_OK);
}

static inline void kit_release(struct kit *k)
{
    sched_free(k->s);
    sched_actions_release(&k->a);
    assert_int_equal(k->payload_refs, 0);
}

static inline int kit_handle(struct kit *k, const struct sched_event *ev)
{
    struct err e = {0};
    k->a.n = 0;
    int r = sched_handle(k->s, k->now, ev, &k->a, &e);
    if (sched_check(k->s))
        fail_msg("after event %d: %s", ev->type, sched_check(k->s));
    return r;
}

static inline void kit_tick(struct kit *k, uint64_t ns)
{
    k->now += ns;
    assert_int_equal(kit_handle(k, &(struct sched_event){.type = SCHED_TICK}), CV_OK);
}

static inline struct sched_event kit_task(struct kit *k, uint64_t seq, uint32_t count)
{
    struct sched_event ev = {.type = SCHED_SUBMIT, .id = {SESSION, seq}, .count = count};
    ev.submit.timeout = -1;
    ev.submit.payload = &k->payload_refs;
    return ev;
}

static inline void kit_balanced(struct kit *k, uint64_t seq, uint32_t count, uint32_t retries)
{
    struct sched_event ev = kit_task(k, seq, count);
    ev.submit.retries = retries;
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static inline void kit_direct(struct kit *k, uint64_t seq, uint32_t engine)
{
    struct sched_event ev = kit_task(k, seq, 1);
    ev.submit.mode = SCHED_DIRECT;
    ev.submit.targets = &engine;
    ev.submit.ntargets = 1;
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static inline void kit_engine(struct kit *k, enum sched_event_type type, uint32_t engine)
{
    struct sched_event ev = {.type = type, .engine = engine, .incarnation = 1};
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static inline void kit_dead(struct kit *k, uint32_t engine, uint64_t running, uint16_t attempt)
{
    struct sched_event ev = {.type = SCHED_ENGINE_DEAD, .engine = engine, .incarnation = 1};
    ev.dead.known = true;
    if (running)
        ev.dead.running = (struct sched_held){{SESSION, running}, 1, attempt};
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static inline void kit_dead_unknown(struct kit *k, uint32_t engine)
{
    struct sched_event ev = {.type = SCHED_ENGINE_DEAD, .engine = engine, .incarnation = 1};
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static inline void kit_word(struct kit *k, enum sched_event_type type, uint32_t engine,
                            uint64_t seq, uint32_t count, uint16_t attempt)
{
    struct sched_event ev = {.type = type,
                             .id = {SESSION, seq},
                             .count = count,
                             .attempt = attempt,
                             .engine = engine,
                             .incarnation = 1};
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static inline void kit_result(struct kit *k, uint32_t engine, uint64_t seq, uint32_t count,
                              uint16_t attempt, uint8_t status, uint64_t run_ns)
{
    struct sched_event ev = {.type = SCHED_RESULT,
                             .id = {SESSION, seq},
                             .count = count,
                             .attempt = attempt,
                             .engine = engine,
                             .incarnation = 1};
    ev.result.status = status;
    ev.result.run_ns = run_ns;
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static inline void kit_cancel(struct kit *k, uint64_t seq, uint32_t count, enum sched_cancel how,
                              uint64_t kill_after)
{
    struct sched_event ev = {.type = SCHED_CANCEL, .id = {SESSION, seq}, .count = count};
    ev.cancel.how = how;
    ev.cancel.kill_after_ns = kill_after;
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

/* How many actions of that type the last event gave, and how many items they are about. */
static inline size_t kit_actions(const struct kit *k, enum sched_action_type type)
{
    size_t n = 0;
    for (size_t i = 0; i < k->a.n; i++)
        n += k->a.v[i].type == type;
    return n;
}

/* The action of that type about seq (0: any), or NULL. */
static inline const struct sched_action *kit_action(const struct kit *k,
                                                    enum sched_action_type type, uint64_t seq)
{
    for (size_t i = 0; i < k->a.n; i++) {
        const struct sched_action *a = &k->a.v[i];
        if (a->type == type && (seq == 0 || (a->id.seq <= seq && seq < a->id.seq + a->count)))
            return a;
    }
    return NULL;
}

static inline void kit_expect_sent(const struct kit *k, uint64_t seq, uint32_t engine,
                                   uint16_t attempt)
{
    const struct sched_action *a = kit_action(k, SCHED_SEND, seq);
    assert_non_null(a);
    assert_int_equal(a->engine, engine);
    assert_int_equal(a->attempt, attempt);
    assert_non_null(a->payload);
}

static inline void kit_expect_end(const struct kit *k, uint64_t seq, uint8_t status)
{
    const struct sched_action *a = kit_action(k, SCHED_DELIVER, seq);
    assert_non_null(a);
    assert_int_equal(a->status, status);
    if (status >= 2)
        assert_true(a->why || status == SCHED_S_CANCELLED || status == SCHED_S_ABORTED);
}

static inline enum sched_task_state kit_state(const struct kit *k, uint64_t seq)
{
    return sched_task_state(k->s, (struct sched_id){SESSION, seq}, NULL);
}

/* The lowest level of load balance: a run of quick results, so that an engine may hold many. */
static inline void kit_warm(struct kit *k, uint32_t engine, uint64_t seq)
{
    kit_balanced(k, seq, 1, 0);
    kit_expect_sent(k, seq, engine, 1);
    kit_result(k, engine, seq, 1, 1, SCHED_S_OK, 5000);
}

#endif
