# SPDX-License-Identifier: BSD-3-Clause
"""AsyncResult as a Future, its metadata and its output, on a fake core: no cluster, no timing."""
import asyncio
import concurrent.futures
import contextlib
import copy
import gc
import io
import json
import os
import pickle
import sys
import threading
import types
from datetime import timezone

import pytest

import covey as ipp


@pytest.fixture
def two(fake):
    rc, core = fake()
    return types.SimpleNamespace(rc=rc, core=core, dv=rc[:], e0=rc[0], lv=rc.load_balanced_view())


def test_pending_then_done(two):
    ar = two.e0.apply_async(max, 1, 2)
    assert not ar.ready() and not ar.done() and ar.running() and repr(ar) == "<AsyncResult(max): pending>"
    assert ar.progress == 0 and ar.completed is None and ar.submitted.tzinfo is timezone.utc
    with pytest.raises(RuntimeError):
        ar.successful()
    with pytest.raises(TimeoutError):
        ar.get(0)
    with pytest.raises(TimeoutError):
        ar.serial_time
    assert ar.wait(0.01) is False
    two.core.finish(1, 2)
    assert ar.ready() and ar.successful() and ar.get() == ar.r == ar.result() == 2 and ar.get(0) == 2
    assert ar.exception() is None and repr(ar) == "<AsyncResult(max): finished>"
    assert ar.engine_id == 0 and ar["engine_uuid"] == "uuid-0" and ar.status == "ok"
    assert ar.submitted <= ar.started <= ar.completed <= ar.received
    assert 0 <= ar.serial_time <= ar.wall_time and ar.elapsed == ar.wall_time
    assert ar.get_dict() == {0: 2}


def test_attributes_and_keys(two):
    ar = two.e0.apply_async(max, 1, 2)
    with pytest.raises(AttributeError):
        ar.nothing
    with pytest.raises(KeyError):
        ar["nothing"]
    with pytest.raises(TypeError):
        ar[1.5]
    with pytest.raises(TimeoutError):
        ar[0]
    with pytest.raises(TypeError):
        iter(ar)
    assert "stdout" in dir(ar) and len(ar) == 1


def test_broadcast_is_one_submit_with_many_results(two):
    ar = two.dv.apply_async(max, 1, 2)
    assert len(two.core.pending) == 2 and {p[5] for p in two.core.pending.values()} == {1}
    assert two.core.pending[1][3]["targets"] == [0, 1] and two.core.pending[1][1] == 4
    two.core.finish(2, "b")
    assert ar.progress == 1 and not ar.ready()
    two.core.finish(1, "a")
    assert ar.get() == ["a", "b"] and ar[0] == "a" and ar[:] == ["a", "b"] and list(ar) == ["a", "b"]
    assert ar.get_dict() == {0: "a", 1: "b"} and ar.engine_id == [0, 1]
    assert isinstance(ar.stdout, list)


def test_get_dict_refuses_two_results_of_one_engine(two):
    ar = ipp.AsyncResult.join(two.e0.apply_async(max, 1, 2), two.e0.apply_async(max, 1, 2))
    two.core.finish(1, 1), two.core.finish(2, 2)
    with pytest.raises(ValueError, match="engine 0 ran 2"):
        ar.get_dict()


def test_errors(two):
    one, all_ = two.e0.apply_async(max, 1), two.dv.apply_async(max, 1)
    two.core.finish(1, error=ZeroDivisionError("z"))
    two.core.finish(2, error=ZeroDivisionError("z")), two.core.finish(3, 5)
    with pytest.raises(ZeroDivisionError) as e:
        one.get()
    assert isinstance(e.value, ipp.RemoteError) and e.value.engine_info["engine_id"] == 0
    with pytest.raises(ipp.CompositeError):
        all_.get()
    got = all_.get(return_exceptions=True)
    assert isinstance(got[0], ZeroDivisionError) and got[1] == 5
    assert isinstance(one.exception(), ipp.RemoteError) and not one.successful()
    assert repr(one) == "<AsyncResult(max): failed>" and one.error.ename == "ZeroDivisionError"


def test_the_same_result_may_be_got_again_and_again(two):
    ar = two.e0.apply_async(max, 1)
    two.core.finish(1, [1])
    assert ar.get() is ar.get()


