"""The shell in which an engine runs code: an IPython shell that looks like a notebook kernel's.

Libraries decide by looks whether they may draw: rich asks for the class name
`ZMQInteractiveShell`, others for 'IPKernelApp' in the config, matplotlib's inline backend hangs on
the shell's events, others take `get_ipython().kernel`. This shell has all of them (what lies beside
the shell is in `covey._kernelapp`), but no kernel behind it: cells and calls come through `covey.engine`, output leaves through
`covey._display`.

It is built before the fork (in the zygote), so nothing here may start a thread, open a socket
or a file, or import anything heavy. What depends on the engine (number, profile, config,
startup files) is done by `EngineShell.adopt` and `run_startup` afterwards.
"""
from __future__ import annotations

import _thread
import asyncio
import builtins
import getpass
import glob
import logging
import os
import sys
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from covey._display import EngineDisplayHook, EngineDisplayPublisher, Outlet, install_comms, install_streams
from covey._kernelapp import look_like_a_kernel

# the public name warns from Python 3.14 on
_event_loop_policy = getattr(asyncio.events, "_get_event_loop_policy", None) or asyncio.get_event_loop_policy
INLINE_BACKEND = "module://matplotlib_inline.backend_inline"


class CodeCache:
    """Compiled code of cells that come again, by their text: what compiles a cell costs far more than running it.

    A cell is compiled for this at its second run. The oldest leaves when there are more than `SIZE`.
    """

    SIZE = 64
    TEXT_MAX = 64 << 10  # characters of a cell

    def __init__(self) -> None:
        self._codes: dict[str, CodeType | None] = {}
        self._seen: dict[int, None] = {}
        self._reading: tuple[Any, ...] = ()  # under which all of them were compiled

    def get(self, source: str, reading: tuple[Any, ...]) -> CodeType | None:
        """The code of this text; None if there is none, or all was forgotten because texts are read otherwise now."""
        if reading != self._reading:
            self._codes.clear()
            self._reading = reading
        return self._codes.get(source)

    def is_second(self, source: str) -> bool:
        """Whether this text was asked about before (and was not put since)."""
        if len(source) > self.TEXT_MAX or source in self._codes:
            return False
        digest = hash(source)
        if digest in self._seen:
            return True
        self._seen[digest] = None
        if len(self._seen) > self.SIZE:
            del self._seen[next(iter(self._seen))]
        return False

    def put(self, source: str, code: CodeType | None, reading: tuple[Any, ...]) -> None:
        if reading == self._reading:  # compiling may have set a flag: then it is asked for again
            self._codes[source] = code
        if len(self._codes) > self.SIZE:
            del self._codes[next(iter(self._codes))]


class EngineKernel:
    """What `get_ipython().kernel` gives on an engine: who the engine is, and its comms.

    engine_id: its number (None before it is connected). engine_uuid: text, new with every process.
    comm_manager: of the `comm` package, or None where that is not installed.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.engine_id: int | None = None
        self.engine_uuid = ""
        self.comm_manager: Any = None
        self.log = logging.getLogger("covey.engine")
        self.current_task: tuple[int, int] = (0, 0)
        self.engine: Any = None     # the Engine, once it lives
        self.bound: Any = None      # the BoundKernel, after bind_kernel()

    @property
    def ident(self) -> str:
        return self.engine_uuid

    @property
    def user_ns(self) -> dict[str, Any]:
        return self.shell.user_ns

    def get_parent(self, channel: str | None = None) -> dict[str, Any]:
        """The task that runs, in the form of a kernel's parent message."""
        session, seq = self.current_task
        return {"header": {"msg_id": f"{session:016x}_{seq}", "session": f"{session:016x}"}}


