/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See death.h. */
#include "host/death.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "proc/capture.h"
#include "proc/reap.h"
#include "wire/header.h"

#define EXIT_TERMINATED (128 + SIGTERM) /* an engine's exit code after it */
#define TOLD_LINES 3
#define TOLD_BYTES 600

bool death_is_clean(const struct death *d)
{
    return d->known && d->signal == 0 && d->code == 0 && !d->failure;
}

/* The length of the UTF-8 character at p, 0 when it is none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    static const unsigned char least[] = {0, 0, 0x80 >> 6, 0x800 >> 6, 0x10000 >> 12};
    size_t len = p[0] < 0x80             ? 1
                 : (p[0] & 0xE0) == 0xC0 ? 2
                 : (p[0] & 0xF0) == 0xE0 ? 3
                 : (p[0] & 0xF8) == 0xF0 ? 4
                                         : 0;
    if (len == 0 || len > n)
        return 0;
    uint32_t c = len == 1 ? p[0] : p[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3F);
    }
    if (len == 2 && c < (uint32_t)least[2] << 6)
        return 0;
    if ((len == 3 && (c < (uint32_t)least[3] << 6 || (c >= 0xD800 && c < 0xE000))) ||
        (len == 4 && (c < (uint32_t)least[4] << 12 || c > 0x10FFFF)))
        return 0;
    return len;
}

void text_clean(char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        size_t len = utf8_length((unsigned char *)text + i, n - i);
        bool control = (c < 0x20 && c != '\n' && c != '\t' && c != '\r' && c != 0x1B) || c == 0x7F;
        if (len == 0 || control)
            text[i] = '?';
        i += len ? len : 1;
    }
}

/* A clean copy of the last bytes of stderr. */
static int stderr_copy(const struct death *d, size_t max, struct buf *out)
{
    size_t skip = d->err.len > max ? d->err.len - max : 0;
    if (d->err.len == 0)
        return CV_OK;
    int rc = buf_add(out, d->err.data + skip, d->err.len - skip);
    if (rc == CV_OK)
        text_clean((char *)out->data, out->len);
    return rc == CV_OK && !buf_cstr(out) ? CV_ENOMEM : rc;
}

/* Color codes and the like are for terminals, not for a sentence. */
static size_t skip_escape(const char *p, size_t n)
{
    size_t i = 1;
    if (i < n && p[i] == '[')
        for (i++; i < n && (p[i] < '@' || p[i] > '~'); i++)
            ;
    return i < n ? i + 1 : n;
}

/* Adds text[from, to) on one line. */
static int add_on_one_line(struct buf *out, const char *text, size_t from, size_t to)
{
    int rc = CV_OK;
    while (to > from && strchr(" \t\r\n", text[to - 1]))
        to--;
    for (size_t i = from; i < to && rc == CV_OK;) {
        if (text[i] == 0x1B) {
            i += skip_escape(text + i, to - i);
            continue;
        }
        rc = text[i] == '\n'   ? buf_addstr(out, " | ")
             : text[i] == '\r' ? CV_OK
                               : buf_add(out, text + i, 1);
        i++;
    }
    return rc;
}

/* The place in a dump of Python's faulthandler that tells most: its innermost frame. */
static const char *innermost_frame(const char *text, size_t n)
{
    static const char mark[] = "(most recent call first):\n";
    const char *dump = memmem(text, n, "Fatal Python error:", 19);
    const char *found =
        dump ? memmem(dump, n - (size_t)(dump - text), mark, sizeof mark - 1) : NULL;
    return found ? found + sizeof mark - 1 : NULL;
}

/* Where Python was, by its own dump: innermost frame first. */
static int add_frame(const struct death *d, struct buf *out)
{
    struct buf err = {0};
    int rc = stderr_copy(d, DEATH_STDERR_MAX, &err);
    const char *text = (const char *)err.data;
    const char *frame = rc == CV_OK && err.len ? innermost_frame(text, err.len) : NULL;
    if (frame) {
        const char *end = memchr(frame, '\n', err.len - (size_t)(frame - text));
        rc = buf_addstr(out, "; Python was at ");
        if (rc == CV_OK)
            rc = add_on_one_line(out, text, (size_t)(frame - text) + strspn(frame, " "),
                                 end ? (size_t)(end - text) : err.len);
    }
    buf_release(&err);
    return rc;
}

/* What stderr ends with, shortened to what a line of a log can bear. */
static int add_last_lines(const struct death *d, struct buf *out)
{
    struct buf err = {0};
    int rc = stderr_copy(d, DEATH_STDERR_MAX, &err);
    const char *text = (const char *)err.data;
    if (rc == CV_OK && err.len && !innermost_frame(text, err.len)) {
        size_t from = tail_lines(text, err.len, TOLD_LINES);
        if (err.len - from > TOLD_BYTES)
            from = err.len - TOLD_BYTES;
        if (strspn(text + from, " \t\r\n") < err.len - from) {
            rc = buf_addstr(out, "; last lines of its stderr: ");
            if (rc == CV_OK)
                rc = add_on_one_line(out, text, from, err.len);
        }
    }
    buf_release(&err);
    return rc;
}

static int add_size(struct buf *out, uint64_t bytes)
{
    if (bytes >= 10ull << 30)
        return buf_addf(out, "%.0f GiB", (double)bytes / (double)(1ull << 30));
    if (bytes >= 1ull << 30)
        return buf_addf(out, "%.1f GiB", (double)bytes / (double)(1ull << 30));
    return buf_addf(out, "%.0f MiB", (double)bytes / (double)(1ull << 20));
}

