/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Children of the supervisor (child.h). Owns pipes, log file and the job's description; the reaper
 * owns the waiting. */
#include "cluster/child.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"
#include "proc/capture.h"

#define TAIL (16u << 10)
#define EVENT_MAX (1u << 20) /* a longer line is no event of ours */

struct child {
    const struct launch_ops *ops;
    struct launch_job job;
    struct child_callbacks cb;
    struct reaper *reaper;
    struct capture *output, *events;
    struct buf line; /* an event that has not come whole */
    char *log_path;
    int log_fd;
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

static void tell_event(struct child *c, const uint8_t *line, size_t n)
{
    json_t *o = json_loadb((const char *)line, n, 0, NULL);
    if (json_is_object(o) && json_is_string(json_object_get(o, "event")))
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

static void on_reaped(void *arg, const struct reaped *r)
{
    struct child *c = arg;
    c->reaped = true;
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

static int run(struct child *c, uv_loop_t *loop, const struct launch_plan *plan, struct err *e)
{
    int output[2], events[2];
    int rc = capture_pipe(output, e);
    if (rc)
        return rc;
    rc = capture_pipe(events, e);
    if (rc) {
        close(output[0]);
        close(output[1]);
        return rc;
    }
    rc = listen_to(c, loop, output[0], events[0], e);
    rc = rc ? rc : c->ops->start(plan, output[1], events[1], &c->job, e);
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
    c->cb = *cb;
    c->reaper = reaper;
    c->log_path = strdup(log_path);
    c->log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int rc = c->log_fd < 0 ? err_sys(e, "can't open the log file %s", log_path) : CV_OK;
    rc = rc ? rc : ops->prepare(request, &plan, e);
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
    buf_release(&c->line);
    free(c->log_path);
    free(c);
}

int child_stop(struct child *c, bool force, struct err *e)
{
    c->asked = true;
    return c->ops->stop(&c->job, force, e);
}

int child_signal(struct child *c, int signum, struct err *e)
{
    return c->ops->signal(&c->job, signum, e);
}

const struct launch_job *child_job(const struct child *c)
{
    return &c->job;
}

json_t *child_describe(const struct child *c)
{
    return c->ops->describe(&c->job);
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
