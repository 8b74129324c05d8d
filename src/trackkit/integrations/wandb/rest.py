"""What a server lacks of a transaction log, as a file of its own.

W&B uploads a file as a whole: a second upload of one that is there in part would append everything once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trackkit.integrations.wandb.blocks import Reader, Writer
from trackkit.integrations.wandb.file import parse


class Rest:
    """A copy of the part of a transaction log that a server lacks; follows one that still grows.

    Args:
        source: the transaction log.
        home: folder to make the copy in; removed by the caller.
        rows, console: how many rows of its history, and lines of its console output, the server has.
        measured: Unix time in seconds of the newest system metrics that the server has.
    """

    def __init__(self, source: Path, home: Path, rows: int = 0, console: int = 0, measured: float = 0.0) -> None:
        folder = home / source.parent.name
        folder.mkdir(parents=True)
        # Media and saved files are found beside the log.
        (folder / "files").symlink_to((source.parent / "files").absolute())
        self.path = folder / source.name
        self._reader = Reader(source)
        self._writer = Writer(self.path)
        self._rows, self._console, self._measured = rows, console, measured
        self.ended = False

    def copy(self, final: bool = True) -> None:
        """Copies what is new; with `final` no more will come."""
        for data in self._reader.new(final):
            record = parse(data)
            if record.WhichOneof("record_type") == "output_raw":
                self._copy_console(record, data)
            elif self._wanted(record):
                self._writer.add(data)
            self.ended |= record.WhichOneof("record_type") == "exit"

    def end(self, exit_code: int) -> None:
        """The run's process has died without a word: its end is written in its place."""
        record = parse(b"")
        record.exit.exit_code = exit_code
        self._writer.add(record.SerializeToString())
        self.ended = True

    def close(self) -> None:
        """Closes the copy."""
        self._writer.close()

    def _wanted(self, record: Any) -> bool:
        kind = record.WhichOneof("record_type")
        if kind == "history" and self._rows > 0:
            self._rows -= 1
            return False
        if kind == "stats":
            return bool(record.stats.timestamp.ToNanoseconds() / 1e9 > self._measured)
        return True

    def _copy_console(self, record: Any, data: bytes) -> None:
        """A record holds any piece of the output: several lines, or parts of some."""
        if self._console > 0:
            *whole, last = record.output_raw.line.split("\n")
            new = [*whole[self._console :], last]
            self._console -= len(whole)
            if self._console > 0 or new == [""]:
                return
            record.output_raw.line = "\n".join(new)
            data = record.SerializeToString()
        self._writer.add(data)
