"""`ipengine` with a real controller: starts, deaths and why, restarts, the relay, signals, and that nothing is left."""
import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import covey as ipp
import pytest
from covey._programs import program_argv

from .conftest import files_of, processes_of, wait_gone, wait_until


class Program:
    """A running program: its stderr so far in `text`, its events in `events`."""

    def __init__(self, env, name, *args):
        r, w = os.pipe()
        os.set_inheritable(w, True)
        argv = [name] if os.path.isabs(name) else program_argv(name)
        self.process = subprocess.Popen([*argv, *args], env=dict(env, COVEY_EVENTS_FD=str(w)), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[w], text=True, start_new_session=True)
        os.close(w)
        self.pid, self.text, self.events = self.process.pid, "", []
        self.threads = [threading.Thread(target=self._read_text), threading.Thread(target=self._read_events, args=[r])]
        for t in self.threads:
            t.start()

    def _read_text(self):
        for line in self.process.stdout:
            self.text += line

    def _read_events(self, fd):
        with os.fdopen(fd) as f:
            for line in f:
                self.events.append(json.loads(line))

    def event(self, name, **wanted):
        def found():
            return next((e for e in self.events if e["event"] == name and all(e.get(k) == v for k, v in wanted.items())), None)

        return wait_until(found, what=f"event {name} {wanted}")

    def wait_text(self, pattern, n=1):
        try:
            wait_until(lambda: len(re.findall(pattern, self.text)) >= n, what=f"{n} times {pattern!r}")
        except AssertionError as e:
            raise AssertionError(f"{e}; it said:\n{self.text}") from None

    def end(self, number=signal.SIGTERM, timeout=30):
        """Sends a signal, returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout=30):
        code = self.process.wait(timeout)
        for t in self.threads:
            t.join(timeout)
        return code


@pytest.fixture
def start(ipython_dir, monkeypatch):
    """start(name, *args, **env) -> Program; all are stopped at the end."""
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    programs = []

    def start(name, *args, **env):
        programs.append(Program(dict(ipython_dir, **env), name, *args))
        return programs[-1]

    yield start
    for p in reversed(programs):
        if p.process.poll() is None:
            p.process.kill()
        p.process.wait()
        for t in p.threads:
            t.join(10)


@pytest.fixture
def controller(start):
    c = start("ipcontroller")
    c.event("listening")
    return c


@pytest.fixture
def connect():
    clients = []

    def connect(n):
        rc = ipp.Client(timeout=30)
        clients.append(rc)
        rc.wait_for_engines(n, timeout=60)
        return rc

    yield connect
    for rc in clients:
        rc.close()


def test_settings_that_no_engine_can_be_handed_are_refused(start, controller, ipython_dir):
    """One that they don't fit is not waited for."""
    profile = os.path.join(ipython_dir["IPYTHONDIR"], "profile_default")
    with open(os.path.join(profile, "ipengine_config.json"), "w") as f:
        json.dump({"MyExtension": {"text": "x" * 1_500_000}}, f)
    host = start("ipengine", "-n", "2")
    assert host.wait() == 1 and "take out of the config what engines need not know" in host.text, host.text


def segfault():
    import os
    import sys

    print("last words", file=sys.stderr)
    os.kill(os.getpid(), 11)


def leave():
    import os

    os.system("echo from a child >&2")
    os._exit(3)


def hold(path):
    import time
    from pathlib import Path

    Path(path).write_text("running")
    time.sleep(600)


@pytest.mark.parametrize("option", [[], ["--no-unix"]], ids=["unix", "relay"])
def test_engines_of_one_zygote(controller, start, connect, option):
    host = start("ipengine", "-n", "4", *option)
    rc = connect(4)
    host.wait_text(r"\[IPEngine\] Completed registration with id \d", 4)
    assert ("through this host" in host.text) == bool(option)
    view = rc[:]
    pids = view.apply_sync(os.getpid)
    assert len(set(pids)) == 4
    assert set(view.apply_sync(os.getppid)) == {host.pid}
    assert rc.load_balanced_view().map_sync(abs, range(-200, 0)) == list(range(200, 0, -1))
    big = os.urandom(3 << 20)
    view.push({"big": big}, block=True)
    assert all(b == big for b in view.pull("big", block=True))
    assert host.end() == 1
    wait_until(lambda: rc.ids == [], what="the engines leaving rc.ids")


