/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Keys and settings of TLS. A file's key gives one pre-shared key per role by HKDF-SHA256; OpenSSL
 * takes it as a session of TLS 1.3 that has only a master key. There is no certificate: without
 * the key a handshake has nothing to go on with and fails, on both sides. A context and all that
 * is made from it belong to one thread. Derived keys are wiped where they were on the stack. */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "tls/context.h"

#define KEY_LEN 32
#define CIPHER "TLS_AES_128_GCM_SHA256"
#define READ_AHEAD (64u << 10)
#define KEY_LIFE_S (100L * 365 * 24 * 3600) /* unless set 304 s; a key has no end */
/* A key of AES-GCM is good for 2^24.5 records (RFC 8446, 5.5), 400 GB, and nobody else counts. */
#define KEY_RECORDS (1u << 24)

static const unsigned char cipher_id[] = {0x13, 0x01};

const char *tls_role_name(enum tls_role role)
{
    static const char *const names[TLS_ROLES] = {"client", "engine"};
    return names[role];
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static int key_decode(const char *text, uint8_t out[KEY_LEN], struct err *e)
{
    bool good = strlen(text) == 2 * KEY_LEN;
    for (size_t i = 0; good && i < KEY_LEN; i++) {
        int hi = hex_digit(text[2 * i]), lo = hex_digit(text[2 * i + 1]);
        good = hi >= 0 && lo >= 0;
        out[i] = (uint8_t)(hi << 4 | (lo & 15));
    }
    return good ? CV_OK : err_set(e, CV_EINVAL, "the key is not %d hex digits", 2 * KEY_LEN);
}

static int key_derive(const uint8_t key[KEY_LEN], enum tls_role role, uint8_t out[KEY_LEN])
{
    char info[32] = "covey psk ";
    strcat(info, tls_role_name(role));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key, KEY_LEN),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, strlen(info)),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *k = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    int r = k && EVP_KDF_derive(k, out, KEY_LEN, params) == 1 ? CV_OK : CV_ESYS;
    EVP_KDF_CTX_free(k);
    EVP_KDF_free(kdf);
    return r;
}

static SSL_SESSION *session_new(SSL_CTX *ctx, const uint8_t key[KEY_LEN])
{
    SSL *ssl = SSL_new(ctx); /* only to look the cipher up */
    const SSL_CIPHER *cipher = ssl ? SSL_CIPHER_find(ssl, cipher_id) : NULL;
    SSL_SESSION *s = cipher ? SSL_SESSION_new() : NULL;
    if (s && (!SSL_SESSION_set1_master_key(s, key, KEY_LEN) || !SSL_SESSION_set_cipher(s, cipher) ||
              !SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) ||
              !SSL_SESSION_set_timeout(s, KEY_LIFE_S))) {
        SSL_SESSION_free(s);
        s = NULL;
    }
    SSL_free(ssl);
    return s;
}

/* The server looks a peer's name up. Nobody is never refused here: see `nobody`. */
static int find_session(SSL *ssl, const unsigned char *name, size_t len, SSL_SESSION **ret)
{
    struct tls_transport *t = SSL_get_app_data(ssl);
    SSL_SESSION *s = t->c->nobody;
    for (int i = 0; i < TLS_ROLES; i++) {
        const char *role = tls_role_name(i);
        if (t->c->sessions[i] && len == strlen(role) && memcmp(name, role, len) == 0) {
            s = t->c->sessions[i];
            t->found = i;
        }
    }
    SSL_SESSION_up_ref(s);
    *ret = s;
    return 1;
}

static int use_session(SSL *ssl, const EVP_MD *md, const unsigned char **name, size_t *len,
                       SSL_SESSION **ret)
{
    struct tls_transport *t = SSL_get_app_data(ssl);
    SSL_SESSION *s = t->c->sessions[t->c->role];
    if (md && !EVP_MD_is_a(md, "SHA256")) {
        *ret = NULL; /* a retry for another hash: the key does not fit that */
        return 1;
    }
    SSL_SESSION_up_ref(s);
    *name = (const unsigned char *)tls_role_name(t->c->role);
    *len = strlen(tls_role_name(t->c->role));
    *ret = s;
    return 1;
}

