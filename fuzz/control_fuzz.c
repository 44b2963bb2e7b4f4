/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: the supervisor's control socket (lines in any pieces from several peers, answered at
 * once, later or with events) and cluster files. A bit of the first byte says which. */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "cluster/clusterfile.h"
#include "cluster/control.h"
#include "cluster/ctladdr.h"
#include "input.h"

#define PEERS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const WORDS[] = {"do",  "stop",       "start_engines", "stop_engines",
                                    "id",  "n",          "signal",        "status",
                                    "pid", "pid_start",  "events",        "controller",
                                    "0",   "engines",    "class",         "Local",
                                    "pid", "cluster_id", "control",       "@covey-cluster-0-ab",
                                    "ssh", NULL};

struct desk {
    struct control *control;
    uint64_t asked[8]; /* peers that wait for an answer */
    unsigned nasked;
};

static void on_command(void *arg, uint64_t peer, json_t *command)
{
    struct desk *d = arg;
    const char *what = json_string_value(json_object_get(command, "do"));
    assert(what);
    if (*what == 'e')
        control_follow(d->control, peer);
    if (*what == 's' && d->nasked < 8)
        d->asked[d->nasked++] = peer;
    else
        control_answer(d->control, peer, control_ok(json_incref(command)));
}

static int dial(const struct control *c)
{
    struct sockaddr_un a;
    socklen_t n;
    struct err e;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || ctladdr_parse(control_address(c), &a, &n, &e) ||
        connect(fd, (struct sockaddr *)&a, n))
        abort();
    return fd;
}

static void say(int fd, struct input *in, bool grammar)
{
    size_t n;
    const uint8_t *raw;
    if (grammar) {
        json_t *j = in_json_object(in, WORDS, 3);
        if (in_bool(in))
            json_object_set_new(j, "do", json_string(WORDS[in_u8(in) % 11]));
        char *text = json_dumps(j, JSON_COMPACT);
        (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
        (void)!send(fd, "\n", 1, MSG_NOSIGNAL);
        free(text);
        json_decref(j);
        return;
    }
    raw = in_bytes(in, 3000, &n);
    for (int i = 1 + (n > 2900) * 30; i > 0 && n; i--) /* some are too long */
        (void)!send(fd, raw, n, MSG_NOSIGNAL);
}

static void socket_runs(struct input *in)
{
    static uv_loop_t loop; /* one for all runs */
    struct desk d = {0};
    struct err e;
    char sink[4096];
    int fds[PEERS] = {-1, -1, -1, -1};
    if ((!loop.data && uv_loop_init(&loop)) || control_new(&d.control, &loop, on_command, &d, &e))
        abort();
    loop.data = &loop;
    for (int steps = 0; in->left && steps < 100; steps++) {
        uint8_t op = in_u8(in);
        int *fd = &fds[op / 8 % PEERS];
        if (*fd < 0)
            *fd = dial(d.control);
        else if (op % 8 == 0)
            *fd = close(*fd) - 1;
        else if (op % 8 == 1 && d.nasked)
            control_answer(d.control, d.asked[--d.nasked], control_error("no"));
        else if (op % 8 == 2)
            control_event(d.control, json_true());
        else if (op % 8 == 3)
            (void)!recv(*fd, sink, sizeof sink, 0);
        else
            say(*fd, in, op % 8 != 4);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    for (int i = 0; i < PEERS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    uv_run(&loop, UV_RUN_NOWAIT);
    control_free(d.control);
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void file_is_read(struct input *in, bool grammar)
{
    char path[40], *text = NULL;
    struct err e;
    json_t *o;
    int fd = memfd_create("cluster", MFD_CLOEXEC);
    if (fd < 0)
        abort();
    if (grammar) {
        json_t *j = in_json_object(in, WORDS, 4);
        text = json_dumps(j, 0);
        (void)!write(fd, text, strlen(text));
        json_decref(j);
    } else {
        (void)!write(fd, in->at, in->left);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (clusterfile_read(path, &o, &e) == CV_OK) {
        (void)clusterfile_running(o);
        (void)clusterfile_supervised(o);
        json_decref(o);
    }
    free(text);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct input in = {data, n};
    uint8_t how = in_u8(&in);
    if (how & 1)
        file_is_read(&in, how & 2);
    else
        socket_runs(&in);
    return 0;
}
