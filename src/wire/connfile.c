/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Connection files (connfile.h). Blocking file I/O at start-up. The key is wiped from the memory
 * that is freed here and stays out of all texts. */
#include "wire/connfile.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/jsontext.h"

#define FILE_MAX (64u << 10)
#define ENDPOINTS_MAX 32
#define KEY_DIGITS 64

static const char *const LABELS[] = {"registration", "control", "mux",
                                     "task",         "iopub",   "notification"};
#define NLABELS (sizeof LABELS / sizeof LABELS[0])

void connfile_release(struct connfile *c)
{
    if (c->key)
        explicit_bzero(c->key, strlen(c->key));
    for (uint32_t i = 0; i < c->nendpoints; i++)
        free(c->endpoints[i]);
    free(c->endpoints);
    free(c->cluster_id);
    free(c->boot_id);
    free(c->key);
    free(c->location);
    free(c->ssh);
    free(c->interface);
    *c = (struct connfile){0};
}

/* ---- encoding: by hand, because each line's form is what scripts parse ---- */

static int add_json(struct buf *out, json_t *take)
{
    char *text = take ? jsontext(take, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    json_decref(take);
    if (!text)
        return CV_EINVAL;
    int rc = buf_addstr(out, text);
    free(text);
    return rc;
}

static int add_text(struct buf *out, const char *key, const char *value, const char *tail)
{
    int rc = buf_addf(out, "  \"%s\": ", key);
    rc = rc ? rc : add_json(out, json_string(value ? value : ""));
    return rc ? rc : buf_addstr(out, tail);
}

int connfile_encode(const struct connfile *c, struct buf *out)
{
    int rc = buf_addstr(out, "{\n");
    rc = rc ? rc : add_text(out, "cluster_id", c->cluster_id, ",\n");
    rc = rc ? rc : add_text(out, "boot_id", c->boot_id, ",\n");
    rc = rc ? rc : buf_addstr(out, "  \"endpoints\": [");
    for (uint32_t i = 0; i < c->nendpoints && !rc; i++) {
        rc = i ? buf_addstr(out, ", ") : CV_OK;
        rc = rc ? rc : add_json(out, json_string(c->endpoints[i]));
    }
    rc = rc ? rc : buf_addstr(out, "],\n");
    rc = rc ? rc : add_text(out, "ssh", c->ssh, ",\n");
    rc = rc ? rc : add_text(out, "interface", c->interface, ",\n");
    if (c->process.pid)
        rc = rc ? rc
                : buf_addf(out,
                           "  \"process\": {\"pid\": %u, \"start\": %" PRIu64
                           ", \"pid_namespace\": %" PRIu64 ", \"machine\": \"%016" PRIx64 "\"},\n",
                           c->process.pid, c->process.start, c->process.pid_namespace,
                           c->process.machine);
    for (size_t i = 0; i < NLABELS && !rc; i++)
        rc = buf_addf(out, "  \"%s\": %u,\n", LABELS[i], c->port);
    rc = rc ? rc : add_text(out, "location", c->location, ",\n");
    return rc ? rc : add_text(out, "key", c->key, "\n}\n");
}

/* ---- decoding ---- */

static int bad(struct err *e, const char *key, const char *what)
{
    return err_set(e, CV_EINVAL, "connection file: \"%s\" %s", key, what);
}

static int read_text(json_t *root, const char *key, bool needed, char **ret, struct err *e)
{
    json_t *v = json_object_get(root, key);
    if (!v || json_is_null(v))
        return needed ? bad(e, key, "is missing") : CV_OK;
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return bad(e, key, "must be text");
    if (needed && !json_string_length(v))
        return bad(e, key, "is empty");
    *ret = strdup(json_string_value(v));
    return *ret ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
}

/* unix:@NAME, unix:/PATH, tcp://HOST:PORT, tcp://[ADDRESS]:PORT */
static bool endpoint_ok(const char *s)
{
    if (!strncmp(s, "unix:", 5))
        return (s[5] == '@' || s[5] == '/') && s[6];
    if (strncmp(s, "tcp://", 6))
        return false;
    const char *host = s + 6, *colon = strrchr(host, ':');
    if (!colon || colon == host || !isdigit((unsigned char)colon[1]))
        return false;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    bool bracket_ok =
        host[0] == '[' ? colon[-1] == ']' : !memchr(host, ':', (size_t)(colon - host));
    return !*end && port > 0 && port <= UINT16_MAX && bracket_ok;
}

static int read_endpoints(json_t *root, struct connfile *c, struct err *e)
{
    json_t *v = json_object_get(root, "endpoints");
    size_t n = json_array_size(v);
    if (!v)
        return bad(e, "endpoints", "is missing");
    if (!json_is_array(v) || n == 0 || n > ENDPOINTS_MAX)
        return bad(e, "endpoints", "must be a list of 1 to 32 addresses");
    c->endpoints = calloc(n, sizeof *c->endpoints);
    if (!c->endpoints)
        return err_set(e, CV_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(v, i));
        if (!s || !endpoint_ok(s))
            return bad(e, "endpoints", "must hold unix:@NAME, unix:/PATH or tcp://HOST:PORT");
        c->endpoints[i] = strdup(s);
        if (!c->endpoints[i])
            return err_set(e, CV_ENOMEM, "out of memory");
        c->nendpoints++;
    }
    return CV_OK;
}

