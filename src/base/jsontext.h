/* SPDX-License-Identifier: BSD-3-Clause
 *
 * JSON as text. json_dumps() of jansson leaves out names of members when memory is short, and says
 * nothing: what it gives then can't be read. */
#ifndef COVEY_BASE_JSONTEXT_H
#define COVEY_BASE_JSONTEXT_H

#include <jansson.h>
#include <stddef.h>
#include "base/buf.h"

/* As json_dumps(): malloc'ed, with a NUL. NULL: out of memory, or no value (j may be NULL). */
char *jsontext(const json_t *j, size_t flags);
/* Appends n bytes as a JSON string; what is no UTF-8 in them becomes U+FFFD. */
int jsontext_add(struct buf *b, const char *text, size_t n) CV_CHECK;

#endif
