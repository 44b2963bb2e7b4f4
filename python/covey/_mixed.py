# SPDX-License-Identifier: BSD-3-Clause
"""Two distributions that provide `ipyparallel`, ipyparallel itself and covey-ipyparallel, in one folder: each has overwritten
files of the other, so what an import gives depends on which came last. Said once, by whichever of our modules is imported."""
from __future__ import annotations

import os

_THEIRS, _OURS = "util.py", "_aliases.py"  # of each a file that the other has not


def mixed(folder: str) -> str | None:
    """What is wrong in this folder `ipyparallel` and what to do; None if nothing is. Two stat calls."""
    if not all(os.path.exists(os.path.join(folder, name)) for name in (_THEIRS, _OURS)):
        return None
    return (f"both ipyparallel and covey-ipyparallel are installed in {os.path.dirname(folder)}, and have overwritten each other's files. "
            "and the commands ipcluster, ipcontroller and ipengine, too. Keep one: `pip uninstall ipyparallel covey-ipyparallel covey`, then "
            "install covey and covey-ipyparallel (covey by the name ipyparallel) again, or ipyparallel, and the other in an environment of its own")


def beside_covey() -> str | None:
    """The same for the folder beside this package."""
    return mixed(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "ipyparallel"))