static int read_key(json_t *root, struct connfile *c, struct err *e)
{
    int rc = read_text(root, "key", true, &c->key, e);
    if (rc)
        return rc;
    size_t n = strlen(c->key), hex = 0;
    while (hex < n && isxdigit((unsigned char)c->key[hex]))
        hex++;
    if (n != KEY_DIGITS || hex != n)
        return bad(e, "key", "must be 64 hex digits");
    return CV_OK;
}

/* The labels are for scripts; the port is that of "registration", and 0 where there is none. */
static int read_port(json_t *root, struct connfile *c, struct err *e)
{
    json_t *v = json_object_get(root, "registration");
    if (!v || json_is_null(v))
        return CV_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT16_MAX)
        return bad(e, "registration", "must be a port");
    c->port = (uint16_t)json_integer_value(v);
    return CV_OK;
}

static int read_object(json_t *root, struct connfile *c, struct err *e)
{
    if (!json_is_object(root))
        return err_set(e, CV_EINVAL, "connection file: not a JSON object");
    int rc = read_text(root, "cluster_id", false, &c->cluster_id, e);
    rc = rc ? rc : read_text(root, "boot_id", true, &c->boot_id, e);
    rc = rc ? rc : read_endpoints(root, c, e);
    rc = rc ? rc : read_key(root, c, e);
    rc = rc ? rc : read_text(root, "location", false, &c->location, e);
    rc = rc ? rc : read_text(root, "ssh", false, &c->ssh, e);
    rc = rc ? rc : read_text(root, "interface", false, &c->interface, e);
    return rc ? rc : read_port(root, c, e);
}

int connfile_decode(const char *text, size_t n, struct connfile *ret, struct err *e)
{
    json_error_t where;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    if (!root && (!where.text[0] || json_error_code(&where) == json_error_out_of_memory))
        return err_set(e, CV_ENOMEM, "out of memory"); /* of anything else it says what it was */
    /* jansson quotes what it stumbled over, which may be the key: only the place is passed on. */
    if (!root)
        return err_set(e, CV_EINVAL, "connection file: not JSON (line %d, column %d)%s", where.line,
                       where.column,
                       where.position >= (int)n
                           ? "; it ends too early: still being written, or cut off?"
                           : "");
    struct connfile c = {0};
    int rc = read_object(root, &c, e);
    json_decref(root);
    if (rc) {
        connfile_release(&c);
        return rc;
    }
    *ret = c;
    return CV_OK;
}

/* ---- files ---- */

/* A pipe may be: `--file=<(COMMAND)` of a shell. */
static int check_kind(const struct stat *st, const char *path, struct err *e)
{
    if (S_ISREG(st->st_mode) || S_ISFIFO(st->st_mode))
        return CV_OK;
    return err_set(e, CV_EINVAL, "%s is a %s, not a connection file", path,
                   S_ISDIR(st->st_mode)    ? "folder"
                   : S_ISSOCK(st->st_mode) ? "socket"
                                           : "device");
}

int connfile_check_path(const char *path, struct err *e)
{
    struct stat st;
    return stat(path, &st) ? CV_OK : check_kind(&st, path, e);
}

static int check_owner(int fd, const char *path, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st))
        return err_sys(e, "can't read %s", path);
    int rc = check_kind(&st, path, e);
    if (rc)
        return rc;
    if (st.st_uid != geteuid() && geteuid() != 0)
        return err_set(e, CV_EACCES, "%s belongs to user %u, not to you (%u)", path, st.st_uid,
                       geteuid());
    if (st.st_mode & 077)
        return err_set(e, CV_EACCES,
                       "%s has mode %03o: others may read the key. Help: chmod 600 %s", path,
                       st.st_mode & 0777u, path);
    return CV_OK;
}

int connfile_read(const char *path, struct connfile *ret, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, "can't open %s", path);
    int rc = check_owner(fd, path, e);
    char *text = rc ? NULL : malloc(FILE_MAX + 1);
    if (!rc && !text)
        rc = err_set(e, CV_ENOMEM, "out of memory");
    size_t n = 0;
    while (!rc && n <= FILE_MAX) {
        ssize_t k = read(fd, text + n, FILE_MAX + 1 - n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            rc = err_sys(e, "can't read %s", path);
        if (k <= 0)
            break;
        n += (size_t)k;
    }
    close(fd);
    if (!rc && n > FILE_MAX)
        rc = err_set(e, CV_ELIMIT, "%s is larger than %u bytes", path, FILE_MAX);
    if (!rc) {
        rc = connfile_decode(text, n, ret, e);
        if (rc)
            rc = err_wrap(e, rc, "%s", path);
    }
    if (text)
        explicit_bzero(text, n);
    free(text);
    return rc;
}

int connfile_write(const char *path, const struct connfile *c, struct err *e)
{
    struct buf b = {0};
    int rc = connfile_encode(c, &b);
    if (rc)
        rc = err_set(e, rc, "can't write %s: a value is not UTF-8, or out of memory", path);
    else
        rc = file_write_atomic(path, 0600, b.data, b.len, e);
    if (b.data)
        explicit_bzero(b.data, b.len);
    buf_release(&b);
    return rc;
}

/* FNV-1a, so that the same machine gives the same number in every program of every version. */
uint64_t machine_id(void)
{
    struct buf b = {0};
    uint64_t h = 0xcbf29ce484222325ull;
    if (file_read("/proc/sys/kernel/random/boot_id", 256, &b, NULL))
        return 0;
    for (size_t i = 0; i < b.len; i++)
        h = (h ^ b.data[i]) * 0x100000001b3ull;
    buf_release(&b);
    return h;
}

uint64_t pid_namespace(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}
