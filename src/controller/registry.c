/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See registry.h. */
#include "controller/registry.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void registry_init(struct registry *r)
{
    memset(r, 0, sizeof(*r));
    list_init(&r->engines);
    list_init(&r->dead);
    list_init(&r->hosts);
    list_init(&r->clients);
}

void registry_engine_forget_held(struct engine *e)
{
    free(e->unstarted);
    e->unstarted = NULL;
    e->nunstarted = 0;
    e->running.count = 0;
    e->resend_left = 0;
}

static void engine_free(struct engine *e)
{
    registry_engine_forget_held(e);
    free(e->orphans);
    free(e->away_why);
    free(e->host);
    free(e->cause);
    free(e);
}

static void client_free(struct client *c)
{
    free(c->sent);
    free(c->named);
    ranges_release(&c->bulky);
    ranges_release(&c->unknown);
    free(c->host);
    free(c);
}

void registry_release(struct registry *r)
{
    size_t i = 0;
    void *p;

    while ((p = hash_next(&r->by_number, &i)))
        engine_free(p);
    i = 0;
    while ((p = hash_next(&r->host_by_session, &i))) {
        free(((struct host *)p)->name);
        free(p);
    }
    i = 0;
    while ((p = hash_next(&r->client_by_session, &i)))
        client_free(p);
    i = 0;
    while ((p = hash_next(&r->uuids, &i)))
        free(p);
    free(r->python);
    hash_release(&r->by_number);
    hash_release(&r->by_session);
    hash_release(&r->host_by_session);
    hash_release(&r->client_by_session);
    hash_release(&r->uuids);
}

/* Replaces host and python, both in one allocation, by what h says (NULL counts as ""). */
static int set_texts(char **host, const char **python, const struct hello *h)
{
    const char *a = h->host ? h->host : "", *b = h->python ? h->python : "";
    size_t n = strlen(a) + 1, m = strlen(b) + 1;
    char *copy = malloc(n + m);

    if (!copy)
        return CV_ENOMEM;
    memcpy(copy, a, n);
    memcpy(copy + n, b, m);
    free(*host);
    *host = copy;
    *python = copy + n;
    return CV_OK;
}

static int uuid_remember(struct registry *r, struct engine *e, const char *uuid)
{
    char *copy = strdup(uuid ? uuid : "");
    void *old = NULL;

    if (!copy)
        return CV_ENOMEM;
    if (hash_put(&r->uuids, e->number, e->incarnation, copy, &old) != CV_OK) {
        free(copy);
        return CV_ENOMEM;
    }
    free(old);
    e->uuid = copy;
    return CV_OK;
}

const char *registry_uuid(const struct registry *r, uint32_t number, uint32_t incarnation)
{
    return hash_get(&r->uuids, number, incarnation);
}

/* Keeps count of the versions, so that the rule (all run the same) costs nothing to see. */
static void count_python(struct registry *r, struct engine *e)
{
    bool odd = r->python && strcmp(r->python, e->python);

    r->nodd += (uint32_t)odd - (uint32_t)e->odd;
    e->odd = odd;
}

const char *registry_python(const struct registry *r)
{
    return r->nodd ? NULL : r->python; /* NULL also when there was no memory: nothing is lost */
}

static void make_live(struct registry *r, struct engine *e)
{
    if (!r->nengines)
        r->python = strdup(e->python);
    e->state = ENGINE_UP;
    list_add_tail(&r->engines, &e->node);
    r->nengines++;
    count_python(r, e);
}

static void make_dead(struct registry *r, struct engine *e)
{
    e->state = ENGINE_DEAD;
    list_del(&e->node);
    r->nodd -= e->odd;
    e->odd = false;
    if (!--r->nengines) {
        free(r->python);
        r->python = NULL;
    }
    list_add_tail(&r->dead, &e->node);
    r->ndead++;
}

