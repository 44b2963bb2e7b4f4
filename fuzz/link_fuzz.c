/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: a link that is fed arbitrary bytes, or a conversation built from the input: large
 * messages announced, their CHUNKs in any interleaving, right and wrong, small messages between
 * them, descriptors, CREDIT, our own messages both small and large, and our own end. As long as the
 * peer has done nothing wrong the link must live, and each message arrive whole and once. */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "input.h"
#include "net/link.h"

#define TRANSFERS 32
#define BUFS 3
#define BLOBS 8
#define KEPT 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct sent { /* a large message of the peer, as far as it was sent */
    uint32_t nbufs, buf;
    uint64_t len[BUFS], off, total;
    bool done;
};

struct talk {
    struct loop *loop;
    struct link *link;
    int fd;
    bool closed, wrong, leaving;
    bool memfds; /* descriptors are agreed on */
    uint64_t nfds;
    struct sent sent[TRANSFERS];
    unsigned nsent;
    struct payload *kept[KEPT]; /* ours, sent more than once */
    bool blobs[BLOBS];          /* which numbers the link was given something under */
    uint64_t window, owed;      /* credit that the peer had, and has used up */
    unsigned whole, got;        /* messages sent by the peer in full; received here */
    uint64_t manual_due;
    bool manual;
    uint8_t back[1 << 18]; /* what the link sends */
    size_t nback, skip;    /* skip: bytes of a CHUNK's data or a body that are still to come */
};

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct talk *t = arg;
    t->got++;
    if (m->h.type == MSG_OUTPUT && !t->wrong)
        for (uint32_t b = 0; b < m->h.nbufs; b++)
            for (uint64_t i = 0; i < m->payload->bufs[b].len; i += 509)
                assert(m->payload->bufs[b].data[i] == (uint8_t)(i + b));
    msg_free(m);
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct talk *t = arg;
    assert(!t->closed && code < 0 && *why);
    t->closed = true;
}

static void turns(struct talk *t, int n)
{
    while (n--)
        uv_run(loop_uv(t->loop), UV_RUN_NOWAIT);
}

/* Whatever a peer does, what the link sends are whole messages in order. */
static void read_back(struct talk *t)
{
    static const struct wire_limits open = {.body_max = UINT64_MAX, .route_max = WIRE_ROUTE_MAX};
    size_t at = 0;
    for (;;) {
        size_t n = t->skip < t->nback - at ? t->skip : t->nback - at;
        struct header h;
        struct err e;
        at += n;
        t->skip -= n;
        if (t->nback - at < WIRE_HEADER_SIZE)
            break;
        int rc = header_decode(t->back + at, &open, &h, &e);
        assert(!rc);
        at += WIRE_HEADER_SIZE;
        t->skip = h.route_len + (h.nbufs > 1 ? h.nbufs * 8 : 0) +
                  (h.flags & MSG_F_CHUNKED ? 0 : h.body_len);
        if (h.type == MSG_CREDIT) {
            assert(t->wrong || h.aux <= t->owed);
            t->owed -= h.aux;
        }
    }
    memmove(t->back, t->back + at, t->nback - at);
    t->nback -= at;
}

/* Until the link has read what is there: 256 KiB a turn. Reads what it answers. */
static void settle(struct talk *t)
{
    int left = 1;
    for (int i = 0; i < 64 && left && !t->closed; i++) {
        ssize_t n;
        turns(t, 2);
        while ((n = recv(t->fd, t->back + t->nback, sizeof t->back - t->nback, MSG_DONTWAIT)) > 0) {
            t->nback += (size_t)n;
            read_back(t);
            turns(t, 1);
        }
        if (ioctl(link_fd(t->link), FIONREAD, &left))
            break;
    }
    turns(t, 2);
}

