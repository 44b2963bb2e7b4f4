/* SPDX-License-Identifier: BSD-3-Clause
 *
 * base and wire when memory or the disk is short: each function fails with its code and a sentence,
 * or works; a file that can't be written leaves the old one as it was. */
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/args.h"
#include "base/confload.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "wire/connfile.h"
#include "wire/hello.h"
#include "wire/msg.h"

static const char KEY[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/* CV_OK, or what was injected, with a sentence. */
static void fine_or(int rc, int code, const struct err *e)
{
    if (rc == CV_OK)
        return;
    if (rc != code || !fault_hit() || (e && !*e->text))
        fail_msg("code %d (%s), nothing failed: %d", rc, e ? e->text : "", !fault_hit());
}

static void routes(void *arg)
{
    struct id_range ids[] = {{1, 2, 3}, {4, 5, 6}};
    uint32_t targets[] = {1, 2, 3};
    struct route r = {.targets = targets,
                      .ntargets = 3,
                      .has_targets = true,
                      .timeout = 1,
                      .label = "label",
                      .python = "3.11",
                      .after = ids,
                      .follow = ids,
                      .nafter = 2,
                      .nfollow = 2},
                 again;
    struct buf b = {0};
    struct err e = {""};
    int rc = route_encode(&r, &b);
    fine_or(rc, CV_ENOMEM, NULL);
    if (rc == CV_OK) {
        rc = route_decode(b.data, b.len, &again, &e);
        fine_or(rc, CV_ENOMEM, &e);
        if (rc == CV_OK)
            route_release(&again);
    }
    buf_release(&b);
}

static void handshakes(void *arg)
{
    struct held_task held = {1, 2, 3, 4};
    struct id_range ids[] = {{9, 2, 3}, {9, 5, 6}};
    struct hello h = {.role = ROLE_CLIENT,
                      .session = 9,
                      .cluster_id = "c",
                      .boot_id = "b",
                      .uuid = "u",
                      .python = "3.11",
                      .versions = "{}",
                      .host = "h",
                      .unstarted = &held,
                      .nunstarted = 1,
                      .waiting = ids,
                      .nwaiting = 2},
                 h2;
    struct welcome w = {.cluster_id = "c", .boot_id = "b", .unknown = ids, .nunknown = 2}, w2;
    struct buf b = {0};
    struct err e = {""};
    int rc = hello_encode(&h, &b);
    fine_or(rc, CV_ENOMEM, NULL);
    if (rc == CV_OK && (rc = hello_decode(b.data, b.len, &h2, &e)) == CV_OK)
        hello_release(&h2);
    fine_or(rc, CV_ENOMEM, NULL);
    buf_clear(&b);
    rc = welcome_encode(&w, &b);
    fine_or(rc, CV_ENOMEM, NULL);
    if (rc == CV_OK && (rc = welcome_decode(b.data, b.len, &w2, &e)) == CV_OK)
        welcome_release(&w2);
    fine_or(rc, CV_ENOMEM, NULL);
    buf_release(&b);
}

static void payloads(void *arg)
{
    const uint64_t lens[] = {10, 300000, 3 << 20};
    struct payload *p;
    struct msg *m;
    int rc = payload_new_inline(&p, 2, lens);
    fine_or(rc, CV_ENOMEM, NULL);
    if (rc == CV_OK)
        payload_unref(p);
    rc = payload_new_large(&p, 3, lens);
    fine_or(rc, CV_ENOMEM, NULL);
    if (rc == CV_OK) {
        memset(p->bufs[2].data, 1, 3 << 20);
        rc = msg_new(&m, &(struct header){.type = MSG_TASK}, "route", 5, p); /* takes p */
        fine_or(rc, CV_ENOMEM, NULL);
        if (rc == CV_OK)
            msg_free(m);
    }
}

static void connection_files(void *arg)
{
    char *endpoints[] = {"unix:@a", "tcp://127.0.0.1:4711"};
    const struct connfile c = {.cluster_id = "",
                               .boot_id = "b",
                               .endpoints = endpoints,
                               .nendpoints = 2,
                               .key = (char *)KEY,
                               .location = "here",
                               .ssh = "",
                               .interface = "tcp",
                               .port = 4711};
    struct connfile again;
    struct buf b = {0};
    struct err e = {""};
    int rc = connfile_encode(&c, &b);
    fine_or(rc, rc, NULL); /* a text that can't be escaped: not UTF-8, or no memory */
    if (rc == CV_OK) {
        rc = connfile_decode((const char *)b.data, b.len, &again, &e);
        fine_or(rc, rc, &e);
        assert_null(strstr(e.text, "ccddee"));
        if (rc == CV_OK)
            connfile_release(&again);
    }
    buf_release(&b);
}

static void configs(void *arg)
{
    static const struct arg rows[] = {
        {"n", 'n', ARG_VALUE, "Cluster", "n", NULL, "N", "engines"},
        {"debug", 0, ARG_FLAG, "Application", "log_level", "10", NULL, "talk more"},
        {NULL},
    };
    static const struct args_spec spec = {"prog", "", "", rows};
    static const char json[] = "{\"A\": {\"x\": [1, 2], \"y\": \"text\"}, \"B\": {\"z\": null}}";
    char *argv[] = {"prog", "--n=4", "--debug", "--C.trait=[1, 'a']", "word", NULL}, **rest = NULL;
    struct config *c;
    struct err e = {""};
    int rc = config_new(&c);
    fine_or(rc, CV_ENOMEM, NULL);
    if (rc)
        return;
    rc = config_merge(c, json, sizeof json - 1, &e);
    fine_or(rc, rc, &e); /* JSON that could not be kept may be told as JSON that is wrong */
    rc = args_parse(&spec, 5, argv, c, &rest, NULL, &e);
    fine_or(rc, rc, &e);
    free(rest);
    free(config_dump(c));
    config_free(c);
}

static void config_files(void *arg)
{
    const char *dir = arg;
    struct config *c;
    struct err e = {""};
    if (config_new(&c))
        return;
    int rc = confload_files(c, "ipengine", dir, NULL, "python3", &e);
    fine_or(rc, rc, &e);
    config_free(c);
}

struct place {
    char dir[40], path[80];
};

static void expect_file(const char *path, const char *a, const char *b)
{
    char text[200] = "";
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    assert_true(!strcmp(text, a) || !strcmp(text, b));
}

static unsigned files_in(const char *dir)
{
    char command[80], out[20] = "";
    snprintf(command, sizeof command, "ls -A %s | wc -l", dir);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(out, sizeof out, f));
    pclose(f);
    return (unsigned)atoi(out);
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    struct place p = {.dir = "/tmp/covey-fault-XXXXXX"};
    struct err e = {""};
    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof p.path, "%s/file.json", p.dir);
    for (uint64_t n = 1, hits = 1; hits; n++) {
        FILE *f = fopen(p.path, "w");
        fputs("old", f);
        fclose(f);
        fault_arm(FAULT_WRITE | FAULT_OPEN | FAULT_MEMORY, n, false);
        int rc = file_write_atomic(p.path, 0600, "new", 3, &e);
        hits = fault_disarm();
        assert_true(rc == CV_OK || (hits && *e.text));
        expect_file(p.path, rc ? "old" : "new", rc ? "old" : "new");
        assert_int_equal(files_in(p.dir), 1);
    }
    unlink(p.path);
    rmdir(p.dir);
}

