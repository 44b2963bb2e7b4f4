/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An engine's link without its Python face: what the main thread (which runs user code), other
 * Python threads (which may print) and the I/O thread share.
 *
 * The I/O thread queues what is to be done and answers TAKE and CANCEL for what has not begun; the
 * main thread takes from the queue, says what it runs, and appends results and output to the
 * outbox, which the I/O thread sends in order. A RESULT stays in the FIFO of unacknowledged ones
 * until the controller says that it has it. Locks: capture.mu before core.mu; under core.mu nothing
 * is called but io_wake() and io_yield(). While the main thread waits for a task it does the I/O
 * thread's work itself (io.h). */
#ifndef COVEY_PYEXT_ENGINE_H
#define COVEY_PYEXT_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/list.h"
#include "base/ranges.h"
#include "pyext/uplink.h"
#include "wire/msg.h"
#include "wire/statuspage.h"

#define OUTPUT_TEXT_MAX (32u << 10) /* of one OUTPUT of a stream */
#define UNSENT_TEXT_MAX (64u << 20) /* what is above only goes to the ring */

/* A TASK of which some items have not begun. */
struct etask {
    struct list node; /* in engine_core.queue, or .open once the main thread has it */
    struct msg *msg;  /* NULL in .open */
    struct header h;
    uint64_t begun;     /* ids below have begun */
    struct ranges gone; /* taken back or cancelled */
};

/* An item whose user code has begun and whose RESULT has not been sent. */
struct begun {
    uint64_t seq, started;
};

struct eout {
    struct eout *next;
    struct header h;
    struct payload *payload;
    struct buf text; /* OUTPUT of a stream that still grows: instead of payload */
    uint64_t since;  /* clock_mono() when the text began */
    bool flushed;    /* the text goes as it is, also without the end of its line */
};

struct capture {
    pthread_mutex_t mu;
    int fd[2]; /* read ends of stdout and stderr, our duplicates; -1: none */
    struct watch *watch[2];
    uint8_t carry[2][4]; /* an UTF-8 sequence of which only the start has come */
    uint32_t ncarry[2];
    bool eof[2];
    int log_fd; /* of the host's log: for what is written outside of tasks; -1: none */
    uint64_t logged;
};

struct engine_core {
    /* I/O thread only */
    struct io io;
    struct uplink up;
    struct timer *started_timer, *line_timer;
    uint64_t acked;     /* RESULTs acknowledged on this connection */
    uint64_t announced; /* RESULTs that the last HELLO counted and that were not sent since */
    bool started_armed;
    bool closing;

    struct capture capture;
    struct statuspage *page;
    bool page_mapped;
    pthread_t main_thread;
    pid_t parent; /* when it goes, so do we */

    pthread_mutex_t mu;
    int ready_fd;  /* eventfd: next() has something; kept only once somebody has asked for it */
    bool ready;    /* next() has something */
    bool fd_asked; /* ready_fd is set when ready is */
    bool waiting;  /* the main thread sleeps on ready_fd in next() */
    struct list queue, open; /* of struct etask */
    struct msg *comm_head, **comm_tail;
    struct msg *bye;         /* what next() returns when all is over */
    struct header early[64]; /* CANCELs that came before their TASK; a ring */
    uint32_t nearly;

    /* what runs */
    uint64_t session;
    uint16_t attempt;
    struct begun *begun;
    uint32_t nbegun, begun_cap;
    uint32_t ncounted; /* of these, the first: the status page counts them as done */
    bool running;      /* user code: the interrupt window */
    bool has_last;
    uint64_t last_seq; /* the item begun last */
    uint64_t ended, begun_mono;
    uint64_t wall_ahead;   /* of what has begun: its times are the monotonic clock's and this */
    uint64_t started_told; /* begun_mono of the item that STARTED was sent for */
    bool wanted;           /* a cancel's SIGINT is under way, for wanted_seq */
    uint64_t wanted_session, wanted_seq;

    struct eout *out_head, *out_tail;
    unsigned nout;
    uint64_t out_since;           /* clock_mono() when the first of them came */
    uint64_t out_text;            /* bytes of OUTPUT there */
    atomic_uint_fast64_t in_link; /* and of small messages that the link has yet to send */
    bool out_waits; /* all but the last was sent; that one waits for the end of its line */
    struct msg *unacked_head, **unacked_tail;
    uint32_t nunacked;

    bool want_connect, want_close, connect_done, gone;
    uint64_t connect_ns, linger_ns;
    int connect_fd;
    int code;
    char why[256];
    uint32_t number, incarnation;
};

/* engine_queue.c; the mutex is held */
int engine_enqueue(struct engine_core *c, struct msg *m_take) CV_CHECK; /* TASK */
void engine_take_back(struct engine_core *c, const struct header *take);
void engine_cancel(struct engine_core *c, const struct header *cancel);
/* The next TASK for the main thread, with its message (the caller frees it); NULL: none. */
struct msg *engine_dequeue(struct engine_core *c);
/* Whether the item may run; the one that may is noted as begun by engine_begun(). */
bool engine_may_begin(struct engine_core *c, uint64_t session, uint64_t seq, uint16_t attempt);
int engine_begun(struct engine_core *c, uint64_t session, uint64_t seq, uint16_t attempt) CV_CHECK;
void engine_ready_update(struct engine_core *c);     /* after the queues have changed */
void engine_ask_fd(struct engine_core *c, bool ask); /* somebody will wait for ready_fd */
void etask_free(struct etask *t);
void engine_queue_release(struct engine_core *c);

/* engine_io.c */
extern const struct uplink_ops engine_uplink_ops;
int engine_io_init(struct engine_core *c, struct err *e) CV_CHECK;
void engine_io_end(void *arg);
/* What a message of the item begun last says of it. The mutex is held. */
struct header engine_says(const struct engine_core *c, uint8_t type);
/* Appends to the outbox; takes payload also on failure. The mutex is held. */
int engine_send(struct engine_core *c, const struct header *h,
                struct payload *payload_take) CV_CHECK;
/* May more OUTPUT be queued? Not while the link is away, or the controller stands still, and much
 * waits already. The mutex is held. */
bool engine_takes_output(const struct engine_core *c);
/* A RESULT made here for items that never ran. The mutex is held. */
void engine_refuse(struct engine_core *c, const struct header *h, uint64_t lo, uint64_t hi,
                   bool abort);
/* The last OUTPUT of the outbox need wait no longer. The mutex is held. */
void engine_line_ended(struct engine_core *c);
void engine_outbox_release(struct engine_core *c);

/* capture.c */
/* fds: what stdout and stderr are read from, and the log; -1: none. */
int capture_init(struct engine_core *c, const int fds[3], struct err *e) CV_CHECK;
int capture_watch(struct engine_core *c) CV_CHECK; /* I/O thread */
void capture_unwatch(struct engine_core *c);       /* I/O thread */
void capture_release(struct engine_core *c);
/* Moves what the pipes hold to the outbox; with `flush` also the start of a UTF-8 sequence. */
void capture_drain(struct engine_core *c, bool flush);
/* What was written goes out now, also where no line ends. */
void capture_flush(struct engine_core *c);
/* Text that Python's sys.stdout or sys.stderr got, behind what the pipes hold. */
void capture_text(struct engine_core *c, int kind, const void *data, uint64_t n);

#endif
