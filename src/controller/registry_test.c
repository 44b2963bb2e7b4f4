/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Numbers of engines: asked for, counted up, never given twice but to a successor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "controller/registry.h"

static struct engine *add(struct registry *r, uint64_t session, uint32_t number)
{
    struct hello h = {
        .session = session, .number = number, .uuid = "u", .host = "h", .python = "3.11"};
    struct engine *e;

    assert_int_equal(registry_engine_add(r, &h, &e), CV_OK);
    return e;
}

static void numbers(void **state)
{
    struct registry r;
    uint32_t n;

    registry_init(&r);
    assert_int_equal(add(&r, 1, WIRE_ENGINE_NONE)->number, 0);
    assert_int_equal(add(&r, 2, 5)->number, 5);
    assert_int_equal(add(&r, 3, WIRE_ENGINE_NONE)->number, 6);
    assert_int_equal(add(&r, 4, 5)->number, 7); /* taken */
    assert_int_equal(add(&r, 5, 3)->number, 3);
    struct engine *six = registry_engine(&r, 6);
    registry_engine_dead(&r, six, strdup("{}"));
    assert_int_equal(add(&r, 6, 6)->number, 8); /* a dead engine's number is not free */
    struct engine **v = registry_engines_sorted(&r, &n);
    assert_int_equal(n, 5);
    for (uint32_t i = 1; i < n; i++)
        assert_true(v[i - 1]->number < v[i]->number);
    free(v);
    assert_null(registry_engine_by_session(&r, 3));
    registry_release(&r);
}

static void after_the_last_number(void **state)
{
    struct registry r;

    registry_init(&r);
    assert_int_equal(add(&r, 1, WIRE_ENGINE_NONE - 2)->number, WIRE_ENGINE_NONE - 2);
    assert_int_equal(add(&r, 2, WIRE_ENGINE_NONE)->number, WIRE_ENGINE_NONE - 1);
    assert_int_equal(add(&r, 3, WIRE_ENGINE_NONE)->number, 0);
    assert_int_equal(add(&r, 4, WIRE_ENGINE_NONE)->number, 1);
    registry_release(&r);
}

static void successor(void **state)
{
    struct registry r;
    struct hello h = {.session = 9, .number = 0, .uuid = "new", .host = "h", .python = "3.11"};

    registry_init(&r);
    struct engine *e = add(&r, 1, WIRE_ENGINE_NONE);
    registry_engine_dead(&r, e, strdup("{\"text\":\"x\"}"));
    assert_string_equal(e->cause, "{\"text\":\"x\"}");
    assert_int_equal(registry_engine_renew(&r, e, &h, 2), CV_OK);
    assert_int_equal(e->number, 0);
    assert_int_equal(e->incarnation, 2);
    assert_ptr_equal(registry_engine_by_session(&r, 9), e);
    assert_string_equal(registry_uuid(&r, 0, 1), "u");
    assert_string_equal(registry_uuid(&r, 0, 2), "new");
    assert_null(registry_uuid(&r, 0, 3));
    registry_release(&r);
}

static void the_dead_are_bounded(void **state)
{
    struct registry r;

    registry_init(&r);
    for (uint32_t i = 0; i < REGISTRY_DEAD_KEPT + 10; i++)
        registry_engine_dead(&r, add(&r, i + 1, WIRE_ENGINE_NONE), NULL);
    assert_int_equal(r.ndead, REGISTRY_DEAD_KEPT);
    assert_null(registry_engine(&r, 9));
    assert_non_null(registry_engine(&r, 10));
    assert_null(registry_uuid(&r, 9, 1));
    assert_non_null(registry_uuid(&r, 10, 1));
    assert_int_equal(add(&r, 99999, WIRE_ENGINE_NONE)->number, REGISTRY_DEAD_KEPT + 10);
    registry_release(&r);
}

static void sent_ring(void **state)
{
    struct registry r;
    struct hello h = {.session = 1};
    struct client *c;
    struct sent s;

    registry_init(&r);
    assert_int_equal(registry_client_add(&r, &h, &c), CV_OK);
    uint64_t in = 0, out = 0;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 70; i++)
            assert_int_equal(client_sent_push(c, (struct sent){.seq = in++, .count = 1}), CV_OK);
        for (int i = 0; i < 60; i++) {
            assert_true(client_sent_pop(c, &s));
            assert_true(s.seq == out++);
        }
    }
    while (client_sent_pop(c, &s))
        assert_true(s.seq == out++);
    assert_true(in == out);
    registry_client_del(&r, c);
    assert_null(registry_client(&r, 1));
    registry_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers), cmocka_unit_test(after_the_last_number),
        cmocka_unit_test(successor), cmocka_unit_test(the_dead_are_bounded),
        cmocka_unit_test(sent_ring)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
