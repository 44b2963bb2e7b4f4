# SPDX-License-Identifier: BSD-3-Clause
"""Rows 4.8 to 4.10: results, executors, functions, dependencies, serialization, errors."""
from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import os
import sys
import time

import numpy as np

import covey as ipp

from ..waiting import wait_until
from .ground import Ground, raises, row


@row("P089", "P116")
def futures(t: Ground) -> None:
    ar = t.lv.apply_async(pow, 2, 4)
    assert isinstance(ar, concurrent.futures.Future) and ar.result(30) == 16 and ar.exception() is None and ar.done()
    seen: list[int] = []
    later = t.lv.apply_async(lambda: 3)
    later.add_done_callback(lambda f: seen.append(f.result()))
    wait_until(lambda: seen == [3], what="the callback")

    async def main() -> int:
        return await asyncio.wrap_future(t.lv.apply_async(pow, 2, 5)) + await t.lv.apply_async(int)
    assert asyncio.run(main()) == 32
    ars = [t.lv.apply_async(abs, -i) for i in range(4)]
    done, rest = concurrent.futures.wait(ars, 60)
    assert len(done) == 4 and not rest
    assert (ipp.ALL_COMPLETED, ipp.FIRST_COMPLETED, ipp.FIRST_EXCEPTION) == (
        concurrent.futures.ALL_COMPLETED, concurrent.futures.FIRST_COMPLETED, concurrent.futures.FIRST_EXCEPTION)


