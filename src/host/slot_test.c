/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Status page and pipes of a slot, as an engine leaves them; and where connection data is found. */
#include "host/slot.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "host/source.h"
#include "wire/header.h"

static void close_all(const int fds[SLOT_FDS])
{
    for (int i = 0; i < SLOT_FDS; i++)
        close(fds[i]);
}

static void a_dead_engine_is_read(void **state)
{
    struct slot s;
    struct death d = {0};
    struct buf err = {0};
    int fds[SLOT_FDS], status;
    slot_init(&s, 4, WIRE_ENGINE_NONE);
    assert_int_equal(slot_open(&s, fds, NULL), CV_OK);
    assert_false(slot_running(&s));
    pid_t pid = fork();
    if (pid == 0) { /* what an engine does */
        struct statuspage *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
        if (p == MAP_FAILED || p->magic != STATUSPAGE_MAGIC ||
            atomic_load(&p->number) != WIRE_ENGINE_NONE)
            _exit(1);
        atomic_store(&p->number, 9);
        atomic_store(&p->incarnation, 2);
        statuspage_ring_add(p, "in the ring\n", 12);
        atomic_store(&p->session, 5);
        atomic_store(&p->seq, 6);
        atomic_store(&p->attempt, 1);
        atomic_store(&p->state, 2);
        _exit(write(fds[2], "out\n", 4) == 4 && write(fds[4], "err\n", 4) == 4 ? 0 : 1);
    }
    close_all(fds);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(slot_running(&s));
    assert_int_equal(slot_autopsy(&s, &d, &err), CV_OK);
    assert_int_equal(d.number, 9);
    assert_int_equal(d.incarnation, 2);
    assert_true(d.running);
    assert_int_equal(d.session, 5);
    assert_int_equal(d.seq, 6);
    assert_string_equal(buf_cstr(&err), "in the ring\nout\nerr\n");
    atomic_store(&s.page->incarnation, WIRE_INCARNATION_MAX + 1); /* whoever wrote that */
    assert_int_equal(slot_incarnation(&s), 0);
    buf_release(&err);
    slot_release(&s);
}

static void pipes_block_the_writer_and_not_us(void **state)
{
    struct slot s;
    struct buf err = {0};
    struct death d = {0};
    int fds[SLOT_FDS];
    slot_init(&s, 0, 5);
    assert_int_equal(slot_open(&s, fds, NULL), CV_OK);
    assert_false(fcntl(fds[2], F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fds[1], F_GETFL) & O_NONBLOCK);
    for (int i = 0; i < SLOT_FDS; i++)
        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(slot_autopsy(&s, &d, &err), CV_OK); /* writers are open and silent */
    assert_int_equal(err.len, 0);
    assert_int_equal(d.number, WIRE_ENGINE_NONE);
    close_all(fds);
    buf_release(&err);
    slot_release(&s);
}

static void expect_endpoints(const struct connfile *f, const char *location, bool no_unix,
                             const char *const *wanted)
{
    char **v;
    uint32_t n, i = 0;
    assert_int_equal(source_endpoints(f, location, "here", no_unix, false, &v, &n, NULL), CV_OK);
    for (; wanted[i]; i++) {
        assert_true(i < n);
        assert_string_equal(v[i], wanted[i]);
    }
    assert_int_equal(n, i);
    endpoints_free(v, n);
}

static void endpoints_are_tried_in_this_order(void **state)
{
    char *endpoints[] = {"tcp://10.0.0.5:4711", "unix:@covey-0-ab", "tcp://127.0.0.1:4711"};
    struct connfile f = {.endpoints = endpoints, .nendpoints = 3, .location = "here", .port = 4711};
    expect_endpoints(
        &f, "", false,
        (const char *[]){"unix:@covey-0-ab", "tcp://10.0.0.5:4711", "tcp://127.0.0.1:4711", NULL});
    expect_endpoints(&f, "", true,
                     (const char *[]){"tcp://10.0.0.5:4711", "tcp://127.0.0.1:4711", NULL});
    expect_endpoints(&f, "10.9.9.9", true,
                     (const char *[]){"tcp://10.9.9.9:4711", "tcp://10.0.0.5:4711",
                                      "tcp://127.0.0.1:4711", NULL});
    expect_endpoints(&f, "127.0.0.1", true,
                     (const char *[]){"tcp://127.0.0.1:4711", "tcp://10.0.0.5:4711", NULL});
    expect_endpoints(&f, "fe80::1", true,
                     (const char *[]){"tcp://[fe80::1]:4711", "tcp://10.0.0.5:4711",
                                      "tcp://127.0.0.1:4711", NULL});
    f.location = "edited";
    expect_endpoints(
        &f, "", true,
        (const char *[]){"tcp://edited:4711", "tcp://10.0.0.5:4711", "tcp://127.0.0.1:4711", NULL});
    f.endpoints++;
    f.nendpoints = 1;
    f.location = "here";
    char **v;
    uint32_t n;
    struct err e;
    assert_int_equal(source_endpoints(&f, "", "here", true, false, &v, &n, &e), CV_EINVAL);
    assert_non_null(strstr(e.text, "--no-unix"));
}

static void a_file_is_read_once_until_it_changes(void **state)
{
    char path[] = "/tmp/source-test-XXXXXX";
    struct connfile f = {0};
    struct err e;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    struct source s = {.path = path};
    assert_false(source_changed(&s));
    assert_int_equal(source_read(&s, &f, &e), CV_ENOENT);
    for (int round = 0; round < 2; round++) {
        const struct connfile w = {
            .cluster_id = "",
            .boot_id = round ? "b" : "a",
            .endpoints = (char *[]){"tcp://127.0.0.1:1"},
            .nendpoints = 1,
            .key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
            .location = "x",
            .ssh = "",
            .interface = "tcp://*",
            .port = 1};
        assert_int_equal(connfile_write(path, &w, &e), CV_OK);
        assert_true(source_changed(&s));
        assert_int_equal(source_read(&s, &f, &e), CV_OK);
        assert_string_equal(f.boot_id, round ? "b" : "a");
        assert_false(source_changed(&s));
        connfile_release(&f);
    }
    source_again(&s);
    assert_true(source_changed(&s));
    unlink(path);
    struct source text = {.path = path, .info = "not JSON"};
    assert_true(source_changed(&text));
    assert_int_equal(source_read(&text, &f, &e), CV_EINVAL);
    assert_non_null(strstr(e.text, "IPP_CONNECTION_INFO"));
    assert_false(source_changed(&text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_engine_is_read),
        cmocka_unit_test(pipes_block_the_writer_and_not_us),
        cmocka_unit_test(endpoints_are_tried_in_this_order),
        cmocka_unit_test(a_file_is_read_once_until_it_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
