/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See words.h. */
#include "ssh/words.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"

static int bad_server(const char *server, struct err *e)
{
    return err_set(e, CV_EINVAL, "\"%.200s\" is not an ssh server ([user@]host[:port])", server);
}

/* Where the port begins, behind its colon; NULL: there is none. */
static const char *port_of(const char *server)
{
    const char *colon = strrchr(server, ':'), *at = strrchr(server, '@');
    const char *host = at ? at + 1 : server;
    if (!colon || colon < host || !colon[1] || colon[1 + strspn(colon + 1, "0123456789")])
        return NULL;
    bool bare_ipv6 = *host != '[' && strchr(host, ':') != colon;
    bool inside = *host == '[' && colon[-1] != ']';
    return bare_ipv6 || inside ? NULL : colon + 1;
}

int ssh_server_split(const char *server, char **ret_place, char **ret_port, struct err *e)
{
    const char *digits = port_of(server);
    size_t n = digits ? (size_t)(digits - 1 - server) : strlen(server);
    long number = digits ? strtol(digits, NULL, 10) : 22;
    if (!n || *server == '-' || server[strcspn(server, " \t\n")] || number < 1 || number > 65535 ||
        server[n - 1] == '@')
        return bad_server(server, e);
    char *place = malloc(n + 1), *port = digits ? strdup(digits) : NULL;
    if (!place || (digits && !port)) {
        free(place);
        free(port);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (server[i] != '[' && server[i] != ']') /* ssh wants an address without them */
            place[k++] = server[i];
    place[k] = 0;
    *ret_place = place;
    *ret_port = port;
    return CV_OK;
}

/* No terminal, nothing else forwarded (-W), and nobody who could answer a question. */
char **ssh_argv(const char *place, const char *port, const char *key, bool ask, const char *target)
{
    const char *const words[] = {"ssh",
                                 "-o",
                                 ask ? "NumberOfPasswordPrompts=1" : "BatchMode=yes",
                                 "-o",
                                 "ServerAliveInterval=15",
                                 key ? "-i" : NULL,
                                 key,
                                 port ? "-p" : NULL,
                                 port,
                                 "-W",
                                 target,
                                 "--",
                                 place};
    size_t count = sizeof words / sizeof words[0], n = 0;
    char **argv = calloc(count + 1, sizeof *argv);
    for (size_t i = 0; argv && i < count; i++)
        if (words[i] && !(argv[n++] = strdup(words[i]))) {
            ssh_argv_free(argv);
            return NULL;
        }
    return argv;
}

void ssh_argv_free(char **argv)
{
    for (char **p = argv; p && *p; p++)
        free(*p);
    free(argv);
}

/* ---- what it said ---- */

/* What helps, by what stands in ssh's words; the first that fits. */
static const struct {
    const char *word, *help;
    enum ssh_failure what;
} HELP[] = {
    {"REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key is another one than before",
     SSH_REFUSED},
    {"Host key verification failed",
     "its host key is not known here, or is another one: log in once by hand to see", SSH_REFUSED},
    {"bad permissions", "others can read the key's file, so ssh does not take it: chmod 600 it",
     SSH_REFUSED},
    {"not accessible", "the key's file is not there, or can't be read", SSH_REFUSED},
    {"Permission denied",
     "`ssh SERVER` must work without questions: give a key that it accepts (sshkey, --sshkey, a "
     "launcher's ssh_args; one with a passphrase: ssh-add it), or the right password",
     SSH_REFUSED},
    {"Too many authentication failures", "the agent holds too many keys: set IdentitiesOnly",
     SSH_REFUSED},
    {"administratively prohibited", "its sshd does not forward: AllowTcpForwarding", SSH_REFUSED},
    {"Could not resolve hostname", "the name of the ssh server is not known here", SSH_NO_SERVER},
    {"Connection refused", "no sshd listens there", SSH_NO_SERVER},
    {"closed by remote host", "the connection was cut, or sshd has ended there", SSH_NO_SERVER},
    {"reset by peer", "the connection was cut, or sshd has ended there", SSH_NO_SERVER},
    {"Broken pipe", "the connection was cut", SSH_NO_SERVER},
    {"not responding", "the link is cut, or the machine is off", SSH_NO_SERVER},
    {"timed out", "a firewall, a wrong address, or the machine is off", SSH_NO_SERVER},
    {"No route to host", "the machine is off, or a wrong address", SSH_NO_SERVER},
};

/* The server is there, and the controller is not. With LogLevel ERROR the reason is not said. */
static bool reached_server(const char *text)
{
    return strstr(text, "open failed: connect failed") || strstr(text, "open failed: unknown") ||
           (strstr(text, "stdio forwarding failed") && !strstr(text, "open failed"));
}

/* A host key is new: said at each login where none is kept, and no reason of anything. */
static bool is_noise(const char *line, size_t n)
{
    static const char word[] = "Warning: Permanently added ";
    return n >= sizeof word - 1 && !memcmp(line, word, sizeof word - 1);
}

/* Lines as one, without carriage returns, blank lines and noise. */
static void join_lines(const char *said, size_t n, char *out, size_t cap)
{
    size_t k = 0, len = 0;
    for (size_t at = 0; at < n; at += len + 1) {
        const char *line = said + at;
        bool gap = k > 0;
        for (len = 0; at + len < n && line[len] != '\n' && line[len] != '\r';)
            len++;
        for (size_t i = 0; i < len && k + 4 < cap && !is_noise(line, len); i++) {
            unsigned char c = (unsigned char)line[i];
            if (c < 32 || c == 127)
                continue;
            if (gap) {
                out[k++] = ';';
                out[k++] = ' ';
            }
            gap = false;
            out[k++] = (char)c;
        }
    }
    out[k] = 0;
}

/* Where the last line that is not blank begins. */
static size_t last_line(const char *said, size_t n)
{
    while (n && (said[n - 1] == '\n' || said[n - 1] == '\r'))
        n--;
    while (n && said[n - 1] != '\n')
        n--;
    return n;
}

enum ssh_failure ssh_explain(const char *server, const char *target, const char *said, size_t n,
                             const char *how, char *out, size_t cap)
{
    char text[1100];
    if (n > 1000) { /* its last words are the ones that matter */
        said += n - 1000;
        n = 1000;
    }
    join_lines(said, n, text, sizeof text);
    if (reached_server(text)) {
        snprintf(out, cap,
                 "ssh to %s works, but nobody answers at %s there: has the controller ended, or is "
                 "its machine another one%s? (%s)",
                 server, target,
                 strstr(text, "open failed") ? ""
                                             : ", or does its sshd not forward "
                                               "(AllowTcpForwarding)",
                 text);
        return SSH_NO_CONTROLLER;
    }
    enum ssh_failure what = SSH_NO_SERVER;
    const char *help = NULL;
    for (size_t i = 0; i < sizeof HELP / sizeof HELP[0] && !help; i++)
        if (strstr(text, HELP[i].word)) {
            help = HELP[i].help;
            what = HELP[i].what;
        }
    if (help) /* its last line is the one that counts */
        join_lines(said + last_line(said, n), n - last_line(said, n), text, sizeof text);
    const char *why = *text ? text : *how ? how : "it ended";
    snprintf(out, cap, "ssh to %s: %s%s%s%s", server, why, help ? " (" : "", help ? help : "",
             help ? ")" : "");
    return what;
}
