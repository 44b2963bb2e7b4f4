/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: what a zygote answers to its host, and when it ends. No process is started: the
 * stand-ins keep the channel's far end and the reaper's callback. Each request has one answer. */
#include <assert.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "host/zygote.h"
#include "input.h"
#include "proc/spawn.h"

#define SLOTS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int __wrap_process_spawn(const struct spawn *s, pid_t *ret_pid, struct err *e);
int __wrap_reaper_add(struct reaper *r, pid_t pid, reaped_cb cb, void *arg);
void __wrap_reaper_remove(struct reaper *r, pid_t pid);
int __wrap_kill(pid_t pid, int signum);

static const char *const WORDS[] = {"ready", "threads", "slot", "pid", "error", NULL};

struct nest {
    struct loop *loop;
    struct zygote *zygote;
    int channel; /* the zygote's end; -1: none */
    reaped_cb reaped;
    void *reaped_arg;
    bool again, refuse; /* a failed request is made anew; no zygote can be started */
    unsigned asked, answered;
};

static struct nest nest;

int __wrap_process_spawn(const struct spawn *s, pid_t *ret_pid, struct err *e)
{
    if (nest.refuse)
        return err_set(e, CV_ENOENT, "no such program");
    nest.channel = fcntl(s->fds[0].fd, F_DUPFD_CLOEXEC, 0);
    *ret_pid = 4242;
    return CV_OK;
}

int __wrap_reaper_add(struct reaper *r, pid_t pid, reaped_cb cb, void *arg)
{
    nest.reaped = cb;
    nest.reaped_arg = arg;
    return CV_OK;
}

void __wrap_reaper_remove(struct reaper *r, pid_t pid)
{
    nest.reaped = NULL;
}

int __wrap_kill(pid_t pid, int signum)
{
    return 0;
}

static void ask(uint32_t slot)
{
    int fds[ZYGOTE_FDS];
    struct err e = {""};
    for (int i = 0; i < ZYGOTE_FDS; i++)
        fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (zygote_fork(nest.zygote, slot, "{\"fork\": 0}", fds, &e) == CV_OK)
        nest.asked++;
    else
        assert(*e.text);
}

static void answered(void *arg, uint32_t slot, pid_t pid, const char *why)
{
    assert(pid > 0 || (why && *why));
    nest.answered++;
    assert(nest.answered <= nest.asked);
    if (nest.again && !pid && nest.asked < 100)
        ask(slot);
}

static void run(void)
{
    char sink[4096];
    for (int i = 0; i < 4; i++)
        uv_run(loop_uv(nest.loop), UV_RUN_NOWAIT);
    while (nest.channel >= 0 && recv(nest.channel, sink, sizeof sink, MSG_DONTWAIT) > 0)
        ;
}

static void say(const void *data, size_t n)
{
    if (nest.channel >= 0)
        (void)!send(nest.channel, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_json(struct input *in)
{
    json_t *j = in_json_object(in, WORDS, 2);
    char *text = json_dumps(j, JSON_COMPACT);
    say(text, strlen(text));
    free(text);
    json_decref(j);
}

static void hang_up(void)
{
    if (nest.channel >= 0)
        close(nest.channel);
    nest.channel = -1;
}

static void end(struct input *in)
{
    struct reaped how = {.pid = 4242, .known = true, .signal = in_bool(in) ? 9 : 0};
    reaped_cb cb = nest.reaped;
    if (!cb)
        return;
    hang_up();
    nest.reaped = NULL;
    cb(nest.reaped_arg, &how);
}

static void step(struct input *in)
{
    size_t n;
    const uint8_t *raw;
    struct err e;
    char text[64];
    switch (in_u8(in) % 12) {
    case 0:
    case 1:
    case 2:
        ask(in_u8(in) % SLOTS);
        break;
    case 3:
        say("{\"ready\": true, \"threads\": 1}", 29);
        break;
    case 4:
    case 5:
        say(text, (size_t)snprintf(text, sizeof text, "{\"slot\": %d, \"pid\": %d}",
                                   in_u8(in) % SLOTS, (int8_t)in_u8(in)));
        break;
    case 6:
        say_json(in);
        break;
    case 7:
        raw = in_bytes(in, 5000, &n);
        say(raw, n);
        break;
    case 8:
        end(in);
        break;
    case 9:
        nest.again = in_bool(in);
        nest.refuse = in_bool(in);
        if (zygote_start(nest.zygote, &e))
            assert(*e.text);
        break;
    default:
        run();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct loop *loop; /* one for all runs */
    struct zygote_config c = {.python = "python3", .module = "covey.engine", .answered = answered};
    struct input in = {data, n};
    if (!loop && loop_new(&loop))
        abort();
    nest = (struct nest){.loop = loop, .channel = -1};
    c.loop = loop;
    if (zygote_new(&nest.zygote, &c))
        abort();
    for (int i = 0; in.left && i < 200; i++)
        step(&in);
    run();
    nest.again = false;
    end(&in);
    zygote_free(nest.zygote);
    hang_up();
    run();
    return 0;
}
