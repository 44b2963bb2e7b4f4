"""`python -m ipyparallel.cluster|controller|engine`: covey's programs, but for the version, which is that of the package that was asked."""
import sys
from collections.abc import Callable


def run(program: Callable[[], object]) -> None:
    """Runs a program with this process's arguments and ends with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from . import __version__

        print(__version__)
    else:
        sys.exit(program())
