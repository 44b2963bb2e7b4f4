/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: connection files. What is accepted can be written, and read again; no error text
 * holds part of a key. */
#include <assert.h>
#include <string.h>
#include "wire/connfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct connfile c, again;
    struct err e = {""};
    struct buf b = {0};
    if (connfile_decode((const char *)data, n, &c, &e)) {
        assert(!strstr(e.text, "5ec7e7")); /* the corpus' keys consist of this */
        return 0;
    }
    int rc = connfile_encode(&c, &b);
    assert(!rc);
    rc = connfile_decode((const char *)b.data, b.len, &again, &e);
    assert(!rc);
    assert(again.nendpoints == c.nendpoints && again.port == c.port && !strcmp(again.key, c.key));
    connfile_release(&again);
    connfile_release(&c);
    buf_release(&b);
    return 0;
}
