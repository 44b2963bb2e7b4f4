# SPDX-License-Identifier: BSD-3-Clause
"""A million tasks while an engine is killed every second: does each end exactly once, and does each kill cost one task?

usage: chaos.py [--tasks N] [--seconds S] [--engines N] [--every S] [--once-seconds S]

Two parts. In the first every task has three retries, so all must succeed; how often each ran is counted where it ran.
In the second there are no retries and tasks take 20 ms: exactly those fail that ran when their engine was killed.
Exit status 1 if something does not hold, and the stories of the tasks that are wrong, told from the scheduler's log (which is kept then).
"""
import argparse
import collections
import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import covey as ipp

REPLAY = Path(__file__).resolve().parents[1] / "build" / "test" / "sim" / "replay"
WAVE = 10_000         # items of one map
OUTSTANDING = 4       # waves that are on the way
SLOW_EVERY, SLOW = 100, 0.02
ENDS_WITHIN = 60.0    # seconds after the last submission


def work(folder, i, seconds):
    """Leaves its number in a file of its process and gives it back."""
    import os
    import struct
    import time

    fd = globals().get("_record_fd")
    if fd is None:
        fd = globals()["_record_fd"] = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, struct.pack("=I", i))
    if seconds:
        time.sleep(seconds)
    return i


class Killer(threading.Thread):
    """Kills the engine that has lived longest, every `every` seconds, and hears how each death is told."""

    def __init__(self, rc, every):
        super().__init__(name="killer", daemon=True)
        self.rc, self.every = rc, every
        self.killed, self.told = [], []
        self._over = threading.Event()
        self._since = {}
        rc._listeners.append(self._hear)

    def _hear(self, event):
        if event.get("event") == "engine_died":
            self.told.append(event.get("cause") or {})

    def _oldest(self):
        """The pid of an engine that is up."""
        self.rc._pump()
        up = {e["pid"] for e in self.rc._engines.values() if e.get("state") == "up"} - set(self.killed)
        self._since = {pid: self._since.get(pid, time.monotonic()) for pid in up}
        return min(self._since, key=self._since.get, default=None)

    def run(self):
        while not self._over.wait(self.every):
            pid = self._oldest()
            if pid is not None:
                self.killed.append(pid)
                os.kill(pid, signal.SIGKILL)

    def stop(self):
        self._over.set()
        self.join()
        self.rc._listeners.remove(self._hear)


def runs(folder):
    """How often each task ran, by its number."""
    count = collections.Counter()
    for file in Path(folder).iterdir():
        data = file.read_bytes()
        count.update(struct.unpack(f"={len(data) // 4}I", data))
    return count


def seconds_of(i):
    return 0 if i % SLOW_EVERY else SLOW


class Part:
    """Submits tasks with a view, collects how they end."""

    def __init__(self, rc, folder, retries):
        self.rc, self.folder = rc, str(folder)
        Path(folder).mkdir()
        self.view = rc.load_balanced_view()
        self.view.retries = retries
        self.ok, self.failed, self.wrong = 0, {}, {}

    def submit(self, lo, hi, seconds):
        numbers = range(lo, hi)
        return lo, self.view.map_async(work, [self.folder] * len(numbers), numbers, [seconds(i) for i in numbers],
                                       return_exceptions=True)

    def collect(self, lo, ar):
        try:
            values = ar.get(ENDS_WITHIN)
        except TimeoutError:
            for n, part in enumerate(ar.split()):
                if not part.ready():
                    self.wrong[part.msg_ids[0]] = f"task {lo + n} has not ended: {part!r}"
            return
        for i, value in enumerate(values, lo):
            if value == i:
                self.ok += 1
            elif isinstance(value, ipp.error.EngineError):
                self.failed[i] = ar.msg_ids[i - lo], value
            else:
                self.wrong[ar.msg_ids[i - lo]] = f"task {i} gave {value!r}"

    @property
    def ended(self):
        return self.ok + len(self.failed)


