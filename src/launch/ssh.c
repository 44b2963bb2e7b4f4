/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Launching by ssh: a controller on another machine, engines on several, or `ipcluster engines` of
 * another machine (sshproxy). prepare() says for each host which ssh to run, what to run there and
 * which files to exchange; the agent (`python -m covey._sshagent local`) does it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "launch/words.h"
#include "ssh/words.h"

/* One preparation. `own`: the settings of one host of SSHEngineSetLauncher.engines, or NULL. */
struct ssh {
    const struct launch_ops *ops;
    const struct launch_request *r;
    struct err *e;
    json_t *hosts;
};

static int oom(struct ssh *s)
{
    return err_set(s->e, CV_ENOMEM, "out of memory");
}

/* A text: of the host's own settings, else of the classes'. */
static int text(struct ssh *s, const json_t *own, const char *trait, const char *fallback,
                const char **ret)
{
    const char *v = json_string_value(json_object_get(own, trait));
    if (v) {
        *ret = v;
        return CV_OK;
    }
    return trait_text(s->ops, s->r, trait, fallback, ret, s->e);
}

static int bad_list(struct ssh *s, const char *trait)
{
    return err_set(s->e, CV_EINVAL, "SSHEngineSetLauncher.engines: %s must be a list of texts",
                   trait);
}

/* The words of a host's own list, else of the classes' trait; whether there were some. */
static int words(struct ssh *s, const json_t *own, const char *trait, struct words *w, bool *ret)
{
    json_t *list = json_object_get(own, trait), *item;
    size_t i, before = w->n;
    int rc = list ? CV_OK : words_add_trait(w, s->ops, s->r, trait, NULL, s->e);
    if (list && !json_is_array(list))
        return bad_list(s, trait);
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return bad_list(s, trait);
        words_add(w, json_string_value(item));
    }
    if (ret)
        *ret = w->n > before;
    return rc;
}

static const char *home_of(const struct launch_request *r)
{
    for (const char *const *v = r->env; v && *v; v++)
        if (!strncmp(*v, "HOME=", 5))
            return *v + 5;
    return "";
}

/* The profile's folder over there: below the home there if it is below ours here. */
static const char *far_profile(const struct launch_request *r)
{
    const char *home = home_of(r);
    size_t n = strlen(home);
    return n > 1 && !strncmp(r->profile_dir, home, n) && r->profile_dir[n] == '/'
               ? r->profile_dir + n + 1
               : r->profile_dir;
}

/* ssh [args] [-p PORT] [USER@]HOST COMMAND; `place` is "[user@]host[:port]". The first of two
 * options counts, so the user's stand before ours. */
static int add_ssh(struct ssh *s, const json_t *own, struct words *w, const char *place,
                   const char *command)
{
    static const char *const OURS[] = {"-T", "-oBatchMode=yes", "-oServerAliveInterval=15",
                                       "-oRemoteCommand=none"};
    char *host, *port;
    bool some;
    int rc = words(s, own, "ssh_cmd", w, &some);
    if (!some)
        words_add(w, "ssh");
    rc = rc ? rc : words(s, own, "ssh_args", w, NULL);
    for (size_t i = 0; i < sizeof OURS / sizeof OURS[0]; i++)
        words_add(w, OURS[i]);
    rc = rc ? rc : ssh_server_split(place, &host, &port, s->e);
    if (rc)
        return rc;
    if (port) {
        words_add(w, "-p");
        words_take(w, port);
    }
    words_take(w, host);
    words_add(w, command);
    return CV_OK;
}

/* What runs over there, and which profile it has. */
struct far {
    struct words argv, args, given; /* given: the user's arguments, which profile may point into */
    const char *profile;
    json_t *send, *fetch;
};

static void far_release(struct far *f)
{
    words_release(&f->argv);
    words_release(&f->args);
    words_release(&f->given);
    json_decref(f->send);
    json_decref(f->fetch);
}

