/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See lane.h. The share of the time is kept as an allowance: it grows by that share of the time
 * that passes, up to the share of a millisecond, and what jobs take is subtracted. In the red the
 * lane rests. */
#include <stdlib.h>

#include "base/clock.h"
#include "net/lane.h"

#define BUSY_FOR (10 * NS_PER_MS) /* the loop counts as busy this long after other work */
#define DISTRUST_FOR NS_PER_S
#define BUSY_SHARE 4 /* one part in so many */
#define DISTRUST_SHARE 2
#define DISTRUST_BUSY_SHARE 16

struct lane {
    struct loop *loop;
    struct list jobs;
    struct loop_job turn;
    struct timer *rest;
    bool resting;
    uint64_t busy_at, distrusted_at, counted_at;
    int64_t allowance; /* ns */
};

static int64_t share(const struct lane *a, uint64_t now)
{
    bool busy = a->busy_at && now - a->busy_at < BUSY_FOR;
    if (a->distrusted_at && now - a->distrusted_at < DISTRUST_FOR)
        return busy ? DISTRUST_BUSY_SHARE : DISTRUST_SHARE;
    return busy ? BUSY_SHARE : 1;
}

static void lane_run(struct lane *a)
{
    uint64_t start = clock_mono(), now = start;
    int64_t part = share(a, start), most = (int64_t)NS_PER_MS / part;
    a->allowance += (int64_t)(start - a->counted_at) / part;
    if (a->allowance > most || part == 1)
        a->allowance = most;
    a->counted_at = start;
    if (a->allowance < 0) {
        a->resting = true;
        timer_start(a->rest, (uint64_t)(-a->allowance * part), 0);
        return;
    }
    for (struct list *n; now - start < LANE_SLICE && (n = list_first(&a->jobs));) {
        struct loop_job *j = list_entry(n, struct loop_job, node);
        list_del(n);
        j->run(j);
        now = clock_mono();
    }
    a->allowance -= (int64_t)(now - start);
    if (!list_empty(&a->jobs))
        loop_job_next_turn(a->loop, &a->turn);
}

static void on_turn(struct loop_job *j)
{
    lane_run(container_of(j, struct lane, turn));
}

static void on_rested(void *arg)
{
    struct lane *a = arg;
    a->resting = false;
    loop_job_next_turn(a->loop, &a->turn);
}

int lane_new(struct lane **ret, struct loop *l)
{
    struct lane *a = calloc(1, sizeof *a);
    if (!a)
        return CV_ENOMEM;
    a->loop = l;
    list_init(&a->jobs);
    loop_job_init(&a->turn, on_turn);
    int r = timer_new(&a->rest, l, on_rested, a);
    if (r < 0) {
        free(a);
        return r;
    }
    *ret = a;
    return CV_OK;
}

void lane_free(struct lane *a)
{
    if (!a)
        return;
    for (struct list *n; (n = list_first(&a->jobs));)
        list_del(n);
    loop_job_cancel(&a->turn);
    timer_free(a->rest);
    free(a);
}

void lane_add(struct lane *a, struct loop_job *j)
{
    if (!list_empty(&j->node))
        return;
    list_add_tail(&a->jobs, &j->node);
    if (!a->resting)
        loop_job_next_turn(a->loop, &a->turn);
}

void lane_busy(struct lane *a)
{
    a->busy_at = loop_now(a->loop);
}

void lane_distrust(struct lane *a)
{
    a->distrusted_at = loop_now(a->loop);
}
