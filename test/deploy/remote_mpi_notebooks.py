# SPDX-License-Identifier: BSD-3-Clause
"""Runs in the container `local` of examples/docker/remote-mpi: what a person does in two notebooks, each with a kernel of its own. Its argument is the
README's cells, as JSON: to start a cluster, to compute with it, and to use it from the second notebook. Prints "ok"."""
import json
import sys

import nbformat
from nbclient import NotebookClient

start, compute, second_start = json.loads(sys.argv[1])
FIRST = [start + "print(rc.ids)", compute, "import socket; print(sorted(set(rc[:].apply_sync(socket.gethostname))))",
         "rc.close(); cluster.stop_cluster_sync(); print('stopped')"]
SECOND = [second_start + "rc.wait_for_engines(4, timeout=20)\nprint(rc.ids)",
          "print(rc[:].apply_sync(lambda: __import__('mpi4py.MPI').MPI.COMM_WORLD.rank))"]


def text(cell) -> str:
    return "".join(o.get("text", "") or str(o.get("data", {}).get("text/plain", "")) for o in cell.outputs)


def notebook(cells) -> NotebookClient:
    return NotebookClient(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells]), timeout=90)


def run(client: NotebookClient, number: int) -> str:
    out = text(client.execute_cell(client.nb.cells[number], number))
    print(out, end="", flush=True)
    return out


first, second = notebook(FIRST), notebook(SECOND)
with first.setup_kernel():
    assert "[0, 1, 2, 3]" in run(first, 0)
    ranks = run(first, 1)
    for rank in range(4):
        assert f"{rank} of 4" in ranks, ranks
    assert "['remote']" in run(first, 2)
    with second.setup_kernel():
        assert "[0, 1, 2, 3]" in run(second, 0)
        assert "[0, 1, 2, 3]" in run(second, 1)
    assert "stopped" in run(first, 3)
print("ok")
