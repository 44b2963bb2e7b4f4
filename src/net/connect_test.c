/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listeners and connectors: who knocks, which endpoint wins, what people read when none does. */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "net/connect.h"
#include "net/listener.h"
#include "net/test_pair.h"

#define LONG (60 * NS_PER_S)

struct world {
    struct pair p;
    struct listener *l;
    struct connector *c;
    int accepted, called, code, troubles;
    long uid;
    char peer[64], why[2048], trouble[256];
    bool free_listener;
};

static void on_accept(void *arg, int fd_take, long uid, const char *peer)
{
    struct world *w = arg;
    w->accepted++;
    w->uid = uid;
    snprintf(w->peer, sizeof w->peer, "%s", peer);
    if (w->p.b.link)
        close(fd_take);
    else
        end_open_fd(&w->p, &w->p.b, fd_take);
    if (w->free_listener) {
        listener_free(w->l);
        w->l = NULL;
    }
}

static void on_connect(void *arg, struct link *link_take, int code, const char *why)
{
    struct world *w = arg;
    w->called++;
    w->code = code;
    snprintf(w->why, sizeof w->why, "%s", why ? why : "");
    if (link_take) {
        w->p.a.link = link_take;
        w->p.a.loop = w->p.loop;
        link_set_callbacks(link_take, &end_callbacks, &w->p.a);
    }
    connector_free(w->c);
    w->c = NULL;
    loop_stop(w->p.loop);
}

static int make_plain(void *arg, int fd_take, struct transport **ret, struct err *e)
{
    int r = stream_transport_new(ret, fd_take);
    return r < 0 ? err_set(e, r, "no") : r;
}

static const struct transport_factory plain = {make_plain, NULL};

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    pair_loop(&w->p);
}

static void world_close(struct world *w)
{
    connector_free(w->c);
    listener_free(w->l);
    pair_close(&w->p);
}

static void world_connect(struct world *w, const char *const *endpoints, uint32_t n,
                          uint64_t timeout)
{
    struct err e;
    assert_int_equal(
        connector_new(&w->c, w->p.loop, endpoints, n, &plain, timeout, on_connect, w, &e), CV_OK);
    assert_int_equal(w->called, 0);
    loop_run(w->p.loop);
    assert_int_equal(w->called, 1);
}

static void abstract_name(char *out, size_t n)
{
    snprintf(out, n, "@covey-test-%d", (int)getpid());
}

static void exchange(struct world *w)
{
    send_text(w->p.a.link, MSG_QUERY, 1, "hello");
    while (!w->p.b.msgs)
        pair_settle(&w->p);
}

static void a_unix_socket_is_taken_first_and_tells_the_uid(void **state)
{
    struct world w;
    struct err e;
    char name[64], endpoint[80];
    world_open(&w);
    abstract_name(name, sizeof name);
    snprintf(endpoint, sizeof endpoint, "unix:%s", name);
    assert_int_equal(listener_new_unix(&w.l, w.p.loop, name, on_accept, &w, &e), CV_OK);
    const char *endpoints[] = {"tcp://127.0.0.1:1", endpoint};
    world_connect(&w, endpoints, 2, LONG);
    assert_int_equal(w.code, CV_OK);
    exchange(&w);
    assert_int_equal(w.uid, getuid());
    assert_string_equal(w.peer, "unix");
    world_close(&w);
}

static void a_dead_endpoint_does_not_hinder(void **state)
{
    struct world w;
    struct err e;
    char endpoint[64];
    world_open(&w);
    assert_int_equal(listener_new_tcp(&w.l, w.p.loop, "127.0.0.1", 0, on_accept, &w, &e), CV_OK);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", listener_port(w.l));
    const char *endpoints[] = {"unix:@covey-nobody-is-here", "tcp://127.0.0.1:1", endpoint};
    world_connect(&w, endpoints, 3, LONG);
    assert_int_equal(w.code, CV_OK);
    exchange(&w);
    assert_int_equal(w.uid, -1);
    assert_memory_equal(w.peer, "127.0.0.1:", 10);
    assert_false(link_is_unix(w.p.a.link));
    world_close(&w);
}

/* Accepts at the kernel's level and never says a word. */
static int make_mute(void *arg, int fd_take, struct transport **ret, struct err *e)
{
    close(fd_take);
    return err_set(e, CV_EAUTH, "the controller refused this file's key");
}

static void all_failures_are_named(void **state)
{
    struct world w;
    struct err e;
    char want[128], endpoint[64];
    world_open(&w);
    const struct transport_factory mute = {make_mute, NULL};
    assert_int_equal(listener_new_tcp(&w.l, w.p.loop, "localhost", 0, on_accept, &w, &e), CV_OK);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", listener_port(w.l));
    const char *endpoints[] = {endpoint, "unix:@covey-nobody-is-here", "tcp://127.0.0.1:1",
                               "tcp://[::1]:x", "http://x:1"};
    assert_int_equal(connector_new(&w.c, w.p.loop, endpoints, 5, &mute, LONG, on_connect, &w, &e),
                     CV_OK);
    loop_run(w.p.loop);
    assert_int_equal(w.code, CV_EAUTH);
    snprintf(want, sizeof want, "%s: the controller refused this file's key; ", endpoint);
    assert_non_null(strstr(w.why, want));
    assert_non_null(strstr(w.why, "unix:@covey-nobody-is-here: nobody listens there"));
    assert_non_null(strstr(w.why, "tcp://127.0.0.1:1: connection refused"));
    assert_non_null(strstr(w.why, "tcp://[::1]:x: not an endpoint"));
    assert_non_null(strstr(w.why, "http://x:1: not an endpoint"));
    world_close(&w);
}