def test_first_exception(two):
    ar = two.dv.apply_async(max, 1)
    two.core.finish(2, error=ValueError("v"))
    with pytest.raises(ValueError) as seen:
        ar.get(return_when=ipp.FIRST_EXCEPTION)
    assert isinstance(seen.value, ipp.CompositeError) and len(seen.value) == 1  # as when all have ended
    done, pending = ar.wait(return_when=ipp.FIRST_EXCEPTION)
    assert len(done) == len(pending) == 1 and isinstance(done.pop().exception(), ValueError)
    done, pending = ar.wait(return_when=ipp.FIRST_COMPLETED)
    assert (len(done), len(pending)) == (1, 1)
    with pytest.raises(ValueError):
        ar.wait(return_when="nonsense")
    ar.wait_interactive(return_when=ipp.FIRST_EXCEPTION)
    assert not ar.ready()


def test_made_of_ids(two):
    given = two.dv.apply_async(max, 1)
    ar = ipp.AsyncResult(two.rc, given.msg_ids)
    two.core.finish(1, "a"), two.core.finish(2, "b")
    assert ar.get(5) == ["a", "b"] and ar.msg_ids == given.msg_ids


def test_split_and_join(two):
    ar = two.dv.apply_async(max, 1)
    parts = ar.split()
    two.core.finish(1, 1), two.core.finish(2, 2)
    assert [p.get() for p in parts] == [1, 2] and ipp.AsyncResult.join(*parts).get() == [1, 2]
    with pytest.raises(ValueError):
        ipp.AsyncResult.join()


def test_results_of_two_clients_are_not_joined(fake):
    ours, theirs = (fake(run=True)[0][0].apply_async(max, 1, 2) for _ in range(2))
    with pytest.raises(ValueError, match="^these AsyncResults belong to different clients$"):
        ipp.AsyncResult.join(ours, theirs)


def test_arguments_that_are_not_sent_in_time(two, monkeypatch):
    ar = two.e0.apply_async(max, 1, 2)
    monkeypatch.setattr(two.core, "flushed", lambda seq: False)
    assert not ar.sent
    with pytest.raises(TimeoutError, match="^not sent after 0.01 s$"):
        ar.wait_for_send(0.01)
    monkeypatch.setattr(two.core, "flushed", lambda seq: True)
    assert ar.wait_for_send(0) is None and ar.sent


def test_get_has_no_first_completed(two):
    ar = two.dv.apply_async(max, 1, 2)
    two.core.finish(1, 2), two.core.finish(2, 2)
    with pytest.warns(UserWarning, match=r"FIRST_COMPLETED means nothing to get\(\): use wait\(\)"):
        assert ar.get(return_when=ipp.FIRST_COMPLETED) == [2, 2]


def test_m3_callbacks_run_while_nobody_waits(two, until):
    seen = []
    ar = two.e0.apply_async(max, 1)
    ar.add_done_callback(lambda a: seen.append((a.get(), threading.current_thread().name)))
    assert not seen
    two.core.finish(1, 5)
    until(lambda: seen)
    assert seen == [(5, "covey-dispatcher")]
    ar.add_done_callback(lambda a: seen.append("now"))
    assert seen[-1] == "now"


def test_m3_a_callback_that_raises_harms_no_one(two, until, caplog):
    ar, seen = two.e0.apply_async(max, 1), []
    ar.add_done_callback(lambda a: 1 / 0)
    ar.add_done_callback(seen.append)
    two.core.finish(1, 5)
    until(lambda: seen)
    assert "ZeroDivisionError" in caplog.text


def test_m3_the_dispatcher_outlives_what_fails_in_it(two, until, caplog, monkeypatch):
    first, second, third, seen = two.e0.apply_async(max, 1), two.e0.apply_async(max, 1), two.e0.apply_async(max, 1), []
    first.add_done_callback(lambda a: sys.exit("not of this program"))
    first.add_done_callback(lambda a: seen.append("first"))
    for ar, name in ((second, "second"), (third, "third")):
        ar.add_done_callback(lambda a, name=name: seen.append(name))
    two.core.finish(1, 5)
    until(lambda: seen == ["first"])
    assert "not of this program" in caplog.text
    read, failures = two.rc._read, [OSError("the stream is closed")]

    def failing():
        read()
        if second._tasks[0].record is None and not two.core.results and failures:
            raise failures.pop()
    monkeypatch.setattr(two.rc, "_read", failing)
    two.core.finish(2, 5)
    until(lambda: seen == ["first", "second"])
    two.core.finish(3, 5)
    until(lambda: seen == ["first", "second", "third"])
    assert not failures


