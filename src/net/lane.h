/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A lane: work whose weight other work of the same loop must not feel (what strangers cause at a
 * controller's door: accepting, TLS handshakes, garbage). Its jobs run in the order they came, one
 * at least and as many as LANE_SLICE allows in a turn. While the loop has other work (lane_busy())
 * they get a quarter of the time, else all that is left; when they are up to no good
 * (lane_distrust()) a 16th and a half. Lives on the loop's thread. */
#ifndef COVEY_NET_LANE_H
#define COVEY_NET_LANE_H

#include "net/loop_priv.h"

#define LANE_SLICE (20 * 1000ull) /* ns in a turn, the last job not counted */

struct lane;

int lane_new(struct lane **ret, struct loop *l) CV_CHECK;
void lane_free(struct lane *a);                    /* NULL is fine; jobs in it are forgotten */
void lane_add(struct lane *a, struct loop_job *j); /* does nothing when j is queued already */
/* There is other work in this turn. */
void lane_busy(struct lane *a);
/* From now on, for a second, what is in the lane is worth little. */
void lane_distrust(struct lane *a);

#endif
