"""The ledger of a run's checkpoints: `checkpoints.jsonl` in its folder, append-only; an entry's last line counts."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from trackkit.local_log.regular import parse_json, regular
from trackkit.local_log.row_file import RowFile

LEDGER = "checkpoints.jsonl"
STAGING = "checkpoints"
"""Folder in the run's folder; the files of entry 7 are in `checkpoints/7/`."""

State = Literal["saved", "staged", "hashed", "handed over", "committed", "skipped", "lost", "overwritten", "deleted"]
STATES: tuple[State, ...] = get_args(State)
PRESENT: frozenset[State] = frozenset({"saved", "staged", "hashed", "handed over", "committed"})
"""States of an entry that a server has, or may still get."""

_MOST = 2**63
_OPTIONS, _USE, _HOME = "options", "use", "server"
_LONGEST = 1 << 24


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
        aliases: wanted on the server when the line was written; `aliases.wanted` computes them anew.
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
    def is_remote(self) -> bool:
        """Whether the framework saved it to a URL."""
        return "://" in self.path

    @property
    def is_present(self) -> bool:
        """Whether a server has it, or may still get it."""
        return self.complete and self.state in PRESENT


@dataclass(frozen=True, slots=True)
class Use:
    """A checkpoint of another run that this run has loaded.

    Attributes:
        name: its version, `entity/project/collection:v3`; "" for one that no server had.
        folder, number: of its run, and of its entry in the ledger there; "" and 0 if only a server knows it.
        done: whether the server has noted the use.
    """

    name: str = ""
    folder: str = ""
    number: int = 0
    done: bool = False


class Ledger:
    """The entries, the settings and the uses of one run, in memory and in its file. Any thread may call its methods.

    What can't be written is kept and written with the next line.

    Args:
        folder: of the run.

    Attributes:
        lock: held while an entry is read, changed and written.
        options: of the callback that recorded the run last: sync keeps to them.
        home: path of the run on the server that has its checkpoints, `entity/project/run_id`; "" before there is one.
        uses: checkpoints of other runs that this run has loaded.
        uploaded: bytes that were uploaded so far, those of deleted versions included.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER
        found = _read(folder)
        # In the order of the numbers: new ones are higher. Those that are present are few, however many there are.
        self._entries = {number: found.entries[number] for number in sorted(found.entries)}
        self._present = {each.number: each for each in self._entries.values() if each.is_present}
        self.uploaded = sum(map(_uploaded, self._entries.values()))
        self.options, self.home, self.uses = found.options, found.home, found.uses
        self._unwritten: list[str] = []
        self._file: RowFile | None = None
        self.lock = threading.RLock()

    @property
    def entries(self) -> list[Entry]:
        """All entries, in the order of their numbers."""
        with self.lock:
            return list(self._entries.values())

    @property
    def present(self) -> list[Entry]:
        """The entries that a server has, or may still get, in the order of their numbers."""
        with self.lock:
            return list(self._present.values())

    @property
    def is_written(self) -> bool:
        """Whether the file has everything."""
        with self.lock:
            return not self._unwritten

    def last(self, collection: str) -> Entry | None:
        """Returns the newest entry of a collection; None if there is none."""
        with self.lock:
            return next((each for each in reversed(self._entries.values()) if each.collection == collection), None)

    def __getitem__(self, number: int) -> Entry:
        return self._entries[number]

    def put(self, entry: Entry) -> Entry:
        """Writes an entry, new or changed, and returns it."""
        with self.lock:
            before = self._entries.get(entry.number)
            self.uploaded += _uploaded(entry) - (_uploaded(before) if before is not None else 0)
            self._entries[entry.number] = entry
            if not entry.is_present:
                self._present.pop(entry.number, None)
            elif before is None or before.is_present:
                self._present[entry.number] = entry
            else:
                self._present = {each.number: each for each in self._entries.values() if each.is_present}
            self._unwritten.append(to_line(entry))
            with suppress(OSError):
                self._write()
        return entry

    def change(self, number: int, **changes: Any) -> Entry:
        """Writes an entry with some fields changed, and returns it; writes nothing if they are as they were."""
        with self.lock:
            entry = self._entries[number]
            changed = replace(entry, **changes)
            return entry if changed == entry else self.put(changed)

    def note_use(self, use: Use) -> None:
        """Writes a use, new or done."""
        with self.lock:
            self.uses = [*(each for each in self.uses if replace(each, done=use.done) != use), use]
            self._unwritten.append(_to_part(_USE, asdict(use)))
            with suppress(OSError):
                self._write()

    def set_home(self, path: str) -> None:
        """Writes the path of the run on its server, if it is new."""
        with self.lock:
            if path != self.home:
                self.home = path
                self._unwritten.append(_to_part(_HOME, {"path": path}))

    def set_options(self, options: Mapping[str, Any]) -> None:
        """Writes the options, if they are new; before the first entry, with it."""
        with self.lock:
            if options == self.options:
                return
            self.options = dict(options)
            self._unwritten.append(_to_part(_OPTIONS, self.options))
            if self._entries or self.uses:
                with suppress(OSError):
                    self._write()

    def close(self) -> None:
        """Closes the file."""
        with self.lock:
            if self._unwritten and (self._entries or self.uses):
                with suppress(OSError):
                    self._write()
            if self._file is not None:
                self._file.close()
            self._file = None

    def _write(self) -> None:
        if self._file is None:
            self._file = RowFile(self._path)
        if not self._file.find():
            # Deleted or replaced: all of it is written again.
            self._file.restart()
            uses = [_to_part(_USE, asdict(each)) for each in self.uses]
            parts = [_to_part(_OPTIONS, self.options), _to_part(_HOME, {"path": self.home}), *uses]
            self._unwritten = [*parts, *map(to_line, self.entries)]
        while self._unwritten:
            self._file.append(self._unwritten[0])
            del self._unwritten[0]


def _uploaded(entry: Entry) -> int:
    return entry.size if entry.version or entry.state == "handed over" else 0


def to_line(entry: Entry) -> str:
    """Returns an entry as a line of strict JSON, without the fields that have their default."""
    given = {key: value for key, value in asdict(entry).items() if value != _DEFAULTS.get(key, entry)}
    if entry.value is not None and not math.isfinite(entry.value):
        given["value"] = str(entry.value)
    return json.dumps(given, separators=(",", ":"), allow_nan=False)


def read_ledger(folder: Path) -> list[Entry]:
    """Returns the entries of a run's folder, by number; skips lines that are damaged. Empty without a ledger."""
    found = _read(folder).entries
    return [found[number] for number in sorted(found)]


