"""A network that behaves badly, between peers and a controller: a TCP relay on loopback, on a thread of its own."""
from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import socket
import struct
import threading
import time

BLOCK = 64 << 10


class _Way:
    """One direction of a connection: what has been read and is to be written."""

    def __init__(self, source, sink, up):
        self.source, self.sink, self.up = source, sink, up
        self.waiting = collections.deque()  # (when it is due, bytes)
        self.ended = False


class _Pair:
    """A peer's connection and ours to the controller for it."""

    def __init__(self, peer, controller):
        self.peer, self.controller = peer, controller
        self.ways = (_Way(peer, controller, True), _Way(controller, peer, False))
        self.answered = False  # the controller has sent something
        self.late = False      # what the peer says after that is kept for later


class BadLink:
    """Peers connect to `port`; what they say goes to `target`, and back, as well as this link is at the moment.

    Up is from the peer to the controller. Bytes that a stalled link was given are not lost: they arrive
    when it flows again, as TCP has it, unless the connection has been cut meanwhile.
    """

    def __init__(self, target):
        self.target = target
        self.pairs, self.kept = set(), []
        self.stalled = {True: False, False: False}
        self.delay = 0.0
        self.refuses = False
        self.keep_next_late = False
        self.accepted = 0
        self.passed = {True: 0, False: 0}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._wake_r, self._wake_w = os.pipe()
        self._commands = collections.deque()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="bad link", daemon=True)
        self._thread.start()

    # ------------------------------------------------ what a test asks for

    def stall(self, up=True, down=True):
        """Nothing passes any more in these directions. Connections are still accepted, and told nothing."""
        self._do(lambda: self.stalled.update({True: up, False: down}))

    def flow(self):
        """All is well again."""
        self._do(lambda: (self.stalled.update({True: False, False: False}), setattr(self, "refuses", False)))

    def drop(self):
        """Resets every connection."""
        self._do(lambda: [self._close(p, reset=True) for p in list(self.pairs)])

    def refuse(self):
        """Resets every connection, and each new one."""
        self._do(lambda: (setattr(self, "refuses", True), [self._close(p, reset=True) for p in list(self.pairs)]))

    def keep_late(self):
        """The next connection's HELLO is kept back, until `deliver_late()`."""
        self._do(lambda: setattr(self, "keep_next_late", True))

    def late(self):
        """Bytes that are kept back."""
        return sum(len(data) for p in self.pairs | set(self.kept) if p.late for _, data in p.ways[0].waiting)

    def give_up_late(self):
        """Peers of connections that are kept back see their end; the controller does not."""
        def give_up():
            for p in [p for p in self.pairs if p.late]:
                self.pairs.discard(p)
                self.kept.append(p)
                p.peer.close()
        self._do(give_up)

    def deliver_late(self):
        """What was kept back arrives at the controller, and then the end of its connection."""
        def deliver():
            for p in self.kept:
                p.controller.setblocking(True)
                with contextlib.suppress(OSError):
                    for _, data in p.ways[0].waiting:
                        p.controller.sendall(data)
                    p.controller.shutdown(socket.SHUT_WR)
                self.sent_late.append(p.controller)
            self.kept.clear()
        self.sent_late = []
        self._do(deliver)

    def stop(self):
        """Ends the thread and every connection."""
        self._stop = True
        os.write(self._wake_w, b"x")
        self._thread.join(10)
        for p in [*self.pairs, *self.kept]:
            p.peer.close()
            p.controller.close()
        self._listener.close()
        os.close(self._wake_r)
        os.close(self._wake_w)

    def file_through(self, path, out):
        """Writes a connection file like `path` whose only way leads through this link."""
        with open(path) as f:
            content = json.load(f)
        for name, value in content.items():
            if isinstance(value, int) and not isinstance(value, bool) and value == self.target[1]:
                content[name] = self.port
        content.update(endpoints=[f"tcp://127.0.0.1:{self.port}"], location="127.0.0.1")
        fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as f:
            json.dump(content, f, indent=1)
        return str(out)

    # ------------------------------------------------ the thread

    def _do(self, command):
        done = threading.Event()
        self._commands.append((command, done))
        os.write(self._wake_w, b"x")
        assert done.wait(10), "the bad link does not listen"

    def _run(self):
        while not self._stop:
            try:
                self._turn()
            except OSError:
                continue  # a descriptor that was closed in this turn

    def _turn(self):
        with selectors.DefaultSelector() as sel:
            sel.register(self._wake_r, selectors.EVENT_READ)
            sel.register(self._listener, selectors.EVENT_READ)
            now = time.monotonic()
            due = None
            for p in self.pairs:
                for fd, events in self._interest(p, now).items():
                    sel.register(fd, events, p)
                for w in p.ways:
                    if w.waiting and w.waiting[0][0] > now and not self._stalled(p, w):
                        due = w.waiting[0][0] if due is None else min(due, w.waiting[0][0])
            for key, _ in sel.select(None if due is None else max(0.0, due - now)):
                if key.fileobj == self._wake_r:
                    os.read(self._wake_r, 4096)
                elif key.fileobj is self._listener:
                    self._accept()
        while self._commands:
            command, done = self._commands.popleft()
            command()
            done.set()
        for p in list(self.pairs):
            self._move(p)

    def _interest(self, p, now):
        want = {}
        for w in p.ways:
            if not w.ended and not self._stalled(p, w, reading=True) and len(w.waiting) < 64:
                want[w.source] = want.get(w.source, 0) | selectors.EVENT_READ
            if w.waiting and w.waiting[0][0] <= now and not self._stalled(p, w):
                want[w.sink] = want.get(w.sink, 0) | selectors.EVENT_WRITE
        return want

    def _stalled(self, p, w, reading=False):
        if p.late and w.up and p.answered:
            return not reading  # is taken in, and kept
        return self.stalled[w.up]

    def _accept(self):
        peer, _ = self._listener.accept()
        self.accepted += 1
        if self.refuses:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            return
        controller = socket.create_connection(self.target)
        for s in (peer, controller):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        p = _Pair(peer, controller)
        p.late, self.keep_next_late = self.keep_next_late, False
        self.pairs.add(p)

    def _move(self, p):
        now = time.monotonic()
        for w in p.ways:
            try:
                if not w.ended and not self._stalled(p, w, reading=True) and len(w.waiting) < 64:
                    data = w.source.recv(BLOCK)
                    if not data:
                        w.ended = True
                    else:
                        p.answered |= not w.up
                        w.waiting.append((now + self.delay, data))
            except BlockingIOError:
                pass
            except OSError:
                self._close(p, reset=True)
                return
            try:
                while w.waiting and w.waiting[0][0] <= now and not self._stalled(p, w):
                    n = w.sink.send(w.waiting[0][1])
                    self.passed[w.up] += n
                    rest = w.waiting.popleft()
                    if n < len(rest[1]):
                        w.waiting.appendleft((rest[0], rest[1][n:]))
            except BlockingIOError:
                pass
            except OSError:
                self._close(p, reset=True)
                return
            if w.ended and not w.waiting:
                self._close(p, reset=False)
                return

    def _close(self, p, reset):
        self.pairs.discard(p)
        for s in (p.peer, p.controller):
            if reset:
                with contextlib.suppress(OSError):
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
