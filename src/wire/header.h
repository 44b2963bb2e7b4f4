/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fixed header of every message: 64 bytes, little-endian. docs/protocol.md has the layout and
 * a row for each type. Encoding can't fail; decoding checks magic, version, type and limits before
 * anything is allocated. */
#ifndef COVEY_WIRE_HEADER_H
#define COVEY_WIRE_HEADER_H

#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

#define WIRE_HEADER_SIZE 64
#define WIRE_MAGIC 0x5EC0 /* bytes C0 5E */
#define WIRE_VERSION 1
#define WIRE_ENGINE_NONE UINT32_MAX
#define WIRE_INCARNATION_MAX UINT16_MAX
#define WIRE_INLINE_MAX (64u << 10) /* buffers of together this much follow the header */
#define WIRE_CHUNK_MAX (256u << 10) /* data bytes of one CHUNK */
#define WIRE_ROUTE_MAX (1u << 20)
#define WIRE_BODY_MAX (16ull << 30) /* largest body that peers take from each other */
#define WIRE_BUFFERS_MAX 65535u
#define WIRE_PREAUTH_MAX 4096u /* largest message of a peer that has not said HELLO yet */
#define WIRE_HELLO_MAX                                                                             \
    (256u << 10) /* route of a HELLO: by then TLS or the kernel has said who it is */

enum msg_type {
    MSG_HELLO = 1,
    MSG_WELCOME = 2,
    MSG_TASK = 3,
    MSG_STARTED = 4,
    MSG_RESULT = 5,
    MSG_ACK = 6,
    MSG_OUTPUT = 7,
    MSG_COMM = 8,
    MSG_CANCEL = 9,
    MSG_SIGNAL = 10,
    MSG_TAKE = 11,
    MSG_GIVE_BACK = 12,
    MSG_QUERY = 13,
    MSG_REPLY = 14,
    MSG_EVENT = 15,
    MSG_CHUNK = 16,
    MSG_CREDIT = 17,
    MSG_MEMFD = 18,
    MSG_RELEASE = 19,
    MSG_EXIT = 20,
    MSG_SPAWN = 21,
    MSG_PING = 22,
    MSG_PONG = 23,
    MSG_BYE = 24,
    MSG_BLOB = 25, /* net's own: what later messages of this link begin with */
    MSG_DROP = 26, /* net's own: a BLOB is not referred to any more */
    MSG_TYPE_END
};

enum msg_flag {
    MSG_F_CHUNKED = 1u << 0,   /* the buffers follow as CHUNK frames (set and read by net alone) */
    MSG_F_DIRECT = 1u << 1,    /* TASK: for the engine named in the header */
    MSG_F_BROADCAST = 1u << 2, /* TASK: item i of the range is for route.targets[i] */
    MSG_F_SILENT = 1u << 3,    /* TASK execute: silent */
    MSG_F_LATE = 1u << 4,      /* OUTPUT: written after its task ended */
    MSG_F_KILL = 1u << 5,      /* CANCEL: kill the engine after aux nanoseconds */
    MSG_F_ABORT = 1u << 6,     /* CANCEL: only unqueue */
    MSG_F_RESTART = 1u << 7,   /* SPAWN: replace the engine under its number */
    MSG_F_BLOB = 1u << 8,      /* begins with the buffers of a BLOB (set and read by net alone) */
    MSG_F_AGAIN = 1u << 9,     /* RESULT: one of those that the engine's HELLO counted */
    MSG_F_LEFT_OUT =
        1u << 10, /* TASK, RESULT, REPLY: its data found no memory at a hop (leftout.h) */
};

/* What a TASK asks of the engine (header.status of TASK). */
enum task_kind { TASK_APPLY = 0, TASK_EXECUTE = 1, TASK_MAP = 2, TASK_CALL = 3 };

/* How a task ended (header.status of RESULT). 0 and 1 carry the engine's buffers; the others one
 * JSON buffer {"ename", "evalue", ...} written by the controller. */
enum result_status {
    RESULT_OK = 0,
    RESULT_ERROR = 1,       /* user code raised */
    RESULT_ABORTED = 2,     /* TaskAborted: unqueued before it started */
    RESULT_CANCELLED = 3,   /* cancelled */
    RESULT_ENGINE_DIED = 4, /* EngineError */
    RESULT_TIMEOUT = 5,     /* TaskTimeout: not started in time */
    RESULT_IMPOSSIBLE = 6,  /* ImpossibleDependency */
    RESULT_INVALID = 7,     /* InvalidDependency */
    RESULT_UNMET = 8,       /* UnmetDependency: depend() says no on this engine */
    RESULT_LOST = 9,        /* LostTask: payload gone */
    RESULT_REFUSED = 10,    /* no such engine, other Python version, limits */
    RESULT_STATUS_END
};

/* header.status of OUTPUT. */
enum output_kind {
    OUTPUT_STDOUT = 1,
    OUTPUT_STDERR = 2,
    OUTPUT_DISPLAY = 3,
    OUTPUT_UPDATE_DISPLAY = 4,
    OUTPUT_CLEAR = 5,
    OUTPUT_EXECUTE_RESULT = 6,
    OUTPUT_EXECUTE_INPUT = 7,
    OUTPUT_DATA = 8 /* publish_data */
};

struct header {
    uint8_t type;   /* enum msg_type */
    uint8_t status; /* by type: task_kind, result_status, output_kind */
    uint16_t flags; /* enum msg_flag */
    uint16_t attempt;
    uint32_t route_len;
    uint32_t nbufs;
    uint64_t body_len;     /* bytes of all buffers */
    uint64_t session, seq; /* the id of the first item; a range is [seq, seq + count) */
    uint32_t count;
    uint32_t engine, incarnation;
    uint64_t time; /* ns since 1970; RESULT: started */
    uint64_t aux;  /* by type; RESULT: completed */
};

/* The limits that header_decode holds a peer to. */
struct wire_limits {
    uint64_t body_max;  /* largest body (default 16 GiB; WIRE_PREAUTH_MAX before HELLO) */
    uint32_t route_max; /* WIRE_ROUTE_MAX */
};

void header_encode(uint8_t out[WIRE_HEADER_SIZE], const struct header *h);
/* CV_EPROTO, CV_EVERSION (text names both versions), CV_ELIMIT (text names the limit). */
int header_decode(const uint8_t in[WIRE_HEADER_SIZE], const struct wire_limits *l,
                  struct header *ret, struct err *e) CV_CHECK;
const char *msg_type_name(uint8_t type); /* "TASK"; "?" when unknown */

#endif
