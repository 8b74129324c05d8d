"""What is behind a checkpoint: the run that saved it, its code, data, settings and results, and what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackkit.checkpoints.parents import version_name
from trackkit.integrations.wandb.server import Unanswered
from trackkit.integrations.wandb.versions import StoredVersion, find_version
from trackkit.local_log.places import known_runs
from trackkit.local_log.reader import read_json
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError
from trackkit.reading.checkpoints import to_size
from trackkit.reading.columns import facts, plain, results
from trackkit.reading.find_checkpoint import FoundCheckpoint, find_checkpoint
from trackkit.reading.runs import read_run

_SECTIONS = ("hparams/", "optim/", "model/", "data/")
_MOST = 40
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Origin:
    """A checkpoint and the run behind it.

    Attributes:
        checkpoint, run, code, data: name to text.
        settings: config keys to values, of the user's settings, optimizer, model and data.
        results: metric to its last and best value, and the step of the best.
        parents: the checkpoints that the run itself has loaded; "" for none.
        users: runs that have used the checkpoint.
        missing: sentences on what could not be found out.
    """

    checkpoint: Mapping[str, str]
    run: Mapping[str, str]
    code: Mapping[str, str]
    data: Mapping[str, str]
    settings: Mapping[str, Any]
    results: Mapping[str, tuple[Any, Any, Any]]
    parents: str
    users: list[str]
    missing: list[str]


def whois(spec: str | os.PathLike[str]) -> Origin:
    """Returns what is behind a checkpoint, from local logs and, where it is known there, from W&B.

    Args:
        spec: see `reading.find_checkpoint.find_checkpoint`.

    Raises:
        ReadError: there is no such checkpoint.
    """
    found = find_checkpoint(spec)
    missing: list[str] = []
    stored = found.stored or _stored(found, missing)
    run = found.run or _run_of(stored, missing)
    known = facts(run)
    config = run.config
    chosen = {key: value for key, value in config.items() if value is not None and value is not False}
    settings = {key: value for key, value in chosen.items() if key.startswith(_SECTIONS)}
    if len(settings) > _MOST:
        missing.append(f"{len(settings) - _MOST} more settings: `trackkit show {run.run_id}`.")
    names = ("parent/run", "parent/checkpoint", "parent/step")
    return Origin(
        checkpoint=_checkpoint(found, stored),
        run={
            "run": f"{run.name or UNKNOWN} ({run.run_id or UNKNOWN}), {run.status}",
            "project": str(known.get("project") or UNKNOWN),
            "where": str(run.folder or run.run.get("url") or UNKNOWN),
        },
        code={
            "commit": str(config.get("git/commit") or UNKNOWN),
            "uncommitted work": str(config.get("git/dirty", UNKNOWN)),
            "command": str(config.get("runtime/command") or UNKNOWN),
        },
        data={"fingerprint": str(config.get("data/fingerprint") or UNKNOWN)},
        settings=dict(list(settings.items())[:_MOST]),
        results=results(run.summary),
        parents=", ".join(f"{name.removeprefix('parent/')} {config[name]}" for name in names if name in config),
        users=_users(found, run, stored, missing),
        missing=missing,
    )


def _checkpoint(found: FoundCheckpoint, stored: StoredVersion | None) -> dict[str, str]:
    entry = found.entry
    metadata = stored.metadata if stored is not None else {}
    given = entry.metadata if entry is not None else metadata
    value = given.get("value")
    metric = f"{given.get('metric') or ''} {plain(value)} ({given.get('goal')})" if value is not None else UNKNOWN
    size = entry.size if entry is not None else stored.size if stored is not None else 0
    saved = given.get("saved")
    return {
        "version": stored.name if stored is not None else entry.version or "not on W&B" if entry is not None else "",
        "aliases": ", ".join(stored.aliases if stored is not None else found.aliases) or "none",
        "step": str(given.get("step", UNKNOWN)),
        "epoch": UNKNOWN if given.get("epoch") is None else plain(given["epoch"]),
        "metric": metric.strip(),
        "saved": time.strftime("%Y-%m-%d %H:%M", time.localtime(saved)) if isinstance(saved, (int, float)) else UNKNOWN,
        "size": to_size(size) if size else UNKNOWN,
        **({"path": entry.path, "state": entry.state} if entry is not None else {}),
        **({"hub": str(given["hub_url"])} if given.get("hub_url") else {}),
    }


def _stored(found: FoundCheckpoint, missing: list[str]) -> StoredVersion | None:
    if (
        found.entry is None
        or found.run is None
        or not (name := version_name(str(found.run.folder), found.entry.number))
    ):
        return None
    try:
        return find_version(name)
    except Unanswered as error:
        missing.append(f"W&B was not asked for its aliases and users: {error}.")
        return None


def _run_of(stored: StoredVersion | None, missing: list[str]) -> RecordedRun:
    assert stored is not None
    try:
        return read_run(stored.run)
    except (Unanswered, ReadError) as error:
        missing.append(f"The run behind it can't be read: {error}")
        return RecordedRun({}, {}, {})


def _users(found: FoundCheckpoint, run: RecordedRun, stored: StoredVersion | None, missing: list[str]) -> list[str]:
    """Returns the runs that have used a checkpoint: on this machine, and what W&B says."""
    users: dict[str, None] = {}
    step = found.entry.step if found.entry is not None else None
    for each in known_runs():
        if each.folder is not None:
            config = read_json(each.folder / "config.json")
            uses = zip(
                str(config.get("parent/run")).split(", "), str(config.get("parent/step")).split(", "), strict=False
            )
            if run.run_id and step is not None and (run.run_id, str(step)) in uses:
                users[each.run_id] = None
    if stored is not None:
        try:
            names = stored.users
        except Unanswered as error:
            names = []
            missing.append(f"W&B was not asked for its users: {error}.")
        for name in names:
            users.setdefault(name.rpartition("/")[2], None)
    return list(users)