def test_m3_a_result_that_comes_while_it_is_counted_is_not_waited_for_again(two, until, monkeypatch):
    both = two.dv.apply_async(max, 1)
    both.split()[0].add_done_callback(lambda part: None)
    count = two.core.done_count

    def count_while_one_comes(keys):
        n = count(keys)
        if 1 in two.core.pending and both in two.rc._watchers.get(1, ()):
            two.core.finish(1, 5)
            with contextlib.suppress(AssertionError):  # as far as another thread may get meanwhile
                until(lambda: both._unseen < 0, timeout=0.3)
        return n
    monkeypatch.setattr(two.core, "done_count", count_while_one_comes)
    seen = []
    both.add_done_callback(seen.append)
    two.core.finish(2, 5)
    until(lambda: seen == [both])


def test_m3_concurrent_futures(two):
    ars = [two.lv.apply_async(max, i) for i in range(4)]
    assert all(isinstance(a, concurrent.futures.Future) for a in ars)
    done, pending = concurrent.futures.wait(ars, timeout=0)
    assert not done
    threading.Timer(0.02, lambda: [two.core.finish(i, i) for i in (3, 1)]).start()
    done, pending = concurrent.futures.wait(ars, timeout=60, return_when=ipp.FIRST_COMPLETED)
    assert done and pending
    threading.Timer(0.02, lambda: [two.core.finish(i, i) for i in (2, 4)]).start()
    assert {a.result() for a in concurrent.futures.as_completed(ars, timeout=60)} == {1, 2, 3, 4}
    done, pending = concurrent.futures.wait(ars, timeout=60)
    assert len(done) == 4


