# SPDX-License-Identifier: BSD-3-Clause
"""Views on a fake core that runs calls at once: what is sent where, and what comes back."""
import collections
import gc
import itertools
import operator
import os
import threading
import types
import warnings

import numpy as np
import pytest

import covey as ipp


@pytest.fixture
def two(fake):
    rc, core = fake(run=True)
    return types.SimpleNamespace(rc=rc, core=core, dv=rc[:], e0=rc[0], lv=rc.load_balanced_view())


def square(x):
    return x * x


def test_result_shapes(two):
    assert two.e0.apply_sync(square, 3) == 9
    assert two.rc[[0]].apply_sync(square, 3) == [9] and two.dv.apply_sync(square, 3) == [9, 9]
    assert two.lv.apply_sync(square, 3) == 9
    assert two.dv.apply(square, 3).get() == [9, 9]
    two.dv.block = True
    assert two.dv.apply(square, 3) == [9, 9]


def test_keyword_names_are_free(two):
    assert two.e0.apply_sync(lambda **k: k, f=5, self=6, block=7) == {"f": 5, "self": 6, "block": 7}


def test_s14_targets_as_free_as_in_stock(two):
    rc = two.rc
    assert rc[np.int64(1)].targets == 1 and rc[np.array([0, 1])].targets == [0, 1] and rc[-1].targets == 1
    assert rc[:len(rc)].targets == [0, 1] and rc[::2].targets == [0] and rc[range(2)].targets == [0, 1]
    assert rc.load_balanced_view(range(2)).targets == [0, 1] and rc.load_balanced_view().targets is None
    assert [v.targets for v in rc] == rc.ids == [0, 1] and rc.ids is not rc.ids
    for bad in ("a", None, b"a", 1.5, ["a"]):
        with pytest.raises(TypeError):
            rc[bad]
    for bad in (5, -3, [0, 9]):
        with pytest.raises(IndexError):
            rc[bad]
    with pytest.raises(TypeError):
        rc.direct_view("some")
    assert rc.direct_view().targets == "all" and repr(rc.direct_view()) == "<DirectView all>"
    assert repr(rc[:]) == "<DirectView [0, 1]>" and len(rc[:]) == 2 and len(two.lv) == 2 and len(two.e0) == 1


@pytest.mark.parametrize("call", [
    lambda t, *seqs: t.lv.map(max, *seqs), lambda t, *seqs: t.lv.map(max, *seqs, chunksize=7), lambda t, *seqs: t.dv.map(max, *seqs),
    lambda t, *seqs: t.dv.parallel(dist="r")(max).map(*seqs), lambda t, *seqs: t.lv.parallel(chunksize=7)(max).map(*seqs), lambda t, *seqs: list(t.lv.imap(max, *seqs))])
@pytest.mark.parametrize("n", [20, 2000])  # of items: alone and in ranges
def test_a_map_names_the_item_that_cannot_travel(two, call, n):
    items = [1] * n
    items[n - 3] = {"lock": threading.Lock()}
    with pytest.raises(TypeError, match=rf"can't send item {n - 3}, argument 1\['lock'\]: cannot pickle"):
        call(two, range(n), items)


def test_a_map_whose_function_cannot_travel_names_that(two):
    lock = threading.Lock()
    for call in (lambda f: two.lv.map(f, [1]), lambda f: two.lv.map(f, range(100)), lambda f: two.lv.map(f, range(9), chunksize=2), lambda f: two.dv.map(f, range(9))):
        with pytest.raises(TypeError, match="can't send the function's default 'x'"):
            call(lambda i, x=lock: i)


def test_m17_a_view_that_names_a_dead_engine_says_why(two):
    two.core.event(event="engine_died", id=0, uuid="u", cause={"text": "engine 0: killed by SIGSEGV"})
    for view in (two.e0, two.dv):
        with pytest.raises(ipp.EngineError, match="killed by SIGSEGV"):
            view.apply_async(square, 1)
    assert two.rc.ids == [1] and two.rc.direct_view().apply_sync(square, 2) == [4]


