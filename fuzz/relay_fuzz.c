/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: a host's relay between engines that say anything and a controller that answers
 * anything, with an uplink that comes and goes. A grammar over the input's bytes; the listener is
 * a stand-in, engines are socket pairs. No engine may speak for another. */
#include <assert.h>
#include <sys/socket.h>
#include <unistd.h>
#include "host/relay.h"
#include "input.h"
#include "net/listener.h"
#include "wire/hello.h"

#define LEGS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int __wrap_listener_new_unix(struct listener **ret, struct loop *l, const char *name,
                             listener_cb cb, void *arg, struct err *e);

struct yard {
    struct loop *loop;
    struct relay *relay;
    listener_cb accept;
    void *accept_arg;
    int legs[LEGS];
    uint64_t aux; /* of the HELLO that went up last */
    bool up;
};

static struct yard yard;

int __wrap_listener_new_unix(struct listener **ret, struct loop *l, const char *name,
                             listener_cb cb, void *arg, struct err *e)
{
    yard.accept = cb;
    yard.accept_arg = arg;
    return CV_OK;
}

static int send_up(void *arg, const struct header *h, const void *route, uint32_t route_len,
                   struct payload *payload, int flags)
{
    if (!yard.up)
        return CV_ECLOSED;
    if (h->type == MSG_HELLO)
        yard.aux = h->aux;
    else
        assert(relay_has(yard.relay, h->engine));
    return CV_OK;
}

static void closed(void *arg, uint32_t number)
{
}

static bool exited(void *arg, const struct msg *m)
{
    assert(m->h.type == MSG_EXIT);
    return m->h.engine % 2; /* or it is about to end */
}

static void run(void)
{
    static uint8_t sink[1 << 16];
    for (int i = 0; i < 4; i++)
        uv_run(loop_uv(yard.loop), UV_RUN_NOWAIT);
    for (int i = 0; i < LEGS; i++)
        while (yard.legs[i] >= 0 && recv(yard.legs[i], sink, sizeof sink, MSG_DONTWAIT) > 0)
            ;
}

static void put(int leg, const void *data, size_t n)
{
    if (yard.legs[leg] >= 0 && n)
        (void)!send(yard.legs[leg], data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void leg_close(int leg)
{
    if (yard.legs[leg] >= 0)
        close(yard.legs[leg]);
    yard.legs[leg] = -1;
}

static void leg_open(int leg)
{
    int fds[2];
    leg_close(leg);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        abort();
    yard.legs[leg] = fds[1];
    yard.accept(yard.accept_arg, fds[0], (long)getuid(), "unix");
}

static void say_hello(struct input *in, int leg)
{
    struct hello h = {.role = in_u8(in) < 200 ? ROLE_ENGINE : in_u8(in) & 3,
                      .session = in_number(in),
                      .number = WIRE_ENGINE_NONE};
    struct buf b = {0};
    uint8_t head[WIRE_HEADER_SIZE];
    if (hello_encode(&h, &b))
        abort();
    header_encode(head, &(struct header){
                            .type = MSG_HELLO, .route_len = (uint32_t)b.len, .aux = in_number(in)});
    put(leg, head, sizeof head);
    put(leg, b.data, b.len);
    buf_release(&b);
}

static struct header some_header(struct input *in)
{
    return (struct header){.type = 1 + in_u8(in) % (MSG_TYPE_END - 1),
                           .flags = in_u8(in) & (MSG_F_DIRECT | MSG_F_BROADCAST | MSG_F_LATE),
                           .engine = in_u8(in) & 3,
                           .incarnation = in_u8(in) & 1,
                           .session = in_number(in),
                           .seq = in_number(in),
                           .count = (uint32_t)in_number(in)};
}

static void leg_says(struct input *in, int leg)
{
    struct header h = some_header(in);
    uint8_t head[WIRE_HEADER_SIZE];
    size_t n;
    const uint8_t *body = in_bytes(in, 100, &n);
    h.nbufs = n > 0;
    h.body_len = n;
    header_encode(head, &h);
    put(leg, head, sizeof head);
    put(leg, body, n);
}

static void controller_says(struct input *in)
{
    struct header h = some_header(in);
    struct payload *p = NULL;
    struct msg *m;
    size_t n;
    uint8_t how = in_u8(in);
    const uint8_t *body = in_bytes(in, 100, &n);
    if (how & 1) {
        h.type = MSG_WELCOME;
        h.aux = how & 2 ? yard.aux : in_number(in);
        h.engine = how & 4 ? WIRE_ENGINE_NONE : h.engine;
    }
    if ((n && payload_new_copy(&p, body, n)) || msg_new(&m, &h, NULL, 0, p))
        abort();
    relay_down(yard.relay, m);
}

static void step(struct input *in)
{
    uint8_t op = in_u8(in);
    int leg = op / 16 % LEGS;
    size_t n;
    const uint8_t *raw;
    switch (op % 16) {
    case 0:
    case 1:
    case 2:
        leg_open(leg);
        say_hello(in, leg);
        break;
    case 3:
        leg_close(leg);
        break;
    case 4:
        yard.up = !yard.up;
        if (yard.up)
            relay_uplink_back(yard.relay);
        break;
    case 5:
        raw = in_bytes(in, 100, &n);
        put(leg, raw, n);
        break;
    case 6:
    case 7:
    case 8:
        run();
        break;
    case 9:
    case 10:
    case 11:
        leg_says(in, leg);
        break;
    default:
        controller_says(in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct loop *loop; /* one for all runs */
    struct relay_config c = {
        .name = "@relay", .send_up = send_up, .closed = closed, .exited = exited};
    struct input in = {data, n};
    struct err e;
    if (!loop && loop_new(&loop))
        abort();
    yard = (struct yard){.loop = loop, .up = true};
    memset(yard.legs, -1, sizeof yard.legs);
    c.loop = loop;
    if (relay_new(&yard.relay, &c, &e))
        abort();
    for (int i = 0; in.left && i < 200; i++)
        step(&in);
    run();
    for (int i = 0; i < LEGS; i++)
        leg_close(i);
    run();
    relay_free(yard.relay);
    run();
    return 0;
}
