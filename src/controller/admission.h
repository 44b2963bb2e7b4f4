/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who may wait at the door: the policy for connections that have not said HELLO yet. There are
 * ADMISSION_PLACES places; when all are taken, the oldest that has been silent for 200 ms makes
 * room, and if there is none the newcomer is turned away. No I/O, no clock; owns nothing. */
#ifndef COVEY_CONTROLLER_ADMISSION_H
#define COVEY_CONTROLLER_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>
#include "base/list.h"

#define ADMISSION_PLACES 256
#define ADMISSION_TIMEOUT_NS (5000ull * 1000000)
#define ADMISSION_SILENT_NS (200ull * 1000000)

struct place {
    struct list node;
    uint64_t since; /* when it came */
    uint64_t heard; /* when its last byte came; since if none did */
};

struct admission {
    struct list places; /* the oldest first */
    uint32_t n;
};

void admission_init(struct admission *a);
/* May another one come? ret_victim is who must leave first, or NULL. False: it is turned away. */
bool admission_ask(const struct admission *a, uint64_t now, struct place **ret_victim);
void admission_enter(struct admission *a, struct place *p, uint64_t now);
void admission_leave(struct admission *a, struct place *p);
/* One whose time is over, or NULL; else ret_next is when to ask again (UINT64_MAX: no need). */
struct place *admission_expired(const struct admission *a, uint64_t now, uint64_t *ret_next);

#endif
