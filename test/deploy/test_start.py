# SPDX-License-Identifier: BSD-3-Clause
"""From `ipcluster start` to the last engine usable on two ssh hosts, beside ipyparallel with the same recipe (bench/ssh_start.py), which pip
puts into the bench's environment of its own. A ratio of one run: what else the machine does slows both."""
import sys

import pytest

from .boxes import REPOSITORY, why_not
from .conftest import need

sys.path.insert(0, str(REPOSITORY / "bench"))

import env  # noqa: E402
import ssh_start  # noqa: E402

MOST = 0.25


@pytest.mark.peer
@pytest.mark.timeout(env.INSTALL_SECONDS + 600)
def test_at_most_a_quarter_of_ipyparallels_time(capsys):
    need(why_not())
    found = env.provide(["stock"])
    words = capsys.readouterr().err
    need(None if found else f"ipyparallel can't be had from PyPI: {words}")
    medians = ssh_start.measure(env.ENV, rounds=1)
    with capsys.disabled():
        print(f"\nseconds from ipcluster start to eight engines usable on two ssh hosts, ipyparallel {found['stock']} beside: {medians}")
    assert medians["ratio"] <= MOST, medians
