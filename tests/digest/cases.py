"""The table of trainings: sick ones with the rules that name their fault, and healthy ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.digest import data, nets
from tests.digest.adversarial import adversarial
from tests.digest.recipe import Recipe, sleep_each, train


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        name: of the fault, or of what is trained.
        train: trains, with a folder for its run.
        rules: each of which names the fault; none for a healthy training.
    """

    name: str
    train: Callable[[Path], None]
    rules: frozenset[str] = frozenset()


def _sick(name: str, rules: str, recipe: Recipe) -> Case:
    return Case(name, lambda out: train(recipe, out), frozenset(rules.split()))


def _healthy(name: str, recipe: Recipe) -> Case:
    return Case(name, lambda out: train(recipe, out))


def sgd(lr: float, **options: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, **options)


def adam(lr: float, **options: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.AdamW(parameters, lr=lr, **options)


def cosine(step: int, total: int, warm: int = 20) -> float:
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))))


def linear(step: int, total: int) -> float:
    return max(0.0, 1 - step / total)


def stepped(step: int, total: int) -> float:
    return float(0.1 ** (3 * step // total))


def summed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="sum")


def ends_early(step: int, total: int) -> float:
    return max(0.0, 1 - step / (0.2 * total))


def jumps(step: int, total: int) -> float:
    return 2000.0 if step > 0.6 * total else 1.0


def spikes(step: int, total: int) -> float:
    return 60.0 if abs(step / total - 0.5) < 0.01 else 1.0


def slower_and_slower(count: int) -> None:
    time.sleep(min(0.0002 * count, 0.02))


def raise_at(step: int, error: Exception) -> Callable[[int], None]:
    def crash(count: int) -> None:
        if count == step:
            raise error

    return crash


class _Hoard:
    """Keeps 4 MB more at each step, and takes its time."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def __call__(self, _: int) -> None:
        self.kept.append(torch.ones(2_000_000))
        time.sleep(0.05)


def _seam(framework: str) -> Callable[[Path], None]:
    """Trains, crashes, and resumes from the last checkpoint with a learning rate that ruins what was learned."""

    def run(out: Path) -> None:
        arguments: dict[str, Any]
        if framework == "huggingface":
            arguments = {"save_strategy": "steps", "save_steps": 64}
        else:
            from lightning.pytorch.callbacks import ModelCheckpoint

            saving = ModelCheckpoint(out / "saved", "{step}", every_n_train_steps=64, save_top_k=-1)
            arguments = {"enable_checkpointing": True, "callbacks": [saving]}
        first = Recipe(framework, arguments=arguments, on_step=raise_at(150, ArithmeticError("preempted")))
        train(first, out)
        place = "saved/step=128.ckpt" if framework == "lightning" else "checkpoint-128"
        # The classes were numbered anew between the two attempts.
        train(Recipe(framework, data=_renumbered, arguments=arguments), out, resume=str(out / place))

    return run


def _renumbered() -> data.Splits:
    train_set, val = data.digits()
    return tuple(data.Samples(each.inputs, (each.labels + 3) % 10) for each in (train_set, val))  # type: ignore[return-value]


def _resumed_well(out: Path) -> None:
    arguments = {"save_strategy": "steps", "save_steps": 64}
    train(Recipe("huggingface", arguments=arguments, on_step=raise_at(150, ArithmeticError("preempted"))), out)
    train(Recipe("huggingface", arguments=arguments), out, resume=str(out / "checkpoint-128"))


L, H = "lightning", "huggingface"
_RECURRENT: dict[str, Any] = {"data": data.parity, "epochs": 6}
_TEXT: dict[str, Any] = {"data": data.text, "loss": nets.sequence_loss, "optimizer": adam(5e-3), "epochs": 5}

SICK: tuple[Case, ...] = (
    _sick("lr too high, SGD", "divergence learning_rate_high", Recipe(L, optimizer=sgd(60.0))),
    _sick("lr too high, AdamW", "divergence learning_rate_high", Recipe(H, optimizer=adam(5.0))),
    _sick("lr jumps late", "divergence learning_rate_high loss_spike", Recipe(L, schedule=jumps)),
    _sick("lr 0", "learning_rate_zero", Recipe(L, optimizer=sgd(0.0))),
    _sick("lr 0, Trainer", "learning_rate_zero", Recipe(H, optimizer=adam(0.0))),
    _sick("lr too low", "learning_rate_low", Recipe(H, optimizer=adam(1e-8))),
    _sick("lr too low, SGD", "learning_rate_low", Recipe(L, optimizer=sgd(1e-6))),
    _sick("NaN from a bad batch", "nan", Recipe(L, data=data.one_bad_sample)),
    _sick("NaN from a bad batch, Trainer", "nan", Recipe(H, data=data.one_bad_sample)),
    _sick("labels shuffled", "no_generalization no_learning", Recipe(L, data=data.shuffled_labels)),
    _sick("labels shuffled, Trainer", "no_generalization no_learning", Recipe(H, data=data.shuffled_labels, epochs=4)),
    _sick("dead ReLU", "no_learning vanishing_gradients", Recipe(L, net=nets.dead)),
    _sick("dead ReLU, no gradient", "vanishing_gradients", Recipe(H, net=lambda: nets.dead(head=False))),
    _sick("vanishing, deep sigmoid", "no_learning vanishing_gradients", Recipe(H, net=nets.deep_sigmoid)),
    _sick("exploding recurrent net", "exploding_gradients", Recipe(L, **_RECURRENT, net=lambda: nets.Recurrent(1.35))),
    _sick(
        "exploding recurrent net, Trainer",
        "exploding_gradients",
        Recipe(H, **_RECURRENT, net=lambda: nets.Recurrent(1.4), optimizer=sgd(0.01)),
    ),
    _sick(
        "exploding recurrent net, mild",
        "exploding_gradients",
        Recipe(L, **_RECURRENT, net=lambda: nets.Recurrent(1.2), optimizer=sgd(0.05)),
    ),
    _sick("overfitting on 60 samples", "overfitting", Recipe(L, data=data.few_digits, epochs=120, every=2)),
    _sick(
        "overfitting, noisy labels",
        "overfitting",
        Recipe(H, data=data.noisy_labels, net=lambda: nets.mlp(width=256), epochs=25, every=8),
    ),
    _sick("spike", "loss_spike", Recipe(L, schedule=spikes, optimizer=sgd(0.05), epochs=12)),
    _sick(
        "flat at a high loss",
        "plateau",
        Recipe(L, data=lambda: data.noisy_labels(0.7), net=lambda: nn.Linear(64, 10), optimizer=adam(1e-2), epochs=16),
    ),
    _sick("validation in training", "leak", Recipe(L, data=data.leaked, epochs=8)),
    _sick("label in validation", "leak", Recipe(H, data=data.label_in_validation, net=lambda: nets.mlp(74), epochs=8)),
    _sick("slow loader", "data_starvation", Recipe(L, epochs=3, on_load=sleep_each(0.0005))),
    _sick("slow loader, Trainer", "data_starvation", Recipe(H, epochs=3, on_load=sleep_each(0.0005))),
    _sick("throughput decay", "throughput_decay", Recipe(L, epochs=4, on_step=slower_and_slower)),
    _sick("throughput decay, Trainer", "throughput_decay", Recipe(H, epochs=4, on_step=slower_and_slower)),
    Case(
        "memory growth",
        lambda out: train(Recipe(L, epochs=4, on_step=_Hoard()), out),
        frozenset({"memory_growth"}),
    ),
    Case("resumed with a seam", _seam(L), frozenset({"resume_seam"})),
    Case("resumed with a seam, Trainer", _seam(H), frozenset({"resume_seam"})),
    _sick("crash", "crash", Recipe(H, on_step=raise_at(90, ZeroDivisionError("no samples of class 7")))),
    _sick("crash, out of memory", "crash", Recipe(L, on_step=raise_at(50, OverflowError("CUDA out of memory")))),
    _sick("too few steps", "too_few_steps", Recipe(H, epochs=1, batch=128, every=1)),
    _sick("too few epochs", "too_few_steps", Recipe(L, optimizer=sgd(0.01), epochs=3)),
    _sick("clip too tight", "clipping", Recipe(L, optimizer=sgd(0.1), clip=1e-3)),
    _sick("clip too tight, Trainer", "clipping", Recipe(H, optimizer=sgd(0.1), clip=1e-2)),
    _sick("schedule ends early", "schedule", Recipe(L, schedule=ends_early, optimizer=sgd(0.05))),
    _sick("schedule ends early, Trainer", "schedule", Recipe(H, schedule=ends_early, optimizer=adam(1e-3))),
    _sick("frozen model", "frozen no_learning", Recipe(H, net=nets.frozen)),
    _sick(
        "validation of another distribution",
        "evaluation_disagrees no_generalization",
        Recipe(L, data=data.other_distribution),
    ),
    _sick(
        "validation classes renumbered", "evaluation_disagrees no_generalization", Recipe(H, data=data.other_classes)
    ),
)

HEALTHY: tuple[Case, ...] = (
    _healthy("digits, two layers, AdamW", Recipe(L)),
    _healthy("digits, two layers, SGD with momentum", Recipe(H, optimizer=sgd(0.05, momentum=0.9), clip=1.0)),
    _healthy(
        "digits, convolutional, dropout, cosine",
        Recipe(H, net=nets.convolutional, epochs=5, schedule=cosine, clip=1.0),
    ),
    _healthy(
        "breast cancer, logistic regression",
        Recipe(L, data=data.breast_cancer, net=lambda: nn.Linear(30, 2), optimizer=sgd(0.05), epochs=8, batch=16),
    ),
    _healthy(
        "wine, Trainer",
        Recipe(H, data=data.wine, net=lambda: nets.mlp(13, 3), schedule=linear, epochs=15, batch=16, clip=1.0),
    ),
    _healthy(
        "diabetes, regression",
        Recipe(
            L,
            data=data.diabetes,
            net=lambda: nn.Linear(10, 1),
            loss=nn.functional.mse_loss,
            optimizer=sgd(0.01),
            epochs=12,
        ),
    ),
    _healthy(
        "digits, autoencoder",
        Recipe(L, data=data.digit_pictures, net=nets.autoencoder, loss=nn.functional.mse_loss, epochs=15),
    ),
    _healthy("text, GRU", Recipe(L, **_TEXT, net=nets.Text, clip=1.0)),
    _healthy("text, attention, Trainer", Recipe(H, **_TEXT, net=nets.Attention, schedule=cosine, clip=1.0)),
    _healthy(
        "sequences, recurrent", Recipe(L, **{**_RECURRENT, "epochs": 12}, net=lambda: nets.Recurrent(1.0), clip=1.0)
    ),
    _healthy(
        "digits, accumulated, heavy dropout",
        Recipe(L, net=lambda: nets.mlp(dropout=0.5), accumulate=2, epochs=12, every=2),
    ),
    _healthy("noisy labels, early", Recipe(H, data=data.noisy_labels, epochs=4)),
    _healthy("digits, tested", Recipe(L, test=data.digits_test, schedule=cosine)),
    _healthy("digits, loss summed over the batch", Recipe(L, loss=summed, optimizer=adam(1e-3))),
    _healthy("digits, fine-tuned", Recipe(H, net=nets.pretrained, optimizer=adam(1e-4), schedule=linear, epochs=3)),
    _healthy("digits, steps of the rate", Recipe(L, optimizer=sgd(0.1, momentum=0.9), schedule=stepped, epochs=9)),
    Case("digits, adversarial", adversarial),
    Case("digits, resumed", _resumed_well),
)
