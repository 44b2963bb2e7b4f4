/* SPDX-License-Identifier: BSD-3-Clause
 *
 * SIGCHLD → wait4 for all → callbacks (see reap.h). Runs on the loop's thread. Signals coalesce, so
 * every SIGCHLD empties the whole queue of ended children. What is unknown is kept in a ring of the
 * last REMEMBERED ends. */
#include "proc/reap.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "base/list.h"

#define REMEMBERED 256

struct child {
    struct list node;
    pid_t pid;
    reaped_cb cb;
    void *arg;
    bool ended; /* its end is known already and waits for the async turn */
    struct reaped end;
};

struct reaper {
    uv_signal_t signal;
    uv_async_t soon; /* ends that were known at reaper_adopt() */
    int open_handles;
    struct list children;
    struct reaped past[REMEMBERED]; /* pid 0: free */
    unsigned next_past;
};

static struct child *child_find(struct reaper *r, pid_t pid)
{
    list_each(n, &r->children)
    {
        struct child *c = list_entry(n, struct child, node);
        if (c->pid == pid)
            return c;
    }
    return NULL;
}

static struct reaped *past_find(struct reaper *r, pid_t pid)
{
    for (unsigned i = 0; i < REMEMBERED; i++)
        if (r->past[i].pid == pid)
            return &r->past[i];
    return NULL;
}

static struct reaped reaped_from(pid_t pid, int status, const struct rusage *use)
{
    struct reaped e = {.pid = pid, .known = true, .peak_rss = (uint64_t)use->ru_maxrss * 1024};
    if (WIFSIGNALED(status))
        e.signal = WTERMSIG(status);
    else
        e.code = WEXITSTATUS(status);
    return e;
}

static void child_finish(struct child *c, const struct reaped *end)
{
    list_del(&c->node);
    reaped_cb cb = c->cb;
    void *arg = c->arg;
    free(c);
    cb(arg, end);
}

static void on_sigchld(uv_signal_t *h, int signum)
{
    struct reaper *r = h->data;
    for (;;) {
        int status;
        struct rusage use;
        pid_t pid = wait4(-1, &status, WNOHANG, &use);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        struct reaped end = reaped_from(pid, status, &use);
        struct child *c = child_find(r, pid);
        if (c) {
            child_finish(c, &end);
            if (uv_is_closing((uv_handle_t *)h))
                return; /* the callback freed the reaper */
        } else {
            struct reaped *same = past_find(r, pid);
            if (!same) {
                same = &r->past[r->next_past];
                r->next_past = (r->next_past + 1) % REMEMBERED;
            }
            *same = end;
        }
    }
}

static void on_soon(uv_async_t *h)
{
    struct reaper *r = h->data;
    for (;;) {
        struct child *found = NULL;
        list_each(n, &r->children)
        {
            struct child *c = list_entry(n, struct child, node);
            if (c->ended) {
                found = c;
                break;
            }
        }
        if (!found)
            return;
        struct reaped end = found->end;
        child_finish(found, &end);
        if (uv_is_closing((uv_handle_t *)h))
            return;
    }
}

static void on_handle_closed(uv_handle_t *h)
{
    struct reaper *r = h->data;
    if (--r->open_handles == 0)
        free(r);
}

int reaper_new(struct reaper **ret, uv_loop_t *loop, struct err *e)
{
    struct reaper *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, CV_ENOMEM, "out of memory");
    list_init(&r->children);
    r->signal.data = r->soon.data = r;
    int rc = uv_signal_init(loop, &r->signal);
    if (rc < 0) {
        free(r);
        return err_set(e, CV_ESYS, "SIGCHLD: %s", uv_strerror(rc));
    }
    r->open_handles = 1;
    rc = uv_async_init(loop, &r->soon, on_soon);
    if (rc == 0) {
        r->open_handles = 2;
        rc = uv_signal_start(&r->signal, on_sigchld, SIGCHLD);
    }
    if (rc < 0) {
        reaper_free(r);
        return err_set(e, CV_ESYS, "SIGCHLD: %s", uv_strerror(rc));
    }
    /* a reaper alone keeps no loop running */
    uv_unref((uv_handle_t *)&r->signal);
    uv_unref((uv_handle_t *)&r->soon);
    *ret = r;
    return CV_OK;
}

void reaper_free(struct reaper *r)
{
    if (!r)
        return;
    list_each_safe(n, tmp, &r->children)
    {
        list_del(n);
        free(list_entry(n, struct child, node));
    }
    bool both = r->open_handles == 2;
    uv_close((uv_handle_t *)&r->signal, on_handle_closed);
    if (both)
        uv_close((uv_handle_t *)&r->soon, on_handle_closed);
}

static int child_new(struct reaper *r, pid_t pid, reaped_cb cb, void *arg, struct child **ret)
{
    assert(pid > 0 && cb && !child_find(r, pid));
    struct child *c = calloc(1, sizeof *c);
    if (!c)
        return CV_ENOMEM;
    c->pid = pid;
    c->cb = cb;
    c->arg = arg;
    list_add_tail(&r->children, &c->node);
    *ret = c;
    return CV_OK;
}

int reaper_add(struct reaper *r, pid_t pid, reaped_cb cb, void *arg)
{
    struct child *c;
    struct reaped *past = past_find(r, pid);
    if (past)
        past->pid = 0; /* an earlier process with this pid */
    return child_new(r, pid, cb, arg, &c);
}

int reaper_adopt(struct reaper *r, pid_t pid, reaped_cb cb, void *arg)
{
    struct child *c;
    int rc = child_new(r, pid, cb, arg, &c);
    if (rc != CV_OK)
        return rc;
    struct reaped *past = past_find(r, pid);
    if (kill(pid, 0) < 0 && errno == ESRCH) {
        c->ended = true;
        c->end = past ? *past : (struct reaped){.pid = pid};
        uv_async_send(&r->soon);
    }
    if (past)
        past->pid = 0;
    return CV_OK;
}

void reaper_remove(struct reaper *r, pid_t pid)
{
    struct child *c = child_find(r, pid);
    if (!c)
        return;
    list_del(&c->node);
    free(c);
}

const char *signal_name(int signum)
{
    static _Thread_local char text[16];
    const char *abbreviation = sigabbrev_np(signum);
    if (abbreviation)
        snprintf(text, sizeof text, "SIG%s", abbreviation);
    else
        snprintf(text, sizeof text, "signal %d", signum);
    return text;
}
