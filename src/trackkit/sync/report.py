"""Reports what a sync found."""

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
        reason: why it is not complete; for a complete run, remarks.
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
    def is_verified(self) -> bool:
        """Whether all of the run is on the server."""
        return self.verdict in ("complete", "unchanged")


def report(
    source: Source, server: ServerRun, found: Lacking, checkpoints: tuple[int, int] = (0, 0), trouble: str = ""
) -> Report:
    """Judges a run by what the server still lacks after the upload.

    Args:
        source, server, found: the run here, there, and what is lacking.
        checkpoints: how many are committed, and how many should be.
        trouble: what is wrong with them; "" if nothing is.
    """
    rows, absent = source.expected, {cell for row in found.rows for cell, _ in cells(row)}
    missing = len(_touched(rows, absent | found.differing))
    artifacts = {digest: name for file in source.files for digest, (name, _) in file.artifacts.items()}
    pending = [f"'{name}' is {server.artifacts.get(key, 'absent')}" for key, name in found.artifacts.items()]
    there, wanted = checkpoints
    gaps = source.local.gaps if source.local is not None else ()
    troubles = {
        f"{', '.join(map(str, gaps))} could not be recorded and are lost": gaps,
        f"{_named(rows, absent)} are not on the server yet; run the same command again later": absent,
        f"{_named(rows, found.differing)} have other values on the server, which W&B can't replace": found.differing,
        f"{_named(rows, found.doubled)} are on the server more than once": found.doubled,
        f"the summary lacks {', '.join(sorted(found.summary)[:5])}": found.summary,
        f"the config lacks {', '.join(sorted(found.config)[:5])}": found.config,
        "the server does not show the run as ended yet; run the same command again later": found.ends,
        f"artifacts are not committed: {', '.join(pending)}; put their files back where they were logged": pending,
        trouble: trouble,
    }
    reasons = [text for text, trouble in troubles.items() if trouble]
    later = "the server has rows of a later attempt, recorded elsewhere: its summary and its end were kept"
    return Report(
        source.target,
        "incomplete" if reasons else "complete",
        "; ".join(reasons + [later] * found.is_later),
        rows=len(rows),
        present=len(rows) - missing,
        missing=missing,
        summary="missing" if found.summary else "ok",
        config="missing" if found.config else "ok",
        artifacts=f"{len(artifacts) - len(pending) + there}/{len(artifacts) + wanted}"
        if artifacts or wanted
        else "none",
        url=server.url,
    )


def _touched(rows: Sequence[Row], wrong: AbstractSet[Cell]) -> list[Row]:
    """Returns the rows with a value at one of these cells."""
    return [row for row in rows if any(cell in wrong for cell, _ in cells(row))] if wrong else []


def _named(rows: Sequence[Row], wrong: AbstractSet[Cell]) -> str:
    named = _touched(rows, wrong)
    places = ", ".join(f"{row.tier}/step {row.step}" for row in named[:3])
    return f"{len(named)} rows ({places}{' ...' if len(named) > 3 else ''})"
