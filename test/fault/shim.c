/* SPDX-License-Identifier: BSD-3-Clause
 *
 * For tests of whole programs, which build it and preload it: calls that fail. Any thread. Two
 * ways to say which:
 *
 * COVEY_TEST_FAULT is "CALL" or "CALL@FILE": in each process that has it, while FILE exists, or
 * always, each such call fails. CALL: one of those below, or connfile (EIO: opening a connection
 * file of engines).
 *
 * COVEY_TEST_FAULT_NTH is "PROGRAM KINDS N FILE": in processes of that name the Nth call (from 1;
 * 0: none) fails, of those that covey's own code makes, C's library on its behalf, or JSON's; calls
 * of libuv, OpenSSL, SQLite and msgpack-c for themselves are not counted. N+: that and all after
 * it. KINDS are letters, as fault.h's: m memory, o what makes descriptors, w writes to files, s
 * reads and writes of streams, f processes and threads, c connections. FILE begins with a struct
 * tally, zeroed: how many calls there were, and what failed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOREIGN_MAX 64

/* Shared by all processes of the program; nth.py reads it. */
struct tally {
    _Atomic uint64_t calls, failed;
    uint64_t where; /* the caller of the first that failed, from the start of its object */
    char what[56];  /* its name, and the descriptor */
    char object[64];
};

static struct {
    char kinds[8];
    uint64_t n;
    bool from_then_on;
    struct tally *tally; /* NULL: not in this process */
    struct {
        uintptr_t lo, hi;
    } foreign[FOREIGN_MAX]; /* code of libraries whose calls are their own business */
    int nforeign;
} nth;

/* --- which call --- */

