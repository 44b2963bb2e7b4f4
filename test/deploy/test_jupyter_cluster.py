# SPDX-License-Identifier: BSD-3-Clause
"""examples/docker/jupyter-cluster as its README says, command by command: a controller that only ssh reaches, engines and a notebook with the key and
the files in /cluster."""
from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import urllib.request

import pytest

from . import containers
from .conftest import need
from .containers import LABEL, sh, shell

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2 * containers.BUILD_SECONDS)]
CELLS = ["rc.wait_for_engines(4, timeout=60); import socket\nprint(rc.ids, sorted(set(rc[:].apply_sync(socket.gethostname))))",
         "print(sum(rc.load_balanced_view().map_sync(lambda x: x * x, range(100))))",
         "print(rc[:].apply_sync(lambda: __import__('scipy').__name__))"]
# a client that computes, and does so again when it is told to go on
CUT = """
from ipyparallel import Client
rc = Client(sshkey='/cluster/id_rsa', url_file='/cluster/ipcontroller-client.json')
rc.wait_for_engines(4, timeout=60)
for _ in range(2):
    print(rc.ids, sum(rc.load_balanced_view().map_sync(lambda x: x * x, range(100))), flush=True)
    input()
"""
WANTED = f"[0, 1, 2, 3] {sum(x * x for x in range(100))}\n"


def free_port(address: str) -> int:
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def commands():
    """The README's blocks of commands after the one that builds: controller; engines; clients."""
    need(containers.why_not("ip"))
    containers.build_images()
    yield containers.blocks("jupyter-cluster", "sh")[1:]
    containers.remove()


@pytest.fixture(scope="module")
def cluster(commands, tmp_path_factory):
    """The folder with the three files, and the containers: controller, two with engines."""
    controller, engines, _ = commands
    folder = tmp_path_factory.mktemp("cluster")
    host = re.search(r"inet ([\d.]+)", sh("ip", "-4", "-o", "addr", "show", "docker0"))[1]
    controller = controller.replace("host=192.0.2.1 ", f"host={host} ").replace("port=50000", f"port={free_port(host)}")
    ids = [shell(controller + "echo $id", folder).split()[-1]]
    for path in folder.iterdir() if os.getuid() == 0 else ():
        os.chown(path, 1000, 1000)  # files of a user, who is another one than the containers' root
    for _ in range(2):
        ids.append(shell(f"{engines.rstrip()} -N=2", folder).strip())
    return folder, ids


def test_a_notebook_through_ssh_with_a_key_and_two_files(commands, cluster):
    """The page of its server opens with the token of its log; a notebook there computes on all engines."""
    folder, ids = cluster
    port = free_port("127.0.0.1")
    notebook, address = shell(commands[2].replace("-p 8888:", f"-p 127.0.0.1:{port}:") + "echo $id", folder).split()[::-1][:2]
    with urllib.request.urlopen(address.replace(":8888/", f":{port}/"), timeout=20) as page:
        assert page.status == 200 and b"jupyter-config-data" in page.read()
    cells = [*containers.blocks("jupyter-cluster", "python"), *CELLS]
    page = {"cells": [{"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in cells],
            "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    (folder / "page.ipynb").write_text(json.dumps(page))
    done = sh("docker", "exec", notebook, "jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", "/cluster/page.ipynb", timeout=120)
    said = "".join("".join(o.get("text", "")) for cell in json.loads(done)["cells"] for o in cell["outputs"])
    assert "[0, 1, 2, 3]" in said and WANTED.split()[-1] in said and "['scipy', 'scipy', 'scipy', 'scipy']" in said
    assert all(container[:12] in said for container in ids[1:])
    processes = sh("docker", "exec", notebook, "ps", "-eo", "args=")
    assert "ssh " not in processes and "jupyter-lab" in processes  # the client's connections ended with its kernel


def test_connections_that_are_cut_are_made_again(cluster):
    """All ssh connections at once, the engines' and the client's: engines keep their numbers, the client goes on."""
    folder, ids = cluster
    client = subprocess.Popen(["timeout", "240", "docker", "run", "--rm", "-i", "--init", "--label", LABEL, "-v", f"{folder}:/cluster:ro", "covey-notebook",
                               "python", "-c", CUT], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = client.stdout.readline()
    sh("docker", "exec", ids[0], "pkill", "-f", "sshd: root", check=first == WANTED)
    out, err = client.communicate("\n\n")
    assert (first, out) == (WANTED, WANTED), err
