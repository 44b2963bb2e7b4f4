/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where the profile is and what its config files say. */
#ifndef COVEY_CONTROLLER_CONFLOAD_H
#define COVEY_CONTROLLER_CONFLOAD_H

#include <stdbool.h>
#include "base/config.h"

/* The profile's folder: --profile-dir, IPP_PROFILE_DIR, or --ipython-dir / IPYTHONDIR / ~/.ipython
 * with profile_NAME. malloc'ed. Nothing is created. */
int confload_profile_dir(const struct config *cli, char **ret, struct err *e) CV_CHECK;
/* Merges the config files of `app` (COVEY_CONFIG instead, if it is set) into c. Python runs only
 * when a .py file has an active line; `extra` (may be NULL) is --config's file. */
int confload_files(struct config *c, const char *app, const char *profile_dir, const char *extra,
                   const char *python, struct err *e) CV_CHECK;
/* Has the file a line that is neither blank nor a comment? A missing file has none. */
bool confload_active(const char *path);

#endif