def test_all_is_evaluated_at_each_call(two):
    view = two.rc.direct_view()
    two.core.event(event="engine_joined", engine={"id": 7, "uuid": "u7", "state": "up"})
    assert len(view) == 3 and len(view.apply_sync(square, 2)) == 3 and len(two.dv.apply_sync(square, 2)) == 2


def test_no_engines(fake):
    rc, _ = fake(engines=0)
    with pytest.raises(ipp.NoEnginesRegistered):
        rc.direct_view().apply(square, 1)


def test_flags(two):
    assert two.dv.set_flags(label="a", block=True) is two.dv and two.dv.label == "a"
    with pytest.raises(KeyError):
        two.dv.set_flags(nonsense=1)
    with two.dv.temp_flags(block=False, label="b"):
        assert not two.dv.block and two.dv.label == "b"
    assert two.dv.block and two.dv.label == "a"
    with pytest.raises(KeyError):
        two.dv.set_flags(priority=1)


def test_bad_flags_leave_the_old_value(two):
    two.lv.set_flags(timeout=3, retries=2)
    for flags, kind in (({"timeout": -1}, ValueError), ({"timeout": "x"}, TypeError), ({"retries": 1.5}, TypeError),
                        ({"after": 5}, ValueError), ({"follow": 1.5}, ValueError)):
        with pytest.raises(kind):
            two.lv.set_flags(label="with it", **flags)  # all or none
    assert (two.lv.timeout, two.lv.retries, two.lv.after, two.lv.label) == (3, 2, None, None)


def test_the_route_says_what_the_flags_say(two):
    two.core.run = False
    ar = two.dv.apply_async(square, 1)
    first, second = ar.msg_ids
    two.lv.set_flags(after=ar, follow=ipp.Dependency([first], all=False, failure=True), timeout=2.5, retries=3,
                     targets=[1], label="name", priority=4)
    task = two.lv.apply_async(operator.add, 1, 2)
    route = two.core.pending[3][3]
    assert route["after"] == [(0xABCD, 1, 3)] and route["follow"] == [(0xABCD, 1, 2)]
    assert route["dep"] == {"after_all": True, "after_success": True, "after_failure": False,
                            "follow_all": False, "follow_success": True, "follow_failure": True}
    assert (route["timeout"], route["retries"], route["targets"], route["label"], route["priority"]) == \
        (2.5, 3, [1], "name", 4)
    assert task.label == "name" and set(task.after) == {first, second}
    two.lv.set_flags(after=None, follow=None, timeout=None, retries=0, targets=None, label=None, priority=0)
    two.lv.apply_async(operator.add, 1, 2)
    assert two.core.pending[4][3] is None
    two.dv.set_flags(after=ar, retries=2, timeout=1)
    assert set(two.dv.apply_async(square, 1).metadata[0]["after"]) == {first, second}
    assert two.core.pending[5][3] == {"targets": [0, 1], "after": [(0xABCD, 1, 3)], "retries": 2, "timeout": 1.0,
                                      "dep": {"after_all": True, "after_success": True, "after_failure": False}}


def test_m18_code_by_value_names_its_python(two):
    import sys
    two.core.run = False
    two.e0.apply_async(operator.add, 1, 2), two.e0.apply_async(lambda: 1)
    assert two.core.pending[1][3] is None
    assert two.core.pending[2][3] == {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}


