/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Error codes and error texts.
 *
 * Functions that can fail return `int`: CV_OK (0) or one of the negative codes below, and are
 * marked CV_CHECK. Where a person will read the outcome they also take a `struct err *` (may be
 * NULL), which receives one sentence; callers may put context before it with err_wrap().
 * Parameters named ret_... are untouched on failure. Libraries never log. */
#ifndef COVEY_BASE_ERROR_H
#define COVEY_BASE_ERROR_H

#define CV_CHECK __attribute__((warn_unused_result))
#define CV_PRINTF(a, b) __attribute__((format(printf, a, b)))

enum cv_code {
    CV_OK = 0,
    CV_EAGAIN = -1, /* would block; try again when the descriptor is ready */
    CV_EOF = -2,    /* the peer closed the stream */
    CV_ENOMEM = -3,
    CV_EPROTO = -4,   /* the peer's bytes break the protocol */
    CV_ELIMIT = -5,   /* larger than allowed */
    CV_EAUTH = -6,    /* wrong key, wrong uid */
    CV_EVERSION = -7, /* another wire version */
    CV_EINVAL = -8,   /* bad argument, option, file contents */
    CV_ENOENT = -9,
    CV_EEXIST = -10,
    CV_ESYS = -11,    /* a system call failed; the text has strerror */
    CV_ECLOSED = -12, /* the object is closed */
    CV_ETIMEOUT = -13,
    CV_EACCES = -14,
    CV_ENFILE = -15, /* no room for another descriptor */
};

struct err {
    char text[512];
};

/* Sets the text (if e is not NULL) and returns code, so that `return err_set(e, CV_X, "...")`
 * reads. */
int err_set(struct err *e, int code, const char *fmt, ...) CV_PRINTF(3, 4);
/* Like err_set with ": <strerror(errno)>" appended; returns CV_ESYS (CV_ENOENT, CV_EACCES,
 * CV_EEXIST for those errnos). */
int err_sys(struct err *e, const char *fmt, ...) CV_PRINTF(2, 3);
/* Puts "<context>: " before the text and returns code unchanged. */
int err_wrap(struct err *e, int code, const char *fmt, ...) CV_PRINTF(3, 4);
/* A short constant name for a code, for traces: "CV_EPROTO". */
const char *err_name(int code);

#endif