/* An option --profile-dir among the user's arguments says where the profile is over there. */
static void add_args(struct far *f)
{
    for (size_t i = 0; i < f->given.n; i++) {
        const char *a = f->given.v[i];
        bool option = !strncmp(a, "--profile-dir", 13) || !strncmp(a, "--profile_dir", 13);
        if (option && a[13] == '=')
            f->profile = a + 14;
        else if (option && !a[13] && i + 1 < f->given.n)
            f->profile = f->given.v[++i];
        else
            words_add(&f->args, a);
    }
}

/* Pairs of paths for one of the two connection files. */
static int add_pair(struct ssh *s, json_t *list, const char *profile, const char *role, bool send)
{
    const char *id = s->r->cluster_id;
    const char *dash = *id ? "-" : "";
    char *near =
        str_printf("%s/security/ipcontroller%s%s-%s.json", s->r->profile_dir, dash, id, role);
    char *far = str_printf("%s/security/ipcontroller%s%s-%s.json", profile, dash, id, role);
    json_t *pair = near && far ? json_pack("[s, s]", send ? near : far, send ? far : near) : NULL;
    free(near);
    free(far);
    return json_array_append_new(list, pair) ? oom(s) : CV_OK;
}

/* Does one of the user's pairs bring this connection file? */
static bool has_pair(const json_t *list, const char *role)
{
    char end[32];
    json_t *pair;
    size_t i;
    snprintf(end, sizeof end, "-%s.json", role);
    json_array_foreach(list, i, pair)
    {
        const char *near = json_string_value(json_array_get(pair, 0));
        size_t n = strlen(near), k = strlen(end);
        if (strstr(near, "ipcontroller") && n > k && !strcmp(near + n - k, end))
            return true;
    }
    return false;
}

/* The pairs that the user gave (to_send, to_fetch) and the connection files, unless the user said
 * that there is nothing to copy. */
static int add_files(struct ssh *s, const json_t *own, struct far *f)
{
    bool engines = s->r->what == LAUNCH_ENGINES;
    int rc = CV_OK;
    const char *trait = engines ? "to_send" : "to_fetch";
    json_t *given = json_object_get(own, trait);
    given = given ? given : launch_trait(s->ops, s->r->what, s->r->config, trait);
    f->send = json_array();
    f->fetch = json_array();
    json_t **list = engines ? &f->send : &f->fetch, *pair;
    size_t i;
    if (!f->send || !f->fetch)
        return oom(s);
    json_array_foreach(given, i, pair)
    {
        if (json_array_size(pair) != 2 || !json_is_string(json_array_get(pair, 0)) ||
            !json_is_string(json_array_get(pair, 1)))
            return err_set(s->e, CV_EINVAL, "%s must be a list of pairs of paths", trait);
        if (json_array_append(*list, pair))
            return oom(s);
    }
    if (given && !json_array_size(given))
        return CV_OK;
    if (!engines && !has_pair(*list, "client"))
        rc = add_pair(s, *list, f->profile, "client", false);
    if (!rc && !has_pair(*list, "engine"))
        rc = add_pair(s, *list, f->profile, "engine", engines);
    return rc;
}

static int add_program(struct ssh *s, const json_t *own, struct far *f, const char *python,
                       uint32_t n)
{
    bool engines = s->r->what == LAUNCH_ENGINES, proxy = s->ops == &launch_sshproxy, some;
    const char *cmd = proxy ? "ipcluster_cmd" : engines ? "engine_cmd" : "controller_cmd";
    int rc = words(s, own, cmd, &f->argv, &some);
    if (!some) {
        words_add(&f->argv, python);
        words_add(&f->argv, "-m");
        words_add(&f->argv, proxy     ? "covey.cluster"
                            : engines ? "covey.engine"
                                      : "covey.controller");
    }
    if (proxy)
        words_add(&f->argv, "engines");
    if (*s->r->cluster_id)
        words_take(&f->args, str_printf("--cluster-id=%s", s->r->cluster_id));
    if (engines)
        words_take(&f->args, str_printf("--n=%u", n));
    for (size_t i = 0; i < f->argv.n && !rc; i++)
        if (strstr(f->argv.v[i], "{i}"))
            rc = err_set(s->e, CV_EINVAL,
                         "%s has {i}, which only the local launcher fills in: take {i} out "
                         "(environment may have it)",
                         cmd);
    return rc || !engines ? rc : words_add_places(&f->args, s->ops, s->r, s->e);
}

