"""Scripts that never import TrackKit are recorded under `trackkit run`: each training once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import trackkit
from tests.support.processes import HANG_S, clean_env
from trackkit.local_log.recorded import RecordedRun

pytestmark = pytest.mark.timeout(300)

HUGGINGFACE = """
import os, sys
from tests.support.toy import Net, Points
from transformers import Trainer, TrainingArguments
for name, report_to in (("plain", []), ("report", ["trackkit"])):
    arguments = TrainingArguments(
        name, report_to=report_to, logging_steps=3, max_steps=6, use_cpu=True, save_strategy="no", disable_tqdm=True
    )
    Trainer(Net(), arguments, train_dataset=Points()).train()
"""
LIGHTNING = """
from pathlib import Path
from tests.support.toy import Recipe, TRAININGS
def train(name, callbacks, **more):
    TRAININGS["lightning"](Recipe(epochs=1), Path(name), callbacks, **more)
train("plain", [])
# Strategies that spawn processes pickle the trainer.
import pickle
from lightning.pytorch import Trainer
(added,) = [each for each in Trainer(logger=False).callbacks if "TrackKit" in type(each).__name__]
assert type(pickle.loads(pickle.dumps(added))) is type(added)
import trackkit
train("explicit", [trackkit.TrackKit(name="explicit")])
"""
ACCELERATE = """
from accelerate import Accelerator
for name, log_with in (("trackkit", "trackkit"), ("wandb", "wandb"), ("both", ["wandb", "trackkit"])):
    accelerator = Accelerator(cpu=True, log_with=log_with)
    accelerator.init_trackers("script", config={"output_dir": name})
    accelerator.log({"train_loss": 1.0}, step=3)
    accelerator.end_training()
"""


def launch(home: Path, code: str, *command: str) -> dict[str, list[RecordedRun]]:
    """Runs a script under `trackkit run`; returns the runs in each output folder."""
    (home / "script.py").write_text(code)
    process = subprocess.run(
        [sys.executable, "-m", "trackkit", "run", *command, "script.py"],
        cwd=home,
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return {path.name: list(trackkit.runs(path)) for path in home.iterdir() if (path / "_trackkit").is_dir()}


def test_report_to_works_in_a_script_that_never_imports_us(tmp_path: Path) -> None:
    runs = launch(tmp_path, HUGGINGFACE, "--project", "mine", sys.executable)
    ((run,),) = runs.values()
    assert [*runs] == ["report"]
    assert (run.status, run.config["trackkit/settings/project"]) == ("finished", "mine")
    assert [step for step, _ in run.series("batch/loss")] == [3, 6]


def test_every_training_of_torchrun_is_recorded_once(tmp_path: Path) -> None:
    """Two processes; one of the two trainers asks for TrackKit itself."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    runs = launch(tmp_path, HUGGINGFACE, "--everywhere", *torchrun)
    assert {name: [run.status for run in found] for name, found in runs.items()} == {
        "plain": ["finished"],
        "report": ["finished"],
    }
    assert runs["plain"][0].config["runtime/world_size"] == 2


def test_every_lightning_trainer_is_recorded_once(tmp_path: Path) -> None:
    runs = launch(tmp_path, LIGHTNING, "--everywhere", sys.executable)
    assert {name: [run.status for run in found] for name, found in runs.items()} == {
        "plain": ["finished"],
        "explicit": ["finished"],
    }
    assert runs["explicit"][0].name == "explicit"


def test_scripts_of_accelerate_are_recorded_by_name_or_in_place_of_wandb(tmp_path: Path) -> None:
    """If a script asks for both, W&B's own tracker stays, and TrackKit joins its run."""
    runs = launch(tmp_path, ACCELERATE, "--project", "mine", "--everywhere", sys.executable)
    assert runs.keys() == {"trackkit", "wandb", "both"}
    assert len([*tmp_path.rglob("run-*.wandb")]) == 3
    for (run,) in runs.values():
        assert (run.status, run.config["trackkit/settings/project"]) == ("finished", "mine")
        assert run.series("batch/loss") == [(3, 1.0)]
