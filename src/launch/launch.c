/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of back ends, and their names in the spellings of every era (launch.h). Any thread. */
#include "launch/launch.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct launch_ops *const OPS[] = {
    &launch_local, &launch_mpi,      &launch_slurm, &launch_pbs, &launch_sge,
    &launch_lsf,   &launch_htcondor, &launch_batch, &launch_ssh, &launch_sshproxy,
};
#define NOPS (sizeof OPS / sizeof OPS[0])

static bool cut_suffix(char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    if (n < k || strcmp(s + n - k, suffix))
        return false;
    s[n - k] = 0;
    return true;
}

static const char *last_word(const char *name)
{
    const char *word = name + strlen(name);
    while (word > name && word[-1] != '.' && word[-1] != ':')
        word--;
    return word;
}

/* The modules that launchers of stock have been in. */
static bool stock_path(const char *name)
{
    static const char *const PATHS[] = {"IPython.parallel.apps.launcher",
                                        "ipyparallel.apps.launcher", "ipyparallel.cluster.launcher",
                                        "covey.launcher"};
    size_t n = (size_t)(last_word(name) - name);
    if (!n)
        return true;
    for (size_t i = 0; i < sizeof PATHS / sizeof PATHS[0]; i++)
        if (strlen(PATHS[i]) == n - 1 && !strncasecmp(name, PATHS[i], n - 1))
            return true;
    return false;
}

/* "a.b.MPIEngineSetLauncher" → "mpi": the last word, lower case, without what kind of launcher it
 * is. */
static void short_name(const char *name, char *out, size_t size)
{
    size_t n = 0;
    for (const char *word = last_word(name); *word && n + 1 < size; word++)
        if (*word != '-' && *word != '_')
            out[n++] = (char)tolower((unsigned char)*word);
    out[n] = 0;
    cut_suffix(out, "launcher");
    if (!cut_suffix(out, "engineset") && !cut_suffix(out, "engine"))
        cut_suffix(out, "controller");
}

static bool is_called(const struct launch_ops *ops, const char *name)
{
    if (!strcmp(name, ops->name))
        return true;
    for (const char *const *a = ops->aliases; a && *a; a++)
        if (!strcmp(name, *a))
            return true;
    return false;
}

/* What stock has and this version has not. */
static const char *missing(const char *name)
{
    static const char *const MISSING[][2] = {
        {"winhpc", "Windows HPC is not supported: covey runs on Linux"},
        {"windowshpc", "Windows HPC is not supported: covey runs on Linux"},
    };
    for (size_t i = 0; i < sizeof MISSING / sizeof MISSING[0]; i++)
        if (!strcmp(name, MISSING[i][0]))
            return MISSING[i][1];
    return NULL;
}

int launch_find(const char *name, const struct launch_ops **ret, struct err *e)
{
    char s[64] = "";
    if (!name || !*name) {
        *ret = &launch_local;
        return CV_OK;
    }
    if (stock_path(name))
        short_name(name, s, sizeof s);
    for (size_t i = 0; i < NOPS && *s; i++)
        if (is_called(OPS[i], s)) {
            *ret = OPS[i];
            return CV_OK;
        }
    if (missing(s))
        return err_set(e, CV_EINVAL,
                       "launcher \"%.80s\": %s; there are local, ssh, sshproxy, mpi, slurm, pbs, "
                       "sge, lsf, htcondor, batch",
                       name, missing(s));
    *ret = &launch_python;
    return CV_OK;
}

static void free_strings(char **v)
{
    for (char **p = v; p && *p; p++)
        free(*p);
    free(v);
}

void launch_plan_release(struct launch_plan *p)
{
    free_strings(p->argv);
    free_strings(p->env);
    free(p->cwd);
    free(p->input);
    *p = (struct launch_plan){0};
}
