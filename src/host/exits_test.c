/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reports of engines' ends: when they go out, and in which order. */
#include "host/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"

struct world {
    struct loop *loop;
    struct exits *exits;
    char sent[256]; /* "1:{...} 2:{...} " */
    bool linked, up, stop_when_settled;
    int short_of_memory; /* so often sending fails */
    int settled;
};

static bool on_send(void *arg, uint32_t number, uint32_t incarnation, const char *json)
{
    struct world *w = arg;
    size_t n = strlen(w->sent);

    if (w->short_of_memory) {
        w->short_of_memory--;
        return false;
    }

    assert_int_equal(incarnation, number + 10);
    snprintf(w->sent + n, sizeof w->sent - n, "%u:%s ", number, json);
    return true;
}

static bool linked(void *arg, uint32_t number)
{
    return ((struct world *)arg)->linked;
}

static bool is_up(void *arg)
{
    return ((struct world *)arg)->up;
}

static void on_settled(void *arg)
{
    struct world *w = arg;

    w->settled++;
    if (w->stop_when_settled)
        loop_stop(w->loop);
}

static int setup(void **state)
{
    static struct world w;

    w = (struct world){.linked = true, .up = true};
    assert_int_equal(loop_new(&w.loop), CV_OK);
    const struct exits_config c = {.loop = w.loop,
                                   .send = on_send,
                                   .linked = linked,
                                   .is_up = is_up,
                                   .settled = on_settled,
                                   .arg = &w};
    assert_int_equal(exits_new(&w.exits, &c), CV_OK);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    exits_free(w->exits);
    loop_free(w->loop);
    return 0;
}

static void add(struct world *w, uint32_t number, bool member)
{
    /* more bytes than the report has: it is no string */
    assert_int_equal(exits_add(w->exits, number, number + 10, "{}garbage", 2, member), CV_OK);
}

static void a_report_waits_for_the_link_of_its_engine(void **state)
{
    struct world *w = *state;

    add(w, 1, false);
    assert_string_equal(w->sent, "");
    assert_int_equal(w->settled, 0);
    w->linked = false;
    exits_look(w->exits);
    assert_string_equal(w->sent, "1:{} ");
    assert_int_equal(w->settled, 1);
}

static void a_link_that_stays_open_holds_it_up_for_half_a_second(void **state)
{
    struct world *w = *state;
    uint64_t begun = clock_mono();

    w->stop_when_settled = true;
    add(w, 1, false);
    add(w, 2, true);
    loop_run(w->loop);
    assert_string_equal(w->sent, "1:{} 2:{} ");
    assert_true(clock_mono() - begun >= 400 * NS_PER_MS);
}

static void what_a_member_told_waits_for_the_controller(void **state)
{
    struct world *w = *state;

    w->linked = w->up = false;
    add(w, 1, true);
    add(w, 2, false);
    assert_string_equal(w->sent, "2:{} ");
    w->up = true;
    exits_look(w->exits);
    assert_string_equal(w->sent, "2:{} 1:{} ");
}

static void what_memory_was_short_for_is_sent_again(void **state)
{
    struct world *w = *state;

    w->linked = false;
    w->stop_when_settled = true;
    w->short_of_memory = 2;
    add(w, 1, false);
    assert_string_equal(w->sent, "");
    assert_int_equal(w->settled, 0);
    loop_run(w->loop);
    assert_string_equal(w->sent, "1:{} ");
}

static void held_reports_go_out_in_order_at_the_end(void **state)
{
    struct world *w = *state;

    add(w, 1, false);
    exits_hold(w->exits);
    w->linked = false;
    add(w, 2, true);
    exits_look(w->exits);
    assert_string_equal(w->sent, "");
    assert_int_equal(w->settled, 0);
    exits_flush(w->exits);
    assert_string_equal(w->sent, "1:{} 2:{} ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_report_waits_for_the_link_of_its_engine, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_that_stays_open_holds_it_up_for_half_a_second, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_a_member_told_waits_for_the_controller, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_memory_was_short_for_is_sent_again, setup, teardown),
        cmocka_unit_test_setup_teardown(held_reports_go_out_in_order_at_the_end, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
