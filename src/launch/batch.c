/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Batch systems: one table. prepare() fills in the script and says what its agent (`ipcluster
 * batch-job`, batchjob.c) has to run to submit, ask for, signal and delete the job. */
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "launch/template.h"
#include "launch/words.h"

#define TEMPLATE_MAX (1u << 20)
#define STATUS_WORDS 8

struct batch_system {
    const struct launch_ops *ops;
    /* Commands, words with blanks between them; "": none. The job's id is added (signal: the
     * number, then the id; submit: the script's path, unless it reads the script). */
    const char *submit, *delete, *signal;
    /* The command that says of several jobs "ID STATE", a line each, or ID and anything; their ids
     * are added, with `join` between them or, where that is " ", as words. */
    const char *status[STATUS_WORDS], *join;
    bool reads_script;     /* submit reads the script from its standard input */
    const char *job_id;    /* extended regular expression in what submit says */
    int job_id_group;      /* which of its parentheses */
    const char *script[2]; /* by enum launch_what; lines go in after the first */
    const char *array, *queue, *output;
};

#define DIGITS "[0-9]+"

static const struct batch_system SYSTEMS[] = {
    {
        .ops = &launch_slurm,
        .submit = "sbatch",
        .delete = "scancel",
        .signal = "scancel -s",
        .status = {"squeue", "-h", "-t", "all", "-o", "%F:%T", "-j"},
        .join = ",",
        .job_id = DIGITS,
        .script = {"#!/bin/sh\n"
                   "#SBATCH --export=ALL\n"
                   "#SBATCH --job-name=ipcontroller-{cluster_id}\n"
                   "#SBATCH --ntasks=1\n"
                   "{program_and_args}\n",
                   "#!/bin/sh\n"
                   "#SBATCH --export=ALL\n"
                   "#SBATCH --job-name=ipengine-{cluster_id}\n"
                   "#SBATCH --ntasks={n}\n"
                   "srun {program_and_args}\n"},
        .queue = "#SBATCH --partition={queue}\n",
        .output = "#SBATCH --output={output_word}\n",
    },
    {
        .ops = &launch_pbs,
        .submit = "qsub",
        .delete = "qdel",
        .signal = "qsig -s",
        .status = {"qstat"},
        .join = " ",
        .job_id = DIGITS "(\\[\\])?", /* an array's id has brackets, which qdel wants to see */
        .script = {"#!/bin/sh\n#PBS -V\n#PBS -N ipcontroller\n{program_and_args}\n",
                   "#!/bin/sh\n#PBS -V\n#PBS -N ipengine\n{program_and_args}\n"},
        .array = "#PBS -t 1-{n}\n",
        .queue = "#PBS -q {queue}\n",
        .output = "#PBS -j oe\n#PBS -o {output_word}\n",
    },
    {
        .ops = &launch_sge,
        .submit = "qsub",
        .delete = "qdel",
        .signal = "qsig -s",
        .status = {"qstat", "-j"},
        .join = ",",
        .job_id = DIGITS,
        .script = {"#!/bin/sh\n#$ -V\n#$ -S /bin/sh\n#$ -N ipcontroller\n{program_and_args}\n",
                   "#!/bin/sh\n#$ -V\n#$ -S /bin/sh\n#$ -N ipengine\n{program_and_args}\n"},
        .array = "#$ -t 1-{n}\n",
        .queue = "#$ -q {queue}\n",
        .output = "#$ -j y\n#$ -o {output_word}\n",
    },
    {
        .ops = &launch_lsf,
        .submit = "bsub",
        .delete = "bkill",
        .signal = "bkill -s",
        .status = {"bjobs", "-noheader", "-o", "jobid stat"},
        .join = " ",
        .reads_script = true,
        .job_id = DIGITS,
        .script = {"#!/bin/sh\n#BSUB -J ipcontroller\n{program_and_args}\n",
                   "#!/bin/sh\n{program_and_args}\n"},
        .array = "#BSUB -J ipengine[1-{n}]\n",
        .queue = "#BSUB -q {queue}\n",
        .output = "#BSUB -oo {output_word}\n",
    },
    {
        .ops = &launch_htcondor,
        .submit = "condor_submit",
        .delete = "condor_rm",
        .signal = "",
        .status = {"condor_q", "-format", "%d:", "ClusterId", "-format", "%d\\n", "JobStatus"},
        .join = " ",
        .job_id = "([0-9]+)\\.$",
        .job_id_group = 1,
        .script = {"universe = vanilla\n"
                   "executable = {program}\n"
                   "arguments = \"{condor_args}\"\n"
                   "getenv = True\n"
                   "queue\n",
                   "universe = vanilla\n"
                   "executable = {program}\n"
                   "arguments = \"{condor_args}\"\n"
                   "getenv = True\n"
                   "queue {n}\n"},
        .output = "output = {output_file}\nerror = {output_file}\n",
    },
    {
        .ops = &launch_batch,
        .submit = "",
        .delete = "",
        .signal = "",
        .job_id = DIGITS,
        .script = {"#!/bin/sh\n{program_and_args}\n", "#!/bin/sh\n{program_and_args}\n"},
    },
};

