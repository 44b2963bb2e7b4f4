/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of command lines and of the config tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/args.h"

static const struct arg ROWS[] = {
    {"n", 'n', ARG_VALUE, "Cluster", "n", NULL, "N", "engines"},
    {"profile-dir", 0, ARG_VALUE, "ProfileDir", "location", NULL, "PATH", "folder"},
    {"cluster-id", 0, ARG_VALUE, "App", "cluster_id", NULL, "ID", "id"},
    {"debug", 0, ARG_FLAG, "App", "log_level", "10", NULL, "talk more"},
    {"daemonize", 0, ARG_FLAG, "Start", "daemonize", "true", NULL, "leave it running"},
    {"both", 0, ARG_FLAG, "A", "x", "true", NULL, "two traits"},
    {"both", 0, ARG_FLAG, "B", "y", "7", NULL, "two traits"},
    {"ping", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, NULL, "links notice by themselves"},
    {NULL},
};
static const struct args_spec SPEC = {"prog", "does things", "  prog -n 2", ROWS};

struct parsed {
    struct config *c;
    char **rest;
    struct err e;
    char *notices;
};

static int parse(struct parsed *p, char *line)
{
    char *argv[20] = {"prog"};
    int argc = 1;
    for (char *w = strtok(line, " "); w; w = strtok(NULL, " "))
        argv[argc++] = strcmp(w, "''") ? w : "";
    size_t n;
    *p = (struct parsed){0};
    assert_int_equal(config_new(&p->c), CV_OK);
    FILE *f = open_memstream(&p->notices, &n);
    int rc = args_parse(&SPEC, argc, argv, p->c, &p->rest, f, &p->e);
    fclose(f);
    return rc;
}

static void done(struct parsed *p)
{
    config_free(p->c);
    free(p->rest);
    free(p->notices);
}

static long number(const struct parsed *p, const char *cls, const char *trait)
{
    long v = -1;
    assert_int_equal(config_int(p->c, cls, trait, &v, NULL), CV_OK);
    return v;
}

static void every_spelling_of_a_value(void **state)
{
    char lines[][40] = {"--n=4", "--n 4",         "-n 4",          "-n=4",
                        "-n4",   "--Cluster.n=4", "--Cluster.n 4", "'' --n=4 ''"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct parsed p;
        assert_int_equal(parse(&p, lines[i]), CV_OK);
        assert_int_equal(number(&p, "Cluster", "n"), 4);
        assert_null(p.rest[0]);
        done(&p);
    }
}

static void flags_and_their_values(void **state)
{
    struct parsed p;
    bool b = false;
    char a[] = "--debug --daemonize=True --both";
    assert_int_equal(parse(&p, a), CV_OK);
    assert_int_equal(number(&p, "App", "log_level"), 10);
    assert_int_equal(config_bool(p.c, "Start", "daemonize", &b, NULL), CV_OK);
    assert_true(b);
    assert_int_equal(number(&p, "B", "y"), 7);
    assert_int_equal(config_bool(p.c, "A", "x", &b, NULL), CV_OK);
    done(&p);
    char c[] = "--daemonize --daemonize=false --debug=false";
    assert_int_equal(parse(&p, c), CV_OK);
    assert_int_equal(config_bool(p.c, "Start", "daemonize", &b, NULL), CV_OK);
    assert_false(b);
    assert_null(config_get(p.c, "App", "log_level"));
    done(&p);
    char d[] = "--daemonize=maybe";
    assert_int_equal(parse(&p, d), CV_EINVAL);
    done(&p);
}

static void words_and_what_follows_two_dashes(void **state)
{
    struct parsed p;
    char a[] = "one --n=1 two -- --n=2 -x";
    assert_int_equal(parse(&p, a), CV_OK);
    assert_int_equal(number(&p, "Cluster", "n"), 1);
    const char *want[] = {"one", "two", "--n=2", "-x", NULL};
    for (size_t i = 0; want[i]; i++)
        assert_string_equal(p.rest[i], want[i]);
    assert_null(p.rest[4]);
    done(&p);
}

static void underscores_and_text_that_looks_like_a_number(void **state)
{
    struct parsed p;
    const char *s = NULL;
    char a[] = "--profile_dir=/p --cluster_id=007";
    assert_int_equal(parse(&p, a), CV_OK);
    assert_int_equal(config_str(p.c, "ProfileDir", "location", &s, NULL), CV_OK);
    assert_string_equal(s, "/p");
    assert_int_equal(config_str(p.c, "App", "cluster_id", &s, NULL), CV_OK);
    assert_string_equal(s, "007");
    done(&p);
    char b[] = "--cluster_id=12";
    assert_int_equal(parse(&p, b), CV_OK);
    assert_int_equal(config_str(p.c, "App", "cluster_id", &s, NULL), CV_OK);
    assert_string_equal(s, "12");
    done(&p);
}

