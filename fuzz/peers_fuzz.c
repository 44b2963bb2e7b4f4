/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: clients, engines and hosts that come, go, come back with claims of what they hold,
 * and send each other's messages with the fields wrong: a controller's whole state, by a grammar
 * over the input's bytes. Sessions, numbers and seqs are small, so that they meet. */
#include "controller/act.h"
#include "world.h"
#include "wire/route.h"

#define OPS_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const WORDS[] = {"query",
                                    "engines",
                                    "queue_status",
                                    "result_status",
                                    "result",
                                    "history",
                                    "db_query",
                                    "purge",
                                    "signal",
                                    "shutdown",
                                    "task",
                                    "status",
                                    "targets",
                                    "verbose",
                                    "ids",
                                    "id",
                                    "where",
                                    "keys",
                                    "all",
                                    "restart",
                                    "reason",
                                    "running",
                                    "running_attempt",
                                    "tasks_done",
                                    "planned",
                                    "slot",
                                    "0000000000000064_1",
                                    "0000000000000064_2",
                                    "$in",
                                    "msg_id",
                                    "cause",
                                    "text",
                                    "ename",
                                    "evalue",
                                    "stderr",
                                    NULL};

static uint64_t some_session(struct input *in)
{
    uint8_t k = in_u8(in);
    return k < 250 ? 100 + (k & 3u) : in_u64(in);
}

static uint32_t some_engine(struct input *in)
{
    uint8_t k = in_u8(in);
    return k < 200 ? k & 3u : k < 250 ? WIRE_ENGINE_NONE : in_u32(in);
}

static struct held_task some_held(struct input *in)
{
    return (struct held_task){.session = some_session(in),
                              .seq = in_number(in),
                              .count = (uint32_t)in_number(in),
                              .attempt = (uint16_t)in_number(in)};
}

static void come(struct world *w, struct input *in)
{
    unsigned peer = in_u8(in) % WORLD_PEERS;
    struct held_task unstarted[8];
    struct id_range waiting[8];
    struct hello h = {.role = 1 + in_u8(in) % 3,
                      .session = some_session(in),
                      .uuid = "u",
                      .python = in_bool(in) ? "3.11" : "3.12",
                      .versions = "{}",
                      .host = "here",
                      .machine = in_u8(in) & 1,
                      .pid = (uint32_t)in_number(in),
                      .number = some_engine(in),
                      .incarnation = (uint32_t)in_number(in) & UINT16_MAX,
                      .slot = in_u8(in),
                      .host_session = some_session(in),
                      .unstarted = unstarted,
                      .waiting = waiting};
    struct header head = {
        .type = MSG_HELLO, .engine = WIRE_ENGINE_NONE, .aux = in_number(in), .seq = in_u8(in) & 3};
    struct buf b = {0};
    if (h.role == ROLE_ENGINE && in_bool(in))
        h.running = some_held(in);
    if (h.role == ROLE_ENGINE)
        for (unsigned n = in_u8(in) & 7; h.nunstarted < n;)
            unstarted[h.nunstarted++] = some_held(in);
    if (h.role == ROLE_CLIENT)
        for (unsigned n = in_u8(in) & 7; h.nwaiting < n;)
            waiting[h.nwaiting++] = (struct id_range){h.session, in_number(in), in_number(in)};
    if (hello_encode(&h, &b))
        abort();
    if (in_u8(in) & 3 || w->peers[peer] < 0) /* else through a host's link, or twice */
        world_connect(w, peer);
    world_send(w, peer, head, b.data, b.len, NULL, 0);
    buf_release(&b);
}

static void some_ids(struct input *in, struct id_range *v, uint32_t *n)
{
    *n = in_u8(in) & 3;
    for (uint32_t i = 0; i < *n; i++)
        v[i] = (struct id_range){some_session(in), in_number(in), in_number(in)};
}

