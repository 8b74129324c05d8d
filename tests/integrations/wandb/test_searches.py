"""Hyperparameter searches and folds: each trial has a run, in its sweep or group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

import trackkit
from tests.support.local_log import local_runs
from tests.support.processes import ROOT
from tests.support.toy import BATCH, TRAININGS, Net, Points
from tests.support.wandb_offline import find_runs, read_finished
from tests.support.warm import run_script
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment
from trackkit import TrackKit

FRAMEWORKS = sorted(TRAININGS)
STEPS = [1, *range(4, 25, 4)]
BEGIN = """
import sys, threading
from pathlib import Path
import wandb
import trackkit
from trackkit import TrackKit
from tests.support.toy import TRAININGS, Recipe

def train(lr, *callbacks):
    TRAININGS[sys.argv[1]](Recipe(epochs=1, every=4, lr=lr), Path("out"), list(callbacks))
"""
SWEEP = """
from wandb.agents.pyagent import Agent
Agent.HEARTBEAT_SLEEP_SECONDS = 0.1

def trial():
    with wandb.init() as run:
        train(run.config["lr"], TrackKit())

config = {"method": "grid", "parameters": {"lr": {"values": [0.1, 0.3]}}}
sweep = wandb.sweep({**config, "metric": {"name": sys.argv[2], "goal": "minimize"}}, project="p")
wandb.agent(sweep, trial, count=2)
trackkit.finish()
print([each.name for each in threading.enumerate() if each.name.startswith("trackkit")])
"""
FOLDS = """
for fold in range(2):
    train(0.1, TrackKit(project="p", name=f"fold-{fold}", group=sys.argv[2] or None))
"""
GIVEN = """
import logging, os
logging.basicConfig(stream=sys.stdout)
os.environ["WANDB_RUN_ID"] = "first"
train(0.1, TrackKit(project="p"))
train(0.1, TrackKit(project="p"))
os.environ["WANDB_RUN_ID"] = "second"
kit = TrackKit(project="p")
train(0.1, kit)
os.environ["WANDB_RUN_ID"] = "third"
train(0.1, kit)
trackkit.finish()
"""
NESTED = """
from tests.support.searching import Searching
train(0.1, Searching(sys.argv[1], Path("out"), 2), TrackKit(project="p", name="outer"))
"""


def script(server: WandbServer, home: Path, code: str, *arguments: str, **env: str) -> str:
    more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TRACKKIT_INDEX": str(home / "index.jsonl"), **env}
    done = run_script(BEGIN + code, *arguments, cwd=home, env=environment(server, home, more))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("framework", "metric", "meant"),
    [
        ("lightning", "val_loss", "epoch/val/loss"),
        ("lightning", "epoch/val/acc", "epoch/val/acc"),
        ("huggingface", "eval/loss", "epoch/val/loss"),
        ("huggingface", "train/loss", "batch/loss"),
    ],
)
def test_sweep_agent_records_each_trial(
    wandb_server: WandbServer, tmp_path: Path, framework: str, metric: str, meant: str
) -> None:
    """W&B's agent trains in a thread and finishes each run itself."""
    output = script(wandb_server, tmp_path, SWEEP, framework, metric)
    assert output.splitlines()[-1] == "[]", output
    (sweep,) = wandb_server.state.sweeps
    runs = list(wandb_server.state.runs.values())
    assert [each.config["lr"] for each in runs] == [0.1, 0.3]
    for each, local in zip(runs, local_runs(tmp_path), strict=True):
        assert (each.sweep, each.state, local.run["run_id"]) == (sweep, "finished", each.id)
        assert [row["batch/step"] for row in each.history if "batch/loss" in row] == STEPS
        assert next(row["batch/lr"] for row in each.history if "batch/lr" in row) == each.config["lr"]
        assert (each.summary["final/steps"], each.summary["final/tracker_errors"]) == (24, 0)
        assert [step for step, _ in local.history("batch/loss")] == STEPS
        asked = [(row[metric], row[meant]) for row in each.history if metric in row or meant in row]
        assert asked
        assert all(one == other for one, other in asked)
        assert each.summary[metric] == asked[-1][0]
    assert wandb_server.state.unserved == []


