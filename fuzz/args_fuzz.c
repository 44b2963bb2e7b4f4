/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: command lines; each line of the input is one argument. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/args.h"

#define ARGS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct arg ROWS[] = {
    {"n", 'n', ARG_VALUE, "Cluster", "n", NULL, "N", "engines"},
    {"profile-dir", 0, ARG_VALUE, "ProfileDir", "location", NULL, "PATH", "folder"},
    {"debug", 0, ARG_FLAG, "Application", "log_level", "10", NULL, "talk more"},
    {"ping", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, NULL, "no effect"},
    {NULL},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct args_spec spec = {"prog", "", "", ROWS};
    char *argv[ARGS_MAX] = {"prog"}, *text = malloc(n + 1), **rest = NULL, *save;
    int argc = 1;
    struct config *c;
    struct err e;
    if (!text || config_new(&c))
        abort();
    memcpy(text, data, n);
    text[n] = 0;
    for (char *w = strtok_r(text, "\n", &save); w && argc < ARGS_MAX;
         w = strtok_r(NULL, "\n", &save))
        if (!strstr(w, "help") && !strstr(w, "version") && strcmp(w, "-h")) /* they print */
            argv[argc++] = w;
    if (args_parse(&spec, argc, argv, c, &rest, NULL, &e) == CV_OK)
        assert(rest);
    free(rest);
    free(text);
    config_free(c);
    return 0;
}
