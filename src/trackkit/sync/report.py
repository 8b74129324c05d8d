"""Says what a sync found."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from trackkit.engine.records import Row
from trackkit.sync.gather import Cell, Source, cells
from trackkit.sync.lacking import Lacking
from trackkit.sync.server_run import ServerRun
from trackkit.sync.targets import Target


@dataclass(frozen=True)
class Report:
    """What a sync found.

    Attributes:
        target: the run.
        verdict: `complete`, `unchanged` (verified before), `running`, `incomplete` or `failed`.
        reason: why it is not complete; else what there is to know.
        rows, present, missing: number of rows recorded here; of those on the server with their values; of the others.
        summary, config, artifacts: whether each is on the server, in a word.
        url: of the run's page.
    """

    target: Target
    verdict: str
    reason: str = ""
    rows: int = 0
    present: int = 0
    missing: int = 0
    summary: str = "-"
    config: str = "-"
    artifacts: str = "-"
    url: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing is missing that could be on the server now."""
        return self.verdict in ("complete", "unchanged", "running")


def report(source: Source, server: ServerRun, found: Lacking) -> Report:
    """Judges a run by what the server still lacks after the upload."""
    absent, differing, doubled = (
        _touched(source.expected, cells) for cells in (found.absent, found.differing, found.doubled)
    )
    missing = len(_touched(source.expected, found.absent | found.differing))
    artifacts = {digest: name for file in source.files for digest, (name, _) in file.artifacts.items()}
    pending = [f"'{name}' is {server.artifacts.get(key, 'absent')}" for key, name in found.artifacts.items()]
    troubles = {
        f"{len(absent)} rows ({_named(absent)}) are not on the server yet; run the same command again later": absent,
        f"{len(differing)} rows ({_named(differing)}) have other values on the server, and W&B can't replace them; "
        "yours are in the local log": differing,
        f"{len(doubled)} rows ({_named(doubled)}) are on the server more than once": doubled,
        f"the summary lacks {', '.join(sorted(found.summary)[:5])}": found.summary,
        f"the config lacks {', '.join(sorted(found.config)[:5])}": found.config,
        "the server has not noticed the run's end": found.ends,
        f"artifacts are not committed: {', '.join(pending)}; put their files back where they were logged": pending,
    }
    reasons = [text for text, trouble in troubles.items() if trouble]
    later = "the server has rows of a later attempt, recorded elsewhere: its summary and its end were kept"
    return Report(
        source.target,
        "incomplete" if reasons else "complete",
        "; ".join(reasons + [later] * found.is_later),
        rows=len(source.expected),
        present=len(source.expected) - missing,
        missing=missing,
        summary="missing" if found.summary else "ok",
        config="missing" if found.config else "ok",
        artifacts=f"{len(artifacts) - len(pending)}/{len(artifacts)}" if artifacts else "none",
        url=server.url,
    )


def _touched(rows: Sequence[Row], wrong: AbstractSet[Cell]) -> list[Row]:
    """Returns the rows with a value at one of these cells."""
    return [row for row in rows if any(cell in wrong for cell, _, _ in cells(row))] if wrong else []


def _named(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row.tier}/step {row.step}" for row in rows[:3]) + (" ..." if len(rows) > 3 else "")
