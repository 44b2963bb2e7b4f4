/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See filter.h. The question becomes a tree once; operands are read once, lists are sorted. */
#include "controller/filter.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include "controller/say.h"

#define DEPTH_MAX 16

enum op {
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LTE,
    OP_GT,
    OP_GTE,
    OP_IN,
    OP_NIN,
    OP_GLOB,
    OP_MOD,
    OP_EXISTS,
    OP_END
};
static const struct {
    const char *name;
    enum op op;
} ops[] = {{"$eq", OP_EQ},     {"$ne", OP_NE},   {"$lt", OP_LT},        {"$lte", OP_LTE},
           {"$gt", OP_GT},     {"$gte", OP_GTE}, {"$in", OP_IN},        {"$nin", OP_NIN},
           {"$glob", OP_GLOB}, {"$mod", OP_MOD}, {"$exists", OP_EXISTS}};

struct operand {
    enum value_kind kind;
    double number;
    int64_t whole; /* of a number without a fraction */
    int64_t us;    /* of a text that is a time */
    bool is_time;
    char *text;
    size_t len;
};

enum filter_kind { FILTER_ALL, FILTER_ANY, FILTER_TEST };

struct filter {
    enum filter_kind kind;
    struct filter **kids;
    size_t nkids;
    enum record_field field;
    enum op op;
    struct operand *args;
    size_t nargs;
};

void filter_free(struct filter *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->nkids; i++)
        filter_free(f->kids[i]);
    for (size_t i = 0; i < f->nargs; i++)
        free(f->args[i].text);
    free(f->kids);
    free(f->args);
    free(f);
}

/* --- reading the question --- */

static int read_operand(struct operand *o, const json_t *j)
{
    o->kind = json_is_null(j)      ? VALUE_NULL
              : json_is_boolean(j) ? VALUE_BOOL
              : json_is_number(j)  ? VALUE_INT
              : json_is_string(j)  ? VALUE_TEXT
                                   : VALUE_OTHER;
    o->number = json_is_boolean(j) ? json_is_true(j) : json_number_value(j);
    o->whole = json_integer_value(j);
    if (!json_is_string(j))
        return CV_OK;
    o->len = json_string_length(j);
    o->text = strdup(json_string_value(j));
    o->is_time = o->text && record_parse_time(o->text, &o->us);
    return o->text ? CV_OK : CV_ENOMEM;
}

static int by_text(const void *a, const void *b)
{
    const struct operand *x = a, *y = b;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return x->kind == VALUE_TEXT ? strcmp(x->text, y->text) : 0;
}

static int read_operands(struct filter *f, const json_t *j, struct err *e)
{
    bool list = f->op == OP_IN || f->op == OP_NIN || f->op == OP_MOD;
    size_t n = list ? json_array_size(j) : 1;
    int r = CV_OK;

    if (list && !json_is_array(j))
        return err_set(e, CV_EINVAL, "$in, $nin and $mod take a list");
    if (f->op == OP_MOD && (n != 2 || json_integer_value(json_array_get(j, 0)) == 0))
        return err_set(e, CV_EINVAL, "$mod takes [divisor, remainder]");
    f->args = calloc(n + 1, sizeof(*f->args));
    if (!f->args)
        return CV_ENOMEM;
    for (size_t i = 0; i < n && r == CV_OK; i++, f->nargs++)
        r = read_operand(&f->args[i], list ? json_array_get(j, i) : j);
    if (f->op == OP_IN || f->op == OP_NIN)
        qsort(f->args, f->nargs, sizeof(*f->args), by_text);
    return r;
}

static int add_kid(struct filter *f, struct filter **ret)
{
    struct filter **v = realloc(f->kids, (f->nkids + 1) * sizeof(struct filter *));
    struct filter *kid = v ? calloc(1, sizeof(*kid)) : NULL;

    if (v)
        f->kids = v;
    if (!kid)
        return CV_ENOMEM;
    f->kids[f->nkids++] = *ret = kid;
    return CV_OK;
}

static int add_test(struct filter *f, enum record_field field, const char *name, const json_t *arg,
                    struct err *e)
{
    struct filter *kid;
    size_t i = 0, n = sizeof(ops) / sizeof(ops[0]);

    while (i < n && strcmp(ops[i].name, name))
        i++;
    if (i == n)
        return err_set(e, CV_EINVAL,
                       "there is no operator '%.40s' in queries ($eq, $ne, $lt, $lte, $gt, $gte, "
                       "$in, $nin, $glob, $mod, $exists)",
                       name);
    int r = add_kid(f, &kid);
    if (r != CV_OK)
        return r;
    kid->kind = FILTER_TEST;
    kid->field = field;
    kid->op = ops[i].op;
    return read_operands(kid, arg, e);
}

static int read_all(struct filter *f, const json_t *where, int depth, struct err *e);

