/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See confload.h. Runs before the loop starts, so that waiting for Python here blocks nobody. */
#include "controller/confload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"

#define CONFIG_MAX (16u << 20)

extern char **environ;

static const char *text_of(const struct config *c, const char *cls, const char *trait)
{
    json_t *v = config_get(c, cls, trait);

    return v && json_is_string(v) && *json_string_value(v) ? json_string_value(v) : NULL;
}

static char *ipython_dir(const struct config *cli)
{
    const char *dir = text_of(cli, "IPController", "ipython_dir"), *home = getenv("HOME");

    if (!dir)
        dir = getenv("IPYTHONDIR");
    if (dir && *dir == '~' && (dir[1] == '/' || !dir[1]) && home)
        return path_join(home, dir[1] ? dir + 2 : "");
    return dir && *dir ? strdup(dir) : path_join(home ? home : "/", ".ipython");
}

int confload_profile_dir(const struct config *cli, char **ret, struct err *e)
{
    const char *dir = text_of(cli, "ProfileDir", "location"),
               *name = text_of(cli, "IPController", "profile");
    char absolute[PATH_MAX];

    if (!dir && (dir = getenv("IPP_PROFILE_DIR")) && !*dir)
        dir = NULL;
    if (!dir) {
        char *base = ipython_dir(cli), *leaf = str_printf("profile_%s", name ? name : "default");
        *ret = base && leaf ? path_join(base, leaf) : NULL;
        free(base);
        free(leaf);
    } else if (*dir != '/' && getcwd(absolute, sizeof(absolute))) {
        *ret = path_join(absolute, dir);
    } else {
        *ret = strdup(dir);
    }
    return *ret ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
}

bool confload_active(const char *path)
{
    struct buf b = {0};
    bool active = false, line_start = true;

    if (file_read(path, CONFIG_MAX, &b, NULL) != CV_OK)
        return false;
    for (size_t i = 0; i < b.len && !active; i++) {
        if (b.data[i] == '\n')
            line_start = true;
        else if (line_start && b.data[i] == '#')
            line_start = false;
        else if (line_start && !strchr(" \t\r\f", b.data[i]))
            active = true;
    }
    buf_release(&b);
    return active;
}

static int read_all(int fd, struct buf *out, struct err *e)
{
    for (;;) {
        if (out->len > CONFIG_MAX || buf_reserve(out, 65536) != CV_OK)
            return err_set(e, CV_ELIMIT, "the config is too large");
        ssize_t n = read(fd, out->data + out->len, 65536);
        if (n < 0 && errno != EINTR)
            return err_sys(e, "can't read from Python");
        if (n == 0)
            return CV_OK;
        if (n > 0)
            out->len += (size_t)n;
    }
}

/* `PYTHON -m covey.config APP --profile-dir=DIR [--config FILE]`; its standard output is the
 * config. */
static int run_python(struct config *c, const char *app, const char *profile_dir, const char *extra,
                      const char *python, struct err *e)
{
    char *dir_arg = str_printf("--profile-dir=%s", profile_dir);
    const char *argv[] = {python, "-m", "covey.config", app, dir_arg, extra ? "--config" : NULL,
                          extra,  NULL};
    posix_spawn_file_actions_t fa;
    struct buf out = {0};
    int fds[2], status, code;
    pid_t pid;

    if (!dir_arg || pipe2(fds, O_CLOEXEC) < 0) {
        free(dir_arg);
        return err_sys(e, "can't start Python for the config");
    }
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, fds[1], 1);
    code = posix_spawnp(&pid, python, &fa, NULL, (char **)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    free(dir_arg);
    close(fds[1]);
    if (code) {
        close(fds[0]);
        errno = code;
        return err_sys(e, "can't run %s for the config files", python);
    }
    code = read_all(fds[0], &out, e);
    close(fds[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (code == CV_OK && status != 0)
        code = err_set(e, CV_EINVAL, "the config files in %s have an error (it is shown above)",
                       profile_dir);
    if (code == CV_OK)
        code = config_merge(c, (const char *)out.data, out.len, e);
    buf_release(&out);
    return code;
}

static int merge_json(struct config *c, const char *path, bool must_exist, struct err *e)
{
    struct buf b = {0};
    int r = file_read(path, CONFIG_MAX, &b, e);

    if (r == CV_ENOENT && !must_exist)
        r = CV_OK;
    else if (r == CV_OK)
        r = err_wrap(e, config_merge(c, (const char *)b.data, b.len, e), "%s", path);
    buf_release(&b);
    return r;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && !strcmp(s + n - k, end);
}

int confload_files(struct config *c, const char *app, const char *profile_dir, const char *extra,
                   const char *python, struct err *e)
{
    const char *dirs[] = {"/etc/ipython", "/usr/local/etc/ipython", profile_dir};
    const char *handed = getenv("COVEY_CONFIG");
    char path[PATH_MAX];
    bool active = extra && !ends_with(extra, ".json") && confload_active(extra);

    if (handed && *handed)
        return merge_json(c, handed, true, e);
    for (size_t i = 0; i < 3 && !active; i++) {
        snprintf(path, sizeof(path), "%s/%s_config.py", dirs[i], app);
        active = confload_active(path);
    }
    if (active)
        return run_python(c, app, profile_dir, extra, python, e);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s_config.json", dirs[i], app);
        int r = merge_json(c, path, false, e);
        if (r != CV_OK)
            return r;
    }
    return extra && ends_with(extra, ".json") ? merge_json(c, extra, false, e) : CV_OK;
}
