"""The man pages name the options that the programs show; links lead somewhere; the guide's code runs; api.md is what the docstrings say."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from covey._programs import program_argv

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "docs" / "man"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = ("start", "stop", "engines", "list", "clean")
MODULES = ("doctor", "tunnel")  # verbs that are Python modules


def shown(*command):
    """Options of a program's --help, as they begin its lines: {"--port", "-n" …}."""
    done = subprocess.run([*program_argv(command[0]), *command[1:], "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^ {2,6}((?:-\w, )?--[\w.-]+)", done.stdout.split("\nOptions [")[1], re.M)
    return {word for line in lines for word in line.split(", ")}


def named(text):
    """Options that a man page explains: those that begin an entry, **-n, --n=N**."""
    return {re.split("[=[]", word)[0] for entry in re.findall(r"^\*\*(-.+?)\*\*$", text, re.M) for word in entry.split(", ")}


def section(text, title):
    return text.split(f"\n### {title}\n")[1].split("\n### ")[0].split("\n## ")[0]


@pytest.mark.parametrize("program", ["ipcontroller", "ipengine"])
def test_man_page_has_the_options(program):
    assert named((MAN / f"{program}.1.md").read_text()) == shown(program)


@pytest.mark.parametrize("verb", VERBS)
def test_man_page_of_ipcluster_has_the_options_of_each_verb(verb):
    page = (MAN / "ipcluster.1.md").read_text()
    assert named(section(page, f"ipcluster {verb}")) | named(section(page, "Of every verb")) == shown("ipcluster", verb)


def test_man_page_of_ipcluster_has_the_verbs():
    page = (MAN / "ipcluster.1.md").read_text()
    assert all(f"**ipcluster** **{verb}**" in page for verb in (*VERBS, *MODULES))
    help_text = subprocess.run([*program_argv("ipcluster"), "--help"], capture_output=True, text=True, timeout=60).stdout
    assert set(re.findall(r"^  (\w+) {2,}", help_text, re.M)) == {*VERBS, *MODULES}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.S)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    gone = [link for link in links if not re.match(r"[a-z]+:|#", link) and not (document.parent / link.split("#")[0]).exists()]
    assert not gone, f"{document.name}: {gone}"


# ---- the guide

GUIDE = ["tutorial", "direct", "balanced", "results", "magics", "clusters", "travel", "errors", "debugging", "coming-from", "security"]
RUNNER = """
import json, subprocess, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
c = Config(); c.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=c)
for kind, source in json.load(open(sys.argv[1])):
    if kind == 'sh':
        subprocess.run(['bash', '-ec', source], check=True)
        continue
    result = shell.run_cell(source)
    if not result.success:
        sys.exit('in this block:\\n' + source)
"""


@pytest.mark.parametrize("page", GUIDE)
def test_code_of_the_guide(page, ipython_dir, tmp_path):
    """The blocks of a page, Python as IPython runs it and shell, one after the other in one session."""
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```", (ROOT / "docs" / f"{page}.md").read_text(), re.S | re.M)
    assert blocks, f"docs/{page}.md shows no code"
    (tmp_path / "blocks.json").write_text(json.dumps(blocks))
    env = dict(ipython_dir, PATH=f"{os.path.dirname(sys.executable)}:{ipython_dir['PATH']}")
    done = subprocess.run([sys.executable, "-c", RUNNER, tmp_path / "blocks.json"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_that_shows_code_is_run():
    """configuration.md shows config files; what is in it comes from the programs (test_commands.py)."""
    shows = {p.stem for p in (ROOT / "docs").glob("*.md") if "```python" in p.read_text() or "```sh" in p.read_text()}
    assert shows - {"configuration"} == set(GUIDE)


def test_the_index_names_every_page():
    text = (ROOT / "docs" / "README.md").read_text()
    assert not [p.name for p in (ROOT / "docs").glob("*.md") if p.name != "README.md" and f"({p.name})" not in text]


def test_api_page():
    done = subprocess.run([sys.executable, ROOT / "tools" / "api_doc.py", "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
