# SPDX-License-Identifier: BSD-3-Clause
"""The client against a real cluster of two engines."""
import asyncio
import concurrent.futures
import itertools
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import covey as ipp
from covey.serialize import interactive


def typed(source, name="f"):
    """A function as if typed at the prompt."""
    ns = {"__name__": "__main__"}
    exec(textwrap.dedent(source), ns)
    return ns[name]


def test_apply_everywhere(rc):
    pids = rc[:].apply_sync(os.getpid)
    assert len(set(pids)) == 2 and os.getpid() not in pids
    assert rc[0].apply_sync(os.getpid) == pids[0] and rc[[1]].apply_sync(os.getpid) == [pids[1]]
    assert rc.load_balanced_view().apply_sync(os.getpid) in pids
    assert rc.load_balanced_view([1]).apply_sync(os.getpid) == pids[1]


def test_m1_the_engines_namespace(rc):
    rc[:]["a"] = 5
    assert rc[:].apply_sync(typed("f = lambda: a")) == [5, 5]
    rc[0]["a"] = 6
    assert rc[:]["a"] == [6, 5] and rc[0]["a"] == 6 and rc[:].pull("a + 1", block=True) == [7, 6]
    assert rc[0].pull(["a", "a * 2"], block=True) == [6, 12]
    rc[:].push({"g": typed("def f(x): return a * x")}, block=True)
    assert rc[:].apply_sync(ipp.Reference("g"), 2) == [12, 10]
    assert rc[0].apply_sync(max, ipp.Reference("a"), [1][0]) == 6


def test_pushed_names_may_be_attributes(rc):
    rc[0].execute("class O: pass\no = O(); d = {}", block=True)
    rc[0]["o.x"] = 3
    rc[0]["d['k']"] = 4
    assert rc[0]["o.x"] == 3 and rc[0].get(["d", "o.x"]) == [{"k": 4}, 3]


def test_m1_classes_of_main_both_ways(rc, tmp_path):
    script = tmp_path / "main.py"
    script.write_text(textwrap.dedent(f"""
        import dataclasses, typing
        import covey as ipp
        class Foo:
            def __init__(self): self.x = 1
            def m(self, y): return self.x + y
        class Slots:
            __slots__ = ("a", "b", "__own")
            def own(self): self.__own = 7; return self.__own
        class Pair(typing.NamedTuple):
            a: int
        class More(Slots):
            __slots__ = "c"
        class Loose(Slots):
            pass
        @dataclasses.dataclass(slots=True)
        class Data:
            a: int
            b: int = 3
        rc = ipp.Client({str(rc._source)!r})
        lv, e0 = rc.load_balanced_view(), rc[0]
        assert isinstance(lv.apply_sync(lambda o: o, Foo()), Foo)
        assert e0.apply_sync(Foo().m, 3) == 4
        e0["foo"] = Foo()
        assert isinstance(e0["foo"], Foo) and e0["foo.m(1)"] == 2
        assert e0.apply_sync(lambda d: d["f"][0](2), {{"f": [lambda x: 1 + x]}}) == 3
        for made, names in ((Slots(), "a"), (More(), "abc"), (Loose(), "abz")):
            for name in names: setattr(made, name, 5)
            back = e0.apply_sync(lambda o: o, made)
            assert type(back) is type(made) and [getattr(back, name) for name in names] == [5] * len(names)
        assert e0.apply_sync(lambda s, p: (s.own(), p), Slots(), Pair(2)) == (7, Pair(2))
        assert e0.apply_sync(lambda o: (o, hasattr(o, "__dict__")), Data(1)) == (Data(1), False)
        print("good")
        """))
    out = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, check=True, text=True).stdout
    assert out == "good\n"


def test_m2_defaults_are_fresh_in_each_task(rc):
    f = typed("def f(x, acc=[]):\n    acc.append(x)\n    return acc")
    lv = rc.load_balanced_view()
    assert lv.map_sync(f, range(200)) == [[i] for i in range(200)]
    assert [lv.apply_sync(f, 1) for _ in range(3)] == [[1]] * 3