def test_direct_map(two):
    assert two.dv.map_sync(square, range(10)) == [x * x for x in range(10)]
    assert two.dv.map_sync(operator.add, [1, 2, 3], iter([10, 20])) == [11, 22]
    ar = two.dv.map_async(square, [1])
    assert len(ar.msg_ids) == 1 and ar.get() == [1] and len(ar) == 1
    assert two.dv.map_sync(square, []) == [] and two.dv.map(square, [3], block=True) == [9]
    with pytest.raises(TypeError):
        two.dv.map_sync(square, [1], chunksize=2)
    for call in (two.dv.map_sync, two.dv.map_async):
        with pytest.raises(TypeError):
            call(square, [1], block=True)
    with pytest.raises(TypeError):
        two.dv.map_sync(square)
    got = two.dv.map_sync(lambda x: 1 / x, range(4), return_exceptions=True)
    assert len(got) == 3 and isinstance(got[0], ZeroDivisionError)
    assert list(two.dv.imap(square, [1, 2])) == [1, 4]


def test_balanced_map(two):
    for chunksize in (None, 0, 1, 3, 100):
        ar = two.lv.map_async(square, range(10), chunksize=chunksize)
        assert ar.get() == [x * x for x in range(10)] and len(ar) == 10 and ar.progress == 10
    assert len(two.lv.map_async(square, range(10), chunksize=3).msg_ids) == 4
    assert two.lv.map_sync(operator.add, [1, 2, 3], itertools.count()) == [1, 3, 5]
    assert two.lv.map_sync(square, (x for x in range(3))) == [0, 1, 4] and two.lv.map_sync(square, []) == []
    with pytest.raises(ValueError):
        two.lv.map_sync(square, [1], chunksize=-1)


@pytest.mark.parametrize("call, words", [
    (lambda t: t.lv.map(abs), r"map\(\) needs at least one sequence"),
    (lambda t: t.dv.map(abs), r"map\(\) needs at least one sequence"),
    (lambda t: t.lv.imap(abs), r"imap\(\) needs at least one sequence"),
    (lambda t: t.dv.parallel()(abs)(), "at least one sequence is needed"),
    (lambda t: t.lv.set_flags(retries=1.5), "retries is an int, not float"),
    (lambda t: t.lv.set_flags(retries=-1), "retries can't be negative: -1"),
    (lambda t: t.lv.set_flags(timeout="1 s"), "timeout is a number of seconds, not str"),
    (lambda t: t.rc.direct_view("some"), "targets are engine numbers or 'all', not 'some'"),
    (lambda t: t.rc.queue_status("some"), "targets are engine numbers or 'all', not 'some'"),
    (lambda t: t.rc.get_result(5.5), "a job is an AsyncResult, a msg_id or an index into history, not float")])
