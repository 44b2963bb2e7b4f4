/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See admission.h. */
#include "controller/admission.h"

#define SECOND 1000000000ull

void admission_init(struct admission *a)
{
    list_init(&a->places);
    list_init(&a->proven);
    a->n = 0;
    a->patience = ADMISSION_PATIENCE_NS;
    a->failed = 0;
    a->failed_since = 0;
}

static struct place *oldest(const struct list *places)
{
    struct list *l = list_first(places);

    return l ? list_entry(l, struct place, node) : NULL;
}

bool admission_ask(const struct admission *a, uint64_t now, struct place **ret_victim,
                   uint64_t *ret_when)
{
    struct place *p = oldest(&a->places);

    *ret_victim = NULL;
    *ret_when = now;
    if (a->n < ADMISSION_PLACES)
        return true;
    *ret_when = p->since + a->patience;
    if (now < *ret_when)
        return false;
    *ret_victim = p;
    return true;
}

void admission_enter(struct admission *a, struct place *p, uint64_t now)
{
    p->since = now;
    p->proven = false;
    list_add_tail(&a->places, &p->node);
    a->n++;
}

void admission_prove(struct admission *a, struct place *p)
{
    if (p->proven)
        return;
    list_del(&p->node);
    list_add_tail(&a->proven, &p->node);
    p->proven = true;
    a->n--;
}

void admission_lose(struct admission *a)
{
    a->patience -= a->patience / 32;
    if (a->patience < ADMISSION_PATIENCE_MIN_NS)
        a->patience = ADMISSION_PATIENCE_MIN_NS;
}

void admission_welcome(struct admission *a)
{
    a->patience += a->patience / 16;
    if (a->patience > ADMISSION_PATIENCE_NS)
        a->patience = ADMISSION_PATIENCE_NS;
    a->failed -= a->failed < 4 ? a->failed : 4;
}

bool admission_failed(struct admission *a, uint64_t now)
{
    if (now - a->failed_since > SECOND) {
        a->failed /= 2;
        a->failed_since = now;
    }
    return ++a->failed > ADMISSION_FLOOD;
}

void admission_leave(struct admission *a, struct place *p)
{
    list_del(&p->node);
    if (!p->proven)
        a->n--;
}

struct place *admission_expired(const struct admission *a, uint64_t now, uint64_t *ret_next)
{
    struct place *p = oldest(&a->places), *q = oldest(&a->proven);

    *ret_next = UINT64_MAX;
    if (!p || (q && q->since < p->since))
        p = q;
    if (!p)
        return NULL;
    if (now >= p->since + ADMISSION_TIMEOUT_NS)
        return p;
    *ret_next = p->since + ADMISSION_TIMEOUT_NS;
    return NULL;
}