def read_home(folder: Path) -> str:
    """Returns the path of the run on the server that has its checkpoints, `entity/project/run_id`; "" without one."""
    return _read(folder).home


@dataclass
class _Content:
    entries: dict[int, Entry] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    home: str = ""
    uses: list[Use] = field(default_factory=list)


def _read(folder: Path) -> _Content:
    found = _Content()
    try:
        text = regular(folder / LEDGER).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return found
    uses: dict[Use, Use] = {}
    for line in text.split("\n"):
        if not 0 < len(line) <= _LONGEST:
            continue
        if (entry := parse_line(line)) is not None:
            found.entries[entry.number] = entry
        elif part := _parse_part(_OPTIONS, line):
            found.options = part
        elif part := _parse_part(_HOME, line):
            found.home = str(part.get("path", ""))
        elif (part := _parse_part(_USE, line)) and (use := _parse_use(part)) is not None:
            uses[replace(use, done=False)] = use
    found.uses = list(uses.values())
    return found


def _to_part(name: str, values: Mapping[str, Any]) -> str:
    return json.dumps({name: values}, separators=(",", ":"), allow_nan=False)


def _parse_part(name: str, line: str) -> dict[str, Any]:
    """Returns what a line that is not an entry has under a name; an empty dictionary without it."""
    if line.startswith(f'{{"{name}":'):
        with suppress(ValueError):
            given = parse_json(line)[name]
            return given if isinstance(given, dict) else {}
    return {}


def _parse_use(given: Mapping[str, Any]) -> Use | None:
    kinds = {"name": str, "folder": str, "number": int, "done": bool}
    known = {key: given.get(key) for key in kinds}
    return Use(**known) if all(type(known[key]) is kind for key, kind in kinds.items()) else None  # type: ignore[arg-type]


def is_safe_name(name: str) -> bool:
    """Returns whether a file's name stays within its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


_DEFAULTS: Mapping[str, Any] = {each.name: each.default for each in fields(Entry)}
_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("number", "step"), (int,)),
    **dict.fromkeys(("epoch", "value", "time"), (int, float)),
    **dict.fromkeys(("resumable", "complete", "shared", "handed", "used"), (bool,)),
    **dict.fromkeys(("parts", "promoted", "links", "linked", "was", "aliases"), (list,)),
}


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
