/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A copy by several threads, which live for this copy alone and have all signals blocked; a part
 * for which no thread can be had is copied by the caller. What no cache would hold until somebody
 * reads it is stored around the caches, in the order of its addresses: memcpy() does so with
 * several pages at a time, which took half as long again. Any thread; owns nothing. */
#include "pyext/bigcopy.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define STREAM_MIN ((size_t)32 << 20) /* larger than most caches */
#define LINE ((size_t)64)
#define AHEAD 512 /* bytes read before they are needed */
#define SHARE_MIN ((size_t)4 << 20)
#define SHARES_MAX 4
#define PAGE ((size_t)4096)

struct share {
    pthread_t thread;
    bool started, streams;
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

#ifdef __SSE2__
static void stream(char *dst, const char *src, size_t n)
{
    size_t head = -(uintptr_t)dst % LINE, i = head < n ? head : n;
    memcpy(dst, src, i);
    for (; i + LINE <= n; i += LINE) {
        const __m128i *from = (const __m128i *)(src + i);
        __m128i *to = (__m128i *)(dst + i);
        _mm_prefetch(src + i + AHEAD, _MM_HINT_NTA); /* beyond the end it does nothing */
        __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1);
        __m128i c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
        _mm_stream_si128(to, a);
        _mm_stream_si128(to + 1, b);
        _mm_stream_si128(to + 2, c);
        _mm_stream_si128(to + 3, d);
    }
    _mm_sfence(); /* the stores are seen before what tells of them */
    memcpy(dst + i, src + i, n - i);
}
#else
static void stream(char *dst, const char *src, size_t n)
{
    memcpy(dst, src, n);
}
#endif

static void *copy_share(void *arg)
{
    const struct share *s = arg;
    if (s->streams)
        stream(s->dst, s->src, s->n);
    else
        memcpy(s->dst, s->src, s->n);
    return NULL;
}

void big_copy(void *dst, const void *src, size_t n)
{
    size_t k = shares_for(n);
    if (k < 2 && n < STREAM_MIN) {
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
        *s = (struct share){.streams = n >= STREAM_MIN,
                            .dst = (char *)dst + at,
                            .src = (const char *)src + at,
                            .n = i + 1 < k ? each : n - at};
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
