"""Hugging Face and W&B: a run alone, beside WandbCallback, and in a run that the user opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import wandb
from transformers import Trainer, TrainingArguments
from transformers.integrations import WandbCallback, rewrite_logs

import trackkit
from tests.support.huggingface_toys import Sequential, logged, make_trainer, mean_accuracy
from tests.support.local_log import LocalRun, local_run
from tests.support.toy import Points
from tests.support.wandb_offline import OfflineRun, find_runs, read_finished
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

VAL = Points(5, 12)


def _same_rows(local: LocalRun, online: OfflineRun) -> bool:
    """Returns whether the W&B run has every value of the local log."""
    keys = {key for row in local.rows for key in row if not key.startswith("_")}
    return all(sorted(local.history(key)) == sorted(online.history(key)) for key in keys)


def _trained(out: Path, callbacks: list[Any], **given: Any) -> Trainer:
    trainer = make_trainer(
        out, callbacks, val=VAL, metrics=mean_accuracy, eval_strategy="epoch", num_train_epochs=2, **given
    )
    trainer.train()
    return trainer


def test_user_s_trackkit_records_instead_of_the_reported_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = _trained(tmp_path, [TrackKit(name="mine", sinks=[sink := MemorySink()])], report_to="trackkit")
    trainer.evaluate(VAL)
    trackkit.finish()
    assert [line for line in caplog.messages if "several TrackKits" in line] == [
        "This trainer has several TrackKits, from 'report_to' or 'callbacks'. "
        "Only the last one records; remove the others."
    ]
    assert local_run(tmp_path).run["name"] == "mine"
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert find_runs(tmp_path) == []


def test_run_has_rows_axes_config_and_summary(tmp_path: Path) -> None:
    """The run is named by `run_name`."""
    trainer = _trained(tmp_path, [], report_to="trackkit", run_name="first-try")
    assert trackkit.run is not None
    assert trackkit.run is wandb.run
    trackkit.finish()
    online, local = read_finished(tmp_path), local_run(tmp_path)
    assert online.name == local.run["name"] == "first-try"
    assert online.history("batch/loss") == logged(trainer, "loss")
    assert online.history("epoch/val/acc") == logged(trainer, "eval_acc")
    assert _same_rows(local, online)
    assert online.axes["batch/loss"] == "batch/step"
    assert online.axes["epoch/val/acc"] == "epoch/step"
    assert online.summary["epoch/val/acc"] == online.summary["final/val/acc"]
    assert not any(key.startswith("batch/") for key in online.summary)
    assert (online.summary["final/status"], online.exit_code) == ("finished", 0)
    assert online.config["trainer/num_train_epochs"] == 2
    assert online.config["data/batch_size_global"] == 4
    assert online.config["optim/class"] == "SGD"
    assert online.config["optim/lr"] == 0.2
    assert [row["_step"] for row in online.rows] == sorted(row["_step"] for row in online.rows)


@pytest.mark.parametrize("how", ["report_to", "reversed", "callbacks", "callbacks_reversed"])
def test_wandb_callback_and_trackkit_share_a_run_without_losing_rows(tmp_path: Path, how: str) -> None:
    """The run has everything that both log, whichever comes first."""
    given: dict[str, Any] = {}
    callbacks: list[Any] = [TrackKit(), WandbCallback]
    if how.startswith("report_to") or how == "reversed":
        callbacks, given = [], {"report_to": ["trackkit", "wandb"][:: -1 if how == "reversed" else 1]}
    trainer = _trained(tmp_path, callbacks[:: -1 if how == "callbacks_reversed" else 1], **given)
    assert wandb.run is not None
    folder = Path(wandb.run.dir).parent
    trackkit.finish()
    wandb.finish()
    online, local = read_finished(next(folder.glob("run-*.wandb"))), local_run(tmp_path)
    assert _same_rows(local, online)
    assert len(local.history("batch/loss")) == 7
    theirs = [{**entry} for entry in trainer.state.log_history if "train_runtime" not in entry]
    for entry in theirs:
        step = entry.pop("step")
        wanted = {**rewrite_logs(entry), "train/global_step": step}
        assert any(wanted.items() <= row.items() for row in online.rows), wanted
    assert len([row for row in online.rows if "train/loss" in row]) == len(logged(trainer, "loss"))
    assert online.axes["batch/loss"] == "batch/step"
    assert online.summary["final/status"] == "finished"


def test_run_opened_by_the_user_is_used_and_left_open(tmp_path: Path) -> None:
    """The run keeps the user's name, config and rows; the user finishes it."""
    run = wandb.init(project="mine", name="my-run", dir=str(tmp_path), config={"own": 1})
    run.log({"before": 1.0})
    _trained(tmp_path, [TrackKit()])
    trackkit.finish()
    assert wandb.run is run
    run.log({"after": 2.0})
    run.finish()
    online, local = read_finished(tmp_path), local_run(tmp_path)
    assert (online.name, online.project, online.config["own"]) == ("my-run", "mine", 1)
    assert _same_rows(local, online)
    assert any(row.get("before") == 1.0 for row in online.rows)
    assert any(row.get("after") == 2.0 for row in online.rows)
    assert online.summary["final/status"] == "finished"


@dataclass
class SecretArguments(TrainingArguments):
    """Arguments like TRL's, with a token that `to_dict` does not mask."""

    model_init_kwargs: dict[str, Any] | None = None
    api_key: str | None = None


def test_secrets_in_arguments_reach_no_file(tmp_path: Path) -> None:
    """Tokens at the top level of the arguments and nested ones."""
    secrets = ["hf_" + "a1B2c3D4e5" * 3, "hf_" + "Z9y8X7w6V5" * 3, "not-so-secret-looking"]
    args = SecretArguments(
        str(tmp_path), hub_token=secrets[0], model_init_kwargs={"token": secrets[1], "dtype": "float32"},
        api_key=secrets[2], report_to="trackkit", use_cpu=True, disable_tqdm=True, max_steps=2, save_strategy="no",
    )  # fmt: skip
    example = make_trainer(tmp_path, [])
    Sequential(example.model, args, train_dataset=example.train_dataset).train()
    trackkit.finish()
    config = local_run(tmp_path).config
    assert config["trainer/max_steps"] == 2
    assert config["trainer/model_init_kwargs"]["dtype"] == "float32"
    assert "trainer/hub_token" in config
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert set(find_runs(tmp_path)) <= set(files)
    for path in files:
        data = path.read_bytes()
        assert not any(secret.encode() in data for secret in secrets), path