@pytest.mark.parametrize("option", [[], ["--no-unix"]], ids=["unix", "relay"])
def test_each_death_says_why(controller, start, connect, option, tmp_path):
    start("ipengine", "-n", "4", *option)
    rc = connect(4)
    with pytest.raises(ipp.error.EngineError) as failure:
        rc[0].apply_sync(segfault)
    assert re.search(r"engine 0 \(host \S+, pid \d+\) was killed by SIGSEGV while it ran task \w+", str(failure.value))
    cause = controller.event("engine_died", id=0)["cause"]
    assert cause["signal"] == 11 and cause["code"] is None and "last words" in cause["stderr"] and cause["running"]
    with pytest.raises(ipp.error.EngineError) as failure:
        rc[1].apply_sync(leave)
    assert "exit code 3" in str(failure.value) and "from a child" in str(failure.value)
    assert controller.event("engine_died", id=1)["cause"]["code"] == 3
    pid = rc[2].apply_sync(os.getpid)
    running = rc[2].apply_async(hold, str(tmp_path / "mark"))
    wait_until((tmp_path / "mark").exists, what="the task running")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ipp.error.EngineError) as failure:
        running.get(30)
    assert "SIGKILL, not by its host" in str(failure.value) and "peak memory" in str(failure.value)
    assert rc[3].apply_sync(abs, -1) == 1


def test_restart_keeps_the_number_and_gives_up_on_quick_crashes(controller, start, connect):
    host = start("ipengine", "-n", "2", "--restart")
    rc = connect(2)
    pids = dict(zip(rc.ids, rc[:].apply_sync(os.getpid), strict=True))
    os.kill(pids[1], signal.SIGKILL)
    host.wait_text("Completed registration with id 1", 2)
    again = wait_until(lambda: len(rc.ids) == 2 and rc[1].apply_sync(os.getpid), what="engine 1 being back")
    assert again != pids[1]
    assert controller.event("engine_died", id=1)["cause"]["restart"] is True
    for n in (3, None):
        os.kill(again, signal.SIGKILL)
        if n:
            host.wait_text("Completed registration with id 1", n)
            again = wait_until(lambda: len(rc.ids) == 2 and rc[1].apply_sync(os.getpid), what="engine 1 being back")
    host.wait_text("not starting another")
    wait_until(lambda: rc.ids == [0], what="engine 1 leaving rc.ids")
    assert rc[0].apply_sync(os.getpid) == pids[0]


def test_a_dead_zygote_is_replaced_when_it_is_needed(controller, start, connect, ipython_dir):
    host = start("ipengine", "-n", "2", "--restart")
    rc = connect(2)
    pids = rc[:].apply_sync(os.getpid)
    zygote = next(p for p, c in processes_of(ipython_dir["IPYTHONDIR"]).items() if "--zygote" in c and p not in pids)
    os.kill(zygote, signal.SIGKILL)
    host.wait_text("the zygote .* has ended")
    assert rc[:].apply_sync(os.getpid) == pids
    os.kill(pids[0], signal.SIGTERM)
    host.wait_text("Completed registration with id 0", 2)
    assert "because somebody sent it SIGTERM" in host.text
    assert rc[0].apply_sync(os.getpid) not in pids
    assert rc[1].apply_sync(os.getpid) == pids[1]


def test_engines_that_were_told_to_leave_are_no_failure(controller, start, connect):
    host = start("ipengine", "-n", "2", "--restart")
    rc = connect(2)
    rc.shutdown()
    assert host.wait() == 0
    assert "ERROR" not in host.text


