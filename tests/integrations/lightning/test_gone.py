"""A Lightning that lacks a private name costs what depends on it and one warning, never a fault per batch."""

# ruff: noqa: SLF001 -- private names are hidden

from __future__ import annotations

import sys
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.trainer import Trainer

from tests.support.lightning_toys import Logging, data, trainer
from trackkit import TrackKit
from trackkit.integrations.lightning import _compat
from trackkit.integrations.memory import MemorySink

NAMES = sorted({each.name.rsplit(".", 1)[1] for each in _compat.PRIVATE if not each.name.startswith(("Fused", "Grad"))})


def hide(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides an attribute of Lightning's objects from TrackKit's code, and only from it."""
    probe = trainer()
    loop = probe.fit_loop.epoch_loop
    results = loop._results
    owners = [Trainer, type(loop), type(loop.val_loop), type(probe._logger_connector)]
    for owner in (*owners, type(probe._checkpoint_connector), type(results), *_metrics()):

        def read(self: Any, attribute: str, original: Any = owner.__getattribute__) -> Any:
            if attribute == name and "/trackkit/integrations/" in sys._getframe(1).f_code.co_filename:
                raise AttributeError(f"no attribute '{name}'", name=name, obj=self)
            return original(self, attribute)

        monkeypatch.setattr(owner, "__getattribute__", read)


def _metrics() -> tuple[type, ...]:
    from lightning.pytorch.callbacks import Timer
    from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultMetric

    return _ResultMetric, Timer, ModelCheckpoint


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_complete_but_for_what_depends_on_the_name(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink = MemorySink()
    hide(name, monkeypatch)
    monkeypatch.setattr(_compat, "_warned", set())
    arguments: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 4, "accumulate_grad_batches": 2}
    arguments |= {"enable_checkpointing": True, "max_time": "00:01:00:00"}
    best = ModelCheckpoint("ckpt", monitor="val_loss/dataloader_idx_0")
    sets = [data(2, seed=5), data(2, seed=6)]
    trainer([TrackKit(sinks=[sink]), best], **arguments).fit(TwoSets(), data(12), sets)
    messages = [record.getMessage() for record in caplog.records if record.name == "trackkit"]
    # Earlier versions have no validations by time: that is no reason to warn.
    assert len(messages) == (name not in ("_val_check_time_interval", "_last_val_time")), messages
    assert all(f"has no '{name}': " in message for message in messages)
    assert sink.columns["final/tracker_errors"] == 0
    assert [step for step, _ in sink.history("batch/loss")] == [1, 4, 8, 12]
    for key in ("batch/lr", "batch/grad_norm", "batch/samples"):
        assert [step for step, _ in sink.history(key)] == [1, 4, 8, 12], key
    assert [each.step for each in sink.checkpoints] == [6, 12]


class TwoSets(Logging):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx)
