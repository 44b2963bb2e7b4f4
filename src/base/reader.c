/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See reader.h. Any thread; borrows everything. */
#include "base/reader.h"

#include "base/log.h"

const char *reader_class(const struct reader *r, const char *name)
{
    for (const char *const *cls = r->classes; *cls; cls++) {
        json_t *v = config_get(r->config, *cls, name);
        if (v && !json_is_null(v))
            return *cls;
    }
    return NULL;
}

const char *reader_str(struct reader *r, const char *name, const char *fallback)
{
    const char *cls = reader_class(r, name), *ret = NULL;
    if (cls && r->code == CV_OK)
        r->code = config_str(r->config, cls, name, &ret, r->e);
    return ret && *ret ? ret : fallback;
}

bool reader_bool(struct reader *r, const char *name, bool fallback)
{
    const char *cls = reader_class(r, name);
    if (cls && r->code == CV_OK)
        r->code = config_bool(r->config, cls, name, &fallback, r->e);
    return fallback;
}

long reader_int(struct reader *r, const char *name, long fallback, long min, long max)
{
    const char *cls = reader_class(r, name);
    long ret = fallback;
    if (!cls || r->code != CV_OK)
        return fallback;
    r->code = config_int(r->config, cls, name, &ret, r->e);
    if (r->code == CV_OK && (ret < min || ret > max))
        r->code = config_bad(r->config, cls, name, r->e, "must be from %ld to %ld, not %ld", min,
                             max, ret);
    return r->code == CV_OK ? ret : fallback;
}

double reader_seconds(struct reader *r, const char *name, double fallback)
{
    const char *cls = reader_class(r, name);
    double ret = fallback;
    if (!cls || r->code != CV_OK)
        return fallback;
    r->code = config_real(r->config, cls, name, &ret, r->e);
    if (r->code == CV_OK && !(ret >= 0 && ret < 1e9))
        r->code =
            config_bad(r->config, cls, name, r->e, "must be a number of seconds, not %g", ret);
    return r->code == CV_OK ? ret : fallback;
}

int reader_log_level(struct reader *r)
{
    const char *cls = reader_class(r, "log_level"), *text;
    int level = LOG_INFO_;
    if (!cls)
        return level;
    json_t *v = config_get(r->config, cls, "log_level");
    if (json_is_integer(v))
        return (int)reader_int(r, "log_level", level, 0, 100);
    text = json_string_value(v);
    if ((!text || log_level_parse(text, &level) != CV_OK) && r->code == CV_OK)
        r->code = config_bad(r->config, cls, "log_level", r->e,
                             "must be DEBUG, INFO, WARN, ERROR, CRITICAL or a number");
    return level;
}
