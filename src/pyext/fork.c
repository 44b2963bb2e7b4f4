/* SPDX-License-Identifier: BSD-3-Clause
 *
 * pthread_atfork() handlers over the list of guards. prepare takes the list's lock, so that no
 * guard is half changed in the child; the child closes, marks and starts with an empty list. */
#include "pyext/fork.h"

#include <pthread.h>
#include <unistd.h>

static struct {
    pthread_mutex_t mu;
    pthread_once_t once;
    int once_failed;
    struct list guards;
    atomic_uint forks;
} registry = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_ONCE_INIT, 0, {&registry.guards, &registry.guards}, 0};

const atomic_uint *fork_count(void)
{
    return &registry.forks;
}

static void before_fork(void)
{
    pthread_mutex_lock(&registry.mu);
    atomic_fetch_add(&registry.forks, 1);
}

static void after_fork_parent(void)
{
    atomic_fetch_add(&registry.forks, 1);
    pthread_mutex_unlock(&registry.mu);
}

static void after_fork_child(void)
{
    list_each_safe(n, tmp, &registry.guards)
    {
        struct fork_guard *g = list_entry(n, struct fork_guard, node);
        for (int i = 0; i < FORK_FDS_MAX; i++) {
            if (g->fds[i] >= 0)
                close(g->fds[i]);
            g->fds[i] = -1;
        }
        atomic_store(&g->forked, true);
        list_del(n);
    }
    atomic_fetch_add(&registry.forks, 1);
    pthread_mutex_init(&registry.mu, NULL);
}

static void register_handlers(void)
{
    registry.once_failed = pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

int fork_guard_add(struct fork_guard *g, struct err *e)
{
    pthread_once(&registry.once, register_handlers);
    if (registry.once_failed)
        return err_set(e, CV_ENOMEM, "out of memory");
    atomic_init(&g->forked, false);
    for (int i = 0; i < FORK_FDS_MAX; i++)
        g->fds[i] = -1;
    pthread_mutex_lock(&registry.mu);
    list_add_tail(&registry.guards, &g->node);
    pthread_mutex_unlock(&registry.mu);
    return CV_OK;
}

void fork_guard_del(struct fork_guard *g)
{
    pthread_mutex_lock(&registry.mu);
    list_del(&g->node);
    pthread_mutex_unlock(&registry.mu);
}

static void replace(struct fork_guard *g, int old, int new)
{
    for (int i = 0; i < FORK_FDS_MAX; i++) {
        if (g->fds[i] == old) {
            g->fds[i] = new;
            return;
        }
    }
}

void fork_guard_hold(struct fork_guard *g, int fd)
{
    pthread_mutex_lock(&registry.mu);
    replace(g, -1, fd);
    pthread_mutex_unlock(&registry.mu);
}

void fork_guard_drop_begin(struct fork_guard *g, int fd)
{
    pthread_mutex_lock(&registry.mu);
    if (fd >= 0)
        replace(g, fd, -1);
}

void fork_guard_drop_end(void)
{
    pthread_mutex_unlock(&registry.mu);
}
