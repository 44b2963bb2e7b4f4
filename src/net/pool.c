/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool of memfds (pool.h). Sizes are rounded up to eighths of a power of two, so that arrays of
 * about one size share; pages that no buffer reached cost nothing. Each is mapped, then sealed: it
 * keeps its size, and nobody else can map it to be written. A forked child does not get the maps.
 */
#include "net/pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/list.h"

#define COUNT_MAX 1024u          /* memfds; fewer where descriptors are short */
#define IDLE_MAX (1024ull << 20) /* bytes that may lie idle; a quarter of all at most */
#define IDLE_NS (10 * NS_PER_S)  /* for so long */
#define PAGE 4096u

struct pool {
    pthread_mutex_t mu;
    unsigned refs; /* the owner's, and one for each memfd */
    bool closed;
    uint64_t bytes_max, idle_max;
    uint32_t n_max;
    struct list idle; /* of struct pooled, the one used last first */
    struct pool_stats s;
};

struct pooled {
    struct region r;
    struct pool *pool;
    struct list node;
    uint64_t size; /* of the memfd */
    uint64_t since;
};

static uint64_t rounded(uint64_t len)
{
    uint64_t step = PAGE;
    while (step * 16 <= len)
        step *= 2;
    return (len + step - 1) / step * step;
}

int pool_new(struct pool **ret, uint64_t bytes)
{
    struct pool *p = calloc(1, sizeof *p);
    struct rlimit l;
    if (!p)
        return CV_ENOMEM;
    pthread_mutex_init(&p->mu, NULL);
    list_init(&p->idle);
    p->refs = 1;
    p->bytes_max = bytes;
    p->idle_max = IDLE_MAX;
    if (bytes == UINT64_MAX) {
        p->bytes_max = memory_limit() / 4;
        p->idle_max = p->bytes_max / 4 < IDLE_MAX ? p->bytes_max / 4 : IDLE_MAX;
    }
    p->n_max = COUNT_MAX;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur / 4 < COUNT_MAX)
        p->n_max = (uint32_t)(l.rlim_cur / 4);
    *ret = p;
    return CV_OK;
}

/* ---- one memfd; without the mutex ---- */

