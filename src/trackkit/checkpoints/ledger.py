"""The ledger of a run's checkpoints: `checkpoints.jsonl` in its folder, append-only; an entry's last line counts."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trackkit.checkpoints.entry import Entry, parse_line, to_line
from trackkit.local_log.regular import parse_json, regular
from trackkit.local_log.row_file import RowFile
from trackkit.redaction.patterns import mask

LEDGER = "checkpoints.jsonl"
STAGING = "checkpoints"
"""Folder in the run's folder; the files of entry 7 are in `checkpoints/7/`."""

_OPTIONS, _USE, _HOME = "options", "use", "server"
_LONGEST = 1 << 24


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
        """Writes an entry, new or changed, and returns it; masks secrets in its reason, which a server may word."""
        entry = replace(entry, reason=mask(entry.reason)) if entry.reason else entry
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