class ZMQInteractiveShell(InteractiveShell):
    """IPython on an engine. The name is the one that libraries test for."""

    displayhook_class = Type(EngineDisplayHook)
    display_pub_class = Type(EngineDisplayPublisher)
    kernel = AnyTrait()

    def __init__(self, **kwargs: Any) -> None:
        self._held: tuple[BaseException | None, list[str]] | None = None
        self._in_cell = False
        self._trapped = False
        self._display_hook: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._again = CodeCache()
        super().__init__(**kwargs)
        self.loop_runner = self.run_in_loop
        self.loop_runner_map = {**type(self).loop_runner_map, "asyncio": (self.run_in_loop, True)}
        self._callback_lists = list(self.events.callbacks.values())
        self._usual_callbacks = sum(map(len, self._callback_lists))

    # What a kernel does otherwise than a terminal.

    def init_profile_dir(self, profile_dir: Any) -> None:
        """Nothing is created here: the profile is known after the fork only."""
        self.profile_dir = profile_dir

    def init_environment(self) -> None:
        os.environ.setdefault("MPLBACKEND", INLINE_BACKEND)
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        os.environ.setdefault("PAGER", "cat")
        os.environ.setdefault("GIT_PAGER", "cat")

    def init_user_ns(self) -> None:
        """Also after a reset: multiprocessing looks at these two names of `__main__`."""
        super().init_user_ns()
        self.user_ns.setdefault("__spec__", None)
        self.user_ns.setdefault("__loader__", None)

    def init_virtualenv(self) -> None:
        pass

    def ask_exit(self) -> None:
        """`exit` in a cell does not end the engine (`rc.shutdown` does)."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Engines run no GUI loop; None, 'inline' and 'asyncio' need none."""
        if gui not in (None, "", "inline", "agg", "asyncio", "nbagg", "webagg", "widget", "ipympl"):
            raise NotImplementedError(f"an engine runs no {gui!r} event loop; use %matplotlib inline")
        self.active_eventloop = gui

    # Tracebacks: the last one of a cell travels with its result, the others are printed.

    def _showtraceback(self, etype: Any, evalue: BaseException | None, stb: Sequence[str]) -> None:
        if self._in_cell:
            self._print_held()
            self._held = (evalue, list(stb))
        else:
            print(self.InteractiveTB.stb2text(list(stb)), file=sys.stderr)

    def _print_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            print(self.InteractiveTB.stb2text(held[1]), file=sys.stderr)

    def _get_exc_info(self, exc_tuple: Any = None) -> Any:
        etype, value, tb = super()._get_exc_info(exc_tuple)
        _cut_handler(value)
        return etype, value, tb

    def traceback_of(self, error: BaseException) -> list[str]:
        """The formatted traceback of an exception that user code raised (as IPython shows it); of a class that refuses to be asked the name."""
        try:
            render = getattr(error, "_render_traceback_", None)
            if render is not None:
                return list(render())
            _cut_handler(error)
            return list(self.InteractiveTB.structured_traceback(type(error), error, error.__traceback__))
        except Exception:
            pass
        import traceback

        try:
            return "".join(traceback.format_exception(error)).splitlines()
        except Exception as e:
            return [f"{type(error).__name__}: its traceback can't be shown: {type(e).__name__} was raised"]

    # Cells.

    def run(self, source: str, silent: bool) -> tuple[ExecutionResult, list[str]]:
        """Runs a cell; returns IPython's result and the error's traceback lines ([] without one).

        The engine's event loop is the running loop of the cell, so `asyncio.create_task` works in
        it, and top-level `await` waits in it.
        """
        loop = self.event_loop()
        _make_current(loop)
        asyncio._set_running_loop(loop)
        self._in_cell = True
        try:
            code = self._again.get(source, self._reading()) if silent else None
            if code is None:
                self.end_cells()
                result = self.run_cell(source, store_history=not silent, silent=silent)
            else:
                result = self._run_again(source, code)
        finally:
            self._in_cell = False
            asyncio._set_running_loop(None)
        error = result.error_before_exec or result.error_in_exec
        if error is None and self._held is None:
            if silent and code is None and self._again.is_second(source):
                code = self._compile_plain(source)
                self._again.put(source, code, self._reading())
            return result, []
        lines: list[str] = []
        if self._held is not None and self._held[0] is error and error is not None:
            lines, self._held = self._held[1], None
        elif error is not None:
            lines = self.traceback_of(error)
        self._print_held()
        return result, lines

    def _reading(self) -> tuple[Any, ...]:
        """What may make another code of the same text: flags that earlier cells set, transformers, who takes words for calls."""
        return (self.compile.flags, self.autocall, *self.ast_transformers, *self.input_transformers_post,
                *self.input_transformers_cleanup)

    def _compile_plain(self, source: str) -> CodeType | None:
        """The code of a silent cell that IPython would run as it stands; None for any other."""
        first = source.split(None, 1)[0] if source.strip() else ""
        if self.ast_transformers or self.input_transformers_post or self.autocall or not first or \
                self.find_line_magic(first) is not None or source.lstrip() != source:
            return None
        cell = self.transform_cell(source)
        if cell.rstrip("\n") != source.rstrip("\n"):
            return None
        name = self.compile.cache(cell, self.execution_count, raw_code=source)
        try:
            return self.compile(self.compile.ast_parse(cell, filename=name), name, "exec")
        except SyntaxError:  # top-level await, which IPython allows
            return None

    def _run_again(self, source: str, code: CodeType) -> ExecutionResult:
        """What `run_cell` does for a silent cell, from its compiled code on."""
        result = ExecutionResult(ExecutionInfo(source, False, True, True, None))
        result.execution_count = self.execution_count
        listened = self.has_callbacks()
        if listened:
            self.events.trigger("pre_execute")
        self._begin_cells()
        succeeded = False
        try:
            self.run_code(code, result).send(None)
        except StopIteration as done:
            succeeded = not done.value
        finally:
            if self.last_execution_succeeded is not succeeded:  # setting a trait costs more than looking
                self.last_execution_succeeded = succeeded
            self.last_execution_result = result
            if listened:
                self.end_cells()
                self.events.trigger("post_execute")
        return result

    def _begin_cells(self) -> None:
        """Sets IPython's traps, which hide builtins and catch what is displayed, unless the last cell left them set.

        Between cells that come one after the other they stay: each time cost a quarter of such a cell,
        and a change of the builtins' keys makes all Python code look its names up anew.
        """
        if self._trapped:
            hook = self._display_hook
            if sys.displayhook is not hook:
                sys.displayhook = hook
            return
        self.builtin_trap.__enter__()
        self.display_trap.__enter__()
        self._display_hook = self.display_trap.hook
        self._trapped = True

    def end_cells(self) -> None:
        """Before anything else than such a cell runs: the traps are taken away."""
        if self._trapped:
            self._trapped = False
            self.display_trap.__exit__(None, None, None)
            self.builtin_trap.__exit__(None, None, None)

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The engine's loop, made at the first cell (or when something asynchronous needs it)."""
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        return self._loop

    def loop_has_work(self) -> bool:
        """Whether the loop must turn between tasks: something is due or scheduled, a descriptor is watched,
        or there are threads, which may call in. (A coroutine that waits for none of these needs no turn.)"""
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        if loop._ready or loop._scheduled or _thread._count():  # type: ignore[attr-defined]
            return True
        return len(loop._selector.get_map()) > 1  # type: ignore[attr-defined]  # one is the loop's own wake-up

    def run_in_loop(self, coro: Any) -> Any:
        """Runs a cell's coroutine as a task of the engine's loop (IPython's `loop_runner`)."""
        loop = self.event_loop()
        asyncio._set_running_loop(None)
        task = loop.create_task(coro)
        interrupt: BaseException | None = None
        try:
            while not task.done():
                try:
                    loop.run_until_complete(task)
                except (KeyboardInterrupt, SystemExit) as e:
                    if task.done():
                        raise
                    interrupt = e
                    task.cancel()
                except asyncio.CancelledError:
                    break
        finally:
            asyncio._set_running_loop(loop)
        if interrupt is not None:
            result = None if task.cancelled() or task.exception() else task.result()
            if isinstance(result, ExecutionResult) and isinstance(result.error_in_exec, asyncio.CancelledError):
                result.error_in_exec = interrupt
                return result
            raise interrupt
        return task.result()

    # Calls (apply) pass the shell by; their hooks run only where somebody registered one.

    def has_callbacks(self) -> bool:
        """Whether user code or a library (inline figures, autoreload) listens to the shell's events."""
        return sum(map(len, self._callback_lists)) > self._usual_callbacks

    def before_call(self) -> None:
        self.events.trigger("pre_execute")
        self.events.trigger("pre_run_cell", _call_info())

    def after_call(self) -> None:
        self.events.trigger("post_execute")
        self.events.trigger("post_run_cell", ExecutionResult(_call_info()))

    # Startup, after the fork.

    def adopt_config(self, config: dict[str, Any]) -> None:
        """Applies config that is known only now: {"Class": {"trait": value}}."""
        if config:
            extra = Config({name: Config(traits) for name, traits in config.items() if isinstance(traits, dict)})
            extra.HistoryManager.enabled = False
            for configurable in [self, *self.configurables]:
                if configurable is not None:
                    configurable.update_config(extra)
            self.InteractiveTB.set_mode(mode=self.xmode)  # what IPython reads once, when it makes a shell
            self.alias_manager.init_aliases()
            self.displayhook.keep(self.cache_size)

    def adopt_profile(self, path: str) -> None:
        """Makes `path` the shell's profile; a folder that can't be used is left alone."""
        if path and os.path.isdir(path):
            from IPython.core.profiledir import ProfileDir

            try:
                self.profile_dir = ProfileDir(location=path)
            except OSError as e:
                self.kernel.log.warning("profile %s: %s", path, e)

    def run_startup(self, profile_dir: str, startup: dict[str, Any], config: dict[str, Any]) -> None:
        """pylab or matplotlib, extensions, PYTHONSTARTUP, the profile's startup files, exec_lines, -c, exec_files, -s, what is to run, in this order (IPython's).

        What fails prints its traceback to stderr, and the engine goes on.
        """
        if gui := _option(config, "pylab", ""):
            self._guard(lambda: self.enable_pylab(gui))
        elif gui := _option(config, "matplotlib", ""):
            self._guard(lambda: self.enable_matplotlib(gui))
        for name in [*_option(config, "extensions", ()), *startup.get("extensions", [])]:
            self._guard(lambda name=name: self.extension_manager.load_extension(name))
        files = [os.environ["PYTHONSTARTUP"]] if os.environ.get("PYTHONSTARTUP") else []
        for pattern in ("*.py", "*.ipy"):
            files += sorted(glob.glob(os.path.join(profile_dir, "startup", pattern))) if profile_dir else []
        for path in files:
            self._run_file(path)
        for line in [*(startup.get("exec_lines") or _option(config, "exec_lines", ())), startup.get("command")]:
            self._run_code(line)
        for path in [*_option(config, "exec_files", ()), *startup.get("exec_files", []), startup.get("script"), _option(config, "file_to_run", "")]:
            if path:
                self._run_file(path)
        self._run_code(_option(config, "code_to_run", ""))
        if module := _option(config, "module_to_run", ""):
            self._guard(lambda: self.safe_run_module(module, self.user_ns))

    def _run_code(self, code: str | None) -> None:
        if code:
            self._guard(lambda: self.run_cell(code, store_history=False))

    def _run_file(self, path: str) -> None:
        path = os.path.abspath(os.path.expanduser(path))
        if not os.path.isfile(path):
            print(f"startup file {path} does not exist", file=sys.stderr)
            return
        had_file = "__file__" in self.user_ns
        self.user_ns["__file__"] = path
        try:
            if path.endswith(".ipy"):
                self._guard(lambda: self.safe_execfile_ipy(path, shell_futures=True))
            else:
                self._guard(lambda: self.safe_execfile(path, self.user_ns, shell_futures=True, exit_ignore=True))
        finally:
            if not had_file:
                self.user_ns.pop("__file__", None)

    def _guard(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception:
            self.showtraceback()


def _option(config: dict[str, Any], name: str, default: Any) -> Any:
    """A trait of the shell application; the kernel's own section wins, as in Jupyter."""
    for section in ("IPEngine", "IPKernelApp", "InteractiveShellApp"):
        value = config.get(section, {}).get(name)
        if value:
            return value
    return default


def _cut_handler(error: Any) -> None:
    """Takes the engine's signal handler off the end of an interrupt's traceback: it ends in the user's code."""
    tb = error.__traceback__ if isinstance(error, KeyboardInterrupt) else None
    while tb is not None and (end := tb.tb_next) is not None:
        if end.tb_next is None and end.tb_frame.f_code.co_name == "_on_interrupt" and end.tb_frame.f_globals.get("__name__") == "covey._engine":
            tb.tb_next = None
        tb = tb.tb_next


def _make_current(loop: asyncio.AbstractEventLoop) -> None:
    """asyncio.set_event_loop(), where another one (or none) is set: it costs more than looking."""
    here = getattr(_event_loop_policy(), "_local", None)
    if getattr(here, "_loop", None) is not loop:
        asyncio.set_event_loop(loop)


def _call_info() -> ExecutionInfo:
    return ExecutionInfo("", False, True, False, None)


def _nobody_answers(asked: str) -> Callable[..., str]:
    """What stands in for a function that asks somebody at a terminal."""
    def refuse(prompt: object = "", stream: object = None, **_: object) -> str:
        raise StdinNotImplementedError(f"{asked}() was called on an engine, where nobody can answer. Ask in your own program and send the answer: "
                                       f"`view.apply(f, {asked}())`, or `view['answer'] = {asked}()`")
    return refuse


def make_shell(outlet: Outlet) -> ZMQInteractiveShell:
    """Builds the engine's shell, its streams and its `__main__`, once per process.

    `__main__` becomes the user's namespace: a module without `__file__` and `__spec__`, so that
    multiprocessing in a task does not try to run the engine again.
    """
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.IPKernelApp = Config()
    config.IPKernelApp.name = "covey"
    shell: ZMQInteractiveShell = ZMQInteractiveShell.instance(config=config)
    shell.displayhook.outlet = outlet
    shell.display_pub.outlet = outlet
    kernel = EngineKernel(shell)
    shell.kernel = kernel
    install_streams(outlet)
    kernel.comm_manager = install_comms(outlet, lambda: kernel.current_task)
    builtins.input = _nobody_answers("input")  # type: ignore[assignment]
    getpass.getpass = _nobody_answers("getpass")
    builtins.get_ipython = shell.get_ipython  # type: ignore[attr-defined]  # in calls, too, where IPython sets no trap
    look_like_a_kernel(kernel)
    return shell
