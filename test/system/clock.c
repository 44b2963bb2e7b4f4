/* SPDX-License-Identifier: BSD-3-Clause
 *
 * To be preloaded: the wall clock is as many seconds off as the file COVEY_TEST_CLOCK says (a
 * double), from the moment on in which that is written; the monotonic clock is not. Only for the
 * calls of covey's own code and Python's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile double *off;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("COVEY_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        off = p;
    if (fd >= 0)
        close(fd);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(id, t);
    if (off && id == CLOCK_REALTIME)
        t->tv_sec += (time_t)*off;
    return r;
}
