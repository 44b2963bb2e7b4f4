/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Connection files: security/ipcontroller[-ID]-{client,engine}.json, mode 0600, one `"key": value`
 * a line with one space behind the colon, in this order: cluster_id, boot_id, endpoints, ssh,
 * interface, process, registration, control, mux, task, iopub, notification, location, key.
 * (`location` is not last: scripts rewrite its line with a trailing comma.) The six labels all hold
 * the one port.
 */
#ifndef COVEY_WIRE_CONNFILE_H
#define COVEY_WIRE_CONNFILE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

struct connfile {
    char *cluster_id, *boot_id;
    char **endpoints; /* "unix:@name", "unix:/path", "tcp://10.0.0.5:4711", "tcp://[::1]:4711" */
    uint32_t nendpoints;
    char *key; /* 64 hex digits; a secret of the role's file */
    char *location, *ssh, *interface;
    uint16_t port;
    /* Whose file it is, so that a client on the same machine sees that it has ended without
     * removing it. Only written; pid 0: left out. */
    struct {
        uint32_t pid;
        uint64_t start; /* field 22 of /proc/PID/stat */
        uint64_t pid_namespace;
        uint64_t machine; /* machine_id() */
    } process;
};

void connfile_release(struct connfile *c);
int connfile_encode(const struct connfile *c, struct buf *out) CV_CHECK;
/* Parses text; a bad file is CV_EINVAL and the text names the key and what was wrong (never the
 * key's value). */
int connfile_decode(const char *text, size_t n, struct connfile *ret, struct err *e) CV_CHECK;
/* Reads a file: refuses one that others may read (names mode and the chmod that helps), another
 * owner, a truncated one. CV_ENOENT when missing. */
int connfile_read(const char *path, struct connfile *ret, struct err *e) CV_CHECK;
/* CV_EINVAL: what is there (a device, a folder) can't be or become a connection file. */
int connfile_check_path(const char *path, struct err *e) CV_CHECK;
int connfile_write(const char *path, const struct connfile *c, struct err *e) CV_CHECK;
/* This machine's boot identity, to tell whether a unix endpoint can be ours (hash of
 * /proc/sys/kernel/random/boot_id). */
uint64_t machine_id(void);
/* The name space of this process's number (the inode of /proc/self/ns/pid; 0: unknown): containers
 * of one machine have one each. */
uint64_t pid_namespace(void);

#endif
