"""A framework and a backend are added with one file and one registry line each, without a change to `src`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.warm import run_bare

REGISTER = """
from trackkit.integrations import BACKENDS, FRAMEWORKS, Framework
toy = "tests.integrations.toy"
FRAMEWORKS["toy"] = Framework(f"{toy}.hooks:ToyHooks", {f"{toy}.framework": "ToyCallback"})
BACKENDS["csv"] = "tests.integrations.toy.backend:CsvSink"
"""

TRAIN = """
import json, trackkit
from trackkit import TrackKit
kit = TrackKit(project="p")
from tests.integrations.toy.framework import ToyTrainer
trainer = ToyTrainer(5, [kit], "out")
trainer.fit()
if also_lightning:
    import lightning.pytorch as pl
    from tests.support.lightning_toys import Silent, data, trainer as lightning_trainer
    lightning_trainer([kit], max_epochs=1, default_root_dir="pl").fit(Silent(), data())
trackkit.finish()
print(json.dumps(trainer.losses))
"""


@pytest.mark.parametrize("also_lightning", [False, True])
def test_toy_framework_and_backend_record_a_training(tmp_path: Path, also_lightning: bool) -> None:
    done = run_bare(f"{REGISTER}\nalso_lightning = {also_lightning}\n{TRAIN}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [16 * 0.64**step for step in range(5)]
    [csv] = (tmp_path / "out").rglob("losses.csv")
    rows = [line.split(",") for line in csv.read_text().splitlines()]
    assert [int(step) for step, _ in rows] == [1, 2, 3, 4, 5]
    assert [float(loss) for _, loss in rows] == pytest.approx(losses, rel=1e-5)
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "pl").rglob("losses.csv"))) == also_lightning
    assert len(list(tmp_path.rglob("run-*.wandb"))) == 1 + also_lightning
