"""What a checkpoint must contain for a training to resume its run, with and without the callbacks' states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.support.huggingface_toys import make_trainer
from tests.support.lightning_toys import Logging, data, trainer
from tests.support.local_log import local_run, local_runs
from tests.support.resuming import steps
from trackkit import TrackKit, finish

LAST = 12
NEW_RUN = "the checkpoint names no run: recording a new run. To resume a run, set 'resume' to its id."


def lightning(checkpoint: Path | None = None, epochs: int = 1, settings: Any = None, **arguments: Any) -> Path:
    """Trains `epochs` of six steps with Lightning; returns the last checkpoint."""
    saving = ModelCheckpoint("saved", "last", save_weights_only=arguments.pop("save_weights_only", False))
    kit = [TrackKit(project="p", sinks=[], **(settings or {})), saving]
    fit = trainer(kit, max_epochs=epochs, log_every_n_steps=1, default_root_dir="out", enable_checkpointing=True)
    try:
        fit.fit(Logging(), data(6), ckpt_path=checkpoint, **arguments)
    finally:
        finish()
    return Path(saving.best_model_path)


def huggingface(checkpoint: Path | None = None, epochs: int = 1, settings: Any = None, **arguments: Any) -> Path:
    """Trains `epochs` of six steps with Hugging Face; returns the last checkpoint."""
    kit = TrackKit(project="p", sinks=[], **(settings or {}))
    given = {"save_strategy": "epoch", "logging_steps": 1, "num_train_epochs": epochs, **arguments}
    fit = make_trainer("out", [kit], **given)
    fit.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finish()
    return Path(f"out/checkpoint-{fit.state.global_step}")


def nameless(checkpoint: Path) -> Path:
    """Removes the fields about the run from a checkpoint."""
    if checkpoint.is_dir():
        state = json.loads((checkpoint / "trainer_state.json").read_text())
        del state["stateful_callbacks"]["TrainerControl"]["attributes"]["trackkit"]
        (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    else:
        state = torch.load(checkpoint, weights_only=False)
        del state["callbacks"]
        torch.save(state, checkpoint)
    return checkpoint


TRAININGS = pytest.mark.parametrize("training", [lightning, huggingface])


@pytest.mark.parametrize("arguments", [{"weights_only": True}, {"weights_only": False}], ids=str)
def test_lightning_loads_the_checkpoint_with_weights_only(isolated: Path, arguments: dict[str, Any]) -> None:
    lightning(lightning(), epochs=2, **arguments)
    run = local_run(isolated)
    assert (steps(run, 1), steps(run, 2)) == (list(range(1, 7)), list(range(7, LAST + 1)))


def older(checkpoint: Path) -> Path:
    """Moves the fields about the run to where earlier TrackKits wrote them."""
    state = torch.load(checkpoint, weights_only=False)
    state["trackkit"] = state["callbacks"].pop("TrackKit")
    torch.save(state, checkpoint)
    return checkpoint


@pytest.mark.parametrize("stripped", [False, True])
def test_run_is_resumed_from_the_checkpoint_of_an_earlier_trackkit(isolated: Path, stripped: bool) -> None:
    checkpoint = older(lightning())
    if stripped:
        state = torch.load(checkpoint, weights_only=False)
        del state["callbacks"]
        torch.save(state, checkpoint)
    lightning(checkpoint, epochs=2)
    run = local_run(isolated)
    assert (steps(run, 1), steps(run, 2)) == (list(range(1, 7)), list(range(7, LAST + 1)))


@pytest.mark.parametrize("restored", [True, False])
def test_run_is_resumed_whether_hugging_face_restores_callbacks(isolated: Path, restored: bool) -> None:
    checkpoint = huggingface()
    huggingface(checkpoint, epochs=2, restore_callback_states_from_checkpoint=restored)
    run = local_run(isolated)
    assert (steps(run, 1), steps(run, 2)) == (list(range(1, 7)), list(range(7, LAST + 1)))


def test_lightning_refuses_a_checkpoint_of_weights_only(isolated: Path) -> None:
    """No training starts, and so no run."""
    checkpoint = lightning(save_weights_only=True)
    with pytest.raises(KeyError, match="save_weights_only"):
        lightning(checkpoint, epochs=2)
    assert steps(local_run(isolated), 1) == list(range(1, 7))


@TRAININGS
def test_checkpoint_without_a_run_starts_a_new_run_and_says_how_to_resume(
    isolated: Path, training: Any, caplog: pytest.LogCaptureFixture
) -> None:
    training(nameless(training()), epochs=2)
    old, new = local_runs(isolated)
    assert NEW_RUN in caplog.messages
    assert (steps(old, 1), steps(new, 1)) == (list(range(1, 7)), list(range(7, LAST + 1)))


@TRAININGS
def test_checkpoint_without_a_run_resumes_the_run_that_is_named(
    isolated: Path, training: Any, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = nameless(training())
    training(checkpoint, epochs=2, settings={"resume": local_run(isolated).run["run_id"]})
    run = local_run(isolated)
    assert NEW_RUN not in caplog.messages
    assert (steps(run, 1), steps(run, 2)) == (list(range(1, 7)), list(range(7, LAST + 1)))
    assert run.summary["final/steps"] == LAST


def test_second_fit_of_a_trainer_starts_a_new_run_without_a_warning(
    isolated: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit = trainer(TrackKit(project="p", sinks=[]), default_root_dir="out", log_every_n_steps=1)
    module = Logging()
    fit.fit(module, data(3))
    fit.fit_loop.max_epochs = 2
    fit.fit(module, data(3))
    finish()
    first, second = local_runs(isolated)
    assert (steps(first, 1), steps(second, 1)) == ([1, 2, 3], [4, 5, 6])
    assert NEW_RUN not in caplog.messages
