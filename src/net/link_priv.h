/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The insides of a link, shared by link.c (life cycle), link_send.c (queue and write), link_recv.c
 * (read and parse), bulk.c (large messages, both ways, and credit), blob.c (what crosses once) and
 * memfd.c (buffers as descriptors).
 *
 * A link is entered (link_enter) before anything that may call back, and left (link_leave) after;
 * link_free() in between closes at once but keeps the memory until the outermost leave. Code that
 * has called back looks at link_alive() before it touches the connection again. */
#ifndef COVEY_NET_LINK_PRIV_H
#define COVEY_NET_LINK_PRIV_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/list.h"
#include "net/lane.h"
#include "net/link.h"
#include "net/loop_priv.h"
#include "wire/leftout.h"

#define LINK_TURN_MAX (256u << 10) /* bytes of one link in a turn, each way */
#define LINK_COPY_MAX 2048u        /* payloads up to this are copied into the send queue */
#define LINK_CHUNK_TCP (64u << 10) /* data of a CHUNK that may have to cross a slow network */
#define LINK_ACTIVE_MAX 64u        /* large messages that we send at a time */
/* that a peer may have unfinished: a byte of each may cost a huge page */
#define LINK_TRANSFERS_MAX (2 * LINK_ACTIVE_MAX)
#define LINK_IOV_MAX 512
#define LINK_FRAMES_MAX 32

enum link_state {
    LINK_HANDSHAKE, /* until the transport is ready */
    LINK_READY,
    LINK_LINGER, /* all is sent and shut down; waits for the peer's EOF */
    LINK_DEAD,   /* on_closed is due or was called */
    LINK_FREED   /* link_free() was called from a callback */
};

/* Part of the send queue: bytes, then (if payload) the buffers of one payload. */
struct seg {
    struct seg *next;
    struct payload *payload;
    uint32_t len, cap;
    uint8_t data[];
};

/* A message that can't go to the send queue yet: a large one, or one that waits for large ones. */
struct held {
    struct list node;
    struct payload *payload; /* may be NULL if not large */
    uint64_t serial;         /* large: its own; else of the last large one before it */
    uint64_t number;         /* large: of the transfer, once active */
    uint64_t off;            /* large: next byte to send, in buffer buf */
    uint32_t buf;
    bool after; /* large: starts only when all before it have left */
    uint32_t head_len;
    uint8_t head[]; /* header, route, table */
};

/* One CHUNK on its way out, or one MEMFD. */
struct frame {
    uint8_t head[WIRE_HEADER_SIZE];
    struct held *h;
    uint32_t buf, len; /* of the payload: buffer, bytes */
    uint32_t nfds;     /* MEMFD: of the buffers from buf on; len is 0 */
    uint64_t off;
    uint32_t sent; /* bytes of header and data */
};

/* A large message that is being received. */
struct transfer {
    struct msg *m;
    uint64_t number, off;
    uint32_t buf;
    uint64_t bytes; /* that came as CHUNKs */
    uint64_t early; /* credit given back before delivery */
    bool left_out;  /* its bytes are read and thrown away (leftout.h) */
};

struct inbox; /* memfd.c */

/* Descriptors sent. */
struct lendings {
    struct hash held; /* number -> struct region that the peer holds */
    uint64_t numbers;
};

/* What crosses once. */
struct blobs {
    struct hash out;      /* by payload */
    struct list used;     /* those, the one used last in front */
    struct list big;      /* the large ones of them */
    uint64_t bytes;       /* what they cost the peer */
    uint64_t number;      /* of the last one */
    uint64_t drop_serial; /* of the last large message before the last DROP that had to wait */
    struct hash in;       /* the peer's: by number */
    uint64_t in_bytes;
};

struct link {
    struct loop *loop;
    struct transport *t;
    const struct link_callbacks *cb;
    void *arg;
    struct watch *watch;
    struct loop_job turn_job;  /* next turn: handshake, more to read or write, on_closed */
    struct loop_job flush_job; /* turn end: write */
    struct lane *lane;         /* where the link waits for its turns, or NULL */
    int lane_events;           /* of poll, to be handled in its next turn there */
    enum link_state state;
    int depth;
    bool is_unix, closing, reported, read_again, write_again, blocked;
    bool into_memfds; /* large buffers are received into the loop's pool */
    int handshake_want;

    /* sending */
    struct seg *head, *tail;
    uint64_t head_off; /* bytes of head that have left */
    uint32_t seg_cap;  /* of the next segment */
    uint32_t chunk_max, nactive;
    int tx_code;
    struct list waiting;           /* held: large, not begun */
    struct list active;            /* held: large, sent round-robin */
    struct list ending;            /* held: large, all frames planned */
    struct list late;              /* held: small, wait for large ones */
    uint64_t serial;               /* of the last large message */
    uint64_t numbers;              /* transfers begun */
    struct frame *cur;             /* a CHUNK that has left in part, or NULL */
    uint64_t queued, queued_large; /* bytes: all, and those of large messages' buffers */
    uint64_t window_out;           /* what the peer granted */
    int64_t credit_out;            /* what is left of it */
    uint64_t tx_turn, tx_spent, sent_bytes;
    char *tx_error; /* writing failed, with tx_code; reading goes on to the end */

