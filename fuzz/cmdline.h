/* SPDX-License-Identifier: BSD-3-Clause
 *
 * For the targets of the three programs' command lines and config: nothing is run, made or changed
 * by them (stand-ins, --wrap), and the environment says nothing. The input up to a zero byte is
 * arguments, one a line; the rest is the config file's JSON. */
#ifndef COVEY_FUZZ_CMDLINE_H
#define COVEY_FUZZ_CMDLINE_H

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *fa,
                        const posix_spawnattr_t *attr, char *const argv[], char *const envp[]);

int __wrap_mkdir(const char *path, mode_t mode)
{
    errno = EROFS;
    return -1;
}

int __wrap_posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *fa,
                        const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    return ENOENT;
}

struct cmdline {
    char *argv[ARGS_MAX + 1], *text;
    int argc;
    char config[40];
    FILE *notices;
};

static void config_given(struct cmdline *c, const void *data, size_t n)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("config", MFD_CLOEXEC);
    snprintf(c->config, sizeof c->config, "/proc/self/fd/%d", fd);
    if (ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n ||
        setenv("COVEY_CONFIG", c->config, 1))
        abort();
}

/* Options that print are left out. */
static void cmdline_make(struct cmdline *c, const char *program, const uint8_t *data, size_t n)
{
    static FILE *null;
    char *save;
    if (!null && !(null = fopen("/dev/null", "w")))
        abort();
    *c = (struct cmdline){.notices = null, .argc = 1, .text = malloc(n + 1)};
    if (!c->text)
        abort();
    memcpy(c->text, data, n);
    c->text[n] = 0;
    setenv("IPYTHONDIR", "/nonexistent/ipython", 1);
    unsetenv("COVEY_CONFIG");
    if (strlen(c->text) < n) {
        size_t words = strlen(c->text) + 1;
        config_given(c, data + words, n - words);
    }
    c->argv[0] = (char *)program;
    for (char *w = strtok_r(c->text, "\n", &save); w && c->argc < ARGS_MAX;
         w = strtok_r(NULL, "\n", &save))
        if (!strstr(w, "help") && !strstr(w, "version") && strcmp(w, "-h") && strcmp(w, "-V"))
            c->argv[c->argc++] = w;
}

static void cmdline_free(struct cmdline *c)
{
    free(c->text);
}

#endif
