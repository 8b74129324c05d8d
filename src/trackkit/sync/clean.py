"""Deletes checkpoints of old runs: versions on the server, and what is left of the staging; no framework's file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from filelock import Timeout

from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import LEDGER
from trackkit.checkpoints.ledger import Ledger as Checkpoints
from trackkit.checkpoints.naming import is_step
from trackkit.checkpoints.retention import expendable
from trackkit.checkpoints.staging import Staging
from trackkit.checkpoints.uploads import UploadError
from trackkit.errors import TrackKitError
from trackkit.integrations.wandb.artifacts import Artifacts
from trackkit.local_log.reader import read_fields
from trackkit.sync.ledger import Ledger, locked
from trackkit.sync.targets import Target


@dataclass(frozen=True)
class Limits:
    """What is to be kept.

    Attributes:
        keep: so many of the newest checkpoints of each collection of a run.
        older_than_s: seconds since the end of a run; younger ones are left alone.
    """

    keep: int = 0
    older_than_s: float = 0.0


@dataclass(frozen=True)
class Item:
    """Something that may be deleted.

    Attributes:
        entry: in the ledger of its run.
        version: `collection:v3`; "" if only its staging is left.
        staged: bytes that deleting its staging frees.
    """

    entry: Entry
    version: str
    staged: int


@dataclass(frozen=True)
class Cleaned:
    """What was found in a run.

    Attributes:
        run_id: of the run.
        items: what was deleted or, without `delete`, would be.
        reason: why the run was left alone, or why not all was deleted; "" if neither.
        has_failed: whether the reason is an error.
    """

    run_id: str
    items: tuple[Item, ...] = ()
    reason: str = ""
    has_failed: bool = False


def clean(target: Target, server: str, limits: Limits, delete: bool = False) -> Cleaned | None:
    """Finds what of a run's checkpoints may go, and deletes it if that is asked for.

    Only of a run that has ended and whose last sync found everything on the server. Safe to repeat and to interrupt.

    Args:
        target: the run.
        server: its address.
        limits: what is to be kept.
        delete: whether to delete.

    Returns:
        What was found; None for a run without checkpoints.
    """
    if target.folder is None or not (target.folder / LEDGER).exists():
        return None
    done: list[Item] = []
    try:
        with locked(target):
            verified = Ledger(target, server).verified()
            if reason := _why_not(target, verified, limits):
                return Cleaned(target.run_id, (), reason)
            done.extend(_clean(target, str(verified["path"]), limits, delete))
            if delete and done:
                # Nothing but the ledger has changed since.
                Ledger(target, server).remember(verified["path"], verified["url"], int(verified["rows"]))
    except Timeout:
        return Cleaned(target.run_id, (), "another process is syncing it")
    except (UploadError, TrackKitError, OSError) as error:
        return Cleaned(target.run_id, tuple(done), str(error), has_failed=True)
    return Cleaned(target.run_id, tuple(done))


def _why_not(target: Target, verified: dict[str, Any], limits: Limits) -> str:
    """Returns why a run is left alone; "" if it may be cleaned."""
    assert target.folder is not None
    if target.is_running:
        return "it is still being written"
    if not verified:
        return f"no sync has verified it since its last change: run `trackkit sync {target.folder}` first"
    if Staging(target.folder).home.is_symlink():
        return f"'{Staging(target.folder).home}' is a link to another place"
    files = (target.folder / name for name in ("run.json", "rows.jsonl"))
    written = max((file.stat().st_mtime for file in files if file.exists()), default=time.time())
    if time.time() - float(read_fields(target.folder).get("ended", written)) < limits.older_than_s:
        return "it has ended later than that"
    return ""


def _clean(target: Target, path: str, limits: Limits, delete: bool) -> Iterator[Item]:
    """Yields each thing that may go, after it was deleted if that is asked for."""
    assert target.folder is not None
    ledger, staging, uploads = Checkpoints(target.folder), Staging(target.folder), Artifacts(path)
    entries = ledger.entries
    found = uploads.states([each for each in entries if each.digest])
    versions = {number: each for number, each in found.items() if each.state == "committed"}
    held = {number for number, each in versions.items() if not all(map(is_step, each.aliases))}
    gone = {each.number for each in expendable(entries, limits.keep, held=held) if each.state == "committed"}
    # A version of several saves stays if one of them does.
    kept = {each.content for each in entries if each.is_present and each.number not in gone}
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        version = versions.get(entry.number)
        is_gone = entry.number in gone and entry.content not in kept
        is_first = is_gone and version is not None and entry.content not in seen
        if is_first and uploads.is_held(entry):
            kept.add(entry.content)
            is_gone = is_first = False
        seen.add(entry.content)
        is_free = is_gone or version is not None or not entry.is_present
        item = Item(entry, version.name if version and is_first else "", _bytes(staging, entry) if is_free else 0)
        if delete and is_gone:
            uploads.delete(entry, used=True)
            # The ledger is last: a version that is gone although the ledger has it is noted the next time.
            ledger.change(entry.number, state="deleted", aliases=(), reason="by `trackkit clean`")
        if delete and is_free:
            staging.free(entry.number)
        if item.version or item.staged:
            yield item
    ledger.close()
    if not ledger.is_written:
        raise OSError(f"cannot write '{target.folder / LEDGER}': make it writable")


def _bytes(staging: Staging, entry: Entry) -> int:
    """Returns the bytes of an entry's staged files that have no other hard link."""
    folder = staging.folder(entry.number)
    found = [] if folder.is_symlink() else [each.lstat() for each in folder.rglob("*") if each.is_file()]
    return sum(each.st_size for each in found if each.st_nlink == 1)
