# SPDX-License-Identifier: BSD-3-Clause
"""Each check of the rows as a test, and rows.txt against the checks."""
import os
import re
import signal

import pytest

from . import CHECKS, Ground, rows, run_check
from .ground import ROOT

BY_CHECK: dict = {}
for _id, _check in CHECKS.items():
    BY_CHECK.setdefault(_check, []).append(_id)
LISTED = rows()


@pytest.fixture(scope="module")
def ground():
    before = os.environ.get("IPYTHONDIR")
    made = Ground()
    yield made
    made.close()
    os.environ.pop("IPYTHONDIR") if before is None else os.environ.update(IPYTHONDIR=before)


def _parameter(check, ids):
    words = [LISTED[i][1] for i in ids if LISTED.get(i, ("",))[0] == "open"]
    marks = [pytest.mark.xfail(strict=True, reason="; ".join(words))] if words else []
    return pytest.param(check, id="-".join([check.__name__, *ids]), marks=marks)


@pytest.mark.parametrize("check", [_parameter(c, ids) for c, ids in BY_CHECK.items()])
def test_row(ground, check):
    with ground.for_check():
        check(ground)


def test_a_check_that_fails_takes_no_other_along(ground):
    def disturbed(t):
        for pid in t.v.apply_sync(os.getpid):
            os.kill(pid, signal.SIGKILL)
        raise AssertionError("as it should")
    assert "as it should" in run_check(ground, disturbed)
    assert run_check(ground, CHECKS["P045"]) is None


def test_rows_are_the_checks():
    """`python -m test.parity --write` after a change of the checks."""
    checked = {id: words for id, (status, words) in LISTED.items() if status == "check"}
    assert checked == {id: f"{c.__module__.rpartition('.')[2]}.{c.__name__}" for id, c in CHECKS.items()
                       if LISTED.get(id, ("check",))[0] != "open"}


def test_what_is_told_is_in_the_document():
    """The words of a row that is only told begin with `words in backquotes` of docs/differences.md."""
    text = (ROOT / "docs" / "differences.md").read_text()
    for id, (status, words) in LISTED.items():
        if status == "told":
            quoted = re.findall(r"`([^`]+)`", words)
            assert quoted and all(q in text for q in quoted), f"{id}: {words}"
