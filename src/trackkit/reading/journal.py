"""`JOURNAL.md`: why each run was made and what came of it, beside the code; each run's notes link back to its entry."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from trackkit.local_log.notes import add_note
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError
from trackkit.reading.collection import Runs
from trackkit.reading.columns import columns, duration, facts, plain
from trackkit.reading.markdown import inline, table
from trackkit.record.git import read_git
from trackkit.redaction.patterns import mask

NAME = "JOURNAL.md"
_TITLE = "# Journal\n"
_ASK = "_Why were these runs made, and what came of it?_"
# More settings than these make no table.
_MOST_SETTINGS = 6
_LONGEST = 200


def journal_path() -> Path:
    """Returns where the journal is: in the top folder of the git repository around the working directory, or there."""
    state = read_git(Path.cwd())
    return (state.root if state is not None else Path.cwd()) / NAME


def add_entry(path: Path, run: RecordedRun, text: str) -> None:
    """Appends an entry on a run: its figures, and what the user says of it.

    Args:
        path: of the journal; it is made if it does not exist.
        run: the run; one on a server gets no link back.
        text: why it was made, what happened.

    Raises:
        ReadError: the journal can't be written, or the run is still being written.
    """
    if not text.strip():
        raise ReadError("the entry is empty: say why the run was made, or what happened")
    heading = f"{datetime.now():%Y-%m-%d} {_inline(run.name or run.run_id)} ({run.run_id})"
    _append(path, f"\n## {heading}\n\n{_figures(run)}\n\n{mask(text.strip())}\n")
    _link(path, run, heading)


def add_stubs(path: Path, runs: Runs) -> list[str]:
    """Appends a section with the figures of each group that has ended and is not in the journal.

    What is in the journal is never changed.

    Returns:
        The names of the groups that were added.

    Raises:
        ReadError: the journal can't be read or written.
    """
    written = _read(path)
    added = []
    for group, members in runs.group("group").items():
        mark = f"<!-- trackkit group: {_inline(str(group)).replace('--', '- -')} -->"
        ended = all(run.status != "running" for run in members)
        if group is None or not ended or mark in written:
            continue
        heading = f"Group {_inline(str(group))} ({len(members)} run{'s' * (len(members) != 1)})"
        _append(path, f"\n## {heading}\n{mark}\n\n{_table(members)}\n\n{_ASK}\n")
        added.append(_inline(str(group)))
        for run in members:
            _link(path, run, heading)
    return added


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ReadError(f"cannot read the journal '{path}': {error.strerror or error}") from error


def _figures(run: RecordedRun) -> str:
    known = facts(run)
    parts = [f"**{known['status']}**"]
    if "steps" in known:
        parts.append(f"{known['steps']} steps")
    if "duration_h" in known:
        parts.append(duration(known["duration_h"]))
    if "best" in known:
        key = known["best_key"]
        parts.append(
            f"best {key.removeprefix('final/best/')} {plain(known['best'])} at step {plain(run.summary[f'{key}_step'])}"
        )
    parts += [f"${known['cost']:.2f}"] if "cost" in known else []
    parts += [f"commit {known['commit']}"] if "commit" in known else []
    return ", ".join(map(_inline, parts)) + (f". Error: {_inline(str(known['error']))}" if "error" in known else "")


def _table(runs: Runs) -> str:
    """Returns a group as a Markdown table: the hyperparameters that differ, and the results."""
    rows = [columns(run) for run in runs]
    settings = sorted({key for row in rows for key in row if key.startswith(("hparams/", "optim/lr"))})
    differ = [key for key in settings if len({plain(row.get(key)) for row in rows}) > 1][:_MOST_SETTINGS]
    best = next((row["best_key"] for row in rows if "best_key" in row), None)
    shown = ["id", "status", *differ, "steps", *([best] if best else [])]
    rows_shown = [[_inline(plain(row.get(key))) for key in shown] for row in rows]
    return "\n".join(table(list(map(_inline, shown)), rows_shown))


def _inline(text: str) -> str:
    """Returns a text on one short line that is neither code nor HTML."""
    safe = inline(text).replace("`", "'")
    return safe if len(safe) <= _LONGEST else f"{safe[:_LONGEST]}..."


def _append(path: Path, text: str) -> None:
    """Appends in one write, so that entries of several processes stay whole."""
    try:
        new = not path.exists() or path.stat().st_size == 0
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(file, ((_TITLE if new else "") + text).encode(errors="replace"))
        finally:
            os.close(file)
    except OSError as error:
        raise ReadError(f"cannot write the journal '{path}': {error.strerror or error}") from error


def _link(path: Path, run: RecordedRun, heading: str) -> None:
    if run.folder is not None:
        add_note(run, run.folder, f"{path.name}: {heading}")
