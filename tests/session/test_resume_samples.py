"""Samples and tokens continue from the checkpoint, wherever the last row before it was."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from tests.support.huggingface_toys import make_trainer
from tests.support.lightning_toys import layer, trainer
from trackkit import TrackKit, finish
from trackkit.integrations.memory import MemorySink

# Eight batches per epoch; the last is short.
LENGTH, BATCH, SAMPLES, EPOCHS = 5, 4, 30, 3


class Words(pl.LightningModule):
    """A model of batches of tokens. `seen` has this attempt's samples by optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = layer()
        self.seen: dict[int, int] = {}

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        step = self.trainer.global_step + 1
        self.seen[step] = self.seen.get(step, 0) + len(batch["features"])
        return self.layer(batch["features"]).square().mean()  # type: ignore[no-any-return]

    def train_dataloader(self) -> Any:
        sample = {"features": torch.ones(4), "input_ids": torch.ones(LENGTH)}
        return DataLoader([sample] * SAMPLES, BATCH)  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(checkpoint: int = 0, settings: Any = None, stop: int = -1, **arguments: Any) -> tuple[MemorySink, Words]:
    """Trains with a row every five steps and a checkpoint every third step and epoch; resumes from that of a step."""
    sink, module = MemorySink(), Words()
    saving = [
        ModelCheckpoint("saved", "{step}", save_top_k=-1, auto_insert_metric_name=False, **often)
        for often in ({"every_n_train_steps": 3}, {"every_n_epochs": 1})
    ]
    kit = TrackKit(project="p", dir="o", sinks=[sink], **(settings or {}))
    given = {"max_epochs": EPOCHS, "max_steps": stop, "log_every_n_steps": 5, "enable_checkpointing": True}
    path = f"saved/{checkpoint}.ckpt" if checkpoint else None
    trainer([kit, *saving], **given, **arguments).fit(module, ckpt_path=path)
    finish()
    return sink, module


def assert_counted(sink: MemorySink, *attempts: Words) -> None:
    """Asserts that the rows and columns of the last attempt have the modules' own counts."""
    sizes: dict[int, int] = {}
    for each in attempts:
        sizes = {**{step: size for step, size in sizes.items() if step < min(each.seen)}, **each.seen}
    assert list(sizes) == list(range(1, len(sizes) + 1))
    seen = dict(zip(sizes, accumulate(sizes.values()), strict=True))
    rows = [step for step, _ in sink.history("batch/step")]
    assert (rows[0], rows[-1]) == (min(attempts[-1].seen), len(sizes))
    assert sink.history("batch/samples") == [(step, seen[step]) for step in rows]
    assert sink.history("batch/tokens") == [(step, seen[step] * LENGTH) for step in rows]
    assert (sink.columns["final/samples"], sink.columns["final/tokens"]) == (seen[rows[-1]], seen[rows[-1]] * LENGTH)


@pytest.mark.parametrize("step", [3, 8, 12, 16])
@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.usefixtures("isolated")
def test_lightning_continues_the_count_of_the_checkpoint(step: int, resume: str) -> None:
    _, first = fit(stop=18)
    sink, second = fit(step, {"resume": resume})
    assert_counted(sink, first, second)


@pytest.mark.usefixtures("isolated")
def test_third_attempt_counts_both_earlier_ones() -> None:
    (_, first), (_, second) = fit(stop=8), fit(8, stop=13)
    sink, third = fit(12)
    assert_counted(sink, first, second, third)


@pytest.mark.usefixtures("isolated")
def test_count_continues_without_the_throughput_callback() -> None:
    _, first = fit(settings={"callbacks": {"throughput": False}}, stop=8)
    sink, second = fit(8)
    assert_counted(sink, first, second)


@pytest.mark.usefixtures("isolated")
def test_accumulated_batches_count() -> None:
    _, first = fit(stop=5, accumulate_grad_batches=2)
    sink, second = fit(4, accumulate_grad_batches=2)
    assert_counted(sink, first, second)


@pytest.mark.parametrize("left", [{}, {"samples": "many", "tokens": None}], ids=["older", "damaged"])
@pytest.mark.usefixtures("isolated")
def test_count_continues_from_the_last_row_if_the_checkpoint_has_none(left: dict[str, Any]) -> None:
    _, first = fit(stop=8)
    state = torch.load("saved/8.ckpt", weights_only=True)
    carried = state["callbacks"]["TrackKit"]
    assert (carried.pop("samples"), carried.pop("tokens")) == (SAMPLES, SAMPLES * LENGTH)
    carried.update(left)
    torch.save(state, "saved/8.ckpt")
    sink, second = fit(8)
    # The first attempt ended at step 8, and so with a row.
    assert_counted(sink, first, second)


@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.usefixtures("isolated")
def test_hugging_face_continues_the_count_of_the_checkpoint(resume: str) -> None:
    given: dict[str, Any] = {"logging_steps": 5, "save_strategy": "epoch", "num_train_epochs": EPOCHS}
    make_trainer("out", [TrackKit(sinks=[])], samples=SAMPLES, **given).train()
    finish()
    sink = MemorySink()
    again = make_trainer("out", [TrackKit(sinks=[sink], resume=resume)], samples=SAMPLES, **given)
    again.train(resume_from_checkpoint=str(Path("out/checkpoint-8")))
    finish()
    per_epoch = [*[BATCH] * (SAMPLES // BATCH), SAMPLES % BATCH]
    seen = dict(enumerate(accumulate(per_epoch * EPOCHS), 1))
    found = sink.history("batch/samples")
    assert found == [(step, seen[step]) for step, _ in found]
    assert {9, 10, 15, 20, 24} <= {step for step, _ in found}
    assert sink.columns["final/samples"] == EPOCHS * SAMPLES
