/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tells the controller that a set of engines has ended for good, so that it does not wait for those
 * whose links are lost (super_priv.h). Only what is certain is told: a batch system's word, an
 * agent's, or that the program that holds all ranks has ended by itself. (One that was killed may
 * have left them.) That program is the set's process, or one below it: what starts it may be a
 * script of the user's, or a launcher in Python. On the main thread; out of memory costs the word,
 * and the grace time ends the waiting. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "cluster/super_priv.h"

#define QUOTED 300    /* bytes of a line */
#define WHY 500       /* bytes of a reason: the controller takes 600 */
#define LOOKS 8       /* for a program that holds ranks: each may cost a walk through /proc */
#define GENERATIONS 3 /* that it may be below the set's process */
#define KILLED 128    /* a shell's exit code for what a signal killed, and above */

/* Every start has a name of its own, also the next one of the same set. */
int setend_name_start(struct engine_set *s, struct err *e)
{
    uint64_t r;
    int rc = random_bytes(&r, sizeof r, e);
    snprintf(s->start, sizeof s->start, "%" PRIu64, rc ? 0 : r);
    s->holder = (struct holder){0};
    s->looks = 0;
    return rc;
}

/* How many bytes of the text to take: at most so many, and no half character. */
static size_t whole(const char *text, size_t n, size_t most)
{
    if (n <= most)
        return n;
    while (most && (text[most] & 0xC0) == 0x80)
        most--;
    return most;
}

/* What is no UTF-8 gives no JSON, and nothing is said. */
static void tell(const struct engine_set *s, const char *set, const char *why)
{
    struct supervisor *v = s->owner;
    if (v->controller && why)
        child_say(v->controller, json_pack("{s:s, s:s%}", "set_ended", set, "why", why,
                                           whole(why, strlen(why), WHY)));
}

/* ---- what holds the ranks ---- */

/* Is it known to end only after the ranks that it has started? ssh, or a command of the user's,
 * says nothing of ranks elsewhere by its end. */
static bool holds(const char *name)
{
    static const char *const HOLDERS[] = {"srun", "mpiexec", "mpirun", "orterun", "prterun"};
    for (size_t i = 0; i < sizeof HOLDERS / sizeof HOLDERS[0]; i++) {
        size_t n = strlen(HOLDERS[i]);
        if (!strncmp(name, HOLDERS[i], n) && (!name[n] || name[n] == '.'))
            return true;
    }
    return false;
}

struct search {
    struct holder *found;
    int depth;
};

static void look(void *arg, const struct procinfo *p)
{
    struct search *x = arg;
    if (x->found->pid)
        return;
    if (holds(p->name)) {
        *x->found = (struct holder){.pid = p->pid, .start = p->start};
        memcpy(x->found->name, p->name, sizeof p->name);
    } else if (x->depth < GENERATIONS) {
        x->depth++;
        int ignored = process_children(p->pid, look, x, NULL); /* not seen: nothing is told */
        (void)ignored;
        x->depth--;
    }
}

void setend_look(struct engine_set *s)
{
    const struct launch_ops *ops = s->owner->s->engines;
    bool may = ops->flags & LAUNCH_RANKS || ops == &launch_python;
    struct search x = {.found = &s->holder};
    struct procinfo own;
    if (!may || !s->child || s->holder.pid || s->looks == LOOKS)
        return;
    s->looks++;
    if (!procinfo_get(child_job(s->child)->pid, &own, NULL))
        look(&x, &own);
}

/* ---- ends ---- */

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
    *ret_n = whole(at, strcspn(at, "\r\n"), QUOTED);
    return at;
}

/* Has it ended by itself? What another process reaped says so by that one's exit code. */
static bool ended_by_itself(const struct engine_set *s, const struct reaped *r)
{
    bool own = s->child && child_job(s->child)->pid == s->holder.pid;
    if (!s->holder.pid || !r->known || r->signal)
        return false;
    return own || (r->code < KILLED && !process_alive(s->holder.pid, s->holder.start));
}

void setend_reaped(struct engine_set *s, const struct reaped *r, const char *said)
{
    size_t n = 0;
    if (!ended_by_itself(s, r))
        return;
    const char *line = telling_line(said ? said : "", &n);
    json_t *sound = json_stringn(line, n); /* NULL: it is no UTF-8 */
    n = sound ? n : 0;
    const char *as = s->stopping ? ", as it was told to"
                     : r->code   ? ", as when a rank calls MPI_Abort or dies"
                                 : "";
    char *why = str_printf("its MPI job has ended%s: %s exited with code %d%s%.*s", as,
                           s->holder.name, r->code, n ? ": " : "", (int)n, line);
    tell(s, s->start, why);
    free(why);
    json_decref(sound);
}

bool setend_event(struct engine_set *s, const json_t *event)
{
    const char *name = json_string_value(json_object_get(event, "event"));
    const char *id = json_string_value(json_object_get(event, "id"));
    const char *how = json_string_value(json_object_get(event, "how"));
    const char *set = json_string_value(json_object_get(event, "set"));
    if (name && !strcmp(name, "set_ended")) {
        tell(s, set ? set : s->start, json_string_value(json_object_get(event, "why")));
        return true;
    }
    if (!name || strcmp(name, "job_ended"))
        return false;
    char *why = str_printf("its batch job %s has ended: %s", id ? id : "?", how ? how : "?");
    tell(s, s->start, why);
    free(why);
    return true;
}
