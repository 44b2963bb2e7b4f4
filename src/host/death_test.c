/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How an engine's end is told: the sentence for each way to die, CAUSE as JSON, hostile stderr. */
#include "host/death.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "wire/header.h"

static struct death engine(void)
{
    return (struct death){
        .number = 3, .incarnation = 1, .slot = 2, .host = "node7", .pid = 4711, .known = true};
}

static void said(struct death *d, const char *text)
{
    d->err = (struct buf){.data = (uint8_t *)text, .len = strlen(text)};
}

static void expect(const struct death *d, const char *sentence)
{
    struct buf out = {0};
    assert_int_equal(death_text(d, &out), CV_OK);
    assert_string_equal(buf_cstr(&out), sentence);
    buf_release(&out);
}

/* In a log there are the last lines, too. */
static void expect_log(const struct death *d, const char *sentence, const char *lines)
{
    struct buf out = {0};
    expect(d, sentence);
    assert_int_equal(death_log_text(d, &out), CV_OK);
    assert_int_equal(strncmp(buf_cstr(&out), sentence, strlen(sentence)), 0);
    assert_string_equal(buf_cstr(&out) + strlen(sentence), lines);
    buf_release(&out);
}

static void a_signal_names_task_and_last_words(void **state)
{
    struct death d = engine();
    d.signal = SIGSEGV;
    d.running = true;
    d.session = 0xab;
    d.seq = 17;
    d.attempt = 2;
    said(&d, "one\ntwo\nthree\nfour\n\n");
    expect_log(&d,
               "engine 3 (host node7, pid 4711) was killed by SIGSEGV while it ran task "
               "00000000000000ab_17 (attempt 2)",
               "; last lines of its stderr: two | three | four");
}

static void a_kill_is_not_called_lack_of_memory_without_proof(void **state)
{
    struct death d = engine();
    d.signal = SIGKILL;
    d.peak_rss = 3ull << 29;
    expect(&d, "engine 3 (host node7, pid 4711) was killed by SIGKILL, not by its host; its peak "
               "memory was 1.5 GiB");
    d.oom = true;
    expect(&d, "engine 3 (host node7, pid 4711) was killed by the kernel because memory ran out "
               "(SIGKILL); its peak memory was 1.5 GiB");
    d.oom = false;
    d.because = "the controller asked for it";
    expect(&d, "engine 3 (host node7, pid 4711) was ended by its host with SIGKILL: the controller "
               "asked for it");
}

static void other_ends(void **state)
{
    struct death d = engine();
    d.code = 3;
    expect(&d, "engine 3 (host node7, pid 4711) ended with exit code 3");
    d.code = 1;
    expect(&d, "engine 3 (host node7, pid 4711) ended with exit code 1");
    d.left = true; /* an error of the engine's own */
    expect(&d, "engine 3 (host node7, pid 4711) ended with exit code 1");
    d.code = 143;
    expect(&d, "engine 3 (host node7, pid 4711) has ended because somebody sent it SIGTERM");
    d.because = "the host was asked to stop";
    expect(&d, "engine 3 (host node7, pid 4711) has ended: the host was asked to stop");
    d = engine();
    d.known = false;
    expect(&d, "engine 3 (host node7, pid 4711) is gone, and nobody can tell how it ended");
    d = engine();
    d.number = WIRE_ENGINE_NONE;
    d.code = 7;
    said(&d, "no licence\n");
    expect_log(
        &d, "an engine that had not registered yet (host node7, pid 4711) ended with exit code 7",
        "; last lines of its stderr: no licence");
    d = (struct death){.number = WIRE_ENGINE_NONE, .host = "node7", .failure = "no such program"};
    expect(&d, "an engine on host node7 could not be started: no such program");
}

/* MPI_Abort(7) on a rank: its own end, what mpiexec then does to the others, and when it leaves
 * them no time for a word (process_gone of controller_engines_test). */
static void ranks(void **state)
{
    char because[128];
    struct death d = engine();
    d.rank = true;
    d.code = 7;
    expect(&d, "engine 3 (host node7, pid 4711) ended with exit code 7, as MPI_Abort ends a rank");
    d.code = 0;
    expect(&d, "engine 3 (host node7, pid 4711) ended with exit code 0");
    d.code = 15;
    d.left = true; /* it was told to go */
    expect(&d, "engine 3 (host node7, pid 4711) ended with exit code 15");
    d = engine();
    d.rank = true;
    d.signal = SIGABRT;
    expect(&d, "engine 3 (host node7, pid 4711) was killed by SIGABRT");
    death_reason(true, "12", because, sizeof because);
    d.signal = 0;
    d.because = because;
    expect(&d, "engine 3 (host node7, pid 4711) has ended: mpiexec stopped all ranks (SIGTERM), as "
               "when one of them calls MPI_Abort or dies");
    death_reason(false, "12", because, sizeof because);
    expect(&d, "engine 3 (host node7, pid 4711) has ended: the host was asked to stop by SIGTERM, "
               "as when batch job 12 is cancelled, preempted or out of time");
    death_reason(false, NULL, because, sizeof because);
    expect(&d, "engine 3 (host node7, pid 4711) has ended: the host was asked to stop");
}

