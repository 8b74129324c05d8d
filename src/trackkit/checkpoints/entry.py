"""A checkpoint of a run, and its line in the ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from trackkit.checkpoints.naming import is_ours
from trackkit.local_log.regular import parse_json

State = Literal["saved", "staged", "hashed", "handed over", "committed", "skipped", "lost", "overwritten", "deleted"]
STATES: tuple[State, ...] = get_args(State)
PRESENT: frozenset[State] = frozenset({"saved", "staged", "hashed", "handed over", "committed"})
"""States of an entry that a server has, or may still get."""

_MOST = 2**63


@dataclass(frozen=True, slots=True)
class File:
    """A file of a checkpoint as it was when it was staged.

    Attributes:
        name: relative, with `/`; never absolute or with `..`.
        size: bytes.
        inode, mtime: of the staged file, or of the saved one until it is staged; mtime in nanoseconds.
        md5: in base64, as manifests have it; "" until it is hashed.
    """

    name: str
    size: int
    inode: int = 0
    mtime: int = 0
    md5: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A checkpoint of a run.

    Attributes:
        number: position in the run, from 1, over all attempts.
        path: where the framework saved it: absolute path of a file or folder, or a URL.
        step: optimizer steps.
        epoch: fractional; None if unknown.
        metric, value, goal: logged name ("" for none), value (None for none), `min` or `max`.
        time: Unix time in seconds when it was saved.
        framework: `lightning`, `huggingface`, ...
        series: of several series of checkpoints, which one; else "".
        resumable, complete, shared, parts: as in `Checkpoint`.
        commit: of the git repository; "" if unknown.
        hub_url: of the commit by which it was pushed to a model hub; "" if it was not.
        collection: name of the collection that its version belongs to.
        state: see `STATES`.
        files: of the checkpoint; empty for a URL.
        digest: hexadecimal, of the version's manifest; "" until it is hashed.
        version: `collection:v3`; "" until it is committed.
        promoted: aliases that a promotion has given to it, such as `staging`.
        links: registry collections it is to be linked to, `target:alias`.
        linked: those of `links` that are done.
        handed: whether its upload was ever begun: a server may come to have it even if it is skipped later.
        used: whether it was loaded: retention keeps it.
        was: promotions that it has lost, such as `production until 2026-11-29, then model-toy:v7`.
        aliases: on the server when the line was written, others than TrackKit's included.
        reason: why it is in its state; "" where that is clear.
    """

    number: int
    path: str
    step: int = 0
    epoch: float | None = None
    metric: str = ""
    value: float | None = None
    goal: str = ""
    time: float = 0.0
    framework: str = ""
    series: str = ""
    resumable: bool = True
    complete: bool = True
    shared: bool = False
    parts: tuple[str, ...] = ()
    commit: str = ""
    hub_url: str = ""
    collection: str = ""
    state: State = "saved"
    files: tuple[File, ...] = ()
    digest: str = ""
    version: str = ""
    promoted: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    handed: bool = False
    used: bool = False
    was: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.files)

    @property
    def content(self) -> tuple[str, str]:
        """Its collection and digest: two saves that share them are one version."""
        return self.collection, self.digest

    @property
    def metadata(self) -> dict[str, Any]:
        """What a server shows of its version."""
        value = self.value if self.value is None or math.isfinite(self.value) else str(self.value)
        return {
            **{key: getattr(self, key) for key in ("step", "epoch", "metric", "goal", "framework", "resumable")},
            "value": value,
            "files": {file.name: file.size for file in self.files},
            "git_commit": self.commit,
            "saved": self.time,
            **({"hub_url": self.hub_url} if self.hub_url else {}),
            **({"was": list(self.was)} if self.was else {}),
        }

    @property
    def foreign(self) -> tuple[str, ...]:
        """The aliases on the server that TrackKit sets only when it is asked to: those of promotions and of others."""
        return tuple(each for each in self.aliases if not is_ours(each))

    @property
    def waiting(self) -> tuple[str, ...]:
        """The promotions that no server has yet."""
        aliases = (each for each in self.promoted if each not in self.aliases)
        return (*aliases, *(each for each in self.links if each not in self.linked))

    @property
    def is_remote(self) -> bool:
        """Whether the framework saved it to a URL."""
        return "://" in self.path

    @property
    def is_present(self) -> bool:
        """Whether a server has it, or may still get it."""
        return self.complete and self.state in PRESENT


_DEFAULTS: Mapping[str, Any] = {each.name: each.default for each in fields(Entry)}
_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("number", "step"), (int,)),
    **dict.fromkeys(("epoch", "value", "time"), (int, float)),
    **dict.fromkeys(("resumable", "complete", "shared", "handed", "used"), (bool,)),
    **dict.fromkeys(("parts", "promoted", "links", "linked", "was", "aliases"), (list,)),
}


def to_line(entry: Entry) -> str:
    """Returns an entry as a line of strict JSON, without the fields that have their default."""
    given = {key: value for key, value in asdict(entry).items() if value != _DEFAULTS.get(key, entry)}
    if entry.value is not None and not math.isfinite(entry.value):
        given["value"] = str(entry.value)
    return json.dumps(given, separators=(",", ":"), allow_nan=False)


def parse_line(line: str) -> Entry | None:
    """Returns the entry of a line; None if it is damaged. Fields of a wrong type, and unknown ones, are left out."""
    try:
        given = parse_json(line)
    except ValueError:
        return None
    if not isinstance(given, dict) or not _fits("number", given.get("number")) or not _fits("path", given.get("path")):
        return None
    files = tuple(_files(given.pop("files", ())))
    known = {key: value for key, value in given.items() if key in _DEFAULTS and _fits(key, value)}
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    if given.get("value") in ("nan", "inf", "-inf"):
        known["value"] = float(given["value"])
    return Entry(**known, files=files) if known["number"] > 0 else None


def _fits(key: str, value: Any) -> bool:
    if key == "state":
        return value in STATES
    kinds = _KINDS.get(key, (str,))
    if isinstance(value, list):
        return list in kinds and all(isinstance(each, str) for each in value)
    if isinstance(value, bool) or bool in kinds:
        return isinstance(value, bool) and bool in kinds
    if isinstance(value, (int, float)):
        return isinstance(value, kinds) and not abs(value) >= _MOST
    return isinstance(value, kinds)


def _files(given: Any) -> Iterable[File]:
    for each in given if isinstance(given, list) else ():
        with suppress(TypeError, ValueError, AttributeError, KeyError, OverflowError):
            name, md5 = each["name"], each.get("md5", "")
            size, inode, mtime = (int(each.get(key, 0)) for key in ("size", "inode", "mtime"))
            if isinstance(name, str) and isinstance(md5, str) and is_safe_name(name):
                yield File(name, size, inode, mtime, md5)


def is_safe_name(name: str) -> bool:
    """Returns whether a file's name stays within its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name
