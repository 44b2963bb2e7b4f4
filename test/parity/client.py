# SPDX-License-Identifier: BSD-3-Clause
"""Rows 4.1 to 4.3: the Client."""
from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import time
import warnings
from pathlib import Path

import covey as ipp
from test.system.stack import Stack

from ..waiting import wait_until
from .ground import Ground, raises, row


@row("P001", "P005")
def connection_info(t: Ground) -> None:
    with ipp.Client() as rc:
        assert rc.ids == [0, 1]
    with ipp.Client(json.loads(Path(t.client_file).read_text())) as rc:
        assert rc.ids == [0, 1]
    raises(TypeError, ipp.Client, t.client_file, "second")
    raises(OSError, ipp.Client, str(t.tmp / "none.json"))
    raises(ValueError, ipp.Client, "tcp://h:1")


@row("P002")
def profiles(t: Ground) -> None:
    with ipp.Client(profile="default") as rc:
        assert rc.ids == [0, 1] and rc.profile == "default"
    raises(OSError, ipp.Client, profile="nope")


@row("P003", "P004")
def file_with_an_id(t: Ground) -> None:
    security = Path(t.client_file).parent
    copy = security / "ipcontroller-parity-client.json"
    shutil.copy(t.client_file, copy)
    try:
        with ipp.Client(cluster_id="parity") as rc:
            assert rc.ids == [0, 1]
    finally:
        copy.unlink()
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        raises(OSError, ipp.Client, cluster_id="parity", timeout=0.2)
    assert "Waiting for connection file: " in out.getvalue()


@row("P006", "K124")
def old_names_of_the_file(t: Ground) -> None:
    with ipp.Client(url_file=t.client_file) as rc:
        assert rc.ids == [0, 1]
    raises(OSError, ipp.Client, url_file="/nonexistent")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ipp.Client(url_or_file=t.client_file).close()
    assert any(w.category is DeprecationWarning for w in seen)


@row("P008")
def other_locations(t: Ground) -> None:
    info = json.loads(Path(t.client_file).read_text())
    tcp = [e for e in info["endpoints"] if e.startswith("tcp")]
    with ipp.Client(dict(info, endpoints=tcp, location="elsewhere.invalid")) as rc:
        assert rc.ids == [0, 1], "the controller is here, whatever its file says"
    e = raises(TimeoutError, ipp.Client, dict(info, endpoints=["tcp://127.0.0.1:9"], location="elsewhere.invalid"), timeout=1)
    assert "elsewhere.invalid" in str(e) and "--ip='*'" in str(e) and "sshserver=" in str(e), e


@row("P009")
def dead_port(t: Ground) -> None:
    info = json.loads(Path(t.client_file).read_text())
    info["endpoints"] = ["tcp://127.0.0.1:9"]
    raises((TimeoutError, OSError), ipp.Client, info, timeout=1)


@row("P010")
def session_keywords(t: Ground) -> None:
    with contextlib.redirect_stderr(io.StringIO()), ipp.Client(t.client_file, packer="pickle", context=None) as rc:
        assert rc.ids == [0, 1] and rc.session is not None


@row("P012")
def closing(t: Ground) -> None:
    with ipp.Client(t.client_file) as rc:
        v = rc[:]
    rc.close()
    rc.close(linger=0)
    raises((RuntimeError, OSError), v.apply_sync, os.getpid)


@row("P013", "P014")
def attributes(t: Ground) -> None:
    rc = t.rc
    assert rc.ids is not rc.ids and rc.ids == [0, 1] and len(rc) == 2
    assert [w.targets for w in rc] == rc.ids
    ar = t.v.apply_async(os.getpid)
    ar.get()
    assert isinstance(rc.history, list) and rc.history[-2:] == ar.msg_ids and isinstance(rc.outstanding, set)
    kept = t.rc.get_result(t.lv.apply_async(int).msg_ids[0], owner=False)
    kept.get(30)
    assert rc.results[kept.msg_ids[0]] == 0 and rc.metadata[kept.msg_ids[0]]["engine_id"] in rc.ids
    assert rc.block is False and rc.debug is False and rc.profile == "default" and rc.cluster is None and rc.session is not None
    slow, _ = t.held(t.e0)
    assert rc.outstanding == set(slow.msg_ids)


