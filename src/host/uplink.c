/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See uplink.h. One timer drives everything that waits: the file (looked at every 50 ms), the next
 * attempt (50 ms, doubled up to 2 s), the answer to HELLO. Whether a lost controller is dead or
 * merely out of reach is peer.c's question. */
#include "host/uplink.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/jsontext.h"
#include "host/peer.h"
#include "host/source.h"
#include "ssh/way.h"
#include "tls/tls.h"
#include "wire/hello.h"

#define TELL_WAITING_NS NS_PER_S /* what takes less needs no line */
#define LOOK_NS (50 * NS_PER_MS)
#define LOOK_SOON_NS (5 * NS_PER_MS) /* for a file whose controller is just starting */
#define RETRY_MIN_NS (50 * NS_PER_MS)
#define RETRY_MAX_NS (2 * NS_PER_S)
#define RETRY_GONE_NS (250 * NS_PER_MS) /* of a controller that may be starting again */
#define CONNECT_NS (10 * NS_PER_S)
#define CONNECT_LOGIN_NS (30 * NS_PER_S) /* by ssh */
#define RETRY_LOGIN_MAX_NS (5 * NS_PER_S)
#define GREETING_NS (10 * NS_PER_S)
#define FLUSH_NS (2 * NS_PER_S)
#define OUTPUT_MAX (64ull << 20) /* bytes that wait to be sent before OUTPUT is left out */

enum state { SEARCHING, CONNECTING, GREETING, UP, AWAY, CLOSING, ENDED };

struct uplink {
    struct uplink_config c;
    enum state state;
    bool was_up;
    struct source source;
    bool have_file, told_waiting;
    bool doubted; /* refused once: the file was read again */
    struct connfile file;
    struct tls_context *tls;
    struct ssh_way *way; /* NULL: none is needed */
    struct connector *connector;
    struct link *link;
    uint64_t connects; /* links so far */
    struct peer peer;
    struct timer *timer;
    uint64_t tell_at;         /* when waiting for the file is worth a line */
    uint64_t deadline;        /* of SEARCHING or AWAY */
    uint64_t retry_at, retry; /* the next attempt; the pause after that */
    uint64_t gone_at;         /* AWAY: when the controller's process was seen to be gone; 0: not */
    char unix_endpoint[128];
    char why[1024]; /* the last thing that went wrong */
};

static void on_timer(void *arg);

