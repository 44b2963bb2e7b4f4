/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Buffers as descriptors: who holds a region for how long, and what a peer may not do. Links joined
 * by a socket pair; for breaches the peer is a bare descriptor. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "net/loop_priv.h"
#include "net/pool.h"
#include "net/test_pair.h"

#define MIB (1u << 20)
#define BIG (5u * MIB) /* is mapped where it is received */
#define MEDIUM MIB     /* is copied there */

static int open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void agree(struct link *l, struct link_memfds m)
{
    link_set_memfds(l, &m);
}

static void open_agreed(struct pair *p, uint32_t most, bool map)
{
    pair_open(p);
    agree(p->a.link, (struct link_memfds){.send = most, .receive = most, .map = true});
    agree(p->b.link, (struct link_memfds){.send = most, .receive = most, .map = map});
}

/* A payload in regions of pool: a small buffer, then n of `len` bytes with a pattern each. */
static struct payload *in_regions(struct pool *pool, uint32_t n, uint64_t len, unsigned salt)
{
    uint64_t lens[64] = {5};
    struct region *regions[64] = {NULL};
    struct payload *p;
    for (uint32_t i = 1; i <= n; i++) {
        lens[i] = len;
        regions[i] = pool_get(pool, len);
        assert_non_null(regions[i]);
        for (uint64_t k = 0; k < len; k += 509)
            regions[i]->data[k] = (uint8_t)(k / 509 + salt + i);
    }
    assert_int_equal(payload_new_regions(&p, n + 1, lens, regions), CV_OK);
    memcpy(p->bufs[0].data, "small", 5);
    for (uint32_t i = 1; i <= n; i++)
        region_unref(regions[i]);
    return p;
}

static void check(const struct payload *p, uint32_t n, uint64_t len, unsigned salt)
{
    assert_int_equal(p->nbufs, n + 1);
    assert_memory_equal(p->bufs[0].data, "small", 5);
    for (uint32_t i = 1; i <= n; i++) {
        assert_int_equal(p->bufs[i].len, len);
        for (uint64_t k = 0; k < len; k += 509)
            if (p->bufs[i].data[k] != (uint8_t)(k / 509 + salt + i))
                fail_msg("byte %llu of buffer %u", (unsigned long long)k, i);
    }
}

static void post(struct link *l, uint8_t type, uint64_t seq, struct payload *p_take)
{
    struct header h = {.type = type, .seq = seq};
    assert_int_equal(link_send(l, &h, NULL, 0, p_take, 0), CV_OK);
    payload_unref(p_take);
}

/* Keeps what comes, newest first. */
static void keep(struct end *end, struct msg *m)
{
    m->next = end->arg;
    end->arg = m;
}

static struct msg *wait_msg(struct pair *p, struct end *end)
{
    uint64_t before = end->msgs;
    end->on_msg = keep;
    while (!end->arg && !end->closed)
        pair_settle(p);
    assert_true(end->msgs >= before);
    struct msg *m = end->arg;
    assert_non_null(m);
    end->arg = m->next;
    return m;
}

static void wait_idle(struct pair *p, struct pool *pool, uint32_t n)
{
    struct pool_stats s;
    do {
        pair_settle(p);
        pool_stats(pool, &s);
    } while (s.idle < n);
    assert_int_equal(s.idle, n);
}

static void large_buffers_arrive_and_come_back(void **state)
{
    struct pair p;
    struct pool *pool;
    struct pool_stats s;
    pair_open(&p); /* libuv keeps what its first loop opens */
    pair_close(&p);
    int before = open_files();
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 100, true);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t len = round % 2 ? BIG : MEDIUM;
        post(p.a.link, MSG_TASK, round, in_regions(pool, 3, len, round));
        struct msg *m = wait_msg(&p, &p.b);
        assert_int_equal(m->h.flags & MSG_F_CHUNKED, 0);
        check(m->payload, 3, len, round);
        memset(m->payload->bufs[1].data, 0xee, len); /* always writable */
        msg_free(m);
        wait_idle(&p, pool, round ? 6 : 3);
    }
    pool_stats(pool, &s);
    assert_int_equal(s.n, 6);
    assert_int_equal(s.reused, 54);
    assert_int_equal(link_queued_bytes(p.a.link), 0);
    pool_free(pool);
    pair_close(&p);
    assert_int_equal(open_files(), before);
}

