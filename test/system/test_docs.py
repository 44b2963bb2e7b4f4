"""The man pages name the options that the programs show; links between the documents lead somewhere."""
import re
import subprocess
from pathlib import Path

import pytest

from covey._programs import program_argv

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "docs" / "man"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = ("start", "stop", "engines", "list", "clean")


def shown(*command):
    """Options of a program's --help, as they begin its lines: {"--port", "-n" …}."""
    done = subprocess.run([*program_argv(command[0]), *command[1:], "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^ {2,6}((?:-\w, )?--[\w.-]+)", done.stdout.split("\nOptions:\n")[1], re.M)
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
    help_text = subprocess.run([*program_argv("ipcluster"), "--help"], capture_output=True, text=True, timeout=30).stdout
    assert set(re.findall(r"^  (\w+) {2,}", help_text, re.M)) == set(VERBS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.S)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    gone = [link for link in links if not re.match(r"[a-z]+:|#", link) and not (document.parent / link.split("#")[0]).exists()]
    assert not gone, f"{document.name}: {gone}"
