/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: the command line and config of ipcontroller. */
#include <assert.h>
#include "controller/options.h"
#include "cmdline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct cmdline c;
    struct options o;
    struct err e = {""};
    cmdline_make(&c, "ipcontroller", data, n);
    enum options_next next = options_parse(&o, c.argc, c.argv, c.notices, &e);
    if (next == OPTIONS_RUN)
        options_release(&o);
    else
        assert(next == OPTIONS_DONE || *e.text);
    cmdline_free(&c);
    return 0;
}
