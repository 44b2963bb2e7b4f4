/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Config files (conffile.h). Blocks while Python evaluates; before the loop runs. */
#include "cluster/conffile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "proc/spawn.h"

#define FILE_MAX (4u << 20)

static int merge_file(struct config *c, const char *path, struct err *e)
{
    struct buf b = {0};
    int rc = file_read(path, FILE_MAX, &b, e);
    if (rc)
        return rc;
    rc = config_merge(c, (const char *)b.data, b.len, e);
    buf_release(&b);
    return rc ? err_wrap(e, rc, "%s", path) : CV_OK;
}

/* Has a Python file a line that does something? A missing one has not. */
static bool is_active(const char *path)
{
    struct buf b = {0};
    bool active = false;
    if (file_read(path, FILE_MAX, &b, NULL))
        return false;
    const char *text = buf_cstr(&b);
    for (const char *p = text; p && *p && !active;) {
        p += strspn(p, " \t\r\f\n");
        if (*p == '#')
            p += strcspn(p, "\n");
        else
            active = *p != 0;
    }
    buf_release(&b);
    return active;
}

static int read_to_end(int fd, struct buf *out, struct err *e)
{
    for (;;) {
        if (out->len > FILE_MAX || buf_reserve(out, 4096))
            return err_set(e, CV_ELIMIT, "the config is too large");
        ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, "can't read the config from Python");
        if (n == 0)
            return CV_OK;
        out->len += (size_t)n;
    }
}

/* PYTHON -m covey.config ipcluster --profile-dir=DIR [--config FILE]: its output is the tree, its
 * errors go to ours. */
static int evaluate(struct config *c, const char *profile_dir, const char *extra,
                    const char *python, struct err *e)
{
    int fds[2], status, rc;
    pid_t pid;
    struct buf out = {0};
    char *dir_arg = str_printf("--profile-dir=%s", profile_dir);
    const char *const argv[] = {
        python, "-m", "covey.config", "ipcluster", dir_arg, extra ? "--config" : NULL, extra, NULL};
    struct spawn s = {.argv = argv, .stdin_fd = SPAWN_NULL, .stderr_fd = SPAWN_INHERIT};
    if (!dir_arg)
        return err_set(e, CV_ENOMEM, "out of memory");
    if (pipe2(fds, O_CLOEXEC)) {
        free(dir_arg);
        return err_sys(e, "can't make a pipe");
    }
    s.stdout_fd = fds[1];
    rc = process_spawn(&s, &pid, e);
    close(fds[1]);
    if (!rc) {
        rc = read_to_end(fds[0], &out, e);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (!rc && (!WIFEXITED(status) || WEXITSTATUS(status)))
            rc = err_set(e, CV_EINVAL, "a config file of %s has an error (see above)", profile_dir);
        rc = rc ? rc : config_merge(c, (const char *)out.data, out.len, e);
    }
    close(fds[0]);
    buf_release(&out);
    free(dir_arg);
    return rc;
}

int conffile_load(struct config *c, const char *profile_dir, const char *extra, const char *python,
                  struct err *e)
{
    const char *given = getenv("COVEY_CONFIG");
    if (given && *given)
        return merge_file(c, given, e);
    char *py = path_join(profile_dir, "ipcluster_config.py"),
         *json = path_join(profile_dir, "ipcluster_config.json");
    int rc = py && json ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
    size_t n = extra ? strlen(extra) : 0;
    bool extra_json = n > 5 && !strcmp(extra + n - 5, ".json");
    if (!rc && (is_active(py) || (extra && !extra_json))) {
        rc = evaluate(c, profile_dir, extra, python, e); /* merges the .json files too */
    } else if (!rc) {
        rc = access(json, F_OK) ? CV_OK : merge_file(c, json, e);
        rc = rc || !extra ? rc : merge_file(c, extra, e);
    }
    free(py);
    free(json);
    return rc;
}
