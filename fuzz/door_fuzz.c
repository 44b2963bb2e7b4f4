/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: what a stranger may send to a controller: bytes as they are, in pieces, from its
 * first byte on. The corpus begins with good HELLOs of each role, so that what follows them is
 * reached too. The first byte says how the bytes are cut. */
#include "world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct world w;
    struct input in = {data, n};
    uint8_t how = in_u8(&in);
    world_start(&w, 0, how & 1, how & 2 ? "none" : "memory");
    world_connect(&w, 0);
    while (in.left && w.peers[0] >= 0) {
        size_t piece = how & 4 ? 1 + (size_t)in.at[0] : in.left;
        piece = piece > in.left ? in.left : piece;
        world_put(&w, 0, in.at, piece);
        in.at += piece;
        in.left -= piece;
        if (how & 8)
            world_run(&w);
    }
    world_run(&w);
    world_end(&w);
    return 0;
}
