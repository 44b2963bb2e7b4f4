/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which line of which file a setting came from. Python has evaluated the file and forgotten its
 * lines, so they are searched for the setting's name: the last line of the last file that has it
 * is the one that counts. Called only when something is wrong; reads files. */
#include "base/configplace.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/file.h"

#define FILE_MAX (1u << 20)

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Stands "CLS.TRAIT" in the line, as words? */
static bool names_trait(const char *line, const char *cls, const char *trait)
{
    size_t n = strlen(cls), k = strlen(trait);
    for (const char *p = line; *p && (p = strstr(p, cls)); p++)
        if ((p == line || !is_word(p[-1])) && p[n] == '.' && !strncmp(p + n + 1, trait, k) &&
            !is_word(p[n + 1 + k]))
            return true;
    return false;
}

static bool has_key(const char *line, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = line; (p = strchr(p, '"')); p++)
        if (!strncmp(p + 1, name, n) && p[n + 1] == '"')
            return true;
    return false;
}

/* The line's number, 0: none. In JSON the class's key comes first. */
static unsigned search(char *text, bool json, const char *cls, const char *trait)
{
    unsigned number = 0, found = 0;
    bool inside = false;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        number++;
        const char *first = line + strspn(line, " \t");
        inside |= json && has_key(line, cls);
        if (json ? inside && has_key(line, trait) : *first != '#' && names_trait(line, cls, trait))
            found = number;
        if (json && found)
            break;
    }
    return found;
}

unsigned configplace_line(const char *path, const char *cls, const char *trait)
{
    struct buf b = {0};
    size_t n = strlen(path);
    unsigned line = 0;
    if (file_read(path, FILE_MAX, &b, NULL) == CV_OK && buf_add(&b, "", 1) == CV_OK)
        line = search((char *)b.data, n > 5 && !strcmp(path + n - 5, ".json"), cls, trait);
    buf_release(&b);
    return line;
}
