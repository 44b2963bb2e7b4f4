"""Whole programs of which one call fails, for each call: test/fault/shim.c is preloaded and fails the Nth.

A scenario starts a program, works with it and stops it. With a failing call it goes on and works, or it ends with a sentence and
another code than 0; it is ended by no signal, keeps nobody waiting, and leaves no process and no file behind.

`python -m test.system.nth` runs them all, which takes hours; see --help.
"""
import argparse
import os
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from pathlib import Path

import covey as ipp
from covey._programs import program_argv

from .conftest import files_of, wait_gone, wait_until

KINDS = {"m": "memory", "o": "descriptors", "w": "files", "s": "streams", "f": "processes", "c": "connections"}
SOURCE = Path(__file__).parent.parent / "fault" / "shim.c"
STOP = 40  # seconds until whatever was told to end has ended; the programs' own limits are shorter
DEADLINE = 20  # of a step of the work
LONGEST = 200  # of a run
TIMEOUT = "--engine-timeout=20"  # of ipcluster, which may miss an event


def build_shim(folder):
    """The preloaded library."""
    out = Path(folder) / "shim.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", out, SOURCE, "-ldl", "-lpthread"], check=True, timeout=60)
    return out


class Wrong(AssertionError):
    """What must not become of a program."""


class Hangs(BaseException):
    """Somebody waits for ever."""


class Ended(Exception):
    """The program has ended by itself; that is allowed."""


class Failing:
    """The environment in which the nth call (0: none) of `program` fails; what has failed."""

    def __init__(self, env, shim, program, kinds, n):
        self.file = Path(env["IPYTHONDIR"]).parent / "tally"
        self.file.write_bytes(bytes(4096))
        self.env = dict(env, LD_PRELOAD=str(shim), COVEY_TEST_FAULT_NTH=f"{program} {kinds} {n} {self.file}")

    def calls(self):
        return struct.unpack_from("<Q", self.file.read_bytes())[0]

    def what(self):
        """'malloc(24) called at ipengine+0x1234'; '': nothing has failed."""
        _, failed, where, what, name = struct.unpack_from("<QQQ56s64s", self.file.read_bytes())
        return f"{what.rstrip(bytes(1)).decode()} called at {name.rstrip(bytes(1)).decode()}+{where:#x}" if failed else ""


