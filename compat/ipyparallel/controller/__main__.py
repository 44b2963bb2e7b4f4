from covey._programs import ipcontroller

from .._commands import run

run(ipcontroller)
