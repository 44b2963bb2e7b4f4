# SPDX-License-Identifier: BSD-3-Clause
"""Batch systems as launchers in Python: what classes derive from that submit jobs in their own way (launcher.py)."""
from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import Dict, Integer, List, Unicode, default

from ._launchers import BaseLauncher, ControllerLauncher, EngineLauncher, LauncherError


class BatchSystemLauncher(BaseLauncher):
    """Fills in a template, submits it, deletes the job at the end.

    Templates are formatted with `namespace` (`context` is its old name) over what `_context` has; fields may be
    expressions: ``{n//4}``. Only the default template gets the lines for arrays, queue and output after its first line.
    """

    submit_command = List([""], help="submits a script").tag(config=True)
    delete_command = List([""], help="deletes a job").tag(config=True)
    signal_command = List([""], help="signals a job: number and id are added").tag(config=True)
    job_id = Unicode("").tag(to_dict=True)
    job_id_regexp = Unicode(r"\d+", help="finds the id in what submit_command says").tag(config=True)
    job_id_regexp_group = Integer(0, help="which of its groups").tag(config=True)
    batch_template = Unicode("", help="the script").tag(config=True, to_dict=True)
    batch_template_file = Unicode("", help="or the file that has it").tag(config=True)
    batch_file_name = Unicode("batch_script", help="the script is written here, in work_dir").tag(config=True)
    queue = Unicode("", help="the queue").tag(config=True, to_dict=True)
    n = Integer(1).tag(to_dict=True)
    namespace = Dict(help="more names for the template").tag(config=True, to_dict=True)
    output_file = Unicode("", help="file for the job's output").tag(config=True, to_dict=True)
    default_template = Unicode("")
    job_array_regexp = Unicode("")
    queue_regexp = Unicode("")
    output_regexp = Unicode("")
    job_array_template = Unicode("")
    queue_template = Unicode("")
    output_template = Unicode("")
    program = List([])
    program_args = List([])
    formatter = AnyTrait(help="fills in templates: an object with format()")

    @default("formatter")
    def _formatter_default(self) -> Any:
        from IPython.utils.text import EvalFormatter  # half of what importing launchers would take

        return EvalFormatter()

    @property
    def context(self) -> dict[str, Any]:
        """The old name of `namespace`."""
        return self.namespace

    @property
    def batch_file(self) -> str:
        """Where the script is written."""
        return os.path.join(self.work_dir, self.batch_file_name)

    @default("output_file")
    def _output_file_default(self) -> str:
        return os.path.join(self.profile_dir, "log", f"{self.identifier}.log") if self.profile_dir else ""

    def find_args(self) -> list[str]:
        """The submit command with the script."""
        return [*self.submit_command, self.batch_file]

    def _context(self, n: int) -> dict[str, Any]:
        return {"n": n, "queue": self.queue, "profile_dir": self.profile_dir, "cluster_id": self.cluster_id, "output_file": self.output_file,
                "output_word": shlex.quote(self.output_file), "program": shlex.join(self.program), "program_args": shlex.join(self.program_args),
                "program_and_args": shlex.join([*self.program, *self.program_args]), "environment_json": json.dumps(self.get_env()),
                **self.namespace}

    def _template(self) -> str:
        if self.batch_template:
            return self.batch_template
        if self.batch_template_file:
            with open(self.batch_template_file) as f:
                return f.read()
        first, _, rest = self.default_template.partition("\n")
        lines = [self.job_array_template, self.queue_template if self.queue else "", self.output_template if self.output_file else ""]
        patterns = [self.job_array_regexp, self.queue_regexp, self.output_regexp]
        new = [line for line, p in zip(lines, patterns) if line and not (p and re.search(p, self.default_template))]
        return "\n".join([first, *new, rest])

    def write_batch_script(self, n: int = 1) -> None:
        """Writes the script for n engines (or the controller) to `batch_file`."""
        self.n = n
        text = self.formatter.format(self._template(), **self._context(n))
        with open(os.open(self.batch_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700), "w") as f:
            f.write(text)

    def parse_job_id(self, output: str) -> str:
        """Finds and keeps the job's id in what was said at the submission."""
        found = re.search(self.job_id_regexp, output)
        if found is None:
            raise LauncherError(f"no job id ({self.job_id_regexp!r}) in what {self.submit_command[0]} said: {output!r}")
        self.job_id = found.group(self.job_id_regexp_group)
        self.log.info("submitted job %s", self.job_id)
        return self.job_id

    def _run(self, command: list[str], *more: str) -> str:
        return subprocess.run([*command, *more], env={**os.environ, **self.get_env()}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, check=True).stdout

    def start(self, n: int = 1) -> Any:
        """Writes and submits the script."""
        self.write_batch_script(n)
        try:
            output = self._run(self.args)
        except subprocess.CalledProcessError as e:
            raise LauncherError(f"{self.args[0]} exited with code {e.returncode}: {e.stdout}") from None
        return self.notify_start(self.parse_job_id(output))

    def stop(self) -> Any:
        """Deletes the job."""
        output = ""
        if self.job_id:
            try:
                output = self._run(self.delete_command, self.job_id)
            except subprocess.CalledProcessError as e:
                output = f"{self.delete_command[0]} exited with code {e.returncode}: {e.stdout}"
                self.log.error("job %s was not deleted: %s", self.job_id, output)
        return self.notify_stop({"job_id": self.job_id, "output": output})

    def signal(self, sig: int) -> None:
        """Sends a signal by `signal_command`."""
        self._run(self.signal_command, str(int(sig)), self.job_id)


