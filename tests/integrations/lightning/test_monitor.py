"""The best value of the metric that Lightning's checkpointing or early stopping monitors is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from tests.support.lightning_toys import data, layer, trainer
from trackkit import TrackKit, finish
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
def test_best_of_a_monitored_set_is_kept(index: int, mode: str, best: float, epoch: int, tmp_path: Path) -> None:
    """`monitor="val_score/dataloader_idx_1"` keeps the best of that set, and its step."""
    sink = MemorySink()
    checkpoint = ModelCheckpoint(tmp_path, monitor=f"val_score/dataloader_idx_{index}", mode=mode)
    run = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[checkpoint, TrackKit(sinks=[sink])],
    )
    run.fit(TwoSets(), data(4), [data(1), data(1)])
    found = {key: value for key, value in sink.columns.items() if key.startswith("final/best/")}
    assert found == {
        f"final/best/val/dataloader_{index}/score": best,
        f"final/best/val/dataloader_{index}/score_step": 4 * epoch,
    }
    assert float(checkpoint.best_model_score) == best


class Forked(TwoSets):
    """Logs its scores per batch and per epoch, of which Lightning makes two metrics."""

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        self.log("val_score", SCORES[self.current_epoch][dataloader_idx], on_step=True, on_epoch=True)


def best(monitor: str | None, sets: Any, fit: Any = None, **settings: Any) -> dict[str, Any]:
    """Returns the best values of three epochs; early stopping monitors `monitor`."""
    sink = MemorySink()
    stopping = [EarlyStopping(monitor, mode="max", patience=9)] if monitor else []
    trainer([*stopping, TrackKit(sinks=[sink], **settings)], max_epochs=3).fit(fit or Forked(), data(4), sets)
    return {k.removeprefix("final/best/val/"): v for k, v in sink.columns.items() if k.startswith("final/best/")}


@pytest.mark.parametrize("names", ["canonical", "keep"])
@pytest.mark.parametrize("monitor", ["val_score", "val_score_epoch"])
@pytest.mark.parametrize("by", ["early stopping", "setting"])
def test_best_of_a_metric_logged_per_batch_and_per_epoch_is_kept(names: str, monitor: str, by: str) -> None:
    options = {"final_summary": {"monitor": monitor, "goal": "max"}} if by == "setting" else {}
    found = best(None if by == "setting" else monitor, data(1), names=names, callbacks=options)
    name = "val_score_epoch" if names == "keep" else "score"
    assert found == {name: 3.0, f"{name}_step": 8}


@pytest.mark.parametrize("names", ["canonical", "keep"])
@pytest.mark.parametrize("module", [Forked, TwoSets])
def test_best_of_a_named_set_is_kept_under_its_name(names: str, module: type[TwoSets]) -> None:
    sets = {"first set": data(1), "second": data(1)}
    found = best("val_score/dataloader_idx_0", sets, module(), names=names)
    name = "score" if names == "canonical" else "val_score_epoch" if module is Forked else "val_score"
    assert found == {f"first_set/{name}": 3.0, f"first_set/{name}_step": 8}


def test_monitor_setting_selects_one_set_or_all() -> None:
    for monitor, kept in {"val_score": [3.0, 6.0], "val_score/dataloader_idx_1": [6.0]}.items():
        options = {"final_summary": {"monitor": monitor, "goal": "max"}}
        found = best(None, [data(1), data(1)], TwoSets(), callbacks=options)
        assert [value for key, value in found.items() if key.endswith("score")] == kept


def test_best_of_an_earlier_attempt_is_kept(isolated: Path) -> None:
    """The metric is logged under its key's name, so that no rename has to be read back."""

    class Plain(TwoSets):
        def validation_step(self, batch: Any, _: int) -> None:
            self.log("score", SCORES[self.current_epoch][0])

    def fit(epochs: int, checkpoint: str | None = None) -> MemorySink:
        sink, saving = MemorySink(), ModelCheckpoint("saved", "{epoch}", monitor="score", mode="max", save_top_k=-1)
        run = trainer([saving, TrackKit(project="p", sinks=[sink])], max_epochs=epochs, enable_checkpointing=True)
        run.fit(Plain(), data(4), data(1), ckpt_path=checkpoint)
        finish()
        return sink

    fit(2)
    assert fit(3, "saved/epoch=1.ckpt").columns["final/best/val/score"] == 3.0
