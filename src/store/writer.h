/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The thread that has the file of records: takes jobs in order and gives them back when they are
 * done. Rows of jobs that follow each other are one transaction. After a failure it gives back
 * what it gets with `failed` set, and tries to open the file again after a while.
 *
 * writer_put() and writer_take() are for the loop's thread and wait for nothing but a mutex that is
 * held for moments. Jobs and what they point to belong to the loop's thread, which makes and frees
 * them. */
#ifndef COVEY_STORE_WRITER_H
#define COVEY_STORE_WRITER_H

#include "store/dbfile.h"

enum job_type { JOB_ROWS, JOB_WALK, JOB_PURGE, JOB_AGAIN };

struct job {
    struct job *next;
    enum job_type type;
    bool failed;
    union {
        struct {
            uint32_t n;
            struct store_record *v; /* copies */
        } rows;
        struct store_walk *walk;
        struct store_purge *purge;
        struct {
            struct store_id id, again;
        } again;
    };
};

struct writer_config {
    struct dbfile_config file; /* copied texts */
    uint64_t retry_ns;
    void (*wake)(void *arg); /* something can be taken */
    void *arg;
};

struct writer;

/* Opens the file. CV_EAGAIN is no failure: somebody else uses it, and it is tried again. */
int writer_new(struct writer **ret, const struct writer_config *c, struct err *e) CV_CHECK;
void writer_put(struct writer *w, struct job *j_take);
/* The jobs that are done, in order. *ret_trouble (malloc'ed): a sentence when the file's state has
 * changed since the last call, *ret_broken: to the bad. */
struct job *writer_take(struct writer *w, char **ret_trouble, bool *ret_broken);
/* Waits until all is done, for so long, in which this process runs. Then the caller takes the last
 * jobs; what it gets is true when the thread has ended and the rest can be freed. */
bool writer_stop(struct writer *w, uint64_t ns);
void writer_free(struct writer *w); /* after writer_stop() was true */

#endif
