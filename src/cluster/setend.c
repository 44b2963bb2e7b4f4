/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tells a local controller that a set of engines has ended for good, so that it does not wait for
 * those whose links are lost (super_priv.h). Only what is certain is told: a batch system's word,
 * or that the program that holds all ranks has ended by itself. (One that was killed may have left
 * them.) On the main thread; out of memory costs the word, and the grace time ends the waiting. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "cluster/super_priv.h"

#define QUOTED 300 /* bytes of a line */

/* Every start has a name of its own, also the next one of the same set. */
int setend_name_start(struct engine_set *s, struct err *e)
{
    uint64_t r;
    int rc = random_bytes(&r, sizeof r, e);
    snprintf(s->start, sizeof s->start, "%" PRIu64, rc ? 0 : r);
    return rc;
}

static void tell(struct engine_set *s, const char *why)
{
    struct supervisor *v = s->owner;
    if (v->controller && why)
        child_say(v->controller, json_pack("{s:s, s:s}", "set_ended", s->start, "why", why));
}

/* What starts the ranks, if it is known to end only after them; else NULL. A command of the
 * user's, or ssh, says nothing of ranks elsewhere by its end. */
static const char *rank_holder(const struct supervisor *v)
{
    static const char *const HOLDERS[] = {"srun", "mpiexec", "mpirun"};
    const json_t *own = launch_trait(v->s->engines, LAUNCH_ENGINES, v->s->config, "mpi_cmd");
    const char *path = json_is_array(own) ? json_string_value(json_array_get(own, 0))
                       : own              ? json_string_value(own)
                                          : "mpiexec";
    const char *slash = path ? strrchr(path, '/') : NULL, *name = slash ? slash + 1 : path;
    for (size_t i = 0; name && i < sizeof HOLDERS / sizeof HOLDERS[0]; i++) {
        size_t n = strlen(HOLDERS[i]);
        if (!strncmp(name, HOLDERS[i], n) && (!name[n] || name[n] == '.'))
            return name;
    }
    return NULL;
}

/* The line that says most, else the last one; *ret_n: its length. */
static const char *telling_line(const char *said, size_t *ret_n)
{
    const char *at = strcasestr(said, "MPI_Abort"), *end = said + strlen(said);
    while (end > said && strchr("\r\n ", end[-1]))
        end--;
    at = at ? at : strstr(said, "Exited with"); /* srun's of the first rank that failed */
    at = at ? at : end;
    while (at > said && at[-1] != '\n')
        at--;
    size_t n = strcspn(at, "\r\n");
    *ret_n = n < QUOTED ? n : QUOTED;
    while (n > QUOTED && *ret_n && (at[*ret_n] & 0xC0) == 0x80) /* no half character */
        --*ret_n;
    return at;
}

void setend_reaped(struct engine_set *s, const struct reaped *r, const char *said)
{
    const struct supervisor *v = s->owner;
    const char *holder = v->s->engines->flags & LAUNCH_RANKS ? rank_holder(v) : NULL;
    size_t n = 0;
    if (!holder || !r->known || r->signal)
        return;
    const char *line = telling_line(said ? said : "", &n);
    json_t *sound = json_stringn(line, n); /* NULL: it is no UTF-8 */
    n = sound ? n : 0;
    char *why = str_printf("its MPI job has ended%s: %s exited with code %d%s%.*s",
                           r->code ? ", as when a rank calls MPI_Abort or dies" : "", holder,
                           r->code, n ? ": " : "", (int)n, line);
    tell(s, why);
    free(why);
    json_decref(sound);
}

bool setend_event(struct engine_set *s, const json_t *event)
{
    const char *name = json_string_value(json_object_get(event, "event"));
    const char *id = json_string_value(json_object_get(event, "id"));
    const char *how = json_string_value(json_object_get(event, "how"));
    if (!name || strcmp(name, "job_ended"))
        return false;
    char *why = str_printf("its batch job %s has ended: %s", id ? id : "?", how ? how : "?");
    tell(s, why);
    free(why);
    return true;
}
