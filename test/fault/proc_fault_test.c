/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Starting processes, an engine's slot and a TLS handshake while memory, descriptors or processes
 * are short. Each says what failed, leaves no child and no descriptor, and waits for nobody. */
#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "host/slot.h"
#include "proc/capture.h"
#include "proc/spawn.h"
#include "tls/tls.h"
#include "wire/header.h"

#define ALL (FAULT_MEMORY | FAULT_OPEN | FAULT_WRITE | FAULT_STREAM | FAULT_SPAWN | FAULT_CONNECT)
#define SPAWN_PLACES 24 /* more calls than spawning makes, in parent and child */
#define HANDSHAKE_TURNS 20

static const char KEY[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/* A failure needs a reason that was injected, and a sentence. */
static void fine_or(int rc, const struct err *e)
{
    if (rc == CV_OK)
        return;
    assert_true(fault_hit());
    assert_true(strlen(e->text) > 10);
}

static void slots(void *arg)
{
    struct slot s;
    struct err e = {""};
    int fds[SLOT_FDS];
    slot_init(&s, 0, WIRE_ENGINE_NONE);
    int rc = slot_open(&s, fds, &e);
    fine_or(rc, &e);
    if (rc != CV_OK) {
        assert_null(s.page);
        assert_true(s.out_fd < 0 && s.err_fd < 0);
    } else {
        struct death d = {0};
        struct buf err = {0};
        fault_pause();
        assert_int_equal(write(fds[4], "last words\n", 11), 11);
        for (int i = 0; i < SLOT_FDS; i++)
            close(fds[i]);
        fault_go_on();
        rc = slot_autopsy(&s, &d, &err);
        assert_true(rc == CV_OK || fault_hit());
        buf_release(&err);
    }
    slot_release(&s);
}

static void captures(void *arg)
{
    struct capture *c;
    struct err e = {""};
    uv_loop_t loop;
    int p[2];
    fault_pause();
    assert_int_equal(uv_loop_init(&loop), 0);
    fault_go_on();
    int rc = capture_pipe(p, &e);
    fine_or(rc, &e);
    if (rc == CV_OK) {
        fault_pause();
        assert_int_equal(write(p[1], "text\n", 5), 5);
        close(p[1]);
        fault_go_on();
        rc = capture_new(&c, &loop, p[0], 1000, NULL, NULL);
        assert_true(rc == CV_OK || fault_hit());
    }
    if (rc == CV_OK) {
        struct buf b = {0};
        capture_drain(c);
        rc = capture_tail(c, &b);
        assert_true(rc == CV_OK || fault_hit());
        buf_release(&b);
        capture_free(c);
    }
    fault_pause();
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    fault_go_on();
}

/* The child would sleep: who waits for it to end waits too long. */
static void spawn_once(const char *cwd)
{
    const char *argv[] = {"sleep", "1000", NULL};
    const struct spawn s = {.argv = argv,
                            .cwd = cwd,
                            .env = (const char *const[]){"A=1", NULL},
                            .stdin_fd = SPAWN_NULL,
                            .stdout_fd = SPAWN_NULL,
                            .stderr_fd = SPAWN_INHERIT,
                            .death_signal = SIGKILL};
    struct err e = {""};
    pid_t pid = 0;
    int status, rc = process_spawn(&s, &pid, &e);
    fault_disarm();
    if (rc == CV_OK) {
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    } else {
        assert_non_null(strstr(e.text, "can't start 'sleep'"));
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD); /* no child is left */
}

static void processes_are_short(void **state)
{
    unsigned kinds[] = {ALL, FAULT_MEMORY, FAULT_OPEN, FAULT_SPAWN, FAULT_STREAM};
    int first = dup(0);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (unsigned n = 1; n <= SPAWN_PLACES; n++)
            for (int for_ever = 0; for_ever < 2; for_ever++) {
                fault_arm(kinds[i], n, for_ever);
                spawn_once(n % 2 ? "/" : NULL);
            }
    close(first);
    int last = dup(0);
    assert_int_equal(first, last); /* no descriptor is left */
    close(last);
}

static void slots_are_short(void **state)
{
    assert_true(fault_each(FAULT_OPEN | FAULT_WRITE | FAULT_MEMORY, slots, NULL) >= 7);
    assert_true(fault_each(FAULT_OPEN | FAULT_STREAM | FAULT_MEMORY, captures, NULL) >= 4);
}

/* One side's part of a handshake; false: it has failed, and said so. */
static bool shake(struct transport *t, bool *done)
{
    struct err e = {""};
    int want, rc = t->ops->handshake(t, &want, &e);
    *done = rc == CV_OK;
    if (rc != CV_OK && rc != CV_EAGAIN)
        fine_or(rc, &e);
    return rc == CV_OK || rc == CV_EAGAIN;
}

static void handshakes(void *arg)
{
    struct tls_context *server = NULL, *client = NULL;
    struct transport *a = NULL, *b = NULL;
    struct err e = {""};
    bool here = false, there = false;
    int fds[2], rc = tls_server_new(&server, KEY, KEY, &e);
    fine_or(rc, &e);
    if (rc == CV_OK) {
        rc = tls_client_new(&client, "client", KEY, &e);
        fine_or(rc, &e);
    }
    if (rc != CV_OK)
        goto out;
    fault_pause();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    fault_go_on();
    rc = tls_transport_new(server, fds[0], &a, &e);
    fine_or(rc, &e);
    rc = tls_transport_new(client, fds[1], &b, &e); /* its descriptor is taken either way */
    fine_or(rc, &e);
    for (int i = 0; a && b && i < HANDSHAKE_TURNS && !(here && there); i++)
        if (!shake(b, &there) || !shake(a, &here))
            break;
    assert_true((here && there) || fault_hit());
out:
    if (a)
        a->ops->free(a);
    if (b)
        b->ops->free(b);
    tls_context_free(client);
    tls_context_free(server);
}

static void handshakes_are_short(void **state)
{
    assert_true(fault_each(FAULT_MEMORY, handshakes, NULL) >= 4);
    fault_each(FAULT_STREAM, handshakes, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_short),
        cmocka_unit_test(processes_are_short),
        cmocka_unit_test(handshakes_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
