# SPDX-License-Identifier: BSD-3-Clause
"""`bind_kernel`: an engine that Jupyter's frontends can attach to, while it goes on serving tasks.

>>> rc[0].apply_sync(ipp.bind_kernel)
'/home/me/.ipython/profile_default/security/kernel-4711.json'

Then ``jupyter console --existing FILE`` or ``jupyter qtconsole --existing FILE`` on the engine's machine works in the engine's
namespace; in a ``%px`` cell, ``%connect_info`` shows how. This is Jupyter's messaging protocol (version 5.3) over the five
sockets that a kernel has, with the sessions of jupyter_client (it comes with ipykernel).

Two threads: the *port thread* (daemon) owns the sockets: it answers heartbeats, hands requests in, and sends what is put in its
queue. The engine's main thread runs requests, between tasks. Both are alive as long as the engine; a shutdown request closes
the ports, and the engine stays.
"""
from __future__ import annotations

import atexit
import builtins
import contextlib
import json
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .task import CLEAR, DISPLAY, EXECUTE_RESULT, STDERR, STDOUT, UPDATE_DISPLAY

if TYPE_CHECKING:
    from ._display import Sink
    from ._engine import Engine
    from ._shell import ZMQInteractiveShell

__all__ = ["BoundKernel", "bind_kernel"]

PROTOCOL = "5.3"
NO_TASK = (0, 0)        # whose comms are the frontends'
_SHOWN = {DISPLAY: "display_data", UPDATE_DISPLAY: "update_display_data", CLEAR: "clear_output", EXECUTE_RESULT: "execute_result"}


def bind_kernel(ip: str = "127.0.0.1", **_options: Any) -> str:
    """On an engine: opens a kernel's ports and writes its connection file; the file's path. Again: the same path.

    ip : the address to listen at. The protocol is signed with the file's key and not encrypted.

    Needs ipykernel (or jupyter_client) on the engine. RuntimeError where no engine is.
    """
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    engine = getattr(kernel, "engine", None)
    if engine is None:
        raise RuntimeError("bind_kernel works on engines: view.apply_sync(ipp.bind_kernel)")
    if kernel.bound is None:
        kernel.bound = BoundKernel(engine, ip)
    return kernel.bound.connection_file


