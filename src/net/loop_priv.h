/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What links need of the loop beyond loop.h: jobs (work put off to the end of this turn or to the
 * next one), the read buffer that all links of a loop share, and the number of the turn. A turn
 * begins when poll returns and ends just before the next poll. */
#ifndef COVEY_NET_LOOP_PRIV_H
#define COVEY_NET_LOOP_PRIV_H

#include "base/list.h"
#include "net/loop.h"
#include "net/pool.h"
#include "wire/spares.h"

#define LOOP_READ_SIZE (256u << 10)

struct loop_job {
    struct list node; /* in one of the loop's lists, or alone */
    void (*run)(struct loop_job *j);
};

void loop_job_init(struct loop_job *j, void (*run)(struct loop_job *j));
/* Runs j once, after the hooks of this turn's end. Does nothing when j is queued already. */
void loop_job_at_turn_end(struct loop *l, struct loop_job *j);
/* Runs j once in the next turn, which then does not wait in poll. Likewise. */
void loop_job_next_turn(struct loop *l, struct loop_job *j);
void loop_job_cancel(struct loop_job *j);

/* LOOP_READ_SIZE bytes; what is in it lasts until the caller returns to the loop. */
uint8_t *loop_read_buffer(struct loop *l);
uint64_t loop_turn(const struct loop *l);
/* Memory of large messages that have been let go; kept for a second. */
struct spares *loop_spares(struct loop *l);
/* Where links of this loop receive what is to go on as descriptors; kept as pools keep it.
 * NULL: out of memory. */
struct pool *loop_pool(struct loop *l);

#endif
