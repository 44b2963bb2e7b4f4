"""Clients that come and go: in one process, in threads, as processes that are killed. Is anything left behind?"""
import gc
import os
import signal
import threading
from pathlib import Path

import covey as ipp

from .rig import descriptors, memory, wait_until


class State:
    """What a cluster and this process hold: descriptors, memory, files."""

    def __init__(self, rc, controller_pid, folder):
        gc.collect()
        self.pids = {"the controller": controller_pid, "this process": os.getpid(),
                     **{f"engine {i}": pid for i, pid in rc[:].apply_async(os.getpid).get_dict().items()}}
        self.descriptors = {name: descriptors(pid) for name, pid in self.pids.items()}
        self.memory = {name: memory(pid) for name, pid in self.pids.items()}
        self.files = sorted(str(p) for p in Path(folder).rglob("*"))

    def grown(self, later, share=0.05, floor=1 << 20):
        """What `later` has more of, in words; [] if nothing (memory: by more than a share, and more than `floor` bytes)."""
        found = [f"{name}: {later.descriptors[name]} descriptors, {n} before"
                 for name, n in self.descriptors.items() if later.descriptors[name] > n]
        found += [f"{name}: {later.memory[name] >> 10} KiB, {n >> 10} KiB before"
                  for name, n in self.memory.items() if later.memory[name] - n > max(floor, share * n)]
        found += [f"new file {f}" for f in later.files if f not in self.files]
        return found


def one(file):
    """A client that does something and leaves."""
    rc = ipp.Client(file)
    try:
        assert rc[0].apply_sync(abs, -1) == 1
    finally:
        rc.close()


def in_turn(file, n):
    """n clients, one after another."""
    for _ in range(n):
        one(file)


def in_threads(file, n, threads=8):
    """n clients, some at the same time."""
    failed = []

    def run():
        try:
            in_turn(file, n // threads)
        except BaseException as e:
            failed.append(e)

    all_of_them = [threading.Thread(target=run) for _ in range(threads)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()
    if failed:
        raise failed[0]


def killed(file, n):
    """n processes whose clients have submitted something and are killed."""
    for _ in range(n):
        pid = os.fork()
        if not pid:
            try:
                rc = ipp.Client(file)
                rc[:].apply_async(abs, -1)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status)


def settle(rc, controller_pid, before):
    """Waits until the controller has noticed who is gone."""
    wait_until(lambda: descriptors(controller_pid) <= before.descriptors["the controller"], 60,
               f"the controller has {descriptors(controller_pid)} descriptors, {before.descriptors['the controller']} before")
