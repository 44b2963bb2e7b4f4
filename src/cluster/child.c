/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Children of the supervisor (child.h). Owns pipes, log file and the job's description; the reaper
 * owns the waiting. */
#include "cluster/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "cluster/ranks.h"
#include "proc/capture.h"

#define TAIL (16u << 10)
#define EVENT_MAX (1u << 20) /* a longer line is no event of ours */
#define FILE_POLL_MS 100     /* between looks at a file of events */
#define RANKS_MS 1500        /* until what started ranks is told to end, too */

struct child {
    const struct launch_ops *ops;
    struct launch_job job;
    struct child_callbacks cb;
    struct reaper *reaper;
    uv_loop_t *loop;
    enum launch_what what;
    uint32_t n; /* engines, if it is engines */
    struct capture *output, *events;
    struct buf line;        /* an event that has not come whole */
    uv_timer_t *file_timer; /* looks at events_file */
    uv_timer_t *told_timer; /* its ranks were told to end */
    char *events_file;      /* NULL: events come by a descriptor */
    off_t events_read;
    char *log_path;
    int log_fd, input;  /* input: an agent's commands; -1: it takes none */
    int words;          /* to a controller, its events' socket; -1: none */
    bool reaped, asked; /* asked: to stop */
    bool well;          /* it ended as it should: its log tells nothing */
};

/* A full disk must not stop a cluster: what can't be written is lost. */
static void on_output(void *arg, const void *data, size_t n)
{
    struct child *c = arg;
    if (n && c->log_fd >= 0) {
        ssize_t ignored = write(c->log_fd, data, n);
        (void)ignored;
    }
}

/* An agent's job has a name where it runs. */
static void take_job(struct child *c, const json_t *o)
{
    const char *id = json_string_value(json_object_get(o, "id"));
    const char *undo = json_string_value(json_object_get(o, "undo"));
    snprintf(c->job.id, sizeof c->job.id, "%s", id ? id : "");
    if (undo && strlen(undo) < sizeof c->job.undo) /* half a command would do harm */
        snprintf(c->job.undo, sizeof c->job.undo, "%s", undo);
}

static void tell_event(struct child *c, const uint8_t *line, size_t n)
{
    json_t *o = json_loadb((const char *)line, n, 0, NULL);
    const char *name = json_string_value(json_object_get(o, "event"));
    if (name && !strcmp(name, "job"))
        take_job(c, o);
    if (name)
        c->cb.event(c->cb.arg, c, o);
    json_decref(o);
}

static void on_events(void *arg, const void *data, size_t n)
{
    struct child *c = arg;
    if (!n || c->line.len + n > EVENT_MAX || buf_add(&c->line, data, n)) {
        buf_clear(&c->line);
        return;
    }
    size_t done = 0;
    for (uint8_t *end; (end = memchr(c->line.data + done, '\n', c->line.len - done));) {
        tell_event(c, c->line.data + done, (size_t)(end - c->line.data) - done);
        done = (size_t)(end - c->line.data) + 1;
    }
    buf_consume(&c->line, done);
}

/* The file may lie on another machine's disk: it is opened anew each time, which makes a network
 * file system look again. */
static void read_events_file(struct child *c)
{
    char chunk[16384];
    int fd = open(c->events_file, O_RDONLY | O_CLOEXEC);
    ssize_t n;
    while (fd >= 0 && (n = pread(fd, chunk, sizeof chunk, c->events_read)) > 0) {
        c->events_read += n;
        on_events(c, chunk, (size_t)n);
    }
    if (fd >= 0)
        close(fd);
}

static void on_file_timer(uv_timer_t *t)
{
    read_events_file(t->data);
}

static void free_timer(uv_handle_t *h)
{
    free(h);
}

static int follow_file(struct child *c, uv_loop_t *loop, const char *path, struct err *e)
{
    c->events_file = strdup(path);
    c->file_timer = calloc(1, sizeof *c->file_timer);
    if (!c->events_file || !c->file_timer) {
        free(c->file_timer);
        c->file_timer = NULL;
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    uv_timer_init(loop, c->file_timer);
    c->file_timer->data = c;
    uv_timer_start(c->file_timer, on_file_timer, FILE_POLL_MS, FILE_POLL_MS);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, "can't make the file of events %s", path);
    close(fd);
    return CV_OK;
}

static void on_reaped(void *arg, const struct reaped *r)
{
    struct child *c = arg;
    c->reaped = true;
    if (c->events_file)
        read_events_file(c);
    c->well = r->known && !r->signal && (c->asked || !r->code);
    capture_drain(c->events);
    capture_drain(c->output);
    c->cb.ended(c->cb.arg, c, r);
}

