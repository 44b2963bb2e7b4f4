/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ssh is told, and how its words become one sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ssh/words.h"

static void check_split(const char *server, const char *place, const char *port)
{
    char *got_place = NULL, *got_port = NULL;
    struct err e = {{0}};
    int rc = ssh_server_split(server, &got_place, &got_port, &e);
    if (!place) {
        assert_int_equal(rc, CV_EINVAL);
        assert_non_null(strstr(e.text, "is not an ssh server"));
        return;
    }
    assert_int_equal(rc, CV_OK);
    assert_string_equal(got_place, place);
    if (port)
        assert_string_equal(got_port, port);
    else
        assert_null(got_port);
    free(got_place);
    free(got_port);
}

static void test_servers(void **state)
{
    check_split("host", "host", NULL);
    check_split("me@host", "me@host", NULL);
    check_split("me@host:2200", "me@host", "2200");
    check_split("10.0.0.1:50000", "10.0.0.1", "50000");
    check_split("me@[fe80::1]:22", "me@fe80::1", "22");
    check_split("fe80::1", "fe80::1", NULL);
    check_split("host:", "host:", NULL);
    check_split("", NULL, NULL);
    check_split("me@", NULL, NULL);
    check_split("host:0", NULL, NULL);
    check_split("host:70000", NULL, NULL);
    check_split("-oProxyCommand=x", NULL, NULL);
    check_split("two words", NULL, NULL);
}

static void check_argv(char **argv, const char *want)
{
    char line[400] = "";
    assert_non_null(argv);
    for (char **p = argv; *p; p++) {
        strcat(line, p == argv ? "" : " ");
        strcat(line, *p);
    }
    assert_string_equal(line, want);
    ssh_argv_free(argv);
}

static void test_command_lines(void **state)
{
    check_argv(ssh_argv("me@host", NULL, NULL, false, "127.0.0.1:4711"),
               "ssh -o BatchMode=yes -o ServerAliveInterval=15 -W 127.0.0.1:4711 -- me@host");
    check_argv(ssh_argv("host", "2200", "/k/id", true, "[::1]:9"),
               "ssh -o NumberOfPasswordPrompts=1 -o ServerAliveInterval=15 -i /k/id -p 2200 -W "
               "[::1]:9 -- host");
}

static void check_words(const char *said, const char *how, enum ssh_failure what, const char *want)
{
    char text[512];
    assert_int_equal(
        ssh_explain("me@host", "127.0.0.1:9", said, strlen(said), how, text, sizeof text), what);
    if (!strstr(text, want))
        fail_msg("no \"%s\" in \"%s\"", want, text);
    assert_null(strchr(text, '\n'));
}

static void test_explanations(void **state)
{
    check_words("me@host: Permission denied (publickey).\r\n", "it ended with exit code 255",
                SSH_REFUSED,
                "ssh to me@host: me@host: Permission denied (publickey). (`ssh SERVER`");
    check_words(
        "Load key \"/k/id\": bad permissions\r\nme@host: Permission denied (publickey).\r\n", "",
        SSH_REFUSED, "chmod 600");
    check_words("Warning: Identity file /k/id not accessible: No such file or directory.\n"
                "me@host: Permission denied (publickey).\r\n",
                "", SSH_REFUSED, "the key's file is not there");
    check_words("Host key verification failed.\n", "", SSH_REFUSED, "log in once by hand");
    check_words(
        "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n", "",
        SSH_NO_CONTROLLER, "ssh to me@host works, but nobody answers at 127.0.0.1:9");
    check_words("stdio forwarding failed\n", "", SSH_NO_CONTROLLER,
                "or does its sshd not forward (AllowTcpForwarding)");
    check_words("channel 0: open failed: administratively prohibited: open failed\n", "",
                SSH_REFUSED, "AllowTcpForwarding");
    check_words("ssh: connect to host x port 22: Connection refused\n", "", SSH_NO_SERVER,
                "no sshd");
    check_words("one\n\n\ntwo\n", "", SSH_NO_SERVER, "ssh to me@host: one; two");
    check_words("", "it was killed by SIGKILL", SSH_NO_SERVER, "it was killed by SIGKILL");
    check_words("", "", SSH_NO_SERVER, "it ended");
    check_words("Warning: Permanently added 'x' (ED25519) to the list of known hosts.\r\n",
                "it was killed by SIGKILL", SSH_NO_SERVER, "me@host: it was killed by SIGKILL");
    check_words("one\nWarning: Permanently added 'x' to the list of known hosts.\r\ntwo\n", "",
                SSH_NO_SERVER, "ssh to me@host: one; two");
    check_words("tab\tand \033[31mcolour\n", "", SSH_NO_SERVER, "taband [31mcolour");
}

/* Only the last of a long speech fits, and nothing is written behind the end. */
static void test_long_words(void **state)
{
    char said[5000], text[100];
    memset(said, 'x', sizeof said);
    memcpy(said + sizeof said - 18, "Permission denied\n", 18);
    assert_int_equal(ssh_explain("h", "t:1", said, sizeof said, "", text, sizeof text),
                     SSH_REFUSED);
    assert_true(strlen(text) < sizeof text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_servers),
        cmocka_unit_test(test_command_lines),
        cmocka_unit_test(test_explanations),
        cmocka_unit_test(test_long_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
