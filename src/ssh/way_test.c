/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Ways through an `ssh` that is a script of ours: bytes both ways, its end with the transport, its
 * words as errors, passwords. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "ssh/way.h"

static char folder[] = "/tmp/covey-way-XXXXXX";

/* The script that is found as `ssh`. It writes its pid first. */
static void fake_ssh(const char *body)
{
    struct err e;
    char path[64], text[1024];
    snprintf(path, sizeof path, "%s/pid", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/ssh", folder);
    snprintf(text, sizeof text, "#!/bin/sh\necho $$ >%s/pid\n%s\n", folder, body);
    assert_int_equal(file_write_atomic(path, 0700, text, strlen(text), &e), CV_OK);
}

static pid_t fake_pid(void)
{
    char path[64];
    struct buf b = {0};
    snprintf(path, sizeof path, "%s/pid", folder);
    for (int i = 0; i < 60000 && (file_read(path, 100, &b, NULL) || !b.len); i++)
        usleep(1000);
    pid_t pid = (pid_t)atol(buf_cstr(&b));
    buf_release(&b);
    assert_true(pid > 0);
    return pid;
}

/* TLS's place: a handshake that waits for one byte. */
struct inner {
    struct transport t;
    struct transport *plain;
};

static int inner_handshake(struct transport *t, int *ret_want, struct err *e)
{
    char byte;
    struct inner *i = (struct inner *)t;
    ssize_t r = i->plain->ops->read(i->plain, &byte, 1, e);
    *ret_want = WANT_READ;
    return r > 0 ? CV_OK : (int)r;
}

static ssize_t inner_read(struct transport *t, void *buf, size_t n, struct err *e)
{
    struct inner *i = (struct inner *)t;
    return i->plain->ops->read(i->plain, buf, n, e);
}

static ssize_t inner_writev(struct transport *t, const struct iovec *iov, int n, struct err *e)
{
    struct inner *i = (struct inner *)t;
    return i->plain->ops->writev(i->plain, iov, n, e);
}

static void inner_free(struct transport *t)
{
    struct inner *i = (struct inner *)t;
    i->plain->ops->free(i->plain);
    free(i);
}

static const struct transport_ops inner_ops = {
    .handshake = inner_handshake, .read = inner_read, .writev = inner_writev, .free = inner_free};

static int inner_make(void *arg, int fd_take, struct transport **ret, struct err *e)
{
    struct inner *i = calloc(1, sizeof *i);
    assert_non_null(i);
    assert_int_equal(stream_transport_new(&i->plain, fd_take), CV_OK);
    i->t = (struct transport){&inner_ops, fd_take};
    *ret = &i->t;
    return CV_OK;
}

static struct ssh_way *way_new(const char *password)
{
    struct ssh_way *w;
    struct err e = {{0}};
    const struct ssh_way_config c = {
        .server = "me@host:2200", .password = password, .inner = {.make = inner_make}};
    assert_int_equal(ssh_way_new(&w, &c, &e), CV_OK);
    return w;
}

static struct transport *dial(struct ssh_way *w)
{
    struct transport *t;
    struct err e = {{0}};
    struct transport_factory f = ssh_way_factory(w);
    assert_string_equal(f.through, "me@host:2200");
    assert_int_equal(f.dial(f.arg, "::1", 9, &t, &e), CV_OK);
    return t;
}

static int handshake(struct transport *t, struct err *e)
{
    int want, rc;
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    while ((rc = t->ops->handshake(t, &want, e)) == CV_EAGAIN)
        assert_int_equal(poll(&p, 1, 60000), 1);
    return rc;
}

static bool alive(pid_t pid)
{
    return !kill(pid, 0);
}

static void test_bytes_go_both_ways(void **state)
{
    char got[8] = "";
    struct err e = {{0}};
    fake_ssh("printf k; exec dd bs=1 status=none");
    struct ssh_way *w = way_new(NULL);
    struct transport *t = dial(w);
    assert_int_equal(handshake(t, &e), CV_OK);
    pid_t pid = fake_pid();
    const struct iovec v = {"hello", 5};
    assert_int_equal(t->ops->writev(t, &v, 1, &e), 5);
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    for (size_t n = 0; n < 5;) {
        assert_int_equal(poll(&p, 1, 60000), 1);
        ssize_t r = t->ops->read(t, got + n, sizeof got - n, &e);
        assert_true(r > 0);
        n += (size_t)r;
    }
    assert_string_equal(got, "hello");
    t->ops->free(t); /* its input ends, and so does it */
    assert_false(alive(pid));
    ssh_way_free(w);
}

static void test_it_ends_with_the_transport(void **state)
{
    struct err e = {{0}};
    fake_ssh("trap '' TERM; printf k; exec sleep 1000"); /* takes no hint */
    struct ssh_way *w = way_new(NULL);
    struct transport *t = dial(w);
    assert_int_equal(handshake(t, &e), CV_OK);
    pid_t pid = fake_pid();
    assert_true(alive(pid));
    t->ops->free(t);
    assert_false(alive(pid));
    ssh_way_free(w);
}

static void check_failure(const char *script, int code, const char *text)
{
    struct err e = {{0}};
    fake_ssh(script);
    struct ssh_way *w = way_new(NULL);
    struct transport *t = dial(w);
    assert_int_equal(handshake(t, &e), code);
    if (!strstr(e.text, text))
        fail_msg("no \"%s\" in \"%s\"", text, e.text);
    t->ops->free(t);
    ssh_way_free(w);
}

static void test_its_words_are_the_error(void **state)
{
    check_failure("echo 'me@host: Permission denied (publickey).' >&2; exit 255", CV_EACCES,
                  "ssh to me@host:2200: me@host: Permission denied (publickey).");
    check_failure("echo 'ssh: connect to host host port 2200: Connection refused' >&2; exit 255",
                  CV_ENOENT, "no sshd listens there");
    check_failure("echo 'channel 0: open failed: connect failed: Connection refused' >&2; exit 255",
                  CV_EOF, "works, but nobody answers at [::1]:9");
    check_failure("kill -9 $$", CV_ENOENT, "it was killed by SIGKILL");
}

static void test_a_killed_one_is_told(void **state)
{
    char byte;
    struct err e = {{0}};
    fake_ssh("printf k; exec sleep 1000");
    struct ssh_way *w = way_new(NULL);
    struct transport *t = dial(w);
    assert_int_equal(handshake(t, &e), CV_OK);
    kill(fake_pid(), SIGKILL);
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    assert_int_equal(t->ops->read(t, &byte, 1, &e), CV_ECLOSED);
    assert_non_null(strstr(e.text, "ssh to me@host:2200: it was killed by SIGKILL"));
    t->ops->free(t);
    ssh_way_free(w);
}

/* ssh asks by SSH_ASKPASS; the password is neither in its arguments nor in its environment. */
static void test_passwords(void **state)
{
    struct err e = {{0}};
    fake_ssh("p=$($SSH_ASKPASS 'me@host password: '); [ \"$p\" = 'my s3cret' ] || exit 1\n"
             "$SSH_ASKPASS 'Are you sure (yes/no)?' && exit 2\n"
             "tr '\\0' '\\n' </proc/self/environ | grep s3cret && exit 3\n"
             "case \"$*\" in *s3cret*|*BatchMode*) exit 4;; esac\n"
             "[ $SSH_ASKPASS_REQUIRE = force ] || exit 5\n"
             "printf k; exec dd bs=1 status=none");
    struct ssh_way *w = way_new("my s3cret");
    struct transport *t = dial(w);
    int rc = handshake(t, &e);
    if (rc)
        fail_msg("%s", e.text);
    t->ops->free(t);
    ssh_way_free(w);
}

static void test_no_ssh(void **state)
{
    struct transport *t;
    struct err e = {{0}};
    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    struct ssh_way *w = way_new(NULL);
    struct transport_factory f = ssh_way_factory(w);
    assert_int_equal(f.dial(f.arg, "h", 9, &t, &e), CV_ENOENT);
    assert_non_null(strstr(e.text, "can't start 'ssh'"));
    ssh_way_free(w);
    setenv("PATH", path, 1);
    free(path);
}

static int set_up(void **state)
{
    char path[4096];
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s:%s", folder, getenv("PATH"));
    return setenv("PATH", path, 1);
}

static int tear_down(void **state)
{
    char path[64];
    snprintf(path, sizeof path, "%s/ssh", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/pid", folder);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_go_both_ways),
        cmocka_unit_test(test_it_ends_with_the_transport),
        cmocka_unit_test(test_its_words_are_the_error),
        cmocka_unit_test(test_a_killed_one_is_told),
        cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_no_ssh),
    };
    return cmocka_run_group_tests_name("way", tests, set_up, tear_down);
}
