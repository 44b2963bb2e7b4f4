/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The life of the supervisor (supervisor.h): start, ready or failed, stop, end. Whatever happens,
 * it ends through super_stop(), and leaves only when its children are gone. */
#include "cluster/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "cluster/adopt.h"
#include "cluster/clusterfile.h"
#include "cluster/super_priv.h"

#define STOP_NS (5 * NS_PER_S)
#define TICK_MS 50

extern char **environ;

/* ---- ends ---- */

/* Also one that was never made: setting up may have failed before. */
static void close_handle(uv_handle_t *h)
{
    if (h->type != UV_UNKNOWN_HANDLE && !uv_is_closing(h))
        uv_close(h, NULL);
}

/* Nothing is left to wait for: the loop runs out. */
static void close_all(struct supervisor *v)
{
    control_free(v->control);
    v->control = NULL;
    for (size_t i = 0; i < SUPER_SIGNALS; i++)
        close_handle((uv_handle_t *)&v->signals[i]);
    close_handle((uv_handle_t *)&v->tick);
    close_handle((uv_handle_t *)&v->asking);
    close_handle((uv_handle_t *)&v->telling);
    if (v->parent_fd >= 0)
        close_handle((uv_handle_t *)&v->parent);
    if (v->adopted_fd >= 0)
        close_handle((uv_handle_t *)&v->adoptee);
    reaper_free(v->reaper);
    v->reaper = NULL;
}

void super_check_end(struct supervisor *v)
{
    if (v->state == SUPER_STOPPING && !v->controller && list_empty(&v->sets) && v->reaper) {
        tell_over(v);
        close_all(v);
    }
}

static void stop_child(struct supervisor *v, struct child *c, bool force)
{
    struct err e;
    if (c && child_stop(c, force, &e)) {
        if (force)
            tell_left(v, e.text);
        else
            log_warn(v->s->log, "%s", e.text);
    }
}

static void stop_children(struct supervisor *v, bool force)
{
    list_each(at, &v->sets)
    {
        stop_child(v, list_entry(at, struct engine_set, node)->child, force);
    }
    stop_child(v, v->controller, force);
}

void super_stop(struct supervisor *v, int exit_code, const char *reason)
{
    if (v->state == SUPER_STOPPING)
        return;
    tell_progress_end(v);
    v->state = SUPER_STOPPING;
    v->exit_code = exit_code;
    v->kill_at = clock_mono() + STOP_NS;
    v->ready_by = 0;
    log_info(v->s->log, "Stopping: %s", reason);
    tell_event(v, json_pack("{s:s, s:s}", "event", "stopping", "reason", reason));
    stop_children(v, false);
    super_tick(v);
    super_check_end(v);
}

void super_fail(struct supervisor *v, const char *why, const char *stderr_text)
{
    if (v->state == SUPER_STOPPING)
        return;
    tell_failure(v, why, stderr_text);
    super_stop(v, 1, "the start failed");
}

static void controller_ended(void *arg, struct child *c, const struct reaped *r)
{
    struct supervisor *v = arg;
    char *how = child_end_text(r), *tail = child_tail(c, 20);
    char *why = str_printf("the controller %s", how ? how : "ended");
    bool clean = r->known && !r->signal && r->code == 0;
    child_free(c);
    v->controller = NULL;
    if (v->state == SUPER_STARTING) {
        super_fail(v, why ? why : "the controller ended", tail ? tail : "");
    } else if (v->state == SUPER_RUNNING) {
        if (!clean)
            log_error(v->s->log, "%s%s%s", why ? why : "the controller ended",
                      tail && *tail ? "; it said last:\n" : "", tail ? tail : "");
        super_stop(v, clean ? 0 : 1, why ? why : "the controller ended");
    }
    free(why);
    free(how);
    free(tail);
    super_check_end(v);
}

/* ---- ready ---- */

/* A batch system has taken the engines' job: when they come is its business. */
static bool engines_queued(struct supervisor *v)
{
    struct engine_set *set = set_find(v, NULL);
    return set && set->child && child_job(set->child)->id[0];
}

