"""What a server lacks of a transaction log, as a file of its own.

W&B uploads a file as a whole: a second upload of one that is there in part would append everything once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trackkit.integrations.wandb.blocks import Reader, Writer
from trackkit.integrations.wandb.files import item_key, own_keys, parse
from trackkit.sync.added import LogRow, definition_record, history_record, placed


@dataclass(frozen=True)
class Part:
    """What of a file's history is to be sent.

    Attributes:
        lacking: for each row of the history in turn, the keys that the server lacks; rows behind these are all new.
        added: number of a row, from 0, to the rows of the local log that go in front of it.
        above: the server's last step.
        epoch_axis: `step` or `epoch`.
    """

    lacking: Sequence[AbstractSet[str]] = ()
    added: Mapping[int, Sequence[LogRow]] = field(default_factory=dict)
    above: int = -1
    epoch_axis: str = "step"


class Rest:
    """A copy of the part of a transaction log that a server lacks; follows one that still grows.

    Args:
        source: the transaction log.
        home: folder to make the copy in; removed by the caller.
        part: of its history.
        console: how many lines of its console output the server has.
        seam: the last of them, as the server has it; None where that is not known.
        measured: Unix time in seconds of the newest system metrics that the server has.
    """

    def __init__(
        self,
        source: Path,
        home: Path,
        part: Part | None = None,
        console: int = 0,
        seam: str | None = None,
        measured: float = 0.0,
    ) -> None:
        folder = home / source.parent.name
        folder.mkdir(parents=True)
        # Media and saved files are found beside the log.
        (folder / "files").symlink_to((source.parent / "files").absolute())
        self.path = folder / source.name
        self._reader = Reader(source)
        self._writer = Writer(self.path)
        self._part = part if part is not None else Part()
        self._console, self._seam, self._last = console, seam, ""
        self._measured = measured
        self._rows, self._step = 0, self._part.above
        self._defined: set[str] = set()
        self.ended = False

    def copy(self, final: bool = True) -> None:
        """Copies what is new; with `final` no more will come."""
        for data in self._reader.new(final):
            record = parse(data)
            kind = record.WhichOneof("record_type")
            if kind == "output_raw":
                self._copy_console(record, data)
            elif kind == "history":
                self._copy_row(record, data)
            elif kind != "stats" or record.stats.timestamp.ToNanoseconds() / 1e9 > self._measured:
                self._writer.add(data)
            if kind == "metric":
                self._defined.add(record.metric.name)
            self.ended |= kind == "exit"

    def end(self, exit_code: int) -> None:
        """The run's process has died without a word: its end is written in its place."""
        record = parse(b"")
        record.exit.exit_code = exit_code
        self._writer.add(record.SerializeToString())
        self.ended = True

    def close(self) -> None:
        """Closes the copy."""
        self._writer.close()

    def _copy_row(self, record: Any, data: bytes) -> None:
        number, self._rows = self._rows, self._rows + 1
        self._add(self._part.added.get(number, ()))
        items = record.history.item
        if number < len(self._part.lacking):
            lacking, keys = self._part.lacking[number], {item_key(item) for item in items}
            if not lacking:
                return
            if gone := own_keys(keys) - lacking:
                kept = [item for item in items if item_key(item) not in gone]
                del items[:]
                items.extend(kept)
                data = record.SerializeToString()
        if record.history.step.num <= self._step:
            # W&B would move all that follows, for good.
            _set_step(record, self._step + 1)
            data = record.SerializeToString()
        self._step = record.history.step.num
        self._writer.add(data)

    def _add(self, rows: Sequence[LogRow]) -> None:
        """Rows of the local log at this place."""
        for row in placed(rows, self._step):
            for key in row.values.keys() - self._defined:
                self._defined.add(key)
                self._writer.add(definition_record(key, self._part.epoch_axis))
            self._writer.add(history_record(row))
            self._step = row.step

    def _copy_console(self, record: Any, data: bytes) -> None:
        """A record holds any piece of the output: several lines, or parts of some."""
        if self._console > 0:
            record.output_raw.line = self._behind(record.output_raw.line)
            if not record.output_raw.line:
                return
            data = record.SerializeToString()
        self._writer.add(data)

    def _behind(self, text: str) -> str:
        """What of a piece of output comes after the lines that the server has; one that was cut there comes again."""
        while self._console > 0:
            piece, ended, text = text.partition("\n")
            self._last += piece if self._console == 1 else ""
            if not ended:
                return ""
            self._console -= 1
        seam, line = (self._seam or "").rstrip(), self._last.rstrip()
        cut = self._seam is not None and line != seam and line.startswith(seam)
        return f"{line}\n{text}" if cut else text


def _set_step(record: Any, step: int) -> None:
    record.history.step.num = step
    for item in record.history.item:
        if item_key(item) == "_step":
            item.value_json = str(step)
