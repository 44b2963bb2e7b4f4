"""The program `ipcluster` under its old module path, and its exit codes."""
from covey._programs import ipcluster as launch_new_instance  # noqa: F401
from covey._programs import ipcluster as main  # noqa: F401

ALREADY_STARTED = 10
ALREADY_STOPPED = 11
NO_CLUSTER = 12
