"""Hugging Face: summary columns after a resumed training, and after an evaluation of an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import EarlyStoppingCallback

from tests.support.huggingface_toys import logged, make_trainer
from tests.support.local_log import local_run
from tests.support.toy import Points
from trackkit import TrackKit, finish

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
