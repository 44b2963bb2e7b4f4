"""A controller and a host without a supervisor: for tests of what engines do."""
import json
import os
import signal
import subprocess

import pytest

import covey as ipp
from covey._programs import program_argv

from .conftest import wait_until


@ipp.interactive
def until_exists(path):
    """A task that runs until there is such a file."""
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.01)


def until_all_are_there(view):
    """Returns when an engine has what was submitted to it before: a task behind all that is taken back from there."""
    last = view.apply_async(abs, 0)
    last.abort()
    with pytest.raises(ipp.TaskAborted):
        last.get(30)


def other_engines(rc, n, pids):
    """Whether there are n engines, none of them one of those that had these pids."""
    try:
        return len(rc.ids) == n and not set(rc[:].apply_sync(os.getpid)) & set(pids)
    except (ipp.EngineError, ipp.CompositeError):     # the old ones are just ending
        return False


class Stack:
    """Starts `ipcontroller` and `ipengine -n N`, or several of those, with an environment's default profile; `stop()` ends all."""

    def __init__(self, env, n=2, engine_args=(), controller_args=(), hosts=1):
        self.env = env
        self.folder = os.path.join(env["IPYTHONDIR"], "profile_default")
        os.makedirs(os.path.join(self.folder, "security"), exist_ok=True)
        self.processes = []
        self.client_file = os.path.join(self.folder, "security", "ipcontroller-client.json")
        self.log = open(os.path.join(self.folder, "stack.log"), "wb")
        self.rc = None
        try:
            self.run("ipcontroller", *controller_args)
            wait_until(lambda: os.path.exists(self.client_file), what="the connection file")
            file = self.engine_file()
            args = [*(["--file", file, "--no-unix"] if file else []), *engine_args]
            self.hosts = [self.run("ipengine", "-n", str(n), *args) for _ in range(hosts)]
            self.host = self.hosts[0]
            self.rc = self.connect()
            self.rc.wait_for_engines(n * hosts, timeout=60, interactive=False)
        except BaseException:
            self.stop()
            raise

    def engine_file(self):
        """The connection file of the engines; None: the profile's."""
        return None

    def connect(self):
        return ipp.Client(self.client_file)

    def tcp_address(self):
        with open(self.client_file) as f:
            endpoint = next(e for e in json.load(f)["endpoints"] if e.startswith("tcp://127."))
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        return host, int(port)

    def run(self, program, *args):
        p = subprocess.Popen(program_argv(program, args), env=self.env, stdin=subprocess.DEVNULL, stdout=self.log,
                             stderr=self.log, start_new_session=True)
        self.processes.append(p)
        return p

    def stop(self):
        if self.rc is not None:
            self.rc.close()
        for p in reversed(self.processes):
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
        for p in self.processes:
            try:
                p.wait(30)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.log.close()
