/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The loop on libuv: uv_async wakes it, uv_prepare is the end of a turn (hooks, then jobs that were
 * put off to there), uv_check runs the jobs of the next turn and uv_idle keeps poll from waiting
 * while there are such jobs. Runs on the thread that calls loop_run(); only loop_wake() may come
 * from elsewhere. Owns its handles and the shared read buffer. */
#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "net/loop_priv.h"

#define HOOKS_MAX 4
#define SPARES_MS 1000 /* what nobody wanted for so long is let go */

struct hook {
    void (*cb)(void *arg);
    void *arg;
};

struct loop {
    uv_loop_t uv;
    uv_async_t wake;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    struct hook wakes[HOOKS_MAX], ends[HOOKS_MAX];
    int nwakes, nends;
    struct list end_jobs;   /* run at the end of this turn */
    struct list next_jobs;  /* become ready when this turn ends */
    struct list ready_jobs; /* run in this turn, after poll */
    uint64_t turn, now;
    bool now_valid;
    uint8_t *read_buf;
    struct spares *spares;
    struct pool *pool; /* NULL: nobody has asked yet */
    uv_timer_t spares_timer;
};

void loop_job_init(struct loop_job *j, void (*run)(struct loop_job *j))
{
    list_init(&j->node);
    j->run = run;
}

void loop_job_at_turn_end(struct loop *l, struct loop_job *j)
{
    if (list_empty(&j->node))
        list_add_tail(&l->end_jobs, &j->node);
}

void loop_job_next_turn(struct loop *l, struct loop_job *j)
{
    if (list_empty(&j->node))
        list_add_tail(&l->next_jobs, &j->node);
}

void loop_job_cancel(struct loop_job *j)
{
    list_del(&j->node);
}

/* Runs until the list is empty; a job may free itself, cancel others and queue new ones. */
static void run_jobs(struct list *jobs)
{
    struct list *n;
    while ((n = list_first(jobs))) {
        list_del(n);
        struct loop_job *j = list_entry(n, struct loop_job, node);
        j->run(j);
    }
}

static bool has_spares(const struct loop *l)
{
    struct pool_stats s = {0};
    if (l->pool)
        pool_stats(l->pool, &s);
    return s.idle || spares_bytes(l->spares);
}

static void spares_cb(uv_timer_t *h)
{
    struct loop *l = h->data;
    spares_age(l->spares, clock_mono() - SPARES_MS * NS_PER_MS);
    if (l->pool)
        pool_trim(l->pool);
    if (!has_spares(l))
        uv_timer_stop(&l->spares_timer);
}

static void end_turn(struct loop *l)
{
    for (int i = 0; i < l->nends; i++)
        l->ends[i].cb(l->ends[i].arg);
    run_jobs(&l->end_jobs);
    struct list *n;
    while ((n = list_first(&l->next_jobs))) {
        list_del(n);
        list_add_tail(&l->ready_jobs, n);
    }
    l->turn++;
    l->now_valid = false;
    if (!uv_is_active((uv_handle_t *)&l->spares_timer) && has_spares(l))
        uv_timer_start(&l->spares_timer, spares_cb, SPARES_MS, SPARES_MS);
}

static void idle_cb(uv_idle_t *h)
{
    (void)h;
}

static void prepare_cb(uv_prepare_t *h)
{
    struct loop *l = h->data;
    end_turn(l);
    if (list_empty(&l->ready_jobs))
        uv_idle_stop(&l->idle);
    else
        uv_idle_start(&l->idle, idle_cb);
}

static void check_cb(uv_check_t *h)
{
    struct loop *l = h->data;
    run_jobs(&l->ready_jobs);
}

static void call_wakes(struct loop *l)
{
    for (int i = 0; i < l->nwakes; i++)
        l->wakes[i].cb(l->wakes[i].arg);
}

static void wake_cb(uv_async_t *h)
{
    call_wakes(h->data);
}

