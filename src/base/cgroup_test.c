/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which cgroup, and what it and those above it allow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/file.h"

static void memory_cgroups(void **state)
{
    static const char v1[] =
        "9:name=systemd:/\n5:devices:/x\n4:cpuacct,memory:/slurm/uid_0/job_3\n0::/\n";
    static const char v2[] = "0::/user.slice/user-1000.slice/session-1.scope\n";
    char *path;
    assert_int_equal(cgroup_memory_path(v1, sizeof v1 - 1, "/cg", 1, &path), CV_OK);
    assert_string_equal(path, "/cg/memory/slurm/uid_0/job_3");
    free(path);
    assert_int_equal(cgroup_memory_path(v2, sizeof v2 - 1, "/cg", 2, &path), CV_OK);
    assert_string_equal(path, "/cg/user.slice/user-1000.slice/session-1.scope");
    free(path);
    assert_int_equal(cgroup_memory_path(v2, sizeof v2 - 1, "/cg", 1, &path), CV_ENOENT);
    assert_int_equal(cgroup_memory_path("rubbish", 7, "/cg", 2, &path), CV_ENOENT);
}

static void put(const char *folder, const char *file, const char *text)
{
    char *path = path_join(folder, file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    free(path);
}

static void the_lowest_limit_on_the_way_up_counts(void **state)
{
    char root[] = "/tmp/covey-cgroup-XXXXXX", command[64];
    assert_non_null(mkdtemp(root));
    char *upper = path_join(root, "a"), *folder = path_join(upper, "b");
    assert_int_equal(file_mkdirs(folder, 0700, NULL), CV_OK);
    assert_true(cgroup_memory_limit(root, folder, 2) == UINT64_MAX);
    put(folder, "memory.max", "max\n");
    assert_true(cgroup_memory_limit(root, folder, 2) == UINT64_MAX);
    put(upper, "memory.max", "1048576\n");
    assert_int_equal(cgroup_memory_limit(root, folder, 2), 1048576);
    put(folder, "memory.max", "4096\n");
    assert_int_equal(cgroup_memory_limit(root, folder, 2), 4096);
    put(root, "memory.limit_in_bytes", "77\n"); /* as a container sees it: only the root is there */
    assert_int_equal(cgroup_memory_limit(root, "/nowhere/else/at/all/that/is/longer", 1),
                     UINT64_MAX);
    char *missing = path_join(root, "docker/abc");
    assert_int_equal(cgroup_memory_limit(root, missing, 1), 77);
    assert_in_range(memory_limit(), 1 << 20, UINT64_MAX - 1);
    free(missing);
    free(folder);
    free(upper);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_cgroups),
        cmocka_unit_test(the_lowest_limit_on_the_way_up_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