static void a_region_waits_for_its_last_view(void **state)
{
    struct pair p;
    struct pool *pool;
    struct pool_stats s;
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 100, true);
    post(p.a.link, MSG_RESULT, 1, in_regions(pool, 2, BIG, 0));
    struct msg *m = wait_msg(&p, &p.b);
    struct region *view = region_ref(m->payload->bufs[2].region);
    msg_free(m);
    wait_idle(&p, pool, 1); /* the other one */
    post(p.a.link, MSG_RESULT, 2, in_regions(pool, 2, BIG, 40));
    msg_free(wait_msg(&p, &p.b));
    wait_idle(&p, pool, 2);
    assert_int_equal(view->data[509], 1 + 0 + 2); /* what it was */
    region_unref(view);
    wait_idle(&p, pool, 3);
    pool_stats(pool, &s);
    assert_int_equal(s.dropped, 0);
    pool_free(pool);
    pair_close(&p);
}

static void a_lost_link_leaves_no_region_to_be_written(void **state)
{
    struct pair p;
    struct pool *pool;
    struct pool_stats s;
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 100, true);
    struct payload *mine = in_regions(pool, 1, BIG, 3);
    post(p.a.link, MSG_TASK, 1, payload_ref(mine));
    struct msg *m = wait_msg(&p, &p.b);
    link_free(p.a.link); /* the peer holds on */
    p.a.link = NULL;
    check(mine, 1, BIG, 3);
    payload_unref(mine);
    pool_stats(pool, &s);
    assert_int_equal(s.n, 0);
    assert_int_equal(s.dropped, 1);
    check(m->payload, 1, BIG, 3);
    link_free(p.b.link); /* and outlives both */
    p.b.link = NULL;
    msg_free(m);
    pool_free(pool);
    pair_close(&p);
}

/* A hop passes the descriptor on to two, and each of them, the hop and the sender hold it. */
static void a_hop_passes_on_what_it_never_maps(void **state)
{
    struct pair p, q, r;
    struct pool *pool;
    uint32_t kept = 0;
    struct link_memfds hop = {.send = 10, .receive = 10, .kept = &kept, .kept_max = 10};
    int before = open_files();
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 10, false);
    agree(p.b.link, hop);
    open_agreed(&q, 10, true);
    open_agreed(&r, 10, true);
    post(p.a.link, MSG_TASK, 1, in_regions(pool, 1, BIG, 9));
    struct msg *m = wait_msg(&p, &p.b);
    assert_null(m->payload->bufs[1].data);
    assert_int_equal(kept, 1);
    post(q.a.link, MSG_TASK, 1, payload_ref(m->payload));
    post(r.a.link, MSG_TASK, 1, payload_ref(m->payload));
    msg_free(m);
    struct msg *mq = wait_msg(&q, &q.b), *mr = wait_msg(&r, &r.b);
    check(mq->payload, 1, BIG, 9);
    check(mr->payload, 1, BIG, 9);
    mq->payload->bufs[1].data[0] = 99; /* to itself */
    check(mr->payload, 1, BIG, 9);
    msg_free(mq);
    pair_settle(&q);
    pair_settle(&q);
    pair_settle(&p);
    assert_int_equal(kept, 1);
    msg_free(mr);
    while (kept)
        pair_settle(&r);
    wait_idle(&p, pool, 1);
    pool_free(pool);
    pair_close(&p);
    pair_close(&q);
    pair_close(&r);
    assert_int_equal(open_files(), before);
}

/* One of two receivers dies holding it: the owner hears that it must not be written again. */
static void a_dead_holder_is_told_to_the_owner(void **state)
{
    struct pair p, q;
    struct pool *pool;
    struct pool_stats s;
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 10, false);
    open_agreed(&q, 10, true);
    post(p.a.link, MSG_TASK, 1, in_regions(pool, 1, BIG, 9));
    struct msg *m = wait_msg(&p, &p.b);
    post(q.a.link, MSG_TASK, 1, payload_ref(m->payload));
    msg_free(m);
    m = wait_msg(&q, &q.b);
    link_free(q.a.link);
    q.a.link = NULL;
    do {
        pair_settle(&p);
        pool_stats(pool, &s);
    } while (s.n);
    assert_int_equal(s.dropped, 1);
    check(m->payload, 1, BIG, 9);
    msg_free(m);
    pool_free(pool);
    pair_close(&p);
    pair_close(&q);
}