class BatchControllerLauncher(BatchSystemLauncher, ControllerLauncher):
    """A controller as a batch job."""

    @default("program")
    def _program_default(self) -> list[str]:
        return list(self.controller_cmd)

    @default("program_args")
    def _program_args_default(self) -> list[str]:
        return [*self.cluster_args, *self.controller_args]

    def start(self) -> Any:
        """Submits it."""
        return super().start(1)


class BatchEngineSetLauncher(BatchSystemLauncher, EngineLauncher):
    """Engines as a batch job."""

    @default("program")
    def _program_default(self) -> list[str]:
        return list(self.engine_cmd)

    @default("program_args")
    def _program_args_default(self) -> list[str]:
        return [*self.cluster_args, "--n=1", *self.engine_args]


BatchClusterAppMixin = BaseLauncher


class PBSLauncher(BatchSystemLauncher):
    """PBS, Torque."""

    submit_command = List(["qsub"]).tag(config=True)
    delete_command = List(["qdel"]).tag(config=True)
    signal_command = List(["qsig", "-s"]).tag(config=True)
    job_id_regexp = Unicode(r"\d+(\[\])?").tag(config=True)
    job_array_regexp = Unicode(r"#PBS\W+-t\W+[\w\d\-\$]+")
    queue_regexp = Unicode(r"#PBS\W+-q\W+\$?\w+")
    output_regexp = Unicode(r"#PBS\W+-o")
    job_array_template = Unicode("#PBS -t 1-{n}")
    queue_template = Unicode("#PBS -q {queue}")
    output_template = Unicode("#PBS -j oe\n#PBS -o {output_word}")


class SGELauncher(PBSLauncher):
    """Sun Grid Engine and its heirs."""

    job_id_regexp = Unicode(r"\d+").tag(config=True)
    job_array_regexp = Unicode(r"#\$\W+\-t")
    queue_regexp = Unicode(r"#\$\W+-q\W+\$?\w+")
    output_regexp = Unicode(r"#\$\W+-o")
    job_array_template = Unicode("#$ -t 1-{n}")
    queue_template = Unicode("#$ -q {queue}")
    output_template = Unicode("#$ -j y\n#$ -o {output_word}")


class LSFLauncher(BatchSystemLauncher):
    """LSF; bsub reads the script from its standard input."""

    submit_command = List(["bsub"]).tag(config=True)
    delete_command = List(["bkill"]).tag(config=True)
    signal_command = List(["bkill", "-s"]).tag(config=True)
    job_array_regexp = Unicode(r"#BSUB[ \t]-J+\w+\[\d+-\d+\]")
    queue_regexp = Unicode(r"#BSUB[ \t]+-q[ \t]+\w+")
    output_regexp = Unicode(r"#BSUB[ \t]+-oo?[ \t]+\w+")
    job_array_template = Unicode("#BSUB -J ipengine[1-{n}]")
    queue_template = Unicode("#BSUB -q {queue}")
    output_template = Unicode("#BSUB -oo {output_word}")

    def find_args(self) -> list[str]:
        """A shell that gives the script to bsub."""
        return ["/bin/sh", "-c", f"{shlex.join(self.submit_command)} < {shlex.quote(self.batch_file)}"]


