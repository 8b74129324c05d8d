"""WANDB_RESUME, alone and with WANDB_RUN_ID."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.doomed import Task
from tests.support.local_log import local_run, local_runs
from tests.support.resuming import FRAMEWORKS, break_off, online, train
from tests.support.warm import Program
from tests.wandb_server import WandbServer
from trackkit import ConfigError


@FRAMEWORKS
def test_never_starts_a_new_run_from_a_checkpoint(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = break_off(framework)
    monkeypatch.setenv("WANDB_RESUME", "never")
    train(framework, resume=checkpoint)
    assert ["passes" in run.run for run in local_runs(Path.cwd())] == [False, False]


@FRAMEWORKS
def test_must_resumes_the_run_of_the_checkpoint(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = break_off(framework)
    monkeypatch.setenv("WANDB_RESUME", "must")
    train(framework, resume=checkpoint)
    assert local_run(Path.cwd()).run["passes"] == 2


@FRAMEWORKS
def test_must_without_a_run_is_an_error(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RESUME", "must")
    with pytest.raises(ConfigError, match="neither a checkpoint nor WANDB_RUN_ID names a run to resume"):
        train(framework, steps=2)
    assert not Path("truth").exists()
    assert local_runs(Path.cwd()) == []


@FRAMEWORKS
def test_never_with_the_id_of_an_existing_run_is_an_error(tmp_path: Path, framework: str) -> None:
    assert Program(tmp_path, Task(framework, steps=2), {"WANDB_RUN_ID": "mine"}).wait() == 0
    program = Program(tmp_path, Task(framework, steps=2), {"WANDB_RUN_ID": "mine", "WANDB_RESUME": "never"})
    assert program.wait() == 1
    assert "WANDB_RUN_ID names 'mine', which exists already" in program.stderr
    assert "passes" not in local_run(tmp_path).run


@pytest.mark.parametrize(("word", "there"), [("must", False), ("never", True), ("must", True)])
def test_server_is_asked_about_an_id_without_a_folder(
    wandb_server: WandbServer, tmp_path: Path, word: str, there: bool
) -> None:
    """Its refusal is an error, not a reason to record offline."""
    env = {**online(wandb_server, tmp_path), "WANDB_RUN_ID": "mine"}
    if there:
        first = Program(tmp_path / "first", Task("huggingface", {"mode": "online"}, steps=5), env)
        assert first.wait() == 0, first.stderr
    env["WANDB_RESUME"] = word
    program = Program(tmp_path / "second", Task("huggingface", {"mode": "online"}, steps=10), env)
    good = word == "must" and there
    assert (program.wait() == 0) == good, program.stderr
    if good:
        run = wandb_server.state.run("mine")
        assert [row["batch/step"] for row in run.history if "batch/loss" in row] == list(range(1, 11))
        assert "W&B already has this run up to step 5" in program.stderr
    else:
        assert f"Cannot satisfy 'resume: {word}' (WANDB_RESUME={word}) for run 'mine'" in program.stderr
        assert program.steps == 0


def test_must_offline_with_an_id_without_a_folder_is_an_error(tmp_path: Path) -> None:
    env = {"WANDB_RUN_ID": "mine", "WANDB_RESUME": "must"}
    program = Program(tmp_path, Task("huggingface", {"mode": "offline"}, steps=10), env)
    assert program.wait() == 1
    assert "Cannot satisfy 'resume: must' (WANDB_RESUME=must) for run 'mine': '" in program.stderr