int loop_new(struct loop **ret)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l)
        return CV_ENOMEM;
    l->read_buf = malloc(LOOP_READ_SIZE);
    if (!l->read_buf || spares_new(&l->spares) < 0 || uv_loop_init(&l->uv) < 0) {
        spares_unref(l->spares);
        free(l->read_buf);
        free(l);
        return CV_ENOMEM;
    }
    list_init(&l->end_jobs);
    list_init(&l->next_jobs);
    list_init(&l->ready_jobs);
    if (uv_async_init(&l->uv, &l->wake, wake_cb) < 0) {
        uv_loop_close(&l->uv);
        spares_unref(l->spares);
        free(l->read_buf);
        free(l);
        return CV_ESYS;
    }
    uv_prepare_init(&l->uv, &l->prepare);
    uv_check_init(&l->uv, &l->check);
    uv_idle_init(&l->uv, &l->idle);
    uv_timer_init(&l->uv, &l->spares_timer);
    uv_unref((uv_handle_t *)&l->spares_timer);
    l->wake.data = l->prepare.data = l->check.data = l->idle.data = l->spares_timer.data = l;
    uv_prepare_start(&l->prepare, prepare_cb);
    uv_check_start(&l->check, check_cb);
    uv_unref((uv_handle_t *)&l->prepare);
    uv_unref((uv_handle_t *)&l->check);
    *ret = l;
    return CV_OK;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    uv_close((uv_handle_t *)&l->wake, NULL);
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->check, NULL);
    uv_close((uv_handle_t *)&l->idle, NULL);
    uv_close((uv_handle_t *)&l->spares_timer, NULL);
    do /* again, if the loop was stopped once too often */
        uv_run(&l->uv, UV_RUN_DEFAULT);
    while (uv_loop_alive(&l->uv));
    int r = uv_loop_close(&l->uv);
    assert(r == 0 && "a timer or watch outlived its loop");
    (void)r;
    spares_close(l->spares);
    spares_unref(l->spares);
    pool_free(l->pool);
    free(l->read_buf);
    free(l);
}

int loop_run(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
    end_turn(l); /* what was queued in the turn that stopped the loop still leaves */
    return CV_OK;
}

struct spares *loop_spares(struct loop *l)
{
    return l->spares;
}

struct pool *loop_pool(struct loop *l)
{
    if (!l->pool && pool_new(&l->pool, UINT64_MAX) < 0)
        return NULL;
    return l->pool;
}

uint64_t loop_turn_once(struct loop *l)
{
    call_wakes(l);
    uv_run(&l->uv, UV_RUN_NOWAIT);
    end_turn(l);
    int ms = list_empty(&l->ready_jobs) ? uv_backend_timeout(&l->uv) : 0;
    return ms < 0 ? UINT64_MAX : (uint64_t)ms * NS_PER_MS;
}

int loop_fd(const struct loop *l)
{
    return uv_backend_fd(&l->uv);
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

uv_loop_t *loop_uv(struct loop *l)
{
    return &l->uv;
}

uint64_t loop_now(struct loop *l)
{
    if (!l->now_valid) {
        l->now = clock_mono();
        l->now_valid = true;
    }
    return l->now;
}

void loop_on_wake(struct loop *l, void (*cb)(void *arg), void *arg)
{
    assert(l->nwakes < HOOKS_MAX);
    l->wakes[l->nwakes++] = (struct hook){cb, arg};
}

void loop_wake(struct loop *l)
{
    uv_async_send(&l->wake);
}

int loop_on_turn_end(struct loop *l, void (*cb)(void *arg), void *arg)
{
    if (l->nends == HOOKS_MAX)
        return CV_ELIMIT;
    l->ends[l->nends++] = (struct hook){cb, arg};
    return CV_OK;
}

uint8_t *loop_read_buffer(struct loop *l)
{
    return l->read_buf;
}

uint64_t loop_turn(const struct loop *l)
{
    return l->turn;
}
