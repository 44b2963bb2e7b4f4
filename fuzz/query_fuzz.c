/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: QUERY and SIGNAL of a client to a controller that has engines and tasks in several
 * states. The first byte says whether the rest is JSON text or decides JSON of the right keys. */
#include "world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { CLIENT, ENGINE, HOST, ENGINE_2 };

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
                                    "hub",
                                    "0000000000000064_1",
                                    "0000000000000064_2",
                                    "0000000000000064_3",
                                    "0000000000000064_7",
                                    "$eq",
                                    "$ne",
                                    "$lt",
                                    "$lte",
                                    "$gt",
                                    "$gte",
                                    "$in",
                                    "$nin",
                                    "$glob",
                                    "$exists",
                                    "msg_id",
                                    "client_uuid",
                                    "label",
                                    "queue",
                                    "mode",
                                    "kind",
                                    "source",
                                    "state",
                                    "engine",
                                    "engine_uuid",
                                    "attempt",
                                    "submitted",
                                    "started",
                                    "completed",
                                    "received",
                                    "stdout",
                                    "stderr",
                                    "first",
                                    "count",
                                    "ok",
                                    "error",
                                    "mux",
                                    "*",
                                    "lab?l",
                                    "[a-z]*",
                                    "2026-01-01",
                                    NULL};

static void populate(struct world *w)
{
    struct header task = {.type = MSG_TASK,
                          .engine = WIRE_ENGINE_NONE,
                          .session = 100,
                          .seq = 1,
                          .count = 1,
                          .status = TASK_EXECUTE};
    world_hello(w, CLIENT, ROLE_CLIENT, 0);
    world_hello(w, ENGINE, ROLE_ENGINE, 1);
    world_hello(w, HOST, ROLE_HOST, 2);
    world_run(w);
    world_send(w, CLIENT, task, NULL, 0, "x = 1", 5);
    task.seq = 2;
    task.count = 5;
    task.status = TASK_MAP;
    world_send(w, CLIENT, task, NULL, 0, "f", 1);
    task.seq = 7;
    task.count = 1;
    task.status = TASK_APPLY;
    world_send(w, CLIENT, task, NULL, 0, "f", 1);
    world_run(w);
    struct header result = {.type = MSG_RESULT,
                            .session = 100,
                            .seq = 1,
                            .count = 1,
                            .attempt = 1,
                            .time = 1,
                            .aux = 2};
    struct header output = {
        .type = MSG_OUTPUT, .session = 100, .seq = 2, .count = 1, .status = OUTPUT_STDOUT};
    world_send(w, ENGINE, output, NULL, 0, "text\n", 5);
    world_send(w, ENGINE, result, NULL, 0, "value", 5);
    result.seq = 3;
    result.status = RESULT_ERROR;
    world_send(w, ENGINE, result, NULL, 0, "{\"ename\": \"E\"}", 14);
    world_hello(w, ENGINE_2, ROLE_ENGINE, 3);
    world_run(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct world w;
    struct input in = {data, n};
    uint8_t how = in_u8(&in);
    struct header h = {.type = how & 2 ? MSG_SIGNAL : MSG_QUERY,
                       .session = 100,
                       .seq = 50,
                       .count = 1,
                       .engine = how & 4 ? 0 : WIRE_ENGINE_NONE};
    world_start(&w, 0, false, how & 8 ? "none" : "memory");
    populate(&w);
    if (how & 1) {
        world_send(&w, CLIENT, h, NULL, 0, in.at, in.left > 60000 ? 60000 : in.left);
    } else {
        for (int i = 0; i < 6 && in.left; i++) {
            json_t *j = in_json_object(&in, WORDS, 4);
            if (in.left)
                json_object_set_new(j, "query", json_string(WORDS[1 + in_u8(&in) % 11]));
            world_json(&w, CLIENT, h, j);
            json_decref(j);
            h.seq++;
        }
    }
    world_run(&w);
    world_end(&w);
    return 0;
}
