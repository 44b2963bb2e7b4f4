/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a controller is told of sets of engines that have ended (setend.c): with a controller that
 * writes down what it hears, and programs called srun that end as they are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "cluster/super_priv.h"

#define WAIT_NS (60 * NS_PER_S)

static char dir[64];
static struct settings settings;
static struct supervisor v;
static unsigned marks;

static void put(const char *name, const char *text)
{
    char *path = path_join(dir, name);
    assert_int_equal(file_write_atomic(path, 0700, text, strlen(text), NULL), CV_OK);
    free(path);
}

static void drop(const char *name)
{
    char *path = path_join(dir, name);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void turn(void)
{
    uv_run(&v.loop, UV_RUN_NOWAIT);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static void no_command(void *arg, uint64_t peer, json_t *command)
{
}

static void ignore_end(void *arg, struct child *c, const struct reaped *r)
{
}

static int set_up(void **state)
{
    const struct child_callbacks cb = {.event = super_event, .ended = ignore_end, .arg = &v};
    struct launch_request request = {.what = LAUNCH_CONTROLLER, .program_dir = dir};
    struct err e;
    strcpy(dir, "/tmp/covey-setend-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    char *logs = path_join(dir, "log"), *security = path_join(dir, "security");
    assert_false(mkdir(logs, 0700) || mkdir(security, 0700));
    free(logs);
    free(security);
    put("ipcontroller", "#!/bin/sh\nexec cat <&$COVEY_EVENTS_FD\n");
    put("srun", "#!/bin/sh\ncd ${0%/*}\nuntil [ -e go ]; do sleep 0.01; done\ncat go\n"
                "exit $(cat code)\n");
    settings = (struct settings){.program_dir = dir,
                                 .profile_dir = dir,
                                 .cluster_id = "",
                                 .controller = &launch_local,
                                 .engines = &launch_mpi,
                                 .events_fd = -1};
    request.profile_dir = dir;
    request.cluster_id = "";
    v = (struct supervisor){.s = &settings, .state = SUPER_RUNNING, .engines = json_object()};
    list_init(&v.sets);
    assert_int_equal(uv_loop_init(&v.loop), 0);
    uv_timer_init(&v.loop, &v.tick);
    v.cluster_file = path_join(dir, "cluster.json");
    assert_int_equal(reaper_new(&v.reaper, &v.loop, &e), CV_OK);
    assert_int_equal(control_new(&v.control, &v.loop, no_command, &v, &e), CV_OK);
    assert_int_equal(super_launch(&v, &v.controller, &launch_local, &request, NULL, &cb, &e),
                     CV_OK);
    return 0;
}

static int tear_down(void **state)
{
    char cmd[128];
    struct err e;
    assert_int_equal(child_stop(v.controller, true, &e), CV_OK);
    child_free(v.controller);
    reaper_free(v.reaper);
    control_free(v.control);
    uv_close((uv_handle_t *)&v.tick, NULL);
    uv_run(&v.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&v.loop), 0);
    json_decref(v.engines);
    free(v.cluster_file);
    config_free(settings.config);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

/* A set whose command is this in DIR, with its process and, if so, the program that it starts. */
static struct engine_set *start(const char *command, const char *script)
{
    char mpi_cmd[128];
    struct engine_set *s;
    struct err e;
    if (script)
        put(command, script);
    snprintf(mpi_cmd, sizeof mpi_cmd, "[\"%s/%s\"]", dir, command);
    config_free(settings.config);
    assert_int_equal(config_new(&settings.config), CV_OK);
    assert_int_equal(config_set(settings.config, "MPILauncher", "mpi_cmd", mpi_cmd, &e), CV_OK);
    assert_int_equal(set_start(&v, NULL, 2, &s, &e), CV_OK);
    return s;
}

/* An engine comes when the program that holds it runs. */
static void look(struct engine_set *s)
{
    for (uint64_t until = clock_mono() + WAIT_NS; !s->holder.pid; turn()) {
        assert_true(clock_mono() < until);
        s->looks = 0;
        setend_look(s);
    }
}

/* Until this file is there. */
static void wait_for(const char *file)
{
    char *path = path_join(dir, file);
    for (uint64_t until = clock_mono() + WAIT_NS; access(path, F_OK); turn())
        assert_true(clock_mono() < until);
    free(path);
}

/* They end, with these last words and this code. */
static void end(const char *words, const char *code)
{
    put("code", code);
    put("go", words);
    for (uint64_t until = clock_mono() + WAIT_NS; !list_empty(&v.sets); turn())
        assert_true(clock_mono() < until);
}

/* What the controller has heard until now, and since the last time: lines, malloc'ed. */
static char *heard(void)
{
    static char before[32];
    struct engine_set s = {.owner = &v};
    char *all, *at, *mark;
    snprintf(s.start, sizeof s.start, "mark%u", ++marks);
    json_t *event = json_pack("{s:s, s:s}", "event", "set_ended", "why", "");
    assert_true(setend_event(&s, event));
    json_decref(event);
    for (uint64_t until = clock_mono() + WAIT_NS;; turn()) {
        assert_true(clock_mono() < until);
        all = child_tail(v.controller, 1000);
        if ((mark = strstr(all, s.start)))
            break;
        free(all);
    }
    mark[-strlen("{\"set_ended\":\"")] = 0;
    at = *before ? strstr(all, before) : NULL;
    at = at ? strchr(at, '\n') + 1 : all;
    memmove(all, at, strlen(at) + 1);
    strcpy(before, s.start);
    return all;
}

static void expect(const char *name, const char *why)
{
    char *said = heard(), line[900] = "";
    if (why)
        snprintf(line, sizeof line, "{\"set_ended\":\"%s\",\"why\":\"%s\"}\n", name, why);
    assert_string_equal(said, line);
    free(said);
}

static void a_holder_that_exits(void **state)
{
    struct engine_set *s = start("srun", NULL);
    char name[24];
    look(s);
    strcpy(name, s->start);
    end("a line\nsrun: task 1: Exited with exit code 7\nthe last\n", "7");
    expect(name, "its MPI job has ended, as when a rank calls MPI_Abort or dies: srun exited with "
                 "code 7: srun: task 1: Exited with exit code 7");
}

static void one_that_ends_well_or_says_what_is_no_text(void **state)
{
    char name[24];
    struct engine_set *s = start("srun", NULL);
    look(s);
    strcpy(name, s->start);
    end("", "0");
    expect(name, "its MPI job has ended: srun exited with code 0");
    drop("go");
    s = start("srun", NULL);
    look(s);
    assert_string_not_equal(name, s->start);
    strcpy(name, s->start);
    end("MPI_Abort \xff\n", "200"); /* a code of its own, which it gives itself */
    expect(name, "its MPI job has ended, as when a rank calls MPI_Abort or dies: srun exited with "
                 "code 200");
}

static void one_that_was_told_to_end(void **state)
{
    struct engine_set *s = start("mpirun.some", "#!/bin/sh\ntrap 'exit 3' TERM\n"
                                                "touch ${0%/*}/up\nwhile :; do sleep 0.01; done\n");
    char name[24];
    look(s);
    wait_for("up"); /* a signal before the trap would kill it */
    strcpy(name, s->start);
    set_stop(s, 0, false);
    v.state = SUPER_RUNNING;
    end("", "0");
    expect(name, "its MPI job has ended, as it was told to: mpirun.some exited with code 3");
}

static void one_that_was_killed_may_have_left_ranks(void **state)
{
    struct engine_set *s = start("srun", NULL);
    look(s);
    assert_int_equal(kill(s->holder.pid, SIGKILL), 0);
    end("", "0");
    expect(NULL, NULL);
}

static void nobody_has_come(void **state)
{
    start("srun", NULL);
    end("", "1");
    expect(NULL, NULL);
}

static void another_command(void **state)
{
    struct engine_set *s = start("srunner", "#!/bin/sh\nexec sh -c 'until [ -e ${0%/*}/go ]; do "
                                            "sleep 0.01; done' $0\n");
    for (int i = 0; i < 20; i++, turn())
        setend_look(s);
    assert_int_equal(s->holder.pid, 0);
    end("", "1");
    expect(NULL, NULL);
}

static void a_script_around_it(void **state)
{
    struct engine_set *s = start("wrapper", "#!/bin/sh\n${0%/*}/srun \"$@\"\n");
    char name[24];
    look(s);
    assert_int_not_equal(s->holder.pid, child_job(s->child)->pid);
    strcpy(name, s->start);
    end("Aborting\n", "9");
    expect(name, "its MPI job has ended, as when a rank calls MPI_Abort or dies: srun exited with "
                 "code 9: Aborting");
}

static void a_script_around_one_that_was_killed(void **state)
{
    struct engine_set *s = start("wrapper", "#!/bin/sh\n${0%/*}/srun \"$@\"\nexit $?\n");
    look(s);
    assert_int_equal(kill(s->holder.pid, SIGKILL), 0);
    end("", "0");
    expect(NULL, NULL);
}

static void a_script_that_leaves_it(void **state)
{
    struct engine_set *s = start(
        "wrapper", "#!/bin/sh\n${0%/*}/srun \"$@\" &\nuntil [ -e ${0%/*}/left ]; do sleep 0.01; "
                   "done\nexit 1\n");
    look(s);
    pid_t holder = s->holder.pid;
    put("left", "");
    for (uint64_t until = clock_mono() + WAIT_NS; !list_empty(&v.sets); turn())
        assert_true(clock_mono() < until);
    expect(NULL, NULL);
    assert_int_equal(kill(holder, SIGKILL), 0);
}

/* Each by its own name, also where they end in the same turn of the loop. */
static void two_at_once(void **state)
{
    struct engine_set *a = start("srun", NULL), *b = start("srun", NULL);
    char first[24], second[24];
    look(a);
    look(b);
    assert_string_not_equal(a->start, b->start);
    strcpy(first, a->start);
    strcpy(second, b->start);
    end("x\n", "1");
    char *said = heard();
    assert_non_null(strstr(said, first));
    assert_non_null(strstr(said, second));
    free(said);
}

static void what_agents_say(void **state)
{
    struct engine_set s = {.owner = &v, .start = "17"};
    char why[520];
    json_t *event = json_pack("{s:s, s:s, s:s}", "event", "job_ended", "id", "4", "how", "FAILED");
    assert_true(setend_event(&s, event));
    json_decref(event);
    expect("17", "its batch job 4 has ended: FAILED");
    event = json_pack("{s:s, s:s, s:s}", "event", "set_ended", "set", "18", "why", "its host");
    assert_true(setend_event(&s, event));
    json_decref(event);
    expect("18", "its host");
    memset(why, 'x', sizeof why); /* a reason that is cut within a character: before that */
    memcpy(why + 499, "\xc3\xa9", 2);
    why[sizeof why - 1] = 0;
    event = json_pack("{s:s, s:s}", "event", "set_ended", "why", why);
    assert_true(setend_event(&s, event));
    json_decref(event);
    why[499] = 0;
    expect("17", why);
    static const char *const BAD[] = {"{\"event\": \"set_ended\"}", "{\"event\": 3}", "[]",
                                      "{\"event\": \"set_ended\", \"why\": 1, \"set\": {}}"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        event = json_loads(BAD[i], 0, NULL);
        setend_event(&s, event);
        json_decref(event);
        expect(NULL, NULL);
    }
    event = json_pack("{s:s}", "event", "engine_joined");
    assert_false(setend_event(&s, event));
    json_decref(event);
}

static void without_a_controller_nothing_is_said(void **state)
{
    struct child *c = v.controller;
    struct engine_set *s = start("srun", NULL);
    look(s);
    v.controller = NULL;
    end("", "1");
    v.controller = c;
    expect(NULL, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_holder_that_exits),      TEST(one_that_ends_well_or_says_what_is_no_text),
        TEST(one_that_was_told_to_end), TEST(one_that_was_killed_may_have_left_ranks),
        TEST(nobody_has_come),          TEST(another_command),
        TEST(a_script_around_it),       TEST(a_script_around_one_that_was_killed),
        TEST(a_script_that_leaves_it),  TEST(two_at_once),
        TEST(what_agents_say),          TEST(without_a_controller_nothing_is_said),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
