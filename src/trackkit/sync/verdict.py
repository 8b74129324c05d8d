"""What a server has of a run, against what it should have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.integrations.wandb.files import RunFile
from trackkit.local_log.reader import RecordedRun
from trackkit.sync.compare import Expected, compare, expected_rows, lacking_columns
from trackkit.sync.server_run import ServerRun
from trackkit.sync.target import Target

# What W&B keeps of a run's console output.
MOST_LINES = 100_000
_ELSEWHERE = "the server has rows of a later pass: the run went on in another folder, and nothing is sent from this one"


@dataclass
class Report:
    """What a sync found.

    Attributes:
        target: the run.
        verdict: `complete`, `unchanged` (verified before), `running`, `skipped`, `superseded` (the run went on in a
            copy of the folder), `incomplete` or `failed`.
        reason: why it is not complete; else what there is to know.
        rows, present, missing, twice: of the local log; on the server; not there; there more than once.
        summary, config, console, artifacts: whether each is there, in a word or two.
        url: of the run's page.
    """

    target: Target
    verdict: str = "failed"
    reason: str = ""
    rows: int = 0
    present: int = 0
    missing: int = 0
    twice: int = 0
    summary: str = "-"
    config: str = "-"
    console: str = "-"
    artifacts: str = "-"
    url: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is missing that could be there now."""
        return self.verdict in ("complete", "unchanged", "running", "skipped", "superseded")


def judge(target: Target, local: RecordedRun | None, files: Sequence[RunFile], server: ServerRun) -> Report:
    """Compares everything; without a local log the history of W&B's own files is what should be there."""
    report = Report(target, url=server.url)
    history = local.history if local else [_as_local(row) for file in files for row in file.rows]
    troubles = _rows(report, history, server)
    elsewhere = went_on_elsewhere(local, files, server)
    if not elsewhere:
        troubles += _columns(report, local, server) if local is not None else []
        troubles += _console(report, files, server)
    troubles += _artifacts(report, files, server)
    if troubles:
        report.verdict, report.reason = "incomplete", "; ".join([_ELSEWHERE] * elsewhere + troubles)
    else:
        report.verdict, report.reason = ("superseded", _ELSEWHERE) if elsewhere else ("complete", "")
    return report


def went_on_elsewhere(local: RecordedRun | None, files: Sequence[RunFile], server: ServerRun) -> bool:
    """Whether the server has rows later than all that is here: of a pass that another folder holds.

    How the run ended, and its summary, are that folder's to say.
    """
    here = [*(local.history if local else []), *(_as_local(row) for file in files for row in file.rows)]
    newest = max((float(row["_time"]) for row in here), default=0.0)
    places = {place for row in here for place in _places(row)}
    later = [row for row in server.rows if float(row.get("_timestamp") or 0.0) > newest]
    return any(_places(row) - places for row in later)


def _places(row: Mapping[str, Any]) -> set[tuple[str, Any]]:
    return {(axis, row[axis]) for axis in ("batch/step", "epoch/step") if axis in row}


def wanted_summary(local: RecordedRun) -> dict[str, Any]:
    """The columns that W&B must have; a run that ended without a word has at least its status."""
    status = str(local.run.get("status", "failed"))
    return {"final/status": "failed" if status == "running" else status, **local.summary}


def _rows(report: Report, history: Sequence[dict[str, Any]], server: ServerRun) -> list[str]:
    found = compare(expected_rows(history), server.rows)
    report.present, report.missing, report.twice = found.present, len(found.missing), len(found.twice)
    report.rows = found.present + len(found.missing)
    troubles = []
    if found.missing:
        troubles.append(
            f"{len(found.missing)} rows ({_steps(found.missing)}) are not on the server with their values, and W&B "
            "replaces none; the local log has them"
        )
    if found.twice:
        troubles.append(f"{len(found.twice)} rows ({_steps(found.twice)}) are there more than once")
    return troubles


def _columns(report: Report, local: RecordedRun, server: ServerRun) -> list[str]:
    lacking = {
        "summary": lacking_columns(wanted_summary(local), server.summary),
        "config": lacking_columns(local.config, server.config),
    }
    report.summary, report.config = ("missing" if columns else "ok" for columns in lacking.values())
    return [f"the {name} lacks {', '.join(sorted(keys)[:5])}" for name, keys in lacking.items() if keys]


def _console(report: Report, files: Sequence[RunFile], server: ServerRun) -> list[str]:
    printed = min(sum(file.console for file in files), MOST_LINES)
    if server.console >= printed:
        report.console = f"{server.console} lines" if printed else "none"
        return []
    report.console = f"{server.console} of {printed} lines" if server.console else "missing"
    return [f"{printed - server.console} of {printed} lines of console output are not there"]


def _artifacts(report: Report, files: Sequence[RunFile], server: ServerRun) -> list[str]:
    wanted = {digest: name for file in files for name, digest in file.artifacts}
    states = {name: server.artifacts.get(digest, "absent") for digest, name in wanted.items()}
    pending = [f"'{name}' is {state}" for name, state in states.items() if state != "COMMITTED"]
    report.artifacts = f"{len(wanted) - len(pending)}/{len(wanted)}" if wanted else "none"
    if not pending:
        return []
    return [f"artifacts must be COMMITTED: {', '.join(pending)}; their files must lie where they were when logged"]


def _steps(rows: Sequence[Expected]) -> str:
    named = [f"{row.axis} {row.step}" for row in rows[:3]]
    return ", ".join(named) + (" ..." if len(rows) > 3 else "")


def _as_local(row: dict[str, Any]) -> dict[str, Any]:
    return {"_time": row.get("_timestamp", 0.0), **{key: value for key, value in row.items() if key[0] != "_"}}
