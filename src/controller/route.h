/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One table says who may send what and which function takes it. */
#ifndef COVEY_CONTROLLER_ROUTE_H
#define COVEY_CONTROLLER_ROUTE_H

#include "controller/conn.h"
#include "wire/msg.h"

/* Who a message is from: exactly one of client, engine, host is set. */
struct origin {
    struct conn *conn;
    uint8_t role;
    struct client *client;
    struct engine *engine; /* also one behind a relay */
    struct host *host;
};

#endif