def test_m3_wait_for_first_exception(two):
    ars = [two.lv.apply_async(max, i) for i in range(3)]
    threading.Timer(0.02, lambda: two.core.finish(2, error=ValueError("x"))).start()
    done, pending = concurrent.futures.wait(ars, timeout=60, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert done == {ars[1]}


def test_await(two):
    async def main():
        one, both = two.e0.apply_async(max, 1), two.dv.apply_async(max, 1)
        wrapped = asyncio.wrap_future(two.e0.apply_async(max, 2))
        asyncio.get_running_loop().call_later(0.02, lambda: [two.core.finish(i, i) for i in (1, 2, 3, 4)])
        return await one, await both, await wrapped
    assert asyncio.run(main()) == (1, [2, 3], 4)


def test_await_raises(two):
    async def main():
        ar = two.e0.apply_async(max, 1)
        asyncio.get_running_loop().call_later(0.02, lambda: two.core.finish(1, error=KeyError("k")))
        await ar
    with pytest.raises(KeyError):
        asyncio.run(main())


def test_m5_cancel_gives_up_at_once(two):
    ar, called = two.e0.apply_async(max, 1), []
    ar.add_done_callback(called.append)
    assert ar.cancel() is True and ar.cancelled() and ar.done() and called == [ar]
    with pytest.raises(concurrent.futures.CancelledError):
        ar.get()
    with pytest.raises(concurrent.futures.CancelledError):
        ar.exception()
    (type_, sent), = two.core.sent
    assert type_ == 9 and sent["flags"] == 0 and (sent["seq"], sent["count"]) == (1, 1)
    assert two.core.forgotten == [(1, 1)] and not two.rc.outstanding
    two.core.finish(1, 5)  # a late result is dropped in silence
    with pytest.raises(concurrent.futures.CancelledError):
        ar.result()
    done = two.e0.apply_async(max, 1)
    two.core.finish(2, 1)
    assert done.cancel() is False


def test_m5_cancel_kills_only_on_request(two):
    ar = two.dv.apply_async(max, 1)
    ar.cancel(kill_after=1.5)
    (_, sent), = two.core.sent
    assert sent["flags"] == 1 << 5 and sent["aux"] == 1_500_000_000 and sent["count"] == 2


def test_m5_abort_only_unqueues(two):
    ar = two.dv.apply_async(max, 1)
    ar.abort()
    (type_, sent), = two.core.sent
    assert type_ == 9 and sent["flags"] == 1 << 6 and not ar.cancelled()
    body = b'{"ename": "TaskAborted", "evalue": "x", "engine": null}'
    two.core.finish(1, buffers=[body], status=2), two.core.finish(2, buffers=[body], status=2)
    with pytest.raises(ipp.TaskAborted):
        ar.get()
    assert ar.status == ["aborted", "aborted"]
    with pytest.raises(RuntimeError):
        ar.abort()


def test_m16_a_result_that_cannot_be_unpickled_fails_alone(two):
    ar, other = two.e0.apply_async(max, 1), two.e0.apply_async(max, 1)
    two.core.finish(1, buffers=[b"\x80\x05cno_such_module\nOdd\n."]), two.core.finish(2, 7)
    with pytest.raises(ipp.RemoteError, match="can't be unpickled here: No module named 'no_such_module'"):
        ar.get()
    assert other.get() == 7


def test_output_while_running_and_s5_metadata(two):
    ar = two.e0.apply_async(print, 1)
    id = ar.msg_ids[0]
    two.core.output(1, 1, b"hel")
    assert ar.stdout == "hel" and two.rc.metadata[id]["stdout"] == "hel"
    two.core.output(1, 1, b"lo\n"), two.core.output(1, 2, b"warn\n")
    two.core.output(1, 3, {"data": {"text/plain": "shown"}, "metadata": {}})
    two.core.finish(1)
    ar.get()
    assert (ar.stdout, ar.stderr, ar.outputs[0]["data"]) == ("hello\n", "warn\n", {"text/plain": "shown"})
    two.core.output(1, 1, b"late\n")
    assert ar.stdout == "hello\nlate\n"


def test_updated_displays_and_cleared_output(two):
    ar = two.e0.apply_async(print, 1)
    two.core.output(1, 3, {"data": {"text/plain": "1"}, "metadata": {}, "transient": {"display_id": "d"}})
    two.core.output(1, 4, {"data": {"text/plain": "2"}, "metadata": {}, "transient": {"display_id": "d"}})
    assert [o["data"]["text/plain"] for o in ar.outputs] == ["2"]
    two.core.output(1, 5, {"wait": False})
    assert ar.outputs == []


def test_display_outputs(two, capsys):
    ar = two.dv.execute("x")
    with pytest.raises(TimeoutError):
        ar.display_outputs()
    for seq in (1, 2):
        two.core.output(seq, 1, f"out {seq}\n".encode(), seq - 1)
        two.core.output(seq, 2, f"err {seq}\n".encode(), seq - 1)
        two.core.output(seq, 6, {"data": {"text/plain": f"{seq}00"}, "metadata": {}, "execution_count": 3}, seq - 1)
        two.core.finish(seq)
    ar.display_outputs()
    out, err = capsys.readouterr()
    assert out.splitlines() == ["[stdout:0] out 1", "[stdout:1] out 2", "Out[0:3]: 100", "Out[1:3]: 200"]
    assert err.splitlines() == ["[stderr:0] err 1", "[stderr:1] err 2"]
    ar.display_outputs("engine")
    assert capsys.readouterr().out.splitlines() == ["[stdout:0] out 1", "Out[0:3]: 100", "[stdout:1] out 2",
                                                    "Out[1:3]: 200"]
    with pytest.raises(ValueError):
        ar.display_outputs("nonsense")
    assert repr(ar.get()[0]) == "<ExecuteReply[3]: 100>" and ar.get()[0].stdout == "out 1\n"


def test_stream_output(two, until):
    ar = two.e0.apply_async(print, 1)
    two.core.output(1, 1, b"before\n")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), ar.stream_output():
        two.core.output(1, 1, b"during\n")
        until(lambda: "during" in out.getvalue())
        two.core.finish(1)
        ar.wait()
    assert out.getvalue() == "[stdout:0] before\nduring\n"   # the label comes again when the source changes


def test_wait_interactive_counts_failures(two, capsys):
    ar = two.lv.map_async(max, [[1], [2], [3]])
    two.core.finish(1, 1), two.core.finish(2, error=ValueError("x"))
    threading.Timer(0.05, lambda: two.core.finish(3, 3)).start()
    ar.wait_interactive(interval=0.01)
    assert "1 failed" in capsys.readouterr().out and ar.ready()
    slow = two.e0.apply_async(max, 1)
    slow.wait_interactive(timeout=0.05)
    assert not slow.ready()


