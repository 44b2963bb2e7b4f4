/* SPDX-License-Identifier: BSD-3-Clause
 *
 * replay FILE [TASK-ID]: feeds what `ipcontroller --sched-log=FILE` wrote to a new scheduler and
 * checks that each event gives the actions that it gave then. With a TASK-ID (SESSION_SEQ, as
 * msg_id) prints that task's story. Exit code 0: the same; 1: another; 2: not a log. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/trace.h"

struct replay {
    struct trace t;
    struct sched *s;
    struct sched_actions actions;
    struct trace_outcome *answers;
    size_t nanswers, next;
    uint64_t events, first;
    struct sched_id about; /* session 0: no story */
};

static const char *const event_names[] = {
    "?",           "SUBMIT",       "STARTED",       "RESULT",      "GIVE_BACK",    "ENGINE_JOIN",
    "ENGINE_AWAY", "ENGINE_BACK",  "ENGINE_SYNCED", "ENGINE_DEAD", "ENGINE_DRAIN", "CLIENT_GONE",
    "CLIENT_BACK", "CLIENT_PAUSE", "CLIENT_RESUME", "CANCEL",      "TICK"};
static const char *const action_names[] = {"?",       "SEND",    "TAKE",  "INTERRUPT",  "KILL",
                                           "DELIVER", "UNKNOWN", "AGAIN", "ENGINE_GONE"};

static const char *name_of(const char *const *names, size_t n, unsigned i)
{
    return i < n ? names[i] : "?";
}

#define NAME(names, i) name_of(names, sizeof(names) / sizeof(names)[0], (unsigned)(i))

static void payload_none(void *payload)
{
    (void)payload;
}

/* What the records answered then. */
static bool outcome(void *arg, struct sched_id id, uint8_t *status, uint32_t *engine)
{
    struct replay *r = arg;
    if (r->next == r->nanswers)
        return false;
    const struct trace_outcome *o = &r->answers[r->next++];
    *status = o->status;
    *engine = o->engine;
    return o->known && o->id.session == id.session && o->id.seq == id.seq;
}

static bool about(const struct replay *r, struct sched_id id, uint32_t count)
{
    return r->about.session && id.session == r->about.session && r->about.seq - id.seq < count;
}

static void tell_event(const struct replay *r, const struct trace_item *i)
{
    const struct sched_event *ev = &i->event;
    bool engine = ev->type >= SCHED_ENGINE_JOIN && ev->type <= SCHED_ENGINE_DRAIN;
    if (!r->about.session || !(engine || about(r, ev->id, ev->count ? ev->count : 1)))
        return;
    printf("%12.6f s  %s", (double)(i->now - r->first) / 1e9, NAME(event_names, ev->type));
    if (!engine)
        printf(" %016" PRIx64 "_%" PRIu64 "+%u attempt %u", ev->id.session, ev->id.seq, ev->count,
               ev->attempt);
    if (ev->engine != SCHED_ENGINE_NONE && ev->type != SCHED_SUBMIT)
        printf(" engine %u.%u", ev->engine, ev->incarnation);
    if (ev->type == SCHED_RESULT)
        printf(" status %u", ev->result.status);
    printf("\n");
}

static void tell_actions(const struct replay *r, uint64_t now)
{
    for (size_t i = 0; i < r->actions.n; i++) {
        const struct sched_action *a = &r->actions.v[i];
        if (!about(r, a->id, a->count))
            continue;
        printf("%12.6f s    -> %s", (double)(now - r->first) / 1e9, NAME(action_names, a->type));
        if (a->engine != SCHED_ENGINE_NONE)
            printf(" engine %u.%u", a->engine, a->incarnation);
        printf(" attempt %u", a->attempt);
        if (a->type == SCHED_DELIVER)
            printf(" status %u%s%s", a->status, a->why ? ": " : "", a->why ? a->why : "");
        printf("\n");
    }
}

static int begin(struct replay *r, struct trace_item *i)
{
    static const struct sched_payload_ops ops = {payload_none, payload_none};
    struct err e = {{0}};
    i->options.outcome = outcome;
    i->options.outcome_arg = r;
    int code = r->s ? CV_EPROTO : sched_new(&r->s, &i->options, &ops, &e);
    if (code != CV_OK)
        fprintf(stderr, "replay: the log's options are no scheduler's: %s\n", e.text);
    return code;
}

