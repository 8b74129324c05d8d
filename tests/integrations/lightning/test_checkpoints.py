"""Lightning: every checkpoint that it saves is reported once it is written, before older ones are deleted."""

from __future__ import annotations

import inspect
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateFinder, ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from tests.support.lightning_toys import Logging, data, trainer, untouched
from trackkit import TrackKit, finish
from trackkit.checkpoints.aliases import wanted
from trackkit.checkpoints.ledger import read_ledger
from trackkit.checkpoints.staging import Staging
from trackkit.engine import records
from trackkit.integrations.memory import MemorySink


class Disk(TorchCheckpointIO):
    """Writes checkpoints; keeps what was written and deleted, in order."""

    def __init__(self, slow_s: float = 0.0) -> None:
        self.events: list[tuple[str, str]] = []
        self.slow_s = slow_s

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        time.sleep(self.slow_s)
        super().save_checkpoint(checkpoint, path, storage_options)
        self.events.append(("saved", os.path.basename(path)))

    def remove_checkpoint(self, path: Any) -> None:
        self.events.append(("deleted", os.path.basename(path)))
        super().remove_checkpoint(path)

    @property
    def saved(self) -> list[str]:
        return [name for event, name in self.events if event == "saved"]


class Watch(MemorySink):
    """Keeps the reports among the events of a disk, with what lay at the path when each was made."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self.disk = disk
        self.contents: list[Any] = []
        self.threads: list[str] = []
        self.closed_at: int | None = None

    def checkpoint(self, checkpoint: records.Checkpoint) -> None:
        super().checkpoint(checkpoint)
        self.disk.events.append(("reported", os.path.basename(checkpoint.path)))
        self.threads.append(threading.current_thread().name)
        self.contents.append(torch.load(checkpoint.path, weights_only=False))

    def close(self, exit_code: int) -> None:
        super().close(exit_code)
        self.closed_at = len(self.disk.events)

    @property
    def names(self) -> list[str]:
        return [os.path.basename(each.path) for each in self.checkpoints]

    def reported_at_once(self) -> bool:
        """Returns whether each save was followed by its report, before anything was deleted."""
        pairs = zip(self.disk.events, [*self.disk.events[1:], ("", "")], strict=True)
        return all(after == ("reported", name) for (event, name), after in pairs if event == "saved")


class Worse(Logging):
    """Logs a given `val_loss` and `val_acc` at each validation."""

    def __init__(self, losses: list[float], accs: list[float] | None = None) -> None:
        super().__init__()
        self.losses_to_log, self.accs_to_log = losses, accs or losses

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.losses_to_log[self.current_epoch])
        self.log("val_acc", self.accs_to_log[self.current_epoch])


def fit(
    module: pl.LightningModule,
    callbacks: list[Any],
    disk: Disk | None = None,
    plugin: Callable[[Disk], Any] = lambda disk: disk,
    make: Callable[..., Any] = trainer,
    **arguments: Any,
) -> tuple[Watch, Any]:
    disk = disk or Disk()
    watch = Watch(disk)
    kit = TrackKit(sinks=[watch])
    given = {"enable_checkpointing": True, "plugins": [plugin(disk)], "max_epochs": 3, **arguments}
    runner = make([kit, *callbacks], **given)
    try:
        runner.fit(module, data(4), data(1, seed=5))
    finally:
        assert untouched(runner)
        assert watch.columns["final/tracker_errors"] == 0
    return watch, runner


def test_best_and_last_are_reported_with_their_metric(isolated: Path) -> None:
    best = ModelCheckpoint("ckpt", monitor="val_loss", save_top_k=1, save_last=True)
    watch, _ = fit(Worse([3.0, 2.0, 2.5]), [best])
    assert watch.names == watch.disk.saved
    assert watch.names[:4] == ["epoch=0-step=4.ckpt", "last.ckpt", "epoch=1-step=8.ckpt", "last.ckpt"]
    # Lightning 2.5 saves the last one even where nothing else is saved.
    assert watch.names[4:] in ([], ["last.ckpt"])
    assert watch.reported_at_once()
    assert ("deleted", "epoch=0-step=4.ckpt") in watch.disk.events
    assert [(each.step, each.epoch, each.value) for each in watch.checkpoints] == [
        *((4, 1.0, 3.0), (4, 1.0, 3.0), (8, 2.0, 2.0), (8, 2.0, 2.0), (12, 3.0, 2.5))
    ][: len(watch.names)]
    assert {(each.monitor, each.goal, each.series, each.framework) for each in watch.checkpoints} == {
        ("val_loss", "min", "", "lightning")
    }
    assert all(each.resumable and each.complete and not each.shared for each in watch.checkpoints)
    assert all(os.path.isabs(each.path) for each in watch.checkpoints)
    assert [each.again for each in watch.checkpoints[:4]] == [False, True, False, True]
    assert watch.info is not None
    finish()
    entries = read_ledger(watch.info.folder)
    assert [each.state for each in entries[:4]] == ["hashed", "skipped", "hashed", "skipped"]
    latest = [entries[number - 1].step for number, names in wanted(entries).items() if "latest" in names]
    assert latest == [watch.checkpoints[-1].step]
    assert [each["global_step"] for each in watch.contents] == [each.step for each in watch.checkpoints]


def test_link_to_a_checkpoint_is_no_save(isolated: Path) -> None:
    best = ModelCheckpoint("ckpt", monitor="val_loss", save_top_k=1, save_last="link")
    watch, _ = fit(Worse([3.0, 2.0, 2.5]), [best])
    assert watch.names == watch.disk.saved == ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt"]
    assert os.path.islink("ckpt/last.ckpt")


def test_each_of_several_monitors_has_a_series(isolated: Path) -> None:
    callbacks = [
        ModelCheckpoint("loss", monitor="val_loss", save_top_k=2),
        ModelCheckpoint("acc", monitor="val_acc", mode="max", save_top_k=1, save_weights_only=True),
        ModelCheckpoint("steps", every_n_train_steps=3, save_top_k=-1),
    ]
    watch, _ = fit(Worse([3.0, math.nan, 2.0], [0.5, 0.4, 0.6]), callbacks)
    found = [
        (Path(each.path).parent.name, each.step, each.series, each.goal, each.value, each.resumable)
        for each in watch.checkpoints
    ]
    assert watch.names == watch.disk.saved
    assert watch.reported_at_once()
    assert [row for row in found if row[0] == "steps"] == [
        ("steps", step, "", "", None, True) for step in (3, 6, 9, 12)
    ]
    assert [row for row in found if row[0] == "acc"] == [
        ("acc", 4, "val_acc", "max", 0.5, False),
        ("acc", 12, "val_acc", "max", pytest.approx(0.6), False),
    ]
    loss = [row for row in found if row[0] == "loss"]
    assert [row[:4] for row in loss] == [("loss", step, "val_loss", "min") for step in (4, 8, 12)]
    assert [row[4] for row in loss] == [3.0, pytest.approx(math.nan, nan_ok=True), 2.0]
    assert [each.epoch for each in watch.checkpoints if "steps" in each.path] == [0.75, 1.5, 2.25, 3.0]


def test_highest_and_lowest_of_one_metric_are_two_series(isolated: Path) -> None:
    callbacks = [ModelCheckpoint(mode, monitor="val_loss", mode=mode) for mode in ("min", "max")]
    watch, _ = fit(Worse([2.0, 3.0, 1.0]), callbacks)
    found = [(each.series, each.value) for each in watch.checkpoints]
    assert [value for series, value in found if series == "val_loss-min"] == [2.0, 1.0]
    assert [value for series, value in found if series == "val_loss-max"] == [2.0, 3.0]


class Moving(Callback):
    """Changes the working directory in mid-training."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        os.makedirs("elsewhere", exist_ok=True)
        os.chdir("elsewhere")


