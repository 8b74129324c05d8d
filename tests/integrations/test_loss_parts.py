"""Parts of the loss, and the loss by data source: means over all batches since the last row, in every framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

import trackkit
from tests.support.huggingface_toys import Sequential, arguments
from tests.support.lightning_toys import trainer
from tests.support.toy import Net, Points
from trackkit import TrackKit
from trackkit.callbacks import build_callbacks
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Moment
from trackkit.engine.tracker import Tracker
from trackkit.integrations.memory import MemorySink

STEPS, ACCUMULATION, EVERY = 6, 2, 3
ROWS = (1, 3, 6)


class Parted(Net):
    """Gives parts beside its loss, and notes what it gave while it was trained."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[dict[str, float]] = []

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        out: dict[str, Any] = super().forward(features, labels)
        size = out["logits"].square().mean()
        out = {
            "loss": out["loss"] + 0.1 * size,
            "logits": out["logits"],
            "size": size.half(),
            "first": out["logits"][:1, :1],
            "loss_dict": {"ce": out["loss"]},
        }
        if self.training:
            self.given.append(
                {"loss": out["loss"].item(), "size": out["size"].item(), "ce": out["loss_dict"]["ce"].item()}
            )
        return out


def _logs(number: int, loss: torch.Tensor) -> None:
    """Logs from the user's code, as every framework can."""
    trackkit.source("wiki" if number % 3 else "books/old")
    with torch.no_grad():
        trackkit.log({"loss/mine": loss * number})


def _with_huggingface(out: Path, kit: list[TrackKit]) -> Parted:
    class Trainer(Sequential):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            found = model(**inputs)
            _logs(len(net.given), found["loss"])
            self.log({"loss/own": len(net.given)}) if model.training else None
            return (found["loss"], found) if return_outputs else found["loss"]

    net = Parted()
    given: dict[str, Any] = {"max_steps": STEPS, "gradient_accumulation_steps": ACCUMULATION, "logging_steps": EVERY}
    args = arguments(out, eval_strategy="steps", eval_steps=2, **given)
    trainer = Trainer(net, args, train_dataset=Points(samples=48), eval_dataset=Points(5, 8), callbacks=kit)  # type: ignore[arg-type]
    trainer.train()
    assert "compute_loss" not in vars(trainer)
    return net


def _with_lightning(out: Path, kit: list[TrackKit]) -> Parted:
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: dict[str, torch.Tensor], _: int) -> dict[str, Any]:
            found = self.net(**batch)
            _logs(len(net.given), found["loss"])
            return found  # type: ignore[no-any-return]

        def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
            _logs(1000, self.net(**batch)["loss"])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    net = Parted()
    given = {"max_steps": STEPS, "accumulate_grad_batches": ACCUMULATION, "log_every_n_steps": EVERY}
    trainer(kit, default_root_dir=out, val_check_interval=4, **given).fit(
        Module(), DataLoader(Points(samples=48), 4), DataLoader(Points(5, 8), 4)
    )
    return net


TRAININGS: dict[str, Callable[[Path, list[TrackKit]], Parted]] = {
    "lightning": _with_lightning,
    "huggingface": _with_huggingface,
}


def _means(values: Sequence[float | None]) -> list[float]:
    """Returns the mean of each row over the batches since the row before; a batch without a value is None."""
    windows = zip((0, *ROWS), ROWS, strict=False)
    kept = [[v for v in values[a * ACCUMULATION : b * ACCUMULATION] if v is not None] for a, b in windows]
    return [sum(each) / len(each) for each in kept if each]


