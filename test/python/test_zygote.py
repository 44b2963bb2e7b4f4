"""The zygote by hand, as its host does: packets, forks, what it is before and what an engine is after."""
import array
import ctypes
import json
import os
import select
import socket
import subprocess
import sys

import pytest

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def subreaper():
    """This process gets the orphans, as a host does."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def zygote():
    """(process, channel) of a zygote that has said it is ready."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    env = dict(os.environ, COVEY_ZYGOTE_FD=str(theirs.fileno()), PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    p = subprocess.Popen([sys.executable, "-m", "covey.engine", "--zygote"], env=env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()
    assert json.loads(ours.recv(4096)) == {"ready": True, "threads": 1}
    yield p, ours
    ours.close()
    assert p.wait(60) == 0  # it leaves when its host's end is gone


def test_m6_one_thread_no_sockets_no_numpy(zygote):
    p, _ = zygote
    folder = f"/proc/{p.pid}"
    assert len(os.listdir(f"{folder}/task")) == 1
    links = [os.readlink(f"{folder}/fd/{fd}") for fd in os.listdir(f"{folder}/fd")]
    assert sum(link.startswith("socket:") for link in links) == 1, links
    with open(f"{folder}/maps") as f:
        assert "numpy" not in f.read()


RING = 56  # offset of the ring in the status page (src/wire/statuspage.h)


def fork(channel, slot, params=(), env=None):
    """Asks for an engine that can't register; (pid, what it wrote to stderr, what to stdout at its very end, exit code)."""
    params = {"endpoint": "unix:@covey-test-nobody-listens", "uid": os.getuid(), "slot": slot, "host_pid": os.getpid(), "host_session": "1",
              "number": None, "incarnation": 0, "cluster_id": "", "boot_id": "b", "profile_dir": "", "work_dir": "/", "machine": "1",
              "startup": {}, "config": {}, "process_manager": False, "log_level": 20, **dict(params)}
    page = os.memfd_create("page")
    os.truncate(page, 1 << 16)
    out, err = os.pipe(), os.pipe()
    packet = json.dumps({"fork": slot, "env": env or {}, "params": params}).encode()
    channel.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [page, *out, *err]))])
    answer = json.loads(channel.recv(4096))
    assert answer["slot"] == slot
    pid = answer["pid"]
    for fd in (out[1], err[1]):
        os.close(fd)
    waiter = os.pidfd_open(pid)
    assert select.select([waiter], [], [], 60)[0], "the engine did not end"
    os.close(waiter)
    status = os.waitpid(pid, 0)[1]  # it is our child
    ring = os.pread(page, 1 << 15, RING).rstrip(b"\0").decode()
    os.close(page)
    with open(out[0], "rb") as o, open(err[0], "rb") as e:
        return pid, ring + e.read().decode(), o.read().decode(), os.waitstatus_to_exitcode(status)


ASKED = """import atexit, json, os, random, sys, __main__
seen = [os.environ.get('A'), os.environ.get('HOME'), os.getsid(0) == os.getpid(), os.getcwd(), sys.argv, sys.path[0],
        os.readlink('/proc/self/fd/0'), open('/proc/self/cmdline').read().split('\\0')[-2], hasattr(__main__, '__file__'), 'COVEY_ZYGOTE_FD' in os.environ, random.random()]
with open(%r, 'w') as f: json.dump(seen, f)
print('to stderr', file=sys.stderr)
_ = atexit.register(print, 'atexit ran')"""


def test_an_engine_is_its_host_s_child_and_gets_what_it_was_told(zygote, subreaper, tmp_path):
    _, channel = zygote
    draws = set()
    for slot in (0, 1):
        file = tmp_path / str(slot)
        _, err, out, code = fork(channel, slot, {"startup": {"command": ASKED % str(file)}}, {"A": "1", "HOME": None})
        *seen, draw = json.loads(file.read_text())
        assert seen == ["1", None, True, "/", ["ipengine"], "", "/dev/null", "--engine", False, False]
        draws.add(draw)
        assert code == 255 and "engine could not register" in err and "to stderr" in err and out == "atexit ran\n"
    assert len(draws) == 2


def test_errors_at_startup_are_told_and_end_nothing(zygote, subreaper, tmp_path):
    _, channel = zygote
    startup = {"exec_lines": ["1/0", f"open({str(tmp_path / 'on')!r}, 'w').close()"], "script": str(tmp_path / "none.py"),
               "extensions": ["no_such_extension"]}
    _, err, _, code = fork(channel, 3, {"startup": startup})
    assert (tmp_path / "on").exists() and code == 255
    assert "ZeroDivisionError" in err and "none.py does not exist" in err and "no_such_extension" in err


def test_a_work_dir_that_has_gone_is_named(zygote, subreaper, tmp_path):
    _, channel = zygote
    _, err, out, _ = fork(channel, 7, {"work_dir": str(tmp_path / "gone"), "startup": {"command": "import atexit; atexit.register(print, 'started')"}})
    assert f"can't work in {tmp_path / 'gone'}: No such file or directory; staying in {os.getcwd()}" in err and out == "started\n"


def test_sigterm_at_startup_ends_by_python_s_way(zygote, subreaper):
    _, channel = zygote
    command = "import atexit, os, signal, time; atexit.register(print, 'left'); os.kill(os.getpid(), signal.SIGTERM); time.sleep(600)"
    _, _, out, code = fork(channel, 4, {"startup": {"command": command}})
    assert (out, code) == ("left\n", 143)


def test_a_wrong_parent_is_no_host(zygote, subreaper):
    _, channel = zygote
    _, _, out, code = fork(channel, 5, {"host_pid": 1, "startup": {"command": "import atexit; atexit.register(print, 'started')"}})
    assert (out, code) == ("", 255)


def test_startup_may_say_more_than_a_pipe_holds(zygote, subreaper):
    _, channel = zygote
    _, err, _, code = fork(channel, 6, {"startup": {"command": "import sys\nfor i in range(300):\n    print('x' * 999); print('y' * 999, file=sys.stderr)"}})
    assert code == 255 and "y" * 999 in err
