/* SPDX-License-Identifier: BSD-3-Clause
 *
 * memcpy() for what is large. */
#ifndef COVEY_PYEXT_BIGCOPY_H
#define COVEY_PYEXT_BIGCOPY_H

#include <stddef.h>

/* One core does not use all of a machine's memory bandwidth: from 8 MiB on up to four threads copy
 * a part each, as many as this process has cpus. The areas must not overlap. Returns when all is
 * copied; cannot fail. Without the GIL. */
void big_copy(void *dst, const void *src, size_t n);

#endif
