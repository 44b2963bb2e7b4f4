/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Buffers that cross a link as descriptors of memfds (docs/protocol.md, MEMFD and RELEASE).
 *
 * Sending: from the moment that descriptors have left, the link holds a reference of each region
 * under the number that both ends count, until RELEASE names it. A link that ends with regions lent
 * can't know what the peer still maps: it sets their `discard`.
 *
 * A hop that has large buffers to pass on receives them into memfds of its loop's pool, also where
 * they come as CHUNKs, from another machine.
 *
 * Receiving: a descriptor is what a peer says it is only after a look: a memfd that can neither
 * shrink nor lie on a file system where touching it may fail. What does not fit kills the link. A
 * received region knows the inbox of the link that it came by; dropped on any thread, it goes there
 * and the link says RELEASE. An inbox outlives its link as long as such regions do.
 *
 * After a fork the child may read what was mapped before for as long as it lives: what was mapped
 * while this process forked is released with `discard`. In the child a region only unmaps. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "net/link_priv.h"

#define COPY_MAX (4u << 20) /* up to this a receiver copies it out and releases it at once */

enum { RELEASE_AGAIN = 0, RELEASE_DISCARD = 1 }; /* header.status of RELEASE */

struct inbox {
    pthread_mutex_t mu; /* a leaf, but for due() and the loop's list of jobs */
    unsigned refs;
    struct link *link; /* NULL: it has ended, nobody is told any more */
    struct received *head, **tail;
    uint64_t numbers; /* descriptors received; this and the next are the link's alone */
    uint32_t taken;   /* of these, RELEASE was not sent yet */
};

struct received {
    struct region r;
    struct received *next; /* in inbox, once dropped */
    struct inbox *inbox;
    uint64_t number;
    uint32_t *kept; /* counted there while it has its descriptor; NULL: not counted */
    const atomic_uint *forks;
    unsigned born; /* *forks before it was mapped */
    pid_t pid;
};

/* ---- what was received and is dropped ---- */

static void inbox_unref(struct inbox *in)
{
    pthread_mutex_lock(&in->mu);
    bool last = --in->refs == 0;
    pthread_mutex_unlock(&in->mu);
    if (!last)
        return;
    pthread_mutex_destroy(&in->mu);
    free(in);
}

static void inbox_put(struct inbox *in, struct received *rc)
{
    pthread_mutex_lock(&in->mu);
    struct link *l = in->link;
    if (l) {
        bool first = !in->head;
        rc->next = NULL;
        *in->tail = rc;
        in->tail = &rc->next;
        if (first && l->memfds.due)
            l->memfds.due(l->memfds.arg);
        else if (first)
            link_schedule_flush(l);
    }
    pthread_mutex_unlock(&in->mu);
    if (!l)
        free(rc);
}

/* A fork has begun since it was mapped, or had and has not ended. */
static bool child_may_see(const struct received *rc)
{
    unsigned forks = rc->forks ? atomic_load(rc->forks) : rc->born;
    return forks != rc->born || forks % 2;
}

static void received_release(struct region *r)
{
    struct received *rc = (struct received *)r;
    struct inbox *in = rc->inbox;
    if (r->data)
        munmap(r->data, r->len);
    if (r->fd >= 0)
        close(r->fd);
    if (rc->pid != getpid()) { /* the parent tells; its inbox may be locked for ever here */
        free(rc);
        return;
    }
    if (rc->kept)
        --*rc->kept;
    if (child_may_see(rc))
        atomic_store(&r->discard, true);
    inbox_put(in, rc);
    inbox_unref(in);
}

static int need_inbox(struct link *l)
{
    struct inbox *in = l->inbox ? NULL : calloc(1, sizeof *in);
    if (!in)
        return l->inbox ? CV_OK : CV_ENOMEM;
    pthread_mutex_init(&in->mu, NULL);
    in->refs = 1;
    in->link = l;
    in->tail = &in->head;
    l->inbox = in;
    return CV_OK;
}

static struct received *received_new(struct link *l, int fd, uint64_t len)
{
    struct received *rc = need_inbox(l) ? NULL : calloc(1, sizeof *rc);
    if (!rc)
        return NULL;
    atomic_init(&rc->r.refs, 1);
    rc->r.fd = fd;
    rc->r.len = len;
    rc->r.release = received_release;
    rc->number = ++l->inbox->numbers;
    rc->pid = getpid();
    rc->inbox = l->inbox;
    pthread_mutex_lock(&l->inbox->mu);
    l->inbox->refs++;
    pthread_mutex_unlock(&l->inbox->mu);
    l->inbox->taken++;
    return rc;
}

