/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A copy by several threads, which live for this copy alone and have all signals blocked; a part
 * for which no thread can be had is copied by the caller. Any thread; owns nothing. */
#include "pyext/bigcopy.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#define SHARE_MIN ((size_t)4 << 20)
#define SHARES_MAX 4
#define PAGE ((size_t)4096)

struct share {
    pthread_t thread;
    bool started;
    char *dst;
    const char *src;
    size_t n;
};

static size_t shares_for(size_t n)
{
    size_t most = n / SHARE_MIN;
    if (most < 2)
        return 1;
    cpu_set_t set;
    size_t cpus = sched_getaffinity(0, sizeof set, &set) ? SHARES_MAX : (size_t)CPU_COUNT(&set);
    if (most > cpus)
        most = cpus;
    return most < SHARES_MAX ? most : SHARES_MAX;
}

static void *copy_share(void *arg)
{
    const struct share *s = arg;
    memcpy(s->dst, s->src, s->n);
    return NULL;
}

void big_copy(void *dst, const void *src, size_t n)
{
    size_t k = shares_for(n);
    if (k < 2) {
        memcpy(dst, src, n);
        return;
    }
    struct share shares[SHARES_MAX];
    size_t each = n / k / PAGE * PAGE, at = 0;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (size_t i = 0; i < k; i++) {
        struct share *s = &shares[i];
        *s = (struct share){
            .dst = (char *)dst + at, .src = (const char *)src + at, .n = i + 1 < k ? each : n - at};
        at += s->n;
        s->started = i > 0 && pthread_create(&s->thread, NULL, copy_share, s) == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    for (size_t i = 0; i < k; i++) {
        if (!shares[i].started)
            copy_share(&shares[i]);
    }
    for (size_t i = 0; i < k; i++) {
        if (shares[i].started)
            pthread_join(shares[i].thread, NULL);
    }
}
