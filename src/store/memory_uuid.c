/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The uuids of the engines that records in memory name (memory.h): one copy for all records of an
 * engine's incarnation, which goes with the last of them. Failure: out of memory leaves records
 * without one. On the loop's thread. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "store/memory.h"

struct uuid {
    uint64_t refs;
    uint32_t engine, incarnation;
    char text[];
};

static struct uuid *uuid_of(const char *text)
{
    return (struct uuid *)(text - offsetof(struct uuid, text));
}

const char *memory_uuid_ref(const char *text)
{
    if (text)
        uuid_of(text)->refs++;
    return text;
}

const char *memory_uuid_keep(struct memory *m, const struct store_result *res)
{
    struct uuid *u = hash_get(&m->uuids, res->engine, res->incarnation);
    size_t n;

    if (!res->engine_uuid || (u && !strcmp(u->text, res->engine_uuid)))
        return memory_uuid_ref(res->engine_uuid ? u->text : NULL);
    n = strlen(res->engine_uuid) + 1;
    u = malloc(sizeof(*u) + n);
    if (!u)
        return NULL;
    *u = (struct uuid){.refs = 1, .engine = res->engine, .incarnation = res->incarnation};
    memcpy(u->text, res->engine_uuid, n);
    if (hash_put(&m->uuids, u->engine, u->incarnation, u, NULL) != CV_OK) {
        free(u);
        return NULL;
    }
    return u->text;
}

void memory_uuid_unref(struct memory *m, const char *text)
{
    struct uuid *u = text ? uuid_of(text) : NULL;

    if (!u || --u->refs)
        return;
    if (hash_get(&m->uuids, u->engine, u->incarnation) == u) /* else another one has its place */
        hash_del(&m->uuids, u->engine, u->incarnation);
    free(u);
}
