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
#include "base/jsontext.h"
#include "launch/batchstate.h"
#include "launch/words.h"
#include "proc/capture.h"
#include "proc/spawn.h"

#define STATUS_NS (60 * NS_PER_S) /* between two questions after the job's state */
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
    bool asked;          /* the supervisor was told that a question is due */
    unsigned gone;       /* answers in a row that do not know it */
    uint64_t next_query; /* clock_mono() */
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

static size_t id_group(const struct job *j)
{
    return (size_t)json_integer_value(json_object_get(j->order, "job_id_group"));
}

/* The expression for the job's id; false, with a word about it: it is none, or has no such group.
 */
static bool id_regexp(const struct job *j, regex_t *ret)
{
    const char *own = json_string_value(json_object_get(j->order, "job_id"));
    char *text = posix_regexp(own), why[120] = "out of memory";
    int code = text ? regcomp(ret, text, REG_EXTENDED | REG_NEWLINE) : REG_ESPACE;
    free(text);
    if (!code && id_group(j) < GROUPS && id_group(j) <= ret->re_nsub)
        return true;
    if (code)
        regerror(code, ret, why, sizeof why);
    else
        regfree(ret);
    fprintf(stderr, "job_id_regexp \"%s\": %s (a POSIX extended regular expression, and \\d)\n",
            own, code ? why : "it has no group of the number job_id_regexp_group");
    return false;
}

/* Finds the job's id in what the submit command said. */
static char *find_id(const struct job *j, const regex_t *r, const char *said)
{
    regmatch_t found[GROUPS];
    size_t group = id_group(j);
    if (regexec(r, said, GROUPS, found, 0) || found[group].rm_so < 0)
        return NULL;
    return strndup(said + found[group].rm_so, (size_t)(found[group].rm_eo - found[group].rm_so));
}

/* ---- events ---- */

static void say(json_t *event_take)
{
    char *text = event_take ? jsontext(event_take, JSON_COMPACT) : NULL;
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
    regex_t r;
    if (!id_regexp(j, &r)) /* without it a job could not be deleted */
        return 1;
    int rc = file_write_atomic(path, 0700, script, strlen(script), &e);
    if (!rc)
        rc = run(command(j, "submit"), more, reads ? script : NULL, &said, &e);
    const char *text = buf_cstr(&said);
    if (rc < 0)
        fprintf(stderr, "%s (submit_command names the batch system's own)\n", e.text);
    else if (rc)
        fprintf(stderr, "%s exited with code %d: %s\n",
                json_string_value(json_array_get(command(j, "submit"), 0)), rc, text ? text : "");
    else if (!text || !(j->id = find_id(j, &r, text)))
        fprintf(stderr,
                "no job id (job_id_regexp) in what the batch system said, and a job may be in its "
                "queue: %s\n",
                text ? text : "");
    if (j->id) {
        fprintf(stderr, "%s", text);
        say_job(j);
    } else {
        unlink(path);
    }
    regfree(&r);
    buf_release(&said);
    return j->id ? 0 : 1;
}

/* Its exit code is ours. told: whether a failure is of interest; one because of a job that is not
 * there any more is none. */
