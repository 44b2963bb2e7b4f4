# SPDX-License-Identifier: BSD-3-Clause
"""Each message of the table in docs/errors.md is provoked here, and is what the program says."""
import os
import re
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import covey as ipp
import pytest
from covey import _tasktable

from .conftest import wait_until
from .stack import Stack, until_all_are_there, until_exists
from .test_errors import HUGE
from .test_links import PINGS, Field, away

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
PROVOKED = {}  # the beginning of a message: what makes the program say it


def messages():
    """The messages of the table's first column, as they stand there."""
    rows = re.findall(r"^\| (`.*?`) \| ", PAGE.read_text(), re.M)
    return [m for row in rows for m in re.findall(r"`([^`]+)`", row)]


def says(message):
    """A function that provokes the message whose beginning this is: (t) -> the text, or what raises it."""
    def note(f):
        PROVOKED[message] = f
        return f
    return note


def told(error):
    """An exception as people read it: its type, its text."""
    if isinstance(error, ipp.RemoteError):
        return f"{error.ename}: {error.evalue}"
    return f"{type(error).__name__}: {error}".removesuffix(": ")


class Ground:
    """Starts what a message needs; `end()` ends it."""

    def __init__(self, env):
        self.env, self.made = env, []

    def stack(self, n=1, *controller_args, kind=Stack):
        self.made.append(kind(self.env, n, controller_args=controller_args))
        return self.made[-1]

    def end(self):
        for stack in self.made:
            stack.stop()


