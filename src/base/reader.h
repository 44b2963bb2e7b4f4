/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Values out of a config: a program's settings may stand in several classes (its own, and those
 * that all programs share), and the first failure is kept, so that reading goes on to the end and
 * is checked once. */
#ifndef COVEY_BASE_READER_H
#define COVEY_BASE_READER_H

#include <stdbool.h>
#include "base/config.h"

struct reader {
    const struct config *config;
    const char *const *classes; /* the strongest first; ends with NULL */
    struct err *e;
    int code; /* the first failure */
};

/* The class in which the setting stands (None is unset), or NULL. */
const char *reader_class(const struct reader *r, const char *name);
/* Borrowed from the config; "" counts as unset. */
const char *reader_str(struct reader *r, const char *name, const char *fallback);
bool reader_bool(struct reader *r, const char *name, bool fallback);
long reader_int(struct reader *r, const char *name, long fallback, long min, long max);
double reader_seconds(struct reader *r, const char *name, double fallback);
int reader_log_level(struct reader *r); /* a number or DEBUG, INFO ...; INFO by default */

#endif
