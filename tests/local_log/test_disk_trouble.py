"""The disk, the folder or the descriptor fails in mid-training: no row is lost, or a gap says which."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

import trackkit
from tests.support.lightning_toys import Logging, data, trainer
from tests.support.run_info import run_info
from tests.support.small_disk import SmallDisk
from trackkit import TrackKit, read_run
from trackkit.engine.records import Gap, Row
from trackkit.engine.run_info import History
from trackkit.integrations.memory import MemorySink
from trackkit.local_log.reader import read_folder
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.writer import LocalSink

STEPS, FROM, TO = 150, 60, 90


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "disk")
    yield made
    made.remove()


class Trouble(pl.Callback):
    """Calls `begin` after step 60 with the run folder, and `end` after step 90."""

    def __init__(self, begin: Callable[[Path], Any], end: Callable[[Path], Any] = lambda folder: None) -> None:
        self.begin, self.end = begin, end
        self.folder: Path | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == FROM:
            (rows,) = Path(trainer.default_root_dir).rglob("rows.jsonl")
            self.folder = rows.parent
            self.begin(self.folder)
        elif trainer.global_step == TO and self.folder is not None:
            self.end(self.folder)


def recorded(root: Path, trouble: Trouble) -> tuple[MemorySink, Path]:
    """Trains with trouble, and checks that the training is the same; returns what an unharmed sink has."""
    sink, bare, module = MemorySink(), Logging(), Logging()
    trainer([TrackKit(sinks=[sink]), trouble], log_every_n_steps=1, default_root_dir=str(root)).fit(module, data(STEPS))
    trackkit.finish()
    trainer().fit(bare, data(STEPS))
    assert torch.equal(module.layer.weight, bare.layer.weight)
    assert trouble.folder is not None
    return sink, trouble.folder


def assert_complete(run: RecordedRun, sink: MemorySink) -> None:
    """Asserts that the run has all that the unharmed sink has, in order, and no damaged line."""
    assert run.folder is not None
    lines = (run.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [row.number for row in run.rows] == list(range(STEPS + 1))
    assert [row.values for row in run.rows] == [row.values for row in sink.rows]
    assert (len(lines), list(run.gaps)) == (STEPS + 1, [])
    assert_described(run, sink)


def assert_described(run: RecordedRun, sink: MemorySink) -> None:
    """Asserts that configuration, summary, status and exit code are those of the training."""
    assert (run.config, run.summary) == (sink.settings, sink.columns)
    assert (run.run["status"], run.run["exit_code"]) == ("finished", 0)
    assert not [path.name for path in run.folder.iterdir() if path.name.startswith(".run")]  # type: ignore[union-attr]


def close_descriptors(folder: Path) -> None:
    """Closes the descriptors of the run folder's files, and gives that of the rows to another file."""
    places = {_target(each): int(each) for each in os.listdir("/proc/self/fd")}
    number = places.pop(str((folder / "rows.jsonl").resolve()))
    for place, other in places.items():
        if place.startswith(str(folder.resolve())):
            os.close(other)
    file = os.open(folder.parent.parent / "user.txt", os.O_RDWR | os.O_CREAT)
    os.dup2(file, number)
    os.close(file)


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def test_rows_of_a_transient_full_disk_are_written_after_it(disk: SmallDisk, caplog: pytest.LogCaptureFixture) -> None:
    sink, folder = recorded(disk.folder, Trouble(lambda _: disk.fill(), lambda _: disk.free()))
    assert_complete(read_run(folder), sink)
    assert sink.columns["final/tracker_errors"] == 1
    assert caplog.text.count("Traceback") == 1


