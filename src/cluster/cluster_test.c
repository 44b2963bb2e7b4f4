/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of what ipcluster knows before it starts anything: cpus, profiles, settings of every
 * spelling, cluster files and who of them still runs. Each test has a folder of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include "base/file.h"
#include "cluster/clusterfile.h"
#include "cluster/control.h"
#include "cluster/cpus.h"
#include "cluster/ctladdr.h"
#include "cluster/profile.h"
#include "cluster/settings.h"
#include "proc/procinfo.h"

static char dir[64];

static int make_dir(void **state)
{
    static const char *const UNSET[] = {"IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "COVEY_CONFIG",
                                        "COVEY_EVENTS_FD", "SLURM_CPUS_PER_TASK"};
    for (size_t i = 0; i < sizeof UNSET / sizeof UNSET[0]; i++)
        unsetenv(UNSET[i]);
    strcpy(dir, "/tmp/covey-cluster-test-XXXXXX");
    return mkdtemp(dir) && !setenv("IPYTHONDIR", dir, 1) ? 0 : -1;
}

static int drop_dir(void **state)
{
    char cmd[256];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static void put(const char *path, const char *text)
{
    char *full = path_join(dir, path), *slash = strrchr(full, '/');
    *slash = 0;
    assert_int_equal(file_mkdirs(full, 0700, NULL), CV_OK);
    *slash = '/';
    assert_int_equal(file_write_atomic(full, 0600, text, strlen(text), NULL), CV_OK);
    free(full);
}

static void quotas_of_both_cgroup_versions(void **state)
{
    put("a/b/cpu.max", "max 100000\n");
    put("a/cpu.max", "250000 100000\n");
    put("cpu/job/cpu.cfs_quota_us", "400000\n");
    put("cpu/job/cpu.cfs_period_us", "100000\n");
    put("cpu/job/step/cpu.cfs_quota_us", "-1\n");
    put("cpu/job/step/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpus_cgroup_quota("0::/a/b\n", dir),
                     3); /* the folder above limits too; 2.5 is 3 */
    assert_int_equal(cpus_cgroup_quota("0::/elsewhere\n", dir), 0);
    assert_int_equal(cpus_cgroup_quota("5:cpu,cpuacct:/job/step\n1:name=systemd:/a\n", dir), 4);
    assert_int_equal(cpus_cgroup_quota("5:cpuset:/job/step\n", dir), 0);
    assert_int_equal(cpus_cgroup_quota("nonsense", dir), 0);
}

static void a_batch_system_limits_the_cpus(void **state)
{
    struct cpus all, one;
    cpus_available(&all);
    assert_true(all.n >= 1);
    setenv("SLURM_CPUS_PER_TASK", "1", 1);
    cpus_available(&one);
    assert_int_equal(one.n, 1);
    setenv("SLURM_CPUS_PER_TASK", "many", 1);
    cpus_available(&one);
    assert_int_equal(one.n, all.n);
    unsetenv("SLURM_CPUS_PER_TASK");
}

/* The words stay until the next call: settings borrow them. */
static enum settings_next parse(struct settings *s, enum verb verb, struct err *e, const char *line)
{
    static char copy[512], *argv[32];
    int argc = 1;
    argv[0] = "ipcluster";
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
        argv[argc++] = w;
    return settings_parse(s, verb, argc, argv, e);
}

static bool has(char **v, const char *text)
{
    for (; v && *v; v++)
        if (!strcmp(*v, text))
            return true;
    return false;
}

static void a_start_line_is_understood(void **state)
{
    struct settings s;
    struct err e;
    assert_int_equal(parse(&s, VERB_START, &e,
                           "--python=/py -n 3 --engines=LocalEngineSetLauncher --ip=* "
                           "--cluster-id=7 --daemonize=True "
                           "--HubFactory.registration_timeout=600 --IPEngine.timeout=9 "
                           "--Session.x=1 --threads=inherit "
                           "-- --scheme=lru"),
                     SETTINGS_RUN);
    assert_int_equal(s.n, 3);
    assert_null(s.why_n);
    assert_int_equal(s.threads, 0);
    assert_string_equal(s.python, "/py");
    assert_string_equal(s.cluster_id, "7");
    assert_true(s.daemonize);
    assert_ptr_equal(s.engines, &launch_local);
    assert_true(has(s.controller_args, "--ip=*"));
    assert_true(has(s.controller_args, "--scheme=lru"));
    assert_true(has(s.controller_args, "--IPController.registration_timeout=600"));
    assert_true(has(s.controller_args, "--Session.x=1"));
    assert_true(has(s.engine_args, "--Session.x=1"));
    assert_true(has(s.engine_args, "--IPEngine.timeout=9"));
    assert_false(has(s.engine_args, "--IPController.registration_timeout=600"));
    assert_false(has(s.controller_args, "--IPEngine.timeout=9"));
    settings_release(&s);
}

static void the_default_n_says_why(void **state)
{
    struct settings s;
    struct err e;
    struct cpus cpus;
    cpus_available(&cpus);
    assert_int_equal(parse(&s, VERB_START, &e, ""), SETTINGS_RUN);
    assert_int_equal(s.n, cpus.n);
    assert_non_null(strstr(s.why_n, cpus.why));
    assert_int_equal(s.threads, 1);
    settings_release(&s);
    assert_int_equal(parse(&s, VERB_START, &e, "-n 1"), SETTINGS_RUN);
    assert_int_equal(s.threads, cpus.n);
    settings_release(&s);
}

static void files_are_under_the_command_line(void **state)
{
    struct settings s;
    struct err e;
    put("profile_default/ipcluster_config.py", "# c.Cluster.n = 1\n\n   # nothing\n");
    put("profile_default/ipcluster_config.json",
        "{\"Cluster\": {\"n\": 5}, \"IPClusterEngines\": {\"engine_launcher_class\": \"Local\"}}");
    assert_int_equal(parse(&s, VERB_START, &e, "--python=/nonexistent"),
                     SETTINGS_RUN); /* no Python is run */
    assert_int_equal(s.n, 5);
    settings_release(&s);
    assert_int_equal(parse(&s, VERB_START, &e, "-n 2"), SETTINGS_RUN);
    assert_int_equal(s.n, 2);
    settings_release(&s);
    put("profile_default/ipcluster_config.json", "{\"Cluster\": 5}");
    assert_int_equal(parse(&s, VERB_START, &e, ""), SETTINGS_FAILED);
    assert_non_null(strstr(e.text, "ipcluster_config.json"));
}

static size_t place(char **v, const char *text)
{
    size_t i = 0;
    while (v[i] && strcmp(v[i], text))
        i++;
    assert_non_null(v[i]);
    return i;
}

static void settings_of_the_children_reach_them_from_files(void **state)
{
    struct settings s;
    struct err e;
    put("profile_default/ipcluster_config.json",
        "{\"HubFactory\": {\"ip\": \"*\"}, \"TaskScheduler\": {\"hwm\": 3},"
        " \"IPController\": {\"reuse_files\": true, \"location\": null},"
        " \"IPEngine\": {\"timeout\": 9.5}, \"InteractiveShell\": {\"colors\": \"x\"},"
        " \"Session\": {\"key\": \"secret\"}, \"Cluster\": {\"controller_args\": [\"--two\"]},"
        " \"LocalControllerLauncher\": {\"controller_args\": [\"--one\"]}}");
    assert_int_equal(parse(&s, VERB_START, &e, "--TaskScheduler.hwm=5 --ip=h"), SETTINGS_RUN);
    assert_true(has(s.controller_args, "--IPController.reuse_files=true"));
    assert_true(has(s.engine_args, "--IPEngine.timeout=9.5"));
    assert_false(has(s.controller_args, "--TaskScheduler.hwm=3")); /* the command line has it too */
    assert_true(has(s.controller_args, "--TaskScheduler.hwm=5"));
    /* What comes later wins. */
    assert_true(place(s.controller_args, "--IPController.ip=*") <
                place(s.controller_args, "--one"));
    assert_true(place(s.controller_args, "--one") < place(s.controller_args, "--ip=h"));
    assert_true(place(s.controller_args, "--one") < place(s.controller_args, "--two"));
    for (char **w = s.controller_args; *w; w++)
        assert_null(strstr(*w, "Session"));
    for (char **w = s.engine_args; *w; w++)
        assert_true(!strstr(*w, "Session") && !strstr(*w, "IPController") && !strstr(*w, "colors"));
    settings_release(&s);
    put("profile_default/ipcluster_config.json", "{}");
}

static void refusals(void **state)
{
    static const struct {
        enum verb verb;
        const char *line;
        enum settings_next next;
        const char *says;
    } CASES[] = {
        {VERB_START, "--engines=winhpc", SETTINGS_FAILED, "there are local, ssh"},
        {VERB_START, "--bogus=1", SETTINGS_USAGE, "--bogus"},
        {VERB_START, "-n x", SETTINGS_FAILED, "Cluster.n (command line) must be a whole number"},
        {VERB_START, "-n -1", SETTINGS_FAILED, "from 0"},
        {VERB_START, "--cluster-id=a/b", SETTINGS_FAILED, "'/'"},
        {VERB_START, "--profile=a/b", SETTINGS_FAILED, "'/'"},
        {VERB_START, "--log-level=loud", SETTINGS_FAILED, "log_level"},
        {VERB_STOP, "--profile=nope", SETTINGS_FAILED, "Profile nope not found"},
        {VERB_LIST, "-o bad", SETTINGS_FAILED, "text or json"},
        {VERB_STOP, "--daemonize", SETTINGS_USAGE, "--daemonize"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct settings s;
        struct err e = {""};
        assert_int_equal(parse(&s, CASES[i].verb, &e, CASES[i].line), CASES[i].next);
        if (!strstr(e.text, CASES[i].says))
            fail_msg("%s says: %s", CASES[i].line, e.text);
    }
}

static void start_makes_a_private_profile(void **state)
{
    struct settings s;
    struct err e;
    struct stat st;
    assert_int_equal(parse(&s, VERB_START, &e, "--profile=new"), SETTINGS_RUN);
    char *security = path_join(s.profile_dir, "security");
    assert_int_equal(stat(security, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_string_equal(profile_name(s.profile_dir), "new");
    assert_string_equal(profile_name("/some/where"), "/some/where");
    free(security);
    settings_release(&s);
}

static void dead_clusters_don_t_run(void **state)
{
    struct procinfo self;
    assert_int_equal(procinfo_get(getpid(), &self, NULL), CV_OK);
    json_t *live =
        json_pack("{s:I, s:I}", "pid", (json_int_t)getpid(), "pid_start", (json_int_t)self.start);
    json_t *reused = json_pack("{s:I, s:I}", "pid", (json_int_t)getpid(), "pid_start",
                               (json_int_t)self.start + 1);
    assert_true(clusterfile_running(live));
    assert_true(clusterfile_supervised(live));
    assert_false(clusterfile_running(reused));
    json_object_set_new(live, "class", json_string("Local"));
    json_t *orphan = json_deep_copy(reused);
    json_object_set_new(orphan, "engines", json_pack("{s:O}", "0", live));
    assert_true(clusterfile_running(orphan));
    assert_false(clusterfile_supervised(orphan));
    char *path = path_join(dir, "security/cluster-x.json");
    put("security/cluster-broken.json", "{\"pid\": ");
    assert_int_equal(clusterfile_write(path, orphan, NULL), CV_OK);
    json_t *back;
    assert_int_equal(clusterfile_read(path, &back, NULL), CV_OK);
    assert_true(json_equal(back, orphan));
    struct err e;
    char *broken = path_join(dir, "security/cluster-broken.json");
    json_decref(back);
    assert_int_equal(clusterfile_read(broken, &back, &e), CV_EINVAL);
    free(broken);
    free(path);
    json_decref(orphan);
    json_decref(reused);
    json_decref(live);
}

static void not_now(int signum)
{
}

/* A supervisor that was stopped (SIGSTOP) accepts nobody, and its line is full. Who waits for it is
 * interrupted again and again, as by Ctrl-Z and fg. */
static void a_stopped_supervisor_is_not_waited_for(void **state)
{
    struct sockaddr_un a;
    socklen_t n;
    struct err e;
    char address[40];
    int line[8], in_line = 0;
    json_t *command = json_pack("{s:s}", "do", "stop"), *answer = NULL;
    snprintf(address, sizeof address, "@covey-cluster-test-%d", (int)getpid());
    assert_int_equal(ctladdr_parse(address, &a, &n, &e), CV_OK);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(listener, 1), 0);
    do {
        line[in_line] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    } while (!connect(line[in_line++], (struct sockaddr *)&a, n) && in_line < 8);
    assert_true(in_line < 8);
    const struct sigaction interrupts = {.sa_handler = not_now};
    const struct itimerval often = {{.tv_usec = 5000}, {.tv_usec = 5000}}, never = {{0}, {0}};
    assert_int_equal(sigaction(SIGALRM, &interrupts, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    int rc = control_call(address, command, 0.05, &answer, &e);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(rc, CV_ETIMEOUT);
    assert_non_null(strstr(e.text, address));
    assert_non_null(strstr(e.text, "takes no connections"));
    while (in_line)
        close(line[--in_line]);
    close(listener);
    json_decref(command);
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, make_dir, drop_dir)
    const struct CMUnitTest tests[] = {
        IN_DIR(quotas_of_both_cgroup_versions),
        IN_DIR(a_batch_system_limits_the_cpus),
        IN_DIR(a_start_line_is_understood),
        IN_DIR(the_default_n_says_why),
        IN_DIR(files_are_under_the_command_line),
        IN_DIR(settings_of_the_children_reach_them_from_files),
        IN_DIR(refusals),
        IN_DIR(start_makes_a_private_profile),
        IN_DIR(dead_clusters_don_t_run),
        cmocka_unit_test(a_stopped_supervisor_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
