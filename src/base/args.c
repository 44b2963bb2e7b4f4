/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Command lines from a table (args.h). Used once at a program's start. Owns nothing that outlives
 * args_parse() but the array it returns; a failed parse may have set part of the config. */
#include "base/args.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"

#define NAME_MAX_ 128
#define HELP_COLUMN 34

struct parse {
    const struct args_spec *spec;
    struct config *c;
    FILE *notices;
    struct err *e;
    int argc, at; /* at: the argument that is looked at */
    char **argv;
    char **rest;
    size_t nrest;
};

static char fold(char c)
{
    return c == '_' ? '-' : c;
}

static bool same_name(const char *row, const char *text, size_t n)
{
    size_t i = 0;
    for (; i < n && row[i]; i++)
        if (fold(row[i]) != fold(text[i]))
            return false;
    return i == n && !row[i];
}

/* The row after r (the first for NULL) of both tables, NULL behind the last. */
static const struct arg *next_row(const struct args_spec *spec, const struct arg *r)
{
    bool in_more = false;
    for (const struct arg *m = spec->more; r && m && m->name && !in_more; m++)
        in_more = m == r;
    r = r ? r + 1 : spec->rows;
    if (!r->name && !in_more && spec->more)
        r = spec->more;
    return r->name ? r : NULL;
}

#define EACH_ROW(r, spec) (const struct arg *r = next_row(spec, NULL); r; r = next_row(spec, r))

static int unknown(struct parse *p, const char *name, size_t n)
{
    const char *nearest = NULL;
    unsigned best = NAME_MAX_;
    for
        EACH_ROW(r, p->spec)
        {
            unsigned d = name_distance(r->name, name, n);
            if (d < best) {
                best = d;
                nearest = r->name;
            }
        }
    if (nearest && best <= 2 + n / 4)
        return err_set(p->e, CV_EINVAL, "unknown option --%.*s; did you mean --%s?",
                       (int)(n > 80 ? 80 : n), name, nearest);
    return err_set(p->e, CV_EINVAL, "unknown option --%.*s; %s --help lists what there is",
                   (int)(n > 80 ? 80 : n), name, p->spec->program);
}

/* A flag with a value: true sets it, false sets the opposite where there is one. */
static int set_flag(struct parse *p, const struct arg *r, const char *value)
{
    static const char *const YES[] = {"true", "True", "1", "yes"}, *const NO[] = {"false", "False",
                                                                                  "0", "no"};
    if (!value)
        return config_set(p->c, r->cls, r->trait, r->value, p->e);
    for (size_t i = 0; i < 4; i++) {
        if (!strcmp(value, YES[i]))
            return config_set(p->c, r->cls, r->trait, r->value, p->e);
        if (strcmp(value, NO[i]))
            continue;
        if (!strcmp(r->value, "true"))
            return config_set(p->c, r->cls, r->trait, "false", p->e);
        return !strcmp(r->value, "false") ? config_set(p->c, r->cls, r->trait, "true", p->e)
                                          : CV_OK;
    }
    return err_set(p->e, CV_EINVAL, "--%s is a flag; \"%.80s\" is neither true nor false", r->name,
                   value);
}

static const char *next_value(struct parse *p)
{
    return p->at + 1 < p->argc ? p->argv[++p->at] : NULL;
}

/* Applies every row of the name (a flag may set several traits). `value` is NULL without "=". */
static int apply(struct parse *p, const struct arg *first, const char *value)
{
    if ((first->kind == ARG_VALUE || first->kind == ARG_IGNORED_VALUE) && !value) {
        value = next_value(p);
        if (!value)
            return err_set(p->e, CV_EINVAL, "--%s needs a value: --%s=%s", first->name, first->name,
                           first->metavar ? first->metavar : "VALUE");
    }
    if (first->kind == ARG_IGNORED_VALUE || first->kind == ARG_IGNORED_FLAG) {
        if (p->notices)
            fprintf(p->notices, "--%s has no effect here: %s\n", first->name,
                    first->help ? first->help : "");
        return CV_OK;
    }
    for (const struct arg *r = first; r; r = next_row(p->spec, r)) {
        if (strcmp(r->name, first->name))
            continue;
        int rc = r->kind == ARG_VALUE ? config_set(p->c, r->cls, r->trait, value, p->e)
                                      : set_flag(p, r, value);
        if (rc)
            return rc;
    }
    return CV_OK;
}

