/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One question a minute to a batch system, about all jobs of the cluster (super_priv.h). An agent
 * says that a look at its job is due; one of those is told to ask for all, and what it hears goes
 * to each of them. `due` has the jobs that wait for a word, the longest first; an agent that has
 * ended is found no more, and the next one asks when it may. On the main thread. */
#include <string.h>
#include "base/clock.h"
#include "cluster/super_priv.h"

#define BETWEEN_NS (60 * NS_PER_S)

static const char *id_of(const struct child *c)
{
    return c ? child_job(c)->id : "";
}

/* Whose job it is; NULL: nobody's any more. */
static struct child *find(const struct supervisor *v, const char *id)
{
    list_each(at, &v->sets)
    {
        struct child *c = list_entry(at, struct engine_set, node)->child;
        if (!strcmp(id_of(c), id))
            return c;
    }
    return strcmp(id_of(v->controller), id) ? NULL : v->controller;
}

static void forget(struct supervisor *v, const char *id)
{
    for (size_t i = json_array_size(v->due); i-- > 0;)
        if (!strcmp(json_string_value(json_array_get(v->due, i)), id))
            json_array_remove(v->due, i);
}

/* The jobs that the same command tells of as this one's. */
static json_t *jobs_like(const struct supervisor *v, const struct child *asker)
{
    bool same = v->s->controller == v->s->engines, engines = asker != v->controller;
    json_t *ids = json_array();
    list_each(at, &v->sets)
    {
        const char *id = id_of(list_entry(at, struct engine_set, node)->child);
        if (*id && (engines || same) && json_array_append_new(ids, json_string(id)))
            break; /* that one has to wait */
    }
    if (*id_of(v->controller) && (!engines || same))
        json_array_append_new(ids, json_string(id_of(v->controller)));
    return ids;
}

/* The first that is still there asks now, and is the last of those that wait until it has heard. */
static bool let_ask(struct supervisor *v)
{
    while (json_array_size(v->due)) {
        json_t *id = json_incref(json_array_get(v->due, 0));
        struct child *c = find(v, json_string_value(id));
        json_array_remove(v->due, 0);
        bool lost = !c || json_array_append(v->due, id);
        json_decref(id);
        if (lost)
            continue;
        child_tell(c, json_pack("{s:s, s:o}", "do", "query", "ids", jobs_like(v, c)));
        return true;
    }
    return false;
}

static void on_timer(uv_timer_t *t)
{
    struct supervisor *v = t->data;
    if (v->state == SUPER_STOPPING || !let_ask(v))
        return;
    v->may_ask = clock_mono() + BETWEEN_NS;
    uv_timer_start(t, on_timer, BETWEEN_NS / NS_PER_MS, 0);
}

static void on_due(struct supervisor *v, const char *id)
{
    uint64_t now = clock_mono();
    forget(v, id);
    json_array_append_new(v->due, json_string(id));
    if (!uv_is_closing((uv_handle_t *)&v->asking) && !uv_is_active((uv_handle_t *)&v->asking))
        uv_timer_start(&v->asking, on_timer,
                       now < v->may_ask ? (v->may_ask - now) / NS_PER_MS + 1 : 0, 0);
}

static void on_states(struct supervisor *v, json_t *states)
{
    const char *id;
    json_t *state;
    json_object_foreach(states, id, state)
    {
        struct child *c = find(v, id);
        forget(v, id);
        if (c)
            child_tell(c, json_pack("{s:s, s:O}", "do", "state", "state", state));
    }
}

int ask_init(struct supervisor *v)
{
    uv_timer_init(&v->loop, &v->asking);
    v->asking.data = v;
    v->due = json_array();
    return v->due ? CV_OK : CV_ENOMEM;
}

static void quiet(struct child *c, bool on)
{
    if (c)
        child_tell(c, json_pack("{s:s, s:b}", "do", "quiet", "on", on));
}

void ask_quiet(struct supervisor *v)
{
    bool all = json_object_size(v->engines) >= v->asked + away_count(v);
    list_each(at, &v->sets)
    {
        quiet(list_entry(at, struct engine_set, node)->child, all);
    }
    quiet(v->controller, true);
    if (all)
        json_array_clear(v->due);
}

bool ask_event(struct supervisor *v, struct child *c, const char *name, json_t *event)
{
    bool due = !strcmp(name, "due"), states = !strcmp(name, "states");
    if (due && *id_of(c))
        on_due(v, id_of(c));
    else if (states)
        on_states(v, json_object_get(event, "states"));
    return due || states;
}
