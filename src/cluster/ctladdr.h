/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Addresses of abstract sockets, "@name". */
#ifndef COVEY_CLUSTER_CTLADDR_H
#define COVEY_CLUSTER_CTLADDR_H

#include <sys/socket.h>
#include <sys/un.h>
#include "base/error.h"

/* CV_EINVAL for what is no "@name" or too long. */
int ctladdr_parse(const char *text, struct sockaddr_un *ret, socklen_t *ret_len,
                  struct err *e) CV_CHECK;

#endif
