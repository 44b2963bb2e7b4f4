# SPDX-License-Identifier: BSD-3-Clause
"""examples/docker/remote-mpi as its README says: docker-compose, JupyterLab with its password, the key copied, two notebooks, nothing left on either."""
from __future__ import annotations

import http.cookiejar
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from . import browser, containers, lab
from .conftest import need
from .remote_mpi import RemoteMpi

pytestmark = [pytest.mark.containers, pytest.mark.timeout(containers.BUILD_SECONDS + 300)]
# says why there is no cluster
START = """
import covey, pathlib
pathlib.Path.home().joinpath(".ssh").mkdir(mode=0o700, exist_ok=True)
try:
    covey.Cluster(profile="remotempi").start_cluster_sync()
except Exception as e:
    print(e)
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with RemoteMpi(tmp_path_factory.mktemp("remote-mpi")) as machines:
        yield machines


def lab_is_logged_in(port: int, password: str) -> bool:
    """Logs in at JupyterLab's own page, as a browser does; waits until the server is up."""
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    deadline = time.monotonic() + 60
    while True:
        try:
            opener.open(f"http://127.0.0.1:{port}/login", timeout=5).read()
            break
        except OSError:
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.25)
    xsrf = next(c.value for c in cookies if c.name == "_xsrf")
    form = urllib.parse.urlencode({"_xsrf": xsrf, "password": password}).encode()
    try:
        opener.open(f"http://127.0.0.1:{port}/login?next=%2Fapi%2Fstatus", form, timeout=10).read()
        return opener.open(f"http://127.0.0.1:{port}/api/kernels", timeout=10).status == 200
    except urllib.error.HTTPError:
        return False


def test_the_lab_wants_its_password(machines):
    assert not lab_is_logged_in(machines.port, "wrong")
    assert lab_is_logged_in(machines.port, "whocares")


def test_without_the_key_it_is_said(machines):
    """By the words that the README's table quotes."""
    said = machines.local.run("python", "-c", START, timeout=120)
    assert "Host key verification failed" in said, said
    machines.local.run("sh", "-euc", "ssh-keyscan remote >~/.ssh/known_hosts 2>/dev/null")
    said = machines.local.run("python", "-c", START, timeout=120)
    assert "Permission denied (publickey,password)" in said, said
    machines.local.run("rm", "/home/demo/.ssh/known_hosts")


@pytest.fixture(scope="module")
def key(machines):
    machines.copy_key()


def test_a_cluster_from_a_notebook_and_from_a_second_one(machines, key):
    before = machines.local.processes()
    program = Path(__file__).with_name("remote_mpi_notebooks.py").read_text()
    cells = json.dumps(containers.blocks("remote-mpi", "python"))
    assert machines.local.run("python", "-c", program, cells, timeout=480).strip().endswith("ok")
    machines.nothing_is_left(before)


def test_a_notebook_in_a_browser(machines, key, tmp_path):
    """What a person does: the password, a new notebook, a cluster, ranks, its end."""
    need(containers.why_not(*browser.NEEDS))
    before = machines.local.processes()
    with browser.Browser(tmp_path) as page:
        page.open(f"http://127.0.0.1:{machines.port}")
        page.type("#password_input", "whocares")
        page.click("#login_submit")
        notebook = lab.Notebook(page)
        notebook.run(1, "import ipyparallel as ipp; cluster = ipp.Cluster(profile='remotempi'); rc = cluster.start_and_connect_sync(); rc.ids", "[0, 1, 2, 3]")
        notebook.run(2, "%px from mpi4py import MPI; print('rank', MPI.COMM_WORLD.rank, 'of', MPI.COMM_WORLD.size)", "rank 3 of 4")
        notebook.run(3, "rc.close(); cluster.stop_cluster_sync(); 'all ' + 'done'", "all done")
    machines.nothing_is_left(before)
