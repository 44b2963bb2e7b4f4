/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading /proc (see procinfo.h). All files are small; each is read with one buffer on the stack.
 */
#include "proc/procinfo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cgroup.h"

/* Reads at most cap - 1 bytes and a NUL; the count or -1 with errno. */
static ssize_t read_small(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t have = 0;
    ssize_t n;
    while (have < cap - 1 && (n = read(fd, out + have, cap - 1 - have)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        have += (size_t)n;
    }
    close(fd);
    out[have] = 0;
    return (ssize_t)have;
}

int procinfo_parse(const char *stat, size_t n, struct procinfo *ret)
{
    struct procinfo p = {0};
    const char *name = memchr(stat, '(', n);
    const char *end = memrchr(stat, ')', n); /* the name may hold anything, parentheses too */
    if (!end || !name || name > end || sscanf(stat, "%d", &p.pid) != 1)
        return CV_EINVAL;
    snprintf(p.name, sizeof p.name, "%.*s", (int)(end - name - 1), name + 1);
    unsigned long long start;
    int got = sscanf(
        end + 1, " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
        &p.state, &p.ppid, &p.pgid, &p.sid, &start);
    if (got != 5)
        return CV_EINVAL;
    p.start = start;
    *ret = p;
    return CV_OK;
}

int procinfo_get(pid_t pid, struct procinfo *ret, struct err *e)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    ssize_t n = read_small(path, text, sizeof text);
    if (n <= 0 || procinfo_parse(text, (size_t)n, ret) != CV_OK)
        return err_set(e, CV_ENOENT, "there is no process %d", pid);
    return CV_OK;
}

bool process_alive(pid_t pid, uint64_t start)
{
    struct procinfo p;
    return procinfo_get(pid, &p, NULL) == CV_OK && p.state != 'Z' && p.state != 'X' &&
           (!start || p.start == start);
}

int process_children(pid_t parent, void (*cb)(void *arg, const struct procinfo *p), void *arg,
                     struct err *e)
{
    DIR *d = opendir("/proc");
    if (!d)
        return err_sys(e, "/proc");
    struct dirent *entry;
    while ((entry = readdir(d))) {
        struct procinfo p;
        int pid = atoi(entry->d_name);
        if (pid > 0 && procinfo_get(pid, &p, NULL) == CV_OK && p.ppid == parent)
            cb(arg, &p);
    }
    closedir(d);
    return CV_OK;
}

int pgroup_kill(pid_t pgid, int signum, struct err *e)
{
    if (pgid <= 1 || pgid == getpgrp())
        return err_set(e, CV_EINVAL, "process group %d is not a child's", pgid);
    if (kill(-pgid, signum) < 0 && errno != ESRCH)
        return err_sys(e, "can't signal process group %d", pgid);
    return CV_OK;
}

int oom_kills_parse(const char *text, size_t n, uint64_t *ret)
{
    static const char name[] = "oom_kill ";
    const char *end = text + n;
    for (const char *line = text; line < end;) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        next = next ? next + 1 : end;
        size_t len = (size_t)(next - line);
        if (len > sizeof name - 1 && memcmp(line, name, sizeof name - 1) == 0) {
            uint64_t value = 0;
            const char *p = line + sizeof name - 1;
            if (*p < '0' || *p > '9')
                return CV_EINVAL;
            for (; p < next && *p >= '0' && *p <= '9'; p++)
                value = value * 10 + (uint64_t)(*p - '0');
            *ret = value;
            return CV_OK;
        }
        line = next;
    }
    return CV_ENOENT;
}

/* In a container the path may be one of the host's, and our own cgroup is mounted as the root. */
static int read_oom_file(const char *cgroups, size_t n, int version, uint64_t *ret)
{
    static const char root[] = "/sys/fs/cgroup";
    const char *file = version == 1 ? "memory.oom_control" : "memory.events";
    char *folder = NULL, path[4096], text[4096];
    int rc = cgroup_memory_path(cgroups, n, root, version, &folder);
    if (rc != CV_OK)
        return rc;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    free(folder);
    ssize_t got = read_small(path, text, sizeof text);
    if (got <= 0) {
        snprintf(path, sizeof path, "%s%s/%s", root, version == 1 ? "/memory" : "", file);
        got = read_small(path, text, sizeof text);
    }
    return got > 0 ? oom_kills_parse(text, (size_t)got, ret) : CV_ENOENT;
}

int cgroup_oom_kills(uint64_t *ret, struct err *e)
{
    char cgroups[8192];
    ssize_t n = read_small("/proc/self/cgroup", cgroups, sizeof cgroups);
    for (int version = 2; n > 0 && version >= 1; version--)
        if (read_oom_file(cgroups, (size_t)n, version, ret) == CV_OK)
            return CV_OK;
    return err_set(e, CV_ENOENT, "no cgroup file tells of killed processes");
}
