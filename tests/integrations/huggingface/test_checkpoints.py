"""Hugging Face: every checkpoint that the trainer saves is reported once it is written, before older ones go."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.trainer
from transformers import TrainerCallback

from tests.support import pushing
from tests.support.huggingface_toys import logged, make_trainer
from tests.support.local_log import local_run, local_runs
from tests.support.pushing import Hub, Publishing
from tests.support.toy import Net, Points
from tests.support.warm import run_script
from tests.wandb_server import WandbServer
from trackkit import TrackKit, finish
from trackkit.checkpoints.aliases import wanted
from trackkit.checkpoints.ledger import read_ledger
from trackkit.checkpoints.staging import Staging
from trackkit.engine import records
from trackkit.integrations.huggingface import _compat
from trackkit.integrations.memory import MemorySink

VAL = Points(5, 12)


class Saving(Publishing):
    """Keeps the folders that it saves, with the files in them."""

    saved: list[tuple[str, set[str]]]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
        self.saved.append((str(folder.absolute()), set(os.listdir(folder))))


class Watch(MemorySink):
    """Keeps, for each report, the files of the checkpoint and the checkpoints beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[tuple[str, set[str]]] = []
        self.beside: list[set[str]] = []

    def checkpoint(self, checkpoint: records.Checkpoint) -> None:
        super().checkpoint(checkpoint)
        self.files.append((checkpoint.path, set(os.listdir(checkpoint.path))))
        self.beside.append({path.name for path in Path(checkpoint.path).parent.glob("checkpoint-*")})

    @property
    def steps(self) -> list[int]:
        return [each.step for each in self.checkpoints]


def prepare(out: Path, callbacks: Any = (), **given: Any) -> tuple[Watch, Saving]:
    watch = Watch()
    given = {"save_strategy": "steps", "save_steps": 2, "kind": Saving, "val": VAL, **given}
    trainer = make_trainer(out, [TrackKit(sinks=[watch]), *callbacks], **given)
    assert isinstance(trainer, Saving)
    trainer.saved = []
    return watch, trainer


@pytest.mark.parametrize("limit", [1, 2])
def test_rotated_checkpoints_are_reported_before_they_are_deleted(limit: int, tmp_path: Path) -> None:
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    # The rate is too high, so the loss rises again and the last checkpoint is not the best.
    watch, trainer = prepare(tmp_path, save_total_limit=limit, learning_rate=30.0, **best)
    trainer.train()
    assert watch.files == trainer.saved
    assert watch.steps == [2, 4, 6]
    assert [each.value for each in watch.checkpoints] == [value for _, value in logged(trainer, "eval_loss")]
    assert {(each.monitor, each.goal, each.framework, each.series) for each in watch.checkpoints} == {
        ("eval_loss", "min", "huggingface", "")
    }
    assert [each.epoch for each in watch.checkpoints] == [pytest.approx(step / 6) for step in (2, 4, 6)]
    assert all(each.resumable and each.complete and not each.shared for each in watch.checkpoints)
    assert "checkpoint-2" in watch.beside[1]
    assert len(list(tmp_path.glob("checkpoint-*"))) <= 2
    assert watch.columns["final/tracker_errors"] == 0


def test_checkpoint_that_its_own_rotation_deletes_is_reported(tmp_path: Path) -> None:
    """An earlier training with more steps has left a checkpoint with a higher number."""
    for step in (90, 91):
        (tmp_path / f"checkpoint-{step}").mkdir()
        # transformers asks for the time of change, or for the number if the times are close.
        os.utime(tmp_path / f"checkpoint-{step}", (time.time() + 3600,) * 2)
    watch = Watch()
    make_trainer(
        tmp_path, [TrackKit(sinks=[watch])], save_strategy="steps", save_steps=3, save_total_limit=1, samples=12
    ).train()
    assert watch.steps == [3]
    assert "trainer_state.json" in watch.files[0][1]
    assert not (tmp_path / "checkpoint-3").exists()
    finish()
    assert watch.info is not None
    assert [(each.step, each.state) for each in read_ledger(watch.info.folder)] == [(3, "hashed")]


