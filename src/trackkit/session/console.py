"""Records what the program prints and logs, from a run's opening to its closing."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from time import time as now

from trackkit.engine.records import Line
from trackkit.local_log.console import MAX_LINE, ConsoleFile, console_name, masked
from trackkit.local_log.private import opener
from trackkit.redaction.patterns import MASK
from trackkit.session import capture
from trackkit.session.screen import Screen

TICK_S = 1.0
# What one tick records at most: characters printed, and lines.
MAX_CHARACTERS, MAX_LINES, LAST_LINES = 1 << 20, 500, 100
MAX_FILE = 50_000_000
WAITING = 2000
# Pieces of one stream that are so close become one text: ten times faster.
_JOIN_S = 0.05
_KEY_BEGINS = re.compile(r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_KEY_ENDS = re.compile(r"-{4,5} ?END ")
_KEY_LINES = 200


class NullConsole:
    """Records nothing: `console: false`.

    Attributes:
        recent: the last 100 lines.
    """

    recent: Sequence[Line] = ()

    def listen(self) -> None:
        """Starts to listen, or listens again to streams that were replaced."""

    def start(self) -> None:
        """Starts to record what was printed since `listen`, once per second."""

    def drain(self) -> None:
        """Records what was printed so far."""

    def close(self, traceback: str = "") -> None:
        """Records what is left, and the traceback unless it was printed; stops listening."""


class Console(NullConsole):
    """Records one process's output in its run's folder and in the sinks.

    Args:
        rank: of this process.
        find: returns the run's folder; None while it is unknown.
        send: takes each batch of lines, for the sinks.
        failed: takes an error, after which nothing is recorded any more.
    """

    def __init__(
        self,
        rank: int,
        find: Callable[[], Path | None],
        send: Callable[[Sequence[Line]], None],
        failed: Callable[[str, Exception], None],
    ) -> None:
        self._rank, self._find, self._send, self._failed = rank, find, send, failed
        self.recent: deque[Line] = deque(maxlen=LAST_LINES)
        self._pieces: deque[tuple[float, str, str]] = deque()
        self._size = self._missed = 0
        self._screens = {"stdout": Screen("stdout"), "stderr": Screen("stderr")}
        self._keys = dict.fromkeys(self._screens, 0)
        self._waiting: deque[Line] = deque(maxlen=WAITING)
        self._left_out = 0
        self._file: ConsoleFile | None = None
        self._crash: tuple[Path, int, os.stat_result] | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        if not self._stop.is_set():
            capture.listen(self._add)

    def start(self) -> None:
        self._tick(False)
        self._thread = threading.Thread(target=self._work, name="trackkit-console", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        self._tick(False)

    def close(self, traceback: str = "") -> None:
        capture.ignore(self._add)
        self._tick(False)
        printed = {line.text.strip() for line in self.recent}
        if traceback and traceback.strip().rpartition("\n")[2].strip()[:MAX_LINE] not in printed:
            self._add("stderr", traceback)
        self._tick(True)
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(TICK_S)
        self._end_crash_file()

    def _add(self, stream: str, text: str) -> None:
        if self._size < MAX_CHARACTERS:
            self._size += len(text)
            self._pieces.append((now(), stream, text))
        else:
            self._missed += text.count("\n")

    def _work(self) -> None:
        while not self._stop.wait(TICK_S):
            capture.renew()
            self._tick(False)

    def _tick(self, last: bool) -> None:
        # A signal handler may interrupt a tick of its own thread; that one then completes.
        if self._stop.is_set() or not self._lock.acquire(timeout=2 * TICK_S):
            return
        try:
            lines = self._collect(now(), last)
            if self._open() is None:
                self._waiting += lines
            elif lines or self._waiting or (last and self._left_out):
                self._record([*self._waiting, *lines], last)
                self._waiting.clear()
        except Exception as error:  # noqa: BLE001 -- counted
            self._stop.set()
            capture.ignore(self._add)
            self._failed("the recording of the console", error)
        finally:
            self._lock.release()

    def _collect(self, moment: float, last: bool) -> list[Line]:
        """Returns the lines that became final since the last call, masked and bounded."""
        missed, self._missed, self._size = self._missed, 0, 0
        lines: list[Line] = []
        for when, stream, text in _joined(self._pieces):
            lines += self._screens[stream].write(when, text)
        for screen in self._screens.values():
            lines += screen.last(moment) if last else screen.due(moment)
        lines = [self._without_key(line) for line in lines]
        left = missed + max(0, len(lines) - MAX_LINES)
        if left:
            said = f"[{left} lines left out: more than {MAX_LINES} lines or {MAX_CHARACTERS} characters per second]"
            first = lines[: MAX_LINES - LAST_LINES]
            lines = [*first, Line(moment, "trackkit", said), *lines[len(first) :][-LAST_LINES:]]
        return masked(lines)

    def _without_key(self, line: Line) -> Line:
        """Returns the line with a private key masked, of which each line shows only a part."""
        if inside := self._keys[line.stream]:
            ends = _KEY_ENDS.search(line.text)
            self._keys[line.stream] = 0 if ends else inside - 1
            return line._replace(text=MASK + (line.text[ends.start() :] if ends else ""))
        begins = _KEY_BEGINS.search(line.text)
        if begins is None or _KEY_ENDS.search(line.text, begins.end()):
            return line
        self._keys[line.stream] = _KEY_LINES
        return line._replace(text=line.text[: begins.start()] + MASK)

    def _record(self, lines: list[Line], last: bool) -> None:
        """Writes lines to the file and the sinks; after a failure, or past the file's bound, counts them instead."""
        assert self._file is not None
        self.recent += lines
        full = self._file.size > MAX_FILE
        if full and not last:
            self._left_out += len(lines)
            return
        if full:
            lines, self._left_out = [*self.recent], max(0, self._left_out + len(lines) - len(self.recent))
        said = f"[{self._left_out} lines left out]"
        note = [Line(lines[0].time if lines else now(), "trackkit", said)] if self._left_out else []
        try:
            self._file.write([*note, *lines])
            self._left_out = 0
        except OSError:
            # Such as a full disk: the next batch says what is missing.
            self._left_out += len(lines)
        self._send([*note, *lines] if full else lines)

    def _open(self) -> ConsoleFile | None:
        folder = self._find() if self._file is None else None
        if folder is not None:
            self._file = ConsoleFile(folder / console_name(self._rank))
            if not faulthandler.is_enabled():
                self._watch_crashes(folder / (f"crash.rank{self._rank}.txt" if self._rank else "crash.txt"))
        return self._file

    def _watch_crashes(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            number = opener(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
            faulthandler.enable(number)
            self._crash = path, number, os.fstat(number)

    def _end_crash_file(self) -> None:
        if self._crash is None:
            return
        path, number, opened = self._crash
        self._crash = None
        faulthandler.disable()
        with contextlib.suppress(OSError):
            # The program may have closed it, and opened a file of its own under the same number.
            if os.path.samestat(os.fstat(number), opened):
                os.close(number)
            if not path.stat().st_size:
                path.unlink()


def _joined(pieces: deque[tuple[float, str, str]]) -> Iterable[tuple[float, str, str]]:
    """Removes and yields the pieces printed so far, consecutive ones of a stream as one text."""
    taken = [pieces.popleft() for _ in range(len(pieces))]
    for (_, stream), texts in groupby(taken, key=lambda piece: (piece[0] // _JOIN_S, piece[1])):
        (when, _, first), *rest = texts
        yield when, stream, "".join([first, *(text for _, _, text in rest)])
