/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See host.h. Life: start the zygote and the search for the controller side by side; when the
 * controller has let us in, start the engines; then pass on orders, tell deaths; at the end stop
 * the engines, say BYE and leave nothing. An engine's EXIT follows whatever else came from it: for
 * a relayed engine it waits at the host that relays (exits.h, elect.h). */
#include "host/host.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "host/deathlog.h"
#include "host/elect.h"
#include "host/engines.h"
#include "host/events.h"
#include "host/exits.h"
#include "host/params.h"
#include "host/place.h"
#include "host/single.h"
#include "host/uplink.h"

#define TAKEN_NS (2 * NS_PER_S) /* for a relay that hangs */
#define SECOND_INTERRUPT_NS (5 * NS_PER_S)
#define MPIEXEC_GRACE_NS (400 * NS_PER_MS)

struct host {
    const struct options *o;
    struct log *log;
    int events;
    char name[256];
    uint64_t session;
    bool process_manager;
    struct loop *loop;
    struct reaper *reaper;
    struct uplink *uplink;
    struct engines *engines;
    struct elect *elect; /* NULL: engines reach the controller's socket themselves */
    struct watch *signals[3];
    json_t *params;
    json_t *environments; /* of the engines, by their places */
    struct exits *exits;  /* of relayed engines, here and at members */
    struct timer *end_timer;
    uint64_t interrupted; /* when SIGINT found nothing to interrupt */
    bool stopping, uplink_over, unclean;
    bool terminated;  /* stopping by SIGTERM */
    bool no_engines;  /* none will come; the end waits for the last reports */
    bool ending;      /* finish() is due */
    bool waited;      /* for the relay, which may still have to take an EXIT */
    int code, signal; /* what this program ends with */
    char reason[256]; /* why, for the last event */
};

static bool by_mpiexec(const struct host *h)
{
    return h->terminated && h->process_manager && single_is_mpiexec();
}

/* mpiexec kills us a second after its SIGTERM, and an engine in MPI_Finalize may wait for ranks
 * that are gone: our word of its end must be out before. */
static uint64_t stop_grace(const struct host *h)
{
    uint64_t grace = (uint64_t)(h->o->stop_grace * NS_PER_S);
    return by_mpiexec(h) && grace > MPIEXEC_GRACE_NS ? MPIEXEC_GRACE_NS : grace;
}

/* --- stopping --- */

/* From the next turn on, since the relay itself may be calling. */
static void finish(struct host *h)
{
    h->ending = true;
    exits_hold(h->exits);
    timer_start(h->end_timer, 0, 0);
}

