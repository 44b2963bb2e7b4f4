/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What each engine of a host gets for {i}, and which GPUs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/place.h"

static const char *const VARIABLES[] = {"COVEY_PLACE",
                                        "SLURM_LOCALID",
                                        "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "MPI_LOCALRANKID",
                                        "PALS_LOCAL_RANKID",
                                        "CUDA_VISIBLE_DEVICES",
                                        NULL};

static int setup(void **state)
{
    for (const char *const *v = VARIABLES; *v; v++)
        unsetenv(*v);
    return 0;
}

/* The variables of n engines as one text; "" and e when there are none. */
static const char *places(uint32_t n, uint32_t gpus, const char *environment, struct err *e)
{
    static char out[512];
    json_t *env = json_loads(environment, 0, NULL), *all = NULL;
    const struct options o = {.n = n, .gpus = gpus, .environment = env};
    assert_non_null(env);
    out[0] = 0;
    if (place_environments(&all, &o, e) == CV_OK) {
        char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
        snprintf(out, sizeof out, "%s", text);
        free(text);
        json_decref(all);
    }
    json_decref(env);
    return out;
}

static void numbers_count_on_the_host(void **state)
{
    struct err e;
    assert_string_equal(places(2, 0, "{}", &e), "[{},{}]");
    assert_string_equal(places(2, 0, "{\"A\": \"{i}-x{i}\", \"B\": \"{}\"}", &e),
                        "[{\"A\":\"0-x0\",\"B\":\"{}\"},{\"A\":\"1-x1\",\"B\":\"{}\"}]");
}

static void hosts_of_one_engine_differ_by_their_rank(void **state)
{
    struct err e;
    for (size_t i = 0; i < 5; i++) {
        setenv(VARIABLES[i], "3", 1);
        assert_string_equal(places(1, 0, "{\"A\": \"{i}\"}", &e), "[{\"A\":\"3\"}]");
        setenv(VARIABLES[i], "3x", 1);
        assert_string_equal(places(1, 0, "{\"A\": \"{i}\"}", &e), "[{\"A\":\"0\"}]");
        unsetenv(VARIABLES[i]);
    }
}

static void gpus_are_shared_out(void **state)
{
    struct err e;
    setenv("CUDA_VISIBLE_DEVICES", "4,GPU-a,7,8", 1);
    assert_string_equal(
        places(2, 2, "{}", &e),
        "[{\"CUDA_VISIBLE_DEVICES\":\"4,GPU-a\"},{\"CUDA_VISIBLE_DEVICES\":\"7,8\"}]");
    setenv("SLURM_LOCALID", "1", 1); /* all of the node's are visible to each task … */
    assert_string_equal(places(1, 2, "{}", &e), "[{\"CUDA_VISIBLE_DEVICES\":\"7,8\"}]");
    setenv("CUDA_VISIBLE_DEVICES", "5", 1); /* … or only its own */
    assert_string_equal(places(1, 1, "{}", &e), "[{\"CUDA_VISIBLE_DEVICES\":\"5\"}]");
}

static void too_few_are_refused(void **state)
{
    struct err e;
    setenv("CUDA_VISIBLE_DEVICES", "0,1,2", 1);
    assert_string_equal(places(2, 2, "{}", &e), "");
    assert_non_null(strstr(e.text, "2 engines here need 4 GPUs, but CUDA_VISIBLE_DEVICES names 3"));
    setenv("CUDA_VISIBLE_DEVICES", "", 1);
    assert_string_equal(places(1, 1, "{}", &e), "");
    assert_non_null(strstr(e.text, "1 engine here needs 1 GPU, but CUDA_VISIBLE_DEVICES names 0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(numbers_count_on_the_host, setup),
        cmocka_unit_test_setup(hosts_of_one_engine_differ_by_their_rank, setup),
        cmocka_unit_test_setup(gpus_are_shared_out, setup),
        cmocka_unit_test_setup(too_few_are_refused, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
