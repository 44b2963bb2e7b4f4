/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Orphans: tasks that engines brought along from the life of an earlier controller (`--reuse`) and
 * of which this one knows nothing. They are neither interrupted nor sent anywhere: when their
 * client sends them again they become tasks that their engine holds; when their result comes first
 * it is kept for that client. Parts of an engine in the registry; no I/O. */
#ifndef COVEY_CONTROLLER_ORPHAN_H
#define COVEY_CONTROLLER_ORPHAN_H

#include "controller/registry.h"

/* What a joining engine says that it holds. */
int orphans_note(struct engine *e) CV_CHECK;
/* The engine is connected again: of its orphans those stay that it still holds. */
int orphans_keep(struct engine *e) CV_CHECK;
/* The part of [lo, hi) that begins at lo: true if an engine holds it as an orphan (*ret_engine,
 * *ret: with its end), else up to where the next orphan begins (*ret_end). */
bool orphan_find(const struct registry *r, uint64_t session, uint64_t lo, uint64_t hi,
                 struct engine **ret_engine, struct orphan *ret, uint64_t *ret_end);
bool orphans_overlap(const struct engine *e, const struct held_task *h);
/* [lo, hi) are orphans no more: asked for, or ended. */
int orphans_drop(struct engine *e, uint64_t session, uint64_t lo, uint64_t hi) CV_CHECK;

#endif
