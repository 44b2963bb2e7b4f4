/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See deathlog.h. On the host's thread; owns nothing. Without memory for the words a shorter line
 * takes their place. */
#include "host/deathlog.h"

#include <unistd.h>
#include "wire/header.h"

static int level_of(bool stopping, bool expected)
{
    if (stopping)
        return LOG_DEBUG_;
    return expected ? LOG_INFO_ : LOG_ERROR_;
}

void death_log(struct log *log, const struct death *d, bool stopping)
{
    struct buf text = {0};
    bool told = death_log_text(d, &text) == CV_OK;
    bool expected = stopping || d->because || death_is_clean(d);
    log_at(log, level_of(stopping, expected), "%s", told ? buf_cstr(&text) : "an engine has ended");
    buf_release(&text);
    if (expected || d->number != WIRE_ENGINE_NONE || d->failure || d->err.len == 0)
        return; /* what a zygote says is passed on at once */
    ssize_t n = write(STDERR_FILENO, d->err.data, d->err.len);
    if (n > 0 && d->err.data[d->err.len - 1] != '\n')
        n = write(STDERR_FILENO, "\n", 1);
    (void)n;
}
