/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A link: one connection that carries messages both ways. Owns its transport, its read buffer,
 * what is queued to be sent and what is half received.
 *
 * Sending never blocks and never copies a payload: messages are queued with a reference and leave
 * in as few writev() calls as possible at the end of the loop's turn. A message whose buffers are
 * together over WIRE_INLINE_MAX leaves as CHUNK frames, round-robin with the other large ones and
 * overtaken by every small one; CHUNK data is sent only while the peer's credit lasts. At most
 * 256 KiB of one link move in a turn. A link never stops reading.
 *
 * Receiving: a chunked message is delivered when it is complete. The link returns credit to the
 * peer when it has delivered the message, unless the owner asked for manual credit
 * (link_set_manual_credit) and returns it itself by link_credit(), body_len for each message. What
 * unfinished messages hold beyond half of the window is returned before that in either case, so
 * that messages larger than the window get through; link_credit() accounts for it.
 *
 * What messages have in common crosses once: the head of a payload (wire/payload.h), or all of it
 * with LINK_SHARE, goes as a BLOB when it is first needed, and by its number from then on. The
 * sender says what the receiver may forget, so the receiver has what it is told to use or the
 * sender has broken the protocol; the BLOBs of a link are bounded by LINK_BLOBS_MAX bytes at both
 * ends. Messages arrive whole: nobody above a link needs to know.
 *
 * On a Unix socket a buffer that lies in a region (wire/region.h) goes as a descriptor instead, in
 * its place in the order of the message's buffers, if both ends agreed on that (link_set_memfds).
 * It costs no credit. The link holds the region until the peer has said RELEASE; a link that ends
 * before sets the region's `discard`.
 *
 * PING on silence, PONG and all that is named in capitals here is the link's own; other types go to
 * on_msg. */
#ifndef COVEY_NET_LINK_H
#define COVEY_NET_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include "net/loop.h"
#include "net/transport.h"
#include "wire/msg.h"

struct link;
struct lane;

struct link_callbacks {
    /* The transport's handshake is done (at once for plain streams, from the next turn on). May be
     * NULL. */
    void (*on_ready)(struct link *l, void *arg);
    /* A message; ownership moves to the callee. */
    void (*on_msg)(struct link *l, struct msg *m_take, void *arg);
    /* The link is dead (EOF, error, protocol breach, silence): called once, never from inside a
     * call into the link. code is a cv_code, why one sentence. The callee must link_free() it, now
     * or later. */
    void (*on_closed)(struct link *l, int code, const char *why, void *arg);
};

#define LINK_CREDIT_DEFAULT (256ull << 20)
#define LINK_BLOBS_MAX (32ull << 20) /* a larger BLOB may stand alone */
#define LINK_BLOB_MIN (4u << 10)     /* what is smaller is sent each time */

enum link_send_flag {
    LINK_AFTER_BULK =
        1,          /* leaves only after all large messages queued before it have left entirely */
    LINK_SHARE = 2, /* the same payload will be sent again on this link: its bytes cross once */
};

/* Takes t. Starts the handshake from the next turn on. cb outlives the link. */
int link_new(struct link **ret, struct loop *loop, struct transport *t_take,
             const struct link_callbacks *cb, void *arg) CV_CHECK;
void link_free(struct link *l); /* closes at once, no callback; NULL is fine */
/* Sends what is queued (at most for timeout_ns), then closes; on_closed follows with CV_ECLOSED.
 * Messages that arrive meanwhile are dropped. */
void link_close_after_flush(struct link *l, uint64_t timeout_ns);

/* Queues a message; h's lengths are set from route and payload. References payload (the caller
 * keeps its own). */
int link_send(struct link *l, const struct header *h, const void *route, uint32_t route_len,
              struct payload *payload, int flags) CV_CHECK;
/* Writes now instead of at the end of the turn (for latency, where little is queued). */
void link_flush(struct link *l);

void link_set_limits(struct link *l,
                     const struct wire_limits *limits); /* default: pre-auth limits */
/* All that the link does waits for its turn in a lane (lane.h). NULL, at start: it waits for
 * nothing. */
void link_set_lane(struct link *l, struct lane *lane);
void link_set_credit(
    struct link *l,
    uint64_t bytes); /* what the peer lets us send (WELCOME); LINK_CREDIT_DEFAULT at start */
/* What we let the peer send (our own WELCOME); LINK_CREDIT_DEFAULT at start. More is a breach. */
void link_set_window(struct link *l, uint64_t bytes);
void link_set_manual_credit(struct link *l, bool manual);
void link_credit(struct link *l, uint64_t bytes); /* returns credit to the peer */
/* PING after `idle_ns` without a byte received; on_closed(CV_ETIMEOUT) after dead_ns. 0, 0: never
 * (Unix sockets). */
void link_set_liveness(struct link *l, uint64_t idle_ns, uint64_t dead_ns);

struct link_memfds {
    uint32_t send;    /* as many may be with the peer: what it said (0: none) */
    uint32_t receive; /* as many may be here: what we said. More is a breach */
    /* Received buffers: false: kept as descriptors, as long as *kept (shared by links) is below
     * kept_max, beyond that copied. True: mapped, private and writable; copied up to 4 MiB. */
    bool map;
    uint32_t kept_max, *kept;
    /* map: counts before and after each fork of this process: odd while one is under way. What was
     * mapped by then is never given back to be written again. */
    const atomic_uint *forks;
    /* Called on whatever thread drops a received region: the loop's thread shall call
     * link_release_due(). NULL: that is the loop's thread. */
    void (*due)(void *arg);
    void *arg;
};
/* Nothing happens where descriptors can't travel. */
void link_set_memfds(struct link *l, const struct link_memfds *m);
/* Receives large buffers into memfds where it can: for a hop that sends them on to processes of
 * this machine. */
void link_receive_into_memfds(struct link *l);
void link_release_due(struct link *l);

const char *link_identity(const struct link *l); /* see transport_ops.identity */
bool link_is_unix(const struct link *l);
uint64_t link_queued_bytes(const struct link *l); /* bytes queued, inline and bulk */
uint64_t link_queued_small(const struct link *l); /* of these, beside large messages */
/* Bytes that crossed since the link was made (before encryption). */
void link_traffic(const struct link *l, uint64_t *ret_sent, uint64_t *ret_received);
int link_fd(const struct link *l);

#endif
