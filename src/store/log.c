/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See log.h. */
#include "store/log.h"

#include <stdlib.h>

static struct log_page *page_of(const struct log_entry *e)
{
    return container_of(e - e->index, struct log_page, v[0]);
}

void log_init(struct log *g)
{
    list_init(&g->pages);
}

struct log_entry *log_add(struct log *g, uint64_t id)
{
    struct log_page *p =
        list_empty(&g->pages) ? NULL : list_entry(g->pages.prev, struct log_page, node);

    if (!p || p->n == LOG_PAGE || id - p->first > UINT32_MAX) {
        p = malloc(sizeof(*p));
        if (!p)
            return NULL;
        p->first = id;
        p->n = p->live = 0;
        list_add_tail(&g->pages, &p->node);
    }
    struct log_entry *e = &p->v[p->n];
    *e = (struct log_entry){.id = (uint32_t)(id - p->first), .index = p->n++ % LOG_PAGE};
    return e;
}

void log_fill(struct log_entry *e, enum log_type type)
{
    if (e->type == LOG_EMPTY)
        page_of(e)->live++;
    e->type = type;
}

void log_clear(struct log_entry *e)
{
    struct log_page *p = page_of(e);

    if (e->type != LOG_EMPTY)
        p->live--;
    e->type = LOG_EMPTY;
    if (e->index + 1u == p->n)
        p->n--;
    if (p->live)
        return;
    list_del(&p->node);
    free(p);
}

void log_release(struct log *g)
{
    list_each_safe(l, tmp, &g->pages) free(list_entry(l, struct log_page, node));
    list_init(&g->pages);
}

static struct log_entry *from(const struct log *g, struct list *l, uint32_t i)
{
    for (; l != &g->pages; l = l->next, i = 0) {
        struct log_page *p = list_entry(l, struct log_page, node);
        for (; i < p->n; i++)
            if (p->v[i].type != LOG_EMPTY)
                return &p->v[i];
    }
    return NULL;
}

struct log_entry *log_first(const struct log *g)
{
    return from(g, g->pages.next, 0);
}

struct log_entry *log_next(const struct log *g, const struct log_entry *e)
{
    return from(g, &page_of(e)->node, e->index + 1u);
}

uint64_t log_id(const struct log_entry *e)
{
    return page_of(e)->first + e->id;
}
