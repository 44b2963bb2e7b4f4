/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See files.h. */
#include "controller/files.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <jansson.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "controller/death.h"

#define CONNFILE_TEXT 16384 /* where a boot id is looked for */

static int replace(char **p, char *text_take)
{
    if (!text_take)
        return CV_ENOMEM;
    free(*p);
    *p = text_take;
    return CV_OK;
}

static char *random_hex(size_t bytes, struct err *e)
{
    uint8_t raw[32];
    char *text = malloc(2 * bytes + 1);

    if (!text || bytes > sizeof(raw) || random_bytes(raw, bytes, e) != CV_OK) {
        free(text);
        return NULL;
    }
    for (size_t i = 0; i < bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", raw[i]);
    explicit_bzero(raw, sizeof(raw));
    return text;
}

/* Keys, port and boot id of the files that are there. False: they can't be used. */
static bool take_old(struct files *f, const struct options *o, struct log *log)
{
    struct connfile *c = &f->content[FILES_CLIENT], *g = &f->content[FILES_ENGINE];
    struct err e = {{0}};

    if (connfile_read(f->path[FILES_CLIENT], c, &e) != CV_OK ||
        connfile_read(f->path[FILES_ENGINE], g, &e) != CV_OK) {
        log_info(log, "--reuse: no files to go on with (%s); writing new ones", e.text);
    } else if (!c->boot_id || !g->boot_id || strcmp(c->boot_id, g->boot_id) || !c->key || !g->key) {
        log_error(log, "--reuse: %s and %s do not belong together; writing new ones",
                  f->path[FILES_CLIENT], f->path[FILES_ENGINE]);
    } else {
        return true;
    }
    connfile_release(c);
    connfile_release(g);
    memset(f->content, 0, sizeof(f->content));
    return false;
}

static int make_new(struct files *f, struct err *e)
{
    char *boot = random_hex(8, e);
    int r = CV_ENOMEM;

    if (!boot)
        return err_wrap(e, CV_ESYS, "can't make keys");
    for (int i = 0; i < FILES_ROLES; i++) {
        r = replace(&f->content[i].boot_id, strdup(boot));
        if (r == CV_OK)
            r = replace(&f->content[i].key, random_hex(32, e));
        if (r != CV_OK)
            break;
    }
    free(boot);
    return r;
}

static int fill_texts(struct files *f, const struct options *o)
{
    char host[256] = "localhost";

    gethostname(host, sizeof(host) - 1);
    for (int i = 0; i < FILES_ROLES; i++) {
        struct connfile *c = &f->content[i];
        const char *ssh = i == FILES_CLIENT ? o->ssh : o->enginessh;
        /* With --reuse what was written into the files by hand stays, unless it is given anew. */
        if (replace(&c->cluster_id, strdup(o->cluster_id)) != CV_OK ||
            ((*o->location || !c->location) &&
             replace(&c->location, strdup(*o->location ? o->location : host)) != CV_OK) ||
            ((*ssh || !c->ssh) && replace(&c->ssh, strdup(ssh)) != CV_OK) ||
            replace(&c->interface, str_printf("tcp://%s", o->ip)) != CV_OK)
            return CV_ENOMEM;
    }
    return CV_OK;
}

static int make_folders(struct files *f, const struct options *o, struct err *e)
{
    static const char *const leaves[] = {"security", "log", "pid", "startup"};

    for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
        char *path = path_join(o->profile_dir, leaves[i]);
        int r = path ? file_mkdirs(path, i < 1 ? 0700 : 0755, e) : CV_ENOMEM;
        if (r == CV_OK && i == 0)
            f->security = path;
        else
            free(path);
        if (r != CV_OK)
            return err_wrap(e, r, "the profile %s can't be used", o->profile_dir);
    }
    if (access(f->security, W_OK | X_OK) < 0)
        return err_sys(e, "can't write into %s", f->security);
    return CV_OK;
}

int files_prepare(struct files *f, const struct options *o, struct log *log, struct err *e)
{
    static const char *const roles[] = {"client", "engine"};
    const char *dash = *o->cluster_id ? "-" : "";

    memset(f, 0, sizeof(*f));
    int r = make_folders(f, o, e);
    if (r != CV_OK)
        return r;
    for (int i = 0; i < FILES_ROLES; i++) {
        f->path[i] =
            str_printf("%s/ipcontroller%s%s-%s.json", f->security, dash, o->cluster_id, roles[i]);
        if (!f->path[i])
            return err_set(e, CV_ENOMEM, "out of memory");
    }
    f->reused = o->reuse && take_old(f, o, log);
    if (!f->reused)
        r = make_new(f, e);
    if (r == CV_OK && fill_texts(f, o) != CV_OK)
        r = err_set(e, CV_ENOMEM, "out of memory");
    if (r != CV_OK || o->no_unix)
        return r;
    f->unix_name = *o->unix_path ? strdup(o->unix_path)
                                 : str_printf("@covey-%u-%s", (unsigned)getuid(),
                                              f->content[FILES_CLIENT].boot_id);
    return f->unix_name ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
}

