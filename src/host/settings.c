/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Config files (see settings.h). Waiting for Python here blocks nobody: the loop does not run yet.
 */
#include "host/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "proc/capture.h"
#include "proc/spawn.h"

#define CONFIG_MAX (16u << 20)

static const char *text_of(const struct config *c, const char *cls, const char *trait)
{
    const char *text = NULL;
    return config_str(c, cls, trait, &text, NULL) == CV_OK && text && *text ? text : NULL;
}

static const char *env_of(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

char *settings_absolute(const char *path)
{
    const char *home = env_of("HOME");
    char folder[PATH_MAX];
    if (path[0] == '~' && (path[1] == '/' || !path[1]) && home)
        return path_join(home, path[1] ? path + 2 : "");
    if (path[0] != '/' && getcwd(folder, sizeof folder))
        return path_join(folder, path);
    return strdup(path);
}

int settings_profile_dir(const struct config *cli, char **ret, struct err *e)
{
    const char *folder = text_of(cli, "ProfileDir", "location"),
               *name = text_of(cli, "IPEngine", "profile");
    if (!folder)
        folder = env_of("IPP_PROFILE_DIR");
    if (folder) {
        *ret = settings_absolute(folder);
        return *ret ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
    }
    const char *root = text_of(cli, "IPEngine", "ipython_dir");
    if (!root)
        root = env_of("IPYTHONDIR");
    char *base = settings_absolute(root ? root : "~/.ipython");
    char *leaf = str_printf("profile_%s", name ? name : "default");
    char *path = base && leaf ? path_join(base, leaf) : NULL;
    free(base);
    free(leaf);
    if (!path)
        return err_set(e, CV_ENOMEM, "out of memory");
    *ret = path;
    return CV_OK;
}

/* Has the file anything but blanks and comments? */
static bool is_active(const char *path)
{
    struct buf b = {0};
    bool active = false, blank = true;
    if (file_read(path, CONFIG_MAX, &b, NULL) != CV_OK)
        return false;
    for (size_t i = 0; i < b.len && !active; i++) {
        char c = (char)b.data[i];
        if (c == '\n')
            blank = true;
        else if (c == '#')
            blank = false; /* the rest of the line says nothing */
        else if (blank && !strchr(" \t\r\f", c))
            active = true;
    }
    buf_release(&b);
    return active;
}

static bool any_active(const char *profile_dir, const char *extra)
{
    static const char *const names[] = {"ipython_config.py", "ipython_config.json",
                                        "ipengine_config.py", "ipengine_config.json"};
    const char *folders[] = {"/etc/ipython", "/usr/local/etc/ipython", profile_dir};
    bool active = extra && is_active(extra);
    for (size_t i = 0; i < 12 && !active; i++) {
        char *path = path_join(folders[i / 4], names[i % 4]);
        active = path && is_active(path);
        free(path);
    }
    return active;
}

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

static int evaluate(struct config *c, const char *profile_dir, const char *extra,
                    const char *python, struct err *e)
{
    struct buf out = {0};
    int p[2] = {-1, -1}, status = 0, rc = CV_ENOMEM;
    pid_t pid;
    char *folder = str_printf("--profile-dir=%s", profile_dir);
    const char *argv[] = {
        python, "-m", "covey.config", "ipengine", folder, extra ? "--config" : NULL, extra, NULL};
    struct spawn s = {.argv = argv, .stdin_fd = SPAWN_NULL, .stderr_fd = SPAWN_INHERIT};
    if (!folder) {
        err_set(e, rc, "out of memory");
        goto out;
    }
    if (pipe2(p, O_CLOEXEC) < 0) {
        rc = err_sys(e, "can't read the config");
        goto out;
    }
    s.stdout_fd = p[1];
    rc = process_spawn(&s, &pid, e);
    close(p[1]);
    if (rc != CV_OK)
        goto out;
    rc = read_all(p[0], &out, e);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (rc == CV_OK && status != 0)
        rc = err_set(e, CV_EINVAL, "the config files in %s have an error (it is shown above)",
                     profile_dir);
    if (rc == CV_OK)
        rc = config_merge(c, (const char *)out.data, out.len, e);
out:
    if (p[0] >= 0)
        close(p[0]);
    buf_release(&out);
    free(folder);
    return rc;
}

int settings_load(struct config *c, const char *profile_dir, const char *extra, const char *python,
                  struct err *e)
{
    const char *handed = env_of("COVEY_CONFIG");
    if (!handed)
        return any_active(profile_dir, extra) ? evaluate(c, profile_dir, extra, python, e) : CV_OK;
    struct buf b = {0};
    int rc = file_read(handed, CONFIG_MAX, &b, e);
    if (rc == CV_OK && (rc = config_merge(c, (const char *)b.data, b.len, e)) != CV_OK)
        err_wrap(e, rc, "%s", handed);
    buf_release(&b);
    return rc;
}