def test_m2_arrays_changed_between_pushes(rc):
    a = np.zeros(1_000_000)
    rc[:].push({"a": a}, block=True)
    a[:] = 7
    rc[:].push({"a": a}, block=True)
    assert rc[:].apply_sync(typed("f = lambda: float(a.sum())")) == [7e6, 7e6]


def test_s4_an_array_may_be_changed_after_sent(rc):
    a = np.ones(500_000)
    ar = rc[0].apply_async(np.sum, a)
    ar.wait_for_send(30)
    a[:] = 0
    assert ar.get(30) == 500_000


@pytest.mark.parametrize("n", [10, 100_000, 12_000_000])
def test_s17_arrays_are_writable_on_both_sides(rc, n):
    def write(x):
        x[0] = 1
        return x
    got = rc[0].apply_sync(interactive(write), np.zeros(n, dtype="u1"))
    got[1] = 2
    assert got[0] == 1 and got[1] == 2 and len(got) == n


def test_scatter_and_gather(rc):
    dv = rc[:]
    for dist in "br":
        dv.scatter("part", list(range(7)), dist=dist, block=True)
        assert dv.gather("part", dist=dist).get() == list(range(7))
    dv.scatter("part", np.arange(9), block=True)
    assert (dv.gather("part", block=True) == np.arange(9)).all() and [len(p) for p in dv["part"]] == [5, 4]
    dv.scatter("rank", rc.ids, flatten=True, block=True)
    assert dv["rank"] == rc.ids


def test_execute_and_output(rc):
    ar = rc[:].execute("print('hi'); import sys; print('oops', file=sys.stderr); 6 * 7", silent=False, block=True)
    assert ar.stdout == ["hi\n"] * 2 and ar.stderr == ["oops\n"] * 2
    assert ar.get()[0].data["text/plain"] == "42" and "42" in repr(ar.get()[0])
    assert ar.execute_input[0].startswith("print")
    rc[:].execute("%pwd\nz = 3", block=True)
    assert rc[:]["z"] == [3, 3]
    with pytest.raises(ZeroDivisionError):
        rc[0].execute("1/0", block=True)


def test_run(rc, tmp_path):
    (tmp_path / "s.py").write_text("ran = __name__")
    rc[:].run(tmp_path / "s.py", block=True)
    assert rc[:]["ran"] == ["__main__"] * 2


def test_output_while_a_task_runs(rc, until):
    f = typed("""
        def f():
            import time
            print("begun", flush=True)
            time.sleep(600)
        """)
    ar = rc[0].apply_async(f)
    until(lambda: ar.stdout == "begun\n")
    assert not ar.ready() and rc.metadata[ar.msg_ids[0]]["stdout"] == "begun\n"
    ar.cancel()


def test_errors(rc):
    with pytest.raises(ipp.CompositeError) as e:
        rc[:].apply_sync(typed("f = lambda: 1 / 0"))
    assert len(e.value.elist) == 2 and isinstance(e.value, ZeroDivisionError)
    assert {i["engine_id"] for *_, i in e.value.elist} == {0, 1}
    with pytest.raises(ZeroDivisionError) as e:
        rc[1].apply_sync(typed("f = lambda: 1 / 0"))
    assert str(e.value).startswith("[1:apply] ZeroDivisionError") and type(e.value.original) is ZeroDivisionError
    with pytest.raises(ipp.RemoteError) as e:
        rc[1].apply_sync(typed("def f():\n    import sys\n    sys.exit(3)"))
    assert e.value.ename == "SystemExit" and rc[1].apply_sync(max, 1, 2) == 2


def test_m16_results_that_cannot_travel_fail_alone(rc):
    with pytest.raises(TypeError, match="cannot pickle"):
        rc[0].apply_sync(typed("def f():\n    import threading\n    return threading.Lock()"))
    rc[0].execute(textwrap.dedent("""
        import sys, types
        m = types.ModuleType("only_on_the_engine"); sys.modules[m.__name__] = m
        exec("class Odd: pass", m.__dict__)
        Odd = m.Odd; Odd.__module__ = m.__name__
        """), block=True)
    with pytest.raises(ipp.RemoteError, match="can't be unpickled here: No module named 'only_on_the_engine'"):
        rc[0].apply_sync(typed("f = lambda: Odd()"))
    assert rc[0].apply_sync(max, 1, 2) == 2