static int delete_job(struct job *j, bool told)
{
    const char *const more[] = {j->id, NULL};
    struct buf said = {0};
    struct err e = {""};
    int rc = command(j, "delete") ? run(command(j, "delete"), more, NULL, &said, &e) : 0;
    const char *text = rc < 0 ? e.text : buf_cstr(&said) ? (const char *)said.data : "";
    bool failed = told && rc && !(rc > 0 && *text && batch_unknown(text));
    if (failed) {
        fprintf(stderr, "job %s was not deleted (exit code %d): %s\n", j->id, rc, text);
        say(json_pack("{s:s, s:s, s:s}", "event", "undeleted", "id", j->id, "text", text));
    }
    buf_release(&said);
    unlink(path_of(j));
    return failed ? 1 : 0;
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

/* ---- is it still there? ---- */

/* The end of what the job wrote: often the reason of its own. That it has written no file is one,
 * too. */
static void quote_output(const struct job *j)
{
    const char *path = json_string_value(json_object_get(j->order, "output"));
    struct buf b = {0};
    int rc = path ? file_read(path, OUTPUT_MAX, &b, NULL) : CV_OK;
    char *text = path && !rc ? (char *)buf_cstr(&b) : NULL;
    if (rc == CV_ENOENT)
        fprintf(stderr, "%s is not there: it did not run, or its nodes do not see that folder\n",
                path);
    if (text && *text)
        fprintf(stderr, "%s ends with:\n%s", path, text + tail_lines(text, b.len, OUTPUT_LINES));
    buf_release(&b);
}

/* Jobs' ids behind the status command. */
static int join_ids(struct words *w, const json_t *ids, const char *join)
{
    struct buf b = {0};
    json_t *id;
    size_t i;
    int rc = CV_OK;
    json_array_foreach(ids, i, id)
    {
        const char *text = json_string_value(id);
        if (text && *join == ' ')
            words_add(w, text);
        else if (text && !rc)
            rc = buf_addf(&b, "%s%s", i ? join : "", text);
    }
    if (b.len && !rc)
        words_add(w, buf_cstr(&b) ? (const char *)b.data : "");
    buf_release(&b);
    return rc || w->failed ? CV_ENOMEM : CV_OK;
}

/* Asks after these jobs: {id: state} of those that something is known about, "": it is not there.
 */
static json_t *ask(const struct job *j, const json_t *ids)
{
    const char *join = json_string_value(json_object_get(j->order, "status_join"));
    bool bare = !join || !*join;
    const char *const own[] = {j->id, NULL};
    struct words w = {0};
    struct buf said = {0};
    struct err e;
    json_t *states = json_object(), *id;
    size_t i;
    int rc = bare ? CV_OK : join_ids(&w, ids, join);
    rc =
        rc ? rc : run(command(j, "status"), bare ? own : (const char *const *)w.v, NULL, &said, &e);
    const char *text = buf_cstr(&said);
    json_array_foreach(ids, i, id)
    {
        char state[40] = "";
        const char *one = json_string_value(id);
        bool ours = one && (!bare || !strcmp(one, j->id));
        if (ours && rc >= 0 && text &&
            (batch_state(text, one, bare && !rc, state, sizeof state) || !rc ||
             batch_unknown(text)))
            json_object_set_new(states, one, json_string(state));
    }
    words_release(&w);
    buf_release(&said);
    return states;
}

/* What is known of our job, "": it is not known; whether it has ended. An answer that does not know
 * it may be the batch system's own trouble: two in a row count, and then it is deleted all the
 * same.
 */
static bool take_state(struct job *j, const char *state)
{
    j->asked = false;
    j->next_query = clock_mono() + STATUS_NS;
    j->gone = *state ? 0 : j->gone + 1;
    if (!batch_is_end(state) && j->gone < 2)
        return false;
    const char *how = *state ? state : "the batch system does not know it any more";
    fprintf(stderr, "job %s has ended: %s\n", j->id, how);
    say(json_pack("{s:s, s:s, s:s}", "event", "job_ended", "id", j->id, "how", how));
    quote_output(j);
    if (!*state)
        delete_job(j, false);
    unlink(path_of(j));
    return true;
}

/* A look at the job is due. The supervisor has other jobs and lets one of us ask for all; without
 * one (`ipcluster engines`) we ask. Whether the job has ended. */
static bool look(struct job *j)
{
    if (json_is_true(json_object_get(j->order, "supervised"))) {
        j->asked = true;
        say(json_pack("{s:s}", "event", "due"));
        return false;
    }
    j->next_query = clock_mono() + STATUS_NS;
    json_t *ids = json_pack("[s]", j->id), *states = ask(j, ids);
    const char *state = json_string_value(json_object_get(states, j->id));
    bool ended = state && take_state(j, state);
    json_decref(ids);
    json_decref(states);
    return ended;
}

/* While all engines are connected there is nothing to ask. When one has gone, soon: a job that has
 * ended should be told at once. */
static void set_quiet(struct job *j, bool quiet)
{
    if (j->quiet && !quiet)
        j->next_query = clock_mono() + SETTLE_NS;
    j->quiet = quiet;
    j->asked = false;
}

enum verdict { GO_ON, DELETE, ENDED };

/* One line of the supervisor's. */
static enum verdict obey(struct job *j, const char *line, size_t n)
{
    json_t *o = json_loadb(line, n, 0, NULL);
    const char *what = json_string_value(json_object_get(o, "do"));
    enum verdict v = GO_ON;
    if (what && !strcmp(what, "stop")) {
        v = DELETE;
    } else if (what && !strcmp(what, "signal")) {
        signal_job(j, json_integer_value(json_object_get(o, "signal")));
    } else if (what && !strcmp(what, "quiet")) {
        set_quiet(j, json_is_true(json_object_get(o, "on")));
    } else if (what && !strcmp(what, "query")) {
        say(json_pack("{s:s, s:o}", "event", "states", "states",
                      ask(j, json_object_get(o, "ids"))));
    } else if (what && !strcmp(what, "state")) {
        const char *state = json_string_value(json_object_get(o, "state"));
        v = state && take_state(j, state) ? ENDED : GO_ON;
    }
    json_decref(o);
    return v;
}

/* Obeys the lines that have come whole. */
static enum verdict obey_lines(struct job *j)
{
    enum verdict v = GO_ON;
    for (uint8_t *end;
         j->line.len && (end = memchr(j->line.data, '\n', j->line.len)) && v == GO_ON;) {
        size_t len = (size_t)(end - j->line.data);
        v = obey(j, (const char *)j->line.data, len);
        buf_consume(&j->line, len + 1);
    }
    return v;
}

/* Reads what is there. Nobody is there any more: as if asked to stop. */
static enum verdict read_commands(struct job *j)
{
    char chunk[4096];
    ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return GO_ON;
    if (n <= 0 || j->line.len > LINE_MAX_ || buf_add(&j->line, chunk, (size_t)n))
        return DELETE;
    return obey_lines(j);
}

/* Milliseconds until the next look; -1: none, or the supervisor knows that it is due. */
static int next_wait(const struct job *j)
{
    uint64_t now = clock_mono();
    if (j->quiet || j->asked || !command(j, "status"))
        return -1;
    return now < j->next_query ? (int)((j->next_query - now) / NS_PER_MS) + 1 : 0;
}

static int watch(struct job *j)
{
    j->next_query = clock_mono() + FIRST_NS;
    enum verdict v = obey_lines(j); /* what came with the request */
    while (v == GO_ON) {
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = j->signals, .events = POLLIN}};
        int n = poll(fds, 2, next_wait(j));
        if (n > 0 && fds[1].revents)
            v = DELETE;
        else if (n > 0 && fds[0].revents)
            v = read_commands(j);
        if (v == GO_ON && next_wait(j) == 0 && look(j))
            v = ENDED;
    }
    return v == DELETE ? delete_job(j, true) : 1;
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
