"""The programs' old application modules: what `ipython profile create --parallel` and scripts import."""