static struct pooled *pooled_new(uint64_t size)
{
    struct pooled *g = calloc(1, sizeof *g);
    void *m = MAP_FAILED;
    if (!g)
        return NULL;
    g->r.fd = memfd_create("covey-buffer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (g->r.fd >= 0 && ftruncate(g->r.fd, (off_t)size) == 0)
        m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, g->r.fd, 0);
    if (m == MAP_FAILED)
        goto fail;
    if (fcntl(g->r.fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
        goto fail;
    madvise(m, size, MADV_DONTFORK);
    g->r.data = m;
    g->size = size;
    return g;
fail:
    if (m != MAP_FAILED)
        munmap(m, size);
    if (g->r.fd >= 0)
        close(g->r.fd);
    free(g);
    return NULL;
}

static void pooled_free(struct pooled *g)
{
    munmap(g->r.data, g->size);
    close(g->r.fd);
    free(g);
}

/* ---- the pool ---- */

/* Takes g, which is in no list, out of the books. The mutex is held. */
static void forget(struct pool *p, const struct pooled *g)
{
    p->s.n--;
    p->s.bytes -= g->size;
    p->s.dropped++;
    p->refs--;
}

static struct pooled *idle_take(struct pool *p, struct list *n)
{
    struct pooled *g = list_entry(n, struct pooled, node);
    list_del(n);
    p->s.idle--;
    p->s.idle_bytes -= g->size;
    return g;
}

/* Takes idle ones, the oldest first, until `bytes` and one more fit or none is left; they are
 * chained to *garbage. */
static void make_room(struct pool *p, uint64_t bytes, struct list *garbage)
{
    while (!list_empty(&p->idle) && (p->s.n >= p->n_max || bytes > p->bytes_max - p->s.bytes)) {
        struct pooled *g = idle_take(p, p->idle.prev);
        forget(p, g);
        list_add_tail(garbage, &g->node);
    }
}

static void garbage_free(struct list *garbage)
{
    list_each_safe(n, tmp, garbage) pooled_free(list_entry(n, struct pooled, node));
}

static void unlock_and_unref(struct pool *p)
{
    bool last = p->refs == 0;
    pthread_mutex_unlock(&p->mu);
    if (!last)
        return;
    pthread_mutex_destroy(&p->mu);
    free(p);
}

static void on_release(struct region *r)
{
    struct pooled *g = (struct pooled *)r;
    struct pool *p = g->pool;
    pthread_mutex_lock(&p->mu);
    bool keep = !p->closed && !atomic_load(&r->discard) && p->s.idle_bytes + g->size <= p->idle_max;
    if (keep) {
        g->since = clock_mono();
        list_add_head(&p->idle, &g->node);
        p->s.idle++;
        p->s.idle_bytes += g->size;
    } else {
        forget(p, g);
    }
    unlock_and_unref(p);
    if (!keep)
        pooled_free(g);
}

static struct pooled *find_idle(struct pool *p, uint64_t size)
{
    list_each(n, &p->idle)
    {
        if (list_entry(n, struct pooled, node)->size == size)
            return idle_take(p, n);
    }
    return NULL;
}

struct region *pool_get(struct pool *p, uint64_t len)
{
    struct list garbage;
    uint64_t size = rounded(len);
    list_init(&garbage);
    pthread_mutex_lock(&p->mu);
    struct pooled *g = find_idle(p, size);
    bool make = false;
    if (g) {
        p->s.reused++;
    } else if (size <= p->bytes_max) {
        make_room(p, size, &garbage);
        make = p->s.n < p->n_max && size <= p->bytes_max - p->s.bytes;
    }
    if (make) { /* booked first: others may be here meanwhile */
        p->s.n++;
        p->s.bytes += size;
        p->refs++;
    }
    pthread_mutex_unlock(&p->mu);
    garbage_free(&garbage);
    if (make && !(g = pooled_new(size))) {
        pthread_mutex_lock(&p->mu);
        p->s.n--;
        p->s.bytes -= size;
        p->refs--;
        pthread_mutex_unlock(&p->mu);
    }
    if (!g)
        return NULL;
    if (make) {
        g->pool = p;
        g->r.release = on_release;
    }
    g->r.len = len;
    atomic_store(&g->r.refs, 1);
    return &g->r;
}

bool pool_trim(struct pool *p)
{
    struct list garbage;
    uint64_t now = clock_mono();
    list_init(&garbage);
    pthread_mutex_lock(&p->mu);
    while (!list_empty(&p->idle)) {
        struct pooled *g = list_entry(p->idle.prev, struct pooled, node);
        if (now - g->since < IDLE_NS)
            break;
        idle_take(p, &g->node);
        forget(p, g);
        list_add_tail(&garbage, &g->node);
    }
    bool left = p->s.n > 0;
    pthread_mutex_unlock(&p->mu);
    garbage_free(&garbage);
    return left;
}

void pool_stats(struct pool *p, struct pool_stats *ret)
{
    pthread_mutex_lock(&p->mu);
    p->s.made = p->s.n + p->s.dropped;
    *ret = p->s;
    pthread_mutex_unlock(&p->mu);
}

void pool_free(struct pool *p)
{
    struct list garbage;
    if (!p)
        return;
    list_init(&garbage);
    pthread_mutex_lock(&p->mu);
    p->closed = true;
    while (!list_empty(&p->idle)) {
        struct pooled *g = idle_take(p, list_first(&p->idle));
        forget(p, g);
        list_add_tail(&garbage, &g->node);
    }
    p->refs--;
    unlock_and_unref(p);
    garbage_free(&garbage);
}
