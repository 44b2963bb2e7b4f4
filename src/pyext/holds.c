/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Python buffers in use by C; see holds.h. The object is shared by its Client, its holds and at
 * most one pending call, hence the reference count. Its mutex is a leaf: nothing is called under
 * it. */
#include "pyext/holds.h"

#include <pthread.h>
#include <stdlib.h>
#include "base/list.h"

struct holds {
    pthread_mutex_t mu;
    unsigned refs;
    bool scheduled;          /* a pending call is under way */
    struct list used, freed; /* of struct hold */
};

struct hold {
    struct list node;
    struct holds *owner;
    uint64_t session, lo;
    uint32_t count, n;
    Py_buffer views[];
};

struct holds *holds_new(void)
{
    struct holds *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    pthread_mutex_init(&h->mu, NULL);
    h->refs = 1;
    list_init(&h->used);
    list_init(&h->freed);
    return h;
}

static void unref(struct holds *h)
{
    pthread_mutex_lock(&h->mu);
    bool last = --h->refs == 0;
    pthread_mutex_unlock(&h->mu);
    if (!last)
        return;
    pthread_mutex_destroy(&h->mu);
    free(h);
}

void holds_drain(struct holds *h)
{
    struct list freed;
    list_init(&freed);
    pthread_mutex_lock(&h->mu);
    while (!list_empty(&h->freed)) {
        struct list *n = list_first(&h->freed);
        list_del(n);
        list_add_tail(&freed, n);
    }
    pthread_mutex_unlock(&h->mu);
    list_each_safe(n, tmp, &freed)
    {
        struct hold *hold = list_entry(n, struct hold, node);
        for (uint32_t i = 0; i < hold->n; i++)
            PyBuffer_Release(&hold->views[i]);
        free(hold);
        unref(h);
    }
}

static int pending_call(void *arg)
{
    struct holds *h = arg;
    pthread_mutex_lock(&h->mu);
    h->scheduled = false;
    pthread_mutex_unlock(&h->mu);
    holds_drain(h);
    unref(h);
    return 0;
}

/* Any thread, without the GIL. */
static void on_release(struct payload *p)
{
    struct hold *hold = payload_owner(p);
    struct holds *h = hold->owner;
    pthread_mutex_lock(&h->mu);
    list_del(&hold->node);
    list_add_tail(&h->freed, &hold->node);
    bool ask = !h->scheduled;
    if (ask) {
        h->scheduled = true;
        h->refs++;
    }
    pthread_mutex_unlock(&h->mu);
    if (ask && Py_AddPendingCall(pending_call, h)) { /* its queue is full: the next call drains */
        pthread_mutex_lock(&h->mu);
        h->scheduled = false;
        h->refs--; /* the hold still has one */
        pthread_mutex_unlock(&h->mu);
    }
}

int holds_payload(struct holds *h, Py_buffer *views_take, uint32_t n, struct payload **ret,
                  struct hold **ret_hold)
{
    struct hold *hold = malloc(sizeof *hold + n * sizeof(Py_buffer));
    struct slice *slices = malloc(n * sizeof *slices);
    int r = CV_ENOMEM;
    if (!hold || !slices)
        goto out;
    for (uint32_t i = 0; i < n; i++) {
        hold->views[i] = views_take[i];
        slices[i] = (struct slice){.data = views_take[i].buf, .len = (uint64_t)views_take[i].len};
    }
    hold->owner = h;
    hold->session = hold->lo = 0;
    hold->count = 0;
    hold->n = n;
    r = payload_new_foreign(ret, n, slices, on_release, hold);
    if (r)
        goto out;
    pthread_mutex_lock(&h->mu);
    h->refs++;
    list_add_tail(&h->used, &hold->node);
    pthread_mutex_unlock(&h->mu);
    *ret_hold = hold;
    hold = NULL;
out:
    free(hold);
    free(slices);
    return r;
}

void hold_name(struct hold *hold, uint64_t session, uint64_t lo, uint32_t count)
{
    pthread_mutex_lock(&hold->owner->mu);
    hold->session = session;
    hold->lo = lo;
    hold->count = count;
    pthread_mutex_unlock(&hold->owner->mu);
}

bool holds_has(struct holds *h, uint64_t session, uint64_t seq)
{
    bool found = false;
    pthread_mutex_lock(&h->mu);
    list_each(n, &h->used)
    {
        struct hold *hold = list_entry(n, struct hold, node);
        if (hold->session == session && seq >= hold->lo && seq - hold->lo < hold->count)
            found = true;
    }
    pthread_mutex_unlock(&h->mu);
    return found;
}

void holds_free(struct holds *h)
{
    if (!h)
        return;
    holds_drain(h);
    unref(h);
}