/* Takes both read ends. */
static int listen_to(struct child *c, uv_loop_t *loop, int output_take, int events_take,
                     struct err *e)
{
    int rc = capture_new(&c->output, loop, output_take, TAIL, on_output, c);
    if (rc)
        close(events_take);
    else
        rc = capture_new(&c->events, loop, events_take, 0, on_events, c);
    return rc ? err_set(e, rc, "can't watch a child's output") : CV_OK;
}

/* Gives an agent its request; from then on a line that it does not take is dropped. */
static int tell_request(struct child *c, int input_take, const struct launch_plan *plan,
                        struct err *e)
{
    struct buf b = {0};
    int rc = buf_addf(&b, "%s\n", plan->input) ? CV_ENOMEM : CV_OK;
    size_t done = 0;
    for (ssize_t n; !rc && done < b.len; done += (size_t)n)
        if ((n = write(input_take, b.data + done, b.len - done)) < 0) {
            rc = errno == EPIPE ? CV_OK : CV_ESYS; /* its end says why it reads nothing */
            break;
        }
    buf_release(&b);
    fcntl(input_take, F_SETFL, O_NONBLOCK);
    c->input = input_take;
    return rc ? err_set(e, rc, "can't tell an agent what to do") : CV_OK;
}

/* Starts the plan with these write ends, and an agent with a pipe for its request. */
static int start_plan(struct child *c, const struct launch_plan *plan, struct launch_io *io,
                      struct err *e)
{
    int input[2] = {-1, -1};
    if (plan->input && pipe2(input, O_CLOEXEC))
        return err_sys(e, "can't make a pipe");
    io->input = input[0];
    int rc = c->ops->start(plan, io, &c->job, e);
    if (input[0] >= 0)
        close(input[0]);
    if (rc && input[1] >= 0)
        close(input[1]);
    else if (!rc && plan->input)
        rc = tell_request(c, input[1], plan, e);
    return rc;
}

/* Events come by a pipe; those of a controller by a socket, which it reads our words from. */
static int make_events(struct child *c, bool socket, int ret[2], struct err *e)
{
    if (!socket)
        return capture_pipe(ret, e);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret))
        return err_sys(e, "can't make a pair of sockets");
    c->words = fcntl(ret[0], F_DUPFD_CLOEXEC, 0); /* none: nothing is said */
    return CV_OK;
}

static int run(struct child *c, uv_loop_t *loop, const struct launch_plan *plan, struct err *e)
{
    int output[2], events[2];
    int rc = capture_pipe(output, e);
    if (rc)
        return rc;
    bool none = !plan->input && (c->ops->flags & LAUNCH_EVENTS_FILE);
    rc = make_events(c, c->what == LAUNCH_CONTROLLER && !plan->input && !none, events, e);
    if (rc) {
        close(output[0]);
        close(output[1]);
        return rc;
    }
    struct launch_io io = {.output = output[1], .events = none ? -1 : events[1]};
    rc = listen_to(c, loop, output[0], events[0], e);
    rc = rc ? rc : start_plan(c, plan, &io, e);
    close(output[1]);
    close(events[1]);
    return rc;
}

int child_start(struct child **ret, uv_loop_t *loop, struct reaper *reaper,
                const struct launch_ops *ops, const struct launch_request *request,
                const char *log_path, const struct child_callbacks *cb, struct err *e)
{
    struct launch_plan plan = {0};
    struct child *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, CV_ENOMEM, "out of memory");
    c->ops = ops;
    c->loop = loop;
    c->what = request->what;
    c->n = request->n;
    c->cb = *cb;
    c->reaper = reaper;
    c->input = c->words = -1;
    c->log_path = strdup(log_path);
    c->log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int rc = c->log_fd < 0 ? err_sys(e, "can't open the log file %s", log_path) : CV_OK;
    rc = rc ? rc : ops->prepare(ops, request, &plan, e);
    if (!rc && (ops->flags & LAUNCH_EVENTS_FILE) && request->events_file)
        rc = follow_file(c, loop, request->events_file, e);
    rc = rc ? rc : run(c, loop, &plan, e);
    if (!rc) {
        rc = reaper_add(reaper, c->job.pid, on_reaped, c);
        if (rc) {
            int ignored = ops->stop(&c->job, true, NULL);
            (void)ignored;
            err_set(e, rc, "out of memory");
        }
    }
    launch_plan_release(&plan);
    if (rc) {
        child_free(c);
        return rc;
    }
    *ret = c;
    return CV_OK;
}

