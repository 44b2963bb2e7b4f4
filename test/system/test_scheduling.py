"""Where, when and how often tasks run, on real engines: schemes, hwm, dependencies, priorities, retries."""
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import covey as ipp

from .conftest import wait_until
from .stack import Stack, until_exists


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
def test_hwm_bounds_what_engines_hold(stack, hwm, queued, tmp_path):
    rc = stack(2, "--hwm=" + hwm).rc
    lv = rc.load_balanced_view()
    ar = [lv.apply_async(until_exists, str(tmp_path / "go")) for _ in range(6)]
    wait_until(lambda: rc.queue_status()["unassigned"] == queued, what=f"{queued} unassigned tasks")
    (tmp_path / "go").touch()
    for a in ar:
        a.get(30)


def test_priorities_targets_and_labels(stack, tmp_path):
    rc = stack(2, "--hwm=1").rc
    rc.load_balanced_view([0]).apply_sync(os.getpid)
    lv = rc.load_balanced_view([0], label="mine")
    busy = lv.apply_async(until_exists, str(tmp_path / "go"))
    ars = {}
    for priority in (0, -5, 7, 3):
        with lv.temp_flags(priority=priority):
            ars[priority] = lv.apply_async(time.sleep, 0.01)
    rc.queue_status()  # all are there
    (tmp_path / "go").touch()
    for ar in ars.values():
        ar.get(30)
    assert sorted(ars, key=lambda p: ars[p].started) == [7, 3, 0, -5]
    assert {ar.engine_id for ar in ars.values()} == {0} and ars[7].metadata.label == "mine"
    assert busy.get(30) is None and lv.priority == 0


def test_tasks_of_another_client_can_be_waited_for(stack, tmp_path):
    s = stack()
    with ipp.Client(s.client_file) as other:
        lv = s.rc.load_balanced_view()
        theirs = other[0].apply_async(until_exists, str(tmp_path / "go"))
        with lv.temp_flags(after=theirs.msg_ids):
            mine = lv.apply_async(os.getpid)
        with lv.temp_flags(follow=theirs):  # a direct task can be followed too
            there = lv.apply_async(os.getpid)
        s.rc.queue_status()  # both are there
        (tmp_path / "go").touch()
        theirs.get(30)
        assert mine.get(30) and mine.started >= theirs.completed
        assert there.get(30) == s.rc[0].apply_sync(os.getpid)
        for client, view in ((other, lv), (s.rc, other.load_balanced_view())) * 50:  # at once: it may still be on its way
            theirs = client.load_balanced_view().apply_async(abs, -1)
            assert view.set_flags(after=theirs).apply_async(abs, -2).get(30) == 2
            theirs = client.load_balanced_view().apply_async(abs, -3)
            assert view.client.result_status(theirs.msg_ids)["status"] == "ok"
            assert view.client.resubmit(theirs.msg_ids).get(30) == [3]



def test_direct_tasks_have_dependencies(stack, tmp_path):
    rc = stack().rc
    first = rc[0].apply_async(until_exists, str(tmp_path / "go"))
    second = rc[1].set_flags(after=first).apply_async(os.getpid)
    everywhere = rc[:].set_flags(after=ipp.Dependency([first], all=False)).apply_async(os.getpid)
    rc.queue_status()  # all are there
    (tmp_path / "go").touch()
    second.get(30)
    assert second.started >= first.completed and len(everywhere.get(30)) == 2
    assert all(m["started"] >= first.completed for m in everywhere.metadata)
    assert rc[0].set_flags(follow=first).apply_sync(os.getpid)
    with pytest.raises(ipp.ImpossibleDependency, match="another engine"):
        rc[1].set_flags(follow=first).apply_async(os.getpid).get(30)
    with pytest.raises(ipp.InvalidDependency):
        rc[1].set_flags(after="0123456789abcdef_7").apply_async(os.getpid).get(30)
    slow = rc[0].apply_async(time.sleep, 600)
    with pytest.raises(ipp.TaskTimeout):
        rc[1].set_flags(after=slow, timeout=0.1).apply_async(os.getpid).get(30)
    slow.cancel()


