"""The first warning at the end of a training: short, bounded, and never an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.local_log import write_run
from trackkit.reading.first_warning import first_warning


def rows(count: int, lr: float) -> list[dict[str, Any]]:
    return [{"batch/step": step, "batch/loss": 2 / step**0.5, "batch/lr": lr} for step in range(1, count + 1)]


def test_long_log_is_judged_by_parts_of_it(tmp_path: Path) -> None:
    short = first_warning(write_run(tmp_path, "short", rows=rows(100, 0.0)), "finished")
    assert short == "The learning rate was 0 in all 100 rows: nothing was learned."
    long = write_run(tmp_path, "long", rows=rows(20_000, 0.0))
    assert (long / "rows.jsonl").stat().st_size > 1e6
    said = first_warning(long, "finished")
    assert said.startswith("The learning rate was 0 in all ")
    assert 2000 < int(said.split()[7]) < 10_000
    assert first_warning(write_run(tmp_path, "sound", rows=rows(20_000, 0.1)), "finished") == ""


def test_seam_before_the_parts_that_were_read_is_no_warning(tmp_path: Path) -> None:
    resumed = [{**row, "_pass": 1 + (row["batch/step"] > 9000)} for row in rows(20_000, 0.1)]
    assert first_warning(write_run(tmp_path, "a", rows=resumed), "finished") == ""


def test_what_other_lines_say_is_left_out(tmp_path: Path) -> None:
    bad = [*rows(50, 0.1), {"batch/step": 51, "batch/loss": float("nan"), "batch/nonfinite": 1}]
    assert first_warning(write_run(tmp_path, "a", rows=bad), "failed") == ""


def test_folder_that_cannot_be_read_costs_no_error(tmp_path: Path) -> None:
    assert first_warning(tmp_path / "none", "finished") == ""
    folder = write_run(tmp_path, "a", rows=rows(10, 0.1))
    (folder / "rows.jsonl").unlink()
    (folder / "rows.jsonl").mkdir()
    assert first_warning(folder, "finished") == ""
