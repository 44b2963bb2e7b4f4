/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A CANCEL queued behind 1 GiB on a network of 100 Mbit/s has no more of that before it than
 * crosses in 100 ms, over plain TCP and over TLS. (The bytes, not the time: they are the same
 * however busy the machine is.) The network is a veth pair between two namespaces, shaped by tc;
 * they are made and removed here. Needs root, ip and tc: skipped, with the reason, where there are
 * none. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>

#include "net/test_pair.h"
#include "tls/tls.h"

#define CANCELS 10
#define MOST 1250000 /* bytes: 100 ms of 100 Mbit/s */
#define APART (50 * NS_PER_MS)

struct world {
    struct pair p; /* a sends to b */
    struct timer *t;
    struct tls_context *client, *server;
    int sent;
    uint64_t worst, total;
};

static int sh(const char *format, int pid)
{
    char command[512];
    snprintf(command, sizeof command, format, pid, pid, pid, pid);
    return system(command);
}

static int network_down(void **state)
{
    sh("ip netns del covey-a-%d 2>/dev/null; ip netns del covey-b-%d 2>/dev/null", (int)getpid());
    return 0;
}

/* What keeps the test from running, or NULL. */
static const char *network_up(void)
{
    if (geteuid() != 0)
        return "it needs root";
    if (sh("command -v ip >/dev/null && command -v tc >/dev/null", 0) != 0)
        return "it needs ip and tc (iproute2)";
    int pid = (int)getpid();
    if (sh("{ ip netns add covey-a-%d && ip netns add covey-b-%d; } 2>/dev/null", pid) != 0 ||
        sh("{ ip link add va netns covey-a-%d type veth peer name vb netns covey-b-%d; } "
           "2>/dev/null",
           pid) != 0 ||
        sh("ip -n covey-a-%d addr add 10.99.0.1/24 dev va && ip -n covey-b-%d addr add "
           "10.99.0.2/24 dev vb",
           pid) != 0 ||
        sh("ip -n covey-a-%d link set va up && ip -n covey-b-%d link set vb up", pid) != 0)
        return "network namespaces can't be made here";
    if (sh("tc -n covey-a-%d qdisc add dev va root tbf rate 100mbit burst 64kb latency 50ms "
           "2>/dev/null",
           pid) != 0)
        return "this kernel has no tbf queue";
    return NULL;
}

static void enter(const char *which, int home)
{
    char path[64];
    snprintf(path, sizeof path, "/run/netns/covey-%s-%d", which, (int)getpid());
    int fd = home >= 0 ? home : open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(setns(fd, CLONE_NEWNET), 0);
    if (home < 0)
        close(fd);
}

/* A socket belongs to the namespace that it was made in: both ends may live in this thread. */
static void connect_across(int fds[2])
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(4711)};
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), one = 1;
    assert_true(home >= 0);
    assert_int_equal(inet_pton(AF_INET, "10.99.0.2", &sa.sin_addr), 1);
    enter("b", -1);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(s, 1), 0);
    enter("a", -1);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&sa, sizeof sa), 0);
    enter(NULL, home);
    fds[1] = accept4(s, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    close(s);
    close(home);
}

static void open_tls(struct world *w, int fds[2])
{
    static const char key[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    struct transport *t;
    struct err e;
    assert_int_equal(tls_server_new(&w->server, key, NULL, &e), CV_OK);
    assert_int_equal(tls_client_new(&w->client, "client", key, &e), CV_OK);
    assert_int_equal(tls_transport_new(w->client, fds[0], &t, &e), CV_OK);
    end_open(&w->p, &w->p.a, t);
    assert_int_equal(tls_transport_new(w->server, fds[1], &t, &e), CV_OK);
    end_open(&w->p, &w->p.b, t);
}

static uint64_t arrived(const struct world *w)
{
    uint64_t sent, received;
    link_traffic(w->p.b.link, &sent, &received);
    return received;
}

static void on_cancel(struct end *end, struct msg *m)
{
    struct world *w = end->arg;
    assert_int_equal(m->h.type, MSG_CANCEL);
    uint64_t before = arrived(w) - m->h.aux;
    w->worst = before > w->worst ? before : w->worst;
    w->total += before;
    msg_free(m);
    if (end->msgs == CANCELS)
        loop_stop(end->loop);
}

static void on_time(void *arg)
{
    struct world *w = arg;
    struct header h = {.type = MSG_CANCEL, .aux = arrived(w)};
    assert_int_equal(link_send(w->p.a.link, &h, NULL, 0, NULL, 0), CV_OK);
    if (++w->sent == CANCELS)
        timer_stop(w->t);
}

static void cancel_overtakes(bool tls)
{
    struct world w = {0};
    struct payload *gib;
    uint64_t len = 1ull << 30;
    int fds[2];
    pair_loop(&w.p);
    connect_across(fds);
    if (tls) {
        open_tls(&w, fds);
    } else {
        end_open_fd(&w.p, &w.p.a, fds[0]);
        end_open_fd(&w.p, &w.p.b, fds[1]);
    }
    w.p.b.on_msg = on_cancel;
    w.p.b.arg = &w;
    assert_int_equal(payload_new_large(&gib, 1, &len), CV_OK);
    struct header h = {.type = MSG_TASK};
    assert_int_equal(link_send(w.p.a.link, &h, NULL, 0, gib, 0), CV_OK);
    assert_int_equal(timer_new(&w.t, w.p.loop, on_time, &w), CV_OK);
    timer_start(w.t, 400 * NS_PER_MS, APART); /* TCP has filled what it can by then */
    loop_run(w.p.loop);
    assert_int_equal(w.p.b.msgs, CANCELS);
    uint64_t left = link_queued_bytes(w.p.a.link);
    print_message("%s: at most %.0f KiB before one, mean %.0f KiB, %.1f MiB of the large message "
                  "sent\n",
                  tls ? "TLS" : "TCP", (double)w.worst / 1024, (double)w.total / 1024 / CANCELS,
                  (double)(len - left) / (1 << 20));
    assert_true(left < len - (4 << 20)); /* the large message did move */
    assert_true(w.worst < MOST);
    payload_unref(gib);
    timer_free(w.t);
    pair_close(&w.p);
    tls_context_free(w.client);
    tls_context_free(w.server);
}

static void over_tcp(void **state)
{
    cancel_overtakes(false);
}

static void over_tls(void **state)
{
    cancel_overtakes(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(over_tcp), cmocka_unit_test(over_tls)};
    const char *why = network_up();
    if (why) {
        network_down(NULL);
        fprintf(stderr, "skipped: %s\n", why);
        return 77; /* what meson takes for skipped */
    }
    return cmocka_run_group_tests(tests, NULL, network_down);
}
