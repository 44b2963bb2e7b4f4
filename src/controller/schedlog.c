/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See schedlog.h. Bytes are gathered and written when there are 64 KiB, or a tenth of a second
 * after the last time; a controller that is killed takes the last of them with it. When the file
 * can't be written, or is as long as it may be, that is logged once and the log ends: its beginning
 * is what can be told again. On the loop's thread. */
#include "controller/schedlog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "sched/trace.h"

#define GATHER (64u << 10)
#define GATHER_NS (100 * NS_PER_MS)

struct schedlog {
    struct trace t;
    char *path;
    int fd;
    uint64_t written, limit, last;
};

int schedlog_open(struct schedlog **ret, const char *path, uint64_t limit,
                  const struct sched_options *o, struct err *e)
{
    struct schedlog *l = calloc(1, sizeof(*l));

    if (!l || !(l->path = strdup(path))) {
        free(l);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    l->limit = limit;
    l->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (l->fd < 0) {
        int r = err_sys(e, "can't write the scheduler's log %s", path);
        free(l->path);
        free(l);
        return r;
    }
    trace_begin(&l->t, o);
    *ret = l;
    return CV_OK;
}

/* False: it can't go on; errno says why, 0 that it is full. */
static bool write_out(struct schedlog *l)
{
    size_t at = 0;

    errno = ENOMEM;
    if (l->t.oom)
        return false;
    while (at < l->t.out.len) {
        ssize_t n = write(l->fd, l->t.out.data + at, l->t.out.len - at);
        if (n < 0 && errno != EINTR)
            return false;
        at += n > 0 ? (size_t)n : 0;
    }
    l->written += at;
    buf_clear(&l->t.out);
    errno = 0;
    return l->written < l->limit;
}

static void release(struct schedlog *l)
{
    close(l->fd);
    trace_release(&l->t);
    free(l->path);
    free(l);
}

void schedlog_close(struct schedlog *l)
{
    if (!l)
        return;
    (void)write_out(l);
    release(l);
}

void schedlog_turn(struct controller *c)
{
    struct schedlog *l = c->schedlog;
    uint64_t now = loop_now(c->loop);

    if (!l || !l->t.out.len || (l->t.out.len < GATHER && now - l->last < GATHER_NS))
        return;
    l->last = now;
    if (write_out(l))
        return;
    log_error(c->log, "the scheduler's log %s ends here, after %" PRIu64 " bytes: %s", l->path,
              l->written, errno ? strerror(errno) : "it is as long as it may be");
    release(l);
    c->schedlog = NULL;
}

int schedlog_handle(struct controller *c, const struct sched_event *ev, struct sched_actions *a,
                    struct err *e)
{
    uint64_t now = loop_now(c->loop);

    if (!c->schedlog)
        return sched_handle(c->sched, now, ev, a, e);
    trace_event(&c->schedlog->t, now, ev);
    int r = sched_handle(c->sched, now, ev, a, e);
    trace_end(&c->schedlog->t, r, a->v, a->n);
    return r;
}

void schedlog_outcome(struct controller *c, struct sched_id id, bool known, uint8_t status,
                      uint32_t engine)
{
    if (c->schedlog)
        trace_outcome(
            &c->schedlog->t,
            &(struct trace_outcome){.id = id, .known = known, .status = status, .engine = engine});
}
