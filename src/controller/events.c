/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See events.h. */
#include "controller/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/ranges.h"
#include "controller/conn.h"
#include "controller/say.h"

#define BACKLOG_MAX (1u << 20)
#define AWAY_HOLDS_MAX 256 /* ranges: who waits for one beyond them is not told why */

struct events {
    struct loop *loop;
    struct watch *watch; /* while something waits */
    int fd;
    struct buf out;
};

/* The descriptor of COVEY_EVENTS_FD, or a new one of the file COVEY_EVENTS_FILE, which stands for
 * it where no descriptor gets through (mpiexec, batch systems). -1: events are not wanted. */
static int find_descriptor(int *ret, struct err *e)
{
    const char *path = getenv("COVEY_EVENTS_FILE");
    int rc = file_env_descriptor("COVEY_EVENTS_FD", ret, e);
    if (rc == CV_OK && *ret < 0 && path && *path) {
        *ret = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (*ret < 0)
            return err_sys(e, "can't write the events to %s", path);
    }
    return rc;
}

int events_new(struct events **ret, struct loop *l, struct err *e)
{
    int fd;

    *ret = NULL;
    int rc = find_descriptor(&fd, e);
    if (rc || fd < 0)
        return rc;
    int flags = fcntl(fd, F_GETFL);
    struct events *x = calloc(1, sizeof(*x));
    if (!x)
        return err_set(e, CV_ENOMEM, "out of memory");
    x->loop = l;
    x->fd = (int)fd;
    if (x->fd > 2)
        fcntl(x->fd, F_SETFD, FD_CLOEXEC);
    fcntl(x->fd, F_SETFL, flags | O_NONBLOCK);
    *ret = x;
    return CV_OK;
}

int events_answers(const struct events *x)
{
    struct stat st;
    bool socket = x && fstat(x->fd, &st) == 0 && S_ISSOCK(st.st_mode);

    return socket ? fcntl(x->fd, F_DUPFD_CLOEXEC, 0) : -1;
}

static void on_writable(void *arg, int events);

static void flush_lines(struct events *x)
{
    while (x->out.len) {
        ssize_t n = write(x->fd, x->out.data, x->out.len);
        if (n > 0) {
            buf_consume(&x->out, (size_t)n);
        } else if (n < 0 && errno == EAGAIN) {
            break;
        } else if (n < 0 && errno != EINTR) { /* nobody reads any more */
            buf_clear(&x->out);
        }
    }
    if (x->out.len && !x->watch &&
        watch_new(&x->watch, x->loop, x->fd, UV_WRITABLE, on_writable, x) != CV_OK)
        buf_clear(&x->out);
    if (!x->out.len && x->watch) {
        watch_free(x->watch);
        x->watch = NULL;
    }
}

static void on_writable(void *arg, int events)
{
    flush_lines(arg);
}

void events_free(struct events *x)
{
    if (!x)
        return;
    flush_lines(x);
    watch_free(x->watch);
    buf_release(&x->out);
    free(x);
}

void events_line(struct events *x, json_t *j_take)
{
    char *text = x && j_take ? jsontext(j_take, JSON_COMPACT) : NULL;

    json_decref(j_take);
    if (text && x->out.len + strlen(text) < BACKLOG_MAX) {
        size_t before = x->out.len;
        if (buf_addf(&x->out, "%s\n", text) != CV_OK)
            x->out.len = before;
        flush_lines(x);
    }
    free(text);
}

/* Clients may come by the hundred while there are thousands of engines: written as text. */
int event_engine_text(struct buf *b, const struct engine *e)
{
    static const char *const states[] = {"up", "away", "draining", "dead"};
    bool away = e->state == ENGINE_AWAY;
    const struct {
        const char *name, *text;
    } texts[] = {{"uuid", e->uuid}, {"host", e->host}, {"python", e->python}};

    int r = buf_addf(b, "{\"id\":%" PRIu32 ",\"incarnation\":%" PRIu32 ",\"pid\":%" PRIu32,
                     e->number, e->incarnation, e->pid);
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts) && r == CV_OK; i++) {
        r = buf_addf(b, ",\"%s\":", texts[i].name);
        if (r == CV_OK)
            r = jsontext_add(b, texts[i].text, strlen(texts[i].text));
    }
    if (r == CV_OK)
        r = buf_addf(b, ",\"state\":\"%s\",\"away_for\":", states[e->state]);
    if (r == CV_OK)
        r = away ? buf_addf(b, "%.3f", (double)(clock_mono() - e->away_since) / 1e9)
                 : buf_addstr(b, "null");
    if (r == CV_OK)
        r = buf_addstr(b, ",\"why\":");
    if (r == CV_OK)
        r = away && e->away_why ? jsontext_add(b, e->away_why, strlen(e->away_why))
                                : buf_addstr(b, "null");
    return r == CV_OK ? buf_addstr(b, "}") : r;
}