def test_terminated_before_there_is_a_controller(start, ipython_dir):
    host = start("ipengine", "-n", "2")
    host.wait_text("waiting for the connection file")
    assert host.end() == 1
    assert not wait_gone(ipython_dir["IPYTHONDIR"])


def test_an_engine_that_ends_before_it_registers(controller, start, tmp_path):
    startup = tmp_path / "startup.py"
    startup.write_text("import os, sys\nprint('no licence', file=sys.stderr, flush=True)\nos._exit(7)\n")
    host = start("ipengine", "-n", "2", PYTHONSTARTUP=str(startup))
    cause = host.event("engine_failed")["cause"]
    assert cause["code"] == 7 and "no licence" in cause["stderr"] and "had not registered" in cause["text"]
    assert controller.event("engine_failed")["cause"]["code"] == 7
    assert host.wait() == 1
    assert "no licence" in host.text
    assert host.events[-1]["event"] == "stopped"


@pytest.mark.parametrize("n", ["1", "2"])
def test_an_interpreter_that_is_none(controller, start, n):
    host = start("ipengine", "-n", n, "--engine-module=no_such_module")
    assert host.wait() == 1
    assert "no_such_module" in host.event("engine_failed")["cause"]["stderr"]
    host = start("ipengine", "-n", n, "--python=/no/such/python")
    assert host.wait() == 1
    assert "can't start '/no/such/python'" in host.text


def test_startup_command_and_script(controller, start, connect, tmp_path):
    (tmp_path / "script.py").write_text("from_script = from_command + 1\n")  # it runs second
    start("ipengine", "-n", "2", "-c", "from_command = 41", "-s", str(tmp_path / "script.py"), "--work-dir", str(tmp_path))
    rc = connect(2)
    assert rc[:].pull("from_script", block=True) == [42, 42]
    assert rc[:].apply_sync(os.getcwd) == [str(tmp_path)] * 2


@pytest.mark.parametrize("n", [1, 2])
def test_s16_what_engines_say_outside_of_tasks_is_in_the_log(controller, start, connect, n, tmp_path):
    """S16: startup code that fails, and what a thread prints when its task is over."""
    host = start("ipengine", "-n", str(n), "-s", "/no/such.py", "-c", "print('started'); import no_such_module")
    rc = connect(n)
    for words in ("No module named 'no_such_module'", "startup file /no/such.py does not exist", "started\n"):
        wait_until(lambda words=words: host.text.count(words) >= n, what=f"{words!r} in the log")
    assert host.text.count("startup file /no/such.py does not exist") == n and host.text.count("started\n") == n

    def later(path):
        import os
        import threading
        import time

        print("inside")

        def outside():
            while not os.path.exists(path):
                time.sleep(0.01)
            print("between tasks", flush=True)
        threading.Thread(target=outside).start()

    ar = rc[:].apply_async(later, str(tmp_path / "over"))
    ar.get(30)
    (tmp_path / "over").touch()
    wait_until(lambda: host.text.count("between tasks") == n, what="the thread's words in the log")
    wait_until(lambda: all("between tasks" in text for text in ar.stdout), what="the same in the task's output")
    assert "inside" not in host.text


