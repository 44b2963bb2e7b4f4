/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See exits.h. A list in the order of the ends, and one timer for the report that is due next. */
#include "host/exits.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/list.h"

#define LAST_BYTES_NS (500 * NS_PER_MS)
#define AGAIN_NS (100 * NS_PER_MS)

struct report {
    struct list node;
    uint32_t number, incarnation;
    char *json;
    uint64_t due;
    bool member;
};

struct exits {
    struct exits_config c;
    struct list reports;
    struct timer *timer;
    bool held;
};

static void drop(struct report *r)
{
    list_del(&r->node);
    free(r->json);
    free(r);
}

/* False: it has to be tried again. */
static bool send_off(struct exits *x, struct report *r)
{
    if (!x->c.send(x->c.arg, r->number, r->incarnation, r->json))
        return false;
    drop(r);
    return true;
}

void exits_look(struct exits *x)
{
    uint64_t now = clock_mono(), next = UINT64_MAX, again = now + AGAIN_NS;

    if (x->held)
        return;
    list_each_safe(n, tmp, &x->reports)
    {
        struct report *r = list_entry(n, struct report, node);
        if (r->member && !x->c.is_up(x->c.arg))
            continue; /* who sees the controller come back looks again */
        if (r->due > now && x->c.linked(x->c.arg, r->number))
            next = r->due < next ? r->due : next;
        else if (!send_off(x, r))
            next = again < next ? again : next;
    }
    if (next != UINT64_MAX) {
        timer_start(x->timer, next > now ? next - now : 0, 0);
        return;
    }
    timer_stop(x->timer);
    x->c.settled(x->c.arg);
}

static void on_due(void *arg)
{
    exits_look(arg);
}

int exits_new(struct exits **ret, const struct exits_config *c)
{
    struct exits *x = calloc(1, sizeof *x);

    if (!x)
        return CV_ENOMEM;
    x->c = *c;
    list_init(&x->reports);
    int rc = timer_new(&x->timer, c->loop, on_due, x);
    if (rc != CV_OK) {
        free(x);
        return rc;
    }
    *ret = x;
    return CV_OK;
}

void exits_free(struct exits *x)
{
    if (!x)
        return;
    list_each_safe(n, tmp, &x->reports) drop(list_entry(n, struct report, node));
    timer_free(x->timer);
    free(x);
}

int exits_add(struct exits *x, uint32_t number, uint32_t incarnation, const char *json, size_t len,
              bool member)
{
    struct report *r = calloc(1, sizeof *r);
    char *copy = r ? strndup(json, len) : NULL;

    if (!copy) {
        free(r);
        return CV_ENOMEM;
    }
    *r = (struct report){.number = number,
                         .incarnation = incarnation,
                         .json = copy,
                         .due = clock_mono() + LAST_BYTES_NS,
                         .member = member};
    list_add_tail(&x->reports, &r->node);
    exits_look(x);
    return CV_OK;
}

void exits_hold(struct exits *x)
{
    x->held = true;
    timer_stop(x->timer);
}

void exits_flush(struct exits *x)
{
    list_each_safe(n, tmp, &x->reports)
    {
        struct report *r = list_entry(n, struct report, node);
        if (!send_off(x, r))
            drop(r);
    }
}
