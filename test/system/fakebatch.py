# SPDX-License-Identifier: BSD-3-Clause
"""Commands of five batch systems in one program, called by the names of theirs (symbolic links): they check what they get,
answer in the real ones' words, and run the job as processes of this machine. State and a log of calls are in $FAKEBATCH."""
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ.get("FAKEBATCH", "."))


def record(name, args, **more):
    with open(STATE / "calls", "a") as f:
        f.write(json.dumps({"name": name, "args": args, **more}) + "\n")


def directive(script, prefix, pattern):
    """The first match of a pattern in the script's directives, which must follow the first line."""
    lines = script.splitlines()
    for line in lines[1:]:
        if not line.startswith(prefix):
            break
        if m := re.search(pattern, line):
            return m[1]
    return None


def start(id, commands, env):
    """Runs the job's commands in a session whose leader's pid is the job's; each gets its variables."""
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    (STATE / f"job{id}").write_text(str(os.getpid()))
    children = [subprocess.Popen(c, env={**os.environ, **env, "JOB": id, "INDEX": str(i)}) for i, c in enumerate(commands)]
    for c in children:
        c.wait()
    (STATE / f"job{id}").unlink(missing_ok=True)
    os._exit(0)


def pid_of(id):
    try:
        return int((STATE / f"job{id}").read_text())
    except (OSError, ValueError):
        return 0


def sbatch(path):
    script = Path(path).read_text()
    assert directive(script, "#SBATCH", "--export=(ALL)") and script.startswith("#!")
    start("4711", [["sh", path]], {"NTASKS": directive(script, "#SBATCH", r"--ntasks=(\d+)"), "SLURM_JOB_ID": "4711", "SLURM_PROCID": "0"})
    print("Submitted batch job 4711")


def srun(*command):
    tasks = [subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(i)}) for i in range(int(os.environ["NTASKS"]))]
    sys.exit(max(t.wait() for t in tasks))


def qsub(path):
    script = Path(path).read_text()
    prefix = "#$" if "#$ " in script else "#PBS"
    assert directive(script, prefix, "(-V)")
    n = directive(script, prefix, r"-t 1-(\d+)")
    pbs = prefix == "#PBS"
    id = ("88[]" if n else "88") if pbs else "77"
    start(id, [["sh", path]] * int(n or 1), {})
    print(f"{id}.head" if pbs else f'Your job-array 77.1-{n}:1 ("ipengine") has been submitted')


def bsub():
    script = sys.stdin.read()
    n = directive(script, "#BSUB", r"-J ipengine\[1-(\d+)\]")
    start("321", [["sh", "-c", script]] * int(n or 1), {})
    print("Job <321> is submitted to default queue <normal>.")


def condor_submit(path):
    said = dict(line.split(" = ", 1) for line in Path(path).read_text().splitlines() if " = " in line)
    n = int(re.search(r"^queue ?(\d*)$", Path(path).read_text(), re.M)[1] or 1)
    assert said["universe"] == "vanilla" and said["getenv"] == "True" and said["arguments"][0] == said["arguments"][-1] == '"'
    start("55", [[said["executable"], *shlex.split(said["arguments"][1:-1])]] * n, {})
    print("Submitting job(s).\n1 job(s) submitted to cluster 55.")


def delete(id):
    if not pid_of(id):
        sys.exit(f"{id}: Unknown Job Id")
    os.killpg(pid_of(id), signal.SIGTERM)


def scancel(*args):
    if args[0] == "-s":
        for line in (STATE / "engines").read_text().split():
            os.kill(int(line), int(args[1]))
    else:
        delete(*args)


def status(id):
    if not pid_of(id):
        sys.exit(f"{id}: Invalid job id specified")
    print("RUNNING")


COMMANDS = {"sbatch": sbatch, "srun": srun, "scancel": scancel, "squeue": lambda *a: status(a[-1]), "qsub": qsub, "qdel": delete,
            "qstat": lambda *a: status(a[-1]), "bsub": bsub, "bkill": delete, "bjobs": lambda *a: status(a[-1]),
            "condor_submit": condor_submit, "condor_rm": delete, "condor_q": lambda *a: status(a[-1])}


if __name__ == "__main__":
    me = os.path.basename(sys.argv[0])
    record(me, sys.argv[1:], pythonpath=os.environ.get("FAKEBATCH_MARK"))
    COMMANDS[me](*sys.argv[1:])
    sys.stdout.flush()
