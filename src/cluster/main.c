/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster: finds the verb and runs it. Options before the verb are the verb's (entry points put
 * --python=PATH there). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cluster/verbs.h"
#include "launch/batchjob.h"

static int (*const VERBS[VERB_END])(const struct settings *s) = {
    [VERB_START] = verb_start, [VERB_STOP] = verb_stop,   [VERB_ENGINES] = verb_engines,
    [VERB_LIST] = verb_list,   [VERB_CLEAN] = verb_clean,
};

/* Verbs that are Python modules: they look and fetch, and start nothing that stays. */
static const struct {
    const char *name, *module, *help;
} MODULES[] = {
    {"doctor", "covey._doctor",
     "Says what stands between this machine and a controller, and what to do"},
    {"tunnel", "covey._tunnel", "Makes a cluster behind ssh a profile of this machine"},
};
#define NMODULES (sizeof MODULES / sizeof MODULES[0])

static void print_help(FILE *out)
{
    fprintf(out, "ipcluster starts, lists and stops clusters of Python engines.\n\nUsage: "
                 "ipcluster VERB [options]\n\n");
    for (int v = 0; v < VERB_END; v++) {
        const char *help = settings_verb_help(v);
        fprintf(out, "  %-9s%.*s\n", settings_verb_name(v), (int)strcspn(help, "\n."), help);
    }
    for (size_t i = 0; i < NMODULES; i++)
        fprintf(out, "  %-9s%s\n", MODULES[i].name, MODULES[i].help);
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

/* Becomes `PYTHON -m MODULE ARGUMENTS`: the verb's words without --python, which stands before it.
 * A Ctrl-C while Python starts has to wait: the module takes it in when it can say so well. */
static int run_module(const char *module, int argc, char **argv, int at)
{
    const char *python = "python3";
    sigset_t interrupt;
    char **words = calloc((size_t)argc + 4, sizeof *words);
    int n = 0;
    for (int i = 1; i < at; i++)
        if (!strncmp(argv[i], "--python=", 9))
            python = argv[i] + 9;
    if (!words)
        return EXIT_FAILED;
    words[n++] = (char *)python;
    words[n++] = "-m";
    words[n++] = (char *)module;
    for (int i = at + 1; i < argc; i++)
        words[n++] = argv[i];
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);
    execvp(python, words);
    fprintf(stderr, "ipcluster: can't start %s: %s\n", python, strerror(errno));
    free(words);
    return EXIT_FAILED;
}

/* --show-config and --init. */
static int show(const struct settings *s)
{
    struct err e;
    char *text = s->show_config ? config_dump(s->config) : NULL, *path = NULL;
    if (text)
        puts(text);
    free(text);
    if (s->init && settings_write_template(s, &path, &e)) {
        log_critical(s->log, "%s", e.text);
        return EXIT_FAILED;
    }
    if (path)
        printf("The settings are explained in %s\n", path);
    free(path);
    return EXIT_FINE;
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
    int code = s.show_config || s.init ? show(&s) : VERBS[verb](&s);
    settings_release(&s);
    return code;
}

int main(int argc, char **argv)
{
    int at = find_verb(argc, argv);
    if (at && !strcmp(argv[at], "batch-job")) /* the supervisor's own, not for people */
        return batchjob_run();
    if (at && !strcmp(argv[at], "each")) /* the launchers' own */
        return each_run(argv[at + 1], argv + at + (argv[at + 1] ? 2 : 1));
    for (size_t i = 0; at && i < NMODULES; i++)
        if (!strcmp(argv[at], MODULES[i].name))
            return run_module(MODULES[i].module, argc, argv, at);
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
    if (at && !strcmp(argv[at], "help")) {
        print_help(stdout);
        return EXIT_FINE;
    }
    if (at)
        fprintf(stderr, "ipcluster: there is no verb \"%.40s\"\n\n", argv[at]);
    print_help(stdout);
    return EXIT_FAILED;
}