static void put(struct talk *t, const void *data, size_t n)
{
    const uint8_t *at = data;
    for (int tries = 0; n && !t->closed && tries < 200; tries++) {
        ssize_t r = send(t->fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r > 0) {
            at += r;
            n -= (size_t)r;
        } else {
            settle(t);
        }
    }
    t->wrong |= n > 0; /* the rest is missing */
}

static void put_header(struct talk *t, const struct header *h)
{
    uint8_t bytes[WIRE_HEADER_SIZE];
    header_encode(bytes, h);
    put(t, bytes, sizeof bytes);
}

static void put_table(struct talk *t, uint32_t nbufs, const uint64_t *len)
{
    if (nbufs >= 2) /* this machine is little-endian, as the wire is */
        put(t, len, nbufs * sizeof *len);
}

static void announce(struct talk *t, struct input *in)
{
    struct sent *s = &t->sent[t->nsent];
    if (t->nsent == TRANSFERS)
        return;
    *s = (struct sent){.nbufs = 1 + in_u8(in) % BUFS};
    for (uint32_t i = 0; i < s->nbufs; i++)
        s->total += s->len[i] = (uint64_t)in_u16(in) * (1 + in_u8(in) % 8);
    t->nsent++;
    t->wrong |= !s->total; /* a large message of nothing is a breach */
    while (s->buf < s->nbufs && !s->len[s->buf])
        s->buf++;
    put_header(t, &(struct header){.type = MSG_OUTPUT,
                                   .nbufs = s->nbufs,
                                   .body_len = s->total,
                                   .flags = MSG_F_CHUNKED});
    put_table(t, s->nbufs, s->len);
}

static void advance(struct talk *t, struct sent *s, uint64_t n)
{
    s->off += n;
    t->owed += n;
    while (s->buf < s->nbufs && s->off == s->len[s->buf]) {
        s->buf++;
        s->off = 0;
    }
    if (s->buf == s->nbufs && !s->done) {
        s->done = true;
        t->manual_due += s->total;
        t->whole++;
    }
}

/* A CHUNK: the right one, or with a field changed. */
static void chunk(struct talk *t, struct input *in)
{
    static uint8_t data[WIRE_CHUNK_MAX + 8];
    uint8_t which = in_u8(in), lie = in_u8(in);
    struct sent *s = &t->sent[t->nsent ? which % t->nsent : 0];
    uint64_t left = t->nsent && !s->done && s->buf < s->nbufs ? s->len[s->buf] - s->off : 0;
    uint64_t n = 1 + (uint64_t)in_u16(in) * (1 + in_u8(in) % 4);
    n = n > WIRE_CHUNK_MAX ? WIRE_CHUNK_MAX : n;
    n = n > left ? left : n;
    if (!t->wrong && t->owed + n > t->window) {
        settle(t); /* perhaps some credit comes */
        t->wrong = t->owed + n > t->window;
    }
    struct header h = {.type = MSG_CHUNK,
                       .nbufs = 1,
                       .seq = (uint64_t)(s - t->sent) + 1,
                       .engine = s->buf,
                       .aux = s->off,
                       .body_len = n};
    if (lie == 1)
        h.seq = in_number(in);
    if (lie == 2)
        h.aux = in_number(in);
    if (lie == 3)
        h.engine = (uint32_t)in_number(in);
    if (lie == 4)
        h.nbufs = in_u8(in) % 4;
    if (lie == 5)
        h.body_len = n = in_u16(in) % 2000;
    if (lie >= 1 && lie <= 5)
        t->wrong = true;
    else if (!n)
        return;
    for (uint64_t i = 0; i < n; i++)
        data[i] = (uint8_t)(s->off + i + s->buf);
    put_header(t, &h);
    put(t, data, n);
    if (!t->wrong)
        advance(t, s, n);
}

