"""A tiny Hugging Face training, and the same as a plain torch loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from tests.support.toy import Net, Points, accuracy
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

LR = 0.2


class Sequential(Trainer):
    """Takes its samples in order, so that a plain loop sees the same batches."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(train_dataset or self.train_dataset)  # type: ignore[arg-type]


class Counting(Trainer):
    """Counts the samples that its training steps see, by optimizer step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen = 0
        self.by_step: dict[int, int] = {}

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.seen += len(inputs["labels"])
        self.by_step[self.state.global_step + 1] = self.seen
        return super().training_step(model, inputs, *args, **kwargs)


def arguments(out: Path | str, **given: Any) -> TrainingArguments:
    """Returns quiet arguments: CPU, four samples a batch, a logged first step, no checkpoints, no `report_to`."""
    defaults: dict[str, Any] = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": LR,
        "optim": "sgd",
        "logging_steps": 2,
        "logging_first_step": True,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return TrainingArguments(str(out), **{**defaults, **given})


def make_trainer(
    out: Path | str,
    callbacks: list[Any],
    *,
    samples: int = 24,
    kind: type[Trainer] = Sequential,
    model: Any = None,
    train: Any = None,
    val: Any = None,
    metrics: Any = None,
    **given: Any,
) -> Trainer:
    """Returns a trainer of the toy classifier; `given` are training arguments."""
    return kind(
        model if model is not None else Net(),
        arguments(out, **given),
        train_dataset=train if train is not None else Points(samples=samples),
        eval_dataset=val,
        compute_metrics=metrics,
        callbacks=callbacks,
    )


def train(out: Path | str, **given: Any) -> tuple[MemorySink, Trainer]:
    """Trains with TrackKit into a memory sink; see `make_trainer`."""
    sink = MemorySink()
    trainer = make_trainer(out, [*given.pop("before", []), TrackKit(sinks=[sink]), *given.pop("after", [])], **given)
    trainer.train()
    return sink, trainer


def mean_accuracy(prediction: Any) -> dict[str, float]:
    """Returns the accuracy, as a usual `compute_metrics`."""
    return {"acc": accuracy(torch.as_tensor(prediction.predictions), torch.as_tensor(prediction.label_ids)).item()}


def logged(trainer: Trainer, name: str) -> list[tuple[int, Any]]:
    """Returns (step, value) of `name` from the trainer's own log history."""
    return [(int(entry["step"]), entry[name]) for entry in trainer.state.log_history if name in entry]


@dataclass(frozen=True)
class Step:
    """The numbers of one optimizer step."""

    loss: float
    norm: float
    lr: float
    samples: int


def plain_loop(samples: int = 24, accumulation: int = 1, epochs: int = 1, clip: float = 1.0) -> tuple[list[Step], Net]:
    """Trains the toy in plain torch: SGD, linear decay, the loss divided by the number of micro-batches."""
    net, loader = Net(), DataLoader(Points(samples=samples), 4)
    steps: list[Step] = []
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    total = epochs * -(-len(loader) // accumulation)
    for _ in range(epochs):
        batches = list(loader)
        for start in range(0, len(batches), accumulation):
            group = batches[start : start + accumulation]
            lr = optimizer.param_groups[0]["lr"] = LR * (total - len(steps)) / total
            losses = [net(**batch)["loss"] for batch in group]
            for loss in losses:
                (loss / len(group)).backward()
            norm = torch.cat([parameter.grad.flatten() for parameter in net.parameters()]).norm().item()  # type: ignore[union-attr]
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            mean = sum(loss.item() for loss in losses) / len(losses)
            steps.append(Step(mean, norm, lr, sum(len(batch["labels"]) for batch in group)))
    return steps, net


def evaluate_plainly(net: nn.Module, data: Points) -> tuple[float, float]:
    """Returns loss and accuracy over a whole data set."""
    with torch.no_grad():
        out = net(features=data.features, labels=data.labels)
    return out["loss"].item(), accuracy(out["logits"], data.labels).item()