def test_s2_a_name_that_exists_here(rc, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "np", np, raising=False)
    with pytest.raises(NameError, match="%px import numpy as np"):
        rc[0].apply_sync(typed("f = lambda: np.ones(1)"))


def test_maps(rc):
    lv, square = rc.load_balanced_view(), typed("f = lambda x: x * x")
    for view, options in ((lv, {}), (lv, {"chunksize": 7}), (lv, {"ordered": False}), (rc[:], {})):
        ar = view.map_async(square, range(100), **options)
        assert sorted(ar) == sorted(ar.get()) == [x * x for x in range(100)] and ar.progress == len(ar) == 100
    assert lv.map_sync(max, [1, 5, 2], [4, 3]) == [4, 5]
    got = lv.map_sync(typed("f = lambda x: 1 / x"), range(60), return_exceptions=True)
    assert isinstance(got[0], ZeroDivisionError) and got[1:] == [1 / x for x in range(1, 60)]
    with pytest.raises(ZeroDivisionError):
        lv.map_sync(typed("f = lambda x: 1 / x"), range(200))


def test_map_of_arrays(rc):
    rows = list(np.arange(60_000.0).reshape(60, 1000))
    assert rc.load_balanced_view().map_sync(np.sum, rows) == [r.sum() for r in rows]
    doubled = rc.load_balanced_view().map_sync(np.negative, np.arange(3e6).reshape(3, 1_000_000))
    assert doubled[2][-1] == -(3e6 - 1) and doubled[0].flags.writeable


def test_lazy_map_and_executor(rc):
    lv, square = rc.load_balanced_view(), typed("f = lambda x: x * x")
    assert list(itertools.islice(lv.imap(square, itertools.count()), 5)) == [0, 1, 4, 9, 16]
    assert sorted(lv.imap(square, range(5), ordered=False)) == [0, 1, 4, 9, 16]
    with lv.executor as ex:
        futures = [ex.submit(square, i) for i in range(20)]
        assert sum(f.result() for f in concurrent.futures.as_completed(futures, timeout=60)) == sum(
            i * i for i in range(20))
        assert list(ex.map(square, range(3))) == [0, 1, 4]


def test_await(rc):
    async def main():
        lv = rc.load_balanced_view()
        one, many = lv.apply_async(max, 1, 2), [lv.apply_async(max, i, 5) for i in range(10)]
        return await one, await asyncio.gather(*(asyncio.wrap_future(a) for a in many)), await rc[:].apply_async(max, 1, 2)
    assert asyncio.run(main()) == (2, [5, 5, 5, 5, 5, 5, 6, 7, 8, 9], [2, 2])


def test_m3_callbacks_while_nobody_waits(rc, until):
    seen = []
    for i in range(50):
        rc.load_balanced_view().apply_async(max, i, 0).add_done_callback(lambda a: seen.append(a.get()))
    until(lambda: len(seen) == 50)
    assert sorted(seen) == list(range(50))


def test_many_threads(rc):
    lv, failures = rc.load_balanced_view(), []

    def work(k):
        try:
            for i in range(50):
                assert lv.apply_sync(max, i, k) == max(i, k)
        except BaseException as e:
            failures.append(e)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not failures and not rc.outstanding


def test_times(rc):
    ar = rc[:].apply_async(time.sleep, 0.1)
    assert ar.submitted[0].tzinfo is not None
    ar.get()
    assert ar.serial_time >= 0.2 and ar.wall_time >= 0.1 and ar.wall_time == ar.elapsed
    assert all(m["submitted"] <= m["started"] <= m["completed"] for m in ar.metadata)
    assert [m["engine_uuid"] for m in ar.metadata] == [rc._engines[i]["uuid"] for i in (0, 1)]