/* A way of its own to addresses: what it is asked for, and how each call ends. */
struct dialer {
    char asked[256];
    int codes[3], calls;
    struct world *w;
};

static int dial_somehow(void *arg, const char *host, uint16_t port, struct transport **ret,
                        struct err *e)
{
    int fds[2];
    struct dialer *d = arg;
    size_t n = strlen(d->asked);
    snprintf(d->asked + n, sizeof d->asked - n, "%s %u;", host, port);
    int code = d->codes[d->calls++];
    if (code)
        return err_set(e, code, "call %d failed", d->calls);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    end_open_fd(&d->w->p, &d->w->p.b, fds[1]);
    return stream_transport_new(ret, fds[0]);
}

static void dial(struct world *w, struct dialer *d)
{
    struct err e;
    const char *endpoints[] = {"tcp://10.0.0.5:4711", "tcp://[::1]:9", "unix:@covey-nobody-is-here",
                               "tcp://name:1"};
    const struct transport_factory f = {.arg = d, .dial = dial_somehow, .through = "gate"};
    world_open(w);
    d->w = w;
    assert_int_equal(connector_new(&w->c, w->p.loop, endpoints, 4, &f, LONG, on_connect, w, &e),
                     CV_OK);
    loop_run(w->p.loop);
    assert_int_equal(w->called, 1);
}

static void a_factory_that_dials_is_asked_for_one_address_after_the_other(void **state)
{
    struct world w;
    struct dialer d = {.codes = {CV_EOF, CV_OK}};
    dial(&w, &d);
    assert_int_equal(w.code, CV_OK);
    assert_string_equal(d.asked, "10.0.0.5 4711;::1 9;");
    exchange(&w);
    world_close(&w);
}

static void a_closed_way_is_not_tried_again(void **state)
{
    struct world w;
    static const int codes[] = {CV_EACCES, CV_ENOENT};
    for (int i = 0; i < 2; i++) {
        struct dialer d = {.codes = {codes[i]}};
        dial(&w, &d);
        assert_true(w.code < 0 && (codes[i] != CV_EACCES || w.code == CV_EACCES));
        assert_string_equal(d.asked, "10.0.0.5 4711;");
        assert_string_equal(w.why, "tcp://10.0.0.5:4711 through ssh gate: call 1 failed; "
                                   "unix:@covey-nobody-is-here: nobody listens there (any more)");
        world_close(&w);
    }
}

static void names_are_resolved(void **state)
{
    struct world w;
    struct err e;
    char endpoint[64];
    world_open(&w);
    assert_int_equal(listener_new_tcp(&w.l, w.p.loop, "*", 0, on_accept, &w, &e), CV_OK);
    snprintf(endpoint, sizeof endpoint, "tcp://localhost:%d", listener_port(w.l));
    const char *endpoints[] = {endpoint};
    world_connect(&w, endpoints, 1, LONG);
    assert_int_equal(w.code, CV_OK);
    exchange(&w);
    world_close(&w);
}

static void silence_ends_in_a_timeout(void **state)
{
    struct world w;
    struct err e;
    char endpoint[64];
    world_open(&w);
    /* A full backlog: connects of TCP then stay unanswered. */
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), more[8];
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(s, 0), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&sa, &n), 0);
    for (int i = 0; i < 8; i++) {
        more[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(more[i], (struct sockaddr *)&sa, sizeof sa);
    }
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", ntohs(sa.sin_port));
    const char *endpoints[] = {endpoint};
    assert_int_equal(
        connector_new(&w.c, w.p.loop, endpoints, 1, &plain, 100 * NS_PER_MS, on_connect, &w, &e),
        CV_OK);
    loop_run(w.p.loop);
    assert_int_equal(w.code, CV_ETIMEOUT);
    assert_non_null(strstr(w.why, ": no answer within 0.1 s"));
    for (int i = 0; i < 8; i++)
        close(more[i]);
    close(s);
    world_close(&w);
}

static void a_connector_may_be_freed_at_any_time(void **state)
{
    struct world w;
    struct err e;
    world_open(&w);
    const char *endpoints[] = {"tcp://localhost:1", "tcp://127.0.0.1:1"};
    assert_int_equal(connector_new(&w.c, w.p.loop, endpoints, 2, &plain, LONG, on_connect, &w, &e),
                     CV_OK);
    connector_free(w.c);
    assert_int_equal(connector_new(&w.c, w.p.loop, endpoints, 2, &plain, LONG, on_connect, &w, &e),
                     CV_OK);
    loop_stop(w.p.loop);
    loop_run(w.p.loop);
    connector_free(w.c);
    w.c = NULL;
    assert_int_equal(w.called, 0);
    world_connect(&w, NULL, 0, LONG);
    assert_string_equal(w.why, "there is no endpoint to connect to");
    world_close(&w);
}

