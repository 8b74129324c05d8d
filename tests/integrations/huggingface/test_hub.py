"""Hugging Face: pushing to the Hub uploads the model and nothing of TrackKit's."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import transformers.trainer
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

from tests.support.huggingface_toys import Sequential, make_trainer
from tests.support.local_log import local_run
from trackkit import TrackKit, finish


class Hub:
    """A Hub client without a network: keeps the names of the files that it would upload."""

    def __init__(self) -> None:
        self.uploaded: set[str] = set()
        self.uploads = 0
        self.repo_id = "me/model"

    def create_repo(self, *_: Any, **__: Any) -> Hub:
        return self

    def upload_folder(self, *, folder_path: str, ignore_patterns: Any = None, **_: Any) -> Future[None]:
        files = [str(path.relative_to(folder_path)) for path in Path(folder_path).rglob("*") if path.is_file()]
        self.uploads += 1
        self.uploaded |= set(filter_repo_objects(files, ignore_patterns=ignore_patterns))
        done: Future[None] = Future()
        done.set_result(None)
        return done


class Publishing(Sequential):
    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Does nothing: the model card would be filled from the network."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(transformers.trainer, "hf_api", lambda: hub)
    return hub


def train(out: str = "out", checkpoint: str | None = None, settings: Any = None, **arguments: Any) -> Publishing:
    kit = TrackKit(project="p", **(settings or {}))
    given = {"save_strategy": "epoch", "push_to_hub": True, **arguments}
    trainer = make_trainer(out, [kit], kind=Publishing, **given)
    trainer.train(resume_from_checkpoint=checkpoint)
    finish()
    return trainer  # type: ignore[return-value]


def test_run_folders_are_not_uploaded_with_the_model(hub: Hub, isolated: Path) -> None:
    train().push_to_hub()
    assert hub.uploads >= 2
    assert "training_args.bin" in hub.uploaded
    assert not [name for name in hub.uploaded if "trackkit" in name or "wandb" in name]
    run = local_run(isolated)
    assert run.folder.parent == isolated / "out" / "_trackkit"
    assert (isolated / "out" / "_trackkit" / "wandb").is_dir()
    assert run.config["runtime/output_folder"] == "out"
    assert run.config["trackkit/folder"] == str(isolated / "out")


def test_evaluation_alone_is_recorded_in_the_same_folder(hub: Hub, isolated: Path) -> None:
    trainer = make_trainer("out", [TrackKit(sinks=[])], kind=Publishing, push_to_hub=True)
    trainer.evaluate(trainer.train_dataset)
    finish()
    assert local_run(isolated).folder.is_relative_to(isolated / "out" / "_trackkit")


@pytest.mark.parametrize("moved", [False, True])
def test_resumed_training_finds_its_run_in_the_folder(moved: bool, hub: Hub, isolated: Path) -> None:
    train()
    if moved:
        shutil.move("out", "elsewhere")
    out = "elsewhere" if moved else "out"
    train(out, f"{out}/checkpoint-6", num_train_epochs=2)
    run = local_run(isolated)
    assert run.folder.is_relative_to(isolated / out / "_trackkit")
    assert run.run["passes"] == 2
    assert [step for step, _ in run.history("batch/loss")][-1] == 12


def test_folder_given_by_the_user_is_used_as_it_is(hub: Hub, isolated: Path) -> None:
    train(settings={"dir": "records"})
    assert local_run(isolated).folder.parent == isolated / "records" / "_trackkit"


def test_output_folder_has_one_entry_without_push_to_hub_too(isolated: Path) -> None:
    train(push_to_hub=False)
    assert local_run(isolated).folder.parent == isolated / "out" / "_trackkit"
    assert not [path for path in (isolated / "out").iterdir() if path.name == "wandb"]
