/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Picks the back end by name. */
#include "store/store.h"

#include <string.h>
#include "store/memory.h"

int store_new(struct store **ret, const char *backend, const struct store_limits *l,
              const struct store_payload_ops *p, struct err *e)
{
    static const struct {
        const char *name;
        int (*make)(struct store **ret, const struct store_limits *l,
                    const struct store_payload_ops *p);
    } backends[] = {{"memory", memory_store_new}, {"none", none_store_new}};

    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
        if (!strcmp(backends[i].name, backend)) {
            int r = backends[i].make(ret, l, p);
            return r == CV_OK ? r : err_set(e, r, "out of memory for the task records");
        }
    return err_set(e, CV_EINVAL, "there is no record store named '%s' (memory, none)", backend);
}

void store_free(struct store *s)
{
    if (s)
        s->ops->free(s);
}
