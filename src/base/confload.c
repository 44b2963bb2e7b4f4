/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See confload.h. The order of the files is that of python/covey/config.py, which does the same
 * as soon as one of them is Python. Any thread; blocks. A failure may leave c with a part of the
 * files. */
#include "base/confload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"

#define CONFIG_MAX (16u << 20)
#define FOLDERS 4

extern char **environ;

static const char *env_of(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static const char *text_of(const struct config *c, const char *cls, const char *trait)
{
    const char *text = NULL;
    return config_str(c, cls, trait, &text, NULL) == CV_OK && text && *text ? text : NULL;
}

char *confload_absolute(const char *path)
{
    const char *home = env_of("HOME");
    char folder[PATH_MAX];
    if (path[0] == '~' && (path[1] == '/' || !path[1]))
        return path_join(home ? home : "/", path[1] ? path + 2 : "");
    if (path[0] != '/' && getcwd(folder, sizeof folder))
        return path_join(folder, path);
    return strdup(path);
}

int confload_profile_dir(const struct config *cli, const char *cls, char **ret, struct err *e)
{
    const char *folder = text_of(cli, "ProfileDir", "location"),
               *root = text_of(cli, cls, "ipython_dir"), *name = text_of(cli, cls, "profile");
    char *path = NULL;
    if (!folder)
        folder = env_of("IPP_PROFILE_DIR");
    if (!root)
        root = env_of("IPYTHONDIR");
    if (folder) {
        path = confload_absolute(folder);
    } else {
        char *base = confload_absolute(root ? root : "~/.ipython");
        char *leaf = str_printf("profile_%s", name ? name : "default");
        path = base && leaf ? path_join(base, leaf) : NULL;
        free(base);
        free(leaf);
    }
    if (!path)
        return err_set(e, CV_ENOMEM, "out of memory");
    *ret = path;
    return CV_OK;
}

static bool is_json(const char *path)
{
    size_t n = strlen(path);
    return n >= 5 && strcmp(path + n - 5, ".json") == 0;
}

/* Python allows blanks before a comment, and JSON has none. */
bool confload_active(const char *path)
{
    struct buf b = {0};
    bool active = false, blank = true;
    if (file_read(path, CONFIG_MAX, &b, NULL) != CV_OK)
        return false;
    for (size_t i = 0; i < b.len && !active; i++) {
        char c = (char)b.data[i];
        if (c == '\n')
            blank = true;
        else if (blank && c == '#')
            blank = false; /* the rest of the line says nothing */
        else if (blank && !strchr(" \t\r\f", c))
            active = true;
    }
    buf_release(&b);
    return active;
}

/* --- by Python --- */

static int read_all(int fd, struct buf *out, struct err *e)
{
    for (;;) {
        if (out->len > CONFIG_MAX)
            return err_set(e, CV_ELIMIT, "the config is too large");
        if (buf_reserve(out, 16384) != CV_OK)
            return err_set(e, CV_ENOMEM, "out of memory");
        ssize_t n = read(fd, out->data + out->len, 16384);
        if (n < 0 && errno != EINTR)
            return err_sys(e, "can't read the config from Python");
        if (n == 0)
            return CV_OK;
        if (n > 0)
            out->len += (size_t)n;
    }
}

/* Starts python with its standard output in *ret_fd. */
static int start_python(const char *python, const char *const *argv, pid_t *ret_pid, int *ret_fd,
                        struct err *e)
{
    posix_spawn_file_actions_t fa;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(e, "can't read the config from Python");
    posix_spawn_file_actions_init(&fa);
    int code = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    code = code ? code : posix_spawn_file_actions_adddup2(&fa, fds[1], 1);
    code = code ? code : posix_spawnp(ret_pid, python, &fa, NULL, (char **)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(fds[1]);
    if (code == 0) {
        *ret_fd = fds[0];
        return CV_OK;
    }
    close(fds[0]);
    errno = code;
    return err_sys(e, "can't run %s for the config files", python);
}

static int run_python(struct config *c, const char *app, const char *profile_dir, const char *extra,
                      const char *python, struct err *e)
{
    char *folder = str_printf("--profile-dir=%s", profile_dir);
    const char *const argv[] = {
        python, "-m", "covey.config", app, folder, extra ? "--config" : NULL, extra, NULL};
    struct buf out = {0};
    int fd = -1, status = 0;
    pid_t pid;
    int rc =
        folder ? start_python(python, argv, &pid, &fd, e) : err_set(e, CV_ENOMEM, "out of memory");
    free(folder);
    if (rc != CV_OK)
        return rc;
    rc = read_all(fd, &out, e);
    close(fd);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (rc == CV_OK && WIFSIGNALED(status))
        rc =
            err_set(e, CV_EINVAL, "%s was killed by signal %d while it read the config files of %s",
                    python, WTERMSIG(status), profile_dir);
    else if (rc == CV_OK && status != 0)
        rc = err_set(e, CV_EINVAL, "the config files in %s have an error (it is shown above)",
                     profile_dir);
    if (rc == CV_OK && (rc = config_merge(c, (const char *)out.data, out.len, e)) != CV_OK)
        err_wrap(e, rc, "%s -m covey.config", python);
    buf_release(&out);
    return rc;
}

/* --- here --- */

static int merge_json(struct config *c, const char *path, bool must_exist, struct err *e)
{
    struct buf b = {0};
    int rc = file_read(path, CONFIG_MAX, &b, e);
    if (rc == CV_ENOENT && !must_exist)
        rc = CV_OK;
    else if (rc == CV_OK && (b.len > 0 || must_exist) &&
             (rc = config_merge(c, (const char *)b.data, b.len, e)) != CV_OK)
        err_wrap(e, rc, "%s", path);
    if (rc == CV_OK && b.len > 0)
        rc = config_source(c, path);
    buf_release(&b);
    return rc;
}

/* PREFIX/etc/ipython of an interpreter that is named with its path, malloc'ed; NULL: no such
 * folder. */
static char *prefix_folder(const char *python)
{
    const char *slash = strrchr(python, '/');
    if (!slash)
        return NULL;
    char *path = str_printf("%.*s/../etc/ipython", (int)(slash - python), python);
    if (path && access(path, F_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* Goes through all files in order until visit() returns non-zero, and returns that. */
static int each_file(const char *const folders[FOLDERS], const char *app, const char *suffix,
                     int (*visit)(void *arg, const char *path, struct err *e), void *arg,
                     struct err *e)
{
    const char *const bases[] = {"ipython", app};
    char path[PATH_MAX];
    int rc = 0;
    for (size_t i = 0; i < 2 * FOLDERS && rc == 0; i++) {
        if (!folders[i / 2])
            continue;
        snprintf(path, sizeof path, "%s/%s_config.%s", folders[i / 2], bases[i % 2], suffix);
        rc = visit(arg, path, e);
    }
    return rc;
}

static int visit_active(void *arg, const char *path, struct err *e)
{
    return confload_active(path);
}

/* Python has read it. */
static int visit_source(void *arg, const char *path, struct err *e)
{
    return access(path, R_OK) ? CV_OK : config_source(arg, path);
}

static int visit_json(void *arg, const char *path, struct err *e)
{
    return merge_json(arg, path, false, e);
}

int confload_files(struct config *c, const char *app, const char *profile_dir, const char *extra,
                   const char *python, struct err *e)
{
    const char *handed = env_of("COVEY_CONFIG");
    if (handed)
        return merge_json(c, handed, true, e);
    if (extra && access(extra, R_OK) < 0)
        return err_sys(e, "the config file %s can't be read", extra);
    char *prefix = prefix_folder(python);
    const char *const folders[FOLDERS] = {"/etc/ipython", "/usr/local/etc/ipython", prefix,
                                          profile_dir};
    int rc;
    if ((extra && !is_json(extra) && confload_active(extra)) ||
        each_file(folders, app, "py", visit_active, NULL, NULL)) {
        rc = run_python(c, app, profile_dir, extra, python, e);
        rc = rc ? rc : each_file(folders, app, "py", visit_source, c, e);
        rc = rc ? rc : each_file(folders, app, "json", visit_source, c, e);
        rc = rc || !extra ? rc : config_source(c, extra);
    } else if ((rc = each_file(folders, app, "json", visit_json, c, e)) == CV_OK && extra &&
               is_json(extra))
        rc = merge_json(c, extra, true, e);
    free(prefix);
    return rc;
}

int confload_all(struct config *ret, const struct schema *schema, struct config *cli,
                 const char *cls, const char *profile_dir, FILE *notices, bool files_told,
                 struct err *e)
{
    FILE *of_files = files_told ? NULL : notices;
    const char *extra = NULL, *python = "python3";
    int rc = config_str(cli, cls, "extra_config_file", &extra, e);
    rc = rc ? rc : config_str(cli, cls, "python", &python, e);
    rc = rc ? rc : confload_files(ret, schema->app, profile_dir, extra, python, e);
    rc = rc ? rc : schema_rename(schema, ret, of_files, e);
    rc = rc ? rc : schema_rename(schema, cli, notices, e);
    if (rc == CV_OK && files_told)
        schema_check(schema, cli, notices);
    rc = rc ? rc : config_overlay(ret, cli, e);
    if (rc == CV_OK)
        schema_check(schema, ret, of_files);
    return rc;
}