/* What is told of the engines' ends. mpiexec and batch systems end us by SIGTERM without a word. */
static void name_the_end(const struct host *h, char *out, size_t size)
{
    static const char *const JOBS[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"};
    const char *job = NULL;
    for (size_t i = 0; i < sizeof JOBS / sizeof JOBS[0] && !job && h->terminated; i++)
        job = getenv(JOBS[i]);
    death_reason(by_mpiexec(h), job, out, size);
}

/* level: LOG_INFO_ for an end that was asked for. */
static void stop(struct host *h, int level, int code, const char *reason)
{
    if (h->stopping)
        return;
    h->stopping = true;
    h->code = code;
    snprintf(h->reason, sizeof h->reason, "%s", reason);
    log_at(h->log, level, level == LOG_INFO_ ? "stopping: %s" : "%s", reason);
    char because[128];
    name_the_end(h, because, sizeof because);
    if (!engines_stop(h->engines, stop_grace(h), because))
        finish(h);
}

/* --- telling deaths --- */

/* False: it could not, for want of memory. */
static bool send_exit(struct host *h, uint32_t number, uint32_t incarnation, const char *json,
                      bool by_relay)
{
    const struct header header = {.type = MSG_EXIT, .engine = number, .incarnation = incarnation};
    struct payload *p;
    if (payload_new_copy(&p, json, strlen(json)) != CV_OK) {
        log_error(h->log, "out of memory: an engine's end can't be told");
        return false;
    }
    int rc = by_relay ? elect_exit(h->elect, &header, p) : CV_ECLOSED;
    if (rc == CV_ECLOSED)
        rc = uplink_send(h->uplink, &header, NULL, 0, p, 0);
    payload_unref(p);
    if (rc == CV_OK || rc == CV_ECLOSED) /* without a link it is told when there is one again */
        return true;
    log_error(h->log, "out of memory: an engine's end can't be told");
    return false;
}

static bool send_report(void *arg, uint32_t number, uint32_t incarnation, const char *json)
{
    return send_exit(arg, number, incarnation, json, false);
}

static void on_report(void *arg, uint32_t number, uint32_t incarnation, const char *json)
{
    (void)send_report(arg, number, incarnation, json);
}

/* For want of memory; nobody else would tell of an engine behind a relay. */
#define NO_CAUSE "{\"text\":\"its host was out of memory and can't say why it ended\"}"

static bool is_linked(void *arg, uint32_t number)
{
    const struct host *h = arg;
    return h->elect && relay_has(elect_relay(h->elect), number);
}

static bool is_up(void *arg)
{
    return uplink_is_up(((const struct host *)arg)->uplink);
}

/* After the last report of all comes the end. */
static void on_settled(void *arg)
{
    struct host *h = arg;
    if (h->no_engines && !h->ending)
        finish(h);
}

static int make_exits(struct host *h)
{
    const struct exits_config c = {.loop = h->loop,
                                   .send = send_report,
                                   .linked = is_linked,
                                   .is_up = is_up,
                                   .settled = on_settled,
                                   .arg = h};
    return exits_new(&h->exits, &c);
}

static void tell_exit(struct host *h, const struct death *d, const char *json)
{
    bool relayed = h->elect && d->number != WIRE_ENGINE_NONE;
    bool here = relayed && elect_relay(h->elect);
    if (!here && send_exit(h, d->number, d->incarnation, json, relayed))
        return;
    if (exits_add(h->exits, d->number, d->incarnation, json, strlen(json), false) != CV_OK && here)
        send_exit(h, d->number, d->incarnation, json, true);
}

/* What comes when this host is about to end is left to the member. */
static bool on_member_exit(void *arg, const struct msg *m)
{
    struct host *h = arg;
    const struct slice *s = m->payload && m->payload->nbufs ? &m->payload->bufs[0] : NULL;
    if (h->ending)
        return false;
    if (s && exits_add(h->exits, m->h.engine, m->h.incarnation, (const char *)s->data, s->len,
                       true) != CV_OK)
        send_exit(h, m->h.engine, m->h.incarnation, NO_CAUSE, false);
    return true;
}

/* --- the end --- */

/* Relaying ends first: engines of other hosts go to the next relay, and say there what they hold.
 * Of engines of this host and of members nothing more comes then; what they ended with goes out. */
static void end(void *arg)
{
    struct host *h = arg;
    if (h->elect && elect_waits(h->elect) && !h->uplink_over) {
        if (!h->waited) {
            h->waited = true;
            timer_start(h->end_timer, TAKEN_NS, 0);
            return;
        }
        engines_each_report(h->engines, on_report, h);
    }
    elect_free(h->elect);
    h->elect = NULL;
    if (h->uplink && !h->uplink_over)
        exits_flush(h->exits);
    if (h->uplink_over || !h->uplink)
        loop_stop(h->loop);
    else
        uplink_close(h->uplink, h->reason);
}

/* Ends that the relay was told may not have reached the controller; it takes each once. */
static void on_orphaned(void *arg)
{
    struct host *h = arg;
    engines_each_report(h->engines, on_report, h);
    if (h->ending)
        finish(h);
}

static void on_taken(void *arg)
{
    struct host *h = arg;
    if (h->ending)
        finish(h);
}

/* What this program ends with when no engine is left. */
static int exit_code(const struct host *h, const struct death *d)
{
    if (h->stopping)
        return h->code;
    if (h->o->n == 1 && d->known && !d->signal && !d->failure)
        return d->code;
    return h->unclean ? 1 : 0;
}

static void on_died(void *arg, const struct death *d, bool last)
{
    struct host *h = arg;
    json_t *cause = NULL;
    h->unclean |= !death_is_clean(d);
    death_log(h->log, d, h->stopping);
    int rc = death_json(d, &cause);
    char *json = rc == CV_OK ? jsontext(cause, JSON_COMPACT) : NULL;
    tell_exit(h, d, json ? json : NO_CAUSE);
    free(json);
    if (rc == CV_OK) {
        if (d->number == WIRE_ENGINE_NONE && !h->stopping)
            events_write(h->events,
                         json_pack("{s:s,s:I,s:s,s:O}", "event", "engine_failed", "slot",
                                   (json_int_t)d->slot, "host", h->name, "cause", cause));
        if (d->number != WIRE_ENGINE_NONE)
            events_write(h->events,
                         json_pack("{s:s,s:I,s:s,s:O}", "event", "engine_down", "id",
                                   (json_int_t)d->number, "host", h->name, "cause", cause));
        json_decref(cause);
    }
    if (!last)
        return;
    h->code = exit_code(h, d);
    bool by_us = h->stopping && d->signal == SIGTERM; /* late: it was leaving already */
    if (h->process_manager && d->known && !by_us)
        h->signal = d->signal;
    if (!h->stopping) {
        h->stopping = true;
        snprintf(h->reason, sizeof h->reason, "no engine is left");
        log_info(h->log, "%s", h->reason);
    }
    h->no_engines = true;
    exits_look(h->exits);
}

static void on_registered(void *arg, uint32_t number)
{
    struct host *h = arg;
    log_info(h->log, "Completed registration with id %" PRIu32, number);
    events_write(h->events, json_pack("{s:s,s:I,s:s}", "event", "engine_up", "id",
                                      (json_int_t)number, "host", h->name));
}

static void on_leg_closed(void *arg, uint32_t number)
{
    exits_look(((struct host *)arg)->exits);
}

/* --- the controller --- */

static int send_up(void *arg, const struct header *header, const void *route, uint32_t route_len,
                   struct payload *payload, int flags)
{
    struct host *h = arg;
    return uplink_send(h->uplink, header, route, route_len, payload, flags);
}

static int find_relay(struct host *h, struct err *e)
{
    const struct elect_config c = {.relay = {.loop = h->loop,
                                             .log = h->log,
                                             .send_up = send_up,
                                             .closed = on_leg_closed,
                                             .exited = on_member_exit,
                                             .arg = h},
                                   .boot_id = uplink_file(h->uplink)->boot_id,
                                   .session = h->session,
                                   .orphaned = on_orphaned,
                                   .taken = on_taken};
    return elect_new(&h->elect, &c, e);
}

static void on_up(void *arg, bool first)
{
    struct host *h = arg;
    struct err e;
    if (!first) {
        log_info(h->log, "the controller is there again");
        engines_each_report(h->engines, on_report, h);
        if (h->elect && elect_relay(h->elect))
            relay_uplink_back(elect_relay(h->elect));
        exits_look(h->exits);
        return;
    }
    const char *endpoint = uplink_unix_endpoint(h->uplink);
    int rc = endpoint ? CV_OK : find_relay(h, &e);
    if (rc == CV_OK && params_complete(h->params, uplink_file(h->uplink)) != CV_OK)
        rc = err_set(&e, CV_ENOMEM, "out of memory");
    if (rc == CV_OK)
        rc = engines_start(h->engines, h->elect ? elect_endpoint(h->elect) : endpoint, &e);
    if (rc != CV_OK)
        stop(h, LOG_CRITICAL_, 1, e.text);
}

static void on_down(void *arg)
{
    struct host *h = arg;
    log_info(h->log, "keeping the engines for up to %g s while the controller is away",
             h->o->grace);
}

static json_t *message_json(const struct msg *m)
{
    const struct slice *s = m->payload && m->payload->nbufs ? &m->payload->bufs[0] : NULL;
    return s ? json_loadb((const char *)s->data, s->len, 0, NULL) : NULL;
}

static void handle_signal(struct host *h, const struct msg *m)
{
    struct err e;
    json_t *j = message_json(m);
    json_int_t signum = json_integer_value(json_object_get(j, "signal"));
    if (signum < 0 || signum > SIGRTMAX)
        log_warn(h->log, "the controller asked for signal %lld, which does not exist",
                 (long long)signum);
    else if (engines_signal(h->engines, m->h.engine, (int)signum, "the controller asked for it",
                            &e) != CV_OK)
        log_info(h->log, "%s", e.text);
    json_decref(j);
}

static void handle_spawn(struct host *h, const struct msg *m)
{
    struct err e;
    json_t *j = message_json(m);
    const char *reason = json_string_value(json_object_get(j, "reason"));
    if (engines_replace(h->engines, m->h.engine,
                        reason ? reason : "the controller asked for another one", stop_grace(h),
                        &e) != CV_OK)
        log_warn(h->log, "%s", e.text);
    json_decref(j);
}

static void on_msg(void *arg, struct msg *m)
{
    struct host *h = arg;
    if (m->h.type == MSG_SIGNAL)
        handle_signal(h, m);
    else if (m->h.type == MSG_SPAWN)
        handle_spawn(h, m);
    else if (h->elect && elect_relay(h->elect)) {
        relay_down(elect_relay(h->elect), m);
        return;
    } else
        log_debug(h->log, "the controller sent a %s, which a host has no use for",
                  msg_type_name(m->h.type));
    msg_free(m);
}

static void on_uplink_ended(void *arg, enum uplink_end how, const char *why)
{
    struct host *h = arg;
    h->uplink_over = true;
    if (how == UPLINK_CLOSED || h->stopping) {
        if (engines_alive(h->engines) == 0)
            loop_stop(h->loop);
        return;
    }
    if (how == UPLINK_ASKED)
        stop(h, LOG_INFO_, 0, why);
    else
        stop(h, LOG_CRITICAL_, how == UPLINK_NO_ANSWER ? 255 : 1, why);
}

/* --- signals --- */

static void on_interrupt(struct host *h)
{
    if (h->process_manager) {
        engines_signal_all(h->engines, SIGINT);
        return;
    }
    uint32_t n = engines_interrupt(h->engines);
    uint64_t now = clock_mono();
    if (n > 0) {
        h->interrupted = 0;
        log_info(h->log, "interrupted what %" PRIu32 " engine%s ran", n, n == 1 ? "" : "s");
    } else if (h->interrupted && now - h->interrupted < SECOND_INTERRUPT_NS) {
        stop(h, LOG_INFO_, 0, "interrupted twice while no engine ran anything");
    } else {
        h->interrupted = now;
        log_warn(h->log, "no engine runs anything: press Ctrl-C once more, or send SIGTERM, to "
                         "stop the engines");
    }
}

static void on_signal(void *arg, int signum)
{
    struct host *h = arg;
    char reason[64];
    if (signum == SIGINT) {
        on_interrupt(h);
        return;
    }
    h->terminated = signum == SIGTERM; /* a rank that ends with a failure ends all, slowly */
    snprintf(reason, sizeof reason, "%s received", signal_name(signum));
    stop(h, LOG_INFO_, by_mpiexec(h) ? 0 : 1, reason);
}

/* SIGHUP stops, too, unless somebody (nohup) had it ignored. */
static int watch_signals(struct host *h)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction old;
    int rc = CV_OK;
    for (int i = 0; i < 3 && rc == CV_OK; i++) {
        if (numbers[i] == SIGHUP && sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
            continue;
        rc = signal_new(&h->signals[i], h->loop, numbers[i], on_signal, h);
    }
    return rc;
}

/* --- the start --- */

static int make_engines(struct host *h, uint32_t number, struct err *e)
{
    const struct engines_config c = {
        .n = h->o->n,
        .number = number,
        .restart = h->o->restart,
        .single = h->o->n == 1,
        .process_manager = h->process_manager,
        .python = h->o->python,
        .module = h->o->module,
        .host = h->name,
        .params = h->params,
        .environments = h->environments,
        .loop = h->loop,
        .reaper = h->reaper,
        .log = h->log,
        .registered = on_registered,
        .died = on_died,
        .arg = h,
    };
    int rc = engines_new(&h->engines, &c, e);
    return rc == CV_OK ? engines_prepare(h->engines, e) : rc;
}

static int make_uplink(struct host *h, struct err *e)
{
    const struct uplink_config c = {
        .loop = h->loop,
        .log = h->log,
        .path = h->o->file,
        .info = h->o->info,
        .location = h->o->location,
        .ssh_server = h->o->ssh_server,
        .ssh_key = h->o->ssh_key,
        .cluster_id = h->o->cluster_id,
        .host = h->name,
        .no_unix = h->o->no_unix,
        .slots = h->o->n,
        .session = h->session,
        .timeout_ns = (uint64_t)(h->o->timeout * NS_PER_S),
        .grace_ns = (uint64_t)(h->o->grace * NS_PER_S),
        .gone_grace_ns = (uint64_t)(h->o->controller_grace * NS_PER_S),
        .up = on_up,
        .down = on_down,
        .msg = on_msg,
        .ended = on_uplink_ended,
        .arg = h,
    };
    return uplink_new(&h->uplink, &c, e);
}

/* Under a process manager we end with it; its rank is the number that the engine asks for. */
static uint32_t join_process_manager(struct host *h)
{
    long rank;
    bool found = single_process_manager(&rank);
    h->process_manager = found && h->o->n == 1;
    if (h->process_manager)
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    if (h->o->number != WIRE_ENGINE_NONE || rank < 0)
        return h->o->number;
    return h->process_manager ? (uint32_t)rank : h->o->number;
}

static int host_start(struct host *h, struct err *e)
{
    int rc = random_bytes(&h->session, sizeof h->session, e);
    if (rc != CV_OK)
        return rc;
    if (gethostname(h->name, sizeof h->name - 1) < 0)
        snprintf(h->name, sizeof h->name, "localhost");
    uint32_t number = join_process_manager(h);
    if (!h->process_manager && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return err_sys(e, "can't become the reaper of the engines");
    rc = place_environments(&h->environments, h->o, e);
    if (rc != CV_OK)
        return rc;
    rc = params_new(&h->params, h->o, h->session, h->process_manager);
    if (rc == CV_OK)
        rc = loop_new(&h->loop);
    if (rc == CV_OK)
        rc = watch_signals(h);
    if (rc == CV_OK)
        rc = timer_new(&h->end_timer, h->loop, end, h);
    if (rc == CV_OK)
        rc = make_exits(h);
    if (rc != CV_OK)
        return err_set(e, rc, "out of memory");
    rc = reaper_new(&h->reaper, loop_uv(h->loop), e);
    if (rc == CV_OK)
        rc = make_engines(h, number, e);
    return rc == CV_OK ? make_uplink(h, e) : rc;
}

static void host_release(struct host *h)
{
    elect_free(h->elect);
    uplink_free(h->uplink);
    engines_free(h->engines);
    reaper_free(h->reaper);
    exits_free(h->exits);
    timer_free(h->end_timer);
    for (int i = 0; i < 3; i++)
        watch_free(h->signals[i]);
    if (h->loop)
        loop_free(h->loop);
    json_decref(h->params);
    json_decref(h->environments);
}

int host_run(const struct options *o, struct log *log, int events_fd, int *ret_signal)
{
    struct host h = {.o = o, .log = log, .events = events_fd};
    struct err e = {{0}};
    events_write(events_fd, json_pack("{s:s,s:i}", "event", "host", "pid", (int)getpid()));
    if (host_start(&h, &e) == CV_OK) {
        loop_run(h.loop);
    } else {
        log_critical(log, "%s", e.text);
        snprintf(h.reason, sizeof h.reason, "%.200s", e.text);
        h.code = 1;
    }
    host_release(&h);
    events_write(events_fd, json_pack("{s:s,s:s}", "event", "stopped", "reason", h.reason));
    *ret_signal = h.signal;
    return h.code;
}