/* --Class.trait=value, --Class.trait value, --Class.trait (true). */
static int class_trait(struct parse *p, const char *name, size_t n, const char *value)
{
    const char *dot = memrchr(name, '.', n);
    size_t ncls = (size_t)(dot - name), ntrait = n - ncls - 1;
    if (!ncls || !ntrait || ncls >= NAME_MAX_ || ntrait >= NAME_MAX_)
        return unknown(p, name, n);
    char cls[NAME_MAX_], trait[NAME_MAX_];
    memcpy(cls, name, ncls);
    cls[ncls] = 0;
    memcpy(trait, dot + 1, ntrait);
    trait[ntrait] = 0;
    if (!value && p->at + 1 < p->argc && p->argv[p->at + 1][0] && p->argv[p->at + 1][0] != '-')
        value = next_value(p);
    return config_set(p->c, cls, trait, value ? value : "true", p->e);
}

static bool shown_before(const struct args_spec *spec, const struct arg *row)
{
    for (const struct arg *r = next_row(spec, NULL); r != row; r = next_row(spec, r))
        if (!strcmp(r->name, row->name))
            return true;
    return false;
}

/* What the option does: its own text, or its setting's with the default. malloc'ed. */
static char *help_text(const struct args_spec *spec, const struct arg *r)
{
    const struct setting *s =
        r->help || !spec->schema ? NULL : schema_find(spec->schema, r->cls, r->trait);
    if (!s)
        return strdup(r->help ? r->help : "");
    bool told = s->value && strcmp(s->value, "''") && strcmp(s->value, "None");
    return told ? str_printf("%s (default: %s)", s->help, s->value) : strdup(s->help);
}

static void help_row(const struct args_spec *spec, const struct arg *r, FILE *out)
{
    char left[NAME_MAX_ * 2];
    char shortname[8] = "    ";
    char *help = help_text(spec, r);
    if (r->shortname)
        snprintf(shortname, sizeof shortname, "-%c, ", r->shortname);
    snprintf(left, sizeof left, "  %s--%s%s%s", shortname, r->name, r->kind == ARG_VALUE ? "=" : "",
             r->kind == ARG_VALUE ? (r->metavar ? r->metavar : "VALUE") : "");
    if (strlen(left) >= HELP_COLUMN)
        fprintf(out, "%s\n%*s%s", left, HELP_COLUMN, "", help ? help : "");
    else
        fprintf(out, "%-*s%s", HELP_COLUMN, left, help ? help : "");
    if (r->cls)
        fprintf(out, " [--%s.%s%s%s]", r->cls, r->trait, r->value ? "=" : "",
                r->value ? r->value : "");
    fprintf(out, "\n");
    free(help);
}

static bool is_ignored(const struct arg *r)
{
    return r->kind == ARG_IGNORED_VALUE || r->kind == ARG_IGNORED_FLAG;
}

void args_help(const struct args_spec *spec, FILE *out)
{
    fprintf(out, "Usage: %s [options]\n\n%s\n\nOptions [Equivalent to the setting in brackets]:\n",
            spec->program, spec->description ? spec->description : "");
    for
        EACH_ROW(r, spec)
    if (!is_ignored(r) && !shown_before(spec, r))
        help_row(spec, r, out);
    fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "    --Class.trait=VALUE",
            "any setting of the config files");
    fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "-h, --help", "this text");
    fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "    --help-all", "and all settings");
    fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "-V, --version", "the version");
    if (spec->examples)
        fprintf(out, "\nExamples:\n%s\n", spec->examples);
}

