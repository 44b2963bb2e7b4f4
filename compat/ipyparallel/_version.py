"""The version of the ipyparallel whose names these are: programs compare it. covey.__version__ is covey's."""
version_info = (9, 2, 0)
__version__ = ".".join(map(str, version_info))
