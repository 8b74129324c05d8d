"""A sink that fails is retried with back-off: nothing is lost unless too much waits, and then the gap is marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_clock import FakeClock
from tests.support.run_info import run_info
from trackkit.engine import outbox
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Gap, Line, Row
from trackkit.engine.run_info import RunInfo
from trackkit.engine.tracker import Tracker
from trackkit.integrations.memory import MemorySink
from trackkit.integrations.wandb.worker import Worker
from trackkit.schema.keys import BATCH


class Flaky(MemorySink):
    """Raises `error` from every call while it has one.

    Attributes:
        error: raised; None for none.
        refused: steps of rows that are never written.
        tries: number of calls.
        gaps: that it was given, each with the number of rows before it.
    """

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.refused: set[int] = set()
        self.tries = 0
        self.gaps: list[tuple[int, Gap]] = []

    def _check(self) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error

    def open(self, info: RunInfo) -> None:
        self._check()
        super().open(info)

    def write(self, row: Row) -> None:
        self._check()
        if row.step in self.refused:
            raise ValueError("this row can't be written")
        super().write(row)

    def gap(self, gap: Gap) -> None:
        self._check()
        self.gaps.append((len(self.rows), gap))

    def console(self, lines: Sequence[Line]) -> None:
        self._check()
        super().console(lines)

    def config(self, values: Mapping[str, Any]) -> None:
        self._check()
        super().config(values)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._check()
        super().summary(values)

    def preempting(self) -> None:
        self._check()
        self.columns["preempting"] = True

    def close(self, exit_code: int) -> None:
        self._check()
        super().close(exit_code)


class Bench:
    """A tracker with a sink that fails and one that does not."""

    def __init__(self, sink: Flaky, root: Path) -> None:
        self.sink, self.witness = sink, MemorySink()
        self.tracker = Tracker([], [sink, self.witness], Exchange())
        self.tracker.start(run_info(root))
        self.step = 0

    def emit(self, rows: int) -> None:
        for _ in range(rows):
            self.step += 1
            self.tracker.report({"loss": 1.0 / self.step}, BATCH, self.step)
            self.tracker.seal()

    def end(self) -> None:
        self.tracker.end("finished")
        self.tracker.close(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("down")])
@pytest.mark.parametrize("failing_from", [0, 60])
def test_rows_of_an_outage_are_written_in_order_after_it(
    clock: FakeClock, tmp_path: Path, error: Exception, failing_from: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bench = Bench(Flaky(None if failing_from else error), tmp_path)
    bench.emit(failing_from)
    bench.sink.error = error
    bench.emit(30)
    bench.tracker.preempting()
    bench.sink.error = None
    bench.emit(30)
    assert len(bench.sink.rows) == failing_from, "the pause is not over"
    clock.advance(1.5)
    bench.emit(1)
    assert [row.number for row in bench.sink.rows] == list(range(failing_from + 61))
    clock.advance(1.5)
    bench.emit(1)
    bench.end()
    assert bench.sink.rows == bench.witness.rows
    assert bench.sink.columns == {**bench.witness.columns, "preempting": True}
    assert (bench.sink.info, bench.sink.exit_code) == (bench.witness.info, 0)
    assert (bench.witness.columns["final/tracker_errors"], bench.sink.gaps) == (1, [])
    said = [record.getMessage() for record in caplog.records if "Flaky" in record.getMessage()]
    where = "write" if failing_from else "open"
    assert said == [
        f"sink 'Flaky' ({where}) failed and is retried; training continues",
        "sink 'Flaky' works again.",
    ]


def test_pause_doubles_up_to_a_minute_and_starts_anew(clock: FakeClock, tmp_path: Path) -> None:
    bench = Bench(Flaky(), tmp_path)
    bench.sink.error = OSError("down")
    bench.emit(1)
    pauses = []
    for _ in range(8):
        tries, began = bench.sink.tries, clock.now
        while bench.sink.tries == tries:
            clock.advance(0.5)
            bench.emit(1)
        pauses.append(clock.now - began)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    bench.sink.error = None
    for _ in range(3):
        clock.advance(61)
        bench.emit(1)
    bench.sink.error, tries = OSError("down again"), bench.sink.tries
    bench.emit(1)
    clock.advance(1)
    bench.emit(1)
    assert bench.sink.tries == tries + 2
    assert bench.tracker.faults.count == 2, "an outage counts once"


def test_slow_failure_is_retried_less_often(clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Flaky(), tmp_path)
    monkeypatch.setattr(bench.sink, "_check", lambda: clock.advance(3.0))
    bench.sink.refused = set(range(1000))
    bench.emit(1)
    clock.advance(1.0)
    bench.emit(1)
    began = clock.now
    bench.emit(1)
    clock.advance(59.0)
    bench.emit(1)
    assert clock.now == began + 59.0


def test_oldest_rows_are_lost_and_marked_if_too_many_wait(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "MAX_VALUES", 20)
    bench = Bench(Flaky(), tmp_path)
    bench.emit(5)
    bench.sink.error = OSError("full")
    bench.emit(100)
    bench.sink.error = None
    bench.emit(1)
    clock.advance(2)
    bench.emit(1)
    bench.end()
    assert [row.step for row in bench.sink.rows] == [*range(1, 6), *range(98, 108)]
    assert bench.sink.gaps == [(5, Gap(92, 6, 97))]
    assert "sink 'Flaky' lacks 92 rows (steps 6 to 97), which could not be written." in caplog.text


def test_row_that_can_never_be_written_costs_itself(clock: FakeClock, tmp_path: Path) -> None:
    bench = Bench(Flaky(), tmp_path)
    bench.sink.refused = {3, 30, 31}
    for _ in range(20):
        bench.emit(1)
        clock.advance(61)
    bench.emit(20)
    bench.end()
    assert [row.step for row in bench.sink.rows] == [step for step in range(1, 41) if step not in bench.sink.refused]
    assert bench.sink.gaps == [(2, Gap(1, 3, 3)), (28, Gap(1, 30, 30)), (28, Gap(1, 31, 31))]
    assert bench.sink.columns == bench.witness.columns


def test_what_fails_until_the_end_is_said_and_never_raised(
    clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(Flaky(), tmp_path)
    bench.emit(10)
    bench.sink.error = OSError("full")
    bench.emit(5)
    bench.end()
    assert "sink 'Flaky' lacks 5 rows (steps 11 to 15) and the summary, which could not be written." in caplog.text
    assert (bench.witness.columns["final/tracker_errors"], bench.witness.exit_code) == (1, 0)
    assert caplog.text.count("Traceback") == 1


def test_sink_that_fails_for_printed_lines_gets_later_ones(clock: FakeClock, tmp_path: Path) -> None:
    bench = Bench(Flaky(), tmp_path)
    for number, error in enumerate([None, OSError("down"), OSError("down"), None, None]):
        bench.sink.error = error
        bench.tracker.console([Line(float(number), "stdout", str(number))])
        clock.advance(0.0 if number == 1 else 2.0)
    assert [line.text for line in bench.sink.lines] == ["0", "3", "4"]
    assert [line.text for line in bench.witness.lines] == ["0", "1", "2", "3", "4"]
    assert bench.tracker.faults.count == 1


def test_failed_task_of_the_writer_thread_runs_again_before_all_others() -> None:
    done: list[int] = []
    broken = [True, True, True]

    def task(number: int) -> None:
        if number == 1 and broken and broken.pop():
            raise RuntimeError("down")
        done.append(number)

    worker = Worker(10.0)
    worker.start()
    errors = 0
    for number in range(6):
        try:
            worker.submit(task, number)
            worker.flush(5.0)
        except RuntimeError:
            errors += 1
            worker.submit(task, number)
    assert worker.finish(lambda: done.append(-1))
    assert done == [0, 1, 2, 3, 4, 5, -1]
    assert errors