def test_what_makes_no_sense_is_named(two, call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(two)
    assert two.core.next == 1, "nothing was sent"
    assert two.lv.apply_async(abs, -1).get(60) == 1, "the view is as it was"


def test_a_map_of_nothing(two):
    b = two.rc.broadcast_view()
    assert two.dv.map_async(square, []) == two.lv.map_async(square, []) == b.map_sync(square, []) == []
    ar = b.map_async(square, [])
    assert isinstance(ar, ipp.AsyncMapResult) and ar.get() == list(ar) == [] and ar.ready() and ar.successful() and len(ar) == 0 and ar.wait()


@pytest.mark.parametrize("chunksize", [1, 2])
def test_what_is_no_sequence_is_mapped_like_in_python(two, chunksize):
    one, both = dict.fromkeys("abc"), collections.deque([1, 2, 3])
    assert two.lv.map_sync(operator.mul, one, both, chunksize=chunksize) == ["a", "bb", "ccc"]
    assert two.lv.map_sync(operator.add, itertools.count(), iter([1, 2, 3]), chunksize=chunksize) == [1, 3, 5]
    assert two.lv.map_sync(operator.add, itertools.count(), np.arange(3), chunksize=chunksize) == [0, 2, 4]
    assert two.dv.map_sync(operator.mul, one, both) == ["a", "bb", "ccc"]
    assert two.dv.map_sync(operator.add, itertools.count(), [1, 2, 3]) == [1, 3, 5]
    assert two.lv.map_sync(square, iter([]), chunksize=chunksize) == []


def test_targets_are_what_counts_as_a_number(two):
    two.core.run = False
    two.dv.push({"a": 1}, targets=[np.int64(0), np.int64(1)])
    (route,) = {id(p[3]): p[3] for p in two.core.pending.values()}.values()
    assert [type(n) for n in route["targets"]] == [int, int]
    view = two.rc[:]
    for targets, n in ((np.int64(1), 1), (slice(0, 2), 2), (slice(1, 2), 1), (-1, 1), ([np.int64(1)], 1)):
        view.targets = targets
        assert len(view) == n == len(view.apply_async(max, 1)._tasks)
    with pytest.raises(ipp.error.NoEnginesRegistered):
        two.dv.pull("a", targets=slice(5, 9))
    for call in (lambda: two.rc[-9], lambda: two.rc.direct_view(-9), lambda: two.dv.pull("a", targets=-9)):
        with pytest.raises(IndexError, match="no engine -9: there are only 2 engines"):
            call()


def test_many_items_travel_in_few_messages(two):
    ar = two.lv.map_async(square, range(10_000))
    firsts = {p[5] for p in two.core.pending.values()}
    assert ar.get() == [x * x for x in range(10_000)] and len(ar.msg_ids) == 10_000 and not firsts


def test_m2_map_gives_each_item_its_own_function(two):
    ns = {"__name__": "__main__"}
    exec("def f(x, acc=[]):\n    acc.append(x)\n    return acc", ns)
    assert two.lv.map_sync(ns["f"], range(200)) == [[i] for i in range(200)]


def test_lazy_map(two):
    assert next(two.lv.imap(square, itertools.count(3))) == 9
    taken = []

    def source():
        for i in itertools.count():
            taken.append(i)
            yield i
    it = two.lv.imap(square, source(), max_outstanding=3)
    assert next(it) == 0 and len(taken) == 4
    it.cancel()
    assert list(it) == []
    assert sorted(two.lv.imap(square, range(5), ordered=False)) == [0, 1, 4, 9, 16]
    assert list(two.lv.imap(square, range(5), max_outstanding=0)) == [0, 1, 4, 9, 16]

    def broken():
        yield 1
        raise KeyError("input")
    it = two.lv.imap(square, broken())
    assert next(it) == 1
    with pytest.raises(KeyError, match="input"):
        next(it)
    got = list(two.lv.imap(lambda x: 1 / x, [0, 1], return_exceptions=True))
    assert isinstance(got[0], ZeroDivisionError) and got[1] == 1


def test_executor(two):
    with two.lv.executor as ex:
        assert ex.submit(pow, 2, 10).result() == 1024 and list(ex.map(square, [1, 2])) == [1, 4]
        assert ex._max_workers == 2
    with pytest.raises(RuntimeError):
        ex.submit(pow, 2, 3)
    with two.dv.executor as ex:
        assert ex.submit(pow, 2, 3).result() == [8, 8]
    with two.rc.executor() as ex, pytest.warns(UserWarning):
        assert list(ex.map(square, [1], timeout=60)) == [1]


@pytest.mark.parametrize("submit", [lambda ex: ex.submit(square, 1), lambda ex: ex.map(square, [1])])
def test_an_executor_waits_for_what_nobody_holds(two, submit):
    two.core.run = False
    for view in (two.lv, two.e0):
        ex, left = view.executor, threading.Event()
        submit(ex)
        gc.collect()
        shutdown = threading.Thread(target=lambda: (ex.shutdown(cancel_futures=True), left.set()), daemon=True)
        shutdown.start()
        assert not left.wait(0.1)
        (seq,) = two.core.pending
        assert (two.core.sent[-1][0], two.core.sent[-1][1]["seq"]) == (9, seq)
        two.core.finish(seq, 1)
        assert left.wait(60)


def test_remote_and_parallel(two):
    @two.dv.remote(block=True)
    def f(x):
        "doc of f"
        return x + 1
    assert f(1) == [2, 2] and f.__name__ == "f" and f.__doc__ == "RemoteFunction wrapping:\ndoc of f"
    assert list(f.__signature__.parameters) == ["x"]

    @two.dv.parallel(block=True)
    def double(part):
        return [2 * x for x in part]
    assert double(range(5)) == [0, 2, 4, 6, 8] and double.map.__self__ is double
    with pytest.raises(ValueError):
        two.dv.parallel(block=True)(lambda a, b: a)([1, 2], [1])

    @ipp.parallel(two.lv, block=True)
    def half(x):
        return x / 2
    assert half.map([2, 4, 6]) == [1, 2, 3]
    for chunksize, tasks in ((None, 5), (1, 5), (2, 3), (9, 1)):
        f = ipp.ParallelFunction(two.lv, lambda part: [len(part)] * len(part), chunksize=chunksize)
        assert len(f(range(5)).msg_ids) == tasks and f(range(5)).get()[0] == min(5, chunksize or 1)
        f = ipp.ParallelFunction(two.lv, square, chunksize=chunksize)
        assert len(f.map(range(5)).msg_ids) == tasks and f.map(range(5)).get() == [0, 1, 4, 9, 16]
    rr = two.dv.parallel(dist="r", block=True)(lambda part: list(part))
    assert rr(list(range(5))) == [0, 1, 2, 3, 4]
    with pytest.warns(UserWarning):
        ipp.ParallelFunction(two.dv, square, chunksize=3)
    with pytest.raises(ValueError):
        two.dv.parallel(dist="x")(square)


def test_execute_sends_source(two):
    ar = two.dv.execute("a = 5", block=True)
    assert isinstance(ar, ipp.AsyncResult) and two.core.ns["a"] == 5
    with pytest.raises(ZeroDivisionError):
        two.e0.execute("1/0", block=True)
    with pytest.raises(TypeError):
        two.e0.execute(5)
    two.core.run = False
    two.e0.execute("x"), two.e0.execute("x", silent=False)
    last = max(two.core.pending)
    assert two.core.pending[last - 1][1] & 8 and not two.core.pending[last][1] & 8


def test_run_reads_a_file(two, tmp_path):
    path = tmp_path / "s.py"
    path.write_text("zz = 3")
    two.dv.run(path, block=True)
    assert two.core.ns["zz"] == 3


def test_argument_checks(two):
    with pytest.raises(TypeError):
        two.dv.push([1])
    with pytest.raises(TypeError):
        two.dv.push({1: 2})
    with pytest.raises(TypeError):
        two.dv.pull(5)
    with pytest.raises(TypeError):
        two.dv.pull([1])
    with pytest.raises(NotImplementedError):
        with two.dv.sync_imports(local=False):
            pass


def test_history(two):
    a, b = two.dv.apply_async(square, 1), two.lv.apply_async(square, 1)
    assert two.dv.history == a.msg_ids and two.lv.history == b.msg_ids and two.rc.history == a.msg_ids + b.msg_ids
    assert two.lv.get_result(-1).get() == 1 and two.dv.get_result(a.msg_ids[1]).get() == 1


def test_what_is_outstanding_costs_what_is_under_way_not_all_that_ever_was(two, monkeypatch):
    two.core.run = False
    other, mine = two.rc.load_balanced_view(), two.rc.load_balanced_view()
    ars = [view.apply_async(max, 1) for view in (mine, other, mine, mine, other)]
    monkeypatch.setattr(ipp.View, "history", property(lambda view: pytest.fail("millions of texts")))
    two.core.finish(3, 1)
    assert mine.outstanding == {ars[0].msg_ids[0], ars[3].msg_ids[0]} and other.outstanding == {ars[1].msg_ids[0], ars[4].msg_ids[0]}
    mine._ranges.reverse()
    assert len(mine.outstanding) == 2
    assert not mine.wait(timeout=0.01)
    two.core.finish(1, 1), two.core.finish(4, 1)
    assert mine.wait(timeout=60) and not mine.outstanding and not other.wait(timeout=0.01)
    assert mine.abort().result() is None
    assert not two.core.sent
    other.abort()
    assert [kw["seq"] for _, kw in two.core.sent] == [2, 5]


def test_dependency_sets():
    ids = [f"{1:016x}_{i}" for i in (1, 2)]
    d = ipp.Dependency(ids)
    assert not d.check(ids[:1]) and d.check(ids) and d.unreachable([], ids[:1]) and not d.unreachable(ids, [])
    d = ipp.Dependency(ids, all=False, failure=True)
    again = ipp.Dependency(d.as_dict())
    assert again == d and (again.all, again.success, again.failure) == (False, True, True)
    assert d.check([], ids[1:]) and d.as_dict()["failure"] and sorted(d.as_dict()["dependencies"]) == ids
    with pytest.raises(ValueError):
        ipp.Dependency(ids, success=False, failure=False)
    with pytest.raises(ValueError):
        ipp.Dependency([5])


def test_depend_and_require(two):
    asked = ipp.depend(operator.gt, 2, 1)(square)
    assert two.lv.apply_sync(asked, 3) == 9
    with pytest.raises(ipp.UnmetDependency):
        two.e0.apply_sync(ipp.depend(operator.gt, 1, 2)(square), 3)
    with pytest.raises(TypeError):
        ipp.require(5)
    assert ipp.require("os", os, square)(square).dkwargs.keys() == {"square"}
    ns = {"__name__": "__main__"}
    exec("def f(): return base64.b64encode(b'foo')", ns)
    assert two.e0.apply_sync(ipp.require("base64")(ns["f"])) == b"Zm9v"
    with pytest.raises(ipp.UnmetDependency):
        two.e0.apply_sync(ipp.require("no_such_module_anywhere")(ns["f"]))


def test_a_large_argument_is_not_copied_into_the_stream(two):
    two.core.run = False
    two.e0.push({"a": b"x" * 100_000})
    assert [len(b) for b in two.core.pending[1][4][1:]] == [100_000]


def test_no_warnings_from_plain_use(two):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two.lv.map_sync(square, range(10))


def test_labels_are_text(two):
    for ar in (two.e0.set_flags(label=5).apply_async(abs, 1), two.lv.map_async(abs, [1], label=np.int64(5)), two.e0.execute("1", label=5)):
        assert ar.label in ("5", ["5"])


def test_one_calls_label_is_not_another_threads(two):
    """A call with flags of its own does not change its view, which other threads use meanwhile."""
    seen = []

    class Watched(list):
        def __iter__(self):
            seen.append((two.lv.label, two.lv.block, two.dv.label, two.dv.block))
            return super().__iter__()

        def __getitem__(self, key):
            seen.append((two.lv.label, two.lv.block, two.dv.label, two.dv.block))
            return super().__getitem__(key)

    items = Watched([1, 2, 3])
    calls = [two.lv.map_async(abs, items, label="a"), two.lv.map_async(abs, items, label="a", chunksize=2), two.dv.map_async(abs, items, label="a"),
             two.dv.parallel(block=False, label="a")(len)(items)]
    two.dv.block = True
    calls.append(two.dv.remote(block=False, label="a")(len)([1]))
    assert all(m["label"] == "a" for ar in calls for m in ar.metadata)
    assert seen and set(seen) == {(None, False, None, False)} and two.dv.block is True
    assert set(calls[0].msg_ids) < set(two.lv.history), "its tasks are the view's"


def test_a_view_without_engines_says_why(two):
    for view in (two.rc[[]], two.rc.direct_view([])):
        with pytest.raises(ipp.NoEnginesRegistered, match=r"targets are \[\]\): there were none when it was made: rc.wait_for_engines"):
            view.apply_async(abs, 1)
    none = two.rc[[]]
    two.rc.close()
    with pytest.raises(ipp.NoEnginesRegistered, match="its client is closed"):
        none.apply_async(abs, 1)