/* The arguments: the host's own, else what the settings and the command line say. */
static int add_arguments(struct ssh *s, const json_t *own, struct far *f)
{
    bool proxy = s->ops == &launch_sshproxy;
    int rc = proxy ? words(s, own, "ipcluster_args", &f->given, NULL) : CV_OK;
    json_t *list = json_object_get(own, "engine_args"), *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        if (json_is_string(item))
            words_add(&f->given, json_string_value(item));
    }
    if (!list && !proxy)
        words_add_all(&f->given, s->r->args);
    if (f->given.failed)
        rc = oom(s);
    add_args(f);
    return rc;
}

/* The classes' variables and, over them, the host's own. */
static json_t *environment(struct ssh *s, const json_t *own, int *rc)
{
    json_t *all = launch_trait(s->ops, s->r->what, s->r->config, "environment");
    json_t *more = json_object_get(own, "environment");
    if ((all && !json_is_object(all)) || (more && !json_is_object(more)))
        *rc = err_set(s->e, CV_EINVAL, "environment must be a dict of texts");
    json_t *plain = all && !*rc ? json_copy(all) : json_object(), *v;
    if (plain && more && !*rc && json_object_update(plain, more))
        *rc = oom(s);
    const char *name;
    void *next;
    json_object_foreach_safe(plain, next, name, v)
    {
        if (!json_is_string(v))
            *rc = err_set(s->e, CV_EINVAL, "environment[%.60s] must be a text", name);
        else if (strstr(json_string_value(v), "{i}"))
            json_object_del(plain, name); /* ipengine fills it in: words_add_places() */
    }
    return plain;
}

/* The lines of the prologue, each in the same shell, with their output away from ours. */
static int add_prologue(struct ssh *s, const json_t *own, struct buf *b)
{
    json_t *lines = json_object_get(own, "prologue"), *line;
    if (!lines)
        lines = launch_trait(s->ops, s->r->what, s->r->config, "prologue");
    size_t n = json_is_array(lines) ? json_array_size(lines) : lines ? 1 : 0;
    int rc = CV_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        line = json_is_array(lines) ? json_array_get(lines, i) : lines;
        if (!json_is_string(line))
            return err_set(s->e, CV_EINVAL, "prologue must be a list of shell lines");
        rc = buf_addf(b,
                      "{ %s\n} >&2 || { echo 'line %zu of the prologue failed (its own words are "
                      "above)' >&2; exit 1; }\n",
                      json_string_value(line), i + 1);
    }
    return rc ? oom(s) : n ? buf_addstr(b, "exec ") : CV_OK;
}

/* The shell line that ssh runs: the prologue and the far end. A "~/" is left to that shell. */
static int far_command(struct ssh *s, const json_t *own, const char *python, char **ret)
{
    bool home = !strncmp(python, "~/", 2);
    char *command[] = {(char *)python + (home ? 2 : 0), "-m", "covey._sshagent", "remote", NULL};
    char *line = words_shell(command);
    struct buf b = {0};
    int rc = add_prologue(s, own, &b);
    if (!rc && (!line || buf_addf(&b, "%s%s", home ? "~/" : "", line) || !buf_cstr(&b)))
        rc = oom(s);
    if (!rc && !(*ret = strdup((const char *)b.data)))
        rc = oom(s);
    free(line);
    buf_release(&b);
    return rc;
}

/* A setting of a host that is not one: it would be ignored without a word. The last ones are, as
 * they are everywhere (catalog/launchers.c says why). */
