/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Usable cpus (cpus.h). Any thread; reads /proc and cgroup files, which may be missing. */
#include "cluster/cpus.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/file.h"

#define SMALL_FILE 65536

static uint32_t affinity(void)
{
    for (int most = 1024; most <= 1 << 20; most *= 4) {
        size_t size = CPU_ALLOC_SIZE(most);
        cpu_set_t *set = CPU_ALLOC(most);
        if (!set)
            return 0;
        int bad = sched_getaffinity(0, size, set), n = bad ? 0 : CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (n > 0)
            return (uint32_t)n;
    }
    return 0;
}

/* The first two numbers of a file; how many there are ("max" is none). */
static int read_numbers(const char *dir, const char *name, long long *a, long long *b)
{
    struct buf text = {0};
    char *path = path_join(dir, name);
    int n = 0;
    if (path && !file_read(path, SMALL_FILE, &text, NULL) && buf_cstr(&text))
        n = sscanf((const char *)text.data, "%lld %lld", a, b);
    buf_release(&text);
    free(path);
    return n < 0 ? 0 : n;
}

/* Version 2: "QUOTA PERIOD" in cpu.max. Version 1: a file for each; a quota of -1 is none. */
static uint32_t quota_of(const char *dir, bool v2)
{
    long long quota = -1, period = 0, unused;
    if (v2)
        read_numbers(dir, "cpu.max", &quota, &period);
    else if (read_numbers(dir, "cpu.cfs_quota_us", &quota, &unused))
        read_numbers(dir, "cpu.cfs_period_us", &period, &unused);
    if (quota <= 0 || period <= 0)
        return 0;
    long long n = (quota + period - 1) / period;
    return n > UINT32_MAX ? 0 : (uint32_t)n;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

/* The least quota of ROOT/PATH and of the folders above it. */
static uint32_t quota_upwards(const char *root, const char *path, size_t n, bool v2)
{
    char *dir = str_printf("%s%.*s", root, (int)n, path);
    uint32_t found = 0;
    size_t top = strlen(root);
    while (dir && strlen(dir) >= top) {
        found = least(found, quota_of(dir, v2));
        char *slash = strrchr(dir, '/');
        if (!slash)
            break;
        *slash = 0;
    }
    free(dir);
    return found;
}

static bool has_cpu_controller(const char *list, size_t n)
{
    const char *end = list + n;
    while (list < end) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        size_t k = (size_t)((comma ? comma : end) - list);
        if (k == 3 && !memcmp(list, "cpu", 3))
            return true;
        list += k + 1;
    }
    return false;
}

/* Lines are ID:CONTROLLERS:PATH; version 2 has no controllers. */
uint32_t cpus_cgroup_quota(const char *cgroup_text, const char *root)
{
    uint32_t found = 0;
    for (const char *line = cgroup_text; *line;) {
        size_t n = strcspn(line, "\n");
        const char *list = memchr(line, ':', n);
        const char *path = list ? memchr(list + 1, ':', n - (size_t)(list + 1 - line)) : NULL;
        if (path) {
            size_t nlist = (size_t)(path - list - 1), npath = n - (size_t)(path + 1 - line);
            char *v1 = has_cpu_controller(list + 1, nlist) ? path_join(root, "cpu") : NULL;
            if (!nlist)
                found = least(found, quota_upwards(root, path + 1, npath, true));
            else if (v1)
                found = least(found, quota_upwards(v1, path + 1, npath, false));
            free(v1);
        }
        line += n + (line[n] == '\n');
    }
    return found;
}

static void limit(struct cpus *c, uint32_t n, const char *why)
{
    if (n && n < c->n) {
        c->n = n;
        snprintf(c->why, sizeof c->why, "%s", why);
    }
}

void cpus_available(struct cpus *ret)
{
    static const char *const VARIABLES[] = {"SLURM_CPUS_PER_TASK", "NSLOTS", "PBS_NCPUS",
                                            "LSB_DJOB_NUMPROC"};
    struct cpus c = {.n = affinity(), .why = "affinity"};
    struct buf b = {0};
    if (!c.n)
        c = (struct cpus){.n = 1, .why = "the number of cpus is unknown"};
    if (!file_read("/proc/self/cgroup", SMALL_FILE, &b, NULL) && buf_cstr(&b))
        limit(&c, cpus_cgroup_quota((const char *)b.data, "/sys/fs/cgroup"), "cgroup quota");
    buf_release(&b);
    for (size_t i = 0; i < sizeof VARIABLES / sizeof VARIABLES[0]; i++) {
        const char *v = getenv(VARIABLES[i]);
        long n = v ? strtol(v, NULL, 10) : 0;
        limit(&c, n > 0 && n < UINT32_MAX ? (uint32_t)n : 0, VARIABLES[i]);
    }
    *ret = c;
}
