"""Serialization: covey's, under the names that programs import."""
from covey.serialize import *  # noqa: F401,F403

from . import canning, codeutil, serialize  # noqa: E402,F401