int uplink_new(struct uplink **ret, const struct uplink_config *c, struct err *e)
{
    struct uplink *u = calloc(1, sizeof *u);
    if (!u || timer_new(&u->timer, c->loop, on_timer, u) != CV_OK) {
        free(u);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    u->c = *c;
    u->source = (struct source){.path = c->path, .info = c->info};
    u->tell_at = clock_mono() + TELL_WAITING_NS;
    u->deadline = clock_mono() + c->timeout_ns;
    u->retry = RETRY_MIN_NS;
    timer_start(u->timer, 0, 0);
    *ret = u;
    return CV_OK;
}

static void drop_link(struct uplink *u)
{
    connector_free(u->connector);
    link_free(u->link);
    u->connector = NULL;
    u->link = NULL;
}

void uplink_free(struct uplink *u)
{
    if (!u)
        return;
    drop_link(u);
    ssh_way_free(u->way);
    tls_context_free(u->tls);
    connfile_release(&u->file);
    timer_free(u->timer);
    free(u);
}

const struct connfile *uplink_file(const struct uplink *u)
{
    return &u->file;
}

const char *uplink_unix_endpoint(const struct uplink *u)
{
    return u->unix_endpoint[0] ? u->unix_endpoint : NULL;
}

bool uplink_is_up(const struct uplink *u)
{
    return u->state == UP;
}

static void end(struct uplink *u, enum uplink_end how, const char *why)
{
    char text[sizeof u->why];
    snprintf(text, sizeof text, "%s", why);
    drop_link(u);
    timer_stop(u->timer);
    u->state = ENDED;
    u->c.ended(u->c.arg, how, text);
}

/* Keeps what went wrong and logs it when it is news. */
static void note(struct uplink *u, int level, const char *fmt, ...)
{
    char text[sizeof u->why];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (strcmp(text, u->why) == 0)
        return;
    memcpy(u->why, text, sizeof text);
    log_at(u->c.log, level, "%s", text);
}

/* The attempt has failed: the next one after a pause. */
static void retry_later(struct uplink *u)
{
    drop_link(u);
    u->state = u->was_up ? AWAY : SEARCHING;
    u->retry_at = clock_mono() + u->retry;
    uint64_t max = u->gone_at ? RETRY_GONE_NS : u->way ? RETRY_LOGIN_MAX_NS : RETRY_MAX_NS;
    u->retry = u->retry * 2 < max ? u->retry * 2 : max;
    timer_start(u->timer, LOOK_NS, 0);
}

/* --- HELLO and WELCOME --- */

static int say_hello(struct uplink *u)
{
    char host[256];
    static char versions[] = "{\"covey\": \"" COVEY_VERSION "\"}";
    struct buf route = {0};
    snprintf(host, sizeof host, "%s", u->c.host);
    const struct hello h = {
        .role = ROLE_HOST,
        .session = u->c.session,
        .cluster_id = u->file.cluster_id,
        .boot_id = u->file.boot_id,
        .versions = versions,
        .host = host,
        .machine = machine_id(),
        .pid = (uint32_t)getpid(),
        .number = WIRE_ENGINE_NONE,
        .slot = u->c.slots,
        .connects = ++u->connects,
    };
    const struct header header = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    int rc = hello_encode(&h, &route);
    if (rc == CV_OK)
        rc = link_send(u->link, &header, route.data, (uint32_t)route.len, NULL, 0);
    buf_release(&route);
    return rc;
}

/* The controller does not want us. Before we ever were in, another file may help. */
static void refused(struct uplink *u, const char *why)
{
    if (u->was_up) {
        end(u, UPLINK_GONE, why);
        return;
    }
    if (u->c.info)
        note(u, LOG_WARN_, "the controller of IPP_CONNECTION_INFO refused: %s", why);
    else
        note(u, LOG_WARN_, "%s: the controller refused: %s; waiting for a newer file", u->c.path,
             why);
    u->have_file = false;
    if (!u->doubted) { /* short of memory, jansson reads something else than what is there */
        u->doubted = true;
        source_again(&u->source);
    }
    retry_later(u);
}

static void welcomed(struct uplink *u, const struct welcome *w)
{
    bool first = !u->was_up;
    link_set_credit(u->link, w->credit);
    if (!link_is_unix(u->link))
        link_set_liveness(u->link, w->ping, w->dead);
    peer_remember(&u->peer, link_fd(u->link));
    peer_unix_endpoint(link_fd(u->link), u->unix_endpoint, sizeof u->unix_endpoint);
    u->state = UP;
    u->was_up = true;
    u->retry = RETRY_MIN_NS;
    u->gone_at = 0;
    u->why[0] = 0;
    timer_stop(u->timer);
    u->c.up(u->c.arg, first);
}

static void handle_welcome(struct uplink *u, const struct msg *m)
{
    struct welcome w = {0};
    struct err e;
    if (welcome_decode(m->route, m->h.route_len, &w, &e) != CV_OK) {
        note(u, LOG_WARN_, "the controller's WELCOME can't be read: %s", e.text);
        retry_later(u);
        return;
    }
    if (w.refused)
        refused(u, w.refused);
    else
        welcomed(u, &w);
    welcome_release(&w);
}

/* {"reason": text} of a BYE. */
static void bye_reason(const struct msg *m, char *out, size_t cap)
{
    const struct slice *s = m->payload && m->payload->nbufs ? &m->payload->bufs[0] : NULL;
    json_t *j = s ? json_loadb((const char *)s->data, s->len, 0, NULL) : NULL;
    const char *reason = json_string_value(json_object_get(j, "reason"));
    snprintf(out, cap, "%s", reason ? reason : "no reason given");
    json_decref(j);
}

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct uplink *u = arg;
    char reason[512], why[600];
    if (m->h.type == MSG_BYE && m->h.engine == WIRE_ENGINE_NONE) {
        bye_reason(m, reason, sizeof reason);
        snprintf(why, sizeof why, "the controller has ended the connection: %s", reason);
        if (u->state == UP)
            end(u, UPLINK_ASKED, why);
        else if (u->state == GREETING)
            refused(u, reason);
    } else if (u->state == GREETING && m->h.type == MSG_WELCOME) {
        handle_welcome(u, m);
    } else if (u->state == UP) {
        u->c.msg(u->c.arg, m);
        return;
    }
    msg_free(m);
}

/* --- the link's life --- */

static void lost(struct uplink *u, const char *why)
{
    drop_link(u);
    u->state = AWAY;
    u->deadline = clock_mono() + u->c.grace_ns;
    u->gone_at = 0;
    u->retry_at = clock_mono() + RETRY_MIN_NS;
    timer_start(u->timer, LOOK_NS, 0);
    note(u, LOG_WARN_, "the link to the controller is cut: %s", why);
    u->c.down(u->c.arg);
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct uplink *u = arg;
    if (u->state == CLOSING) {
        end(u, UPLINK_CLOSED, why);
    } else if (u->state == UP) {
        lost(u, why);
    } else {
        note(u, LOG_WARN_, "the controller did not answer: %s", why);
        retry_later(u);
    }
}

