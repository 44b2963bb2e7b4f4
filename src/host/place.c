/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See place.h. At the host's start. */
#include "host/place.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"

#define GPUS_MAX 256
#define VISIBLE "CUDA_VISIBLE_DEVICES"

/* Which of the machine's hosts this is. */
static uint32_t first_place(void)
{
    static const char *const names[] = {"COVEY_PLACE", "SLURM_LOCALID",
                                        "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID",
                                        "PALS_LOCAL_RANKID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = getenv(names[i]);
        char *end;
        long n = text && *text ? strtol(text, &end, 10) : -1;
        if (n >= 0 && n < 1 << 20 && !*end)
            return (uint32_t)n;
    }
    return 0;
}

static int add_variables(json_t *env, const json_t *templates, uint32_t place, struct err *e)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)templates, name, v)
    {
        char *text = str_place(json_string_value(v), place);
        int bad = !text || json_object_set_new(env, name, json_string(text));
        free(text);
        if (bad)
            return err_set(e, CV_ENOMEM, "out of memory");
    }
    return CV_OK;
}

/* ---- GPUs ---- */

struct gpus {
    char *names[GPUS_MAX]; /* inside `text` */
    char *text;            /* own: what CUDA_VISIBLE_DEVICES says; NULL: unset, all are visible */
    uint32_t n;            /* how many there are; 0: unknown */
};

static int gpus_find(struct gpus *g, struct err *e)
{
    const char *visible = getenv(VISIBLE);
    char *rest, *name;
    *g = (struct gpus){0};
    if (!visible) {
        char path[32];
        while (g->n < GPUS_MAX && snprintf(path, sizeof path, "/dev/nvidia%u", g->n) &&
               access(path, F_OK) == 0)
            g->n++;
        return CV_OK;
    }
    rest = g->text = strdup(visible);
    if (!g->text)
        return err_set(e, CV_ENOMEM, "out of memory");
    while ((name = strsep(&rest, ",")) && g->n < GPUS_MAX)
        if (*name)
            g->names[g->n++] = name;
    return CV_OK;
}

/* Are there enough? *first moves to 0 where a batch system has given this host a share already. */
static int gpus_check(const struct gpus *g, const struct options *o, uint32_t *first, struct err *e)
{
    uint64_t wanted = (uint64_t)o->n * o->gpus, have = g->n;
    if (!have && !g->text)
        return CV_OK; /* nothing says how many there are */
    if (have >= (*first * (uint64_t)o->gpus + wanted))
        return CV_OK;
    if (g->text && have >= wanted) {
        *first = 0;
        return CV_OK;
    }
    return err_set(
        e, CV_EINVAL,
        "gpus_per_engine=%u: %u engine%s here need%s %llu GPU%s, but %s %llu; start fewer "
        "engines or give each fewer",
        o->gpus, o->n, o->n == 1 ? "" : "s", o->n == 1 ? "s" : "",
        (unsigned long long)(*first * (uint64_t)o->gpus + wanted),
        *first * (uint64_t)o->gpus + wanted == 1 ? "" : "s",
        g->text ? VISIBLE " names" : "this machine has", (unsigned long long)have);
}

static int add_gpus(json_t *env, const struct gpus *g, uint32_t place, uint32_t each, struct err *e)
{
    struct buf b = {0};
    int rc = CV_OK;
    for (uint32_t i = place * each; i < (place + 1) * each && !rc; i++) {
        rc = b.len ? buf_addstr(&b, ",") : CV_OK;
        rc = rc ? rc : g->text ? buf_addstr(&b, g->names[i]) : buf_addf(&b, "%u", i);
    }
    if (!rc && json_object_set_new(env, VISIBLE, json_stringn((const char *)b.data, b.len)))
        rc = CV_ENOMEM;
    buf_release(&b);
    return rc ? err_set(e, rc, "out of memory") : CV_OK;
}

int place_environments(json_t **ret, const struct options *o, struct err *e)
{
    uint32_t first = first_place() * o->n, gpu_first = first;
    json_t *all = json_array();
    struct gpus g = {0};
    int rc = all ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
    if (!rc && o->gpus)
        rc = gpus_find(&g, e);
    if (!rc && o->gpus)
        rc = gpus_check(&g, o, &gpu_first, e);
    for (uint32_t i = 0; i < o->n && !rc; i++) {
        json_t *env = json_object();
        rc = env ? add_variables(env, o->environment, first + i, e)
                 : err_set(e, CV_ENOMEM, "out of memory");
        if (!rc && o->gpus)
            rc = add_gpus(env, &g, gpu_first + i, o->gpus, e);
        if (json_array_append_new(all, env) && !rc)
            rc = err_set(e, CV_ENOMEM, "out of memory");
    }
    free(g.text);
    if (rc)
        json_decref(all);
    else
        *ret = all;
    return rc;
}
