"""The controller's side of the wire, played by hand: for tests of `covey._core` alone.

A `Controller` listens on an abstract Unix socket; `accept()` gives a `Peer` whose HELLO has come;
`Peer.welcome()` lets it in; `Peer.send()` and `Peer.recv()` move whole messages (chunks are put together
and taken apart here). Everything blocks, for at most `TIMEOUT` seconds.
"""
import json
import os
import socket
import struct
import threading

TIMEOUT = 60
HEADER = struct.Struct("<HBBHHB3sHHIIQQQQQ")
MAGIC, VERSION = 0x5EC0, 1
NONE = 0xFFFFFFFF
(HELLO, WELCOME, TASK, STARTED, RESULT, ACK, OUTPUT, COMM, CANCEL, SIGNAL, TAKE, GIVE_BACK, QUERY, REPLY, EVENT, CHUNK, CREDIT) = range(1, 18)
BYE = 24
F_CHUNKED, F_LATE, F_ABORT = 1, 16, 64
INLINE, CHUNK_MAX = 64 << 10, 256 << 10


def pack(o):
    """MessagePack of maps, lists, text and unsigned numbers."""
    if isinstance(o, dict):
        return b"\xdf" + struct.pack(">I", len(o)) + b"".join(pack(k) + pack(v) for k, v in o.items())
    if isinstance(o, (list, tuple)):
        return b"\xdd" + struct.pack(">I", len(o)) + b"".join(map(pack, o))
    if isinstance(o, str):
        data = o.encode()
        return b"\xdb" + struct.pack(">I", len(data)) + data
    return b"\xcf" + struct.pack(">Q", o)


