/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Configuration of a program: the tree {"Class": {"trait": value}} as `python -m covey.config`
 * prints it, plus what the command line says (which wins). Values are JSON. Owns its tree. */
#ifndef COVEY_BASE_CONFIG_H
#define COVEY_BASE_CONFIG_H

#include <stdbool.h>
#include <jansson.h>
#include "base/error.h"

struct config;

int config_new(struct config **ret) CV_CHECK;
void config_free(struct config *c);
/* Merges a JSON object text {"Class": {"trait": value}} over what is there. CV_EINVAL with the
 * place of the error. */
int config_merge(struct config *c, const char *json, size_t n, struct err *e) CV_CHECK;
/* Sets Class.trait from a command line's text: JSON/Python literal where it parses as one, else a
 * string. */
int config_set(struct config *c, const char *cls, const char *trait, const char *text,
               struct err *e) CV_CHECK;
/* The value (borrowed) or NULL. */
json_t *config_get(const struct config *c, const char *cls, const char *trait);
/* With default; a value of another kind gives CV_EINVAL naming "Class.trait". ret strings are
 * borrowed from c. */
int config_str(const struct config *c, const char *cls, const char *trait, const char **ret,
               struct err *e) CV_CHECK;
int config_int(const struct config *c, const char *cls, const char *trait, long *ret,
               struct err *e) CV_CHECK;
int config_real(const struct config *c, const char *cls, const char *trait, double *ret,
                struct err *e) CV_CHECK;
int config_bool(const struct config *c, const char *cls, const char *trait, bool *ret,
                struct err *e) CV_CHECK;
/* Lays what `over` says over what is there (it wins). */
int config_overlay(struct config *c, const struct config *over, struct err *e) CV_CHECK;
/* Moves a value to another name unless that one is set; the old one is gone in any case. Where it
 * came from stays known. */
int config_move(struct config *c, const char *cls, const char *trait, const char *to_cls,
                const char *to_trait, struct err *e) CV_CHECK;
/* Notes a file that was read, so that errors can name its line. */
int config_source(struct config *c, const char *path) CV_CHECK;
/* Where a value came from: " (FILE:LINE)", " (command line)"; NULL: unknown. malloc'ed. */
char *config_where(const struct config *c, const char *cls, const char *trait);
/* Sets e to "CLS.TRAIT (FILE:LINE) <text>", says CV_EINVAL. */
int config_bad(const struct config *c, const char *cls, const char *trait, struct err *e,
               const char *fmt, ...) CV_PRINTF(5, 6);
/* {"Class": {"trait": value}}, borrowed; for reading. */
json_t *config_tree(const struct config *c);
/* The whole tree as compact JSON text, malloc'ed. */
char *config_dump(const struct config *c);

#endif