/* Where descriptors don't reach, the bytes are read from the memfd. */
static void a_hop_sends_frames_where_descriptors_do_not_reach(void **state)
{
    struct pair p, q;
    struct pool *pool;
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 10, false);
    pair_open(&q); /* nothing is agreed on */
    for (unsigned i = 0; i < 3; i++) {
        post(p.a.link, MSG_TASK, i, in_regions(pool, 2, BIG, i));
        struct msg *m = wait_msg(&p, &p.b);
        post(q.a.link, MSG_TASK, i, payload_ref(m->payload));
        msg_free(m);
        m = wait_msg(&q, &q.b);
        check(m->payload, 2, BIG, i);
        assert_false(payload_has_regions(m->payload));
        msg_free(m);
        wait_idle(&p, pool, 2);
    }
    pool_free(pool);
    pair_close(&p);
    pair_close(&q);
}

/* A hop between machines: what it received in frames goes on as one memfd to all that are near. */
static void what_came_in_frames_goes_on_as_a_descriptor(void **state)
{
    struct pair p, q, r;
    struct pool *pool;
    struct pool_stats s;
    int before = open_files();
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    pair_open(&p); /* nothing is agreed on */
    link_receive_into_memfds(p.b.link);
    open_agreed(&q, 10, true);
    open_agreed(&r, 10, true);
    for (unsigned i = 0; i < 3; i++) {
        post(p.a.link, MSG_TASK, i, in_regions(pool, 2, BIG, i));
        struct msg *m = wait_msg(&p, &p.b);
        check(m->payload, 2, BIG, i);
        post(q.a.link, MSG_TASK, i, payload_ref(m->payload));
        post(r.a.link, MSG_TASK, i, payload_ref(m->payload));
        msg_free(m);
        struct msg *mq = wait_msg(&q, &q.b), *mr = wait_msg(&r, &r.b);
        assert_true(payload_has_regions(mq->payload) && payload_has_regions(mr->payload));
        check(mq->payload, 2, BIG, i);
        check(mr->payload, 2, BIG, i);
        msg_free(mq);
        msg_free(mr);
        do {
            pair_settle(&q);
            pair_settle(&r);
            pool_stats(loop_pool(p.loop), &s);
        } while (s.idle < 2);
        assert_int_equal(s.made, 2);
    }
    for (unsigned i = 0; i < 2; i++) { /* not worth it, or no message that goes on */
        post(p.a.link, i ? MSG_OUTPUT : MSG_TASK, i, in_regions(pool, 1, i ? BIG : MEDIUM, i));
        struct msg *m = wait_msg(&p, &p.b);
        assert_false(payload_has_regions(m->payload));
        msg_free(m);
    }
    pool_free(pool);
    pair_close(&p);
    pair_close(&q);
    pair_close(&r);
    assert_int_equal(open_files(), before);
}

/* A hop that keeps as many as it may copies what comes beyond. */
static void a_hop_keeps_so_many_and_copies_the_others(void **state)
{
    struct pair p;
    struct pool *pool;
    uint32_t kept = 0;
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 10, false);
    agree(p.b.link, (struct link_memfds){.send = 10, .receive = 10, .kept = &kept, .kept_max = 2});
    post(p.a.link, MSG_TASK, 1, in_regions(pool, 4, MEDIUM, 1));
    struct msg *m = wait_msg(&p, &p.b);
    assert_int_equal(kept, 2);
    assert_non_null(m->payload->bufs[2].region);
    assert_null(m->payload->bufs[3].region);
    wait_idle(&p, pool, 2);
    region_data(m->payload->bufs[1].region);
    region_data(m->payload->bufs[2].region);
    m->payload->bufs[1].data = m->payload->bufs[1].region->data;
    m->payload->bufs[2].data = m->payload->bufs[2].region->data;
    check(m->payload, 4, MEDIUM, 1);
    msg_free(m);
    assert_int_equal(kept, 0);
    wait_idle(&p, pool, 4);
    pool_free(pool);
    pair_close(&p);
}

