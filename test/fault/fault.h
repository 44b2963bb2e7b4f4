/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Failing on demand: the nth allocation or system call of covey's own code fails. The tests of
 * this folder are linked so that each call of the functions in meson.build's list comes here first
 * (--wrap); JSON's memory does, too. What libuv, OpenSSL and msgpack-c take for themselves does
 * not. Single-threaded. */
#ifndef COVEY_FAULT_H
#define COVEY_FAULT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum fault_kind {
    FAULT_MEMORY = 1, /* malloc and its kin: NULL, ENOMEM */
    FAULT_OPEN = 2,   /* what makes descriptors: EMFILE */
    FAULT_WRITE = 4,  /* write, fsync, ftruncate, rename …: ENOSPC */
    FAULT_STREAM = 8, /* sendmsg, send, recv, read: ECONNRESET */
    FAULT_SPAWN = 16, /* fork, posix_spawnp: EAGAIN */
    FAULT_CONNECT = 32,
};

/* From now on the nth call of these kinds (from 1) fails, or with `from_then_on` it and all after
 * it. */
void fault_arm(unsigned kinds, uint64_t n, bool from_then_on);
/* Nothing fails any more; how many calls did. */
uint64_t fault_disarm(void);

/* Runs the scenario with each single call of these kinds failing in turn, and with all from each
 * on failing, until it ends without a failure. It must leave no descriptor behind. The scenario
 * itself says by asserts what may become of it; failed: may something have failed (else not)?
 * Returns the number of places. */
unsigned fault_each(unsigned kinds, void (*scenario)(void *arg), void *arg);
/* What a scenario does for the world around what is tested: nothing fails in it. */
void fault_pause(void);
void fault_go_on(void);
uint64_t fault_place(void); /* which call fails, for messages */
bool fault_hit(void);       /* in a scenario: something has failed by now */

#endif
