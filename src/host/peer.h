/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Has a controller that can't be reached ended, or is it merely out of reach? On the same machine
 * that can be told: by its process (Unix link), or because nobody listens on its loopback port any
 * more. Never blocks, owns nothing. */
#ifndef COVEY_HOST_PEER_H
#define COVEY_HOST_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "wire/connfile.h"

struct peer {
    pid_t pid;                       /* 0: not known */
    uint64_t start;                  /* see proc/procinfo.h */
    struct sockaddr_storage address; /* of a TCP peer */
};

/* Notes who is at the other end of a connected socket. */
void peer_remember(struct peer *p, int fd);
/* "unix:@name" of a connected Unix socket, else "". */
void peer_unix_endpoint(int fd, char *out, size_t cap);
/* It has ended for certain; why gets a sentence. own_name: this machine's. */
bool peer_gone(const struct peer *p, const struct connfile *f, const char *own_name, char *why,
               size_t cap);

#endif