static void send_event(struct client *x, uint32_t engine, struct payload *p)
{
    struct header h = {.type = MSG_EVENT, .engine = engine};

    if (x->conn && !x->conn->closing)
        say_payload(x->conn->link, &h, p);
}

static void event_client(struct client *x, uint32_t engine, json_t *j_take)
{
    struct payload *p = say_json(j_take);

    send_event(x, engine, p);
    payload_unref(p);
}

static void send_all(struct controller *c, uint32_t engine, struct payload *p_take)
{
    list_each(l, &c->registry.clients)
        send_event(list_entry(l, struct client, node), engine, p_take);
    payload_unref(p_take);
}

void event_clients(struct controller *c, uint32_t engine, json_t *j_take)
{
    struct payload *p = c->registry.nclients ? say_json(json_incref(j_take)) : NULL;

    json_decref(j_take);
    send_all(c, engine, p);
}

static struct payload *engine_event(const char *name, const struct engine *e)
{
    struct buf b = {0};
    int r = buf_addf(&b, "{\"event\":\"%s\",\"engine\":", name);

    if (r == CV_OK)
        r = event_engine_text(&b, e);
    if (r == CV_OK)
        r = buf_addstr(&b, "}");
    if (r == CV_OK)
        return say_text(&b);
    buf_release(&b);
    return NULL;
}

void event_engine(struct controller *c, const char *name, const struct engine *e)
{
    send_all(c, e->number, c->registry.nclients ? engine_event(name, e) : NULL);
    events_line(c->events, json_pack("{s:s,s:I,s:s,s:s,s:I}", "event", "engine_joined", "id",
                                     (json_int_t)e->number, "uuid", e->uuid, "host", e->host, "pid",
                                     (json_int_t)e->pid));
}

struct holds {
    uint64_t session;
    struct ranges balanced;
    bool oom;
};

static void note_held(void *arg, struct sched_id id, uint32_t count, enum sched_task_state st,
                      enum sched_mode mode)
{
    struct holds *h = arg;

    if (id.session == h->session && mode == SCHED_BALANCED && h->balanced.n < AWAY_HOLDS_MAX)
        h->oom |= ranges_add(&h->balanced, id.seq, id.seq + count) != CV_OK;
}

/* [[lo, hi], ...]: the client's balanced tasks that the engine holds, which nobody else knows. */
static json_t *held_json(struct controller *c, const struct client *x, const struct engine *e)
{
    struct holds h = {.session = x->session};
    json_t *j = json_array();

    sched_each_held(c->sched, e->number, note_held, &h);
    for (size_t i = 0; i < h.balanced.n && !h.oom; i++)
        json_array_append_new(
            j, json_pack("[I,I]", (json_int_t)h.balanced.v[i].lo, (json_int_t)h.balanced.v[i].hi));
    ranges_release(&h.balanced);
    return j;
}

void event_engine_away(struct controller *c, const struct engine *e, const char *why)
{
    list_each(l, &c->registry.clients)
    {
        struct client *x = list_entry(l, struct client, node);
        event_client(x, e->number,
                     json_pack("{s:s,s:I,s:s,s:o}", "event", "engine_away", "id",
                               (json_int_t)e->number, "why", why, "holds", held_json(c, x, e)));
    }
    events_line(c->events, json_pack("{s:s,s:I,s:s,s:s,s:f}", "event", "engine_away", "id",
                                     (json_int_t)e->number, "host", e->host, "why", why, "grace",
                                     c->opt->away_grace));
}

void event_engine_back(struct controller *c, const struct engine *e)
{
    event_clients(c, e->number,
                  json_pack("{s:s,s:I}", "event", "engine_back", "id", (json_int_t)e->number));
    events_line(c->events,
                json_pack("{s:s,s:I}", "event", "engine_back", "id", (json_int_t)e->number));
}

void event_engine_died(struct controller *c, const struct engine *e, const char *cause)
{
    json_t *j = json_loads(cause, 0, NULL);

    event_clients(c, e->number,
                  json_pack("{s:s,s:I,s:s,s:O?}", "event", "engine_died", "id",
                            (json_int_t)e->number, "uuid", e->uuid, "cause", j));
    events_line(c->events, json_pack("{s:s,s:I,s:o?}", "event", "engine_died", "id",
                                     (json_int_t)e->number, "cause", j));
}

void event_notice(struct controller *c, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    size_t n = (size_t)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n >= sizeof(text)) { /* cut: no half character at its end */
        for (n = sizeof(text) - 1; n && (text[n - 1] & 0xC0) == 0x80;)
            n--;
        text[n ? n - 1 : 0] = 0;
    }
    event_clients(c, WIRE_ENGINE_NONE, json_pack("{s:s,s:s}", "event", "notice", "text", text));
}
