/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The loop: waking from a thread and a signal handler, the end of a turn, timers, watches. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "net/loop_priv.h"
#include "net/test_pair.h"

#define WAKES 1000

struct world {
    struct loop *loop;
    struct timer *t;
    struct watch *w;
    struct loop_job job;
    int wakes, ends, ticks, jobs, signals;
    uint64_t stop_at, turn;
    atomic_bool woken;
    char trace[64];
};

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    assert_int_equal(loop_new(&w->loop), CV_OK);
}

static void on_wake(void *arg)
{
    struct world *w = arg;
    w->wakes++;
    if (atomic_load(&w->woken))
        loop_stop(w->loop);
}

static void *waker(void *arg)
{
    struct world *w = arg;
    for (int i = 0; i < WAKES; i++) {
        if (i == WAKES - 1)
            atomic_store(&w->woken, true);
        loop_wake(w->loop);
    }
    return NULL;
}

static void wakes_come_through_and_are_coalesced(void **state)
{
    struct world w;
    pthread_t t;
    world_open(&w);
    loop_on_wake(w.loop, on_wake, &w);
    waker(&w);
    loop_run(w.loop);
    assert_int_equal(w.wakes, 1);
    atomic_store(&w.woken, false);
    assert_int_equal(pthread_create(&t, NULL, waker, &w), 0);
    loop_run(w.loop);
    pthread_join(t, NULL);
    assert_in_range(w.wakes, 2, WAKES + 1);
    loop_free(w.loop);
}

static void on_signal(void *arg, int signum)
{
    struct world *w = arg;
    assert_int_equal(signum, SIGUSR1);
    w->signals++;
    watch_free(w->w);
    loop_stop(w->loop);
}

static void signals_come_on_the_loop(void **state)
{
    struct world w;
    world_open(&w);
    assert_int_equal(signal_new(&w.w, w.loop, SIGUSR1, on_signal, &w), CV_OK);
    raise(SIGUSR1);
    loop_run(w.loop);
    assert_int_equal(w.signals, 1);
    loop_free(w.loop);
}

static void trace(struct world *w, char c)
{
    w->trace[strlen(w->trace)] = c;
}

static void on_end(void *arg)
{
    struct world *w = arg;
    trace(w, 'e');
    if (++w->ends == 1)
        loop_job_at_turn_end(w->loop, &w->job);
    else
        loop_stop(w->loop);
}

static void on_job(struct loop_job *j)
{
    struct world *w = list_entry(j, struct world, job);
    trace(w, 'j');
    if (++w->jobs == 1) {
        w->turn = loop_turn(w->loop);
        loop_job_next_turn(w->loop, j);
        loop_job_next_turn(w->loop, j); /* still once */
    } else {
        assert_int_equal(loop_turn(w->loop), w->turn + 1);
    }
}

static void work_is_put_off_to_the_end_of_a_turn(void **state)
{
    struct world w;
    world_open(&w);
    loop_job_init(&w.job, on_job);
    assert_int_equal(loop_on_turn_end(w.loop, on_end, &w), CV_OK);
    loop_run(w.loop);
    assert_memory_equal(w.trace, "ejje", 4);
    loop_free(w.loop);
}

static void on_tick(void *arg)
{
    struct world *w = arg;
    if (++w->ticks == 3) {
        timer_free(w->t);
        loop_stop(w->loop);
    }
}

static void a_timer_repeats_and_may_free_itself(void **state)
{
    struct world w;
    world_open(&w);
    uint64_t start = clock_mono();
    assert_int_equal(timer_new(&w.t, w.loop, on_tick, &w), CV_OK);
    timer_start(w.t, 5 * NS_PER_MS, 10 * NS_PER_MS);
    loop_run(w.loop);
    assert_int_equal(w.ticks, 3);
    assert_true(clock_mono() - start >= 24 * NS_PER_MS);
    loop_free(w.loop);
}

static void on_readable(void *arg, int events)
{
    struct world *w = arg;
    assert_true(events & UV_READABLE);
    watch_free(w->w);
    loop_stop(w->loop);
}

static void a_watch_may_free_itself(void **state)
{
    struct world w;
    int fds[2];
    world_open(&w);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(watch_new(&w.w, w.loop, fds[0], 0, on_readable, &w), CV_OK);
    watch_set(w.w, UV_READABLE);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_run(w.loop);
    close(fds[0]);
    close(fds[1]);
    loop_free(w.loop);
}

static void now_stands_still_within_a_turn(void **state)
{
    struct world w;
    world_open(&w);
    uint64_t now = loop_now(w.loop), t = clock_mono();
    while (clock_mono() == t)
        ;
    assert_int_equal(loop_now(w.loop), now);
    loop_stop(w.loop);
    loop_run(w.loop);
    assert_true(loop_now(w.loop) > now);
    loop_free(w.loop);
}

static void on_end_stop(void *arg)
{
    struct world *w = arg;
    w->ends++;
    loop_stop(w->loop);
}

/* A stop in the last turn, after the loop has been stopped already, leaves libuv's flag set. */
static void freed_although_stopped_again(void **state)
{
    struct world w;
    world_open(&w);
    assert_int_equal(loop_on_turn_end(w.loop, on_end_stop, &w), CV_OK);
    assert_int_equal(timer_new(&w.t, w.loop, on_wake, &w), CV_OK);
    timer_start(w.t, 0, 0);
    loop_run(w.loop);
    assert_true(w.ends > 0);
    timer_free(w.t);
    loop_free(w.loop);
    world_open(&w);
    loop_stop(w.loop); /* and one that never ran */
    loop_free(w.loop);
}

/* By turns, for a caller that sleeps on the descriptor itself: wake-ups, timers and jobs all come.
 */
static void turned_from_outside(void **state)
{
    struct world w;
    world_open(&w);
    w.woken = false;
    loop_on_wake(w.loop, on_wake, &w);
    loop_job_init(&w.job, on_job);
    w.jobs = 1; /* so that the job's first run is its last */
    w.turn = loop_turn(w.loop);
    assert_int_equal(timer_new(&w.t, w.loop, on_tick, &w), CV_OK);
    assert_int_equal(loop_turn_once(w.loop),
                     UINT64_MAX); /* nothing to wait for but the descriptor */
    assert_int_equal(w.wakes, 1); /* what was queued before is looked at */
    loop_wake(w.loop);
    struct pollfd p = {.fd = loop_fd(w.loop), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    loop_turn_once(w.loop);
    assert_int_equal(poll(&p, 1, 0), 0);
    timer_start(w.t, 10 * NS_PER_MS, 10 * NS_PER_MS);
    assert_in_range(loop_turn_once(w.loop), 0, 10 * NS_PER_MS);
    while (w.ticks < 3) {
        uint64_t ns = loop_turn_once(w.loop);
        if (w.ticks < 3)
            poll(&p, 1, (int)(ns / NS_PER_MS));
    }
    w.turn = loop_turn(w.loop);
    loop_job_next_turn(w.loop, &w.job);
    loop_turn_once(w.loop);
    loop_turn_once(w.loop);
    assert_int_equal(w.jobs, 2);
    loop_free(w.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wakes_come_through_and_are_coalesced),
        cmocka_unit_test(signals_come_on_the_loop),
        cmocka_unit_test(work_is_put_off_to_the_end_of_a_turn),
        cmocka_unit_test(a_timer_repeats_and_may_free_itself),
        cmocka_unit_test(a_watch_may_free_itself),
        cmocka_unit_test(now_stands_still_within_a_turn),
        cmocka_unit_test(freed_although_stopped_again),
        cmocka_unit_test(turned_from_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