int registry_engine_update(struct registry *r, struct engine *e, const struct hello *h)
{
    struct held_task *unstarted = NULL;

    if (h->nunstarted) {
        unstarted = malloc(h->nunstarted * sizeof(*unstarted));
        if (!unstarted)
            return CV_ENOMEM;
        memcpy(unstarted, h->unstarted, h->nunstarted * sizeof(*unstarted));
    }
    if (uuid_remember(r, e, h->uuid) != CV_OK || set_texts(&e->host, &e->python, h) != CV_OK) {
        free(unstarted);
        return CV_ENOMEM;
    }
    if (e->state != ENGINE_DEAD)
        count_python(r, e);
    registry_engine_forget_held(e);
    free(e->away_why);
    e->away_why = NULL;
    e->unstarted = unstarted;
    e->nunstarted = h->nunstarted;
    e->running = h->running;
    e->slot = h->slot;
    e->pid = h->pid;
    e->machine = h->machine;
    e->host_session = h->host_session;
    e->set = h->engine_set;
    e->leaving = e->asked = e->ended = false;
    e->connects = h->connects;
    e->results = e->acked = e->unacked_bytes = 0;
    return CV_OK;
}

static uint32_t number_for(const struct registry *r, uint32_t asked)
{
    if (asked != WIRE_ENGINE_NONE && !registry_engine(r, asked))
        return asked;
    uint32_t n = r->next_number; /* taken only behind the last number that there is */
    while (n == WIRE_ENGINE_NONE || registry_engine(r, n))
        n++;
    return n;
}

int registry_engine_add(struct registry *r, const struct hello *h, struct engine **ret)
{
    struct engine *e = calloc(1, sizeof(*e));
    bool numbered = false;

    if (!e)
        return CV_ENOMEM;
    e->number = number_for(r, h->number);
    e->incarnation = h->incarnation ? h->incarnation : 1;
    e->session = h->session;
    e->state = ENGINE_DEAD;
    list_init(&e->node);
    list_init(&e->via);
    list_init(&e->ack_node);
    if (registry_engine_update(r, e, h) != CV_OK ||
        hash_put(&r->by_number, 0, e->number, e, NULL) != CV_OK)
        goto fail;
    numbered = true;
    if (hash_put(&r->by_session, 0, e->session, e, NULL) != CV_OK)
        goto fail;
    if (e->number >= r->next_number && e->number < WIRE_ENGINE_NONE - 1)
        r->next_number = e->number + 1;
    make_live(r, e);
    *ret = e;
    return CV_OK;
fail:
    if (numbered)
        hash_del(&r->by_number, 0, e->number);
    if (hash_get(&r->by_session, 0, e->session) == e)
        hash_del(&r->by_session, 0, e->session);
    engine_free(e);
    return CV_ENOMEM;
}

int registry_engine_renew(struct registry *r, struct engine *e, const struct hello *h,
                          uint32_t incarnation)
{
    uint32_t old = e->incarnation;

    assert(e->state == ENGINE_DEAD);
    if (hash_put(&r->by_session, 0, h->session, e, NULL) != CV_OK)
        return CV_ENOMEM;
    e->incarnation = incarnation;
    if (registry_engine_update(r, e, h) != CV_OK) {
        e->incarnation = old;
        hash_del(&r->by_session, 0, h->session);
        return CV_ENOMEM;
    }
    e->session = h->session;
    list_del(&e->node);
    r->ndead--;
    make_live(r, e);
    return CV_OK;
}

void registry_engine_dead(struct registry *r, struct engine *e, char *cause_take)
{
    assert(e->state != ENGINE_DEAD);
    registry_engine_forget_held(e);
    free(e->orphans);
    e->orphans = NULL;
    e->norphans = 0;
    free(e->cause);
    e->cause = cause_take;
    e->died = e->incarnation;
    if (hash_get(&r->by_session, 0, e->session) == e)
        hash_del(&r->by_session, 0, e->session);
    make_dead(r, e);
    if (r->ndead <= REGISTRY_DEAD_KEPT)
        return;
    struct engine *oldest = list_entry(list_first(&r->dead), struct engine, node);
    list_del(&oldest->node);
    r->ndead--;
    hash_del(&r->by_number, 0, oldest->number);
    for (uint32_t i = 1; i <= oldest->incarnation; i++)
        free(hash_del(&r->uuids, oldest->number, i));
    engine_free(oldest);
}

struct engine *registry_engine(const struct registry *r, uint32_t number)
{
    return hash_get(&r->by_number, 0, number);
}

struct engine *registry_engine_by_session(const struct registry *r, uint64_t session)
{
    return hash_get(&r->by_session, 0, session);
}

static int by_number(const void *a, const void *b)
{
    const struct engine *x = *(struct engine *const *)a, *y = *(struct engine *const *)b;

    return x->number < y->number ? -1 : x->number > y->number;
}

