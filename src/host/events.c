/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See events.h. The descriptor belongs to us from the start on and lives as long as the program. */
#include "host/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/jsontext.h"

int events_open(void)
{
    int fd;
    if (file_env_descriptor("COVEY_EVENTS_FD", &fd, NULL) != CV_OK)
        fd = -1; /* a wrapper (engine_cmd) may let no descriptor through */
    if (fd >= 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    unsetenv("COVEY_EVENTS_FD");
    return fd;
}

void events_write(int fd, json_t *event_take)
{
    char *line = fd >= 0 && event_take ? jsontext(event_take, JSON_COMPACT) : NULL;
    json_decref(event_take);
    if (!line)
        return;
    size_t n = strlen(line);
    line[n++] = '\n'; /* in place of the NUL */
    for (size_t at = 0; at < n;) {
        ssize_t part = write(fd, line + at, n - at);
        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            break;
        at += (size_t)part;
    }
    free(line);
}