def test_results_that_nobody_can_take_are_dropped(two, monkeypatch):
    monkeypatch.setattr("covey._tasktable._SWEEP_MIN", 4)
    two.rc._sweep_at = 4
    kept, pending = two.e0.apply_async(max, 1), two.e0.apply_async(max, 2).msg_ids[0]
    large = two.e0.apply_async(max, 3).msg_ids[0]
    two.core.finish(1, "kept")
    two.core.finish(3, bytes(1 << 20))
    for seq in range(4, 100):
        two.e0.apply_async(max, seq)
        two.core.finish(seq, seq)
    assert len(two.rc._live) < 20 and len(two.core.results) < 20
    assert kept.get() == "kept" and two.rc.outstanding == {pending}
    assert two.rc.results[large] == bytes(1 << 20)
    two.core.finish(2, "late")
    assert two.rc.get_result(pending).get() == "late"


def test_owner_and_caches(two):
    ar = two.e0.apply_async(max, 1)
    id = ar.msg_ids[0]
    two.core.finish(1, 5)
    assert two.rc.results[id] == 5
    ar.get()
    assert id not in two.rc.results and id not in two.rc.metadata and ar.metadata["engine_id"] == 0
    assert two.rc.metadata[id] is ar.metadata, "programs look there after get(), too"
    del ar
    gc.collect()
    assert two.rc.metadata[id]["stdout"] == "" and two.rc.metadata[id]["engine_id"] is None
    with pytest.raises(KeyError):
        two.rc.metadata[id.partition("_")[0] + "_999"]
    ar = two.e0.apply_async(max, 1)
    ar.owner = False
    two.core.finish(2, 6)
    ar.get()
    assert two.rc.results[ar.msg_ids[0]] == 6 and ar.msg_ids[0] in two.rc.metadata
    assert two.rc.get_result(ar.msg_ids[0]).get() == 6
    two.rc.results.clear()
    assert len(two.rc.results) == 0


def test_map_results_iterate_as_they_come(two):
    ar = two.lv.map_async(max, [[1], [2], [3]])
    it = iter(ar)
    two.core.finish(1, "a")
    assert next(it) == "a" and len(ar) == 3 and ar.progress == 1
    two.core.finish(3, "c"), two.core.finish(2, "b")
    assert list(it) == ["b", "c"]
    fifo = two.lv.map_async(max, [[1], [2], [3]], ordered=False)
    it = iter(fifo)
    two.core.finish(6, "z")
    assert next(it) == "z"
    two.core.finish(4, "x"), two.core.finish(5, "y")
    assert sorted(it) == ["x", "y"] and fifo.get() == ["x", "y", "z"]


def test_map_iteration_raises_on_the_item_that_failed(two):
    ar = two.lv.map_async(max, [[1], [2]])
    two.core.finish(1, 1), two.core.finish(2, error=ValueError("x"))
    it = iter(ar)
    assert next(it) == 1
    with pytest.raises(ValueError):
        next(it)
    kept = two.lv.map_async(max, [[1], [2]], return_exceptions=True)
    two.core.finish(3, 1), two.core.finish(4, error=ValueError("x"))
    assert isinstance(kept.get()[1], ValueError) and isinstance(list(kept)[1], ValueError)


def test_split_of_a_map(two):
    ar = two.lv.map_async(max, [[1]] * 5, chunksize=2)
    for seq, value in ((1, [1, 2]), (2, [3, 4]), (3, [5])):
        two.core.finish(seq, value)
    parts = ar.split()
    assert all(type(p) is ipp.AsyncResult for p in parts) and len(ar) == 5 and len(ar.msg_ids) == len(parts) == 3
    assert parts[0].get() == [[1, 2]] and ipp.AsyncResult.join(*parts).get() == [[1, 2], [3, 4], [5]]
    assert parts[0].split() == (parts[0],) and ipp.AsyncMapResult.join(ar, ar).get() == [1, 2, 3, 4, 5] * 2


