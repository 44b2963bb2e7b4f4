/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Engines whose links are lost (super_priv.h): told in the log, those of one host and reason in one
 * line, and again when they are back or given up. Who has died is away for a moment, and one relay
 * may follow another: what is over within WAIT_NS is not told. On the main thread; out of memory
 * costs the line. */
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/clock.h"
#include "cluster/super_priv.h"

#define WAIT_NS (2 * NS_PER_S)
#define NAMED_MAX 8

/* Of an entry {"host", "why", "grace", "since", "told", "back"}. */
static bool is(const json_t *entry, const char *what)
{
    return json_is_true(json_object_get(entry, what));
}

static const char *text(const json_t *entry, const char *key)
{
    const char *s = json_string_value(json_object_get(entry, key));
    return s ? s : "?";
}

static bool alike(const json_t *a, const json_t *b)
{
    return is(a, "back") == is(b, "back") && !strcmp(text(a, "host"), text(b, "host")) &&
           !strcmp(text(a, "why"), text(b, "why"));
}

/* Is there something to say of it that was not said? */
static bool is_news(const json_t *entry)
{
    return is(entry, "back") || !is(entry, "told");
}

/* The numbers of those that are like this one, which are told by this. */
static size_t take_alike(struct supervisor *v, const json_t *like, unsigned long *numbers)
{
    size_t n = 0;
    json_t *entry;
    const char *number;
    void *tmp;
    json_object_foreach_safe(v->away, tmp, number, entry)
    {
        if (!is_news(entry) || !alike(entry, like))
            continue;
        numbers[n++] = strtoul(number, NULL, 10);
        if (is(entry, "back"))
            json_object_del(v->away, number);
        else
            json_object_set_new(entry, "told", json_true());
    }
    return n;
}

static int by_number(const void *a, const void *b)
{
    unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;
    return (x > y) - (x < y);
}

static void tell(struct supervisor *v, const json_t *entry, unsigned long *numbers, size_t n)
{
    struct buf b = {0};
    int rc = CV_OK;
    qsort(numbers, n, sizeof *numbers, by_number);
    for (size_t i = 0; i < n && i < NAMED_MAX && !rc; i++)
        rc = buf_addf(&b, "%s%lu", i ? ", " : "", numbers[i]);
    if (n > NAMED_MAX && !rc)
        rc = buf_addf(&b, " and %zu more", n - NAMED_MAX);
    const char *list = rc ? NULL : (const char *)buf_cstr(&b), *s = n == 1 ? "" : "s";
    if (list && is(entry, "back"))
        log_info(v->s->log, "engine%s %s on %s: connected again", s, list, text(entry, "host"));
    else if (list)
        log_warn(v->s->log,
                 "engine%s %s on %s: the link is lost: %s; what runs there is waited for, %g s at "
                 "most (IPController.away_grace)",
                 s, list, text(entry, "host"), text(entry, "why"),
                 json_number_value(json_object_get(entry, "grace")));
    buf_release(&b);
}

/* One that was not told yet; NULL: there is none. */
static json_t *find_news(const struct supervisor *v)
{
    json_t *entry;
    const char *number;
    json_object_foreach(v->away, number, entry)
    {
        if (is_news(entry))
            return entry;
    }
    return NULL;
}

/* All that is news, a line for those that are alike. */
static void tell_all(struct supervisor *v)
{
    unsigned long *numbers = calloc(json_object_size(v->away) + 1, sizeof *numbers);
    for (json_t *entry; numbers && (entry = json_incref(find_news(v)));) {
        tell(v, entry, numbers, take_alike(v, entry, numbers));
        json_decref(entry);
    }
    free(numbers);
}

/* ms until the youngest news are old enough; 0: they are, -1: there are none. */
static int64_t wait_ms(const struct supervisor *v)
{
    int64_t wait = -1, now = (int64_t)(clock_mono() / NS_PER_MS);
    json_t *entry;
    const char *number;
    json_object_foreach(v->away, number, entry)
    {
        int64_t due =
            json_integer_value(json_object_get(entry, "since")) + (int64_t)(WAIT_NS / NS_PER_MS);
        int64_t left = is(entry, "back") || due <= now ? 0 : due - now;
        wait = is_news(entry) && left > wait ? left : wait;
    }
    return wait;
}

static void on_timer(uv_timer_t *t)
{
    struct supervisor *v = t->data;
    int64_t wait = v->state == SUPER_STOPPING ? -1 : wait_ms(v);
    if (!wait)
        tell_all(v);
    else if (wait > 0)
        uv_timer_start(t, on_timer, (uint64_t)wait, 0);
}

static void start_timer(struct supervisor *v)
{
    uv_handle_t *h = (uv_handle_t *)&v->telling;
    if (!uv_is_closing(h) && !uv_is_active(h))
        uv_timer_start(&v->telling, on_timer, WAIT_NS / NS_PER_MS, 0);
}

int away_init(struct supervisor *v)
{
    uv_timer_init(&v->loop, &v->telling);
    v->telling.data = v;
    v->away = json_object();
    return v->away ? CV_OK : CV_ENOMEM;
}

void away_lost(struct supervisor *v, const char *number, const json_t *event)
{
    const json_t *old = json_object_get(v->away, number);
    json_t *entry =
        json_pack("{s:s, s:s, s:O*, s:I, s:b}", "host", text(event, "host"), "why",
                  text(event, "why"), "grace", json_object_get(event, "grace"), "since",
                  (json_int_t)(clock_mono() / NS_PER_MS), "told", old && is(old, "told"));
    if (!entry || json_object_set_new(v->away, number, entry))
        return;
    start_timer(v);
}

void away_back(struct supervisor *v, const char *number)
{
    json_t *entry = json_object_get(v->away, number);
    if (entry && is(entry, "told")) {
        json_object_set_new(entry, "back", json_true());
        start_timer(v);
    } else {
        json_object_del(v->away, number);
    }
}

void away_over(struct supervisor *v, const char *number, const json_t *event)
{
    const json_t *entry = json_object_get(v->away, number);
    if (entry && is(entry, "told") && v->state == SUPER_RUNNING)
        log_warn(v->s->log, "%s", text(json_object_get(event, "cause"), "text"));
    json_object_del(v->away, number);
}

size_t away_count(const struct supervisor *v)
{
    size_t n = 0;
    json_t *entry;
    const char *number;
    json_object_foreach(v->away, number, entry)
    {
        n += !is(entry, "back");
    }
    return n;
}