@row("P015", "P070")
def indexing(t: Ground) -> None:
    rc = t.rc
    assert rc[-1].targets == 1 and rc[::2].targets == [0] and rc[[0, 1]].targets == [0, 1]
    assert rc[(1,)].targets == [1] and rc[range(2)].targets == [0, 1]
    for key in ("a", None):
        raises(TypeError, rc.__getitem__, key)
    raises(IndexError, rc.__getitem__, 99)
    pids = rc[:].apply_sync(os.getpid)
    assert rc[0].apply_sync(os.getpid) == pids[0] and rc[[0]].apply_sync(os.getpid) == pids[:1]


@row("P016", "P017", "P151", "H001")
def ids_and_all(t: Ground) -> None:
    rc = t.cluster(1)
    every = rc.direct_view()
    assert every.targets == "all" and every.apply_sync(int) == [0]
    raises(TypeError, rc.direct_view, "some")
    rc.cluster.start_engines_sync(1, "more")
    rc.wait_for_engines(2, timeout=30, interactive=False)
    assert rc.ids == [0, 1] and every.apply_sync(int) == [0, 0]
    rc.cluster.stop_engines_sync("more")
    wait_until(lambda: rc.ids == [0], what="the engine's leaving")
    old = rc[0].apply_sync(os.getpid)
    rc.cluster.restart_engines_sync()
    wait_until(lambda: len(rc.ids) == 1 and rc[:].apply_sync(os.getpid) != [old], what="new engines")
    assert rc.ids[0] >= 2, "a number was given twice"


@row("P018", "P079")
def balanced_targets(t: Ground) -> None:
    assert t.rc.load_balanced_view().targets is None and t.rc.load_balanced_view("all").targets is None
    lv = t.rc.load_balanced_view([1])
    assert lv.targets == [1] and {lv.apply_async(os.getpid).get() for _ in range(4)} == {t.rc[1].apply_sync(os.getpid)}


@row("P019")
def broadcast_targets(t: Ground) -> None:
    b = t.rc.broadcast_view(block=True)
    assert b.targets == [0, 1] and b.block is True and len(b.apply(os.getpid)) == 2


@row("P020", "P056")
def executors(t: Ground) -> None:
    assert t.rc.executor().submit(pow, 2, 5).result() == 32
    assert t.rc.executor([1]).submit(os.getpid).result() == t.rc[1].apply_sync(os.getpid)
    assert isinstance(t.lv.executor, ipp.ViewExecutor)


@row("P022")
def waiting_for_engines(t: Ground) -> None:
    t.rc.wait_for_engines(2, timeout=30)
    assert "2" in str(raises(TimeoutError, t.rc.wait_for_engines, 99, timeout=0.1, interactive=False))
    raises(TypeError, t.rc.wait_for_engines)
    assert t.rc.wait_for_engines(2, block=False, interactive=False).result(30) is None
    rc = t.cluster(1)
    more = rc.wait_for_engines(2, block=False, interactive=False)
    rc[0].apply_async(os._exit, 1)
    assert "engine 0" in str(raises(ipp.EngineError, more.result, 60))


@row("P023")
def waiting_for_jobs(t: Ground) -> None:
    ar, go = t.held(t.e0)
    assert t.rc.wait(ar, 0.01) is False
    go()
    assert t.rc.wait(ar) is True
    assert t.rc.wait(-1, 30) and t.rc.wait(ar.msg_ids[0], 30) and t.rc.wait([ar, ar.msg_ids[0]], 30) and t.rc.wait()


@row("P024", "P096")
def progress_bars(t: Ground) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        ar = t.lv.map_async(lambda x: x, range(8))
        assert ar.wait_interactive(interval=0.01) is None
        t.lv.apply_async(time.sleep, 0.05)
        t.rc.wait_interactive(interval=0.01, timeout=60)
        slow, _ = t.held(t.lv)
        assert slow.wait_interactive(timeout=0.05) is None
    assert "8/8" in out.getvalue()


