"""Large buffers on one machine: one memfd, passed on as a descriptor, and never written again while somebody may look."""
import functools
import json
import os
import resource
import signal
import zlib
from pathlib import Path

import covey as ipp
import numpy as np
import pytest

from .conftest import wait_until
from .stack import Stack

MIB = 1 << 20


def pattern(n, salt):
    return np.resize(np.random.default_rng(salt).integers(0, 255, 65_537, dtype=np.uint8), n)


def crc(a):
    import zlib

    return zlib.crc32(memoryview(a).cast("B"))


def descriptors(pid):
    """What those of a process are of."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(fd))
        except OSError:
            continue
    return found


def memfds(pid):
    """How many buffers' memfds a process has open."""
    return sum(name.startswith("/memfd:covey-buffer") for name in descriptors(pid))


def others(pid):
    """How many descriptors of anything else."""
    return sum(not name.startswith("/memfd:covey-buffer") for name in descriptors(pid))


def controller_pid(rc):
    return rc._core.welcome["controller"]["pid"]


@pytest.fixture
def stack_of(ipython_dir):
    stacks = []

    def start(*args, **kwargs):
        stacks.append(Stack(ipython_dir, *args, **kwargs))
        return stacks[-1]

    yield start
    for s in stacks:
        s.stop()


def test_s17_what_arrives_is_writable_and_ones_own(cluster):
    with cluster.connect_client_sync() as rc:
        for n in (1000, 100_000, MIB, 6 * MIB):
            a = pattern(n, n)

            def change(x):
                before = int(x[0])
                x[0] = before ^ 255
                return before, x

            got = rc[:].apply_sync(change, a)
            assert [before for before, _ in got] == [a[0]] * len(rc)
            for _, back in got:
                assert back[0] == a[0] ^ 255 and (back[1:] == a[1:]).all()
                back[:] = 0


def test_s4_an_array_may_be_changed_once_it_is_submitted(cluster):
    with cluster.connect_client_sync() as rc:
        for n in (MIB, 6 * MIB, 80 * MIB):
            a = pattern(n, 1)
            want = crc(a)
            ars = []
            for _ in range(3):
                ars.append(rc[0].apply_async(crc, a))
                a[:] = 7
                assert ars[-1].get(30) == want
                a[:] = pattern(n, 1)


def keep_views(x):
    import builtins

    kept = builtins.__dict__.setdefault("kept", [])
    kept.append((memoryview(x)[1000:2000000], x[5::7]))


def views():
    import builtins
    import zlib

    return [(zlib.crc32(m), zlib.crc32(s.tobytes())) for m, s in builtins.kept]


def drop_views():
    import builtins

    builtins.kept.clear()


def test_a_memfd_is_used_again_but_not_while_a_view_or_a_slice_lives(cluster):
    with cluster.connect_client_sync() as rc:
        want = []
        for i in range(5):
            a = pattern(5 * MIB, i)
            rc[:].apply_sync(keep_views, a)
            want.append((zlib.crc32(memoryview(a)[1000:2000000]), zlib.crc32(a[5::7].tobytes())))
        for i in range(20):
            rc[:].push({"x": pattern(5 * MIB, 100 + i)}, block=True)
        assert rc[:].apply_sync(views) == [want] * len(rc)
        most = memfds(os.getpid())
        assert 6 <= most <= 12  # five are held, the other 20 shared a few
        rc[:].apply_sync(drop_views)
        for i in range(20):
            rc[:].push({"x": pattern(5 * MIB, 200 + i)}, block=True)
        assert memfds(os.getpid()) <= most
        assert rc[:].apply_sync(crc, ipp.Reference("x")) == [crc(pattern(5 * MIB, 219))] * len(rc)


def fork_a_looker(x, path):
    """A child that looks at x when `path` is there, and writes what it sees beside it. It outlives what the engine holds."""
    import os
    import time
    import zlib

    child = os.fork()
    if child == 0:
        while not os.path.exists(path):
            time.sleep(0.02)
        with open(path + ".tmp", "w") as f:
            f.write(str(zlib.crc32(x)))
        os.rename(path + ".tmp", path + ".seen")
        os._exit(0)
    return child


