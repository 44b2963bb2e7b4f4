/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The supervisor's commands (docs/internals.md): one handler each. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "cluster/super_priv.h"

#define ENGINES_MAX 100000

/* A handler answers itself, at once or later. */
struct command {
    const char *name;
    void (*run)(struct supervisor *v, uint64_t peer, json_t *c);
};

static void refuse(struct supervisor *v, uint64_t peer, const char *text)
{
    control_answer(v->control, peer, control_error(text));
}

static void do_stop(struct supervisor *v, uint64_t peer, json_t *c)
{
    uint64_t *w = reallocarray(v->stop_waiters, v->nstop_waiters + 1, sizeof *w);
    if (w) {
        v->stop_waiters = w;
        v->stop_waiters[v->nstop_waiters++] = peer;
    }
    super_stop(v, 0, "asked to stop");
}

static void do_start_engines(struct supervisor *v, uint64_t peer, json_t *c)
{
    struct engine_set *set;
    struct err e;
    json_t *n = json_object_get(c, "n");
    json_int_t count = json_is_integer(n) ? json_integer_value(n) : (json_int_t)v->s->n;
    if ((n && !json_is_null(n) && !json_is_integer(n)) || count < 1 || count > ENGINES_MAX)
        refuse(v, peer, "\"n\" must be a number of engines");
    else if (v->state == SUPER_STOPPING)
        refuse(v, peer, "the cluster is stopping");
    else if (set_start(v, json_string_value(json_object_get(c, "id")), (uint32_t)count, &set, &e))
        refuse(v, peer, e.text);
    else {
        tell_cluster_file(v);
        control_answer(v->control, peer,
                       control_ok(json_pack("{s:s, s:I}", "id", set->id, "n", (json_int_t)count)));
    }
}

/* The set that a command names; answers itself if there is none. */
static struct engine_set *named_set(struct supervisor *v, uint64_t peer, json_t *c)
{
    struct engine_set *s = set_find(v, json_string_value(json_object_get(c, "id")));
    if (!s)
        refuse(v, peer, "there is no such engine set");
    return s;
}

static void do_stop_engines(struct supervisor *v, uint64_t peer, json_t *c)
{
    struct engine_set *s = named_set(v, peer, c);
    if (s)
        set_stop(s, peer, false);
}

static void do_restart_engines(struct supervisor *v, uint64_t peer, json_t *c)
{
    struct engine_set *s = named_set(v, peer, c);
    if (s)
        set_stop(s, peer, true);
}

static void do_signal_engines(struct supervisor *v, uint64_t peer, json_t *c)
{
    json_int_t signum = json_integer_value(json_object_get(c, "signal"));
    struct engine_set *s = named_set(v, peer, c);
    if (!s)
        return;
    if (signum < 1 || signum >= NSIG)
        refuse(v, peer, "\"signal\" must be a signal's number");
    else
        control_answer(v->control, peer,
                       control_ok(json_pack("{s:I}", "n", (json_int_t)set_signal(s, (int)signum))));
}

static void do_status(struct supervisor *v, uint64_t peer, json_t *c)
{
    static const char *const STATES[] = {"starting", "running", "stopping"};
    json_t *o = tell_description(v);
    json_object_set_new(o, "state", json_string(STATES[v->state]));
    json_object_set_new(o, "ready", json_integer((json_int_t)json_object_size(v->engines)));
    json_object_set_new(o, "asked", json_integer(v->asked));
    json_object_set_new(o, "cluster_file", json_string(v->cluster_file));
    control_answer(v->control, peer, o ? control_ok(o) : control_error("out of memory"));
}

static void do_events(struct supervisor *v, uint64_t peer, json_t *c)
{
    control_follow(v->control, peer);
    control_answer(v->control, peer, control_ok(NULL));
}

void super_command(void *arg, uint64_t peer, json_t *command)
{
    static const struct command COMMANDS[] = {
        {"stop", do_stop},
        {"start_engines", do_start_engines},
        {"stop_engines", do_stop_engines},
        {"restart_engines", do_restart_engines},
        {"signal_engines", do_signal_engines},
        {"status", do_status},
        {"events", do_events},
    };
    struct supervisor *v = arg;
    const char *name = json_string_value(json_object_get(command, "do"));
    for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++)
        if (!strcmp(name, COMMANDS[i].name)) {
            COMMANDS[i].run(v, peer, command);
            return;
        }
    refuse(v, peer,
           "unknown command; there are stop, start_engines, stop_engines, restart_engines, "
           "signal_engines, "
           "status, events");
}
