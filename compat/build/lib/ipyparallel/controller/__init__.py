"""The controller is a program; `python -m ipyparallel.controller` runs it."""