static const struct batch_system *system_of(const struct launch_ops *ops)
{
    const struct batch_system *s = SYSTEMS;
    while (s->ops != ops)
        s++;
    return s;
}

/* One preparation. */
struct batch {
    const struct batch_system *system;
    const struct launch_ops *ops;
    const struct launch_request *r;
    struct err *e;
    json_t *names; /* what templates may use */
    json_t *order; /* the agent's request */
    struct words env;
    const char *queue, *output;
    char *own_output;
};

static int oom(struct batch *b)
{
    return err_set(b->e, CV_ENOMEM, "out of memory");
}

static int text(struct batch *b, const char *trait, const char *fallback, const char **ret)
{
    return trait_text(b->ops, b->r, trait, fallback, ret, b->e);
}

static int set_name(struct batch *b, const char *name, json_t *value_take)
{
    return json_object_set_new(b->names, name, value_take) ? oom(b) : CV_OK;
}

/* Words as HTCondor reads them: single quotes around what has a blank, and each quote in them
 * twice.
 */
static char *condor_words(char *const *v)
{
    struct buf b = {0};
    int rc = CV_OK;
    for (char *const *p = v; *p && !rc; p++) {
        bool plain = **p && !(*p)[strcspn(*p, " \t'")];
        rc = buf_addf(&b, "%s%s", p == v ? "" : " ", plain ? "" : "'");
        for (const char *c = *p; *c && !rc; c++)
            rc = *c == '\'' || *c == '"' ? buf_addf(&b, "%c%c", *c, *c) : buf_add(&b, c, 1);
        rc = rc || plain ? rc : buf_addstr(&b, "'");
    }
    char *text = rc || !buf_cstr(&b) ? NULL : strdup((const char *)b.data);
    buf_release(&b);
    return text;
}

/* {program}, {program_args}, {program_and_args}, {condor_args}. The controller is told by its
 * arguments where its events go: a script of the user's need not hand down the environment. */
static int name_program(struct batch *b)
{
    struct words w = {0};
    if (b->r->what == LAUNCH_CONTROLLER && b->r->events_file) {
        words_add(&w, "/usr/bin/env");
        words_take(&w, str_printf("COVEY_EVENTS_FILE=%s", b->r->events_file));
    }
    char *all = NULL, *args = NULL, *condor = NULL;
    int rc = words_add_program(&w, b->ops, b->r, 1, b->e);
    if (rc)
        goto out;
    if (w.failed || !(all = words_shell(w.v)) || !(args = words_shell(w.v + 1)) ||
        !(condor = condor_words(w.v + 1)))
        rc = oom(b);
    rc = rc ? rc : set_name(b, "condor_args", json_string(condor));
    rc = rc ? rc : set_name(b, "program", json_string(w.v[0]));
    rc = rc ? rc : set_name(b, "program_args", json_string(args));
    rc = rc ? rc : set_name(b, "program_and_args", json_string(all));
out:
    free(all);
    free(args);
    free(condor);
    words_release(&w);
    return rc;
}

