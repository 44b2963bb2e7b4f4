/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which config files count, who reads them and which wins. A shell script plays Python. */
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
#include "base/confload.h"
#include "base/file.h"

struct world {
    char dir[64], python[128];
    struct config *c;
    struct err e;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    if (!w)
        return -1;
    strcpy(w->dir, "/tmp/covey-confload-XXXXXX");
    unsetenv("COVEY_CONFIG");
    unsetenv("IPP_PROFILE_DIR");
    *state = w;
    if (!mkdtemp(w->dir))
        return -1;
    snprintf(w->python, sizeof w->python, "%s/bin/python", w->dir);
    return config_new(&w->c);
}

static int teardown(void **state)
{
    struct world *w = *state;
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", w->dir);
    config_free(w->c);
    free(w);
    return system(cmd);
}

static char *put(const struct world *w, const char *name, const char *text, mode_t mode)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    assert_int_equal(file_mkdirs(path, 0700, NULL), CV_OK);
    *slash = '/';
    assert_int_equal(file_write_atomic(path, mode, text, strlen(text), NULL), CV_OK);
    return path;
}

/* What runs as Python leaves a trace; answers A.x = 9 unless said otherwise. */
static void put_python(const struct world *w, const char *what)
{
    char text[400];
    snprintf(text, sizeof text, "#!/bin/sh\necho \"$@\" >> %s/ran\n%s\n", w->dir, what);
    put(w, "bin/python", text, 0700);
}

static bool python_ran(const struct world *w, const char *arguments)
{
    struct buf b = {0};
    char path[100];
    snprintf(path, sizeof path, "%s/ran", w->dir);
    bool ran = file_read(path, 4096, &b, NULL) == CV_OK &&
               (!arguments || strstr(buf_cstr(&b), arguments) != NULL);
    buf_release(&b);
    unlink(path);
    return ran;
}

static int load(struct world *w, const char *extra)
{
    config_free(w->c);
    assert_int_equal(config_new(&w->c), CV_OK);
    w->e.text[0] = 0;
    return confload_files(w->c, "app", w->dir, extra, w->python, &w->e);
}

static long value(const struct world *w, const char *trait)
{
    long v = -1;
    assert_int_equal(config_int(w->c, "A", trait, &v, NULL), CV_OK);
    return v;
}

static void comments_say_nothing(void **state)
{
    struct world *w = *state;
    put_python(w, "echo '{\"A\": {\"x\": 9}}'");
    assert_int_equal(load(w, NULL), CV_OK);
    const char *py = put(w, "app_config.py", "\n# c.A.x = 1\n   \t # c.A.x = 2\n\r\n", 0600);
    assert_false(confload_active(py));
    assert_int_equal(load(w, py), CV_OK);
    assert_false(python_ran(w, NULL));
    assert_int_equal(value(w, "x"), -1);
    char arguments[200];
    snprintf(arguments, sizeof arguments, "-m covey.config app --profile-dir=%s\n", w->dir);
    assert_true(confload_active(put(w, "app_config.py", "# c\n  c.A.x = 9 # so\n", 0600)));
    assert_int_equal(load(w, NULL), CV_OK);
    assert_true(python_ran(w, arguments));
    assert_int_equal(value(w, "x"), 9);
    put(w, "app_config.py", "", 0600);
    put(w, "ipython_config.py", "c.A.x = 9", 0600);
    assert_int_equal(load(w, NULL), CV_OK);
    assert_true(python_ran(w, arguments));
}

static void json_needs_no_python(void **state)
{
    struct world *w = *state;
    char extra[200];
    put_python(w, "exit 1");
    put(w, "ipython_config.json", "{\"version\": 1, \"A\": {\"x\": 1, \"y\": 1, \"z\": 1}}", 0600);
    put(w, "app_config.json", "{\"A\": {\"y\": 2, \"z\": 2}}", 0600);
    strcpy(extra, put(w, "more.json", "{\"A\": {\"z\": 3}}", 0600));
    put(w, "etc/ipython/app_config.json", "{\"A\": {\"x\": 7, \"of_prefix\": 4}}", 0600);
    assert_int_equal(load(w, extra), CV_OK);
    assert_false(python_ran(w, NULL));
    assert_int_equal(value(w, "x"), 1);
    assert_int_equal(value(w, "y"), 2);
    assert_int_equal(value(w, "z"), 3);
    assert_int_equal(value(w, "of_prefix"), 4);
    put_python(w, "echo '{\"A\": {\"x\": 9}}'"); /* a .py file: all is Python's matter */
    put(w, "app_config.py", "c", 0600);
    assert_int_equal(load(w, extra), CV_OK);
    assert_true(python_ran(w, "--config "));
    assert_int_equal(value(w, "x"), 9);
    assert_int_equal(value(w, "z"), -1);
}

