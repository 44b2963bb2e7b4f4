/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Profile folders (profile.h). */
#include "cluster/profile.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/confload.h"
#include "base/file.h"

static const char *env_text(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static int result(char *path, char **ret, struct err *e)
{
    if (!path)
        return err_set(e, CV_ENOMEM, "out of memory");
    *ret = path;
    return CV_OK;
}

int profile_root(const char *given, char **ret, struct err *e)
{
    const char *dir = given && *given ? given : env_text("IPYTHONDIR");
    return result(confload_absolute(dir ? dir : "~/.ipython"), ret, e);
}

int profile_dir(const char *dir, const char *name, const char *root, char **ret, struct err *e)
{
    dir = dir && *dir ? dir : env_text("IPP_PROFILE_DIR");
    if (dir)
        return result(confload_absolute(dir), ret, e);
    name = name && *name ? name : "default";
    if (strchr(name, '/'))
        return err_set(e, CV_EINVAL,
                       "a profile's name has no '/': \"%.80s\" (--profile-dir takes a path)", name);
    char *leaf = str_printf("profile_%s", name);
    char *path = leaf ? path_join(root, leaf) : NULL;
    free(leaf);
    return result(path, ret, e);
}

bool profile_exists(const char *dir)
{
    struct stat st;
    return !stat(dir, &st) && S_ISDIR(st.st_mode);
}

int profile_create(const char *dir, struct err *e)
{
    static const struct {
        const char *name;
        mode_t mode;
    } FOLDERS[] = {{"security", 0700}, {"pid", 0700}, {"log", 0755}, {"startup", 0755}};
    int rc = file_mkdirs(dir, 0755, e);
    for (size_t i = 0; i < sizeof FOLDERS / sizeof FOLDERS[0] && !rc; i++) {
        char *path = path_join(dir, FOLDERS[i].name);
        rc = path ? file_mkdirs(path, FOLDERS[i].mode, e) : err_set(e, CV_ENOMEM, "out of memory");
        if (!rc && FOLDERS[i].mode == 0700 && chmod(path, 0700) && errno != EPERM)
            rc = err_sys(e, "can't close %s to others", path);
        free(path);
    }
    return rc;
}

const char *profile_name(const char *dir)
{
    const char *slash = strrchr(dir, '/'), *leaf = slash ? slash + 1 : dir;
    return strncmp(leaf, "profile_", 8) || !leaf[8] ? dir : leaf + 8;
}

static int is_profile(const struct dirent *d)
{
    return !strncmp(d->d_name, "profile_", 8) && d->d_name[8];
}

int profile_each(const char *root, int (*cb)(void *arg, const char *dir), void *arg)
{
    struct dirent **found;
    int n = scandir(root, &found, is_profile, alphasort), rc = CV_OK;
    if (n < 0)
        return CV_OK; /* no such folder: no profiles */
    for (int i = 0; i < n; i++) {
        char *dir = rc ? NULL : path_join(root, found[i]->d_name);
        if (!rc)
            rc = !dir ? CV_ENOMEM : profile_exists(dir) ? cb(arg, dir) : CV_OK;
        free(dir);
        free(found[i]);
    }
    free(found);
    return rc;
}
