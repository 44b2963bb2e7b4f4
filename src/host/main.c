/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `ipengine`: options, log, then the host until it ends. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "host/events.h"
#include "host/host.h"
#include "wire/connfile.h"

#define APP "IPEngine"

/* The profile must be there, unless it is the default one, which a controller makes. */
static int check_profile(const struct options *o, struct err *e)
{
    struct stat st;
    const char *leaf = strrchr(o->profile_dir, '/');
    bool needed = !o->info && strncmp(o->file, o->profile_dir, strlen(o->profile_dir)) == 0;
    if (!needed || stat(o->profile_dir, &st) == 0 ||
        (leaf && strcmp(leaf, "/profile_default") == 0))
        return CV_OK;
    return err_set(e, CV_ENOENT,
                   "Profile folder %s not found: start its controller first, or use --file",
                   o->profile_dir);
}

/* Standard error, or PROFILE/log/ipengine-ID-PID.log. */
static int open_log(const struct options *o, struct log **ret, int *ret_fd, struct err *e)
{
    int fd = STDERR_FILENO, rc = CV_OK;
    char *path = NULL, *folder = NULL;
    if (o->log_to_file) {
        folder = path_join(o->profile_dir, "log");
        path = folder ? str_printf("%s/ipengine-%s-%d.log", folder, o->cluster_id, (int)getpid())
                      : NULL;
        rc = path ? file_mkdirs(folder, 0755, e) : err_set(e, CV_ENOMEM, "out of memory");
        if (rc == CV_OK &&
            (fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
            rc = err_sys(e, "%s", path);
        if (rc == CV_OK)
            fprintf(stderr, "[%s] logging to %s\n", APP, path);
    }
    if (rc == CV_OK && log_new(ret, APP, o->log_level, fd) != CV_OK)
        rc = err_set(e, CV_ENOMEM, "out of memory");
    if (rc == CV_OK)
        *ret_fd = fd;
    else if (fd > STDERR_FILENO)
        close(fd);
    free(path);
    free(folder);
    return rc;
}

/* Two pipes and, with a relay, a socket for each engine; until it is forked, five more. */
static void allow_descriptors(uint32_t n)
{
    struct rlimit r;
    rlim_t needed = (rlim_t)n * 8 + 64;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur >= needed)
        return;
    r.rlim_cur = needed < r.rlim_max ? needed : r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

/* One that is missing or half written is waited for. */
static int check_file(const struct options *o, struct err *e)
{
    return o->info ? CV_OK : connfile_check_path(o->file, e);
}

static int run(const struct options *o, int *ret_signal)
{
    struct log *log = NULL;
    struct err e;
    int fd = STDERR_FILENO;
    if (check_profile(o, &e) != CV_OK || check_file(o, &e) != CV_OK ||
        open_log(o, &log, &fd, &e) != CV_OK) {
        fprintf(stderr, "[%s] CRITICAL | %s\n", APP, e.text);
        return 1;
    }
    allow_descriptors(o->n);
    int code = host_run(o, log, events_open(), ret_signal);
    log_free(log);
    if (fd != STDERR_FILENO)
        close(fd);
    return code;
}

static int show(const struct options *o)
{
    struct err e;
    char *text = o->show_config ? config_dump(o->config) : NULL, *path = NULL;
    if (text)
        puts(text);
    free(text);
    if (o->init && options_write_template(o, &path, &e) != CV_OK) {
        fprintf(stderr, "[%s] CRITICAL | %s\n", APP, e.text);
        return 1;
    }
    if (path)
        printf("The settings are explained in %s\n", path);
    free(path);
    return 0;
}

/* What a process manager must see: the engine's signal as ours. */
static void die_of(int signum)
{
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(signum, SIG_DFL);
    raise(signum);
}

int main(int argc, char **argv)
{
    struct options o;
    struct err e = {{0}};
    int signum = 0, code = 0;
    signal(SIGPIPE, SIG_IGN); /* whoever reads our log or events may go */
    signal(SIGXFSZ, SIG_IGN); /* beyond `ulimit -f` a write, or a memfd, fails */
    switch (options_parse(&o, argc, argv, stderr, &e)) {
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_USAGE:
        fprintf(stderr, "ipengine: %s\n", e.text);
        return 2;
    case OPTIONS_FAILED:
        fprintf(stderr, "[%s] CRITICAL | %s\n", APP, e.text);
        return 1;
    case OPTIONS_RUN:
        break;
    }
    if (o.show_config || o.init) {
        code = show(&o);
    } else {
        code = run(&o, &signum);
    }
    options_release(&o);
    if (signum)
        die_of(signum);
    return code;
}