def test_direct_tasks_are_retried_on_their_engine(stack):
    rc = stack().rc
    assert rc[0].set_flags(retries=2).apply_async(flaky, 2).get(30) == 3
    rc[:]["tries"] = 0
    rc[1]["tries"] = 5
    assert rc[:].set_flags(retries=1).apply_async(flaky, 1).get(30) == [2, 6]
    rc[:]["tries"] = 0
    with pytest.raises(ipp.RemoteError, match="again"):
        rc[0].set_flags(retries=1).apply_async(flaky, 2).get(30)
    dying = rc[1].set_flags(retries=3).apply_async(os.kill, rc[1].apply_sync(os.getpid), signal.SIGKILL)
    with pytest.raises(ipp.EngineError):
        dying.get(30)
    assert rc.ids == [0]


def test_a_task_waits_for_the_engine_that_meets_it(stack):
    s = stack(2)

    def third():
        return get_ipython().kernel.engine_id == 2  # noqa: F821

    busy = s.rc[0].apply_async(time.sleep, 600)
    task = s.rc.load_balanced_view().apply_async(ipp.depend(third)(os.getpid))
    wait_until(lambda: s.rc.queue_status()["unassigned"] == 1, what="an engine that said no")
    s.run("ipengine")
    pid = task.get(30)
    assert pid == s.rc[2].apply_sync(os.getpid) and task.engine_id == 2
    busy.cancel()


def test_an_engine_that_says_no_formats_no_traceback(stack):
    rc = stack().rc
    rc[:].execute("shown = []\nshell = get_ipython()\nformat_it = shell.traceback_of\n"
                  "shell.traceback_of = lambda e: shown.append(e) or format_it(e)", silent=True, block=True)
    with pytest.raises(ipp.ImpossibleDependency):
        rc.load_balanced_view().apply_async(ipp.depend(lambda: False)(os.getpid)).get(30)
    assert rc[:].pull("shown", block=True) == [[]] * len(rc)
    with pytest.raises(ipp.RemoteError):
        rc[0].apply_sync(lambda: 1 / 0)
    rc[0].execute("count = len(shown)", silent=True, block=True)
    assert rc[0].pull("count", block=True) == 1  # it does see them


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
    assert [a.get(30) for a in ars] == [7] * 4 and {a.engine_id for a in ars} == {1}
    with pytest.raises(ipp.ImpossibleDependency, match="can't import not_there_at_all: ModuleNotFoundError"):
        lv.apply_async(ipp.require("not_there_at_all")(f)).get(30)
    with pytest.raises(ipp.UnmetDependency, match="can't import only_here") as e:
        rc[0].apply_async(f).get(30)
    assert e.value.ename == "UnmetDependency", "a view of one engine has no other to ask"


def test_a_task_that_killed_three_engines_ends(stack):
    s = stack(4)
    lv = s.rc.load_balanced_view()
    with lv.temp_flags(retries=50):
        killer = lv.apply_async(os._exit, 3)
    with pytest.raises(ipp.EngineError, match=r"engines that died running it: \d \d \d"):
        killer.get(30)
    assert len(wait_until(lambda: len(s.rc.ids) == 1 and s.rc.ids, what="one engine")) == 1


def _rss(pid):
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def _controller_pid(rc):
    return rc._query("status")["pid"]


def test_a_flood_of_arguments_waits_at_the_client(stack):
    rc = stack(2, "--hwm=1").rc
    rc.max_queued_bytes = 64 << 20
    busy = rc[:].apply_async(time.sleep, 0.5)
    lv, pid, peak = rc.load_balanced_view(), _controller_pid(rc), 0
    ars = []
    for i in range(48):
        ars.append(lv.apply_async(len, bytes(8 << 20)))
        peak = max(peak, _rss(pid))
    assert [a.get(30) for a in ars] == [8 << 20] * 48 and busy.ready()
    assert peak < 200


def test_ctrl_c_ends_the_wait_for_room(stack, tmp_path):
    rc = stack().rc
    rc.max_queued_tasks = 2
    busy = rc[:].apply_async(until_exists, str(tmp_path / "go"))
    with pytest.raises(KeyboardInterrupt):
        timer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -INT {os.getpid()}"])
        rc[0].apply_async(os.getpid)
    timer.wait()
    (tmp_path / "go").touch()
    rc.max_queued_tasks = 10
    assert rc[0].apply_async(os.getpid).get(30) and busy.get(30) == [None] * 2


