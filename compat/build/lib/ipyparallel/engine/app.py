"""The program `ipengine` under its old module path."""
from covey._programs import ipengine as launch_new_instance  # noqa: F401
from covey._programs import ipengine as main  # noqa: F401
