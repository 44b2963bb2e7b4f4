/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where the profile is and what its config files say. Used once at the program's start, before
 * its loop runs. */
#ifndef COVEY_HOST_SETTINGS_H
#define COVEY_HOST_SETTINGS_H

#include <stdbool.h>
#include "base/config.h"

/* The profile's folder: --profile-dir, IPP_PROFILE_DIR, or --ipython-dir / IPYTHONDIR / ~/.ipython
 * with profile_NAME. malloc'ed and absolute. Nothing is created or looked for. */
int settings_profile_dir(const struct config *cli, char **ret, struct err *e) CV_CHECK;
/* Merges into c what the config files of the engines say: COVEY_CONFIG's file if that is set; else
 * `PYTHON -m covey.config ipengine`, if any of the files has an active line. extra: --config's
 * file, or NULL. */
int settings_load(struct config *c, const char *profile_dir, const char *extra, const char *python,
                  struct err *e) CV_CHECK;
/* A relative path below the working folder, '~' below the home. malloc'ed; NULL when out of memory.
 */
char *settings_absolute(const char *path);

#endif
