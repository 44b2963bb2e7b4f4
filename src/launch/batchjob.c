/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The agent of a batch job (batchjob.h). */
#include "launch/batchjob.h"

#include <errno.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "launch/words.h"
#include "proc/capture.h"
#include "proc/spawn.h"

#define STATUS_NS (60 * NS_PER_S) /* between two questions after the job's state, at least */
#define FIRST_NS (10 * NS_PER_S)  /* a script with a mistake in it has ended by then */
#define SETTLE_NS (2 * NS_PER_S)  /* from an engine's end to the question why */
#define OUTPUT_MAX (8u << 20)
#define OUTPUT_LINES 10
#define LINE_MAX_ (1u << 20)
#define GROUPS 10

struct job {
    json_t *order;
    char *id;
    int signals; /* signalfd: SIGTERM, SIGINT, SIGHUP */
    struct buf line;
    bool quiet;          /* its engines are connected: it is there */
    unsigned gone;       /* answers in a row that do not know it */
    uint64_t next_query; /* clock_mono() */
    uint64_t may_query;  /* not before */
};

/* ---- commands of the batch system ---- */

/* Runs words + more; what it says goes to `said` (may be NULL) and to standard error. Its exit
 * code, or a negative code. */
static int run(const json_t *words, const char *const *more, const char *input, struct buf *said,
               struct err *e)
{
    struct words argv = {0};
    json_t *word;
    size_t i;
    pid_t pid;
    int status, in = -1, out = memfd_create("covey-batch", MFD_CLOEXEC);
    json_array_foreach(words, i, word)
    {
        words_add(&argv, json_string_value(word));
    }
    words_add_all(&argv, more);
    if (input) {
        in = memfd_create("covey-script", MFD_CLOEXEC);
        ssize_t ignored = in < 0 ? 0 : pwrite(in, input, strlen(input), 0);
        (void)ignored;
    }
    int rc = argv.failed || out < 0 ? err_set(e, CV_ENOMEM, "out of memory") : CV_OK;
    const struct spawn s = {.argv = (const char *const *)argv.v,
                            .stdin_fd = in < 0 ? SPAWN_NULL : in,
                            .stdout_fd = out,
                            .stderr_fd = said ? out : SPAWN_NULL};
    rc = rc ? rc : process_spawn(&s, &pid, e);
    words_release(&argv);
    if (!rc) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        rc = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
        char chunk[4096];
        off_t at = 0;
        for (ssize_t n; said && (n = pread(out, chunk, sizeof chunk, at)) > 0; at += n)
            if (buf_add(said, chunk, (size_t)n))
                break;
    }
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return rc;
}

static json_t *command(const struct job *j, const char *name)
{
    json_t *words = json_object_get(j->order, name);
    return json_array_size(words) ? words : NULL;
}

/* Python's \d in the expressions that people have: as POSIX writes it. */
static char *posix_regexp(const char *s)
{
    struct buf b = {0};
    int rc = CV_OK;
    for (; *s && !rc; s++) {
        if (s[0] == '\\' && s[1] == 'd') {
            rc = buf_addstr(&b, "[0-9]");
            s++;
        } else {
            rc = buf_add(&b, s, 1);
        }
    }
    char *text = rc || !buf_cstr(&b) ? NULL : strdup((const char *)b.data);
    buf_release(&b);
    return text;
}

/* Finds the job's id in what the submit command said. */
static char *find_id(const struct job *j, const char *said)
{
    regmatch_t found[GROUPS];
    regex_t r;
    size_t group = (size_t)json_integer_value(json_object_get(j->order, "job_id_group"));
    char *text = posix_regexp(json_string_value(json_object_get(j->order, "job_id"))), *id = NULL;
    if (text && group < GROUPS && !regcomp(&r, text, REG_EXTENDED | REG_NEWLINE)) {
        if (!regexec(&r, said, GROUPS, found, 0) && found[group].rm_so >= 0)
            id = strndup(said + found[group].rm_so,
                         (size_t)(found[group].rm_eo - found[group].rm_so));
        regfree(&r);
    }
    free(text);
    return id;
}

/* ---- events ---- */

static void say(json_t *event_take)
{
    char *text = event_take ? json_dumps(event_take, JSON_COMPACT) : NULL;
    if (text) {
        printf("%s\n", text);
        fflush(stdout);
    }
    free(text);
    json_decref(event_take);
}

