/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Log lines (log.h). Any thread: a line is composed on the caller's stack and written by one
 * write(). Lines longer than 4 KiB are cut. A failed write loses that line and nothing else. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_ 4096

struct log {
    int level, fd;
    char app[40];
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

void log_at(struct log *l, int level, const char *fmt, ...)
{
    if (!l || level < l->level)
        return;
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    char line[LINE_MAX_], stamp[24];
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &tm);
    int n = snprintf(line, sizeof line, "%s.%03ld [%s] %s%s", stamp, now.tv_nsec / 1000000, l->app,
                     level >= LOG_WARN_ ? level_name(level) : "", level >= LOG_WARN_ ? " | " : "");
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    size_t len = strlen(line);
    if (m < 0)
        return;
    if (line[len - 1] != '\n')
        line[len++] = '\n';
    ssize_t ignored = write(l->fd, line, len);
    (void)ignored;
}
