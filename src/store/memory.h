/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The back ends that keep records in memory. */
#ifndef COVEY_STORE_MEMORY_H
#define COVEY_STORE_MEMORY_H

#include "store/store.h"

int memory_store_new(struct store **ret, const struct store_limits *l,
                     const struct store_payload_ops *p) CV_CHECK;
int none_store_new(struct store **ret, const struct store_limits *l,
                   const struct store_payload_ops *p) CV_CHECK;

#endif
