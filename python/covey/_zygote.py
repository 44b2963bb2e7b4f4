"""From a fresh interpreter to an engine: the zygote, and what happens after its fork.

A zygote is a single-threaded Python that has IPython imported, the shell built and one cell run.
It sleeps until its host sends a packet, forks twice, and is warm again at once; each engine
shares its pages. docs/internals.md has the packets. Importing anything else here (NumPy above all)
would cost every engine memory and make all engines draw the same random numbers.

The zygote owns one end of the host's SOCK_SEQPACKET pair; when that ends it leaves. An engine
leaves with SIGKILL when its host dies (PDEATHSIG), in whatever state it is.
"""
from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from typing import Any

from covey import _display, _engine, _shell
from covey._engine import EXIT_NOT_REGISTERED, Engine

PACKET_MAX = 1 << 20
PR_SET_PDEATHSIG = 1
CONNECT_TIMEOUT = 30.0  # seconds for the link to the controller (a Unix socket on this machine)
_libc = ctypes.CDLL(None, use_errno=True)


def warm_up() -> tuple[_display.Outlet, _shell.ZMQInteractiveShell]:
    """Builds the shell and runs a cell, so that no engine pays for the first one."""
    outlet = _display.Outlet()
    sys.argv = ["ipengine"]
    if sys.path and sys.path[0] in (os.getcwd(), ""):
        sys.path[0] = ""
    else:
        sys.path.insert(0, "")
    shell = _shell.make_shell(outlet)
    shell.run_cell("None", store_history=False)
    return outlet, shell


def run_zygote() -> int:
    """Serves fork requests until the host's end closes; returns 0 there, the exit code in an engine."""
    channel = socket.socket(fileno=int(os.environ.pop("COVEY_ZYGOTE_FD")))
    channel.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outlet, shell = warm_up()
    gc.collect()
    gc.freeze()
    gc.enable()
    _send(channel, {"ready": True, "threads": threading.active_count()})
    while True:
        packet, fds, _, _ = socket.recv_fds(channel, PACKET_MAX, 8, socket.MSG_CMSG_CLOEXEC)
        if not packet:
            return 0
        request = json.loads(packet)
        if "fork" in request and fork_engine(channel, request):
            return become_engine(outlet, shell, request, fds)
        for fd in fds:
            os.close(fd)


def fork_engine(channel: socket.socket, request: dict[str, Any]) -> bool:
    """Forks twice. True in the engine, which by then is the host's child; False in the zygote.

    The host hears the pid from the process in the middle, or from here why there is none.
    """
    try:
        pid = os.fork()
    except OSError as e:
        _send(channel, {"slot": request["fork"], "error": f"the zygote could not fork: {e.strerror}"})
        return False
    if pid:
        os.waitpid(pid, 0)
        return False
    middle = os.getpid()
    orphaned, alive = os.pipe()  # end of file once the process in the middle is all but gone
    try:
        pid = os.fork()
        if pid:
            _send(channel, {"slot": request["fork"], "pid": pid})
    except OSError as e:
        _send(channel, {"slot": request["fork"], "error": f"the zygote could not fork: {e.strerror}"})
        os._exit(1)
    if pid:
        os._exit(0)
    os.close(alive)
    os.read(orphaned, 1)
    os.close(orphaned)
    while os.getppid() == middle:  # a process closes its files a moment before it hands over its children
        time.sleep(0.0002)
    channel.close()
    return True