def test_a_log_that_nobody_reads_holds_up_nobody(controller, connect, ipython_dir):
    talk = "import time\nfor _ in range(20):\n    print('x' * 20_000)\n    time.sleep(0.02)"
    host = subprocess.Popen([*program_argv("ipengine"), "-n", "2", "-c", talk], env=ipython_dir, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
    try:
        assert connect(2)[:].apply_sync(abs, -1) == [1, 1]
        host.terminate()
        host.wait(30)
    finally:
        host.kill()
        host.communicate(timeout=20)


def test_one_engine_has_no_zygote(controller, start, connect):
    host = start("ipengine", "--id=5")
    rc = connect(1)
    assert rc.ids == [5]
    assert len([c for c in processes_of(os.environ["IPYTHONDIR"]).values() if "covey.engine" in c]) == 1
    with pytest.raises(ipp.error.EngineError):
        rc[5].apply_sync(leave)
    assert host.wait() == 3


@pytest.mark.parametrize("number", [7, 16, 18], ids="descriptor {}".format)
def test_under_a_process_manager_the_host_is_transparent(controller, start, connect, ipython_dir, number):
    r, w = os.pipe()
    manager = "import os, sys; os.dup2(int(sys.argv[1]), int(sys.argv[2])); os.execv(sys.argv[3], sys.argv[3:])"
    process = subprocess.Popen([sys.executable, "-c", manager, str(r), str(number), *program_argv("ipengine")], pass_fds=[r],
                               env=dict(ipython_dir, PMI_RANK="3", PMI_FD=str(number)), start_new_session=True)
    try:
        rc = connect(1)
        assert rc.ids == [3]
        assert rc[3].apply_sync(os.getsid, 0) == process.pid
        os.write(w, b"k")
        assert rc[3].apply_sync(os.read, number, 1) == b"k"
        rc[3].apply_async(segfault)
        assert process.wait(30) == -signal.SIGSEGV
    finally:
        process.kill()
        process.wait()
        os.close(r)
        os.close(w)


def test_nobody_reads_its_log_and_events(controller, connect, ipython_dir):
    r, w = os.pipe()
    os.close(r)
    process = subprocess.Popen([*program_argv("ipengine"), "-n", "2", "--debug"], env=dict(ipython_dir, COVEY_EVENTS_FD=str(w)), pass_fds=[w],
                               stdout=w, stderr=w, start_new_session=True)
    os.close(w)
    try:
        rc = connect(2)
        with pytest.raises(ipp.error.EngineError):
            rc[0].apply_sync(segfault)
        assert rc[1].apply_sync(abs, -1) == 1
    finally:
        process.terminate()
        assert process.wait(30) == 1


@pytest.mark.parametrize("option", [["-n", "2"], ["-n", "2", "--no-unix"], ["-n", "1"]], ids=["zygote", "relay", "single"])
def test_killed_host_leaves_nothing(controller, start, connect, option, ipython_dir, tmp_path):
    host = start("ipengine", *option)
    rc = connect(int(option[1]))
    running = rc[0].apply_async(hold, str(tmp_path / "mark"))
    wait_until((tmp_path / "mark").exists, what="the task running")
    host.process.kill()
    with pytest.raises(ipp.error.EngineError):
        running.get(30)
    wait_until(lambda: list(processes_of(ipython_dir["IPYTHONDIR"])) == [controller.pid], what="only the controller being left")


def test_terminated_host_leaves_no_children_of_engines(controller, start, connect, ipython_dir):
    host = start("ipengine", "-n", "2")
    rc = connect(2)

    def spawn():
        import subprocess

        subprocess.Popen(["sleep", "600"])

    rc[:].apply_sync(spawn)
    os.kill(rc[0].apply_sync(os.getpid), signal.SIGKILL)  # its child is an orphan now
    assert host.end() == 1
    wait_until(lambda: list(processes_of(ipython_dir["IPYTHONDIR"])) == [controller.pid], what="only the controller being left")


@pytest.mark.parametrize("option", [[], ["--no-unix"]], ids=["unix", "relay"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_host_ends_with_its_controller(controller, start, connect, number, option, ipython_dir):
    host = start("ipengine", "-n", "2", "--controller-grace=0", *option)
    connect(2)
    controller.end(number)
    assert host.wait() == (0 if number == signal.SIGTERM else 1)
    assert not wait_gone(ipython_dir["IPYTHONDIR"])


def test_interrupt_goes_to_what_runs(controller, start, connect, tmp_path):
    host = start("ipengine", "-n", "2")
    rc = connect(2)
    ar = rc[0].apply_async(hold, str(tmp_path / "mark"))
    wait_until((tmp_path / "mark").exists, what="the task running")
    os.kill(host.pid, signal.SIGINT)
    with pytest.raises(ipp.error.RemoteError) as failure:
        ar.get(30)
    assert failure.value.ename == "KeyboardInterrupt"
    assert rc[:].apply_sync(abs, -1) == [1, 1]
    os.kill(host.pid, signal.SIGINT)
    host.wait_text("press Ctrl-C once more")
    assert rc[:].apply_sync(abs, -1) == [1, 1]
    while host.process.poll() is None:  # "once more" is meant within seconds, which may have passed
        host.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            host.process.wait(2)
    assert host.wait() == 0


def test_waits_for_a_controller_and_skips_a_stale_file(start, connect, ipython_dir, tmp_path):
    first = start("ipcontroller")
    path = first.event("listening")["engine_file"]
    first.end(signal.SIGKILL)
    assert os.path.exists(path)
    host = start("ipengine", "-n", "2")
    host.wait_text("can't reach the controller")
    start("ipcontroller").event("listening")
    connect(2)
    assert host.end() == 1


def test_a_dead_profile_or_file_ends_it(start, ipython_dir):
    host = start("ipengine", "--timeout=0.3")
    assert host.wait() == 1
    assert "no connection file" in host.text
    host = start("ipengine", "--profile=nope")
    assert host.wait() == 1
    assert "not found" in host.text
    controller = start("ipcontroller")
    controller.event("listening")
    controller.end(signal.SIGKILL)
    host = start("ipengine", "--timeout=0.5")
    assert host.wait() == 255
    assert "no controller within" in host.text
    assert files_of(ipython_dir["IPYTHONDIR"])


def test_connection_info_from_the_environment(controller, start, connect, ipython_dir, tmp_path):
    with open(controller.event("listening")["engine_file"]) as f:
        info = f.read()
    start("ipengine", "-n", "2", "--profile-dir", str(tmp_path / "elsewhere"), IPP_CONNECTION_INFO=info)
    connect(2)
    stale = json.loads(info) | {"boot_id": "0" * 16}
    for text, why in ((json.dumps(stale), "earlier controller"), ("{}", "IPP_CONNECTION_INFO")):
        host = start("ipengine", IPP_CONNECTION_INFO=text)
        assert host.wait() == 255  # it can't change: no waiting
        assert why in host.text


def test_another_controllers_key_is_told(controller, start, ipython_dir, tmp_path):
    with open(controller.event("listening")["engine_file"]) as f:
        info = json.load(f)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(info | {"key": "ab" * 32}))
    wrong.chmod(0o600)
    host = start("ipengine", "--no-unix", "--timeout=3", f"--file={wrong}")
    assert host.wait() == 255
    assert "key" in host.text and "ab" * 32 not in host.text
    wrong.chmod(0o644)
    host = start("ipengine", "--timeout=0.2", f"--file={wrong}")
    assert host.wait() == 255
    assert "chmod 600" in host.text


@pytest.mark.parametrize("path, kind", [("/dev/zero", "device"), ("/dev/null", "device"), ("/", "folder")])
def test_what_can_not_become_a_connection_file_is_not_waited_for(start, path, kind):
    host = start("ipengine", f"--file={path}", "--timeout=60")
    assert host.wait(30) == 1
    assert f"{path} is a {kind}, not a connection file" in host.text


def test_a_lost_relay_link_comes_back(controller, start, connect):
    """The relay's TCP link is cut; the engines keep their numbers and values."""
    host = start("ipengine", "-n", "2", "--no-unix", "--debug")
    rc = connect(2)
    rc[:].push({"kept": 7}, block=True)
    cut_tcp(host.pid)
    host.wait_text("the controller is there again")
    wait_until(lambda: "engine 1 is connected again" in controller.text, what="the engines being back")
    assert rc[:].pull("kept", block=True) == [7, 7]
    assert rc.ids == [0, 1]


def cut_tcp(pid):
    """Shuts down the TCP sockets of another process of ours, through copies of its descriptors."""
    import ctypes
    import socket

    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    for name in os.listdir(f"/proc/{pid}/fd"):
        fd = libc.syscall(438, pidfd, int(name), 0)  # pidfd_getfd
        if fd < 0 and ctypes.get_errno() == errno.EPERM:
            os.close(pidfd)
            pytest.skip("the system does not let us look into our own child (CAP_SYS_PTRACE): its link can't be cut")
        if fd < 0:
            continue
        try:
            with socket.socket(fileno=fd) as s:
                if s.family == socket.AF_INET and s.type == socket.SOCK_STREAM:
                    s.shutdown(socket.SHUT_RDWR)
        except OSError:
            os.close(fd)
    os.close(pidfd)
    assert sys.platform == "linux"


def test_a_stopped_host_is_no_accident(controller, start, connect):
    host = start("ipengine", "-n", "2")
    rc = connect(2)
    assert rc[:].apply_sync(abs, -1) == [1, 1]
    host.end()
    for number in (0, 1):
        cause = controller.event("engine_died", id=number)["cause"]
        assert cause["planned"] is True and "the host was asked to stop" in cause["text"]
        controller.wait_text(rf"engine {number} has left: engine {number} ")
    assert "WARNING" not in controller.text


def test_what_an_engine_wrote_last_is_shown_once(controller, start, connect):
    start("ipengine", "-n", "2")
    rc = connect(2)
    with pytest.raises(ipp.error.EngineError) as failure:
        rc[0].apply_sync(leave)
    assert str(failure.value).count("from a child") == 1
    controller.wait_text("engine 0 died: .* its stderr ends with: from a child")


def test_a_restart_on_request_keeps_the_number(controller, start, connect):
    host = start("ipengine", "-n", "2")
    rc = connect(2)
    pids = dict(zip(rc.ids, rc[:].apply_sync(os.getpid), strict=True))
    rc._query("shutdown", targets=[1], restart=True, hub=False)
    host.wait_text("Completed registration with id 1", 2)
    again = wait_until(lambda: len(rc.ids) == 2 and rc[1].apply_sync(os.getpid), what="engine 1 being back")
    assert again != pids[1] and rc[0].apply_sync(os.getpid) == pids[0]
    cause = controller.event("engine_died", id=1)["cause"]
    assert cause["restart"] is True and cause["planned"] is True and "a client asked for a restart" in cause["text"]
    assert rc.ids == [0, 1] and "WARNING" not in controller.text


def deaf(path):
    import signal
    import time
    from pathlib import Path

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).write_text("deaf")
    while True:
        time.sleep(1)


@pytest.mark.parametrize("how", ["stop", "restart"])
def test_an_engine_that_ignores_sigterm_is_killed(controller, start, connect, how, tmp_path):
    host = start("ipengine", "-n", "2", "--stop-grace=0.3")
    rc = connect(2)
    running = rc[0].apply_async(deaf, str(tmp_path / "mark"))
    wait_until((tmp_path / "mark").exists, what="the engine being deaf")
    if how == "stop":
        assert host.end() == 1
    else:
        rc._query("shutdown", targets=[0], restart=True, hub=False)
        host.wait_text("Completed registration with id 0", 2)
    host.wait_text("did not end when it was asked to; killing it")
    cause = controller.event("engine_died", id=0)["cause"]
    assert cause["signal"] == signal.SIGKILL and cause["oom"] is False and "was ended by its host with SIGKILL" in cause["text"]
    with pytest.raises(ipp.error.EngineError, match="ended by its host"):
        running.get(30)


@pytest.fixture
def memory_cgroup():
    """A memory cgroup below our own in which 200 MB fit: the path of its cgroup.procs."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = next((path for _, names, path in lines if "memory" in names.split(",")), None)
    if own is None:
        pytest.skip("no memory controller of cgroup v1 here")
    group = Path(f"/sys/fs/cgroup/memory{own}") / f"covey-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(200 << 20))
    except OSError as e:
        pytest.skip(f"a memory cgroup can't be made: {e}")
    try:
        if "oom_kill " not in (group / "memory.oom_control").read_text():
            pytest.skip("this kernel does not count kills in memory.oom_control")
        yield group / "cgroup.procs"
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), what="the cgroup being empty")
        group.rmdir()


def eat():
    hoard = []
    while True:
        hoard.append(bytearray(b"x" * (8 << 20)))


def test_out_of_memory_is_told_as_fact(memory_cgroup, controller, start, connect, tmp_path):
    """The kernel kills an engine in a cgroup of ours; a SIGKILL that somebody sends there is told as such."""
    launcher = tmp_path / "ipengine"
    launcher.write_text(f"#!/bin/sh\necho $$ > {memory_cgroup}\nexec {' '.join(program_argv('ipengine'))} \"$@\"\n")
    launcher.chmod(0o755)
    host = start(str(launcher), "-n", "2")
    rc = connect(2)
    pids = dict(zip(rc.ids, rc[:].apply_sync(os.getpid), strict=True))
    with pytest.raises(ipp.error.EngineError, match="was killed by the kernel because memory ran out") as failure:
        rc[0].apply_sync(eat)
    assert "peak memory" in str(failure.value)
    cause = controller.event("engine_died", id=0)["cause"]
    assert cause["oom"] is True and cause["signal"] == signal.SIGKILL and cause["peak_rss"] > 50 << 20
    os.kill(pids[1], signal.SIGKILL)
    cause = controller.event("engine_died", id=1)["cause"]
    assert cause["oom"] is False and "not by its host" in cause["text"]
    assert host.wait() == 1


def slow(path, mark):
    import time
    from pathlib import Path

    with open(path, "a") as f:
        f.write("began\n")
    while not Path(mark).exists():
        time.sleep(0.02)
    return 8


@pytest.mark.parametrize("option", [[], ["--no-unix"]], ids=["unix", "relay"])
def test_a_controller_that_is_started_again_finds_all_as_it_was(start, connect, option, tmp_path):
    """kill -9 while an engine runs a task and has another one waiting: nothing is lost, nothing runs twice."""
    first = start("ipcontroller", "--reuse")
    first.event("listening")
    host = start("ipengine", "-n", "2", *option)
    rc = connect(2)
    rc[:].push({"kept": 7}, block=True)
    pids = rc[:].apply_sync(os.getpid)
    log, mark = tmp_path / "log", tmp_path / "mark"
    running = rc[1].apply_async(slow, str(log), str(mark))
    waiting = rc[1].apply_async(slow, str(log), str(mark))
    balanced = rc.load_balanced_view().map_async(str, range(3))
    assert balanced.get(30) == ["0", "1", "2"]
    wait_until(log.exists, what="the task running")
    first.end(signal.SIGKILL)
    host.wait_text("it may be started again")
    second = start("ipcontroller", "--reuse")
    second.event("listening")
    for number in (0, 1):
        second.event("engine_joined", id=number)
    second.wait_text("client [0-9a-f]+ connected")
    mark.write_text("go on")
    assert running.get(30) == 8 and waiting.get(30) == 8
    assert log.read_text() == "began\n" * 2
    assert rc.ids == [0, 1]
    assert rc[:].apply_sync(os.getpid) == pids
    assert rc[:].pull("kept", block=True) == [7, 7]
    assert host.end() == 1


@pytest.mark.parametrize("how", ["late", "removed", "replaced"])
def test_a_controller_that_does_not_come_back(start, connect, how, ipython_dir):
    controller = start("ipcontroller", "--reuse")
    path = controller.event("listening")["engine_file"]
    host = start("ipengine", "-n", "2", f"--controller-grace={0.5 if how == 'late' else 60}")
    connect(2)
    controller.end(signal.SIGKILL)
    if how == "late":
        host.wait_text("was not there again within 0.5 s")
    else:
        host.wait_text("it may be started again")
        if how == "removed":
            os.unlink(path)
        else:
            start("ipcontroller").event("listening")
        host.wait_text("its connection file is gone or another controller's")
    assert host.wait() == 1
