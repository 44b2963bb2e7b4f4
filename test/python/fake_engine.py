"""An engine without its C half: runs scripted tasks and tells what went over the link.

As a program: reads a pickled list of items from standard input, runs a real shell and
`covey._engine.Engine` on a link that is a list, writes the pickled list of what the link was told
to the descriptor in argv[1]. As a module: `run(items)` starts that program.

Items: a tuple as `covey._core.Engine.next` returns it; ("pause", seconds): nothing comes so long; ("until", path): before there
is such a file; ("strike", method): when that method of the link has next done its work ("before …": instead of that), the handler of a signal raises.
"""
import contextlib
import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

APPLY, EXECUTE, MAP = 0, 1, 2
SILENT = 1 << 3


def task(kind, buffers, seq=1, count=1, flags=0, session=7):
    return (3, kind, flags, session, seq, count, 1, 0, tuple(bytes(b) for b in buffers))


def cell(source, seq=1, silent=False, session=7):
    return task(EXECUTE, [source.encode()], seq, flags=SILENT if silent else 0, session=session)


def run(items, timeout=60):
    """What the link was told: ("begin", seq), ("end",), ("result", status, buffers, count, skip), ("output", kind, buffers),
    ("comm", buffers); last ("code", exit code)."""
    r, w = os.pipe()
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    p = subprocess.Popen([sys.executable, __file__, str(w)], stdin=subprocess.PIPE, pass_fds=[w], env=env)
    os.close(w)
    try:
        p.stdin.write(pickle.dumps(items))
        p.stdin.close()
        with open(r, "rb") as f:
            data = f.read()
        p.wait(timeout)
    finally:
        p.kill()
        p.wait()
    assert data, f"the engine ended with {p.returncode} and told nothing"
    return pickle.loads(data)


def results(log):
    return [e for e in log if e[0] == "result"]


def outputs(log, kind=None):
    return [e[2] for e in log if e[0] == "output" and kind in (None, e[1])]


def text(log, kind):
    return b"".join(b"".join(b) for b in outputs(log, kind)).decode()


def struck(method):
    """A method of the link during which a signal comes: its handler raises in who called."""
    @functools.wraps(method)
    def call(self, *args, **kwargs):
        if self.strike == "before " + method.__name__:
            self.strike = None
            signal.raise_signal(signal.SIGALRM)
        value = method(self, *args, **kwargs)
        if self.strike == method.__name__:
            self.strike = None
            signal.raise_signal(signal.SIGALRM)
        return value
    return call


def too_late(signum, frame):
    raise TimeoutError("too late")


def until(path):
    while not os.path.exists(path):
        time.sleep(0.01)


WAITS = {"pause": time.sleep, "until": until}


class FakeLink:
    strike = None

    def __init__(self, items):
        self.items = list(items)
        self.log = []
        self.wake = os.eventfd(0, os.EFD_NONBLOCK)
        self.window = self.waiting = False
        self.started = set()
        self.unsent = 0

    @struck
    def next(self, timeout, into):
        if self.items and self.items[0][0] in WAITS:
            if timeout == 0:
                return
            WAITS[self.items[0][0]](self.items.pop(0)[1])
        if self.items and self.items[0][0] == "strike":
            signal.signal(signal.SIGALRM, too_late)
            self.strike = self.items.pop(0)[1]
        into.append(self.items.pop(0) if self.items else (24, 0, 0, 0, 0, 0, 0, 0, ()))

    def fileno(self):
        """Readable when the pause is over. (The loop's add_reader and remove_reader ask both.)"""
        if self.items and self.items[0][0] in WAITS:
            wait, what = self.items.pop(0)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.wake)
            threading.Thread(target=lambda: (WAITS[wait](what), os.eventfd_write(self.wake, 1))).start()
        elif not self.waiting:
            os.eventfd_write(self.wake, 1)
        self.waiting = not self.waiting
        return self.wake

    @struck
    def begin(self, session, seq, attempt):
        if (session, seq) in self.started:
            return False
        self.started.add((session, seq))
        self.log.append(("begin", seq))
        self.window = True
        self.unsent += 1
        return True

    def begun(self):
        return self.unsent

    @struck
    def end(self):
        if self.window:
            self.log.append(("end",))
        self.window = False

    def interrupted(self):
        return self.window

    @struck
    def result(self, status, buffers, count=1, skip=0):
        self.log.append(("result", status, [bytes(b) for b in buffers], count, skip))
        self.unsent -= count

    def output(self, kind, buffers):
        self.log.append(("output", kind, [bytes(b) for b in buffers]))

    def comm(self, session, seq, buffers):
        self.log.append(("comm", [bytes(b) for b in buffers]))


def main():
    from covey._engine import Engine
    from covey._zygote import warm_up

    items = pickle.load(sys.stdin.buffer)
    out = os.fdopen(int(sys.argv[1]), "wb")
    outlet, shell = warm_up()
    link = outlet.link = FakeLink(items)
    engine = Engine(link, shell)
    engine.install_signals()
    try:
        code = engine.run()
    finally:
        outlet.link = None
        link.log.append(("code", engine.leaving))
        pickle.dump(link.log, out)
        out.close()
    os._exit(code)


if __name__ == "__main__":
    main()
