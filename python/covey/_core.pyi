"""The C half of covey: one I/O thread per link, no payload copied, the GIL never taken there.

`Buffer` objects support the buffer protocol (writable) and own what they show.
Engines and statuses are numbers as in src/wire/header.h; ids are (session, seq). Wherever a method of Client takes a
seq, an int means this client's own session and a tuple (session, seq) names an id of another one (after expect()).

Memory of a submit or result: on a Unix socket buffers of 256 KiB and more are copied before the call returns into memfds (Client: of together
at most `memfd_bytes`, by default a quarter of the memory). Where that does not go, buffers of together at most 64 MiB are copied before the call returns, so the caller may
change them at once and they can be sent again after a lost connection (within `resend_bytes`, oldest dropped first).
Larger ones are referenced until they have left this process entirely (see flushed()) and then exist no more here: such a
task ends as RESULT_LOST if the controller turns out not to have it after a reconnect.
"""
from collections.abc import Sequence
from typing import Any

WIRE_VERSION: int
ENGINE_NONE: int

class LinkError(OSError):
    """The connection could not be made or was refused; args[0] is one sentence."""

    lasting: bool  # trying again is no use: a wrong key, another version, refused with a reason

class ForkedError(RuntimeError):
    """The object belongs to the process that made it."""

class Buffer:
    """Received memory: `memoryview(b)`, writable, freed with its last view."""
    def __len__(self) -> int: ...

class Client:
    """A client's link. All methods may be called from any thread; none calls back into Python."""

    session: int      # this client's id space
    welcome: dict[str, Any]  # {"engines": [...], "controller": {...}, "python": note|None}; filled by connect()

    def __init__(self, endpoints: Sequence[str], hello: dict[str, Any], *, tls: object | None = None, session: int | None = None,
                 resend_bytes: int = 268435456, memfd_bytes: int = ...) -> None:
        """hello: {"cluster_id", "boot_id", "python", "versions" (JSON text), "host"}; tls: capsule of covey._tls.context()."""
    def gives_up(self, seconds: float) -> None:
        """A link that is lost for so long is given up: LOST results and a BYE. Else: never, unless the controller is known to be gone."""
    def peer(self, pidfd: int) -> None:
        """The process of a controller on this machine (duplicated here); once, before connect(). A local socket tells it by itself."""
    def connect(self, timeout: float) -> dict[str, Any]:
        """Connects (GIL released), returns `welcome`; LinkError says per endpoint what was wrong. Reconnects by itself afterwards."""
    def submit(self, kind: int, flags: int, engine: int, count: int, route: dict[str, Any] | None, buffers: Sequence[Any],
               shared: int = 0) -> int:
        """Queues a TASK; returns the seq of its first item. route keys as in src/wire/route.h (after/follow: lists of (session, lo, hi)).
        Buffers: any C- or Fortran-contiguous objects with the buffer protocol. LinkError once the link has been given up."""
    def wait_room(self, tasks: int, bytes: int) -> None:
        """Waits while at least so many own tasks, or bytes of their arguments, have no result. Signal handlers run meanwhile."""
    def query(self, body: bytes) -> int:
        """Queues a QUERY; its REPLY is fetched like a result under the returned seq (status 0: ok; buffers as in protocol.md)."""
    def expect(self, session: int, seq: int, count: int) -> None:
        """Enters ids that were submitted elsewhere as pending. HELLO names them, so call it before connect(): the controller
        hands over what has ended and sends the rest as it ends. It knows the ids of the session that says HELLO: this is for a
        Client that continues an earlier one's session."""
    def send(self, type: int, *, session: int = 0, seq: int = 0, count: int = 0, engine: int = ..., flags: int = 0, status: int = 0,
             aux: int = 0, buffers: Sequence[Any] = ()) -> int:
        """Queues any other message (CANCEL, SIGNAL, COMM). session 0: this client's. SIGNAL with seq 0 gets a seq of its own,
        whose REPLY is fetched like a query's; the seq used is returned."""
    def forget(self, seq: int, count: int) -> None:
        """The result of these ids is not wanted any more: dropped when it comes; kept payloads are released."""
    def ends_with(self, path: str) -> None:
        """The cluster's own connection file: when it is gone, a link that has been lost for 12 s is given up."""
    def done(self, seq: int) -> bool: ...
    def done_count(self, seqs: Sequence[int]) -> int: ...
    def wait(self, seqs: Sequence[int], timeout: float | None, n: int | None = None) -> bool:
        """Waits (GIL released, signals handled every 100 ms at the latest and at once on the main thread) until n (all) of the ids are done.
        Ids that are unknown count as done. True if so many are, False on timeout."""
    def take(self, seq: int, into: list | None = None, what: Any = None, /) -> tuple[int, int, int, int, int, int, int, int, tuple[Buffer, ...], int, int] | None:
        """Removes and returns (status, attempt, engine, incarnation, submitted_ns, started_ns, completed_ns, received_ns, buffers,
        first_seq, count), None if not done or unknown. The buffers are those of the RESULT that covered [first_seq, first_seq +
        count): this id is its item seq - first_seq (all ids of one RESULT share its memory). status RESULT_LOST (9) with
        JSON buffer {"ename", "evalue", ...} also says why the link was given up; then QUERYs end so, too.
        With `into`, (what, record) is appended to it as well, before a signal's handler can raise: nothing is lost then."""
    def watch(self, seqs: Sequence[int]) -> None:
        """When one of these gets done, poll() says so too (for callbacks and foreign waiters)."""
    def poll(self, into: Any = None, /) -> list[tuple[int, int, int, int, int, int, int, tuple[Buffer, ...]]]:
        """What came beside results, oldest first, and empties the queue: (type, status, flags, session, seq, engine, time_ns, buffers) for
        OUTPUT, COMM, EVENT; (RESULT, status, 0, session, seq, engine, 0, ()) for watched ids; (BYE, ...) when the link is given up;
        EVENTs {"event": "link_lost"|"link_back", "why"} are made here; link_back also has "welcome", the
        JSON of the new WELCOME ({"engines", "controller"}). COMM and EVENT: JSON first, then binary buffers.
        With `into`, a list or deque is extended by them, before a signal's handler can raise."""
    def wait_event(self, timeout: float | None) -> bool:
        """Waits (GIL released) until poll() has something or somebody calls wake(): True. False after timeout seconds."""
    def wake(self) -> None: ...
    def fileno(self) -> int:
        """A descriptor that is readable while poll() has something."""
    def flushed(self, seq: int) -> bool:
        """The user's memory of this submit is no longer read. True at once for all that was copied at submit."""
    def link_state(self) -> tuple[str, str, float]:
        """("up"|"away"|"closed", why, since seconds of time.time())."""
    def close(self, linger: float = 1.0) -> None:
        """Sends what is queued (for at most linger seconds), closes the link, ends the I/O thread. What is pending then ends as
        RESULT_LOST; results that have come can still be taken. Twice is fine."""