/* {"event": "job"}: the id, and the shell line that deletes it should we be killed. */
static void say_job(const struct job *j)
{
    struct words w = {0};
    json_t *word;
    size_t i;
    json_array_foreach(command(j, "delete"), i, word)
    {
        words_add(&w, json_string_value(word));
    }
    if (w.n)
        words_add(&w, j->id);
    char *undo = w.n && !w.failed ? words_shell(w.v) : NULL;
    say(json_pack("{s:s, s:s, s:s}", "event", "job", "id", j->id, "undo", undo ? undo : ""));
    free(undo);
    words_release(&w);
}

/* ---- the job's life ---- */

static const char *path_of(const struct job *j)
{
    return json_string_value(json_object_get(j->order, "path"));
}

static int submit(struct job *j)
{
    const char *script = json_string_value(json_object_get(j->order, "script"));
    const char *path = path_of(j);
    bool reads = json_is_true(json_object_get(j->order, "reads_script"));
    const char *const more[] = {reads ? NULL : path, NULL};
    struct buf said = {0};
    struct err e;
    int rc = file_write_atomic(path, 0700, script, strlen(script), &e);
    if (!rc)
        rc = run(command(j, "submit"), more, reads ? script : NULL, &said, &e);
    const char *text = buf_cstr(&said);
    if (rc < 0)
        fprintf(stderr, "%s\n", e.text);
    else if (rc)
        fprintf(stderr, "%s exited with code %d: %s\n",
                json_string_value(json_array_get(command(j, "submit"), 0)), rc, text ? text : "");
    else if (!text || !(j->id = find_id(j, text)))
        fprintf(stderr, "no job id (job_id_regexp) in what the batch system said: %s\n",
                text ? text : "");
    if (j->id) {
        fprintf(stderr, "%s", text);
        say_job(j);
    } else {
        unlink(path);
    }
    buf_release(&said);
    return j->id ? 0 : 1;
}

static int delete_job(struct job *j)
{
    const char *const more[] = {j->id, NULL};
    struct buf said = {0};
    struct err e;
    int rc = command(j, "delete") ? run(command(j, "delete"), more, NULL, &said, &e) : 0;
    if (rc < 0)
        fprintf(stderr, "job %s was not deleted: %s\n", j->id, e.text);
    else if (rc)
        fprintf(stderr, "job %s was not deleted: exit code %d: %s\n", j->id, rc,
                buf_cstr(&said) ? (const char *)said.data : "");
    buf_release(&said);
    unlink(path_of(j));
    return 0;
}

static void signal_job(struct job *j, json_int_t signum)
{
    char number[24];
    struct err e;
    snprintf(number, sizeof number, "%lld", (long long)signum);
    const char *const more[] = {number, j->id, NULL};
    if (!command(j, "signal"))
        fprintf(stderr, "this batch system has no command for signals (signal_command)\n");
    else if (run(command(j, "signal"), more, NULL, NULL, &e) < 0)
        fprintf(stderr, "%s\n", e.text);
}

enum answer { JOB_THERE, JOB_UNKNOWN, JOB_ENDED };

/* Is this line one of the states that jobs end in? Slurm's and LSF's; the others forget a job. */
static bool is_end(const char *line, size_t n)
{
    static const char *const ENDS[] = {"DONE",          "EXIT",      "BOOT_FAIL", "CANCELLED",
                                       "COMPLETED",     "DEADLINE",  "FAILED",    "NODE_FAIL",
                                       "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"};
    for (size_t i = 0; i < sizeof ENDS / sizeof ENDS[0]; i++)
        if (n == strlen(ENDS[i]) && !memcmp(line, ENDS[i], n))
            return true;
    return false;
}

/* An array's answer has a line for each of its jobs. */
static enum answer read_answer(const char *text)
{
    enum answer all = JOB_UNKNOWN;
    for (; *text; text += *text == '\n') {
        text += strspn(text, " \t");
        size_t line = strcspn(text, "\n"), n = strcspn(text, " \t\r\n");
        if (n && !is_end(text, n))
            return JOB_THERE;
        all = n ? JOB_ENDED : all;
        text += line;
    }
    return all;
}

/* The end of what the job wrote: often the reason of its own. */
static void quote_output(const struct job *j)
{
    const char *path = json_string_value(json_object_get(j->order, "output"));
    struct buf b = {0};
    char *text = path && !file_read(path, OUTPUT_MAX, &b, NULL) ? (char *)buf_cstr(&b) : NULL;
    if (text && *text)
        fprintf(stderr, "%s ends with:\n%s", path, text + tail_lines(text, b.len, OUTPUT_LINES));
    buf_release(&b);
}

/* Has the job ended? An answer that does not know it may be the batch system's own trouble: two in
 * a row count. */
