/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Turns the bytes of a fuzzer's input into decisions: numbers, choices, texts and JSON. What is
 * beyond the end reads as zeros, so each prefix of an input is an input. With it a target speaks a
 * grammar (good messages with a few wrong fields, JSON of the right keys), which reaches what plain
 * bytes would not find in years. */
#ifndef COVEY_FUZZ_INPUT_H
#define COVEY_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t in_u8(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->at++;
}

static inline uint32_t in_u16(struct input *in)
{
    uint32_t hi = in_u8(in);
    return hi << 8 | in_u8(in);
}

static inline uint32_t in_u32(struct input *in)
{
    uint32_t hi = in_u16(in);
    return hi << 16 | in_u16(in);
}

static inline uint64_t in_u64(struct input *in)
{
    uint64_t hi = in_u32(in);
    return hi << 32 | in_u32(in);
}

static inline bool in_bool(struct input *in)
{
    return in_u8(in) & 1;
}

/* Mostly small, at times at the edges of the type. */
static inline uint64_t in_number(struct input *in)
{
    uint8_t how = in_u8(in);
    if (how < 224)
        return how & 15;
    return how < 240 ? in_u16(in) : how < 248 ? in_u64(in) : UINT64_MAX - (how & 7);
}

/* At most max bytes of the input, where they lie. */
static inline const uint8_t *in_bytes(struct input *in, size_t max, size_t *ret_n)
{
    size_t n = max < 256 ? in_u8(in) : in_u16(in);
    const uint8_t *at = in->at;
    n = n > max ? max : n;
    *ret_n = n = n > in->left ? in->left : n;
    in->at += n;
    in->left -= n;
    return at;
}

/* The same as malloc'ed text: what a C string can hold of it. */
static inline char *in_text(struct input *in, size_t max)
{
    size_t n;
    const uint8_t *at = in_bytes(in, max, &n);
    char *text = malloc(n + 1);
    if (!text)
        abort();
    memcpy(text, at, n);
    text[n] = 0;
    return text;
}

/* A JSON value whose texts and keys are mostly of `words` (ends with NULL). Never NULL. */
static inline json_t *in_json(struct input *in, const char *const *words, int depth);

static inline json_t *in_json_string(struct input *in, const char *const *words)
{
    size_t n = 0;
    uint8_t k = in_u8(in);
    while (words[n])
        n++;
    if (k < n)
        return json_string(words[k]);
    char *text = in_text(in, 40);
    json_t *s = json_string(text); /* NULL where it is not UTF-8 */
    free(text);
    return s ? s : json_string("");
}

static inline json_t *in_json_object(struct input *in, const char *const *words, int depth)
{
    json_t *o = json_object();
    for (int n = in_u8(in) & 7; n > 0; n--) {
        json_t *key = in_json_string(in, words);
        json_object_set_new(o, json_string_value(key), in_json(in, words, depth - 1));
        json_decref(key);
    }
    return o;
}

static inline json_t *in_json_array(struct input *in, const char *const *words, int depth)
{
    json_t *a = json_array();
    for (int n = in_u8(in) & 7; n > 0; n--)
        json_array_append_new(a, in_json(in, words, depth - 1));
    return a;
}

static inline json_t *in_json(struct input *in, const char *const *words, int depth)
{
    uint8_t kind = in_u8(in) % (depth > 0 ? 10 : 6);
    switch (kind) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(in_bool(in));
    case 2:
    case 3:
        return json_integer((json_int_t)in_number(in));
    case 4:
        return json_real((double)(int64_t)in_number(in) / 3);
    case 5:
        return in_json_string(in, words);
    case 6:
        return in_json_array(in, words, depth);
    default:
        return in_json_object(in, words, depth);
    }
}

#endif
