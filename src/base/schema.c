/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See schema.h. Used once at a program's start, by one thread; what fails leaves the config as it
 * was at that point. */
#include "base/schema.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"

#define NAME_LIMIT 128

unsigned name_distance(const char *a, const char *b, size_t nb)
{
    unsigned row[NAME_LIMIT + 1];
    size_t na = strlen(a);
    if (na > NAME_LIMIT || nb > NAME_LIMIT)
        return NAME_LIMIT;
    for (unsigned j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            char x = a[i - 1] == '_' ? '-' : a[i - 1], y = b[j - 1] == '_' ? '-' : b[j - 1];
            unsigned best = diagonal + (x != y);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[nb];
}

/* ---- looking up ---- */

static bool has_class(const struct setting_table *t, const char *cls)
{
    for (const char *const *c = t->classes; c && *c; c++)
        if (!strcmp(*c, cls))
            return true;
    return false;
}

static const struct setting *table_find(const struct setting_table *t, const char *cls,
                                        const char *name)
{
    bool further = has_class(t, cls);
    const struct setting *found = NULL;
    for (const struct setting *r = t->rows; r->cls; r++) {
        if (strcmp(r->name, name))
            continue;
        if (!strcmp(r->cls, cls))
            return r;
        if (further && !found)
            found = r;
    }
    return found;
}

static const struct setting *find_in(const struct setting_table *const tables[SCHEMA_TABLES],
                                     const char *cls, const char *name)
{
    for (size_t i = 0; i < SCHEMA_TABLES && tables[i]; i++) {
        const struct setting *r = table_find(tables[i], cls, name);
        if (r)
            return r;
    }
    return NULL;
}

const struct setting *schema_find(const struct schema *s, const char *cls, const char *name)
{
    const struct setting *r = find_in(s->own, cls, name);
    return r ? r : find_in(s->others, cls, name);
}

/* ---- names of former times ---- */

static const struct renamed *renamed_of(const struct schema *s, const char *cls, const char *name)
{
    for (const struct renamed *r = s->renamed; r && r->cls; r++)
        if (!strcmp(r->cls, cls) && (!r->name || !strcmp(r->name, name)))
            return r;
    return NULL;
}

static int rename_one(const struct renamed *r, struct config *c, const char *name, FILE *notices,
                      struct err *e)
{
    const char *to = r->to_name ? r->to_name : name;
    bool both = config_get(c, r->to_cls, to) != NULL;
    char *where = config_where(c, r->cls, name);
    if (notices)
        fprintf(notices, "%s.%s is now called %s.%s%s%s\n", r->cls, name, r->to_cls, to,
                both ? ", which is set too and wins" : "", where ? where : "");
    free(where);
    return config_move(c, r->cls, name, r->to_cls, to, e);
}

int schema_rename(const struct schema *s, struct config *c, FILE *notices, struct err *e)
{
    json_t *all = json_deep_copy(config_tree(c)), *traits, *v;
    const char *cls, *name;
    int rc = all ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
    json_object_foreach(all, cls, traits)
    {
        json_object_foreach(traits, name, v)
        {
            const struct renamed *r = renamed_of(s, cls, name);
            if (r && !rc)
                rc = rename_one(r, c, name, notices, e);
        }
    }
    json_decref(all);
    return rc;
}

/* ---- what is misspelt or without effect ---- */

struct nearest {
    const char *text;
    unsigned distance;
};

static void nearer(struct nearest *n, const char *known, const char *given)
{
    unsigned d = name_distance(known, given, strlen(given));
    if (d < n->distance)
        *n = (struct nearest){known, d};
}

/* Is cls a class of the tables? If not, *near is the most similar one. */
static bool class_known(const struct schema *s, const char *cls, struct nearest *near)
{
    const struct setting_table *const *lists[] = {s->own, s->others};
    for (size_t k = 0; k < 2 * SCHEMA_TABLES; k++) {
        const struct setting_table *t = lists[k / SCHEMA_TABLES][k % SCHEMA_TABLES];
        if (!t)
            continue;
        if (has_class(t, cls))
            return true;
        for (const char *const *c = t->classes; c && *c; c++)
            nearer(near, *c, cls);
        for (const struct setting *r = t->rows; r->cls; r++) {
            if (!strcmp(r->cls, cls))
                return true;
            nearer(near, r->cls, cls);
        }
    }
    return false;
}

static struct nearest nearest_name(const struct schema *s, const char *cls, const char *name)
{
    struct nearest near = {NULL, NAME_LIMIT};
    for (size_t i = 0; i < SCHEMA_TABLES && s->own[i]; i++)
        for (const struct setting *r = s->own[i]->rows; r->cls; r++)
            if (!strcmp(r->cls, cls) || has_class(s->own[i], cls))
                nearer(&near, r->name, name);
    return near;
}

static void tell_unknown(const struct schema *s, const struct config *c, const char *cls,
                         const char *name, FILE *notices)
{
    struct nearest near = {NULL, NAME_LIMIT};
    char *where = config_where(c, cls, name);
    const char *at = where ? where : "";
    if (!class_known(s, cls, &near)) { /* IPython's, a launcher of one's own, or a slip */
        if (near.text && near.distance <= 2)
            fprintf(notices, "%s.%s%s is not known and has no effect; did you mean %s.%s?\n", cls,
                    name, at, near.text, name);
    } else {
        near = nearest_name(s, cls, name);
        if (near.text && near.distance <= 1 + strlen(name) / 3)
            fprintf(notices, "%s.%s%s is not known and has no effect; did you mean %s.%s?\n", cls,
                    name, at, cls, near.text);
        else
            fprintf(notices, "%s.%s%s is not known and has no effect\n", cls, name, at);
    }
    free(where);
}

/* Are the class's settings somebody else's? */
static bool class_open(const struct schema *s, const char *cls)
{
    for (size_t i = 0; i < SCHEMA_TABLES && s->own[i]; i++)
        for (const struct setting *r = s->own[i]->rows; s->own[i]->open && r->cls; r++)
            if (!strcmp(r->cls, cls))
                return true;
    return false;
}

static void check_one(const struct schema *s, const struct config *c, const char *cls,
                      const char *name, FILE *notices)
{
    const struct setting *r = find_in(s->own, cls, name);
    if (r && r->none) {
        char *where = config_where(c, cls, name);
        fprintf(notices, "%s.%s%s has no effect here: %s\n", cls, name, where ? where : "",
                r->none);
        free(where);
    } else if (!r && !find_in(s->others, cls, name) && !class_open(s, cls)) {
        tell_unknown(s, c, cls, name, notices);
    }
}

void schema_check(const struct schema *s, const struct config *c, FILE *notices)
{
    json_t *traits, *v;
    const char *cls, *name;
    if (!notices)
        return;
    json_object_foreach(config_tree(c), cls, traits)
    {
        json_object_foreach(traits, name, v)
        {
            check_one(s, c, cls, name, notices);
        }
    }
}

/* ---- what there is ---- */

static void each_row(const struct schema *s, void (*visit)(const struct setting *r, void *arg),
                     void *arg)
{
    for (size_t i = 0; i < SCHEMA_TABLES && s->own[i]; i++)
        for (const struct setting *r = s->own[i]->rows; r->cls; r++)
            visit(r, arg);
}

static void help_row(const struct setting *r, void *arg)
{
    FILE *out = arg;
    if (r->none)
        return;
    fprintf(out, "--%s.%s=<%s>\n    %s\n", r->cls, r->name, r->type, r->help);
    if (r->value)
        fprintf(out, "    Default: %s\n", r->value);
}

void schema_help(const struct schema *s, FILE *out)
{
    fputs("\nSettings, also for the config files (c.Class.name = value):\n\n", out);
    each_row(s, help_row, out);
}

struct page {
    FILE *out;
    const char *cls;
};

static void template_row(const struct setting *r, void *arg)
{
    struct page *p = arg;
    if (r->none || r->line)
        return;
    if (!p->cls || strcmp(p->cls, r->cls))
        fprintf(p->out, "\n# ---- %s ----\n", r->cls);
    p->cls = r->cls;
    fprintf(p->out, "\n# %s\n# c.%s.%s = %s\n", r->help, r->cls, r->name,
            r->value ? r->value : "None");
}

void schema_template(const struct schema *s, FILE *out)
{
    struct page p = {.out = out};
    fprintf(out,
            "# Configuration of %s. Every line is a comment: take the '#' off and change the "
            "value.\n# `%s --help-all` lists the same settings as options, which win.\n\n"
            "# c = get_config()  # noqa\n",
            s->app, s->app);
    each_row(s, template_row, &p);
}

static void json_row(const struct setting *r, void *arg)
{
    json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:s?, s:s, s:s?, s:b}", "class", r->cls,
                                         "name", r->name, "type", r->type, "default", r->value,
                                         "help", r->help ? r->help : "", "no_effect", r->none,
                                         "line_only", r->line));
}

json_t *schema_json(const struct schema *s)
{
    json_t *rows = json_array(), *renamed = json_array();
    each_row(s, json_row, rows);
    for (const struct renamed *r = s->renamed; r && r->cls; r++)
        json_array_append_new(renamed,
                              json_pack("{s:s, s:s?, s:s, s:s?}", "class", r->cls, "name", r->name,
                                        "to_class", r->to_cls, "to_name", r->to_name));
    return json_pack("{s:s, s:o, s:o}", "app", s->app, "settings", rows, "renamed", renamed);
}

int schema_write_template(const struct schema *s, const char *profile_dir, char **ret_path,
                          struct err *e)
{
    char *path = str_printf("%s/%s_config.py", profile_dir, s->app), *text = NULL;
    size_t n = 0;
    FILE *f = path ? open_memstream(&text, &n) : NULL;
    int rc = f ? file_mkdirs(profile_dir, 0755, e) : err_set(e, CV_ENOMEM, "out of memory");
    if (f) {
        schema_template(s, f);
        fclose(f);
    }
    if (!rc && access(path, F_OK) < 0)
        rc = file_write_atomic(path, 0644, text, n, e);
    free(text);
    if (rc)
        free(path);
    else
        *ret_path = path;
    return rc;
}
