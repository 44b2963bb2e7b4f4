/* SPDX-License-Identifier: BSD-3-Clause
 *
 * For test_faults.py, which builds it and preloads it: system calls that fail in processes whose
 * environment names them. COVEY_TEST_FAULT is "CALL" or "CALL@FILE": while FILE exists, or always,
 * each such call fails. CALL: fork (EAGAIN), connect, socket, memfd_create (EMFILE), connfile (EIO:
 * opening a connection file of engines). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static bool fails(const char *call, int error)
{
    const char *wanted = getenv("COVEY_TEST_FAULT"), *file = wanted ? strchr(wanted, '@') : NULL;
    size_t n = strlen(call);
    if (!wanted || strncmp(wanted, call, n) || (wanted[n] && wanted[n] != '@'))
        return false;
    if (file && access(file + 1, F_OK))
        return false;
    errno = error;
    return true;
}

pid_t fork(void)
{
    pid_t (*real)(void) = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");
    return fails("fork", EAGAIN) ? -1 : real();
}

static int open_as(const char *name, const char *path, int flags, mode_t mode)
{
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    return strstr(path, "-engine.json") && fails("connfile", EIO) ? -1 : real(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return open_as("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return open_as("open64", path, flags, mode);
}

int connect(int fd, const struct sockaddr *a, socklen_t n)
{
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return fails("connect", EMFILE) ? -1 : real(fd, a, n);
}

int socket(int domain, int type, int protocol)
{
    int (*real)(int, int, int) = dlsym(RTLD_NEXT, "socket");
    return fails("socket", EMFILE) ? -1 : real(domain, type, protocol);
}

int memfd_create(const char *name, unsigned flags)
{
    int (*real)(const char *, unsigned) = dlsym(RTLD_NEXT, "memfd_create");
    return fails("memfd_create", EMFILE) ? -1 : real(name, flags);
}