static int check_host(struct ssh *s, const char *place, json_t *own)
{
    static const char *const NAMES[] = {"n",
                                        "engine_args",
                                        "engine_cmd",
                                        "environment",
                                        "prologue",
                                        "ssh_args",
                                        "remote_python",
                                        "remote_profile_dir",
                                        "ssh_cmd",
                                        "to_send",
                                        "scp_cmd",
                                        "scp_args",
                                        "output_limit",
                                        "poll_seconds",
                                        "stop_seconds_until_kill",
                                        "stop_timeout"};
    const char *name;
    json_t *v;
    json_object_foreach(own, name, v)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
            known |= !strcmp(name, NAMES[i]);
        if (!known)
            return err_set(s->e, CV_EINVAL,
                           "SSHEngineSetLauncher.engines['%.80s'] has no setting '%.40s'; a host "
                           "has n, engine_args, engine_cmd, environment, prologue, "
                           "remote_profile_dir, remote_python, ssh_args, ssh_cmd, to_send",
                           place, name);
    }
    return CV_OK;
}

static int add_host(struct ssh *s, const char *place, const json_t *own, uint32_t n)
{
    struct far f = {0};
    struct words ssh = {0};
    const char *python = NULL;
    int rc = text(s, own, "remote_python", "python3", &python);
    rc = rc ? rc : text(s, own, "remote_profile_dir", far_profile(s->r), &f.profile);
    char *line = NULL;
    rc = rc ? rc : far_command(s, own, python, &line);
    rc = rc ? rc : add_program(s, own, &f, python, n);
    rc = rc ? rc : add_arguments(s, own, &f);
    rc = rc ? rc : add_files(s, own, &f);
    rc = rc ? rc : add_ssh(s, own, &ssh, place, line);
    if (!rc) {
        json_t *env = environment(s, own, &rc);
        json_t *o =
            json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:O, s:O}", "name", place, "ssh",
                      words_json(&ssh), "profile_dir", f.profile, "argv", words_json(&f.argv),
                      "args", words_json(&f.args), "env", env, "send", f.send, "fetch", f.fetch);
        if (!o || json_array_append_new(s->hosts, o))
            rc = rc ? rc : oom(s);
    }
    free(line);
    words_release(&ssh);
    far_release(&f);
    return rc;
}

/* ---- the hosts ---- */

/* A value of `engines`: a number, [number, arguments], or a dict with "n". -1: none of them. */
static json_int_t count_of(const json_t *v)
{
    const json_t *n = json_is_array(v)    ? json_array_get(v, 0)
                      : json_is_object(v) ? json_object_get(v, "n")
                                          : v;
    if (json_is_object(v) && !n)
        return 1;
    return json_is_integer(n) && json_integer_value(n) >= 0 && json_integer_value(n) < 100000
               ? json_integer_value(n)
               : -1;
}

uint32_t launch_ssh_count(const struct config *c)
{
    json_t *engines = launch_trait(&launch_ssh, LAUNCH_ENGINES, c, "engines"), *v;
    const char *place;
    json_int_t n = 0;
    json_object_foreach(engines, place, v)
    {
        n += count_of(v) > 0 ? count_of(v) : 0;
    }
    return (uint32_t)n;
}

