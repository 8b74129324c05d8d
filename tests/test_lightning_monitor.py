"""The metric that Lightning's own checkpointing watches is the one whose best is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.support.lightning_toys import data, layer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

SCORES = [(1.0, 5.0), (3.0, 4.0), (2.0, 6.0)]


class TwoSets(pl.LightningModule):
    """Logs known scores for two validation sets."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = layer()

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        self.log("val_score", SCORES[self.current_epoch][dataloader_idx])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.parametrize(
    ("index", "mode", "best", "epoch"), [(0, "max", 3.0, 2), (1, "min", 4.0, 2), (1, "max", 6.0, 3)]
)
def test_the_monitored_metric_of_one_of_several_sets(
    index: int, mode: str, best: float, epoch: int, tmp_path: Path
) -> None:
    """`monitor="val_score/dataloader_idx_1"`: its best and the step of it."""
    sink = MemorySink()
    checkpoint = ModelCheckpoint(tmp_path, monitor=f"val_score/dataloader_idx_{index}", mode=mode)
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[checkpoint, TrackKit(sinks=[sink])],
    )
    trainer.fit(TwoSets(), data(4), [data(1), data(1)])
    found = {key: value for key, value in sink.columns.items() if key.startswith("final/best/")}
    assert found == {
        f"final/best/val/dataloader_{index}/score": best,
        f"final/best/val/dataloader_{index}/score_step": 4 * epoch,
    }
    assert float(checkpoint.best_model_score) == best
