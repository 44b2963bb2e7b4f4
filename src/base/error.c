/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Error texts (error.h). Pure but for errno; any thread; owns nothing. Texts that are too long
 * are cut. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

static int code_of_errno(int n)
{
    switch (n) {
    case ENOENT:
        return CV_ENOENT;
    case EACCES:
    case EPERM:
        return CV_EACCES;
    case EEXIST:
        return CV_EEXIST;
    default:
        return CV_ESYS;
    }
}

int err_sys(struct err *e, const char *fmt, ...)
{
    int n = errno;
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        int len = vsnprintf(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
        if (len >= 0 && (size_t)len < sizeof e->text)
            snprintf(e->text + len, sizeof e->text - (size_t)len, ": %s", strerror(n));
    }
    errno = n;
    return code_of_errno(n);
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    struct err old = *e;
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (len < 0 || (size_t)len + 3 > sizeof e->text)
        return code;
    memcpy(e->text + len, ": ", 2);
    size_t n = strlen(old.text), room = sizeof e->text - (size_t)len - 3;
    n = n < room ? n : room;
    memcpy(e->text + len + 2, old.text, n);
    e->text[(size_t)len + 2 + n] = 0;
    return code;
}

const char *err_name(int code)
{
    static const char *const names[] = {
        "CV_OK",      "CV_EAGAIN",   "CV_EOF",    "CV_ENOMEM", "CV_EPROTO", "CV_ELIMIT",
        "CV_EAUTH",   "CV_EVERSION", "CV_EINVAL", "CV_ENOENT", "CV_EEXIST", "CV_ESYS",
        "CV_ECLOSED", "CV_ETIMEOUT", "CV_EACCES", "CV_ENFILE",
    };
    if (code > 0 || -code >= (int)(sizeof names / sizeof names[0]))
        return "?";
    return names[-code];
}