int memfd_release_flush(struct link *l)
{
    int r = CV_OK;
    if (!l->inbox || l->state != LINK_READY)
        return CV_OK;
    pthread_mutex_lock(&l->inbox->mu);
    struct received *rc = l->inbox->head;
    l->inbox->head = NULL;
    l->inbox->tail = &l->inbox->head;
    pthread_mutex_unlock(&l->inbox->mu);
    while (rc) {
        struct received *next = rc->next;
        struct header h = {.type = MSG_RELEASE,
                           .status = atomic_load(&rc->r.discard) ? RELEASE_DISCARD : RELEASE_AGAIN,
                           .engine = WIRE_ENGINE_NONE,
                           .count = 1,
                           .seq = rc->number};
        uint8_t *p = r == CV_OK ? link_room(l, WIRE_HEADER_SIZE) : NULL;
        if (p)
            header_encode(p, &h);
        else
            r = CV_ENOMEM;
        l->inbox->taken--;
        free(rc);
        rc = next;
    }
    return r;
}

void link_release_due(struct link *l)
{
    if (!l->inbox)
        return;
    pthread_mutex_lock(&l->inbox->mu);
    bool due = l->inbox->head;
    pthread_mutex_unlock(&l->inbox->mu);
    if (due)
        link_schedule_flush(l);
}

/* ---- receiving ---- */

static int bad(struct link *l, const char *what)
{
    link_fail(l, CV_EPROTO, "the peer broke the protocol: %s", what);
    return CV_EPROTO;
}

/* Reading it must never fail: it has the size, keeps it, and is memory. */
static const char *wrong_with(int fd, uint64_t len)
{
    const int needed = F_SEAL_SHRINK | F_SEAL_GROW;
    struct stat st;
    struct statfs fs;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
        return "a descriptor that is no memfd";
    if ((seals & needed) != needed)
        return "a memfd that is not sealed";
    if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size < len)
        return "a memfd that is smaller than its buffer";
    return NULL;
}