class SlurmLauncher(BatchSystemLauncher):
    """Slurm."""

    submit_command = List(["sbatch"]).tag(config=True)
    delete_command = List(["scancel"]).tag(config=True)
    signal_command = List(["scancel", "-s"]).tag(config=True)
    account = Unicode("", help="--account").tag(config=True)
    qos = Unicode("", help="--qos").tag(config=True)
    timelimit = Unicode("", help="--time").tag(config=True)
    options = Unicode("", help="{options} of a template").tag(config=True)
    queue_regexp = Unicode(r"#SBATCH\W+(--partition|-p)\W+\$?\w+")
    output_regexp = Unicode(r"#SBATCH\W+(--output|-o)")
    queue_template = Unicode("#SBATCH --partition={queue}")
    output_template = Unicode("#SBATCH --output={output_word}")

    def _context(self, n: int) -> dict[str, Any]:
        return {"account": self.account, "qos": self.qos, "timelimit": self.timelimit, "options": self.options, **super()._context(n)}

    def _template(self) -> str:
        if self.batch_template or self.batch_template_file:
            return super()._template()
        first, _, rest = super()._template().partition("\n")
        more = [f"#SBATCH --{name}={{{trait}}}" for name, trait in (("account", "account"), ("qos", "qos"), ("time", "timelimit"))
                if getattr(self, trait)]
        return "\n".join([first, *more, rest])


class HTCondorLauncher(BatchSystemLauncher):
    """HTCondor."""

    submit_command = List(["condor_submit"]).tag(config=True)
    delete_command = List(["condor_rm"]).tag(config=True)
    job_id_regexp = Unicode(r"(\d+)\.$").tag(config=True)
    job_id_regexp_group = Integer(1).tag(config=True)
    output_template = Unicode("output = {output_file}\nerror = {output_file}")


def _batch_pair(base: type, name: str, files: tuple[str, str], scripts: tuple[str, str]) -> tuple[type, type]:
    """The controller's and the engines' class of a batch system."""
    pair = []
    for kind, mixin, file, script in zip(("Controller", "EngineSet"), (BatchControllerLauncher, BatchEngineSetLauncher), files, scripts):
        body = {"__doc__": f"{'A controller' if kind == 'Controller' else 'Engines'} by {name}.", "__module__": __name__,
                "batch_file_name": Unicode(file, help="name of the script").tag(config=True), "default_template": Unicode(script)}
        if kind == "Controller":
            body["job_array_template"] = Unicode("")
        pair.append(type(base)(f"{name}{kind}Launcher", (base, mixin), body))
    return pair[0], pair[1]


def _directives(mark: str, *options: str) -> tuple[str, str]:
    heads = [["#!/bin/sh", *(f"{mark} {o}" for o in (*options, f"-N {name}"))] for name in ("ipcontroller", "ipengine")]
    return tuple("\n".join([*head, "{program_and_args}", ""]) for head in heads)  # type: ignore[return-value]


PBSControllerLauncher, PBSEngineSetLauncher = _batch_pair(PBSLauncher, "PBS", ("pbs_controller", "pbs_engines"), _directives("#PBS", "-V"))
SGEControllerLauncher, SGEEngineSetLauncher = _batch_pair(SGELauncher, "SGE", ("sge_controller", "sge_engines"), _directives("#$", "-V", "-S /bin/sh"))
LSFControllerLauncher, LSFEngineSetLauncher = _batch_pair(
    LSFLauncher, "LSF", ("lsf_controller", "lsf_engines"),
    ("#!/bin/sh\n#BSUB -J ipcontroller\n{program_and_args}\n", "#!/bin/sh\n{program_and_args}\n"))
SlurmControllerLauncher, SlurmEngineSetLauncher = _batch_pair(
    SlurmLauncher, "Slurm", ("slurm_controller.sbatch", "slurm_engine.sbatch"),
    ("#!/bin/sh\n#SBATCH --export=ALL\n#SBATCH --job-name=ipcontroller-{cluster_id}\n#SBATCH --ntasks=1\n{program_and_args}\n",
     "#!/bin/sh\n#SBATCH --export=ALL\n#SBATCH --job-name=ipengine-{cluster_id}\n#SBATCH --ntasks={n}\nsrun {program_and_args}\n"))
_CONDOR = 'universe = vanilla\nexecutable = {{program_path}}\narguments = "{{condor_args}}"\ngetenv = True\nqueue {}\n'


def _condor_word(word: str) -> str:
    """As HTCondor reads it between double quotes: single quotes around what has a blank, and each quote in it twice."""
    text = word.replace("'", "''").replace('"', '""')
    return text if word and not re.search(r"[\s']", word) else f"'{text}'"


def _condor_context(self: BatchSystemLauncher, n: int) -> dict[str, Any]:
    all = [*self.program, *self.program_args]
    return {"program_path": all[0], "condor_args": " ".join(map(_condor_word, all[1:])), **BatchSystemLauncher._context(self, n)}


HTCondorLauncher._context = _condor_context  # type: ignore[method-assign]
HTCondorControllerLauncher, HTCondorEngineSetLauncher = _batch_pair(
    HTCondorLauncher, "HTCondor", ("htcondor_controller", "htcondor_engines"), (_CONDOR.format(""), _CONDOR.format("{n}")))
