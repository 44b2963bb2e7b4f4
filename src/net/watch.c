/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Timers, watched descriptors and signals of a loop: thin owners of uv_timer, uv_poll and
 * uv_signal. Freeing one stops it at once; its memory goes when libuv has closed the handle, so
 * that a callback may free what it was called for. */
#include <stdlib.h>

#include "base/clock.h"
#include "net/loop.h"

struct timer {
    uv_timer_t h;
    void (*cb)(void *arg);
    void *arg;
};

struct watch {
    union {
        uv_handle_t any;
        uv_poll_t poll;
        uv_signal_t sig;
    } h;
    int events; /* what poll is started for */
    union {
        void (*ready)(void *arg, int events);
        void (*signalled)(void *arg, int signum);
    } cb;
    void *arg;
};

static void closed(uv_handle_t *h)
{
    free(h->data);
}

static void timer_cb(uv_timer_t *h)
{
    struct timer *t = h->data;
    t->cb(t->arg);
}

int timer_new(struct timer **ret, struct loop *l, void (*cb)(void *arg), void *arg)
{
    struct timer *t = calloc(1, sizeof *t);
    if (!t)
        return CV_ENOMEM;
    uv_timer_init(loop_uv(l), &t->h);
    t->h.data = t;
    t->cb = cb;
    t->arg = arg;
    *ret = t;
    return CV_OK;
}

static uint64_t to_ms(uint64_t ns)
{
    return ns / NS_PER_MS + (ns % NS_PER_MS != 0);
}

void timer_start(struct timer *t, uint64_t delay_ns, uint64_t repeat_ns)
{
    uv_update_time(t->h.loop); /* so that a long turn does not shorten the delay */
    uv_timer_start(&t->h, timer_cb, to_ms(delay_ns), to_ms(repeat_ns));
}

void timer_stop(struct timer *t)
{
    uv_timer_stop(&t->h);
}

void timer_free(struct timer *t)
{
    if (t)
        uv_close((uv_handle_t *)&t->h, closed);
}

/* libuv stops a handle whose descriptor has an error; the owner learns what it is by using it. */
static void poll_cb(uv_poll_t *h, int status, int events)
{
    struct watch *w = h->data;
    if (status < 0) {
        uv_poll_stop(h);
        w->events = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    w->cb.ready(w->arg, events);
}

int watch_new(struct watch **ret, struct loop *l, int fd, int events,
              void (*cb)(void *arg, int events), void *arg)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return CV_ENOMEM;
    if (uv_poll_init(loop_uv(l), &w->h.poll, fd) < 0) {
        free(w);
        return CV_ESYS;
    }
    w->h.any.data = w;
    w->cb.ready = cb;
    w->arg = arg;
    watch_set(w, events);
    *ret = w;
    return CV_OK;
}

void watch_set(struct watch *w, int events)
{
    if (events == w->events)
        return;
    w->events = events;
    if (events)
        uv_poll_start(&w->h.poll, events, poll_cb);
    else
        uv_poll_stop(&w->h.poll);
}

void watch_free(struct watch *w)
{
    if (w)
        uv_close(&w->h.any, closed);
}

static void signal_cb(uv_signal_t *h, int signum)
{
    struct watch *w = h->data;
    w->cb.signalled(w->arg, signum);
}

int signal_new(struct watch **ret, struct loop *l, int signum, void (*cb)(void *arg, int signum),
               void *arg)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return CV_ENOMEM;
    if (uv_signal_init(loop_uv(l), &w->h.sig) < 0) {
        free(w);
        return CV_ESYS;
    }
    w->h.any.data = w;
    w->cb.signalled = cb;
    w->arg = arg;
    if (uv_signal_start(&w->h.sig, signal_cb, signum) < 0) {
        watch_free(w);
        return CV_EINVAL;
    }
    *ret = w;
    return CV_OK;
}
