# SPDX-License-Identifier: BSD-3-Clause
"""The name of a place for task records, for config files: the records themselves are the controller's (`--db=sqlite`)."""
from __future__ import annotations

from traitlets.config import Configurable

__all__ = ["SQLiteDB"]


class SQLiteDB(Configurable):
    """``c.IPController.db_class = "ipyparallel.controller.sqlitedb.SQLiteDB"``; its traits are options of the controller."""