@row("P025")
def signals(t: Ground) -> None:
    t.v.execute("import signal\ngot = []\nsignal.signal(signal.SIGUSR1, lambda n, f: got.append(n))", block=True)
    t.rc.send_signal(signal.SIGUSR1, block=True)
    wait_until(lambda: t.v["len(got)"] == [1, 1], what="the signal")
    ar, _ = t.held(t.v)
    t.rc.send_signal("SIGINT", block=True)
    e = raises(ipp.CompositeError, ar.get, 30)
    assert {entry[0] for entry in map(tuple, e.elist)} == {"KeyboardInterrupt"}
    raises((ipp.RemoteError, ValueError), t.rc.send_signal, "SIGNOPE", block=True)


@row("P026", "P066")
def clearing(t: Ground) -> None:
    t.v["a"] = 1
    t.rc.clear(block=True)
    assert raises(ipp.RemoteError, t.e0.pull, "a", block=True).ename == "NameError"
    t.v["a"] = 1
    t.v.clear(targets=0, block=True)
    assert t.rc[1]["a"] == 1
    raises(ipp.RemoteError, t.e0.get, "a")
    t.rc.clear(block=False).result(30)
    raises(ipp.RemoteError, t.rc[1].get, "a")


@row("P027", "P104")
def aborting(t: Ground) -> None:
    first, go = t.held(t.e0)
    second, third = t.e0.apply_async(os.getpid), t.e0.apply_async(os.getpid)
    second.abort()
    assert raises(ipp.TaskAborted, second.get, 30) is not None
    t.rc.abort(third)
    raises(ipp.TaskAborted, third.get, 30)
    go()
    assert first.get(30) is None
    raises(RuntimeError, first.abort)
    raises(TypeError, t.rc.abort, 5.5)


@row("P028", "C083")
def shutting_down(t: Ground) -> None:
    stack = Stack(t.environment(), n=2)
    t.stack.callback(stack.stop)
    rc, file, other = stack.rc, Path(stack.client_file), t.stack.enter_context(stack.connect())
    rc[1].shutdown()
    wait_until(lambda: rc.ids == [0], what="the engine's end")
    pid = rc[0].apply_sync(os.getpid)
    rc.shutdown(0, restart=True)

    def restarted() -> bool:
        try:
            return rc[0].apply_sync(os.getpid) != pid
        except (ipp.RemoteError, IndexError):   # it is just ending
            return False
    wait_until(restarted, what="the engine's return")
    wait_until(lambda: other.ids == [0], what="the engine's return")
    views = rc[:], other[:]
    rc.shutdown(hub=True)
    assert stack.processes[0].wait(60) == 0 and not file.exists()
    for view in views:
        raises((RuntimeError, OSError, ipp.EngineError), view.apply_sync, os.getpid)


@row("P029")
def spinning(t: Ground) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        t.rc.spin(), t.rc.spin_thread(), t.rc.stop_spin_thread()
    assert sum(w.category is DeprecationWarning for w in seen) >= 2


@row("P030", "P031")
def dask(t: Ground) -> None:
    rc = t.cluster(2)
    client = rc.become_dask()
    try:
        assert client.submit(sum, [1, 2]).result(20) == 3
        assert rc[0].apply_sync(ipp.interactive(lambda: "dask_worker" in globals() and "distributed_worker" in globals()))
    finally:
        client.close()
        rc.stop_dask()
    assert rc[:].apply_sync(ipp.interactive(lambda: "distributed_worker" in globals())) == [False, False]


@row("P033", "P113")
def results_of_others(t: Ground) -> None:
    ar = t.lv.apply_async(pow, 2, 3)
    ar.get(30)
    with ipp.Client(t.client_file) as other:
        foreign = other.get_result(ar.msg_ids[0], block=False)
        assert isinstance(foreign, ipp.AsyncHubResult) and foreign.get(30) == 8 and foreign.metadata.engine_id in (0, 1)
        late = t.lv.apply_async(lambda: (time.sleep(0.3), 5)[1])
        wait_until(lambda: late.msg_ids[0] in other.hub_history(), what="the task's record")
        assert other.get_result(late.msg_ids).get(30) == [5]
        assert raises(ipp.RemoteError, lambda: other.get_result("unknown-id").get(30)).ename == "KeyError"
    assert t.rc.get_result(-1).get(30) == 5 and t.rc.get_result(ar).get(30) == 8


