/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster: finds the verb and runs it. Options before the verb are the verb's (entry points put
 * --python=PATH there). */
#include <stdio.h>
#include <string.h>
#include "cluster/verbs.h"
#include "launch/batchjob.h"

static int (*const VERBS[VERB_END])(const struct settings *s) = {
    [VERB_START] = verb_start, [VERB_STOP] = verb_stop,   [VERB_ENGINES] = verb_engines,
    [VERB_LIST] = verb_list,   [VERB_CLEAN] = verb_clean,
};

static void print_help(FILE *out)
{
    fprintf(out, "ipcluster starts, lists and stops clusters of Python engines.\n\nUsage: "
                 "ipcluster VERB [options]\n\n");
    for (int v = 0; v < VERB_END; v++) {
        const char *help = settings_verb_help(v);
        fprintf(out, "  %-9s%.*s\n", settings_verb_name(v), (int)strcspn(help, "\n."), help);
    }
    fprintf(out, "\n`ipcluster VERB --help` shows the options of a verb.\n\nExamples:\n"
                 "  ipcluster start -n 4\n  ipcluster list\n  ipcluster stop\n");
}

/* Index of the verb in argv: the first word that is no option; 0 when there is none. */
static int find_verb(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (argv[i][0] && argv[i][0] != '-')
            return i;
    return 0;
}

static int run_verb(enum verb verb, int argc, char **argv)
{
    struct settings s;
    struct err e = {""};
    switch (settings_parse(&s, verb, argc, argv, &e)) {
    case SETTINGS_DONE:
        return EXIT_FINE;
    case SETTINGS_USAGE:
        fprintf(stderr, "ipcluster %s: %s\n", settings_verb_name(verb), e.text);
        return EXIT_USAGE;
    case SETTINGS_FAILED:
        fprintf(stderr, "ipcluster %s: %s\n", settings_verb_name(verb), e.text);
        return EXIT_FAILED;
    case SETTINGS_RUN:
        break;
    }
    int code = VERBS[verb](&s);
    settings_release(&s);
    return code;
}

int main(int argc, char **argv)
{
    int at = find_verb(argc, argv);
    if (at && !strcmp(argv[at], "batch-job")) /* the supervisor's own, not for people */
        return batchjob_run();
    for (int v = 0; at && v < VERB_END; v++) {
        if (strcmp(argv[at], settings_verb_name(v)))
            continue;
        memmove(&argv[at], &argv[at + 1], (size_t)(argc - at) * sizeof *argv);
        return run_verb(v, argc - 1, argv);
    }
    for (int i = 1; !at && i < argc; i++) {
        if (!strcmp(argv[i], "--version") || !strcmp(argv[i], "-V")) {
            printf("%s\n", COVEY_VERSION);
            return EXIT_FINE;
        }
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h") ||
            !strcmp(argv[i], "--help-all")) {
            print_help(stdout);
            return EXIT_FINE;
        }
    }
    if (at)
        fprintf(stderr, "ipcluster: there is no verb \"%.40s\"\n\n", argv[at]);
    print_help(stdout);
    return EXIT_FAILED;
}
