/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where connection data comes from: a file that may not be there yet, may be of an earlier
 * controller, and may be replaced at any time; or text in the environment, which never changes. */
#ifndef COVEY_HOST_SOURCE_H
#define COVEY_HOST_SOURCE_H

#include <stdbool.h>
#include <sys/stat.h>
#include "wire/connfile.h"

struct source {
    const char *path; /* borrowed */
    const char *info; /* borrowed; text instead of the file, or NULL */
    bool read_once;
    struct stat seen; /* of the file when it was read last */
};

/* Is there anything that has not been read yet? A missing file is nothing. */
bool source_changed(const struct source *s);
/* Reads what is there now. CV_ENOENT while the file is missing. */
int source_read(struct source *s, struct connfile *ret, struct err *e) CV_CHECK;
/* That failed for a reason that may pass: source_changed() is true again. */
void source_again(struct source *s);
/* The endpoints to try, in order: Unix unless no_unix, TCP at `location` (or at the file's own
 * location when that has been edited to a machine that its endpoints don't name), the other TCP
 * ones. by_ssh: they are as an ssh server sees them, so that a controller that listens on its
 * loopback interface alone is there and not at its machine's name. malloc'ed strings in a malloc'ed
 * array; at least one, else CV_EINVAL. */
int source_endpoints(const struct connfile *f, const char *location, const char *own_name,
                     bool no_unix, bool by_ssh, char ***ret, uint32_t *ret_n,
                     struct err *e) CV_CHECK;
void endpoints_free(char **v, uint32_t n);

#endif
