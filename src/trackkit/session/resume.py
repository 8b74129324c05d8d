"""Going on in a run: which one, and what it has already."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trackkit.engine.records import Row, Status, Tier
from trackkit.errors import ConfigError
from trackkit.local_log.owner import claim
from trackkit.local_log.reader import RUNS, finite_words, read_json
from trackkit.schema.keys import AXES


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a run has recorded before this process goes on with it.

    Attributes:
        root: the folder that its run folder lies in.
        rows: all rows of the local log, in order, every pass.
        marks: the pass of each row, from 1.
        passes: how many processes have written to it.
        summary: its columns so far.
        elapsed_h: hours of training in earlier passes.
        name: display name that it was given; "" where that is not known.
        started: Unix time in seconds; 0.0 where that is not known.
        exit_code: of its last process; None where that has not closed it.
    """

    root: Path
    rows: Sequence[Row] = ()
    marks: Sequence[int] = ()
    passes: int = 0
    summary: Mapping[str, Any] | None = None
    elapsed_h: float = 0.0
    name: str = ""
    started: float = 0.0
    exit_code: int | None = None

    def fit_ended(self) -> tuple[Status, int] | None:
        """How its last fit ended, and the exit code; None where there was none."""
        columns = self.summary or {}
        if "final/steps" in columns:
            status: Status = columns.get("final/status", "failed")
            failed = status in ("failed", "preempted")
            return status, int(failed) if self.exit_code is None else self.exit_code
        # A killed process leaves rows, and no end.
        return ("failed", 1) if any(row.tier == "batch" and row.step for row in self.rows) else None

    def latest(self) -> dict[str, int]:
        """Key to the highest step it has been recorded at: W&B can't replace history, so nothing below goes there."""
        steps: dict[str, int] = {}
        for row in self.rows:
            for key in row.values:
                steps[key] = max(row.step, steps.get(key, -1))
        return steps

    def first_takes(self) -> list[Row]:
        """The rows as W&B gets them: of a step that a later pass took again, only keys that no earlier one had."""
        before: dict[str, int] = {}
        highest: dict[str, int] = {}
        rows, current = list[Row](), 1
        for mark, row in zip(self.marks, self.rows, strict=True):
            if mark != current:
                current, before = mark, dict(highest)
            values = {key: value for key, value in row.values.items() if row.step > before.get(key, -1)}
            if values.keys() - AXES:
                axes = {key: row.values[key] for key in AXES if key in row.values}
                rows.append(replace(row, values={**axes, **values}))
            highest.update({key: max(row.step, highest.get(key, -1)) for key in row.values})
        return rows

    def up_to(self, step: int) -> list[Row]:
        """The rows that the training goes on from: those of later steps are about to be made again."""
        return [row for row in self.rows if row.step <= step]


def run_folder(root: Path, run_id: str) -> Path:
    """Where a run's local log lies."""
    return root / RUNS / run_id


def find(setting: str, checkpoint: Mapping[str, Any] | None, root: Path, project: str) -> tuple[str | None, Path, str]:
    """The run that a training goes on in. It is this process's from then on: see `liveness.claim`.

    Args:
        setting: `auto`, `never` or a run id.
        checkpoint: what the checkpoint says of its run: empty where it says nothing, None where there is none.
        root: folder that run folders are made in.
        project: of this training.

    Returns:
        The run's id (None: a new run), the folder that holds its run folder, and the line to tell, "" for none.

    Raises:
        ConfigError: `setting` names a run that is not there, or that can't be gone on with.
    """
    if setting == "never":
        return None, root, ""
    if setting != "auto":
        known = checkpoint is not None and checkpoint.get("run_id") == setting
        home = _home(setting, root, checkpoint)
        if home is None and not known:
            raise ConfigError(
                f"'resume' must name a run that is there; '{setting}' has no folder in '{root / RUNS}'; "
                "give the id of one that has, 'auto' or 'never', or set 'dir' to where it is"
            )
        take("resume", home or root, setting, project, checkpoint if home is None else None)
        return setting, home or root, ""
    if checkpoint is None:
        return None, root, ""
    if "run_id" not in checkpoint:
        told = "the checkpoint names no run: this is a new run; to go on in one, set 'resume' to its id"
        return None, root, told
    run_id = str(checkpoint["run_id"])
    if checkpoint.get("project") not in (None, project):
        return None, root, f"the checkpoint's run {run_id} is of project '{checkpoint['project']}': this is a new run"
    home = _home(run_id, root, checkpoint) or root
    if not claim(run_folder(home, run_id)):
        return None, root, f"the checkpoint's run {run_id} is still open in another process: this is a new run"
    return run_id, home, ""