class BoundKernel:
    """An engine's kernel side: sockets, connection file, and what requests do.

    connection_file : its path, `PROFILE/security/kernel-PID.json` (mode 0600); removed at the end
    """

    def __init__(self, engine: Engine, ip: str = "127.0.0.1") -> None:
        try:
            import zmq
            from jupyter_client.session import Session
        except ImportError as e:
            raise ImportError(f"bind_kernel needs ipykernel on the engine: {e} (`pip install ipykernel`)") from e
        self.engine = engine
        self.shell: ZMQInteractiveShell = engine.shell
        self.shell.event_loop()     # made by its own thread
        self.session = Session(key=os.urandom(32).hex().encode(), username="engine")
        self._pid = os.getpid()
        self._context = zmq.Context()
        self._sockets = {name: self._context.socket(kind) for name, kind in (
            ("shell", zmq.ROUTER), ("control", zmq.ROUTER), ("stdin", zmq.ROUTER), ("iopub", zmq.PUB), ("hb", zmq.REP))}
        ports = {}
        for name, socket in self._sockets.items():
            socket.linger = 0
            ports[f"{name}_port"] = socket.bind_to_random_port(f"tcp://{ip}")
        self._out: queue.SimpleQueue[tuple[str, list[Any]] | None] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)   # -1 once the port thread has closed it
        self._waking = threading.RLock()    # held while it is written or closed; a finalizer may print under it
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()    # what people typed for input()
        self._parent: dict[str, Any] = {}
        self._ident: list[bytes] = []
        self._numbered = 0      # requests that have come
        self._abort_until = 0   # those up to this number were sent before a cell failed
        self.connection_file = self._write_file(ip, ports)
        engine.shell.displayhook.outlet.link = _Splitter(engine.link, self)
        self.shell.register_magics(_magics_of(self))
        self._thread = threading.Thread(target=self._serve, daemon=True, name="covey-kernel-ports")
        self._thread.start()
        atexit.register(self.close)
        self._send("iopub", "status", {"execution_state": "starting"})

    def _write_file(self, ip: str, ports: dict[str, int]) -> str:
        from ._engine import own_cluster

        folder = os.path.join((own_cluster or {}).get("profile_dir") or os.path.expanduser("~"), "security")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, f"kernel-{os.getpid()}.json")
        info = {**ports, "ip": ip, "key": self.session.key.decode(), "transport": "tcp", "signature_scheme": self.session.signature_scheme,
                "kernel_name": "covey"}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
            json.dump(info, f, indent=2)
        return path

    def close(self) -> None:
        """Closes the ports and removes the file; the engine stays. In a forked child nothing."""
        if os.getpid() != self._pid or self.shell.kernel.bound is not self:
            return
        self.shell.kernel.bound = None
        atexit.unregister(self.close)
        outlet = self.shell.displayhook.outlet
        if isinstance(outlet.link, _Splitter):
            outlet.link = outlet.link.link
        self._send("iopub", "status", {"execution_state": "dead"})
        self._put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(5)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.connection_file)

    # ------------------------------------------------ the port thread

    def _serve(self) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(self._wake, zmq.POLLIN)
        for name in ("shell", "control", "stdin", "hb"):
            poller.register(self._sockets[name], zmq.POLLIN)
        names = {socket: name for name, socket in self._sockets.items()}
        while self._send_all():
            for socket, _ in poller.poll():
                if socket == self._wake:
                    os.eventfd_read(self._wake)
                    continue
                try:
                    self._received(names[socket], socket.recv_multipart())
                except Exception as e:  # a wrong signature, or no message at all: never answered
                    self.shell.kernel.log.warning("kernel ports: a message was refused: %s", e)
        for socket in self._sockets.values():
            socket.close()
        with self._waking:
            os.close(self._wake)
            self._wake = -1
        self._context.term()

    def _send_all(self) -> bool:
        """Sends what waits; False at the end."""
        while True:
            try:
                item = self._out.get_nowait()
            except queue.Empty:
                return True
            if item is None:
                return False
            self._sockets[item[0]].send_multipart(item[1])

    def _received(self, channel: str, frames: list[bytes]) -> None:
        if channel == "hb":
            self._sockets[channel].send_multipart(frames)
            return
        ident, parts = self.session.feed_identities(frames)
        message = self.session.deserialize(parts)
        kind = message["msg_type"]
        if channel == "stdin":
            self._answers.put(message["content"].get("value", ""))
        elif kind == "interrupt_request":
            self.engine.interrupt_call()
            self._send(channel, "interrupt_reply", {"status": "ok"}, message, ident)
        else:
            self._numbered += 1
            number = self._numbered
            self.engine.call_between_tasks(lambda: self._handle(channel, ident, message, number))

    # ------------------------------------------------ sending, from any thread

    def _put(self, item: tuple[str, list[Any]] | None) -> None:
        with self._waking:
            if self._wake >= 0:     # else nobody is there who sends, and the number may be another file's
                self._out.put(item)
                os.eventfd_write(self._wake, 1)

    def _send(self, channel: str, kind: str, content: dict[str, Any], parent: dict[str, Any] | None = None, ident: Sequence[bytes] | None = None,
              metadata: dict[str, Any] | None = None, buffers: Sequence[Any] = ()) -> None:
        """Puts a message in the queue."""
        if os.getpid() != self._pid:
            return
        message = self.session.msg(kind, content, parent=parent if parent is not None else self._parent, metadata=metadata)
        if ident is None and channel == "iopub":
            ident = [f"kernel.{self.session.session}.{kind}".encode()]
        self._put((channel, [*self.session.serialize(message, list(ident or ())), *[bytes(b) for b in buffers]]))

    # ------------------------------------------------ requests, on the main thread

    def _handle(self, channel: str, ident: list[bytes], message: dict[str, Any], number: int) -> None:
        self._parent, self._ident = message, ident
        kind = message["msg_type"]
        answer = kind.replace("_request", "_reply")
        do = getattr(self, f"_do_{kind}", None)
        self._send("iopub", "status", {"execution_state": "busy"})
        try:
            if kind == "execute_request" and number <= self._abort_until:
                reply: dict[str, Any] | None = {"status": "aborted", "ename": "TaskAborted", "evalue": "an earlier cell failed", "traceback": []}
            elif do is not None:
                reply = do(message["content"], message.get("buffers") or ())
            else:
                reply = None
                self.shell.kernel.log.debug("kernel ports: nobody handles %s", kind)
            if reply is not None:
                self._send(channel, answer, {"status": "ok", **reply}, ident=ident)
        except (Exception, KeyboardInterrupt) as e:     # what can't be said in JSON, too
            self._send(channel, answer, {"status": "error", "ename": type(e).__name__, "evalue": str(e), "traceback": []}, ident=ident)
        self._send("iopub", "status", {"execution_state": "idle"})
        if kind == "shutdown_request":
            self.close()

    def _do_kernel_info_request(self, content: dict[str, Any], _: Any) -> dict[str, Any]:
        import platform

        import IPython

        number = self.shell.kernel.engine_id
        return {"protocol_version": PROTOCOL, "implementation": "covey", "implementation_version": IPython.__version__,
                "language_info": {"name": "python", "version": platform.python_version(), "mimetype": "text/x-python", "file_extension": ".py",
                                  "pygments_lexer": "ipython3", "codemirror_mode": {"name": "ipython", "version": 3}, "nbconvert_exporter": "python"},
                "banner": f"Engine {number} (pid {os.getpid()}), Python {platform.python_version()}, IPython {IPython.__version__}\n",
                "help_links": [], "debugger": False, "supported_features": []}

    def _do_execute_request(self, content: dict[str, Any], _: Any) -> dict[str, Any]:
        shell, source, silent = self.shell, content["code"], bool(content.get("silent"))
        count = shell.execution_count
        if not silent:
            self._send("iopub", "execute_input", {"code": source, "execution_count": count})
        with self._people(bool(content.get("allow_stdin"))):
            result, lines = shell.run(source, silent)
        error = result.error_before_exec or result.error_in_exec
        if error is None:
            expressions = shell.user_expressions(content.get("user_expressions") or {})
            return {"execution_count": count, "user_expressions": expressions, "payload": shell.payload_manager.read_payload()}
        if content.get("stop_on_error", True):
            self._abort_until = self._numbered
        failure = {"ename": type(error).__name__, "evalue": str(error), "traceback": lines}
        self._send("iopub", "error", failure)
        return {"status": "error", "execution_count": count, "user_expressions": {}, "payload": [], **failure}

    @contextlib.contextmanager
    def _people(self, allow_stdin: bool) -> Iterator[None]:
        """While a frontend's code runs: what it prints is the frontend's, SIGINT interrupts it, input() asks there."""
        kernel = self.shell.kernel
        before, no_input = kernel.current_task, builtins.input
        kernel.current_task = NO_TASK
        if allow_stdin:
            builtins.input = self._input  # type: ignore[assignment]
        self.engine.in_call = True
        try:
            yield
        finally:
            self.engine.in_call = False
            builtins.input, kernel.current_task = no_input, before

    def _input(self, prompt: object = "", *_: Any) -> str:
        """input(), asked of whoever sent the cell."""
        while not self._answers.empty():
            self._answers.get()
        self._send("stdin", "input_request", {"prompt": str(prompt), "password": False}, ident=self._ident)
        return self._answers.get()

    def _do_complete_request(self, content: dict[str, Any], _: Any) -> dict[str, Any]:
        from IPython.core.completer import provisionalcompleter, rectify_completions

        code, cursor = content["code"], content.get("cursor_pos")
        cursor = len(code) if cursor is None else cursor
        with provisionalcompleter():
            found = list(rectify_completions(code, self.shell.Completer.completions(code, cursor)))
        types = [{"start": c.start, "end": c.end, "text": c.text, "type": c.type, "signature": c.signature} for c in found]
        return {"matches": [c.text for c in found], "cursor_start": found[0].start if found else cursor,
                "cursor_end": found[0].end if found else cursor, "metadata": {"_jupyter_types_experimental": types}}

    def _do_inspect_request(self, content: dict[str, Any], _: Any) -> dict[str, Any]:
        from IPython.utils.tokenutil import token_at_cursor

        code, cursor = content["code"], content.get("cursor_pos")
        name = token_at_cursor(code, len(code) if cursor is None else cursor)
        try:
            data = self.shell.object_inspect_mime(name, detail_level=content.get("detail_level", 0))
        except KeyError:
            return {"found": False, "data": {}, "metadata": {}}
        return {"found": True, "data": data, "metadata": {}}

    def _do_is_complete_request(self, content: dict[str, Any], _: Any) -> dict[str, Any]:
        status, indent = self.shell.input_transformer_manager.check_complete(content["code"])
        return {"status": status, **({"indent": " " * indent} if status == "incomplete" and indent is not None else {})}

    def _do_history_request(self, content: dict[str, Any], _: Any) -> dict[str, Any]:
        cells = enumerate(self.shell.user_ns.get("In", ())[1:], 1)
        return {"history": [(0, number, source) for number, source in cells][-(content.get("n") or 1000):]}

    def _do_comm_info_request(self, content: dict[str, Any], _: Any) -> dict[str, Any]:
        comms = getattr(self.shell.kernel.comm_manager, "comms", {})
        wanted = content.get("target_name")
        return {"comms": {id: {"target_name": c.target_name} for id, c in comms.items() if wanted in (None, c.target_name)}}

    def _do_comm(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        message = {"msg_type": self._parent["msg_type"], "content": content, "buffers": list(buffers)}
        manager = self.shell.kernel.comm_manager
        if manager is not None:
            with self._people(False):
                getattr(manager, message["msg_type"])(None, None, message)

    _do_comm_open = _do_comm_msg = _do_comm_close = _do_comm

    def _do_shutdown_request(self, content: dict[str, Any], _: Any) -> dict[str, Any]:
        return {"restart": False}

    # ------------------------------------------------ what the frontend's code prints and shows

    def output(self, kind: int, buffers: Sequence[Any]) -> None:
        """One OUTPUT of the engine's streams and displays, as the message that frontends know."""
        if kind in (STDOUT, STDERR):
            if not buffers:  # a flush
                return
            text = b"".join(buffers).decode("utf-8", "replace")
            self._send("iopub", "stream", {"name": "stdout" if kind == STDOUT else "stderr", "text": text})
        elif kind in _SHOWN:
            self._send("iopub", _SHOWN[kind], json.loads(bytes(buffers[0])))

    def comm(self, session: int, seq: int, buffers: Sequence[Any]) -> None:
        """A message of a comm that frontend's code opened."""
        message = json.loads(bytes(buffers[0]))
        self._send("iopub", message["msg_type"], message["content"], metadata=message.get("metadata"), buffers=buffers[1:])


class _Splitter:
    """The engine's outlet while a kernel is bound: what a frontend's code prints goes there, all else over the link."""

    def __init__(self, link: Sink, kernel: BoundKernel) -> None:
        self.link = link
        self.kernel = kernel

    def output(self, kind: int, buffers: Sequence[Any]) -> None:
        (self.kernel if self.kernel.engine.in_call else self.link).output(kind, buffers)

    def comm(self, session: int, seq: int, buffers: Sequence[Any]) -> None:
        (self.kernel if (session, seq) == NO_TASK else self.link).comm(session, seq, buffers)


def _magics_of(kernel: BoundKernel) -> Any:
    from IPython.core.magic import Magics, line_magic, magics_class

    @magics_class
    class KernelMagics(Magics):
        """What a kernel's own magics say."""

        @line_magic
        def connect_info(self, line: str) -> None:
            """Shows the connection file and how to attach to this engine."""
            print(f"{kernel.connection_file}\n\nAttach to this engine, on its machine, with:\n"
                  f"    jupyter console --existing {kernel.connection_file}\n    jupyter qtconsole --existing {kernel.connection_file}")

        @line_magic
        def qtconsole(self, line: str) -> Any:
            """Opens a Qt console on this engine's kernel (on the engine's machine); the process."""
            import subprocess
            import sys

            return subprocess.Popen([sys.executable, "-m", "jupyter", "qtconsole", "--existing", kernel.connection_file, *line.split()],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    return KernelMagics
