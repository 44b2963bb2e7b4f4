/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See adopt.h. A controller's connection file says which process wrote it. */
#include "cluster/adopt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/buf.h"
#include "base/file.h"
#include "proc/procinfo.h"

#define ENVIRON_MAX (4u << 20)

/* A file of /proc/PID; empty when it can't be read. */
static void read_proc(pid_t pid, const char *leaf, struct buf *ret)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, leaf);
    if (file_read(path, ENVIRON_MAX, ret, NULL))
        buf_clear(ret);
}

static bool is_controller(pid_t pid)
{
    static const char NAME[] = "ipcontroller\n";
    struct buf b = {0};
    read_proc(pid, "comm", &b);
    bool yes = b.len == strlen(NAME) && !memcmp(b.data, NAME, b.len);
    buf_release(&b);
    return yes;
}

/* Supervisors name their cluster file to the controllers that they start. */
static bool is_supervised(pid_t pid)
{
    static const char NAME[] = "COVEY_CLUSTER_FILE=";
    struct buf b = {0};
    bool found = false;
    read_proc(pid, "environ", &b);
    for (size_t at = 0; at < b.len && !found;) {
        size_t n = strnlen((const char *)b.data + at, b.len - at);
        found = n > strlen(NAME) && !memcmp(b.data + at, NAME, strlen(NAME));
        at += n + 1;
    }
    buf_release(&b);
    return found;
}

/* The process that wrote this file, if it is one of ours, of this machine, and lives. */
static pid_t writer_of(const char *path)
{
    json_t *file = json_load_file(path, 0, NULL), *who = json_object_get(file, "process");
    json_int_t pid = json_integer_value(json_object_get(who, "pid"));
    json_int_t start = json_integer_value(json_object_get(who, "start"));
    json_int_t space = json_integer_value(json_object_get(who, "pid_namespace"));
    struct stat st;
    bool runs = pid > 0 && start > 0 && !stat("/proc/self/ns/pid", &st) &&
                st.st_ino == (ino_t)space && process_alive((pid_t)pid, (uint64_t)start);
    json_decref(file);
    return runs ? (pid_t)pid : 0;
}

pid_t adopt_find(const char *profile_dir, const char *cluster_id, json_t **ret_listening)
{
    const char *dash = *cluster_id ? "-" : "";
    char *engine =
        str_printf("%s/security/ipcontroller%s%s-engine.json", profile_dir, dash, cluster_id);
    char *client =
        str_printf("%s/security/ipcontroller%s%s-client.json", profile_dir, dash, cluster_id);
    pid_t pid = engine && client ? writer_of(engine) : 0;
    if (pid && (!is_controller(pid) || is_supervised(pid)))
        pid = 0;
    json_t *o = pid ? json_pack("{s:s, s:i, s:s, s:s}", "event", "listening", "pid", (int)pid,
                                "client_file", client, "engine_file", engine)
                    : NULL;
    free(engine);
    free(client);
    if (!o)
        return 0;
    *ret_listening = o;
    return pid;
}
