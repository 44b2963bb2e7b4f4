/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See slot.h. */
#include "host/slot.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "proc/capture.h"
#include "wire/header.h"

enum { PAGE, OUT_R, OUT_W, ERR_R, ERR_W };

#define STATE_RUNNING 2 /* see wire/statuspage.h */
#define STATE_LEAVING 3
#define LEFTOVER_MAX (64u << 10) /* a pipe's capacity */

void slot_init(struct slot *s, uint32_t index, uint32_t number)
{
    memset(s, 0, sizeof *s);
    s->index = index;
    s->number = number;
    s->out_fd = s->err_fd = -1;
}

static int page_new(struct statuspage **ret, int *ret_fd, struct err *e)
{
    int fd = memfd_create("covey-status", MFD_CLOEXEC);
    if (fd < 0)
        return err_sys(e, "can't make a status page");
    void *p = MAP_FAILED;
    if (ftruncate(fd, sizeof(struct statuspage)) == 0)
        p = mmap(NULL, sizeof(struct statuspage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        int rc = err_sys(e, "can't make a status page");
        close(fd);
        return rc;
    }
    struct statuspage *page = p;
    page->magic = STATUSPAGE_MAGIC;
    atomic_store(&page->number, WIRE_ENGINE_NONE);
    *ret = page;
    *ret_fd = fd;
    return CV_OK;
}

/* A pipe: its write end and a copy of its read end for the engine, its read end for us. */
static int pipe_for(int *ret_own, int *ret_r, int *ret_w, struct err *e)
{
    int p[2];
    int rc = capture_pipe(p, e);
    if (rc != CV_OK)
        return rc;
    int copy = fcntl(p[0], F_DUPFD_CLOEXEC, 3);
    if (copy < 0) {
        rc = err_sys(e, "can't make a pipe");
        close(p[0]);
        close(p[1]);
        return rc;
    }
    *ret_own = p[0];
    *ret_r = copy;
    *ret_w = p[1];
    return CV_OK;
}

int slot_open(struct slot *s, int ret_fds[SLOT_FDS], struct err *e)
{
    int fds[SLOT_FDS] = {-1, -1, -1, -1, -1};
    slot_close(s);
    int rc = page_new(&s->page, &fds[PAGE], e);
    if (rc == CV_OK)
        rc = pipe_for(&s->out_fd, &fds[OUT_R], &fds[OUT_W], e);
    if (rc == CV_OK)
        rc = pipe_for(&s->err_fd, &fds[ERR_R], &fds[ERR_W], e);
    if (rc == CV_OK) {
        memcpy(ret_fds, fds, sizeof fds);
        return CV_OK;
    }
    for (int i = 0; i < SLOT_FDS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    slot_close(s);
    return rc;
}

void slot_close(struct slot *s)
{
    if (s->page)
        munmap(s->page, sizeof *s->page);
    s->page = NULL;
    if (s->out_fd >= 0)
        close(s->out_fd);
    if (s->err_fd >= 0)
        close(s->err_fd);
    s->out_fd = s->err_fd = -1;
}

void slot_release(struct slot *s)
{
    slot_close(s);
    free(s->report);
    s->report = NULL;
}

bool slot_running(const struct slot *s)
{
    return s->page && atomic_load(&s->page->state) == STATE_RUNNING;
}

uint32_t slot_incarnation(const struct slot *s)
{
    uint32_t n = atomic_load(&s->page->incarnation);
    return n <= WIRE_INCARNATION_MAX ? n : 0;
}

int slot_autopsy(const struct slot *s, struct death *d, struct buf *err)
{
    if (!s->page)
        return CV_OK;
    d->number = atomic_load(&s->page->number);
    d->incarnation = slot_incarnation(s);
    d->running = slot_running(s);
    d->left = atomic_load(&s->page->state) == STATE_LEAVING;
    d->session = atomic_load(&s->page->session);
    d->seq = atomic_load(&s->page->seq);
    d->attempt = atomic_load(&s->page->attempt);
    d->tasks_done = atomic_load(&s->page->tasks_done);
    int rc = buf_reserve(err, STATUSPAGE_RING);
    if (rc == CV_OK) {
        err->len += statuspage_ring_tail(s->page, err->data + err->len, STATUSPAGE_RING);
        rc = capture_leftover(s->out_fd, LEFTOVER_MAX, err);
    }
    if (rc == CV_OK)
        rc = capture_leftover(s->err_fd, LEFTOVER_MAX, err);
    d->err = *err;
    return rc;
}
