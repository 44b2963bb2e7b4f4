/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See elect.h. Binding an abstract name is what decides: the kernel lets one have it, and frees it
 * with the process, however that ends. */
#include "host/elect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "net/connect.h"
#include "wire/connfile.h"
#include "wire/hello.h"

#define JOIN_NS (2 * NS_PER_S)
#define AGAIN_NS (20 * NS_PER_MS) /* the one that had it is just ending */
#define FAILED_NS (1 * NS_PER_S)

struct elect {
    struct elect_config c;
    char endpoint[128]; /* "unix:" and the socket's name */
    struct relay *relay;
    struct connector *connector;
    struct link *link; /* a member's */
    uint32_t handed;   /* EXITs that the relay has not taken yet */
    struct timer *timer;
    char why[sizeof(struct err)]; /* what was logged last */
};

static void decide(struct elect *x);

static const char *socket_name(const struct elect *x)
{
    return x->endpoint + strlen("unix:");
}

static int bind_name(struct elect *x, struct err *e)
{
    struct relay_config c = x->c.relay;
    c.name = socket_name(x);
    return relay_new(&x->relay, &c, e);
}

static void again(struct elect *x, uint64_t pause, const char *why)
{
    if (why && strcmp(why, x->why)) {
        snprintf(x->why, sizeof x->why, "%s", why);
        log_error(x->c.relay.log, "engines can't reach this machine's relay: %s", why);
    }
    timer_start(x->timer, pause, 0);
}

/* --- a member --- */

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct elect *x = arg;
    bool last = m->h.type == MSG_ACK && x->handed && --x->handed == 0;
    msg_free(m);
    if (last)
        x->c.taken(x->c.relay.arg);
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct elect *x = arg;
    link_free(x->link);
    x->link = NULL;
    x->handed = 0;
    log_debug(x->c.relay.log, "the host that relayed has ended: %s", why);
    decide(x);
    x->c.orphaned(x->c.relay.arg);
}

static int say_hello(struct elect *x)
{
    static const struct link_callbacks callbacks = {.on_msg = on_msg, .on_closed = on_closed};
    const struct hello hello = {.role = ROLE_HOST,
                                .session = x->c.session,
                                .pid = (uint32_t)getpid(),
                                .number = WIRE_ENGINE_NONE};
    const struct header h = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    struct buf route = {0};
    link_set_callbacks(x->link, &callbacks, x);
    int rc = hello_encode(&hello, &route);
    if (rc == CV_OK)
        rc = link_send(x->link, &h, route.data, (uint32_t)route.len, NULL, 0);
    buf_release(&route);
    return rc;
}

static void on_connected(void *arg, struct link *link, int code, const char *why)
{
    struct elect *x = arg;
    connector_free(x->connector);
    x->connector = NULL;
    x->link = link;
    if (!link) {
        again(x, AGAIN_NS, code == CV_EAUTH ? why : NULL);
    } else if (say_hello(x) != CV_OK) {
        link_free(x->link);
        x->link = NULL;
        again(x, FAILED_NS, "out of memory");
    } else {
        log_debug(x->c.relay.log, "another host of this machine relays");
    }
}

/* --- the election --- */

static void decide(struct elect *x)
{
    const char *endpoint = x->endpoint;
    const struct transport_factory none = {0};
    struct err e = {{0}};
    int rc = bind_name(x, &e);
    if (rc == CV_OK) {
        log_info(x->c.relay.log, "engines of this machine reach the controller through this host");
        return;
    }
    if (rc == CV_EEXIST)
        rc = connector_new(&x->connector, x->c.relay.loop, &endpoint, 1, &none, JOIN_NS,
                           on_connected, x, &e);
    if (rc != CV_OK)
        again(x, FAILED_NS, e.text);
}

static void on_timer(void *arg)
{
    decide(arg);
}

int elect_new(struct elect **ret, const struct elect_config *c, struct err *e)
{
    struct elect *x = calloc(1, sizeof *x);
    if (!x || timer_new(&x->timer, c->relay.loop, on_timer, x) != CV_OK) {
        free(x);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    x->c = *c;
    snprintf(x->endpoint, sizeof x->endpoint, "unix:@covey-relay-%ld-%.40s-%016" PRIx64,
             (long)geteuid(), c->boot_id, machine_id());
    decide(x);
    *ret = x;
    return CV_OK;
}

const char *elect_endpoint(const struct elect *x)
{
    return x->endpoint;
}

struct relay *elect_relay(const struct elect *x)
{
    return x->relay;
}

int elect_exit(struct elect *x, const struct header *h, struct payload *payload)
{
    if (!x->link)
        return CV_ECLOSED;
    int rc = link_send(x->link, h, NULL, 0, payload, 0);
    if (rc == CV_OK) {
        x->handed++;
        link_flush(x->link);
    }
    return rc;
}

bool elect_waits(const struct elect *x)
{
    return x->handed > 0;
}

void elect_free(struct elect *x)
{
    if (!x)
        return;
    relay_free(x->relay);
    connector_free(x->connector);
    link_free(x->link);
    timer_free(x->timer);
    free(x);
}
