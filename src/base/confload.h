/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where a program's profile is and what its config files say. Used once at the program's start,
 * before its loop runs: it waits for Python where it must. */
#ifndef COVEY_BASE_CONFLOAD_H
#define COVEY_BASE_CONFLOAD_H

#include <stdbool.h>
#include "base/config.h"
#include "base/schema.h"

/* The profile's folder: --profile-dir (ProfileDir.location), IPP_PROFILE_DIR, or --ipython-dir
 * (CLS.ipython_dir) / IPYTHONDIR / ~/.ipython with profile_NAME (CLS.profile, "default").
 * malloc'ed, absolute. Nothing is created or looked for. */
int confload_profile_dir(const struct config *cli, const char *cls, char **ret,
                         struct err *e) CV_CHECK;
/* Merges into c what the config files of `app` (and ipython_config) say, in /etc/ipython,
 * /usr/local/etc/ipython, PREFIX/etc/ipython of that python and the profile, then `extra`
 * (--config's file, or NULL); later ones win. A file of blanks and comments says nothing. Python
 * (`PYTHON -m covey.config`) runs only if a .py file says something; .json files alone are read
 * here. COVEY_CONFIG in the environment names one JSON file that replaces them all. Errors name
 * the file, and the line where there is one; what Python finds wrong it says on standard error. */
int confload_files(struct config *c, const char *app, const char *profile_dir, const char *extra,
                   const char *python, struct err *e) CV_CHECK;
/* The whole way: what the files of the schema's program say, former names made today's, the command
 * line (cli, renamed as well) over it, and a line to notices for what has no effect. files_told:
 * what the files say wrong is not told again. cls.python and cls.extra_config_file are read from
 * cli. */
int confload_all(struct config *ret, const struct schema *schema, struct config *cli,
                 const char *cls, const char *profile_dir, FILE *notices, bool files_told,
                 struct err *e) CV_CHECK;
/* Has the file a line that is neither blank nor a comment? A missing file has none. */
bool confload_active(const char *path);
/* A relative path below the working folder, '~' below the home. malloc'ed; NULL when out of
 * memory. */
char *confload_absolute(const char *path);

#endif