class Ground:
    """A folder of its own, and the processes that were started with it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.env = dict(os.environ, IPYTHONDIR=str(self.folder / "ipython"), IPP_NONINTERACTIVE="0")
        for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO", "COVEY_EVENTS_FD", "LD_PRELOAD"):
            self.env.pop(name, None)
        self.security = self.folder / "ipython" / "profile_default" / "security"
        self.client_file = self.security / "ipcontroller-client.json"
        self.started = []

    def start(self, program, *args, env=None):
        """A process and the file of what it says."""
        log = self.folder / f"{program}-{len(self.started)}.log"
        with open(log, "wb") as f:
            p = subprocess.Popen(program_argv(program, args), env=env or self.env, stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True)
        p.log, p.program = log, program
        self.started.append(p)
        return p

    def end(self, p, number=signal.SIGTERM):
        """It is told to end, and does; its code."""
        if p.poll() is None:
            p.send_signal(number)
        try:
            return p.wait(STOP)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{p.program} does not end within {STOP} s after signal {number}") from None

    def clear(self):
        """Ends what still runs; what was left behind that should not."""
        for p in self.started:
            if p.poll() is None:
                p.kill()
                p.wait()
        left = [f"process {pid}: {command}" for pid, command in wait_gone(self.env["IPYTHONDIR"], STOP).items()]
        for line in left:
            os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
        return left + files_of(self.env["IPYTHONDIR"])


def said(p):
    return p.log.read_text(errors="replace")


def check_end(p, failing, fine=(0,)):
    """A program that was told to end, or has ended by itself."""
    code = p.wait(STOP)
    if code < 0:
        raise Wrong(f"{p.program} was ended by signal {-code}")
    if code not in fine and not failing.what():
        raise Wrong(f"{p.program} ended with {code} though nothing failed")
    if code not in fine and len(said(p)) < 20 and not failing.what().startswith("write"):
        raise Wrong(f"{p.program} ended with {code} without a sentence")


def ended(p, seconds):
    try:
        p.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


class Work:
    """What is done with a program that is up, by a client of its own. A step may end with an error that says something; then a new client,
    with a new engine where the engines were not its, must get it done."""

    def __init__(self, ground, p, spare=False):
        self.ground, self.p, self.spare, self.rc = ground, p, spare, None
        self.step(lambda: None)

    def connect(self, again):
        self.rc = ipp.Client(str(self.ground.client_file), timeout=DEADLINE)
        if self.spare and again and not self.rc.ids:
            self.ground.start("ipengine", "-n", "1")
        self.rc.wait_for_engines(1, timeout=DEADLINE, interactive=False)

    def close(self):
        if self.rc is not None:
            self.rc.close()
        self.rc = None

    def step(self, do):
        for last in (False, True):
            try:
                if self.rc is None:
                    self.connect(last)
                return do()
            except Exception as e:
                if ended(self.p, 10 if last else 0):  # what it leaves goes first
                    raise Ended from None
                if last or not str(e):
                    raise Wrong(f"the work does not go on: {type(e).__name__}: {e}") from e
                self.close()

    @property
    def engine(self):
        return self.rc[self.rc.ids[0]]

    def calls(self):
        """Calls, output, large buffers both ways, many tasks, questions."""
        big = bytes(range(256)) * 1200
        self.step(lambda: same(self.engine.apply_async(abs, -1).get(DEADLINE), 1))
        self.step(self.prints)
        self.step(lambda: same(self.engine.apply_async(lambda b: b, big).get(DEADLINE) == big, True))
        self.step(self.maps)
        self.step(lambda: self.rc.queue_status(verbose=True))
        self.step(lambda: self.rc.db_query({"completed": {"$ne": None}}, keys=["msg_id"]))

    def prints(self):
        ar = self.engine.execute("print('said')", block=False)
        ar.get(DEADLINE)
        same(ar.stdout, "said\n")

    def maps(self):
        view = self.rc.load_balanced_view()
        same(list(view.map_async(lambda i: i * i, range(40)).get(DEADLINE)), [i * i for i in range(40)])

    def dies(self):
        """An engine ends, and what is known of it comes."""
        number = self.rc.ids[0]
        try:
            self.rc[number].apply_async(os._exit, 3).get(DEADLINE)
        except (ipp.RemoteError, ipp.error.EngineError) as e:
            if str(e):
                return
        raise Wrong("the death of an engine is no error, or has no words")


def same(got, expected):
    if got != expected:
        raise ValueError(f"{got!r:.200} instead of {expected!r:.200}")


def until_up(p, ready, seconds=30):
    """Waits for what shows that it is up; Ended if it ends before."""
    wait_until(lambda: ready() or p.poll() is not None, seconds, f"{p.program} being up, or its end")
    if p.poll() is not None:
        raise Ended


# ------------------------------------------------ the scenarios


def controller(ground, failing, *args):
    p = ground.start("ipcontroller", *args, env=failing.env)
    work = None
    try:
        until_up(p, ground.client_file.exists)
        ground.start("ipengine", "-n", "1")
        work = Work(ground, p, spare=True)
        work.calls()
    except Ended:
        if p.poll() == 0:
            raise Wrong("ipcontroller ended by itself with code 0") from None
    finally:
        if work is not None:
            work.close()
    for x in reversed(ground.started):
        ground.end(x)
    check_end(p, failing)


def controller_tls(ground, failing):
    """Everything over TCP, and records in a file."""
    controller(ground, failing, "--no-unix", "--db=sqlite")


def engines(ground, failing, *args):
    ground.start("ipcontroller")
    wait_until(ground.client_file.exists, what="the connection file")
    rc, work = ipp.Client(str(ground.client_file)), None
    try:
        p = ground.start("ipengine", "-n", "2", *args, env=failing.env)
        until_up(p, lambda: len(rc.ids) == 2 or (failing.what() and len(rc.ids) == 1), 40)
        work = Work(ground, p)
        work.calls()
        work.step(work.dies)
        if p.poll() is None and rc.ids:
            work.step(lambda: same(work.engine.apply_async(abs, -2).get(DEADLINE), 2))
    except Ended:
        if p.poll() == 0:
            raise Wrong("ipengine ended by itself with code 0") from None
    finally:
        rc.close()
        if work is not None:
            work.close()
    ground.end(p)
    check_end(p, failing, fine=(0, 1))
    ground.end(ground.started[0])


def engines_tls(ground, failing):
    engines(ground, failing, "--no-unix")


def start(ground, failing):
    p = ground.start("ipcluster", "start", "-n", "1", TIMEOUT, env=failing.env)
    try:
        until_up(p, lambda: "successfully" in said(p) or (failing.what().startswith("write(2)") and ground.client_file.exists()), 60)
        stop = ground.start("ipcluster", "stop")
        if stop.wait(2 * STOP):
            raise Wrong(f"`ipcluster stop` ended with {stop.returncode}: {said(stop)}")
    except Ended:
        if p.poll() == 0:
            raise Wrong("`ipcluster start` ended by itself with code 0") from None
    check_end(p, failing)


def start_background(ground, failing):
    p = ground.start("ipcluster", "start", "-n", "1", "--daemonize", TIMEOUT, env=failing.env)
    try:
        code = p.wait(60)
    except subprocess.TimeoutExpired:
        raise Wrong("`ipcluster start --daemonize` does not return") from None
    check_end(p, failing)
    stop = ground.start("ipcluster", "stop")
    if stop.wait(2 * STOP) != (0 if code == 0 else 11):
        raise Wrong(f"`ipcluster start` ended with {code}, and then `ipcluster stop` with {stop.returncode}: {said(stop)}")


def stop(ground, failing):
    p = ground.start("ipcluster", "start", "-n", "1")
    until_up(p, lambda: "successfully" in said(p), 60)
    stopper = ground.start("ipcluster", "stop", env=failing.env)
    check_end(stopper, failing)
    if stopper.returncode:
        again = ground.start("ipcluster", "stop")
        if again.wait(2 * STOP) not in (0, 11):
            raise Wrong(f"a second `ipcluster stop` ended with {again.returncode}: {said(again)}")
    check_end(p, failing)


SCENARIOS = {"controller": ("ipcontroller", controller), "controller-tls": ("ipcontroller", controller_tls),
             "engines": ("ipengine", engines), "engines-tls": ("ipengine", engines_tls), "start": ("ipcluster", start),
             "start-background": ("ipcluster", start_background), "stop": ("ipcluster", stop)}


def too_long(*args):
    where = "".join(traceback.format_stack()[-6:-1])
    raise Hangs(f"it hangs:\n{where}")


def run(scenario, shim, kinds, n):
    """A scenario with the nth call failing: (calls, what failed, what is wrong)."""
    program, function = SCENARIOS[scenario]
    folder = tempfile.mkdtemp(prefix="nth-")
    ground = Ground(folder)
    failing = Failing(ground.env, shim, program, kinds, n)
    wrong = ""
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)
    try:
        function(ground, failing)
    except (AssertionError, Hangs, subprocess.TimeoutExpired) as e:
        wrong = str(e)
    finally:
        signal.alarm(0)
    left = ground.clear()
    if left and not wrong:
        wrong = f"left behind: {'; '.join(left)}"
    calls, what = failing.calls(), failing.what()
    if wrong:
        logs = "\n".join(f"--- {p.log.name}\n{said(p)[-2000:]}" for p in ground.started)
        wrong = f"{scenario}, call {n} of {kinds}, {what or 'nothing failed'}: {wrong}\n{logs}"
    shutil.rmtree(folder, ignore_errors=True)
    return calls, what, wrong


def main():
    parser = argparse.ArgumentParser(description="Runs whole programs with each call failing in turn.")
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS), help=", ".join(SCENARIOS))
    parser.add_argument("--kinds", default="".join(KINDS), help="; ".join(f"{k}: {v}" for k, v in KINDS.items()))
    parser.add_argument("--every", type=int, default=1, help="each how many-th call")
    parser.add_argument("--first", type=int, default=1, help="the first that fails")
    parser.add_argument("--only", type=int, help="this alone")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then it ends, with what it has done")
    o = parser.parse_args()
    began, found = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        shim = build_shim(folder)
        for name in o.scenarios:
            for kind in o.kinds:
                calls, _, wrong = run(name, shim, kind, 0)
                if wrong:
                    sys.exit(wrong)
                places = [o.only] if o.only else range(o.first, calls + 1, o.every)
                done = failed = 0
                for n in places:
                    if time.monotonic() - began > o.seconds:
                        break
                    _, what, wrong = run(name, shim, kind, n)
                    done, failed, found = done + 1, failed + bool(what), found + bool(wrong)
                    if wrong:
                        print(wrong, flush=True)
                print(f"{name}, {KINDS[kind]}: {calls} calls, {done} runs, {failed} with a failure", flush=True)
    print(f"{found} went wrong")
    return found > 0


if __name__ == "__main__":
    sys.exit(main())
