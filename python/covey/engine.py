"""`python -m covey.engine`: an engine's Python process.

    --zygote    the warm interpreter that a host (`ipengine -n k`) forks its engines from
    --single    one engine, started by its host directly (`ipengine`, `srun ipengine`)

Only the host starts these two; docs/internals.md has the contract. With anything else on the
command line this is the program `ipengine`, as `python -m ipyparallel.engine` was.
"""
from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the arguments ask for; returns the process's exit code (or never, see `ipengine`)."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args in (["--zygote"], ["--single"]):
        gc.disable()  # until all is imported: there is next to no garbage, and looking for it costs
        from covey import _zygote

        return _zygote.run_zygote() if args == ["--zygote"] else _zygote.run_single()
    from covey._programs import ipengine

    ipengine(args)
    return 1


def launch_new_instance(argv: Sequence[str] | None = None) -> None:
    """Becomes the program `ipengine` with these arguments (default: the process's own)."""
    from covey._programs import ipengine

    ipengine(argv)


if __name__ == "__main__":
    sys.exit(main())