/* An adopted controller tells us nothing, and neither do these engines' hosts. */
static bool engines_unseen(struct supervisor *v)
{
    const struct launch_ops *l = v->s->engines;
    return v->adopted && !list_empty(&v->sets) && l != &launch_local && l != &launch_ssh &&
           l != &launch_sshproxy;
}

void super_check_ready(struct supervisor *v)
{
    bool all = json_object_size(v->engines) >= v->s->n;
    if (v->state != SUPER_STARTING || !v->listening ||
        (!all && !engines_queued(v) && !engines_unseen(v)))
        return;
    v->state = SUPER_RUNNING;
    v->ready_by = 0;
    tell_cluster_file(v);
    if (!all && engines_unseen(v))
        log_info(v->s->log, "Engines are starting; `Client().ids` shows those that are there");
    else if (!all)
        log_info(v->s->log,
                 "Engines appear to have started successfully: job %s of %s is in its queue",
                 child_job(set_find(v, NULL)->child)->id, v->s->engines->cls);
    else if (v->s->n)
        log_info(v->s->log, "Engines appear to have started successfully");
    else
        log_info(v->s->log, "The controller is ready; no engines were asked for");
    tell_event(v, json_pack("{s:s, s:I, s:s, s:O*}", "event", "ready", "n", (json_int_t)v->s->n,
                            "cluster_file", v->cluster_file, "client_file",
                            json_object_get(v->listening, "client_file")));
    if (v->hooks->ready)
        v->hooks->ready(v->hooks->arg, v->cluster_file);
}

/* ---- starting ---- */

int super_start_engines(struct supervisor *v)
{
    struct engine_set *set;
    struct err e;
    int rc = set_start(v, NULL, v->s->n, &set, &e);
    if (rc)
        super_fail(v, e.text, "");
    else
        tell_progress(v);
    return rc;
}

int super_launch(struct supervisor *v, struct child **ret, const struct launch_ops *ops,
                 struct launch_request *request, const char *set, const struct child_callbacks *cb,
                 struct err *e)
{
    bool engines = request->what == LAUNCH_ENGINES;
    const char *id = v->s->cluster_id;
    char *name = str_printf("%s%s%s-%d%s%s", engines ? "ipengine" : "ipcontroller", *id ? "-" : "",
                            id, (int)getpid(), set ? "-" : "", set ? set : "");
    char *log_path = name ? str_printf("%s/log/%s.log", v->s->profile_dir, name) : NULL;
    char *events =
        name && !engines ? str_printf("%s/log/%s.events", v->s->profile_dir, name) : NULL;
    request->name = name;
    request->supervised = true;
    request->events_file = events;
    int rc = !log_path || (!engines && !events)
                 ? err_set(e, CV_ENOMEM, "out of memory")
                 : child_start(ret, &v->loop, v->reaper, ops, request, log_path, cb, e);
    free(name);
    free(log_path);
    free(events);
    return rc;
}

static int start_controller(struct supervisor *v, struct err *e)
{
    const struct child_callbacks cb = {.event = super_event, .ended = controller_ended, .arg = v};
    struct launch_request request = {
        .what = LAUNCH_CONTROLLER,
        .program_dir = v->s->program_dir,
        .profile_dir = v->s->profile_dir,
        .cluster_id = v->s->cluster_id,
        .python = v->s->python,
        .cluster_file = v->cluster_file,
        .args = (const char *const *)v->s->controller_args,
        .env = (const char *const *)environ,
        .config = v->s->config,
        .launcher = v->s->controller_launcher,
    };
    return super_launch(v, &v->controller, v->s->controller, &request, NULL, &cb, e);
}

static void on_adopted_ended(uv_poll_t *h, int status, int events)
{
    struct supervisor *v = h->data;
    char why[96];
    uv_poll_stop(h);
    snprintf(why, sizeof why, "the controller (process %d) has ended", (int)v->adopted);
    if (v->state == SUPER_STARTING)
        super_fail(v, why, "");
    else
        super_stop(v, 0, why);
}