/* Beyond what the peer takes at a time, and without credit for frames, order and contents hold. */
static void more_than_the_peer_takes_goes_in_frames(void **state)
{
    struct pair p;
    struct pool *pool;
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 3, true);
    post(p.a.link, MSG_TASK, 1, in_regions(pool, 8, BIG, 1));
    struct msg *m = wait_msg(&p, &p.b);
    check(m->payload, 8, BIG, 1);
    assert_non_null(m->payload->bufs[3].region);
    assert_null(m->payload->bufs[4].region);
    struct payload *held = payload_ref(m->payload);
    msg_free(m);
    link_set_credit(p.a.link, 0);
    post(p.a.link, MSG_TASK, 2, in_regions(pool, 1, BIG, 2));
    pair_settle(&p);
    assert_null(p.b.arg);
    payload_unref(held);
    link_set_credit(p.a.link, 64 * MIB);
    m = wait_msg(&p, &p.b);
    check(m->payload, 1, BIG, 2);
    msg_free(m);
    pool_free(pool);
    pair_close(&p);
}

static void descriptors_need_no_credit(void **state)
{
    struct pair p;
    struct pool *pool;
    uint64_t len = BIG;
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 3, true);
    link_set_credit(p.a.link, 0);
    struct payload *stuck = pattern(BIG, 0), *one;
    post(p.a.link, MSG_TASK, 1, stuck);
    struct region *g = pool_get(pool, len);
    assert_int_equal(payload_new_regions(&one, 1, &len, &g), CV_OK);
    region_unref(g);
    post(p.a.link, MSG_TASK, 2, one);
    struct msg *m = wait_msg(&p, &p.b);
    assert_int_equal(m->h.seq, 2);
    msg_free(m);
    pool_free(pool);
    pair_close(&p);
}

/* While this process has forked, its child may look: such a region is never written again. */
static void a_fork_pins_what_is_mapped(void **state)
{
    struct pair p;
    struct pool *pool;
    struct pool_stats s;
    atomic_uint forks = 0;
    int go[2], status;
    char c;
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
    open_agreed(&p, 10, true);
    agree(p.b.link, (struct link_memfds){.receive = 10, .map = true, .forks = &forks});
    post(p.a.link, MSG_TASK, 1, in_regions(pool, 1, BIG, 6));
    struct msg *m = wait_msg(&p, &p.b);
    atomic_fetch_add(&forks, 1);
    pid_t child = fork();
    atomic_fetch_add(&forks, 1);
    if (child == 0) {
        close(go[1]);
        if (read(go[0], &c, 1) != 0)
            _exit(2);
        uint8_t seen = m->payload->bufs[1].data[509];
        msg_free(m); /* tells nobody */
        _exit(seen == 1 + 6 + 1 ? 0 : 1);
    }
    close(go[0]);
    msg_free(m);
    do {
        pair_settle(&p);
        pool_stats(pool, &s);
    } while (s.n);
    assert_int_equal(s.dropped, 1);
    for (unsigned i = 0; i < 3; i++) {
        post(p.a.link, MSG_TASK, 2 + i, in_regions(pool, 1, BIG, 50));
        msg_free(wait_msg(&p, &p.b));
        wait_idle(&p, pool, 1); /* what came after the fork is used again */
    }
    close(go[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    pool_free(pool);
    pair_close(&p);
}

/* Nor is what another thread maps between the two counts of a fork, whenever it is dropped. */
static void a_fork_under_way_pins_what_is_mapped(void **state)
{
    for (int dropped_meanwhile = 0; dropped_meanwhile < 2; dropped_meanwhile++) {
        struct pair p;
        struct pool *pool;
        struct pool_stats s;
        atomic_uint forks = 1;
        assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);
        open_agreed(&p, 10, true);
        agree(p.b.link, (struct link_memfds){.receive = 10, .map = true, .forks = &forks});
        post(p.a.link, MSG_TASK, 1, in_regions(pool, 1, BIG, 6));
        struct msg *m = wait_msg(&p, &p.b);
        if (dropped_meanwhile)
            msg_free(m);
        atomic_fetch_add(&forks, 1);
        if (!dropped_meanwhile)
            msg_free(m);
        do {
            pair_settle(&p);
            pool_stats(pool, &s);
        } while (s.n);
        assert_int_equal(s.dropped, 1);
        pool_free(pool);
        pair_close(&p);
    }
}

/* ---- what a peer may not do ---- */

static void put(struct pair *p, const struct header *h, const int *fds, int nfds)
{
    uint8_t bytes[WIRE_HEADER_SIZE];
    char control[CMSG_SPACE(64 * sizeof(int))] = {0};
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    header_encode(bytes, h);
    if (nfds) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)nfds * sizeof(int));
    }
    assert_int_equal(sendmsg(p->fd, &m, MSG_NOSIGNAL), sizeof bytes);
}