def test_a_forked_child_sees_what_was_there(cluster, tmp_path):
    with cluster.connect_client_sync() as rc:
        a = pattern(6 * MIB, 5)
        go = tmp_path / "go"
        rc[0].apply_sync(fork_a_looker, a, str(go))
        for i in range(10):
            rc[0].push({"x": pattern(6 * MIB, 10 + i)}, block=True)
        go.touch()
        seen = wait_until((tmp_path / "go.seen").exists, what="the child's word") and (tmp_path / "go.seen").read_text()
        assert int(seen) == crc(a)


def test_a_dead_engine_and_its_child_held_it(stack_of, tmp_path):
    rc = stack_of(2).rc
    a = pattern(6 * MIB, 5)
    go = tmp_path / "go"
    rc[:].push({"a": a}, block=True)
    rc[0].apply_sync(fork_a_looker, a, str(go))
    os.kill(rc[0].apply_sync(os.getpid), signal.SIGKILL)
    wait_until(lambda: len(rc.ids) == 1, what="the engine's end")
    one = rc[rc.ids[0]]
    for i in range(10):
        one.push({"x": pattern(6 * MIB, 10 + i)}, block=True)
        assert one.apply_sync(crc, ipp.Reference("x")) == crc(pattern(6 * MIB, 10 + i))
    assert one.apply_sync(crc, ipp.Reference("a")) == crc(a)
    go.touch()
    wait_until((tmp_path / "go.seen").exists, what="the child's word")
    assert int((tmp_path / "go.seen").read_text()) == crc(a)


def die_once(x, path):
    import os
    import signal
    import zlib

    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return zlib.crc32(x)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_retry_has_the_same_bytes(stack_of, tmp_path):
    rc = stack_of(2).rc
    view = rc.load_balanced_view()
    view.retries = 1
    a = pattern(6 * MIB, 8)
    ar = view.apply_async(die_once, a, str(tmp_path / "died"))
    want = crc(a)
    a[:] = 0
    assert ar.get(30) == want


def test_no_descriptor_is_left_behind(cluster):
    with cluster.connect_client_sync() as rc:
        a, b = pattern(300_000, 1), pattern(5 * MIB, 2)
        one = rc[0]

        def round_trips(n):
            for _ in range(n):
                ars = [one.apply_async(len, a) for _ in range(20)]
                assert [ar.get(30) for ar in ars] == [len(a)] * 20
            rc[:].push({"x": b}, block=True)
            assert len(one.pull("x", block=True)) == len(b)
            rc[:].push({"x": None}, block=True)

        round_trips(5)
        pids = [controller_pid(rc), *rc[:].apply_sync(os.getpid)]

        def counts():
            return [others(pid) for pid in pids], memfds(pids[0])

        wait_until(lambda: memfds(pids[0]) == 0, what="the controller letting go of what has passed")
        before, _ = counts()
        round_trips(50)
        wait_until(lambda: counts() == (before, 0), what=f"descriptors {counts()} going down to {before}")
        assert memfds(os.getpid()) <= 64  # the pool
        assert all(memfds(pid) <= 8 for pid in pids[1:])


def test_a_client_that_left_and_what_it_pushed(cluster):
    with cluster.connect_client_sync() as rc, cluster.connect_client_sync() as other:
        a = pattern(6 * MIB, 4)
        other[:].push({"theirs": a}, block=True)
        other.close()
        for i in range(5):
            rc[:].push({"x": pattern(6 * MIB, i)}, block=True)
        assert rc[:].apply_sync(crc, ipp.Reference("theirs")) == [crc(a)] * len(rc)
        rc[:].push({"theirs": None}, block=True)


def slow_array(n, salt, path):
    import os
    import time

    import numpy as np

    open(path, "w").close()
    while not os.path.exists(path + ".go"):
        time.sleep(0.02)
    return np.resize(np.random.default_rng(salt).integers(0, 255, 65_537, dtype=np.uint8), n)


def test_a_controller_that_was_killed_and_started_again(stack_of, tmp_path):
    s = stack_of(2, controller_args=["--reuse"])
    rc = s.rc
    a = pattern(6 * MIB, 4)
    rc[:].push({"a": a}, block=True)
    running = rc[0].apply_async(slow_array, 6 * MIB, 9, str(tmp_path / "run"))
    queued = [rc[0].apply_async(crc, pattern(6 * MIB, 20 + i)) for i in range(3)]
    wait_until((tmp_path / "run").exists, what="the task's start")
    s.processes[0].kill()
    s.processes[0].wait()
    (tmp_path / "run.go").touch()
    s.run("ipcontroller", "--reuse")
    assert (running.get(60) == pattern(6 * MIB, 9)).all()
    assert [ar.get(30) for ar in queued] == [crc(pattern(6 * MIB, 20 + i)) for i in range(3)]
    for i in range(5):
        rc[:].push({"x": pattern(6 * MIB, i)}, block=True)
    assert rc[:].apply_sync(crc, ipp.Reference("a")) == [crc(a)] * 2
    assert rc[:].apply_sync(crc, ipp.Reference("x")) == [crc(pattern(6 * MIB, 4))] * 2


