/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See batchstate.h. */
#include "launch/batchstate.h"

#include <stdio.h>
#include <string.h>

#define DIGITS "0123456789"
#define BLANKS " \t\r"

/* Is this word the job's id, with whatever a system puts behind its number? (88.head, 88[], 12_3)
 */
static bool is_id(const char *word, const char *id)
{
    size_t n = strspn(id, DIGITS);
    return n && !strncmp(word, id, n) && word[n] && strchr(BLANKS ".[_(:", word[n]);
}

/* A line about this job: where its state stands; NULL: it is about something else. */
static const char *state_in(const char *line, const char *id, bool bare)
{
    static const char SGE[] = "job_number:"; /* qstat -j: a page a job */
    const char *at = line + strspn(line, BLANKS);
    if (!strncmp(at, SGE, strlen(SGE))) {
        at += strlen(SGE);
        at += strspn(at, BLANKS);
        size_t n = strspn(id, DIGITS);
        return strspn(at, DIGITS) == n && !strncmp(at, id, n) ? at : NULL;
    }
    if (!is_id(at, id))
        return bare ? at : NULL;
    at += strcspn(at, BLANKS ":\n");
    return at + strspn(at, BLANKS ":");
}

bool batch_state(const char *text, const char *id, bool bare, char *out, size_t cap)
{
    bool found = false;
    for (; *text; text += *text == '\n') {
        const char *at = state_in(text, id, bare);
        size_t n = at ? strcspn(at, BLANKS "\n") : 0;
        if (n && (!found || batch_is_end(out))) {
            snprintf(out, cap, "%.*s", (int)n, at);
            found = true;
        }
        text += strcspn(text, "\n");
    }
    return found;
}

bool batch_is_end(const char *state)
{
    static const char *const ENDS[] = {"DONE",          "EXIT",      "BOOT_FAIL", "CANCELLED",
                                       "COMPLETED",     "DEADLINE",  "FAILED",    "NODE_FAIL",
                                       "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"};
    for (size_t i = 0; i < sizeof ENDS / sizeof ENDS[0]; i++)
        if (!strcmp(state, ENDS[i]))
            return true;
    return false;
}

bool batch_unknown(const char *text)
{
    static const char *const WORDS[] = {"nvalid job id", "nknown Job", "do not exist", "not found",
                                        "has finished"};
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++)
        if (strstr(text, WORDS[i]))
            return true;
    return !*text;
}
