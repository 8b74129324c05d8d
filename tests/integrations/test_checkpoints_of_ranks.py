"""Two gloo processes under torchrun: rank 0 records each checkpoint once, with the parts of both ranks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.local_log import local_run
from tests.support.warm import run_torchrun
from trackkit.checkpoints.ledger import read_ledger
from trackkit.checkpoints.staging import Staging

# As DDP has them: at the first and the last of four steps.
NORMS = [1.868702, 3.454733]
SCRIPT = Path(__file__).parents[1] / "support" / "saving_ranks.py"


def files(path: Path) -> set[str]:
    """Returns the files of a folder, relative; the name of a file."""
    if path.is_file():
        return {path.name}
    return {str(Path(place, name).relative_to(path)) for place, _, names in os.walk(path) for name in names}


@pytest.mark.parametrize("kind", ["ddp", "fsdp2", "fsdp2-async", "huggingface"])
def test_each_save_is_recorded_once_with_all_parts(kind: str, tmp_path: Path) -> None:
    done = run_torchrun(SCRIPT, str(tmp_path), kind, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    run = local_run(tmp_path)
    entries = read_ledger(run.folder)
    assert run.summary["final/tracker_errors"] == 0
    if kind != "huggingface":
        # The same training: rank 0 adds up the squares of the parts that FSDP2 leaves on each rank.
        assert [norm for _, norm in run.history("batch/grad_norm")] == pytest.approx(NORMS, rel=1e-4)
    assert {each.path for each in entries} == {str(path) for path in (tmp_path / "ckpt").glob("*[0-9]*")}
    assert [each.step for each in entries] == ([2, 3] if kind == "huggingface" else [2, 4])
    for entry in entries:
        staged = Staging(run.folder).folder(entry.number)
        assert files(Path(entry.path)) == {each.name for each in entry.files} == files(staged), entry
    found = {name for each in entries for name in files(Path(each.path))}
    if kind.startswith("fsdp2"):
        assert {"__0_0.distcp", "__1_0.distcp", ".metadata", "meta.pt"} <= found
    if kind == "huggingface":
        assert {"rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"} <= found
    else:
        assert [(each.metric, each.goal) for each in entries] == [("val_loss", "min")] * 2
        assert all(each.value is not None for each in entries)


def test_save_that_a_killed_rank_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    done = run_torchrun(SCRIPT, str(tmp_path), "fsdp2", "killed", cwd=tmp_path)
    assert done.returncode != 0
    (entry,) = read_ledger(local_run(tmp_path).folder)
    assert (entry.step, entry.state) == (2, "hashed")
    assert (tmp_path / "ckpt" / "epoch=1-step=4.ckpt" / "__0_0.distcp").exists()
