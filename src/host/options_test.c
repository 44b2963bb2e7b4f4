/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of ipengine: names of all times, precedence, refusals. */
#include "host/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "host/single.h"
#include "wire/header.h"

#define LINE(...)                                                                                  \
    (char *[])                                                                                     \
    {                                                                                              \
        "ipengine", __VA_ARGS__, NULL                                                              \
    }

struct outcome {
    struct options o;
    enum options_next next;
    struct err e;
    char *notices;
};

static struct outcome parse(char **argv)
{
    struct outcome r = {.next = OPTIONS_FAILED};
    size_t size = 0;
    int argc = 0;
    while (argv[argc])
        argc++;
    FILE *f = open_memstream(&r.notices, &size);
    assert_non_null(f);
    r.next = options_parse(&r.o, argc, argv, f, &r.e);
    fclose(f);
    return r;
}

static void done(struct outcome *r)
{
    if (r->next == OPTIONS_RUN)
        options_release(&r->o);
    free(r->notices);
}

static int setup(void **state)
{
    static const char *const names[] = {"IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO",
                                        "COVEY_CONFIG"};
    for (size_t i = 0; i < 4; i++)
        unsetenv(names[i]);
    setenv("IPYTHONDIR", "/nowhere/ipython", 1);
    return 0;
}

static void defaults(void **state)
{
    struct outcome r = parse(LINE(""));
    assert_int_equal(r.next, OPTIONS_RUN);
    assert_int_equal(r.o.n, 1);
    assert_int_equal(r.o.number, WIRE_ENGINE_NONE);
    assert_string_equal(r.o.file,
                        "/nowhere/ipython/profile_default/security/ipcontroller-engine.json");
    assert_string_equal(r.o.python, "python3");
    assert_false(r.o.restart);
    assert_true(r.o.timeout == 60 && r.o.grace == 300);
    done(&r);
}

static void spellings(void **state)
{
    struct outcome r = parse(LINE("-n", "4", "--profile_dir=/p", "--cluster-id", "abc", "--restart",
                                  "-c", "x = 1", "--id=7", "--timeout=2.5"));
    assert_int_equal(r.next, OPTIONS_RUN);
    assert_int_equal(r.o.n, 4);
    assert_int_equal(r.o.number, 7);
    assert_string_equal(r.o.file, "/p/security/ipcontroller-abc-engine.json");
    assert_string_equal(r.o.command, "x = 1");
    assert_true(r.o.restart);
    assert_true(r.o.timeout == 2.5);
    done(&r);
    r = parse(LINE("--mpi=mpi4py", "--file=rel.json", "--EngineFactory.timeout=9",
                   "--url=tcp://1.1.1.1:1"));
    assert_int_equal(r.next, OPTIONS_RUN);
    assert_non_null(r.o.mpi_init);
    assert_int_equal(r.o.file[0], '/');
    assert_true(r.o.timeout == 9);
    assert_non_null(strstr(r.notices, "EngineFactory.timeout is now called IPEngine.timeout"));
    assert_non_null(strstr(r.notices, "--url has no effect"));
    done(&r);
}

static void environment_lies_below_the_line(void **state)
{
    setenv("IPP_PROFILE_DIR", "/env", 1);
    setenv("IPP_CLUSTER_ID", "e", 1);
    setenv("IPP_CONNECTION_INFO", "{}", 1);
    struct outcome r = parse(LINE("--profile=other"));
    assert_string_equal(r.o.file, "/env/security/ipcontroller-e-engine.json");
    assert_string_equal(r.o.info, "{}");
    done(&r);
    r = parse(LINE("--profile-dir=/line", "--cluster-id=l", "--file=/f.json"));
    assert_string_equal(r.o.profile_dir, "/line");
    assert_string_equal(r.o.cluster_id, "l");
    assert_null(r.o.info);
    done(&r);
}

static void refusals_say_why(void **state)
{
    static const struct {
        char *option;
        enum options_next next;
        const char *text;
    } rows[] = {
        {"--bogus=1", OPTIONS_USAGE, "bogus"},
        {"word", OPTIONS_USAGE, "word"},
        {"-n=0", OPTIONS_FAILED, "from 1 to"},
        {"-n=x", OPTIONS_FAILED, "IPEngine.n"},
        {"--timeout=-1", OPTIONS_FAILED, "seconds"},
        {"--log-level=loud", OPTIONS_FAILED, "log_level"},
        {"--cluster-id=a/b", OPTIONS_FAILED, "cluster id"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct outcome r = parse(LINE(rows[i].option));
        assert_int_equal(r.next, rows[i].next);
        assert_non_null(strstr(r.e.text, rows[i].text));
        done(&r);
    }
}

/* A file of blanks and comments starts no Python (which is not there); one with a line does. */
static void config_files_of_comments_are_skipped(void **state)
{
    char folder[] = "/tmp/options-test-XXXXXX", option[64];
    static const char comments[] = "# c = get_config()\n\n   # c.IPEngine.n = 3\n",
                      json[] = "{\"IPEngine\": {\"n\": 3, \"timeout\": 4}}";
    struct err e;
    assert_non_null(mkdtemp(folder));
    char *py = path_join(folder, "ipengine_config.py"), *handed = path_join(folder, "handed.json");
    snprintf(option, sizeof option, "--profile-dir=%s", folder);
    assert_int_equal(file_write_atomic(py, 0600, comments, sizeof comments - 1, &e), CV_OK);
    struct outcome r = parse(LINE(option, "--python=/no/such/python"));
    assert_int_equal(r.next, OPTIONS_RUN);
    done(&r);
    assert_int_equal(file_write_atomic(py, 0600, "c.x = 1\n", 8, &e), CV_OK);
    r = parse(LINE(option, "--python=/no/such/python"));
    assert_int_equal(r.next, OPTIONS_FAILED);
    assert_non_null(strstr(r.e.text, "/no/such/python"));
    done(&r);
    assert_int_equal(file_write_atomic(handed, 0600, json, sizeof json - 1, &e), CV_OK);
    setenv("COVEY_CONFIG", handed, 1);
    r = parse(LINE(option, "--timeout=5"));
    assert_int_equal(r.next, OPTIONS_RUN);
    assert_int_equal(r.o.n, 3);
    assert_true(r.o.timeout == 5);
    done(&r);
    unlink(py);
    unlink(handed);
    rmdir(folder);
    free(py);
    free(handed);
}

static void process_managers_are_recognized(void **state)
{
    static const char *const names[] = {"PMI_FD", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK",
                                        "SLURM_PROCID"};
    long rank;
    for (size_t i = 0; i < 5; i++)
        unsetenv(names[i]);
    assert_false(single_process_manager(&rank));
    for (size_t i = 1; i < 5; i++) {
        setenv(names[i], "12", 1);
        assert_true(single_process_manager(&rank));
        assert_int_equal(rank, 12);
        unsetenv(names[i]);
    }
    setenv("PMI_FD", "5", 1);
    assert_true(single_process_manager(&rank));
    assert_int_equal(rank, -1);
    setenv("PMI_RANK", "x", 1);
    assert_true(single_process_manager(&rank));
    assert_int_equal(rank, -1);
    unsetenv("PMI_FD");
    unsetenv("PMI_RANK");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults, setup),
        cmocka_unit_test_setup(spellings, setup),
        cmocka_unit_test_setup(environment_lies_below_the_line, setup),
        cmocka_unit_test_setup(refusals_say_why, setup),
        cmocka_unit_test_setup(config_files_of_comments_are_skipped, setup),
        cmocka_unit_test(process_managers_are_recognized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
