/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See spares.h. */
#include "wire/spares.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/clock.h"

#define COUNT_MAX 64

struct spare {
    void *map;
    uint64_t size, since;
};

struct spares {
    atomic_uint refs;
    atomic_ullong bytes;
    pthread_mutex_t mu;
    bool closed;
    uint32_t n;
    struct spare v[COUNT_MAX]; /* oldest first */
};

int spares_new(struct spares **ret)
{
    struct spares *s = calloc(1, sizeof *s);
    if (!s)
        return CV_ENOMEM;
    atomic_init(&s->refs, 1);
    pthread_mutex_init(&s->mu, NULL);
    *ret = s;
    return CV_OK;
}

struct spares *spares_ref(struct spares *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

static void remove_at(struct spares *s, uint32_t i)
{
    atomic_fetch_sub(&s->bytes, s->v[i].size);
    memmove(&s->v[i], &s->v[i + 1], (--s->n - i) * sizeof s->v[0]);
}

static void unmap_oldest(struct spares *s)
{
    munmap(s->v[0].map, s->v[0].size);
    remove_at(s, 0);
}

void spares_unref(struct spares *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    while (s->n)
        unmap_oldest(s);
    pthread_mutex_destroy(&s->mu);
    free(s);
}

void *spares_take(struct spares *s, uint64_t size)
{
    void *map = NULL;
    if (!atomic_load_explicit(&s->bytes, memory_order_relaxed) || pthread_mutex_trylock(&s->mu))
        return NULL;
    for (uint32_t i = s->n; i-- > 0 && !map;) { /* the one let go last is in the caches */
        if (s->v[i].size == size) {
            map = s->v[i].map;
            remove_at(s, i);
        }
    }
    pthread_mutex_unlock(&s->mu);
    return map;
}

bool spares_put(struct spares *s, void *map, uint64_t size)
{
    if (size < SPARES_MIN || size > SPARES_MAX || pthread_mutex_trylock(&s->mu))
        return false;
    bool open = !s->closed;
    while (open && (s->n == COUNT_MAX || atomic_load(&s->bytes) + size > SPARES_MAX))
        unmap_oldest(s);
    if (open) {
        s->v[s->n++] = (struct spare){map, size, clock_mono()};
        atomic_fetch_add(&s->bytes, size);
    }
    pthread_mutex_unlock(&s->mu);
    return open;
}

void spares_age(struct spares *s, uint64_t then)
{
    pthread_mutex_lock(&s->mu);
    while (s->n && s->v[0].since < then)
        unmap_oldest(s);
    pthread_mutex_unlock(&s->mu);
}

uint64_t spares_bytes(const struct spares *s)
{
    return atomic_load_explicit(&s->bytes, memory_order_relaxed);
}

void spares_close(struct spares *s)
{
    pthread_mutex_lock(&s->mu);
    s->closed = true;
    while (s->n)
        unmap_oldest(s);
    pthread_mutex_unlock(&s->mu);
}