static void handed_down(void **state)
{
    struct world *w = *state;
    put_python(w, "exit 1");
    put(w, "app_config.py", "c", 0600);
    setenv("COVEY_CONFIG", put(w, "handed.json", "{\"A\": {\"x\": 5}}", 0600), 1);
    assert_int_equal(load(w, "/nonexistent"), CV_OK);
    assert_false(python_ran(w, NULL));
    assert_int_equal(value(w, "x"), 5);
    setenv("COVEY_CONFIG", "/nonexistent/handed.json", 1);
    assert_int_equal(load(w, NULL), CV_ENOENT);
    unsetenv("COVEY_CONFIG");
}

static void errors_name_the_place(void **state)
{
    struct world *w = *state;
    put(w, "app_config.json", "{\n \"A\": {\"x\": }\n}", 0600);
    assert_int_equal(load(w, NULL), CV_EINVAL);
    assert_non_null(strstr(w->e.text, "app_config.json"));
    assert_non_null(strstr(w->e.text, "line 2"));
    put(w, "app_config.json", "{}", 0600);
    assert_int_equal(load(w, "/nonexistent/extra.py"), CV_ENOENT);
    assert_non_null(strstr(w->e.text, "/nonexistent/extra.py"));
    put(w, "app_config.py", "c", 0600);
    assert_int_not_equal(load(w, NULL), CV_OK); /* there is no Python */
    assert_non_null(strstr(w->e.text, w->python));
    put_python(w, "exit 1");
    assert_int_equal(load(w, NULL), CV_EINVAL);
    assert_non_null(strstr(w->e.text, w->dir));
    put_python(w, "kill -9 $$");
    assert_int_equal(load(w, NULL), CV_EINVAL);
    assert_non_null(strstr(w->e.text, "signal 9"));
    put_python(w, "echo nonsense");
    assert_int_equal(load(w, NULL), CV_EINVAL);
}

static void expect_profile(struct world *w, const char *wanted)
{
    char *path = NULL;
    assert_int_equal(confload_profile_dir(w->c, "App", &path, &w->e), CV_OK);
    assert_string_equal(path, wanted);
    free(path);
}

static void profile_folders(void **state)
{
    struct world *w = *state;
    char here[200], wanted[300];
    setenv("HOME", "/home/x", 1);
    unsetenv("IPYTHONDIR");
    assert_non_null(getcwd(here, sizeof here));
    expect_profile(w, "/home/x/.ipython/profile_default");
    setenv("IPYTHONDIR", "~/ip", 1);
    expect_profile(w, "/home/x/ip/profile_default");
    assert_int_equal(config_set(w->c, "App", "profile", "sim", NULL), CV_OK);
    assert_int_equal(config_set(w->c, "App", "ipython_dir", "rel", NULL), CV_OK);
    snprintf(wanted, sizeof wanted, "%s/rel/profile_sim", here);
    expect_profile(w, wanted);
    setenv("IPP_PROFILE_DIR", "/p/env", 1);
    expect_profile(w, "/p/env");
    assert_int_equal(config_set(w->c, "ProfileDir", "location", "sub", NULL), CV_OK);
    snprintf(wanted, sizeof wanted, "%s/sub", here);
    expect_profile(w, wanted);
    unsetenv("IPP_PROFILE_DIR");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comments_say_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(json_needs_no_python, setup, teardown),
        cmocka_unit_test_setup_teardown(handed_down, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_name_the_place, setup, teardown),
        cmocka_unit_test_setup_teardown(profile_folders, setup, teardown),
    };
    return cmocka_run_group_tests_name("confload", tests, NULL, NULL);
}
