/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Picks the back end by name. */
#include "store/store.h"

#include <string.h>
#include "store/memory.h"
#include "store/sqlite.h"

int store_new(struct store **ret, const struct store_config *c, struct err *e)
{
    static const struct {
        const char *name;
        int (*make)(struct store **ret, const struct store_config *c, struct err *e);
    } backends[] = {
        {"memory", memory_store_new}, {"none", none_store_new}, {"sqlite", sqlite_store_new}};

    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
        if (!strcmp(backends[i].name, c->backend))
            return backends[i].make(ret, c, e);
    return err_set(e, CV_EINVAL, "there is no record store named '%s' (memory, sqlite, none)",
                   c->backend);
}

void store_free(struct store *s)
{
    if (s)
        s->ops->free(s);
}
