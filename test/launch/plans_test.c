/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Golden command lines and requests of the back ends that start more than a process: what they
 * prepare is compared with the files of golden/. `COVEY_GOLDEN_WRITE=1 plans_test` writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/file.h"
#include "launch/launch.h"

struct golden {
    const char *name;
    const struct launch_ops *ops;
    enum launch_what what;
    const char *config;
};

static const struct golden CASES[] = {
    {"mpi-engines", &launch_mpi, LAUNCH_ENGINES, "{}"},
    {"mpi-controller", &launch_mpi, LAUNCH_CONTROLLER, "{}"},
    {"mpi-options", &launch_mpi, LAUNCH_ENGINES,
     "{\"MPILauncher\": {\"mpi_cmd\": [\"srun\"], \"mpi_args\": [\"--oversubscribe\", \"-v\"]},"
     " \"EngineLauncher\": {\"engine_cmd\": \"numactl -l python -m ipyparallel.engine\","
     " \"environment\": {\"A\": \"1 2\"}}}"},
    {"slurm-engines", &launch_slurm, LAUNCH_ENGINES, "{}"},
    {"slurm-controller", &launch_slurm, LAUNCH_CONTROLLER, "{}"},
    {"slurm-options", &launch_slurm, LAUNCH_ENGINES,
     "{\"SlurmLauncher\": {\"account\": \"phys\", \"qos\": \"high\", \"timelimit\": \"1:00:00\","
     " \"queue\": \"base\", \"options\": \"-C gpu\"}, \"SlurmEngineSetLauncher\": {\"queue\": "
     "\"own\","
     " \"output_file\": \"/o\", \"batch_file_name\": \"mine.sbatch\"}}"},
    {"slurm-template", &launch_slurm, LAUNCH_ENGINES,
     "{\"SlurmEngineSetLauncher\": {\"batch_template\": \"#!/bin/bash\\n#SBATCH -N {n//4} -t "
     "{walltime}\\n#SBATCH {options}\\nsrun {program} {program_args} # {cluster_id} "
     "{profile_dir} {environment_json}\\n\", \"namespace\": {\"walltime\": \"2:00\"}}}"},
    {"batch-namespace", &launch_slurm, LAUNCH_ENGINES,
     "{\"SlurmLauncher\": {\"batch_template\": \"{gb} {whole} {n}\", \"namespace\": {\"gb\": 1.5, "
     "\"whole\": true}}}"},
    {"pbs-engines", &launch_pbs, LAUNCH_ENGINES, "{\"PBSLauncher\": {\"queue\": \"q\"}}"},
    {"pbs-controller", &launch_pbs, LAUNCH_CONTROLLER, "{}"},
    {"pbs-array", &launch_pbs, LAUNCH_ENGINES,
     "{\"PBSEngineSetLauncher\": {\"job_array_template\": \"#PBS -J 1-{n}\", \"signal_command\": "
     "[\"qsig\", \"-x\"], \"status_command\": []}}"},
    {"sge-engines", &launch_sge, LAUNCH_ENGINES, "{\"BatchSystemLauncher\": {\"queue\": \"q\"}}"},
    {"sge-controller", &launch_sge, LAUNCH_CONTROLLER, "{}"},
    {"lsf-controller", &launch_lsf, LAUNCH_CONTROLLER, "{}"},
    {"batch-spaces", &launch_slurm, LAUNCH_ENGINES,
     "{\"SlurmLauncher\": {\"output_file\": \"/my dir/it's\"}}"},
    {"htcondor-quotes", &launch_htcondor, LAUNCH_ENGINES,
     "{\"EngineLauncher\": {\"engine_cmd\": [\"run\", \"it's \\\"a\\\"\", \"\", "
     "\"plain\\\"\"], \"environment\": {\"GPU\": \"{i}\"}}}"},
    {"lsf-engines", &launch_lsf, LAUNCH_ENGINES, "{\"LSFLauncher\": {\"queue\": \"q\"}}"},
    {"htcondor-engines", &launch_htcondor, LAUNCH_ENGINES, "{}"},
    {"htcondor-controller", &launch_htcondor, LAUNCH_CONTROLLER, "{}"},
    {"ssh-engines", &launch_ssh, LAUNCH_ENGINES,
     "{\"SSHEngineSetLauncher\": {\"engines\": {\"h1\": 2, \"bob@h2:2200\": [3, "
     "[\"--profile_dir=/h2/p\","
     " \"--x=1\"]], \"h3\": {\"n\": 5, \"remote_python\": \"~/a py\", \"engine_args\": [\"--y\"], "
     "\"prologue\": [\". a\", \"b\"], \"environment\": {\"B\": \"3\"}}}},"
     " \"SSHLauncher\": {\"ssh_args\": [\"-i\", \"key\"], \"environment\": {\"A\": \"1\", \"B\": "
     "\"2\"}, "
     "\"remote_python\": \"/opt/a b/python\"}}"},
    {"ssh-addresses", &launch_ssh, LAUNCH_ENGINES,
     "{\"SSHEngineSetLauncher\": {\"engines\": {\"fd00::7\": 4, \"bob@[fd00::8]:2200\": 4}}}"},
    {"ssh-files", &launch_ssh, LAUNCH_ENGINES,
     "{\"SSHEngineSetLauncher\": {\"engines\": {\"h1\": 2, \"h2\": [5, [\"--profile-dir\", "
     "\"~/p\"]], \"h3\": {\"n\": 1, \"scp_args\": [\"-q\"], \"to_send\": []}}, \"to_send\": "
     "[[\"~/a\", \"b\"]]}}"},
    {"ssh-controller", &launch_ssh, LAUNCH_CONTROLLER,
     "{\"SSHLauncher\": {\"hostname\": \"far\", \"user\": \"bob\", \"to_fetch\": [[\"log\", "
     "\"/log\"]]}}"},
    {"sshproxy-engines", &launch_sshproxy, LAUNCH_ENGINES,
     "{\"SSHProxyEngineSetLauncher\": {\"hostname\": \"far\", \"ipcluster_args\": "
     "[\"--engines=mpi\"],"
     " \"remote_profile_dir\": \"far_profile\"}}"},
    {"local-places", &launch_local, LAUNCH_ENGINES,
     "{\"EngineLauncher\": {\"environment\": {\"GPU\": \"{i}\", \"A\": \"b\"},"
     " \"engine_cmd\": [\"bind\", \"node{i}\", \"ipengine\"]}}"},
    {"mpi-places", &launch_mpi, LAUNCH_ENGINES,
     "{\"EngineLauncher\": {\"environment\": {\"GPU\": \"{i}\", \"A\": \"b\"}}}"},
    {"slurm-places", &launch_slurm, LAUNCH_ENGINES,
     "{\"EngineLauncher\": {\"environment\": {\"GPU\": \"{i}\", \"A\": \"b\"}}}"},
    {"ssh-places", &launch_ssh, LAUNCH_ENGINES,
     "{\"EngineLauncher\": {\"environment\": {\"GPU\": \"{i}\", \"A\": \"b\"}},"
     " \"SSHEngineSetLauncher\": {\"engines\": {\"h1\": 8}}}"},
    {"batch-own", &launch_batch, LAUNCH_ENGINES,
     "{\"BatchSystemLauncher\": {\"submit_command\": [\"mysub\", \"-x\"], \"delete_command\": "
     "\"mydel\", \"job_id_regexp\": \"job (\\\\d+)\", \"job_id_regexp_group\": 1}}"},
};