def test_full_disk_until_the_end_leaves_status_and_gap(disk: SmallDisk, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the rows nor the summary have space; `run.json` is written over."""
    sink, folder = recorded(disk.folder, Trouble(lambda _: disk.fill()))
    run = read_run(folder)
    assert [row.values for row in run.rows] == [row.values for row in sink.rows[: len(run.rows)]]
    assert run.gaps == [Gap(STEPS + 1 - len(run.rows), run.rows[-1].step + 1, STEPS)]
    assert FROM <= len(run.rows) < STEPS
    assert (run.run["status"], run.run["exit_code"]) == ("finished", 0)
    assert f"sink 'LocalSink' lacks {run.gaps[0]}" in caplog.text


def test_file_size_limit_of_a_while_costs_no_row(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def lower(folder: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "rows.jsonl").stat().st_size + 10, limit[1]))

    try:
        trouble = Trouble(lower, lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
        sink, folder = recorded(tmp_path, trouble)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert_complete(read_run(folder), sink)


def test_closed_descriptor_costs_no_row_and_its_next_file_gets_none(tmp_path: Path) -> None:
    sink, folder = recorded(tmp_path, Trouble(close_descriptors))
    assert_complete(read_run(folder), sink)
    assert sink.columns["final/tracker_errors"] == 0
    assert (tmp_path / "user.txt").read_bytes() == b""


def test_disk_without_inodes_costs_nothing(disk: SmallDisk) -> None:
    """No file can be made, also at the end: those of the run are written over."""
    more = disk.folder / "more"

    def use_up(folder: Path) -> None:
        more.mkdir()
        if not is_mounted:
            # Without the right to mount: the folder takes no new files.
            folder.chmod(0o500)
            return
        with contextlib.suppress(OSError):
            for number in range(100):
                (more / str(number)).touch()
        assert len(os.listdir(more)) < 100

    is_mounted = os.path.ismount(disk.folder)
    if is_mounted:
        subprocess.run(["mount", "-o", "remount,nr_inodes=60", str(disk.folder)], check=True)
    sink, folder = recorded(disk.folder, Trouble(use_up))
    run = read_run(folder)
    assert [row.values for row in run.rows] == [row.values for row in sink.rows]
    assert (run.gaps, run.config, run.run["status"]) == ([], sink.settings, "finished")


def test_renamed_folder_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink, _ = recorded(tmp_path, Trouble(lambda folder: folder.rename(tmp_path / "moved")))
    assert_complete(read_run(tmp_path / "moved"), sink)
    assert sink.columns["final/tracker_errors"] == 0
    assert caplog.text.count(f"The run folder was moved. Recording continues in '{tmp_path / 'moved'}'.") == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_deleted_folder_is_made_again_with_a_gap(tmp_path: Path, replaced: bool) -> None:
    def delete(folder: Path) -> None:
        shutil.rmtree(folder)
        if replaced:
            folder.mkdir()
            (folder / "rows.jsonl").touch()

    sink, folder = recorded(tmp_path, Trouble(delete))
    run = read_run(folder)
    lost = STEPS + 1 - len(run.rows)
    assert run.gaps == [Gap(lost, 1, run.rows[0].step - 1)]
    assert [row.values for row in run.rows] == [row.values for row in sink.rows[lost:]]
    assert FROM - 1 <= lost <= FROM
    assert_described(run, sink)


def test_read_only_folder_of_a_while_costs_nothing(tmp_path: Path) -> None:
    """Root may write to any folder: for root it is mounted read-only."""

    def lock(folder: Path) -> None:
        folder.chmod(0o500)
        subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True, check=False)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], capture_output=True, check=False)

    def unlock(folder: Path) -> None:
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)
        folder.chmod(0o700)

    trouble = Trouble(lock, unlock)
    try:
        sink, folder = recorded(tmp_path, trouble)
    finally:
        if trouble.folder is not None:
            unlock(trouble.folder)
    assert_complete(read_run(folder), sink)


def row(number: int) -> Row:
    return Row(number, "batch", number + 1, 1.5, {"batch/step": number + 1, "batch/loss": 0.5})


def test_gap_of_a_process_that_was_killed_on_a_full_disk_outlives_the_resume(disk: SmallDisk) -> None:
    sink, info = LocalSink(), run_info(disk.folder, "abc")
    sink.open(info)
    sink.write(row(0))
    disk.fill()
    number = 1
    with contextlib.suppress(OSError):
        while number < 1000:
            sink.write(row(number))
            number += 1
    killed = read_folder(info.folder)
    assert killed.gaps == [Gap(1, number + 1, number + 1)]
    assert len(killed.rows) == number
    disk.free()
    again = LocalSink()
    again.open(info)
    again.write(row(number + 5))
    again.close(0)
    third = LocalSink()
    history = History(disk.folder, rows=read_folder(info.folder).rows, attempts=1)
    third.open(run_info(disk.folder, "abc", earlier=history))
    third.write(row(0))
    third.close(0)
    resumed = read_folder(info.folder)
    assert resumed.rows[-1].number == number + 6, "the numbers of the rows are never used twice"
    assert (resumed.gaps, len(resumed.rows)) == (killed.gaps, number + 2)
    assert "gap" not in resumed.run
    sink.close(0)


def test_row_that_was_cut_short_is_written_once(tmp_path: Path) -> None:
    """A full disk takes a part of a line, or all but its end: the part is removed before the row is written again."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink, info = LocalSink(), run_info(tmp_path, "abc")
    sink.open(info)
    sink.write(row(0))
    path = info.folder / "rows.jsonl"
    size = path.stat().st_size
    for spare in (1, size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + spare, limit[1]))
        try:
            with pytest.raises(OSError, match="large"):
                sink.write(row(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert path.stat().st_size == size
    sink.write(row(1))
    sink.close(0)
    assert [each.number for each in read_folder(info.folder).rows] == [0, 1]
