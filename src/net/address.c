/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The texts of addresses. Pure: resolves nothing. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "net/address_priv.h"

int address_unix(const char *name, struct sockaddr_un *ret, socklen_t *ret_len)
{
    size_t n = strlen(name);
    if (n < 2 || n >= sizeof ret->sun_path)
        return CV_EINVAL;
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path, name, n);
    if (name[0] == '@')
        ret->sun_path[0] = 0;
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (name[0] != '@'));
    return CV_OK;
}

bool address_split(const char *text, char host[ADDRESS_HOST_MAX], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        return false;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    size_t n = (size_t)(colon - text);
    if (end == colon + 1 || *end || port < 1 || port > 65535)
        return false;
    if (text[0] == '[') {
        if (n < 3 || text[n - 1] != ']')
            return false;
        text++;
        n -= 2;
    }
    if (n >= ADDRESS_HOST_MAX)
        return false;
    memcpy(host, text, n);
    host[n] = 0;
    *ret_port = (uint16_t)port;
    return true;
}