static void small(struct talk *t, struct input *in)
{
    size_t n, nr;
    const uint8_t *route = in_bytes(in, 200, &nr), *data = in_bytes(in, 2000, &n);
    uint8_t type = 1 + in_u8(in) % (MSG_TYPE_END - 1);
    if (type == MSG_CHUNK || type == MSG_CREDIT || type == MSG_OUTPUT)
        type = MSG_TASK;
    put_header(t, &(struct header){
                      .type = type, .route_len = (uint32_t)nr, .nbufs = n > 0, .body_len = n});
    put(t, route, nr);
    put(t, data, n);
    if (type == MSG_PING || type == MSG_PONG || type == MSG_MEMFD || type == MSG_RELEASE ||
        type >= MSG_BLOB)
        t->wrong = true; /* the link's own, and reserved: never delivered */
    t->whole++;
}

/* Something to be kept under a number; a message that begins with it; its end. */
static void blob(struct talk *t, struct input *in)
{
    static uint8_t data[10000];
    uint8_t what = in_u8(in) % 4, number = in_u8(in) % BLOBS;
    size_t n = 1 + in_u16(in) % (sizeof data - 1);
    uint64_t route = number; /* as on the wire */
    struct header h = {.type = MSG_OUTPUT, .flags = MSG_F_BLOB, .seq = number};
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)(i + (what > 1)); /* buffer 1 of the whole */
    t->wrong |= t->blobs[number] == (what == 0);
    if (what < 2) {
        h.flags = 0;
        h.type = what == 0 ? MSG_BLOB : MSG_DROP;
        n = what == 0 ? n : 0;
        t->blobs[number] = what == 0;
    } else {
        h.route_len = sizeof route;
        t->whole++;
    }
    h.nbufs = n > 0;
    h.body_len = n;
    put_header(t, &h);
    put(t, &route, h.route_len);
    put(t, data, n);
}

/* Closed by the end of the process; 0: not made yet. */
static int memfd_of(int *fd, off_t size, int seals)
{
    if (!*fd) {
        *fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (*fd < 0 || ftruncate(*fd, size) || (seals && fcntl(*fd, F_ADD_SEALS, seals)))
            abort();
    }
    return *fd;
}

static void put_fd(struct talk *t, const struct header *h, int fd)
{
    uint8_t bytes[WIRE_HEADER_SIZE];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof fd)];
    } control = {.space = {0}};
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    header_encode(bytes, h);
    if (sendmsg(t->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof bytes)
        t->wrong = true; /* it did not go */
}

/* A buffer as a descriptor: right, or with something changed. */
static void memfd(struct talk *t, struct input *in)
{
    static int good, unsealed, small_one;
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    uint8_t lie = in_u8(in);
    struct header h = {.type = MSG_MEMFD, .count = 1, .seq = t->nsent + 1, .aux = t->nfds + 1};
    if (t->nsent == TRANSFERS)
        return;
    t->sent[t->nsent++] = (struct sent){.nbufs = 1, .done = true};
    put_header(t, &(struct header){.type = lie == 1 ? MSG_QUERY : MSG_TASK,
                                   .nbufs = 1,
                                   .body_len = (lie == 2 ? 200000 : 300000) + in_u8(in),
                                   .flags = MSG_F_CHUNKED});
    if (lie == 3)
        h.aux = in_number(in);
    if (lie == 4)
        h.engine = (uint32_t)in_number(in);
    if (lie == 5)
        h.count = (uint32_t)in_number(in);
    if (lie == 6)
        h.seq = in_number(in);
    t->wrong |= !t->memfds || (lie >= 1 && lie <= 9);
    settle(t);
    if (t->closed)
        return;
    if (lie == 7)
        put_header(t, &h);
    else
        put_fd(t, &h,
               lie == 8   ? memfd_of(&unsealed, 400000, 0)
               : lie == 9 ? memfd_of(&small_one, 1000, seals)
                          : memfd_of(&good, 400000, seals));
    t->nfds++;
    t->whole++;
    settle(t);
}

