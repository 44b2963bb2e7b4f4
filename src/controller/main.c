/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcontroller: options, log, signals, the loop. Exit codes: 0 it was told to stop, 1 it can't
 * start, 2 a mistake on the command line. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/file.h"
#include "controller/controller.h"

#define APP "IPController"

static void on_signal(void *arg, int signum)
{
    controller_stop(arg, signum == SIGINT    ? "interrupted"
                         : signum == SIGTERM ? "terminated"
                                             : "aborted by a signal");
}

static void on_hangup(void *arg, int signum)
{
    log_debug(((struct controller *)arg)->log, "a hang-up signal is ignored");
}

static void raise_descriptor_limit(void)
{
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

/* The log's descriptor: standard error, or a file that is announced there. */
static int log_open(const struct options *o, int *ret_fd, struct err *e)
{
    char *dir, *path;
    int r;

    *ret_fd = STDERR_FILENO;
    if (!o->log_to_file)
        return CV_OK;
    dir = path_join(o->profile_dir, "log");
    path = str_printf("%s/ipcontroller-%s-%d.log", dir ? dir : "", o->cluster_id, (int)getpid());
    r = dir && path ? file_mkdirs(dir, 0755, e) : err_set(e, CV_ENOMEM, "out of memory");
    if (r == CV_OK) {
        *ret_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (*ret_fd < 0)
            r = err_sys(e, "can't write the log %s", path);
        else
            fprintf(stderr, "[" APP "] logging to %s\n", path);
    }
    free(path);
    free(dir);
    return r;
}

static int change_folder(const struct options *o, struct err *e)
{
    const char *home = getenv("HOME");
    char *path;
    int r = CV_OK;

    if (!*o->work_dir)
        return CV_OK;
    path = o->work_dir[0] == '~' && home ? str_printf("%s%s", home, o->work_dir + 1)
                                         : strdup(o->work_dir);
    if (!path || chdir(path) < 0)
        r = err_sys(e, "can't change to the folder %s", o->work_dir);
    free(path);
    return r;
}

static int run(const struct options *o, struct log *log, struct err *e)
{
    static const int stops[] = {SIGINT, SIGTERM, SIGABRT};
    struct controller c;
    struct watch *signals[4] = {NULL};
    int parent = getppid();
    sigset_t handled, before;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* beyond `ulimit -f` a write, or a memfd, fails */
    raise_descriptor_limit();
    /* what comes before the loop can hear it waits: files that were written are removed again */
    sigemptyset(&handled);
    for (size_t i = 0; i < 3; i++)
        sigaddset(&handled, stops[i]);
    sigaddset(&handled, SIGHUP);
    sigprocmask(SIG_BLOCK, &handled, &before);
    int r = controller_start(&c, o, log, e);
    for (size_t i = 0; i < 3 && r == CV_OK; i++)
        r = signal_new(&signals[i], c.loop, stops[i], on_signal, &c);
    if (r == CV_OK)
        r = signal_new(&signals[3], c.loop, SIGHUP, on_hangup, &c);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (r == CV_OK)
        r = loop_run(c.loop);
    if (r == CV_OK && c.failed)
        r = err_set(e, CV_ENOMEM, "out of memory: decisions of the scheduler were lost");
    files_remove(&c.files, o, parent);
    for (size_t i = 0; i < 4; i++)
        watch_free(signals[i]);
    controller_release(&c);
    return r;
}

static int show(const struct options *o, struct err *e)
{
    char *text = o->show_config ? config_dump(o->config) : NULL, *path = NULL;
    int r = CV_OK;

    if (o->show_config)
        puts(text ? text : "{}");
    if (o->init && (r = options_write_template(o, &path, e)) == CV_OK)
        printf("The options are explained in %s\n", path);
    free(text);
    free(path);
    return r;
}

int main(int argc, char **argv)
{
    struct options o;
    struct err e = {{0}};
    struct log *log = NULL;
    int fd = -1, r;

    switch (options_parse(&o, argc, argv, stderr, &e)) {
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_USAGE:
        fprintf(stderr, "ipcontroller: %s\n", e.text);
        return 2;
    case OPTIONS_FAILED:
        fprintf(stderr, "[" APP "] CRITICAL | Bad config encountered: %s\n", e.text);
        return 1;
    case OPTIONS_RUN:
        break;
    }
    if (o.show_config || o.init) {
        r = show(&o, &e);
    } else {
        r = change_folder(&o, &e);
        if (r == CV_OK)
            r = log_open(&o, &fd, &e);
        if (r == CV_OK && (r = log_new(&log, APP, o.log_level, fd)) == CV_OK)
            r = run(&o, log, &e);
        log_free(log);
    }
    if (r != CV_OK)
        fprintf(stderr, "[" APP "] CRITICAL | %s\n", e.text[0] ? e.text : err_name(r));
    options_release(&o);
    return r == CV_OK ? 0 : 1;
}
