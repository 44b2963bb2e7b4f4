# SPDX-License-Identifier: BSD-3-Clause
"""The name of a place for task records, for config files: the records themselves are the controller's (`--db=memory`)."""
from __future__ import annotations

from traitlets.config import Configurable

__all__ = ["DictDB"]


class DictDB(Configurable):
    """``c.IPController.db_class = "ipyparallel.controller.dictdb.DictDB"``; its traits are options of the controller."""