class Slashed(Worse):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/my loss", self.losses_to_log[self.current_epoch])


def test_unusual_names_are_kept_with_their_content(isolated: Path) -> None:
    """Folders and spaces in names, a counter, the same name again, and a relative path in a folder that is left."""
    callbacks = [
        Moving(),
        ModelCheckpoint("a", "best/{epoch}-{val/my loss:.1f}", monitor="val/my loss", save_top_k=1),
        ModelCheckpoint("b", "same", save_top_k=2, monitor="epoch", mode="max"),
        ModelCheckpoint("c", "same", save_top_k=1, enable_version_counter=False, save_weights_only=True),
    ]
    watch, _ = fit(Slashed([3.0, 2.0, 1.0]), callbacks)
    finish()
    assert watch.info is not None
    entries = read_ledger(watch.info.folder)
    root = Path(watch.checkpoints[0].path).parents[3]
    assert [str(Path(each.path).relative_to(root)) for each in entries if each.series == "val/my loss"] == [
        f"a/best/epoch={epoch}-val/my loss={loss}.ckpt" for epoch, loss in enumerate(("3.0", "2.0", "1.0"))
    ]
    assert {Path(each.path).name for each in entries if "/b/" in each.path} == {"same.ckpt", "same-v1.ckpt"}
    assert {Path(each.path).name for each in entries if "/c/" in each.path} == {"same.ckpt"}
    assert [each.step for each in entries if not each.resumable] == [4, 8, 12]
    assert {each.state for each in entries} == {"hashed"}
    for entry in entries:
        staged = Staging(watch.info.folder).folder(entry.number) / entry.files[0].name
        assert torch.load(staged, weights_only=False)["global_step"] == entry.step


