/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of what is read in the answers of batch systems. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "launch/batchstate.h"

static const char SLURM[] = "12:RUNNING\n13:TIMEOUT\n120:PENDING\n14:COMPLETED\n14:RUNNING\n"
                            "15:PREEMPTED\n15:COMPLETED\n";
static const char LSF[] = "321    RUN  \n322    DONE \n";
static const char PBS[] = "Job id            Name             User   Time Use S Queue\n"
                          "----------------  ---------------- ------ -------- - -----\n"
                          "88[].head         ipengine         demo          0 R normal\n"
                          "90.head           ipengine         demo          0 Q normal\n";
static const char SGE[] = "==============================\njob_number:                 77\n"
                          "owner:                      demo\nFollowing jobs do not exist:\n78\n";

static void a_job_has_a_line_of_its_own(void **state)
{
    static const struct {
        const char *text, *id, *state; /* NULL: there is none */
        bool bare, end;
    } CASES[] = {
        {SLURM, "12", "RUNNING", false, false},
        {SLURM, "13", "TIMEOUT", false, true},
        {SLURM, "120", "PENDING", false, false},
        {SLURM, "1", NULL, false, false},
        {SLURM, "16", NULL, false, false},
        {SLURM, "14", "RUNNING", false, false}, /* a part of the array goes on */
        {SLURM, "15", "COMPLETED", false, true},
        {LSF, "321", "RUN", false, false},
        {LSF, "322", "DONE", false, true},
        {PBS, "88[]", "ipengine", false, false},
        {PBS, "90", "ipengine", false, false},
        {PBS, "9", NULL, false, false},
        {SGE, "77", "77", false, false},
        {SGE, "7", NULL, false, false},
        {"55:2\n56:4\n", "55", "2", false, false},
        {"RUNNING\n", "12", NULL, false, false},
        {"  RUNNING \r\n", "12", "RUNNING", true, false},
        {"FAILED\nRUNNING\n", "12", "RUNNING", true, false},
        {"12 CANCELLED", "12", "CANCELLED", true, true},
        {"\n \n", "12", NULL, true, false},
        {"", "12", NULL, true, false},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char out[40] = "";
        bool found = batch_state(CASES[i].text, CASES[i].id, CASES[i].bare, out, sizeof out);
        if (found != (CASES[i].state != NULL))
            fail_msg("job %s: found %d", CASES[i].id, found);
        if (!found)
            continue;
        assert_string_equal(out, CASES[i].state);
        assert_int_equal(batch_is_end(out), CASES[i].end);
    }
}

static void trouble_is_not_an_answer(void **state)
{
    assert_true(batch_unknown("slurm_load_jobs error: Invalid job id specified\n"));
    assert_true(batch_unknown("qstat: Unknown Job Id 88.head\n"));
    assert_true(batch_unknown("qstat: 88.head Job has finished, use -x or -H\n"));
    assert_true(batch_unknown("Following jobs do not exist:\n77\n"));
    assert_true(batch_unknown("Job <321> is not found\n"));
    assert_true(batch_unknown(""));
    assert_false(batch_unknown("slurm_load_jobs error: Unable to contact slurm controller\n"));
    assert_false(batch_unknown("qstat: cannot connect to server head\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_has_a_line_of_its_own),
        cmocka_unit_test(trouble_is_not_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