def check_new(setting: str, run_id: str, root: Path, given: bool) -> None:
    """Whether a training that goes on from no checkpoint may make a run, or go on in the one that WANDB_RUN_ID names.

    Raises:
        ConfigError: `must` names none; `never` names one that is there.
    """
    if setting == "must" and not given:
        raise ConfigError(
            "'resume: must' (WANDB_RESUME=must) needs a run that is there, and neither a checkpoint nor WANDB_RUN_ID "
            "names one that can be gone on with; give one of them, or use 'auto'"
        )
    if setting == "never" and given and (run_folder(root, run_id) / "rows.jsonl").exists():
        raise ConfigError(
            f"'resume: never' (WANDB_RESUME=never) makes a new run, and WANDB_RUN_ID names '{run_id}', which is there; "
            "unset one of them"
        )


def take(setting: str, root: Path, run_id: str, project: str, checkpoint: Mapping[str, Any] | None = None) -> None:
    """Claims a run that the user has named.

    Raises:
        ConfigError: it is of another project, or another process writes it.
    """
    folder = run_folder(root, run_id)
    recorded = (checkpoint or {}).get("project") or read_json(folder / "config.json").get("trackkit/settings/project")
    if recorded not in (None, project):
        raise ConfigError(
            f"'{setting}' must name a run of project '{project}'; '{run_id}' is of '{recorded}'; "
            f"set 'project' to '{recorded}', or name another run"
        )
    if not claim(folder):
        pid = read_json(folder / "run.json").get("pid", "unknown")
        raise ConfigError(
            f"'{setting}' must name a run that no other process writes; '{run_id}' is open in process {pid}; "
            "end that one first, or name another run"
        )


def read_earlier(root: Path, run_id: str) -> Earlier:
    """What a run's local log holds; nothing where there is none. What is damaged is passed over."""
    folder = run_folder(root, run_id)
    try:
        text = (folder / "rows.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Earlier(root)
    origins = _origins(read_json(folder / "config.json").get("trackkit/renames", {}))
    rows, marks = list[Row](), list[int]()
    for line in text.split("\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError):
            row, mark = _row(len(rows), line, origins)
            rows.append(row)
            marks.append(mark)
    run, summary = read_json(folder / "run.json"), read_json(folder / "summary.json")
    elapsed = summary.get("final/duration_h")
    if elapsed is None and any(row.tier == "batch" and row.step for row in rows):
        elapsed = max(0.0, rows[-1].time - float(run.get("started", rows[0].time))) / 3600
    return Earlier(
        root,
        rows,
        marks,
        # Of a `run.json` that a power failure has emptied, the rows still know.
        passes=max([int(run.get("passes", 1)), *marks]),
        summary=summary,
        elapsed_h=float(elapsed or 0.0),
        name=str(run.get("name", "")),
        started=float(run.get("started", 0.0)),
        exit_code=run.get("exit_code"),
    )


def checkpoint_fields(run_id: str, root: Path, project: str, seen: tuple[int, int] | None = None) -> dict[str, Any]:
    """What a checkpoint carries of its run: plain types, since checkpoints are loaded with `weights_only=True`.

    Args:
        run_id, root, project: of the run.
        seen: samples and tokens so far; None where the framework carries its own count.
    """
    fields = {"run_id": run_id, "root": str(root), "project": project, "saved": time.time()}
    return fields if seen is None else {**fields, "samples": seen[0], "tokens": seen[1]}


def _home(run_id: str, root: Path, checkpoint: Mapping[str, Any] | None) -> Path | None:
    """The folder that holds the run's folder: this training's, else the one that the checkpoint was made in."""
    homes = [root, *([Path(str(checkpoint["root"]))] if checkpoint is not None and "root" in checkpoint else [])]
    return next((each for each in homes if run_folder(each, run_id).is_dir()), None)


def _origins(renames: Mapping[str, Any]) -> dict[str, str]:
    """Key to the name it was logged under."""
    pairs = ((keys if isinstance(keys, list) else [keys], name) for name, keys in renames.items())
    return {str(key): name for keys, name in pairs for key in keys}


def _row(number: int, text: str, origins: Mapping[str, str]) -> tuple[Row, int]:
    """A line of the log as a row, and its pass. Raises what a line that is damaged leads to."""
    line = json.loads(text)
    if not isinstance(line, dict):
        raise TypeError("a row must be a mapping")
    values = {key: value for key, value in finite_words(line).items() if not key.startswith("_")}
    tier: Tier = "epoch" if "epoch/step" in values else "batch"
    step, when = int(values[f"{tier}/step"]), float(line.get("_time", 0.0))
    row = Row(number, tier, step, when, values, {key: origins[key] for key in values if key in origins})
    return row, int(line.get("_pass", 1))