static void some_route(struct input *in, struct buf *b)
{
    struct id_range after[3], follow[3];
    uint32_t targets[7];
    struct route r = {.targets = targets,
                      .timeout = in_bool(in) ? (double)in_u8(in) / 1000 : -1,
                      .retries = (uint32_t)in_number(in),
                      .priority = (int32_t)in_number(in),
                      .label = in_bool(in) ? "label" : NULL,
                      .python = in_bool(in) ? "3.11" : NULL,
                      .after = after,
                      .follow = follow};
    uint8_t flags = in_u8(in);
    r.has_targets = flags & 1;
    for (unsigned n = in_u8(in) & 7; r.has_targets && r.ntargets < n;)
        targets[r.ntargets++] = some_engine(in);
    some_ids(in, after, &r.nafter);
    some_ids(in, follow, &r.nfollow);
    r.after_flags = (struct dep_flags){flags & 2, flags & 4, flags & 8};
    r.follow_flags = (struct dep_flags){flags & 16, flags & 32, flags & 64};
    if (route_encode(&r, b))
        abort();
}

static void say(struct world *w, struct input *in)
{
    static const uint8_t common[] = {MSG_TASK,   MSG_RESULT, MSG_STARTED, MSG_CANCEL, MSG_GIVE_BACK,
                                     MSG_OUTPUT, MSG_COMM,   MSG_ACK,     MSG_QUERY,  MSG_EXIT,
                                     MSG_SIGNAL, MSG_TASK,   MSG_TASK,    MSG_RESULT, MSG_RESULT};
    static uint8_t large[WIRE_INLINE_MAX + 100];
    unsigned peer = in_u8(in) % WORLD_PEERS;
    uint8_t type = in_u8(in);
    struct header h = {.type = type < 240 ? common[type % sizeof common]
                                          : 1 + type % (MSG_TYPE_END - 1),
                       .flags = in_u8(in),
                       .status = in_u8(in) % 12,
                       .attempt = in_u8(in) & 3,
                       .engine = some_engine(in),
                       .incarnation = in_u8(in) & 3,
                       .session = some_session(in),
                       .seq = in_number(in),
                       .count = (uint32_t)in_number(in),
                       .time = in_number(in),
                       .aux = in_number(in)};
    struct buf route = {0};
    size_t n = 0;
    const uint8_t *body = NULL;
    json_t *j = NULL;
    uint8_t form = in_u8(in);
    if (h.type == MSG_TASK && form & 1)
        some_route(in, &route);
    if (h.type == MSG_QUERY || h.type == MSG_EXIT || h.type == MSG_SIGNAL || form >= 250)
        j = in_json(in, WORDS, 4);
    else if (form >= 240)
        body = large, n = sizeof large;
    else if (form & 2)
        body = in_bytes(in, 200, &n);
    if (j)
        world_json(w, peer, h, j);
    else
        world_send(w, peer, h, route.data, route.len, body, n);
    json_decref(j);
    buf_release(&route);
}

static void step(struct world *w, struct input *in)
{
    static const struct sched_event tick = {.type = SCHED_TICK};
    size_t n;
    const uint8_t *raw;
    uint8_t op = in_u8(in);
    switch (op & 15) {
    case 0:
    case 1:
    case 2:
        come(w, in);
        break;
    case 3:
        world_close(w, in_u8(in) % WORLD_PEERS);
        break;
    case 4:
        if (w->c.settling)
            hello_settled(&w->c);
        break;
    case 5:
        act_must(&w->c, &tick);
        break;
    case 6:
        if (op >= 240) {
            raw = in_bytes(in, 100, &n);
            world_put(w, in_u8(in) % WORLD_PEERS, raw, n);
        }
        break;
    default:
        say(w, in);
    }
    if (op & 16)
        world_run(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct world w;
    struct input in = {data, n};
    uint8_t how = in_u8(&in);
    world_start(&w, how >> 2 & 3, how & 1, how & 2 ? "none" : "memory");
    for (int i = 0; in.left && i < OPS_MAX && !w.c.stopping; i++)
        step(&w, &in);
    world_end(&w);
    return 0;
}
