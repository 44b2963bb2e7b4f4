/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The back end that also writes records to a file. */
#ifndef COVEY_STORE_SQLITE_H
#define COVEY_STORE_SQLITE_H

#include "store/store.h"

int sqlite_store_new(struct store **ret, const struct store_config *c, struct err *e) CV_CHECK;

#endif
