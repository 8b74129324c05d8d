"""A run whose files were damaged by a crash or a power failure is resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.doomed import STEPS, Task
from tests.support.resuming import FRAMEWORKS, KILL, killed, resume
from trackkit import read_run


@FRAMEWORKS
@pytest.mark.parametrize(
    "rest", [b"\xff\xfe\x80garbage", b'[1]\nnull\n{"": 1}\n{"batch/step": "NaN"}\n{"batch/step": []}\n']
)
def test_damaged_lines_are_skipped(tmp_path: Path, framework: str, rest: bytes) -> None:
    checkpoint = killed(tmp_path, Task(framework, at=50, then=KILL))
    rows = next(tmp_path.glob("out/_trackkit/*/rows.jsonl"))
    rows.write_bytes(rows.read_bytes()[:-30] + b"\n" + rest)
    resume(tmp_path, framework, checkpoint)
    run = read_run(tmp_path / "out")
    assert (run.run["status"], run.run["passes"]) == ("finished", 2)
    assert [step for step, _ in run.series("batch/loss")] == list(range(1, STEPS + 1))


@FRAMEWORKS
def test_empty_run_json_loses_no_attempt(tmp_path: Path, framework: str) -> None:
    """The file system wrote the name, but not the content."""
    first = killed(tmp_path, Task(framework, at=30, then=KILL))
    killed(tmp_path, Task(framework, resume=first, at=70, then=KILL))
    path = next(tmp_path.glob("out/_trackkit/*/run.json"))
    path.write_bytes(b"")
    run = read_run(tmp_path / "out")
    assert (run.run_id, run.status) == (path.parent.name, "damaged")
    assert run.run["error"].startswith("run.json of ")
    resume(tmp_path, framework, first)
    run = read_run(tmp_path / "out")
    assert (run.run["status"], run.run["passes"]) == ("finished", 3)
    assert [step for step, _ in run.series("batch/loss")] == list(range(1, STEPS + 1))
    assert {row["_pass"] for row in run.history} == {1, 2, 3}
