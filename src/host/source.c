/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See source.h. */
#include "host/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"

bool source_changed(const struct source *s)
{
    struct stat now;
    if (s->info)
        return !s->read_once;
    if (stat(s->path, &now) < 0)
        return !s->read_once && errno != ENOENT; /* the reader tells what is wrong */
    return !s->read_once || now.st_ino != s->seen.st_ino || now.st_size != s->seen.st_size ||
           now.st_mtim.tv_sec != s->seen.st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != s->seen.st_mtim.tv_nsec ||
           now.st_ctim.tv_sec != s->seen.st_ctim.tv_sec ||
           now.st_ctim.tv_nsec != s->seen.st_ctim.tv_nsec;
}

int source_read(struct source *s, struct connfile *ret, struct err *e)
{
    if (s->info) {
        s->read_once = true;
        int rc = connfile_decode(s->info, strlen(s->info), ret, e);
        return rc == CV_OK ? rc : err_wrap(e, rc, "IPP_CONNECTION_INFO");
    }
    s->read_once = stat(s->path, &s->seen) == 0;
    return connfile_read(s->path, ret, e);
}

void source_again(struct source *s)
{
    if (!S_ISFIFO(s->seen.st_mode)) /* whose reader would wait */
        s->read_once = false;
}

void endpoints_free(char **v, uint32_t n)
{
    for (uint32_t i = 0; v && i < n; i++)
        free(v[i]);
    free(v);
}

static bool is_unix(const char *endpoint)
{
    return strncmp(endpoint, "unix:", 5) == 0;
}

/* tcp://HOST:PORT, or with brackets for an IPv6 address. */
static char *tcp_endpoint(const char *host, uint16_t port)
{
    return str_printf(strchr(host, ':') && host[0] != '[' ? "tcp://[%s]:%u" : "tcp://%s:%u", host,
                      port);
}

static bool listed(const struct connfile *f, const char *endpoint)
{
    for (uint32_t i = 0; i < f->nendpoints; i++)
        if (strcmp(f->endpoints[i], endpoint) == 0)
            return true;
    return false;
}

static bool all_loopback(const struct connfile *f)
{
    for (uint32_t i = 0; i < f->nendpoints; i++)
        if (!is_unix(f->endpoints[i]) && strncmp(f->endpoints[i], "tcp://127.", 10) &&
            strncmp(f->endpoints[i], "tcp://[::1]", 11))
            return false;
    return true;
}

/* Location endpoint to try first, malloc'ed, or NULL. */
static char *first_choice(const struct connfile *f, const char *location, const char *own_name)
{
    if (*location)
        return tcp_endpoint(location, f->port);
    if (!f->location || !*f->location || !f->port || strcmp(f->location, own_name) == 0)
        return NULL;
    char *endpoint = tcp_endpoint(f->location, f->port);
    if (endpoint && listed(f, endpoint)) {
        free(endpoint);
        return NULL;
    }
    return endpoint;
}

int source_endpoints(const struct connfile *f, const char *location, const char *own_name,
                     bool no_unix, bool by_ssh, char ***ret, uint32_t *ret_n, struct err *e)
{
    char **v = calloc(f->nendpoints + 1, sizeof *v), *first = NULL;
    if (*location || !by_ssh || !all_loopback(f))
        first = first_choice(f, location, own_name);
    uint32_t n = 0;
    bool failed = !v;
    for (uint32_t i = 0; v && i < f->nendpoints && !no_unix; i++)
        if (is_unix(f->endpoints[i]))
            failed |= !(v[n++] = strdup(f->endpoints[i]));
    if (v && first)
        v[n++] = first;
    for (uint32_t i = 0; v && i < f->nendpoints; i++)
        if (!is_unix(f->endpoints[i]) && !(first && strcmp(first, f->endpoints[i]) == 0))
            failed |= !(v[n++] = strdup(f->endpoints[i]));
    if (!failed && n > 0) {
        *ret = v;
        *ret_n = n;
        return CV_OK;
    }
    if (!v)
        free(first);
    endpoints_free(v, n);
    return failed ? err_set(e, CV_ENOMEM, "out of memory")
                  : err_set(e, CV_EINVAL,
                            "the connection file names no TCP endpoint, and --no-unix leaves out "
                            "the others");
}
