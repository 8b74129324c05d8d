"""Hugging Face: samples are counted as the loader gives them, and left out if that is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, WeightedRandomSampler
from transformers import TrainerCallback

from tests.support.huggingface_toys import Counting, make_trainer
from tests.support.local_log import local_run
from tests.support.toy import Points
from tests.support.warm import run_torchrun
from trackkit import TrackKit, finish
from trackkit.integrations.memory import MemorySink


class Own(Counting):
    """Uses a batch size other than that of the arguments."""

    def get_train_dataloader(self) -> Any:
        return self.accelerator.prepare(DataLoader(self.train_dataset, batch_size=7, shuffle=True))  # type: ignore[arg-type]


class Dropping(Counting):
    """Uses a loader not prepared by Accelerate, which drops the last batch."""

    def get_train_dataloader(self) -> Any:
        return DataLoader(self.train_dataset, batch_size=7, drop_last=True)  # type: ignore[arg-type]


class Drawing(Counting):
    """Uses a sampler that draws more samples than the data set has."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return WeightedRandomSampler([1.0] * 22, 33)


class Uneven(Counting):
    """Uses batches of different sizes."""

    def get_train_dataloader(self) -> Any:
        return DataLoader(self.train_dataset, batch_sampler=[[0, 1], [2, 3, 4, 5, 6], [7, 8, 9]])  # type: ignore[arg-type]


class CutShort(TrainerCallback):
    """Ends each epoch after three steps."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_epoch_stop = state.global_step % 3 == 0


def _train(out: Path, kind: type[Counting], **given: Any) -> tuple[MemorySink, Counting]:
    sink = MemorySink()
    callbacks = [*given.pop("callbacks", []), TrackKit(sinks=[sink])]
    trainer = make_trainer(out, callbacks, kind=kind, **{"samples": 22, "num_train_epochs": 2, **given})
    trainer.train()
    assert isinstance(trainer, kind)
    return sink, trainer


@pytest.mark.parametrize(
    ("kind", "given", "batch"),
    [
        (Own, {}, 7),
        (Own, {"gradient_accumulation_steps": 3}, 7),
        (Dropping, {}, 7),
        (Drawing, {}, 4),
        (Counting, {"dataloader_drop_last": True}, 4),
        (Counting, {"callbacks": [CutShort()], "num_train_epochs": 4}, 4),
    ],
)
def test_samples_equal_those_seen_by_the_training_steps(
    tmp_path: Path, kind: type[Counting], given: dict[str, Any], batch: int
) -> None:
    """With the user's own loader, sampler and epochs; the config has the loader's batch sizes."""
    sink, trainer = _train(tmp_path, kind, logging_steps=1, **given)
    assert sink.history("batch/samples") == [(step, seen) for step, seen in trainer.by_step.items()]
    assert sink.columns["final/samples"] == trainer.seen
    config = local_run(tmp_path).config
    assert config["data/batch_size_per_device"] == batch
    assert config["data/batch_size_global"] == batch * given.get("gradient_accumulation_steps", 1)


class Repeating(Sampler[int]):
    """Gives each generation batch several times, as TRL's RepeatSampler does."""

    def __init__(self, samples: int, size: int, times: int) -> None:
        self.samples, self.size, self.times = samples, size, times

    def __iter__(self) -> Any:
        for start in range(0, self.samples - self.size + 1, self.size):
            for _ in range(self.times):
                yield from range(start, start + self.size)

    def __len__(self) -> int:
        return self.samples // self.size * self.size * self.times


class Generating(Counting):
    """Loads a generation batch for several steps, and trains each step on a part of it, as TRL's GRPO does."""

    parts = 4
    calls = 0

    def get_train_dataloader(self) -> Any:
        size = self.args.per_device_train_batch_size * self.parts
        sampler = Repeating(len(self.train_dataset), size, self.parts)  # type: ignore[arg-type]
        return self.accelerator.prepare(DataLoader(self.train_dataset, batch_size=size, sampler=sampler))  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        size = self.args.per_device_train_batch_size
        start = self.calls % self.parts * size
        self.calls += 1
        part = {name: value[start : start + size] for name, value in inputs.items()}
        return super().training_step(model, part, *args, **kwargs)


