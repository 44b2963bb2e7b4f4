"""Where, when and how often tasks run, on real engines: schemes, hwm, dependencies, priorities, retries."""
import os
import signal
import time

import pytest

import covey as ipp

from .conftest import wait_until
from .stack import Stack


@pytest.fixture
def stack(ipython_dir):
    made = []

    def start(n=2, *args, config=None):
        if config:
            folder = os.path.join(ipython_dir["IPYTHONDIR"], "profile_default")
            os.makedirs(folder)
            with open(os.path.join(folder, "ipcontroller_config.py"), "w") as f:
                f.write("c = get_config()\n" + config)
        made.append(Stack(ipython_dir, n, controller_args=args))
        return made[-1]

    yield start
    for s in made:
        s.stop()


@ipp.interactive
def flaky(times):
    """Raises the first `times` times on each engine."""
    global tries
    tries = globals().get("tries", 0) + 1
    if tries <= times:
        raise ValueError("again")
    return tries


def _repeats(rc, calls=30):
    lv = rc.load_balanced_view()
    pids = [lv.apply_sync(os.getpid) for _ in range(calls)]
    return sum(a == b for a, b in zip(pids, pids[1:]))


@pytest.mark.parametrize("args, config, repeats", [
    ((), 'c.TaskScheduler.scheme_name = "plainrandom"\n', True),
    (("--scheme=lru",), 'c.TaskScheduler.scheme_name = "plainrandom"\n', False),
])
def test_the_scheme_is_configured_as_in_stock(stack, args, config, repeats):
    assert bool(_repeats(stack(2, *args, config=config).rc)) is repeats


@pytest.mark.parametrize("hwm, queued", [("1", 4), ("2", 2), ("0", 0)])
def test_hwm_bounds_what_engines_hold(stack, hwm, queued):
    rc = stack(2, "--hwm=" + hwm).rc
    lv = rc.load_balanced_view()
    ar = [lv.apply_async(time.sleep, 0.3) for _ in range(6)]
    wait_until(lambda: rc.queue_status()["unassigned"] == queued, what=f"{queued} unassigned tasks")
    for a in ar:
        a.get(10)


def test_priorities_targets_and_labels(stack):
    rc = stack(2, "--hwm=1").rc
    rc.load_balanced_view([0]).apply_sync(os.getpid)
    lv = rc.load_balanced_view([0], label="mine")
    busy = lv.apply_async(time.sleep, 0.4)
    ars = {}
    for priority in (0, -5, 7, 3):
        with lv.temp_flags(priority=priority):
            ars[priority] = lv.apply_async(time.sleep, 0.01)
    for ar in ars.values():
        ar.get(10)
    assert sorted(ars, key=lambda p: ars[p].started) == [7, 3, 0, -5]
    assert {ar.engine_id for ar in ars.values()} == {0} and ars[7].metadata.label == "mine"
    assert busy.get(10) is None and lv.priority == 0


def test_tasks_of_another_client_can_be_waited_for(stack):
    s = stack()
    with ipp.Client(s.client_file) as other:
        theirs = other[0].apply_async(time.sleep, 0.4)
        other.spin()
        lv = s.rc.load_balanced_view()
        wait_until(lambda: s.rc.queue_status()[0]["queue"] + s.rc.queue_status()[0]["tasks"], what="the other's task")
        with lv.temp_flags(after=theirs.msg_ids):
            mine = lv.apply_async(os.getpid)
        with lv.temp_flags(follow=theirs):  # a direct task can be followed too
            there = lv.apply_async(os.getpid)
        theirs.get(10)
        assert mine.get(10) and mine.started >= theirs.completed
        assert there.get(10) == s.rc[0].apply_sync(os.getpid)


def test_direct_tasks_have_dependencies(stack):
    rc = stack().rc
    first = rc[0].apply_async(time.sleep, 0.3)
    with rc[1].temp_flags(after=first):
        pass
    second = rc[1].set_flags(after=first).apply_async(os.getpid)
    everywhere = rc[:].set_flags(after=ipp.Dependency([first], all=False)).apply_async(os.getpid)
    second.get(10)
    assert second.started >= first.completed and len(everywhere.get(10)) == 2
    assert all(m["started"] >= first.completed for m in everywhere.metadata)
    assert rc[0].set_flags(follow=first).apply_sync(os.getpid)
    with pytest.raises(ipp.ImpossibleDependency, match="another engine"):
        rc[1].set_flags(follow=first).apply_async(os.getpid).get(10)
    with pytest.raises(ipp.InvalidDependency):
        rc[1].set_flags(after="0123456789abcdef_7").apply_async(os.getpid).get(10)
    with pytest.raises(ipp.TaskTimeout):
        slow = rc[0].apply_async(time.sleep, 1)
        rc[1].set_flags(after=slow, timeout=0.1).apply_async(os.getpid).get(10)


def test_direct_tasks_are_retried_on_their_engine(stack):
    rc = stack().rc
    assert rc[0].set_flags(retries=2).apply_async(flaky, 2).get(10) == 3
    rc[:]["tries"] = 0
    rc[1]["tries"] = 5
    assert rc[:].set_flags(retries=1).apply_async(flaky, 1).get(10) == [2, 6]
    rc[:]["tries"] = 0
    with pytest.raises(ipp.RemoteError, match="again"):
        rc[0].set_flags(retries=1).apply_async(flaky, 2).get(10)
    dying = rc[1].set_flags(retries=3).apply_async(os.kill, rc[1].apply_sync(os.getpid), signal.SIGKILL)
    with pytest.raises(ipp.EngineError):
        dying.get(10)
    assert rc.ids == [0]


def test_a_task_waits_for_the_engine_that_meets_it(stack):
    s = stack(2)

    def third():
        return get_ipython().kernel.engine_id == 2  # noqa: F821

    busy = s.rc[0].apply_async(time.sleep, 30)
    task = s.rc.load_balanced_view().apply_async(ipp.depend(third)(os.getpid))
    wait_until(lambda: s.rc.queue_status()["unassigned"] == 1, what="an engine that said no")
    s.run("ipengine")
    pid = task.get(20)
    assert pid == s.rc[2].apply_sync(os.getpid) and task.engine_id == 2
    busy.cancel()


def test_require_says_no_where_a_module_is_missing(stack, tmp_path):
    (tmp_path / "only_here.py").write_text("x = 5\n")
    rc = stack().rc
    rc[1].apply_sync(lambda p: __import__("sys").path.append(p), str(tmp_path))
    lv = rc.load_balanced_view()

    @ipp.require("only_here", more=2)
    @ipp.interactive
    def f():
        return only_here.x + more  # noqa: F821

    ars = [lv.apply_async(f) for _ in range(4)]
    assert [a.get(10) for a in ars] == [7] * 4 and {a.engine_id for a in ars} == {1}
    with pytest.raises(ipp.ImpossibleDependency):
        lv.apply_async(ipp.require("not_there_at_all")(f)).get(10)
    with pytest.raises(ipp.UnmetDependency):
        rc[0].apply_async(f).get(10)


def test_a_task_that_killed_three_engines_ends(stack):
    s = stack(4)
    lv = s.rc.load_balanced_view()
    with lv.temp_flags(retries=50):
        killer = lv.apply_async(os._exit, 3)
    with pytest.raises(ipp.EngineError, match=r"engines that died running it: \d \d \d"):
        killer.get(20)
    assert len(wait_until(lambda: len(s.rc.ids) == 1 and s.rc.ids, what="one engine")) == 1
