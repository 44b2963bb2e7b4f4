"""Standard error goes to a pipe that nobody reads: a notebook's Popen, a service manager that hangs."""
import fcntl
import subprocess

import covey as ipp
from covey._programs import program_argv

from .stack import Stack


class Unread(Stack):
    """All that its programs write goes to a pipe of one page, of which nothing is read."""

    def run(self, program, *args):
        p = subprocess.Popen(program_argv(program, [*args, "--log-level=DEBUG"]), env=self.env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        fcntl.fcntl(p.stderr, fcntl.F_SETPIPE_SZ, 4096)
        self.processes.append(p)
        return p


def test_log_lines_that_nobody_reads_stop_nobody(ipython_dir):
    s = Unread(ipython_dir)
    try:
        for i in range(30):  # each is a line of the controller's log
            with ipp.Client(s.client_file) as rc:
                assert rc[:].apply_sync(abs, -i) == [i, i]
        s.rc[1].apply_async(exit_at_once).wait(20)
        assert s.rc.load_balanced_view().map_sync(abs, range(-100, 0)) == list(range(100, 0, -1))
    finally:
        s.stop()
        for p in s.processes:
            p.stderr.close()


def exit_at_once():
    import os

    os._exit(3)
