/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Files and folders: what the programs need and no more. Paths are NUL-terminated UTF-8. */
#ifndef COVEY_BASE_FILE_H
#define COVEY_BASE_FILE_H

#include <stddef.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/error.h"

/* Reads a whole file of at most `limit` bytes. CV_ENOENT, CV_EACCES, CV_ELIMIT, CV_ESYS. */
int file_read(const char *path, size_t limit, struct buf *ret, struct err *e) CV_CHECK;
/* Writes PATH.tmp.PID with O_EXCL|O_NOFOLLOW and `mode`, fsyncs, renames. Leaves nothing behind on
 * failure. */
int file_write_atomic(const char *path, mode_t mode, const void *data, size_t n,
                      struct err *e) CV_CHECK;
/* Where file_write_atomic() of process `pid` writes PATH on file systems without nameless files: a
 * killed process may leave it. malloc'ed; NULL when out of memory. */
char *file_temporary_path(const char *path, long pid);
/* mkdir -p; existing folders are fine. */
int file_mkdirs(const char *path, mode_t mode, struct err *e) CV_CHECK;
/* malloc'ed "a/b" (no doubled slash); NULL when out of memory. */
char *path_join(const char *a, const char *b);
/* malloc'ed printf. NULL when out of memory. */
char *str_printf(const char *fmt, ...) CV_PRINTF(1, 2);
/* `text` with the number in place of every "{i}", malloc'ed; NULL when out of memory. */
char *str_place(const char *text, unsigned i);
/* The folder of the running program (from /proc/self/exe), malloc'ed. */
char *path_program_dir(void);
/* 16 random bytes or n of them, from getrandom(). */
int random_bytes(void *out, size_t n, struct err *e) CV_CHECK;

/* The open descriptor that an environment variable names, as a number and nothing else; -1: it is
 * unset or empty. CV_EINVAL names the variable and its text. */
int file_env_descriptor(const char *name, int *ret, struct err *e) CV_CHECK;

#endif