class TrainerSaves(TrainerCallback):
    """Asks for a checkpoint at a step of its own."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = control.should_save or state.global_step == 3


def test_checkpoints_without_an_evaluation_have_no_value(tmp_path: Path) -> None:
    given = {"eval_strategy": "steps", "eval_steps": 4, "metric_for_best_model": "eval_acc", "save_only_model": True}
    save = TrainerSaves()
    watch, trainer = prepare(tmp_path, [save], greater_is_better=True, metrics=lambda _: {"acc": 0.5}, **given)
    trainer.train()
    assert watch.files == trainer.saved
    assert [(each.step, each.value, each.goal, each.resumable) for each in watch.checkpoints] == [
        *((2, None, "max", False), (3, None, "max", False), (4, 0.5, "max", False), (6, 0.5, "max", False))
    ]


def test_best_strategy_saves_are_the_best(tmp_path: Path) -> None:
    given = {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "loss"}
    watch, trainer = prepare(tmp_path, save_total_limit=1, load_best_model_at_end=True, **given)
    trainer.train()
    finish()
    assert watch.info is not None
    entries = read_ledger(watch.info.folder)
    assert [each.step for each in entries] == watch.steps
    assert watch.files == trainer.saved
    assert entries[-1].path == trainer.state.best_model_checkpoint
    assert {"best", "latest"} <= set(wanted(entries)[entries[-1].number])


def test_adapters_are_checkpoints_without_the_base_model(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not a development dependency")
    model = peft.get_peft_model(Net(), peft.LoraConfig(target_modules=["0"]))
    watch, trainer = prepare(tmp_path, model=model, label_names=["labels"])
    trainer.train()
    assert watch.files == trainer.saved
    for _, names in watch.files:
        assert {"adapter_config.json", "adapter_model.safetensors", "trainer_state.json"} <= names
        assert "model.safetensors" not in names
    assert watch.columns["final/tracker_errors"] == 0


def test_resumed_and_epoch_checkpoints_are_reported_once(tmp_path: Path) -> None:
    watch, trainer = prepare(tmp_path, save_strategy="epoch")
    trainer.train()
    trainer.save_state()
    trainer.save_model()
    again, trainer = prepare(tmp_path, save_strategy="epoch", num_train_epochs=3)
    trainer.train(resume_from_checkpoint=True)
    assert (watch.steps, again.steps) == ([6], [12, 18])
    assert {(each.monitor, each.value, each.goal) for each in again.checkpoints} == {("", None, "")}
    assert again.files == trainer.saved


def test_trials_of_a_search_report_into_their_own_runs(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    watch, trainer = prepare(tmp_path, eval_strategy="epoch", save_strategy="epoch")
    trainer.model_init = Net
    trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 0.1, 0.2)},
        n_trials=2,
        direction="minimize",
        backend="optuna",
    )
    assert [Path(each.path).relative_to(tmp_path).parts for each in watch.checkpoints] == [
        *(("run-0", "checkpoint-6"), ("run-1", "checkpoint-6"))
    ]
    assert watch.files == trainer.saved


def test_just_in_time_checkpoint_is_incomplete_until_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jit = pytest.importorskip("transformers.trainer_jit_checkpoint")

    class Preempted(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    # The signal is answered at once, rather than after three seconds.
    monkeypatch.setattr(jit.CheckpointManager, "_sigterm_handler", lambda self, *_: self._enable_checkpoint())
    before = signal.getsignal(signal.SIGTERM)
    watch, trainer = prepare(tmp_path, [Preempted()], enable_jit_checkpoint=True, save_steps=500)
    try:
        trainer.train()
    finally:
        signal.signal(signal.SIGTERM, before)
    step = watch.steps[0]
    assert [(each.step, each.complete) for each in watch.checkpoints] == [(step, False), (step, True)]
    assert {each.path for each in watch.checkpoints} == {str(tmp_path / f"checkpoint-{step}")}
    assert _compat._INCOMPLETE in watch.files[0][1]  # noqa: SLF001 -- transformers has no constant for it
    assert watch.files[0][1] - watch.files[1][1] == {_compat._INCOMPLETE}  # noqa: SLF001 -- the same


def test_pushes_to_the_hub_are_recorded_with_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr(transformers.trainer, "hf_api", lambda: hub)
    watch, trainer = prepare(tmp_path, push_to_hub=True, hub_strategy="checkpoint")
    trainer.train()
    assert len(hub.commits) == 6
    assert watch.columns["final/hub_url"] == hub.commits[-1]
    trainer.push_to_hub()
    assert watch.columns["final/hub_url"] == hub.commits[-1] == "https://huggingface.co/me/model/commit/7"
    trainer.push_to_hub(blocking=False)
    assert watch.columns["final/hub_url"] == "https://huggingface.co/me/model/commit/8"
    finish()
    trainer.push_to_hub()
    assert watch.columns["final/tracker_errors"] == 0


def test_commit_of_a_push_is_in_the_metadata_of_the_version(wandb_server: WandbServer, tmp_path: Path) -> None:
    """Pushed last is the best model, which the trainer loads at its end, and not the newest checkpoint."""
    done = run_script(Path(pushing.__file__), str(tmp_path / "out"), cwd=tmp_path, env=wandb_server.env(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    run = local_run(tmp_path)
    entries = read_ledger(run.folder)
    commit = "https://huggingface.co/me/model/commit/"
    assert run.summary["final/hub_url"] == f"{commit}4"
    assert [each.hub_url.removeprefix(commit) for each in entries] == ["1", "4", "3"]
    collection = next(iter(wandb_server.state.collections.values()))
    found = {version.metadata["step"]: version.metadata["hub_url"] for version in collection.live}
    assert found.items() <= {each.step: each.hub_url for each in entries}.items()
    assert {4, 6} <= set(found)


def test_second_training_into_the_same_folder_keeps_the_checkpoints_of_the_first(tmp_path: Path) -> None:
    """transformers writes `checkpoint-2/optimizer.pt` again in place, which must not change the first run's."""
    for rate in (0.1, 0.2):
        trainer = make_trainer(
            tmp_path, [TrackKit()], max_steps=2, save_strategy="steps", save_steps=2, learning_rate=rate
        )
        trainer.train()
        finish()
    rates = []
    for run in local_runs(tmp_path):
        (entry,), staging = read_ledger(run.folder), Staging(run.folder)
        assert (entry.state, staging.changed(entry)) == ("hashed", "")
        optimizer = torch.load(staging.folder(entry.number) / "optimizer.pt", weights_only=True)
        rates.append(optimizer["param_groups"][0]["initial_lr"])
    assert rates == [0.1, 0.2]