static bool job_ended(struct job *j)
{
    const char *const more[] = {j->id, NULL};
    struct buf said = {0};
    struct err e;
    j->next_query = j->may_query = clock_mono() + STATUS_NS;
    int rc = run(command(j, "status"), more, NULL, &said, &e);
    const char *text = buf_cstr(&said);
    enum answer a = rc > 0 ? JOB_UNKNOWN : rc < 0 || !text ? JOB_THERE : read_answer(text);
    j->gone = a == JOB_UNKNOWN ? j->gone + 1 : 0;
    bool ended = a == JOB_ENDED || j->gone == 2;
    if (ended)
        fprintf(stderr, "job %s has ended: %s\n", j->id,
                text && *text ? text : "the batch system does not know it any more");
    if (ended)
        quote_output(j);
    buf_release(&said);
    return ended;
}

/* While all engines are connected there is nothing to ask. When one has gone, soon: a job that has
 * ended should be told at once. */
static void set_quiet(struct job *j, bool quiet)
{
    uint64_t soon = clock_mono() + SETTLE_NS;
    if (j->quiet && !quiet)
        j->next_query = soon > j->may_query ? soon : j->may_query;
    j->quiet = quiet;
}

/* One line of the supervisor's; whether it means the end. */
static bool obey(struct job *j, const char *line, size_t n)
{
    json_t *o = json_loadb(line, n, 0, NULL);
    const char *what = json_string_value(json_object_get(o, "do"));
    bool stop = what && !strcmp(what, "stop");
    if (what && !strcmp(what, "signal"))
        signal_job(j, json_integer_value(json_object_get(o, "signal")));
    else if (what && !strcmp(what, "quiet"))
        set_quiet(j, json_is_true(json_object_get(o, "on")));
    json_decref(o);
    return stop;
}

/* Obeys the lines that have come whole; true: it is over. */
static bool obey_lines(struct job *j)
{
    for (uint8_t *end; j->line.len && (end = memchr(j->line.data, '\n', j->line.len));) {
        size_t len = (size_t)(end - j->line.data);
        if (obey(j, (const char *)j->line.data, len))
            return true;
        buf_consume(&j->line, len + 1);
    }
    return false;
}

/* Reads what is there; true: it is over (asked, or nobody is there any more). */
static bool read_commands(struct job *j)
{
    char chunk[4096];
    ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return false;
    if (n <= 0 || j->line.len > LINE_MAX_ || buf_add(&j->line, chunk, (size_t)n))
        return true;
    return obey_lines(j);
}

/* Milliseconds until the next question; -1: none. */
static int next_wait(const struct job *j)
{
    uint64_t now = clock_mono();
    if (j->quiet || !command(j, "status"))
        return -1;
    return now < j->next_query ? (int)((j->next_query - now) / NS_PER_MS) + 1 : 0;
}

static int watch(struct job *j)
{
    j->next_query = clock_mono() + FIRST_NS;
    if (obey_lines(j)) /* what came with the request */
        return delete_job(j);
    for (;;) {
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = j->signals, .events = POLLIN}};
        int wait = next_wait(j);
        int n = poll(fds, 2, wait);
        if (n > 0 && (fds[1].revents || (fds[0].revents && read_commands(j))))
            return delete_job(j);
        if (next_wait(j) == 0 && job_ended(j)) {
            unlink(path_of(j));
            return 1;
        }
    }
}

/* The first line: what to do. */
static json_t *read_order(struct job *j)
{
    char chunk[4096];
    uint8_t *end;
    for (ssize_t n;
         j->line.len <= LINE_MAX_ && (n = read(STDIN_FILENO, chunk, sizeof chunk)) > 0;) {
        if (buf_add(&j->line, chunk, (size_t)n))
            return NULL;
        end = memchr(j->line.data, '\n', j->line.len);
        if (!end)
            continue;
        size_t len = (size_t)(end - j->line.data);
        json_t *o = json_loadb((const char *)j->line.data, len, 0, NULL);
        buf_consume(&j->line, len + 1);
        return o;
    }
    return NULL;
}

int batchjob_run(void)
{
    struct job j = {0};
    sigset_t set;
    int code = 2;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    j.signals = signalfd(-1, &set, SFD_CLOEXEC);
    j.order = read_order(&j);
    if (j.signals < 0 || !path_of(&j) || !command(&j, "submit") ||
        !json_is_string(json_object_get(j.order, "script")) ||
        !json_is_string(json_object_get(j.order, "job_id")))
        fprintf(stderr, "ipcluster batch-job: `ipcluster start` runs this; it reads its request "
                        "from standard input\n");
    else
        code = submit(&j) ? 1 : watch(&j);
    if (j.signals >= 0)
        close(j.signals);
    json_decref(j.order);
    buf_release(&j.line);
    free(j.id);
    return code;
}