@pytest.fixture
def ground(ipython_dir, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    made = Ground(ipython_dir)
    yield made
    made.end()


@says("NameError: name 'np'")
def name_error(t):
    t.stack().rc[0].apply_sync(ipp.interactive(lambda: np.zeros(1)))


@says("ModuleNotFoundError:")
def module(t):
    t.stack().rc[0].execute("import helpers", block=True)


@says("EngineError: engine … (host")
def death(t):
    t.stack().rc[0].apply_sync(lambda: __import__("os").kill(__import__("os").getpid(), 9))


@says("EngineError: engine … can't be used")
def dead(t):
    view = t.stack(2).rc[0]
    with pytest.raises(ipp.EngineError):
        view.apply_sync(os._exit, 3)
    view.apply_async(abs, 1)


@says("IndexError: no engine")
def no_such_engine(t):
    t.stack().rc[7]


@says("TaskAborted: aborted")
def aborted(t):
    view = t.stack().rc[0]
    view.apply_async(time.sleep, 600)
    ar = view.apply_async(abs, 1)
    ar.abort()
    ar.get(30)


@says("TaskAborted: an earlier cell")
def earlier_cell(t):
    view, go = t.stack().rc[0], Path(t.env["IPYTHONDIR"], "go")
    view.push({"until_exists": until_exists}, block=True)
    view.execute(f"until_exists({str(go)!r}); 1 / 0", silent=False)
    ar = view.execute("1", silent=False)
    until_all_are_there(view)
    go.touch()
    ar.get(30)


@says("CancelledError")
def cancelled(t):
    ar = t.stack().rc[0].apply_async(time.sleep, 600)
    ar.cancel()
    ar.get(30)


@says("TaskTimeout:")
def late(t):
    rc = t.stack().rc
    rc[0].apply_async(time.sleep, 600)
    wait_until(lambda: rc.queue_status(0)["tasks"] + rc.queue_status(0)["queue"], what="the engine being busy")
    rc.load_balanced_view().set_flags(timeout=0.1, targets=[0]).apply_async(abs, 1).get(30)


@says("ImpossibleDependency: a task that")
def failed_dependency(t):
    lv = t.stack().rc.load_balanced_view()
    failed = lv.apply_async(lambda: 1 / 0)
    with pytest.raises(ipp.ImpossibleDependency) as e:
        lv.set_flags(after=failed).apply_sync(abs, 1)
    assert failed.msg_ids[0] in str(e.value)
    raise e.value


@says("InvalidDependency: it depends")
def unknown_dependency(t):
    with pytest.raises(ipp.InvalidDependency) as e:
        t.stack().rc.load_balanced_view().set_flags(after="0123456789abcdef_7").apply_sync(abs, 1)
    assert "0123456789abcdef_7" in str(e.value)
    raise e.value


@says("UnmetDependency: the engine")
def unmet(t):
    t.stack().rc[0].apply_sync(ipp.depend(lambda: False)(abs), 1)


@says("ImpossibleDependency: no engine is left")
def unmet_everywhere(t):
    t.stack().rc.load_balanced_view().apply_sync(ipp.require("helpers")(abs), 1)


@says("NoEnginesRegistered:")
def nobody(t):
    rc = t.stack().rc
    rc.shutdown(block=True)
    rc.direct_view("all").apply_async(abs, 1)


@says("TimeoutError: the result is not ready after … s: waiting for engines")
def nobody_yet(t):
    rc = t.stack().rc
    rc.shutdown(block=True)
    rc.load_balanced_view().apply_async(abs, 1).get(0.1)


@says("TimeoutError: the result is not ready after … s: waiting for engine …")
def cut_off(t):
    f = t.stack(1, *PINGS, kind=Field)
    f.engines.stall()
    ar = f.rc[0].apply_async(abs, 1)
    wait_until(lambda: away(f.rc), what="the engine being away")
    wait_until(lambda: "waiting for engine" in repr(ar), what="a client that has its own link")
    ar.get(0.1)


@says("ResultExpired:")
def expired(t):
    s = t.stack(1, "--DictDB.record_limit=2")
    ars = [s.rc[0].apply_async(abs, i) for i in range(9)]
    s.rc.wait(ars, 30)
    with ipp.Client(s.client_file) as other:
        other.get_result(ars[0].msg_ids[0]).get(30)


@says("NoData:")
def no_data(t):
    t.stack(1, "--nodb").rc.hub_history()


@says("TypeError: can't send")
def lock(t):
    t.stack().rc[0].apply_async(max, {"a": [threading.Lock()]})


@says("ValueError: the result")
def huge(t):
    rc = t.stack().rc
    rc[0].execute(HUGE, block=True)
    rc[0].apply_sync(ipp.Reference("huge"))


@says("UserWarning:")
def captured(t):
    weights = bytes(3 << 20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t.stack().rc[0].apply_sync(lambda: len(weights))
    raise caught[0].message


@says("TaskRefused:")
def other_python(t):
    view = t.stack().rc[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tasktable, "_BY_VALUE", {"python": "3.99"})
        view.apply_sync(lambda: 1)


@says("StdinNotImplementedError:")
def stdin(t):
    t.stack().rc[0].apply_sync(input)


@says("OSError: no Controller")
def no_profile(t):
    ipp.Client(profile="nowhere")


@says("OSError: connection file")
def no_file(t):
    os.makedirs(os.path.join(t.env["IPYTHONDIR"], "profile_default"), exist_ok=True)
    ipp.Client(timeout=0.1)


@says("ConnectionRefusedError:")
def stale(t):
    s = t.stack()
    s.processes[0].send_signal(signal.SIGKILL)
    s.processes[0].wait()
    ipp.Client(s.client_file, timeout=60)


def provoker(message):
    """The function for a message: of those whose beginning fits, the one that says most."""
    return PROVOKED[max((m for m in PROVOKED if message.startswith(m)), key=len)]


def test_the_page_and_this_file_name_the_same_messages():
    page = messages()
    assert len(page) == len(PROVOKED) and {provoker(m) for m in page} == set(PROVOKED.values())


@pytest.mark.parametrize("message", messages())
def test_message(message, ground):
    pattern = ".*".join(re.escape(part) for part in message.split("…"))
    with pytest.raises(BaseException) as e:
        provoker(message)(ground)
    assert re.match(pattern, told(e.value), re.S), told(e.value)
    if message.startswith("NameError"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules["__main__"], "np", re, raising=False)
            assert "%px import re as np" in str(e.value)
