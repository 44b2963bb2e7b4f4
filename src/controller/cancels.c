/* SPDX-License-Identifier: BSD-3-Clause
 *
 * CANCELs of many ids: each task that ends by one has a message of its own, so a million of them
 * would hold up everybody. They are done in slices, one at the end of each turn of the loop, in the
 * order in which they came; who asked may be gone by then. Ids that were never used cost nothing.
 * Owned by the controller's list. Without memory to wait in, one is done at once. */
#include <stdlib.h>
#include "controller/act.h"
#include "controller/controller.h"
#include "controller/route.h"

#define SLICE 500u /* ids */

struct cancel {
    struct list node;
    struct sched_event ev; /* of what is left */
};

void cancels_add(struct controller *c, const struct sched_event *ev)
{
    uint64_t next = sched_client_next(c->sched, ev->id.session);
    uint64_t used = next > ev->id.seq ? next - ev->id.seq : 0;
    struct sched_event part = *ev;

    if (part.count > used)
        part.count = (uint32_t)used;
    if (!part.count)
        return;
    struct cancel *x = part.count > SLICE ? malloc(sizeof(*x)) : NULL;
    if (!x) {
        act_must(c, &part);
        return;
    }
    x->ev = part;
    list_add_tail(&c->cancels, &x->node);
}

bool cancels_turn(struct controller *c)
{
    struct list *l = list_first(&c->cancels);
    struct cancel *x = l ? list_entry(l, struct cancel, node) : NULL;

    if (!x)
        return false;
    struct sched_event part = x->ev;
    part.count = part.count < SLICE ? part.count : SLICE;
    x->ev.id.seq += part.count;
    x->ev.count -= part.count;
    if (!x->ev.count) {
        list_del(&x->node);
        free(x);
    }
    act_must(c, &part);
    return !list_empty(&c->cancels);
}

void cancels_release(struct controller *c)
{
    for (struct list *l; (l = list_first(&c->cancels));) {
        list_del(l);
        free(list_entry(l, struct cancel, node));
    }
}
