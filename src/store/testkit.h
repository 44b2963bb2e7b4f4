/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What tests of the store share: a store of any back end with a session 7, payloads that count
 * their references, and walks that keep what they see. */
#ifndef COVEY_STORE_TESTKIT_H
#define COVEY_STORE_TESTKIT_H

#include <stdatomic.h>
#include "store/store.h"

struct blob {
    atomic_int refs;
    char text[32];
};

struct blob *kit_blob(const char *text);
void blob_unref(void *p);

struct kit {
    struct store *s;
    char *folder; /* with the file, removed by kit_free() unless it is the caller's */
    char file[300];
    bool own_folder;
    int notices, bad; /* of tell() */
    char notice[600];
    atomic_int woken;
    struct seen *seen;
    /* of the walks that begin: */
    struct store_bounds bounds;
    unsigned parts, tested; /* parts 0: STORE_ALL */
    bool (*wanted)(struct store_walk *w, const struct store_record *r);
};

struct seen_item {
    struct store_record record; /* its pointers are not valid */
    uint64_t seq;
    char label[32], uuid[40], call[32], result[32], out[64];
    size_t err_len;
    bool cut;
};

struct seen {
    struct store_walk w;
    struct seen_item *v;
    size_t n, cap;
    bool done, failed, count_only;
    struct seen *next;
};

struct kit *kit_new(const char *backend, uint64_t bytes, uint64_t records);
/* In a folder of the caller's. NULL: it could not be opened, for reasons in e. */
struct kit *kit_open(const char *folder, uint64_t bytes, uint64_t records, struct err *e);
void kit_free(struct kit *k);
void kit_submit(struct kit *k, uint64_t seq, uint32_t count, const char *label, struct blob *b);
void kit_end(struct kit *k, uint64_t seq, uint32_t count, struct blob *b);
enum store_find kit_find(struct kit *k, uint64_t seq, const struct store_record **ret);
/* What a walk sees; valid until kit_free(). */
struct seen *kit_walk(struct kit *k, const struct store_id *only, size_t n);
struct seen *kit_walk_start(struct kit *k, const struct store_id *only, size_t n);
size_t kit_count(struct kit *k);
uint64_t kit_purge(struct kit *k, struct store_purge p);
/* Turns of the store until *what, at most 20 s. */
void kit_wait(struct kit *k, const bool *what);
/* Turns until there is nothing more to write, or for so long. */
void kit_settle(struct kit *k);
/* Turns until tell() was called n times. */
void kit_wait_notices(struct kit *k, int n);

#endif