static int add_who(const struct death *d, struct buf *out)
{
    if (d->number != WIRE_ENGINE_NONE)
        return buf_addf(out, "engine %" PRIu32 " (host %s, pid %d)", d->number, d->host,
                        (int)d->pid);
    if (d->pid)
        return buf_addf(out, "an engine that had not registered yet (host %s, pid %d)", d->host,
                        (int)d->pid);
    return buf_addf(out, "an engine on host %s", d->host);
}

static int add_how(const struct death *d, struct buf *out)
{
    if (d->failure)
        return buf_addf(out, " could not be started: %s", d->failure);
    if (d->because && d->known && d->signal)
        return buf_addf(out, " was ended by its host with %s: %s", signal_name(d->signal),
                        d->because);
    if (d->because)
        return buf_addf(out, " has ended: %s", d->because);
    if (!d->known)
        return buf_addstr(out, " is gone, and nobody can tell how it ended");
    if (!d->signal && d->code == EXIT_TERMINATED && d->left)
        return buf_addstr(out, " has ended because somebody sent it SIGTERM");
    if (!d->signal)
        return buf_addf(out, " ended with exit code %d%s", d->code,
                        d->rank && d->code && !d->left ? ", as MPI_Abort ends a rank" : "");
    if (d->oom)
        return buf_addstr(out, " was killed by the kernel because memory ran out (SIGKILL)");
    int rc = buf_addf(out, " was killed by %s", signal_name(d->signal));
    if (rc == CV_OK && d->signal == SIGKILL)
        rc = buf_addstr(out, ", not by its host");
    return rc;
}

void death_reason(bool mpiexec, const char *job, char *out, size_t cap)
{
    if (mpiexec)
        snprintf(out, cap,
                 "mpiexec stopped all ranks (SIGTERM), as when one of them calls MPI_Abort or "
                 "dies");
    else
        snprintf(out, cap, "the host was asked to stop%s%.40s%s",
                 job ? " by SIGTERM, as when batch job " : "", job ? job : "",
                 job ? " is cancelled, preempted or out of time" : "");
}

int death_text(const struct death *d, struct buf *out)
{
    int rc = add_who(d, out);
    if (rc == CV_OK)
        rc = add_how(d, out);
    if (rc == CV_OK && d->running)
        rc = buf_addf(out, " while it ran task %016" PRIx64 "_%" PRIu64 " (attempt %" PRIu32 ")",
                      d->session, d->seq, d->attempt);
    if (rc == CV_OK && d->peak_rss && (d->oom || (d->signal == SIGKILL && !d->because))) {
        rc = buf_addstr(out, "; its peak memory was ");
        if (rc == CV_OK)
            rc = add_size(out, d->peak_rss);
    }
    return rc == CV_OK ? add_frame(d, out) : rc;
}

int death_log_text(const struct death *d, struct buf *out)
{
    int rc = death_text(d, out);
    if (rc == CV_OK)
        rc = add_last_lines(d, out);
    if (rc == CV_OK)
        text_clean((char *)out->data, out->len);
    return rc == CV_OK && !buf_cstr(out) ? CV_ENOMEM : rc;
}

static int set(json_t *o, const char *key, json_t *value_take)
{
    return json_object_set_new(o, key, value_take) == 0 ? CV_OK : CV_ENOMEM;
}

static json_t *id_json(const struct death *d)
{
    char text[64];
    if (!d->running)
        return json_null();
    snprintf(text, sizeof text, "%016" PRIx64 "_%" PRIu64, d->session, d->seq);
    return json_string(text);
}

static int fill(const struct death *d, const struct buf *text, const struct buf *err, json_t *o)
{
    bool died = d->known && !d->failure;
    int rc = set(o, "id", d->number == WIRE_ENGINE_NONE ? json_null() : json_integer(d->number));
    rc |= set(o, "incarnation", json_integer(d->incarnation));
    rc |= set(o, "slot", json_integer(d->slot));
    rc |= set(o, "host", json_string(d->host));
    rc |= set(o, "pid", json_integer(d->pid));
    rc |= set(o, "signal", died && d->signal ? json_integer(d->signal) : json_null());
    rc |= set(o, "code", died && !d->signal ? json_integer(d->code) : json_null());
    rc |= set(o, "oom", json_boolean(d->oom));
    rc |= set(o, "running", id_json(d));
    rc |= set(o, "running_attempt", json_integer(d->running ? d->attempt : 0));
    rc |= set(o, "tasks_done", json_integer(d->tasks_done));
    rc |= set(o, "planned", json_boolean(d->planned));
    rc |= set(o, "restart", json_boolean(d->restart));
    rc |= set(o, "peak_rss", json_integer((json_int_t)d->peak_rss));
    rc |= set(o, "stderr", json_stringn(err->len ? (const char *)err->data : "", err->len));
    rc |= set(o, "text", json_stringn((const char *)text->data, text->len));
    return rc ? CV_ENOMEM : CV_OK;
}

int death_json(const struct death *d, json_t **ret)
{
    struct buf text = {0}, err = {0};
    json_t *o = json_object();
    int rc = o ? death_text(d, &text) : CV_ENOMEM;
    if (rc == CV_OK) {
        text_clean((char *)text.data, text.len);
        rc = stderr_copy(d, DEATH_STDERR_MAX, &err);
    }
    if (rc == CV_OK)
        rc = fill(d, &text, &err, o);
    buf_release(&text);
    buf_release(&err);
    if (rc == CV_OK)
        *ret = o;
    else
        json_decref(o);
    return rc;
}
