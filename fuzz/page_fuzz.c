/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: the status page of an engine that wrote anything into it before it died, and what is
 * told about its end: the sentence and CAUSE's JSON, whatever its stderr was. */
#include <assert.h>
#include <unistd.h>
#include "host/slot.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void told(struct death *d)
{
    struct buf text = {0};
    json_t *cause = NULL;
    int rc = death_text(d, &text);
    assert(!rc && text.len);
    buf_clear(&text);
    rc = death_log_text(d, &text);
    assert(!rc && text.len);
    rc = death_json(d, &cause);
    assert(!rc && json_object_get(cause, "text"));
    char *dump = json_dumps(cause, JSON_COMPACT);
    assert(dump);
    free(dump);
    json_decref(cause);
    buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct input in = {data, n};
    struct slot s;
    struct death d = {.host = "here", .number = UINT32_MAX};
    struct buf err = {0};
    struct err e;
    int fds[SLOT_FDS];
    uint8_t how = in_u8(&in);
    slot_init(&s, 0, UINT32_MAX);
    if (slot_open(&s, fds, &e))
        abort();
    d.known = how & 1;
    d.signal = how & 2 ? in_u8(&in) % 70 : 0;
    d.code = how & 4 ? (int8_t)in_u8(&in) : 0;
    d.pid = how & 8 ? 77 : 0;
    d.oom = how & 16;
    d.because = how & 32 ? "it was told to" : NULL;
    d.failure = how & 64 ? "it could not start" : NULL;
    d.peak_rss = in_u32(&in);
    size_t head =
        in.left < offsetof(struct statuspage, ring) ? in.left : offsetof(struct statuspage, ring);
    memcpy(s.page, in.at, head);
    in.at += head;
    in.left -= head;
    if (how & 128) { /* the ring as its writer left it */
        while (in.left) {
            size_t part;
            const uint8_t *bytes = in_bytes(&in, 5000, &part);
            statuspage_ring_add(s.page, bytes, part);
        }
    } else {
        memcpy(s.page->ring, in.at, in.left < STATUSPAGE_RING ? in.left : STATUSPAGE_RING);
    }
    (void)!write(fds[4], data, n < 1000 ? n : 1000); /* and what is left in the pipe */
    int rc = slot_autopsy(&s, &d, &err);
    assert(!rc);
    told(&d);
    buf_release(&err);
    for (int i = 0; i < SLOT_FDS; i++)
        close(fds[i]);
    slot_release(&s);
    return 0;
}
