/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of connection files: their exact text, what is refused, and that the key never leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "wire/connfile.h"

#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"

static const char TEXT[] = "{\n"
                           "  \"cluster_id\": \"x\",\n"
                           "  \"boot_id\": \"00ff\",\n"
                           "  \"endpoints\": [\"unix:@covey-1-00ff\", \"tcp://[::1]:4711\"],\n"
                           "  \"ssh\": \"\",\n"
                           "  \"interface\": \"tcp://*\",\n"
                           "  \"registration\": 4711,\n"
                           "  \"control\": 4711,\n"
                           "  \"mux\": 4711,\n"
                           "  \"task\": 4711,\n"
                           "  \"iopub\": 4711,\n"
                           "  \"notification\": 4711,\n"
                           "  \"location\": \"a \\\"quoted\\\" host\",\n"
                           "  \"key\": \"" KEY "\"\n"
                           "}\n";

static char *endpoints[] = {"unix:@covey-1-00ff", "tcp://[::1]:4711"};
static const struct connfile FULL = {.cluster_id = "x",
                                     .boot_id = "00ff",
                                     .endpoints = endpoints,
                                     .nendpoints = 2,
                                     .key = KEY,
                                     .location = "a \"quoted\" host",
                                     .interface = "tcp://*",
                                     .port = 4711};

static void text_is_as_scripts_expect(void **state)
{
    struct buf b = {0};
    struct connfile c;
    assert_int_equal(connfile_encode(&FULL, &b), CV_OK);
    assert_string_equal(buf_cstr(&b), TEXT);
    assert_int_equal(connfile_decode((char *)b.data, b.len, &c, NULL), CV_OK);
    assert_string_equal(c.cluster_id, "x");
    assert_string_equal(c.boot_id, "00ff");
    assert_int_equal(c.nendpoints, 2);
    assert_string_equal(c.endpoints[1], "tcp://[::1]:4711");
    assert_string_equal(c.key, KEY);
    assert_string_equal(c.location, "a \"quoted\" host");
    assert_string_equal(c.interface, "tcp://*");
    assert_string_equal(c.ssh, "");
    assert_int_equal(c.port, 4711);
    connfile_release(&c);
    buf_release(&b);
}

/* TEXT with the first `from` replaced. */
static char *edited(const char *from, const char *to)
{
    const char *at = strstr(TEXT, from);
    assert_non_null(at);
    return str_printf("%.*s%s%s", (int)(at - TEXT), TEXT, to, at + strlen(from));
}

static void refusals_name_the_key_and_never_its_value(void **state)
{
    static const char *const CASES[][3] = {
        {KEY "\"", KEY, "not JSON"},
        {KEY "\"\n", KEY "\",,\n", "not JSON"},
        {KEY, "0123", "\"key\" must be 64 hex digits"},
        {KEY, KEY "0", "\"key\" must be 64 hex digits"},
        {"\"key\"", "\"yek\"", "\"key\" is missing"},
        {"\"00ff\"", "7", "\"boot_id\" must be text"},
        {"\"00ff\"", "\"\"", "\"boot_id\" is empty"},
        {"\"boot_id\"", "\"boot\"", "\"boot_id\" is missing"},
        {"[\"unix:@covey-1-00ff\", \"tcp://[::1]:4711\"]", "[]", "\"endpoints\""},
        {"[\"unix:@covey-1-00ff\", \"tcp://[::1]:4711\"]", "\"x\"", "\"endpoints\""},
        {"unix:@covey-1-00ff", "unix:@", "\"endpoints\""},
        {"unix:@covey-1-00ff", "ipc://x", "\"endpoints\""},
        {"tcp://[::1]:4711", "tcp://[::1]:0", "\"endpoints\""},
        {"tcp://[::1]:4711", "tcp://::1:4711", "\"endpoints\""},
        {"tcp://[::1]:4711", "tcp://h:99999", "\"endpoints\""},
        {"tcp://[::1]:4711", "tcp://h:1x", "\"endpoints\""},
        {"4711,", "70000,", "\"registration\""},
        {"\"x\"", "[1]", "\"cluster_id\""},
        {"\"mux\"", "\"task\"", "not JSON"}, /* doubled */
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char *text = edited(CASES[i][0], CASES[i][1]);
        struct connfile c;
        struct err e = {""};
        assert_int_equal(connfile_decode(text, strlen(text), &c, &e), CV_EINVAL);
        if (!strstr(e.text, CASES[i][2]))
            fail_msg("case %zu says: %s", i, e.text);
        assert_null(strstr(e.text, "0123"));
        free(text);
    }
}

static void every_truncation_is_refused(void **state)
{
    for (size_t n = 0; n + 2 < sizeof TEXT - 1; n++) {
        struct connfile c;
        struct err e;
        assert_int_equal(connfile_decode(TEXT, n, &c, &e), CV_EINVAL);
        assert_null(strstr(e.text, "0123"));
    }
}

static void files_that_others_may_read_are_refused(void **state)
{
    char dir[] = "/tmp/covey-connfile-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = path_join(dir, "c.json");
    struct connfile c;
    struct err e;
    struct stat st;
    assert_int_equal(connfile_read(path, &c, &e), CV_ENOENT);
    assert_int_equal(connfile_check_path(path, &e), CV_OK);
    assert_int_equal(connfile_check_path("/dev/null", &e), CV_EINVAL);
    assert_int_equal(connfile_read("/dev/zero", &c, &e), CV_EINVAL);
    assert_string_equal(e.text, "/dev/zero is a device, not a connection file");
    assert_int_equal(connfile_write(path, &FULL, &e), CV_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(connfile_read(path, &c, &e), CV_OK);
    connfile_release(&c);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(connfile_read(path, &c, &e), CV_EACCES);
    assert_non_null(strstr(e.text, "640"));
    assert_non_null(strstr(e.text, "chmod 600"));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 200), 0);
    assert_int_equal(connfile_read(path, &c, &e), CV_EINVAL);
    assert_non_null(strstr(e.text, path));
    assert_non_null(strstr(e.text, "too early"));
    unlink(path);
    rmdir(dir);
    free(path);
}

static void the_machine_has_one_id(void **state)
{
    assert_int_not_equal(machine_id(), 0);
    assert_int_equal(machine_id(), machine_id());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_as_scripts_expect),
        cmocka_unit_test(refusals_name_the_key_and_never_its_value),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(files_that_others_may_read_are_refused),
        cmocka_unit_test(the_machine_has_one_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