@row("P034", "H036")
def result_status(t: Ground) -> None:
    good, bad = t.lv.apply_async(int), t.lv.apply_async(lambda: 1 / 0)
    t.rc.wait([good, bad], 60)
    status = t.rc.result_status(good.msg_ids + bad.msg_ids)
    assert sorted(status["completed"]) == sorted(good.msg_ids + bad.msg_ids) and status["pending"] == []
    slow, _ = t.held(t.lv)
    wait_until(lambda: slow.msg_ids[0] in t.rc.result_status(slow.msg_ids)["pending"], what="pending")
    assert t.rc.result_status(good.msg_ids, status_only=False)[good.msg_ids[0]] == 0
    raises(ipp.RemoteError, t.rc.result_status, bad.msg_ids, status_only=False)


@row("P035")
def queue_status(t: Ground) -> None:
    ar = t.v.apply_async(time.sleep, 0.3)
    status = t.rc.queue_status()
    assert set(status) == {0, 1, "unassigned"} and set(status[0]) == {"queue", "tasks", "completed"}
    assert isinstance(t.rc.queue_status(0)["queue"], int) and isinstance(t.rc.queue_status(0, verbose=True)["queue"], list)
    ar.get(30)


@row("P036", "H037")
def resubmit(t: Ground) -> None:
    ar = t.lv.apply_async(pow, 3, 3)
    ar.get(30)
    again = t.rc.resubmit(ar.msg_ids, block=False)
    assert again.get(30) == [27] and again.msg_ids != ar.msg_ids
    assert t.rc.db_query({"msg_id": ar.msg_ids[0]}, keys=["resubmitted"])[0]["resubmitted"] == again.msg_ids[0]
    busy, go = t.held(t.e0)
    pending, aborted = t.e0.apply_async(pow, 2, 2), t.e0.apply_async(pow, 2, 3)
    aborted.abort()
    raises(ipp.TaskAborted, aborted.get, 30)
    go()
    assert t.rc.resubmit([*pending.msg_ids, *aborted.msg_ids], block=False).get(30) == [4, 8]
    assert pending.get(30) == 4 and busy.get(30) is None


@row("P037")
def hub_history(t: Ground) -> None:
    ids = [t.lv.apply_async(int).msg_ids[0] for _ in range(3)]
    t.rc.wait()
    wait_until(lambda: t.rc.hub_history()[-3:] == ids, what="the records")


@row("P038", "H027", "H028", "H029", "H030", "H031")
def db_query(t: Ground) -> None:
    with t.lv.temp_flags(label="parity-a"):
        first = t.lv.apply_async(int)
    with t.lv.temp_flags(label="parity-b"):
        second = t.lv.apply_async(int)
    t.rc.wait()
    ids = [first.msg_ids[0], second.msg_ids[0]]
    query = t.rc.db_query
    assert [r["msg_id"] for r in query({"label": {"$glob": "parity-*"}, "msg_id": {"$in": ids}}, keys="msg_id")] == ids
    assert query({"msg_id": ids[0], "label": "parity-a"}, keys=["label"]) == [{"msg_id": ids[0], "label": "parity-a"}]
    assert query({"msg_id": ids[0], "label": "parity-b"}) == []
    record = query({"msg_id": ids[0]})[0]
    assert "buffers" not in record and record["submitted"].tzinfo and record["started"] <= record["completed"]
    expected = set("msg_id header metadata content submitted client_uuid engine_uuid started completed resubmitted received "
                   "result_header result_metadata result_content queue execute_input execute_result error stdout stderr label".split())
    assert expected <= set(record), expected - set(record)
    among = {"msg_id": {"$in": ids}}
    cut = record["submitted"]

    def found(**more: object) -> list[str]:
        return [r["msg_id"] for r in query({**among, **more}, keys=["msg_id"])]

    for operator, value, want in (("$gt", cut, ids[1:]), ("$gte", cut, ids), ("$lt", cut, []), ("$lte", cut, ids[:1])):
        assert found(submitted={operator: value}) == want, operator
    for operator, value, want in (("$eq", "parity-a", ids[:1]), ("$ne", "parity-a", ids[1:]), ("$nin", ["parity-a"], ids[1:]),
                                  ("$in", ["parity-a"], ids[:1]), ("$exists", True, ids)):
        assert found(label={operator: value}) == want, operator
    assert len(query({})) >= 2
    for operator in ("$le", "$nonsense"):
        assert operator in str(raises((ipp.RemoteError, ValueError, KeyError), query, {"label": {operator: "x"}}))