static void open_bare(struct pair *p)
{
    pair_open_bare(p);
    agree(p->a.link, (struct link_memfds){.send = 4, .receive = 4, .map = true});
}

static void expect(struct pair *p, int code, const char *part)
{
    while (!p->a.closed)
        loop_run(p->loop);
    if (p->a.code != code || !strstr(p->a.why, part))
        fail_msg("%s: %s", err_name(p->a.code), p->a.why);
    pair_close(p);
}

static void announce(struct pair *p, uint8_t type, uint64_t body)
{
    put(p, &(struct header){.type = type, .nbufs = 1, .body_len = body, .flags = MSG_F_CHUNKED},
        NULL, 0);
}

static struct header memfd_header(uint32_t count)
{
    return (struct header){.type = MSG_MEMFD, .seq = 1, .count = count, .aux = 1};
}

static int sealed_memfd(off_t size, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void one_descriptor(int fd_take, uint64_t body, const char *why)
{
    struct pair p;
    struct header h = memfd_header(1);
    int before = open_files();
    open_bare(&p);
    announce(&p, MSG_TASK, body);
    put(&p, &h, &fd_take, 1);
    close(fd_take);
    expect(&p, CV_EPROTO, why);
    assert_int_equal(open_files(), before - 1);
}

static void descriptors_that_are_no_sealed_memfds(void **state)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    char path[] = "/tmp/covey-test-XXXXXX";
    int file = mkstemp(path), pipes[2];
    assert_true(file >= 0);
    unlink(path);
    assert_int_equal(ftruncate(file, BIG), 0);
    assert_int_equal(pipe(pipes), 0);
    close(pipes[1]);
    one_descriptor(file, BIG, "no memfd");
    one_descriptor(pipes[0], BIG, "no memfd");
    one_descriptor(sealed_memfd(BIG, 0), BIG, "not sealed");
    one_descriptor(sealed_memfd(BIG, F_SEAL_GROW), BIG, "not sealed");
    one_descriptor(sealed_memfd(BIG, F_SEAL_SHRINK), BIG, "not sealed");
    one_descriptor(sealed_memfd(BIG - 1, seals), BIG, "smaller than its buffer");
    one_descriptor(sealed_memfd(BIG, seals), 100000, "small buffer");
}

static void descriptors_out_of_place(void **state)
{
    struct pair p;
    struct header h = memfd_header(1);
    int fd = sealed_memfd(BIG, F_SEAL_SHRINK | F_SEAL_GROW), fds[64];
    int before = open_files();
    for (int i = 0; i < 64; i++)
        fds[i] = fd;

    open_bare(&p); /* of nothing */
    put(&p, &h, &fd, 1);
    expect(&p, CV_EPROTO, "not on its way");

    open_bare(&p); /* none comes */
    announce(&p, MSG_TASK, BIG);
    put(&p, &h, NULL, 0);
    expect(&p, CV_EPROTO, "without its descriptor");

    open_bare(&p); /* a hop reads these */
    announce(&p, MSG_QUERY, BIG);
    put(&p, &h, &fd, 1);
    expect(&p, CV_EPROTO, "where there can be none");

    open_bare(&p);
    announce(&p, MSG_TASK, BIG);
    h.count = 2;
    put(&p, &h, fds, 2);
    expect(&p, CV_EPROTO, "more buffers than there are");

    open_bare(&p);
    announce(&p, MSG_TASK, BIG);
    h = memfd_header(1);
    h.aux = 7;
    put(&p, &h, &fd, 1);
    expect(&p, CV_EPROTO, "wrong number");

    open_bare(&p);
    announce(&p, MSG_TASK, BIG);
    h = memfd_header(0);
    put(&p, &h, &fd, 1);
    expect(&p, CV_EPROTO, "wrong form");

    open_bare(&p); /* with what tells of none */
    for (int i = 0; i < 3; i++)
        put(&p, &(struct header){.type = MSG_PONG}, fds, 30);
    expect(&p, CV_EPROTO, "descriptors of no message");

    open_bare(&p); /* more at a time than any write has */
    put(&p, &(struct header){.type = MSG_PONG}, fds, 64);
    expect(&p, CV_ENFILE, "could not be taken in");

    pair_open_bare(&p); /* nothing was agreed on */
    announce(&p, MSG_TASK, BIG);
    h = memfd_header(1);
    put(&p, &h, &fd, 1);
    expect(&p, CV_EPROTO, "where there can be none");

    assert_int_equal(open_files(), before);
    close(fd);
}

