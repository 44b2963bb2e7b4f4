# SPDX-License-Identifier: BSD-3-Clause
"""Tables from a run's JSON: covey beside its peers, a run beside an earlier one, the README's few lines."""
import re

from rows import PEERS, ROWS, TASKS, floor_met, times_better

NOISE = 0.10  # what a figure may differ from an earlier run's without a mark
README_ROWS = ("start_16", "many", "map", "balanced", "execute_all_16", "push_one", "push_all_2", "memory_16")
BEGIN, END = "<!-- figures of docs/bench.json, written by `make bench-record` -->", "<!-- end of figures -->"


def number(x):
    """Three digits that count: 0.283, 4.06, 63.1, 24,000."""
    if x is None:
        return "–"
    if abs(x) >= 1000:
        digits = len(str(int(abs(x)))) - 3
        return f"{round(x, -digits):,.0f}"
    return f"{x:.3g}"


def shown(run, who, row):
    """A row's figure in the unit in which it is shown, or None."""
    rows = run["values"].get(who, {})
    figure = rows.get(row.id) or (rows.get(row.theirs) if who != "covey" else None)
    return figure and figure["value"] * row.scale


def floors(run, row):
    """[(met or None, sentence)] of a row's floors."""
    ours = shown(run, "covey", row)
    if ours is None:
        return []
    peers = {who: shown(run, who, row) for who in PEERS}
    return [floor_met(row, floor, ours, peers) for floor in row.floors]


def head(run):
    m, versions = run["machine"], run["versions"]
    return [f"{m['cores']} × {m['cpu']}, {m['memory_gib']:g} GiB, Linux {m['kernel']}, load {m['load']:g}, {m['at']}",
            ", ".join(f"{who} {v}" for who, v in versions.items()) + f"; median of {run['rounds']} rounds" + (", quick" if run["quick"] else "")]


MARK = {True: "✓", False: "✗ short", None: "? not measured"}


def table(run):
    """The lines of the table of one run."""
    peers = [p for p in PEERS if p in run["versions"]]
    lines = head(run)
    for group in dict.fromkeys(row.group for row in ROWS):
        rows = [row for row in ROWS if row.group == group and shown(run, "covey", row) is not None]
        if rows:
            lines += ["", f"{group:<42}{'covey':>11}" + "".join(f"{p:>11}{'×':>7}" for p in peers) + "   floor"]
        for row in rows:
            ours = shown(run, "covey", row)
            line = f"{row.label + ', ' + row.unit:<42}{number(ours):>11}"
            for peer in peers:
                theirs = shown(run, peer, row)
                line += f"{number(theirs):>11}{number(times_better(row, ours, theirs)):>7}"
            lines.append((line + "   " + ", ".join(text if run["quick"] else f"{text} {MARK[met]}" for met, text in floors(run, row))).rstrip())
    return [*lines, "", verdict(run), *(f"failed: {f}" for f in run["failures"])]


def verdict(run):
    """How many floors are reached, in one line."""
    if run["quick"]:
        return "a quick run: floors are not judged"
    marks = [met for row in ROWS for met, _ in floors(run, row)]
    return f"{marks.count(True)} floors reached, {marks.count(False)} missed" + (f", {marks.count(None)} without their peer" if None in marks else "")


def against(run, before):
    """The lines of a table of covey now and in an earlier run. What is more than 10 % worse is marked: by its ratio to stock
    where both runs have that, for this leaves the machine's mood out."""
    same = all(run["machine"][k] == before["machine"][k] for k in ("cpu", "cores")) and run["quick"] == before["quick"]
    lines = [f"{'covey against ' + before['machine']['at']:<42}{'then':>11}{'now':>11}{'change':>9}"]
    if not same:
        lines.append("(another machine or size of run: only the ratios to stock, in brackets, are judged)")
    for row in ROWS:
        now, then = shown(run, "covey", row), shown(before, "covey", row)
        better = times_better(row, now, then)
        if better is None:
            continue
        line = f"{row.label + ', ' + row.unit:<42}{number(then):>11}{number(now):>11}{100 * (now / then - 1):>+8.0f}%"
        ratios = [times_better(row, shown(r, "covey", row), shown(r, "stock", row)) for r in (before, run)]
        if None not in ratios:
            line += f"  ({number(ratios[0])} × → {number(ratios[1])} × stock)"
            better = ratios[1] / ratios[0]
        elif not same:
            better = 1
        lines.append(line + ("  WORSE" if better < 1 - NOISE else ""))
    return lines


def readme_block(run):
    """The README's table: a few rows beside stock."""
    m = run["machine"]
    lines = [f"Measured on {m['cores']} cores ({m['cpu']}), all in one run of `make bench`; [docs/performance.md](docs/performance.md) has the rest:",
             "", f"| | covey | ipyparallel {run['versions'].get('stock', '')} | |", "| --- | --- | --- | --- |"]
    for row in (row for id in README_ROWS for row in ROWS if row.id == id):
        ours, theirs = shown(run, "covey", row), shown(run, "stock", row)
        if ours and theirs:
            label = row.label + (", 2 engines" if row.n == 2 and row.group == TASKS else "")
            lines.append(f"| {label} | {number(ours)} {row.unit} | {number(theirs)} {row.unit} | {number(times_better(row, ours, theirs))} × |")
    return lines


def full_block(run):
    """docs/performance.md's table: every row, every peer, in brackets how many times better covey is, and the floors."""
    peers = [p for p in PEERS if p in run["versions"]]
    lines = [f"{line}." if i else f"{line}:" for i, line in enumerate(head(run))]
    lines += ["", "| | covey | " + " | ".join(peers) + " | floor |", "| --- |" + " --- |" * (len(peers) + 2)]
    for row in ROWS:
        ours = shown(run, "covey", row)
        if ours is None:
            continue
        cells = [f"{row.label}, {row.unit}", number(ours)]
        for peer in peers:
            theirs = shown(run, peer, row)
            cells.append(f"{number(theirs)} ({number(times_better(row, ours, theirs))} ×)" if theirs else "")
        cells.append(", ".join(text if run["quick"] else f"{text} {MARK[met]}" for met, text in floors(run, row)))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", verdict(run)[0].upper() + verdict(run)[1:] + "."]


PAGES = {"README.md": readme_block, "docs/performance.md": full_block}  # the pages that show a run's figures


def renewed(text, page, run):
    """A page's text with its figures replaced by a run's. ValueError: it has no place for them."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    block = "\n".join([BEGIN, *PAGES[page](run), END])
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: block, text, flags=re.S)
