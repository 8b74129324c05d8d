"""Hugging Face: summary columns after a resumed training, and after an evaluation of an earlier one."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import EarlyStoppingCallback

from tests.support.huggingface_toys import Sequential, logged, make_trainer
from tests.support.local_log import local_run
from tests.support.toy import Points
from trackkit import TrackKit, finish
from trackkit.integrations.memory import MemorySink

VAL = Points(5, 12)


def _trainer(out: Path, **given: Any) -> Any:
    return make_trainer(
        out,
        [TrackKit()],
        **{"num_train_epochs": 2, "logging_steps": 1, "save_strategy": "steps", "save_steps": 4, **given},
    )


def test_mean_loss_of_a_resumed_training_covers_all_its_steps(tmp_path: Path) -> None:
    """Resumed at step 4, and once more at the end, where no step is left and nothing changes."""
    whole = _trainer(tmp_path / "whole")
    whole.train()
    finish()
    losses = [value for _, value in logged(whole, "loss")]
    expected = pytest.approx(sum(losses) / 12, rel=1e-6)
    assert local_run(tmp_path / "whole").summary["final/train/loss"] == expected
    last = tmp_path / "whole" / "checkpoint-12"
    for checkpoint in (tmp_path / "whole" / "checkpoint-4", last):
        _trainer(tmp_path / "whole").train(resume_from_checkpoint=str(checkpoint))
        finish()
        run = local_run(tmp_path / "whole")
        assert run.summary["final/train/loss"] == expected
        assert (run.summary["final/samples"], run.summary["final/steps"]) == (48, 12)
    assert sum(losses[4:]) / 8 != expected, "the part after the checkpoint must differ, or the test shows nothing"


class Older(Sequential):
    """Divides the losses of this call by the steps of all calls, as transformers did up to 5.17."""

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        super().log({**logs, "train_loss": 0.1} if "train_loss" in logs else logs, start_time)


@pytest.mark.parametrize("every", [1, 3])
def test_mean_loss_of_a_resumed_training_is_that_of_the_logged_losses(tmp_path: Path, every: int) -> None:
    """Whatever the framework's own mean is; each logged loss counts for the steps since the log before."""
    _trainer(tmp_path, logging_steps=every, save_steps=6).train()
    finish()
    trainer = _trainer(tmp_path, logging_steps=every, save_steps=6, kind=Older)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    finish()
    losses = logged(trainer, "loss")
    since = [0, *(step for step, _ in losses)]
    mean = sum(loss * (step - before) for (step, loss), before in zip(losses, since, strict=False)) / 12
    assert losses[-1][0] == 12
    assert local_run(tmp_path).summary["final/train/loss"] == pytest.approx(mean, rel=1e-6)


def _state(checkpoint: Path) -> Any:
    return json.loads((checkpoint / "trainer_state.json").read_text())