def become_engine(outlet: _display.Outlet, shell: _shell.ZMQInteractiveShell, request: dict[str, Any],
                  fds: list[int]) -> int:
    """The forked child: its environment and descriptors, then its life; returns the exit code."""
    params = request["params"]
    rename_process()
    for name, value in (request.get("env") or {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    params["status_fd"], params["stdout_fd"], params["stderr_fd"] = fds[0], fds[1:3], fds[3:5]
    params["log_fd"] = os.dup(2)  # the zygote's: what is said there, the host writes to its log
    return live(outlet, shell, params)


def run_single() -> int:
    """One engine without a zygote; parameters come by COVEY_ENGINE_PARAMS. Returns the exit code."""
    params = json.loads(os.environ.pop("COVEY_ENGINE_PARAMS"))
    outlet, shell = warm_up()
    gc.freeze()  # else its end looks through all that was imported, several times: two thirds of what the end takes
    gc.enable()
    return live(outlet, shell, params)


def live(outlet: _display.Outlet, shell: _shell.ZMQInteractiveShell, params: dict[str, Any]) -> int:
    """An engine from its descriptors to its exit code."""
    from covey import _core

    settle(params)
    _engine.own_cluster = {name: params.get(name) or "" for name in ("profile_dir", "cluster_id", "boot_id")}
    reseed()
    shell.adopt_profile(params.get("profile_dir") or "")
    shell.adopt_config(params.get("config") or {})
    kernel = shell.kernel
    kernel.engine_uuid = _new_uuid()
    hello = {
        "cluster_id": params.get("cluster_id") or "", "boot_id": params.get("boot_id") or "", "uuid": kernel.engine_uuid,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}", "versions": json.dumps(versions()),
        "host": socket.gethostname(), "number": params.get("number"), "incarnation": params.get("incarnation") or 0,
        "slot": params.get("slot") or 0, "host_session": int(params.get("host_session") or 0),
        "machine": int(params.get("machine") or 0), "engine_set": int(params.get("engine_set") or 0),
    }
    link = _core.Engine(params["endpoint"], hello, uid=int(params.get("uid", os.getuid())), status_fd=params["status_fd"],
                        stdout_fd=params["stdout_fd"][0], stderr_fd=params["stderr_fd"][0], log_fd=params.get("log_fd", -1))
    if params.get("log_fd", -1) >= 0:
        os.close(params.pop("log_fd"))  # it has its own
    engine = kernel.engine = Engine(link, shell)
    engine.install_signals()
    outlet.link = link  # it empties the pipes, also before it is connected: startup may print more than they hold
    try:
        shell.run_startup(params.get("profile_dir") or "", params.get("startup") or {}, params.get("config") or {})
        if engine.leaving is not None:  # SIGTERM meanwhile: the shell took it for the code's own exit
            return engine.leaving
        try:
            link.connect(CONNECT_TIMEOUT)
        except OSError as e:
            print(f"engine could not register: {e}", file=sys.stderr)
            return EXIT_NOT_REGISTERED
        kernel.engine_id = link.number
        return engine.run()
    except SystemExit:
        if engine.leaving is None:
            raise
        return engine.leaving
    finally:
        outlet.link = None
        link.close()


def settle(params: dict[str, Any]) -> None:
    """Makes this process an engine: session, working folder, standard streams, end with its host."""
    if not params.get("process_manager"):
        try:
            os.setsid()
        except PermissionError:
            pass  # leads a group already
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if params.get("host_pid") and os.getppid() != int(params["host_pid"]):
        os._exit(EXIT_NOT_REGISTERED)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((null, 0), (params["stdout_fd"][1], 1), (params["stderr_fd"][1], 2)):
        os.dup2(fd, target)
        if fd > 2:
            os.close(fd)
    faulthandler.enable(file=2, all_threads=False)
    for name, key in (("IPP_PROFILE_DIR", "profile_dir"), ("IPP_CLUSTER_ID", "cluster_id")):
        if params.get(key):
            os.environ[name] = params[key]
    os.environ.update(params.get("environment") or {})
    if params.get("work_dir"):
        try:
            os.chdir(params["work_dir"])
        except OSError as e:
            print(f"can't work in {params['work_dir']}: {e.strerror}; staying in {os.getcwd()}", file=sys.stderr)


def rename_process() -> None:
    """Shows a forked engine as `… -m covey.engine --engine`, so that ps and people tell it from the zygote."""
    try:
        with open("/proc/self/cmdline", "rb") as f:
            at = f.read().rfind(b"--zygote\0")
        with open("/proc/self/stat", "rb") as f:
            start = int(f.read().rsplit(b")", 1)[1].split()[45])  # arg_start
    except (OSError, ValueError, IndexError):
        return
    if at > 0 and start:
        ctypes.memmove(start + at, b"--engine", len(b"--engine"))


def reseed() -> None:
    """Forked engines must not draw the same numbers. (Python's own `random` does this by itself.)"""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def versions() -> dict[str, str]:
    """Versions of what matters for exchanging values, read from the installed metadata, not by import."""
    wanted = re.compile(r"(covey|ipython|cloudpickle|numpy|dill)-([^-]+)\.dist-info", re.IGNORECASE)
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info") and (m := wanted.fullmatch(name)):
                found.setdefault(m[1].lower(), m[2])
    return found


def _new_uuid() -> str:
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:]}"


def _send(channel: socket.socket, packet: dict[str, Any]) -> None:
    channel.send(json.dumps(packet).encode())
