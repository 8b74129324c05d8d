"""A digest as Markdown of at most 1,500 words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from trackkit.reading.columns import plain
from trackkit.reading.digest import Digest, verdict
from trackkit.reading.findings.finding import Finding
from trackkit.reading.findings.registry import DETECTORS
from trackkit.reading.markdown import code, inline, table
from trackkit.reading.text_table import visible

MOST_WORDS = 1500
_LONGEST = 160


def markdown(of: Digest) -> str:
    """Returns a digest as Markdown of at most 1,500 words; the least important parts are left out first."""
    known = of.facts
    title = f"# {inline(str(known.get('name') or known.get('id', 'run')))} ({inline(str(known.get('id', '')))})"
    head = [title, "", verdict(of), "", *_findings(of.findings)]
    parts = [_about(known), _settings(of), _results_table(of), _curve_table(of), _time_list(of.time)]
    parts += [_block("What the run left behind", of.last_words), _block("Last lines printed", of.console)]
    # From the end: what is printed last is the first to go.
    kept = [part for part in parts if part]
    while kept and _words("\n".join(chain(head, *kept))) > MOST_WORDS:
        kept.pop()
    text = "\n".join(chain(head, *kept))
    return " ".join(text.split(" ")[:MOST_WORDS]) + "\n" if _words(text) > MOST_WORDS else text + "\n"


def _findings(found: Sequence[Finding]) -> list[str]:
    lines = ["## Findings", ""]
    if not found:
        return [*lines, f"None: {len(DETECTORS)} detectors looked for what goes wrong in trainings.", ""]
    for number, each in enumerate(found[:12], 1):
        where = inline(code(each.key)) if each.key else ""
        if each.steps is not None:
            first, last = each.steps
            where += f", step {first:.0f}" if first == last else f", steps {first:.0f} to {last:.0f}"
        lines.append(f"{number}. **{each.rule}** ({each.severity}): {inline(each.text)}")
        lines.append(f"   Evidence: {where or 'the run as a whole'}; confidence {each.confidence:.0%}.")
        lines += [f"   Try: {inline(each.advice)}"] if each.advice else []
    return [*lines, ""]


def _about(known: Mapping[str, Any]) -> list[str]:
    names = ("framework", "project", "group", "tags", "commit", "host", "cost", "notes", "folder")
    lines = [f"- {name}: {inline(plain(known[name]))}" for name in names if known.get(name)]
    return ["## The run", "", *lines, ""] if lines else []


def _settings(of: Digest) -> list[str]:
    lines: list[str] = []
    if of.deviations:
        rows = [[code(name), plain(a), plain(b), what] for name, (a, what, b) in of.deviations.items()]
        lines += ["## What is unlike", "", *_table(["setting", "this run", "other", "compared with"], rows), ""]
    if of.config:
        rows = [[code(name), plain(value)] for name, value in of.config.items()]
        lines += ["## Settings", "", *_table(["setting", "value"], rows), ""]
    return lines


def _results_table(of: Digest) -> list[str]:
    if not of.results:
        return []
    rows = [[code(name), *map(plain, values)] for name, values in of.results.items()]
    return ["## Results", "", *_table(["metric", "last", "best", "at step"], rows), ""]


def _curve_table(of: Digest) -> list[str]:
    if not of.curves:
        return ["## Curves", "", "No rows were recorded.", ""]
    cells = zip(*([_cell(value) for value in values] for values in of.curves.values()), strict=True)
    rows = [[f"{step:.0f}", *values] for step, values in zip(of.steps, cells, strict=True)]
    note = "Steps are log-spaced, with those where something changed. `batch/*` is the mean since the row above."
    return ["## Curves", "", note, "", *_table(["step", *map(code, of.curves)], rows), ""]


def _time_list(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"- {name}: {f'{value:.0%}' if name.startswith('share') else inline(plain(value))}"
        for name, value in found.items()
    ]
    return ["## Time and memory", "", *lines, ""] if lines else []


def _block(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    # Indented code needs no fence that a line could close.
    return [f"## {title}", "", *(f"    {visible(line)[:_LONGEST]}" for line in lines), ""]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = ([inline(cell)[:_LONGEST] for cell in line] for line in (headings, *rows))
    return table(head, body)


def _cell(value: float) -> str:
    return "" if math.isnan(value) else plain(value)


def _words(text: str) -> int:
    return len(text.split())