def test_a_result_whose_packing_exits_fails_alone(rc):
    f = typed("""
        def f(*_):
            class Exits:
                def __reduce__(self):
                    raise SystemExit("not me")
            return Exits()
        """)
    for ar in (rc[0].apply_async(f), rc[0].map_async(f, [1, 2])):
        with pytest.raises(ipp.RemoteError, match="not me"):
            ar.get(30)
    assert rc[0].apply_sync(max, 1, 2) == 2


def test_m5_who_else_has_a_cancelled_task_is_told(rc, until):
    ar = rc[:].apply_async(time.sleep, 600)
    for part in ar.split():
        assert part.cancel()
    with pytest.raises(ipp.CompositeError, match="CancelledError"):
        ar.get(30)
    assert set(ar.status) == {"cancelled"}
    ar = rc[0].apply_async(time.sleep, 600)
    other = rc.get_result(ar.msg_ids[0])
    told = []
    other.add_done_callback(told.append)
    assert ar.cancel() and ar.cancelled() and not other.cancelled()
    until(lambda: told == [other])
    with pytest.raises(ipp.RemoteError, match="cancelled by this client"):
        other.get(30)


def test_m5_cancel_interrupts_and_the_engine_survives(rc, until):
    rc[:]["kept"] = 5
    ar = rc[0].apply_async(time.sleep, 600)
    queued = rc[0].apply_async(max, 1, 2)
    assert ar.cancel() is True
    with pytest.raises(concurrent.futures.CancelledError):
        ar.get()
    assert queued.get(60) == 2 and rc[0]["kept"] == 5


def held(view, path):
    """A task that ends when there is such a file."""
    return view.apply_async(typed("""
        def f(path):
            import os, time
            while not os.path.exists(path):
                time.sleep(0.01)
    """), str(path))


def test_m5_abort_only_unqueues(rc, tmp_path):
    rc[:]["kept"] = 5
    running = held(rc[0], tmp_path / "go")
    queued = [rc[0].apply_async(max, i, 2) for i in range(3)]
    for ar in queued:
        ar.abort()
    for ar in queued:
        with pytest.raises(ipp.TaskAborted):
            ar.get(30)
    (tmp_path / "go").touch()
    assert running.get(30) is None and rc[0]["kept"] == 5


def test_m5_ctrl_c_in_get_leaves_the_task_running(rc, tmp_path):
    import signal
    ar = held(rc[0], tmp_path / "go")
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        ar.get(30)
    assert not ar.ready()
    (tmp_path / "go").touch()
    assert ar.get(30) is None


def test_a_signal_handler_may_use_the_client_that_waits(rc, tmp_path):
    import signal
    said = []

    def handler(*_):
        said.append(rc[1].apply_sync(max, 3, 4))
        (tmp_path / "go").touch()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        ar = held(rc[0], tmp_path / "go")
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        assert ar.get(30) is None and said == [4]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_one_thread_waits_long_while_others_come_and_go(rc, tmp_path):
    slow, quick, failures = held(rc[0], tmp_path / "go"), rc[1], []

    def work():
        try:
            for _ in range(200):
                assert quick.apply_sync(max, 1, 2) == 2
            (tmp_path / "go").touch()
        except BaseException as e:
            failures.append(e)
    threads = [threading.Thread(target=work) for _ in range(4)] + [threading.Thread(target=slow.get, args=(60,)) for _ in range(2)]
    [t.start() for t in threads]
    assert slow.get(60) is None
    [t.join(60) for t in threads]
    assert not failures and not any(t.is_alive() for t in threads)


def test_closing_wakes_whoever_waits(cluster, tmp_path):
    mine = cluster.connect_client_sync()
    mine.wait_for_engines(2)
    results = []

    def work(ar):
        try:
            results.append(ar.get(100))
        except BaseException as e:
            results.append(e)
    threads = [threading.Thread(target=work, args=(held(mine[i], tmp_path / "go"),)) for i in (0, 1)]
    [t.start() for t in threads]
    with mine[0].temp_flags():
        assert mine.queue_status()  # both are waiting by now, one of them turns the loop
    mine.close()
    [t.join(60) for t in threads]  # the tasks have not ended
    assert len(results) == 2 and all(isinstance(r, BaseException) and not isinstance(r, TimeoutError) for r in results)
    (tmp_path / "go").touch()


