/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where options come from and which wins; names of former times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/confload.h"
#include "base/file.h"
#include "controller/options.h"

struct world {
    char dir[64];
    char notices[4096];
    struct err e;
    struct options o;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    snprintf(w->dir, sizeof(w->dir), "/tmp/covey-options-XXXXXX");
    unsetenv("IPP_CLUSTER_ID");
    unsetenv("IPP_PROFILE_DIR");
    unsetenv("COVEY_CONFIG");
    *state = w;
    return mkdtemp(w->dir) ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"ipcontroller_config.py", "ipcontroller_config.json",
                                        "python"};
    struct world *w = *state;
    char path[200];

    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", w->dir, names[i]);
        unlink(path);
    }
    rmdir(w->dir);
    options_release(&w->o);
    free(w);
    return 0;
}

static void put(const struct world *w, const char *name, const char *text, mode_t mode)
{
    char path[200];

    snprintf(path, sizeof(path), "%s/%s", w->dir, name);
    assert_int_equal(file_write_atomic(path, mode, text, strlen(text), NULL), CV_OK);
}

static enum options_next parse(struct world *w, const char *const *args)
{
    const char *argv[20] = {"ipcontroller"};
    char dir[100];
    int argc = 1;

    snprintf(dir, sizeof(dir), "--profile-dir=%s", w->dir);
    argv[argc++] = dir;
    while (*args)
        argv[argc++] = *args++;
    options_release(&w->o);
    memset(w->notices, 0, sizeof(w->notices));
    FILE *f = fmemopen(w->notices, sizeof(w->notices), "w");
    enum options_next n = options_parse(&w->o, argc, (char **)argv, f, &w->e);
    fclose(f);
    return n;
}

#define PARSE(...) parse(w, (const char *const[]){__VA_ARGS__, NULL})

static void defaults(void **state)
{
    struct world *w = *state;

    assert_int_equal(PARSE(""), OPTIONS_RUN);
    assert_string_equal(w->o.ip, "127.0.0.1");
    assert_string_equal(w->o.cluster_id, "");
    assert_string_equal(w->o.store, "memory");
    assert_int_equal(w->o.log_level, 20);
    assert_int_equal(w->o.hwm, 0);
    assert_string_equal(w->o.profile_dir, w->dir);
    assert_string_equal(w->notices, "");
}

static void command_line(void **state)
{
    struct world *w = *state;

    assert_int_equal(PARSE("--ip=0.0.0.0", "--port", "4711", "--cluster_id=x", "--debug", "--hwm=0",
                           "--nodb", "--ping=100"),
                     OPTIONS_RUN);
    assert_string_equal(w->o.ip, "*");
    assert_int_equal(w->o.port, 4711);
    assert_string_equal(w->o.cluster_id, "x");
    assert_int_equal(w->o.log_level, 10);
    assert_true(w->o.hwm > 1000000);
    assert_string_equal(w->o.store, "none");
    assert_non_null(strstr(w->notices, "ping"));
    assert_int_equal(PARSE("--ports=21001-21018"), OPTIONS_RUN);
    assert_int_equal(w->o.port, 21001);
    assert_int_equal(PARSE("--ping-interval=0.3", "--ping-timeout=1"), OPTIONS_RUN);
    assert_int_equal(w->o.ping_ns / 1000000, 300);
    assert_int_equal(w->o.dead_ns / 1000000, 1000);
    assert_int_equal(PARSE("--ping-timeout=15"), OPTIONS_FAILED);
    assert_non_null(strstr(w->e.text, "at least twice"));
    assert_int_equal(PARSE("--port=70000"), OPTIONS_FAILED);
    assert_int_equal(PARSE("--nonsense"), OPTIONS_USAGE);
    assert_int_equal(PARSE("start"), OPTIONS_USAGE);
    assert_int_equal(PARSE("--cluster-id=../x"), OPTIONS_FAILED);
}