static struct launch_request request(enum launch_what what, const struct config *c)
{
    static const char *const ARGS[] = {"--log-level=10", "--IPEngine.x=a b", NULL};
    static const char *const ENV[] = {"PATH=/bin", "HOME=/h", NULL};
    return (struct launch_request){
        .what = what,
        .env = ENV,
        .program_dir = "/p",
        .profile_dir = "/h/profile_x",
        .cluster_id = "c1",
        .python = "/usr/bin/python3",
        .args = ARGS,
        .config = c,
        .events_file = what == LAUNCH_CONTROLLER ? "/h/profile_x/log/ipcontroller.events" : NULL,
        .name = what == LAUNCH_CONTROLLER ? "ipcontroller-c1-7" : "ipengine-c1-7-0",
        .n = 8,
    };
}

static int add_lines(struct buf *b, const char *head, char *const *v)
{
    int rc = buf_addf(b, "%s\n", head);
    for (; v && *v && !rc; v++)
        rc = buf_addf(b, "  %s\n", *v);
    return rc;
}

/* A plan as people read it: the script line by line, then the rest of an agent's request. */
static void show(struct buf *b, const struct launch_plan *p)
{
    assert_int_equal(add_lines(b, "argv", p->argv), CV_OK);
    assert_int_equal(add_lines(b, "environment", p->env), CV_OK);
    if (!p->input)
        return;
    json_t *o = json_loads(p->input, 0, NULL);
    assert_non_null(o);
    json_t *script = json_incref(json_object_get(o, "script"));
    json_object_del(o, "script");
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
    assert_int_equal(buf_addf(b, "request\n%s\n", text), CV_OK);
    if (script)
        assert_int_equal(buf_addf(b, "script\n%s", json_string_value(script)), CV_OK);
    free(text);
    json_decref(script);
    json_decref(o);
}