static int read_groups(struct filter *f, bool any, const json_t *list, int depth, struct err *e)
{
    struct filter *group, *kid;
    json_t *x;
    size_t i;

    if (!json_is_array(list))
        return err_set(e, CV_EINVAL, "$and and $or take a list of queries");
    int r = add_kid(f, &group);
    if (r != CV_OK)
        return r;
    group->kind = any ? FILTER_ANY : FILTER_ALL;
    json_array_foreach((json_t *)list, i, x)
    {
        if (r == CV_OK)
            r = add_kid(group, &kid);
        if (r == CV_OK)
            r = read_all(kid, x, depth + 1, e);
    }
    return r;
}

static int read_key(struct filter *f, const char *key, const json_t *want, int depth, struct err *e)
{
    const char *first = json_object_iter_key(json_object_iter((json_t *)want)), *op;
    enum record_field field = record_field_of(key);
    int r = CV_OK;
    json_t *arg;

    if (!strcmp(key, "$and") || !strcmp(key, "$or"))
        return read_groups(f, key[1] == 'o', want, depth, e);
    if (field == FIELD_END)
        return err_set(e, CV_EINVAL, "records have no key '%.60s'", key);
    if (!json_is_object(want) || !first || first[0] != '$')
        return add_test(f, field, "$eq", want, e);
    json_object_foreach((json_t *)want, op, arg) if (r == CV_OK) r = add_test(f, field, op, arg, e);
    return r;
}

static int read_all(struct filter *f, const json_t *where, int depth, struct err *e)
{
    const char *key;
    json_t *want;
    int r = CV_OK;

    if (depth > DEPTH_MAX || (where && !json_is_object(where)))
        return err_set(e, CV_EINVAL, "a query is a dict of keys of records, at most %d deep",
                       DEPTH_MAX);
    json_object_foreach((json_t *)where, key, want) if (r == CV_OK) r =
        read_key(f, key, want, depth, e);
    return r;
}

int filter_new(struct filter **ret, const json_t *where, struct err *e)
{
    struct filter *f = calloc(1, sizeof(*f));
    int r = f ? read_all(f, where, 0, e) : CV_ENOMEM;

    if (r == CV_ENOMEM)
        err_set(e, r, "the controller is out of memory");
    if (r == CV_OK)
        *ret = f;
    else
        filter_free(f);
    return r;
}

/* --- matching --- */

/* -1, 0, 1; false: they can't be compared. */
static bool compare(const struct value *v, const struct operand *o, int *ret)
{
    if ((v->kind == VALUE_INT && o->kind == VALUE_INT) ||
        (v->kind == VALUE_BOOL && (o->kind == VALUE_BOOL || o->kind == VALUE_INT))) {
        *ret = (double)v->i < o->number ? -1 : (double)v->i > o->number;
        return true;
    }
    if (v->kind == VALUE_TIME && o->is_time) {
        *ret = v->i < o->us ? -1 : v->i > o->us;
        return true;
    }
    if (v->kind == VALUE_TEXT && o->kind == VALUE_TEXT) {
        size_t n = v->len < o->len ? v->len : o->len;
        int r = n ? memcmp(v->text, o->text, n) : 0;
        *ret = r < 0 ? -1 : r > 0 ? 1 : v->len < o->len ? -1 : v->len > o->len;
        return true;
    }
    return false;
}

static bool equal(const struct value *v, const struct operand *o)
{
    int r;

    return compare(v, o, &r) ? r == 0 : v->kind == VALUE_NULL && o->kind == VALUE_NULL;
}

static bool is_in(const struct filter *f, const struct value *v)
{
    size_t lo = 0, hi = f->nargs;

    if (v->kind == VALUE_TEXT) { /* the sorted ones */
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            int c = -1;
            if (!compare(v, &f->args[mid], &c))
                c = f->args[mid].kind < VALUE_TEXT ? 1 : -1;
            if (c == 0)
                return true;
            if (c > 0)
                lo = mid + 1;
            else
                hi = mid;
        }
        return false;
    }
    for (size_t i = 0; i < f->nargs; i++)
        if (equal(v, &f->args[i]))
            return true;
    return false;
}

/* fnmatch() wants a terminated text. */
static bool globs(const struct value *v, const char *pattern)
{
    char small[256], *text = v->len < sizeof(small) ? small : malloc(v->len + 1);
    bool ret;

    if (!text)
        return false;
    if (v->len)
        memcpy(text, v->text, v->len);
    text[v->len] = 0;
    ret = fnmatch(pattern, text, 0) == 0;
    if (text != small)
        free(text);
    return ret;
}

static bool test_holds(const struct filter *f, const struct value *v)
{
    const struct operand *o = f->args;
    int r = 0;
    bool comparable = f->op >= OP_LT && f->op <= OP_GTE && compare(v, o, &r);

    switch (f->op) {
    case OP_EQ:
        return equal(v, o);
    case OP_NE:
        return !equal(v, o);
    case OP_LT:
        return comparable && r < 0;
    case OP_LTE:
        return comparable && r <= 0;
    case OP_GT:
        return comparable && r > 0;
    case OP_GTE:
        return comparable && r >= 0;
    case OP_IN:
        return is_in(f, v);
    case OP_NIN:
        return !is_in(f, v);
    case OP_GLOB:
        return v->kind == VALUE_TEXT && o->kind == VALUE_TEXT && globs(v, o->text);
    case OP_MOD:
        /* by -1 nothing is left, and the least number can't be divided by it */
        return v->kind == VALUE_INT && (o[0].whole == -1 ? 0 : v->i % o[0].whole) == o[1].whole;
    case OP_EXISTS:
        return (v->kind == VALUE_NULL) == (o->number == 0);
    case OP_END:
        break;
    }
    return false;
}

