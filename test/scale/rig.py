"""A controller of its own and simulated peers (`scale-peers`), for `make scale`, `bench/scale.py` and the tests."""
import json
import os
import select
import signal
import subprocess
import tempfile

from covey._programs import program_argv

from ..waiting import looks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def peers_program():
    """`scale-peers`, as `make test` or `make scale` have built it, or None."""
    path = os.environ.get("COVEY_SCALE_PEERS") or os.path.join(ROOT, "build", "test", "scale", "scale-peers")
    return path if os.access(path, os.X_OK) else None


def memory(pid):
    """What a process holds in memory of its own, in bytes: no pages of programs and libraries."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    raise OSError(f"no memory of {pid}")


def descriptors(pid):
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    """CPU time of a process so far, user and system."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Controller:
    """`ipcontroller` in a folder of its own; `stop()` ends it and removes the folder."""

    def __init__(self, *args, env=None, soft_limit=None):
        self._folder = tempfile.TemporaryDirectory(prefix="covey-scale-")
        self.profile = self._folder.name
        self.security = os.path.join(self.profile, "security")
        self.client_file = os.path.join(self.security, "ipcontroller-client.json")
        read, write = os.pipe()
        environment = dict(os.environ if env is None else env, COVEY_EVENTS_FD=str(write))
        self.log_path = os.path.join(self.profile, "controller.log")
        limit = None
        if soft_limit:
            import resource
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft_limit, hard))  # noqa: E731
        with open(self.log_path, "wb") as log:
            argv = program_argv("ipcontroller", [f"--profile-dir={self.profile}", *args])
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[write], env=environment, preexec_fn=limit)
        os.close(write)
        self.pid = self.process.pid
        with os.fdopen(read, "rb") as events:  # nobody reads the others
            line = events.readline()
        if not line:
            with open(self.log_path) as f:
                raise RuntimeError("the controller did not start: " + f.read())
        self.listening = json.loads(line)

    def memory(self):
        """See memory()."""
        return memory(self.pid)

    def stop(self):
        """Ends it; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._folder.cleanup()
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class Peers:
    """A `scale-peers` process: `ask(command)` returns its answer."""

    def __init__(self, controller, *args, nice=0):
        program = peers_program()
        if not program:
            raise FileNotFoundError("scale-peers has not been built: run `make scale` or `ninja -C build`")
        self.process = subprocess.Popen([program, controller.security, *args], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1,
                                        preexec_fn=(lambda: os.nice(nice)) if nice else None)
        self.pid = self.process.pid

    def send(self, command):
        """Starts a command."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self, timeout=120):
        """Waits for the answer to the last command."""
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError("scale-peers " + ("gave no answer" if not ready else "has ended"))
        return json.loads(line)

    def ask(self, command, timeout=120):
        """A command and its answer."""
        self.send(command)
        return self.answer(timeout)

    def stop(self):
        """Ends it."""
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


def wait_until(condition, timeout, what):
    """Waits until condition() is true; an error that names `what` when it does not come."""
    for _ in looks(timeout):
        if condition():
            return
    raise TimeoutError(what)


class Deaf(Peers):
    """A client of right that submits n no-ops and never reads what comes, until it is stopped."""

    def __init__(self, controller, n, nice=0):
        super().__init__(controller, nice=nice)
        self.ask("client unix")
        self.ask(f"deaf {n}")

    def stop(self):
        """Ends it."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Strangers:
    """A `scale-strangers` process: `Strangers(controller, "unix-idle=100", "tcp-garbage=20")`."""

    def __init__(self, controller, *crowd, nice=0):
        self.process = subprocess.Popen([peers_program().replace("scale-peers", "scale-strangers"), controller.security, *crowd],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=(lambda: os.nice(nice)) if nice else None)

    def stop(self):
        """Ends it; how often they came, and were closed."""
        self.process.stdin.close()
        line = self.process.stdout.readline()
        self.process.stdout.close()
        self.process.wait(10)
        return json.loads(line) if line else {}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.stop()