/* Engines on the hosts of `engines`, in their order, as many as were asked for. */
static int add_hosts(struct ssh *s)
{
    json_t *engines = launch_trait(s->ops, s->r->what, s->r->config, "engines"), *v;
    const char *place;
    json_int_t left = s->r->n;
    if (!json_is_object(engines) || !json_object_size(engines))
        return err_set(s->e, CV_EINVAL,
                       "SSHEngineSetLauncher.engines must say where engines are to run: {'host1': "
                       "2, 'user@host2:22': 4}");
    json_object_foreach(engines, place, v)
    {
        json_int_t n = count_of(v);
        if (n < 0)
            return err_set(s->e, CV_EINVAL,
                           "SSHEngineSetLauncher.engines['%.80s'] must be a number, (number, "
                           "[arguments]) or a dict with 'n'",
                           place);
        n = n < left ? n : left;
        json_t *own = json_is_object(v) ? json_incref(v) : json_object();
        if (json_is_array(v) && json_array_get(v, 1))
            json_object_set(own, "engine_args", json_array_get(v, 1));
        int rc = check_host(s, place, own);
        rc = rc || !n ? rc : add_host(s, place, own, (uint32_t)n);
        json_decref(own);
        if (rc)
            return rc;
        left -= n;
    }
    return left
               ? err_set(s->e, CV_EINVAL,
                         "SSHEngineSetLauncher.engines has places for %u engines, %u are asked for",
                         s->r->n - (uint32_t)left, s->r->n)
               : CV_OK;
}

static int add_one(struct ssh *s)
{
    const char *host = NULL, *user = NULL, *location = NULL;
    int rc = text(s, NULL, "hostname", NULL, &host);
    rc = rc ? rc : text(s, NULL, "user", NULL, &user);
    rc = rc ? rc : text(s, NULL, "location", NULL, &location);
    if (rc)
        return rc;
    if (!host && !location)
        return err_set(s->e, CV_EINVAL, "%s.hostname must say which machine",
                       s->ops->classes[s->r->what][0]);
    char *place = host && user ? str_printf("%s@%s", user, host) : strdup(host ? host : location);
    rc = place ? add_host(s, place, NULL, s->r->n) : oom(s);
    free(place);
    return rc;
}

static int ssh_prepare(const struct launch_ops *ops, const struct launch_request *r,
                       struct launch_plan *ret, struct err *e)
{
    struct ssh s = {.ops = ops, .r = r, .e = e, .hosts = json_array()};
    struct words argv = {0}, env = {0};
    bool set = ops == &launch_ssh && r->what == LAUNCH_ENGINES;
    int rc = !s.hosts ? oom(&s) : set ? add_hosts(&s) : add_one(&s);
    words_add(&argv, r->python ? r->python : "python3");
    words_add(&argv, "-m");
    words_add(&argv, "covey._sshagent");
    words_add(&argv, "local");
    words_add(&env, "COVEY_EVENTS_FD");
    struct launch_plan p = {.argv = argv.v, .env = env.v};
    json_t *o = rc ? NULL : json_pack("{s:s, s:O}", "do", "start", "hosts", s.hosts);
    p.input = o ? jsontext(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!rc && (argv.failed || env.failed || !p.input))
        rc = oom(&s);
    json_decref(o);
    json_decref(s.hosts);
    if (rc) {
        launch_plan_release(&p);
        return rc;
    }
    *ret = p;
    return CV_OK;
}

static const char *const CONTROLLER[] = {"SSHControllerLauncher", "SSHLauncher",
                                         "ControllerLauncher", "BaseLauncher", NULL};
static const char *const ENGINES[] = {"SSHEngineSetLauncher", "SSHEngineLauncher", "SSHLauncher",
                                      "EngineLauncher",       "BaseLauncher",      NULL};
static const char *const PROXY[] = {"SSHProxyEngineSetLauncher", "SSHLauncher", "EngineLauncher",
                                    "BaseLauncher", NULL};

const struct launch_ops launch_ssh = {
    .name = "ssh",
    .cls = "SSH",
    .flags = LAUNCH_AGENT | LAUNCH_ELSEWHERE,
    .classes = {CONTROLLER, ENGINES},
    .prepare = ssh_prepare,
    LAUNCH_JOB_FUNCTIONS,
};

const struct launch_ops launch_sshproxy = {
    .name = "sshproxy",
    .cls = "SSHProxy",
    .flags = LAUNCH_AGENT,
    .classes = {CONTROLLER, PROXY},
    .prepare = ssh_prepare,
    LAUNCH_JOB_FUNCTIONS,
};