def test_m6_a_fork_while_another_thread_waits(rc, tmp_path):
    slow = held(rc[0], tmp_path / "go")
    waiter = threading.Thread(target=slow.get, args=(60,))
    waiter.start()
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    (tmp_path / "go").touch()
    waiter.join(60)
    assert slow.get(30) is None and rc[0].apply_sync(max, 1, 2) == 2


def test_get_with_a_timeout(rc, tmp_path):
    ar = held(rc[0], tmp_path / "go")
    with pytest.raises(TimeoutError):
        ar.get(0.05)
    assert ar.wait(0.01) is False and rc.wait(ar, 0.01) is False
    (tmp_path / "go").touch()
    assert ar.get(30) is None


def test_dependencies(rc):
    lv = rc.load_balanced_view()
    first = lv.apply_async(time.sleep, 0.2)
    with lv.temp_flags(after=first):
        second = lv.apply_async(max, 1, 2)
    second.get(30)
    assert second.started >= first.completed
    with lv.temp_flags(follow=second):
        assert lv.apply_async(os.getpid).get(30) == rc[second.engine_id].apply_sync(os.getpid)
    failed = lv.apply_async(typed("f = lambda: 1 / 0"))
    with lv.temp_flags(after=failed), pytest.raises(ipp.ImpossibleDependency):
        lv.apply_async(max, 1, 2).get(30)
    with lv.temp_flags(after="0123456789abcdef_7"), pytest.raises(ipp.InvalidDependency):
        lv.apply_async(max, 1, 2).get(30)


def test_functional_dependencies(rc):
    rc[0]["mine"], rc[1]["mine"] = False, True
    lv = rc.load_balanced_view()
    f = ipp.depend(typed("f = lambda: mine"))(typed("f = lambda: mine"))
    assert [lv.apply_async(f).get(30) for _ in range(6)] == [True] * 6
    never = ipp.depend(typed("f = lambda: False"))(typed("f = lambda: 1"))
    with pytest.raises(ipp.UnmetDependency):
        lv.apply_async(never).get(30)
    needs = ipp.require("textwrap", limit=3)(typed("f = lambda: (textwrap.__name__, limit)"))
    assert lv.apply_sync(needs) == ("textwrap", 3)


def test_retries_and_timeout(rc, until):
    lv = rc.load_balanced_view()
    rc[:]["tries"] = 0
    flaky = typed("""
        def f():
            global tries
            tries += 1
            if tries < 2: raise ValueError("again")
            return tries
        """)
    with lv.temp_flags(retries=5):
        assert lv.apply_async(flaky).get(30) == 2
    busy = rc[:].apply_async(typed("def f():\n    import time\n    print('on', flush=True)\n    time.sleep(600)"))
    until(lambda: set(busy.stdout) == {"on\n"})
    with lv.temp_flags(timeout=0.2), pytest.raises(ipp.TaskTimeout):
        lv.apply_async(typed("f = lambda: 1")).get(30)
    busy.cancel()


def test_sync_imports(rc, capsys):
    with rc[:].sync_imports():
        import textwrap as tw  # noqa: F401
        from os import path as where  # noqa: F401
    out = capsys.readouterr().out
    assert "importing textwrap on engine(s)" in out and "path from os" in out
    assert rc[:].apply_sync(typed("f = lambda: (tw.__name__, textwrap.__name__, where.sep)")) == [("textwrap", "textwrap", "/")] * 2
    with rc[:].sync_imports(quiet=True):
        import json  # noqa: F401
    assert capsys.readouterr().out == "" and rc[0]["json.__name__"] == "json"


def test_use_cloudpickle(rc):
    f = typed("limit = 3\ndef f(): return limit")
    with pytest.raises(NameError):
        rc[0].apply_sync(f)
    try:
        rc[:].use_cloudpickle().get()
        assert rc[0].apply_sync(f) == 3
    finally:
        rc[:].use_pickle().get()


