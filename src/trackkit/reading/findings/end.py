"""Findings in how a run began and ended: crashes, seams of resumed trainings, code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np

from trackkit.engine.records import Row
from trackkit.local_log.reader import last_rows
from trackkit.local_log.regular import regular
from trackkit.reading.columns import plain
from trackkit.reading.curves import Floats
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.finding import Finding
from trackkit.record.git import read_git
from trackkit.session.last_words import LAST_WORDS


def crash(run: Evidence) -> Iterator[Finding]:
    """Finds a training that failed. Rule: its status."""
    if run.run.status not in ("failed", "damaged", "preempted"):
        return
    error = str(run.run.summary.get("final/error") or run.run.run.get("error") or "")
    if run.run.status == "preempted":
        text = f"The job was ended from outside (preempted) after step {run.steps:.0f}."
        yield Finding(
            "preempted",
            "medium",
            text,
            "final/status",
            (run.steps, run.steps),
            advice="Resume from the last checkpoint.",
        )
        return
    memory = "out of memory" in error.lower() or "outofmemory" in error.lower()
    advice = (
        "Use a smaller batch with accumulation, activation checkpointing, or lower precision."
        if memory
        else f"Read the traceback in `{LAST_WORDS}` of the run folder."
        if error
        else "No error was recorded: the program caught it, or the process was killed (out of memory?). Read the "
        "console's last lines."
    )
    text = f"Training crashed after step {run.steps:.0f}{f': {error}' if error else ''}."
    yield Finding("crash", "high", text, "final/error", (run.steps, run.steps), advice=advice)


def resume_seam(run: Evidence) -> Iterator[Finding]:
    """Finds where a training was resumed, and whether the curves fit together.

    Rule: the median loss of the five rows after a seam is above that of the five before by 5 times the noise and by 20%
    (or above by a fifth of what had been gained): medium, high from half; or the learning rate jumps to twice or half.
    Low where all fits.
    """
    rows = [row for row in run.run.rows if row.tier == "batch"]
    attempts = sorted({row.attempt for row in rows})
    for before, after in pairwise(attempts):
        old, new = ([row for row in rows if row.attempt == attempt] for attempt in (before, after))
        seam = new[0].step
        kept = [row for row in old if row.step < seam]
        repeated = max(0, old[-1].step - seam + 1)
        a, b = (_losses(part) for part in (kept[-5:], new[:5]))
        text = f"The training was resumed at step {seam}; steps trained twice: {repeated}"
        severity, why = "low", ", and the curves fit together"
        gap = max(0, seam - 1 - old[-1].step) if not repeated else 0
        if len(a) and len(b):
            jump = float(np.median(b) - np.median(a))
            gained = max(run.course.start - float(np.median(a)), 1e-12)
            spread = 5 * max(float(np.std(a)), run.course.noise)
            if jump > max(spread, 0.2 * abs(float(np.median(a)))) and jump > 0.1 * gained:
                severity = "high" if jump > 0.5 * gained else "medium"
                why = f", and the loss jumped there from {plain(float(np.median(a)))} to {plain(float(np.median(b)))}"
        rates = [[row.values["batch/lr"] for row in part if "batch/lr" in row.values] for part in (kept[-1:], new[:1])]
        if severity == "low" and all(rates) and min(rates[0][0], rates[1][0]) > 0:
            ratio = rates[1][0] / rates[0][0]
            if not 0.5 <= ratio <= 2:
                severity, why = (
                    "medium",
                    f", and the learning rate changed there from {plain(rates[0][0])} to {plain(rates[1][0])}",
                )
        if gap > 2 * _spacing(old):
            severity, why = "medium", f", and {gap} steps before it are missing"
        yield Finding(
            "resume_seam",
            severity,  # type: ignore[arg-type]
            f"{text}{why}.",
            "batch/loss",
            (float(seam), float(old[-1].step)) if repeated else (float(seam), float(seam)),
            0.9,
            ""
            if severity == "low"
            else "Did the checkpoint restore the optimizer, the scheduler and the order of the data, and are "
            "data, labels and settings the same?",
        )


def code(run: Evidence) -> Iterator[Finding]:
    """Finds code that can't be had again, or that has changed since.

    Rule: git knew files with changes that were not committed; or the repository around the working directory, if it is
    the run's, has another commit checked out. Low.
    """
    commit = str(run.config.get("git/commit") or "")
    if run.config.get("git/dirty"):
        text = f"The code had changes that are not committed (on top of {commit[:7]})."
        yield Finding("dirty_code", "low", text, "git/dirty", advice="Commit before training.")
    elif commit and (now := _checked_out(run)) not in ("", commit):
        text = f"The code has changed since: it ran at {commit[:7]}, and {now[:7]} is checked out now."
        yield Finding("outdated_code", "low", text, "git/commit", confidence=0.7)


def _checked_out(run: Evidence) -> str:
    """Returns the commit that is checked out here; "" outside of the run's repository."""
    state = read_git(Path.cwd())
    if state is None:
        return ""
    remote, folder = run.config.get("git/remote"), run.run.folder
    same = bool(remote) and remote == state.remote
    return state.commit if same or (folder is not None and folder.is_relative_to(state.root)) else ""


def last_words(run: Evidence, most: int = 30) -> list[str]:
    """Returns the end of a failed run's traceback, and its last rows; masked when they were written."""
    if run.run.folder is None:
        return []
    with suppress(OSError):
        path = regular(run.run.folder / LAST_WORDS)
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[:most]
    return last_rows(run.run.folder, 3)


def _losses(rows: Sequence[Row]) -> Floats:
    values = [row.values.get("batch/loss") for row in rows]
    found = np.array([value for value in values if isinstance(value, (int, float))], dtype=float)
    return np.asarray(found[np.isfinite(found)], dtype=float)


def _spacing(rows: Sequence[Row]) -> float:
    steps = [row.step for row in rows]
    return float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
