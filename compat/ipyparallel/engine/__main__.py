from covey.engine import main

from .._commands import run

run(main)
