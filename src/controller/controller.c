/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The start, the turns and the end of the controller. Everything that is due leaves at the end of
 * a turn of the loop: acknowledgements, and the scheduler's next deadline is set. */
#include "controller/controller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/clock.h"
#include "controller/ack.h"
#include "controller/act.h"
#include "controller/conn.h"
#include "controller/death.h"
#include "controller/ended.h"
#include "controller/handover.h"
#include "controller/query.h"
#include "controller/say.h"
#include "controller/schedlog.h"

#define ACTIONS_MIN 2048
#define STOP_NS (700 * NS_PER_MS)

bool quiet_ask(struct quiet *q, uint64_t now, uint32_t *ret_skipped)
{
    if (q->logged && now - q->logged < NS_PER_S) {
        q->skipped++;
        return false;
    }
    *ret_skipped = q->skipped;
    q->logged = now;
    q->skipped = 0;
    return true;
}

static void ref_payload(void *p)
{
    payload_ref(p);
}

static void unref_payload(void *p)
{
    payload_unref(p);
}

static bool lent_payload(const void *p)
{
    return payload_has_regions(p);
}

static void on_tick(void *arg)
{
    struct controller *c = arg;
    struct sched_event ev = {.type = SCHED_TICK};

    c->tick_at = 0;
    act_must(c, &ev);
}

static void end_loop(struct controller *c)
{
    if (!c->stopped)
        loop_stop(c->loop);
    c->stopped = true;
}

static void on_store_timer(void *arg)
{
    ((struct controller *)arg)->store_at = UINT64_MAX; /* the end of this turn does it */
}

static void on_store_wake(void *arg)
{
    loop_wake(((struct controller *)arg)->loop);
}

static void on_store_tell(void *arg, bool bad, const char *text)
{
    struct controller *c = arg;

    log_at(c->log, bad ? LOG_ERROR_ : LOG_WARN_, "%s", text);
    if (!c->stopped)
        event_notice(c, "%s", text);
}

/* A part of what the records have to do, and when it goes on. */
static void turn_store(struct controller *c)
{
    uint64_t now = loop_now(c->loop), at = c->store->ops->turn(c->store, now);

    if (at == 0)
        loop_wake(c->loop);
    else if (at != UINT64_MAX && at < c->store_at)
        timer_start(c->store_timer, at > now ? at - now : 1, 0);
    else
        return;
    c->store_at = at ? at : c->store_at;
}

static void on_turn_end(void *arg)
{
    struct controller *c = arg;
    bool more = cancels_turn(c);

    more |= queues_turn(c);
    more |= handover_turn(c);
    if (more)
        loop_wake(c->loop);
    backlog_settle(c);
    schedlog_turn(c);
    ack_turn(c);
    turn_store(c);
    act_arm(c);
    if (c->stopping && list_empty(&c->conns))
        end_loop(c);
}

static void on_stop_timer(void *arg)
{
    end_loop(arg);
}

static uint32_t count_buffers(const void *p)
{
    return ((const struct payload *)p)->nbufs;
}

/* On the store's thread. */
static struct store_slice get_buffer(const void *p, uint32_t i)
{
    const struct slice *s = &((const struct payload *)p)->bufs[i];

    const uint8_t *data = slice_bytes(s);
    return (struct store_slice){data, data ? s->len : 0};
}

static void *make_payload(const struct store_slice *v, uint32_t n)
{
    uint64_t *lens = calloc(n + 1, sizeof(*lens));
    struct payload *p = NULL;
    int r = CV_ENOMEM;

    for (uint32_t i = 0; lens && i < n; i++)
        lens[i] = v[i].len;
    if (lens)
        r = payload_new_large(&p, n, lens);
    for (uint32_t i = 0; r == CV_OK && i < n; i++)
        if (v[i].len)
            memcpy(p->bufs[i].data, v[i].data, v[i].len);
    free(lens);
    return r == CV_OK ? p : NULL;
}

static int make_store(struct controller *c, struct err *e)
{
    const struct options *o = c->opt;
    const struct store_config sc = {.backend = o->store,
                                    .limits = {o->size_limit, o->record_limit},
                                    .payload = {ref_payload, unref_payload, count_buffers,
                                                get_buffer, make_payload, lent_payload},
                                    .file = o->db_file,
                                    .table = o->db_table,
                                    .retry_ns = (uint64_t)(o->db_retry * 1e9),
                                    .wake = on_store_wake,
                                    .tell = on_store_tell,
                                    .arg = c};
    int r = store_new(&c->store, &sc, e);

    c->store_at = UINT64_MAX;
    if (r == CV_OK && c->store->ops->persistent)
        log_info(c->log, "task records: %s", o->db_file);
    return r;
}

