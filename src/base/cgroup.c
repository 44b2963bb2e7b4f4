/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See cgroup.h. A file that can't be read limits nothing. */
#include "base/cgroup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"

#define ROOT "/sys/fs/cgroup"
#define SMALL 65536 /* more than any of these files has */

/* A line of /proc/self/cgroup is "ID:CONTROLLERS:/path"; v2's is "0::/path". */
static bool line_is_memory(const char *line, size_t len, int version, const char **ret_path)
{
    const char *first = memchr(line, ':', len);
    const char *second = first ? memchr(first + 1, ':', len - (size_t)(first + 1 - line)) : NULL;
    if (!second)
        return false;
    *ret_path = second + 1;
    if (version == 2)
        return line[0] == '0' && first == line + 1 && second == first + 1;
    for (const char *p = first + 1; p < second;) {
        const char *comma = memchr(p, ',', (size_t)(second - p));
        const char *stop = comma ? comma : second;
        if (stop - p == 6 && memcmp(p, "memory", 6) == 0)
            return true;
        p = stop + 1;
    }
    return false;
}

int cgroup_memory_path(const char *text, size_t n, const char *root, int version, char **ret_path)
{
    const char *end = text + n;
    for (const char *line = text; line < end;) {
        const char *next = memchr(line, '\n', (size_t)(end - line)), *path;
        size_t len = (size_t)((next ? next : end) - line);
        if (line_is_memory(line, len, version, &path)) {
            int width = (int)(line + len - path);
            if (asprintf(ret_path, "%s%s%.*s", root, version == 1 ? "/memory" : "", width, path) <
                0)
                return CV_ENOMEM;
            return CV_OK;
        }
        line = next ? next + 1 : end;
    }
    return CV_ENOENT;
}

/* "max", as version 2 says it, is none; version 1 has a number that no machine reaches. */
static uint64_t limit_of(const char *folder, int version)
{
    const char *file = version == 1 ? "memory.limit_in_bytes" : "memory.max";
    uint64_t limit = UINT64_MAX;
    struct buf text = {0};
    unsigned long long n;
    char *path = path_join(folder, file);
    const char *line =
        path && file_read(path, SMALL, &text, NULL) == CV_OK ? buf_cstr(&text) : NULL;
    if (line && sscanf(line, "%llu", &n) == 1)
        limit = n;
    buf_release(&text);
    free(path);
    return limit;
}

uint64_t cgroup_memory_limit(const char *root, const char *folder, int version)
{
    size_t top = strlen(root);
    uint64_t least = UINT64_MAX;
    char *at = strdup(folder);
    while (at && strlen(at) >= top) {
        uint64_t limit = limit_of(at, version);
        least = limit < least ? limit : least;
        char *slash = strrchr(at, '/');
        if (!slash)
            break;
        *slash = 0;
    }
    free(at);
    return least;
}

uint64_t memory_limit(void)
{
    uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    struct buf text = {0};
    if (file_read("/proc/self/cgroup", SMALL, &text, NULL) != CV_OK)
        return least;
    for (int version = 1; version <= 2; version++) {
        const char *root = version == 1 ? ROOT "/memory" : ROOT;
        char *folder = NULL;
        if (cgroup_memory_path((const char *)text.data, text.len, ROOT, version, &folder) != CV_OK)
            continue;
        uint64_t limit = cgroup_memory_limit(root, folder, version);
        least = limit < least ? limit : least;
        free(folder);
    }
    buf_release(&text);
    return least;
}
