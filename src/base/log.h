/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Log lines for people: "2026-11-20 20:11:03.123 [IPController] WARNING | text" (the level is
 * shown from WARNING up). An object, not a global; programs own one and pass it down. Writes to
 * one descriptor with one write() per line; errors of that write are ignored. Where nobody reads a
 * pipe, lines are left out, and the next one that gets through says how many. */
#ifndef COVEY_BASE_LOG_H
#define COVEY_BASE_LOG_H

#include "base/error.h"

enum log_level {
    LOG_DEBUG_ = 10,
    LOG_INFO_ = 20,
    LOG_WARN_ = 30,
    LOG_ERROR_ = 40,
    LOG_CRITICAL_ = 50
};

struct log;

int log_new(struct log **ret, const char *app, int level, int fd) CV_CHECK; /* borrows fd */
void log_free(struct log *l);
int log_level_parse(const char *text, int *ret) CV_CHECK; /* "10", "DEBUG", "info", "WARN" ... */
void log_at(struct log *l, int level, const char *fmt, ...) CV_PRINTF(3, 4); /* l may be NULL */

#define log_debug(l, ...) log_at(l, LOG_DEBUG_, __VA_ARGS__)
#define log_info(l, ...) log_at(l, LOG_INFO_, __VA_ARGS__)
#define log_warn(l, ...) log_at(l, LOG_WARN_, __VA_ARGS__)
#define log_error(l, ...) log_at(l, LOG_ERROR_, __VA_ARGS__)
#define log_critical(l, ...) log_at(l, LOG_CRITICAL_, __VA_ARGS__)

#endif
