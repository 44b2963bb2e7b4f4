/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the supervisor tells the world: events, progress for people, the cluster file. A reader that
 * is gone costs nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/jsontext.h"
#include "cluster/clusterfile.h"
#include "cluster/super_priv.h"
#include "proc/procinfo.h"

void tell_event(struct supervisor *v, json_t *event_take)
{
    char *text = event_take ? jsontext(event_take, JSON_COMPACT) : NULL;
    char *line = text ? str_printf("%s\n", text) : NULL;
    if (line && v->s->events_fd >= 0) {
        size_t n = strlen(line);
        for (size_t at = 0; at < n;) {
            ssize_t k = write(v->s->events_fd, line + at, n - at);
            if (k < 0 && errno == EINTR)
                continue;
            if (k <= 0)
                break;
            at += (size_t)k;
        }
    }
    if (event_take && v->control)
        control_event(v->control, event_take);
    free(line);
    free(text);
    json_decref(event_take);
}

void tell_progress(struct supervisor *v)
{
    size_t ready = json_object_size(v->engines);
    tell_event(v, json_pack("{s:s, s:I, s:I}", "event", "progress", "ready", (json_int_t)ready,
                            "asked", (json_int_t)v->asked));
    if (v->state != SUPER_STARTING || v->s->log_level > LOG_INFO_ || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r%zu of %u engines ready", ready, v->asked);
    v->progress_line = ready < v->asked;
    if (!v->progress_line)
        fputc('\n', stderr);
}

void tell_progress_end(struct supervisor *v)
{
    if (v->progress_line)
        fputc('\n', stderr);
    v->progress_line = false;
}

void tell_start(struct supervisor *v)
{
    const struct settings *s = v->s;
    char threads[100] = "";
    if (s->threads && s->n)
        snprintf(threads, sizeof threads,
                 "; OMP_NUM_THREADS and the like are %u unless set (--threads=inherit)",
                 s->threads);
    log_info(s->log, "Starting %u engine%s%s%s%s%s", s->n, s->n == 1 ? "" : "s",
             s->why_n ? " (" : "", s->why_n ? s->why_n : "", s->why_n ? ")" : "", threads);
    tell_event(v, json_pack("{s:s, s:I, s:s?, s:I}", "event", "starting", "n", (json_int_t)s->n,
                            "why_n", s->why_n, "threads", (json_int_t)s->threads));
}

/* What a child wrote need not be UTF-8, which JSON is. */
static json_t *text_json(const char *s)
{
    json_t *o = json_string(s);
    struct buf b = {0};
    for (; !o && *s; s++)
        if (buf_add(&b, (unsigned char)*s < 128 ? s : "?", 1))
            break;
    if (!o)
        o = json_stringn(b.data ? (const char *)b.data : "", b.len);
    buf_release(&b);
    return o;
}

void tell_failure(struct supervisor *v, const char *why, const char *stderr_text)
{
    size_t n = strlen(stderr_text);
    tell_progress_end(v);
    log_critical(v->s->log, "The cluster did not start: %s", why);
    if (n)
        fprintf(stderr, "%s%s", stderr_text, stderr_text[n - 1] == '\n' ? "" : "\n");
    tell_event(v, json_pack("{s:s, s:o, s:o}", "event", "failed", "why", text_json(why), "stderr",
                            text_json(stderr_text)));
}

static const char *file_of(const struct supervisor *v, const char *key)
{
    return json_string_value(json_object_get(v->listening, key));
}

json_t *tell_description(const struct supervisor *v)
{
    struct procinfo self = {0};
    if (procinfo_get(getpid(), &self, NULL))
        self.start = 0;
    char host[256] = "";
    json_t *sets = json_object();
    if (gethostname(host, sizeof host - 1))
        host[0] = '\0';
    list_each(at, &v->sets)
    {
        struct engine_set *set = list_entry(at, struct engine_set, node);
        json_t *o = set->child ? child_describe(set->child) : NULL;
        json_object_set_new(o, "n", json_integer(set->n));
        if (v->s->engines == &launch_python && v->s->engine_launcher[0] != '@')
            json_object_set_new(o, "launcher", json_string(v->s->engine_launcher));
        json_object_set_new(sets, set->id, o);
    }
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:o*, s:o, s:s?, s:s?}", "class",
        "covey.cluster.Cluster", "cluster_id", v->s->cluster_id, "profile_dir", v->s->profile_dir,
        "python", v->s->python, "host", host, "pid", (json_int_t)getpid(), "pid_start",
        (json_int_t)self.start, "control", control_address(v->control), "controller",
        v->controller ? child_describe(v->controller) : NULL, "engines", sets, "client_file",
        file_of(v, "client_file"), "engine_file", file_of(v, "engine_file"));
}

void tell_cluster_file(struct supervisor *v)
{
    struct err e;
    json_t *o = tell_description(v);
    int rc =
        o ? clusterfile_write(v->cluster_file, o, &e) : err_set(&e, CV_ENOMEM, "out of memory");
    if (rc)
        log_warn(v->s->log, "no cluster file, so `ipcluster stop` won't find this cluster: %s",
                 e.text);
    json_decref(o);
}

/* The controller has said where they are, unless it was stopped before. */
static void remove_connection_file(struct supervisor *v, const char *key, const char *role)
{
    const char *id = v->s->cluster_id, *said = file_of(v, key);
    char *path = said ? strdup(said)
                      : str_printf("%s/security/ipcontroller%s%s-%s.json", v->s->profile_dir,
                                   *id ? "-" : "", id, role);
    char *half = path ? file_temporary_path(path, v->controller_pid) : NULL;
    if (path)
        unlink(path);
    if (half)
        unlink(half);
    free(half);
    free(path);
}

void tell_left(struct supervisor *v, const char *text)
{
    char line[512];
    snprintf(line, sizeof line, "%.*s", (int)strcspn(text, "\n"), text);
    log_error(v->s->log, "%s", line);
    if (!v->left)
        v->left = json_array();
    json_array_append_new(v->left, json_string(line));
}

void tell_undeleted(struct supervisor *v, json_t *event)
{
    const char *id = json_string_value(json_object_get(event, "id"));
    const char *text = json_string_value(json_object_get(event, "text"));
    char *line = str_printf("job %s was not deleted and may still be in its queue: %.300s",
                            id ? id : "?", text ? text : "");
    tell_left(v, line ? line : "a job was not deleted");
    free(line);
}

void tell_over(struct supervisor *v)
{
    if (v->controller_pid && !v->s->reuse) {
        remove_connection_file(v, "client_file", "client");
        remove_connection_file(v, "engine_file", "engine");
    }
    unlink(v->cluster_file);
    tell_event(v, json_pack("{s:s}", "event", "stopped"));
    for (size_t i = 0; v->control && i < v->nstop_waiters; i++)
        control_answer(v->control, v->stop_waiters[i], control_ok(json_incref(v->left)));
}
