# SPDX-License-Identifier: BSD-3-Clause
"""examples/docker/jupyter-cluster as its README says: a controller that only ssh reaches, engines and a client with the key and the files in /cluster."""
from __future__ import annotations

import os
import re
import socket
import time

import pytest

from . import containers
from .containers import sh

pytestmark = [pytest.mark.containers, pytest.mark.skipif(bool(containers.why_not("ip")), reason=str(containers.why_not("ip")))]
CLIENT = """
import socket
from ipyparallel import Client
rc = Client(sshkey='/cluster/id_rsa', url_file='/cluster/ipcontroller-client.json')
rc.wait_for_engines(4, timeout=60)
print(rc.ids, sorted(set(rc[:].apply_sync(socket.gethostname))))
print(sum(rc.load_balanced_view().map_sync(lambda x: x * x, range(100))))
"""


@pytest.fixture()
def started():
    names: list[str] = []

    def run(image: str, *options: str, command: tuple[str, ...] = ()) -> str:
        name = f"coveytest{os.getpid()}x{len(names)}"
        names.append(name)
        sh("docker", "run", "-d", "--init", "--name", name, "--hostname", name, *options, image, *command)
        return name

    yield run
    for name in names:
        sh("docker", "rm", "-f", name, check=False)


def wait_for_file(container: str, path: str) -> None:
    deadline = time.monotonic() + 60
    while sh("docker", "exec", container, "sh", "-c", f"test -s {path} && echo there", check=False).strip() != "there":
        assert time.monotonic() < deadline, sh("docker", "logs", container)
        time.sleep(0.2)


@pytest.mark.timeout(1200)
def test_engines_and_clients_through_ssh_with_a_key_and_two_files(started, tmp_path):
    controller_image, notebook = containers.build("controller"), containers.build("notebook")
    host = re.search(r"inet ([\d.]+)", sh("ip", "-4", "-o", "addr", "show", "docker0"))[1]
    with socket.socket() as s:
        s.bind((host, 0))
        port = s.getsockname()[1]
    controller = started(controller_image, "-e", f"CONTROLLER_HOST={host}", "-e", f"CONTROLLER_PORT={port}", "-p", f"{port}:22")
    security = "/root/.ipython/profile_default/security"
    for path in (f"{security}/ipcontroller-engine.json", f"{security}/ipcontroller-client.json", "/root/.ssh/id_rsa"):
        wait_for_file(controller, path)
        sh("docker", "cp", f"{controller}:{path}", str(tmp_path))
    mount = ("-v", f"{tmp_path}:/cluster:ro")
    hosts = [started(notebook, *mount, command=("ipcluster", "engines", "--profile=ssh", "-N=2")) for _ in range(2)]
    out = sh("docker", "run", "--rm", "--init", *mount, notebook, "python", "-c", CLIENT, timeout=120)
    assert "[0, 1, 2, 3]" in out and str(sum(x * x for x in range(100))) in out
    assert all(name in out for name in hosts)