@row("P039", "P041")
def purging(t: Ground) -> None:
    ar = t.v.apply_async(os.getpid)
    ar.get(30)
    raises(ValueError, t.rc.purge_local_results)
    slow, go = t.held(t.e0)
    raises(RuntimeError, t.rc.purge_local_results, slow)
    go()
    slow.get(30)
    other = t.rc.get_result(t.lv.apply_async(int).msg_ids[0], owner=False)
    other.get(30)
    t.rc.purge_local_results("all")
    assert other.msg_ids[0] not in t.rc.results
    t.rc.purge_results(other.msg_ids)
    t.rc.purge_everything()
    assert t.rc.history == [] and t.rc.hub_history() == []


@row("P040")
def purging_the_hub(t: Ground) -> None:
    rc = t.cluster(1)
    ar = rc[:].apply_async(os.getpid)
    ar.get(30)
    wait_until(lambda: set(ar.msg_ids) <= set(rc.hub_history()), what="the record")
    slow, go = t.held(rc[0])
    wait_until(lambda: slow.msg_ids[0] in rc.hub_history(), what="the record")
    assert raises(ipp.RemoteError, rc.purge_hub_results, slow.msg_ids).ename == "IndexError"
    for _ in range(2):  # what is gone already needs no purge
        rc.purge_hub_results(ar.msg_ids)
    assert not set(ar.msg_ids) & set(rc.hub_history())
    go()
    slow.get(30)
    rc.purge_hub_results("all")
    assert rc.hub_history() == []


@row("P042")
def late_replies(t: Ground) -> None:
    ar = t.e0.apply_async(lambda: (time.sleep(0.2), 7)[1])
    ar.cancel()
    assert t.e0.apply_sync(int) == 0


@row("P043", "P057")
def execute_replies(t: Ground) -> None:
    reply = t.e0.execute("5", silent=False, block=True).get()
    assert isinstance(reply, ipp.ExecuteReply) and "5" in repr(reply) and repr(reply).startswith("<ExecuteReply[")
    count = reply.execution_count
    assert reply["stdout"] == "" and reply.metadata.engine_id == 0 and reply._repr_pretty_
    assert t.e0.execute("6", silent=False, block=True).get().execution_count == count + 1
    ar = t.v.execute("%pwd", silent=False, block=True)
    assert isinstance(ar, ipp.AsyncResult) and len(ar.get()) == 2
    printed = t.e0.execute("print('here')", block=True)
    assert printed.stdout == "here\n"
    long = t.e0.execute("'x' * 200", silent=False, block=True).get()
    assert len(repr(long)) < 60
    raises(ipp.RemoteError, t.e0.execute, "1/0", block=True)


@row("P044", "P100", "P110")
def metadata(t: Ground) -> None:
    ar, go = t.held(t.e0)
    keys = set("msg_id submitted started completed received engine_uuid engine_id follow after status execute_input "
               "execute_result error stdout stderr outputs data label".split())
    assert keys <= set(ar.metadata) and ar.completed is None and ar.submitted.tzinfo
    go()
    ar.get(30)
    assert ar.metadata.engine_id == ar["engine_id"] == ar.engine_id == 0 and ar.status == "ok"
    assert ar.submitted <= ar.started <= ar.completed and ar.received.tzinfo
    raises(KeyError, ar.metadata.__setitem__, "new", 1)
    raises(AttributeError, getattr, ar, "no_such_thing")
    raises(KeyError, ar.__getitem__, "no_such_thing")
    both = t.v.apply_async(int)
    both.get(30)
    assert len(both.metadata) == 2 and both.engine_id == [0, 1]
