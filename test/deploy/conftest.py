# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the deployment tests. They run where there are root's rights and the real programs; elsewhere they are skipped with what is
missing, or fail when REQUIRE_DEPLOY is set, so that a machine that is known to have everything does not pass by skipping."""
import contextlib
import os
import re

import pytest

from ..waiting import wait_until  # noqa: F401
from .boxes import REPOSITORY, Boxes, why_not


def need(reason):
    """Skips the test for this reason, if there is one."""
    if reason and os.environ.get("REQUIRE_DEPLOY"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture
def machines(tmp_path):
    """machines("laptop", "host1", …): that many boxes, on until the test ends."""
    with contextlib.ExitStack() as stack:
        def make(*names, needs=(), **options):
            need(why_not(*needs))
            return stack.enter_context(Boxes(tmp_path / "boxes", names, **options))
        yield make


def blocks(page, language):
    """The fenced blocks of docs/deploying/PAGE.md in a language, in order."""
    text = (REPOSITORY / "docs/deploying" / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
