/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Parts of plans (words.h). */
#include "launch/words.h"

#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/file.h"
#include "base/jsontext.h"

void words_take(struct words *w, char *text)
{
    char **v = text && !w->failed ? reallocarray(w->v, w->n + 2, sizeof *v) : NULL;
    if (!v) {
        w->failed = true;
        free(text);
        return;
    }
    w->v = v;
    w->v[w->n++] = text;
    w->v[w->n] = NULL;
}

void words_add(struct words *w, const char *text)
{
    words_take(w, strdup(text));
}

void words_add_all(struct words *w, const char *const *v)
{
    for (; v && *v; v++)
        words_add(w, *v);
}

void words_release(struct words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->v[i]);
    free(w->v);
    *w = (struct words){0};
}

json_t *words_json(const struct words *w)
{
    json_t *list = w->failed ? NULL : json_array();
    for (size_t i = 0; list && i < w->n; i++)
        if (json_array_append_new(list, json_string(w->v[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* One word as a shell reads it: as it is where every character is harmless, else in quotes. */
static int add_quoted(struct buf *b, const char *word)
{
    static const char FINE[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "@%+=:,./-_";
    if (*word && word[strspn(word, FINE)] == 0)
        return buf_addstr(b, word);
    int rc = buf_addstr(b, "'");
    for (; *word && !rc; word++)
        rc = *word == '\'' ? buf_addstr(b, "'\\''") : buf_add(b, word, 1);
    return rc ? rc : buf_addstr(b, "'");
}

char *words_shell(char *const *v)
{
    struct buf b = {0};
    char *text = NULL;
    int rc = CV_OK;
    for (char *const *p = v; p && *p && !rc; p++) {
        rc = p == v ? CV_OK : buf_addstr(&b, " ");
        rc = rc ? rc : add_quoted(&b, *p);
    }
    if (!rc && buf_cstr(&b))
        text = strdup((const char *)b.data);
    buf_release(&b);
    return text;
}

/* ---- traits ---- */

/* The most specific class that sets the trait; NULL: none does. */
static const char *class_of(const struct launch_ops *ops, enum launch_what what,
                            const struct config *c, const char *trait)
{
    for (const char *const *cls = ops->classes[what]; c && cls && *cls; cls++) {
        json_t *v = config_get(c, *cls, trait);
        if (v && !json_is_null(v))
            return *cls;
    }
    return NULL;
}

json_t *launch_trait(const struct launch_ops *ops, enum launch_what what, const struct config *c,
                     const char *trait)
{
    const char *cls = class_of(ops, what, c, trait);
    return cls ? config_get(c, cls, trait) : NULL;
}

static int wrong_kind(const struct launch_ops *ops, const struct launch_request *r,
                      const char *trait, const char *kind, struct err *e)
{
    return config_bad(r->config, class_of(ops, r->what, r->config, trait), trait, e, "must be %s",
                      kind);
}

int words_add_value(struct words *w, const struct config *c, const char *cls, const char *trait,
                    struct err *e)
{
    json_t *v = config_get(c, cls, trait), *item;
    size_t i;
    if (json_is_string(v))
        for (const char *p = json_string_value(v); *(p += strspn(p, " ")); p += strcspn(p, " "))
            words_take(w, strndup(p, strcspn(p, " ")));
    else if (v && !json_is_null(v) && !json_is_array(v))
        return config_bad(c, cls, trait, e, "must be a list of words");
    json_array_foreach(v, i, item)
    {
        if (!json_is_string(item))
            return config_bad(c, cls, trait, e, "must be a list of texts");
        words_add(w, json_string_value(item));
    }
    return CV_OK;
}

int words_add_trait(struct words *w, const struct launch_ops *ops, const struct launch_request *r,
                    const char *trait, bool *ret_set, struct err *e)
{
    const char *cls = class_of(ops, r->what, r->config, trait);
    if (ret_set)
        *ret_set = cls != NULL;
    return cls ? words_add_value(w, r->config, cls, trait, e) : CV_OK;
}

int trait_text(const struct launch_ops *ops, const struct launch_request *r, const char *trait,
               const char *fallback, const char **ret, struct err *e)
{
    json_t *v = launch_trait(ops, r->what, r->config, trait);
    if (v && !json_is_string(v))
        return wrong_kind(ops, r, trait, "a text", e);
    *ret = v && *json_string_value(v) ? json_string_value(v) : fallback;
    return CV_OK;
}

/* ---- programs ---- */

static void add_option(struct words *w, const char *name, const char *value)
{
    if (value && *value)
        words_take(w, str_printf("--%s=%s", name, value));
}

/* The command runs once for each engine: `ipcluster each N` goes before it. */
static void fan_out(struct words *w, size_t first, const struct launch_request *r)
{
    struct words all = {0};
    words_take(&all, path_join(r->program_dir, "ipcluster"));
    words_add(&all, "each");
    words_take(&all, str_printf("%u", r->n));
    for (size_t i = first; i < w->n; i++)
        words_take(&all, w->v[i]);
    w->n = first;
    words_add_all(w, (const char *const *)all.v);
    w->failed |= all.failed;
    words_release(&all);
}

static bool has_place(const json_t *v)
{
    return json_is_string(v) && strstr(json_string_value(v), "{i}");
}

int words_add_places(struct words *w, const struct launch_ops *ops, const struct launch_request *r,
                     struct err *e)
{
    json_t *own = launch_trait(ops, r->what, r->config, "environment"), *v;
    json_t *filled = json_object();
    const char *name;
    bool failed = !filled;
    json_object_foreach(own, name, v)
    {
        if (has_place(v))
            failed |= json_object_set(filled, name, v) != 0;
    }
    if (json_object_size(filled) && !failed) {
        char *text = jsontext(filled, JSON_COMPACT);
        words_take(w, text ? str_printf("--IPEngine.environment=%s", text) : NULL);
        free(text);
    }
    json_decref(filled);
    return failed ? err_set(e, CV_ENOMEM, "out of memory") : CV_OK;
}

int words_add_program(struct words *w, const struct launch_ops *ops, const struct launch_request *r,
                      uint32_t n, struct err *e)
{
    bool engines = r->what == LAUNCH_ENGINES, own, each = false;
    size_t first = w->n;
    int rc = words_add_trait(w, ops, r, engines ? "engine_cmd" : "controller_cmd", &own, e);
    if (rc)
        return rc;
    for (size_t i = first; i < w->n; i++)
        each |= strstr(w->v[i], "{i}") != NULL;
    if (each && (!engines || ops != &launch_local))
        return err_set(e, CV_EINVAL,
                       "engine_cmd has {i}, the engine's place on its host, which only the local "
                       "launcher fills in: take {i} out (environment may have it)");
    if (each)
        fan_out(w, first, r);
    own = w->n > first;
    if (!own)
        words_take(w, path_join(r->program_dir, engines ? "ipengine" : "ipcontroller"));
    add_option(w, "profile-dir", r->profile_dir);
    add_option(w, "cluster-id", r->cluster_id);
    add_option(w, "work-dir", r->work_dir);
    add_option(w, "python", own ? NULL : r->python);
    if (engines)
        words_take(w, str_printf("--n=%u", each ? 1 : n));
    rc = engines ? words_add_places(w, ops, r, e) : CV_OK;
    words_add_all(w, r->args);
    return rc;
}

static void add_variable(struct words *w, const char *name, const char *value)
{
    if (value && *value)
        words_take(w, str_printf("%s=%s", name, value));
}

int words_add_environment(struct words *w, const struct launch_ops *ops,
                          const struct launch_request *r, struct err *e)
{
    json_t *own = launch_trait(ops, r->what, r->config, "environment"), *v;
    bool controller = r->what == LAUNCH_CONTROLLER;
    bool shared = own && own == config_get(r->config, "BaseLauncher", "environment");
    const char *name;
    add_variable(w, "IPP_PROFILE_DIR", r->profile_dir);
    add_variable(w, "IPP_CLUSTER_ID", r->cluster_id);
    add_variable(w, "COVEY_ENGINE_SET", r->engine_set);
    if (own && !json_is_object(own))
        return wrong_kind(ops, r, "environment", "a dict of texts", e);
    json_object_foreach(own, name, v)
    {
        const char *text = json_string_value(v);
        if (!text)
            return wrong_kind(ops, r, "environment", "a dict of texts", e);
        if (has_place(v) && controller && !shared)
            return err_set(
                e, CV_EINVAL,
                "environment[%.60s] has {i}, an engine's place on its host, and a controller "
                "has none: take {i} out",
                name);
        if (has_place(v))
            continue; /* ipengine fills it in: words_add_places() */
        words_take(w, str_printf("%s=%s", name, text));
    }
    return CV_OK;
}
