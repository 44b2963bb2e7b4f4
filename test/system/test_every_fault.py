"""A few of the calls that whole programs make, failing; nth.py says what must hold. `make faults` has each fail in turn."""
import os
import random

import pytest

from . import nth

SEED = int(os.environ.get("COVEY_FAULT_SEED", "1"))
EACH = 2  # failing calls of a group


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    if os.environ.get("COVEY_TEST_PRELOAD"):
        pytest.skip("the sanitizers' runtime is preloaded already")
    return nth.build_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("kinds", ["m", "o", "wsfc"], ids=["memory", "descriptors", "the rest"])
@pytest.mark.parametrize("scenario", nth.SCENARIOS)
def test_a_call_fails(shim, scenario, kinds):
    calls, _, wrong = nth.run(scenario, shim, kinds, 0)
    assert not wrong, wrong
    assert calls > EACH
    pick = random.Random(f"{SEED} {scenario} {kinds}")
    for n in sorted(pick.sample(range(1, calls + 1), EACH)):
        _, _, wrong = nth.run(scenario, shim, kinds, n)
        assert not wrong, wrong


def test_what_is_wrong_is_said(shim, monkeypatch):
    """A program that is ended by a signal, and the place of a call that fails."""
    def killed(ground, failing):
        p = ground.start("ipcontroller", env=failing.env)
        nth.until_up(p, ground.client_file.exists)
        p.kill()
        nth.check_end(p, failing)
    monkeypatch.setitem(nth.SCENARIOS, "killed", ("ipcontroller", killed))
    _, _, wrong = nth.run("killed", shim, "c", 0)
    assert "ended by signal 9" in wrong and "left behind" not in wrong
    _, what, wrong = nth.run("controller", shim, "c", 1)
    assert what.startswith(("bind(", "listen(")) and "ipcontroller+0x" in what and not wrong, what
