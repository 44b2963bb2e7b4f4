/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a forked child must not keep: descriptors of clients and engines that belong to its parent.
 * Each Client and Engine holds a guard. After fork() the child (where no I/O thread exists) closes
 * the descriptors that the guards name and marks them; from then on their owners' methods only
 * raise ForkedError and their deallocation leaks on purpose. The list of guards is the one thing in
 * pyext that is global to the process: pthread_atfork() has no argument. */
#ifndef COVEY_PYEXT_FORK_H
#define COVEY_PYEXT_FORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include "base/error.h"
#include "base/list.h"

#define FORK_FDS_MAX 12

struct fork_guard {
    struct list node;
    atomic_bool forked; /* this is a child; the object is dead here */
    int fds[FORK_FDS_MAX];
};

/* Counts before and after each fork of this process: odd while one is under way. */
const atomic_uint *fork_count(void);
int fork_guard_add(struct fork_guard *g, struct err *e) CV_CHECK;
void fork_guard_del(struct fork_guard *g);
/* Names a descriptor that a child must close. A full table is ignored: all ours are CLOEXEC anyway.
 */
void fork_guard_hold(struct fork_guard *g, int fd);
/* Forgets fd. Between begin and end no fork() can happen, so that the caller closes fd in time. */
void fork_guard_drop_begin(struct fork_guard *g, int fd);
void fork_guard_drop_end(void);

#endif
