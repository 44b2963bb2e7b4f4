/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The texts of addresses. */
#ifndef COVEY_NET_ADDRESS_PRIV_H
#define COVEY_NET_ADDRESS_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/error.h"

#define ADDRESS_HOST_MAX 256

/* "@abstract" or a path; CV_EINVAL when it is empty or too long. */
int address_unix(const char *name, struct sockaddr_un *ret, socklen_t *ret_len) CV_CHECK;
/* "host:port" or "[address]:port", port 1 to 65535. */
bool address_split(const char *text, char host[ADDRESS_HOST_MAX], uint16_t *ret_port);

#endif