static void check(const struct golden *g, const struct launch_plan *p)
{
    struct buf got = {0}, want = {0};
    char *path = str_printf("%s/%s.txt", GOLDEN_DIR, g->name);
    struct err e;
    show(&got, p);
    if (getenv("COVEY_GOLDEN_WRITE"))
        assert_int_equal(file_write_atomic(path, 0644, got.data, got.len, &e), CV_OK);
    if (file_read(path, 1 << 20, &want, &e))
        fail_msg("%s", e.text);
    if (strcmp(buf_cstr(&got), buf_cstr(&want)))
        fail_msg("%s differs; it is now:\n%s", path, (const char *)got.data);
    buf_release(&got);
    buf_release(&want);
    free(path);
}

static void golden_plans(void **state)
{
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct launch_plan p;
        struct config *c;
        struct err e;
        assert_int_equal(config_new(&c), CV_OK);
        assert_int_equal(config_merge(c, CASES[i].config, strlen(CASES[i].config), &e), CV_OK);
        const struct launch_request r = request(CASES[i].what, c);
        if (CASES[i].ops->prepare(CASES[i].ops, &r, &p, &e))
            fail_msg("%s: %s", CASES[i].name, e.text);
        check(&CASES[i], &p);
        launch_plan_release(&p);
        config_free(c);
    }
}

static void what_can_t_be_done_is_refused(void **state)
{
    static const struct {
        const struct launch_ops *ops;
        const char *config, *word;
    } BAD[] = {
        {&launch_batch, "{}", "submit_command"},
        {&launch_ssh, "{}", "SSHEngineSetLauncher.engines"},
        {&launch_ssh, "{\"SSHEngineSetLauncher\": {\"engines\": {\"h\": \"x\"}}}", "engines['h']"},
        {&launch_ssh, "{\"SSHEngineSetLauncher\": {\"engines\": {\"h\": 7}}}", "7 engines, 8 are"},
        {&launch_ssh, "{\"SSHEngineSetLauncher\": {\"engines\": {\"h\": 8}, \"to_send\": [\"a\"]}}",
         "to_send"},
        {&launch_ssh,
         "{\"SSHEngineSetLauncher\": {\"engines\": {\"h\": {\"n\": 8, \"user\": \"x\"}}}}",
         "no setting 'user'"},
        {&launch_ssh,
         "{\"SSHEngineSetLauncher\": {\"engines\": {\"h\": {\"n\": 8, \"ssh_args\": \"x\"}}}}",
         "ssh_args must be a list"},
        {&launch_ssh,
         "{\"SSHLauncher\": {\"prologue\": [1]}, \"SSHEngineSetLauncher\": {\"engines\": {\"h\": "
         "8}}}",
         "prologue must be"},
        {&launch_ssh, "{\"SSHEngineSetLauncher\": {\"engines\": {\"-oProxyCommand=x\": 8}}}",
         "is not an ssh server"},
        {&launch_ssh,
         "{\"SSHEngineSetLauncher\": {\"engines\": {\"h\": {\"n\": 8, \"environment\": {\"A\": "
         "1}}}}}",
         "environment[A] must be a text"},
        {&launch_sshproxy, "{}", "SSHProxyEngineSetLauncher.hostname"},
        {&launch_slurm, "{\"SlurmLauncher\": {\"queue\": 3}}",
         "SlurmLauncher.queue must be a text"},
        {&launch_slurm, "{\"BatchSystemLauncher\": {\"engine_cmd\": 5}}", "a list of words"},
        {&launch_slurm, "{\"SlurmLauncher\": {\"batch_template\": \"{nodes}\"}}", "{nodes}"},
        {&launch_slurm, "{\"SlurmLauncher\": {\"batch_template_file\": \"/no/such\"}}", "/no/such"},
        {&launch_slurm, "{\"SlurmLauncher\": {\"namespace\": {\"a\": [1]}}}", "namespace[a]"},
        {&launch_mpi, "{\"MPILauncher\": {\"mpi_args\": {\"a\": 1}}}", "mpi_args"},
        {&launch_mpi, "{\"MPILauncher\": {\"mpi_args\": [1]}}", "mpi_args"},
        {&launch_mpi, "{\"EngineLauncher\": {\"engine_cmd\": [\"bind\", \"{i}\"]}}", "{i}"},
        {&launch_local, "{\"EngineLauncher\": {\"environment\": []}}", "environment"},
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct launch_plan p;
        struct config *c;
        struct err e;
        assert_int_equal(config_new(&c), CV_OK);
        assert_int_equal(config_merge(c, BAD[i].config, strlen(BAD[i].config), &e), CV_OK);
        const struct launch_request r = request(LAUNCH_ENGINES, c);
        assert_int_not_equal(BAD[i].ops->prepare(BAD[i].ops, &r, &p, &e), CV_OK);
        if (!strstr(e.text, BAD[i].word))
            fail_msg("no \"%s\" in: %s", BAD[i].word, e.text);
        config_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_plans),
                                       cmocka_unit_test(what_can_t_be_done_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