class Custom(Checkpoint):
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint(f"custom-{trainer.current_epoch}.ckpt")


class Early(Callback):
    """Saves from an ordinary callback, in the middle of an epoch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint("early.ckpt", weights_only=True)


def test_saves_of_other_callbacks_are_reported(isolated: Path) -> None:
    watch, _ = fit(Logging(), [Custom(), Early()], max_epochs=2)
    assert watch.names == watch.disk.saved == ["early.ckpt", "custom-0.ckpt", "custom-1.ckpt"]
    assert [(each.step, each.resumable, each.monitor, each.value, each.goal) for each in watch.checkpoints] == [
        *((2, False, "", None, ""), (4, True, "", None, ""), (8, True, "", None, ""))
    ]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", ["ModelCheckpoint", "OnExceptionCheckpoint"])
def test_checkpoint_of_a_crash_is_reported_before_the_run_is_closed(
    kind: str, background: bool, isolated: Path
) -> None:
    class Crashing(Logging):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.global_step == 2:
                raise RuntimeError("no more")
            return super().training_step(batch, batch_idx)

    callback: Any = OnExceptionCheckpoint("ckpt", "crash")
    if kind == "ModelCheckpoint":
        if "save_on_exception" not in inspect.signature(ModelCheckpoint).parameters:
            pytest.skip("this Lightning has no such setting")
        callback = ModelCheckpoint("ckpt", "crash", monitor="val_loss", save_on_exception=True)
    disk = Disk(slow_s=0.05)
    watch = Watch(disk)
    plugin = AsyncCheckpointIO(disk) if background else disk
    runner = trainer([TrackKit(sinks=[watch]), callback], enable_checkpointing=True, plugins=[plugin])
    with pytest.raises(RuntimeError, match="no more"):
        runner.fit(Crashing(), data(4))
    assert watch.names == disk.saved == ["crash.ckpt"]
    assert [(each.step, each.epoch, each.value) for each in watch.checkpoints] == [(2, 0.5, None)]
    assert watch.contents[0]["global_step"] == 2
    assert (watch.exit_code, watch.columns["final/status"]) == (1, "failed")
    assert watch.closed_at == len(disk.events)
    assert untouched(runner)


def test_background_writes_are_reported_when_they_are_written(isolated: Path) -> None:
    disk = Disk(slow_s=0.05)
    best = ModelCheckpoint("ckpt", monitor="val_loss", save_top_k=-1, save_last=True)
    watch, _ = fit(Worse([3.0, 2.0, 2.5]), [best], disk, AsyncCheckpointIO)
    assert watch.names == disk.saved
    assert watch.reported_at_once()
    assert len(watch.names) == 6
    assert [(each.step, each.value) for each in watch.checkpoints] == [
        *((4, 3.0), (4, 3.0), (8, 2.0), (8, 2.0), (12, 2.5), (12, 2.5))
    ]
    assert [each["global_step"] for each in watch.contents] == [4, 4, 8, 8, 12, 12]
    assert not [name for name in watch.threads if name == "MainThread"]


class FindsRate(LearningRateFinder):
    """Runs before the second epoch, in an open run."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        return

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.lr_find(trainer, pl_module)


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_of_finders_are_not_reported(isolated: Path) -> None:
    watch, _ = fit(Logging(), [FindsRate(num_training_steps=3), ModelCheckpoint("ckpt", "{epoch}")], max_epochs=2)
    assert len(watch.disk.saved) == 3
    assert watch.names == ["epoch=0.ckpt", "epoch=1.ckpt"]


def test_urls_are_reported_as_they_are(isolated: Path) -> None:
    sink = MemorySink()
    callbacks = [TrackKit(sinks=[sink]), ModelCheckpoint("memory://bucket/run", filename="{epoch}")]
    trainer(callbacks, enable_checkpointing=True).fit(Logging(), data(4))
    assert [each.path for each in sink.checkpoints] == ["memory://bucket/run/epoch=0.ckpt"]


def test_other_import_root_is_followed_too(isolated: Path) -> None:
    sink = MemorySink()
    best = pytorch_lightning.callbacks.ModelCheckpoint("ckpt", monitor="loss", save_last=True)

    class Module(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.layer(batch[0]).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 1}
    pytorch_lightning.Trainer(callbacks=[TrackKit(sinks=[sink]), best], **quiet).fit(Module(), data(4))
    assert [Path(each.path).name for each in sink.checkpoints] == ["epoch=0-step=4.ckpt", "last.ckpt"]
    assert [each.value for each in sink.checkpoints] == [pytest.approx(best.best_model_score.item())] * 2
