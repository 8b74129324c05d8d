"""Pieces of Markdown that texts from runs can't break."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trackkit.reading.text_table import visible
from trackkit.redaction.patterns import mask

_BACKSLASH = chr(92)


def inline(text: str) -> str:
    """Returns a text on one line, with secrets masked, and without what Markdown viewers take for HTML."""
    return " ".join(visible(mask(text)).replace("<", "&lt;").split())


def code(name: str) -> str:
    """Returns a name as code."""
    return f"`{name.replace('`', chr(39))}`"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a table; its cells are texts on one line."""
    return [f"| {' | '.join(map(_escaped, line))} |" for line in (headings, ["---"] * len(headings), *rows)]


def _escaped(cell: str) -> str:
    return cell.replace(_BACKSLASH, 2 * _BACKSLASH).replace("|", f"{_BACKSLASH}|")
