/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See background.h. The host's events go to a memfd, which is read until all is said: unlike a pipe
 * it does not break when this program ends and the host goes on. Blocks; the main thread. */
#include "cluster/background.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "cluster/verbs.h"
#include "proc/capture.h"
#include "proc/spawn.h"

#define EVENTS_AS 3
#define INPUT_AS 4
#define LOG_MAX (1u << 20)
#define STOP_NS (8 * NS_PER_S)

struct background {
    const struct settings *s;
    char *log_path;
    int log, events, input[2];
    off_t read; /* of the events */
    struct buf line;
    uint32_t up; /* engines that have registered */
    pid_t pid;
    char *failure; /* why an engine did not start */
};

static void pause_ms(long ms)
{
    const struct timespec t = {.tv_sec = 0, .tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

int background_request(const struct launch_plan *plan, int ret[2])
{
    ret[0] = ret[1] = -1;
    if (!plan->input)
        return CV_OK;
    if (pipe2(ret, O_CLOEXEC))
        return CV_ESYS;
    fcntl(ret[1], F_SETFL, O_NONBLOCK); /* a request that does not fit is refused */
    ssize_t n = (ssize_t)strlen(plan->input);
    return write(ret[1], plan->input, (size_t)n) == n && write(ret[1], "\n", 1) == 1 ? CV_OK
                                                                                     : CV_ESYS;
}

static int prepare(struct background *b, const struct launch_plan *plan, struct err *e)
{
    const char *id = b->s->cluster_id;
    b->log_path = str_printf("%s/log/ipengine%s%s-%d.log", b->s->profile_dir, *id ? "-" : "", id,
                             (int)getpid());
    char *folder = path_join(b->s->profile_dir, "log");
    int rc = b->log_path && folder ? file_mkdirs(folder, 0755, e)
                                   : err_set(e, CV_ENOMEM, "out of memory");
    free(folder);
    if (rc)
        return rc;
    b->log = open(b->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (b->log < 0)
        return err_sys(e, "can't open the log file %s", b->log_path);
    b->events = memfd_create("covey-events", MFD_CLOEXEC);
    if (b->events < 0 || fcntl(b->events, F_SETFL, O_APPEND) < 0)
        return err_sys(e, "can't make a file for events");
    return background_request(plan, b->input) ? err_sys(e, "can't tell the launcher what to do")
                                              : CV_OK;
}

static int spawn(struct background *b, const struct launch_plan *plan, struct err *e)
{
    const struct spawn_fd fds[] = {{b->events, EVENTS_AS}, {b->input[1], INPUT_AS}};
    bool agent = plan->input != NULL;
    size_t n = 0, k = 0;
    while (plan->env[n])
        n++;
    const char **env = calloc(n + 2, sizeof *env);
    if (!env)
        return err_set(e, CV_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        if (strncmp(plan->env[i], "COVEY_EVENTS_FD", 15))
            env[k++] = plan->env[i];
    env[k] = agent ? "COVEY_EVENTS_FD" : "COVEY_EVENTS_FD=3";
    const struct spawn child = {
        .argv = (const char *const *)plan->argv,
        .env = env,
        .fds = fds,
        .nfds = agent ? 2 : 1,
        .stdin_fd = agent ? b->input[0] : SPAWN_NULL,
        .stdout_fd = agent ? b->events : b->log,
        .stderr_fd = b->log,
        .flags = SPAWN_SESSION,
    };
    int rc = process_spawn(&child, &b->pid, e);
    free(env);
    return rc;
}

static void take_event(struct background *b, const char *text, size_t n)
{
    json_t *o = json_loadb(text, n, 0, NULL), *cause = json_object_get(o, "cause");
    const char *name = json_string_value(json_object_get(o, "event"));
    const char *why = json_string_value(json_object_get(cause, "text"));
    const char *said = json_string_value(json_object_get(cause, "stderr"));
    bool failed = name && (!strcmp(name, "engine_failed") || !strcmp(name, "engine_down"));
    if (name && !strcmp(name, "engine_up"))
        b->up++;
    if (failed && !b->failure)
        b->failure = str_printf("an engine failed: %s%s%s", why ? why : "it ended",
                                said && *said ? "; it said last:\n" : "", said ? said : "");
    json_decref(o);
}

static void read_events(struct background *b)
{
    char chunk[4096];
    ssize_t n;
    while ((n = pread(b->events, chunk, sizeof chunk, b->read)) > 0) {
        b->read += n;
        if (buf_add(&b->line, chunk, (size_t)n))
            return;
    }
    size_t done = 0;
    for (uint8_t *end;
         b->line.len > done && (end = memchr(b->line.data + done, '\n', b->line.len - done));) {
        take_event(b, (char *)b->line.data + done, (size_t)(end - b->line.data) - done);
        done = (size_t)(end - b->line.data) + 1;
    }
    buf_consume(&b->line, done);
}

/* The end of its log, malloc'ed; NULL: nothing. */
static char *last_words(const struct background *b)
{
    struct buf t = {0};
    char *text = NULL;
    if (file_read(b->log_path, LOG_MAX, &t, NULL) == CV_OK && t.len) {
        size_t at = tail_lines((const char *)t.data, t.len, 20);
        text = strndup((const char *)t.data + at, t.len - at);
    }
    buf_release(&t);
    return text;
}

static void end(struct background *b)
{
    int status;
    uint64_t until = clock_mono() + STOP_NS;
    kill(b->pid, SIGTERM);
    while (waitpid(b->pid, &status, WNOHANG) == 0) {
        if (clock_mono() > until)
            kill(-b->pid, SIGKILL);
        pause_ms(20);
    }
}

/* Until all engines are there; the exit code. */
static int wait_up(struct background *b)
{
    const struct settings *s = b->s;
    uint64_t until = clock_mono() + (uint64_t)(s->engine_timeout * NS_PER_S);
    int status;
    for (;;) {
        bool gone = waitpid(b->pid, &status, WNOHANG) == b->pid;
        read_events(b);
        if (gone || b->failure) {
            char *said = b->failure ? NULL : last_words(b);
            if (!gone)
                end(b);
            log_critical(s->log, "%s%s",
                         b->failure ? b->failure : "ipengine ended; it said last:\n",
                         said ? said : "");
            free(said);
            return EXIT_FAILED;
        }
        if (b->up >= s->n)
            break;
        if (clock_mono() > until) {
            end(b);
            log_critical(s->log,
                         "%u of %u engines were there after %g s (--engine-timeout); they are "
                         "ended, the log file %s may say more",
                         b->up, s->n, s->engine_timeout, b->log_path);
            return EXIT_FAILED;
        }
        pause_ms(10);
    }
    log_info(s->log, "%u engine%s running: process %d, log file %s", s->n,
             s->n == 1 ? " is" : "s are", (int)b->pid, b->log_path);
    return EXIT_FINE;
}

/* Do events of these launchers' engines reach us? */
static bool tells(const struct launch_ops *ops)
{
    return ops == &launch_local || ops == &launch_ssh || ops == &launch_sshproxy;
}

int background_engines(const struct settings *s, const struct launch_plan *plan)
{
    struct background b = {.s = s, .log = -1, .events = -1, .input = {-1, -1}};
    struct err e;
    int code = EXIT_FAILED;
    if (prepare(&b, plan, &e) || spawn(&b, plan, &e))
        log_critical(s->log, "%s", e.text);
    else if (tells(s->engines))
        code = wait_up(&b);
    else {
        log_info(s->log, "Engines are starting: process %d, log file %s", (int)b.pid, b.log_path);
        code = EXIT_FINE;
    }
    const int fds[] = {b.log, b.events, b.input[0], b.input[1]};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    buf_release(&b.line);
    free(b.failure);
    free(b.log_path);
    return code;
}
