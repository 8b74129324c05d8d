"""Two gloo processes: one run, with the samples and the mean loss of both, and weights as without TrackKit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.local_log import local_run
from tests.support.processes import ROOT
from tests.support.warm import run_torchrun

SCRIPT = ROOT / "tests" / "support" / "loop_ranks.py"
ROWS = [1, 4, 8, 12]


@pytest.mark.parametrize("kind", ["ddp", "fsdp2", "fsdp2-silent"])
def test_one_run_has_the_norm_of_reduced_gradients(kind: str, tmp_path: Path) -> None:
    done = run_torchrun(SCRIPT, str(tmp_path), kind, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    run = local_run(tmp_path)
    for rank in (0, 1):
        bare, tracked, norms = torch.load(tmp_path / f"truth-{rank}.pt")
        assert all(torch.equal(bare[name], tracked[name]) for name in bare)
    found = run.history("batch/grad_norm")
    assert [step for step, _ in found] == ROWS
    assert [norm for _, norm in found] == pytest.approx([norms[step - 1] for step in ROWS], rel=1e-5)
    assert [step for step, _ in run.history("batch/lr")] == ROWS
    assert [value for _, value in run.history("batch/samples")] == [8 * step for step in ROWS]
    assert [value for _, value in run.history("batch/epoch")] == pytest.approx([step / 6 for step in ROWS])
    assert run.summary["final/status"] == "finished"
    assert run.summary["final/tracker_errors"] == 0
    assert run.config["runtime/world_size"] == 2
    assert run.config["model/class"].endswith("Sequential")


def test_only_rank_0_records_what_init_logs(tmp_path: Path) -> None:
    done = run_torchrun(SCRIPT, str(tmp_path), "init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert local_run(tmp_path).history("batch/loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