def test_sweep_metric_that_is_never_logged_is_reported(wandb_server: WandbServer, tmp_path: Path) -> None:
    """Once per trial."""
    logged = "import logging; logging.basicConfig(stream=sys.stdout)"
    output = script(wandb_server, tmp_path, logged + SWEEP, "huggingface", "perplexity")
    assert output.count("compares its runs by 'perplexity', which was never logged") == 2, output


@pytest.mark.parametrize(
    ("framework", "code", "setting"),
    [
        ("lightning", FOLDS, "setting"),
        ("huggingface", FOLDS, ""),
        ("lightning", NESTED, ""),
        ("huggingface", NESTED, ""),
    ],
)
def test_folds_and_nested_trainings_join_their_group(
    wandb_server: WandbServer, tmp_path: Path, framework: str, code: str, setting: str
) -> None:
    """The group comes from the setting or from WANDB_RUN_GROUP."""
    env = {} if setting else {"WANDB_RUN_GROUP": "variable"}
    script(wandb_server, tmp_path, code, framework, setting, **env)
    runs = list(wandb_server.state.runs.values())
    assert len(runs) == (3 if code is NESTED else 2)
    assert {each.group for each in runs} == {setting or "variable"}
    assert {each.state for each in runs} == {"finished"}
    for local in local_runs(tmp_path):
        assert local.config["trackkit/settings/group"] == (setting or "variable")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_given_run_id_is_used_once(wandb_server: WandbServer, tmp_path: Path, framework: str) -> None:
    """A second training with the same WANDB_RUN_ID gets a new id; a sweep's agent sets one for each trial."""
    output = script(wandb_server, tmp_path, GIVEN, framework)
    runs = list(wandb_server.state.runs.values())
    ids = [each.id for each in runs]
    assert (ids[0], ids[2:]) == ("first", ["second", "third"])
    for each in runs:
        assert [row["batch/step"] for row in each.history if "batch/loss" in row] == STEPS
    line = f"WANDB_RUN_ID='first' was used by an earlier training of this process: recording run '{ids[1]}'"
    assert [output.count(line), output.count("was used by an earlier training")] == [1, 1], output


def test_hugging_face_search_records_each_trial(tmp_path: Path) -> None:
    """All trials share one Trainer and one TrackKit."""
    rates: list[float] = []

    def space(trial: Any) -> dict[str, Any]:
        rates.append(trial.suggest_float("learning_rate", 0.05, 0.5))
        return {"learning_rate": rates[-1]}

    trainer = transformers.Trainer(
        model_init=lambda trial: Net(),
        args=transformers.TrainingArguments(
            str(tmp_path),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            logging_steps=4,
            eval_strategy="epoch",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        ),
        train_dataset=Points(),
        eval_dataset=Points(5, 24),
        callbacks=[TrackKit(group="search")],
    )
    trainer.hyperparameter_search(space, n_trials=2, backend="optuna", direction="minimize")
    trackkit.finish()
    runs = local_runs(tmp_path)
    others = {each.run_id: each for each in map(read_finished, find_runs(tmp_path))}
    assert [each.config["hparams/learning_rate"] for each in runs] == rates
    assert len(others) == len(runs) == 2
    for rate, each in zip(rates, runs, strict=True):
        other = others[each.run["run_id"]]
        for history in (each.history("batch/lr"), other.history("batch/lr")):
            assert [step for step, _ in history] == STEPS
            assert history[0][1] == pytest.approx(rate)
        assert (each.run["status"], other.exit_code, other.config["hparams/learning_rate"]) == ("finished", 0, rate)