def test_use_dill(rc):
    pytest.importorskip("dill", reason="dill is optional")
    try:
        rc[:].use_dill().get()
        assert rc[0].apply_sync(typed("def f(x): return x + 1"), 4) == 5
    finally:
        rc[:].use_pickle().get()
    assert rc[0].apply_sync(typed("def f(x): return x + 2"), 4) == 6


def test_records(rc):
    ar = rc[0].set_flags(label="of-test-records").apply_async(max, 1, 2)
    ar.get()
    assert rc.hub_history()[-1] == ar.msg_ids[0]
    record, = rc.db_query({"msg_id": ar.msg_ids[0]}, keys=["label", "submitted", "engine"])
    assert record["label"] == "of-test-records" and record["submitted"].tzinfo is not None
    assert rc.result_status(ar.msg_ids)["completed"] == ar.msg_ids
    status = rc.queue_status()
    assert status[0]["completed"] >= 1 and status["unassigned"] == 0 and rc.queue_status(1)["queue"] == 0
    assert "engine" in repr(rc.status())
    rc.purge_hub_results(ar)
    assert rc.db_query({"msg_id": ar.msg_ids[0]}) == []
    assert rc.get_result(ar.msg_ids[0]).get(30) == 2  # it is still here
    with pytest.raises(ipp.RemoteError):
        ipp.AsyncHubResult(rc, ar.msg_ids).get(30)


def test_another_client_gets_the_result(rc, cluster, tmp_path):
    with cluster.connect_client_sync() as other:
        slow = held(rc[0], tmp_path / "go")
        assert slow.msg_ids[0] in rc.hub_history()  # the controller has it
        hub = other.get_result(slow.msg_ids[0])
        assert isinstance(hub, ipp.AsyncHubResult) and not hub.ready()
        (tmp_path / "go").touch()
        assert hub.get(30) is None and hub.completed is not None and hub.engine_id == 0
        ar = rc[:].apply_async(max, 1, 2)
        ar.get()
        assert other.get_result(ar.msg_ids).get(30) == [2, 2]
        executed = rc[0].execute("5 + 5", silent=False, block=True)
        assert "print" not in other.get_result(executed.msg_ids[0]).get(30).source
        mapped = rc.load_balanced_view().map_async(max, range(100), [50] * 100)
        mapped.get()
        assert other.get_result(mapped.msg_ids).get(30) == mapped.get()


def test_s3_leave_and_come_back(rc, tmp_path):
    """An AsyncResult pickles, and another process gets what it was waiting for."""
    script = textwrap.dedent(f"""
        import pickle, sys, time
        import covey as ipp
        rc = ipp.Client({str(rc._source)!r})
        ar = rc.load_balanced_view().map_async(pow, range(50), [2] * 50)
        sys.stdout.buffer.write(pickle.dumps(ar))
        """)
    data = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout
    ar = pickle.loads(data)
    assert type(ar) is ipp.AsyncMapResult and ar.get(30) == [x * x for x in range(50)]


def test_get_result_by_label(rc):
    name = f"label-{os.getpid()}-{time.time_ns()}"
    rc[:].set_flags(label=name).apply_async(max, 1, 2).get()
    assert rc.get_result(label=name).get(30) == [2, 2]


def test_resubmit(rc):
    ar = rc[:].apply_async(os.getpid)
    assert rc.resubmit(ar).get(30) == ar.get()
    f = typed("def f(x): return x + 1")
    ar = rc.load_balanced_view().apply_async(f, 1)
    again = rc.resubmit(ar.msg_ids[0])
    assert again.get(30) == [2] and again.msg_ids != ar.msg_ids and rc.resubmit(block=True).get(0) == [2]