@pytest.mark.parametrize("framework", TRAININGS)
def test_parts_are_averaged_over_all_batches_since_the_last_row(framework: str, tmp_path: Path) -> None:
    """What the model gives, what `trackkit.log` gives (under `no_grad` too), and the sources; not the evaluations'."""
    sink = MemorySink()
    net = TRAININGS[framework](tmp_path, [TrackKit(sinks=[sink])])
    assert len(net.given) == STEPS * ACCUMULATION
    sources = ["wiki" if number % 3 else "books/old" for number in range(1, len(net.given) + 1)]
    expected = {
        "size": [each["size"] for each in net.given],
        "ce": [each["ce"] for each in net.given],
        "mine": [each["loss"] * number for number, each in enumerate(net.given, 1)],
        "source/wiki": [
            each["loss"] if name == "wiki" else None for each, name in zip(net.given, sources, strict=True)
        ],
        "source/books/old": [
            each["loss"] if name != "wiki" else None for each, name in zip(net.given, sources, strict=True)
        ],
    }
    if framework == "huggingface":
        expected["own"] = [float(number) for number in range(1, len(net.given) + 1)]
    found = {key for row in sink.rows for key in row.values if key.startswith("batch/loss/")}
    assert found == {f"batch/loss/{name}" for name in expected}
    for name, values in expected.items():
        history = sink.history(f"batch/loss/{name}")
        assert [value for _, value in history] == pytest.approx(_means(values), rel=1e-3), name
    assert [row.step for row in sink.rows if "batch/loss/size" in row.values] == list(ROWS)
    assert sink.columns["final/tracker_errors"] == 0


@pytest.mark.parametrize("framework", TRAININGS)
def test_weights_are_bit_identical_with_parts(framework: str, tmp_path: Path) -> None:
    bare, tracked = TRAININGS[framework](tmp_path / "a", []), TRAININGS[framework](tmp_path / "b", [TrackKit()])
    assert bare.given == tracked.given
    assert all(torch.equal(value, tracked.state_dict()[name]) for name, value in bare.state_dict().items())


def test_source_of_a_batch_is_its_field(tmp_path: Path) -> None:
    """A list of one name counts; a batch of several sources has none."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
            return self.net(batch["features"], batch["labels"])["loss"]  # type: ignore[no-any-return]

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    points = Points(samples=12)
    sources = [*["wiki"] * 5, *["books"] * 7]
    rows = [{**points[at], "source": name} for at, name in enumerate(sources)]
    sink = MemorySink()
    trainer(TrackKit(sinks=[sink]), default_root_dir=tmp_path, log_every_n_steps=1).fit(Module(), DataLoader(rows, 4))  # type: ignore[arg-type]
    losses = [value for _, value in sink.history("batch/loss")]
    assert sink.history("batch/loss/source/wiki") == [(1, pytest.approx(losses[0]))]
    assert sink.history("batch/loss/source/books") == [(3, pytest.approx(losses[2]))]


def test_loss_of_a_source_is_undivided_by_accumulation(tmp_path: Path) -> None:
    """A Hugging Face model that divides by the items of the whole step gives each batch's share only."""
    from transformers import Trainer

    from tests.support.trl_toys import model

    rows = [{"input_ids": [3, 4, 5, 6 + at % 4], "labels": [3, 4, 5, 6 + at % 4]} for at in range(8)]

    class Sourced(Trainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            trackkit.source("one")
            return super().compute_loss(*args, **kwargs)

    sink = MemorySink()
    args = arguments(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, logging_steps=1)
    Sourced(model(), args, train_dataset=rows, callbacks=[TrackKit(sinks=[sink])]).train()  # type: ignore[arg-type]
    assert len(sink.history("batch/loss")) == 2
    assert sink.history("batch/loss/source/one") == [
        (step, pytest.approx(loss, rel=1e-3)) for step, loss in sink.history("batch/loss")
    ]


class NoReads(TorchDispatchMode):
    """Fails if a value of a tensor is read, which would wait for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert str(func) != "aten._local_scalar_dense.default"
        return func(*args, **(kwargs or {}))


def test_no_value_is_read_before_the_row() -> None:
    """Half-precision values are added up in single precision; a later change of a tensor changes nothing."""
    tracker = Tracker(build_callbacks({}), [sink := MemorySink()], Exchange())
    tracker.position = lambda: Moment(1)
    with pytest.raises(AssertionError), NoReads():
        torch.ones(()).item()
    with NoReads():
        for number in range(1000):
            part = torch.tensor(1.0 + (number % 2) / 128, dtype=torch.bfloat16)
            tracker.log({"loss/kl": part, "loss/one": torch.ones(1)})
            tracker.source = "wiki"
            tracker.batch(torch.tensor(2.0), steps=1)
            part.zero_()
        tracker.row(Moment(1000))
    tracker.seal()
    tracker.flush()
    values = sink.rows[0].values
    assert values["batch/loss/kl"] == pytest.approx(1 + 1 / 256, rel=1e-6)
    assert (values["batch/loss/one"], values["batch/loss/source/wiki"], values["batch/loss"]) == (1, 2, 2)
