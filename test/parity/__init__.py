# SPDX-License-Identifier: BSD-3-Clause
"""A check for each behaviour of ipyparallel that programs can meet, by the row of the feature list that it is about."""
from .ground import CHECKS, ROWS, STATUSES, Ground, rows, run_check  # noqa: F401
from . import client, clusters, commands, hub, magics, results, settings, views  # noqa: F401, E402
