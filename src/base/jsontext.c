/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See jsontext.h. Any thread. A failure is remembered here, whatever jansson makes of it. */
#include "base/jsontext.h"

#include <stdbool.h>
#include "base/buf.h"

struct text {
    struct buf b;
    bool oom;
};

static int add(const char *part, size_t n, void *arg)
{
    struct text *t = arg;
    t->oom |= buf_add(&t->b, part, n) != CV_OK;
    return t->oom ? -1 : 0;
}

char *jsontext(const json_t *j, size_t flags)
{
    struct text t = {.oom = false};
    if (json_dump_callback(j, add, &t, flags) == 0 && !t.oom && buf_cstr(&t.b))
        return (char *)t.b.data;
    buf_release(&t.b);
    return NULL;
}
