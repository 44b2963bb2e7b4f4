"""`python -m ipyparallel.cluster|controller|engine`: covey's programs, but for the version, which is that of the package that was asked."""
import sys
from collections.abc import Callable

PROGRAMS = {"ipyparallel.cluster": "ipcluster", "ipyparallel.controller": "ipcontroller", "ipyparallel.engine": "ipengine"}


def run_asked() -> None:
    """Runs the program that `python -m ipyparallel.NAME` is about to run, and does not return; nothing for any other command line."""
    if sys.argv[:1] != ["-m"]:  # which it is while Python looks for the module
        return
    name = sys.orig_argv[-len(sys.argv)]
    if name in PROGRAMS:
        from covey import _programs

        run(getattr(_programs, PROGRAMS[name]))
        sys.exit()


def run(program: Callable[[], object]) -> None:
    """Runs a program with this process's arguments and ends with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from ._version import __version__

        print(__version__)
    else:
        sys.exit(program())
