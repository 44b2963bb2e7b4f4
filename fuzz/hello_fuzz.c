/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: HELLO and WELCOME. What is accepted can be encoded, and read again. */
#include <assert.h>
#include "wire/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void try_hello(const uint8_t *data, size_t n)
{
    struct hello h, again;
    struct err e;
    struct buf b = {0};
    if (hello_decode(data, n, &h, &e))
        return;
    int rc = hello_encode(&h, &b);
    assert(!rc);
    rc = hello_decode(b.data, b.len, &again, &e);
    assert(!rc);
    assert(again.nunstarted == h.nunstarted && again.nwaiting == h.nwaiting &&
           again.session == h.session);
    hello_release(&again);
    hello_release(&h);
    buf_release(&b);
}

static void try_welcome(const uint8_t *data, size_t n)
{
    struct welcome w, again;
    struct err e;
    struct buf b = {0};
    if (welcome_decode(data, n, &w, &e))
        return;
    int rc = welcome_encode(&w, &b);
    assert(!rc);
    rc = welcome_decode(b.data, b.len, &again, &e);
    assert(!rc);
    assert(again.nunknown == w.nunknown && again.credit == w.credit);
    welcome_release(&again);
    welcome_release(&w);
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    try_hello(data, n);
    try_welcome(data, n);
    return 0;
}
