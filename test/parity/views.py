# SPDX-License-Identifier: BSD-3-Clause
"""Rows 4.4 to 4.7: views."""
from __future__ import annotations

import contextlib
import io
import itertools
import os
import time
import warnings

import numpy as np

import covey as ipp
from test.system.stack import until_all_are_there

from ..waiting import wait_until
from .ground import Ground, raises, row


@row("P045", "P046", "P047")
def the_apply_family(t: Ground) -> None:
    assert t.v.apply_async(lambda **k: k, f=5).get() == [{"f": 5}] * 2
    assert isinstance(t.v.apply(int), ipp.AsyncResult)
    t.v.block = True
    assert t.v.apply(int) == [0, 0]
    assert t.v.apply_sync(lambda: "Hello, World") == ["Hello, World"] * 2 and t.e0.apply_sync(lambda: 5) == 5
    assert isinstance(t.v.apply_async(os.getpid), ipp.AsyncResult)


@row("P048")
def the_map_family(t: Ground) -> None:
    for view in (t.v, t.lv):
        raises(TypeError, view.map_sync, abs, [1], block=True)
        raises(TypeError, view.map_async, abs, [1], block=True)
        assert view.map_sync(abs, [-1, -2, 3]) == [1, 2, 3] and view.map_async(abs, [-1]).get() == [1]
        assert list(view.imap(abs, [-1, -2])) == [1, 2]


@row("P049", "P050", "P051")
def flags(t: Ground) -> None:
    raises(KeyError, t.v.set_flags, nonsense=1)
    assert t.v.set_flags(label="a") is t.v and t.v.apply_async(int).metadata[0]["label"] == "a"
    before = t.v.block
    with t.v.temp_flags(block=True, label="b"):
        assert t.v.block is True and t.v.apply(int) == [0, 0]
    assert t.v.block is before and t.v.label == "a"
    for name in ("block", "track", "targets", "label"):
        getattr(t.v, name)
    for name in ("follow", "after", "timeout", "retries"):
        getattr(t.lv, name)
    t.rc.block = True
    assert t.rc[:].block is True


@row("P052", "P053")
def what_a_view_remembers(t: Ground) -> None:
    ar = t.v.apply_async(os.getpid)
    assert t.v.history[-2:] == ar.msg_ids and t.v.client is t.rc
    assert t.v.wait(ar, 60) and t.v.get_result(-1).get(30) is not None and not t.v.outstanding
    assert set(t.e0.queue_status()) == {"queue", "tasks", "completed"}
    (busy, let_busy_go), (elsewhere, let_elsewhere_go) = t.held(t.e0), t.held(t.rc[1])
    queued = t.e0.apply_async(int)
    t.e0.abort(queued)
    raises(ipp.TaskAborted, queued.get, 30)
    let_busy_go(), let_elsewhere_go()
    assert busy.get(30) is None and elsewhere.get(30) is None
    kept = t.rc.get_result(ar.msg_ids, owner=False)
    kept.get(30)
    t.v.purge_results("all")
    assert not set(ar.msg_ids) & {*t.rc.results, *t.rc.hub_history()}
    stopped = t.cluster(2)
    stopped[1].shutdown(block=True)
    wait_until(lambda: stopped.ids == [0], what="the engine's end")


@row("P054", "P117", "P118")
def decorators(t: Ground) -> None:
    @t.v.remote(block=True)
    def here(x: int) -> int:
        """Says x."""
        return x

    assert here(3) == [3, 3] and here.__name__ == "here" and here.__doc__.startswith("RemoteFunction wrapping:")
    assert "x" in str(here.__signature__)

    @t.v.parallel(block=True)
    def double(part: list) -> list:
        return [2 * x for x in part]

    assert double([1, 2, 3]) == [2, 4, 6]

    @ipp.parallel(t.lv, block=True)
    def one(x: int) -> int:
        return x + 1

    assert one.map([1, 2]) == [2, 3]
    raises(ValueError, ipp.parallel(t.v, block=True)(lambda a, b: a), [1, 2], [1, 2, 3])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert ipp.parallel(t.v, block=True, chunksize=2)(lambda part: list(part))([1, 2, 3]) == [1, 2, 3]
    assert any(w.category is UserWarning for w in seen)
    assert ipp.remote(t.e0, block=True)(lambda: 4)() == 4