/* {environment_json}: what the job should have in its environment. */
static int name_environment(struct batch *b)
{
    json_t *o = json_object();
    bool failed = !o;
    for (size_t i = 0; i < b->env.n; i++) {
        char *eq = strchr(b->env.v[i], '=');
        char *name = eq ? strndup(b->env.v[i], (size_t)(eq - b->env.v[i])) : NULL;
        failed |= eq && (!name || json_object_set_new(o, name, json_string(eq + 1)));
        free(name);
    }
    char *dump = failed ? NULL : jsontext(o, JSON_COMPACT);
    int rc = dump ? set_name(b, "environment_json", json_string(dump)) : oom(b);
    free(dump);
    json_decref(o);
    return rc;
}

/* As Python writes it; NULL: it is neither a number nor a text. */
static json_t *namespace_value(json_t *v)
{
    return json_is_string(v) || json_is_integer(v) ? json_incref(v)
           : json_is_real(v)                       ? json_sprintf("%.12g", json_real_value(v))
           : json_is_boolean(v)                    ? json_string(json_is_true(v) ? "True" : "False")
                                                   : NULL;
}

/* The numbers and texts of `namespace`, which win over our own names. */
static int name_namespace(struct batch *b)
{
    json_t *own = launch_trait(b->ops, b->r->what, b->r->config, "namespace"), *v;
    const char *name;
    json_object_foreach(own, name, v)
    {
        json_t *value = namespace_value(v);
        int rc =
            value ? set_name(b, name, value)
                  : err_set(b->e, CV_EINVAL, "namespace[%.60s] must be a text or a number", name);
        if (rc)
            return rc;
    }
    return CV_OK;
}

static int name_all(struct batch *b)
{
    static const char *const TRAITS[] = {"account", "qos", "timelimit", "options"};
    bool engines = b->r->what == LAUNCH_ENGINES;
    b->names = json_object();
    b->own_output = str_printf("%s/log/%s.out", b->r->profile_dir, b->r->name);
    if (!b->names || !b->own_output)
        return oom(b);
    int rc = text(b, "queue", "", &b->queue);
    rc = rc ? rc : text(b, "output_file", b->own_output, &b->output);
    rc = rc ? rc : set_name(b, "n", json_integer(engines ? b->r->n : 1));
    rc = rc ? rc : set_name(b, "queue", json_string(b->queue));
    rc = rc ? rc : set_name(b, "output_file", json_string(b->output));
    char *word = words_shell((char *[]){(char *)b->output, NULL});
    rc = rc || word ? rc : oom(b);
    rc = rc ? rc : set_name(b, "output_word", json_string(word));
    free(word);
    rc = rc ? rc : set_name(b, "profile_dir", json_string(b->r->profile_dir));
    rc = rc ? rc : set_name(b, "cluster_id", json_string(b->r->cluster_id));
    for (size_t i = 0; i < sizeof TRAITS / sizeof TRAITS[0] && !rc; i++) {
        const char *value = NULL;
        rc = text(b, TRAITS[i], "", &value);
        rc = rc ? rc : set_name(b, TRAITS[i], json_string(value));
    }
    rc = rc ? rc : name_program(b);
    rc = rc ? rc : name_environment(b);
    return rc ? rc : name_namespace(b);
}

/* ---- the script ---- */

/* A line of the built-in script: its trait, or the table's. */
static int add_line(struct batch *b, struct buf *out, const char *trait, const char *line)
{
    const char *own = NULL;
    int rc = trait ? text(b, trait, NULL, &own) : CV_OK;
    const char *t = own ? own : line;
    if (rc || !t)
        return rc;
    rc = buf_addstr(out, t);
    if (!rc && *t && t[strlen(t) - 1] != '\n')
        rc = buf_addstr(out, "\n");
    return rc ? oom(b) : CV_OK;
}

static int add_slurm_lines(struct batch *b, struct buf *out)
{
    static const char *const LINES[][2] = {{"account", "#SBATCH --account={account}\n"},
                                           {"qos", "#SBATCH --qos={qos}\n"},
                                           {"timelimit", "#SBATCH --time={timelimit}\n"}};
    int rc = CV_OK;
    for (size_t i = 0; i < sizeof LINES / sizeof LINES[0] && !rc; i++) {
        const char *v = json_string_value(json_object_get(b->names, LINES[i][0]));
        rc = v && *v ? add_line(b, out, NULL, LINES[i][1]) : CV_OK;
    }
    return rc;
}