/* An event's decisions fit without asking for memory, which must not be short then. */
static int reserve_actions(struct controller *c)
{
    c->actions.v = malloc(ACTIONS_MIN * sizeof(*c->actions.v));
    c->actions.cap = c->actions.v ? ACTIONS_MIN : 0;
    return c->actions.v ? CV_OK : CV_ENOMEM;
}

static int make_parts(struct controller *c, struct err *e)
{
    const struct options *o = c->opt;
    const struct sched_options so = {.policy = o->scheme,
                                     .hwm = o->hwm,
                                     .away_grace_ns = (uint64_t)(o->away_grace * 1e9),
                                     .client_grace_ns = (uint64_t)(o->client_grace * 1e9),
                                     .seed = clock_wall(),
                                     .outcome = act_outcome,
                                     .outcome_arg = c};
    const struct sched_payload_ops sp = {ref_payload, unref_payload};

    int r = loop_new(&c->loop);
    if (r == CV_OK)
        r = timer_new(&c->tick, c->loop, on_tick, c);
    if (r == CV_OK)
        r = reserve_actions(c);
    if (r == CV_OK)
        r = lane_new(&c->lane, c->loop);
    if (r == CV_OK)
        r = door_init(&c->unix_door, c);
    if (r == CV_OK)
        r = door_init(&c->tcp_door, c);
    if (r == CV_OK)
        r = timer_new(&c->stop_timer, c->loop, on_stop_timer, c);
    if (r == CV_OK)
        r = timer_new(&c->ack_timer, c->loop, ack_timer, c);
    if (r == CV_OK)
        r = timer_new(&c->settle_timer, c->loop, hello_settled, c);
    if (r == CV_OK)
        r = timer_new(&c->store_timer, c->loop, on_store_timer, c);
    if (r == CV_OK)
        r = loop_on_turn_end(c->loop, on_turn_end, c);
    if (r != CV_OK)
        return err_set(e, r, "the event loop can't be made");
    r = events_new(&c->events, c->loop, e);
    if (r == CV_OK)
        r = ended_new(&c->ended, c, e);
    if (r == CV_OK)
        r = make_store(c, e);
    if (r == CV_OK)
        r = sched_new(&c->sched, &so, &sp, e);
    if (r == CV_OK && *o->sched_log)
        r = schedlog_open(&c->schedlog, o->sched_log, o->sched_log_limit, &so, e);
    return r;
}

/* Accepting has failed, as a rule because descriptors are short. */
static void on_accept_trouble(void *arg, const char *why)
{
    struct door *d = arg;
    struct controller *c = d->c;
    const struct registry *r = &c->registry;
    struct rlimit l = {0};

    if (c->told_no_room)
        return;
    c->told_no_room = true;
    getrlimit(RLIMIT_NOFILE, &l);
    log_error(c->log,
              "%s. This process may open %llu files (ulimit -n) and needs 32, and one for each "
              "client, host and engine of this machine; now there are %u clients, %u hosts and %u "
              "engines",
              why, (unsigned long long)l.rlim_cur, r->nclients, r->nhosts, r->nengines);
    event_notice(c, "the controller can't take more connections: %s", why);
}

static int listen_all(struct controller *c, struct err *e)
{
    const struct files *f = &c->files;
    const struct connfile *k = f->content;
    uint16_t port = c->opt->port ? c->opt->port : c->opt->reuse ? k[FILES_CLIENT].port : 0;

    int r = tls_server_new(&c->tls, k[FILES_CLIENT].key, k[FILES_ENGINE].key, e);
    if (r == CV_OK && f->unix_name)
        r = listener_new_unix(&c->unix_door.listener, c->loop, f->unix_name, accept_connection,
                              &c->unix_door, e);
    if (r == CV_OK)
        r = listener_new_tcp(&c->tcp_door.listener, c->loop, c->opt->ip, port, accept_connection,
                             &c->tcp_door, e);
    struct listener *both[] = {c->unix_door.listener, c->tcp_door.listener};
    for (int i = 0; i < 2; i++) {
        if (!both[i])
            continue;
        listener_on_trouble(both[i], on_accept_trouble);
        listener_set_lane(both[i], c->lane);
    }
    return r;
}

