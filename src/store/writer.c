/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See writer.h. The mutex guards both lists, the message and the flags; the file is the thread's
 * alone. Out of memory for a message leaves it out: the state is told by the flag. */
#include "store/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/file.h"

#define LOOK_NS (20 * NS_PER_MS) /* or longer, and counts as that, if the process stood still */
#define RETRY_FACTOR_MAX 12      /* attempts become rarer, up to so many times retry_ns */

struct jobs {
    struct job *first, **end;
};

struct writer {
    struct writer_config c;
    char *path, *table;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct jobs todo, done;
    char *message;
    bool changed, broken; /* as told by message; broken is also the thread's state */
    bool quit, ended;
    bool cancel; /* atomic: a walk must end */
    /* the thread's own */
    struct dbfile *file;
    uint64_t base, last_id, retry_at, factor;
};

static void jobs_init(struct jobs *q)
{
    q->first = NULL;
    q->end = &q->first;
}

static void jobs_add(struct jobs *q, struct job *j)
{
    j->next = NULL;
    *q->end = j;
    q->end = &j->next;
}

static struct job *jobs_all(struct jobs *q)
{
    struct job *j = q->first;

    jobs_init(q);
    return j;
}

/* --- on the thread --- */

/* Nobody is to be woken when all is to end: there may be no loop any more. */
static void unlock_and_wake(struct writer *w)
{
    bool quit = w->quit;

    pthread_mutex_unlock(&w->mutex);
    if (!quit)
        w->c.wake(w->c.arg);
}

static void say(struct writer *w, bool broken, char *text_take)
{
    pthread_mutex_lock(&w->mutex);
    free(w->message);
    w->message = text_take;
    w->changed = true;
    w->broken = broken;
    unlock_and_wake(w);
}

static void break_down(struct writer *w, const struct err *e)
{
    dbfile_close(w->file);
    w->file = NULL;
    w->retry_at = clock_mono() + w->c.retry_ns * w->factor;
    say(w, true, strdup(e->text));
}

static int open_file(struct writer *w, char **ret_note, struct err *e)
{
    struct dbfile_config c = w->c.file;

    c.path = w->path;
    c.table = w->table;
    c.again = w->last_id > 0;
    c.base = w->base;
    c.last_id = w->last_id;
    int r = dbfile_open(&w->file, &c, ret_note, e);
    if (r == CV_OK)
        w->base = dbfile_base(w->file);
    return r;
}

/* A little is written to see whether more can be. */
static int probe(struct writer *w, struct err *e)
{
    struct store_record r = {.lo = 1, .hi = 2, .id = UINT32_MAX};

    if (!dbfile_has_room(w->path))
        return err_set(e, CV_ESYS, "%s: the disk is full", w->path);
    int code = dbfile_begin(w->file, e);
    if (code == CV_OK)
        code = dbfile_write(w->file, &r, e);
    if (code == CV_OK)
        dbfile_rollback(w->file);
    return code;
}

static void try_again(struct writer *w)
{
    struct err e = {{0}};
    char *note = NULL;
    int r = open_file(w, &note, &e);

    if (r == CV_OK)
        r = probe(w, &e);
    if (r == CV_OK) {
        say(w, false, note ? note : str_printf("task records are written to %s again", w->path));
        return;
    }
    free(note);
    dbfile_close(w->file);
    w->file = NULL;
    w->factor = w->factor < RETRY_FACTOR_MAX ? w->factor * 2 : RETRY_FACTOR_MAX;
    w->retry_at = clock_mono() + w->c.retry_ns * w->factor;
}

/* Jobs of one transaction from *j on; *j becomes the first that is not among them. */
static int write_rows(struct writer *w, struct job **j, struct err *e)
{
    int r = dbfile_begin(w->file, e);

    for (; *j && (*j)->type == JOB_ROWS; *j = (*j)->next)
        for (uint32_t i = 0; i < (*j)->rows.n && r == CV_OK; i++) {
            const struct store_record *rec = &(*j)->rows.v[i];
            uint64_t last = rec->id + (rec->hi - rec->lo) - 1;
            w->last_id = last > w->last_id ? last : w->last_id;
            r = dbfile_write(w->file, rec, e);
        }
    if (r == CV_OK)
        r = dbfile_commit(w->file, e);
    if (r == CV_OK)
        w->factor = 1;
    else
        dbfile_rollback(w->file);
    return r;
}

static int do_one(struct writer *w, struct job *j, struct err *e)
{
    switch (j->type) {
    case JOB_WALK:
        return dbfile_walk(w->file, j->walk, &w->cancel, e);
    case JOB_PURGE:
        return dbfile_purge(w->file, j->purge, e);
    case JOB_AGAIN:
        return dbfile_resubmitted(w->file, j->again.id, j->again.again, e);
    case JOB_ROWS:
        break;
    }
    return CV_OK;
}

