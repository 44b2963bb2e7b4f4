/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of back ends, and their names in the spellings of every era (launch.h). Any thread. */
#include "launch/launch.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct launch_ops *const OPS[] = {&launch_local};
#define NOPS (sizeof OPS / sizeof OPS[0])

/* What people may ask for by stock's names and this version doesn't have. */
static const char *const KNOWN[] = {
    "ssh", "sshproxy", "mpi",      "mpiexec", "slurm", "pbs",    "torque",
    "sge", "lsf",      "htcondor", "condor",  "batch", "winhpc", "windowshpc",
};

static bool cut_suffix(char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    if (n < k || strcmp(s + n - k, suffix))
        return false;
    s[n - k] = 0;
    return true;
}

/* "a.b.MPIEngineSetLauncher" → "mpi": the last word, lower case, without what kind of launcher it
 * is. */
static void short_name(const char *name, char *out, size_t size)
{
    const char *word = name + strlen(name);
    while (word > name && word[-1] != '.' && word[-1] != ':')
        word--;
    size_t n = 0;
    for (; *word && n + 1 < size; word++)
        if (*word != '-' && *word != '_')
            out[n++] = (char)tolower((unsigned char)*word);
    out[n] = 0;
    cut_suffix(out, "launcher");
    if (!cut_suffix(out, "engineset") && !cut_suffix(out, "engine"))
        cut_suffix(out, "controller");
}

int launch_find(const char *name, const struct launch_ops **ret, struct err *e)
{
    char s[64];
    if (!name || !*name) {
        *ret = &launch_local;
        return CV_OK;
    }
    short_name(name, s, sizeof s);
    for (size_t i = 0; i < NOPS; i++)
        if (!strcmp(s, OPS[i]->name)) {
            *ret = OPS[i];
            return CV_OK;
        }
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++)
        if (!strcmp(s, KNOWN[i]))
            return err_set(
                e, CV_EINVAL,
                "the launcher \"%.80s\" is not available yet in this version; there is: local",
                name);
    return err_set(e, CV_EINVAL,
                   "there is no launcher \"%.80s\" (classes of your own are not available yet in "
                   "this version); there is: "
                   "local",
                   name);
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
    *p = (struct launch_plan){0};
}
