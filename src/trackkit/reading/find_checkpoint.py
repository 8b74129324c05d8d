"""Finds the checkpoint that a user means: in the ledgers of recorded runs, or on a W&B server."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trackkit.checkpoints.aliases import BEST, LATEST, wanted
from trackkit.checkpoints.alignment import wanted_beside
from trackkit.checkpoints.entry import STATES, Entry
from trackkit.checkpoints.ledger import read_ledger
from trackkit.errors import did_you_mean, nearest
from trackkit.integrations.wandb.server import Unanswered
from trackkit.integrations.wandb.versions import StoredVersion, find_version, versions_of_run
from trackkit.local_log.places import is_server_path, known_runs, run_folders
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError
from trackkit.reading.runs import read_run
from trackkit.redaction.patterns import mask_url

# Without a chance to be loaded.
_GONE = frozenset({"lost", "overwritten", "deleted"})
# Lightning saves in `<output>/lightning_logs/version_0/checkpoints`.
_LEVELS = 5


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint of a recorded run, on the server, or both.

    Attributes:
        run: that saved it; None if only the server knows it.
        entry: of the run's ledger; None if only the server knows it.
        stored: on the server; None as long as the server was not asked.
        aliases: it has, or is to have once it is uploaded.
    """

    run: RecordedRun | None
    entry: Entry | None
    stored: StoredVersion | None
    aliases: tuple[str, ...]


def find_checkpoint(spec: str | os.PathLike[str]) -> FoundCheckpoint:
    """Finds one checkpoint.

    Args:
        spec: a run as `trackkit.read_run` takes it, or the collection of an artifact (`model-toy`,
            `entity/project/model-toy`), with `:alias` or `:v3`. Without an alias: `best`, or `latest` if no metric is
            monitored. Or the path or URL of a checkpoint that a run on this machine has saved.

    Raises:
        ReadError: there is no such run, artifact or alias, or several are meant, or the server does not answer.
    """
    text = os.fspath(spec)
    if os.path.exists(os.path.expanduser(text)):
        path = Path(os.path.expanduser(text)).absolute()
        near = [folder for parent in path.parents[:_LEVELS] for folder in run_folders(parent)]
        return _saved_to(str(path), near) or _of_run(read_run(text), "")
    if "://" in text:
        url = mask_url(text)
        if (remote := _saved_to(url)) is None:
            raise ReadError(f"no run of yours on this machine has saved a checkpoint to '{url}'. Give RUN:best.")
        return remote
    name, colon, alias = text.rpartition(":")
    if not colon or "/" in alias:
        name, alias = text, ""
    if is_server_path(name, parts=3):
        return _on_server(name, alias)
    try:
        run = read_run(name)
    except ReadError as error:
        if os.path.exists(name):
            raise
        return _pick(_in_collection(name, error), alias, name)
    return _of_run(run, alias)


def _of_run(run: RecordedRun, alias: str) -> FoundCheckpoint:
    if run.folder is None:
        return _on_server(str(run.run.get("path", "")), alias)
    return _pick([(run, each) for each in read_ledger(run.folder)], alias, f"run '{run.run_id}'")


def _pick(found: Iterable[tuple[RecordedRun, Entry]], alias: str, where: str) -> FoundCheckpoint:
    """Returns the entry with an alias.

    Raises:
        ReadError: none has it, or several collections have one.
    """
    known = [(run, entry) for run, entry in found if _is_usable(entry)]
    if not known:
        raise ReadError(f"{where} has no checkpoint to load. `trackkit checkpoints RUN` lists what was saved.")
    projects = {str(run.config.get("trackkit/settings/project") or ""): run.run_id for run, _ in known}
    if len(projects.keys() - {""}) > 1:
        runs = [f"{run_id}:{alias or BEST} (project '{name}')" for name, run_id in sorted(projects.items()) if name]
        raise ReadError(f"{where} is in several projects. Give one of the runs: {', '.join(runs)}.")
    # Runs that share a collection share its best and latest.
    own = [entry for run, entry in known if run is known[0][0]]
    aliases = wanted_beside(own, [entry for run, entry in known if run is not known[0][0]], frozenset(STATES))
    names = [
        (run, entry, tuple(dict.fromkeys((*its, *entry.foreign))))
        for (run, entry), its in zip(known, aliases, strict=True)
    ]
    alias = alias or (BEST if any(BEST in each for *_, each in names) else LATEST)
    meant = [each for each in names if alias in (*each[2], each[1].version.rpartition(":")[2])]
    if len(meant) > 1:
        options = ", ".join(sorted({f"{entry.collection}:{alias}" for _, entry, _ in meant}))
        raise ReadError(f"several checkpoints of {where} are '{alias}': {options}. Give one of them, or its path.")
    if not meant:
        have = {each for *_, its in names for each in its}
        raise ReadError(f"{where} has no checkpoint '{alias}'{did_you_mean(alias, have)}")
    run, entry, its = meant[0]
    return FoundCheckpoint(run, entry, None, its)


