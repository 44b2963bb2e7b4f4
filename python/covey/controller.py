# SPDX-License-Identifier: BSD-3-Clause
"""`python -m covey.controller`: the program `ipcontroller`."""
from __future__ import annotations

from covey._programs import ipcontroller as launch_new_instance

if __name__ == "__main__":
    launch_new_instance()
