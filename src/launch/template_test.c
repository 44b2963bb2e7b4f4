/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of batch templates: what is filled in, calculated, and refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "launch/template.h"

static json_t *names(void)
{
    return json_pack("{s:i, s:s, s:s}", "n", 10, "queue", "fast", "empty", "");
}

static void fields_are_filled_in(void **state)
{
    static const char *const CASES[][2] = {
        {"", ""},
        {"plain $HOME\n", "plain $HOME\n"},
        {"-n {n} -q {queue}{empty}", "-n 10 -q fast"},
        {"{ n }", "10"},
        {"{n//4} {n // 4} {n+1} {n - 1} {n*2}", "2 2 11 9 20"},
        {"{n//-4}", "-3"},
        {"${{HOME}} }}{{", "${HOME} }{"},
    };
    json_t *o = names();
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char *text = NULL;
        struct err e = {""};
        assert_int_equal(template_fill(CASES[i][0], o, &text, &e), CV_OK);
        assert_string_equal(text, CASES[i][1]);
        free(text);
    }
    json_decref(o);
}

static void the_rest_is_refused(void **state)
{
    static const char *const CASES[][2] = {
        {"{walltime}", "{walltime}"}, {"{}", "{}"},       {"a } b", "single }"},
        {"a { b", "single {"},        {"{n/4}", "{n/4}"}, {"{queue//4}", "{queue//4}"},
        {"{n//0}", "{n//0}"},         {"{n//}", "{n//}"}, {"{n:03d}", "{n:03d}"},
        {"{n*99999999999}", "{n*"},   {"{n", "single {"}, {"{n+1;x}", "{n+1;x}"},
    };
    json_t *o = names();
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char *text = NULL;
        struct err e = {""};
        assert_int_equal(template_fill(CASES[i][0], o, &text, &e), CV_EINVAL);
        assert_non_null(strstr(e.text, CASES[i][1]));
        assert_null(text);
    }
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fields_are_filled_in),
                                       cmocka_unit_test(the_rest_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
