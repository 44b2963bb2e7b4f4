/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See heads.h. A list, the one used last in front: the same function usually comes again at once,
 * and comparing lengths tells most others apart. */
#include "pyext/heads.h"

#include <stdlib.h>
#include <string.h>
#include "base/list.h"

struct heads {
    struct list list;
    uint64_t bytes;
    uint32_t n;
};

struct entry {
    struct list node;
    struct payload *payload;
};

int heads_new(struct heads **ret)
{
    struct heads *h = calloc(1, sizeof *h);
    if (!h)
        return CV_ENOMEM;
    list_init(&h->list);
    *ret = h;
    return CV_OK;
}

static void drop(struct heads *h, struct entry *e)
{
    list_del(&e->node);
    h->bytes -= e->payload->total;
    h->n--;
    payload_unref(e->payload);
    free(e);
}

void heads_free(struct heads *h)
{
    if (!h)
        return;
    list_each_safe(n, tmp, &h->list) drop(h, list_entry(n, struct entry, node));
    free(h);
}

static struct entry *find(struct heads *h, const void *data, uint64_t n)
{
    list_each(l, &h->list)
    {
        struct entry *e = list_entry(l, struct entry, node);
        if (e->payload->total == n && memcmp(e->payload->bufs[0].data, data, n) == 0)
            return e;
    }
    return NULL;
}

static struct entry *add(struct heads *h, const void *data, uint64_t n)
{
    struct entry *e = malloc(sizeof *e);
    if (!e || payload_new_copy(&e->payload, data, n) != CV_OK) {
        free(e);
        return NULL;
    }
    list_add_head(&h->list, &e->node);
    h->bytes += n;
    h->n++;
    return e;
}

int heads_get(struct heads *h, const void *data, uint64_t n, struct payload **ret)
{
    struct entry *e = find(h, data, n);
    if (!e) {
        while (h->n && (h->n == HEADS_COUNT_MAX || h->bytes + n > HEADS_MAX))
            drop(h, list_entry(h->list.prev, struct entry, node));
        if (!(e = add(h, data, n)))
            return CV_ENOMEM;
    }
    list_del(&e->node);
    list_add_head(&h->list, &e->node);
    *ret = payload_ref(e->payload);
    return CV_OK;
}

uint64_t heads_bytes(const struct heads *h)
{
    return h->bytes;
}