class Engine:
    """An engine's link; owned by the main thread of an engine process."""

    number: int
    incarnation: int

    def __init__(self, endpoint: str, hello: dict[str, Any], *, uid: int, status_fd: int, stdout_fd: int, stderr_fd: int) -> None:
        """hello: {"cluster_id", "boot_id", "uuid", "python", "versions", "host", "number", "incarnation", "slot", "host_session", "machine", "engine_set"};
        stdout_fd, stderr_fd: read ends of the capture pipes (-1: none); duplicated here and made non-blocking.
        uid: the user this runs as; the peer of the socket must be that user or root, else LinkError."""
    def connect(self, timeout: float) -> dict[str, Any]: ...
    def next(self, timeout: float | None, into: Any = None) -> tuple[int, int, int, int, int, int, int, int, tuple[Buffer, ...]] | None:
        """The next thing to do (GIL released while waiting; None on timeout or a signal): (type, kind, flags, session, seq, count, attempt, first, buffers).
        With `into` it is appended there (None is returned): what a signal's handler raises once the caller's code goes on loses nothing.
        first: which item of the payload the id seq is (a part of a map comes with the whole payload: item i of the range is item first + i).
        TASK; COMM; BYE (asked to leave, or the controller is gone for good)."""
    def begin(self, session: int, seq: int, attempt: int) -> bool:
        """User code of this item starts now: status page, interrupt window open. False if it was cancelled meanwhile (then a RESULT was sent: skip it), or has begun before."""
    def begun(self) -> int:
        """How many items have begun and have no RESULT yet."""
    def end(self) -> None:
        """User code has ended: interrupt window closed, capture pipes drained to OUTPUT. (Pickling comes after this.)"""
    def result(self, status: int, buffers: Sequence[Any], count: int = 1, skip: int = 0) -> None:
        """Sends the RESULT of [the seq of the last begin() - (count - 1) ... ]: count items that end with the last one begun; clears the status page.
        skip=1: the range ends one item before the one begun last (a map's item failed: what was finished before it goes first); the page stays.
        A begin() that returned False does not count as begun here."""
    def output(self, kind: int, buffers: Sequence[Any]) -> None:
        """OUTPUT of the current (or last: flagged LATE) task, after draining the capture pipes. Any thread."""
    def comm(self, session: int, seq: int, buffers: Sequence[Any]) -> None: ...
    def interrupted(self) -> bool:
        """For the SIGINT handler: user code is running and this signal is meant for it (a cancel of the current item, or a signal from outside)."""
    def fileno(self) -> int:
        """Readable while next() has something."""
    def close(self, linger: float = 1.0) -> None: ...
