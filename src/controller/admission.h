/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who may wait at the door: the policy for connections that have not said HELLO yet. There are
 * ADMISSION_PLACES places. When all are taken, who has waited for longer than the door's patience
 * makes room, the oldest first; if nobody has, newcomers wait outside (in the kernel's queue).
 *
 * A stranger's bytes do not buy time, only proof does: who has shown that it holds a key gives up
 * its place and has the rest of the 5 s. Patience is 200 ms, enough for a busy peer; each time that
 * somebody is made to leave it shrinks, down to 10 ms, and who does come in restores it: so a flood
 * of idle strangers drains faster than they can come, and a start of many honest peers at the same
 * time, who all speak in the end, makes nobody leave. Many who end without a HELLO, compared with
 * those who come in, are a flood (admission_failed()). All is O(1). No I/O, no clock; owns nothing.
 */
#ifndef COVEY_CONTROLLER_ADMISSION_H
#define COVEY_CONTROLLER_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>
#include "base/list.h"

#define ADMISSION_PLACES 256
#define ADMISSION_TIMEOUT_NS (5000ull * 1000000)
#define ADMISSION_PATIENCE_NS (200ull * 1000000)
#define ADMISSION_PATIENCE_MIN_NS (10ull * 1000000)
#define ADMISSION_FLOOD 32 /* ends without HELLO lately; each who comes in makes up for four */

struct place {
    struct list node; /* admission.places or .proven */
    uint64_t since;   /* when it came */
    bool proven;
};

struct admission {
    struct list places, proven; /* the oldest first */
    uint32_t n;                 /* places taken */
    uint64_t patience;
    uint32_t failed;       /* lately: halved each second */
    uint64_t failed_since; /* when it was halved last */
};

void admission_init(struct admission *a);
/* May another one come? True: yes, once ret_victim (or NULL) has left. False: it waits outside,
 * until somebody leaves or ret_when has come. */
bool admission_ask(const struct admission *a, uint64_t now, struct place **ret_victim,
                   uint64_t *ret_when);
void admission_enter(struct admission *a, struct place *p, uint64_t now);
/* It has shown that it holds a key. */
void admission_prove(struct admission *a, struct place *p);
/* Made to leave for another one: the door's patience shrinks. admission_leave() follows. */
void admission_lose(struct admission *a);
/* It has said HELLO and comes in: patience grows. admission_leave() follows. */
void admission_welcome(struct admission *a);
/* One has ended without HELLO. True: it is a flood. */
bool admission_failed(struct admission *a, uint64_t now);
void admission_leave(struct admission *a, struct place *p);
/* One whose time is over, or NULL; else ret_next is when to ask again (UINT64_MAX: no need). */
struct place *admission_expired(const struct admission *a, uint64_t now, uint64_t *ret_next);

#endif
