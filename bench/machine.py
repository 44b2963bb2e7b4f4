# SPDX-License-Identifier: BSD-3-Clause
"""What /proc says: the machine a benchmark ran on, processes below us, their CPU time and memory."""
import ctypes
import os
import platform
import signal
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def describe():
    """The machine's state, for the head of a table."""
    cpu = next((line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")), platform.machine())
    memory = next((int(line.split()[1]) for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal:")), 0)
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory / 2**20, 1), "kernel": platform.release(),
            "load": round(os.getloadavg()[0], 2), "python": platform.python_version(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def descendants(pid=None):
    """Process ids below `pid` (default: this process), zombies left out."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        text = _read(stat)
        if text:
            state, parent = text.rsplit(")", 1)[1].split()[:2]
            children.setdefault(int(parent), []).append((int(stat.parent.name), state))
    found, todo = [], [pid or os.getpid()]
    while todo:
        for child, state in children.get(todo.pop(), []):
            todo.append(child)
            if state not in "ZX":
                found.append(child)
    return found


def name(pid):
    """The process's name, as in `ps -o comm`; empty when it has gone."""
    return _read(f"/proc/{pid}/comm").strip()


def cpu_seconds(pid):
    """CPU time of all threads that a process has now: the scheduler's own count, in ns, not in ticks."""
    return sum(int((_read(s).split() or [0])[0]) for s in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def field(pid, file, key):
    """A figure of /proc/PID/FILE in bytes (its lines are in KiB); 0 when the process has gone."""
    return sum(int(line.split()[1]) << 10 for line in _read(f"/proc/{pid}/{file}").splitlines() if line.startswith(key + ":"))


def rss(pid):
    return field(pid, "status", "VmRSS")


def pss_below():
    """Proportional memory of all processes below this one, in bytes."""
    return sum(field(pid, "smaps_rollup", "Pss") for pid in descendants())


def adopt_orphans():
    """What our children leave behind becomes our child, so that end_all() finds it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(sig=signal.SIGTERM):
    """This process gets `sig` when the one that started it ends, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def end_all(patience=5.0):
    """Ends every process below this one and reaps it: SIGTERM, then SIGKILL. Returns the names of what was left."""
    names = [name(pid) for pid in descendants()]
    for sig, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        for pid in descendants():
            _signal(pid, sig)
        deadline = time.monotonic() + seconds
        while descendants() and time.monotonic() < deadline:
            _reap()
            time.sleep(0.02)
    _reap()
    return names


def _signal(pid, sig):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def _reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