def no_more_files():
    import os
    import resource

    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fds = [os.dup(0) for _ in range(highest + 2 - len(os.listdir("/proc/self/fd")))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fds + [highest]) + 1, hard))
    return soft


def test_an_engine_without_descriptors_gets_frames(stack_of):
    rc = stack_of(1).rc
    rc[0].apply_sync(no_more_files)
    for i in range(3):
        a = pattern(6 * MIB, i)
        ar = rc[0].apply_async(lambda x: x, a)
        assert (ar.get(30) == a).all()


def test_a_client_without_a_pool_sends_frames(cluster, monkeypatch):
    from covey import _core

    monkeypatch.setattr(_core, "Client", functools.partial(_core.Client, memfd_bytes=0))
    with cluster.connect_client_sync() as rc:
        before = memfds(os.getpid())
        for n in (MIB, 6 * MIB, 80 * MIB):
            a = pattern(n, n)
            assert (rc[0].apply_sync(lambda x: x, a) == a).all()
        assert memfds(os.getpid()) == before


def memory_of(x):
    """Name and inode of what this array is mapped from."""
    address = x.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        first, _, last = line.split()[0].partition("-")
        if int(first, 16) <= address < int(last, 16):
            return line.split()[5:6], line.split()[4]


def are_shared(memories):
    """Whether the engines look at one and the same memfd."""
    return len(set(map(str, memories))) == 1 and memories[0][0] == ["/memfd:covey-buffer"]


def test_engines_behind_a_relay(stack_of):
    rc = stack_of(2, engine_args=["--no-unix"]).rc
    for n in (MIB, 6 * MIB):
        a = pattern(n, n)
        for back in rc[:].apply_sync(lambda x: x, a):
            assert (back == a).all()
    assert are_shared(rc[:].apply_sync(memory_of, a))


def test_a_client_on_tcp_and_engines_on_unix(cluster):
    """What an engine sends as a descriptor the controller reads from the memfd, for who can't take it."""
    config = json.loads(Path(cluster.client_file).read_text())
    config["endpoints"] = [e for e in config["endpoints"] if not e.startswith("unix:")]
    with ipp.Client(config) as rc:
        for n in (MIB, 6 * MIB, 20 * MIB):
            a = pattern(n, n)
            for back in rc[:].apply_sync(lambda x: x, a):
                assert (back == a).all()
        assert are_shared(rc[:].apply_sync(memory_of, a))  # what came as bytes goes on as one memfd


@pytest.mark.parametrize("who", ["controller", "relay"])
def test_a_limit_of_file_sizes_ends_nobody(stack_of, who):
    """`ulimit -f` counts for memfds, too: what is beyond is received into ordinary memory."""
    stack = stack_of(2, engine_args=["--no-unix"] if who == "relay" else [])
    config = json.loads(Path(stack.client_file).read_text())
    config["endpoints"] = [e for e in config["endpoints"] if not e.startswith("unix:")]
    for p in stack.processes:
        resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
    with ipp.Client(config) as rc:
        a = pattern(6 * MIB, 1)
        for back in rc[:].apply_async(lambda x: x, a).get(30):
            assert (back == a).all()


def test_a_large_result_is_kept_until_its_client_has_it(cluster):
    with cluster.connect_client_sync() as rc, cluster.connect_client_sync() as other:
        ar = rc[0].apply_async(lambda: bytes(6 << 20))
        assert len(ar.get(30)) == 6 * MIB
        small = rc[0].apply_async(lambda: 5)
        assert small.get(30) == 5
        assert other.get_result(small.msg_ids[0]).get(30) == 5

        def expired():
            try:
                other.get_result(ar.msg_ids[0], owner=False).get(30)
            except Exception as e:
                return "not kept after that" in str(e)

        wait_until(expired, what="the memfd going back to its engine")
