"""TRL: all that it gives to W&B is recorded: its metrics, its completions, and how long its parts take."""

from __future__ import annotations

import copy
import gc
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from transformers import TrainerCallback

import trackkit
from tests.support.trl_side_by_side import compare, key_of
from tests.support.trl_toys import STEPS, make
from tests.support.wandb_offline import read_finished
from trackkit import TrackKit, read_run
from trackkit.engine.tables import Table
from trackkit.integrations.memory import MemorySink


class Witness(TrainerCallback):
    """Keeps what the user's code sees during the training, and logs to W&B itself."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wandb.log({"mine": state.global_step, "table": wandb.Table(["a"], [[1]])})
        wandb.log({"mine": state.global_step + 0.5})
        self.seen.append(
            (
                "wandb" in args.report_to,
                list(copy.deepcopy(args.report_to)),
                type(pickle.loads(pickle.dumps(args.report_to))),
            )
        )


class Breaking(TrainerCallback):
    """Ends the training by an exception."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise ZeroDivisionError


def test_sft_has_every_value_that_wandb_has(tmp_path: Path) -> None:
    """With evaluations; and without, where TRL logs the metrics of the fifth step at the training's end."""
    _, run = compare("SFT", tmp_path / "evaluated")
    assert [step for step, _ in run.series("epoch/val/mean_token_accuracy")] == [4, 5]
    _, run = compare("SFT", tmp_path / "not", eval_strategy="no")
    assert [step for step, _ in run.series("batch/mean_token_accuracy")] == [2, 4, 5]
    assert run.samples == []


def test_grpo_has_every_value_and_completion_that_wandb_has(tmp_path: Path) -> None:
    expected, run = compare("GRPO", tmp_path)
    assert [sample.key for sample in run.samples] == ["samples/completions"] * 4
    assert [(sample.step, sample.rows[0][1]) for sample in run.samples] == [
        (2, "train"),
        (4, "train"),
        (4, "val"),
        (STEPS, "val"),
    ]
    for sample, table in zip(run.samples, expected, strict=True):
        assert sample.columns == ["step", "split", "prompt", "completion", "distinct", "advantage"]
        assert [[*row[:1], *row[2:]] for row in sample.rows] == table["data"]
    online = read_finished(tmp_path / "out")
    assert [row["samples/completions"]["ncols"] for row in online.rows if "samples/completions" in row] == [6] * 4
    assert run.summary["final/tracker_errors"] == 0


def test_times_are_the_means_of_wandb_s_since_the_last_row(tmp_path: Path) -> None:
    """Beside WandbCallback, which keeps its own tables and times; the user's `wandb.log` works as without us."""
    witness = Witness()
    trainer = make(
        "GRPO", tmp_path / "out", [TrackKit(), witness], report_to=["wandb"], eval_strategy="no", logging_steps=1
    )
    trainer.train()
    assert trainer.args.report_to == ["wandb"]
    assert type(trainer.args.report_to) is list
    assert wandb.run is not None
    assert wandb.log == wandb.run.log
    trackkit.finish()
    files = Path(wandb.run.dir).parent
    wandb.finish()
    run, rows = read_run(tmp_path / "out"), read_finished(next(files.glob("run-*.wandb"))).rows
    name = "profiling/Time taken: GRPOTrainer.compute_loss"
    theirs = [row[name] for row in rows if name in row]
    assert len(theirs) == STEPS
    assert [value for _, value in run.series(key_of(name))] == pytest.approx(theirs)
    assert len([row for row in rows if "completions" in row]) == STEPS + 1
    assert [row["mine"] for row in rows if "mine" in row] == [step + half for step in range(1, 6) for half in (0, 0.5)]
    assert len([row for row in rows if "table" in row]) == STEPS
    assert len(run.samples) == STEPS


def test_trainer_s_arguments_are_restored_at_the_end_and_after_an_exception(tmp_path: Path) -> None:
    """During the training a copy is a plain list; a training that an exception has ended no longer counts as one."""
    witness = Witness()
    trainer = make("GRPO", tmp_path, [TrackKit(), witness], eval_strategy="no")
    trainer.train()
    assert witness.seen == [(True, [], list)] * STEPS
    assert (trainer.args.report_to, type(trainer.args.report_to)) == ([], list)
    broken = make("GRPO", tmp_path / "broken", [TrackKit(), Breaking()], eval_strategy="no", report_to="none")
    with pytest.raises(ZeroDivisionError):
        broken.train()
    assert "wandb" not in broken.args.report_to
    given = broken.args
    del broken
    gc.collect()
    assert "wandb" not in given.report_to
    assert list(given.report_to) == []
    assert not given.report_to
    assert json.loads(given.to_json_string())["report_to"] == []
    assert wandb.run is not None
    wandb.log({"completions": wandb.Table(["mine"], [[1]])})
    trackkit.finish()
    assert len(read_run(tmp_path / "broken").samples) == 1


def test_completions_are_read_from_trl_s_files_without_a_wandb_run(tmp_path: Path) -> None:
    """Those of the training too, which an evaluation at the same step writes over. No table has more rows than set."""
    sink = MemorySink()
    kit = TrackKit(sinks=[sink], callbacks={"samples": {"max_rows": 3}})
    trainer = make("GRPO", tmp_path, [kit])
    trainer.eval_dataset = {"small": trainer.eval_dataset}
    trainer.train()
    found = [(step, key, values) for step, each in sink.media for key, values in each.items()]
    assert [(step, key) for step, key, _ in found] == [(step, "samples/completions") for step in (2, 4, 4, 5)]
    splits = []
    for _, _, table in found:
        assert isinstance(table, Table)
        assert len(table.rows) == 3
        splits.append(table.rows[0][list(table.columns).index("split")])
    assert splits == ["train", "train", "val/small", "val/small"]
    assert not any(key.startswith("batch/profiling/") for row in sink.rows for key in row.values)


def test_samples_can_be_switched_off(tmp_path: Path) -> None:
    make("GRPO", tmp_path, [TrackKit(sinks=[sink := MemorySink()], callbacks={"samples": False})]).train()
    assert sink.media == []
    assert sink.columns["final/tracker_errors"] == 0


def test_growing_table_of_the_log_completions_callback_is_recorded_once(tmp_path: Path) -> None:
    """TRL's callback logs a pandas table of all steps so far, of the evaluation's prompts."""
    from transformers import GenerationConfig
    from trl import LogCompletionsCallback

    trainer = make("DPO", tmp_path, [TrackKit()], eval_strategy="no")
    trainer.add_callback(LogCompletionsCallback(trainer, GenerationConfig(max_new_tokens=2), num_prompts=2, freq=2))
    trainer.train()
    trackkit.finish()
    samples = read_run(tmp_path).samples
    assert [sample.step for sample in samples] == [2, 4]
    assert [[row[:2] for row in sample.rows] for sample in samples] == [[["2", "val"]] * 2, [["4", "val"]] * 2]


def test_weights_are_bit_identical_with_and_without(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [TrackKit()]):
        # Its constructor seeds the generators, which the completions are drawn with.
        trainer = make("GRPO", tmp_path, callbacks)
        trainer.train()
        weights.append(trainer.model.state_dict())  # type: ignore[union-attr]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