/* A controller that was started by hand is used as it is. False: there is none. */
static bool adopt(struct supervisor *v)
{
    json_t *listening;
    if (v->s->controller != &launch_local)
        return false;
    pid_t pid = adopt_find(v->s->profile_dir, v->s->cluster_id, &listening);
    int fd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (fd >= 0 && uv_poll_init(&v->loop, &v->adoptee, fd)) {
        close(fd);
        fd = -1;
    }
    if (fd < 0) {
        if (pid)
            json_decref(listening);
        return false;
    }
    v->adopted = pid;
    v->adopted_fd = fd;
    v->adoptee.data = v;
    uv_poll_start(&v->adoptee, UV_READABLE, on_adopted_ended);
    log_info(v->s->log,
             "A controller of this profile runs already (process %d): the engines are for it, and "
             "it stays when they are stopped",
             (int)pid);
    super_listening(v, listening);
    json_decref(listening);
    return true;
}

/* Is there a connection file that the engines would take for the new controller's? */
static bool old_connection_file(const struct supervisor *v)
{
    const char *id = v->s->cluster_id;
    char *path = str_printf("%s/security/ipcontroller%s%s-engine.json", v->s->profile_dir,
                            *id ? "-" : "", id);
    bool there = !path || !access(path, F_OK);
    free(path);
    return there;
}

/* The engines start beside the controller and wait for its file, unless an old one is in the way.
 */
static void start_all(struct supervisor *v)
{
    struct err e;
    v->ready_by = clock_mono() + (uint64_t)(v->s->engine_timeout * (double)NS_PER_S);
    super_tick(v);
    bool wait = old_connection_file(v);
    tell_start(v);
    if (wait && adopt(v))
        return;
    if (start_controller(v, &e)) {
        super_fail(v, e.text, "");
        return;
    }
    v->controller_pid = child_job(v->controller)->pid;
    if (v->s->n && !wait && super_start_engines(v))
        return;
    tell_cluster_file(v);
}

/* ---- the loop's callbacks ---- */

static void start_took_too_long(struct supervisor *v)
{
    struct engine_set *set = set_find(v, NULL);
    char *why = str_printf("%zu of %u engines were there after %g s (--engine-timeout)",
                           json_object_size(v->engines), v->s->n, v->s->engine_timeout);
    char *tail = set && set->child ? child_tail(set->child, 20) : NULL;
    super_fail(v, why ? why : "time is up", tail ? tail : "");
    free(why);
    free(tail);
}

/* Kills what was to stop and is past its time; whether a set has still time left. */
static bool check_sets(struct supervisor *v, uint64_t now)
{
    bool waiting = false;
    list_each(at, &v->sets)
    {
        struct engine_set *s = list_entry(at, struct engine_set, node);
        if (s->kill_at && now >= s->kill_at) {
            s->kill_at = now + STOP_NS;
            stop_child(v, s->child, true);
        }
        waiting |= s->kill_at != 0;
    }
    return waiting;
}

static void on_tick(uv_timer_t *t)
{
    struct supervisor *v = t->data;
    uint64_t now = clock_mono();
    if (v->state == SUPER_STARTING && v->ready_by && now >= v->ready_by)
        start_took_too_long(v);
    if (v->state == SUPER_STOPPING && now >= v->kill_at) {
        log_warn(v->s->log, "killing what has not ended");
        v->kill_at = now + STOP_NS;
        stop_children(v, true);
    }
    if (!check_sets(v, now) && v->state != SUPER_STOPPING && !v->ready_by)
        uv_timer_stop(t);
}

void super_tick(struct supervisor *v)
{
    uv_handle_t *h = (uv_handle_t *)&v->tick;
    if (!uv_is_closing(h) && !uv_is_active(h))
        uv_timer_start(&v->tick, on_tick, TICK_MS, TICK_MS);
}

/* A second signal means: at once. */
static void on_signal(uv_signal_t *h, int signum)
{
    struct supervisor *v = h->data;
    char reason[40];
    snprintf(reason, sizeof reason, "%s", signal_name(signum));
    if (v->state == SUPER_STOPPING)
        v->kill_at = clock_mono();
    else
        super_stop(v, 0, reason);
}

