/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What can be configured, as tables: a row is one setting, c.CLASS.NAME. Help, config templates,
 * the documents and what is said about settings that are misspelt, renamed or without effect all
 * come from the same rows (src/catalog). Const data; nothing is owned. */
#ifndef COVEY_BASE_SCHEMA_H
#define COVEY_BASE_SCHEMA_H

#include <stdbool.h>
#include <stdio.h>
#include <jansson.h>
#include "base/config.h"

struct setting {
    const char *cls, *name;
    const char *type;  /* "text", "bool", "int", "float", "list", "dict" */
    const char *value; /* the default as Python writes it; NULL: help says what it is */
    const char *help;  /* one line */
    const char *none;  /* it has no effect: why; NULL: it has */
    bool line;         /* of the command line alone */
};

struct setting_table {
    const struct setting *rows; /* ends with cls == NULL */
    const char *const *classes; /* where any of the rows may stand as well; ends with NULL */
    bool open; /* its classes have more settings than these, and they are somebody else's */
};

/* A name of former times. name NULL: every setting of the class keeps its name. */
struct renamed {
    const char *cls, *name;
    const char *to_cls, *to_name; /* to_name NULL: the same */
};

#define SCHEMA_TABLES 4

struct schema {
    const char *app;                                   /* "ipcontroller" */
    const struct setting_table *own[SCHEMA_TABLES];    /* what the program reads itself */
    const struct setting_table *others[SCHEMA_TABLES]; /* what it hands on */
    const struct renamed *renamed;                     /* ends with cls == NULL */
};

/* The row of cls.name, also through a table's further classes; NULL: there is none. */
const struct setting *schema_find(const struct schema *s, const char *cls, const char *name);
/* Moves settings of former names to today's, which win where both are there; one line each. */
int schema_rename(const struct schema *s, struct config *c, FILE *notices, struct err *e) CV_CHECK;
/* One line for each of the program's settings that has no effect and for each that is misspelt. */
void schema_check(const struct schema *s, const struct config *c, FILE *notices);

/* Every setting as an option (--help-all), as a config file of comments, and for programs. */
void schema_help(const struct schema *s, FILE *out);
void schema_template(const struct schema *s, FILE *out);
json_t *schema_json(const struct schema *s);
/* Writes the template to PROFILE/APP_config.py; a file that is there is left alone. */
int schema_write_template(const struct schema *s, const char *profile_dir, char **ret_path,
                          struct err *e) CV_CHECK;

/* How far apart two names are, '-' and '_' being the same (Levenshtein). */
unsigned name_distance(const char *a, const char *b, size_t nb);

#endif
