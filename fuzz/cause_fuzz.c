/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: EXIT, what a host tells of an engine's end. The first byte says whether the rest is
 * JSON text or decides JSON of the right keys. */
#include "world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { CLIENT, ENGINE, HOST };

static const char *const WORDS[] = {"id",
                                    "host",
                                    "pid",
                                    "signal",
                                    "code",
                                    "oom",
                                    "running",
                                    "running_attempt",
                                    "tasks_done",
                                    "planned",
                                    "restart",
                                    "peak_rss",
                                    "stderr",
                                    "text",
                                    "slot",
                                    "incarnation",
                                    "0000000000000064_1",
                                    "0000000000000064_2",
                                    "0000000000000064_99999999999999999999",
                                    "_1",
                                    "zz_1",
                                    NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct world w;
    struct input in = {data, n};
    uint8_t how = in_u8(&in), which = in_u8(&in);
    struct header task = {.type = MSG_TASK,
                          .engine = WIRE_ENGINE_NONE,
                          .session = 100,
                          .seq = 1,
                          .count = 3,
                          .status = TASK_MAP};
    struct header h = {.type = MSG_EXIT,
                       .engine = which & 1 ? WIRE_ENGINE_NONE : which >> 2 & 1,
                       .incarnation = which & 2 ? 2 : 1};
    world_start(&w, 0, how & 2, "memory");
    world_hello(&w, CLIENT, ROLE_CLIENT, 0);
    world_hello(&w, HOST, ROLE_HOST, 2);
    world_hello(&w, ENGINE, ROLE_ENGINE, 1);
    world_run(&w);
    world_send(&w, CLIENT, task, NULL, 0, "f", 1);
    world_run(&w);
    if (how & 1) {
        world_send(&w, HOST, h, NULL, 0, in.at, in.left > 60000 ? 60000 : in.left);
    } else {
        json_t *j = in_json_object(&in, WORDS, 3);
        world_json(&w, HOST, h, j);
        json_decref(j);
    }
    if (how & 4)
        world_close(&w, ENGINE);
    world_run(&w);
    world_end(&w);
    return 0;
}
