"""The wall clock is set while a cluster works: nothing that waits, and no duration, goes by it."""
import os
import struct
import subprocess
import sysconfig
from datetime import datetime
from pathlib import Path

import pytest

from .conftest import wait_until
from .test_links import PINGS, Field, away

HOUR = 3600.0


@pytest.fixture
def clock(tmp_path, ipython_dir, monkeypatch):
    """Programs that are started have a wall clock that `clock(seconds)` sets off."""
    if "LD_PRELOAD" in os.environ:
        pytest.skip("the sanitizers' runtime is preloaded already")
    library, off = tmp_path / "clock.so", tmp_path / "off"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("clock.c"), "-ldl"], check=True, timeout=60)
    off.write_bytes(struct.pack("d", 0))

    def set_off(seconds):
        with open(off, "r+b", 0) as f:
            f.write(struct.pack("d", seconds))

    ipython_dir.update(LD_PRELOAD=str(library), COVEY_TEST_CLOCK=str(off))
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    return set_off


def until_exists(path, mark):
    import os
    import time

    began = time.time()
    open(mark, "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return began, time.time()


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forth", "back"])
def test_the_clock_is_set_while_an_engine_is_away(clock, ipython_dir, tmp_path, jump):
    f = Field(ipython_dir, 2, controller_args=[*PINGS, "--IPController.away_grace=60", "--IPController.client_grace=60"])
    try:
        rc = f.rc
        view = rc.load_balanced_view()
        ars = [rc[i].apply_async(until_exists, str(tmp_path / "go"), str(tmp_path / f"runs-{i}")) for i in range(2)]
        wait_until(lambda: len(list(tmp_path.glob("runs-*"))) == 2, what="both tasks running")
        with view.temp_flags(timeout=60):
            queued = [view.apply_async(abs, -i) for i in range(4)]
        f.engines.stall()
        wait_until(lambda: len(away(rc)) == 2, what="both engines being away")
        clock(jump)
        assert rc.queue_status()["unassigned"] >= 2  # a turn of the controller's loop, and its timers
        assert rc.ids == [0, 1] and not any(ar.done() for ar in [*ars, *queued])
        f.engines.flow()
        wait_until(lambda: not away(rc), what="both engines being back")
        (tmp_path / "go").touch()
        for ar in ars:
            began, ended = ar.get(30)
            assert abs(ended - began) > HOUR / 2  # the clock was set while it ran
            took = (ar.metadata["completed"] - ar.metadata["started"]).total_seconds()
            assert 0 < took < HOUR / 2
        assert [ar.get(30) for ar in queued] == list(range(4))
        assert abs((rc[0].apply_sync(datetime.now) - datetime.now()).total_seconds()) > HOUR / 2
    finally:
        f.stop()
