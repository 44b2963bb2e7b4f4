/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tables of settings: names of former times, slips, what has no effect, where a value came from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/reader.h"
#include "base/schema.h"

static const struct setting ROWS[] = {
    {"App", "port", "int", "1", "a port"},
    {"App", "address", "text", "''", "an address"},
    {"App", "line", "bool", "False", "not in files", .line = true},
    {"Beat", "period", "int", .none = "there is no beat"},
    {NULL},
};
static const struct setting OPEN[] = {{"Shell", "lines", "list", "[]", "lines"}, {NULL}};
static const char *const FURTHER[] = {"Base", NULL};
static const struct setting_table TABLE = {ROWS, FURTHER}, SHELL = {OPEN, NULL, .open = true};
static const struct renamed RENAMED[] = {
    {"Hub", "regport", "App", "port"}, {"Hub", NULL, "App", NULL}, {NULL}};
static const struct schema SCHEMA = {.app = "app", .own = {&TABLE, &SHELL}, .renamed = RENAMED};

static struct config *config_of(const char *json)
{
    struct config *c;
    assert_int_equal(config_new(&c), CV_OK);
    assert_int_equal(config_merge(c, json, strlen(json), NULL), CV_OK);
    return c;
}

static char *told(struct config *c)
{
    struct err e;
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    assert_int_equal(schema_rename(&SCHEMA, c, f, &e), CV_OK);
    schema_check(&SCHEMA, c, f);
    fclose(f);
    return text;
}

static void former_names_become_todays(void **state)
{
    struct config *c = config_of("{\"Hub\": {\"regport\": 7, \"address\": \"old\"}, "
                                 "\"App\": {\"address\": \"new\"}}");
    const char *address = NULL;
    long port = 0;
    char *text = told(c);
    assert_int_equal(config_int(c, "App", "port", &port, NULL), CV_OK);
    assert_int_equal(config_str(c, "App", "address", &address, NULL), CV_OK);
    assert_int_equal(port, 7);
    assert_string_equal(address, "new");
    assert_null(config_get(c, "Hub", "regport"));
    assert_non_null(strstr(text, "Hub.regport is now called App.port\n"));
    assert_non_null(
        strstr(text, "Hub.address is now called App.address, which is set too and wins\n"));
    free(text);
    config_free(c);
}

static void slips_and_what_has_no_effect(void **state)
{
    struct config *c = config_of("{\"App\": {\"prot\": 1, \"zebra\": 1}, \"Ap\": {\"port\": 1}, "
                                 "\"Base\": {\"port\": 1}, \"Beat\": {\"period\": 1}, "
                                 "\"Shell\": {\"other\": 1}, \"SomebodyElse\": {\"x\": 1}}");
    char *text = told(c);
    assert_string_equal(text, "App.prot is not known and has no effect; did you mean App.port?\n"
                              "App.zebra is not known and has no effect\n"
                              "Ap.port is not known and has no effect; did you mean App.port?\n"
                              "Beat.period has no effect here: there is no beat\n");
    free(text);
    config_free(c);
}

static void errors_name_the_line(void **state)
{
    static const char py[] = "# c.App.port = 1\nc.App.port = 2\nc.Application.port = 3\n"
                             "c.App.ports = 4\nc.Hub.address = 5\n";
    static const char *const classes[] = {"App", NULL};
    char path[] = "/tmp/schema-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(file_write_atomic(path, 0600, py, sizeof py - 1, NULL), CV_OK);
    struct config *c = config_of("{\"App\": {\"port\": 2}, \"Hub\": {\"address\": 5}}");
    assert_int_equal(config_source(c, path), CV_OK);
    free(told(c));
    struct err e;
    struct reader r = {c, classes, &e, CV_OK};
    char *line = str_printf("App.port (%s:2) must be from 3 to 9, not 2", path);
    assert_int_equal(reader_int(&r, "port", 4, 3, 9), 4);
    assert_string_equal(e.text, line);
    free(line);
    r.code = CV_OK;
    line = str_printf("App.address (%s:5) must be text, not 5", path); /* under its former name */
    assert_null(reader_str(&r, "address", NULL));
    assert_string_equal(e.text, line);
    free(line);
    assert_null(config_where(c, "", "port")); /* JSON may have such a class */
    struct config *cli;
    assert_int_equal(config_new(&cli), CV_OK);
    assert_int_equal(config_set(cli, "App", "port", "x", NULL), CV_OK);
    assert_int_equal(config_overlay(c, cli, NULL), CV_OK);
    r.code = CV_OK;
    assert_int_equal(reader_int(&r, "port", 4, 3, 9), 4);
    assert_string_equal(e.text, "App.port (command line) must be a whole number, not \"x\"");
    config_free(cli);
    config_free(c);
    unlink(path);
}

static void a_template_says_nothing(void **state)
{
    char *text = NULL, *rest, *line;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    schema_template(&SCHEMA, f);
    fclose(f);
    assert_non_null(strstr(text, "# a port\n# c.App.port = 1\n"));
    assert_null(strstr(text, "period"));
    assert_null(strstr(text, "App.line"));
    for (rest = text; (line = strsep(&rest, "\n"));)
        assert_true(!*line || *line == '#');
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(former_names_become_todays),
        cmocka_unit_test(slips_and_what_has_no_effect),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(a_template_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
