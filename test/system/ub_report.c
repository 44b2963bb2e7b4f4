// SPDX-License-Identifier: BSD-3-Clause
// Preloaded by tools/sanitize.sh: what UBSan finds is also appended to the file REPORT.ub.PID.
// UBSan itself can only say it on stderr when AddressSanitizer is there too, and nobody reads that
// of a process whose end a test expects.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void __ubsan_get_current_report_data(const char **kind, const char **message, const char **file,
                                     unsigned *line, unsigned *column, char **address);
void __ubsan_on_report(void); // libubsan's own does nothing

__attribute__((visibility("default"))) void __ubsan_on_report(void)
{
    const char *kind, *message, *file;
    unsigned line, column;
    char *address, path[4096];
    __ubsan_get_current_report_data(&kind, &message, &file, &line, &column, &address);
    snprintf(path, sizeof path, "%s.ub.%d", REPORT, getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) {
        dprintf(fd, "%s:%u:%u: %s: %s\n", file, line, column, kind, message);
        close(fd);
    }
}