/* The built-in script with what the settings add after its first line. */
static int built_in(struct batch *b, struct buf *out)
{
    const struct batch_system *s = b->system;
    const char *own = NULL;
    int rc = text(b, "default_template", NULL, &own);
    const char *script = own ? own : s->script[b->r->what];
    size_t first = strcspn(script, "\n");
    first += script[first] == '\n';
    rc = rc ? rc : buf_add(out, script, first) ? oom(b) : CV_OK;
    if (!rc && b->r->what == LAUNCH_ENGINES)
        rc = add_line(b, out, "job_array_template", s->array);
    if (!rc && *b->queue)
        rc = add_line(b, out, "queue_template", s->queue);
    rc = rc ? rc : add_line(b, out, "output_template", s->output);
    if (!rc && b->ops == &launch_slurm)
        rc = add_slurm_lines(b, out);
    return rc ? rc : buf_addstr(out, script + first) ? oom(b) : CV_OK;
}

static int find_template(struct batch *b, struct buf *out)
{
    const char *template = NULL, *file = NULL;
    int rc = text(b, "batch_template", NULL, &template);
    rc = rc ? rc : text(b, "batch_template_file", NULL, &file);
    if (rc || (!template && !file))
        return rc ? rc : built_in(b, out);
    if (template)
        return buf_addstr(out, template) ? oom(b) : CV_OK;
    return file_read(file, TEMPLATE_MAX, out, b->e);
}

static int make_script(struct batch *b)
{
    struct buf raw = {0};
    char *script = NULL;
    int rc = find_template(b, &raw);
    if (!rc && !buf_cstr(&raw))
        rc = oom(b);
    rc = rc ? rc : template_fill((const char *)raw.data, b->names, &script, b->e);
    if (!rc && json_object_set_new(b->order, "script", json_string(script)))
        rc = err_set(b->e, CV_EINVAL, "the batch script is not UTF-8");
    free(script);
    buf_release(&raw);
    return rc;
}

/* ---- the agent's request ---- */

static int add_command(struct batch *b, const char *key, const char *trait, const char *command)
{
    struct words w = {0};
    bool own = false;
    int rc = words_add_trait(&w, b->ops, b->r, trait, &own, b->e);
    if (!own)
        for (const char *p = command; *(p += strspn(p, " ")); p += strcspn(p, " "))
            words_take(&w, strndup(p, strcspn(p, " ")));
    if (!rc && !w.n && !strcmp(key, "submit"))
        rc = err_set(b->e, CV_EINVAL, "%s.submit_command must say how a script is submitted",
                     b->ops->classes[b->r->what][0]);
    if (!rc && json_object_set_new(b->order, key, words_json(&w)))
        rc = oom(b);
    words_release(&w);
    return rc;
}

/* What the user's own command says is not known: it is asked for one job at a time. */
static int add_status(struct batch *b)
{
    const struct batch_system *s = b->system;
    struct words w = {0};
    bool own = false;
    int rc = words_add_trait(&w, b->ops, b->r, "status_command", &own, b->e);
    for (size_t i = 0; !own && i < STATUS_WORDS && s->status[i]; i++)
        words_add(&w, s->status[i]);
    if (!rc &&
        (json_object_set_new(b->order, "status", words_json(&w)) ||
         json_object_set_new(b->order, "status_join", json_string(own || !s->join ? "" : s->join))))
        rc = oom(b);
    words_release(&w);
    return rc;
}

static int add_path(struct batch *b)
{
    const char *own = NULL;
    int rc = text(b, "batch_file_name", NULL, &own);
    char *path = own ? strdup(own) : str_printf("%s/log/%s.sh", b->r->profile_dir, b->r->name);
    if (!rc && (!path || json_object_set_new(b->order, "path", json_string(path))))
        rc = oom(b);
    free(path);
    return rc;
}

static int add_job_id(struct batch *b)
{
    const char *regexp = NULL;
    int rc = text(b, "job_id_regexp", NULL, &regexp);
    json_t *group = launch_trait(b->ops, b->r->what, b->r->config, "job_id_regexp_group");
    json_int_t g = regexp ? json_integer_value(group) : b->system->job_id_group;
    json_t *o = json_string(regexp ? regexp : b->system->job_id);
    if (rc)
        json_decref(o);
    else if (json_object_set_new(b->order, "job_id", o) ||
             json_object_set_new(b->order, "job_id_group", json_integer(g)) ||
             json_object_set_new(b->order, "reads_script", json_boolean(b->system->reads_script)))
        rc = oom(b);
    return rc;
}