static int configure(struct tls_context *c)
{
    SSL_CTX *x = c->ctx;
    if (!SSL_CTX_set_min_proto_version(x, TLS1_3_VERSION) ||
        !SSL_CTX_set_max_proto_version(x, TLS1_3_VERSION) || !SSL_CTX_set_ciphersuites(x, CIPHER) ||
        !SSL_CTX_set1_groups_list(x, "X25519:P-256") || !SSL_CTX_set_num_tickets(x, 0) ||
        !SSL_CTX_set_max_early_data(x, 0) || !SSL_CTX_set_recv_max_early_data(x, 0))
        return CV_ESYS;
    SSL_CTX_clear_options(x, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_CTX_set_options(x, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                               SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(x, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_quiet_shutdown(x, 1);
    SSL_CTX_set_read_ahead(x, 1);
    SSL_CTX_set_default_read_buffer_len(x, READ_AHEAD);
    if (c->server) {
        SSL_CTX_set_psk_find_session_callback(x, find_session);
    } else {
        SSL_CTX_set_verify(x, SSL_VERIFY_PEER,
                           NULL); /* and no authority: a certificate never does */
        SSL_CTX_set_psk_use_session_callback(x, use_session);
    }
    return CV_OK;
}

static int context_new(struct tls_context **ret, bool server, struct err *e)
{
    ERR_clear_error();
    struct tls_context *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, CV_ENOMEM, "out of memory");
    c->server = server;
    c->key_records = KEY_RECORDS;
    c->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    c->bio = tls_bio_new();
    if (!c->ctx || !c->bio || configure(c) < 0) {
        char reason[128];
        ERR_error_string_n(ERR_peek_error(), reason, sizeof reason);
        tls_context_free(c);
        return err_set(e, CV_ESYS, "TLS can't be set up: %s", reason);
    }
    *ret = c;
    return CV_OK;
}

static int add_key(struct tls_context *c, enum tls_role role, const char *text, struct err *e)
{
    uint8_t key[KEY_LEN], psk[KEY_LEN];
    int r = key_decode(text, key, e);
    if (r == CV_OK) {
        if (key_derive(key, role, psk) == CV_OK)
            c->sessions[role] = session_new(c->ctx, psk);
        if (!c->sessions[role])
            r = err_set(e, CV_ESYS, "TLS can't take the key");
    }
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(psk, sizeof psk);
    return r;
}

int tls_server_new(struct tls_context **ret, const char *client_key, const char *engine_key,
                   struct err *e)
{
    struct tls_context *c;
    uint8_t noise[KEY_LEN];
    int r = context_new(&c, true, e);
    if (r < 0)
        return r;
    if (client_key)
        r = add_key(c, TLS_CLIENT, client_key, e);
    if (r == CV_OK && engine_key)
        r = add_key(c, TLS_ENGINE, engine_key, e);
    if (r == CV_OK &&
        (RAND_bytes(noise, sizeof noise) != 1 || !(c->nobody = session_new(c->ctx, noise))))
        r = err_set(e, CV_ESYS, "TLS has no random bytes");
    if (r < 0) {
        tls_context_free(c);
        return r;
    }
    *ret = c;
    return CV_OK;
}

int tls_client_new(struct tls_context **ret, const char *identity, const char *key, struct err *e)
{
    struct tls_context *c;
    int r = context_new(&c, false, e);
    if (r < 0)
        return r;
    c->role = strcmp(identity, tls_role_name(TLS_ENGINE)) == 0 ? TLS_ENGINE : TLS_CLIENT;
    if (strcmp(identity, tls_role_name(c->role)) != 0)
        r = err_set(e, CV_EINVAL, "\"%s\" is not a role", identity);
    else
        r = add_key(c, c->role, key, e);
    if (r < 0) {
        tls_context_free(c);
        return r;
    }
    *ret = c;
    return CV_OK;
}

void tls_context_free(struct tls_context *c)
{
    if (!c)
        return;
    for (int i = 0; i < TLS_ROLES; i++)
        SSL_SESSION_free(c->sessions[i]);
    SSL_SESSION_free(c->nobody);
    SSL_CTX_free(c->ctx);
    BIO_meth_free(c->bio);
    buf_release(&c->wire);
    OPENSSL_cleanse(c->plain, sizeof c->plain);
    free(c);
}

static int factory_make(void *arg, int fd_take, struct transport **ret, struct err *e)
{
    return tls_transport_new(arg, fd_take, ret, e);
}

struct transport_factory tls_factory(struct tls_context *c)
{
    return (struct transport_factory){factory_make, c};
}
