/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Purges of records that a client asks for: of ids, of engines, or of all that have ended. The
 * store may take many turns of the loop, and the file's thread; `struct purge` is of one purge, and
 * is freed with its answer, which goes to the client that then is connected. On the loop's thread.
 */
#include <stdlib.h>
#include "controller/query.h"
#include "controller/say.h"
#include "wire/header.h"

struct purge {
    struct store_purge p;
    struct controller *c;
    uint64_t session;
    struct header h;
    uint32_t *engines;
    struct store_id *ids;
};

static void purge_free(struct purge *x)
{
    free(x->engines);
    free(x->ids);
    free(x);
}

static void purge_done(struct store_purge *p, bool walk_failed)
{
    struct purge *x = container_of(p, struct purge, p);
    struct link *l = query_link(x->c, x->session);

    if (l && walk_failed)
        say_error(l, &x->h, "NoData",
                  "the records in the file could not be purged; those in memory are");
    else if (l)
        say_reply(l, &x->h, json_pack("{s:I}", "purged", (json_int_t)p->purged), NULL);
    purge_free(x);
}

/* The ids of a purge must not be of tasks under way; what is gone already needs no purge. False:
 * told that one is not an id, or not ended. */
static bool purge_ids(struct purge *x, const struct origin *o, const json_t *ids)
{
    struct store *s = x->c->store;
    json_t *id;
    size_t i;

    json_array_foreach((json_t *)ids, i, id)
    {
        const struct store_record *r;
        const char *text = json_is_string(id) ? json_string_value(id) : "";
        struct store_id v = {0};
        bool is_id = msg_id_parse(text, &v.session, &v.seq) == CV_OK;
        enum store_find f = is_id ? s->ops->find(s, v.session, v.seq, &r, NULL) : STORE_UNKNOWN;
        if (f == STORE_FOUND && r->state == STORE_PENDING) {
            say_error(o->conn->link, &x->h, "IndexError", "task %s has not ended", text);
            return false;
        }
        if (!is_id) {
            say_error(o->conn->link, &x->h, "KeyError", "%.60s is no task's id", text);
            return false;
        }
        x->ids[x->p.nonly++] = v;
    }
    return true;
}

/* False: told that one is no engine's number. */
static bool purge_engines(struct purge *x, const struct origin *o, const json_t *engines)
{
    json_t *number;
    size_t i;

    json_array_foreach((json_t *)engines, i, number)
    {
        json_int_t n = json_is_integer(number) ? json_integer_value(number) : -1;
        if (n < 0 || n >= WIRE_ENGINE_NONE) {
            say_error(o->conn->link, &x->h, "EngineError", "engines are named by their numbers");
            return false;
        }
        x->engines[x->p.nengines++] = (uint32_t)n;
    }
    return true;
}

void dbpurge_handle(struct controller *c, const struct origin *o, const struct header *h,
                    const json_t *args)
{
    const json_t *ids = json_object_get(args, "ids"), *engines = json_object_get(args, "engines");
    struct purge *x = calloc(1, sizeof(*x));

    if (x) {
        x->ids = calloc(json_array_size(ids) + 1, sizeof(*x->ids));
        x->engines = calloc(json_array_size(engines) + 1, sizeof(*x->engines));
    }
    if (!x || !x->ids || !x->engines) {
        say_error(o->conn->link, h, "KernelError", "the controller is out of memory");
        goto fail;
    }
    x->c = c;
    x->h = *h;
    x->session = o->client->session;
    x->p.all = json_is_string(ids); /* "all" */
    x->p.done = purge_done;
    if (!purge_engines(x, o, engines) || !purge_ids(x, o, ids))
        goto fail;
    x->p.engines = x->engines;
    x->p.only = x->p.nonly && !x->p.all ? x->ids : NULL;
    c->store->ops->purge(c->store, &x->p);
    return;
fail:
    if (x)
        purge_free(x);
}
