"""The engine's module; `python -m ipyparallel.engine` runs the program `ipengine`."""
from covey.kernel import bind_kernel  # noqa: F401
