/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The config tree (config.h): a JSON object of objects. Any thread, one at a time. A merge or set
 * that fails changes nothing. */
#include "base/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/buf.h"
#include "base/configplace.h"
#include "base/file.h"
#include "base/jsontext.h"

struct config {
    json_t *tree;
    json_t *texts; /* "Class.trait": the command line's text, so that --cluster-id=5 can be text */
    json_t *moved; /* "Class.trait": [class, trait] under which it was written */
    json_t *files; /* paths that were read, the weakest first */
};

int config_new(struct config **ret)
{
    struct config *c = calloc(1, sizeof *c);
    if (!c)
        return CV_ENOMEM;
    c->tree = json_object();
    c->texts = json_object();
    c->moved = json_object();
    c->files = json_array();
    if (!c->tree || !c->texts || !c->moved || !c->files) {
        config_free(c);
        return CV_ENOMEM;
    }
    *ret = c;
    return CV_OK;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    json_decref(c->tree);
    json_decref(c->texts);
    json_decref(c->moved);
    json_decref(c->files);
    free(c);
}

/* The command line's text of Class.trait, if that is where its value came from. */
static const char *text_of(const struct config *c, const char *cls, const char *trait)
{
    char *key = str_printf("%s.%s", cls, trait);
    const char *text = key ? json_string_value(json_object_get(c->texts, key)) : NULL;
    free(key);
    return text;
}

/* Remembers (or forgets: NULL) that text. */
static int text_set(struct config *c, const char *cls, const char *trait, const char *text)
{
    char *key = str_printf("%s.%s", cls, trait);
    if (!key)
        return CV_ENOMEM;
    int bad = text ? json_object_set_new(c->texts, key, json_string(text)) : 0;
    if (!text)
        json_object_del(c->texts, key);
    free(key);
    return bad ? CV_ENOMEM : CV_OK;
}

/* The object of a class, made if it is missing; borrowed. */
static json_t *class_of(struct config *c, const char *cls)
{
    json_t *o = json_object_get(c->tree, cls);
    if (o)
        return o;
    o = json_object();
    return o && !json_object_set_new(c->tree, cls, o) ? o : NULL;
}

static int check_tree(json_t *tree, struct err *e)
{
    const char *cls;
    json_t *o;
    if (!json_is_object(tree))
        return err_set(e, CV_EINVAL, "a config must be an object of classes");
    if (json_is_integer(json_object_get(tree, "version")))
        json_object_del(tree, "version"); /* of the file's format, says traitlets */
    json_object_foreach(tree, cls, o)
    {
        if (!json_is_object(o))
            return err_set(e, CV_EINVAL, "config: \"%.60s\" must be an object of traits", cls);
    }
    return CV_OK;
}

int config_merge(struct config *c, const char *json, size_t n, struct err *e)
{
    json_error_t where;
    json_t *tree = json_loadb(json, n, 0, &where);
    if (!tree)
        return err_set(e, CV_EINVAL, "config: line %d, column %d: %s", where.line, where.column,
                       where.text);
    int rc = check_tree(tree, e);
    const char *cls, *trait;
    json_t *o, *v;
    if (!rc) {
        json_object_foreach(tree, cls, o)
        {
            json_t *mine = class_of(c, cls);
            rc = mine && !json_object_update(mine, o) ? CV_OK : CV_ENOMEM;
            json_object_foreach(o, trait, v)
            {
                rc = rc ? rc : text_set(c, cls, trait, NULL);
            }
            if (rc) {
                err_set(e, rc, "out of memory reading config");
                break;
            }
        }
    }
    json_decref(tree);
    return rc;
}

/* Python's other words for JSON's. */
static json_t *word_literal(const char *text)
{
    if (!strcmp(text, "True"))
        return json_true();
    if (!strcmp(text, "False"))
        return json_false();
    if (!strcmp(text, "None"))
        return json_null();
    return NULL;
}

/* 'text' or "text" as Python writes it, without escapes; NULL if it is anything else. */
static json_t *quoted_literal(const char *text)
{
    size_t n = strlen(text);
    if (n < 2 || (text[0] != '\'' && text[0] != '"') || text[n - 1] != text[0])
        return NULL;
    if (memchr(text + 1, text[0], n - 2) || memchr(text, '\\', n))
        return NULL;
    return json_stringn(text + 1, n - 2);
}

