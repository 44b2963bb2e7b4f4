/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See admission.h. */
#include "controller/admission.h"

void admission_init(struct admission *a)
{
    list_init(&a->places);
    a->n = 0;
}

bool admission_ask(const struct admission *a, uint64_t now, struct place **ret_victim)
{
    *ret_victim = NULL;
    if (a->n < ADMISSION_PLACES)
        return true;
    list_each(l, &a->places)
    {
        struct place *p = list_entry(l, struct place, node);
        if (now >= p->heard + ADMISSION_SILENT_NS) {
            *ret_victim = p;
            return true;
        }
    }
    return false;
}

void admission_enter(struct admission *a, struct place *p, uint64_t now)
{
    p->since = p->heard = now;
    list_add_tail(&a->places, &p->node);
    a->n++;
}

void admission_leave(struct admission *a, struct place *p)
{
    list_del(&p->node);
    a->n--;
}

struct place *admission_expired(const struct admission *a, uint64_t now, uint64_t *ret_next)
{
    struct list *l = list_first(&a->places);

    *ret_next = UINT64_MAX;
    if (!l)
        return NULL;
    struct place *p = list_entry(l, struct place, node);
    if (now >= p->since + ADMISSION_TIMEOUT_NS)
        return p;
    *ret_next = p->since + ADMISSION_TIMEOUT_NS;
    return NULL;
}
