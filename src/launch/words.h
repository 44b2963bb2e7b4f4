/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the back ends share when they prepare a plan: growing lists of strings, traits of the
 * config, the programs' own command lines and environment. Pure. */
#ifndef COVEY_LAUNCH_WORDS_H
#define COVEY_LAUNCH_WORDS_H

#include "launch/launch.h"

/* A NULL-terminated array of malloc'ed strings that grows; zeroed memory is an empty one. The first
 * failure stays. */
struct words {
    char **v;
    size_t n;
    bool failed;
};

void words_take(struct words *w, char *text); /* NULL: out of memory */
void words_add(struct words *w, const char *text);
void words_add_all(struct words *w, const char *const *v); /* NULL is fine */
void words_release(struct words *w);
json_t *words_json(const struct words *w); /* new reference; NULL when out of memory */
/* As one line that a shell reads back; malloc'ed, NULL when out of memory. */
char *words_shell(char *const *v);

/* A setting that is a list of texts, or one text with blanks between its words; nothing where it is
 * not set. */
int words_add_value(struct words *w, const struct config *c, const char *cls, const char *trait,
                    struct err *e) CV_CHECK;
/* The same of a back end's trait. ret_set (may be NULL): whether it is set at all. */
int words_add_trait(struct words *w, const struct launch_ops *ops, const struct launch_request *r,
                    const char *trait, bool *ret_set, struct err *e) CV_CHECK;
/* A text (borrowed); fallback where it is not set. Numbers are refused. */
int trait_text(const struct launch_ops *ops, const struct launch_request *r, const char *trait,
               const char *fallback, const char **ret, struct err *e) CV_CHECK;

/* The controller's program, or a host's for n engines, and its arguments. */
int words_add_program(struct words *w, const struct launch_ops *ops, const struct launch_request *r,
                      uint32_t n, struct err *e) CV_CHECK;
/* --IPEngine.environment with the variables that have {i}: ipengine fills it in. */
int words_add_places(struct words *w, const struct launch_ops *ops, const struct launch_request *r,
                     struct err *e) CV_CHECK;
/* The variables of every child: profile, cluster, `environment` without those. */
int words_add_environment(struct words *w, const struct launch_ops *ops,
                          const struct launch_request *r, struct err *e) CV_CHECK;

/* The job functions of all back ends: a process of this machine (job.c). */
int job_start(const struct launch_plan *p, const struct launch_io *io, struct launch_job *ret,
              struct err *e) CV_CHECK;
bool job_poll(const struct launch_job *j);
int job_signal(const struct launch_job *j, int signum, struct err *e) CV_CHECK;
int job_stop(const struct launch_job *j, bool force, struct err *e) CV_CHECK;
json_t *job_describe(const struct launch_ops *ops, const struct launch_job *j);
int job_restore(const json_t *o, struct launch_job *ret, struct err *e) CV_CHECK;

#define LAUNCH_JOB_FUNCTIONS                                                                       \
    .start = job_start, .poll = job_poll, .signal = job_signal, .stop = job_stop,                  \
    .describe = job_describe, .restore = job_restore

#endif
