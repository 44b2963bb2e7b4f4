/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See test_cluster.h. */
#include "controller/test_cluster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "wire/connfile.h"

static const char *program; /* set once by main() */

void cluster_program(const char *path)
{
    program = path;
}

static pid_t spawn(const char *const *args, int err_fd, int events_fd, const char *dir)
{
    const char *argv[24] = {program, dir};
    size_t n = dir ? 2 : 1;
    char fd_text[16];

    for (; args && *args; args++)
        argv[n++] = *args;
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (err_fd >= 0) {
        dup2(err_fd, 2);
        dup2(err_fd, 1);
    }
    if (events_fd >= 0) {
        snprintf(fd_text, sizeof(fd_text), "%d", events_fd);
        setenv("COVEY_EVENTS_FD", fd_text, 1);
    }
    execv(program, (char **)argv);
    _exit(127);
}

json_t *cluster_event(struct cluster *c, const char *name)
{
    char line[65536];

    while (fgets(line, sizeof(line), c->events)) {
        json_t *j = json_loads(line, 0, NULL);
        assert_non_null(j);
        if (!strcmp(json_string_value(json_object_get(j, "event")), name))
            return j;
        json_decref(j);
    }
    fail_msg("the controller ended without the event %s", name);
    return NULL;
}

void cluster_say(struct cluster *c, const char *text)
{
    assert_int_equal(send(fileno(c->events), text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

void cluster_start(struct cluster *c, const char *const *args)
{
    char arg[100];
    int fds[2];

    memset(c, 0, sizeof(*c));
    snprintf(c->dir, sizeof(c->dir), "/tmp/covey-test-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    snprintf(arg, sizeof(arg), "--profile-dir=%s", c->dir);
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), errno);
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    bool loud = getenv("COVEY_TEST_LOG") != NULL;
    int null = loud ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);
    c->pid = spawn(args, null, fds[1], arg);
    close(fds[1]);
    if (null >= 0)
        close(null);
    c->events = fdopen(fds[0], "r");
    json_t *j = cluster_event(c, "listening");
    snprintf(c->name, sizeof(c->name), "%s", json_string_value(json_object_get(j, "unix")) + 1);
    snprintf(c->client_file, sizeof(c->client_file), "%s",
             json_string_value(json_object_get(j, "client_file")));
    snprintf(c->engine_file, sizeof(c->engine_file), "%s",
             json_string_value(json_object_get(j, "engine_file")));
    c->port = (int)json_integer_value(json_object_get(j, "port"));
    json_decref(j);
}

int cluster_wait(struct cluster *c)
{
    if (c->pid)
        assert_int_equal(waitpid(c->pid, &c->status, 0), c->pid);
    c->pid = 0;
    assert_true(WIFEXITED(c->status));
    return WEXITSTATUS(c->status);
}

static void remove_tree(const char *path)
{
    char sub[512];
    DIR *d = opendir(path);

    for (struct dirent *e; d && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
        if (unlink(sub) < 0)
            remove_tree(sub);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

void cluster_stop(struct cluster *c)
{
    if (c->pid) {
        kill(c->pid, SIGTERM);
        assert_int_equal(cluster_wait(c), 0);
    }
    fclose(c->events);
    remove_tree(c->dir);
}

int cluster_fail(const char *const *args, char *out, size_t n)
{
    int fds[2], status;
    size_t got = 0;

    assert_return_code(pipe(fds), errno);
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    pid_t pid = spawn(args, fds[1], -1, NULL);
    close(fds[1]);
    for (ssize_t k; got + 1 < n && (k = read(fds[0], out + got, n - 1 - got)) > 0;)
        got += (size_t)k;
    out[got] = 0;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* --- bytes --- */

int fake_connect(const struct cluster *c)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(c->name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval tv = {TEST_WAIT_MS / 1000, 0};

    memcpy(a.sun_path + 1, c->name, n);
    assert_return_code(connect(fd, (struct sockaddr *)&a,
                               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)),
                       errno);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
    return fd;
}

static void send_all(int fd, const void *data, size_t n)
{
    const uint8_t *p = data;

    while (n) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR) /* it was stopped: with a timeout it ends so */
            continue;
        if (k <= 0)
            fail_msg("can't send: %s", strerror(errno));
        p += k;
        n -= (size_t)k;
    }
}

/* False at EOF. */
static bool recv_all(int fd, void *data, size_t n)
{
    uint8_t *p = data;

    while (n) {
        ssize_t k = recv(fd, p, n, 0);
        if (k < 0 && errno == EINTR)
            continue;
        if (k == 0 || (k < 0 && errno == ECONNRESET))
            return false;
        if (k < 0)
            fail_msg("nothing came: %s", strerror(errno));
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* Large bodies go as CHUNKs; only one of them is under way at a time here. */
void fake_send(struct fake *f, struct header h, const void *route, uint32_t route_len,
               const void *body, size_t n)
{
    uint8_t head[WIRE_HEADER_SIZE];

    h.route_len = route_len;
    h.nbufs = body ? 1 : 0;
    h.body_len = n;
    bool chunked = n > WIRE_INLINE_MAX;
    if (chunked)
        h.flags |= MSG_F_CHUNKED;
    header_encode(head, &h);
    send_all(f->fd, head, sizeof(head));
    send_all(f->fd, route, route_len);
    if (!chunked) {
        send_all(f->fd, body, n);
        return;
    }
    f->transfers++;
    for (size_t off = 0; off < n; off += WIRE_CHUNK_MAX) {
        size_t k = n - off < WIRE_CHUNK_MAX ? n - off : WIRE_CHUNK_MAX;
        struct header c = {.type = MSG_CHUNK,
                           .seq = f->transfers,
                           .aux = off,
                           .engine = 0,
                           .nbufs = 1,
                           .body_len = k};
        header_encode(head, &c);
        send_all(f->fd, head, sizeof(head));
        send_all(f->fd, (const uint8_t *)body + off, k);
    }
}

static struct msg *recv_one(struct fake *f)
{
    static const struct wire_limits limits = {WIRE_BODY_MAX, WIRE_ROUTE_MAX};
    uint8_t head[WIRE_HEADER_SIZE];
    struct header h;
    struct err e = {{0}};
    struct payload *p = NULL;
    struct msg *m;

    if (!recv_all(f->fd, head, sizeof(head)))
        return NULL;
    if (header_decode(head, &limits, &h, &e) != CV_OK)
        fail_msg("%s", e.text);
    uint8_t *route = malloc(h.route_len + 1);
    recv_all(f->fd, route, h.route_len);
    uint64_t *lens = calloc(h.nbufs + 1, sizeof(*lens));
    lens[0] = h.body_len;
    if (h.nbufs >= 2)
        recv_all(f->fd, lens, h.nbufs * 8);
    if (h.nbufs) {
        assert_int_equal(payload_new_inline(&p, h.nbufs, lens), CV_OK);
        for (uint32_t i = 0; i < h.nbufs && !(h.flags & MSG_F_CHUNKED); i++)
            recv_all(f->fd, p->bufs[i].data, p->bufs[i].len);
    }
    assert_int_equal(msg_new(&m, &h, route, h.route_len, p), CV_OK);
    free(route);
    free(lens);
    return m;
}

struct msg *fake_recv(struct fake *f)
{
    struct msg *m = recv_one(f), *chunk;
    uint64_t left = m && m->h.flags & MSG_F_CHUNKED ? m->h.body_len : 0;

    if (m && m->h.type == MSG_CREDIT) {
        msg_free(m);
        return fake_recv(f);
    }
    for (; left; left -= chunk->h.body_len, msg_free(chunk)) {
        chunk = recv_one(f);
        assert_non_null(chunk);
        assert_int_equal(chunk->h.type, MSG_CHUNK);
        memcpy(m->payload->bufs[chunk->h.engine].data + chunk->h.aux, chunk->payload->bufs[0].data,
               chunk->h.body_len);
    }
    if (m && m->h.type == MSG_RESULT)
        f->results++;
    return m;
}

struct msg *fake_expect(struct fake *f, uint8_t type)
{
    for (;;) {
        struct msg *m = fake_recv(f);
        if (!m)
            fail_msg("EOF instead of %s", msg_type_name(type));
        if (m->h.type == type)
            return m;
        if (m->h.type != MSG_EVENT && m->h.type != MSG_ACK && m->h.type != MSG_OUTPUT)
            fail_msg("%s instead of %s: %s", msg_type_name(m->h.type), msg_type_name(type),
                     msg_text(m));
        msg_free(m);
    }
}

bool fake_silent(struct fake *f, int ms)
{
    struct pollfd p = {.fd = f->fd, .events = POLLIN};

    return poll(&p, 1, ms) == 0;
}

void fake_close(struct fake *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

/* --- peers --- */

void fake_say_hello(struct fake *f, const struct cluster *c, struct hello *h, uint64_t resend)
{
    struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE, .seq = resend, .aux = 7};
    struct buf b = {0};

    f->fd = fake_connect(c);
    f->session = h->session;
    f->results = f->transfers = 0;
    f->announced = resend;
    if (!h->machine)
        h->machine = machine_id();
    h->pid_namespace = pid_namespace();
    if (!h->python)
        h->python = "3.11";
    if (!h->host)
        h->host = "here";
    assert_int_equal(hello_encode(h, &b), CV_OK);
    fake_send(f, head, b.data, (uint32_t)b.len, NULL, 0);
    buf_release(&b);
}

void fake_hello(struct fake *f, const struct cluster *c, struct hello *h, uint64_t resend,
                struct welcome *ret)
{
    struct welcome w;

    fake_say_hello(f, c, h, resend);
    struct msg *m = fake_expect(f, MSG_WELCOME);
    assert_int_equal(m->h.aux, 7);
    assert_int_equal(welcome_decode(m->route, m->h.route_len, &w, NULL), CV_OK);
    f->number = w.number;
    f->incarnation = w.incarnation;
    msg_free(m);
    if (ret) {
        *ret = w;
        return;
    }
    if (w.refused)
        fail_msg("refused: %s", w.refused);
    welcome_release(&w);
}

void fake_client(struct fake *f, const struct cluster *c, uint64_t session)
{
    struct hello h = {.role = ROLE_CLIENT, .session = session, .number = WIRE_ENGINE_NONE};

    memset(f, 0, sizeof(*f));
    fake_hello(f, c, &h, 0, NULL);
}

void fake_engine(struct fake *f, const struct cluster *c, uint64_t session, uint64_t host_session)
{
    struct hello h = {.role = ROLE_ENGINE,
                      .session = session,
                      .number = WIRE_ENGINE_NONE,
                      .uuid = "uuid-of-engine",
                      .host_session = host_session,
                      .pid = (uint32_t)getpid()};

    memset(f, 0, sizeof(*f));
    fake_hello(f, c, &h, 0, NULL);
}

void fake_host(struct fake *f, const struct cluster *c, uint64_t session)
{
    struct hello h = {.role = ROLE_HOST, .session = session, .number = WIRE_ENGINE_NONE, .slot = 2};

    memset(f, 0, sizeof(*f));
    fake_hello(f, c, &h, 0, NULL);
}

uint64_t fake_submit(struct fake *f, uint16_t flags, uint32_t engine, const struct route *r,
                     uint32_t count, const char *body)
{
    struct header h = {.type = MSG_TASK,
                       .flags = flags,
                       .engine = engine,
                       .session = f->session,
                       .seq = f->seq + 1,
                       .count = count,
                       .time = clock_wall()};
    struct buf b = {0};

    if (r)
        assert_int_equal(route_encode(r, &b), CV_OK);
    fake_send(f, h, b.data, (uint32_t)b.len, body, strlen(body));
    buf_release(&b);
    f->seq += count;
    return h.seq;
}

void fake_result(struct fake *engine, const struct msg *task, uint8_t status, const void *body,
                 size_t n)
{
    struct header h = {.type = MSG_RESULT,
                       .status = status,
                       .attempt = task->h.attempt,
                       .session = task->h.session,
                       .seq = task->h.seq,
                       .count = task->h.count,
                       .engine = task->h.engine,
                       .incarnation = task->h.incarnation,
                       .time = clock_wall(),
                       .aux = clock_wall() + 1000};

    if (engine->announced) {
        engine->announced--;
        h.flags = MSG_F_AGAIN;
    }
    fake_send(engine, h, NULL, 0, body, n);
}

json_t *msg_json(const struct msg *m)
{
    json_t *j = m->payload
                    ? json_loadb((char *)m->payload->bufs[0].data, m->payload->bufs[0].len, 0, NULL)
                    : NULL;

    assert_non_null(j);
    return j;
}

const char *msg_text(const struct msg *m)
{
    static char text[2000];
    size_t n = m->payload && m->payload->nbufs ? (size_t)m->payload->bufs[0].len : 0;

    n = n < sizeof(text) ? n : sizeof(text) - 1;
    if (n)
        memcpy(text, m->payload->bufs[0].data, n);
    text[n] = 0;
    return text;
}

json_t *fake_query(struct fake *f, const char *json)
{
    struct header h = {.type = MSG_QUERY,
                       .session = f->session,
                       .seq = 1000000 + f->results,
                       .count = 1,
                       .engine = WIRE_ENGINE_NONE};

    fake_send(f, h, NULL, 0, json, strlen(json));
    struct msg *m = fake_expect(f, MSG_REPLY);
    assert_true(m->h.seq == h.seq);
    json_t *j = msg_json(m);
    msg_free(m);
    return j;
}

json_t *fake_event(struct fake *f, const char *name)
{
    for (;;) {
        struct msg *m = fake_expect(f, MSG_EVENT);
        json_t *j = msg_json(m);
        msg_free(m);
        if (!strcmp(json_string_value(json_object_get(j, "event")), name))
            return j;
        json_decref(j);
    }
}

void expect_text(const struct msg *m, const char *text)
{
    if (!strstr(msg_text(m), text))
        fail_msg("'%s' is not in: %s", text, msg_text(m));
}

void expect_result(struct fake *client, uint64_t seq, uint8_t status, const char *text)
{
    struct msg *m = fake_expect(client, MSG_RESULT);

    assert_int_equal(m->h.seq, seq);
    assert_int_equal(m->h.status, status);
    expect_text(m, text);
    msg_free(m);
}

json_t *json_at(json_t *j, const char *key)
{
    json_t *v = json_object_get(j, key);

    if (!v)
        fail_msg("no %s in %s", key, json_dumps(j, 0));
    return v;
}

void fake_cancel(struct fake *client, uint64_t seq, uint16_t flags)
{
    struct header h = {.type = MSG_CANCEL,
                       .flags = flags,
                       .session = client->session,
                       .seq = seq,
                       .count = 1,
                       .engine = WIRE_ENGINE_NONE};

    fake_send(client, h, NULL, 0, NULL, 0);
}

void expect_bye(struct fake *f, const char *text)
{
    struct msg *m = fake_expect(f, MSG_BYE);

    expect_text(m, text);
    msg_free(m);
    assert_null(fake_recv(f));
    fake_close(f);
}
