/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Messages that the controller writes itself: JSON in one buffer. Where memory does not do for one,
 * its link ends: the peer connects again, learns how things are, and asks again. */
#ifndef COVEY_CONTROLLER_SAY_H
#define COVEY_CONTROLLER_SAY_H

#include <jansson.h>
#include "base/buf.h"
#include "net/link.h"
#include "wire/msg.h"

/* One buffer with the compact text. Takes j. NULL when out of memory. */
struct payload *say_json(json_t *j_take);
/* The same of text that is there already. The text is taken. */
struct payload *say_text(struct buf *text_take);
/* The JSON object in the first buffer of a message; a new reference, NULL when it is none. */
json_t *say_parse(const struct msg *m);
void say(struct link *l, const struct header *h, json_t *j_take);
/* The same of a payload, which may be NULL: it could not be made. */
void say_payload(struct link *l, const struct header *h, struct payload *p);
void say_bye(struct link *l, uint32_t engine, const char *reason);
/* REPLY to the message with header h: {"ok": ok_take}, then the buffers of extra (may be NULL). */
void say_reply(struct link *l, const struct header *h, json_t *ok_take, struct payload *extra);
/* The same with JSON text that is there already; the first for {"ok": [text]}. The text is taken.
 */
void say_reply_list(struct link *l, const struct header *h, struct buf *text_take);
void say_reply_whole(struct link *l, const struct header *h, struct buf *text_take); /* {"ok": …} */
void say_reply_text(struct link *l, const struct header *h, struct buf *text_take,
                    struct payload *extra);
void say_error(struct link *l, const struct header *h, const char *ename, const char *fmt, ...)
    CV_PRINTF(4, 5);
/* u64 times in JSON: seconds since 1970, null for 0. */
json_t *say_time(uint64_t ns);
/* "%016x_%d" */
#define MSG_ID_SIZE 40
void msg_id_format(char out[MSG_ID_SIZE], uint64_t session, uint64_t seq);
int msg_id_parse(const char *text, uint64_t *ret_session, uint64_t *ret_seq) CV_CHECK;

#endif
