/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The supervisor's inside, shared by supervisor.c (life), childevents.c (what its children say),
 * sets.c (engine sets), setend.c (their ends, for the controller), commands.c (what the control
 * socket asks), ask.c (questions to a batch system), away.c (engines whose links are lost) and
 * tell.c (events, cluster file, progress). All on the main thread. */
#ifndef COVEY_CLUSTER_SUPER_PRIV_H
#define COVEY_CLUSTER_SUPER_PRIV_H

#include <uv.h>
#include "base/list.h"
#include "cluster/child.h"
#include "cluster/control.h"
#include "cluster/supervisor.h"
#include "proc/procinfo.h"

enum { SUPER_SIGNALS = 5 };

enum super_state { SUPER_STARTING, SUPER_RUNNING, SUPER_STOPPING };

/* A process that ends only after all ranks of a set; pid 0: none was seen. */
struct holder {
    pid_t pid;
    uint64_t start;
    char name[sizeof((struct procinfo *)0)->name];
};

/* Engines that were started together: one host. */
struct engine_set {
    struct list node;
    struct supervisor *owner;
    char *id;
    char start[24]; /* COVEY_ENGINE_SET of this start of it (setend.c) */
    struct holder holder;
    unsigned looks; /* for it */
    uint32_t n;
    struct child *child;
    bool stopping, again; /* again: start as many under this id when it has ended */
    uint64_t waiter;      /* the peer that asked for its stop, or 0 */
    uint64_t kill_at;     /* clock_mono() by which it must have ended, 0: no hurry */
};

struct supervisor {
    const struct settings *s;
    const struct supervisor_hooks *hooks;
    uv_loop_t loop;
    struct reaper *reaper;
    struct control *control;
    struct child *controller;
    pid_t controller_pid; /* of the one that was started, also after its end; 0: none was */
    struct list sets;
    uv_signal_t signals[SUPER_SIGNALS];
    uv_timer_t tick;    /* looks after deadlines while there are some */
    uv_timer_t asking;  /* until a batch system may be asked again */
    uint64_t may_ask;   /* clock_mono() */
    json_t *due;        /* ids of the jobs that a look is due at */
    uv_timer_t telling; /* until news of `away` are told */
    json_t *away;       /* {"NUMBER": what is known}: those whose links are lost (away.c) */
    uv_poll_t parent;
    int parent_fd; /* pidfd, or -1 */
    pid_t adopted; /* a controller that was there (adopt.h), or 0 */
    uv_poll_t adoptee;
    int adopted_fd; /* pidfd, or -1 */
    enum super_state state;
    int exit_code;
    uint32_t asked;             /* engines of all sets */
    json_t *engines;            /* {"NUMBER": {"pid", "host"}}: those that are there */
    json_t *listening;          /* the controller's event, or NULL */
    uint64_t ready_by, kill_at; /* clock_mono() deadlines, 0: none */
    uint64_t *stop_waiters;     /* peers that get an answer when all is over */
    size_t nstop_waiters;
    json_t *left; /* texts: jobs that could not be deleted */
    char *cluster_file;
    unsigned next_set;
    bool progress_line; /* an unfinished line is on the terminal */
};

/* supervisor.c */
void super_stop(struct supervisor *v, int exit_code, const char *reason);
void super_fail(struct supervisor *v, const char *why, const char *stderr_text);
void super_check_ready(struct supervisor *v);
void super_check_end(struct supervisor *v);
void super_tick(struct supervisor *v); /* there is a new deadline */
int super_start_engines(
    struct supervisor *v); /* those that were asked for; it fails by super_fail() */
/* Starts what the request says; its files are named after what it is and `set` (NULL: none). */
int super_launch(struct supervisor *v, struct child **ret, const struct launch_ops *ops,
                 struct launch_request *request, const char *set, const struct child_callbacks *cb,
                 struct err *e) CV_CHECK;

/* childevents.c */
void super_event(void *arg, struct child *c, json_t *event); /* of any child */
/* The controller's connection files are there. */
void super_listening(struct supervisor *v, json_t *event);

/* sets.c */
int set_start(struct supervisor *v, const char *id, uint32_t n, struct engine_set **ret,
              struct err *e) CV_CHECK;
void set_stop(struct engine_set *s, uint64_t waiter, bool again);
void set_free(struct engine_set *s);
struct engine_set *set_find(struct supervisor *v,
                            const char *id); /* id NULL: the only or oldest one */
/* Signals its engines, each of them; returns how many. */
uint32_t set_signal(struct engine_set *s, int signum);

/* setend.c */
int setend_name_start(struct engine_set *s, struct err *e) CV_CHECK;
/* An engine has come: what holds the ranks must be there. */
void setend_look(struct engine_set *s);
/* The set's process was reaped; said: its last words. */
void setend_reaped(struct engine_set *s, const struct reaped *r, const char *said);
/* An agent's "job_ended" or "set_ended"; false: it is another event. */
bool setend_event(struct engine_set *s, const json_t *event);

/* commands.c */
void super_command(void *arg, uint64_t peer, json_t *command);

/* ask.c */
int ask_init(struct supervisor *v) CV_CHECK;
/* An agent's "due" or "states"; false: it is another event. */
bool ask_event(struct supervisor *v, struct child *c, const char *name, json_t *event);
/* An engine has come or gone: tells the agents whether there is a need to ask after their jobs. */
void ask_quiet(struct supervisor *v);

/* away.c */
int away_init(struct supervisor *v) CV_CHECK;
void away_lost(struct supervisor *v, const char *number, const json_t *event);
void away_back(struct supervisor *v, const char *number);
/* It is dead. */
void away_over(struct supervisor *v, const char *number, const json_t *event);
size_t away_count(const struct supervisor *v);

/* tell.c */
void tell_event(struct supervisor *v, json_t *event_take);
void tell_start(struct supervisor *v);
void tell_progress(struct supervisor *v);
void tell_progress_end(struct supervisor *v); /* ends an unfinished line */
void tell_failure(struct supervisor *v, const char *why, const char *stderr_text);
void tell_cluster_file(struct supervisor *v);
json_t *tell_description(const struct supervisor *v); /* the cluster file's content */
/* An agent's "undeleted": a batch job stays in its queue; whoever stops the cluster has to know. */
void tell_undeleted(struct supervisor *v, json_t *event);
/* The first line of it to the log and to who waits for the end: something was not ended. */
void tell_left(struct supervisor *v, const char *text);
/* Removes the cluster file, and connection files that a killed controller left; answers who waits.
 */
void tell_over(struct supervisor *v);

#endif
