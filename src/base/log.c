/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Log lines (log.h). Any thread: a line is composed on the caller's stack and written by one
 * write(). Lines longer than 4 KiB are cut. A failed write loses that line and nothing else. A pipe
 * or terminal that nobody reads holds the program up once, for PATIENCE_MS; then lines are left
 * out, and counted, until there is room again. */
#include "base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_ 4096 /* a pipe that poll() calls writable takes so much at once */
#define PATIENCE_MS 250

struct log {
    int level, fd;
    char app[40];
    atomic_uint lost; /* lines left out since the last one that was written */
};

static const struct {
    int level;
    const char *name;
} LEVELS[] = {
    {LOG_DEBUG_, "DEBUG"},    {LOG_INFO_, "INFO"},   {LOG_WARN_, "WARNING"},
    {LOG_WARN_, "WARN"},      {LOG_ERROR_, "ERROR"}, {LOG_CRITICAL_, "CRITICAL"},
    {LOG_CRITICAL_, "FATAL"}, {0, "NOTSET"},
};
#define NLEVELS (sizeof LEVELS / sizeof LEVELS[0])

int log_new(struct log **ret, const char *app, int level, int fd)
{
    struct log *l = calloc(1, sizeof *l);
    if (!l)
        return CV_ENOMEM;
    l->level = level;
    l->fd = fd;
    snprintf(l->app, sizeof l->app, "%s", app);
    *ret = l;
    return CV_OK;
}

void log_free(struct log *l)
{
    free(l);
}

int log_level_parse(const char *text, int *ret)
{
    for (size_t i = 0; i < NLEVELS; i++)
        if (!strcasecmp(text, LEVELS[i].name)) {
            *ret = LEVELS[i].level;
            return CV_OK;
        }
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < 0 || n > 100)
        return CV_EINVAL;
    *ret = (int)n;
    return CV_OK;
}

static const char *level_name(int level)
{
    const char *name = "DEBUG";
    for (size_t i = 0; i < NLEVELS; i++)
        if (LEVELS[i].level && LEVELS[i].level <= level && strcmp(LEVELS[i].name, "WARN") &&
            strcmp(LEVELS[i].name, "FATAL"))
            name = LEVELS[i].name;
    return name;
}

/* Always true for a file. */
static bool has_room(const struct log *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLOUT};
    int r = poll(&p, 1, atomic_load(&l->lost) ? 0 : PATIENCE_MS);

    return r > 0 || (r < 0 && poll(&p, 1, 0) > 0); /* a signal came */
}

static size_t line_begin(const struct log *l, int level, char line[static LINE_MAX_])
{
    struct timespec now;
    struct tm tm;
    char stamp[24];

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &tm);
    return (size_t)snprintf(line, LINE_MAX_, "%s.%03ld [%s] %s%s", stamp, now.tv_nsec / 1000000,
                            l->app, level >= LOG_WARN_ ? level_name(level) : "",
                            level >= LOG_WARN_ ? " | " : "");
}

static void line_write(struct log *l, const char *line, size_t len)
{
    if (!has_room(l)) {
        atomic_fetch_add(&l->lost, 1);
        return;
    }
    ssize_t ignored = write(l->fd, line, len);
    (void)ignored;
}

/* Says how many lines are missing here, once somebody reads again. */
static void tell_lost(struct log *l)
{
    if (!atomic_load(&l->lost) || !has_room(l))
        return;
    char line[LINE_MAX_];
    unsigned lost = atomic_exchange(&l->lost, 0);
    size_t n = line_begin(l, LOG_WARN_, line);
    n += (size_t)snprintf(line + n, LINE_MAX_ - n,
                          "%u lines are missing here: nobody read what was written\n", lost);
    line_write(l, line, n);
}

void log_at(struct log *l, int level, const char *fmt, ...)
{
    if (!l || level < l->level)
        return;
    char line[LINE_MAX_];
    size_t n = line_begin(l, level, line);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    if (m < 0)
        return;
    size_t len = strlen(line);
    if (line[len - 1] != '\n')
        line[len++] = '\n';
    tell_lost(l);
    line_write(l, line, len);
}