static void refusals_help(void **state)
{
    struct parsed p;
    char a[] = "--profil-dir=/p";
    assert_int_equal(parse(&p, a), CV_EINVAL);
    assert_non_null(strstr(p.e.text, "--profile-dir?"));
    done(&p);
    char b[] = "--zzzzzzzzzz";
    assert_int_equal(parse(&p, b), CV_EINVAL);
    assert_non_null(strstr(p.e.text, "prog --help"));
    done(&p);
    char c[] = "--profile-dir";
    assert_int_equal(parse(&p, c), CV_EINVAL);
    assert_non_null(strstr(p.e.text, "--profile-dir=PATH"));
    done(&p);
    char d[] = "-q";
    assert_int_equal(parse(&p, d), CV_EINVAL);
    done(&p);
    char f[] = "--.x=1";
    assert_int_equal(parse(&p, f), CV_EINVAL);
    done(&p);
}

static void ignored_options_say_so(void **state)
{
    struct parsed p;
    char a[] = "--ping=250 -n 2";
    assert_int_equal(parse(&p, a), CV_OK);
    assert_non_null(strstr(p.notices, "--ping has no effect"));
    assert_int_equal(number(&p, "Cluster", "n"), 2);
    done(&p);
}

static void help_lists_each_option_once(void **state)
{
    char *text;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    args_help(&SPEC, f);
    fclose(f);
    char *both = strstr(text, "--both");
    assert_non_null(both);
    assert_null(strstr(both + 1, "--both"));
    assert_null(strstr(text, "--ping"));
    assert_non_null(strstr(text, "-n, --n=N"));
    assert_non_null(strstr(text, "prog -n 2"));
    free(text);
}

static void literals_of_python_and_json(void **state)
{
    static const char *const CASES[][2] = {
        {"3", "3"},
        {"2.5", "2.5"},
        {"True", "true"},
        {"false", "false"},
        {"None", "null"},
        {"word", "\"word\""},
        {"'quoted'", "\"quoted\""},
        {"tcp://*", "\"tcp://*\""},
        {"['a', 'b\"c', True]", "[\"a\",\"b\\\"c\",true]"},
        {"{'a': 1}", "{\"a\":1}"},
        {"[1, 2", "\"[1, 2\""},
        {"", "\"\""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct config *c;
        assert_int_equal(config_new(&c), CV_OK);
        assert_int_equal(config_set(c, "C", "t", CASES[i][0], NULL), CV_OK);
        char *text = json_dumps(config_get(c, "C", "t"), JSON_ENCODE_ANY | JSON_COMPACT);
        assert_string_equal(text, CASES[i][1]);
        free(text);
        config_free(c);
    }
}

static void merge_overrides_and_refuses(void **state)
{
    struct config *c;
    struct err e;
    long n = 5;
    const char *s = "default";
    assert_int_equal(config_new(&c), CV_OK);
    const char *one = "{\"A\": {\"x\": 1, \"y\": \"t\"}}", *two = "{\"A\": {\"x\": 2}, \"B\": {}}";
    assert_int_equal(config_set(c, "A", "x", "9", &e), CV_OK);
    assert_int_equal(config_merge(c, one, strlen(one), &e), CV_OK);
    assert_int_equal(config_merge(c, two, strlen(two), &e), CV_OK);
    assert_int_equal(config_int(c, "A", "x", &n, &e), CV_OK);
    assert_int_equal(n, 2);
    assert_int_equal(config_str(c, "A", "x", &s, &e), CV_EINVAL); /* 9's text went with its value */
    assert_non_null(strstr(e.text, "A.x"));
    assert_string_equal(s, "default");
    assert_int_equal(config_int(c, "A", "y", &n, &e), CV_EINVAL);
    assert_int_equal(config_int(c, "A", "absent", &n, &e), CV_OK);
    assert_int_equal(n, 2);
    const char *broken[] = {"", "[1]", "{\"A\": 3}", "{\"A\": {\"x\": }}", "\xff"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_int_equal(config_merge(c, broken[i], strlen(broken[i]), &e), CV_EINVAL);
    char *text = config_dump(c);
    assert_string_equal(text, "{\"A\":{\"x\":2,\"y\":\"t\"},\"B\":{}}");
    free(text);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_of_a_value),
        cmocka_unit_test(flags_and_their_values),
        cmocka_unit_test(words_and_what_follows_two_dashes),
        cmocka_unit_test(underscores_and_text_that_looks_like_a_number),
        cmocka_unit_test(refusals_help),
        cmocka_unit_test(ignored_options_say_so),
        cmocka_unit_test(help_lists_each_option_once),
        cmocka_unit_test(literals_of_python_and_json),
        cmocka_unit_test(merge_overrides_and_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