static int answer(struct replay *r, const struct trace_outcome *o)
{
    struct trace_outcome *v = realloc(r->answers, (r->nanswers + 1) * sizeof *v);
    if (!v)
        return CV_ENOMEM;
    r->answers = v;
    v[r->nanswers++] = *o;
    return CV_OK;
}

/* The event, now that its answers and its end are known. True: as then. */
static bool again(struct replay *r, const struct trace_item *ev, const struct trace_item *end)
{
    struct err e = {{0}};
    r->next = 0;
    r->actions.n = 0;
    if (!r->events++)
        r->first = ev->now;
    tell_event(r, ev);
    int code = sched_handle(r->s, ev->now, &ev->event, &r->actions, &e);
    tell_actions(r, ev->now);
    const char *broken = sched_check(r->s);
    if (broken)
        printf("event %" PRIu64 " breaks an invariant: %s\n", r->events, broken);
    if (code == end->code && r->actions.n == end->nactions &&
        trace_digest(r->actions.v, r->actions.n) == end->digest && !broken)
        return true;
    printf("event %" PRIu64 " (%s %016" PRIx64 "_%" PRIu64 "): %zu actions, code %d; then %u, %d\n",
           r->events, NAME(event_names, ev->event.type), ev->event.id.session, ev->event.id.seq,
           r->actions.n, code, end->nactions, end->code);
    return false;
}

static int play(struct replay *r, const uint8_t *p, const uint8_t *end)
{
    struct trace_item i, ev = {.kind = TRACE_END};
    int code, ret = 0;
    while (p < end && ret == 0 && (code = trace_next(&r->t, &p, end, &i)) == CV_OK) {
        if (i.kind == TRACE_BEGIN) {
            ret = begin(r, &i) == CV_OK ? 0 : 2;
        } else if (!r->s) {
            ret = 2;
        } else if (i.kind == TRACE_EVENT) {
            trace_item_release(&ev);
            ev = i;
            r->nanswers = 0;
        } else if (i.kind == TRACE_OUTCOME) {
            ret = answer(r, &i.outcome) == CV_OK ? 0 : 2;
        } else if (ev.kind == TRACE_EVENT) {
            ret = !again(r, &ev, &i);
        }
    }
    trace_item_release(&ev);
    if (ret == 0 && p < end)
        fprintf(stderr, "replay: the log's last %zu bytes are %s\n", (size_t)(end - p),
                code == CV_EOF ? "cut short" : "no events");
    return ret ? ret : p < end && code != CV_EOF ? 2 : 0;
}

static uint8_t *read_file(const char *path, size_t *ret_n)
{
    struct buf b = {0};
    uint8_t part[65536];
    size_t n;
    FILE *f = fopen(path, "rb");
    while (f && (n = fread(part, 1, sizeof part, f)) > 0)
        if (buf_add(&b, part, n) != CV_OK)
            break;
    if (f)
        fclose(f);
    *ret_n = b.len;
    return b.data;
}

int main(int argc, char **argv)
{
    struct replay r = {.s = NULL};
    const size_t head = strlen(TRACE_MAGIC);
    size_t n = 0;
    if (argc < 2 || argc > 3 ||
        (argc == 3 &&
         sscanf(argv[2], "%16" SCNx64 "_%" SCNu64, &r.about.session, &r.about.seq) != 2)) {
        fprintf(stderr, "usage: replay FILE [TASK-ID]\n");
        return 2;
    }
    uint8_t *data = read_file(argv[1], &n);
    int ret = 2;
    if (n < head || memcmp(data, TRACE_MAGIC, head))
        fprintf(stderr, "replay: %s is no log of ipcontroller --sched-log\n", argv[1]);
    else
        ret = play(&r, data + head, data + n);
    if (ret == 0)
        printf("%" PRIu64 " events, the same actions; %zu tasks are left\n", r.events,
               r.s ? sched_task_count(r.s) : 0);
    sched_free(r.s);
    sched_actions_release(&r.actions);
    trace_release(&r.t);
    free(r.answers);
    free(data);
    return ret;
}