/* A Python list or dict of simple values becomes JSON by writing '…' as "…" and True, False, None
 * in JSON's words; what does not parse after that is text. */
static json_t *container_literal(const char *text)
{
    static const struct {
        const char *py, *json;
    } WORDS[] = {{"True", "true"}, {"False", "false"}, {"None", "null"}};
    if (text[0] != '[' && text[0] != '{')
        return NULL;
    struct buf b = {0};
    int rc = 0;
    for (const char *p = text; *p && !rc;) {
        if (*p == '\'' || *p == '"') {
            const char *q = strchr(p + 1, *p);
            if (!q) {
                rc = CV_EINVAL;
                break;
            }
            rc = buf_addstr(&b, "\"");
            for (p++; p < q && !rc; p++)
                rc = *p == '"' ? buf_addstr(&b, "\\\"") : buf_add(&b, p, 1);
            rc = rc ? rc : buf_addstr(&b, "\"");
            p = q + 1;
            continue;
        }
        size_t w = 0;
        for (; w < 3; w++)
            if (!strncmp(p, WORDS[w].py, strlen(WORDS[w].py)))
                break;
        rc = w < 3 ? buf_addstr(&b, WORDS[w].json) : buf_add(&b, p, 1);
        p += w < 3 ? strlen(WORDS[w].py) : 1;
    }
    json_t *v = rc ? NULL : json_loadb((const char *)b.data, b.len, 0, NULL);
    buf_release(&b);
    return v;
}

static json_t *literal(const char *text)
{
    json_t *v = word_literal(text);
    v = v ? v : quoted_literal(text);
    v = v ? v : json_loads(text, JSON_DECODE_ANY, NULL);
    v = v ? v : container_literal(text);
    return v ? v : json_string(text);
}

int config_set(struct config *c, const char *cls, const char *trait, const char *text,
               struct err *e)
{
    json_t *v = literal(text);
    if (!v)
        return err_set(e, CV_EINVAL, "%s.%s: the value is not UTF-8", cls, trait);
    json_t *o = class_of(c, cls);
    if (!o) {
        json_decref(v);
        return err_set(e, CV_EINVAL, "\"%.60s\" can't be a class's name", cls);
    }
    if (json_object_set_new(o, trait, v) || text_set(c, cls, trait, text))
        return err_set(e, CV_EINVAL, "%.60s.%.60s can't be set", cls, trait);
    return CV_OK;
}

json_t *config_get(const struct config *c, const char *cls, const char *trait)
{
    return json_object_get(json_object_get(c->tree, cls), trait);
}

static int wrong_kind(const struct config *c, const char *cls, const char *trait,
                      const char *wanted, const json_t *v, struct err *e)
{
    char *text = jsontext(v, JSON_ENCODE_ANY | JSON_COMPACT);
    int rc = config_bad(c, cls, trait, e, "must be %s, not %.80s", wanted, text ? text : "?");
    free(text);
    return rc;
}

int config_str(const struct config *c, const char *cls, const char *trait, const char **ret,
               struct err *e)
{
    const json_t *v = config_get(c, cls, trait);
    if (!v || json_is_null(v))
        return CV_OK;
    const char *text = json_is_string(v) ? json_string_value(v) : text_of(c, cls, trait);
    if (!text)
        return wrong_kind(c, cls, trait, "text", v, e);
    *ret = text;
    return CV_OK;
}

int config_int(const struct config *c, const char *cls, const char *trait, long *ret, struct err *e)
{
    const json_t *v = config_get(c, cls, trait);
    if (!v || json_is_null(v))
        return CV_OK;
    if (!json_is_integer(v))
        return wrong_kind(c, cls, trait, "a whole number", v, e);
    *ret = (long)json_integer_value(v);
    return CV_OK;
}

int config_real(const struct config *c, const char *cls, const char *trait, double *ret,
                struct err *e)
{
    const json_t *v = config_get(c, cls, trait);
    if (!v || json_is_null(v))
        return CV_OK;
    if (!json_is_number(v))
        return wrong_kind(c, cls, trait, "a number", v, e);
    *ret = json_number_value(v);
    return CV_OK;
}

