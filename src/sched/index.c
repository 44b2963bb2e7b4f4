/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The index from ids to records. A range is cut into aligned blocks of 2^k ids, each one entry, so
 * a lookup costs one probe for each block size in use; what is smaller than a page of ids is
 * entered there, id by id. Called by the scheduler's one thread. Owns the pages. Failure: out of
 * memory leaves a record out of the index. */
#include <stdlib.h>

#include "sched/state.h"
#include "sched/task.h"

#define SEQ_BITS 58 /* the others say the block's size */
#define PAGE_BITS 6
#define PAGE_IDS (1u << PAGE_BITS)
#define PAGES_SPARE 4u

/* Ids that few records share: a client's are a counter. */
struct index_page {
    struct index_page *next; /* in s->spare */
    uint32_t used;
    struct task *v[PAGE_IDS];
};

static uint32_t block_size(uint64_t lo, uint64_t hi)
{
    uint32_t k = lo ? (uint32_t)__builtin_ctzll(lo) : SEQ_BITS - 1;
    uint32_t fit = 63 - (uint32_t)__builtin_clzll(hi - lo);
    return k < fit ? k : fit;
}

static uint64_t block_key(uint64_t seq, uint32_t k)
{
    return (uint64_t)k << SEQ_BITS | seq >> k;
}

static uint64_t page_key(uint64_t seq)
{
    return seq >> PAGE_BITS; /* as of blocks of one id, which are not entered */
}

static struct index_page *page_take(struct sched *s)
{
    struct index_page *p = s->spare;
    if (!p)
        return calloc(1, sizeof *p);
    s->spare = p->next;
    s->nspare--;
    return p;
}

static void page_give(struct sched *s, struct index_page *p)
{
    if (s->nspare == PAGES_SPARE) {
        free(p);
        return;
    }
    p->next = s->spare;
    s->spare = p;
    s->nspare++;
}

void task_index_release(struct sched *s)
{
    struct index_page *p;
    while ((p = s->spare)) {
        s->spare = p->next;
        free(p);
    }
    hash_release(&s->index);
}

static int page_put(struct sched *s, struct sched_id id, uint64_t n, struct task *t)
{
    struct index_page *p = hash_get(&s->index, id.session, page_key(id.seq));
    if (!p) {
        p = page_take(s);
        if (!p)
            return CV_ENOMEM;
        if (hash_put(&s->index, id.session, page_key(id.seq), p, NULL) < 0) {
            page_give(s, p);
            return CV_ENOMEM;
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        struct task **v = &p->v[(id.seq + i) % PAGE_IDS];
        p->used += !*v;
        *v = t;
    }
    return CV_OK;
}

/* A record that could not be entered may be taken out, too. */
static void page_del(struct sched *s, struct sched_id id, uint64_t n, const struct task *t)
{
    struct index_page *p = hash_get(&s->index, id.session, page_key(id.seq));
    for (uint64_t i = 0; p && i < n; i++) {
        struct task **v = &p->v[(id.seq + i) % PAGE_IDS];
        p->used -= *v == t;
        if (*v == t)
            *v = NULL;
    }
    if (!p || p->used)
        return;
    hash_del(&s->index, id.session, page_key(id.seq));
    page_give(s, p);
}

/* How many of t's ids, from lo on, are one entry of the index (block size *k) or lie in one page
 * (*k 0). */
static uint64_t index_step(const struct task *t, uint64_t lo, uint32_t *k)
{
    *k = block_size(lo, task_end(t));
    if (*k >= PAGE_BITS)
        return 1ull << *k;
    *k = 0;
    uint64_t n = PAGE_IDS - lo % PAGE_IDS;
    return n < task_end(t) - lo ? n : task_end(t) - lo;
}

static void index_drop(struct sched *s, const struct task *t, uint64_t hi)
{
    uint64_t n;
    for (uint64_t lo = t->seq; lo < hi; lo += n) {
        uint32_t k;
        n = index_step(t, lo, &k);
        if (!k) {
            page_del(s, (struct sched_id){task_session(t), lo}, n, t);
            continue;
        }
        if (hash_del(&s->index, task_session(t), block_key(lo, k)) && --s->block_use[k] == 0)
            s->block_mask &= ~(1ull << k);
    }
}

int task_index_add(struct sched *s, struct task *t)
{
    uint64_t n;
    for (uint64_t lo = t->seq; lo < task_end(t); lo += n) {
        uint32_t k;
        n = index_step(t, lo, &k);
        void *was = NULL;
        int r = k ? hash_put(&s->index, task_session(t), block_key(lo, k), t, &was)
                  : page_put(s, (struct sched_id){task_session(t), lo}, n, t);
        if (r < 0) {
            index_drop(s, t, lo);
            return r;
        }
        if (k && !was) {
            s->block_use[k]++;
            s->block_mask |= 1ull << k;
        }
    }
    return CV_OK;
}

void task_index_del(struct sched *s, struct task *t)
{
    index_drop(s, t, task_end(t));
}

struct task *task_find_from(const struct sched *s, struct sched_id id, uint64_t *ret_next)
{
    *ret_next = UINT64_MAX;
    if (id.seq >> (SEQ_BITS - 1))
        return NULL;
    const struct index_page *p = hash_get(&s->index, id.session, page_key(id.seq));
    *ret_next = p ? id.seq + 1 : (page_key(id.seq) + 1) << PAGE_BITS; /* blocks are whole pages */
    if (p && p->v[id.seq % PAGE_IDS])
        return p->v[id.seq % PAGE_IDS];
    for (uint64_t m = s->block_mask; m; m &= m - 1) {
        struct task *t =
            hash_get(&s->index, id.session, block_key(id.seq, (uint32_t)__builtin_ctzll(m)));
        if (t)
            return t;
    }
    return NULL;
}

struct task *task_find(const struct sched *s, struct sched_id id)
{
    uint64_t next;
    return task_find_from(s, id, &next);
}