def test_s3_pickled_in_the_same_process(two):
    ar = two.lv.map_async(max, [[1]] * 4, chunksize=2)
    again = pickle.loads(pickle.dumps(ar))
    two.core.finish(1, [1, 2]), two.core.finish(2, [3, 4])
    assert again.get() == [1, 2, 3, 4] and type(again) is ipp.AsyncMapResult and again._client is two.rc


def test_publish_data(two):
    from covey.serialize import pack_value
    ar = two.e0.apply_async(max, 1)
    two.core.output(1, 8, bytes(pack_value({"done": 3})[0]))
    assert ar.data == {"done": 3}


def test_m17_whoever_waits_is_told(two, capsys, monkeypatch, until):
    monkeypatch.setattr("covey._tasktable._AWAY_AFTER", 0.05)
    ar, told = two.dv.apply_async(max, 1), []
    two.core.event(event="engine_away", id=1, why="link to node7 cut")

    def hears():
        with pytest.raises(TimeoutError, match=r"waiting for engine 1, away since \d+ s: link to node7 cut"):
            ar.get(0.3)
        told.append(capsys.readouterr().err)
        return told[-1]
    until(hears)
    assert not hears() and "".join(told).count("waiting for engine 1, away") == 1, "once"
    assert "away since" in repr(ar) and two.rc.ids == [0, 1] and len(two.rc) == 2
    two.core.event(event="engine_back", id=1)
    assert repr(ar) == "<AsyncResult(max): pending>"


def test_wait_for_send_returns(two):
    ar = two.e0.apply_async(max, 1)
    assert ar.sent and ar.wait_for_send(1) is None


def test_timedelta(two):
    ar = two.dv.apply_async(max, 1)
    two.core.finish(1), two.core.finish(2)
    ar.get()
    assert ar.timedelta(ar.submitted, ar.received) >= ar.timedelta(ar.started, ar.completed, max, min)


def test_creating_one_takes_no_thread_and_no_descriptor(two):
    ar = two.e0.apply_async(max, 1)
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    many = [ipp.AsyncResult(two.rc, ar._tasks, "f", True) for _ in range(1000)]
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before and not many[0].done()


def test_long_output_is_joined_when_it_is_looked_at(two):
    ar = two.e0.apply_async(max, 1, 2)
    md = ar.metadata
    for i in range(1000):
        two.core.output(1, 1, f"{i}\n".encode())
        two.rc.spin()
    assert len(md._pieces["stdout"]) == 1000 and dict.__getitem__(md, "stdout") == ""  # each was appended, none copied
    text = "".join(f"{i}\n" for i in range(1000))
    assert ar.stdout == text and md._pieces is None
    looks = [lambda: md["stdout"], lambda: md.stdout, lambda: md.get("stdout"), lambda: dict(md)["stdout"], lambda: {**md}["stdout"],
             lambda: dict(md.items())["stdout"], lambda: list(md.values())[list(md).index("stdout")],
             lambda: pickle.loads(pickle.dumps(md))["stdout"], lambda: copy.copy(md)["stdout"],
             lambda: md.copy()["stdout"], lambda: json.loads(json.dumps(dict(md), default=str))["stdout"]]
    for look in looks:
        two.core.output(1, 1, b"x")
        two.rc.spin()
        text += "x"
        assert look() == text
    two.core.output(1, 1, b"before"), two.core.output(1, 5, {"wait": False}), two.core.output(1, 1, b"after")
    two.rc.spin()
    assert md["stdout"] == "after"


def test_iterating_raises_what_get_raises(two):
    """A CompositeError, be it of one task: programs catch that."""
    for call in (lambda: two.dv.apply_async(max, 1), lambda: two.lv.map_async(abs, [1, 2]), lambda: two.lv.map_async(abs, [1, 2], ordered=False)):
        ar = call()
        for task in ar._tasks:
            two.core.finish(task.seq, error=ZeroDivisionError("division by zero"))
        with pytest.raises(ipp.CompositeError) as e:
            list(ar)
        assert isinstance(e.value, ZeroDivisionError) and len(e.value.errors) == 1


def test_what_calls_return_is_not_output(two, capsys):
    ar = two.dv.apply_async(max, 1, 2)
    for seq in (1, 2):
        two.core.output(seq, 1, b"printed\n", seq - 1)
        two.core.finish(seq, 5)
    ar.display_outputs()
    assert capsys.readouterr().out == "[stdout:0] printed\n[stdout:1] printed\n"
