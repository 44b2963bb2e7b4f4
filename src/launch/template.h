/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Templates of batch scripts: {name} is replaced, {{ and }} are braces, and {name//4} (also + - *)
 * calculates with a number. Pure. */
#ifndef COVEY_LAUNCH_TEMPLATE_H
#define COVEY_LAUNCH_TEMPLATE_H

#include <jansson.h>
#include "base/error.h"

/* names: {NAME: text or number}. malloc'ed text. CV_EINVAL names what it can't fill in, and what
 * there is. */
int template_fill(const char *text, const json_t *names, char **ret, struct err *e) CV_CHECK;

#endif