def test_m6_a_forked_child_is_told(rc):
    assert rc[0].apply_sync(max, 1, 2) == 2
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            rc[0].apply_sync(max, 1, 2)
            os.write(write, b"no error")
        except BaseException as e:
            os.write(write, f"{type(e).__name__}: {e}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 1000).startswith(b"ForkedError")
    os.close(read), os.close(write)
    assert rc[0].apply_sync(max, 1, 2) == 2


def test_send_signal_interrupts(rc, until):
    ar = rc[0].apply_async(typed("def f():\n    import time\n    print('up', flush=True)\n    time.sleep(600)"))
    until(lambda: ar.stdout)
    rc.send_signal("SIGINT", 0)
    with pytest.raises(ipp.RemoteError) as e:
        ar.get(30)
    assert e.value.ename == "KeyboardInterrupt" and rc[0].apply_sync(max, 1, 2) == 2


def test_publish_data(rc, until, tmp_path):
    def work(path):
        import os
        import time

        from covey.datapub import publish_data
        publish_data({"i": 1})
        while not os.path.exists(path):
            time.sleep(0.01)
        publish_data({"j": 2})
    ar = rc[0].apply_async(interactive(work), str(tmp_path / "go"))
    until(lambda: ar.data == {"i": 1})
    (tmp_path / "go").touch()
    ar.get()
    assert ar.data == {"i": 1, "j": 2}


def test_sync_path_and_upload(rc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "module_beside_the_notebook.py").write_text("value = 11")
    monkeypatch.syspath_prepend(str(tmp_path))
    cwd = rc[:].apply_sync(os.getcwd)
    try:
        rc[:].sync_path()
        assert rc[:].apply_sync(os.getcwd) == [str(tmp_path)] * 2
        rc[0].execute("import module_beside_the_notebook as m", block=True)
        assert rc[0]["m.value"] == 11
        paths = rc[:].upload("module_beside_the_notebook.py", "sub/copied.py")
        assert paths == [str(tmp_path / "sub" / "copied.py")] * 2 and (tmp_path / "sub" / "copied.py").exists()
    finally:
        for number, folder in enumerate(cwd):
            rc[number].apply_sync(os.chdir, folder)


def test_joblib(rc):
    joblib = pytest.importorskip("joblib", reason="joblib is optional")
    rc.load_balanced_view().register_joblib_backend("covey-test")
    with joblib.parallel_backend("covey-test"):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(i, 2) for i in range(20)) == [i * i for i in range(20)]


@pytest.mark.parametrize("nanny", [False, True])
def test_become_dask(rc, nanny):
    executor = rc.become_dask(nanny=nanny)
    try:
        assert all(("Nanny" if nanny else "Worker") in r for r in rc[:].apply_sync(repr, ipp.Reference("distributed_worker")))
        assert executor.submit(sum, executor.map(lambda x: x * x, range(10))).result(30) == 285
        assert rc[0].apply_sync(max, 1, 2) == 2  # engines are engines still
    finally:
        executor.close()
        rc.stop_dask()
    for name in ("distributed_worker", "dask_worker"):
        with pytest.raises(NameError):
            rc[0].apply_sync(lambda x: x, ipp.Reference(name))


def test_the_session_is_told_without_its_key(rc):
    assert rc[0].apply_async(max, 1, 2).msg_ids[0].startswith(rc.session.session)
    assert rc.session.key and rc.session.key.decode() not in repr(rc.session) + repr(rc)


def test_what_belongs_to_this_process_is_not_sent(rc):
    """A client or a view in a call says what to send instead."""
    for argument, path in ((rc, r"args\[0\]"), (rc[0], r"args\[0\]\.client")):
        with pytest.raises(TypeError, match=f"can't send {path}: a Client .*can't be pickled.*connection file"):
            rc[0].apply(len, argument)


def test_nested_client(rc):
    """S11: a task can be a client of its own cluster."""
    f = typed(f"""
        def f():
            import covey as ipp
            with ipp.Client({str(rc._source)!r}) as inner:
                return inner.ids
        """)
    assert rc[0].apply_sync(f) == rc.ids


def test_nothing_is_left_outstanding(rc):
    rc.load_balanced_view().map_sync(max, range(1000), range(1000))
    assert rc.outstanding == set() and not rc._watchers


