/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cluster files (clusterfile.h). Blocking file I/O. */
#include "cluster/clusterfile.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "launch/launch.h"

#define FILE_MAX (1u << 20)
#define PREFIX "cluster-"
#define SUFFIX ".json"

char *clusterfile_path(const char *profile_dir, const char *cluster_id)
{
    return str_printf("%s/security/" PREFIX "%s" SUFFIX, profile_dir, cluster_id ? cluster_id : "");
}

int clusterfile_read(const char *path, json_t **ret, struct err *e)
{
    struct buf b = {0};
    int rc = file_read(path, FILE_MAX, &b, e);
    if (rc)
        return rc;
    json_t *o = json_loadb((const char *)b.data, b.len, 0, NULL);
    buf_release(&b);
    if (!json_is_object(o)) {
        json_decref(o);
        return err_set(e, CV_EINVAL, "%s is not a cluster file", path);
    }
    *ret = o;
    return CV_OK;
}

int clusterfile_write(const char *path, const json_t *o, struct err *e)
{
    char *text = jsontext(o, JSON_INDENT(2));
    if (!text)
        return err_set(e, CV_ENOMEM, "out of memory");
    int rc = file_write_atomic(path, 0600, text, strlen(text), e);
    free(text);
    return rc;
}

static bool job_runs(const json_t *o)
{
    const struct launch_ops *ops;
    struct launch_job job;
    return json_is_object(o) &&
           !launch_find(json_string_value(json_object_get(o, "class")), &ops, NULL) &&
           !ops->restore(o, &job, NULL) && ops->poll(&job);
}

/* The supervisor is a process of this machine whatever launches the rest. */
bool clusterfile_supervised(const json_t *o)
{
    struct launch_job job;
    return !launch_local.restore(o, &job, NULL) && launch_local.poll(&job);
}

bool clusterfile_running(const json_t *o)
{
    const char *id;
    json_t *set;
    if (clusterfile_supervised(o) || job_runs(json_object_get(o, "controller")))
        return true;
    json_object_foreach(json_object_get(o, "engines"), id, set)
    {
        if (job_runs(set))
            return true;
    }
    return false;
}

static bool is_local(const json_t *o)
{
    const struct launch_ops *ops;
    return !o || (!launch_find(json_string_value(json_object_get(o, "class")), &ops, NULL) &&
                  ops == &launch_local);
}

const char *clusterfile_elsewhere(const json_t *o)
{
    const char *host = json_string_value(json_object_get(o, "host"));
    char here[256] = "";
    return host && !gethostname(here, sizeof here - 1) && strcmp(host, here) ? host : NULL;
}

bool clusterfile_over(const json_t *o)
{
    const char *id;
    json_t *set;
    if (!json_object_get(o, "host") || clusterfile_elsewhere(o) || clusterfile_running(o) ||
        !is_local(json_object_get(o, "controller")))
        return false;
    json_object_foreach(json_object_get(o, "engines"), id, set)
    {
        if (!is_local(set))
            return false;
    }
    return true;
}

bool clusterfile_foreign(const json_t *o)
{
    return json_is_object(json_object_get(o, "cluster")) && !json_object_get(o, "pid");
}

bool clusterfile_others(const json_t *o)
{
    const json_t *state = json_object_get(json_object_get(o, "controller"), "state");
    json_int_t pid = json_integer_value(json_object_get(state, "pid"));
    struct buf b = {0};
    char *path =
        clusterfile_foreign(o) && pid > 0 ? str_printf("/proc/%lld/cmdline", (long long)pid) : NULL;
    bool runs = path && !file_read(path, FILE_MAX, &b, NULL) && b.len &&
                memmem(b.data, b.len, "ipyparallel", strlen("ipyparallel"));
    buf_release(&b);
    free(path);
    return runs;
}

static int is_cluster_file(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n >= strlen(PREFIX SUFFIX) && !strncmp(d->d_name, PREFIX, strlen(PREFIX)) &&
           !strcmp(d->d_name + n - strlen(SUFFIX), SUFFIX);
}

int clusterfile_each(const char *profile_dir, int (*cb)(void *arg, const char *path, json_t *o),
                     void *arg)
{
    struct dirent **found;
    char *security = path_join(profile_dir, "security");
    int n = security ? scandir(security, &found, is_cluster_file, alphasort) : -1,
        rc = security ? CV_OK : CV_ENOMEM;
    for (int i = 0; i < n; i++) {
        json_t *o;
        char *path = rc ? NULL : path_join(security, found[i]->d_name);
        if (path && !clusterfile_read(path, &o, NULL)) {
            rc = cb(arg, path, o);
            json_decref(o);
        }
        free(path);
        free(found[i]);
    }
    if (n >= 0)
        free(found);
    free(security);
    return rc;
}
