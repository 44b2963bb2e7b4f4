# SPDX-License-Identifier: BSD-3-Clause
"""Applications that exist to write a profile's config file, all of it commented out."""
from __future__ import annotations

from IPython.core.application import BaseIPythonApplication

_HEAD = """# Configuration of {name}. Every line is an example: take the '#' off and change it.
# `{name} --help` has all options; each is `c.CLASS.OPTION` here.

# c = get_config()

"""


class ProfileApplication(BaseIPythonApplication):
    """Base: subclasses give `name` and `examples_text`, lines of a config file."""

    examples_text: tuple[str, ...] = ()

    def _config_file_name_default(self) -> str:
        return f"{self.name}_config.py"

    def generate_config_file(self, classes: object = None) -> str:
        """The file's text."""
        return _HEAD.format(name=self.name) + "".join(f"# {line}\n" for line in self.examples_text)
