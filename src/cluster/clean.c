/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster clean: removes logs, and cluster and connection files that nobody uses any more. What
 * runs is left alone and makes it fail, unless it is to be stopped (--force). */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "cluster/clusterfile.h"
#include "cluster/profile.h"
#include "cluster/verbs.h"

struct clean {
    const struct settings *s;
    bool running, failed;
    unsigned removed;
};

static int clean_cluster(void *arg, const char *path, json_t *o)
{
    struct clean *c = arg;
    struct err e;
    bool running = clusterfile_running(o);
    if (!running && clusterfile_elsewhere(o) && !c->s->force) {
        c->running = true;
        log_error(c->s->log,
                  "the cluster of %s was started on %s and can't be seen from here: stop it there, "
                  "or clean with --force",
                  path, clusterfile_elsewhere(o));
    } else if (clusterfile_others(o) && !c->s->force) {
        c->running = true;
        log_error(c->s->log,
                  "the cluster of %s runs, by ipyparallel's own programs: stop it with their "
                  "`ipcluster stop` first, or clean with --force",
                  path);
    } else if (!running && cluster_undo(o, &e) && !c->s->force) {
        c->failed = true;
        log_error(c->s->log, "%s; `ipcluster clean --force` forgets it", e.text);
    } else if (!running) {
        c->removed += !unlink(path);
    } else if (!c->s->force) {
        c->running = true;
        log_error(c->s->log,
                  "the cluster of %s runs: `ipcluster stop` it first, or clean with --force", path);
    } else if (cluster_stop(c->s, path, o, &e)) {
        c->failed = true;
        log_error(c->s->log, "%s", e.text);
    }
    return CV_OK;
}

static void remove_matching(struct clean *c, const char *dir, const char *folder,
                            const char *prefix, const char *suffix)
{
    char *path = str_printf("%s/%s", dir, folder);
    DIR *d = path ? opendir(path) : NULL;
    for (struct dirent *f; d && (f = readdir(d));) {
        size_t n = strlen(f->d_name), k = strlen(suffix);
        struct stat st;
        if (strncmp(f->d_name, prefix, strlen(prefix)) || n < k ||
            strcmp(f->d_name + n - k, suffix))
            continue;
        if (!fstatat(dirfd(d), f->d_name, &st, AT_SYMLINK_NOFOLLOW) && !S_ISDIR(st.st_mode))
            c->removed += !unlinkat(dirfd(d), f->d_name, 0);
    }
    if (d)
        closedir(d);
    free(path);
}

static int clean_profile(void *arg, const char *dir)
{
    struct clean *c = arg;
    bool ran_before = c->running;
    c->running = false;
    int rc = clusterfile_each(dir, clean_cluster, c);
    if (!rc && !c->running) {
        remove_matching(c, dir, "log", "", "");
        remove_matching(c, dir, "security", "ipcontroller-", ".json");
        if (!c->failed) /* those that are left can't be read, and name no cluster */
            remove_matching(c, dir, "security", "cluster-", ".json");
    }
    c->running |= ran_before;
    return rc;
}

int verb_clean(const struct settings *s)
{
    struct clean c = {.s = s};
    int rc = s->all ? profile_each(s->ipython_dir, clean_profile, &c)
                    : clean_profile(&c, s->profile_dir);
    log_info(s->log, "Removed %u file%s", c.removed, c.removed == 1 ? "" : "s");
    return rc || c.running || c.failed ? EXIT_FAILED : EXIT_FINE;
}
