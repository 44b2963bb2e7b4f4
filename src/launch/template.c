/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Templates (template.h). */
#include "launch/template.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"

static int out_of_memory(struct err *e)
{
    return err_set(e, CV_ENOMEM, "out of memory");
}

/* Names that a template may use, for the error message. */
static int unknown(const char *field, size_t n, const json_t *names, struct err *e)
{
    struct buf b = {0};
    const char *name;
    json_t *v;
    int rc = CV_OK;
    json_object_foreach((json_t *)names, name, v)
    {
        rc = rc ? rc : buf_addf(&b, "%s%s", b.len ? ", " : "", name);
    }
    rc = err_set(e, CV_EINVAL,
                 "batch template: can't fill in {%.*s}; it may use {NAME} and {NAME//4} (+ - * //) "
                 "with %.300s (and {{ }} for braces)",
                 (int)(n < 60 ? n : 60), field, rc || !buf_cstr(&b) ? "" : (const char *)b.data);
    buf_release(&b);
    return rc;
}

/* "n//4", "n*2": the value of the operation; false for what is none. */
static bool calculate(json_int_t left, const char *op, size_t n, json_int_t *ret)
{
    char number[24], *end;
    size_t skip = n >= 2 && op[0] == '/' && op[1] == '/' ? 2 : 1;
    if (n <= skip || n - skip >= sizeof number || !strchr("+-*/", op[0]))
        return false;
    memcpy(number, op + skip, n - skip);
    number[n - skip] = 0;
    long long right = strtoll(number, &end, 10);
    end += strspn(end, " ");
    if (end == number || *end || right > INT32_MAX || right < INT32_MIN || left > INT32_MAX ||
        left < INT32_MIN)
        return false;
    if (op[0] == '/') { /* rounds down, as Python does */
        if (skip == 1 || !right)
            return false;
        *ret = left / right - (left % right && (left < 0) != (right < 0));
        return true;
    }
    *ret = op[0] == '+' ? left + right : op[0] == '-' ? left - right : left * right;
    return true;
}

static const json_t *find_name(const char *field, size_t n, const json_t *names)
{
    char name[64];
    if (!n || n >= sizeof name)
        return NULL;
    memcpy(name, field, n);
    name[n] = 0;
    return json_object_get(names, name);
}

/* What stands between a pair of braces. */
static int fill_field(struct buf *b, const char *field, size_t n, const json_t *names,
                      struct err *e)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    const char *start = field + strspn(field, " ");
    size_t letters = strspn(start, LETTERS);
    const char *rest = start + letters;
    rest += strspn(rest, " ");
    const json_t *v = rest <= field + n ? find_name(start, letters, names) : NULL;
    size_t left = v ? (size_t)(field + n - rest) : 0;
    json_int_t number;
    int rc;
    if (v && !left && json_is_string(v))
        rc = buf_addstr(b, json_string_value(v));
    else if (v && !left && json_is_integer(v))
        rc = buf_addf(b, "%lld", (long long)json_integer_value(v));
    else if (v && json_is_integer(v) && calculate(json_integer_value(v), rest, left, &number))
        rc = buf_addf(b, "%lld", (long long)number);
    else
        return unknown(field, n, names, e);
    return rc ? out_of_memory(e) : CV_OK;
}

int template_fill(const char *text, const json_t *names, char **ret, struct err *e)
{
    struct buf b = {0};
    int rc = CV_OK;
    for (const char *p = text; *p && !rc;) {
        size_t plain = strcspn(p, "{}");
        const char *close;
        if (plain) {
            rc = buf_add(&b, p, plain) ? out_of_memory(e) : CV_OK;
            p += plain;
        } else if (p[0] == p[1]) {
            rc = buf_add(&b, p, 1) ? out_of_memory(e) : CV_OK;
            p += 2;
        } else if (*p == '}' || !(close = strchr(p, '}'))) {
            rc = err_set(e, CV_EINVAL,
                         "batch template: a single %c at \"%.30s\" (write it twice for a brace)",
                         *p, p);
        } else {
            rc = fill_field(&b, p + 1, (size_t)(close - p - 1), names, e);
            p = close + 1;
        }
    }
    char *out = rc || !buf_cstr(&b) ? NULL : strdup((const char *)b.data);
    buf_release(&b);
    if (!rc && !out)
        rc = out_of_memory(e);
    if (!rc)
        *ret = out;
    return rc;
}
