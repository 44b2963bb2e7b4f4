/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A region: one buffer of a payload that lies in a memfd, so that it can go to another process of
 * this machine as a descriptor. Shared by reference count; any thread may hold references.
 *
 * Its maker decides what becomes of it when the last reference goes (release): the sender's pool
 * writes it again (net/pool.h), a receiver tells the one it came from (net/memfd.c). Whoever can't
 * tell whether another process still maps it sets `discard`: then it is never written again. */
#ifndef COVEY_WIRE_REGION_H
#define COVEY_WIRE_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define REGION_MIN (256u << 10) /* smaller buffers are not worth a descriptor */

struct region {
    atomic_uint refs;
    atomic_bool discard;
    int fd;                            /* -1: only mapped, can't be sent on as a descriptor */
    uint64_t len;                      /* bytes of the buffer, from offset 0 of the memfd */
    uint8_t *data;                     /* where it is mapped; NULL: not yet, see region_data() */
    void (*release)(struct region *r); /* on the thread that drops the last reference */
};

struct region *region_ref(struct region *r); /* NULL is fine and stays NULL */
void region_unref(struct region *r);         /* NULL is fine */
/* The bytes, mapped to be read if need be: for the hop that must send them where descriptors don't
 * reach, and for who reads them. NULL: out of memory. Any thread. */
const uint8_t *region_data(struct region *r);

#endif