static void files_and_old_names(void **state)
{
    struct world *w = *state;

    put(w, "ipcontroller_config.json",
        "{\"HubFactory\": {\"ip\": \"*\"}, \"IPController\": {\"cluster_id\": \"f\"}}", 0600);
    assert_int_equal(PARSE(""), OPTIONS_RUN);
    assert_string_equal(w->o.ip, "*");
    assert_string_equal(w->o.cluster_id, "f");
    assert_non_null(strstr(w->notices, "HubFactory.ip is now called IPController.ip"));
    assert_int_equal(PARSE("--cluster-id=c", "--ip=127.0.0.2"),
                     OPTIONS_RUN); /* the command line wins */
    assert_string_equal(w->o.ip, "127.0.0.2");
    assert_string_equal(w->o.cluster_id, "c");
    setenv("IPP_CLUSTER_ID", "env", 1);
    put(w, "ipcontroller_config.json", "{", 0600);
    assert_int_equal(PARSE(""), OPTIONS_FAILED);
    assert_non_null(strstr(w->e.text, "ipcontroller_config.json"));
    put(w, "ipcontroller_config.json", "{}", 0600);
    assert_int_equal(PARSE(""), OPTIONS_RUN);
    assert_string_equal(w->o.cluster_id, "env");
}

static void numbers_are_read_to_their_end(void **state)
{
    static const char *const bad[] = {"--port=abc",
                                      "--port=47x11",
                                      "--port=-1",
                                      "--port=true",
                                      "--port=47 11",
                                      "--ports=x-y",
                                      "--ports=21001-",
                                      "--ports=-5",
                                      "--ports=21001-y",
                                      "--ports=5-3",
                                      "--ports=1,21005-21001",
                                      "--ports=['a']",
                                      "--hwm=2x",
                                      "--hwm=-1",
                                      "--hwm=many",
                                      "--log-level=LOUD",
                                      "--port=1.5",
                                      "--ports=1-2,x",
                                      "--port=99999999999999999999"};
    struct world *w = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        w->e.text[0] = 0;
        if (PARSE(bad[i]) != OPTIONS_FAILED || !w->e.text[0])
            fail_msg("%s was not refused with a sentence", bad[i]);
    }
    assert_int_equal(PARSE("--ports=21001-21005,21010"), OPTIONS_RUN);
    assert_int_equal(w->o.port, 21001);
    assert_int_equal(PARSE("--ports=[21002, 21003]"), OPTIONS_RUN);
    assert_int_equal(w->o.port, 21002);
    assert_int_equal(PARSE("--port=0"), OPTIONS_RUN);
    assert_int_equal(w->o.port, 0);
}

/* Python runs only for a file with an active line; here a shell script plays Python. */
static void python_files(void **state)
{
    struct world *w = *state;
    char python[100];

    snprintf(python, sizeof(python), "--python=%s/python", w->dir);
    put(w, "python",
        "#!/bin/sh\n[ \"$1 $2 $3\" = '-m covey.config ipcontroller' ] || exit 3\n"
        "echo '{\"IPController\": {\"port\": 99}}'\n",
        0700);
    put(w, "ipcontroller_config.py", "# c = get_config()\n\n   \t# c.IPController.port = 98\n",
        0600);
    assert_int_equal(PARSE(python), OPTIONS_RUN);
    assert_int_equal(w->o.port, 0);
    put(w, "ipcontroller_config.py", "# c\nc.IPController.port = 99\n", 0600);
    assert_int_equal(PARSE(python), OPTIONS_RUN);
    assert_int_equal(w->o.port, 99);
    put(w, "python", "#!/bin/sh\nexit 1\n", 0700);
    assert_int_equal(PARSE(python), OPTIONS_FAILED);
}

static void template_is_inactive(void **state)
{
    struct world *w = *state;
    char *path;

    assert_int_equal(PARSE(""), OPTIONS_RUN);
    assert_int_equal(options_write_template(&w->o, &path, NULL), CV_OK);
    assert_false(confload_active(path));
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    free(path);
    assert_int_equal(options_write_template(&w->o, &path, NULL), CV_OK);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino); /* an existing file is left alone */
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(command_line, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_are_read_to_their_end, setup, teardown),
        cmocka_unit_test_setup_teardown(files_and_old_names, setup, teardown),
        cmocka_unit_test_setup_teardown(python_files, setup, teardown),
        cmocka_unit_test_setup_teardown(template_is_inactive, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