static int make_order(struct batch *b)
{
    b->order = json_pack("{s:s}", "do", "start");
    int rc = b->order ? make_script(b) : oom(b);
    rc = rc ? rc : add_path(b);
    rc = rc ? rc : add_command(b, "submit", "submit_command", b->system->submit);
    rc = rc ? rc : add_command(b, "delete", "delete_command", b->system->delete);
    rc = rc ? rc : add_command(b, "signal", "signal_command", b->system->signal);
    rc = rc ? rc : add_status(b);
    if (!rc && (json_object_set_new(b->order, "output", json_string(b->output)) ||
                json_object_set_new(b->order, "supervised", json_boolean(b->r->supervised))))
        rc = oom(b);
    return rc ? rc : add_job_id(b);
}

static int batch_prepare(const struct launch_ops *ops, const struct launch_request *r,
                         struct launch_plan *ret, struct err *e)
{
    struct batch b = {.system = system_of(ops), .ops = ops, .r = r, .e = e};
    struct words argv = {0};
    int rc = words_add_environment(&b.env, ops, r, e);
    rc = rc ? rc : name_all(&b);
    rc = rc ? rc : make_order(&b);
    words_take(&argv, path_join(r->program_dir, "ipcluster"));
    words_add(&argv, "batch-job");
    words_add(&b.env, "COVEY_EVENTS_FD");
    words_add(&b.env, "COVEY_CONFIG"); /* a path of this machine */
    struct launch_plan p = {.argv = argv.v, .env = b.env.v};
    if (!rc) {
        p.input = jsontext(b.order, JSON_COMPACT | JSON_SORT_KEYS);
        rc = argv.failed || b.env.failed || !p.input ? oom(&b) : CV_OK;
    }
    json_decref(b.names);
    json_decref(b.order);
    free(b.own_output);
    if (rc) {
        launch_plan_release(&p);
        return rc;
    }
    *ret = p;
    return CV_OK;
}

#define CLASSES(kind, name)                                                                        \
    static const char *const kind##_CONTROLLER[] = {                                               \
        name "ControllerLauncher", name "Launcher", "BatchSystemLauncher",                         \
        "ControllerLauncher",      "BaseLauncher",  NULL};                                         \
    static const char *const kind##_ENGINES[] = {name "EngineSetLauncher", name "Launcher",        \
                                                 "BatchSystemLauncher",    "EngineLauncher",       \
                                                 "BaseLauncher",           NULL}

CLASSES(SLURM, "Slurm");
CLASSES(PBS, "PBS");
CLASSES(SGE, "SGE");
CLASSES(LSF, "LSF");
CLASSES(HTCONDOR, "HTCondor");
CLASSES(BATCH, "BatchSystem");

static const char *const PBS_ALIASES[] = {"torque", "pbspro", NULL};
static const char *const HTCONDOR_ALIASES[] = {"condor", NULL};
static const char *const BATCH_ALIASES[] = {"batchsystem", NULL};

#define SYSTEM(variable, word, kind, also)                                                         \
    const struct launch_ops launch_##variable = {                                                  \
        .name = #variable,                                                                         \
        .cls = word,                                                                               \
        .aliases = also,                                                                           \
        .flags = LAUNCH_AGENT | LAUNCH_EVENTS_FILE | LAUNCH_ELSEWHERE,                             \
        .classes = {kind##_CONTROLLER, kind##_ENGINES},                                            \
        .prepare = batch_prepare,                                                                  \
        LAUNCH_JOB_FUNCTIONS,                                                                      \
    }

SYSTEM(slurm, "Slurm", SLURM, NULL);
SYSTEM(pbs, "PBS", PBS, PBS_ALIASES);
SYSTEM(sge, "SGE", SGE, NULL);
SYSTEM(lsf, "LSF", LSF, NULL);
SYSTEM(htcondor, "HTCondor", HTCONDOR, HTCONDOR_ALIASES);
SYSTEM(batch, "Batch", BATCH, BATCH_ALIASES);