bool filter_matches(const struct filter *f, const struct store_record *r, uint64_t seq)
{
    struct value v;

    if (f->kind == FILTER_TEST) {
        record_value(r, seq, f->field, &v);
        return test_holds(f, &v);
    }
    for (size_t i = 0; i < f->nkids; i++)
        if (filter_matches(f->kids[i], r, seq) == (f->kind == FILTER_ANY))
            return f->kind == FILTER_ANY;
    return f->kind == FILTER_ALL;
}

bool filter_by_item(const struct filter *f)
{
    if (f->kind == FILTER_TEST)
        return f->field == FIELD_MSG_ID;
    for (size_t i = 0; i < f->nkids; i++)
        if (filter_by_item(f->kids[i]))
            return true;
    return false;
}

unsigned filter_parts(const struct filter *f)
{
    /* of an object only whether there is one can be asked, which the state tells */
    unsigned parts = f->kind == FILTER_TEST && f->field < FIELD_ERROR ? record_parts(f->field) : 0;

    for (size_t i = 0; i < f->nkids; i++)
        parts |= filter_parts(f->kids[i]);
    return parts;
}

static int by_id(const void *a, const void *b)
{
    const struct store_id *x = a, *y = b;

    if (x->session != y->session)
        return x->session < y->session ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

struct store_id *filter_ids(const struct filter *f, size_t *ret_n)
{
    const struct filter *t = NULL;
    struct store_id *v;
    size_t n = 0, unique = 0;

    for (size_t i = 0; i < f->nkids && f->kind == FILTER_ALL; i++)
        if (f->kids[i]->kind == FILTER_TEST && f->kids[i]->field == FIELD_MSG_ID &&
            (f->kids[i]->op == OP_EQ || f->kids[i]->op == OP_IN))
            t = f->kids[i];
    v = t ? calloc(t->nargs + 1, sizeof(*v)) : NULL;
    if (!v)
        return NULL;
    for (size_t i = 0; i < t->nargs; i++)
        if (t->args[i].kind == VALUE_TEXT &&
            msg_id_parse(t->args[i].text, &v[n].session, &v[n].seq) == CV_OK)
            n++;
    qsort(v, n, sizeof(*v), by_id);
    for (size_t i = 0; i < n; i++)
        if (!unique || by_id(&v[i], &v[unique - 1]))
            v[unique++] = v[i];
    *ret_n = unique;
    return v;
}

/* --- bounds --- */

/* Times are compared by the microsecond, and kept by the nanosecond. */
static void narrow(struct store_span *s, enum op op, int64_t us)
{
    uint64_t from = us < 0 ? 0 : (uint64_t)us * 1000, to = us < 0 ? 0 : from + 999;

    if (us > INT64_MAX / 1000 - 1 || op == OP_NE || op > OP_GTE)
        return;
    if (!s->set)
        *s = (struct store_span){.from = 1, .to = UINT64_MAX, .set = true};
    if (op != OP_LT && op != OP_LTE && from > s->from)
        s->from = from;
    if (op != OP_GT && op != OP_GTE && to < s->to)
        s->to = to;
}

static void bound_of_test(const struct filter *t, struct store_bounds *ret)
{
    const struct operand *o = t->args;
    bool text = t->op == OP_EQ && o->kind == VALUE_TEXT;

    switch (t->field) {
    case FIELD_SUBMITTED:
        if (o->is_time)
            narrow(&ret->submitted, t->op, o->us);
        break;
    case FIELD_COMPLETED:
        if (o->is_time)
            narrow(&ret->completed, t->op, o->us);
        ret->no_time |= t->op == OP_EQ && o->kind == VALUE_NULL;
        ret->no_time |= t->op == OP_EXISTS && o->number == 0;
        break;
    case FIELD_ENGINE_UUID:
        if (text)
            ret->engine_uuid = o->text;
        break;
    case FIELD_STATE:
        ret->failed |= text && !strcmp(o->text, "failed");
        ret->pending |= text && !strcmp(o->text, "pending");
        break;
    case FIELD_STATUS:
        ret->failed |= text && strcmp(o->text, "ok");
        break;
    default:
        break;
    }
}

void filter_bounds(const struct filter *f, struct store_bounds *ret)
{
    if (f->kind == FILTER_TEST && f->nargs)
        bound_of_test(f, ret);
    for (size_t i = 0; i < f->nkids && f->kind == FILTER_ALL; i++)
        filter_bounds(f->kids[i], ret);
}