def with_retries(rc, folder, options):
    """All tasks succeed."""
    part, killer = Part(rc, folder, 3), Killer(rc, options.every)
    killer.start()
    start = time.monotonic()
    waves = collections.deque()
    last = 0
    for lo in itertools.count(0, WAVE):
        over = lo >= options.tasks or (options.seconds and time.monotonic() - start > options.seconds)
        if not over:
            last = min(lo + WAVE, options.tasks)
            waves.append(part.submit(lo, last, seconds_of))
        if not waves:
            break
        if over or len(waves) >= OUTSTANDING:
            part.collect(*waves.popleft())
    took = time.monotonic() - start
    killer.stop()
    count = runs(folder)
    more = {i: n for i, n in count.items() if n > 1}
    print(f"retries=3: {last} tasks in {took:.0f} s ({last / took:.0f} a second), {len(killer.killed)} engines killed: "
          f"{part.ok} succeeded, {len(part.failed)} failed, {last - part.ended} without an end; "
          f"{len(more)} ran more than once ({len(more) / max(1, len(killer.killed)):.1f} a kill, at most {max(count.values())} times)", flush=True)
    for i, (msg_id, failure) in part.failed.items():
        part.wrong[msg_id] = f"task {i} failed in spite of its retries: {failure}"
    if len(count) != last:
        part.wrong["runs"] = f"{last - len(count)} tasks have a result and no run"
    return part


def without_retries(rc, folder, options):
    """Exactly what ran when its engine was killed fails, and ran once; nothing else runs twice."""
    part, killer = Part(rc, folder, 0), Killer(rc, options.every)
    n = int(options.once_seconds / SLOW * options.engines)
    lo, ar = part.submit(0, n, lambda i: SLOW)
    killer.start()
    part.collect(lo, ar)
    killer.stop()
    count = runs(folder)
    running = [c for c in killer.told if c.get("running")]
    print(f"retries=0: {n} tasks of {SLOW * 1000:.0f} ms, {len(killer.killed)} engines killed, {len(running)} of them while they ran a task: "
          f"{part.ok} succeeded, {len(part.failed)} failed, {n - part.ended} without an end; at most {max(count.values())} runs", flush=True)
    if len(part.failed) != len(running):
        part.wrong["M4"] = f"{len(running)} tasks ran when their engine was killed, and {len(part.failed)} failed"
        part.wrong.update((msg_id, f"task {i} failed: {failure}") for i, (msg_id, failure) in part.failed.items())
    if max(count.values()) > 1:
        part.wrong["once"] = f"without retries these ran more than once: {[i for i, k in count.items() if k > 1]}"
    return part


def idle(rc):
    """What is left to do, as the controller sees it."""
    status = rc.queue_status()
    return {k: v for k, v in status.items() if v != {"queue": 0, "completed": v["completed"], "tasks": 0}} if status.pop("unassigned", 0) == 0 else status


def replay(log, *msg_id):
    """(whether the scheduler does the same again, what the replay says): with a msg_id, that task's story."""
    if not REPLAY.exists():
        return True, f"(no story: {REPLAY} is not built)\n"
    p = subprocess.run([REPLAY, log, *msg_id], capture_output=True, text=True)
    return p.returncode == 0, p.stdout + p.stderr


def judge(wrong, log):
    """Tells what is wrong with the stories of at most ten tasks, and keeps the log then; the exit status."""
    same, said = replay(log)
    if not same or (REPLAY.exists() and " 0 tasks are left" not in said):
        wrong["replay"] = f"the scheduler's log, told again: {said}"
    for msg_id, what in list(wrong.items())[:10]:
        print(f"WRONG: {what}", file=sys.stderr)
        if "_" in msg_id:
            print(replay(log, msg_id)[1], file=sys.stderr)
    if not wrong:
        print(f"replayed: {said}", end="")
        return 0
    kept = shutil.copy(log, f"chaos-{os.getpid()}.schedlog")
    print(f"{len(wrong)} things are wrong; the scheduler's log is {kept}", file=sys.stderr)
    return 1


def main():
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    p.add_argument("--tasks", type=int, default=1_000_000, help="with retries (default: 1,000,000)")
    p.add_argument("--seconds", type=float, default=0, help="submit no more after so long (default: no limit)")
    p.add_argument("--engines", type=int, default=12, help="one of %(default)s engines that live at least ten seconds restarts at once")
    p.add_argument("--every", type=float, default=1.0, help="seconds between two kills (default: 1)")
    p.add_argument("--once-seconds", type=float, default=15, help="about how long the part without retries takes (default: 15)")
    options = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="covey-chaos-") as folder:
        log = Path(folder) / "schedlog"
        with ipp.Cluster(n=options.engines, restart=True, controller_args=[f"--sched-log={log}"]) as rc:
            parts = [with_retries(rc, Path(folder) / "many", options), without_retries(rc, Path(folder) / "once", options)]
            left = idle(rc)
        wrong = {**parts[0].wrong, **parts[1].wrong}
        if left:
            wrong["left"] = f"the controller has work left: {left}"
        return judge(wrong, log)


if __name__ == "__main__":
    sys.exit(main())