static int copy_out(int fd, uint8_t *to, uint64_t len)
{
    for (uint64_t off = 0; off < len;) {
        ssize_t n = pread(fd, to + off, len - off, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return CV_ESYS;
        off += (uint64_t)n;
    }
    return CV_OK;
}

static bool map_private(struct link *l, struct received *rc)
{
    rc->forks = l->memfds.forks;
    rc->born = rc->forks ? atomic_load(rc->forks) : 0;
    void *m = mmap(NULL, rc->r.len, PROT_READ | PROT_WRITE, MAP_PRIVATE, rc->r.fd, 0);
    if (m == MAP_FAILED)
        return false;
    rc->r.data = m;
    close(rc->r.fd);
    rc->r.fd = -1;
    return true;
}

/* Buffer `buf` of t comes as fd. Takes fd. */
static int take_one(struct link *l, struct transfer *t, uint32_t buf, int fd)
{
    struct payload *p = t->m->payload;
    uint64_t len = p->bufs[buf].len;
    const char *wrong = len < REGION_MIN ? "a descriptor for a small buffer" : wrong_with(fd, len);
    struct received *rc = wrong ? NULL : received_new(l, fd, len);
    if (!rc) {
        close(fd);
        if (wrong)
            return bad(l, wrong);
        link_fail(l, CV_ENOMEM, "out of memory");
        return CV_ENOMEM;
    }
    if (t->left_out) {
        region_unref(&rc->r);
        return CV_OK;
    }
    bool keep = l->memfds.map ? len > COPY_MAX && map_private(l, rc)
                              : !l->memfds.kept || *l->memfds.kept < l->memfds.kept_max;
    if (keep) {
        if (!l->memfds.map && (rc->kept = l->memfds.kept))
            ++*rc->kept;
        payload_put(p, buf, &rc->r);
        return CV_OK;
    }
    int r = payload_map(p, buf);
    if (!r)
        r = copy_out(fd, p->bufs[buf].data, len);
    region_unref(&rc->r);
    if (r == CV_ENOMEM && bulk_leave_out(l, t))
        return CV_OK;
    if (r)
        link_fail(l, r, "no memory for a buffer of %" PRIu64 " bytes", len);
    return r;
}

/* Hops look into the buffers of other messages. */
static bool may_carry(uint8_t type)
{
    return type == MSG_TASK || type == MSG_RESULT || type == MSG_REPLY;
}

int memfd_room(struct link *l, struct transfer *t)
{
    struct payload *p = t->m->payload;
    const struct slice *s = &p->bufs[t->buf];
    bool goes_on = may_carry(t->m->h.type) || t->m->h.type == MSG_BLOB;
    if (!s->data && l->into_memfds && goes_on && s->len > COPY_MAX) {
        struct pool *pool = loop_pool(l->loop);
        struct region *r = pool ? pool_get(pool, s->len) : NULL;
        if (r)
            payload_put(p, t->buf, r);
    }
    return payload_map(p, t->buf);
}

int memfd_take(struct link *l, struct transfer *t, const struct header *h)
{
    if (!l->memfds.receive || !may_carry(t->m->h.type))
        return bad(l, "a MEMFD where there can be none");
    uint32_t taken = l->inbox ? l->inbox->taken : 0;
    if (h->aux != (l->inbox ? l->inbox->numbers : 0) + 1)
        return bad(l, "a MEMFD with a wrong number");
    if (h->count > l->memfds.receive || taken > l->memfds.receive - h->count)
        return bad(l, "more descriptors than it may send");
    for (uint32_t i = 0; i < h->count; i++) {
        int fd = l->t->ops->take_fd(l->t);
        if (fd < 0)
            return bad(l, "a MEMFD without its descriptor");
        int r = take_one(l, t, t->buf + i, fd);
        if (r)
            return r;
    }
    return CV_OK;
}

/* ---- sending ---- */

uint32_t memfd_count(const struct link *l, const struct held *h)
{
    const struct payload *p = h->payload;
    uint32_t n = 0, held = l->lent ? (uint32_t)l->lent->held.count : 0;
    if (!l->memfds.send || h->off || !may_carry(h->head[3])) /* the header's type */
        return 0;
    while (n < TRANSPORT_FDS_MAX && h->buf + n < p->nbufs && held + n < l->memfds.send) {
        const struct slice *s = &p->bufs[h->buf + n];
        if (!s->region || s->region->fd < 0 || s->len < REGION_MIN)
            break;
        n++;
    }
    return n;
}

void memfd_head(const struct link *l, struct frame *f)
{
    struct header h = {.type = MSG_MEMFD,
                       .engine = f->buf,
                       .count = f->nfds,
                       .seq = f->h->number,
                       .aux = (l->lent ? l->lent->numbers : 0) + 1};
    header_encode(f->head, &h);
}

void memfd_fds(const struct frame *f, int *fds)
{
    for (uint32_t i = 0; i < f->nfds; i++)
        fds[i] = f->h->payload->bufs[f->buf + i].region->fd;
}

int memfd_left(struct link *l, const struct frame *f)
{
    int r = CV_OK;
    if (f->nfds && !l->lent)
        l->lent = calloc(1, sizeof *l->lent);
    for (uint32_t i = 0; i < f->nfds; i++) {
        struct region *g = f->h->payload->bufs[f->buf + i].region;
        if (l->lent && hash_put(&l->lent->held, 0, ++l->lent->numbers, g, NULL) == CV_OK) {
            region_ref(g);
        } else {
            atomic_store(&g->discard, true);
            r = CV_ENOMEM;
        }
    }
    return r;
}

void memfd_released(struct link *l, const struct header *h)
{
    struct region *g =
        l->lent && h->count == 1 && !h->body_len ? hash_del(&l->lent->held, 0, h->seq) : NULL;
    if (!g) {
        bad(l, "a RELEASE of what it does not hold");
        return;
    }
    if (h->status != RELEASE_AGAIN)
        atomic_store(&g->discard, true);
    region_unref(g);
    if (!list_empty(&l->active))
        link_schedule_flush(l);
}

/* ---- life ---- */

void link_set_memfds(struct link *l, const struct link_memfds *m)
{
    if (!l->is_unix || !l->t || !l->t->ops->accept_fds)
        return;
    if (m->receive)
        l->t->ops->accept_fds(l->t);
    l->memfds = *m;
}

void link_receive_into_memfds(struct link *l)
{
    l->into_memfds = true;
}

void memfd_end(struct link *l)
{
    struct region *g;
    struct inbox *in = l->inbox;
    for (size_t i = 0; l->lent && (g = hash_next(&l->lent->held, &i));) {
        atomic_store(&g->discard, true);
        region_unref(g);
    }
    if (l->lent)
        hash_release(&l->lent->held);
    free(l->lent);
    l->lent = NULL;
    l->inbox = NULL;
    if (!in)
        return;
    pthread_mutex_lock(&in->mu);
    in->link = NULL;
    struct received *rc = in->head;
    in->head = NULL;
    pthread_mutex_unlock(&in->mu);
    while (rc) {
        struct received *next = rc->next;
        free(rc);
        rc = next;
    }
    inbox_unref(in);
}