def test_a_long_text_arrives_whole(rc):
    ar = rc[0].apply_async(eval, "print('x' * 16_000_000)")
    ar.get(60)
    assert ar.stdout == "x" * 16_000_000 + "\n"


def test_errors_of_every_kind_cost_no_engine(rc):
    """Classes that let nobody set their attributes, that want other arguments, that hold others; what several engines say in one."""
    rc[:].execute(textwrap.dedent("""
        import dataclasses
        @dataclasses.dataclass(frozen=True)
        class Frozen(Exception):
            code: int
        class Mute(Exception):
            def __getattribute__(self, name): raise RuntimeError(name)
        def frozen(): raise Frozen(3)
        def mute(): raise Mute()
        def group(): raise ExceptionGroup("g", [ValueError(1)])
        def missing(): open("/no/such/file")
    """), block=True)
    pids = rc[:].apply_sync(os.getpid)
    for name, ename in (("frozen", "Frozen"), ("mute", "Mute"), ("group", "ExceptionGroup"), ("missing", "FileNotFoundError")):
        with pytest.raises(ipp.RemoteError) as one:
            rc[0].apply_sync(ipp.Reference(name))
        assert one.value.ename == ename
        with pytest.raises(ipp.CompositeError) as both:
            rc[:].apply_sync(ipp.Reference(name))
        assert [e.ename for e in both.value.errors] == [ename] * 2
    with pytest.raises(FileNotFoundError):
        rc[:].apply_sync(ipp.Reference("missing"))
    assert rc[:].apply_sync(os.getpid) == pids


def test_an_alias_of_a_module_that_has_another_name(rc):
    with rc[:].sync_imports(quiet=True):
        import os.path as paths
    assert rc[:].apply_sync(typed("f = lambda: paths.sep")) == [paths.sep] * 2


def test_what_control_calls_return(rc):
    """As in ipyparallel: nothing when they have waited, else a Future."""
    for call in (rc.clear, rc[:].clear, lambda **block: rc.send_signal(0, **block), lambda **block: rc.send_signal("CONT", **block)):
        assert call(block=True) is None
        assert isinstance(call(block=False), concurrent.futures.Future) and isinstance(call(), concurrent.futures.Future)
    with pytest.raises(IndexError):
        rc.send_signal(0, targets=99)


def test_a_timeout_holds_where_engines_work_ahead(rc, tmp_path):
    """Engines that had quick tasks hold many ahead; behind a long one these have not started when their time is over."""
    lv = rc.load_balanced_view()
    lv.map_sync(abs, range(400))
    until_there = typed("""
        def f(path):
            import os, time
            while not os.path.exists(path):
                time.sleep(0.01)
    """)
    long = [lv.apply_async(until_there, str(tmp_path / "go")) for _ in range(4)]
    with lv.temp_flags(timeout=0.05):
        late = [lv.apply_async(abs, -1), lv.map_async(abs, range(40))]
    for ar in late:
        errors = ar.get(30, return_exceptions=True)
        assert all(isinstance(e, ipp.TaskTimeout) for e in (errors if isinstance(errors, list) else [errors]))
    (tmp_path / "go").touch()
    assert [ar.get(30) for ar in long] == [None] * 4 and lv.apply_sync(abs, -2) == 2


def test_m1_a_cached_function_of_main(rc):
    """pickle writes the name of what functools.lru_cache makes, be it of __main__."""
    cached = typed("""
        import functools
        @functools.lru_cache(maxsize=3, typed=True)
        def f(x):
            "doc"
            return x * 2
    """)
    assert rc[:].apply_sync(cached, 4) == [8, 8] and rc.load_balanced_view().map_sync(cached, [1, 2]) == [2, 4]
    assert rc[0].apply_sync(typed("def f(g): return g.cache_parameters(), g.cache_info().currsize, g(3), g.__name__, g.__doc__"), [cached][0]) == \
        ({"maxsize": 3, "typed": True}, 0, 6, "f", "doc")
    import fnmatch
    assert rc[0].apply_sync(typed("def f(g): import fnmatch; return g is fnmatch._compile_pattern"), fnmatch._compile_pattern), "an installed module's travels by name"
