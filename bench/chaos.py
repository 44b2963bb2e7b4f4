# SPDX-License-Identifier: BSD-3-Clause
"""A million tasks while an engine is killed every second: does each end exactly once, and does a kill cost no more than it must?

usage: chaos.py [--tasks N] [--seconds S] [--engines N] [--every S] [--once-seconds S]

Three parts. In the first every task has three retries, so all must succeed; how often each ran is counted where it ran.
In the second there are no retries and tasks take 20 ms: those fail that ran when their engine was killed, and of those whose result was
just leaving at most one a kill, on average.
In the third tasks of 2 ms travel 256 in a message. The rule for it and the first: only what a killed engine was running runs again,
and what it had run of a map and not sent; results leave in batches of BATCH_ITEMS at most. So a kill costs 1 + BATCH_ITEMS runs at
most, on average over all kills (a batch may be on its way when its engine is killed): if all that an engine held ran again, it would
be twice as many. Of single no-ops more wait where an engine's I/O thread gets no CPU for some milliseconds, so a few kills are no average.
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
from covey import view as views
from covey._engine import BATCH_ITEMS

REPLAY = Path(__file__).resolve().parents[1] / "build" / "test" / "sim" / "replay"
WAVE = 10_000         # items of one map
OUTSTANDING = 4       # waves that are on the way
SLOW_EVERY, SLOW = 100, 0.02
SHORT = 0.002
ENDS_WITHIN = 60.0    # seconds after the last submission
TOLD_WITHIN = 20.0    # seconds after a kill until the client has heard of it
LIVES = 10.0          # seconds: three lives in a row that are shorter, and their host starts no other engine in that place
KILL_COSTS = 1 + BATCH_ITEMS  # runs: the one that it was in, and those whose results had not left
FEW_KILLS = 4                 # fewer are no average
RUN = struct.Struct("=IQ")    # what a process notes of each run: the task's number, when it began


def work(folder, i, seconds):
    """Leaves its number and the time in a file of its process, and gives its number back."""
    import os
    import struct
    import time

    files = globals().setdefault("_record_fds", {})
    fd = files.get(folder)
    if fd is None:
        fd = files[folder] = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, struct.pack("=IQ", i, time.monotonic_ns()))
    if seconds:
        time.sleep(seconds)
    return i


class Lives:
    """Who may be killed next: the engine that has lived longest; of those that were started again nobody before `LIVES`."""

    def __init__(self, rc):
        self.rc = rc
        self._since = dict.fromkeys(self._up(), float("-inf"))

    def _up(self):
        self.rc._pump()
        return {e["pid"] for e in self.rc._engines.values() if e.get("state") == "up"}

    def oldest(self, but):
        """The pid of an engine that is up, or None."""
        now = time.monotonic()
        self._since = {pid: self._since.get(pid, now) for pid in self._up()}
        old = [pid for pid, since in self._since.items() if pid not in but and now - since >= LIVES]
        return min(old, key=self._since.get, default=None)


class Killer(threading.Thread):
    """Kills an engine every `every` seconds, and hears how each death is told."""

    def __init__(self, rc, lives, options):
        super().__init__(name="killer", daemon=True)
        self.rc, self.lives, self.every = rc, lives, options.every
        self.most_often = max(options.every, LIVES / options.engines)
        self.killed, self.told = [], []
        self.times = 0   # that it was one's turn to be killed: fewer than seconds have passed where this process gets no CPU for some
        self.ended = ""  # why it ended before its time
        self._over = threading.Event()
        rc._listeners.append(self._hear)

    def _hear(self, event):
        if event.get("event") == "engine_died":
            self.told.append(event.get("cause") or {})

    def run(self):
        try:
            while not self._over.wait(self.every):
                self.times += 1
                pid = self.lives.oldest(self.killed)
                if pid is not None:
                    self.killed.append(pid)
                    os.kill(pid, signal.SIGKILL)
        except Exception as e:
            self.ended = f"{type(e).__name__}: {e}"

    def wrong(self):
        """What makes the run prove nothing: it kills at least half as often as asked for (an engine may be starting)."""
        due = int(self.times * self.every / self.most_often / 2)
        if self.ended or len(self.killed) < due:
            return {"kills": f"{len(self.killed)} engines were killed, at least {due} were due. {self.ended}"}
        if untold := self._untold():
            return {"told": f"engines were killed and nobody said so within {TOLD_WITHIN:.0f} s: {untold}"}
        return {}

    def _untold(self):
        return set(self.killed) - {c.get("pid") for c in self.told}

    def stop(self):
        """Ends the thread; returns when all deaths were told."""
        self._over.set()
        self.join()
        self.stopped = time.monotonic()
        while self._untold() and time.monotonic() - self.stopped < TOLD_WITHIN:
            self.rc._pump()
            time.sleep(0.01)
        self.rc._listeners.remove(self._hear)


def runs(folder):
    """How often each task ran, by its number."""
    count = collections.Counter()
    for file in Path(folder).iterdir():
        count.update(i for i, _ in RUN.iter_unpack(file.read_bytes()))
    return count


def lost_runs(folder, again):
    """How many runs of each process were in vain, as the task ran once more later; `again`: tasks that ran more than once."""
    began = {i: [] for i in again}
    for file in Path(folder).iterdir():
        for i, when in RUN.iter_unpack(file.read_bytes()):
            if i in began:
                began[i].append((when, int(file.name)))
    return collections.Counter(pid for of_task in began.values() for _, pid in sorted(of_task)[:-1])


def cost_of(lost, killed):
    n = sum(lost.values())
    return f"{n} runs in vain ({n / max(1, len(killed)):.1f} a kill, at most {max(lost.values(), default=0)} by one; {KILL_COSTS} a kill are allowed)"


def too_many(lost, killed):
    """What the kills cost beyond what they must."""
    wrong = {}
    if sum(lost.values()) > KILL_COSTS * max(len(killed), FEW_KILLS):
        wrong["reruns"] = (f"{sum(lost.values())} runs were in vain, at most {KILL_COSTS} for each of {len(killed)} kills are due: the one under way "
                           f"and {BATCH_ITEMS} whose results had not left; by process: {dict(lost.most_common(10))}")
    if alive := {pid: n for pid, n in lost.items() if pid not in killed}:
        wrong["alive"] = f"tasks ran again though nobody killed the engine that ran them (by process): {alive}"
    return wrong


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


def with_retries(rc, lives, folder, options):
    """All tasks succeed."""
    part, killer = Part(rc, folder, 3), Killer(rc, lives, options)
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
    part.wrong.update(killer.wrong())
    count = runs(folder)
    more = {i: n for i, n in count.items() if n > 1}
    lost = lost_runs(folder, more)
    part.wrong.update(too_many(lost, killer.killed))
    print(f"retries=3: {last} tasks in {took:.0f} s ({last / took:.0f} a second), {len(killer.killed)} engines killed: "
          f"{part.ok} succeeded, {len(part.failed)} failed, {last - part.ended} without an end; "
          f"{len(more)} ran more than once, at most {max(count.values())} times; {cost_of(lost, killer.killed)}", flush=True)
    for i, (msg_id, failure) in part.failed.items():
        part.wrong[msg_id] = f"task {i} failed in spite of its retries: {failure}"
    if len(count) != last:
        part.wrong["runs"] = f"{last - len(count)} tasks have a result and no run"
    return part


def one_map(rc, lives, folder, options, retries, seconds):
    """(its part, its killer, the tasks' ids, how often each ran) of a map of tasks that take so long each."""
    part, killer = Part(rc, folder, retries), Killer(rc, lives, options)
    n = int(options.once_seconds / seconds * options.engines)
    lo, ar = part.submit(0, n, lambda i: seconds)
    killer.start()
    part.collect(lo, ar)
    killer.stop()
    part.wrong.update(killer.wrong())
    return part, killer, ar.msg_ids, runs(folder)


def in_long_messages(rc, lives, folder, options):
    """All tasks succeed, and what an engine held when it was killed ran once."""
    part, killer, ids, count = one_map(rc, lives, folder, options, 3, SHORT)
    n = len(ids)
    again = {i for i, k in count.items() if k > 1}
    lost = lost_runs(folder, again)
    part.wrong.update(too_many(lost, killer.killed))
    print(f"retries=3: {n} tasks of {SHORT * 1000:.0f} ms in long messages, {len(killer.killed)} engines killed: {part.ok} succeeded, "
          f"{len(part.failed)} failed, {n - part.ended} without an end; {cost_of(lost, killer.killed)}", flush=True)
    part.wrong.update((msg_id, f"task {i} failed in spite of its retries: {failure}") for i, (msg_id, failure) in part.failed.items())
    if len(count) != n:
        part.wrong["runs"] = f"{n - len(count)} tasks have a result and no run"
    return part


def without_retries(rc, lives, folder, options):
    """What ran when its engine was killed fails, and ran once; nothing else runs twice. A result that is leaving may be lost as well."""
    part, killer, ids, count = one_map(rc, lives, folder, options, 0, SLOW)
    n = len(ids)
    running = {c.get("running") for c in killer.told} & set(ids)
    failed = {msg_id: failure for msg_id, failure in part.failed.values()}
    ran = {msg_id for msg_id, failure in failed.items() if (failure.cause or {}).get("running") == msg_id}
    leaving = len(failed) - len(ran)
    print(f"retries=0: {n} tasks of {SLOW * 1000:.0f} ms, {len(killer.killed)} engines killed, {len(running)} of them while they ran a task: "
          f"{part.ok} succeeded, {len(failed)} failed ({leaving} had run and their result was leaving), {n - part.ended} without an end; "
          f"at most {max(count.values())} runs", flush=True)
    if ran != running or leaving > len(killer.killed):
        part.wrong["M4"] = f"{len(running)} tasks ran when their engine was killed, {len(ran)} failed for that, and {leaving} others"
        part.wrong.update((msg_id, f"a task failed: {failure}") for msg_id, failure in failed.items())
    if len(count) != n:
        part.wrong["runs"] = f"{n - len(count)} tasks have an end and no run"
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
    p.add_argument("--once-seconds", type=float, default=15, help="about how long the second part and the third take (default: 15)")
    options = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="covey-chaos-") as folder:
        log = Path(folder) / "schedlog"
        views._RANGES_PER_ENGINE = 1  # long messages: an engine holds more than what its death may cost
        with ipp.Cluster(n=options.engines, restart=True, controller_args=[f"--sched-log={log}"]) as rc:
            lives = Lives(rc)
            parts = [part(rc, lives, Path(folder) / name, options)
                     for part, name in ((with_retries, "many"), (without_retries, "once"), (in_long_messages, "long"))]
            left = idle(rc)
        wrong = {what: text for part in parts for what, text in part.wrong.items()}
        if left:
            wrong["left"] = f"the controller has work left: {left}"
        return judge(wrong, log)


if __name__ == "__main__":
    sys.exit(main())