def unpack(data):
    """The value of MessagePack data; what `pack` knows, booleans and floats."""
    at = 0

    def take(form):
        nonlocal at
        s = struct.Struct(">" + form)
        at += s.size
        return s.unpack_from(data, at - s.size)[0]

    def text(n):
        nonlocal at
        at += n
        return data[at - n:at].decode()

    def value():
        b = take("B")
        if b < 0x80:
            return b
        if b < 0x90:
            return {value(): value() for _ in range(b & 15)}
        if b < 0xA0:
            return [value() for _ in range(b & 15)]
        if b < 0xC0:
            return text(b & 31)
        if b in (0xC2, 0xC3):
            return b == 0xC3
        if b in (0xDC, 0xDD):
            return [value() for _ in range(take("HI"[b - 0xDC]))]
        if b in (0xDE, 0xDF):
            return {value(): value() for _ in range(take("HI"[b - 0xDE]))}
        if 0xD9 <= b <= 0xDB:
            return text(take("BHI"[b - 0xD9]))
        return take({0xCA: "f", 0xCB: "d", 0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q", 0xD0: "b", 0xD1: "h", 0xD2: "i", 0xD3: "q"}[b])

    return value()


class Message:
    """A message: its header's fields as attributes, `route` and `buffers` as bytes."""

    def __init__(self, fields, route=b"", buffers=()):
        self.__dict__.update(fields)
        self.route, self.buffers = route, list(buffers)

    def __repr__(self):
        return f"Message({self.__dict__})"

    @property
    def json(self):
        return json.loads(self.buffers[0])


class Peer:
    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(TIMEOUT)
        self.sent_transfers = self.received_transfers = 0
        self.partial = {}
        self.order = []  # types as their frames came, chunks left out
        self.hello = self.recv()
        assert self.hello.type == HELLO
        self.says = unpack(self.hello.route)

    def welcome(self, engines=(), unknown=(), refused=None, number=None, incarnation=1, pid=None, credit=1 << 28, **more):
        route = {"credit": credit, "cluster": "c", "boot": "b", **more}
        if unknown:
            route["unknown"] = unknown
        if refused:
            route["refused"] = refused
        if number is not None:
            route |= {"number": number, "incarnation": incarnation}
        body = [json.dumps({"engines": list(engines), "controller": {"pid": pid or os.getpid()}}).encode()] if number is None else []
        self.send(WELCOME, route=pack(route), buffers=body)
        return self

    def send(self, type, status=0, flags=0, attempt=0, route=b"", buffers=(), incarnation=0, engine=NONE, count=0, session=0, seq=0,
             time=0, aux=0):
        total = sum(map(len, buffers))
        chunked = total > INLINE
        head = HEADER.pack(MAGIC, VERSION, type, flags | (F_CHUNKED if chunked else 0), attempt, status, len(route).to_bytes(3, "little"),
                           len(buffers), incarnation, engine, count, total, session, seq, time, aux)
        table = b"".join(struct.pack("<Q", len(b)) for b in buffers) if len(buffers) >= 2 else b""
        self.sock.sendall(head + route + table + (b"" if chunked else b"".join(buffers)))
        if chunked:
            self.sent_transfers += 1
            for i, b in enumerate(buffers):
                for off in range(0, len(b), CHUNK_MAX):
                    piece = b[off:off + CHUNK_MAX]
                    self.sock.sendall(HEADER.pack(MAGIC, VERSION, CHUNK, 0, 0, 0, bytes(3), 1, 0, i, 0, len(piece), 0,
                                                  self.sent_transfers, 0, off) + piece)

    def read(self, n):
        data = bytearray(n)
        view = memoryview(data)
        while view:
            got = self.sock.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return bytes(data)

    def frame(self):
        names = ("magic", "version", "type", "flags", "attempt", "status", "route_len", "nbufs", "incarnation", "engine", "count",
                 "body_len", "session", "seq", "time", "aux")
        h = dict(zip(names, HEADER.unpack(self.read(64))))
        assert (h["magic"], h["version"]) == (MAGIC, VERSION)
        route = self.read(int.from_bytes(h["route_len"], "little"))
        lens = [h["body_len"]] * h["nbufs"]
        if h["nbufs"] >= 2 and h["type"] != CHUNK:
            lens = list(struct.unpack(f"<{h['nbufs']}Q", self.read(8 * h["nbufs"])))
        m = Message(h, route)
        if h["flags"] & F_CHUNKED:
            self.received_transfers += 1
            m.buffers = [bytearray(n) for n in lens]
            m.missing = sum(lens)
            self.partial[self.received_transfers] = m
            return None
        m.buffers = [self.read(n) for n in lens]
        return m

    def recv(self, *types):
        """The next message (of one of the types; others are dropped) that is complete."""
        while True:
            m = self.frame()
            if m is None or m.type == CREDIT:
                continue
            if m.type == CHUNK:
                whole = self.partial[m.seq]
                piece = m.buffers[0]
                whole.buffers[m.engine][m.aux:m.aux + len(piece)] = piece
                whole.missing -= len(piece)
                self.send(CREDIT, aux=len(piece))
                if whole.missing:
                    continue
                m = self.partial.pop(m.seq)
            if not types or m.type in types:
                return m

    def result(self, task, buffers, status=0, count=1, offset=0, **more):
        """Answers a TASK (or what stands for it) of a client."""
        self.send(RESULT, status=status, session=task.session, seq=task.seq + offset, count=count, buffers=buffers, attempt=1, engine=0,
                  **more)

    def close(self):
        self.sock.close()


class Controller:
    def __init__(self):
        self.name = f"covey-test-{os.getpid()}-{os.urandom(4).hex()}"
        self.endpoint = "unix:@" + self.name
        self.listen()

    def listen(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.bind("\0" + self.name)
        self.sock.listen(16)
        self.sock.settimeout(TIMEOUT)

    def accept(self):
        return Peer(self.sock.accept()[0])

    def accept_any(self):
        """Takes and drops a connection whatever it says."""
        self.sock.accept()[0].close()

    def close(self):
        self.sock.close()

    def let_in(self, connect, **welcome):
        """Runs connect() while accepting and welcoming here: (its value, the peer)."""
        got = []
        t = threading.Thread(target=lambda: got.append(self.accept().welcome(**welcome)))
        t.start()
        try:
            value = connect()
        finally:
            t.join()
        return value, got[0]
