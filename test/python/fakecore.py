# SPDX-License-Identifier: BSD-3-Clause
"""A `covey._core.Client` without a cluster: a test says when and how each task ends."""
from __future__ import annotations

import json
import threading
import time

from covey import serialize
from covey._calls import unpack_call

RESULT, OUTPUT, EVENT = 5, 7, 15
NONE = 0xFFFFFFFF


class FakeCore:
    """Two engines. With `run=True` calls are run at once in the submitting thread, in the namespace `ns`."""

    def __init__(self, run=False, engines=2):
        self.session = 0xABCD
        self.welcome = {"engines": [{"id": i, "uuid": f"uuid-{i}", "incarnation": 1, "host": "h", "pid": 1,
                                     "python": "3.11", "state": "up", "away_for": None} for i in range(engines)]}
        self.run = run
        self.ns = {}
        self.cond = threading.Condition()
        self.next = 1
        self.pending = {}   # seq → (kind, flags, engine, route, buffers, first)
        self.results = {}
        self.events = []
        self.watched = set()
        self.sent = []
        self.forgotten = []
        self.woken = False
        self.closed = False

    # What covey.client calls.

    def wait_room(self, tasks, bytes):
        pass

    def submit(self, kind, flags, engine, count, route, buffers, shared=0):
        if self.closed:
            raise OSError("closed")
        with self.cond:
            first = self.next
            self.next += count
            for i in range(count):
                target = route["targets"][i] if flags & 4 else engine
                self.pending[first + i] = (kind, flags, target, route, [bytes(buffers[0]), *map(bytearray, buffers[1:])], first)
        if self.run:
            for seq in range(first, first + count):
                self.run_task(seq)
        return first

    def query(self, body):
        with self.cond:
            if self.closed:
                raise OSError("closed")
            seq = self.next
            self.next += 1
            answer = self.answer(json.loads(body))
            self.results[seq] = (0, 1, NONE, 0, 0, 0, 0, 0, (json.dumps(answer).encode(),), seq, 1)
            return seq

    def answer(self, query):
        return {"ok": None}

    def done(self, seq):
        return seq not in self.pending

    def done_count(self, seqs):
        return sum(s not in self.pending for s in seqs)

    def wait(self, seqs, timeout, n=None):
        with self.cond:
            return self.cond.wait_for(lambda: self.done_count(seqs) >= (len(seqs) if n is None else n), timeout)

    def take(self, seq, into=None, what=None):
        with self.cond:
            record = self.results.pop(seq, None)
            if record is not None and into is not None:
                into.append((what, record))
            return record

    def watch(self, seqs):
        with self.cond:
            self.watched.update(s for s in seqs if s in self.pending)

    def poll(self, into=None):
        with self.cond:
            events, self.events = self.events, []
            if into is not None:
                into.extend(events)
            return events

    def wait_event(self, timeout):
        with self.cond:
            ok = self.cond.wait_for(lambda: self.events or self.woken, timeout)
            self.woken = False
            return bool(ok)

    def wake(self):
        with self.cond:
            self.woken = True
            self.cond.notify_all()

    def send(self, type, **kw):
        self.sent.append((type, kw))
        return kw.get("seq", 0)

    def forget(self, seq, count):
        self.forgotten.append((seq, count))

    def flushed(self, seq):
        return True

    def link_state(self):
        return ("up", "", time.time())

    def close(self, linger=1.0):
        with self.cond:
            self.closed = True
            self.cond.notify_all()

    # What tests call.

    def finish(self, seq, value=None, error=None, status=None, buffers=None, engine=None):
        """Ends a task with a value or an exception."""
        kind, flags, target, route, _, first = self.pending[seq]
        engine = target if engine is None else engine
        engine = 0 if engine == NONE else engine
        if buffers is None:
            if error is not None:
                buffers = serialize.pack_error(error, {"engine_id": engine, "engine_uuid": f"uuid-{engine}",
                                                       "method": "apply"}, [f"{type(error).__name__}: {error}"])
            elif kind == 1:
                buffers = [json.dumps({"status": "ok", "execution_count": 3}).encode()]
            else:
                buffers = serialize.pack_value(value)
                if kind == 2:
                    buffers = serialize.pack_values([buffers])
        now = time.time_ns()
        buffers = tuple([bytes(buffers[0]), *map(bytearray, buffers[1:])])
        with self.cond:
            del self.pending[seq]
            self.results[seq] = (status if status is not None else 1 if error is not None else 0, 1, engine, 1,
                                 now - 3000, now - 2000, now - 1000, now, buffers, seq, 1)
            if seq in self.watched:
                self.events.append((RESULT, 0, 0, self.session, seq, engine, 0, ()))
            self.cond.notify_all()

    def output(self, seq, kind, data, engine=0):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        with self.cond:
            self.events.append((OUTPUT, kind, 0, self.session, seq, engine, 0, (data,)))
            self.cond.notify_all()

    def event(self, **body):
        with self.cond:
            self.events.append((EVENT, 0, 0, 0, 0, NONE, 0, (json.dumps(body).encode(),)))
            self.cond.notify_all()

    def run_task(self, seq):
        kind, _, _, _, buffers, first = self.pending[seq]
        try:
            if kind == 1:
                exec(buffers[0].decode(), self.ns)
                value = None
            elif kind == 2:
                items = serialize.split_values(buffers[1:])
                f, args = serialize.unpack_value(buffers[:1], self.ns), serialize.unpack_value(items[seq - first], self.ns)
                value = f(*args)
            else:
                f, args, kwargs = (unpack_call if kind == 3 else serialize.unpack_apply)(buffers, self.ns)
                value = f(*args, **kwargs)
        except Exception as e:
            self.finish(seq, error=e)
        else:
            self.finish(seq, value)
