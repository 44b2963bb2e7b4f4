"""The program `ipcontroller` under its old module path."""
from covey._programs import ipcontroller as launch_new_instance  # noqa: F401
from covey._programs import ipcontroller as main  # noqa: F401