struct engine **registry_engines_sorted(const struct registry *r, uint32_t *ret_n)
{
    struct engine **v = r->nengines ? malloc(r->nengines * sizeof(*v)) : NULL;
    uint32_t n = 0;

    if (v) {
        list_each(l, &r->engines) v[n++] = list_entry(l, struct engine, node);
        qsort(v, n, sizeof(*v), by_number);
    }
    *ret_n = n;
    return v;
}

int registry_host_add(struct registry *r, const struct hello *h, struct host **ret)
{
    struct host *x = calloc(1, sizeof(*x));

    if (!x)
        return CV_ENOMEM;
    *x = (struct host){.session = h->session,
                       .machine = h->machine,
                       .pid = h->pid,
                       .slots = h->slot,
                       .name = strdup(h->host ? h->host : ""),
                       .connects = h->connects};
    if (!x->name || hash_put(&r->host_by_session, 0, x->session, x, NULL) != CV_OK) {
        free(x->name);
        free(x);
        return CV_ENOMEM;
    }
    list_add_tail(&r->hosts, &x->node);
    r->nhosts++;
    *ret = x;
    return CV_OK;
}

struct host *registry_host(const struct registry *r, uint64_t session)
{
    return hash_get(&r->host_by_session, 0, session);
}

void registry_host_del(struct registry *r, struct host *h)
{
    hash_del(&r->host_by_session, 0, h->session);
    list_del(&h->node);
    r->nhosts--;
    free(h->name);
    free(h);
}

int registry_client_add(struct registry *r, const struct hello *h, struct client **ret)
{
    struct client *c = calloc(1, sizeof(*c));

    if (!c)
        return CV_ENOMEM;
    c->session = h->session;
    c->pid = h->pid;
    c->connects = h->connects;
    if (set_texts(&c->host, &c->python, h) != CV_OK ||
        hash_put(&r->client_by_session, 0, c->session, c, NULL) != CV_OK) {
        client_free(c);
        return CV_ENOMEM;
    }
    list_add_tail(&r->clients, &c->node);
    r->nclients++;
    *ret = c;
    return CV_OK;
}

struct client *registry_client(const struct registry *r, uint64_t session)
{
    return hash_get(&r->client_by_session, 0, session);
}

void registry_client_del(struct registry *r, struct client *c)
{
    hash_del(&r->client_by_session, 0, c->session);
    list_del(&c->node);
    r->nclients--;
    client_free(c);
}

int client_sent_push(struct client *c, struct sent s)
{
    if (c->sent_n == c->sent_cap) {
        uint32_t cap = c->sent_cap ? c->sent_cap * 2 : 64;
        struct sent *v = malloc(cap * sizeof(*v));
        if (!v)
            return CV_ENOMEM;
        for (uint32_t i = 0; i < c->sent_n; i++)
            v[i] = c->sent[(c->sent_head + i) & (c->sent_cap - 1)];
        free(c->sent);
        c->sent = v;
        c->sent_cap = cap;
        c->sent_head = 0;
    }
    c->sent[(c->sent_head + c->sent_n++) & (c->sent_cap - 1)] = s;
    return CV_OK;
}

int client_named_push(struct client *c, struct sent s)
{
    if (c->named_n == c->named_cap) {
        uint32_t cap = c->named_cap ? c->named_cap * 2 : 16;
        struct sent *v = realloc(c->named, cap * sizeof(*v));
        if (!v)
            return CV_ENOMEM;
        c->named = v;
        c->named_cap = cap;
    }
    c->named[c->named_n++] = s;
    return CV_OK;
}

bool client_named_pop(struct client *c, uint64_t seq, uint32_t count, struct sent *ret)
{
    for (uint32_t i = 0; i < c->named_n; i++) {
        if (c->named[i].seq != seq || c->named[i].count != count)
            continue;
        *ret = c->named[i];
        memmove(&c->named[i], &c->named[i + 1], (--c->named_n - i) * sizeof(*ret));
        return true;
    }
    return false;
}

bool client_sent_pop(struct client *c, struct sent *ret)
{
    if (!c->sent_n)
        return false;
    *ret = c->sent[c->sent_head];
    c->sent_head = (c->sent_head + 1) & (c->sent_cap - 1);
    c->sent_n--;
    return true;
}