/* Words that command lines of any era use for a flag. */
static int bool_word(const char *s, bool *ret)
{
    static const char *const YES[] = {"true", "yes", "on", "1", "t", "y"};
    static const char *const NO[] = {"false", "no", "off", "0", "f", "n"};
    for (size_t i = 0; i < 6; i++) {
        if (!strcasecmp(s, YES[i]) || !strcasecmp(s, NO[i])) {
            *ret = !strcasecmp(s, YES[i]);
            return CV_OK;
        }
    }
    return CV_EINVAL;
}

int config_bool(const struct config *c, const char *cls, const char *trait, bool *ret,
                struct err *e)
{
    const json_t *v = config_get(c, cls, trait);
    if (!v || json_is_null(v))
        return CV_OK;
    if (json_is_boolean(v))
        *ret = json_is_true(v);
    else if (json_is_integer(v) && (json_integer_value(v) == 0 || json_integer_value(v) == 1))
        *ret = json_integer_value(v) == 1;
    else if (!json_is_string(v) || bool_word(json_string_value(v), ret))
        return wrong_kind(c, cls, trait, "true or false", v, e);
    return CV_OK;
}

json_t *config_tree(const struct config *c)
{
    return c->tree;
}

char *config_dump(const struct config *c)
{
    return jsontext(c->tree, JSON_COMPACT);
}

/* ---- where values come from ---- */

int config_source(struct config *c, const char *path)
{
    return json_array_append_new(c->files, json_string(path)) ? CV_ENOMEM : CV_OK;
}

/* Under which name it was written, as an array of class and trait; NULL: under its own. */
static json_t *written_as(const struct config *c, const char *cls, const char *trait)
{
    char *key = str_printf("%s.%s", cls, trait);
    json_t *name = key ? json_object_get(c->moved, key) : NULL;
    free(key);
    return name;
}

char *config_where(const struct config *c, const char *cls, const char *trait)
{
    json_t *name = written_as(c, cls, trait);
    if (text_of(c, cls, trait))
        return strdup(" (command line)");
    if (name) {
        cls = json_string_value(json_array_get(name, 0));
        trait = json_string_value(json_array_get(name, 1));
    }
    for (size_t i = json_array_size(c->files); i-- > 0;) {
        const char *path = json_string_value(json_array_get(c->files, i));
        unsigned line = configplace_line(path, cls, trait);
        if (line)
            return str_printf(" (%s:%u)", path, line);
    }
    return NULL;
}

int config_bad(const struct config *c, const char *cls, const char *trait, struct err *e,
               const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char *where = config_where(c, cls, trait);
    int rc = err_set(e, CV_EINVAL, "%s.%s%s %s", cls, trait, where ? where : "", text);
    free(where);
    return rc;
}

/* ---- values that move ---- */

int config_overlay(struct config *c, const struct config *over, struct err *e)
{
    const char *cls, *trait;
    json_t *traits, *v;
    json_object_foreach(over->tree, cls, traits)
    {
        json_t *mine = class_of(c, cls);
        if (!mine || json_object_update(mine, traits))
            return err_set(e, CV_ENOMEM, "out of memory");
        json_object_foreach(traits, trait, v)
        {
            if (text_set(c, cls, trait, text_of(over, cls, trait)))
                return err_set(e, CV_ENOMEM, "out of memory");
        }
    }
    if (json_object_update(c->moved, over->moved) || json_array_extend(c->files, over->files))
        return err_set(e, CV_ENOMEM, "out of memory");
    return CV_OK;
}

int config_move(struct config *c, const char *cls, const char *trait, const char *to_cls,
                const char *to_trait, struct err *e)
{
    json_t *from = json_object_get(c->tree, cls), *to;
    json_t *v = json_incref(json_object_get(from, trait));
    char *key = str_printf("%s.%s", to_cls, to_trait);
    int bad = !key || !v;
    if (!bad && !config_get(c, to_cls, to_trait)) {
        to = class_of(c, to_cls);
        bad = !to || json_object_set(to, to_trait, v) ||
              text_set(c, to_cls, to_trait, text_of(c, cls, trait)) ||
              json_object_set_new(c->moved, key, json_pack("[s, s]", cls, trait));
    }
    json_object_del(from, trait);
    if (json_object_size(from) == 0)
        json_object_del(c->tree, cls);
    json_decref(v);
    free(key);
    return bad || text_set(c, cls, trait, NULL) ? err_set(e, CV_ENOMEM, "out of memory") : CV_OK;
}
