"""What explains a run is recorded alike: evaluation sets, the sampler, the checkpoint that it resumed from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, WeightedRandomSampler

import trackkit
from tests.support.fake_clock import FakeClock
from tests.support.huggingface_toys import make_trainer
from tests.support.lightning_toys import Logging, data, trainer
from tests.support.run_info import run_info
from tests.support.toy import Points
from trackkit import TrackKit
from trackkit.callbacks.process_memory import EVERY_S, ProcessMemory
from trackkit.engine.records import Moment
from trackkit.engine.window import Window
from trackkit.integrations.batches import sampler_config
from trackkit.integrations.memory import MemorySink
from trackkit.record.run_config import optimizer_config


def settings(sink: MemorySink, *sections: str) -> dict[str, Any]:
    return {key: value for key, value in sink.settings.items() if key.startswith(sections)}


def test_several_evaluation_sets_have_a_size_each(tmp_path: Path) -> None:
    class Several(Logging):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            super().validation_step(batch, batch_idx)

    ours, theirs = MemorySink(), MemorySink()
    runner = trainer(TrackKit(sinks=[ours]), default_root_dir=str(tmp_path))
    runner.fit(module := Several(), data(), {"easy": data(3), "hard": data(5)})
    runner.test(module, data(2))
    trackkit.finish()
    sets = {"easy": Points(samples=12), "hard": Points(samples=20)}
    huggingface = make_trainer(tmp_path / "hf", [TrackKit(sinks=[theirs])], val=sets, eval_strategy="epoch")
    huggingface.train()
    huggingface.predict(Points(samples=8))
    trackkit.finish()
    sizes = {"data/val_samples/easy": 12, "data/val_samples/hard": 20, "data/test_samples": 8}
    assert settings(ours, "data/val_", "data/test_") == settings(theirs, "data/val_", "data/test_") == sizes


def test_checkpoint_that_a_run_resumed_from_is_recorded(tmp_path: Path) -> None:
    ours, theirs = MemorySink(), MemorySink()
    first = trainer(TrackKit(sinks=[MemorySink()]), default_root_dir=str(tmp_path))
    first.fit(Logging(), data())
    first.save_checkpoint(tmp_path / "last.ckpt")
    trackkit.finish()
    trainer(TrackKit(sinks=[ours]), max_epochs=2).fit(Logging(), data(), ckpt_path=str(tmp_path / "last.ckpt"))
    out = tmp_path / "hf"
    make_trainer(out, [TrackKit(sinks=[MemorySink()])], save_strategy="epoch").train()
    trackkit.finish()
    make_trainer(out, [TrackKit(sinks=[theirs])], num_train_epochs=2).train(resume_from_checkpoint=True)
    trackkit.finish()
    (saved,) = out.glob("checkpoint-*")
    assert ours.settings["runtime/resumed_from"] == str(tmp_path / "last.ckpt")
    assert theirs.settings["runtime/resumed_from"] == str(saved)


def test_saving_within_an_evaluation_counts_as_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's `ModelCheckpoint` saves in the evaluation's hooks."""
    clock, sink = FakeClock(monkeypatch), MemorySink()

    class Slow(Logging):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            clock.advance(36.0)
            super().validation_step(batch, batch_idx)

        def on_validation_epoch_end(self) -> None:
            if not self.trainer.sanity_checking:
                self.trainer.save_checkpoint(tmp_path / "saved.ckpt")
                clock.advance(18.0)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            clock.advance(90.0)

    for epochs in (1, 2):
        checkpoint = str(tmp_path / "saved.ckpt") if epochs == 2 else None
        runner = trainer(TrackKit(sinks=[sink]), max_epochs=epochs, default_root_dir=str(tmp_path))
        runner.fit(Slow(), data(4), data(2), ckpt_path=checkpoint)
        trackkit.finish()
        found = [sink.columns[f"final/{name}_h"] for name in ("eval", "checkpoint")]
        assert found == pytest.approx([epochs * 90 / 3600, epochs * 90 / 3600]), "a resumed run adds up"


def test_memory_of_the_process_is_read_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, callback = FakeClock(monkeypatch), ProcessMemory()
    callback.start(run_info(tmp_path))
    first = callback.row(Moment(1), Window())["device/rss_GB"]
    assert isinstance(first, float)
    assert 0.05 < first < 50
    ballast = bytearray(200_000_000)
    assert callback.row(Moment(2), Window())["device/rss_GB"] == first
    clock.advance(EVERY_S)
    assert callback.row(Moment(3), Window())["device/rss_GB"] > first + len(ballast) / 2e9


@pytest.mark.parametrize(
    ("loader", "config"),
    [
        (DataLoader(Points(), 4), {"data/sampler": "SequentialSampler", "data/shuffle": False}),
        (DataLoader(Points(), 4, shuffle=True), {"data/sampler": "RandomSampler", "data/shuffle": True}),
        (
            DataLoader(Points(), batch_sampler=BatchSampler(WeightedRandomSampler([1.0] * 96, 96), 4, True)),
            {"data/sampler": "WeightedRandomSampler", "data/shuffle": True},
        ),
        (
            DataLoader(Points(), 4, sampler=DistributedSampler(Points(), 2, 0, shuffle=False)),
            {"data/sampler": "DistributedSampler", "data/shuffle": False},
        ),
        (DataLoader(Points(), 4, sampler=list(range(96))), {"data/sampler": "list"}),
        (None, {}),
    ],
)
def test_sampler_says_whether_it_shuffles(loader: Any, config: dict[str, Any]) -> None:
    assert sampler_config(loader) == config


def test_settings_of_schedulers_and_of_those_inside_are_recorded() -> None:
    schedulers, optimizer = torch.optim.lr_scheduler, torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    cases: list[tuple[Any, dict[str, Any]]] = [
        (schedulers.StepLR(optimizer, 7, gamma=0.5), {"step_size": 7, "gamma": 0.5}),
        (schedulers.MultiStepLR(optimizer, [3, 3, 9]), {"milestones": [3, 3, 9], "gamma": 0.1}),
        (schedulers.CosineAnnealingLR(optimizer, 50, 1e-3), {"T_max": 50, "eta_min": 1e-3}),
        (
            schedulers.SequentialLR(
                optimizer, [schedulers.LinearLR(optimizer, 0.5), schedulers.ExponentialLR(optimizer, 0.9)], [4]
            ),
            {
                "milestones": [4],
                "0": "LinearLR",
                "0/start_factor": 0.5,
                "0/end_factor": 1.0,
                "0/total_iters": 5,
                "1": "ExponentialLR",
                "1/gamma": 0.9,
            },
        ),
    ]
    for scheduler, expected in cases:
        found = {
            key.removeprefix("optim/scheduler/"): value
            for key, value in optimizer_config([], [scheduler]).items()
            if key.startswith("optim/scheduler/")
        }
        assert found == expected
    plateau = optimizer_config([], [schedulers.ReduceLROnPlateau(optimizer, patience=3, factor=0.2)])
    assert (plateau["optim/scheduler/patience"], plateau["optim/scheduler/factor"]) == (3, 0.2)