/* What is given out can be read. */
static void json_texts(void *arg)
{
    char *text = jsontext(arg, JSON_INDENT(2));
    fault_pause();
    json_t *again = text ? json_loads(text, 0, NULL) : NULL;
    if (text ? !json_equal(again, arg) : !fault_hit())
        fail_msg("place %d: %s", (int)fault_place(), text ? text : "no text, and nothing failed");
    json_decref(again);
    free(text);
    fault_go_on();
}

static void memory_is_short_for_json(void **state)
{
    json_t *j = json_object();
    char key[] = "a-name-of-a-member-?";
    for (char c = 'a'; c <= 'z'; c++) {
        key[sizeof key - 2] = c;
        json_object_set_new(j, key, json_pack("{s:i,s:[s,n]}", "number", c, "list", key));
    }
    assert_true(fault_each(FAULT_MEMORY, json_texts, j) >= 4);
    json_decref(j);
}

static void memory_is_short_in_wire(void **state)
{
    assert_true(fault_each(FAULT_MEMORY, routes, NULL) >= 6);
    assert_true(fault_each(FAULT_MEMORY, handshakes, NULL) >= 10);
    assert_true(fault_each(FAULT_MEMORY, payloads, NULL) >= 4);
    assert_true(fault_each(FAULT_MEMORY, connection_files, NULL) >= 20);
}

static void memory_is_short_in_config(void **state)
{
    char dir[] = "/tmp/covey-fault-XXXXXX", path[80];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/ipengine_config.json", dir);
    assert_int_equal(file_write_atomic(path, 0600, "{\"A\": {\"x\": 1}}", 15, NULL), CV_OK);
    assert_true(fault_each(FAULT_MEMORY, configs, NULL) >= 20);
    assert_true(fault_each(FAULT_MEMORY | FAULT_OPEN | FAULT_STREAM, config_files, dir) >= 10);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(memory_is_short_in_wire),
        cmocka_unit_test(memory_is_short_for_json),
        cmocka_unit_test(memory_is_short_in_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