static void a_crash_dump_is_cut_to_its_innermost_frame(void **state)
{
    struct death d = engine();
    d.signal = SIGSEGV;
    said(&d, "Fatal Python error: Segmentation fault\n\nStack (most recent call first):\n  File "
             "\"a.py\", line 3 in f\n  File \"b.py\", line 9 in g\n");
    expect_log(&d,
               "engine 3 (host node7, pid 4711) was killed by SIGSEGV; Python was at File "
               "\"a.py\", line 3 in f",
               "");
}

static void clean_is_only_what_was_asked_for(void **state)
{
    struct death d = engine();
    assert_true(death_is_clean(&d));
    d.code = 1;
    assert_false(death_is_clean(&d));
    d.code = 0;
    d.signal = SIGTERM;
    assert_false(death_is_clean(&d));
    d.signal = 0;
    d.known = false;
    assert_false(death_is_clean(&d));
}

static void cause_has_every_key(void **state)
{
    static const char *const keys[] = {"id",      "host",     "pid",        "signal",
                                       "code",    "oom",      "running",    "running_attempt",
                                       "restart", "peak_rss", "stderr",     "text",
                                       "planned", "slot",     "incarnation"};
    struct death d = engine();
    json_t *j;
    d.signal = SIGABRT;
    d.running = true;
    d.session = 1;
    d.seq = 2;
    d.attempt = 1;
    d.restart = true;
    assert_int_equal(death_json(&d, &j), CV_OK);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_non_null(json_object_get(j, keys[i]));
    assert_int_equal(json_integer_value(json_object_get(j, "signal")), SIGABRT);
    assert_true(json_is_null(json_object_get(j, "code")));
    assert_true(json_is_true(json_object_get(j, "restart")));
    assert_string_equal(json_string_value(json_object_get(j, "running")), "0000000000000001_2");
    assert_string_equal(json_string_value(json_object_get(j, "stderr")), "");
    json_decref(j);
    d.number = WIRE_ENGINE_NONE;
    d.running = false;
    d.signal = 0;
    assert_int_equal(death_json(&d, &j), CV_OK);
    assert_true(json_is_null(json_object_get(j, "id")));
    assert_true(json_is_null(json_object_get(j, "running")));
    assert_true(json_is_integer(json_object_get(j, "code")));
    json_decref(j);
}

/* Bytes that are no UTF-8, cut characters, NULs and terminal codes: always valid JSON, never too
 * long. */
static void hostile_stderr_travels(void **state)
{
    struct death d = engine();
    json_t *j;
    size_t n = 2 * DEATH_STDERR_MAX;
    char *bytes = malloc(n);
    srand(7);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)rand();
    d.code = 1;
    d.err = (struct buf){.data = (uint8_t *)bytes, .len = n};
    assert_int_equal(death_json(&d, &j), CV_OK);
    char *dump = json_dumps(j, JSON_COMPACT);
    assert_non_null(dump);
    assert_true(json_string_length(json_object_get(j, "stderr")) <= DEATH_STDERR_MAX);
    assert_true(json_string_length(json_object_get(j, "text")) < 2000);
    json_decref(json_loads(dump, 0, NULL));
    free(dump);
    json_decref(j);
    free(bytes);
    d = engine();
    d.code = 1;
    said(&d, "\x1b[31mred\x1b[0m\r\nna\xc3\xafve \xe4\xbd\xa0\xf0\x9f\x98\x80 \xff\xc0\x80\n");
    expect_log(&d, "engine 3 (host node7, pid 4711) ended with exit code 1",
               "; last lines of its stderr: "
               "red | na\xc3\xafve \xe4\xbd\xa0\xf0\x9f\x98\x80 ???");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_names_task_and_last_words),
        cmocka_unit_test(a_kill_is_not_called_lack_of_memory_without_proof),
        cmocka_unit_test(other_ends),
        cmocka_unit_test(ranks),
        cmocka_unit_test(a_crash_dump_is_cut_to_its_innermost_frame),
        cmocka_unit_test(clean_is_only_what_was_asked_for),
        cmocka_unit_test(cause_has_every_key),
        cmocka_unit_test(hostile_stderr_travels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
