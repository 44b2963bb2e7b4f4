/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the cluster's children say (events, a line of JSON each; launch/launch.h), and what follows
 * of it for the supervisor. On the main thread; owns nothing. An event that nobody knows is passed
 * on like any other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "cluster/super_priv.h"

/* An engine that could not start, or died before all were there; by ssh also the controller. */
static void engine_failed(struct supervisor *v, json_t *event)
{
    json_t *cause = json_object_get(event, "cause");
    const char *text = json_string_value(json_object_get(cause, "text"));
    const char *said = json_string_value(json_object_get(cause, "stderr"));
    const char *who =
        json_is_true(json_object_get(event, "controller")) ? "the controller" : "an engine";
    if (v->state == SUPER_RUNNING)
        log_warn(v->s->log, "%s failed: %s", who, text ? text : "");
    if (v->state != SUPER_STARTING)
        return;
    char *why = str_printf("%s failed: %s", who, text ? text : "it ended before it was ready");
    super_fail(v, why ? why : "out of memory", said ? said : "");
    free(why);
}

/* Engines that start on other machines, and a controller that only this one can reach: without a
 * word they would just not come. */
static void check_reach(const struct supervisor *v)
{
    const char *path = json_string_value(json_object_get(v->listening, "engine_file"));
    json_t *file = path ? json_load_file(path, 0, NULL) : NULL, *endpoint;
    bool apart = v->s->engines->flags & LAUNCH_ELSEWHERE ||
                 (v->s->controller == &launch_ssh && v->s->engines != &launch_sshproxy);
    const char *ssh = json_string_value(json_object_get(file, "ssh"));
    bool tcp = false, reachable = !v->s->n || !apart || (ssh && *ssh);
    size_t i;
    json_array_foreach(json_object_get(file, "endpoints"), i, endpoint)
    {
        const char *text = json_string_value(endpoint);
        if (!text || strncmp(text, "tcp://", 6))
            continue;
        tcp = true;
        reachable |= strncmp(text + 6, "127.", 4) && strncmp(text + 6, "[::1]", 5);
    }
    if (tcp && !reachable)
        log_warn(v->s->log, "the controller listens on its own machine only: engines on other "
                            "machines need --ip='*' (Cluster.controller_ip)");
    json_decref(file);
}

void super_listening(struct supervisor *v, json_t *event)
{
    json_decref(v->listening);
    v->listening = json_incref(event);
    check_reach(v);
    if (v->state != SUPER_STARTING)
        return;
    if (v->s->n && list_empty(&v->sets) && super_start_engines(v))
        return;
    tell_cluster_file(v);
    super_check_ready(v);
}

/* A batch job has its id: the cluster file must have it from now on. */
static void job_submitted(struct supervisor *v, json_t *event)
{
    log_info(v->s->log, "submitted job %s", json_string_value(json_object_get(event, "id")));
    if (v->state != SUPER_STOPPING)
        tell_cluster_file(v);
    super_check_ready(v);
}

static void engine_number(const json_t *event, char *out, size_t size)
{
    snprintf(out, size, "%lld", (long long)json_integer_value(json_object_get(event, "id")));
}

static void engine_joined(struct supervisor *v, json_t *event)
{
    char number[24];
    engine_number(event, number, sizeof number);
    json_object_set(v->engines, number, event);
    json_object_del(v->away, number);
    list_each(at, &v->sets)
    {
        setend_look(list_entry(at, struct engine_set, node));
    }
    ask_quiet(v);
    if (v->state != SUPER_STOPPING)
        tell_progress(v);
    super_check_ready(v);
}

static void engine_died(struct supervisor *v, json_t *event)
{
    char number[24];
    engine_number(event, number, sizeof number);
    json_object_del(v->engines, number);
    away_over(v, number, event);
    ask_quiet(v);
    if (v->state == SUPER_STARTING)
        engine_failed(v, event);
    else if (v->state == SUPER_RUNNING)
        tell_progress(v);
}

static void engine_away(struct supervisor *v, json_t *event)
{
    char number[24];
    engine_number(event, number, sizeof number);
    away_lost(v, number, event);
    ask_quiet(v);
}

static void engine_back(struct supervisor *v, json_t *event)
{
    char number[24];
    engine_number(event, number, sizeof number);
    away_back(v, number);
    ask_quiet(v);
}

/* What an engine's host says, where the controller is not ours and can't say it. */
static void engine_up(struct supervisor *v, json_t *event)
{
    if (v->adopted)
        engine_joined(v, event);
}

static void engine_down(struct supervisor *v, json_t *event)
{
    if (v->adopted)
        engine_died(v, event);
}

/* Events that are for the supervisor alone: a child's end is not the cluster's. */
static bool is_internal(const char *name)
{
    return !strcmp(name, "stopped") || !strcmp(name, "job") || !strcmp(name, "engine_up") ||
           !strcmp(name, "engine_down");
}

void super_event(void *arg, struct child *c, json_t *event)
{
    static const struct {
        const char *name;
        void (*run)(struct supervisor *v, json_t *event);
    } HANDLERS[] = {{"listening", super_listening}, {"engine_joined", engine_joined},
                    {"engine_died", engine_died},   {"engine_failed", engine_failed},
                    {"engine_away", engine_away},   {"engine_back", engine_back},
                    {"engine_up", engine_up},       {"engine_down", engine_down},
                    {"job", job_submitted},         {"undeleted", tell_undeleted}};
    struct supervisor *v = arg;
    const char *name = json_string_value(json_object_get(event, "event"));
    if (ask_event(v, c, name, event))
        return;
    if (!is_internal(name))
        tell_event(v, json_incref(event));
    for (size_t i = 0; i < sizeof HANDLERS / sizeof HANDLERS[0]; i++)
        if (!strcmp(name, HANDLERS[i].name))
            HANDLERS[i].run(v, event);
}
