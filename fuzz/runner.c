/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Runs a fuzz target over the files of corpus folders, where libFuzzer does not: each file as it
 * is; those written by hand also with each of their prefixes, and with each byte changed in a few
 * ways. So the tests of every build walk the parsers' edges, and a crash names the file. Inputs are
 * copied to memory of their exact size, for sanitizers and valgrind to see what is read beyond. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"

#define INPUT_MAX (1u << 20)
#define MUTATED_MAX 2048 /* longer files are run as they are */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void run(const uint8_t *data, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact)
        abort();
    memcpy(exact, data, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

/* libFuzzer names what it found by its SHA-1; each is a variant of something already. */
static bool found_by_machine(const char *name)
{
    return strlen(name) == 40 && strspn(name, "0123456789abcdef") == 40;
}

static void run_variants(uint8_t *data, size_t n)
{
    static const uint8_t XOR[] = {0x01, 0x80, 0xff};
    if (n > MUTATED_MAX)
        return;
    for (size_t i = 0; i < n; i++) {
        run(data, i);
        for (size_t k = 0; k < sizeof XOR; k++) {
            data[i] ^= XOR[k];
            run(data, n);
            data[i] ^= XOR[k];
        }
    }
}

static int run_folder(const char *path, unsigned *files)
{
    DIR *d = opendir(path);
    if (!d) {
        perror(path);
        return 1;
    }
    int bad = 0;
    for (struct dirent *entry; (entry = readdir(d)) && !bad;) {
        if (entry->d_name[0] == '.')
            continue;
        struct buf b = {0};
        struct err e;
        char *file = path_join(path, entry->d_name);
        bad = !file || file_read(file, INPUT_MAX, &b, &e);
        if (bad)
            fprintf(stderr, "%s\n", file ? e.text : "out of memory");
        else
            run(b.data, b.len);
        if (!bad && !found_by_machine(entry->d_name))
            run_variants(b.data, b.len);
        *files += !bad;
        buf_release(&b);
        free(file);
    }
    closedir(d);
    return bad;
}

int main(int argc, char **argv)
{
    unsigned files = 0;
    for (int i = 1; i < argc; i++)
        if (run_folder(argv[i], &files))
            return 1;
    printf("%u files\n", files);
    return files == 0;
}
