"""The example for Lightning Fabric runs, in one process and in two."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.local_log import local_run
from tests.support.processes import ROOT
from tests.support.warm import run_script, run_torchrun


@pytest.mark.parametrize("ranks", [1, 2])
def test_fabric_example_records_a_whole_run(ranks: int, tmp_path: Path) -> None:
    script, arguments = ROOT / "examples" / "digits_fabric.py", ["--out", str(tmp_path), "--epochs", "2"]
    if ranks == 1:
        done = run_script(script, *arguments, "--precision", "bf16-mixed", cwd=tmp_path)
    else:
        done = run_torchrun(script, *arguments, "--devices", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    run, steps = local_run(tmp_path), 48 // ranks
    rows = [1, *range(5, steps, 5), *([steps] if steps % 5 else [])]
    for key in ("loss", "lr", "grad_norm", "acc", "samples_per_s", "data_time_s", "iter_num"):
        assert [step for step, _ in run.history(f"batch/{key}")] == rows, key
    assert run.history("batch/samples")[-1] == (steps, 2 * 1536)
    assert [step for step, _ in run.history("epoch/val/acc")] == [steps // 2, steps]
    assert max(norm for _, norm in run.history("batch/grad_norm")) > 0
    assert (run.config["model/class"], run.config["optim/class"]) == ("torch.nn.modules.container.Sequential", "AdamW")
    assert run.config["data/batch_size_per_device"] == 64
    assert run.summary["final/status"] == "finished"
    assert run.summary["final/tracker_errors"] == 0
    assert len((next((tmp_path / "_trackkit").iterdir()) / "checkpoints.jsonl").read_text().splitlines()) >= 2
