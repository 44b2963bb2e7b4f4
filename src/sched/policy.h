/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How the engine of a balanced task is chosen among those with room. */
#ifndef COVEY_SCHED_POLICY_H
#define COVEY_SCHED_POLICY_H

#include "sched/state.h"

struct policy_ops {
    const char *name;
    /* Called when an engine gets room, loses it, or its load changes. May not fail: memory was
     * reserved by join. */
    void (*add)(struct sched *s, struct engine *e);
    void (*del)(struct sched *s, struct engine *e);
    /* An engine of the index, which set (NULL: any) has; NULL: none. May be called again after
     * del(). */
    struct engine *(*pick)(struct sched *s, const struct task_set *set);
    /* Of two engines with room, is a the better one? For tasks that name few engines. */
    bool (*prefer)(struct sched *s, const struct engine *a, const struct engine *b);
};

const struct policy_ops *policy_find(const char *name); /* NULL: no such policy */
int policy_join(struct sched *s) CV_CHECK;              /* room in the index for one engine more */
/* An engine with room for a task of that set, or NULL. */
struct engine *policy_pick(struct sched *s, const struct task_set *set);

#endif
