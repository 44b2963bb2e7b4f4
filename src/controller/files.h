/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The connection files of both roles: made when the controller listens, removed when it ends,
 * unless they are kept (--reuse), in which case the next controller goes on with their keys, port
 * and name. */
#ifndef COVEY_CONTROLLER_FILES_H
#define COVEY_CONTROLLER_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/log.h"
#include "controller/options.h"
#include "wire/connfile.h"

enum files_role { FILES_CLIENT, FILES_ENGINE, FILES_ROLES };

struct files {
    char *security; /* the folder */
    char *path[FILES_ROLES];
    struct connfile content[FILES_ROLES];
    char *unix_name; /* "@covey-UID-BOOTID" or a path; NULL: none */
    bool written;
    struct stat written_as[FILES_ROLES];
    bool reused; /* an earlier controller's go on */
};

/* Makes the profile's folders; chooses keys and names, or takes those of the files that are there.
 */
int files_prepare(struct files *f, const struct options *o, struct log *log,
                  struct err *e) CV_CHECK;
/* Now that it listens on `port`: writes both. */
int files_write(struct files *f, const struct options *o, uint16_t port, struct err *e) CV_CHECK;
/* Removes what was written, if it is still ours; also the cluster file of a supervisor that died.
 */
void files_remove(struct files *f, const struct options *o, int parent);
void files_release(struct files *f);

#endif