static int endpoint_add(struct connfile *c, char *text_take)
{
    char **v = text_take ? realloc(c->endpoints, (c->nendpoints + 1) * sizeof(*v)) : NULL;

    if (!v) {
        free(text_take);
        return CV_ENOMEM;
    }
    c->endpoints = v;
    v[c->nendpoints++] = text_take;
    return CV_OK;
}

static int endpoint_add_tcp(struct connfile *c, const char *address, uint16_t port)
{
    return endpoint_add(
        c, str_printf(strchr(address, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u", address, port));
}

/* The addresses by which others reach a socket that is bound to all; loopback comes last. */
static int endpoint_add_all(struct connfile *c, uint16_t port)
{
    struct ifaddrs *all = NULL;
    char text[INET6_ADDRSTRLEN];
    int r = CV_OK;

    if (getifaddrs(&all) < 0)
        all = NULL;
    for (struct ifaddrs *i = all; i && r == CV_OK; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_flags & IFF_LOOPBACK || !(i->ifa_flags & IFF_UP))
            continue;
        if (i->ifa_addr->sa_family == AF_INET &&
            inet_ntop(AF_INET, &((struct sockaddr_in *)i->ifa_addr)->sin_addr, text, sizeof(text)))
            r = endpoint_add_tcp(c, text, port);
    }
    freeifaddrs(all);
    return r == CV_OK ? endpoint_add_tcp(c, "127.0.0.1", port) : r;
}

static int endpoints_fill(struct connfile *c, const struct files *f, const struct options *o,
                          uint16_t port)
{
    for (uint32_t i = 0; i < c->nendpoints; i++)
        free(c->endpoints[i]);
    free(c->endpoints);
    c->endpoints = NULL;
    c->nendpoints = 0;
    if (f->unix_name) {
        int r = endpoint_add(c, str_printf("unix:%s", f->unix_name));
        if (r != CV_OK)
            return r;
    }
    return strcmp(o->ip, "*") ? endpoint_add_tcp(c, o->ip, port) : endpoint_add_all(c, port);
}

static void process_fill(struct connfile *c)
{
    c->process.pid = (uint32_t)getpid();
    c->process.start = death_pid_start(c->process.pid);
    c->process.pid_namespace = pid_namespace();
    c->process.machine = machine_id();
}

int files_write(struct files *f, const struct options *o, uint16_t port, struct err *e)
{
    for (int i = 0; i < FILES_ROLES; i++) {
        struct connfile *c = &f->content[i];
        c->port = port;
        process_fill(c);
        if (endpoints_fill(c, f, o, port) != CV_OK)
            return err_set(e, CV_ENOMEM, "out of memory");
        int r = connfile_write(f->path[i], c, e);
        if (r != CV_OK)
            return err_wrap(e, r, "the connection file can't be written");
        f->written = true;
        if (stat(f->path[i], &f->written_as[i]) < 0)
            f->written_as[i] = (struct stat){0};
    }
    return CV_OK;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Is the file at path the one that we wrote, or has it our boot id? Another controller may have
 * replaced it. Takes no memory, and for our own no descriptor: we may end because there are none.
 */
static bool still_ours(const struct files *f, int i)
{
    char text[CONNFILE_TEXT];
    struct stat st;
    ssize_t n = 0;

    if (stat(f->path[i], &st) == 0 && same_file(&st, &f->written_as[i]))
        return true;
    int fd = open(f->path[i], O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
    }
    text[n > 0 ? n : 0] = 0;
    return strstr(text, f->content[i].boot_id);
}

/* Jobs of a batch system outlive supervisor and agent: who reads the file then ends them. */
static bool names_job(const json_t *cluster)
{
    const char *id;
    json_t *set;

    json_object_foreach(json_object_get(cluster, "engines"), id, set)
    {
        if (json_object_get(set, "undo"))
            return true;
    }
    return false;
}

/* The supervisor that started us removes its file itself, unless it died without a word. */
static void remove_cluster_file(int parent)
{
    const char *path = getenv("COVEY_CLUSTER_FILE");

    if (!path || !*path || getppid() == parent)
        return;
    json_t *j = json_load_file(path, 0, NULL), *pid = json_object_get(j, "pid");
    if (json_is_integer(pid) && json_integer_value(pid) == parent && !names_job(j))
        unlink(path);
    json_decref(j);
}

void files_remove(struct files *f, const struct options *o, int parent)
{
    if (f->written && !o->reuse)
        for (int i = 0; i < FILES_ROLES; i++)
            if (still_ours(f, i))
                unlink(f->path[i]);
    f->written = false;
    if (f->unix_name && f->unix_name[0] != '@')
        unlink(f->unix_name);
    remove_cluster_file(parent);
}

void files_release(struct files *f)
{
    for (int i = 0; i < FILES_ROLES; i++) {
        free(f->path[i]);
        connfile_release(&f->content[i]);
    }
    free(f->security);
    free(f->unix_name);
    memset(f, 0, sizeof(*f));
}
