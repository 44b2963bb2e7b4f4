/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: config trees and the literals of command lines. The tree that comes out can be
 * merged again. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config *c;
    struct err e;
    char *text = malloc(n + 1);
    if (!text || config_new(&c))
        abort();
    memcpy(text, data, n);
    text[n] = 0;
    int merged = config_merge(c, text, n, &e), set = config_set(c, "Class", "trait", text, &e);
    char *dump = config_dump(c);
    assert(dump);
    int again = config_merge(c, dump, strlen(dump), &e);
    assert(!again);
    (void)merged, (void)set;
    free(dump);
    free(text);
    config_free(c);
    return 0;
}
