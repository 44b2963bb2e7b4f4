/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The buffers of a call or a result as one blob of the file: the pickle of a list of bytes, so that
 * any Python reads it (`pickle.loads(row["result_buffers"])`). Only what pickled_add() writes is
 * read. */
#ifndef COVEY_STORE_PICKLED_H
#define COVEY_STORE_PICKLED_H

#include "store/store.h"

/* Appends the payload to out. CV_ENOMEM. */
int pickled_add(struct buf *out, const struct store_payload_ops *ops, const void *payload) CV_CHECK;
/* How many bytes pickled_add() makes of it. */
uint64_t pickled_size(const struct store_payload_ops *ops, const void *payload);
/* A payload of the bytes; NULL when they are not such a pickle or memory is out. */
void *pickled_read(const void *data, uint64_t n, const struct store_payload_ops *ops);

#endif
