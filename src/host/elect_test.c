/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Several hosts of one machine, here on one loop: one relays, and another one does when it ends. */
#include "host/elect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"

#define HOSTS 5

struct world {
    struct loop *loop;
    struct timer *deadline;
    char boot[32];
    struct host {
        struct world *w;
        struct elect *x;
        uint32_t exited;
        bool orphaned, taken, ending;
    } hosts[HOSTS];
};

static int send_up(void *arg, const struct header *h, const void *route, uint32_t route_len,
                   struct payload *payload, int flags)
{
    return CV_ECLOSED;
}

static void on_leg_closed(void *arg, uint32_t number)
{
}

static bool on_exited(void *arg, const struct msg *m)
{
    struct host *h = arg;
    h->exited = m->h.engine;
    loop_stop(h->w->loop);
    return !h->ending;
}

static void on_taken(void *arg)
{
    struct host *h = arg;
    h->taken = true;
    loop_stop(h->w->loop);
}

static void on_orphaned(void *arg)
{
    struct host *h = arg;
    h->orphaned = true;
    loop_stop(h->w->loop);
}

static void on_deadline(void *arg)
{
    fail_msg("nothing happened within the deadline");
}

static void join(struct world *w, unsigned i, const char *boot)
{
    struct host *h = &w->hosts[i];
    const struct elect_config c = {.relay = {.loop = w->loop,
                                             .send_up = send_up,
                                             .closed = on_leg_closed,
                                             .exited = on_exited,
                                             .arg = h},
                                   .boot_id = boot,
                                   .session = i + 1,
                                   .orphaned = on_orphaned,
                                   .taken = on_taken};
    h->w = w;
    assert_int_equal(elect_new(&h->x, &c, NULL), CV_OK);
}

static int setup(void **state)
{
    static struct world w;
    static unsigned count;
    memset(&w, 0, sizeof w);
    snprintf(w.boot, sizeof w.boot, "test%d-%u", (int)getpid(), count++);
    assert_int_equal(loop_new(&w.loop), CV_OK);
    assert_int_equal(timer_new(&w.deadline, w.loop, on_deadline, &w), CV_OK);
    timer_start(w.deadline, 60 * NS_PER_S, 0);
    for (unsigned i = 0; i < HOSTS; i++)
        join(&w, i, w.boot);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < HOSTS; i++)
        elect_free(w->hosts[i].x);
    timer_free(w->deadline);
    loop_free(w->loop);
    return 0;
}

/* An EXIT reaches the relay, also if the first attempts come before the link is there. */
static void tell_until_it_arrives(struct world *w, struct host *from, struct host *to,
                                  uint32_t number)
{
    const struct header h = {.type = MSG_EXIT, .engine = number};
    while (elect_exit(from->x, &h, NULL) == CV_ECLOSED)
        uv_run(loop_uv(w->loop), UV_RUN_ONCE);
    while (to->exited != number)
        loop_run(w->loop);
}

static void the_first_relays_for_all(void **state)
{
    struct world *w = *state;
    assert_non_null(elect_relay(w->hosts[0].x));
    for (unsigned i = 1; i < HOSTS; i++) {
        assert_null(elect_relay(w->hosts[i].x));
        assert_string_equal(elect_endpoint(w->hosts[i].x), elect_endpoint(w->hosts[0].x));
        tell_until_it_arrives(w, &w->hosts[i], &w->hosts[0], 10 + i);
    }
}

static struct host *relaying(struct world *w)
{
    struct host *found = NULL;
    for (unsigned i = 0; i < HOSTS; i++) {
        if (w->hosts[i].x && elect_relay(w->hosts[i].x)) {
            assert_null(found); /* never two */
            found = &w->hosts[i];
        }
    }
    return found;
}

static void another_one_relays_when_it_ends(void **state)
{
    struct world *w = *state;
    for (unsigned left = HOSTS - 1; left > 0; left--) {
        struct host *old = relaying(w), *new;
        for (unsigned i = 0; i < HOSTS; i++) /* all have joined it */
            if (w->hosts[i].x && &w->hosts[i] != old)
                tell_until_it_arrives(w, &w->hosts[i], old, left * 100 + i + 1);
        for (unsigned i = 0; i < HOSTS; i++)
            w->hosts[i].orphaned = false;
        elect_free(old->x);
        old->x = NULL;
        for (unsigned told = 0; told < left;) {
            loop_run(w->loop);
            told = 0;
            for (unsigned i = 0; i < HOSTS; i++)
                told += w->hosts[i].orphaned;
        }
        new = relaying(w);
        assert_non_null(new);
    }
}

/* A relay that is about to end does not take an EXIT; its member hears of the end. */
static void what_a_relay_has_taken_is_said(void **state)
{
    struct world *w = *state;
    struct host *relay = &w->hosts[0], *member = &w->hosts[1];
    tell_until_it_arrives(w, member, relay, 7);
    while (!member->taken)
        loop_run(w->loop);
    assert_false(elect_waits(member->x));
    relay->ending = true;
    tell_until_it_arrives(w, member, relay, 8);
    assert_true(elect_waits(member->x));
    elect_free(relay->x);
    relay->x = NULL;
    while (!member->orphaned)
        loop_run(w->loop);
    assert_false(elect_waits(member->x));
}

static void another_cluster_has_its_own(void **state)
{
    struct world *w = *state;
    elect_free(w->hosts[4].x);
    join(w, 4, "another");
    assert_non_null(elect_relay(w->hosts[0].x));
    assert_non_null(elect_relay(w->hosts[4].x));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_relays_for_all, setup, teardown),
        cmocka_unit_test_setup_teardown(another_one_relays_when_it_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_relay_has_taken_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(another_cluster_has_its_own, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
