/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See fault.h. Each wrapped function has two lines: it fails if its turn has come, and else calls
 * the real one. */
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <jansson.h>

#define PLACES_MAX 20000
#define FDS 256

static struct {
    unsigned kinds;
    uint64_t place;
    uint64_t left, hits; /* left: calls until one fails; 0: none will */
    bool from_then_on, paused;
} armed;

void fault_arm(unsigned kinds, uint64_t n, bool from_then_on)
{
    armed.kinds = kinds;
    armed.left = armed.place = n;
    armed.hits = 0;
    armed.from_then_on = from_then_on;
    armed.paused = false;
}

void fault_pause(void)
{
    armed.paused = true;
}

void fault_go_on(void)
{
    armed.paused = false;
}

uint64_t fault_disarm(void)
{
    armed.kinds = 0;
    return armed.hits;
}

uint64_t fault_place(void)
{
    return armed.place;
}

bool fault_hit(void)
{
    return armed.hits > 0;
}

static bool fails(unsigned kind, int error)
{
    if (!(armed.kinds & kind) || !armed.left || armed.paused)
        return false;
    if (armed.left > 1) {
        armed.left--;
        return false;
    }
    if (!armed.from_then_on)
        armed.left = 0;
    armed.hits++;
    errno = error;
    return true;
}

static unsigned open_fds(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < FDS; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void *json_memory(size_t n)
{
    return fails(FAULT_MEMORY, ENOMEM) ? NULL : malloc(n);
}

unsigned fault_each(unsigned kinds, void (*scenario)(void *arg), void *arg)
{
    unsigned places = 0;
    json_set_alloc_funcs(json_memory, free);
    scenario(arg); /* what is made once is made now */
    unsigned fds = open_fds();
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        unsigned n = 0;
        do {
            fault_arm(kinds, ++n, for_ever);
            scenario(arg);
            if (open_fds() != fds)
                fail_msg("failure %u%s: %d descriptors left open", n,
                         for_ever ? " and all after it" : "", (int)open_fds() - (int)fds);
        } while (fault_disarm() && n < PLACES_MAX);
        assert_true(n < PLACES_MAX);
        places = n - 1;
    }
    return places;
}

#define WRAP(type, name, params, args, kind, error, failed)                                        \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params                                                                      \
    {                                                                                              \
        return fails(kind, error) ? failed : __real_##name args;                                   \
    }

WRAP(void *, malloc, (size_t n), (n), FAULT_MEMORY, ENOMEM, NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), FAULT_MEMORY, ENOMEM, NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), FAULT_MEMORY, ENOMEM, NULL)
WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size), FAULT_MEMORY, ENOMEM,
     NULL)
WRAP(void *, aligned_alloc, (size_t align, size_t n), (align, n), FAULT_MEMORY, ENOMEM, NULL)
WRAP(char *, strdup, (const char *s), (s), FAULT_MEMORY, ENOMEM, NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), FAULT_MEMORY, ENOMEM, NULL)
WRAP(int, vasprintf, (char **ret, const char *fmt, va_list ap), (ret, fmt, ap), FAULT_MEMORY,
     ENOMEM, -1)
WRAP(void *, mmap64, (void *at, size_t n, int prot, int flags, int fd, off_t off),
     (at, n, prot, flags, fd, off), FAULT_MEMORY, ENOMEM, MAP_FAILED)

WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol), FAULT_OPEN,
     EMFILE, -1)
WRAP(int, socketpair, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds), FAULT_OPEN, EMFILE, -1)
WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags),
     FAULT_OPEN, EMFILE, -1)
WRAP(int, pipe2, (int fds[2], int flags), (fds, flags), FAULT_OPEN, EMFILE, -1)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), FAULT_OPEN, EMFILE, -1)
WRAP(int, eventfd, (unsigned count, int flags), (count, flags), FAULT_OPEN, EMFILE, -1)
WRAP(int, dup, (int fd), (fd), FAULT_OPEN, EMFILE, -1)

/* What has a mode is passed one, wanted or not. */
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode)
{
    return fails(FAULT_OPEN, EMFILE) ? -1 : __real_open64(path, flags, mode);
}

/* Only the commands that make descriptors fail. */
int __real_fcntl64(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, long arg);
int __wrap_fcntl64(int fd, int cmd, long arg)
{
    bool makes = cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC;
    return makes && fails(FAULT_OPEN, EMFILE) ? -1 : __real_fcntl64(fd, cmd, arg);
}

WRAP(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n), FAULT_WRITE, ENOSPC, -1)
WRAP(int, fsync, (int fd), (fd), FAULT_WRITE, EIO, -1)
WRAP(int, ftruncate64, (int fd, off_t n), (fd, n), FAULT_WRITE, ENOSPC, -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), FAULT_WRITE, ENOSPC, -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), FAULT_WRITE, ENOSPC, -1)
WRAP(int, linkat, (int a, const char *from, int b, const char *to, int flags),
     (a, from, b, to, flags), FAULT_WRITE, ENOSPC, -1)

WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags), FAULT_STREAM,
     ECONNRESET, -1)
WRAP(ssize_t, send, (int fd, const void *data, size_t n, int flags), (fd, data, n, flags),
     FAULT_STREAM, ECONNRESET, -1)
WRAP(ssize_t, recv, (int fd, void *data, size_t n, int flags), (fd, data, n, flags), FAULT_STREAM,
     ECONNRESET, -1)
WRAP(ssize_t, read, (int fd, void *data, size_t n), (fd, data, n), FAULT_STREAM, ECONNRESET, -1)

WRAP(pid_t, fork, (void), (), FAULT_SPAWN, EAGAIN, -1)
WRAP(int, posix_spawnp,
     (pid_t * pid, const char *file, const posix_spawn_file_actions_t *fa,
      const posix_spawnattr_t *attr, char *const argv[], char *const envp[]),
     (pid, file, fa, attr, argv, envp), FAULT_SPAWN, EAGAIN, EAGAIN)
WRAP(int, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), FAULT_CONNECT,
     ECONNREFUSED, -1)