static void finish(struct writer *w, struct job *from, const struct job *to, bool failed)
{
    pthread_mutex_lock(&w->mutex);
    while (from != to) {
        struct job *next = from->next;
        from->failed = failed;
        jobs_add(&w->done, from);
        from = next;
    }
    unlock_and_wake(w);
}

static void work(struct writer *w, struct job *list)
{
    while (list) {
        struct err e = {{0}};
        struct job *from = list;
        int r = CV_OK;

        if (!w->file)
            list = NULL;
        else if (list->type == JOB_ROWS)
            r = write_rows(w, &list, &e);
        else {
            list = list->next;
            r = do_one(w, from, &e);
        }
        bool failed = !w->file || r != CV_OK;
        if (r != CV_OK) {
            while (list && list->type == JOB_ROWS && from->type == JOB_ROWS)
                list = list->next;
            break_down(w, &e);
        }
        finish(w, from, list, failed);
    }
}

static void wait_for_work(struct writer *w)
{
    struct timespec t;

    while (!w->todo.first && !w->quit) {
        if (w->file) {
            pthread_cond_wait(&w->cond, &w->mutex);
            continue;
        }
        t.tv_sec = (time_t)(w->retry_at / NS_PER_S);
        t.tv_nsec = (long)(w->retry_at % NS_PER_S);
        if (pthread_cond_timedwait(&w->cond, &w->mutex, &t) == ETIMEDOUT)
            return;
    }
}

static void *run(void *arg)
{
    struct writer *w = arg;
    bool quit;

    do {
        pthread_mutex_lock(&w->mutex);
        wait_for_work(w);
        struct job *list = jobs_all(&w->todo);
        quit = w->quit && !list;
        pthread_mutex_unlock(&w->mutex);
        if (!w->file && !quit && clock_mono() >= w->retry_at)
            try_again(w);
        work(w, list);
    } while (!quit);
    dbfile_close(w->file);
    pthread_mutex_lock(&w->mutex);
    w->ended = true;
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* --- on the loop's thread --- */

static int start_thread(struct writer *w)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
    int r = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r == 0 ? CV_OK : CV_ENOMEM;
}

int writer_new(struct writer **ret, const struct writer_config *c, struct err *e)
{
    struct writer *w = calloc(1, sizeof(*w));
    pthread_condattr_t attr;
    struct err why = {{0}};
    char *note = NULL;

    if (!w)
        return err_set(e, CV_ENOMEM, "out of memory for the task records");
    w->c = *c;
    w->factor = 1;
    jobs_init(&w->todo);
    jobs_init(&w->done);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->cond, &attr);
    pthread_condattr_destroy(&attr);
    w->path = strdup(c->file.path);
    w->table = strdup(c->file.table);
    int r = w->path && w->table ? open_file(w, &note, &why) : CV_ENOMEM;
    if (r == CV_EAGAIN)
        break_down(w, &why);
    else if (r == CV_OK && note)
        say(w, false, note);
    if (r == CV_OK || r == CV_EAGAIN)
        r = start_thread(w);
    if (r != CV_OK) {
        err_set(e, r, "%s", *why.text ? why.text : "out of memory for the task records");
        dbfile_close(w->file);
        writer_free(w);
        return r;
    }
    *ret = w;
    return CV_OK;
}

void writer_put(struct writer *w, struct job *j)
{
    pthread_mutex_lock(&w->mutex);
    jobs_add(&w->todo, j);
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mutex);
}

struct job *writer_take(struct writer *w, char **ret_trouble, bool *ret_broken)
{
    pthread_mutex_lock(&w->mutex);
    struct job *j = jobs_all(&w->done);
    *ret_trouble = NULL;
    if (w->changed) {
        *ret_trouble = w->message;
        w->message = NULL;
        w->changed = false;
    }
    *ret_broken = w->broken;
    pthread_mutex_unlock(&w->mutex);
    return j;
}

/* Until its thread has ended, but for so long as a look counts. */
static void wait_a_little(struct writer *w)
{
    uint64_t until = clock_mono() + LOOK_NS;
    struct timespec t = {(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};

    while (!w->ended && pthread_cond_timedwait(&w->cond, &w->mutex, &t) == 0)
        continue;
}

bool writer_stop(struct writer *w, uint64_t ns)
{
    bool ended;

    pthread_mutex_lock(&w->mutex);
    w->quit = true;
    __atomic_store_n(&w->cancel, true, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&w->cond);
    for (uint64_t waited = 0; !w->ended && waited < ns; waited += LOOK_NS)
        wait_a_little(w);
    ended = w->ended;
    pthread_mutex_unlock(&w->mutex);
    if (ended)
        pthread_join(w->thread, NULL);
    else
        pthread_detach(w->thread);
    return ended;
}

void writer_free(struct writer *w)
{
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->cond);
    free(w->message);
    free(w->path);
    free(w->table);
    free(w);
}