static int note_foreign(struct dl_phdr_info *info, size_t size, void *arg)
{
    static const char *const names[] = {"/libuv",      "/libcrypto", "/libssl", "/libsqlite3",
                                        "/libmsgpack", "/ld-",       "/libz"};
    bool foreign = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        foreign |= strstr(info->dlpi_name, names[i]) != NULL;
    for (int i = 0; foreign && i < info->dlpi_phnum && nth.nforeign < FOREIGN_MAX; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + h->p_vaddr;
        if (h->p_type == PT_LOAD && (h->p_flags & PF_X)) {
            nth.foreign[nth.nforeign].lo = lo;
            nth.foreign[nth.nforeign++].hi = lo + h->p_memsz;
        }
    }
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *wanted = getenv("COVEY_TEST_FAULT_NTH");
    char program[64], kinds[8], n[24], file[4096];
    if (!wanted || sscanf(wanted, "%63s %7s %23s %4095s", program, kinds, n, file) != 4 ||
        strcmp(program, program_invocation_short_name))
        return;
    dl_iterate_phdr(note_foreign, NULL);
    strcpy(nth.kinds, kinds);
    nth.n = strtoull(n, NULL, 10);
    nth.from_then_on = strchr(n, '+');
    int fd = open(file, O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED
                     : mmap(NULL, sizeof *nth.tally, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED)
        nth.tally = p;
}

static bool is_foreign(const void *caller)
{
    for (int i = 0; i < nth.nforeign; i++)
        if ((uintptr_t)caller >= nth.foreign[i].lo && (uintptr_t)caller < nth.foreign[i].hi)
            return true;
    return false;
}

static void note_failed(const char *name, long detail, const void *caller)
{
    Dl_info at;
    if (atomic_fetch_add(&nth.tally->failed, 1))
        return;
    snprintf(nth.tally->what, sizeof nth.tally->what, "%s(%ld)", name, detail);
    if (!dladdr(caller, &at))
        return;
    nth.tally->where = (uintptr_t)caller - (uintptr_t)at.dli_fbase;
    const char *leaf = strrchr(at.dli_fname, '/');
    snprintf(nth.tally->object, sizeof nth.tally->object, "%s", leaf ? leaf + 1 : at.dli_fname);
}

static bool nth_fails(char kind, const char *name, long detail, const void *caller, int error)
{
    if (!nth.tally || !strchr(nth.kinds, kind) || is_foreign(caller))
        return false;
    uint64_t i = atomic_fetch_add(&nth.tally->calls, 1) + 1;
    if (!nth.n || i < nth.n || (i > nth.n && !nth.from_then_on))
        return false;
    note_failed(name, detail, caller);
    errno = error;
    return true;
}

static bool named_fails(const char *call, int error)
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

/* --- the calls --- */

#define FAILS(name, detail, kind, error)                                                           \
    (named_fails(#name, error) ||                                                                  \
     nth_fails(kind, #name, (long)(detail), __builtin_return_address(0), error))
#define REAL(name, ...)                                                                            \
    ({                                                                                             \
        static __typeof__(&name) real;                                                             \
        if (!real)                                                                                 \
            real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                     \
        real(__VA_ARGS__);                                                                         \
    })
#define WRAP(type, name, params, args, detail, kind, error, failed)                                \
    type name params                                                                               \
    {                                                                                              \
        return FAILS(name, detail, kind, error) ? failed : REAL(name, UNPACK args);                \
    }
#define UNPACK(...) __VA_ARGS__

/* Memory is not asked for by name: looking up the real functions takes some. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

#define WRAP_MEMORY(name, params, size, real)                                                      \
    void *name params                                                                              \
    {                                                                                              \
        return nth_fails('m', #name, (long)(size), __builtin_return_address(0), ENOMEM) ? NULL     \
                                                                                        : real;    \
    }

WRAP_MEMORY(malloc, (size_t n), n, __libc_malloc(n))
WRAP_MEMORY(calloc, (size_t n, size_t size), n *size, __libc_calloc(n, size))
WRAP_MEMORY(realloc, (void *p, size_t n), n, __libc_realloc(p, n))
WRAP_MEMORY(aligned_alloc, (size_t align, size_t n), n, __libc_memalign(align, n))

void *reallocarray(void *p, size_t n, size_t size)
{
    size_t all;
    if (__builtin_mul_overflow(n, size, &all) ||
        nth_fails('m', "reallocarray", (long)(n * size), __builtin_return_address(0), ENOMEM)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(p, all);
}

WRAP(void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t off),
     (at, n, prot, flags, fd, off), n, 'm', ENOMEM, MAP_FAILED)
WRAP(void *, mmap64, (void *at, size_t n, int prot, int flags, int fd, off_t off),
     (at, n, prot, flags, fd, off), n, 'm', ENOMEM, MAP_FAILED)

WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol), domain, 'o',
     EMFILE, -1)
WRAP(int, socketpair, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds), domain, 'o', EMFILE, -1)
WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags), fd,
     'o', EMFILE, -1)
WRAP(int, pipe2, (int fds[2], int flags), (fds, flags), flags, 'o', EMFILE, -1)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), flags, 'o', EMFILE, -1)
WRAP(int, eventfd, (unsigned count, int flags), (count, flags), flags, 'o', EMFILE, -1)
WRAP(int, dup, (int fd), (fd), fd, 'o', EMFILE, -1)

static int open_as(int (*real)(const char *, int, ...), const char *name, const char *path,
                   int flags, mode_t mode, const void *caller)
{
    bool fails = (strstr(path, "-engine.json") && named_fails("connfile", EIO)) ||
                 nth_fails('o', name, flags, caller, EMFILE);
    return fails ? -1 : real(path, flags, mode);
}

#define WRAP_OPEN(name)                                                                            \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        static int (*real)(const char *, int, ...);                                                \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;                      \
        va_end(ap);                                                                                \
        if (!real)                                                                                 \
            real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                       \
        return open_as(real, #name, path, flags, mode, __builtin_return_address(0));               \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)

/* Only the commands that make descriptors fail. */
#define WRAP_FCNTL(name)                                                                           \
    int name(int fd, int cmd, ...)                                                                 \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, cmd);                                                                         \
        long arg = va_arg(ap, long);                                                               \
        va_end(ap);                                                                                \
        bool makes = cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC;                                     \
        return makes && nth_fails('o', #name, fd, __builtin_return_address(0), EMFILE)             \
                   ? -1                                                                            \
                   : REAL(name, fd, cmd, arg);                                                     \
    }

WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)

/* A pipe is never full for want of a disk. */
ssize_t write(int fd, const void *data, size_t n)
{
    struct stat st;
    bool file = nth.tally && !fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISCHR(st.st_mode));
    bool fails =
        nth_fails(file ? 'w' : 's', "write", fd, __builtin_return_address(0), file ? ENOSPC : EIO);
    return fails ? -1 : REAL(write, fd, data, n);
}

WRAP(int, fsync, (int fd), (fd), fd, 'w', EIO, -1)
WRAP(int, ftruncate64, (int fd, off_t n), (fd, n), fd, 'w', ENOSPC, -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), 0, 'w', ENOSPC, -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), 0, 'w', ENOSPC, -1)
WRAP(int, linkat, (int a, const char *from, int b, const char *to, int flags),
     (a, from, b, to, flags), 0, 'w', ENOSPC, -1)

WRAP(ssize_t, send, (int fd, const void *data, size_t n, int flags), (fd, data, n, flags), fd, 's',
     ECONNRESET, -1)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags), fd, 's',
     ECONNRESET, -1)
WRAP(ssize_t, recv, (int fd, void *data, size_t n, int flags), (fd, data, n, flags), fd, 's',
     ECONNRESET, -1)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags), fd, 's', ECONNRESET,
     -1)
WRAP(ssize_t, read, (int fd, void *data, size_t n), (fd, data, n), fd, 's', EIO, -1)

WRAP(pid_t, fork, (void), (), 0, 'f', EAGAIN, -1)
WRAP(int, posix_spawnp,
     (pid_t * pid, const char *file, const posix_spawn_file_actions_t *fa,
      const posix_spawnattr_t *attr, char *const argv[], char *const envp[]),
     (pid, file, fa, attr, argv, envp), 0, 'f', EAGAIN, EAGAIN)
WRAP(int, pthread_create,
     (pthread_t * t, const pthread_attr_t *attr, void *(*run)(void *), void *arg),
     (t, attr, run, arg), 0, 'f', EAGAIN, EAGAIN)

WRAP(int, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), fd, 'c',
     ECONNREFUSED, -1)
WRAP(int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), fd, 'c', EADDRNOTAVAIL,
     -1)
WRAP(int, listen, (int fd, int n), (fd, n), fd, 'c', EADDRINUSE, -1)