@row("P090", "P092", "P093")
def getting(t: Ground) -> None:
    ar, go = t.held(t.e0)
    raises(TimeoutError, ar.get, 0)
    raises(RuntimeError, ar.successful)
    assert not ar.ready() and ar.wait(0.01) is False
    go()
    assert ar.wait() is True and ar.ready() and ar.successful()
    assert ar.get() is None and ar.get() is None
    bad = t.v.apply_async(lambda: 1 / 0)
    raises(ipp.CompositeError, bad.get, 30)
    assert all(isinstance(x, ipp.RemoteError) for x in bad.get(return_exceptions=True)) and not bad.successful()
    t.v.scatter("rank", [0, 1], flatten=True, block=True)
    one = t.v.apply_async(ipp.interactive(lambda: 1 // rank and __import__("time").sleep(600)))  # noqa: F821
    raises(ipp.RemoteError, one.get, 60, return_when=ipp.FIRST_EXCEPTION)
    done, pending = one.wait(60, return_when=ipp.FIRST_EXCEPTION)
    assert len(done) == len(pending) == 1
    t.rc.send_signal("SIGINT", targets=1, block=True)
    raises(ipp.RemoteError, one.get, 30)


@row("P091")
def by_engine(t: Ground) -> None:
    assert t.v.apply_async(lambda: 5).get_dict(60) == {0: 5, 1: 5} == t.v.apply_async(lambda: 5).result_dict
    assert t.v.apply_async(lambda: 5).r == [5, 5]
    lv = t.rc.load_balanced_view([0])
    raises(ValueError, ipp.AsyncResult.join(lv.apply_async(int), lv.apply_async(int)).get_dict, 10)


@row("P094")
def waiting_for_output(t: Ground) -> None:
    ar = t.v.execute("print('out')")
    assert ar.wait_for_output(60) is True and ar.stdout == ["out\n"] * 2


@row("P098", "P099")
def times(t: Ground) -> None:
    ar, go = t.held(t.v)
    raises(TimeoutError, lambda: ar.wall_time)
    raises(TimeoutError, lambda: ar.serial_time)
    go()
    ar.get(30)
    ar = t.v.apply_async(time.sleep, 0.2)
    ar.get(30)
    assert 0.4 <= ar.serial_time <= 2 * ar.wall_time and ar.elapsed >= 0.2
    assert 0 <= ar.timedelta(ar.submitted, ar.received) <= ar.wall_time


@row("P101", "P102", "P103")
def items(t: Ground) -> None:
    ar = t.v.apply_async(lambda: 5)
    ar.wait(30)
    assert ar[0] == 5 and ar[:] == [5, 5] and list(ar) == [5, 5]
    raises(TypeError, ar.__getitem__, 1.5)
    raises(TypeError, iter, t.e0.apply_async(int))
    slow, _ = t.held(t.v)
    raises(TimeoutError, slow.__getitem__, 0)
    slow.cancel()
    parts = ar.split()
    assert len(parts) == 2 and ipp.AsyncResult.join(*parts).get(30) == [5, 5]
    raises(ValueError, ipp.AsyncResult.join)
    got: list[int] = []

    def collect() -> None:
        for r in t.lv.map_async(lambda x: 1 // (2 - x), range(4)):
            got.append(r)
    raises(ipp.RemoteError, collect)
    assert got == [0, 1]


@row("P105", "P106")
def output(t: Ground) -> None:
    out = io.StringIO()
    ar = t.e0.execute("import time\nprint('early', flush=True); time.sleep(0.2); print('late')", silent=False, block=False)
    with contextlib.redirect_stdout(out), ar.stream_output():
        ar.wait(30)
    assert "early" in out.getvalue() and "late" in out.getvalue() and "[stdout:0]" in out.getvalue()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        t.e0.execute("pass", silent=False, block=True).display_outputs()
    assert out.getvalue() == "", "no output, no line"
    ar = t.v.execute("import sys\nprint('o'); print('e', file=sys.stderr)\n7", silent=False, block=True)
    for by in ("type", "engine", "order"):
        a, b = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(a), contextlib.redirect_stderr(b):
            ar.display_outputs(by)
        assert "[stdout:0]" in a.getvalue() and "[stderr:1]" in b.getvalue() and "7" in a.getvalue(), by
    raises(ValueError, ar.display_outputs, "colour")
    slow, _ = t.held(t.e0)
    raises(TimeoutError, slow.display_outputs)


@row("P107", "P128")
def published_data(t: Ground) -> None:
    def work(go: str) -> None:
        import os
        import time

        from covey.datapub import publish_data
        publish_data({"step": 1})
        while not os.path.exists(go):
            time.sleep(0.01)
        publish_data({"more": 2})
    ar = t.e0.apply_async(work, str(t.tmp / "go"))
    wait_until(lambda: ar.data == {"step": 1} and not ar.ready(), what="data before the end")
    (t.tmp / "go").touch()
    ar.get(30)
    assert ar.data == {"step": 1, "more": 2}


@row("P108")
def owners(t: Ground) -> None:
    ar = t.e0.apply_async(int)
    ar.get(30)
    assert ar.owner and ar.msg_ids[0] not in t.rc.results and ar.metadata.msg_id == ar.msg_ids[0]


@row("P109")
def results_shown(t: Ground) -> None:
    ar, go = t.held(t.e0)
    assert repr(ar) == "<AsyncResult(held): pending>" and {"stdout", "engine_id"} <= set(dir(ar))
    go()
    ar.get(30)
    assert repr(ar) == "<AsyncResult(held): finished>"
    bad = t.e0.apply_async(lambda: 1 / 0)
    bad.wait(30)
    assert repr(bad).endswith(": failed>")


@row("P114")
def view_executors(t: Ground) -> None:
    for view in (t.lv, t.e0):
        with view.executor as ex:
            assert ex.submit(abs, -5).result(30) == 5
    with t.lv.executor as ex:
        assert list(ex.map(abs, [-1, -2])) == [1, 2] and ex._max_workers == 2
    assert t.rc.ids == [0, 1]


@row("P119", "P120")
def names_on_the_engine(t: Ground) -> None:
    t.v["g"] = [10, 20]

    @ipp.interactive
    def of_engine() -> int:
        return g[1]  # noqa: F821
    assert t.v.apply_sync(of_engine) == [20, 20]
    assert t.v.apply_sync(lambda x: x, ipp.Reference("g[0]")) == [10, 10]
    assert t.v.apply_sync(lambda x: x, [ipp.Reference("g"), {"k": ipp.Reference("g[1]")}]) == [[[10, 20], {"k": 20}]] * 2
    t.v.execute("h = lambda x: x + g[0]", block=True)
    assert t.v.apply_sync(ipp.Reference("h"), 1) == [11, 11]
    raises(TypeError, ipp.Reference, 5)


@row("P121", "H019")
def functional_dependencies(t: Ground) -> None:
    one = t.rc[1].apply_sync(os.getpid)

    def is_one(pid: int) -> bool:
        import os
        return os.getpid() == pid
    f = ipp.depend(is_one, one)(lambda: __import__("os").getpid())
    assert {t.lv.apply_async(f).get(30) for _ in range(4)} == {one}
    with t.lv.temp_flags(timeout=0.5):
        raises((ipp.TaskTimeout, ipp.UnmetDependency), t.lv.apply_async(ipp.depend(lambda: False)(lambda: 1)).get, 30)
    e = raises(ipp.RemoteError, t.e0.apply_async(ipp.depend(lambda: False)(lambda: 1)).get, 30)
    assert isinstance(e, ipp.UnmetDependency) and e.ename == "UnmetDependency"
    assert isinstance(f, ipp.dependent)


@row("P122")
def required_modules(t: Ground) -> None:
    @ipp.require("colorsys", extra=4)
    def f() -> float:
        return colorsys.rgb_to_hsv(0, 0, 1)[2] + extra  # noqa: F821
    assert t.lv.apply_sync(f) == 5

    def helper(x: int) -> int:
        return x + 1

    @ipp.require(helper)
    def g() -> int:
        return helper(1)
    assert t.lv.apply_sync(g) == 2
    raises(TypeError, ipp.require, 5)


@row("P123")
def dependency_sets(t: Ground) -> None:
    d = ipp.Dependency(["a", "b"])
    assert isinstance(d, set) and d.check({"a", "b"}) and not d.check({"a"}) and d.unreachable({"a"}, {"b"})
    assert d.as_dict() == {"dependencies": d.as_dict()["dependencies"], "all": True, "success": True, "failure": False}
    assert ipp.Dependency(["a", "b"], all=False).check({"a"})
    raises(ValueError, ipp.Dependency, ["a"], success=False, failure=False)


@row("P124")
def serialization(t: Ground) -> None:
    s = ipp.serialize
    for name in "can uncan can_map uncan_map pack_apply_message unpack_apply_message PrePickled use_dill use_cloudpickle use_pickle".split():
        assert getattr(s, name) is getattr(ipp, name)
    buffers = s.serialize_object(np.ones(9999))
    assert len(buffers) == 2 and (s.deserialize_object(buffers)[0] == np.ones(9999)).all()
    f, args, kwargs = s.unpack_apply_message(s.pack_apply_message(pow, (2, 3), {}))
    assert f(*args, **kwargs) == 8
    assert s.uncan(s.can(lambda: 4))() == 4
    assert t.e0.apply_sync(lambda x: x, ipp.PrePickled({"a": 1})) == {"a": 1}


@row("P126", "P127")
def functions_and_classes(t: Ground) -> None:
    import colorsys
    assert t.e0.apply_sync(colorsys.rgb_to_hsv, 0, 0, 1)[2] == 1
    assert t.e0.apply_sync(lambda a, b=2, *, c=3: a + b + c, 1, c=4) == 7
    k = 3
    assert t.e0.apply_sync(lambda: k * 2) == 6
    source = """
import sys, covey as ipp
class Base:
    def m(self): return 'base'
class C(Base):
    x = 5
def f(c): return c().m(), isinstance(c(), C)
with ipp.Client(sys.argv[1]) as rc:
    rc[0]['C'] = C
    assert rc[0]['C.x'] == 5 and rc[0].apply_sync(f, C) == ('base', True)
"""
    t.python(source, t.client_file)


@row("P130", "C130")
def bound_kernels(t: Ground) -> None:
    raises(RuntimeError, ipp.bind_kernel)
    t.e0.apply_sync(ipp.bind_kernel)
    t.e0.apply_sync(ipp.bind_kernel)
    pid = t.e0.apply_sync(os.getpid)
    assert os.path.exists(os.path.join(os.path.dirname(t.client_file), f"kernel-{pid}.json"))


@row("P131")
def versions(t: Ground) -> None:
    assert ipp.__version__.startswith(".".join(map(str, ipp.version_info[:2])))
    t.python("import ipyparallel as ipp; assert ipp.__version__ == '9.2.0' and ipp.version_info == (9, 2, 0)")
    t.python("import subprocess, sys; out = subprocess.run([sys.executable, '-m', 'ipyparallel.cluster', '--version'], "
             "stdout=subprocess.PIPE, text=True).stdout; assert out == '9.2.0\\n', out")


@row("P132")
def error_classes(t: Ground) -> None:
    names = """IPythonError KernelError EngineError NoEnginesRegistered TaskAborted TaskTimeout UnmetDependency ImpossibleDependency
        DependencyTimeout InvalidDependency RemoteError CompositeError AlreadyDisplayedError TaskRejectError TimeoutError""".split()
    for name in names:
        assert issubclass(getattr(ipp.error, name), Exception) and getattr(ipp, name) is getattr(ipp.error, name)
    assert ipp.TimeoutError is TimeoutError and issubclass(ipp.InvalidDependency, ipp.UnmetDependency)
    assert issubclass(ipp.CompositeError, ipp.RemoteError)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        content = ipp.error.wrap_exception({"engine_id": 3, "engine_uuid": "u", "method": "apply"})
    assert ipp.error.unwrap_exception(content).ename == "ZeroDivisionError"
    raises(ipp.CompositeError, ipp.error.collect_exceptions, [ipp.error.unwrap_exception(content)] * 2, "x")


@row("P133")
def remote_errors(t: Ground) -> None:
    e = raises(ipp.RemoteError, t.e0.apply_sync, lambda: 1 / 0)
    assert e.ename == "ZeroDivisionError" and "division" in e.evalue and "1 / 0" in e.traceback and isinstance(e.traceback, str)
    assert e.engine_info["engine_id"] == 0 and e.engine_info["method"] == "apply" and e.args[:2] == (e.ename, e.evalue)
    assert str(e).startswith("[0:apply] ZeroDivisionError: ") and repr(e).startswith("<RemoteError[0]:")
    assert e.render_traceback() and e._render_traceback_()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        e.print_traceback()
    assert "ZeroDivisionError" in out.getvalue()


@row("P134")
def composite_errors(t: Ground) -> None:
    e = raises(ipp.CompositeError, t.v.apply_sync, lambda: 1 / 0)
    assert len(e.elist) == 2 and e.elist[0][0] == "ZeroDivisionError" and e.tb_limit == 4 and isinstance(e.msg, str)
    assert repr(e) == "CompositeError(2)"
    many = raises(ipp.CompositeError, t.rc.direct_view([0, 1] * 4).apply_sync, lambda: 1 / 0)
    assert len(many.elist) == 8 and "more exceptions" in "\n".join(many.render_traceback()) + str(many)
    raises(ipp.RemoteError, e.raise_exception, 0)
    raises(IndexError, e.raise_exception, 99)
    assert e.render_traceback()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        e.print_traceback(0)
    assert "ZeroDivisionError" in out.getvalue()


@row("P135")
def displayed_errors(t: Ground) -> None:
    original = raises(ipp.CompositeError, t.v.apply_sync, lambda: 1 / 0)
    e = ipp.AlreadyDisplayedError(original)
    assert e.original_error is original and e.n == 2 and "2 errors" in "\n".join(e.render_traceback())


@row("P136", "H007")
def dead_engines(t: Ground) -> None:
    rc = t.cluster(2)
    e = raises((ipp.EngineError, ipp.RemoteError), rc[0].apply_async(os._exit, 3).get, 15)
    assert "engine 0" in str(e).lower()
    raises((ipp.EngineError, ipp.RemoteError), rc.load_balanced_view().apply_async(os._exit, 1).get, 15)


@row("P137", "P138")
def what_engines_survive(t: Ground) -> None:
    assert raises(ipp.RemoteError, t.e0.apply_sync, sys.exit, 3).ename == "SystemExit"

    def interrupted() -> None:
        raise KeyboardInterrupt
    assert raises(ipp.RemoteError, t.e0.apply_sync, interrupted).ename == "KeyboardInterrupt"
    assert raises(ipp.RemoteError, lambda: t.e0.execute("input()").get(30)).ename == "StdinNotImplementedError"
    assert t.e0.apply_sync(int) == 0


@row("P139", "P140", "C004", "C005")
def submodules(t: Ground) -> None:
    t.python("""
import warnings
from ipyparallel.util import (interactive, Namespace, ReverseDict, utcnow, utc, progress, abbreviate_profile_dir,
    disambiguate_ip_address, disambiguate_url, is_url, split_url, select_random_ports, int_keys, compare_datetimes, extract_dates)
warnings.simplefilter('ignore')
import ipyparallel.apps.ipclusterapp, ipyparallel.apps.ipcontrollerapp, ipyparallel.apps.ipengineapp, ipyparallel.apps.launcher
""")
    for name in ("cluster", "controller", "engine"):
        t.python(f"import runpy, sys; sys.argv = ['x', '--version']\ntry: runpy.run_module('ipyparallel.{name}', run_name='__main__')\n"
                 "except SystemExit as e: assert not e.code")
