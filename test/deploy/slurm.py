# SPDX-License-Identifier: BSD-3-Clause
"""A real Slurm for the deployment tests: munged, slurmctld and slurmds of its own, with a key, a configuration and ports of its own.

    with Slurm(folder, nodes=2) as slurm:                          # all nodes are this machine: nodes n1, n2 have one host name
        slurm.run("sbatch", "job.sh")
    with Slurm(folder, boxes=boxes, nodes=["n1", "n2"]) as slurm:  # nodes are machines (boxes.py) whose folders are shared
        boxes["login"].run("sbatch", "job.sh", env=slurm.env)

Everything ends with the `with` block; a daemon dies also when the test's process is killed. In the first form Slurm's commands are real and a
job's processes are this machine's; in the second, slurmctld runs on `boxes[controller]`.
"""
from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from pathlib import Path

from ..ports import free_ports
from ..waiting import looks, wait_until
from .boxes import _die_with_parent

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "sinfo")

_CONF = """\
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault={mpi}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout={patience}
InactiveLimit=0
KillWait=2
OverTimeLimit=0
MinJobAge=60
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=1,sched_min_interval=100000
{nodes}
PartitionName=normal Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=9
"""


class Slurm:
    """folder: for key, configuration and logs. nodes: how many on this machine, or names of boxes. controller: the box of slurmctld.
    patience: seconds until a node that does not answer is down."""

    def __init__(self, folder: Path, nodes: int | list[str] = 2, boxes=None, controller: str | None = None, cpus: int = 12,
                 patience: int = 15):
        self.folder, self.boxes, self.cpus, self.patience = Path(folder), boxes, cpus, patience
        self.nodes = [f"n{i + 1}" for i in range(nodes)] if isinstance(nodes, int) else list(nodes)
        self.controller = controller or self.nodes[0]
        self.env = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._serial = 0
        self._munged: list[subprocess.Popen] = []
        self._slurmctld: subprocess.Popen | None = None
        self.slurmd: dict[str, subprocess.Popen] = {}

    # -- life

    def __enter__(self) -> Slurm:
        try:
            self._configure()
            for box in ([self.controller, *self.nodes] if self.boxes else [None]):
                self._munge(box)
            self._slurmctld = self._start(self.controller, "slurmctld", "-D", "-f", self.env["SLURM_CONF"])
            for name in self.nodes:
                self.start_node(name)
            self.wait(lambda: self.node_states() == dict.fromkeys(self.nodes, "idle"), 60, "idle nodes")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self._slurmctld is not None and self._slurmctld.poll() is None:
            self.run("scancel", "--user=root", check=False)
            for _ in looks(20):
                if not self.queue():
                    break
        for process in (*self.slurmd.values(), self._slurmctld, *self._munged):
            self._end(process)

    @staticmethod
    def _end(process: subprocess.Popen | None) -> None:
        if process is None or process.poll() is not None:
            return
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)
        except ProcessLookupError:
            process.wait(5)

    def _configure(self) -> None:
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        port, node_port, *ports = free_ports(2 + len(self.nodes))
        size = f"CPUs={self.cpus} RealMemory=1000"
        if self.boxes:
            lines = [f"NodeName={n} NodeAddr={self.boxes[n].address} {size}" for n in self.nodes]
            host = f"{self.controller}({self.boxes[self.controller].address})"
        else:
            here = socket.gethostname().split(".")[0]
            lines = [f"NodeName={n} NodeHostName={here} NodeAddr=127.0.0.1 Port={p} {size}" for n, p in zip(self.nodes, ports, strict=True)]
            host = f"{here}(127.0.0.1)"
        mpi = "pmix" if self.boxes else "none"  # nodes of one machine would share PMIx's folders
        conf = self.folder / "slurm.conf"
        conf.write_text(_CONF.format(patience=self.patience, mpi=mpi, folder=self.folder, host=host, port=port, node_port=node_port, nodes="\n".join(lines)))

    def _start(self, box: str | None, *argv: str) -> subprocess.Popen:
        """A daemon in the foreground, a process group of its own."""
        env = {**self.env, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        if self.boxes:
            argv = tuple(self.boxes[box]._enter(argv, env, "root", None))
        self._serial += 1
        with open(self.folder / f"daemon-{self._serial}.out", "w") as log:
            return subprocess.Popen(argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    start_new_session=True, preexec_fn=_die_with_parent)

    def _munge(self, box: str | None) -> None:
        """Every machine has a munged. Its socket lies at one path: where machines share the folder, each mounts its own over it."""
        where = self.folder / "munge"
        if self.boxes:
            self.boxes[box].run("sh", "-c", f"mkdir -p /run/munge && cp {where}/key /run/munge/key && mount --bind /run/munge {where}")
        self._munged.append(self._start(box, "munged", "--foreground", "--force", f"--key-file={where}/key", f"--socket={where}/socket",
                                        f"--pid-file={where}/pid", f"--log-file={where}/log", f"--seed-file={where}/seed"))
        ready = ["test", "-S", f"{where}/socket"]
        self.wait(lambda: (self.boxes[box].run(*ready, check=False) if self.boxes else subprocess.run(ready)).returncode == 0, 60, "munged")

    def start_node(self, name: str) -> None:
        self.slurmd[name] = self._start(name, "slurmd", "-D", "-f", self.env["SLURM_CONF"], "-N", name)

    def kill_node(self, name: str) -> None:
        """The node dies: its slurmd and all that runs under it, at once."""
        if self.boxes:
            self.boxes[name].power_off()
            self.slurmd.pop(name).wait(10)
            return
        steps = {int(status.partition(b"PPid:")[2].split()[0]) for pid, status in _all("status") if pid in set(self._jobs_of(name))}
        os.killpg(self.slurmd[name].pid, signal.SIGKILL)
        self.slurmd.pop(name).wait()
        for pid in [*(s for s in steps if _command(s).startswith("slurmstepd:")), *self._jobs_of(name)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _jobs_of(self, name: str) -> list[int]:
        """Processes of jobs on a node of this machine."""
        wanted = {f"SLURMD_NODENAME={name}".encode(), f"SLURM_CONF={self.env['SLURM_CONF']}".encode()}
        return [pid for pid, env in _all("environ") if wanted <= set(env.split(b"\0"))]

    # -- its commands

    def run(self, *argv: str, check: bool = True, timeout: float = 60, env: dict[str, str] | None = None, cwd=None) -> str:
        """Runs a command of Slurm's (on the controller's machine); its standard output."""
        if self.boxes:
            return self.boxes[self.controller].run(*argv, check=check, timeout=timeout, env={**self.env, **(env or {})}, cwd=cwd).stdout
        r = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, cwd=cwd, stdin=subprocess.DEVNULL,
                           env={**os.environ, **self.env, **(env or {})})
        assert not check or r.returncode == 0, f"{shlex.join(argv)} ended with {r.returncode}\n{r.stdout}{r.stderr}"
        return r.stdout

    def node_states(self) -> dict[str, str]:
        lines = self.run("sinfo", "-h", "-p", "normal", "-N", "-o", "%N %T", check=False).split("\n")
        return dict(line.split() for line in lines if line)

    def queue(self) -> dict[str, str]:
        """{job id: state} of all that is queued or runs."""
        lines = self.run("squeue", "-h", "-o", "%i %T", check=False).split("\n")
        return dict(line.split() for line in lines if line)

    def wait(self, condition, timeout: float = 60, what: str = "the condition"):
        """Polls until condition() is true and returns its value; fails at the deadline with what the daemons said."""
        return wait_until(condition, timeout, what, lambda: f"queue {self.queue()}\n{self.logs()}")

    def logs(self) -> str:
        """The last lines of every daemon's log."""
        texts = ((p.name, p.read_text(errors="replace").splitlines()[-12:]) for p in sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out")))
        return "\n".join(f"--- {name}\n" + "\n".join(lines) for name, lines in texts)


def _all(what: str):
    """(pid, content) of a /proc file of every process."""
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            yield int(proc.name), (proc / what).read_bytes()
        except OSError:
            continue


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
