/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Profile folders: $IPYTHONDIR/profile_NAME with security/, log/, pid/, startup/. Blocking calls at
 * a program's start. */
#ifndef COVEY_CLUSTER_PROFILE_H
#define COVEY_CLUSTER_PROFILE_H

#include <stdbool.h>
#include "base/error.h"

/* `given`, else $IPYTHONDIR, else ~/.ipython; absolute, malloc'ed. */
int profile_root(const char *given, char **ret, struct err *e) CV_CHECK;
/* The folder of a profile: dir (may be NULL), else $IPP_PROFILE_DIR, else ROOT/profile_NAME (name
 * NULL: default). */
int profile_dir(const char *dir, const char *name, const char *root, char **ret,
                struct err *e) CV_CHECK;
bool profile_exists(const char *dir);
/* Makes what is missing of it; security/ and pid/ are for the owner alone. */
int profile_create(const char *dir, struct err *e) CV_CHECK;
/* The name ("default") where the folder is called profile_NAME, else the whole path. Borrowed from
 * dir. */
const char *profile_name(const char *dir);
/* Calls cb with the folder of each profile below root, sorted by name; stops at the first that is
 * not CV_OK. */
int profile_each(const char *root, int (*cb)(void *arg, const char *dir), void *arg) CV_CHECK;

#endif
