# SPDX-License-Identifier: BSD-3-Clause
"""Applications that exist to write a profile's config file: `ipython profile create --parallel` runs them."""
from __future__ import annotations

import subprocess

from covey._programs import program_argv
from IPython.core.application import BaseIPythonApplication


class ProfileApplication(BaseIPythonApplication):
    """Base: subclasses give `name` and `command`, the program that knows the settings."""

    command: tuple[str, ...] = ()

    def _config_file_name_default(self) -> str:
        return f"{self.name}_config.py"

    def generate_config_file(self, classes: object = None) -> str:
        """The file's text: every setting of the program, all of it commented out."""
        program, *verb = self.command or (self.name,)
        done = subprocess.run([*program_argv(program), *verb, "--help-all=config"], capture_output=True, text=True, check=True)
        return done.stdout
