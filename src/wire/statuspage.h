/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The status page: one memfd per engine, made by its host before the fork and mapped by both. The
 * engine's main thread stores what it runs before user code starts and clears it after; its I/O
 * thread copies stderr into the ring. After a death the host reads it: whoever runs last is who
 * fails. Plain shared memory, read torn-free because the dead don't write. */
#ifndef COVEY_WIRE_STATUSPAGE_H
#define COVEY_WIRE_STATUSPAGE_H

#include <stdatomic.h>
#include <stdint.h>

#define STATUSPAGE_MAGIC 0x45474150u
#define STATUSPAGE_RING (32u << 10)

struct statuspage {
    uint32_t magic;
    _Atomic uint32_t number; /* after WELCOME; WIRE_ENGINE_NONE before */
    _Atomic uint32_t incarnation;
    _Atomic uint32_t state;        /* 0 starting, 1 idle, 2 running, 3 leaving */
    _Atomic uint64_t session, seq; /* the item that runs; valid while state == 2 */
    _Atomic uint32_t attempt;
    _Atomic uint32_t tasks_done;
    _Atomic uint64_t started;  /* ns since 1970 */
    _Atomic uint64_t ring_pos; /* bytes ever written to the ring */
    uint8_t ring[STATUSPAGE_RING];
};

/* Appends to the ring (one writer). */
void statuspage_ring_add(struct statuspage *p, const void *data, uint64_t n);
/* Copies the last bytes of the ring, at most n, to out; returns how many. */
uint32_t statuspage_ring_tail(const struct statuspage *p, void *out, uint32_t n);

#endif
