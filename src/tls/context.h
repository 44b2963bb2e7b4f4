/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The insides of a TLS context, shared by context.c (keys, settings) and transport.c (bytes). */
#ifndef COVEY_TLS_CONTEXT_H
#define COVEY_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include "base/buf.h"
#include "tls/tls.h"

#define TLS_RECORD 16384 /* plain bytes of one record */

enum tls_role { TLS_CLIENT, TLS_ENGINE, TLS_ROLES };

struct tls_context {
    SSL_CTX *ctx;
    BIO_METHOD *bio;
    bool server;
    enum tls_role role;               /* client: which of the keys it has */
    SSL_SESSION *sessions[TLS_ROLES]; /* the keys, as what OpenSSL takes; NULL: not served */
    SSL_SESSION *nobody;  /* server: a random key, so that unknown names fail like wrong keys */
    uint64_t key_records; /* one key of a connection encrypts so many */
    struct buf wire;      /* what SSL wrote in the running call; empty between calls */
    uint8_t plain[TLS_RECORD]; /* small pieces become one record here */
};

struct tls_transport {
    struct transport t;
    struct tls_context *c;
    SSL *ssl;
    struct buf out;       /* encrypted, not taken by the kernel yet */
    const char *identity; /* of the peer's key; NULL before it has shown that it has it */
    enum tls_role found;  /* server: the key that the peer named */
    uint64_t records;     /* encrypted with the key of now */
    int sys_errno;        /* of the last failed recv() */
    bool eof, drained;    /* recv() said so */
    bool begun, not_tls;  /* the first byte has come; it can't be TLS */
};

const char *tls_role_name(enum tls_role role);
BIO_METHOD *tls_bio_new(void); /* transport.c */

#endif
