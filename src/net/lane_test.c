/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A lane's jobs: their order, one heavy one a turn, and their share of a busy loop's time. What is
 * measured are lower bounds, which hold on any machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "net/lane.h"

#define JOBS 40
#define JOB_NS (LANE_SLICE + 10000)

struct world {
    struct loop *loop;
    struct lane *lane;
    bool busy;
    int n;
    struct job {
        struct loop_job job;
        struct world *w;
        uint64_t turn;
        int place;
    } jobs[JOBS];
};

static void run(struct loop_job *j)
{
    struct job *x = container_of(j, struct job, job);
    struct world *w = x->w;
    uint64_t start = clock_mono();
    if (w->busy)
        lane_busy(w->lane);
    while (clock_mono() - start < JOB_NS)
        ;
    x->turn = loop_turn(w->loop);
    x->place = w->n++;
    if (w->n == JOBS)
        loop_stop(w->loop);
}

/* Wall time that all jobs took. */
static uint64_t run_all(struct world *w, bool busy)
{
    *w = (struct world){.busy = busy};
    assert_int_equal(loop_new(&w->loop), CV_OK);
    assert_int_equal(lane_new(&w->lane, w->loop), CV_OK);
    for (int i = 0; i < JOBS; i++) {
        w->jobs[i].w = w;
        loop_job_init(&w->jobs[i].job, run);
        lane_add(w->lane, &w->jobs[i].job);
        lane_add(w->lane, &w->jobs[i].job); /* still once */
    }
    if (busy)
        lane_busy(w->lane);
    uint64_t start = clock_mono();
    assert_int_equal(loop_run(w->loop), CV_OK);
    uint64_t took = clock_mono() - start;
    lane_free(w->lane);
    loop_free(w->loop);
    return took;
}

static void one_heavy_job_a_turn(void **state)
{
    struct world w;
    run_all(&w, false);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(w.jobs[i].place, i);
        assert_true(!i || w.jobs[i].turn > w.jobs[i - 1].turn);
    }
}

static void a_quarter_of_a_busy_loop(void **state)
{
    struct world w;
    uint64_t took = run_all(&w, true), work = JOBS * JOB_NS;
    assert_int_equal(w.n, JOBS);
    assert_true(took > 3 * work);
}

static void a_job_leaves(void **state)
{
    struct world w = {0};
    assert_int_equal(loop_new(&w.loop), CV_OK);
    assert_int_equal(lane_new(&w.lane, w.loop), CV_OK);
    w.n = JOBS - 1; /* the next one is the last */
    for (int i = 0; i < 2; i++) {
        w.jobs[i].w = &w;
        loop_job_init(&w.jobs[i].job, run);
        lane_add(w.lane, &w.jobs[i].job);
    }
    loop_job_cancel(&w.jobs[0].job);
    assert_int_equal(loop_run(w.loop), CV_OK);
    assert_int_equal(w.n, JOBS);
    assert_int_equal(w.jobs[0].turn, 0);
    lane_free(w.lane);
    loop_free(w.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_heavy_job_a_turn),
                                       cmocka_unit_test(a_quarter_of_a_busy_loop),
                                       cmocka_unit_test(a_job_leaves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
