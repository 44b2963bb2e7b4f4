/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Texts as JSON strings: what is escaped, what is no UTF-8, and that jansson reads all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/jsontext.h"

static void is_text(const char *bytes, size_t n, const char *want)
{
    struct buf b = {0};

    assert_int_equal(jsontext_add(&b, bytes, n), CV_OK);
    assert_string_equal(buf_cstr(&b), want);
    buf_release(&b);
}

static void what_needs_it_is_escaped(void **state)
{
    (void)state;
    is_text("", 0, "\"\"");
    is_text("plain", 5, "\"plain\"");
    is_text("a\"b\\c", 5, "\"a\\\"b\\\\c\"");
    is_text("\n\x01\x1f end", 7, "\"\\u000a\\u0001\\u001f end\"");
    is_text("\0x", 2, "\"\\u0000x\"");
    is_text("\x7fgr\xc3\xbc\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80", 14,
            "\"\x7fgr\xc3\xbc\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

#define NOT "\xef\xbf\xbd"

static void no_utf8_is_marked(void **state)
{
    (void)state;
    is_text("a\xff z", 4, "\"a" NOT " z\"");
    is_text("\xc3", 1, "\"" NOT "\"");                         /* cut */
    is_text("\xe2\x82", 2, "\"" NOT NOT "\"");                 /* cut */
    is_text("\xc0\xaf", 2, "\"" NOT NOT "\"");                 /* longer than needed */
    is_text("\xed\xa0\x80", 3, "\"" NOT NOT NOT "\"");         /* a surrogate */
    is_text("\xf4\x90\x80\x80", 4, "\"" NOT NOT NOT NOT "\""); /* beyond the last character */
}

/* Whatever the bytes: JSON that jansson reads, with the bytes in it if they are UTF-8. */
static void any_bytes_can_be_read(void **state)
{
    unsigned seed = 1;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        char bytes[12];
        size_t n = (size_t)(rand_r(&seed) % 13);
        struct buf b = {0};
        for (size_t k = 0; k < n; k++)
            bytes[k] = (char)(rand_r(&seed) >> 7);
        json_t *direct = json_stringn(bytes, n); /* NULL: no UTF-8 */
        assert_int_equal(jsontext_add(&b, bytes, n), CV_OK);
        json_t *j = json_loadb((char *)b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(j);
        if (direct)
            assert_true(json_equal(j, direct));
        else
            assert_non_null(strstr(buf_cstr(&b), NOT));
        json_decref(direct);
        json_decref(j);
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_needs_it_is_escaped),
        cmocka_unit_test(no_utf8_is_marked),
        cmocka_unit_test(any_bytes_can_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
