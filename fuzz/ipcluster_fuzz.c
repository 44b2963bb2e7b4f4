/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: the command lines and config of ipcluster's verbs; the first byte chooses one. */
#include <assert.h>
#include <fcntl.h>
#include "cluster/settings.h"
#include "cmdline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct cmdline c;
    struct settings s;
    struct err e = {""};
    if (!n)
        return 0;
    int err = dup(2), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    cmdline_make(&c, "ipcluster", data + 1, n - 1);
    dup2(null, 2); /* notices */
    enum settings_next next = settings_parse(&s, data[0] % VERB_END, c.argc, c.argv, &e);
    dup2(err, 2);
    close(err);
    close(null);
    if (next == SETTINGS_RUN)
        settings_release(&s);
    else
        assert(next == SETTINGS_DONE || *e.text);
    cmdline_free(&c);
    return 0;
}