def _on_server(name: str, alias: str) -> FoundCheckpoint:
    """Finds an artifact by its collection, else the checkpoint of a run."""
    try:
        if (stored := find_version(f"{name}:{alias or BEST}")) is None and not alias:
            stored = find_version(f"{name}:{LATEST}")
        if stored is None and alias and (newest := find_version(f"{name}:{LATEST}")) is not None:
            its = f"Its newest is '{newest.name.rpartition('/')[2]}', with {', '.join(newest.aliases)}."
            raise ReadError(f"the artifact '{name}' has no version '{alias}' on W&B. {its}")
        if stored is None:
            stored = _of_server_run(name, alias)
    except Unanswered as error:
        raise ReadError(f"'{name}' is not on this machine, and W&B can't be asked for it: {error}") from error
    return FoundCheckpoint(None, None, stored, tuple(stored.aliases))


def _of_server_run(path: str, alias: str) -> StoredVersion:
    found = versions_of_run(path) if read_run(path).run_id else []
    if not found:
        raise ReadError(f"the run '{path}' has no checkpoint on W&B. `trackkit sync` uploads those of a local run.")
    have = {each for version in found for each in version.aliases}
    alias = alias or (BEST if BEST in have else LATEST)
    meant = [each for each in found if alias in (*each.aliases, each.name.rpartition(":")[2])]
    if len(meant) > 1:
        names = ", ".join(each.name for each in meant)
        raise ReadError(f"several checkpoints are '{alias}': {names}. Give one of them.")
    if not meant:
        raise ReadError(f"the run '{path}' has no checkpoint '{alias}' on W&B{did_you_mean(alias, have)}")
    return meant[0]


def _in_collection(name: str, error: ReadError) -> list[tuple[RecordedRun, Entry]]:
    """Returns the entries of a collection in the ledgers of the user's runs.

    Raises:
        ReadError: there is none: `error`, which says why the name is no run, with the nearest collection.
    """
    found, known = [], set[str]()
    for each in known_runs():
        entries = read_ledger(each.folder) if each.folder is not None else []
        known |= {entry.collection for entry in entries}
        if any(entry.collection == name for entry in entries):
            run = read_run(each.folder or each.run_id)
            found += [(run, entry) for entry in entries if entry.collection == name]
    if not found:
        hint = nearest(name, known)
        raise ReadError(str(error).rstrip(".") + hint) if hint else error
    return found


def _saved_to(path: str, near: Iterable[Path] = ()) -> FoundCheckpoint | None:
    """Returns the newest entry of a run on this machine that was saved to a path or URL; None without one.

    Args:
        path: absolute.
        near: run folders to look at before those in the user's list.
    """
    for folder in [*near, *(each.folder for each in reversed(known_runs()) if each.folder is not None)]:
        entries = read_ledger(folder)
        if saved := [entry for entry in entries if entry.path == path]:
            usable = [entry for entry in entries if _is_usable(entry)]
            # Of a second save of the same weights, the first one has the files.
            twin = next((each for each in reversed(usable) if each.step == saved[-1].step), saved[-1])
            entry = saved[-1] if saved[-1].files or saved[-1].is_remote else twin
            aliases = wanted(usable, frozenset(STATES)).get(entry.number, ())
            return FoundCheckpoint(read_run(folder), entry, None, aliases)
    return None


def _is_usable(entry: Entry) -> bool:
    return entry.complete and entry.state not in _GONE and bool(entry.files or entry.is_remote)
