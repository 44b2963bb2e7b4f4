/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of files, buffers, errors and log lines. Each test has a folder of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"

static char dir[64];

static int make_dir(void **state)
{
    strcpy(dir, "/tmp/covey-file-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    char cmd[256];
    snprintf(cmd, sizeof cmd, "chmod -R u+rwx %s; rm -rf %s", dir, dir);
    return system(cmd);
}

static unsigned count_files(const char *path)
{
    unsigned n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void write_sets_mode_and_replaces(void **state)
{
    char *path = path_join(dir, "f");
    struct buf b = {0};
    struct stat st;
    mode_t old = umask(0);
    assert_int_equal(file_write_atomic(path, 0600, "one", 3, NULL), CV_OK);
    umask(077);
    assert_int_equal(file_write_atomic(path, 0644, "two!", 4, NULL), CV_OK);
    umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_int_equal(file_read(path, 100, &b, NULL), CV_OK);
    assert_string_equal(buf_cstr(&b), "two!");
    assert_int_equal(count_files(dir), 1);
    buf_release(&b);
    free(path);
}

static void write_does_not_follow_a_link(void **state)
{
    char *path = path_join(dir, "f"), *victim = path_join(dir, "victim");
    char *tmp = str_printf("%s.tmp.%ld", path, (long)getpid());
    assert_int_equal(file_write_atomic(victim, 0600, "v", 1, NULL), CV_OK);
    assert_int_equal(symlink(victim, tmp), 0);
    assert_int_equal(file_write_atomic(path, 0600, "new", 3, NULL), CV_OK);
    struct buf b = {0};
    assert_int_equal(file_read(victim, 100, &b, NULL), CV_OK);
    assert_string_equal(buf_cstr(&b), "v");
    buf_release(&b);
    free(tmp);
    free(victim);
    free(path);
}

static void write_failure_leaves_nothing(void **state)
{
    struct err e;
    char *path = path_join(dir, "missing/f"), *folder = path_join(dir, "d");
    assert_int_equal(file_write_atomic(path, 0600, "x", 1, &e), CV_ENOENT);
    assert_non_null(strstr(e.text, "missing/f"));
    assert_int_equal(mkdir(folder, 0700), 0);
    /* A folder can't be replaced by a file: rename fails, the temporary file goes. */
    assert_int_not_equal(file_write_atomic(folder, 0600, "x", 1, &e), CV_OK);
    assert_int_equal(count_files(dir), 1);
    free(folder);
    free(path);
}

static void read_says_what_is_wrong(void **state)
{
    struct buf b = {0};
    struct err e;
    char *path = path_join(dir, "f");
    assert_int_equal(file_read(path, 10, &b, &e), CV_ENOENT);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(file_write_atomic(path, 0600, "0123456789", 10, NULL), CV_OK);
    assert_int_equal(file_read(path, 10, &b, &e), CV_OK);
    assert_int_equal(b.len, 10);
    assert_int_equal(file_read(path, 9, &b, &e), CV_ELIMIT);
    assert_int_equal(b.len, 10); /* untouched */
    buf_release(&b);
    free(path);
}

static void mkdirs_makes_all_and_keeps_what_is(void **state)
{
    struct err e;
    struct stat st;
    char *deep = path_join(dir, "a/b/c/"), *file = path_join(dir, "f");
    assert_int_equal(file_mkdirs(deep, 0700, &e), CV_OK);
    assert_int_equal(file_mkdirs(deep, 0755, &e), CV_OK);
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(file_write_atomic(file, 0600, "", 0, &e), CV_OK);
    char *below = path_join(file, "x");
    assert_int_equal(file_mkdirs(file, 0700, &e), CV_EEXIST);
    assert_int_not_equal(file_mkdirs(below, 0700, &e), CV_OK);
    free(below);
    free(file);
    free(deep);
}

static void joins_paths(void **state)
{
    static const char *const CASES[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char *p = path_join(CASES[i][0], CASES[i][1]);
        assert_string_equal(p, CASES[i][2]);
        free(p);
    }
    char *own = path_program_dir();
    assert_int_equal(own[0], '/');
    free(own);
}

static void places_are_filled_in(void **state)
{
    static const char *const CASES[][2] = {
        {"", ""}, {"{i", "{i"}, {"{i}", "12"}, {"a{i}-{i}{i}b", "a12-1212b"}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char *p = str_place(CASES[i][0], 12);
        assert_string_equal(p, CASES[i][1]);
        free(p);
    }
}

static void buffers_grow_and_shrink(void **state)
{
    struct buf b = {0};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buf_addf(&b, "%d,", i), CV_OK);
    assert_memory_equal(b.data, "0,1,2,", 6);
    buf_consume(&b, 2);
    assert_memory_equal(b.data, "1,2,", 4);
    buf_consume(&b, b.len + 5);
    assert_int_equal(b.len, 0);
    assert_int_equal(buf_reserve(&b, SIZE_MAX / 2), CV_ENOMEM);
    assert_string_equal(buf_cstr(&b), "");
    buf_release(&b);
    assert_null(b.data);
}

static void errors_gather_context(void **state)
{
    struct err e;
    errno = ENOENT;
    assert_int_equal(err_sys(&e, "can't open %s", "x"), CV_ENOENT);
    assert_string_equal(e.text, "can't open x: No such file or directory");
    assert_int_equal(err_wrap(&e, CV_EINVAL, "reading %d", 5), CV_EINVAL);
    assert_string_equal(e.text, "reading 5: can't open x: No such file or directory");
    char longtext[600];
    memset(longtext, 'y', sizeof longtext);
    longtext[599] = 0;
    err_set(&e, CV_EINVAL, "%s", longtext);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    err_wrap(&e, CV_EINVAL, "ctx");
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_memory_equal(e.text, "ctx: yy", 7);
    assert_int_equal(err_set(NULL, CV_EAUTH, "x"), CV_EAUTH);
    assert_string_equal(err_name(CV_EACCES), "CV_EACCES");
    assert_string_equal(err_name(CV_OK), "CV_OK");
    assert_string_equal(err_name(-999), "?");
    assert_string_equal(err_name(5), "?");
}

static void log_lines_are_whole_and_filtered(void **state)
{
    int fds[2];
    struct log *l;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(log_new(&l, "IPTest", LOG_INFO_, fds[1]), CV_OK);
    log_debug(l, "unseen");
    log_info(l, "plain %d", 1);
    log_at(l, LOG_CRITICAL_, "bad");
    char text[512] = {0};
    ssize_t n = read(fds[0], text, sizeof text - 1);
    assert_true(n > 0);
    assert_null(strstr(text, "unseen"));
    assert_non_null(strstr(text, " [IPTest] plain 1\n"));
    assert_non_null(strstr(text, " [IPTest] CRITICAL | bad\n"));
    char *big = malloc(10000);
    memset(big, 'z', 9999);
    big[9999] = 0;
    log_warn(l, "%s", big);
    char *got = calloc(1, 10000);
    n = read(fds[0], got, 9999);
    assert_int_equal(n, 4095);
    assert_int_equal(got[n - 1], '\n');
    free(got);
    free(big);
    log_free(l);
    close(fds[0]);
    close(fds[1]);
    int level = 0;
    assert_int_equal(log_level_parse("warn", &level), CV_OK);
    assert_int_equal(level, LOG_WARN_);
    assert_int_equal(log_level_parse("10", &level), CV_OK);
    assert_int_equal(level, 10);
    assert_int_equal(log_level_parse("loud", &level), CV_EINVAL);
    log_at(NULL, LOG_CRITICAL_, "fine");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(write_sets_mode_and_replaces, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(write_does_not_follow_a_link, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(write_failure_leaves_nothing, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(read_says_what_is_wrong, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(mkdirs_makes_all_and_keeps_what_is, make_dir, drop_dir),
        cmocka_unit_test(joins_paths),
        cmocka_unit_test(places_are_filled_in),
        cmocka_unit_test(buffers_grow_and_shrink),
        cmocka_unit_test(errors_gather_context),
        cmocka_unit_test(log_lines_are_whole_and_filtered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
