# SPDX-License-Identifier: BSD-3-Clause
"""examples/docker/jupyter-cluster as its README says, command by command: a controller that only ssh reaches, engines and a notebook with the key and
the files in /cluster."""
from __future__ import annotations

import json
import urllib.request

import pytest

from . import containers
from .containers import sh, shell
from .jupyter_cluster import JupyterCluster, free_port

pytestmark = [pytest.mark.containers, pytest.mark.timeout(containers.BUILD_SECONDS + 300)]
CELLS = ["rc.wait_for_engines(4, timeout=60); import socket\nprint(rc.ids, sorted(set(rc[:].apply_sync(socket.gethostname))))",
         "print(sum(rc.load_balanced_view().map_sync(lambda x: x * x, range(100))))",
         "print(rc[:].apply_sync(lambda: __import__('scipy').__name__))"]
TOTAL = str(sum(x * x for x in range(100)))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with JupyterCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_a_notebook_through_ssh_with_a_key_and_two_files(cluster):
    """The page of its server opens with the token of its log; a notebook there computes on all engines."""
    folder, port = cluster.folder, free_port("127.0.0.1")
    notebook, address = shell(cluster.commands[2].replace("-p 8888:", f"-p 127.0.0.1:{port}:") + "echo $id", folder).split()[::-1][:2]
    with urllib.request.urlopen(address.replace(":8888/", f":{port}/"), timeout=20) as page:
        assert page.status == 200 and b"jupyter-config-data" in page.read()
    cells = [*containers.blocks("jupyter-cluster", "python"), *CELLS]
    page = {"cells": [{"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in cells],
            "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    (folder / "page.ipynb").write_text(json.dumps(page))
    done = sh("docker", "exec", notebook, "jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", "/cluster/page.ipynb", timeout=120)
    said = "".join("".join(o.get("text", "")) for cell in json.loads(done)["cells"] for o in cell["outputs"])
    assert "[0, 1, 2, 3]" in said and TOTAL in said and "['scipy', 'scipy', 'scipy', 'scipy']" in said
    assert all(engines.name[:12] in said for engines in cluster.engines)
    processes = sh("docker", "exec", notebook, "ps", "-eo", "args=")
    assert "ssh " not in processes and "jupyter-lab" in processes  # the client's connections ended with its kernel
