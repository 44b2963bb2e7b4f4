/* SPDX-License-Identifier: BSD-3-Clause
 *
 * TLS 1.3 with external pre-shared keys as a transport. One key per role, derived by HKDF-SHA256
 * from the connection file's key (info "covey psk client" / "covey psk engine"), identities
 * "client" and "engine"; TLS_AES_128_GCM_SHA256, psk_dhe_ke only, no tickets, no early data. An
 * unknown identity and a wrong key fail alike. Alerts become sentences. The only user of OpenSSL.
 */
#ifndef COVEY_TLS_TLS_H
#define COVEY_TLS_TLS_H

#include "net/connect.h"
#include "net/transport.h"

struct tls_context; /* keys and SSL_CTX; shared by the transports made from it, freed by the owner
                       last */

/* The file's key of each role: 64 hex digits. Server: either may be NULL (role not served). */
int tls_server_new(struct tls_context **ret, const char *client_key, const char *engine_key,
                   struct err *e) CV_CHECK;
/* identity: "client" or "engine". */
int tls_client_new(struct tls_context **ret, const char *identity, const char *key,
                   struct err *e) CV_CHECK;
void tls_context_free(struct tls_context *c); /* NULL is fine */
/* Takes fd (also on failure). */
int tls_transport_new(struct tls_context *c, int fd_take, struct transport **ret,
                      struct err *e) CV_CHECK;
/* The same as a factory for connectors. */
struct transport_factory tls_factory(struct tls_context *c);

#endif
