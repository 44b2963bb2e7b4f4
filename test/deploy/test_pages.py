# SPDX-License-Identifier: BSD-3-Clause
"""Every page of docs/deploying is run as it stands (pages.py), and what its table of troubles quotes is what people get (troubles.py)."""
import shlex

import pytest

from . import pages
from .boxes import VENV_BIN

pytestmark = pytest.mark.timeout(300)

_WRAPPER = "#!/bin/sh\nexec {} \"$@\"\n".format(shlex.quote(f"{VENV_BIN}/python"))


def environment(box, user="root"):
    """A virtual environment ~/env that has covey, as `python -m venv` would make it."""
    where = box.srv / user / "env/bin"
    where.mkdir(parents=True)
    for name in ("python", "python3"):
        (where / name).write_text(_WRAPPER)
        (where / name).chmod(0o755)
    (where / "activate").write_text(f"echo activated; export VIRTUAL_ENV=/srv/{user}/env PATH=/srv/{user}/env/bin:$PATH\n")


def test_laptop(machines):
    boxes = machines("laptop")
    pages.Page("laptop", boxes).run()
    assert boxes["laptop"].wait_idle() == {}


def test_ssh(machines):
    boxes = machines("laptop", "host1", "host2")
    environment(boxes["host1"])
    environment(boxes["host2"], "demo")
    pages.Page("ssh", boxes).run()
    idle_and_clean(boxes)


def test_firewall(machines):
    """Nothing but ssh gets into the server, and nothing at all into the others."""
    boxes = machines("laptop", "host1", "server", needs=("iptables",))
    boxes["server"].firewall()
    for name in ("laptop", "host1"):
        boxes[name].firewall(1)
    pages.Page("firewall", boxes).run()
    idle_and_clean(boxes)


def test_login_node(machines):
    boxes = machines("laptop", "login", "node", shared=("login", "node"), needs=("iptables",))
    boxes["node"].firewall(22, others_from=boxes["login"].address)
    pages.Page("login-node", boxes).run()
    idle_and_clean(boxes)


def test_containers(machines):
    """A network of containers as name spaces: what they share is the volume and, but for the last way, the network."""
    boxes = machines("controller", "engines", shared=("controller", "engines"))
    page = pages.Page("containers", boxes)
    page.before("folder", lambda: boxes["engines"].cable(False))
    page.run()
    idle_and_clean(boxes)


def idle_and_clean(boxes):
    for box in boxes:
        assert box.wait_idle() == {}
    assert [p for box in boxes for p in box.srv.glob("*/**/security/*.json")] == []


def test_few_blocks_are_left_out():
    names = sorted(p.stem for p in pages.DOCS.glob("*.md"))
    assert {name: n for name in names if (n := pages.left_out(name)) > 1} == {}