class GeneratingOne(Generating):
    """Trains each step on the whole generation batch."""

    parts = 1


def test_generation_batches_are_not_counted_as_trained_on(tmp_path: Path) -> None:
    """A loader that gives 16 samples of which a step trains on 4: the count is left out."""
    sink, trainer = _train(tmp_path, Generating, samples=32, num_train_epochs=1)
    assert trainer.seen == 32
    assert not sink.history("batch/samples")
    assert not sink.history("batch/samples_per_s")
    assert "final/samples" not in sink.columns
    assert not any(key.startswith("data/batch_size") for key in local_run(tmp_path).config)


def test_generation_batches_that_are_trained_on_whole_are_counted(tmp_path: Path) -> None:
    sink, trainer = _train(tmp_path, GeneratingOne, samples=32, num_train_epochs=1)
    assert sink.columns["final/samples"] == trainer.seen == 32


def test_batches_of_different_sizes_are_not_counted(tmp_path: Path) -> None:
    """No count, no speed and no batch size; the rows have everything else."""
    sink, _ = _train(tmp_path, Uneven)
    assert [step for step, _ in sink.history("batch/step_time_s")] == [1, 2, 4, 6]
    assert not sink.history("batch/samples")
    assert not sink.history("batch/samples_per_s")
    assert "final/samples" not in sink.columns
    assert not any(key.startswith("data/batch_size") for key in local_run(tmp_path).config)


def test_stream_is_counted_up_to_the_end_of_its_first_epoch(tmp_path: Path) -> None:
    """Ten samples in batches of four: how full the last batch was is unknown."""

    class Stream(IterableDataset[dict[str, torch.Tensor]]):
        def __iter__(self) -> Any:
            points = Points(samples=22)
            return (points[index] for index in range(10))

    sink, trainer = _train(tmp_path, Counting, train=Stream(), max_steps=8, logging_steps=1)
    assert list(trainer.by_step.items())[:3] == [(1, 4), (2, 8), (3, 10)]
    assert sink.history("batch/samples") == [(1, 4), (2, 8)]
    assert "final/samples" not in sink.columns


@pytest.mark.parametrize("save", [5, 6])
def test_training_resumed_with_another_batch_size_continues_the_count(tmp_path: Path, save: int) -> None:
    """From a checkpoint within an epoch, and from one at its end."""
    _, first = _train(tmp_path, Counting, save_strategy="steps", save_steps=save, num_train_epochs=1)
    finish()
    before = first.by_step[save]
    sink = MemorySink()
    then = make_trainer(
        tmp_path, [TrackKit(sinks=[sink])], kind=Counting, samples=22, num_train_epochs=4,
        per_device_train_batch_size=8,
    )  # fmt: skip
    then.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{save}"))
    assert isinstance(then, Counting)
    # The trainer continues with the checkpoint's `logging_steps`.
    assert len(counted := sink.history("batch/samples")) > 3
    assert counted == [(step, before + then.by_step[step]) for step, _ in counted]
    assert sink.columns["final/samples"] == before + then.seen
    assert local_run(tmp_path).config["data/batch_size_per_device"] == 8


PROGRAM = """
import torch, torch.distributed as dist
from tests.support.huggingface_toys import Counting, make_trainer
from trackkit import TrackKit, finish
trainer = make_trainer(
    "out", [TrackKit()], kind=Counting, samples=22, logging_steps=1, ddp_backend="gloo",
    accelerator_config={"split_batches": True},
)
trainer.train()
finish()
dist.destroy_process_group()
"""


def test_split_batches_are_counted_once_over_the_ranks(tmp_path: Path) -> None:
    """`split_batches`: two ranks share each batch of four."""
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run_torchrun(tmp_path / "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = local_run(tmp_path)
    assert [value for _, value in run.history("batch/samples")] == [4, 8, 12, 16, 20, 22]
    assert run.config["data/batch_size_per_device"] == 2
    assert run.config["data/batch_size_global"] == 4
