/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster list: the clusters of all profiles, or of the one that was named, as a table or as
 * JSON: cluster files with "running", "profile" and "cluster" added, the last one for programs that
 * look for the id where ipyparallel has it. A cluster of this machine that has ended without
 * removing its file is shown once more, as not running; the file goes then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cluster/clusterfile.h"
#include "cluster/profile.h"
#include "cluster/verbs.h"

struct listing {
    const struct settings *s;
    json_t *list;
};

static int add_file(void *arg, const char *path, json_t *o)
{
    const struct listing *l = arg;
    const char *dir = json_string_value(json_object_get(o, "profile_dir"));
    if (clusterfile_others(o))
        log_warn(l->s->log,
                 "the cluster of %s is not listed: it is of ipyparallel's own programs, whose "
                 "`ipcluster` shows and stops it",
                 path);
    if (clusterfile_foreign(o))
        return CV_OK;
    json_object_set_new(o, "running", json_boolean(clusterfile_running(o)));
    json_object_set_new(o, "profile", json_string(profile_name(dir ? dir : "")));
    json_object_set_new(o, "cluster_file", json_string(path));
    json_object_set_new(o, "cluster",
                        json_pack("{s:O?, s:s}", "cluster_id", json_object_get(o, "cluster_id"),
                                  "profile_dir", dir ? dir : ""));
    if (json_array_append(l->list, o))
        return CV_ENOMEM;
    if (clusterfile_over(o)) {
        int ignored = unlink(path); /* in a folder that can't be written it stays */
        (void)ignored;
    }
    return CV_OK;
}

static int add_profile(void *arg, const char *dir)
{
    return clusterfile_each(dir, add_file, arg);
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static long long engines_of(const json_t *o)
{
    const char *id;
    json_t *set;
    long long n = 0;
    json_object_foreach(json_object_get(o, "engines"), id, set)
    {
        n += json_integer_value(json_object_get(set, "n"));
    }
    return n;
}

static const char *launcher_of(const json_t *o)
{
    const char *id;
    json_t *set;
    json_object_foreach(json_object_get(o, "engines"), id, set)
    {
        const char *own = text_of(set, "launcher");
        return *own ? own : text_of(set, "class");
    }
    return "";
}

static void print_table(const json_t *list)
{
    size_t i;
    json_t *o;
    printf("%-16s %-32s %-7s %-7s %s\n", "PROFILE", "CLUSTER ID", "RUNNING", "ENGINES", "LAUNCHER");
    json_array_foreach(list, i, o)
    {
        const char *id = text_of(o, "cluster_id");
        printf("%-16s %-32s %-7s %-7lld %s\n", text_of(o, "profile"), *id ? id : "''",
               json_is_true(json_object_get(o, "running")) ? "True" : "False", engines_of(o),
               launcher_of(o));
    }
}

int verb_list(const struct settings *s)
{
    json_t *list = json_array();
    struct listing l = {.s = s, .list = list};
    int rc = !list              ? CV_ENOMEM
             : s->profile_named ? add_profile(&l, s->profile_dir)
                                : profile_each(s->ipython_dir, add_profile, &l);
    if (rc)
        log_error(s->log, "can't list the clusters (%s)", err_name(rc));
    else if (s->json)
        json_dumpf(list, stdout, JSON_COMPACT);
    else
        print_table(list);
    json_decref(list);
    return rc ? EXIT_FAILED : EXIT_FINE;
}