static void a_taken_address_is_told(void **state)
{
    struct world w;
    struct listener *other = NULL;
    struct err e;
    char name[64], want[64];
    world_open(&w);
    abstract_name(name, sizeof name);
    assert_int_equal(listener_new_unix(&w.l, w.p.loop, name, on_accept, &w, &e), CV_OK);
    assert_int_equal(listener_new_unix(&other, w.p.loop, name, on_accept, &w, &e), CV_EEXIST);
    listener_free(w.l);
    assert_int_equal(listener_new_tcp(&w.l, w.p.loop, "127.0.0.1", 0, on_accept, &w, &e), CV_OK);
    assert_int_equal(
        listener_new_tcp(&other, w.p.loop, "127.0.0.1", listener_port(w.l), on_accept, &w, &e),
        CV_EEXIST);
    snprintf(want, sizeof want, "port %d is in use", listener_port(w.l));
    assert_string_equal(e.text, want);
    assert_int_equal(listener_new_tcp(&other, w.p.loop, "nonsense", 0, on_accept, &w, &e),
                     CV_EINVAL);
    assert_int_equal(listener_new_tcp(&other, w.p.loop, "192.0.2.1", 0, on_accept, &w, &e),
                     CV_EINVAL);
    assert_null(other);
    world_close(&w);
}

static void a_stale_socket_file_is_replaced(void **state)
{
    struct world w;
    struct err e;
    struct listener *other;
    struct stat st;
    char dir[] = "/tmp/covey-net-XXXXXX", path[64], endpoint[80];
    world_open(&w);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    snprintf(endpoint, sizeof endpoint, "unix:%s", path);
    struct sockaddr_storage sa = {.ss_family = AF_UNIX};
    strcpy((char *)&sa + sizeof sa.ss_family, path);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        bind(s, (struct sockaddr *)&sa, (socklen_t)(sizeof sa.ss_family + strlen(path) + 1)), 0);
    close(s);
    assert_int_equal(listener_new_unix(&w.l, w.p.loop, path, on_accept, &w, &e), CV_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(listener_new_unix(&other, w.p.loop, path, on_accept, &w, &e), CV_EEXIST);
    const char *endpoints[] = {endpoint};
    world_connect(&w, endpoints, 1, LONG);
    assert_int_equal(w.code, CV_OK);
    listener_free(w.l);
    w.l = NULL;
    assert_int_equal(stat(path, &st), -1);
    rmdir(dir);
    world_close(&w);
}

static void on_trouble(void *arg, const char *why)
{
    struct world *w = arg;
    w->troubles++;
    snprintf(w->trouble, sizeof w->trouble, "%s", why);
}

static void without_descriptors_it_rests(void **state)
{
    struct world w;
    struct err e;
    struct rlimit was, now;
    char name[64], endpoint[80];
    world_open(&w);
    abstract_name(name, sizeof name);
    snprintf(endpoint, sizeof endpoint, "unix:%s", name);
    assert_int_equal(listener_new_unix(&w.l, w.p.loop, name, on_accept, &w, &e), CV_OK);
    listener_on_trouble(w.l, on_trouble);
    const char *endpoints[] = {endpoint};
    w.free_listener = true;
    assert_int_equal(connector_new(&w.c, w.p.loop, endpoints, 1, &plain, LONG, on_connect, &w, &e),
                     CV_OK);
    int next = dup(0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    now = was;
    now.rlim_cur = (rlim_t)next + 1; /* room for the client's end alone */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    loop_run(w.p.loop);
    while (!w.troubles)
        pair_settle(&w.p);
    for (int i = 0; i < 15; i++)
        pair_settle(&w.p);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(w.accepted, 0);
    assert_int_equal(w.troubles, 1);
    assert_non_null(strstr(w.trouble, "Too many open files"));
    while (!w.accepted)
        pair_settle(&w.p);
    assert_null(w.l); /* freed by its own callback */
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unix_socket_is_taken_first_and_tells_the_uid),
        cmocka_unit_test(a_dead_endpoint_does_not_hinder),
        cmocka_unit_test(all_failures_are_named),
        cmocka_unit_test(a_factory_that_dials_is_asked_for_one_address_after_the_other),
        cmocka_unit_test(a_closed_way_is_not_tried_again),
        cmocka_unit_test(names_are_resolved),
        cmocka_unit_test(silence_ends_in_a_timeout),
        cmocka_unit_test(a_connector_may_be_freed_at_any_time),
        cmocka_unit_test(a_taken_address_is_told),
        cmocka_unit_test(a_stale_socket_file_is_replaced),
        cmocka_unit_test(without_descriptors_it_rests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
