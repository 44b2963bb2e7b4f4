/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Intrusive doubly linked list with a sentinel head. The list owns nothing. A node that is in no
 * list points to itself after list_init() or list_del(). */
#ifndef COVEY_BASE_LIST_H
#define COVEY_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_each(pos, head) for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
#define list_each_safe(pos, tmp, head)                                                             \
    for (struct list *pos = (head)->next, *tmp = pos->next; pos != (head);                         \
         pos = tmp, tmp = pos->next)

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_add_tail(struct list *head, struct list *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

static inline void list_add_head(struct list *head, struct list *n)
{
    n->next = head->next;
    n->prev = head;
    head->next->prev = n;
    head->next = n;
}

static inline void list_del(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->next = n->prev = n;
}

static inline struct list *list_first(const struct list *l)
{
    return l->next == l ? NULL : l->next;
}

#endif