static void on_connect(void *arg, struct link *link_take, int code, const char *why)
{
    static const struct link_callbacks callbacks = {.on_msg = on_msg, .on_closed = on_closed};
    static const struct wire_limits limits = {.body_max = WIRE_BODY_MAX,
                                              .route_max = WIRE_ROUTE_MAX};
    struct uplink *u = arg;
    connector_free(u->connector);
    u->connector = NULL;
    if (!link_take) {
        note(u, u->was_up ? LOG_INFO_ : LOG_WARN_, "can't reach the controller: %s", why);
        retry_later(u);
        return;
    }
    u->link = link_take;
    link_set_callbacks(u->link, &callbacks, u);
    link_set_limits(u->link, &limits);
    link_receive_into_memfds(u->link);
    if (say_hello(u) != CV_OK) {
        note(u, LOG_ERROR_, "out of memory");
        retry_later(u);
        return;
    }
    u->state = GREETING;
    timer_start(u->timer, GREETING_NS, 0);
}

static void connect_now(struct uplink *u)
{
    const struct transport_factory none = {0};
    const struct transport_factory tls = u->way   ? ssh_way_factory(u->way)
                                         : u->tls ? tls_factory(u->tls)
                                                  : none;
    char **v = NULL;
    uint32_t n = 0;
    struct err e;
    int rc = source_endpoints(&u->file, u->c.location, u->c.host, u->c.no_unix, u->way != NULL, &v,
                              &n, &e);
    if (rc == CV_OK)
        rc = connector_new(&u->connector, u->c.loop, (const char *const *)v, n, &tls,
                           u->way ? CONNECT_LOGIN_NS : CONNECT_NS, on_connect, u, &e);
    endpoints_free(v, n);
    if (rc == CV_OK) {
        u->state = CONNECTING;
        timer_stop(u->timer);
    } else {
        note(u, LOG_WARN_, "%s", e.text);
        retry_later(u);
    }
}

/* --- waiting --- */

/* The way through the ssh server that the user names, else the file. */
static int find_way(struct uplink *u, const struct connfile *f, struct err *e)
{
    const char *server = *u->c.ssh_server ? u->c.ssh_server : f->ssh;
    ssh_way_free(u->way);
    u->way = NULL;
    if (!server || !*server || !u->tls)
        return CV_OK;
    const struct ssh_way_config c = {
        .server = server, .key = u->c.ssh_key, .inner = tls_factory(u->tls)};
    return ssh_way_new(&u->way, &c, e);
}

/* A file that is there and new becomes ours. True: an attempt makes sense now. */
static bool take_new_file(struct uplink *u)
{
    struct connfile f = {0};
    struct err e;
    if (!source_changed(&u->source))
        return false;
    int rc = source_read(&u->source, &f, &e);
    if (rc == CV_OK && *u->c.cluster_id && f.cluster_id && strcmp(f.cluster_id, u->c.cluster_id))
        rc = err_set(&e, CV_EINVAL, "%s is of cluster '%s', not of '%s'", u->c.path, f.cluster_id,
                     u->c.cluster_id);
    tls_context_free(u->tls);
    u->tls = NULL;
    if (rc == CV_OK && f.key)
        rc = tls_client_new(&u->tls, "engine", f.key, &e);
    if (rc == CV_OK)
        rc = find_way(u, &f, &e);
    connfile_release(&u->file);
    u->have_file = rc == CV_OK;
    if (rc == CV_OK) {
        u->file = f;
        u->retry = RETRY_MIN_NS;
        return true;
    }
    connfile_release(&f);
    if (rc != CV_ENOENT)
        note(u, LOG_WARN_, "%s", e.text);
    /* perhaps no fault of the file: memory, descriptors, the disk; JSON's reader does not tell */
    if (rc == CV_ENOMEM || rc == CV_ESYS || !u->c.info)
        source_again(&u->source);
    return false;
}