static void own(struct talk *t, struct input *in)
{
    uint8_t how = in_u8(in);
    struct payload **p = &t->kept[how / 16 % KEPT];
    struct header h = {.type = MSG_TASK};
    int flags = (how & 1 ? LINK_AFTER_BULK : 0) | (how & 2 ? LINK_SHARE : 0);
    if (t->closed)
        return;
    if (how & 4 || !*p) {
        uint64_t len[2] = {(uint64_t)in_u16(in) * (1 + in_u8(in) % 64), in_u8(in)};
        payload_unref(*p);
        if (payload_new_large(p, 2, len))
            abort();
    }
    if (link_send(t->link, &h, "route", how & 8 ? 5 : 0, *p, flags))
        t->wrong = true;
}

static void step(struct talk *t, struct input *in)
{
    size_t n;
    const uint8_t *raw;
    switch (in_u8(in) % 13) {
    case 11:
    case 12:
        blob(t, in);
        break;
    case 0:
    case 1:
        announce(t, in);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        chunk(t, in);
        break;
    case 6:
        small(t, in);
        break;
    case 7:
        t->wrong = true; /* nothing was owed, perhaps */
        put_header(t, &(struct header){.type = MSG_CREDIT, .aux = in_number(in)});
        break;
    case 8:
        own(t, in);
        break;
    case 9:
        settle(t);
        if (!t->closed && t->manual && in_bool(in)) {
            link_credit(t->link, t->manual_due);
            t->manual_due = 0;
        }
        if (!t->closed && in_u8(in) == 7) {
            link_close_after_flush(t->link, 1000000);
            t->leaving = true;
        }
        break;
    default:
        if (t->memfds) {
            memfd(t, in);
            break;
        }
        raw = in_bytes(in, 300, &n);
        t->wrong |= n > 0;
        put(t, raw, n);
    }
}

/* The options are two bytes; bit 0 of the first: bytes as they are. */
static void talk(struct talk *t, struct input *in)
{
    static const struct wire_limits open = {.body_max = 1 << 24, .route_max = WIRE_ROUTE_MAX};
    static const uint64_t windows[] = {LINK_CREDIT_DEFAULT, 1 << 20, 100000};
    uint8_t how = in_u8(in);
    t->window = windows[in_u8(in) % 3];
    if (how & 2)
        link_set_limits(t->link, &open);
    link_set_window(t->link, t->window);
    t->manual = how & 4;
    link_set_manual_credit(t->link, t->manual);
    t->wrong = !(how & 2);
    t->memfds = how & 16;
    if (t->memfds)
        link_set_memfds(
            t->link, &(struct link_memfds){.send = 4, .receive = 2 * TRANSFERS, .map = how & 32});
    if (how & 1) {
        t->wrong = true;
        while (in->left && !t->closed) {
            size_t n = how & 8 ? in_u8(in) : in->left;
            n = n > in->left ? in->left : n;
            put(t, in->at, n);
            in->at += n;
            in->left -= n;
            settle(t);
        }
    }
    while (in->left && !t->closed)
        step(t, in);
    settle(t);
    if (!t->wrong && !t->leaving)
        assert(!t->closed && t->got == t->whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct link_callbacks callbacks = {.on_msg = on_msg, .on_closed = on_closed};
    static struct loop *loop; /* one for all runs */
    static struct talk t;
    struct input in = {data, n};
    struct transport *tr;
    int fds[2];
    if ((!loop && loop_new(&loop)) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) ||
        stream_transport_new(&tr, fds[0]))
        abort();
    t = (struct talk){.loop = loop};
    t.fd = fds[1];
    if (link_new(&t.link, loop, tr, &callbacks, &t))
        abort();
    turns(&t, 2);
    talk(&t, &in);
    close(t.fd);
    turns(&t, 3);
    link_free(t.link);
    for (int i = 0; i < KEPT; i++)
        payload_unref(t.kept[i]);
    turns(&t, 2);
    return 0;
}