void child_free(struct child *c)
{
    struct stat st;
    if (!c)
        return;
    if (c->job.pid && !c->reaped)
        reaper_remove(c->reaper, c->job.pid);
    capture_free(c->output);
    capture_free(c->events);
    if (c->log_fd >= 0 && c->log_path && (c->well || (!fstat(c->log_fd, &st) && st.st_size == 0)))
        unlink(c->log_path);
    if (c->log_fd >= 0)
        close(c->log_fd);
    if (c->input >= 0)
        close(c->input);
    if (c->words >= 0)
        close(c->words);
    if (c->file_timer)
        uv_close((uv_handle_t *)c->file_timer, free_timer);
    if (c->told_timer)
        uv_close((uv_handle_t *)c->told_timer, free_timer);
    if (c->events_file)
        unlink(c->events_file);
    free(c->events_file);
    buf_release(&c->line);
    free(c->log_path);
    free(c);
}

/* fd < 0: nowhere. */
static void write_line(int fd, json_t *j_take)
{
    char *text = j_take ? jsontext(j_take, JSON_COMPACT) : NULL;
    char *line = text ? str_printf("%s\n", text) : NULL;
    if (line && fd >= 0) {
        ssize_t ignored = write(fd, line, strlen(line));
        (void)ignored;
    }
    free(line);
    free(text);
    json_decref(j_take);
}

/* What an agent does not take, full pipe or gone, its end by force will make up for. */
void child_tell(struct child *c, json_t *command_take)
{
    write_line(c->input, command_take);
}

void child_say(struct child *c, json_t *word_take)
{
    if (c->words < 0 && c->input >= 0)
        child_tell(c, json_pack("{s:s, s:o}", "do", "say", "word", word_take));
    else
        write_line(c->words, word_take);
}

static void on_told_timer(uv_timer_t *t)
{
    struct child *c = t->data;
    int ignored = c->ops->stop(&c->job, false, NULL); /* if that fails, force comes next */
    (void)ignored;
}

/* False: they can't be told themselves. */
static bool end_ranks(struct child *c)
{
    bool engines = c->what == LAUNCH_ENGINES;
    if (c->told_timer)
        return true;
    if (!(c->ops->flags & LAUNCH_RANKS) ||
        !ranks_end(c->job.pid, engines ? "ipengine" : "ipcontroller", engines ? c->n : 1) ||
        !(c->told_timer = calloc(1, sizeof *c->told_timer)))
        return false;
    uv_timer_init(c->loop, c->told_timer);
    c->told_timer->data = c;
    uv_timer_start(c->told_timer, on_told_timer, RANKS_MS, 0);
    return true;
}

/* A batch system may have taken a job whose name its agent has not heard yet. */
static int kill_agent(struct child *c, struct err *e)
{
    bool submitting = c->ops->flags & LAUNCH_EVENTS_FILE && !c->job.id[0];
    int rc = c->ops->stop(&c->job, true, e);
    if (!rc && submitting)
        rc = err_set(e, CV_ESYS,
                     "%s had not answered to a submission: a job of it may be in its queue",
                     c->ops->cls);
    return rc;
}

int child_stop(struct child *c, bool force, struct err *e)
{
    c->asked = true;
    if (!force && c->input < 0 && end_ranks(c))
        return CV_OK;
    if (c->input < 0)
        return c->ops->stop(&c->job, force, e);
    if (force)
        return kill_agent(c, e);
    child_tell(c, json_pack("{s:s}", "do", "stop"));
    return CV_OK;
}

int child_signal(struct child *c, int signum, struct err *e)
{
    if (c->input < 0)
        return c->ops->signal(&c->job, signum, e);
    child_tell(c, json_pack("{s:s, s:i}", "do", "signal", "signal", signum));
    return CV_OK;
}

const struct launch_job *child_job(const struct child *c)
{
    return &c->job;
}

json_t *child_describe(const struct child *c)
{
    json_t *o = c->ops->describe(c->ops, &c->job);
    if (o && c->log_path)
        json_object_set_new(o, "log", json_string(c->log_path));
    return o;
}

char *child_tail(const struct child *c, unsigned lines)
{
    struct buf b = {0};
    if (capture_tail(c->output, &b) || !buf_cstr(&b)) {
        buf_release(&b);
        return NULL;
    }
    const char *text = (const char *)b.data;
    char *tail = strdup(text + tail_lines(text, b.len, lines));
    buf_release(&b);
    return tail;
}

char *child_end_text(const struct reaped *r)
{
    if (!r->known)
        return strdup("ended");
    return r->signal ? str_printf("was killed by %s", signal_name(r->signal))
                     : str_printf("exited with code %d", r->code);
}