static void more_descriptors_than_agreed(void **state)
{
    struct pair p;
    int fd = sealed_memfd(BIG, F_SEAL_SHRINK | F_SEAL_GROW);
    open_bare(&p);
    p.a.on_msg = keep;
    for (uint32_t i = 1; i <= 5; i++) {
        struct header h = memfd_header(1);
        h.seq = h.aux = i;
        announce(&p, MSG_TASK, BIG);
        put(&p, &h, &fd, 1);
    }
    while (!p.a.closed)
        loop_run(p.loop);
    assert_int_equal(p.a.msgs, 4);
    assert_non_null(strstr(p.a.why, "more descriptors than it may send"));
    for (struct msg *m = p.a.arg, *next; m; m = next) {
        next = m->next;
        msg_free(m);
    }
    close(fd);
    pair_close(&p);
}

static void releases_of_what_is_not_held(void **state)
{
    struct pair p;
    struct pool *pool;
    struct pool_stats s;
    struct header release = {.type = MSG_RELEASE, .seq = 1, .count = 1};
    assert_int_equal(pool_new(&pool, 1u << 30), CV_OK);

    open_bare(&p); /* nothing was lent */
    put(&p, &release, NULL, 0);
    expect(&p, CV_EPROTO, "does not hold");

    open_bare(&p); /* twice */
    post(p.a.link, MSG_TASK, 1, in_regions(pool, 1, BIG, 0));
    pair_settle(&p);
    pool_stats(pool, &s);
    assert_int_equal(s.idle, 0);
    put(&p, &release, NULL, 0);
    pair_settle(&p);
    pool_stats(pool, &s);
    assert_int_equal(s.idle, 1);
    put(&p, &release, NULL, 0);
    expect(&p, CV_EPROTO, "does not hold");

    open_bare(&p); /* of several */
    post(p.a.link, MSG_TASK, 1, in_regions(pool, 1, BIG, 0));
    pair_settle(&p);
    release.count = 2;
    put(&p, &release, NULL, 0);
    expect(&p, CV_EPROTO, "does not hold");
    pool_stats(pool, &s);
    assert_int_equal(s.n, 0); /* in doubt it is dropped */
    pool_free(pool);
}

static void no_room_for_a_descriptor_is_told(void **state)
{
    struct pair p;
    struct header h = memfd_header(1);
    struct rlimit was, none;
    int fd = sealed_memfd(BIG, F_SEAL_SHRINK | F_SEAL_GROW);
    open_bare(&p);
    announce(&p, MSG_TASK, BIG);
    put(&p, &h, &fd, 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = (struct rlimit){3, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (!p.a.closed)
        loop_run(p.loop);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    close(fd);
    expect(&p, CV_ENFILE, "too many files open");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_buffers_arrive_and_come_back),
        cmocka_unit_test(a_region_waits_for_its_last_view),
        cmocka_unit_test(a_lost_link_leaves_no_region_to_be_written),
        cmocka_unit_test(a_hop_passes_on_what_it_never_maps),
        cmocka_unit_test(a_dead_holder_is_told_to_the_owner),
        cmocka_unit_test(a_hop_sends_frames_where_descriptors_do_not_reach),
        cmocka_unit_test(what_came_in_frames_goes_on_as_a_descriptor),
        cmocka_unit_test(a_hop_keeps_so_many_and_copies_the_others),
        cmocka_unit_test(more_than_the_peer_takes_goes_in_frames),
        cmocka_unit_test(descriptors_need_no_credit),
        cmocka_unit_test(a_fork_pins_what_is_mapped),
        cmocka_unit_test(a_fork_under_way_pins_what_is_mapped),
        cmocka_unit_test(descriptors_that_are_no_sealed_memfds),
        cmocka_unit_test(descriptors_out_of_place),
        cmocka_unit_test(more_descriptors_than_agreed),
        cmocka_unit_test(releases_of_what_is_not_held),
        cmocka_unit_test(no_room_for_a_descriptor_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
