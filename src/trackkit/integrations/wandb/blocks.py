"""Reads and writes the blocks of W&B's transaction logs: LevelDB's log format.

A file that was cut short or is damaged gives the records that are complete. Layout: 7 bytes of header,
then blocks of 32 KiB; a chunk is crc32 (of type and data), length, type, data; a record is one chunk (type 1) or
several (types 2, 3 ..., 4).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trackkit.local_log.regular import regular

BLOCK = 32 * 1024
HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class Reader:
    """Reads a file that may still grow.

    Args:
        path: of the file.
        most: bytes to read of it; all where not given.

    Attributes:
        damaged: whether a chunk with a wrong checksum was skipped.
    """

    def __init__(self, path: Path, most: int = -1) -> None:
        self._path = path
        self._most = most
        self._at = len(HEADER)
        self.damaged = False

    def new(self, final: bool = True) -> Iterator[bytes]:
        """Yields the complete records that were not returned before.

        Args:
            final: whether the file no longer grows. Then damage is skipped, up to the next block; otherwise it may be a
                chunk that is being written, and is read again next time.
        """
        # The folder of all of W&B's runs may be a link, that of one run may not.
        with regular(self._path, self._path.parent.parent).open("rb") as file:
            head = file.read(len(HEADER))
            if head != HEADER:
                self.damaged = not HEADER.startswith(head)
                return
            start = self._at - self._at % BLOCK
            file.seek(start)
            data = file.read(self._most)
        at, parts, inside = self._at - start, b"", False
        while (at := _next_header(at)) + _CHUNK.size <= len(data):
            crc, length, kind = _CHUNK.unpack_from(data, at)
            chunk = data[at + _CHUNK.size : at + _CHUNK.size + length]
            good = len(chunk) == length and crc == zlib.crc32(chunk, zlib.crc32(bytes([kind])))
            if not good:
                rest = at - at % BLOCK + BLOCK
                if not final or rest >= len(data):
                    return
                self.damaged, inside, at = True, False, rest
                continue
            at += _CHUNK.size + length
            if kind in (_FULL, _FIRST):
                parts, inside = chunk, True
            else:
                parts += chunk
            if kind in (_FULL, _LAST) and inside:
                self._at, inside = start + at, False
                yield parts

    @property
    def rest(self) -> int:
        """Bytes after the last complete record."""
        return max(0, self._path.stat().st_size - self._at)


class Writer:
    """Writes records to a new file."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._file.write(HEADER)
        self._at = len(HEADER)

    def add(self, record: bytes) -> None:
        """Appends one serialized record."""
        first = True
        while first or record:
            header = _next_header(self._at)
            self._file.write(b"\0" * (header - self._at))
            room = BLOCK - header % BLOCK - _CHUNK.size
            chunk, record = record[:room], record[room:]
            kind = (_MIDDLE if record else _LAST) if not first else (_FIRST if record else _FULL)
            crc = zlib.crc32(chunk, zlib.crc32(bytes([kind])))
            self._file.write(_CHUNK.pack(crc, len(chunk), kind) + chunk)
            self._at, first = header + _CHUNK.size + len(chunk), False

    def flush(self) -> None:
        """Makes what was added visible to other processes."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def trim(path: Path) -> None:
    """Cuts off the record that a crash left unfinished: W&B's own sync refuses a file that ends within one."""
    reader = Reader(path)
    records = sum(1 for _ in reader.new())
    if records and not reader.damaged and reader.rest:
        os.truncate(path, path.stat().st_size - reader.rest)


def _next_header(at: int) -> int:
    """Returns where the next chunk begins: the last bytes of a block are too few for a header."""
    room = BLOCK - at % BLOCK
    return at + room if room < _CHUNK.size else at
