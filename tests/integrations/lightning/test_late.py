"""Values that a module logs in its own `on_train_batch_end`, which runs after that of every callback."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.support.lightning_toys import Silent, batch_rows, data, record


class Late(Silent):
    """Logs the step's number: at every step, or at `only`."""

    def __init__(self, only: int = 0) -> None:
        super().__init__()
        self.only = only

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.only in (0, self.global_step):
            self.log("late", float(self.global_step))


@pytest.mark.parametrize("every", [1, 3])
def test_late_value_at_a_checkpoint_is_in_the_row_of_its_step(isolated: Any, every: int) -> None:
    saves = ModelCheckpoint(dirpath="saved", every_n_train_steps=every, save_top_k=-1)
    arguments: dict[str, Any] = {"log_every_n_steps": 3, "max_epochs": 2, "enable_checkpointing": True}
    sink = record(Late(), data(6), callbacks=[saves], **arguments)
    assert [(row["batch/step"], row["batch/late"]) for row in batch_rows(sink)] == [
        (step, step) for step in (1, 3, 6, 9, 12)
    ]


def test_late_value_of_a_single_step_makes_no_second_row(isolated: Any) -> None:
    saves = ModelCheckpoint(dirpath="saved", every_n_train_steps=3, save_top_k=-1)
    sink = record(Late(only=6), data(6), callbacks=[saves], log_every_n_steps=3, enable_checkpointing=True)
    assert [row["batch/step"] for row in batch_rows(sink)] == [1, 3, 6]
    assert [row.get("batch/late") for row in batch_rows(sink)] == [None, None, 6.0]
    assert all("batch/loss" in row for row in batch_rows(sink))