def test_thousands_are_listed_and_cancelled(stack):
    """Both are done in slices between other messages: single tasks, a map, one that runs, and another client's stay what they are."""
    s = stack(1, "--hwm=1")
    lv, other = s.rc.load_balanced_view(), s.connect()
    running = lv.apply_async(time.sleep, 600)
    mine = [lv.apply_async(abs, -i) for i in range(2500)]
    mapped = lv.map_async(abs, range(-4000, 0), chunksize=1)
    theirs = other.load_balanced_view().apply_async(abs, -7)
    wait_until(lambda: other.queue_status()["unassigned"] == 6501, what="the tasks in the queue")
    status = other.queue_status(verbose=True)
    ids = {i for ar in (*mine, mapped, theirs) for i in ar.msg_ids}
    assert set(status["unassigned"]) == ids and len(status["unassigned"]) == len(ids)
    assert status[0] == {"queue": [], "tasks": running.msg_ids, "completed": []}
    for ar in (mapped, *mine[::2], running):
        assert ar.cancel()
    assert theirs.get(30) == 7
    assert [ar.get(30) for ar in mine[1::2]] == list(range(1, 2500, 2))
    wait_until(lambda: sum(other.queue_status(0)[k] for k in ("queue", "tasks")) + other.queue_status()["unassigned"] == 0, what="the end of all others")
    assert len(other.queue_status(verbose=True)[0]["completed"]) >= 1251
    other.close()


SUSPENDED = """
import sys, covey as ipp

def result(stopped, size):
    import os, time
    while not os.path.exists(stopped):
        time.sleep(0.01)
    return bytes(size)

rc = ipp.Client({file!r})
ars = [rc.load_balanced_view().apply_async(result, {stopped!r}, 8 << 20) for _ in range(40)]
print("submitted", flush=True)
sys.stdin.readline()
print(sum(len(a.get(60)) for a in ars), flush=True)
"""


def test_results_that_nobody_reads_stay_at_the_engines(stack, tmp_path):
    """A suspended client: the controller keeps about client_buffer, the rest of its tasks wait; all come when it goes on."""
    s = stack(2, "--hwm=1", "--IPController.client_buffer=33554432")
    stopped = tmp_path / "stopped"
    script = tmp_path / "client.py"
    script.write_text(SUSPENDED.format(file=s.client_file, stopped=str(stopped)))
    p = subprocess.Popen([os.sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=s.env)
    try:
        assert p.stdout.readline() == "submitted\n"
        wait_until(lambda: s.rc.queue_status()["unassigned"] == 38, what="all tasks, of which the engines have two")
        p.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{p.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", what="the client standing still")
        stopped.touch()
        pid = _controller_pid(s.rc)
        log = Path(s.folder, "stack.log")
        wait_until(lambda: "of results to take: its queued tasks wait" in log.read_text(), what="the pause")
        assert s.rc.load_balanced_view().apply_async(os.getpid).get(30)  # others go on
        assert _rss(pid) < 160
        p.send_signal(signal.SIGCONT)
        out, _ = p.communicate("\n", 60)
        assert out == f"{40 * (8 << 20)}\n"
    finally:
        p.kill()
        p.wait()


def test_the_scheduler_is_replayed(stack, tmp_path):
    replay = Path(__file__).parents[2] / "build" / "test" / "sim" / "replay"
    if not replay.exists():
        pytest.skip("the C tests are not built")
    log = tmp_path / "sched.log"
    s = stack(4, f"--sched-log={log}")
    lv = s.rc.load_balanced_view()
    with lv.temp_flags(retries=2):
        ars = [lv.apply_async(time.sleep, 0.01) for _ in range(60)]
        killed = lv.apply_async(os._exit, 1)
    with lv.temp_flags(after=ars[:3]):
        ars.append(lv.apply_async(os.getpid))
    ars += lv.map_async(abs, range(500)), s.rc[:].apply_async(flaky, 0)
    for ar in [*ars, killed]:
        assert ar.wait(60), ar  # else tasks are left
    s.stop()
    r = subprocess.run([replay, log, killed.msg_ids[0]], capture_output=True, text=True)
    assert r.returncode == 0 and "the same actions; 0 tasks are left" in r.stdout, r.stdout + r.stderr
    assert r.stdout.count("-> SEND engine") >= 3 and "-> DELIVER" in r.stdout
    data = log.read_bytes()
    log.write_bytes(data[:-3])  # as if the controller had been killed
    assert subprocess.run([replay, log], capture_output=True).returncode == 0
    log.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # it ends with what the last event led to: then that was another thing
    assert subprocess.run([replay, log], capture_output=True).returncode == 1
