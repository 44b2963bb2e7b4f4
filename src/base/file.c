/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Files and folders (file.h). Blocking calls: for start-up, shutdown and small files, never from a
 * loop's hot path. Own every descriptor that they open until they return. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(int fd, const char *path, size_t limit, struct buf *out, struct err *e)
{
    for (;;) {
        if (out->len > limit)
            return err_set(e, CV_ELIMIT, "%s is larger than %zu bytes", path, limit);
        if (buf_reserve(out, 4096))
            return err_set(e, CV_ENOMEM, "out of memory reading %s", path);
        ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, "can't read %s", path);
        if (n == 0)
            return CV_OK;
        out->len += (size_t)n;
    }
}

int file_read(const char *path, size_t limit, struct buf *ret, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, "can't open %s", path);
    struct buf b = {0};
    int rc = read_all(fd, path, limit, &b, e);
    close(fd);
    if (rc) {
        buf_release(&b);
        return rc;
    }
    buf_release(ret);
    *ret = b;
    return CV_OK;
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

char *file_temporary_path(const char *path, long pid)
{
    return str_printf("%s.tmp.%ld", path, pid);
}

/* A file without a name in path's folder: whoever is killed while it writes leaves nothing. Not
 * every file system has them: then the file is `tmp`. */
static int open_temporary(const char *path, const char *tmp, mode_t mode, bool *ret_nameless)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int fd = dir ? open(dir, O_WRONLY | O_TMPFILE | O_CLOEXEC, mode) : -1;
    free(dir);
    *ret_nameless = fd >= 0;
    if (fd >= 0)
        return fd;
    unlink(tmp); /* a process that had our pid may have died while it wrote */
    return open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
}

/* Makes the written file `path`, at once where there was none. */
static int put_in_place(int fd, bool nameless, const char *tmp, const char *path)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (nameless && linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (nameless) {
        unlink(tmp);
        if (linkat(AT_FDCWD, self, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW))
            return -1;
    }
    return rename(tmp, path);
}

int file_write_atomic(const char *path, mode_t mode, const void *data, size_t n, struct err *e)
{
    bool nameless;
    char *tmp = file_temporary_path(path, getpid());
    if (!tmp)
        return err_set(e, CV_ENOMEM, "out of memory writing %s", path);
    int rc = CV_OK;
    int fd = open_temporary(path, tmp, mode, &nameless);
    if (fd < 0) {
        rc = err_sys(e, "can't create %s", tmp);
        goto out_tmp;
    }
    /* fchmod: the umask must not decide what a secret's mode is. */
    if (fchmod(fd, mode) || write_all(fd, data, n) || fsync(fd))
        rc = err_sys(e, "can't write %s", tmp);
    if (!rc && put_in_place(fd, nameless, tmp, path))
        rc = err_sys(e, "can't put %s in its place", path);
    if (close(fd) && !rc)
        rc = err_sys(e, "can't write %s", path);
    if (rc)
        unlink(tmp);
out_tmp:
    free(tmp);
    return rc;
}

int file_mkdirs(const char *path, mode_t mode, struct err *e)
{
    char *p = strdup(path);
    if (!p)
        return err_set(e, CV_ENOMEM, "out of memory");
    int rc = CV_OK;
    for (char *s = p + 1; !rc; s++) {
        char c = *s;
        if (c && c != '/')
            continue;
        *s = 0;
        struct stat st;
        if (mkdir(p, mode) && (errno != EEXIST || stat(p, &st) || !S_ISDIR(st.st_mode)))
            rc = errno == EEXIST ? err_set(e, CV_EEXIST, "%s exists and is no folder", p)
                                 : err_sys(e, "can't make the folder %s", p);
        *s = c;
        if (!c)
            break;
    }
    free(p);
    return rc;
}

char *path_join(const char *a, const char *b)
{
    size_t n = strlen(a);
    if (n == 0)
        return strdup(b);
    return a[n - 1] == '/' ? str_printf("%s%s", a, b) : str_printf("%s/%s", a, b);
}

char *str_printf(const char *fmt, ...)
{
    char *s;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}

char *str_place(const char *text, unsigned i)
{
    static const char MARK[] = "{i}";
    struct buf b = {0};
    int rc = CV_OK;
    for (const char *at; !rc && (at = strstr(text, MARK)); text = at + strlen(MARK)) {
        rc = buf_add(&b, text, (size_t)(at - text));
        rc = rc ? rc : buf_addf(&b, "%u", i);
    }
    if (rc || buf_add(&b, text, strlen(text) + 1))
        buf_release(&b);
    return (char *)b.data;
}

char *path_program_dir(void)
{
    char p[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", p, sizeof p - 1);
    if (n <= 0)
        return NULL;
    p[n] = 0;
    char *slash = strrchr(p, '/');
    if (!slash)
        return NULL;
    *(slash == p ? slash + 1 : slash) = 0;
    return strdup(p);
}

int random_bytes(void *out, size_t n, struct err *e)
{
    uint8_t *p = out;
    while (n) {
        ssize_t k = getrandom(p, n, 0);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return err_sys(e, "getrandom failed");
        p += k;
        n -= (size_t)k;
    }
    return CV_OK;
}

int file_env_descriptor(const char *name, int *ret, struct err *e)
{
    const char *text = getenv(name);
    char *end;
    *ret = -1;
    if (!text || !*text)
        return CV_OK;
    long fd = strtol(text, &end, 10);
    if (!strchr("0123456789", *text) || *end || fd > 1 << 20 || fcntl((int)fd, F_GETFD) < 0)
        return err_set(e, CV_EINVAL, "%s=%.40s is not the number of an open descriptor", name,
                       text);
    *ret = (int)fd;
    return CV_OK;
}
