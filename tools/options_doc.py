# SPDX-License-Identifier: BSD-3-Clause
"""Writes what the documents say about options and settings, from what the programs say (`--help-all=json`).

    python tools/options_doc.py [--check]

docs/configuration.md: its reference; docs/man/*.1.md: their OPTIONS; docs/differences.md: what has no effect. Only what is
between `<!-- NAME: from the programs -->` and `<!-- end -->` is written. --check writes nothing and exits 1 if something would
change. COVEY_BIN names the folder of the programs, if they are not installed.
"""
from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from covey._programs import program_argv

DOCS = Path(__file__).resolve().parent.parent / "docs"
VERBS = ("start", "engines", "stop", "list", "clean")
LINES = [{"name": "Class.trait", "short": "", "metavar": "VALUE", "ignored": False, "help": "any setting of the config files"},
         {"name": "help", "short": "h", "metavar": None, "ignored": False, "help": "this text"},
         {"name": "help-all", "short": "", "metavar": None, "ignored": False,
          "help": "the same and all settings; `--help-all=config`: as a config file, `--help-all=json`: for programs"},
         {"name": "version", "short": "V", "metavar": None, "ignored": False, "help": "the version"}]


def describe(program: str, *verb: str) -> dict[str, Any]:
    """What a program says about itself."""
    done = subprocess.run([*program_argv(program), *verb, "--help-all=json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def option(row: dict[str, Any]) -> str:
    """`-n, --n=N`."""
    short = f"-{row['short']}, " if row["short"] else ""
    return f"{short}--{row['name']}" + (f"={row['metavar']}" if row["metavar"] else "")


def man_entries(rows: list[dict[str, Any]]) -> str:
    """The definition list of options that have an effect."""
    return "\n".join(f"**{option(r)}**\n: {r['help'][:1].upper()}{r['help'][1:]}\n" for r in rows if not r["ignored"])


def man_pages() -> dict[Path, dict[str, str]]:
    """{page: {section: text}} of the man pages."""
    pages = {DOCS / "man" / f"{p}.1.md": {"options": man_entries([*describe(p)["options"], *LINES])} for p in ("ipcontroller", "ipengine")}
    verbs = {v: describe("ipcluster", v) for v in VERBS}
    names = [{r["name"] for r in d["options"]} for d in verbs.values()]
    common = set.intersection(*names)
    text = ""
    for verb, said in verbs.items():
        description = re.sub(r"\s+", " ", said["description"])
        text += f"### ipcluster {verb}\n\n{description}\n\n" + man_entries([r for r in said["options"] if r["name"] not in common]) + "\n"
    text += "### Of every verb\n\n" + man_entries([*(r for r in verbs["list"]["options"] if r["name"] in common), *LINES])
    pages[DOCS / "man" / "ipcluster.1.md"] = {"options": text}
    return pages


def cell(text: str) -> str:
    """Text inside a table."""
    return text.replace("|", "\\|")


def reference(programs: list[dict[str, Any]]) -> str:
    """All settings of all programs, a table for each class."""
    text = ""
    for said in programs:
        aliases: dict[tuple[str, str], list[str]] = {}
        for row in said["options"]:
            if row["class"]:
                aliases.setdefault((row["class"], row["trait"]), []).append(option(row))
        text += f"## {said['app']}_config.py\n\n"
        rows = [r for r in said["settings"] if not r["no_effect"]]
        for name in dict.fromkeys(r["class"] for r in rows if not r["line_only"]):
            text += f"### {name}\n\n| setting | type | default | what it does | option |\n| --- | --- | --- | --- | --- |\n"
            for r in (r for r in rows if r["class"] == name and not r["line_only"]):
                default = f"`{cell(r['default'])}`" if r["default"] else ""
                options = ", ".join(f"`{cell(a)}`" for a in aliases.get((name, r["name"]), []))
                text += f"| `c.{name}.{r['name']}` | {r['type']} | {default} | {cell(r['help'])} | {options} |\n"
            text += "\n"
    return text


def without_effect(programs: list[dict[str, Any]]) -> str:
    """Settings and options that are accepted and do nothing, by reason."""
    text = "| program | setting or option | reason |\n| --- | --- | --- |\n"
    for said in programs:
        reasons: dict[str, list[str]] = {}
        for r in said["settings"]:
            if r["no_effect"]:
                reasons.setdefault(r["no_effect"], []).append(f"`{r['class']}.{r['name']}`")
        for r in said["options"]:
            if r["ignored"]:
                reasons.setdefault(r["help"], []).append(f"`--{r['name']}`")
        for reason, names in reasons.items():
            text += f"| {said['app']} | {', '.join(names)} | {reason} |\n"
    return text


def former(programs: list[dict[str, Any]]) -> str:
    """Names of former times and today's."""
    text = "| former name | today's |\n| --- | --- |\n"
    for r in programs[0]["renamed"]:
        text += f"| `{r['class']}.{r['name'] or '*'}` | `{r['to_class']}.{r['to_name'] or r['name'] or '*'}` |\n"
    return text


def merged(app: str) -> dict[str, Any]:
    """ipcluster with the options of all verbs."""
    said = [describe(app, v) for v in VERBS]
    rows = {r["name"] + r["short"] + str(r["class"]): r for d in said for r in d["options"]}
    return {**said[0], "options": list(rows.values())}


def fill(text: str, parts: dict[str, str], path: Path) -> str:
    """A document with its generated parts."""
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- {name}: from the programs -->\n).*?(<!-- end -->)", re.S)
        if not pattern.search(text):
            sys.exit(f"{path} has no place for {name}")
        text = pattern.sub(lambda m, part=part: f"{m[1]}\n{part.rstrip()}\n\n{m[2]}", text)
    return text


def main() -> int:
    """The command; the exit code."""
    programs = [merged("ipcluster"), describe("ipcontroller"), describe("ipengine")]
    pages = man_pages()
    pages[DOCS / "configuration.md"] = {"reference": reference(programs), "former": former(programs)}
    pages[DOCS / "differences.md"] = {"no effect": without_effect(programs)}
    stale = 0
    for path, parts in pages.items():
        old = path.read_text()
        new = fill(old, parts, path)
        if old == new:
            continue
        stale += 1
        if "--check" in sys.argv:
            print(f"{path} is not what the programs say: run python tools/options_doc.py")
        else:
            path.write_text(new)
            print(f"written: {path}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