@pytest.mark.parametrize("given", [{"samples": 22}, {"logging_steps": 5, "samples": 22}, {"save_steps": 3}], ids=str)
def test_checkpoints_of_a_resumed_training_equal_those_of_an_uninterrupted_one(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    """The trainer's state has no time and no path of TrackKit's; a third training differs by its run id only."""
    whole = _trainer(tmp_path / "whole", **given)
    whole.train()
    finish()
    steps = [step for step in range(3, 13) if (tmp_path / "whole" / f"checkpoint-{step}").is_dir()]
    before = {step: _state(tmp_path / "whole" / f"checkpoint-{step}")["stateful_callbacks"] for step in steps}
    for step in steps:
        _trainer(tmp_path / "whole", **given).train(resume_from_checkpoint=str(tmp_path / f"whole/checkpoint-{step}"))
        finish()
        for later in steps:
            assert _state(tmp_path / "whole" / f"checkpoint-{later}")["stateful_callbacks"] == before[later], later
    _trainer(tmp_path / "other", **given).train()
    finish()
    ids = [local_run(tmp_path / name).run["run_id"] for name in ("whole", "other")]
    other = json.dumps(_state(tmp_path / "other" / f"checkpoint-{steps[-1]}")["stateful_callbacks"])
    assert json.loads(other.replace(ids[1], ids[0])) == before[steps[-1]]
    assert str(tmp_path) not in other


def test_trainer_that_restores_callbacks_does_not_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With and without TrackKit in the resumed training; with it, its settings stay, and the run is resumed."""
    transformers_log = logging.getLogger("transformers")
    transformers_log.addHandler(caplog.handler)
    try:
        _trainer(tmp_path, num_train_epochs=1).train()
        kit = TrackKit(sinks=[sink := MemorySink()])
        for kits in ([], [kit]):
            trainer = make_trainer(tmp_path, kits, num_train_epochs=2, restore_callback_states_from_checkpoint=True)
            trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    finally:
        transformers_log.removeHandler(caplog.handler)
    finish()
    assert not [line for line in caplog.messages if "callbacks not included" in line]
    assert kit in trainer.callback_handler.callbacks
    assert sink.rows[0].step == 5
    assert local_run(tmp_path).run["passes"] == 2


def test_checkpoint_of_an_earlier_version_resumes_its_run(tmp_path: Path) -> None:
    """They have an entry of TrackKit's own, with a root, a time and a sum of losses."""
    _trainer(tmp_path / "a").train()
    finish()
    file = tmp_path / "a" / "checkpoint-4" / "trainer_state.json"
    state = _state(file.parent)
    fields = state["stateful_callbacks"]["TrainerControl"]["attributes"].pop("trackkit")
    fields["progress"].update(loss=1.0, loss_steps=4)
    old = {**fields, "root": str(tmp_path / "a"), "saved": 1.7e9}
    state["stateful_callbacks"]["trackkit"] = {"args": {}, "attributes": old}
    file.write_text(json.dumps(state))
    trainer = _trainer(tmp_path / "b")
    trainer.train(resume_from_checkpoint=str(file.parent))
    finish()
    run = local_run(tmp_path / "a")
    assert (run.run["passes"], run.summary["final/samples"]) == (2, 48)
    assert "trackkit" not in _state(tmp_path / "b" / "checkpoint-8")["stateful_callbacks"]


def test_moved_checkpoint_resumes_its_run(tmp_path: Path) -> None:
    """The resumed training has another output folder: the run is found in the user's list of runs."""
    _trainer(tmp_path / "a").train()
    finish()
    shutil.copytree(tmp_path / "a" / "checkpoint-4", tmp_path / "moved")
    _trainer(tmp_path / "b").train(resume_from_checkpoint=str(tmp_path / "moved"))
    finish()
    assert local_run(tmp_path / "a").run["passes"] == 2


def test_later_evaluation_keeps_the_fit_s_status(tmp_path: Path) -> None:
    """The training stops early; another training closes its run; an evaluation opens it again."""
    first = make_trainer(
        tmp_path / "a", [TrackKit(), EarlyStoppingCallback(1)], val=VAL, learning_rate=1e-9, num_train_epochs=9,
        eval_strategy="epoch", metric_for_best_model="loss", greater_is_better=True,
    )  # fmt: skip
    first.train()
    make_trainer(tmp_path / "b", [TrackKit()]).train()
    stopped = local_run(tmp_path / "a")
    assert (stopped.run["status"], stopped.summary["final/status"]) == ("stopped", "stopped")
    first.evaluate()
    first.predict(VAL)
    finish()
    run = local_run(tmp_path / "a")
    assert (run.run["status"], run.summary["final/status"], run.run["exit_code"]) == ("stopped", "stopped", 0)
    assert run.run["passes"] == 2
    assert "final/test/loss" in run.summary
    assert run.summary["final/steps"] == stopped.summary["final/steps"]


def test_evaluation_after_a_failure_keeps_the_run_failed(tmp_path: Path) -> None:
    """Status and exit code stay, in a run that is opened again."""
    trainer = make_trainer(tmp_path / "a", [TrackKit()], val=VAL)
    step, calls = trainer.training_step, []

    def breaks(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise ValueError("broken data")
        return step(*args, **kwargs)

    trainer.training_step = breaks  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="broken data"):
        trainer.train()
    finish()
    trainer.evaluate()
    finish()
    run = local_run(tmp_path / "a")
    assert (run.run["status"], run.run["exit_code"]) == ("failed", 1)
    assert [step for step, _ in run.history("epoch/val/loss")] == [3]
