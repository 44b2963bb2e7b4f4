from covey._programs import ipcluster

from .._commands import run

run(ipcluster)