static void on_relayed_signal(uv_signal_t *h, int signum)
{
    struct supervisor *v = h->data;
    list_each(at, &v->sets)
    {
        set_signal(list_entry(at, struct engine_set, node), signum);
    }
}

static void on_parent_ended(uv_poll_t *h, int status, int events)
{
    struct supervisor *v = h->data;
    uv_poll_stop(h);
    super_stop(v, 0, "the process that this cluster belongs to has ended");
}

static int watch_parent(struct supervisor *v, struct err *e)
{
    if (!v->s->parent_pid)
        return CV_OK;
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)v->s->parent_pid, 0);
    if (fd < 0)
        return err_sys(e, "--parent-pid: can't watch process %ld", v->s->parent_pid);
    if (uv_poll_init(&v->loop, &v->parent, fd)) {
        close(fd);
        return err_set(e, CV_ESYS, "--parent-pid: can't watch process %ld", v->s->parent_pid);
    }
    v->parent_fd = fd;
    v->parent.data = v;
    uv_poll_start(&v->parent, UV_READABLE, on_parent_ended);
    return CV_OK;
}

static int set_up(struct supervisor *v, struct err *e)
{
    static const struct {
        int number;
        uv_signal_cb cb;
    } SIGNALS[SUPER_SIGNALS] = {{SIGINT, on_signal},
                                {SIGTERM, on_signal},
                                {SIGHUP, on_signal},
                                {SIGUSR1, on_relayed_signal},
                                {SIGUSR2, on_relayed_signal}};
    for (size_t i = 0; i < SUPER_SIGNALS; i++) {
        uv_signal_init(&v->loop, &v->signals[i]);
        v->signals[i].data = v;
        uv_signal_start(&v->signals[i], SIGNALS[i].cb, SIGNALS[i].number);
    }
    uv_timer_init(&v->loop, &v->tick);
    v->tick.data = v;
    v->engines = json_object();
    v->cluster_file = clusterfile_path(v->s->profile_dir, v->s->cluster_id);
    if (ask_init(v) || away_init(v) || !v->engines || !v->cluster_file)
        return err_set(e, CV_ENOMEM, "out of memory");
    int rc = reaper_new(&v->reaper, &v->loop, e);
    rc = rc ? rc : control_new(&v->control, &v->loop, super_command, v, e);
    return rc ? rc : watch_parent(v, e);
}

/* A config that was handed to us as a descriptor: the children find it under our pid. */
static void share_config(void)
{
    static const char SELF[] = "/proc/self/";
    const char *path = getenv("COVEY_CONFIG");
    char *ours = path && !strncmp(path, SELF, strlen(SELF))
                     ? str_printf("/proc/%d/%s", (int)getpid(), path + strlen(SELF))
                     : NULL;
    if (ours)
        setenv("COVEY_CONFIG", ours, 1);
    free(ours);
}

int supervisor_run(const struct settings *s, const struct supervisor_hooks *hooks)
{
    struct supervisor v = {.s = s, .hooks = hooks, .parent_fd = -1, .adopted_fd = -1};
    struct err e;
    list_init(&v.sets);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* beyond `ulimit -f` a write fails */
    share_config();
    if (s->events_fd >= 0)
        fcntl(s->events_fd, F_SETFD, FD_CLOEXEC);
    if (uv_loop_init(&v.loop)) {
        log_critical(s->log, "can't make an event loop");
        return 1;
    }
    if (set_up(&v, &e)) {
        tell_failure(&v, e.text, "");
        v.exit_code = 1;
        close_all(&v);
    } else {
        start_all(&v);
    }
    uv_run(&v.loop, UV_RUN_DEFAULT);
    if (v.parent_fd >= 0)
        close(v.parent_fd);
    if (v.adopted_fd >= 0)
        close(v.adopted_fd);
    uv_loop_close(&v.loop);
    json_decref(v.engines);
    json_decref(v.due);
    json_decref(v.away);
    json_decref(v.left);
    json_decref(v.listening);
    free(v.stop_waiters);
    free(v.cluster_file);
    return v.exit_code;
}
