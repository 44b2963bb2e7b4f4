/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See sweep.h. Killing a child may hand its children to us, hence the rounds. */
#include "host/sweep.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/hash.h"
#include "proc/procinfo.h"

#define SWEEP_TIMEOUT_NS (2 * NS_PER_S)

struct sweep {
    struct hash sessions;
};

struct round {
    const struct sweep *s;
    bool found;
};

int sweep_new(struct sweep **ret)
{
    *ret = calloc(1, sizeof **ret);
    return *ret ? CV_OK : CV_ENOMEM;
}

void sweep_free(struct sweep *s)
{
    if (!s)
        return;
    hash_release(&s->sessions);
    free(s);
}

void sweep_add(struct sweep *s, pid_t leader)
{
    int rc = hash_put(&s->sessions, 0, (uint64_t)leader, s, NULL);
    (void)rc;
}

static void on_child(void *arg, const struct procinfo *p)
{
    struct round *r = arg;
    if (p->state == 'Z' || !hash_get(&r->s->sessions, 0, (uint64_t)p->sid))
        return;
    r->found = true;
    kill(p->pid, SIGKILL);
}

void sweep_run(struct sweep *s)
{
    uint64_t end = clock_mono() + SWEEP_TIMEOUT_NS;
    struct round r = {s, true};
    while (r.found && clock_mono() < end) {
        r.found = false;
        if (process_children(getpid(), on_child, &r, NULL) != CV_OK)
            return;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (r.found)
            poll(NULL, 0, 2); /* the kernel hands over the children of what was killed */
    }
}