    /* receiving */
    struct wire_limits limits;
    struct buf left; /* an incomplete message */
    uint64_t need;   /* its whole length, if more than half of the read buffer */
    struct hash transfers;
    struct transfer *rx; /* of the CHUNK whose data comes next, or NULL */
    uint32_t rx_left;    /* bytes of that data */
    bool manual, bulk_last;
    uint64_t numbers_in;
    uint64_t window_in;  /* what we granted */
    uint64_t owed;       /* CHUNK bytes received and not given back */
    uint64_t unfinished; /* of these, of transfers that are not complete */
    uint64_t credit_due; /* to be given back at the end of this turn */
    uint64_t early_debt; /* given back before delivery, for the owner to give back again */
    uint64_t rx_turn, rx_spent, received_bytes, last_received;

    /* what crosses once */
    struct blobs *blobs; /* NULL: nothing yet */

    /* descriptors */
    struct link_memfds memfds;
    struct inbox *inbox;   /* NULL: none has come yet */
    struct lendings *lent; /* NULL: none was sent yet */

    /* time */
    struct timer *liveness, *closer;
    uint64_t idle_ns, dead_ns, close_at;

    int code; /* why it died */
    char *why;
};

static inline bool link_alive(const struct link *l)
{
    return l->state < LINK_DEAD;
}

/* link.c */
void link_enter(struct link *l);
void link_leave(struct link *l);
void link_fail(struct link *l, int code, const char *fmt, ...) CV_PRINTF(3, 4);
void link_watch(struct link *l); /* asks poll for what the link waits for */
void link_sent_all(struct link *l);
void link_next_turn(struct link *l); /* turn_job runs in the next turn (of its lane) */

/* link_send.c */
uint8_t *link_room(struct link *l, uint32_t n); /* n bytes at the end of the send queue, or NULL */
int link_queue_own(struct link *l, uint8_t type, uint64_t time, uint64_t aux) CV_CHECK;
int link_queue_held(struct link *l,
                    struct held *h) CV_CHECK; /* its head and payload; frees nothing */
/* What link_send() does but for BLOBs and for waking the link; blob: number that the message begins
 * with, if h has MSG_F_BLOB. */
int link_queue(struct link *l, const struct header *h, const void *route, uint32_t route_len,
               uint64_t blob, struct payload *payload, int flags) CV_CHECK;
void link_write(struct link *l);
void link_schedule_flush(struct link *l);
void link_send_release(struct link *l);

/* link_recv.c */
void link_read(struct link *l);
void link_deliver(struct link *l, struct msg *m_take);
void link_recv_release(struct link *l);

/* bulk.c */
int bulk_begin(struct link *l) CV_CHECK; /* makes waiting messages active */
bool bulk_ready(const struct link *l);
/* The next CHUNK or, as the first thing of a write, MEMFD, if one may go. Out of memory kills the
 * link. */
bool bulk_plan(struct link *l, struct frame *f, uint64_t max, bool first);
void bulk_undo(struct link *l, const struct frame *f);
int bulk_sent(struct link *l, const struct frame *f) CV_CHECK;
uint64_t bulk_oldest(const struct link *l); /* serial of the oldest unfinished, or UINT64_MAX */
/* left_out: there was no memory even for its small buffers. */
void bulk_announced(struct link *l, struct msg *m_take, bool left_out);
void bulk_chunk(struct link *l, const struct header *h); /* a CHUNK's header */
void bulk_memfd(struct link *l, const struct header *h);
/* Where the next rx_left bytes go; NULL: they are thrown away. */
uint8_t *bulk_space(struct link *l);
/* No memory for the data of t: it is left out from here on. False: it can't go on without. */
bool bulk_leave_out(struct link *l, struct transfer *t);
void bulk_received(struct link *l, uint32_t n);
int bulk_credit_flush(struct link *l) CV_CHECK;
void bulk_release(struct link *l);

/* blob.c */
/* Sends a message that begins with `head`. */
int blob_send(struct link *l, const struct header *h, const void *route, uint32_t route_len,
              struct payload *head, struct payload *own, int flags) CV_CHECK;
int blob_sweep(struct link *l) CV_CHECK; /* drops large BLOBs that nobody can send again */
/* BLOB, DROP, and messages that begin with a BLOB. NULL: it was the link's own, or a breach. */
struct msg *blob_receive(struct link *l, struct msg *m_take);
void blob_release(struct link *l);

/* memfd.c */
/* How many of h's buffers, from the one that is due on, may go as descriptors now. */
uint32_t memfd_count(const struct link *l, const struct held *h);
void memfd_head(const struct link *l, struct frame *f); /* fills in its header */
void memfd_fds(const struct frame *f, int *fds);
int memfd_left(struct link *l, const struct frame *f) CV_CHECK; /* its descriptors have left */
/* Takes in the descriptors for t's buffers [t->buf, + n); a failure kills the link. */
int memfd_take(struct link *l, struct transfer *t, const struct header *h) CV_CHECK;
/* Memory for t's buffer that is about to come as CHUNKs; twice is fine. */
int memfd_room(struct link *l, struct transfer *t) CV_CHECK;
void memfd_released(struct link *l, const struct header *h); /* RELEASE has come */
int memfd_release_flush(struct link *l) CV_CHECK;            /* queues those that are due */
void memfd_end(struct link *l);                              /* of the link: no more RELEASEs */

#endif