static void search(struct uplink *u)
{
    bool fresh = take_new_file(u);
    uint64_t now = clock_mono();
    if (fresh || (u->have_file && now >= u->retry_at)) {
        connect_now(u);
        return;
    }
    if (u->c.info && !u->have_file) { /* text in the environment gets no better */
        end(u, UPLINK_NO_ANSWER, u->why);
        return;
    }
    if (now >= u->deadline) {
        char why[sizeof u->why + 512];
        double seconds = (double)u->c.timeout_ns / NS_PER_S;
        if (u->why[0])
            snprintf(why, sizeof why, "no controller within %g s: %s", seconds, u->why);
        else
            snprintf(why, sizeof why,
                     "there was no connection file %s within %g s; is a controller running for "
                     "this profile?",
                     u->c.path, seconds);
        end(u, u->why[0] ? UPLINK_NO_ANSWER : UPLINK_NO_FILE, why);
        return;
    }
    if (!u->have_file && !u->told_waiting && !u->why[0] && now >= u->tell_at) {
        u->told_waiting = true;
        log_info(u->c.log, "waiting for the connection file %s (for up to %g s)", u->c.path,
                 (double)u->c.timeout_ns / NS_PER_S);
    }
    timer_start(u->timer, !u->have_file && now < u->tell_at ? LOOK_SOON_NS : LOOK_NS, 0);
}

/* Does the connection file still lead to the controller that we had? One that was started again
 * may have written it anew. */
static bool file_stays(struct uplink *u)
{
    struct connfile f = {0};
    if (u->c.info)
        return true;
    int rc = connfile_read(u->c.path, &f, NULL);
    bool same = rc == CV_OK && f.boot_id && u->file.boot_id && !strcmp(f.boot_id, u->file.boot_id);
    if (same) {
        connfile_release(&u->file);
        u->file = f;
        return true;
    }
    connfile_release(&f);
    return rc != CV_OK && rc != CV_ENOENT;
}

/* The process of our controller is no more. True: there is no hope that it comes back. */
static bool hopeless(struct uplink *u, char *why, size_t cap)
{
    size_t n = strlen(why);
    double seconds = (double)u->c.gone_grace_ns / NS_PER_S;
    if (!u->gone_at) {
        u->gone_at = clock_mono();
        u->retry = RETRY_MIN_NS;
        if (u->c.gone_grace_ns && file_stays(u))
            note(u, LOG_WARN_, "%s; keeping the engines for %g s, as it may be started again", why,
                 seconds);
    }
    if (!file_stays(u))
        snprintf(why + n, cap - n, ", and its connection file is gone or another controller's");
    else if (clock_mono() - u->gone_at >= u->c.gone_grace_ns)
        snprintf(why + n, cap - n, " and was not there again within %g s", seconds);
    else
        return false;
    return true;
}

static void stay_away(struct uplink *u)
{
    uint64_t now = clock_mono();
    char why[256];
    if (peer_gone(&u->peer, &u->file, u->c.host, why, sizeof why) && hopeless(u, why, sizeof why)) {
        end(u, UPLINK_GONE, why);
        return;
    }
    if (now >= u->deadline) {
        snprintf(why, sizeof why, "the controller could not be reached for %g s",
                 (double)u->c.grace_ns / NS_PER_S);
        end(u, UPLINK_GONE, why);
        return;
    }
    if (now >= u->retry_at)
        connect_now(u);
    else
        timer_start(u->timer, LOOK_NS, 0);
}

static void on_timer(void *arg)
{
    struct uplink *u = arg;
    switch (u->state) {
    case SEARCHING:
        search(u);
        break;
    case AWAY:
        stay_away(u);
        break;
    case GREETING:
        note(u, LOG_WARN_, "the controller did not answer within %d s",
             (int)(GREETING_NS / NS_PER_S));
        retry_later(u);
        break;
    case CLOSING:
        end(u, UPLINK_CLOSED, "closed");
        break;
    default:
        break;
    }
}

int uplink_send(struct uplink *u, const struct header *h, const void *route, uint32_t route_len,
                struct payload *payload, int flags)
{
    if (u->state != UP)
        return CV_ECLOSED;
    if (h->type == MSG_OUTPUT && link_queued_small(u->link) > OUTPUT_MAX)
        return CV_OK; /* the controller stands still, and engines print on */
    return link_send(u->link, h, route, route_len, payload, flags);
}

void uplink_close(struct uplink *u, const char *reason)
{
    if (u->state == CLOSING || u->state == ENDED)
        return;
    bool up = u->state == UP;
    u->state = CLOSING;
    if (!up) {
        drop_link(u);
        timer_start(u->timer, 0, 0);
        return;
    }
    json_t *j = json_pack("{s:s}", "reason", reason);
    char *text = j ? jsontext(j, JSON_COMPACT) : NULL;
    struct payload *p = NULL;
    const struct header h = {.type = MSG_BYE, .engine = WIRE_ENGINE_NONE};
    if (text && payload_new_copy(&p, text, strlen(text)) == CV_OK &&
        link_send(u->link, &h, NULL, 0, p, LINK_AFTER_BULK) != CV_OK)
        log_debug(u->c.log, "out of memory for the BYE");
    payload_unref(p);
    free(text);
    json_decref(j);
    link_close_after_flush(u->link, FLUSH_NS);
}
