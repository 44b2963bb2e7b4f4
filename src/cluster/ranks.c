/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See ranks.h. Found by their names in /proc, at most two generations down: below mpiexec (Open
 * MPI) or below its proxy (MPICH). No state; on the supervisor's thread. A rank that ends meanwhile
 * is no failure. */
#include "cluster/ranks.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "proc/procinfo.h"

#define GENERATIONS 2

struct search {
    const char *program;
    pid_t *found;
    uint32_t n, most;
    int depth;
};

static void look(void *arg, const struct procinfo *p)
{
    struct search *s = arg;
    if (!strcmp(p->name, s->program)) {
        if (s->n < s->most)
            s->found[s->n] = p->pid;
        s->n++;
    } else if (s->depth + 1 < GENERATIONS) {
        s->depth++;
        int ignored = process_children(p->pid, look, s, NULL); /* what can't be read is not found */
        (void)ignored;
        s->depth--;
    }
}

bool ranks_end(pid_t under, const char *program, uint32_t n)
{
    struct search s = {.program = program, .most = n, .found = calloc(n, sizeof(pid_t))};
    bool all = s.found && !process_children(under, look, &s, NULL) && s.n == n;
    for (uint32_t i = 0; all && i < n; i++)
        kill(s.found[i], SIGTERM);
    free(s.found);
    return all;
}