@row("P055")
def views_shown(t: Ground) -> None:
    assert repr(t.v) == "<DirectView [0, 1]>" and repr(t.rc.direct_view()) == "<DirectView all>"
    assert len(t.v) == 2 and len(t.lv) == 2 and len(t.e0) == 1
    assert repr(t.rc.direct_view([0, 1] * 4)) == "<DirectView [0, 1, 0, 1,...]>"


@row("P058")
def queued_cells_after_an_error(t: Ground) -> None:
    go = t.tmp / "go"
    t.e0.execute("import os, time", block=True)
    bad = t.e0.execute(f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n1/0", silent=False, block=False)
    queued = t.e0.execute("a = 1", silent=False, block=False)
    until_all_are_there(t.e0)
    go.touch()
    raises(ipp.RemoteError, bad.get, 30)
    raises(ipp.TaskAborted, queued.get, 30)
    bad = t.e0.execute("time.sleep(0.2); 1/0", silent=True, block=False)
    after = t.e0.execute("a = 1", block=False)
    raises(ipp.RemoteError, bad.get, 30)
    after.get(30)


@row("P059")
def running_a_file(t: Ground) -> None:
    (t.tmp / "s.py").write_text("a = 41\nif a:\n    a += 1")
    t.v.run(str(t.tmp / "s.py"), block=True)
    assert t.v["a"] == [42, 42]


@row("P060", "P061")
def push_and_pull(t: Ground) -> None:
    raises(TypeError, t.v.push, ["a"])
    t.v.push({"a": 5, "x": [1, 2]}, block=True)
    t.v.update({"b": 6})
    t.v["d"] = {}
    t.v["d['k']"] = 7
    assert t.v["a"] == [5, 5] and t.v["x"][0] == [1, 2] and t.v.get("a + b") == [11, 11]
    assert t.v.pull(["a", "b"], block=True) == [[5, 6]] * 2 and t.e0.pull("d", block=True) == {"k": 7}
    assert t.v.pull(("a",), targets=1, block=True) == [5]
    raises(TypeError, t.v.pull, 5)


@row("P062", "P063")
def scatter_and_gather(t: Ground) -> None:
    assert t.v.scatter("a", [1, 2, 3], block=True) is None and t.v["a"] == [[1, 2], [3]]
    assert isinstance(t.v.gather("a"), ipp.AsyncMapResult) and t.v.gather("a", block=True) == [1, 2, 3]
    t.v.scatter("r", list(range(5)), dist="r", block=True)
    assert t.v["r"] == [[0, 2, 4], [1, 3]] and t.v.gather("r", dist="r", block=True) == list(range(5))
    t.v.scatter("one", [7, 8], flatten=True).get()
    assert t.v["one"] == [7, 8]
    t.v.scatter("n", np.arange(6.0), block=True)
    assert isinstance(t.e0["n"], np.ndarray) and (t.v.gather("n", block=True) == np.arange(6.0)).all()
    t.v.scatter("ranges", range(4), block=True)
    assert t.v.gather("ranges", block=True) == [range(2), range(2, 4)]
    t.v.scatter("t", (1, 2, 3), block=True)
    assert t.v["t"] == [(1, 2), (3,)]


@row("P064")
def imports(t: Ground) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        with t.v.sync_imports():
            import colorsys  # noqa: F401
        with t.v.importer:
            import textwrap  # noqa: F401
    assert "importing colorsys on engine(s)" in out.getvalue() and t.v.apply_sync(ipp.interactive(lambda: "colorsys" in globals())) == [True] * 2
    with contextlib.redirect_stdout(io.StringIO()) as out, t.v.sync_imports(quiet=True):
        import bisect  # noqa: F401
    assert out.getvalue() == ""

    def later() -> None:
        with t.v.sync_imports(local=False):
            pass
    raises(NotImplementedError, later)


@row("P065", "P125")
def serializers(t: Ground) -> None:
    for name in ("use_dill", "use_cloudpickle", "use_pickle"):
        getattr(t.v, name)()
        y = 4
        assert t.v.apply_sync(lambda x: x + y, 1) == [5, 5], name
        there = t.v.apply_sync(lambda: __import__("covey").serialize.serialize_object(print)[0])
        assert bytes(there[0]) == bytes(there[1]) == bytes(ipp.serialize.serialize_object(print)[0]), name
    ipp.use_cloudpickle()
    ipp.use_dill()
    ipp.use_pickle()


@row("P068", "P069")
def direct_maps(t: Ground) -> None:
    assert t.v.map_sync(abs, []) == [] and t.v.map_async(abs, []) == []
    assert t.v.map_sync(lambda a, b: a + b, range(4), range(4)) == [0, 2, 4, 6]
    assert len(t.v.map_async(abs, range(10)).msg_ids) == 2
    raises(TypeError, t.v.map, abs, range(4), chunksize=2)
    got = t.v.map_sync(lambda x: 1 / x, range(4), return_exceptions=True)
    assert len(got) == 3 and isinstance(got[0], ipp.RemoteError) and got[1:] == [1 / 2, 1 / 3]


@row("P071", "H046")
def arrays(t: Ground) -> None:
    for a in (np.zeros(10), np.arange(200_000), np.array([{"a": 1}, None], dtype=object),
              np.zeros(5, dtype=[("n", "<i4"), ("s", "<f8")])):
        t.v["a"] = a
        back = t.e0["a"]
        assert back.dtype == a.dtype and (back == a).all() and back.flags.writeable
        t.v.execute("a[0] = a[-1]", block=True)
    assert t.e0.apply_sync(lambda b: (type(b).__name__, len(b)), b"x" * 100_000) == ("bytes", 100_000)
    assert t.e0.apply_sync(lambda m: bytes(m[:2]), memoryview(b"abc")) == b"ab"


@row("P072", "P095")
def tracking(t: Ground) -> None:
    t.v.track = True
    ar = t.v.push({"a": np.zeros(200_000)}, block=False)
    ar.wait_for_send(10)
    assert ar.sent
    ar.get(30)


@row("P073")
def one_engine(t: Ground) -> None:
    ar = t.lv.apply_async(os.getpid)
    assert ar.get(30) == t.rc[ar.engine_id].apply_sync(os.getpid)


@row("P074", "P111", "P112", "P097")
def balanced_maps(t: Ground) -> None:
    ar = t.lv.map_async(lambda x: x * x, range(10), chunksize=3)
    assert isinstance(ar, ipp.AsyncMapResult) and len(ar.msg_ids) == 4 and len(ar) == 10
    assert ar.get(30) == [x * x for x in range(10)] and ar.progress == 10
    assert t.lv.map_sync(lambda a, b: a * b, range(5), [1, 2]) == [0, 2]
    assert t.lv.map_sync(abs, (x for x in (-1, -2))) == [1, 2]
    assert sorted(t.lv.map_async(abs, range(6), ordered=False)) == list(range(6))
    got = t.lv.map(lambda x: 1 / x, range(3), return_exceptions=True).get(30)
    assert isinstance(got[0], ipp.RemoteError) and got[1:] == [1, 0.5]
    assert (t.v.map_sync(lambda x: np.array([x]), range(2))[0] == np.array([0])).all()


@row("P075", "P115")
def lazy_maps(t: Ground) -> None:
    it = t.lv.imap(lambda x: x + 1, itertools.count())
    assert [next(it) for _ in range(5)] == [1, 2, 3, 4, 5]
    it.cancel()
    taken = []

    def inputs():
        for i in range(100):
            taken.append(i)
            yield i
    it = t.lv.imap(abs, inputs(), max_outstanding=3)
    assert len(taken) <= 3 and next(it) == 0
    it.cancel()
    assert sorted(t.lv.imap(abs, range(5), ordered=False, max_outstanding=0)) == list(range(5))

    def broken():
        yield 1
        raise ValueError("input")
    assert "input" in str(raises(ValueError, list, t.lv.imap(abs, broken())))


@row("P076", "H018")
def after_and_follow(t: Ground) -> None:
    first = t.lv.apply_async(time.sleep, 0.2)
    with t.lv.temp_flags(after=first):
        second = t.lv.apply_async(int)
    second.get(30)
    assert second.started >= first.completed
    with t.lv.temp_flags(follow=first.msg_ids):
        assert t.lv.apply_async(int).engine_id in (None, first.engine_id)
    with t.lv.temp_flags(follow=[first]):
        ar = t.lv.apply_async(int)
        ar.get(30)
        assert ar.engine_id == first.engine_id
    raises(ValueError, t.lv.set_flags, after=5.5)
    with t.lv.temp_flags(after=["no-such-task"]):
        raises(ipp.InvalidDependency, lambda: t.lv.apply_async(int).get(30))
    bad = t.lv.apply_async(lambda: 1 / 0)
    bad.wait(30)
    with t.lv.temp_flags(after=ipp.Dependency(bad, success=True, failure=False)):
        raises(ipp.ImpossibleDependency, lambda: t.lv.apply_async(int).get(30))
    with t.lv.temp_flags(after=ipp.Dependency(bad, success=False, failure=True)):
        assert t.lv.apply_async(int).get(30) == 0


@row("P077")
def timeouts(t: Ground) -> None:
    busy, go = t.held(t.v)
    with t.lv.temp_flags(timeout=0.1):
        raises(ipp.TaskTimeout, lambda: t.lv.apply_async(int).get(30))
    raises(ValueError, t.lv.set_flags, timeout=-1)
    go()
    busy.get(30)


@row("P078")
def retries(t: Ground) -> None:
    path = str(t.tmp / "count")

    def failing(path: str) -> None:
        with open(path, "a") as f:
            f.write("x")
        raise ValueError("again")
    with t.lv.temp_flags(retries=2):
        raises(ValueError, t.lv.apply_async(failing, path).get, 20)
    assert open(path).read() == "xxx"

    def where() -> None:
        import os
        raise ValueError(os.getpid())
    with t.lv.temp_flags(retries=1):
        last = int(raises(ValueError, t.lv.apply_async(where).get, 20).evalue)
    pids = t.v.apply_sync(os.getpid)
    assert last in pids
    raises((TypeError, ValueError), t.lv.set_flags, retries="x")


@row("P080")
def labels(t: Ground) -> None:
    with t.lv.temp_flags(label="mine"):
        ar = t.lv.apply_async(int)
    ar.get(30)
    assert ar.metadata.label == "mine" and t.rc.db_query({"msg_id": ar.msg_ids[0]}, keys="label")[0]["label"] == "mine"
    assert t.lv.map_async(abs, [1], label="m").metadata[0]["label"] == "m"
    assert t.e0.execute("1", label="e").metadata["label"] == "e"


@row("P081", "H015", "C076", "K086", "H012", "H013", "H014")
def schemes(t: Ground) -> None:
    from test.system.stack import Stack

    for scheme in ("lru", "plainrandom", "twobin", "weighted", "pure", "leastload"):
        stack = Stack(t.environment(scheme), controller_args=[f"--scheme={scheme}"])
        try:
            lv = stack.rc.load_balanced_view()
            assert lv.map_sync(abs, range(-20, 0)) == list(range(20, 0, -1)), scheme
        finally:
            stack.stop()


@row("P082", "P129")
def joblib_backends(t: Ground) -> None:
    import joblib

    t.lv.register_joblib_backend("parity")
    with joblib.parallel_backend("parity"):
        assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(10)) == list(range(10))
    ipp.register_joblib_backend("parity2")
    with joblib.parallel_backend("parity2", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(pow)(i, 2) for i in range(4)) == [0, 1, 4, 9]


