/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See ended.h. Lines that are none of ours are skipped, and at the socket's end no more are
 * expected: then a lost link waits for the grace time, as without a supervisor. */
#include "controller/ended.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "controller/controller.h"
#include "controller/death.h"
#include "controller/events.h"

#define KEPT 64
#define LINE_MAX_ (16u << 10)
#define WHY_MAX 600 /* bytes: it becomes a part of a task's error */

struct over {
    uint64_t set;
    char *why;
};

struct ended {
    struct controller *c;
    struct watch *watch;
    int fd; /* -1: nothing is heard */
    struct buf line;
    bool too_long; /* the rest of this line is skipped */
    struct over kept[KEPT];
    uint32_t next; /* to be taken for the next one: the oldest */
};

const char *ended_why(const struct ended *x, uint64_t set)
{
    for (size_t i = 0; x && set && i < KEPT; i++)
        if (x->kept[i].set == set)
            return x->kept[i].why;
    return NULL;
}

static void keep(struct ended *x, uint64_t set, const char *why)
{
    struct over *o = &x->kept[x->next];
    char *copy = strdup(why);

    if (!copy) /* the grace time will do */
        return;
    free(o->why);
    o->set = set;
    o->why = copy;
    x->next = (x->next + 1) % KEPT;
    death_set_ended(x->c);
}

static void take_line(struct ended *x, const char *line, size_t n)
{
    json_t *j = json_loadb(line, n, 0, NULL);
    const char *text = json_string_value(json_object_get(j, "set_ended")),
               *why = json_string_value(json_object_get(j, "why"));
    uint64_t set = text ? strtoull(text, NULL, 10) : 0;

    if (set && why && strlen(why) <= WHY_MAX)
        keep(x, set, why);
    json_decref(j);
}

static void stop_listening(struct ended *x)
{
    watch_free(x->watch);
    x->watch = NULL;
    if (x->fd >= 0)
        close(x->fd);
    x->fd = -1;
}

static void add(struct ended *x, const char *part, size_t n)
{
    if (x->too_long || (x->line.len + n <= LINE_MAX_ && buf_add(&x->line, part, n) == CV_OK))
        return;
    buf_clear(&x->line);
    x->too_long = true;
}

static void on_readable(void *arg, int events)
{
    struct ended *x = arg;
    char data[4096];
    ssize_t n = read(x->fd, data, sizeof(data));
    const char *nl;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        stop_listening(x);
        return;
    }
    for (const char *p = data, *end = data + n; p < end; p = nl + 1) {
        nl = memchr(p, '\n', (size_t)(end - p));
        add(x, p, (size_t)((nl ? nl : end) - p));
        if (!nl)
            break;
        if (!x->too_long)
            take_line(x, (const char *)x->line.data, x->line.len);
        buf_clear(&x->line);
        x->too_long = false;
    }
}

int ended_new(struct ended **ret, struct controller *c, struct err *e)
{
    struct ended *x = calloc(1, sizeof(*x));

    if (!x)
        return err_set(e, CV_ENOMEM, "out of memory");
    x->c = c;
    x->fd = events_answers(c->events);
    if (x->fd >= 0 && watch_new(&x->watch, c->loop, x->fd, UV_READABLE, on_readable, x) != CV_OK)
        stop_listening(x);
    *ret = x;
    return CV_OK;
}

void ended_free(struct ended *x)
{
    if (!x)
        return;
    stop_listening(x);
    for (size_t i = 0; i < KEPT; i++)
        free(x->kept[i].why);
    buf_release(&x->line);
    free(x);
}
