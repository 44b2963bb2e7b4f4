/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The zygote: a warmed-up Python from which engines are forked (docs/internals.md). Started at
 * once, so that it warms up while the host looks for its controller; one that ends is replaced when
 * it is needed next. Requests wait until it is ready. On the loop's thread. Owns the process, the
 * channel and the descriptors of requests that have not been answered. */
#ifndef COVEY_HOST_ZYGOTE_H
#define COVEY_HOST_ZYGOTE_H

#include <sys/types.h>
#include "base/log.h"
#include "net/loop.h"
#include "proc/reap.h"

struct zygote;

enum zygote_fds { ZYGOTE_PAGE, ZYGOTE_OUT_R, ZYGOTE_OUT_W, ZYGOTE_ERR_R, ZYGOTE_ERR_W, ZYGOTE_FDS };

struct zygote_config {
    const char *python, *module;
    struct loop *loop;
    struct reaper *reaper;
    struct log *log;
    /* The answer to a request: the engine's pid, or 0 and why there is none (its stderr's last
     * lines included). Never from inside zygote_fork(). */
    void (*answered)(void *arg, uint32_t slot, pid_t pid, const char *why);
    void *arg;
};

int zygote_new(struct zygote **ret, const struct zygote_config *c) CV_CHECK;
/* Starts the process unless it runs already. */
int zygote_start(struct zygote *z, struct err *e) CV_CHECK;
/* Asks for an engine. request: the packet's JSON text. Takes the descriptors, on failure too. */
int zygote_fork(struct zygote *z, uint32_t slot, const char *request,
                const int fds_take[ZYGOTE_FDS], struct err *e) CV_CHECK;
pid_t zygote_pid(const struct zygote *z); /* 0: none runs */
void zygote_free(struct zygote *z);       /* kills it; NULL is fine */

#endif
