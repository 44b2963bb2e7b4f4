# SPDX-License-Identifier: BSD-3-Clause
"""IPython magics: `%px`, `%%px`, `%pxresult`, `%pxconfig`, `%autopx`, `%result`.

Each `view.activate(suffix)` makes a set of its own, with its own settings: `rc[0].activate("0")`
gives `%px0`, `%%px0` and so on. A cell runs on the view's engines as it would run in a notebook
of theirs: what they print and display is shown as it comes, with the engine's number before it.
"""
from __future__ import annotations

import argparse
import ast
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, no_var_expand

from .error import AlreadyDisplayedError, CompositeError, RemoteError, likeness

if TYPE_CHECKING:
    from .asyncresult import AsyncResult
    from .view import DirectView

FULL_TRACEBACKS = 4  # errors shown with their traceback while a cell streams; the others in one line
INTERRUPT_WAIT = 2.0 # seconds in which engines may say what a Ctrl-C did to them
POLL = 0.2           # seconds between looks at which engines have failed


class _Parser(argparse.ArgumentParser):
    """Errors are IPython's UsageError, which is shown without a traceback."""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}\n{self.format_usage().strip()}")

    def exit(self, status: int = 0, message: str | None = None) -> Any:
        raise UsageError(message or self.format_help())


def _signal(text: str) -> int | str:
    """A signal as `send_signal` takes it: a number, or a name with or without SIG."""
    if text.isdigit():
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if not hasattr(signal, name):
        raise argparse.ArgumentTypeError(f"no such signal: {text}")
    return name


def _add_settings(p: argparse.ArgumentParser) -> None:
    p.add_argument("-b", "--block", action="store_const", const=True, dest="block", help="wait for the results")
    p.add_argument("-a", "--noblock", action="store_const", const=False, dest="block", help="return an AsyncResult at once")
    p.add_argument("--stream", action="store_const", const=True, dest="stream", help="show output as it comes (the default)")
    p.add_argument("--no-stream", action="store_const", const=False, dest="stream", help="show output when all is done")
    p.add_argument("-t", "--targets", help="engines: 0, 0,2, [0,2], ::2 or all")
    p.add_argument("--verbose", action="store_const", const=True, dest="verbose", help="say on which engines the cell runs")
    p.add_argument("--no-verbose", action="store_const", const=False, dest="verbose")
    p.add_argument("--progress-after", type=float, dest="progress_after", metavar="SECONDS",
                   help="show a progress bar after so long (default 2; 0: at once, -1: never)")
    p.add_argument("--signal-on-interrupt", type=_signal, dest="signal_on_interrupt", metavar="SIGNAL",
                   help="what the engines get on Ctrl-C (default SIGINT; 0: nothing)")


def _add_output(p: argparse.ArgumentParser) -> None:
    p.add_argument("-r", action="store_const", const="order", dest="groupby", help="like --group-outputs=order")
    p.add_argument("-e", action="store_const", const="engine", dest="groupby", help="like --group-outputs=engine")
    p.add_argument("--group-outputs", choices=("engine", "order", "type"), dest="groupby",
                   help="how output is arranged without streaming (default type: all stdout, then all stderr, then the rest)")
    p.add_argument("-o", "--out", dest="save_name", metavar="NAME", help="keep the AsyncResult under this name")


def _make_parser(name: str) -> _Parser:
    p = _Parser(prog=name, add_help=False, allow_abbrev=False)
    if name != "%pxresult":
        _add_settings(p)
    if name != "%pxconfig":
        _add_output(p)
    if name == "%%px":
        p.add_argument("--local", action="store_true", help="run the cell here, too")
    return p