static void say_where(struct controller *c)
{
    uint16_t port = listener_port(c->tcp_door.listener);
    const char *unix_name = c->files.unix_name ? c->files.unix_name : "none";

    log_info(c->log, "listening on %s port %u (TLS) and on the Unix socket %s", c->opt->ip, port,
             unix_name);
    log_info(c->log, "connection files: %s, %s", c->files.path[FILES_CLIENT],
             c->files.path[FILES_ENGINE]);
    events_line(c->events,
                json_pack("{s:s,s:i,s:i,s:s,s:s,s:s}", "event", "listening", "pid", (int)getpid(),
                          "port", (int)port, "unix", unix_name, "client_file",
                          c->files.path[FILES_CLIENT], "engine_file", c->files.path[FILES_ENGINE]));
}

int controller_start(struct controller *c, const struct options *opt, struct log *log,
                     struct err *e)
{
    memset(c, 0, sizeof(*c));
    c->opt = opt;
    c->log = log;
    c->machine = machine_id();
    c->pid_namespace = pid_namespace();
    c->started = clock_wall();
    list_init(&c->conns);
    list_init(&c->ack_due);
    list_init(&c->cancels);
    list_init(&c->queues);
    list_init(&c->handovers);
    registry_init(&c->registry);
    backlog_init(&c->backlog);
    int r = files_prepare(&c->files, opt, log, e);
    if (r == CV_OK)
        r = make_parts(c, e);
    if (r == CV_OK)
        r = listen_all(c, e);
    if (r == CV_OK && !opt->reuse && access(c->files.path[FILES_CLIENT], F_OK) == 0)
        log_warn(log,
                 "%s was there already (another controller's, or left behind by one that was "
                 "killed) and is replaced",
                 c->files.path[FILES_CLIENT]);
    if (r == CV_OK)
        r = files_write(&c->files, opt, listener_port(c->tcp_door.listener), e);
    if (r == CV_OK)
        say_where(c);
    if (r == CV_OK && c->files.reused) {
        c->settling = true;
        timer_start(c->settle_timer, (uint64_t)(opt->settle * 1e9), 0);
    }
    return r == CV_ENOMEM ? err_set(e, r, "out of memory") : r;
}

void controller_stop(struct controller *c, const char *reason)
{
    if (c->stopping)
        return;
    c->stopping = true;
    c->stop_reason = reason;
    log_info(c->log, "stopping: %s", reason);
    door_close(&c->unix_door);
    door_close(&c->tcp_door);
    list_each(l, &c->registry.engines) list_entry(l, struct engine, node)->asked = true;
    list_each(l, &c->conns)
        conn_bye(list_entry(l, struct conn, node), "the controller stops: %s", reason);
    timer_start(c->stop_timer, STOP_NS, 0);
    loop_wake(c->loop); /* a turn must end, also when nobody is connected */
}

static void free_conns(struct controller *c)
{
    for (struct list *l; (l = list_first(&c->conns));)
        conn_free(list_entry(l, struct conn, node));
}

static void cancel_deaths(struct controller *c)
{
    list_each(l, &c->registry.engines) death_cancel(list_entry(l, struct engine, node));
}

void controller_release(struct controller *c)
{
    if (c->conns.next)
        free_conns(c);
    door_release(&c->unix_door);
    door_release(&c->tcp_door);
    if (c->stop_reason)
        events_line(c->events,
                    json_pack("{s:s,s:s}", "event", "stopped", "reason", c->stop_reason));
    ended_free(c->ended);
    events_free(c->events);
    cancel_deaths(c);
    schedlog_close(c->schedlog);
    cancels_release(c);
    queues_release(c);
    handover_release(c);
    if (c->sched)
        sched_free(c->sched);
    sched_actions_release(&c->actions);
    act_forget_words(c);
    store_free(c->store);
    registry_release(&c->registry);
    backlog_release(&c->backlog);
    timer_free(c->tick);
    lane_free(c->lane);
    timer_free(c->ack_timer);
    timer_free(c->stop_timer);
    timer_free(c->settle_timer);
    timer_free(c->store_timer);
    tls_context_free(c->tls);
    if (c->loop)
        loop_free(c->loop);
    files_release(&c->files);
}
