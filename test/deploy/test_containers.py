# SPDX-License-Identifier: BSD-3-Clause
"""The docker commands of docs/deploying/containers.md as they stand, but for the names of what they make."""
from __future__ import annotations

import os
import re

import pytest

from . import containers
from .conftest import need, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(containers.BUILD_SECONDS + 300)]
PAGE = containers.REPOSITORY / "docs/deploying/containers.md"


def test_the_docker_commands_of_the_page(tmp_path):
    need(containers.why_not())
    containers.build_images()
    commands, = re.findall(r"^```sh not-run\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    for name in ("net", "home", "controller", "folder"):
        commands = commands.replace(f"covey-{name}", f"coveytest{os.getpid()}-{name}")
    first, second, third = re.split(r"^(?=docker run --rm)", commands, flags=re.M)
    try:
        containers.shell(first, tmp_path, timeout=120)
        wait_until(lambda: controllers_listening(tmp_path) == 1, 60, "the first controller")  # for who types faster than it starts
        said = containers.shell(second, tmp_path, timeout=120)
        wait_until(lambda: controllers_listening(tmp_path) == 2, 60, "the second controller")
        said += containers.shell(third, tmp_path, timeout=120)
        assert said.count("[0, 1]\n") == 2, said
        assert containers.left() == {}
    finally:
        containers.remove()


def controllers_listening(folder) -> int:
    return containers.shell('for id in $(docker ps -q --filter label=$LABEL); do docker logs $id 2>&1; done', folder).count("listening on")
