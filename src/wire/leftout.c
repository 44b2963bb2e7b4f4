/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See leftout.h. */
#include "wire/leftout.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool left_out_may(uint8_t type)
{
    return type == MSG_TASK || type == MSG_RESULT || type == MSG_REPLY || type == MSG_BLOB;
}

void left_out_mark(struct msg *m)
{
    payload_unref(m->payload);
    m->payload = NULL;
    m->h.nbufs = 0;
    m->h.flags |= MSG_F_LEFT_OUT;
}

int left_out_words(struct payload **ret, const struct header *h, const char *where)
{
    char text[400], size[40] = "";

    if (h->body_len)
        snprintf(size, sizeof size, " of %" PRIu64 " bytes", h->body_len);
    int n = snprintf(text, sizeof text,
                     "{\"ename\": \"MemoryError\", \"evalue\": \"%s has no memory for data%s that "
                     "this %s; what limits it is `ulimit -v` or its batch job\", \"engine\": null, "
                     "\"cause\": null}",
                     where, size,
                     h->type == MSG_TASK     ? "task was sent with"
                     : h->type == MSG_RESULT ? "task gave"
                                             : "question is answered with");
    return payload_new_copy(ret, text, (size_t)n);
}

int left_out_end(struct msg *m, const char *where)
{
    struct payload *p;
    int r = left_out_words(&p, &m->h, where);

    if (r != CV_OK)
        return r;
    payload_unref(m->payload);
    m->payload = p;
    m->h.nbufs = p->nbufs;
    m->h.body_len = p->total;
    m->h.status = RESULT_REFUSED;
    m->h.flags &= (uint16_t)~MSG_F_LEFT_OUT;
    return CV_OK;
}
