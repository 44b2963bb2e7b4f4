# SPDX-License-Identifier: BSD-3-Clause
"""Commands of five batch systems in one program, called by the names of theirs (symbolic links): they check what they get,
answer in the real ones' words, and run the job as processes of this machine. State and a log of calls are in $FAKEBATCH."""
import json
import os
import re
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


def new_id(first):
    """The next number of a system, from its first one on."""
    with open(STATE / f"ids{first}", "a+") as f:
        f.write(".")
        return str(int(first) + f.tell() - 1)


def start(id, commands, env):
    """Runs the job's commands in a session whose leader's pid is the job's; each gets its variables. A queue that is held runs nothing."""
    if (STATE / "hold").exists():
        commands = [["sleep", "600"]]
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
    id = new_id(4711)
    start(id, [["sh", path]], {"NTASKS": directive(script, "#SBATCH", r"--ntasks=(\d+)"), "SLURM_JOB_ID": id, "SLURM_PROCID": "0"})
    print(f"Submitted batch job {id}")


def srun(*command):
    tasks = [subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(i)}) for i in range(int(os.environ["NTASKS"]))]
    sys.exit(max(t.wait() for t in tasks))


def qsub(path):
    script = Path(path).read_text()
    prefix = "#$" if "#$ " in script else "#PBS"
    assert directive(script, prefix, "(-V)")
    n = directive(script, prefix, r"-t 1-(\d+)")
    pbs = prefix == "#PBS"
    id = new_id(88) + ("[]" if n else "") if pbs else new_id(77)
    start(id, [["sh", path]] * int(n or 1), {})
    print(f"{id}.head" if pbs else f'Your job-array {id}.1-{n}:1 ("ipengine") has been submitted')


def bsub():
    script = sys.stdin.read()
    n = directive(script, "#BSUB", r"-J ipengine\[1-(\d+)\]")
    id = new_id(321)
    start(id, [["sh", "-c", script]] * int(n or 1), {})
    print(f"Job <{id}> is submitted to default queue <normal>.")


def condor_words(text):
    """What stands between the double quotes: a quote is two of them; single quotes hold blanks together."""
    words = re.findall(r"(?:[^\s']|'(?:[^']|'')*')+", text.replace('""', '"'))
    return [re.sub(r"'((?:[^']|'')*)'", lambda m: m[1].replace("''", "'"), word) for word in words]


def condor_submit(path):
    said = dict(line.split(" = ", 1) for line in Path(path).read_text().splitlines() if " = " in line)
    n = int(re.search(r"^queue ?(\d*)$", Path(path).read_text(), re.M)[1] or 1)
    assert said["universe"] == "vanilla" and said["getenv"] == "True" and said["arguments"][0] == said["arguments"][-1] == '"'
    id = new_id(55)
    start(id, [[said["executable"], *condor_words(said["arguments"][1:-1])]] * n, {})
    print(f"Submitting job(s).\n1 job(s) submitted to cluster {id}.")


def mysub(*args):
    assert args[:-1] == ("-q", "long")
    id = new_id(901)
    start(id, [["sh", args[-1]]], {})
    print(f"3 nodes are free. job {id} is queued")


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


def squeue(*args):
    assert args[:-1] == ("-h", "-t", "all", "-o", "%F:%T", "-j")
    for id in args[-1].split(","):
        print(f"{id}:{'RUNNING' if pid_of(id) else 'CANCELLED'}")


def each(ids, there, gone):
    """A line for each job that is there; the others are named at the end, by an error."""
    for id in filter(pid_of, ids):
        print(there.format(id=id))
    if lost := [id for id in ids if not pid_of(id)]:
        sys.exit("\n".join(gone.format(id=id) for id in lost))


def qstat(*args):
    if args[0] == "-j":
        each(args[1].split(","), "=====\njob_number:                 {id}\nowner:                      me", "Following jobs do not exist:\n{id}")
    else:
        each(args, "{id}.head         ipengine         me          0 R normal", "qstat: Unknown Job Id {id}")


def bjobs(*args):
    assert args[:3] == ("-noheader", "-o", "jobid stat")
    each(args[3:], "{id}    RUN   ", "Job <{id}> is not found")


def condor_q(*args):
    assert args[:6] == ("-format", "%d:", "ClusterId", "-format", "%d\\n", "JobStatus")
    for id in filter(pid_of, args[6:]):
        print(f"{id}:2")


COMMANDS = {"sbatch": sbatch, "srun": srun, "scancel": scancel, "squeue": squeue, "qsub": qsub, "qdel": delete, "qstat": qstat, "bsub": bsub,
            "bkill": delete, "bjobs": bjobs, "condor_submit": condor_submit, "condor_rm": delete, "condor_q": condor_q,
            "mysub": mysub, "mydel": delete}


if __name__ == "__main__":
    me = os.path.basename(sys.argv[0])
    record(me, sys.argv[1:], pythonpath=os.environ.get("FAKEBATCH_MARK"))
    COMMANDS[me](*sys.argv[1:])
    sys.stdout.flush()