/* The options and settings for programs: {"program": …, "options": [...], "settings": [...]}. */
static json_t *describe(const struct args_spec *spec)
{
    json_t *o = spec->schema ? schema_json(spec->schema) : json_object(), *rows = json_array();
    for
        EACH_ROW(r, spec)
        {
            char shortname[2] = {r->shortname, 0};
            char *help = help_text(spec, r);
            if (!shown_before(spec, r))
                json_array_append_new(rows,
                                      json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:b, s:s?}", "name",
                                                r->name, "short", shortname, "metavar",
                                                r->kind == ARG_VALUE || r->kind == ARG_IGNORED_VALUE
                                                    ? (r->metavar ? r->metavar : "VALUE")
                                                    : NULL,
                                                "class", r->cls, "trait", r->trait, "ignored",
                                                is_ignored(r), "help", help));
            free(help);
        }
    json_object_set_new(o, "program", json_string(spec->program));
    json_object_set_new(o, "description", json_string(spec->description));
    json_object_set_new(o, "examples", json_string(spec->examples));
    json_object_set_new(o, "options", rows);
    return o;
}

static int help_all(struct parse *p, const char *format)
{
    if (!strcmp(format, "config") && p->spec->schema) {
        schema_template(p->spec->schema, stdout);
    } else if (!strcmp(format, "json")) {
        json_t *o = describe(p->spec);
        json_dumpf(o, stdout, JSON_COMPACT);
        json_decref(o);
    } else if (!strcmp(format, "text")) {
        args_help(p->spec, stdout);
        if (p->spec->schema)
            schema_help(p->spec->schema, stdout);
    } else {
        return err_set(p->e, CV_EINVAL, "--help-all=%.40s: there are text, json and config",
                       format);
    }
    return 1;
}

static int long_option(struct parse *p, const char *text)
{
    const char *eq = strchr(text, '=');
    size_t n = eq ? (size_t)(eq - text) : strlen(text);
    if (same_name("help", text, n)) {
        args_help(p->spec, stdout);
        return 1;
    }
    if (same_name("help-all", text, n))
        return help_all(p, eq ? eq + 1 : "text");
    if (same_name("version", text, n)) {
        printf("%s\n", COVEY_VERSION);
        return 1;
    }
    for
        EACH_ROW(r, p->spec)
    if (same_name(r->name, text, n))
        return apply(p, r, eq ? eq + 1 : NULL);
    if (memchr(text, '.', n))
        return class_trait(p, text, n, eq ? eq + 1 : NULL);
    return unknown(p, text, n);
}

static int short_option(struct parse *p, const char *text)
{
    if (text[0] == 'h' && !text[1]) {
        args_help(p->spec, stdout);
        return 1;
    }
    if (text[0] == 'V' && !text[1]) {
        printf("%s\n", COVEY_VERSION);
        return 1;
    }
    for
        EACH_ROW(r, p->spec)
        {
            if (!r->shortname || r->shortname != text[0])
                continue;
            const char *value = text[1] == '=' ? text + 2 : text[1] ? text + 1 : NULL;
            return apply(p, r, value);
        }
    return err_set(p->e, CV_EINVAL, "unknown option -%.80s; %s --help lists what there is", text,
                   p->spec->program);
}

int args_parse(const struct args_spec *spec, int argc, char **argv, struct config *c,
               char ***ret_rest, FILE *notices, struct err *e)
{
    struct parse p = {
        .spec = spec, .c = c, .notices = notices, .e = e, .argc = argc, .at = 1, .argv = argv};
    p.rest = calloc((size_t)(argc > 0 ? argc : 0) + 1, sizeof *p.rest);
    if (!p.rest)
        return err_set(e, CV_ENOMEM, "out of memory");
    int rc = CV_OK;
    bool only_words = false;
    for (; !rc && p.at < argc; p.at++) {
        char *a = argv[p.at];
        if (!*a)
            continue;
        if (only_words || a[0] != '-' || !a[1])
            p.rest[p.nrest++] = a;
        else if (!strcmp(a, "--"))
            only_words = true;
        else
            rc = a[1] == '-' ? long_option(&p, a + 2) : short_option(&p, a + 1);
    }
    if (rc) {
        free(p.rest);
        return rc;
    }
    *ret_rest = p.rest;
    return CV_OK;
}