@row("P083", "P085", "P086", "P087")
def broadcast_views(t: Ground) -> None:
    pids = t.v.apply_sync(os.getpid)
    assert t.b.apply_sync(os.getpid) == pids
    assert t.b.map_sync(lambda x: x + 1, range(7)) == list(range(1, 8))
    t.b.scatter("a", [1, 2, 3], block=True)
    assert t.b.gather("a", block=True) == [1, 2, 3]
    t.b.execute("b = 1", label="x").get(30)
    assert t.b["b"] == [1, 1]
    with t.b.temp_flags(label="wide"):
        assert t.b.apply_async(int).metadata[0]["label"] == "wide"


@row("P084")
def coalescing(t: Ground) -> None:
    b = t.rc.broadcast_view(is_coalescing=True)
    assert sorted(b.apply_sync(os.getpid)) == sorted(t.v.apply_sync(os.getpid))
    t.v.scatter("rank", [0, 1], flatten=True, block=True)
    b.execute("import time", block=True)
    ar = b.apply_async(ipp.interactive(lambda: 1 // rank and __import__("time").sleep(0.2)))  # noqa: F821
    e = raises((ipp.RemoteError, ipp.CompositeError), ar.get, 30)
    assert "ZeroDivisionError" in str(e), "the failed engine is told"