class ParallelMagics(Magics):
    """The magics of one view.

    shell : the IPython shell
    view : a DirectView or BroadcastView; its `block` and `targets` are the defaults
    suffix : appended to each name
    """

    registered = True  # what IPython's decorators would set; the names depend on the suffix
    magics: dict[str, dict[str, Any]] = {"line": {}, "cell": {}}

    shell: Any
    verbose = False
    progress_after_seconds: float = 2.0
    signal_on_interrupt: int | str | None = "SIGINT"
    last_result: AsyncResult | None = None

    def __init__(self, shell: Any, view: DirectView, suffix: str = "") -> None:
        self.view = view
        self.suffix = suffix
        self._autopx = False
        self._stream = os.environ.get("IPP_NONINTERACTIVE", "") in ("", "0")
        super().__init__(shell=shell)
        px, line = f"px{suffix}", {}
        line[px] = self.px
        line[f"pxresult{suffix}"] = self.pxresult
        line[f"pxconfig{suffix}"] = self.pxconfig
        line[f"autopx{suffix}"] = self.autopx
        if not suffix:
            line["result"] = self.pxresult
        self.magics = {"line": line, "cell": {px: self.cell_px}}

    # The magics.

    @no_var_expand
    def px(self, line: str = "") -> Any:
        """Runs one line of Python on the view's engines.

        %px import numpy as np
        %px a = np.random.rand(2)
        """
        return self._finish(self._run(line, _defaults()), _defaults())

    def cell_px(self, line: str = "", cell: str | None = None) -> Any:
        """Runs a cell on the view's engines; options apply to this cell alone.

        -b, --block / -a, --noblock      wait, or return an AsyncResult
        --stream / --no-stream           output as it comes, or at the end
        -t, --targets SPEC               engines: 0, [0,2], ::2, all
        --local                          run the cell here, too
        -e, -r, --group-outputs KIND     arrange output by engine, order or type (without streaming)
        -o, --out NAME                   keep the AsyncResult under this name
        --progress-after SECONDS         a progress bar after so long (0: at once, -1: never)
        --signal-on-interrupt SIGNAL     what the engines get on Ctrl-C
        --verbose / --no-verbose         say on which engines the cell runs
        """
        options = self._parse("%%px", line)
        if cell is None:
            raise UsageError("%%px is for cells; %px runs one line")
        ar = self._run(cell, options)
        if options.save_name:
            self.shell.user_ns[options.save_name] = ar
        if options.local:
            self.shell.run_cell(cell)
        return self._finish(ar, options)

    def pxresult(self, line: str = "") -> None:
        """Shows the results of the last %px again, and waits for them: %pxresult [-r | -e | --group-outputs KIND] [-o NAME]."""
        options = self._parse("%pxresult", line)
        if self.last_result is None:
            raise UsageError(f"there is no result yet: run %px{self.suffix} first")
        if options.save_name:
            self.shell.user_ns[options.save_name] = self.last_result
        self.last_result.get(return_exceptions=True)
        self.last_result.display_outputs(groupby=options.groupby or "type")
        self.last_result.get()

    def pxconfig(self, line: str = "") -> None:
        """Sets the defaults of %px: --block, --noblock, --stream, --no-stream, -t SPEC, --verbose, --no-verbose,
        --progress-after SECONDS, --signal-on-interrupt SIGNAL."""
        options = self._parse("%pxconfig", line)
        if options.targets:
            self.view.targets = self._targets(options.targets)
        if options.block is not None:
            self.view.block = options.block
        if options.stream is not None:
            self._stream = options.stream
        if options.verbose is not None:
            self.verbose = options.verbose
        if options.progress_after is not None:
            self.progress_after_seconds = options.progress_after
        if options.signal_on_interrupt is not None:
            self.signal_on_interrupt = options.signal_on_interrupt

    def autopx(self, line: str = "") -> None:
        """Switches on, and off again, that every cell runs on the view's engines instead of here."""
        if self._autopx:
            self._disable_autopx()
        else:
            self._enable_autopx()

    # How a cell runs.

    def parallel_execute(self, cell: str, block: bool | None = None, groupby: str = "type", save_name: str | None = None,
                         targets: Any = None, **settings: Any) -> Any:
        """What `%%px` does, for programs. Returns the AsyncResult if it does not wait."""
        options = _defaults()
        vars(options).update(block=block, groupby=groupby, targets=targets, **settings)
        ar = self._run(cell, options)
        if save_name:
            self.shell.user_ns[save_name] = ar
        return self._finish(ar, options)

    def _parse(self, name: str, line: str) -> argparse.Namespace:
        try:
            words = shlex.split(line)
        except ValueError as e:
            raise UsageError(f"{name}: {e}") from None
        for i, word in enumerate(words[:-1]):
            if word in ("-t", "--targets"):  # a slice like -2: is no option
                words[i:i + 2] = ["--targets=" + words[i + 1], ""]
        options = _defaults()
        vars(options).update(vars(_make_parser(name).parse_args([w for w in words if w])))
        return options

    def _targets(self, spec: Any) -> Any:
        """The engines that a --targets text names."""
        if not isinstance(spec, str):
            return spec
        if "all" in spec:
            return "all"
        text = spec.strip()
        try:
            if ":" in text:
                parts = [int(p) if p.strip() else None for p in text.strip("[]").split(":")]
                return self.view.client.ids[slice(*parts)]
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            try:
                value = eval(text, self.shell.user_ns)
            except Exception as e:
                raise UsageError(f"--targets {spec}: {type(e).__name__}: {e}") from None
        return list(value) if isinstance(value, (tuple, set, range)) else value

    def _run(self, source: str, options: argparse.Namespace) -> AsyncResult:
        targets = self.view.targets if options.targets is None else self._targets(options.targets)
        block = self._blocks(options)
        if self.verbose if options.verbose is None else options.verbose:
            what = "Parallel" if block else "Async parallel"
            print(f"{what} execution on engine(s): {_abbreviate(targets)}")
        self.last_result = self.view.execute(source, silent=False, block=False, targets=targets)
        self.last_result._fname = "%px"
        return self.last_result

    def _blocks(self, options: argparse.Namespace) -> bool:
        return bool(self.view.block if options.block is None else options.block)

    def _finish(self, ar: AsyncResult, options: argparse.Namespace, show_errors: bool = True) -> Any:
        """Waits and shows, as asked; None, or the AsyncResult if nobody waits.

        show_errors : print the errors of a streaming cell as they come; else the caller shows what is raised
        """
        if not self._blocks(options):
            return ar
        stream = (self._stream if options.stream is None else options.stream) and not options.local
        progress_after = self.progress_after_seconds if options.progress_after is None else options.progress_after
        sig = self.signal_on_interrupt if options.signal_on_interrupt is None else options.signal_on_interrupt
        errors = _ErrorPrinter(ar)
        look = errors.look if stream and show_errors else lambda: None
        try:
            with ar.stream_output() if stream else contextlib.nullcontext():
                self._wait(ar, progress_after, look)
                ar.wait_for_output(1)
        except KeyboardInterrupt:
            if sig is None or sig == "":
                raise
            self._interrupt(ar, sig)
            look()
            if not stream:
                _show_parts(ar, options.groupby or "type")
            return None
        if not stream:
            ar.get(return_exceptions=True)
            ar.display_outputs(groupby=options.groupby or "type")
            ar.get()
            return None
        look()
        failure = ar.exception()
        if failure is None:
            return None
        raise AlreadyDisplayedError(failure) if show_errors and isinstance(failure, RemoteError) else failure

    def _wait(self, ar: AsyncResult, progress_after: float, look: Callable[[], None]) -> None:
        """Until all is done."""
        deadline = None if progress_after < 0 else time.monotonic() + progress_after
        while not ar.ready():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                ar.wait_interactive()
                deadline = None
            else:
                ar.wait(POLL if left is None else min(POLL, left))
                look()

    def _interrupt(self, ar: AsyncResult, sig: int | str) -> None:
        """Ctrl-C while a cell runs goes to the engines; the cell here is over then."""
        print(f"Received Keyboard Interrupt. Sending signal {sig} to engines...", file=sys.stderr)
        if sig in (0, "0"):
            return
        running = [part.engine_id for part in (ar.split() if len(ar.msg_ids) > 1 else [ar]) if not part.ready()]
        targets = [id for id in running if isinstance(id, int)] or self.view.targets
        self.view.client.send_signal(sig, targets=targets, block=True)
        ar.wait(INTERRUPT_WAIT)

    # %autopx

    def _enable_autopx(self) -> None:
        self._autopx = True
        self._local_run_cell = self.shell.run_cell
        self.shell.run_cell = self._pxrun_cell
        self.shell.should_run_async = lambda *_args, **_kwargs: False  # a kernel then comes through run_cell
        print("%autopx enabled")

    def _disable_autopx(self) -> None:
        if self._autopx:
            self._autopx = False
            del self.shell.run_cell, self.shell.should_run_async  # the class's methods show again
            print("%autopx disabled")

    def _pxrun_cell(self, raw_cell: str, store_history: bool = False, silent: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Stands in for the shell's run_cell while %autopx is on."""
        result = self._local_run_cell("", store_history=False, silent=True)
        if not raw_cell or raw_cell.isspace():
            return result
        if raw_cell.strip().lstrip("%").split()[:1] == [f"autopx{self.suffix}"]:
            self._disable_autopx()
            return result
        execution_count = self.shell.execution_count
        result.execution_count = execution_count
        if store_history:
            self.shell.history_manager.store_inputs(execution_count, raw_cell, raw_cell)
            self.shell.execution_count += 1
        options = _defaults()
        try:
            result.result = self._finish(self._run(raw_cell, options), options, show_errors=False)
        except BaseException as e:
            result.error_in_exec = e
            self.shell.showtraceback((type(e), e, e.__traceback__))
        return result


class _ErrorPrinter:
    """Prints the errors of a streaming cell on standard error as engines fail: equal tracebacks once, then a line for each engine."""

    def __init__(self, ar: AsyncResult) -> None:
        self._parts = ar.split() if len(ar.msg_ids) > 1 else [ar]
        self._shown: set[tuple[str, str, str]] = set()

    def look(self) -> None:
        pending = []
        for part in self._parts:
            if not part.ready():
                pending.append(part)
                continue
            failure = part.exception()
            for error in failure.errors if isinstance(failure, CompositeError) else [failure] if failure is not None else []:
                self._print(error)
        self._parts = pending

    def _print(self, error: BaseException) -> None:
        text = str(error)
        if isinstance(error, RemoteError):
            key = likeness(error)
            if key in self._shown:  # what to do has been said
                text = f"{error._where()} {error.ename}: {error.evalue}"
            elif len(self._shown) < FULL_TRACEBACKS:
                self._shown.add(key)
                text = "\n".join(error.render_traceback())
        print(text, file=sys.stderr)


def _show_parts(ar: AsyncResult, groupby: str) -> None:
    """What those engines printed that have ended."""
    parts = ar.split() if len(ar.msg_ids) > 1 else [ar]
    if ended := [part for part in parts if part.ready()]:
        (ar if len(ended) == len(parts) else ar.join(*ended)).display_outputs(groupby=groupby)


def _defaults() -> argparse.Namespace:
    return argparse.Namespace(block=None, stream=None, targets=None, verbose=None, progress_after=None, signal_on_interrupt=None,
                              groupby=None, save_name=None, local=False)


def _abbreviate(targets: Any) -> str:
    if isinstance(targets, (list, tuple)) and len(targets) > 10:
        return f"[{', '.join(map(str, targets[:4]))}, ..., {', '.join(map(str, targets[-4:]))}]"
    return str(targets)


def activate(shell: Any, view: DirectView, suffix: str = "") -> ParallelMagics:
    """Registers the magics of a view; the same suffix again takes the earlier ones' place."""
    magics = ParallelMagics(shell, view, suffix)
    shell.magics_manager.register(magics)
    return magics
